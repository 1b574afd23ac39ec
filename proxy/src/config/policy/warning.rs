//! What loads, and should still not be left as it is.

use std::fmt;

use crate::authz::{Plan, RuleRef};

/// What an exception opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Plaintext into an own port.
    Inbound {
        /// The workload's port.
        port: u16,
    },
    /// Plaintext to a destination.
    Outbound {
        /// The destination's host.
        host: String,
        /// The service's port.
        port: u16,
    },
}

impl Opening {
    fn port(&self) -> u16 {
        match self {
            Self::Inbound { port } | Self::Outbound { port, .. } => *port,
        }
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbound { port } => write!(f, "plaintext into port {port}"),
            Self::Outbound { host, port } => write!(f, "plaintext to {host}:{port}"),
        }
    }
}

/// A remark on a policy that loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// An exception in effect that nobody justified.
    NoPlan {
        /// Who makes it.
        rule: RuleRef,
        /// What it opens.
        opening: Opening,
    },
    /// An exception without effect, since plans are required.
    PlanRequired {
        /// Who makes it.
        rule: RuleRef,
        /// What it would open.
        opening: Opening,
    },
    /// An exception whose plan is over: closed.
    PlanOver {
        /// Who makes it.
        rule: RuleRef,
        /// What it would open.
        opening: Opening,
        /// The plan.
        plan: Plan,
    },
    /// An exception that ends within two weeks.
    PlanEndsSoon {
        /// Who makes it.
        rule: RuleRef,
        /// What it opens.
        opening: Opening,
        /// The plan.
        plan: Plan,
        /// Days until it is over, at least 1.
        days_left: i64,
    },
    /// A route that no request ever gets to.
    Unreachable {
        /// The route.
        rule: RuleRef,
        /// The one before it that has no conditions.
        by: RuleRef,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlan { rule, opening } => write!(
                f,
                "{rule} allows {opening} without a plan: add the annotation {}",
                Plan::annotation(opening.port())
            ),
            Self::PlanRequired { rule, opening } => write!(
                f,
                "{rule} asks for {opening} without a plan, which is refused: add the annotation {}",
                Plan::annotation(opening.port())
            ),
            Self::PlanOver { rule, opening, plan } => {
                write!(f, "{rule}: the exception for {opening} is over ({plan}); remove it")
            }
            Self::PlanEndsSoon { rule, opening, plan, days_left } => {
                let s = if *days_left == 1 { "" } else { "s" };
                write!(f, "{rule}: the exception for {opening} ends in {days_left} day{s} ({plan})")
            }
            Self::Unreachable { rule, by } => {
                write!(
                    f,
                    "{rule} is never reached: {by} comes first and has no conditions; change their order"
                )
            }
        }
    }
}
