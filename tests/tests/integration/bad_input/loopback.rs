//! Without privileges: explicit listeners on loopback, everything on one host and as one ordinary user.

use std::fs;

use portcullis::demo::lab::Process;
use portcullis::demo::programs::PROXY_USER;
use portcullis_tests::mesh::curl;
use portcullis_tests::within;

use super::{LIMIT, SOON, Site, is_ready};

const CLIENT: &str = "interception: none
policy: [policy]
listeners:
- {direction: outbound, bind: \"127.0.0.1:9443\", destination: \"api.production.svc.cluster.local:8443\"}
probes: 127.0.0.3:15021
metrics: 127.0.0.3:15090
admin: 127.0.0.3:15000
";
const SERVICE: &str = "interception: none
listeners:
- {direction: inbound, bind: \"127.0.0.2:8443\", port: 8443, app: \"127.0.0.1:9000\"}
probes: 127.0.0.2:15021
metrics: 127.0.0.2:15090
admin: 127.0.0.2:15000
";
const ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: production}
spec:
  hosts: [api.production.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 8443, name: http-api, protocol: HTTP}]
  endpoints: [{address: 127.0.0.2}]
";

fn sidecar(site: &Site, account: &str, more: &str, token: &str) -> Process {
    let dir = site.own_dir(account);
    fs::create_dir(dir.join("policy")).unwrap();
    fs::write(dir.join("policy/entry.yaml"), ENTRY).unwrap();
    fs::write(dir.join("join-token"), token).unwrap();
    let base = super::BASE.replace("serviceAccount: api", &format!("serviceAccount: {account}"));
    fs::write(dir.join("portcullis.yaml"), format!("{base}{more}")).unwrap();
    let process = site.sidecar(&dir).spawn().unwrap();
    is_ready(&process);
    process
}

#[test]
fn explicit_listeners_need_no_privileges() {
    within(LIMIT, || {
        let site = Site::new();
        let authority = site.authority();
        let token = |account: &str| {
            authority.token(&format!("spiffe://cluster.local/ns/production/sa/{account}")).unwrap()
        };
        let app = site.host.command(&site.programs.hello).args(["--listen", "127.0.0.1:9000"]);
        let app = app.user(PROXY_USER).spawn().unwrap();
        app.wait_for_line(|line| line.contains("ready"), SOON).unwrap();
        let service = sidecar(&site, "api", SERVICE, &token("api"));
        let _client = sidecar(&site, "client", CLIENT, &token("client"));

        let as_user = || site.host.command("curl").user(PROXY_USER);
        let answer = curl(as_user(), &["http://127.0.0.1:9443/hello"]);
        assert!(answer.status.success(), "{}", answer.stderr);
        let seen: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        let peer = seen["peer"].as_str().unwrap();
        assert!(peer.starts_with("By=spiffe://cluster.local/ns/production/sa/api;Hash="), "{peer}");
        assert!(peer.ends_with(";URI=spiffe://cluster.local/ns/production/sa/client"), "{peer}");

        let plaintext = curl(as_user(), &["http://127.0.0.2:8443/hello"]);
        assert!(!plaintext.status.success() && plaintext.stdout.is_empty(), "{}", plaintext.stdout);
        service.wait_for_line(|line| line.contains("STRICT port 8443"), SOON).unwrap();
        let count = curl(as_user(), &["http://127.0.0.1:9000/count"]);
        assert_eq!(count.stdout.trim(), "1", "the app has seen the one call that was proven");
    });
}
