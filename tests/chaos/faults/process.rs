//! Faults of a daemon's process and of what it writes to.

use std::fmt;
use std::time::Duration;

use lab::{LabError, Process, Signal};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{Fault, Part, Target};
use crate::cluster::{Cluster, Done, STOP, phantom_key, phantom_value};

/// `kill -9`, and a start when it is over.
pub struct Killed(usize);

impl Killed {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self(target.any(random))
    }
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: daemon killed", self.0)
    }
}

impl Fault for Killed {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Daemon(self.0)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.stop_daemon(self.0, Signal::KILL).map(drop)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.start_daemon(self.0)
    }
}

/// SIGTERM, and a start at once.
pub struct Restarted(usize);

impl Restarted {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self(target.ours(random))
    }
}

impl fmt::Display for Restarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: daemon stopped and started", self.0)
    }
}

impl Fault for Restarted {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Daemon(self.0)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        stop(cluster, self.0)?;
        cluster.start_daemon(self.0)
    }
}

/// Stops a daemon as systemd does; it has to end soon.
fn stop(cluster: &Cluster, host: usize) -> Done {
    let took = cluster.stop_daemon(host, Signal::TERM)?;
    if took > STOP {
        cluster
            .world()
            .broken(format!("h{host}: SIGTERM took {took:.1?}"));
    }
    Ok(())
}

/// SIGSTOP, SIGCONT.
pub struct Suspended(usize);

impl Suspended {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self(target.ours(random))
    }
}

impl fmt::Display for Suspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: daemon suspended", self.0)
    }
}

impl Fault for Suspended {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Daemon(self.0)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.suspend(self.0, true)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.suspend(self.0, false)
    }
}

/// Killed and started several times in a row, at moments that come sooner or later after the start.
pub struct CrashLoop {
    host: usize,
    lives: Vec<u64>,
}

impl CrashLoop {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        let host = target.ours(random);
        let lives = (0..random.random_range(2..6))
            .map(|_| random.random_range(1..400))
            .collect();
        Self { host, lives }
    }
}

impl fmt::Display for CrashLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "h{}: crash loop, lives of {:?} ms",
            self.host, self.lives
        )
    }
}

impl Fault for CrashLoop {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Daemon(self.host)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        for life in &self.lives {
            cluster.start_daemon(self.host)?;
            std::thread::sleep(Duration::from_millis(*life));
            cluster.stop_daemon(self.host, Signal::KILL)?;
        }
        cluster.start_daemon(self.host)
    }
}

/// The plug is pulled; power comes back when it is over. What is in `/run` and in the kernel is gone.
pub struct Reboot(usize);

impl Reboot {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self(target.ours(random))
    }
}

impl fmt::Display for Reboot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: reboot", self.0)
    }
}

impl Fault for Reboot {
    fn uses(&self) -> Vec<Part> {
        let host = self.0;
        vec![
            Part::Daemon(host),
            Part::Path(host),
            Part::Address(host),
            Part::Entries(host),
        ]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.power_off(self.0)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.power_on(self.0)?;
        cluster.start_daemon(self.0)
    }
}

/// The pipe to the program that reads the log is full, and its reader does not read. Then the daemon has something to log.
pub struct ReaderStalled {
    host: usize,
    /// The daemon is stopped by SIGTERM meanwhile.
    stops: bool,
}

impl ReaderStalled {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self {
            host: target.ours(random),
            stops: random.random_bool(0.3),
        }
    }
}

impl fmt::Display for ReaderStalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stops = if self.stops {
            ", and the daemon is stopped"
        } else {
            ""
        };
        write!(f, "h{}: log reader stalled{stops}", self.host)
    }
}

/// A peer that exists in etcd only, and what it announces in vain: a loopback address.
const BOGUS: usize = 1;

impl Fault for ReaderStalled {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Daemon(self.host), Part::Etcd]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.stall_reader(self.host, true)?;
        // Until the pipe takes nothing more.
        cluster.sh(
            self.host,
            "yes '#' | head -c 4194304 | dd of=/run/flanneld.stderr oflag=nonblock bs=4096 2>/dev/null || true",
        )?;
        cluster.etcd()?.put(
            &phantom_key(BOGUS),
            phantom_value(BOGUS).replace("10.64.9.1\"", "127.0.0.1\""),
        )
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster
            .etcd()?
            .put(&phantom_key(BOGUS), phantom_value(BOGUS))?;
        if self.stops {
            stop(cluster, self.host)?;
        }
        cluster.stall_reader(self.host, false)?;
        if self.stops {
            cluster.start_daemon(self.host)
        } else {
            Ok(())
        }
    }
}

/// Every flush of a file to the disk takes a second and a half; the daemon has files to write meanwhile.
pub struct SlowDisk {
    host: usize,
    strace: Option<Process>,
}

impl SlowDisk {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self {
            host: target.ours(random),
            strace: None,
        }
    }
}

impl fmt::Display for SlowDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: slow disk", self.host)
    }
}

impl Fault for SlowDisk {
    fn uses(&self) -> Vec<Part> {
        vec![
            Part::Daemon(self.host),
            Part::Entries(self.host),
            Part::Address(self.host),
        ]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        let script = "exec strace -f -qq -o /run/strace.out -e trace=fsync,fdatasync \
            -e inject=fsync,fdatasync:delay_enter=1500000 -p $(pidof flanneld)";
        self.strace = Some(
            cluster
                .node(self.host)
                .spawn("strace", ["sh", "-ec", script])?,
        );
        // A changed MTU goes into a file.
        cluster
            .sh(self.host, "sleep 0.5; ip link set eth0 mtu 1460")
            .map(drop)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.sh(self.host, "ip link set eth0 mtu 1500")?;
        let Some(mut strace) = self.strace.take() else {
            return Ok(());
        };
        strace.signal(Signal::TERM)?;
        strace
            .wait(Duration::from_secs(20))
            .map(drop)
            .map_err(|error| LabError::failed("strace", "let go of the daemon", error))
    }
}
