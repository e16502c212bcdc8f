//! Following all leases: cut wires, lost history, broken and very many leases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flanneld::config::EtcdConfig;
use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::{LeaseAttrs, LeaseEvent, SubnetManager};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::etcd::{Etcd, GrpcProxy, config};
use crate::support::proxy::Proxy;
use crate::support::{soon, until};
use crate::{attrs, key, manager, store};

/// What a receiver of events believes.
struct View {
    events: mpsc::Receiver<Vec<LeaseEvent>>,
    leases: BTreeMap<String, LeaseAttrs>,
    /// Leases put since the last `Listing`, while a list is in progress.
    progress: Option<BTreeMap<String, LeaseAttrs>>,
    lists: usize,
    /// Keys that went, in the order in which they did.
    missed: Vec<String>,
    manager: Arc<EtcdManager>,
    task: JoinHandle<()>,
}

impl View {
    fn of(config: EtcdConfig) -> Self {
        let manager = Arc::new(manager(config));
        let watching = manager.clone();
        let (sender, events) = mpsc::channel(4);
        let task = tokio::spawn(async move {
            {
                let known = watching.snapshot().await.unwrap();
                watching.watch(Some(known), false, sender).await
            }
        });
        Self {
            events,
            leases: BTreeMap::new(),
            progress: None,
            lists: 0,
            missed: vec![],
            manager,
            task,
        }
    }

    fn apply(&mut self, event: LeaseEvent) {
        match (event, &mut self.progress) {
            (LeaseEvent::ListStart, progress) => *progress = Some(BTreeMap::new()),
            (LeaseEvent::ListEnd, progress) => {
                self.leases = progress.take().expect("Listing comes before Listed");
                self.lists += 1;
            }
            (LeaseEvent::Put(lease), Some(progress)) => {
                drop(progress.insert(lease.subnets.to_string(), lease.attrs))
            }
            (LeaseEvent::Put(lease), None) => {
                assert!(self.lists > 0, "a list comes first");
                self.leases.insert(lease.subnets.to_string(), lease.attrs);
            }
            (LeaseEvent::Missing(subnets), _) => self.missed.push(subnets.to_string()),
            (LeaseEvent::Delete(subnets), None) => {
                let subnets = subnets.to_string();
                assert!(self.missed.contains(&subnets), "missing comes before gone");
                self.leases.remove(&subnets);
            }
            (LeaseEvent::Delete(_), Some(_)) => panic!("no deletes inside a list"),
        }
    }

    /// Applies batches until a list has been seen and these are the leases.
    async fn becomes(&mut self, wanted: &[(&str, [u8; 4])]) {
        let wanted: BTreeMap<String, LeaseAttrs> = wanted
            .iter()
            .map(|(subnet, ip)| ((*subnet).to_owned(), attrs(*ip)))
            .collect();
        while self.lists == 0 || self.progress.is_some() || self.leases != wanted {
            let batch = soon("the leases become what they should", self.events.recv())
                .await
                .unwrap();
            assert!(!batch.is_empty());
            batch.into_iter().for_each(|event| self.apply(event));
        }
    }
}

const A: (&str, [u8; 4]) = ("10.5.1.0/24", [10, 0, 0, 1]);
const B: (&str, [u8; 4]) = ("10.5.2.0/24", [10, 0, 0, 2]);
const C: (&str, [u8; 4]) = ("10.5.3.0/24", [10, 0, 0, 3]);

async fn put(etcd: &Etcd, lease: (&str, [u8; 4])) {
    store(
        &mut etcd.client().await,
        &lease.0.replace('/', "-"),
        &attrs(lease.1).encode(),
        0,
    )
    .await;
}

async fn delete(etcd: &Etcd, lease: (&str, [u8; 4])) {
    etcd.client()
        .await
        .delete(key(&lease.0.replace('/', "-")), None)
        .await
        .unwrap();
}

/// Compacts away all history up to now.
async fn compact(etcd: &Etcd) {
    let mut client = etcd.client().await;
    let now = client
        .get("x", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    client.compact(now, None).await.unwrap();
}

#[tokio::test]
async fn an_empty_store_is_listed_too() {
    let etcd = Etcd::start().await;
    let mut view = View::of(etcd.config());
    let first = soon("the first batch", view.events.recv()).await.unwrap();
    assert_eq!(first, [LeaseEvent::ListStart, LeaseEvent::ListEnd]);
}

#[tokio::test]
async fn changes_follow_the_list() {
    let etcd = Etcd::start().await;
    put(&etcd, A).await;
    let mut view = View::of(etcd.config());
    view.becomes(&[A]).await;
    put(&etcd, B).await;
    view.becomes(&[A, B]).await;
    delete(&etcd, A).await;
    view.becomes(&[B]).await;
    put(&etcd, (B.0, C.1)).await;
    view.becomes(&[(B.0, C.1)]).await;
    assert_eq!(view.lists, 1);
}

#[tokio::test]
async fn a_key_that_is_put_again_was_never_gone() {
    let etcd = Etcd::start().await;
    put(&etcd, A).await;
    put(&etcd, B).await;
    let mut view = View::of(etcd.config());
    view.becomes(&[A, B]).await;
    for lease in [A, B] {
        delete(&etcd, lease).await;
    }
    put(&etcd, B).await;
    view.becomes(&[B]).await;
    assert_eq!(view.missed, [A.0, B.0]);
    // B has been missing as long as A.
    put(&etcd, C).await;
    view.becomes(&[B, C]).await;
}

/// The key is missing when the path to etcd falls silent, and put again in the silence: anyone who hears nothing knows nothing.
#[tokio::test]
async fn peer_is_kept_while_etcd_is_silent() {
    let etcd = Etcd::start().await;
    put(&etcd, A).await;
    put(&etcd, B).await;
    let proxy = Proxy::to(etcd.address).await;
    let mut view = View::of(config(vec![format!("http://{}", proxy.address)]));
    view.becomes(&[A, B]).await;
    delete(&etcd, B).await;
    while view.missed.is_empty() {
        let batch = soon("the key is missing", view.events.recv())
            .await
            .unwrap();
        batch.into_iter().for_each(|event| view.apply(event));
    }
    let missing = Instant::now();
    proxy.hold(true);
    put(&etcd, B).await;
    // Longer than the grace period.
    sleep_until(missing + Duration::from_secs(13)).await;
    proxy.hold(false);
    put(&etcd, C).await;
    while view.leases.len() < 3 {
        let batch = soon("the news of the silence", view.events.recv())
            .await
            .unwrap();
        for event in batch {
            view.apply(event);
            assert!(view.lists > 1 || view.leases.len() >= 2, "B is gone");
        }
    }
}

/// It answers no progress requests, and the watch is quiet for longer than a silent member is waited for.
#[tokio::test]
async fn watch_through_grpc_proxy_is_not_lost() {
    let etcd = Etcd::start().await;
    put(&etcd, A).await;
    let proxy = GrpcProxy::start(&etcd).await;
    let mut view = View::of(config(vec![proxy.url()]));
    view.becomes(&[A]).await;
    sleep(Duration::from_secs(45)).await;
    put(&etcd, B).await;
    view.becomes(&[A, B]).await;
    assert_eq!(
        (view.lists, view.manager.telemetry().activity().watch.breaks),
        (1, 0)
    );
    delete(&etcd, B).await;
    view.becomes(&[A]).await;
}

#[tokio::test]
async fn broken_leases_neither_stop_the_watch_nor_hide_others() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    store(&mut client, "10.5.9.0-24", "{", 0).await;
    put(&etcd, A).await;
    let mut view = View::of(etcd.config());
    view.becomes(&[A]).await;
    let huge = "x".repeat(1_000_000);
    for (name, value) in [
        ("x", "{}"),
        ("10.5.8.0-24", ""),
        ("10.5.7.0-24", &huge),
        ("1.2.3.4-33", "{}"),
    ] {
        store(&mut client, name, value, 0).await;
    }
    put(&etcd, B).await;
    view.becomes(&[A, B]).await;
    // A lease whose value becomes unreadable is as good as gone, until it is readable again.
    store(&mut client, "10.5.1.0-24", "[]", 0).await;
    view.becomes(&[B]).await;
    put(&etcd, A).await;
    view.becomes(&[A, B]).await;
    client.delete(key("x"), None).await.unwrap();
    put(&etcd, C).await;
    view.becomes(&[A, B, C]).await;
    assert_eq!(view.lists, 1);
}

#[tokio::test]
async fn after_an_outage_of_all_members_only_a_new_list_is_right() {
    let etcd = Etcd::start().await;
    put(&etcd, A).await;
    let mut proxy = Proxy::to(etcd.address).await;
    let mut view = View::of(config(vec![proxy.address.to_string()]));
    view.becomes(&[A]).await;
    proxy.cut().await;
    // Several attempts fail in this time.
    sleep(Duration::from_secs(1)).await;
    delete(&etcd, A).await;
    put(&etcd, B).await;
    proxy.mend().await;
    view.becomes(&[B]).await;
    assert_eq!(view.lists, 2);
}

#[tokio::test]
async fn history_compacted_during_a_break_means_a_new_list() {
    let etcd = Etcd::start().await;
    put(&etcd, A).await;
    let mut proxy = Proxy::to(etcd.address).await;
    let mut view = View::of(config(vec![proxy.address.to_string()]));
    view.becomes(&[A]).await;
    proxy.cut().await;
    delete(&etcd, A).await;
    put(&etcd, B).await;
    compact(&etcd).await;
    proxy.mend().await;
    view.becomes(&[B]).await;
    assert_eq!(view.lists, 2);
    put(&etcd, C).await;
    view.becomes(&[B, C]).await;
}

#[tokio::test]
async fn a_restart_of_etcd_is_survived() {
    let mut etcd = Etcd::start().await;
    put(&etcd, A).await;
    let mut view = View::of(etcd.config());
    view.becomes(&[A]).await;
    etcd.kill();
    etcd.restart().await;
    put(&etcd, B).await;
    view.becomes(&[A, B]).await;
}

#[tokio::test]
async fn a_store_restored_from_an_older_state_is_listed_again() {
    let mut etcd = Etcd::start().await;
    for lease in [A, B, C] {
        put(&etcd, lease).await;
    }
    let mut view = View::of(etcd.config());
    view.becomes(&[A, B, C]).await;
    etcd.kill();
    etcd.wipe();
    etcd.restart().await;
    put(&etcd, B).await;
    view.becomes(&[B]).await;
    assert_eq!(view.lists, 2);
}

/// No attempt fails in between: the new store itself says that it is another one.
#[tokio::test]
async fn another_store_at_the_same_address_is_listed_again() {
    let (etcd, other) = (Etcd::start().await, Etcd::start().await);
    for lease in [A, B, C] {
        put(&etcd, lease).await;
    }
    put(&other, B).await;
    let mut proxy = Proxy::to(etcd.address).await;
    let mut view = View::of(config(vec![proxy.address.to_string()]));
    view.becomes(&[A, B, C]).await;
    proxy.lead_to(other.address).await;
    view.becomes(&[B]).await;
    assert_eq!(view.lists, 2);
}

#[tokio::test]
async fn the_watch_moves_to_another_endpoint_when_its_own_stops() {
    let etcd = Etcd::start().await;
    let mut proxy = Proxy::to(etcd.address).await;
    let mut view = View::of(config(vec![
        proxy.address.to_string(),
        etcd.address.to_string(),
    ]));
    put(&etcd, A).await;
    view.becomes(&[A]).await;
    proxy.cut().await;
    put(&etcd, B).await;
    view.becomes(&[A, B]).await;
    assert_eq!(view.lists, 1);
}

#[tokio::test]
async fn the_watch_ends_with_its_receiver() {
    let etcd = Etcd::start().await;
    let view = View::of(etcd.config());
    drop(view.events);
    soon("the watch ends", view.task).await.unwrap();
}

#[tokio::test]
async fn a_slow_receiver_loses_nothing() {
    let etcd = Etcd::start().await;
    let mut view = View::of(etcd.config());
    view.becomes(&[]).await;
    let mut client = etcd.client().await;
    for index in 0..500_u16 {
        let [high, low] = index.to_be_bytes();
        store(
            &mut client,
            &format!("10.{high}.{low}.0-24"),
            &attrs([10, 0, high, low]).encode(),
            0,
        )
        .await;
    }
    let all = until("all leases", async || {
        let batch = view.events.recv().await.unwrap();
        batch.into_iter().for_each(|event| view.apply(event));
        (view.leases.len() == 500).then_some(view.leases.len())
    })
    .await;
    assert_eq!((all, view.lists), (500, 1));
}
