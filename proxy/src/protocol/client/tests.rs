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
