//! More than there is room for: the surplus is refused at once or waits, and nobody else suffers.

use std::thread;

use portcullis_tests::foreign::{connect, say};
use portcullis_tests::mesh::HTTP;
use portcullis_tests::within;

use super::{LIMIT, Siege, refusals};

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
