//! Implements `rflannel node-setup`: the files of a Kubernetes node, from one set of settings.

mod examine;
mod inputs;
mod show;
mod write;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{USAGE, flag_arg, value_arg};
use flanneld::cli::flag_table;
use flanneld::cli::flanneld::{HINT, Mistake, Parsed, parse};
use flanneld::util::atomic_file;
use node_setup::argv::{Word, decode};
use node_setup::settings::{SETTINGS, Value};
use node_setup::unit::Unit;
use node_setup::{Error, Host, Model, Plan, Warning, etcd_config, explain};

const EXITS: &str = "\
Exit codes:
  0   done; check: no problem was found
  1   not done, and the message says why; check --strict: warnings; status: something differs from what was set up
  3   check: errors
  64  wrong usage, or a wrong setting; nothing is written";

pub fn command() -> Command {
    Command::new("node-setup")
        .about("Create files and units of a Kubernetes node: flanneld, docker or containerd, kubelet, kube-proxy")
        .after_help(format!(
            "Without a command, the command is plan. Only apply, rollback, and uninstall change this host.\n\n{EXITS}"
        ))
        .args(inputs::args())
        .args([
            value_arg("root", "DIR", "Root directory of the host's files")
                .default_value("/")
                .value_parser(value_parser!(PathBuf))
                .global(true),
            flag_arg("json", "Print JSON").global(true),
        ])
        .arg(output_arg())
        .subcommands([
            Command::new("plan")
                .about("Print the files that apply would write, without writing any")
                .arg(output_arg()),
            Command::new("explain")
                .about("Explain a flag, a file, or a warning, and the releases it is for")
                .arg(
                    Arg::new("topic")
                        .value_name("TOPIC")
                        .allow_hyphen_values(true)
                        .help("Flag, setting, file, or name of a warning; without one, list all topics"),
                ),
            Command::new("etcd-config")
                .about("Print the command that writes the network configuration to etcd, once per cluster"),
        ])
        .subcommands(write::commands())
        .subcommands(examine::commands())
        .mut_subcommands(|command| command.after_help(EXITS))
}

fn output_arg() -> Arg {
    Arg::new("output")
        .long("output")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Write the files below this directory instead of printing them; it must be new or empty")
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let done = match matches.subcommand() {
        Some(("check", matches)) => examine::check(matches),
        Some(("status", matches)) => examine::status(matches),
        other => change(matches, other).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        super::print_error(&error);
        // A wrong setting counts as a wrong command line, wherever it was given.
        let is_setting = matches!(error.downcast_ref::<Error>(), Some(Error::Setting { .. }));
        let is_usage = is_setting || error.is::<Usage>();
        ExitCode::from(if is_usage { USAGE } else { 1 })
    })
}

/// An error of the command line itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(String);

fn change(matches: &ArgMatches, verb: Option<(&str, &ArgMatches)>) -> Done {
    match verb {
        Some(("diff", matches)) => write::diff(matches),
        Some(("apply", matches)) => write::apply(matches),
        Some(("rollback", matches)) => write::rollback(matches),
        Some(("uninstall", matches)) => write::uninstall(matches),
        Some(("explain", matches)) => explain(matches),
        Some(("etcd-config", matches)) => etcd_config(matches),
        Some(("plan", matches)) => plan(matches),
        _ => plan(matches),
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

/// Returns the plan of the command line, for the host below `--root`.
pub(super) fn chosen(matches: &ArgMatches) -> Result<(Model, Plan), Error> {
    let (settings, mut warnings) = inputs::read(matches)?;
    let model = Model::new(settings)?;
    let host = Host::read(root(matches))?;
    let mut plan = node_setup::plan(&model, &host)?;
    warnings.retain(|warning| !plan.warnings.contains(warning));
    warnings.extend(daemon_says(&plan)?);
    plan.warnings.splice(0..0, warnings);
    Ok((model, plan))
}

pub(super) fn root(matches: &ArgMatches) -> &Path {
    matches
        .get_one::<PathBuf>("root")
        .map_or(Path::new("/"), PathBuf::as_path)
}

/// Returns what flanneld reports about the command line in its unit.
fn daemon_says(plan: &Plan) -> Result<Vec<Warning>, Error> {
    let unit = plan
        .files
        .iter()
        .find(|file| file.path.ends_with("flanneld.service"));
    let line = unit.and_then(|file| {
        Unit::parse(&file.content)
            .values("Service", "ExecStart")
            .pop()
    });
    let words: Vec<_> = line.map(|line| decode(&line)).unwrap_or_default();
    let flags = words
        .iter()
        .skip(1)
        .filter_map(Word::literal)
        .map(Into::into);
    // Where the password is stored does not matter here.
    let password = [("FLANNELD_ETCD_PASSWORD".into(), "x".into())];
    let login = words
        .iter()
        .filter_map(Word::literal)
        .any(|word| word.starts_with("-etcd-username="));
    match parse(flags, password.into_iter().filter(|_| login)) {
        Parsed::Run(run) => Ok(run
            .warnings
            .into_iter()
            .map(|text| Warning {
                id: "flanneld-flags",
                text,
            })
            .collect()),
        Parsed::Show(text) => {
            let line = text.lines().next().unwrap_or_default();
            Err(Error::setting("flannel-options", line))
        }
        // Settings have the names of the daemon's flags.
        Parsed::Wrong(Mistake::Value { flag, why, .. }) if is_setting(flag) => {
            Err(Error::setting(flag, why + HINT))
        }
        Parsed::Wrong(mistake) => Err(Error::setting("flannel-options", mistake.to_string())),
    }
}

fn is_setting(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name == name)
}

fn plan(matches: &ArgMatches) -> Done {
    let (model, plan) = chosen(matches)?;
    if matches.get_flag("print-config") {
        return say(&model.settings.to_toml());
    }
    no_conflicts(&plan)?;
    if let Some(dir) = matches.get_one::<PathBuf>("output") {
        write_below(dir, &plan)?;
        return say(&format!(
            "{}{}",
            show::written(dir, &plan),
            show::notes(&plan)
        ));
    }
    if matches.get_flag("json") {
        say(&format!("{:#}\n", serde_json::to_value(&plan)?))
    } else {
        say(&format!("{}{}", show::files(&plan), show::notes(&plan)))
    }
}

/// Returns an error with everything on the host that contradicts the plan.
pub(super) fn no_conflicts(plan: &Plan) -> Done {
    let lines: Vec<String> = plan.conflicts.iter().map(ToString::to_string).collect();
    if lines.is_empty() {
        Ok(())
    } else {
        Err(lines.join("\n").into())
    }
}

/// Writes the files below a directory, and never overwrites one.
fn write_below(dir: &Path, plan: &Plan) -> Done {
    let occupied = dir
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some());
    if occupied || dir.is_file() {
        return Err(format!(
            "{} is not an empty directory: give a new one",
            dir.display()
        )
        .into());
    }
    for file in &plan.files {
        let below = file.path.strip_prefix("/").unwrap_or(&file.path);
        atomic_file::write(&dir.join(below), file.content.as_bytes(), file.mode)?;
    }
    Ok(())
}

/// Prints the command that writes the configuration, once per cluster. It does not depend on the node.
fn etcd_config(matches: &ArgMatches) -> Done {
    let (mut settings, _) = inputs::read(matches)?;
    if !settings.has("node-ip") {
        settings.set("services", Value::Text("flanneld".into()))?;
    }
    let model = Model::new(settings)?;
    if matches.get_flag("json") {
        let pair =
            serde_json::json!({"key": etcd_config::key(&model), "value": model.network_config});
        return say(&format!("{pair:#}\n"));
    }
    say(&etcd_config::command(&model))
}

fn explain(matches: &ArgMatches) -> Done {
    let Some(topic) = matches.get_one::<String>("topic") else {
        return say(&explain::contents());
    };
    let name = topic.trim_start_matches('-');
    let flags = flag_table::flags().filter(|flag| flag.name == name && !flag.help.is_empty());
    let mut text: String = flags
        .map(|flag| {
            format!(
                "flanneld -{}\n  {}.\n",
                flag.name,
                flag.help.trim_end_matches('.')
            )
        })
        .collect();
    text.push_str(&explain::explain(topic).unwrap_or_default());
    if text.is_empty() {
        let close = explain::close_to(topic);
        let hint = if close.is_empty() {
            "`rflannel node-setup explain` lists all topics".to_owned()
        } else {
            format!("did you mean {}?", close.join(" or "))
        };
        return Err(Usage(format!("there is no topic {topic:?}: {hint}")).into());
    }
    say(&text)
}

fn say(text: &str) -> Done {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(line: &str) -> Result<Plan, String> {
        let matches = command()
            .try_get_matches_from(line.split(' '))
            .map_err(|error| error.to_string())?;
        let matches = matches
            .subcommand()
            .map_or(&matches, |(_, matches)| matches);
        chosen(matches)
            .map(|(_, plan)| plan)
            .map_err(|error| error.to_string())
    }

    const GOOD: &str = "node-setup plan --root /nonexistent --node-ip 10.64.3.7 --etcd-endpoints https://10.64.3.7:2379";

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        assert!(plan_of(GOOD).is_ok());
        assert!(
            plan_of(&GOOD.replace(" plan", "")).is_ok(),
            "plan is what it does without a verb"
        );
        for verb in [
            "explain --cluster_dns",
            "explain daemon.json",
            "etcd-config --json",
        ] {
            assert!(
                command()
                    .try_get_matches_from(format!("node-setup {verb}").split(' '))
                    .is_ok(),
                "{verb}"
            );
        }
    }

    #[test]
    fn the_daemon_has_the_last_word_on_its_flags() {
        let with = |options: &str| plan_of(&format!("{GOOD} --flannel-options {options}"));
        assert!(with("-iface=eth1").is_ok());
        let unknown = with("-nonsense=1").unwrap_err();
        assert!(
            unknown.starts_with("flannel-options: ") && unknown.contains("-nonsense"),
            "{unknown}"
        );
        assert!(with("stray").is_err());
        assert!(with("-version").is_err());
        assert_eq!(
            with("-logtostderr").unwrap().warnings[0].id,
            "flanneld-flags"
        );
    }

    #[test]
    fn a_tree_is_written_into_an_empty_directory_only() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan_of(GOOD).unwrap();
        write_below(dir.path(), &plan).unwrap();
        assert!(
            dir.path()
                .join("etc/systemd/system/flanneld.service")
                .is_file()
        );
        assert!(
            write_below(dir.path(), &plan)
                .unwrap_err()
                .to_string()
                .contains("not an empty directory")
        );
    }
}
