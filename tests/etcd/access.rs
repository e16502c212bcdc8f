//! What a user of etcd is not allowed.

use etcd_client::Permission;
use flanneld::config::{EtcdConfig, Secret};
use flanneld::subnet::owner::MachineId;
use flanneld::subnet::{Claim, HostNames, LeaseAttrs, SubnetManager};

use crate::support::etcd::{Etcd, PREFIX};
use crate::{NETWORK, acquire, attrs, claim, configure, manager};

const ME: [u8; 4] = [10, 0, 0, 1];

/// Switches authentication on; what a user with these permissions logs in with.
async fn log_in(etcd: &Etcd, permissions: Vec<Permission>) -> EtcdConfig {
    let mut auth = etcd.client().await.auth_client();
    auth.user_add("root", "secret", None).await.unwrap();
    auth.user_grant_role("root", "root").await.unwrap();
    auth.user_add("flannel", "overlay", None).await.unwrap();
    auth.role_add("net").await.unwrap();
    for permission in permissions {
        auth.role_grant_permission("net", permission).await.unwrap();
    }
    auth.user_grant_role("flannel", "net").await.unwrap();
    auth.auth_enable().await.unwrap();
    EtcdConfig {
        login: Some(("flannel".into(), Secret::new("overlay".into()))),
        ..etcd.config()
    }
}

fn machine() -> MachineId {
    MachineId::new("a", "1", "host-a")
}

/// Without permission to write a host is served that has its key, whatever that needs; no other one.
#[tokio::test]
async fn own_key_is_reused_as_it_is_where_nothing_may_be_written() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let first = manager(etcd.config()).on(machine());
    let own = acquire(&first, &config, &claim(ME)).await.unwrap();
    assert_eq!(
        first.host_names().await.unwrap().of(&own.subnets),
        Some("host-a")
    );
    let login = log_in(
        &etcd,
        vec![Permission::read(format!("{PREFIX}/")).with_prefix()],
    )
    .await;
    let manager = manager(login).on(machine());
    manager.network_config().await.unwrap();
    assert_eq!(acquire(&manager, &config, &claim(ME)).await.unwrap(), own);

    let changed = LeaseAttrs {
        backend_type: "udp".into(),
        ..attrs(ME)
    };
    let claim_of_change = Claim {
        attrs: changed,
        ..claim(ME)
    };
    assert_eq!(
        acquire(&manager, &config, &claim_of_change).await.unwrap(),
        own,
        "as etcd has it"
    );

    let error = acquire(&manager, &config, &claim([10, 0, 0, 2]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
}

/// Another machine's record beside a key is not overruled because nothing may be written.
#[tokio::test]
async fn foreign_key_is_not_reused_without_write_permission() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    acquire(&manager(etcd.config()).on(machine()), &config, &claim(ME))
        .await
        .unwrap();
    let login = log_in(
        &etcd,
        vec![Permission::read(format!("{PREFIX}/")).with_prefix()],
    )
    .await;
    let second = manager(login).on(MachineId::new("b", "1", "host-b"));
    assert!(acquire(&second, &config, &claim(ME)).await.is_err());
}

/// Whatever the record says that a user may not read: as Go flannel, the lease with the own address is the own one.
#[tokio::test]
async fn without_owner_records_a_lease_is_known_by_its_address() {
    for granted in ["subnets", "subnets/"] {
        let etcd = Etcd::start().await;
        let config = configure(&etcd, NETWORK).await;
        let subnets = Permission::read_write(format!("{PREFIX}/{granted}")).with_prefix();
        let login = log_in(
            &etcd,
            vec![Permission::read(format!("{PREFIX}/config")), subnets],
        )
        .await;
        let first = manager(login.clone()).on(machine());
        first.network_config().await.unwrap();
        let lease = acquire(&first, &config, &claim(ME)).await.unwrap();
        let second = manager(login.clone()).on(MachineId::new("b", "1", "host-b"));
        assert_eq!(acquire(&second, &config, &claim(ME)).await.unwrap(), lease);
        let dump = first.dump().await.unwrap();
        assert_eq!((dump.leases.len(), dump.owners.len()), (1, 0));
        for denied in [first, manager(login).on(machine())] {
            assert_eq!(
                denied.host_names().await.unwrap(),
                HostNames::default(),
                "no names, no error"
            );
        }
    }
}

/// A role may read the records and not write them.
#[tokio::test]
async fn owner_records_that_may_only_be_read_are_done_without() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let subnets = Permission::read_write(format!("{PREFIX}/subnets/")).with_prefix();
    let login = log_in(
        &etcd,
        vec![
            Permission::read(format!("{PREFIX}/")).with_prefix(),
            subnets,
        ],
    )
    .await;
    let manager = manager(login).on(machine());
    manager.network_config().await.unwrap();
    let lease = acquire(&manager, &config, &claim(ME)).await.unwrap();
    assert_eq!(
        acquire(&manager, &config, &claim(ME)).await.unwrap(),
        lease,
        "and nothing is written again"
    );
    acquire(&manager, &config, &claim([10, 0, 0, 2]))
        .await
        .unwrap();
}
