//! Quotes the tutorial's sentences about a topic. Pure.

const SENTENCES: &[(&str, &str)] = &[
    (
        "address",
        "--address 不能设置为127.0.0.1,否则后续 Pods 访问 kubelet 的 API 接口时会失败",
    ),
    (
        "hostname-override",
        "如果设置了 --hostname-override 选项,则 kube-proxy 也需要设置该选项,否则会出现找不到 Node 的情况",
    ),
    (
        "hostname-override",
        "--hostname-override 参数值必须与 kubelet 的值一致,否则 kube-proxy 启动后会找不到该 Node,从而不会创建任何 iptables 规则",
    ),
    (
        "experimental-bootstrap-kubeconfig",
        "--experimental-bootstrap-kubeconfig 指向 bootstrap kubeconfig 文件,kubelet 使用该文件中的用户名和 token 向 kube-apiserver 发送 TLS Bootstrapping 请求",
    ),
    (
        "cert-dir",
        "管理员通过了 CSR 请求后,kubelet 自动在 --cert-dir 目录创建证书和私钥文件,然后写入 --kubeconfig 文件",
    ),
    (
        "require-kubeconfig",
        "如果未指定 --api-servers 选项,则必须指定 --require-kubeconfig 选项后才从配置文件中读取 kue-apiserver 的地址",
    ),
    (
        "api-servers",
        "如果未指定 --api-servers 选项,则必须指定 --require-kubeconfig 选项后才从配置文件中读取 kue-apiserver 的地址",
    ),
    (
        "cluster-dns",
        "--cluster_dns 指定 kubedns 的 Service IP, --cluster_domain 指定域名后缀,这两个参数同时指定后才会生效",
    ),
    (
        "cluster-domain",
        "--cluster_dns 指定 kubedns 的 Service IP, --cluster_domain 指定域名后缀,这两个参数同时指定后才会生效",
    ),
    (
        "cluster-cidr",
        "kube-proxy 根据 --cluster-cidr 判断集群内部和外部流量,指定 --cluster-cidr 或 --masquerade-all 选项后 kube-proxy 才会对访问 Service IP 的请求做 SNAT",
    ),
    (
        "masquerade-all",
        "指定 --cluster-cidr 或 --masquerade-all 选项后 kube-proxy 才会对访问 Service IP 的请求做 SNAT",
    ),
    (
        "pod-cidr",
        "写入的网段(172.30.0.0/16) 必须与 kube-controller-manager 的 --cluster-cidr 选项值一致",
    ),
    (
        "network-config",
        "写入的网段(172.30.0.0/16) 必须与 kube-controller-manager 的 --cluster-cidr 选项值一致",
    ),
    ("etcd-v3", "使用 etcd v3 API 和存储格式"),
    ("etcd-v3", "flanneld 兼容 etcd v2 和 etcd v3 版本"),
    (
        "etcd-cafile",
        "etcd 集群启用了双向 TLS 认证,所以需要为 flanneld 指定与 etcd 集群通信的 CA 和秘钥",
    ),
    (
        "iface",
        "-iface 选项值指定 flanneld 和其它 Node 通信的接口,如果机器有内、外网,则最好指定为内网接口",
    ),
    (
        "docker-env-file",
        "dockerd 命令行上指定该变量值来设置 docker0 网桥参数",
    ),
    (
        "docker.service.d/flannel.conf",
        "后续 docker 启动时使用这个文件中参数值设置 docker0 网桥",
    ),
    (
        "docker-path",
        "dockerd 运行时会调用其它 docker 命令,如 docker-proxy,所以需要将 docker 命令所在的目录加到 PATH 环境变量中",
    ),
    (
        "masquerade",
        "不能关闭默认开启的 --iptables 和 --ip-masq 选项",
    ),
    (
        "sysctl.d/99-flannel.conf",
        "docker 从 1.13 版本开始,可能将 iptables FORWARD chain的默认策略设置为DROP,从而导致 ping 其它 Node 上的 Pod IP 失败",
    ),
    (
        "/docker/daemon.json",
        "为了加快 pull image 的速度,可以使用国内的仓库镜像服务器,同时增加下载的并发数。(如果 dockerd 已经运行,则需要重启 dockerd 生效。)",
    ),
    ("registry-mirrors", "可以使用国内的仓库镜像服务器"),
    (
        "firewall",
        "需要关闭 firewalld,否则可能会重复创建的 iptables 规则",
    ),
    ("firewall", "最好清理旧的 iptables rules 和 chains 规则"),
    (
        "kubelet-bootstrap.yaml",
        "需要先将 bootstrap token 文件中的 kubelet-bootstrap 用户赋予 system:node-bootstrapper cluster 角色(role)",
    ),
    (
        "bootstrap-user",
        "--user=kubelet-bootstrap 是在/etc/kubernetes/token.csv 文件中指定的用户名,同时也写入了/etc/kubernetes/bootstrap.kubeconfig 文件",
    ),
    (
        "kubelet-renewal.yaml",
        "kubelet 首次启动时向 kube-apiserver 发送证书签名请求,必须通过后 kubernetes 系统才会将该 Node 加入到集群",
    ),
];

/// Returns the sentences about a topic, or about the file whose path ends in it.
pub(super) fn about(topic: &str) -> impl Iterator<Item = &'static str> {
    let about = move |name: &str| {
        name == topic
            || name.contains(['/', '.'])
                && (topic.ends_with(name) || name.ends_with(&format!("/{topic}")))
    };
    SENTENCES
        .iter()
        .filter(move |(name, _)| about(name))
        .map(|(_, sentence)| *sentence)
}

#[cfg(test)]
pub(super) fn topics() -> impl Iterator<Item = &'static str> {
    SENTENCES.iter().map(|(topic, _)| *topic)
}
