//! Random choices, from one seed: a run of the model can be repeated.

use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::util::lock;

/// A source of random numbers.
pub struct Random(Mutex<StdRng>);

impl Default for Random {
    /// Seeded by the operating system.
    fn default() -> Self {
        Self(Mutex::new(rand::make_rng()))
    }
}

impl Random {
    /// The numbers of this seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// A number in `0.0..1.0`.
    pub fn share(&self) -> f64 {
        self.with(RngExt::random)
    }

    /// A number below `limit`; zero if there is none.
    pub fn below(&self, limit: u128) -> u128 {
        self.with(|rng| rng.random_range(0..limit.max(1)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut lock(&self.0))
    }
}
