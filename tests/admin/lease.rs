//! `rflannel lease` where no daemon runs: what is shown, and that a dry run says what is done, no more and no less.

use crate::support::tool::rflannel;
use lab::wait_until;
use serde_json::Value;

use super::{Cluster, Test, value};

/// Three hosts belongs to Go flannel, a reservation, and what is wrong.
fn cluster() -> Result<Cluster, lab::LabError> {
    let cluster = Cluster::start(1)?;
    for n in 1..=3 {
        cluster.lease(&format!("172.30.{n}.0-24"), &value(n))?;
    }
    let etcd = cluster.lab.etcd()?;
    etcd.put("/kubernetes/network/subnets/172.30.200.0-24", value(200))?;
    cluster.lease("172.30.4.0-24", &value(3))?;
    cluster.lease("172.30.5.0-24", "{")?;
    etcd.put("/kubernetes/network/subnets/rubbish", "{}")?;
    Ok(cluster)
}

#[test]
fn every_lease_is_listed_with_what_is_wrong_with_it() -> Test {
    let cluster = cluster()?;
    let text = cluster.run(&["lease", "list"]).expect(0, &[]);
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip(1)
        .map(|line| {
            line.split("  ")
                .filter(|cell| !cell.is_empty())
                .map(str::trim)
                .collect()
        })
        .collect();
    assert_eq!(
        rows[0],
        [
            "subnet",
            "public address",
            "MAC",
            "expires",
            "owner",
            "problems"
        ]
    );
    assert_eq!(
        rows[1],
        [
            "172.30.1.0/24",
            "10.64.9.1",
            "0a:00:00:00:00:01",
            "in 23 h",
            "-",
            "-"
        ]
    );
    let of = |subnet: &str| {
        text.lines()
            .find(|line| line.starts_with(subnet))
            .unwrap_or_default()
    };
    assert!(of("172.30.200.0/24").contains("never"), "{text}");
    for (subnet, words) in [
        (
            "172.30.3.0/24",
            "10.64.9.3 has 2 leases: 172.30.3.0/24, 172.30.4.0/24",
        ),
        ("172.30.5.0/24", "not a lease value"),
        ("rubbish", "not a lease key"),
    ] {
        assert!(of(subnet).contains(words), "{subnet} {words}: {text}");
    }
    assert!(
        text.ends_with("7 leases of 255 in 172.30.0.0/16; 2 reserved, 4 with problems\n"),
        "{text}"
    );
    let json = cluster.run(&["lease", "list", "--json"]).expect(0, &[]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["leases"][0]["public_ips"][0], "10.64.9.1");
    assert!(json["leases"][0]["expires"].as_u64().unwrap() > 86_000);
    assert_eq!(json["leases"][5]["reserved"], true);
    Ok(())
}

#[test]
fn one_lease_is_shown_whole() -> Test {
    let cluster = cluster()?;
    for which in ["172.30.2.0/24", "10.64.9.2", "172.30.2.77", "172.30.2.0-24"] {
        cluster.run(&["lease", "show", which]).expect(
            0,
            &[
                "key      /kubernetes/network/subnets/172.30.2.0-24",
                "host     10.64.9.2",
                "renewed",
                "belongs to Go flannel",
                &value(2),
            ],
        );
    }
    cluster
        .run(&["lease", "show", "10.64.9.3"])
        .expect(1, &["172.30.3.0/24, 172.30.4.0/24: give one of these"]);
    cluster.run(&["lease", "show", "h9"]).expect(
        1,
        &["no lease below /kubernetes/network/subnets matches \"h9\""],
    );
    Ok(())
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_is_done() -> Test {
    let cluster = cluster()?;
    let before = cluster.everything();
    for (args, code, words) in [
        (
            &["lease", "reserve", "172.30.1.0/24"][..],
            0,
            &[
                "would write /kubernetes/network/subnets/172.30.1.0-24 = {\"PublicIP\":\"10.64.9.1\"",
                "(does not expire)",
                "use --yes to apply",
            ][..],
        ),
        (
            &["lease", "unreserve", "172.30.200.0/24"],
            0,
            &["on a new etcd lease of 24 h", "is still at revision"],
        ),
        (
            &["lease", "release", "172.30.1.0/24"],
            1,
            &[
                "would delete /kubernetes/network/subnets/172.30.1.0-24",
                "refused: its host may be alive: renewed",
                "Go flannel renews once a day",
                "nothing was changed",
            ],
        ),
        (
            &["lease", "release", "172.30.5.0/24"],
            0,
            &[
                "would delete /kubernetes/network/subnets/172.30.5.0-24",
                "no host uses it",
            ],
        ),
        (
            &[
                "lease",
                "move",
                "172.30.1.0/24",
                "172.30.99.0/24",
                "--force",
            ],
            0,
            &[
                "would write /kubernetes/network/subnets/172.30.99.0-24 = ",
                "would delete /kubernetes/network/subnets/172.30.1.0-24",
                "if /kubernetes/network/config is still at revision",
                "-on-lease-lost=move it moves at once",
            ],
        ),
        (
            &[
                "lease",
                "reserve",
                "172.30.99.0/24",
                "--public-ip=10.64.9.99",
            ],
            0,
            &["{\"PublicIP\":\"10.64.9.99\",\"PublicIPv6\":null} (does not expire)"],
        ),
        (
            &["lease", "reserve", "172.30.200.0/24"],
            0,
            &["172.30.200.0/24 is a reservation: nothing to do"],
        ),
    ] {
        cluster.run(args).expect(code, words);
        assert_eq!(cluster.everything(), before, "{args:?}");
    }
    Ok(())
}

#[test]
fn what_was_said_is_done() -> Test {
    let cluster = cluster()?;
    let yes = |args: &[&str], words: &[&str]| {
        cluster
            .run(&[&["lease"], args, &["--yes"]].concat())
            .expect(0, words)
    };
    let expires =
        |which: &str, words: &str| cluster.run(&["lease", "show", which]).expect(0, &[words]);

    yes(
        &["reserve", "172.30.1.0/24"],
        &["wrote /kubernetes/network/subnets/172.30.1.0-24"],
    );
    expires("172.30.1.0/24", "never: it is a reservation");
    yes(&["unreserve", "172.30.1.0/24"], &["wrote"]);
    expires("172.30.1.0/24", "in 23 h, renewed");
    assert_eq!(
        cluster.value("subnets/172.30.1.0-24"),
        Some(value(1)),
        "the value is as it was, byte for byte"
    );

    yes(
        &["release", "172.30.5.0/24"],
        &["deleted /kubernetes/network/subnets/172.30.5.0-24"],
    );
    assert_eq!(cluster.value("subnets/172.30.5.0-24"), None);

    yes(
        &["move", "172.30.1.0/24", "172.30.99.0/24", "--force"],
        &["wrote", "deleted"],
    );
    assert_eq!(cluster.value("subnets/172.30.99.0-24"), Some(value(1)));
    assert_eq!(cluster.value("subnets/172.30.1.0-24"), None);

    cluster
        .run(&["lease", "release", "172.30.99.0/24", "--yes"])
        .expect(1, &["refused: its host may be alive"]);
    yes(&["release", "172.30.99.0/24", "--force"], &["deleted"]);
    cluster
        .run(&[
            "lease",
            "move",
            "172.30.2.0/24",
            "172.30.3.0/24",
            "--yes",
            "--force",
        ])
        .expect(1, &["is leased by 10.64.9.3"]);
    Ok(())
}

/// The daemon of that host takes the subnet, keeps it reserved, and no other daemon complains meanwhile.
#[test]
fn a_subnet_is_reserved_for_a_host_that_comes_later() -> Test {
    let mut cluster = Cluster::start(2)?;
    cluster
        .lab
        .start_flanneld(1, &[])?
        .wait_ready(super::SOON)?;
    cluster
        .run(&[
            "lease",
            "reserve",
            "172.30.77.0/24",
            "--public-ip=10.64.0.2",
            "--yes",
        ])
        .expect(0, &["wrote"]);
    let knows = |revision: &str| {
        let status = cluster
            .node()
            .sh(&format!("{rflannel} status", rflannel = rflannel()));
        status.is_ok_and(|text| {
            text.contains(revision) && text.contains("fine") && text.contains("0 refused")
        })
    };
    let revision = cluster.run(&["lease", "show", "172.30.77.0/24"]).text;
    let revision = revision
        .split("created at revision ")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap();
    assert!(
        wait_until(super::SOON, || knows(&format!("revision {revision}"))),
        "the other daemon has seen it, and is fine"
    );
    cluster
        .lab
        .start_flanneld(2, &[])?
        .wait_ready(super::SOON)?;
    assert!(
        cluster
            .lab
            .host(2)
            .read("/run/flannel/subnet.env")?
            .contains("FLANNEL_SUBNET=172.30.77.1/24")
    );
    cluster
        .run(&["lease", "show", "172.30.77.0/24"])
        .expect(0, &["never: it is a reservation", "owner    h2"]);
    Ok(())
}

#[test]
fn etcd_that_is_away_and_wrong_usage_are_told_apart() -> Test {
    let cluster = Cluster::start(1)?;
    let run = |script: &str| {
        let output = cluster
            .node()
            .run([
                "sh",
                "-c",
                &format!("{rflannel} {script} 2>&1", rflannel = rflannel()),
            ])
            .unwrap();
        (
            output.status.code().unwrap_or_default(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (code, text) = run("lease list -- -etcd-endpoints=http://10.64.255.1:1");
    assert!(
        code == 4
            && text.contains("cannot list the leases")
            && text.contains("http://10.64.255.1:1"),
        "{code} {text}"
    );
    let (code, text) = run("lease list -- -etcd-endpoint=x");
    assert!(
        code == 64 && text.contains("-etcd-endpoints"),
        "{code} {text}"
    );
    assert_eq!(run("lease list --nonsense").0, 64);
    assert_eq!(run("lease").0, 64);
    let (code, text) = run("lease release");
    assert!(code == 64 && text.contains("WHICH"), "{code} {text}");
    let environment =
        "FLANNELD_ETCD_ENDPOINTS=http://10.64.255.1:2379 FLANNELD_ETCD_PREFIX=/kubernetes/network";
    let output = cluster.node().run([
        "sh",
        "-c",
        &format!("{environment} {rflannel} lease list", rflannel = rflannel()),
    ])?;
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("0 leases of 255"),
        "{output:?}"
    );
    Ok(())
}
