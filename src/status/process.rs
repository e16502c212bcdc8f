//! This process, as `/proc/self` shows it: what every exporter of metrics says about itself.

use std::fs;

/// Clock ticks a second that the kernel shows to programs, on every architecture that this runs on.
const TICKS: f64 = 100.0;
const KIBIBYTE: f64 = 1024.0;

/// Numbers of a process. What cannot be read is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    /// Processor time used, in seconds.
    pub(super) cpu: Option<f64>,
    /// Resident memory, in bytes.
    pub(super) resident: Option<f64>,
    /// Virtual memory, in bytes.
    pub(super) virtual_: Option<f64>,
    pub(super) open_fds: Option<f64>,
    /// The limit of these.
    pub(super) max_fds: Option<f64>,
}

pub(super) fn read() -> Process {
    let file = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let fds = fs::read_dir("/proc/self/fd")
        .ok()
        .and_then(|entries| u32::try_from(entries.count()).ok());
    // Reading the directory takes one.
    let open_fds = fds.map(|count| f64::from(count.saturating_sub(1)));
    Process {
        open_fds,
        ..parse(&file("stat"), &file("status"), &file("limits"))
    }
}

fn parse(stat: &str, status: &str, limits: &str) -> Process {
    // The name, which may hold blanks, ends with the last parenthesis; user and system time are the 12th and 13th after it.
    let times = stat.rsplit_once(')').map(|(_, rest)| {
        let times = rest.split_whitespace().skip(11).take(2);
        times
            .filter_map(|text| text.parse::<f64>().ok())
            .sum::<f64>()
    });
    let size = |name: &str| {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? * KIBIBYTE)
    };
    let mut limits = limits.lines();
    let limit = limits.find_map(|line| line.strip_prefix("Max open files"));
    Process {
        cpu: times.map(|ticks| ticks / TICKS),
        resident: size("VmRSS"),
        virtual_: size("VmSize"),
        open_fds: None,
        max_fds: limit.and_then(|line| line.split_whitespace().next()?.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_their_files() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 9 9";
        let status = "Name:\tx\nVmSize:\t  200 kB\nVmRSS:\t  100 kB\n";
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n";
        let process = parse(stat, status, limits);
        assert_eq!((process.cpu, process.max_fds), (Some(2.0), Some(1024.0)));
        assert_eq!(
            (process.resident, process.virtual_),
            (Some(102_400.0), Some(204_800.0))
        );
        assert_eq!(parse("", "", "").resident, None);
    }

    #[test]
    fn this_process_has_numbers() {
        let process = read();
        assert!(
            process.resident.is_some_and(|bytes| bytes > 1e5),
            "{process:?}"
        );
        assert!(
            process.open_fds.is_some_and(|count| count >= 3.0),
            "{process:?}"
        );
    }
}
