//! A drop-in for flannel's vxlan overlay daemon, with etcd v3 as its datastore.
//!
//! Every host holds a lease on one subnet of the cluster's network, and publishes with it where its VTEP is. Each
//! daemon follows all leases and keeps one neighbor, one FDB entry and one route for every other host in its kernel.
//!
//! # The way of a lease
//!
//! ```text
//!  etcd ──► subnet::etcd ──► peers ──────────► kernel::plan ─────► kernel::encode ──► kernel::netlink ──► kernel
//!           watch; keys and  asks the backend  what is desired     messages, packed   one send for many,
//!           values parsed    for each peer's   minus what is       into buffers       answers matched
//!                            entries             there
//!           I/O              pure              pure                pure               I/O
//! ```
//!
//! [`reconcile`] turns this wheel, and one task owns everything on it. Two inputs lead to the same `plan`:
//!
//! * An **event** changes the entries of one peer; before and after are compared, and only the difference is written.
//! * A **resync** compares all that is desired with a dump of what the kernel holds. It adopts what an earlier life of
//!   the daemon left, and repairs whatever anybody else has changed.
//!
//! Nothing is deleted before the leases have been read completely once. A write that failed stays in the difference.
//!
//! # Where things are
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`cli`] | command lines, the only place that knows clap |
//! | [`config`], [`util::logging`] | what the daemon was told, and what it says |
//! | [`app`] | from start to stop: interface, device, lease, files, then the loop |
//! | [`reconcile`] | the loop |
//! | [`desired`] | lease events to desired entries |
//! | [`backend`] | what a peer means for the kernel: vxlan, host-gw, alloc |
//! | [`subnet`] | leases: keys, values, choice; [`subnet::etcd`] is the datastore |
//! | [`kernel`] | entries, their difference, and netlink |
//! | [`iface`] | which interface carries the overlay |
//! | [`files`] | `subnet.env` and docker's options, from [`subnet_env`], [`docker_opts`], [`util::env_file`], [`util::atomic_file`] |
//! | [`firewall`] | masquerade and forward rules, the source filter |
//! | [`status`] | what the daemon shows of itself: health, metrics, status |
//! | [`probe`] | packets that find out what comes through to another host |
//! | [`util::systemd`], [`util::backoff`], [`util::retry_log`], [`util::histogram`], [`util::table`] | what systemd is told; pauses between attempts, few words about them; durations, counted; tables |
//!
//! Modules use only what is below them, pure ones do no I/O, and each foreign crate has one home: `crates/tidy` checks it.

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
