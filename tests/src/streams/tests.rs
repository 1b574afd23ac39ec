use etherparse::PacketBuilder;

use super::*;

const CANARY: &[u8] = b"canary-7f3a";
const ISN: u32 = u32::MAX - 20;

fn tcp(sequence: u32, syn: bool, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let builder = builder.tcp(4000, 8080, sequence, 1000);
    let builder = if syn { builder.syn() } else { builder.ack(1) };
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3], &length[..], body].concat()
}

/// A stream that starts with a ClientHello, across the wrap of the sequence number.
fn tls() -> Vec<u8> {
    [record(22, &[1; 30]), record(20, &[1]), record(23, &[9; 100])].concat()
}

/// SYN, then these payloads at these offsets.
fn stream(segments: &[(u32, &[u8])]) -> Vec<Vec<u8>> {
    let mut frames = vec![tcp(ISN, true, b"")];
    for (offset, payload) in segments {
        frames.push(tcp(ISN.wrapping_add(1).wrapping_add(*offset), false, payload));
    }
    frames
}

fn findings(frames: &[Vec<u8>]) -> Findings {
    check(frames, CANARY, |_| false)
}

#[track_caller]
fn assert_leak(frames: &[Vec<u8>], expected: fn(&Leak) -> bool) {
    let leaks = findings(frames).leaks;
    assert!(leaks.len() == 1 && leaks.iter().all(expected), "{leaks:?}");
}

#[test]
fn tls_is_clean_however_it_is_cut_and_ordered() {
    let bytes = tls();
    let (a, b, c) = (&bytes[..3], &bytes[3..40], &bytes[40..]);
    for order in [
        vec![(0, &bytes[..])],
        vec![(0, a), (3, b), (40, c)],
        vec![(40, c), (0, a), (3, b)],
        vec![(0, a), (0, a), (3, b), (40, c), (3, b)],
        vec![(0, a), (3, b), (2, &bytes[2..60]), (40, c)],
    ] {
        let found = findings(&stream(&order));
        found.assert_clean();
        assert_eq!((found.tls_streams, found.tls_bytes), (1, bytes.len()));
    }
    for cut in 1..bytes.len() {
        findings(&stream(&[(0, &bytes[..cut])])).assert_clean();
    }
}

#[test]
fn plaintext_is_found_at_the_start_in_the_middle_and_at_the_end() {
    let plain = |leak: &Leak| matches!(leak, Leak::Plaintext { .. });
    assert_leak(&stream(&[(0, b"GET / HTTP/1.1\r\n")]), plain);
    assert_leak(&stream(&[(0, b"G"), (1, b"ET / HTTP/1.1\r\n")]), plain);
    let mixed = [tls(), b"HTTP/1.1 200 OK".to_vec(), tls()].concat();
    let leaks = findings(&stream(&[(0, &mixed)])).leaks;
    let [Leak::Plaintext { offset, bytes, .. }] = &leaks[..] else { panic!("{leaks:?}") };
    assert_eq!((*offset, bytes.starts_with(b"HTTP/1.1")), (tls().len(), true));
    assert_leak(&stream(&[(0, &[tls(), b"x".to_vec()].concat())]), plain);
}

#[test]
fn what_only_looks_like_tls_is_found() {
    let plain = |leak: &Leak| matches!(leak, Leak::Plaintext { .. });
    for bytes in [
        record(23, &[9; 10]),                         // application data first
        record(22, &[3; 10]),                         // a handshake that is no hello
        record(24, &[1; 10]),                         // heartbeat
        vec![22, 3, 9, 0, 1, 1],                      // no such version
        vec![22, 3, 3, 0, 0],                         // empty
        vec![22, 3, 3, 0xff, 0xff, 1],                // too long
        [tls(), vec![23, 3, 3, 0xff, 0xff]].concat(), // too long, later
    ] {
        assert_leak(&stream(&[(0, &bytes)]), plain);
    }
}

#[test]
fn the_canary_is_found_across_segments_and_in_exempt_streams() {
    let canary = |leak: &Leak| matches!(leak, Leak::Canary(_));
    let bytes = [record(22, &[1; 30]), record(23, CANARY)].concat();
    let cut = bytes.len() - 5;
    let frames = stream(&[(u32::try_from(cut).unwrap(), &bytes[cut..]), (0, &bytes[..cut])]);
    assert_leak(&frames, canary);
    assert!(matches!(check(&frames, CANARY, |_| true).leaks[..], [Leak::Canary(_)]));
}

#[test]
fn the_canary_is_found_in_datagrams_and_outside_ip() {
    let mut udp = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64);
    builder.udp(1, 443).write(&mut udp, CANARY).unwrap();
    let mut ping = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    builder.icmpv4_echo_request(1, 1).write(&mut ping, CANARY).unwrap();
    for frame in [udp, ping] {
        assert!(matches!(check(&[frame], CANARY, |_| true).leaks[..], [Leak::Canary(_)]));
    }
    let strange = [&[0; 12], &[0x88, 0xb6][..], CANARY, &[0; 40]].concat();
    assert_leak(&[strange], |leak| *leak == Leak::CanaryOutsideIp);
}

#[test]
fn an_undeclared_datagram_is_a_leak_and_neighbour_discovery_is_not() {
    let mut udp = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    builder.udp(1, 53).write(&mut udp, b"query").unwrap();
    assert_leak(&[udp.clone()], |leak| matches!(leak, Leak::Datagram(_)));
    check(&[udp], CANARY, |flow| flow.destination.port() == 53).assert_clean();
    let mut solicit = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 255);
    builder.icmpv6_raw(135, 0, [0; 4]).write(&mut solicit, &[0; 16]).unwrap();
    findings(&[solicit]).assert_clean();
}

#[test]
fn a_stream_whose_bytes_are_not_all_known_is_a_leak() {
    let inconsistent = |leak: &Leak| matches!(leak, Leak::Inconsistent(_));
    let bytes = tls();
    assert_leak(&stream(&[(0, &bytes[..10]), (11, &bytes[11..])]), inconsistent);
    assert_leak(&stream(&[(0, &bytes), (7, b"other")]), inconsistent);
    assert_leak(&[tcp(5, false, &bytes)], |leak| matches!(leak, Leak::NoStart(_)));
    findings(&[tcp(5, false, b"")]).assert_clean();
    assert_leak(&[vec![0; 9]], |leak| matches!(leak, Leak::Unreadable(_)));
}

#[test]
fn a_second_connection_of_the_same_ports_is_judged_by_itself() {
    let mut frames = stream(&[(0, &tls())]);
    frames.push(tcp(77_000, true, b""));
    frames.push(tcp(77_001, false, b"hello in the clear"));
    assert_leak(&frames, |leak| matches!(leak, Leak::Plaintext { offset: 0, .. }));
}
