//! A network namespace for the current thread.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A fresh namespace that this thread (and what it starts) is in until it ends. Removed when dropped.
pub struct Netns {
    name: String,
    home: File,
}

impl Netns {
    pub fn enter() -> Self {
        let name = format!(
            "rfl-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let home = File::open("/proc/thread-self/ns/net").unwrap();
        run(&format!("ip netns add {name}"));
        let netns = Self { name, home };
        let file = File::open(format!("/run/netns/{}", netns.name)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        run("ip link set lo up");
        netns
    }

    /// A namespace with an underlay: `eth0`, 10.64.0.1/16, MTU 1500, with its other end in the same namespace.
    pub fn with_underlay() -> Self {
        let netns = Self::enter();
        run("ip link add eth0 type veth peer name wire");
        run("ip addr add 10.64.0.1/16 dev eth0");
        run("ip link set wire up");
        run("ip link set eth0 up");
        run("ip route add default via 10.64.255.254");
        netns
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network));
        run(&format!("ip netns del {}", self.name));
    }
}

/// Runs a command line (split at blanks), which must succeed, and returns what it printed.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
