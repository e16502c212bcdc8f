//! What others on this host read about its subnet: when it is written, and whether it is there.

use tokio::sync::watch;

use super::{Channels, Reconciler};
use crate::firewall;
use crate::kernel::Kernel;
use crate::subnet::Subnets;
use crate::util::go_lines::GoLine;
use crate::util::systemd::Systemd;

impl<K: Kernel> Reconciler<'_, K> {
    /// Notes the firewall's state. Its first one allows the announcement.
    pub(super) fn on_firewall_state(
        &mut self,
        firewall: &mut watch::Receiver<Option<firewall::State>>,
    ) {
        let before = std::mem::replace(&mut self.firewall, firewall.borrow_and_update().clone());
        if before.is_some() || self.firewall.is_none() {
            return;
        }
        self.announce();
    }

    /// Tells the firewall where peers send from.
    pub(super) fn publish(&mut self, channels: &mut Channels) {
        let known = self.desired.is_complete() || self.saved_state.is_some();
        if known && std::mem::take(&mut self.peers_changed) && !channels.sources.is_closed() {
            let peers = Some(self.desired.sources());
            channels.sources.send_if_modified(|sources| {
                *sources != peers && {
                    *sources = peers;
                    true
                }
            });
        }
    }

    /// Has the files written when they must hold something new. The firewall's rules come first.
    pub(super) fn announce(&mut self) {
        let now = self.announcement();
        // A new MTU comes after the device that has it. A subnet that is another one now is told in any case.
        let may_wait = self.announced.is_some_and(|before| before.0 == now.0);
        if may_wait && !self.unusable.is_empty() {
            return;
        }
        if self.firewall.is_some() && self.announced != Some(now) {
            self.files.announce(
                self.config,
                &self.node_config.network,
                self.desired.own(),
                now.1,
            );
            self.announced = Some(now);
        }
    }

    /// Tells all who wait for this host, with the lines that Go flannel writes then.
    pub(super) fn notify_ready(&mut self, systemd: &mut Systemd) {
        if !self.is_up() || !self.has_own_addresses() || !self.is_announced() {
            return;
        }
        let first = !std::mem::replace(&mut self.ready, true);
        if first {
            GoLine::RunningBackend.log();
            GoLine::WatchingLeases.log();
        }
        if !self.bootstrapped
            && self
                .firewall
                .as_ref()
                .is_some_and(|state| state.trouble.is_none())
        {
            self.bootstrapped = true;
            GoLine::BootstrapDone.log();
        }
        if first {
            GoLine::Ready.log();
            systemd.ready();
            self.schedule_resync_after_start();
        }
    }

    /// Whether the files hold what they must hold.
    pub(super) fn is_announced(&self) -> bool {
        self.announced == Some(self.announcement()) && self.files.is_announced()
    }

    fn announcement(&self) -> (Subnets, u32) {
        (self.desired.own().subnets, self.resolved.backend.mtu())
    }

    /// Repairs files that were removed.
    pub(super) fn on_files(&mut self) {
        if self.files.is_announcement_gone() {
            self.announced = None;
            self.announce();
        }
        if self.files.is_state_gone() {
            self.save_schedule.outdated_now();
        }
    }
}
