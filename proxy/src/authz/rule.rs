//! Which rule decided: carried by every decision, so that every refusal can name it.

use std::fmt;
use std::sync::Arc;

/// The rule behind a decision: `PeerAuthentication production/default`, with a remark if there is more to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    name: Arc<str>,
    remark: Option<Arc<str>>,
}

impl RuleRef {
    /// What holds when no policy says anything.
    #[must_use]
    pub fn built_in() -> Self {
        Self { name: "built-in default (STRICT)".into(), remark: None }
    }

    /// A resource of the policy. The three names are the policy author's, already validated.
    #[must_use]
    pub fn resource(kind: &str, namespace: &str, name: &str) -> Self {
        Self { name: format!("{kind} {namespace}/{name}").into(), remark: None }
    }

    /// What holds for want of a resource that says otherwise, in words.
    pub(super) fn stated(text: &str) -> Self {
        Self { name: text.into(), remark: None }
    }

    /// The same rule with a remark that follows its name in parentheses.
    #[must_use]
    pub fn with_remark(&self, remark: &str) -> Self {
        Self { name: Arc::clone(&self.name), remark: Some(remark.into()) }
    }

    /// The name without the remark.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.remark.as_ref().map_or(Ok(()), |remark| write!(f, " ({remark})"))
    }
}
