//! Several daemons, one store, virtual time, many seeds: the real `acquire`, `watch` and `hold` against a model of etcd
//! with partitions, lost requests, lost answers, late writes, pauses between any two steps and beyond the lease's life, and restarts.
//!
//! `MODEL_SEEDS=n` runs that many seeds, `MODEL_SEED=n` runs one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper fails its test")]

mod chaos;
mod check;
mod daemon;
mod state;
mod store;

use std::sync::Arc;

use state::World;

/// Takes some ten seconds without optimisation.
const SEEDS: u64 = 120;

fn run(seed: u64) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(seed));
        chaos::run(&world).await;
        world.verdict()
    })
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_seed_breaks_a_promise() {
    let seeds = match variable("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("MODEL_SEEDS").unwrap_or(SEEDS),
    };
    let broken: Vec<String> = seeds
        .filter_map(|seed| run(seed).err().map(|why| format!("MODEL_SEED={seed}: {why}")))
        .take(5)
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
