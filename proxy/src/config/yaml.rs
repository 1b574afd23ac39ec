//! Text to a tree that knows where each value stood. Everything is bounded: size, depth, number of values with
//! aliases expanded. Knows YAML, and nothing of policies.
//!
//! Built on the parser's events rather than on a ready-made tree: every duplicate key gets its own fault, what
//! precedes a syntax error is still checked, and depth is bounded before anything recursive sees the tree.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::report::{Faults, Place, quoted};

/// Largest file, in bytes.
pub(super) const MAX_FILE: u64 = 1024 * 1024;
/// Lists and maps inside one another.
const MAX_DEPTH: usize = 32;
/// Values of one file, aliases expanded ("billion laughs").
const MAX_VALUES: usize = 100_000;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Mark {
    fn start(span: Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// A value and where it starts.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) at: Mark,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `plain` is false for quoted and block scalars, which are always text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Raw>),
    /// In the order of the file, keys unique.
    Map(Vec<(Key, Raw)>),
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: Mark,
    pub(super) text: String,
}

impl Raw {
    /// `null`, `~` or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if is_null_word(text))
    }

    /// Number of values, and of levels of lists and maps.
    fn size_and_height(&self) -> (usize, usize) {
        let children: Vec<&Raw> = match &self.value {
            Value::Scalar { .. } => return (1, 0),
            Value::List(items) => items.iter().collect(),
            Value::Map(entries) => entries.iter().map(|(_, value)| value).collect(),
        };
        children
            .into_iter()
            .map(Self::size_and_height)
            .fold((1, 1), |(size, height), (s, h)| (size + s, height.max(h + 1)))
    }
}

/// Plain text that means null (YAML 1.2, core schema).
pub(super) fn is_null_word(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Appends a key to a YAML path: `.name`, or `["odd name"]`.
pub(super) fn join(path: &str, key: &str) -> String {
    let simple = !key.is_empty()
        && key.len() <= 60
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match (simple, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{}]", quoted(key)),
    }
}

/// The documents of a file, empty ones left out. Faults go to `faults`; what was readable is returned anyway.
pub(super) fn parse(file: &Arc<str>, text: &str, faults: &mut Faults) -> Vec<Raw> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file,
        faults,
        stack: Vec::new(),
        anchors: HashMap::new(),
        values: 0,
        documents: Vec::new(),
    };
    let mut parser = Parser::<StrInput<'_>>::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if builder.event(event, Mark::start(span)).is_err() {
                    break;
                }
            }
            Err(error) => {
                let at = Mark { line: error.marker().line(), column: error.marker().col() + 1 };
                builder.fault(at, format!("not valid YAML: {}", error.info()));
                break;
            }
        }
    }
    builder.documents
}

/// A bound was passed: reading this file ends here.
struct Stop;

struct Builder<'a> {
    file: &'a Arc<str>,
    faults: &'a mut Faults,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Raw>,
    values: usize,
    documents: Vec<Raw>,
}

/// A list or map that is still open.
struct Frame {
    at: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Raw>),
    Map { entries: Vec<(Key, Raw)>, seen: HashSet<String>, key: PendingKey },
}

enum PendingKey {
    /// The next value is a key.
    Awaited,
    Key(Key),
    /// The key was bad and has its fault: its value is read and dropped.
    Bad,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, at: Mark) -> Result<(), Stop> {
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                self.no_tag(tag.is_some(), at);
                let value = Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.complete(Raw { at, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.no_tag(tag.is_some(), at);
                self.open(Frame { at, anchor, content: Content::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                self.no_tag(tag.is_some(), at);
                let content =
                    Content::Map { entries: Vec::new(), seen: HashSet::new(), key: PendingKey::Awaited };
                self.open(Frame { at, anchor, content })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Frame { at, anchor, content }) = self.stack.pop() else { return Err(Stop) };
                let value = match content {
                    Content::List(items) => Value::List(items),
                    Content::Map { entries, .. } => Value::Map(entries),
                };
                self.complete(Raw { at, value }, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, at),
        }
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> Result<(), Stop> {
        let Some(target) = self.anchors.get(&anchor) else {
            self.fault(at, "this alias stands inside its own anchor".to_owned());
            return Err(Stop);
        };
        let (size, height) = target.size_and_height();
        self.values += size;
        if self.values > MAX_VALUES || self.stack.len() + height > MAX_DEPTH {
            self.fault(
                at,
                format!(
                    "the alias makes the file too large: at most {MAX_VALUES} values, {MAX_DEPTH} levels"
                ),
            );
            return Err(Stop);
        }
        let target = target.clone();
        self.complete(target, 0)
    }

    fn open(&mut self, frame: Frame) -> Result<(), Stop> {
        if self.stack.len() >= MAX_DEPTH {
            self.fault(frame.at, format!("nested too deeply: at most {MAX_DEPTH} levels"));
            return Err(Stop);
        }
        self.stack.push(frame);
        Ok(())
    }

    /// A value is whole: it goes into the list or map around it, or is a document.
    fn complete(&mut self, raw: Raw, anchor: usize) -> Result<(), Stop> {
        self.values += 1;
        if self.values > MAX_VALUES {
            self.fault(raw.at, format!("more than {MAX_VALUES} values in one file"));
            return Err(Stop);
        }
        if anchor > 0 {
            // What an anchor keeps is a copy and counts: nested anchors would multiply the file otherwise.
            self.values += raw.size_and_height().0;
            self.anchors.insert(anchor, raw.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            if !raw.is_null() {
                self.documents.push(raw);
            }
            return Ok(());
        };
        match &mut frame.content {
            Content::List(items) => items.push(raw),
            Content::Map { entries, seen, key } => match std::mem::replace(key, PendingKey::Awaited) {
                PendingKey::Key(name) => entries.push((name, raw)),
                PendingKey::Bad => {}
                PendingKey::Awaited => {
                    let at = raw.at;
                    let (next, fault) = key_of(raw, seen);
                    *key = next;
                    if let Some(message) = fault {
                        self.fault(at, message);
                    }
                }
            },
        }
        Ok(())
    }

    fn no_tag(&mut self, tagged: bool, at: Mark) {
        if tagged {
            self.fault(at, "YAML tags are not supported: write the plain value".to_owned());
        }
    }

    /// The path of a fault found while the tree is still being built: the keys that are open.
    fn fault(&mut self, at: Mark, message: String) {
        let path = self.stack.iter().fold(String::new(), |path, frame| match &frame.content {
            Content::List(items) => format!("{path}[{}]", items.len()),
            Content::Map { key: PendingKey::Key(key), .. } => join(&path, &key.text),
            Content::Map { .. } => path,
        });
        self.faults.add(Place::new(self.file, at.line, at.column, &path), message);
    }
}

fn key_of(raw: Raw, seen: &mut HashSet<String>) -> (PendingKey, Option<String>) {
    let Value::Scalar { text, .. } = raw.value else {
        return (PendingKey::Bad, Some("a key must be plain text".to_owned()));
    };
    if !seen.insert(text.clone()) {
        let message = format!("the key {} appears twice in this map: remove one", quoted(&text));
        return (PendingKey::Bad, Some(message));
    }
    (PendingKey::Key(Key { at: raw.at, text }), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents and the report's lines.
    fn read(text: &str) -> (Vec<Raw>, String) {
        let mut faults = Faults::default();
        let documents = parse(&"f".into(), text, &mut faults);
        let report = faults.or_report(Some(())).err().map(|report| report.to_string()).unwrap_or_default();
        (documents, report)
    }

    #[test]
    fn empty_documents_are_left_out() {
        for text in ["", "---\n", "# only a comment\n", "---\n---\n...\n", "\u{feff}", "~\n"] {
            let (documents, report) = read(text);
            assert_eq!((documents.len(), report.as_str()), (0, ""), "{text:?}");
        }
        assert_eq!(read("---\na: 1\n---\n# nothing\n---\nb: 2\n").0.len(), 2);
    }

    #[test]
    fn every_duplicate_key_is_a_fault_of_its_own() {
        let (documents, report) = read("a: 1\na: 2\nb:\n  c: 1\n  c: {d: 1, d: 2}\n");
        assert_eq!(documents.len(), 1);
        assert!(report.contains("f:2:1: the key \"a\" appears twice"), "{report}");
        assert!(report.contains("f:5:3: b: the key \"c\" appears twice"), "{report}");
        assert!(report.ends_with("3 faults"), "{report}");
    }

    #[test]
    fn what_precedes_a_syntax_error_is_still_read() {
        let (documents, report) = read("a: 1\n---\nb: [1, 2\n---\nc: 3\n");
        assert_eq!(documents.len(), 1);
        assert!(report.contains("not valid YAML"), "{report}");
    }

    #[test]
    fn aliases_are_expanded_within_the_bound() {
        let (documents, report) = read("a: &x [1, 2]\nb: *x\n");
        assert_eq!(report, "");
        let Value::Map(entries) = &documents[0].value else { panic!("a map") };
        assert!(matches!(&entries[1].1.value, Value::List(items) if items.len() == 2));

        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let previous = format!("*a{}, ", n - 1).repeat(10);
            laughs.push_str(&format!("a{n}: &a{n} [{previous}]\n"));
        }
        let (_, report) = read(&laughs);
        assert!(report.contains("the alias makes the file too large"), "{report}");
        assert!(read("a: &a [*a]\n").1.contains("inside its own anchor"));
    }

    #[test]
    fn depth_is_bounded_in_block_and_flow_style() {
        for text in ["- ".repeat(5000), "[".repeat(5000), "{a: ".repeat(5000), "? ".repeat(5000)] {
            let (_, report) = read(&text);
            assert!(report.contains("nested too deeply") || report.contains("not valid YAML"), "{report}");
        }
        let fits = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert_eq!(read(&fits).1, "");
        let too_deep = format!("{}1{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        assert!(read(&too_deep).1.contains("nested too deeply"));
    }

    #[test]
    fn tags_and_compound_keys_are_refused() {
        assert!(read("a: !secret b\n").1.contains(": a: YAML tags are not supported"));
        assert!(read("? [a]\n: b\n").1.contains("a key must be plain text"));
    }

    #[test]
    fn odd_keys_are_quoted_in_paths() {
        assert_eq!(join("", "spec"), "spec");
        assert_eq!(join("spec", "8080"), "spec.8080");
        assert_eq!(join("metadata", "a.b/c\n"), "metadata[\"a.b/c\\n\"]");
    }
}
