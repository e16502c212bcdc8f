//! The lab itself, without any daemon: on the real kernel, with a real etcd. Needs root and what
//! `scripts/setup` installs.

#![allow(clippy::unwrap_used, reason = "a helper fails its test")]

#[path = "lab/faults.rs"]
mod faults;
#[path = "support/tool.rs"]
mod tool;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{KeptLab, Lab, LabError, LabOptions, Node, NotifySocket, Signal, wait_until};

type Test = Result<(), LabError>;

const SOON: Duration = Duration::from_secs(20);

/// These tests start no `flanneld`.
fn options() -> LabOptions {
    LabOptions::new("/nonexistent/flanneld")
}

fn lab_of(hosts: u8) -> Result<Lab, LabError> {
    let mut lab = Lab::bare(options())?;
    lab.add_hosts(hosts)?;
    Ok(lab)
}

/// A network needs a moment where hosts come and go.
fn reaches(from: &Node, to: Ipv4Addr) -> bool {
    wait_until(SOON, || pings(from, to).unwrap_or_default())
}

fn pings(from: &Node, to: Ipv4Addr) -> Result<bool, LabError> {
    Ok(from
        .run(["ping", "-c1", "-W2", &to.to_string()])?
        .status
        .success())
}

#[test]
fn hosts_reach_each_other_and_nothing_else() -> Test {
    let mut lab = lab_of(2)?;
    lab.add_hosts(1)?;
    assert!(
        reaches(lab.host(1), lab.host(3).address()),
        "h1 to a host added later"
    );
    assert!(
        reaches(lab.host(2), lab.bridge().address()),
        "h2 to its gateway"
    );
    assert!(
        !pings(lab.bridge(), Ipv4Addr::new(198, 51, 100, 1))?,
        "no way out"
    );
    assert_eq!(lab.host(2).sh("hostname")?.trim(), "h2");
    assert_eq!(lab.host(3).sh("ls /sys/class/net")?.trim(), "eth0\nlo");
    lab.host(1).write("/run/private", "1")?;
    assert!(
        lab.host(2).read("/run/private").is_err(),
        "each host has its own /run"
    );
    Ok(())
}

#[test]
fn etcd_with_mutual_tls_keeps_its_data_over_a_crash() -> Test {
    let mut lab = Lab::bare(options())?;
    lab.start_etcd()?;
    lab.add_hosts(1)?;
    lab.configure()?;
    let etcd = lab.etcd_mut()?;
    assert!(
        etcd.get("/kubernetes/network/config")?
            .is_some_and(|json| json.contains("172.30.0.0/16"))
    );
    assert_eq!(etcd.get("/nothing")?, None);

    etcd.kill(1)?;
    assert!(etcd.kill(1).is_err(), "dead already");
    etcd.start_member(1)?;
    etcd.wait_healthy()?;
    assert_eq!(etcd.keys("/kubernetes")?, ["/kubernetes/network/config"]);
    etcd.delete("/kubernetes/network/config")?;
    assert!(etcd.keys("/")?.is_empty());
    etcd.put("/large", "x".repeat(1_000_000))?;

    let health = "--cacert /run/pki/ca.pem https://10.64.255.1:2379/health";
    let host = lab.host(1);
    host.sh(&format!(
        "curl -sf --cert /run/pki/client.pem --key /run/pki/client-key.pem {health}"
    ))?;
    assert!(
        host.sh(&format!("curl -sf {health}")).is_err(),
        "no client without a certificate"
    );
    Ok(())
}

#[test]
fn three_members_survive_one_that_hangs() -> Test {
    let mut lab = Lab::bare(options().etcd_members(3).no_tls())?;
    lab.start_etcd()?;
    lab.configure()?;
    let etcd = lab.etcd()?;
    etcd.signal(2, Signal::STOP)?;
    assert!(
        wait_until(SOON, || etcd.put("/key", "value").is_ok()),
        "two of three are a majority"
    );
    etcd.signal(2, Signal::CONT)?;
    let answered = || {
        etcd.ctl_of(2, ["get", "--print-value-only", "/key"])
            .is_ok_and(|v| v == "value\n")
    };
    assert!(
        wait_until(SOON, answered),
        "the member that hung has caught up"
    );
    Ok(())
}

#[test]
fn hears_what_a_service_manager_would() -> Test {
    let lab = lab_of(1)?;
    let host = lab.host(1);
    let notify = NotifySocket::bind(host, "daemon")?;
    let say = |text: &str| {
        host.sh(&format!(
            "printf '{text}' | socat - UNIX-SENDTO:{}",
            notify.path()
        ))
    };
    say("STATUS=waiting for etcd")?;
    assert!(notify.wait_for("STATUS=waiting for etcd", SOON));
    assert!(!notify.ready());
    say("READY=1\\nSTATUS=up\\n")?;
    assert!(notify.wait_for("STATUS=up", SOON));
    assert!(notify.ready());
    assert_eq!(
        notify.lines(),
        ["STATUS=waiting for etcd", "READY=1", "STATUS=up"]
    );
    assert_eq!(notify.status().as_deref(), Some("up"));
    Ok(())
}

#[test]
fn processes_can_be_stopped_woken_ended_and_killed() -> Test {
    let lab = lab_of(1)?;
    let script = "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.05; done";
    let mut process = lab.host(1).spawn("loop", ["sh", "-c", script])?;
    assert!(wait_until(SOON, || process.log() == "hello\n"));
    process.signal(Signal::STOP)?;
    let state = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let pid = process.pid().unwrap_or_default();
    assert!(wait_until(SOON, || state(pid).contains(") T ")), "stopped");
    process.signal(Signal::CONT)?;
    process.signal(Signal::TERM)?;
    assert_eq!(process.wait(SOON)?.code(), Some(7));
    assert_eq!(process.log_tail(1), ["bye"]);
    assert!(process.signal(Signal::TERM).is_err(), "it has ended");

    let stopped = lab.host(1).spawn("sleep", ["sleep", "infinity"])?;
    stopped.signal(Signal::STOP)?;
    stopped.kill()
}

#[test]
fn a_host_without_power_is_gone() -> Test {
    let mut lab = lab_of(2)?;
    let dead = lab.host(1).address();
    lab.host(1).write("/run/flannel/mark", "")?;
    lab.power_off(1)?;
    assert!(!pings(lab.host(2), dead)?);
    assert!(lab.host(1).sh("true").is_err());
    assert!(!lab.host(1).alive());
    lab.power_on(1)?;
    assert!(lab.host(1).alive());
    assert!(
        lab.host(1).read("/run/flannel/mark").is_err(),
        "a boot empties /run"
    );
    assert!(reaches(lab.host(2), dead));
    Ok(())
}

/// What detaches becomes a child of the lab's first process.
#[test]
fn an_orphan_that_ends_takes_nothing_along() -> Test {
    let lab = lab_of(1)?;
    let orphan = lab.bridge().sh("sleep 0.1 >/dev/null 2>&1 & echo $!")?;
    let process = format!("/proc/{}", orphan.trim());
    assert!(wait_until(SOON, || !lab
        .bridge()
        .run(["test", "-e", &process])
        .unwrap()
        .status
        .success()));
    assert!(lab.bridge().alive() && lab.host(1).alive());
    Ok(())
}

/// Ends a kept lab even if its test fails.
struct Down(KeptLab);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = self.0.down();
    }
}

#[test]
fn a_kept_lab_is_found_again_and_ended() -> Test {
    let name = format!("test-{}", std::process::id());
    KeptLab::reserve(&name)?;
    let mut lab = Lab::bare(options().name(&name))?;
    lab.add_hosts(2)?;
    lab.keep()?;
    let _guard = Down(KeptLab::find(&name)?);

    assert!(KeptLab::reserve(&name).is_err(), "the name is taken");
    let kept = KeptLab::find(&name)?;
    assert!(reaches(kept.node("1")?, kept.node("h2")?.address()));
    let sleeper = kept.node("h1")?.spawn("sleep", ["sleep", "600"])?;
    let listed = || {
        kept.node("h1")
            .is_ok_and(|node| node.processes() == ["sleep"])
    };
    assert!(wait_until(SOON, listed));
    drop(sleeper);
    assert!(kept.node("h3").is_err());
    kept.down()?;
    assert!(!kept.alive());
    assert!(KeptLab::find(&name).is_err());
    Ok(())
}

#[test]
fn a_daemon_that_cannot_start_is_an_error_with_its_log() -> Test {
    let mut lab = Lab::bare(LabOptions::new("/bin/false").flanneld_args(["-one"]))?;
    lab.start_etcd()?;
    lab.add_hosts(1)?;
    let args = lab.flanneld_args()?;
    assert!(
        args.contains(&"-iface=eth0".into()) && args.ends_with(&["-one".into()]),
        "{args:?}"
    );
    let error = lab
        .start_flanneld(1, &["-two"])?
        .wait_ready(SOON)
        .map_or_else(|e| e.to_string(), |()| "".into());
    assert!(
        error.starts_with("cannot start flanneld on h1: it ended before it was ready"),
        "{error}"
    );
    Ok(())
}

/// What two daemons would do, by hand: the pods of all hosts reach each other.
fn overlay_by_hand(lab: &mut Lab, hosts: usize) -> Test {
    for i in 1..=hosts {
        let device = format!(
            "ip link add flannel.1 mtu 1450 address 0a:00:00:00:00:{i:02x} type vxlan id 1 \
             local 10.64.0.{i} dev eth0 nolearning dstport 8472
             ip addr add 172.30.{i}.0/32 dev flannel.1; ip link set flannel.1 up\n"
        );
        let peers: String = (1..=hosts).filter(|j| *j != i).map(peer).collect();
        lab.host(i).sh(&(device + &peers))?;
        let env = format!(
            "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.{i}.1/24\nFLANNEL_MTU=1450\n"
        );
        lab.host(i).write("/run/flannel/subnet.env", env)?;
        let pod = lab.wire_pod(i)?;
        assert_eq!(pod.node.sh("cat /sys/class/net/eth0/mtu")?, "1450\n");
    }
    Ok(())
}

fn peer(j: usize) -> String {
    let mac = format!("0a:00:00:00:00:{j:02x}");
    format!(
        "ip neigh replace 172.30.{j}.0 lladdr {mac} dev flannel.1 nud permanent
         bridge fdb replace {mac} dev flannel.1 dst 10.64.0.{j}
         ip route replace 172.30.{j}.0/24 via 172.30.{j}.0 dev flannel.1 onlink\n"
    )
}

#[test]
fn an_overlay_made_by_hand_passes_the_ping_matrix() -> Test {
    let mut lab = lab_of(3)?;
    overlay_by_hand(&mut lab, 3)?;
    let matrix = lab.ping_all(SOON)?;
    assert_eq!(matrix.pairs(), 6);
    assert_eq!(matrix.missing().count(), 0, "{matrix:?}");
    assert_eq!(matrix.times[1][1], None, "a pod does not ping itself");

    lab.host(2).sh("ip route del 172.30.3.0/24")?;
    let broken: Vec<_> = lab.ping_all(Duration::ZERO)?.missing().collect();
    assert_eq!(broken, [(1, 2), (2, 1)], "no way there, no way back");
    lab.wire_all()
}

#[test]
fn large_lab_has_neighbor_entries() -> Test {
    let lab = lab_of(16)?;
    assert!(reaches(lab.host(16), lab.host(1).address()));
    let known = lab.host(1).sh("ip neigh show nud permanent")?;
    assert_eq!(known.lines().count(), 15);
    Ok(())
}

#[test]
fn two_labs_at_once_do_not_meet() -> Test {
    let (one, two) = (lab_of(1)?, lab_of(2)?);
    assert!(reaches(two.host(1), two.host(2).address()));
    assert!(
        !pings(one.host(1), two.host(2).address())?,
        "the other lab's h2"
    );
    Ok(())
}

/// Everything on the machine that a lab could leave behind.
fn traces(inside: &[PathBuf]) -> Vec<PathBuf> {
    let namespace = |entry: fs::DirEntry| fs::read_link(entry.path().join("ns/net")).ok();
    let all = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(namespace);
    all.filter(|ns| inside.contains(ns)).collect()
}

fn namespaces(nodes: &[&Node]) -> Vec<PathBuf> {
    nodes
        .iter()
        .filter_map(|node| fs::read_link(format!("/proc/{}/ns/net", node.pid())).ok())
        .collect()
}

#[test]
fn a_dropped_lab_leaves_nothing() -> Test {
    // Other tests make namespaces of such names meanwhile.
    let is_of_others = |line: &&str| line.contains(" /run/netns/rfl-");
    let mounts = || {
        let all = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        all.lines()
            .filter(|line| !is_of_others(line))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = mounts();
    let mut lab = Lab::bare(options())?;
    lab.start_etcd()?;
    lab.add_hosts(2)?;
    overlay_by_hand(&mut lab, 2)?;
    let stopped = lab.host(1).spawn("sleep", ["sleep", "infinity"])?;
    stopped.signal(Signal::STOP)?;
    let inside = namespaces(&[lab.host(1), lab.host(2), lab.bridge(), lab.etcd()?.node(1)]);
    assert_eq!(inside.len(), 4);
    assert!(traces(&inside).len() > 6);
    drop(stopped);
    drop(lab);
    assert!(traces(&inside).is_empty(), "{:?}", traces(&inside));
    assert_eq!(mounts(), before);
    assert!(!Path::new("/run/netns/switch").exists());
    Ok(())
}

/// Set in the process that is going to be killed.
const VICTIM: &str = "RFLANNEL_TEST_VICTIM";

#[expect(clippy::print_stdout, reason = "the other process reads it")]
fn have_a_lab_until_killed() -> Test {
    let lab = lab_of(1)?;
    let stopped = lab.host(1).spawn("sleep", ["sleep", "infinity"])?;
    stopped.signal(Signal::STOP)?;
    println!("lab {}", lab.host(1).pid());
    std::thread::sleep(Duration::from_secs(600));
    drop((stopped, lab));
    Ok(())
}

#[test]
fn a_killed_process_takes_its_lab_along() -> Test {
    use std::io::{BufRead, BufReader};
    if std::env::var_os(VICTIM).is_some() {
        return have_a_lab_until_killed();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "a_killed_process_takes_its_lab_along",
        ])
        .env(VICTIM, "")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let pid = lines
        .into_iter()
        .find_map(|line| Some(line.split_once("lab ")?.1.to_owned()))
        .unwrap();
    let init = PathBuf::from(format!("/proc/{pid}"));
    assert!(init.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        wait_until(SOON, || !init.exists()),
        "process {pid} lives on"
    );
    Ok(())
}
