//! Tasks: each runs once at a time, and ends when its caller no longer listens.
//!
//! A file is reported once it is durable, never before: the caller records it as done.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use sha2::Digest;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Shared, blocking, raw};
use crate::clock::crash_point;
use crate::error::{Error, Result};
use crate::repository::{Content, LocalFile, Repository};
use crate::rpc::message::{DownloadFile, Event, Fetch, RepositoryRef, Task, TaskOwner, UploadObject, Work};
use crate::tablet::{Limits, RowsetOf, Staged, compact};
use crate::types::{FileId, RowsetFile, Schema, Sha256, TableId, TabletId, WriteId};

/// Files of one task that may be at work together, before the workers of the whole BE limit them.
const AT_ONCE: usize = 32;

/// Bytes that one request reads for several files.
const MAX_RUN: u64 = 8 << 20;

/// Files that one request reads, all open at once.
const RUN_FILES: usize = 64;

/// Bytes between two files that are rather read than skipped by another request.
const MAX_GAP: u64 = 64 << 10;

/// Runs of tasks now, each once.
#[derive(Default)]
pub struct Running {
    runs: Mutex<HashMap<(TaskOwner, u64), Run>>,
}

#[derive(Clone, Default)]
struct Run {
    cancel: CancellationToken,
    /// Held while it works.
    working: Arc<tokio::sync::Mutex<()>>,
}

impl Running {
    /// Does a task's work, after an earlier run of the same task has ended.
    async fn once(&self, key: (TaskOwner, u64), work: impl Future<Output = Result<()>>) -> Result<()> {
        let run = Run::default();
        let guard = run.working.clone().lock_owned().await;
        let earlier = self.lock().insert(key, run.clone());
        if let Some(earlier) = earlier {
            earlier.cancel.cancel();
            drop(earlier.working.lock().await);
        }
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = run.cancel.cancelled() => Err(Error::Cancelled("the task was sent again".into())),
        };
        let mut runs = self.lock();
        if runs.get(&key).is_some_and(|last| Arc::ptr_eq(&last.working, &run.working)) {
            runs.remove(&key);
        }
        drop(guard);
        outcome
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(TaskOwner, u64), Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a task done, and reported to `events`, until it is done, failed, or nobody listens any more.
pub fn start(be: Arc<Shared>, task: Task, events: mpsc::Sender<Result<Event>>) {
    tokio::spawn(run(be, task, events));
}

async fn run(be: Arc<Shared>, task: Task, events: mpsc::Sender<Result<Event>>) {
    let key = (task.owner, task.number);
    let work = async {
        tokio::select! {
            done = perform(&be, key, task.work, &events) => done,
            () = events.closed() => Err(Error::Cancelled("the caller has gone".into())),
        }
    };
    let ended = be.running.once(key, work).await.map(|()| Event::Ended);
    // Nobody may be listening.
    let _ = events.send(ended).await;
}

async fn perform(
    be: &Arc<Shared>,
    (owner, number_of_task): (TaskOwner, u64),
    work: Work,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    match work {
        Work::Confirm { files } => confirm(be, files, events).await,
        Work::Check { files } => check(be, files, events).await,
        Work::Probe { repository, writable } => probe(be, &repository, writable).await,
        Work::Upload { repository, objects } => upload(be, &repository, objects, events).await,
        Work::Download { repository, files } => download(be, &repository, files, events).await,
        Work::Clone { source, files } => clone(be, &source, files, events).await,
        Work::Compact { table, tablet, schema, write, files } => {
            compact_files(be, (table, tablet, write), schema, files, events).await
        }
        Work::RawSession { cut, of, target, speed } => {
            let about = raw::About { cut, of, target, speed };
            raw::session(be, owner, about, events).await
        }
        Work::RawBackup { storage, of, region, version, options } => {
            let part = raw::Part { of, region, version };
            raw::backup(be, be.raw_sessions.of(owner)?, number_of_task, storage, part, options, events).await
        }
        Work::RawFetch { storage, number, file, api_version, storing } => {
            let fetched = raw::Fetched { number, file, api_version };
            let outcome = raw::fetch(be, be.raw_sessions.of(owner)?, storage, fetched, events).await;
            outcome.map_err(|err| if storing { raw::worth_waiting(err) } else { err })
        }
        Work::RawIngest { number, file, api_version, now, cf, ranges } => {
            let (fetched, target) = (raw::Fetched { number, file, api_version }, raw::Target { cf, ranges, now });
            raw::ingest(be, be.raw_sessions.of(owner)?, number_of_task, fetched, target, events).await
        }
        Work::RawClear { cf, ranges } => {
            raw::clear(be, be.raw_sessions.of(owner)?, number_of_task, cf, ranges, events).await
        }
    }
}

pub(super) async fn report(events: &mpsc::Sender<Result<Event>>, event: Event) -> Result<()> {
    events.send(Ok(event)).await.map_err(|_| Error::Cancelled("the caller has gone".into()))
}

async fn confirm(be: &Arc<Shared>, files: Vec<(FileId, u64)>, events: &mpsc::Sender<Result<Event>>) -> Result<()> {
    let _worker = be.snapshots.take().await;
    crash_point("be.confirm");
    let (store, count) = (be.store.clone(), files.len() as u64);
    blocking(move || {
        for (id, size) in files {
            let found = store.has(id)?;
            if found != Some(size) {
                return Err(Error::Corrupt {
                    what: "rowset file",
                    path: format!("{id} at {}", store.path(id).display()),
                    message: match found {
                        None => "it is missing".into(),
                        Some(found) => format!("it has {found} bytes, not {size}"),
                    },
                });
            }
        }
        Ok(())
    })
    .await?;
    report(events, Event::Done(count)).await
}

/// Unlike [`confirm`], it goes on after the first that is not there.
async fn check(be: &Arc<Shared>, files: Vec<(FileId, u64)>, events: &mpsc::Sender<Result<Event>>) -> Result<()> {
    let _worker = be.snapshots.take().await;
    crash_point("be.check");
    let store = be.store.clone();
    let missing = blocking(move || {
        let mut missing = Vec::new();
        for (n, (id, size)) in (0..).zip(files) {
            if store.has(id)? != Some(size) {
                missing.push(n);
            }
        }
        Ok(missing)
    });
    for n in missing.await? {
        report(events, Event::Missing(n)).await?;
    }
    Ok(())
}

async fn open(repository: &RepositoryRef) -> Result<Repository> {
    let opened = Repository::open(&repository.name, &repository.location, &repository.properties)?;
    opened.check(&repository.id).await?;
    Ok(opened)
}

async fn probe(be: &Arc<Shared>, repository: &RepositoryRef, writable: bool) -> Result<()> {
    crash_point("be.probe");
    // A statement waits for it.
    let opened = Repository::open(&repository.name, &repository.location, &repository.properties)?.hasty();
    opened.check(&repository.id).await?;
    be.refuse_own(opened.local_path(), &repository.location).await?;
    if writable {
        opened.probe(&be.clock).await?;
    }
    Ok(())
}

async fn upload(
    be: &Arc<Shared>,
    repository: &RepositoryRef,
    objects: Vec<UploadObject>,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    let repository = &open(repository).await?;
    let mut first = 0;
    let numbered = objects.into_iter().map(|object| {
        let begin = first;
        first += object.files.len() as u64;
        (begin, object)
    });
    let one = async |_, (first, object): (u64, UploadObject)| {
        let worker = be.uploads.take().await;
        let moved = |bytes| drop(events.try_send(Ok(Event::Moved(bytes))));
        let files: Vec<LocalFile> = object
            .files
            .iter()
            .map(|file| LocalFile { id: file.id, path: be.store.path(file.id), sha256: file.sha256, size: file.size })
            .collect();
        repository.upload(&files, &object.object, &be.upload_speed, moved, worker).await?;
        for n in first..first + files.len() as u64 {
            report(events, Event::Done(n)).await?;
        }
        Ok(())
    };
    each(numbered.collect(), one).await
}

async fn download(
    be: &Arc<Shared>,
    repository: &RepositoryRef,
    files: Vec<DownloadFile>,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    let repository = &open(repository).await?;
    let one = async |_, run: Vec<(usize, DownloadFile)>| {
        let worker = be.downloads.take().await;
        crash_point("be.download");
        let Some((_, DownloadFile { object, .. })) = run.first() else { return Ok(()) };
        let (store, sizes) = (be.store.clone(), run.iter().map(|(_, file)| file.size).collect::<Vec<_>>());
        let stage = move || sizes.into_iter().map(|size| store.stage(Some(size))).collect::<Result<Vec<_>>>();
        let staged = blocking(stage).await?;
        let (targets, staged): (Vec<_>, Vec<_>) = staged.into_iter().unzip();
        let content = |(target, (_, file)): (std::fs::File, &(usize, DownloadFile))| Content {
            offset: file.offset,
            size: file.size,
            sha256: file.sha256,
            target,
        };
        let contents: Vec<Content> = targets.into_iter().zip(&run).map(content).collect();
        let moved = |bytes| drop(events.try_send(Ok(Event::Moved(bytes))));
        repository.download(object, contents, &be.download_speed, moved, worker).await?;
        let installed = staged.into_iter().zip(&run).map(|(staged, (_, file))| (staged, file.id)).collect();
        install(be, installed).await?;
        for (n, _) in &run {
            report(events, Event::Done(*n as u64)).await?;
        }
        Ok(())
    };
    each(runs(files), one).await
}

/// Groups files that lie near each other in one object, so that one request brings them.
fn runs(files: Vec<DownloadFile>) -> Vec<Vec<(usize, DownloadFile)>> {
    let mut numbered: Vec<(usize, DownloadFile)> = files.into_iter().enumerate().collect();
    numbered.sort_by(|(_, a), (_, b)| (&a.object, a.offset).cmp(&(&b.object, b.offset)));
    let mut runs: Vec<Vec<(usize, DownloadFile)>> = Vec::new();
    for (n, file) in numbered {
        let near = |run: &Vec<(usize, DownloadFile)>| {
            let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else { return false };
            let end = last.offset.saturating_add(last.size);
            last.object == file.object
                && run.len() < RUN_FILES
                && (end..=end.saturating_add(MAX_GAP)).contains(&file.offset)
                && file.offset.saturating_add(file.size) - first.offset <= MAX_RUN
        };
        match runs.last_mut().filter(|run| near(run)) {
            Some(run) => run.push((n, file)),
            None => runs.push(vec![(n, file)]),
        }
    }
    runs
}

async fn install(be: &Arc<Shared>, staged: Vec<(Staged, FileId)>) -> Result<()> {
    let store = be.store.clone();
    blocking(move || store.install(staged)).await
}

async fn clone(
    be: &Arc<Shared>,
    source: &str,
    files: Vec<RowsetFile>,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    // Whichever BE has the file: its id is of this content alone, which is checked.
    let source = &be.peers()?.at(source, None)?;
    let one = async |n: usize, file: RowsetFile| {
        crash_point("be.clone");
        let store = be.store.clone();
        let (target, staged) = blocking(move || store.stage(Some(file.size))).await?;
        let mut chunks = source.fetch(&Fetch { id: file.id }).await?;
        let mut state = (target, sha2::Sha256::new());
        while let Some(chunk) = chunks.try_next().await? {
            state = blocking(move || {
                let (mut target, mut hasher) = state;
                hasher.update(&chunk);
                std::io::Write::write_all(&mut target, &chunk).map_err(Error::io("write", "a cloned file"))?;
                Ok((target, hasher))
            })
            .await?;
        }
        if Sha256(state.1.finalize().into()) != file.sha256 {
            let path = format!("{} of backend {}", file.id, source.address());
            let message = "it is not what was written".into();
            return Err(Error::Corrupt { what: "rowset file", path, message });
        }
        install(be, vec![(staged, file.id)]).await?;
        report(events, Event::Done(n as u64)).await
    };
    each(files, one).await
}

/// Works on some files at once; the first error ends all.
async fn each<T, F: Future<Output = Result<()>>>(files: Vec<T>, one: impl Fn(usize, T) -> F) -> Result<()> {
    futures::stream::iter(files.into_iter().enumerate())
        .map(|(n, file)| one(n, file))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn compact_files(
    be: &Arc<Shared>,
    of: (TableId, TabletId, WriteId),
    schema: Schema,
    files: Vec<RowsetFile>,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    crash_point("be.compact");
    let store = be.store.clone();
    let (table, tablet, write) = of;
    let made = blocking(move || {
        let made =
            compact(&store, &files, RowsetOf { table, tablet, write, schema: schema.into() }, 0, Limits::default())?;
        let (files, staged): (Vec<_>, Vec<_>) =
            made.into_iter().map(|(file, staged)| (file.clone(), (staged, file.id))).unzip();
        store.install(staged)?;
        Ok(files)
    })
    .await?;
    report(events, Event::Made(made)).await
}
