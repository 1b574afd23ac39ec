//! What a journal keeps, and what it refuses to go on with.

use std::collections::BTreeMap;
use std::io::Write as _;

use tempfile::TempDir;

use super::super::grid::{Grid, Limits, Point, Proxy};
use super::super::result::{Counts, Latency};
use super::*;

fn conditions() -> Conditions {
    Conditions {
        version: "1".to_owned(),
        latency: "10ms".to_owned(),
        concurrency: Some(8),
        body: 10,
        seconds: 1.0,
        grid: Grid {
            max_connections: vec![Some(1), None],
            max_pending: vec![None],
            max_requests: vec![None],
            rates: vec![10, 20],
        },
        target: None,
        machine: BTreeMap::from([("cpus".to_owned(), "2".to_owned())]),
    }
}

fn measured(rate: u32) -> Measured {
    let limits = Limits { max_connections: Some(1), max_pending: None, max_requests: None };
    Measured {
        point: Point { proxy: Proxy::Portcullis, limits, rate },
        seconds: 1.0,
        counts: Counts { due: 10, succeeded: 10, ..Counts::default() },
        latency: Latency::default(),
        upstream: None,
        occupancy: Vec::new(),
        cpu: None,
    }
}

fn journal_of_two(dir: &TempDir) -> PathBuf {
    let (mut journal, known) = Journal::open(dir.path(), &conditions(), false).unwrap();
    assert!(known.is_empty());
    journal.add(&measured(10)).unwrap();
    let confirmation = Confirmation { goal: "p99 < 1 ms".to_owned(), holds: true, measured: measured(10) };
    journal.confirm(confirmation).unwrap();
    journal.add(&measured(20)).unwrap();
    dir.path().join(NAME)
}

#[test]
fn what_was_measured_is_there_again() {
    let dir = TempDir::new().unwrap();
    journal_of_two(&dir);
    let (_journal, known) = Journal::open(dir.path(), &conditions(), false).unwrap();
    assert_eq!(known, [measured(10), measured(20)]);
}

#[test]
fn a_line_that_was_cut_off_is_forgotten_and_the_next_one_begins_in_its_place() {
    let dir = TempDir::new().unwrap();
    let path = journal_of_two(&dir);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 7]).unwrap();
    {
        let (mut journal, known) = Journal::open(dir.path(), &conditions(), false).unwrap();
        assert_eq!(known, [measured(10)]);
        journal.add(&measured(20)).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), whole);
    // Cut within its first line, it holds nothing yet.
    fs::write(&path, &whole[..20]).unwrap();
    let (_journal, known) = Journal::open(dir.path(), &conditions(), false).unwrap();
    assert!(known.is_empty());
}

#[test]
fn other_conditions_are_refused_with_what_differs_unless_it_begins_anew() {
    let dir = TempDir::new().unwrap();
    journal_of_two(&dir);
    let mut other = conditions();
    other.latency = "20ms".to_owned();
    other.machine.insert("envoy".to_owned(), "1.40.0".to_owned());
    let refused = Journal::open(dir.path(), &other, false).unwrap_err().to_string();
    for part in [r#"latency is "10ms" there and "20ms" now"#, "machine.envoy is null there", "--fresh"] {
        assert!(refused.contains(part), "no {part:?} in {refused}");
    }
    assert!(!refused.contains("concurrency"), "{refused}");
    let (_journal, known) = Journal::open(dir.path(), &other, true).unwrap();
    assert!(known.is_empty());
}

#[test]
fn a_whole_line_that_is_none_of_ours_is_refused_with_its_number() {
    let dir = TempDir::new().unwrap();
    let path = journal_of_two(&dir);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"x\":1}\n").unwrap();
    let refused = Journal::open(dir.path(), &conditions(), false).unwrap_err();
    assert!(matches!(refused, JournalError::Foreign { line: 5, .. }), "{refused}");
}

#[test]
fn two_do_not_write_at_once() {
    let dir = TempDir::new().unwrap();
    let first = Journal::open(dir.path(), &conditions(), false).unwrap();
    let second = Journal::open(dir.path(), &conditions(), false).unwrap_err();
    assert!(matches!(second, JournalError::Taken(_)), "{second}");
    drop(first);
    Journal::open(dir.path(), &conditions(), false).unwrap();
}
