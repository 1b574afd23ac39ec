//! More than there is room for: the surplus is refused at once or waits, and nobody else suffers.

use std::thread;

use portcullis_tests::foreign::{connect, say};
use portcullis_tests::mesh::{HTTP, Pair, metrics};
use portcullis_tests::within;

use super::{DAY, LIMIT, Siege, refusals};

/// Status, time until then in seconds, and which limit.
const OUTCOME: &str = "%{http_code} %{time_total} %header{x-portcullis-overflow}\\n";
/// A refusal that waited for a slot would take as long as a slow answer, which is four seconds and more.
const AT_ONCE: f64 = 3.0;

#[test]
fn the_limits_of_a_destination_rule_admit_exactly_what_they_say() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        // The sample policy: maxConnections 100, http1MaxPendingRequests 50. As many requests as numbers.
        let url = format!("http://{}/slow?ms=[4001-4300]", pair.service(HTTP));
        let parallel = ["--parallel", "--parallel-immediate", "--parallel-max", "300"];
        let all = pair.curl(&[&parallel[..], &["-o", "/dev/null", "-w", OUTCOME, &url]].concat());
        let outcomes: Vec<Vec<&str>> = all.stdout.lines().map(|line| line.split(' ').collect()).collect();
        let with = |status: &str| outcomes.iter().filter(|outcome| outcome[0] == status).collect::<Vec<_>>();
        let (admitted, refused) = (with("200"), with("503"));
        assert_eq!((admitted.len(), refused.len()), (150, 150), "{}{}", all.stdout, all.stderr);
        for outcome in refused {
            assert_eq!(outcome[2], "http1MaxPendingRequests", "{outcome:?}");
            assert!(outcome[1].parse::<f64>().unwrap() < AT_ONCE, "{outcome:?}");
        }
        assert_eq!(refusals(&pair.client, "outbound", "http1MaxPendingRequests"), 150);
        let line = pair.client.log().lines().any(|line| {
            line.contains("is at its limit http1MaxPendingRequests: 50") && line.contains("refused: app ")
        });
        assert!(line, "{}", pair.client.log());
        // All connections there ever were, for 150 requests.
        let connections = r#"portcullis_connections_total{direction="inbound"} 100"#;
        let metrics = metrics(&pair.server.host);
        assert!(metrics.lines().any(|line| line == connections), "{metrics}");
        let good = pair.curl(&["--fail", &format!("http://{}/hello", pair.service(HTTP))]);
        assert!(good.status.success(), "{}", good.stderr);
    });
}

#[test]
fn strangers_who_say_nothing_hold_the_door_no_longer_than_a_handshake_may_take() {
    within(LIMIT, || {
        let room = 8;
        let siege = Siege::under(&format!("limits: {{connections: {room}, handshakeTimeout: 2s}}\n"));
        let service = siege.pair.service(HTTP);
        let strangers: Vec<_> = (0..3 * room).map(|_| connect(&siege.outsider, service)).collect();
        // It waits behind them for six seconds, and curl would give up after 15.
        siege.served();
        let talks = strangers.into_iter().map(|stranger| thread::spawn(move || say(stranger, b"")));
        for talk in talks.collect::<Vec<_>>() {
            assert_eq!(talk.join().unwrap(), "");
        }
        assert_eq!(refusals(&siege.pair.server, "inbound", "plaintext"), 3 * room);
        siege.served();
    });
}
