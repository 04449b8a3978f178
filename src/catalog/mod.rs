//! What the FE knows, durably, and the only authority on it.
//!
//! An [`Image`] is all of it at one instant; it never changes, so readers take no lock. A change is a [`Draft`]: a copy
//! of the newest image plus the records that differ. [`Catalog::commit`] hands the records to the [`store`], waits
//! until they are on disk, and only then is the new image what [`Catalog::image`] returns. Drafts are made one after
//! another, each upon the one before, so a commit that finds its assumptions true can no longer fail; the disk is
//! synced once for all that wait.

mod draft;
mod image;
mod job;
mod lineage;
mod record;
pub mod store;
mod vault;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use serde::de::DeserializeOwned;

pub use self::draft::Draft;
pub use self::image::{
    Backend, Database, Distribution, Identity, Image, Partition, PasswordHash, Repository, Table, Tablet, User,
};
pub use self::job::{Amount, Failure, FailureCode, Job, JobKind, JobState, ManifestHashes, RawJob, Selection, What};
pub use self::lineage::Epoch;
pub use self::record::Key;
use crate::catalog::lineage::Line;
use crate::catalog::record::{
    DatabaseRow, PartitionRow, SECRET, StateRow, TableRow, TabletRow, decode, encode, number_at,
};
use crate::catalog::store::{Batch, OnDurable, Store};
use crate::catalog::vault::Vault;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::types::{
    ClusterId, DatabaseId, EpochId, JobId, Name, PartitionId, Region, RowsetFile, Schema, TableId, WriteId,
};

/// Ids of this catalog begin above it, as StarRocks' do.
pub const FIRST_ID: u64 = 10_000;

/// The open catalog.
pub struct Catalog {
    store: Store,
    /// What all acknowledged commits make.
    published: Arc<ArcSwap<Image>>,
    /// What all submitted commits will make. Held only while a draft is made.
    submitted: Mutex<Image>,
    vault: Arc<Vault>,
    line: Line,
}

impl Catalog {
    /// Opens or creates the catalog in a directory that no other process uses. Blocks; scans everything once. Writes
    /// that an earlier process left open are ended, but for those of unfinished jobs.
    pub fn open(dir: &Path, clock: &Clock) -> Result<Self> {
        let store = Store::open(dir)?;
        let has_secrets = store.scan(b"se").next().is_some();
        let vault = Arc::new(Vault::open(dir, !has_secrets)?);
        let image = match store.get(b"id")? {
            Some(identity) => load(&store, &vault, decode(b"id", &identity)?)?,
            None => {
                // One that has lost its records is not made anew.
                store.check_acknowledged(0)?;
                create(&store, clock)?
            }
        };
        store.check_acknowledged(image.sequence)?;
        let published = Arc::new(ArcSwap::from_pointee(image.clone()));
        let catalog =
            Self { store, published, submitted: Mutex::new(image), vault, line: Line::new(EpochId(clock.uuid())) };
        catalog.end_abandoned()?;
        Ok(catalog)
    }

    /// All that is known and acknowledged.
    pub fn image(&self) -> Arc<Image> {
        self.published.load_full()
    }

    /// Refuses all changes from now on, for this reason, but those that say [`Draft::although_held`]; `None` lets them
    /// be again.
    pub fn hold(&self, reason: Option<String>) {
        self.line.hold(reason);
    }

    /// Refuses while changes are held.
    pub fn check_not_held(&self) -> Result<()> {
        self.line.check()
    }

    /// Returns once changes are held.
    pub async fn held(&self) {
        self.line.wait(true).await;
    }

    /// Returns once they are not.
    pub async fn released(&self) {
        self.line.wait(false).await;
    }

    /// The epoch that this process begins, or has begun, with its first change: no other process ever has it.
    pub fn own_epoch(&self) -> EpochId {
        self.line.epoch
    }

    /// Makes one change. `change` sees the newest image, checks what it assumes, and changes the draft; if it fails,
    /// nothing happens. On return the change is durable and visible. A caller that stops waiting has not undone it.
    pub async fn commit<T>(&self, change: impl FnOnce(&mut Draft) -> Result<T>) -> Result<T> {
        let (value, durable) = self.submit(change);
        if let Some(durable) = durable {
            durable.await.map_err(|_| Error::Cancelled("the catalog is closed".into()))?;
        }
        value
    }

    /// Queues a change. What comes of it, even that nothing is to be done, or why it cannot be, may be told once the
    /// receiver answers: it may rest on what others have only submitted.
    fn submit<T>(
        &self,
        change: impl FnOnce(&mut Draft) -> Result<T>,
    ) -> (Result<T>, Option<tokio::sync::oneshot::Receiver<()>>) {
        // A draft that panicked has changed nothing.
        let mut submitted = self.submitted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut draft = Draft::new(submitted.clone(), self.vault.clone());
        let sealed = change(&mut draft).and_then(|value| {
            // An id that was drawn is used up, even if nothing bears it.
            if draft.batch.is_empty() && draft.image.next_id == submitted.next_id {
                return Ok((value, None));
            }
            let (image, batch) = draft.seal(&self.line)?;
            self.store.check_space(&batch)?;
            Ok((value, Some((image, batch))))
        });
        let (value, batch, on_durable): (_, _, OnDurable) = match sealed {
            Ok((value, Some((image, batch)))) => {
                *submitted = image.clone();
                let published = self.published.clone();
                (Ok(value), batch, Box::new(move || published.store(Arc::new(image))))
            }
            unchanged if submitted.sequence == self.published.load().sequence => {
                return (unchanged.map(|(value, _)| value), None);
            }
            unchanged => (unchanged.map(|(value, _)| value), Batch::default(), Box::new(|| ())),
        };
        (value, Some(self.store.submit(batch, on_durable)))
    }

    /// Records under a key prefix that the image does not show, in key order. Blocks. Only for rows that do not change
    /// meanwhile.
    pub fn rows<T: DeserializeOwned>(&self, prefix: Key) -> impl Iterator<Item = Result<T>> + use<T> {
        self.store.scan(&prefix.bytes()).map(|entry| entry.and_then(|(key, payload)| decode(&key, &payload)))
    }

    /// Keys of such records, to delete them. Blocks.
    pub fn keys(&self, prefix: Key) -> Result<Vec<Vec<u8>>> {
        self.store.scan(&prefix.bytes()).map(|entry| entry.map(|(key, _)| key)).collect()
    }

    /// One record that the image does not show.
    pub fn row<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>> {
        let key = key.bytes();
        self.store.get(&key)?.map(|payload| decode(&key, &payload)).transpose()
    }

    /// The secret of a job, as long as it is kept. Blocks.
    pub fn job_secret<T: DeserializeOwned>(&self, job: JobId) -> Result<Option<T>> {
        let prefix = Key::job_rows(job, SECRET);
        let mut locked = Vec::new();
        for piece in self.rows::<serde_bytes::ByteBuf>(prefix.clone()) {
            locked.extend(piece?.into_vec());
        }
        let name = prefix.bytes();
        match locked.is_empty() {
            true => Ok(None),
            false => decode(&name, &self.vault.unlock(&name, &locked)?).map(Some),
        }
    }

    /// Every job ever submitted, oldest first, as durable as the image. Blocks as it is read.
    pub fn history(&self) -> impl Iterator<Item = Result<Job>> + use<> {
        let image = self.image();
        // The store is ahead of the image. What that does not show has ended before it, or is of later.
        self.rows(Key::new("jo")).filter_map(move |job: Result<Job>| match job {
            Ok(job) => match image.jobs.get(&job.id) {
                Some(known) => Some(Ok(Job::clone(known))),
                None => (job.id.0 <= image.last_id() && job.state.is_terminal()).then_some(Ok(job)),
            },
            Err(err) => Some(Err(err)),
        })
    }

    /// A job of the history.
    pub fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.row(Key::new("jo").number(id.0))
    }

    /// Jobs that have rows. Blocks.
    pub fn jobs_with_rows(&self) -> Result<BTreeSet<JobId>> {
        self.store.scan(b"jr").map(|entry| entry.and_then(|(key, _)| Ok(JobId(number_at(&key, 0)?)))).collect()
    }

    /// Deletes the rows of a job that has ended, durably. Blocks. May run twice.
    pub fn delete_job_rows(&self, job: JobId) -> Result<()> {
        self.delete_parts(self.store.scan(&Key::new("jr").number(job.0).bytes()).map(|entry| entry.map(|(key, _)| key)))
    }

    /// Deletes records, some in each commit.
    fn delete_parts(&self, mut keys: impl Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        loop {
            let part: Vec<Vec<u8>> = keys.by_ref().take(256).collect::<Result<_>>()?;
            if part.is_empty() {
                return Ok(());
            }
            self.commit_blocking(|draft| {
                draft.use_reserve();
                part.into_iter().for_each(|key| draft.delete_row(key));
                Ok(())
            })?;
        }
    }

    /// [`Catalog::commit`] for threads that may block.
    pub fn commit_blocking<T>(&self, change: impl FnOnce(&mut Draft) -> Result<T>) -> Result<T> {
        let (value, durable) = self.submit(change);
        if let Some(durable) = durable {
            durable.blocking_recv().map_err(|_| Error::Cancelled("the catalog is closed".into()))?;
        }
        value
    }

    /// Ends what no process works on any more. Blocks.
    fn end_abandoned(&self) -> Result<()> {
        let image = self.image();
        let kept: Vec<WriteId> =
            image.jobs.values().filter(|job| !job.state.is_terminal()).filter_map(|job| job.write).collect();
        self.commit_blocking(|draft| {
            draft.use_reserve();
            image.writes.keys().filter(|write| !kept.contains(write)).for_each(|write| draft.end_write(*write));
            Ok(())
        })?;
        self.forget_snapshots(&image)
    }

    /// Deletes what is known of snapshots of tables, or in repositories, that were dropped while a job went on. Blocks.
    fn forget_snapshots(&self, image: &Image) -> Result<()> {
        let repositories: BTreeSet<u64> = image.repositories.values().map(|repository| repository.id.0).collect();
        let is_left = |key: &[u8]| {
            let mut names = key.get(10..).unwrap_or_default().split(|byte| *byte == 0);
            let mut name = || names.next().and_then(|name| std::str::from_utf8(name).ok());
            let (Some(database), Some(table)) = (name(), name()) else { return false };
            number_at(key, 0).is_ok_and(|id| repositories.contains(&id)) && image.table(database, table).is_ok()
        };
        let keys = self.store.scan(b"rs").map(|entry| entry.map(|(key, _)| key));
        self.delete_parts(keys.filter(|key| key.as_ref().map_or(true, |key| !is_left(key))))
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("sequence", &self.image().sequence).finish_non_exhaustive()
    }
}

fn create(store: &Store, clock: &Clock) -> Result<Image> {
    let token = format!("{}{}", clock.uuid().simple(), clock.uuid().simple());
    let identity = Identity { cluster: ClusterId(clock.uuid()), token };
    let image = empty(identity, FIRST_ID, 0);
    let mut batch = Batch::default();
    batch.put(b"id".to_vec(), &encode(&*image.identity)?)?;
    batch.put(b"st".to_vec(), &encode(&StateRow { next_id: image.next_id, sequence: 0 })?)?;
    let durable = store.submit(batch, Box::new(|| ()));
    durable.blocking_recv().map_err(|_| Error::internal("the commit thread ended"))?;
    Ok(image)
}

fn empty(identity: Identity, next_id: u64, sequence: u64) -> Image {
    Image {
        identity: Arc::new(identity),
        sequence,
        epochs: Arc::new([]),
        next_id,
        databases: OrdMap::new(),
        tables: OrdMap::new(),
        backends: OrdMap::new(),
        regions: OrdMap::new(),
        repositories: OrdMap::new(),
        users: OrdMap::new(),
        writes: OrdMap::new(),
        jobs: OrdMap::new(),
        locks: OrdMap::new(),
        reservations: OrdMap::new(),
    }
}

/// Builds the image from all records.
fn load(store: &Store, vault: &Vault, identity: Identity) -> Result<Image> {
    let state = store.get(b"st")?.ok_or_else(|| missing("st"))?;
    let StateRow { next_id, sequence } = decode(b"st", &state)?;
    let mut image = empty(identity, next_id, sequence);
    image.epochs = scan::<Epoch>(store, "ep").collect::<Result<Vec<_>>>()?.into();
    for entry in store.scan(b"db") {
        let (key, payload) = entry?;
        let row: DatabaseRow = decode(&key, &payload)?;
        let id = DatabaseId(number_at(&key, 0)?);
        let database = Database { id, name: row.name.clone(), created: row.created, tables: OrdMap::new() };
        image.databases.insert(row.name, Arc::new(database));
    }
    for entry in store.scan(b"tb") {
        let (key, payload) = entry?;
        let table = load_table(store, TableId(number_at(&key, 0)?), decode(&key, &payload)?)?;
        let database = image.database_of(&table).ok_or_else(|| missing("db"))?;
        let mut database = (**database).clone();
        database.tables.insert(table.name.clone(), table.id);
        image.databases.insert(database.name.clone(), Arc::new(database));
        image.tables.insert(table.id, Arc::new(table));
    }
    for entry in scan::<Backend>(store, "be") {
        let backend = entry?;
        image.backends.insert(backend.id, Arc::new(backend));
    }
    for entry in scan::<Region>(store, "rg") {
        let region = entry?;
        image.regions.insert((region.cf, region.range.start().to_vec()), Arc::new(region));
    }
    for entry in scan::<Repository>(store, "re") {
        let mut repository = entry?;
        let key = Key::new("se").number(repository.id.0).bytes();
        if let Some(locked) = store.get(&key)? {
            repository.properties = decode(&key, &vault.unlock(&key, &locked)?)?;
        }
        image.repositories.insert(repository.name.clone(), Arc::new(repository));
    }
    for entry in scan::<User>(store, "us") {
        let user = entry?;
        image.users.insert(user.name.clone(), Arc::new(user));
    }
    for entry in store.scan(b"wr") {
        image.writes.insert(WriteId(number_at(&entry?.0, 0)?), ());
    }
    // Ids grow, so the last of its kind and database is seen last.
    let mut last: OrdMap<(JobKind, Name), JobId> = OrdMap::new();
    for entry in scan::<Job>(store, "jo") {
        let job = entry?;
        if job.state.is_terminal()
            && let Some(older) = last.insert((job.kind, job.database.clone()), job.id)
        {
            image.jobs.remove(&older);
        }
        image.jobs.insert(job.id, Arc::new(job));
    }
    for entry in store.scan(b"lk") {
        let (key, payload) = entry?;
        image.locks.insert(name_of(&key, &key[2..])?, decode(&key, &payload)?);
    }
    for entry in store.scan(b"rv") {
        let (key, payload) = entry?;
        let mut parts = key[2..].splitn(2, |byte| *byte == 0);
        let mut part = || name_of(&key, parts.next().unwrap_or_default());
        image.reservations.insert((part()?, part()?), decode(&key, &payload)?);
    }
    Ok(image)
}

fn load_table(store: &Store, id: TableId, row: TableRow) -> Result<Table> {
    let scan_of = |prefix: Key| store.scan(&prefix.bytes());
    let columns = scan_of(Key::new("tc").number(id.0))
        .map(|entry| entry.and_then(|(key, payload)| decode::<crate::types::Column>(&key, &payload)))
        .collect::<Result<Vec<_>>>()?;
    let mut partitions = OrdMap::new();
    for entry in scan_of(Key::new("pt").number(id.0)) {
        let (key, payload) = entry?;
        let row: PartitionRow = decode(&key, &payload)?;
        let partition = PartitionId(number_at(&key, 1)?);
        let mut tablets = Vec::new();
        for entry in scan_of(Key::new("ta").number(partition.0)) {
            let (key, payload) = entry?;
            let TabletRow { id, replicas } = decode(&key, &payload)?;
            let mut files = scan_of(Key::new("fi").number(id.0))
                .map(|entry| entry.and_then(|(key, payload)| decode::<RowsetFile>(&key, &payload)))
                .collect::<Result<Vec<_>>>()?;
            files.sort_by_key(|file| (file.version, file.id));
            tablets.push(Arc::new(Tablet { id, replicas, files: files.into() }));
        }
        let PartitionRow { name, range, version, changed, replication } = row;
        let partition = Partition { id: partition, name: name.clone(), range, version, changed, replication, tablets };
        partitions.insert(name, Arc::new(partition));
    }
    Ok(Table {
        id,
        database: row.database,
        name: row.name,
        schema: Arc::new(Schema { version: row.schema_version, keys: row.keys, columns }),
        comment: row.comment,
        partition_column: row.partition_column,
        distribution: row.distribution,
        replication: row.replication,
        created: row.created,
        raw: row.raw,
        partitions,
    })
}

fn scan<T: DeserializeOwned>(store: &Store, table: &str) -> impl Iterator<Item = Result<T>> + use<T> {
    store.scan(table.as_bytes()).map(|entry| entry.and_then(|(key, payload)| decode(&key, &payload)))
}

fn name_of(key: &[u8], bytes: &[u8]) -> Result<Name> {
    String::from_utf8(bytes.to_vec()).ok().and_then(|text| Name::new(text).ok()).ok_or_else(|| Error::Corrupt {
        what: "catalog key",
        path: key.escape_ascii().to_string(),
        message: "it holds no name".into(),
    })
}

fn missing(what: &str) -> Error {
    Error::Corrupt { what: "catalog record", path: what.into(), message: "it is missing".into() }
}

#[cfg(test)]
mod tests;
