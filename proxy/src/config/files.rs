//! From paths to text: which files a policy consists of, and their bounded reading.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use nix::errno::Errno;
use zeroize::Zeroizing;

use super::report::{Faults, Place, file_name};
use super::yaml::{MAX_FILE, Raw, parse};

/// Files of one policy.
const MAX_FILES: usize = 1000;

/// A file's name and its documents, empty ones left out.
pub(super) struct Documents {
    pub(super) file: Arc<str>,
    pub(super) documents: Vec<Raw>,
}

/// Reads and parses one file.
pub(super) fn read(path: &Path, faults: &mut Faults) -> Documents {
    let file = file_name(path);
    let documents = match text_of(path) {
        Ok(text) => parse(&file, &text, faults),
        Err(why) => {
            faults.add(Place::of_file(path), why.to_string());
            Vec::new()
        }
    };
    Documents { file, documents }
}

/// What the files of a policy hold: equal while neither a name nor a byte has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Digest(Vec<u8>);

/// Reads all files that `sources` name, and `others`, which may hold keys. One that cannot be read counts by the
/// reason.
///
/// # Errors
/// When it is this process that lacks descriptors: that says nothing about the files.
pub(super) fn digest(sources: &[PathBuf], others: &[PathBuf]) -> io::Result<Digest> {
    let mut hash = digest::Context::new(&digest::SHA256);
    // With its length before it, no text can be taken for another's end.
    let mut add = |bytes: &[u8]| {
        hash.update(&bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    let mut left = MAX_FILES + 1;
    for source in sources {
        add(source.as_os_str().as_encoded_bytes());
        let files = match yaml_files(source) {
            Ok(files) => files,
            Err(error) if is_shortage(&error) => return Err(error),
            Err(error) => {
                add(error.to_string().as_bytes());
                continue;
            }
        };
        for path in files.iter().take(left) {
            add(path.as_os_str().as_encoded_bytes());
            match text_of(path) {
                Ok(text) => add(text.as_bytes()),
                Err(Unreadable::Io(error)) if is_shortage(&error) => return Err(error),
                Err(why) => add(why.to_string().as_bytes()),
            }
        }
        left = left.saturating_sub(files.len());
    }
    for path in others.iter().take(MAX_FILES) {
        add(path.as_os_str().as_encoded_bytes());
        match bytes_of(path) {
            Ok(bytes) => add(&bytes),
            Err(Unreadable::Io(error)) if is_shortage(&error) => return Err(error),
            Err(why) => add(why.to_string().as_bytes()),
        }
    }
    Ok(Digest(hash.finish().as_ref().to_vec()))
}

/// Somebody holds many connections open.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

/// Reads and parses all files that `sources` name, each once.
pub(super) fn read_all(sources: &[PathBuf], faults: &mut Faults) -> Vec<Documents> {
    let mut paths = Vec::new();
    for source in sources {
        match yaml_files(source) {
            Ok(files) => paths.extend(files),
            Err(error) => faults.add(Place::of_file(source), format!("cannot be read: {error}")),
        }
    }
    // A directory and a file in it may both be named.
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    if let Some(beyond) = paths.get(MAX_FILES) {
        faults.add(Place::of_file(beyond), format!("more than {MAX_FILES} policy files"));
        paths.truncate(MAX_FILES);
    }
    paths.iter().map(|path| read(path, faults)).collect()
}

/// The file itself, or the `*.yaml` and `*.yml` of a directory, sorted. Hidden ones are left out: a mounted
/// ConfigMap keeps its generations in them and links to the current one.
pub(super) fn yaml_files(source: &Path) -> io::Result<Vec<PathBuf>> {
    if !source.metadata()?.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in source.read_dir()? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("cannot be read: not a regular file")]
    NotAFile,
    #[error("larger than {} KiB", MAX_FILE / 1024)]
    TooLarge,
    #[error("not UTF-8: see byte {0}")]
    NotUtf8(usize),
}

fn text_of(path: &Path) -> Result<String, Unreadable> {
    let bytes = std::mem::take(&mut *bytes_of(path)?);
    String::from_utf8(bytes).map_err(|error| Unreadable::NotUtf8(error.utf8_error().valid_up_to()))
}

/// A bounded read, wiped when it is dropped.
fn bytes_of(path: &Path) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    // Opening a pipe would block, reading a device might never end.
    if !path.metadata()?.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Unreadable::TooLarge);
    }
    Ok(bytes)
}
