//! What has to change in a chain that several daemons of one host may share: pure.
//!
//! The chains have the same names on every host, so two daemons with different networks meet in them. A rule belongs to the
//! daemon whose network it names. What names no network belongs to no one: the guard is kept for all, the rest goes.

use ipnetwork::IpNetwork;

use super::rule::{Rule, Wanted, is_multicast};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present<I> {
    /// What it is deleted by.
    pub id: I,
    /// What it does, as far as that is known here.
    pub rule: Option<Rule>,
    /// The networks it names.
    pub nets: Vec<IpNetwork>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleDiff<I> {
    pub delete: Vec<I>,
    /// A rule for the head of the chain.
    pub insert: Option<Rule>,
    /// Rules for its end.
    pub append: Vec<Rule>,
    /// Then no one needs the chain any more.
    pub deserted: bool,
}

impl<I> RuleDiff<I> {
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.insert.is_none() && self.append.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Theirs,
    Unowned,
}

impl<I> Present<I> {
    fn whose(&self, mine: &[IpNetwork]) -> Whose {
        let mut named = self.nets.iter().filter(|net| !is_multicast(**net));
        match (self.nets.iter().any(|net| mine.contains(net)), named.next()) {
            (true, _) => Whose::Ours,
            (false, Some(_)) => Whose::Theirs,
            (false, None) => Whose::Unowned,
        }
    }
}

/// The difference between what a chain holds and what is wanted. `mine` are the networks of this daemon, now and before.
pub fn rule_diff<I: Clone>(
    present: &[Present<I>],
    wanted: &Wanted,
    mine: &[IpNetwork],
) -> RuleDiff<I> {
    let of = |whose| present.iter().filter(move |one| one.whose(mine) == whose);
    let kept = of(Whose::Ours)
        .map(|one| one.rule.as_ref())
        .eq(wanted.rules.iter().map(Some));
    let ours = of(Whose::Ours).filter(|_| !kept);
    let deserted = wanted.rules.is_empty() && of(Whose::Theirs).next().is_none();
    let guard = wanted.guard.as_ref().filter(|_| !deserted);
    let stands = guard.is_some() && has_guard(present, guard, mine);
    let spare = |one: &&Present<I>| !(guard.is_some() && one.rule.as_ref() == guard && stands);
    let delete = ours.chain(of(Whose::Unowned).filter(spare));
    let append = wanted.rules.iter().filter(|_| !kept);
    RuleDiff {
        delete: delete.map(|one| one.id.clone()).collect(),
        insert: guard.filter(|_| !stands).cloned(),
        append: append.cloned().collect(),
        deserted,
    }
}

/// Whether the guard is there once, before all that is ours.
fn has_guard<I>(present: &[Present<I>], guard: Option<&Rule>, mine: &[IpNetwork]) -> bool {
    let guards = (0..)
        .zip(present)
        .filter(|(_, one)| one.rule.as_ref() == guard);
    let places: Vec<usize> = guards.map(|(place, _)| place).collect();
    let is_ours = |one: &Present<I>| one.whose(mine) == Whose::Ours;
    let first = present.iter().position(is_ours);
    matches!(places[..], [place] if first.is_none_or(|first| place < first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rule::{forward, masquerade};
    use super::*;
    use crate::subnet::Overlay;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn overlay(n: u8) -> Overlay {
        Overlay {
            network: net(&format!("10.{n}.0.0/16")),
            subnet: net(&format!("10.{n}.33.0/24")),
        }
    }

    fn present(rule: &Rule) -> Present<Rule> {
        let nets = [rule.source, rule.destination]
            .into_iter()
            .flatten()
            .map(|one| one.net)
            .collect();
        Present {
            id: rule.clone(),
            rule: Some(rule.clone()),
            nets,
        }
    }

    /// The kernel: deletes by what a rule looks like, the first first.
    fn carry_out(chain: &[Present<Rule>], diff: &RuleDiff<Rule>) -> Vec<Present<Rule>> {
        let mut chain = chain.to_vec();
        for gone in &diff.delete {
            let place = chain.iter().position(|one| one.id == *gone).unwrap();
            chain.remove(place);
        }
        diff.insert
            .iter()
            .for_each(|rule| chain.insert(0, present(rule)));
        chain.extend(diff.append.iter().map(present));
        chain
    }

    fn chain_of(wanted: &Wanted) -> Vec<Present<Rule>> {
        wanted
            .guard
            .iter()
            .chain(&wanted.rules)
            .map(present)
            .collect()
    }

    #[test]
    fn an_empty_chain_gets_everything_in_order() {
        let wanted = masquerade(overlay(5), true);
        let diff = rule_diff::<Rule>(&[], &wanted, &[overlay(5).network]);
        assert_eq!(carry_out(&[], &diff), chain_of(&wanted));
    }

    #[test]
    fn a_rule_that_is_not_understood_but_names_our_network_goes() {
        let mut chain = chain_of(&forward(overlay(5).network));
        let foreign = Present {
            rule: None,
            ..chain[0].clone()
        };
        chain.insert(0, foreign);
        let diff = rule_diff(&chain, &forward(overlay(5).network), &[overlay(5).network]);
        assert_eq!((diff.delete.len(), diff.append.len()), (3, 2));
    }

    #[test]
    fn the_last_one_switches_off_the_light() {
        let (a, b) = (masquerade(overlay(5), true), masquerade(overlay(6), true));
        let mut chain = chain_of(&a);
        chain.extend(b.rules.iter().map(present));
        let none = Wanted {
            rules: Vec::new(),
            ..a.clone()
        };
        let first = rule_diff(&chain, &none, &[overlay(5).network]);
        assert!(!first.deserted);
        let chain = carry_out(&chain, &first);
        assert_eq!(chain, chain_of(&b));
        let last = rule_diff(&chain, &none, &[overlay(6).network]);
        assert!(last.deserted && carry_out(&chain, &last).is_empty());
    }

    fn chains() -> impl Strategy<Value = Vec<Present<Rule>>> {
        let pool: Vec<Present<Rule>> = [5, 6, 7]
            .into_iter()
            .flat_map(|n| [masquerade(overlay(n), true), forward(overlay(n).network)])
            .flat_map(|wanted| chain_of(&wanted))
            .collect();
        proptest::collection::vec(proptest::sample::select(pool), 0..12)
    }

    proptest! {
        /// Whatever was there: after each daemon's turn all is as it wants, and no one has to come back.
        #[test]
        fn daemons_of_one_host_agree(chain in chains(), off in any::<bool>()) {
            let mut chain = chain;
            let desired = |n: u8| {
                let all = masquerade(overlay(n), true);
                if off && n == 6 { Wanted { rules: Vec::new(), ..all } } else { all }
            };
            for n in [5, 6, 7] {
                chain = carry_out(&chain, &rule_diff(&chain, &desired(n), &[overlay(n).network]));
            }
            for n in [5, 6, 7] {
                let again = rule_diff(&chain, &desired(n), &[overlay(n).network]);
                prop_assert!(again.is_empty(), "{}: {:?} in {:?}", n, again, chain);
            }
        }
    }
}
