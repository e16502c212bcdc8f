//! Getting a lease: races, reservations, full networks, what others have written.

use std::collections::{BTreeSet, HashSet};
use std::net::Ipv4Addr;

use flanneld::config::EtcdConfig;
use flanneld::subnet::key::parse;
use flanneld::subnet::{Claim, Error, LeaseAttrs, SubnetManager, Subnets};

use crate::support::etcd::{Etcd, PREFIX};
use crate::{NETWORK, acquire, attrs, claim, configure, key, manager, store, stored};

const ME: [u8; 4] = [10, 0, 0, 1];

#[tokio::test]
async fn configuration_is_missing_then_bad_then_good() {
    let etcd = Etcd::start().await;
    let manager = manager(etcd.config());
    let error = manager.network_config().await.unwrap_err();
    assert!(
        matches!(&error, Error::NoConfig { key, misplaced: None } if key == "/kubernetes/network/config"),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("values written with etcd's v2 API"),
        "{error}"
    );
    for (at, value, expected) in [(PREFIX, "{", None), (PREFIX, NETWORK, Some(PREFIX))] {
        etcd.client().await.put(at, value, None).await.unwrap();
        let error = manager.network_config().await.unwrap_err();
        assert!(
            matches!(&error, Error::NoConfig { misplaced, .. } if misplaced.as_ref().map(|it| &*it.key) == expected)
        );
        let told = error
            .to_string()
            .contains("a configuration is at /kubernetes/network");
        assert_eq!(told, expected.is_some(), "{error}");
    }
    etcd.client()
        .await
        .put(format!("{PREFIX}/config"), "{", None)
        .await
        .unwrap();
    let error = manager.network_config().await.unwrap_err();
    assert!(matches!(error, Error::BadConfig { .. }), "{error}");
    assert_eq!(
        configure(&etcd, NETWORK)
            .await
            .ranges
            .v4
            .unwrap()
            .subnet_len,
        24
    );
}

#[tokio::test]
async fn escaped_configuration_at_the_prefix_is_pointed_out() {
    let etcd = Etcd::start().await;
    let escaped = NETWORK.replace('"', r#"\""#);
    for value in [escaped.clone(), format!("\"{escaped}\"")] {
        etcd.client()
            .await
            .put(PREFIX, &*value, None)
            .await
            .unwrap();
        let error = manager(etcd.config())
            .network_config()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a configuration with escaped quotes is at /kubernetes/network"),
            "{error}"
        );
        assert!(
            error.contains(&format!("etcdctl put {PREFIX}/config '{NETWORK}'")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn prefix_that_ends_in_config_is_explained() {
    let etcd = Etcd::start().await;
    let manager = manager(EtcdConfig {
        prefix: format!("{PREFIX}/config"),
        ..etcd.config()
    });
    for value in [None, Some(NETWORK)] {
        if let Some(value) = value {
            etcd.client()
                .await
                .put(format!("{PREFIX}/config"), value, None)
                .await
                .unwrap();
        }
        let error = manager.network_config().await.unwrap_err().to_string();
        assert!(
            error.contains("use -etcd-prefix=/kubernetes/network"),
            "{error}"
        );
        assert!(!error.contains("etcdctl put"), "{error}");
    }
}

#[tokio::test]
async fn a_new_lease_is_written_as_go_writes_it_and_lives_a_day() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let lease = acquire(&manager(etcd.config()), &config, &claim(ME))
        .await
        .unwrap();
    let mut client = etcd.client().await;
    let name = lease.subnets.to_string().replace('/', "-");
    let (value, modified, lease_id) = stored(&mut client, &name).await.unwrap();
    assert_eq!(
        value,
        r#"{"PublicIP":"10.0.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:58:0a:00:00:01"}}"#
    );
    assert_eq!((lease.created, lease.modified), (modified, modified));
    assert_eq!(lease.lease_id.unwrap().get(), lease_id);
    assert_eq!(
        client
            .lease_client()
            .time_to_live(lease_id, None)
            .await
            .unwrap()
            .granted_ttl(),
        86_400
    );
}

#[tokio::test]
async fn a_restart_adopts_the_lease_and_writes_nothing() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let first = acquire(&manager(etcd.config()), &config, &claim(ME))
        .await
        .unwrap();
    let mut client = etcd.client().await;
    let before = client
        .get("x", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    let second = acquire(&manager(etcd.config()), &config, &claim(ME))
        .await
        .unwrap();
    assert_eq!(first, second);
    let after = client
        .get("x", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    assert_eq!(before, after);
    assert_eq!(
        client.lease_client().leases().await.unwrap().leases().len(),
        1
    );
}

#[tokio::test]
async fn changed_lease_keeps_its_lease_id() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let mut client = etcd.client().await;
    let lease_id = client.lease_grant(86_400, None).await.unwrap().id();
    store(
        &mut client,
        "10.5.7.0-24",
        r#"{"PublicIP":"10.0.0.1"}"#,
        lease_id,
    )
    .await;
    let lease = acquire(&manager(etcd.config()), &config, &claim(ME))
        .await
        .unwrap();
    assert_eq!(lease.subnets.to_string(), "10.5.7.0/24");
    let (value, modified, on) = stored(&mut client, "10.5.7.0-24").await.unwrap();
    assert_eq!(
        (value, modified, on),
        (attrs(ME).encode(), lease.modified, lease_id)
    );
}

#[tokio::test]
async fn short_lease_id_is_replaced() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let mut client = etcd.client().await;
    let lease_id = client.lease_grant(30, None).await.unwrap().id();
    store(&mut client, "10.5.7.0-24", &attrs(ME).encode(), lease_id).await;
    let lease = acquire(&manager(etcd.config()), &config, &claim(ME))
        .await
        .unwrap();
    assert_ne!(lease.lease_id.unwrap().get(), lease_id);
    assert_eq!(
        stored(&mut client, "10.5.7.0-24").await.unwrap().2,
        lease.lease_id.unwrap().get()
    );
}

#[tokio::test]
async fn a_reservation_stays_one() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let mut client = etcd.client().await;
    store(&mut client, "10.5.9.0-24", r#"{"PublicIP":"10.0.0.1"}"#, 0).await;
    let lease = acquire(&manager(etcd.config()), &config, &claim(ME))
        .await
        .unwrap();
    assert_eq!(
        (lease.subnets.to_string().as_str(), lease.lease_id),
        ("10.5.9.0/24", None)
    );
    assert_eq!(
        stored(&mut client, "10.5.9.0-24").await,
        Some((attrs(ME).encode(), lease.modified, 0))
    );
}

#[tokio::test]
async fn the_previous_subnet_is_taken_if_it_is_free() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let manager = manager(etcd.config());
    let previous = parse("10.5.77.0-24").unwrap();
    let first = Claim {
        previous,
        ..claim(ME)
    };
    assert_eq!(
        acquire(&manager, &config, &first).await.unwrap().subnets,
        previous
    );
    let second = Claim {
        previous,
        ..claim([10, 0, 0, 2])
    };
    assert_ne!(
        acquire(&manager, &config, &second).await.unwrap().subnets,
        previous
    );
}

#[tokio::test]
async fn a_key_with_a_broken_value_is_not_chosen() {
    let etcd = Etcd::start().await;
    let two = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.2.0","SubnetMax":"10.5.3.0","Backend":{"Type":"vxlan"}}"#;
    let config = configure(&etcd, two).await;
    let mut client = etcd.client().await;
    store(&mut client, "10.5.2.0-24", "rubbish", 0).await;
    let claim = Claim {
        previous: parse("10.5.2.0-24").unwrap(),
        ..claim(ME)
    };
    let manager = manager(etcd.config());
    assert_eq!(
        acquire(&manager, &config, &claim)
            .await
            .unwrap()
            .subnets
            .to_string(),
        "10.5.3.0/24"
    );
    assert_eq!(
        stored(&mut client, "10.5.2.0-24").await.unwrap().0,
        "rubbish"
    );
}

#[tokio::test]
async fn unfit_lease_is_replaced_in_one_transaction() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let mut client = etcd.client().await;
    store(&mut client, "10.9.9.0-24", &attrs(ME).encode(), 0).await;
    let lease = acquire(&manager(etcd.config()), &config, &claim(ME))
        .await
        .unwrap();
    assert_eq!(lease.subnets.v4.unwrap().ip().octets()[..2], [10, 5]);
    assert_eq!(stored(&mut client, "10.9.9.0-24").await, None);
    assert_eq!(
        client
            .get(key("x"), None)
            .await
            .unwrap()
            .header()
            .unwrap()
            .revision(),
        lease.created
    );
}

#[tokio::test]
async fn broken_leases_do_not_hide_good_ones() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let mut client = etcd.client().await;
    let huge = format!(
        r#"{{"PublicIP":"10.0.0.1","x":"{}"}}"#,
        "x".repeat(1_000_000)
    );
    for (name, value) in [
        ("x", "{}"),
        ("10.5.1.0-24", "{"),
        ("10.5.2.0-24", ""),
        ("10.5.4.0-24", &huge),
    ] {
        store(&mut client, name, value, 0).await;
    }
    client
        .put(key("10.5.5.0-24/deeper"), "{}", None)
        .await
        .unwrap();
    client
        .put([key("").as_bytes(), b"\xff"].concat(), "{}", None)
        .await
        .unwrap();
    client
        .put(format!("{PREFIX}/subnetsX"), attrs(ME).encode(), None)
        .await
        .unwrap();
    store(&mut client, "10.5.3.0-24", &attrs(ME).encode(), 0).await;
    let leases = manager(etcd.config()).snapshot().await.unwrap().leases;
    let all: Vec<(String, bool)> = leases
        .iter()
        .map(|lease| (lease.subnets.to_string(), lease.attrs == attrs(ME)))
        .collect();
    let unreadable = |name: &str| (name.to_owned(), false);
    let want = ["10.5.1.0/24", "10.5.2.0/24", "10.5.4.0/24"].map(unreadable);
    assert_eq!(
        all,
        [&want[..2], &[("10.5.3.0/24".into(), true)], &want[2..]].concat()
    );
}

#[tokio::test]
async fn long_lists_arrive_whole() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let network = r#"{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
    configure(&etcd, network).await;
    const COUNT: u32 = 11_000;
    let indexes: Vec<u32> = (0..COUNT).collect();
    for chunk in indexes.chunks(100) {
        let puts = chunk.iter().map(|index| {
            let net = Ipv4Addr::from(0x0a00_0000 + (index << 8));
            etcd_client::TxnOp::put(
                key(&format!("{net}-24")),
                attrs(net.octets()).encode(),
                None,
            )
        });
        client
            .txn(etcd_client::Txn::new().and_then(puts.collect::<Vec<_>>()))
            .await
            .unwrap();
    }
    let leases = manager(etcd.config()).snapshot().await.unwrap().leases;
    let distinct: HashSet<Subnets> = leases.iter().map(|lease| lease.subnets).collect();
    assert_eq!(
        (leases.len(), distinct.len()),
        (COUNT as usize, COUNT as usize)
    );
}

#[tokio::test]
async fn values_too_large_for_one_answer_do_not_stop_the_list() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let huge = "x".repeat(1_000_000);
    for index in 0..70 {
        store(&mut client, &format!("10.5.{index}.0-24"), &huge, 0).await;
    }
    store(&mut client, "10.5.99.0-24", &attrs(ME).encode(), 0).await;
    let leases = manager(etcd.config()).snapshot().await.unwrap().leases;
    let readable = leases
        .iter()
        .filter(|lease| lease.attrs == attrs(ME))
        .count();
    assert_eq!((leases.len(), readable), (71, 1));
}

/// As a daemon does: asks again when etcd was busy or others were faster.
async fn persist(manager: &impl SubnetManager, claim: &Claim) -> Result<Subnets, Error> {
    let config = manager.network_config().await?;
    loop {
        match acquire(manager, &config, claim).await {
            Err(Error::Unavailable(_)) => {}
            done => return done.map(|lease| lease.subnets),
        }
    }
}

#[tokio::test]
async fn thirty_two_hosts_race_for_thirty_two_subnets() {
    let etcd = Etcd::start().await;
    configure(
        &etcd,
        r#"{"Network":"10.5.0.0/19","SubnetLen":24,"SubnetMin":"10.5.0.0","Backend":{"Type":"vxlan"}}"#,
    )
    .await;
    let mut hosts = tokio::task::JoinSet::new();
    for host in 1..=32 {
        let manager = manager(etcd.config());
        hosts.spawn(async move { persist(&manager, &claim([10, 0, 0, host])).await.unwrap() });
    }
    let subnets: HashSet<Subnets> = hosts.join_all().await.into_iter().collect();
    assert_eq!(subnets.len(), 32);
    let error = persist(&manager(etcd.config()), &claim([10, 0, 0, 33]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Full(range) if range.subnet_count() == 32),
        "{error}"
    );
    let client = etcd.client().await;
    assert_eq!(
        client.lease_client().leases().await.unwrap().leases().len(),
        32,
        "no etcd lease is left over"
    );
}

pub(crate) const BOTH: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#;

/// Both wrote, because their keys differ.
#[tokio::test]
async fn second_host_with_a_common_subnet_chooses_again() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, BOTH).await;
    let (first, second) = (manager(etcd.config()), manager(etcd.config()));
    let before = second.snapshot().await.unwrap();
    let desired = |text: &str, ip| Claim {
        previous: parse(text).unwrap(),
        ..claim(ip)
    };
    let ours = acquire(&first, &config, &desired("10.5.7.0-24&fd05:0:0:7::-64", ME))
        .await
        .unwrap();
    assert_eq!(ours.subnets.to_string(), "10.5.7.0/24 fd05:0:0:7::/64");
    let late = desired("10.5.7.0-24&fd05:0:0:8::-64", [10, 0, 0, 2]);
    let theirs = second.acquire(&config, &late, &before).await.unwrap();
    assert_ne!(theirs.subnets.v4, ours.subnets.v4);
    assert_eq!(theirs.subnets.v6, late.previous.v6, "what was free of it");
    let keys: Vec<Subnets> = first
        .snapshot()
        .await
        .unwrap()
        .leases
        .iter()
        .map(|l| l.subnets)
        .collect();
    assert_eq!(
        keys.iter().collect::<HashSet<_>>(),
        HashSet::from([&ours.subnets, &theirs.subnets])
    );
}

#[tokio::test]
async fn ipv6_only_hosts_find_their_leases_again() {
    let etcd = Etcd::start().await;
    let six = BOTH.replace(r#""Network":"10.5.0.0/16""#, r#""EnableIPv4":false"#);
    let config = configure(&etcd, &six).await;
    let host = |n: u16| Claim {
        attrs: LeaseAttrs {
            public_ipv6: Some([0xfd10, 0, 0, 0, 0, 0, 0, n].into()),
            ..LeaseAttrs::default()
        },
        previous: Subnets::default(),
        underlay: BTreeSet::new(),
    };
    let manager = manager(etcd.config());
    let mut leases = Vec::new();
    for n in 1..=3 {
        leases.push(acquire(&manager, &config, &host(n)).await.unwrap());
    }
    assert_eq!(
        leases
            .iter()
            .map(|lease| lease.subnets)
            .collect::<HashSet<_>>()
            .len(),
        3
    );
    for (n, lease) in (1..=3).zip(&leases) {
        assert_eq!(
            acquire(&manager, &config, &host(n)).await.unwrap().subnets,
            lease.subnets,
            "host {n}"
        );
    }
    let key = format!(
        "0.0.0.0-0&{}",
        leases[0].subnets.v6.unwrap().to_string().replace('/', "-")
    );
    let value = r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd10::1"}"#;
    assert_eq!(
        stored(&mut etcd.client().await, &key).await.unwrap().0,
        value,
        "as Go flannel writes it"
    );
}

/// More than fit into one transaction of etcd's.
#[tokio::test]
async fn any_number_of_misfits_is_replaced() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let mut client = etcd.client().await;
    for index in 0..150 {
        store(
            &mut client,
            &format!("10.9.{index}.0-24"),
            &attrs(ME).encode(),
            0,
        )
        .await;
    }
    let lease = acquire(&manager(etcd.config()), &config, &claim(ME))
        .await
        .unwrap();
    let left = manager(etcd.config()).snapshot().await.unwrap().leases;
    assert_eq!(left, [lease]);
}
