//! Keys at rest: the sealing key (from a file or the environment), and the authorities' keys sealed under it.
//!
//! AES-256-GCM with a random nonce; the associated data names the authority, so that a sealed key cannot be
//! moved to another row. Knows nothing of tables.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
/// A key is 44 characters of base64 and a newline; anything much longer is some other file.
const MAX_KEY_FILE: usize = 256;

/// Why there is no usable sealing key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 32 bytes in base64.
    #[error(
        "{origin} does not hold a key: 32 bytes in base64 are needed (`openssl rand -base64 32` makes one)"
    )]
    Format {
        /// The file or variable.
        origin: String,
    },
    /// The file cannot be read or written.
    #[error("cannot {action} the key file {}: {source}", path.display())]
    Io {
        /// `read` or `make`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The store is there, its key is not.
    #[error(
        "the key file {} is missing, and the store {} cannot be read without it: bring the key back from where \
         it is kept; a new key cannot replace it",
        path.display(), store.display()
    )]
    Missing {
        /// The key file.
        path: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// Neither file nor variable named.
    #[error("no encryption key: pass --key-file FILE or set PORTCULLIS_CA_KEY")]
    None,
    /// The cryptographic library failed.
    #[error("the encryption failed")]
    Crypto,
}

/// A private key that signs certificates. Zeroised on drop.
pub(crate) struct SigningKey(Zeroizing<KeyPair>);

impl SigningKey {
    pub(crate) fn new(key: KeyPair) -> Self {
        Self(Zeroizing::new(key))
    }

    pub(crate) fn key_pair(&self) -> &KeyPair {
        &self.0
    }
}

/// The key that all private keys in the store are encrypted with.
pub struct SealingKey(RandomizedNonceKey);

impl SealingKey {
    /// Reads 32 bytes of base64; `origin` names the source in errors.
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn from_base64(text: &str, origin: &str) -> Result<Self, KeyError> {
        let defect = || KeyError::Format { origin: origin.to_owned() };
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| defect())?);
        if bytes.len() != KEY_BYTES {
            return Err(defect());
        }
        Self::from_bytes(&bytes)
    }

    /// A fresh random key, for a store that ends with the process's use of it.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn random() -> Result<Self, KeyError> {
        Self::from_bytes(random_key()?.as_slice())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| KeyError::Crypto)
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::Format`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { action: "read", path: path.to_owned(), source };
        let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE));
        File::open(path).map_err(io)?.take(MAX_KEY_FILE as u64).read_to_string(&mut text).map_err(io)?;
        Self::from_base64(&text, &format!("the key file {}", path.display()))
    }

    /// Makes a key file, readable by its owner alone. The caller holds the store's lock: no two processes do this.
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::Crypto`].
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { action: "make", path: path.to_owned(), source };
        let bytes = random_key()?;
        let text = Zeroizing::new(STANDARD.encode(bytes.as_slice()));
        // Written beside and renamed: a crash leaves either no key or a whole one.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&beside, path).and_then(|()| sync_directory(path)).map_err(io)?;
        Self::from_bytes(bytes.as_slice())
    }

    /// Encrypts; the answer is nonce, ciphertext and tag.
    pub(crate) fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| KeyError::Crypto)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Decrypts what [`Self::seal`] made for the same name; `None` for another key, another name or changed bytes.
    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(name.as_bytes()), &mut buffer).ok()?.len();
        buffer.truncate(length);
        Some(buffer)
    }
}

fn random_key() -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| KeyError::Crypto)?;
    Ok(bytes)
}

/// Makes a rename in the directory of `path` survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_sealed_secret_opens_under_its_key_and_name_alone() {
        let (key, other) = (SealingKey::random().unwrap(), SealingKey::random().unwrap());
        let sealed = key.seal("a", b"secret").unwrap();
        assert_eq!(key.open("a", &sealed).unwrap().as_slice(), b"secret");
        assert!(key.open("b", &sealed).is_none());
        assert!(other.open("a", &sealed).is_none());
        for end in 0..sealed.len() {
            assert!(key.open("a", &sealed[..end]).is_none());
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open("a", &changed).is_none());
        }
        assert_ne!(sealed, key.seal("a", b"secret").unwrap(), "the nonce is random");
    }

    #[test]
    fn a_key_file_is_private_and_survives_a_leftover() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(directory.path().join("key.new"), "half a k").unwrap();
        let sealed = SealingKey::create(&path).unwrap().seal("a", b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SealingKey::load(&path).unwrap().open("a", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_32_bytes_of_base64_are_a_key() {
        for text in ["", "AAAA", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33]), "not base64!"] {
            assert!(matches!(SealingKey::from_base64(text, "x"), Err(KeyError::Format { .. })), "{text}");
        }
        assert!(SealingKey::from_base64(&STANDARD.encode([0; 32]), "x").is_ok());
    }
}
