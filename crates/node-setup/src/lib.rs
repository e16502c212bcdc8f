//! Plans and writes the services of a Kubernetes node.
//!
//! ```text
//!  flags, TOML, exported variables ─► Settings ─► Model ─┐
//!                                                        ├─► plan() ─► Plan ─► printed, compared, or written
//!  existing files of the host ─────────────────► Host ──┘
//! ```
//!
//! Everything up to the [`Plan`] is pure, except reading the host. A plan contains whole files; nothing is decided
//! later.

// Only here: a test that panics has failed, as it should.
#![warn(clippy::indexing_slicing, clippy::string_slice)]

pub mod activate;
pub mod apply;
pub mod argv;
pub mod check;
mod command;
pub mod distribution;
pub mod etcd_config;
pub mod explain;
pub mod finding;
pub mod host;
pub mod model;
pub mod plan;
pub mod render;
pub mod settings;
pub mod systemctl;
pub mod unit;
pub mod versions;

pub use host::Host;
pub use model::Model;
pub use plan::{Conflict, Directory, Effect, File, FileKind, Plan, Service, UnitUse, Warning};
pub use render::plan;
pub use settings::Settings;

/// Why there is no plan. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting is wrong, or contradicts others.
    #[error("{setting}: {why}")]
    Setting {
        /// The name of the setting: a flag without its dashes, and the key in the TOML file.
        setting: String,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// An existing file cannot be parsed, so nothing can be added to it.
    #[error("{path}: {why}")]
    Present {
        /// Path on the target.
        path: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A configuration file cannot be written as YAML.
    #[error("cannot write a configuration file as YAML: {0}")]
    Yaml(String),
}

impl Error {
    pub fn setting(name: &str, why: impl Into<String>) -> Self {
        Self::Setting {
            setting: name.into(),
            why: why.into(),
        }
    }

    pub fn present(path: &str, why: impl Into<String>) -> Self {
        Self::Present {
            path: path.into(),
            why: why.into(),
        }
    }
}
