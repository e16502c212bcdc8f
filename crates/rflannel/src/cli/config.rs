//! Implements `rflannel config`: the network configuration of a cluster in etcd.

use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command};

use super::etcd_session::{
    self, CommandError, EXITS, EtcdSession, force_arg, say, with_exits, yes_arg,
};
use super::{settings, text};
use crate::admin::network::{self, Plan};
use crate::admin::{Inventory, lint, show};
use flanneld::kernel::host_state::LinkFact;
use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::{Kernel, Query};
use flanneld::subnet::etcd::dump::Record;
use flanneld::subnet::etcd::store::Commit;

/// Larger than any configuration; etcd takes no value of more than 1.5 MiB.
const MOST: u64 = 1024 * 1024;

pub fn command() -> Command {
    Command::new("config")
        .about("Get, validate, and set the cluster's network configuration in etcd")
        .after_help(EXITS)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            Command::new("get").about("Print the configuration in etcd, byte for byte").args(settings::args()),
            Command::new("validate")
                .about(
                    "Parse a configuration as the daemon does, print what it means, and warn about likely mistakes; does not \
                     contact etcd",
                )
                .arg(file_arg()),
            Command::new("set")
                .about("Write a configuration to etcd, unless it breaks running leases; print what each host will do")
                .args([file_arg(), yes_arg(), force_arg("Also if running leases break")])
                .args(settings::args()),
        ])
        .mut_subcommands(with_exits)
}

fn file_arg() -> Arg {
    Arg::new("file")
        .value_name("FILE")
        .default_value("-")
        .value_hint(ValueHint::FilePath)
        .help("File with the configuration in JSON; - is standard input")
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let done = match matches.subcommand() {
        Some(("get", matches)) => get(matches),
        Some(("validate", matches)) => validate(matches),
        Some(("set", matches)) => set(matches),
        _ => Err(CommandError::Usage(
            "no command was given; see rflannel config --help".into(),
        )),
    };
    etcd_session::end(done.map(|()| ExitCode::SUCCESS))
}

fn get(matches: &ArgMatches) -> Result<(), CommandError> {
    let (inventory, config) = read(&EtcdSession::open(matches)?)?;
    if let Some(record) = &config {
        say(&(String::from_utf8_lossy(&record.value).trim_end().to_owned() + "\n"))?;
    }
    match inventory.network {
        Ok(_) => Ok(()),
        Err(why) => Err(CommandError::Refused(why)),
    }
}

fn validate(matches: &ArgMatches) -> Result<(), CommandError> {
    let json = input(matches)?;
    let (config, backend) = network::parse(&json).map_err(CommandError::Refused)?;
    let warnings = lint::warnings(&json, &config, &underlay_addresses());
    let warnings = warnings
        .into_iter()
        .map(|warning| format!("warning: {}", show::clean(&warning)));
    let lines: Vec<String> = network::describe(&config, &*backend)
        .into_iter()
        .chain(warnings)
        .collect();
    say(&(lines.join("\n") + "\n"))
}

/// Returns the addresses of this host outside of overlays. Addresses of bridges and VXLAN devices may be inside one.
fn underlay_addresses() -> Vec<(IpAddr, String)> {
    let host_state = Netlink::open()
        .and_then(|mut kernel| kernel.host_state(&Query::default()))
        .unwrap_or_default();
    let is_bridge = |name: &str| {
        Path::new("/sys/class/net")
            .join(name)
            .join("bridge")
            .exists()
    };
    let links = host_state
        .links
        .iter()
        .filter(|link| link.vxlan.is_none() && !is_bridge(&link.name));
    let on = |link: &LinkFact| {
        let addresses = host_state
            .addrs
            .iter()
            .filter(|address| address.link == link.index && !address.link_local);
        addresses
            .map(|address| (address.ip, link.name.clone()))
            .collect::<Vec<_>>()
    };
    links.flat_map(on).collect()
}

fn set(matches: &ArgMatches) -> Result<(), CommandError> {
    let value = input(matches)?;
    let session = EtcdSession::open(matches)?;
    let (inventory, old) = read(&session)?;
    let plan = network::change(&inventory, old.as_ref(), &value)?;
    say(&network::text(&inventory, &plan))?;
    if plan.is_harmful() && !matches.get_flag("force") {
        return Err(CommandError::Refused(
            "refused: the lines above say what breaks; use --force to write it anyway. Nothing was changed".into(),
        ));
    }
    if matches.get_flag("yes") {
        write(&session, &inventory, &plan)
    } else {
        say("nothing was changed; use --yes to apply\n")
    }
}

fn write(session: &EtcdSession, inventory: &Inventory, plan: &Plan) -> Result<(), CommandError> {
    let key = format!("{}/config", inventory.prefix);
    match session.ask(session.manager.write_config(&plan.write))? {
        Commit::Done(revision) => say(&format!("wrote {key}, at revision {revision}\n")),
        Commit::Lost => Err(CommandError::Refused(format!(
            "{key} or a lease changed since they were read: nothing was changed; run the command again"
        ))),
        Commit::Unknown => Err(CommandError::Silent(format!(
            "etcd did not confirm the write of {key}, which may still happen: check with `rflannel config get`"
        ))),
    }
}

/// Reads all leases and the current configuration at one revision.
fn read(session: &EtcdSession) -> Result<(Inventory, Option<Record>), CommandError> {
    let dump = session.ask(session.manager.dump())?;
    let config = dump.config.clone();
    Ok((
        Inventory::read(dump, &Default::default(), session.margin),
        config,
    ))
}

fn input(matches: &ArgMatches) -> Result<Vec<u8>, CommandError> {
    let (name, mut bytes) = (text(matches, "file"), Vec::new());
    let read = match name {
        "-" => io::stdin().take(MOST).read_to_end(&mut bytes),
        path => fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)),
    };
    read.map_err(|error| {
        CommandError::Refused(format!(
            "cannot read the configuration from {}: {error}",
            show::clean(name)
        ))
    })?;
    Ok(bytes)
}
