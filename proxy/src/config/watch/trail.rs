//! Which names stand between a path and its file: links on the way, and where the way ends.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::config::files::yaml_files;

/// Links on the way to one file; the kernel gives up at as many (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Directories watched for one policy. What lies beyond is found by the poll.
const MAX_DIRECTORIES: usize = 1024;

/// What has to be watched for a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trails {
    /// Directories to watch, with device and inode: another directory in the same place is another.
    directories: BTreeMap<PathBuf, (u64, u64)>,
    /// Those in which every name matters.
    whole: BTreeSet<PathBuf>,
    /// Names that matter in the others.
    names: BTreeSet<PathBuf>,
}

enum Step {
    /// The path up to a link, and where it leads.
    Link(PathBuf, PathBuf),
    /// The path up to what is not there.
    Missing(PathBuf),
    /// The path without links.
    End(PathBuf),
}

impl Trails {
    /// Of files and directories, and of `files` that they name. Some of all these may not exist (yet).
    pub(super) fn of(sources: &[PathBuf], files: &[PathBuf]) -> Self {
        let mut trails = Self::default();
        for source in sources {
            let Some(end) = trails.follow(source) else { continue };
            if !end.is_dir() {
                continue;
            }
            trails.watch(&end);
            trails.whole.insert(end);
            for file in yaml_files(source).unwrap_or_default() {
                if file.is_symlink() {
                    trails.follow(&file);
                }
            }
        }
        for file in files {
            trails.follow(file);
        }
        trails
    }

    /// Directories to watch.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.keys().map(PathBuf::as_path)
    }

    /// Whether something that happens to `path` may change the policy.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        self.names.contains(path)
            || self.is_watched(path)
            || path.parent().is_some_and(|parent| self.whole.contains(parent))
    }

    /// Whether `path` is one of the directories.
    pub(super) fn is_watched(&self, path: &Path) -> bool {
        self.directories.contains_key(path)
    }

    /// Takes up every name on the way; where it ends, if it does.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let mut path = std::path::absolute(path).ok()?;
        for _ in 0..MAX_LINKS {
            match step(&path) {
                Step::Link(at, to) => {
                    self.name(at);
                    path = to;
                }
                Step::Missing(at) => {
                    self.name(at);
                    return None;
                }
                Step::End(at) => {
                    self.name(at.clone());
                    return Some(at);
                }
            }
        }
        None
    }

    fn name(&mut self, path: PathBuf) {
        if let Some(parent) = path.parent() {
            self.watch(parent);
        }
        self.names.insert(path);
    }

    fn watch(&mut self, directory: &Path) {
        if self.directories.len() >= MAX_DIRECTORIES {
            return;
        }
        if let Ok(metadata) = directory.metadata() {
            self.directories.insert(directory.to_owned(), (metadata.dev(), metadata.ino()));
        }
    }
}

/// Walks an absolute path to its first link, or to its end.
fn step(path: &Path) -> Step {
    let mut walked = PathBuf::new();
    let mut rest = path.components();
    while let Some(component) = rest.next() {
        match component {
            // There was no link before it, so this is what the kernel does.
            Component::ParentDir => {
                walked.pop();
                continue;
            }
            Component::CurDir => continue,
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => walked.push(component),
        }
        let Ok(metadata) = walked.symlink_metadata() else { return Step::Missing(walked) };
        if metadata.is_symlink() {
            let Ok(target) = walked.read_link() else { return Step::Missing(walked) };
            let to = walked.parent().unwrap_or(Path::new("/")).join(target).join(rest.as_path());
            return Step::Link(walked, to);
        }
    }
    Step::End(walked)
}
