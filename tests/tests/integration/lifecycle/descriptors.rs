//! More connections than file descriptors.

use std::net::TcpStream;
use std::time::Duration;

use portcullis::demo::programs::PROXY_USER;
use portcullis_tests::mesh::{COMMAND, HTTP, Pair, Plan};
use portcullis_tests::within;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{PATIENCE, ask, now, poll};

const LIMIT: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 500;
/// Descriptors that the sidecar may have.
const MOST: usize = 256;

/// The moments at which a log complains about descriptors.
fn complaints(log: &str) -> Vec<OffsetDateTime> {
    let lines = log.lines().filter(|line| line.contains("cannot accept connections"));
    let fields = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    fields.map(|line| OffsetDateTime::parse(line["timestamp"].as_str().unwrap(), &Rfc3339).unwrap()).collect()
}

#[test]
fn out_of_descriptors_a_sidecar_sheds_says_so_and_serves_at_once_when_they_are_back() {
    within(LIMIT, || {
        let patient = Plan { bootstrap: "limits: {handshakeTimeout: 50s}\n", ..Plan::default() };
        let mut pair = Pair::with("24h", &Plan::default(), &patient, |_| {});
        let limit = pair.server.host.command("prlimit").user(PROXY_USER);
        let process = pair.server.id().unwrap().to_string();
        limit.args(["--pid", &process, &format!("--nofile={MOST}:{MOST}")]).check(COMMAND).unwrap();
        let crowd = pair.mesh.host("crowd");
        let url = format!("http://{}/", pair.service(HTTP));
        assert_eq!(ask(pair.as_app("curl"), &url).0, "200");

        let to = pair.service(HTTP);
        let connect = || TcpStream::connect_timeout(&to, PATIENCE).ok();
        let held: Vec<_> =
            crowd.in_namespace(|| (0..CONNECTIONS).filter_map(|_| connect()).collect()).unwrap();
        // Whom there is no room for is told so at once.
        let kept = poll("connections shed", || {
            let kept = held.iter().filter(|stream| !is_reset(stream)).count();
            (kept <= MOST).then_some(kept)
        });
        assert!(kept > MOST / 2, "only {kept} kept: what there was room for was not used");
        // The crowd goes on knocking, until it has been complained about for the third time.
        let moments = poll("three complaints", || {
            let _refused = ask(crowd.command("curl"), &url);
            let moments = complaints(&pair.server.log());
            (moments.len() >= 3).then_some(moments)
        });
        for pair in moments.windows(2) {
            assert!(pair[1] - pair[0] > Duration::from_millis(950), "more than once a second: {moments:?}");
        }

        drop(held);
        let left = now();
        poll("service after the crowd", || (ask(pair.as_app("curl"), &url).0 == "200").then_some(()));
        let took = now() - left;
        assert!(took < Duration::from_secs(1), "back only after {took:?}");
    });
}

/// Whether the other side has ended the connection. The socket is never waited for.
fn is_reset(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.peek(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}
