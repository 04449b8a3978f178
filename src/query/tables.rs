use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::tablet::ScanSpec;
use crate::types::{BackendId, ColumnFamily, KeyRange, Name, PartitionRange, RowsetFile, Schema, TabletId};

/// What a query reads: names, and rows behind them. One value serves one statement and shows one image of the catalog;
/// it lives until the last row of the result has been read, so it may hold what keeps files from being thrown away.
pub trait Tables: Send + Sync + 'static {
    /// Looks a table up. [`Error::NotFound`](crate::error::Error::NotFound) names the database or the table.
    fn table(&self, database: &str, table: &str) -> Result<Table>;

    /// Reads one tablet from one of its replicas. The batches have the columns of the request's projection.
    fn scan(&self, request: ScanRequest) -> BoxFuture<'static, Result<BoxStream<'static, Result<RecordBatch>>>>;

    /// Reads ranges of raw keys, which ascend: keys and values in key order.
    fn raw_scan(&self, cf: ColumnFamily, ranges: Vec<KeyRange>) -> BoxStream<'static, Result<RecordBatch>>;

    /// Whether `FILES` may read a local file; the path has no links in it. The error says why not.
    fn may_read(&self, path: &Path) -> Result<()>;
}

/// A table, as a query sees it.
#[derive(Clone)]
pub enum Table {
    /// Rows in tablets.
    Stored(Arc<TableView>),
    /// A column family.
    Raw(Arc<RawView>),
    /// Rows made on demand.
    Virtual(Arc<VirtualTable>),
}

/// A table with its tablets.
#[derive(Debug, Clone)]
pub struct TableView {
    /// The database's name.
    pub database: Name,
    /// The table's name.
    pub name: Name,
    /// Its columns.
    pub schema: Schema,
    /// Positions of the columns that the bucket is computed from.
    pub hash_columns: Vec<usize>,
    /// Position of the column that ranges are of, if it is partitioned.
    pub partition_column: Option<usize>,
    /// All partitions.
    pub partitions: Vec<PartitionView>,
}

/// A column family of raw keys, as a table.
#[derive(Debug, Clone)]
pub struct RawView {
    /// The database's name.
    pub database: Name,
    /// The table's name.
    pub name: Name,
    /// Its columns, key and value.
    pub schema: Schema,
    /// The family.
    pub cf: ColumnFamily,
}

/// A partition with its tablets.
#[derive(Debug, Clone)]
pub struct PartitionView {
    /// Its name.
    pub name: Name,
    /// What it holds; `None` if the table is not partitioned.
    pub range: Option<PartitionRange>,
    /// One for each bucket, in order.
    pub tablets: Vec<TabletView>,
}

/// A tablet and its visible files.
#[derive(Debug, Clone)]
pub struct TabletView {
    /// Which one.
    pub id: TabletId,
    /// The BEs that have it.
    pub replicas: Arc<[BackendId]>,
    /// Its rowset files in the order (version, id).
    pub files: Arc<[RowsetFile]>,
}

/// What is asked of a BE.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// The tablet.
    pub tablet: TabletId,
    /// The BEs that have it.
    pub replicas: Arc<[BackendId]>,
    /// The files to read.
    pub files: Arc<[RowsetFile]>,
    /// Which columns and rows.
    pub spec: ScanSpec,
}

/// A table of `information_schema` or the like.
pub struct VirtualTable {
    /// The database's name.
    pub database: String,
    /// The table's name.
    pub name: String,
    /// Its columns.
    pub schema: Schema,
    /// Makes all rows, with all columns. Called once for each time a statement names the table. It and what it returns
    /// are called on threads that may block.
    pub rows: Box<dyn Fn() -> MadeBatches + Send + Sync>,
}

/// Batches, each made when it is wanted.
pub type MadeBatches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl fmt::Debug for VirtualTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualTable").field("name", &self.name).finish_non_exhaustive()
    }
}
