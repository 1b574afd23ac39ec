//! The authority's memory: one SQLite file.
//!
//! What must not be lost (authorities, leaves, bound tokens) is committed with `synchronous=FULL` before anybody
//! hears of it. Private keys arrive here sealed. Decides nothing about who may have what.

mod file;
mod record;
mod report;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_identity::TrustDomain;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

pub use file::StoreLock;
pub(crate) use record::{AuthorityRecord, AuthorityState, Founding, LeafRecord, Meta, Role};
pub use report::{AuthorityLine, IdentityLine, Status};
pub(crate) use write::{AuditEntry, Redeemed, Write};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// Longest wait for another process's write, and as long again for our own turn: both fit in a request's deadline.
const BUSY: Duration = Duration::from_secs(4);

/// Why the store cannot be used. Nothing is changed or removed in any of these cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No such file.
    #[error("the store {} does not exist; `portcullis-ca run` makes it at its first start", .0.display())]
    Missing(PathBuf),
    /// A file of no bytes.
    #[error(
        "the store {} is empty: restore it from a backup, or remove it to start a new authority",
        .0.display()
    )]
    Empty(PathBuf),
    /// The file is gone but its write-ahead log or journal is there.
    #[error(
        "the store {} is gone, but its log {} is there: restore both from a backup, or remove the log to start \
         a new authority",
        store.display(), log.display()
    )]
    OrphanedLog {
        /// The store.
        store: PathBuf,
        /// What was left.
        log: PathBuf,
    },
    /// Not SQLite at all.
    #[error("{} is not a store: it is not an SQLite file", .0.display())]
    NotSqlite(PathBuf),
    /// Somebody else's SQLite file.
    #[error("{} is not a store of portcullis-ca: it is another program's database", .0.display())]
    Foreign(PathBuf),
    /// Broken pages, or cut short.
    #[error("the store {} is damaged ({detail}): restore it from a backup", path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// SQLite writes beside the file even for a reader.
    #[error("the store {} cannot be opened for writing ({detail}): give this user write access to it and its directory", path.display())]
    Unwritable {
        /// The store.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// Written by a newer version.
    #[error(
        "the store {} has schema {found}, this version knows {known}: run the newer portcullis-ca",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// In the file.
        found: i64,
        /// The newest known.
        known: i64,
    },
    /// Written by an older version, and this command does not migrate.
    #[error(
        "the store {} has schema {found}, this version needs {known}: start `portcullis-ca run` once to bring it up",
        path.display()
    )]
    Older {
        /// The store.
        path: PathBuf,
        /// In the file.
        found: i64,
        /// The version needed.
        known: i64,
    },
    /// Another process runs on this store.
    #[error("the store {} is in use by another `portcullis-ca run`", .0.display())]
    Locked(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A row that this program did not write.
    #[error("the store holds a broken row: {0}")]
    Row(String),
    /// Anything else that SQLite said.
    #[error("the store failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up.
    #[error("the store's schema could not be brought up: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Makes a store that holds a new authority: all of it or, after a crash at any point, none of it.
    ///
    /// # Errors
    /// [`StoreError`]; also when something is there already.
    pub(crate) async fn create(path: &Path, lock: &StoreLock, founding: &Founding) -> Result<(), StoreError> {
        let beside = lock.fresh_path_beside(path)?;
        let options = connect_options(&beside)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Delete)
            .pragma("application_id", file::APPLICATION_ID.to_string());
        let store = Self::connect(options, path).await?;
        MIGRATIONS.run(&store.pool).await?;
        let mut write = store.begin().await?;
        write.found(founding).await?;
        write.commit().await?;
        store.close().await;
        lock.publish(&beside, path)
    }

    /// Opens an existing store and checks that it is whole; the holder of the lock also brings its schema up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: &Path, lock: Option<&StoreLock>) -> Result<Self, StoreError> {
        file::check(path)?;
        let store = Self::connect(connect_options(path), path).await?;
        store.check(path, lock.is_some()).await.map_err(|error| damage(error, path))?;
        Ok(store)
    }

    async fn connect(options: SqliteConnectOptions, path: &Path) -> Result<Self, StoreError> {
        // One connection: writers wait in our queue, which is fair, and not in SQLite's, which polls.
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(BUSY).connect_with(options);
        Ok(Self { pool: pool.await.map_err(|error| damage(error.into(), path))? })
    }

    async fn check(&self, path: &Path, may_migrate: bool) -> Result<(), StoreError> {
        let path = || path.to_owned();
        let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&self.pool).await?;
        if found != "ok" {
            return Err(StoreError::Damaged { path: path(), detail: found });
        }
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
        let found: Option<i64> =
            sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&self.pool).await?;
        match found.unwrap_or_default() {
            found if found > known => Err(StoreError::Newer { path: path(), found, known }),
            found if found < known && !may_migrate => Err(StoreError::Older { path: path(), found, known }),
            _ if may_migrate => Ok(MIGRATIONS.run(&self.pool).await?),
            _ => Ok(()),
        }
    }

    /// Starts a transaction that holds the write lock from its beginning, so that what it reads stays true.
    pub(crate) async fn begin(&self) -> Result<Write, StoreError> {
        let transaction: Transaction<'static, Sqlite> = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Write::new(transaction))
    }

    /// Finishes what is queued and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Whether there is a store at `path`: an absent file is none, anything else is one or an error.
    ///
    /// # Errors
    /// [`StoreError::OrphanedLog`], [`StoreError::Io`].
    pub fn exists(path: &Path) -> Result<bool, StoreError> {
        file::exists(path)
    }

    /// Whom the store's authority vouches for, and the rest of the one row that there is one of.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn meta(&self) -> Result<Meta, StoreError> {
        let row: Option<(String, i64, Vec<u8>)> =
            sqlx::query_as("SELECT trust_domain, bundle_generation, key_check FROM meta")
                .fetch_optional(&self.pool)
                .await?;
        let row = row.ok_or_else(|| StoreError::Row("the one that names the trust domain is missing".into()));
        let (trust_domain, generation, key_check) = row?;
        let trust_domain =
            TrustDomain::parse(&trust_domain).map_err(|defect| StoreError::Row(defect.to_string()))?;
        Ok(Meta { trust_domain, bundle_generation: generation.unsigned_abs(), key_check })
    }

    /// All authorities, newest end first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn authorities(&self) -> Result<Vec<AuthorityRecord>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT id, role, state, certificate, sealed_key, not_after FROM authorities \
             ORDER BY not_after DESC, id",
        );
        rows.fetch_all(&self.pool).await?.into_iter().map(AuthorityRecord::from_row).collect()
    }
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true)
}

/// Tells a damaged file (SQLITE_CORRUPT, SQLITE_NOTADB and a missing table) and missing rights (SQLITE_READONLY,
/// SQLITE_CANTOPEN) from a busy or full disk.
fn damage(error: StoreError, path: &Path) -> StoreError {
    let StoreError::Database(sqlx::Error::Database(inner)) = &error else { return error };
    // The low byte of an extended result code is the primary one.
    let code = inner.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
    if matches!(code, Some(11 | 26)) || inner.message().starts_with("no such table") {
        return StoreError::Damaged { path: path.to_owned(), detail: inner.message().to_owned() };
    }
    if matches!(code, Some(8 | 14)) {
        return StoreError::Unwritable { path: path.to_owned(), detail: inner.message().to_owned() };
    }
    error
}
