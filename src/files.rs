//! The files that tell docker and others about this host's subnet: written by the daemon, read back at its next start.

use std::path::Path;

use tracing::{info, warn};

use crate::atomic_file::{self, Error};
use crate::config::{Config, DockerOptsFile};
use crate::docker_opts::{self, Options};
use crate::env_file;
use crate::subnet::{Lease, NetworkConfig, Range, Subnets};
use crate::subnet_env::{self, SubnetEnv};
use ipnetwork::IpNetwork;

/// Readable by everybody, as docker and CNI plugins expect.
const MODE: u32 = 0o644;

/// Finds out, before anything else is made, whether [`write()`] would work.
///
/// # Errors
/// The file, the step that would fail, and what to do.
pub fn probe(config: &Config) -> Result<(), Error> {
    let docker_opts = config.docker_opts.iter().map(|file| &file.path);
    docker_opts.chain([&config.subnet_file]).try_for_each(|path| atomic_file::probe(path))
}

/// Writes `subnet.env`, and docker's options where asked for.
///
/// # Errors
/// The file, the step that failed, and what to do.
pub fn write(config: &Config, network: &NetworkConfig, lease: &Lease, mtu: u32) -> Result<(), Error> {
    let overlays = network.overlays(&lease.subnets).collect();
    let env = SubnetEnv { overlays, mtu, ip_masq: config.firewall.ip_masq };
    let text = env.to_string();
    atomic_file::write(&config.subnet_file, text.as_bytes(), MODE)?;
    info!("Wrote subnet file to {}", config.subnet_file.display());
    match &config.docker_opts {
        Some(file) => write_docker_opts(file, &text),
        None => Ok(()),
    }
}

fn write_docker_opts(file: &DockerOptsFile, subnet_env: &str) -> Result<(), Error> {
    let options = Options { key: file.key.clone(), ..Options::default() };
    let (variables, _) = env_file::parse(subnet_env);
    match docker_opts::render(&options, &variables) {
        Ok(text) => {
            atomic_file::write(&file.path, text.as_bytes(), MODE)?;
            info!("Wrote docker options to {}", file.path.display());
        }
        Err(error) => warn!("cannot write {}: {error}", file.path.display()),
    }
    Ok(())
}

/// The subnets of this network that an earlier life of the daemon had, as far as its file tells.
pub fn previous_subnets(path: &Path, network: &NetworkConfig) -> Subnets {
    let Ok(text) = std::fs::read(path) else { return Subnets::default() };
    let families = network.ranges.iter().map(Range::family);
    let remembered = subnet_env::remembered(&String::from_utf8_lossy(&text), families);
    remembered.warnings.iter().for_each(|warning| warn!("{}: {warning}", path.display()));
    remembered.subnets
}

/// The networks that an earlier life of the daemon was in, as far as its file tells.
pub fn previous_networks(path: &Path) -> Vec<IpNetwork> {
    let text = std::fs::read(path).unwrap_or_default();
    subnet_env::remembered_networks(&String::from_utf8_lossy(&text))
}
