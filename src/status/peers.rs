//! The peers one by one, as this host's kernel has them: pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::offline::{Comparison, Known};
use super::report::Probes;
use super::summary;
use crate::iface::Addresses;
use crate::kernel::Op;
use crate::kernel::plan::plan;
use crate::subnet::{Lease, Subnets};
use crate::util::table::align;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its host name, where it is known.
    pub host: Option<String>,
    pub subnet: String,
    pub public_ip: String,
    /// `installed`, or why not.
    pub state: String,
    /// What came of the last probes; absent where the daemon does not probe.
    pub probe: Option<String>,
}

/// Returns all peers, in the order of their subnets.
pub fn peers(known: &Known, comparison: &Comparison, probes: Option<&Probes>) -> Vec<Peer> {
    let Comparison { desired, have, .. } = comparison;
    let ops = plan(&desired.entries(), have);
    let missing = ops.iter().filter(|op| matches!(op, Op::Set(_)));
    let incomplete = missing.filter_map(|op| desired.holder(op.entry().key()));
    let incomplete: BTreeSet<Subnets> = incomplete.collect();
    let refused = desired.refusals();
    let refused: BTreeMap<&Subnets, String> = refused
        .map(|(subnets, why)| (subnets, why.to_string()))
        .collect();
    let contested = desired.contests().into_iter();
    let contested: BTreeMap<Subnets, Subnets> = contested
        .map(|(subnets, contest)| (subnets, contest.winner))
        .collect();
    let state = |subnets: &Subnets| match (refused.get(subnets), contested.get(subnets)) {
        (Some(why), _) => format!("refused: {why}"),
        (None, Some(winner)) => format!("contested by {winner}"),
        (None, None) if incomplete.contains(subnets) => {
            "incomplete: entries are missing in the kernel".into()
        }
        (None, None) => "installed".into(),
    };
    let peer = |lease: &Lease| Peer {
        host: known
            .machines
            .get(&lease.subnets)
            .map(|machine| machine.host().to_owned()),
        subnet: lease.subnets.to_string(),
        public_ip: summary::texts(Addresses::announced_by(&lease.attrs)).join(" and "),
        state: state(&lease.subnets),
        probe: probes.map(|probes| probe(probes, &lease.subnets)),
    };
    let mut peers: Vec<Peer> = known.peers.iter().map(peer).collect();
    peers.sort_by_key(|peer| peer.subnet.parse::<ipnetwork::IpNetwork>().ok());
    peers
}

/// The daemon names the peers that do not answer, but not more than a few.
fn probe(probes: &Probes, subnets: &Subnets) -> String {
    let silent = probes
        .silent
        .iter()
        .find(|silent| subnets.iter().any(|net| net.to_string() == silent.subnet));
    match silent {
        Some(silent) => silent.why.clone(),
        None if probes.unreachable > probes.silent.len() => "unknown".into(),
        None => format!("answered within {}", super::text::time(probes.interval)),
    }
}

pub fn table(peers: &[Peer]) -> String {
    let heading = ["host", "subnet", "public address", "state", "last probe"]
        .map(str::to_owned)
        .to_vec();
    let unknown = || "·".to_owned();
    let row = |peer: &Peer| {
        vec![
            peer.host
                .clone()
                .filter(|host| !host.is_empty())
                .unwrap_or_else(unknown),
            peer.subnet.clone(),
            peer.public_ip.clone(),
            peer.state.clone(),
            peer.probe.clone().unwrap_or_else(unknown),
        ]
    };
    let lines = align(std::iter::once(heading).chain(peers.iter().map(row)));
    let lines = lines.into_iter().map(|line| summary::plain(&line) + "\n");
    lines.collect::<String>() + &crate::util::table::count(peers.len(), "peer", "peers") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::report::Named;
    use super::*;

    #[test]
    fn table_has_a_line_for_each_peer_and_counts_them() {
        let peer = |host: Option<&str>, probe: Option<&str>| Peer {
            host: host.map(str::to_owned),
            subnet: "172.30.5.0/24".into(),
            public_ip: "10.64.0.5".into(),
            state: "installed\u{1b}[2J".into(),
            probe: probe.map(str::to_owned),
        };
        let text = table(&[
            peer(Some("h5"), Some("answered within 60 s")),
            peer(None, None),
        ]);
        assert!(
            text.contains("h5    172.30.5.0/24  10.64.0.5       installed"),
            "{text}"
        );
        assert!(
            text.ends_with("·\n2 peers\n") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(table(&[peer(None, None)]).ends_with("\n1 peer\n"));
    }

    #[test]
    fn a_peer_that_is_not_named_answered_unless_the_list_is_cut() {
        let silent = vec![Named {
            subnet: "172.30.6.0/24".into(),
            host: None,
            why: "no answer to the last 3 probes".into(),
        }];
        let mut probes = Probes {
            interval: 60.0,
            unreachable: 1,
            silent,
            ..Probes::default()
        };
        let subnets = |text: &str| -> Subnets { std::iter::once(text.parse().unwrap()).collect() };
        assert_eq!(
            probe(&probes, &subnets("172.30.6.0/24")),
            "no answer to the last 3 probes"
        );
        assert_eq!(
            probe(&probes, &subnets("172.30.7.0/24")),
            "answered within 60 s"
        );
        probes.unreachable = 30;
        assert_eq!(probe(&probes, &subnets("172.30.7.0/24")), "unknown");
    }
}
