//! Every flag that `flanneld` knows, as data; the clap command, the help and the table in docs/reference/flags.md made of it.

use std::ffi::OsString;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, value_parser};

use super::go_flags::{parse_bool, parse_int};
use crate::config::{DockerOptsFile, OnLeaseLost, TxChecksum};
use crate::util::logging::Format;

/// What a flag takes, and what it has when it is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One text; the last one given wins.
    Text(&'static str),
    /// One of a few words.
    Word(&'static [&'static str]),
    /// Name of a file; any bytes.
    Path(&'static str),
    /// One text each time it is given.
    List,
    /// Off, unless given.
    Bool,
    /// On, unless given as false.
    On,
    Int(&'static str),
}

/// What this release makes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Does what it says.
    Works,
    /// Only means something beside a flag that is refused: taken, and of no consequence.
    Idle,
    /// Refused if it asks for anything: there is only etcd.
    Kubernetes,
    /// Refused if it asks for anything; what took its place.
    Gone(&'static str),
    /// Taken with a warning that says why.
    NoEffect(&'static str),
    /// `-logtostderr`: taken with a warning when true, refused when false.
    OnlyTrue(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    pub kind: Kind,
    pub support: Support,
    /// One sentence for the help list.
    pub help: &'static str,
}

impl Flag {
    pub fn variable(&self) -> String {
        format!(
            "{VARIABLE_PREFIX}{}",
            self.name.to_ascii_uppercase().replace('-', "_")
        )
    }

    /// Whether the environment may set it.
    pub fn from_environment(&self) -> bool {
        !["help", "version"].contains(&self.name)
    }

    /// Whether help and manual name it.
    pub fn visible(&self) -> bool {
        matches!(
            self.support,
            Support::Works | Support::Kubernetes | Support::Idle
        )
    }

    fn to_arg(self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .help(self.help)
            .hide(!self.visible());
        let default = if self.support == Support::Works {
            self.default()
        } else {
            ""
        };
        let arg = if default.is_empty() {
            arg
        } else {
            arg.default_value(default)
        };
        match self.kind {
            Kind::Text(_) => arg.value_name("TEXT").value_parser(value_parser!(String)),
            Kind::Word(words) => arg
                .value_name("WORD")
                .value_parser(PossibleValuesParser::new(words)),
            Kind::Path(_) => arg.value_name("FILE").value_parser(value_parser!(OsString)),
            Kind::List => arg.value_name("TEXT").action(ArgAction::Append),
            Kind::Bool | Kind::On => arg
                .value_name("BOOL")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(parse_bool),
            Kind::Int(_) => arg.value_name("INT").value_parser(parse_int),
        }
    }

    /// What it has when it is not given; empty for nothing.
    pub fn default(&self) -> &'static str {
        match self.kind {
            Kind::Text(default) | Kind::Path(default) | Kind::Int(default) => default,
            Kind::Word(words) => words.first().copied().unwrap_or_default(),
            Kind::On => "true",
            Kind::List | Kind::Bool => "",
        }
    }
}

/// What the name of each flag's environment variable starts with.
pub const VARIABLE_PREFIX: &str = "FLANNELD_";

const MULTI_NETWORK: Support =
    Support::Gone("run one flanneld for each network, with its own -etcd-prefix and -subnet-file");
const CLIENT_SERVER: Support = Support::Gone(
    "connect each flanneld to etcd itself: -etcd-endpoints, -etcd-cafile, -etcd-certfile, -etcd-keyfile",
);
const STDERR: &str = "flanneld logs to stderr only";
const NO_VMODULE: &str = "-v sets the verbosity of all modules";

const fn flag(name: &'static str, kind: Kind, support: Support, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        support,
        help,
    }
}

const fn works(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    flag(name, kind, Support::Works, help)
}

const fn kube(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    flag(name, kind, Support::Kubernetes, help)
}

const fn hidden(name: &'static str, kind: Kind, support: Support) -> Flag {
    flag(name, kind, support, "")
}

/// All flags under their headings, in the order of the help list.
pub const FLAGS: &[(&str, &[Flag])] = &[
    ("etcd", ETCD),
    ("This host", HOST),
    ("Firewall", FIREWALL),
    ("Files", FILES),
    ("Output", OUTPUT),
    ("Health, metrics, and status", WINDOWS),
    ("Not supported (rejected unless unset or false)", NOT_YET),
    ("", NO_MORE),
];

const ETCD: &[Flag] = &[
    works(
        "etcd-endpoints",
        Kind::Text("http://127.0.0.1:4001,http://127.0.0.1:2379"),
        "URLs of the etcd members, separated by commas",
    ),
    works(
        "etcd-prefix",
        Kind::Text("/coreos.com/network"),
        "Prefix of all keys in etcd",
    ),
    works(
        "etcd-cafile",
        Kind::Path(""),
        "PEM file with the CA that signed the certificates of etcd",
    ),
    works(
        "etcd-certfile",
        Kind::Path(""),
        "PEM file with the client certificate",
    ),
    works(
        "etcd-keyfile",
        Kind::Path(""),
        "PEM file with the key of the client certificate",
    ),
    works("etcd-username", Kind::Text(""), "User name for etcd"),
    works(
        "etcd-password",
        Kind::Text(""),
        "Password for etcd; use the variable FLANNELD_ETCD_PASSWORD to keep it out of the process list",
    ),
    works(
        "subnet-lease-renew-margin",
        Kind::Int("60"),
        "Renew the lease at least this many minutes before it expires, 1 to 1439",
    ),
    works(
        "on-lease-lost",
        Kind::Word(&OnLeaseLost::NAMES),
        "Reaction when another host holds the key of this host, or an administrator has moved the lease: hold (keep \
         serving, and take the key back when it is free), move (lease another subnet; docker must be restarted), or \
         exit (with status 1; packets keep flowing)",
    ),
];

const HOST: &[Flag] = &[
    works(
        "iface",
        Kind::List,
        "Interface for traffic between hosts, by name or IP address. May be repeated: the first usable one is taken. \
         Without it: the interface of the default route",
    ),
    works(
        "iface-regex",
        Kind::List,
        "Regular expression (RE2 syntax, unanchored) for the interface, used if no -iface matches. The first interface \
         with a matching address is taken, otherwise the first one with a matching name. May be repeated",
    ),
    works(
        "iface-can-reach",
        Kind::Text(""),
        "IP address: take the interface that the kernel routes to it through, if -iface and -iface-regex match nothing",
    ),
    works(
        "public-ip",
        Kind::Text(""),
        "IPv4 address at which other hosts reach this host. Without -iface it also selects the interface that has the \
         address. If no interface has it (a router translates it), the interface of the default route is taken. \
         Default: the address of the interface",
    ),
    works(
        "public-ipv6",
        Kind::Text(""),
        "IPv6 address at which other hosts reach this host. Default: the address of the interface",
    ),
    works(
        "ip-blackhole-route",
        Kind::Bool,
        "Drop packets to addresses of this host's subnet that have no route on this host",
    ),
    works(
        "tx-checksum",
        Kind::Word(&TxChecksum::NAMES),
        "Checksum offload (tx-checksum-ip-generic) of the overlay devices: on, off (needs ethtool; costs most of the \
         throughput), or auto (off on kernels before 5.7, which write wrong checksums into masqueraded packets)",
    ),
];

const FIREWALL: &[Flag] = &[
    works(
        "ip-masq",
        Kind::Bool,
        "Masquerade traffic from pods to addresses outside the overlay, and turn off docker's masquerading",
    ),
    works(
        "ip-masq-fully-random-disable",
        Kind::Bool,
        "Masquerade without random source ports",
    ),
    works(
        "iptables-forward-rules",
        Kind::On,
        "Add rules that accept forwarded packets of the overlay, whatever the policy of the FORWARD chain",
    ),
    works(
        "iptables-resync",
        Kind::Int("5"),
        "Check the rules of iptables-legacy every so many seconds. Changes of nftables and iptables-nft are detected at once",
    ),
    works(
        "vxlan-source-filter",
        Kind::Bool,
        "Drop VXLAN packets whose source is not the public address of a peer with a lease; needs nft",
    ),
];

const FILES: &[Flag] = &[
    works(
        "subnet-file",
        Kind::Path("/run/flannel/subnet.env"),
        "File to write the network, subnet, and MTU of this host to",
    ),
    works(
        "docker-opts-file",
        Kind::Path(""),
        "File to write docker's options to, as mk-docker-opts.sh does",
    ),
    works(
        "state-file",
        Kind::Path(""),
        "File with the lease and the peers, for a start while etcd is not reachable; none to keep no such file. Default: /var/lib/flannel/subnet.json, or a name derived from -subnet-file if that is set",
    ),
    works(
        "docker-opts-key",
        Kind::Text(DockerOptsFile::DEFAULT_KEY),
        "Name of the variable in -docker-opts-file that contains docker's options",
    ),
];

const OUTPUT: &[Flag] = &[
    works(
        "v",
        Kind::Int("0"),
        "Log verbosity: 1 logs each operation, 4 each message",
    ),
    works(
        "log-format",
        Kind::Word(&Format::NAMES),
        "Format of log lines",
    ),
    works("version", Kind::Bool, "Print the version and exit"),
    works("help", Kind::Bool, "Print this help and exit"),
];

const WINDOWS: &[Flag] = &[
    works(
        "healthz-port",
        Kind::Int("0"),
        "TCP port of /healthz, /readyz, and /metrics; 0 turns them off",
    ),
    works(
        "healthz-ip",
        Kind::Text("0.0.0.0"),
        "IP address on which -healthz-port listens",
    ),
    works(
        "status-socket",
        Kind::Path(""),
        "Unix socket for rflannel status, accessible to root only; none for no socket. Default: /run/flannel/subnet.sock, or a name derived from -subnet-file if that is set",
    ),
    works(
        "probe-interval",
        Kind::Int("0"),
        "Send an ICMP echo request to each peer through the overlay every so many seconds, for metrics and status; 0 turns probes off",
    ),
];

const NOT_YET: &[Flag] = &[
    kube(
        "kube-subnet-mgr",
        Kind::Bool,
        "Take subnets from Kubernetes instead of etcd",
    ),
    kube(
        "kube-api-url",
        Kind::Text(""),
        "URL of the Kubernetes API server",
    ),
    kube(
        "kubeconfig-file",
        Kind::Path(""),
        "Kubeconfig file for the Kubernetes API server",
    ),
    kube(
        "kube-annotation-prefix",
        Kind::Text("flannel.alpha.coreos.com"),
        "Prefix of node annotations",
    ),
    kube(
        "net-config-path",
        Kind::Path("/etc/kube-flannel/net-conf.json"),
        "File with the network configuration",
    ),
    kube(
        "use-multi-cluster-cidr",
        Kind::Bool,
        "Take subnets from ClusterCIDR objects",
    ),
    flag(
        "set-node-network-unavailable",
        Kind::Bool,
        Support::Idle,
        "Clear the condition NetworkUnavailable of the Kubernetes node",
    ),
];

const NO_MORE: &[Flag] = &[
    hidden("networks", Kind::Text(""), MULTI_NETWORK),
    hidden("watch-networks", Kind::Bool, MULTI_NETWORK),
    hidden("subnet-dir", Kind::Path(""), MULTI_NETWORK),
    hidden("listen", Kind::Text(""), CLIENT_SERVER),
    hidden("remote", Kind::Text(""), CLIENT_SERVER),
    hidden("remote-keyfile", Kind::Path(""), CLIENT_SERVER),
    hidden("remote-certfile", Kind::Path(""), CLIENT_SERVER),
    hidden("remote-cafile", Kind::Path(""), CLIENT_SERVER),
    hidden(
        "log_dir",
        Kind::Path(""),
        Support::Gone("flanneld logs to stderr only; redirect stderr"),
    ),
    hidden("logtostderr", Kind::Bool, Support::OnlyTrue(STDERR)),
    hidden("alsologtostderr", Kind::Bool, Support::NoEffect(STDERR)),
    hidden("stderrthreshold", Kind::Text(""), Support::NoEffect(STDERR)),
    hidden("vmodule", Kind::Text(""), Support::NoEffect(NO_VMODULE)),
    hidden(
        "log_backtrace_at",
        Kind::Text(""),
        Support::NoEffect("flanneld logs no backtraces"),
    ),
];

/// All flags, without their headings.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().flat_map(|(_, flags)| flags.iter())
}

/// The clap command of `flanneld`, with double dashes: [`super::go_flags`] stands in front of it.
pub fn command() -> Command {
    let command = Command::new("flanneld")
        .about("Overlay network daemon for containers: a drop-in replacement for flannel's flanneld with etcd v3")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .next_line_help(true)
        .max_term_width(100);
    FLAGS.iter().fold(command, |command, (heading, flags)| {
        command
            .next_help_heading(*heading)
            .args(flags.iter().map(|flag| flag.to_arg()))
    })
}

/// The list that `-help` prints: clap's, with the single dashes that Go prints.
pub fn help() -> String {
    let after = format!(
        "Flags take one dash or two: -flag=value or -flag value. A boolean takes -flag or -flag=false. A flag that \
         is not given is read from its environment variable, unless that is empty. The name of the variable is \
         {VARIABLE_PREFIX} and the flag in capitals with _ for -, such as {VARIABLE_PREFIX}ETCD_ENDPOINTS.\n\n\
         Examples:\n  {}",
        EXAMPLE.join("\n  ")
    );
    let mut command = command()
        .help_template("Usage: flanneld [OPTION]...\n\n{about}\n\n{all-args}{after-help}")
        .after_help(after);
    let text = command.render_help().to_string();
    text.replace("\n      --", "\n  -")
}

/// For help and manual page.
pub const EXAMPLE: &[&str] = &[
    "flanneld -etcd-endpoints=https://10.64.3.7:2379 \\",
    "    -etcd-cafile=/etc/kubernetes/ssl/ca.pem \\",
    "    -etcd-certfile=/etc/kubernetes/ssl/kubernetes.pem \\",
    "    -etcd-keyfile=/etc/kubernetes/ssl/kubernetes-key.pem \\",
    "    -etcd-prefix=/kubernetes/network -iface=eth0",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::fs;

    use super::*;

    #[test]
    fn clap_accepts_the_command() {
        command().debug_assert();
    }

    #[test]
    fn no_name_appears_twice() {
        let names: BTreeSet<&str> = flags().map(|flag| flag.name).collect();
        assert_eq!(names.len(), flags().count());
    }

    #[test]
    fn help_lists_each_visible_flag_with_one_dash() {
        let help = help();
        for flag in flags() {
            let listed = help.lines().any(|line| {
                line.strip_prefix("  -")
                    .and_then(|line| line.strip_prefix(flag.name))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '[']))
            });
            assert_eq!(listed, flag.visible(), "-{}:\n{help}", flag.name);
        }
        assert!(
            help.starts_with("Usage: flanneld [OPTION]...\n") && !help.contains("--"),
            "{help}"
        );
    }

    /// The table of flags in `docs/reference/flags.md`.
    fn markdown_table() -> String {
        let mut out =
            String::from("| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n");
        let code = |text: &str| {
            if text.is_empty() {
                String::new()
            } else {
                format!("`{text}`")
            }
        };
        for (heading, flags) in FLAGS.iter().filter(|(heading, _)| !heading.is_empty()) {
            let _ = writeln!(out, "| **{heading}** | | | |");
            for flag in flags.iter().filter(|flag| flag.visible()) {
                let variable = if flag.from_environment() {
                    flag.variable()
                } else {
                    String::new()
                };
                let (name, default) = (flag.name, code(flag.default()));
                let _ = writeln!(
                    out,
                    "| `-{name}` | {} | {default} | {} |",
                    code(&variable),
                    flag.help
                );
            }
        }
        out
    }

    /// `UPDATE_EXPECT=1` writes the table instead of comparing it.
    #[test]
    fn the_reference_lists_each_visible_flag() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/flags.md");
        let page = fs::read_to_string(path).unwrap();
        let (head, rest) = page.split_once("<!-- flags -->\n").unwrap();
        let (table, tail) = rest.split_once("<!-- /flags -->").unwrap();
        let want = markdown_table();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(
                path,
                format!("{head}<!-- flags -->\n{want}<!-- /flags -->{tail}"),
            )
            .unwrap();
        } else {
            assert_eq!(table, want, "run this test with UPDATE_EXPECT=1");
        }
    }
}
