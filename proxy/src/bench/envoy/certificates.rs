//! A small authority and two leaves with SPIFFE IDs, all P-256: what our own pair gets from `portcullis-ca`.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// File names and their texts, in PEM: `ca.pem`, and for each leaf `NAME.pem` and `NAME.key`.
pub(super) fn make(leaves: &[(&str, &str)]) -> Result<Vec<(String, String)>, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "bench");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let mut files = vec![("ca.pem".to_owned(), root.pem())];
    for (name, id) in leaves {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI((*id).try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        files.push((format!("{name}.pem"), params.signed_by(&key, &issuer)?.pem()));
        files.push((format!("{name}.key"), key.serialize_pem()));
    }
    Ok(files)
}
