//! Creates hosts: the namespaces of a node, connected to the switch.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};

use super::bridge::{await_ready, unshare};
use super::process::{child_of, end};
use super::wait::for_all;
use super::{LabError, Node};

/// From this number of nodes on, each node gets the hardware addresses of all others: the kernel's limit of 1,024
/// learned neighbors counts for the whole machine, and configured ones are exempt.
const LEARN_UP_TO: usize = 12;

/// First process of a node: `$1` name, `$2` address, `$3` hardware address. `/run` is a directory of the
/// lab's own tmpfs. Each step is one process, because hosts are created by the hundred.
const INIT: &str = r#"
hostname "$1"
mount -t sysfs sysfs /sys
ip -batch - <<END
link set lo up
link add eth0 address $3 type veth peer name v-$1 netns switch
addr add $2/16 dev eth0
addr add fd64::$2/64 dev eth0 nodad
link set eth0 up
route add default via 10.64.255.254
route add default via fd64::10.64.255.254
END
ip -n switch link set "v-$1" master br0 up
rm -rf "/run/nodes/$1"
mkdir -p "/run/nodes/$1/netns" "/run/nodes/$1/flannel"
mount --bind "/run/nodes/$1" /run
echo ready
trap '' CHLD
exec sleep infinity >/dev/null 2>&1
"#;

/// The processes that hold a node's namespaces; they end with its first process.
#[derive(Debug)]
pub(super) struct NetnsHolder(Child);

impl Drop for NetnsHolder {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Creates nodes with these names and addresses, all at the same time.
pub(super) fn boot(
    bridge: &Node,
    wanted: &[(String, Ipv4Addr)],
) -> Result<Vec<(Node, NetnsHolder)>, LabError> {
    let started: Result<Vec<_>, LabError> = wanted
        .iter()
        .map(|(name, address)| Ok((name, *address, begin(bridge, name, *address)?)))
        .collect();
    started?
        .into_iter()
        .map(|(name, address, child)| finish(name, address, child))
        .collect()
}

fn begin(bridge: &Node, name: &str, address: Ipv4Addr) -> Result<NetnsHolder, LabError> {
    let namespaces = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid"];
    let mut command = unshare(bridge.command::<&str>([]), &namespaces);
    command.args([
        "sh",
        "-ec",
        INIT,
        "init",
        name,
        &address.to_string(),
        &mac(address),
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .spawn()
        .map(NetnsHolder)
        .map_err(|error| LabError::failed(name, "create its namespaces", error))
}

fn finish(
    name: &str,
    address: Ipv4Addr,
    mut holder: NetnsHolder,
) -> Result<(Node, NetnsHolder), LabError> {
    let fail = |why: String| LabError::failed(name, "create its namespaces", why);
    await_ready(&mut holder.0).map_err(fail)?;
    let pid = child_of(holder.0.id()).and_then(child_of);
    let pid = pid.ok_or_else(|| fail("its first process has ended".into()))?;
    Ok((
        Node {
            name: name.to_owned(),
            address,
            pid,
            in_pod: false,
        },
        holder,
    ))
}

/// Configures the addresses of all other nodes on every node of a large lab.
pub(super) fn introduce(nodes: &[&Node]) -> Result<(), LabError> {
    if nodes.len() <= LEARN_UP_TO {
        return Ok(());
    }
    let introduced = for_all(nodes, |node| {
        let others = nodes.iter().filter(|other| other.pid != node.pid);
        node.feed(
            ["ip", "-batch", "-"],
            neighbors(others.map(|other| other.address)).as_bytes(),
        )
    });
    introduced.map(|_| ())
}

fn neighbors(addresses: impl Iterator<Item = Ipv4Addr>) -> String {
    addresses.fold(String::new(), |mut text, address| {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "neigh replace {address} lladdr {} dev eth0",
            mac(address)
        );
        text
    })
}

/// Returns the hardware address of the node with this address.
fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_follow_from_addresses() {
        assert_eq!(mac(Ipv4Addr::new(10, 64, 255, 1)), "02:00:0a:40:ff:01");
        let batch = neighbors([Ipv4Addr::new(10, 64, 0, 2)].into_iter());
        assert_eq!(
            batch,
            "neigh replace 10.64.0.2 lladdr 02:00:0a:40:00:02 dev eth0\n"
        );
    }
}
