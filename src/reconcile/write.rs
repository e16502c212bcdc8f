//! Writes to the kernel, and what becomes of those that it refuses.

use std::borrow::Cow;
use std::collections::BTreeSet;

use rustix::io::Errno;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Reconciler, log, sets};
use crate::desired::Change;
use crate::kernel::entry::EntryKey;
use crate::kernel::plan::plan;
use crate::kernel::{Entry, Failure, Kernel, LinkRole, Op};
use crate::util::logging::causes;

/// Writes between two chances for other tasks to run: some ten milliseconds.
const CHUNK: usize = 4096;

impl<K: Kernel> Reconciler<'_, K> {
    /// Before the first complete list: what is new compared with an earlier life. Nothing is deleted yet.
    pub(super) fn additions(&self, change: &Change) -> Vec<Op> {
        let keys = change.after.iter().map(Entry::key);
        let have: Vec<&Entry> = keys
            .flat_map(|key| {
                let first = self.inherited.partition_point(|entry| entry.key() < key);
                self.inherited
                    .iter()
                    .skip(first)
                    .take_while(move |entry| entry.key() == key)
            })
            .collect();
        sets(plan(&change.after, have))
    }

    /// Returns the entry keys that are not known to be as desired now. Sets come first, as in every plan.
    pub(super) async fn write(&mut self, ops: &[Op]) -> BTreeSet<EntryKey> {
        let (sets, deletes) = ops.split_at(ops.partition_point(|op| matches!(op, Op::Set(_))));
        let mut open = self.carry_out(sets).await;
        let is_open =
            |op: &Op| op.entry().dev() == LinkRole::Underlay && open.contains(&op.entry().key());
        let has_open_direct_route = sets.iter().any(is_open);
        let (kept, deletes): (Vec<Op>, Vec<Op>) = deletes
            .iter()
            .copied()
            .partition(|op| endangers(op, &open, has_open_direct_route));
        open.extend(kept.iter().map(|op| op.entry().key()));
        open.extend(self.carry_out(&deletes).await);
        open
    }

    async fn carry_out(&mut self, ops: &[Op]) -> BTreeSet<EntryKey> {
        let (ops, mut open) = self.possible(ops);
        for chunk in ops.chunks(CHUNK) {
            for op in chunk {
                debug!(entry = %op.entry(), "{op}");
            }
            let begin = Instant::now();
            let result = self.kernel.apply(chunk);
            self.stats.wrote(chunk, &result, begin.elapsed());
            match result {
                Ok(failures) => {
                    open.extend(failures.iter().map(|failure| failure.op.entry().key()));
                    let failures = self.fall_back(failures);
                    log::failures(&failures);
                    self.failing += failures.len();
                }
                Err(error) => {
                    warn!(count = chunk.len(), err = %causes(&error), "{error}");
                    self.failing += 1;
                    open.extend(chunk.iter().map(|op| op.entry().key()));
                }
            }
            tokio::task::yield_now().await;
        }
        open
    }

    /// Where the kernel refuses a direct route, the tunnel is used from the next resync on. Returns the other failures.
    fn fall_back(&mut self, failures: Vec<Failure>) -> Vec<Failure> {
        let (refused, rest): (Vec<_>, Vec<_>) = failures.into_iter().partition(is_refused_gateway);
        let has_tunnel = !self.resolved.backend.links().is_empty();
        if let (Some(first), Some(near)) = (
            refused.first(),
            self.resolved.backend.connected_subnets_mut(),
        ) {
            let fate = if has_tunnel {
                "peers are reached through the tunnel until the underlay routes change"
            } else {
                "peers are not reached until the underlay routes change"
            };
            let count = refused.len();
            warn!(
                count, entry = %first.op.entry(), err = %first,
                "{first}; {count} {fate}"
            );
            let hosts = refused
                .iter()
                .filter_map(|failure| failure.op.entry().gateway());
            hosts.for_each(|host| near.refuse(host));
            let events = self
                .desired
                .reconsider(&*self.resolved.backend, self.telemetry.members());
            self.log_events(&events);
            self.unsettled
                .extend([LinkRole::Overlay, LinkRole::Overlay6]);
            self.schedule.soon(Instant::now());
        }
        rest
    }

    /// What concerns usable devices, and the entry keys of the rest.
    fn possible<'o>(&self, ops: &'o [Op]) -> (Cow<'o, [Op]>, BTreeSet<EntryKey>) {
        let is_blind = |dev: LinkRole| self.is_blind && dev == LinkRole::Underlay;
        let is_possible = |op: &&Op| {
            let dev = op.entry().dev();
            !self.unusable.contains(&dev) && (matches!(op, Op::Delete(_)) || !is_blind(dev))
        };
        if self.unusable.is_empty() && !self.is_blind {
            return (Cow::Borrowed(ops), BTreeSet::new());
        }
        let (possible, rest): (Vec<&Op>, Vec<&Op>) = ops.iter().partition(is_possible);
        (
            possible.into_iter().copied().collect(),
            rest.into_iter().map(|op| op.entry().key()).collect(),
        )
    }
}

/// While the own address is uncertain no other one on the device goes: with the last of them the kernel would drop every
/// route and neighbor. While a direct route is not there, the tunnel that it replaces stays.
fn endangers(op: &Op, open: &BTreeSet<EntryKey>, has_open_direct_route: bool) -> bool {
    match op {
        Op::Delete(Entry::Addr { dev, .. }) => open
            .iter()
            .any(|key| matches!(key, EntryKey::Addr(uncertain, _) if uncertain == dev)),
        Op::Delete(Entry::Neigh { .. } | Entry::Fdb { .. }) => has_open_direct_route,
        Op::Delete(Entry::Route { .. }) | Op::Set(_) => false,
    }
}

/// Whether the kernel does not take the gateway of a direct route. While the link is down the reason is another one.
fn is_refused_gateway(failure: &Failure) -> bool {
    let is_direct = matches!(
        failure.op,
        Op::Set(Entry::Route {
            dev: LinkRole::Underlay,
            ..
        })
    );
    is_direct
        && matches!(
            failure.errno,
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL
        )
}
