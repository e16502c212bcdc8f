//! Implements `node-setup diff`, `apply`, `rollback`, and `uninstall`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgMatches, Command, value_parser};
use serde_json::json;

use super::{Done, chosen, no_conflicts, root, say, show};
use crate::cli::etcd_session::force_arg;
use crate::cli::{flag_arg, print_error, terminal, value_arg};
use node_setup::Plan;
use node_setup::activate::{self, Outcome, Restart, Wanted};
use node_setup::apply::diff::{Diff, Fate};
use node_setup::apply::filesystem::Root;
use node_setup::apply::ledger::Ledger;
use node_setup::apply::{self, ApplyError, Report, Session, text_diff};
use node_setup::systemctl::Systemctl;

pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("diff")
            .about("Show what apply would change on this host, without changing it"),
        apply_command(),
        Command::new("rollback")
            .about("Restore the state before the last apply")
            .arg(force_arg("Overwrite files that were edited since then")),
        Command::new("uninstall")
            .about("Remove what apply has created, and restore the files that were there before")
            .arg(force_arg("Also remove files that were edited since then")),
    ]
}

fn apply_command() -> Command {
    let patience = "Seconds to wait for the units to start; they continue to start afterwards";
    let restart = "Restart running units: never, if their files have changed, or always";
    Command::new("apply").about("Write all files, or none").args([
        force_arg(
            "Overwrite files that were edited or not written by node-setup; rollback restores them",
        ),
        flag_arg("enable", "Start the units at boot"),
        flag_arg("start", "Start the units now, and wait for them"),
        value_arg("restart", "WHICH", restart)
            .default_value(Restart::NAMES[0])
            .value_parser(Restart::NAMES),
        value_arg("wait", "SECONDS", patience)
            .default_value("60")
            .value_parser(value_parser!(u64)),
    ])
}

pub(super) fn diff(matches: &ArgMatches) -> Done {
    let (_, plan) = chosen(matches)?;
    let directory = Root::open(root(matches))?;
    warn_if_unfinished(&directory)?;
    let diff = apply::diff_against(&directory, &plan)?;
    if matches.get_flag("json") {
        let path_diff = |path_diff: &apply::diff::PathDiff| json!({"path": path_diff.path, "fate": path_diff.fate.word(), "obstacle": path_diff.obstacle.as_ref().map(apply::diff::Obstacle::text)});
        print_json(&diff.paths.iter().map(path_diff).collect())?;
        return no_conflicts(&plan);
    }
    if diff.is_settled() {
        say("nothing would change\n")
    } else {
        say(&text_diff::unified(&diff))
    }?;
    no_conflicts(&plan)
}

/// Warns that the files are between two states.
pub(super) fn warn_if_unfinished(root: &Root) -> Done {
    if apply::is_unfinished(root)? {
        print_error(
            "another run is in progress or was interrupted: the next apply, rollback, or uninstall undoes its changes",
        );
    }
    Ok(())
}

/// Writes the files, then enables and starts the units.
pub(super) fn apply(matches: &ArgMatches) -> Done {
    let (_, plan) = chosen(matches)?;
    let wanted = wanted(matches);
    let systemctl = Systemctl::below(root(matches));
    if wanted.start && !systemctl.is_live() {
        let why = "--start needs the running system: omit --root, or start the units there";
        return Err(super::Usage(why.into()).into());
    }
    let directory = Root::open(root(matches))?;
    let session = open(&directory)?;
    if !plan.conflicts.is_empty() {
        return Err(refusal(
            &plan,
            &apply::diff_against(&directory, &plan)?,
            matches.get_flag("force"),
        ));
    }
    let report = session.apply(&plan, matches.get_flag("force"))?;
    let outcome = activate(&plan, &report, wanted, &systemctl);
    if !outcome.enabled.is_empty() {
        session.enabled(&outcome.enabled)?;
    }
    drop(session);
    print_report(matches, &report, &outcome)?;
    if report.changed().next().is_some() && !matches.get_flag("json") {
        say(&show::notes(&plan))?;
    }
    failed(&outcome)?;
    let patience = Duration::from_secs(*matches.get_one("wait").unwrap_or(&60));
    if !wanted.start {
        return Ok(());
    }
    let all_up = await_units(&plan, &systemctl, patience);
    if !matches.get_flag("json") {
        let names: Vec<&str> = plan.units.iter().map(|unit| unit.name).collect();
        say(&activate::came_up(&names, &systemctl.show(&names)))?;
    }
    all_up
}

/// Reports everything that prevents an apply, so that one correction is enough.
fn refusal(plan: &Plan, diff: &Diff, force: bool) -> Box<dyn std::error::Error> {
    let conflicts = plan
        .conflicts
        .iter()
        .map(|conflict| format!("\n  {conflict}"));
    let obstacles = diff.obstacles(force).into_iter();
    let obstacles =
        obstacles.map(|(path, obstacle)| format!("\n  {}: {}", path.display(), obstacle.text()));
    format!(
        "nothing was changed:{}",
        conflicts.chain(obstacles).collect::<String>()
    )
    .into()
}

fn wanted(matches: &ArgMatches) -> Wanted {
    let restart = matches
        .get_one::<String>("restart")
        .and_then(|name| Restart::from_name(name));
    Wanted {
        enable: matches.get_flag("enable"),
        start: matches.get_flag("start"),
        restart: restart.unwrap_or_default(),
    }
}

fn open(root: &Root) -> Result<Session<'_>, ApplyError> {
    let session = Session::open(root)?;
    if let Some(foreign) = session.recovered() {
        print_error("an earlier run was interrupted: its changes were undone");
        for path in foreign {
            print_error(format!(
                "{} was changed by another program meanwhile and was not restored",
                path.display()
            ));
        }
    }
    Ok(session)
}

fn activate(plan: &Plan, report: &Report, wanted: Wanted, systemctl: &Systemctl) -> Outcome {
    let names: Vec<&str> = plan.units.iter().map(|unit| unit.name).collect();
    let live = systemctl.is_live();
    let units = if live {
        systemctl.show(&names)
    } else {
        Default::default()
    };
    let changed: Vec<&Path> = report.changed().collect();
    activate::carry_out(
        &activate::steps(plan, &changed, &units, wanted, live),
        systemctl,
    )
}

fn await_units(plan: &Plan, systemctl: &Systemctl, patience: Duration) -> Done {
    let names: Vec<&str> = plan.units.iter().map(|unit| unit.name).collect();
    let progress = terminal::Progress::begin("starting the units");
    let idle = activate::await_active(systemctl, &names, patience, |now| {
        if progress.is_shown() {
            progress.next(&format!("waiting for {}", now.replace('\n', "; ")))
        } else {
            print_error(format!("waiting for\n{now}"))
        }
    });
    drop(progress);
    if idle.is_empty() {
        return Ok(());
    }
    let states: String = idle
        .iter()
        .map(|(name, unit)| format!("\n  {}", activate::state(name, unit)))
        .collect();
    Err(format!("not all units are active after {} s:{states}\nthey keep trying to start: `systemctl status` and `journalctl -u` show why they wait", patience.as_secs()).into())
}

/// Restores the state before the last apply.
pub(super) fn rollback(matches: &ArgMatches) -> Done {
    let units = |ledger: &Ledger| {
        ledger
            .history
            .last()
            .map(|past| past.enabled.clone())
            .unwrap_or_default()
    };
    go_back(matches, units, |session| {
        session.rollback(matches.get_flag("force"))
    })
}

/// Restores the state before the first apply.
pub(super) fn uninstall(matches: &ArgMatches) -> Done {
    let units = |ledger: &Ledger| ledger.enabled.iter().cloned().collect();
    go_back(matches, units, |session| {
        session.uninstall(matches.get_flag("force"))
    })
}

/// Goes back. `enabled` names the units to disable first, because systemd knows nothing about a unit without its file.
fn go_back(
    matches: &ArgMatches,
    enabled: impl FnOnce(&Ledger) -> Vec<String>,
    verb: impl FnOnce(&Session<'_>) -> Result<Report, ApplyError>,
) -> Done {
    let directory = Root::open(root(matches))?;
    let session = open(&directory)?;
    let systemctl = Systemctl::below(root(matches));
    let ledger = apply::ledger(&directory)?;
    let units = enabled(&ledger);
    let mut outcome = Outcome {
        failures: all(&systemctl, "disable", &units),
        ..Outcome::default()
    };
    let report = verb(&session).inspect_err(|_| drop(all(&systemctl, "enable", &units)))?;
    if systemctl.is_live() && report.changed().next().is_some() {
        outcome.failures.extend(
            systemctl
                .call(&["daemon-reload"])
                .err()
                .map(|error| error.to_string()),
        );
        outcome.later = running(&ledger, &systemctl);
    }
    drop(session);
    print_report(matches, &report, &outcome)?;
    failed(&outcome)
}

/// Calls systemctl for each unit and returns the calls that failed.
fn all(systemctl: &Systemctl, verb: &str, units: &[String]) -> Vec<String> {
    let calls = units
        .iter()
        .map(|unit| systemctl.call(&["--quiet", verb, unit]));
    calls
        .filter_map(|done| Some(done.err()?.to_string()))
        .collect()
}

/// Returns the commands for running units whose files have changed.
fn running(ledger: &Ledger, systemctl: &Systemctl) -> Vec<String> {
    let names = activate::units_of(ledger.owned.keys().map(PathBuf::as_path));
    if names.is_empty() {
        return Vec::new();
    }
    let active = systemctl
        .show(&names)
        .into_iter()
        .filter(|(_, unit)| unit.is_active());
    active
        .map(|(name, unit)| {
            format!(
                "systemctl {} {name}",
                if unit.exists() { "restart" } else { "stop" }
            )
        })
        .collect()
}

fn print_report(matches: &ArgMatches, report: &Report, outcome: &Outcome) -> Done {
    if matches.get_flag("json") {
        let paths: Vec<_> = report
            .fates
            .iter()
            .map(|(path, fate)| json!({"path": path, "fate": fate.word()}))
            .collect();
        return print_json(&json!({
            "paths": paths,
            "kept": report.kept,
            "enabled": outcome.enabled,
            "started": outcome.started,
            "later": outcome.later,
            "failures": outcome.failures,
        }));
    }
    let changed = report
        .fates
        .iter()
        .filter(|(_, fate)| *fate != Fate::Unchanged);
    let mut text: String = changed
        .map(|(path, fate)| format!("{:9} {}\n", fate.word(), path.display()))
        .collect();
    for path in &report.kept {
        text += &format!(
            "kept      {}: it was edited; --force removes it\n",
            path.display()
        );
    }
    for (word, units) in [("enabled", &outcome.enabled), ("started", &outcome.started)] {
        text.extend(units.iter().map(|unit| format!("{word:9} {unit}\n")));
    }
    let (changed, all) = (report.changed().count(), report.fates.len());
    text += &format!("{changed} of {all} paths changed\n");
    for command in &outcome.later {
        text += &format!("run later: {command}\n");
    }
    say(&text)
}

fn failed(outcome: &Outcome) -> Done {
    if outcome.failures.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "the files are changed as reported, but {}",
            outcome.failures.join("; ")
        )
        .into())
    }
}

fn print_json(value: &serde_json::Value) -> Done {
    say(&format!("{value:#}\n"))
}
