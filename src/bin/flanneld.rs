//! The daemon: arguments -> logging -> run -> exit code.

use std::env;
use std::io::{self, Write as _};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flanneld::cli::flanneld::{Parsed, Run, VERSION, parse};
use flanneld::config::{Config, OnLeaseLost};
use flanneld::kernel::netlink::Netlink;
use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::owner::MachineId;
use flanneld::util::logging::Log;
use flanneld::util::read_trimmed;
use flanneld::util::systemd::machine_id;
use flanneld::{app, shutdown, util::logging};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Descriptors that a daemon with connections to some members needs, with room to spare.
const DESCRIPTORS: u64 = 64;
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// How long the end waits for files that are being written.
const LAST_WRITES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match parse(env::args_os().skip(1), env::vars_os()) {
        Parsed::Run(run) => start(*run),
        Parsed::Show(text) => say(&text, 0),
        Parsed::Wrong(mistake) => say(&format!("flanneld: {mistake}\n"), 2),
    }
}

fn start(run: Run) -> ExitCode {
    // A core dump would hold the password and the key. Where the kernel refuses, the unit's LimitCORE is left.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let log = match logging::start(run.logging) {
        Ok(log) => Arc::new(log),
        Err(error) => return say(&format!("flanneld: cannot start logging: {error}\n"), 1),
    };
    for warning in &run.warnings {
        tracing::warn!(err = warning, "{warning}");
    }
    tracing::info!(version = VERSION, "flanneld {VERSION}: {}", run.config);
    let code = match supervised(&run.config, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(err = %error, "{error}");
            ExitCode::FAILURE
        }
    };
    log.flush();
    code
}

/// Runs the daemon, on this thread: the allocator gives memory back best to the first one. A thread of its own waits for signals,
/// and ends the process when the daemon hangs in a system call.
#[allow(
    clippy::disallowed_methods,
    reason = "no destructor of a daemon that hangs can run"
)]
fn supervised(config: &Config, log: &Arc<Log>) -> Result<(), String> {
    raise_limit()?;
    let runtime = runtime()?;
    let mut signals = {
        let _guard = runtime.enter();
        Signals::listen().map_err(|error| format!("cannot handle signals: {error}"))?
    };
    let (stop, stopped) = oneshot::channel();
    let (running, ended) = oneshot::channel::<()>();
    let log = Arc::clone(log);
    let supervise = move || {
        let end = runtime.block_on(shutdown::supervise(
            ended,
            async || signals.next().await,
            stop,
        ));
        if end.is_none() {
            log.flush();
            process::exit(0);
        }
    };
    let thread = thread::Builder::new().name("signals".into());
    thread
        .spawn(supervise)
        .map_err(|error| format!("cannot start the thread for signals: {error}"))?;
    let end = serve(config, stopped);
    drop(running);
    end
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// One thread for all that goes on: the work is system calls of microseconds, and tasks on several cost more than they give
/// (measured).
fn serve(config: &Config, stop: oneshot::Receiver<()>) -> Result<(), String> {
    let runtime = runtime()?;
    keep_a_thread(&runtime)?;
    let gives_way = config.on_lease_lost != OnLeaseLost::Hold;
    let manager = EtcdManager::new(config.etcd.clone()).map_err(|error| error.to_string())?;
    let manager = manager.from_any_member().on(system()).giving_way(gives_way);
    let kernel = Netlink::open()
        .map_err(|error| error.to_string())?
        .with_checksums(config.tx_checksum);
    let stop = async {
        // Without a sender the process is ending.
        let _ = stop.await;
    };
    let end = runtime.block_on(app::run(config, &manager, kernel, &machine_id(), stop));
    // What is being written to a disk is written to its end; a name server is not waited for.
    runtime.shutdown_timeout(LAST_WRITES);
    end.map_err(|error| error.to_string())
}

/// Starts the first thread for work beside the loop. It stays, so that later work at worst waits for it where the system refuses
/// to start more threads; without a first one that would be a panic.
fn keep_a_thread(runtime: &Runtime) -> Result<(), String> {
    let refused = |error| format!("cannot start a thread to write files: {error}");
    thread::Builder::new()
        .spawn(|| ())
        .map_err(refused)?
        .join()
        .unwrap_or_default();
    drop(runtime.spawn_blocking(|| ()));
    Ok(())
}

fn runtime() -> Result<Runtime, String> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(FOREVER)
        .build();
    runtime.map_err(|error| format!("cannot start the event loop: {error}"))
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
            "the limit of open files is {most}, and flanneld needs {DESCRIPTORS}; raise it (LimitNOFILE= in the unit, ulimit -n in a shell)"
        ));
    }
    // Within the hard limit the kernel does not refuse.
    let current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    Ok(())
}

/// What tells this running system from others: clones of a machine differ in their boot, hosts in network namespaces in
/// their namespace.
fn system() -> MachineId {
    let namespace = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let boot = read_trimmed("/proc/sys/kernel/random/boot_id");
    let boot = format!("{boot} {}", namespace.display());
    let host = read_trimmed("/proc/sys/kernel/hostname");
    MachineId::new(&machine_id(), &boot, &host)
}

/// No one is left to be told when standard error is gone.
fn say(text: &str, code: u8) -> ExitCode {
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}
