//! What must hold at all times.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;

use crate::host::{Host, Status, World};

/// A host may serve a subnet that another host has leased meanwhile for as long as it takes to learn of that.
const LEARN: Duration = Duration::from_secs(15);
/// A host may publish an address that is gone for this long: it waits 5 s for its return, and then chooses again.
const CHOOSE: Duration = Duration::from_secs(15);
/// Memory of a daemon, in KiB. With a hundred peers it has about 20 MiB.
const MEMORY: u64 = 64 * 1024;
/// Open files of a daemon. It has about 20.
const FILES: usize = 96;
/// Log lines of one host in one step, which takes less than a minute.
const LINES: usize = 250;

/// Since when two hosts serve overlapping subnets.
pub type Overlaps = BTreeMap<(usize, usize), Instant>;

/// The daemon never exits for what it can wait out.
pub fn no_daemon_ends(world: &mut World) {
    let mut ended = Vec::new();
    for host in &mut world.hosts {
        let is_ours = !host.is_other;
        if let Some(daemon) = host.daemon.as_mut().filter(|_| is_ours)
            && !daemon.process().running()
        {
            let status = daemon.process().wait(Duration::ZERO);
            ended.push(format!(
                "{}: the daemon ended by itself: {status:?}",
                host.name()
            ));
        }
    }
    ended.into_iter().for_each(|what| world.broken(what));
}

/// A daemon that becomes ready has a subnet that no other ready daemon has.
pub fn ready_means_own_subnet(world: &mut World) {
    for index in 0..world.hosts.len() {
        let host = &mut world.hosts[index];
        if !host.is_live() || host.ready_seen == host.starts {
            continue;
        }
        host.ready_seen = host.starts;
        let Some(subnet) = host.subnet() else {
            continue;
        };
        let event = format!("{} is ready, subnet {subnet}", host.name());
        world.story.record(&event);
        let other = world.hosts.iter().enumerate().find(|(other, host)| {
            *other != index && host.is_live() && !host.lost_its_key && overlaps(host, &subnet)
        });
        if let Some((_, other)) = other {
            let what = format!("{event}, which {} serves", other.name());
            world.broken(what);
        }
    }
}

fn overlaps(host: &Host, subnet: &str) -> bool {
    host.subnet()
        .is_some_and(|other| networks_overlap(&other, subnet))
}

/// Whether two networks such as `172.30.1.1/24` share an address.
fn networks_overlap(one: &str, other: &str) -> bool {
    let parse = |text: &str| text.parse::<ipnetwork::Ipv4Network>().ok();
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one.contains(other.network()) || other.contains(one.network()),
        _ => false,
    }
}

/// No two hosts that serve have overlapping subnets, but for the time that one of them needs to learn of it.
pub fn no_two_hosts_share_a_subnet(world: &mut World, since: &mut Overlaps) {
    let serving: Vec<(usize, String)> = world
        .hosts
        .iter()
        .enumerate()
        .filter(|(_, host)| host.serves() && host.status.as_ref().is_none_or(Status::is_watching))
        .filter_map(|(index, host)| Some((index, host.subnet()?)))
        .collect();
    let mut now = Overlaps::new();
    for (place, (one, subnet)) in serving.iter().enumerate() {
        for (other, _) in serving[place + 1..]
            .iter()
            .filter(|(_, other)| networks_overlap(subnet, other))
        {
            let begin = *since.get(&(*one, *other)).unwrap_or(&Instant::now());
            now.insert((*one, *other), begin);
            if begin.elapsed() > LEARN {
                let [one, other] = [one, other].map(|index| world.hosts[*index].name().to_owned());
                world.broken(format!(
                    "{one} and {other} both serve {subnet} for more than {LEARN:?}"
                ));
            }
        }
    }
    *since = now;
}

/// The address in use stays in use while the host has it.
pub fn published_address_is_kept(world: &mut World, index: usize, before: Option<&Status>) {
    let host = &world.hosts[index];
    let published = |status: &Status| status.public_ip();
    let (before, now) = (
        before.and_then(published),
        host.status.as_ref().and_then(published),
    );
    let (Some(before), Some(now)) = (before, now) else {
        return;
    };
    let is_still_there = host
        .addresses
        .get(&before)
        .is_some_and(|since| since.elapsed() > Duration::from_secs(1));
    if before != now && before == host.home && is_still_there {
        let what = format!(
            "{} publishes {now} although it still has {before}",
            host.name()
        );
        world.broken(what);
    }
}

/// No host publishes an address for long that it does not have.
pub fn addresses_are_on_their_hosts(world: &mut World) {
    let mut broken = Vec::new();
    for host in world.hosts.iter_mut().filter(|host| !host.is_other) {
        let absent = |address: &Ipv4Addr| !host.addresses.contains_key(address);
        let published = host.status.as_ref().and_then(Status::public_ip);
        match published.filter(absent).filter(|_| host.serves()) {
            Some(address) => {
                let since = *host.wrong_address.get_or_insert_with(Instant::now);
                if since.elapsed() > CHOOSE {
                    broken.push(format!(
                        "{} publishes {address}, which it does not have",
                        host.name()
                    ));
                }
            }
            None => host.wrong_address = None,
        }
    }
    broken.into_iter().for_each(|what| world.broken(what));
}

/// Memory, open files, and log of each daemon.
pub fn resources_are_bounded(world: &mut World) {
    let mut broken = Vec::new();
    for host in world.hosts.iter_mut().filter(|host| !host.is_other) {
        let name = host.name().to_owned();
        let lines = host.lines();
        if lines > LINES {
            broken.push(format!("{name}: {lines} log lines since the step began"));
        }
        let Some(pid) = host
            .daemon
            .as_mut()
            .and_then(|daemon| daemon.process().pid())
        else {
            continue;
        };
        let memory = resident(pid);
        if memory > MEMORY {
            broken.push(format!("{name}: {memory} KiB of memory"));
        }
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        if files > FILES {
            broken.push(format!("{name}: {files} open files"));
        }
    }
    broken.into_iter().for_each(|what| world.broken(what));
}

/// `VmRSS` of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    value
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn overlap_is_found_in_both_directions() {
    assert!(networks_overlap("172.30.1.1/24", "172.30.1.1/24"));
    assert!(networks_overlap("172.30.0.1/16", "172.30.1.1/24"));
    assert!(networks_overlap("172.30.1.129/25", "172.30.1.1/24"));
    assert!(!networks_overlap("172.30.2.1/24", "172.30.1.1/24"));
    assert!(!networks_overlap("", "172.30.1.1/24"));
}
