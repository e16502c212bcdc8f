//! Options of a lab.

use std::path::{Path, PathBuf};

use super::{LabError, Report};

/// The default network configuration.
const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

/// The default network configuration with IPv6 added, and with IPv6 only.
const DUAL_STACK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan"}}"#;
const IPV6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan"}}"#;

/// Hosts are 10.64.0.1 to 10.64.0.250.
pub(super) const MAX_HOSTS: u8 = 250;

/// Options of a lab. The defaults are three hosts, one etcd member, and mutual TLS.
#[must_use]
#[derive(Debug, Clone)]
pub struct LabOptions {
    pub(super) name: String,
    pub(super) hosts: u8,
    pub(super) etcd_members: u8,
    pub(super) tls: bool,
    pub(super) etcd_args: Vec<String>,
    pub(super) prefix: String,
    pub(super) network: String,
    pub(super) flanneld: PathBuf,
    pub(super) flanneld_args: Vec<String>,
    pub(super) report: Report,
}

impl LabOptions {
    /// Creates options for a lab that runs this `flanneld`.
    pub fn new(flanneld: impl AsRef<Path>) -> Self {
        Self {
            name: "lab".into(),
            hosts: 3,
            etcd_members: 1,
            tls: true,
            etcd_args: Vec::new(),
            prefix: "/kubernetes/network".into(),
            network: NETWORK.into(),
            flanneld: flanneld.as_ref().into(),
            flanneld_args: Vec::new(),
            report: Report::default(),
        }
    }

    /// Sets the name. Only a kept lab needs a unique one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the number of hosts that [`super::Lab::start`] creates, at most 250.
    pub fn hosts(mut self, hosts: u8) -> Self {
        self.hosts = hosts;
        self
    }

    /// Sets the number of etcd members: one or three.
    pub fn etcd_members(mut self, etcd_members: u8) -> Self {
        self.etcd_members = etcd_members;
        self
    }

    /// Makes etcd use plain HTTP.
    pub fn no_tls(mut self) -> Self {
        self.tls = false;
        self
    }

    /// Adds flags for every etcd member.
    pub fn etcd_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.etcd_args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the prefix of all keys in etcd; the default is `/kubernetes/network`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the network configuration (JSON) that is written to `<prefix>/config`.
    pub fn network(mut self, json: impl Into<String>) -> Self {
        self.network = json.into();
        self
    }

    pub fn dual_stack(self) -> Self {
        self.network(DUAL_STACK)
    }

    pub fn ipv6(self) -> Self {
        self.network(IPV6)
    }

    /// Changes the backend in the current network configuration.
    pub fn backend(mut self, name: &str) -> Self {
        let chosen = format!(r#""Type":"{name}""#);
        self.network = self.network.replace(r#""Type":"vxlan""#, &chosen);
        self
    }

    /// Adds flags for every `flanneld`.
    pub fn flanneld_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.flanneld_args = args.into_iter().map(Into::into).collect();
        self
    }

    pub fn report(mut self, report: Report) -> Self {
        self.report = report;
        self
    }

    /// Checks what can be checked before anything is created.
    pub(super) fn check(&self) -> Result<(), LabError> {
        let bad = |why: String| Err(LabError::BadOption(why));
        if self.hosts > MAX_HOSTS {
            return bad(format!(
                "a lab has at most {MAX_HOSTS} hosts, not {}",
                self.hosts
            ));
        }
        if self.etcd_members != 1 && self.etcd_members != 3 {
            return bad(format!(
                "etcd has 1 or 3 members, not {}",
                self.etcd_members
            ));
        }
        if !is_name(&self.name) {
            return bad(format!(
                "{:?} is not a valid lab name: use letters, digits, and dashes, at most 32 characters",
                self.name
            ));
        }
        Ok(())
    }
}

/// Accepts names that are safe as a directory name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        let good = LabOptions::new("flanneld");
        assert!(good.check().is_ok());
        assert!(good.clone().hosts(251).check().is_err());
        assert!(good.clone().etcd_members(2).check().is_err());
        for name in ["", "../x", "a b", &"a".repeat(33)] {
            assert!(good.clone().name(name).check().is_err(), "{name:?}");
        }
    }
}
