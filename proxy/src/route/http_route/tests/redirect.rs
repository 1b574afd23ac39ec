use super::*;

fn plain() -> Redirect {
    Redirect {
        status: StatusCode::MOVED_PERMANENTLY,
        uri: None,
        authority: None,
        scheme: None,
        port: RedirectPort::AsAsked,
    }
}

fn location(redirect: &Redirect, target: &str, host: &str) -> String {
    redirect.location(&head(&format!("GET {target}"), &[("host", host)]))
}

#[test]
fn what_is_not_given_is_as_asked() {
    let uri = |uri: &str| Redirect { uri: Some(uri.to_owned()), ..plain() };
    let authority = |text: &str| Redirect { authority: Some(text.to_owned()), ..plain() };
    let https = || Redirect { scheme: Some("https".to_owned()), ..plain() };
    let port = |port| Redirect { port, ..plain() };
    for (redirect, target, host, expected) in [
        (uri("/new"), "/old/x?q=1", "api", "http://api/new?q=1"),
        (uri("/new?a=b"), "/old/x?q=1", "api", "http://api/new?a=b"),
        (uri("/new"), "/old", "api:8080", "http://api:8080/new"),
        (authority("other"), "/old?q", "api:8080", "http://other/old?q"),
        (authority("other:81"), "/old", "api:8080", "http://other:81/old"),
        (authority("[::1]:81"), "/old", "api", "http://[::1]:81/old"),
        (https(), "/old", "api", "https://api/old"),
        (https(), "/old", "api:80", "https://api/old"),
        (https(), "/old", "api:8080", "https://api:8080/old"),
        (https(), "/old", "[::1]:80", "https://[::1]/old"),
        (port(RedirectPort::Number(8443)), "/", "api:80", "http://api:8443/"),
        (port(RedirectPort::Number(80)), "/", "api:8080", "http://api/"),
        (port(RedirectPort::OfScheme), "/", "api:8080", "http://api/"),
        (Redirect { port: RedirectPort::Number(443), ..https() }, "/", "api", "https://api/"),
        (
            Redirect { port: RedirectPort::Number(8443), ..authority("other") },
            "/",
            "api",
            "http://other:8443/",
        ),
        (https(), "*", "api", "https://api/"),
        (https(), "//evil.example/x", "api", "https://api//evil.example/x"),
    ] {
        assert_eq!(location(&redirect, target, host), expected, "{redirect:?} {target} {host}");
    }
}

/// A client that sends an odd `Host` gets a path, and never one that a browser reads as another host.
#[test]
fn an_odd_host_is_not_repeated() {
    for host in ["user@evil.example", "a b", "a/b", "a\"b", "", "[::1"] {
        for target in ["//evil.example/x", "/x", "///x?q"] {
            let location = location(&plain(), target, host);
            assert!(location.starts_with('/') && !location.starts_with("//"), "{host} {target}: {location}");
            assert!(!location.contains('@'), "{location}");
        }
    }
    assert_eq!(location(&plain(), "/x", "api"), "http://api/x", "and an ordinary one is");
}
