//! From paths to text: which files a policy consists of, and their bounded reading.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
        Err(message) => {
            faults.add(Place::of_file(path), message);
            Vec::new()
        }
    };
    Documents { file, documents }
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
fn yaml_files(source: &Path) -> io::Result<Vec<PathBuf>> {
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

fn text_of(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // Opening a pipe would block, reading a device might never end.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("cannot be read: not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("larger than {} KiB", MAX_FILE / 1024));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8: see byte {}", error.utf8_error().valid_up_to()))
}
