//! A root brought along.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_tests::within;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

use super::authority::NONE;
use super::{LIMIT, SOON, Site, Table, contents, lost, text};

fn root() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "a root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(3650);
    params
}

/// Writes `NAME.pem` and `NAME.key`.
fn write(dir: &Path, name: &str, params: &CertificateParams) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let paths = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    fs::write(&paths.0, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

#[test]
fn a_given_root_that_cannot_be_used_makes_no_store() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let dir = site.own_dir("roots");
        let (good, key) = write(&dir, "good", &root());
        let (_, other_key) = write(&dir, "other", &root());
        let mut leaf = root();
        leaf.is_ca = IsCa::NoCa;
        let mut expired = root();
        expired.not_after = OffsetDateTime::now_utc() - Duration::days(1);
        let mut ends = root();
        ends.not_after = OffsetDateTime::now_utc() + Duration::days(3);
        let (leaf, expired, ends) =
            (write(&dir, "leaf", &leaf), write(&dir, "expired", &expired), write(&dir, "ends", &ends));
        let text_file = dir.join("text.pem");
        fs::write(&text_file, "not PEM\n").unwrap();
        let store = site.own_dir("store");
        for (certificate, key, says) in [
            (&good, None, &["--root-key"][..]),
            (&good, Some(&dir.join("missing.key")), &["missing.key", "No such file"]),
            (&good, Some(&other_key), &["--root-key is not the key of --root-cert", "good.pem", "other.key"]),
            (&good, Some(&text_file), &["--root-key does not hold a PEM private key", "text.pem"]),
            (&text_file, Some(&key), &["--root-cert does not hold exactly one PEM certificate", "text.pem"]),
            (&leaf.0, Some(&leaf.1), &["--root-cert cannot be a root", "leaf.pem"]),
            (&expired.0, Some(&expired.1), &["--root-cert cannot be a root", "expired", "expired.pem"]),
            (&ends.0, Some(&ends.1), &["--root-cert ends in", "six leaf lives (6d)", "ends.pem"]),
        ] {
            let command = site.ca(&store, &["run", "--listen", "10.77.0.1:8443"]);
            let command = command.args(["--root-cert", &text(certificate)]);
            let command =
                key.into_iter().fold(command, |command, key| command.args(["--root-key", &text(key)]));
            table.row(&text(certificate), command, 2, says);
        }
        assert!(contents(&store).is_empty());
        let given = ["--root-cert", &text(&good), "--root-key", &text(&key)];
        assert!(site.running_ca(&store, 8443, &given).terminate(SOON).unwrap().success());
        // Another root than the store's: the one to follow must be said, not guessed.
        let other = dir.join("other.pem");
        let command = site.ca(&store, &["run", "--listen", "10.77.0.1:8443", "--root-cert", &text(&other)]);
        let before = contents(&store);
        table.row(
            "other root",
            command.args(["--root-key", &text(&other_key)]),
            2,
            &["has root", "--root-cert"],
        );
        assert_eq!(lost(&before, &store), NONE);
    });
}
