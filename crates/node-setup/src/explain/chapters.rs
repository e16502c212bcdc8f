//! What there is to say of files and warnings, a row each: pure.

use super::Chapter;

const fn row(topic: &'static str, when: &'static str, why: &'static str) -> Chapter {
    Chapter { topic, when, why }
}

const DOCUMENT: &str = "style document; recommended does otherwise";
const ALWAYS: &str = "always";
const BRIDGE: &str = "docker with pods on its own bridge (pod-network bip)";

/// All of them.
pub(super) const ALL: &[Chapter] = &[
    row(
        "flanneld.service",
        ALWAYS,
        "The overlay's daemon. It says that it is ready once lease, device and files are there, and what is Before= waits for that. It is started again always and for ever: packets flow without it, but peers that come and go are missed. /run/flannel is kept over restarts (RuntimeDirectoryPreserve=): CNI and docker read it. It has one capability and a sandbox. In the document's style none of that.",
    ),
    row(
        "docker.service",
        "docker without a package's unit, or style document",
        "For binaries unpacked by hand. A file in /etc hides what a package brings, so where there is a package only a drop-in is written.",
    ),
    row(
        "docker.service.d/flannel.conf",
        BRIDGE,
        "Wants= and After= instead of Requires=: a crash or restart of flanneld does not restart docker. EnvironmentFile= without its dash: without a subnet docker fails, and is tried again until there is one, instead of taking 172.17.0.0/16 on every host. The command line is the package's with the options at its end; the head has the package's own, so that `check` sees when an update changes it.",
    ),
    row(
        "/docker/daemon.json",
        "docker, where something is to be said there",
        "Mirrors, parallel downloads and the cgroup driver are merged into what is there: everything else keeps its place. dockerd does not start if an option is on its command line as well, even with the same value. So flags in docker's unit and in its environment files are read: an option that they already set as asked for is not written here, and another value is refused. Mirrors and downloads follow a reload, the cgroup driver a restart.",
    ),
    row(
        "kubelet.service",
        ALWAYS,
        "The node's agent. It wants its runtime and does not require it: it waits by itself, and a restart of the runtime does not take it along. No sandbox, which would hide the volumes of pods from the host.",
    ),
    row(
        "kubelet.yaml",
        "Kubernetes 1.10 and later",
        "KubeletConfiguration v1beta1: flags that it has a field for have been deprecated since 1.10. Misspelt fields are ignored by the kubelet, so every field here comes from the table of releases. Its defaults are safer than those of the flags; they are written down anyway.",
    ),
    row(
        "kube-proxy.service",
        ALWAYS,
        "The addresses of services. Restart=always: kube-proxy ends when its configuration is written, and counts on being started again. So an unchanged file is never written.",
    ),
    row(
        "kube-proxy.yaml",
        "Kubernetes 1.10 and later",
        "KubeProxyConfiguration v1alpha1. clusterCIDR is the network of the pods, hostnameOverride the kubelet's.",
    ),
    row(
        "cri-docker.service",
        "docker with Kubernetes 1.24 and later",
        "dockershim is gone: cri-dockerd stands between kubelet and docker.",
    ),
    row(
        "cri-docker.socket",
        "docker with Kubernetes 1.24 and later",
        "Where the kubelet finds cri-dockerd: /run/cri-dockerd.sock.",
    ),
    row(
        "containerd.service",
        "containerd without a package's unit",
        "For binaries unpacked by hand.",
    ),
    row(
        "containerd/config.toml",
        "containerd, unless there is one of somebody else's",
        "SystemdCgroup has to agree with the kubelet's cgroupDriver. The pause image is the runtime's since 1.24. containerd 2 has other names for tables (version 3 of the file) and understands the old ones, which containerd 1 needs: the new ones are written only if containerd-version says so.",
    ),
    row(
        "hosts.toml",
        "containerd with mirrors",
        "Mirrors of Docker Hub for containerd.",
    ),
    row(
        "10-flannel.conf",
        "pod-network cni with Kubernetes 1.6",
        "The same as 10-flannel.conflist for a kubelet that reads no lists: *.conflist is read from 1.7 on. The plugin portmap cannot be added, so pods have no hostPort.",
    ),
    row(
        "10-flannel.conflist",
        "pod-network cni",
        "How pods get their network: the plugin flannel reads /run/flannel/subnet.env and hands on to bridge and host-local. The programs are in /opt/cni/bin.",
    ),
    row(
        "10-flannel.link",
        ALWAYS,
        "systemd 242 and later give new virtual devices a MAC of their own making. Peers send to the MAC that the lease has.",
    ),
    row(
        "10-flannel.network",
        "hosts with systemd-networkd",
        "networkd leaves the device to flanneld.",
    ),
    row(
        "60-flannel.conf",
        "hosts with NetworkManager",
        "NetworkManager leaves flannel's and the pods' devices alone. += keeps what others have listed.",
    ),
    row(
        "sysctl.d/99-flannel.conf",
        ALWAYS,
        "Forwarding, and bridged packets through iptables. Forwarding is on before docker starts: docker sets the policy of FORWARD to DROP only if it is the one to switch it on. So no policy has to be changed by hand, and none is.",
    ),
    row(
        "modules-load.d/flannel.conf",
        ALWAYS,
        "vxlan, br_netfilter (its sysctl keys exist only with it) and overlay, at boot and before sysctl.",
    ),
    row(
        "tmpfiles.d/flannel.conf",
        ALWAYS,
        "The directories that units start in. A missing WorkingDirectory= is status 200/CHDIR, and no ExecStartPre= can make it, for that starts there too.",
    ),
    row(
        "kubelet-bootstrap.yaml",
        "once per cluster",
        "Lets the bootstrap user ask for certificates. A manifest: kubectl create fails the second time, kubectl apply does not. rbac v1beta1 before 1.8.",
    ),
    row(
        "kubelet-renewal.yaml",
        "once per cluster, Kubernetes 1.8 and later",
        "Lets nodes that have a certificate renew it. Joining still has to be approved.",
    ),
    row(
        "cluster-cidr",
        ALWAYS,
        "kube-proxy masquerades what does not come from there on its way to a service. With the services' network instead of the pods', every pod is a stranger: no service sees a pod's address. pod-cidr feeds flannel's Network and kube-proxy alike, and must be kube-controller-manager's --cluster-cidr.",
    ),
    row(
        "kubelet-directory",
        "style document",
        "The document makes /var/lib/kublet and its unit starts in /var/lib/kubelet: status 200/CHDIR. The directory of the unit is made.",
    ),
    row(
        "registry-mirrors",
        ALWAYS,
        "A mirror without http(s):// makes docker 17.04 drop all mirrors in silence, and later releases not start. After a change `systemctl reload docker` is enough.",
    ),
    row(
        "required-by",
        DOCUMENT,
        "RequiredBy=docker.service: a first start of flanneld that fails cancels docker's start, which is not tried again; a crash or restart of flanneld restarts docker with every container; the kubelet's Requires=docker.service goes along. Wants= and After= with a mandatory EnvironmentFile= do what is meant.",
    ),
    row(
        "start-limits",
        DOCUMENT,
        "Without RestartSec= five failures within a second are the end. With Type=notify and the default TimeoutStartSec= systemd kills flanneld while it waits for etcd. recommended has RestartSec=5, StartLimitIntervalSec=0, TimeoutStartSec=infinity.",
    ),
    row(
        "docker-env-file",
        DOCUMENT,
        "The dash of EnvironmentFile=- means: never mind if it is not there. Then docker takes 172.17.0.0/16, as on every other host, and pods get addresses that nobody routes.",
    ),
    row(
        "docker-ready",
        DOCUMENT,
        "dockerd says when it is ready since long before 17.04; Type=notify is how systemd hears it.",
    ),
    row(
        "docker-path",
        DOCUMENT,
        "PATH has /usr/bin twice and no /sbin. Where /sbin is not /usr/sbin, dockerd finds no iptables.",
    ),
    row(
        "docker-limits",
        DOCUMENT,
        "infinity is a thousand million descriptors on systemd 240 and later; programs that close all of them one by one take minutes. Docker's own unit has dropped it.",
    ),
    row(
        "hairpin-mode",
        DOCUMENT,
        "promiscuous-bridge needs kubenet. Without it the kubelet logs a warning and does hairpin-veth, which recommended says at once.",
    ),
    row(
        "cluster-domain",
        DOCUMENT,
        "The dot ends up in the search lists of pods as default.svc.cluster.local., which some resolvers and certificates do not agree with.",
    ),
    row(
        "firewall",
        "style document",
        "Nothing here flushes rules, sets policies or stops a firewall: that would cut connections, rules of others and a running kube-proxy, and be gone after the next boot. `node-setup check` says what is in the way.",
    ),
    row(
        "etcd-v3",
        "style document",
        "flannel before 0.18 read etcd's v2 store and never saw what was written with v3. This daemon speaks v3 only. The key is PREFIX/config: what is at the prefix itself is read by nobody.",
    ),
    row(
        "bin-dir",
        ALWAYS,
        "/root is closed to others, services may not run programs there under SELinux, and ProtectHome= would hide them.",
    ),
    row(
        "kubernetes-version",
        ALWAYS,
        "A release that is newer than the table is treated like the newest one in it.",
    ),
    row(
        "systemd-version",
        "systemd before 247",
        "Units are written for one version of systemd: this host's, unless systemd-version names another one. An older version ignores directives that it does not know, and some values stop the service: before 239 SystemCallFilter=@system-service allows almost no system call, before 229 TimeoutStartSec=infinity expires at once. Units for such a version leave these out or use what that version has instead: StartLimitInterval= in [Service], ProtectSystem=full, and tmpfiles.d and ExecStartPre= for the directories.",
    ),
    row(
        "from-env",
        "--from-env",
        "Names the exported variables of the document and of its later versions that no setting is made of, and those whose setting a flag or the file gives.",
    ),
    row(
        "cgroup-v1",
        "Kubernetes before 1.19",
        "Old kubelets (and docker before 20.10) know only version 1 of cgroups. systemd refuses it since 256 and has dropped it in 258: such a node needs an old distribution.",
    ),
    row(
        "etcd-identity",
        ALWAYS,
        "The document copies the API server's own key to every node, and flanneld uses it. Whoever takes over one node is then the API server. A certificate for flanneld alone needs clientAuth and nothing else.",
    ),
    row(
        "kubelet-open",
        "style document, or secure-kubelet = false",
        "The flags' defaults let everybody in: anonymous-auth true, authorization-mode AlwaysAllow, read-only port 10255, cAdvisor 4194. secure-kubelet needs client-ca-file, and the API server needs --kubelet-client-certificate and a binding to system:kubelet-api-admin.",
    ),
    row(
        "pause-image",
        ALWAYS,
        "The image that holds a pod's namespaces. latest may be another one tomorrow, and that of the document wants a subscription.",
    ),
    row(
        "proxy-ipvs",
        "Kubernetes 1.35 and later",
        "ipvs is discouraged since 1.35; nftables is offered since 1.31.",
    ),
    row(
        "masquerade",
        ALWAYS,
        "Exactly one of flanneld and docker masquerades. docker alone hides the addresses of pods from pods of other hosts; flanneld knows the overlay and leaves it out. What flanneld does is in subnet.env, and the options it writes tell docker the opposite.",
    ),
    row(
        "docker-direct-routing",
        "Docker Engine 28 and later with pods on its own bridge",
        "Since 28.0 docker drops what comes to containers on any interface but its bridge: packets from other hosts. 28.2 and later have --allow-direct-routing, 28.0.2 and later an environment variable; ports that are not published need a rule in DOCKER-USER besides, which docker's unit adds after the start. Containers that Kubernetes runs are better off with CNI.",
    ),
    row(
        "docker-28.0",
        "Docker Engine 28.0.0 and 28.0.1 with pods on its own bridge",
        "These two have no way to allow direct routing. 28.0.2 and later have the environment variable DOCKER_INSECURE_NO_IPTABLES_RAW, which docker's unit sets.",
    ),
    row(
        "docker-iptables",
        "daemon.json with \"iptables\": false, pods on docker's own bridge",
        "docker then writes no rules at all: it publishes no ports and masquerades nothing. Pods still reach each other and the outside, because flanneld's own rules forward and masquerade (masquerade = true). Guides that set up Kubernetes from scratch ask for it.",
    ),
    row(
        "docker-live-restore",
        "daemon.json with live-restore, pods on docker's own bridge",
        "Containers that outlive dockerd keep addresses of the old subnet.",
    ),
    row(
        "docker-unit",
        "style document on a host with docker's package",
        "A file in /etc takes the place of the package's. recommended writes a drop-in instead.",
    ),
    row(
        "containerd-config",
        "containerd with a configuration of somebody else's",
        "It is not touched.",
    ),
    row(
        "flanneld-flags",
        ALWAYS,
        "What flanneld itself says to its command line.",
    ),
];
