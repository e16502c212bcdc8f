//! Another program is faster.

use super::{Cluster, NETWORK, Test, value};
use crate::support::tool::rflannel;

/// Several administrators at once: as many writes as there are successes, and each loser says so.
#[test]
fn concurrent_writers_never_overwrite_unread_values() -> Test {
    let cluster = Cluster::start(1)?;
    let versions = |cluster: &Cluster| {
        let fields = cluster
            .lab
            .etcd()
            .unwrap()
            .ctl(["get", "/kubernetes/network/config", "-w", "fields"])
            .unwrap();
        let line = fields
            .lines()
            .find_map(|line| line.strip_prefix("\"Version\" : "))
            .unwrap()
            .to_owned();
        line.parse::<usize>().unwrap()
    };
    let before = versions(&cluster);
    let script = format!("set +e\n{}", script(&cluster, 8));
    let ended = cluster.node().sh(&script)?;
    let codes: Vec<&str> = ended
        .lines()
        .filter(|line| line.starts_with("ended "))
        .collect();
    let won = codes.iter().filter(|line| **line == "ended 0").count();
    assert_eq!(codes.len(), 8, "{ended}");
    assert!(
        won >= 1
            && codes
                .iter()
                .all(|line| ["ended 0", "ended 1"].contains(line)),
        "{ended}"
    );
    assert_eq!(versions(&cluster) - before, won, "{ended}");
    let lost = ended
        .matches("changed since they were read: nothing was changed; run the command again")
        .count();
    assert_eq!(lost, 8 - won, "{ended}");
    Ok(())
}

fn script(cluster: &Cluster, count: usize) -> String {
    let etcd = cluster.lab.etcd().unwrap().endpoints();
    let one = |n: usize| {
        let json = NETWORK.replace("\"Type\"", &format!("\"MTU\":{},\"Type\"", 1300 + n));
        format!(
            "(echo '{json}' | {rflannel} config set --yes -- -etcd-endpoints={etcd} -etcd-prefix=/kubernetes/network 2>&1 >/dev/null; echo \"ended $?\") &\n",
            rflannel = rflannel()
        )
    };
    (1..=count).map(one).collect::<String>() + "wait\n"
}

/// One lease, moved to eight subnets at once: it goes to one of them, and nothing is left of the others.
#[test]
fn of_many_who_move_a_lease_one_does() -> Test {
    let cluster = Cluster::start(1)?;
    cluster.lease("172.30.1.0-24", &value(1))?;
    let etcd = cluster.lab.etcd()?.endpoints();
    let one = |n: usize| {
        format!(
            "({rflannel} lease move 172.30.1.0/24 172.30.10{n}.0/24 --yes --force -- -etcd-endpoints={etcd} -etcd-prefix=/kubernetes/network >/dev/null 2>&1; echo \"ended $?\") &\n",
            rflannel = rflannel()
        )
    };
    let ended = cluster.node().sh(&format!(
        "set +e\n{}wait\n",
        (1..=8).map(one).collect::<String>()
    ))?;
    assert_eq!(
        (
            ended.matches("ended 0").count(),
            ended.matches("ended 1").count()
        ),
        (1, 7),
        "{ended}"
    );
    assert_eq!(
        cluster
            .lab
            .etcd()?
            .keys("/kubernetes/network/subnets/")?
            .len(),
        1
    );
    Ok(())
}
