//! A node as desired: every setting, with defaults filled in and checked against the others. Pure.

mod addresses;
mod check;
mod defaults;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::Ipv4Network;

pub(crate) use addresses::is_dns_name;

use super::settings::Settings;
use super::versions::{KubeVersion, SystemdVersion};
use super::{Error, Service};
use flanneld::subnet::NetworkConfig;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As in the tutorial.
    Document,
    Recommended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Docker Engine, through dockershim before 1.24 and through cri-dockerd since then.
    Docker,
    Containerd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodNetwork {
    /// Pods are on docker's own bridge, which has flannel's subnet.
    Bip,
    /// Pods use the flannel CNI plugin.
    Cni,
}

/// A release as `year.month` or `major.minor`.
pub type Release = (u16, u16);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// All settings, including defaults.
    pub settings: Settings,
    pub style: Style,
    /// Release of kubelet and kube-proxy.
    pub kubernetes: KubeVersion,
    /// Services of the node: flanneld, docker (or its replacement), kubelet, and kube-proxy.
    pub services: Vec<Service>,
    pub runtime: Runtime,
    /// Release of Docker Engine, if it is known.
    pub docker: Option<Release>,
    /// Third number of that release, if it is known.
    pub docker_patch: Option<u16>,
    /// Release of containerd, if it is known.
    pub containerd: Option<Release>,
    /// Version of systemd, if it is not that of the host.
    pub systemd: Option<SystemdVersion>,
    pub pod_network: PodNetwork,
    pub dirs: Dirs,
    /// Identity in the cluster; present if the node has kubelet or kube-proxy.
    pub node: Option<Node>,
    /// Network of the pods, which must not overlap that of the services.
    pub pod_cidr: Ipv4Network,
    pub service_cidr: Ipv4Network,
    /// Address of the DNS service, inside `service_cidr` and not its first address.
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub etcd: Etcd,
    /// Value of `<prefix>/config`: JSON whose Network is `pod_cidr`.
    pub network_config: String,
    pub flannel: Flannel,
    pub engine: Engine,
    pub kube: Kube,
}

/// Identity of a node in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Address of the node, not loopback and not in the networks of pods or services.
    pub ip: IpAddr,
    /// Name of the Node object in lower case, as the programs write it.
    pub name: String,
}

/// Absolute directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Programs.
    pub bin: PathBuf,
    /// Kubeconfigs and configuration files.
    pub kubernetes: PathBuf,
    pub ssl: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// URLs with their schemes.
    pub endpoints: Vec<String>,
    /// Prefix of all keys.
    pub prefix: String,
    /// CA, client certificate, and key, if the endpoints are https.
    pub tls: Option<[PathBuf; 3]>,
    /// User, and the file with the password.
    pub login: Option<(String, PathBuf)>,
}

/// Settings of flanneld other than etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flannel {
    pub iface: Option<String>,
    pub options: Vec<String>,
    /// Whether flanneld masquerades and docker does not.
    pub masquerade: bool,
}

/// Settings of dockerd other than its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Mirrors of Docker Hub.
    pub mirrors: Vec<String>,
    /// Number of concurrent downloads.
    pub downloads: Option<u32>,
    /// Whether its start waits for the subnet.
    pub wait: bool,
}

/// Settings of kubelet and kube-proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kube {
    /// `systemd` or `cgroupfs`; the programs' default if absent.
    pub cgroup_driver: Option<String>,
    /// The image that holds a pod's namespaces.
    pub pause_image: String,
    /// Whether the kubelet's API authenticates clients.
    pub secure: bool,
    /// CA of the API's clients.
    pub client_ca: PathBuf,
    /// Whether the cluster issues serving certificates.
    pub server_tls: bool,
    /// User of the bootstrap token.
    pub bootstrap_user: String,
    /// Mode of kube-proxy; its default if absent.
    pub proxy_mode: Option<String>,
}

impl Model {
    /// Fills in the defaults and checks everything.
    pub fn new(given: Settings) -> Result<Self, Error> {
        let settings = defaults::complete(given)?;
        let model = check::read(settings)?;
        check::together(&model)?;
        Ok(model)
    }

    pub fn has(&self, service: Service) -> bool {
        self.services.contains(&service)
    }

    pub fn is_document(&self) -> bool {
        self.style == Style::Document
    }

    pub fn program(&self, name: &str) -> String {
        self.dirs.bin.join(name).display().to_string()
    }

    /// Returns the path of a file in the directory of kubeconfigs.
    pub fn kubernetes_file(&self, name: &str) -> String {
        self.dirs.kubernetes.join(name).display().to_string()
    }

    /// Returns whether docker runs the containers and pods are on its bridge.
    pub fn on_docker_bridge(&self) -> bool {
        self.runtime == Runtime::Docker && self.pod_network == PodNetwork::Bip
    }

    /// Returns the backend: the `Type` in the network configuration.
    pub fn backend(&self) -> String {
        let config = NetworkConfig::parse(self.network_config.as_bytes());
        config.map(|config| config.backend_type).unwrap_or_default()
    }

    /// Returns an iptables match for packets from pods of other nodes to this node's containers. Without a
    /// tunnel they arrive on an interface with other packets, too.
    pub fn from_other_pods(&self) -> String {
        match self.backend().as_str() {
            "vxlan" => "-i flannel+".into(),
            _ => format!("-s {}", self.pod_cidr),
        }
    }

    pub fn needs_cri_dockerd(&self) -> bool {
        self.runtime == Runtime::Docker && self.kubernetes >= KubeVersion::NO_DOCKERSHIM
    }
}
