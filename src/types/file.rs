use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Datum, Invalid, TabletId, WriteId};

/// A rowset file's identity: the write that made it, the tablet it is of, and its number among that write's files of
/// that tablet. Never used twice, because write ids are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The write that made it.
    pub write: WriteId,
    /// The tablet it was made for.
    pub tablet: TabletId,
    /// Counts from 0.
    pub number: u32,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.write, self.tablet, self.number)
    }
}

impl FromStr for FileId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.split('-').map(str::parse::<u64>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(write)), Some(Ok(tablet)), Some(Ok(number)), None) if number <= u64::from(u32::MAX) => {
                Ok(Self { write: WriteId(write), tablet: TabletId(tablet), number: number as u32 })
            }
            _ => Err(Invalid(format!("'{text}' is not a file id"))),
        }
    }
}

/// What a rowset file's rows mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Rows of the table.
    Rows,
}

/// The SHA-256 of a content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| Invalid(format!("'{text}' is not a SHA-256 in hex")))?;
        Ok(Self(bytes))
    }
}

/// Hex where people read it (JSON), bytes where they do not.
impl Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serde_bytes::Bytes::new(&self.0).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            serde_bytes::ByteArray::<32>::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
        }
    }
}

/// The least and greatest value of a file's first key column, NULL as the least.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyBounds {
    /// The least.
    pub min: Datum,
    /// The greatest.
    pub max: Datum,
}

/// One rowset file, as the catalog names it: a Parquet file that never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowsetFile {
    /// Its identity, and its name on a BE.
    pub id: FileId,
    /// What its rows mean.
    pub kind: FileKind,
    /// The tablet version that made it visible. Files of a tablet are read in the order (version, id).
    pub version: u64,
    /// The table's schema version it was written under.
    pub schema_version: u32,
    /// Length in bytes.
    pub size: u64,
    /// Number of rows.
    pub rows: u64,
    /// Hash of the whole content.
    pub sha256: Sha256,
    /// Bounds of the first key column; absent if the file has no rows or the values are long.
    #[serde(default)]
    pub bounds: Option<KeyBounds>,
}
