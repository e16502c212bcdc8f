//! A start from the state file, where etcd cannot be read.

use std::io;
use std::time::SystemTime;

use tracing::warn;

use super::{Host, Origin, Start, Trouble};
use crate::backend;
use crate::files::{Previous, Reading};
use crate::host_setup::NodeConfig;
use crate::iface::{Addresses, Announced};
use crate::kernel::{HostState, Kernel, KernelError};
use crate::reconcile::SavedState;
use crate::state_file::{self, Owner, State};
use crate::subnet::{self, NetworkConfig, PublicAddrs, Snapshot, Subnets};
use crate::util::logging::causes;

/// What etcd has said since this process started. A state file that contradicts it is not used.
#[derive(Default)]
pub(super) struct Answers {
    /// The network configuration; `None` inside where there was none that can be used.
    pub(super) network: Option<Option<NetworkConfig>>,
    /// The leases, and whose they are.
    pub(super) leases: Option<Vec<(Subnets, PublicAddrs)>>,
    /// No other machine with this address has them.
    pub(super) is_settled: bool,
}

impl Answers {
    fn contradiction(&self, state: &State) -> Option<String> {
        match &self.network {
            Some(None) => {
                return Some("etcd contains no usable network configuration".into());
            }
            Some(Some(network)) if !backend::is_same_network(network, &state.network) => {
                return Some("etcd contains a different network configuration".into());
            }
            Some(Some(_)) | None => {}
        }
        let subnets = state.own.subnets;
        let leases = self.leases.as_ref()?;
        let own = PublicAddrs::of(&state.own.attrs)?;
        if !leases
            .iter()
            .any(|(leased, host)| *leased == subnets && host.is(&own))
        {
            return Some(format!(
                "the leases in etcd do not contain {subnets} for this host"
            ));
        }
        (!self.is_settled).then(|| {
            format!(
                "another machine with this host's public address may hold the lease of {subnets} in etcd"
            )
        })
    }
}

/// The leases of a list with the hosts that announce an address.
pub(super) fn owners(list: &Snapshot) -> Vec<(Subnets, PublicAddrs)> {
    list.leases
        .iter()
        .filter_map(|lease| Some((lease.subnets, PublicAddrs::of(&lease.attrs)?)))
        .collect()
}

impl<K: Kernel> Host<'_, K> {
    /// Returns the addresses that this machine's own lease announces: that of the subnet which subnet.env names, else the one in the
    /// state file.
    pub(super) async fn leased(&mut self, snapshot: &Snapshot, previous: &Subnets) -> Addresses {
        if let Some(lease) = snapshot
            .leases
            .iter()
            .find(|lease| lease.subnets == *previous)
        {
            return Addresses::announced_by(&lease.attrs);
        }
        let Some(path) = &self.config.state_file else {
            return Addresses::default();
        };
        let text = self.reading.soon(path).await.ok();
        let owner = Owner {
            machine: self.machine,
            prefix: &self.config.etcd.prefix,
        };
        let own = text.and_then(|text| state_file::parse_own(&text, owner).ok());
        own.map(|own| Addresses::announced_by(&own.attrs))
            .unwrap_or_default()
    }

    /// The lease of before counts until etcd says otherwise.
    pub(super) async fn load_state(&mut self, error: subnet::Error) -> Result<Start, Trouble> {
        let Some(path) = &self.config.state_file else {
            return Err(Trouble::Unread(error));
        };
        let usable = match self.reading.soon(path).await {
            Ok(text) => self.usable(&text)?.map_err(|why| why.to_string()),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                return Err(Trouble::Unread(error));
            }
            Err(why) => Err(why.to_string()),
        };
        let (state, node_config, host_state) = match usable {
            Ok(usable) => usable,
            Err(why) => {
                let why = format!("{}: {why}", path.display());
                return Err(Trouble::Unusable(error, why.into()));
            }
        };
        let State {
            saved,
            own: lease,
            peers,
            ..
        } = state;
        let leased = Announced::by(Addresses::announced_by(&lease.attrs));
        let resolved = self.resolve(&node_config, &host_state, leased, Some(&lease.attrs))?;
        self.ensure_device(&resolved)?;
        self.made.clear();
        let (subnets, age) = (lease.subnets, state_file::age(saved, SystemTime::now()));
        warn!(
            subnet = %subnets, count = peers.len(), err = %causes(&error),
            "{error}; starting from the state file, which is {age}: subnet {subnets}, {} peers",
            peers.len()
        );
        let subnet_file = &self.config.subnet_file;
        let bytes = Reading::default()
            .soon(subnet_file)
            .await
            .unwrap_or_default();
        let previous = Previous::of(subnet_file, &bytes);
        let firewall = self.firewall(&node_config.network, &lease, &*resolved.backend, &previous);
        let origin = Origin::SavedState(SavedState { peers, saved });
        Ok(Start {
            node_config,
            resolved,
            lease,
            firewall,
            found: None,
            origin,
        })
    }

    /// A state file that names this machine, is no older than a lease lives, announces an address of this host, and does not
    /// contradict what etcd has said.
    fn usable(
        &mut self,
        text: &[u8],
    ) -> Result<Result<(State, NodeConfig, HostState), state_file::Error>, KernelError> {
        let owner = Owner {
            machine: self.machine,
            prefix: &self.config.etcd.prefix,
        };
        let answers = &self.answers;
        let checked = state_file::parse(text, owner).and_then(|state| {
            state.check_age(SystemTime::now())?;
            match answers.contradiction(&state) {
                Some(why) => Err(state_file::Error::Contradicted(why)),
                None => Ok(state),
            }
        });
        let state = match checked {
            Ok(state) => state,
            Err(why) => return Ok(Err(why)),
        };
        let node_config = self.setup(state.network.clone());
        let host_state = self.kernel.host_state(&node_config.query())?;
        Ok(
            match node_config.foreign_address(&host_state, &state.own.attrs) {
                Some(ip) => Err(state_file::Error::Address(ip)),
                None => Ok((state, node_config, host_state)),
            },
        )
    }
}
