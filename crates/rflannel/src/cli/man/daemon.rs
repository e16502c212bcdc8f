//! Renders the page of `flanneld` from the table of its flags. Pure.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::{Page, SOURCE, text};
use flanneld::cli::flag_table::{EXAMPLE, FLAGS, Flag, Kind, VARIABLE_PREFIX};

const ABOUT: &str = "\
flanneld leases a subnet of the overlay network for this host, publishes it in etcd, and maintains routes, neighbor entries, and FDB
entries for all other hosts in the kernel. It replaces flannel's daemon with the same name: flags, variables, keys, values, files, and
the device are the same.

It waits for etcd, the network configuration, or an interface, and reports what it waits for. Stops, crashes, and
restarts leave the overlay as it is, and packets keep flowing. With systemd it is a service of Type=notify, ready when the lease, the
device, and the files exist.";

const GRAMMAR: &str = "\
Each flag can be given with one dash or two, as -flag=value or -flag value; a boolean only as -flag or -flag=false. If
a flag is given more than once, the last one counts, except for flags that may be repeated.";

const FILES: &str = "
  /etc/default/flanneld  settings that the unit reads, one variable for each flag
  /run/flannel/subnet.env  subnet, network, and MTU, for CNI plugins and mk-docker-opts.sh (-subnet-file)
  /run/flannel/docker  options for docker (-docker-opts-file, set by the unit)
  /run/flannel/subnet.sock  status socket, which rflannel status reads (-status-socket)
  /var/lib/flannel/subnet.json  state file with lease and peers, for a start without etcd (-state-file)";

const KEYS: &str = "
Below -etcd-prefix:
  config  the network configuration in JSON, written once per cluster
  subnets/  the lease of each host, as flannel writes it
  owners/  an owner record for each lease, which names the machine that holds it";

const SIGNALS: &str = "
  SIGTERM, SIGINT  exit; lease, device, entries, rules, and files remain";

const EXITS: &str = "
  0  stopped by a signal
  1  an error that does not pass: missing privilege, another daemon on the device, an invalid certificate file
  2  a wrong flag or variable, reported in one line";

pub(super) fn page(date: &str) -> Page {
    let mut roff = Roff::new();
    roff.control(
        "TH",
        ["flanneld", "8", date, SOURCE, "System Administration"],
    );
    roff.control("SH", ["NAME"]).text([roman(
        "flanneld - overlay network daemon for etcd and vxlan",
    )]);
    roff.control("SH", ["SYNOPSIS"]).text([
        bold("flanneld"),
        roman(" ["),
        italic("flag"),
        roman("]..."),
    ]);
    text::append(roff.control("SH", ["DESCRIPTION"]), ABOUT);
    text::append(roff.control("SH", ["OPTIONS"]), GRAMMAR);
    for (heading, flags) in FLAGS.iter().filter(|(heading, _)| !heading.is_empty()) {
        roff.control("SS", [*heading]);
        flags
            .iter()
            .filter(|flag| flag.visible())
            .for_each(|flag| option(&mut roff, flag));
    }
    environment(&mut roff);
    for (heading, list) in [
        ("FILES", FILES),
        ("KEYS", KEYS),
        ("SIGNALS", SIGNALS),
        ("EXIT STATUS", EXITS),
    ] {
        text::append(roff.control("SH", [heading]), list.trim_start_matches('\n'));
    }
    roff.control("SH", ["EXAMPLE"]).control("nf", []);
    for line in EXAMPLE {
        roff.text([roman(*line)]);
    }
    roff.control("fi", []).control("SH", ["SEE ALSO"]);
    roff.text([
        bold("rflannel"),
        roman("(1), "),
        bold("rflannel-status"),
        roman("(1), "),
        bold("systemctl"),
        roman("(1)"),
    ]);
    Page {
        name: "flanneld".into(),
        section: "8",
        text: roff.render().into_bytes(),
    }
}

/// Renders `-flag=TEXT [default: …]` and its description.
fn option(roff: &mut Roff, flag: &Flag) {
    let mut head = vec![bold(format!("-{}", flag.name))];
    head.extend(value(flag.kind));
    match flag.default() {
        "" => (),
        default => head.push(roman(format!(" [default: {default}]"))),
    }
    roff.control("TP", []).text(head).text([roman(flag.help)]);
}

fn value(kind: Kind) -> Vec<Inline> {
    match kind {
        Kind::Text(_) | Kind::List => vec![roman("="), italic("text")],
        Kind::Path(_) => vec![roman("="), italic("file")],
        Kind::Int(_) => vec![roman("="), italic("number")],
        Kind::Word(words) => vec![roman("="), roman(words.join("|"))],
        Kind::Bool | Kind::On => vec![roman("[="), italic("bool"), roman("]")],
    }
}

fn environment(roff: &mut Roff) {
    let text = format!(
        "If a flag is not given, its variable is used unless it is empty: {VARIABLE_PREFIX} and the flag's name in capitals, \
         with _ for -, such as {VARIABLE_PREFIX}ETCD_ENDPOINTS. -version and -help have no variable."
    );
    roff.control("SH", ["ENVIRONMENT"]).text([roman(text)]);
}
