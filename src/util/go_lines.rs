//! Log lines that other programs search for, word for word as Go flannel writes them: pure.

use std::fmt::{self, Display};

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
    /// A lease of an earlier life is used again: its subnets, and the public address.
    Reusing(&'a dyn Display, &'a dyn Display),
    /// A subnet is chosen between these two.
    Picking(&'a dyn Display, &'a dyn Display),
    /// This host has a subnet. Of v0.7.
    LeaseAcquired(&'a dyn Display),
    /// `subnet.env` was written.
    SubnetFile(&'a dyn Display),
    /// Peers are programmed from now on.
    RunningBackend,
    /// The same.
    WatchingLeases,
    /// The firewall's rules are in place.
    BootstrapDone,
    /// All of the above.
    Ready,
    /// The end was asked for.
    Exiting,
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
