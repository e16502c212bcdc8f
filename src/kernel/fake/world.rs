//! What an in-memory kernel holds, how it changes, and what goes wrong with it.

mod underlay;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::FakeKernel;
use crate::kernel::entry::{Entry, Op};
use crate::kernel::host_state::{LinkFact, VxlanFact};
use crate::kernel::link::Fit;
use crate::kernel::notification::Notification;
use crate::kernel::{Ensured, KernelError, LinkRole, LinkSpec, Owned, Repair};
use underlay::{ADDRESS, UNDERLAY};

/// What goes wrong with one step of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Errno(Errno),
    /// The kernel has done it, and its reply is lost. What comes after it in the same batch is not sent.
    Lost,
    /// A dump is not consistent.
    Unsettled,
}

/// What becomes of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Hearing {
    /// They arrive.
    #[default]
    Prompt,
    /// They arrive once hearing is prompt again.
    Late,
    /// They are dropped, and the kernel says so.
    Overrun,
    /// They are dropped without a word.
    Deaf,
}

/// Whether an entry is meant.
pub(crate) type Condition = fn(&Entry) -> bool;

/// A host as the kernel sees it: an underlay link of index 2, perhaps overlay devices, and what is on them.
#[derive(Debug)]
pub(crate) struct World {
    addresses: Vec<Ipv4Addr>,
    mtu: u32,
    /// Some hosts are directly connected.
    near: bool,
    devices: BTreeMap<LinkRole, LinkFact>,
    table: FakeKernel,
    /// The indexes that the daemon believes to be the devices'.
    pub(super) plays: BTreeMap<LinkRole, u32>,
    last_index: u32,
    steps: usize,
    faults: BTreeMap<usize, Fault>,
    pub(super) listening: bool,
    hearing: Hearing,
    held: Vec<Notification>,
    pub(super) notified: Vec<Notification>,
    /// Entries that the kernel does not take, and its answer.
    pub(crate) refuses: Option<(Condition, Errno)>,
    /// Dumps that the daemon has asked for.
    pub(crate) dumps: usize,
    /// Everything the daemon has written.
    pub(crate) writes: usize,
    /// Whether the daemon may delete.
    pub(crate) may_delete: bool,
    /// What the daemon must not take away once it is there.
    pub(crate) sacred: BTreeSet<Entry>,
    /// What the daemon did wrong.
    pub(crate) offences: Vec<String>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            addresses: vec![ADDRESS],
            mtu: 1500,
            near: true,
            devices: BTreeMap::new(),
            table: FakeKernel::default(),
            plays: BTreeMap::new(),
            last_index: UNDERLAY,
            steps: 0,
            faults: BTreeMap::new(),
            listening: false,
            hearing: Hearing::Prompt,
            held: Vec::new(),
            notified: Vec::new(),
            refuses: None,
            dumps: 0,
            writes: 0,
            may_delete: true,
            sacred: BTreeSet::new(),
            offences: Vec::new(),
        }
    }

    pub(crate) fn entries(&self) -> &BTreeSet<Entry> {
        self.table.entries()
    }

    /// What a dump shows: on the underlay there are strangers as well.
    pub(crate) fn ours(&self, owned: &Owned) -> Vec<Entry> {
        let is_ours =
            |entry: &&Entry| entry.dev().is_overlay() || owned.off_device.claims_direct(entry);
        self.entries().iter().filter(is_ours).copied().collect()
    }

    pub(crate) fn device(&self, dev: LinkRole) -> Option<&LinkFact> {
        self.devices.get(&dev)
    }

    /// Whether the device is the one that the daemon believes it to be.
    pub(super) fn is_in_place(&self, dev: LinkRole) -> bool {
        self.device(dev).map(|device| &device.index) == self.plays.get(&dev)
    }

    /// Another process takes the daemon's place, in a moment without trouble.
    pub(crate) fn restart(&mut self) {
        (self.plays, self.listening) = (BTreeMap::new(), false);
        (self.held, self.notified) = (Vec::new(), Vec::new());
        (self.may_delete, self.sacred) = (false, BTreeSet::new());
        self.stop_failing();
        (self.addresses, self.near) = (vec![ADDRESS], true);
    }

    /// `count` steps of the daemon go wrong, after `spare` that do not.
    pub(crate) fn fail(&mut self, spare: usize, count: usize, fault: Fault) {
        let first = self.steps + 1 + spare;
        self.faults
            .extend((first..first + count).map(|step| (step, fault)));
    }

    fn stop_failing(&mut self) {
        self.faults.clear();
    }

    pub(crate) fn set_hearing(&mut self, hearing: Hearing) {
        self.hearing = hearing;
        if hearing == Hearing::Prompt {
            self.notified.append(&mut self.held);
        }
    }

    /// Everybody leaves the host alone from now on.
    pub(crate) fn calm(&mut self) {
        self.stop_failing();
        self.set_addresses(&[ADDRESS]);
        self.set_near(true);
        self.set_hearing(Hearing::Prompt);
    }

    /// Nothing happens to the underlay's own state.
    fn is_up(&self, dev: LinkRole) -> Option<bool> {
        self.device(dev).map_or_else(
            || (!dev.is_overlay()).then_some(true),
            |device| Some(device.up),
        )
    }

    /// A write by any program.
    pub(crate) fn write(&mut self, op: &Op) -> Result<(), Errno> {
        let up = self.is_up(op.entry().dev()).ok_or(Errno::NODEV)?;
        let (key, there) = (op.entry().key(), self.entries().contains(op.entry()));
        match op {
            Op::Set(Entry::Route { .. }) if !up => return Err(Errno::NETDOWN),
            Op::Set(Entry::Addr { .. }) | Op::Delete(_) if there == matches!(op, Op::Set(_)) => {
                return Ok(());
            }
            Op::Set(_) | Op::Delete(_) => self.table.run(&[*op]),
        }
        self.notify(Notification::Entry {
            key,
            entry: Some(*op.entry()),
            gone: matches!(op, Op::Delete(_)),
        });
        self.without_address(op.entry());
        Ok(())
    }

    /// What the kernel does when the last IPv4 address goes. IPv6 has a link-local one left.
    fn without_address(&mut self, touched: &Entry) {
        let is_addr = |entry: &Entry| {
            matches!(
                entry,
                Entry::Addr {
                    dev: LinkRole::Overlay,
                    ..
                }
            )
        };
        if is_addr(touched) && !self.entries().iter().any(is_addr) {
            self.flush_routes(LinkRole::Overlay);
            self.flush_neighbors(LinkRole::Overlay);
        }
    }

    /// Something that the daemon would never make takes the place of what is in the entry's entry key, as a blackhole does.
    pub(crate) fn usurp(&mut self, entry: &Entry) {
        self.table.run(&[Op::Delete(*entry)]);
        self.notify(Notification::Entry {
            key: entry.key(),
            entry: None,
            gone: false,
        });
        self.without_address(entry);
    }

    /// A change of the living device, with what it does to the entries on it.
    pub(crate) fn change_device(&mut self, dev: LinkRole, change: impl FnOnce(&mut LinkFact)) {
        let Some(fact) = self.devices.get_mut(&dev) else {
            return;
        };
        let before = fact.clone();
        change(fact);
        let fact = fact.clone();
        if before.up && !fact.up {
            self.flush_routes(dev);
            self.flush_addresses(dev);
        }
        if (before.up && !fact.up) || before.mac != fact.mac {
            self.flush_neighbors(dev);
        }
        self.notify(Notification::Link { fact, gone: false });
    }

    pub(crate) fn delete_device(&mut self, dev: LinkRole) {
        if let Some(fact) = self.devices.remove(&dev) {
            self.table.entries.retain(|entry| entry.dev() != dev);
            self.notify(Notification::Link { fact, gone: true });
        }
    }

    fn create(&mut self, dev: LinkRole, spec: &LinkSpec) {
        self.last_index += 1;
        let vxlan = VxlanFact {
            vni: spec.vni,
            parent: spec.parent,
            local: Some(spec.local),
            port: spec.port,
            learning: spec.learning,
            gbp: spec.gbp,
            ..VxlanFact::default()
        };
        let LinkSpec { name, mtu, mac, .. } = spec.clone();
        let fact = LinkFact {
            index: self.last_index,
            name,
            mtu,
            up: true,
            mac: Some(mac),
            vxlan: Some(vxlan),
        };
        self.devices.insert(dev, fact.clone());
        self.notify(Notification::Link { fact, gone: false });
    }

    fn repair(&mut self, dev: LinkRole, repair: Repair) {
        self.change_device(dev, |link| match (repair, &mut link.vxlan) {
            (Repair::Mac(mac), _) => link.mac = Some(mac),
            (Repair::Mtu(mtu), _) => link.mtu = mtu,
            (Repair::Up, _) => link.up = true,
            (Repair::Parent(parent), Some(vxlan)) => vxlan.parent = parent,
            (Repair::Local(local), Some(vxlan)) => vxlan.local = Some(local),
            (Repair::Learning(on), Some(vxlan)) => vxlan.learning = on,
            (Repair::Parent(_) | Repair::Local(_) | Repair::Learning(_), None) => {}
        });
    }

    /// The kernel sends no notification for each of them.
    fn flush_routes(&mut self, dev: LinkRole) {
        self.table
            .entries
            .retain(|entry| entry.dev() != dev || !matches!(entry, Entry::Route { .. }));
    }

    fn flush_neighbors(&mut self, dev: LinkRole) {
        self.flush(|entry| entry.dev() == dev && matches!(entry, Entry::Neigh { .. }));
    }

    /// Of a link that goes down. IPv4 addresses stay.
    fn flush_addresses(&mut self, dev: LinkRole) {
        self.flush(|entry| {
            matches!(
                entry,
                Entry::Addr {
                    dev: LinkRole::Overlay6,
                    ..
                }
            ) && entry.dev() == dev
        });
    }

    fn flush(&mut self, is_concerned: impl Fn(&Entry) -> bool) {
        let (gone, rest) = std::mem::take(&mut self.table.entries)
            .into_iter()
            .partition(is_concerned);
        self.table.entries = rest;
        for entry in Vec::from_iter::<BTreeSet<Entry>>(gone) {
            self.notify(Notification::Entry {
                key: entry.key(),
                entry: Some(entry),
                gone: true,
            });
        }
    }

    fn notify(&mut self, notice: Notification) {
        match self.hearing {
            _ if !self.listening => {}
            Hearing::Prompt => self.notified.push(notice),
            Hearing::Late => self.held.push(notice),
            Hearing::Overrun => self.notified.push(Notification::Overrun),
            Hearing::Deaf => {}
        }
    }

    /// One step of the daemon: what goes wrong with it, if anything.
    pub(super) fn step(&mut self) -> Option<Fault> {
        self.steps += 1;
        self.faults.remove(&self.steps)
    }

    /// A step that reads or asks for one thing.
    pub(super) fn ask(&mut self, what: &str) -> Result<(), KernelError> {
        match self.step() {
            None => Ok(()),
            Some(Fault::Errno(errno)) => Err(refused(what, errno)),
            Some(Fault::Lost) => Err(lost()),
            Some(Fault::Unsettled) => Err(KernelError::Unsettled),
        }
    }

    /// A write by the daemon.
    pub(super) fn obey(&mut self, op: &Op) -> Result<(), Errno> {
        if !self.is_in_place(op.entry().dev()) || self.is_up(op.entry().dev()).is_none() {
            return if matches!(op, Op::Delete(_)) {
                Ok(())
            } else {
                Err(Errno::NODEV)
            };
        }
        if let (Op::Set(entry), Some((is_refused, errno))) = (op, self.refuses)
            && is_refused(entry)
        {
            return Err(errno);
        }
        let before: Vec<Entry> = self
            .sacred
            .iter()
            .copied()
            .filter(|desired| self.holds(desired))
            .collect();
        self.writes += 1;
        self.write(op)?;
        if matches!(op, Op::Delete(_)) {
            if !self.may_delete {
                self.offences
                    .push(format!("{op} before a list was complete"));
            }
            let taken = before.into_iter().find(|desired| !self.holds(desired));
            self.offences
                .extend(taken.map(|desired| format!("{op} took away {desired}")));
        }
        Ok(())
    }

    fn holds(&self, desired: &Entry) -> bool {
        self.entries()
            .iter()
            .any(|found| desired.fulfilled_by(found))
    }

    pub(super) fn fit(&mut self, dev: LinkRole, spec: &LinkSpec) -> Result<Ensured, KernelError> {
        match self.device(dev).map(|found| spec.fit(found)) {
            None => {
                self.ask("create the device")?;
                self.writes += 1;
                self.create(dev, spec);
                Ok(Ensured::Created)
            }
            Some(Fit::Rebuild(reason)) => {
                self.delete_device(dev);
                self.fit(dev, spec)?;
                Ok(Ensured::Rebuilt(reason))
            }
            Some(Fit::Adopt(repairs)) if repairs.is_empty() => Ok(Ensured::Adopted),
            Some(Fit::Adopt(repairs)) => {
                for repair in &repairs {
                    self.ask("repair the device")?;
                    self.writes += 1;
                    self.repair(dev, *repair);
                }
                Ok(Ensured::Repaired(repairs))
            }
        }
    }
}

pub(super) fn refused(what: &str, errno: Errno) -> KernelError {
    KernelError::Refused {
        what: what.into(),
        errno,
        text: None,
    }
}

pub(super) fn lost() -> KernelError {
    KernelError::Lost {
        error: Errno::NOBUFS.into(),
    }
}
