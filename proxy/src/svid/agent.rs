//! The agent: gets the first certificate, renews it, and follows the trust bundle.
//!
//! [`start`] looks at what there is to start from. `certificate` is the one half of the work from then on,
//! `bundle` the other.

mod bundle;
mod certificate;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_identity::{Clock, IdDefect, TrustDomain, Workload};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::holder::Holder;
use super::schedule;
use super::state::{StateDir, StateError};
use super::token::{TokenError, TokenSource};
use super::watch::{Current, IdentityWatch, Publisher};
use crate::tls::{ExpectedPeer, IdentityError, MinVersion};

/// What the agent needs to know.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The authority, `host:port`.
    pub ca_address: String,
    /// Whose bundle vouches for peers.
    pub trust_domain: TrustDomain,
    /// Who we are.
    pub workload: Workload,
    /// Evidence for a first certificate; may be absent when the state holds a live one.
    pub join_token: Option<TokenSource>,
    /// Where key, chain and bundle survive a restart.
    pub state_dir: Option<PathBuf>,
    /// Oldest TLS version spoken, with peers and with the authority.
    pub min_version: MinVersion,
}

/// Why the agent cannot start, or ends. What is temporary (no authority, or a wrong one at its address) is not
/// here: it is retried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The trust domain has no place for the authority's identity.
    #[error("the trust domain: {0}")]
    TrustDomain(#[from] IdDefect),
    /// The state directory cannot be used, and there is no join token to start afresh with.
    #[error("{source}; restore it, or give a join token (portcullis-ca token --identity {workload})")]
    State {
        /// What is wrong, and with which file.
        source: Box<StateError>,
        /// For whom the token must be.
        workload: Workload,
    },
    /// The state directory cannot be made, read or written: a token would not help.
    #[error("{0}; a workload needs a directory of its own, which its sidecar's user can read and write")]
    StateDir(#[source] StateError),
    /// Neither a certificate of an earlier run nor a join token.
    #[error(
        "no certificate{place} and no join token: make one with portcullis-ca token --identity {workload}"
    )]
    NoEvidence {
        /// Where a certificate was looked for, with " in " before it; empty without a state directory.
        place: String,
        /// For whom the token must be.
        workload: Workload,
    },
    /// The join token is needed and cannot be used.
    #[error("{source}; make one with portcullis-ca token --identity {workload}")]
    Token {
        /// What is wrong with it.
        source: Box<TokenError>,
        /// For whom the token must be.
        workload: Workload,
    },
    /// The authority itself, proven by the root that the token names, does not take the token.
    #[error("{place}: {refusal}; make a new one with portcullis-ca token --identity {workload}")]
    TokenRefused {
        /// Where the token stands.
        place: String,
        /// Who refuses it, and why.
        refusal: String,
        /// For whom the token must be.
        workload: Workload,
    },
}

/// Looks at the state and the token, and gives the handle and the agent. The agent gets the first
/// certificate, renews at a random 40-60 % of its life, retries to the end and after it, and follows the
/// authority's trust bundle. It runs until it is dropped, or the authority refuses the join token before there
/// ever was a certificate: nothing but another token helps then, so nobody is to be kept waiting.
///
/// # Errors
/// [`AgentError`] when there is nothing to start from.
pub fn start(
    config: AgentConfig,
    clock: Clock,
) -> Result<(IdentityWatch, impl Future<Output = AgentError> + Send + 'static), AgentError> {
    let authority = Workload::new(&config.trust_domain, "portcullis-system", "portcullis-ca")?;
    let authority = ExpectedPeer::OneOf(vec![authority.id().clone()]);
    let (publisher, watch) = Publisher::new(clock.clone());
    let state = config.state_dir.as_deref().map(StateDir::open).transpose().map_err(AgentError::StateDir)?;
    let (workload, trust_domain) = (config.workload.clone(), config.trust_domain.clone());
    let holder = Holder::new(workload, trust_domain, clock.clone(), config.min_version, state, publisher);
    let broken = match restore(&holder, &config, &clock) {
        Ok(()) => None,
        Err(source @ (StateError::Io { .. } | StateError::OtherWorkload { .. })) => {
            return Err(AgentError::StateDir(source));
        }
        Err(source) => Some(source),
    };
    if holder.current().is_none() {
        let workload = config.workload.clone();
        let Some(token) = &config.join_token else {
            let place = config.state_dir.map(|path| format!(" in {}", path.display())).unwrap_or_default();
            return Err(match broken {
                Some(source) => AgentError::State { source: Box::new(source), workload },
                None => AgentError::NoEvidence { place, workload },
            });
        };
        let unusable = |source| AgentError::Token { source: Box::new(source), workload };
        token.read(&config.workload).map_err(unusable)?;
    }
    // Only now is anything moved: with a token that is none, nothing could be started afresh.
    if let Some(error) = broken {
        start_afresh(&holder, &error, &clock).map_err(AgentError::StateDir)?;
    }
    let agent = Agent {
        config,
        clock,
        authority,
        holder: Arc::new(holder),
        join_key: Mutex::default(),
        renew_now: Notify::new(),
    };
    Ok((watch, agent.run()))
}

fn restore(holder: &Holder, config: &AgentConfig, clock: &Clock) -> Result<(), StateError> {
    let Some(state) = holder.state() else { return Ok(()) };
    let Some((svid, bundle)) = state.load(&config.workload, &config.trust_domain, clock)? else {
        return Ok(());
    };
    let corrupt = |error: IdentityError| StateError::Corrupt {
        path: state.svid_path(),
        why: format!("certificate, key and bundle do not go together: {error}"),
    };
    holder.restore(svid, &bundle).map_err(corrupt)
}

/// With a join token at hand a broken state is no reason not to start. An expired certificate simply gives
/// way.
fn start_afresh(holder: &Holder, error: &StateError, clock: &Clock) -> Result<(), StateError> {
    if let (StateError::Corrupt { .. }, Some(state)) = (error, holder.state()) {
        state.move_svid_aside(clock.now())?;
    }
    tracing::warn!(%error, "starting afresh with the join token; what cannot be used is kept as *.unusable-*");
    Ok(())
}

/// The token's secret hash, and the key used with it (PKCS#8).
type JoinKey = ([u8; 32], Zeroizing<Vec<u8>>);

struct Agent {
    config: AgentConfig,
    clock: Clock,
    authority: ExpectedPeer,
    holder: Arc<Holder>,
    join_key: Mutex<Option<JoinKey>>,
    /// A bundle that does not vouch for our certificate asks for a new one at once.
    renew_now: Notify,
}

impl Agent {
    async fn run(self) -> AgentError {
        tokio::select! {
            ended = self.keep_certified() => ended,
            never = self.follow_bundle() => match never {},
        }
    }

    fn left(&self, current: Option<&Current>) -> Option<Duration> {
        current.and_then(|current| current.left(self.clock.now()))
    }

    /// Runs what writes and syncs files off the worker threads.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Holder) -> T + Send + 'static) -> T {
        let holder = Arc::clone(&self.holder);
        match tokio::task::spawn_blocking(move || work(&holder)).await {
            Ok(done) => done,
            // Only when the runtime shuts down or the work panicked; the first ends us, the second must not
            // pass as done.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => std::future::pending().await,
        }
    }
}

/// The thread's generator must not be held across an await, so it stays in here.
fn pause(failures: u32, life: Option<Duration>, left: Option<Duration>) -> Duration {
    schedule::pause(failures, life, left, &mut rand::rng())
}
