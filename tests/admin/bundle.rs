//! `rflannel support-bundle` on a host that systemd runs, with secrets wherever one could be: none of them is in it.

use crate::support::tool::rflannel;
use std::collections::BTreeMap;

use lab::{Lab, LabOptions};

use super::support::installed::{file, installed};
use super::support::systemd_host::{File, SystemdHost};
use super::{NETWORK, PREFIX, Test, value};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");

/// All of these are planted, and none may be found.
const SECRETS: &[&str] = &[
    "pw-of-the-daemon",
    "pw of proxy",
    "pw-in-a-drop-in",
    "token-in-a-drop-in",
    "pw-in-daemon-json",
    "pw-in-sysconfig",
    "pw-in-the-journal",
    "token-in-the-journal",
    "bearer-in-the-journal",
    "pw-in-etcd",
    "pw-in-a-lease",
    "pw-in-a-comment",
    "MC4CAQAwBQYDK2VwBCIEIplanted",
    "pw-in-this-environment",
];

/// Beside what makes a host: secrets.
fn files(lab: &Lab) -> Vec<File> {
    let mut files = installed(lab, FLANNELD, "-iface=eth0 -v=1");
    let settings = files
        .iter_mut()
        .find(|(path, ..)| path == "/etc/default/flanneld")
        .unwrap();
    settings
        .1
        .extend(b"FLANNELD_ETCD_USERNAME=root\nFLANNELD_ETCD_PASSWORD=pw-of-the-daemon\n");
    files.push(file(
        "/etc/systemd/system/flanneld.service.d/proxy.conf",
        "[Service]\nEnvironment=\"HTTP_PROXY_PASSWORD=pw of proxy\" HTTPS_PROXY=http://user:pw-in-a-drop-in@proxy:3128 X_TOKEN=token-in-a-drop-in\n",
    ));
    files.push(file(
        "/etc/docker/daemon.json",
        r#"{"proxies":{"http-proxy":"http://me:pw-in-daemon-json@proxy"}}"#,
    ));
    files.push(file(
        "/etc/sysconfig/flanneld",
        "FLANNEL_OPTIONS=\"-etcd-password pw-in-sysconfig -etcd-username=x\"\n",
    ));
    files.push((
        "/usr/local/bin/rflannel".into(),
        std::fs::read(rflannel()).unwrap(),
        0o755,
    ));
    files
}

fn plant(lab: &Lab, host: &SystemdHost<'_>) -> Test {
    let etcd = lab.etcd()?;
    etcd.put(
        &format!("{PREFIX}/subnets/172.30.9.0-24"),
        value(9).replace("{\"VNI\"", "{\"token\":\"pw-in-a-lease\",\"VNI\""),
    )?;
    // After the lease, so that the host cannot choose that subnet.
    etcd.put(
        &format!("{PREFIX}/config"),
        NETWORK.replace("{\"Network\"", "{\"password\":\"pw-in-etcd\",\"Network\""),
    )?;
    for line in [
        "etcdctl --user=root:pw-in-the-journal get x",
        "the password is -etcd-password=pw-in-the-journal",
        "kubelet token: token-in-the-journal",
        "Authorization: Bearer bearer-in-the-journal",
        "-----BEGIN PRIVATE KEY----- MC4CAQAwBQYDK2VwBCIEIplanted -----END PRIVATE KEY-----",
        "by itself: pw-of-the-daemon",
    ] {
        host.must(&format!("systemd-run --quiet --wait --unit=planter --property=StandardOutput=journal --property=SyslogIdentifier=flanneld echo '{line}'"));
    }
    host.must("iptables -A INPUT -m comment --comment 'password=pw-in-a-comment' -j ACCEPT");
    Ok(())
}

/// The files of a bundle, by their names.
fn unpacked(host: &SystemdHost<'_>) -> BTreeMap<String, String> {
    host.must("mkdir /run/unpacked && tar -xzf /root/bundle.tar.gz -C /run/unpacked");
    let names = host.must("cd /run/unpacked/rflannel && find . -type f | sort");
    let read = |name: &str| {
        (
            name.trim_start_matches("./").to_owned(),
            host.say(&format!("cat '/run/unpacked/rflannel/{name}'")),
        )
    };
    names.lines().map(read).collect()
}

#[test]
fn a_bundle_has_what_is_needed_and_no_secret() -> Test {
    let mut lab = Lab::bare(LabOptions::new(FLANNELD))?;
    lab.start_etcd()?;
    lab.add_hosts(1)?;
    lab.etcd()?.wait_healthy()?;
    let host = SystemdHost::boot(
        &lab,
        "bundled",
        "10.64.0.98",
        &files(&lab),
        &["flanneld.service"],
    )?;
    host.wait("systemctl is-active flanneld", |state| {
        ["activating", "active"].contains(&state)
    });
    plant(&lab, &host)?;
    host.wait("systemctl is-active flanneld", |state| state == "active");
    let flags = "FLANNELD_ETCD_PASSWORD=pw-in-this-environment rflannel support-bundle --unit '*' --output /root/bundle.tar.gz -- \
        -etcd-username=root -etcd-prefix=/kubernetes/network -etcd-endpoints=$FLANNELD_ETCD_ENDPOINTS \
        -etcd-cafile=/etc/kubernetes/ssl/ca.pem -etcd-certfile=/etc/kubernetes/ssl/kubernetes.pem -etcd-keyfile=/etc/kubernetes/ssl/kubernetes-key.pem";
    let endpoints = "export $(grep ENDPOINTS /etc/default/flanneld);";
    let said = host.must(&format!("{endpoints} {flags}"));
    assert!(
        said.contains("/root/bundle.tar.gz: ")
            && said.contains("look through it before you send it"),
        "{said}"
    );
    assert_eq!(host.say("stat -c '%a %U' /root/bundle.tar.gz"), "600 root");
    let bundle = unpacked(&host);
    for (name, words) in [
        ("status.json", "\"fine\""),
        ("status.json", "10.64.0.98"),
        ("flags", "-docker-opts-file=/run/flannel/docker"),
        ("flags", "FLANNELD_ETCD_PASSWORD=***"),
        ("etcd/leases.json", "172.30.9.0-24"),
        ("kernel/flannel.1/fdb.json", "0a:00:00:00:00:09"),
        ("kernel/flannel.1/routes.json", "172.30.9.0/24"),
        ("kernel/flannel.1/neighbors.json", "172.30.9.0"),
        ("kernel/sysctl", "net.ipv4.ip_forward = "),
        ("firewall/iptables", "FLANNEL-FWD"),
        ("units/state", "flanneld"),
        ("journal", "Lease acquired"),
        ("journal", "--user=root:***"),
        ("files/run/flannel/subnet.env", "FLANNEL_SUBNET=172.30."),
        ("files/etc/default/flanneld", "FLANNELD_ETCD_USERNAME=root"),
        ("MANIFEST", "journal: "),
    ] {
        let text = bundle.get(name).map_or("(not there)", String::as_str);
        assert!(
            text.contains(words),
            "{name}: {words:?} is missing:\n{text}"
        );
    }
    let planted = host.must("cat /etc/default/flanneld /etc/sysconfig/flanneld /etc/docker/daemon.json; systemctl cat flanneld; journalctl; iptables-save");
    for secret in SECRETS {
        let leaks: Vec<&String> = bundle
            .iter()
            .filter(|(_, text)| text.contains(secret))
            .map(|(name, _)| name)
            .collect();
        assert!(leaks.is_empty(), "{secret:?} is in {leaks:?}");
    }
    for secret in [
        "pw-of-the-daemon",
        "pw of proxy",
        "pw-in-the-journal",
        "pw-in-a-comment",
        "MC4CAQAwBQYDK2VwBCIEIplanted",
    ] {
        assert!(
            planted.contains(secret),
            "{secret:?} was really there:\n{planted}"
        );
    }
    let again = host.run(&format!("{endpoints} {flags} 2>&1"));
    assert!(
        !again.status.success(),
        "a file that is there is not written over: {again:?}"
    );
    Ok(())
}
