//! What a RESTORE does in each state.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::catalog::{Amount, Distribution, Draft, Image, Job, JobKind, JobState, Partition, Selection, Table, Tablet};
use crate::error::{Error, Result};
use crate::job::backup::know_snapshot;
use crate::job::tasks::{Item, lost_backend, spread};
use crate::job::{Context, Run, rows, unchanged};
use crate::repository::Repository;
use crate::repository::manifest::{FileRow, Info, Meta, PartitionMeta, TableMeta};
use crate::rpc::message::{DownloadFile, Event, Task, TaskOwner, Work};
use crate::types::{
    BackendId, Column, DatabaseId, Datum, Entity, FileId, JobId, Kind, Label, Name, PartitionId, RowsetFile, Schema,
    TableId, TabletId, Timestamp, WriteId,
};

/// A RESTORE statement, its names resolved.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Which database goes where.
    pub target: Target,
    /// The snapshot's label.
    pub label: Label,
    /// The repository.
    pub repository: Name,
    /// Every table of the snapshot.
    pub all_tables: bool,
    /// Tables with their partitions and new names; beside `all_tables` they say those of some.
    pub selections: Vec<Selection>,
    /// Text of the backup timestamp; `None` is the latest of the label.
    pub timestamp: Option<String>,
    /// Copies of each tablet, if the statement says.
    pub replication: Option<u32>,
    /// Shown, without effect.
    pub allow_load: bool,
    /// Milliseconds until it is given up.
    pub timeout_ms: i64,
}

/// Which database of a snapshot is restored, and where.
#[derive(Debug, Clone)]
pub enum Target {
    /// Into the database of the name that the snapshot records.
    Recorded,
    /// Into this one, whatever the snapshot records.
    Into(Name),
    /// The snapshot must record `source`.
    Renamed {
        /// As the snapshot records it.
        source: Name,
        /// Where it goes.
        target: Name,
    },
}

/// Copies of one tablet have numbers below this, so that (file, copy) is one number.
const MAX_COPIES: u64 = 64;

/// Files that one task looks for.
const CHECK_PART: usize = 10_000;

/// Files forgotten in one commit.
const MISSING_PART: usize = 400;

/// What will be where, decided once; only BEs that are lost are replaced. A list of positions in the snapshot's definitions with the ids they get here.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    tables: Vec<TablePlan>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TablePlan {
    /// Position in [`Meta::tables`].
    source: u32,
    /// The name it gets.
    name: Name,
    /// The table it gets; of an existing one its id, and the version its schema must still have.
    id: TableId,
    existing: Option<u32>,
    /// Copies that its new partitions get.
    replication: u32,
    partitions: Vec<PartitionPlan>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct PartitionPlan {
    /// Position in [`TableMeta::partitions`].
    source: u32,
    /// The name it gets.
    name: Name,
    /// Its incarnation.
    id: PartitionId,
    /// The one it takes the place of.
    replaces: Option<PartitionId>,
    replication: u32,
    /// A tablet for each bucket, and its BEs.
    tablets: Vec<(TabletId, Vec<BackendId>)>,
}

/// Records the job and takes the target database's lock, in one commit. Only where the statement leaves the target to
/// the snapshot is that read before.
pub(super) async fn submit(cx: &Context, request: RestoreRequest) -> Result<Job> {
    let image = cx.catalog.image();
    let repository = image
        .repositories
        .get(&request.repository)
        .ok_or_else(|| Error::Refused(format!("Repository {} does not exist", request.repository)))?
        .clone();
    let (database, source) = match request.target {
        Target::Into(target) => (target, None),
        Target::Renamed { source, target } => (target, Some(source)),
        Target::Recorded => {
            // Its statement waits.
            let opened = Repository::open(&repository.name, &repository.location, &repository.properties)?.hasty();
            let found = async {
                opened.check(&repository.uuid).await?;
                find(&opened, &request.label, request.timestamp.as_deref().unwrap_or_default()).await
            };
            let found = found.await.inspect_err(|err| cx.health.met(repository.id, cx.clock.now(), err));
            (found?.0.database, None)
        }
    };
    if database.eq_ignore_ascii_case("information_schema") {
        return Err(Error::AccessDenied(format!("nothing can be restored into database '{database}'")));
    }
    let now = cx.clock.now();
    cx.catalog
        .commit(|draft| {
            let id = JobId(draft.fresh_id());
            let timeout_ms = request.timeout_ms;
            let job = Job {
                timestamp: request.timestamp.unwrap_or_default(),
                source_database: source,
                replication: request.replication,
                all_tables: request.all_tables,
                allow_load: request.allow_load,
                ..Job::new(
                    id,
                    JobKind::Restore,
                    database,
                    request.label,
                    (repository.id, repository.name.clone()),
                    now,
                    timeout_ms,
                )
            };
            draft.add_job(job.clone())?;
            rows::put_selections(draft, job.id, 0, &request.selections)?;
            Ok(job)
        })
        .await
}

/// The snapshot of a label and a timestamp; the latest if that is empty.
async fn find(repository: &Repository, label: &Label, timestamp: &str) -> Result<(Info, String)> {
    let failed = |reason: String| {
        Error::Refused(format!(
            "Failed to get info of snapshot '{label}' because: {reason}. Maybe specified wrong backup timestamp"
        ))
    };
    let timestamp = match timestamp {
        "" => {
            let content = repository.label_content(label).await?;
            content.latest().ok_or_else(|| failed("the repository has no snapshot of this label".into()))?.to_owned()
        }
        text => text.to_owned(),
    };
    match repository.read_info(label, &timestamp).await {
        Ok(Some(info)) => Ok((info, timestamp)),
        Ok(None) => Err(failed(format!("there is none of timestamp {timestamp}"))),
        Err(err @ Error::Corrupt { .. }) => Err(failed(err.report())),
        Err(err) => Err(err),
    }
}

/// A table of the snapshot that is to be restored: its position, its new name, positions of its partitions.
struct Wanted {
    source: usize,
    name: Name,
    partitions: Vec<usize>,
}

/// `PENDING`: reads what the snapshot holds, checks it against what is here, decides ids and places, and reserves the
/// names, all in one commit.
pub(super) async fn prepare(cx: &Context, job: &Job) -> Result<Job> {
    let repository = cx.repository(job).await?;
    let (info, timestamp) = find(&repository, &job.label, &job.timestamp).await?;
    if let Some(source) = job.source_database.as_ref().filter(|source| **source != info.database) {
        return Err(Error::Refused(format!("target database: {source} is not existed in snapshot")));
    }
    let meta = repository.read_meta(&info).await?;
    let id = job.id;
    let selections = rows::blocking(&cx.catalog, move |catalog| rows::selections(catalog, id)).await?;
    let wanted = select(&meta, job, &selections)?;
    let now = cx.clock.now();
    let found = timestamp.clone();
    let next = Job {
        state: JobState::Snapshoting,
        timestamp,
        source_database: Some(info.database.clone()),
        meta_prepared: Some(now),
        ..job.clone()
    };
    let planning = AtomicBool::new(false);
    let advanced = cx
        .advance_with(job, next, |draft, next| {
            planning.store(true, Ordering::Relaxed);
            let plan = plan(cx, draft, job, &meta, &wanted)?;
            planning.store(false, Ordering::Relaxed);
            next.write = Some(draft.begin_write()?);
            for table in &plan.tables {
                draft.reserve(&job.database, &table.name, job.id)?;
            }
            put_rest(draft, job, &wanted, selections.len())?;
            rows::put_document(draft, job.id, &plan)
        })
        .await;
    match advanced {
        // What is here does not allow it: the job stays in the history as cancelled, as in StarRocks.
        Err(err) if planning.load(Ordering::Relaxed) => {
            cx.catalog.commit(|draft| put_rest(draft, job, &wanted, selections.len())).await?;
            cx.fail(&Job { timestamp: found, ..job.clone() }, &err).await?;
            Err(err)
        }
        other => other,
    }
}

/// Has the history show what ALL meant, behind what the statement names.
fn put_rest(draft: &mut Draft, job: &Job, wanted: &[Wanted], named: usize) -> Result<()> {
    let selection = |wanted: &Wanted| Selection { table: wanted.name.clone(), partitions: Vec::new(), alias: None };
    let rest: Vec<Selection> = wanted[named..].iter().map(selection).collect();
    // Far behind the records of the statement, however many those are.
    rows::put_selections(draft, job.id, 1 << 32, &rest)
}

fn select(meta: &Meta, job: &Job, selections: &[Selection]) -> Result<Vec<Wanted>> {
    let label = &job.label;
    let one = |selection: &Selection| {
        let source = meta.tables.iter().position(|table| table.name == selection.table);
        let source = source
            .ok_or_else(|| Error::Refused(format!("Table {} does not exist in snapshot {label}", selection.table)))?;
        let table = &meta.tables[source];
        let position = |name: &Name| {
            table.partitions.iter().position(|partition| partition.name == *name).ok_or_else(|| {
                Error::Refused(format!(
                    "Partition {name} of table {} does not exist in snapshot {label}",
                    selection.table
                ))
            })
        };
        let partitions = match selection.partitions.is_empty() {
            true => (0..table.partitions.len()).collect(),
            false => selection.partitions.iter().map(position).collect::<Result<_>>()?,
        };
        let name = selection.alias.clone().unwrap_or_else(|| table.name.clone());
        Ok(Wanted { source, name, partitions })
    };
    let mut wanted: Vec<Wanted> = selections.iter().map(one).collect::<Result<_>>()?;
    if job.all_tables {
        let named: BTreeSet<usize> = wanted.iter().map(|wanted| wanted.source).collect();
        let rest = meta.tables.iter().enumerate().filter(|(source, _)| !named.contains(source));
        wanted.extend(rest.map(|(source, table)| Wanted {
            source,
            name: table.name.clone(),
            partitions: (0..table.partitions.len()).collect(),
        }));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = wanted.iter().find(|wanted| !names.insert(&wanted.name)) {
        return Err(Error::Refused(format!("Duplicated alias name: {}", twice.name)));
    }
    Ok(wanted)
}

/// Decides where everything goes, by StarRocks' rules on what is there.
fn plan(cx: &Context, draft: &mut Draft, job: &Job, meta: &Meta, wanted: &[Wanted]) -> Result<Plan> {
    let mut tables = Vec::new();
    let mut placement = cx.fleet.placement(draft.image());
    for Wanted { source, name, partitions } in wanted {
        let table = &meta.tables[*source];
        let existing = existing(draft.image(), &job.database, name).cloned();
        if let Some(existing) = &existing {
            check_schema(existing, table)?;
        }
        // Of BEs that are dropped nobody expects copies; those that are down are worth waiting for.
        let known = draft.image().backends.len() as u32;
        let copies = |declared: u32| if job.replication.is_some() { declared } else { declared.min(known).max(1) };
        let usual = existing.as_ref().map_or_else(|| cx.fleet.default_copies(), |existing| existing.replication);
        let asked = job.replication.unwrap_or(usual);
        let id = existing.as_ref().map_or_else(|| TableId(draft.fresh_id()), |existing| existing.id);
        let mut planned = Vec::new();
        for position in partitions {
            let partition = &table.partitions[*position];
            // The one partition of a table that is not partitioned bears the table's name.
            let partition_name = if table.partition_column.is_some() { partition.name.clone() } else { name.clone() };
            let old = match &existing {
                Some(existing) => check_partition(existing, partition, &partition_name, job.replication)?,
                None => None,
            };
            let replication = old.as_ref().map_or(asked, |old| old.replication);
            if u64::from(replication) >= MAX_COPIES {
                return Err(Error::Refused(format!("replication_num {replication} is more than {}", MAX_COPIES - 1)));
            }
            let places = placement.place(copies(replication), partition.buckets as usize)?;
            planned.push(PartitionPlan {
                source: *position as u32,
                name: partition_name,
                id: PartitionId(draft.fresh_id()),
                replaces: old.map(|old| old.id),
                replication,
                tablets: places.into_iter().map(|place| (TabletId(draft.fresh_id()), place)).collect(),
            });
        }
        tables.push(TablePlan {
            source: *source as u32,
            name: name.clone(),
            id,
            existing: existing.map(|existing| existing.schema.version),
            replication: asked,
            partitions: planned,
        });
    }
    Ok(Plan { tables })
}

fn existing<'a>(image: &'a Image, database: &Name, table: &Name) -> Option<&'a Arc<Table>> {
    image.tables.get(image.databases.get(database)?.tables.get(table)?)
}

fn check_schema(existing: &Table, backup: &TableMeta) -> Result<()> {
    let name = &existing.name;
    let differs = |what: &str| {
        Err(Error::Refused(format!("Table {name} already exist but with different schema, errMsg: {what}")))
    };
    let (here, there): (&Schema, &Schema) = (&existing.schema, &backup.schema);
    if here.keys != there.keys {
        return differs(&format!("{} key columns here, {} in the snapshot", here.keys, there.keys));
    }
    if here.columns.len() != there.columns.len() {
        return differs(&format!("{} columns here, {} in the snapshot", here.columns.len(), there.columns.len()));
    }
    for (a, b) in here.columns.iter().zip(&there.columns) {
        // Without a default, NULL is what a column takes that may.
        let [ours, theirs] = [a, b].map(|column| column.default.as_ref().filter(|default| **default != Datum::Null));
        let same = a.name == b.name && a.ty == b.ty && a.nullable == b.nullable && ours == theirs;
        if !same || a.field != b.field {
            let shown = |column: &Column| {
                let null = if column.nullable { "NULL" } else { "NOT NULL" };
                let default = column.default.as_ref().and_then(|default| default.text(column.ty));
                let default = default.map_or(String::new(), |default| format!(" DEFAULT '{default}'"));
                // Columns that were dropped and added again look the same, but their files do not hold the same.
                let field = if a.field == b.field { String::new() } else { format!(" (field {})", column.field) };
                format!("{} {} {null}{default}{field}", column.name, column.ty)
            };
            return Err(Error::Refused(format!(
                "Table {name} already exist but with different schema, column: {} in existed table is different from the \
                 column in backup snapshot, column: {}",
                shown(a),
                shown(b)
            )));
        }
    }
    if existing.partition_column != backup.partition_column {
        return differs("partition column");
    }
    if existing.distribution.columns != backup.distribution {
        return differs("distribution columns");
    }
    if existing.distribution.buckets != backup.buckets {
        return differs(&format!("{} buckets here, {} in the snapshot", existing.distribution.buckets, backup.buckets));
    }
    Ok(())
}

/// The partition that is overwritten; `None` if it is to be added.
fn check_partition(
    table: &Table,
    backup: &PartitionMeta,
    name: &Name,
    asked: Option<u32>,
) -> Result<Option<Arc<Partition>>> {
    let refuse = |text: &str| Err(Error::Refused(format!("Partition {name} in table {} {text}", table.name)));
    if let Some(here) = table.partitions.get(name) {
        if here.range != backup.range {
            return refuse("has different range with partition in repository");
        }
        if let Some(asked) = asked.filter(|asked| *asked != here.replication) {
            let here = here.replication;
            return refuse(&format!(
                "has different replication num '{here}' with partition in repository, which is {asked}"
            ));
        }
        return Ok(Some(here.clone()));
    }
    let Some(range) = &backup.range else {
        return Err(Error::Refused(format!("No partition exist in single partitioned table {}", table.name)));
    };
    if table.partitions.values().any(|other| other.range.as_ref().is_some_and(|other| other.overlaps(range))) {
        return refuse("has conflict range with existing ranges");
    }
    Ok(None)
}

/// Does the work of the job's state and takes it to the next. A crash repeats the work, so each arm is idempotent.
pub(super) async fn step(cx: &Context, job: &Job, run: &Run) -> Result<Job> {
    match job.state {
        JobState::Pending => prepare(cx, job).await,
        // Every BE that will get files sees the repository.
        JobState::Snapshoting => probe(cx, job).await,
        // How much there is to get, and whether it fits.
        JobState::Download => measure(cx, job).await,
        JobState::Downloading => download(cx, job, run).await,
        // The swap: all new tables and partitions appear in one commit.
        JobState::Commit => match all_there(cx, job, run).await? {
            true => swap(cx, job).await,
            false => cx.advance(job, Job { state: JobState::Downloading, ..job.clone() }, |_| Ok(())).await,
        },
        JobState::Committing => finish(cx, job).await,
        other => Err(Error::internal(format_args!("a RESTORE in {other}"))),
    }
}

impl Plan {
    /// The tablets with their BEs.
    fn tablets(&self) -> impl Iterator<Item = &(TabletId, Vec<BackendId>)> {
        self.tables.iter().flat_map(|table| &table.partitions).flat_map(|partition| &partition.tablets)
    }

    /// A BE that has a part in it and that nobody should wait for.
    fn lost(&self, cx: &Context) -> Option<BackendId> {
        let backends: BTreeSet<&BackendId> = self.tablets().flat_map(|(_, place)| place).collect();
        backends.into_iter().copied().find(|backend| cx.fleet.is_lost(*backend))
    }
}

async fn plan_of(cx: &Context, job: &Job) -> Result<Plan> {
    let id = job.id;
    rows::blocking(&cx.catalog, move |catalog| rows::document(catalog, id)).await
}

/// The plan without BEs that are lost: others take their places, in one commit, which forgets what those had got.
async fn living_plan(cx: &Context, job: &Job) -> Result<Plan> {
    let mut plan = plan_of(cx, job).await?;
    while let Some(lost) = plan.lost(cx) {
        let old = plan.clone();
        let alive = cx.fleet.alive();
        let mut moved: HashMap<TabletId, u64> = HashMap::new();
        let partitions = plan.tables.iter_mut().flat_map(|table| &mut table.partitions);
        for (tablet, place) in partitions.flat_map(|partition| &mut partition.tablets) {
            let Some(copy) = place.iter().position(|backend| *backend == lost) else { continue };
            // In turn, so that the load spreads.
            let others = alive.iter().cycle().skip(moved.len() % alive.len().max(1)).take(alive.len());
            let other = others.copied().find(|backend| !place.contains(backend));
            place[copy] = other.ok_or_else(|| lost_backend(cx, lost))?;
            moved.insert(*tablet, copy as u64);
        }
        let id = job.id;
        let mut gone = Vec::new();
        let done = rows::blocking(&cx.catalog, move |catalog| rows::arrived(catalog, id)).await?;
        if !done.is_empty() {
            let (repository, info) = snapshot(cx, job).await?;
            let mut list = FileList::new(&repository, &info, &old, job)?;
            while let Some(files) = list.next().await? {
                let copies =
                    files.iter().filter_map(|file| Some(file.number * MAX_COPIES + moved.get(&file.id.tablet)?));
                gone.extend(copies.filter(|number| done.contains(number)));
            }
        }
        tracing::warn!(job = %job.id, backend = %lost, tablets = moved.len(), "it is lost: others get its tablets");
        cx.catalog
            .commit(|draft| {
                unchanged(draft, job)?;
                rows::delete_done(draft, job.id, &gone);
                rows::replace_document(draft, job.id, &old, &plan)
            })
            .await?;
    }
    Ok(plan)
}

async fn snapshot(cx: &Context, job: &Job) -> Result<(Repository, Info)> {
    let repository = cx.repository(job).await?;
    let (info, _) = find(&repository, &job.label, &job.timestamp).await?;
    Ok((repository, info))
}

async fn probe(cx: &Context, job: &Job) -> Result<Job> {
    cx.repository(job).await?;
    let plan = living_plan(cx, job).await?;
    let backends: BTreeSet<BackendId> = plan.tablets().flat_map(|(_, place)| place).copied().collect();
    for (number, backend) in backends.into_iter().enumerate() {
        let work = Work::Probe { repository: cx.reference(job)?, writable: false };
        let task = Task { owner: TaskOwner::Job(job.id, job.attempt), number: number as u64, work };
        let events = cx.fleet.backend(backend)?.run("open the repository", &task).await?;
        events.try_for_each(|_| async { Ok(()) }).await?;
    }
    let next = Job { state: JobState::Download, snapshot_finished: Some(cx.clock.now()), ..job.clone() };
    cx.advance(job, next, |_| Ok(())).await
}

/// A file of the snapshot with the place it gets. `number` counts all planned files in the order of the file list.
struct Placed {
    number: u64,
    row: FileRow,
    id: FileId,
    table: usize,
    partition: usize,
    replicas: Vec<BackendId>,
}

/// Reads the file list segment by segment, so that memory does not grow with it.
struct FileList<'a> {
    repository: &'a Repository,
    info: &'a Info,
    write: WriteId,
    /// By positions in the snapshot: positions in the plan, and the tablets.
    places: HashMap<(u32, u32), (usize, usize, &'a PartitionPlan)>,
    segment: usize,
    number: u64,
    /// Files seen of each tablet.
    of_tablet: HashMap<TabletId, u32>,
}

impl<'a> FileList<'a> {
    fn new(repository: &'a Repository, info: &'a Info, plan: &'a Plan, job: &Job) -> Result<Self> {
        let write = job.write.ok_or_else(|| Error::internal("a RESTORE without its write"))?;
        let mut places = HashMap::new();
        for (t, table) in plan.tables.iter().enumerate() {
            for (p, partition) in table.partitions.iter().enumerate() {
                places.insert((table.source, partition.source), (t, p, partition));
            }
        }
        Ok(Self { repository, info, write, places, segment: 0, number: 0, of_tablet: HashMap::new() })
    }

    async fn next(&mut self) -> Result<Option<Vec<Placed>>> {
        if self.segment == self.info.files.len() {
            return Ok(None);
        }
        let rows = self.repository.read_segment(self.info, self.segment).await?;
        self.segment += 1;
        let mut placed = Vec::new();
        for row in rows {
            let Some((table, partition, plan)) = self.places.get(&(row.table, row.partition)) else { continue };
            let (tablet, replicas) = plan.tablets.get(row.bucket as usize).ok_or_else(|| Error::Corrupt {
                what: "file list",
                path: format!("of snapshot '{}'", self.info.label),
                message: format!("it has a bucket {} of {}", row.bucket, plan.tablets.len()),
            })?;
            let of_tablet = self.of_tablet.entry(*tablet).or_default();
            let id = FileId { write: self.write, tablet: *tablet, number: *of_tablet };
            *of_tablet += 1;
            let (table, partition, replicas) = (*table, *partition, replicas.clone());
            placed.push(Placed { number: self.number, row, id, table, partition, replicas });
            self.number += 1;
        }
        Ok(Some(placed))
    }
}

async fn measure(cx: &Context, job: &Job) -> Result<Job> {
    let plan = living_plan(cx, job).await?;
    let (repository, info) = snapshot(cx, job).await?;
    let mut list = FileList::new(&repository, &info, &plan, job)?;
    let (mut total, mut moved) = (Amount::default(), Amount::default());
    let mut needs: HashMap<BackendId, u64> = HashMap::new();
    while let Some(files) = list.next().await? {
        for file in files {
            total.add(file.row.size);
            for backend in file.replicas {
                moved.add(file.row.size);
                *needs.entry(backend).or_default() += file.row.size;
            }
        }
    }
    for (backend, bytes) in needs {
        let free = cx.fleet.look(backend).await?.disk_free;
        if free < bytes {
            return Err(Error::Refused(format!(
                "capacity limit reached: backend {} has {free} bytes free, the restore needs {bytes}",
                cx.fleet.address(backend)
            )));
        }
    }
    let next = Job { state: JobState::Downloading, total, moved, ..job.clone() };
    cx.advance(job, next, |_| Ok(())).await
}

async fn download(cx: &Context, job: &Job, run: &Run) -> Result<Job> {
    let plan = living_plan(cx, job).await?;
    let (repository, info) = snapshot(cx, job).await?;
    cx.repository(job).await?;
    let id = job.id;
    let done = rows::blocking(&cx.catalog, move |catalog| rows::arrived(catalog, id)).await?;
    let progress = &run.progress;
    progress.start(job.moved, Amount::default());
    let mut list = FileList::new(&repository, &info, &plan, job)?;
    while let Some(files) = list.next().await? {
        let items = files.iter().flat_map(|file| {
            let copy = |(copy, backend): (usize, &BackendId)| Item {
                number: file.number * MAX_COPIES + copy as u64,
                candidates: Arc::new([*backend]),
                bytes: file.row.size,
            };
            file.replicas.iter().enumerate().map(copy)
        });
        let (there, items): (Vec<Item>, Vec<Item>) = items.partition(|item| done.contains(&item.number));
        progress.files_done.fetch_add(there.len() as u64, Ordering::Relaxed);
        progress.bytes_moved.fetch_add(there.iter().map(|item| item.bytes).sum(), Ordering::Relaxed);
        let Some(first) = files.first().map(|file| file.number) else { continue };
        let work = |_, numbers: &mut [u64]| {
            let file = |n: &u64| {
                let file = &files[(n / MAX_COPIES - first) as usize];
                DownloadFile {
                    id: file.id,
                    sha256: file.row.sha256,
                    size: file.row.size,
                    object: file.row.object.to_string(),
                    offset: file.row.offset,
                }
            };
            Ok(Work::Download { repository: cx.reference(job)?, files: numbers.iter().map(file).collect() })
        };
        let arrived = async |numbers: Vec<u64>, task| {
            let done = |number| rows::Done { number, attempt: job.attempt, task, packed: None };
            rows::put_done(&cx.catalog, job.id, &numbers.into_iter().map(done).collect::<Vec<_>>()).await
        };
        let outcome = spread(cx, job, progress, "download", items, work, arrived).await;
        outcome.map_err(|err| name_place(err, &plan, &files))?;
    }
    // What has arrived is lost with it.
    if let Some(lost) = plan.lost(cx) {
        return Err(lost_backend(cx, lost));
    }
    let next = Job { state: JobState::Commit, transfer_finished: Some(cx.clock.now()), ..job.clone() };
    cx.advance(job, next, |_| Ok(())).await
}

/// Adds the table and the partition to an error about an object.
fn name_place(err: Error, plan: &Plan, files: &[Placed]) -> Error {
    let report = err.report();
    let Some(file) = files.iter().find(|file| report.contains(&*file.row.object)) else { return err };
    let table = &plan.tables[file.table];
    let place = format!("partition {} of table {}", table.partitions[file.partition].name, table.name);
    match err {
        Error::Backend { backend, operation, source, retryable } => {
            Error::Backend { backend, operation: format!("{operation} {place}"), source, retryable }
        }
        other => other,
    }
}

/// Whether every copy of every file is where it arrived, for a BE may have lost its disk since. What is not is
/// forgotten, so that it is downloaded again.
async fn all_there(cx: &Context, job: &Job, run: &Run) -> Result<bool> {
    let plan = plan_of(cx, job).await?;
    // Others can take its tablets.
    if plan.lost(cx).is_some() {
        return Ok(false);
    }
    let (repository, info) = snapshot(cx, job).await?;
    let mut list = FileList::new(&repository, &info, &plan, job)?;
    let mut missing = Vec::new();
    while let Some(files) = list.next().await? {
        let mut of_backend: HashMap<BackendId, Vec<(u64, FileId, u64)>> = HashMap::new();
        for file in &files {
            for (copy, backend) in (0..).zip(&file.replicas) {
                let copy = (file.number * MAX_COPIES + copy, file.id, file.row.size);
                of_backend.entry(*backend).or_default().push(copy);
            }
        }
        let found = of_backend.iter().map(|(backend, copies)| missing_on(cx, job, run, *backend, copies));
        missing.extend(futures::future::try_join_all(found).await?.into_iter().flatten());
    }
    if missing.is_empty() {
        return Ok(true);
    }
    tracing::warn!(job = %job.id, files = missing.len(), "files that had arrived are gone, and are downloaded again");
    for part in missing.chunks(MISSING_PART) {
        let forget = |draft: &mut Draft| {
            unchanged(draft, job)?;
            rows::delete_done(draft, job.id, part);
            Ok(())
        };
        cx.catalog.commit(forget).await?;
    }
    Ok(false)
}

/// Which of these copies a BE does not have.
async fn missing_on(
    cx: &Context,
    job: &Job,
    run: &Run,
    backend: BackendId,
    copies: &[(u64, FileId, u64)],
) -> Result<Vec<u64>> {
    let mut missing = Vec::new();
    for part in copies.chunks(CHECK_PART) {
        let number = run.progress.begin(backend);
        let checked = async {
            let work = Work::Check { files: part.iter().map(|(_, id, size)| (*id, *size)).collect() };
            let task = Task { owner: TaskOwner::Job(job.id, job.attempt), number, work };
            let mut events = cx.fleet.backend(backend)?.run("look for files", &task).await?;
            while let Some(event) = events.try_next().await? {
                if let Event::Missing(n) = event {
                    missing.extend(part.get(n as usize).map(|(number, _, _)| *number));
                }
            }
            Ok(())
        };
        let checked = checked.await;
        run.progress.end(number);
        checked?;
    }
    Ok(missing)
}

async fn swap(cx: &Context, job: &Job) -> Result<Job> {
    let plan = plan_of(cx, job).await?;
    let (repository, info) = snapshot(cx, job).await?;
    let meta = repository.read_meta(&info).await?;
    let mut list = FileList::new(&repository, &info, &plan, job)?;
    let mut files: HashMap<TabletId, Vec<RowsetFile>> = HashMap::new();
    while let Some(placed) = list.next().await? {
        for Placed { row, id, .. } in placed {
            // Mostly a tablet has one file.
            files.entry(id.tablet).or_insert_with(|| Vec::with_capacity(1)).push(RowsetFile {
                id,
                kind: row.kind,
                version: row.version,
                schema_version: row.schema_version,
                size: row.size,
                rows: row.rows,
                sha256: row.sha256,
                bounds: row.bounds,
            });
        }
    }
    let now = cx.clock.now();
    let next = Job { state: JobState::Committing, ..job.clone() };
    cx.advance(job, next, |draft| {
        let database = match draft.image().databases.get(&job.database) {
            Some(database) => database.id,
            None => draft.create_database(&job.database, now)?,
        };
        plan.tables
            .iter()
            .try_for_each(|table| install(draft, database, &meta.tables[table.source as usize], table, &mut files, now))
    })
    .await
}

/// Makes one table's new partitions what queries see.
fn install(
    draft: &mut Draft,
    database: DatabaseId,
    meta: &TableMeta,
    plan: &TablePlan,
    files: &mut HashMap<TabletId, Vec<RowsetFile>>,
    now: Timestamp,
) -> Result<()> {
    let conflict = || Error::Conflict(Entity::new(Kind::Table, &plan.name));
    let existing = draft.image().tables.get(&plan.id).cloned();
    if existing.as_ref().map(|table| table.schema.version) != plan.existing {
        return Err(conflict());
    }
    let mut partitions = Vec::new();
    for planned in &plan.partitions {
        let source = &meta.partitions[planned.source as usize];
        let places = planned.tablets.iter().flat_map(|(_, place)| place);
        if let Some(gone) = places.clone().find(|backend| !draft.image().backends.contains_key(backend)) {
            return Err(Error::Refused(format!("backend {gone}, which has files of the restore, has been dropped")));
        }
        let old = existing.as_ref().and_then(|table| table.partitions.get(&planned.name));
        if old.map(|old| old.id) != planned.replaces {
            return Err(conflict());
        }
        let tablet = |(id, replicas): &(TabletId, Vec<BackendId>)| {
            let mut files = files.remove(id).unwrap_or_default();
            files.sort_by_key(|file| (file.version, file.id));
            Arc::new(Tablet { id: *id, replicas: replicas.clone(), files: files.into() })
        };
        partitions.push(Partition {
            id: planned.id,
            name: planned.name.clone(),
            range: source.range.clone(),
            // A version that was seen here never comes again with other rows.
            version: source.version.max(old.map_or(0, |old| old.version + 1)),
            changed: now,
            replication: planned.replication,
            tablets: planned.tablets.iter().map(tablet).collect(),
        });
    }
    if existing.is_some() {
        return draft.put_partitions(plan.id, partitions);
    }
    draft.add_table(Table {
        id: plan.id,
        database,
        name: plan.name.clone(),
        schema: Arc::new(meta.schema.clone()),
        comment: meta.comment.clone(),
        partition_column: meta.partition_column.clone(),
        distribution: Distribution { columns: meta.distribution.clone(), buckets: meta.buckets },
        replication: plan.replication,
        created: now,
        raw: None,
        partitions: partitions.into_iter().map(|partition| (partition.name.clone(), Arc::new(partition))).collect(),
    })
}

async fn finish(cx: &Context, job: &Job) -> Result<Job> {
    let plan = plan_of(cx, job).await?;
    let tables = plan.tables.into_iter().map(|table| (table.name, table.partitions.len())).collect();
    // What was restored is in the repository: a backup of it need not upload it again.
    let know = know_snapshot(cx, job, tables).await?;
    let next = Job { state: JobState::Finished, finished: Some(cx.clock.now()), ..job.clone() };
    cx.advance(job, next, know).await
}
