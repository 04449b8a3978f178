//! One error for the whole library, whose variants say who can put it right.
//!
//! Nothing here knows MySQL or gRPC: `mysql/` turns an error into a number and a SQLSTATE, `rpc/` carries one across
//! the wire and builds it again. There is no conversion from I/O errors: whoever meets one knows the path and the
//! operation, and says them.

use std::fmt;

use crate::types::{Entity, JobId, Name};

/// What the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error from below, kept for its message.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error, by who can put it right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The statement is not in the dialect. The client rewrites it.
    #[error("Getting syntax error{}. Detail message: {message}", position(*line, *column))]
    Syntax {
        /// Counts from 1; 0 if the place is unknown.
        line: u64,
        /// Counts from 1.
        column: u64,
        /// What was expected and what was found.
        message: String,
    },
    /// The statement is in the dialect, but does not make sense. The client rewrites it.
    #[error("Getting analyzing error. Detail message: {0}")]
    Analysis(String),
    /// The statement makes sense, but asks for something this service refuses.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A name without a database, in a session without one. The client names one or says USE.
    #[error("No database selected")]
    NoDatabase,
    /// A named thing is absent. The client corrects the name.
    #[error("{}", unknown(.0))]
    NotFound(Entity),
    /// The name is taken. The client picks another.
    #[error("{}", taken(.0))]
    AlreadyExists(Entity),
    /// A name that cannot be one.
    #[error("Incorrect {} name '{}'{}", .entity.kind.word(), .entity.name, because(.reason))]
    WrongName {
        /// What it should have named.
        entity: Entity,
        /// Why it cannot; empty where the standard text says enough.
        reason: String,
    },
    /// Columns, and what a statement gives them, do not fit each other. The client corrects one of them.
    #[error("{message}")]
    Misfit {
        /// In which way.
        kind: Misfit,
        /// Names the column, and the value if there is one.
        message: String,
    },
    /// A variable that cannot have this value, or none at all. The client corrects its SET.
    #[error("Variable '{variable}' {reason}")]
    WrongValue {
        /// The variable.
        variable: String,
        /// A verb phrase: "is a read only variable".
        reason: String,
    },
    /// The session has said that it only reads. The client says otherwise.
    #[error(
        "Cannot execute statement in a READ ONLY transaction; COMMIT ends one, SET transaction_read_only = 0 a session's"
    )]
    ReadOnly,
    /// A query took longer than its session allows. The client allows more.
    #[error("Query reached its timeout of {0} seconds; SET query_timeout = … allows it more")]
    QueryTimeout(u64),
    /// The user may not do this. An administrator grants it.
    #[error("{0}")]
    AccessDenied(String),
    /// A statement that was refused for a reason of its own, in the words that StarRocks uses for it.
    #[error("{0}")]
    Refused(String),
    /// An unfinished job holds the database. The client waits for it, or cancels it.
    #[error(
        "Can only run one backup or restore job of a database at same time; database '{database}' is held by job {holder}"
    )]
    Locked {
        /// The database.
        database: Name,
        /// The job that holds it.
        holder: JobId,
    },
    /// What a commit assumed has changed meanwhile. The client repeats the statement.
    #[error("{0} was changed by another statement meanwhile; run the statement again")]
    Conflict(Entity),
    /// A user, a KILL, a shutdown or the deadline ended it.
    #[error("{0}")]
    Cancelled(String),
    /// A BE did not answer, or could not do what it was asked.
    #[error("{operation} on backend {backend}")]
    Backend {
        /// The BE's address.
        backend: String,
        /// A verb phrase: "write rows".
        operation: String,
        /// What it answered.
        source: Cause,
        /// Whether asking again may help.
        retryable: bool,
    },
    /// The object store failed an operation.
    #[error("{operation} {path} in {place}")]
    Repository {
        /// What it is of: "repository r", "raw backup".
        place: String,
        /// A verb phrase: "upload".
        operation: String,
        /// The object's path.
        path: String,
        /// What the store answered.
        source: Cause,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// A local file or the network failed.
    #[error("{operation} {path}")]
    Io {
        /// A verb phrase: "open".
        operation: &'static str,
        /// The file or address.
        path: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// Stored bytes do not decode, or fail their checksum. An operator repairs or restores.
    #[error("corrupt {what} {path}: {message}")]
    Corrupt {
        /// What kind of thing: "rowset file", "catalog record".
        what: &'static str,
        /// Which one.
        path: String,
        /// How it differs from what it should be.
        message: String,
    },
    /// A configuration file or flag is wrong. The operator corrects it.
    #[error("{0}")]
    Config(String),
    /// A broken invariant: a bug here, whatever the input.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What a BE met in a repository: the source of an [`Error::Backend`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InRepository(pub String);

/// How columns, and what a statement gives them, can fail to fit: MySQL has an error number for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// NULL for a column that takes none.
    Null,
    /// No value for a column without a default.
    NoDefault,
    /// A text that is too long.
    TooLong,
    /// A number that is too large for a column, or for a literal.
    OutOfRange,
    /// The value of an expression that is too large for its type.
    Overflow,
    /// Something that is no value of the column's type.
    WrongValue,
    /// Something that is no date or time.
    WrongTime,
    /// A constant that is compared with dates or times, and is none.
    WrongTimeLiteral,
    /// More or fewer values than columns.
    Count,
    /// A column named twice.
    Repeated,
    /// A row that no partition holds.
    NoPartition,
    /// A DEFAULT that the column cannot hold.
    WrongDefault,
    /// A key of columns that do not exist.
    UnknownKey,
    /// A subquery of several columns where one is taken.
    Operand,
    /// A subquery of several rows where one is taken.
    Rows,
    /// Two tables of a query with one name.
    SameTable,
    /// More or fewer values than a prepared statement has parameters.
    Parameters,
    /// More columns than a table may have.
    TooManyColumns,
    /// More partitions than a table may have.
    TooManyPartitions,
}

impl Misfit {
    /// An error of this kind.
    pub fn error(self, message: impl Into<String>) -> Error {
        Error::Misfit { kind: self, message: message.into() }
    }
}

impl Error {
    /// Whether doing the same again, later, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Backend { retryable, .. } | Self::Repository { retryable, .. } => *retryable,
            Self::Io { source, .. } => !is_lasting(source.kind()),
            Self::Conflict(_) => true,
            Self::Syntax { .. }
            | Self::Analysis(_)
            | Self::Unsupported(_)
            | Self::NoDatabase
            | Self::NotFound(_)
            | Self::AlreadyExists(_)
            | Self::WrongName { .. }
            | Self::Misfit { .. }
            | Self::WrongValue { .. }
            | Self::ReadOnly
            | Self::QueryTimeout(_)
            | Self::AccessDenied(_)
            | Self::Refused(_)
            | Self::Locked { .. }
            | Self::Cancelled(_)
            | Self::Corrupt { .. }
            | Self::Config(_)
            | Self::Internal(_) => false,
        }
    }

    /// Whether a repository's store failed, be it under a BE.
    pub fn is_in_repository(&self) -> bool {
        match self {
            Self::Repository { .. } => true,
            Self::Backend { source, .. } => source.is::<InRepository>(),
            _ => false,
        }
    }

    /// The error and all that caused it in one line, for a client, a job's status and the log.
    pub fn report(&self) -> String {
        use std::error::Error as _;
        let mut line = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors repeat their cause in their own text.
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            source = cause.source();
        }
        line.replace(['\n', '\r'], " ")
    }

    /// For `map_err`: an I/O error with what was being done to which path.
    pub fn io(operation: &'static str, path: impl AsRef<std::path::Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().display().to_string();
        move |source| Self::Io { operation, path, source }
    }

    /// A broken invariant.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::Internal(message.to_string())
    }
}

/// Whether an I/O error will be the same until somebody does something about it.
pub fn is_lasting(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::*;
    matches!(
        kind,
        NotFound
            | PermissionDenied
            | ReadOnlyFilesystem
            | StorageFull
            | QuotaExceeded
            | NotADirectory
            | IsADirectory
            | FileTooLarge
    )
}

fn position(line: u64, column: u64) -> String {
    if line == 0 { String::new() } else { format!(" at line {line}, column {column}") }
}

fn because(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// StarRocks' words where it has some of its own.
fn unknown(entity: &Entity) -> String {
    use crate::types::Kind;
    match entity.kind {
        Kind::Database | Kind::Table | Kind::Column | Kind::Variable => {
            format!("Unknown {} '{}'", entity.kind.word(), entity.name)
        }
        Kind::CharacterSet => format!("Unknown character set: '{}'", entity.name),
        Kind::TimeZone => format!("Unknown or incorrect time zone: '{}'", entity.name),
        Kind::Repository => format!("Repository [{}] does not exist", entity.name),
        Kind::Connection => format!("Unknown thread id: {}", entity.name),
        Kind::Backend
        | Kind::ConfigKey
        | Kind::Job
        | Kind::Label
        | Kind::Partition
        | Kind::PreparedStatement
        | Kind::Region
        | Kind::Snapshot
        | Kind::User => format!("{entity} does not exist"),
    }
}

fn taken(entity: &Entity) -> String {
    match entity.kind {
        crate::types::Kind::Column => format!("Duplicate column name '{}'", entity.name),
        _ => format!("{entity} already exists"),
    }
}

/// Runs what blocks or takes the processor for long on a thread that may.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|err| Error::internal(format_args!("a blocking task: {err}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_with_all_causes() {
        let error = Error::Repository {
            place: "repository r1".into(),
            operation: "upload".into(),
            path: "__objects/ab/abcd-7".into(),
            source: "permission\ndenied".into(),
            retryable: false,
        };
        assert_eq!(error.report(), "upload __objects/ab/abcd-7 in repository r1: permission denied");
    }
}
