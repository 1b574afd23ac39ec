//! Who waits: first in, first out, and whatever becomes free is theirs.

use std::time::Duration;

use portcullis_tests::callers::{Caller, pool, until};
use portcullis_tests::counting::Work;
use portcullis_tests::within;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{DAY, LIMIT, Service, Site, sent};

const ONE: Service = Service::plaintext("one", 9401, "{tcp: {maxConnections: 1}}");
const TWO: Service = Service::mutual("two", 9402, "{tcp: {maxConnections: 2}}");
const WAITING: usize = 60;
/// Far less than a handshake may take.
const SOON: Duration = Duration::from_secs(4);

#[test]
fn who_waits_first_is_answered_first() {
    within(LIMIT, || {
        let site = Site::start(DAY, &[ONE]);
        let server = site.serve(ONE, Work::Http);
        let (to, destination) = (server.addr, ONE.destination());
        for round in 0..5 {
            server.set_gate(false);
            let answered = site.call(async || {
                let first = sent(to, "/first?hold", 1).await.remove(0);
                until("the first", async || (server.numbers().under_way == 1).then_some(())).await;
                let mut callers = vec![first];
                for number in 0..WAITING {
                    let mut caller = Caller::new(to);
                    caller.send(&format!("/n/{round}/{number}"), "").await.unwrap();
                    callers.push(caller);
                    let wanted = number + 1;
                    until("one more who waits", async || {
                        (pool(&destination).await.waiting == wanted).then_some(())
                    })
                    .await;
                }
                server.set_gate(true);
                let mut answers = JoinSet::new();
                for mut caller in callers {
                    answers.spawn(async move { caller.answer().await.unwrap().word().to_owned() });
                }
                answers.join_all().await
            });
            assert!(answered.iter().all(|status| status == "200"), "{answered:?}");
            let wanted: Vec<_> = (0..WAITING).map(|number| format!("/n/{round}/{number}")).collect();
            assert_eq!(server.remembered()[round * WAITING..], wanted);
        }
        assert_eq!(server.numbers().accepted, 1, "one connection for all of them");
    });
}

#[test]
fn a_connection_serves_others_than_it_was_dialled_for() {
    within(LIMIT, || {
        let site = Site::start(DAY, &[ONE]);
        let server = site.serve(ONE, Work::Http);
        let to = server.addr;
        // New connections of the app are accepted by any worker, one after the other and then all at once.
        let statuses = site.call(async || {
            let mut statuses = Vec::new();
            for _ in 0..200 {
                statuses.push(Caller::new(to).get("/").await.unwrap().word().to_owned());
            }
            let mut callers = JoinSet::new();
            for _ in 0..200 {
                callers.spawn(async move { Caller::new(to).get("/?ms=2").await.unwrap().word().to_owned() });
            }
            statuses.extend(callers.join_all().await);
            statuses
        });
        assert!(statuses.iter().all(|status| status == "200"), "{statuses:?}");
        assert_eq!(server.numbers().accepted, 1, "one connection for 400 callers");
    });
}

#[test]
fn who_waits_for_a_handshake_is_served_by_a_connection_that_becomes_idle() {
    within(LIMIT, || {
        let site = Site::start(DAY, &[TWO]);
        let (relay, app) = site.behind_relay(TWO);
        let to = relay.addr;
        site.call(async || {
            app.set_gate(false);
            let mut first = sent(to, "/n/first?hold", 1).await.remove(0);
            until("the first", async || (app.numbers().under_way == 1).then_some(())).await;
            // The second one's handshake gets no answer.
            relay.set_gate(false);
            let mut second = sent(to, "/n/second", 1).await.remove(0);
            until("a second connection", async || (relay.numbers().open == 2).then_some(())).await;
            app.set_gate(true);
            assert_eq!(first.answer().await.unwrap().word(), "200");
            let answer =
                timeout(SOON, second.answer()).await.expect("the first one's connection is idle").unwrap();
            assert_eq!(answer.word(), "200", "{answer:?}");
        });
        assert_eq!(app.remembered(), ["/n/first?hold", "/n/second"]);
        assert!(relay.numbers().peak <= 2);
    });
}
