//! An app that closes a connection at the moment that it is used again.

use super::*;

/// Answers so many requests on each connection, and closes it when it has read the next one.
async fn closing_app(answered: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    raw_app(move |mut stream| async move {
        for _ in 0..answered {
            hear(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
        hear(&mut stream).await;
    })
    .await
}

/// Reads a head, or to the end.
async fn hear(stream: &mut TcpStream) {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") && stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {}
}

/// The status of the second of two requests, and how many connections the app saw.
async fn second(method: &str, answered: usize) -> (String, usize) {
    let (app, connections) = closing_app(answered).await;
    let mut call = call(app, AppProtocol::Http, Alpn::None).await;
    if answered > 0 {
        call.client.write_all(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.unwrap();
        assert!(read_until(&mut call.client, "ok").await.starts_with("HTTP/1.1 200"));
    }
    let request = format!("{method} / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n");
    let got = call.says(&request).await;
    (got.split(' ').nth(1).unwrap_or_default().to_owned(), connections.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_request_that_may_be_repeated_is_sent_again_over_a_new_connection_and_no_other_is() {
    assert_eq!(second("GET", 1).await, ("200".to_owned(), 2));
    assert_eq!(second("POST", 1).await, ("502".to_owned(), 1));
    assert_eq!(second("GET", 0).await, ("502".to_owned(), 1), "on a fresh connection nothing is sent twice");
}
