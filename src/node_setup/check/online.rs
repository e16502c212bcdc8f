//! What etcd says, asked with the daemon's own code.

use std::fs;
use std::time::Duration;

use super::finding::Finding;
use crate::config::{EtcdConfig, Secret};
use crate::env_file;
use crate::node_setup::model::Model;
use crate::subnet::etcd::EtcdManager;
use crate::subnet::{NetworkConfig, SubnetManager};

const ID: &str = "etcd";
/// For each endpoint.
const PATIENCE: Duration = Duration::from_secs(8);

/// Asks every endpoint by itself for the network's configuration, and compares it with `model`.
pub async fn judge(model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut config = None;
    for endpoint in &model.etcd.endpoints {
        match ask(model, endpoint).await {
            Ok(found) => {
                findings.push(Finding::ok(ID, format!("{endpoint} answers")));
                config = config.or(Some(found));
            }
            Err(error) => findings.push(Finding::error(
                ID,
                format!("{endpoint}: {error}"),
                "the network's configuration",
                "flanneld waits until one endpoint answers",
            )),
        }
    }
    findings.extend(config.map(|config| compare(model, &config)));
    findings
}

async fn ask(model: &Model, endpoint: &str) -> Result<NetworkConfig, String> {
    let config = etcd_config(model, endpoint)?;
    let manager = EtcdManager::new(config).map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(PATIENCE, manager.network_config()).await;
    answer
        .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
        .map_err(|error| error.to_string())
}

fn etcd_config(model: &Model, endpoint: &str) -> Result<EtcdConfig, String> {
    let tls = model.etcd.tls.clone();
    let login = model.etcd.login.as_ref().map(|(user, file)| {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let password = env_file::parse(&text).0.remove("FLANNELD_ETCD_PASSWORD");
        let password =
            password.ok_or_else(|| format!("{}: it has no FLANNELD_ETCD_PASSWORD", file.display()))?;
        Ok::<_, String>((user.clone(), Secret::new(password)))
    });
    Ok(EtcdConfig {
        endpoints: vec![endpoint.to_owned()],
        prefix: model.etcd.prefix.trim_end_matches('/').to_owned(),
        ca_file: tls.as_ref().map(|[ca, ..]| ca.clone()),
        client_pair: tls.map(|[_, certificate, key]| (certificate, key)),
        login: login.transpose()?,
        renew_margin: Duration::from_secs(3600),
    })
}

fn compare(model: &Model, config: &NetworkConfig) -> Finding {
    let found = format!("the cluster's network is {}, backend {}", config.networks(), config.backend_type);
    let network = config.ranges.v4.as_ref().map(|range| range.network.to_string());
    match network == Some(model.pod_cidr.to_string()) {
        true => Finding::ok("pod-cidr", found),
        false => Finding::error(
            "pod-cidr",
            found,
            &format!("{}, as kube-proxy and the controller-manager's --cluster-cidr have it", model.pod_cidr),
            "correct --pod-cidr, or the configuration in etcd (once per cluster, before there are leases)",
        ),
    }
}
