//! Every frame that crosses the switch, searched for a text that must never be seen there.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::{DemoError, ensure};
use super::lab::{LabError, Namespace};

/// `ETH_P_ALL` of `linux/if_ether.h`, in network order: frames of every kind, coming and going.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;
/// Longest frame: veth hands over unsegmented ones of up to 64 KiB.
const LONGEST_FRAME: usize = 128 * 1024;
/// Room for frames that wait to be searched. The kernel drops those that find none.
const BUFFER: usize = 16 * 1024 * 1024;
/// How long frames may take to be searched.
const SETTLE: Duration = Duration::from_secs(5);
/// Begins a datagram that marks a moment in the stream of frames.
const MARKER: &[u8] = b"portcullis-demo-marker";

/// A capture on the switch; ends when dropped.
pub(super) struct Wire {
    switch: Namespace,
    seen: Arc<Seen>,
    markers: Receiver<()>,
    reader: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Seen {
    frames: AtomicU64,
    with_canary: AtomicU64,
    stop: AtomicBool,
}

impl Wire {
    /// Begins to capture; what has crossed before is not seen.
    pub(super) fn watch(switch: &Namespace, canary: &str) -> Result<Self, DemoError> {
        let opened = switch.run(open)?;
        let socket = opened.map_err(DemoError::io("cannot capture on the switch"))?;
        let seen = Arc::new(Seen::default());
        let (sender, markers) = channel();
        let search = {
            let (seen, canary) = (seen.clone(), canary.as_bytes().to_vec());
            move || search(socket, &seen, &canary, &sender)
        };
        let reader = std::thread::Builder::new()
            .spawn(search)
            .map_err(|source| LabError::System { what: "a thread", source })?;
        Ok(Self { switch: switch.clone(), seen, markers, reader: Some(reader) })
    }

    /// Frames so far, and how many of them have the canary in them; all that was sent before this call counts.
    pub(super) fn tally(&self, any_host: SocketAddr) -> Result<(u64, u64), DemoError> {
        while self.markers.try_recv().is_ok() {}
        let sent = self.switch.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(MARKER, any_host)
        })?;
        sent.map_err(DemoError::io("cannot send on the switch"))?;
        let settled = self.markers.recv_timeout(SETTLE).is_ok();
        ensure(settled, || "the capture has stopped".into())?;
        Ok((self.seen.frames.load(Ordering::SeqCst), self.seen.with_canary.load(Ordering::SeqCst)))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL)))?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

fn search(mut socket: Socket, seen: &Seen, canary: &[u8], markers: &Sender<()>) -> io::Result<()> {
    let mut buffer = vec![0; LONGEST_FRAME];
    while !seen.stop.load(Ordering::SeqCst) {
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            Err(error) => return Err(error),
        };
        let frame = buffer.get(..length).unwrap_or_default();
        seen.frames.fetch_add(1, Ordering::SeqCst);
        if contains(frame, canary) {
            seen.with_canary.fetch_add(1, Ordering::SeqCst);
        }
        if contains(frame, MARKER) {
            let _nobody_waits = markers.send(());
        }
    }
    Ok(())
}

fn contains(frame: &[u8], text: &[u8]) -> bool {
    frame.windows(text.len()).any(|window| window == text)
}
