//! Certificates: the first one, and each next one in time.

use std::sync::PoisonError;
use std::time::Duration;

use portcullis_identity::JoinToken;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::super::ca_client::{CaClient, CaError, IssueRequest};
use super::super::holder::Refusal;
use super::super::state::StateError;
use super::super::token::TokenError;
use super::super::{first_contact, schedule};
use super::{Agent, AgentError, pause};

/// Longest sleep before the clock is looked at again: a suspended machine's timers do not know how long it
/// slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Why one attempt to get a certificate failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the certificate has expired and there is no join token to get another with")]
    NoEvidence,
    #[error("the key for the join token cannot be kept, so the token is not used: {0}")]
    State(#[from] StateError),
    #[error("no key or certificate request: {0}")]
    Request(#[from] rcgen::Error),
}

impl Agent {
    /// Ends only with [`AgentError::TokenRefused`].
    pub(super) async fn keep_certified(&self) -> AgentError {
        loop {
            if let Some(current) = self.holder.current() {
                let due = schedule::renewal(current.received, current.not_after(), &mut rand::rng());
                self.holder.publisher().renewal_at(Some(due));
                tokio::select! {
                    () = self.sleep_until(due) => {}
                    () = self.renew_now.notified() => {}
                }
            }
            self.holder.publisher().renewal_at(None);
            if let Err(ended) = self.obtain().await {
                return ended;
            }
        }
    }

    async fn sleep_until(&self, due: Duration) {
        loop {
            let wait = due.saturating_sub(self.clock.now());
            if wait.is_zero() {
                return;
            }
            sleep(wait.min(LONGEST_SLEEP)).await;
        }
    }

    /// Tries until there is a new certificate, however long it takes, or there can be none.
    async fn obtain(&self) -> Result<(), AgentError> {
        let mut failures = 0;
        while let Err(error) = self.attempt().await {
            if let Some(refused) = self.token_refused(&error) {
                return Err(refused);
            }
            let current = self.holder.current();
            let life = current.as_ref().map(|current| current.life());
            let pause = pause(failures, life, self.left(current.as_deref()));
            failures = failures.saturating_add(1);
            tracing::warn!(%error, failures, retry_in_ms = pause.as_millis(), "no certificate");
            self.holder.publisher().failed(error.to_string());
            self.holder.publisher().renewal_at(Some(self.clock.now() + pause));
            sleep(pause).await;
            self.holder.publisher().renewal_at(None);
        }
        if let Some(current) = self.holder.current() {
            let facts = current.identity.svid().facts();
            let (serial, not_after) = (&facts.serial, facts.not_after);
            tracing::info!(id = %facts.id, %serial, not_after, "certificate received");
        }
        Ok(())
    }

    /// Once there was a certificate, connections may still be in use: then the token is tried again instead,
    /// as a new one may be laid in its place.
    fn token_refused(&self, error: &AttemptError) -> Option<AgentError> {
        let AttemptError::Ca(error) = error else { return None };
        let reason = error.evidence_refused().filter(|_| self.holder.current().is_none())?;
        Some(AgentError::TokenRefused {
            place: self.config.join_token.as_ref()?.to_string(),
            refusal: format!("the authority at {} refuses it: {reason}", self.config.ca_address),
            workload: self.config.workload.clone(),
        })
    }

    async fn attempt(&self) -> Result<(), AttemptError> {
        let current = self.holder.current();
        let left = self.left(current.as_deref());
        let deadline = schedule::attempt(left);
        let (config, key, join_token) = match current {
            Some(current) if left.is_some() => {
                let config = current.identity.client_config(self.authority.clone());
                (config, new_key()?, Zeroizing::default())
            }
            _ => {
                let source = self.config.join_token.as_ref().ok_or(AttemptError::NoEvidence)?;
                let (token, text) = source.read(&self.config.workload)?;
                let version = self.config.min_version;
                let config =
                    first_contact::client_config(&token, self.authority.clone(), &self.clock, version)
                        .map_err(CaError::Config)?;
                (config, self.key_for(&token)?, text)
            }
        };
        let request = IssueRequest { csr_der: csr(&key)?, join_token: join_token.to_string() };
        let mut authority = CaClient::connect(&self.config.ca_address, config, deadline).await?;
        let answer = authority.issue(request, deadline).await?;
        Ok(self.blocking(move |holder| holder.take_issued(answer, key)).await?)
    }

    /// A token is used with one key until it has worked, so that the authority can tell a repeated request
    /// from a stolen token; the key is written down first, so that a crash between request and answer does
    /// not cost the token.
    fn key_for(&self, token: &JoinToken) -> Result<Zeroizing<Vec<u8>>, AttemptError> {
        let hash = token.secret_hash();
        let mut known = self.join_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = known.as_ref().filter(|(of, _)| *of == hash) {
            return Ok(key.clone());
        }
        let stored = match self.holder.state().map(|state| (state, state.load_join_key(token))) {
            Some((state, Err(StateError::Corrupt { path, why }))) => {
                let aside = state.move_aside(&path, self.clock.now())?;
                tracing::warn!(why, aside = %aside.display(), "the join token gets a new key");
                None
            }
            Some((_, stored)) => stored?,
            None => None,
        };
        let key = match stored {
            Some(key) => key,
            None => {
                let key = new_key()?;
                self.holder.state().map(|state| state.save_join_key(token, &key)).transpose()?;
                key
            }
        };
        *known = Some((hash, key.clone()));
        Ok(key)
    }
}

/// A fresh P-256 key, PKCS#8.
fn new_key() -> Result<Zeroizing<Vec<u8>>, rcgen::Error> {
    let pair = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
    Ok(Zeroizing::new(pair.serialize_der()))
}

/// A request that proves possession of the key and says nothing else: the authority takes no name from it.
fn csr(key_pkcs8: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
    let pkcs8 = PrivatePkcs8KeyDer::from(key_pkcs8);
    let pair = Zeroizing::new(KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256)?);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&*pair)?.der().to_vec())
}
