//! What a VirtualService says, on live traffic: three versions of one service, and rules for all that rules can do.

use std::time::Duration;

use portcullis::demo::lab::Process;
use portcullis::demo::programs::APP_USER;
use portcullis_identity::Clock;
use portcullis_tests::capture::Capture;
use portcullis_tests::mesh::{COMMAND, HTTP, Pair, Plan, SHOP};
use portcullis_tests::within;

const LIMIT: Duration = Duration::from_secs(90);
const DAY: &str = "24h";

/// Rules for the shop, the most special first.
const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: production}
spec:
  host: shop
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: mixed, labels: {pool: mixed}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: production}
spec:
  hosts: [shop]
  http:
  - match:
    - headers: {x-beta: {exact: please}}
    route: [{destination: {host: shop, subset: v2}}]
  - match: [{uri: {prefix: /slow}}]
    timeout: 400ms
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {exact: /old}}]
    redirect: {uri: /new, authority: elsewhere.example.com, redirectCode: 307}
  - match: [{uri: {exact: /fixed}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {exact: /broken}}]
    fault: {abort: {httpStatus: 429, percentage: {value: 100}}}
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {prefix: /mirrored}}]
    mirror: {host: shop, subset: v2}
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {prefix: /before/}}]
    rewrite: {uri: /after/}
    headers: {request: {set: {x-added: here}, remove: [x-gone]}}
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {prefix: /mixed}}]
    route: [{destination: {host: shop, subset: mixed}}]
  - match: [{uri: {prefix: /weighed}}]
    route:
    - {destination: {host: shop, subset: v1}, weight: 80}
    - {destination: {host: shop, subset: v2}, weight: 20}
";

/// A pair with the shop's first two versions; the third is declared and not there.
struct Shop {
    pair: Pair,
    _versions: [Process; 2],
}

impl Shop {
    fn open() -> Self {
        Self::under(RULES)
    }

    fn under(rules: &str) -> Self {
        let pair =
            Pair::with(DAY, &Plan::default(), &Plan::default(), |mesh| mesh.policy("shop.yaml", rules));
        let versions = [("one", SHOP[0]), ("two", SHOP[1])].map(|(name, port)| {
            let at = format!("{}:{port}", pair.server.host.ipv4());
            let command = pair.server.host.command(&pair.mesh.programs.hello);
            let app = command.args(["--listen", &at, "--name", name]).user(APP_USER).spawn().unwrap();
            app.wait_for_line(|line| line.contains("ready"), COMMAND).unwrap();
            app
        });
        Self { pair, _versions: versions }
    }

    /// Status and body of a request of the client's app.
    fn ask(&self, path: &str, arguments: &[&str]) -> (String, String) {
        let url = format!("http://{}{path}", self.pair.service(SHOP[0]));
        let answer = self.pair.curl(&[&["-w", "\n%{http_code}", &url], arguments].concat());
        let (body, status) = answer.stdout.trim_end().rsplit_once('\n').unwrap();
        (status.to_owned(), body.trim_end().to_owned())
    }

    /// Which version answers.
    fn version(&self, path: &str, arguments: &[&str]) -> String {
        let (status, body) = self.ask(path, arguments);
        assert_eq!(status, "200", "{body}");
        let seen: serde_json::Value = serde_json::from_str(&body).unwrap();
        seen["service"].as_str().unwrap().to_owned()
    }
}

#[test]
fn requests_go_where_the_first_rule_that_fits_says() {
    within(LIMIT, || {
        let shop = Shop::open();
        assert_eq!(shop.version("/x", &["-H", "x-beta: please"]), "two");
        let (status, body) = shop.ask("/x", &[]);
        assert_eq!(status, "404");
        assert!(body.contains("VirtualService production/shop"), "{body}");

        let redirected = shop.ask("/old", &["-D", "-"]);
        assert_eq!(redirected.0, "307");
        assert!(redirected.1.contains("location: http://elsewhere.example.com/new"), "{}", redirected.1);
        assert_eq!(shop.ask("/fixed", &[]), ("418".to_owned(), "short and stout".to_owned()));
        assert_eq!(shop.ask("/broken", &[]).0, "429");

        let (_, body) = shop.ask("/before/x", &["-H", "x-gone: not"]);
        let seen: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (seen["path"].as_str(), seen["headers"]["x-added"].as_str()),
            (Some("/after/x"), Some("here"))
        );
        assert!(seen["headers"]["x-gone"].is_null(), "{body}");
    });
}

#[test]
fn a_request_that_takes_too_long_is_answered_with_504_in_time() {
    within(LIMIT, || {
        let shop = Shop::open();
        let clock = Clock::system();
        assert_eq!(shop.version("/slow?ms=1", &[]), "one");
        let began = clock.now();
        let (status, body) = shop.ask("/slow?ms=20000", &[]);
        let took = clock.now() - began;
        assert_eq!(status, "504", "{body}");
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn weights_and_mirrors_reach_both_versions_as_often_as_they_should() {
    within(LIMIT, || {
        let shop = Shop::open();
        let urls = format!("http://{}/weighed?[1-300]", shop.pair.service(SHOP[0]));
        let answers = shop.pair.curl(&[&urls]).stdout;
        let of_two = answers.matches(r#""service":"two""#).count();
        // 60 of 300, give or take seven standard deviations.
        assert!((12..=108).contains(&of_two), "{of_two} of 300");
        assert_eq!(answers.matches(r#""service":"#).count(), 300);

        let count = || shop.ask("/count", &["-H", "x-beta: please"]).1.parse::<usize>().unwrap();
        let before = count();
        let urls = format!("http://{}/mirrored?[1-20]", shop.pair.service(SHOP[0]));
        let answers = shop.pair.curl(&["--data", "a body", &urls]).stdout;
        assert_eq!(answers.matches("a body").count(), 20, "{answers}");
        let give_up = Clock::system().now() + COMMAND;
        while count() < before + 20 {
            assert!(Clock::system().now() < give_up, "{} of 20 copies arrived", count() - before);
        }
    });
}

#[test]
fn a_server_that_is_not_there_is_not_noticed_by_who_only_reads() {
    within(LIMIT, || {
        let shop = Shop::open();
        let urls = format!("http://{}/mixed?[1-100]", shop.pair.service(SHOP[0]));
        let answers = shop.pair.curl(&["-w", "%{http_code} ", &urls]).stdout;
        assert_eq!(answers.matches("200 ").count(), 100, "{answers}");
        assert!(answers.contains(r#""service":"one""#), "{answers}");
    });
}

#[test]
fn clients_of_version_2_take_the_first_route_of_the_sample_and_others_the_second() {
    within(LIMIT, || {
        for (version, rule) in [("v2", "http[0]"), ("v1", "http[1]")] {
            let pair = Pair::with(DAY, &Plan { version, ..Plan::default() }, &Plan::default(), |_| {});
            let answer = pair.curl(&[&format!("http://{}/hello", pair.service(HTTP))]);
            assert!(answer.status.success(), "{}", answer.stderr);
            let wanted = format!("VirtualService production/api-service ({rule})");
            pair.client.line(|line| line.contains(&wanted), COMMAND).unwrap();
        }
    });
}

#[test]
fn http1_of_both_apps_travels_as_http2_where_it_is_to_be_upgraded() {
    /// What a ClientHello offers that offers one protocol alone (RFC 7301, 3.1).
    const H2_ALONE: &[u8] = b"\x00\x10\x00\x05\x00\x03\x02h2";
    const HTTP1_ALONE: &[u8] = b"\x00\x10\x00\x0b\x00\x09\x08http/1.1";
    within(LIMIT, || {
        let offered = |frames: &[Vec<u8>], wanted: &[u8]| {
            frames.iter().any(|frame| frame.windows(wanted.len()).any(|part| part == wanted))
        };
        let upgraded = RULES.replacen(
            "  host: shop\n",
            "  host: shop\n  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}\n",
            1,
        );
        for (rules, upgrades) in [(upgraded.as_str(), true), (RULES, false)] {
            let shop = Shop::under(rules);
            let capture = Capture::start(&shop.pair.mesh.lab, &shop.pair.server.host).unwrap();
            // The app behind the sidecar knows no HTTP/2 at all.
            assert_eq!(shop.version("/x", &["--http1.1", "-H", "x-beta: please"]), "two");
            let frames = capture.stop().unwrap();
            let seen = (offered(&frames, H2_ALONE), offered(&frames, HTTP1_ALONE));
            assert_eq!(seen, (upgrades, !upgrades));
        }
    });
}
