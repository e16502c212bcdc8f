//! Runs a real etcd with one or three members, each on its own node.

mod upkeep;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::netns::NetnsHolder;
use super::{Authority, LabError, Node, Pair, Process, Signal, wait_until};

/// Directory with certificates on every node.
const PKI: &str = "/run/pki";

/// A cluster needs about a second; the rest is for busy machines.
const START: Duration = Duration::from_secs(60);

/// etcd on nodes `e1`, `e2`, and `e3`, with its data in memory.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    security: Option<Security>,
    /// Additional flags for every member.
    flags: Vec<String>,
    /// `user:password` for [`Etcd::ctl`].
    login: Option<String>,
}

#[derive(Debug)]
struct Member {
    process: Option<Process>,
    node: Node,
    _holder: NetnsHolder,
}

/// Mutual TLS.
#[derive(Debug)]
struct Security {
    authority: Authority,
    server: Pair,
    client: Pair,
}

/// Returns the address of member `index`, counted from 1.
pub(super) fn member_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 64, 255, index)
}

impl Etcd {
    /// Starts etcd on these nodes with additional flags, without waiting for it.
    pub(super) fn start(
        nodes: Vec<(Node, NetnsHolder)>,
        tls: bool,
        flags: &[String],
    ) -> Result<Self, LabError> {
        let security = tls
            .then(|| Security::new(nodes.iter().map(|(node, _)| node.address())))
            .transpose()?;
        let members = nodes
            .into_iter()
            .map(|(node, _holder)| Member {
                process: None,
                node,
                _holder,
            })
            .collect();
        let mut etcd = Self {
            members,
            security,
            flags: flags.to_vec(),
            login: None,
        };
        for index in 1..=etcd.members.len() {
            let node = etcd.node(index).clone();
            etcd.install_client(&node)?;
            if let Some(security) = &etcd.security {
                install(&node, "server", &security.server)?;
            }
            etcd.start_member(index)?;
        }
        Ok(etcd)
    }

    /// Waits until a majority of the members answers.
    pub fn wait_healthy(&self) -> Result<(), LabError> {
        let mut last = Ok(String::new());
        let healthy = wait_until(START, || {
            last = self.ctl(["--dial-timeout=1s", "--command-timeout=1s", "get", "health"]);
            last.is_ok()
        });
        let log = self
            .members
            .iter()
            .filter_map(|member| member.process.as_ref())
            .flat_map(|p| p.log_tail(10));
        if healthy {
            Ok(())
        } else {
            last.map(|_| ())
                .map_err(|error| error.with_log(log.collect()))
        }
    }

    /// Returns the endpoints for clients: `https://10.64.255.1:2379,…`
    pub fn endpoints(&self) -> String {
        let urls: Vec<String> = self
            .members
            .iter()
            .map(|member| self.url(&member.node, 2379))
            .collect();
        urls.join(",")
    }

    /// Returns the flags with which `flanneld` on any host of the lab reaches etcd.
    pub fn flanneld_args(&self) -> Vec<String> {
        let mut args = vec![format!("-etcd-endpoints={}", self.endpoints())];
        if self.security.is_some() {
            args.push(format!("-etcd-cafile={PKI}/ca.pem"));
            args.push(format!("-etcd-certfile={PKI}/client.pem"));
            args.push(format!("-etcd-keyfile={PKI}/client-key.pem"));
        }
        args
    }

    /// Writes the CA's certificate and a client's certificate and key to `/run/pki` of a node.
    pub fn install_client(&self, node: &Node) -> Result<(), LabError> {
        let Some(security) = &self.security else {
            return Ok(());
        };
        node.write(&format!("{PKI}/ca.pem"), security.authority.pem())?;
        install(node, "client", &security.client)
    }

    /// Returns the authority that signed all certificates, to issue more; `None` without TLS.
    pub fn authority(&self) -> Option<&Authority> {
        self.security.as_ref().map(|security| &security.authority)
    }

    /// Runs `etcdctl` with these arguments as a client of all members, and returns its standard output.
    pub fn ctl<S: Into<String>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String, LabError> {
        self.ctl_feed(args, b"")
    }

    /// Does the same as [`Etcd::ctl`], with standard input.
    pub fn ctl_feed<S: Into<String>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<String, LabError> {
        self.ask(&self.endpoints(), args.into_iter().map(Into::into), input)
    }

    /// Does the same as [`Etcd::ctl`] with member `index` only, counted from 1. (`etcdctl` adds up endpoints that are given
    /// twice.)
    pub fn ctl_of<S: Into<String>>(
        &self,
        index: usize,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String, LabError> {
        self.ask(
            &self.url(self.node(index), 2379),
            args.into_iter().map(Into::into),
            b"",
        )
    }

    fn ask(
        &self,
        endpoints: &str,
        args: impl Iterator<Item = String>,
        input: &[u8],
    ) -> Result<String, LabError> {
        let mut command: Vec<String> = vec!["env".into(), "ETCDCTL_API=3".into(), "etcdctl".into()];
        command.push(format!("--endpoints={endpoints}"));
        if self.security.is_some() {
            command.push(format!("--cacert={PKI}/ca.pem"));
            command.push(format!("--cert={PKI}/client.pem"));
            command.push(format!("--key={PKI}/client-key.pem"));
        }
        command.extend(self.login.iter().map(|login| format!("--user={login}")));
        command.extend(args);
        self.node(1).feed(command, input)
    }

    /// Writes a key. The value may be as large as etcd allows.
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), LabError> {
        // etcdctl reports an empty standard input as a missing value.
        let done = match value.as_ref() {
            [] => self.ctl(["put", key, ""]),
            value => self.ctl_feed(["put", key], value),
        };
        done.map(|_| ())
    }

    /// Reads a key; `None` if it does not exist.
    pub fn get(&self, key: &str) -> Result<Option<String>, LabError> {
        let answer = self.ctl(["get", "--print-value-only", key])?;
        Ok(answer.strip_suffix('\n').map(str::to_owned))
    }

    /// Returns all keys that begin with `prefix`, in order.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>, LabError> {
        let answer = self.ctl(["get", "--prefix", "--keys-only", prefix])?;
        Ok(answer
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// Deletes a key. It need not exist.
    pub fn delete(&self, key: &str) -> Result<(), LabError> {
        self.ctl(["del", key]).map(|_| ())
    }

    /// Returns the node of member `index`, counted from 1. Panics if there is none.
    pub fn node(&self, index: usize) -> &Node {
        &self.members[index - 1].node
    }

    /// Returns the nodes of all members.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.members.iter().map(|member| &member.node)
    }

    /// Sends a signal to member `index`, counted from 1: `STOP` makes it hang, `CONT` resumes it.
    pub fn signal(&self, index: usize, signal: Signal) -> Result<(), LabError> {
        let process = self.members[index - 1].process.as_ref();
        process
            .ok_or_else(|| not_running(self.node(index)))?
            .signal(signal)
    }

    /// Kills member `index` with SIGKILL. Its data remains.
    pub fn kill(&mut self, index: usize) -> Result<(), LabError> {
        let process = self.members[index - 1].process.take();
        process.ok_or_else(|| not_running(self.node(index)))?.kill()
    }

    /// Starts member `index` on its data after [`Etcd::kill`], without waiting for it.
    pub fn start_member(&mut self, index: usize) -> Result<(), LabError> {
        let args = self.member_args(index);
        let member = &mut self.members[index - 1];
        member.process = Some(member.node.spawn("etcd", args)?);
        Ok(())
    }

    fn member_args(&self, index: usize) -> Vec<String> {
        let node = self.node(index);
        let (client, peer) = (self.url(node, 2379), self.url(node, 2380));
        let cluster = self.cluster();
        let pairs = [
            ("name", node.name()),
            ("data-dir", "/run/etcd"),
            ("listen-peer-urls", &peer),
            ("initial-advertise-peer-urls", &peer),
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("initial-cluster", &cluster),
            ("heartbeat-interval", "50"),
            ("election-timeout", "500"),
            // The least: hashing passwords is not what a lab is for.
            ("bcrypt-cost", "4"),
        ];
        let mut args = vec!["etcd".to_owned()];
        args.extend(pairs.map(|(name, value)| format!("--{name}={value}")));
        if self.security.is_some() {
            args.extend(tls_args(""));
            args.extend(tls_args("peer-"));
        }
        args.extend(self.flags.iter().cloned());
        args
    }

    /// Returns the initial list of members, as each of them gets it at its first start.
    fn cluster(&self) -> String {
        let peers = self
            .nodes()
            .map(|node| format!("{}={}", node.name(), self.url(node, 2380)));
        peers.collect::<Vec<_>>().join(",")
    }

    fn url(&self, node: &Node, port: u16) -> String {
        let scheme = if self.security.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}:{port}", node.address())
    }
}

impl Security {
    fn new(members: impl Iterator<Item = Ipv4Addr>) -> Result<Self, LabError> {
        let addresses: Vec<IpAddr> = members
            .map(IpAddr::V4)
            .chain([IpAddr::V4(Ipv4Addr::LOCALHOST)])
            .collect();
        let make = || {
            let authority = Authority::new("lab-ca")?;
            let server = authority.issue("etcd", &addresses)?;
            let client = authority.issue("flanneld", &[])?;
            Ok(Self {
                authority,
                server,
                client,
            })
        };
        make().map_err(|error: rcgen::Error| LabError::failed("etcd", "create certificates", error))
    }
}

fn tls_args(kind: &str) -> [String; 4] {
    [
        format!("--{kind}cert-file={PKI}/server.pem"),
        format!("--{kind}key-file={PKI}/server-key.pem"),
        format!("--{kind}trusted-ca-file={PKI}/ca.pem"),
        format!("--{kind}client-cert-auth"),
    ]
}

fn install(node: &Node, name: &str, pair: &Pair) -> Result<(), LabError> {
    node.write(&format!("{PKI}/{name}.pem"), &pair.cert)?;
    node.write(&format!("{PKI}/{name}-key.pem"), &pair.key)
}

fn not_running(node: &Node) -> LabError {
    LabError::failed(node.name(), "signal etcd", "it was killed: start it first")
}
