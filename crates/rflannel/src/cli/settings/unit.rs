//! Reads the daemon's unit with `systemctl show`: ExecStart, Environment, and EnvironmentFiles.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::CommandLine;
use flanneld::util::env_file;

/// Units that may start the daemon, the usual one first.
const UNITS: [&str; 2] = ["flanneld.service", "flannel.service"];
/// Timeout in seconds: systemd answers at once, or not at all.
const PATIENCE: &str = "5";

/// Returns what the first existing unit would start the daemon with.
pub(super) fn settings() -> Option<(&'static str, CommandLine)> {
    UNITS.into_iter().find_map(|unit| {
        let text = show(unit)?;
        Some((unit, read(&text, |path| fs::read_to_string(path).ok())?))
    })
}

fn show(unit: &str) -> Option<String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", PATIENCE, "systemctl", "show", unit]);
    command.args(["--property=LoadState,ExecStart,Environment,EnvironmentFiles"]);
    let output = command.stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Parses properties; `file` reads an environment file.
fn read(text: &str, file: impl Fn(&Path) -> Option<String>) -> Option<CommandLine> {
    let property = |name: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(name)?.strip_prefix('='))
    };
    if property("LoadState").next() != Some("loaded") {
        return None;
    }
    let mut variables = BTreeMap::new();
    for assignment in property("Environment").flat_map(words) {
        let assignment = assignment.to_string_lossy().into_owned();
        variables.extend(
            assignment
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
    }
    // Later files override earlier ones, and both override Environment=.
    for line in property("EnvironmentFiles") {
        let path = line.rsplit_once(" (").map_or(line, |(path, _)| path);
        variables.extend(
            file(Path::new(path))
                .map(|text| env_file::parse(&text).0)
                .unwrap_or_default(),
        );
    }
    let start = property("ExecStart").find_map(arguments)?;
    let mut parts = start.split(' ');
    let program = parts.next()?;
    (Path::new(program).file_name()? == "flanneld").then_some(())?;
    let args = parts.flat_map(|word| expanded(word, &variables)).collect();
    let variables = variables
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    Some(CommandLine { args, variables })
}

/// `{ path=… ; argv[]=/usr/local/bin/flanneld -a -b ; ignore_errors=no ; … }`.
fn arguments(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("argv[]=")?;
    Some(rest.split_once(" ; ").map_or(rest, |(line, _)| line))
}

/// Expands variables as systemd does: `$NAME` alone becomes words, `${NAME}` is replaced within its word.
fn expanded(word: &str, variables: &BTreeMap<String, String>) -> Vec<OsString> {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    if let Some(name) = word
        .strip_prefix('$')
        .filter(|name| env_file::is_name(name))
    {
        return words(value(name));
    }
    let (mut text, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            break;
        };
        text.push_str(before);
        text.push_str(value(name));
        rest = behind;
    }
    text.push_str(rest);
    if word.is_empty() {
        Vec::new()
    } else {
        vec![text.replace("$$", "$").into()]
    }
}

/// Words as a shell splits them, without expansion.
pub(super) fn words(text: &str) -> Vec<OsString> {
    let split = shlex::split(text);
    let words = split.unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect());
    words.into_iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<Vec<String>> {
        let file = |path: &Path| {
            let text = match path.to_str()? {
                "/etc/default/flanneld" => {
                    "FLANNEL_OPTIONS=\"-etcd-prefix=/net -iface 'eth 1'\"\nHOST=h1\n"
                }
                _ => return None,
            };
            Some(text.to_owned())
        };
        let CommandLine { args, .. } = read(text, file)?;
        Some(
            args.into_iter()
                .map(|word| word.into_string().unwrap())
                .collect(),
        )
    }

    #[test]
    fn unit_with_flags_on_its_command_line_is_read() {
        let text = "LoadState=loaded\nEnvironment=\nExecStart={ path=/usr/local/bin/flanneld ; \
                    argv[]=/usr/local/bin/flanneld -etcd-endpoints=https://a:2379,https://b:2379 -etcd-prefix=/kubernetes/network ; \
                    ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }\n";
        let want = [
            "-etcd-endpoints=https://a:2379,https://b:2379",
            "-etcd-prefix=/kubernetes/network",
        ];
        assert_eq!(line(text).unwrap(), want);
    }

    #[test]
    fn variables_of_unit_and_files_are_expanded() {
        let text = "LoadState=loaded\nEnvironment=HOST=h0 \"PORT=2 379\"\n\
                    EnvironmentFiles=/etc/default/flanneld (ignore_errors=yes)\n\
                    EnvironmentFiles=/etc/missing (ignore_errors=yes)\n\
                    ExecStart={ path=/usr/bin/flanneld ; argv[]=/usr/bin/flanneld -v=1 -public-ip=${HOST}-$$ $FLANNEL_OPTIONS $NONE ; x }\n";
        assert_eq!(
            line(text).unwrap(),
            [
                "-v=1",
                "-public-ip=h1-$",
                "-etcd-prefix=/net",
                "-iface",
                "eth 1"
            ]
        );
    }

    #[test]
    fn unit_that_is_absent_or_another_program_says_nothing() {
        assert_eq!(line("LoadState=not-found\nExecStart=\n"), None);
        assert_eq!(
            line("LoadState=loaded\nExecStart={ path=/bin/sh ; argv[]=/bin/sh -c flanneld ; x }\n"),
            None
        );
        assert_eq!(line("LoadState=loaded\n"), None);
        assert_eq!(line(""), None);
    }
}
