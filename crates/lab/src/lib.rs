//! An overlay of several hosts on one machine, for trials, debugging, tests, and benchmarks.
//!
//! Hosts are network, mount, UTS, IPC, and PID namespaces on one bridge. etcd is real, with members in
//! namespaces of their own, and so is `flanneld`. Each host can have a pod. A lab lives inside one outer set
//! of namespaces. One process holds them and ends when the process that created the lab ends, however that
//! happens. So nothing outlives a killed test, labs with the same names run side by side, and no packet and
//! no mount reaches the machine.
//!
//! ```text
//!  this process ──pipe── holder: PID 1 of the lab, br0 10.64.255.254/16
//!                           ├── h1 10.64.0.1     flanneld, cni0 ── pod      (and fd64::10.64.0.1)
//!                           ├── h2 10.64.0.2     …
//!                           └── e1 10.64.255.1   etcd
//! ```
//!
//! It never links against the daemon: it starts programs and observes them from outside, as an operator would.
//! It is tested by `tests/lab.rs`, on the real kernel.

#![expect(
    clippy::indexing_slicing,
    reason = "who names a host or member that is not there has made a mistake"
)]

mod bridge;
mod cluster;
mod error;
mod etcd;
mod event;
mod faults;
mod flanneld;
mod netns;
mod node;
mod notify;
mod options;
mod ping;
mod pki;
mod pod;
mod process;
mod state;
mod tools;
mod wait;

pub use cluster::{Host, Lab};
pub use error::LabError;
pub use etcd::Etcd;
pub use event::{Event, Report, Stage};
pub use faults::{FAULTS, Fault};
pub use flanneld::Flanneld;
pub use node::Node;
pub use notify::NotifySocket;
pub use options::LabOptions;
pub use ping::Matrix;
pub use pki::{Authority, Pair};
pub use pod::Pod;
pub use process::Process;
pub use rustix::process::Signal;
pub use state::{KeptLab, kept_labs};
pub use wait::wait_until;
