//! When an etcd lease is renewed: pure.

use std::time::Duration;

/// Renewals are never closer than this, whatever the margin.
pub(super) const SHORTEST_PERIOD: Duration = Duration::from_secs(60);

/// How often to renew an etcd lease of `ttl` so that it never gets closer to its end than `margin`: 24 times in its
/// life, more often for a large margin.
pub(super) fn period(ttl: Duration, margin: Duration) -> Duration {
    let usual = ttl / 24;
    ttl.saturating_sub(margin)
        .clamp(SHORTEST_PERIOD.min(usual), usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn renewals_keep_the_margin_and_never_spin() {
        for (ttl, margin, expected) in [
            (24 * HOUR, HOUR, HOUR),
            (24 * HOUR, 23 * HOUR + HOUR / 2, HOUR / 2),
            (24 * HOUR, 24 * HOUR, SHORTEST_PERIOD),
            (24 * HOUR, 1000 * HOUR, SHORTEST_PERIOD),
            (Duration::from_secs(48), HOUR, Duration::from_secs(2)),
            (24 * HOUR, Duration::ZERO, HOUR),
        ] {
            assert_eq!(period(ttl, margin), expected, "{ttl:?} {margin:?}");
        }
    }
}
