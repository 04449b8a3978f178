//! `FILES(…)` in FROM: local Parquet and CSV files as a table.
//!
//! Parquet columns are found by name in each file; the first file decides names and types. CSV columns are `$1`, `$2`,
//! …; their types are guessed from the first rows of the first file that has any, unless `"auto_detect_types" = "false"` makes all
//! of them STRING. A field that is not of its column's type is an error that names the line, and so is a row with more
//! or fewer fields, unless `"fill_mismatch_column_with" = "null"` makes NULLs of those that are absent. `\N` is NULL,
//! and so is an empty field of a column that is not text.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, not_impl_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::functions::array_of;
use super::tables::Tables;
use super::types::{cast, column_type};
use crate::error::{Error, Result, blocking};
use crate::types::{ColumnType, Datum};

/// Rows of a batch.
const BATCH: usize = 8192;

/// Bytes of a batch, but for one of a single row.
const BATCH_BYTES: usize = 8 << 20;

/// The most fields of a CSV row, as in MySQL's tables.
const MAX_FIELDS: usize = 4096;

/// Rows that types are guessed from.
const SAMPLE: usize = 500;

/// A field longer than this is an error, and so the memory for a batch has a bound.
const MAX_FIELD: usize = 1 << 20;

/// A row longer than this is an error too.
const MAX_ROW: usize = 16 << 20;

/// What a call of `FILES` asks for.
#[derive(Debug, Clone)]
pub(super) struct FilesCall {
    path: String,
    format: Format,
}

#[derive(Debug, Clone)]
enum Format {
    Parquet,
    Csv { separator: u8, enclose: Option<u8>, escape: Option<u8>, skip: usize, trim: bool, guess: bool, fill: bool },
}

/// The files of a call, for DataFusion.
pub(super) struct FilesTable {
    files: Vec<PathBuf>,
    format: Format,
    /// Names as the files have them.
    names: Vec<String>,
    /// The type of a column; as Parquet has it if it has none here, which is an error for whoever reads the column.
    types: Vec<Result<ColumnType, DataType>>,
    schema: SchemaRef,
}

impl FilesCall {
    /// Takes the properties of a call.
    pub(super) fn new(properties: BTreeMap<String, String>) -> Result<Self> {
        let mut properties: BTreeMap<String, String> =
            properties.into_iter().map(|(key, value)| (key.to_lowercase(), value)).collect();
        let path = properties.remove("path").ok_or_else(|| Error::Analysis("FILES needs a property 'path'".into()))?;
        let path = path.strip_prefix("file://").map_or(path.clone(), str::to_owned);
        if path.contains("://") {
            return Err(Error::Unsupported(format!("FILES over '{path}'; only local files can be read")));
        }
        let format = properties.remove("format").unwrap_or_default();
        let format = match format.to_lowercase().as_str() {
            "parquet" => Format::Parquet,
            "csv" => {
                let mut take = |key: &str| properties.remove(key);
                let separator = take("csv.column_separator").map_or(Ok(b'\t'), |text| byte(&text))?;
                let enclose = take("csv.enclose").map(|text| byte(&text)).transpose()?;
                let escape = take("csv.escape").map(|text| byte(&text)).transpose()?;
                let skip = take("csv.skip_header").unwrap_or_else(|| "0".into());
                let skip = skip.parse().map_err(|_| wrong("csv.skip_header", &skip))?;
                let trim = flag("csv.trim_space", take("csv.trim_space"), false)?;
                let guess = flag("auto_detect_types", take("auto_detect_types"), true)?;
                if let Some(delimiter) = take("csv.row_delimiter").filter(|text| !matches!(text.as_str(), "\n" | "\\n"))
                {
                    return Err(wrong("csv.row_delimiter", &delimiter));
                }
                let fill = take("fill_mismatch_column_with").unwrap_or_else(|| "none".into());
                let fill = match fill.to_lowercase().as_str() {
                    "none" => false,
                    "null" => true,
                    _ => return Err(wrong("fill_mismatch_column_with", &fill)),
                };
                Format::Csv { separator, enclose, escape, skip, trim, guess, fill }
            }
            "" => return Err(Error::Analysis("FILES needs a property 'format': parquet or csv".into())),
            _ => return Err(Error::Analysis(format!("'{format}' is not a format of FILES: parquet, csv"))),
        };
        match properties.keys().next() {
            Some(key) => Err(Error::Analysis(format!("unknown property '{key}' in FILES"))),
            None => Ok(Self { path, format }),
        }
    }

    /// Finds the files and looks at the first one. Blocks.
    pub(super) fn open(self, tables: &dyn Tables) -> Result<FilesTable> {
        let found = glob::glob(&self.path).map_err(|err| Error::Analysis(format!("path '{}': {err}", self.path)))?;
        let (mut files, mut unlisted) = (Vec::new(), None);
        for path in found {
            match path {
                Ok(path) if path.is_file() => {
                    let gone = |err| Error::Refused(format!("FILES cannot look at '{}': {err}", path.display()));
                    let path = path.canonicalize().map_err(gone)?;
                    tables.may_read(&path)?;
                    files.push(path);
                }
                Ok(_) => {}
                // As a shell does: it is no reason not to read the others.
                Err(err) => unlisted = unlisted.or(Some(err)),
            }
        }
        if let Some(err) = unlisted.filter(|_| files.is_empty()) {
            let (path, at) = (&self.path, err.path().display());
            return Err(Error::Refused(format!(
                "no file matches the path '{path}' of FILES, and '{at}' cannot be listed: {}",
                err.error()
            )));
        }
        let Some(first) = files.first() else {
            let path = &self.path;
            return Err(Error::Analysis(match Path::new(path).is_dir() {
                true => format!("the path '{path}' of FILES is a directory; write '{}/*'", path.trim_end_matches('/')),
                false => format!("no file matches the path '{path}' of FILES"),
            }));
        };
        let (names, types): (Vec<_>, Vec<_>) = match &self.format {
            Format::Parquet => parquet_columns(first)?,
            Format::Csv { .. } => csv_columns(&files, &self.format)?,
        }
        .into_iter()
        .unzip();
        let field = |(name, ty): (&String, &Result<ColumnType, DataType>)| {
            let ty = ty.as_ref().map_or_else(DataType::clone, |ty| ty.arrow());
            Field::new(name.to_lowercase(), ty, true)
        };
        let fields = names.iter().zip(&types).map(field);
        let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        Ok(FilesTable { files, format: self.format, names, types, schema })
    }
}

impl FilesTable {
    /// The first file, if no file has a row to tell how many columns there are.
    pub(super) fn without_columns(&self) -> Option<&Path> {
        self.files.first().filter(|_| self.names.is_empty()).map(PathBuf::as_path)
    }

    /// Name and type of a column, if it has a type here.
    pub(super) fn column(&self, at: usize) -> Option<(&str, ColumnType)> {
        Some((&self.names[at], *self.types[at].as_ref().ok()?))
    }
}

fn wrong(key: &str, value: &str) -> Error {
    Error::Analysis(format!("'{value}' is not a value of property '{key}' in FILES"))
}

fn flag(key: &str, value: Option<String>, default: bool) -> Result<bool> {
    match value.as_deref().map(str::to_lowercase).as_deref() {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(wrong(key, other)),
    }
}

/// One character, as itself or as `\t`, `\x01`.
fn byte(text: &str) -> Result<u8> {
    let escaped = match text {
        "\\t" => Some(b'\t'),
        _ => text.strip_prefix("\\x").and_then(|code| u8::from_str_radix(code, 16).ok()),
    };
    match (escaped, text.as_bytes()) {
        (Some(byte), _) => Ok(byte),
        (None, [byte]) => Ok(*byte),
        _ => Err(Error::Unsupported(format!("'{text}' in FILES: separators and quotes are single characters"))),
    }
}

/// The error for a file that is not what it should be.
fn unreadable(format: &str, path: &Path, message: impl fmt::Display) -> Error {
    let message = message.to_string();
    let message = message.trim_start_matches("Arrow: ").trim_start_matches("Parquet error: ");
    Error::Refused(format!("FILES cannot read '{}' as {format}: {message}", path.display()))
}

fn open_parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|err| unreadable("Parquet", path, err))
}

/// How many rows of a file to read at once, so that a batch of wide ones is no longer than about [`BATCH_BYTES`].
fn batch_rows(file: &ParquetMetaData, mask: &ProjectionMask) -> usize {
    let of_row = |group: &RowGroupMetaData| {
        let columns = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        // A text that a dictionary holds once is many, and only some writers say how long they are.
        let bytes = columns.map(|(_, column)| {
            column.uncompressed_size().max(column.unencoded_byte_array_data_bytes().unwrap_or_default())
        });
        bytes.sum::<i64>().checked_div(group.num_rows()).unwrap_or_default()
    };
    let widest = file.row_groups().iter().map(of_row).max().unwrap_or_default();
    (BATCH_BYTES / usize::try_from(widest).unwrap_or_default().max(1)).clamp(1, BATCH)
}

/// Names and types of a file's columns.
type Columns = Vec<(String, Result<ColumnType, DataType>)>;

fn parquet_columns(path: &Path) -> Result<Columns> {
    let reader = open_parquet(path)?;
    let column = |field: &Arc<Field>| {
        let ty = column_type(field.data_type()).map_err(|_| field.data_type().clone());
        (field.name().clone(), ty)
    };
    Ok(reader.schema().fields().iter().map(column).collect())
}

/// The rows of a CSV file: lines that end with `\n` or `\r\n`, empty ones left out. A field in quotes holds what is
/// between them. The escape character stands for the one behind it, be that a separator, a quote or the end of a line.
struct Records {
    file: BufReader<File>,
    separator: u8,
    enclose: Option<u8>,
    escape: Option<u8>,
    /// Whether blanks around fields are left out; those in quotes stay.
    trim: bool,
    /// The line that was read last; counts from 1.
    line: usize,
    /// Its bytes.
    text: Vec<u8>,
}

/// The fields of a row.
#[derive(Default)]
struct Row {
    /// The line it begins in; counts from 1.
    line: usize,
    bytes: Vec<u8>,
    /// Where each field ends.
    ends: Vec<usize>,
    /// Of the last field, bytes that are kept even if they are blanks.
    kept: usize,
    /// Whether the last field began with `\N` where `\` escapes.
    null: bool,
}

impl Row {
    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where the field after the last one begins.
    fn start(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    fn get(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)?;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        Some(&self.bytes[start..end])
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    fn end_field(&mut self, trim: bool) {
        let kept = self.kept.max(self.start());
        while trim && self.bytes.len() > kept && self.bytes.last() == Some(&b' ') {
            self.bytes.pop();
        }
        if self.null && self.bytes[self.start()..] == *b"N" {
            self.bytes.insert(self.start(), b'\\');
        }
        self.ends.push(self.bytes.len());
        (self.kept, self.null) = (0, false);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    FieldStart,
    Plain,
    /// Behind an escape character outside quotes.
    PlainEscaped,
    Quoted,
    QuotedEscaped,
    /// Behind a quote that closes the field, unless another one follows.
    Closed,
}

impl Records {
    /// The next row; `None` at the end.
    fn read(&mut self) -> Result<Option<Row>, String> {
        let (mut row, mut place, mut opened, mut length) = (Row::default(), Place::FieldStart, 0, 0);
        loop {
            self.text.clear();
            let most = (MAX_ROW + 1 - length) as u64;
            let read = (&mut self.file).take(most).read_until(b'\n', &mut self.text).map_err(|err| err.to_string())?;
            length += read;
            if length > MAX_ROW {
                return Err(format!("a row is longer than {} MiB", MAX_ROW >> 20));
            }
            match place {
                Place::Quoted | Place::QuotedEscaped if read == 0 => {
                    return Err(format!("the quote opened in line {opened} is never closed"));
                }
                _ if read == 0 && row.line == 0 => return Ok(None),
                _ if read == 0 => {
                    // Nothing is behind the escape character.
                    row.bytes.extend(self.escape.filter(|_| place == Place::PlainEscaped));
                    row.end_field(false);
                    return Ok(Some(row));
                }
                _ => self.line += 1,
            }
            if row.line == 0 {
                row.line = self.line;
                if matches!(&self.text[..], b"\n" | b"\r\n") {
                    (row.line, length) = (0, 0);
                    continue;
                }
            }
            if self.fields(&mut row, &mut place, &mut opened)? {
                row.end_field(self.trim && matches!(place, Place::FieldStart | Place::Plain));
                return Ok(Some(row));
            }
        }
    }

    /// Takes the fields of a line. Whether the row ends with it.
    fn fields(&self, row: &mut Row, place: &mut Place, opened: &mut usize) -> Result<bool, String> {
        let mut at = 0;
        while let Some(&byte) = self.text.get(at) {
            let rest = &self.text[at..];
            at += 1;
            let is_quote = Some(byte) == self.enclose;
            *place = match *place {
                Place::QuotedEscaped => {
                    row.bytes.push(byte);
                    Place::Quoted
                }
                Place::PlainEscaped => {
                    row.null = self.escape == Some(b'\\') && byte == b'N' && row.bytes.len() == row.start();
                    row.bytes.push(byte);
                    row.kept = row.bytes.len();
                    Place::Plain
                }
                // A quote may be its own escape: two of them are one.
                Place::Quoted if is_quote => Place::Closed,
                Place::Quoted if Some(byte) == self.escape => Place::QuotedEscaped,
                Place::Quoted => {
                    row.bytes.push(byte);
                    Place::Quoted
                }
                Place::FieldStart if is_quote => {
                    *opened = self.line;
                    Place::Quoted
                }
                Place::Closed if is_quote => {
                    row.bytes.push(byte);
                    Place::Quoted
                }
                _ if matches!(rest, b"\n" | b"\r\n") => return Ok(true),
                before if byte == self.separator => {
                    row.end_field(self.trim && before != Place::Closed);
                    Place::FieldStart
                }
                before @ (Place::FieldStart | Place::Closed) if self.trim && byte == b' ' => before,
                Place::Closed => {
                    let line = self.line;
                    return Err(format!(
                        "the field quoted in line {opened} goes on behind its closing quote in line {line}"
                    ));
                }
                Place::FieldStart | Place::Plain if Some(byte) == self.escape => Place::PlainEscaped,
                Place::FieldStart | Place::Plain => {
                    row.bytes.push(byte);
                    Place::Plain
                }
            };
        }
        // Else the file ends without the end of a line.
        let goes_on = matches!(place, Place::Quoted | Place::QuotedEscaped | Place::PlainEscaped);
        Ok(!goes_on && self.text.last() != Some(&b'\n'))
    }
}

impl Iterator for Records {
    type Item = Result<Row, String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn open_csv(path: &Path, format: &Format) -> Result<Records> {
    let Format::Csv { separator, enclose, escape, skip, trim, .. } = *format else {
        return Err(Error::internal("not a CSV file"));
    };
    let mut file = BufReader::new(File::open(path).map_err(Error::io("open", path))?);
    for _ in 0..skip {
        file.skip_until(b'\n').map_err(Error::io("read", path))?;
    }
    Ok(Records { file, separator, enclose, escape, trim, line: skip, text: Vec::new() })
}

/// The columns of the first file that has a row; none if no file has one.
fn csv_columns(files: &[PathBuf], format: &Format) -> Result<Columns> {
    let Format::Csv { guess, .. } = format else { return Err(Error::internal("not a CSV file")) };
    let mut candidates: Vec<Option<ColumnType>> = Vec::new();
    for path in files {
        for record in open_csv(path, format)?.take(SAMPLE) {
            let record = record.map_err(|err| unreadable("CSV", path, err))?;
            if record.len() > MAX_FIELDS {
                let message =
                    format!("a row has {} fields, more than {MAX_FIELDS}; which byte separates them?", record.len());
                return Err(unreadable("CSV", path, message));
            }
            candidates.resize(candidates.len().max(record.len()), None);
            for (field, candidate) in record.iter().zip(&mut candidates) {
                match std::str::from_utf8(field) {
                    Ok("" | "\\N") => {}
                    Ok(field) => *candidate = Some(guessed(field, *candidate)),
                    // An error for whoever reads the column.
                    Err(_) => *candidate = Some(ColumnType::String),
                }
            }
        }
        if !candidates.is_empty() {
            break;
        }
    }
    let column = |(at, ty): (usize, Option<ColumnType>)| {
        let ty = ty.filter(|_| *guess).unwrap_or(ColumnType::String);
        (format!("${}", at + 1), Ok(ty))
    };
    Ok(candidates.into_iter().enumerate().map(column).collect())
}

/// The narrowest type for a field and those before it.
fn guessed(field: &str, before: Option<ColumnType>) -> ColumnType {
    let digits = field.trim_start_matches(['-', '+']);
    // 007 is a code, not a number, and words like "inf" are words.
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && !(digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let is = |ty| Datum::parse(field, ty).is_ok();
    let now = if number && is(ColumnType::BigInt) {
        ColumnType::BigInt
    } else if number && is(ColumnType::Double) {
        ColumnType::Double
    } else if field.contains('-') && is(ColumnType::Date) && field.len() <= 10 {
        ColumnType::Date
    } else if field.contains('-') && is(ColumnType::DateTime) {
        ColumnType::DateTime
    } else {
        ColumnType::String
    };
    match (before, now) {
        (None, now) => now,
        (Some(before), now) if before == now => now,
        (Some(ColumnType::BigInt | ColumnType::Double), ColumnType::BigInt | ColumnType::Double) => ColumnType::Double,
        (Some(ColumnType::Date | ColumnType::DateTime), ColumnType::Date | ColumnType::DateTime) => {
            ColumnType::DateTime
        }
        _ => ColumnType::String,
    }
}

fn utf8<'a>(field: &'a [u8], path: &Path, line: usize) -> Result<&'a str> {
    if field.len() > MAX_FIELD {
        return Err(unreadable("CSV", path, format!("a field in row {} is longer than {MAX_FIELD} bytes", line + 1)));
    }
    std::str::from_utf8(field).map_err(|_| unreadable("CSV", path, format!("row {} is not UTF-8", line + 1)))
}

impl fmt::Debug for FilesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesTable").field("files", &self.files).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.names.len()).collect());
        let schema = Arc::new(self.schema.project(&projection)?);
        let column = |at: &usize| match &self.types[*at] {
            Ok(ty) => Ok((*at, self.names[*at].clone(), *ty)),
            Err(ty) => not_impl_err!("column '{}' of type {ty} in '{}'", self.names[*at], self.files[0].display()),
        };
        let columns: Arc<[_]> = projection.iter().map(column).collect::<Result<_, _>>()?;
        // Each file that is open takes memory of its own.
        let width = state.config().target_partitions().clamp(1, self.files.len().max(1));
        let share = |first: usize| {
            let file = |path: &PathBuf| OneFile {
                path: path.clone(),
                format: self.format.clone(),
                columns: columns.clone(),
                width: self.names.len(),
                schema: schema.clone(),
            };
            let files = self.files.iter().skip(first).step_by(width).map(file).collect();
            Arc::new(Share { schema: schema.clone(), files }) as Arc<dyn PartitionStream>
        };
        let shares = (0..width).map(share).collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema, shares, None, None, false, limit)?))
    }
}

/// Files that are read one after the other.
#[derive(Debug)]
struct Share {
    schema: SchemaRef,
    files: Vec<OneFile>,
}

#[derive(Debug, Clone)]
struct OneFile {
    path: PathBuf,
    format: Format,
    /// Position, name and type.
    columns: Arc<[(usize, String, ColumnType)]>,
    /// Columns of the file, read or not.
    width: usize,
    schema: SchemaRef,
}

impl PartitionStream for Share {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = futures::stream::iter(self.files.clone())
            .then(|file| blocking(move || file.open()))
            .map_ok(|reader| {
                futures::stream::try_unfold(reader, |mut reader| {
                    blocking(move || Ok(reader.next().transpose()?.map(|batch| (batch, reader))))
                })
            })
            .try_flatten()
            .map_err(|err| DataFusionError::External(Box::new(err)));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.boxed()))
    }
}

/// Reads one file, batch after batch. Blocks.
struct Reader {
    file: OneFile,
    source: Source,
}

enum Source {
    /// With the place of each wanted column among those that are read.
    Parquet(Box<ParquetRecordBatchReader>, Vec<usize>),
    Csv(Box<Records>, usize),
}

impl OneFile {
    fn open(self) -> Result<Reader> {
        let source = match &self.format {
            Format::Parquet => self.open_parquet()?,
            Format::Csv { skip, .. } => Source::Csv(Box::new(open_csv(&self.path, &self.format)?), *skip),
        };
        Ok(Reader { file: self, source })
    }

    fn open_parquet(&self) -> Result<Source> {
        let builder = open_parquet(&self.path)?;
        let fields = builder.schema().fields().clone();
        let place = |name: &String| {
            let place = fields.iter().position(|field| field.name().to_lowercase() == name.to_lowercase());
            place.ok_or_else(|| Error::Analysis(format!("{} has no column '{name}'", self.path.display())))
        };
        let places = self.columns.iter().map(|(_, name, _)| place(name)).collect::<Result<Vec<_>>>()?;
        let mut read = places.clone();
        read.sort_unstable();
        read.dedup();
        let places = places.iter().map(|place| read.partition_point(|before| before < place)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let rows = batch_rows(builder.metadata(), &mask);
        let reader = builder.with_batch_size(rows).with_projection(mask).build();
        Ok(Source::Parquet(Box::new(reader.map_err(|err| unreadable("Parquet", &self.path, err))?), places))
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = &self.file;
        let (columns, rows) = match &mut self.source {
            Source::Parquet(reader, places) => match reader.next()? {
                Ok(batch) => {
                    let column = |(place, (_, name, ty)): (&usize, &(usize, String, ColumnType))| {
                        let wrong = |err| Error::Analysis(format!("column '{name}' of {}: {err}", file.path.display()));
                        cast(batch.column(*place), *ty).map_err(wrong)
                    };
                    (places.iter().zip(file.columns.iter()).map(column).collect::<Result<Vec<_>>>(), batch.num_rows())
                }
                Err(err) => return Some(Err(unreadable("Parquet", &file.path, err))),
            },
            Source::Csv(records, line) => match file.csv_batch(records, line).transpose()? {
                Ok((columns, rows)) => (Ok(columns), rows),
                Err(err) => return Some(Err(err)),
            },
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Some(columns.and_then(|columns| {
            RecordBatch::try_new_with_options(file.schema.clone(), columns, &options).map_err(Error::internal)
        }))
    }
}

impl OneFile {
    /// The next rows; `None` at the end. Counts lines on the way.
    fn csv_batch(&self, records: &mut Records, line: &mut usize) -> Result<Option<(Vec<ArrayRef>, usize)>> {
        let mut values: Vec<Vec<Datum>> = vec![Vec::new(); self.columns.len()];
        let (mut rows, mut bytes) = (0, 0);
        let Format::Csv { fill, .. } = &self.format else { return Err(Error::internal("not a CSV file")) };
        for record in records.by_ref() {
            let record = record.map_err(|err| unreadable("CSV", &self.path, err))?;
            if record.len() > self.width || (record.len() < self.width && !fill) {
                let line = record.line;
                let hint = match record.len() < self.width {
                    true => "; \"fill_mismatch_column_with\" = \"null\" makes NULLs of those that are absent",
                    false => "",
                };
                return Err(Error::Analysis(format!(
                    "{}, line {line}: {} fields instead of {}{hint}",
                    self.path.display(),
                    record.len(),
                    self.width
                )));
            }
            for ((at, name, ty), values) in self.columns.iter().zip(&mut values) {
                let field = record.get(*at).map(|field| utf8(field, &self.path, *line)).transpose()?;
                values.push(match field {
                    None | Some("\\N") => Datum::Null,
                    Some("") if *ty != ColumnType::String => Datum::Null,
                    Some(text) => Datum::parse(text, *ty).map_err(|err| {
                        let place = format!("{}, row {}, column {name}", self.path.display(), *line + 1);
                        let hint = "\"auto_detect_types\" = \"false\" reads all columns as text";
                        Error::Analysis(format!("{place}: {err}; {hint}"))
                    })?,
                });
            }
            *line += 1;
            rows += 1;
            bytes += record.bytes.len();
            if rows == BATCH || bytes > BATCH_BYTES {
                break;
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        let arrays = values.into_iter().zip(self.columns.iter());
        let arrays = arrays.map(|(values, (_, _, ty))| array_of(values, &ty.arrow()).map_err(Error::internal));
        Ok(Some((arrays.collect::<Result<_>>()?, rows)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// Equal texts, which a file holds once, are many in a batch.
    #[test]
    fn wide_rows_make_small_batches() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (wide, narrow) = (vec!["x".repeat(200 << 10); 100], vec!["x"; 100]);
        let [wide, narrow] =
            [StringArray::from(wide), StringArray::from(narrow)].map(|array| Arc::new(array) as ArrayRef);
        let batch = RecordBatch::try_from_iter([("wide", wide), ("narrow", narrow)]).unwrap();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let builder = open_parquet(file.path()).unwrap();
        let rows = |column| batch_rows(builder.metadata(), &ProjectionMask::roots(builder.parquet_schema(), [column]));
        assert_eq!((rows(0), rows(1)), (40, BATCH));
    }
}
