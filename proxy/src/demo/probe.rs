//! What callers of all kinds get: an HTTP request from a host, `curl` for TLS, `load` as an app, and a far end that
//! should never hear of any of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use super::error::DemoError;
use super::lab::{Host, Process};

/// For a connection: between hosts of one machine it takes microseconds, or does not come.
const CONNECT: Duration = Duration::from_secs(1);
/// For each piece of an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a program that should end by itself.
pub(super) const PROGRAM: Duration = Duration::from_secs(15);
/// Longest answer read, in bytes.
const MAX_ANSWER: u64 = 256 * 1024;

/// What a request came to.
pub(super) enum Reply {
    Answer { status: u16, body: String },
    Refused(String),
}

impl Reply {
    /// The body of a 2xx answer.
    pub(super) fn accepted(self) -> Result<String, DemoError> {
        match self {
            Self::Answer { status: 200..=299, body } => Ok(body),
            Self::Answer { status, body } => Err(DemoError::Unexpected(format!("status {status}: {body}"))),
            Self::Refused(why) => Err(DemoError::Unexpected(format!("refused: {why}"))),
        }
    }

    /// Words of the refusal: no connection, or an answer that is none of the app's.
    pub(super) fn refused(self) -> Result<String, DemoError> {
        match self {
            Self::Answer { status: 200..=299, body } => {
                Err(DemoError::Unexpected(format!("it was answered: {body}")))
            }
            Self::Answer { status, body } => Ok(format!("status {status}: {}", body.trim())),
            Self::Refused(why) => Ok(why),
        }
    }
}

/// `GET path` over plain HTTP/1.1 from `host`.
pub(super) fn get(host: &Host, to: SocketAddr, authority: &str, path: &str) -> Result<Reply, DemoError> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    let exchange = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&to, CONNECT)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let read = stream.take(MAX_ANSWER).read_to_end(&mut answer);
        // A reset after the answer: what came is what counts.
        if answer.is_empty() { read.map(|_| answer) } else { Ok(answer) }
    };
    Ok(match host.in_namespace(exchange)? {
        Ok(bytes) => parse(&bytes),
        Err(error) => Reply::Refused(error.to_string()),
    })
}

fn parse(answer: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|s| s.parse().ok());
    match (status, text.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Reply::Answer { status, body: body.trim().to_owned() },
        _ if answer.is_empty() => Reply::Refused("closed without an answer".into()),
        _ => Reply::Refused(format!("{} bytes that are not HTTP", answer.len())),
    }
}

/// `curl` with these arguments from `host`, as a TLS client that takes any server.
pub(super) fn curl(host: &Host, arguments: &[&str]) -> Result<Reply, DemoError> {
    let basic =
        ["--silent", "--show-error", "--insecure", "--max-time", "5", "--write-out", "\n%{http_code}"];
    let done = host.command("curl").args(basic).args(arguments).run(PROGRAM)?;
    let (body, status) = done.stdout.trim_end().rsplit_once('\n').unwrap_or(("", done.stdout.trim_end()));
    Ok(match status.parse() {
        Ok(status) if status != 0 => Reply::Answer { status, body: body.to_owned() },
        _ => Reply::Refused(done.stderr.trim().to_owned()),
    })
}

/// The report of a `load` that was started before.
pub(super) fn report(load: &Process, within: Duration) -> Result<Value, DemoError> {
    load.wait(within)?;
    let output = load.output();
    let report = output.lines().find_map(|line| serde_json::from_str(line).ok());
    report.ok_or_else(|| DemoError::Unexpected(format!("no report from load: {output}")))
}

/// A number in a report; 0 when it is not there.
pub(super) fn count(report: &Value, field: &str) -> u64 {
    report.get(field).and_then(Value::as_u64).unwrap_or_default()
}

/// The failures of a report in words.
pub(super) fn failures(report: &Value) -> String {
    let examples = report.get("examples").and_then(Value::as_object);
    examples.into_iter().flatten().filter_map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ")
}

/// The SPIFFE ID that the app was told of, from the answer of `hello-service`.
pub(super) fn caller(body: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(body).ok()?;
    let peer = answer.get("peer")?.as_str()?;
    peer.split(';').find_map(|part| part.strip_prefix("URI=")).map(str::to_owned)
}

/// A host without sidecar that listens: what an app could leak would arrive here.
pub(super) struct FarEnd {
    tcp: TcpListener,
    udp: UdpSocket,
    addresses: [IpAddr; 2],
    port: u16,
}

impl FarEnd {
    pub(super) fn listen(host: &Host, port: u16) -> Result<Self, DemoError> {
        let open = || -> io::Result<_> {
            let (tcp, udp) = (TcpListener::bind(("::", port))?, UdpSocket::bind(("::", port))?);
            tcp.set_nonblocking(true)?;
            udp.set_nonblocking(true)?;
            Ok((tcp, udp))
        };
        let (tcp, udp) = host.in_namespace(open)?.map_err(DemoError::io("cannot listen at the far end"))?;
        Ok(Self { tcp, udp, addresses: host.addresses(), port })
    }

    /// IPv4, then IPv6.
    pub(super) fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses.map(|address| (address, self.port).into())
    }

    /// Connections and datagrams since the last call. The kernel has them ready: there is nothing to wait for.
    pub(super) fn arrivals(&self) -> Result<(usize, usize), DemoError> {
        let tcp = drain(|| self.tcp.accept().map(drop))?;
        let udp = drain(|| self.udp.recv_from(&mut [0; 2048]).map(drop))?;
        Ok((tcp, udp))
    }
}

fn drain(mut next: impl FnMut() -> io::Result<()>) -> Result<usize, DemoError> {
    let mut arrived = 0;
    loop {
        match next() {
            Ok(()) => arrived += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(arrived),
            Err(source) => return Err(DemoError::Io { what: "the far end".into(), source }),
        }
    }
}

/// Sends one datagram from `host`; a refusal by the kernel is as good as a loss.
pub(super) fn datagram(host: &Host, to: SocketAddr) -> Result<String, DemoError> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let sent = host.in_namespace(|| UdpSocket::bind(any)?.send_to(b"portcullis-demo", to))?;
    Ok(match sent {
        Ok(_) => "sent, and dropped".into(),
        Err(error) => error.to_string(),
    })
}

/// Asks until `done`, every 50 ms, for at most `within`.
pub(super) fn poll<T>(
    within: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>, DemoError>,
) -> Result<T, DemoError> {
    let steps = within.as_millis() / 50;
    for _ in 0..steps {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(DemoError::Unexpected(format!("{what}: not within {within:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_app_is_never_taken_for_a_refusal() {
        let reply = |text: &str| parse(text.as_bytes());
        assert_eq!(reply("HTTP/1.1 200 OK\r\nA: b\r\n\r\nhi\n").accepted().unwrap(), "hi");
        assert!(reply("HTTP/1.1 204 No Content\r\n\r\n").refused().is_err());
        assert_eq!(reply("HTTP/1.1 403 No\r\n\r\nwhy\n").refused().unwrap(), "status 403: why");
        assert!(reply("HTTP/1.1 403 No\r\n\r\n").accepted().is_err());
        assert!(reply("").refused().is_ok() && reply("\x15\x03\x03").refused().is_ok());
    }

    #[test]
    fn the_caller_is_the_uri_of_the_header() {
        let body = r#"{"peer":"By=spiffe://td/a;Hash=00;URI=spiffe://td/ns/a/sa/b"}"#;
        assert_eq!(caller(body).as_deref(), Some("spiffe://td/ns/a/sa/b"));
        assert_eq!(caller(r#"{"peer":null}"#), None);
    }
}
