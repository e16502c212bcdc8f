//! What is to be done about the own key, as it was seen: pure.

use std::net::IpAddr;

use super::super::owner::MachineId;
use super::super::{LeaseAttrs, PublicAddrs, Revision};
use super::liveness;
use super::store::{Seen, Sight};

/// What is to be done about the own key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyState {
    /// All is as it should be.
    Fine,
    /// It is gone: create it.
    Create,
    /// It is no one else's, and not what it should be: write it over this revision.
    Rewrite(Revision),
    /// It announces another host. Never overwritten.
    Taken(IpAddr),
    /// It cannot be read, and another machine has it, which may write it again.
    Unclear,
    /// Another machine with this host's address has it, by a record of this revision. Overwritten only if that is dead.
    OtherOwner(MachineId, Revision),
}

/// What a host expects of its key.
pub(super) struct Own<'a> {
    /// What the key must hold.
    pub(super) wanted: &'a LeaseAttrs,
    /// What it was seen to hold.
    pub(super) published: &'a LeaseAttrs,
    /// This machine, if it is known.
    pub(super) machine: Option<&'a MachineId>,
}

impl Own<'_> {
    /// Judges the own key as it was seen. `alive`: whether the etcd lease that it should hang on exists.
    pub(super) fn judge(&self, sight: &Sight, alive: bool) -> KeyState {
        let other_owner = liveness::other_owner(sight, self.machine);
        let lease = match &sight.seen {
            Seen::Absent => return KeyState::Create,
            Seen::Broken(_) if other_owner.is_some() => return KeyState::Unclear,
            Seen::Broken(modified) => return KeyState::Rewrite(*modified),
            Seen::Lease(lease) => lease,
        };
        if let Some(by) = self.stranger(&lease.attrs) {
            return KeyState::Taken(by);
        }
        if let Some((other_owner, recorded)) = other_owner {
            return KeyState::OtherOwner(other_owner.clone(), recorded);
        }
        let is_good = lease.attrs == *self.wanted;
        if alive && is_good && liveness::owner_confirmed(sight, lease.modified, self.machine) {
            KeyState::Fine
        } else {
            KeyState::Rewrite(lease.modified)
        }
    }

    /// Whether a value announces this host.
    pub(super) fn is(&self, attrs: &LeaseAttrs) -> bool {
        PublicAddrs::of(attrs).is_some() && self.stranger(attrs).is_none()
    }

    /// The host that a value announces, if that is not this one. A value without an address belongs to no host.
    pub(super) fn stranger(&self, attrs: &LeaseAttrs) -> Option<IpAddr> {
        let own = [self.wanted, self.published].map(PublicAddrs::of);
        let is_own = |other: &PublicAddrs| own.iter().flatten().any(|own| own.is(other));
        PublicAddrs::of(attrs)
            .filter(|other| !is_own(other))
            .map(|other| other.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Lease, LeaseId};
    use super::super::store::Owner;
    use super::*;

    fn attrs(ip: [u8; 4], backend: &'static str) -> LeaseAttrs {
        LeaseAttrs {
            public_ip: Some(ip.into()),
            backend_type: backend.into(),
            ..LeaseAttrs::default()
        }
    }

    fn seen(attrs: LeaseAttrs) -> Seen {
        let subnet: ipnetwork::Ipv4Network = "10.5.34.0/24".parse().unwrap();
        Seen::Lease(Lease {
            subnets: subnet.into(),
            attrs,
            created: 2,
            modified: 9,
            lease_id: LeaseId::new(1),
        })
    }

    #[test]
    fn the_record_decides_between_machines() {
        let wanted = attrs([10, 0, 0, 1], "vxlan");
        let [me, other, reborn] =
            [("a", "1"), ("b", "1"), ("a", "2")].map(|(id, boot)| MachineId::new(id, boot, "h"));
        let own = Own {
            wanted: &wanted,
            published: &wanted,
            machine: Some(&me),
        };
        for (name, owner, verdict) in [
            ("ours", Owner::Recorded(me.clone(), 9), KeyState::Fine),
            (
                "challenged",
                Owner::Recorded(me.clone(), 8),
                KeyState::Rewrite(9),
            ),
            ("not recorded", Owner::Unrecorded, KeyState::Rewrite(9)),
            ("denied", Owner::Denied, KeyState::Fine),
            (
                "another's",
                Owner::Recorded(other.clone(), 9),
                KeyState::OtherOwner(other.clone(), 9),
            ),
            (
                "of another boot",
                Owner::Recorded(reborn.clone(), 7),
                KeyState::OtherOwner(reborn.clone(), 7),
            ),
        ] {
            assert_eq!(
                own.judge(
                    &Sight {
                        seen: seen(wanted.clone()),
                        owner
                    },
                    true
                ),
                verdict,
                "{name}"
            );
        }
        let broken = Sight {
            seen: Seen::Broken(9),
            owner: Owner::Recorded(other, 7),
        };
        assert_eq!(own.judge(&broken, true), KeyState::Unclear);
        let unknown = Own {
            machine: None,
            ..own
        };
        let sight = Sight {
            seen: seen(wanted.clone()),
            owner: Owner::Recorded(reborn, 7),
        };
        assert_eq!(unknown.judge(&sight, true), KeyState::Fine);
    }

    #[test]
    fn the_own_key_is_judged() {
        let wanted = attrs([10, 0, 0, 1], "vxlan");
        let before = attrs([10, 0, 0, 9], "vxlan");
        let other = attrs([10, 0, 0, 2], "vxlan");
        for (name, seen, alive, verdict) in [
            (
                "as it should be",
                seen(wanted.clone()),
                true,
                KeyState::Fine,
            ),
            (
                "about to expire",
                seen(wanted.clone()),
                false,
                KeyState::Rewrite(9),
            ),
            ("gone", Seen::Absent, true, KeyState::Create),
            (
                "gone with its etcd lease",
                Seen::Absent,
                false,
                KeyState::Create,
            ),
            (
                "scribbled over",
                Seen::Broken(7),
                true,
                KeyState::Rewrite(7),
            ),
            (
                "ours, changed",
                seen(attrs([10, 0, 0, 1], "udp")),
                true,
                KeyState::Rewrite(9),
            ),
            (
                "ours, with the address of before",
                seen(before.clone()),
                true,
                KeyState::Rewrite(9),
            ),
            (
                "no owner",
                seen(LeaseAttrs::default()),
                true,
                KeyState::Rewrite(9),
            ),
            (
                "0.0.0.0",
                seen(attrs([0, 0, 0, 0], "vxlan")),
                true,
                KeyState::Rewrite(9),
            ),
            (
                "another's",
                seen(other.clone()),
                true,
                KeyState::Taken([10, 0, 0, 2].into()),
            ),
            (
                "another's, ours dead",
                seen(other),
                false,
                KeyState::Taken([10, 0, 0, 2].into()),
            ),
        ] {
            let own = Own {
                wanted: &wanted,
                published: &before,
                machine: None,
            };
            assert_eq!(
                own.judge(
                    &Sight {
                        seen,
                        owner: Owner::Unrecorded
                    },
                    alive
                ),
                verdict,
                "{name}"
            );
        }
    }
}
