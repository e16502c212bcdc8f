//! Writes whose answer is lost, hosts that share an address, and a configuration that changes in mid-flight.

use std::sync::Arc;
use std::time::Duration;

use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::owner::MachineId;
use flanneld::subnet::{Error, Lease, LeaseEvent, LeaseStatus, SubnetManager};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::acquire::BOTH;
use crate::support::etcd::{Etcd, PREFIX, config};
use crate::support::proxy::{Lost, Proxy};
use crate::support::{soon, until};
use crate::{NETWORK, acquire, attrs, claim, configure, manager, store, stored};

const ME: [u8; 4] = [10, 0, 0, 1];

fn machine(id: &str, boot: &str) -> MachineId {
    MachineId::new(id, boot, &format!("host-{id}-{boot}"))
}

/// A daemon as far as etcd sees it. Dropped, it dies at once.
struct Daemon {
    lease: Lease,
    lease_status: watch::Receiver<LeaseStatus>,
    _tasks: JoinSet<()>,
}

impl Daemon {
    async fn start(etcd: &Etcd, machine: MachineId) -> Result<Self, Error> {
        let manager = manager(etcd.config()).on(machine);
        let config = manager.network_config().await?;
        let lease = acquire(&manager, &config, &claim(ME)).await?;
        Ok(Self::hold(manager, lease))
    }

    fn hold(manager: EtcdManager, lease: Lease) -> Self {
        let (manager, mut tasks) = (Arc::new(manager), JoinSet::new());
        let (wanted, hints) = watch::channel(lease.attrs.clone());
        let (findings, lease_status) = watch::channel(LeaseStatus::Held);
        let (events, mut leases) = mpsc::channel::<Vec<LeaseEvent>>(16);
        let (watcher, own) = (manager.clone(), lease.clone());
        tasks.spawn(async move {
            let known = watcher.snapshot().await.unwrap();
            watcher.watch(Some(known), false, events).await;
        });
        tasks.spawn(async move {
            manager.hold(own, hints, &findings).await;
        });
        tasks.spawn(async move {
            while leases.recv().await.is_some() {
                wanted.send_modify(|_| {});
            }
        });
        Self {
            lease,
            lease_status,
            _tasks: tasks,
        }
    }

    fn name(&self) -> String {
        self.lease.subnets.to_string().replace('/', "-")
    }

    async fn learns(&mut self, lease_status: LeaseStatus) {
        soon(
            "the standing changes",
            self.lease_status.wait_for(|now| *now == lease_status),
        )
        .await
        .unwrap();
    }
}

async fn owner(etcd: &Etcd, name: &str) -> Option<(MachineId, i64)> {
    let found = etcd
        .client()
        .await
        .get(format!("{PREFIX}/owners/{name}"), None)
        .await
        .unwrap();
    let kv = found.kvs().first()?;
    Some((MachineId::decode(kv.value()).unwrap(), kv.lease()))
}

async fn count_keys(etcd: &Etcd) -> usize {
    let all = etcd_client::GetOptions::new().with_prefix();
    etcd.client()
        .await
        .get(format!("{PREFIX}/subnets/"), Some(all))
        .await
        .unwrap()
        .kvs()
        .len()
}

async fn loses_one_write(lost: Lost) {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let proxy = Proxy::to(etcd.address).await;
    let manager = manager(config(vec![format!("http://{}", proxy.address)])).on(machine("a", "1"));
    let network = manager.network_config().await.unwrap();
    proxy.lose("BackendType", lost);
    let lease = acquire(&manager, &network, &claim(ME)).await.unwrap();
    until("the loss is over", async || proxy.has_lost().then_some(())).await;
    let name = lease.subnets.to_string().replace('/', "-");
    let mut client = etcd.client().await;
    let (value, modified, lease_id) = stored(&mut client, &name).await.unwrap();
    assert_eq!((value, modified), (attrs(ME).encode(), lease.modified));
    assert_eq!(count_keys(&etcd).await, 1, "{lost:?}");
    let lease_ids: Vec<i64> = client
        .lease_client()
        .leases()
        .await
        .unwrap()
        .leases()
        .iter()
        .map(|one| one.id())
        .collect();
    assert_eq!(lease_ids, [lease_id], "{lost:?}");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_leaves_one_lease() {
    loses_one_write(Lost::Answer).await;
}

#[tokio::test]
async fn a_write_that_is_lost_is_done_again() {
    loses_one_write(Lost::Request).await;
}

#[tokio::test]
async fn a_write_that_comes_after_it_was_given_up_does_nothing() {
    loses_one_write(Lost::AnswerAndTime(Duration::from_secs(4))).await;
}

#[tokio::test]
async fn the_record_lives_and_dies_with_the_lease() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let daemon = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    let (name, lease_id) = (daemon.name(), daemon.lease.lease_id.unwrap().get());
    assert_eq!(
        owner(&etcd, &name).await,
        Some((machine("a", "1"), lease_id))
    );
    drop(daemon);
    etcd.client().await.lease_revoke(lease_id).await.unwrap();
    assert_eq!(
        (owner(&etcd, &name).await, count_keys(&etcd).await),
        (None, 0)
    );
}

#[tokio::test]
async fn restart_is_no_duplicate_and_writes_nothing() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let first = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    let second = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    assert_eq!(first.lease, second.lease);
}

#[tokio::test]
async fn a_lease_without_record_is_recorded() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let gos = Daemon::start(&etcd, MachineId::default()).await.unwrap();
    assert_eq!(owner(&etcd, &gos.name()).await, None);
    drop(gos);
    let ours = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    assert!(
        owner(&etcd, &ours.name())
            .await
            .is_some_and(|(owner, _)| owner.is(&machine("a", "1")))
    );
}

/// A live host keeps its lease, and the one that comes later is told who that is.
async fn is_refused(second: MachineId, advice: bool) {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let first = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    let error = Daemon::start(&etcd, second)
        .await
        .err()
        .expect("the second is refused");
    let text = error.to_string();
    assert!(matches!(error, Error::Duplicate { .. }), "{text}");
    assert!(
        text.contains("host-a-1") && text.contains("10.0.0.1") && text.contains("-iface"),
        "{text}"
    );
    assert_eq!(text.contains("/etc/machine-id"), advice, "{text}");
    assert!(
        owner(&etcd, &first.name())
            .await
            .unwrap()
            .0
            .is(&machine("a", "1"))
    );
    assert_eq!(
        (count_keys(&etcd).await, *first.lease_status.borrow()),
        (1, LeaseStatus::Held)
    );
}

#[tokio::test]
async fn another_machine_with_the_same_address_is_refused() {
    is_refused(machine("b", "1"), false).await;
}

#[tokio::test]
async fn a_clone_with_the_same_machine_id_is_refused() {
    is_refused(machine("a", "2"), true).await;
}

#[tokio::test]
async fn replaced_machine_that_returns_learns_of_it() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let first = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    let lease = first.lease.clone();
    drop(first);
    let second = Daemon::start(&etcd, machine("b", "1")).await.unwrap();
    assert_eq!(second.lease.subnets, lease.subnets);
    assert_ne!(second.lease.lease_id, lease.lease_id);
    let mut risen = Daemon::hold(manager(etcd.config()).on(machine("a", "1")), lease);
    risen
        .learns(LeaseStatus::DuplicateHost { ip: ME.into() })
        .await;
    assert!(
        owner(&etcd, &second.name())
            .await
            .unwrap()
            .0
            .is(&machine("b", "1"))
    );
    assert_eq!(*second.lease_status.borrow(), LeaseStatus::Held);
}

#[tokio::test]
async fn value_conflict_ends_with_an_error() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let mut daemon = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    let (name, lease_id) = (daemon.name(), daemon.lease.lease_id.unwrap().get());
    let theirs = attrs(ME).encode().replace("0a:58", "0e:58");
    let mut client = etcd.client().await;
    for _ in 0..3 {
        store(&mut client, &name, &theirs, lease_id).await;
        until("it is repaired", async || {
            (stored(&mut client, &name).await?.0 == attrs(ME).encode()).then_some(())
        })
        .await;
    }
    store(&mut client, &name, &theirs, lease_id).await;
    daemon
        .learns(LeaseStatus::DuplicateHost { ip: ME.into() })
        .await;
    assert_eq!(stored(&mut client, &name).await.unwrap().0, theirs);
}

#[tokio::test]
async fn nothing_is_leased_by_a_configuration_that_has_changed() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let manager = manager(etcd.config());
    let old = manager.network_config().await.unwrap();
    let new = configure(&etcd, &NETWORK.replace("24", "25")).await;
    let error = acquire(&manager, &old, &claim(ME)).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable(_)) && error.to_string().contains("changed"),
        "{error}"
    );
    assert_eq!(count_keys(&etcd).await, 0);
    assert_eq!(manager.network_config().await.unwrap().ranges, new.ranges);
    acquire(&manager, &new, &claim(ME)).await.unwrap();
    assert_eq!(
        etcd.client()
            .await
            .lease_client()
            .leases()
            .await
            .unwrap()
            .leases()
            .len(),
        1
    );
}

/// The write that brings a key back is under way while the operator changes the network, and another host leases by the new
/// one. It arrives before its sender gives it up.
#[tokio::test]
async fn nothing_comes_back_by_a_configuration_that_has_changed() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let proxy = Proxy::to(etcd.address).await;
    let manager = manager(config(vec![format!("http://{}", proxy.address)])).on(machine("a", "1"));
    let network = manager.network_config().await.unwrap();
    let lease = acquire(&manager, &network, &claim(ME)).await.unwrap();
    let mut daemon = Daemon::hold(manager, lease);
    let (name, net, mut client) = (
        daemon.name(),
        daemon.lease.subnets.v4.unwrap(),
        etcd.client().await,
    );

    proxy.lose(
        "BackendType",
        Lost::AnswerAndTime(Duration::from_millis(1500)),
    );
    client
        .delete(format!("{PREFIX}/subnets/{name}"), None)
        .await
        .unwrap();
    until("the write is under way", async || {
        proxy.is_losing().then_some(())
    })
    .await;
    configure(&etcd, &NETWORK.replace("24", "23")).await;
    let wider = ipnetwork::Ipv4Network::new(net.network(), 23).unwrap();
    let other = format!("{}-23", wider.network());
    store(&mut client, &other, &attrs([10, 0, 0, 2]).encode(), 0).await;

    until("the write has arrived", async || {
        proxy.has_lost().then_some(())
    })
    .await;
    daemon.learns(LeaseStatus::ConfigChanged).await;
    assert_eq!(
        stored(&mut client, &name).await,
        None,
        "it overlaps {other}"
    );
}

/// Keys of two families differ, so two hosts with one of the subnets in common both had theirs written.
#[tokio::test]
async fn held_lease_overlapping_an_older_one_is_released() {
    let etcd = Etcd::start().await;
    configure(&etcd, BOTH).await;
    let mut client = etcd.client().await;
    let lease_id = client.lease_grant(86_400, None).await.unwrap().id();
    let (theirs, ours) = ("10.5.7.0-24&fd05:0:0:8::-64", "10.5.7.0-24&fd05:0:0:7::-64");
    store(&mut client, theirs, &attrs([10, 0, 0, 2]).encode(), 0).await;
    store(&mut client, ours, &attrs(ME).encode(), lease_id).await;
    let manager = manager(etcd.config());
    let subnets = flanneld::subnet::key::parse(ours).unwrap();
    let known = manager.snapshot().await.unwrap().leases;
    let lease = known
        .into_iter()
        .find(|lease| lease.subnets == subnets)
        .unwrap();
    let mut daemon = Daemon::hold(manager, lease);
    daemon
        .learns(LeaseStatus::TakenOver {
            by: [10, 0, 0, 2].into(),
        })
        .await;
    assert_eq!(
        stored(&mut client, ours).await,
        None,
        "the younger key goes"
    );
    assert!(stored(&mut client, theirs).await.is_some());
}

/// After a change of `SubnetLen` the key of a live host no longer fits, and is that host's all the same.
#[tokio::test]
async fn misfit_of_a_live_machine_is_not_deleted() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let first = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    configure(&etcd, &NETWORK.replace("24", "25")).await;
    let error = Daemon::start(&etcd, machine("b", "1"))
        .await
        .err()
        .expect("the second is refused");
    assert!(matches!(error, Error::Duplicate { .. }), "{error}");
    assert!(
        stored(&mut etcd.client().await, &first.name())
            .await
            .is_some()
    );
    assert_eq!(
        (count_keys(&etcd).await, *first.lease_status.borrow()),
        (1, LeaseStatus::Held)
    );
}

#[tokio::test]
async fn misfit_of_a_dead_machine_is_replaced() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let first = Daemon::start(&etcd, machine("a", "1")).await.unwrap();
    let name = first.name();
    drop(first);
    configure(&etcd, &NETWORK.replace("24", "25")).await;
    let second = Daemon::start(&etcd, machine("b", "1")).await.unwrap();
    assert_eq!(second.lease.subnets.v4.unwrap().prefix(), 25);
    assert_eq!(
        (
            stored(&mut etcd.client().await, &name).await,
            count_keys(&etcd).await
        ),
        (None, 1)
    );
}

/// Another machine's older key vanishes while it is being asked: no proof that the machine lives.
#[tokio::test]
async fn older_key_vanishing_mid_challenge_keeps_own_key() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let mut client = etcd.client().await;
    let theirs = "10.5.7.0-24";
    let asked = store(&mut client, theirs, &attrs(ME).encode(), 0).await;
    let record = format!("{PREFIX}/owners/{theirs}");
    client
        .put(record.as_str(), machine("b", "1").encode(), None)
        .await
        .unwrap();
    let lease_id = client.lease_grant(86_400, None).await.unwrap().id();
    let ours = "10.5.9.0-24";
    store(&mut client, ours, &attrs(ME).encode(), lease_id).await;
    let manager = manager(etcd.config()).on(machine("a", "1"));
    let known = manager.snapshot().await.unwrap().leases;
    let lease = known
        .into_iter()
        .find(|lease| lease.subnets.to_string() == "10.5.9.0/24")
        .unwrap();
    let daemon = Daemon::hold(manager, lease);
    until("the older key is challenged", async || {
        (stored(&mut client, theirs).await?.1 > asked).then_some(())
    })
    .await;
    let deletes = [crate::key(theirs), record].map(|key| etcd_client::TxnOp::delete(key, None));
    client
        .txn(etcd_client::Txn::new().and_then(deletes))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        stored(&mut client, ours).await.map(|(_, _, on)| on),
        Some(lease_id),
        "not revoked"
    );
    assert_eq!(*daemon.lease_status.borrow(), LeaseStatus::Held);
}
