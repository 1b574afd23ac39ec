//! A server that remembers every byte it was sent: what never reached it is not among them.
#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed, and says at what")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use portcullis::demo::lab::Host;
use portcullis_identity::Clock;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::foreign::PATIENCE;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nrecorded\n";
/// How a TLS client begins.
const HANDSHAKE: &[u8] = &[0x16, 3];

/// See the module. It serves until the test's process ends.
#[derive(Clone)]
pub struct Recorder {
    /// Where it listens.
    pub addr: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    /// Listens on a host. With `tls` it records what was encrypted.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn start(host: &Host, port: u16, tls: Option<Arc<ServerConfig>>) -> Self {
        let addr = SocketAddr::from((IpAddr::from(host.ipv4()), port));
        let listener = host.in_namespace(|| TcpListener::bind(addr)).expect("the network").expect("a port");
        let recorder = Self { addr, heard: Arc::default() };
        let serving = recorder.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (recorder, tls) = (serving.clone(), tls.clone());
                thread::spawn(move || recorder.serve(stream, tls));
            }
        });
        recorder
    }

    fn serve(&self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        // A client that stays silent is not worth a thread for ever.
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        match tls {
            None => self.record(stream),
            Some(config) => {
                let connection = ServerConnection::new(config).expect("a server");
                self.record(StreamOwned::new(connection, stream));
            }
        }
    }

    /// Answers whatever may be the end of a request.
    fn record(&self, mut stream: impl Read + Write) {
        let mut buffer = [0; 4096];
        // An error is the client's end, and so is 0.
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let mut heard = self.heard.lock().expect("no panic while recording");
            heard.extend(buffer.iter().take(count));
            // To a ClientHello as well: that is what a server without TLS does.
            let answer = heard.ends_with(b"\n") || heard.starts_with(HANDSHAKE);
            drop(heard);
            if answer && stream.write_all(ANSWER).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }

    /// All of it, once `awaited` is part of it.
    ///
    /// # Panics
    /// When it is not in time; with what was heard.
    #[must_use]
    pub fn heard_until(&self, awaited: &str) -> String {
        let clock = Clock::system();
        let give_up = clock.now() + PATIENCE;
        loop {
            let heard = self.heard();
            if heard.contains(awaited) {
                return heard;
            }
            assert!(clock.now() < give_up, "{awaited:?} was not heard:\n{heard}");
            thread::yield_now();
        }
    }

    /// All of it so far, connections one after the other.
    ///
    /// # Panics
    /// When recording has.
    #[must_use]
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("no panic while recording")).into_owned()
    }
}
