//! The device a backend wants, and how far an existing one is from it: pure.

use std::fmt;
use std::net::IpAddr;

use super::entry::Mac;
use super::host_state::{LinkFact, VxlanFact};
use crate::util::family::Family;

/// A VXLAN device as desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// Interface name.
    pub name: String,
    /// Network identifier, below 2^24.
    pub vni: u32,
    /// Index of the underlay link.
    pub parent: u32,
    /// Source address of the tunnel.
    pub local: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// Learn forwarding entries from traffic.
    pub learning: bool,
    /// Group policy extension.
    pub gbp: bool,
    /// Hardware address.
    pub mac: Mac,
    /// Largest inner packet, in bytes.
    pub mtu: u32,
}

/// How an existing link compares to a [`LinkSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It can stay; these attributes have to be set on the living device (none: it is right as it is).
    Adopt(Vec<Repair>),
    /// It cannot be changed into what is wanted and has to be deleted; the reason.
    Rebuild(String),
}

/// An attribute that can be repaired without creating the device again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Hardware address.
    Mac(Mac),
    /// MTU in bytes.
    Mtu(u32),
    /// Index of the underlay link.
    Parent(u32),
    /// Source address of the tunnel.
    Local(IpAddr),
    /// Learning from traffic.
    Learning(bool),
    /// Administratively up.
    Up,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repair::Mac(mac) => write!(f, "MAC {mac}"),
            Repair::Mtu(mtu) => write!(f, "MTU {mtu}"),
            Repair::Parent(index) => write!(f, "underlay interface index {index}"),
            Repair::Local(ip) => write!(f, "local address {ip}"),
            Repair::Learning(on) => write!(f, "learning {}", if *on { "on" } else { "off" }),
            Repair::Up => f.write_str("up"),
        }
    }
}

impl LinkSpec {
    /// Compares a link of the wanted name with what is wanted.
    pub fn fit(&self, found: &LinkFact) -> Fit {
        let Some(vxlan) = &found.vxlan else {
            return Fit::Rebuild("it is not a VXLAN device".into());
        };
        match self.incompatibility(vxlan) {
            Some(reason) => Fit::Rebuild(reason),
            None => Fit::Adopt(self.repairs(found, vxlan)),
        }
    }

    /// Whether a link is as wanted.
    pub fn is_fulfilled_by(&self, found: &LinkFact) -> bool {
        self.fit(found) == Fit::Adopt(Vec::new())
    }

    /// What the kernel refuses to change on a living device, first difference.
    fn incompatibility(&self, found: &VxlanFact) -> Option<String> {
        let differs = |what: &str, is: &dyn fmt::Display, want: &dyn fmt::Display| {
            Some(format!("{what}: {is}, wanted {want}"))
        };
        if found.external {
            return Some("it is in external mode: routes set its parameters".into());
        }
        if found.vni != self.vni {
            return differs("VNI", &found.vni, &self.vni);
        }
        if found.underlay() != Family::of(self.local) {
            return differs("local address", &display(found.local), &self.local);
        }
        if found.group.is_some() {
            return differs("group", &display(found.group), &"none");
        }
        if found.l2miss {
            return differs("l2miss", &"on", &"off");
        }
        if self.port != found.port {
            return differs("UDP port", &found.port, &self.port);
        }
        if found.gbp != self.gbp {
            return differs("GBP", &found.gbp, &self.gbp);
        }
        None
    }

    fn repairs(&self, found: &LinkFact, vxlan: &VxlanFact) -> Vec<Repair> {
        let candidates = [
            (found.mac != Some(self.mac), Repair::Mac(self.mac)),
            (vxlan.parent != self.parent, Repair::Parent(self.parent)),
            (vxlan.local != Some(self.local), Repair::Local(self.local)),
            (found.mtu != self.mtu, Repair::Mtu(self.mtu)),
            (
                vxlan.learning != self.learning,
                Repair::Learning(self.learning),
            ),
            (!found.up, Repair::Up),
        ];
        candidates
            .into_iter()
            .filter_map(|(wrong, repair)| wrong.then_some(repair))
            .collect()
    }
}

fn display(ip: Option<IpAddr>) -> String {
    ip.map_or_else(|| "none".into(), |ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LinkSpec {
        LinkSpec {
            name: "flannel.1".into(),
            vni: 1,
            parent: 2,
            local: [10, 0, 0, 1].into(),
            port: 8472,
            learning: false,
            gbp: false,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1450,
        }
    }

    fn right() -> LinkFact {
        LinkFact {
            index: 7,
            name: "flannel.1".into(),
            mtu: 1450,
            up: true,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            vxlan: Some(vxlan()),
        }
    }

    fn vxlan() -> VxlanFact {
        VxlanFact {
            vni: 1,
            parent: 2,
            local: Some([10, 0, 0, 1].into()),
            port: 8472,
            ..VxlanFact::default()
        }
    }

    #[test]
    fn a_right_device_is_left_alone() {
        assert_eq!(spec().fit(&right()), Fit::Adopt(vec![]));
    }

    #[test]
    fn what_can_be_changed_in_place_is() {
        let found = LinkFact {
            mtu: 1400,
            up: false,
            mac: None,
            vxlan: Some(VxlanFact {
                learning: true,
                parent: 3,
                local: None,
                ..vxlan()
            }),
            ..right()
        };
        let want = vec![
            Repair::Mac(spec().mac),
            Repair::Parent(2),
            Repair::Local(spec().local),
            Repair::Mtu(1450),
            Repair::Learning(false),
            Repair::Up,
        ];
        assert_eq!(spec().fit(&found), Fit::Adopt(want));
    }

    #[test]
    fn what_cannot_be_changed_means_a_new_device() {
        let cases = [
            (VxlanFact { vni: 2, ..vxlan() }, "VNI: 2, wanted 1"),
            (
                VxlanFact {
                    local: Some([0; 16].into()),
                    ..vxlan()
                },
                "local address: ::, wanted 10.0.0.1",
            ),
            (
                VxlanFact {
                    group: Some([239, 0, 0, 1].into()),
                    ..vxlan()
                },
                "group: 239.0.0.1, wanted none",
            ),
            (
                VxlanFact {
                    l2miss: true,
                    ..vxlan()
                },
                "l2miss: on, wanted off",
            ),
            (
                VxlanFact {
                    port: 4789,
                    ..vxlan()
                },
                "UDP port: 4789, wanted 8472",
            ),
            (
                VxlanFact {
                    gbp: true,
                    ..vxlan()
                },
                "GBP: true, wanted false",
            ),
            (
                VxlanFact {
                    external: true,
                    ..vxlan()
                },
                "it is in external mode: routes set its parameters",
            ),
        ];
        for (vxlan, reason) in cases {
            let found = LinkFact {
                vxlan: Some(vxlan),
                ..right()
            };
            assert_eq!(spec().fit(&found), Fit::Rebuild(reason.into()));
        }
        assert!(matches!(
            spec().fit(&LinkFact {
                vxlan: None,
                ..right()
            }),
            Fit::Rebuild(_)
        ));
    }
}
