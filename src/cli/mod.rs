//! The daemon's command line.

mod config;
pub mod explain;
pub mod flag_table;
pub mod flanneld;
pub mod go_flags;
