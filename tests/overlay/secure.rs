//! What others on the host can read, and what they can make the daemon overwrite.

use super::support::PATIENCE;
use super::{FLANNELD, Test, eventually, options, prepared};

const FILES: &str = "/run/flannel/subnet.env /run/flannel/docker /run/flannel/state.json";

#[test]
fn files_have_their_modes_and_links_are_not_followed() -> Test {
    let mut lab = prepared(
        options().flanneld_args(["-docker-opts-file=/run/flannel/docker"]),
        1,
    )?;
    lab.host(1).sh(&format!(
        "mkdir -p /run/flannel; echo mine >/run/victim; for f in {FILES}; do ln -s /run/victim $f; done"
    ))?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    let modes = format!("stat -c '%F %a %U' {FILES}");
    let wanted = "regular file 644 root\nregular file 644 root\nregular file 600 root\n";
    eventually("three files with their modes", || {
        lab.host(1).sh(&modes).is_ok_and(|shown| shown == wanted)
    });
    assert_eq!(lab.host(1).read("/run/victim")?, "mine\n");
    assert_eq!(
        lab.host(1)
            .sh("ls -A /run/flannel | sed 's/-[0-9]*-/-NAMESPACE-/'")?,
        ".lock-NAMESPACE-flannel.1\ndocker\nstate.json\nsubnet.env\nsubnet.sock\n",
        "nothing beside them but the status socket and the lock of the device"
    );
    Ok(())
}

/// The kernel gives what is in /proc to root where a process may not be dumped: neither a core file nor a debugger of the
/// same user sees its memory.
#[test]
fn the_daemon_leaves_no_core_dump() -> Test {
    let lab = prepared(options(), 1)?;
    let shown = lab.host(1).sh(&format!(
        "cp {FLANNELD} /run/daemon
        start() {{ setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\" 2>/run/said & pid=$!; }}
        soon() {{ for i in $(seq 1000); do if \"$@\"; then return; fi; sleep .02; done; false; }}
        tell() {{ stat -c %u /proc/$pid/environ; kill $pid; }}
        start sleep 60; soon grep -q sleep /proc/$pid/comm; tell
        start /run/daemon -etcd-endpoints=http://127.0.0.1:1; soon grep -q endpoints= /run/said; tell"
    ))?;
    assert_eq!(shown, "65534\n0\n", "another program, and the daemon");
    Ok(())
}
