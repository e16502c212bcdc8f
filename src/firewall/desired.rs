//! What the firewall must hold, from flags, network configuration and lease: pure.

use ipnetwork::IpNetwork;

use super::rule::{Wanted, forward, masquerade, no_masquerade};
use super::sources::Tunnel;
use super::{iptables, nft};
use crate::config::FirewallConfig;
use crate::subnet::Overlay;
use crate::util::family::Family;

/// Which firewall flannel's rules are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// iptables, legacy or on top of nftables.
    Iptables,
    /// nftables (`EnableNFTables`).
    Nftables,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredRules {
    pub mode: Mode,
    /// Families that are on.
    pub overlays: Vec<Overlay>,
    /// Networks that this host was in before: their rules go.
    pub former: Vec<IpNetwork>,
    pub config: FirewallConfig,
    /// The packets that the source filter is about.
    pub tunnel: Tunnel,
}

impl DesiredRules {
    /// The networks whose rules are this daemon's, of one family.
    pub fn mine(&self, family: Family) -> Vec<IpNetwork> {
        let now = self.overlays.iter().map(|overlay| overlay.network);
        now.chain(self.former.iter().copied())
            .filter(|net| Family::of(net.ip()) == family)
            .collect()
    }

    /// Families of which there are or were rules.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(|family| !self.mine(*family).is_empty())
    }

    /// The rules for `mode` in one family. Without a network of that family: none, so that former ones go.
    fn rules(&self, mode: Mode, family: Family, can_random: bool) -> (Wanted, Wanted) {
        let FirewallConfig {
            ip_masq,
            fully_random,
            forward: accept,
            ..
        } = self.config;
        let overlay = self
            .overlays
            .iter()
            .find(|overlay| Family::of(overlay.network.ip()) == family);
        let overlay = overlay.filter(|_| mode == self.mode);
        let on = |wanted: bool| overlay.filter(|_| wanted);
        let masquerade = |overlay: &Overlay| masquerade(*overlay, fully_random && can_random);
        let forward = |overlay: &Overlay| forward(overlay.network);
        (
            on(ip_masq).map_or_else(no_masquerade, masquerade),
            on(accept).map(forward).unwrap_or_default(),
        )
    }

    /// What iptables must hold in one family. `dropping`: what no rule of `FORWARD` accepts is dropped there. Then the rules
    /// of nftables mode are not enough, for no table of nftables can overrule the drop of another one.
    pub fn iptables(
        &self,
        family: Family,
        can_random: bool,
        dropping: bool,
    ) -> [(iptables::Place, Wanted); 2] {
        let (masquerade, forward) = self.rules(Mode::Iptables, family, can_random);
        let (_, beside) = self.rules(self.mode, family, can_random);
        let forward = if dropping { beside } else { forward };
        [
            (iptables::POSTROUTING, masquerade),
            (iptables::FORWARD, forward),
        ]
    }

    pub fn nft(&self, family: Family, can_random: bool) -> [(nft::Place, Wanted); 2] {
        let (masquerade, forward) = self.rules(Mode::Nftables, family, can_random);
        [(nft::POSTROUTING, masquerade), (nft::FORWARD, forward)]
    }

    /// The same with no rules.
    #[must_use]
    pub fn nothing(&self) -> Self {
        let mut nothing = self.clone();
        (nothing.config.ip_masq, nothing.config.forward) = (false, false);
        nothing
    }

    /// Whether anything is wanted of iptables, and not only cleared away.
    pub fn needs_iptables(&self) -> bool {
        self.mode == Mode::Iptables && (self.config.ip_masq || self.config.forward)
    }

    /// Whether anything is wanted of nftables, and not only cleared away.
    pub fn needs_nft(&self) -> bool {
        self.config.source_filter
            || self.mode == Mode::Nftables && (self.config.ip_masq || self.config.forward)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn desired(mode: Mode, ip_masq: bool, forward: bool) -> DesiredRules {
        let net = |text: &str| text.parse().unwrap();
        DesiredRules {
            mode,
            overlays: vec![Overlay {
                network: net("10.5.0.0/16"),
                subnet: net("10.5.33.0/24"),
            }],
            former: vec![net("fd05::/48")],
            config: FirewallConfig {
                ip_masq,
                fully_random: true,
                forward,
                resync: Duration::from_secs(5),
                source_filter: false,
            },
            tunnel: Tunnel { port: 8472, vni: 1 },
        }
    }

    fn counts<P>(rules: [(P, Wanted); 2]) -> (usize, usize) {
        let [masquerade, forward] = rules.map(|(_, wanted)| wanted.rules.len());
        (masquerade, forward)
    }

    #[test]
    fn each_mode_clears_the_other_one() {
        let (iptables, nftables) = (
            desired(Mode::Iptables, true, true),
            desired(Mode::Nftables, true, true),
        );
        assert_eq!(counts(iptables.iptables(Family::V4, true, false)), (5, 2));
        assert_eq!(counts(iptables.nft(Family::V4, true)), (0, 0));
        assert_eq!(counts(nftables.iptables(Family::V4, true, false)), (0, 0));
        assert_eq!(counts(nftables.nft(Family::V4, true)), (5, 2));
    }

    #[test]
    fn a_dropping_forward_chain_gets_the_exception_in_both_modes() {
        for mode in [Mode::Iptables, Mode::Nftables] {
            assert_eq!(
                counts(desired(mode, false, true).iptables(Family::V4, true, true)),
                (0, 2)
            );
            assert_eq!(
                counts(desired(mode, false, false).iptables(Family::V4, true, true)),
                (0, 0)
            );
        }
    }

    #[test]
    fn a_family_that_is_off_is_cleared() {
        let desired = desired(Mode::Iptables, true, true);
        assert_eq!(desired.families().collect::<Vec<_>>(), Family::ALL);
        assert_eq!(counts(desired.iptables(Family::V6, true, true)), (0, 0));
    }

    #[test]
    fn nothing_wanted_needs_no_program() {
        let none = desired(Mode::Iptables, false, false);
        assert!(!none.needs_iptables() && !none.needs_nft());
        assert!(desired(Mode::Nftables, false, true).needs_nft());
        assert!(desired(Mode::Iptables, true, false).needs_iptables());
    }
}
