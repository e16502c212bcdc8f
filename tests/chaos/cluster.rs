//! The cluster that the faults are done to: hosts with a disk that survives a reboot, daemons whose log is read through a pipe.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::{Etcd, Flanneld, Lab, LabError, LabOptions, Node, Process, Signal};
use tokio::time::Instant;

use crate::host::{Host, World};
use crate::settings::Settings;
use crate::story::Story;

pub type Done<T = ()> = Result<T, LabError>;

/// Root of all keys.
pub const PREFIX: &str = "/kubernetes/network";
/// Peers that exist in etcd only: subnet 172.30.100+n.0/24, public address 10.64.9.n. They make lists and tables longer.
pub const PHANTOMS: usize = 100;
/// A daemon that is told to stop ends within this time, whatever is slow: 2 s, and something for a loaded machine.
pub const STOP: Duration = Duration::from_secs(4);
/// For what must end soon but is not what is tested.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests of the run itself wait no longer than this.
const IMPATIENT: [&str; 2] = ["--dial-timeout=2s", "--command-timeout=5s"];

pub struct Cluster {
    pub lab: Lab,
    pub world: Arc<Mutex<World>>,
    settings: Settings,
    /// Logs, and what is on the hosts' disks.
    dir: PathBuf,
    readers: Vec<Option<Process>>,
}

impl Cluster {
    /// Starts etcd, hosts, and daemons; waits until all daemons are ready.
    pub fn start(settings: &Settings, dir: &Path) -> Done<Self> {
        let options = LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
            .no_tls()
            .etcd_members(3)
            .prefix(PREFIX)
            .network(network(settings));
        let mut lab = Lab::bare(options)?;
        lab.start_etcd()?;
        lab.add_hosts(u8::try_from(settings.hosts).unwrap())?;
        lab.configure()?;
        let log = |index: usize| dir.join(format!("h{index}.log"));
        let hosts = (1..=settings.hosts)
            .map(|index| {
                Host::new(
                    lab.host(index).clone(),
                    settings.is_other(index),
                    log(index),
                )
            })
            .collect();
        let world = World {
            hosts,
            story: Story::new(),
            violations: Vec::new(),
        };
        let readers = (0..settings.hosts).map(|_| None).collect();
        let world = Arc::new(Mutex::new(world));
        let mut cluster = Self {
            lab,
            world,
            settings: settings.clone(),
            dir: dir.into(),
            readers,
        };
        cluster.put_phantoms()?;
        cluster.make_cuts()?;
        for host in 1..=settings.hosts {
            cluster.boot(host)?;
            cluster.start_daemon(host)?;
        }
        (1..=settings.hosts).try_for_each(|host| cluster.wait_ready(host))?;
        Ok(cluster)
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn record(&self, event: &str) {
        self.world().story.record(event);
    }

    /// Does something with what is known of a host, counted from 1.
    pub fn with_host<T>(&self, host: usize, action: impl FnOnce(&mut Host) -> T) -> T {
        action(&mut self.world().hosts[host - 1])
    }

    pub fn node(&self, host: usize) -> &Node {
        self.lab.host(host)
    }

    pub fn hosts(&self) -> usize {
        self.settings.hosts
    }

    pub fn keeps_going(&self) -> bool {
        self.settings.keeps_going
    }

    pub fn sh(&self, host: usize, script: &str) -> Done<String> {
        self.node(host).sh(script)
    }

    /// A file on a host's disk, which survives a reboot.
    pub fn disk(&self, host: usize, file: &str) -> PathBuf {
        self.dir.join(format!("disk-h{host}")).join(file)
    }

    /// Gives a host that was just made what each of its boots needs.
    fn boot(&mut self, host: usize) -> Done {
        let node = self.node(host).clone();
        let home = self.with_host(host, |known| {
            known.node = node.clone();
            known.addresses = [(known.home, Instant::now())].into();
            known.home
        });
        let machine = self.disk(host, "machine-id");
        let failed =
            |error: std::io::Error| LabError::failed(node.name(), "write its machine id", error);
        std::fs::create_dir_all(machine.parent().unwrap()).map_err(failed)?;
        if !machine.exists() {
            std::fs::write(&machine, format!("{host:032x}\n")).map_err(failed)?;
        }
        // Every second host has its address from DHCP: it ends some time, and the kernel lists others before it.
        let lifetime = if host.is_multiple_of(2) {
            "valid_lft 7200 preferred_lft 7200"
        } else {
            ""
        };
        node.sh(&format!(
            "mount --bind {} /etc/machine-id
            ip addr flush dev eth0
            ip addr add {home}/16 dev eth0 {lifetime}
            ip route replace default via 10.64.255.254 metric 100
            mkfifo /run/flanneld.stderr",
            machine.display()
        ))?;
        let log = self.with_host(host, |known| known.log.clone());
        // Lines that only fill the pipe begin with `#`. The reader opens the pipe for writing too, so that it never ends.
        let read = format!(
            "exec grep --line-buffered -v '^#' <>/run/flanneld.stderr >>{}",
            log.display()
        );
        self.readers[host - 1] = Some(node.spawn("reader", ["sh", "-c", &read])?);
        Ok(())
    }

    /// Starts the daemon of a host; waits for nothing.
    pub fn start_daemon(&mut self, host: usize) -> Done {
        self.stop_daemon(host, Signal::KILL)?;
        let node = self.node(host).clone();
        let mut args = self.lab.etcd()?.flanneld_args();
        args.push(format!("-etcd-prefix={PREFIX}"));
        args.push("-ip-masq".into());
        // The others choose by the default route.
        if host % 2 == 1 {
            args.push("-iface=eth0".into());
        }
        let program = match &self.settings.other {
            Some(other) if self.settings.is_other(host) => other.clone(),
            _ => {
                args.push(format!(
                    "-state-file={}",
                    self.disk(host, "state.json").display()
                ));
                env!("CARGO_BIN_EXE_flanneld").into()
            }
        };
        let mut command = node.command(["sh", "-c", "exec \"$0\" \"$@\" 2>/run/flanneld.stderr"]);
        command.arg(program).args(args);
        let daemon = Flanneld::start(&node, command)?;
        self.with_host(host, |known| known.started(daemon));
        Ok(())
    }

    /// Ends the daemon of a host, if it runs; says how long that took.
    pub fn stop_daemon(&self, host: usize, signal: Signal) -> Done<Duration> {
        let (daemon, was_suspended) =
            self.with_host(host, |known| (known.take_daemon(), known.is_suspended));
        let Some(mut daemon) = daemon else {
            return Ok(Duration::ZERO);
        };
        if was_suspended {
            daemon.process().signal(Signal::CONT)?;
            self.with_host(host, |known| known.suspended(false));
        }
        let begin = Instant::now();
        daemon.end(signal, PATIENCE)?;
        Ok(begin.elapsed())
    }

    /// Waits until the daemon of a host is ready.
    fn wait_ready(&self, host: usize) -> Done {
        let ready = || self.with_host(host, |known| known.is_live());
        if lab::wait_until(PATIENCE, ready) {
            Ok(())
        } else {
            Err(LabError::failed(
                self.node(host).name(),
                "start flanneld",
                "it is not ready",
            ))
        }
    }

    /// Stops the process of a daemon, or lets it go on.
    pub fn suspend(&self, host: usize, stop: bool) -> Done {
        // Before it stops and after it runs again: the monitor must not ask in between.
        if stop {
            self.with_host(host, |known| known.suspended(true));
        }
        let signal = if stop { Signal::STOP } else { Signal::CONT };
        let done = self.with_host(host, |known| match &mut known.daemon {
            Some(daemon) => daemon.process().signal(signal),
            None => Ok(()),
        });
        if !stop {
            self.with_host(host, |known| known.suspended(false));
        }
        done
    }

    /// Stops the reader of a daemon's log, or lets it go on.
    pub fn stall_reader(&self, host: usize, stop: bool) -> Done {
        let signal = if stop { Signal::STOP } else { Signal::CONT };
        self.readers[host - 1]
            .as_ref()
            .map_or(Ok(()), |reader| reader.signal(signal))
    }

    /// Pulls the plug of a host.
    pub fn power_off(&mut self, host: usize) -> Done {
        drop(self.with_host(host, Host::take_daemon));
        self.with_host(host, |known| known.is_suspended = false);
        self.readers[host - 1] = None;
        self.lab.power_off(host)
    }

    /// Boots a host again: new namespaces, an empty `/run`, no device; the disk is the old one.
    pub fn power_on(&mut self, host: usize) -> Done {
        self.lab.power_on(host)?;
        self.boot(host)
    }

    /// Takes everything from a host that daemon and pods have left, as if it was installed again.
    pub fn wipe(&self, host: usize) -> Done {
        let devices =
            "for device in flannel.1 cni0; do ip link del $device 2>/dev/null || true; done";
        self.sh(
            host,
            &format!("rm -rf /run/flannel/*; ip netns del pod 2>/dev/null || true; {devices}"),
        )?;
        let _ = std::fs::remove_file(self.disk(host, "state.json"));
        Ok(())
    }

    pub fn etcd(&self) -> Done<&Etcd> {
        self.lab.etcd()
    }

    /// Runs `etcdctl`, and waits for etcd only a little.
    pub fn ctl(&self, args: &[&str]) -> Done<String> {
        self.etcd()?.ctl(IMPATIENT.iter().chain(args).copied())
    }

    /// The key of a host's lease.
    pub fn lease_key(&self, host: usize) -> Option<String> {
        self.with_host(host, |known| known.key())
            .map(|key| format!("{PREFIX}/subnets/{key}"))
    }

    /// Ends the etcd lease of a host, as if it had expired. Says whether it did.
    pub fn expire(&self, host: usize) -> bool {
        let revoked = self.lease_key(host).and_then(|key| {
            let text = self.ctl(&["get", &key, "--write-out=json"]).ok()?;
            let answer: serde_json::Value = serde_json::from_str(&text).ok()?;
            let lease = answer["kvs"][0]["lease"].as_u64()?;
            self.with_host(host, |known| known.lost_its_key = true);
            self.ctl(&["lease", "revoke", &format!("{lease:x}")]).ok()
        });
        revoked.is_some()
    }

    /// Says what an underlay interface has from now on.
    pub fn has_address(&self, host: usize, address: Ipv4Addr, has: bool) {
        self.with_host(host, |known| {
            if has {
                known.addresses.entry(address).or_insert_with(Instant::now);
            } else {
                known.addresses.remove(&address);
            }
        });
    }

    fn put_phantoms(&self) -> Done {
        let put = |n: usize| format!("put {} {:?}\n", phantom_key(n), phantom_value(n));
        let puts: String = (1..=PHANTOMS).map(put).collect();
        self.etcd()?
            .ctl_feed(["txn"], format!("\n{puts}\n\n").as_bytes())
            .map(drop)
    }

    /// A chain for each host at the switch, for rules that drop its packets.
    fn make_cuts(&self) -> Done {
        let chains: String = (1..=self.hosts())
            .map(|host| format!("add chain bridge cut h{host}\n"))
            .collect();
        let jumps: String = (1..=self.hosts())
            .map(|host| format!("add rule bridge cut ports jump h{host}\n"))
            .collect();
        let hook = "add table bridge cut\nadd chain bridge cut ports { type filter hook forward priority 0; }";
        self.lab
            .bridge()
            .sh(&format!("nft -f - <<END\n{hook}\n{chains}{jumps}END"))
            .map(drop)
    }

    /// Drops packets of a host at the switch; `rule` is what matches. Without a rule all pass again.
    pub fn cut(&self, host: usize, rules: &[String]) -> Done {
        let add = rules
            .iter()
            .map(|rule| format!("add rule bridge cut h{host} {rule} drop\n"));
        let script = format!(
            "flush chain bridge cut h{host}\n{}",
            add.collect::<String>()
        );
        self.lab
            .bridge()
            .sh(&format!("nft -f - <<END\n{script}END"))
            .map(drop)
    }
}

impl Cluster {
    /// Puts the logs of etcd and the events of the run beside the logs of the daemons.
    pub fn save_logs(&self) {
        let etcd = self.lab.etcd().into_iter().flat_map(Etcd::nodes);
        let logs = etcd.map(|node| {
            (
                node.name().to_owned(),
                node.read("/run/etcd.log").unwrap_or_default(),
            )
        });
        for (name, text) in logs.chain([("events".to_owned(), self.world().story.text())]) {
            // What cannot be saved is missing in the report, which counts more.
            let _ = std::fs::write(self.dir.join(format!("{name}.log")), text);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What is suspended has to go on to end, and the lab waits for the end of everything in it.
        let daemons: Vec<_> = self
            .world()
            .hosts
            .iter_mut()
            .map(Host::take_daemon)
            .collect();
        drop(daemons);
        self.readers.clear();
    }
}

/// A network with a few subnets more than there are hosts, so that subnets change hands.
fn network(settings: &Settings) -> String {
    let last = settings.hosts + 3;
    let nftables = settings.seed.is_multiple_of(2);
    format!(
        r#"{{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.1.0","SubnetMax":"172.30.{last}.0","EnableNFTables":{nftables},"Backend":{{"Type":"vxlan"}}}}"#
    )
}

pub fn phantom_key(n: usize) -> String {
    format!("{PREFIX}/subnets/172.30.{}.0-24", 100 + n)
}

pub fn phantom_value(n: usize) -> String {
    lease_value(&format!("10.64.9.{n}"), n)
}

/// The value of a lease; `n` is part of its MAC.
pub fn lease_value(address: &str, n: usize) -> String {
    format!(
        r#"{{"PublicIP":"{address}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:01:00:00:00:{n:02x}"}}}}"#
    )
}
