//! A node as desired: every setting, defaults filled in and checked against the others: pure.

mod addresses;
mod check;
mod defaults;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::Ipv4Network;

use super::settings::Settings;
use super::versions::{KubeVersion, SystemdVersion};
use super::{Error, Service};
use flanneld::subnet::NetworkConfig;

/// What the units look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As in the walk-through.
    Document,
    /// As it should be.
    Recommended,
}

/// Who runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Docker Engine, by dockershim before 1.24 and by cri-dockerd from then on.
    Docker,
    /// containerd alone.
    Containerd,
}

/// How pods get their network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodNetwork {
    /// They are on docker's own bridge, which has flannel's subnet.
    Bip,
    /// From the flannel CNI plugin.
    Cni,
}

/// A release as `year.month` or `major.minor`.
pub type Release = (u16, u16);

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// All settings that it was made of, defaults included.
    pub settings: Settings,
    /// Wiring of the units.
    pub style: Style,
    /// Release of kubelet and kube-proxy.
    pub kubernetes: KubeVersion,
    /// What runs there: of flanneld, docker (or its place-taker), kubelet and kube-proxy.
    pub services: Vec<Service>,
    /// Who runs containers.
    pub runtime: Runtime,
    /// Release of Docker Engine, if it is known.
    pub docker: Option<Release>,
    /// The third number of that release, if it is known.
    pub docker_patch: Option<u16>,
    /// Release of containerd, if it is known.
    pub containerd: Option<Release>,
    /// Version of systemd, if it is not the host's.
    pub systemd: Option<SystemdVersion>,
    /// How pods get their network.
    pub pod_network: PodNetwork,
    /// Where programs, kubeconfigs and certificates are.
    pub dirs: Dirs,
    /// Who it is in the cluster. There if it gets kubelet or kube-proxy.
    pub node: Option<Node>,
    /// The networks that must not overlap.
    pub pod_cidr: Ipv4Network,
    /// The services' network.
    pub service_cidr: Ipv4Network,
    /// In `service_cidr`, not its first address.
    pub cluster_dns: IpAddr,
    /// Domain of the services.
    pub cluster_domain: String,
    /// The datastore.
    pub etcd: Etcd,
    /// Value of `<prefix>/config`: JSON whose Network is `pod_cidr`.
    pub network_config: String,
    /// What flanneld is told beside etcd.
    pub flannel: Flannel,
    /// What dockerd is told beside its network.
    pub engine: Engine,
    /// What kubelet and kube-proxy are told.
    pub kube: Kube,
}

/// Who the node is in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its address. Not loopback, not in the pods' or services' network.
    pub ip: IpAddr,
    /// The name of the Node object, as the programs write it: in small letters.
    pub name: String,
}

/// Directories, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Programs.
    pub bin: PathBuf,
    /// Kubeconfigs and configuration files.
    pub kubernetes: PathBuf,
    /// Certificates.
    pub ssl: PathBuf,
}

/// The datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// URLs with their schemes.
    pub endpoints: Vec<String>,
    /// Root of all keys.
    pub prefix: String,
    /// CA, client certificate and key, when the endpoints are https.
    pub tls: Option<[PathBuf; 3]>,
    /// User, and the file that has the password.
    pub login: Option<(String, PathBuf)>,
}

/// What flanneld is told beside etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flannel {
    /// The interface.
    pub iface: Option<String>,
    /// More flags.
    pub options: Vec<String>,
    /// It masquerades, and docker does not.
    pub masquerade: bool,
}

/// What dockerd is told beside its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Mirrors of Docker Hub.
    pub mirrors: Vec<String>,
    /// Layers at once.
    pub downloads: Option<u32>,
    /// Its start waits for the subnet.
    pub wait: bool,
}

/// What kubelet and kube-proxy are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kube {
    /// `systemd` or `cgroupfs`; the programs' own if absent.
    pub cgroup_driver: Option<String>,
    /// The image that holds a pod's namespaces.
    pub pause_image: String,
    /// The kubelet's API asks who is there.
    pub secure: bool,
    /// CA of the API's clients.
    pub client_ca: PathBuf,
    /// Serving certificates from the cluster.
    pub server_tls: bool,
    /// Whom the bootstrap token belongs to.
    pub bootstrap_user: String,
    /// kube-proxy's mode; its own choice if absent.
    pub proxy_mode: Option<String>,
}

impl Model {
    /// Fills in the defaults, and checks everything.
    ///
    /// # Errors
    /// The first setting that is wrong, alone or beside others.
    pub fn new(given: Settings) -> Result<Self, Error> {
        let settings = defaults::complete(given)?;
        let model = check::read(settings)?;
        check::together(&model)?;
        Ok(model)
    }

    /// Whether the node gets this service.
    pub fn has(&self, service: Service) -> bool {
        self.services.contains(&service)
    }

    /// Whether it is a node of the document's kind.
    pub fn is_document(&self) -> bool {
        self.style == Style::Document
    }

    /// A program's path.
    pub fn program(&self, name: &str) -> String {
        self.dirs.bin.join(name).display().to_string()
    }

    /// A file in the directory for kubeconfigs.
    pub fn kubernetes_file(&self, name: &str) -> String {
        self.dirs.kubernetes.join(name).display().to_string()
    }

    /// Whether docker runs the containers, and pods are on its bridge.
    pub fn on_docker_bridge(&self) -> bool {
        self.runtime == Runtime::Docker && self.pod_network == PodNetwork::Bip
    }

    /// How packets get to other nodes: the `Type` in the network configuration.
    pub fn backend(&self) -> String {
        let config = NetworkConfig::parse(self.network_config.as_bytes());
        config.map(|config| config.backend_type).unwrap_or_default()
    }

    /// What packets from pods of other nodes to this node's containers have in common, as iptables matches it. Without a
    /// tunnel they come in by an interface that carries other packets as well.
    pub fn from_other_pods(&self) -> String {
        match self.backend().as_str() {
            "vxlan" => "-i flannel+".into(),
            _ => format!("-s {}", self.pod_cidr),
        }
    }

    /// Whether docker needs cri-dockerd in front of it.
    pub fn needs_cri_dockerd(&self) -> bool {
        self.runtime == Runtime::Docker && self.kubernetes >= KubeVersion::NO_DOCKERSHIM
    }
}
