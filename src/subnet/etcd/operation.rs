//! The requests that are made of etcd, by name.

/// What is asked of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Config,
    MisplacedConfig,
    List,
    Look,
    Write,
    Remove,
    WriteConfig,
    CreateLeaseId,
    Revoke,
    TimeToLive,
    KeepAlive,
    Watch,
}

impl Operation {
    /// For messages that start with "cannot".
    pub(super) fn words(self) -> &'static str {
        match self {
            Operation::Config => "read the network configuration",
            Operation::MisplacedConfig => "search for a misplaced network configuration",
            Operation::List => "list the leases",
            Operation::Look => "read the lease",
            Operation::Write => "write the lease",
            Operation::Remove => "delete the lease",
            Operation::WriteConfig => "write the network configuration",
            Operation::CreateLeaseId => "create an etcd lease",
            Operation::Revoke => "revoke an unused etcd lease",
            Operation::TimeToLive => "read the etcd lease",
            Operation::KeepAlive => "renew the etcd lease",
            Operation::Watch => "watch the leases",
        }
    }

    /// For counters.
    pub(super) fn label(self) -> &'static str {
        match self {
            Operation::Config | Operation::MisplacedConfig => "config",
            Operation::List => "list",
            Operation::Look => "look",
            Operation::Write | Operation::Remove | Operation::WriteConfig => "write",
            Operation::CreateLeaseId => "grant",
            Operation::Revoke => "revoke",
            Operation::TimeToLive => "time_to_live",
            Operation::KeepAlive => "keep_alive",
            Operation::Watch => "watch",
        }
    }
}
