//! A host in a lab whose first process is systemd. The machine's own files are below its own, which end with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};

use lab::{Lab, LabError, wait_until};

use super::PATIENCE;

/// Makes the disk.
const MAKE: &str = include_str!("systemd-host.sh");
/// Turns the host on.
const BOOT: &str = include_str!("systemd-boot.sh");

/// Tells hosts of one name apart, in tests that run at the same time.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A file for the host: path, content, mode.
pub type File = (String, Vec<u8>, u32);

/// The host. Its plug is pulled when this goes.
pub struct SystemdHost<'a> {
    lab: &'a Lab,
    name: String,
    address: String,
    /// Of its first process, in the lab.
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
        let bridge = lab.bridge();
        let upper = format!("/run/nodes/{name}/upper");
        bridge.sh(&format!(
            "d=/run/nodes/{name}; mkdir -p $d; mount -t tmpfs -o mode=755 host $d; mkdir $d/upper"
        ))?;
        for (path, content, mode) in files {
            let path = format!("{upper}{path}");
            bridge.write(&path, content)?;
            fs::set_permissions(bridge.path(&path), fs::Permissions::from_mode(*mode)).unwrap();
        }
        bridge.feed(["sh", "-c", MAKE, "make", name, &units.join(" ")], b"")?;
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let group = cgroups().join(format!("rflannel-{process}-{number}-{name}"));
        let mut host = Self {
            lab,
            name: name.to_owned(),
            address: address.to_owned(),
            pid: String::new(),
            group,
        };
        host.power_on()?;
        Ok(host)
    }

    /// Turns it on with the disk that it has, without waiting for anything.
    pub fn power_on(&mut self) -> Result<(), LabError> {
        self.write_log(": power on\n");
        let args = [
            "sh",
            "-c",
            BOOT,
            "boot",
            &self.name,
            &self.address,
            &self.group.to_string_lossy(),
        ];
        self.pid = self.lab.bridge().feed(args, b"")?.trim().to_owned();
        Ok(())
    }

    /// Pulls its plug: what is not on the disk is lost. Done when its last process has ended.
    pub fn power_off(&self) {
        self.write_log(": power off\n");
        self.pull_plug();
        // The group can only go when the last process has.
        let is_gone = wait_until(PATIENCE, || remove(&self.group));
        assert!(
            is_gone || std::thread::panicking(),
            "{}: processes remain in {}",
            self.name,
            self.group.display()
        );
    }

    /// The same without waiting, for who has several to turn off.
    pub fn pull_plug(&self) {
        // The cable first: connections that wait for answers of another dead host keep a network namespace for a minute,
        // and its interface with it. Errors mean that the host is off already.
        let cable = format!("v-{}", self.name);
        let _ = self.lab.bridge().run(["ip", "link", "del", &cable]);
        let _ = self.lab.bridge().run(["kill", "-9", &self.pid]);
    }

    /// Runs a command to its end; any exit status is a result.
    pub fn run(&self, script: &str) -> Output {
        let output = self.ask(script);
        self.show(script, &output);
        output
    }

    /// Runs a shell script that must succeed (`sh -e`), with this standard input; its standard output.
    pub fn feed(&self, script: &str, input: &[u8]) -> Result<String, LabError> {
        self.lab.bridge().feed(
            ["nsenter", "-t", &self.pid, "-a", "sh", "-ec", script],
            input,
        )
    }

    fn ask(&self, script: &str) -> Output {
        let enter = ["nsenter", "-t", &self.pid, "-a", "sh", "-c", script];
        self.lab.bridge().run(enter).unwrap()
    }

    fn show(&self, script: &str, Output { stdout, stderr, .. }: &Output) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.write_log(&format!(
            "# {}\n{}{}",
            script.trim(),
            text(stdout),
            text(stderr)
        ));
    }

    /// As on the host's terminal, for who watches: `scripts/demo --systemd`.
    #[allow(clippy::print_stdout, reason = "for who watches")]
    fn write_log(&self, text: &str) {
        if std::env::var_os("RFLANNEL_SHOW").is_some() {
            println!("{}{text}", self.name);
        }
    }

    /// What a command prints; its exit status does not matter.
    pub fn say(&self, script: &str) -> String {
        String::from_utf8_lossy(&self.run(script).stdout)
            .trim()
            .to_owned()
    }

    /// What a command prints that must succeed.
    pub fn must(&self, script: &str) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.run(script);
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
            let output = last.insert(self.ask(script));
            want(String::from_utf8_lossy(&output.stdout).trim())
        });
        last.iter().for_each(|output| self.show(script, output));
        assert!(
            came,
            "{script}: {last:?}\n{}",
            self.say("journalctl --no-pager -n 60 2>&1")
        );
    }
}

impl Drop for SystemdHost<'_> {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// Where cgroup version 2 is mounted on this machine.
fn cgroups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let found = mounts
        .lines()
        .map(fields)
        .find(|fields| fields[2] == "cgroup2");
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
