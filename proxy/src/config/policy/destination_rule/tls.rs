//! `tls`: who must answer, and what is shown to them.

use std::path::{Path, PathBuf};

use portcullis_identity::SpiffeId;
use rustls_pki_types::ServerName;

use super::super::service_entry::read_subject_alt_names;
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, Place, quoted};
use crate::config::values::host;

const REFUSED: [(&str, &str); 2] = [
    ("caCrl", "no revocation list is read; take the authority out of caCertificates"),
    (
        "credentialName",
        "there is no API server to ask; write clientCertificate, privateKey and caCertificates",
    ),
];
/// Longest path of a file, as in Linux (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// `tls.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum TlsMode {
    /// Mutual TLS with the own identity, towards a SPIFFE ID.
    IstioMutual,
    /// Plaintext, by exception.
    Disable,
    /// TLS towards a DNS name.
    Simple,
    /// TLS towards a DNS name, with a client certificate from a file.
    Mutual,
}

impl TlsMode {
    /// Whether the server proves a DNS name and not a SPIFFE ID.
    pub(in super::super) fn is_egress(self) -> bool {
        match self {
            Self::IstioMutual | Self::Disable => false,
            Self::Simple | Self::Mutual => true,
        }
    }
}

/// A file that a rule names, and where.
#[derive(Debug, Clone)]
pub(in super::super) struct FileName {
    pub(in super::super) path: PathBuf,
    pub(in super::super) place: Place,
}

/// `tls` as written; what is left out is inherited, field by field. A block with a mode towards SPIFFE IDs inherits
/// nothing from one towards DNS names, and the reverse: the names of one mean nothing to the other.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct TlsSettings {
    pub(in super::super) mode: Option<TlsMode>,
    pub(in super::super) sni: Option<ServerName<'static>>,
    pub(in super::super) identities: Option<Vec<SpiffeId>>,
    pub(in super::super) dns_names: Option<Vec<ServerName<'static>>>,
    pub(in super::super) ca_certificates: Option<FileName>,
    pub(in super::super) client_certificate: Option<FileName>,
    pub(in super::super) private_key: Option<FileName>,
}

impl TlsSettings {
    pub(super) fn or(self, wider: &Self) -> Self {
        if let (Some(own), Some(other)) = (self.mode, wider.mode)
            && own.is_egress() != other.is_egress()
        {
            return self;
        }
        Self {
            mode: self.mode.or(wider.mode),
            sni: self.sni.or_else(|| wider.sni.clone()),
            identities: self.identities.or_else(|| wider.identities.clone()),
            dns_names: self.dns_names.or_else(|| wider.dns_names.clone()),
            ca_certificates: self.ca_certificates.or_else(|| wider.ca_certificates.clone()),
            client_certificate: self.client_certificate.or_else(|| wider.client_certificate.clone()),
            private_key: self.private_key.or_else(|| wider.private_key.clone()),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.ca_certificates, &self.client_certificate, &self.private_key];
        files.into_iter().flatten().map(|file| file.path.as_path())
    }

    /// Mutual TLS unless another mode is written: an omitted mode never means plaintext.
    pub(in super::super) fn mode(&self) -> TlsMode {
        self.mode.unwrap_or(TlsMode::IstioMutual)
    }
}

/// `wider` is the mode that holds when the block writes none.
pub(super) fn read(node: &Node<'_>, wider: TlsMode, faults: &mut Faults) -> TlsSettings {
    let Some(mut fields) = node.fields(faults) else { return TlsSettings::default() };
    let mode_node = fields.take("mode");
    let mode = mode_node.as_ref().and_then(|node| read_mode(node, faults));
    let mut settings = TlsSettings { mode, ..TlsSettings::default() };
    settings.sni = fields.take("sni").and_then(|node| node.parsed(faults, server_name));
    let in_force = mode.unwrap_or(wider);
    if let Some(names) = fields.take("subjectAltNames") {
        if in_force.is_egress() {
            settings.dns_names = Some(read_dns_names(&names, faults));
        } else {
            settings.identities = Some(read_subject_alt_names(&names, faults));
        }
    }
    // A bad mode has its fault, and would only give every file another one.
    let judged = (mode_node.is_none() || mode.is_some()).then_some(in_force);
    let mut file = |name, fits: fn(TlsMode) -> bool, modes| {
        let node = fields.take(name)?;
        if judged.is_some_and(|mode| !fits(mode)) {
            node.fault(
                faults,
                format!("{name} is for the mode {modes} alone: remove it, or write that mode"),
            );
        }
        node.parsed(faults, |text| file_name(text, &node.place()))
    };
    settings.ca_certificates = file("caCertificates", TlsMode::is_egress, "SIMPLE or MUTUAL");
    settings.client_certificate = file("clientCertificate", |mode| mode == TlsMode::Mutual, "MUTUAL");
    settings.private_key = file("privateKey", |mode| mode == TlsMode::Mutual, "MUTUAL");
    read_skip_verify(&mut fields, faults);
    fields.refuse(&REFUSED, faults);
    fields.finish(&[], faults);
    settings
}

fn read_mode(node: &Node<'_>, faults: &mut Faults) -> Option<TlsMode> {
    match node.text(faults)? {
        "ISTIO_MUTUAL" => Some(TlsMode::IstioMutual),
        "DISABLE" => Some(TlsMode::Disable),
        "SIMPLE" => Some(TlsMode::Simple),
        "MUTUAL" => Some(TlsMode::Mutual),
        other => {
            let words = "ISTIO_MUTUAL, SIMPLE, MUTUAL or DISABLE";
            node.fault(faults, format!("{} is not a mode: write {words}", quoted(other)));
            None
        }
    }
}

fn read_skip_verify(fields: &mut Fields<'_>, faults: &mut Faults) {
    let Some(node) = fields.take("insecureSkipVerify") else { return };
    if node.boolean(faults) == Some(true) {
        node.fault(
            faults,
            "not supported: insecureSkipVerify; a server that proves nothing can be anyone: write caCertificates",
        );
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host(text)?).map_err(|_| "not a DNS name".to_owned())
}

/// The DNS names of which a server must prove one. An empty list is a fault: it never means any.
fn read_dns_names(node: &Node<'_>, faults: &mut Faults) -> Vec<ServerName<'static>> {
    let dns = |text: &str| {
        if text.contains("://") {
            Err("with SIMPLE and MUTUAL the server proves a DNS name; a SPIFFE ID needs ISTIO_MUTUAL"
                .to_owned())
        } else {
            server_name(text)
        }
    };
    if node.is_empty_list() {
        node.fault(faults, "an empty list never means any: write a DNS name, or remove the field");
    }
    node.list(faults, |node, faults| node.parsed(faults, dns))
}

/// A path is taken from the directory of the file that names it.
fn file_name(text: &str, place: &Place) -> Result<FileName, String> {
    if text.is_empty() || text.len() > MAX_PATH || text.chars().any(char::is_control) {
        return Err("not the path of a file".to_owned());
    }
    let directory = Path::new(place.file()).parent().unwrap_or(Path::new(""));
    Ok(FileName { path: directory.join(text), place: place.clone() })
}
