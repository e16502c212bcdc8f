//! Who sees whether the data plane changed: `ip monitor`, `bridge monitor` and a ping between pods.

use std::collections::BTreeSet;

use lab::{Lab, LabError, Node, Process, Signal};

use crate::{PATIENCE, must};

/// An address that comes and goes on the loopback device, to see that `ip monitor` has told everything before it.
const MARK: &str = "192.0.2.1";
/// The same for `bridge monitor`, on the pod's port.
const MARK_MAC: &str = "02:00:00:00:00:99";

/// Listens to all that the kernel of one host says about its overlay device.
pub(crate) struct Silence {
    host: Node,
    ip: Process,
    bridge: Process,
    /// Lengths of the logs when it began.
    from: (usize, usize),
}

impl Silence {
    /// Listens from now on.
    pub(crate) fn begin(host: &Node) -> Result<Self, LabError> {
        let ip = host.spawn(
            "ip-monitor",
            ["ip", "monitor", "link", "address", "route", "neigh"],
        )?;
        let bridge = host.spawn("bridge-monitor", ["bridge", "monitor", "fdb"])?;
        let mut silence = Self {
            host: host.clone(),
            ip,
            bridge,
            from: (0, 0),
        };
        silence.from = silence.mark();
        Ok(silence)
    }

    /// What was said about the overlay device until now.
    pub(crate) fn broken_by(self) -> Vec<String> {
        let to = self.mark();
        let (ip, bridge) = (self.ip.log(), self.bridge.log());
        let said = ip[self.from.0..to.0]
            .lines()
            .chain(bridge[self.from.1..to.1].lines());
        said.filter(|line| line.contains("flannel.1") && !is_multicast(line))
            .map(str::to_owned)
            .collect()
    }

    /// Makes both monitors speak, and waits until they have: where their logs are then.
    fn mark(&self) -> (usize, usize) {
        let (ip, bridge) = (self.ip.log().len(), self.bridge.log().len());
        must("the monitors speak", PATIENCE, || {
            let script = format!(
                "ip addr add {MARK}/32 dev lo; ip addr del {MARK}/32 dev lo
                bridge fdb replace {MARK_MAC} dev veth-pod master static
                bridge fdb del {MARK_MAC} dev veth-pod master"
            );
            let marked = self.host.sh(&script);
            let heard = |process: &Process, from: usize, what| process.log()[from..].contains(what);
            marked.is_ok() && heard(&self.ip, ip, MARK) && heard(&self.bridge, bridge, MARK_MAC)
        });
        (self.ip.log().len(), self.bridge.log().len())
    }
}

/// The kernel keeps neighbors for the multicast groups that it talks to itself, and forgets them.
fn is_multicast(line: &str) -> bool {
    line.contains("NOARP")
}

/// Counts the connections to etcd that a host tries to make.
pub(crate) struct Knocks(Node);

impl Knocks {
    /// Counts from now on.
    pub(crate) fn begin(host: &Node) -> Result<Self, LabError> {
        let rule = "add rule inet knocks out tcp dport 2379 tcp flags & (syn | ack) == syn counter";
        host.sh(&format!(
            "nft 'add table inet knocks; delete table inet knocks; add table inet knocks;
            add chain inet knocks out {{ type filter hook output priority -1; }}; {rule}'"
        ))?;
        Ok(Self(host.clone()))
    }

    /// How many there were.
    pub(crate) fn count(&self) -> Result<u32, LabError> {
        let text = self.0.sh("nft list table inet knocks")?;
        let count = text
            .split("packets ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        Ok(count.unwrap_or(u32::MAX))
    }
}

/// A ping from the pod of one host to that of another, fifty times a second.
pub(crate) struct Pings {
    process: Process,
    from: usize,
}

impl Pings {
    /// Pings from the pod of host `from` to that of host `to` from now on.
    pub(crate) fn begin(lab: &Lab, from: usize, to: usize) -> Result<Self, LabError> {
        let pod = |index: usize| lab.hosts()[index - 1].pod().expect("the host has a pod");
        let earlier = lab
            .host(from)
            .read("/run/ping.log")
            .map_or(0, |log| log.len());
        let target = pod(to).address.to_string();
        let process = pod(from)
            .node
            .spawn("ping", ["ping", "-n", "-i", "0.02", "-W", "5", &target])?;
        Ok(Self {
            process,
            from: earlier,
        })
    }

    /// Ends it: the numbers of lost packets, and how many came back.
    pub(crate) fn end(mut self) -> Result<(Vec<u32>, usize), LabError> {
        self.process.signal(Signal::INT)?;
        self.process.wait(PATIENCE)?;
        let log = self.process.log();
        let answered: BTreeSet<u32> = log[self.from..].lines().filter_map(sequence).collect();
        // The last may be under way; numbers start at 1.
        let last = answered.last().copied().unwrap_or_default();
        Ok((
            (1..=last)
                .filter(|number| !answered.contains(number))
                .collect(),
            answered.len(),
        ))
    }
}

/// `64 bytes from 172.30.1.2: icmp_seq=1 ttl=62 time=0.123 ms`
fn sequence(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once(" bytes from ")?;
    rest.split_once("icmp_seq=")?
        .1
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
