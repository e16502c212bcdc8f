//! What an operator reads about it: the status line, and few log lines however much happens.

use std::time::SystemTime;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::Reconciler;
use crate::config::OnLeaseLost;
use crate::desired::PeerEvent;
use crate::kernel::{Failure, Op};
use crate::state_file;
use crate::subnet::LeaseStatus;
use crate::util::logging::causes;

/// Lines about single peers that one batch may cost.
const LINES: usize = 20;
/// Repaired entries that a line names, and failed writes that have a line each.
const FEW: usize = 3;

impl<K> Reconciler<'_, K> {
    /// One line for `systemctl status`.
    pub(super) fn summary(&self) -> String {
        let subnets = self.desired.own().subnets;
        let mut text = format!("{subnets}, {} peers", self.desired.peer_count());
        if !self.desired.is_complete() {
            text.push_str(", reading the leases");
        }
        if let Some(saved_state) = &self.saved_state {
            let age = state_file::age(saved_state.saved, SystemTime::now());
            text.push_str(&format!(
                ", STALE: etcd has not answered since the start, this state is {age}"
            ));
        }
        let counts = [
            (self.desired.refused_count(), "leases refused (see log)"),
            (
                self.desired.duplicate_count(),
                "duplicate public addresses (see log)",
            ),
            (self.failing, "kernel writes failed (see log)"),
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
            None => text.push_str(", checking the firewall rules"),
        }
        text
    }

    /// Logs a change of the lease status. The data plane stays: pods keep their addresses and their connections.
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
                "this host started without etcd and its lease was never confirmed, so it moves to another subnet"
            }
            OnLeaseLost::Hold => held,
            OnLeaseLost::Move => "this host moves to another subnet as soon as it has a lease",
            OnLeaseLost::Exit => "this daemon exits",
        };
        match lease_status {
            LeaseStatus::TakenOver { by } => error!(
                subnet = %subnets, public_ip = %by,
                "lost the lease of {subnets}: its key announces {by}, and peers send the traffic of this subnet there; {}",
                now(
                    "this host keeps the subnet and takes the key back when it is free. Stop one of the two hosts, or restart this daemon to lease another subnet"
                )
            ),
            LeaseStatus::ConfigChanged => error!(
                subnet = %subnets,
                "lost the lease of {subnets}: the network configuration no longer allows it; {}",
                now(
                    "this host keeps the subnet, but peers do not know it. Restart this daemon to lease another subnet"
                )
            ),
            // Another subnet is no way out: that host would have it too.
            // log: self-explanatory
            LeaseStatus::DuplicateHost { ip } => error!(
                subnet = %subnets, public_ip = %ip,
                "lost the lease of {subnets}: another host also announces the public address {ip} (the lines above name it); this host keeps the subnet and takes the key back when it is free"
            ),
            LeaseStatus::Moved { to } => error!(
                subnet = %subnets, to = %to,
                "lost the lease of {subnets}: an administrator moved this host to {to}; {}",
                now("this host keeps its subnet and takes the key back")
            ),
            LeaseStatus::Held if self.lease_status != LeaseStatus::Held => {
                info!(subnet = %subnets, "Lease acquired: {subnets} belongs to this host again");
            }
            LeaseStatus::Held => {}
        }
        self.lease_status = lease_status;
    }

    /// A line for each change while they are few; what cannot be used always by name, it needs someone.
    pub(super) fn log_events(&self, events: &[PeerEvent]) {
        let (troubles, routine): (Vec<_>, Vec<_>) = events.iter().partition(|event| {
            !matches!(
                event,
                PeerEvent::Joined(..) | PeerEvent::Changed(..) | PeerEvent::Left(_)
            )
        });
        for event in troubles.iter().take(LINES) {
            if matches!(event, PeerEvent::Duplicate(..)) {
                self.names.log(event)
            } else {
                event.log()
            }
        }
        if troubles.len() > LINES {
            let count = troubles.len() - LINES;
            // log: self-explanatory
            warn!(
                count,
                "{count} more leases have problems; rflannel status --peers lists them"
            );
        }
        if routine.len() > LINES {
            info!(
                count = routine.len(),
                "{} peers joined, changed, or left",
                routine.len()
            )
        } else {
            routine.iter().for_each(|event| event.log())
        }
    }
}

/// Describes in a few words why the lease is lost.
pub(super) fn lease_trouble(lease_status: LeaseStatus) -> Option<String> {
    match lease_status {
        LeaseStatus::Held => None,
        LeaseStatus::TakenOver { by } => Some(format!("LEASE LOST to {by}")),
        LeaseStatus::ConfigChanged => {
            Some("LEASE LOST: the network configuration does not allow it".into())
        }
        LeaseStatus::DuplicateHost { ip } => Some(format!("LEASE LOST to another host at {ip}")),
        LeaseStatus::Moved { to } => Some(format!("LEASE MOVED to {to}")),
    }
}

/// Logs the first failed writes and the number of the others, which have lines of their own from `-v=1` on.
pub(super) fn failures(failures: &[Failure]) {
    let (first, rest) = failures.split_at(failures.len().min(FEW));
    for failure in first {
        warn!(entry = %failure.op.entry(), err = %causes(failure), "{failure}; retrying");
    }
    for failure in rest {
        debug!(entry = %failure.op.entry(), err = %causes(failure), "{failure}; retrying");
    }
    if !rest.is_empty() {
        let count = rest.len();
        // log: self-explanatory
        warn!(count, "{count} more kernel writes failed; retrying");
    }
}

/// Logs one line for all repairs of a resync. From `-v=1` each write has a line of its own.
pub(super) fn repairs(ops: &[Op]) {
    let few = ops
        .iter()
        .take(FEW)
        .map(Op::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let count = ops.len();
    match count.saturating_sub(FEW) {
        0 if few.is_empty() => {}
        0 => info!(count, entry = few, "repaired: {few}"),
        more => info!(count, entry = few, "repaired: {few}, and {more} more"),
    }
}
