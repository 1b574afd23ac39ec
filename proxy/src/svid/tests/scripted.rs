//! What an authority can do wrong, and what must survive it.

use portcullis_identity::Fingerprint;
use tonic::Status;

use super::script::{Answer, Served, bundle};
use super::*;
use crate::tls::testing::{Ca, ca_params, leaf_params};

fn clock(served: &Served) -> portcullis_identity::Clock {
    served.script.mesh.clock.clock()
}

#[tokio::test]
async fn the_first_contact_needs_the_root_that_the_token_names() {
    let served = Served::start().await;
    let wrong = served.token_for_root(&Fingerprint::of(b"another root"));
    let running = Running::start(config(&served.address, Some(&wrong), None), clock(&served));
    running.until_error("does not show the root").await;
    assert!(!running.watch.status().is_ready());
    assert_eq!(served.asked(), 0, "the token was not shown to a stranger");

    let mut running = Running::start(config(&served.address, Some(&served.token()), None), clock(&served));
    assert_eq!(running.next().await.svid().workload(), &api());
    assert!(running.watch.status().is_ready());
}

#[tokio::test]
async fn the_first_contact_needs_the_authority_itself() {
    let impostor = Served::start_as("spiffe://cluster.local/ns/production/sa/impostor").await;
    let running = Running::start(config(&impostor.address, Some(&impostor.token()), None), clock(&impostor));
    running.until_error("ns/production/sa/impostor, expected").await;
    assert_eq!(impostor.asked(), 0);
}

#[tokio::test]
async fn a_certificate_that_breaks_a_rule_is_refused_and_the_next_one_taken() {
    let served = Served::start().await;
    served.answer([
        Answer::Spoil(|_, answer| answer.chain_der.clear()),
        Answer::Spoil(|_, answer| answer.chain_der[0].truncate(9)),
        Answer::Spoil(|_, answer| answer.bundle = None),
        // A good certificate of ours, for a key that we do not have.
        Answer::Spoil(|mesh, answer| {
            let other = mesh.intermediate.leaf(&leaf_params(api().id().as_str()));
            answer.chain_der[0] = other.chain[0].to_vec();
        }),
        Answer::Spoil(|mesh, answer| {
            let other = mesh.intermediate.leaf(&leaf_params("spiffe://cluster.local/ns/production/sa/other"));
            answer.chain_der[0] = other.chain[0].to_vec();
        }),
        Answer::Spoil(|_, answer| answer.bundle = Some(bundle(1, &[&Ca::root(ca_params("root"))]))),
        Answer::Spoil(|_, answer| answer.bundle.as_mut().unwrap().jwks = "{}".into()),
        Answer::Spoil(|_, answer| answer.bundle.as_mut().unwrap().trust_domain = "other".into()),
        Answer::Spoil(|_, answer| answer.bundle.as_mut().unwrap().generation = 9),
    ]);
    let mut running = Running::start(config(&served.address, Some(&served.token()), None), clock(&served));
    // Nine pauses of the common backoff come to a minute; nobody waits for them under the mesh's standing
    // clock.
    let spoiled = 5;
    running.until("refusals", |watch| watch.counts().failed >= spoiled).await;
    assert!(running.watch.current().is_none());
    served.script.answers.lock().unwrap().clear();
    running.next().await;
    assert_eq!(running.watch.counts().issued, 1);
}

#[tokio::test]
async fn a_token_is_shown_with_one_key_even_after_a_crash() {
    let served = Served::start().await;
    let lost = || Answer::Refuse(Status::unavailable("the reply is lost"));
    served.answer([lost(), lost(), lost()]);
    let state = tempfile::tempdir().unwrap();
    let config = config(&served.address, Some(&served.token()), Some(state.path()));
    let running = Running::start(config.clone(), clock(&served));
    running.until("two tries", |_| served.asked() >= 2).await;
    running.stop().await;
    let mut running = Running::start(config, clock(&served));
    running.next().await;
    let asked = served.script.asked.lock().unwrap();
    assert!(asked.len() >= 4);
    assert!(
        asked.iter().all(|asked| asked.public_key == asked.public_key && asked.join_token == served.token())
    );
    assert!(asked.windows(2).all(|pair| pair[0].public_key == pair[1].public_key));
}

#[tokio::test]
async fn a_renewal_has_a_new_key_and_no_token() {
    let served = Served::start().await;
    let mut running = Running::start(config(&served.address, Some(&served.token()), None), clock(&served));
    let first = running.next().await;
    // Past 60 % of the hour that the certificate lives.
    served.script.mesh.clock.advance(Duration::from_secs(2200));
    let second = running.next().await;
    assert!(second.generation() > first.generation());
    let asked = served.script.asked.lock().unwrap();
    assert_eq!(asked[1].join_token, "");
    assert_ne!(asked[0].public_key, asked[1].public_key);
}

#[tokio::test]
async fn what_expired_unrenewed_recovers_by_the_token_with_its_first_key() {
    let served = Served::start().await;
    let mut running = Running::start(config(&served.address, Some(&served.token()), None), clock(&served));
    let first = running.next().await;
    // A suspended machine: everything expired at once, and the authority is slow to come back.
    served.script.mesh.clock.advance(Duration::from_secs(3700));
    // A refused token ends who never had a certificate; others wait for a new one in its place.
    let refused = Status::unauthenticated("not with this token");
    served.answer([Answer::Refuse(Status::unavailable("not yet")), Answer::Refuse(refused)]);
    running.until_error("not yet").await;
    running.until_error("not with this token").await;
    assert!(!running.task.is_finished());
    assert!(matches!(running.watch.status(), IdentityStatus::Expired { .. }), "{:?}", running.watch);
    assert_eq!(running.watch.current().unwrap().generation(), first.generation());
    let asked = served.script.asked.lock().unwrap();
    assert_eq!(asked[1].join_token, served.token());
    assert_eq!(asked[0].public_key, asked[1].public_key);
}

#[tokio::test]
async fn a_new_bundle_is_taken_and_acknowledged() {
    let served = Served::start().await;
    let mut running = Running::start(config(&served.address, Some(&served.token()), None), clock(&served));
    running.next().await;
    running.until("a stream", |_| served.script.acknowledged.lock().unwrap().contains(&1)).await;
    let next_root = Ca::root(ca_params("next root"));
    served.script.bundles.send_replace(bundle(2, &[&served.script.mesh.root, &next_root]));
    let identity = running.next().await;
    assert_eq!(identity.bundles().get(&trust_domain()).unwrap().roots().len(), 2);
    running.until("the acknowledgement", |_| served.script.acknowledged.lock().unwrap().contains(&2)).await;
    assert_eq!(running.watch.counts().bundles, 1);
}

#[tokio::test]
async fn a_bad_bundle_changes_nothing() {
    let served = Served::start().await;
    let mesh = &served.script.mesh;
    served.script.bundles.send_replace(bundle(5, &[&mesh.root]));
    let mut running = Running::start(config(&served.address, Some(&served.token()), None), clock(&served));
    let good = running.next().await;
    running.until("a stream", |_| served.script.acknowledged.lock().unwrap().contains(&5)).await;
    let other = Ca::root(ca_params("other root"));
    let of = |change: fn(&mut portcullis_ca::proto::Bundle)| {
        let mut bundle = bundle(6, &[&mesh.root, &other]);
        change(&mut bundle);
        bundle
    };
    let bad = [
        ("older", bundle(4, &[&mesh.root])),
        ("same generation, other roots", bundle(5, &[&mesh.root, &other])),
        ("unreadable", of(|bundle| bundle.jwks.truncate(40))),
        ("empty", of(|bundle| bundle.jwks = r#"{"keys":[],"spiffe_sequence":6}"#.into())),
        ("of another trust domain", of(|bundle| bundle.trust_domain = "other".into())),
        ("marked otherwise", of(|bundle| bundle.generation = 7)),
    ];
    for (refused, (name, bundle)) in (1..).zip(bad) {
        served.script.bundles.send_replace(bundle);
        running.until(name, |watch| watch.counts().bundles_refused >= refused).await;
        let now = running.watch.current().unwrap();
        assert_eq!(now.generation(), good.generation(), "{name}");
    }
    served.script.bundles.send_replace(of(|_| {}));
    assert_eq!(running.next().await.bundles().get(&trust_domain()).unwrap().generation(), 6, "control");
}

#[tokio::test]
async fn a_bundle_without_our_own_root_makes_us_renew_at_once() {
    let served = Served::start().await;
    let mut running = Running::start(config(&served.address, Some(&served.token()), None), clock(&served));
    running.next().await;
    running.until("a stream", |_| served.script.acknowledged.lock().unwrap().contains(&1)).await;
    let before = served.asked();
    served.script.bundles.send_replace(bundle(2, &[&Ca::root(ca_params("other root"))]));
    running.until("a renewal", |_| served.asked() > before).await;
    assert_eq!(running.watch.counts().bundles, 0);
    assert!(running.watch.current().is_some());
}

#[tokio::test]
async fn a_token_file_may_be_replaced_while_we_wait() {
    let served = Served::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), served.token_for_root(&Fingerprint::of(b"another root"))).unwrap();
    let mut config = config(&served.address, None, None);
    config.join_token = Some(TokenSource::File(file.path().to_owned()));
    let mut running = Running::start(config, clock(&served));
    running.until_error("does not show the root").await;
    std::fs::write(file.path(), served.token() + "\n").unwrap();
    running.next().await;
}
