use http::{HeaderName, HeaderValue, StatusCode};

use super::server::Server;
use crate::outbound::testing::{Bed, destination, forward, get, mark, policy, route};
use crate::route::{
    DirectResponse, Fault, FaultStatus, Forward, HeaderChanges, HttpAction, Redirect, RedirectPort, Rewrite,
    Share, UriRewrite,
};

fn set(name: &'static str, value: &'static str) -> HeaderChanges {
    let field = (HeaderName::from_static(name), HeaderValue::from_static(value));
    HeaderChanges { set: vec![field], ..HeaderChanges::default() }
}

#[tokio::test]
async fn requests_go_where_the_weights_say() {
    let (one, other) = (Server::named("one").await, Server::named("other").await);
    let to = |weights: &[(usize, u32)]| {
        let route = route(HttpAction::Forward(forward(weights)));
        Bed::new(policy(one.addr, route, vec![destination("other", 80, &[other.addr])]))
    };
    let bed = to(&[(0, 0), (1, 100)]);
    for _ in 0..20 {
        assert_eq!(bed.ask(get("/")).await.body(), "other");
    }
    let bed = to(&[(0, 50), (1, 50)]);
    let mut answers = Vec::new();
    for _ in 0..60 {
        answers.push(bed.ask(get("/")).await.into_body());
    }
    assert!(answers.iter().any(|answer| answer == "one") && answers.iter().any(|answer| answer == "other"));
}

#[tokio::test]
async fn header_fields_change_by_route_and_then_by_target_and_the_request_is_rewritten() {
    let api = Server::named("api").await;
    let mut forward = forward(&[(0, 1)]);
    let authority = Some(HeaderValue::from_static("rewritten"));
    forward.rewrite = Some(Rewrite { uri: Some(UriRewrite::Replace("/new".to_owned())), authority });
    let (mut target, total) = (forward.targets.pick(0).unwrap().clone(), 1);
    target.headers.request = set("x-who", "target");
    target.headers.response = set("x-answer", "target");
    forward.targets = crate::route::Targets::new(vec![(target, total)]).unwrap();
    let mut route = route(HttpAction::Forward(forward));
    route.headers.request = set("x-who", "route");
    route.headers.response = set("x-answer", "route");
    route.headers.request.remove = vec![HeaderName::from_static("x-gone")];
    let bed = Bed::routed(api.addr, route);

    let mut request = get("/old?q=1");
    request.headers_mut().insert("x-gone", HeaderValue::from_static("here"));
    let response = bed.ask(request).await;
    assert_eq!(response.headers()["x-answer"], "target");
    let seen = api.seen();
    let seen = seen.first().unwrap();
    assert_eq!(seen.target, "/new?q=1");
    assert_eq!(
        (seen.header("host"), seen.header("x-who"), seen.header("x-gone")),
        ("rewritten", "target", "")
    );
}

#[tokio::test]
async fn a_redirect_and_a_direct_response_are_answered_without_the_service() {
    let api = Server::named("api").await;
    let redirect = Redirect {
        status: StatusCode::PERMANENT_REDIRECT,
        uri: Some("/there".to_owned()),
        authority: Some("elsewhere".to_owned()),
        scheme: None,
        port: RedirectPort::default(),
    };
    let bed = Bed::routed(api.addr, route(HttpAction::Redirect(redirect)));
    let response = bed.ask(get("/here")).await;
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(response.headers()["location"], "http://elsewhere/there");

    let direct = DirectResponse { status: StatusCode::IM_A_TEAPOT, body: "short and stout".into() };
    let mut direct = route(HttpAction::Respond(direct));
    direct.headers.response = set("x-answer", "route");
    let response = Bed::routed(api.addr, direct).ask(get("/")).await;
    assert_eq!(
        (response.status(), response.body().as_ref()),
        (StatusCode::IM_A_TEAPOT, &b"short and stout"[..])
    );
    assert_eq!(response.headers()["x-answer"], "route");
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn an_abort_keeps_the_request_from_the_service_and_is_marked() {
    let api = Server::named("api").await;
    let faulty = |status| {
        let mut route = route(HttpAction::Forward(forward(&[(0, 1)])));
        route.fault = Some(Fault { delay: None, abort: Some((status, Share::ALL)) });
        Bed::routed(api.addr, route)
    };
    let response = faulty(FaultStatus::Http(StatusCode::IM_A_TEAPOT)).ask(get("/")).await;
    assert_eq!(
        (response.status(), mark(&response, "x-portcullis-fault")),
        (StatusCode::IM_A_TEAPOT, "abort")
    );
    let response = faulty(FaultStatus::Grpc(8)).ask_http2(get("/")).await;
    assert_eq!((response.status(), mark(&response, "grpc-status")), (StatusCode::OK, "8"));
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn every_request_of_a_connection_goes_by_the_newest_policy() {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::TokioIo;
    use std::sync::Arc;

    use crate::outbound::testing::within;

    let (old, new) = (Server::named("old").await, Server::named("new").await);
    let bed = Bed::routed(old.addr, route(HttpAction::Forward(forward(&[(0, 1)]))));
    within(async {
        let stream = tokio::net::TcpStream::connect(bed.addr).await.unwrap();
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        let mut answers = Vec::new();
        for turn in 0..2 {
            sender.ready().await.unwrap();
            let body = sender.send_request(get("/")).await.unwrap().into_body();
            answers.push(body.collect().await.unwrap().to_bytes());
            if turn == 0 {
                let to_other: Forward = forward(&[(1, 1)]);
                let others = vec![destination("other", 80, &[new.addr])];
                let next = policy(old.addr, route(HttpAction::Forward(to_other)), others);
                bed.publisher.replace(Arc::new(next));
            }
        }
        assert_eq!(answers, ["old", "new"]);
    })
    .await;
}
