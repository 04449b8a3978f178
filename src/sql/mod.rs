//! Text to [`Statement`]: StarRocks' dialect, which is MySQL's by sqlparser for queries, and by hand for everything
//! else, because sqlparser either lacks the other statements or takes too much for one (`SHOW anything`).
//!
//! Nothing here knows the catalog: what a statement says is checked in itself only.

mod admin;
mod backup;
mod ddl;
mod dialect;
mod lex;
mod mask;
mod parser;
mod query;
mod rows;
mod session;
mod show;
mod statement;
#[cfg(test)]
mod tests;
mod walk;

pub use lex::{STACK_SIZE, text_with_bytes};
pub use mask::{is_secret_key, mask_secrets, mask_uri};
pub use parser::{aside, parse, parse_each};
pub use query::{bind, count_tables, files_call, placeholders, projection_names, select_of};
pub use rows::rows;
pub use statement::{
    Address, Assignment, Backup, BackupOptions, BackupTimestamp, ColumnDef, CreateRepository, CreateTable, Delete,
    Distribution, Filter, Identified, Insert, ObjectRef, Objects, Page, Parsed, PartitionBy, PrepareSource, Properties,
    RawJob, Restore, RestoreDatabase, RestoreOptions, Scope, Secret, SetValue, Show, Statement, StorageUri, TableName,
    UserName,
};
pub use walk::{walk, walk_mut};
