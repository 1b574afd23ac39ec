//! What the platform is told: send traffic here, or do not.

use std::time::Duration;

use portcullis::demo::lab::Host;
use portcullis_tests::mesh::{COMMAND, Mesh, Plan};
use portcullis_tests::within;

use super::{ask, certificate_end, now, poll};

const LIMIT: Duration = Duration::from_secs(90);
const LEAF_LIFE: &str = "8s";
/// A fifth of it.
const OVERDUE: Duration = Duration::from_millis(1600);

/// The readiness probe, asked from outside.
fn ready(from: &Host, sidecar: &Host) -> (String, String) {
    ask(from.command("curl"), &format!("http://{}:15021/healthz/ready", sidecar.ipv4()))
}

#[test]
fn a_sidecar_is_ready_while_its_certificate_is_good_and_neither_before_nor_after() {
    within(LIMIT, || {
        let mut mesh = Mesh::start(LEAF_LIFE);
        let (platform, host) = (mesh.host("platform"), mesh.host("api"));
        mesh.sample_policy(host.ipv4());
        let mut sidecar = mesh.sidecar(&host, &Plan { name: "api-service", ..Plan::default() });
        mesh.authority.kill();
        sidecar.start().unwrap();
        let until = |status: &str, words: &str| {
            poll(&format!("{status} {words}"), || {
                let answer = ready(&platform, &host);
                (answer.0 == status && answer.1.contains(words)).then_some(answer)
            })
        };
        until("503", "no connection to the authority");
        mesh.authority.start_again().unwrap();
        until("200", "certified until");

        mesh.authority.kill();
        let end = certificate_end(&host);
        until("503", "renewal overdue");
        let left = end.checked_sub(now()).expect("not ready before the end");
        assert!(left <= OVERDUE, "not ready with {left:?} left");
        until("503", "the certificate expired at");
        mesh.authority.start_again().unwrap();
        until("200", "certified until");
        let live = format!("http://{}:15021/healthz/live", host.ipv4());
        assert_eq!(ask(platform.command("curl"), &live), ("200".into(), "live".into()));
        assert!(sidecar.terminate(COMMAND).unwrap().success());
    });
}
