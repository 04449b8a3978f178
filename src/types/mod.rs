//! The words of the domain: ids, names valid by construction, schemas, values and times.
//!
//! Nothing here does I/O. Parsing returns [`Invalid`], which says what is wrong with which text; whoever knows the
//! statement turns it into an [`Error`](crate::error::Error).

mod entity;
mod file;
mod id;
mod name;
mod properties;
mod raw;
mod schema;
mod time;
mod value;

pub use entity::{Entity, Kind};
pub use file::{FileId, FileKind, KeyBounds, RowsetFile, Sha256};
pub use id::{
    Attempt, BackendId, ClusterId, DatabaseId, EpochId, JobId, PartitionId, RegionId, RepositoryId, TableId, TabletId,
    WriteId,
};
pub use name::{LABEL_PREFIX, Label, Name, excerpt};
pub use properties::StoreProperties;
pub use raw::{ColumnFamily, KeyRange, Region};
pub use schema::{Column, ColumnType, PartitionRange, Schema, bucket_of, field_id};
pub use time::{Timestamp, Zone};
pub use value::Datum;

/// A text that is not what its place asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);
