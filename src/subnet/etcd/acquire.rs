//! Getting a lease: read, choose, write if nothing changed; else again.

use std::time::Duration;

use rand::RngExt as _;
use tracing::{debug, info};

use super::super::alloc::{self, Choice};
use super::super::{Claim, Error, Grant, Lease, NetworkConfig, Snapshot, Subnets};
use super::EtcdManager;
use super::registry::{Before, Commit, Registry, Write};

/// Lost races before giving up.
const ROUNDS: usize = 10;
/// An etcd lease shorter than this is not worth keeping: an outage that long would delete the key.
const SHORTEST: Duration = Duration::from_secs(60);

/// Gets a lease for `claim`. The first round chooses from `known`.
pub(super) async fn acquire(
    manager: &EtcdManager,
    config: &NetworkConfig,
    claim: &Claim,
    known: &Snapshot,
) -> Result<Lease, Error> {
    let mut fresh = None;
    for _ in 0..ROUNDS {
        let leases = &fresh.as_ref().unwrap_or(known).leases;
        let won = match choose(config, leases, claim) {
            Choice::Reuse(lease) => reuse(manager, lease, claim).await?,
            Choice::Create { subnets, replaces } => {
                announce(config, claim, &subnets, &replaces);
                create(manager, claim, subnets, &replaces).await?
            }
            Choice::Full => return Err(full(config)),
        };
        if let Some(lease) = won {
            manager.discard_spare().await;
            return Ok(lease);
        }
        debug!("the leases changed while one was chosen, choosing again");
        fresh = Some(manager.registry.snapshot().await?);
    }
    Err(Error::Unavailable(format!(
        "cannot acquire a subnet: other hosts were faster {ROUNDS} times, or etcd did not say whether it wrote"
    )))
}

fn choose(config: &NetworkConfig, leases: &[Lease], claim: &Claim) -> Choice {
    alloc::choose(config, leases, claim, &mut |below| rand::rng().random_range(0..below.max(1)))
}

/// Keeps an earlier lease of this host. Nothing is written if it is as it should be.
async fn reuse(manager: &EtcdManager, lease: Lease, claim: &Claim) -> Result<Option<Lease>, Error> {
    let grant = match lease.grant {
        Some(grant) if !usable(&manager.registry, grant).await? => Some(manager.take_grant().await?),
        same => same,
    };
    info!("Found lease ({}) for current IP ({}), reusing", lease.subnets, address(claim));
    if grant == lease.grant && lease.attrs == claim.attrs {
        return Ok(Some(lease));
    }
    let write = Write {
        subnets: &lease.subnets,
        attrs: &claim.attrs,
        grant,
        before: Before::At(lease.modified),
        replaces: &[],
    };
    let is_new = grant != lease.grant;
    Ok(match commit(manager, &write, is_new).await? {
        Commit::Done(modified) => Some(Lease { attrs: claim.attrs.clone(), modified, grant, ..lease }),
        Commit::Lost | Commit::Unknown => None,
    })
}

async fn create(
    manager: &EtcdManager,
    claim: &Claim,
    subnets: Subnets,
    replaces: &[Lease],
) -> Result<Option<Lease>, Error> {
    let grant = Some(manager.take_grant().await?);
    let write = Write { subnets: &subnets, attrs: &claim.attrs, grant, before: Before::Absent, replaces };
    Ok(match commit(manager, &write, true).await? {
        Commit::Done(revision) => {
            Some(Lease { subnets, attrs: claim.attrs.clone(), created: revision, modified: revision, grant })
        }
        Commit::Lost | Commit::Unknown => None,
    })
}

/// Writes. A new grant that was surely not used goes back, for the next round.
async fn commit(manager: &EtcdManager, write: &Write<'_>, grant_is_new: bool) -> Result<Commit, Error> {
    let outcome = manager.registry.write(write).await;
    let unused = matches!(outcome, Ok(Commit::Lost) | Err(_));
    if let Some(grant) = write.grant.filter(|_| grant_is_new && unused) {
        manager.put_back(grant);
    }
    outcome
}

async fn usable(registry: &Registry, grant: Grant) -> Result<bool, Error> {
    Ok(registry.granted_ttl(grant).await?.is_some_and(|ttl| ttl >= SHORTEST))
}

fn announce(config: &NetworkConfig, claim: &Claim, subnets: &Subnets, replaces: &[Lease]) {
    for old in replaces {
        let ip = address(claim);
        info!(
            "Found lease ({}) for current IP ({ip}) but not compatible with current config, deleting",
            old.subnets
        );
    }
    match claim.previous {
        Some(previous) if subnets.v4 == Some(previous) => {
            info!("Found previously leased subnet ({previous}), reusing");
        }
        _ => info!("Picking subnet in range {} ... {}", config.subnet_min, config.subnet_max),
    }
}

fn full(config: &NetworkConfig) -> Error {
    Error::Full { network: config.network, subnet_len: config.subnet_len, total: config.subnet_count() }
}

fn address(claim: &Claim) -> std::net::Ipv4Addr {
    claim.attrs.public_ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED)
}
