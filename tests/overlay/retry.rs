//! What waiting can cure: the status says what is missing and what to do; a stop leaves nothing half-made; once the
//! cause is gone the daemon comes up by itself.

use lab::{Authority, Flanneld, Lab, LabError, Signal, wait_until};

use super::assertions::Vtep;
use super::support::PATIENCE;
use super::{FLANNELD, Test, eventually, options, prepared};

const GOOD: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

/// One host with one trouble, in a cluster (an etcd prefix) of its own.
struct Trouble {
    name: &'static str,
    /// The network configuration, if there is one.
    config: Option<&'static str>,
    flags: &'static [&'static str],
    /// A script that makes the trouble on the host.
    cause: &'static str,
    /// What the status says.
    says: &'static [&'static str],
    /// A script that ends it; the configuration is made good as well.
    cure: &'static str,
}

const NONE: Trouble = Trouble {
    name: "",
    config: Some(GOOD),
    flags: &[],
    cause: "",
    says: &[],
    cure: "",
};

const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "no-config",
        config: None,
        says: &[
            "no network configuration at /no-config/config",
            "write it with: etcdctl put",
        ],
        ..NONE
    },
    Trouble {
        name: "malformed",
        config: Some(r#"{"Network":"172.30.0.0/16""#),
        says: &[
            "network configuration at /malformed/config is invalid",
            "EOF",
        ],
        ..NONE
    },
    Trouble {
        name: "too-small",
        config: Some(r#"{"Network":"172.30.0.0/30","Backend":{"Type":"vxlan"}}"#),
        says: &[
            "network configuration at /too-small/config is invalid",
            "Minimum useful network prefix is /28",
        ],
        ..NONE
    },
    Trouble {
        name: "vni",
        config: Some(r#"{"Network":"172.30.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#),
        says: &["VNI 16777216 is out of range", "must be 0 to 16777215"],
        ..NONE
    },
    Trouble {
        name: "backend",
        config: Some(r#"{"Network":"172.30.0.0/16","Backend":{"Type":"udp"}}"#),
        says: &["backend type udp is not supported", "use vxlan"],
        ..NONE
    },
    Trouble {
        name: "no-iface",
        flags: &["-iface=eth7"],
        says: &[
            "-iface=eth7: no interface has this name or address",
            "this host has eth0 (10.64.0.",
        ],
        cure: "ip link add eth7 type veth peer name wire7; ip addr add 10.77.0.1/24 dev eth7; ip link set eth7 up",
        ..NONE
    },
    Trouble {
        name: "no-address",
        flags: &["-iface=eth8"],
        cause: "ip link add eth8 type veth peer name wire8; ip link set eth8 up",
        says: &["interface eth8 has no usable IPv4 address", "ip addr add"],
        cure: "ip addr add 10.78.0.1/24 dev eth8",
        ..NONE
    },
    Trouble {
        name: "port-in-use",
        cause: "socat -u UDP-RECV:8472 - >/dev/null 2>&1 & echo $! > /run/socat.pid
            until ss -uln | grep -q :8472; do sleep 0.02; done",
        says: &[
            "create device flannel.1",
            "another program has UDP port 8472 open",
            "ss -ulpn",
        ],
        cure: "kill $(cat /run/socat.pid)",
        ..NONE
    },
    Trouble {
        name: "read-only",
        cause: "mount -t tmpfs -o ro tmpfs /run/flannel",
        says: &[
            "cannot write /run/flannel/subnet.env",
            "Read-only file system",
            "choose a directory",
        ],
        cure: "mount -o remount,rw /run/flannel",
        ..NONE
    },
    Trouble {
        name: "no-room",
        cause: "mount -t tmpfs -o size=8k tmpfs /run/flannel; head -c 8192 /dev/zero > /run/flannel/ballast",
        says: &[
            "cannot write /run/flannel/subnet.env",
            "No space left",
            "free space",
        ],
        cure: "rm /run/flannel/ballast",
        ..NONE
    },
    Trouble {
        name: "wrong-ca",
        flags: &["-etcd-cafile=/run/other/ca.pem"],
        says: &["the server's certificate is not signed by a CA in -etcd-cafile"],
        cure: "cp /run/pki/ca.pem /run/other/ca.pem",
        ..NONE
    },
    Trouble {
        name: "wrong-client",
        flags: &[
            "-etcd-certfile=/run/other/client.pem",
            "-etcd-keyfile=/run/other/client-key.pem",
        ],
        says: &[
            "the server rejects this client",
            "check -etcd-certfile and -etcd-keyfile",
        ],
        cure: "cp /run/pki/client*.pem /run/other",
        ..NONE
    },
];

/// Certificates of an authority that no one knows, on every host.
fn install_other_certificates(lab: &Lab) -> Test {
    let make = || {
        let other = Authority::new("other")?;
        let client = other.issue("stranger", &[])?;
        Ok((other, client))
    };
    let (other, client) = make()
        .map_err(|error: rcgen::Error| LabError::failed("all", "make certificates", error))?;
    for host in lab.hosts() {
        host.node().write("/run/other/ca.pem", other.pem())?;
        host.node().write("/run/other/client.pem", &client.cert)?;
        host.node()
            .write("/run/other/client-key.pem", &client.key)?;
    }
    Ok(())
}

/// Lists append: an interface of the trouble's own takes the place of the lab's.
fn start(lab: &Lab, index: usize, trouble: &Trouble) -> Result<Flanneld, LabError> {
    let own_iface = trouble.flags.iter().any(|flag| flag.starts_with("-iface"));
    let mut args = lab.flanneld_args()?;
    args.retain(|arg| !(own_iface && arg.starts_with("-iface")));
    let mut command = lab.host(index).command([FLANNELD]);
    command
        .args(args)
        .args(trouble.flags)
        .arg(format!("-etcd-prefix=/{}", trouble.name));
    Flanneld::start(lab.host(index), command)
}

/// What the daemon complains about is its trouble.
#[track_caller]
fn assert_says(flanneld: &mut Flanneld, trouble: &Trouble) {
    let mut status = String::new();
    let said = wait_until(PATIENCE, || {
        status = flanneld.notify().status().unwrap_or_default();
        status.starts_with("waiting: ") && trouble.says.iter().all(|words| status.contains(words))
    });
    assert!(said, "{}: {status}", trouble.name);
    assert!(!flanneld.notify().ready(), "{}", trouble.name);
    let log = flanneld.process().log();
    let logged = |line: &str| {
        line.contains(" WARN ") && trouble.says.iter().all(|words| line.contains(words))
    };
    assert!(log.lines().any(logged), "{}: {log}", trouble.name);
}

fn leases(lab: &Lab, trouble: &Trouble) -> Result<Vec<String>, LabError> {
    lab.etcd()?.keys(&format!("/{}/subnets", trouble.name))
}

fn assert_nothing_is_left(lab: &Lab, index: usize, trouble: &Trouble) -> Test {
    let host = lab.host(index);
    assert!(
        !host.path("/sys/class/net/flannel.1").exists(),
        "{}: no device",
        trouble.name
    );
    assert_eq!(
        host.sh("ls -A /run/flannel | grep -v ^.lock- || true")?
            .replace("ballast\n", ""),
        "",
        "{}: no files",
        trouble.name
    );
    assert_eq!(leases(lab, trouble)?, [""; 0], "{}: no lease", trouble.name);
    Ok(())
}

#[test]
fn passing_errors_are_named_waited_out_and_leave_no_trace() -> Test {
    let lab = prepared(options(), u8::try_from(TROUBLES.len()).unwrap_or(u8::MAX))?;
    install_other_certificates(&lab)?;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (index, trouble) in (1..).zip(TROUBLES) {
        if let Some(config) = trouble.config {
            lab.etcd()?
                .put(&format!("/{}/config", trouble.name), config)?;
        }
        lab.host(index).sh(trouble.cause)?;
        first.push((index, trouble, start(&lab, index, trouble)?));
    }
    for (index, trouble, mut flanneld) in first {
        assert_says(&mut flanneld, trouble);
        assert_eq!(
            flanneld.end(Signal::TERM, PATIENCE)?.code(),
            Some(0),
            "{}",
            trouble.name
        );
        assert_nothing_is_left(&lab, index, trouble)?;
        second.push((index, trouble, start(&lab, index, trouble)?));
    }
    for (index, trouble, flanneld) in &mut second {
        assert_says(flanneld, trouble);
        lab.etcd()?
            .put(&format!("/{}/config", trouble.name), GOOD)?;
        lab.host(*index).sh(trouble.cure)?;
    }
    for (index, trouble, flanneld) in &mut second {
        flanneld.wait_ready(PATIENCE)?;
        let own = Vtep::of(lab.host(*index))?
            .subnet
            .to_string()
            .replace('/', "-");
        assert_eq!(
            leases(&lab, trouble)?,
            [format!("/{}/subnets/{own}", trouble.name)]
        );
    }
    Ok(())
}

#[test]
fn wrong_password_is_named_waited_out_and_never_shown() -> Test {
    let flags = [
        "-etcd-username=flannel",
        "-etcd-password=n3w-s3cret",
        "-v=9",
    ];
    let mut lab = prepared(options().no_tls().flanneld_args(flags), 1)?;
    for line in [
        "user add root:r00t",
        "user grant-role root root",
        "user add flannel:old",
        "role add flannel",
        "role grant-permission --prefix flannel readwrite /kubernetes/network",
        "user grant-role flannel flannel",
        "auth enable",
    ] {
        lab.etcd()?.ctl(line.split(' '))?;
    }
    let flanneld = lab.start_flanneld(1, &[])?;
    let words = [
        "authentication failed",
        "check -etcd-username/-etcd-password",
    ];
    eventually("it says that it may not", || {
        flanneld
            .notify()
            .status()
            .is_some_and(|status| words.iter().all(|word| status.contains(word)))
    });
    let passwd = [
        "--user=root:r00t",
        "user",
        "passwd",
        "--interactive=false",
        "flannel",
    ];
    lab.etcd()?.ctl_feed(passwd, b"n3w-s3cret\n")?;
    lab.flanneld(1)?.wait_ready(PATIENCE)?;
    let told = lab.flanneld(1)?.notify().lines().concat() + &lab.flanneld(1)?.process().log();
    assert!(!told.contains("n3w-s3cret"), "{told}");
    eventually("the state file", || {
        lab.host(1).sh("test -s /run/flannel/state.json").is_ok()
    });
    assert_eq!(
        lab.host(1).sh("grep -rl n3w-s3cret /run || test $? = 1")?,
        ""
    );
    Ok(())
}
