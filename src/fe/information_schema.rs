//! `information_schema`: the catalog as views, with MySQL's columns, which BI tools and drivers ask for, some of
//! StarRocks' own, and the history of all jobs.
//!
//! What Holdfast does not have (views, routines, keys, privileges of single tables) is a view without rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use futures::StreamExt;

use super::frontend::Frontend;
use super::reading::INFORMATION_SCHEMA;
use super::show::{CHARSET, COLLATION, ENGINE, default_text, is_text, mysql_type, quoted, range_text, size, yes_no};
use crate::catalog::{Database, Image, Job, JobKind, Table};
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
    rows: fn(&Arc<Frontend>, &Arc<Image>) -> Result<Vec<Row>>,
}

/// A view of `information_schema`, by its name in any letter case; `None` if there is none.
pub(super) fn view(fe: &Arc<Frontend>, image: &Arc<Image>, name: &str) -> Option<VirtualTable> {
    let view = VIEWS.iter().find(|view| view.name.eq_ignore_ascii_case(name))?;
    let (fe, image) = (fe.clone(), image.clone());
    Some(VirtualTable {
        database: INFORMATION_SCHEMA.to_owned(),
        name: view.name.to_owned(),
        schema: view.schema(),
        rows: Box::new(move || view.batch((view.rows)(&fe, &image)?)),
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

fn backup_jobs(fe: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    jobs(fe, JobKind::Backup)
}

fn restore_jobs(fe: &Arc<Frontend>, _: &Arc<Image>) -> Result<Vec<Row>> {
    jobs(fe, JobKind::Restore)
}

/// Every job ever run, oldest first.
fn jobs(fe: &Arc<Frontend>, kind: JobKind) -> Result<Vec<Row>> {
    let row = |job: Job| {
        row![
            job.id.0,
            &job.database,
            &*job.label,
            job.raw.as_ref().map_or_else(|| &*job.repository_name, |raw| raw.storage.as_str()),
            job.timestamp.as_str(),
            job.state.to_string(),
            u64::from(job.attempt.0),
            job.created,
            job.meta_prepared,
            job.snapshot_finished,
            job.transfer_finished,
            job.finished,
            job.total.files,
            job.total.bytes,
            job.moved.files,
            job.moved.bytes,
            (job.timeout_ms / 1000).unsigned_abs(),
            job.failure.map(|failure| failure.to_string()),
        ]
    };
    let of_kind = |job: &Result<Job>| job.as_ref().map_or(true, |job| job.kind == kind);
    fe.catalog.history().filter(of_kind).map(|job| job.map(row)).collect()
}

const JOBS: [(&str, ColumnType); 18] = [
    ("JOB_ID", INT),
    ("DATABASE_NAME", TEXT),
    ("LABEL", TEXT),
    ("REPOSITORY_NAME", TEXT),
    ("BACKUP_TIMESTAMP", TEXT),
    ("STATE", TEXT),
    ("ATTEMPT", INT),
    ("CREATE_TIME", TIME),
    ("META_PREPARED_TIME", TIME),
    ("SNAPSHOT_FINISHED_TIME", TIME),
    ("TRANSFER_FINISHED_TIME", TIME),
    ("FINISHED_TIME", TIME),
    ("TOTAL_FILES", INT),
    ("TOTAL_BYTES", INT),
    ("MOVED_FILES", INT),
    ("MOVED_BYTES", INT),
    ("TIMEOUT_SECONDS", INT),
    ("ERROR", TEXT),
];

/// All views, by name.
static VIEWS: &[View] = &[
    View { name: "backup_jobs", columns: &JOBS, rows: backup_jobs },
    View {
        name: "be_configs",
        columns: &[
            ("BE_ID", INT),
            ("NAME", TEXT),
            ("TYPE", TEXT),
            ("DEFAULT", TEXT),
            ("VALUE", TEXT),
            ("MUTABLE", INT),
        ],
        rows: be_configs,
    },
    View {
        name: "character_sets",
        columns: &[
            ("CHARACTER_SET_NAME", TEXT),
            ("DEFAULT_COLLATE_NAME", TEXT),
            ("DESCRIPTION", TEXT),
            ("MAXLEN", INT),
        ],
        rows: character_sets,
    },
    View {
        name: "check_constraints",
        columns: &[
            ("CONSTRAINT_CATALOG", TEXT),
            ("CONSTRAINT_SCHEMA", TEXT),
            ("CONSTRAINT_NAME", TEXT),
            ("CHECK_CLAUSE", TEXT),
        ],
        rows: none,
    },
    View {
        name: "collation_character_set_applicability",
        columns: &[("COLLATION_NAME", TEXT), ("CHARACTER_SET_NAME", TEXT)],
        rows: collation_applicability,
    },
    View {
        name: "collations",
        columns: &[
            ("COLLATION_NAME", TEXT),
            ("CHARACTER_SET_NAME", TEXT),
            ("ID", INT),
            ("IS_DEFAULT", TEXT),
            ("IS_COMPILED", TEXT),
            ("SORTLEN", INT),
            ("PAD_ATTRIBUTE", TEXT),
        ],
        rows: collations,
    },
    View {
        name: "column_privileges",
        columns: &[
            ("GRANTEE", TEXT),
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("COLUMN_NAME", TEXT),
            ("PRIVILEGE_TYPE", TEXT),
            ("IS_GRANTABLE", TEXT),
        ],
        rows: none,
    },
    View {
        name: "columns",
        columns: &[
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("COLUMN_NAME", TEXT),
            ("ORDINAL_POSITION", INT),
            ("COLUMN_DEFAULT", TEXT),
            ("IS_NULLABLE", TEXT),
            ("DATA_TYPE", TEXT),
            ("CHARACTER_MAXIMUM_LENGTH", INT),
            ("CHARACTER_OCTET_LENGTH", INT),
            ("NUMERIC_PRECISION", INT),
            ("NUMERIC_SCALE", INT),
            ("DATETIME_PRECISION", INT),
            ("CHARACTER_SET_NAME", TEXT),
            ("COLLATION_NAME", TEXT),
            ("COLUMN_TYPE", TEXT),
            ("COLUMN_KEY", TEXT),
            ("EXTRA", TEXT),
            ("PRIVILEGES", TEXT),
            ("COLUMN_COMMENT", TEXT),
            ("COLUMN_SIZE", INT),
            ("DECIMAL_DIGITS", INT),
            ("GENERATION_EXPRESSION", TEXT),
            ("SRS_ID", INT),
        ],
        rows: columns,
    },
    View {
        name: "engines",
        columns: &[
            ("ENGINE", TEXT),
            ("SUPPORT", TEXT),
            ("COMMENT", TEXT),
            ("TRANSACTIONS", TEXT),
            ("XA", TEXT),
            ("SAVEPOINTS", TEXT),
        ],
        rows: engines,
    },
    View {
        name: "events",
        columns: &[
            ("EVENT_CATALOG", TEXT),
            ("EVENT_SCHEMA", TEXT),
            ("EVENT_NAME", TEXT),
            ("DEFINER", TEXT),
            ("TIME_ZONE", TEXT),
            ("EVENT_BODY", TEXT),
            ("EVENT_DEFINITION", TEXT),
            ("EVENT_TYPE", TEXT),
            ("EXECUTE_AT", TIME),
            ("INTERVAL_VALUE", TEXT),
            ("INTERVAL_FIELD", TEXT),
            ("SQL_MODE", TEXT),
            ("STARTS", TIME),
            ("ENDS", TIME),
            ("STATUS", TEXT),
            ("ON_COMPLETION", TEXT),
            ("CREATED", TIME),
            ("LAST_ALTERED", TIME),
            ("LAST_EXECUTED", TIME),
            ("EVENT_COMMENT", TEXT),
            ("ORIGINATOR", INT),
            ("CHARACTER_SET_CLIENT", TEXT),
            ("COLLATION_CONNECTION", TEXT),
            ("DATABASE_COLLATION", TEXT),
        ],
        rows: none,
    },
    View {
        name: "files",
        columns: &[
            ("FILE_ID", INT),
            ("FILE_NAME", TEXT),
            ("FILE_TYPE", TEXT),
            ("TABLESPACE_NAME", TEXT),
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("LOGFILE_GROUP_NAME", TEXT),
            ("LOGFILE_GROUP_NUMBER", INT),
            ("ENGINE", TEXT),
            ("FULLTEXT_KEYS", TEXT),
            ("DELETED_ROWS", INT),
            ("UPDATE_COUNT", INT),
            ("FREE_EXTENTS", INT),
            ("TOTAL_EXTENTS", INT),
            ("EXTENT_SIZE", INT),
            ("INITIAL_SIZE", INT),
            ("MAXIMUM_SIZE", INT),
            ("AUTOEXTEND_SIZE", INT),
            ("CREATION_TIME", TIME),
            ("LAST_UPDATE_TIME", TIME),
            ("LAST_ACCESS_TIME", TIME),
            ("RECOVER_TIME", TIME),
            ("TRANSACTION_COUNTER", TEXT),
            ("VERSION", INT),
            ("ROW_FORMAT", TEXT),
            ("TABLE_ROWS", INT),
            ("AVG_ROW_LENGTH", INT),
            ("DATA_LENGTH", INT),
            ("MAX_DATA_LENGTH", INT),
            ("INDEX_LENGTH", INT),
            ("DATA_FREE", INT),
            ("CREATE_TIME", TIME),
            ("UPDATE_TIME", TIME),
            ("CHECK_TIME", TIME),
            ("CHECKSUM", INT),
            ("STATUS", TEXT),
            ("EXTRA", TEXT),
        ],
        rows: none,
    },
    View {
        name: "key_column_usage",
        columns: &[
            ("CONSTRAINT_CATALOG", TEXT),
            ("CONSTRAINT_SCHEMA", TEXT),
            ("CONSTRAINT_NAME", TEXT),
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("COLUMN_NAME", TEXT),
            ("ORDINAL_POSITION", INT),
            ("POSITION_IN_UNIQUE_CONSTRAINT", INT),
            ("REFERENCED_TABLE_SCHEMA", TEXT),
            ("REFERENCED_TABLE_NAME", TEXT),
            ("REFERENCED_COLUMN_NAME", TEXT),
        ],
        rows: none,
    },
    View {
        name: "materialized_views",
        columns: &[
            ("MATERIALIZED_VIEW_ID", INT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("REFRESH_TYPE", TEXT),
            ("IS_ACTIVE", TEXT),
            ("INACTIVE_REASON", TEXT),
            ("PARTITION_TYPE", TEXT),
            ("TASK_ID", INT),
            ("TASK_NAME", TEXT),
            ("LAST_REFRESH_START_TIME", TIME),
            ("LAST_REFRESH_FINISHED_TIME", TIME),
            ("LAST_REFRESH_DURATION", TEXT),
            ("LAST_REFRESH_STATE", TEXT),
            ("TABLE_ROWS", INT),
            ("MATERIALIZED_VIEW_DEFINITION", TEXT),
        ],
        rows: none,
    },
    View {
        name: "parameters",
        columns: &[
            ("SPECIFIC_CATALOG", TEXT),
            ("SPECIFIC_SCHEMA", TEXT),
            ("SPECIFIC_NAME", TEXT),
            ("ORDINAL_POSITION", INT),
            ("PARAMETER_MODE", TEXT),
            ("PARAMETER_NAME", TEXT),
            ("DATA_TYPE", TEXT),
            ("CHARACTER_MAXIMUM_LENGTH", INT),
            ("CHARACTER_OCTET_LENGTH", INT),
            ("NUMERIC_PRECISION", INT),
            ("NUMERIC_SCALE", INT),
            ("DATETIME_PRECISION", INT),
            ("CHARACTER_SET_NAME", TEXT),
            ("COLLATION_NAME", TEXT),
            ("DTD_IDENTIFIER", TEXT),
            ("ROUTINE_TYPE", TEXT),
        ],
        rows: none,
    },
    View { name: "keywords", columns: &[("WORD", TEXT), ("RESERVED", INT)], rows: keywords },
    View {
        name: "partitions",
        columns: &[
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("PARTITION_NAME", TEXT),
            ("SUBPARTITION_NAME", TEXT),
            ("PARTITION_ORDINAL_POSITION", INT),
            ("SUBPARTITION_ORDINAL_POSITION", INT),
            ("PARTITION_METHOD", TEXT),
            ("SUBPARTITION_METHOD", TEXT),
            ("PARTITION_EXPRESSION", TEXT),
            ("SUBPARTITION_EXPRESSION", TEXT),
            ("PARTITION_DESCRIPTION", TEXT),
            ("TABLE_ROWS", INT),
            ("AVG_ROW_LENGTH", INT),
            ("DATA_LENGTH", INT),
            ("MAX_DATA_LENGTH", INT),
            ("INDEX_LENGTH", INT),
            ("DATA_FREE", INT),
            ("CREATE_TIME", TIME),
            ("UPDATE_TIME", TIME),
            ("CHECK_TIME", TIME),
            ("CHECKSUM", INT),
            ("PARTITION_COMMENT", TEXT),
            ("NODEGROUP", TEXT),
            ("TABLESPACE_NAME", TEXT),
        ],
        rows: partitions,
    },
    View {
        name: "raw_regions",
        columns: &[
            ("REGION_ID", INT),
            ("CF", TEXT),
            ("START_KEY", TEXT),
            ("END_KEY", TEXT),
            ("EPOCH_VERSION", INT),
            ("BACKEND_ID", INT),
        ],
        rows: raw_regions,
    },
    View {
        name: "referential_constraints",
        columns: &[
            ("CONSTRAINT_CATALOG", TEXT),
            ("CONSTRAINT_SCHEMA", TEXT),
            ("CONSTRAINT_NAME", TEXT),
            ("UNIQUE_CONSTRAINT_CATALOG", TEXT),
            ("UNIQUE_CONSTRAINT_SCHEMA", TEXT),
            ("UNIQUE_CONSTRAINT_NAME", TEXT),
            ("MATCH_OPTION", TEXT),
            ("UPDATE_RULE", TEXT),
            ("DELETE_RULE", TEXT),
            ("TABLE_NAME", TEXT),
            ("REFERENCED_TABLE_NAME", TEXT),
        ],
        rows: none,
    },
    View {
        name: "repositories",
        columns: &[
            ("REPOSITORY_ID", INT),
            ("REPOSITORY_NAME", TEXT),
            ("CREATE_TIME", TIME),
            ("IS_READ_ONLY", TEXT),
            ("LOCATION", TEXT),
            ("UUID", TEXT),
        ],
        rows: repositories,
    },
    View { name: "restore_jobs", columns: &JOBS, rows: restore_jobs },
    View {
        name: "routines",
        columns: &[
            ("SPECIFIC_NAME", TEXT),
            ("ROUTINE_CATALOG", TEXT),
            ("ROUTINE_SCHEMA", TEXT),
            ("ROUTINE_NAME", TEXT),
            ("ROUTINE_TYPE", TEXT),
            ("DATA_TYPE", TEXT),
            ("DTD_IDENTIFIER", TEXT),
            ("ROUTINE_BODY", TEXT),
            ("ROUTINE_DEFINITION", TEXT),
            ("EXTERNAL_NAME", TEXT),
            ("EXTERNAL_LANGUAGE", TEXT),
            ("PARAMETER_STYLE", TEXT),
            ("IS_DETERMINISTIC", TEXT),
            ("SQL_DATA_ACCESS", TEXT),
            ("SQL_PATH", TEXT),
            ("SECURITY_TYPE", TEXT),
            ("CREATED", TIME),
            ("LAST_ALTERED", TIME),
            ("SQL_MODE", TEXT),
            ("ROUTINE_COMMENT", TEXT),
            ("DEFINER", TEXT),
            ("CHARACTER_SET_CLIENT", TEXT),
            ("COLLATION_CONNECTION", TEXT),
            ("DATABASE_COLLATION", TEXT),
        ],
        rows: none,
    },
    View {
        name: "schema_privileges",
        columns: &[
            ("GRANTEE", TEXT),
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("PRIVILEGE_TYPE", TEXT),
            ("IS_GRANTABLE", TEXT),
        ],
        rows: none,
    },
    View {
        name: "schemata",
        columns: &[
            ("CATALOG_NAME", TEXT),
            ("SCHEMA_NAME", TEXT),
            ("DEFAULT_CHARACTER_SET_NAME", TEXT),
            ("DEFAULT_COLLATION_NAME", TEXT),
            ("SQL_PATH", TEXT),
            ("DEFAULT_ENCRYPTION", TEXT),
        ],
        rows: schemata,
    },
    View {
        name: "statistics",
        columns: &[
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("NON_UNIQUE", INT),
            ("INDEX_SCHEMA", TEXT),
            ("INDEX_NAME", TEXT),
            ("SEQ_IN_INDEX", INT),
            ("COLUMN_NAME", TEXT),
            ("COLLATION", TEXT),
            ("CARDINALITY", INT),
            ("SUB_PART", INT),
            ("PACKED", TEXT),
            ("NULLABLE", TEXT),
            ("INDEX_TYPE", TEXT),
            ("COMMENT", TEXT),
            ("INDEX_COMMENT", TEXT),
        ],
        rows: none,
    },
    View {
        name: "table_constraints",
        columns: &[
            ("CONSTRAINT_CATALOG", TEXT),
            ("CONSTRAINT_SCHEMA", TEXT),
            ("CONSTRAINT_NAME", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("CONSTRAINT_TYPE", TEXT),
            ("ENFORCED", TEXT),
        ],
        rows: none,
    },
    View {
        name: "table_privileges",
        columns: &[
            ("GRANTEE", TEXT),
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("PRIVILEGE_TYPE", TEXT),
            ("IS_GRANTABLE", TEXT),
        ],
        rows: none,
    },
    View {
        name: "tables",
        columns: &[
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("TABLE_TYPE", TEXT),
            ("ENGINE", TEXT),
            ("VERSION", INT),
            ("ROW_FORMAT", TEXT),
            ("TABLE_ROWS", INT),
            ("AVG_ROW_LENGTH", INT),
            ("DATA_LENGTH", INT),
            ("MAX_DATA_LENGTH", INT),
            ("INDEX_LENGTH", INT),
            ("DATA_FREE", INT),
            ("AUTO_INCREMENT", INT),
            ("CREATE_TIME", TIME),
            ("UPDATE_TIME", TIME),
            ("CHECK_TIME", TIME),
            ("TABLE_COLLATION", TEXT),
            ("CHECKSUM", INT),
            ("CREATE_OPTIONS", TEXT),
            ("TABLE_COMMENT", TEXT),
        ],
        rows: all_tables,
    },
    View {
        name: "tables_config",
        columns: &[
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("TABLE_ENGINE", TEXT),
            ("TABLE_MODEL", TEXT),
            ("PRIMARY_KEY", TEXT),
            ("PARTITION_KEY", TEXT),
            ("DISTRIBUTE_KEY", TEXT),
            ("DISTRIBUTE_TYPE", TEXT),
            ("DISTRIBUTE_BUCKET", INT),
            ("SORT_KEY", TEXT),
            ("PROPERTIES", TEXT),
            ("TABLE_ID", INT),
        ],
        rows: tables_config,
    },
    View {
        name: "triggers",
        columns: &[
            ("TRIGGER_CATALOG", TEXT),
            ("TRIGGER_SCHEMA", TEXT),
            ("TRIGGER_NAME", TEXT),
            ("EVENT_MANIPULATION", TEXT),
            ("EVENT_OBJECT_CATALOG", TEXT),
            ("EVENT_OBJECT_SCHEMA", TEXT),
            ("EVENT_OBJECT_TABLE", TEXT),
            ("ACTION_ORDER", INT),
            ("ACTION_CONDITION", TEXT),
            ("ACTION_STATEMENT", TEXT),
            ("ACTION_ORIENTATION", TEXT),
            ("ACTION_TIMING", TEXT),
            ("ACTION_REFERENCE_OLD_TABLE", TEXT),
            ("ACTION_REFERENCE_NEW_TABLE", TEXT),
            ("ACTION_REFERENCE_OLD_ROW", TEXT),
            ("ACTION_REFERENCE_NEW_ROW", TEXT),
            ("CREATED", TIME),
            ("SQL_MODE", TEXT),
            ("DEFINER", TEXT),
            ("CHARACTER_SET_CLIENT", TEXT),
            ("COLLATION_CONNECTION", TEXT),
            ("DATABASE_COLLATION", TEXT),
        ],
        rows: none,
    },
    View {
        name: "user_privileges",
        columns: &[("GRANTEE", TEXT), ("TABLE_CATALOG", TEXT), ("PRIVILEGE_TYPE", TEXT), ("IS_GRANTABLE", TEXT)],
        rows: user_privileges,
    },
    View {
        name: "views",
        columns: &[
            ("TABLE_CATALOG", TEXT),
            ("TABLE_SCHEMA", TEXT),
            ("TABLE_NAME", TEXT),
            ("VIEW_DEFINITION", TEXT),
            ("CHECK_OPTION", TEXT),
            ("IS_UPDATABLE", TEXT),
            ("DEFINER", TEXT),
            ("SECURITY_TYPE", TEXT),
            ("CHARACTER_SET_CLIENT", TEXT),
            ("COLLATION_CONNECTION", TEXT),
        ],
        rows: none,
    },
];
