//! The datastore against a real etcd: each test has its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

mod access;
mod acquire;
mod certificates;
mod connect;
mod dump;
mod fence;
mod keepalive;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod watch;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use etcd_client::{Client, PutOptions};
use flanneld::config::EtcdConfig;
use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::{Claim, Error, Lease, LeaseAttrs, NetworkConfig, SubnetManager, Subnets};
use support::etcd::{Etcd, PREFIX};

const NETWORK: &str = r#"{"Network":"10.5.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

fn manager(config: EtcdConfig) -> EtcdManager {
    EtcdManager::new(config).unwrap()
}

/// Writes a network configuration and reads it back through the manager.
async fn configure(etcd: &Etcd, json: &str) -> NetworkConfig {
    etcd.client()
        .await
        .put(format!("{PREFIX}/config"), json, None)
        .await
        .unwrap();
    manager(etcd.config()).network_config().await.unwrap()
}

/// As the daemon does it: one list, and a choice from it.
async fn acquire(
    manager: &impl SubnetManager,
    config: &NetworkConfig,
    claim: &Claim,
) -> Result<Lease, Error> {
    let known = manager.snapshot().await?;
    manager.acquire(config, claim, &known).await
}

fn attrs(ip: [u8; 4]) -> LeaseAttrs {
    let mac = format!(
        r#"{{"VNI":1,"VtepMAC":"0a:58:{:02x}:{:02x}:{:02x}:{:02x}"}}"#,
        ip[0], ip[1], ip[2], ip[3]
    );
    LeaseAttrs {
        public_ip: Some(Ipv4Addr::from(ip)),
        backend_type: "vxlan".into(),
        backend_data: Some(serde_json::value::RawValue::from_string(mac).unwrap()),
        ..LeaseAttrs::default()
    }
}

fn claim(ip: [u8; 4]) -> Claim {
    Claim {
        attrs: attrs(ip),
        previous: Subnets::default(),
        underlay: BTreeSet::new(),
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}/subnets/{name}")
}

/// What is at a lease key: value, revision of its last change, etcd lease.
async fn stored(client: &mut Client, name: &str) -> Option<(String, i64, i64)> {
    let found = client.get(key(name), None).await.unwrap();
    let kv = found.kvs().first()?;
    Some((
        kv.value_str().unwrap().to_owned(),
        kv.mod_revision(),
        kv.lease(),
    ))
}

/// Writes a lease key by hand; `lease_id` zero makes a reservation. Returns the revision.
async fn store(client: &mut Client, name: &str, value: &str, lease_id: i64) -> i64 {
    let options = PutOptions::new().with_lease(lease_id);
    client
        .put(key(name), value, Some(options))
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision()
}
