//! Every setting of a node, a row each: pure.

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One text.
    Text,
    /// Texts, with commas between them if they are given as one.
    List,
    /// Words, as a shell splits them if they are given as one text.
    Words,
    /// On or off.
    Switch,
}

impl Kind {
    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::List => "a list of texts, or one text with commas",
            Self::Words => "a list of texts, or one text as for a shell",
            Self::Switch => "true or false",
        }
    }
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What the value is called in the help.
    pub value: &'static str,
    /// All that it may be; empty if that is not a list of words.
    pub words: &'static [&'static str],
    /// The variables that have it, in the document and in its later versions (follow-me-install-kubernetes-cluster).
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

/// All of them, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    text(
        "style",
        "STYLE",
        "document (as the walk-through has it) or recommended (as it should be today) [recommended]",
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
        "Which of flanneld, docker, kubelet, kube-proxy this node gets; docker stands for the runtime [all]",
    ),
    text("runtime", "NAME", "docker or containerd [docker before 1.24, containerd from then on]")
        .one_of(&["docker", "containerd"]),
    text(
        "docker-version",
        "X.Y",
        "Release of Docker Engine [document: 17.04, recommended: unknown, so that it fits all]",
    ),
    text(
        "systemd-version",
        "N",
        "Version of systemd that the units are for [this host's, else the newest known]",
    ),
    text("containerd-version", "X.Y", "Release of containerd [unknown, so that it fits all]"),
    text(
        "pod-network",
        "NAME",
        "bip (pods on docker's own bridge) or cni [bip for docker with dockershim, otherwise cni]",
    )
    .one_of(&["bip", "cni"]),
    text("bin-dir", "DIR", "Where the programs are [document: /root/local/bin, recommended: /usr/local/bin]"),
    text("kubernetes-dir", "DIR", "Where kubeconfigs and configuration files are [/etc/kubernetes]"),
    text("ssl-dir", "DIR", "Where certificates are [KUBERNETES-DIR/ssl]"),
    text("node-ip", "ADDRESS", "Address of this node; there is no default").exported(&["ADDRESS", "NODE_IP"]),
    text("node-name", "NAME", "Name of the Node object, for kubelet and kube-proxy alike [NODE-IP]"),
    text("iface", "NAME", "Interface towards the other nodes [the one of the default route]"),
    text(
        "pod-cidr",
        "CIDR",
        "Network of the pods: flannel's Network, kube-proxy's and controller-manager's cluster-cidr [172.30.0.0/16]",
    ),
    text("service-cidr", "CIDR", "Network of the services [10.254.0.0/16]").exported(&["SERVICE_CIDR"]),
    text(
        "controller-manager-cluster-cidr",
        "CIDR",
        "What kube-controller-manager has as --cluster-cidr, to be compared [not compared]",
    ),
    text("cluster-dns", "ADDRESS", "The cluster's DNS service [the second address of SERVICE-CIDR]")
        .exported(&["CLUSTER_DNS", "CLUSTER_DNS_SVC_IP"]),
    text(
        "cluster-domain",
        "NAME",
        "Domain of the services [document: cluster.local., recommended: cluster.local]",
    )
    .exported(&["CLUSTER_DNS_DOMAIN"]),
    row("etcd-endpoints", Kind::List, "URLS", "etcd's URLs; there is no default")
        .exported(&["FLANNEL_ETCD_ENDPOINTS", "ETCD_ENDPOINTS"]),
    text("etcd-prefix", "KEY", "Root of flannel's keys [/kubernetes/network]")
        .exported(&["FLANNEL_ETCD_PREFIX"]),
    text("etcd-cafile", "FILE", "CA of etcd [SSL-DIR/ca.pem]"),
    text("etcd-certfile", "FILE", "Client certificate for etcd [SSL-DIR/kubernetes.pem]"),
    text("etcd-keyfile", "FILE", "Its key [SSL-DIR/kubernetes-key.pem]"),
    text("etcd-username", "NAME", "User of etcd [none]"),
    text("etcd-password-file", "FILE", "File with a line FLANNELD_ETCD_PASSWORD=PASSWORD, for root only [none]"),
    switch("allow-insecure-etcd", "Allow http endpoints although there are certificates [false]"),
    text(
        "backend",
        "TYPE",
        "How packets get to other nodes: vxlan, host-gw, or alloc [that of NETWORK-CONFIG, else vxlan]",
    ),
    text("network-config", "JSON", "Value of PREFIX/config [made of POD-CIDR and BACKEND: SubnetLen 24]"),
    row("flannel-options", Kind::Words, "FLAGS", "More flags of flanneld [none]")
        .exported(&["FLANNEL_OPTIONS"]),
    switch(
        "masquerade",
        "flanneld masquerades what leaves the overlay, and docker does not [document: false, recommended: true]",
    ),
    switch(
        "docker-wait",
        "docker's start waits for flanneld's subnet, instead of failing and being tried again [false]",
    ),
    row(
        "registry-mirrors",
        Kind::List,
        "URLS",
        "Mirrors of Docker Hub [document: the walk-through's, recommended: none]",
    ),
    text(
        "max-concurrent-downloads",
        "N",
        "Layers that docker fetches at once [document: 10, recommended: docker's default]",
    ),
    text(
        "cgroup-driver",
        "NAME",
        "systemd or cgroupfs, for kubelet and runtime alike [document: the programs' own, recommended: systemd]",
    )
    .one_of(&["systemd", "cgroupfs"]),
    text(
        "pause-image",
        "IMAGE",
        "Image that holds a pod's namespaces [document: the walk-through's, recommended: that of the release]",
    ),
    switch(
        "secure-kubelet",
        "The kubelet's API asks who is there and what they may [document: false, recommended: true]",
    ),
    text("client-ca-file", "FILE", "CA of the clients of the kubelet's API [SSL-DIR/ca.pem]"),
    switch(
        "server-tls-bootstrap",
        "The kubelet asks the cluster for a serving certificate; each request has to be approved by hand [false]",
    ),
    text("bootstrap-user", "NAME", "User of the bootstrap token [kubelet-bootstrap]"),
    text(
        "proxy-mode",
        "MODE",
        "iptables, nftables (1.31) or ipvs [document: kube-proxy's own, recommended: iptables]",
    )
    .one_of(&["iptables", "nftables", "ipvs"]),
];

/// A setting by name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Returns setting and variable, for all that the document exports and means.
pub(super) fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.iter().flat_map(|setting| {
        setting
            .variables
            .iter()
            .map(|variable| (setting.name, *variable))
    })
}

/// Variables of the document and its later versions that no setting is made of, and why.
pub(super) const UNUSED: &[(&str, &str)] = &[
    (
        "KUBE_APISERVER",
        "the kubeconfigs have the server's address",
    ),
    ("MASTER_IP", "the kubeconfigs have the server's address"),
    ("BOOTSTRAP_TOKEN", "bootstrap.kubeconfig has the token"),
    (
        "CLUSTER_KUBERNETES_SVC_IP",
        "it is the first address of service-cidr",
    ),
    ("NODE_PORT_RANGE", "it is a matter of the API server"),
    (
        "NODE_NAME",
        "there it names a member of etcd; give node-name",
    ),
    ("NODE_IPS", "they are the members of etcd"),
    ("ETCD_NODES", "they are the members of etcd"),
];
