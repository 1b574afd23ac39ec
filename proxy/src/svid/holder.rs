//! The identity in force, and the rules by which another takes its place. What breaks a rule changes nothing.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use portcullis_identity::{
    BundleError, Clock, SpiffeId, Svid, SvidError, TrustBundle, TrustBundles, TrustDomain, Workload,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::ca_client::{Bundle, IssueResponse};
use super::state::{StateDir, StateError};
use super::watch::{Current, Publisher};
use crate::tls::{Identity, IdentityError, MinVersion};

/// Why something the authority sent is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the certificate received is refused: {0}")]
    Svid(#[from] SvidError),
    #[error("the certificate received is for {0}, not for this workload")]
    OtherIdentity(SpiffeId),
    #[error("the certificate or bundle received does not work: {0}")]
    Identity(#[from] IdentityError),
    #[error("no trust bundle came with the certificate")]
    NoBundle,
    #[error("the trust bundle received is refused: {0}")]
    Bundle(#[from] BundleError),
    #[error("the trust bundle received is for trust domain {0:?}")]
    BundleTrustDomain(String),
    #[error("the trust bundle received is marked generation {outside} and holds generation {inside}")]
    BundleMark { outside: u64, inside: u64 },
    #[error("the trust bundle received is generation {received}, older than generation {held} in force")]
    BundleOlder { received: u64, held: u64 },
    #[error("two different trust bundles of generation {0}")]
    BundleContradiction(u64),
}

/// Keeps the identity in force; writes down and publishes each change.
pub(super) struct Holder {
    workload: Workload,
    trust_domain: TrustDomain,
    clock: Clock,
    min_version: MinVersion,
    state: Option<StateDir>,
    publisher: Publisher,
    /// Held while an identity is replaced, so that the two streams of news (certificates, bundles) take
    /// turns.
    generation: Mutex<u64>,
}

impl Holder {
    pub(super) fn new(
        workload: Workload,
        trust_domain: TrustDomain,
        clock: Clock,
        min_version: MinVersion,
        state: Option<StateDir>,
        publisher: Publisher,
    ) -> Self {
        Self { workload, trust_domain, clock, min_version, state, publisher, generation: Mutex::default() }
    }

    pub(super) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    pub(super) fn state(&self) -> Option<&StateDir> {
        self.state.as_ref()
    }

    pub(super) fn current(&self) -> Option<Arc<Current>> {
        self.publisher.current()
    }

    /// Generation of the trust bundle in force.
    pub(super) fn bundle_generation(&self) -> Option<u64> {
        self.current().and_then(|current| self.bundle_of(&current).map(TrustBundle::generation))
    }

    fn bundle_of<'a>(&self, current: &'a Current) -> Option<&'a TrustBundle> {
        current.identity.bundles().get(&self.trust_domain)
    }

    /// Takes up what an earlier run has written down. When it was received is not known; NotBefore is no
    /// later, so renewal comes a little early.
    pub(super) fn restore(&self, svid: Svid, bundle: &TrustBundle) -> Result<(), IdentityError> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let received = Duration::from_secs(svid.facts().not_before);
        let identity = self.identity(*generation + 1, Arc::new(svid), bundle)?;
        *generation += 1;
        self.publisher.swap_in(Arc::new(identity), received);
        Ok(())
    }

    /// Takes a certificate for `key_pkcs8`, and the bundle that came with it unless a newer one is in force.
    pub(super) fn take_issued(
        &self,
        answer: IssueResponse,
        key_pkcs8: Zeroizing<Vec<u8>>,
    ) -> Result<(), Refusal> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = answer.chain_der.into_iter().map(CertificateDer::from).collect();
        let svid = Arc::new(Svid::new(chain, key_pkcs8, self.clock.unix_time())?);
        if svid.workload() != &self.workload {
            return Err(Refusal::OtherIdentity(svid.workload().id().clone()));
        }
        let offered = answer.bundle.map(|bundle| self.parse(&bundle)).transpose()?;
        let current = self.current();
        let held = current.as_ref().and_then(|current| Some((current, self.bundle_of(current)?)));
        let (identity, bundle) = match (held, offered) {
            (None, None) => return Err(Refusal::NoBundle),
            // An answer older than the stream's news: the held bundle stays.
            (Some((current, held)), offered)
                if offered.as_ref().is_none_or(|offered| offered.generation() <= held.generation()) =>
            {
                let identity =
                    current.identity.with_svid(*generation + 1, Arc::clone(&svid), self.min_version)?;
                (identity, held.clone())
            }
            (_, Some(offered)) => (self.identity(*generation + 1, Arc::clone(&svid), &offered)?, offered),
            (Some(_), None) => return Err(Refusal::NoBundle),
        };
        *generation += 1;
        self.publisher.issued();
        self.publisher.swap_in(Arc::new(identity), self.clock.now());
        self.write_down(|state| state.save(&svid, &bundle));
        Ok(())
    }

    /// Takes a bundle of the stream. `Ok(false)`: it is the one in force.
    pub(super) fn take_bundle(&self, bundle: &Bundle) -> Result<bool, Refusal> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let offered = self.parse(bundle)?;
        let Some(current) = self.current() else { return Ok(false) };
        if let Some(held) = self.bundle_of(&current) {
            if offered == *held {
                return Ok(false);
            }
            let (received, held) = (offered.generation(), held.generation());
            if received == held {
                return Err(Refusal::BundleContradiction(held));
            }
            if received < held {
                return Err(Refusal::BundleOlder { received, held });
            }
        }
        let identity = self.identity(*generation + 1, Arc::clone(current.identity.svid()), &offered)?;
        *generation += 1;
        self.publisher.swap_in(Arc::new(identity), current.received);
        self.write_down(|state| state.save_bundle(&offered));
        Ok(true)
    }

    fn parse(&self, bundle: &Bundle) -> Result<TrustBundle, Refusal> {
        if bundle.trust_domain != self.trust_domain.as_str() {
            let shown = bundle.trust_domain.chars().take(64).collect();
            return Err(Refusal::BundleTrustDomain(shown));
        }
        let parsed = TrustBundle::from_jwks(self.trust_domain.clone(), &bundle.jwks)?;
        if parsed.generation() != bundle.generation {
            return Err(Refusal::BundleMark { outside: bundle.generation, inside: parsed.generation() });
        }
        Ok(parsed)
    }

    fn identity(
        &self,
        generation: u64,
        svid: Arc<Svid>,
        bundle: &TrustBundle,
    ) -> Result<Identity, IdentityError> {
        let mut bundles = TrustBundles::default();
        bundles.insert(bundle.clone());
        Identity::new(generation, svid, bundles, self.clock.clone(), self.min_version)
    }

    /// A full disk must not stop the renewal: it costs the next restart, not this run.
    fn write_down(&self, save: impl FnOnce(&StateDir) -> Result<(), StateError>) {
        if let Some(Err(error)) = self.state.as_ref().map(save) {
            tracing::warn!(%error, "the identity works but could not be written down");
        }
    }
}
