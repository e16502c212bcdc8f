//! Plans and runs what follows after the files are written: daemon-reload, starts, restarts, and what is left to the operator.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use super::systemctl::{Systemctl, SystemctlError, UnitStatus, Units};
use super::{Effect, Plan, command};

/// Directory of units and drop-ins. systemd must reload after any change there.
const UNITS: &str = "/etc/systemd/system";
/// Interval at which starting units are checked.
const STEP: Duration = Duration::from_millis(250);

/// What to do with running units whose files have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Print the command.
    #[default]
    Never,
    /// Restart them.
    Changed,
    /// Restart all running units.
    Always,
}

impl Restart {
    /// Names of all values; the default first.
    pub const NAMES: [&str; 3] = ["never", "changed", "always"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "never" => Some(Self::Never),
            "changed" => Some(Self::Changed),
            "always" => Some(Self::Always),
            _ => None,
        }
    }
}

/// What the operator requested.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    pub enable: bool,
    pub start: bool,
    pub restart: Restart,
}

/// One step, in the order of execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `systemctl daemon-reload`.
    DaemonReload,
    /// A command that disturbs nothing.
    Run(&'static [&'static str]),
    Enable(String),
    Reload(String),
    Restart(String),
    Start(String),
    /// A command that is left to the operator.
    Later(String),
}

/// Returns the steps after a change of the `changed` paths, for units in the states `units`. `live`: whether units can run here.
pub fn steps(
    plan: &Plan,
    changed: &[&Path],
    units: &Units,
    wanted: Wanted,
    live: bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    if !live {
        return enables(plan, wanted);
    }
    let stale = plan
        .units
        .iter()
        .any(|unit| units.get(unit.name).is_some_and(|fact| fact.stale));
    if stale || changed.iter().any(|path| path.starts_with(UNITS)) {
        steps.push(Step::DaemonReload);
    }
    steps.extend(commands(plan, changed, wanted));
    steps.extend(enables(plan, wanted));
    steps.extend(restarts(plan, changed, units, wanted.restart));
    let idle = plan
        .units
        .iter()
        .filter(|unit| !units.get(unit.name).is_some_and(UnitStatus::is_active));
    steps.extend(
        idle.filter(|_| wanted.start)
            .map(|unit| Step::Start(unit.name.to_owned())),
    );
    steps
}

fn enables(plan: &Plan, wanted: Wanted) -> Vec<Step> {
    let all = plan.units.iter().filter(|_| wanted.enable);
    all.map(|unit| Step::Enable(unit.name.to_owned())).collect()
}

fn effects<'a>(plan: &'a Plan, changed: &[&Path]) -> Vec<&'a Effect> {
    let mut effects = Vec::new();
    for file in plan
        .files
        .iter()
        .filter(|file| changed.contains(&file.path.as_path()))
    {
        if !effects.contains(&&file.effect) {
            effects.push(&file.effect);
        }
    }
    effects
}

fn commands(plan: &Plan, changed: &[&Path], wanted: Wanted) -> Vec<Step> {
    let now = wanted.start || wanted.restart != Restart::Never;
    let step = |command: &'static [&'static str]| {
        if now {
            Step::Run(command)
        } else {
            Step::Later(command.join(" "))
        }
    };
    let commands = effects(plan, changed)
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Run(command) => Some(step(command)),
            Effect::None | Effect::Restart(_) | Effect::Reload(_) => None,
        });
    commands.collect()
}

fn restarts(plan: &Plan, changed: &[&Path], units: &Units, restart: Restart) -> Vec<Step> {
    let active = |unit: &str| units.get(unit).is_some_and(UnitStatus::is_active);
    let effects = effects(plan, changed);
    let all = plan
        .units
        .iter()
        .map(|unit| unit.name)
        .filter(|unit| active(unit));
    all.filter_map(|unit| {
        let touched = effects.contains(&&Effect::Restart(unit));
        match (restart, touched, effects.contains(&&Effect::Reload(unit))) {
            (Restart::Always, ..) | (Restart::Changed, true, _) => {
                Some(Step::Restart(unit.to_owned()))
            }
            (Restart::Changed, false, true) => Some(Step::Reload(unit.to_owned())),
            (Restart::Never, true, _) => Some(Step::Later(format!("systemctl restart {unit}"))),
            (Restart::Never, false, true) => Some(Step::Later(format!("systemctl reload {unit}"))),
            (Restart::Changed | Restart::Never, false, false) => None,
        }
    })
    .collect()
}

#[derive(Debug, Default)]
pub struct Outcome {
    /// Units that were not enabled before.
    pub enabled: Vec<String>,
    /// Units that were started or restarted.
    pub started: Vec<String>,
    /// Commands that are left to the operator.
    pub later: Vec<String>,
    /// Calls that failed.
    pub failures: Vec<String>,
}

/// Runs the steps. Starts do not wait: see [`await_active`].
pub fn carry_out(steps: &[Step], systemctl: &Systemctl) -> Outcome {
    let mut outcome = Outcome::default();
    for step in steps {
        let done = match step {
            Step::DaemonReload => systemctl.call(&["daemon-reload"]),
            Step::Run(words) => {
                // It can be left to the operator, because it happens at the next boot anyway.
                if let [program, args @ ..] = words
                    && let Err(why) = command::run(Command::new(program).args(args))
                {
                    let line = words.join(" ");
                    outcome.later.push(format!("{line} (failed now: {why})"));
                }
                Ok(())
            }
            Step::Enable(unit) => enable(systemctl, unit, &mut outcome.enabled),
            Step::Reload(unit) => systemctl.call(&["reload", unit]),
            Step::Restart(unit) => start(systemctl, "restart", unit, &mut outcome.started),
            Step::Start(unit) => start(systemctl, "start", unit, &mut outcome.started),
            Step::Later(command) => {
                outcome.later.push(command.clone());
                Ok(())
            }
        };
        outcome
            .failures
            .extend(done.err().map(|error| error.to_string()));
    }
    outcome
}

fn enable(
    systemctl: &Systemctl,
    unit: &str,
    enabled: &mut Vec<String>,
) -> Result<(), SystemctlError> {
    if systemctl.is_enabled(unit) {
        return Ok(());
    }
    systemctl.call(&["--quiet", "enable", unit])?;
    enabled.push(unit.to_owned());
    Ok(())
}

fn start(
    systemctl: &Systemctl,
    verb: &str,
    unit: &str,
    started: &mut Vec<String>,
) -> Result<(), SystemctlError> {
    systemctl.call(&["--no-block", verb, unit])?;
    started.push(unit.to_owned());
    Ok(())
}

/// Waits until all `units` are active, or `patience` is over. Calls `report` with the units that are not active and their states. Returns
/// the units that are not active.
pub fn await_active(
    systemctl: &Systemctl,
    units: &[&str],
    patience: Duration,
    mut report: impl FnMut(&str),
) -> Vec<(String, UnitStatus)> {
    let mut told = String::new();
    let mut left = patience.as_millis() / STEP.as_millis();
    loop {
        let idle: Vec<_> = systemctl
            .show(units)
            .into_iter()
            .filter(|(_, unit)| !unit.is_active())
            .collect();
        if idle.is_empty() || left == 0 {
            return idle;
        }
        let now = idle
            .iter()
            .map(|(name, unit)| state(name, unit))
            .collect::<Vec<_>>()
            .join("\n");
        if now != told {
            report(&now);
            told = now;
        }
        left -= 1;
        sleep(STEP);
    }
}

/// Returns one line for each running unit of the plan, in the order in which they start.
pub fn came_up(names: &[&str], units: &Units) -> String {
    let active = names
        .iter()
        .filter_map(|name| Some((name, units.get(*name)?)))
        .filter(|(_, unit)| unit.is_active());
    active
        .map(|(name, unit)| format!("{:9} {}\n", "up", state(name, unit)))
        .collect()
}

/// Returns the units among files, and the units of drop-ins.
pub fn units_of<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let is_unit = |name: &String| {
        [".service", ".socket"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let name = |path: &Path| {
        Some(
            path.file_name()?
                .to_str()?
                .trim_end_matches(".d")
                .to_owned(),
        )
    };
    let unit = |path: &Path| {
        name(path)
            .filter(is_unit)
            .or_else(|| name(path.parent()?).filter(is_unit))
    };
    paths
        .filter_map(unit)
        .collect::<BTreeSet<String>>()
        .into_iter()
        .collect()
}

/// Describes a unit in one line.
pub fn state(name: &str, unit: &UnitStatus) -> String {
    let status = if unit.status.is_empty() {
        String::new()
    } else {
        format!(": {}", unit.status)
    };
    let result = if ["", "success"].contains(&unit.result.as_str()) {
        String::new()
    } else {
        format!(", {}", unit.result)
    };
    format!("{name}: {} ({}{result}){status}", unit.active, unit.sub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{File, FileKind, Service, UnitUse};

    fn plan() -> Plan {
        let file = |path: &str, effect| File {
            path: path.into(),
            content: String::new(),
            mode: 0o644,
            kind: FileKind::Unit,
            service: Service::Host,
            effect,
        };
        let unit = |name| UnitUse {
            name,
            service: Service::Host,
            ours: true,
        };
        Plan {
            files: vec![
                file("/etc/sysctl.d/x.conf", Effect::Run(&["sysctl", "-p"])),
                file(
                    "/etc/systemd/system/a.service",
                    Effect::Restart("a.service"),
                ),
                file("/etc/docker/daemon.json", Effect::Reload("b.service")),
            ],
            units: vec![unit("a.service"), unit("b.service")],
            ..Plan::default()
        }
    }

    fn units(active: &[&str]) -> Units {
        let fact = |name: &&str| {
            let active = if active.contains(name) {
                "active"
            } else {
                "inactive"
            };
            (
                (*name).to_owned(),
                UnitStatus {
                    active: active.into(),
                    ..UnitStatus::default()
                },
            )
        };
        ["a.service", "b.service"].iter().map(fact).collect()
    }

    fn done(changed: &[&str], active: &[&str], wanted: Wanted) -> Vec<Step> {
        let changed: Vec<&Path> = changed.iter().map(Path::new).collect();
        steps(&plan(), &changed, &units(active), wanted, true)
    }

    #[test]
    fn units_are_known_by_their_files_and_drop_ins() {
        let paths = [
            "/etc/systemd/system/flanneld.service",
            "/etc/systemd/system/docker.service.d/50-flannel.conf",
            "/etc/systemd/system/docker.service.d",
            "/etc/sysctl.d/x.conf",
        ];
        assert_eq!(
            units_of(paths.iter().map(Path::new)),
            ["docker.service", "flanneld.service"]
        );
    }

    #[test]
    fn units_that_run_are_told_in_their_order() {
        let mut units = units(&["a.service", "b.service"]);
        units.insert(
            "a.service".into(),
            UnitStatus {
                active: "active".into(),
                sub: "running".into(),
                status: "subnet 1".into(),
                ..UnitStatus::default()
            },
        );
        units.insert(
            "c.service".into(),
            UnitStatus {
                active: "failed".into(),
                ..UnitStatus::default()
            },
        );
        assert_eq!(
            came_up(
                &["c.service", "b.service", "a.service", "x.service"],
                &units
            ),
            "up        b.service: active ()\nup        a.service: active (running): subnet 1\n"
        );
    }

    #[test]
    fn nothing_follows_from_nothing() {
        assert_eq!(done(&[], &["a.service"], Wanted::default()), []);
        assert_eq!(
            done(
                &[],
                &["a.service", "b.service"],
                Wanted {
                    start: true,
                    ..Wanted::default()
                }
            ),
            []
        );
    }

    #[test]
    fn what_runs_is_restarted_only_when_told() {
        let (unit, json) = ("/etc/systemd/system/a.service", "/etc/docker/daemon.json");
        let all = &["a.service", "b.service"];
        let restart = |restart| Wanted {
            restart,
            ..Wanted::default()
        };
        let later = |text: &str| Step::Later(text.into());
        assert_eq!(
            done(&[unit, json], all, restart(Restart::Never)),
            [
                Step::DaemonReload,
                later("systemctl restart a.service"),
                later("systemctl reload b.service")
            ]
        );
        assert_eq!(
            done(&[unit, json], all, restart(Restart::Changed)),
            [
                Step::DaemonReload,
                Step::Restart("a.service".into()),
                Step::Reload("b.service".into())
            ]
        );
        assert_eq!(
            done(&[], all, restart(Restart::Always)),
            [
                Step::Restart("a.service".into()),
                Step::Restart("b.service".into())
            ]
        );
        assert_eq!(
            done(&[unit], &[], restart(Restart::Changed)),
            [Step::DaemonReload]
        );
    }

    #[test]
    fn starts_come_last_and_in_order_and_only_where_they_can() {
        let wanted = Wanted {
            enable: true,
            start: true,
            ..Wanted::default()
        };
        let [enable_a, enable_b] = ["a.service", "b.service"].map(|unit| Step::Enable(unit.into()));
        assert_eq!(
            done(&["/etc/sysctl.d/x.conf"], &["a.service"], wanted),
            [
                Step::Run(&["sysctl", "-p"]),
                enable_a.clone(),
                enable_b.clone(),
                Step::Start("b.service".into())
            ]
        );
        let offline = steps(
            &plan(),
            &[Path::new("/etc/sysctl.d/x.conf")],
            &units(&[]),
            wanted,
            false,
        );
        assert_eq!(offline, [enable_a, enable_b]);
    }
}
