//! (to be written)
pub mod mk_docker_opts;
