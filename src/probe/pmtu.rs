//! Searches for the largest packet that passes, many sizes at a time. Pure.

use std::collections::BTreeSet;

/// Number of sizes that are tried at a time.
const AT_ONCE: u32 = 16;

/// Bounds of the largest size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    pub passes: u32,
    pub fails: u32,
}

impl Search {
    /// Returns the sizes to try next, in ascending order; empty if the largest size is known.
    pub fn sizes(self) -> BTreeSet<u32> {
        let gap = self.fails.saturating_sub(self.passes);
        let size = |step| self.passes + gap * step / (AT_ONCE + 1);
        (1..=AT_ONCE)
            .map(size)
            .filter(|size| *size > self.passes)
            .collect()
    }

    /// Narrows the bounds, given the sizes that were tried and those that passed. A size that did not pass counts as too large, unless a
    /// larger one passed.
    #[must_use]
    pub fn narrowed(self, tried: &BTreeSet<u32>, came: &BTreeSet<u32>) -> Self {
        let passes = came.last().copied().unwrap_or(self.passes).max(self.passes);
        let fails = tried
            .iter()
            .copied()
            .find(|size| *size > passes)
            .unwrap_or(self.fails);
        Self { passes, fails }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_the_largest_in_a_few_rounds(low in 28..1500_u32, gap in 1..64_000_u32, share in 0..1000_u32) {
            let limit = low + gap * share / 1000;
            let mut search = Search { passes: low, fails: low + gap };
            for _ in 0..6 {
                let tried = search.sizes();
                let came = tried.iter().copied().filter(|size| *size <= limit).collect();
                search = search.narrowed(&tried, &came);
            }
            prop_assert_eq!(search.passes, limit.min(low + gap - 1));
            prop_assert!(search.sizes().is_empty());
        }
    }
}
