//! Where the join token comes from.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portcullis_identity::{JoinToken, SpiffeId, TokenDefect, Workload};
use zeroize::Zeroizing;

/// Longest token file read, in bytes: above the longest token, so that a longer one is still named as such.
const MAX_FILE: u64 = 8192;

/// Where the join token comes from. A file is read at each use, so that a new token can be laid in its place.
#[derive(Clone)]
pub enum TokenSource {
    /// A file that holds the token's text.
    File(PathBuf),
    /// The token's text.
    Text(Zeroizing<String>),
}

/// As errors name it.
impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "join token file {}", path.display()),
            Self::Text(_) => f.write_str("the join token given"),
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Text(_) => f.write_str("Text(..)"),
        }
    }
}

/// Why there is no usable join token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("join token file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is no join token.
    #[error("{place}: {defect}")]
    Malformed {
        /// Where it stands.
        place: String,
        /// What is wrong.
        defect: TokenDefect,
    },
    /// A token for somebody else.
    #[error("{place}: it is for {token}, this workload is {own}")]
    OtherIdentity {
        /// Where it stands.
        place: String,
        /// Whom the token names.
        token: SpiffeId,
        /// Who we are.
        own: SpiffeId,
    },
}

impl TokenSource {
    /// Reads the token and sees that it is for `own`.
    pub(super) fn read(&self, own: &Workload) -> Result<(JoinToken, Zeroizing<String>), TokenError> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => {
                read_file(path).map_err(|source| TokenError::File { path: path.clone(), source })?
            }
        };
        let place = self.to_string();
        let token = JoinToken::parse(&text)
            .map_err(|defect| TokenError::Malformed { place: place.clone(), defect })?;
        if token.workload() == own {
            Ok((token, Zeroizing::new(text.trim().to_owned())))
        } else {
            let token = token.workload().id().clone();
            Err(TokenError::OtherIdentity { place, token, own: own.id().clone() })
        }
    }
}

fn read_file(path: &Path) -> io::Result<Zeroizing<String>> {
    // Opening a pipe would block until somebody writes, perhaps for ever.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}
