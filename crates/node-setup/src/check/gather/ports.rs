//! Finds open ports and the programs that use them.

use std::collections::BTreeMap;
use std::fs;

use crate::check::facts::Listener;

/// Tables of the kernel, and the state of a socket that accepts packets.
const TABLES: &[(&str, &str, &str)] = &[
    ("tcp", "/proc/net/tcp", "0A"),
    ("tcp", "/proc/net/tcp6", "0A"),
    ("udp", "/proc/net/udp", "07"),
    ("udp", "/proc/net/udp6", "07"),
];

/// Returns the open ports of this network namespace.
pub(super) fn listeners() -> Vec<Listener> {
    let tables = TABLES.iter().map(|(protocol, path, state)| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| entry(line, state))
            .map(|(port, inode)| (*protocol, port, inode))
            .collect::<Vec<_>>()
    });
    let open: Vec<_> = tables.flatten().collect();
    let owners = if open.is_empty() {
        BTreeMap::new()
    } else {
        owners()
    };
    open.into_iter()
        .map(|(protocol, port, inode)| Listener {
            protocol,
            port,
            program: owners.get(&inode).cloned(),
        })
        .collect()
}

/// Returns the port and inode of a line in that state.
fn entry(line: &str, state: &str) -> Option<(u16, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, found, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    (*found == state).then(|| Some((port, inode.parse().ok()?)))?
}

/// Returns the names of programs by the inodes of their sockets, as far as this user may read them.
fn owners() -> BTreeMap<u64, String> {
    let mut owners = BTreeMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        for target in files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
        {
            let target = target.to_string_lossy().into_owned();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.trim_end_matches(']').parse().ok());
            owners.extend(inode.map(|inode| (inode, name.trim().to_owned())));
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_open_port_is_seen_with_its_program() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listeners()
            .into_iter()
            .find(|listener| (listener.protocol, listener.port) == ("tcp", port))
            .unwrap();
        assert!(found.program.is_some());
        drop(socket);
        assert!(
            !listeners()
                .iter()
                .any(|listener| (listener.protocol, listener.port) == ("tcp", port))
        );
    }

    #[test]
    fn other_states_and_other_lines_are_no_listeners() {
        let line = |state: &str| {
            format!(
                "  0: 0100007F:280A 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 4711 1"
            )
        };
        assert_eq!(entry(&line("0A"), "0A"), Some((10250, 4711)));
        assert_eq!(entry(&line("01"), "0A"), None);
        assert_eq!(entry("  sl  local_address rem_address   st", "0A"), None);
    }
}
