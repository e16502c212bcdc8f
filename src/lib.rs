//! A drop-in for flannel's vxlan overlay daemon.
pub mod atomic_file;
pub mod backend;
pub mod cli;
pub mod config;
pub mod docker_opts;
pub mod env_file;
pub mod kernel;
pub mod lab;
pub mod logging;
pub mod retry;
pub mod subnet;
pub mod subnet_env;
