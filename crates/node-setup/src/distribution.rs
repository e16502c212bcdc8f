//! Linux distributions by their package managers: pure.

/// A family of distributions whose packages have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Debian, Ubuntu, and their derivatives.
    Debian,
    /// CentOS 7 and similar, with yum.
    RedHat7,
    /// Red Hat 8 and later, and its derivatives.
    RedHat,
    Fedora,
    Suse,
    Arch,
}

impl Distribution {
    /// Reads the text of `/etc/os-release`.
    pub fn from_os_release(text: &str) -> Option<Self> {
        let (variables, _) = flanneld::util::env_file::parse(text);
        let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        let version: u16 = value("VERSION_ID")
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or(0);
        let names = [value("ID"), value("ID_LIKE")].join(" ");
        names.split_whitespace().find_map(|name| match name {
            "debian" | "ubuntu" => Some(Self::Debian),
            "fedora" if value("ID") == "fedora" => Some(Self::Fedora),
            "centos" | "rhel" | "fedora" if version == 7 => Some(Self::RedHat7),
            "centos" | "rhel" | "rocky" | "almalinux" | "ol" | "fedora" => Some(Self::RedHat),
            name if name.contains("suse") || name == "sles" => Some(Self::Suse),
            "arch" => Some(Self::Arch),
            _ => None,
        })
    }

    /// Returns its name for people, and the command that installs packages.
    pub const fn install(self) -> (&'static str, &'static str) {
        match self {
            Self::Debian => ("Debian and Ubuntu", "apt-get install"),
            Self::RedHat7 => ("CentOS 7", "yum install"),
            Self::RedHat => ("Red Hat and derivatives", "dnf install"),
            Self::Fedora => ("Fedora", "dnf install"),
            Self::Suse => ("SUSE", "zypper install"),
            Self::Arch => ("Arch Linux", "pacman -S --needed"),
        }
    }

    /// Returns the packages of the programs that kubelet and kube-proxy call.
    pub const fn tools(self) -> &'static str {
        match self {
            Self::Debian => "iproute2 iptables conntrack ebtables ethtool socat",
            Self::RedHat7 => "iproute iptables conntrack-tools ebtables ethtool socat",
            Self::RedHat | Self::Fedora => {
                "iproute iproute-tc iptables conntrack-tools ethtool socat"
            }
            Self::Suse => "iproute2 iptables conntrack-tools ebtables ethtool socat",
            Self::Arch => "iproute2 iptables conntrack-tools ethtool socat",
        }
    }

    /// Returns the package of docker and of containerd. Red Hat's are in Docker's own repository.
    pub const fn runtimes(self) -> [&'static str; 2] {
        match self {
            Self::Debian => ["docker.io", "containerd"],
            Self::RedHat7 => ["docker", "containerd.io"],
            Self::RedHat => ["docker-ce", "containerd.io"],
            Self::Fedora => ["moby-engine", "containerd"],
            Self::Suse | Self::Arch => ["docker", "containerd"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_by_their_os_release() {
        for (text, want) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", Some(Distribution::Debian)),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                Some(Distribution::Debian),
            ),
            (
                "ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n",
                Some(Distribution::RedHat7),
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n",
                Some(Distribution::RedHat),
            ),
            ("ID=fedora\nVERSION_ID=42\n", Some(Distribution::Fedora)),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Some(Distribution::Suse),
            ),
            ("ID=arch\n", Some(Distribution::Arch)),
            ("ID=nixos\n", None),
            ("", None),
        ] {
            assert_eq!(Distribution::from_os_release(text), want, "{text}");
        }
    }
}
