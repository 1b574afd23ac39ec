use super::*;

/// A condition, a request line, fields, and whether it is met.
type Row<'a> = (HttpMatch, &'a str, &'a [(&'a str, &'a str)], bool);

fn check(rows: Vec<Row<'_>>) {
    for (condition, line, fields, met) in rows {
        assert_eq!(condition.is_met(&head(line, fields)), met, "{condition:?}: {line} {fields:?}");
    }
}

#[test]
fn the_path_is_compared_without_query_and_as_it_was_sent() {
    let on = |text| HttpMatch { uri: Some(uri(text)), ..HttpMatch::default() };
    let any_case =
        |text| HttpMatch { uri: Some(UriMatch { text, ignore_case: true }), ..HttpMatch::default() };
    check(vec![
        (on(exact("/api")), "GET /api", &[], true),
        (on(exact("/api")), "GET /api?x=/api/", &[], true),
        (on(exact("/api")), "GET /api/", &[], false),
        (on(exact("/api")), "GET /API", &[], false),
        (on(exact("/api")), "GET /%61pi", &[], false),
        (on(exact("/api")), "GET //api", &[], false),
        (on(exact("*")), "OPTIONS *", &[], true),
        (on(prefix("/")), "OPTIONS *", &[], false),
        (on(prefix("/api")), "GET /api/x", &[], true),
        (on(prefix("/api")), "GET /apiary", &[], true),
        (on(prefix("/api/")), "GET /api", &[], false),
        (on(prefix("/api")), "GET /?x=/api", &[], false),
        (on(prefix("/api")), "GET /Api", &[], false),
        (any_case(exact("/Api")), "GET /aPI", &[], true),
        (any_case(prefix("/Api")), "GET /aPI/x", &[], true),
        (any_case(prefix("/Api")), "GET /aP", &[], false),
        (any_case(regex("/api")), "GET /API", &[], false),
        (on(regex("(?i)/api")), "GET /API", &[], true),
    ]);
}

/// Envoy searches for nothing less than the whole text; a partial match would open what was meant to be closed.
#[test]
fn an_expression_has_to_fit_the_whole_text() {
    let rows: &[(&str, &str, bool)] = &[
        ("/api", "/api", true),
        ("/api", "/api/x", false),
        ("/api", "/x/api", false),
        ("/api.*", "/api/x", true),
        ("/a|/ab", "/ab", true),
        ("/a|/ab", "/abc", false),
        ("^/api$", "/api", true),
        ("^/api", "/api/x", false),
        ("/a(?m)$", "/a/b", false),
        ("/[0-9]+", "/42", true),
        ("/[0-9]+", "/42a", false),
        ("/.*?", "/anything", true),
        ("", "/", false),
    ];
    for (expression, path, met) in rows {
        assert_eq!(uri(regex(expression)).is_met(path), *met, "{expression} {path}");
    }
    // A value with a line break never gets here as a header, and still would not pass for its first line.
    assert!(!regex("a").is_met(b"a\nb") && !regex("(?m)a$").is_met(b"a\nb"));
    assert!(regex("a.b").is_met(b"a\xffb"), "bytes that are no text are strange letters");
}

#[test]
fn expressions_are_bounded_and_linear() {
    for (expression, expected) in
        [("a".repeat(1025), BadExpression::Long), (r"(\w{100}){100}".to_owned(), BadExpression::Large)]
    {
        assert_eq!(TextMatch::regex(&expression).unwrap_err(), expected);
    }
    for expression in ["(", "a)|(b", "(?=a)", r"(a)\1", "[", "*", "(?x) a #"] {
        let error = TextMatch::regex(expression).unwrap_err();
        assert!(
            matches!(&error, BadExpression::Syntax(text) if !text.contains('\n')),
            "{expression}: {error}"
        );
    }
    // Catastrophic for a backtracking engine.
    assert!(!regex("(a*)*b").is_met("a".repeat(60_000).as_bytes()));
}

#[test]
fn methods_schemes_and_authorities_are_compared_as_sent() {
    let method = |text| HttpMatch { method: Some(text), ..HttpMatch::default() };
    let scheme = |text| HttpMatch { scheme: Some(text), ..HttpMatch::default() };
    let authority = |text| HttpMatch { authority: Some(text), ..HttpMatch::default() };
    check(vec![
        (method(exact("GET")), "GET /", &[], true),
        (method(exact("GET")), "POST /", &[], false),
        (method(regex("GET|HEAD")), "HEAD /", &[], true),
        (method(prefix("P")), "PATCH /", &[], true),
        (scheme(exact("http")), "GET /", &[], true),
        (scheme(exact("https")), "GET /", &[], false),
        (authority(exact("api")), "GET /", &[], true),
        (authority(exact("api")), "GET /", &[("host", "api:80")], false),
        (authority(exact("api:80")), "GET /", &[("host", "api:80")], true),
        (authority(prefix("api")), "GET /", &[("host", "api.production:8080")], true),
        (authority(regex(r"api(:\d+)?")), "GET /", &[("host", "api:80")], true),
        (authority(exact("api")), "GET /", &[("host", "API")], false),
    ]);
}

#[test]
fn headers_are_present_or_have_a_value() {
    let on = |name: &'static str, value| HttpMatch {
        headers: vec![(HeaderName::from_static(name), value)],
        ..HttpMatch::default()
    };
    let text = |text| ValueMatch::Text(text);
    check(vec![
        (on("end-user", text(exact("jason"))), "GET /", &[("End-User", "jason")], true),
        (on("end-user", text(exact("jason"))), "GET /", &[("end-user", "Jason")], false),
        (on("end-user", text(exact("jason"))), "GET /", &[], false),
        (on("end-user", text(exact(""))), "GET /", &[("end-user", "")], true),
        (on("end-user", text(exact(""))), "GET /", &[], false),
        (on("end-user", ValueMatch::Present), "GET /", &[("end-user", "")], true),
        (on("end-user", ValueMatch::Present), "GET /", &[("end-users", "")], false),
        (on("x", text(prefix("a"))), "GET /", &[("x", "ab")], true),
        (on("x", text(exact("a"))), "GET /", &[("x", "a"), ("x", "b")], false),
        (on("x", text(exact("a,b"))), "GET /", &[("x", "a"), ("x", "b")], true),
        (
            on("cookie", text(regex("^(.*?;)?( ?user=jason)(;.*)?$"))),
            "GET /",
            &[("cookie", "a=b"), ("cookie", "user=jason")],
            true,
        ),
        (on("host", text(exact("api"))), "GET /", &[], true),
    ]);
}

#[test]
fn headers_that_must_not_be_there_cannot_be_hidden() {
    let without = |name: &'static str, value| HttpMatch {
        without_headers: vec![(HeaderName::from_static(name), value)],
        ..HttpMatch::default()
    };
    let text = |text| ValueMatch::Text(text);
    check(vec![
        (without("x", ValueMatch::Present), "GET /", &[], true),
        (without("x", ValueMatch::Present), "GET /", &[("x", "")], false),
        (without("x", text(exact("a"))), "GET /", &[("x", "b")], true),
        (without("x", text(exact("a"))), "GET /", &[("x", "a")], false),
        (without("x", text(exact("a"))), "GET /", &[("x", "a"), ("x", "b")], false),
        (without("x", text(exact("a"))), "GET /", &[("x", "b"), ("x", "a")], false),
        (without("x", text(exact("a,b"))), "GET /", &[("x", "a"), ("x", "b")], false),
    ]);
}

#[test]
fn query_parameters_are_compared_undecoded_and_the_first_counts() {
    let on = |name: &str, value| HttpMatch {
        query_params: vec![(name.to_owned(), value)],
        ..HttpMatch::default()
    };
    let text = |text| ValueMatch::Text(text);
    check(vec![
        (on("q", text(exact("a"))), "GET /?q=a", &[], true),
        (on("q", text(exact("a"))), "GET /?x=1&q=a&y", &[], true),
        (on("q", text(exact("a"))), "GET /?q=b&q=a", &[], false),
        (on("q", text(exact("a"))), "GET /", &[], false),
        (on("q", text(exact("a"))), "GET /?", &[], false),
        (on("q", text(exact("a"))), "GET /q=a", &[], false),
        (on("q", text(exact("a"))), "GET /?Q=a", &[], false),
        (on("q", text(exact("a"))), "GET /?q=%61", &[], false),
        (on("q", text(exact("%61"))), "GET /?q=%61", &[], true),
        (on("q", text(exact(""))), "GET /?q", &[], true),
        (on("q", text(exact(""))), "GET /?q=", &[], true),
        (on("q", text(exact("a=b"))), "GET /?q=a=b", &[], true),
        (on("q", ValueMatch::Present), "GET /?q", &[], true),
        (on("q", ValueMatch::Present), "GET /?qq", &[], false),
        (on("q", text(regex("[0-9]+"))), "GET /?q=42", &[], true),
        (on("q", text(regex("[0-9]+"))), "GET /?q=42a", &[], false),
        (on("q", text(prefix("4"))), "GET /?q=42", &[], true),
    ]);
}

#[test]
fn conditions_are_anded_and_alternatives_ored() {
    let one = HttpMatch {
        uri: Some(uri(prefix("/api"))),
        method: Some(exact("GET")),
        headers: vec![(HeaderName::from_static("x"), ValueMatch::Present)],
        without_headers: vec![(HeaderName::from_static("y"), ValueMatch::Present)],
        query_params: vec![("q".to_owned(), ValueMatch::Present)],
        ..HttpMatch::default()
    };
    let other = HttpMatch { uri: Some(uri(exact("/health"))), ..HttpMatch::default() };
    let route = HttpRoute {
        rule: RuleRef::built_in(),
        matches: vec![one, other],
        fault: None,
        headers: HeaderRules::default(),
        action: HttpAction::Respond(DirectResponse { status: StatusCode::OK, body: bytes::Bytes::new() }),
    };
    let x: &[(&str, &str)] = &[("x", "1")];
    for (line, fields, alternative) in [
        ("GET /api?q", x, Some("/api")),
        ("POST /api?q", x, None),
        ("GET /api", x, None),
        ("GET /api?q", &[], None),
        ("GET /api?q", &[("x", "1"), ("y", "1")], None),
        ("GET /?q", x, None),
        ("POST /health", &[], Some("/health")),
    ] {
        let head = head(line, fields);
        let path = |found: &HttpMatch| match &found.uri.as_ref().unwrap().text {
            TextMatch::Exact(text) | TextMatch::Prefix(text) => text.clone(),
            TextMatch::Regex(_) => panic!("none"),
        };
        let matched = route.matched(&head).map(|found| path(found.unwrap()));
        assert_eq!(matched.as_deref(), alternative, "{line}");
        assert_eq!(route.is_met(&head), alternative.is_some(), "{line}");
    }
    let always = HttpRoute { matches: Vec::new(), ..route };
    assert!(always.matched(&head("GET /", &[])).is_some_and(|found| found.is_none()));
    assert!(HttpMatch::default().is_always() && HttpMatch::default().is_met(&head("OPTIONS *", &[])));
}
