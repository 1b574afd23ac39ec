//! The authority's store, key and settings.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use portcullis::demo::lab::{HostCommand, Process};
use portcullis_tests::within;

use super::{IDENTITY, LIMIT, SOON, Site, Table, contents, copy, is_ready, lost, mode, own, text};

/// The three commands that open a store, with what else each of them needs.
const COMMANDS: [&[&str]; 3] =
    [&["run", "--listen", "10.77.0.1:8443"], &["token", "--identity", IDENTITY], &["status"]];

impl Site {
    /// A command of `portcullis-ca` on the store and key in `dir`.
    pub(super) fn ca(&self, dir: &Path, command: &[&str]) -> HostCommand {
        let ca = self.host.command(&self.programs.authority).args(command);
        ca.args(["--store", &text(&dir.join("ca.db")), "--key-file", &text(&dir.join("ca.key"))])
    }

    /// An authority at work, on the port of the host that is given.
    pub(super) fn running_ca(&self, dir: &Path, port: u16, more: &[&str]) -> Process {
        fs::create_dir_all(dir).unwrap();
        let ca = self.ca(dir, &["run", "--listen", &format!("10.77.0.1:{port}")]).args(more).spawn().unwrap();
        is_ready(&ca);
        ca
    }

    /// A store as an authority leaves it that was asked to stop.
    fn store(&self) -> PathBuf {
        let dir = self.dir.path().join("good");
        let stopped = self.running_ca(&dir, 8443, &[]).terminate(SOON).unwrap();
        assert!(stopped.success(), "{stopped}");
        dir
    }
}

/// No file was lost.
pub(super) const NONE: [PathBuf; 0] = [];

/// What makes a good store a bad one.
type Spoil = fn(&Path);

fn rewrite(path: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, change(bytes)).unwrap();
}

fn directory(dir: &Path) {
    fs::remove_file(dir.join("ca.db")).unwrap();
    fs::create_dir(dir.join("ca.db")).unwrap();
}

fn cut_short(dir: &Path) {
    rewrite(&dir.join("ca.db"), |bytes| bytes[..bytes.len() / 2].to_vec());
}

fn garbled(dir: &Path) {
    rewrite(&dir.join("ca.db"), |mut bytes| {
        bytes[4096..].fill(0xa5);
        bytes
    });
}

fn gone(dir: &Path) {
    fs::remove_file(dir.join("ca.db")).unwrap();
    fs::write(dir.join("ca.db-wal"), "what was committed").unwrap();
}

fn another_key(dir: &Path) {
    fs::write(dir.join("ca.key"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
}

/// Done by Python, which brings SQLite along.
fn sql(site: &Site, dir: &Path, statement: &str) {
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit(); db.close()";
    let store = text(&dir.join("ca.db"));
    site.host.command("python3").args(["-c", script, &store, statement]).check(SOON).unwrap();
}

#[test]
fn a_store_or_key_that_cannot_be_used_stays_as_it_is() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let good = site.store();
        let newer = site.dir.path().join("newer store");
        copy(&good, &newer);
        sql(&site, &newer, "INSERT INTO _sqlx_migrations VALUES (99, 'later', '2030-01-01', 1, x'00', 1)");
        let rows: [(&str, &Path, Spoil, &[&str]); 11] = [
            (
                "empty store",
                &good,
                |dir| fs::write(dir.join("ca.db"), "").unwrap(),
                &["ca.db is empty: restore it from a backup"],
            ),
            (
                "text for a store",
                &good,
                |dir| fs::write(dir.join("ca.db"), "not a database\n").unwrap(),
                &["ca.db is not a store: it is not an SQLite file"],
            ),
            ("cut short", &good, cut_short, &["ca.db is damaged", "restore it from a backup"]),
            ("garbled", &good, garbled, &["ca.db is damaged", "restore it from a backup"]),
            ("directory", &good, directory, &["ca.db", "directory"]),
            ("log alone", &good, gone, &["ca.db is gone, but its log", "restore both"]),
            ("newer", &newer, |_| (), &["ca.db has schema 99", "run the newer portcullis-ca"]),
            ("another key", &good, another_key, &["the key does not open the store", "ca.db", "another key"]),
            (
                "empty key",
                &good,
                |dir| fs::write(dir.join("ca.key"), "").unwrap(),
                &["ca.key does not hold a key", "openssl rand -base64 32"],
            ),
            (
                "binary key",
                &good,
                |dir| fs::write(dir.join("ca.key"), b"\xff\xfe\x00").unwrap(),
                &["key file", "ca.key"],
            ),
            (
                "no key",
                &good,
                |dir| fs::remove_file(dir.join("ca.key")).unwrap(),
                &["ca.key is missing", "ca.db", "bring the key back"],
            ),
        ];
        for (row, from, spoil, says) in rows {
            for command in COMMANDS {
                let name = format!("{row}, {}", command[0]);
                let dir = site.dir.path().join(&name);
                copy(from, &dir);
                spoil(&dir);
                let before = contents(&dir);
                table.row(&name, site.ca(&dir, command), 2, says);
                table.check(&name, lost(&before, &dir).is_empty(), "a file has changed");
            }
        }
        // Control: the same commands work on the store that all rows were made from.
        site.ca(&good, COMMANDS[1]).check(SOON).unwrap();
        site.ca(&good, COMMANDS[2]).check(SOON).unwrap();
        site.running_ca(&good, 8443, &[]);
    });
}

#[test]
fn what_the_user_may_not_read_or_write_is_named() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let good = site.store();
        for command in COMMANDS {
            let dir = site.dir.path().join(format!("unreadable, {}", command[0]));
            copy(&good, &dir);
            let before = contents(&dir);
            table.row(command[0], site.ca(&dir, command).user(1337), 2, &[&text(&dir), "Permission denied"]);
            table.check(command[0], lost(&before, &dir).is_empty(), "a file has changed");
        }
        // All can be read, nothing written: what SQLite wants beside the store cannot be made.
        let dir = site.dir.path().join("read-only");
        copy(&good, &dir);
        for file in ["ca.db", "ca.key"] {
            mode(&dir.join(file), 0o644);
        }
        fs::remove_file(dir.join("ca.db.lock")).unwrap();
        let before = contents(&dir);
        for (command, says) in COMMANDS.iter().zip(["cannot lock", "write access", "write access"]) {
            let says = [&*text(&dir.join("ca.db")), says];
            table.row(command[0], site.ca(&dir, command).user(1337), 2, &says);
        }
        let empty = site.dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        table.row(
            "first start",
            site.ca(&empty, COMMANDS[0]).user(1337),
            2,
            &[&text(&empty), "Permission denied"],
        );
        assert_eq!(lost(&before, &dir), NONE);
        assert!(contents(&empty).is_empty());
    });
}

#[test]
fn settings_that_contradict_the_store_or_each_other_change_nothing() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let good = site.store();
        let before = contents(&good);
        for (arguments, says) in [
            (
                &["--trust-domain", "elsewhere.example"][..],
                &["ca.db is of trust domain cluster.local, not elsewhere.example"][..],
            ),
            (&["--trust-domain", "Elsewhere"], &["--trust-domain", "'E'"]),
            (&["--leaf-life", "2s"], &["--leaf-life is 2s, it must be from 3s to 90d"]),
            (&["--leaf-life", "91d"], &["--leaf-life is 91d, it must be from 3s to 90d"]),
            (&["--leaf-life", "1"], &["--leaf-life", "3s, 10m, 24h, 30d"]),
            (
                &["--leaf-life", "24h", "--intermediate-life", "5d"],
                &["--intermediate-life is 5d, under six leaf lives (6d)", "lengthen it"],
            ),
            (&["--root-life", "5d"], &["--root-life is 5d, under six leaf lives (6d)"]),
            (&["--root-life", "36526d"], &["--root-life is 36526d, the limit is 36525d"]),
            (&["--listen", "8443"], &["--listen", "8443"]),
        ] {
            let listen: &[&str] = if arguments[0] == "--listen" { &["run"] } else { COMMANDS[0] };
            table.row(&arguments.join(" "), site.ca(&good, listen).args(arguments), 2, says);
        }
        let no_key = site.host.command(&site.programs.authority).args(COMMANDS[0]);
        let no_key = no_key.args(["--store", &text(&good.join("ca.db"))]).env("PORTCULLIS_CA_KEY", "short");
        table.row("key in the environment", no_key, 2, &["PORTCULLIS_CA_KEY does not hold a key"]);
        assert_eq!(lost(&before, &good), NONE);
    });
}

#[test]
fn no_token_is_made_for_what_cannot_have_one() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let good = site.store();
        let before = contents(&good);
        for (identity, ttl, says) in [
            (
                "spiffe://elsewhere/ns/a/sa/b",
                "10m",
                &["spiffe://elsewhere/ns/a/sa/b", "another trust domain"][..],
            ),
            ("spiffe://cluster.local/ns/portcullis-system/sa/portcullis-ca", "10m", &["the authority's own"]),
            ("spiffe://cluster.local/api", "10m", &["--identity", "/ns/NAMESPACE/sa/"]),
            ("https://cluster.local/ns/a/sa/b", "10m", &["--identity", "spiffe://"]),
            ("", "10m", &["--identity"]),
            (IDENTITY, "0", &["--ttl", "3s, 10m, 24h, 30d"]),
            (IDENTITY, "0s", &["--ttl", "from 1s to 30d"]),
            (IDENTITY, "31d", &["--ttl", "from 1s to 30d"]),
            (IDENTITY, "99999999999999999999d", &["--ttl", "3s, 10m, 24h, 30d"]),
        ] {
            let command = site.ca(&good, &["token", "--identity", identity, "--ttl", ttl]);
            table.row(&format!("{identity} {ttl}"), command, 2, says);
        }
        assert_eq!(lost(&before, &good), NONE);
        let none = site.dir.path().join("none");
        fs::create_dir(&none).unwrap();
        for command in &COMMANDS[1..] {
            table.row(
                "no store",
                site.ca(&none, command),
                2,
                &["none/ca.db does not exist", "portcullis-ca run"],
            );
        }
        assert!(contents(&none).is_empty(), "nothing is made for lack of a store");
    });
}

#[test]
fn a_second_authority_on_one_store_is_refused_and_the_first_goes_on() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let dir = site.dir.path().join("ca");
        let first = site.running_ca(&dir, 8443, &[]);
        let says = ["ca.db is in use by another `portcullis-ca run`"];
        table.row("second", site.ca(&dir, &["run", "--listen", "10.77.0.1:8444"]), 2, &says);
        assert!(first.exit_status().is_none());
        let token = site.ca(&dir, COMMANDS[1]).check(SOON).unwrap();
        let sidecar = site.good_sidecar(&site.own_dir("sidecar"), "", &token).spawn().unwrap();
        is_ready(&sidecar);
    });
}

#[test]
fn a_taken_port_of_the_authority_is_named() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let dir = site.own_dir("ca");
        let taken =
            site.host.in_namespace(|| std::net::TcpListener::bind("10.77.0.1:8443")).unwrap().unwrap();
        let says = ["cannot listen on 10.77.0.1:8443", "Address already in use", "--listen"];
        table.row("taken", site.ca(&dir, COMMANDS[0]), 1, &says);
        drop(taken);
        own(&dir.join("ca.key"));
        assert_eq!(fs::metadata(dir.join("ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
        site.running_ca(&dir, 8443, &[]);
    });
}
