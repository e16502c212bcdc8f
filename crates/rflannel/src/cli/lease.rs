//! Implements `rflannel lease`: the leases of a cluster in etcd.

mod commit;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use self::commit::{Consent, carry_out};
use super::etcd_session::{
    self, CommandError, EXITS, EtcdSession, force_arg, json_arg, say, with_exits, yes_arg,
};
use super::{settings, text};
use crate::admin::plan::{self, Plan};
use crate::admin::{Inventory, InventoryEntry, Refusal, lookup, show};

const WHICH: &str = "A subnet, a key, a public IP, a host name, or the address of a pod";

pub fn command() -> Command {
    Command::new("lease")
        .about("List, reserve, release, and move the cluster's leases in etcd")
        .after_help(EXITS)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            Command::new("list")
                .about("List all leases with their owners and problems")
                .arg(json_arg()),
            Command::new("show")
                .about("Show everything about one lease")
                .args([which_arg(), json_arg()]),
            reserve_command(),
            Command::new("unreserve")
                .about("Turn a reservation into a lease that expires")
                .args([which_arg(), yes_arg()]),
            Command::new("release")
                .about("Delete the lease of a host that no longer exists")
                .args([
                    which_arg(),
                    yes_arg(),
                    force_arg("Also if the host may be alive"),
                ]),
            Command::new("move")
                .about("Give a stopped host another subnet")
                .args([
                    which_arg(),
                    to_arg(),
                    yes_arg(),
                    force_arg("Also if the host may be alive"),
                ]),
        ])
        .mut_subcommands(|command| with_exits(command.args(settings::args())))
}

fn reserve_command() -> Command {
    let address = |name: &'static str| Arg::new(name).long(name).value_name("ADDRESS");
    Command::new("reserve")
        .about("Turn a lease into a reservation, which never expires, or reserve a free subnet for a future host")
        .args([
            which_arg(),
            address("public-ip").value_parser(value_parser!(Ipv4Addr)).help(
                "Reserve WHICH, a free subnet, for the host that will announce this address",
            ),
            address("public-ipv6").value_parser(value_parser!(Ipv6Addr)).help("The same for an IPv6 address"),
            yes_arg(),
        ])
}

fn which_arg() -> Arg {
    Arg::new("which")
        .value_name("WHICH")
        .required(true)
        .help(WHICH)
}

fn to_arg() -> Arg {
    Arg::new("to")
        .value_name("SUBNET")
        .required(true)
        .help("The new subnet; for both families, two subnets with a comma between them")
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let done = match matches.subcommand() {
        Some(("list", matches)) => list(matches),
        Some(("show", matches)) => show(matches),
        Some(("reserve", matches)) => edit(matches, reserve),
        Some(("unreserve", matches)) => edit(matches, |inventory, matches| {
            plan::unreserve(found(inventory, matches)?)
        }),
        Some(("release", matches)) => edit(matches, |inventory, matches| {
            plan::release(found(inventory, matches)?)
        }),
        Some(("move", matches)) => edit(matches, relocate),
        _ => Err(CommandError::Usage(
            "no command was given; see rflannel lease --help".into(),
        )),
    };
    etcd_session::end(done.map(|()| ExitCode::SUCCESS))
}

fn list(matches: &ArgMatches) -> Result<(), CommandError> {
    let settings = settings::announced(matches)?;
    let inventory = EtcdSession::of(&settings.config)?.inventory()?;
    say(&if matches.get_flag("json") {
        settings.in_json(&show::json(&inventory))
    } else {
        show::table(&inventory)
    })
}

fn show(matches: &ArgMatches) -> Result<(), CommandError> {
    let settings = settings::announced(matches)?;
    let inventory = EtcdSession::of(&settings.config)?.inventory()?;
    let entry = found(&inventory, matches)?;
    say(&if matches.get_flag("json") {
        settings.in_json(&show::json_of(&inventory, entry))
    } else {
        show::details(&inventory, entry)
    })
}

fn found<'a>(
    inventory: &'a Inventory,
    matches: &ArgMatches,
) -> Result<&'a InventoryEntry, Refusal> {
    lookup::entry(inventory, text(matches, "which")).map_err(Refusal::Wrong)
}

/// Turns an existing lease into a reservation, or reserves a free subnet for the named host.
fn reserve(inventory: &Inventory, matches: &ArgMatches) -> Result<Plan, Refusal> {
    let (v4, v6) = (
        matches.get_one("public-ip").copied(),
        matches.get_one("public-ipv6").copied(),
    );
    let subnets = lookup::subnets(text(matches, "which"));
    match (lookup::entry(inventory, text(matches, "which")), subnets) {
        (Ok(_), _) if v4.is_some() || v6.is_some() => Err(Refusal::Wrong(format!(
            "{} is leased: reserve it for its host without --public-ip",
            text(matches, "which")
        ))),
        (Ok(entry), _) => plan::reserve(entry),
        (Err(_), Ok(subnets)) => plan::reserve_for(inventory, subnets, v4, v6),
        (Err(why), Err(_)) => Err(Refusal::Wrong(why)),
    }
}

fn relocate(inventory: &Inventory, matches: &ArgMatches) -> Result<Plan, Refusal> {
    let to = lookup::subnets(text(matches, "to")).map_err(Refusal::Wrong)?;
    plan::relocate(inventory, found(inventory, matches)?, to)
}

fn edit(
    matches: &ArgMatches,
    decide: fn(&Inventory, &ArgMatches) -> Result<Plan, Refusal>,
) -> Result<(), CommandError> {
    let force = matches
        .try_get_one::<bool>("force")
        .ok()
        .flatten()
        .is_some_and(|force| *force);
    let consent = Consent {
        yes: matches.get_flag("yes"),
        force,
    };
    let session = EtcdSession::open(matches)?;
    carry_out(&session, consent, |inventory| decide(inventory, matches))
}
