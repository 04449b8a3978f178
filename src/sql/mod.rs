//! Text to [`Statement`]: StarRocks' dialect, which is MySQL's by sqlparser and the statements it lacks by hand.

mod mask;
mod statement;

pub use mask::{is_secret_key, mask_uri};
pub use statement::{
    Address, Assignment, Backup, BackupOptions, BackupTimestamp, ColumnDef, CreateRepository, CreateTable,
    Distribution, Filter, Identified, Insert, ObjectRef, Objects, Parsed, PartitionBy, PrepareSource, Properties,
    Restore, RestoreDatabase, RestoreOptions, Scope, Secret, SetValue, Show, Statement, TableName, UserName,
};
