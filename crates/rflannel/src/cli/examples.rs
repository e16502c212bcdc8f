//! Lists examples for the help and the manual page of every command. Pure.

use clap::Command;

/// Examples, one a line, each after the words of its command below `rflannel`.
const EXAMPLES: &str = "\
: rflannel status
: rflannel check h2
: rflannel lease list
: rflannel lab up --keep
mk-docker-opts: rflannel mk-docker-opts -k DOCKER_NETWORK_OPTIONS -d /run/flannel/docker
status: rflannel status
status: rflannel status --peers
status: rflannel status --brief --wait=60 && systemctl restart docker
status: rflannel status --json | jq .state
check: rflannel check
check: rflannel check h2
check: rflannel check 172.30.5.7
check: rflannel check --all
check: rflannel check --underlay 10.64.3.8
check: rflannel check --output=junit >check.xml
lease: rflannel lease list
lease: rflannel lease show h2
lease list: rflannel lease list
lease list: rflannel lease list --json | jq '.leases[].owner'
lease show: rflannel lease show h2
lease show: rflannel lease show 172.30.5.0/24
lease reserve: rflannel lease reserve h2 --yes
lease reserve: rflannel lease reserve 172.30.9.0/24 --public-ip=10.64.3.9 --yes
lease unreserve: rflannel lease unreserve h2 --yes
lease release: rflannel lease release h2
lease release: rflannel lease release 172.30.5.0/24 --yes
lease move: rflannel lease move h2 172.30.77.0/24 --yes
config: rflannel config get
config: rflannel config set new.json
config get: rflannel config get
config get: rflannel config get --context production
config validate: rflannel config validate new.json
config validate: rflannel config get | rflannel config validate
config set: rflannel config set new.json
config set: rflannel config set new.json --yes
support-bundle: rflannel support-bundle
support-bundle: rflannel support-bundle -o - | ssh desk 'cat >bundle.tar.gz'
handover: rflannel handover
handover: systemctl stop flanneld && rflannel handover --yes
lab: rflannel lab up --keep
lab: rflannel lab exec h1 -- rflannel status
lab: rflannel lab break port-blocked h2
lab: rflannel lab exec h1 -- rflannel check
lab: rflannel lab mend h2
lab: rflannel lab down
lab up: rflannel lab up
lab up: rflannel lab up --hosts 5 --keep -- -v=1
lab exec: rflannel lab exec h1 -- rflannel check
lab exec: rflannel lab exec --pod h2 -- ping -c1 172.30.5.2
lab ps: rflannel lab ps
lab down: rflannel lab down
lab down: rflannel lab down --all
lab stop: rflannel lab stop h2
lab start: rflannel lab start h2
lab cut: rflannel lab cut h2
lab break: rflannel lab break mtu h2 && rflannel lab exec h1 -- rflannel check
lab mend: rflannel lab mend h2
node-setup: rflannel node-setup plan --config node.toml
node-setup: rflannel node-setup apply --config node.toml --start
node-setup plan: rflannel node-setup plan --config node.toml
node-setup explain: rflannel node-setup explain --cluster-cidr
node-setup etcd-config: rflannel node-setup etcd-config --config node.toml
node-setup diff: rflannel node-setup diff --config node.toml
node-setup apply: rflannel node-setup apply --config node.toml --enable --start
node-setup rollback: rflannel node-setup rollback
node-setup uninstall: rflannel node-setup uninstall
node-setup check: rflannel node-setup check --config node.toml --online
node-setup status: rflannel node-setup status
completions: rflannel completions bash >/usr/share/bash-completion/completions/rflannel
completions: rflannel completions bash flanneld >/usr/share/bash-completion/completions/flanneld
man: rflannel man --output /usr/local/share/man
version: rflannel version
";

/// Beginning of the examples in the help text after the options.
pub(super) const HEADING: &str = "Examples:\n";

/// Returns the examples of the command with these words; empty if there are none.
pub(super) fn of(path: &str) -> String {
    let lines: String = rows()
        .filter(|(name, _)| *name == path)
        .map(|(_, line)| format!("  {line}\n"))
        .collect();
    if lines.is_empty() {
        lines
    } else {
        format!("{HEADING}{lines}")
    }
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    EXAMPLES.lines().filter_map(|row| row.split_once(": "))
}

/// Adds examples to a command and all its subcommands, before the rest of the help text after the options. `path` is the words of the
/// command below `rflannel`.
pub(super) fn add(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|one| one.get_name().to_owned())
        .collect();
    for name in names {
        let path = format!("{path} {name}");
        command = command.mut_subcommand(name, |subcommand| add(subcommand, path.trim_start()));
    }
    let text = format!("{}\n{}", of(path), rest(&command));
    let text = text.trim_end().to_owned();
    command.after_help(text.clone()).after_long_help(text)
}

/// Returns the help text after the options.
pub(super) fn rest(command: &Command) -> String {
    command
        .get_after_long_help()
        .or_else(|| command.get_after_help())
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(command: &Command, path: &str, check: &mut impl FnMut(&str, &Command)) {
        check(path, command);
        for one in command
            .get_subcommands()
            .filter(|one| one.get_name() != "help")
        {
            visit(
                one,
                format!("{path} {}", one.get_name()).trim_start(),
                check,
            );
        }
    }

    #[test]
    fn every_command_has_examples_that_it_accepts() {
        let tool = super::super::rflannel::command();
        let mut paths = Vec::new();
        visit(&tool, "", &mut |path, command| {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.starts_with(HEADING),
                "{path:?} has no examples: add a row"
            );
            paths.push(path.to_owned());
        });
        assert_eq!(rows().count(), EXAMPLES.lines().count());
        for (path, line) in rows() {
            assert!(
                paths.iter().any(|known| known == path),
                "there is no command {path:?}"
            );
            let parts = line.split(" && ").flat_map(|line| line.split(" | "));
            for line in parts
                .filter(|line| line.starts_with("rflannel ") && !line.contains("mk-docker-opts"))
            {
                let line = line.split(" >").next().unwrap_or_default();
                let words = shlex::split(line).unwrap();
                let parsed = tool.clone().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }
}
