//! What a sweep found, for people and for programs: a table for the terminal, CSV with one row per point, and one
//! HTML page that needs nothing but itself. JSON is the [`Sweep`](super::result::Sweep) as it is.
//!
//! Nothing here measures or decides: [`super::recommend`] does, and the page shows it.

mod csv;
mod figures;
mod groups;
mod heat;
mod html;
mod numbers;
mod occupancy;
mod plots;
mod scale;
mod sections;
mod strokes;
mod style;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

pub use self::csv::write_csv;
pub use html::html;
pub use summary::summary;
pub use table::table;
