//! The own lease while the daemon serves: kept, and when it is lost given up for another one if that is wanted.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{PAUSE, Waiting};
use crate::config::OnLeaseLost;
use crate::retry::Backoff;
use crate::subnet::{
    Claim, Error, Lease, LeaseAttrs, LeaseEvent, NetworkConfig, Snapshot, Standing, SubnetManager, Subnets,
};

/// Keeps the lease beside the loop.
pub(super) struct Keeper<'a, M> {
    pub(super) manager: &'a M,
    pub(super) on_lost: OnLeaseLost,
    pub(super) network: NetworkConfig,
    /// What the lease shall announce.
    pub(super) wanted: watch::Receiver<LeaseAttrs>,
    /// How the lease stands.
    pub(super) findings: watch::Sender<Standing>,
    /// The lease.
    pub(super) owned: watch::Sender<Lease>,
}

/// The lease is another host's, and the daemon shall end.
pub(super) struct Lost(Subnets, Standing);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lease of {} is lost", self.0)?;
        if let Standing::Taken { by } = self.1 {
            write!(f, " to {by}")?;
        }
        f.write_str(
            ", and -on-lease-lost=exit: ending. Device, routes and files stay as they are; the next start leases a subnet anew",
        )
    }
}

impl<M: SubnetManager> Keeper<'_, M> {
    /// Keeps the lease and sends what becomes of all leases, beginning with `known`. Ends when the daemon shall.
    pub(super) async fn run(
        self,
        mut known: Option<Snapshot>,
        events: mpsc::Sender<Vec<LeaseEvent>>,
    ) -> Lost {
        loop {
            // A list anew after each move: who has the old subnet was nobody's business before.
            let watched = async {
                self.manager.watch(known.take(), events.clone()).await;
                pending::<Infallible>().await
            };
            let kept = tokio::select! {
                // First: a key that is made here shall be known as the own one when the watch sees it.
                biased;
                kept = self.keep() => kept,
                never = watched => match never {},
            };
            match kept {
                Ok(lease) => {
                    self.owned.send_replace(lease);
                    self.findings.send_replace(Standing::Held);
                }
                Err(lost) => return lost,
            }
        }
    }

    /// Holds the lease until it is lost; then the one that takes its place.
    async fn keep(&self) -> Result<Lease, Lost> {
        let (lease, mut standing) = (self.owned.borrow().clone(), self.findings.subscribe());
        let subnets = lease.subnets;
        let ends = self.on_lost != OnLeaseLost::Hold;
        let lost = tokio::select! {
            biased;
            never = self.manager.hold(lease, self.wanted.clone(), &self.findings) => match never {},
            Ok(lost) = standing.wait_for(|standing| *standing != Standing::Held), if ends => *lost,
        };
        match self.on_lost {
            OnLeaseLost::Exit => Err(Lost(subnets, lost)),
            OnLeaseLost::Move | OnLeaseLost::Hold => Ok(self.another(subnets).await),
        }
    }

    /// Leases another subnet, or the old one should it be free meanwhile.
    async fn another(&self, lost: Subnets) -> Lease {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut waiting = Waiting::default();
        loop {
            match self.acquire(lost).await {
                Ok(lease) => return lease,
                Err(error) => waiting.say(&error.to_string()),
            }
            sleep(backoff.delay(rand::random())).await;
        }
    }

    async fn acquire(&self, lost: Subnets) -> Result<Lease, Error> {
        let claim = Claim { attrs: self.wanted.borrow().clone(), previous: lost.v4 };
        let known = self.manager.snapshot().await?;
        self.manager.acquire(&self.network, &claim, &known).await
    }
}
