//! One run: step after step until the time is over or an invariant is broken.

use std::time::Duration;

use lab::LabError;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::host::Host;
use crate::monitor::Monitor;
use crate::plan::{Plan, Step};
use crate::quiet::becomes_quiet;
use crate::settings::Settings;

/// All is well within this time after the start of the cluster, which is not what is tested.
const BEGIN: Duration = Duration::from_secs(60);

/// What ended a run.
enum End {
    /// An invariant was broken.
    Violation,
    /// The run itself could not go on.
    Failed(LabError),
}

impl From<LabError> for End {
    fn from(error: LabError) -> Self {
        Self::Failed(error)
    }
}

/// Runs a seed. Panics with seed, events, and the place of the logs if an invariant is broken.
pub fn run(settings: &Settings) {
    let dir = tempfile::Builder::new()
        .prefix(&format!("chaos-seed-{}-", settings.seed))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    println!("chaos: {settings:?}");
    let mut cluster = Cluster::start(settings, dir.path()).unwrap();
    let end = drive(&mut cluster, settings);
    let (tail, faults, violations) = {
        let world = cluster.world();
        (
            world.story.tail(),
            world.story.faults,
            world.violations.clone(),
        )
    };
    let Err(end) = end else {
        println!(
            "chaos: seed {}: {faults} faults, no violation",
            settings.seed
        );
        return;
    };
    cluster.save_logs();
    drop(cluster);
    let what = match end {
        End::Violation => format!("violation: {}", violations.join("\n  ")),
        End::Failed(error) => {
            format!("the run itself failed: {error}; violations before: {violations:?}")
        }
    };
    let logs = dir.keep();
    panic!(
        "chaos: seed {}, {} hosts, after {faults} faults: {what}\nevents since all invariants held last:\n{tail}logs: {}\nagain: {}",
        settings.seed,
        settings.hosts,
        logs.display(),
        command(settings),
    );
}

/// The command that runs the same sequence again.
fn command(settings: &Settings) -> String {
    let Settings { seed, hosts, .. } = settings;
    let groups: Vec<&str> = settings.groups.iter().map(|group| group.name()).collect();
    let mut command = format!(
        "scripts/chaos --seed {seed} --hosts {hosts} --groups {}",
        groups.join(",")
    );
    if !settings.names.is_empty() {
        command += &format!(" --faults '{}'", settings.names.join(","));
    }
    if let Some(other) = &settings.other {
        command += &format!(" --go {}", other.display());
    }
    command
}

fn drive(cluster: &mut Cluster, settings: &Settings) -> Result<(), End> {
    let monitor = Monitor::begin(cluster.world.clone());
    quiet(cluster, BEGIN)?;
    let end = Instant::now() + settings.time;
    let mut plan = Plan::new(settings);
    while Instant::now() < end {
        let step = plan.next().expect("a plan has no end");
        done(cluster, step)?;
    }
    drop(monitor);
    if cluster.world().violations.is_empty() {
        Ok(())
    } else {
        Err(End::Violation)
    }
}

/// Injects the faults of a step one after the other, heals them in the same order, and waits until all is well. Faults that
/// last are healed after the others.
fn done(cluster: &mut Cluster, mut step: Step) -> Result<(), End> {
    cluster.world().hosts.iter_mut().for_each(Host::begin_step);
    let mut pauses = step.pauses.into_iter();
    let mut pause = |cluster: &mut Cluster| {
        std::thread::sleep(pauses.next().unwrap_or_default());
        check(cluster)
    };
    for fault in &mut step.faults {
        cluster.world().story.faults += 1;
        cluster.record(&format!("fault: {fault}"));
        fault.inject(cluster)?;
        pause(cluster)?;
    }
    std::thread::sleep(step.hold);
    let bound = step
        .faults
        .iter()
        .map(|fault| fault.repaired_within())
        .max()
        .unwrap_or_default();
    let (lasting, passing): (Vec<_>, Vec<_>) =
        step.faults.into_iter().partition(|fault| fault.lasts());
    let parts = if lasting.is_empty() {
        vec![passing]
    } else {
        vec![passing, lasting]
    };
    for part in parts {
        for mut fault in part {
            cluster.record(&format!("over:  {fault}"));
            fault.heal(cluster)?;
            pause(cluster)?;
        }
        // What lasts is no fault but a new situation, in which all has to be well; then it is over, too.
        quiet(cluster, bound)?;
    }
    Ok(())
}

fn quiet(cluster: &mut Cluster, bound: Duration) -> Result<(), End> {
    let result = becomes_quiet(cluster, bound)?;
    check(cluster)?;
    if let Err(wrong) = result {
        cluster.world().broken(wrong);
        return check(cluster);
    }
    let mut world = cluster.world();
    world
        .hosts
        .iter_mut()
        .for_each(|host| host.lost_its_key = false);
    world.story.mark_good();
    Ok(())
}

/// Ends the run if an invariant is broken, unless it is to go on.
fn check(cluster: &Cluster) -> Result<(), End> {
    let goes_on = cluster.keeps_going() || cluster.world().violations.is_empty();
    if goes_on { Ok(()) } else { Err(End::Violation) }
}
