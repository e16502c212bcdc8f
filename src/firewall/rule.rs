//! Firewall rules as data: which ones flannel has, whose one is, and what older releases left behind: pure.

use ipnetwork::IpNetwork;

use crate::subnet::Overlay;

/// Groups, which are not masqueraded, in each family.
const MULTICAST: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];

/// A condition on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The address must not be inside.
    pub negated: bool,
    pub net: IpNetwork,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The rest of the chain does not count.
    Return,
    Accept,
    /// It gets the address of the interface it leaves by.
    Masquerade {
        /// And a port that no one can guess: two connections at once do not get the same one.
        fully_random: bool,
    },
    /// Another chain decides.
    Jump(String),
}

/// A rule of the kinds that flannel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Only packets that kube-proxy has marked for its own masquerade.
    pub marked: bool,
    pub source: Option<Match>,
    pub destination: Option<Match>,
    pub verdict: Verdict,
}

/// What a chain must hold for this daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A rule that comes before everything, no matter who else uses the chain.
    pub guard: Option<Rule>,
    /// The rules, in order. None: the chain must hold no rule of flannel.
    pub rules: Vec<Rule>,
}

impl Rule {
    pub(super) fn new(source: Option<Match>, destination: Option<Match>, verdict: Verdict) -> Self {
        Self {
            marked: false,
            source,
            destination,
            verdict,
        }
    }

    /// The jump to `chain`, without any condition.
    pub fn jump(chain: &str) -> Self {
        Self::new(None, None, Verdict::Jump(chain.into()))
    }

    /// Packets that kube-proxy masquerades are left alone: masquerading twice is a bug of some kernels.
    fn guard() -> Self {
        Self {
            marked: true,
            ..Self::new(None, None, Verdict::Return)
        }
    }

    /// Whether a release of before v0.20 may have written it straight into `POSTROUTING`, for `network`.
    pub fn is_old_masquerade(&self, network: IpNetwork) -> bool {
        let Self {
            marked: false,
            source: Some(source),
            destination: Some(destination),
            verdict,
        } = self
        else {
            return false;
        };
        let (from, to) = (source.net == network, destination.net == network);
        let part = is_part(destination.net, network);
        let masquerades = matches!(verdict, Verdict::Masquerade { .. });
        let returns = *verdict == Verdict::Return;
        match (source.negated, destination.negated) {
            (false, false) => returns && from && to,
            (false, true) => masquerades && from && is_multicast(destination.net),
            (true, false) => from && (masquerades && to || returns && part),
            (true, true) => false,
        }
    }

    /// Whether it is one of the two that a release of before v0.20 wrote straight into `FORWARD`, for `network`.
    pub fn is_old_forward(&self, network: IpNetwork) -> bool {
        forward(network).rules.contains(self)
    }
}

/// Whether an address is a group of a whole family, which is the network of no host.
pub fn is_multicast(net: IpNetwork) -> bool {
    MULTICAST.iter().any(|text| text.parse() == Ok(net))
}

/// Whether all of `part` lies in `whole`.
fn is_part(part: IpNetwork, whole: IpNetwork) -> bool {
    part.is_ipv4() == whole.is_ipv4()
        && part.prefix() >= whole.prefix()
        && whole.contains(part.ip())
}

/// No masquerade, and the guard of anyone who has one stays.
pub fn no_masquerade() -> Wanted {
    Wanted {
        guard: Some(Rule::guard()),
        rules: Vec::new(),
    }
}

/// Masquerade for everything that leaves the overlay, and for what the host itself sends into it.
pub fn masquerade(overlay: Overlay, fully_random: bool) -> Wanted {
    let Overlay { network, subnet } = overlay;
    let matching = |negated, net| Some(Match { negated, net });
    let (inside, outside) = (|net| matching(false, net), |net| matching(true, net));
    let masquerade = Verdict::Masquerade { fully_random };
    let groups = MULTICAST.iter().filter_map(|text| text.parse().ok());
    let groups = groups.filter(|groups: &IpNetwork| groups.is_ipv4() == network.is_ipv4());
    let mut rules = vec![
        Rule::new(inside(subnet), inside(network), Verdict::Return),
        Rule::new(inside(network), inside(subnet), Verdict::Return),
        // From outside to the host that owns the pod: the pod must see who calls.
        Rule::new(outside(network), inside(subnet), Verdict::Return),
    ];
    for groups in groups {
        rules.push(Rule::new(
            inside(network),
            outside(groups),
            masquerade.clone(),
        ));
    }
    rules.push(Rule::new(outside(network), inside(network), masquerade));
    Wanted {
        rules,
        ..no_masquerade()
    }
}

/// Everything from and to the overlay may be forwarded.
pub fn forward(network: IpNetwork) -> Wanted {
    let (negated, net) = (false, network);
    let inside = Some(Match { negated, net });
    let from = Rule::new(inside, None, Verdict::Accept);
    let to = Rule::new(None, inside, Verdict::Accept);
    Wanted {
        guard: None,
        rules: vec![from, to],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn rules_of_a_family_name_only_that_family() {
        for (network, subnet) in [
            ("10.5.0.0/16", "10.5.33.0/24"),
            ("fd05::/48", "fd05:0:0:1c::/64"),
        ] {
            let overlay = Overlay {
                network: net(network),
                subnet: net(subnet),
            };
            let Wanted { guard, rules } = masquerade(overlay, true);
            assert!(guard.is_some_and(|guard| guard.marked));
            assert_eq!(rules.len(), 5);
            for one in rules
                .iter()
                .flat_map(|rule| [rule.source, rule.destination])
                .flatten()
            {
                assert_eq!(one.net.is_ipv4(), overlay.network.is_ipv4());
            }
        }
    }

    #[test]
    fn old_rules_are_known_by_their_exact_shape() {
        let (network, subnet) = (net("10.5.0.0/16"), net("10.5.33.0/24"));
        let current = masquerade(Overlay { network, subnet }, false).rules;
        // Of the rules of today two were there before v0.21 as well, and so was the third.
        let old: Vec<bool> = current
            .iter()
            .map(|rule| rule.is_old_masquerade(network))
            .collect();
        assert_eq!(old, [false, false, true, true, true]);
        assert!(
            current
                .iter()
                .all(|rule| !rule.is_old_masquerade(net("10.6.0.0/16")))
        );
        let inside = Some(Match {
            negated: false,
            net: network,
        });
        assert!(Rule::new(inside, inside, Verdict::Return).is_old_masquerade(network));
        assert!(
            !Rule::new(
                inside,
                None,
                Verdict::Masquerade {
                    fully_random: false
                }
            )
            .is_old_masquerade(network)
        );
        assert!(Rule::new(inside, None, Verdict::Accept).is_old_forward(network));
        assert!(!Rule::new(inside, inside, Verdict::Accept).is_old_forward(network));
    }
}
