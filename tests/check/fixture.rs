//! A lab whose hosts reach each other, and what `rflannel check` says on one of them.

use crate::tool::rflannel;
use lab::{Lab, LabError, LabOptions, Signal};
use serde_json::Value;

use super::PATIENCE;

/// Hosts lease from 172.30.240.0 on: subnets below are free for leases that a test invents.
pub const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.240.0","Backend":{"Type":"vxlan"}}"#;

/// What a check said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub document: Value,
}

impl Said {
    /// The cause that is named for the peer with this subnet.
    pub fn cause(&self, subnet: &str) -> &str {
        let peers = self.document["peers"].as_array().unwrap();
        let peer = peers.iter().find(|peer| peer["subnet"] == subnet);
        peer.and_then(|peer| peer["id"].as_str())
            .unwrap_or("no such peer")
    }

    /// Names of what is wrong with the host itself, `daemon` aside.
    pub fn findings(&self) -> Vec<&str> {
        let findings = self.document["findings"].as_array().unwrap();
        findings
            .iter()
            .filter_map(|finding| finding["id"].as_str())
            .filter(|id| *id != "daemon")
            .collect()
    }

    #[track_caller]
    pub fn names(&self, code: i32, subnet: &str, cause: &str) {
        assert_eq!(
            (self.code, self.cause(subnet)),
            (code, cause),
            "{:#}",
            self.document
        );
    }

    #[track_caller]
    pub fn finds(&self, code: i32, id: &str) {
        let found = self.findings();
        assert!(
            self.code == code && found.contains(&id),
            "{} {found:?}\n{:#}",
            self.code,
            self.document
        );
    }

    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        let text = self.document.to_string();
        words
            .iter()
            .for_each(|words| assert!(text.contains(words), "{words:?}: {:#}", self.document));
    }
}

pub struct Bench {
    pub lab: Lab,
}

impl Bench {
    pub fn options() -> LabOptions {
        LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
            .no_tls()
            .network(NETWORK)
    }

    /// So many hosts, and every pod reaches every other.
    pub fn start(hosts: u8) -> Result<Self, LabError> {
        Self::start_with(Self::options(), hosts)
    }

    pub fn start_with(options: LabOptions, hosts: u8) -> Result<Self, LabError> {
        let lab = Lab::start(options.hosts(hosts))?;
        let missing: Vec<_> = lab.ping_all(PATIENCE)?.missing().collect();
        assert_eq!(missing, [], "before anything is broken");
        Ok(Self { lab })
    }

    /// Hosts and etcd with the network configuration; no daemon yet.
    pub fn prepared(hosts: u8) -> Result<Self, LabError> {
        let mut lab = Lab::bare(Self::options())?;
        lab.start_etcd()?;
        lab.add_hosts(hosts)?;
        lab.configure()?;
        Ok(Self { lab })
    }

    /// The subnet of host `index`.
    pub fn subnet(&self, index: usize) -> String {
        self.lab.hosts()[index - 1]
            .pod()
            .unwrap()
            .subnet
            .to_string()
    }

    /// The key of its lease.
    pub fn key(&self, index: usize) -> String {
        format!(
            "/kubernetes/network/subnets/{}",
            self.subnet(index).replace('/', "-")
        )
    }

    /// Its address in the overlay.
    pub fn base(&self, index: usize) -> String {
        self.lab.hosts()[index - 1]
            .pod()
            .unwrap()
            .subnet
            .network()
            .to_string()
    }

    pub fn sh(&self, index: usize, script: &str) -> Result<String, LabError> {
        self.lab.host(index).sh(script)
    }

    /// MAC of a device of host `index`.
    pub fn mac(&self, index: usize, device: &str) -> Result<String, LabError> {
        Ok(self
            .sh(index, &format!("cat /sys/class/net/{device}/address"))?
            .trim()
            .to_owned())
    }

    pub fn kill(&mut self, index: usize) -> Result<(), LabError> {
        self.lab.end_flanneld(index, Signal::KILL).map(drop)
    }

    /// On host `index`, whose daemon runs: about `peer`, or everybody.
    pub fn check(&self, index: usize, peer: &str) -> Said {
        self.ask(index, peer, &[])
    }

    /// The same without a daemon, whose flags have to be said.
    pub fn check_alone(&self, index: usize, peer: &str) -> Said {
        let mut flags = vec!["--".to_owned()];
        flags.extend(self.lab.flanneld_args().unwrap());
        self.ask(index, peer, &flags)
    }

    fn ask(&self, index: usize, peer: &str, flags: &[String]) -> Said {
        let words = ["--json", "--timeout=2"]
            .into_iter()
            .chain(Some(peer).filter(|peer| !peer.is_empty()));
        let (code, text) = self.run(index, words.chain(flags.iter().map(String::as_str)));
        let document =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Said { code, document }
    }

    /// Exit code and text.
    pub fn run<'a>(&self, index: usize, words: impl Iterator<Item = &'a str>) -> (i32, String) {
        let output = self
            .lab
            .host(index)
            .run([rflannel(), "check"].into_iter().chain(words))
            .unwrap();
        let text = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code().unwrap_or(-1), text.concat())
    }

    /// A rule of nftables on host `index`, in a base chain at this hook and priority.
    pub fn rule(
        &self,
        index: usize,
        hook: &str,
        priority: i32,
        rule: &str,
    ) -> Result<(), LabError> {
        let chain = format!("type filter hook {hook} priority {priority};\n{rule}\n");
        let table = format!("table inet fault {{\nchain {hook} {{\n{chain}}}\n}}\n");
        self.lab
            .host(index)
            .feed(["nft", "-f", "-"], table.as_bytes())
            .map(drop)
    }

    /// One that drops; `hook` is `input`, `output` or `forward`.
    pub fn drop(&self, index: usize, hook: &str, what: &str) -> Result<(), LabError> {
        self.rule(index, hook, -10, &format!("{what} drop"))
    }

    /// A card `name` on host `index`, on the same switch.
    pub fn new_card(&self, index: usize, name: &str) {
        let (bridge, node) = (
            self.lab.bridge().pid().to_string(),
            self.lab.host(index).pid().to_string(),
        );
        for line in [
            format!("link add v-new type veth peer name {name} netns {node}"),
            "link set v-new master br0 up".to_owned(),
        ] {
            let mut command = std::process::Command::new("nsenter");
            command
                .args(["-t", &bridge, "-n", "ip"])
                .args(line.split(' '));
            assert!(
                command.status().is_ok_and(|status| status.success()),
                "{command:?}"
            );
        }
    }
}
