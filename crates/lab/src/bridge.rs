//! Creates the outer namespaces of a lab and the bridge that connects its hosts.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::Signal;

use super::process::{child_of, send};
use super::{LabError, Node};

/// The default gateway of every host. It forwards nothing.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 64, 255, 254);

/// PID 1 of a lab. A child of it blocks on its standard input. End of file, which the kernel sends however this process ends, ends both and
/// with them the lab; the word `keep` makes it stay. PID 1 only waits, which reaps the children that it inherits. (A shell that reads
/// itself would mistake the end of one of those for the end of its input.)
const HOLDER: &str = r#"
mount -t tmpfs -o mode=755 run /run
mkdir /run/netns /run/nodes
ip netns attach switch 1
ip link set lo up
ip link add br0 type bridge mcast_snooping 0
ip addr add 10.64.255.254/16 dev br0
ip addr add fd64::10.64.255.254/64 dev br0 nodad
ip link set br0 up
echo ready
exec 3<&0
{ read -r word && [ "$word" = keep ]; } <&3 &
wait $!
exec 3<&- </dev/null >/dev/null 2>&1
sleep infinity &
wait
"#;

/// The outer namespaces. Dropping this ends every process of the lab and waits for their end.
#[derive(Debug)]
pub(super) struct Bridge {
    node: Node,
    holder: Child,
    leash: Option<ChildStdin>,
}

impl Bridge {
    /// Creates the outer namespaces and the bridge.
    pub(super) fn make() -> Result<Self, LabError> {
        let mut command = unshare(Command::new("unshare"), &["--net", "--mount", "--pid"]);
        command
            .args(["sh", "-ec", HOLDER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let fail = |why: String| LabError::failed("the switch", "create the lab's namespaces", why);
        let mut holder = command.spawn().map_err(|error| fail(error.to_string()))?;
        let leash = holder.stdin.take();
        await_ready(&mut holder).map_err(fail)?;
        let pid = child_of(holder.id())
            .ok_or_else(|| fail("the process that holds them has ended".into()))?;
        let node = Node {
            name: "switch".into(),
            address: ADDRESS,
            pid,
            in_pod: false,
        };
        Ok(Self {
            node,
            holder,
            leash,
        })
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Lets the lab outlive this process.
    pub(super) fn unleash(&mut self) -> Result<(), LabError> {
        let written = self
            .leash
            .as_mut()
            .map_or(Ok(()), |pipe| pipe.write_all(b"keep\n"));
        written.map_err(|error| LabError::failed("the switch", "keep the lab", error))
    }

    /// Starts to end everything in the lab, without waiting.
    pub(super) fn cut(&self) {
        // An error means that it has ended already.
        let _ = send(self.node.pid, Signal::KILL);
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.cut();
        // Returns when the kernel has ended every process of the PID namespace.
        let _ = self.holder.wait();
    }
}

/// Returns `unshare` for these namespaces, with the options that all namespaces of a lab share.
pub(super) fn unshare(mut command: Command, namespaces: &[&str]) -> Command {
    command.args(namespaces);
    command.args([
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
        "--",
    ]);
    command
}

/// Waits until the script of a first process prints `ready`; otherwise returns its error output.
pub(super) fn await_ready(child: &mut Child) -> Result<(), String> {
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
    }
    if line == "ready\n" {
        return Ok(());
    }
    let stderr = child.stderr.take().map(std::io::read_to_string);
    let why = stderr.and_then(Result::ok).unwrap_or_default();
    let status = child.wait().map_err(|error| error.to_string())?;
    Err(format!("{status}; {}", why.trim()))
}
