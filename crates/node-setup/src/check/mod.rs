//! Checks a node: what was found, what was expected, and how to fix it.
//!
//! [`gather`] reads the host into [`Facts`]; everything else judges them and is pure. `online` asks etcd with the daemon's own
//! code, and `api` asks the API servers.

pub mod api;
pub mod binaries;
pub mod certs;
pub mod conflicts;
pub mod facts;
pub mod forwarding;
pub mod gather;
pub mod kubeconfig;
pub mod needs;
pub mod network;
pub mod online;
pub mod os;
pub mod runtime;
pub mod tls;
pub mod units;

use crate::finding::Finding;
pub use facts::Facts;

use super::model::Model;

/// Runs all checks that need no network.
pub fn offline(model: &Model, facts: &Facts) -> Vec<Finding> {
    let mut findings = tls::judge(model, facts);
    findings.extend(kubeconfig::judge(model, facts));
    findings.extend(conflicts::judge(facts));
    findings.extend(needs::judge(model, facts));
    if let Some(live) = &facts.live {
        findings.extend(os::judge(model, live));
        findings.extend(network::judge(model, live));
        findings.extend(runtime::judge(model, facts, live));
        findings.extend(binaries::judge(model, live));
        findings.extend(forwarding::judge(model, facts, live));
        findings.extend(units::judge(live));
    }
    findings
}

#[cfg(test)]
mod tests;
