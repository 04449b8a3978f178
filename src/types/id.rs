use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A BE, as one catalog knows it. Never used twice.
    BackendId
    /// One incarnation of a database: dropped and created again, it has another.
    DatabaseId
    /// A BACKUP or RESTORE job. Grows with every job of a cluster.
    JobId
    /// One incarnation of a partition. A restore that overwrites makes a new one.
    PartitionId
    /// A range of raw keys on one BE.
    RegionId
    /// A repository, as one catalog knows it.
    RepositoryId
    /// One incarnation of a table.
    TableId
    /// One bucket of one partition: the unit of storage and of a task.
    TabletId
    /// Permission to write files: recorded before the first of them, and ended by the commit that names them or by
    /// its failure. Files of an ended write that nothing names are garbage.
    WriteId
}

/// A job's run since its last resumption. Effects carry it, and those of an earlier one change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A catalog's identity, drawn once when it is created and shown to every BE on every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub Uuid);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// One opening of a catalog, drawn at random. The nil one came before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochId(pub Uuid);

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl std::str::FromStr for EpochId {
    type Err = super::Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self).map_err(|_| super::Invalid(format!("'{text}' is not an epoch")))
    }
}

impl std::str::FromStr for ClusterId {
    type Err = super::Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self).map_err(|_| super::Invalid(format!("'{text}' is not a cluster id")))
    }
}
