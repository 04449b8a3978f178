//! The documents of a repository: JSON that carries its own checksum, and the file list in Parquet.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, SchemaRef, UInt32Type, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Digest;

use crate::error::{Error, Result};
use crate::types::{
    Attempt, ClusterId, FileKind, JobId, KeyBounds, Label, Name, PartitionRange, Schema, Sha256, Timestamp,
};

/// The repository format that this code writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Rows of one file list segment. A segment is held in memory whole, here and by every reader: about 4 MiB.
pub const SEGMENT_ROWS: usize = 20_000;

/// A document that proves its own content: `sha256` is over the exact text of `body`.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    sha256: Sha256,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// The text of a document with its checksum inside.
pub fn seal(document: &impl Serialize) -> Result<Vec<u8>> {
    let body = serde_json::value::to_raw_value(document)
        .map_err(|err| Error::internal(format_args!("encode repository document: {err}")))?;
    let sealed = Sealed { sha256: sha256(body.get().as_bytes()), body: &body };
    serde_json::to_vec(&sealed).map_err(|err| Error::internal(format_args!("encode repository document: {err}")))
}

/// The document of a text; an error says how it is damaged, or that a newer release wrote it.
pub fn unseal<T: DeserializeOwned>(path: &str, text: &[u8]) -> Result<T> {
    let corrupt = |message: String| Error::Corrupt { what: "repository document", path: path.to_owned(), message };
    let sealed: Sealed = serde_json::from_slice(text).map_err(|err| corrupt(err.to_string()))?;
    if sha256(sealed.body.get().as_bytes()) != sealed.sha256 {
        return Err(corrupt("its checksum does not match".into()));
    }
    check_format(path, sealed.body.get().as_bytes())?;
    serde_json::from_str(sealed.body.get()).map_err(|err| corrupt(err.to_string()))
}

/// Refuses a document that asks for a newer reader.
pub fn check_format(path: &str, json: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        least_reader: u32,
    }
    match serde_json::from_slice::<Version>(json) {
        Ok(version) if version.least_reader > FORMAT => Err(Error::Unsupported(format!(
            "{path} needs a holdfast that reads repository format {}; this one reads up to {FORMAT}",
            version.least_reader
        ))),
        _ => Ok(()),
    }
}

/// The hash of a content.
pub fn sha256(content: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(content).into())
}

/// `__repo_info`: who a repository is. Written once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RepoInfo {
    /// The format it was created with.
    pub format: u32,
    /// The oldest format a reader must know.
    pub least_reader: u32,
    /// What else a reader must know; none so far.
    pub features: Vec<String>,
    /// Its identity, drawn at creation.
    pub id: String,
    /// Its name.
    pub name: Name,
    /// When it was created.
    pub created: Timestamp,
    /// Whether the store refuses to overwrite an object when asked not to.
    pub conditional_put: bool,
}

/// `__lock_…`: who writes a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    /// The writing cluster.
    pub cluster: ClusterId,
    /// Its job.
    pub job: JobId,
    /// The attempt that wrote the lock.
    pub attempt: Attempt,
    /// When.
    pub time: Timestamp,
    /// Until when it holds.
    pub deadline: Timestamp,
}

impl Lock {
    /// Of two writers, the one with the less came first; clusters that see both locks agree on it.
    pub fn age(&self) -> (Timestamp, ClusterId, JobId) {
        (self.time, self.cluster, self.job)
    }
}

/// A document that another names by hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Of its whole content.
    pub sha256: Sha256,
    /// Length in bytes.
    pub size: u64,
}

/// `__info_…`: a snapshot's commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// The format it was written with.
    pub format: u32,
    /// The oldest format a reader must know.
    pub least_reader: u32,
    /// The snapshot's label.
    pub label: Label,
    /// The backup timestamp, as in the file's name.
    pub timestamp: String,
    /// The instant of the backup.
    pub backup_time: Timestamp,
    /// When the info was written.
    pub finish_time: Timestamp,
    /// The writer's lock held until then: an info that is newer is none.
    pub deadline: Timestamp,
    /// The writing cluster.
    pub cluster_id: ClusterId,
    /// Its job.
    pub job: JobId,
    /// The database that was backed up.
    pub database: Name,
    /// `__meta`.
    pub meta: Part,
    /// The file list's segments, in order.
    pub files: Vec<Part>,
    /// Rowset files of the snapshot.
    pub file_count: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// How long to keep it, as the statement said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
}

impl Info {
    /// Whether the writer's lock still held when it was written; one that came later is no snapshot, because another
    /// may have claimed the label since.
    pub fn is_in_time(&self) -> bool {
        self.finish_time <= self.deadline
    }
}

/// `__meta_…`: definitions. Names and positions only; no id of the source cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The format it was written with.
    pub format: u32,
    /// The oldest format a reader must know.
    pub least_reader: u32,
    /// How rows find their bucket: `crc32` is [`bucket_of`](crate::types::bucket_of).
    pub bucket_hash: String,
    /// The tables, by name.
    pub tables: Vec<TableMeta>,
}

impl Meta {
    /// Looks for what no backup writes. Whoever can write to the repository can write this document, and what is
    /// decided by it must not bring a server down.
    pub fn check(&self) -> Result<(), String> {
        let mut names = HashSet::new();
        self.tables.iter().try_for_each(|table| match names.insert(&table.name) {
            true => table.check().map_err(|problem| format!("table '{}': {problem}", table.name)),
            false => Err(format!("table '{}' is there twice", table.name)),
        })
    }
}

/// The most buckets that a partition of a snapshot may have.
const MAX_BUCKETS: u32 = 100_000;

impl TableMeta {
    fn check(&self) -> Result<(), String> {
        let schema = &self.schema;
        let (mut names, mut fields, mut partitions) = (HashSet::new(), HashSet::new(), HashSet::new());
        let unique =
            |column: &crate::types::Column| names.insert(column.name.to_lowercase()) && fields.insert(column.field);
        if schema.columns.is_empty()
            || !schema.columns.iter().all(unique)
            || schema.keys as usize > schema.columns.len()
        {
            return Err("its columns or keys are not those of a table".into());
        }
        let has = |name: &Name| schema.position(name).is_some();
        if self.distribution.is_empty() || !self.distribution.iter().all(has) || !self.partition_column.iter().all(has)
        {
            return Err("it is distributed or partitioned by a column it lacks".into());
        }
        if self.partition_column.is_none() && self.partitions.len() > 1 {
            return Err("it is not partitioned but has several partitions".into());
        }
        for (n, partition) in self.partitions.iter().enumerate() {
            let ranged = partition.range.is_some() == self.partition_column.is_some();
            let clear = |other: &PartitionMeta| match (&partition.range, &other.range) {
                (Some(a), Some(b)) => !a.overlaps(b),
                _ => true,
            };
            // Neighbours are enough to look at: partitions are written in the order of their ranges.
            let apart = n == 0 || clear(&self.partitions[n - 1]);
            let sized = (1..=MAX_BUCKETS).contains(&partition.buckets);
            if !ranged || !apart || !sized || !partitions.insert(&partition.name) {
                return Err(format!("partition '{}' is not one of a table", partition.name));
            }
        }
        match (1..=MAX_BUCKETS).contains(&self.buckets) {
            true => Ok(()),
            false => Err(format!("{} buckets", self.buckets)),
        }
    }
}

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableMeta {
    /// Its name.
    pub name: Name,
    /// Its columns.
    pub schema: Schema,
    /// The COMMENT.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The column it is range partitioned by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_column: Option<Name>,
    /// The hash columns.
    pub distribution: Vec<Name>,
    /// Buckets of partitions to come.
    pub buckets: u32,
    /// Copies of each tablet in the source cluster.
    pub replication: u32,
    /// The partitions in the snapshot.
    pub partitions: Vec<PartitionMeta>,
}

/// A partition's definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionMeta {
    /// Its name.
    pub name: Name,
    /// The values it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<PartitionRange>,
    /// The version that was backed up.
    pub version: u64,
    /// How many tablets it has.
    pub buckets: u32,
    /// Copies of each tablet in the source cluster.
    pub replication: u32,
}

/// The bucket hash's name in [`Meta`].
pub const BUCKET_HASH: &str = "crc32";

/// A row of the file list: a rowset file, whose place it has in the snapshot, and where its content is.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRow {
    /// Position of its table in [`Meta::tables`].
    pub table: u32,
    /// Position of its partition in the table.
    pub partition: u32,
    /// Its bucket.
    pub bucket: u32,
    /// What its rows mean.
    pub kind: FileKind,
    /// The tablet version that made it visible.
    pub version: u64,
    /// The schema version it was written under.
    pub schema_version: u32,
    /// Number of rows.
    pub rows: u64,
    /// Bounds of the first key column.
    pub bounds: Option<KeyBounds>,
    /// Hash of its content.
    pub sha256: Sha256,
    /// Length in bytes.
    pub size: u64,
    /// The object, below the repository's root. Files may share it.
    pub object: Arc<str>,
    /// Where in the object it begins.
    pub offset: u64,
}

fn segment_schema() -> SchemaRef {
    let field = |name: &str, ty: DataType| Field::new(name, ty, false);
    Arc::new(arrow::datatypes::Schema::new(vec![
        field("table", DataType::UInt32),
        field("partition", DataType::UInt32),
        field("bucket", DataType::UInt32),
        field("kind", DataType::Utf8),
        field("version", DataType::UInt64),
        field("schema_version", DataType::UInt32),
        field("rows", DataType::UInt64),
        Field::new("bounds", DataType::Utf8, true),
        Field::new("sha256", DataType::FixedSizeBinary(32), false),
        field("size", DataType::UInt64),
        field("object", DataType::Utf8),
        field("offset", DataType::UInt64),
    ]))
}

/// A segment's content. Uses the processor for a while: call it on a thread that may block.
pub fn encode_segment(rows: &[FileRow]) -> Result<Vec<u8>> {
    let bounds = rows
        .iter()
        .map(|row| row.bounds.as_ref().map(serde_json::to_string).transpose())
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|err| Error::internal(format_args!("encode key bounds: {err}")))?;
    let kind = |row: &FileRow| match row.kind {
        FileKind::Rows => "rows",
    };
    let u32s = |value: fn(&FileRow) -> u32| Arc::new(UInt32Array::from_iter_values(rows.iter().map(value))) as _;
    let u64s = |value: fn(&FileRow) -> u64| Arc::new(UInt64Array::from_iter_values(rows.iter().map(value))) as _;
    let write = || -> std::result::Result<Vec<u8>, parquet::errors::ParquetError> {
        let hashes =
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(rows.iter().map(|row| Some(row.sha256.0)), 32)?;
        let columns = vec![
            u32s(|row| row.table),
            u32s(|row| row.partition),
            u32s(|row| row.bucket),
            Arc::new(StringArray::from_iter_values(rows.iter().map(kind))) as _,
            u64s(|row| row.version),
            u32s(|row| row.schema_version),
            u64s(|row| row.rows),
            Arc::new(StringArray::from_iter(bounds)) as _,
            Arc::new(hashes) as _,
            u64s(|row| row.size),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &*row.object))) as _,
            u64s(|row| row.offset),
        ];
        let batch = RecordBatch::try_new(segment_schema(), columns)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), segment_schema(), Some(properties))?;
        writer.write(&batch)?;
        writer.into_inner()
    };
    write().map_err(|err| Error::internal(format_args!("encode file list: {err}")))
}

/// The rows of a segment whose hash was checked. Uses the processor for a while.
pub fn decode_segment(path: &str, content: Vec<u8>) -> Result<Vec<FileRow>> {
    let corrupt = |message: String| Error::Corrupt { what: "file list", path: path.to_owned(), message };
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(content))
        .and_then(|builder| builder.build())
        .map_err(|err| corrupt(err.to_string()))?;
    let mut rows = Vec::new();
    // Small files share theirs with their neighbours.
    let mut last: Arc<str> = "".into();
    for batch in reader {
        let batch = batch.map_err(|err| corrupt(err.to_string()))?;
        let column = |name: &str, ty: DataType| {
            let column = batch.column_by_name(name).filter(|column| *column.data_type() == ty);
            column.ok_or_else(|| corrupt(format!("it lacks the column {name} of type {ty}")))
        };
        let u32s = |name| column(name, DataType::UInt32).map(|column| column.as_primitive::<UInt32Type>());
        let u64s = |name| column(name, DataType::UInt64).map(|column| column.as_primitive::<UInt64Type>());
        let texts = |name| column(name, DataType::Utf8).map(|column| column.as_string::<i32>());
        let (table, partition, bucket) = (u32s("table")?, u32s("partition")?, u32s("bucket")?);
        let (kind, version, schema_version) = (texts("kind")?, u64s("version")?, u32s("schema_version")?);
        let (count, bounds, size) = (u64s("rows")?, texts("bounds")?, u64s("size")?);
        let hashes = column("sha256", DataType::FixedSizeBinary(32))?.as_fixed_size_binary();
        let (object, offset) = (texts("object")?, u64s("offset")?);
        for row in 0..batch.num_rows() {
            if *last != *object.value(row) {
                last = object.value(row).into();
            }
            let mut hash = [0; 32];
            hash.copy_from_slice(hashes.value(row));
            rows.push(FileRow {
                table: table.value(row),
                partition: partition.value(row),
                bucket: bucket.value(row),
                kind: match kind.value(row) {
                    "rows" => FileKind::Rows,
                    other => return Err(Error::Unsupported(format!("{path} has files of the kind '{other}'"))),
                },
                version: version.value(row),
                schema_version: schema_version.value(row),
                rows: count.value(row),
                bounds: (bounds.is_valid(row))
                    .then(|| serde_json::from_str(bounds.value(row)))
                    .transpose()
                    .map_err(|err| corrupt(err.to_string()))?,
                sha256: Sha256(hash),
                size: size.value(row),
                object: last.clone(),
                offset: offset.value(row),
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Datum;

    #[test]
    fn a_flipped_bit_in_a_sealed_document_is_found() {
        let lock = Lock {
            cluster: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            job: JobId(7),
            attempt: Attempt(1),
            time: Timestamp(1),
            deadline: Timestamp(2),
        };
        let text = seal(&lock).unwrap();
        assert_eq!(unseal::<Lock>("p", &text).unwrap(), lock);
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            assert!(!matches!(unseal::<Lock>("p", &damaged), Ok(read) if read != lock), "byte {at}");
        }
        assert!(unseal::<Lock>("p", &text[..text.len() - 1]).is_err());
    }

    #[test]
    fn a_newer_document_is_refused_by_name() {
        let text = seal(&serde_json::json!({"format": 2, "least_reader": 2})).unwrap();
        let refused = unseal::<Lock>("__info_x", &text).unwrap_err().report();
        assert!(refused.contains("__info_x") && refused.contains("format 2"), "{refused}");
    }

    #[test]
    fn a_segment_keeps_its_rows() {
        let rows: Vec<FileRow> = (0..3_u8)
            .map(|n| FileRow {
                table: n.into(),
                partition: 1,
                bucket: 2,
                kind: FileKind::Rows,
                version: 3,
                schema_version: 4,
                rows: 5,
                bounds: (n > 0).then(|| KeyBounds { min: Datum::Null, max: Datum::Int(n.into()) }),
                sha256: Sha256([n; 32]),
                size: 6,
                object: format!("__objects/{n}").into(),
                offset: 7,
            })
            .collect();
        assert_eq!(decode_segment("p", encode_segment(&rows).unwrap()).unwrap(), rows);
    }
}
