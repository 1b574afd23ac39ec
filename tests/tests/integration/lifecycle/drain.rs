//! SIGTERM: what is under way is finished, within a deadline, and the app is not left alone before.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis::demo::lab::Process;
use portcullis::demo::programs::APP_USER;
use portcullis_tests::mesh::{COMMAND, HTTP, Mesh, Pair, Plan, metrics};
use portcullis_tests::within;

use super::{PATIENCE, ask, now, poll};

const LIMIT: Duration = Duration::from_secs(90);
/// Requests under way at the signal.
const REQUESTS: usize = 8;

/// Requests of the client's app that take so long, begun.
fn begin(pair: &Pair, requests: usize, ms: u32) -> Vec<Process> {
    let url = format!("http://{}/slow?ms={ms}", pair.service(HTTP));
    let arguments = ["-sS", "--max-time", "15", "-w", "\n%{http_code}", &url];
    let begun = (0..requests).map(|_| pair.as_app("curl").args(arguments).spawn().unwrap()).collect();
    let open = format!(r#"portcullis_connections_open{{direction="inbound"}} {requests}"#);
    poll("all requests at the service", || metrics(&pair.server.host).contains(&open).then_some(()));
    begun
}

#[test]
fn requests_under_way_are_finished_whichever_sidecar_leaves() {
    within(LIMIT, || {
        let mut pair = Pair::start("24h");
        for service_leaves in [true, false] {
            let begun = begin(&pair, REQUESTS, 2000);
            let leaving = if service_leaves { &mut pair.server } else { &mut pair.client };
            let status = leaving.terminate(COMMAND).unwrap();
            assert_eq!(status.code(), Some(0));
            for request in begun {
                request.wait(COMMAND).unwrap();
                assert!(request.output().ends_with("200\n"), "{service_leaves}: {}", request.output());
            }
            let leaving = if service_leaves { &mut pair.server } else { &mut pair.client };
            leaving.start().unwrap();
            leaving.ready().unwrap();
        }
    });
}

#[test]
fn under_load_a_leaving_service_ends_no_answer_half_way() {
    within(LIMIT, || {
        let mut pair = Pair::start("24h");
        let load = pair.load(200, 3);
        poll("load at the service", || {
            let page = metrics(&pair.server.host);
            page.contains(r#"portcullis_requests_total{direction="inbound",code="2xx"}"#).then_some(())
        });
        assert_eq!(pair.server.terminate(COMMAND).unwrap().code(), Some(0));
        let line = load.wait_for_line(|line| line.contains("p99_us"), PATIENCE).unwrap();
        let report: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(report["ok"].as_u64().unwrap() > 0 && report["failed"].as_u64().unwrap() > 0, "{report}");
        // With nobody there any more, a status says so; what had begun to be answered was answered.
        for reason in report["errors"].as_object().unwrap().keys() {
            assert!(["status 502", "status 503"].contains(&reason.as_str()), "{report}");
        }
    });
}

/// The service's app asks another service while it is being drained itself.
fn other_service(mesh: &Mesh) {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: other, namespace: production}}\n\
         spec:\n  hosts: [client.production.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports:\n  - {{number: {HTTP}, name: http, protocol: HTTP}}\n  endpoints:\n  - {{address: {CLIENT}}}\n"
    );
    mesh.policy("other.yaml", &text);
}

/// The second host of every mesh; the first is the authority's.
const CLIENT: &str = "10.77.0.2";

#[test]
fn a_drain_ends_at_its_deadline_and_leaves_the_app_its_way_out_until_then() {
    within(LIMIT, || {
        let drain = Duration::from_secs(3);
        let service = Plan { bootstrap: "limits: {drainTimeout: 3s}\n", ..Plan::default() };
        let mut pair = Pair::with("24h", &Plan::default(), &service, other_service);
        let _others = pair.mesh.apps(&pair.client.host);
        let begun = begin(&pair, 1, 30_000);
        let process = Pid::from_raw(pair.server.id().unwrap());
        let signalled = now();
        kill(process, Signal::SIGTERM).unwrap();
        let host = pair.server.host.clone();
        let ready = format!("http://{}:15021/healthz/ready", host.ipv4());
        let outside = pair.mesh.host("platform");
        let draining = ("503".to_owned(), "draining".to_owned());
        poll("draining", || (ask(outside.command("curl"), &ready) == draining).then_some(()));
        let url = format!("http://{CLIENT}:{HTTP}/");
        let (status, body) = ask(host.command("curl").user(APP_USER), &url);
        assert_eq!(status, "200", "{body}");
        assert!(body.contains("URI=spiffe://cluster.local/ns/production/sa/api-service"), "{body}");
        assert!(now() < signalled + drain, "too late to show anything");
        let refused = ask(pair.as_app("curl"), &format!("http://{}/", pair.service(HTTP)));
        assert_eq!(refused.0, "503", "nothing new is taken: {}", refused.1);

        begun[0].wait(COMMAND).unwrap();
        let cut = now();
        assert!(begun[0].output().ends_with("502\n"), "{}", begun[0].output());
        assert!(cut >= signalled + drain, "cut {:?} too early", signalled + drain - cut);
        pair.server
            .line(|line| line.contains("connections were cut at the drain deadline"), PATIENCE)
            .unwrap();
        assert_eq!(pair.server.terminate(PATIENCE).unwrap().code(), Some(0));
        let took = now() - signalled;
        assert!(took <= drain + Duration::from_secs(1), "the drain took {took:?}");
    });
}
