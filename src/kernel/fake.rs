//! An in-memory kernel that treats items as the real one does, for property tests.

use std::collections::BTreeSet;

use super::state::{Item, Op};

/// The items of a kernel.
#[derive(Debug, Default)]
pub(crate) struct FakeKernel {
    items: BTreeSet<Item>,
}

impl FakeKernel {
    pub(crate) fn holding(items: impl IntoIterator<Item = Item>) -> Self {
        Self { items: items.into_iter().collect() }
    }

    pub(crate) fn items(&self) -> &BTreeSet<Item> {
        &self.items
    }

    pub(crate) fn run(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Set(item) => self.replace(*item),
                Op::Delete(item) => drop(self.items.remove(item)),
            }
        }
    }

    /// An exact match stays; else the first entry of the slot becomes the new one and further ones stay beside it.
    fn replace(&mut self, item: Item) {
        if let Some(first) = self.items.iter().find(|have| have.slot() == item.slot()).copied() {
            self.items.remove(&first);
        }
        self.items.insert(item);
    }
}
