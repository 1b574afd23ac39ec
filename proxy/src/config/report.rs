//! Where a fault lies, and the one report that lists them all. Knows nothing of what is being read.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Faults printed in full; what lies beyond is counted, so that a hostile file cannot flood the log.
const MAX_FAULTS: usize = 500;
/// Characters of a value or key that a message quotes.
const MAX_QUOTED: usize = 60;

/// A position in a file: what a fault points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    file: Arc<str>,
    line: usize,
    column: usize,
    path: String,
}

impl Place {
    /// A whole file or directory.
    pub(super) fn of_file(file: &Path) -> Self {
        Self { file: file_name(file), line: 0, column: 0, path: String::new() }
    }

    pub(super) fn new(file: &Arc<str>, line: usize, column: usize, path: &str) -> Self {
        Self { file: Arc::clone(file), line, column, path: path.to_owned() }
    }

    /// The file as it was named, control characters escaped.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Line, from 1; 0 when the place is the whole file.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Column in characters, from 1; 0 when the place is the whole file.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// The YAML path, `spec.mtls.mode`; empty at the top of a document.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `file:line`, for messages that point at a second place.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        Ok(())
    }
}

/// The name of a file as messages show it.
pub(super) fn file_name(file: &Path) -> Arc<str> {
    file.to_string_lossy().chars().flat_map(escaped).collect::<String>().into()
}

/// Text from a file, safe to print: quoted, control characters escaped, bounded.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(MAX_QUOTED).flat_map(escaped).collect();
    let more = if text.chars().nth(MAX_QUOTED).is_some() { "..." } else { "" };
    format!("\"{shown}{more}\"")
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    // Whatever `Debug` would escape (control, bidirectional and zero-width characters), but not quotes.
    let plain = matches!(c, '"' | '\'' | '\\');
    let debug = c.escape_debug();
    std::iter::once(c).filter(move |_| plain).chain(debug.filter(move |_| !plain))
}

/// One fault: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    place: Place,
    message: String,
}

impl Fault {
    /// Where it lies.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong, and what to write instead.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Collects faults while reading goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    beyond: usize,
}

impl Faults {
    pub(super) fn add(&mut self, place: Place, message: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { place, message: message.into() });
        } else {
            self.beyond += 1;
        }
    }

    /// Whether there was one so far.
    pub(super) fn any(&self) -> bool {
        !self.faults.is_empty()
    }

    /// `value` if there was no fault, otherwise the report.
    pub(super) fn or_report<T>(self, value: Option<T>) -> Result<T, Report> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => {
                let Self { mut faults, beyond } = self;
                faults.sort();
                faults.dedup();
                Err(Report { faults, beyond })
            }
        }
    }
}

/// Every fault of one load, sorted by file and line. `Display` prints one a line, then their number.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Report {
    faults: Vec<Fault>,
    beyond: usize,
}

impl Report {
    /// The faults, sorted by file, line and column.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// One report of both, each fault once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.faults.extend(other.faults);
        self.faults.sort();
        self.faults.dedup();
        self.beyond = self.beyond.max(other.beyond) + self.faults.len().saturating_sub(MAX_FAULTS);
        self.faults.truncate(MAX_FAULTS);
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        let count = self.faults.len() + self.beyond;
        write!(f, "{count} fault{}", if count == 1 { "" } else { "s" })?;
        if self.beyond > 0 {
            write!(f, ", the first {} shown", self.faults.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str, line: usize) -> Place {
        Place::new(&file.into(), line, 3, "spec.x")
    }

    #[test]
    fn a_report_is_sorted_and_counted() {
        let mut faults = Faults::default();
        faults.add(place("b.yaml", 1), "third");
        faults.add(place("a.yaml", 9), "second");
        faults.add(place("a.yaml", 2), "first");
        let report = faults.or_report(Some(())).unwrap_err();
        let text = report.to_string();
        assert_eq!(
            text,
            "a.yaml:2:3: spec.x: first\na.yaml:9:3: spec.x: second\nb.yaml:1:3: spec.x: third\n3 faults"
        );
    }

    #[test]
    fn no_fault_no_report() {
        assert_eq!(Faults::default().or_report(Some(7)).unwrap(), 7);
    }

    #[test]
    fn beyond_the_limit_faults_are_only_counted() {
        let mut faults = Faults::default();
        (0..MAX_FAULTS + 7).for_each(|line| faults.add(place("a", line + 1), "x"));
        let report = faults.or_report(Some(())).unwrap_err();
        assert_eq!(report.faults().len(), MAX_FAULTS);
        assert!(report.to_string().ends_with("507 faults, the first 500 shown"));
    }

    #[test]
    fn quoted_text_is_bounded_and_holds_no_control_character() {
        assert_eq!(quoted("a\n\u{1b}[31m\u{202e}\"b"), "\"a\\n\\u{1b}[31m\\u{202e}\"b\"");
        assert_eq!(quoted(&"x".repeat(61)), format!("\"{}...\"", "x".repeat(60)));
    }
}
