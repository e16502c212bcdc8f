//! Maintains a running etcd: backups, certificates, users, and the leader.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Etcd, LabError, Node, PKI, Pair, Security, install};

/// Path of backups on a member's node.
const BACKUP: &str = "/run/backup.db";

/// One member's answer to `endpoint status`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    endpoint: String,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    header: Header,
    leader: u64,
}

#[derive(Deserialize)]
struct Header {
    member_id: u64,
}

impl Etcd {
    /// Returns the index of the leader, counted from 1. All members must answer.
    pub fn leader(&self) -> Result<usize, LabError> {
        let fail = |why: String| LabError::failed("etcd", "find the leader", why);
        let text = self.ctl(["endpoint", "status", "--write-out=json"])?;
        let answers: Vec<Answer> =
            serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
        let by_id: HashMap<u64, &str> = answers
            .iter()
            .map(|answer| (answer.status.header.member_id, answer.endpoint.as_str()))
            .collect();
        let leader = answers
            .iter()
            .find_map(|answer| by_id.get(&answer.status.leader));
        let index = self
            .nodes()
            .position(|node| Some(&self.url(node, 2379).as_str()) == leader);
        index
            .map(|index| index + 1)
            .ok_or_else(|| fail(format!("there is no leader: {text}")))
    }

    /// Makes [`Etcd::ctl`] log in as `user:password` from now on; `None` ends that.
    pub fn log_in(&mut self, user: Option<&str>) {
        self.login = user.map(str::to_owned);
    }

    /// Returns a backup of all data.
    pub fn backup(&self) -> Result<Vec<u8>, LabError> {
        self.ctl_of(1, ["snapshot", "save", BACKUP])?;
        let file = self.node(1).path(BACKUP);
        std::fs::read(file).map_err(|error| LabError::failed("e1", "read the backup", error))
    }

    /// Replaces the data of every member by a backup. All members must have been killed; starts none.
    pub fn restore(&self, backup: &[u8]) -> Result<(), LabError> {
        let cluster = self.cluster();
        for node in self.nodes() {
            node.write(BACKUP, backup)?;
            let (name, peer) = (node.name(), self.url(node, 2380));
            node.sh(&format!(
                "rm -rf /run/etcd
                ETCDCTL_API=3 etcdctl snapshot restore {BACKUP} --data-dir=/run/etcd --name={name} \
                --initial-cluster={cluster} --initial-advertise-peer-urls={peer}"
            ))?;
        }
        Ok(())
    }

    /// Issues new certificates from a new authority for the members' nodes. Members use them after a restart; other
    /// nodes get theirs with [`Etcd::install_client`].
    pub fn renew_certificates(&mut self) -> Result<(), LabError> {
        let addresses: Vec<_> = self.nodes().map(Node::address).collect();
        let security = Security::new(addresses.into_iter())?;
        for node in self.nodes() {
            node.write(&format!("{PKI}/ca.pem"), security.authority.pem())?;
            install(node, "server", &security.server)?;
            install(node, "client", &security.client)?;
        }
        self.security = Some(security);
        Ok(())
    }

    /// Replaces the client certificate that [`Etcd::install_client`] wrote to a node.
    pub fn replace_client(&self, node: &Node, pair: &Pair) -> Result<(), LabError> {
        install(node, "client", pair)
    }
}
