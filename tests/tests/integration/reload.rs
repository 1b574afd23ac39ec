//! Policy changes while the sidecars run: no request is lost, a mistake changes nothing, and whoever asks is told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis::demo::lab::{Finished, Host};
use portcullis::demo::programs::APP_USER;
use portcullis_identity::Clock;
use portcullis_tests::mesh::{COMMAND, HTTP, Mesh, OPEN, Pair, Plan, metrics, status};
use portcullis_tests::within;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
const DAY: &str = "24h";
/// For a change to be noticed: far less than the poll takes.
const SOON: Duration = Duration::from_secs(8);
/// Reloads under load.
const RELOADS: u64 = 100;
/// Of load: requests per second, and seconds.
const RATE: u32 = 200;
const SECONDS: u64 = 45;
const GENERATION: &str = "portcullis_policy_generation ";

fn now() -> Duration {
    Clock::system().now()
}

/// Asks again until there is an answer.
fn soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up = now() + SOON;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() < give_up, "{what}: not within {SOON:?}");
    }
}

fn generation(host: &Host) -> u64 {
    let page = metrics(host);
    let value = page.lines().find_map(|line| line.strip_prefix(GENERATION));
    value.unwrap_or_else(|| panic!("no generation in\n{page}")).parse().unwrap()
}

/// A policy that opens one port, which nobody uses here.
fn opening(port: u16) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: production}}\n\
         spec: {{mtls: {{mode: STRICT}}, portLevelMtls: {{{port}: {{mode: DISABLE}}}}}}\n"
    )
}

/// The next generation of a directory that is swapped as a mounted ConfigMap is.
fn swap(directory: &Path, generation: u64, text: &str) {
    let hidden = format!("..{generation}");
    fs::create_dir_all(directory.join(&hidden)).unwrap();
    fs::write(directory.join(&hidden).join("peer-authentication.yaml"), text).unwrap();
    symlink(&hidden, directory.join("..next")).unwrap();
    fs::rename(directory.join("..next"), directory.join("..data")).unwrap();
}

fn portcullis(pair: &Pair, host: &Host, arguments: &[&str]) -> Finished {
    host.command(&pair.mesh.programs.portcullis).args(arguments).run(COMMAND).unwrap()
}

/// `portcullis status --output json`, on the service's host.
fn told(pair: &Pair) -> Value {
    let told = portcullis(pair, &pair.server.host, &["status", "--output", "json"]);
    assert!(told.status.success(), "{}", told.stderr);
    serde_json::from_str(&told.stdout).unwrap()
}

/// Changes the policy of both sidecars, each time when both have taken up the change before.
fn reload(pair: &Pair, times: u64, change: impl Fn(u64)) {
    for time in 1..=times {
        let hosts = [&pair.client.host, &pair.server.host].map(|host| (host, generation(host)));
        change(time);
        for (host, before) in hosts {
            soon("the next generation", || (generation(host) > before).then_some(()));
        }
    }
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request() {
    within(LIMIT, || {
        let pair = Pair::with(DAY, &Plan::default(), &Plan::default(), |mesh| {
            fs::remove_file(mesh.dir().join("policy/namespace-mtls-policy.yaml")).unwrap();
            mesh.policy("peer-authentication.yaml", &opening(1));
        });
        let either = |time: u64| opening(if time.is_multiple_of(2) { 2 } else { 3 });
        let load = pair.load(RATE, SECONDS);
        let started = now();
        // By renaming a file over the old one, then by swapping the link that leads to it.
        let name = "peer-authentication.yaml";
        reload(&pair, RELOADS / 2, |time| pair.mesh.replace_policy(name, &either(time)));
        let directory = pair.mesh.dir().join("policy");
        swap(&directory, 0, &opening(1));
        let link = directory.join("link");
        symlink("..data/peer-authentication.yaml", &link).unwrap();
        reload(&pair, 1, |_| fs::rename(&link, directory.join(name)).unwrap());
        reload(&pair, RELOADS / 2, |time| swap(&directory, time, &either(time)));
        let took = now() - started;
        assert!(took < Duration::from_secs(SECONDS), "{RELOADS} reloads took {took:?}, longer than the load");

        let status = load.wait(Duration::from_secs(SECONDS + 10)).unwrap();
        let report: Value = serde_json::from_str(&load.output().replace('\n', "")).unwrap();
        println!("{RELOADS} reloads in {took:?}; {} sent, {} failed", report["sent"], report["failed"]);
        assert!(status.success() && report["failed"] == 0, "{report}");
        assert_eq!(report["sent"], u64::from(RATE) * SECONDS, "{report}");
        for host in [&pair.client.host, &pair.server.host] {
            assert_eq!(generation(host), RELOADS + 2, "each change is one reload");
            let page = metrics(host);
            assert!(page.contains("portcullis_policy_last_reload_successful 1"), "{page}");
            assert!(page.contains("portcullis_policy_reloads_total{result=\"fault\"} 0"), "{page}");
        }
    });
}

#[test]
fn a_bad_policy_changes_nothing_and_is_shown_until_a_good_one_comes() {
    within(LIMIT, || {
        let mut pair = Pair::start(DAY);
        let outsider = pair.mesh.host("outsider");
        let url = format!("http://{}/hello", pair.service(OPEN));
        let proven = format!("http://{}/hello", pair.service(HTTP));
        assert_eq!(status(&outsider, &url), "200", "open by the sample policy");

        let name = "namespace-mtls-policy.yaml";
        pair.mesh.replace_policy(name, &opening(OPEN).replace("DISABLE", "PERMISSIVE"));
        soon("the fault", || {
            let page = metrics(&pair.server.host);
            page.contains("portcullis_policy_reloads_total{result=\"fault\"} 1").then_some(())
        });
        let line = pair.server.line(|line| line.contains("have faults and are not used"), SOON).unwrap();
        assert!(line.contains("PERMISSIVE") && line.contains(name) && line.contains("ERROR"), "{line}");
        let told_of = told(&pair);
        assert_eq!(told_of["policy"]["generation"], 1);
        let report = told_of["policy"]["fault"]["report"].as_str().unwrap();
        assert!(report.contains(&format!("{name}:4:")) && report.contains("1 fault"), "{report}");
        let page = portcullis(&pair, &pair.server.host, &["status"]).stdout;
        assert!(page.contains("FAULT at ") && page.contains("PERMISSIVE"), "{page}");
        assert_eq!(status(&outsider, &url), "200", "the last good policy stays");
        assert!(pair.curl(&[&proven]).status.success());

        pair.mesh.replace_policy(name, &opening(1));
        soon("the good policy", || (generation(&pair.server.host) == 2).then_some(()));
        assert_eq!(status(&outsider, &url), "000", "the port is STRICT by now");
        let told_of = told(&pair);
        assert_eq!(told_of["policy"]["fault"], Value::Null);
        let open = r#"portcullis_exception_open{direction="inbound",port="8080""#;
        let page = metrics(&pair.server.host);
        assert!(!page.contains(open), "an exception that is no more is told as one: {page}");
        // And asked for, without any change.
        let id = pair.server.id().unwrap().to_string();
        assert!(pair.server.host.command("kill").args(["-HUP", &id]).run(COMMAND).unwrap().status.success());
        soon("the policy, read again", || (generation(&pair.server.host) == 3).then_some(()));
    });
}

#[test]
fn status_and_failures_tell_how_it_is() {
    within(LIMIT, || {
        let mut pair = Pair::start(DAY);
        let none = portcullis(&pair, &pair.server.host, &["verify", "failures"]);
        assert_eq!((none.status.code(), none.stdout.trim()), (Some(0), "nobody was refused"));

        let outsider = pair.mesh.host("outsider");
        let service = pair.service(HTTP);
        for _ in 0..3 {
            assert_eq!(status(&outsider, &format!("http://{service}/")), "000");
        }
        assert!(pair.curl(&[&format!("http://{service}/hello")]).status.success());
        let failures = portcullis(&pair, &pair.server.host, &["verify", "failures", "--output", "json"]);
        assert_eq!(failures.status.code(), Some(1), "{}", failures.stderr);
        let failures: Value = serde_json::from_str(&failures.stdout).unwrap();
        let failing = &failures["failures"][0];
        assert_eq!(failing["peer"], outsider.ipv4().to_string());
        assert_eq!((&failing["port"], &failing["count"]), (&HTTP.into(), &3.into()));
        assert_eq!((&failing["reason"], &failing["direction"]), (&"plaintext".into(), &"inbound".into()));
        assert_eq!(failing["rules"][0], "PeerAuthentication production/default");
        assert!(failing["advice"].as_str().unwrap().contains("sidecar"), "{failing}");
        let table = portcullis(&pair, &pair.server.host, &["verify", "failures"]);
        assert_eq!(table.status.code(), Some(1));
        assert!(table.stdout.contains("spoke plaintext (HTTP GET) to STRICT port 8443"), "{}", table.stdout);

        let told = told(&pair);
        let identity = &told["identity"];
        assert_eq!(identity["id"], "spiffe://cluster.local/ns/production/sa/api-service");
        assert_eq!(identity["state"], "certified");
        assert!(identity["renewal_in_s"].as_i64().unwrap() > 3600, "{identity}");
        assert!(identity["certificate"]["left_s"].as_i64().unwrap() > 3600, "{identity}");
        assert!(identity["trust"][0]["anchors"][0]["left_s"].as_i64().unwrap() > 3600, "{identity}");
        let directions = told["listeners"].as_array().unwrap().iter();
        let directions: Vec<_> = directions.map(|each| each["direction"].as_str().unwrap()).collect();
        assert!(["inbound", "outbound", "own"].iter().all(|direction| directions.contains(direction)));
        let ports = told["inbound"]["ports"].as_array().unwrap();
        let open = ports.iter().find(|port| port["port"] == OPEN).unwrap();
        assert_eq!((&open["mode"], &open["exception"]["open"]), (&"DISABLE".into(), &true.into()));
        assert_eq!(told["inbound"]["default_rule"], "PeerAuthentication production/default");
        assert_eq!(told["refusals"]["recent"][0]["count"], 3);

        // From the client's side: where it goes, and what for.
        let page = portcullis(&pair, &pair.client.host, &["status"]);
        assert!(page.status.success(), "{}", page.stderr);
        for part in [
            "spiffe://cluster.local/ns/production/sa/client",
            "api-service.production.svc.cluster.local:8443",
            "mutual TLS, SNI api-service.production.svc.cluster.local, expects spiffe://cluster.local/ns/production/sa/*",
            "VirtualService production/api-service (http[1])",
            "connections 100",
            "127.0.0.1:15000",
            "no AuthorizationPolicy: every proven peer",
        ] {
            assert!(page.stdout.contains(part), "{part} is not in\n{}", page.stdout);
        }
        assert!(!page.stdout.contains('\u{1b}'), "no colours in a pipe");
        // It is for the host itself: neither probes nor metrics tell it.
        let address = pair.server.host.ipv4();
        assert_eq!(status(&outsider, &format!("http://{address}:15021/status")), "404");
        assert_eq!(status(&outsider, &format!("http://{address}:15000/status")), "000");
    });
}

#[test]
fn a_unix_socket_is_for_the_sidecar_s_user_and_root() {
    within(LIMIT, || {
        let server = Plan { bootstrap: "admin: unix:admin\n", ..Plan::default() };
        let pair = Pair::with(DAY, &Plan::default(), &server, |_| {});
        let dir = pair.mesh.dir().join("api-service");
        let socket = format!("unix:{}", dir.join("admin").display());
        let config = dir.join("portcullis.yaml").display().to_string();
        for which in [["--admin", &socket], ["--config", &config]] {
            let page = portcullis(&pair, &pair.server.host, &[&["status"][..], &which].concat());
            assert!(page.status.success(), "{}", page.stderr);
            let listener = format!("{socket}  own");
            assert!(page.stdout.contains(&listener), "{listener} is not in {}", page.stdout);
        }
        let program = &pair.mesh.programs.portcullis;
        let app = pair.server.host.command(program).args(["status", "--admin", &socket]).user(APP_USER);
        let app = app.run(COMMAND).unwrap();
        assert_eq!(app.status.code(), Some(2), "{}", app.stdout);
        assert!(app.stderr.contains("Permission denied"), "{}", app.stderr);
    });
}

#[test]
fn an_explicit_listener_outlives_its_service_and_says_so() {
    within(LIMIT, || {
        let listener = "listeners:\n- {direction: outbound, bind: 127.0.0.1:7000, \
                        destination: api-service.production.svc.cluster.local:8443}\n";
        let client = Plan { bootstrap: listener, ..Plan::default() };
        let pair = Pair::with(DAY, &client, &Plan::default(), |_| {});
        let ask = || {
            let answer = pair.curl(&["-w", "%{http_code}", "http://127.0.0.1:7000/hello"]);
            answer.stdout.trim_end().to_owned()
        };
        assert!(ask().ends_with("200"), "{}", ask());
        let path = pair.mesh.dir().join("policy/service-entry.yaml");
        let entry = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        soon("the policy without the service", || (generation(&pair.client.host) == 2).then_some(()));
        let answer = ask();
        assert!(answer.contains("unknown_host") && answer.ends_with("502"), "{answer}");
        pair.mesh.policy("service-entry.yaml", &entry);
        soon("the service", || ask().ends_with("200").then_some(()));
    });
}

#[test]
fn status_and_failures_say_when_there_is_nothing_to_ask() {
    within(LIMIT, || {
        let mut mesh = Mesh::start(DAY);
        let host = mesh.host("lonely");
        let silent: PathBuf = mesh.dir().join("nobody");
        let silent = format!("unix:{}", silent.display());
        let config = mesh.dir().join("none.yaml").display().to_string();
        for (arguments, parts) in [
            (&["status"][..], &["no sidecar answers at 127.0.0.1:15000", "--admin"][..]),
            (&["verify", "failures"], &["no sidecar answers at 127.0.0.1:15000", "--admin"]),
            (&["status", "--admin", &silent], &["no sidecar answers at unix:", "No such file"]),
            (&["status", "--admin", "here"], &["--admin", "IP:PORT"]),
            (&["status", "--config", &config], &["none.yaml: cannot be read"]),
        ] {
            let finished = host.command(&mesh.programs.portcullis).args(arguments).run(COMMAND).unwrap();
            assert_eq!(finished.status.code(), Some(2), "{arguments:?}: {}", finished.stderr);
            assert!(finished.stdout.is_empty(), "{}", finished.stdout);
            for part in parts {
                assert!(
                    finished.stderr.contains(part),
                    "{arguments:?}: {part} is not in {}",
                    finished.stderr
                );
            }
        }
    });
}
