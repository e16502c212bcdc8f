//! Checks that programs are for this processor, may be executed, and have disk space. Pure.

use std::path::Path;

use super::facts::{Disk, Live};
use crate::Service;
use crate::finding::{Finding, or_ok};
use crate::model::Model;

/// SELinux types that services may not execute.
const FORBIDDEN: &[&str] = &[
    "admin_home_t",
    "default_t",
    "tmp_t",
    "unlabeled_t",
    "user_home_t",
    "user_tmp_t",
    "var_t",
];
/// Processor numbers in ELF headers and their names in `uname -m`.
const PROCESSORS: &[(u16, &str)] = &[
    (3, "i386"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];
/// Thresholds below which the kubelet evicts pods: its defaults for the file systems of the node and of images, and for inodes, in percent.
const NODE_ROOM: u64 = 10;
const IMAGE_ROOM: u64 = 15;
const INODE_ROOM: u64 = 5;
/// Space that units, state, and the subnet file need at least, in bytes.
const LEAST: u64 = 16 << 20;

pub fn judge(model: &Model, live: &Live) -> Vec<Finding> {
    let mut findings = arch(live);
    findings.extend(selinux(live));
    findings.extend(disks(model, live));
    findings
}

/// A program that answers runs on this machine, whatever its header says: some kernels run programs of other processors.
fn arch(live: &Live) -> Vec<Finding> {
    let Some(own) = processor(&live.own_head) else {
        return Vec::new();
    };
    let answers = |path: &Path| live.programs.get(path).is_some_and(Option::is_some);
    let foreign: Vec<Finding> = live
        .binaries
        .iter()
        .filter_map(|(path, binary)| Some((path, processor(&binary.head)?)))
        .filter(|(path, processor)| *processor != own && !answers(path))
        .map(|(path, processor)| {
            let found = format!("{} is for {}", path.display(), name(processor));
            Finding::error(
                "arch",
                found,
                name(own).as_str(),
                "install the program for this processor",
            )
        })
        .collect();
    or_ok(foreign, "arch", name(own))
}

/// Returns the processor in an ELF header. Scripts have none.
fn processor(head: &[u8]) -> Option<u16> {
    let [0x7f, b'E', b'L', b'F', _, order, ..] = head else {
        return None;
    };
    let bytes = [*head.get(18)?, *head.get(19)?];
    Some(if *order == 2 {
        u16::from_be_bytes(bytes)
    } else {
        u16::from_le_bytes(bytes)
    })
}

fn name(processor: u16) -> String {
    let known = PROCESSORS.iter().find(|(number, _)| *number == processor);
    known.map_or_else(
        || format!("processor {processor}"),
        |(_, name)| (*name).to_owned(),
    )
}

fn selinux(live: &Live) -> Vec<Finding> {
    const ID: &str = "selinux";
    match live.selinux {
        None => Vec::new(),
        Some(false) => vec![Finding::ok(ID, "permissive: nothing is denied")],
        Some(true) => {
            let labelled = live
                .binaries
                .iter()
                .filter_map(|(path, binary)| Some((path, binary.label.as_deref()?)));
            let bad: Vec<Finding> = labelled
                .filter(|(_, label)| label.split(':').nth(2).is_some_and(|kind| FORBIDDEN.contains(&kind)))
                .map(|(path, label)| {
                    let fix = format!(
                        "restorecon -v {0}; for a path outside of /usr, first: semanage fcontext -a -t bin_t {0}",
                        path.display()
                    );
                    let found = format!("{} has the label {label}", path.display());
                    Finding::error(ID, found, "bin_t: services may not execute programs with another label", fix)
                })
                .collect();
            or_ok(bad, ID, "enforcing; the labels of programs are correct")
        }
    }
}

fn disks(model: &Model, live: &Live) -> Vec<Finding> {
    let tight: Vec<Finding> = live
        .disks
        .iter()
        .filter_map(|disk| tight(model, disk))
        .collect();
    if live.disks.is_empty() {
        return Vec::new();
    }
    or_ok(tight, "disk", "enough space")
}

fn tight(model: &Model, disk: &Disk) -> Option<Finding> {
    let room = match disk.path.as_path() {
        path if path.starts_with("/var/lib/kubelet") => NODE_ROOM,
        path if path.starts_with("/var/lib") => IMAGE_ROOM,
        _ => 0,
    };
    let path = disk.path.display();
    if disk.size > 0 && disk.free < LEAST {
        return Some(Finding::error(
            "disk",
            format!("{path} has {} KiB free", disk.free >> 10),
            "at least 16 MiB",
            "free some space: a file is written only if it fits completely",
        ));
    }
    let evicts = model.has(Service::Kubelet) && room > 0;
    let lacking = |free: u64, all: u64, percent: u64| {
        evicts && all > 0 && u128::from(free) * 100 < u128::from(all) * u128::from(percent)
    };
    let told = |what: &str, free: u64, all: u64, percent: u64| {
        let found = format!(
            "{path} has {} % of its {what} free",
            u128::from(free) * 100 / u128::from(all.max(1))
        );
        let fix = "free some space, or use a separate file system";
        Finding::warning(
            "disk",
            found,
            &format!("{percent} %: below that, the kubelet evicts pods"),
            fix,
        )
    };
    if lacking(disk.free, disk.size, room) {
        return Some(told("bytes", disk.free, disk.size, room));
    }
    lacking(disk.free_inodes, disk.inodes, INODE_ROOM)
        .then(|| told("inodes", disk.free_inodes, disk.inodes, INODE_ROOM))
}
