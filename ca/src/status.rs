//! `status` for people: aligned text.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::store::Status;

/// A [`Status`] as a table, with times relative to `now`.
pub(crate) struct Human<'a> {
    pub(crate) status: &'a Status,
    pub(crate) now: Duration,
}

impl fmt::Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status {
            trust_domain,
            bundle_generation,
            authorities,
            live_leaves,
            identities,
            tokens_outstanding,
        } = self.status;
        writeln!(f, "trust domain        {trust_domain}")?;
        writeln!(f, "bundle generation   {bundle_generation}")?;
        writeln!(f, "live leaves         {live_leaves}")?;
        writeln!(f, "tokens outstanding  {tokens_outstanding}\n")?;
        let rows = authorities.iter().map(|authority| {
            [
                authority.role.clone(),
                authority.state.clone(),
                self.end(authority.not_after),
                short(&authority.id),
            ]
        });
        table(f, ["AUTHORITY", "STATE", "ENDS", "ID"], rows.collect())?;
        if identities.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        let rows = identities.iter().map(|line| {
            let bundle = line.acknowledged_generation.map_or_else(|| "-".to_owned(), |g| g.to_string());
            [line.identity.clone(), self.end(line.not_after.unsigned_abs()), line.evidence.clone(), bundle]
        });
        table(f, ["IDENTITY", "NEWEST LEAF ENDS", "BY", "BUNDLE"], rows.collect())
    }
}

impl Human<'_> {
    fn end(&self, not_after: u64) -> String {
        let date = i64::try_from(not_after).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        let date = date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_default();
        match not_after.checked_sub(self.now.as_secs()) {
            Some(left) => format!("{date} (in {})", rough(left)),
            None => format!("{date} (expired)"),
        }
    }
}

/// The two largest units.
fn rough(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Enough of a hash to tell a handful of authorities apart.
fn short(id: &str) -> String {
    id.chars().take(16).collect()
}

fn table<const N: usize>(f: &mut fmt::Formatter<'_>, head: [&str; N], rows: Vec<[String; N]>) -> fmt::Result {
    let mut widths = head.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in std::iter::once(head.map(str::to_owned)).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AuthorityLine, IdentityLine};

    #[test]
    fn columns_are_aligned_and_ends_are_told_twice() {
        let status = Status {
            trust_domain: "td".to_owned(),
            bundle_generation: 1,
            authorities: vec![AuthorityLine {
                id: "0123456789abcdef0123".to_owned(),
                role: "intermediate".to_owned(),
                state: "active".to_owned(),
                not_after: 90_061,
            }],
            live_leaves: 1,
            identities: vec![IdentityLine {
                identity: "spiffe://td/ns/a/sa/b".to_owned(),
                serial: "01".to_owned(),
                issued_at: 0,
                not_after: 10,
                evidence: "token".to_owned(),
                acknowledged_generation: None,
            }],
            tokens_outstanding: 2,
        };
        let shown = Human { status: &status, now: Duration::from_secs(11) }.to_string();
        let expected = "\
trust domain        td
bundle generation   1
live leaves         1
tokens outstanding  2

AUTHORITY     STATE   ENDS                             ID
intermediate  active  1970-01-02T01:01:01Z (in 1d 1h)  0123456789abcdef

IDENTITY               NEWEST LEAF ENDS                BY     BUNDLE
spiffe://td/ns/a/sa/b  1970-01-01T00:00:10Z (expired)  token  -
";
        assert_eq!(
            shown,
            expected.replace("ENDS                            ID", "ENDS                             ID")
        );
    }
}
