//! kill -9 at any moment: the next start finds all that anybody was told of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::{Clock, JoinToken, check_leaf};
use rcgen::KeyPair;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fixture::{Client, DEADLINE, Held, csr, rows};
use crate::program::Site;

const FIRST_STARTS: u64 = 24;
const KILLS_WHILE_ISSUING: usize = 16;
/// A slow machine answers little between two kills; it is killed more often, up to a bound.
const MOST_KILLS: usize = 64;
const ENOUGH_ANSWERS: usize = 100;

/// A moment between 0 and `most`, another one at each call.
fn any_moment(most: Duration) -> Duration {
    let mut random = [0; 4];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    most.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

#[tokio::test]
async fn killed_during_the_first_start_it_starts_again_with_one_root() {
    // How long a first start takes here and now; the kills are spread over a little more than that.
    let began = tokio::time::Instant::now();
    Site::new().start().ready();
    let start = began.elapsed();
    for _ in 0..FIRST_STARTS {
        let site = Site::new();
        let mut first = site.start();
        sleep(any_moment(start.mul_f64(1.2))).await;
        first.kill();
        let root = if site.store().exists() { rows(&site.store(), ROOTS).await } else { Vec::new() };
        let second = site.start();
        second.ready();
        let roots = rows(&site.store(), ROOTS).await;
        assert_eq!(roots.len(), 1);
        assert!(root.is_empty() || root == roots, "a root that was there is the root");
        site.token("api").await;
    }
}

const ROOTS: &str = "SELECT id FROM authorities WHERE role = 'root' AND state = 'active'";

#[tokio::test]
async fn killed_while_issuing_it_has_every_leaf_it_answered() {
    let site = Site::new();
    let mut answered = Vec::new();
    let mut last: Option<Arc<Held>> = None;
    let mut root = None;
    for round in 0..MOST_KILLS {
        if round >= KILLS_WHILE_ISSUING && answered.len() >= ENOUGH_ANSWERS {
            break;
        }
        let mut running = site.start();
        let address = running.ready();
        let token = site.token(&format!("api-{round}")).await;
        let joining = site.token(&format!("joining-{round}")).await;
        assert_eq!(*root.get_or_insert(*token.root()), *token.root(), "the root never changes");
        let client = Client { address, root: *token.root(), clock: Clock::system() };
        if let Some(held) = &last {
            let renewed = client.renew(held).await.expect("what was issued before the kill renews after it");
            answered.push(renewed.facts.serial.to_string());
        }
        let held = Arc::new(client.join(&token).await.unwrap());
        answered.push(held.facts.serial.to_string());
        let mut issuing = JoinSet::new();
        issuing.spawn(renew_until_cut_off(client.clone(), Arc::clone(&held)));
        issuing.spawn(renew_until_cut_off(client.clone(), Arc::clone(&held)));
        issuing.spawn(join_until_cut_off(client, joining));
        last = Some(held);
        sleep(any_moment(Duration::from_millis(150))).await;
        running.kill();
        answered.extend(timeout(DEADLINE, issuing.join_all()).await.unwrap().concat());
    }
    site.start().ready();
    let distinct: BTreeSet<_> = answered.iter().cloned().collect();
    assert_eq!(distinct.len(), answered.len(), "no serial is given twice");
    assert!(answered.len() >= ENOUGH_ANSWERS, "only {} leaves: too few to tell", answered.len());
    let stored: BTreeSet<_> = rows(&site.store(), "SELECT serial FROM leaves").await.into_iter().collect();
    assert!(stored.is_superset(&distinct), "every leaf answered is in the store");
    let audited = "SELECT serial FROM audit WHERE outcome = 'issued'";
    assert_eq!(rows(&site.store(), audited).await.into_iter().collect::<BTreeSet<_>>(), stored);
    assert_eq!(rows(&site.store(), ROOTS).await.len(), 1);
    let unbound =
        "SELECT identity FROM tokens WHERE key_hash IS NULL AND identity IN (SELECT identity FROM leaves)";
    assert_eq!(rows(&site.store(), unbound).await.len(), 0, "a token that got a leaf is bound");
}

/// Renews over one connection until it is cut off; the serials of the answers.
async fn renew_until_cut_off(client: Client, held: Arc<Held>) -> Vec<String> {
    let mut serials = Vec::new();
    let Ok(mut connection) = client.connect(Some(&held)).await else { return serials };
    while let Ok(renewed) = connection.issue(KeyPair::generate().unwrap(), "").await {
        serials.push(renewed.facts.serial.to_string());
    }
    serials
}

/// Asks with one token and one key until it is cut off; the serials of the answers.
async fn join_until_cut_off(client: Client, token: JoinToken) -> Vec<String> {
    let mut serials = Vec::new();
    let Ok(mut connection) = client.connect(None).await else { return serials };
    let key = KeyPair::generate().unwrap();
    while let Ok((chain, _)) = connection.issue_csr(csr(&key), &token.to_text()).await {
        let leaf = check_leaf(&chain[0], Clock::system().unix_time()).unwrap();
        serials.push(leaf.serial.to_string());
    }
    serials
}
