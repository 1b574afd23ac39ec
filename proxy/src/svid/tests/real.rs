//! The agent and the real authority, in one process.

use std::path::Path;
use std::sync::Arc;

use portcullis_ca::{Authority, Lives, SealingKey, Settings, StoreLock};
use portcullis_identity::Clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;

struct RealCa {
    authority: Arc<Authority>,
    address: String,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl RealCa {
    /// Makes or opens the store in `home`, and serves on `address`.
    async fn start(home: &Path, address: &str, leaf_life: u64) -> Self {
        let s = Duration::from_secs;
        let (store, key) = (home.join("ca.db"), home.join("ca.key"));
        let lock = StoreLock::acquire(&store).unwrap();
        let key = if key.exists() { SealingKey::load(&key) } else { SealingKey::create(&key) };
        let lives = Lives::new(s(leaf_life), s(86_400), s(864_000)).unwrap();
        let settings = Settings { trust_domain: trust_domain(), lives, given_root: None };
        let authority = Authority::open(&store, lock, key.unwrap(), settings, Clock::system()).await.unwrap();
        let authority = Arc::new(authority);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let (serving, stop) = (Arc::clone(&authority), shutdown.clone());
        let task = tokio::spawn(async move { portcullis_ca::serve(listener, serving, stop).await.unwrap() });
        Self { authority, address, shutdown, task }
    }

    async fn token(&self) -> String {
        self.authority.create_token(&api(), Duration::from_secs(600)).await.unwrap().to_text().to_string()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(LONG, self.task).await.unwrap().unwrap();
        self.authority.store().close().await;
    }
}

fn serial(identity: &Identity) -> String {
    identity.svid().facts().serial.to_string()
}

#[tokio::test]
async fn certificates_are_got_and_renewed_and_outlive_a_pause_of_the_authority() {
    let (home, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = RealCa::start(home.path(), "127.0.0.1:0", 3).await;
    let (address, token) = (ca.address.clone(), ca.token().await);
    let mut running = Running::start(config(&address, Some(&token), Some(state.path())), Clock::system());
    let first = running.next().await;
    assert_eq!(first.svid().workload(), &api());
    let second = running.next().await;
    assert_ne!(serial(&first), serial(&second));
    assert!(running.watch.status().is_ready());

    ca.stop().await;
    let failed = running.watch.counts().failed;
    running.until("failed renewals", |watch| watch.counts().failed > failed).await;
    running.until("expiry", |watch| matches!(watch.status(), IdentityStatus::Expired { .. })).await;
    assert!(running.watch.current().is_some(), "the last good one stays");

    // Expired: only the token helps, with the key that it is bound to.
    let ca = RealCa::start(home.path(), &address, 3).await;
    running.until("recovery", |watch| watch.status().is_ready()).await;
    running.stop().await;
    ca.stop().await;
}

#[tokio::test]
async fn a_restart_needs_no_token_while_the_certificate_lives() {
    let (home, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = RealCa::start(home.path(), "127.0.0.1:0", 60).await;
    let token = ca.token().await;
    let mut running = Running::start(config(&ca.address, Some(&token), Some(state.path())), Clock::system());
    let first = running.next().await;
    running.until("written down", |_| state.path().join("svid.json").exists()).await;
    running.stop().await;

    let mut running = Running::start(config(&ca.address, None, Some(state.path())), Clock::system());
    let restored = running.watch.current().expect("at once");
    assert_eq!(serial(&restored), serial(&first));
    // NotBefore lies two minutes back, so a certificate of a minute is past its middle and renewed by itself.
    running
        .until("a renewal", |watch| watch.current().is_some_and(|now| serial(&now) != serial(&first)))
        .await;
    assert!(running.next().await.generation() > restored.generation());
    running.stop().await;
    ca.stop().await;
}

#[tokio::test]
async fn a_lost_reply_does_not_burn_the_token_and_another_key_does_not_get_it() {
    let (home, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = RealCa::start(home.path(), "127.0.0.1:0", 60).await;
    let token = ca.token().await;
    let mut running = Running::start(config(&ca.address, Some(&token), Some(state.path())), Clock::system());
    running.next().await;
    running.until("written down", |_| state.path().join("svid.json").exists()).await;
    running.stop().await;
    // As if the reply had never come: the authority has bound the token, we hold the key alone.
    std::fs::remove_file(state.path().join("svid.json")).unwrap();
    let mut again = Running::start(config(&ca.address, Some(&token), Some(state.path())), Clock::system());
    again.next().await;
    again.stop().await;

    let thief = Running::start(config(&ca.address, Some(&token), None), Clock::system());
    let refused = thief.end().await;
    assert!(
        refused.contains("has been used for another key") && refused.contains("make a new one"),
        "{refused}"
    );
    ca.stop().await;
}

#[tokio::test]
async fn an_authority_that_comes_later_is_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let ca = RealCa::start(home.path(), "127.0.0.1:0", 60).await;
    let (address, token) = (ca.address.clone(), ca.token().await);
    ca.stop().await;
    let mut running = Running::start(config(&address, Some(&token), None), Clock::system());
    running.until_error("no connection to the authority at 127.0.0.1").await;
    let ca = RealCa::start(home.path(), &address, 60).await;
    running.next().await;
    running.stop().await;
    ca.stop().await;
}
