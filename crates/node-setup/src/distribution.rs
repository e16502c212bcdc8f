//! Linux distributions by their package managers: pure.

/// A family of distributions whose packages have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution {
    /// Name for people.
    pub name: &'static str,
    /// The command that installs packages.
    pub install: &'static str,
    /// The packages of the programs that kubelet and kube-proxy call.
    pub tools: &'static str,
    /// The package of docker and of containerd.
    pub runtimes: [&'static str; 2],
}

const DEBIAN: Distribution = Distribution {
    name: "Debian and Ubuntu",
    install: "apt-get install",
    tools: "iproute2 iptables conntrack ebtables ethtool socat",
    runtimes: ["docker.io", "containerd"],
};
const CENTOS_7: Distribution = Distribution {
    name: "CentOS 7",
    install: "yum install",
    tools: "iproute iptables conntrack-tools ebtables ethtool socat",
    runtimes: ["docker", "containerd.io"],
};
/// Red Hat 8 and later, and its derivatives. The runtimes are in Docker's own repository.
const RED_HAT: Distribution = Distribution {
    name: "Red Hat and derivatives",
    install: "dnf install",
    tools: "iproute iproute-tc iptables conntrack-tools ethtool socat",
    runtimes: ["docker-ce", "containerd.io"],
};
const FEDORA: Distribution = Distribution {
    name: "Fedora",
    runtimes: ["moby-engine", "containerd"],
    ..RED_HAT
};
const SUSE: Distribution = Distribution {
    name: "SUSE",
    install: "zypper install",
    tools: "iproute2 iptables conntrack-tools ebtables ethtool socat",
    runtimes: ["docker", "containerd"],
};
const ARCH: Distribution = Distribution {
    name: "Arch Linux",
    install: "pacman -S --needed",
    tools: "iproute2 iptables conntrack-tools ethtool socat",
    runtimes: ["docker", "containerd"],
};

impl Distribution {
    /// Reads the text of `/etc/os-release`.
    pub fn from_os_release(text: &str) -> Option<Self> {
        let (variables, _) = flanneld::util::env_file::parse(text);
        let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        let major = value("VERSION_ID").split('.').next();
        let names = [value("ID"), value("ID_LIKE")].join(" ");
        names.split_whitespace().find_map(|name| match name {
            "debian" | "ubuntu" => Some(DEBIAN),
            "fedora" if value("ID") == "fedora" => Some(FEDORA),
            "centos" | "rhel" | "fedora" if major == Some("7") => Some(CENTOS_7),
            "centos" | "rhel" | "rocky" | "almalinux" | "ol" | "fedora" => Some(RED_HAT),
            name if name.contains("suse") || name == "sles" => Some(SUSE),
            "arch" => Some(ARCH),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_by_their_os_release() {
        for (text, want) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", Some(DEBIAN)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(DEBIAN)),
            (
                "ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n",
                Some(CENTOS_7),
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n",
                Some(RED_HAT),
            ),
            ("ID=fedora\nVERSION_ID=42\n", Some(FEDORA)),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Some(SUSE),
            ),
            ("ID=arch\n", Some(ARCH)),
            ("ID=nixos\n", None),
            ("", None),
        ] {
            assert_eq!(Distribution::from_os_release(text), want, "{text}");
        }
    }
}
