//! Several daemons, one store, virtual time, many seeds: the real `acquire`, `watch` and `hold` against a model of etcd
//! with partitions, lost requests, lost answers, late writes, pauses between any two steps and beyond the lease's life, and restarts.
//!
//! `MODEL_SEEDS=n` runs that many seeds, `MODEL_SEED=n` runs one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

mod chaos;
mod check;
mod daemon;
mod state;
mod store;

use std::sync::Arc;
use std::time::Duration;

use state::World;

/// Takes some ten seconds without optimisation.
const SEEDS: u64 = 120;

fn run(seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
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
        .filter_map(|seed| {
            run(seed)
                .err()
                .map(|why| format!("MODEL_SEED={seed}: {why}"))
        })
        .take(5)
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A slow etcd is asked for the same etcd lease again, not for one more.
#[test]
fn slow_etcd_makes_one_lease_for_each_host() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(0));
        {
            let mut state = world.state();
            (state.faulty, state.slow_lease_ids) = (false, true);
        }
        let hosts = world.state().hosts.len();
        let lives: Vec<_> = (0..hosts)
            .map(|index| daemon::start(&world, index, 7 + index as u64))
            .collect();
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(world.state().asked.len(), hosts);
        world.state().slow_lease_ids = false;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.state().asked.len(), hosts);
        assert_eq!(world.state().leases.len(), hosts);
        // The keys go, as by hand, and their etcd leases with them.
        world.act(|state| {
            let all: Vec<_> = state.lease_ids.keys().copied().collect();
            state.asked.clear();
            state.slow_lease_ids = true;
            all.into_iter().for_each(|lease_id| state.revoke(lease_id));
        });
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(world.state().asked.len(), hosts);
        lives.iter().for_each(tokio::task::JoinHandle::abort);
    });
}
