//! What a BACKUP does in each state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::catalog::{
    Amount, Catalog, Database, Draft, Image, Job, JobKind, JobState, Key, ManifestHashes, Partition, Selection, Table,
};
use crate::clock;
use crate::error::{Error, Result};
use crate::job::rows::{self, Done, LOCK, PINS, Pin, REUSED, Reused, SEGMENTS};
use crate::job::tasks::{Item, spread};
use crate::job::{Context, Run};
use crate::repository::manifest::{
    BUCKET_HASH, FORMAT, FileRow, Info, Lock, Meta, Part, PartitionMeta, SEGMENT_ROWS, TableMeta,
};
use crate::repository::{LOCK_GRACE_MS, Repository, layout};
use crate::rpc::message::{UploadFile, UploadObject, Work};
use crate::types::{Attempt, BackendId, FileId, JobId, Label, Name, RowsetFile, Sha256};

/// Objects that are looked at together.
const LOOK_AT_ONCE: usize = 32;

/// Bytes up to which files share an object.
const SMALL_FILE: u64 = 1 << 20;

/// Bytes of an object that files share.
const PACK_BYTES: u64 = 8 << 20;

/// A BACKUP statement, its names resolved.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The database.
    pub database: Name,
    /// The snapshot's label.
    pub label: Label,
    /// The repository.
    pub repository: Name,
    /// The tables; all if empty.
    pub selections: Vec<Selection>,
    /// Milliseconds until it is given up.
    pub timeout_ms: i64,
}

/// Snapshots with some partitions of a table that are remembered, those since the last with all.
const MOST_PARTIAL: usize = 30;

/// A snapshot in a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct KnownSnapshot {
    label: Label,
    timestamp: String,
}

/// The snapshots of a table that a backup looks into for content to reuse.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct KnownSnapshots {
    /// The last one with all partitions, or the first of all.
    #[serde(flatten)]
    whole: KnownSnapshot,
    /// Those with some partitions since, the newest last.
    #[serde(default)]
    partial: Vec<KnownSnapshot>,
}

/// What remembers, in the commit that ends a job, that its snapshot has so many partitions of tables of its database.
pub(super) async fn know_snapshot(
    cx: &Context,
    job: &Job,
    tables: Vec<(Name, usize)>,
) -> Result<impl FnOnce(&mut Draft) -> Result<()>> {
    let (repository, database) = (job.repository, job.database.clone());
    let snapshot = KnownSnapshot { label: job.label.clone(), timestamp: job.timestamp.clone() };
    // Nobody else changes these while the job has its database's lock.
    let read = move |catalog: &Catalog| {
        let known = |(table, partitions): (Name, usize)| {
            let key = Key::known_snapshot(repository, &database, &table);
            Ok((table, partitions, catalog.row::<KnownSnapshots>(key)?))
        };
        tables.into_iter().map(known).collect::<Result<Vec<_>>>()
    };
    let known = rows::blocking(&cx.catalog, read).await?;
    let database = job.database.clone();
    Ok(move |draft: &mut Draft| {
        for (table, partitions, known) in known {
            let Ok(now) = draft.image().table(&database, &table) else { continue };
            let known = match known {
                Some(mut known) if partitions < now.partitions.len() => {
                    known.partial.retain(|other| *other != snapshot);
                    known.partial.push(snapshot.clone());
                    known.partial.drain(..known.partial.len().saturating_sub(MOST_PARTIAL));
                    known
                }
                _ => KnownSnapshots { whole: snapshot.clone(), partial: Vec::new() },
            };
            draft.put_row(Key::known_snapshot(repository, &database, &table), &known)?;
        }
        Ok(())
    })
}

/// Records the job and takes its database's lock, in one commit.
pub(super) async fn submit(cx: &Context, request: BackupRequest) -> Result<Job> {
    let now = cx.clock.now();
    cx.catalog
        .commit(|draft| {
            let image = draft.image();
            let repository = image.repository(&request.repository)?.clone();
            if repository.read_only {
                return Err(Error::Refused(format!("Repository {} is read only", repository.name)));
            }
            image.check_unlocked(&request.database)?;
            let selected = select(image, image.database(&request.database)?, &request.selections)?;
            if selected.is_empty() {
                return Err(Error::Refused(format!("Database: {} is empty", request.database)));
            }
            let names: Vec<Selection> = match request.selections.is_empty() {
                false => request.selections,
                true => selected
                    .iter()
                    .map(|(table, _)| Selection { table: table.name.clone(), partitions: Vec::new(), alias: None })
                    .collect(),
            };
            let id = JobId(draft.fresh_id());
            let BackupRequest { database, label, timeout_ms, .. } = request;
            let mut job = Job::new(
                id,
                JobKind::Backup,
                database,
                label,
                (repository.id, repository.name.clone()),
                now,
                timeout_ms,
            );
            job.timestamp = now.backup_text();
            draft.add_job(job.clone())?;
            draft.put_row(Key::job_row(id, LOCK, 0), &())?;
            rows::put_selections(draft, job.id, 0, &names)?;
            Ok(job)
        })
        .await
}

/// Tables with some of their partitions.
type Selected = Vec<(Arc<Table>, Vec<Arc<Partition>>)>;

/// The tables and partitions a statement means, in the order of their names and ranges.
fn select(image: &Image, database: &Database, selections: &[Selection]) -> Result<Selected> {
    let all = |table: &Arc<Table>| (table.clone(), table.ordered_partitions().into_iter().cloned().collect());
    if selections.is_empty() {
        return Ok(database.tables.values().filter_map(|id| image.tables.get(id)).map(all).collect());
    }
    let one = |selection: &Selection| {
        let table = image.table(&database.name, &selection.table)?;
        if selection.partitions.is_empty() {
            return Ok(all(table));
        }
        let partitions =
            selection.partitions.iter().map(|name| table.partition(name).cloned()).collect::<Result<_>>()?;
        Ok((table.clone(), partitions))
    };
    selections.iter().map(one).collect()
}

/// `PENDING`: claims the label, then chooses the files and keeps them, in one commit: all of one version.
pub(super) async fn prepare(cx: &Context, job: &Job) -> Result<Job> {
    let repository = cx.repository(job).await?;
    let image = cx.catalog.image();
    let lock = Lock {
        cluster: image.identity.cluster,
        job: job.id,
        attempt: job.attempt,
        time: cx.clock.now(),
        deadline: job.deadline(),
    };
    let unfinished = |id: JobId| cx.catalog.image().jobs.get(&id).is_some_and(|job| !job.state.is_terminal());
    repository.claim(&job.label, &lock, &cx.clock, |id| !unfinished(id)).await?;
    let id = job.id;
    let selections = rows::blocking(&cx.catalog, move |catalog| rows::selections(catalog, id)).await?;
    let next = Job { state: JobState::Snapshoting, meta_prepared: Some(cx.clock.now()), ..job.clone() };
    // Chosen within the commit, so that nothing is loaded, dropped or merged in between.
    cx.advance_with(job, next, |draft, next| {
        let image = draft.image().clone();
        let selected = select(&image, image.database(&job.database)?, &selections)?;
        let tables = selected.iter().map(|(table, partitions)| table_meta(table, partitions)).collect();
        let meta = Meta { format: FORMAT, least_reader: FORMAT, bucket_hash: BUCKET_HASH.into(), tables };
        rows::put_document(draft, job.id, &meta)?;
        rows::put_list(draft, job.id, PINS, pins(&selected).inspect(|pin| next.total.add(pin.file.size)))
    })
    .await
}

/// Every file of some partitions, as of the image they are of.
fn pins(selected: &Selected) -> impl Iterator<Item = Pin> {
    let tablets = (0..).zip(selected).flat_map(|(table, (_, partitions))| {
        (0..).zip(partitions).flat_map(move |(position, partition)| {
            (0..).zip(&partition.tablets).map(move |(bucket, tablet)| (table, position, bucket, tablet))
        })
    });
    tablets.flat_map(|(table, partition, bucket, tablet)| {
        let replicas = &tablet.replicas;
        let pin =
            move |file: &RowsetFile| Pin { table, partition, bucket, replicas: replicas.clone(), file: file.clone() };
        tablet.files.iter().map(pin)
    })
}

fn table_meta(table: &Table, partitions: &[Arc<Partition>]) -> TableMeta {
    TableMeta {
        name: table.name.clone(),
        schema: (*table.schema).clone(),
        comment: table.comment.clone(),
        partition_column: table.partition_column.clone(),
        distribution: table.distribution.columns.clone(),
        buckets: table.distribution.buckets,
        replication: table.replication,
        partitions: partitions
            .iter()
            .map(|partition| PartitionMeta {
                name: partition.name.clone(),
                range: partition.range.clone(),
                version: partition.version,
                buckets: partition.tablets.len() as u32,
                replication: partition.replication,
            })
            .collect(),
    }
}

/// Does the work of the job's state and takes it to the next. A crash repeats the work, so each arm is idempotent.
pub(super) async fn step(cx: &Context, job: &Job, run: &Run) -> Result<Job> {
    match job.state {
        JobState::Pending => prepare(cx, job).await,
        // The BEs confirm that they have every file.
        JobState::Snapshoting => confirm(cx, job, run).await,
        // Content that the repository has is not uploaded again.
        JobState::UploadSnapshot => reuse(cx, job).await,
        JobState::Uploading => upload(cx, job, run).await,
        // Definitions and file list, which count for nothing yet.
        JobState::SaveMeta => save_meta(cx, job).await,
        // The commit.
        JobState::UploadInfo => commit(cx, job, run).await,
        other => Err(Error::internal(format_args!("a BACKUP in {other}"))),
    }
}

/// What moving a pinned file takes. There may be very many.
struct PinnedFile {
    id: FileId,
    size: u64,
    sha256: Sha256,
    replicas: Arc<[BackendId]>,
}

async fn pinned_files(cx: &Context, job: &Job) -> Result<Vec<PinnedFile>> {
    let (id, count) = (job.id, job.total.files as usize);
    let read = move |catalog: &Catalog| {
        let mut places: HashSet<Arc<[BackendId]>> = HashSet::new();
        let mut files = Vec::with_capacity(count);
        for pins in rows::list_rows::<Pin>(catalog, id, PINS) {
            for Pin { replicas, file, .. } in pins? {
                let replicas = shared(&mut places, &replicas[..]);
                files.push(PinnedFile { id: file.id, size: file.size, sha256: file.sha256, replicas });
            }
        }
        Ok(files)
    };
    rows::blocking(&cx.catalog, read).await
}

/// One copy of what is the same.
fn shared<T: ?Sized + Eq + Hash>(known: &mut HashSet<Arc<T>>, value: &T) -> Arc<T>
where
    for<'a> Arc<T>: From<&'a T>,
{
    if let Some(known) = known.get(value) {
        return known.clone();
    }
    let new = Arc::from(value);
    known.insert(Arc::clone(&new));
    new
}

fn items(pins: &[PinnedFile], mut wanted: impl FnMut(&PinnedFile) -> bool) -> Vec<Item> {
    let item = |(number, pin): (u64, &PinnedFile)| Item { number, candidates: pin.replicas.clone(), bytes: pin.size };
    (0..).zip(pins).filter(|(_, pin)| wanted(pin)).map(item).collect()
}

async fn confirm(cx: &Context, job: &Job, run: &Run) -> Result<Job> {
    let pins = pinned_files(cx, job).await?;
    let items = items(&pins, |_| true);
    run.progress.start(job.total, Amount::default());
    let work = |_, numbers: &mut [u64]| {
        let file = |n: &u64| (pins[*n as usize].id, pins[*n as usize].size);
        Ok(Work::Confirm { files: numbers.iter().map(file).collect() })
    };
    spread(cx, job, &run.progress, "make snapshot", items, work, async |_, _| Ok(())).await?;
    let next = Job { state: JobState::UploadSnapshot, snapshot_finished: Some(cx.clock.now()), ..job.clone() };
    cx.advance(job, next, |_| Ok(())).await
}

async fn reuse(cx: &Context, job: &Job) -> Result<Job> {
    let id = job.id;
    // Each content once, however many files have it.
    let read = move |catalog: &Catalog| {
        let mut wanted: HashMap<Sha256, (u64, u64)> = HashMap::new();
        let mut n = 0;
        for pins in rows::list_rows::<Pin>(catalog, id, PINS) {
            for Pin { file, .. } in pins? {
                wanted.entry(file.sha256).or_insert((n, file.size));
                n += 1;
            }
        }
        Ok(wanted)
    };
    let mut wanted = rows::blocking(&cx.catalog, read).await?;
    let mut next = Job { state: JobState::Uploading, moved: Amount::default(), ..job.clone() };
    wanted.values().for_each(|(_, size)| next.moved.add(*size));
    let repository = cx.repository(job).await?;
    let (id, repository_id, database) = (job.id, job.repository, job.database.clone());
    let read = move |catalog: &Catalog| {
        let meta: Meta = rows::document(catalog, id)?;
        let row = |table| Key::known_snapshot(repository_id, &database, table);
        let known = meta.tables.iter().map(|table| catalog.row(row(&table.name)).transpose());
        let known = known.flatten().collect::<Result<Vec<KnownSnapshots>>>()?;
        let all = known.into_iter().flat_map(|known| known.partial.into_iter().chain([known.whole]));
        Ok(all.collect::<BTreeSet<KnownSnapshot>>())
    };
    let known = rows::blocking(&cx.catalog, read).await?;
    let mut found = Vec::new();
    for snapshot in known {
        if wanted.is_empty() {
            break;
        }
        // A snapshot that cannot be read only costs an upload.
        if let Err(err) = find(&repository, &snapshot, &mut wanted, &mut found).await {
            tracing::warn!(job = %job.id, label = %snapshot.label, "nothing reused: {}", err.report());
        }
    }
    drop(wanted);
    // What a snapshot names may be lost since; then the content is sent again.
    let mut ends: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for found in &found {
        let end = ends.entry(found.object.clone()).or_default();
        *end = found.offset.saturating_add(found.size).max(*end);
    }
    let look = |(object, end): (Arc<str>, u64)| {
        let repository = repository.clone();
        async move { repository.holds(&object, end).await.map(|holds| (!holds).then_some(object)) }
    };
    let looks = futures::stream::iter(ends.into_iter().map(look));
    let lost: Vec<Option<Arc<str>>> = looks.buffered(LOOK_AT_ONCE).try_collect().await?;
    let lost: HashSet<Arc<str>> = lost.into_iter().flatten().collect();
    found.retain(|found| !lost.contains(&found.object));
    for found in &found {
        next.moved.files -= 1;
        next.moved.bytes -= found.size;
    }
    found.sort_by(|a, b| a.object.cmp(&b.object));
    let mut last: Arc<str> = "".into();
    let reused = found.into_iter().map(|Found { pin, object, offset, .. }| {
        let named = (object != last).then(|| object.clone());
        last = object;
        Reused { pin, object: named, offset }
    });
    cx.advance(job, next, |draft| rows::put_list(draft, job.id, REUSED, reused)).await
}

/// Wanted content of a pin that is in the repository.
struct Found {
    pin: u64,
    object: Arc<str>,
    offset: u64,
    size: u64,
}

/// Looks for wanted content in a committed snapshot, and takes what it finds off the list.
async fn find(
    repository: &Repository,
    snapshot: &KnownSnapshot,
    wanted: &mut HashMap<Sha256, (u64, u64)>,
    found: &mut Vec<Found>,
) -> Result<()> {
    if repository.is_marked(&snapshot.label, &snapshot.timestamp).await? {
        return Ok(());
    }
    let Some(info) = repository.read_info(&snapshot.label, &snapshot.timestamp).await? else { return Ok(()) };
    let mut objects: HashSet<Arc<str>> = HashSet::new();
    for segment in 0..info.files.len() {
        for row in repository.read_segment(&info, segment).await? {
            if let Some((pin, size)) = wanted.remove(&row.sha256) {
                found.push(Found { pin, object: shared(&mut objects, &*row.object), offset: row.offset, size });
            }
        }
    }
    Ok(())
}

async fn upload(cx: &Context, job: &Job, run: &Run) -> Result<Job> {
    let pins = pinned_files(cx, job).await?;
    let id = job.id;
    let there = rows::blocking(&cx.catalog, move |catalog| places(catalog, id).map(|place| Ok(place?.0)).collect());
    let there: Vec<u64> = there.await?;
    let mut sent: HashSet<Sha256> = there.iter().filter_map(|n| pins.get(*n as usize)).map(|pin| pin.sha256).collect();
    drop(there);
    // Of files with one content, the first is sent.
    let items = items(&pins, |pin| sent.insert(pin.sha256));
    drop(sent);
    let rest: u64 = items.iter().map(|item| item.bytes).sum();
    let done = Amount {
        files: job.moved.files.saturating_sub(items.len() as u64),
        bytes: job.moved.bytes.saturating_sub(rest),
    };
    run.progress.start(job.moved, done);
    let cluster = cx.catalog.image().identity.cluster;
    // By task and file: a file that a task has failed goes into another object.
    let packed: Mutex<HashMap<(u64, u64), (Sha256, u64)>> = Mutex::default();
    let work = |task, numbers: &mut [u64]| {
        let mut objects = Vec::new();
        let parts = pack(numbers, &pins);
        // The task counts the files of all objects through.
        numbers.copy_from_slice(&parts.concat());
        for part in parts {
            let files: Vec<&PinnedFile> = part.iter().map(|n| &pins[*n as usize]).collect();
            let hash = match files[..] {
                [file] => file.sha256,
                _ => {
                    let hash = pack_hash(&files);
                    let mut packed = packed.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut offset = 0;
                    for (n, file) in part.iter().zip(&files) {
                        packed.insert((task, *n), (hash, offset));
                        offset += file.size;
                    }
                    hash
                }
            };
            let upload = |file: &&PinnedFile| UploadFile { id: file.id, sha256: file.sha256, size: file.size };
            objects.push(UploadObject {
                object: layout::object(&hash, cluster, job.id, job.attempt, task),
                files: files.iter().map(upload).collect(),
            });
        }
        Ok(Work::Upload { repository: cx.reference(job)?, objects })
    };
    let done = async |numbers: Vec<u64>, task| {
        let done: Vec<Done> = {
            let mut packed = packed.lock().unwrap_or_else(PoisonError::into_inner);
            let one = |number| Done { number, attempt: job.attempt, task, packed: packed.remove(&(task, number)) };
            numbers.into_iter().map(one).collect()
        };
        rows::put_done(&cx.catalog, job.id, &done).await
    };
    spread(cx, job, &run.progress, "upload", items, work, done).await?;
    let next = Job { state: JobState::SaveMeta, transfer_finished: Some(cx.clock.now()), ..job.clone() };
    cx.advance(job, next, |_| Ok(())).await
}

/// Divides a task's files among objects: small ones share some.
fn pack(numbers: &[u64], pins: &[PinnedFile]) -> Vec<Vec<u64>> {
    let (mut parts, mut pack, mut bytes) = (Vec::new(), Vec::new(), 0);
    for n in numbers {
        let size = pins[*n as usize].size;
        if size > SMALL_FILE {
            parts.push(vec![*n]);
            continue;
        }
        if bytes + size > PACK_BYTES {
            parts.push(std::mem::take(&mut pack));
            bytes = 0;
        }
        pack.push(*n);
        bytes += size;
    }
    parts.extend((!pack.is_empty()).then_some(pack));
    parts
}

/// What names an object of several files: the hash of their hashes.
fn pack_hash(files: &[&PinnedFile]) -> Sha256 {
    let mut hasher = sha2::Sha256::new();
    files.iter().for_each(|file| hasher.update(file.sha256.0));
    Sha256(hasher.finalize().into())
}

/// Where in the repository a content is.
enum Place {
    /// Uploaded by this job: what names the object if it holds more than that content, and where it begins then.
    Uploaded { packed: Option<(Sha256, u64)>, attempt: Attempt, task: u64 },
    /// There before.
    Reused { object: Arc<str>, offset: u64 },
}

/// The pins, by number, whose content is in the repository already or has been uploaded by the job. Blocks as it is read.
fn places(catalog: &Catalog, job: JobId) -> impl Iterator<Item = Result<(u64, Place)>> {
    let uploaded = rows::done(catalog, job).map(|done| {
        let Done { number, attempt, task, packed } = done?;
        Ok((number, Place::Uploaded { packed, attempt, task }))
    });
    let mut last: Arc<str> = "".into();
    let reused = rows::list_rows::<Reused>(catalog, job, REUSED).flat_map(move |rows| {
        let place = |Reused { pin, object, offset }| {
            last = object.unwrap_or_else(|| last.clone());
            Ok((pin, Place::Reused { object: last.clone(), offset }))
        };
        rows.map_or_else(|err| vec![Err(err)], |rows| rows.into_iter().map(place).collect())
    });
    uploaded.chain(reused)
}

async fn save_meta(cx: &Context, job: &Job) -> Result<Job> {
    let repository = cx.repository(job).await?;
    let id = job.id;
    let meta: Meta = rows::blocking(&cx.catalog, move |catalog| rows::document(catalog, id)).await?;
    let meta = repository.write_meta(&job.label, &job.timestamp, &meta).await?;
    let segments = save_files(cx, job, &repository).await?;
    let hashes = ManifestHashes { meta: meta.sha256, meta_size: meta.size, segments: segments.len() as u32 };
    let next = Job { state: JobState::UploadInfo, manifest: Some(hashes), ..job.clone() };
    cx.advance(job, next, |draft| {
        segments
            .iter()
            .enumerate()
            .try_for_each(|(n, part)| draft.put_row(Key::job_row(job.id, SEGMENTS, n as u64), part))
    })
    .await
}

/// Writes the file list. Only where contents are is held in memory for all of it.
async fn save_files(cx: &Context, job: &Job, repository: &Repository) -> Result<Vec<Part>> {
    let (cluster, id, count) = (cx.catalog.image().identity.cluster, job.id, job.total.files as usize);
    let find = move |catalog: &Catalog| {
        let mut contents = Vec::with_capacity(count);
        for pins in rows::list_rows::<Pin>(catalog, id, PINS) {
            contents.extend(pins?.iter().map(|pin| pin.file.sha256));
        }
        let mut found = HashMap::with_capacity(count);
        for place in places(catalog, id) {
            let (number, place) = place?;
            found.extend(contents.get(number as usize).map(|content| (*content, place)));
        }
        Ok(found)
    };
    let found: Arc<HashMap<Sha256, Place>> = Arc::new(rows::blocking(&cx.catalog, find).await?);
    let mut pins = rows::list_rows::<Pin>(&cx.catalog, id, PINS);
    let mut segments = Vec::new();
    let most = clock::size("backup.segment-rows", SEGMENT_ROWS);
    loop {
        let found = found.clone();
        let read = move |_: &Catalog| {
            let mut objects: HashSet<Arc<str>> = HashSet::new();
            let mut rows = Vec::with_capacity(most.min(count));
            while rows.len() < most
                && let Some(part) = pins.next()
            {
                for pin in part? {
                    let content = pin.file.sha256;
                    let missing = || Error::internal(format_args!("file {} was not uploaded", pin.file.id));
                    let (object, offset) = match found.get(&content).ok_or_else(missing)? {
                        Place::Uploaded { packed, attempt, task } => {
                            let (named, offset) = packed.unwrap_or((content, 0));
                            (shared(&mut objects, &*layout::object(&named, cluster, id, *attempt, *task)), offset)
                        }
                        Place::Reused { object, offset } => (object.clone(), *offset),
                    };
                    rows.push(file_row(pin, object, offset));
                }
            }
            Ok((rows, pins))
        };
        let (rows, rest) = rows::blocking(&cx.catalog, read).await?;
        if rows.is_empty() {
            return Ok(segments);
        }
        pins = rest;
        let n = segments.len() as u32;
        segments.push(repository.write_segment(&job.label, &job.timestamp, n, rows).await?);
    }
}

fn file_row(pin: Pin, object: Arc<str>, offset: u64) -> FileRow {
    let Pin { table, partition, bucket, file, .. } = pin;
    let RowsetFile { kind, version, schema_version, size, rows, sha256, bounds, .. } = file;
    FileRow { table, partition, bucket, kind, version, schema_version, rows, bounds, sha256, size, object, offset }
}

async fn commit(cx: &Context, job: &Job, run: &Run) -> Result<Job> {
    let repository = cx.repository(job).await?;
    let manifest = job.manifest.as_ref().ok_or_else(|| Error::internal("UPLOAD_INFO without a manifest"))?;
    let id = job.id;
    let files: Vec<Part> =
        rows::blocking(&cx.catalog, move |catalog| catalog.rows(Key::job_rows(id, SEGMENTS)).collect()).await?;
    let image = cx.catalog.image();
    let info = Info {
        format: FORMAT,
        least_reader: FORMAT,
        label: job.label.clone(),
        timestamp: job.timestamp.clone(),
        backup_time: job.created,
        finish_time: cx.clock.now(),
        deadline: job.deadline(),
        cluster_id: image.identity.cluster,
        job: job.id,
        database: job.database.clone(),
        meta: Part { sha256: manifest.meta, size: manifest.meta_size },
        files,
        file_count: job.total.files,
        file_bytes: job.total.bytes,
        ttl: None,
        expire_time: None,
    };
    // An attempt before this one may have written it. Then it is what it is: the snapshot has been seen.
    let written = match repository.read_info(&job.label, &job.timestamp).await {
        Ok(written) => written.filter(|written| written.cluster_id == info.cluster_id && written.job == job.id),
        Err(Error::Corrupt { .. }) => None,
        Err(err) => return Err(err),
    };
    if let Some(written) = written {
        repository.commit_seen(&written).await?;
    } else {
        // The last request may land late; the lock is respected a while longer.
        if info.finish_time.plus_ms(LOCK_GRACE_MS / 2) > info.deadline {
            // So may one whose answer did not come, be it of an earlier attempt: until then there may be a snapshot.
            let unknown = run.committing.load(Ordering::Relaxed);
            if unknown && info.finish_time < info.deadline.plus_ms(LOCK_GRACE_MS) {
                return Err(Error::Repository {
                    place: format!("repository {}", job.repository_name),
                    operation: "commit".into(),
                    path: layout::info(&job.label, &job.timestamp),
                    source: "no answer came, and it may still be stored".into(),
                    retryable: true,
                });
            }
            return Err(Error::Cancelled("the deadline passed before the snapshot was committed".into()));
        }
        run.committing.store(true, Ordering::Relaxed);
        repository.commit(&info).await?;
    }
    let next = Job { state: JobState::Finished, finished: Some(cx.clock.now()), ..job.clone() };
    let meta: Meta = rows::blocking(&cx.catalog, move |catalog| rows::document(catalog, id)).await?;
    let tables = meta.tables.into_iter().map(|table| (table.name, table.partitions.len())).collect();
    let know = know_snapshot(cx, job, tables).await?;
    cx.advance(job, next, know).await
}

/// After the end: gives the label's lock back.
pub(super) async fn clean_up(cx: &Context, job: &Job) -> Result<()> {
    let repository = cx.repository(job).await?;
    repository.release(&job.label, cx.catalog.image().identity.cluster, job.id).await
}
