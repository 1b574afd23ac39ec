//! HTTP/2 frames by hand (RFC 9113, 4.1), for peers that keep to no rule.

use tokio::io::{AsyncRead, AsyncReadExt};

pub(in crate::protocol) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(in crate::protocol) const DATA: u8 = 0;
pub(in crate::protocol) const HEADERS: u8 = 1;
pub(in crate::protocol) const RST_STREAM: u8 = 3;
pub(in crate::protocol) const SETTINGS: u8 = 4;
pub(in crate::protocol) const PING: u8 = 6;
pub(in crate::protocol) const GOAWAY: u8 = 7;
pub(in crate::protocol) const WINDOW_UPDATE: u8 = 8;
pub(in crate::protocol) const CONTINUATION: u8 = 9;

pub(in crate::protocol) const END_STREAM: u8 = 1;
pub(in crate::protocol) const END_HEADERS: u8 = 4;

pub(in crate::protocol) const ENHANCE_YOUR_CALM: u32 = 11;

pub(in crate::protocol) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and empty settings.
pub(in crate::protocol) fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A field as a literal that no table remembers (RFC 7541, 6.2.2).
pub(in crate::protocol) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0], &string(name)[..], &string(value)].concat()
}

fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut left = text.len();
    if left < 127 {
        out.push(u8::try_from(left).unwrap());
    } else {
        out.push(127);
        left -= 127;
        while left >= 128 {
            out.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        out.push(u8::try_from(left).unwrap());
    }
    out.extend(text.as_bytes());
    out
}

/// The fields of a request to `http://api/`.
pub(in crate::protocol) fn request(method: &str) -> Vec<u8> {
    [(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "api")]
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect()
}

/// One frame as it came.
#[derive(Debug)]
pub(in crate::protocol) struct Frame {
    pub(in crate::protocol) kind: u8,
    pub(in crate::protocol) stream: u32,
    pub(in crate::protocol) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY.
    pub(in crate::protocol) fn code(&self) -> u32 {
        u32::from_be_bytes(self.payload[4..8].try_into().unwrap())
    }
}

/// The next frame; `None` at the end.
pub(in crate::protocol) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    io.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], stream, payload })
}

/// The next frame of this kind.
pub(in crate::protocol) async fn find(io: &mut (impl AsyncRead + Unpin), kind: u8) -> Option<Frame> {
    loop {
        let frame = read(io).await?;
        if frame.kind == kind {
            return Some(frame);
        }
    }
}
