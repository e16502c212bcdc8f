//! Completion scripts for the usual shells: pure.
//!
//! clap writes those of `rflannel`, and knows flags with two dashes only: `flanneld` takes one, as all documents write it, so its
//! scripts are made here from the flag table.

use clap_complete::Shell;

use super::flag_table::{self, Flag, Kind, Standing};

/// Completes hosts of labs that are up, which only `rflannel lab ps` knows.
const HOSTS: &str = r#"
_rflannel_with_hosts() {
    local cur=${COMP_WORDS[COMP_CWORD]} kinds=
    case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in
    "lab break") kinds="@KINDS@" ;&
    "lab exec" | "lab stop" | "lab start" | "lab cut" | "lab mend")
        if [[ $COMP_CWORD -gt 2 && $cur != -* && " ${COMP_WORDS[*]:3:COMP_CWORD-3} " != *" -- "* ]]; then
            local hosts=$(rflannel lab ps 2>/dev/null | awk '/^  /{print $1}')
            COMPREPLY=($(compgen -W "$kinds $hosts" -- "$cur"))
            return
        fi
        ;;
    esac
    _rflannel "$@"
}
complete -F _rflannel_with_hosts -o bashdefault -o default rflannel
"#;

const BASH: &str = r#"_flanneld() {
    local cur=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD-1]}
    # bash makes a word of an equal sign.
    case $cur in =) cur= ;; esac
    case $flag in =) flag=${COMP_WORDS[COMP_CWORD-2]} ;; esac
    COMPREPLY=()
    case ${flag#-} in
@VALUES@    esac
    case $cur in
    --*) COMPREPLY=($(compgen -P -- -W "@FLAGS@" -- "${cur#--}")) ;;
    *) COMPREPLY=($(compgen -P - -W "@FLAGS@" -- "${cur#-}")) ;;
    esac
}
complete -F _flanneld -o filenames flanneld
"#;

/// Hosts for the script that clap wrote for `rflannel`.
pub(super) fn with_hosts(shell: Shell, kinds: &[&str]) -> String {
    if shell == Shell::Bash { HOSTS.replace("@KINDS@", &kinds.join(" ")) } else { String::new() }
}

/// The script for `flanneld`; none for a shell that has to do with clap's.
pub(super) fn flanneld(shell: Shell) -> Option<String> {
    let flags: Vec<&Flag> = flag_table::flags().filter(|flag| flag.standing == Standing::Works).collect();
    if shell == Shell::Bash {
        return Some(bash(&flags));
    }
    if shell == Shell::Fish {
        return Some(flags.iter().map(|flag| fish(flag)).collect());
    }
    (shell == Shell::Zsh).then(|| zsh(&flags))
}

/// Values that complete a flag: words, or files.
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

fn bash(flags: &[&Flag]) -> String {
    let value = |flag: &&&Flag| {
        let name = flag.name;
        // A boolean takes a value behind an equal sign only.
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
    BASH.replace("@VALUES@", &values).replace("@FLAGS@", &names.join(" "))
}

fn fish(flag: &Flag) -> String {
    let help = flag.help.replace('\'', "\\'");
    let values = match values(flag) {
        _ if is_bool(flag) => String::new(),
        Values::Words(words) => format!(" -x -a '{words}'"),
        Values::Files => " -r -F".into(),
        Values::Any => " -x".into(),
    };
    format!("complete -c flanneld -o {}{values} -d '{help}'\n", flag.name)
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
    format!("#compdef flanneld\n\n_arguments \\\n{}\n", specs.join(" \\\n"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What bash offers for these words.
    fn offered(words: &[&str]) -> Vec<String> {
        let script = flanneld(Shell::Bash).unwrap();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; _flanneld; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len() - 1
        );
        let output = Command::new("bash").args(["-c", &line]).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_one_dash_and_values() {
        let etcd = offered(&["flanneld", "-etcd-c"]);
        assert_eq!(etcd, ["-etcd-cafile", "-etcd-certfile"]);
        assert_eq!(offered(&["flanneld", "--etcd-ca"]), ["--etcd-cafile"]);
        assert_eq!(offered(&["flanneld", "-log-format", "=", "j"]), ["json"]);
        assert_eq!(offered(&["flanneld", "-log-format", "t"]), ["text"]);
        assert_eq!(offered(&["flanneld", "-ip-masq", "=", "f"]), ["false"]);
        assert_eq!(offered(&["flanneld", "-ip-masq", "-etcd-ca"]), ["-etcd-cafile"]);
        assert!(offered(&["flanneld", "-etcd-cafile", "=", "/etc/host"]).contains(&"/etc/hosts".to_owned()));
        // v0.7's flags, which are refused.
        assert_eq!(offered(&["flanneld", "-remote"]), [""; 0]);
        assert_eq!(offered(&["flanneld", "-kube-sub"]), [""; 0]);
    }

    #[test]
    fn other_shells_get_one_dash_as_well() {
        let fish = flanneld(Shell::Fish).unwrap();
        assert!(fish.contains("complete -c flanneld -o log-format -x -a 'text json'"), "{fish}");
        let zsh = flanneld(Shell::Zsh).unwrap();
        assert!(zsh.contains("'-etcd-cafile=[") && zsh.starts_with("#compdef flanneld\n"), "{zsh}");
        assert!(flanneld(Shell::Elvish).is_none());
        assert!(with_hosts(Shell::Bash, &["mtu"]).contains("kinds=\"mtu\""));
    }
}
