//! One host with a daemon and peers that exist in etcd only, and what its kernel holds.

use std::time::Duration;

use lab::{Lab, LabError, LabOptions, Node, wait_until};

use super::SOON;

/// Peers in etcd, numbered from 1: subnet 172.30.200+n.0/24, MAC 0a:…:n, public address 10.64.9.n.
pub const PEERS: usize = 5;

/// The host's own subnet is neither a peer's nor another one that a test names: all of these are above it.
pub const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMax":"172.30.199.0","Backend":{"Type":"vxlan"}}"#;

/// Ample: a daemon is ready in milliseconds.
pub const START: Duration = Duration::from_secs(60);

/// Everything that must be as before.
const STATE: &str = "
    ip -d link show flannel.1 | sed 's/^[0-9]*: //; s/@if[0-9]*//; s/ qlen [0-9]*//'
    ip -4 -o addr show dev flannel.1 | sed 's/^[0-9]*: //'
    ip route show dev flannel.1 | sort
    ip route show type blackhole
    ip route show | awk '/^172.30/ && !/flannel.1/'
    ip neigh show dev flannel.1 nud permanent | sort
    bridge fdb show dev flannel.1 | sort
    cat /run/flannel/subnet.env";

pub struct Host {
    pub lab: Lab,
}

impl Host {
    pub fn start() -> Result<Self, LabError> {
        Self::start_with(NETWORK, &[])
    }

    /// With more flags, in another network.
    pub fn start_with(network: &str, flags: &[&str]) -> Result<Self, LabError> {
        Self::start_in(options(network).flanneld_args(flags.iter().copied()))
    }

    /// In a lab with these options.
    pub fn start_in(options: LabOptions) -> Result<Self, LabError> {
        let mut lab = Lab::bare(options)?;
        lab.start_etcd()?;
        lab.configure()?;
        for n in 1..=PEERS {
            lab.etcd()?.put(&lease_key(n), lease_value(n))?;
        }
        lab.add_hosts(1)?;
        lab.start_flanneld(1, &["-v=1"])?.wait_ready(START)?;
        let host = Self { lab };
        host.await_notifications();
        Ok(host)
    }

    pub fn node(&self) -> &Node {
        self.lab.host(1)
    }

    pub fn sh(&self, script: &str) -> Result<String, LabError> {
        self.node().sh(script)
    }

    pub fn state(&self) -> Result<String, LabError> {
        self.sh(STATE)
    }

    /// The value of the host's own lease, and its key.
    pub fn lease(&self) -> Result<(String, String), LabError> {
        let subnet = self
            .sh("sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env | sed 's/[.]1[/]/.0-/'")?;
        let key = format!("/kubernetes/network/subnets/{}", subnet.trim());
        let value = self.lab.etcd()?.get(&key)?.unwrap_or_default();
        Ok((key, value))
    }

    pub fn log_contains(&self, text: &str) -> bool {
        self.sh(&format!("grep -c -- '{text}' /run/*.log")).is_ok()
    }

    pub fn log(&mut self) -> Result<String, LabError> {
        Ok(self.lab.flanneld(1)?.process().log())
    }

    /// Does something to the host, and expects all to be as `wanted` soon.
    pub fn heals_to(&self, wanted: &str, name: &str, script: &str) -> Result<(), LabError> {
        self.sh(script)?;
        self.becomes(name, wanted)
    }

    pub fn becomes(&self, name: &str, wanted: &str) -> Result<(), LabError> {
        self.becomes_within(SOON, name, wanted)
    }

    pub fn becomes_within(
        &self,
        bound: Duration,
        name: &str,
        wanted: &str,
    ) -> Result<(), LabError> {
        wait_until(bound, || self.state().is_ok_and(|state| state == wanted));
        let state = self.state()?;
        assert_eq!(state, wanted, "after: {name}");
        Ok(())
    }

    /// Waits until the kernel has nothing more to say by itself: an address that becomes usable makes the daemon look.
    pub fn settle(&self) {
        let is_settled = || {
            self.sh("ip -6 addr show tentative")
                .is_ok_and(|text| text.is_empty())
        };
        assert!(wait_until(SOON, is_settled), "no address is tentative");
    }

    /// READY comes a moment before the daemon listens to the kernel: it has when its socket is in the groups.
    fn await_notifications(&self) {
        let listens = || {
            self.sh("awk '$4 != \"00000000\" && NR > 1' /proc/net/netlink | wc -l")
                .is_ok_and(|n| n.trim() != "0")
        };
        assert!(
            wait_until(SOON, listens),
            "the daemon listens to the kernel"
        );
    }
}

/// A lab without TLS for this network.
pub fn options(network: &str) -> LabOptions {
    LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
        .no_tls()
        .network(network)
}

pub fn lease_key(n: usize) -> String {
    format!("/kubernetes/network/subnets/172.30.{}.0-24", 200 + n)
}

pub fn lease_value(n: usize) -> String {
    format!(
        r#"{{"PublicIP":"10.64.9.{n}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:{n:02x}"}}}}"#
    )
}
