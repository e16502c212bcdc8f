//! The page of `flanneld`, from the table of its flags: pure.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::{Page, SOURCE, text};
use flanneld::cli::flag_table::{EXAMPLE, FLAGS, Flag, Kind, VARIABLE_PREFIX};

const ABOUT: &str = "\
flanneld gives this host a subnet of the overlay network, tells the other hosts of it in etcd, and keeps the kernel's routes,
neighbours and forwarding entries to all of them. It takes the place of flannel's daemon of the same name: flags, variables,
keys, values, files and device are the same.

It waits for what can pass, and says for what: etcd, the network's configuration, an interface. Stopping, crashing and
restarting leave the overlay as it is: packets flow on. With systemd it is a service of Type=notify, ready when lease, device
and files are there.";

const GRAMMAR: &str = "\
Each flag can be given with one dash or two, as -flag=value or -flag value; a boolean only as -flag or -flag=false. Of
several equal flags the last one counts, but for those that may be repeated.";

const FILES: &str = "
  /etc/default/flanneld  settings that the unit reads, one variable for each flag
  /run/flannel/subnet.env  subnet, network and MTU, for CNI plugins and mk-docker-opts.sh (-subnet-file)
  /run/flannel/docker  docker's options (-docker-opts-file, given by the unit)
  /run/flannel/subnet.sock  what rflannel status asks (-status-socket)
  /var/lib/flannel/subnet.json  lease and peers, for a start while etcd is away (-state-file)";

const KEYS: &str = "
Below -etcd-prefix:
  config  the network's configuration in JSON, written once per cluster
  subnets/  the lease of each host, as flannel writes it
  owners/  beside each lease, which machine has it";

const SIGNALS: &str = "
  SIGTERM, SIGINT  end; lease, device, entries, rules and files stay";

const EXITS: &str = "
  0  asked to end
  1  what cannot pass: no privilege, another daemon on the device, a broken certificate file
  2  a wrong flag or variable, told in one line";

/// The page.
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

/// `-flag=TEXT [default: …]`, and below it what it does.
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
        "Where a flag is not given, its variable counts unless it is empty: {VARIABLE_PREFIX} and the flag's name in capitals, \
         with _ for -, such as {VARIABLE_PREFIX}ETCD_ENDPOINTS. -version and -help have none."
    );
    roff.control("SH", ["ENVIRONMENT"]).text([roman(text)]);
}
