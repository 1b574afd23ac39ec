//! Connections older than the rules: plaintext that was allowed until now.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use portcullis_tests::capture::Capture;
use portcullis_tests::streams::check;
use portcullis_tests::within;

use super::{APP, CANARY, LIMIT, NEVER, SOON, Scene, assert_connected, connect, listen};

/// A rule that asks for the state makes the kernel track connections. It then takes those older than our rules for
/// established; otherwise it meets them in the middle, and takes them for new.
const TRACKING: &str =
    "add table inet other; add chain inet other output { type filter hook output priority 0; };
    add rule inet other output ct state established accept";

#[test]
fn a_connection_older_than_the_rules_carries_no_more_bytes() {
    within(LIMIT, || carries_no_more_bytes(&Scene::new()));
}

#[test]
fn a_tracked_connection_older_than_the_rules_carries_no_more_bytes() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.nft(&[TRACKING]);
        carries_no_more_bytes(&scene);
    });
}

/// With the workload as client and as server, over both families.
fn carries_no_more_bytes(scene: &Scene) {
    let mut pairs = Vec::new();
    for (workload, peer) in scene.families() {
        let server = listen(&scene.peer, APP, (peer, 80));
        let inside = connect(&scene.workload, APP, (peer, 80), SOON).unwrap();
        pairs.push((inside, server.accept().unwrap().0));
        let server = listen(&scene.workload, APP, (workload, 80));
        let outside = connect(&scene.peer, APP, (workload, 80), SOON).unwrap();
        pairs.push((server.accept().unwrap().0, outside));
    }
    for (inside, outside) in &pairs {
        assert_connected(inside, outside);
    }
    let _target = scene.target();
    let capture = Capture::start(&scene.lab, &scene.workload).unwrap();
    scene.apply();
    for (inside, outside) in &mut pairs {
        // A reset is as good as silence.
        let _reset = inside.write_all(CANARY);
        assert_gets_nothing(outside);
        let _reset = outside.write_all(b"from outside");
        assert_gets_nothing(inside);
        let _reset = inside.write_all(CANARY);
        assert_gets_nothing(outside);
    }
    let outsiders = scene.peer.addresses();
    let from_outside = |flow: &portcullis_tests::streams::Flow| outsiders.contains(&flow.source.ip());
    check(&capture.stop().unwrap(), CANARY, from_outside).assert_clean();
}

#[track_caller]
fn assert_gets_nothing(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(NEVER)).unwrap();
    match stream.read(&mut [0; 100]) {
        Ok(0) => {}
        Ok(read) => panic!("{read} bytes came through"),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset), "{error}")
        }
    }
}
