//! Both address families, with the task alone: no daemon, no etcd, but the real programs and the real kernel.

use std::time::Duration;

use flanneld::config::FirewallConfig;
use flanneld::firewall::{Firewall, Inputs, Tunnel};
use flanneld::subnet::{Lease, LeaseAttrs, NetworkConfig, Subnets};
use tokio::sync::watch;

use super::support::netns::{Netns, run};

/// Rules for fd05::/48, as Go writes them.
const IP6TABLES: &str = r#"-N FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd05:0:0:1c::/64 -d fd05::/48 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd05::/48 -d fd05:0:0:1c::/64 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s fd05::/48 -d fd05:0:0:1c::/64 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd05::/48 ! -d ff00::/8 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s fd05::/48 -d fd05::/48 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
"#;

const NFT6: &str = "table ip6 flannel-ipv6 {
\tcomment \"rules for flannel-ipv6\"
\tchain postrtg {
\t\tcomment \"chain to manage traffic masquerading by flannel\"
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tmeta mark 0x00004000 return
\t\tip6 saddr fd05:0:0:1c::/64 ip6 daddr fd05::/48 return
\t\tip6 saddr fd05::/48 ip6 daddr fd05:0:0:1c::/64 return
\t\tip6 saddr != fd05::/48 ip6 daddr fd05:0:0:1c::/64 return
\t\tip6 saddr fd05::/48 ip6 daddr != ff00::/8 masquerade fully-random
\t\tip6 saddr != fd05::/48 ip6 daddr fd05::/48 masquerade fully-random
\t}

\tchain forward {
\t\tcomment \"chain to accept flannel traffic\"
\t\ttype filter hook forward priority filter; policy accept;
\t\tip6 saddr fd05::/48 accept
\t\tip6 daddr fd05::/48 accept
\t}
}
";

/// One look of a daemon with these families.
fn look(ipv4: bool, ipv6: bool, nftables: bool, ip_masq: bool) {
    let json = format!(
        r#"{{"EnableIPv4":{ipv4},"Network":"10.5.0.0/16","EnableIPv6":{ipv6},"IPv6Network":"fd05::/48",
            "EnableNFTables":{nftables},"Backend":{{"Type":"vxlan"}}}}"#
    );
    let network = NetworkConfig::parse(json.as_bytes()).unwrap();
    let own = Subnets {
        v4: ipv4.then(|| "10.5.33.0/24".parse().unwrap()),
        v6: ipv6.then(|| "fd05:0:0:1c::/64".parse().unwrap()),
    };
    let config = FirewallConfig {
        ip_masq,
        fully_random: true,
        forward: ip_masq,
        resync: Duration::from_secs(5),
        source_filter: false,
    };
    // What the file of an earlier life says.
    let former = ["10.5.0.0/16", "fd05::/48"]
        .map(|net| net.parse().unwrap())
        .to_vec();
    let tunnel = Tunnel { port: 8472, vni: 1 };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let firewall = Firewall::new(&config, &network, &own, former, tunnel);
        let mut state = firewall.state();
        let attrs = LeaseAttrs::decode(br#"{"PublicIP":"192.0.2.1"}"#).unwrap();
        let lease = Lease {
            subnets: own,
            attrs,
            created: 1,
            modified: 1,
            lease_id: None,
        };
        let (_owned, own) = watch::channel(lease);
        tokio::select! {
            never = firewall.run(Inputs { own, peers: None }) => match never {},
            state = state.wait_for(Option::is_some) => {
                assert!(state.unwrap().as_ref().is_some_and(|state| state.trouble.is_none()));
            }
        }
    });
}

fn ruleset() -> String {
    run("nft list ruleset")
}

#[test]
fn each_family_has_its_rules_and_none_has_the_others() {
    let _netns = Netns::enter();
    look(true, true, false, true);
    assert_eq!(run("ip6tables -t nat -S FLANNEL-POSTRTG"), IP6TABLES);
    assert_eq!(run("iptables -t nat -S FLANNEL-POSTRTG").lines().count(), 7);
    for program in ["iptables", "ip6tables"] {
        assert_eq!(
            run(&format!("{program} -S FLANNEL-FWD")).lines().count(),
            3,
            "{program}"
        );
    }
    look(false, true, false, true);
    assert_eq!(run("ip6tables -t nat -S FLANNEL-POSTRTG"), IP6TABLES);
    assert!(!run("iptables-save").contains("FLANNEL"), "IPv4 is off now");
    look(true, true, true, true);
    assert_eq!(run("nft list table ip6 flannel-ipv6"), NFT6);
    assert!(run("nft list table ip flannel-ipv4").contains("ip saddr 10.5.0.0/16 accept"));
    assert!(!run("ip6tables-save").contains("FLANNEL"), "another mode");
    look(false, true, true, true);
    assert!(
        ruleset().contains("table ip6 flannel-ipv6") && !ruleset().contains("flannel-ipv4"),
        "{}",
        ruleset()
    );
    look(true, true, false, false);
    assert!(
        !ruleset().to_lowercase().contains("flannel"),
        "{}",
        ruleset()
    );
}
