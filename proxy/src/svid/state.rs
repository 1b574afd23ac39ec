//! What survives a restart: the SVID, the trust bundle, and the key that a join token is being used with.
//!
//! Each file is replaced as a whole (written beside, synced, renamed), so that a crash leaves the old or the
//! new one. What cannot be read is moved aside, never deleted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::unistd::{AccessFlags, access};
use portcullis_identity::{
    Clock, JoinToken, SpiffeId, Svid, SvidDefect, SvidError, TrustBundle, TrustDomain, Workload,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const SVID: &str = "svid.json";
const BUNDLE: &str = "bundle.json";
const JOIN: &str = "join.json";
/// Longest state file read, in bytes: a bundle of 32 roots has a tenth of it.
const MAX_FILE: u64 = 1 << 20;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file system refuses.
    #[error("state {path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file was read and makes no sense.
    #[error("state file {path} cannot be used: {why}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The directory belongs to another sidecar, whose state must stay as it is.
    #[error("state file {path} holds the certificate of {found}, this workload is {own}")]
    OtherWorkload {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: SpiffeId,
        /// Who we are.
        own: SpiffeId,
    },
    /// The certificate was good once.
    #[error("the certificate in {path} expired {ago_s} s ago")]
    Expired {
        /// Which file.
        path: PathBuf,
        /// Seconds since NotAfter.
        ago_s: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SvidFile {
    /// PKCS#8, base64.
    key: Zeroizing<String>,
    /// DER, base64, leaf first.
    chain: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinFile {
    /// Of the token's secret, base64: tells one token from the next without keeping it.
    secret_sha256: String,
    /// PKCS#8, base64.
    key: Zeroizing<String>,
}

/// A directory of our own, mode 0700, with files of mode 0600.
#[derive(Debug)]
pub(super) struct StateDir(PathBuf);

impl StateDir {
    /// Makes the directory if need be, and sees that it can be written: what a later run cannot find again
    /// would cost it the join token.
    pub(super) fn open(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed(path, e))?;
        let may = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
        access(path, may).map_err(|errno| failed(path, errno.into()))?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn svid_path(&self) -> PathBuf {
        self.0.join(SVID)
    }

    /// The SVID and bundle of the last run; `None` when there was none.
    pub(super) fn load(
        &self,
        own: &Workload,
        trust_domain: &TrustDomain,
        clock: &Clock,
    ) -> Result<Option<(Svid, TrustBundle)>, StateError> {
        let Some(text) = self.read(SVID)? else { return Ok(None) };
        let corrupt = |why: String| StateError::Corrupt { path: self.0.join(SVID), why };
        let file: SvidFile = serde_json::from_str(&text).map_err(|e| corrupt(without_content(&e)))?;
        let not_base64 = |_| corrupt("not base64".into());
        let key = Zeroizing::new(STANDARD.decode(&*file.key).map_err(not_base64)?);
        let chain = file.chain.iter().map(|der| STANDARD.decode(der).map(CertificateDer::from));
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(not_base64)?;
        let svid = match Svid::new(chain, key, clock.unix_time()) {
            Err(SvidError::Leaf(SvidDefect::Expired { ago_s })) => {
                return Err(StateError::Expired { path: self.0.join(SVID), ago_s });
            }
            svid => svid.map_err(|e| corrupt(e.to_string()))?,
        };
        if svid.workload() != own {
            let (found, own) = (svid.workload().id().clone(), own.id().clone());
            return Err(StateError::OtherWorkload { path: self.0.join(SVID), found, own });
        }
        let corrupt = |why: String| StateError::Corrupt { path: self.0.join(BUNDLE), why };
        let text = self.read(BUNDLE)?.ok_or_else(|| corrupt("it is missing".into()))?;
        let bundle =
            TrustBundle::from_jwks(trust_domain.clone(), &text).map_err(|e| corrupt(e.to_string()))?;
        Ok(Some((svid, bundle)))
    }

    /// The bundle goes first: a bundle newer than its SVID still vouches for it, an older one may not.
    pub(super) fn save(&self, svid: &Svid, bundle: &TrustBundle) -> Result<(), StateError> {
        self.save_bundle(bundle)?;
        let key = Zeroizing::new(STANDARD.encode(svid.key_pkcs8().as_slice()));
        let chain = svid.chain().iter().map(|der| STANDARD.encode(der)).collect();
        self.write_json(SVID, &SvidFile { key, chain })
    }

    pub(super) fn save_bundle(&self, bundle: &TrustBundle) -> Result<(), StateError> {
        self.write(BUNDLE, bundle.to_jwks().as_bytes())
    }

    /// The key that `token` is being used with, as PKCS#8; `None` when it was not yet used.
    pub(super) fn load_join_key(&self, token: &JoinToken) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let Some(text) = self.read(JOIN)? else { return Ok(None) };
        let corrupt = |why: String| StateError::Corrupt { path: self.0.join(JOIN), why };
        let file: JoinFile = serde_json::from_str(&text).map_err(|e| corrupt(without_content(&e)))?;
        if file.secret_sha256 != STANDARD.encode(token.secret_hash()) {
            return Ok(None);
        }
        let key = STANDARD.decode(&*file.key).map_err(|_| corrupt("not base64".into()))?;
        Ok(Some(Zeroizing::new(key)))
    }

    pub(super) fn save_join_key(&self, token: &JoinToken, pkcs8: &[u8]) -> Result<(), StateError> {
        let secret_sha256 = STANDARD.encode(token.secret_hash());
        self.write_json(JOIN, &JoinFile { secret_sha256, key: Zeroizing::new(STANDARD.encode(pkcs8)) })
    }

    /// Renames an unusable file to `NAME.unusable-SECONDS`, for a person to look at.
    pub(super) fn move_aside(&self, path: &Path, now: Duration) -> Result<PathBuf, StateError> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".unusable-{}", now.as_secs()));
        let aside = PathBuf::from(name);
        match fs::rename(path, &aside) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(failed(path, e)),
            _ => Ok(aside),
        }
    }

    /// Moves certificate and bundle aside: whichever of them is at fault, what comes next would replace both.
    pub(super) fn move_svid_aside(&self, now: Duration) -> Result<(), StateError> {
        for name in [SVID, BUNDLE] {
            self.move_aside(&self.0.join(name), now)?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, StateError> {
        let path = self.0.join(name);
        let file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|e| failed(&path, e))?,
        };
        let mode = file.metadata().map_err(|e| failed(&path, e))?.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            tracing::warn!(
                "state file {} is open to every user (mode {mode:o}): chmod 600 it",
                path.display()
            );
        }
        let mut text = Zeroizing::new(String::new());
        match file.take(MAX_FILE).read_to_string(&mut text) {
            Err(e) if e.kind() == ErrorKind::InvalidData => {
                Err(StateError::Corrupt { path, why: "not UTF-8".into() })
            }
            Err(e) => Err(failed(&path, e)),
            Ok(_) => Ok(Some(text)),
        }
    }

    fn write_json(&self, name: &str, content: &impl Serialize) -> Result<(), StateError> {
        let text = serde_json::to_vec(content).map_err(|e| failed(&self.0.join(name), e.into()))?;
        self.write(name, &Zeroizing::new(text))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let (path, beside) = (self.0.join(name), self.0.join(format!(".{name}.new")));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            // The mode above is only for a new file, and a crash may have left one.
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            // The rename itself lasts once the directory is synced.
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|e| failed(&path, e))
    }
}

fn failed(path: &Path, source: io::Error) -> StateError {
    StateError::Io { path: path.to_owned(), source }
}

/// serde's text can quote what it read, and that may be a key.
fn without_content(error: &serde_json::Error) -> String {
    format!("not the JSON expected, at line {} column {}", error.line(), error.column())
}
