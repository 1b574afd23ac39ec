//! What an earlier run of the sidecar left.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis::demo::lab::Process;
use portcullis_tests::within;
use serde_json::Value;

use super::{BASE, IDENTITY, LIMIT, SOON, Site, Table, contents, copy, is_ready, lost, mode, own};

/// Name, what is done to the state, and what the message has.
type Row = (&'static str, fn(&Path), &'static [&'static str]);

const STATE: &str = "state: state\n";

impl Site {
    /// The state that a sidecar with this token leaves.
    fn state(&self, name: &str, token: &str) -> PathBuf {
        let dir = self.own_dir(name);
        let sidecar = self.good_sidecar(&dir, STATE, token).spawn().unwrap();
        written(&sidecar);
        assert!(sidecar.terminate(SOON).unwrap().success());
        dir.join("state")
    }

    /// A directory with a copy of that state, and no token.
    fn with_state(&self, name: &str, good: &Path) -> PathBuf {
        let dir = self.own_dir(name);
        let state = dir.join("state");
        copy(good, &state);
        mode(&state, 0o700);
        own(&state);
        for file in fs::read_dir(&state).unwrap().flatten() {
            own(&file.path());
        }
        let base = BASE.replace(", joinToken: {file: join-token}", "");
        fs::write(dir.join("portcullis.yaml"), format!("{base}{STATE}")).unwrap();
        dir
    }
}

/// Waits until it holds a certificate, and that is on disk.
fn written(sidecar: &Process) {
    sidecar.wait_for_line(|line| line.contains("certificate received"), SOON).unwrap();
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn broken_state_ends_the_sidecar_without_a_token_and_is_kept_aside_with_one() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let authority = site.authority();
        let token = authority.token(IDENTITY).unwrap();
        let good = site.state("good", &token);
        let other = site.state("other", &authority.token(IDENTITY).unwrap());
        let elsewhere = site.dir.path().join("elsewhere");
        let _foreign = site.running_ca(&elsewhere, 8444, &["--trust-domain", "elsewhere"]);
        let id = IDENTITY.replace("cluster.local", "elsewhere");
        let foreign = site.ca(&elsewhere, &["token", "--identity", &id]).check(SOON).unwrap();
        let foreign_dir = site.own_dir("foreign");
        fs::write(foreign_dir.join("join-token"), foreign).unwrap();
        let foreign_base = format!("{}trustDomain: elsewhere\n{STATE}", BASE.replace("8443", "8444"));
        fs::write(foreign_dir.join("portcullis.yaml"), foreign_base).unwrap();
        written(&site.sidecar(&foreign_dir).spawn().unwrap());
        let mut mixed = json(&good.join("svid.json"));
        mixed["key"] = json(&other.join("svid.json"))["key"].clone();
        let bundle = fs::read(foreign_dir.join("state/bundle.json")).unwrap();
        let cut = fs::read(good.join("svid.json")).unwrap();
        for (name, file, content, says) in [
            ("garbled", "svid.json", b"{\"key\": 1".to_vec(), "not the JSON expected, at line 1"),
            ("cut", "svid.json", cut[..cut.len() / 2].to_vec(), "not the JSON expected"),
            ("empty", "svid.json", Vec::new(), "not the JSON expected"),
            ("binary", "svid.json", b"\xff\xfe\x00".to_vec(), "not UTF-8"),
            ("mixed", "svid.json", mixed.to_string().into_bytes(), "do not go together"),
            ("garbled bundle", "bundle.json", b"}".to_vec(), "bundle"),
            ("empty bundle", "bundle.json", Vec::new(), "bundle"),
            ("no keys", "bundle.json", b"{\"keys\":[]}".to_vec(), "bundle"),
            ("foreign bundle", "bundle.json", bundle, "do not go together"),
        ] {
            let dir = site.with_state(name, &good);
            fs::write(dir.join("state").join(file), &content).unwrap();
            let before = contents(&dir);
            table.row(
                name,
                site.sidecar(&dir),
                2,
                &[&format!("{name}/state/"), says, "restore it, or give a join token", IDENTITY],
            );
            table.check(name, contents(&dir) == before, "a file has changed");

            let sidecar = site.good_sidecar(&dir, STATE, &token).spawn().unwrap();
            is_ready(&sidecar);
            let warnings = sidecar.output().lines().filter(|line| line.contains("starting afresh")).count();
            table.check(name, warnings == 1, &sidecar.output());
            table.check(
                name,
                contents(&dir.join("state")).values().any(|kept| *kept == content),
                "it is not kept",
            );
        }
        let dir = site.with_state("broken token too", &good);
        fs::write(dir.join("state/svid.json"), "{").unwrap();
        let command = site.good_sidecar(&dir, STATE, "pcj1.");
        let before = contents(&dir);
        table.row("broken token too", command, 2, &["join token file", IDENTITY]);
        table.check("broken token too", contents(&dir) == before, "a file has changed");
        let again = site.sidecar(&site.with_state("control", &good)).spawn().unwrap();
        is_ready(&again);
    });
}

#[test]
fn state_that_is_not_ours_to_read_write_or_replace_is_left_alone() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let authority = site.authority();
        let token = authority.token(IDENTITY).unwrap();
        let good = site.state("good", &token);
        let web = IDENTITY.replace("sa/api", "sa/web");
        let rows: [Row; 5] = [
            (
                "unreadable file",
                |state| std::os::unix::fs::chown(state.join("svid.json"), Some(0), Some(0)).unwrap(),
                &["state/svid.json", "Permission denied"],
            ),
            (
                "read-only directory",
                |state| mode(state, 0o500),
                &["/state: ", "Permission denied", "read and write"],
            ),
            (
                "another's directory",
                |state| std::os::unix::fs::chown(state, Some(0), Some(0)).unwrap(),
                &["/state: ", "Permission denied", "read and write"],
            ),
            (
                "file for a directory",
                |state| {
                    fs::remove_dir_all(state).unwrap();
                    fs::write(state, "").unwrap();
                },
                &["/state: ", "directory"],
            ),
            (
                "another workload",
                |_| (),
                &[
                    "state/svid.json holds the certificate of",
                    IDENTITY,
                    "this workload is",
                    "a directory of its own",
                ],
            ),
        ];
        for (name, spoil, says) in rows {
            for token in [None, Some(&token)] {
                let name = format!("{name}, token: {}", token.is_some());
                let dir = site.with_state(&name, &good);
                spoil(&dir.join("state"));
                let mut command = site.sidecar(&dir);
                if let Some(token) = token {
                    command = site.good_sidecar(&dir, STATE, token);
                }
                if name.starts_with("another workload") {
                    let config = fs::read_to_string(dir.join("portcullis.yaml")).unwrap();
                    fs::write(
                        dir.join("portcullis.yaml"),
                        config.replace("serviceAccount: api", "serviceAccount: web"),
                    )
                    .unwrap();
                    fs::write(dir.join("join-token"), authority.token(&web).unwrap()).unwrap();
                }
                let before = contents(&dir);
                table.row(&name, command, 2, says);
                table.check(&name, lost(&before, &dir).is_empty(), "a file has changed");
            }
        }
    });
}

#[test]
fn a_key_that_every_user_can_read_is_warned_of() {
    within(LIMIT, || {
        let site = Site::new();
        let authority = site.authority();
        let good = site.state("good", &authority.token(IDENTITY).unwrap());
        let dir = site.with_state("open", &good);
        mode(&dir.join("state/svid.json"), 0o644);
        let sidecar = site.sidecar(&dir).spawn().unwrap();
        let warned = |line: &str| line.contains("svid.json is open to every user (mode 644): chmod 600 it");
        sidecar.wait_for_line(warned, SOON).unwrap();
        is_ready(&sidecar);
    });
}
