//! The forms of texts, hosts, principals and paths.

use portcullis_identity::{SpiffeId, Workload};

use crate::authz::{HostMatch, PathMatch, PrincipalMatch, ServiceAccount, StringMatch};

#[test]
fn a_text_is_matched_whole_by_its_beginning_by_its_end_or_by_being_there() {
    for (pattern, fitting, other) in [
        ("abc", &["abc"][..], &["", "ab", "abcd", "xabc", "ABC"][..]),
        ("abc*", &["abc", "abcd"], &["", "ab", "xabc", "ABC"]),
        ("*abc", &["abc", "xabc"], &["", "abcd", "ABC"]),
        ("*", &["a", "*"], &[""]),
    ] {
        let pattern = StringMatch::parse(pattern).unwrap();
        assert!(fitting.iter().all(|text| pattern.fits(text.as_bytes())), "{pattern:?}");
        assert!(!other.iter().any(|text| pattern.fits(text.as_bytes())), "{pattern:?}");
    }
    for text in ["", "a*b", "*a*", "**", "a**"] {
        assert!(StringMatch::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_host_without_a_port_is_meant_on_any_port_and_in_any_case() {
    for (pattern, fitting, other) in [
        (
            "Example.com",
            &["example.com", "EXAMPLE.COM", "example.com:8080", "example.com.", "example.com.:80"][..],
            &["", "a.example.com", "example.com.evil", "example.comx", ":8080"][..],
        ),
        ("*.example.com", &["a.example.com", "A.B.example.com:1"], &["example.com", "a.example.com.evil"]),
        ("api.*", &["api.a", "API.b:80"], &["xapi.a"]),
        (
            "example.com:8080",
            &["example.com:8080", "Example.com.:8080"],
            &["example.com", "example.com:80", "example.com:80801"],
        ),
        ("example.com:*", &["example.com:1"], &["example.com", "example.community:1"]),
        ("[::1]", &["[::1]", "[::1]:80"], &["[::2]"]),
        ("*", &["a"], &[""]),
    ] {
        let pattern = HostMatch::parse(pattern).unwrap();
        for host in fitting {
            assert!(pattern.fits(host.as_bytes()), "{pattern:?} {host}");
        }
        for host in other {
            assert!(!pattern.fits(host.as_bytes()), "{pattern:?} {host}");
        }
    }
}

#[test]
fn a_principal_is_an_identity_without_its_scheme() {
    let id = |text: &str| SpiffeId::parse(text).unwrap();
    let (web, renamed) = (id("spiffe://cluster.local/ns/a/sa/web"), id("spiffe://example.org/ns/a/sa/web"));
    for (pattern, fits_web, fits_renamed) in [
        ("cluster.local/ns/a/sa/web", true, true),
        ("cluster.local/ns/a/*", true, true),
        ("example.org/ns/a/sa/web", false, true),
        ("*/ns/a/sa/web", true, true),
        ("*/sa/web", true, true),
        ("*", true, true),
        ("cluster.local/ns/a/sa/we", false, false),
        ("cluster.local/ns/a/sa/webs", false, false),
        ("cluster.local/ns/A/sa/web", false, false),
        ("cluster.localhost/ns/a/sa/web", false, false),
        ("*/sa/eb", false, false),
    ] {
        let pattern = PrincipalMatch::parse(pattern).unwrap();
        assert_eq!((pattern.fits(&web), pattern.fits(&renamed)), (fits_web, fits_renamed), "{pattern:?}");
    }
}

#[test]
fn a_service_account_is_of_the_policys_namespace_unless_it_says_otherwise() {
    let id = SpiffeId::parse("spiffe://td/ns/production/sa/web").unwrap();
    let web = Workload::try_from(id).unwrap();
    for (text, own, fits) in [
        ("web", "production", true),
        ("web", "other", false),
        ("production/web", "other", true),
        ("other/web", "production", false),
        ("we", "production", false),
    ] {
        assert_eq!(ServiceAccount::parse(text, own).unwrap().fits(&web), fits, "{text} {own}");
    }
}

#[test]
fn a_path_is_matched_as_a_text_or_by_a_template() {
    for (pattern, fitting, other) in [
        ("/a", &["/a"][..], &["/a/", "/ab", "/A", "/x/a"][..]),
        ("/a*", &["/a", "/a/", "/ab"], &["/", "/x/a"]),
        ("*.html", &["/a.html", "/.html"], &["/a.htm"]),
        ("*/a", &["/a", "/x/a"], &["/xa", "/a/"]),
        ("/.*", &["/.git", "/.git/config"], &["/git"]),
        ("/%61%20b", &["/a%20b"], &["/a b"]),
        ("*", &["/", "/a", "*"], &[""]),
        ("/a/{*}", &["/a/b", "/a/.x"], &["/a", "/a/", "/a/b/", "/a/b/c", "/x/b"]),
        ("/a/{*}/c", &["/a/b/c"], &["/a//c", "/a/b/b/c", "/a/b/c/"]),
        ("/{*}/{*}", &["/a/b"], &["/a", "/a/b/c", "//"]),
        ("/a/{**}", &["/a/", "/a/b", "/a/b/c/"], &["/a", "/ab/c", "/"]),
        ("/{**}", &["/", "/a/b"], &["*", ""]),
        ("/{*}/b/{**}", &["/a/b/", "/a/b/c/d"], &["/a/b", "//b/c"]),
        ("/a/{**}/z", &["/a/b/z", "/a/b/c/z", "/a/z/z"], &["/a/z", "/a/b/z/", "/z"]),
        ("/%61/{*}", &["/a/b"], &["/b/a"]),
    ] {
        let pattern = PathMatch::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for path in fitting {
            assert!(pattern.fits(path), "{pattern:?} {path}");
        }
        for path in other {
            assert!(!pattern.fits(path), "{pattern:?} {path}");
        }
    }
}
