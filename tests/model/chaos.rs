//! What is done to the daemons.

use std::sync::Arc;
use std::time::Duration;

use flanneld::subnet::LeaseStatus;
use flanneld::subnet::owner::MachineId;
use rand::RngExt as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::daemon;
use crate::state::{Shape, State, World, config};

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(1800);
/// How long it may take until all is well: a lease's life, the longest pause between looks, and attempts in between.
const QUIET: Duration = Duration::from_secs(700);
/// How often beliefs are compared with the truth.
const STEP: Duration = Duration::from_secs(5);

/// Starts all daemons, troubles them, lets them recover, and checks.
pub(crate) async fn run(world: &Arc<World>) {
    let count = world.state().hosts.len();
    let mut lives: Vec<JoinHandle<()>> = (0..count).map(|index| start(world, index)).collect();
    let end = Instant::now() + TROUBLE;
    while Instant::now() < end {
        let pause = world.state().rng.random_range(1..8);
        for _ in 0..pause {
            sleep(STEP).await;
            world.act(|state| state.check_beliefs(STEP));
        }
        let index = world.state().rng.random_range(0..count);
        let dies = trouble(world, index);
        let is_reconfigured = reconfigure_soon(world);
        for index in
            (0..count).filter(|other| dies && *other == index || is_reconfigured && other % 2 == 0)
        {
            lives[index].abort();
            lives[index] = start(world, index);
        }
    }
    relieve(&mut world.state());
    rest(world).await;
    restart_losers(world, &mut lives);
    rest(world).await;
    world.act(State::check_end);
    lives.iter().for_each(JoinHandle::abort);
}

fn start(world: &Arc<World>, index: usize) -> JoinHandle<()> {
    let seed = world.state().rng.random();
    world.state().hosts[index].belief = None;
    daemon::start(world, index, seed)
}

async fn rest(world: &World) {
    for _ in 0..QUIET.as_secs() / STEP.as_secs() {
        sleep(STEP).await;
        world.act(|state| state.check_beliefs(STEP));
    }
}

fn relieve(state: &mut State) {
    let now = Instant::now();
    state.faulty = false;
    for host in &mut state.hosts {
        host.wrong_for = Duration::ZERO;
        (host.cut_until, host.paused_until) = (host.cut_until.min(now), host.paused_until.min(now));
    }
}

/// One thing goes wrong. Says whether the host's daemon dies of it.
fn trouble(world: &World, index: usize) -> bool {
    world.act(|state| {
        let (kind, now) = (state.rng.random_range(0..100), Instant::now());
        let length = Duration::from_secs(state.rng.random_range(1..500));
        let host = &mut state.hosts[index];
        match kind {
            0..25 => host.cut_until = now + length,
            25..50 => host.paused_until = now + length,
            50..60 => return true,
            60..65 => {
                host.remembers = false;
                return true;
            }
            65..75 => {
                host.machine = MachineId::new(
                    &format!("machine {index}"),
                    &format!("boot {now:?}"),
                    "host",
                );
                return true;
            }
            75..85 => {
                if let Some(subnets) = host.last.filter(|last| state.leases.contains_key(last)) {
                    state.remove(subnets);
                }
            }
            85..92 => state.compacted = state.revision,
            _ => {}
        }
        false
    })
}

/// Where the network is wide: a new configuration comes while hosts lease again and others make their keys again.
fn reconfigure_soon(world: &Arc<World>) -> bool {
    let mut state = world.state();
    let is_wide = state
        .config
        .0
        .ranges
        .v4
        .is_some_and(|range| range.subnet_count() > 6);
    if !is_wide || state.rng.random_bool(0.5) {
        return false;
    }
    state
        .hosts
        .iter_mut()
        .step_by(2)
        .for_each(|host| host.remembers = false);
    let delay = Duration::from_millis(state.rng.random_range(0..1000));
    let world = world.clone();
    tokio::spawn(async move {
        world.act(|state| {
            let all: Vec<_> = state.leases.keys().copied().collect();
            all.into_iter().for_each(|subnets| state.remove(subnets));
        });
        sleep(delay).await;
        world.act(reconfigure);
    });
    true
}

/// The other subnet length.
fn reconfigure(state: &mut State) {
    let len = if state.config.0.ranges.v4.unwrap().subnet_len == 24 {
        23
    } else {
        24
    };
    state.revision += 1;
    state.config = (config(Shape::Wide, 0, len), state.revision);
}

/// As the operator does who reads that a lease is lost.
fn restart_losers(world: &Arc<World>, lives: &mut [JoinHandle<()>]) {
    for (index, life) in lives.iter_mut().enumerate() {
        let belief = world.state().hosts[index].belief;
        if belief.is_some_and(|(_, lease_status)| {
            matches!(
                lease_status,
                LeaseStatus::TakenOver { .. } | LeaseStatus::ConfigChanged
            )
        }) {
            life.abort();
            *life = start(world, index);
        }
    }
}
