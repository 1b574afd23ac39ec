//! The trust bundle: a stream of news from the authority, on ever new connections.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::ca_client::{Bundle, CaClient, CaError};
use super::super::holder::Refusal;
use super::super::schedule;
use super::super::watch::Current;
use super::{Agent, pause};
use crate::tls::IdentityError;

/// A stream that lived as long as this was a good one.
const LONG_LIVED: Duration = Duration::from_secs(30);

impl Agent {
    /// Keeps a stream of trust bundles open, on ever new connections.
    pub(super) async fn follow_bundle(&self) -> Infallible {
        let mut failures = 0;
        loop {
            let Some(current) = self.holder.current().filter(|current| self.left(Some(current)).is_some())
            else {
                // Nothing to prove ourselves with; the first certificate brings its bundle along.
                sleep(pause(4, None, None)).await;
                continue;
            };
            let began = Instant::now();
            let ended = self.bundle_stream(&current).await;
            // A stream that soon ends counts as a failure however it ends: an authority in trouble is not to
            // be called ten times a second by everyone.
            if ended.is_ok() || began.elapsed() >= LONG_LIVED {
                failures = 0;
            }
            if let Err(error) = ended {
                tracing::warn!(%error, failures, "no stream of trust bundles");
            }
            sleep(pause(failures, Some(current.life()), None)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// One connection, until it fails or, `Ok`, the certificate that opened it ends. Each bundle taken is
    /// acknowledged by asking again with its generation.
    async fn bundle_stream(&self, current: &Current) -> Result<(), CaError> {
        let left = self.left(Some(current));
        let deadline = schedule::attempt(left);
        let config = current.identity.client_config(self.authority.clone());
        let mut authority = CaClient::connect(&self.config.ca_address, config, deadline).await?;
        let follow = async {
            loop {
                let acknowledged = self.holder.bundle_generation().unwrap_or_default();
                let (first, mut stream) = authority.watch_bundle(acknowledged, deadline).await?;
                let mut next = first;
                loop {
                    let Some(bundle) = next else { return Err(CaError::StreamEnded) };
                    if self.take_bundle(bundle).await {
                        break;
                    }
                    next = stream.message().await?;
                }
            }
        };
        // No connection outlives its proof, this one included.
        timeout(left.unwrap_or_default(), follow).await.unwrap_or(Ok(()))
    }

    /// Whether the bundle is now in force and was not before.
    async fn take_bundle(&self, bundle: Bundle) -> bool {
        let generation = bundle.generation;
        match self.blocking(move |holder| holder.take_bundle(&bundle)).await {
            Ok(false) => false,
            Ok(true) => {
                tracing::info!(generation, "trust bundle taken");
                self.holder.publisher().bundle(true);
                true
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "trust bundle refused, the last good one stays");
                self.holder.publisher().bundle(false);
                if matches!(refusal, Refusal::Identity(IdentityError::OwnChain(_))) {
                    self.renew_now.notify_one();
                }
                false
            }
        }
    }
}
