//! The kernel: what it holds, the difference to what it should hold, and the socket that carries it there.
//!
//! [`entry`], [`host_state`], [`link`], [`plan`], [`ownership`], [`encode`], [`decode`] and `dump_requests` are pure. [`netlink`] is the only place that talks
//! to the kernel, behind the trait [`Kernel`].

pub mod decode;
mod dump_requests;
pub mod encode;
pub mod entry;
#[cfg(test)]
pub(crate) mod fake;
pub mod host_state;
pub mod link;
pub mod monitor;
pub mod netlink;
pub mod notification;
pub mod offload;
pub mod ownership;
pub mod plan;
mod socket;

use std::fmt;
use std::io;

use rustix::io::Errno;

use host_state::LinkFact;

pub use decode::Owned;
pub use entry::{Entry, LinkRole, Mac, Op};
pub use host_state::{HostState, Query};
pub use link::{LinkSpec, Repair};
pub use notification::Notification;
pub use ownership::{OffDeviceRoutes, Shape};

/// What had to be done so that a device is as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ensured {
    Adopted,
    /// It was there and these attributes were set.
    Repaired(Vec<Repair>),
    /// It was not there.
    Created,
    /// It was there and could not be used; the reason.
    Rebuilt(String),
}

impl fmt::Display for Ensured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ensured::Adopted => f.write_str("unchanged"),
            Ensured::Created => f.write_str("created"),
            Ensured::Rebuilt(reason) => write!(f, "recreated ({reason})"),
            Ensured::Repaired(repairs) => {
                f.write_str("set")?;
                repairs
                    .iter()
                    .try_for_each(|repair| write!(f, " [{repair}]"))
            }
        }
    }
}

/// A write that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {op}: {}", reason(*errno, text.as_deref()))]
pub struct Failure {
    pub op: Op,
    /// Why it was refused.
    pub errno: Errno,
    /// The kernel's own words, where it has some.
    pub text: Option<String>,
}

/// Why the kernel could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("cannot {doing}: {error}")]
    Socket {
        doing: &'static str,
        #[source]
        error: io::Error,
    },
    /// Replies were lost (the receive buffer was full, or a message was dropped): what the kernel holds is unknown until
    /// the next dump.
    #[error("lost replies of the kernel: {error}; reading its tables again")]
    Lost {
        /// Why the socket lost them.
        #[source]
        error: io::Error,
    },
    /// The tables changed during each of several dumps.
    #[error("the kernel's tables changed during each of several dumps; reading them again")]
    Unsettled,
    #[error("cannot {what}: {}", reason(*errno, text.as_deref()))]
    Refused {
        /// What was tried, on what.
        what: String,
        errno: Errno,
        /// The kernel's own words, or a hint.
        text: Option<String>,
    },
}

impl KernelError {
    fn lost(error: io::Error) -> Self {
        KernelError::Lost { error }
    }

    fn dump(errno: i32) -> Self {
        let errno = Errno::from_raw_os_error(errno);
        KernelError::Refused {
            what: "read the kernel's tables".into(),
            errno,
            text: None,
        }
    }

    /// Whether trying again can help. What this process is not allowed to do it will not be allowed later either.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            KernelError::Refused {
                errno: Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS,
                ..
            }
        )
    }
}

/// One line: the errno, the kernel's words, and a remedy where there is one.
fn reason(errno: Errno, text: Option<&str>) -> String {
    let cause = io::Error::from(errno);
    let text = text.map(|text| format!(": {text}")).unwrap_or_default();
    let remedy = match errno {
        Errno::PERM => {
            "; run as root or with CAP_NET_ADMIN (AmbientCapabilities=CAP_NET_ADMIN in the unit)"
        }
        Errno::OPNOTSUPP => {
            "; the kernel lacks the feature: load the module vxlan (modprobe vxlan)"
        }
        _ => "",
    };
    format!("{cause}{text}{remedy}")
}

/// The kernel's network state, as this daemon uses it. Calls are short and synchronous; `&mut self` keeps two of them
/// from meeting on one socket.
pub trait Kernel: Send {
    /// Reads what the choice of interface and device depends on.
    ///
    /// # Errors
    /// When it cannot be read; trying again may help.
    fn host_state(&mut self, asked: &Query) -> Result<HostState, KernelError>;

    /// Makes the link of this index play the part [`LinkRole::Underlay`].
    fn use_underlay(&mut self, index: u32);

    /// Makes the device `spec` play the part `dev`: adopts, repairs, creates or replaces.
    ///
    /// # Errors
    /// When the kernel refuses. A device that could not be completed is removed again.
    fn ensure_link(&mut self, dev: LinkRole, spec: &LinkSpec) -> Result<Ensured, KernelError>;

    /// Removes the device that plays the part, if there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn remove_link(&mut self, dev: LinkRole) -> Result<(), KernelError>;

    /// Removes a device that an earlier life of this host has left. False if another daemon drives it.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn remove_former_link(&mut self, link: &LinkFact) -> Result<bool, KernelError>;

    /// All owned entries, in the kernel's order.
    ///
    /// # Errors
    /// When no consistent state could be read.
    fn dump(&mut self, owned: &Owned) -> Result<Vec<Entry>, KernelError>;

    /// What [`dump`](Self::dump) would say if these devices played their parts, read on a thread of its own. `None`: one of them
    /// is not there, or nothing consistent could be read. Notifications of what changes from then on are kept for
    /// [`notices`](Self::notices).
    fn prefetch(
        &mut self,
        links: &[(LinkRole, LinkSpec)],
        owned: &Owned,
    ) -> impl Future<Output = Option<Vec<Entry>>> + Send;

    /// Carries out writes, in order. A refused write does not stop the others; what is already as desired is no failure.
    ///
    /// # Errors
    /// When it is not known which writes took effect.
    fn apply(&mut self, ops: &[Op]) -> Result<Vec<Failure>, KernelError>;

    /// From now on [`notices`](Self::notices) tells about changes. Returns whether it has done so since before
    /// [`prefetch`](Self::prefetch) read the kernel.
    ///
    /// # Errors
    /// When the kernel offers no notifications.
    fn listen(&mut self) -> Result<bool, KernelError>;

    /// Waits for changes, by any program. Before [`listen`](Self::listen) forever. Cancel safe.
    fn notices(&mut self, owned: &Owned) -> impl Future<Output = Vec<Notification>> + Send;
}
