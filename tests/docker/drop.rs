//! Docker sets the policy of `FORWARD` to DROP if it is the one to switch forwarding on: nftables mode, and the other order.

use lab::LabOptions;

use super::{FLANNELD, all_reach_each_other, boot, cluster_of, policy};

const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

/// No table of nftables overrules the drop of another one: there is an exception where it drops.
#[test]
fn containers_connect_in_nftables_mode_despite_docker_drops() {
    let lab = cluster_of(LabOptions::new(FLANNELD).network(NETWORK));
    let hosts = boot(&lab, "0", "-iface=eth0 -v=1");
    hosts
        .iter()
        .for_each(|host| assert_eq!(policy(host), "-P FORWARD DROP"));
    all_reach_each_other(&hosts);
    for host in &hosts {
        let rules = host.must("nft list table ip flannel-ipv4; iptables -S");
        assert!(rules.contains("ip saddr 172.30.0.0/16 accept"), "{rules}");
        // Docker is there before the daemon now.
        host.must("systemctl stop flanneld; iptables -D FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD");
        host.must("systemctl start flanneld; iptables -S FORWARD | grep -q FLANNEL-FWD");
        // Where nothing is dropped the exception goes.
        host.must("iptables -P FORWARD ACCEPT");
        host.wait("iptables -S", |rules| !rules.contains("FLANNEL-FWD"));
    }
}
