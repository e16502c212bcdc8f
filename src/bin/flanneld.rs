//! The daemon: arguments -> logging -> run -> exit code.

use std::env;
use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use rflannel::cli::flanneld::{Parsed, Run, VERSION, parse};
use rflannel::config::{Config, OnLeaseLost};
use rflannel::kernel::netlink::Netlink;
use rflannel::subnet::etcd::EtcdManager;
use rflannel::subnet::machine::Machine;
use rflannel::systemd::machine_id;
use rflannel::{daemon, logging};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime::Builder;

/// Descriptors that a daemon with connections to some members needs, with room to spare.
const DESCRIPTORS: u64 = 64;

fn main() -> ExitCode {
    match parse(env::args_os().skip(1), env::vars_os()) {
        Parsed::Run(run) => start(*run),
        Parsed::Show { text, code } => say(&text, code),
    }
}

fn start(run: Run) -> ExitCode {
    // A core dump would hold the password and the key. Where the kernel refuses, the unit's LimitCORE is left.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _log = match logging::start(run.logging) {
        Ok(log) => log,
        Err(error) => return say(&format!("flanneld: cannot start logging: {error}\n"), 1),
    };
    for warning in &run.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!("flanneld {VERSION}: {}", run.config);
    match serve(&run.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread for all that goes on: the work is system calls of microseconds, and tasks on several cost more than they give
/// (measured).
fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    raise_limit()?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the event loop: {error}"))?;
    let gives_way = config.on_lease_lost != OnLeaseLost::Hold;
    let manager = EtcdManager::new(config.etcd.clone())?.from_any_member();
    let manager = manager.on(system()).giving_way(gives_way);
    let kernel = Netlink::open()?.with_checksums(config.tx_checksum);
    runtime.block_on(daemon::run(config, &manager, kernel, &machine_id()))?;
    Ok(())
}

/// Takes as many descriptors as it may have, as Go's runtime does.
///
/// # Errors
/// When those are too few to start with: what is needed would be refused one by one, in libraries that do not expect it.
fn raise_limit() -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < DESCRIPTORS) {
        let most = limit.maximum.unwrap_or_default();
        return Err(format!(
            "this process may open {most} files, and needs {DESCRIPTORS}: raise the limit (LimitNOFILE= in the unit, ulimit -n in a shell)"
        ));
    }
    // Within the hard limit the kernel does not refuse.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    Ok(())
}

/// What tells this running system from others: clones of a machine differ in their boot, hosts in network namespaces in
/// their namespace.
fn system() -> Machine {
    let namespace = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let boot = format!("{} {}", read("/proc/sys/kernel/random/boot_id"), namespace.display());
    Machine::new(&machine_id(), &boot, &read("/proc/sys/kernel/hostname"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

/// Nobody is left to be told when standard error is gone.
fn say(text: &str, code: u8) -> ExitCode {
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}
