//! What becomes of every field of Istio's five kinds, as one table: `docs/POLICY.md` is made from it, and the tests
//! hold the readers to it.

mod authorization_policy;
mod destination_rule;
mod peer_authentication;
mod prose;
mod service_entry;
#[cfg(test)]
mod tests;
mod virtual_service;

use std::fmt::Write;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does what Istio's documentation says.
    Supported,
    /// It is read, and does something else than in Istio, or not all of it.
    Different,
    /// Writing it is a load error.
    Refused,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Different => "different",
            Self::Refused => "**refused**",
        }
    }
}

/// One field, or one value of a field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The YAML path below `spec`: `[]` is any element of a list, words in capitals are free keys. A refused value
    /// follows after `: `.
    pub path: &'static str,
    /// What becomes of it.
    pub status: Status,
    /// What it means here, or why it is refused.
    pub words: &'static str,
    /// A value for it, in YAML's flow style; nothing when `path` ends in a value.
    pub example: &'static str,
}

/// One kind and all its fields.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// As the documents write it.
    pub name: &'static str,
    /// What it is for, and which of several is taken.
    pub about: &'static str,
    /// In Istio's order.
    pub fields: &'static [Field],
}

/// The kinds that a policy is made of.
pub const KINDS: [Kind; 5] = [
    peer_authentication::KIND,
    authorization_policy::KIND,
    service_entry::KIND,
    destination_rule::KIND,
    virtual_service::KIND,
];

const fn supported(path: &'static str, example: &'static str, words: &'static str) -> Field {
    Field { path, status: Status::Supported, words, example }
}

const fn different(path: &'static str, example: &'static str, words: &'static str) -> Field {
    Field { path, status: Status::Different, words, example }
}

const fn refused(path: &'static str, example: &'static str, words: &'static str) -> Field {
    Field { path, status: Status::Refused, words, example }
}

/// The whole of `docs/POLICY.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(prose::INTRODUCTION);
    for kind in KINDS {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\n| Field | | What it means here |\n|---|---|---|\n",
            kind.name, kind.about
        );
        for Field { path, status, words, .. } in kind.fields {
            let _ = writeln!(text, "| `{path}` | {} | {} |", status.word(), words.replace('|', "\\|"));
        }
    }
    text
}
