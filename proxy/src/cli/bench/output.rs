//! What a sweep leaves: files, a table, and a setting.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::super::{Failure, print};
use crate::bench::journal;
use crate::bench::recommend::{describe, destination_rule_yaml, namespace_of};
use crate::bench::report;
use crate::bench::result::Measured;
use crate::bench::sweep::{Outcome, Plan};

/// What the command line asks of the results.
pub(super) struct Wanted {
    /// A goal was given: whether it is met is the exit code.
    pub(super) goal: bool,
    /// The DestinationRule is all that standard output gets.
    pub(super) yaml: bool,
    /// The host that the DestinationRule is for.
    pub(super) host: String,
}

/// Writes the files and prints the rest.
pub(super) fn show(plan: &Plan, outcome: &Outcome, wanted: &Wanted) -> Result<(), Failure> {
    write_files(plan, outcome, &wanted.host)?;
    let mut page = report::table(&outcome.sweep, Some(&plan.goal));
    if let Some(recommended) = &outcome.recommended {
        page.push_str(&format!("\n{}\n", report::summary(&plan.goal, recommended).trim_end()));
    }
    for one in &outcome.confirmations {
        let limits = describe(&one.measured.point.limits);
        let verdict = if one.holds { "holds" } else { "does not hold" };
        page.push_str(&format!(
            "\nMeasured again in the policy of a new pair, for {:.0} s at {}/s: {limits} {verdict}\n  {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, \
             p99.9 {:.1} ms, refused {:.2} %, failed {:.2} %\n",
            one.measured.seconds,
            one.measured.point.rate,
            one.measured.throughput(),
            one.measured.latency.p50,
            one.measured.latency.p99,
            one.measured.latency.p999,
            100.0 * one.measured.refused_share(),
            100.0 * one.measured.failed_share(),
        ));
    }
    if !outcome.confirmations.is_empty() && outcome.confirmed().is_none() {
        page.push_str("\nNo setting held when it was measured again: the goal is too near to what this machine can do.\n");
    }
    let dir = plan.out.display();
    page.push_str(&format!("\nIn {dir}: report.html, results.csv, results.json, {}", journal::NAME));
    if wanted.yaml {
        eprintln!("{page}")
    } else {
        print(&page)?
    }
    if outcome.interrupted {
        let total = plan.points().len();
        return Err(Failure::Interrupted(format!(
            "interrupted: {} of {total} points are measured, and reported; the same command with --out {dir} goes on from there",
            outcome.sweep.points.len()
        )));
    }
    let met = match (&outcome.recommended, plan.target.is_some()) {
        (Some(Ok(_)), true) => true,
        (_, true) => false,
        (_, false) => outcome.confirmed().is_some(),
    };
    if wanted.yaml {
        let Some(measured) = outcome.confirmed() else {
            return Err(Failure::Failed("no setting holds the goal: there is no rule to print".to_owned()));
        };
        let host = &wanted.host;
        print(destination_rule_yaml(&measured.point.limits, host, namespace_of(host)).trim_end())?;
    }
    if met || !wanted.goal { Ok(()) } else { Err(Failure::Found) }
}

fn write_files(plan: &Plan, outcome: &Outcome, host: &str) -> Result<(), Failure> {
    let Outcome { sweep, .. } = outcome;
    write(&plan.out, "results.json", |file| {
        serde_json::to_writer_pretty(&mut *file, sweep)?;
        writeln!(file)
    })?;
    write(&plan.out, "results.csv", |file| report::write_csv(sweep, file).map_err(io::Error::other))?;
    let again: Vec<&Measured> = outcome.confirmations.iter().map(|one| &one.measured).collect();
    let page = report::html(sweep, Some(&plan.goal), &again, host);
    write(&plan.out, "report.html", |file| file.write_all(page.as_bytes()))
}

/// In one step: who looks sees the old file or the new one.
fn write(
    dir: &Path,
    name: &str,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Failure> {
    let (beside, path) = (dir.join(format!(".{name}.new")), dir.join(name));
    let written = File::create(&beside).and_then(|file| {
        let mut file = BufWriter::new(file);
        fill(&mut file)?;
        file.flush()?;
        fs::rename(&beside, &path)
    });
    written.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}
