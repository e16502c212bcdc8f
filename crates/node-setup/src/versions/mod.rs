//! Knows which release of Kubernetes has which flag and which field, from tables. Pure.
//!
//! Sources: the option and type files and the changelogs of the releases in question.

pub mod flags;
pub mod systemd;

use std::fmt;
use std::str::FromStr;

pub use flags::{Flag, KUBE_PROXY, KUBELET};
pub use systemd::SystemdVersion;

/// A minor release of Kubernetes 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubeVersion(pub u16);

impl KubeVersion {
    /// The tutorial's release, and the oldest one here.
    pub const OLDEST: Self = Self(6);
    /// The newest release whose flags are known. Newer ones are treated like it, with a warning.
    pub const NEWEST: Self = Self(36);
    /// The first whose kubelet reads lists of CNI plugins (`.conflist`).
    pub const CONFLIST: Self = Self(7);
    /// The first whose programs are configured by files rather than flags.
    pub const FILES: Self = Self(10);
    /// The first without dockershim.
    pub const NO_DOCKERSHIM: Self = Self(24);
    /// The first whose interface to runtimes (CRI v1alpha2) a released containerd supports.
    pub const CONTAINERD: Self = Self(10);
    /// The first with CRI v1, the only version that containerd 2 supports.
    pub const CRI_V1: Self = Self(23);
    /// The first whose kubelet can request a serving certificate, with the gate `RotateKubeletServerCertificate`.
    pub const SERVER_TLS: Self = Self(7);
    /// The first with this gate enabled.
    pub const SERVER_TLS_UNGATED: Self = Self(12);
    /// The first with ipvs, with the gate `SupportIPVSProxyMode`.
    pub const IPVS: Self = Self(8);
    /// The first with this gate enabled.
    pub const IPVS_UNGATED: Self = Self(10);
    /// The first with only CRI v1.
    pub const ONLY_CRI_V1: Self = Self(26);
    /// The first with nftables without a gate.
    pub const NFTABLES: Self = Self(31);
    /// The first that runs with control groups version 2 only.
    pub const CGROUP_V2: Self = Self(19);
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

impl FromStr for KubeVersion {
    type Err = String;

    /// Parses `1.6`, `v1.6.1`, and `1.32.0-rc.1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim_start_matches('v').split('.');
        let minor = (parts.next() == Some("1")).then(|| parts.next()).flatten();
        let digits = minor.map(|minor| minor.trim_end_matches('+'));
        let number = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|text| text.parse().ok()).map(KubeVersion);
        let known = number.ok_or_else(|| {
            format!("{text:?} is not a release of Kubernetes: give a release such as 1.6 or 1.32.4")
        })?;
        if known < Self::OLDEST {
            return Err(format!(
                "{known} is older than {}, the oldest supported release",
                Self::OLDEST
            ));
        }
        Ok(known)
    }
}

/// A program with a table of flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Kubelet,
    KubeProxy,
}

impl Program {
    pub const ALL: [Self; 2] = [Self::Kubelet, Self::KubeProxy];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
        }
    }

    pub const fn flags(self) -> &'static [Flag] {
        match self {
            Self::Kubelet => KUBELET,
            Self::KubeProxy => KUBE_PROXY,
        }
    }

    /// Returns the row of a flag. `_` in its name counts as `-`, as in the programs.
    pub fn flag(self, name: &str) -> Option<&'static Flag> {
        let name = name.replace('_', "-");
        self.flags().iter().find(|flag| flag.name == name)
    }

    /// Checks a command line without the program.
    pub fn check(self, args: &[&str], version: KubeVersion) -> Result<(), String> {
        let flags = args.iter().filter_map(|arg| arg.strip_prefix("--"));
        let mut names = flags.map(|flag| flag.split_once('=').map_or(flag, |(name, _)| name));
        names.try_for_each(|name| self.check_flag(name, version))
    }

    fn check_flag(self, name: &str, version: KubeVersion) -> Result<(), String> {
        match self.flag(name) {
            None => Err(format!("{} has no known flag --{name}", self.name())),
            Some(flag) if flag.accepted(version) => Ok(()),
            Some(flag) => Err(format!(
                "{} {version} does not know --{name} ({flag})",
                self.name()
            )),
        }
    }
}

impl Flag {
    pub fn accepted(&self, version: KubeVersion) -> bool {
        self.since <= version.0 && self.removed.is_none_or(|removed| version.0 < removed)
    }

    /// Returns the path of the equivalent field in the configuration file of this release.
    pub fn field(&self, version: KubeVersion) -> Option<&'static str> {
        let field = self
            .field
            .filter(|field| version >= KubeVersion::FILES && field.since <= version.0);
        field.map(|field| field.path)
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.since {
            0 => write!(f, "before 1.6")?,
            since => write!(f, "since 1.{since}")?,
        }
        let mut told = |word, release: Option<u16>| {
            release.map_or(Ok(()), |minor| write!(f, ", {word} 1.{minor}"))
        };
        told("deprecated in", self.deprecated)?;
        told("removed in", self.removed)?;
        match self.field {
            Some(field) => write!(f, "; field {} since 1.{}", field.path, field.since),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn versions_are_read_or_refused() {
        for (text, want) in [
            ("1.6", 6),
            ("v1.6.1", 6),
            ("1.32.0-rc.1", 32),
            ("1.28+", 28),
            ("1.99", 99),
        ] {
            assert_eq!(text.parse(), Ok(KubeVersion(want)), "{text}");
        }
        for bad in [
            "", "1", "1.", "2.1", "1.5", "1.x", "latest", "1.-6", "1.+6", "1.99999",
        ] {
            assert!(bad.parse::<KubeVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_make_sense() {
        for program in Program::ALL {
            let names: BTreeSet<&str> = program.flags().iter().map(|flag| flag.name).collect();
            assert_eq!(names.len(), program.flags().len(), "a flag is there twice");
            for flag in program.flags() {
                let order = [Some(flag.since), flag.deprecated, flag.removed];
                let order: Vec<u16> = order.into_iter().flatten().collect();
                assert!(order.is_sorted(), "{}: {order:?}", flag.name);
                assert!(
                    !flag.name.contains('_') && flag.why.ends_with('.'),
                    "{}",
                    flag.name
                );
            }
        }
    }

    /// The releases in which the option files and reference pages have them.
    #[test]
    fn rows_agree_with_the_releases_sources() {
        let row = |program: Program, name: &str| program.flag(name).copied().unwrap();
        assert_eq!(row(Program::Kubelet, "config").since, 10);
        assert_eq!(
            row(Program::Kubelet, "register-node")
                .field
                .map(|field| field.since),
            Some(23)
        );
        assert_eq!(
            row(Program::Kubelet, "non-masquerade-cidr").deprecated,
            Some(7)
        );
        assert_eq!(
            row(Program::KubeProxy, "cleanup-iptables").deprecated,
            Some(8)
        );
        assert_eq!(row(Program::KubeProxy, "metrics-bind-address").since, 7);
        assert_eq!(KubeVersion::NEWEST, KubeVersion(36));
    }

    /// What the tutorial's own command lines meet on the way to today.
    #[test]
    fn the_documents_flags_end_where_they_are_known_to_end() {
        let kubelet = "--address=1 --hostname-override=1 --pod-infra-container-image=i --experimental-bootstrap-kubeconfig=b \
                       --kubeconfig=k --require-kubeconfig --cert-dir=c --cluster_dns=d --cluster_domain=e --hairpin-mode h \
                       --allow-privileged=true --serialize-image-pulls=false --logtostderr=true --v=2";
        let refused = |program: Program, args: &[&str]| -> Vec<u16> {
            let bad = |minor: &u16| program.check(args, KubeVersion(*minor)).is_err();
            (KubeVersion::OLDEST.0..=KubeVersion::NEWEST.0)
                .filter(bad)
                .collect()
        };
        let ends = |gone: &str| {
            let args: Vec<&str> = kubelet
                .split_ascii_whitespace()
                .filter(|arg| !arg.starts_with(gone))
                .collect();
            refused(Program::Kubelet, &args).first().copied()
        };
        assert_eq!(ends("-none"), Some(10));
        assert_eq!(ends("--require"), Some(15));
        for (flag, minor) in [
            ("require-kubeconfig", 10),
            ("allow-privileged", 15),
            ("logtostderr", 26),
        ] {
            let line = format!("--{flag}=true");
            assert_eq!(refused(Program::Kubelet, &[&line]).first(), Some(&minor));
        }
        assert_eq!(
            refused(Program::Kubelet, &["--experimental-bootstrap-kubeconfig=x"]).first(),
            Some(&23)
        );
        assert_eq!(
            refused(Program::Kubelet, &["--pod-infra-container-image=x"]).first(),
            Some(&35)
        );
        let proxy = [
            "--bind-address=a",
            "--hostname-override=a",
            "--cluster-cidr=c",
            "--kubeconfig=k",
            "--v=2",
        ];
        assert_eq!(refused(Program::KubeProxy, &proxy), [0; 0]);
        assert_eq!(
            refused(Program::KubeProxy, &["--logtostderr=true"]).first(),
            Some(&26)
        );
        assert!(
            Program::Kubelet
                .check(&["--nonsense"], KubeVersion::NEWEST)
                .is_err()
        );
    }
}
