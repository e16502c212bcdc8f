//! The packages of the programs under test, as `scripts/deb` and `scripts/rpm` make them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::FLANNELD;
use crate::support::systemd_host::File;

/// Machines that are containers forbid maintainer scripts to start anything. A host does not.
pub(crate) fn allowing() -> File {
    (
        "/usr/sbin/policy-rc.d".into(),
        b"#!/bin/sh\nexit 0\n".to_vec(),
        0o755,
    )
}

/// Packages, until this goes.
pub(crate) struct Packages(TempDir);

impl Packages {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Makes a Debian package with this version. Programs with debug information are large, and gzip is quicker than xz.
    pub(crate) fn make(&self, version: &str) -> PathBuf {
        let quick = ["--fast", "--compress-system", "--compress-type", "gz"];
        self.run("scripts/deb", &[&[version][..], &quick].concat())
    }

    /// Makes an RPM package with this version.
    pub(crate) fn make_rpm(&self, version: &str) -> PathBuf {
        self.run("scripts/rpm", &[version, "--payload-compress", "none"])
    }

    fn run(&self, script: &str, args: &[&str]) -> PathBuf {
        let bins = Path::new(FLANNELD).parent().unwrap();
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
        command
            .arg(bins)
            .arg(self.0.path())
            .args(args)
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(
            output.status.success(),
            "{script}: {}",
            text(&output.stderr)
        );
        let made = PathBuf::from(text(&output.stdout));
        assert!(made.is_file(), "{}", made.display());
        made
    }

    /// The same for a host, below /root.
    pub(crate) fn file(&self, version: &str) -> File {
        let made = self.make(version);
        let name = made.file_name().unwrap().to_str().unwrap();
        (format!("/root/{name}"), fs::read(&made).unwrap(), 0o644)
    }
}
