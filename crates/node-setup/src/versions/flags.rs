//! Lists the flags of kubelet and kube-proxy, one row each. Pure.
//!
//! `since` 0 means that an earlier release than the oldest one here had the flag.

/// A flag and its releases. Numbers are minor releases of Kubernetes 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// First release with the flag.
    pub since: u16,
    /// First release that warns about it.
    pub deprecated: Option<u16>,
    /// First release that does not start with it.
    pub removed: Option<u16>,
    /// The equivalent field in the configuration file.
    pub field: Option<Field>,
    /// What it does, and why a node has it or no longer has it.
    pub why: &'static str,
}

/// A field of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Names from the top, with dots.
    pub path: &'static str,
    /// First release with the field.
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

    /// Marks a flag that became a field in 1.10 and has been deprecated since then.
    const fn moved(self, path: &'static str) -> Self {
        self.deprecated(10).in_file(path, 10)
    }
}

pub const KUBELET: &[Flag] = &[
    flag("config", "The file with the rest of the settings (KubeletConfiguration v1beta1).").since(10),
    flag("config-dir", "Directory of drop-ins for that file.").since(28),
    flag("kubeconfig", "How to reach the API server; written after the bootstrap. Since 1.10 this flag makes the kubelet join a cluster."),
    flag("bootstrap-kubeconfig", "Credentials that may only request a certificate.").since(7),
    flag("experimental-bootstrap-kubeconfig", "The name of --bootstrap-kubeconfig before 1.7.").deprecated(7).removed(23),
    flag("require-kubeconfig", "Take the API server's address from the kubeconfig. Since 1.8, --kubeconfig alone is enough.").deprecated(8).removed(10),
    flag("api-servers", "The API server's address, before kubeconfig files contained it.").deprecated(6).removed(8),
    flag("cert-dir", "Directory of the client and the serving certificate."),
    flag("hostname-override", "The name of the Node object. kube-proxy must have the same name; otherwise it finds no node and writes no rules. There is no field for it, so it is a flag in all releases."),
    flag("node-ip", "The address of the node in the Node object."),
    flag("root-dir", "Directory of pods and volumes."),
    flag("node-labels", "Labels of the Node object."),
    flag("v", "Log verbosity. The flag remains beside the field logging.verbosity."),
    flag("logtostderr", "Log to standard error. There is no other target any more; 1.26 refuses the flag.").deprecated(23).removed(26),
    flag("address", "The address at which pods and the API server reach the kubelet; it must not be a loopback address.").moved("address"),
    flag("cluster-dns", "The DNS server for pods; it has no effect without --cluster-domain.").moved("clusterDNS"),
    flag("cluster-domain", "The domain of services; it has no effect without --cluster-dns.").moved("clusterDomain"),
    flag("hairpin-mode", "How a pod reaches itself through a service. promiscuous-bridge works only with kubenet; without kubenet the kubelet logs a warning and uses hairpin-veth.").moved("hairpinMode"),
    flag("serialize-image-pulls", "Pull one image at a time. false needs another storage driver than aufs.").moved("serializeImagePulls"),
    flag("client-ca-file", "CA for client certificates at the kubelet's API. Without it, no client certificate is accepted.").moved("authentication.x509.clientCAFile"),
    flag("anonymous-auth", "Whether the API allows anonymous requests. The default is true for the flag and false for the field.").moved("authentication.anonymous.enabled"),
    flag("authentication-token-webhook", "Ask the API server for the user of a token.").moved("authentication.webhook.enabled"),
    flag("authorization-mode", "Who may use the kubelet's API. The default of the flag is AlwaysAllow: every client that reaches port 10250 can run commands in every pod.").moved("authorization.mode"),
    flag("read-only-port", "A second port, 10255, with read access for every client. 0 closes it.").moved("readOnlyPort"),
    flag("cadvisor-port", "A third port, 4194, on all addresses. 0 closes it; removed in 1.12.").deprecated(10).removed(12),
    flag("cgroup-driver", "Must be the same as the runtime's; otherwise containers do not start.").moved("cgroupDriver"),
    flag("resolv-conf", "The resolv.conf for pods that use the host's DNS.").moved("resolvConf"),
    flag("feature-gates", "Enables features that are off by default in a release.").moved("featureGates"),
    flag("fail-swap-on", "Refuse to start with swap. The default is true since 1.8.").since(8).moved("failSwapOn"),
    flag("rotate-certificates", "Renew the client certificate before it expires; without it the node is lost after a year.").since(8).deprecated(11).in_file("rotateCertificates", 11),
    flag("rotate-server-certificates", "Request a serving certificate from the cluster instead of a self-signed one. Each request must be approved by hand.").since(11).deprecated(11).in_file("serverTLSBootstrap", 11),
    flag("allow-privileged", "Allow privileged pods. The default is true since 1.11; later, admission decides.").deprecated(10).removed(15),
    flag("register-node", "Create the Node object. The default is true.").deprecated(23).in_file("registerNode", 23),
    flag("pod-infra-container-image", "The image that holds a pod's namespaces. With dockershim the kubelet pulls it; otherwise the runtime does, and has its own setting.").deprecated(24).removed(35),
    flag("container-runtime", "docker or remote. Since 1.24 only remote; 1.27 refuses the flag.").deprecated(24).removed(27),
    flag("container-runtime-endpoint", "The runtime's socket. The default is containerd's since 1.24.").deprecated(27).in_file("containerRuntimeEndpoint", 27),
    flag("image-service-endpoint", "The socket for images, if it is a different one.").deprecated(27).in_file("imageServiceEndpoint", 27),
    flag("network-plugin", "The network of pods with dockershim: empty for docker's bridge, cni for CNI. Removed with dockershim.").deprecated(21).removed(24),
    flag("cni-conf-dir", "Where dockershim finds the CNI configuration.").deprecated(21).removed(24),
    flag("cni-bin-dir", "Where dockershim finds CNI plugins.").deprecated(21).removed(24),
    flag("network-plugin-mtu", "MTU for kubenet.").deprecated(21).removed(24),
    flag("docker-endpoint", "The socket of docker for dockershim.").deprecated(21).removed(24),
    flag("image-pull-progress-deadline", "Timeout of dockershim for pulling an image.").deprecated(21).removed(24),
    flag("non-masquerade-cidr", "The network that kubenet does not masquerade. For kubenet only.").deprecated(7).removed(24),
];

pub const KUBE_PROXY: &[Flag] = &[
    flag("config", "The file with all other settings (KubeProxyConfiguration v1alpha1). With it, most flags are ignored. kube-proxy exits when the file is written, and its unit starts it again.").since(7),
    flag("kubeconfig", "How to reach the API server.").in_file("clientConnection.kubeconfig", 10),
    flag("bind-address", "The node's address. Recent releases do not bind a socket to it.").in_file("bindAddress", 10),
    flag("hostname-override", "The name of the Node object, the same as the kubelet's; otherwise kube-proxy finds no node and writes no rules.").in_file("hostnameOverride", 10),
    flag("cluster-cidr", "The network of the pods: packets to a service from other sources are masqueraded. With the network of the services instead, all packets of pods are masqueraded, and no service sees a pod's address.").in_file("clusterCIDR", 10),
    flag("masquerade-all", "Masquerade all packets to services.").in_file("iptables.masqueradeAll", 10),
    flag("feature-gates", "Enables features that are off by default in a release.").in_file("featureGates", 10),
    flag("proxy-mode", "iptables, nftables (available since 1.31), or ipvs (discouraged since 1.35).").in_file("mode", 10),
    flag("metrics-bind-address", "Address of the metrics endpoint.").since(7).in_file("metricsBindAddress", 10),
    flag("healthz-bind-address", "Address of the health endpoint.").in_file("healthzBindAddress", 10),
    flag("v", "Log verbosity. It also applies with --config."),
    flag("logtostderr", "Log to standard error. There is no other target any more; 1.26 refuses the flag.").deprecated(23).removed(26),
    flag("resource-container", "A cgroup for kube-proxy.").deprecated(6).removed(16),
    flag("cleanup-iptables", "Remove the rules and exit. Now --cleanup.").deprecated(8).removed(15),
    flag("udp-timeout", "For the userspace mode, which was removed.").removed(26),
    flag("init-only", "Do what needs privileges, and exit.").since(29),
    flag("detect-local-mode", "How to distinguish pods of this node from other sources.").since(18).in_file("detectLocalMode", 18),
];
