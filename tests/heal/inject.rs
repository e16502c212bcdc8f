//! System calls of the real daemon that fail: netlink while it runs, the disk while it starts.
//!
//! `strace` puts the errors in. It sees the daemon's netlink sockets only, so that etcd's connections have no part in it.

use crate::tool::rflannel;
use std::time::Duration;

use lab::{Flanneld, LabError, Process, Signal, wait_until};

use super::host::{Host, PEERS, lease_key, lease_value};
use super::{SOON, Test};

/// What failed is tried again, the more slowly the longer it failed; below the period of the resync (30 s), which would hide it.
const RETRY: Duration = Duration::from_secs(30);
/// Ample for strace.
const DETACH: Duration = Duration::from_secs(60);

/// Errors for the daemon's netlink calls, until it is ended.
struct Injection<'a> {
    host: &'a Host,
    strace: Process,
}

impl<'a> Injection<'a> {
    /// `sockets` is an awk condition on the lines of `/proc/net/netlink`: field 4 holds the groups, 0 for the socket that
    /// carries requests.
    fn begin(host: &'a Host, call: &str, error: &str, sockets: &str) -> Result<Self, LabError> {
        let script = format!(
            r#"exec strace -f -qq -o /run/strace.out -e trace={call} -e inject={call}:error={error} \
            $(awk 'NR > 1 && {sockets} {{print "-P socket:[" $10 "]"}}' /proc/net/netlink) -p $(pidof flanneld)"#
        );
        let strace = host.node().spawn("strace", ["sh", "-ec", &script])?;
        let injection = Self { host, strace };
        assert!(
            wait_until(SOON, || injection.attached()),
            "{}",
            injection.strace.log()
        );
        Ok(injection)
    }

    fn attached(&self) -> bool {
        self.host
            .sh("! grep -q '^TracerPid:.0$' /proc/$(pidof flanneld)/status")
            .is_ok()
    }

    /// Waits until the daemon has met the error `times`, and lets it go.
    fn end(self, times: usize) -> Test {
        let met = || {
            self.host
                .sh(&format!(
                    "test $(grep -c INJECTED /run/strace.out) -ge {times}"
                ))
                .is_ok()
        };
        assert!(
            wait_until(SOON, met),
            "the daemon makes such calls: {:?}",
            self.host.sh("cat /run/strace.out")
        );
        self.strace.signal(Signal::TERM)?;
        // On a busy machine it takes its time to stop each thread once more.
        assert!(wait_until(DETACH, || !self.attached()), "strace lets go");
        Ok(())
    }
}

/// Peers change and others meddle while every second call fails; afterwards all is as the leases say.
fn survives(call: &str, errno: &str, sockets: &str) -> Test {
    let mut host = Host::start()?;
    let wanted = host.state()?;
    let injection = Injection::begin(&host, call, &format!("{errno}:when=1+2"), sockets)?;
    let etcd = host.lab.etcd()?;
    etcd.put(&lease_key(9), lease_value(9))?;
    host.sh("ip route flush dev flannel.1; bridge fdb del 0a:00:00:00:00:01 dev flannel.1")?;
    etcd.delete(&lease_key(2))?;
    host.sh("ip link set flannel.1 mtu 1300")?;
    injection.end(3)?;
    etcd.put(&lease_key(2), lease_value(2))?;
    etcd.delete(&lease_key(9))?;
    wait_until(RETRY, || host.state().is_ok_and(|state| state == wanted));
    assert_eq!(
        host.state()?,
        wanted,
        "after {call} failed with {errno}: {}",
        host.log()?
    );
    assert!(host.lab.flanneld(1)?.process().running());
    Ok(())
}

const ALL: &str = "1";
/// `EAGAIN` for a notification that is there would be a lie that no kernel tells: the daemon would wait for the next one.
const REQUESTS: &str = r#"$4 == "00000000""#;

#[test]
fn requests_that_cannot_be_sent_are_made_again() -> Test {
    ["ENOBUFS", "EINTR", "EBUSY", "ENOMEM"]
        .into_iter()
        .try_for_each(|errno| survives("sendto", errno, ALL))
}

#[test]
fn unreadable_replies_and_notifications_are_recovered() -> Test {
    ["ENOBUFS", "EINTR", "ENOMEM"]
        .into_iter()
        .try_for_each(|errno| survives("recvfrom", errno, ALL))?;
    survives("recvfrom", "EAGAIN", REQUESTS)
}

/// Nothing but the failure itself tells that something is missing.
#[test]
fn a_single_failure_is_made_up_for() -> Test {
    let host = Host::start()?;
    // The kernel's own addresses become valid a moment after the start, and the daemon has a look.
    let calm = || host.sh("test -z \"$(ip address show tentative)\"").is_ok();
    assert!(wait_until(SOON, calm));
    std::thread::sleep(Duration::from_millis(300));
    let injection = Injection::begin(&host, "sendto", "ENOBUFS:when=1", REQUESTS)?;
    host.lab.etcd()?.put(&lease_key(9), lease_value(9))?;
    injection.end(1)?;
    host.sh("grep RTM_NEWNEIGH /run/strace.out | grep INJECTED")?;
    assert!(wait_until(RETRY, || host
        .sh("ip route show dev flannel.1 | grep 172.30.209.0")
        .is_ok()));
    Ok(())
}

/// The disk refuses twice at start: the daemon says what it waits for, has leased nothing yet, and starts once it works.
#[test]
fn a_disk_that_fails_for_a_while_delays_the_start() -> Test {
    let mut host = Host::start()?;
    let wanted = host.state()?;
    host.lab.end_flanneld(1, Signal::KILL)?;
    host.sh("rm /run/flanneld.log")?;
    let mut flanneld = start_under(&host, "fsync", "EIO:when=1..2")?;
    flanneld.wait_ready(RETRY)?;
    let log = flanneld.process().log();
    assert_eq!(
        log.matches("flush it to disk: Input/output error").count(),
        1,
        "{log}"
    );
    host.becomes("a disk that failed twice", &wanted)
}

/// Kernels before 4.20 do not know strict checking, and before 4.3 none of the three options: they answer a question for the
/// entries of one link with those of all links and tables. Nothing of others is touched, and everything is healed.
#[test]
fn kernel_without_strict_checking_is_filtered_here() -> Test {
    let mut host = Host::start()?;
    host.sh(
        "ip link add other type vxlan id 77 dstport 4777 dev eth0; ip link set other up
        ip addr add 172.30.250.1/32 dev other
        bridge fdb append 0a:00:00:00:00:77 dev other dst 10.64.9.77
        ip neigh add 172.30.251.0 lladdr 0a:00:00:00:00:77 dev other nud permanent
        ip route add 172.30.251.0/24 via 172.30.251.0 dev other onlink
        ip route add 172.30.252.0/24 dev flannel.1 table 100",
    )?;
    let others = "bridge fdb show dev other; ip neigh show dev other; ip route show dev other; ip route show table 100; \
        ip -4 addr show dev other";
    let (wanted, kept) = (host.state()?, host.sh(others)?);
    host.lab.end_flanneld(1, Signal::KILL)?;
    for when in ["3", "1..3"] {
        host.sh("rm -f /run/flanneld.log; ip route del 172.30.201.0/24")?;
        let mut flanneld = start_under(&host, "setsockopt", &format!("ENOPROTOOPT:when={when}"))?;
        flanneld.wait_ready(RETRY)?;
        let trace = host.sh("cat /run/strace.out")?;
        assert!(
            trace
                .lines()
                .any(|l| l.contains("STRICT_CHK") && l.contains("INJECTED")),
            "{trace}"
        );
        host.becomes("a start without strict checking", &wanted)?;
        host.heals_to(
            &wanted,
            "others change it",
            "ip route flush dev flannel.1; ip neigh flush dev flannel.1 nud permanent
            bridge fdb del 0a:00:00:00:00:01 dev flannel.1",
        )?;
        assert_eq!(host.sh(others)?, kept, "{}", flanneld.process().log());
        host.sh("kill $(pidof flanneld)")?;
        assert!(
            wait_until(SOON, || host.sh("pidof flanneld").is_err()),
            "it ends"
        );
    }
    Ok(())
}

/// Without the privilege for a large buffer the kernel has room for some 256 refusals; here come more, at once.
#[test]
fn more_refusals_than_there_is_room_for_are_made_up_for() -> Test {
    let mut host = Host::start()?;
    let own = host.lease()?.0;
    host.lab.end_flanneld(1, Signal::KILL)?;
    // The daemon's first socket has three options before the size of its buffer.
    let mut flanneld = start_under(&host, "setsockopt", "EPERM:when=4")?;
    flanneld.wait_ready(SOON)?;
    // A resync that is still due would bring the device back before the leases are read.
    let status = format!("{} status", rflannel());
    let is_done = || {
        host.sh(&status)
            .is_ok_and(|text| text.contains(" without drift") && !text.contains("; 0 without"))
    };
    assert!(wait_until(SOON, is_done), "the first resync");
    let trace = host.sh("cat /run/strace.out")?;
    assert!(
        trace
            .lines()
            .any(|l| l.contains("SO_RCVBUFFORCE") && l.contains("INJECTED")),
        "{trace}"
    );

    let key = |n: &usize| format!("/kubernetes/network/subnets/172.30.{n}.0-24");
    let peers: Vec<usize> = (10..=120).filter(|n| key(n) != own).collect();
    let count = "ip route show dev flannel.1 | wc -l; ip neigh show dev flannel.1 nud permanent | wc -l; bridge fdb show dev flannel.1 | wc -l";
    let all = format!("{0}\n{0}\n{0}\n", peers.len() + PEERS);
    // The device may be back before the leases are read, and then nothing is refused: once more with other values.
    for attempt in 0..5 {
        host.sh("kill -STOP $(pidof flanneld); ip link del flannel.1")?;
        let value = |n: &usize| lease_value(n + attempt);
        let puts: Vec<String> = peers
            .iter()
            .map(|n| format!("put {} {:?}", key(n), value(n)))
            .collect();
        host.lab
            .etcd()?
            .ctl_feed(["txn"], format!("\n{}\n\n\n", puts.join("\n")).as_bytes())?;
        host.sh("kill -CONT $(pidof flanneld)")?;
        wait_until(RETRY, || host.sh(count).is_ok_and(|counts| counts == all));
        assert_eq!(host.sh(count)?, all, "{}", flanneld.process().log());
        if flanneld
            .process()
            .log()
            .contains("lost replies of the kernel")
        {
            break;
        }
    }
    let log = flanneld.process().log();
    assert!(log.contains("lost replies of the kernel"), "{log}");
    Ok(())
}

fn start_under(host: &Host, call: &str, error: &str) -> Result<Flanneld, LabError> {
    let mut command = host.node().command(["strace", "-fqqo/run/strace.out"]);
    command.args([
        format!("-etrace={call}"),
        format!("-einject={call}:error={error}"),
    ]);
    command
        .arg(env!("CARGO_BIN_EXE_flanneld"))
        .args(host.lab.flanneld_args()?);
    Flanneld::start(host.node(), command)
}
