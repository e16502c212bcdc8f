//! `rflannel status`.

use crate::tool::rflannel;
use flanneld::status::report::{Report, State};
use lab::{Lab, LabOptions, Node, Signal, wait_until};

use super::ask::{PORT, becomes as page_becomes};
use super::host::{Host, NETWORK, PEERS, lease_key, lease_value};
use super::{SOON, Test};

/// Exit code and text.
fn status(node: &Node, flags: &[&str]) -> (i32, String) {
    let output = node
        .run([rflannel(), "status"].iter().chain(flags))
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or_default(), text)
}

pub fn json(node: &Node, flags: &[&str]) -> (i32, Report) {
    let all: Vec<&str> = std::iter::once(&"--json").chain(flags).copied().collect();
    let (code, text) = status(node, &all);
    assert_eq!(text.lines().count(), 1, "{text}");
    (
        code,
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

#[track_caller]
fn becomes(node: &Node, flags: &[&str], code: i32, words: &[&str]) -> String {
    let mut seen = (0, String::new());
    let came = wait_until(SOON, || {
        seen = status(node, flags);
        seen.0 == code && words.iter().all(|words| seen.1.contains(words))
    });
    assert!(came, "waited in vain for {code} {words:?}: {seen:?}");
    seen.1
}

#[test]
fn running_daemon_reports_everything() -> Test {
    let host = Host::start()?;
    let (node, etcd) = (host.node(), host.lab.etcd()?);
    let (key, _) = host.lease()?;
    let subnet = key.rsplit('/').next().unwrap_or_default().replace('-', "/");
    let text = becomes(node, &[], 0, &["fine", "expires in 2", "last message"]);
    for words in [
        &format!("lease      {subnet}, held for"),
        "10.64.0.1, over eth0 (10.64.0.1, MTU 1500)",
        "http://10.64.255.1:2379, watching, revision",
        "5 desired, 5 installed, 0 failing, 0 refused, 0 in conflict",
        "device     flannel.1: MAC ",
        "MTU 1450, VNI 1, UDP port 8472, from 10.64.0.1",
        "16 entries desired, 0 missing",
        "resyncs    last",
        "firewall   ",
    ] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
    let (code, report) = json(node, &[]);
    assert_eq!(
        (code, report.state, report.reasons),
        (0, State::Fine, Vec::new())
    );
    let overlay = report.overlay.unwrap();
    assert_eq!(
        (overlay.subnet, overlay.peers.installed),
        (subnet.clone(), PEERS)
    );

    etcd.put(
        &lease_key(9),
        lease_value(9).replace("10.64.9.9", "127.0.0.1"),
    )?;
    becomes(
        node,
        &[],
        1,
        &[
            "degraded",
            "1 lease is not used",
            "refused 172.30.209.0/24: public address 127.0.0.1",
        ],
    );
    etcd.put(
        &lease_key(9),
        lease_value(1).replace("10.64.9.1", "10.64.9.9"),
    )?;
    becomes(
        node,
        &[],
        1,
        &["conflict 172.30.201.0/24: 172.30.209.0/24 is newer and has fdb 0a:00:00:00:00:01"],
    );
    etcd.delete(&lease_key(9))?;
    host.sh("ip route del 172.30.202.0/24")?;
    becomes(node, &[], 0, &["repairs    1 (1 route)"]);
    etcd.put(&key, lease_value(77))?;
    becomes(node, &[], 3, &["not ready", "- LEASE LOST to 10.64.9.77"]);
    Ok(())
}

/// Who records a lease as its own is named wherever that lease is.
#[test]
fn hosts_with_one_public_address_have_names() -> Test {
    let host = Host::start_with(NETWORK, &[PORT])?;
    let (node, etcd) = (host.node(), host.lab.etcd()?);
    for n in [7, 8, 9] {
        let owner = format!(r#"{{"Machine":"m{n}","Boot":"b","Host":"host-{n}"}}"#);
        etcd.put(&lease_key(n).replace("/subnets/", "/owners/"), owner)?;
    }
    etcd.put(
        &lease_key(9),
        lease_value(9).replace("10.64.9.9", "127.0.0.1"),
    )?;
    etcd.put(&lease_key(7), lease_value(7))?;
    etcd.put(
        &lease_key(8),
        lease_value(8).replace("10.64.9.8", "10.64.9.7"),
    )?;
    let pair = "172.30.207.0/24 (host-7), 172.30.208.0/24 (host-8)";
    let shown = [
        &format!("duplicate public addresses: 1 (10.64.9.7 by {pair});"),
        &format!("duplicate 10.64.9.7 by {pair}"),
        "refused 172.30.209.0/24 (host-9): public address 127.0.0.1",
    ];
    becomes(node, &[], 1, &shown);
    let line = format!("several hosts announce the public address 10.64.9.7: leases {pair};");
    assert!(wait_until(SOON, || host.log_contains(&line)), "{line}");
    let info = r#"flannel_duplicate_public_ip_info{public_ip="10.64.9.7",subnets="172.30.207.0/24 172.30.208.0/24",hosts="host-7 host-8"} 1"#;
    page_becomes(node, "/metrics", 200, info);
    let log = node.read("/run/flanneld.log")?;
    assert_eq!(log.matches("several hosts announce").count(), 1, "{log}");
    Ok(())
}

/// Real bridges as an earlier lease leaves them. A peer that has that subnet now is reached, as with Go flannel.
#[test]
fn bridges_of_an_earlier_lease_are_named() -> Test {
    let host = Host::start()?;
    let (node, etcd) = (host.node(), host.lab.etcd()?);
    let own = node.read("/run/flannel/subnet.env")?;
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="))
        .unwrap_or_default();
    let add = |name: &str, address: &str| {
        node.sh(&format!(
            "ip link add {name} type bridge; ip addr add {address} dev {name}; ip link set {name} up"
        ))
    };
    add("good0", own)?;
    add("docker0", "172.30.219.1/24")?;
    add("cni0", "172.30.206.1/24")?;
    // Whatever the daemon repairs makes it look at the whole host.
    let look = || node.sh("ip route del 172.30.201.0/24");
    look()?;
    let shown = [
        "docker0 has 172.30.219.1/24, outside this host's subnet",
        "restart docker (systemctl restart docker)",
        "cni0 has 172.30.206.1/24, outside this host's subnet",
        "delete it (ip link del cni0)",
    ];
    let text = becomes(node, &[], 1, &shown);
    assert!(!text.contains("good0"), "{text}");
    let checked = node.run([rflannel(), "check"])?;
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    // Printed in lines of some width.
    let checked = checked.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in shown {
        assert!(
            checked.contains(words),
            "{words:?} is missing in: {checked}"
        );
    }

    etcd.put(&lease_key(6), lease_value(6))?;
    let way = || node.sh("ip route get 172.30.206.9").unwrap_or_default();
    assert!(
        wait_until(SOON, || way().contains("dev flannel.1")),
        "{}",
        way()
    );
    becomes(node, &[], 1, &shown[2..]);
    node.sh("ip link del cni0; ip link del docker0")?;
    look()?;
    becomes(node, &[], 0, &["fine"]);
    Ok(())
}

#[test]
fn a_daemon_that_waits_says_for_what() -> Test {
    let mut lab = Lab::bare(
        LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
            .no_tls()
            .network(NETWORK),
    )?;
    lab.start_etcd()?;
    lab.etcd()?.wait_healthy()?;
    lab.add_hosts(1)?;
    lab.start_flanneld(1, &[])?;
    becomes(
        lab.host(1),
        &[],
        3,
        &[
            "not ready",
            "- waiting: no network configuration at /kubernetes/network/config",
        ],
    );
    Ok(())
}

/// From the kernel, the state file, and etcd if it is named. Nothing is changed by looking.
#[test]
fn without_the_daemon_the_rest_is_told() -> Test {
    let mut host = Host::start()?;
    let node = host.node().clone();
    let saved = || {
        node.sh("grep -q 172.30.205.0 /run/flannel/state.json")
            .is_ok()
    };
    assert!(wait_until(SOON, saved), "the state file is written");
    host.lab.end_flanneld(1, Signal::TERM)?;
    let flags = [
        "--",
        "-etcd-prefix=/kubernetes/network",
        "-iface=eth0",
        "-state-file=/run/flannel/state.json",
    ];
    let (code, text) = status(&node, &flags);
    assert_eq!(code, 2, "{text}");
    for words in [
        "not running",
        "no daemon answers at /run/flannel/subnet.sock: No such file",
        "compared with the state file, which is ",
        "0 entries missing, 0 surplus",
        "5 desired, 5 installed",
    ] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
    node.sh("ip route del 172.30.202.0/24; ip link set flannel.1 mtu 1400; ip neigh replace 172.30.9.9 lladdr 0a:00:00:00:09:09 dev flannel.1 nud permanent")?;
    let before = host.state()?;
    let (_, text) = status(&node, &flags);
    for words in [
        "1 entry missing, 1 surplus",
        "failing 172.30.202.0/24: route 172.30.202.0/24 via 172.30.202.0 is not in the kernel",
        "device flannel.1: differs from the desired state:",
    ] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
    host.lab.etcd()?.put(&lease_key(9), lease_value(9))?;
    let asked: Vec<&str> = flags
        .iter()
        .copied()
        .chain(["-etcd-endpoints=http://10.64.255.1:2379"])
        .collect();
    let (code, text) = status(&node, &asked);
    assert_eq!(code, 2);
    for words in [
        "compared with etcd",
        "6 desired, 4 installed",
        "4 entries missing",
    ] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
    assert_eq!(host.state()?, before, "looking changes nothing");
    node.sh("ip link del flannel.1")?;
    assert!(
        status(&node, &flags)
            .1
            .contains("device flannel.1: does not exist")
    );
    assert!(
        node.sh("ip link show flannel.1").is_err(),
        "looking changes nothing"
    );

    let (code, text) = status(&node, &[]);
    assert_eq!(code, 2);
    // Hosts of a lab share the machine's /var.
    assert!(text.contains(" /var/lib/flannel/subnet.json: "), "{text}");
    Ok(())
}

#[test]
fn mistakes_and_missing_rights_are_no_answers() -> Test {
    let host = Host::start()?;
    let node = host.node();
    assert_eq!(status(node, &["--nonsense"]).0, 64);
    assert_eq!(status(node, &["--watch=0"]).0, 64);
    let (code, text) = status(node, &["--", "-etcd-endpoint=x"]);
    assert!(
        code == 64 && text.contains("-etcd-endpoints"),
        "{code} {text}"
    );
    let (code, text) = status(node, &["--help"]);
    assert!(
        code == 0 && text.contains("64  wrong usage"),
        "{code} {text}"
    );
    let output = node.run([
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        rflannel(),
        "status",
    ])?;
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("run as root"));
    let _strange = node.spawn(
        "strange",
        ["socat", "UNIX-LISTEN:/run/strange,fork", "SYSTEM:echo {}"],
    )?;
    node.sh("until test -S /run/strange; do sleep .02; done")?;
    let (code, text) = status(node, &["--socket=/run/strange"]);
    assert!(
        code == 4 && text.contains("sent an unusable answer"),
        "{code} {text}"
    );
    Ok(())
}

/// One line each time, until no one reads it.
#[test]
fn it_can_be_watched() -> Test {
    let host = Host::start()?;
    let seen = host.sh(&format!(
        "{rflannel} status --json --watch=1 | head -n 2",
        rflannel = rflannel()
    ))?;
    let reports: Vec<Report> = seen
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(reports.len() == 2 && reports[0].uptime < reports[1].uptime);
    Ok(())
}

/// Two daemons of one host have sockets of their own.
#[test]
fn two_daemons_do_not_clash() -> Test {
    let host = Host::start()?;
    let second = NETWORK
        .replace("172.30.", "172.31.")
        .replace("\"Type\":\"vxlan\"", "\"Type\":\"vxlan\",\"VNI\":7");
    host.lab.etcd()?.put("/second/config", second)?;
    let mut flags = host.lab.flanneld_args()?;
    flags.extend(
        [
            "-etcd-prefix=/second",
            "-subnet-file=/run/flannel/second.env",
            "-state-file=none",
        ]
        .map(str::to_owned),
    );
    let _second = host.node().spawn(
        "second",
        std::iter::once(env!("CARGO_BIN_EXE_flanneld").to_owned()).chain(flags),
    )?;
    let text = becomes(
        host.node(),
        &["--socket=/run/flannel/run-flannel-second.env.sock"],
        0,
        &["172.31.", "flannel.7", "VNI 7"],
    );
    assert!(!text.contains("172.30."), "{text}");
    becomes(
        host.node(),
        &["--socket=/run/flannel/subnet.sock"],
        0,
        &["172.30.", "flannel.1"],
    );
    Ok(())
}
