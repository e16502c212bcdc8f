//! Log lines that other programs search for, word for word as Go flannel writes them.

use std::fmt::{self, Display};

use tracing::info;

/// A line, with what varies in it. The order is that of a start and a stop.
#[derive(Clone, Copy)]
pub enum GoLine<'a> {
    /// The network configuration was read.
    NetworkConfig(&'a dyn Display),
    /// The underlay interface was chosen: its name and addresses.
    Interface(&'a dyn Display, &'a dyn Display),
    /// The public address is that of the interface.
    DefaultExternalAddress(&'a dyn Display),
    /// The public address was given.
    ExternalAddress(&'a dyn Display),
    /// A lease of an earlier run is used again: its subnets, and the public address.
    Reusing(&'a dyn Display, &'a dyn Display),
    /// A subnet is chosen between these two.
    Picking(&'a dyn Display, &'a dyn Display),
    /// This host has a subnet. Go flannel writes it up to v0.7.
    LeaseAcquired(&'a dyn Display),
    /// `subnet.env` was written.
    SubnetFile(&'a dyn Display),
    /// Peers are programmed from now on.
    RunningBackend,
    WatchingLeases,
    /// The firewall's rules are in place.
    BootstrapDone,
    /// All of the above.
    Ready,
    /// The daemon was told to stop.
    Exiting,
}

impl GoLine<'_> {
    /// Logs the line with its values as fields. The message contains all of them, so the text format adds nothing.
    pub fn log(&self) {
        match self {
            GoLine::NetworkConfig(backend) => info!(%backend, "{self}"),
            GoLine::Interface(dev, address) => info!(%dev, %address, "{self}"),
            GoLine::DefaultExternalAddress(public_ip) | GoLine::ExternalAddress(public_ip) => {
                info!(%public_ip, "{self}");
            }
            GoLine::Reusing(subnet, public_ip) => info!(%subnet, %public_ip, "{self}"),
            GoLine::Picking(first, last) => info!(%first, %last, "{self}"),
            GoLine::LeaseAcquired(subnet) => info!(%subnet, "{self}"),
            GoLine::SubnetFile(path) => info!(%path, "{self}"),
            GoLine::RunningBackend
            | GoLine::WatchingLeases
            | GoLine::BootstrapDone
            | GoLine::Ready
            | GoLine::Exiting => info!("{self}"),
        }
    }
}

impl Display for GoLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GoLine::NetworkConfig(backend) => {
                write!(f, "Found network config - Backend type: {backend}")
            }
            GoLine::Interface(name, addresses) => {
                write!(
                    f,
                    "Using interface with name {name} and address {addresses}"
                )
            }
            GoLine::DefaultExternalAddress(addresses) => {
                write!(
                    f,
                    "Defaulting external address to interface address ({addresses})"
                )
            }
            GoLine::ExternalAddress(addresses) => {
                write!(f, "Using {addresses} as external address")
            }
            GoLine::Reusing(subnets, ip) => {
                write!(f, "Found lease ({subnets}) for current IP ({ip}), reusing")
            }
            GoLine::Picking(first, last) => write!(f, "Picking subnet in range {first} ... {last}"),
            GoLine::LeaseAcquired(subnets) => write!(f, "Lease acquired: {subnets}"),
            GoLine::SubnetFile(path) => write!(f, "Wrote subnet file to {path}"),
            GoLine::RunningBackend => f.write_str("Running backend."),
            GoLine::WatchingLeases => f.write_str("watching for new subnet leases"),
            GoLine::BootstrapDone => f.write_str("bootstrap done"),
            GoLine::Ready => f.write_str("flannel is ready"),
            GoLine::Exiting => f.write_str("Exiting cleanly..."),
        }
    }
}
