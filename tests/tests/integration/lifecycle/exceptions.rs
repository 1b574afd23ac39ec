//! Plaintext by plan: until its day begins, and not a connection longer.

use std::io::{Read, Write};
use std::time::Duration;

use portcullis_tests::mesh::{ECHO, OPEN, Pair, Plan};
use portcullis_tests::within;
use time::OffsetDateTime;

use super::expiry::{assert_cut_at, connect, echo_until_cut};
use super::{PATIENCE, ask, metric, now, poll};

const LIMIT: Duration = Duration::from_secs(60);
/// From here to the day on which the exception ends: enough to start everything.
const TIME_LEFT: Duration = Duration::from_secs(8);
const DAY: u64 = 24 * 3600;

/// Two ports open to plaintext, until the day that begins at `midnight`, since the epoch.
fn planned(midnight: u64) -> String {
    let day = OffsetDateTime::from_unix_timestamp(midnight.try_into().unwrap()).unwrap().date();
    let plan = format!("\"reason=a test; owner=tests; expires={day}\"");
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: default\n  \
         namespace: production\n  annotations:\n    portcullis.dev/exception-{OPEN}: {plan}\n    \
         portcullis.dev/exception-{ECHO}: {plan}\nspec:\n  mtls: {{mode: STRICT}}\n  \
         portLevelMtls: {{{OPEN}: {{mode: DISABLE}}, {ECHO}: {{mode: DISABLE}}}}\n"
    )
}

#[test]
fn a_planned_exception_closes_on_its_day_with_all_that_it_let_in() {
    within(LIMIT, || {
        // The sidecar is as far ahead of the clock as is missing to midnight, but for the time left.
        let started = now().as_secs();
        let midnight = (started / DAY + 1) * DAY;
        let ahead = (midnight - started).saturating_sub(TIME_LEFT.as_secs());
        let closes = Duration::from_secs(midnight - ahead);
        let ahead = format!("{ahead}s");
        let service = Plan { arguments: &["--exceptions-ahead", &ahead], ..Plan::default() };
        let policy = planned(midnight);
        let mut pair = Pair::with("24h", &Plan::default(), &service, |mesh| {
            mesh.policy("namespace-mtls-policy.yaml", &policy);
        });
        let outsider = pair.mesh.host("outsider");
        let url = format!("http://{}/", pair.service(OPEN));
        assert_eq!(ask(outsider.command("curl"), &url).0, "200");
        let open =
            format!(r#"portcullis_exception_open{{direction="inbound",port="{OPEN}",justified="true"}}"#);
        assert_eq!(metric(&pair.server.host, &open), 1.0);

        let stream = connect(&outsider, pair.service(ECHO));
        let mut request = connect(&outsider, pair.service(OPEN));
        request.write_all(b"GET /slow?ms=30000 HTTP/1.1\r\nhost: service\r\n\r\n").unwrap();
        assert!(now() < closes, "set up too late");
        let (cut, failed) = std::thread::scope(|scope| {
            let stream = scope.spawn(|| echo_until_cut(stream));
            let request = scope.spawn(|| {
                let mut answer = Vec::new();
                let _cut_in_order_or_not = request.read_to_end(&mut answer);
                assert!(answer.is_empty(), "{}", answer.escape_ascii());
                now()
            });
            (stream.join().unwrap(), request.join().unwrap())
        });
        assert_cut_at(closes, cut, "the stream");
        assert_cut_at(closes, failed, "the request");

        assert_eq!(ask(outsider.command("curl"), &url).0, "000");
        let refusal = format!(
            "spoke plaintext (HTTP GET) to STRICT port {OPEN}; PeerAuthentication production/default"
        );
        pair.server.line(|line| line.contains(&refusal), PATIENCE).unwrap();
        assert_eq!(metric(&pair.server.host, &open), 0.0);
        let expired = r#"portcullis_connections_expired_total{direction="inbound"}"#;
        assert_eq!(metric(&pair.server.host, expired), 2.0);
        // The port itself is as good as ever, for those who prove who they are.
        let (status, body) = ask(pair.as_app("curl"), &url);
        assert_eq!(status, "200", "{body}");
    });
}

#[test]
fn where_plans_are_required_a_port_without_one_stays_strict_and_the_refusal_says_what_to_write() {
    within(LIMIT, || {
        let service = Plan { bootstrap: "exceptionPlans: require\n", ..Plan::default() };
        let mut pair = Pair::with("24h", &Plan::default(), &service, |_| {});
        let outsider = pair.mesh.host("outsider");
        let url = format!("http://{}/", pair.service(OPEN));
        assert_eq!(ask(outsider.command("curl"), &url).0, "000");
        let line = pair.server.line(|line| line.contains("refused: peer"), PATIENCE).unwrap();
        for part in
            ["spoke plaintext (HTTP GET) to STRICT port 8080", "portcullis.dev/exception-8080", "expires="]
        {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        poll("a proven caller", || (ask(pair.as_app("curl"), &url).0 == "200").then_some(()));
    });
}
