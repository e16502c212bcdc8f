//! The difference between the desired and the actual entries: pure.

use super::entry::{Entry, Op};

/// The writes that turn `have` into `want`.
///
/// Both are sorted (by [`Ord`]); `want` has one entry per entry key. Make before break: first what must be set, in programming
/// order, then what must go, in reverse. Something in an entry key that a `Set` fills goes by being replaced; only where several
/// entries share the entry key (the kernel allows that for FDB entries and routes) are the others deleted by name.
pub fn plan<'a>(
    want: impl IntoIterator<Item = &'a Entry>,
    have: impl IntoIterator<Item = &'a Entry>,
) -> Vec<Op> {
    let mut have = have.into_iter().peekable();
    let (mut ops, mut stale) = (Vec::new(), Vec::new());
    for desired in want {
        while let Some(other) = have.next_if(|h| h.key() < desired.key()) {
            stale.push(*other);
        }
        let (mut fulfilled, mut wrong) = (false, Vec::new());
        while let Some(found) = have.next_if(|h| h.key() == desired.key()) {
            if desired.fulfilled_by(found) && !fulfilled {
                fulfilled = true
            } else {
                wrong.push(*found)
            }
        }
        if !fulfilled {
            ops.push(Op::Set(*desired));
        }
        // A lone wrong entry goes by being replaced.
        if fulfilled || wrong.len() > 1 {
            stale.append(&mut wrong);
        }
    }
    stale.extend(have);
    ops.extend(stale.into_iter().rev().map(Op::Delete));
    ops
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::entry::{LinkRole, Mac};
    use super::super::fake::FakeKernel;
    use super::*;

    /// A small universe, so that entry keys collide.
    fn entry() -> impl Strategy<Value = Entry> {
        let dev = LinkRole::Overlay;
        let mac = |n| Mac([2, 0, 0, 0, 0, n]);
        let ip = |n: u8| std::net::IpAddr::from([10, 0, 0, n]);
        prop_oneof![
            (0..3u8).prop_map(move |n| Entry::Addr {
                dev,
                net: ip(n).into()
            }),
            (0..3u8, 0..3u8).prop_map(move |(n, m)| Entry::Neigh {
                dev,
                ip: ip(n),
                mac: mac(m)
            }),
            (0..3u8, 0..3u8, 0..2u16).prop_map(move |(m, n, port)| Entry::Fdb {
                dev,
                mac: mac(m),
                dst: ip(n),
                port,
                vni: 0
            }),
            (0..3u8, 0..2u32, 0..3u8, 0..2u8).prop_map(move |(n, metric, via, protocol)| {
                Entry::Route {
                    dst: ip(n).into(),
                    metric,
                    dev,
                    gateway: Some(ip(via)),
                    onlink: true,
                    protocol,
                }
            }),
        ]
    }

    fn one_per_key(entries: BTreeSet<Entry>) -> BTreeSet<Entry> {
        let by_key: std::collections::BTreeMap<_, _> =
            entries.into_iter().map(|i| (i.key(), i)).collect();
        by_key.into_values().collect()
    }

    proptest! {
        #[test]
        fn applying_the_plan_gives_what_is_wanted(
            want in prop::collection::btree_set(entry(), 0..12),
            have in prop::collection::btree_set(entry(), 0..12),
        ) {
            let want = one_per_key(want);
            let mut kernel = FakeKernel::holding(have);
            kernel.run(&plan(&want, kernel.entries()));
            let settled = kernel.entries().clone();
            prop_assert_eq!(settled.len(), want.len());
            for (desired, found) in want.iter().zip(&settled) {
                prop_assert!(desired.fulfilled_by(found), "{} is {}", desired, found);
            }
            prop_assert_eq!(plan(&want, &settled), vec![]);
        }

        #[test]
        fn nothing_wanted_is_ever_missing_once_it_was_there(
            want in prop::collection::btree_set(entry(), 0..12),
            have in prop::collection::btree_set(entry(), 0..12),
        ) {
            let want = one_per_key(want);
            let mut kernel = FakeKernel::holding(have);
            let right: Vec<Entry> =
                want.iter().copied().filter(|w| kernel.entries().iter().any(|h| w.fulfilled_by(h))).collect();
            for op in plan(&want, &kernel.entries().clone()) {
                kernel.run(&[op]);
                for desired in &right {
                    prop_assert!(kernel.entries().iter().any(|h| desired.fulfilled_by(h)), "{op} removed {desired}");
                }
            }
        }
    }

    #[test]
    fn a_changed_public_address_is_one_write() {
        let fdb = |n: u8| Entry::Fdb {
            dev: LinkRole::Overlay,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            dst: [10, 0, 0, n].into(),
            port: 0,
            vni: 0,
        };
        assert_eq!(plan(&[fdb(2)], &[fdb(1)]), [Op::Set(fdb(2))]);
    }
}
