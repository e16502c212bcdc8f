//! `node-setup check` and `status`: what stands in the way, and how what was set up stands now.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::{chosen, root, say, write};
use crate::cli::terminal;
use node_setup::Conflict;
use node_setup::activate;
use node_setup::apply;
use node_setup::apply::diff::{Diff, Fate, PathDiff};
use node_setup::apply::filesystem::Root;
use node_setup::check::{self, api, gather, needs, online};
use node_setup::finding::{self, Finding};
use node_setup::systemctl::Systemctl;

type Judged = Result<ExitCode, Box<dyn std::error::Error>>;

/// The subcommands, for clap.
pub(super) fn commands() -> Vec<Command> {
    let ignore = Arg::new("ignore")
        .long("ignore")
        .value_name("NAMES")
        .value_delimiter(',')
        .help("Checks whose findings do not count");
    let flag = |name: &'static str, help| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    vec![
        Command::new("check")
            .about("Say what stands in the way: found, expected, what to do")
            .args([
                flag("online", "Ask etcd and the API servers as well"),
                flag("strict", "End with 1 for warnings"),
                flag("prerequisites", "Only what the node is made of, before the first apply: programs, modules, versions; and what it lacks"),
                ignore,
            ]),
        Command::new("status")
            .about("How files and units stand now. Status 1 if not all is as it was set up"),
    ]
}

/// What stands in the way.
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
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
    match matches.get_flag("json") {
        true => say(&format!("{:#}\n", serde_json::to_value(&findings)?))?,
        false => {
            let last = finding::summary(&findings);
            let text = format!("{}{summary}\nsummary  {last}\n", finding::table(&findings));
            say(&terminal::stdout().fit_at(&text, finding::INDENT))?;
        }
    }
    Ok(ExitCode::from(finding::exit_status(
        &findings,
        matches.get_flag("strict"),
    )))
}

fn conflict(conflict: &Conflict) -> Finding {
    let expected = "nothing that dockerd does not start with, or that contradicts the plan";
    let (found, fix) = conflict
        .why
        .split_once("; ")
        .unwrap_or((&conflict.why, "correct it there"));
    Finding::error(
        "docker-daemon-json",
        format!("{}: {found}", conflict.path),
        expected,
        fix,
    )
}

/// What has been edited of the managed files, or would change.
fn drift(diff: &Diff) -> Vec<Finding> {
    let told = |path_diff: &PathDiff| {
        let path = path_diff.path.display();
        match (&path_diff.obstacle, path_diff.fate) {
            (Some(obstacle), _) => Some(Finding::warning(
                "units",
                format!("{path}: {}", first(&obstacle.text())),
                "as planned",
                "node-setup diff",
            )),
            (None, Fate::Unchanged | Fate::Created) => None,
            (None, fate) => Some(Finding::warning(
                "units",
                format!("{path} would be {}", fate.word()),
                "as planned",
                "node-setup diff, then apply",
            )),
        }
    };
    let findings: Vec<Finding> = diff.paths.iter().filter_map(told).collect();
    if findings.is_empty() {
        vec![Finding::ok("units", "no file stands in the way")]
    } else {
        findings
    }
}

fn first(text: &str) -> &str {
    text.split([':', ';']).next().unwrap_or(text)
}

/// How files and units stand.
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
        say("node-setup has changed nothing here\n")?;
    } else {
        let files = drift
            .iter()
            .map(|(path, drift)| format!("{:9} {}\n", drift.word(), path.display()));
        let units = units.iter().map(|(name, unit)| {
            let stale = if unit.stale {
                "; systemctl daemon-reload is due"
            } else {
                ""
            };
            format!("{:9} {}{stale}\n", unit.file, activate::state(name, unit))
        });
        say(&files.chain(units).collect::<String>())?;
    }
    Ok(if sound && running {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
