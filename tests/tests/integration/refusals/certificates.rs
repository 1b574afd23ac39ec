//! TLS with the wrong certificate, and with the right one: who gets in, and how often it is asked.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use portcullis_tests::foreign::{
    Root, Shown, connect, connect_tls, from_now, handshake, leaf_params, say, uri,
};
use portcullis_tests::mesh::{COMMAND, HTTP, curl, file};
use portcullis_tests::within;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls::StreamOwned;
use serde_json::Value;

use super::{FRIEND, LIMIT, LINE, STRICT, Siege};

const HTTP1: &[u8] = b"http/1.1";
const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";

/// A TLS client in Python, as an app without sidecar would be: twice, the second time with the first session.
const PYTHON: &str = r#"
import socket, ssl, sys
address, port, pem, root, version = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
context.check_hostname = False  # The name is a SPIFFE ID, which Python does not look at.
context.load_cert_chain(pem)
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
session = None
for _ in range(2):
    raw = socket.create_connection((address, int(port)), timeout=15)
    with context.wrap_socket(raw, session=session) as tls:
        tls.sendall(b"GET /hello HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")
        answer = b""
        while chunk := tls.recv(65536): answer += chunk
        session = tls.session
        print("reused" if tls.session_reused else "full", answer.split(b"\r\n\r\n", 1)[1].decode())
"#;

/// A leaf that names the client's own identity, but for what `spoil` does to it.
fn spoiled(root: &Root, spoil: impl FnOnce(&mut CertificateParams)) -> Shown {
    let mut params = leaf_params("spiffe://cluster.local/ns/production/sa/client");
    spoil(&mut params);
    root.leaf(&params, 0)
}

fn bad_certificates(root: &Root) -> Vec<(&'static str, &'static str, Shown)> {
    let client = leaf_params("spiffe://cluster.local/ns/production/sa/client");
    let impostor = Root::new("root");
    let foreign = |id: &str| root.leaf(&leaf_params(id), 0);
    vec![
        (
            "untrusted_issuer",
            "claims spiffe://cluster.local/ns/production/sa/client",
            impostor.leaf(&client, 0),
        ),
        ("untrusted_issuer", "no valid path to a root", Shown::self_signed(&client)),
        (
            "expired",
            "the peer expired",
            spoiled(root, |p| {
                (p.not_before, p.not_after) = (from_now(-7200), from_now(-3600));
            }),
        ),
        ("not_an_svid", "not valid before", spoiled(root, |p| p.not_before = from_now(1800))),
        (
            "wrong_trust_domain",
            "spiffe://other.example/ns/production/sa/client",
            foreign("spiffe://other.example/ns/production/sa/client"),
        ),
        ("not_an_svid", "not a SPIFFE ID", foreign("spiffe://Cluster.local/ns/production/sa/client")),
        ("not_an_svid", "2 URIs", spoiled(root, |p| p.subject_alt_names.push(uri(FRIEND)))),
        (
            "not_an_svid",
            "no URI",
            spoiled(root, |p| {
                p.subject_alt_names = vec![rcgen::SanType::DnsName("client".try_into().unwrap())];
            }),
        ),
        (
            "not_an_svid",
            "a CA certificate used as a leaf",
            spoiled(root, |p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                p.key_usages.push(KeyUsagePurpose::KeyCertSign);
            }),
        ),
        ("not_an_svid", "no extended key usage", spoiled(root, |p| p.extended_key_usages.clear())),
        (
            "not_an_svid",
            "lacks clientAuth",
            spoiled(root, |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        ("not_an_svid", "no key usage", spoiled(root, |p| p.key_usages.clear())),
        ("too_many_certificates", "shows 101 certificates", root.leaf(&client, 100)),
    ]
}

#[test]
fn a_bad_certificate_is_refused_for_what_is_wrong_with_it() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let service = siege.pair.service(HTTP);
        let before = siege.served();
        for (reason, says, shown) in bad_certificates(&siege.root) {
            let got = siege.refused(reason, &[says, "STRICT port 8443", STRICT], || {
                say(connect_tls(&siege.outsider, service, Some(&shown), &[HTTP1]), REQUEST)
            });
            assert_eq!(got, "", "{says}");
        }
        let nobody = siege.refused("no_client_certificate", &["STRICT port 8443", STRICT], || {
            curl(siege.outsider.command("curl"), &["--insecure", &format!("https://{service}/hello")])
        });
        assert!(!nobody.status.success() && nobody.stdout.is_empty(), "{}", nobody.stdout);
        let alien = siege.refused("no_common_alpn", &["STRICT port 8443", STRICT], || {
            say(connect_tls(&siege.outsider, service, Some(&siege.friend()), &[b"h3"]), REQUEST)
        });
        assert_eq!(alien, "");
        assert_eq!(siege.served(), before, "a refused request has reached the app");
        // The same client with nothing spoiled.
        let good = spoiled(&siege.root, |_| {});
        let got = say(connect_tls(&siege.outsider, service, Some(&good), &[HTTP1]), REQUEST);
        assert!(got.contains("URI=spiffe://cluster.local/ns/production/sa/client"), "{got}");
        assert_eq!(siege.served(), before + 1);
    });
}

#[test]
fn a_client_without_sidecar_gets_in_with_an_svid_however_it_cuts_its_hello() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let (service, friend) = (siege.pair.service(HTTP), siege.friend());
        for cut in [Cut::Writes, Cut::Records] {
            for alpn in [&[HTTP1][..], &[]] {
                let io = Cutter { stream: connect(&siege.outsider, service), cut, greeted: false };
                let got = say(StreamOwned::new(handshake(Some(&friend), alpn), io), REQUEST);
                assert!(got.contains(&format!("URI={FRIEND}")), "{cut:?}: {got}");
            }
        }
        let dir = siege.pair.mesh.dir();
        let pem = friend.file(dir, "friend.pem");
        let root = dir.join("root.pem").display().to_string();
        let url = format!("https://{service}/hello");
        // curl has no way to check the chain and not the name.
        let got = curl(siege.outsider.command("curl"), &["--insecure", "--cert", &pem, &url]);
        let seen: Value = serde_json::from_str(&got.stdout).unwrap();
        assert!(seen["peer"].as_str().unwrap().ends_with(&format!(";URI={FRIEND}")), "{seen}");
        // openssl checks the chain, and says what became of it.
        let openssl = siege.outsider.command("openssl").args(["s_client", "-connect", &service.to_string()]);
        let openssl = openssl.args(["-CAfile", &root, "-cert", &pem, "-verify_return_error"]).run(COMMAND);
        let openssl = openssl.unwrap();
        assert!(openssl.stdout.contains("Verify return code: 0 (ok)"), "{}", openssl.stdout);
    });
}

#[test]
fn no_session_is_ever_resumed() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let (service, dir) = (siege.pair.service(HTTP), siege.pair.mesh.dir());
        let root = dir.join("root.pem").display().to_string();
        let pem = own_svid(&siege);
        for version in ["TLSv1_2", "TLSv1_3"] {
            let python = siege.outsider.command("python3").args(["-c", PYTHON, &service.ip().to_string()]);
            let said = python.args([HTTP.to_string().as_str(), &pem, &root, version]).check(COMMAND).unwrap();
            assert_eq!(said.lines().filter(|line| line.starts_with("full ")).count(), 2, "{version}: {said}");
            let seen = said.matches(r#"sa/client","service""#).count();
            assert_eq!(seen, 2, "{said}");
        }
        siege.served();
    });
}

/// The certificate that the client's sidecar has from the authority, as its state has it, for `openssl`.
fn own_svid(siege: &Siege) -> String {
    let dir = siege.pair.mesh.dir();
    siege.pair.client.line(|line| line.contains("certificate received"), LINE).unwrap();
    let state = fs::read_to_string(dir.join("client/state/svid.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let armoured = |what: &str, base64: &Value| {
        let base64 = base64.as_str().unwrap().as_bytes().chunks(64).map(String::from_utf8_lossy);
        format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", base64.collect::<Vec<_>>().join("\n"))
    };
    let chain = state["chain"].as_array().unwrap().iter().map(|der| armoured("CERTIFICATE", der));
    let pem = chain.collect::<String>() + &armoured("PRIVATE KEY", &state["key"]);
    file(dir, "svid.pem", pem.as_bytes()).display().to_string()
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    /// One byte for each write: as many TCP segments.
    Writes,
    /// One byte of the ClientHello in each TLS record.
    Records,
}

/// Cuts what is sent into the smallest pieces there are.
struct Cutter {
    stream: TcpStream,
    cut: Cut,
    greeted: bool,
}

impl Read for Cutter {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.cut {
            Cut::Writes => self.stream.write(&bytes[..1]),
            Cut::Records if self.greeted => self.stream.write(bytes),
            Cut::Records => {
                self.greeted = true;
                let (header, hello) = bytes.split_at(5);
                let records = hello.iter().flat_map(|byte| [header[0], header[1], header[2], 0, 1, *byte]);
                self.stream.write_all(&records.collect::<Vec<_>>())?;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
