//! The refusals of late, put together by who, where and why. Bounded whoever knocks: a flood from many addresses
//! costs the entries that were seen least, never memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::Direction;
use crate::throttle::Throttle;

/// Entries kept.
const MAX_ENTRIES: usize = 256;
/// New entries in one second, once one has to go for each.
const MAX_REPLACED: u32 = 1000;
/// Characters of a refusal's text that are kept.
const MAX_TEXT: usize = 300;

/// What refusals have in common that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RefusalKey {
    /// Which way.
    pub direction: Direction,
    /// Who connected.
    pub peer: IpAddr,
    /// The other side's identity, if it was proven.
    pub identity: Option<String>,
    /// The port of the workload or service, if it is known.
    pub port: Option<u16>,
    /// The metric label.
    pub reason: &'static str,
    /// The rule that refused, if it was one.
    pub rule: Option<String>,
}

/// Refusals of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentRefusal {
    /// Who, where and why.
    pub key: RefusalKey,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Instant,
    /// The last of them.
    pub last: Instant,
    /// What was said of the last; without control characters, bounded.
    pub text: String,
}

struct Seen {
    count: u64,
    first: Instant,
    last: Instant,
    text: String,
}

#[derive(Default)]
struct Entries {
    seen: HashMap<RefusalKey, Seen>,
    unlisted: u64,
}

/// See the module.
pub struct RecentRefusals {
    entries: Mutex<Entries>,
    replaced: Throttle,
}

impl RecentRefusals {
    /// None yet.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { entries: Mutex::default(), replaced: Throttle::new(MAX_REPLACED) }
    }

    /// Counts one refusal; `text` is asked for only when it is kept.
    pub fn record(&self, key: RefusalKey, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let mut entries = self.lock();
        if let Some(seen) = entries.seen.get_mut(&key) {
            seen.count += 1;
            (seen.last, seen.text) = (now, bounded(&text()));
            return;
        }
        if entries.seen.len() >= MAX_ENTRIES {
            // Looking for the least of them takes a while, which a flood must not get for each of its packets.
            if self.replaced.pass().is_none() {
                entries.unlisted += 1;
                return;
            }
            entries.drop_the_least();
        }
        entries.seen.insert(key, Seen { count: 1, first: now, last: now, text: bounded(&text()) });
    }

    /// All entries, the newest first, and how many refusals are in none of them.
    #[must_use]
    pub fn list(&self) -> (Vec<RecentRefusal>, u64) {
        let entries = self.lock();
        let listed = entries.seen.iter().map(|(key, seen)| RecentRefusal {
            key: key.clone(),
            count: seen.count,
            first: seen.first,
            last: seen.last,
            text: seen.text.clone(),
        });
        let (mut listed, unlisted): (Vec<_>, _) = (listed.collect(), entries.unlisted);
        drop(entries);
        listed.sort_by(|one, other| other.last.cmp(&one.last).then(other.count.cmp(&one.count)));
        (listed, unlisted)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Whoever comes with many addresses comes once with each, and pushes out its own.
    fn drop_the_least(&mut self) {
        let least = self.seen.iter().min_by_key(|(_, seen)| (seen.count, seen.last));
        let Some(key) = least.map(|(key, _)| key.clone()) else { return };
        if let Some(gone) = self.seen.remove(&key) {
            self.unlisted += gone.count;
        }
    }
}

/// For a terminal as well as for JSON.
fn bounded(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn key(host: u32) -> RefusalKey {
        let peer = Ipv4Addr::from(host).into();
        let (identity, rule) = (None, None);
        RefusalKey {
            direction: Direction::inbound,
            peer,
            identity,
            port: Some(8080),
            reason: "plaintext",
            rule,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_one_kind_are_one_entry() {
        let recent = RecentRefusals::new();
        let first = Instant::now();
        recent.record(key(1), || "first".into());
        tokio::time::advance(Duration::from_secs(5)).await;
        recent.record(key(1), || format!("last\n\u{1b}[31m{}", "x".repeat(1000)));
        recent.record(RefusalKey { port: Some(1), ..key(1) }, || "other port".into());
        tokio::time::advance(Duration::from_secs(1)).await;
        recent.record(RefusalKey { reason: "not_tls", ..key(1) }, || "other reason".into());
        let (listed, unlisted) = recent.list();
        assert_eq!((listed.len(), unlisted), (3, 0));
        assert_eq!(listed[0].text, "other reason", "the newest first");
        let twice = &listed[1];
        assert_eq!((twice.count, twice.first, twice.last), (2, first, first + Duration::from_secs(5)));
        assert!(twice.text.starts_with("last  [31mxxx") && twice.text.len() == MAX_TEXT, "{}", twice.text);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_many_addresses_is_counted_and_keeps_who_came_often() {
        let recent = RecentRefusals::new();
        let often = key(u32::MAX);
        (0..3).for_each(|_| recent.record(often.clone(), || "often".into()));
        for round in 0..5 {
            for host in 0..20_000 {
                recent.record(key(round * 20_000 + host), || "flood".into());
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let (listed, unlisted) = recent.list();
        assert_eq!(listed.len(), MAX_ENTRIES);
        assert!(listed.iter().any(|entry| entry.key == often));
        let counted: u64 = listed.iter().map(|entry| entry.count).sum();
        assert_eq!(counted + unlisted, 100_003, "none is forgotten");
        let newest = listed.iter().map(|entry| entry.last).max().unwrap();
        assert_eq!(newest.elapsed(), Duration::from_secs(1), "the last round is there as well");
    }
}
