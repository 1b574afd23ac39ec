//! From a located tree to values, one fault for everything that does not fit and no stop at the first.
//!
//! Each reader returns `None` after it has added a fault, so a caller reads all its fields first and puts them
//! together last. Knows nothing of policies.

mod scalars;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::report::{Faults, Place, quoted};
use super::yaml::{Key, Mark, Raw, Value, is_null_word, join};

/// How unlike a known name may be to be suggested in its place (insertions, deletions, swaps).
const NEAR: usize = 2;
/// Names of so many letters allow for one slip alone.
const SHORT: usize = 5;

/// A value, and how to name it in a message.
#[derive(Clone)]
pub(super) struct Node<'a> {
    raw: &'a Raw,
    file: &'a Arc<str>,
    path: String,
}

/// One entry of a map with free keys.
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    pub(super) place: Place,
    pub(super) value: Node<'a>,
}

impl<'a> Node<'a> {
    /// A whole document.
    pub(super) fn document(file: &'a Arc<str>, raw: &'a Raw) -> Self {
        Self { raw, file, path: String::new() }
    }

    pub(super) fn place(&self) -> Place {
        self.place_at(self.raw.at, &self.path)
    }

    fn place_at(&self, at: Mark, path: &str) -> Place {
        Place::new(self.file, at.line, at.column, path)
    }

    fn child(&self, raw: &'a Raw, path: String) -> Self {
        Self { raw, file: self.file, path }
    }

    pub(super) fn fault(&self, faults: &mut Faults, message: impl Into<String>) {
        faults.add(self.place(), message);
    }

    /// "expected WHAT, found ..." as a fault.
    fn mismatch<T>(&self, faults: &mut Faults, what: &str) -> Option<T> {
        self.fault(faults, format!("expected {what}, found {}", self.found()));
        None
    }

    fn found(&self) -> String {
        match &self.raw.value {
            _ if self.raw.is_null() => "nothing".to_owned(),
            Value::Scalar { text, plain: true } if is_typed(text) => {
                format!("the bare value {}", quoted(text))
            }
            Value::Scalar { text, .. } => format!("the text {}", quoted(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(&self.raw.value, Value::Scalar { .. })
    }

    /// Whether it is this text.
    pub(super) fn is_the_text(&self, wanted: &str) -> bool {
        matches!(&self.raw.value, Value::Scalar { text, .. } if text == wanted)
    }

    pub(super) fn is_empty_list(&self) -> bool {
        matches!(&self.raw.value, Value::List(items) if items.is_empty())
    }

    pub(super) fn text(&self, faults: &mut Faults) -> Option<&'a str> {
        match &self.raw.value {
            Value::Scalar { text, plain: true } if is_typed(text) && !self.raw.is_null() => {
                self.mismatch(faults, &format!("text (write it in quotes: {})", quoted(text)))
            }
            Value::Scalar { text, .. } if !self.raw.is_null() => Some(text),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => self.mismatch(faults, "text"),
        }
    }

    /// Text that `parse` turns into a value; its error is the fault.
    pub(super) fn parsed<T, E: Display>(
        &self,
        faults: &mut Faults,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(faults)?;
        self.parsed_text(text, faults, parse)
    }

    /// A duration. A bare number is told to have no unit, rather than to need quotes.
    pub(super) fn duration(
        &self,
        faults: &mut Faults,
        parse: fn(&str) -> Result<Duration, String>,
    ) -> Option<Duration> {
        match &self.raw.value {
            Value::Scalar { text, .. } if !self.raw.is_null() => self.parsed_text(text, faults, parse),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => self.mismatch(faults, "a duration"),
        }
    }

    fn parsed_text<T, E: Display>(
        &self,
        text: &str,
        faults: &mut Faults,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(faults, format!("{}: {error}", quoted(text)));
                None
            }
        }
    }

    /// Text that is one of a few words.
    pub(super) fn word<T: Copy>(&self, faults: &mut Faults, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(faults)?;
        let known = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if known.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.fault(faults, format!("{} is not known: write {}", quoted(text), words.join(" or ")));
        }
        known
    }

    pub(super) fn integer<T: TryFrom<u64>>(
        &self,
        faults: &mut Faults,
        range: RangeInclusive<u64>,
    ) -> Option<T> {
        let number = match &self.raw.value {
            Value::Scalar { text, plain: true } if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().ok()
            }
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
        };
        match number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok()) {
            Some(number) => Some(number),
            None => {
                self.mismatch(faults, &format!("a whole number from {} to {}", range.start(), range.end()))
            }
        }
    }

    /// A TCP port, 1 to 65535.
    pub(super) fn port(&self, faults: &mut Faults) -> Option<u16> {
        self.integer(faults, 1..=u64::from(u16::MAX))
    }

    /// The elements of a list; none after a fault.
    pub(super) fn items(&self, faults: &mut Faults) -> Vec<Node<'a>> {
        let Value::List(items) = &self.raw.value else {
            self.mismatch::<()>(faults, "a list");
            return Vec::new();
        };
        let numbered = items.iter().enumerate();
        numbered.map(|(index, raw)| self.child(raw, format!("{}[{index}]", self.path))).collect()
    }

    /// A list whose elements `read` understands. Elements with faults are left out.
    pub(super) fn list<T>(
        &self,
        faults: &mut Faults,
        mut read: impl FnMut(&Node<'a>, &mut Faults) -> Option<T>,
    ) -> Vec<T> {
        self.items(faults).iter().filter_map(|item| read(item, faults)).collect()
    }

    /// The entries of a map with free keys; none after a fault.
    pub(super) fn entries(&self, faults: &mut Faults) -> Vec<Entry<'a>> {
        let Value::Map(entries) = &self.raw.value else {
            self.mismatch::<()>(faults, "a map");
            return Vec::new();
        };
        let entry = |(key, raw): &'a (Key, Raw)| {
            let path = join(&self.path, &key.text);
            let place = self.place_at(key.at, &path);
            Entry { key: &key.text, place, value: self.child(raw, path) }
        };
        entries.iter().map(entry).collect()
    }

    /// A map of text to text.
    pub(super) fn text_map(&self, faults: &mut Faults) -> Vec<(Entry<'a>, &'a str)> {
        let entries = self.entries(faults);
        entries.into_iter().filter_map(|entry| entry.value.text(faults).map(|text| (entry, text))).collect()
    }

    /// A map with known fields.
    pub(super) fn fields(&self, faults: &mut Faults) -> Option<Fields<'a>> {
        match &self.raw.value {
            Value::Map(entries) => {
                let left = entries.iter().map(|(key, raw)| (key.text.as_str(), (key, raw))).collect();
                Some(Fields { node: self.clone(), left, asked: Vec::new() })
            }
            Value::Scalar { .. } | Value::List(_) => self.mismatch(faults, "a map"),
        }
    }
}

/// Plain text that YAML's core schema takes for a boolean, a number or null.
fn is_typed(text: &str) -> bool {
    let number = text.bytes().any(|b| b.is_ascii_digit()) && text.parse::<f64>().is_ok();
    let based = |prefix, radix| {
        text.strip_prefix(prefix).is_some_and(|digits| u64::from_str_radix(digits, radix).is_ok())
    };
    let boolean = matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
    is_null_word(text) || boolean || number || based("0x", 16) || based("0o", 8)
}

/// The fields of a map, taken one by one; [`Fields::finish`] makes faults of what nobody took.
pub(super) struct Fields<'a> {
    node: Node<'a>,
    left: BTreeMap<&'a str, (&'a Key, &'a Raw)>,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The map itself.
    pub(super) fn node(&self) -> &Node<'a> {
        &self.node
    }

    /// An optional field; null counts as absent, as in Kubernetes.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Node<'a>> {
        self.asked.push(name);
        let (_, raw) = self.left.remove(name)?;
        (!raw.is_null()).then(|| self.node.child(raw, join(&self.node.path, name)))
    }

    /// A field that has to be there.
    pub(super) fn require(&mut self, name: &'static str, faults: &mut Faults) -> Option<Node<'a>> {
        let taken = self.take(name);
        // A near miss is a fault of its own, in `finish`: one mistake, one fault.
        if taken.is_none() && !self.left.keys().any(|key| is_near(key, name)) {
            self.node.fault(faults, format!("{name} is missing"));
        }
        taken
    }

    /// Fields with no meaning here, such as what an API server adds.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.left.retain(|name, _| !names.contains(name));
    }

    /// Whether a field is there and not yet taken.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(|(_, raw)| !raw.is_null())
    }

    /// Whether every field has been taken.
    pub(super) fn is_finished(&self) -> bool {
        self.left.is_empty()
    }

    /// Whatever is left is a fault: "not supported" for `istio`'s fields, "unknown field" for the rest.
    pub(super) fn finish(self, istio: &[&str], faults: &mut Faults) {
        for (name, (key, _)) in self.left {
            let path = join(&self.node.path, name);
            let message = if istio.contains(&name) {
                format!("not supported: {name}; remove it, nothing is ignored silently")
            } else {
                unknown(name, &self.asked)
            };
            faults.add(self.node.place_at(key.at, &path), message);
        }
    }
}

fn unknown(name: &str, known: &[&'static str]) -> String {
    match known.iter().find(|known| is_near(name, known)) {
        Some(near) => format!("unknown field; did you mean {near}?"),
        None => {
            let mut known = known.to_vec();
            known.sort_unstable();
            known.dedup();
            format!("unknown field; known here: {}", known.join(", "))
        }
    }
}

/// `service_account`, `ServiceAccount` and `serviceAcount` are near `serviceAccount`.
fn is_near(name: &str, known: &str) -> bool {
    let bare = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let (name, known) = (bare(name), bare(known));
    let allowed = if known.len() > SHORT { NEAR } else { 1 };
    name == known || (name.len() <= 64 && strsim::osa_distance(&name, &known) <= allowed)
}
