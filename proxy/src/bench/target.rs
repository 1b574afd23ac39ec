//! Somebody's URL, with the limits that are in force there: only the load is swept.

use http::Uri;

use super::carrier::{Carrier, Way};
use super::error::BenchError;
use super::grid::Limits;
use super::watch::Gauge;

/// What is measured instead of a pair of our own.
pub struct Target(Way);

impl Target {
    /// At `url`, with another Host header if one is given.
    #[must_use]
    pub fn new(url: Uri, host: Option<String>) -> Self {
        Self(Way { url, host })
    }
}

impl Carrier for Target {
    fn way(&self, _as_they_are: &Limits) -> Result<Way, BenchError> {
        Ok(self.0.clone())
    }

    fn gauge(&self, _as_they_are: &Limits) -> Option<Gauge> {
        None
    }

    fn processes(&self) -> Vec<i32> {
        Vec::new()
    }

    fn alive(&self) -> Result<(), BenchError> {
        Ok(())
    }
}
