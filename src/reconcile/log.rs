//! What an operator reads about it: the status line, and few log lines however much happens.

use std::time::SystemTime;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Reconciler;
use crate::config::OnLeaseLost;
use crate::desired::PeerEvent;
use crate::kernel::{Failure, Op};
use crate::state_file;
use crate::subnet::LeaseStatus;

/// Lines about single peers, entries or failures that one batch may cost.
const LINES: usize = 20;
/// Repaired entries that a line names.
const FEW: usize = 3;

impl<K> Reconciler<'_, K> {
    /// One line for `systemctl status`.
    pub(super) fn summary(&self) -> String {
        let subnets = self.desired.own().subnets;
        let mut text = match self.desired.is_complete() {
            true => format!("{subnets}, {} peers", self.desired.peer_count()),
            false => format!(
                "{subnets}, {} peers, reading the leases",
                self.desired.peer_count()
            ),
        };
        if let Some(saved_state) = &self.saved_state {
            let age = state_file::age(saved_state.saved, SystemTime::now());
            text.push_str(&format!(
                ", STALE: etcd has not answered, this state is {age}"
            ));
        }
        let counts = [
            (self.desired.refused_count(), "leases refused (see log)"),
            (
                self.desired.duplicate_count(),
                "public addresses of more than one host (see log)",
            ),
            (self.failing, "kernel writes failing (see log)"),
            (
                self.flapping.objects(Instant::now()).count(),
                "objects flapping (see log)",
            ),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!(", {count} {what}"));
        }
        if let Some(lost) = lease_trouble(self.lease_status) {
            text.push_str(&format!(", {lost}"));
        }
        for trouble in self.trouble.iter().chain(&self.files.trouble()) {
            text.push_str(&format!(", {trouble}"));
        }
        match &self.firewall {
            Some(firewall) => text.push_str(&firewall.to_string()),
            None => text.push_str(", looking at the firewall's rules"),
        }
        text
    }

    /// The data plane stays: pods keep their addresses, and anyone who reaches them now goes on doing so.
    pub(super) fn on_lease_status(&mut self, lease_status: LeaseStatus) {
        self.save_schedule.found(lease_status);
        if matches!(
            lease_status,
            LeaseStatus::TakenOver { .. } | LeaseStatus::ConfigChanged | LeaseStatus::Moved { .. }
        ) {
            self.save_schedule.disavow();
        }
        let subnets = self.desired.own().subnets;
        let now = |held: &'static str| match self.config.on_lease_lost {
            OnLeaseLost::Hold
                if !self.save_schedule.is_confirmed()
                    && matches!(lease_status, LeaseStatus::TakenOver { .. }) =>
            {
                "This host started without etcd, which has never confirmed the lease: it goes over to another subnet"
            }
            OnLeaseLost::Hold => held,
            OnLeaseLost::Move => "This host goes over to another subnet as soon as it has one",
            OnLeaseLost::Exit => "This daemon ends",
        };
        match lease_status {
            LeaseStatus::TakenOver { by } => error!(
                "the lease of {subnets} is lost: its key announces {by} now, and peers send this subnet's traffic there. {}",
                now(
                    "This host goes on as it is and takes the key back once it is free. Stop one of the two hosts, or restart this daemon to lease another subnet"
                )
            ),
            LeaseStatus::ConfigChanged => error!(
                "the lease of {subnets} is gone, and the network configuration no longer allows it. {}",
                now(
                    "This host goes on as it is, and peers do not know it: restart this daemon to lease another subnet"
                )
            ),
            // Another subnet is no way out: that host would have it too.
            // log: self-explanatory
            LeaseStatus::DuplicateHost { ip } => error!(
                "the lease of {subnets} is lost to another host that announces {ip} too: see the lines before. This host goes on as it is and takes the key back once it is free"
            ),
            LeaseStatus::Moved { to } => error!(
                "the lease of {subnets} is gone, and {to} is leased to this host instead: an administrator moved it. {}",
                now("This host goes on as it is, and takes the key back")
            ),
            LeaseStatus::Held if self.lease_status != LeaseStatus::Held => {
                info!("Lease acquired: {subnets} is this host's again");
            }
            LeaseStatus::Held => {}
        }
        self.lease_status = lease_status;
    }

    /// A line for each change while they are few; what cannot be used always by name, it needs someone.
    pub(super) fn tell(&self, news: &[PeerEvent]) {
        let (troubles, routine): (Vec<_>, Vec<_>) = news.iter().partition(|news| {
            !matches!(
                news,
                PeerEvent::Joined(..) | PeerEvent::Changed(..) | PeerEvent::Left(_)
            )
        });
        for news in troubles.iter().take(LINES) {
            match matches!(news, PeerEvent::Duplicate(..)) {
                true => self.names.log(news),
                false => warn!("{news}"),
            }
        }
        if troubles.len() > LINES {
            // log: self-explanatory
            warn!(
                "and {} more leases that cannot be used",
                troubles.len() - LINES
            );
        }
        match routine.len() > LINES {
            true => info!("{} peers joined, changed or left", routine.len()),
            false => routine.iter().for_each(|news| info!("{news}")),
        }
    }
}

/// What is wrong with the lease, in a few words.
pub(super) fn lease_trouble(lease_status: LeaseStatus) -> Option<String> {
    match lease_status {
        LeaseStatus::Held => None,
        LeaseStatus::TakenOver { by } => Some(format!("LEASE LOST to {by}")),
        LeaseStatus::ConfigChanged => {
            Some("LEASE LOST: it does not fit the network configuration".into())
        }
        LeaseStatus::DuplicateHost { ip } => Some(format!("LEASE LOST to another host at {ip}")),
        LeaseStatus::Moved { to } => Some(format!("LEASE MOVED to {to}")),
    }
}

pub(super) fn failures(failures: &[Failure]) {
    failures
        .iter()
        .take(LINES)
        .for_each(|failure| warn!("{failure}; trying again"));
    if failures.len() > LINES {
        // log: self-explanatory
        warn!("and {} more failed writes", failures.len() - LINES);
    }
}

/// One line, however many they are. At a finer level each write has its own.
pub(super) fn repairs(ops: &[Op]) {
    let few = ops
        .iter()
        .take(FEW)
        .map(Op::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    match ops.len().saturating_sub(FEW) {
        0 if few.is_empty() => {}
        0 => info!("repaired: {few}"),
        more => info!("repaired: {few}, and {more} more"),
    }
}
