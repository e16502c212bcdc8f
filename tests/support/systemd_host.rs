//! A host in a lab whose first process is systemd. The machine's own files are below its own, which end with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use rflannel::lab::{Lab, LabError, wait_until};

use super::PATIENCE;

const SCRIPT: &str = include_str!("systemd-host.sh");

/// A file for the host: path, content, mode.
pub type File = (String, Vec<u8>, u32);

/// The host. Its plug is pulled when this goes.
pub struct SystemdHost<'a> {
    lab: &'a Lab,
    pid: String,
    group: PathBuf,
}

impl<'a> SystemdHost<'a> {
    /// Turns it on with these files and these units enabled, without waiting for anything.
    pub fn boot(
        lab: &'a Lab,
        name: &str,
        address: &str,
        files: &[File],
        units: &[&str],
    ) -> Result<Self, LabError> {
        let switch = lab.switch();
        let upper = format!("/run/nodes/{name}/upper");
        switch.sh(&format!(
            "d=/run/nodes/{name}; mkdir -p $d; mount -t tmpfs -o mode=755 host $d; mkdir $d/upper"
        ))?;
        for (path, content, mode) in files {
            let path = format!("{upper}{path}");
            switch.write(&path, content)?;
            fs::set_permissions(switch.path(&path), fs::Permissions::from_mode(*mode)).unwrap();
        }
        let group = cgroups().join(format!("rflannel-{}-{name}", std::process::id()));
        let args = ["sh", "-c", SCRIPT, "boot", name, address, &group.to_string_lossy(), &units.join(" ")];
        let pid = switch.feed(args, b"")?.trim().to_owned();
        Ok(Self { lab, pid, group })
    }

    /// Runs a command to its end; any exit status is a result.
    pub fn run(&self, script: &str) -> Output {
        let enter = ["nsenter", "-t", &self.pid, "-a", "sh", "-c", script];
        self.lab.switch().run(enter).unwrap()
    }

    /// What a command prints; its exit status does not matter.
    pub fn say(&self, script: &str) -> String {
        String::from_utf8_lossy(&self.run(script).stdout).trim().to_owned()
    }

    /// What a command prints that must succeed.
    pub fn must(&self, script: &str) -> String {
        let Output { status, stdout, stderr } = self.run(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(status.success(), "{script}: {status}: {}", text(&stderr));
        text(&stdout)
    }

    /// One property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.say(&format!("systemctl show --value -p {name} {unit}"))
    }

    /// Waits until a command prints something; otherwise fails with the journal.
    pub fn wait(&self, script: &str, want: impl Fn(&str) -> bool) {
        let mut last = None;
        let came = wait_until(PATIENCE, || {
            let output = last.insert(self.run(script));
            want(String::from_utf8_lossy(&output.stdout).trim())
        });
        assert!(came, "{script}: {last:?}\n{}", self.say("journalctl --no-pager -n 60 2>&1"));
    }
}

impl Drop for SystemdHost<'_> {
    fn drop(&mut self) {
        // Errors mean that it has ended already. The group can only go when the last process has.
        let _ = self.lab.switch().run(["kill", "-9", &self.pid]);
        wait_until(PATIENCE, || remove(&self.group));
    }
}

/// Where cgroup version 2 is mounted on this machine.
fn cgroups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let found = mounts.lines().map(fields).find(|fields| fields[2] == "cgroup2");
    PathBuf::from(&found.expect("a cgroup2 file system is mounted: systemd needs one")[1])
}

/// Removes a cgroup with all below; says whether it is gone.
fn remove(group: &PathBuf) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
    !group.exists()
}
