//! Hosts that a Go flanneld has left, as they were recorded (`tests/golden/go`).

use std::fs;
use std::path::PathBuf;

use lab::{Lab, LabError, Node, wait_until};
use serde_json::Value;

use super::PATIENCE;
use super::systemd_host::SystemdHost;

type Test = Result<(), LabError>;

/// Where a recording is made again: a host of a lab, or one that systemd runs.
pub trait Host {
    /// Runs a shell script that must succeed (`sh -e`), with this standard input; its standard output.
    fn feed(&self, script: &str, input: &[u8]) -> Result<String, LabError>;

    /// The same without input.
    fn sh(&self, script: &str) -> Result<String, LabError> {
        self.feed(script, b"")
    }

    /// Writes a file.
    fn write(&self, path: &str, content: &str) -> Test {
        self.feed(
            &format!("mkdir -p $(dirname {path}); cat >{path}"),
            content.as_bytes(),
        )
        .map(drop)
    }
}

impl Host for Node {
    fn feed(&self, script: &str, input: &[u8]) -> Result<String, LabError> {
        self.feed(["sh", "-ec", script], input)
    }
}

impl Host for SystemdHost<'_> {
    fn feed(&self, script: &str, input: &[u8]) -> Result<String, LabError> {
        self.feed(script, input)
    }
}

/// What was recorded of the host at 10.64.0.2, whose peers are 10.64.0.1 and 10.64.0.3.
pub struct Recorded(PathBuf);

/// Prints the rules as they were recorded.
const RULES: &[(&str, &str)] = &[
    (
        "rules.iptables",
        "iptables-save | sed '/^#/d; s/\\[[0-9:]*\\]/[0:0]/'",
    ),
    (
        "rules.ip6tables",
        "ip6tables-save | sed '/^#/d; s/\\[[0-9:]*\\]/[0:0]/'",
    ),
    (
        "rules.nft",
        "nft list ruleset | sed -n '/^table ip6\\? flannel/,/^}/p'",
    ),
];

/// What is compared: file, the command that printed it.
const SHOWN: &[(&str, &str)] = &[
    (
        "routes",
        "{ ip route show; ip -6 route show; } | grep -E '^172[.]30[.].* via |^fd05.* via '",
    ),
    (
        "neighbors",
        "{ ip neigh show nud permanent; ip -6 neigh show nud permanent; } | grep flannel | sort -u",
    ),
    (
        "fdb",
        "for d in $(ls /sys/class/net | grep flannel); do bridge fdb show dev $d | sed \"s/^/$d /\"; done | grep ' dst ' | sort",
    ),
];

impl Recorded {
    pub fn new(name: &str) -> Self {
        let recorded = Self(
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("tests/golden/go")
                .join(name),
        );
        assert!(
            !recorded.text("subnet.env").is_empty(),
            "nothing was recorded of {name}"
        );
        recorded
    }

    /// A file; empty where there was nothing to record.
    pub fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    pub fn json(&self, file: &str) -> Vec<Value> {
        serde_json::from_str(&self.text(file)).unwrap_or_default()
    }

    /// Key and value of every lease.
    pub fn leases(&self) -> Vec<(String, String)> {
        let text = self.text("leases");
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// Commands that make all of it.
    pub fn by_hand(&self) -> String {
        let links: String = self.json("link.json").iter().map(device).collect();
        let addresses: String = self.json("addr.json").iter().map(addresses).collect();
        let lines = |file: &str, line: fn(&[&str]) -> String| -> String {
            self.text(file)
                .lines()
                .map(|text| line(&text.split_whitespace().collect::<Vec<_>>()))
                .collect()
        };
        let neighbor = |words: &[&str]| {
            let [ip, _, device, _, mac, _] = words else {
                return String::new();
            };
            format!("ip neigh replace {ip} lladdr {mac} dev {device} nud permanent\n")
        };
        let entry = |words: &[&str]| {
            let [device, mac, _, peer, ..] = words else {
                return String::new();
            };
            format!("bridge fdb replace {mac} dev {device} dst {peer} self permanent\n")
        };
        let route = |words: &[&str]| format!("ip route replace {}\n", words.join(" "));
        [
            links,
            addresses,
            lines("neighbors", neighbor),
            lines("fdb", entry),
            lines("routes", route),
        ]
        .concat()
    }

    /// Commands that load its rules.
    pub fn load_rules(&self, host: &impl Host) -> Test {
        for (file, program) in [
            ("rules.iptables", "iptables-restore"),
            ("rules.ip6tables", "ip6tables-restore"),
            ("rules.nft", "nft -f"),
        ] {
            let text = self.text(file);
            if !text.is_empty() {
                host.write(&format!("/run/{file}"), &text)?;
                host.sh(&format!("{program} /run/{file}"))?;
            }
        }
        Ok(())
    }

    /// What its rules must be in the end: those of the newest release, with one of nftables repaired.
    fn wanted_rules(&self, file: &str) -> String {
        let newest = Self::new("v0.28.9-vxlan");
        let (mine, its) = (self.subnet(), newest.subnet());
        let text = if self.0.ends_with("v0.20.2-vxlan") {
            newest.text(file).replace(&its, &mine)
        } else {
            self.text(file)
        };
        let wrong = |line: &str| line.contains("saddr != ") && line.ends_with(" return");
        let lines = text.lines().map(|line| {
            if wrong(line) {
                swapped(line)
            } else {
                line.to_owned()
            }
        });
        lines.map(|line| line + "\n").collect()
    }

    /// Waits until the rules are what they must be.
    #[track_caller]
    pub fn assert_rules(&self, host: &impl Host) -> Test {
        for (file, script) in RULES {
            let (want, mut have) = (self.wanted_rules(file), String::new());
            let right = wait_until(PATIENCE, || {
                have = host.sh(script).unwrap_or_default();
                have == want
            });
            assert!(right, "{file}: wanted\n{want}\nhave\n{have}");
        }
        Ok(())
    }

    /// The last component of the own lease's key.
    pub fn own_key(&self) -> String {
        let leases = self.leases();
        let own = leases
            .iter()
            .find(|(_, value)| value.contains(r#""PublicIP":"10.64.0.2""#));
        own.and_then(|(key, _)| key.rsplit('/').next())
            .unwrap_or_default()
            .to_owned()
    }

    pub fn subnet(&self) -> String {
        let text = self.text("subnet.env");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="))
            .unwrap_or_default();
        value.replace(".1/", ".0/")
    }

    /// What subnet.env must be in the end. Go's MTU for both families is too large for IPv6.
    pub fn wanted_env(&self) -> String {
        let text = self.text("subnet.env");
        if text.contains("IPV6") {
            text.replace("MTU=1450", "MTU=1430")
        } else {
            text
        }
    }

    /// The host is in every respect as it was recorded, and subnet.env is this.
    #[track_caller]
    pub fn assert_as_recorded(&self, host: &impl Host, subnet_env: &str) -> Test {
        assert_eq!(host.sh("cat /run/flannel/subnet.env")?, subnet_env);
        for (file, script) in SHOWN {
            assert_eq!(
                host.sh(&format!("{script} || true"))?,
                self.text(file),
                "{file}"
            );
        }
        for want in self.json("link.json") {
            let name = want["ifname"].as_str().unwrap_or_default();
            let shown: Value =
                serde_json::from_str(&host.sh(&format!("ip -d -j link show {name}"))?)
                    .unwrap_or_default();
            let have = &shown[0];
            for key in ["mtu", "address", "flags"] {
                assert_eq!(have[key], want[key], "{name}: {key}");
            }
            assert_eq!(have["linkinfo"]["info_data"], want["vxlan"], "{name}");
        }
        Ok(())
    }

    /// Puts the recorded leases into etcd, as they were.
    pub fn lease_all(&self, lab: &Lab) -> Test {
        for (key, value) in self.leases() {
            let granted = lab.etcd()?.ctl(["lease", "grant", "86400"])?;
            let lease_id = granted
                .split_whitespace()
                .nth(1)
                .unwrap_or_default()
                .to_owned();
            lab.etcd()?
                .ctl(["put".into(), key, value, format!("--lease={lease_id}")])?;
        }
        Ok(())
    }

    /// Every lease is in etcd as it was recorded.
    #[track_caller]
    pub fn assert_leases(&self, lab: &Lab) -> Test {
        for (key, value) in self.leases() {
            assert_eq!(
                lab.etcd()?
                    .ctl(["get", "--print-value-only", &key])?
                    .trim_end(),
                value,
                "{key}"
            );
        }
        Ok(())
    }

    /// A real peer at 10.64.0.1 that has the MAC of its lease.
    pub fn start_peer(&self, lab: &mut Lab) -> Test {
        let leases = self.leases();
        let own = leases
            .iter()
            .find(|(_, value)| value.contains(r#""PublicIP":"10.64.0.1""#));
        let lease: Value = own
            .and_then(|(_, value)| serde_json::from_str(value).ok())
            .unwrap_or_default();
        for mut link in self.json("link.json") {
            let six = !link["vxlan"]["local6"].is_null();
            let (data, local, own) = if six {
                ("BackendV6Data", "local6", "fd10::1")
            } else {
                ("BackendData", "local", "10.64.0.1")
            };
            link["address"] = lease[data]["VtepMAC"].clone();
            link["vxlan"][local] = own.into();
            lab.host(1).sh(&device(&link))?;
        }
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
        lab.wire_pod(1).map(drop)
    }
}

/// The rule of nftables that has the two networks the wrong way round.
fn swapped(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let [family, saddr, not, own, family2, daddr, network, verdict] = words[..] else {
        return line.into();
    };
    [family, saddr, not, network, family2, daddr, own, verdict].join(" ")
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn device(link: &Value) -> String {
    let [name, mtu, mac] = ["ifname", "mtu", "address"].map(|key| word(&link[key]));
    let vxlan = &link["vxlan"];
    let [vni, port] = ["id", "port"].map(|key| word(&vxlan[key]));
    let local = ["local", "local6"]
        .map(|key| vxlan[key].as_str().unwrap_or_default())
        .concat();
    let gbp = if vxlan["gbp"] == true { "gbp" } else { "" };
    format!(
        "ip link add {name} mtu {mtu} address {mac} type vxlan id {vni} local {local} dev eth0 nolearning dstport {port} {gbp}
        ip link set {name} up\n"
    )
}

fn addresses(link: &Value) -> String {
    let list = link["addr"].as_array().into_iter().flatten();
    let add = |one: &Value| {
        // The kernel tells of the end of its search for duplicates, as of a change.
        let now = if one["family"] == "inet6" {
            "nodad"
        } else {
            ""
        };
        format!(
            "ip addr add {}/{} dev {} {now}\n",
            word(&one["local"]),
            one["prefixlen"],
            word(&link["ifname"])
        )
    };
    list.map(add).collect()
}
