//! Collects the output of programs, files, the daemon's answer, and etcd's content. Everything is redacted before it is used.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ArgMatches;

use crate::admin::bundle::{self, Piece, Source};
use crate::admin::redact::{Redactor, secrets_in};
use crate::admin::show;
use crate::check;
use crate::cli::etcd_session::{CommandError, EtcdSession};
use crate::cli::settings::{self, Settings};
use crate::cli::text;
use flanneld::cli::flanneld::VERSION;
use flanneld::config::Config;
use flanneld::status::client::Daemon;
use flanneld::status::offline;
use flanneld::status::report::{Report, State};
use flanneld::util::systemd;

/// Size limit of one file in bytes; only its beginning is kept.
const MOST: u64 = 16 * 1024 * 1024;

/// A file of the bundle.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) text: String,
    /// Why the content is not what was requested.
    pub(super) trouble: Option<String>,
}

impl Part {
    fn new(name: &str, said: Result<String, String>) -> Self {
        let (text, trouble) = match said {
            Ok(text) => (text, None),
            Err(why) => (format!("{why}\n"), Some(why)),
        };
        Self {
            name: name.into(),
            text,
            trouble,
        }
    }
}

/// Collects all files. Each file that is not available contains the reason.
pub(super) fn all(matches: &ArgMatches) -> Result<Vec<Part>, CommandError> {
    let settings = settings::announced(matches)?;
    let report = report(&settings);
    let config = settings.config.clone();
    let mut parts = vec![
        Part::new("versions/rflannel", Ok(format!("{VERSION}\n"))),
        Part::new(
            "status.json",
            serde_json::to_string_pretty(&report).map_err(|error| error.to_string()),
        ),
        Part::new("flags", Ok(flags(&settings, report.pid.or(settings.pid())))),
        Part::new("etcd/leases.json", etcd(&config)),
    ];
    let lines = matches.get_one::<u32>("lines").copied().unwrap_or_default();
    let (devices, unit) = (check::overlay_devices(), text(matches, "unit"));
    let pieces = bundle::pieces(&config, &devices, unit, lines);
    parts.extend(pieces.iter().map(piece));
    redact(&config, &mut parts)?;
    parts.insert(0, manifest(&parts));
    Ok(parts)
}

fn redact(config: &Config, parts: &mut [Part]) -> Result<(), CommandError> {
    let password = config
        .etcd
        .login
        .iter()
        .map(|(_, password)| password.reveal().to_owned());
    let settings = [
        "flags",
        "files/etc/default/flanneld",
        "files/etc/sysconfig/flanneld",
    ];
    let written = parts
        .iter()
        .filter(|part| settings.contains(&part.name.as_str()) || part.name.starts_with("units/"));
    let known: Vec<String> = password
        .chain(written.flat_map(|part| secrets_in(&part.text)))
        .collect();
    let redactor = Redactor::new(known).map_err(CommandError::Refused)?;
    for part in parts {
        part.text = redactor.redact(&part.text);
        part.trouble = part.trouble.take().map(|why| redactor.redact(&why));
    }
    Ok(())
}

fn manifest(parts: &[Part]) -> Part {
    let line = |part: &Part| {
        let found = part.trouble.as_ref().map_or_else(
            || format!("{} bytes", part.text.len()),
            |why| show::clean(why.trim()),
        );
        format!("{}: {found}\n", part.name)
    };
    Part::new("MANIFEST", Ok(parts.iter().map(line).collect()))
}

fn report(settings: &Settings) -> Report {
    let offline =
        |state, why| offline::report(state, why, &settings.config, &systemd::machine_id(), None);
    match settings.daemon() {
        Ok(Daemon::Answers(report)) => *report,
        Ok(Daemon::Silent(why)) => offline(State::Silent, why),
        Ok(Daemon::Absent(why)) => offline(State::NotRunning, why),
        Err(error) => offline(State::Silent, error.to_string()),
    }
}

/// Describes the settings of this command and how the running daemon was started.
fn flags(settings: &Settings, pid: Option<u32>) -> String {
    let mut text = format!("settings from {}: {}\n", settings.source, settings.config);
    let own = env::vars().filter(|(name, _)| name.starts_with("FLANNELD_"));
    text.extend(own.map(|(name, value)| format!("{name}={value}\n")));
    let Some(pid) = pid else { return text };
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let words = |bytes: &[u8]| -> Vec<String> {
        bytes
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    };
    text += &format!(
        "the daemon, pid {pid}: {}\n",
        words(&read("cmdline")).join(" ")
    );
    let environment = words(&read("environ"))
        .into_iter()
        .filter(|line| line.starts_with("FLANNELD_"));
    text.extend(environment.map(|line| line + "\n"));
    text
}

fn etcd(config: &Config) -> Result<String, String> {
    let inventory = EtcdSession::of(config)
        .and_then(|session| session.inventory())
        .map_err(|stop| stop.to_string())?;
    Ok(show::json(&inventory))
}

fn piece(piece: &Piece) -> Part {
    let said = match &piece.source {
        Source::Command(words) => say(words),
        Source::File(path) => {
            read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        }
        Source::Settings(names) => Ok(names.iter().map(|name| setting(name)).collect()),
    };
    Part::new(&piece.name, said)
}

/// Returns the output of a program, with a timeout.
fn say(words: &[String]) -> Result<String, String> {
    let line = words.join(" ");
    let output = Command::new("timeout")
        .args(["--kill-after=1", "20"])
        .args(words)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("cannot run {line}: {error}"))?;
    let [out, err] = [output.stdout, output.stderr].map(|bytes| {
        let end = bytes.len().min(usize::try_from(MOST).unwrap_or(usize::MAX));
        String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
    });
    if output.status.success() {
        Ok(out)
    } else {
        Err(format!(
            "{line}: {}: {}",
            output.status,
            (err + &out).trim()
        ))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn setting(name: &str) -> String {
    let value = fs::read_to_string(format!("/proc/sys/{name}"));
    let value = value.map_or_else(
        |error| format!("({error})"),
        |value| value.trim().replace('\t', " "),
    );
    format!("{} = {value}\n", name.replace('/', "."))
}
