use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortOptions, interleave_record_batch};
use arrow::row::{RowConverter, SortField};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::seal::Sealer;
use super::store::{Staged, Store};
use crate::error::{Error, Result};
use crate::types::{Datum, FileId, FileKind, KeyBounds, RowsetFile, Schema, TableId, TabletId, WriteId};

/// The format version that footers name.
const FORMAT: &str = "1";

/// Rows that are encoded at a time; between two such steps a file may end.
pub(super) const STEP: usize = 8192;

/// A scan holds one page and one dictionary of each column.
const PAGE_BYTES: usize = 256 << 10;

/// About what a batch takes beside its rows, and each column of it.
const BATCH_BYTES: usize = 512;
const COLUMN_BYTES: usize = 256;

/// Bounds of text longer than this are not kept in the catalog.
const MAX_BOUND: usize = 64;

/// How large files and memory may grow.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A file ends when it is this long, or a little later.
    pub file_bytes: usize,
    /// A row group ends at this length.
    pub group_bytes: usize,
    /// A row group ends after this many rows.
    pub group_rows: usize,
    /// Rows are sorted and written when they take this much memory.
    pub buffer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 64 << 20, group_bytes: 16 << 20, group_rows: 128 << 10, buffer_bytes: 64 << 20 }
    }
}

/// What rowset files are of.
#[derive(Debug, Clone)]
pub struct RowsetOf {
    /// The table.
    pub table: TableId,
    /// The tablet.
    pub tablet: TabletId,
    /// The write.
    pub write: WriteId,
    /// The schema of the rows.
    pub schema: Arc<Schema>,
}

/// Writes rows of one tablet, in any order, into staged rowset files, each sorted by the key, NULL first.
///
/// Memory is at most twice the buffer of its [`Limits`], one row group and one batch. Dropped before
/// [`finish`](Self::finish), it leaves nothing.
pub struct RowsetWriter {
    files: Files,
    buffer: Vec<RecordBatch>,
    buffered: usize,
}

impl RowsetWriter {
    /// Begins with the file number `first` of that write and tablet.
    pub fn new(store: Arc<Store>, of: RowsetOf, first: u32, limits: Limits) -> Self {
        Self { files: Files::new(store, of, first, limits), buffer: Vec::new(), buffered: 0 }
    }

    /// Adds rows. Their columns are those of the table, in order.
    pub fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.buffered += own_bytes(&batch);
        self.buffer.push(batch);
        if self.buffered >= self.files.limits.buffer_bytes { self.flush() } else { Ok(()) }
    }

    /// Memory held by rows that are not yet written. Who runs many writers at once calls [`flush`](Self::flush) on
    /// the largest when their sum grows too large.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered
    }

    /// Sorts and writes what is buffered, and ends the file.
    pub fn flush(&mut self) -> Result<()> {
        self.buffered = 0;
        let schema = self.files.of.schema.arrow();
        let batches = std::mem::take(&mut self.buffer).into_iter();
        let batches = batches.map(|batch| RecordBatch::try_new(schema.clone(), batch.columns().to_vec()));
        let batches: Vec<RecordBatch> = batches.collect::<Result<_, _>>().map_err(Error::internal)?;
        let mut order: Vec<(usize, usize)> = batches
            .iter()
            .enumerate()
            .flat_map(|(at, batch)| (0..batch.num_rows()).map(move |row| (at, row)))
            .collect();
        if let Some(keys) = key_converter(&self.files.of.schema)? {
            let rows = batches
                .iter()
                .map(|batch| keys.convert_columns(&batch.columns()[..key_columns(&self.files.of.schema)]))
                .collect::<Result<Vec<_>, _>>()
                .map_err(Error::internal)?;
            order.sort_by(|a, b| rows[a.0].row(a.1).cmp(&rows[b.0].row(b.1)));
        }
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        for step in order.chunks(STEP) {
            self.files.write(&interleave_record_batch(&batches, step).map_err(Error::internal)?)?;
        }
        self.files.end()
    }

    /// Writes what is left and returns the files; `version` is for the caller to set. No rows, no files.
    pub fn finish(mut self) -> Result<Vec<(RowsetFile, Staged)>> {
        self.flush()?;
        Ok(self.files.done)
    }
}

/// Memory of a batch's rows. Columns that came over the network are slices of one message, the whole of which
/// `get_array_memory_size` counts for each of them. What a batch takes beside its rows counts where it has few of them.
fn own_bytes(batch: &RecordBatch) -> usize {
    let of_column =
        |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size());
    batch.columns().iter().map(|column| of_column(column) + COLUMN_BYTES).sum::<usize>() + BATCH_BYTES
}

/// How many columns are the key.
pub(super) fn key_columns(schema: &Schema) -> usize {
    (schema.keys as usize).min(schema.columns.len())
}

/// Turns key columns into bytes that compare as the keys do; `None` without a key.
pub(super) fn key_converter(schema: &Schema) -> Result<Option<RowConverter>> {
    let options = SortOptions { descending: false, nulls_first: true };
    let key = schema.columns[..key_columns(schema)].iter();
    let fields: Vec<_> = key.map(|column| SortField::new_with_options(column.ty.arrow(), options)).collect();
    if fields.is_empty() {
        return Ok(None);
    }
    RowConverter::new(fields).map(Some).map_err(Error::internal)
}

/// Writes rows that are in key order already, file after file.
pub(super) struct Files {
    store: Arc<Store>,
    of: RowsetOf,
    limits: Limits,
    number: u32,
    /// In a box: there may be very many writers, of which few have a file open.
    open: Option<Box<OpenFile>>,
    done: Vec<(RowsetFile, Staged)>,
}

struct OpenFile {
    staged: Staged,
    sealer: Sealer,
    /// Its `Vec` holds what the sealer has not got yet.
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
    min: Datum,
    max: Datum,
}

impl Files {
    pub(super) fn new(store: Arc<Store>, of: RowsetOf, first: u32, limits: Limits) -> Self {
        Self { store, of, limits, number: first, open: None, done: Vec::new() }
    }

    /// Adds a few rows that follow those before.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.open.is_none() {
            self.open = Some(Box::new(self.begin(batch)?));
        }
        let Some(file) = &mut self.open else { return Ok(()) };
        file.writer.write(batch).map_err(Error::internal)?;
        file.rows += batch.num_rows() as u64;
        file.max = key_at(batch.columns().first(), batch.num_rows() - 1)?;
        if !file.writer.inner().is_empty() {
            file.writer.sync().map_err(Error::io("write", file.staged.path()))?;
            let bytes = std::mem::take(file.writer.inner_mut());
            self.store.check_room(&file.staged, bytes.len())?;
            file.sealer.add(&bytes).map_err(Error::io("write", file.staged.path()))?;
        }
        if file.writer.bytes_written() + file.writer.in_progress_size() >= self.limits.file_bytes {
            self.end()?;
        }
        Ok(())
    }

    /// Ends the file that is open.
    pub(super) fn end(&mut self) -> Result<()> {
        let Some(file) = self.open.take() else { return Ok(()) };
        let tail = file.writer.into_inner().map_err(Error::internal)?;
        self.store.check_room(&file.staged, tail.len())?;
        let (size, sha256) = file.sealer.finish(&tail).map_err(Error::io("write", file.staged.path()))?;
        let short = |value: &Datum| !matches!(value, Datum::Text(text) if text.len() > MAX_BOUND);
        let keep = key_columns(&self.of.schema) > 0 && short(&file.min) && short(&file.max);
        let made = RowsetFile {
            id: FileId { write: self.of.write, tablet: self.of.tablet, number: self.number },
            kind: FileKind::Rows,
            version: 0,
            schema_version: self.of.schema.version,
            size,
            rows: file.rows,
            sha256,
            bounds: keep.then_some(KeyBounds { min: file.min, max: file.max }),
        };
        self.done.push((made, file.staged));
        self.number += 1;
        Ok(())
    }

    /// Ends the last file and returns all.
    pub(super) fn finish(mut self) -> Result<Vec<(RowsetFile, Staged)>> {
        self.end()?;
        Ok(self.done)
    }

    fn begin(&self, first: &RecordBatch) -> Result<OpenFile> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(Error::internal)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_dictionary_page_size_limit(PAGE_BYTES)
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(Some(self.limits.group_rows))
            .set_max_row_group_bytes(Some(self.limits.group_bytes))
            .set_sorting_columns(Some((0..key_columns(&self.of.schema)).map(sorted_by).collect()))
            .set_key_value_metadata(Some(self.description()?))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), self.of.schema.arrow(), options);
        let (file, staged) = self.store.stage(None)?;
        Ok(OpenFile {
            staged,
            sealer: Sealer::new(file),
            writer: writer.map_err(Error::internal)?,
            rows: 0,
            min: key_at(first.columns().first(), 0)?,
            max: Datum::Null,
        })
    }

    /// What lets a file be understood without the catalog.
    fn description(&self) -> Result<Vec<KeyValue>> {
        let schema = serde_json::to_string(&*self.of.schema).map_err(Error::internal)?;
        Ok([
            ("holdfast.format", FORMAT.to_owned()),
            ("holdfast.table", self.of.table.to_string()),
            ("holdfast.tablet", self.of.tablet.to_string()),
            ("holdfast.write", self.of.write.to_string()),
            ("holdfast.schema_version", self.of.schema.version.to_string()),
            ("holdfast.schema", schema),
        ]
        .into_iter()
        .map(|(key, value)| KeyValue::new(key.to_owned(), value))
        .collect())
    }
}

fn sorted_by(column: usize) -> SortingColumn {
    SortingColumn { column_idx: column as i32, descending: false, nulls_first: true }
}

fn key_at(column: Option<&ArrayRef>, row: usize) -> Result<Datum> {
    let value = column.map(|column| Datum::at(column, row));
    value.flatten().ok_or_else(|| Error::internal("a row without a first column of a column type"))
}
