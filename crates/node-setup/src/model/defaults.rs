//! Fills in defaults of settings. Pure.

use super::addresses;
use crate::Error;
use crate::settings::Settings;
use crate::versions::KubeVersion;

/// The tutorial's pause image.
const DOCUMENT_PAUSE: &str = "registry.access.redhat.com/rhel7/pod-infrastructure:latest";

/// Returns all settings that have a default.
pub(super) fn complete(mut given: Settings) -> Result<Settings, Error> {
    given.fill("style", "recommended");
    let document = given.text("style") == Some("document");
    let newest = KubeVersion::NEWEST.to_string();
    given.fill("kubernetes-version", either(document, "1.6", &newest));
    let version = version(&given)?;
    programs(&mut given, document, version);
    places(&mut given, document);
    addresses(&mut given, document)?;
    etcd(&mut given);
    options(&mut given, document, version);
    Ok(given)
}

pub(super) fn version(settings: &Settings) -> Result<KubeVersion, Error> {
    let text = settings.text("kubernetes-version").unwrap_or_default();
    text.parse()
        .map_err(|why: String| Error::setting("kubernetes-version", why))
}

/// Returns one of two defaults, mostly that of style document or of style recommended.
const fn either<'a>(first: bool, one: &'a str, other: &'a str) -> &'a str {
    if first { one } else { other }
}

fn programs(given: &mut Settings, document: bool, version: KubeVersion) {
    let shim = version < KubeVersion::NO_DOCKERSHIM;
    given.fill("services", ["flanneld", "docker", "kubelet", "kube-proxy"]);
    let prefers_docker = shim || document;
    given.fill("runtime", either(prefers_docker, "docker", "containerd"));
    let docker = given.text("runtime") == Some("docker");
    if document {
        given.fill("docker-version", "17.04");
    }
    let on_bridge = docker && prefers_docker;
    given.fill("pod-network", either(on_bridge, "bip", "cni"));
}

fn places(given: &mut Settings, document: bool) {
    let programs = either(document, "/root/local/bin", "/usr/local/bin");
    given.fill("bin-dir", programs);
    given.fill("kubernetes-dir", "/etc/kubernetes");
    let kubernetes = given.text("kubernetes-dir").unwrap_or_default();
    given.fill(
        "ssl-dir",
        format!("{}/ssl", kubernetes.trim_end_matches('/')),
    );
}

fn addresses(given: &mut Settings, document: bool) -> Result<(), Error> {
    if let Some(ip) = given.text("node-ip").map(str::to_owned) {
        given.fill("node-name", ip);
    }
    given.fill("pod-cidr", "172.30.0.0/16");
    given.fill("service-cidr", "10.254.0.0/16");
    let services = addresses::cidr(given, "service-cidr")?;
    given.fill(
        "cluster-dns",
        services.nth(2).map(|ip| ip.to_string()).unwrap_or_default(),
    );
    let domain = either(document, "cluster.local.", "cluster.local");
    given.fill("cluster-domain", domain);
    let pods = addresses::cidr(given, "pod-cidr")?;
    let backend = given.text("backend").unwrap_or("vxlan");
    let config = format!(
        "{{\"Network\":\"{pods}\",\"SubnetLen\":24,\"Backend\":{{\"Type\":\"{backend}\"}}}}"
    );
    given.fill("network-config", config);
    Ok(())
}

fn etcd(given: &mut Settings) {
    given.fill("etcd-prefix", "/kubernetes/network");
    given.fill("allow-insecure-etcd", false);
    let https = given
        .list("etcd-endpoints")
        .iter()
        .any(|url| url.starts_with("https://"));
    let ssl = given
        .text("ssl-dir")
        .unwrap_or_default()
        .trim_end_matches('/')
        .to_owned();
    given.fill("client-ca-file", format!("{ssl}/ca.pem"));
    if https {
        given.fill("etcd-cafile", format!("{ssl}/ca.pem"));
        given.fill("etcd-certfile", format!("{ssl}/kubernetes.pem"));
        given.fill("etcd-keyfile", format!("{ssl}/kubernetes-key.pem"));
    }
}

fn options(given: &mut Settings, document: bool, version: KubeVersion) {
    given.fill("masquerade", !document);
    given.fill("docker-wait", false);
    given.fill("secure-kubelet", !document);
    given.fill("server-tls-bootstrap", false);
    given.fill("bootstrap-user", "kubelet-bootstrap");
    let pause = either(document, DOCUMENT_PAUSE, pause_image(version));
    given.fill("pause-image", pause);
    if document {
        if given.text("iface").is_none() {
            given.fill("flannel-options", ["-iface=eth0"]);
        }
        given.fill(
            "registry-mirrors",
            [
                "https://docker.mirrors.ustc.edu.cn",
                "https://hub-mirror.c.163.com",
            ],
        );
        given.fill("max-concurrent-downloads", "10");
    } else {
        given.fill("cgroup-driver", "systemd");
        given.fill("proxy-mode", "iptables");
    }
}

/// Returns the image that the release's kubelet has as its default; since 1.34, which has none, that of its kubeadm.
fn pause_image(version: KubeVersion) -> &'static str {
    const IMAGES: [(u16, &str); 12] = [
        (36, "registry.k8s.io/pause:3.10.2"),
        (34, "registry.k8s.io/pause:3.10.1"),
        (31, "registry.k8s.io/pause:3.10"),
        (26, "registry.k8s.io/pause:3.9"),
        (25, "registry.k8s.io/pause:3.8"),
        (23, "k8s.gcr.io/pause:3.6"),
        (22, "k8s.gcr.io/pause:3.5"),
        (21, "k8s.gcr.io/pause:3.4.1"),
        (19, "k8s.gcr.io/pause:3.2"),
        (12, "k8s.gcr.io/pause:3.1"),
        (10, "gcr.io/google_containers/pause-amd64:3.1"),
        (0, "gcr.io/google_containers/pause-amd64:3.0"),
    ];
    IMAGES
        .iter()
        .find(|(since, _)| *since <= version.0)
        .map_or("", |(_, image)| image)
}
