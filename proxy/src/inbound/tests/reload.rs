//! Policies replaced under connections: what they no longer permit ends within a second, and nothing else notices.

use super::*;
use crate::authz::{Action, Authorization, AuthorizationPolicy};

const WITHIN: Duration = Duration::from_secs(1);

fn strict() -> Arc<InboundPolicy> {
    Arc::new(InboundPolicy::strict_everywhere())
}

/// Open to plaintext, and nobody may do anything.
fn denied() -> Arc<InboundPolicy> {
    denied_to(AppProtocol::Http)
}

fn denied_to(declared: AppProtocol) -> Arc<InboundPolicy> {
    let rule = RuleRef::resource("AuthorizationPolicy", "production", "nobody");
    let nobody = AuthorizationPolicy { rule, action: Action::Allow, rules: Vec::new() };
    let policy = InboundPolicy::clone(&open(declared));
    Arc::new(policy.with_authorization(Authorization::new(vec![nobody])))
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(WITHIN, work).await.expect("an end within a second")
}

fn revoked(inbound: &Inbound) -> bool {
    inbound.metrics.encode().contains(r#"reason="revoked""#)
}

#[tokio::test]
async fn bytes_no_longer_permitted_end_in_a_reset() {
    let (app, _) = raw_app(|mut stream| async move {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let mut call = call(app, AppProtocol::Tcp, Alpn::None).await;
    for generation in 0..100 {
        call.policy.replace(open(AppProtocol::Tcp));
        call.client.write_all(b"ping").await.unwrap();
        assert_eq!(read_until(&mut call.client, "ping").await, "ping", "{generation}");
    }
    call.policy.replace(strict());
    let ended = soon(call.client.read(&mut [0; 8])).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(matches!(soon(&mut call.carried).await.unwrap(), Err(Refusal::Revoked(_))));
}

#[tokio::test]
async fn a_stream_whose_protocol_is_not_yet_told_ends_too() {
    let (app, _) = http_app(HttpVersion::Http1).await;
    for declared in [AppProtocol::Undeclared, AppProtocol::Http] {
        let mut call = call(app, declared, Alpn::None).await;
        call.client.write_all(b"GET").await.unwrap();
        call.policy.replace(strict());
        // Denied, if it had not even begun.
        let why = soon(&mut call.carried).await.unwrap();
        assert!(matches!(why, Err(Refusal::Revoked(_) | Refusal::Denied(_))), "{declared:?}");
    }
}

#[tokio::test]
async fn who_has_said_nothing_yet_and_may_no_longer_say_anything_is_not_waited_for() {
    let (dialled, mut dials) = tokio::sync::mpsc::unbounded_channel();
    let (app, _) = raw_app(move |mut stream| {
        dialled.send(()).unwrap();
        async move {
            let _ = stream.read(&mut [0; 8]).await;
        }
    })
    .await;
    let mut call = call(app, AppProtocol::Undeclared, Alpn::None).await;
    within(dials.recv()).await.unwrap();
    // The control: a policy that still permits it ends nothing.
    call.policy.replace(open(AppProtocol::Undeclared));
    let waits = tokio::time::timeout(Duration::from_millis(200), &mut call.carried).await;
    assert!(waits.is_err(), "ended for no reason: {waits:?}");
    call.policy.replace(denied_to(AppProtocol::Undeclared));
    assert!(matches!(soon(&mut call.carried).await.unwrap(), Err(Refusal::Revoked(_))));
}

#[tokio::test]
async fn a_request_under_way_breaks_off_and_its_connection_ends() {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let (app, _) = raw_app(move |mut stream| {
        let heard = heard.clone();
        async move {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            if head.starts_with("GET /drip") {
                let half = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nd\r\n";
                stream.write_all(half.as_bytes()).await.unwrap();
            }
            heard.send(()).unwrap();
            // Until the sidecar lets go.
            let _ = stream.read(&mut [0; 8]).await;
        }
    })
    .await;
    for path in ["/drip", "/wait"] {
        let mut call = call(app, AppProtocol::Undeclared, Alpn::None).await;
        call.client.write_all(format!("GET {path} HTTP/1.1\r\nhost: api\r\n\r\n").as_bytes()).await.unwrap();
        within(hears.recv()).await.unwrap();
        let begun = match path {
            "/drip" => read_until(&mut call.client, "\r\nd\r\n").await,
            _ => String::new(),
        };
        call.policy.replace(open(AppProtocol::Undeclared));
        assert!(!call.carried.is_finished());
        call.policy.replace(strict());
        let inbound = Arc::clone(&call.inbound);
        let (rest, _) = soon(call.rest()).await;
        assert!(!format!("{begun}{rest}").contains("\r\n0\r\n"), "{path} looks whole: {rest}");
        assert_eq!(rest.contains("403") && rest.contains("no longer permitted"), path == "/wait", "{rest}");
        assert!(revoked(&inbound), "{path}");
    }
}

#[tokio::test]
async fn an_idle_connection_and_an_upgraded_one_end_too() {
    let (app, _) = raw_app(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(switch.as_bytes()).await.unwrap();
        drop(stream.read(&mut [0; 8]).await);
    })
    .await;
    let mut upgraded = call(app, AppProtocol::Http, Alpn::None).await;
    let ask = "GET / HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    upgraded.client.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut upgraded.client, "\r\n\r\n").await;
    upgraded.policy.replace(open(AppProtocol::Http));
    assert!(!upgraded.carried.is_finished());
    upgraded.policy.replace(strict());
    soon(&mut upgraded.carried).await.unwrap().unwrap();
    let (_, reset) = soon(upgraded.rest()).await;
    assert!(reset, "what was cut short must not look whole");

    let mut idle = call(app, AppProtocol::Http, Alpn::Http1).await;
    idle.policy.replace(strict());
    soon(&mut idle.carried).await.unwrap().unwrap();
    soon(idle.rest()).await;
}

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let (app, _) = http_app(HttpVersion::Http1).await;
    let mut call = call(app, AppProtocol::Http, Alpn::None).await;
    for n in 0..100 {
        let request = "POST /echo HTTP/1.1\r\nhost: api\r\ncontent-length: 8\r\n\r\nhalf";
        call.client.write_all(request.as_bytes()).await.unwrap();
        call.policy.replace(open(AppProtocol::Http));
        call.client.write_all(b"last").await.unwrap();
        let got = read_until(&mut call.client, "halflast").await;
        assert!(got.contains("HTTP/1.1 200 OK"), "{n}: {got}");
    }
    assert!(!revoked(&call.inbound));
}

#[tokio::test]
async fn who_comes_after_a_reload_is_told_why_and_not_cut_as_if_it_had_come_before() {
    let (app, connections) = http_app(HttpVersion::Http1).await;
    let mut call = call_after(app, AppProtocol::Http, Alpn::Http1, |policy| policy.replace(denied())).await;
    // Longer than a connection lives on whose caller a new policy bars.
    let early = tokio::time::timeout(Duration::from_millis(900), call.client.readable()).await;
    assert!(early.is_err(), "the connection ended before it was asked anything");
    for _ in 0..3 {
        call.client.write_all(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.unwrap();
        let got = read_until(&mut call.client, "}\n").await;
        assert!(got.starts_with("HTTP/1.1 403") && got.contains("not_allowed"), "{got}");
    }
    assert!(!revoked(&call.inbound));
    assert_eq!(connections.load(Ordering::Relaxed), 0);
    call.policy.replace(strict());
    soon(&mut call.carried).await.unwrap().unwrap();
}
