//! `rflannel config`.

use crate::support::tool::rflannel;
use lab::wait_until;

use super::{Cluster, NETWORK, Ran, Test, value};

fn set(cluster: &Cluster, json: &str, args: &[&str]) -> Ran {
    cluster.node().write("/run/new.json", json).unwrap();
    cluster.run(&[&["config", "set", "/run/new.json"], args].concat())
}

#[test]
fn what_is_there_is_printed_and_what_is_wrong_with_it() -> Test {
    let cluster = Cluster::start(1)?;
    let text = cluster.run(&["config", "get"]).expect(0, &[]);
    // Standard error, which is in the text as well, says which settings are used.
    let (settings, text) = text.split_once('\n').unwrap_or_default();
    assert!(
        settings.starts_with("rflannel: settings: flags after --"),
        "{settings}"
    );
    assert_eq!(text, format!("{NETWORK}\n"));
    cluster
        .lab
        .etcd()?
        .put("/kubernetes/network/config", "{\"Network\":1}")?;
    cluster.run(&["config", "get"]).expect(
        1,
        &[
            "{\"Network\":1}\n",
            "is not usable: Network: invalid CIDR address: 1",
        ],
    );
    cluster.lab.etcd()?.delete("/kubernetes/network/config")?;
    cluster.run(&["config", "get"]).expect(
        1,
        &["there is no network configuration at /kubernetes/network/config"],
    );
    set(&cluster, NETWORK, &["--yes"]).expect(
        0,
        &["no host has a lease", "wrote /kubernetes/network/config"],
    );
    cluster.run(&["config", "get"]).expect(0, &[NETWORK]);
    Ok(())
}

#[test]
fn a_file_is_validated_without_etcd() -> Test {
    let cluster = Cluster::start(1)?;
    let validate = |json: &str| {
        cluster.node().write("/run/new.json", json).unwrap();
        let script = format!("{} config validate <{} 2>&1", rflannel(), "/run/new.json");
        let output = cluster.node().run(["sh", "-c", &script]).unwrap();
        Ran {
            code: output.status.code().unwrap(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    };
    validate(NETWORK).expect(
        0,
        &[
            "network   172.30.0.0/16, 255 subnets of /24 from 172.30.1.0 to 172.30.255.0",
            "VNI 1",
        ],
    );
    validate(r#"{"Network":"10.64.0.1/16","SubnetLenght":26,"Backend":{"Type":"vxlan","VNI":1,"vni":2}}"#)
        .expect(
            0,
            &[
                "warning: SubnetLenght is not known and has no effect",
                "warning: Backend vni appears more than once",
                "warning: Network 10.64.0.1/16 has host bits, which are ignored; write 10.64.0.0/16",
                "warning: network 10.64.0.0/16 contains 10.64.0.1, an address of this host (eth0)",
            ],
        );
    validate("{").expect(1, &["not a JSON object"]);
    validate(r#"{"Network":"172.30.0.0/16"}"#).expect(1, &["backend type udp is not supported"]);
    validate(r#"{"Network":"127.0.0.0/8","Backend":{"Type":"vxlan"}}"#)
        .expect(1, &["whose addresses hosts cannot have"]);
    Ok(())
}

#[test]
fn change_that_breaks_leases_is_refused_and_names_them() -> Test {
    let cluster = Cluster::start(1)?;
    cluster.lease("172.30.1.0-24", &value(1))?;
    cluster.lease("172.30.130.0-24", &value(2))?;
    let before = cluster.everything();
    let vni = NETWORK.replace("\"Type\"", "\"VNI\":7,\"Type\"");
    for (json, words) in [
        (
            vni.clone(),
            &[
                "the VNI changes from 1 to 7",
                "lease 172.30.1.0/24 of 10.64.9.1: keeps its subnet",
                "restarted hosts reject its lease: its VNI is 1",
            ][..],
        ),
        (
            NETWORK.replace("0.0/16", "0.0/17"),
            &["lease 172.30.130.0/24 of 10.64.9.2: gets another subnet"],
        ),
        (
            NETWORK.replace("24", "25"),
            &["172.30.1.0/24 is not a /25 of 172.30.0.0/16"],
        ),
    ] {
        let text = set(&cluster, &json, &["--yes"]).expect(1, words);
        assert!(
            text.contains("refused: the lines above say what breaks"),
            "{text}"
        );
        assert_eq!(cluster.everything(), before, "{json}");
    }
    set(&cluster, NETWORK, &["--yes"]).expect(0, &["nothing to do"]);
    set(&cluster, "{", &["--yes", "--force"]).expect(1, &["not a JSON object"]);
    assert_eq!(cluster.everything(), before);
    set(&cluster, &vni, &["--force"]).expect(0, &["nothing was changed; use --yes to apply"]);
    assert_eq!(cluster.everything(), before);
    set(&cluster, &vni, &["--force", "--yes"]).expect(0, &["wrote /kubernetes/network/config"]);
    assert_eq!(cluster.value("config"), Some(vni));
    Ok(())
}

/// What is told of a running cluster is what happens in it.
#[test]
fn harmless_change_applies_at_next_start() -> Test {
    let mut cluster = Cluster::start(2)?;
    for n in [1, 2] {
        cluster
            .lab
            .start_flanneld(n, &[])?
            .wait_ready(super::SOON)?;
    }
    let mtu = |cluster: &Cluster| {
        cluster
            .lab
            .host(2)
            .sh("cat /sys/class/net/flannel.1/mtu")
            .unwrap()
    };
    let new = NETWORK.replace("\"Type\"", "\"MTU\":1400,\"Type\"");
    set(&cluster, &new, &["--yes"]).expect(
        0,
        &[
            "the MTU changes with the next start",
            "keeps its subnet",
            "keeps the old configuration until its flanneld is restarted",
        ],
    );
    let env = cluster.lab.host(2).read("/run/flannel/subnet.env")?;
    assert_eq!(mtu(&cluster), "1450\n");
    cluster
        .lab
        .start_flanneld(2, &[])?
        .wait_ready(super::SOON)?;
    assert_eq!(mtu(&cluster), "1350\n");
    assert_eq!(
        cluster.lab.host(2).read("/run/flannel/subnet.env")?,
        env.replace("1450", "1350")
    );
    Ok(())
}

/// What is told of a change that splits the overlay is what happens: apart until the last host has been restarted, the old
/// device stays, the subnets as well.
#[test]
fn a_forced_change_of_the_vni_does_what_was_said() -> Test {
    let mut cluster = Cluster::start(2)?;
    for n in [1, 2] {
        cluster
            .lab
            .start_flanneld(n, &[])?
            .wait_ready(super::SOON)?;
        cluster.lab.wire_pod(n)?;
    }
    assert!(
        cluster
            .lab
            .ping_all(super::SOON)?
            .times
            .iter()
            .flatten()
            .flatten()
            .count()
            == 2
    );
    let env = |cluster: &Cluster| {
        [1, 2].map(|n| cluster.lab.host(n).read("/run/flannel/subnet.env").unwrap())
    };
    let before = env(&cluster);
    set(
        &cluster,
        &NETWORK.replace("\"Type\"", "\"VNI\":7,\"Type\""),
        &["--yes", "--force"],
    )
    .expect(
        0,
        &["flannel.1 remains on each host: ip link del flannel.1"],
    );
    cluster
        .lab
        .start_flanneld(2, &[])?
        .wait_ready(super::SOON)?;
    let pod = cluster.lab.hosts()[1].pod().unwrap().address;
    let apart = || {
        cluster
            .node()
            .pod()
            .sh(&format!("ping -c 1 -W 1 {pod}"))
            .is_err()
    };
    assert!(
        wait_until(super::SOON, apart),
        "hosts of two kinds do not reach each other"
    );
    cluster
        .lab
        .host(2)
        .sh("ip link show flannel.1 && ip link show flannel.7")?;
    cluster
        .lab
        .start_flanneld(1, &[])?
        .wait_ready(super::SOON)?;
    assert!(
        cluster
            .lab
            .ping_all(super::SOON)?
            .times
            .iter()
            .flatten()
            .flatten()
            .count()
            == 2
    );
    assert_eq!(env(&cluster), before);
    Ok(())
}
