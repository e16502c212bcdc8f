//! The writes of those who administer a cluster: what changed since it was read voids them.

use flanneld::subnet::etcd::dump::{ConfigWrite, Removal};
use flanneld::subnet::etcd::store::{Before, Commit};
use flanneld::subnet::{Lease, LeaseAttrs, key};

use crate::support::etcd::{Etcd, PREFIX};
use crate::{NETWORK, attrs, configure, manager, store, stored};

const NAME: &str = "10.5.7.0-24";

async fn cluster() -> (Etcd, etcd_client::Client) {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let mut client = etcd.client().await;
    store(&mut client, NAME, &attrs([10, 0, 0, 7]).encode(), 0).await;
    (etcd, client)
}

fn lease(modified: i64) -> Lease {
    let attrs: LeaseAttrs = attrs([10, 0, 0, 7]);
    Lease {
        subnets: key::parse(NAME).unwrap(),
        attrs,
        created: modified,
        modified,
        lease_id: None,
    }
}

#[tokio::test]
async fn everything_is_read_as_of_one_moment() {
    let (etcd, mut client) = cluster().await;
    client
        .put(format!("{PREFIX}/owners/{NAME}"), "{}", None)
        .await
        .unwrap();
    client
        .put(format!("{PREFIX}/subnets/rubbish"), "x", None)
        .await
        .unwrap();
    let dump = manager(etcd.config()).dump().await.unwrap();
    let names = |records: &[flanneld::subnet::etcd::dump::Record]| {
        records
            .iter()
            .map(|record| record.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(dump.config.unwrap().value, NETWORK.as_bytes());
    assert_eq!(names(&dump.leases), [NAME, "rubbish"]);
    assert_eq!(names(&dump.owners), [NAME]);
    assert_eq!(dump.revision, dump.leases[1].modified);
}

#[tokio::test]
async fn a_lease_is_removed_with_its_record_only_as_it_was_read() {
    let (etcd, mut client) = cluster().await;
    let manager = manager(etcd.config());
    let (_, modified, _) = stored(&mut client, NAME).await.unwrap();
    let owner = format!("{PREFIX}/owners/{NAME}");
    let recorded = client
        .put(owner.as_str(), "{}", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    for (modified, owner) in [
        (modified, Before::Absent),
        (modified, Before::At(recorded - 1)),
        (modified - 1, Before::At(recorded)),
    ] {
        let removal = Removal {
            lease: lease(modified),
            owner,
        };
        assert_eq!(
            manager.remove_lease(&removal).await.unwrap(),
            Commit::Lost,
            "{removal:?}"
        );
    }
    assert!(stored(&mut client, NAME).await.is_some());
    let removal = Removal {
        lease: lease(modified),
        owner: Before::At(recorded),
    };
    assert!(matches!(
        manager.remove_lease(&removal).await.unwrap(),
        Commit::Done(_)
    ));
    assert!(stored(&mut client, NAME).await.is_none());
    assert!(client.get(owner, None).await.unwrap().kvs().is_empty());
}

#[tokio::test]
async fn a_configuration_is_written_only_over_what_was_read() {
    let (etcd, mut client) = cluster().await;
    let manager = manager(etcd.config());
    let dump = manager.dump().await.unwrap();
    let read = dump.config.unwrap().modified;
    let write = |before, leases_as_of| ConfigWrite {
        value: b"new".to_vec(),
        before,
        leases_as_of,
    };
    for (name, write) in [
        (
            "another configuration",
            write(Before::At(read - 1), dump.revision),
        ),
        ("none", write(Before::Absent, dump.revision)),
        (
            "a lease that came meanwhile",
            write(Before::At(read), dump.revision - 1),
        ),
    ] {
        assert_eq!(
            manager.write_config(&write).await.unwrap(),
            Commit::Lost,
            "{name}"
        );
    }
    // A lease that was deleted meanwhile cannot be broken.
    client.delete(crate::key(NAME), None).await.unwrap();
    assert!(matches!(
        manager
            .write_config(&write(Before::At(read), dump.revision))
            .await
            .unwrap(),
        Commit::Done(_)
    ));
    client
        .delete(format!("{PREFIX}/config"), None)
        .await
        .unwrap();
    assert!(matches!(
        manager
            .write_config(&write(Before::Absent, dump.revision))
            .await
            .unwrap(),
        Commit::Done(_)
    ));
}
