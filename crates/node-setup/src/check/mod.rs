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
        findings.extend(live.verified.iter().map(|(name, said)| unit(name, said)));
    }
    findings
}

/// Reports what `systemd-analyze verify` says about one unit. Lines about other units that it names are ignored.
fn unit(unit: &str, said: &str) -> Finding {
    let mut lines = said.lines().filter(|line| line.contains(unit));
    match lines.next() {
        None => Finding::ok("units", format!("systemd accepts {unit}")),
        Some(first) => Finding::warning(
            "units",
            format!(
                "{}{}",
                first.trim(),
                if lines.next().is_some() {
                    "; and more"
                } else {
                    ""
                }
            ),
            "no output of systemd-analyze verify",
            format!(
                "see systemd-analyze verify {unit}; node-setup diff shows what apply would write"
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
