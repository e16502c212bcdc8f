//! Hosts with one of the three firewalls, and what is in it.

use std::time::Duration;

use lab::{Lab, LabError, LabOptions, Node, Signal, wait_until};

/// Far above what anything takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Legacy,
    Nft,
    Nftables,
}

/// All of them.
pub const KINDS: [Kind; 3] = [Kind::Legacy, Kind::Nft, Kind::Nftables];

/// Rules of a daemon with `-ip-masq`, subnet S, with the built-in chains that they hang in.
const IPTABLES: &str = r#"-P POSTROUTING ACCEPT
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-N FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s S -d 172.30.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 172.30.0.0/16 -d S -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 172.30.0.0/16 -d S -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 172.30.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 172.30.0.0/16 -d 172.30.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-P FORWARD ACCEPT
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-N FLANNEL-FWD
-A FLANNEL-FWD -s 172.30.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 172.30.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
"#;

/// Go's, but for the fourth rule of `postrtg`, which has the two networks the other way round there.
const NFTABLES: &str = "table ip flannel-ipv4 {
\tcomment \"rules for flannel-ipv4\"
\tchain postrtg {
\t\tcomment \"chain to manage traffic masquerading by flannel\"
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tmeta mark 0x00004000 return
\t\tip saddr S ip daddr 172.30.0.0/16 return
\t\tip saddr 172.30.0.0/16 ip daddr S return
\t\tip saddr != 172.30.0.0/16 ip daddr S return
\t\tip saddr 172.30.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
\t\tip saddr != 172.30.0.0/16 ip daddr 172.30.0.0/16 masquerade fully-random
\t}

\tchain forward {
\t\tcomment \"chain to accept flannel traffic\"
\t\ttype filter hook forward priority filter; policy accept;
\t\tip saddr 172.30.0.0/16 accept
\t\tip daddr 172.30.0.0/16 accept
\t}
}
";

impl Kind {
    pub fn network(self) -> String {
        let nftables = self == Kind::Nftables;
        format!(
            r#"{{"Network":"172.30.0.0/16","SubnetLen":24,"EnableNFTables":{nftables},"Backend":{{"Type":"vxlan"}}}}"#
        )
    }

    /// A host's own choice between the two iptables; the machine's is not touched.
    pub fn choose(self, node: &Node) -> Result<(), LabError> {
        let variant = if self == Kind::Legacy {
            "legacy"
        } else {
            "nft"
        };
        node.sh(&format!(
            "[ -e /run/alternatives ] || cp -a /etc/alternatives /run/alternatives
            for name in iptables ip6tables; do for part in '' -save -restore; do
                ln -sf /usr/sbin/$name-{variant}$part /run/alternatives/$name$part
            done; done
            mountpoint -q /etc/alternatives || mount --bind /run/alternatives /etc/alternatives"
        ))?;
        Ok(())
    }

    /// The rules of a daemon with `-ip-masq`.
    pub fn wanted(self) -> &'static str {
        match self {
            Kind::Legacy | Kind::Nft => IPTABLES,
            Kind::Nftables => NFTABLES,
        }
    }

    /// What the host has of flannel's, its subnet written as S.
    pub fn rules(self, node: &Node) -> Result<String, LabError> {
        let listed = match self {
            Kind::Legacy | Kind::Nft => node.sh(
                "for c in POSTROUTING FLANNEL-POSTRTG; do iptables -t nat -S $c 2>/dev/null || true; done
                for c in FORWARD FLANNEL-FWD; do iptables -S $c 2>/dev/null || true; done",
            )?,
            Kind::Nftables => node.sh("nft list table ip flannel-ipv4 2>/dev/null || true")?,
        };
        Ok(match subnet(node) {
            Ok(subnet) => listed.replace(&subnet, "S"),
            Err(_) => listed,
        })
    }

    /// Everything of flannel's, in whichever firewall.
    pub fn traces(node: &Node) -> String {
        let everything =
            "iptables-nft-save; iptables-legacy-save; ip6tables-legacy-save; nft list ruleset";
        let shown = node.sh(&format!(
            "({everything}) 2>/dev/null | grep -i flannel || true"
        ));
        shown.unwrap_or_else(|error| error.to_string())
    }
}

/// The host's own subnet.
pub fn subnet(node: &Node) -> Result<String, LabError> {
    let line = "sed -n 's/^FLANNEL_SUBNET=\\(.*\\)[.]1[/]/\\1.0\\//p' /run/flannel/subnet.env";
    Ok(node.sh(line)?.trim().to_owned())
}

/// Hosts with etcd and the network configuration; no daemon yet.
pub fn lab(kind: Kind, hosts: u8) -> Result<Lab, LabError> {
    lab_of(kind, &kind.network(), hosts)
}

/// The same with another network.
pub fn lab_of(kind: Kind, network: &str, hosts: u8) -> Result<Lab, LabError> {
    let flanneld = env!("CARGO_BIN_EXE_flanneld");
    let mut lab = Lab::bare(LabOptions::new(flanneld).network(network).no_tls())?;
    lab.start_etcd()?;
    lab.add_hosts(hosts)?;
    lab.configure()?;
    for host in lab.hosts() {
        kind.choose(host.node())?;
    }
    Ok(lab)
}

/// Starts the daemon of host `index` again with these flags, and waits until it is ready.
pub fn restart(lab: &mut Lab, index: usize, flags: &[&str]) -> Result<(), LabError> {
    if lab.flanneld(index).is_ok() {
        lab.end_flanneld(index, Signal::KILL)?;
    }
    lab.start_flanneld(index, flags)?.wait_ready(PATIENCE)
}

/// One host with a daemon with these flags.
pub fn host(kind: Kind, flags: &[&str]) -> Result<Lab, LabError> {
    let mut lab = lab(kind, 1)?;
    restart(&mut lab, 1, flags)?;
    Ok(lab)
}

/// Waits until something is shown.
#[track_caller]
pub fn becomes(what: &str, wanted: &str, mut show: impl FnMut() -> Result<String, LabError>) {
    let mut last = String::new();
    let done = wait_until(PATIENCE, || {
        last = show().unwrap_or_else(|error| error.to_string());
        last == wanted
    });
    assert!(done, "{what}: {last}\ninstead of {wanted}");
}
