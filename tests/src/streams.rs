//! Judges a capture: is every TCP stream TLS from its first byte, and is the canary nowhere?

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxPacketHeaders, NetHeaders, SlicedPacket, TransportSlice};

/// Longest TLS record (RFC 5246, 6.2.3: 2^14 + 2048; TLS 1.3 allows less).
const LONGEST_RECORD: usize = (1 << 14) + 2048;
const RECORD_HEADER: usize = 5;
/// Neighbour and multicast listener discovery: how a link works at all (RFC 4861, 2710, 3810).
const LINK_UPKEEP: [u8; 9] = [130, 131, 132, 133, 134, 135, 136, 137, 143];

/// From where to where, and how. Ports are 0 where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, source, destination } = self;
        match protocol {
            6 => write!(f, "TCP {source} -> {destination}"),
            17 => write!(f, "UDP {source} -> {destination}"),
            other => write!(f, "protocol {other} {} -> {}", source.ip(), destination.ip()),
        }
    }
}

/// One thing on the wire that should not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leak {
    /// Bytes of a TCP stream that are no TLS records.
    Plaintext {
        /// The stream.
        flow: Flow,
        /// How many good bytes came before.
        offset: usize,
        /// The first bad bytes, at most 32.
        bytes: Vec<u8>,
    },
    /// The secret that only the encrypted side may see.
    Canary(Flow),
    /// The canary in a frame that is not IP.
    CanaryOutsideIp,
    /// A stream with payload that began before the capture: nobody knows what its first bytes were.
    NoStart(Flow),
    /// A stream with missing bytes, or with two versions of the same.
    Inconsistent(Flow),
    /// A datagram that nobody declared.
    Datagram(Flow),
    /// A fragment or a frame that cannot be parsed: it could carry anything.
    Unreadable(String),
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext { flow, offset, bytes } => {
                write!(f, "{flow}: no TLS record at byte {offset}: \"{}\"", bytes.escape_ascii())
            }
            Self::Canary(flow) => write!(f, "{flow}: carries the canary"),
            Self::CanaryOutsideIp => f.write_str("a frame that is not IP carries the canary"),
            Self::NoStart(flow) => write!(f, "{flow}: began before the capture"),
            Self::Inconsistent(flow) => write!(f, "{flow}: bytes are missing or contradict each other"),
            Self::Datagram(flow) => write!(f, "{flow}: not TCP"),
            Self::Unreadable(why) => write!(f, "unreadable: {why}"),
        }
    }
}

/// What a capture holds.
#[derive(Debug, Default)]
pub struct Findings {
    /// Everything that should not be there.
    pub leaks: Vec<Leak>,
    /// Directions of TCP connections that carried TLS: a test that expects traffic asserts that there was some.
    pub tls_streams: usize,
    /// Bytes in them.
    pub tls_bytes: usize,
}

impl Findings {
    /// Fails with all leaks, unless there are none.
    ///
    /// # Panics
    /// When there is a leak.
    pub fn assert_clean(&self) {
        let leaks: Vec<_> = self.leaks.iter().map(ToString::to_string).collect();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    }
}

/// Checks all frames. The canary is looked for everywhere; `exempt` tells for each direction of a flow whether it
/// may carry anything else than TLS.
#[must_use]
pub fn check(frames: &[Vec<u8>], canary: &[u8], exempt: impl Fn(&Flow) -> bool) -> Findings {
    let mut findings = Findings::default();
    let mut streams = Streams::default();
    for frame in frames {
        match dissect(frame) {
            Ok(Dissected::Segment(segment)) => streams.add(&segment),
            Ok(Dissected::Datagram { flow, upkeep }) => {
                if contains(frame, canary) {
                    findings.leaks.push(Leak::Canary(flow));
                } else if !upkeep && !exempt(&flow) {
                    findings.leaks.push(Leak::Datagram(flow));
                }
            }
            Ok(Dissected::NotIp) if contains(frame, canary) => findings.leaks.push(Leak::CanaryOutsideIp),
            Ok(Dissected::NotIp) => {}
            Err(why) => findings.leaks.push(Leak::Unreadable(why)),
        }
    }
    for (flow, stream) in streams.finish() {
        judge(flow, &stream, canary, exempt(&flow), &mut findings);
    }
    findings
}

fn judge(flow: Flow, stream: &Stream, canary: &[u8], exempt: bool, findings: &mut Findings) {
    if stream.segments.iter().any(|(_, bytes)| contains(bytes, canary)) {
        findings.leaks.push(Leak::Canary(flow));
        return;
    }
    let Some(bytes) = stream.assemble() else {
        if !exempt {
            findings.leaks.push(Leak::Inconsistent(flow));
        }
        return;
    };
    if contains(&bytes, canary) {
        findings.leaks.push(Leak::Canary(flow));
    } else if !exempt && !bytes.is_empty() {
        if !stream.started {
            findings.leaks.push(Leak::NoStart(flow));
        } else if let Some(offset) = first_plaintext(&bytes) {
            let bytes = bytes.iter().skip(offset).take(32).copied().collect();
            findings.leaks.push(Leak::Plaintext { flow, offset, bytes });
        } else {
            findings.tls_streams += 1;
            findings.tls_bytes += bytes.len();
        }
    }
}

/// Where the first record starts that is none, or is not what begins a TLS connection. A connection that breaks
/// off may end inside a record, and inside its header.
fn first_plaintext(stream: &[u8]) -> Option<usize> {
    let mut offset = 0;
    while let Some(record) = stream.get(offset..).filter(|rest| !rest.is_empty()) {
        let header = record.get(..RECORD_HEADER.min(record.len())).unwrap_or_default();
        let good = header.iter().enumerate().all(|(at, byte)| match at {
            // Change cipher spec, alert, handshake, application data; a connection starts with one of two.
            0 if offset == 0 => matches!(byte, 21 | 22),
            0 => matches!(byte, 20..=23),
            1 => *byte == 3,
            2 => matches!(byte, 1..=4),
            _ => true,
        });
        let length = match header {
            [.., high, low] if header.len() == RECORD_HEADER => {
                usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => LONGEST_RECORD,
        };
        // The first handshake message is a hello (1 the client's, 2 the server's).
        let hello = offset != 0
            || header.first() != Some(&22)
            || record.get(RECORD_HEADER).is_none_or(|kind| matches!(kind, 1 | 2));
        if !good || !hello || length == 0 || length > LONGEST_RECORD {
            return Some(offset);
        }
        offset += RECORD_HEADER + length;
    }
    None
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len().max(1)).any(|window| window == needle)
}

enum Dissected<'a> {
    Segment(Segment<'a>),
    Datagram { flow: Flow, upkeep: bool },
    NotIp,
}

struct Segment<'a> {
    flow: Flow,
    sequence: u32,
    syn: bool,
    payload: &'a [u8],
}

fn dissect(frame: &[u8]) -> Result<Dissected<'_>, String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let Some(net) = &packet.net else { return Ok(Dissected::NotIp) };
    if net.is_ip() && packet.is_ip_payload_fragmented() {
        return Err("an IP fragment".to_owned());
    }
    let headers = LaxPacketHeaders::from_ethernet(frame).map_err(|error| error.to_string())?;
    let (source, destination, protocol) = match &headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => {
            (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.protocol.0)
        }
        Some(NetHeaders::Ipv6(ip, extensions)) => {
            let last = extensions.next_header(ip.next_header).map_err(|error| error.to_string())?;
            (IpAddr::from(ip.source), IpAddr::from(ip.destination), last.0)
        }
        Some(NetHeaders::Arp(_)) | None => return Ok(Dissected::NotIp),
    };
    let flow = |from: u16, to: u16| Flow {
        protocol,
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    };
    Ok(match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Dissected::Segment(Segment {
            flow: flow(tcp.source_port(), tcp.destination_port()),
            sequence: tcp.sequence_number(),
            syn: tcp.syn(),
            payload: tcp.payload(),
        }),
        Some(TransportSlice::Udp(udp)) => {
            Dissected::Datagram { flow: flow(udp.source_port(), udp.destination_port()), upkeep: false }
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            Dissected::Datagram { flow: flow(0, 0), upkeep: LINK_UPKEEP.contains(&icmp.type_u8()) }
        }
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Igmp(_)) | None => {
            Dissected::Datagram { flow: flow(0, 0), upkeep: false }
        }
    })
}

/// One direction of one TCP connection.
struct Stream {
    /// Sequence number of byte 0.
    base: u32,
    /// Whether its SYN was seen.
    started: bool,
    /// Farthest byte seen, by which sequence numbers are unwrapped.
    end: i64,
    segments: Vec<(i64, Vec<u8>)>,
}

impl Stream {
    fn starting_at(base: u32, started: bool) -> Self {
        Self { base, started, end: 0, segments: Vec::new() }
    }

    fn add(&mut self, sequence: u32, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        // The distance from the farthest byte, modulo 2^32 and signed, is right within 2 GiB (RFC 9293, 3.4).
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32 is wanted")]
        let farthest = self.base.wrapping_add(self.end as u32);
        let offset = self.end + i64::from(sequence.wrapping_sub(farthest).cast_signed());
        self.end = self.end.max(offset + i64::try_from(payload.len()).unwrap_or(i64::MAX));
        self.segments.push((offset, payload.to_vec()));
    }

    /// All bytes in order; nothing when some are missing or sent in two versions.
    fn assemble(&self) -> Option<Vec<u8>> {
        let mut order: Vec<_> = self.segments.iter().collect();
        order.sort_by_key(|(offset, _)| *offset);
        // Without its SYN a stream starts wherever the earliest seen segment does.
        let first = if self.started { 0 } else { order.first().map_or(0, |(offset, _)| *offset) };
        let mut bytes: Vec<u8> = Vec::new();
        for (offset, payload) in order {
            let at = usize::try_from(offset - first).ok()?;
            let (known, fresh) = payload.split_at(bytes.len().checked_sub(at)?.min(payload.len()));
            if bytes.get(at..at + known.len())? != known {
                return None;
            }
            bytes.extend_from_slice(fresh);
        }
        Some(bytes)
    }
}

/// All streams, those of the same addresses and ports one after the other.
#[derive(Default)]
struct Streams {
    current: BTreeMap<Flow, Stream>,
    ended: Vec<(Flow, Stream)>,
}

impl Streams {
    fn add(&mut self, segment: &Segment<'_>) {
        let Segment { flow, sequence, syn, payload } = *segment;
        let first_byte = sequence.wrapping_add(u32::from(syn));
        if syn && self.current.get(&flow).is_none_or(|stream| !stream.started || stream.base != first_byte) {
            let before = self.current.insert(flow, Stream::starting_at(first_byte, true));
            self.ended.extend(before.map(|stream| (flow, stream)));
        }
        let stream = self.current.entry(flow).or_insert_with(|| Stream::starting_at(first_byte, false));
        stream.add(first_byte, payload);
    }

    fn finish(self) -> impl Iterator<Item = (Flow, Stream)> {
        self.ended.into_iter().chain(self.current)
    }
}

#[cfg(test)]
mod tests;
