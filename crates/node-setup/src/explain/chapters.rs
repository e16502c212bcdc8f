//! Explains files and warnings, one row each. Pure.

use super::Chapter;

const fn row(topic: &'static str, when: &'static str, why: &'static str) -> Chapter {
    Chapter { topic, when, why }
}

const DOCUMENT: &str = "style document; style recommended differs";
const ALWAYS: &str = "always";
const BRIDGE: &str = "docker with pods on its own bridge (pod-network bip)";

pub(super) const ALL: &[Chapter] = &[
    row(
        "flanneld.service",
        ALWAYS,
        "The overlay's daemon. It reports readiness when the lease, the device, and the files exist, and the units in Before= wait for that. systemd restarts it without limit: packets flow without it, but changes of peers are missed. /run/flannel is kept over restarts (RuntimeDirectoryPreserve=), because CNI and docker read it. The daemon has one capability and a sandbox. Style document has none of this.",
    ),
    row(
        "docker.service",
        "docker without a package's unit, or style document",
        "For binaries that were unpacked by hand. A file in /etc hides the file of a package, so on a host with a package only a drop-in is written.",
    ),
    row(
        "docker.service.d/flannel.conf",
        BRIDGE,
        "It uses Wants= and After= instead of Requires=, so a crash or restart of flanneld does not restart docker. EnvironmentFile= has no dash: without a subnet docker fails and is started again until there is one, instead of using 172.17.0.0/16 on every host. The command line is the package's with options added at its end. The header of the file records the package's command line, so `check` notices when an update changes it.",
    ),
    row(
        "/docker/daemon.json",
        "docker, if it needs settings in this file",
        "Mirrors, parallel downloads, and the cgroup driver are merged into the existing file; everything else keeps its place. dockerd does not start if an option is also on its command line, even with the same value. So the flags in docker's unit and in its environment files are read: an option that they set to the same value is not written here, and a different value is refused. Mirrors and downloads take effect after a reload, the cgroup driver after a restart.",
    ),
    row(
        "kubelet.service",
        ALWAYS,
        "The node's agent. It wants its runtime but does not require it: it waits for the runtime by itself, and a restart of the runtime does not restart it. It has no sandbox, which would hide the volumes of pods from the host.",
    ),
    row(
        "kubelet.yaml",
        "Kubernetes 1.10 and later",
        "KubeletConfiguration v1beta1. Flags with a field in this file have been deprecated since 1.10. The kubelet ignores misspelled fields, so every field comes from the table of releases. The defaults of the fields are safer than those of the flags; they are written anyway.",
    ),
    row(
        "kube-proxy.service",
        ALWAYS,
        "The addresses of services. Restart=always, because kube-proxy exits when its configuration file is written and expects to be restarted. So an unchanged file is never written.",
    ),
    row(
        "kube-proxy.yaml",
        "Kubernetes 1.10 and later",
        "KubeProxyConfiguration v1alpha1. clusterCIDR is the network of the pods; hostnameOverride is the same as the kubelet's.",
    ),
    row(
        "cri-docker.service",
        "docker with Kubernetes 1.24 and later",
        "Kubernetes 1.24 removed dockershim. cri-dockerd connects the kubelet with docker.",
    ),
    row(
        "cri-docker.socket",
        "docker with Kubernetes 1.24 and later",
        "The socket of cri-dockerd for the kubelet: /run/cri-dockerd.sock.",
    ),
    row(
        "containerd.service",
        "containerd without a package's unit",
        "For binaries that were unpacked by hand.",
    ),
    row(
        "containerd/config.toml",
        "containerd, unless another program wrote the file",
        "SystemdCgroup must agree with the kubelet's cgroupDriver. Since 1.24 the runtime chooses the pause image. containerd 2 has other names for tables (version 3 of the file) and understands the old names, which containerd 1 needs: the new names are written only if containerd-version says so.",
    ),
    row(
        "hosts.toml",
        "containerd with mirrors",
        "Mirrors of Docker Hub for containerd.",
    ),
    row(
        "10-flannel.conf",
        "pod-network cni with Kubernetes 1.6",
        "The same as 10-flannel.conflist, for a kubelet that does not read lists: the kubelet reads *.conflist since 1.7. The plugin portmap cannot be added, so pods have no hostPort.",
    ),
    row(
        "10-flannel.conflist",
        "pod-network cni",
        "The network of pods: the plugin flannel reads /run/flannel/subnet.env and calls bridge and host-local. The programs are in /opt/cni/bin.",
    ),
    row(
        "10-flannel.link",
        ALWAYS,
        "systemd 242 and later assign a generated MAC to new virtual devices, but peers send packets to the MAC in the lease. This file disables that.",
    ),
    row(
        "10-flannel.network",
        "hosts with systemd-networkd",
        "It makes networkd leave the device to flanneld.",
    ),
    row(
        "60-flannel.conf",
        "hosts with NetworkManager",
        "It makes NetworkManager ignore the devices of flannel and of pods. += keeps the existing entries of the list.",
    ),
    row(
        "sysctl.d/99-flannel.conf",
        ALWAYS,
        "It enables forwarding, and iptables for bridged packets. Forwarding is enabled before docker starts, because docker sets the FORWARD policy to DROP only if it enables forwarding itself. So no policy has to be changed by hand.",
    ),
    row(
        "modules-load.d/flannel.conf",
        ALWAYS,
        "It loads vxlan, br_netfilter (without which its sysctls do not exist), and overlay, at boot and before sysctl.",
    ),
    row(
        "tmpfiles.d/flannel.conf",
        ALWAYS,
        "It creates the directories in which units start. A missing WorkingDirectory= causes status 200/CHDIR, and ExecStartPre= cannot create it, because it starts in the same directory.",
    ),
    row(
        "kubelet-bootstrap.yaml",
        "once per cluster",
        "It lets the bootstrap user request certificates. It is a manifest, because kubectl create fails the second time and kubectl apply does not. It uses rbac v1beta1 before 1.8.",
    ),
    row(
        "kubelet-renewal.yaml",
        "once per cluster, Kubernetes 1.8 and later",
        "It lets nodes with a certificate renew it. Joining still has to be approved.",
    ),
    row(
        "cluster-cidr",
        ALWAYS,
        "kube-proxy masquerades packets to a service unless they come from this network. If it is set to the network of the services instead of the pods, all packets of pods are masqueraded, and no service sees a pod's address. pod-cidr sets both flannel's Network and this flag, and must be equal to kube-controller-manager's --cluster-cidr.",
    ),
    row(
        "kubelet-directory",
        "style document",
        "The tutorial creates /var/lib/kublet, but its unit starts in /var/lib/kubelet, which causes status 200/CHDIR. node-setup creates the directory of the unit.",
    ),
    row(
        "registry-mirrors",
        ALWAYS,
        "A mirror without http(s):// makes docker 17.04 drop all mirrors silently, and later releases do not start. After a change, `systemctl reload docker` is enough.",
    ),
    row(
        "required-by",
        DOCUMENT,
        "With RequiredBy=docker.service, a failed first start of flanneld cancels docker's start, which is not repeated; a crash or restart of flanneld restarts docker with all containers, and the kubelet, too, because of its Requires=docker.service. Wants= and After= with a mandatory EnvironmentFile= have the intended effect.",
    ),
    row(
        "start-limits",
        DOCUMENT,
        "Without RestartSec=, systemd gives up after five failures within a second. With Type=notify and the default TimeoutStartSec=, systemd kills flanneld while it waits for etcd. Style recommended has RestartSec=5, StartLimitIntervalSec=0, and TimeoutStartSec=infinity.",
    ),
    row(
        "docker-env-file",
        DOCUMENT,
        "The dash in EnvironmentFile=- means that the file may be missing. Then docker uses 172.17.0.0/16, as on every other host, and pods get addresses without a route.",
    ),
    row(
        "docker-ready",
        DOCUMENT,
        "dockerd has reported its readiness since long before 17.04; with Type=notify, systemd waits for that.",
    ),
    row(
        "docker-path",
        DOCUMENT,
        "PATH has /usr/bin twice and no /sbin. If /sbin is not /usr/sbin, dockerd does not find iptables.",
    ),
    row(
        "docker-limits",
        DOCUMENT,
        "On systemd 240 and later, infinity means a billion file descriptors; programs that close each of them take minutes. Docker's own unit no longer has this limit.",
    ),
    row(
        "hairpin-mode",
        DOCUMENT,
        "promiscuous-bridge needs kubenet. Without kubenet the kubelet logs a warning and uses hairpin-veth, which style recommended sets.",
    ),
    row(
        "cluster-domain",
        DOCUMENT,
        "The trailing dot ends up in the search list of pods as default.svc.cluster.local., which some resolvers and certificates do not accept.",
    ),
    row(
        "firewall",
        "style document",
        "node-setup does not flush rules, set policies, or stop a firewall: that would cut connections, remove rules of other programs and of a running kube-proxy, and not survive a reboot. `node-setup check` reports rules that block packets.",
    ),
    row(
        "etcd-v3",
        "style document",
        "flannel before 0.18 read etcd's v2 store and did not see what was written with v3. This daemon uses v3 only. The key is PREFIX/config; the daemon does not read PREFIX itself.",
    ),
    row(
        "bin-dir",
        ALWAYS,
        "Other users cannot read /root, SELinux does not let services run programs there, and ProtectHome= would hide them.",
    ),
    row(
        "kubernetes-version",
        ALWAYS,
        "A release that is newer than the table is treated like the newest one in the table.",
    ),
    row(
        "systemd-version",
        "systemd before 247",
        "Units are written for the version of systemd on this host, unless systemd-version names another one. An older version ignores directives that it does not know, and some values stop the service: before 239, SystemCallFilter=@system-service allows almost no system call; before 229, TimeoutStartSec=infinity expires at once. Units for such a version omit these directives or use what that version has instead: StartLimitInterval= in [Service], ProtectSystem=full, and tmpfiles.d and ExecStartPre= for the directories.",
    ),
    row(
        "from-env",
        "--from-env",
        "It names the exported variables of the tutorial and its later versions that set nothing, and those that a flag or the file overrides.",
    ),
    row(
        "cgroup-v1",
        "Kubernetes before 1.19",
        "Old kubelets (and docker before 20.10) support only control groups version 1. systemd refuses it since 256 and has removed it in 258, so such a node needs an old distribution.",
    ),
    row(
        "etcd-identity",
        ALWAYS,
        "The tutorial copies the API server's own key to every node, and flanneld uses it. So a compromised node can pose as the API server. A certificate for flanneld only needs clientAuth.",
    ),
    row(
        "kubelet-open",
        "style document, or secure-kubelet = false",
        "The defaults of the flags allow anonymous access: anonymous-auth true, authorization-mode AlwaysAllow, read-only port 10255, cAdvisor 4194. secure-kubelet needs client-ca-file, and the API server needs --kubelet-client-certificate and a binding to system:kubelet-api-admin.",
    ),
    row(
        "pause-image",
        ALWAYS,
        "The image that holds a pod's namespaces. latest may refer to another image tomorrow, and the tutorial's image requires a subscription.",
    ),
    row(
        "proxy-ipvs",
        "Kubernetes 1.35 and later",
        "ipvs is discouraged since 1.35; nftables is available since 1.31.",
    ),
    row(
        "masquerade",
        ALWAYS,
        "Exactly one of flanneld and docker masquerades. docker would hide the addresses of pods from pods on other hosts; flanneld exempts packets inside the overlay. The setting of flanneld is in subnet.env, and the options that it writes for docker say the opposite.",
    ),
    row(
        "docker-direct-routing",
        "Docker Engine 28 and later with pods on its own bridge",
        "Since 28.0 docker drops packets to containers that arrive on another interface than its bridge, such as packets from other hosts. 28.2 and later have --allow-direct-routing, 28.0.2 and later an environment variable. Ports that are not published also need a rule in DOCKER-USER, which docker's unit adds after the start. For containers of Kubernetes, CNI is the better choice.",
    ),
    row(
        "docker-28.0",
        "Docker Engine 28.0.0 and 28.0.1 with pods on its own bridge",
        "These two releases cannot allow direct routing. 28.0.2 and later have the environment variable DOCKER_INSECURE_NO_IPTABLES_RAW, which docker's unit sets.",
    ),
    row(
        "docker-iptables",
        "daemon.json with \"iptables\": false, pods on docker's own bridge",
        "docker then writes no rules: it publishes no ports and masquerades nothing. Pods still reach each other and external addresses, because flanneld's own rules forward and masquerade (masquerade = true). Some guides for Kubernetes from scratch recommend this setting.",
    ),
    row(
        "docker-live-restore",
        "daemon.json with live-restore, pods on docker's own bridge",
        "Containers that survive a restart of dockerd keep addresses of the old subnet.",
    ),
    row(
        "docker-unit",
        "style document on a host with docker's package",
        "A file in /etc replaces the package's file. Style recommended writes a drop-in instead.",
    ),
    row(
        "containerd-config",
        "containerd with a configuration that another program wrote",
        "node-setup does not change it.",
    ),
    row(
        "flanneld-flags",
        ALWAYS,
        "Warnings of flanneld about its own command line.",
    ),
];
