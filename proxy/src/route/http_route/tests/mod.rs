//! Conditions, and what is done with a request that meets them, as tables.

mod headers;
mod matching;
mod properties;
mod redirect;
mod rewrite;
mod weights;

use http::HeaderName;

use super::*;

/// A request in its inner form: `METHOD TARGET`, then the fields; `Host: api` unless one is given.
fn head(line: &str, fields: &[(&str, &str)]) -> Parts {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut parts = request.body(()).unwrap().into_parts().0;
    parts.headers.entry("host").or_insert(http::HeaderValue::from_static("api"));
    parts
}

fn exact(text: &str) -> TextMatch {
    TextMatch::Exact(text.to_owned())
}

fn prefix(text: &str) -> TextMatch {
    TextMatch::Prefix(text.to_owned())
}

fn regex(expression: &str) -> TextMatch {
    TextMatch::regex(expression).unwrap()
}

fn uri(text: TextMatch) -> UriMatch {
    UriMatch { text, ignore_case: false }
}
