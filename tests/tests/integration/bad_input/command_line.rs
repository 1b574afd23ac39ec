//! The command line itself: help that reads well, and what it does not know.

use portcullis_tests::within;

use super::{LIMIT, SOON, Site, Table};

const SIDECAR: [&[&str]; 10] = [
    &[],
    &["run"],
    &["demo"],
    &["intercept"],
    &["intercept", "apply"],
    &["intercept", "remove"],
    &["intercept", "print"],
    &["status"],
    &["verify"],
    &["verify", "failures"],
];
const AUTHORITY: [&[&str]; 4] = [&[], &["run"], &["token"], &["status"]];

#[test]
fn help_is_short_and_an_unknown_argument_is_refused() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let sidecar = SIDECAR.map(|command| (&site.programs.portcullis, command));
        let authority = AUTHORITY.map(|command| (&site.programs.authority, command));
        for (program, command) in sidecar.into_iter().chain(authority) {
            let help = site.host.command(program).args(command).arg("--help").check(SOON).unwrap();
            let name = format!("{} {}", program.display(), command.join(" "));
            table.check(&name, help.lines().count() <= 24, "the help is longer than a screen");
            table.check(&name, !help.starts_with("Usage"), "the help does not say what the command does");
            // What an option is for stands beside it or in the line below.
            let lines: Vec<_> = help.lines().collect();
            for pair in lines.windows(2).filter(|pair| pair[0].trim_start().starts_with("--")) {
                let told = pair[0].trim().contains("  ") || !pair[1].trim_start().starts_with('-');
                table.check(&name, told, pair[0]);
            }
            let unknown = site.host.command(program).args(command).arg("--no-such-option");
            table.row(&name, unknown, 2, &["--no-such-option", "--help"]);
        }
        let run = site.host.command(&site.programs.portcullis).args(["run", "--config", "/nowhere.yaml"]);
        let ahead = run.args(["--exceptions-ahead", "soon"]);
        table.row("a duration", ahead, 2, &["--exceptions-ahead", "ms, s, m, h or d"]);
        let run = site.host.command(&site.programs.portcullis).args(["run", "--config", "/nowhere.yaml"]);
        table.row("a log filter", run.args(["--log", "=,="]), 2, &["--log", "is not a log filter"]);
        let run = site.host.command(&site.programs.authority).args(["run", "--store", "/nowhere/ca.db"]);
        let run = run.args(["--listen", "127.0.0.1:0", "--log", "=,="]);
        table.row("the authority's log filter", run, 2, &["--log", "is not a log filter"]);
    });
}

#[test]
fn units_and_defaults_are_told() {
    within(LIMIT, || {
        let site = Site::new();
        for (program, command, parts) in [
            (
                &site.programs.portcullis,
                "run",
                &["[default: 0s]", "such as 30d", "[default: info]", "JSON"][..],
            ),
            (
                &site.programs.authority,
                "run",
                &[
                    "[default: 24h]",
                    "[default: 30d]",
                    "[default: 3650d]",
                    "3s to 90d",
                    "made at the first start",
                ],
            ),
            (&site.programs.authority, "token", &["[default: 10m]", "1s to 30d"]),
        ] {
            let help = site.host.command(program).args([command, "--help"]).check(SOON).unwrap();
            for part in parts {
                assert!(help.contains(part), "{command}: no {part:?} in\n{help}");
            }
        }
    });
}
