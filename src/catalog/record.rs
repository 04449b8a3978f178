//! Keys and rows of the catalog's records.
//!
//! ```text
//! id                          Identity
//! st                          StateRow: next id, sequence; written with every commit
//! ep <n>                      Epoch: the nth of the catalog's line (`lineage`)
//! db <database>               DatabaseRow
//! tb <table>                  TableRow
//! tc <table> <position>       Column
//! pt <table> <partition>      PartitionRow
//! ta <partition> <bucket>     TabletRow
//! fi <tablet> <write> <n>     RowsetFile
//! be <backend>                Backend
//! rg <region>                 Region
//! re <repository>             Repository, but for its properties
//! se <repository>             StoreProperties, encrypted (`vault`)
//! us <name>                   User
//! wr <write>                  a write that has not ended
//! jo <job>                    Job
//! js <job> <n>                Selection, kept as history
//! jr <job> <letter> <n> …     rows of an unfinished job, as the module `job` defines them; those of `s` are the
//!                             pieces of its secret, encrypted (`vault`)
//! lk <database name>          JobId: the job that holds the database
//! rv <database>\0<table>      JobId: the RESTORE that has reserved the table's name
//! rs <repository> <database>\0<table>  the newest snapshot of a table known in a repository
//! ```
//!
//! Numbers in keys are 8 bytes big-endian, payloads MessagePack with field names, so that fields can be added.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::catalog::image::Distribution;
use crate::error::{Error, Result};
use crate::types::{
    BackendId, ColumnFamily, DatabaseId, JobId, Name, PartitionRange, RepositoryId, TabletId, Timestamp,
};

/// The letter of the rows that hold a job's secret.
pub(super) const SECRET: char = 's';

/// Builds a key: a table's two letters, then its parts.
#[derive(Debug, Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key that begins with a table's letters.
    pub fn new(table: &str) -> Self {
        Self(table.as_bytes().to_vec())
    }

    /// Appends a number.
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Appends a text. Only the last part may be one, or it must be ended by [`Key::end`].
    pub fn text(mut self, text: &str) -> Self {
        self.0.extend(text.as_bytes());
        self
    }

    /// Ends a text that another follows. Names have no zero bytes.
    pub fn end(mut self) -> Self {
        self.0.push(0);
        self
    }

    /// The key's bytes.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    /// A row of an unfinished job.
    pub fn job_row(job: JobId, letter: char, number: u64) -> Self {
        Self::job_rows(job, letter).number(number)
    }

    /// The prefix of a job's rows of one kind.
    pub fn job_rows(job: JobId, letter: char) -> Self {
        Self::new("jr").number(job.0).text(letter.encode_utf8(&mut [0; 4]))
    }

    /// The prefix of the rows of a job's statement.
    pub fn selections(job: JobId) -> Self {
        Self::new("js").number(job.0)
    }

    /// What is known of a table's newest snapshot in a repository.
    pub fn known_snapshot(repository: RepositoryId, database: &str, table: &str) -> Self {
        Self::known_snapshots(repository).text(database).end().text(table)
    }

    /// The prefix of what is known to be in a repository.
    pub fn known_snapshots(repository: RepositoryId) -> Self {
        Self::new("rs").number(repository.0)
    }

    /// A row of a job's statement.
    pub fn selection(job: JobId, number: u64) -> Self {
        Self::new("js").number(job.0).number(number)
    }
}

/// Reads the `n`th number of a key made of a table's letters and numbers.
pub(super) fn number_at(key: &[u8], n: usize) -> Result<u64> {
    let from = 2 + n * 8;
    let bytes = key.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| Error::Corrupt {
        what: "catalog key",
        path: key.escape_ascii().to_string(),
        message: "it is cut short".into(),
    })
}

/// A record's payload.
pub fn encode(record: &impl Serialize) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(record).map_err(|err| Error::internal(format_args!("encode catalog record: {err}")))
}

/// The record of a payload.
pub fn decode<T: DeserializeOwned>(key: &[u8], payload: &[u8]) -> Result<T> {
    rmp_serde::from_slice(payload).map_err(|err| Error::Corrupt {
        what: "catalog record",
        path: key.escape_ascii().to_string(),
        message: err.to_string(),
    })
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateRow {
    pub next_id: u64,
    pub sequence: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DatabaseRow {
    pub name: Name,
    pub created: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TableRow {
    pub database: DatabaseId,
    pub name: Name,
    pub schema_version: u32,
    pub keys: u32,
    #[serde(default)]
    pub comment: String,
    pub partition_column: Option<Name>,
    pub distribution: Distribution,
    pub replication: u32,
    pub created: Timestamp,
    #[serde(default)]
    pub raw: Option<ColumnFamily>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PartitionRow {
    pub name: Name,
    pub range: Option<PartitionRange>,
    pub version: u64,
    pub changed: Timestamp,
    pub replication: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TabletRow {
    pub id: TabletId,
    pub replicas: Vec<BackendId>,
}
