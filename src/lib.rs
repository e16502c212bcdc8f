//! A drop-in for flannel's vxlan overlay daemon, with etcd v3 as its datastore.
//!
//! Every host holds a lease on one subnet of the cluster's network, and publishes with it where its VTEP is. Each
//! daemon follows all leases and keeps one neighbor, one FDB entry and one route for every other host in its kernel.
//!
//! ARCHITECTURE.md says how a lease becomes kernel entries, and where things are.

// Only here: a test that panics has failed, as it should.
#![warn(clippy::indexing_slicing, clippy::string_slice)]

pub mod app;
pub mod backend;
pub mod cli;
pub mod config;
pub mod desired;
pub mod docker_opts;
pub mod files;
pub mod firewall;
pub mod host_setup;
pub mod iface;
pub mod kernel;
pub mod probe;
pub mod reconcile;
pub mod resolver;
pub mod schedule;
pub mod shutdown;
pub mod state_file;
pub mod status;
pub mod subnet;
pub mod subnet_env;
pub mod util;
