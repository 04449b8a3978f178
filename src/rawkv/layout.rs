//! Names in a backup, as BR and TiKV give them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The root of a backup; written last.
pub const META: &str = "backupmeta";
/// The same for people, written by `br debug decode`.
pub const META_JSON: &str = "backupmeta.json";

/// A column family that can be backed up and restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ColumnFamily {
    /// Where raw data is.
    #[default]
    Default,
    /// The other one.
    Write,
}

impl fmt::Display for ColumnFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Write => "write",
        })
    }
}

impl FromStr for ColumnFamily {
    type Err = Error;

    /// An empty name is the default family, as in TiKV.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "" | "default" => Ok(Self::Default),
            "write" => Ok(Self::Write),
            _ => Err(Error::Analysis(format!("invalid cf name: {text}; take default or write"))),
        }
    }
}
