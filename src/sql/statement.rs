//! Statements as data: what a client can ask for.
//!
//! Types made for secrets do not show them in `Debug`; the text in [`Parsed`] and a query's tree do.

use std::fmt;
use std::ops::{Deref, Range};

use sqlparser::ast::{Expr, Query};

use crate::types::{ColumnType, Datum, Label, Name, PartitionRange};

/// A statement with its own part of the text it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub statement: Statement,
    /// Its source, without the `;`. Spans in the statement's queries count from the beginning of this text. It may
    /// hold secrets: show it through [`mask_secrets`](super::mask_secrets).
    pub text: String,
    /// `/*+ SET_VAR(name = value) */`: variables, in lower case, that are so for this statement alone.
    pub hints: Vec<(String, SetValue)>,
}

/// What a client can ask for. Everything that StarRocks knows and this enum does not is refused by name when parsed.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `SELECT`, `VALUES`, `WITH`, set operations. `FILES(…)` in it is recognised by [`files_call`](super::files_call),
    /// headers come from [`projection_names`](super::projection_names).
    Query(Box<Query>),
    /// `INSERT INTO`.
    Insert(Insert),
    /// `DELETE FROM`.
    Delete(Delete),
    /// `BACKUP RAW`.
    BackupRaw(RawJob),
    /// `RESTORE RAW`.
    RestoreRaw(RawJob),

    /// `CREATE DATABASE`.
    CreateDatabase {
        /// The database.
        name: Name,
        /// Succeed if it exists.
        if_not_exists: bool,
    },
    /// `DROP DATABASE`.
    DropDatabase {
        /// The database.
        name: Name,
        /// Succeed if it does not exist.
        if_exists: bool,
        /// Drop at once, past what makes a drop recoverable.
        force: bool,
    },
    /// `USE`.
    Use(Name),
    /// `CREATE TABLE`.
    CreateTable(CreateTable),
    /// `DROP TABLE`.
    DropTables {
        /// The tables, at least one.
        tables: Vec<TableName>,
        /// Succeed if some do not exist.
        if_exists: bool,
        /// Drop at once, past what makes a drop recoverable.
        force: bool,
    },
    /// `TRUNCATE TABLE`.
    Truncate {
        /// The table.
        table: TableName,
        /// Only these partitions; all if empty.
        partitions: Vec<Name>,
    },

    /// `ALTER TABLE … DISABLE KEYS` and `ENABLE KEYS`, which dump tools write and no table has a use for.
    AlterKeys(TableName),

    /// `CREATE REPOSITORY`.
    CreateRepository(CreateRepository),
    /// `ALTER REPOSITORY name [SET] PROPERTIES (…)`.
    AlterRepository {
        /// Its name.
        name: Name,
        /// What changes; an empty value takes a property away.
        properties: Properties,
    },
    /// `DROP REPOSITORY`.
    DropRepository(Name),
    /// `BACKUP`.
    Backup(Backup),
    /// `RESTORE`.
    Restore(Restore),
    /// `CANCEL BACKUP`.
    CancelBackup {
        /// `FROM`; else the session's database.
        database: Option<Name>,
    },
    /// `CANCEL RESTORE`.
    CancelRestore {
        /// `FROM`; else the session's database.
        database: Option<Name>,
    },

    /// Every `SHOW`, `ADMIN SHOW` and `DESC`.
    Show(Show),

    /// `SET`, its assignments in order.
    Set(Vec<Assignment>),
    /// `KILL`.
    Kill {
        /// The connection; an expression has its number.
        connection: SetValue,
        /// `KILL QUERY`: end what it runs, keep the connection.
        query_only: bool,
    },
    /// `CREATE USER`.
    CreateUser {
        /// The account.
        user: UserName,
        /// Succeed if it exists.
        if_not_exists: bool,
        /// How it proves itself; without a password if absent.
        identified: Option<Identified>,
    },
    /// `ALTER USER`.
    AlterUser {
        /// The account; the session's own if absent.
        user: Option<UserName>,
        /// Succeed if it does not exist.
        if_exists: bool,
        /// How it proves itself from now on.
        identified: Identified,
    },
    /// `DROP USER`.
    DropUser {
        /// The account.
        user: UserName,
        /// Succeed if it does not exist.
        if_exists: bool,
    },
    /// `BEGIN`, `START TRANSACTION`.
    Begin {
        /// `READ ONLY` or `READ WRITE`, if it says.
        read_only: Option<bool>,
    },
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`.
    Rollback,
    /// `SAVEPOINT`, `RELEASE SAVEPOINT`, which dump tools send.
    Savepoint,
    /// `ROLLBACK TO SAVEPOINT`.
    RollbackToSavepoint,
    /// `LOCK TABLES`, which dump tools send.
    LockTables,
    /// `UNLOCK TABLES`.
    UnlockTables,

    /// `PREPARE name FROM …`.
    Prepare {
        /// The prepared statement's name, in lower case.
        name: String,
        /// Where its text is.
        source: PrepareSource,
    },
    /// `EXECUTE name USING @a, @b`.
    Execute {
        /// The prepared statement's name, in lower case.
        name: String,
        /// User variables, in lower case without `@`, one for each placeholder.
        using: Vec<String>,
    },
    /// `DEALLOCATE PREPARE`, `DROP PREPARE`.
    Deallocate {
        /// The prepared statement's name, in lower case.
        name: String,
    },

    /// `ALTER SYSTEM ADD BACKEND`.
    AddBackends(Vec<Address>),
    /// `ALTER SYSTEM DROP BACKEND`.
    DropBackends {
        /// Which.
        backends: Vec<Address>,
        /// Even if replicas are lost by it.
        force: bool,
    },
    /// `ADMIN SET FRONTEND CONFIG`.
    SetFrontendConfig {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// `UPDATE information_schema.be_configs SET value = … WHERE name = …`.
    SetBackendConfig {
        /// The view, whose database may be the session's.
        table: TableName,
        /// The key.
        key: String,
        /// Its new value.
        value: String,
        /// `AND BE_ID = …`; on every BE if absent.
        backend: Option<u64>,
    },
}

/// A table as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The qualifier; else the session's database.
    pub database: Option<Name>,
    /// The table.
    pub table: Name,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(database) = &self.database {
            write!(f, "{database}.")?;
        }
        self.table.fmt(f)
    }
}

/// An account as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserName {
    /// The user.
    pub user: Name,
    /// The host pattern; `%` if not given.
    pub host: String,
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'@'{}'", self.user, self.host)
    }
}

/// A BE's `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address; IPv6 without its brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A text that no log and no message shows: its `Debug` is `'***'`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'***'")
    }
}

/// `PROPERTIES (…)`: keys as written, in order, none twice. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(pub(super) Vec<(String, String)>);

impl Properties {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

impl Deref for Properties {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value): &(String, String)| {
            let value = if super::is_secret_key(key) { "***".to_owned() } else { super::mask_uri(value) };
            (key.clone(), value)
        };
        f.debug_map().entries(self.0.iter().map(shown)).finish()
    }
}

/// `INSERT INTO table [(columns)] [WITH LABEL label] query`.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The table.
    pub table: TableName,
    /// The columns given, in order; all columns of the table if empty.
    pub columns: Vec<Name>,
    /// The load's label.
    pub label: Option<Label>,
    /// The rows; `VALUES` is a query too. A bare `DEFAULT` in `VALUES` is an identifier of that name.
    pub source: Box<Query>,
    /// More rows, of which nothing is known but where they are in the statement's text: [`rows`](super::rows()) parses
    /// each part. Only a long `VALUES` has them.
    pub more: Vec<Range<usize>>,
}

/// `DELETE FROM`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// The table.
    pub table: TableName,
    /// `SELECT *` of the rows to delete.
    pub rows: Box<Query>,
}

/// `CREATE TABLE`, checked in itself: no name twice, keys lead, values fit their types, ranges do not overlap.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// The table.
    pub table: TableName,
    /// Succeed if it exists.
    pub if_not_exists: bool,
    /// The columns, at least one.
    pub columns: Vec<ColumnDef>,
    /// How many leading columns are the `DUPLICATE KEY`; without that clause the first up to three of at most 36 bytes
    /// together, as in StarRocks.
    pub keys: u32,
    /// `COMMENT`, empty if none.
    pub comment: String,
    /// `PARTITION BY RANGE`.
    pub partition_by: Option<PartitionBy>,
    /// `DISTRIBUTED BY HASH`; whoever creates the table chooses if absent.
    pub distribution: Option<Distribution>,
    /// `PROPERTIES`, not looked into.
    pub properties: Properties,
}

/// A column of `CREATE TABLE`.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDef {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: ColumnType,
    /// Whether it may hold NULL, which is so unless `NOT NULL` is said.
    pub nullable: bool,
    /// `DEFAULT`, a value of the type.
    pub default: Option<Datum>,
    /// `COMMENT`, empty if none.
    pub comment: String,
}

/// `PARTITION BY RANGE (column) (…)`.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionBy {
    /// The column, which is one of the table's.
    pub column: Name,
    /// The partitions, in the order written; may be empty.
    pub partitions: Vec<(Name, PartitionRange)>,
}

/// `DISTRIBUTED BY HASH (columns) BUCKETS n`.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// The columns, at least one, all of the table.
    pub columns: Vec<Name>,
    /// The number of buckets, at least one; whoever creates the table chooses if absent.
    pub buckets: Option<u32>,
}

/// `CREATE [READ ONLY] REPOSITORY name WITH BROKER ON LOCATION "uri" [PROPERTIES (…)]`.
#[derive(Clone, PartialEq)]
pub struct CreateRepository {
    /// Its name.
    pub name: Name,
    /// Never written.
    pub read_only: bool,
    /// The URI as written, not looked into but for being there.
    pub location: String,
    /// Credentials and options, not looked into.
    pub properties: Properties,
}

impl fmt::Debug for CreateRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateRepository")
            .field("name", &self.name)
            .field("read_only", &self.read_only)
            .field("location", &super::mask_uri(&self.location))
            .field("properties", &self.properties)
            .finish()
    }
}

/// `BACKUP [DATABASE d] SNAPSHOT [d.]label TO repository [ON (…)] [PROPERTIES (…)]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// `DATABASE d` or the label's qualifier, never both; else the session's database.
    pub database: Option<Name>,
    /// The snapshot's label.
    pub label: Label,
    /// The repository.
    pub repository: Name,
    /// What to back up.
    pub objects: Objects,
    /// The properties.
    pub options: BackupOptions,
}

/// `RESTORE SNAPSHOT [d.]label FROM repository [DATABASE a [AS b]] [ON (…)] PROPERTIES (…)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Restore {
    /// Which database of the snapshot goes where.
    pub database: RestoreDatabase,
    /// The snapshot's label.
    pub label: Label,
    /// The repository.
    pub repository: Name,
    /// What to restore.
    pub objects: Objects,
    /// The properties.
    pub options: RestoreOptions,
}

/// Which database of a snapshot is restored, and where.
#[derive(Debug, Clone, PartialEq)]
pub enum RestoreDatabase {
    /// Nothing is said: into the database of the name that the snapshot records.
    Recorded,
    /// `db.label`: into this database, whatever the snapshot records.
    Into(Name),
    /// `DATABASE source [AS target]`: the snapshot must record `source`; `target` is `source` without AS.
    Renamed {
        /// As the snapshot records it.
        source: Name,
        /// Where it goes.
        target: Name,
    },
}

/// `BACKUP RAW … TO 'uri'`, `RESTORE RAW … FROM 'uri'`. Nothing is looked into.
#[derive(Debug, Clone, PartialEq)]
pub struct RawJob {
    /// `CF`.
    pub cf: Option<String>,
    /// `START`, empty if absent.
    pub start: String,
    /// `END`, empty if absent.
    pub end: String,
    /// `FORMAT`, how keys are written.
    pub format: Option<String>,
    /// Where the backup goes, or is.
    pub uri: StorageUri,
    /// The properties.
    pub properties: Properties,
}

/// A storage's URI. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageUri(pub String);

impl fmt::Debug for StorageUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::mask_uri(&self.0))
    }
}

/// `ON (…)`: what of a database a job covers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Every table: there is no ON, or ALL TABLES is in it.
    pub all_tables: bool,
    /// Tables named one by one; beside `all_tables` they say partitions and aliases of some.
    pub tables: Vec<ObjectRef>,
}

/// A table named in `ON (…)`. No table and no alias is there twice.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectRef {
    /// The table.
    pub table: Name,
    /// Only these partitions; all if empty. None is there twice.
    pub partitions: Vec<Name>,
    /// `AS`, in RESTORE only.
    pub alias: Option<Name>,
}

/// The properties of BACKUP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackupOptions {
    /// `timeout` in seconds, at least 600.
    pub timeout_secs: Option<u64>,
    /// `wait`: return when the job has ended.
    pub wait: Option<bool>,
}

/// The properties of RESTORE.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreOptions {
    /// `backup_timestamp`.
    pub backup_timestamp: BackupTimestamp,
    /// `timeout` in seconds, at least 600.
    pub timeout_secs: Option<u64>,
    /// `replication_num` of what is created, at least 1.
    pub replication_num: Option<u32>,
    /// `allow_load`, which is shown and has no other effect, as in StarRocks.
    pub allow_load: bool,
    /// `meta_version`, for scripts that carry it: Holdfast's snapshots record their own.
    pub meta_version: Option<i32>,
    /// `starrocks_meta_version`, likewise.
    pub starrocks_meta_version: Option<i32>,
    /// `wait`: return when the job has ended.
    pub wait: Option<bool>,
}

/// Which backup under a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupTimestamp {
    /// The one of this timestamp, which has the right form.
    At(String),
    /// The newest one.
    Latest,
}

/// The second half of a SHOW: which rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// `LIKE 'pattern'`, of the result's name column.
    Like(String),
    /// `WHERE`, over the result's columns.
    Where(Box<Expr>),
}

/// `[ORDER BY column [DESC], …] [LIMIT n]` at the end of a SHOW.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Columns of the result, each with whether it descends.
    pub order_by: Vec<(String, bool)>,
    /// How many rows are left out, and how many may follow.
    pub limit: Option<(usize, usize)>,
}

/// The kinds of SHOW. `database` is the session's where it is absent.
#[derive(Debug, Clone, PartialEq)]
pub enum Show {
    /// `SHOW DATABASES`, `SHOW SCHEMAS`.
    Databases(Option<Filter>),
    /// `SHOW [FULL] TABLES [FROM db]`.
    Tables {
        /// With the table type.
        full: bool,
        /// `FROM`.
        database: Option<Name>,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SHOW TABLE STATUS [FROM db]`.
    TableStatus {
        /// `FROM`.
        database: Option<Name>,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SHOW [FULL] COLUMNS FROM table`, `DESC table`.
    Columns {
        /// The table.
        table: TableName,
        /// With collation, privileges and comment.
        full: bool,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SHOW CREATE TABLE`.
    CreateTable(TableName),
    /// `SHOW CREATE REPOSITORY`.
    CreateRepository(Name),
    /// `SHOW CREATE DATABASE`.
    CreateDatabase(Name),
    /// `SHOW PARTITIONS FROM table`.
    Partitions {
        /// The table.
        table: TableName,
        /// Which rows.
        filter: Option<Filter>,
        /// In which order, and how many.
        page: Page,
    },
    /// `SHOW TABLET[S] FROM table [PARTITION (…)]`.
    Tablets {
        /// The table.
        table: TableName,
        /// Only of these partitions; of all if empty.
        partitions: Vec<Name>,
        /// Which rows.
        filter: Option<Filter>,
        /// In which order, and how many.
        page: Page,
    },
    /// `SHOW INDEX FROM table`, `SHOW KEYS FROM table`.
    Index {
        /// The table.
        table: TableName,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SHOW BACKENDS`.
    Backends,
    /// `SHOW FRONTENDS`.
    Frontends,
    /// `SHOW [FULL] PROCESSLIST`.
    Processlist {
        /// With statements uncut.
        full: bool,
    },
    /// `SHOW [GLOBAL|SESSION] VARIABLES`.
    Variables {
        /// Whose values.
        scope: Scope,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SHOW [GLOBAL|SESSION] STATUS`.
    Status {
        /// Whose values.
        scope: Scope,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SHOW WARNINGS`, `SHOW ERRORS`.
    Warnings {
        /// ERRORS.
        errors_only: bool,
        /// How many.
        page: Page,
    },
    /// `SHOW COUNT(*) WARNINGS`, `SHOW COUNT(*) ERRORS`.
    WarningCount {
        /// ERRORS.
        errors_only: bool,
    },
    /// `SHOW [STORAGE] ENGINES`.
    Engines,
    /// `SHOW CHARACTER SET`, `SHOW CHARSET`.
    CharacterSet(Option<Filter>),
    /// `SHOW COLLATION`.
    Collation(Option<Filter>),
    /// `SHOW GRANTS [FOR user]`.
    Grants(Option<UserName>),
    /// `SHOW CATALOGS`: there is one.
    Catalogs(Option<Filter>),
    /// `SHOW PLUGINS`.
    Plugins,
    /// `SHOW USERS`.
    Users,
    /// `SHOW TRIGGERS`: there are none.
    Triggers,
    /// `SHOW EVENTS`: there are none.
    Events,
    /// `SHOW PROCEDURE STATUS`: there are none.
    ProcedureStatus,
    /// `SHOW FUNCTION STATUS`: there are none.
    FunctionStatus,
    /// `ADMIN SHOW FRONTEND CONFIG`.
    FrontendConfig(Option<Filter>),
    /// `SHOW REPOSITORIES`.
    Repositories(Option<Filter>),
    /// `SHOW BACKUP [FROM db]`; of every database if absent.
    Backup {
        /// `FROM`.
        database: Option<Name>,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SHOW BACKUP RAW FROM 'uri'`: its files.
    BackupRaw(StorageUri),
    /// `VERIFY BACKUP RAW FROM 'uri'`: its files, read and checked.
    VerifyBackupRaw {
        /// Where it is.
        uri: StorageUri,
        /// Credentials and options, not looked into.
        properties: Properties,
    },
    /// `SHOW RESTORE [FROM db]`; of every database if absent.
    Restore {
        /// `FROM`.
        database: Option<Name>,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SHOW SNAPSHOT ON repository [WHERE …]`.
    Snapshot {
        /// The repository.
        repository: Name,
        /// `SNAPSHOT = …` or `IN (…)`; all if empty.
        snapshots: Vec<String>,
        /// `TIMESTAMP = …`: the detailed form, of the one snapshot named.
        timestamp: Option<String>,
    },
}

/// Whose variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This session's.
    Session,
    /// Those that new sessions begin with.
    Global,
}

/// One assignment of SET.
#[derive(Debug, Clone, PartialEq)]
pub enum Assignment {
    /// `[SESSION|GLOBAL] name = value`, `@@name = value`.
    Variable {
        /// Whose.
        scope: Scope,
        /// Its name, in lower case.
        name: String,
        /// Its value.
        value: SetValue,
    },
    /// `@name = value`.
    UserVariable {
        /// Its name, in lower case without `@`.
        name: String,
        /// Its value.
        value: SetValue,
    },
    /// `NAMES charset [COLLATE collation]`.
    Names {
        /// The character set; the default if absent.
        charset: Option<String>,
        /// The collation; the character set's own if absent.
        collation: Option<String>,
    },
    /// `CHARACTER SET charset`; the default if absent.
    CharacterSet(Option<String>),
    /// `[SESSION|GLOBAL] TRANSACTION ISOLATION LEVEL …`.
    TransactionIsolation {
        /// Whose.
        scope: Scope,
        /// As the variable `transaction_isolation` has it: `READ-COMMITTED`.
        level: &'static str,
    },
    /// `[SESSION|GLOBAL] TRANSACTION READ ONLY | READ WRITE`.
    TransactionAccess {
        /// Whose; absent, it holds until the next transaction ends.
        scope: Option<Scope>,
        /// READ ONLY.
        read_only: bool,
    },
    /// `PASSWORD [FOR user] = 'text'` or `PASSWORD('text')`.
    Password {
        /// Whose; the session's user if absent.
        user: Option<UserName>,
        /// The new password, in clear.
        password: Secret,
    },
}

/// The right side of an assignment.
#[derive(Debug, Clone, PartialEq)]
pub enum SetValue {
    /// `DEFAULT`.
    Default,
    /// A literal or a bare word such as ON, which is a text.
    Literal(Datum),
    /// Anything else: it is evaluated as a query of one value.
    Expr(Box<Expr>),
}

/// `IDENTIFIED [WITH plugin] BY 'password'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// The plugin, in lower case; the server's default if absent.
    pub plugin: Option<String>,
    /// The password, in clear.
    pub password: Secret,
}

/// Where PREPARE finds its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrepareSource {
    /// In the statement.
    Text(Secret),
    /// In a user variable, in lower case without `@`.
    Variable(String),
}
