use std::collections::HashMap;
use std::sync::Arc;
use std::vec;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::Stream;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowFilter,
};
use parquet::file::metadata::RowGroupMetaData;
use serde::{Deserialize, Serialize};

use super::filter::{Bounds, ScanFilter};
use super::rowset::STEP;
use super::seal::SealedFile;
use super::store::{Store, corrupt};
use crate::error::{Error, Result};
use crate::types::{Column, Datum, KeyBounds, RowsetFile, Schema, field_id};

/// About how much memory a batch may take.
const BATCH_BYTES: u64 = 2 << 20;

/// What a scan shall return.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanSpec {
    /// The table's schema now, whatever schema the files were written under.
    pub schema: Schema,
    /// Positions of the columns to return, in order; may be empty, then only rows are counted.
    pub projection: Vec<usize>,
    /// Only rows that satisfy all of these.
    pub filters: Vec<ScanFilter>,
    /// At most this many rows.
    pub limit: Option<usize>,
}

/// Reads rowset files of one tablet, one after the other, with bounded memory.
///
/// Columns are found by field id: one that a file lacks has its default, or NULL. A file that is not what was written
/// gives [`Error::Corrupt`] with its path, an absent one [`Error::Io`]; either ends the scan.
pub struct Scan {
    store: Arc<Store>,
    spec: ScanSpec,
    schema: SchemaRef,
    files: vec::IntoIter<RowsetFile>,
    open: Option<FileScan>,
    /// Rows that may still be returned.
    left: usize,
}

/// Where an output column comes from.
enum Source {
    /// A column of the file's batch.
    File(usize),
    /// The same value in each row.
    Constant(Datum),
}

struct FileScan {
    path: std::path::PathBuf,
    reader: ParquetRecordBatchReader,
    sources: Vec<Source>,
}

impl Scan {
    /// Prepares a scan; no file is opened yet.
    pub fn new(store: Arc<Store>, files: Vec<RowsetFile>, spec: ScanSpec) -> Result<Self> {
        let filtered = spec.filters.iter().map(ScanFilter::column);
        if spec.projection.iter().copied().chain(filtered).any(|column| column >= spec.schema.columns.len()) {
            return Err(Error::internal("a scan of a column that its schema lacks"));
        }
        let schema = spec.schema.arrow().project(&spec.projection).map_err(Error::internal)?;
        let left = spec.limit.unwrap_or(usize::MAX);
        Ok(Self { store, spec, schema: Arc::new(schema), files: files.into_iter(), open: None, left })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The batches as a stream that reads only when it is polled, off the runtime's threads.
    pub fn into_stream(self) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
        futures::stream::unfold(Some(self), |scan| async {
            let mut scan = scan?;
            let step = tokio::task::spawn_blocking(move || scan.next().map(|batch| (batch, scan))).await;
            match step {
                Ok(None) => None,
                Ok(Some((batch, scan))) => {
                    let rest = batch.is_ok().then_some(scan);
                    Some((batch, rest))
                }
                Err(err) => Some((Err(Error::internal(err)), None)),
            }
        })
    }

    /// Opens the next file that may hold a row.
    fn advance(&mut self) -> Result<bool> {
        for file in self.files.by_ref() {
            let first_key = self.spec.schema.keys > 0;
            let outside = |bounds: &KeyBounds| {
                let bounds = of_keys(bounds);
                let mut on_first = self.spec.filters.iter().filter(|filter| first_key && filter.column() == 0);
                on_first.any(|filter| !filter.may_match(&bounds))
            };
            if file.schema_version == self.spec.schema.version && file.bounds.as_ref().is_some_and(outside) {
                continue;
            }
            self.open = FileScan::open(&self.store, &file, &self.spec, self.left)?;
            if self.open.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            if let Some(file) = &mut self.open {
                match file.next(&self.spec, &self.schema) {
                    Some(Ok(batch)) if batch.num_rows() == 0 => {}
                    Some(Ok(batch)) => {
                        self.left -= batch.num_rows();
                        return Some(Ok(batch));
                    }
                    Some(Err(err)) => {
                        self.left = 0;
                        return Some(Err(err));
                    }
                    None => self.open = None,
                }
                continue;
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => self.left = 0,
                Err(err) => {
                    self.left = 0;
                    return Some(Err(err));
                }
            }
        }
        None
    }
}

impl FileScan {
    /// `None` if no row of the file can be wanted.
    fn open(store: &Store, file: &RowsetFile, spec: &ScanSpec, limit: usize) -> Result<Option<Self>> {
        let path = store.path(file.id);
        let damaged = |err: &dyn std::fmt::Display| corrupt(&path, err.to_string());
        let (content, metadata) = SealedFile::open(&path, file.size)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(metadata, options).map_err(|err| damaged(&err))?;
        let fields = metadata.schema().fields().iter().enumerate();
        let places: HashMap<u32, usize> = fields.filter_map(|(place, field)| Some((field_id(field)?, place))).collect();
        let place = |column: &Column| match places.get(&column.field) {
            Some(place) if *metadata.schema().field(*place).data_type() != column.ty.arrow() => {
                let found = metadata.schema().field(*place).data_type();
                Err(damaged(&format!("column {} is of type {found}, not {}", &*column.name, column.ty)))
            }
            place => Ok(place.copied()),
        };

        let mut groups: Vec<usize> = (0..metadata.metadata().num_row_groups()).collect();
        let mut predicates: Vec<Box<dyn ArrowPredicate>> = Vec::new();
        for filter in &spec.filters {
            let column = &spec.schema.columns[filter.column()];
            let Some(place) = place(column)? else {
                let absent = absent(column).array(column.ty, 1).map_err(Error::internal)?;
                if !filter.evaluate(&absent, column.ty)?.value(0) {
                    return Ok(None);
                }
                continue;
            };
            let bounds = group_bounds(&metadata, place).map_err(|err| damaged(&err))?;
            groups.retain(|group| filter.may_match(&bounds[*group]));
            predicates.push(predicate(filter.clone(), column, &metadata, place));
        }

        let places = spec.projection.iter().map(|at| place(&spec.schema.columns[*at]));
        let places = places.collect::<Result<Vec<_>>>()?;
        // The reader returns columns in the file's order, each once.
        let mut read: Vec<usize> = places.iter().flatten().copied().collect();
        read.sort_unstable();
        read.dedup();
        let source = |(at, place): (&usize, &Option<usize>)| match place {
            Some(place) => Source::File(read.partition_point(|before| before < place)),
            None => Source::Constant(absent(&spec.schema.columns[*at])),
        };
        let sources = spec.projection.iter().zip(&places).map(source).collect();

        let batch_rows = batch_rows(metadata.metadata().row_groups(), &read);
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), read);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(content, metadata)
            .with_batch_size(batch_rows)
            .with_row_groups(groups)
            .with_projection(mask)
            .with_row_filter(RowFilter::new(predicates))
            .with_limit(limit)
            .build()
            .map_err(|err| damaged(&err))?;
        Ok(Some(Self { path, reader, sources }))
    }

    fn next(&mut self, spec: &ScanSpec, schema: &SchemaRef) -> Option<Result<RecordBatch>> {
        let read = match self.reader.next()? {
            Ok(read) => read,
            Err(err) => return Some(Err(corrupt(&self.path, err.to_string()))),
        };
        Some(self.arrange(&read, spec, schema))
    }

    fn arrange(&self, read: &RecordBatch, spec: &ScanSpec, schema: &SchemaRef) -> Result<RecordBatch> {
        let rows = read.num_rows();
        let column = |(source, at): (&Source, &usize)| -> Result<ArrayRef> {
            match source {
                Source::File(place) => Ok(read.column(*place).clone()),
                Source::Constant(value) => value.array(spec.schema.columns[*at].ty, rows).map_err(Error::internal),
            }
        };
        let columns = self.sources.iter().zip(&spec.projection).map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options)
            .map_err(|err| corrupt(&self.path, err.to_string()))
    }
}

/// The value of a column that was added after a file was written.
fn absent(column: &Column) -> Datum {
    column.default.clone().unwrap_or(Datum::Null)
}

/// NULL is the least value of a key.
fn of_keys(bounds: &KeyBounds) -> Bounds {
    let known = |bound: &Datum| Some(bound.clone()).filter(|bound| *bound != Datum::Null);
    let (min, max) = (known(&bounds.min), known(&bounds.max));
    Bounds { no_null: min.is_some(), all_null: max.is_none(), min, max }
}

/// What each row group's statistics say of a column.
fn group_bounds(metadata: &ArrowReaderMetadata, place: usize) -> parquet::errors::Result<Vec<Bounds>> {
    let name = metadata.schema().field(place).name();
    let statistics = StatisticsConverter::try_new(name, metadata.schema(), metadata.parquet_schema())?;
    let groups = metadata.metadata().row_groups();
    let (mins, maxes) = (statistics.row_group_mins(groups)?, statistics.row_group_maxes(groups)?);
    let nulls = statistics.with_missing_null_counts_as_zero(false).row_group_null_counts(groups)?;
    let known = |array: &ArrayRef, row| Datum::at(array, row).filter(|bound| *bound != Datum::Null);
    let bounds = |(row, group): (usize, &RowGroupMetaData)| {
        let nulls = nulls.iter().nth(row).flatten();
        Bounds {
            min: known(&mins, row),
            max: known(&maxes, row),
            no_null: nulls == Some(0),
            all_null: nulls == Some(group.num_rows() as u64),
        }
    };
    Ok(groups.iter().enumerate().map(bounds).collect())
}

fn predicate(
    filter: ScanFilter,
    column: &Column,
    metadata: &ArrowReaderMetadata,
    place: usize,
) -> Box<dyn ArrowPredicate> {
    let ty = column.ty;
    let mask = ProjectionMask::leaves(metadata.parquet_schema(), [place]);
    Box::new(ArrowPredicateFn::new(mask, move |batch: RecordBatch| {
        filter.evaluate(batch.column(0), ty).map_err(|err| ArrowError::ComputeError(err.to_string()))
    }))
}

/// How many rows make a batch of bounded size, by the largest row group.
fn batch_rows(groups: &[RowGroupMetaData], columns: &[usize]) -> usize {
    let width = |group: &RowGroupMetaData| {
        let bytes = columns.iter().map(|place| {
            let column = group.column(*place);
            column.unencoded_byte_array_data_bytes().unwrap_or_else(|| column.uncompressed_size()).max(0) as u64
        });
        bytes.sum::<u64>() / (group.num_rows().max(1) as u64)
    };
    let widest = groups.iter().map(width).max().unwrap_or(0).max(1);
    (BATCH_BYTES / widest).clamp(1, STEP as u64) as usize
}
