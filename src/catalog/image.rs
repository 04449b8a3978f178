use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::catalog::job::{Job, JobKind};
use crate::catalog::lineage::Epoch;
use crate::error::{Error, Result};
use crate::types::{
    BackendId, ClusterId, ColumnFamily, DatabaseId, Entity, JobId, KeyRange, Kind, Name, PartitionId, PartitionRange,
    Region, RepositoryId, RowsetFile, Schema, StoreProperties, TableId, TabletId, Timestamp, WriteId,
};

/// Everything the FE knows, at one instant. It never changes: readers keep one as long as they like and take no lock.
#[derive(Debug, Clone)]
pub struct Image {
    /// Who this catalog is.
    pub identity: Arc<Identity>,
    /// Grows with every commit.
    pub sequence: u64,
    /// The openings it has come through, the last one last.
    pub epochs: Arc<[Epoch]>,
    /// All ids below it are used up.
    pub(super) next_id: u64,
    /// Databases by name.
    pub databases: OrdMap<Name, Arc<Database>>,
    /// Tables of all databases.
    pub tables: OrdMap<TableId, Arc<Table>>,
    /// BEs, dead or alive.
    pub backends: OrdMap<BackendId, Arc<Backend>>,
    /// Ranges of raw keys, by family and first key. Those of a family cover all keys, or there are none.
    pub regions: OrdMap<(ColumnFamily, Vec<u8>), Arc<Region>>,
    /// Repositories by name.
    pub repositories: OrdMap<Name, Arc<Repository>>,
    /// User accounts by name.
    pub users: OrdMap<Name, Arc<User>>,
    /// Writes that have not ended.
    pub writes: OrdMap<WriteId, ()>,
    /// Unfinished jobs, and for each database the last job of each kind.
    pub jobs: OrdMap<JobId, Arc<Job>>,
    /// Unfinished jobs by the database they hold.
    pub locks: OrdMap<Name, JobId>,
    /// Names of tables, present or to come, that an unfinished RESTORE has reserved.
    pub reservations: OrdMap<(Name, Name), JobId>,
}

/// Who a catalog is; drawn once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Shown to BEs on every call, and written into repositories.
    pub cluster: ClusterId,
    /// What BEs and FE know each other by. Never shown.
    pub token: String,
}

/// A database.
#[derive(Debug, Clone)]
pub struct Database {
    /// This incarnation.
    pub id: DatabaseId,
    /// Its name.
    pub name: Name,
    /// When it was created.
    pub created: Timestamp,
    /// Its tables by name.
    pub tables: OrdMap<Name, TableId>,
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// This incarnation.
    pub id: TableId,
    /// The database it is in.
    pub database: DatabaseId,
    /// Its name.
    pub name: Name,
    /// Its columns.
    pub schema: Arc<Schema>,
    /// The COMMENT, empty if none.
    pub comment: String,
    /// The column it is range partitioned by; `None` if it has one partition that bears its name.
    pub partition_column: Option<Name>,
    /// How rows find their bucket.
    pub distribution: Distribution,
    /// Copies of each tablet that new partitions get.
    pub replication: u32,
    /// When it was created.
    pub created: Timestamp,
    /// The column family that has its rows; then there are no partitions.
    pub raw: Option<ColumnFamily>,
    /// Its partitions by name.
    pub partitions: OrdMap<Name, Arc<Partition>>,
}

/// `DISTRIBUTED BY HASH(columns) BUCKETS buckets`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The hash columns, in order.
    pub columns: Vec<Name>,
    /// Buckets of partitions to come.
    pub buckets: u32,
}

/// A partition.
#[derive(Debug, Clone)]
pub struct Partition {
    /// This incarnation. A TRUNCATE or a RESTORE that overwrites puts another in its place.
    pub id: PartitionId,
    /// Its name.
    pub name: Name,
    /// The values it holds; `None` in a table that is not partitioned.
    pub range: Option<PartitionRange>,
    /// The version that queries see. Every change of its rows adds one.
    pub version: u64,
    /// When that version was committed.
    pub changed: Timestamp,
    /// Copies of each tablet.
    pub replication: u32,
    /// One tablet a bucket, in order.
    pub tablets: Vec<Arc<Tablet>>,
}

/// One bucket of a partition.
#[derive(Debug, Clone)]
pub struct Tablet {
    /// Its identity.
    pub id: TabletId,
    /// The BEs that have each of its files; the first does what one of them does for all.
    pub replicas: Vec<BackendId>,
    /// Its rowset files, in the order (version, id).
    pub files: Arc<[RowsetFile]>,
}

/// A BE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Its id in this catalog.
    pub id: BackendId,
    /// Host name or address.
    pub host: String,
    /// The port of its RPC service.
    pub port: u16,
}

impl Backend {
    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A repository, as this cluster knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repository {
    /// Its id in this catalog.
    pub id: RepositoryId,
    /// Its name, which is part of its path.
    pub name: Name,
    /// Where it is, without a trailing slash.
    pub location: String,
    /// Whether it must never be written.
    pub read_only: bool,
    /// When it was created, as its own `__repo_info` says.
    pub created: Timestamp,
    /// The repository's own identity, from its `__repo_info`.
    pub uuid: String,
    /// What its store wants. In a record of its own, encrypted.
    #[serde(skip)]
    pub properties: StoreProperties,
}

/// A user account. Passwords are kept as the hashes that check a login, never themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: Name,
    /// What checks its password; `None` if it has none.
    pub password: Option<PasswordHash>,
}

/// Hashes of a password, one for each way to log in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PasswordHash {
    /// SHA-1 of its SHA-1, for `mysql_native_password`.
    #[serde(with = "serde_bytes")]
    pub native: Vec<u8>,
    /// SHA-256 of its SHA-256, for `caching_sha2_password`.
    #[serde(with = "serde_bytes")]
    pub caching: Vec<u8>,
}

impl Image {
    /// The database of a name.
    pub fn database(&self, name: &str) -> Result<&Arc<Database>> {
        self.databases.get(name).ok_or_else(|| Error::NotFound(Entity::new(Kind::Database, name)))
    }

    /// The table of a name.
    pub fn table(&self, database: &str, name: &str) -> Result<&Arc<Table>> {
        let id = self.database(database)?.tables.get(name);
        id.and_then(|id| self.tables.get(id))
            .ok_or_else(|| Error::NotFound(Entity::new(Kind::Table, format_args!("{database}.{name}"))))
    }

    /// The database that a table is in.
    pub fn database_of(&self, table: &Table) -> Option<&Arc<Database>> {
        self.databases.values().find(|database| database.id == table.database)
    }

    /// The regions that have keys of a range, in order.
    pub fn regions_in(&self, cf: ColumnFamily, range: &KeyRange) -> impl Iterator<Item = &Arc<Region>> {
        let before = self.regions.range(..=(cf, range.start().to_vec())).next_back();
        let first = before.map_or_else(Vec::new, |((_, start), _)| start.clone());
        let regions = self.regions.range((cf, first)..).take_while(move |((family, _), _)| *family == cf);
        regions.map(|(_, region)| region).take_while(|region| region.range.intersection(range).is_some())
    }

    /// The repository of a name.
    pub fn repository(&self, name: &str) -> Result<&Arc<Repository>> {
        self.repositories.get(name).ok_or_else(|| Error::NotFound(Entity::new(Kind::Repository, name)))
    }

    /// Ids above it have not been given to anything.
    pub fn last_id(&self) -> u64 {
        self.next_id
    }

    /// The job of a kind that a database had last.
    pub fn last_job(&self, kind: JobKind, database: &str) -> Option<&Arc<Job>> {
        self.jobs.values().rev().find(|job| job.kind == kind && *job.database == *database)
    }

    /// Refuses if an unfinished RESTORE has reserved the table's name.
    pub fn check_not_restoring(&self, database: &str, table: &str) -> Result<()> {
        let key = (Name::new(database), Name::new(table));
        let (Ok(database), Ok(table)) = key else { return Ok(()) };
        if !self.reservations.contains_key(&(database, table.clone())) {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "A snapshot restore operation is in progress on the table \"{table}\". Please wait until the current \
             operation completes. SHOW RESTORE tells its state."
        )))
    }

    /// Refuses if an unfinished job holds the database.
    pub fn check_unlocked(&self, database: &Name) -> Result<()> {
        match self.locks.get(database) {
            None => Ok(()),
            Some(holder) => Err(Error::Locked { database: database.clone(), holder: *holder }),
        }
    }
}

impl Table {
    /// The partition of a name.
    pub fn partition(&self, name: &str) -> Result<&Arc<Partition>> {
        self.partitions.get(name).ok_or_else(|| {
            // StarRocks' own words, spaces included.
            Error::Refused(format!("partition[{name}] does not exist  in table{}", self.name))
        })
    }

    /// Partitions in the order of their ranges, then names.
    pub fn ordered_partitions(&self) -> Vec<&Arc<Partition>> {
        let mut partitions: Vec<_> = self.partitions.values().collect();
        let lower = |partition: &Partition| partition.range.as_ref().and_then(|range| range.lower.clone());
        partitions.sort_by(|a, b| match (lower(a), lower(b)) {
            (None, None) => a.name.cmp(&b.name),
            (None, _) => std::cmp::Ordering::Less,
            (_, None) => std::cmp::Ordering::Greater,
            (Some(x), Some(y)) => x.compare(&y).unwrap_or(std::cmp::Ordering::Equal),
        });
        partitions
    }
}

impl Partition {
    /// All files of all tablets.
    pub fn files(&self) -> impl Iterator<Item = &RowsetFile> {
        self.tablets.iter().flat_map(|tablet| tablet.files.iter())
    }
}
