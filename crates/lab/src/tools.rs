//! Checks what a lab needs from the machine: root, and a few programs.

use std::env;
use std::path::Path;

use super::LabError;

/// Programs that every lab starts, and their Debian packages.
const TOOLS: [(&str, &str); 8] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("ping", "iputils-ping"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
];

/// Checks that a lab can be created here, before anything is created.
pub(super) fn check() -> Result<(), LabError> {
    check_root()?;
    let path = env::var_os("PATH").unwrap_or_default();
    let here = |tool: &str| env::split_paths(&path).any(|dir| is_program(&dir.join(tool)));
    match TOOLS.iter().find(|(tool, _)| !here(tool)) {
        Some(&(tool, package)) => Err(LabError::MissingTool { tool, package }),
        None => Ok(()),
    }
}

/// Checks for root, which creates, enters, and ends labs.
pub(super) fn check_root() -> Result<(), LabError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(LabError::NotRoot)
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_an_executable_file() {
        assert!(is_program(Path::new("/bin/sh")));
        assert!(!is_program(Path::new("/etc/passwd")), "not executable");
        assert!(!is_program(Path::new("/bin")), "a directory");
        assert!(!is_program(Path::new("/bin/no-such-program")), "missing");
    }
}
