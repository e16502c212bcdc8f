//! What systemd has to say about the units as they are: pure.

use super::facts::Live;
use crate::finding::Finding;

/// All of it.
pub fn judge(live: &Live) -> Vec<Finding> {
    live.verified
        .iter()
        .map(|(unit, said)| told(unit, said))
        .collect()
}

/// Lines about other units, which this one names, are no matter of the node.
fn told(unit: &str, said: &str) -> Finding {
    let mut lines = said.lines().filter(|line| line.contains(unit));
    match lines.next() {
        None => Finding::ok("units", format!("systemd has nothing against {unit}")),
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
            "no word from systemd-analyze verify",
            format!("systemd-analyze verify {unit}; node-setup diff shows what would be written"),
        ),
    }
}
