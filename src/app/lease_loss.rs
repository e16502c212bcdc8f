//! The own lease while the daemon serves: kept, and when it is lost given up for another one if that is wanted.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::PAUSE;
use crate::backend;
use crate::config::OnLeaseLost;
use crate::subnet::{
    Claim, Error, Lease, LeaseAttrs, LeaseEvent, LeaseStatus, NetworkConfig, Snapshot,
    SubnetManager, Subnets,
};
use crate::util::backoff::Backoff;
use crate::util::retry_log::RetryLog;

/// Keeps the lease beside the loop.
pub(super) struct LeaseKeeper<'a, M> {
    pub(super) manager: &'a M,
    pub(super) on_lost: OnLeaseLost,
    pub(super) network: NetworkConfig,
    /// Where tunnel packets left from when this host leased its subnet.
    pub(super) locals: BTreeSet<IpAddr>,
    /// What the lease must announce.
    pub(super) wanted: watch::Receiver<LeaseAttrs>,
    /// How the lease stands.
    pub(super) findings: watch::Sender<LeaseStatus>,
    pub(super) owned: watch::Sender<Lease>,
}

/// Why the daemon ends. Device, routes, files and etcd stay as they are.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// It must not go on without its lease.
    #[error("lost the lease of {0}{to}: exiting because of -on-lease-lost=exit; packets keep flowing, and the next start leases another subnet", to = whereto(*.1))]
    Lost(Subnets, LeaseStatus),
    /// The host needs another subnet: the cluster network is another one now.
    // log: self-explanatory
    #[error(
        "lost the lease of {0}: exiting because the network configuration has changed since this daemon started; packets keep flowing, and the next start leases a subnet of the new network"
    )]
    Reconfigured(Subnets),
}

fn whereto(lease_status: LeaseStatus) -> String {
    match lease_status {
        LeaseStatus::TakenOver { by } => format!(" to {by}"),
        LeaseStatus::DuplicateHost { ip } => {
            format!(" to another host with the public address {ip}")
        }
        LeaseStatus::ConfigChanged => " after a change of the network configuration".to_owned(),
        LeaseStatus::Moved { to } => format!(", which an administrator replaced by {to}"),
        LeaseStatus::Held => String::new(),
    }
}

impl<M: SubnetManager> LeaseKeeper<'_, M> {
    /// Keeps the lease and sends what becomes of all leases, beginning with `known`. Returns when the daemon has to end.
    pub(super) async fn run(
        self,
        mut known: Option<Snapshot>,
        events: mpsc::Sender<Vec<LeaseEvent>>,
    ) -> End {
        // A lease from the state file is not known to be this host's before etcd has said so.
        let mut is_confirmed = known.is_some();
        let had_list = known.is_some();
        loop {
            // A new list after each move: before it, the owner of the old subnet did not matter.
            let watched = async {
                self.manager
                    .watch(known.take(), had_list, events.clone())
                    .await;
                pending::<Infallible>().await
            };
            let kept = tokio::select! {
                // First: a key that is made here must be known as the own one when the watch sees it.
                biased;
                kept = self.keep(&mut is_confirmed) => kept,
                never = watched => match never {},
            };
            match kept {
                Ok(lease) => {
                    is_confirmed = true;
                    self.owned.send_replace(lease);
                    self.findings.send_replace(LeaseStatus::Held);
                }
                Err(end) => return end,
            }
        }
    }

    /// Holds the lease until it is lost; then the one that takes its place.
    async fn keep(&self, is_confirmed: &mut bool) -> Result<Lease, End> {
        let (lease, lease_status) = (self.owned.borrow().clone(), self.findings.subscribe());
        let subnets = lease.subnets;
        let lost = tokio::select! {
            biased;
            never = self.manager.hold(lease, self.wanted.clone(), &self.findings) => match never {},
            lost = self.loss(lease_status, is_confirmed) => lost,
        };
        match self.on_lost {
            OnLeaseLost::Exit => Err(End::Lost(subnets, lost)),
            OnLeaseLost::Move | OnLeaseLost::Hold => self.another(subnets).await,
        }
    }

    /// Waits until the lease is found in a state in which it is given up.
    async fn loss(
        &self,
        mut lease_status: watch::Receiver<LeaseStatus>,
        is_confirmed: &mut bool,
    ) -> LeaseStatus {
        while lease_status.changed().await.is_ok() {
            let found = *lease_status.borrow_and_update();
            *is_confirmed |= found == LeaseStatus::Held;
            if self.gives_up(found, *is_confirmed) {
                return found;
            }
        }
        pending().await
    }

    /// A host with the same address would also have any other subnet that is leased. A subnet that etcd has never confirmed
    /// since the start is given up to another host whatever the flag says: that one had it first.
    fn gives_up(&self, lease_status: LeaseStatus, is_confirmed: bool) -> bool {
        match (self.on_lost, lease_status) {
            (OnLeaseLost::Hold, LeaseStatus::TakenOver { .. }) => !is_confirmed,
            (_, LeaseStatus::Held) | (OnLeaseLost::Hold, _) => false,
            (OnLeaseLost::Move, LeaseStatus::DuplicateHost { .. }) => false,
            (OnLeaseLost::Move | OnLeaseLost::Exit, _) => true,
        }
    }

    /// Leases another subnet, or the old one should it be free meanwhile.
    async fn another(&self, lost: Subnets) -> Result<Lease, End> {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut retry_log = RetryLog::default();
        loop {
            match self.acquire(lost).await {
                Ok(Some(lease)) => return Ok(lease),
                Ok(None) => return Err(End::Reconfigured(lost)),
                Err(error) => retry_log.log(&error.to_string()),
            }
            sleep(backoff.delay(rand::random())).await;
        }
    }

    /// `None` if the network is another one now: then not only the subnet has to change.
    async fn acquire(&self, lost: Subnets) -> Result<Option<Lease>, Error> {
        let network = self.manager.network_config().await?;
        if !backend::is_same_network(&network, &self.network) {
            return Ok(None);
        }
        let underlay = self
            .locals
            .iter()
            .copied()
            .chain(self.manager.telemetry().members())
            .collect();
        let claim = Claim {
            attrs: self.wanted.borrow().clone(),
            previous: lost,
            underlay,
        };
        let known = self.manager.snapshot().await?;
        self.manager
            .acquire(&network, &claim, &known)
            .await
            .map(Some)
    }
}
