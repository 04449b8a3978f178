//! What BACKUP RAW and RESTORE RAW do in each state.
//!
//! ```text
//! BACKUP RAW   PENDING → SNAPSHOTING ⇄ UPLOADING → UPLOAD_INFO → FINISHED
//! RESTORE RAW  PENDING → DOWNLOADING → COMMITTING → FINISHED
//! ```
//!
//! A backup claims its directory by `backup.lock`, which only one can create. In `SNAPSHOTING` a barrier keeps all
//! writes of raw keys away until every BE has a cut: what was acknowledged before is in it, what was sent after is not.
//! A cut is in a BE's memory, so that a crash of the FE or of a BE begins again from a new one; SSTs of the earlier one
//! are removed before `UPLOAD_INFO`, in which `backupmeta` is written, from rows of the job. It is the commit. One that is
//! cancelled removes its files and `backup.lock` once no BE sends anything any more, and tries that for a day.
//!
//! A restore brings and verifies all files before `COMMITTING`, in which entries are stored. That cannot be undone: a
//! crash repeats it, no deadline ends it, and CANCEL does so only after its deadline, as when its storage is gone for good.
//! Until it has ended, others may not write.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use tokio::sync::RwLock;
use uuid::Uuid;

use crate::catalog::{Amount, Draft, FIRST_ID, FailureCode, Job, JobKind, JobState, RawJob};
use crate::error::{Error, Result, blocking};
use crate::job::raw_session::{Lost, Owned, Session, SessionOf, Sessions, all, gone, patience, quiet};
use crate::job::{Context, Run, rows};
use crate::rawkv::backupmeta::{BackupFile, BackupMeta, CLUSTER_VERSION};
use crate::rawkv::layout::{LOCK, LOCK_CONTENT, META, SstName, check_unused, locked_by_another, not_mounted};
use crate::rawkv::sst::SstOptions;
use crate::rawkv::storage::Storage;
use crate::rawkv::value::ApiVersion;
use crate::repository::Folder;
use crate::rpc::message::{RawRange, RawStorage, Work};
use crate::types::{
    BackendId, ColumnFamily, Entity, JobId, KeyRange, Kind, Label, Name, Region, RegionId, RepositoryId, Sha256,
    StoreProperties,
};

/// The database whose lock raw jobs hold, and what messages call what has no repository.
const RAWKV: &str = "rawkv";

/// Bytes of a text for people in the job's record.
const MOST_SHOWN: usize = 512;

/// Files that are looked at together.
const LOOKS_AT_ONCE: usize = 32;

/// What writers of raw keys and jobs agree on.
#[derive(Debug, Default)]
pub struct RawWrites {
    /// Held by each write while it is on its way, and by a backup while it cuts.
    pub barrier: RwLock<()>,
    /// Held while BEs are given keys to hold.
    pub giving: tokio::sync::Mutex<()>,
    /// How much was written, and where.
    pub grown: Grown,
}

/// Bytes written to regions since their keys were looked at. In memory only: of a region that it does not know it takes
/// any write for one that makes it large.
#[derive(Debug, Default)]
pub struct Grown(Mutex<HashMap<RegionId, u64>>);

impl Grown {
    /// Bytes were written to a region.
    pub fn add(&self, region: RegionId, bytes: u64) {
        let mut grown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = grown.entry(region).or_insert(u64::MAX);
        *known = known.saturating_add(bytes);
    }

    /// Regions are to be looked at, whatever was written to them.
    pub fn again(&self, regions: impl IntoIterator<Item = RegionId>) {
        let unknown = regions.into_iter().map(|region| (region, u64::MAX));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(unknown);
    }

    /// Those that there are, by `exists`, and to which at least so many bytes were written. What is written from now on
    /// counts anew.
    pub fn take(&self, least: u64, exists: impl Fn(RegionId) -> bool) -> HashSet<RegionId> {
        let mut grown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        grown.retain(|region, _| exists(*region));
        let due = grown.iter_mut().filter(|(_, bytes)| **bytes >= least);
        due.map(|(region, bytes)| {
            *bytes = 0;
            *region
        })
        .collect()
    }
}

/// A BACKUP RAW or RESTORE RAW statement.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// What to do.
    pub kind: JobKind,
    /// Where the backup goes, or is.
    pub storage: Storage,
    /// The family.
    pub cf: ColumnFamily,
    /// The first key; empty is the first of all, or of the backup.
    pub start: Vec<u8>,
    /// The first key behind; empty is none, or the end of the backup.
    pub end: Vec<u8>,
    /// The rest.
    pub options: RawOptions,
    /// Milliseconds until it is given up.
    pub timeout_ms: i64,
}

/// How a raw job works.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RawOptions {
    /// Bytes a second that each BE moves; 0 is without limit.
    pub speed: u64,
    /// Tasks of a BE at a time.
    pub concurrency: Option<u32>,
    /// BACKUP: how files are written.
    pub sst: SstOptions,
    /// RESTORE: keys of the range that are not in the backup are deleted.
    pub replace: bool,
    /// RESTORE: how values are encoded, whatever the backup says of itself.
    pub api_version: Option<ApiVersion>,
}

/// What a job keeps of its statement, encrypted for the sake of credentials.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    location: String,
    properties: StoreProperties,
    layout: crate::rawkv::layout::Layout,
    #[serde(with = "serde_bytes")]
    start: Vec<u8>,
    #[serde(with = "serde_bytes")]
    end: Vec<u8>,
    options: RawOptions,
    /// Tells its lock apart from that of a server with a copy of this catalog, which gives its jobs the same numbers. Jobs
    /// of earlier releases have none.
    #[serde(default)]
    nonce: Option<Uuid>,
}

impl Kept {
    fn folder(&self) -> Result<Folder> {
        Folder::open("raw backup", &self.location, &self.properties)
    }

    fn storage(&self, cx: &Context, job: &Job) -> Arc<RawStorage> {
        let Self { location, properties, layout, .. } = self.clone();
        let seen = job.attempt.0 > 1 || job.state == JobState::Committing;
        Arc::new(RawStorage { location, properties, layout, lock: self.lock(cx, job), seen })
    }

    /// What `backup.lock` holds of the job's backup.
    fn lock(&self, cx: &Context, job: &Job) -> Vec<u8> {
        let cluster = cx.catalog.image().identity.cluster;
        let nonce = self.nonce.map(|nonce| format!(" nonce {nonce}")).unwrap_or_default();
        format!("{LOCK_CONTENT}holdfast cluster {cluster} job {}{nonce}\n", job.id).into_bytes()
    }

    async fn holds_lock(&self, cx: &Context, job: &Job, folder: &Folder) -> Result<bool> {
        Ok(folder.read(LOCK).await?.is_some_and(|content| content == self.lock(cx, job)))
    }

    /// [`Self::holds_lock`] of a job that has held it. A disk without it may not be mounted: that is an error, and may pass.
    async fn still_holds_lock(&self, cx: &Context, job: &Job, folder: &Folder) -> Result<bool> {
        match folder.read(LOCK).await? {
            None if folder.local_path().is_some() => Err(not_mounted(LOCK, &about(job)?.storage)),
            found => Ok(found.is_some_and(|content| content == self.lock(cx, job))),
        }
    }
}

/// Records the job and takes the lock on raw keys, in one commit.
pub(super) async fn submit(cx: &Context, request: RawRequest) -> Result<Job> {
    let now = cx.clock.now();
    let name = Name::new(RAWKV).map_err(Error::internal)?;
    let RawRequest { kind, storage, cf, start, end, options, timeout_ms } = request;
    let range = KeyRange::new(start.clone(), end.clone()).map_err(|invalid| Error::Analysis(invalid.0))?;
    let raw = RawJob { cf, storage: shown(storage.shown.clone()), range: shown(range.to_string()), meta: None };
    let Storage { location, properties, layout, .. } = storage;
    let kept = Kept { location, properties, layout, start, end, options, nonce: Some(cx.clock.uuid()) };
    let label = Label::new(cf.to_string()).map_err(Error::internal)?;
    cx.catalog
        .commit(|draft| {
            draft.image().database(&name)?;
            let id = JobId(draft.fresh_id());
            let mut job = Job::new(id, kind, name.clone(), label, (RepositoryId(0), name), now, timeout_ms);
            job.raw = Some(raw);
            job.timestamp = match kind {
                JobKind::Backup => now.backup_text(),
                JobKind::Restore => String::new(),
            };
            draft.add_job(job.clone())?;
            draft.put_job_secret(id, &kept)?;
            Ok(job)
        })
        .await
}

fn shown(mut text: String) -> String {
    if text.len() > MOST_SHOWN {
        text.truncate(text.floor_char_boundary(MOST_SHOWN));
        text.push('…');
    }
    text
}

fn about(job: &Job) -> Result<&RawJob> {
    job.raw.as_ref().ok_or_else(|| Error::internal("a raw job that is about nothing"))
}

async fn kept(cx: &Context, job: &Job) -> Result<Kept> {
    find_kept(cx, job).await?.ok_or_else(|| Error::internal(format_args!("job {} has lost its rows", job.id)))
}

async fn find_kept(cx: &Context, job: &Job) -> Result<Option<Kept>> {
    let id = job.id;
    rows::blocking(&cx.catalog, move |catalog| catalog.job_secret(id)).await
}

/// `PENDING`: a BACKUP claims its directory, a RESTORE reads what is to be restored.
pub(super) async fn prepare(cx: &Context, job: &Job) -> Result<Job> {
    let kept = kept(cx, job).await?;
    let now = cx.clock.now();
    match job.kind {
        JobKind::Backup => {
            check_backends(cx, job, &kept).await?;
            claim(cx, job, &kept).await?;
            let next = Job { state: JobState::Snapshoting, meta_prepared: Some(now), ..job.clone() };
            cx.advance(job, next, |_| Ok(())).await
        }
        JobKind::Restore => {
            let plan = Plan::read(job, &kept).await?;
            let mut next = Job { state: JobState::Downloading, meta_prepared: Some(now), ..job.clone() };
            plan.files.iter().for_each(|file| next.total.add(file.size));
            next.moved = next.total;
            next.raw =
                Some(RawJob { meta: Some(plan.sha256), range: shown(plan.range.to_string()), ..about(job)?.clone() });
            cx.advance(job, next, |_| Ok(())).await
        }
    }
}

/// Asks the BEs that live whether they hold what is to be backed up, and may write there. Writes nothing.
async fn check_backends(cx: &Context, job: &Job, kept: &Kept) -> Result<()> {
    let range = KeyRange::new(kept.start.clone(), kept.end.clone()).map_err(Error::internal)?;
    let image = cx.catalog.image();
    let storage = kept.storage(cx, job);
    let one = async |(owner, of)| {
        let about = SessionOf { cut: false, of, target: Some(storage.clone()), speed: 0 };
        match Session::open(cx, job, owner, about).await {
            // The statement need not wait until it is back.
            Err(err) if err.is_retryable() => Ok(()),
            Err(err) => Err(Error::Refused(err.report())),
            Ok(_) => Ok(()),
        }
    };
    let owned = owned(image.regions_in(about(job)?.cf, &range), &range);
    futures::future::try_join_all(owned.into_iter().map(one)).await.map(drop)
}

/// Does the work of the job's state and takes it further. A crash repeats the work.
/// Transitions that it makes on the way are put into `current`.
pub(super) async fn step(cx: &Context, job: &Job, run: &Run, current: &Mutex<Job>) -> Result<Job> {
    match (job.kind, job.state) {
        (_, JobState::Pending) => prepare(cx, job).await,
        (JobKind::Backup, JobState::Snapshoting) => backup(cx, job, run, current).await,
        // The cut was in memory of a process that is gone.
        (JobKind::Backup, JobState::Uploading) => cut_again(cx, job).await,
        (JobKind::Backup, JobState::UploadInfo) => commit(cx, job, run).await,
        (JobKind::Restore, JobState::Downloading | JobState::Committing) => restore(cx, job, run, current).await,
        (kind, other) => Err(Error::internal(format_args!("a raw {kind} in {other}"))),
    }
}

/// Takes a job to its next state in the midst of a step.
async fn advance(cx: &Context, job: &Job, next: Job, current: &Mutex<Job>) -> Result<Job> {
    let next = cx.advance(job, next, |_| Ok(())).await?;
    *current.lock().unwrap_or_else(PoisonError::into_inner) = next.clone();
    Ok(next)
}

/// Takes the directory, which must be unused. May run twice.
async fn claim(cx: &Context, job: &Job, kept: &Kept) -> Result<()> {
    // The statement waits for it.
    let folder = kept.folder()?.hasty();
    let uri = &about(job)?.storage;
    let check = async |own_lock: bool| {
        let names = folder.list(is_number).await?;
        let others = names.iter().map(String::as_str).filter(|name| !own_lock || *name != LOCK);
        check_unused(uri, others)
    };
    if !kept.holds_lock(cx, job, &folder).await? {
        check(false).await?;
        folder.write_new(LOCK, kept.lock(cx, job)).await?;
        if !kept.holds_lock(cx, job, &folder).await? {
            return Err(locked_by_another(uri));
        }
    }
    // Where a store knows no conditions, another backup may have come and gone since.
    check(true).await
}

/// Whether a folder may be that of a store.
fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The files of a family in a backup's directory, also those of regions and BEs that are gone. It was found without any
/// when its lock was made, so they are this job's, as long as it holds the lock and no other backup was finished there;
/// but br does not look at locks, and its stores have numbers that no BE has.
async fn own_files(cx: &Context, job: &Job, kept: &Kept, folder: &Folder) -> Result<Vec<String>> {
    let (cf, ids) = (about(job)?.cf, FIRST_ID..=cx.catalog.image().last_id());
    let is_own = |name: &String| SstName::store_of(kept.layout, cf, name).is_some_and(|store| ids.contains(&store));
    Ok(folder.list(is_number).await?.into_iter().filter(is_own).collect())
}

async fn cut_again(cx: &Context, job: &Job) -> Result<Job> {
    let attempt = crate::types::Attempt(job.attempt.0 + 1);
    let next = Job { state: JobState::Snapshoting, attempt, snapshot_finished: None, ..job.clone() };
    cx.advance(job, next, |_| Ok(())).await
}

/// `SNAPSHOTING` and `UPLOADING`: cuts, has the BEs write files, and decides `backupmeta`.
async fn backup(cx: &Context, job: &Job, run: &Run, current: &Mutex<Job>) -> Result<Job> {
    let kept = kept(cx, job).await?;
    let cf = about(job)?.cf;
    let range = KeyRange::new(kept.start.clone(), kept.end.clone()).map_err(Error::internal)?;
    // What earlier attempts have left may take long to end: writers shall not wait for that.
    let owners = owned(cx.catalog.image().regions_in(cf, &range), &range).into_keys();
    let ended = owners.map(|owner| Session::open(cx, job, owner, SessionOf::default()));
    drop(futures::future::try_join_all(ended).await?);
    let (sessions, regions) = {
        let _no_writes = no_writes(cx).await?;
        let image = cx.catalog.image();
        let regions: Vec<_> = image.regions_in(cf, &range).cloned().collect();
        let owned = owned(&regions, &range);
        (Sessions::open(cx, job, owned, true, Some(kept.storage(cx, job)), kept.options.speed).await?, regions)
    };
    let next = Job { state: JobState::Uploading, snapshot_finished: Some(cx.clock.now()), ..job.clone() };
    let job = &advance(cx, job, next, current).await?;

    let storage = kept.storage(cx, job);
    let part = |region: &Arc<Region>| {
        let range = region.range.intersection(&range)?;
        let of = RawRange { cf, range };
        let (storage, options) = (storage.clone(), kept.options.sst);
        Some((region.owner, Work::RawBackup { storage, of, region: region.id, version: region.version, options }))
    };
    let parts: Vec<_> = regions.iter().filter_map(part).collect();
    let files = Mutex::new(BTreeMap::new());
    let heard = |part: usize, backend: BackendId, saved: Vec<BackupFile>| {
        files.lock().unwrap_or_else(PoisonError::into_inner).insert(part, (backend, saved));
    };
    run.progress.files.store(parts.len() as u64, Ordering::Relaxed);
    // How many there will be is known at the end.
    run.progress.bytes.store(0, Ordering::Relaxed);
    run.progress.bytes_moved.store(0, Ordering::Relaxed);
    run.progress.files_done.store(0, Ordering::Relaxed);
    match sessions.during(all(cx, job, run, &kept.options, "back up raw keys", parts, heard)).await {
        Err(Lost::Session(err)) => {
            tracing::warn!(job = %job.id, "beginning again from a new cut: {}", err.report());
            return cut_again(cx, job).await;
        }
        Err(Lost::Work(err)) => return Err(err),
        Ok(()) => {}
    }
    let saved: Vec<(BackendId, Vec<BackupFile>)> = files.into_inner().unwrap_or_default().into_values().collect();
    let mut failures = 0;
    while let Err(err) = settle(cx, job, &kept, &saved).await {
        if !err.is_retryable() || cx.clock.now() >= job.deadline() {
            return Err(err);
        }
        // The files are there; to begin again would cost more than to wait.
        tracing::warn!(job = %job.id, "trying again: {}", err.report());
        cx.clock.sleep(cx.clock.back_off(failures)).await;
        failures += 1;
    }

    let files: Vec<BackupFile> = saved.into_iter().flat_map(|(_, files)| files).collect();
    let mut next = Job { state: JobState::UploadInfo, transfer_finished: Some(cx.clock.now()), ..job.clone() };
    let mut total = Amount::default();
    files.iter().for_each(|file| total.add(file.size));
    (next.total, next.moved) = (total, total);
    let meta = BackupMeta {
        cluster_id: (cx.catalog.image().identity.cluster.0.as_u128() >> 64) as u64,
        cluster_version: CLUSTER_VERSION.into(),
        br_version: format!("Holdfast {}", env!("CARGO_PKG_VERSION")),
        api_version: ApiVersion::V1,
        cf,
        range,
        files,
    };
    let encode = move || {
        let content = meta.encode();
        let sha256 = hash(&content);
        Ok((content, sha256))
    };
    let (content, sha256) = blocking(encode).await?;
    if content.len() as u64 > Folder::MAX_READ {
        let count = total.files;
        return Err(Error::Unsupported(format!("a backup of {count} files: its {META} would be too long")));
    }
    next.raw = Some(RawJob { meta: Some(sha256), ..about(job)?.clone() });
    cx.advance(job, next, |draft| rows::put_bytes(draft, job.id, &content)).await
}

/// Keeps writes of raw keys away, as soon as those under way have ended. They wait behind it, so it is given up soon.
async fn no_writes(cx: &Context) -> Result<tokio::sync::RwLockWriteGuard<'_, ()>> {
    let barrier = tokio::time::timeout(patience(), cx.raw_writes.barrier.write()).await;
    barrier.map_err(|_| gone("that is slow to write", "writes under way have not ended in time"))
}

fn hash(content: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(content).into())
}

/// Sees that every file is where this FE sees it too, and removes the others that earlier tries have left.
async fn settle(cx: &Context, job: &Job, kept: &Kept, saved: &[(BackendId, Vec<BackupFile>)]) -> Result<()> {
    let folder = kept.folder()?;
    let uri = &about(job)?.storage;
    check_own(cx, job, kept, &folder).await?;
    let mut files = Vec::new();
    for (backend, of_part) in saved {
        files.extend(of_part.iter().map(|file| (*backend, file)));
    }
    let look = |(backend, file): &(BackendId, &BackupFile)| {
        let (folder, backend, file) = (folder.clone(), *backend, BackupFile::clone(file));
        async move { folder.size(&file.name).await.map(|found| (backend, file, found)) }
    };
    // Collected for the sake of the compiler.
    let looks: Vec<_> = files.iter().map(look).collect();
    let mut found = futures::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
    while let Some((backend, file, found)) = found.try_next().await? {
        if found != Some(file.size) {
            let found = found.map_or_else(|| "is not there".to_owned(), |size| format!("has {size} bytes"));
            return Err(Error::Refused(format!(
                "{} {found}, seen from this frontend, and backend {} has written {} bytes to {uri}: every node must \
                 see the same directory",
                file.name,
                cx.fleet.address(backend),
                file.size
            )));
        }
    }
    let known: BTreeSet<&str> = files.iter().map(|(_, file)| file.name.as_str()).collect();
    for name in own_files(cx, job, kept, &folder).await? {
        if !known.contains(name.as_str()) {
            folder.remove(&name).await?;
        }
    }
    Ok(())
}

/// Refuses if the directory is another's by now.
async fn check_own(cx: &Context, job: &Job, kept: &Kept, folder: &Folder) -> Result<()> {
    let raw = about(job)?;
    let other = read_meta(folder).await?.is_some_and(|(_, found)| raw.meta != Some(found));
    match other || !kept.still_holds_lock(cx, job, folder).await? {
        true => Err(locked_by_another(&raw.storage)),
        false => Ok(()),
    }
}

/// `UPLOAD_INFO`: writes `backupmeta`. May run twice.
async fn commit(cx: &Context, job: &Job, run: &Run) -> Result<Job> {
    let written = write_meta(cx, job, run).await;
    written.map_err(|err| match err.is_retryable() || run.committing.load(Ordering::Relaxed) {
        // It may be there.
        true => err,
        false => Error::Cancelled(err.report()),
    })?;
    let next = Job { state: JobState::Finished, finished: Some(cx.clock.now()), ..job.clone() };
    cx.advance(job, next, |_| Ok(())).await
}

/// Writes `backupmeta` and reads it back. Whoever knows that it is not there, and will not be, says [`Error::Cancelled`].
async fn write_meta(cx: &Context, job: &Job, run: &Run) -> Result<()> {
    let kept = kept(cx, job).await?;
    let (id, raw) = (job.id, about(job)?);
    let content = rows::blocking(&cx.catalog, move |catalog| rows::bytes(catalog, id)).await?;
    let folder = kept.folder()?;
    let is_own = |found: &Option<(Vec<u8>, Sha256)>| found.as_ref().map(|(_, sha256)| *sha256) == raw.meta;
    let found = read_meta(&folder).await?;
    if is_own(&found) {
        // On a disk, what is read may never have been synced: so it is written again.
        if folder.local_path().is_none() {
            return Ok(());
        }
    } else {
        if !kept.still_holds_lock(cx, job, &folder).await? {
            return Err(Error::Cancelled(format!("{LOCK} in {} is gone, or is another backup's", raw.storage)));
        }
        // Where a store knows no conditions, another may have taken the directory and given it back since. What else
        // stands there may be this job's own, cut short.
        if let Some((found, _)) = found
            && decode(found, &raw.storage).await.is_ok()
        {
            return Err(Error::Cancelled(locked_by_another(&raw.storage).report()));
        }
    }
    let asked = run.committing.swap(true, Ordering::Relaxed);
    if let Err(err) = folder.write_whole(META, content).await {
        // What a disk refuses is not on its way to it.
        let refused = !asked && !err.is_retryable() && folder.local_path().is_some();
        return match refused && !is_own(&read_meta(&folder).await?) {
            true => Err(Error::Cancelled(err.report())),
            false => Err(err),
        };
    }
    match is_own(&read_meta(&folder).await?) {
        true => Ok(()),
        false => Err(Error::Repository {
            place: "raw backup".into(),
            operation: "read back".into(),
            path: format!("{META} in {}", raw.storage),
            source: "it is not what was written".into(),
            retryable: true,
        }),
    }
}

/// Gives the directory of a backup back that has not come to `backupmeta`. May run twice.
pub(super) async fn clean_up(cx: &Context, job: &Job) -> Result<()> {
    if job.state == JobState::Finished {
        return Ok(());
    }
    let decided = job.raw.as_ref().is_some_and(|raw| raw.meta.is_some());
    if decided && job.failure.as_ref().is_some_and(|failure| failure.code == FailureCode::Timeout) {
        tracing::warn!(job = %job.id, "files of the backup stay, because {META} may yet come to be there");
        return Ok(());
    }
    let Some(kept) = find_kept(cx, job).await? else { return Ok(()) };
    let began = job.meta_prepared.is_some();
    // A statement may be waiting.
    let folder = if began { kept.folder()? } else { kept.folder()?.hasty() };
    if began {
        // A file that is still on its way would come back.
        quiet(cx, job).await;
    }
    let held = match began {
        true => kept.still_holds_lock(cx, job, &folder).await?,
        false => kept.holds_lock(cx, job, &folder).await?,
    };
    // With what it has decided to write, it is a backup.
    if !held || decided && folder.size(META).await?.is_some() {
        return Ok(());
    }
    // Where it has written nothing, or another has finished, files that look like its own are not.
    if began && folder.size(META).await?.is_none() {
        for name in own_files(cx, job, &kept, &folder).await? {
            folder.remove(&name).await?;
        }
    }
    folder.remove(LOCK).await
}

/// Reads what a backup holds, and the hash of `backupmeta`. `uri` is for messages.
pub async fn read_backup(folder: &Folder, uri: &str) -> Result<(BackupMeta, Sha256)> {
    let (content, sha256) = read_meta(folder).await?.ok_or_else(|| {
        Error::Refused(format!("there is no {META} in {uri}: it holds no backup, or one that was cut short"))
    })?;
    Ok((decode(content, uri).await?, sha256))
}

/// What is in `backupmeta`, and its hash.
async fn read_meta(folder: &Folder) -> Result<Option<(Vec<u8>, Sha256)>> {
    let Some(content) = folder.read(META).await? else { return Ok(None) };
    let hashed = move || {
        let sha256 = hash(&content);
        Ok(Some((content, sha256)))
    };
    blocking(hashed).await
}

async fn decode(content: Vec<u8>, uri: &str) -> Result<BackupMeta> {
    let uri = uri.to_owned();
    blocking(move || BackupMeta::decode(&content, &uri)).await
}

/// What a RESTORE is to do.
struct Plan {
    sha256: Sha256,
    range: KeyRange,
    files: Vec<BackupFile>,
    api_version: ApiVersion,
}

impl Plan {
    async fn read(job: &Job, kept: &Kept) -> Result<Self> {
        let raw = about(job)?;
        let folder = kept.folder()?;
        // The statement waits for it.
        let folder = if job.state == JobState::Pending { folder.hasty() } else { folder };
        if raw.meta.is_some() && folder.local_path().is_some() && folder.size(META).await?.is_none() {
            return Err(not_mounted(META, &raw.storage));
        }
        let (meta, sha256) = read_backup(&folder, &raw.storage).await?;
        if raw.meta.is_some_and(|known| known != sha256) {
            return Err(Error::Refused(format!("{META} in {} was changed since the restore began", raw.storage)));
        }
        let range = meta.restore_range(raw.cf, &kept.start, &kept.end)?;
        let files = meta.files_in(&range).cloned().collect();
        Ok(Self { sha256, range, files, api_version: kept.options.api_version.unwrap_or(meta.api_version) })
    }
}

/// `DOWNLOADING` and `COMMITTING`: brings and verifies all files, then stores what is in them.
async fn restore(cx: &Context, job: &Job, run: &Run, current: &Mutex<Job>) -> Result<Job> {
    let kept = kept(cx, job).await?;
    let cf = about(job)?.cf;
    let plan = Plan::read(job, &kept).await?;
    let image = cx.catalog.image();
    let owned = owned(image.regions_in(cf, &plan.range), &plan.range);
    if owned.is_empty() {
        return Err(Error::Refused(format!("the keys of column family {cf} were given up meanwhile")));
    }
    let planned = places(&owned);
    let (mut fetch, mut ingest, mut bytes) = (Vec::new(), Vec::new(), 0);
    let (storage, api_version) = (kept.storage(cx, job), plan.api_version);
    let storing = job.state == JobState::Committing;
    let now = (cx.clock.now().0 / 1000).unsigned_abs();
    for (number, file) in (0..).zip(&plan.files) {
        let Some(wanted) = file.range.intersection(&plan.range) else { continue };
        let mut of_owner: BTreeMap<BackendId, Vec<KeyRange>> = BTreeMap::new();
        for region in image.regions_in(cf, &wanted) {
            of_owner.entry(region.owner).or_default().extend(region.range.intersection(&wanted));
        }
        for (owner, ranges) in of_owner {
            bytes += file.size;
            let (file, storage) = (Arc::new(file.clone()), storage.clone());
            fetch.push((owner, Work::RawFetch { storage, number, file: file.clone(), api_version, storing }));
            ingest.push((owner, Work::RawIngest { number, file, api_version, now, cf, ranges }));
        }
    }
    let ranges = |of: &[RawRange]| of.iter().map(|of| of.range.clone()).collect();
    let clear = |(owner, of): (&BackendId, &Vec<RawRange>)| (*owner, Work::RawClear { cf, ranges: ranges(of) });
    let clear: Vec<_> = if kept.options.replace { owned.iter().map(clear).collect() } else { Vec::new() };

    let progress = &run.progress;
    progress.files.store((fetch.len() + ingest.len()) as u64, Ordering::Relaxed);
    progress.files_done.store(0, Ordering::Relaxed);
    // A file goes to each BE that owns a part of its keys.
    progress.bytes.store(bytes, Ordering::Relaxed);
    progress.bytes_moved.store(0, Ordering::Relaxed);
    let sessions = Sessions::open(cx, job, owned, false, None, kept.options.speed).await?;
    let options = &kept.options;
    let work = async {
        all(cx, job, run, options, "bring a file of a raw backup", fetch, |_, _, _| {}).await?;
        let mut job = job.clone();
        if job.state == JobState::Downloading {
            let next = Job { state: JobState::Committing, transfer_finished: Some(cx.clock.now()), ..job.clone() };
            // New writes have been refused since the job is there; those that were under way have ended now.
            drop(no_writes(cx).await?);
            job = advance(cx, &job, next, current).await?;
        }
        all(cx, &job, run, options, "delete raw keys", clear, |_, _, _| {}).await?;
        all(cx, &job, run, options, "store raw keys", ingest, |_, _, _| {}).await?;
        cx.raw_writes.grown.again(cx.catalog.image().regions_in(cf, &plan.range).map(|region| region.id));
        let next = Job { state: JobState::Finished, finished: Some(cx.clock.now()), ..job.clone() };
        // What has moved to another BE has nothing of what was stored.
        let unmoved = |draft: &mut Draft| {
            let now = places(&self::owned(draft.image().regions_in(cf, &plan.range), &plan.range));
            if now == planned { Ok(()) } else { Err(Error::Conflict(Entity::new(Kind::Job, job.id))) }
        };
        cx.advance(&job, next, unmoved).await
    };
    sessions.during(work).await.map_err(|(Lost::Session(err) | Lost::Work(err))| err)
}

fn owned<'a>(regions: impl IntoIterator<Item = &'a Arc<Region>>, range: &KeyRange) -> Owned {
    let mut owned = Owned::new();
    for region in regions {
        let range = region.range.intersection(range).map(|range| RawRange { cf: region.cf, range });
        owned.entry(region.owner).or_default().extend(range);
    }
    owned
}

/// The keys that each BE owns, however they are divided into regions.
fn places(owned: &Owned) -> BTreeMap<BackendId, Vec<KeyRange>> {
    let ranges = |of: &[RawRange]| KeyRange::union(of.iter().map(|of| of.range.clone()).collect());
    owned.iter().map(|(owner, of)| (*owner, ranges(of))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A region is read when it may have grown by much, and not after each write.
    #[test]
    fn a_region_is_looked_at_when_much_was_written() {
        let (grown, [a, b]) = (Grown::default(), [1, 2].map(RegionId));
        let take = || grown.take(100, |_| true);
        grown.add(a, 1);
        assert_eq!(take(), [a].into(), "nobody knows how large it is");
        grown.add(a, 99);
        grown.add(b, 1);
        assert_eq!(take(), [b].into());
        grown.add(a, 1);
        assert_eq!(take(), [a].into());
        assert!(take().is_empty());
        grown.again([a, b]);
        grown.add(b, 1);
        assert_eq!(grown.take(100, |region| region == b), [b].into(), "one is gone");
        assert!(take().is_empty());
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(shown("é".repeat(300)).chars().count(), MOST_SHOWN / 2 + 1);
        assert_eq!(shown("short".into()), "short");
    }
}
