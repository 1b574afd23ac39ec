//! The store as a file: is it there, is it ours alone, and how a new one appears whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::seal::sync_directory;

/// First bytes of every SQLite database (file format, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Length of the header, and where the application id is in it (the same section).
const HEADER: usize = 100;
const APPLICATION_ID_AT: usize = 68;
/// "Port" in ASCII: tells our file from any other SQLite database.
pub(super) const APPLICATION_ID: u32 = 0x506f_7274;
/// What SQLite keeps beside the file.
const LOGS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// The right to run on a store: one process at a time. Ends with the process, however it ends.
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock beside the store (`FILE.db.lock`), never waiting for it.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Io`].
    pub fn acquire(store: &Path) -> Result<Self, StoreError> {
        // Not the store itself: closing any descriptor of it would drop SQLite's own POSIX locks.
        let path = beside(store, ".lock");
        let io = |source| StoreError::Io { action: "lock", path: path.clone(), source };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(store.to_owned())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// A path to build a store at, cleared of what a crash may have left there. Readable by the owner alone.
    pub(super) fn fresh_path_beside(&self, store: &Path) -> Result<PathBuf, StoreError> {
        let fresh = beside(store, ".new");
        for suffix in LOGS.iter().chain(&[""]) {
            let path = beside(&fresh, suffix);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Io { action: "clear", path, source });
                }
                _ => {}
            }
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(|source| StoreError::Io { action: "make", path: fresh.clone(), source })?;
        Ok(fresh)
    }

    /// Moves a finished store to its place, where there is none yet.
    pub(super) fn publish(&self, fresh: &Path, store: &Path) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { action: "make", path: store.to_owned(), source };
        File::open(fresh).and_then(|file| file.sync_all()).map_err(io)?;
        if exists(store)? {
            return Err(io(io::ErrorKind::AlreadyExists.into()));
        }
        fs::rename(fresh, store).and_then(|()| sync_directory(store)).map_err(io)
    }
}

/// Whether anything is at `path`. A log without its store is neither: SQLite would replay it into a new one.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    let there = |path: &Path| {
        path.try_exists().map_err(|source| StoreError::Io { action: "find", path: path.to_owned(), source })
    };
    if there(path)? {
        return Ok(true);
    }
    for suffix in ["-wal", "-journal"] {
        let log = beside(path, suffix);
        if there(&log)? {
            return Err(StoreError::OrphanedLog { store: path.to_owned(), log });
        }
    }
    Ok(false)
}

/// Looks at the header, so that SQLite never gets to turn an empty file into a database, or to touch another
/// program's.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    if !exists(path)? {
        return Err(StoreError::Missing(path.to_owned()));
    }
    let mut header = Vec::with_capacity(HEADER);
    File::open(path)
        .and_then(|file| file.take(HEADER as u64).read_to_end(&mut header))
        .map_err(|source| StoreError::Io { action: "read", path: path.to_owned(), source })?;
    if header.is_empty() {
        return Err(StoreError::Empty(path.to_owned()));
    }
    if !header.starts_with(MAGIC) {
        return Err(StoreError::NotSqlite(path.to_owned()));
    }
    let id = header.get(APPLICATION_ID_AT..).and_then(|rest| rest.first_chunk());
    match id.map(|id| u32::from_be_bytes(*id)) {
        Some(APPLICATION_ID) => Ok(()),
        Some(_) => Err(StoreError::Foreign(path.to_owned())),
        None => Err(StoreError::Damaged { path: path.to_owned(), detail: "cut short".to_owned() }),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
