//! Callers without an identity that this mesh has given them.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::super::SOON;
use super::super::error::{DemoError, ensure};
use super::super::probe::{self, Reply};
use super::super::site::{PORT, Site};

const STOLEN_NAME: &str = "spiffe://cluster.local/ns/production/sa/client";

pub(crate) fn plaintext(site: &Site) -> Result<String, DemoError> {
    unserved(site, || probe::get(&site.intruder, site.day.door(PORT), &site.day.service, "/"))
}

pub(crate) fn no_certificate(site: &Site) -> Result<String, DemoError> {
    unserved(site, || probe::curl(&site.intruder, &[&url(site)]))
}

/// The right name, vouched for by the wrong authority.
pub(crate) fn other_authority(site: &Site) -> Result<String, DemoError> {
    let (certificate, key) = forge(site)?;
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    unserved(site, || probe::curl(&site.intruder, &["--cert", &certificate, "--key", &key, &url(site)]))
}

/// The sidecar's log has each of the three.
pub(crate) fn logged(site: &Site) -> Result<String, DemoError> {
    let (mut seen, rule) = (0, "PeerAuthentication production/default");
    let third = |line: &str| {
        seen += usize::from(line.contains("refused: peer ") && line.contains(rule));
        seen == 3
    };
    let third = site.day.server.line(third, SOON)?;
    let event: serde_json::Value = serde_json::from_str(&third).unwrap_or_default();
    Ok(event.get("message").and_then(serde_json::Value::as_str).unwrap_or(&third).to_owned())
}

/// Refused, and the app has heard nothing of it.
fn unserved(site: &Site, attempt: impl FnOnce() -> Result<Reply, DemoError>) -> Result<String, DemoError> {
    let before = site.day.served()?;
    let evidence = attempt()?.refused()?;
    let after = site.day.served()?;
    ensure(before == after, || format!("the app has served {} more requests", after - before))?;
    Ok(evidence)
}

fn url(site: &Site) -> String {
    format!("https://{}/", site.day.door(PORT))
}

fn forge(site: &Site) -> Result<(PathBuf, PathBuf), DemoError> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = Issuer::new(authority, KeyPair::generate()?);
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = DistinguishedName::new();
    leaf.subject_alt_names = vec![SanType::URI(STOLEN_NAME.try_into()?)];
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;
    let paths = ["intruder.pem", "intruder.key"].map(|name| site.dir.path().join(name));
    let [certificate_path, key_path] = &paths;
    fs::write(certificate_path, certificate.pem())
        .and_then(|()| fs::write(key_path, key.serialize_pem()))
        .map_err(DemoError::io("the intruder's certificate"))?;
    Ok(paths.into())
}
