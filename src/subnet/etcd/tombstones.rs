//! What etcd does not have any more, and when that is believed: pure.
//!
//! A key may be missing although its holder is alive: deleted by hand, expired while etcd could not be reached, younger than
//! the backup that was restored. The holder writes it again, and its peers keep it meanwhile. Nothing is concluded before etcd
//! has answered once more. Times count from any one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{LeaseEvent, Subnets};

/// How long a key may be missing: its holder pauses up to 5 s before it tries etcd again.
const GRACE: Duration = Duration::from_secs(10);

/// Between two conclusions, which look through all that is missing.
const STEP: Duration = Duration::from_secs(1);

/// What is missing and not yet believed to be gone.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    /// Until when.
    keys: BTreeMap<Subnets, Duration>,
    /// Until when what the latest list does not have may come back.
    list: Option<Duration>,
    due: Option<Duration>,
}

impl Tombstones {
    /// What to tell of these changes.
    pub(super) fn keep_deleted(
        &mut self,
        changes: Vec<LeaseEvent>,
        now: Duration,
    ) -> Vec<LeaseEvent> {
        changes
            .into_iter()
            .map(|change| self.keep_if_deleted(change, now))
            .collect()
    }

    fn keep_if_deleted(&mut self, change: LeaseEvent, now: Duration) -> LeaseEvent {
        match change {
            LeaseEvent::Delete(subnets) => {
                self.keys.entry(subnets).or_insert(now + GRACE);
                self.by(now + GRACE);
                LeaseEvent::Missing(subnets)
            }
            LeaseEvent::Put(lease) => {
                self.keys.remove(&lease.subnets);
                LeaseEvent::Put(lease)
            }
            LeaseEvent::ListStart | LeaseEvent::ListEnd | LeaseEvent::Missing(_) => change,
        }
    }

    /// A list has been read after which other ones were known.
    pub(super) fn listed(&mut self, now: Duration) {
        self.list = Some(now + GRACE);
        self.by(now + GRACE);
    }

    /// Etcd is heard from now on: holders may have been as deaf before.
    pub(super) fn begin(&mut self, now: Duration) {
        let until = now + GRACE;
        self.keys
            .values_mut()
            .chain(&mut self.list)
            .for_each(|each| *each = until);
        self.due = self.due.map(|_| until);
    }

    /// When etcd has to be asked whether it is there, so that something can be concluded.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// What is to be believed, if etcd was there at `now`.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<LeaseEvent> {
        let gone: Vec<Subnets> = self
            .keys
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(subnets, _)| *subnets)
            .collect();
        self.keys.retain(|_, until| *until > now);
        let listed = self.list.take_if(|until| *until <= now);
        let rest = self.keys.values().chain(&self.list).min().copied();
        self.due = rest.map(|until| until.max(now + STEP));
        listed
            .map(|_| LeaseEvent::ListEnd)
            .into_iter()
            .chain(gone.into_iter().map(LeaseEvent::Delete))
            .collect()
    }

    fn by(&mut self, until: Duration) {
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::{Lease, LeaseAttrs};
    use super::*;

    fn key(number: u8) -> Subnets {
        ipnetwork::Ipv4Network::new([10, 5, number, 0].into(), 24)
            .unwrap()
            .into()
    }

    fn put(number: u8) -> LeaseEvent {
        let attrs = LeaseAttrs::default();
        LeaseEvent::Put(Lease {
            subnets: key(number),
            attrs,
            created: 1,
            modified: 1,
            lease_id: None,
        })
    }

    fn gone(number: u8) -> LeaseEvent {
        LeaseEvent::Delete(key(number))
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_key_that_comes_back_was_never_gone() {
        let mut tombstones = Tombstones::default();
        assert_eq!(
            tombstones.keep_deleted(vec![gone(1), gone(2)], secs(0)),
            [1, 2].map(|n| LeaseEvent::Missing(key(n)))
        );
        assert_eq!(tombstones.keep_deleted(vec![put(1)], secs(1)), [put(1)]);
        assert_eq!(tombstones.due(), Some(GRACE));
        assert_eq!(tombstones.expire(GRACE), [gone(2)]);
        assert_eq!(
            (tombstones.due(), tombstones.expire(GRACE * 2)),
            (None, vec![])
        );
    }

    #[test]
    fn redelete_restarts_grace_period() {
        let mut tombstones = Tombstones::default();
        tombstones.keep_deleted(vec![gone(1), gone(2)], secs(0));
        tombstones.keep_deleted(vec![put(1), gone(1), gone(2)], secs(5));
        assert_eq!(tombstones.expire(secs(10)), [gone(2)]);
        assert_eq!(tombstones.due(), Some(secs(15)));
        assert_eq!(tombstones.expire(secs(15)), [gone(1)]);
    }

    #[test]
    fn time_without_etcd_does_not_count() {
        let mut tombstones = Tombstones::default();
        tombstones.keep_deleted(vec![gone(1)], secs(0));
        tombstones.listed(secs(1));
        tombstones.begin(secs(100));
        assert_eq!(
            (tombstones.due(), tombstones.expire(secs(109))),
            (Some(secs(110)), vec![])
        );
        assert_eq!(tombstones.expire(secs(110)), [LeaseEvent::ListEnd, gone(1)]);
        tombstones.begin(secs(200));
        assert_eq!(tombstones.due(), None);
    }

    /// Puts and deletions, each after a pause.
    fn any_changes() -> impl Strategy<Value = Vec<(u64, LeaseEvent)>> {
        let change = (0..4_u8, any::<bool>())
            .prop_map(|(number, is_put)| if is_put { put(number) } else { gone(number) });
        prop::collection::vec((0..4_000_u64, change), 0..40)
    }

    proptest! {
        #[test]
        fn what_stays_missing_is_gone_in_time_and_nothing_else_is(changes in any_changes()) {
            let (mut tombstones, mut now, mut looks) = (Tombstones::default(), Duration::ZERO, vec![]);
            let mut since: BTreeMap<Subnets, Duration> = BTreeMap::new();
            for (pause, change) in changes.into_iter().chain([(30_000, put(9))]) {
                now += Duration::from_millis(pause);
                while let Some(due) = tombstones.due().filter(|due| *due <= now) {
                    looks.push(due);
                    for event in tombstones.expire(due) {
                        let first = since.iter().find(|(subnets, _)| event == LeaseEvent::Delete(**subnets));
                        let waited = first.map(|(_, since)| due - *since);
                        prop_assert!(waited.is_some_and(|waited| waited >= GRACE && waited <= GRACE + STEP));
                        since.retain(|subnets, _| event != LeaseEvent::Delete(*subnets));
                    }
                }
                if let LeaseEvent::Delete(subnets) = change {
                    since.entry(subnets).or_insert(now);
                }
                if let LeaseEvent::Put(lease) = &change {
                    since.remove(&lease.subnets);
                }
                tombstones.keep_deleted(vec![change], now);
            }
            prop_assert!(since.is_empty(), "all that stayed missing was told");
            prop_assert!(looks.windows(2).all(|pair| pair[1] - pair[0] >= STEP));
        }
    }
}
