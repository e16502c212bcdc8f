//! Lists every setting of a node, one row each. Pure.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Texts, with commas between them if they are given as one.
    List,
    /// Words; a single text is split like in a shell.
    Words,
    Switch,
}

impl Kind {
    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::List => "a list of texts, or one text with commas",
            Self::Words => "a list of texts, or one text with words as in a shell",
            Self::Switch => "true or false",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// The name of the value in the help.
    pub value: &'static str,
    /// The allowed values; empty if any value is allowed.
    pub words: &'static [&'static str],
    /// The variables for it in the tutorial and its later versions (follow-me-install-kubernetes-cluster).
    pub variables: &'static [&'static str],
    /// One sentence for help and file, with the default.
    pub help: &'static str,
}

const fn row(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        kind,
        value,
        words: &[],
        variables: &[],
        help,
    }
}

const fn text(name: &'static str, value: &'static str, help: &'static str) -> Setting {
    row(name, Kind::Text, value, help)
}

const fn switch(name: &'static str, help: &'static str) -> Setting {
    row(name, Kind::Switch, "BOOL", help)
}

impl Setting {
    const fn one_of(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }

    const fn exported(mut self, variables: &'static [&'static str]) -> Self {
        self.variables = variables;
        self
    }
}

/// All settings, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    text(
        "style",
        "STYLE",
        "Style of the units: document (as in the tutorial follow-me-install-kubernetes-cluster) or recommended (as recommended today) [recommended]",
    )
    .one_of(&["document", "recommended"]),
    text(
        "kubernetes-version",
        "1.X",
        "Release of kubelet and kube-proxy [document: 1.6, recommended: the newest known]",
    ),
    row(
        "services",
        Kind::List,
        "NAMES",
        "Services of this node: flanneld, docker, kubelet, kube-proxy; docker stands for the runtime [all]",
    ),
    text("runtime", "NAME", "Container runtime: docker or containerd [docker before 1.24, containerd since then]")
        .one_of(&["docker", "containerd"]),
    text(
        "docker-version",
        "X.Y",
        "Release of Docker Engine [document: 17.04, recommended: unknown, for units that work with all]",
    ),
    text(
        "systemd-version",
        "N",
        "Version of systemd that the units are written for [this host's, or the newest known]",
    ),
    text("containerd-version", "X.Y", "Release of containerd [unknown, for a configuration that works with all]"),
    text(
        "pod-network",
        "NAME",
        "Network of the pods: bip (docker's own bridge) or cni [bip for docker with dockershim, otherwise cni]",
    )
    .one_of(&["bip", "cni"]),
    text("bin-dir", "DIR", "Directory of the programs [document: /root/local/bin, recommended: /usr/local/bin]"),
    text("kubernetes-dir", "DIR", "Directory of kubeconfigs and configuration files [/etc/kubernetes]"),
    text("ssl-dir", "DIR", "Directory of certificates [KUBERNETES-DIR/ssl]"),
    text("node-ip", "ADDRESS", "Address of this node; required").exported(&["ADDRESS", "NODE_IP"]),
    text("node-name", "NAME", "Name of the Node object, for kubelet and kube-proxy [NODE-IP]"),
    text("iface", "NAME", "Interface towards the other nodes [that of the default route]"),
    text(
        "pod-cidr",
        "CIDR",
        "Network of the pods, for flannel's Network and for cluster-cidr of kube-proxy and the controller-manager [172.30.0.0/16]",
    ),
    text("service-cidr", "CIDR", "Network of the services [10.254.0.0/16]").exported(&["SERVICE_CIDR"]),
    text(
        "controller-manager-cluster-cidr",
        "CIDR",
        "Value of kube-controller-manager's --cluster-cidr, for a comparison [not compared]",
    ),
    text("cluster-dns", "ADDRESS", "Address of the cluster's DNS service [the second address of SERVICE-CIDR]")
        .exported(&["CLUSTER_DNS", "CLUSTER_DNS_SVC_IP"]),
    text(
        "cluster-domain",
        "NAME",
        "Domain of the services [document: cluster.local., recommended: cluster.local]",
    )
    .exported(&["CLUSTER_DNS_DOMAIN"]),
    row("etcd-endpoints", Kind::List, "URLS", "URLs of etcd; required")
        .exported(&["FLANNEL_ETCD_ENDPOINTS", "ETCD_ENDPOINTS"]),
    text("etcd-prefix", "KEY", "Prefix of flannel's keys [/kubernetes/network]")
        .exported(&["FLANNEL_ETCD_PREFIX"]),
    text("etcd-cafile", "FILE", "File with the CA of etcd [SSL-DIR/ca.pem]"),
    text("etcd-certfile", "FILE", "File with the client certificate for etcd [SSL-DIR/kubernetes.pem]"),
    text("etcd-keyfile", "FILE", "File with the key of that certificate [SSL-DIR/kubernetes-key.pem]"),
    text("etcd-username", "NAME", "User name for etcd [none]"),
    text("etcd-password-file", "FILE", "File with a line FLANNELD_ETCD_PASSWORD=PASSWORD, readable for root only [none]"),
    switch("allow-insecure-etcd", "Allow http endpoints, even with certificates [false]"),
    text(
        "backend",
        "TYPE",
        "Backend: vxlan, host-gw, or alloc [that of NETWORK-CONFIG, or vxlan]",
    ),
    text("network-config", "JSON", "Value of PREFIX/config [built from POD-CIDR and BACKEND with SubnetLen 24]"),
    row("flannel-options", Kind::Words, "FLAGS", "Additional flags of flanneld [none]")
        .exported(&["FLANNEL_OPTIONS"]),
    switch(
        "masquerade",
        "flanneld masquerades packets that leave the overlay, and docker does not [document: false, recommended: true]",
    ),
    switch(
        "docker-wait",
        "docker's start waits for flanneld's subnet; otherwise it fails and is repeated [false]",
    ),
    row(
        "registry-mirrors",
        Kind::List,
        "URLS",
        "Mirrors of Docker Hub [document: those of the tutorial, recommended: none]",
    ),
    text(
        "max-concurrent-downloads",
        "N",
        "Number of layers that docker downloads at once [document: 10, recommended: docker's default]",
    ),
    text(
        "cgroup-driver",
        "NAME",
        "Driver for control groups: systemd or cgroupfs, for kubelet and runtime [document: the programs' default, recommended: systemd]",
    )
    .one_of(&["systemd", "cgroupfs"]),
    text(
        "pause-image",
        "IMAGE",
        "Image that holds a pod's namespaces [document: that of the tutorial, recommended: that of the release]",
    ),
    switch(
        "secure-kubelet",
        "The kubelet's API authenticates and authorizes its clients [document: false, recommended: true]",
    ),
    text("client-ca-file", "FILE", "File with the CA for clients of the kubelet's API [SSL-DIR/ca.pem]"),
    switch(
        "server-tls-bootstrap",
        "The kubelet requests a serving certificate from the cluster; each request must be approved by hand [false]",
    ),
    text("bootstrap-user", "NAME", "User of the bootstrap token [kubelet-bootstrap]"),
    text(
        "proxy-mode",
        "MODE",
        "Mode of kube-proxy: iptables, nftables (since 1.31), or ipvs [document: kube-proxy's default, recommended: iptables]",
    )
    .one_of(&["iptables", "nftables", "ipvs"]),
];

pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Returns setting and variable for each variable that the tutorial exports.
pub(super) fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.iter().flat_map(|setting| {
        setting
            .variables
            .iter()
            .map(|variable| (setting.name, *variable))
    })
}

/// Variables of the tutorial and its later versions that set nothing, and why.
pub(super) const UNUSED: &[(&str, &str)] = &[
    (
        "KUBE_APISERVER",
        "the kubeconfigs contain the server's address",
    ),
    ("MASTER_IP", "the kubeconfigs contain the server's address"),
    ("BOOTSTRAP_TOKEN", "bootstrap.kubeconfig contains the token"),
    (
        "CLUSTER_KUBERNETES_SVC_IP",
        "it is the first address of service-cidr",
    ),
    ("NODE_PORT_RANGE", "it is a setting of the API server"),
    (
        "NODE_NAME",
        "there it is the name of an etcd member; use node-name",
    ),
    ("NODE_IPS", "they are the members of etcd"),
    ("ETCD_NODES", "they are the members of etcd"),
];
