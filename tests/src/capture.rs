//! Every frame that crosses one port of a lab's switch, without loss or a failure.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout, RxqOvfl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind,
    recv, recvmsg, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use portcullis::demo::lab::{Host, Lab, LabError, Namespace};

/// What the kernel holds for us while the reader is not scheduled.
const BUFFER: usize = 64 << 20;
/// The longest frame: 64 KiB of segmentation offload, and headers.
const LONGEST_FRAME: usize = 70_000;
/// More than this is a test that should capture less.
const MOST_BYTES: usize = 1 << 30;
/// A frame of the "local experimental" type (IEEE 802), which ends the capture: what was before it has been read.
const MARKER: &[u8; 60] = b"\x02pcull\x02pcull\x88\xb5end of capture                                ";

/// Why there is no complete capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The socket could not be made or read.
    #[error("cannot capture: {0}")]
    Socket(#[from] Errno),
    /// No interface of that name.
    #[error("the switch has no port {0}")]
    NoPort(String),
    /// The kernel dropped frames, or the marker at the end.
    #[error("the capture lost {0} frames: it proves nothing")]
    Lossy(u32),
    /// More than 1 GiB, or a frame longer than 70,000 bytes.
    #[error("the capture is too large: {0}")]
    TooLarge(&'static str),
    /// The reader's thread is gone.
    #[error("the capture's reader panicked")]
    Reader,
}

/// A capture in progress.
#[derive(Debug)]
pub struct Capture {
    hub: Namespace,
    port: String,
    stopping: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<Vec<Vec<u8>>, CaptureError>>>,
}

impl Capture {
    /// Starts to capture all that `host` sends and receives; on return it is running.
    ///
    /// # Errors
    /// [`CaptureError`]; it needs `CAP_NET_RAW`.
    pub fn start(lab: &Lab, host: &Host) -> Result<Self, CaptureError> {
        Self::start_buffered(lab, host, BUFFER)
    }

    fn start_buffered(lab: &Lab, host: &Host, buffer: usize) -> Result<Self, CaptureError> {
        let (hub, port) = (lab.hub().clone(), host.switch_port().to_owned());
        let listening = hub.run(|| open(&port, Some(SockProtocol::EthAll)))??;
        setsockopt(&listening, RcvBufForce, &buffer)?;
        setsockopt(&listening, RxqOvfl, &1)?;
        setsockopt(&listening, ReceiveTimeout, &TimeVal::milliseconds(100))?;
        // Frames of other ports, from between the making of the socket and its binding.
        while recv(listening.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT).is_ok() {}
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let reader = thread::spawn(move || read(&listening, &stop));
        Ok(Self { hub, port, stopping, reader: Some(reader) })
    }

    /// Ends the capture and gives the frames, each from its Ethernet header on.
    ///
    /// # Errors
    /// [`CaptureError::Lossy`] when a single frame was lost.
    pub fn stop(mut self) -> Result<Vec<Vec<u8>>, CaptureError> {
        let sending = self.hub.run(|| open(&self.port, None))??;
        send(sending.as_raw_fd(), MARKER, MsgFlags::empty())?;
        self.stopping.store(true, Ordering::SeqCst);
        let reader = self.reader.take().ok_or(CaptureError::Reader)?;
        reader.join().map_err(|_| CaptureError::Reader)?
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}

/// Sends one frame, as it is, out of `eth0` of `host`.
///
/// # Errors
/// [`CaptureError`]; it needs `CAP_NET_RAW`.
pub fn inject(host: &Host, frame: &[u8]) -> Result<(), CaptureError> {
    let sending = host.in_namespace(|| open("eth0", None))??;
    send(sending.as_raw_fd(), frame, MsgFlags::empty())?;
    Ok(())
}

fn open(port: &str, protocol: Option<SockProtocol>) -> Result<OwnedFd, CaptureError> {
    let address = getifaddrs()?
        .filter(|interface| interface.interface_name == port)
        .find_map(|interface| {
            interface.address.filter(|address| address.family() == Some(AddressFamily::Packet))
        })
        .ok_or_else(|| CaptureError::NoPort(port.to_owned()))?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

fn read(socket: &OwnedFd, stopping: &AtomicBool) -> Result<Vec<Vec<u8>>, CaptureError> {
    let (mut frames, mut total, mut lost) = (Vec::new(), 0, 0);
    let mut buffer = vec![0; LONGEST_FRAME];
    let mut control = cmsg_space!(u32);
    loop {
        let stop = stopping.load(Ordering::SeqCst);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received =
            match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
                Ok(received) => received,
                // The marker was sent before, and is not there.
                Err(Errno::EAGAIN) if stop => return Err(CaptureError::Lossy(lost + 1)),
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
        for message in received.cmsgs()? {
            if let ControlMessageOwned::RxqOvfl(so_far) = message {
                lost = so_far;
            }
        }
        if received.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(CaptureError::TooLarge("a frame"));
        }
        let length = received.bytes;
        let frame = buffer.get(..length).unwrap_or_default();
        if frame == MARKER {
            return if lost == 0 { Ok(frames) } else { Err(CaptureError::Lossy(lost)) };
        }
        total += length;
        if total > MOST_BYTES {
            return Err(CaptureError::TooLarge("over 1 GiB"));
        }
        frames.push(frame.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_capture_has_every_frame_of_its_port() {
        let mut lab = Lab::new().expect("needs root");
        let (one, two) = (lab.host("one").unwrap(), lab.host("two").unwrap());
        let capture = Capture::start(&lab, &two).unwrap();
        let socket = one.in_namespace(|| UdpSocket::bind((one.ipv4(), 0))).unwrap().unwrap();
        for number in 0..1000_u32 {
            // The port is closed: every other call reports that it was told so.
            let _told = socket.send_to(&number.to_be_bytes(), (two.ipv4(), 9));
        }
        let frames = capture.stop().unwrap();
        let sent = frames.iter().filter(|frame| frame.len() == 14 + 20 + 8 + 4).count();
        assert_eq!(sent, 1000);
    }

    #[test]
    fn a_capture_that_lost_a_frame_is_an_error() {
        let mut lab = Lab::new().expect("needs root");
        let (one, two) = (lab.host("one").unwrap(), lab.host("two").unwrap());
        let capture = Capture::start_buffered(&lab, &two, 1).unwrap();
        let socket = one.in_namespace(|| UdpSocket::bind((one.ipv4(), 0))).unwrap().unwrap();
        for _ in 0..1000 {
            let _told = socket.send_to(&[0; 1400], (two.ipv4(), 9));
        }
        assert!(matches!(capture.stop(), Err(CaptureError::Lossy(_))));
    }
}
