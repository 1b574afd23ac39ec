//! The judge of a peer's certificates, for servers and clients alike, and what it remembers.
//!
//! The rules are the identity crate's. A chain once verified is remembered by its hash, because building paths and
//! checking their signatures costs more than the rest of a handshake on this side.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use portcullis_identity::{BadAnchor, ChainVerifier, Clock, Role, TrustBundles};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{PeerDefect, VerifiedPeer};

/// Most verified chains remembered, about 500 bytes each.
const MAX_SEEN: usize = 4096;

/// Roots by trust domain, and the chains already verified with them. Lives as long as its bundles do: other
/// bundles mean another verifier, so that nothing is remembered that a withdrawn root has vouched for.
pub(crate) struct Verifier {
    chains: ChainVerifier,
    algorithms: WebPkiSupportedAlgorithms,
    clock: Clock,
    seen: Mutex<HashMap<ChainHash, Seen>>,
}

type ChainHash = [u8; 32];

struct Seen {
    peer: VerifiedPeer,
    at: u64,
}

impl Verifier {
    /// # Errors
    /// When a root cannot serve as trust anchor.
    pub(crate) fn new(
        bundles: TrustBundles,
        algorithms: WebPkiSupportedAlgorithms,
        clock: Clock,
    ) -> Result<Self, BadAnchor> {
        let chains = ChainVerifier::new(bundles, algorithms.all)?;
        Ok(Self { chains, algorithms, clock, seen: Mutex::default() })
    }

    pub(crate) fn bundles(&self) -> &TrustBundles {
        self.chains.bundles()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// Judges what a peer in `role` showed. Says nothing about the handshake's signature, which rustls checks
    /// each time.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        role: Role,
    ) -> Result<VerifiedPeer, PeerDefect> {
        let now = self.clock.unix_time();
        let key = hash(leaf, others, role);
        if let Some(peer) = self.recall(&key, now) {
            return Ok(peer);
        }
        let chain = self.chains.verify(leaf, others, role, now)?;
        let peer = VerifiedPeer::new(chain.facts, chain.not_after);
        self.remember(key, peer.clone(), now);
        Ok(peer)
    }

    fn recall(&self, key: &ChainHash, now: UnixTime) -> Option<VerifiedPeer> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = seen.get(key)?;
        // A clock set back before the check makes it void: NotBefore may lie ahead again.
        let fresh = entry.at <= now.as_secs() && now.as_secs() <= entry.peer.not_after().as_secs();
        fresh.then(|| entry.peer.clone())
    }

    fn remember(&self, key: ChainHash, peer: VerifiedPeer, now: UnixTime) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_SEEN {
            seen.retain(|_, entry| now.as_secs() <= entry.peer.not_after().as_secs());
        }
        if seen.len() >= MAX_SEEN {
            // Costs each live peer one more check; an order of use to spare some of them is not worth its
            // upkeep.
            seen.clear();
        }
        seen.insert(key, Seen { peer, at: now.as_secs() });
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("chains", &self.chains).finish_non_exhaustive()
    }
}

/// Lengths go in too, so that no two chains run together into the same bytes.
fn hash(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], role: Role) -> ChainHash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[matches!(role, Role::Client).into()]);
    for certificate in std::iter::once(leaf).chain(others) {
        context.update(&certificate.len().to_be_bytes());
        context.update(certificate);
    }
    let mut key = ChainHash::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Mesh, NOW, bundles, leaf_params};

    #[test]
    fn memory_is_bounded() {
        let mesh = Mesh::new();
        let algorithms = crate::tls::provider().signature_verification_algorithms;
        let verifier =
            Verifier::new(bundles(vec![mesh.root.root_der()]), algorithms, mesh.clock.clock()).unwrap();
        let leaf = mesh.intermediate.leaf(&leaf_params("spiffe://cluster.local/ns/a/sa/b"));
        let peer = verifier.verify(&leaf.chain[0], &leaf.chain[1..], Role::Client).unwrap();
        for number in 0..u64::try_from(MAX_SEEN).unwrap() + 10 {
            let mut key = ChainHash::default();
            key[..8].copy_from_slice(&number.to_be_bytes());
            verifier.remember(key, peer.clone(), UnixTime::since_unix_epoch(NOW));
            assert!(verifier.remembered() <= MAX_SEEN);
        }
        assert!(verifier.verify(&leaf.chain[0], &leaf.chain[1..], Role::Client).is_ok());
    }

    #[test]
    fn the_role_and_the_order_of_a_chain_are_part_of_its_hash() {
        let (a, b) = (CertificateDer::from(vec![1, 2]), CertificateDer::from(vec![3]));
        let (ab, c) = (CertificateDer::from(vec![1, 2, 3]), CertificateDer::from(vec![]));
        let of = |leaf: &CertificateDer<'static>, other: &CertificateDer<'static>| {
            hash(leaf, std::slice::from_ref(other), Role::Client)
        };
        assert_ne!(of(&a, &b), of(&b, &a));
        assert_ne!(of(&a, &b), of(&ab, &c));
        assert_ne!(of(&a, &b), hash(&a, std::slice::from_ref(&b), Role::Server));
    }
}
