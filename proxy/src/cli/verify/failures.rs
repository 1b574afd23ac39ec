//! `portcullis verify failures`: whom a running sidecar has refused, put together by peer, port and reason.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::super::admin::{AdminArgs, Output, plain};
use super::super::table::{Table, ago};
use super::super::{Failure, print};
use crate::status::{RefusalReport, Refusals};

mod advice;

use advice::advice;

/// Arguments of `portcullis verify failures`.
#[derive(Debug, Args)]
pub struct FailuresArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Summary {
    /// The newest first.
    failures: Vec<Failing>,
    /// Refusals that the sidecar counts nowhere else.
    unlisted: u64,
}

/// Refusals of one peer, port and reason.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Failing {
    direction: String,
    peer: String,
    identities: Vec<String>,
    port: Option<u16>,
    reason: String,
    rules: Vec<String>,
    count: u64,
    first: String,
    last: String,
    last_ago_s: u64,
    text: String,
    advice: &'static str,
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Found`] when anybody was refused; [`Failure::Unusable`] when there is no sidecar to ask.
pub fn run(args: &FailuresArgs) -> Result<(), Failure> {
    let refusals: Refusals = args.admin.ask("/refusals")?;
    let summary = summary(refusals);
    print(&match args.admin.output {
        Output::Json => {
            serde_json::to_string_pretty(&summary).map_err(|error| Failure::Failed(error.to_string()))?
        }
        Output::Table => table(&summary),
    })?;
    if summary.failures.is_empty() && summary.unlisted == 0 { Ok(()) } else { Err(Failure::Found) }
}

/// One entry for each peer, port and reason; the rules and identities of all of them.
fn summary(refusals: Refusals) -> Summary {
    let mut together: BTreeMap<_, Failing> = BTreeMap::new();
    for refusal in refusals.recent {
        let RefusalReport { direction, peer, identity, port, reason, rule, .. } = refusal;
        let key = (direction.clone(), peer.clone(), port, reason.clone());
        let advice = advice(&direction, &reason);
        let failing = together.entry(key).or_insert_with(|| Failing {
            direction,
            peer,
            identities: Vec::new(),
            port,
            reason,
            rules: Vec::new(),
            count: 0,
            first: refusal.first.clone(),
            last: refusal.last.clone(),
            last_ago_s: refusal.last_ago_s,
            text: refusal.text.clone(),
            advice,
        });
        failing.count = failing.count.saturating_add(refusal.count);
        failing.rules.extend(rule.filter(|rule| !failing.rules.contains(rule)));
        failing.identities.extend(identity.filter(|identity| !failing.identities.contains(identity)));
        // RFC 3339 in UTC: the order of the texts is that of the moments.
        failing.first = refusal.first.min(std::mem::take(&mut failing.first));
        if refusal.last > failing.last {
            (failing.last, failing.last_ago_s) = (refusal.last, refusal.last_ago_s);
            failing.text = refusal.text;
        }
    }
    let mut failures: Vec<_> = together.into_values().collect();
    failures.sort_by_key(|failing| failing.last_ago_s);
    Summary { failures, unlisted: refusals.unlisted }
}

fn table(summary: &Summary) -> String {
    if summary.failures.is_empty() && summary.unlisted == 0 {
        return "nobody was refused".to_owned();
    }
    let mut table = Table::new(&["LAST", "COUNT", "DIRECTION", "PEER", "PORT", "REASON", "RULE"]);
    for failing in &summary.failures {
        let who = [&[failing.peer.clone()][..], &failing.identities].concat().join(" ");
        table.row([
            ago(failing.last_ago_s),
            failing.count.to_string(),
            failing.direction.clone(),
            who,
            failing.port.map_or_else(|| "-".to_owned(), |port| port.to_string()),
            failing.reason.clone(),
            if failing.rules.is_empty() { "-".to_owned() } else { failing.rules.join("; ") },
        ]);
    }
    let mut text = table.to_string();
    if summary.unlisted > 0 {
        text += &format!("\n{} more refusals are not listed: they were too many\n", summary.unlisted);
    }
    text += "\nWhat to do:\n";
    let mut said = Vec::new();
    for failing in &summary.failures {
        let about = (failing.direction.as_str(), failing.reason.as_str());
        if !said.contains(&about) {
            said.push(about);
            text += &format!(
                "\n{} ({})\n  {}\n  last: {}\n",
                plain(&failing.reason),
                plain(&failing.direction),
                failing.advice,
                plain(&failing.text),
            );
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(peer: &str, port: u16, reason: &str, rule: &str, last_ago_s: u64) -> RefusalReport {
        RefusalReport {
            direction: "inbound".into(),
            peer: peer.into(),
            identity: None,
            port: Some(port),
            reason: reason.into(),
            rule: Some(rule.into()),
            count: 2,
            first: "2026-01-01T00:00:00Z".into(),
            last: format!("2026-01-01T01:00:{:02}Z", 59 - last_ago_s),
            last_ago_s,
            text: format!("text {last_ago_s}\u{1b}[31m"),
        }
    }

    #[test]
    fn refusals_of_one_peer_port_and_reason_are_one_the_newest_first() {
        let recent = vec![
            refusal("10.0.0.1", 8080, "plaintext", "PeerAuthentication production/new", 3),
            refusal("10.0.0.2", 8080, "plaintext", "PeerAuthentication production/new", 1),
            refusal("10.0.0.1", 8080, "plaintext", "PeerAuthentication production/old", 30),
            refusal("10.0.0.1", 8080, "trust_domain", "PeerAuthentication production/old", 40),
        ];
        let summary = summary(Refusals { recent, unlisted: 7 });
        let peers: Vec<_> = summary
            .failures
            .iter()
            .map(|each| (each.peer.as_str(), each.reason.as_str(), each.count))
            .collect();
        assert_eq!(
            peers,
            [("10.0.0.2", "plaintext", 2), ("10.0.0.1", "plaintext", 4), ("10.0.0.1", "trust_domain", 2)]
        );
        assert_eq!(summary.failures[1].rules.len(), 2);
        assert_eq!(
            (summary.failures[1].last_ago_s, summary.failures[1].text.starts_with("text 3")),
            (3, true)
        );
        let table = table(&summary);
        assert!(table.contains("7 more refusals") && !table.contains('\u{1b}'), "{table}");
        assert_eq!(table.matches("plaintext (inbound)").count(), 1, "each reason is explained once: {table}");
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(table(&summary(Refusals::default())), "nobody was refused");
    }
}
