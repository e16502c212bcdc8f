//! What a process has used so far, by the kernel's account.

use lab::Lab;

use super::Outcome;

/// Of a running daemon.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// MiB.
    pub resident: f64,
    /// MiB.
    pub peak: f64,
    /// Milliseconds.
    pub cpu: f64,
    /// Times it went to sleep by itself: as often it was woken.
    pub sleeps: f64,
}

/// Processor time of etcd, all its threads, in milliseconds.
pub fn of_etcd(lab: &Lab) -> Outcome<f64> {
    let text = lab
        .etcd()?
        .node(1)
        .sh("for task in /proc/$(pgrep -x etcd)/task/*; do cat $task/schedstat; done")?;
    let threads = text
        .lines()
        .filter_map(|line| line.split(' ').next()?.parse::<f64>().ok());
    Ok(threads.sum::<f64>() / 1e6)
}

/// Of the daemon on host 1.
pub fn of_flanneld(lab: &mut Lab) -> Outcome<Usage> {
    let pid = lab.flanneld(1)?.process().pid().ok_or("flanneld is gone")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let schedule = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let field = |name: &str| -> Outcome<f64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .ok_or("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let nanoseconds: f64 = schedule
        .split_whitespace()
        .next()
        .ok_or("no schedstat")?
        .parse()?;
    Ok(Usage {
        resident: field("VmRSS:")? / 1024.0,
        peak: field("VmHWM:")? / 1024.0,
        cpu: nanoseconds / 1e6,
        sleeps: field("voluntary_ctxt_switches:")?,
    })
}
