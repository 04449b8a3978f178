//! Databases and tables: created, dropped and emptied.
//!
//! Each statement is one commit, and looks within it whether a job forbids the change: a look before may be outdated.

use std::sync::Arc;

use super::frontend::{Frontend, writable};
use super::rawkv::{self, is_rawkv};
use super::reading::INFORMATION_SCHEMA;
use super::{Outcome, StatementContext};
use crate::catalog::{Distribution, Draft, Partition, Table, Tablet};
use crate::error::{Error, Result};
use crate::sql::{ColumnDef, CreateTable, Properties, TableName};
use crate::types::{
    BackendId, Column, ColumnFamily, Entity, Kind, Name, PartitionId, PartitionRange, Schema, TableId, TabletId,
    Timestamp,
};

/// Bytes of a comment or a default: a column with both fits into one catalog record.
const MAX_TEXT: usize = 2048;

/// Properties that StarRocks' own SHOW CREATE TABLE writes, so that its scripts run: each with the values that ask for
/// nothing but what a table here is anyway.
const WITHOUT_MEANING: &[(&str, &[&str])] = &[
    ("bucket_size", &["0"]),
    ("enable_persistent_index", &["true", "false"]),
    ("fast_schema_evolution", &["true", "false"]),
    ("in_memory", &["false"]),
    ("replicated_storage", &["true"]),
    ("storage_format", &["default"]),
    ("storage_medium", &["hdd"]),
];

pub(super) async fn create_database(fe: &Frontend, name: &Name, if_not_exists: bool) -> Result<Outcome> {
    let now = fe.clock.now();
    fe.catalog
        .commit(|draft| {
            let exists = draft.image().databases.contains_key(name) || name.eq_ignore_ascii_case(INFORMATION_SCHEMA);
            if exists && if_not_exists {
                return Ok(());
            }
            if exists {
                return Err(Error::AlreadyExists(Entity::new(Kind::Database, name)));
            }
            // A RESTORE may be about to create it.
            draft.image().check_unlocked(name)?;
            let database = draft.create_database(name, now)?;
            if is_rawkv(name) {
                for cf in [ColumnFamily::Default, ColumnFamily::Write] {
                    let id = TableId(draft.fresh_id());
                    draft.add_table(rawkv::table(id, database, cf, now)?)?;
                }
            }
            Ok(())
        })
        .await?;
    Ok(Outcome::done())
}

pub(super) async fn drop_database(fe: &Frontend, name: &Name, if_exists: bool) -> Result<Outcome> {
    if name.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
        return Err(Error::AccessDenied(format!("database '{name}' is part of the server and cannot be dropped")));
    }
    rawkv::refuse(name, "DROP DATABASE")?;
    fe.catalog
        .commit(|draft| {
            if if_exists && !draft.image().databases.contains_key(name) {
                return Ok(());
            }
            draft.image().database(name)?;
            draft.image().check_unlocked(name)?;
            draft.drop_database(name)
        })
        .await?;
    Ok(Outcome::done())
}

pub(super) async fn create_table(fe: &Frontend, context: &StatementContext, create: &CreateTable) -> Result<Outcome> {
    let (database, name) = writable(context, &create.table)?;
    rawkv::refuse(database, "CREATE TABLE")?;
    let replication = replication(fe, &create.properties)?;
    let warnings = compression(&create.properties)?.into_iter().collect();
    let schema = schema(create)?;
    let distribution = distribution(fe, create, &schema)?;
    let record = create.comment.len() + distribution.columns.iter().map(|name| name.len()).sum::<usize>();
    if record > 2 * MAX_TEXT {
        return Err(Error::Analysis(format!(
            "the table's comment and the names of the columns by which it is distributed have {record} bytes; at most {}",
            2 * MAX_TEXT
        )));
    }
    let partition_column = create.partition_by.as_ref().map(|by| by.column.clone());
    if let Some(column) = partition_column.as_ref().and_then(|name| schema.column(name))
        && !column.ty.is_range_type()
    {
        return Err(Error::Analysis(format!(
            "column '{}' of type {} cannot be a partition column",
            column.name, column.ty
        )));
    }
    let partitions: Vec<(Name, Option<PartitionRange>)> = match &create.partition_by {
        Some(by) => by.partitions.iter().map(|(name, range)| (name.clone(), Some(range.clone()))).collect(),
        None => vec![(name.clone(), None)],
    };
    let now = fe.clock.now();
    fe.catalog
        .commit(|draft| {
            let database = draft.image().database(database)?.clone();
            if database.tables.contains_key(name) && create.if_not_exists {
                return Ok(());
            }
            draft.image().check_not_restoring(&database.name, name)?;
            if database.tables.contains_key(name) {
                let name = format!("{}.{name}", database.name);
                return Err(Error::AlreadyExists(Entity::new(Kind::Table, name)));
            }
            let mut table = Table {
                id: TableId(draft.fresh_id()),
                database: database.id,
                name: name.clone(),
                schema: Arc::new(schema),
                comment: create.comment.clone(),
                partition_column,
                distribution,
                replication,
                created: now,
                raw: None,
                partitions: imbl::OrdMap::new(),
            };
            let mut placement = fe.fleet.placement(draft.image());
            for (name, range) in partitions {
                let buckets = table.distribution.buckets as usize;
                let places = placement.place(replication, buckets)?;
                let partition = empty_partition(draft, name, range, replication, places, 1, now);
                table.partitions.insert(partition.name.clone(), Arc::new(partition));
            }
            draft.add_table(table)
        })
        .await?;
    Ok(Outcome::Done { affected: 0, info: String::new(), warnings })
}

fn empty_partition(
    draft: &mut Draft,
    name: Name,
    range: Option<PartitionRange>,
    replication: u32,
    places: Vec<Vec<BackendId>>,
    version: u64,
    now: Timestamp,
) -> Partition {
    let id = PartitionId(draft.fresh_id());
    let tablet = |replicas| Arc::new(Tablet { id: TabletId(draft.fresh_id()), replicas, files: Arc::new([]) });
    let tablets = places.into_iter().map(tablet).collect();
    Partition { id, name, range, version, changed: now, replication, tablets }
}

/// Checks StarRocks' `compression`. Returns what to warn of: files are Parquet with zstd, whatever is asked for.
fn compression(properties: &Properties) -> Result<Option<String>> {
    const KNOWN: [&str; 6] = ["zstd", "lz4", "lz4_frame", "snappy", "zlib", "gzip"];
    let Some(asked) = properties.get("compression") else { return Ok(None) };
    let lower = asked.trim().to_lowercase();
    let (method, level) = match lower.strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((method, level)) => (method, Some(level)),
        None => (lower.as_str(), None),
    };
    let level_fits =
        level.is_none_or(|level| method == "zstd" && level.parse().is_ok_and(|level| (1..=22).contains(&level)));
    if !KNOWN.contains(&method) || !level_fits {
        return Err(Error::Analysis(format!("unknown compression type: '{asked}'; known are {}", KNOWN.join(", "))));
    }
    Ok((lower != "zstd").then(|| format!("compression = '{asked}' has no effect: files are compressed with zstd")))
}

fn replication(fe: &Frontend, properties: &Properties) -> Result<u32> {
    let read_elsewhere = ["replication_num", "compression"];
    for (key, value) in properties.iter().filter(|(key, _)| !read_elsewhere.contains(&key.as_str())) {
        let Some((_, values)) = WITHOUT_MEANING.iter().find(|(known, _)| known == key) else {
            return Err(Error::Analysis(format!("Unknown properties: [{key}]")));
        };
        if !values.iter().any(|known| value.eq_ignore_ascii_case(known)) {
            let values = values.join(" or ");
            return Err(Error::Unsupported(format!("property {key} = '{value}'; it can only be {values}")));
        }
    }
    match properties.get("replication_num") {
        None => Ok(fe.fleet.default_copies()),
        Some(text) => match text.trim().parse() {
            Ok(copies) if copies > 0 => Ok(copies),
            _ => Err(Error::Analysis(format!("Invalid replication_num: '{text}', expected a number from 1"))),
        },
    }
}

fn schema(create: &CreateTable) -> Result<Schema> {
    let fits = |what: &str, text: &str| match text.len() <= MAX_TEXT {
        true => Ok(()),
        false => Err(Error::Analysis(format!("{what} is longer than {MAX_TEXT} bytes"))),
    };
    fits("the table's comment", &create.comment)?;
    let column = |(n, column): (usize, &ColumnDef)| {
        fits(&format!("the comment of column '{}'", column.name), &column.comment)?;
        if let Some(default) = &column.default {
            fits(&format!("the default of column '{}'", column.name), &default.to_string())?;
        }
        if n < create.keys as usize && !column.ty.is_key_type() {
            return Err(Error::Analysis(format!(
                "column '{}' of type {} cannot be a key column",
                column.name, column.ty
            )));
        }
        Ok(Column {
            name: column.name.clone(),
            field: n as u32 + 1,
            ty: column.ty,
            nullable: column.nullable,
            default: column.default.clone(),
            comment: column.comment.clone(),
        })
    };
    let columns = create.columns.iter().enumerate().map(column).collect::<Result<_>>()?;
    Ok(Schema { version: 1, keys: create.keys, columns })
}

/// As the statement says; without a word of it by the key columns, or by the first column that can be hashed.
fn distribution(fe: &Frontend, create: &CreateTable, schema: &Schema) -> Result<Distribution> {
    let columns = match &create.distribution {
        Some(distribution) => distribution.columns.clone(),
        None => {
            let keys = schema.columns.iter().take(schema.keys as usize).map(|column| column.name.clone());
            let columns: Vec<Name> = keys.collect();
            match columns.is_empty() {
                false => columns,
                true => schema
                    .columns
                    .iter()
                    .filter(|column| column.ty.is_key_type())
                    .map(|c| c.name.clone())
                    .take(1)
                    .collect(),
            }
        }
    };
    let unhashable = columns.iter().filter_map(|name| schema.column(name)).find(|column| !column.ty.is_key_type());
    if let Some(column) = unhashable {
        let (name, ty) = (&column.name, column.ty);
        return Err(Error::Analysis(format!("column '{name}' of type {ty} cannot be a distribution column")));
    }
    if columns.is_empty() {
        return Err(Error::Analysis("the table has no column by which rows can be distributed".into()));
    }
    let asked = create.distribution.as_ref().and_then(|distribution| distribution.buckets);
    let buckets = asked.unwrap_or_else(|| 2 * fe.fleet.alive().len().max(1) as u32);
    let most = fe.config.get().max_bucket_number_per_partition;
    if buckets > most {
        return Err(Error::Analysis(format!(
            "{buckets} buckets are more than max_bucket_number_per_partition, which is {most}"
        )));
    }
    Ok(Distribution { columns, buckets })
}

/// Drops all of them or none.
pub(super) async fn drop_tables(
    fe: &Frontend,
    context: &StatementContext,
    tables: &[TableName],
    if_exists: bool,
) -> Result<Outcome> {
    let names = tables.iter().map(|table| writable(context, table)).collect::<Result<Vec<_>>>()?;
    fe.catalog
        .commit(|draft| {
            for (database, name) in names {
                rawkv::refuse(database, "DROP TABLE")?;
                let image = draft.image();
                image.check_not_restoring(database, name)?;
                let found = match image.table(database, name) {
                    Err(Error::NotFound(_)) if if_exists => continue,
                    found => found?.id,
                };
                draft.drop_table(found)?;
            }
            Ok(())
        })
        .await?;
    Ok(Outcome::done())
}

pub(super) async fn truncate(
    fe: &Frontend,
    context: &StatementContext,
    table: &TableName,
    partitions: &[Name],
) -> Result<Outcome> {
    let (database, name) = writable(context, table)?;
    rawkv::refuse(database, "TRUNCATE")?;
    let now = fe.clock.now();
    let mut placement = fe.fleet.placement(&fe.catalog.image());
    fe.catalog
        .commit(|draft| {
            draft.use_reserve();
            draft.image().check_not_restoring(database, name)?;
            let table = draft.image().table(database, name)?.clone();
            let chosen: Vec<Arc<Partition>> = match partitions.is_empty() {
                true => table.partitions.values().cloned().collect(),
                false => partitions.iter().map(|name| table.partition(name).cloned()).collect::<Result<Vec<_>>>()?,
            };
            let mut empty = Vec::new();
            for old in chosen {
                let is_known = |id: &BackendId| draft.image().backends.contains_key(id);
                let known = |tablet: &Arc<Tablet>| tablet.replicas.iter().copied().filter(is_known).collect();
                let mut places: Vec<Vec<BackendId>> = old.tablets.iter().map(known).collect();
                // Some were on BEs that were dropped.
                if places.iter().any(|place| place.len() < old.replication as usize) {
                    match placement.place(old.replication, places.len()) {
                        Ok(others) => places = others,
                        Err(err) if places.iter().any(Vec::is_empty) => return Err(err),
                        Err(_) => {}
                    }
                }
                let (name, range) = (old.name.clone(), old.range.clone());
                empty.push(empty_partition(draft, name, range, old.replication, places, old.version + 1, now));
            }
            draft.put_partitions(table.id, empty)
        })
        .await?;
    Ok(Outcome::done())
}
