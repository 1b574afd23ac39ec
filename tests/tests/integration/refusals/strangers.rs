//! No mutual TLS at all, and TLS that stops half-way.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use portcullis_tests::foreign::{PATIENCE, connect, handshake, say};
use portcullis_tests::mesh::{COMMAND, HTTP, Pair, curl};
use portcullis_tests::within;

use super::{LIMIT, STRICT, Siege, refused};

#[test]
fn plaintext_to_a_strict_port_is_named_for_what_it_spoke() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let service = siege.pair.service(HTTP);
        let before = siege.served();
        let answer = siege.refused("plaintext", &["(HTTP GET) to STRICT port 8443", STRICT], || {
            curl(siege.outsider.command("curl"), &[&format!("http://{service}/")])
        });
        assert!(!answer.status.success() && answer.stdout.is_empty(), "{}", answer.stdout);
        for (bytes, spoke) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], "(HTTP PRI)"),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "spoke plaintext (not HTTP)"),
            (b"\x16\x02 looks like TLS and is not", "spoke plaintext (not HTTP)"),
            (b"MADEUP / HTTP/1.1\r\n\r\n", "spoke plaintext (not HTTP)"),
        ] {
            let got = siege.refused("plaintext", &[spoke, "to STRICT port 8443", STRICT], || {
                say(connect(&siege.outsider, service), bytes)
            });
            assert_eq!(got, "", "{spoke}");
        }
        assert_eq!(siege.served(), before);
    });
}

#[test]
fn whoever_says_nothing_is_let_go() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let service = siege.pair.service(HTTP);
        let got = siege.refused("plaintext", &["said nothing to STRICT port 8443", STRICT], || {
            say(connect(&siege.outsider, service), b"")
        });
        assert_eq!(got, "");
        siege.refused("plaintext", &["connected and left to STRICT port 8443", STRICT], || {
            connect(&siege.outsider, service).shutdown(Shutdown::Both).unwrap();
        });
        let mut half = Vec::new();
        handshake(None, &[]).write_tls(&mut half).unwrap();
        half.truncate(half.len() / 2);
        let got =
            siege.refused("handshake_timeout", &["no complete TLS handshake within 2s", STRICT], || {
                say(connect(&siege.outsider, service), &half)
            });
        assert_eq!(got, "");
        siege.served();
    });
}

#[test]
fn tls_that_is_broken_old_or_turns_to_plaintext_ends() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let service = siege.pair.service(HTTP);
        let before = siege.served();
        siege.refused("not_tls", &["STRICT port 8443", STRICT], || {
            let mut hello = Vec::new();
            handshake(None, &[]).write_tls(&mut hello).unwrap();
            let got =
                say(connect(&siege.outsider, service), &[&hello, &b"GET / HTTP/1.1\r\n\r\n"[..]].concat());
            assert!(!got.contains("HTTP/1.1"), "{got}");
        });
        siege.refused("closed", &["STRICT port 8443", STRICT], || {
            let mut stream = connect(&siege.outsider, service);
            let mut hello = Vec::new();
            handshake(None, &[]).write_tls(&mut hello).unwrap();
            stream.write_all(&hello).unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            say(stream, b"")
        });
        let old = siege.refused("tls_version", &["no TLS version that is allowed", STRICT], || {
            let openssl =
                siege.outsider.command("openssl").args(["s_client", "-connect", &service.to_string()]);
            openssl.args(["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]).run(COMMAND).unwrap()
        });
        assert!(!old.status.success() && old.stdout.contains("Cipher is (NONE)"), "{}", old.stdout);
        assert_eq!(siege.served(), before);
    });
}

#[test]
fn the_sidecars_own_ports_lead_nowhere() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let Pair { server, .. } = &siege.pair;
        for port in [15001, 15006] {
            // From outside the kernel drops it; curl's code for that is 28, a timeout.
            let url = format!("http://{}:{port}/", server.host.ipv4());
            let outside = siege.outsider.command("curl").args(["-sS", "--max-time", "2", &url]).run(COMMAND);
            assert_eq!(outside.unwrap().status.code(), Some(28), "{port}");
        }
        for (port, direction, who) in [(15001, "outbound", "app"), (15006, "inbound", "peer")] {
            let says = [format!("refused: {who} 127.0.0.1:"), format!("own address 127.0.0.1:{port}")];
            let says = says.each_ref().map(String::as_str);
            let url = format!("http://127.0.0.1:{port}/");
            let inside = refused(server, direction, "own_address", &says, || {
                curl(server.host.command("curl"), &[&url])
            });
            assert!(!inside.status.success(), "{}", inside.stdout);
        }
        siege.served();
    });
}

#[test]
fn idle_strangers_on_the_probe_port_are_bounded_and_soon_make_room() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let probes = siege.pair.service(15021);
        let idle: Vec<_> = (0..64).map(|_| connect(&siege.outsider, probes)).collect();
        let mut probe = connect(&siege.outsider, probes);
        probe.write_all(b"GET /healthz/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        probe.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(probe.read(&mut [0; 1]).is_err(), "the 65th connection was served beside 64 others");
        probe.set_read_timeout(Some(PATIENCE)).unwrap();
        let got = say(probe, b"");
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
        drop(idle);
        siege.served();
    });
}
