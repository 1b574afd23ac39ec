//! The authority itself: a root, the intermediate that signs, the bundle, and the store they live in.
//!
//! Opening is where everything about a store that can be wrong is found. Knows nothing of connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use portcullis_identity::{BundleError, Clock, Fingerprint, IdDefect, TrustBundle, TrustDomain, Workload};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::{Mutex, watch};

use crate::profile::{self, ProfileError, Signer};
use crate::refusals::RefusalBudget;
use crate::seal::{KeyError, SealingKey, SigningKey};
use crate::settings::{Lives, Settings};
use crate::store::{AuthorityRecord, AuthorityState, Founding, Role, Store, StoreError, StoreLock};

const KEY_CHECK: (&str, &[u8]) = ("key-check", b"portcullis-ca");
/// An intermediate with less left than this many leaf lives is succeeded: a full leaf life always fits, with
/// as much again for a store that cannot be written for a while.
const SUCCEEDED_AT: u32 = 2;
const PRUNE_EVERY: u64 = 60;

/// Why an authority cannot be opened, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The encryption.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The store was made with another key.
    #[error("the key does not open the store {}: it was made with another key", .0.display())]
    WrongKey(PathBuf),
    /// The store vouches for somebody else.
    #[error("the store {} is of trust domain {found}, not {wanted}", path.display())]
    TrustDomain {
        /// The store.
        path: PathBuf,
        /// In the store.
        found: TrustDomain,
        /// As set.
        wanted: TrustDomain,
    },
    /// A root was given, and the store has another.
    #[error("the store {} has root {found}, --root-cert is {given}", path.display())]
    OtherRoot {
        /// The store.
        path: PathBuf,
        /// In the store.
        found: Fingerprint,
        /// As given.
        given: Fingerprint,
    },
    /// The root's time is over.
    #[error("the root in the store {} ended {ago_s} s ago: a new authority is needed", path.display())]
    RootEnded {
        /// The store.
        path: PathBuf,
        /// Seconds since its end.
        ago_s: u64,
    },
    /// A row that should be there is not.
    #[error("the store has no active {0}")]
    NoActive(&'static str),
    /// A key in the store does not open, or is not what was sealed.
    #[error("the key of authority {0} in the store is damaged: restore the store from a backup")]
    SealedKey(String),
    /// The roots in the store make no bundle.
    #[error("the roots in the store make no trust bundle: {0}")]
    Bundle(#[from] BundleError),
    /// The trust domain is too long for the authority's own name.
    #[error("the authority's own identity: {0}")]
    OwnIdentity(#[from] IdDefect),
}

/// An authority at work. One per store.
pub struct Authority {
    pub(crate) clock: Clock,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) own: Workload,
    pub(crate) lives: Lives,
    pub(crate) store: Store,
    pub(crate) refusals: RefusalBudget,
    sealing: SealingKey,
    root: Signer,
    intermediate: ArcSwap<Signer>,
    succession: Mutex<()>,
    bundle: watch::Sender<Arc<TrustBundle>>,
    pruned_at: AtomicU64,
    _lock: StoreLock,
}

impl Authority {
    /// Opens the store at `path`; where there is none, makes one with a new authority in it.
    ///
    /// # Errors
    /// [`AuthorityError`]; nothing is changed then.
    pub async fn open(
        path: &Path,
        lock: StoreLock,
        sealing: SealingKey,
        settings: Settings,
        clock: Clock,
    ) -> Result<Self, AuthorityError> {
        let own = crate::own_workload(&settings.trust_domain)?;
        let lives = settings.lives;
        let given = settings.given_root.as_ref().map(|given| Fingerprint::of(&given.certificate));
        let trust_domain = settings.trust_domain.clone();
        if !Store::exists(path)? {
            Store::create(path, &lock, &found(settings, &sealing, &clock)?).await?;
        }
        let store = Store::open(path, Some(&lock)).await?;
        let meta = store.meta().await?;
        if meta.trust_domain != trust_domain {
            let (path, found) = (path.to_owned(), meta.trust_domain);
            return Err(AuthorityError::TrustDomain { path, found, wanted: trust_domain });
        }
        check_key(&store, &sealing, path).await?;
        let records = store.authorities().await?;
        let root = active(&records, Role::Root, &sealing)?;
        let intermediate = active(&records, Role::Intermediate, &sealing)?;
        let found = Fingerprint::of(&root.certificate);
        if let Some(given) = given.filter(|given| *given != found) {
            return Err(AuthorityError::OtherRoot { path: path.to_owned(), found, given });
        }
        let now = clock.now().as_secs();
        if now > root.not_after {
            return Err(AuthorityError::RootEnded { path: path.to_owned(), ago_s: now - root.not_after });
        }
        let bundle = bundle_of(&trust_domain, meta.bundle_generation, records)?;
        Ok(Self {
            clock,
            trust_domain,
            own,
            lives,
            store,
            refusals: RefusalBudget::default(),
            sealing,
            root,
            intermediate: ArcSwap::from_pointee(intermediate),
            succession: Mutex::new(()),
            bundle: watch::Sender::new(Arc::new(bundle)),
            pruned_at: AtomicU64::new(0),
            _lock: lock,
        })
    }

    /// The roots that peers verify with, now.
    #[must_use]
    pub fn bundle(&self) -> Arc<TrustBundle> {
        self.bundle.borrow().clone()
    }

    /// The same, and every later generation.
    #[must_use]
    pub fn watch_bundle(&self) -> watch::Receiver<Arc<TrustBundle>> {
        self.bundle.subscribe()
    }

    /// The root certificate that signs intermediates.
    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root.certificate
    }

    /// The authority's time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The store, for reading.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The authority's own SPIFFE ID, which nobody else gets.
    #[must_use]
    pub fn own(&self) -> &Workload {
        &self.own
    }

    /// What time brings: a successor for the intermediate, a bundle changed in the store, rows that are over.
    ///
    /// # Errors
    /// [`AuthorityError`]; what is in use stays in use.
    pub async fn maintain(&self) -> Result<(), AuthorityError> {
        self.issuer().await?;
        let generation = self.store.meta().await?.bundle_generation;
        if generation != self.bundle.borrow().generation() {
            let bundle = bundle_of(&self.trust_domain, generation, self.store.authorities().await?)?;
            self.bundle.send_replace(Arc::new(bundle));
        }
        let now = self.clock.now().as_secs();
        if now >= self.pruned_at.load(Ordering::Relaxed).saturating_add(PRUNE_EVERY) {
            let mut write = self.store.begin().await?;
            write.prune(now).await?;
            write.commit().await?;
            self.pruned_at.store(now, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The intermediate to sign with: the active one, or its successor when it is about to end.
    pub(crate) async fn issuer(&self) -> Result<Arc<Signer>, AuthorityError> {
        let active = self.intermediate.load_full();
        if !self.is_due(&active) {
            return Ok(active);
        }
        let _turn = self.succession.lock().await;
        let active = self.intermediate.load_full();
        if !self.is_due(&active) {
            return Ok(active); // made while we waited
        }
        let life = self.lives.intermediate();
        let next = profile::intermediate(&self.trust_domain, &self.root, self.clock.now(), life)?;
        let record = record_of(&next, Role::Intermediate, &self.sealing)?;
        let mut write = self.store.begin().await?;
        write.succeed_intermediate(&record).await?;
        write.commit().await?;
        tracing::info!(authority = record.id, not_after = record.not_after, "new intermediate");
        let next = Arc::new(next);
        self.intermediate.store(Arc::clone(&next));
        Ok(next)
    }

    /// Whether a successor is needed, and would last longer: near the root's end it would not.
    fn is_due(&self, active: &Signer) -> bool {
        let now = self.clock.now();
        let left = Duration::from_secs(active.not_after).saturating_sub(now);
        let next_end = profile::clamped(now, self.lives.intermediate(), &self.root);
        left < self.lives.leaf() * SUCCEEDED_AT && next_end.is_ok_and(|end| end > active.not_after)
    }
}

/// Checks that `sealing` is the key that the store was made with.
pub(crate) async fn check_key(
    store: &Store,
    sealing: &SealingKey,
    path: &Path,
) -> Result<(), AuthorityError> {
    let (name, text) = KEY_CHECK;
    match sealing.open(name, &store.meta().await?.key_check) {
        Some(opened) if opened.as_slice() == text => Ok(()),
        _ => Err(AuthorityError::WrongKey(path.to_owned())),
    }
}

/// The root certificate that is active in a store.
pub(crate) async fn active_root(store: &Store) -> Result<Fingerprint, AuthorityError> {
    let records = store.authorities().await?;
    let root = find_active(&records, Role::Root)?;
    Ok(Fingerprint::of(&root.certificate))
}

fn found(settings: Settings, sealing: &SealingKey, clock: &Clock) -> Result<Founding, AuthorityError> {
    let Settings { trust_domain, lives, given_root } = settings;
    let now = clock.now();
    let root = match given_root {
        Some(given) => {
            Signer::new(given.certificate, given.key, clock.unix_time()).map_err(ProfileError::from)?
        }
        None => profile::root(&trust_domain, now, lives.root())?,
    };
    let intermediate = profile::intermediate(&trust_domain, &root, now, lives.intermediate())?;
    let (name, text) = KEY_CHECK;
    Ok(Founding {
        key_check: sealing.seal(name, text)?,
        root: record_of(&root, Role::Root, sealing)?,
        intermediate: record_of(&intermediate, Role::Intermediate, sealing)?,
        trust_domain,
    })
}

fn record_of(signer: &Signer, role: Role, sealing: &SealingKey) -> Result<AuthorityRecord, AuthorityError> {
    let id = signer.id();
    Ok(AuthorityRecord {
        sealed_key: sealing.seal(&id, signer.key.key_pair().serialized_der())?,
        id,
        role,
        state: AuthorityState::Active,
        certificate: signer.certificate.to_vec(),
        not_after: signer.not_after,
    })
}

fn find_active(records: &[AuthorityRecord], role: Role) -> Result<&AuthorityRecord, AuthorityError> {
    let is_it = |record: &&AuthorityRecord| record.role == role && record.state == AuthorityState::Active;
    records.iter().find(is_it).ok_or(AuthorityError::NoActive(role.as_str()))
}

/// Unseals the active authority of a role. The id is the certificate's hash and the key is sealed to the id,
/// so that neither can have been exchanged. It may be past its end.
fn active(records: &[AuthorityRecord], role: Role, sealing: &SealingKey) -> Result<Signer, AuthorityError> {
    let record = find_active(records, role)?;
    let damaged = || AuthorityError::SealedKey(record.id.clone());
    if Fingerprint::of(&record.certificate).to_string() != record.id {
        return Err(damaged());
    }
    let key = sealing.open(&record.id, &record.sealed_key).ok_or_else(damaged)?;
    let key = PrivatePkcs8KeyDer::from(key.as_slice());
    Ok(Signer {
        certificate: record.certificate.clone().into(),
        key: SigningKey::new(KeyPair::try_from(&key).map_err(|_| damaged())?),
        not_after: record.not_after,
    })
}

/// Roots of every state belong to the bundle: staged ones so that peers know them in time, retiring ones as long as
/// leaves under them live.
fn bundle_of(
    trust_domain: &TrustDomain,
    generation: u64,
    records: Vec<AuthorityRecord>,
) -> Result<TrustBundle, BundleError> {
    let roots = records.into_iter().filter(|record| record.role == Role::Root);
    let roots = roots.map(|record| record.certificate.into()).collect();
    TrustBundle::new(trust_domain.clone(), generation, roots)
}
