//! Options of a lab.

use std::path::{Path, PathBuf};

use super::{LabError, Report};

/// The network configuration of a lab that asks for nothing else.
const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

/// The same with IPv6 as well, and with IPv6 alone.
const DUAL_STACK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan"}}"#;
const IPV6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan"}}"#;

/// Hosts are 10.64.0.1 to 10.64.0.250.
pub(super) const MAX_HOSTS: u8 = 250;

/// Options of a lab. Starts as three hosts, one etcd member and mutual TLS.
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
    /// A lab that runs this `flanneld`.
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

    /// Its name; only a lab that is kept needs one of its own.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// How many hosts [`super::Lab::start`] makes, at most 250.
    #[must_use]
    pub fn hosts(self, hosts: u8) -> Self {
        Self { hosts, ..self }
    }

    /// One etcd member or three.
    #[must_use]
    pub fn etcd_members(self, etcd_members: u8) -> Self {
        Self {
            etcd_members,
            ..self
        }
    }

    /// etcd speaks plain HTTP.
    #[must_use]
    pub fn no_tls(self) -> Self {
        Self { tls: false, ..self }
    }

    /// More flags for every etcd member.
    #[must_use]
    pub fn etcd_args<S: Into<String>>(self, args: impl IntoIterator<Item = S>) -> Self {
        Self {
            etcd_args: args.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    /// Root of all keys in etcd; `/kubernetes/network` if not said.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..self
        }
    }

    /// The network configuration (JSON) that goes to `<prefix>/config`.
    #[must_use]
    pub fn network(self, json: impl Into<String>) -> Self {
        Self {
            network: json.into(),
            ..self
        }
    }

    /// A network configuration with both families.
    #[must_use]
    pub fn dual_stack(self) -> Self {
        self.network(DUAL_STACK)
    }

    /// A network configuration with IPv6 alone.
    #[must_use]
    pub fn ipv6(self) -> Self {
        self.network(IPV6)
    }

    /// Another backend in the network configuration that was chosen so far.
    #[must_use]
    pub fn backend(self, name: &str) -> Self {
        let network = self
            .network
            .replace(r#""Type":"vxlan""#, &format!(r#""Type":"{name}""#));
        Self { network, ..self }
    }

    /// More flags for every `flanneld`.
    #[must_use]
    pub fn flanneld_args<S: Into<String>>(self, args: impl IntoIterator<Item = S>) -> Self {
        Self {
            flanneld_args: args.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    /// Who is told of each step.
    #[must_use]
    pub fn report(self, report: Report) -> Self {
        Self { report, ..self }
    }

    /// Checks what can be checked before anything is made.
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
                "{:?} is no lab name: use letters, digits and dashes, at most 32",
                self.name
            ));
        }
        Ok(())
    }
}

/// A name becomes a directory: nothing that could lead elsewhere.
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
