//! One life of a daemon: the order of `src/app.rs`, without kernel and files.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::{Claim, Error, Lease, LeaseEvent, LeaseStatus, Snapshot, SubnetManager};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};

use crate::state::{World, published};
use crate::store::ModelStore;

/// Starts a daemon on host `index`, with an etcd configuration as short as the model's leases.
pub(crate) fn start(world: &Arc<World>, index: usize, seed: u64) -> JoinHandle<()> {
    let store = ModelStore {
        world: world.clone(),
        host: index,
    };
    let machine = world.state().hosts[index].machine.clone();
    let manager = EtcdManager::over(store, Duration::from_secs(10), seed).on(machine);
    let life = live(world.clone(), index, manager);
    let timer = Box::pin(sleep(Duration::ZERO));
    tokio::spawn(Pausable {
        world: world.clone(),
        index,
        life: Box::pin(life),
        timer,
    })
}

/// A future that makes no progress while its host is suspended.
struct Pausable<F> {
    world: Arc<World>,
    index: usize,
    life: Pin<Box<F>>,
    timer: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Future for Pausable<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.world.state().hosts[self.index].paused_until;
        if until > Instant::now() {
            // The suspension may be cut short.
            let soon = Instant::now() + Duration::from_secs(5);
            self.timer.as_mut().reset(until.min(soon));
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        self.life.as_mut().poll(context)
    }
}

async fn live(world: Arc<World>, index: usize, manager: EtcdManager<ModelStore>) {
    let began = *world.state().hosts[index]
        .seeking_since
        .get_or_insert_with(Instant::now);
    let (lease, snapshot) = loop {
        match attempt(&world, index, &manager).await {
            Ok(start) => break start,
            Err(_) => sleep(Duration::from_secs(3)).await,
        }
    };
    {
        let mut state = world.state();
        state.check_move(index, &lease, began);
        let host = &mut state.hosts[index];
        (host.last, host.remembers, host.seeking_since) = (Some(lease.subnets), true, None);
        host.belief = Some((lease.subnets, LeaseStatus::Held));
    }
    serve(&world, index, &manager, lease, snapshot).await;
}

async fn attempt(
    world: &World,
    index: usize,
    manager: &EtcdManager<ModelStore>,
) -> Result<(Lease, Snapshot), Error> {
    let config = manager.network_config().await?;
    let snapshot = manager.snapshot().await?;
    let claim = {
        let host = &world.state().hosts[index];
        Claim {
            attrs: published(host.ip),
            previous: host.last.filter(|_| host.remembers).unwrap_or_default(),
            underlay: BTreeSet::new(),
        }
    };
    manager.prove(&config, &claim, &snapshot).await?;
    let lease = manager.acquire(&config, &claim, &snapshot).await?;
    Ok((lease, snapshot))
}

async fn serve(
    world: &World,
    index: usize,
    manager: &EtcdManager<ModelStore>,
    lease: Lease,
    snapshot: Snapshot,
) {
    let own = lease.subnets;
    let (events, mut leases) = mpsc::channel::<Vec<LeaseEvent>>(16);
    let (wanted, hints) = watch::channel(lease.attrs.clone());
    let (findings, mut lease_status) = watch::channel(LeaseStatus::Held);
    let listen = async {
        while let Some(batch) = leases.recv().await {
            let concerns_us = |event: &LeaseEvent| match event {
                LeaseEvent::Put(lease) => lease.subnets == own,
                LeaseEvent::Missing(subnets) | LeaseEvent::Delete(subnets) => *subnets == own,
                LeaseEvent::ListStart | LeaseEvent::ListEnd => false,
            };
            if batch.iter().any(concerns_us) {
                wanted.send_modify(|_| {});
            }
        }
    };
    let believe = async {
        while lease_status.changed().await.is_ok() {
            world.state().hosts[index].belief = Some((own, *lease_status.borrow_and_update()));
        }
    };
    tokio::join!(
        manager.watch(Some(snapshot), false, events),
        manager.hold(lease, hints, &findings),
        listen,
        believe
    );
}
