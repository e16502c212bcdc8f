//! Parses settings into a [`Model`]: each value by itself, then all together. Pure.

use std::net::IpAddr;

use ipnetwork::Ipv4Network;

use super::addresses::{cidr, domain, interface, needed, node_name, path, unicast};
use super::{
    Dirs, Engine, Etcd, Flannel, Kube, Model, Node, PodNetwork, Release, Runtime, Style, defaults,
};
use crate::settings::{SETTINGS, Setting, Settings};
use crate::versions::KubeVersion;
use crate::{Error, Service, argv};
use flanneld::backend;
use flanneld::subnet::net_config::NetworkConfig;

/// Parses each value by itself. `settings` are complete.
pub(super) fn read(settings: Settings) -> Result<Model, Error> {
    texts(&settings)?;
    Ok(Model {
        style: match needed(&settings, "style")? {
            "document" => Style::Document,
            _ => Style::Recommended,
        },
        kubernetes: defaults::version(&settings)?,
        services: services(&settings)?,
        runtime: match needed(&settings, "runtime")? {
            "docker" => Runtime::Docker,
            _ => Runtime::Containerd,
        },
        docker: release(&settings, "docker-version")?,
        docker_patch: settings.text("docker-version").and_then(patch),
        containerd: release(&settings, "containerd-version")?,
        systemd: settings
            .text("systemd-version")
            .map(|text| {
                text.parse()
                    .map_err(|why: String| Error::setting("systemd-version", why))
            })
            .transpose()?,
        pod_network: match needed(&settings, "pod-network")? {
            "bip" => PodNetwork::Bip,
            _ => PodNetwork::Cni,
        },
        dirs: Dirs {
            bin: path(&settings, "bin-dir")?,
            kubernetes: path(&settings, "kubernetes-dir")?,
            ssl: path(&settings, "ssl-dir")?,
        },
        node: node(&settings)?,
        pod_cidr: cidr(&settings, "pod-cidr")?,
        service_cidr: cidr(&settings, "service-cidr")?,
        cluster_dns: unicast(&settings, "cluster-dns")?,
        cluster_domain: domain(&settings)?,
        etcd: etcd(&settings)?,
        network_config: needed(&settings, "network-config")?.to_owned(),
        flannel: Flannel {
            iface: interface(&settings)?,
            options: settings.list("flannel-options").to_vec(),
            masquerade: settings.switch("masquerade"),
        },
        engine: Engine {
            mirrors: settings
                .list("registry-mirrors")
                .iter()
                .map(|url| mirror(url))
                .collect::<Result<_, _>>()?,
            downloads: downloads(&settings)?,
            wait: settings.switch("docker-wait"),
        },
        kube: kube(&settings)?,
        settings,
    })
}

/// Rejects text that no file can contain, and words that are not among those of the setting.
fn texts(settings: &Settings) -> Result<(), Error> {
    for Setting { name, words, .. } in SETTINGS {
        let text = settings.text(name);
        for text in text
            .into_iter()
            .chain(settings.list(name).iter().map(String::as_str))
        {
            argv::check_text(text).map_err(|why| Error::setting(name, why))?;
        }
        if let Some(text) = text.filter(|text| !words.is_empty() && !words.contains(text)) {
            let why = format!("{text:?} is not one of {}", words.join(", "));
            return Err(Error::setting(name, why));
        }
    }
    Ok(())
}

fn services(settings: &Settings) -> Result<Vec<Service>, Error> {
    const ALL: [Service; 4] = [
        Service::Flanneld,
        Service::Docker,
        Service::Kubelet,
        Service::KubeProxy,
    ];
    let names = settings.list("services");
    if let Some(unknown) = names
        .iter()
        .find(|name| !ALL.iter().any(|service| service.name() == *name))
    {
        let why = format!("{unknown:?} is not one of flanneld, docker, kubelet, kube-proxy");
        return Err(Error::setting("services", why));
    }
    let chosen: Vec<Service> = ALL
        .into_iter()
        .filter(|one| names.iter().any(|name| name == one.name()))
        .collect();
    if chosen.is_empty() {
        Err(Error::setting(
            "services",
            "is empty: omit it for all services",
        ))
    } else {
        Ok(chosen)
    }
}

/// Parses the identity of the node, which only kubelet and kube-proxy need.
fn node(settings: &Settings) -> Result<Option<Node>, Error> {
    let services = services(settings)?;
    let needed = services.contains(&Service::Kubelet) || services.contains(&Service::KubeProxy);
    let read = || {
        Ok(Node {
            ip: unicast(settings, "node-ip")?,
            name: node_name(settings)?,
        })
    };
    (needed || settings.has("node-ip")).then(read).transpose()
}

fn release(settings: &Settings, name: &str) -> Result<Option<Release>, Error> {
    let Some(text) = settings.text(name) else {
        return Ok(None);
    };
    let mut parts = text
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => Ok(Some((major, minor))),
        _ => Err(Error::setting(
            name,
            format!("{text:?} is not a release: give two numbers, such as 28.2"),
        )),
    }
}

/// Returns the third number of a release.
fn patch(text: &str) -> Option<u16> {
    let third = text.split('.').nth(2)?;
    third
        .split(|char: char| !char.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn etcd(settings: &Settings) -> Result<Etcd, Error> {
    let files = ["etcd-cafile", "etcd-certfile", "etcd-keyfile"];
    let given = files.iter().any(|name| settings.has(name));
    let paths = || files.map(|name| path(settings, name));
    let tls = match given.then(paths) {
        Some([ca, cert, key]) => Some([ca?, cert?, key?]),
        None => None,
    };
    let login = match (
        settings.text("etcd-username"),
        settings.text("etcd-password-file"),
    ) {
        (Some(name), Some(_)) => Some((name.to_owned(), path(settings, "etcd-password-file")?)),
        (None, None) => None,
        _ => {
            return Err(Error::setting(
                "etcd-username",
                "and etcd-password-file must be set together",
            ));
        }
    };
    let endpoints = settings.list("etcd-endpoints").to_vec();
    if endpoints.is_empty() && services(settings)?.contains(&Service::Flanneld) {
        return Err(Error::setting("etcd-endpoints", "is required"));
    }
    let prefix = needed(settings, "etcd-prefix")?
        .trim_end_matches('/')
        .to_owned();
    check_endpoints(settings, &endpoints, tls.is_some())?;
    Ok(Etcd {
        endpoints,
        prefix,
        tls,
        login,
    })
}

fn check_endpoints(settings: &Settings, endpoints: &[String], tls: bool) -> Result<(), Error> {
    let wrong = |why: String| Err(Error::setting("etcd-endpoints", why));
    for (index, url) in endpoints.iter().enumerate() {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        let shown = || url.rsplit('@').next().unwrap_or(url);
        if endpoints.iter().take(index).any(|earlier| earlier == url) {
            return wrong(format!("{:?} is given twice", shown()));
        }
        // The daemon accepts it, but other programs with the same list, such as etcdctl, do not.
        if url.trim().is_empty() {
            return wrong("an endpoint is empty".into());
        }
        if scheme.is_none() {
            return wrong(format!("{:?} must start with https:// or http://", shown()));
        }
        if url.contains(['?', '#', '%', ',']) {
            return wrong(format!(
                "{:?} must only have a scheme, a host, and a port",
                shown()
            ));
        }
        if scheme == Some("http") && tls && !settings.switch("allow-insecure-etcd") {
            let why = "is http, which ignores certificates and does not encrypt: use https, or set allow-insecure-etcd";
            return wrong(format!("{:?} {why}", shown()));
        }
    }
    Ok(())
}

/// Checks a mirror, because docker drops all mirrors if one is wrong, or does not start.
fn mirror(url: &str) -> Result<String, Error> {
    let wrong = |why| Err(Error::setting("registry-mirrors", format!("{url:?} {why}")));
    let Some((_, rest)) = url
        .split_once("://")
        .filter(|(scheme, _)| ["http", "https"].contains(scheme))
    else {
        return wrong(
            "must start with https:// or http://: otherwise docker drops every mirror, or does not start",
        );
    };
    match rest.trim_end_matches('/') {
        "" => wrong("has no host"),
        host if host.contains(['@', '?', '#']) || host.contains(char::is_whitespace) => {
            wrong("must be scheme, host, and port: docker accepts no user, query, or fragment")
        }
        _ => Ok(url.trim_end_matches('/').to_owned()),
    }
}

fn downloads(settings: &Settings) -> Result<Option<u32>, Error> {
    let name = "max-concurrent-downloads";
    let Some(text) = settings.text(name) else {
        return Ok(None);
    };
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=100).contains(number));
    number
        .map(Some)
        .ok_or_else(|| Error::setting(name, format!("{text:?} is not a number from 1 to 100")))
}

fn kube(settings: &Settings) -> Result<Kube, Error> {
    Ok(Kube {
        cgroup_driver: settings.text("cgroup-driver").map(str::to_owned),
        pause_image: needed(settings, "pause-image")?.to_owned(),
        secure: settings.switch("secure-kubelet"),
        client_ca: path(settings, "client-ca-file")?,
        server_tls: settings.switch("server-tls-bootstrap"),
        bootstrap_user: needed(settings, "bootstrap-user")?.to_owned(),
        proxy_mode: settings.text("proxy-mode").map(str::to_owned),
    })
}

/// Checks the values together.
pub(super) fn together(model: &Model) -> Result<(), Error> {
    networks(model)?;
    network_config(model)?;
    old_containerd(model)?;
    releases(model)
}

fn networks(model: &Model) -> Result<(), Error> {
    let (pods, services) = (model.pod_cidr, model.service_cidr);
    if pods.overlaps(services) {
        let why = format!(
            "{pods} overlaps service-cidr {services}: kube-proxy could not distinguish pods from services"
        );
        return Err(Error::setting("pod-cidr", why));
    }
    for (name, network) in [("pod-cidr", pods), ("service-cidr", services)] {
        if let Some(ip) = model
            .node
            .as_ref()
            .and_then(|node| contained(network, node.ip))
        {
            return Err(Error::setting(
                name,
                format!("{network} contains this node's own address {ip}"),
            ));
        }
    }
    endpoints_outside(model)?;
    let IpAddr::V4(dns) = model.cluster_dns else {
        return Err(Error::setting("cluster-dns", "must be an IPv4 address"));
    };
    if !services.contains(dns) || dns == services.network() {
        return Err(Error::setting(
            "cluster-dns",
            format!("{dns} is not the address of a service in {services}"),
        ));
    }
    if services.nth(1) == Some(dns) {
        let why =
            format!("{dns} is the first address of {services}, which belongs to the API server");
        return Err(Error::setting("cluster-dns", why));
    }
    same_as_controller(model)
}

/// Checks that etcd can be reached before the overlay exists.
fn endpoints_outside(model: &Model) -> Result<(), Error> {
    for url in &model.etcd.endpoints {
        let host = url
            .rsplit('/')
            .next()
            .and_then(|rest| rest.rsplit_once(':'))
            .map_or("", |(host, _)| host);
        let Ok(ip) = host.parse() else { continue };
        for network in [model.pod_cidr, model.service_cidr] {
            if contained(network, ip).is_some() {
                let why = format!(
                    "{ip} is in {network}, which is reachable only after flanneld has reached etcd"
                );
                return Err(Error::setting("etcd-endpoints", why));
            }
        }
    }
    Ok(())
}

fn contained(network: Ipv4Network, ip: IpAddr) -> Option<IpAddr> {
    matches!(ip, IpAddr::V4(v4) if network.contains(v4)).then_some(ip)
}

fn same_as_controller(model: &Model) -> Result<(), Error> {
    let name = "controller-manager-cluster-cidr";
    if model.settings.text(name).is_none() || cidr(&model.settings, name)? == model.pod_cidr {
        return Ok(());
    }
    let told = needed(&model.settings, name)?;
    Err(Error::setting(
        "pod-cidr",
        format!(
            "{} differs from kube-controller-manager's --cluster-cidr {told}",
            model.pod_cidr
        ),
    ))
}

/// Parses the network configuration with the daemon's own parser and compares it with pod-cidr and backend.
fn network_config(model: &Model) -> Result<(), Error> {
    let wrong = |why: String| Error::setting("network-config", why);
    let config = NetworkConfig::parse(model.network_config.as_bytes())
        .map_err(|error| wrong(error.to_string()))?;
    let name = config.backend_type.as_str();
    if let Some(told) = model.settings.text("backend").filter(|told| *told != name) {
        return Err(Error::setting(
            "backend",
            format!("{told} differs from the Type in network-config, {name:?}"),
        ));
    }
    if model
        .settings
        .text("backend")
        .is_some_and(|told| !backend::names().any(|name| name == told))
    {
        let known = backend::names().collect::<Vec<_>>().join(", ");
        return Err(Error::setting(
            "backend",
            format!("{name} is not one of {known}"),
        ));
    }
    let network = config.ranges.v4.as_ref().map(|range| range.network);
    if network == Some(model.pod_cidr.into()) {
        Ok(())
    } else {
        Err(wrong(format!(
            "its Network {} differs from pod-cidr {}",
            config.networks(),
            model.pod_cidr
        )))
    }
}

/// Rejects settings that an old containerd would ignore, or with which the node would fail when it starts.
fn old_containerd(model: &Model) -> Result<(), Error> {
    let Some(release) = model
        .containerd
        .filter(|_| model.runtime == Runtime::Containerd)
    else {
        return Ok(());
    };
    let (major, minor) = release;
    let wrong = |why: &str| {
        Err(Error::setting(
            "containerd-version",
            format!("containerd {major}.{minor} {why}"),
        ))
    };
    if release < (1, 3) {
        return wrong(
            "ignores a configuration with version = 2, including the cgroup driver: use 1.3 or later",
        );
    }
    if release < (1, 5) && !model.engine.mirrors.is_empty() {
        return wrong("has no config_path and would ignore registry-mirrors: use 1.5 or later");
    }
    if release < (1, 6) && model.kubernetes >= KubeVersion::ONLY_CRI_V1 {
        let why = format!(
            "does not support CRI v1, the only version that kubelets since {} support: use 1.6 or later",
            KubeVersion::ONLY_CRI_V1
        );
        return wrong(&why);
    }
    Ok(())
}

fn releases(model: &Model) -> Result<(), Error> {
    let kubernetes = model.kubernetes;
    let new_containerd = model.containerd.is_some_and(|(major, _)| major >= 2);
    let wrong = |name: &str, why: String| Err(Error::setting(name, why));
    if model.is_document() && (kubernetes >= KubeVersion::FILES || model.runtime != Runtime::Docker)
    {
        let why = format!(
            "the tutorial's units are for docker and for releases before {}",
            KubeVersion::FILES
        );
        return wrong("style", format!("{why}: use recommended"));
    }
    if model.runtime == Runtime::Containerd && model.pod_network == PodNetwork::Bip {
        return wrong(
            "pod-network",
            "containerd has no bridge of its own: use cni".into(),
        );
    }
    if model.runtime == Runtime::Containerd && kubernetes < KubeVersion::CONTAINERD {
        let why = format!(
            "no release of containerd works with a kubelet before {}: use docker",
            KubeVersion::CONTAINERD
        );
        return wrong("runtime", why);
    }
    if model.runtime == Runtime::Containerd && kubernetes < KubeVersion::CRI_V1 && new_containerd {
        let why = format!(
            "containerd 2 does not work with a kubelet before {}: use 1.7",
            KubeVersion::CRI_V1
        );
        return wrong("containerd-version", why);
    }
    if model.kube.server_tls && kubernetes < KubeVersion::SERVER_TLS {
        let why = format!(
            "a kubelet requests a serving certificate since {}: omit this setting",
            KubeVersion::SERVER_TLS
        );
        return wrong("server-tls-bootstrap", why);
    }
    for (mode, since) in [
        ("ipvs", KubeVersion::IPVS),
        ("nftables", KubeVersion::NFTABLES),
    ] {
        if model.kube.proxy_mode.as_deref() == Some(mode) && kubernetes < since {
            let why = format!("kube-proxy has {mode} since {since}: use iptables");
            return wrong("proxy-mode", why);
        }
    }
    Ok(())
}
