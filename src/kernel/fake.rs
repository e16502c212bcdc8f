//! In-memory kernels that treat entries and devices as the real one does, for property tests: [`FakeKernel`] is a table of
//! entries, [`FakeNetlink`] a whole [`Kernel`] that fails when told to and that others can disturb.

mod world;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use tokio::sync::Notify;

use super::entry::{Entry, LinkRole, Op};
use super::host_state::LinkFact;
use super::notification::Notification;
use super::{Ensured, Failure, HostState, Kernel, KernelError, LinkSpec, Owned, Query};
pub(crate) use world::{Fault, Hearing, World};
use world::{lost, refused};

use crate::util::lock;

/// The entries of a kernel.
#[derive(Debug, Default)]
pub(crate) struct FakeKernel {
    entries: BTreeSet<Entry>,
}

impl FakeKernel {
    pub(crate) fn holding(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self {
            entries: entries.into_iter().collect(),
        }
    }

    pub(crate) fn entries(&self) -> &BTreeSet<Entry> {
        &self.entries
    }

    pub(crate) fn run(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Set(entry) => self.replace(*entry),
                Op::Delete(entry) => drop(self.entries.remove(entry)),
            }
        }
    }

    /// An exact match stays; else the first entry of the entry key becomes the new one and further ones stay beside it.
    fn replace(&mut self, entry: Entry) {
        if let Some(first) = self
            .entries
            .iter()
            .find(|have| have.key() == entry.key())
            .copied()
        {
            self.entries.remove(&first);
        }
        self.entries.insert(entry);
    }
}

/// The daemon's end of a [`World`], and by cloning everybody else's.
#[derive(Debug, Clone)]
pub(crate) struct FakeNetlink {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

impl FakeNetlink {
    pub(crate) fn new() -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new())),
            changed: Arc::default(),
        }
    }

    /// Looks at the world or changes it.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut World) -> R) -> R {
        let result = work(&mut lock(&self.world));
        self.changed.notify_one();
        result
    }
}

impl Kernel for FakeNetlink {
    fn host_state(&mut self, _: &Query) -> Result<HostState, KernelError> {
        self.with(|world| {
            world
                .ask("read the interfaces")
                .map(|()| world.host_state())
        })
    }

    fn use_underlay(&mut self, _: u32) {}

    fn ensure_link(&mut self, dev: LinkRole, spec: &LinkSpec) -> Result<Ensured, KernelError> {
        self.with(|world| {
            world.ask("read the links")?;
            let ensured = world.fit(dev, spec);
            world.ask("read the links again")?;
            match world.device(dev).map(|device| device.index) {
                Some(index) => world.plays.insert(dev, index),
                None => world.plays.remove(&dev),
            };
            ensured
        })
    }

    fn remove_link(&mut self, dev: LinkRole) -> Result<(), KernelError> {
        self.with(|world| {
            world
                .ask("delete the device")
                .map(|()| world.delete_device(dev))
        })
    }

    fn remove_former_link(&mut self, link: &LinkFact) -> Result<bool, KernelError> {
        self.with(|world| {
            world.ask("delete the device")?;
            let is_meant = |dev: &LinkRole| {
                world
                    .device(*dev)
                    .is_some_and(|device| device.name == link.name)
            };
            let dev = [LinkRole::Overlay, LinkRole::Overlay6]
                .into_iter()
                .find(is_meant);
            dev.into_iter().for_each(|dev| world.delete_device(dev));
            Ok(dev.is_some())
        })
    }

    fn dump(&mut self, owned: &Owned) -> Result<Vec<Entry>, KernelError> {
        self.with(|world| {
            world.dumps += 1;
            world.ask("read the tables")?;
            if world.plays.keys().all(|dev| world.is_in_place(*dev)) {
                Ok(world.ours(owned))
            } else {
                Err(refused("read the tables", Errno::NODEV))
            }
        })
    }

    async fn prefetch(
        &mut self,
        links: &[(LinkRole, LinkSpec)],
        owned: &Owned,
    ) -> Option<Vec<Entry>> {
        self.with(|world| {
            if !links.iter().all(|(dev, _)| world.device(*dev).is_some()) {
                return None;
            }
            world.listening = true;
            Some(world.ours(owned))
        })
    }

    fn apply(&mut self, ops: &[Op]) -> Result<Vec<Failure>, KernelError> {
        self.with(|world| {
            let mut failures = Vec::new();
            for op in ops {
                let result = match world.step() {
                    Some(Fault::Errno(errno)) => Err(errno),
                    Some(Fault::Lost | Fault::Unsettled) => {
                        return world.obey(op).map_or(Err(lost()), |()| Err(lost()));
                    }
                    None => world.obey(op),
                };
                failures.extend(result.err().map(|errno| Failure {
                    op: *op,
                    errno,
                    text: None,
                }));
            }
            Ok(failures)
        })
    }

    fn listen(&mut self) -> Result<bool, KernelError> {
        self.with(|world| {
            let is_open = world.listening;
            world.ask("listen").map(|()| world.listening = true)?;
            Ok(is_open)
        })
    }

    async fn notices(&mut self, _: &Owned) -> Vec<Notification> {
        loop {
            let notified = {
                let mut world = lock(&self.world);
                std::mem::take(&mut world.notified)
            };
            if !notified.is_empty() {
                return notified;
            }
            self.changed.notified().await;
        }
    }
}
