//! Reads program files, disk space, and units as systemd parses them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::Service;
use crate::check::facts::{Binary, Disk};
use crate::command::heard;
use crate::model::{Model, Runtime};

/// Length of a program's header that names its processor.
const HEAD: u64 = 20;
/// Directories of units, in order of precedence.
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Reads the programs that exist.
pub(super) fn binaries<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> BTreeMap<PathBuf, Binary> {
    let there = paths.filter(|path| path.is_file());
    there
        .map(|path| {
            (
                path.clone(),
                Binary {
                    head: head(path),
                    label: label(path),
                    noexec: noexec(path),
                },
            )
        })
        .collect()
}

fn noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// Returns the first bytes of a program.
pub(super) fn head(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A file that cannot be read has none. Another check reports that.
    let _ = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut bytes));
    bytes
}

fn label(path: &Path) -> Option<String> {
    let mut buffer = [0; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut buffer[..]).ok()?;
    Some(
        String::from_utf8_lossy(buffer.get(..length)?)
            .trim_end_matches('\0')
            .to_owned(),
    )
}

/// Returns whether SELinux enforces, if it is on.
pub(super) fn selinux() -> Option<bool> {
    fs::read_to_string("/sys/fs/selinux/enforce")
        .ok()
        .map(|text| text.trim() == "1")
}

/// Returns the file systems that are written to.
pub(super) fn disks(model: &Model) -> Vec<Disk> {
    let mut paths = vec!["/etc", "/run"];
    paths.extend(model.has(Service::Kubelet).then_some("/var/lib/kubelet"));
    paths.extend(model.has(Service::Docker).then_some(match model.runtime {
        Runtime::Docker => "/var/lib/docker",
        Runtime::Containerd => "/var/lib/containerd",
    }));
    paths
        .into_iter()
        .filter_map(|path| disk(Path::new(path)))
        .collect()
}

/// Returns the file system of a path, which may not exist yet.
fn disk(path: &Path) -> Option<Disk> {
    let there = path.ancestors().find(|path| path.exists())?;
    let found = statvfs(there).ok()?;
    Some(Disk {
        path: path.to_owned(),
        size: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        free_inodes: found.f_favail,
    })
}

/// Returns the output of `systemd-analyze verify` for each installed unit of the node.
pub(super) fn verified(model: &Model) -> BTreeMap<String, String> {
    let wanted = [
        (Service::Flanneld, "flanneld.service"),
        (Service::Docker, "docker.service"),
        (Service::Kubelet, "kubelet.service"),
        (Service::KubeProxy, "kube-proxy.service"),
    ];
    let units = wanted
        .into_iter()
        .filter(|(service, _)| model.has(*service))
        .map(|(_, unit)| unit);
    units
        .filter_map(|unit| Some((unit.to_owned(), verify(unit)?)))
        .collect()
}

fn verify(unit: &str) -> Option<String> {
    let path = UNITS
        .iter()
        .map(|dir| Path::new(dir).join(unit))
        .find(|path| path.exists())?;
    heard("systemd-analyze", &["verify", "--man=no", path.to_str()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_room_and_programs() {
        let shell = PathBuf::from("/bin/sh");
        let found = binaries([&shell, &PathBuf::from("/no/program")].into_iter());
        assert!(
            found.len() == 1 && found[&shell].head.starts_with(b"\x7fELF"),
            "{found:?}"
        );
        assert!(!found[&shell].noexec);
        let disk = disk(Path::new("/etc/not/there")).unwrap();
        assert!(
            disk.size > 0 && disk.free <= disk.size && disk.path == Path::new("/etc/not/there")
        );
    }
}
