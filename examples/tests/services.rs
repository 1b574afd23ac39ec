//! The example programs as processes: the service answers as its users rely on, the load sees what goes wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(10);

/// hello-service on free ports of its own; ends with the test.
struct Hello {
    process: Child,
    ready: Value,
}

impl Hello {
    fn start() -> Self {
        let any = "127.0.0.1:0";
        let mut process = Command::new(env!("CARGO_BIN_EXE_hello-service"))
            .args(["--listen", any, "--tcp-echo", any, "--tcp-greeting", any])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["message"], "ready");
        Self { process, ready }
    }

    fn address(&self, field: &str) -> &str {
        self.ready[field].as_str().unwrap()
    }

    fn connect(&self, field: &str) -> TcpStream {
        let stream = TcpStream::connect(self.address(field)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// The whole answer to one request on a connection of its own.
    fn request(&self, head: &str, body: &str) -> String {
        let mut stream = self.connect("address");
        let length = body.len();
        write!(stream, "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n")
            .unwrap();
        write!(stream, "X-Twice: a\r\nX-Twice: b\r\nX-Forwarded-Client-Cert: Hash=aa\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn load(url: &str, more: &[&str]) -> (Value, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_load")).args(["--url", url]).args(more).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (serde_json::from_str(&text).unwrap(), output.status.success())
}

/// A server that gives every connection the same bytes and closes it.
fn always(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // Ends with the process of the test.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    url
}

#[test]
fn the_service_says_what_it_saw() {
    let hello = Hello::start();
    let answer = hello.request("GET /some/path?query", "");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let seen: Value = serde_json::from_str(body).unwrap();
    assert_eq!([&seen["service"], &seen["method"], &seen["path"]], ["hello-service", "GET", "/some/path"]);
    assert_eq!(seen["peer"], "Hash=aa");
    assert_eq!(seen["headers"]["x-twice"], "a, b");

    assert!(hello.request("POST /", "some bytes").ends_with("\r\n\r\nsome bytes"));
    assert!(hello.request("GET /slow?ms=1", "").starts_with("HTTP/1.1 200 "));
    assert!(hello.request("GET /slow?ms=x", "").starts_with("HTTP/1.1 400 "));
    assert!(hello.request("GET /count", "").ends_with("\r\n\r\n4"), "asking for the count does not count");
}

#[test]
fn an_echo_begins_before_the_request_has_ended() {
    let hello = Hello::start();
    let mut stream = hello.connect("address");
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .unwrap();
    let mut seen = Vec::new();
    while !seen.windows(5).any(|window| window == b"first") {
        let mut buffer = [0; 512];
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "closed early");
        seen.extend_from_slice(&buffer[..read]);
    }
}

#[test]
fn raw_echo_and_greeting_keep_the_half_close() {
    let hello = Hello::start();
    for (field, banner) in [("echo", ""), ("greeting", "220 hello-service speaks first\r\n")] {
        let mut stream = hello.connect(field);
        let mut first = vec![0; banner.len()];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, banner.as_bytes(), "the banner comes before anything is sent");
        stream.write_all(b"\x00\xffbytes").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\x00\xffbytes");
    }
}

#[test]
fn load_on_a_good_service_is_clean() {
    let hello = Hello::start();
    let url = format!("http://{}/", hello.address("address"));
    let (line, clean) = load(&url, &["--rate", "200", "--duration", "1", "--connections", "8"]);
    assert!(clean, "{line}");
    assert_eq!([&line["sent"], &line["ok"], &line["failed"]], [200, 200, 0], "{line}");
    assert!(line["p50_us"].as_u64() <= line["p99_us"].as_u64(), "{line}");
    assert!(hello.request("GET /count", "").ends_with("\r\n\r\n200"));
}

/// One connection, and a service that answers the first request after 300 ms: what was due meanwhile waited, too.
#[test]
fn load_counts_a_stall_against_every_request_it_held_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut requests = 0;
        loop {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            if read == 0 {
                return requests;
            }
            let request = String::from_utf8_lossy(&buffer[..read]).to_lowercase();
            let id = request.split("x-request-id: ").nth(1).unwrap().split('\r').next().unwrap().to_owned();
            if requests == 0 {
                std::thread::sleep(Duration::from_millis(300));
            }
            requests += 1;
            let body = format!(r#"{{"path":"/","headers":{{"x-request-id":"{id}"}}}}"#);
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    let (line, clean) = load(&url, &["--rate", "20", "--duration", "1", "--connections", "1"]);
    assert!(clean, "{line}");
    assert_eq!(server.join().unwrap(), 20);
    // Due at 0, 50, .. 250 ms and answered at 300 ms or after: five left late, though each was quick once sent.
    assert!(line["late"].as_u64() >= Some(5), "{line}");
    assert!(line["max_us"].as_u64() >= Some(300_000), "{line}");
}

#[test]
fn load_counts_each_kind_of_failure() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, reason) in [
        (format!("http://{closed}/"), "connect"),
        (always(b""), "http"),
        (always(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nwhy\n"), "status 503"),
        (always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "wrong answer"),
        (always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"), "body"),
    ] {
        let (line, clean) = load(&url, &["--rate", "5", "--duration", "1"]);
        assert!(!clean, "{reason}: {line}");
        assert_eq!([&line["ok"], &line["failed"], &line["errors"][reason]], [0, 5, 5], "{reason}: {line}");
    }
}
