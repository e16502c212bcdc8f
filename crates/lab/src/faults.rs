//! Changes a kept lab: stops and starts daemons, pulls cables, and creates faults that `rflannel check` names.

use std::time::Duration;

use super::{Flanneld, KeptLab, LabError, Node};

/// Time limit for a daemon to become ready.
const READY: Duration = Duration::from_secs(60);
/// Ends a daemon as a crash would.
const CRASH: &str = "pid=$(pidof flanneld) && kill -KILL $pid && while pidof flanneld >/dev/null; do sleep .05; done";

#[derive(Debug)]
pub struct Fault {
    /// Name of the fault in `rflannel check`.
    pub name: &'static str,
    pub about: &'static str,
    /// Shell script for the host.
    script: &'static str,
    /// Whether the daemon is killed first, because it would repair the fault.
    kills: bool,
    /// Shell script for the switch; `$PORT` is its port to the host.
    bridge: &'static str,
}

const fn fault(name: &'static str, about: &'static str, script: &'static str) -> Fault {
    Fault {
        name,
        about,
        script,
        kills: false,
        bridge: "",
    }
}

const fn crash(name: &'static str, about: &'static str, script: &'static str) -> Fault {
    let mut fault = fault(name, about, script);
    fault.kills = true;
    fault
}

const fn cable(name: &'static str, about: &'static str, bridge: &'static str) -> Fault {
    let mut fault = fault(name, about, "");
    fault.bridge = bridge;
    fault
}

pub const FAULTS: &[Fault] = &[
    crash(
        "device-down",
        "kill the daemon and take its device down",
        "ip link set flannel.1 down",
    ),
    crash(
        "device-missing",
        "kill the daemon and delete its device",
        "ip link del flannel.1",
    ),
    crash(
        "fdb",
        "kill the daemon and send a peer's packets to another host",
        "mac=$(bridge fdb show dev flannel.1 | grep ' dst ' | head -n1 | cut -d' ' -f1)\n\
         bridge fdb replace $mac dev flannel.1 dst 10.64.9.9 self permanent",
    ),
    fault(
        "local-firewall",
        "drop packets that leave the tunnel; the peers see peer-firewall",
        "iptables -I INPUT -i flannel.1 -j DROP",
    ),
    fault(
        "forward-blocked",
        "drop packets forwarded from the overlay",
        BLOCK_FORWARD,
    ),
    fault(
        "forwarding",
        "turn IP forwarding off",
        "sysctl -qw net.ipv4.ip_forward=0",
    ),
    fault(
        "hung",
        "stop the daemon with SIGSTOP",
        "kill -STOP $(pidof flanneld)",
    ),
    cable(
        "mtu",
        "limit packets to the host to 1400 bytes",
        "ip link set $PORT mtu 1400",
    ),
    crash(
        "neighbor",
        "kill the daemon and set another MAC for a peer",
        "ip=$(ip neigh show dev flannel.1 nud permanent | head -n1 | cut -d' ' -f1)\n\
         ip neigh replace $ip lladdr 0a:00:00:00:00:99 dev flannel.1 nud permanent",
    ),
    cable(
        "underlay-link",
        "pull the host's cable; the peers see peer-down",
        "ip link set $PORT down",
    ),
    crash(
        "peer-mac-mismatch",
        "kill the daemon and change the MAC of its device; the peers see it",
        "ip link set flannel.1 address 0a:00:00:00:00:77",
    ),
    fault(
        "port-blocked",
        "drop UDP port 8472; the peers see it",
        BLOCK_PORT,
    ),
    crash(
        "route",
        "kill the daemon and delete the route to a peer",
        "ip route del $(ip route show dev flannel.1 | grep via | head -n1 | cut -d' ' -f1)",
    ),
    fault(
        "route-override",
        "add a more specific route for a part of a peer's subnet",
        "net=$(ip route show dev flannel.1 | grep via | head -n1 | cut -d' ' -f1)\n\
         ip route add ${net%/*}/25 via 10.64.255.254 proto 99",
    ),
];

const BLOCK_FORWARD: &str = "nft -f - <<'END'\n\
    table inet fault { chain forward { type filter hook forward priority -10; iifname \"flannel.1\" drop; }; }\nEND";
const BLOCK_PORT: &str = "nft -f - <<'END'\n\
    table inet fault { chain input { type filter hook input priority -10; udp dport 8472 drop; }; }\nEND";

/// Undoes all faults that a daemon does not repair.
const MEND: &str = "nft delete table inet fault 2>/dev/null || true\n\
    iptables -D INPUT -i flannel.1 -j DROP 2>/dev/null || true\n\
    sysctl -qw net.ipv4.ip_forward=1\n\
    ip route flush proto 99\n\
    for pid in $(pidof flanneld); do kill -CONT $pid; done";

impl KeptLab {
    /// Creates a fault on a host.
    pub fn break_host(&self, fault: &Fault, host: &str) -> Result<(), LabError> {
        let node = self.node(host)?;
        if fault.kills {
            node.sh(CRASH).map_err(|_| not_running(node))?;
        }
        if !fault.script.is_empty() {
            node.sh(fault.script)?;
        }
        self.at_switch(node, fault.bridge)
    }

    /// Undoes all faults of a host, and starts its daemon if it does not run.
    pub fn mend(&self, host: &str) -> Result<(), LabError> {
        let node = self.node(host)?;
        self.at_switch(node, "ip link set $PORT up mtu 1500")?;
        node.sh(MEND)?;
        wake(std::slice::from_ref(node));
        if is_running(node) {
            Ok(())
        } else {
            self.start(host)
        }
    }

    /// Pulls the cable of a host.
    pub fn cut(&self, host: &str) -> Result<(), LabError> {
        self.at_switch(self.node(host)?, "ip link set $PORT down")
    }

    /// Stops the daemon of a host as systemd would, and waits for its end.
    pub fn stop(&self, host: &str) -> Result<(), LabError> {
        let node = self.node(host)?;
        let ended = node.sh(&CRASH.replace("KILL", "TERM"));
        ended.map(drop).map_err(|_| not_running(node))
    }

    /// Starts the daemon of a host with its previous flags, and waits until it is ready.
    pub fn start(&self, host: &str) -> Result<(), LabError> {
        let node = self.node(host)?;
        let failed = |why| Err(LabError::failed(node.name(), "start flanneld", why));
        if is_running(node) {
            return failed("it is already running");
        }
        if self.flanneld().is_empty() {
            return failed("this lab has no daemon");
        }
        let mut flanneld = Flanneld::start(node, node.command(self.flanneld()))?;
        flanneld.wait_ready(READY)?;
        // The daemon outlives this process.
        std::mem::forget(flanneld);
        Ok(())
    }

    fn at_switch(&self, node: &Node, script: &str) -> Result<(), LabError> {
        if script.is_empty() {
            return Ok(());
        }
        self.bridge()
            .sh(&script.replace("$PORT", &format!("v-{}", node.name())))
            .map(drop)
    }
}

fn is_running(node: &Node) -> bool {
    node.sh("pidof flanneld").is_ok()
}

fn not_running(node: &Node) -> LabError {
    LabError::failed(
        node.name(),
        "stop flanneld",
        "it is not running there (rflannel lab start starts it)",
    )
}

/// Continues every stopped `nsenter` into these nodes. It stopped together with the program that it runs, and it would never reap that
/// program, so the namespace could not end.
pub(super) fn wake(nodes: &[Node]) {
    let pids: Vec<String> = nodes.iter().map(|node| node.pid.to_string()).collect();
    let is_meant = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next() == Some(b"nsenter")
            && words.any(|word| pids.iter().any(|pid| pid.as_bytes() == word))
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in all.filter(|pid| super::process::state_of(*pid) == Some('T') && is_meant(*pid)) {
        let _ = super::process::send(pid, super::Signal::CONT);
    }
}
