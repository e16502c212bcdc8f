//! How long things take, counted: pure.

use std::time::Duration;

/// Upper bounds of the buckets, in seconds: from one netlink message to an etcd that is about to be given up.
pub const BOUNDS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Durations by bucket: a dozen of instructions to note one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// One for each of [`BOUNDS`].
    counts: [u64; BOUNDS.len()],
    /// Longer than the last bound.
    beyond: u64,
    sum: Duration,
}

impl Histogram {
    pub fn observe(&mut self, duration: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < duration.as_secs_f64());
        *self.counts.get_mut(bucket).unwrap_or(&mut self.beyond) += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// All of them together, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// Bound and count of each bucket, not cumulated. What is beyond the last is only in [`count`](Self::count).
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS.into_iter().zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_first_bucket_that_it_fits() {
        let mut histogram = Histogram::default();
        for micros in [0, 100, 101, 1_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let filled: Vec<_> = histogram
            .buckets()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(filled, [(0.000_1, 2), (0.000_25, 1), (1.0, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (5, 11.000_202));
    }
}
