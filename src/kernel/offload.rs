//! Checksum offload of the overlay devices.
//!
//! Through the program `ethtool`: the kernels that need it have no netlink interface for it, and their `ioctl` cannot be
//! called without `unsafe`.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread;

use tracing::{info, warn};

use crate::config::TxChecksum;

/// What `ethtool` calls it.
const FEATURE: &str = "tx-checksum-ip-generic";
/// First kernel in which NAT leaves a UDP checksum of 0 alone (commit ea64d8d6c675). Before, masquerading with random ports
/// breaks VXLAN packets whose checksum is left to the device.
const FIXED: (u32, u32) = (5, 7);
/// In the release of kernels that have the repair although they are older.
const BACKPORTED: &str = ".el8";

/// Whether a kernel of this release breaks the checksums of masqueraded VXLAN packets.
pub fn is_broken(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => {
            (major, minor) < FIXED && !release.contains(BACKPORTED)
        }
        _ => false,
    }
}

/// What is done to each device, once for as long as it lives.
#[derive(Debug, Default)]
pub(super) struct Offload {
    /// `None`: it is left as the kernel made it.
    on: Option<bool>,
    /// Indexes of the devices that have had their turn.
    done: BTreeSet<u32>,
}

impl Offload {
    /// What was asked for, on this kernel.
    pub(super) fn new(mode: TxChecksum) -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = release.trim();
        let on = match mode {
            TxChecksum::On => Some(true),
            TxChecksum::Off => Some(false),
            TxChecksum::Auto => is_broken(release).then_some(false),
        };
        if (mode, on) == (TxChecksum::Auto, Some(false)) {
            info!(
                "turning off {FEATURE}: kernel {release} writes wrong checksums into masqueraded VXLAN packets (fixed in {}.{}); to keep it on, use -tx-checksum=on",
                FIXED.0, FIXED.1
            );
        }
        Self {
            on,
            done: BTreeSet::new(),
        }
    }

    /// The device is there.
    pub(super) fn apply(&mut self, name: &str, index: u32) {
        let Some(on) = self.on.filter(|_| self.done.insert(index)) else {
            return;
        };
        let (word, name) = (if on { "on" } else { "off" }, name.to_owned());
        // Beside the loop: the program may hang.
        let set = move || {
            if let Err(why) = ethtool(&name, word) {
                warn!(
                    dev = name,
                    err = why,
                    "cannot turn {FEATURE} {word} on {name}: {why}; install ethtool, or run: ethtool -K {name} {FEATURE} {word}"
                );
            }
        };
        if let Err(error) = thread::Builder::new().spawn(set) {
            // The next look at the device tries again.
            self.done.remove(&index);
            warn!(err = %error, "cannot start a thread for ethtool: {error}; retrying");
        }
    }
}

fn ethtool(name: &str, word: &str) -> Result<(), String> {
    let mut command = Command::new("ethtool");
    command
        .args(["-K", name, FEATURE, word])
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|error| format!("ethtool: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| stderr.lines().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_break_checksums() {
        let rows = [
            ("4.9.0-19-amd64", true),
            ("4.18.0-553.el8_10.x86_64", false),
            ("3.10.0-1160.el7.x86_64", true),
            ("5.4.0-150-generic", true),
            ("5.6.19", true),
            ("5.7.0", false),
            ("5.10.0-28-amd64", false),
            ("6.1.0-18-amd64", false),
            ("10.0", false),
            ("", false),
            ("unknown", false),
        ];
        for (release, want) in rows {
            assert_eq!(is_broken(release), want, "{release}");
        }
    }
}
