//! Who answers probes, who does not, and how fast: pure. Plain numbers, as many as there are peers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::report::{NAMED, Named, Probes};
use crate::util::histogram::Histogram;

/// So many probes without an answer make a peer unreachable: one or two are lost anywhere.
const PATIENCE: u32 = 3;

/// What became of the probes so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ProbeStats {
    peers: BTreeMap<IpNetwork, Peer>,
    answered: u64,
    lost: u64,
    pub(super) times: Histogram,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Peer {
    has_answered: bool,
    /// Probes since its last answer.
    lost: u32,
}

impl Peer {
    fn is_reachable(&self) -> bool {
        self.has_answered && self.lost < PATIENCE
    }

    fn is_unreachable(&self) -> bool {
        self.lost >= PATIENCE
    }
}

impl ProbeStats {
    /// Only these are peers now.
    pub(super) fn keep(&mut self, peers: &BTreeSet<IpNetwork>) {
        self.peers.retain(|peer, _| peers.contains(peer));
    }

    /// A probe was answered after so long, or not.
    pub(super) fn note(&mut self, peer: IpNetwork, time: Option<Duration>) {
        let known = self.peers.entry(peer).or_default();
        match time {
            Some(time) => {
                *known = Peer {
                    has_answered: true,
                    lost: 0,
                };
                self.answered += 1;
                self.times.observe(time);
            }
            None => {
                known.lost = known.lost.saturating_add(1);
                self.lost += 1;
            }
        }
    }

    pub(super) fn report(&self, interval: Duration) -> Probes {
        let silent = self.peers.iter().filter(|(_, peer)| peer.is_unreachable());
        let named = silent.clone().take(NAMED).map(|(subnet, peer)| Named {
            subnet: subnet.to_string(),
            host: None,
            why: format!("no answer to the last {} probes", peer.lost),
        });
        Probes {
            interval: interval.as_secs_f64(),
            answered: self.answered,
            lost: self.lost,
            reachable: self
                .peers
                .values()
                .filter(|peer| peer.is_reachable())
                .count(),
            unreachable: silent.clone().count(),
            silent: named.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> IpNetwork {
        IpNetwork::new([172, 30, n, 0].into(), 24).unwrap()
    }

    fn counts(list: &ProbeStats) -> (usize, usize, u64, u64) {
        let Probes {
            reachable,
            unreachable,
            answered,
            lost,
            ..
        } = list.report(Duration::from_secs(60));
        (reachable, unreachable, answered, lost)
    }

    #[test]
    fn peer_is_unreachable_after_three_losses_until_it_answers() {
        let mut list = ProbeStats::default();
        list.note(peer(1), Some(Duration::from_millis(1)));
        list.note(peer(1), None);
        list.note(peer(1), None);
        assert_eq!(counts(&list), (1, 0, 1, 2));
        list.note(peer(1), None);
        assert_eq!(counts(&list), (0, 1, 1, 3));
        assert_eq!(
            list.report(Duration::ZERO).silent[0].why,
            "no answer to the last 3 probes"
        );
        list.note(peer(1), Some(Duration::from_millis(1)));
        assert_eq!((counts(&list), list.times.count()), ((1, 0, 2, 3), 2));
    }

    #[test]
    fn who_has_not_answered_yet_is_neither() {
        let mut list = ProbeStats::default();
        list.note(peer(1), None);
        assert_eq!(counts(&list), (0, 0, 0, 1));
    }

    #[test]
    fn who_left_is_forgotten_and_names_are_few() {
        let mut list = ProbeStats::default();
        for n in 0..100 {
            (0..3).for_each(|_| list.note(peer(n), None));
        }
        assert_eq!(
            (counts(&list).1, list.report(Duration::ZERO).silent.len()),
            (100, NAMED)
        );
        list.keep(&BTreeSet::from([peer(7), peer(200)]));
        assert_eq!(counts(&list), (0, 1, 0, 300));
    }
}
