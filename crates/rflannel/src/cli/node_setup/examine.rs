//! Implements `node-setup check` and `status`: problems of a node, and the state of what was set up.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use serde_json::json;

use super::{chosen, root, say, write};
use crate::cli::{etcd_session, flag_arg, terminal, value_arg};
use node_setup::Conflict;
use node_setup::activate;
use node_setup::apply;
use node_setup::apply::diff::{Diff, Fate, PathDiff};
use node_setup::apply::filesystem::Root;
use node_setup::check::{self, api, gather, needs, online};
use node_setup::finding::{self, Finding};
use node_setup::systemctl::Systemctl;

type Judged = Result<ExitCode, Box<dyn std::error::Error>>;

pub(super) fn commands() -> Vec<Command> {
    let ignore = value_arg("ignore", "NAMES", "Checks whose findings are ignored");
    vec![
        Command::new("check")
            .about("Check this host: what was found, what was expected, what to do")
            .args([
                flag_arg("online", "Contact etcd and the API servers, too"),
                flag_arg("strict", "Exit with 1 if there are warnings"),
                flag_arg("prerequisites", "Only check what the node needs before the first apply: programs, modules, versions; and list what is missing"),
                ignore.value_delimiter(','),
            ]),
        Command::new("status")
            .about("Show the state of files and units; exit with 1 if something differs from what was set up"),
    ]
}

pub(super) fn check(matches: &ArgMatches) -> Judged {
    let progress = terminal::Progress::begin("reading this host");
    let (model, plan) = chosen(matches)?;
    let facts = gather::gather(&model, root(matches))?;
    let mut findings = check::offline(&model, &facts);
    findings.extend(plan.conflicts.iter().map(conflict));
    findings.extend(drift(&apply::diff_against(
        &Root::open(root(matches))?,
        &plan,
    )?));
    if matches.get_flag("online") {
        let runtime = etcd_session::runtime()?;
        progress.next("asking etcd");
        findings.extend(runtime.block_on(online::judge(&model)));
        progress.next("asking the API servers");
        findings.extend(runtime.block_on(api::judge(&model, &facts)));
    }
    drop(progress);
    let ignored: Vec<&String> = matches.get_many("ignore").into_iter().flatten().collect();
    findings.retain(|finding| !ignored.iter().any(|name| *name == finding.id));
    let prerequisites = matches.get_flag("prerequisites");
    findings.retain(|finding| !prerequisites || needs::PREREQUISITES.contains(&finding.id));
    let summary = if prerequisites {
        needs::summary(&findings)
    } else {
        String::new()
    };
    if matches.get_flag("json") {
        say(&format!("{:#}\n", serde_json::to_value(&findings)?))?
    } else {
        let last = finding::summary(&findings);
        let text = format!("{}{summary}\nsummary  {last}\n", finding::table(&findings));
        say(&terminal::stdout().fit_at(&text, finding::INDENT))?;
    }
    Ok(ExitCode::from(finding::exit_status(
        &findings,
        matches.get_flag("strict"),
    )))
}

fn conflict(conflict: &Conflict) -> Finding {
    Finding::error(
        "docker-daemon-json",
        format!("{}: {}", conflict.path, conflict.found),
        "settings with which dockerd starts and that agree with the plan",
        conflict.fix,
    )
}

/// Reports managed files that were edited or would change.
fn drift(diff: &Diff) -> Vec<Finding> {
    let told = |path_diff: &PathDiff| {
        let path = path_diff.path.display();
        match (&path_diff.obstacle, path_diff.fate) {
            (Some(obstacle), _) => Some(Finding::warning(
                "units",
                format!("{path}: {}", obstacle.found()),
                "the file as planned",
                "node-setup diff",
            )),
            (None, Fate::Unchanged | Fate::Created) => None,
            (None, fate) => Some(Finding::warning(
                "units",
                format!("{path} would be {}", fate.word()),
                "the file as planned",
                "node-setup diff, then apply",
            )),
        }
    };
    let findings = diff.paths.iter().filter_map(told).collect();
    finding::or_ok(findings, "units", "no file has been edited or would change")
}

/// Shows the state of files and units.
pub(super) fn status(matches: &ArgMatches) -> Judged {
    let directory = Root::open(root(matches))?;
    write::warn_if_unfinished(&directory)?;
    let ledger = apply::ledger(&directory)?;
    let drift = apply::drift(&directory, &ledger)?;
    let systemctl = Systemctl::below(root(matches));
    let names = activate::units_of(drift.iter().map(|(path, _)| path.as_path()));
    let units = if systemctl.is_live() && !names.is_empty() {
        systemctl.show(&names)
    } else {
        Default::default()
    };
    let sound = drift.iter().all(|(_, drift)| drift.is_sound());
    let running = units.values().all(|unit| unit.is_active() && !unit.stale);
    if matches.get_flag("json") {
        let files: Vec<_> = drift
            .iter()
            .map(|(path, drift)| json!({"path": path, "state": drift.word()}))
            .collect();
        let units: Vec<_> = units.iter().map(|(name, unit)| json!({"unit": name, "active": unit.active, "sub": unit.sub, "enabled": unit.file, "needs_reload": unit.stale, "status": unit.status})).collect();
        say(&format!("{:#}\n", json!({"files": files, "units": units})))?;
    } else if drift.is_empty() {
        say("node-setup has not changed this host\n")?;
    } else {
        let files = drift
            .iter()
            .map(|(path, drift)| format!("{:9} {}\n", drift.word(), path.display()));
        let units = units.iter().map(|(name, unit)| {
            let stale = if unit.stale {
                "; run systemctl daemon-reload"
            } else {
                ""
            };
            format!("{:9} {}{stale}\n", unit.file, activate::state(name, unit))
        });
        say(&files.chain(units).collect::<String>())?;
    }
    Ok(ExitCode::from(if sound && running { 0 } else { 1 }))
}
