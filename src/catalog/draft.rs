use std::sync::Arc;

use serde::Serialize;

use crate::catalog::image::{Backend, Database, Image, Partition, Repository, Table, Tablet, User};
use crate::catalog::job::Job;
use crate::catalog::lineage::{Epoch, Line};
use crate::catalog::record::{DatabaseRow, Key, PartitionRow, SECRET, StateRow, TableRow, TabletRow, encode};
use crate::catalog::store::{Batch, MAX_RECORD};
use crate::catalog::vault::Vault;
use crate::error::{Error, Result};
use crate::types::{
    BackendId, ColumnFamily, DatabaseId, Entity, JobId, KeyRange, Kind, Name, PartitionId, Region, RegionId,
    RowsetFile, TableId, TabletId, Timestamp, WriteId,
};

/// The longest bound of a region, so that one fits into a catalog record.
const MAX_BOUND: usize = 1024;

/// More ids than a catalog's copy can be behind.
const SKIPPED_IDS: u64 = 1 << 32;

/// A commit in the making: a copy of the image and the records that make it so. It sees its own changes.
#[derive(Debug)]
pub struct Draft {
    pub(super) image: Image,
    pub(super) batch: Batch,
    vault: Arc<Vault>,
    although_held: bool,
}

impl Draft {
    pub(super) fn new(image: Image, vault: Arc<Vault>) -> Self {
        Self { image, batch: Batch::default(), vault, although_held: false }
    }

    /// What the catalog is if this commits.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Makes this change even where others are held.
    pub fn although_held(&mut self) {
        self.although_held = true;
    }

    /// For changes that make room, or that others wait for: they may use the last of the disk.
    pub fn use_reserve(&mut self) {
        self.batch.urgent = true;
    }

    /// Closes the draft: it becomes the catalog's next sequence. The first of a process begins its epoch.
    pub(super) fn seal(mut self, line: &Line) -> Result<(Image, Batch)> {
        if !self.although_held {
            line.check()?;
        }
        if self.image.epoch() != line.epoch {
            let epoch = Epoch { id: line.epoch, after: self.image.sequence };
            self.put(Key::new("ep").number(self.image.epochs.len() as u64), &epoch)?;
            self.image.epochs = self.image.epochs.iter().cloned().chain([epoch]).collect();
        }
        self.image.sequence += 1;
        let state = StateRow { next_id: self.image.next_id, sequence: self.image.sequence };
        self.put(Key::new("st"), &state)?;
        self.batch.sequence = self.image.sequence;
        Ok((self.image, self.batch))
    }

    fn put(&mut self, key: Key, record: &impl Serialize) -> Result<()> {
        self.batch.put(key.bytes(), &encode(record)?)
    }

    fn delete(&mut self, key: Key) {
        self.batch.delete(key.bytes());
    }

    /// An id that no thing of this catalog ever had.
    pub fn fresh_id(&mut self) -> u64 {
        self.image.next_id += 1;
        self.image.next_id
    }

    /// Passes over the ids that commits may have used which this catalog has lost.
    pub fn skip_ids(&mut self) {
        self.image.next_id += SKIPPED_IDS;
    }

    /// Creates an empty database.
    pub fn create_database(&mut self, name: &Name, now: Timestamp) -> Result<DatabaseId> {
        if self.image.databases.contains_key(name) {
            return Err(Error::AlreadyExists(Entity::new(Kind::Database, name)));
        }
        let id = DatabaseId(self.fresh_id());
        let database = Database { id, name: name.clone(), created: now, tables: imbl::OrdMap::new() };
        self.put(Key::new("db").number(id.0), &DatabaseRow { name: name.clone(), created: now })?;
        self.image.databases.insert(name.clone(), Arc::new(database));
        Ok(id)
    }

    /// Drops a database with all its tables.
    pub fn drop_database(&mut self, name: &str) -> Result<()> {
        let database = self.image.database(name)?.clone();
        for table in database.tables.values() {
            self.drop_table(*table)?;
        }
        self.use_reserve();
        self.delete(Key::new("db").number(database.id.0));
        self.image.databases.remove(name);
        Ok(())
    }

    /// Adds a table with all it holds. Its name must be free in its database.
    pub fn add_table(&mut self, table: Table) -> Result<()> {
        let database = self.image.database_of(&table);
        let mut database = (**database.ok_or_else(|| Error::internal("a table without its database"))?).clone();
        if database.tables.contains_key(&table.name) {
            let name = format!("{}.{}", database.name, table.name);
            return Err(Error::AlreadyExists(Entity::new(Kind::Table, name)));
        }
        let id = table.id.0;
        let row = TableRow {
            database: table.database,
            name: table.name.clone(),
            schema_version: table.schema.version,
            keys: table.schema.keys,
            comment: table.comment.clone(),
            partition_column: table.partition_column.clone(),
            distribution: table.distribution.clone(),
            replication: table.replication,
            created: table.created,
            raw: table.raw,
        };
        self.put(Key::new("tb").number(id), &row)?;
        for (position, column) in table.schema.columns.iter().enumerate() {
            self.put(Key::new("tc").number(id).number(position as u64), column)?;
        }
        for partition in table.partitions.values() {
            self.put_partition_rows(table.id, partition)?;
        }
        database.tables.insert(table.name.clone(), table.id);
        self.image.databases.insert(database.name.clone(), Arc::new(database));
        self.image.tables.insert(table.id, Arc::new(table));
        Ok(())
    }

    /// Drops a table with all it holds. Its files become garbage unless pinned.
    pub fn drop_table(&mut self, id: TableId) -> Result<()> {
        self.use_reserve();
        let table = self.table(id)?;
        for partition in table.partitions.values() {
            self.delete_partition_rows(id, partition);
        }
        for position in 0..table.schema.columns.len() {
            self.delete(Key::new("tc").number(id.0).number(position as u64));
        }
        self.delete(Key::new("tb").number(id.0));
        if let Some(database) = self.image.database_of(&table) {
            let mut database = (**database).clone();
            for repository in self.image.repositories.values() {
                self.batch.delete(Key::known_snapshot(repository.id, &database.name, &table.name).bytes());
            }
            database.tables.remove(&table.name);
            self.image.databases.insert(database.name.clone(), Arc::new(database));
        }
        self.image.tables.remove(&id);
        Ok(())
    }

    /// Puts partitions into a table, each in the place of the one with its name, if there is one. This is how TRUNCATE
    /// and RESTORE change rows: the old incarnation goes as the new one comes.
    pub fn put_partitions(&mut self, table: TableId, partitions: impl IntoIterator<Item = Partition>) -> Result<()> {
        let mut changed = (*self.table(table)?).clone();
        for partition in partitions {
            if let Some(old) = changed.partitions.get(&partition.name) {
                self.delete_partition_rows(table, &old.clone());
            }
            self.put_partition_rows(table, &partition)?;
            changed.partitions.insert(partition.name.clone(), Arc::new(partition));
        }
        self.image.tables.insert(table, Arc::new(changed));
        Ok(())
    }

    /// Adds files to tablets of one partition, as its next version. Fails if the partition is no longer this
    /// incarnation.
    pub fn add_files(
        &mut self,
        table: TableId,
        partition: PartitionId,
        files: Vec<(TabletId, Vec<RowsetFile>)>,
        now: Timestamp,
    ) -> Result<()> {
        let mut changed = self.partition(table, partition)?;
        changed.version += 1;
        changed.changed = now;
        for (id, mut added) in files {
            added.iter_mut().for_each(|file| file.version = changed.version);
            let tablet = tablet_mut(&mut changed, id)?;
            for file in &added {
                self.put(file_key(file), file)?;
            }
            tablet.files = tablet.files.iter().cloned().chain(added).collect();
        }
        self.put_partition(table, changed)
    }

    /// Puts files in the place of others of the same rows. Fails if any of those is no longer there. Versions stay.
    pub fn replace_files(
        &mut self,
        table: TableId,
        partition: PartitionId,
        tablet: TabletId,
        old: &[RowsetFile],
        new: Vec<RowsetFile>,
    ) -> Result<()> {
        let mut changed = self.partition(table, partition)?;
        let target = tablet_mut(&mut changed, tablet)?;
        let is_old = |file: &RowsetFile| old.iter().any(|gone| gone.id == file.id);
        if target.files.iter().filter(|file| is_old(file)).count() != old.len() {
            return Err(Error::Conflict(Entity::new(Kind::Partition, &changed.name)));
        }
        old.iter().for_each(|file| self.delete(file_key(file)));
        for file in &new {
            self.put(file_key(file), file)?;
        }
        let mut files: Vec<RowsetFile> = target.files.iter().filter(|file| !is_old(file)).cloned().chain(new).collect();
        files.sort_by_key(|file| (file.version, file.id));
        target.files = files.into();
        self.put_partition(table, changed)
    }

    /// Adds or changes a BE.
    pub fn put_backend(&mut self, backend: Backend) -> Result<()> {
        self.use_reserve();
        self.put(Key::new("be").number(backend.id.0), &backend)?;
        self.image.backends.insert(backend.id, Arc::new(backend));
        Ok(())
    }

    /// Forgets a BE.
    pub fn drop_backend(&mut self, id: BackendId) {
        self.use_reserve();
        self.delete(Key::new("be").number(id.0));
        self.image.backends.remove(&id);
    }

    /// Takes BEs that are no more from the places of all tablets that have others too. Returns how many tablets have fewer
    /// copies now.
    pub fn drop_lost_replicas(&mut self) -> Result<usize> {
        let mut count = 0;
        for table in self.image.tables.clone().values() {
            for partition in table.partitions.values() {
                let mut changed = None;
                for (bucket, tablet) in partition.tablets.iter().enumerate() {
                    let is_known = |id: &BackendId| self.image.backends.contains_key(id);
                    let replicas: Vec<_> = tablet.replicas.iter().copied().filter(is_known).collect();
                    if replicas.is_empty() || replicas.len() == tablet.replicas.len() {
                        continue;
                    }
                    let row = TabletRow { id: tablet.id, replicas: replicas.clone() };
                    self.put(Key::new("ta").number(partition.id.0).number(bucket as u64), &row)?;
                    let changed = changed.get_or_insert_with(|| Partition::clone(partition));
                    Arc::make_mut(&mut changed.tablets[bucket]).replicas = replicas;
                    count += 1;
                }
                if let Some(changed) = changed {
                    self.put_partition(table.id, changed)?;
                }
            }
        }
        Ok(count)
    }

    /// Divides the keys of a family among BEs as [`Region::divide`] does, if they are not divided yet.
    pub fn create_regions(&mut self, cf: ColumnFamily, owners: &[BackendId]) -> Result<()> {
        if self.image.regions_in(cf, &KeyRange::default()).next().is_some() {
            return Ok(());
        }
        for (owner, range) in Region::divide(owners).map_err(Error::internal)? {
            let region = Region { id: RegionId(self.fresh_id()), cf, range, version: 1, owner };
            self.put_region(region)?;
        }
        Ok(())
    }

    /// Makes a region another BE's, which has nothing of it.
    pub fn move_region(&mut self, region: &Region, owner: BackendId) -> Result<()> {
        self.put_region(Region { version: region.version + 1, owner, ..region.clone() })
    }

    /// Makes a region nobody's. It must go with all others of its family.
    pub fn forget_region(&mut self, region: &Region) {
        self.delete(Key::new("rg").number(region.id.0));
        self.image.regions.remove(&(region.cf, region.range.start().to_vec()));
    }

    /// Splits a region before each of these keys, which are shortened where they are long: a region's size matters
    /// less than that of its record. Returns whether any of them was left to split it. Fails if the region has changed
    /// since.
    pub fn split_region(&mut self, region: &Region, keys: &[Vec<u8>]) -> Result<bool> {
        let known = self.image.regions.get(&(region.cf, region.range.start().to_vec()));
        if known.is_none_or(|known| **known != *region) {
            return Err(Error::Conflict(Entity::new(Kind::Region, region.id)));
        }
        let mut bounds: Vec<&[u8]> = keys.iter().map(|key| &key[..key.len().min(MAX_BOUND)]).collect();
        bounds.dedup();
        bounds.retain(|bound| *bound > region.range.start() && !region.range.ends_before(bound));
        if bounds.is_empty() {
            return Ok(false);
        }
        let (mut rest, version) = (region.clone(), region.version + bounds.len() as u64);
        let ends = bounds.iter().map(|bound| bound.to_vec()).chain([region.range.end().to_vec()]);
        let mut start = region.range.start().to_vec();
        for end in ends {
            rest.range = KeyRange::new(start, end.clone()).map_err(Error::internal)?;
            rest.version = version;
            self.put_region(rest.clone())?;
            rest.id = RegionId(self.fresh_id());
            start = end;
        }
        Ok(true)
    }

    fn put_region(&mut self, region: Region) -> Result<()> {
        self.put(Key::new("rg").number(region.id.0), &region)?;
        self.image.regions.insert((region.cf, region.range.start().to_vec()), Arc::new(region));
        Ok(())
    }

    /// Adds or changes a repository.
    pub fn put_repository(&mut self, repository: Repository) -> Result<()> {
        let number = repository.id.0;
        self.put(Key::new("re").number(number), &repository)?;
        let key = Key::new("se").number(number).bytes();
        match repository.properties.is_empty() {
            true => self.batch.delete(key),
            false => {
                let locked = self.vault.lock(&key, &encode(&repository.properties)?)?;
                self.batch.put(key, &locked)?;
            }
        }
        self.image.repositories.insert(repository.name.clone(), Arc::new(repository));
        Ok(())
    }

    /// Forgets a repository. What it holds stays.
    pub fn drop_repository(&mut self, name: &str) -> Result<()> {
        let id = self.image.repository(name)?.id;
        self.delete(Key::new("re").number(id.0));
        self.delete(Key::new("se").number(id.0));
        self.image.repositories.remove(name);
        Ok(())
    }

    /// Adds or changes a user.
    pub fn put_user(&mut self, user: User) -> Result<()> {
        self.put(Key::new("us").text(&user.name), &user)?;
        self.image.users.insert(user.name.clone(), Arc::new(user));
        Ok(())
    }

    /// Drops a user.
    pub fn drop_user(&mut self, name: &Name) {
        self.delete(Key::new("us").text(name));
        self.image.users.remove(name);
    }

    /// Records that files are about to be written. They are garbage once the write has ended and nothing names them.
    pub fn begin_write(&mut self) -> Result<WriteId> {
        let id = WriteId(self.fresh_id());
        self.put(Key::new("wr").number(id.0), &())?;
        self.image.writes.insert(id, ());
        Ok(id)
    }

    /// Ends a write. Ending it twice is no error.
    pub fn end_write(&mut self, id: WriteId) {
        self.delete(Key::new("wr").number(id.0));
        self.image.writes.remove(&id);
    }

    /// Adds a job and has it hold its database. Refuses if another holds it.
    pub fn add_job(&mut self, job: Job) -> Result<()> {
        self.image.check_unlocked(&job.database)?;
        self.put(Key::new("lk").text(&job.database), &job.id)?;
        self.image.locks.insert(job.database.clone(), job.id);
        self.put_job(job)
    }

    /// Changes a job. One that has ended lets go of its database and of the names it has reserved, and pushes the one
    /// before it out of the image.
    pub fn put_job(&mut self, job: Job) -> Result<()> {
        self.put(Key::new("jo").number(job.id.0), &job)?;
        if job.state.is_terminal() {
            self.use_reserve();
            self.release(&job);
            let older = |other: &Job| other.kind == job.kind && other.database == job.database && other.id < job.id;
            let pushed_out: Vec<JobId> =
                self.image.jobs.values().filter(|other| older(other)).map(|other| other.id).collect();
            pushed_out.iter().for_each(|id| drop(self.image.jobs.remove(id)));
        }
        self.image.jobs.insert(job.id, Arc::new(job));
        Ok(())
    }

    /// Keeps something encrypted as long as a job is unfinished.
    pub fn put_job_secret(&mut self, job: JobId, secret: &impl Serialize) -> Result<()> {
        let name = Key::job_rows(job, SECRET).bytes();
        let locked = self.vault.lock(&name, &encode(secret)?)?;
        let mut pieces = locked.chunks(MAX_RECORD / 2).zip(0..);
        pieces.try_for_each(|(piece, n)| self.put_row(Key::job_row(job, SECRET, n), &serde_bytes::Bytes::new(piece)))
    }

    /// Takes back a job whose statement is answered with an error.
    pub fn withdraw_job(&mut self, job: &Job) {
        self.use_reserve();
        self.release(job);
        self.delete(Key::new("jo").number(job.id.0));
        self.image.jobs.remove(&job.id);
    }

    fn release(&mut self, job: &Job) {
        if self.image.locks.get(&job.database) == Some(&job.id) {
            self.delete(Key::new("lk").text(&job.database));
            self.image.locks.remove(&job.database);
        }
        let reserved: Vec<_> = self
            .image
            .reservations
            .iter()
            .filter(|(_, holder)| **holder == job.id)
            .map(|(key, _)| key.clone())
            .collect();
        for (database, table) in reserved {
            self.delete(Key::new("rv").text(&database).end().text(&table));
            self.image.reservations.remove(&(database, table));
        }
        if let Some(write) = job.write {
            self.end_write(write);
        }
    }

    /// Reserves a table's name for a RESTORE until its job ends.
    pub fn reserve(&mut self, database: &Name, table: &Name, job: JobId) -> Result<()> {
        self.put(Key::new("rv").text(database).end().text(table), &job)?;
        self.image.reservations.insert((database.clone(), table.clone()), job);
        Ok(())
    }

    /// Writes a record that the image does not show.
    pub fn put_row(&mut self, key: Key, row: &impl Serialize) -> Result<()> {
        self.put(key, row)
    }

    /// Deletes a record that the image does not show.
    pub fn delete_row(&mut self, key: Vec<u8>) {
        self.batch.delete(key);
    }

    fn table(&self, id: TableId) -> Result<Arc<Table>> {
        self.image.tables.get(&id).cloned().ok_or_else(|| Error::NotFound(Entity::new(Kind::Table, id)))
    }

    fn partition(&self, table: TableId, id: PartitionId) -> Result<Partition> {
        let table = self.table(table)?;
        let found = table.partitions.values().find(|partition| partition.id == id);
        found
            .map(|partition| (**partition).clone())
            .ok_or_else(|| Error::Conflict(Entity::new(Kind::Table, &table.name)))
    }

    /// Stores a partition's own row; its tablets' and files' rows are the caller's.
    fn put_partition(&mut self, table: TableId, partition: Partition) -> Result<()> {
        self.put(Key::new("pt").number(table.0).number(partition.id.0), &partition_row(&partition))?;
        let mut changed = (*self.table(table)?).clone();
        changed.partitions.insert(partition.name.clone(), Arc::new(partition));
        self.image.tables.insert(table, Arc::new(changed));
        Ok(())
    }

    fn put_partition_rows(&mut self, table: TableId, partition: &Partition) -> Result<()> {
        self.put(Key::new("pt").number(table.0).number(partition.id.0), &partition_row(partition))?;
        for (bucket, tablet) in partition.tablets.iter().enumerate() {
            let row = TabletRow { id: tablet.id, replicas: tablet.replicas.clone() };
            self.put(Key::new("ta").number(partition.id.0).number(bucket as u64), &row)?;
            for file in tablet.files.iter() {
                self.put(file_key(file), file)?;
            }
        }
        Ok(())
    }

    fn delete_partition_rows(&mut self, table: TableId, partition: &Partition) {
        for (bucket, tablet) in partition.tablets.iter().enumerate() {
            tablet.files.iter().for_each(|file| self.delete(file_key(file)));
            self.delete(Key::new("ta").number(partition.id.0).number(bucket as u64));
        }
        self.delete(Key::new("pt").number(table.0).number(partition.id.0));
    }
}

fn partition_row(partition: &Partition) -> PartitionRow {
    PartitionRow {
        name: partition.name.clone(),
        range: partition.range.clone(),
        version: partition.version,
        changed: partition.changed,
        replication: partition.replication,
    }
}

fn file_key(file: &RowsetFile) -> Key {
    Key::new("fi").number(file.id.tablet.0).number(file.id.write.0).number(file.id.number.into())
}

fn tablet_mut(partition: &mut Partition, id: TabletId) -> Result<&mut Tablet> {
    let conflict = Error::Conflict(Entity::new(Kind::Partition, &partition.name));
    partition.tablets.iter_mut().find(|tablet| tablet.id == id).map(Arc::make_mut).ok_or(conflict)
}
