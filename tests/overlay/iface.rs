//! Each way of naming the interface, on real hosts; what is chosen follows the host while the daemon runs.

use lab::{Flanneld, Lab, LabError};

use super::support::PATIENCE;
use super::{FLANNELD, Test, eventually, prepared};

/// A second interface, eth7, beside the lab's eth0 (10.64.0.{n}).
const SECOND: &str =
    "ip link add eth7 type veth peer name wire7; ip link set wire7 up; ip link set eth7 up;
    ip addr add 10.77.0.{n}/24 dev eth7;";

/// One host; `{n}` stands for its number.
struct Case {
    flags: &'static str,
    /// What is done before the daemon starts.
    before: &'static str,
    /// What `ip` shows of the tunnel, texts between semicolons, and what is published.
    chosen: (&'static str, &'static str),
    /// What is done while it runs, and what that leads to: the interface in use stays in use while it has its address.
    then: &'static str,
    followed: (&'static str, &'static str),
}

const CASES: &[Case] = &[
    Case {
        flags: r"-iface-regex=^10\.77\.",
        before: "",
        chosen: ("local 10.77.0.{n} dev eth7", "10.77.0.{n}"),
        then: "ip addr del 10.77.0.{n}/24 dev eth7; ip addr add 10.77.1.{n}/24 dev eth7",
        followed: ("local 10.77.1.{n} dev eth7", "10.77.1.{n}"),
    },
    Case {
        flags: "-iface=nope -iface-regex=^wlan -iface-regex=^eth7$",
        before: "",
        chosen: ("local 10.77.0.{n} dev eth7", "10.77.0.{n}"),
        then: "ip link add nope type veth peer name epon; ip link set nope up; ip addr add 10.78.0.{n}/24 dev nope; ip link set eth7 mtu 1400",
        followed: ("mtu 1350 ;local 10.77.0.{n} dev eth7", "10.77.0.{n}"),
    },
    Case {
        flags: "-iface-can-reach=10.99.0.1",
        before: "ip route add 10.99.0.0/16 via 10.77.0.254 dev eth7",
        chosen: ("local 10.77.0.{n} dev eth7", "10.77.0.{n}"),
        then: "ip route replace 10.99.0.0/16 via 10.64.255.254 dev eth0; ip link set eth7 mtu 1400",
        followed: ("mtu 1350 ;local 10.77.0.{n} dev eth7", "10.77.0.{n}"),
    },
    Case {
        flags: "",
        before: "",
        chosen: ("local 10.64.0.{n} dev eth0", "10.64.0.{n}"),
        then: "ip route replace default via 10.77.0.254 dev eth7; ip link set eth0 mtu 1400",
        followed: ("mtu 1350 ;local 10.64.0.{n} dev eth0", "10.64.0.{n}"),
    },
    Case {
        flags: "-public-ip=203.0.113.{n}",
        before: "",
        chosen: ("local 10.64.0.{n} dev eth0", "203.0.113.{n}"),
        then: "ip addr add 203.0.113.{n}/32 dev lo",
        followed: ("local 203.0.113.{n} dev eth0", "203.0.113.{n}"),
    },
    Case {
        flags: "-public-ip=10.64.77.{n}",
        before: "ip addr add 10.64.77.{n}/16 dev eth0",
        chosen: ("local 10.64.77.{n} dev eth0", "10.64.77.{n}"),
        then: "ip addr del 10.64.77.{n}/16 dev eth0",
        followed: ("local 10.64.0.{n} dev eth0", "10.64.77.{n}"),
    },
];

fn start(lab: &Lab, index: usize, flags: &str) -> Result<Flanneld, LabError> {
    let mut args = lab.flanneld_args()?;
    args.retain(|arg| !arg.starts_with("-iface"));
    let mut command = lab.host(index).command([FLANNELD]);
    command.args(args).args(flags.split_whitespace());
    Flanneld::start(lab.host(index), command)
}

fn assert_chosen(lab: &Lab, index: usize, (device, published): (&str, &str)) {
    let (device, published) = (of(index, device), of(index, published));
    eventually(&format!("host {index}: {device}"), || {
        lab.host(index)
            .sh("ip -d link show flannel.1")
            .is_ok_and(|shown| device.split(';').all(|text| shown.contains(text)))
    });
    eventually(&format!("host {index} announces {published}"), || {
        lab.etcd().is_ok_and(|etcd| {
            etcd.ctl(["get", "--prefix", "/kubernetes/network/subnets"])
                .is_ok_and(|shown| shown.contains(&format!(r#""PublicIP":"{published}""#)))
        })
    });
}

fn of(index: usize, text: &str) -> String {
    text.replace("{n}", &index.to_string())
}

#[test]
fn each_way_of_naming_the_interface_is_understood_and_followed() -> Test {
    let lab = prepared(
        super::options().no_tls(),
        u8::try_from(CASES.len()).unwrap_or(u8::MAX),
    )?;
    let mut running = Vec::new();
    for (index, case) in (1..).zip(CASES) {
        lab.host(index)
            .sh(&of(index, &format!("{SECOND} {}", case.before)))?;
        running.push((index, case, start(&lab, index, &of(index, case.flags))?));
    }
    for (index, case, flanneld) in &mut running {
        flanneld.wait_ready(PATIENCE)?;
        assert_chosen(&lab, *index, case.chosen);
        lab.host(*index).sh(&of(*index, case.then))?;
    }
    for (index, case, _) in &running {
        assert_chosen(&lab, *index, case.followed);
    }
    let log = lab.host(5).read("/run/flanneld.log")?;
    assert!(
        log.contains("no interface has the external address 203.0.113.5: a router"),
        "{log}"
    );
    Ok(())
}
