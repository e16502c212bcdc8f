//! Implements `rflannel handover`: returning this host to Go flannel.

mod scan;

use std::fs;
use std::process::{Command as Program, ExitCode, Stdio};

use clap::{ArgMatches, Command};

use self::scan::Scene;
use super::etcd_session::{self, CommandError, force_arg, say, with_exits, yes_arg};
use super::settings;
use crate::admin::handover::{self, Facts, Finding, Leftover};
use crate::admin::show;
use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::ownership::{BLACKHOLE_METRIC, BLACKHOLE_PROTOCOL};
use flanneld::kernel::{Entry, Kernel, LinkRole, Op};
use flanneld::subnet::etcd::store::Commit;
use node_setup::argv::{Word, encode, is_bare};

pub fn command() -> Command {
    let command = Command::new("handover")
        .about("Prepare the return of this host to Go flannel: show what Go flannel will do, its unit, and what it would not remove")
        .args([yes_arg(), force_arg("Also if Go flannel will not serve as this daemon does")])
        .args(settings::args());
    with_exits(command)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    etcd_session::end(hand_over(matches).map(|()| ExitCode::SUCCESS))
}

fn hand_over(matches: &ArgMatches) -> Result<(), CommandError> {
    let scene = Scene::look(matches)?;
    let facts = &scene.facts;
    let findings = handover::findings(facts);
    say(&report(facts, &findings)?)?;
    let stops = findings
        .iter()
        .any(|finding| matches!(finding, Finding::Stop(_)));
    if stops && !matches.get_flag("force") {
        return Err(CommandError::Refused(
            "refused: see STOP above; use --force to go on anyway. Nothing was changed".into(),
        ));
    }
    match (matches.get_flag("yes"), facts.running) {
        (false, _) => say(&next(facts)?),
        (true, true) => Err(CommandError::Refused(
            "refused: the daemon runs and would restore what is removed; stop it first (packets keep flowing)".into(),
        )),
        (true, false) => clear(&scene),
    }
}

fn report(facts: &Facts, findings: &[Finding]) -> Result<String, CommandError> {
    let mut lines: Vec<String> = findings
        .iter()
        .map(|finding| match finding {
            Finding::Fine(text) => format!("ok    {text}"),
            Finding::Note(text) => format!("note  {text}"),
            Finding::Stop(text) => format!("STOP  {text}"),
        })
        .collect();
    lines.extend(
        facts
            .leftovers
            .iter()
            .map(|leftover| format!("left  {leftover}: Go flannel would not remove it")),
    );
    lines.push("The unit for Go flannel:".into());
    lines.extend(unit(facts)?.into_iter().map(|line| format!("  {line}")));
    Ok(show::clean(&(lines.join("\n") + "\n")))
}

/// Returns the lines of a unit that differ.
fn unit(facts: &Facts) -> Result<Vec<String>, CommandError> {
    let words = handover::gos_flags(&facts.flags);
    let line = |program: &str, words: Vec<String>| {
        let words: Vec<Word> = words.into_iter().map(Word::Literal).collect();
        let text = encode(program, &words).map_err(CommandError::Refused)?;
        let parts = text.lines().map(|line| line.trim_end_matches('\\').trim());
        Ok::<_, CommandError>(parts.collect::<Vec<_>>().join(" "))
    };
    let mut lines = vec![
        "Type=notify".to_owned(),
        "WatchdogSec=0".to_owned(),
        format!("ExecStart={}", line("/usr/local/bin/flanneld", words)?),
    ];
    if let Some(docker) = &facts.config.docker_opts {
        let env = facts.config.subnet_file.display().to_string();
        let words = [
            "-k".into(),
            docker.key.clone(),
            "-f".into(),
            env,
            "-d".into(),
            docker.path.display().to_string(),
        ];
        lines.push(format!(
            "ExecStartPost={}",
            line("/usr/local/bin/mk-docker-opts.sh", words.into())?
        ));
    }
    Ok(lines)
}

fn next(facts: &Facts) -> Result<String, CommandError> {
    let given = facts
        .flags
        .iter()
        .map(|(name, value)| shell(handover::spelled(name, value.as_deref())));
    let again = given.collect::<Result<Vec<_>, _>>()?.join(" ");
    let stop = if facts.running {
        "stop the daemon (systemctl stop flanneld; packets keep flowing), then "
    } else {
        ""
    };
    let last = "start Go flannel: it adopts the device, the lease, the entries, and the rules";
    Ok(format!(
        "nothing was changed. Next: {stop}rflannel handover --yes -- {again}\nthen {last}\n"
    ))
}

/// Quotes a word for a shell.
fn shell(word: String) -> Result<String, CommandError> {
    if is_bare(&word) {
        return Ok(word);
    }
    let quoted = shlex::try_quote(&word).map(std::borrow::Cow::into_owned);
    quoted.map_err(|error| CommandError::Refused(format!("{word:?}: {error}")))
}

/// Removes what Go flannel would leave behind. Nothing of it carries packets.
fn clear(scene: &Scene) -> Result<(), CommandError> {
    for leftover in &scene.facts.leftovers {
        remove(scene, leftover)
            .map_err(|why| CommandError::Refused(format!("cannot remove {leftover}: {why}")))?;
        say(&format!("removed {leftover}\n"))?;
    }
    say("this host is ready for Go flannel: start it\n")
}

fn remove(scene: &Scene, leftover: &Leftover) -> Result<(), String> {
    match leftover {
        Leftover::SourceFilter(table) => nft(table),
        Leftover::Blackhole(subnet) => blackhole(*subnet),
        Leftover::StateFile(path) | Leftover::Socket(path) => {
            fs::remove_file(path).map_err(|error| error.to_string())
        }
        Leftover::Owner(key, recorded) => owner(scene, key, *recorded),
    }
}

fn nft(table: &str) -> Result<(), String> {
    let output = Program::new("nft")
        .args(["delete", "table", "inet", table])
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("cannot run nft: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn blackhole(dst: ipnetwork::IpNetwork) -> Result<(), String> {
    let mut kernel = Netlink::open().map_err(|error| error.to_string())?;
    let (metric, protocol) = (BLACKHOLE_METRIC, BLACKHOLE_PROTOCOL);
    let route = Entry::Route {
        dst,
        metric,
        dev: LinkRole::Blackhole,
        gateway: None,
        onlink: false,
        protocol,
    };
    let failures = kernel
        .apply(&[Op::Delete(route)])
        .map_err(|error| error.to_string())?;
    failures
        .first()
        .map_or(Ok(()), |failure| Err(failure.to_string()))
}

fn owner(scene: &Scene, key: &str, recorded: i64) -> Result<(), String> {
    let entry = scene.facts.lease.as_ref();
    let lease = entry.and_then(|entry| entry.lease.as_ref());
    let (Some(session), Some(lease)) = (&scene.session, lease) else {
        return Err("etcd was not asked".into());
    };
    match session
        .ask(session.manager.remove_owner(lease, recorded))
        .map_err(|stop| stop.to_string())?
    {
        Commit::Done(_) => Ok(()),
        Commit::Lost => Err(format!(
            "{key} changed meanwhile: check whether the daemon runs"
        )),
        Commit::Unknown => Err("etcd did not confirm it: run the command again".into()),
    }
}
