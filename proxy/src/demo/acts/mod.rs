//! What is shown, one file for each act. A function is one line: its evidence, or why it does not hold.

pub(super) mod authorization;
pub(super) mod bypass;
pub(super) mod exceptions;
pub(super) mod intruder;
pub(super) mod outage;
pub(super) mod rotation;
pub(super) mod strict;
