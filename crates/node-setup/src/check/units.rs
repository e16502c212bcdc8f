//! Reports what `systemd-analyze verify` says about the installed units. Pure.

use super::facts::Live;
use crate::finding::Finding;

pub fn judge(live: &Live) -> Vec<Finding> {
    live.verified
        .iter()
        .map(|(unit, said)| told(unit, said))
        .collect()
}

/// Reports the lines about one unit. Lines about other units that it names are ignored.
fn told(unit: &str, said: &str) -> Finding {
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
