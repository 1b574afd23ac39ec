use std::io::{Read, Write};

use super::*;

fn inner(method: Method, target: &str) -> Request<()> {
    let builder = Request::builder().method(method).uri(target).header("host", "api:8443");
    builder.header("te", "trailers").header("x-a", "b").body(()).unwrap()
}

#[test]
fn a_request_takes_the_form_of_http2_and_comes_back_in_its_own() {
    for (method, target, path) in [
        (Method::GET, "/path?q=1", Some("/path?q=1")),
        (Method::OPTIONS, "*", Some("*")),
        (Method::POST, "/", Some("/")),
        (Method::CONNECT, "api:8443", None),
    ] {
        let mut request = inner(method.clone(), target);
        to_http2(&mut request);
        assert_eq!(request.version(), Version::HTTP_2);
        assert!(!request.headers().contains_key(header::HOST));
        assert_eq!(request.headers()[header::TE], "trailers");
        assert_eq!(request.uri().authority().unwrap(), "api:8443");
        assert_eq!(request.uri().path_and_query().map(PathAndQuery::as_str), path, "{method}");
        assert_eq!(request.uri().scheme(), path.map(|_| &Scheme::HTTP));
        let back = from_http2(request);
        assert_eq!(back.uri(), target);
        assert_eq!(
            (back.version(), &back.headers()[header::HOST]),
            (Version::HTTP_11, &"api:8443".parse().unwrap())
        );
    }
}

/// A silent HTTP/2 server's answers to pings, or none: how long a request is waited for, an hour at most.
async fn waited(pings: Option<Http2Keepalive>, answers_pings: bool) -> Option<Duration> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        let taken = connection.accept().await;
        if answers_pings {
            // Polling answers pings; no other request comes.
            let _ = connection.accept().await;
        }
        std::future::pending::<()>().await;
        drop((taken, connection));
    });
    let (mut connection, driver) = Connection::open(near, HttpVersion::Http2, pings).await.unwrap();
    let driver = tokio::spawn(driver);
    let request = Request::get("/").header("host", "api:8443").body(RequestBody::Empty).unwrap();
    let started = tokio::time::Instant::now();
    let sent = tokio::time::timeout(Duration::from_secs(3600), connection.send(request)).await;
    let waited = started.elapsed();
    server.abort();
    driver.abort();
    sent.ok().map(|sent| {
        assert!(matches!(sent, Err(SendFailure::Sent(_))), "{sent:?}");
        waited
    })
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_given_up_after_interval_and_timeout() {
    let seconds = Duration::from_secs;
    for pings in [Http2Keepalive::default(), Http2Keepalive { interval: seconds(5), timeout: seconds(2) }] {
        let whole = pings.interval + pings.timeout;
        let waited_for = waited(Some(pings), false).await.expect("given up");
        assert!((whole..whole + seconds(1)).contains(&waited_for), "{pings:?} {waited_for:?}");
        assert_eq!(waited(Some(pings), true).await, None, "control: one that answers pings is not");
    }
    assert_eq!(waited(None, false).await, None, "control: without probes nobody knows");
}

/// An HTTP/1.1 connection that has carried one exchange and is idle, and the server's end of it.
async fn reused() -> (Connection, std::net::TcpStream, tokio::task::JoinHandle<Result<(), hyper::Error>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut connection, driver) = Connection::new(near, HttpVersion::Http1).await.unwrap();
    let driver = tokio::spawn(driver);
    let answering = tokio::task::spawn_blocking(move || {
        let read = far.read(&mut [0; 1000]).unwrap();
        assert!(read > 0);
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        far
    });
    let response = connection.send(post()).await.unwrap();
    assert_eq!(response.status(), 200);
    drop(response);
    assert!(connection.is_usable().await && connection.was_used());
    (connection, answering.await.unwrap(), driver)
}

fn post() -> Request<RequestBody> {
    Request::post("/").header("host", "api").body(RequestBody::Empty).unwrap()
}

#[tokio::test]
async fn nothing_is_written_to_a_connection_whose_end_only_the_kernel_knows_of() {
    for last_words in ["", "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"] {
        let (mut connection, mut far, driver) = reused().await;
        far.write_all(last_words.as_bytes()).unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        // Nothing was awaited since: tokio has not heard of it.
        assert!(!connection.is_closed());
        let failed = connection.send(post()).await.err().unwrap();
        assert!(matches!(failed, SendFailure::Unsent(None, _)), "{last_words:?}: {failed:?}");
        drop(connection);
        let _ = driver.await;
        let mut came = Vec::new();
        // Closed with something unread, the connection ends with a reset.
        let _ = far.read_to_end(&mut came);
        assert_eq!(came, b"", "{last_words:?}");
    }
}

#[tokio::test]
async fn what_was_written_is_not_taken_for_unsent() {
    let (mut connection, mut far, _driver) = reused().await;
    let closing = tokio::task::spawn_blocking(move || {
        let mut came = Vec::new();
        while !came.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            far.read_exact(&mut byte).unwrap();
            came.extend(byte);
        }
    });
    let failed = connection.send(post()).await.err().unwrap();
    assert!(matches!(failed, SendFailure::Ended(_)), "{failed:?}");
    closing.await.unwrap();
}
