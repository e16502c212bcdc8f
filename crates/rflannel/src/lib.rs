//! The tool beside the daemon: shows, checks, and repairs what [`flanneld`] does on a host and in a cluster.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`cli`] | command lines, the only place that knows clap |
//! | [`check`] | why two hosts cannot talk: what is known, what was tried, and the one most likely cause |
//! | [`admin`] | what a cluster's administrators ask for: leases, the network configuration |
//!
//! Files and units of a node are in `node-setup`, overlays on one machine in `lab`.

// Only here: a test that panics has failed, as it should.
#![warn(clippy::indexing_slicing, clippy::string_slice)]

pub mod admin;
pub mod check;
pub mod cli;
