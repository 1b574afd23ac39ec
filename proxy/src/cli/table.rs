//! Tables for people: no lines, no colours, so that they can be cut, searched and mailed.

use std::fmt;

use comfy_table::{ContentArrangement, presets};

use super::admin::plain;

/// A table whose cells hold nothing that a terminal would obey.
pub(super) struct Table(comfy_table::Table);

impl Table {
    /// Without rows.
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if !header.is_empty() {
            table.set_header(header);
        }
        Self(table)
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells.map(|cell| plain(&cell)));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.lines() {
            writeln!(f, "{}", line.trim())?;
        }
        Ok(())
    }
}

/// `3d 4h`: the two largest units.
pub(super) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (length, unit) in units {
        let count = left / length;
        left %= length;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// `3d 4h ago`.
pub(super) fn ago(seconds: u64) -> String {
    format!("{} ago", span(seconds))
}

/// `in 3d 4h`, or `3d 4h ago` when it is over.
pub(super) fn when(seconds: i64) -> String {
    if seconds < 0 { ago(seconds.unsigned_abs()) } else { format!("in {}", span(seconds.unsigned_abs())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3661, "1h 1m"),
            (3605, "1h"),
            (86_400, "1d"),
            (90_061, "1d 1h"),
            (u64::MAX, "213503982334601d 7h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!((when(-61).as_str(), when(61).as_str()), ("1m 1s ago", "in 1m 1s"));
    }

    #[test]
    fn a_cell_cannot_move_the_cursor_or_start_a_line() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["one\n\u{1b}[2J".into(), "two".into()]);
        assert_eq!(table.to_string().lines().count(), 2);
        assert!(!table.to_string().contains('\u{1b}'));
    }
}
