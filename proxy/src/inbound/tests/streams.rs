//! Bytes: declared, detected, upgraded, and held back.

use super::*;

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                         x-forwarded-client-cert: URI=spiffe://a/b\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// An app that reads a head, answers it with `answer`, and echoes what follows; what it heard goes to `heard`.
async fn upgrading_app(answer: &'static str) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (heard, hears) = tokio::sync::mpsc::unbounded_channel();
    let (app, _) = raw_app(move |mut stream| {
        let heard = heard.clone();
        async move {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            heard.send(head).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        }
    })
    .await;
    (app, hears)
}

#[tokio::test]
async fn a_declared_port_carries_bytes_that_end_no_line() {
    let (app, _) = raw_app(|mut stream| async move {
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ruok");
        stream.write_all(b"imok").await.unwrap();
    })
    .await;
    let call = call(app, AppProtocol::Tcp, Alpn::None).await;
    assert_eq!(call.says("ruok").await, "imok");
}

#[tokio::test]
async fn another_protocol_than_declared_is_refused_before_the_app_hears_of_it() {
    let (app, connections) = http_app(HttpVersion::Http1).await;
    for (declared, alpn, said) in [
        (AppProtocol::Tcp, Alpn::Http1, "GET / HTTP/1.1\r\nhost: api\r\n\r\n"),
        (AppProtocol::Tcp, Alpn::Http2, ""),
        (AppProtocol::Http, Alpn::None, "*1\r\n$4\r\nPING\r\n"),
        (AppProtocol::Http2, Alpn::None, "\0\0\0"),
        (AppProtocol::HttpProxy, Alpn::None, "hello\r\n"),
    ] {
        let mut refused = call(app, declared, alpn).await;
        // It may be reset already.
        let _ = refused.client.write_all(said.as_bytes()).await;
        let _ = refused.client.shutdown().await;
        let why = within(&mut refused.carried).await.unwrap().unwrap_err();
        assert_eq!(why.label(), "wrong_protocol", "{declared:?} {said}");
        assert_eq!(refused.rest().await.0, "");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 0);
    let good = call(app, AppProtocol::Http, Alpn::None).await;
    let got = good.says("GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200"), "control: {got}");
}

#[tokio::test]
async fn an_upgrade_becomes_a_stream_of_bytes_both_ways() {
    let (app, mut heard) = upgrading_app(SWITCH).await;
    for declared in [AppProtocol::Undeclared, AppProtocol::Http, AppProtocol::Http2] {
        let mut call = call(app, declared, Alpn::None).await;
        // The first word of the other protocol, before the answer: it belongs to the tunnel.
        call.client.write_all(format!("{WEBSOCKET}early").as_bytes()).await.unwrap();
        let got = read_until(&mut call.client, "early").await;
        assert!(got.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{got}");
        assert!(got.contains("upgrade: websocket\r\n") && got.ends_with("\r\n\r\nearly"), "{got}");
        let head = within(heard.recv()).await.unwrap();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        assert!(!head.contains("spiffe") && !head.contains("early"), "{head}");
        call.client.write_all(b"late").await.unwrap();
        call.client.shutdown().await.unwrap();
        assert_eq!(call.rest().await, ("late".to_owned(), false), "each half ends in order");
    }
}

#[tokio::test]
async fn what_was_not_asked_for_is_no_upgrade() {
    let (app, _heard) = upgrading_app(SWITCH).await;
    let plain = "GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
    let h2c = "GET / HTTP/1.1\r\nhost: api\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n";
    for request in [plain, h2c, &WEBSOCKET.replace("websocket", "tcp")] {
        let mut unasked = call(app, AppProtocol::Undeclared, Alpn::None).await;
        unasked.client.write_all(request.as_bytes()).await.unwrap();
        let got = read_until(&mut unasked.client, "}\n").await;
        assert!(got.starts_with("HTTP/1.1 502") && got.contains("upstream_upgrade"), "{got}");
    }
    let smuggled = WEBSOCKET.replace("\r\n\r\n", "\r\ncontent-length: 4\r\n\r\nbody");
    let got = call(app, AppProtocol::Undeclared, Alpn::None).await.says(&smuggled).await;
    assert!(got.starts_with("HTTP/1.1 400"), "{got}");
}

#[tokio::test]
async fn an_upgrade_that_the_app_declines_is_an_ordinary_answer() {
    let (app, _heard) = upgrading_app("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    let mut call = call(app, AppProtocol::Undeclared, Alpn::None).await;
    call.client.write_all(WEBSOCKET.as_bytes()).await.unwrap();
    let got = read_until(&mut call.client, "\r\n\r\nno").await;
    assert!(got.starts_with("HTTP/1.1 403") && !got.contains("upgrade"), "{got}");
}

#[tokio::test]
async fn connect_is_a_tunnel_on_a_port_declared_for_it_alone() {
    let connect = "CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n";
    let (app, mut heard) = upgrading_app("HTTP/1.1 200 OK\r\n\r\n").await;
    let got = call(app, AppProtocol::Http, Alpn::None).await.says(connect).await;
    assert!(got.starts_with("HTTP/1.1 400") && got.contains("HTTP_PROXY"), "{got}");

    let mut call = call(app, AppProtocol::HttpProxy, Alpn::None).await;
    call.client.write_all(connect.as_bytes()).await.unwrap();
    let got = read_until(&mut call.client, "\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    assert!(
        within(heard.recv()).await.unwrap().starts_with("CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n")
    );
    call.client.write_all(b"bytes").await.unwrap();
    call.client.shutdown().await.unwrap();
    assert_eq!(call.rest().await, ("bytes".to_owned(), false));
}

#[tokio::test]
async fn an_app_that_does_not_read_stops_its_caller() {
    /// More than the kernel holds on both legs together.
    const MOST: usize = 256 << 20;
    let (app, _) = raw_app(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    for (declared, head) in [
        (AppProtocol::Tcp, String::new()),
        (AppProtocol::Http, format!("POST / HTTP/1.1\r\nhost: api\r\ncontent-length: {MOST}\r\n\r\n")),
    ] {
        let mut call = call(app, declared, Alpn::None).await;
        call.client.write_all(head.as_bytes()).await.unwrap();
        let (chunk, mut taken) = (vec![0; 64 * 1024], 0);
        while taken < MOST {
            match tokio::time::timeout(Duration::from_millis(500), call.client.write(&chunk)).await {
                Ok(written) => taken += written.unwrap(),
                Err(_) => break,
            }
        }
        assert!(taken > chunk.len() && taken < 32 << 20, "{declared:?}: {taken}");
    }
}

#[tokio::test]
async fn an_app_that_speaks_first_in_http_has_its_callers_judged_as_http() {
    // The word in which a server of HTTP/2 greets, whole or begun, and one of HTTP/1.1 that is tired of waiting.
    for word in [&b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"[..], b"\0\0\0\x04", b"HTTP/1.1 408 Late\r\n\r\n"]
    {
        let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let (app, connections) = raw_app(move |mut stream| {
            let heard = heard.clone();
            async move {
                stream.write_all(word).await.unwrap();
                let mut got = Vec::new();
                while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {}
                heard.send(String::from_utf8_lossy(&got).into_owned()).unwrap();
            }
        })
        .await;
        let mut forger = call(app, AppProtocol::Undeclared, Alpn::None).await;
        while connections.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        // Long enough for the word to be there; were it not, the test would pass all the same.
        let greeted = tokio::time::timeout(Duration::from_millis(200), forger.client.readable()).await;
        assert!(greeted.is_err(), "nothing of an app's goes out before its caller has spoken HTTP");
        let forged = "GET / HTTP/1.1\r\nhost: api\r\nx-forwarded-client-cert: URI=spiffe://a/admin\r\n\r\n";
        forger.client.write_all(forged.as_bytes()).await.unwrap();
        forger.client.shutdown().await.unwrap();
        drop(forger.rest().await);
        let got = within(hears.recv()).await.unwrap();
        assert!(!got.contains("spiffe://a/admin"), "{got}");
    }
}

#[tokio::test]
async fn an_app_that_speaks_first_in_any_other_protocol_is_heard() {
    let (app, _) = raw_app(|mut stream| async move {
        stream.write_all(b"220 mail\r\n").await.unwrap();
        drop(stream.read(&mut [0; 8]).await);
    })
    .await;
    let mut call = call(app, AppProtocol::Undeclared, Alpn::None).await;
    assert_eq!(read_until(&mut call.client, "\r\n").await, "220 mail\r\n");
}
