use std::fmt;

use arrow::array::RecordBatch;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::types::ColumnType;

/// What a client is told of a result column, beyond its Arrow type.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultColumn {
    /// The header: the alias, or the expression as the statement wrote it.
    pub name: String,
    /// The type as MySQL knows it. It fixes the Arrow type of the column's arrays: [`ColumnType::arrow`].
    pub ty: ColumnType,
    /// Whether NULL may occur.
    pub nullable: bool,
    /// Database, table and column it was read from, where it is a plain column.
    pub origin: Option<Origin>,
}

/// Where a plain result column comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
}

/// A result: its columns, and its rows as a stream that is read once. Dropping it ends the work behind it.
pub struct RowSet {
    /// One for each column of each batch, in order.
    pub columns: Vec<ResultColumn>,
    /// The rows. Each array has the Arrow type of its column.
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

impl RowSet {
    /// A result that is already there.
    pub fn new(columns: Vec<ResultColumn>, batches: Vec<RecordBatch>) -> Self {
        Self { columns, batches: futures::stream::iter(batches.into_iter().map(Ok)).boxed() }
    }
}

impl fmt::Debug for RowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowSet").field("columns", &self.columns).finish_non_exhaustive()
    }
}
