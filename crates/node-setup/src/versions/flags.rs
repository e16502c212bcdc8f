//! The flags of kubelet and kube-proxy, a row each: pure.
//!
//! `since` 0: the release before the oldest one here had it already.

/// One flag through the releases. Numbers are minor releases of Kubernetes 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// First release that knows it.
    pub since: u16,
    /// First release that complains about it.
    pub deprecated: Option<u16>,
    /// First release that does not start with it.
    pub removed: Option<u16>,
    /// What says the same in the configuration file.
    pub field: Option<Field>,
    /// What it does, and why a node has it or has it no more.
    pub why: &'static str,
}

/// A field of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Names from the top, with dots.
    pub path: &'static str,
    /// First release whose file may have it.
    pub since: u16,
}

const fn flag(name: &'static str, why: &'static str) -> Flag {
    Flag {
        name,
        since: 0,
        deprecated: None,
        removed: None,
        field: None,
        why,
    }
}

impl Flag {
    const fn since(mut self, minor: u16) -> Self {
        self.since = minor;
        self
    }

    const fn deprecated(mut self, minor: u16) -> Self {
        self.deprecated = Some(minor);
        self
    }

    const fn removed(mut self, minor: u16) -> Self {
        self.removed = Some(minor);
        self
    }

    const fn in_file(mut self, path: &'static str, since: u16) -> Self {
        self.field = Some(Field { path, since });
        self
    }

    /// A flag that the file of 1.10 made a field of, and that has been complained about ever since.
    const fn moved(self, path: &'static str) -> Self {
        self.deprecated(10).in_file(path, 10)
    }
}

/// Of kubelet.
pub const KUBELET: &[Flag] = &[
    flag("config", "The file with the rest of the settings (KubeletConfiguration v1beta1).").since(10),
    flag("config-dir", "Drop-ins over that file.").since(28),
    flag("kubeconfig", "How to reach the API server; written after the bootstrap. From 1.10 on, giving it is what makes a kubelet join a cluster."),
    flag("bootstrap-kubeconfig", "The credentials that may ask for a certificate, and nothing else.").since(7),
    flag("experimental-bootstrap-kubeconfig", "The name of --bootstrap-kubeconfig before 1.7.").deprecated(7).removed(23),
    flag("require-kubeconfig", "Take the API server's address from the kubeconfig. From 1.8 on --kubeconfig alone says so.").deprecated(8).removed(10),
    flag("api-servers", "The API server's address, before kubeconfig files had it.").deprecated(6).removed(8),
    flag("cert-dir", "Where client and serving certificate are kept."),
    flag("hostname-override", "The name of the Node object. kube-proxy must say the same, or it finds no node and writes no rules. It is no field: a flag in all releases."),
    flag("node-ip", "The address that the Node object tells others."),
    flag("root-dir", "Where pods and volumes are kept."),
    flag("node-labels", "Labels of the Node object."),
    flag("v", "How much is logged. The flag stays beside the field logging.verbosity."),
    flag("logtostderr", "Log to standard error. There is nothing else any more; 1.26 refuses the flag.").deprecated(23).removed(26),
    flag("address", "The address that pods and the API server reach the kubelet at: never the loopback.").moved("address"),
    flag("cluster-dns", "The DNS server that pods are told; without --cluster-domain it has no effect.").moved("clusterDNS"),
    flag("cluster-domain", "The domain below which services have their names; without --cluster-dns it has no effect.").moved("clusterDomain"),
    flag("hairpin-mode", "How a pod reaches itself through a service. promiscuous-bridge works only with kubenet; without it the kubelet logs a warning and does hairpin-veth.").moved("hairpinMode"),
    flag("serialize-image-pulls", "One image after the other. false needs a storage driver other than aufs.").moved("serializeImagePulls"),
    flag("client-ca-file", "Whose client certificates the kubelet's API believes: without it nobody is anybody.").moved("authentication.x509.clientCAFile"),
    flag("anonymous-auth", "Whether strangers are let in. As a flag it defaults to true, in a file to false.").moved("authentication.anonymous.enabled"),
    flag("authentication-token-webhook", "Ask the API server who a token belongs to.").moved("authentication.webhook.enabled"),
    flag("authorization-mode", "Who may do what on the kubelet's API. As a flag it defaults to AlwaysAllow: everybody who reaches port 10250 can run commands in every pod.").moved("authorization.mode"),
    flag("read-only-port", "A second port, 10255, that tells everybody everything. 0 closes it.").moved("readOnlyPort"),
    flag("cadvisor-port", "A third port, 4194, on all addresses. 0 closes it; gone since 1.12.").deprecated(10).removed(12),
    flag("cgroup-driver", "Must be the runtime's, or containers do not start.").moved("cgroupDriver"),
    flag("resolv-conf", "What pods take for the host's DNS.").moved("resolvConf"),
    flag("feature-gates", "Switches on what a release has and does not do by default.").moved("featureGates"),
    flag("fail-swap-on", "Refuse to run with swap. True by default since 1.8.").since(8).moved("failSwapOn"),
    flag("rotate-certificates", "Ask for a new client certificate in time; without it the node is lost after a year.").since(8).deprecated(11).in_file("rotateCertificates", 11),
    flag("rotate-server-certificates", "Ask the cluster for a serving certificate instead of signing one. Each request must be approved by hand.").since(11).deprecated(11).in_file("serverTLSBootstrap", 11),
    flag("allow-privileged", "Allow privileged pods. True by default since 1.11; now a matter of admission.").deprecated(10).removed(15),
    flag("register-node", "Make the Node object. True by default.").deprecated(23).in_file("registerNode", 23),
    flag("pod-infra-container-image", "The image that holds a pod's namespaces. With dockershim the kubelet pulls it; afterwards the runtime does, and has a setting of its own.").deprecated(24).removed(35),
    flag("container-runtime", "docker or remote. From 1.24 on only remote, 1.27 refuses the flag.").deprecated(24).removed(27),
    flag("container-runtime-endpoint", "The runtime's socket. Defaults to containerd's since 1.24.").deprecated(27).in_file("containerRuntimeEndpoint", 27),
    flag("image-service-endpoint", "The socket for images, if it is another one.").deprecated(27).in_file("imageServiceEndpoint", 27),
    flag("network-plugin", "How dockershim gives pods their network: nothing is docker's bridge, cni is CNI. Went with dockershim.").deprecated(21).removed(24),
    flag("cni-conf-dir", "Where dockershim finds the CNI configuration.").deprecated(21).removed(24),
    flag("cni-bin-dir", "Where dockershim finds CNI plugins.").deprecated(21).removed(24),
    flag("network-plugin-mtu", "MTU for kubenet.").deprecated(21).removed(24),
    flag("docker-endpoint", "dockershim's docker.").deprecated(21).removed(24),
    flag("image-pull-progress-deadline", "dockershim's patience with an image.").deprecated(21).removed(24),
    flag("non-masquerade-cidr", "For kubenet only.").deprecated(7).removed(24),
];

/// Of kube-proxy.
pub const KUBE_PROXY: &[Flag] = &[
    flag("config", "The file with all other settings (KubeProxyConfiguration v1alpha1). Beside it most flags are ignored. kube-proxy ends when the file is written: its unit starts it again.").since(7),
    flag("kubeconfig", "How to reach the API server.").in_file("clientConnection.kubeconfig", 10),
    flag("bind-address", "The node's address. No socket is bound to it in today's releases.").in_file("bindAddress", 10),
    flag("hostname-override", "The name of the Node object, the same as kubelet's: otherwise kube-proxy finds no node and writes no rules.").in_file("hostnameOverride", 10),
    flag("cluster-cidr", "The network of the pods: what does not come from there is masqueraded on its way to a service. With the network of the services instead, every pod is a stranger, and no service ever sees a pod's address.").in_file("clusterCIDR", 10),
    flag("masquerade-all", "Masquerade everything that goes to a service.").in_file("iptables.masqueradeAll", 10),
    flag("feature-gates", "Switches on what a release has and does not do by default.").in_file("featureGates", 10),
    flag("proxy-mode", "iptables, nftables (offered since 1.31) or ipvs (discouraged since 1.35).").in_file("mode", 10),
    flag("metrics-bind-address", "Where metrics are served.").since(7).in_file("metricsBindAddress", 10),
    flag("healthz-bind-address", "Where health is served.").in_file("healthzBindAddress", 10),
    flag("v", "How much is logged. Honoured beside --config."),
    flag("logtostderr", "Log to standard error. There is nothing else any more; 1.26 refuses the flag.").deprecated(23).removed(26),
    flag("resource-container", "A cgroup for kube-proxy.").deprecated(6).removed(16),
    flag("cleanup-iptables", "Remove the rules and end. Now --cleanup.").deprecated(8).removed(15),
    flag("udp-timeout", "For the userspace mode, which is gone.").removed(26),
    flag("init-only", "Do what needs privileges and end.").since(29),
    flag("detect-local-mode", "How pods of this node are told from strangers.").since(18).in_file("detectLocalMode", 18),
];
