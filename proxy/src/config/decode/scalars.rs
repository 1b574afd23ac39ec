//! Booleans and fractions, and fields that are known and refused with a reason.

use super::super::report::Faults;
use super::super::yaml::{Value, join};
use super::{Fields, Node};

impl Node<'_> {
    /// `true` or `false`, bare (YAML 1.2's core schema).
    pub(in crate::config) fn boolean(&self, faults: &mut Faults) -> Option<bool> {
        match &self.raw.value {
            Value::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "True" | "TRUE") => {
                Some(true)
            }
            Value::Scalar { text, plain: true } if matches!(text.as_str(), "false" | "False" | "FALSE") => {
                Some(false)
            }
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => self.mismatch(faults, "true or false"),
        }
    }

    /// A bare number from 0 to 100, with a fraction if need be: a percentage.
    pub(in crate::config) fn percentage(&self, faults: &mut Faults) -> Option<f64> {
        let number = match &self.raw.value {
            Value::Scalar { text, plain: true } if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
                text.parse::<f64>().ok()
            }
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
        };
        match number.filter(|number| (0.0..=100.0).contains(number)) {
            Some(number) => Some(number),
            None => self.mismatch(faults, "a number from 0 to 100"),
        }
    }
}

impl Fields<'_> {
    /// Fields that Istio has and that are refused here, each with the reason and what to do.
    pub(in crate::config) fn refuse(&mut self, refused: &[(&str, &str)], faults: &mut Faults) {
        for (name, reason) in refused {
            if let Some((key, _)) = self.left.remove(*name) {
                let path = join(&self.node.path, name);
                faults.add(self.node.place_at(key.at, &path), format!("not supported: {name}; {reason}"));
            }
        }
    }
}
