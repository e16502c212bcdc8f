//! What a cluster's administrators do with `rflannel`: real etcd, and real daemons where there is one to be met. Needs root
//! and what `scripts/setup` installs.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "modules of a test program"
)]

mod bundle;
mod config;
mod docs;
mod handover;
mod lease;
mod live_daemon;
#[path = "../docs/markdown.rs"]
mod markdown;
mod races;
mod settings;
#[path = "../support/mod.rs"]
mod support;

use crate::support::tool::rflannel;
use std::time::Duration;

use lab::{Lab, LabError, LabOptions, Node};

type Test = Result<(), LabError>;

/// Generous for a loaded machine.
const SOON: Duration = Duration::from_secs(60);
const PREFIX: &str = "/kubernetes/network";
const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

/// What a run of the tool ended with.
#[derive(Debug)]
struct Ran {
    code: i32,
    /// Both of its outputs.
    text: String,
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32, words: &[&str]) -> String {
        let missing: Vec<_> = words
            .iter()
            .filter(|words| !self.text.contains(**words))
            .collect();
        assert!(
            self.code == code && missing.is_empty(),
            "wanted {code} {missing:?}, had {}:\n{}",
            self.code,
            self.text
        );
        self.text
    }
}

/// etcd with a network configuration, and hosts on which nothing runs yet.
struct Cluster {
    lab: Lab,
}

impl Cluster {
    fn start(hosts: u8) -> Result<Self, LabError> {
        let options = LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
            .no_tls()
            .network(NETWORK);
        let mut lab = Lab::bare(options)?;
        lab.start_etcd()?;
        lab.configure()?;
        lab.add_hosts(hosts)?;
        Ok(Self { lab })
    }

    fn node(&self) -> &Node {
        self.lab.host(1)
    }

    /// Runs the tool on the first host, with the flags that reach etcd.
    fn run(&self, args: &[&str]) -> Ran {
        let etcd = self.lab.etcd().unwrap().endpoints();
        let flags = [
            format!("-etcd-endpoints={etcd}"),
            format!("-etcd-prefix={PREFIX}"),
        ];
        let words = args
            .iter()
            .copied()
            .chain(["--"])
            .chain(flags.iter().map(String::as_str));
        let quoted: String = words.map(|word| format!("'{word}' ")).collect();
        let output = self
            .node()
            .run([
                "sh",
                "-c",
                &format!("{rflannel} {quoted} 2>&1", rflannel = rflannel()),
            ])
            .unwrap();
        Ran {
            code: output.status.code().unwrap_or_default(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }

    /// Everything below the prefix: keys, values, revisions, etcd leases.
    fn everything(&self) -> String {
        self.lab
            .etcd()
            .unwrap()
            .ctl(["get", "--prefix", PREFIX, "-w", "fields"])
            .unwrap()
            .lines()
            .filter(|line| !line.contains("RaftTerm") && !line.contains("MemberID"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// A lease of a day, as Go flannel writes it.
    fn lease(&self, name: &str, value: &str) -> Test {
        let granted = self.lab.etcd()?.ctl(["lease", "grant", "86400"])?;
        let lease_id = granted
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let key = format!("{PREFIX}/subnets/{name}");
        self.lab
            .etcd()?
            .ctl([
                "put".into(),
                key,
                value.to_owned(),
                format!("--lease={lease_id}"),
            ])
            .map(drop)
    }

    fn value(&self, key: &str) -> Option<String> {
        self.lab
            .etcd()
            .unwrap()
            .get(&format!("{PREFIX}/{key}"))
            .unwrap()
    }
}

fn value(n: u8) -> String {
    format!(
        r#"{{"PublicIP":"10.64.9.{n}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:{n:02x}"}}}}"#
    )
}
