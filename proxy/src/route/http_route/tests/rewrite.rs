use super::*;

fn rewritten(rewrite: &Rewrite, line: &str, matched: Option<&UriMatch>) -> String {
    let mut head = head(line, &[]);
    match rewrite.apply(&mut head, matched) {
        Ok(()) => head.uri.to_string(),
        Err(error) => {
            assert_eq!(head.uri.to_string(), line.split_once(' ').unwrap().1, "as it was");
            format!("{error:?}")
        }
    }
}

#[test]
fn a_prefix_is_replaced_and_the_query_stays() {
    let (api, slash) = (uri(prefix("/api")), uri(prefix("/api/")));
    let any_case = UriMatch { text: prefix("/API"), ignore_case: true };
    for (new, line, matched, result) in [
        ("/v2", "GET /api/x?y=1", Some(&api), "/v2/x?y=1"),
        ("/v2", "GET /api", Some(&api), "/v2"),
        ("/v2", "GET /apiary", Some(&api), "/v2ary"),
        ("/v2/", "GET /api/x", Some(&slash), "/v2/x"),
        ("/v2", "GET /api/x", Some(&slash), "/v2x"),
        ("/", "GET /api/x", Some(&api), "/x"),
        ("/", "GET /api", Some(&api), "/"),
        ("/", "GET /api//x", Some(&api), "//x"),
        ("/v2/", "GET /api/x", Some(&api), "/v2/x"),
        ("/v2", "GET /Api/x", Some(&any_case), "/v2/x"),
        ("/v2", "GET /api/x?y=1", None, "/v2?y=1"),
        ("/v2", "GET /api/x?", Some(&uri(exact("/api/x"))), "/v2?"),
        ("/v2", "GET /api/x", Some(&uri(regex("/api.*"))), "/v2"),
        ("/v2", "OPTIONS *", None, "*"),
        ("/v2", "GET /api/%2e%2e/x", Some(&api), "/v2/%2e%2e/x"),
        ("/v2", "GET /api/%zz", Some(&api), "NotAPath"),
    ] {
        let rewrite = Rewrite { uri: Some(UriRewrite::Replace(new.to_owned())), authority: None };
        assert_eq!(rewritten(&rewrite, line, matched), result, "{new} {line} {matched:?}");
    }
}

#[test]
fn an_expression_replaces_every_match_with_its_groups() {
    for (expression, with, line, result) in [
        (
            "^/service/([^/]+)(/.*)$",
            r"\2/instance/\1",
            "GET /service/foo/v1/api?a=b",
            "/v1/api/instance/foo?a=b",
        ),
        ("one", "two", "GET /xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        ("^(.*?)one(.*)$", r"\1two\2", "GET /xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
        ("(?i)/xxx/", "/yyy/", "GET /aaa/XxX/bbb", "/aaa/yyy/bbb"),
        ("nothing", "x", "GET /a?nothing", "/a?nothing"),
        ("/a", r"\0\0", "GET /a/b", "/a/a/b"),
        ("(x)?/a", r"\1/b", "GET /a", "/b"),
        ("^/", "", "GET /a", "NotAPath"),
        ("^/.*", "a", "GET /a", "NotAPath"),
        ("2", "", "GET /%2f", "NotAPath"),
        ("a", r"\\", "GET /a", "NotAPath"),
    ] {
        let rewrite = Rewrite { uri: Some(UriRewrite::regex(expression, with).unwrap()), authority: None };
        assert_eq!(rewritten(&rewrite, line, None), result, "{expression} {with} {line}");
    }
    for (expression, with) in [
        ("(", "a"),
        ("(a)", r"\2"),
        ("a", r"\x"),
        ("a", "\\"),
        ("a", "b c"),
        ("a", "b?c"),
        ("a", "b#"),
        ("a", "b\r\n"),
        ("a", "ä"),
    ] {
        assert!(UriRewrite::regex(expression, with).is_err(), "{expression} {with}");
    }
}

#[test]
fn a_path_does_not_grow_without_bound() {
    let rewrite = Rewrite { uri: Some(UriRewrite::regex("a", &"b".repeat(1000)).unwrap()), authority: None };
    let line = format!("GET /{}", "a".repeat(60_000));
    assert_eq!(rewritten(&rewrite, &line, None), "TooLong");
    let rewrite =
        Rewrite { uri: Some(UriRewrite::Replace(format!("/{}", "b".repeat(60_000)))), authority: None };
    assert_eq!(rewritten(&rewrite, &format!("GET /?{}", "q".repeat(6_000)), None), "TooLong");
    assert_eq!(rewritten(&rewrite, "GET /?q", None).len(), 60_003);
}

#[test]
fn the_authority_replaces_the_host() {
    let authority = Some(http::HeaderValue::from_static("ratings:9080"));
    let rewrite = Rewrite { uri: None, authority };
    let mut request = head("GET /a?b", &[("host", "reviews")]);
    rewrite.apply(&mut request, None).unwrap();
    let hosts: Vec<_> = request.headers.get_all("host").iter().collect();
    assert_eq!(
        (hosts, request.uri.to_string()),
        (vec![&http::HeaderValue::from_static("ratings:9080")], "/a?b".to_owned())
    );
}
