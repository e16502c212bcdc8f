//! Keeping a lease: renewal, deletion, theft, outages.

use std::sync::Arc;
use std::time::Duration;

use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::owner::MachineId;
use flanneld::subnet::{Lease, LeaseAttrs, LeaseStatus, SubnetManager};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::support::etcd::Etcd;
use crate::support::{soon, until};
use crate::{NETWORK, acquire, attrs, claim, configure, manager, store, stored};

const ME: [u8; 4] = [10, 0, 0, 1];

/// A host that holds its lease.
struct Host {
    etcd: Etcd,
    name: String,
    lease: Lease,
    wanted: watch::Sender<LeaseAttrs>,
    lease_status: watch::Receiver<LeaseStatus>,
}

impl Host {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Lease)) -> Self {
        Self::start_both(|manager| manager, change).await
    }

    async fn start_as(manager: impl FnOnce(EtcdManager) -> EtcdManager) -> Self {
        Self::start_both(manager, |_| {}).await
    }

    async fn start_both(
        with: impl FnOnce(EtcdManager) -> EtcdManager,
        change: impl FnOnce(&mut Lease),
    ) -> Self {
        let etcd = Etcd::start().await;
        let config = configure(&etcd, NETWORK).await;
        let manager = with(manager(etcd.config()));
        let mut lease = acquire(&manager, &config, &claim(ME)).await.unwrap();
        change(&mut lease);
        let (wanted, hints) = watch::channel(lease.attrs.clone());
        let (findings, lease_status) = watch::channel(LeaseStatus::Held);
        let held = lease.clone();
        tokio::spawn(async move { manager.hold(held, hints, &findings).await });
        let name = lease.subnets.to_string().replace('/', "-");
        Self {
            etcd,
            name,
            lease,
            wanted,
            lease_status,
        }
    }

    /// As if a watch had seen the key change.
    fn check(&self) {
        self.wanted.send_modify(|_| {});
    }

    /// Waits until the key holds our value in another revision than `before`; returns its etcd lease.
    async fn restored(&self, before: i64) -> i64 {
        let mut client = self.etcd.client().await;
        let value = attrs(ME).encode();
        until("the key comes back", async || {
            self.check();
            let (stored, modified, lease_id) = stored(&mut client, &self.name).await?;
            (stored == value && modified > before).then_some(lease_id)
        })
        .await
    }
}

#[tokio::test]
async fn deleted_key_is_restored_with_its_lease_id() {
    let host = Host::start().await;
    host.etcd
        .client()
        .await
        .delete(crate::key(&host.name), None)
        .await
        .unwrap();
    assert_eq!(
        host.restored(host.lease.modified).await,
        host.lease.lease_id.unwrap().get()
    );
}

#[tokio::test]
async fn revoked_lease_id_is_replaced() {
    let host = Host::start().await;
    let lease_id = host.lease.lease_id.unwrap().get();
    host.etcd
        .client()
        .await
        .lease_revoke(lease_id)
        .await
        .unwrap();
    let new = host.restored(host.lease.modified).await;
    assert!(new != lease_id && new != 0);
}

#[tokio::test]
async fn changed_value_is_restored() {
    let host = Host::start().await;
    let mut client = host.etcd.client().await;
    for value in [r#"{"PublicIP":"10.0.0.1","BackendType":"udp"}"#, "rubbish"] {
        let lease_id = host.lease.lease_id.unwrap().get();
        let broken = store(&mut client, &host.name, value, lease_id).await;
        assert_eq!(host.restored(broken).await, lease_id);
    }
}

#[tokio::test]
async fn a_key_that_became_a_reservation_stays_one() {
    let host = Host::start().await;
    let mut client = host.etcd.client().await;
    store(&mut client, &host.name, &attrs(ME).encode(), 0).await;
    let changed = store(&mut client, &host.name, r#"{"PublicIP":"10.0.0.1"}"#, 0).await;
    assert_eq!(host.restored(changed).await, 0);
}

#[tokio::test]
async fn a_key_of_another_host_is_lost_and_left_alone() {
    let mut host = Host::start().await;
    let mut client = host.etcd.client().await;
    let other = attrs([10, 0, 0, 2]).encode();
    store(&mut client, &host.name, &other, 0).await;
    let written = stored(&mut client, &host.name).await;
    host.check();
    let taken = LeaseStatus::TakenOver {
        by: [10, 0, 0, 2].into(),
    };
    soon(
        "the loss is noticed",
        host.lease_status
            .wait_for(|lease_status| *lease_status == taken),
    )
    .await
    .unwrap();
    assert_eq!(stored(&mut client, &host.name).await, written);
    client.delete(crate::key(&host.name), None).await.unwrap();
    host.restored(0).await;
    soon(
        "it is ours again",
        host.lease_status
            .wait_for(|lease_status| *lease_status == LeaseStatus::Held),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_new_public_address_is_published_under_the_same_subnet() {
    let host = Host::start().await;
    let new = attrs([10, 0, 0, 77]);
    host.wanted.send_replace(new.clone());
    let mut client = host.etcd.client().await;
    until("the key has the new address", async || {
        let (value, _, lease_id) = stored(&mut client, &host.name).await?;
        (value == new.encode() && lease_id == host.lease.lease_id?.get()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_outage_of_etcd_is_survived() {
    let mut host = Host::start().await;
    host.etcd.kill();
    host.check();
    sleep(Duration::from_millis(300)).await;
    host.etcd.restart().await;
    host.etcd
        .client()
        .await
        .delete(crate::key(&host.name), None)
        .await
        .unwrap();
    assert_eq!(
        host.restored(host.lease.modified).await,
        host.lease.lease_id.unwrap().get()
    );
}

#[tokio::test]
async fn a_store_that_lost_everything_gets_the_lease_back() {
    let mut host = Host::start().await;
    host.etcd.kill();
    host.etcd.wipe();
    host.etcd.restart().await;
    assert_ne!(host.restored(0).await, 0);
}

#[tokio::test]
async fn unknown_lease_id_is_replaced() {
    let host = Host::start_with(|lease| lease.lease_id = std::num::NonZeroI64::new(4711)).await;
    // The key itself says which etcd lease it hangs on; that one counts.
    host.etcd
        .client()
        .await
        .delete(crate::key(&host.name), None)
        .await
        .unwrap();
    let lease_id = host.restored(host.lease.modified).await;
    assert!(lease_id != 0 && lease_id != 4711);
}

/// What `rflannel lease move` writes: another key of this host's in the place of the old one, without an owner record.
async fn moved(host: &Host) -> String {
    let (to, mut client) = ("10.5.250.0-24", host.etcd.client().await);
    store(&mut client, to, &attrs(ME).encode(), 0).await;
    client.delete(crate::key(&host.name), None).await.unwrap();
    host.check();
    to.to_owned()
}

#[tokio::test]
async fn who_gives_way_leaves_a_key_that_was_moved_alone() {
    let mut host = Host::start_as(|manager| manager.giving_way(true)).await;
    let to = moved(&host).await;
    let is_moved = |lease_status: &LeaseStatus| matches!(lease_status, LeaseStatus::Moved { to } if to.to_string() == "10.5.250.0/24");
    soon("the move is noticed", host.lease_status.wait_for(is_moved))
        .await
        .unwrap();
    let mut client = host.etcd.client().await;
    assert_eq!(stored(&mut client, &host.name).await, None);
    assert!(stored(&mut client, &to).await.is_some());
}

#[tokio::test]
async fn who_holds_on_takes_a_key_that_was_moved_back() {
    let host = Host::start().await;
    moved(&host).await;
    host.restored(host.lease.modified).await;
}

/// Who makes a key asks once more, for what is new only; who has one asks for nothing: the first list has every duplicate host.
#[tokio::test]
async fn leases_are_listed_once_a_start() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    for lists in [2, 1] {
        let manager = Arc::new(manager(etcd.config()).on(MachineId::new("one", "1", "host-one")));
        let lease = acquire(&*manager, &config, &claim(ME)).await.unwrap();
        let ((_wanted, hints), findings) = (
            watch::channel(lease.attrs.clone()),
            watch::Sender::new(LeaseStatus::Held),
        );
        let holder = manager.clone();
        let held = tokio::spawn(async move { holder.hold(lease, hints, &findings).await });
        let activity = || manager.telemetry().activity();
        until("the lease is renewed", async || activity().renewal.last).await;
        sleep(Duration::from_millis(300)).await;
        assert_eq!(activity().requests.get(&("list", true)), Some(&lists));
        held.abort();
    }
}
