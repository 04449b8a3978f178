use std::fmt;

/// A kind of thing that a statement can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A BE.
    Backend,
    /// A character set of text on the wire.
    CharacterSet,
    /// A column of a table.
    Column,
    /// A key of a configuration file.
    ConfigKey,
    /// A client's connection, by its number.
    Connection,
    /// A database.
    Database,
    /// A BACKUP or RESTORE job.
    Job,
    /// The label of a snapshot or a load.
    Label,
    /// A partition of a table.
    Partition,
    /// A prepared statement.
    PreparedStatement,
    /// A range of raw keys.
    Region,
    /// A repository.
    Repository,
    /// A snapshot in a repository.
    Snapshot,
    /// A table.
    Table,
    /// A time zone of a session.
    TimeZone,
    /// A user account.
    User,
    /// A session or global variable.
    Variable,
}

impl Kind {
    /// The word for it in messages.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Backend => "backend",
            Kind::CharacterSet => "character set",
            Kind::Column => "column",
            Kind::ConfigKey => "config key",
            Kind::Connection => "connection",
            Kind::Database => "database",
            Kind::Job => "job",
            Kind::Label => "label",
            Kind::Partition => "partition",
            Kind::PreparedStatement => "prepared statement",
            Kind::Region => "region",
            Kind::Repository => "repository",
            Kind::Snapshot => "snapshot",
            Kind::Table => "table",
            Kind::TimeZone => "time zone",
            Kind::User => "user",
            Kind::Variable => "variable",
        }
    }
}

/// A named thing, for errors and logs: a kind and the name as the user knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// What it is.
    pub kind: Kind,
    /// Its name, qualified where a bare name would be ambiguous (`db.table`).
    pub name: String,
}

impl Entity {
    /// Names a thing.
    pub fn new(kind: Kind, name: impl fmt::Display) -> Self {
        Self { kind, name: name.to_string() }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.kind.word(), self.name)
    }
}
