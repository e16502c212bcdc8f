//! Generates completion scripts for the usual shells. Pure.
//!
//! clap's script for bash completes no value after an equal sign, offers files for every value, and offers flags that conflict
//! with given ones. And clap knows only flags with two dashes, while `flanneld` takes one, as all documents write it. So the
//! scripts for bash are generated here, from the commands and the flag table. The scripts of zsh and fish for `rflannel` are clap's, with
//! the hosts of labs added.

use std::fmt::Write as _;

use clap::builder::ValueHint;
use clap::{Arg, Command};
use clap_complete::Shell;

use flanneld::cli::flag_table::{self, Flag, Kind, Support};

/// Completion of `rflannel`, from four tables, each by the words of a command: its flags and subcommands, the values of a flag, the
/// values of each operand, and the flags that exclude each other.
const TOOL: &str = include_str!("completion.bash");

/// Completion of `flanneld`, by a pattern for each flag that takes a value.
const DAEMON: &str = include_str!("completion_daemon.bash");

/// Hosts of running labs, for fish.
const FISH_HOSTS: &str = "complete -c rflannel -n '__fish_seen_subcommand_from lab; and __fish_seen_subcommand_from exec stop start cut break mend' \
     -f -a \"(rflannel lab ps 2>/dev/null | string match -r '^  [^ ]+' | string trim)\"\n";
/// Hosts of running labs, for zsh.
const ZSH_HOSTS: &str = "\n_rflannel_hosts() {\n    compadd -- ${(f)\"$(rflannel lab ps 2>/dev/null | awk '/^  /{print $1}')\"}\n}\n";

/// Returns the script for `rflannel` with these commands.
pub(super) fn tool(shell: Shell, command: &mut Command) -> String {
    if shell == Shell::Bash {
        command.build();
        return format!("{}\n{}", bash_function(&working_flags()), tables(command));
    }
    let script = by_clap(shell, command);
    if shell == Shell::Fish {
        return script + FISH_HOSTS;
    }
    if shell == Shell::Zsh {
        zsh_hosts(&script)
    } else {
        script
    }
}

fn by_clap(shell: Shell, command: &mut Command) -> String {
    let (name, mut script) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(shell, command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Adds the hosts of labs to clap's script for zsh.
fn zsh_hosts(script: &str) -> String {
    let of_host = |line: &str| match line
        .strip_prefix("':host -- ")
        .and(line.rsplit_once(":_default"))
    {
        Some((head, tail)) => format!("{head}:_rflannel_hosts{tail}\n"),
        None => format!("{line}\n"),
    };
    let script: String = script.lines().map(of_host).collect();
    script.replacen(
        "\n_rflannel() {",
        &format!("{ZSH_HOSTS}\n_rflannel() {{"),
        1,
    )
}

/// Fills in the tables of [`TOOL`].
fn tables(command: &Command) -> String {
    let mut all = Tables::default();
    all.read(command, command.get_name());
    let script = TOOL
        .replace("@WORDS@", &all.words)
        .replace("@VALUES@", &all.values);
    script
        .replace("@OPERANDS@", &all.operands)
        .replace("@EXCLUDED@", &all.excluded)
}

#[derive(Default)]
struct Tables {
    words: String,
    values: String,
    operands: String,
    excluded: String,
}

impl Tables {
    fn read(&mut self, command: &Command, path: &str) {
        let mut words = Vec::new();
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let names = arg.get_long().map(|long| format!("--{long}"));
            let names: Vec<String> = names
                .into_iter()
                .chain(arg.get_short().map(|short| format!("-{short}")))
                .collect();
            let excluded = excluded(command, arg);
            for name in &names {
                if arg.get_action().takes_values() {
                    let equals = if arg.is_require_equals_set() { "=" } else { "" };
                    entry(
                        &mut self.values,
                        &format!("{path} {name}"),
                        &format!("{equals}{}", offer(arg)),
                    );
                }
                if !excluded.is_empty() {
                    entry(
                        &mut self.excluded,
                        &format!("{path} {name}"),
                        &excluded.join(" "),
                    );
                }
            }
            words.extend(names);
        }
        for (place, arg) in command.get_positionals().enumerate() {
            let place = if arg.is_last_set() {
                "--".to_owned()
            } else {
                place.to_string()
            };
            entry(&mut self.operands, &format!("{path} {place}"), &offer(arg));
        }
        for one in command.get_subcommands() {
            words.push(one.get_name().to_owned());
            self.read(one, &format!("{path} {}", one.get_name()));
        }
        entry(&mut self.words, path, &words.join(" "));
    }
}

fn entry(table: &mut String, key: &str, value: &str) {
    let _ = writeln!(table, "    ['{key}']='{value}'");
}

fn excluded(command: &Command, arg: &Arg) -> Vec<String> {
    let refuses = |one: &Arg, other: &Arg| {
        command
            .get_arg_conflicts_with(one)
            .into_iter()
            .any(|refused| refused.get_id() == other.get_id())
    };
    let others = command
        .get_arguments()
        .filter(|other| refuses(arg, other) || refuses(other, arg));
    others
        .filter_map(Arg::get_long)
        .map(|long| format!("--{long}"))
        .collect()
}

/// Returns the completions for a value.
fn offer(arg: &Arg) -> String {
    let words: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    let hint = arg.get_value_hint();
    if arg.get_id() == "host" {
        "@hosts".into()
    } else if !words.is_empty() {
        words.join(" ")
    } else if hint == ValueHint::DirPath {
        "@directories".into()
    } else if [ValueHint::AnyPath, ValueHint::FilePath].contains(&hint) {
        "@files".into()
    } else {
        "@none".into()
    }
}

fn working_flags() -> Vec<&'static Flag> {
    flag_table::flags()
        .filter(|flag| flag.support == Support::Works)
        .collect()
}

/// Returns the script for `flanneld`.
pub(super) fn flanneld(shell: Shell) -> String {
    let flags = working_flags();
    if shell == Shell::Bash {
        return bash_function(&flags) + "complete -F _flanneld -o filenames flanneld\n";
    }
    if shell == Shell::Fish {
        return flags.iter().map(|flag| fish(flag)).collect();
    }
    if shell == Shell::Zsh {
        return zsh(&flags);
    }
    by_clap(shell, &mut flag_table::command())
}

/// Completions for the value of a flag.
enum Values {
    Words(String),
    Files,
    Any,
}

fn values(flag: &Flag) -> Values {
    match flag.kind {
        Kind::Word(words) => Values::Words(words.join(" ")),
        Kind::Path(_) => Values::Files,
        Kind::Text(_) | Kind::List | Kind::Int(_) => Values::Any,
        Kind::Bool | Kind::On => Values::Words("true false".into()),
    }
}

fn is_bool(flag: &Flag) -> bool {
    matches!(flag.kind, Kind::Bool | Kind::On)
}

/// Returns the function that completes flags of `flanneld`, with one dash or two.
fn bash_function(flags: &[&Flag]) -> String {
    let value = |flag: &&&Flag| {
        let name = flag.name;
        // A boolean takes a value only after an equal sign.
        let guard = if is_bool(flag) {
            "[[ ${COMP_WORDS[COMP_CWORD-1]} == = || ${COMP_WORDS[COMP_CWORD]} == = ]] && "
        } else {
            ""
        };
        let reply = match values(flag) {
            Values::Words(words) => {
                format!("{{ COMPREPLY=($(compgen -W \"{words}\" -- \"$cur\")); return; }}")
            }
            Values::Files => "{ COMPREPLY=($(compgen -f -- \"$cur\")); return; }".into(),
            Values::Any => "return".into(),
        };
        format!("    {name} | -{name}) {guard}{reply} ;;\n")
    };
    let values: String = flags
        .iter()
        .filter(|flag| !["help", "version"].contains(&flag.name))
        .map(|flag| value(&flag))
        .collect();
    let names: Vec<&str> = flags.iter().map(|flag| flag.name).collect();
    DAEMON
        .replace("    @VALUES@) ;;\n", &values)
        .replace("@FLAGS@", &names.join(" "))
}

fn fish(flag: &Flag) -> String {
    let help = flag.help.replace('\'', "\\'");
    let values = match values(flag) {
        _ if is_bool(flag) => String::new(),
        Values::Words(words) => format!(" -x -a '{words}'"),
        Values::Files => " -r -F".into(),
        Values::Any => " -x".into(),
    };
    format!(
        "complete -c flanneld -o {}{values} -d '{help}'\n",
        flag.name
    )
}

fn zsh(flags: &[&Flag]) -> String {
    let spec = |flag: &&Flag| {
        let help = flag.help.replace(['[', ']', ':', '\''], " ");
        let name = flag.name;
        match values(flag) {
            _ if is_bool(flag) => format!("    '-{name}[{help}]'"),
            Values::Words(words) => format!("    '-{name}=[{help}]:value:({words})'"),
            Values::Files => format!("    '-{name}=[{help}]:file:_files'"),
            Values::Any => format!("    '-{name}=[{help}]:value:'"),
        }
    };
    let specs: Vec<String> = flags.iter().map(spec).collect();
    format!(
        "#compdef flanneld\n\n_arguments \\\n{}\n",
        specs.join(" \\\n")
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What bash offers for these words.
    fn offered(words: &[&str]) -> Vec<String> {
        let script = flanneld(Shell::Bash);
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; _flanneld; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len() - 1
        );
        let output = Command::new("bash").args(["-c", &line]).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn bash_accepts_the_scripts_and_their_templates() {
        let whole = tool(Shell::Bash, &mut super::super::rflannel::command());
        for script in [whole.as_str(), TOOL, DAEMON] {
            let output = Command::new("bash").args(["-nc", script]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }

    #[test]
    fn bash_completes_one_dash_and_values() {
        let etcd = offered(&["flanneld", "-etcd-c"]);
        assert_eq!(etcd, ["-etcd-cafile", "-etcd-certfile"]);
        assert_eq!(offered(&["flanneld", "--etcd-ca"]), ["--etcd-cafile"]);
        assert_eq!(offered(&["flanneld", "-log-format", "=", "j"]), ["json"]);
        assert_eq!(offered(&["flanneld", "-log-format", "t"]), ["text"]);
        assert_eq!(offered(&["flanneld", "-ip-masq", "=", "f"]), ["false"]);
        assert_eq!(
            offered(&["flanneld", "-ip-masq", "-etcd-ca"]),
            ["-etcd-cafile"]
        );
        assert!(
            offered(&["flanneld", "-etcd-cafile", "=", "/etc/host"])
                .contains(&"/etc/hosts".to_owned())
        );
        // v0.7's flags, which are refused.
        assert_eq!(offered(&["flanneld", "-remote"]), [""; 0]);
        assert_eq!(offered(&["flanneld", "-kube-sub"]), [""; 0]);
    }

    #[test]
    fn other_shells_get_one_dash_as_well() {
        let fish = flanneld(Shell::Fish);
        assert!(
            fish.contains("complete -c flanneld -o log-format -x -a 'text json'"),
            "{fish}"
        );
        let zsh = flanneld(Shell::Zsh);
        assert!(
            zsh.contains("'-etcd-cafile=[") && zsh.starts_with("#compdef flanneld\n"),
            "{zsh}"
        );
        assert!(flanneld(Shell::Elvish).contains("--etcd-cafile"));
        let mut command = super::super::rflannel::command();
        assert_eq!(
            tool(Shell::Zsh, &mut command)
                .matches(":_rflannel_hosts'")
                .count(),
            6
        );
        assert!(tool(Shell::Fish, &mut command).ends_with(FISH_HOSTS));
    }
}
