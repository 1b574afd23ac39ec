//! What was measured, line by line, as soon as it was: whatever ends a sweep, it can go on from there.
//!
//! A file of JSON lines: first the conditions, then one point each, and what was confirmed in the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::result::{Conditions, Measured};

/// Its name in the directory of a sweep.
pub const NAME: &str = "journal.jsonl";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Conditions(Box<Conditions>),
    Measured(Box<Measured>),
    Confirmation(Box<Confirmation>),
}

/// A recommended setting, measured again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmation {
    /// What was asked of it.
    pub goal: String,
    /// Whether it was met.
    pub holds: bool,
    /// What was found.
    pub measured: Measured,
}

/// Why a journal cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Two at once.
    #[error("another bench is writing to {}: wait for its end, or take another directory (--out)", .0.display())]
    Taken(PathBuf),
    /// A whole line that is none of ours.
    #[error("{}, line {line}: {why}; measure anew with --fresh, or take another directory (--out)", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Points of different conditions do not belong together.
    #[error(
        "{} holds a sweep under other conditions: {}; measure anew with --fresh, or take another directory (--out)",
        .path.display(), .differences.join("; ")
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// Which, with both values.
        differences: Vec<String>,
    },
}

/// An open journal. Nobody else writes to it meanwhile.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal of `dir`, which is made if need be, with what it holds of the same conditions. A last line that
    /// was not written to its end is forgotten. `fresh` forgets everything.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(
        dir: &Path,
        conditions: &Conditions,
        fresh: bool,
    ) -> Result<(Self, Vec<Measured>), JournalError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let path = dir.join(NAME);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.map_err(failed(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Taken(path)),
            Err(TryLockError::Error(source)) => return Err(JournalError::Io { path, source }),
        }
        let text = if fresh { Vec::new() } else { fs::read(&path).map_err(failed(&path))? };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = lines(&path, text.get(..whole).unwrap_or_default())?;
        let known = recorded(&path, lines, conditions)?;
        file.set_len(u64::try_from(whole).unwrap_or(u64::MAX)).map_err(failed(&path))?;
        let mut journal = Self { path, file };
        if whole == 0 {
            journal.write(&Line::Conditions(Box::new(conditions.clone())))?;
        }
        Ok((journal, known))
    }

    /// Adds a point.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn add(&mut self, measured: &Measured) -> Result<(), JournalError> {
        self.write(&Line::Measured(Box::new(measured.clone())))
    }

    /// Adds what became of a recommendation.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn confirm(&mut self, confirmation: Confirmation) -> Result<(), JournalError> {
        self.write(&Line::Confirmation(Box::new(confirmation)))
    }

    fn write(&mut self, line: &Line) -> Result<(), JournalError> {
        let failed = |source| JournalError::Io { path: self.path.clone(), source };
        let mut text = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(failed)
    }
}

fn lines(path: &Path, text: &[u8]) -> Result<Vec<Line>, JournalError> {
    let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|error| JournalError::Foreign {
                path: path.to_owned(),
                line: index + 1,
                why: error.to_string(),
            })
        })
        .collect()
}

fn recorded(path: &Path, lines: Vec<Line>, wanted: &Conditions) -> Result<Vec<Measured>, JournalError> {
    let mut points: Vec<Measured> = Vec::new();
    for (index, line) in lines.into_iter().enumerate() {
        match line {
            Line::Conditions(found) => {
                let differences = differences(&found, wanted);
                if !differences.is_empty() {
                    return Err(JournalError::Other { path: path.to_owned(), differences });
                }
            }
            _ if index == 0 => {
                let why = "a journal begins with the conditions of its sweep".to_owned();
                return Err(JournalError::Foreign { path: path.to_owned(), line: 1, why });
            }
            Line::Measured(measured) => points.push(*measured),
            Line::Confirmation(_) => {}
        }
    }
    Ok(points)
}

/// What differs, field by field, with both values.
fn differences(found: &Conditions, wanted: &Conditions) -> Vec<String> {
    let fields = |conditions: &Conditions| flat("", serde_json::to_value(conditions).unwrap_or_default());
    let (found, wanted) = (fields(found), fields(wanted));
    let value = |fields: &[(String, Value)], name: &str| {
        let value = fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        value.unwrap_or(Value::Null)
    };
    let mut names: Vec<&String> = found.iter().chain(&wanted).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let (there, here) = (value(&found, name), value(&wanted, name));
            (there != here).then(|| format!("{name} is {there} there and {here} now"))
        })
        .collect()
}

/// The fields of nested objects by their dotted names.
fn flat(name: &str, value: Value) -> Vec<(String, Value)> {
    let Value::Object(fields) = value else { return vec![(name.to_owned(), value)] };
    let dot = if name.is_empty() { "" } else { "." };
    fields.into_iter().flat_map(|(field, value)| flat(&format!("{name}{dot}{field}"), value)).collect()
}

#[cfg(test)]
mod tests;
