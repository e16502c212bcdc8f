//! The files that tell docker and others about this host's subnet: written by the daemon, read back at its next start.

mod keeper;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::{Config, DockerOptsFile};
use crate::docker_opts::{self, Options};
use crate::subnet::{Lease, NetworkConfig, Range, Subnets};
use crate::subnet_env::{self, SubnetEnv};
use crate::util::atomic_file::{self, Error};
use crate::util::env_file;
use crate::util::go_lines::GoLine;
use ipnetwork::IpNetwork;
use keeper::{Content, Keeper, SLOW, State, beside};

/// Readable by all, as docker and CNI plugins expect.
const MODE: u32 = 0o644;

/// Readable by root only: it says how the whole cluster is reached.
const STATE_MODE: u32 = 0o600;

/// For removing the state file at the end of the process.
const DISCARD: Duration = Duration::from_secs(1);

/// Finds out, before anything else is made, whether the files can be written, and reads what an earlier life left.
pub async fn prepare(config: &Config, on_slow: impl FnOnce()) -> Result<Previous, Error> {
    let (subnet_file, docker_opts) = (config.subnet_file.clone(), config.docker_opts.clone());
    let work = move || {
        if let Some(file) = docker_opts {
            atomic_file::probe(&file.path)?;
        }
        atomic_file::probe(&subnet_file)?;
        Ok(Previous::read(&subnet_file))
    };
    beside(work, on_slow).await
}

/// A file that is read within a few seconds, or not at all. One that hangs is read once, however often it is asked for.
#[derive(Debug, Default)]
pub struct Reading(Option<JoinHandle<io::Result<Vec<u8>>>>);

impl Reading {
    /// Reads the file at `path`, which is the same each time.
    pub async fn soon(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let path = path.to_owned();
        let read = || spawn_blocking(|| std::fs::read(path));
        let done = timeout(SLOW, self.0.get_or_insert_with(read)).await;
        let done = done.map_err(|_| io::ErrorKind::TimedOut)?;
        self.0 = None;
        done.map_err(io::Error::other)?
    }
}

/// A file that is written beside the loop, and its number of contents so far.
struct Kept {
    contents: mpsc::UnboundedSender<Content>,
    state: watch::Receiver<State>,
    sent: u64,
}

impl Kept {
    fn write(&mut self, bytes: Vec<u8>) {
        self.sent += 1;
        // Without a keeper the process is ending.
        let _ = self.contents.send(Content {
            number: self.sent,
            bytes: Some(bytes),
        });
    }

    fn is_written(&self) -> bool {
        self.state.borrow().written == self.sent
    }

    fn is_gone(&self) -> bool {
        self.state.borrow().is_gone && self.is_written()
    }
}

/// The files of a daemon: those that announce this host's subnet, and the state file.
pub struct Files {
    subnet_env: Kept,
    docker_opts: Option<Kept>,
    state: Option<Kept>,
}

/// The futures that do the work of [`Files`].
pub struct Keepers {
    keepers: [Option<Keeper>; 3],
    discard: Discard,
}

/// Removes the state file, if there is one: it names a lease that is lost.
pub struct Discard(Option<(mpsc::UnboundedSender<Content>, watch::Receiver<State>)>);

impl Discard {
    /// Removes it, whatever is still to be written; gives up on a disk that hangs.
    pub async fn run(self) {
        let Some((contents, mut state)) = self.0 else {
            return;
        };
        // Without a keeper the process is ending.
        let _ = contents.send(Content::NONE);
        let _ = timeout(
            DISCARD,
            state.wait_for(|state| state.written == Content::NONE.number),
        )
        .await;
    }
}

impl Keepers {
    /// Returns what removes the state file while these futures run.
    pub fn discard(&mut self) -> Discard {
        Discard(self.discard.0.take())
    }

    /// Keeps all files until the future is dropped.
    pub async fn run(self) -> Infallible {
        let [subnet_env, docker_opts, state] = self.keepers.map(|keeper| async {
            match keeper {
                Some(keeper) => keeper.run().await,
                None => pending().await,
            }
        });
        tokio::select! {
            never = subnet_env => match never {},
            never = docker_opts => match never {},
            never = state => match never {},
        }
    }
}

impl Files {
    /// Writes nothing yet.
    pub fn new(config: &Config) -> (Self, Keepers) {
        let keep = |path: &Path, mode, written| {
            let (contents, state, keeper) = Keeper::new(path.to_owned(), mode, written);
            let sent = 0;
            let kept = Kept {
                contents,
                state,
                sent,
            };
            (kept, keeper)
        };
        let (subnet_env, first) = keep(&config.subnet_file, MODE, |path| {
            GoLine::SubnetFile(&path.display()).log();
        });
        let wrote_options = |path: &Path| {
            info!(path = %path.display(), "Wrote docker options to {}", path.display());
        };
        let docker_opts = config.docker_opts.as_ref();
        let docker_opts = docker_opts.map(|file| keep(&file.path, MODE, wrote_options));
        let state = config.state_file.as_ref();
        let state = state.map(|path| keep(path, STATE_MODE, |_| ()));
        let ((docker_opts, second), (state, third)) = (docker_opts.unzip(), state.unzip());
        let channels = |kept: &Kept| (kept.contents.clone(), kept.state.clone());
        let keepers = Keepers {
            keepers: [Some(first), second, third],
            discard: Discard(state.as_ref().map(channels)),
        };
        let files = Self {
            subnet_env,
            docker_opts,
            state,
        };
        (files, keepers)
    }

    /// Writes `subnet.env`, and docker's options where asked for.
    pub fn announce(&mut self, config: &Config, network: &NetworkConfig, lease: &Lease, mtu: u32) {
        let env = SubnetEnv {
            overlays: network.overlays(&lease.subnets).collect(),
            mtu,
            ip_masq: config.firewall.ip_masq,
        };
        let text = env.to_string();
        if let (Some(file), Some(kept)) = (&config.docker_opts, &mut self.docker_opts) {
            match render_docker_opts(file, &text) {
                Ok(options) => kept.write(options.into_bytes()),
                Err(error) => warn!(
                    path = %file.path.display(), err = %error,
                    "cannot write {}: {error}",
                    file.path.display()
                ),
            }
        }
        self.subnet_env.write(text.into_bytes());
    }

    /// Whether the last [`announce`](Self::announce) has reached the disk.
    pub fn is_announced(&self) -> bool {
        self.announcing().all(Kept::is_written)
    }

    /// Whether a file of the announcement was removed by another program.
    pub fn is_announcement_gone(&self) -> bool {
        self.announcing().any(Kept::is_gone)
    }

    pub fn save(&mut self, bytes: Vec<u8>) {
        if let Some(kept) = &mut self.state {
            kept.write(bytes);
        }
    }

    /// Whether an earlier content of the state file is not written yet.
    pub fn is_saving(&self) -> bool {
        self.state.as_ref().is_some_and(|kept| !kept.is_written())
    }

    pub fn is_state_gone(&self) -> bool {
        self.state.as_ref().is_some_and(Kept::is_gone)
    }

    pub fn trouble(&self) -> Option<String> {
        self.announcing()
            .find_map(|kept| kept.state.borrow().trouble.clone())
    }

    /// What is wrong with the files, none of which keeps this host from serving.
    pub fn remarks(&self) -> Vec<String> {
        let trouble = |kept: &Kept| kept.state.borrow().trouble.clone();
        let change = |kept: &Kept| kept.state.borrow().change.clone();
        let changes = self.announcing().chain(&self.state).filter_map(change);
        self.state
            .iter()
            .filter_map(trouble)
            .chain(changes)
            .collect()
    }

    /// Waits until something about a file is new.
    pub async fn changed(&mut self) {
        let Self {
            subnet_env,
            docker_opts,
            state,
        } = self;
        tokio::select! {
            Ok(()) = subnet_env.state.changed() => {}
            () = changed(docker_opts) => {}
            () = changed(state) => {}
            else => pending().await,
        }
    }

    fn announcing(&self) -> impl Iterator<Item = &Kept> {
        self.docker_opts.iter().chain([&self.subnet_env])
    }
}

async fn changed(kept: &mut Option<Kept>) {
    if let Some(kept) = kept
        && kept.state.changed().await.is_ok()
    {
        return;
    }
    pending().await
}

fn render_docker_opts(
    file: &DockerOptsFile,
    subnet_env: &str,
) -> Result<String, docker_opts::BadIpMasq> {
    let options = Options {
        key: file.key.clone(),
        ..Options::default()
    };
    let (variables, _) = env_file::parse(subnet_env);
    docker_opts::render(&options, &variables)
}

/// What an earlier life of the daemon left in `subnet.env`.
#[derive(Debug, Default)]
pub struct Previous {
    text: String,
    path: PathBuf,
}

impl Previous {
    /// Reads the file; one that cannot be read says nothing.
    pub fn read(path: &Path) -> Self {
        Self::of(path, &std::fs::read(path).unwrap_or_default())
    }

    pub fn of(path: &Path, bytes: &[u8]) -> Self {
        Self {
            text: String::from_utf8_lossy(bytes).into_owned(),
            path: path.to_owned(),
        }
    }

    /// The subnets of this network that the host had.
    pub fn subnets(&self, network: &NetworkConfig) -> Subnets {
        // A host that never had one has no file, and nothing to be warned of.
        if self.text.is_empty() {
            return Subnets::default();
        }
        let families = network.ranges.iter().map(Range::family);
        let remembered = subnet_env::remembered(&self.text, families);
        for warning in &remembered.warnings {
            warn!(
                path = %self.path.display(), err = warning,
                "{}: {warning}",
                self.path.display()
            );
        }
        remembered.subnets
    }

    pub fn networks(&self) -> Vec<IpNetwork> {
        subnet_env::remembered_networks(&self.text)
    }
}
