//! SHOW, ADMIN SHOW and DESC about the catalog; sessions answer those about themselves.
//!
//! Columns are StarRocks' where it has the statement, and MySQL's otherwise. LIKE looks at the name of what is shown,
//! wherever its column is.

mod cluster;
mod definition;
mod jobs;
mod snapshots;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sqlparser::ast::{Expr, Ident, Value};

pub(super) use self::cluster::range_text;
pub(super) use self::definition::quoted;
use super::frontend::{Frontend, database_of, qualified};
use super::reading::INFORMATION_SCHEMA;
use super::{Listing, Outcome, StatementContext, information_schema, raw_backup};
use crate::catalog::{Image, JobKind, Table};
use crate::error::{Error, Result};
use crate::sql::{Filter, Show, TableName};
use crate::types::{Column, ColumnType, Entity, Kind, Name, Schema, Timestamp};

/// The character set and collation of all text.
pub(super) const CHARSET: &str = "utf8mb4";
pub(super) const COLLATION: &str = "utf8mb4_general_ci";

/// The engine of all stored tables, as SHOW ENGINES and CREATE TABLE name it.
pub(super) const ENGINE: &str = "OLAP";

/// Answers a SHOW, ADMIN SHOW or DESC.
pub(super) async fn show(fe: &Arc<Frontend>, context: &StatementContext, show: &Show) -> Result<Outcome> {
    let image = fe.catalog.image();
    let listing = match show {
        Show::Databases(filter) => databases(&image).filter(filter.as_ref())?,
        Show::Tables { full, database, filter } => {
            tables(&image, database_of(context, database.as_ref())?, *full)?.filter(filter.as_ref())?
        }
        Show::TableStatus { database, filter } => {
            table_status(&image, database_of(context, database.as_ref())?)?.filter(filter.as_ref())?
        }
        Show::Columns { table, full, filter } => {
            let schema = schema(fe, &image, context, table)?;
            columns(&schema, *full).filter(filter.as_ref())?
        }
        Show::CreateTable(table) => create_table(fe, &image, context, table)?,
        Show::CreateDatabase(name) => create_database(&image, name)?,
        Show::CreateRepository(name) => {
            let mut listing = Listing::new(CREATE_REPOSITORY);
            listing.row([name, &definition::create_repository(image.repository(name)?)]);
            listing
        }
        Show::Partitions { table, filter, page } => {
            let (database, table) = stored(fe, &image, context, table)?;
            cluster::partitions(&image, database, table).filter(named(filter, "PartitionName").as_ref())?.page(page)?
        }
        Show::Tablets { table, partitions, filter, page } => {
            let (_, table) = stored(fe, &image, context, table)?;
            cluster::tablets(fe, table, partitions)?.filter(filter.as_ref())?.page(page)?
        }
        Show::Index { table, filter } => {
            schema(fe, &image, context, table)?;
            // No table has an index.
            Listing::new(INDEX).filter(filter.as_ref())?
        }
        Show::Backends => cluster::backends(fe, &image),
        Show::Frontends => cluster::frontends(fe, &image),
        Show::FrontendConfig(filter) => cluster::frontend_config(fe).filter(filter.as_ref())?,
        Show::Repositories(filter) => lenient(snapshots::repositories(fe, &image), named(filter, "RepoName"))?,
        Show::Backup { database, filter } => {
            let listing = jobs::list(fe, image, JobKind::Backup, database.as_ref()).await?;
            lenient(listing, named(filter, "SnapshotName"))?
        }
        Show::Restore { database, filter } => {
            let listing = jobs::list(fe, image, JobKind::Restore, database.as_ref()).await?;
            lenient(listing, named(filter, "Label"))?
        }
        Show::BackupRaw(uri) => raw_backup::files(fe, uri).await?,
        Show::VerifyBackupRaw { uri, properties } => return raw_backup::verify(fe, uri, properties).await,
        Show::Snapshot { repository, snapshots, timestamp } => {
            snapshots::snapshots(&image, fe.clock.now(), repository, snapshots, timestamp.as_deref()).await?
        }
        Show::Processlist { .. }
        | Show::Variables { .. }
        | Show::Status { .. }
        | Show::Warnings { .. }
        | Show::WarningCount { .. }
        | Show::Engines
        | Show::CharacterSet(_)
        | Show::Collation(_)
        | Show::Grants(_)
        | Show::Catalogs(_)
        | Show::Plugins
        | Show::Users
        | Show::Triggers
        | Show::Events
        | Show::ProcedureStatus
        | Show::FunctionStatus => return Err(Error::internal("a session's statement has left its session")),
    };
    Ok(Outcome::rows(listing.into_rows()))
}

const CREATE_REPOSITORY: &[&str] = &["Repository", "Create Repository"];

/// The columns of a SHOW that sessions do not answer, which is not run.
pub(super) fn head(context: &StatementContext, show: &Show) -> Result<Listing> {
    Ok(Listing::new(match show {
        Show::Databases(_) => DATABASES,
        Show::Tables { full, database, .. } => {
            return Ok(tables_head(database_of(context, database.as_ref())?, *full));
        }
        Show::TableStatus { .. } => TABLE_STATUS,
        Show::Columns { full: true, .. } => FULL_COLUMNS,
        Show::Columns { full: false, .. } => COLUMNS,
        Show::CreateTable(_) => CREATE_TABLE,
        Show::CreateDatabase(_) => CREATE_DATABASE,
        Show::CreateRepository(_) => CREATE_REPOSITORY,
        Show::Partitions { .. } => cluster::PARTITIONS,
        Show::Tablets { .. } => cluster::TABLETS,
        Show::Index { .. } => INDEX,
        Show::Backends => cluster::BACKENDS,
        Show::Frontends => cluster::FRONTENDS,
        Show::FrontendConfig(_) => cluster::FRONTEND_CONFIG,
        Show::Repositories(_) => snapshots::REPOSITORIES,
        Show::Backup { .. } => &jobs::BACKUP,
        Show::Restore { .. } => &jobs::RESTORE,
        Show::BackupRaw(_) => raw_backup::FILES,
        Show::VerifyBackupRaw { .. } => raw_backup::VERIFIED,
        Show::Snapshot { timestamp: None, .. } => snapshots::SNAPSHOTS,
        Show::Snapshot { timestamp: Some(_), .. } => snapshots::SNAPSHOT,
        Show::Processlist { .. }
        | Show::Variables { .. }
        | Show::Status { .. }
        | Show::Warnings { .. }
        | Show::WarningCount { .. }
        | Show::Engines
        | Show::CharacterSet(_)
        | Show::Collation(_)
        | Show::Grants(_)
        | Show::Catalogs(_)
        | Show::Plugins
        | Show::Users
        | Show::Triggers
        | Show::Events
        | Show::ProcedureStatus
        | Show::FunctionStatus => return Err(Error::internal("a session's statement has left its session")),
    }))
}

/// A filter whose LIKE looks at a column that is not the first.
fn named(filter: &Option<Filter>, column: &str) -> Option<Filter> {
    Some(match filter.as_ref()? {
        Filter::Like(pattern) => Filter::Where(Box::new(Expr::Like {
            negated: false,
            any: false,
            expr: Box::new(Expr::Identifier(Ident::new(column))),
            pattern: Box::new(Expr::value(Value::SingleQuotedString(pattern.clone()))),
            escape_char: None,
        })),
        filter => filter.clone(),
    })
}

/// Filters where StarRocks takes any WHERE, even over columns that there are not: no row has such a value.
fn lenient(listing: Listing, filter: Option<Filter>) -> Result<Listing> {
    match listing.clone().filter(filter.as_ref()) {
        Err(Error::NotFound(_)) => listing.filter(Some(&Filter::Where(Box::new(Expr::value(Value::Boolean(false)))))),
        filtered => filtered,
    }
}

fn is_information_schema(database: &str) -> bool {
    database.eq_ignore_ascii_case(INFORMATION_SCHEMA)
}

/// A table of the catalog, with its database.
fn stored<'a>(
    fe: &Arc<Frontend>,
    image: &'a Arc<Image>,
    context: &'a StatementContext,
    named: &'a TableName,
) -> Result<(&'a Name, &'a Table)> {
    let (database, table) = qualified(context, named)?;
    if is_information_schema(database) {
        schema(fe, image, context, named)?;
        return Err(Error::Refused(format!(
            "{database}.{table} is a view of the server's own; DESC tells its columns"
        )));
    }
    Ok((database, image.table(database, table)?))
}

/// The columns of a table or a view.
fn schema(
    fe: &Arc<Frontend>,
    image: &Arc<Image>,
    context: &StatementContext,
    table: &TableName,
) -> Result<Arc<Schema>> {
    let (database, table) = qualified(context, table)?;
    if !is_information_schema(database) {
        return Ok(image.table(database, table)?.schema.clone());
    }
    let view = information_schema::view(fe, image, table);
    view.map(|view| Arc::new(view.schema))
        .ok_or_else(|| Error::NotFound(Entity::new(Kind::Table, format_args!("{database}.{table}"))))
}

const DATABASES: &[&str] = &["Database"];

fn databases(image: &Image) -> Listing {
    let mut names: Vec<&str> = image.databases.keys().map(|name| &**name).collect();
    names.push(INFORMATION_SCHEMA);
    names.sort_unstable();
    let mut listing = Listing::new(DATABASES);
    names.iter().for_each(|name| listing.row([name]));
    listing
}

/// The tables or views of a database, each with its table if it is stored.
fn tables_of<'a>(image: &'a Image, database: &str) -> Result<Vec<(String, Option<&'a Table>)>> {
    if is_information_schema(database) {
        return Ok(information_schema::names().map(|name| (name.to_owned(), None)).collect());
    }
    let database = image.database(database)?;
    let table = |(name, id): (&Name, _)| (name.to_string(), image.tables.get(id).map(|table| &**table));
    Ok(database.tables.iter().map(table).collect())
}

fn table_type(table: Option<&Table>) -> &'static str {
    if table.is_some() { "BASE TABLE" } else { "SYSTEM VIEW" }
}

fn tables_head(database: &Name, full: bool) -> Listing {
    let header = format!("Tables_in_{database}");
    if full { Listing::new(&[&header, "Table_type"]) } else { Listing::new(&[&header]) }
}

fn tables(image: &Image, database: &Name, full: bool) -> Result<Listing> {
    let mut listing = tables_head(database, full);
    for (name, table) in tables_of(image, database)? {
        if full {
            listing.row([&name, table_type(table)]);
        } else {
            listing.row([&name]);
        }
    }
    Ok(listing)
}

/// How much is in a table, as statements about its size show it.
pub(super) struct Size {
    pub rows: u64,
    pub bytes: u64,
    pub changed: Option<Timestamp>,
}

/// The size of a table, each row counted once, whatever its copies.
pub(super) fn size(table: &Table) -> Size {
    let files = || table.partitions.values().flat_map(|partition| partition.files());
    Size {
        rows: files().map(|file| file.rows).sum(),
        bytes: files().map(|file| file.size).sum(),
        changed: table.partitions.values().map(|partition| partition.changed).max(),
    }
}

const TABLE_STATUS: &[&str] = &[
    "Name",
    "Engine",
    "Version",
    "Row_format",
    "Rows",
    "Avg_row_length",
    "Data_length",
    "Max_data_length",
    "Index_length",
    "Data_free",
    "Auto_increment",
    "Create_time",
    "Update_time",
    "Check_time",
    "Collation",
    "Checksum",
    "Create_options",
    "Comment",
];

fn table_status(image: &Image, database: &Name) -> Result<Listing> {
    let mut listing = Listing::new(TABLE_STATUS);
    for (name, table) in tables_of(image, database)? {
        let size = table.map(size);
        let number = |of: fn(&Size) -> u64| size.as_ref().map(|size| of(size).to_string());
        listing.push(vec![
            Some(name),
            table.map(|_| ENGINE.to_owned()),
            None,
            None,
            number(|size| size.rows),
            number(|size| size.bytes.checked_div(size.rows).unwrap_or(0)),
            number(|size| size.bytes),
            None,
            None,
            None,
            None,
            table.map(|table| table.created.to_string()),
            size.as_ref().and_then(|size| size.changed).map(|time| time.to_string()),
            None,
            Some(COLLATION.to_owned()),
            None,
            None,
            Some(table.map_or_else(|| "SYSTEM VIEW".to_owned(), |table| table.comment.clone())),
        ]);
    }
    Ok(listing)
}

/// A column's type in words that MySQL's clients know: STRING is none of them.
pub(super) fn mysql_type(ty: ColumnType) -> String {
    match ty {
        ColumnType::String => ColumnType::Varchar(65_533).to_string(),
        ty => ty.to_string(),
    }
}

/// What a column's DEFAULT is, as text; `None` without one, and for NULL.
pub(super) fn default_text(column: &Column) -> Option<String> {
    column.default.as_ref().and_then(|value| value.text(column.ty))
}

pub(super) fn is_text(ty: ColumnType) -> bool {
    matches!(ty, ColumnType::Char(_) | ColumnType::Varchar(_) | ColumnType::String)
}

pub(super) fn yes_no(holds: bool) -> &'static str {
    if holds { "YES" } else { "NO" }
}

const COLUMNS: &[&str] = &["Field", "Type", "Null", "Key", "Default", "Extra"];
const FULL_COLUMNS: &[&str] =
    &["Field", "Type", "Collation", "Null", "Key", "Default", "Extra", "Privileges", "Comment"];

/// DESC writes types as CREATE TABLE does; the full form is for MySQL's clients and writes theirs.
fn columns(schema: &Schema, full: bool) -> Listing {
    let mut listing = Listing::new(if full { FULL_COLUMNS } else { COLUMNS });
    for (n, column) in schema.columns.iter().enumerate() {
        let text = |text: &str| Some(text.to_owned());
        let (null, key) = (text(yes_no(column.nullable)), Some((n < schema.keys as usize).to_string()));
        listing.push(if full {
            let collation = is_text(column.ty).then(|| COLLATION.to_owned());
            let ty = Some(mysql_type(column.ty));
            let (default, comment) = (default_text(column), text(&column.comment));
            vec![text(&column.name), ty, collation, null, key, default, text(""), text("select"), comment]
        } else {
            vec![text(&column.name), Some(column.ty.to_string()), null, key, default_text(column), text("")]
        });
    }
    listing
}

const CREATE_TABLE: &[&str] = &["Table", "Create Table"];

fn create_table(
    fe: &Arc<Frontend>,
    image: &Arc<Image>,
    context: &StatementContext,
    table: &TableName,
) -> Result<Listing> {
    let (_, table) = stored(fe, image, context, table)?;
    let mut listing = Listing::new(CREATE_TABLE);
    listing.row([&table.name, &definition::create_table(table)]);
    Ok(listing)
}

const CREATE_DATABASE: &[&str] = &["Database", "Create Database"];

fn create_database(image: &Image, name: &Name) -> Result<Listing> {
    let name: &str = if is_information_schema(name) { INFORMATION_SCHEMA } else { &image.database(name)?.name };
    let mut listing = Listing::new(CREATE_DATABASE);
    listing.row([name, &format!("CREATE DATABASE {}", quoted(name))]);
    Ok(listing)
}

const INDEX: &[&str] = &[
    "Table",
    "Non_unique",
    "Key_name",
    "Seq_in_index",
    "Column_name",
    "Collation",
    "Cardinality",
    "Sub_part",
    "Packed",
    "Null",
    "Index_type",
    "Comment",
    "Index_comment",
];

/// A number of bytes, as StarRocks writes it.
fn capacity(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let power = bytes.checked_ilog2().map_or(0, |log| (log / 10) as usize).min(UNITS.len() - 1);
    format!("{:.3} {}", bytes as f64 / 1024_f64.powi(power as i32), UNITS[power])
}
