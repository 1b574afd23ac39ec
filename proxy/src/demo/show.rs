//! One line for each claim: a tick or a cross, the claim, and the evidence in a few words.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;

use super::error::DemoError;

/// Longest evidence shown, in characters: it may quote what a peer sent.
const MAX_EVIDENCE: usize = 220;

/// What became of the lines so far.
pub(super) struct Show {
    colour: bool,
    held: u32,
    failed: u32,
}

impl Show {
    pub(super) fn new() -> Self {
        Self { colour: stdout().is_terminal(), held: 0, failed: 0 }
    }

    /// A heading.
    pub(super) fn act(&self, title: &str) {
        self.print(&format!("\n{}", self.painted("1", title)));
    }

    /// A remark that claims nothing.
    pub(super) fn note(&self, text: &str) {
        self.print(&format!("  {}", self.painted("2", text)));
    }

    /// A claim, with its evidence or with what was seen instead.
    pub(super) fn line(&mut self, claim: &str, outcome: Result<String, DemoError>) {
        let (mark, text) = match outcome {
            Ok(evidence) => {
                self.held += 1;
                (self.painted("32", "✓"), printable(&evidence))
            }
            Err(error) => {
                self.failed += 1;
                (self.painted("31", "✗"), printable(&error))
            }
        };
        self.print(&format!("  {mark} {claim}\n      {}", self.painted("2", &text)));
    }

    /// The last line, and what the program ends with.
    pub(super) fn close(&self, took_s: u64) -> ExitCode {
        let (held, failed) = (self.held, self.failed);
        if failed == 0 && held > 0 {
            self.print(&format!("\nAll {held} lines hold, after {took_s} s."));
            return ExitCode::SUCCESS;
        }
        self.print(&format!("\n{failed} of {} lines do not hold.", held + failed));
        ExitCode::FAILURE
    }

    /// A reader that has gone away (`| head`) is no reason to stop: the exit code still tells.
    fn print(&self, text: &str) {
        let mut out = stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn printable(text: &impl Display) -> String {
    let text = text.to_string();
    let mut shown: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Some((cut, _)) = shown.char_indices().nth(MAX_EVIDENCE) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_one_bounded_line_without_controls() {
        assert_eq!(printable(&" a\x1b[31m\nb\u{9b}c "), "a [31m b c");
        let long = printable(&"ä".repeat(1000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (MAX_EVIDENCE + 1, true));
    }

    #[test]
    fn one_cross_or_no_line_at_all_is_a_failure() {
        let mut show = Show { colour: false, held: 0, failed: 0 };
        assert_eq!(show.close(0), ExitCode::FAILURE);
        show.line("holds", Ok(String::new()));
        assert_eq!(show.close(0), ExitCode::SUCCESS);
        show.line("does not", Err(DemoError::Unexpected("why".into())));
        assert_eq!(show.close(0), ExitCode::FAILURE);
    }
}
