//! Asks etcd with the daemon's own code.

use std::fs;
use std::time::Duration;

use crate::finding::Finding;
use crate::model::Model;
use flanneld::config::{EtcdConfig, Secret};
use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::{Error, MisplacedConfig, NetworkConfig, SubnetManager};
use flanneld::util::env_file;

const ID: &str = "etcd";
/// Time limit for each endpoint.
const PATIENCE: Duration = Duration::from_secs(8);

/// Asks each endpoint for the network configuration and compares it with `model`.
pub async fn judge(model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut answer = None;
    for endpoint in &model.etcd.endpoints {
        match ask(model, endpoint).await {
            Ok(found) => {
                findings.push(Finding::ok(ID, format!("{endpoint} answers")));
                answer = answer.or(Some(found));
            }
            Err(error) => findings.push(Finding::error(
                ID,
                format!("{endpoint}: {error}"),
                "the network configuration",
                "check the endpoint: flanneld waits until one endpoint answers",
            )),
        }
    }
    let Some((config, misplaced)) = answer else {
        return findings;
    };
    findings.push(compare(model, &config));
    findings.extend(misplaced.map(|MisplacedConfig { key, .. }| {
        Finding::warning(
            "etcd-prefix",
            format!("there is another network configuration at {key}"),
            &format!("only {key}/config, which flanneld reads; it ignores {key}"),
            format!("etcdctl del {key} (without --prefix: the keys below it are in use)"),
        )
    }));
    findings
}

/// Returns the configuration, and the key of another one that is not read.
async fn ask(
    model: &Model,
    endpoint: &str,
) -> Result<(NetworkConfig, Option<MisplacedConfig>), String> {
    let config = etcd_config(model, endpoint)?;
    let manager = EtcdManager::new(config).map_err(|error| error.to_string())?;
    let both = async {
        Ok((
            manager.network_config().await?,
            manager.misplaced_config().await,
        ))
    };
    let answer: Result<Result<_, Error>, _> = tokio::time::timeout(PATIENCE, both).await;
    answer
        .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
        .map_err(|error| error.to_string())
}

fn etcd_config(model: &Model, endpoint: &str) -> Result<EtcdConfig, String> {
    let tls = model.etcd.tls.clone();
    let login = model.etcd.login.as_ref().map(|(user, file)| {
        let text =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let password = env_file::parse(&text).0.remove("FLANNELD_ETCD_PASSWORD");
        let password = password.ok_or_else(|| {
            format!(
                "{}: does not contain FLANNELD_ETCD_PASSWORD",
                file.display()
            )
        })?;
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
    let found = format!(
        "the network in etcd is {} with backend {}",
        config.networks(),
        config.backend_type
    );
    let network = config
        .ranges
        .v4
        .as_ref()
        .map(|range| range.network.to_string());
    if network == Some(model.pod_cidr.to_string()) {
        Finding::ok("pod-cidr", found)
    } else {
        Finding::error(
            "pod-cidr",
            found,
            &format!(
                "{}, like --cluster-cidr of kube-proxy and the controller-manager",
                model.pod_cidr
            ),
            "correct --pod-cidr, or the configuration in etcd (once per cluster, before there are leases)",
        )
    }
}
