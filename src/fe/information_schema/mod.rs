//! `information_schema`: the catalog as views, with MySQL's columns, which BI tools and drivers ask for, some of
//! StarRocks' own, and the history of all jobs.
//!
//! What Holdfast does not have (views, routines, keys, privileges of single tables) is a view without rows.

mod views;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use futures::StreamExt;

use self::views::VIEWS;
use super::frontend::Frontend;
use super::reading::INFORMATION_SCHEMA;
use super::show::{CHARSET, COLLATION, ENGINE, default_text, is_text, mysql_type, quoted, range_text, size, yes_no};
use crate::catalog::{Database, Image, Job, JobKind, JobState, Table};
use crate::error::{Error, Result};
use crate::query::VirtualTable;
use crate::rpc::message::Configure;
use crate::sql;
use crate::types::{Column, ColumnType, Datum, Name, Region, Schema, Timestamp};

/// The only catalog, as MySQL calls it.
const CATALOG: &str = "def";

const TEXT: ColumnType = ColumnType::Varchar(65_533);
const INT: ColumnType = ColumnType::BigInt;
const TIME: ColumnType = ColumnType::DateTime;

type Row = Vec<Datum>;

/// A view: its columns, and what makes its rows, on a thread that may block.
struct View {
    name: &'static str,
    columns: &'static [(&'static str, ColumnType)],
    rows: Make,
}

/// What makes the rows of a view.
enum Make {
    /// Of what is in memory anyway.
    All(fn(&Arc<Frontend>, &Arc<Image>) -> Result<Vec<Row>>),
    /// Of what may be more than memory should hold.
    OneByOne(fn(&Frontend) -> Box<dyn Iterator<Item = Result<Row>> + Send>),
}

/// Rows of one batch of those that are made one by one.
const BATCH_ROWS: usize = 1024;

/// A view of `information_schema`, by its name in any letter case; `None` if there is none.
pub(super) fn view(fe: &Arc<Frontend>, image: &Arc<Image>, name: &str) -> Option<VirtualTable> {
    let view = VIEWS.iter().find(|view| view.name.eq_ignore_ascii_case(name))?;
    let (fe, image) = (fe.clone(), image.clone());
    Some(VirtualTable {
        database: INFORMATION_SCHEMA.to_owned(),
        name: view.name.to_owned(),
        schema: view.schema(),
        rows: Box::new(move || match view.rows {
            Make::All(rows) => Box::new(std::iter::once(rows(&fe, &image).and_then(|rows| view.batch(rows)))),
            Make::OneByOne(rows) => {
                let mut rows = rows(&fe);
                Box::new(std::iter::from_fn(move || {
                    let some = rows.by_ref().take(BATCH_ROWS).collect::<Result<Vec<Row>>>();
                    match some {
                        Ok(some) if some.is_empty() => None,
                        some => Some(some.and_then(|some| view.batch(some))),
                    }
                }))
            }
        }),
    })
}

/// The names of all views.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    VIEWS.iter().map(|view| view.name)
}

impl View {
    fn schema(&self) -> Schema {
        let column = |(n, (name, ty)): (usize, &(&str, ColumnType))| Column {
            name: Name::new(*name).expect("names of views' columns are names"),
            field: n as u32,
            ty: *ty,
            nullable: true,
            default: None,
            comment: String::new(),
        };
        Schema { version: 1, keys: 0, columns: self.columns.iter().enumerate().map(column).collect() }
    }

    fn batch(&self, rows: Vec<Row>) -> Result<RecordBatch> {
        let array = |(n, (_, ty)): (usize, &(&str, ColumnType))| -> ArrayRef {
            let column = rows.iter().map(|row| &row[n]);
            match *ty {
                INT => Arc::new(column.map(int).collect::<Int64Array>()),
                TIME => Arc::new(column.map(time).collect::<TimestampMicrosecondArray>()),
                _ => Arc::new(column.map(text).collect::<StringArray>()),
            }
        };
        let arrays = self.columns.iter().enumerate().map(array).collect();
        RecordBatch::try_new(self.schema().arrow(), arrays).map_err(Error::internal)
    }
}

fn int(value: &Datum) -> Option<i64> {
    if let Datum::Int(value) = value { Some(*value) } else { None }
}

fn time(value: &Datum) -> Option<i64> {
    if let Datum::DateTime(value) = value { Some(*value) } else { None }
}

fn text(value: &Datum) -> Option<&str> {
    if let Datum::Text(value) = value { Some(value) } else { None }
}

/// What a row is written of.
trait Cell {
    fn datum(self) -> Datum;
}

impl Cell for &str {
    fn datum(self) -> Datum {
        Datum::Text(self.to_owned())
    }
}

impl Cell for String {
    fn datum(self) -> Datum {
        Datum::Text(self)
    }
}

impl Cell for &Name {
    fn datum(self) -> Datum {
        Datum::Text(self.to_string())
    }
}

impl Cell for u64 {
    fn datum(self) -> Datum {
        Datum::Int(i64::try_from(self).unwrap_or(i64::MAX))
    }
}

/// In the system's time zone and whole seconds, as all times are shown.
impl Cell for Timestamp {
    fn datum(self) -> Datum {
        Datum::DateTime(self.utc().with_timezone(&chrono::Local).naive_local().and_utc().timestamp() * 1_000_000)
    }
}

impl<T: Cell> Cell for Option<T> {
    fn datum(self) -> Datum {
        self.map_or(Datum::Null, Cell::datum)
    }
}

impl Cell for Datum {
    fn datum(self) -> Datum {
        self
    }
}

const NULL: Datum = Datum::Null;

macro_rules! row {
    ($($cell:expr),+ $(,)?) => { vec![$(Cell::datum($cell)),+] };
}

fn none(_: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}

fn databases(image: &Image) -> impl Iterator<Item = &str> {
    image.databases.keys().map(|name| &**name).chain([INFORMATION_SCHEMA])
}

fn tables(image: &Image) -> impl Iterator<Item = (&Arc<Database>, &Arc<Table>)> {
    image.databases.values().flat_map(move |database| {
        database.tables.values().filter_map(move |id| image.tables.get(id)).map(move |table| (database, table))
    })
}

fn schemata(_: &Arc<Frontend>, image: &Arc<Image>) -> Result<Vec<Row>> {
    Ok(databases(image).map(|name| row![CATALOG, name, CHARSET, COLLATION, NULL, "NO"]).collect())
}

fn all_tables(_: &Arc<Frontend>, image: &Arc<Image>) -> Result<Vec<Row>> {
    let stored = tables(image).map(|(database, table)| {
        let size = size(table);
        row![
            CATALOG,
            &database.name,
            &table.name,
            "BASE TABLE",
            ENGINE,
            NULL,
            NULL,
            size.rows,
            size.bytes.checked_div(size.rows).unwrap_or(0),
            size.bytes,
            NULL,
            NULL,
            NULL,
            NULL,
            table.created,
            size.changed,
            NULL,
            COLLATION,
            NULL,
            NULL,
            table.comment.as_str(),
        ]
    });
    let views = VIEWS.iter().map(|view| {
        let mut row = row![CATALOG, INFORMATION_SCHEMA, view.name, "SYSTEM VIEW"];
        row.resize(21, NULL);
        row[20] = "".datum();
        row
    });
    Ok(stored.chain(views).collect())
}

fn columns(_: &Arc<Frontend>, image: &Arc<Image>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (database, table) in tables(image) {
        rows.extend(columns_of(&database.name, &table.name, &table.schema));
    }
    for view in VIEWS {
        rows.extend(columns_of(INFORMATION_SCHEMA, view.name, &view.schema()));
    }
    Ok(rows)
}

fn columns_of(database: &str, table: &str, schema: &Schema) -> Vec<Row> {
    let row = |(n, column): (usize, &Column)| {
        let ty = mysql_type(column.ty);
        let data_type = ty.split('(').next().unwrap_or_default().to_owned();
        let (precision, scale) = match column.ty {
            ColumnType::TinyInt => (Some(3), Some(0)),
            ColumnType::SmallInt => (Some(5), Some(0)),
            ColumnType::Int => (Some(10), Some(0)),
            ColumnType::BigInt => (Some(19), Some(0)),
            ColumnType::Double => (Some(22), None),
            ColumnType::Decimal { precision, scale } => (Some(u64::from(precision)), Some(scale as u64)),
            _ => (None, None),
        };
        let length = match column.ty {
            ColumnType::Char(n) | ColumnType::Varchar(n) => Some(u64::from(n)),
            ColumnType::String => Some(65_533),
            _ => None,
        };
        let is_text = is_text(column.ty);
        row![
            CATALOG,
            database,
            table,
            &column.name,
            n as u64 + 1,
            default_text(column),
            yes_no(column.nullable),
            data_type,
            length,
            length,
            precision,
            scale,
            (column.ty == ColumnType::DateTime).then_some(6),
            is_text.then_some(CHARSET),
            is_text.then_some(COLLATION),
            ty,
            if n < schema.keys as usize { "DUP" } else { "" },
            "",
            "select",
            column.comment.as_str(),
            length.or(precision),
            scale,
            "",
            NULL,
        ]
    };
    schema.columns.iter().enumerate().map(row).collect()
}

fn partitions(_: &Arc<Frontend>, image: &Arc<Image>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (database, table) in tables(image) {
        let key = table.partition_column.as_ref();
        let ty = key.and_then(|key| table.schema.column(key)).map(|column| column.ty);
        for (n, partition) in table.ordered_partitions().into_iter().enumerate() {
            let (count, bytes) = partition.files().fold((0, 0), |(n, b), file| (n + file.rows, b + file.size));
            rows.push(row![
                CATALOG,
                &database.name,
                &table.name,
                &partition.name,
                NULL,
                n as u64 + 1,
                NULL,
                key.map(|_| "RANGE"),
                NULL,
                key.map(|key| quoted(key)),
                NULL,
                partition.range.as_ref().zip(ty).map(|(range, ty)| range_text(range, ty)),
                count,
                u64::checked_div(bytes, count).unwrap_or(0),
                bytes,
                NULL,
                NULL,
                NULL,
                NULL,
                partition.changed,
                NULL,
                NULL,
                "",
                "",
                NULL,
            ]);
        }
    }
    Ok(rows)
}

fn engines(_: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    Ok(vec![row![ENGINE, "DEFAULT", "Parquet tablets on backends", "NO", "NO", "NO"]])
}

fn keywords(_: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    use sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_IDENTIFIER};
    let words = ALL_KEYWORDS.iter().zip(ALL_KEYWORDS_INDEX);
    Ok(words.map(|(word, keyword)| row![*word, u64::from(RESERVED_FOR_IDENTIFIER.contains(keyword))]).collect())
}

fn character_sets(_: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    Ok(vec![row![CHARSET, COLLATION, "UTF-8 Unicode", 4], row!["binary", "binary", "Binary pseudo charset", 1]])
}

fn collations(_: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    Ok(vec![
        row![COLLATION, CHARSET, 45, "Yes", "Yes", 1, "PAD SPACE"],
        row!["binary", "binary", 63, "Yes", "Yes", 1, "NO PAD"],
    ])
}

fn collation_applicability(_: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    Ok(vec![row![COLLATION, CHARSET], row!["binary", "binary"]])
}

/// Everyone may read; only root may do more.
fn user_privileges(_: &Arc<Frontend>, image: &Arc<Image>) -> Result<Vec<Row>> {
    let users = image.users.keys().map(|name| &**name).filter(|name| *name != super::ROOT);
    let mut rows: Vec<Row> = users.map(|name| row![format!("'{name}'@'%'"), CATALOG, "SELECT", "NO"]).collect();
    rows.push(row![format!("'{}'@'%'", super::ROOT), CATALOG, "ALL", "NO"]);
    Ok(rows)
}

fn tables_config(_: &Arc<Frontend>, image: &Arc<Image>) -> Result<Vec<Row>> {
    let row = |(database, table): (&Arc<Database>, &Arc<Table>)| {
        let list =
            |names: &mut dyn Iterator<Item = &Name>| names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let keys = list(&mut table.schema.columns.iter().take(table.schema.keys as usize).map(|column| &column.name));
        let properties = serde_json::json!({ "replication_num": table.replication.to_string() });
        row![
            &database.name,
            &table.name,
            ENGINE,
            "DUP_KEYS",
            "",
            table.partition_column.as_ref().map_or_else(String::new, |name| quoted(name)),
            list(&mut table.distribution.columns.iter()),
            "HASH",
            u64::from(table.distribution.buckets),
            keys,
            properties.to_string(),
            table.id.0,
        ]
    };
    Ok(tables(image).map(row).collect())
}

/// Of the BEs that are alive. Asks them, so the thread must not be one of the runtime's.
fn be_configs(fe: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    let ask = |id| async move { (id, async { fe.fleet.backend(id)?.configure(&Configure::default()).await }.await) };
    let asked = futures::stream::iter(fe.fleet.alive()).map(ask).buffered(16).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for (id, answer) in tokio::runtime::Handle::current().block_on(asked) {
        for setting in answer?.settings {
            let mutable = u64::from(setting.mutable);
            rows.push(row![id.0, setting.name, setting.kind, setting.default, setting.value, mutable]);
        }
    }
    Ok(rows)
}

fn raw_regions(_: &Arc<Frontend>, image: &Arc<Image>) -> Result<Vec<Row>> {
    let row = |region: &Arc<Region>| {
        let [start, end] = [region.range.start(), region.range.end()].map(hex::encode_upper);
        row![region.id.0, region.cf.to_string(), start, end, region.version, region.owner.0]
    };
    Ok(image.regions.values().map(row).collect())
}

fn repositories(_: &Arc<Frontend>, image: &Arc<Image>) -> Result<Vec<Row>> {
    let row = |repository: &Arc<crate::catalog::Repository>| {
        row![
            repository.id.0,
            &repository.name,
            repository.created,
            yes_no(repository.read_only),
            sql::mask_uri(&repository.location),
            repository.uuid.as_str(),
        ]
    };
    Ok(image.repositories.values().map(row).collect())
}

fn backup_jobs(fe: &Frontend) -> Box<dyn Iterator<Item = Result<Row>> + Send> {
    jobs(fe, JobKind::Backup)
}

fn restore_jobs(fe: &Frontend) -> Box<dyn Iterator<Item = Result<Row>> + Send> {
    jobs(fe, JobKind::Restore)
}

/// Every job ever run, oldest first.
fn jobs(fe: &Frontend, kind: JobKind) -> Box<dyn Iterator<Item = Result<Row>> + Send> {
    let row = |job: Job| {
        // How much of it has moved is known of one that has ended well; SHOW tells it of one under way.
        let moved = (job.state == JobState::Finished).then_some(job.moved);
        row![
            job.id.0,
            &job.database,
            &*job.label,
            job.raw.as_ref().map_or_else(|| &*job.repository_name, |raw| raw.storage.as_str()),
            job.timestamp.as_str(),
            job.state.to_string(),
            job.failure.as_ref().and_then(|failure| failure.state).map(|state| state.to_string()),
            u64::from(job.attempt.0),
            job.created,
            job.meta_prepared,
            job.snapshot_finished,
            job.transfer_finished,
            job.finished,
            job.total.files,
            job.total.bytes,
            moved.map(|moved| moved.files),
            moved.map(|moved| moved.bytes),
            (job.timeout_ms / 1000).unsigned_abs(),
            job.failure.map(|failure| failure.to_string()),
        ]
    };
    let of_kind = move |job: &Result<Job>| job.as_ref().map_or(true, |job| job.kind == kind);
    Box::new(fe.catalog.history().filter(of_kind).map(move |job| job.map(row)))
}
