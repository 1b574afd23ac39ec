//! The agent against the real authority, and against one that answers by a script.

mod real;
mod script;
mod scripted;
mod state;

use std::time::Duration;

use portcullis_identity::Workload;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use super::*;
use crate::tls::MinVersion;
use crate::tls::testing::trust_domain;

const LONG: Duration = Duration::from_secs(20);

fn api() -> Workload {
    Workload::new(&trust_domain(), "production", "api").unwrap()
}

fn config(address: &str, token: Option<&str>, state: Option<&std::path::Path>) -> AgentConfig {
    AgentConfig {
        ca_address: address.to_owned(),
        trust_domain: trust_domain(),
        workload: api(),
        join_token: token.map(|text| TokenSource::Text(Zeroizing::new(text.to_owned()))),
        state_dir: state.map(std::path::Path::to_owned),
        min_version: MinVersion::Tls12,
    }
}

/// An agent at work; ends with the test.
struct Running {
    watch: IdentityWatch,
    task: JoinHandle<AgentError>,
}

impl Running {
    fn start(config: AgentConfig, clock: portcullis_identity::Clock) -> Self {
        let (watch, agent) = start(config, clock).unwrap();
        Self { watch, task: tokio::spawn(agent) }
    }

    async fn next(&mut self) -> std::sync::Arc<Identity> {
        timeout(LONG, self.watch.changed()).await.expect("a new identity in time")
    }

    async fn until(&self, what: &str, condition: impl Fn(&IdentityWatch) -> bool) {
        let deadline = Instant::now() + LONG;
        while !condition(&self.watch) {
            assert!(Instant::now() < deadline, "not within {LONG:?}: {what}; {:?}", self.watch);
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_error(&self, part: &str) {
        self.until(part, |watch| watch.status().to_string().contains(part)).await;
    }

    /// Why it ends by itself.
    async fn end(mut self) -> String {
        timeout(LONG, &mut self.task).await.expect("the end in time").unwrap().to_string()
    }

    async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
