//! What the daemon was told: flags and environment, parsed, defaulted and cross-checked once: pure.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A value that never appears in logs: `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How to reach etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Endpoints as given: `https://host:port`, `http://host:port` or bare `host:port`. Never empty.
    pub endpoints: Vec<String>,
    /// Root of all keys, normalised: no trailing or doubled slash.
    pub prefix: String,
    /// CA bundle (PEM) that signs the servers' certificates.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key (PEM): both or neither.
    pub client_pair: Option<(PathBuf, PathBuf)>,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// How long before its end a lease must have been renewed.
    pub renew_margin: Duration,
}

/// Where docker's options go when the daemon writes them itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerOptsFile {
    /// The file to write.
    pub path: PathBuf,
    /// Name of the combined variable.
    pub key: String,
}

/// Everything `flanneld` needs to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The datastore.
    pub etcd: EtcdConfig,
    /// Interface names or addresses to try, in order; empty: the interface of the default route.
    pub ifaces: Vec<String>,
    /// Address that peers should use instead of the interface's own.
    pub public_ip: Option<Ipv4Addr>,
    /// Where `subnet.env` goes.
    pub subnet_file: PathBuf,
    /// Where docker's options go, if the daemon shall write them.
    pub docker_opts: Option<DockerOptsFile>,
}
