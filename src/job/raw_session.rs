//! What jobs of raw keys have BEs do: a session on each keeps an attempt's cut and speed, and tasks are done within it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Job, JobState};
use crate::clock;
use crate::error::{Error, Result};
use crate::job::raw::RawOptions;
use crate::job::tasks::Progress;
use crate::job::{Context, Run};
use crate::rawkv::backupmeta::BackupFile;
use crate::rpc::client::Backend;
use crate::rpc::message::{Event, RawRange, RawStorage, Task, TaskOwner, Work};
use crate::types::{BackendId, Entity, Kind};

/// Tasks of a BE at a time where the statement does not say.
const CONCURRENCY: usize = 4;

/// Milliseconds that writes under way may take to end, and BEs to begin a session, before a step is tried again.
const PATIENCE_MS: usize = 10_000;

/// What BEs own of what a job is about.
pub(super) type Owned = BTreeMap<BackendId, Vec<RawRange>>;

/// What a session is for.
#[derive(Default)]
pub(super) struct SessionOf {
    pub cut: bool,
    pub of: Vec<RawRange>,
    pub target: Option<Arc<RawStorage>>,
    pub speed: u64,
}

/// The session that a BE keeps for an attempt; dropping it ends it.
pub(super) struct Session {
    backend: Backend,
    events: BoxStream<'static, Result<Event>>,
}

impl Session {
    pub async fn open(cx: &Context, job: &Job, owner: BackendId, about: SessionOf) -> Result<Self> {
        // Beside all numbers that tasks draw.
        let number = u64::MAX;
        let SessionOf { cut, of, target, speed } = about;
        let work = Work::RawSession { cut, of, target, speed };
        let task = Task { owner: TaskOwner::Job(job.id, job.attempt), number, work };
        let backend = reach(cx, owner)?;
        let opening = async {
            let mut events = backend.run("begin raw work", &task).await?;
            match events.next().await {
                Some(Ok(Event::Done(_))) => Ok(events),
                Some(Err(err)) => Err(err),
                _ => Err(Error::internal("a session that has not begun")),
            }
        };
        // Writes may be waiting for it.
        let opened = tokio::time::timeout(patience(), opening).await;
        let late = "it has not begun in time; earlier work of the job may still go on there";
        let events = opened.unwrap_or_else(|_| Err(gone(backend.address(), late)))?;
        Ok(Self { backend, events })
    }
}

/// A BE that owned regions when the work was planned. If it was dropped since, another owns them: the work is to be
/// planned anew.
fn reach(cx: &Context, owner: BackendId) -> Result<Backend> {
    match cx.fleet.is_dropped(owner) {
        true => Err(Error::Conflict(Entity::new(Kind::Backend, owner))),
        false => cx.fleet.backend(owner),
    }
}

/// The sessions that BEs keep for an attempt; dropping them ends them.
pub(super) struct Sessions {
    lost: CancellationToken,
    cause: Arc<Mutex<Option<Error>>>,
    _kept: JoinSet<()>,
}

/// Why work on raw keys ended.
pub(super) enum Lost {
    /// A BE no longer keeps its session.
    Session(Error),
    /// Anything else.
    Work(Error),
}

impl Sessions {
    /// Opens a session on each BE, about what it owns; returns when all are open.
    pub async fn open(
        cx: &Context,
        job: &Job,
        owned: Owned,
        cut: bool,
        target: Option<Arc<RawStorage>>,
        speed: u64,
    ) -> Result<Self> {
        let open = |(owner, of)| Session::open(cx, job, owner, SessionOf { cut, of, target: target.clone(), speed });
        let opening = owned.into_iter().map(open);
        let opened = futures::future::try_join_all(opening).await?;
        let (lost, cause) = (CancellationToken::new(), Arc::new(Mutex::new(None)));
        let mut kept = JoinSet::new();
        for Session { backend, mut events } in opened {
            let (lost, cause) = (lost.clone(), cause.clone());
            kept.spawn(async move {
                let err = loop {
                    match events.next().await {
                        Some(Ok(_)) => {}
                        Some(Err(err)) => break err,
                        None => break gone(backend.address(), "it has ended it"),
                    }
                };
                *cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(err);
                lost.cancel();
            });
        }
        Ok(Self { lost, cause, _kept: kept })
    }

    /// Works while all sessions are kept.
    pub async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T, Lost> {
        tokio::select! {
            outcome = work => outcome.map_err(Lost::Work),
            () = self.lost.cancelled() => {
                let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(Lost::Session(cause.unwrap_or_else(|| gone("unknown", "it has ended it"))))
            }
        }
    }
}

pub(super) fn gone(backend: &str, why: &str) -> Error {
    Error::Backend {
        backend: backend.to_owned(),
        operation: "keep raw work".into(),
        source: why.into(),
        retryable: true,
    }
}

/// Does work of BEs, some of each at a time, and what fails and may pass again and again until the deadline. `heard`
/// gets the files that the last try of a part has saved.
pub(super) async fn all(
    cx: &Context,
    job: &Job,
    run: &Run,
    options: &RawOptions,
    operation: &str,
    parts: Vec<(BackendId, Work)>,
    heard: impl Fn(usize, BackendId, Vec<BackupFile>),
) -> Result<()> {
    let mut queues: BTreeMap<BackendId, Vec<(usize, Work)>> = BTreeMap::new();
    for (part, (backend, work)) in parts.into_iter().enumerate() {
        queues.entry(backend).or_default().push((part, work));
    }
    let at_once = options.concurrency.map_or(CONCURRENCY, |count| count as usize);
    let (progress, heard) = (&run.progress, &heard);
    let one = |backend: BackendId, part: usize, work: Work| async move {
        let task = progress.begin(backend);
        let _begun = Begun(progress, task);
        let mut failures = 0;
        loop {
            match once(cx, job, run, operation, backend, task, &work).await {
                Ok(files) => {
                    heard(part, backend, files);
                    progress.files_done.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(err @ Error::Conflict(_)) => return Err(err),
                Err(err)
                    if err.is_retryable() && (cx.clock.now() < job.deadline() || job.state == JobState::Committing) =>
                {
                    tracing::warn!(job = %job.id, "{}", err.report());
                    progress.fail(task, err.report());
                    cx.clock.sleep(cx.clock.back_off(failures)).await;
                    failures += 1;
                }
                Err(err) => return Err(err),
            }
        }
    };
    let queue = |(backend, queue): (BackendId, Vec<(usize, Work)>)| {
        let work = futures::stream::iter(queue).map(move |(part, work)| one(backend, part, work));
        work.buffer_unordered(at_once).try_collect::<Vec<()>>()
    };
    futures::future::try_join_all(queues.into_iter().map(queue)).await.map(drop)
}

/// Forgets a task, however it ends.
struct Begun<'a>(&'a Progress, u64);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

/// One try of a task; returns the files that it has saved.
async fn once(
    cx: &Context,
    job: &Job,
    run: &Run,
    operation: &str,
    backend: BackendId,
    number: u64,
    work: &Work,
) -> Result<Vec<BackupFile>> {
    let task = Task { owner: TaskOwner::Job(job.id, job.attempt), number, work: work.clone() };
    let mut events = reach(cx, backend)?.run(operation, &task).await?;
    let mut files = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            Event::Moved(bytes) => {
                run.progress.bytes_moved.fetch_add(bytes, Ordering::Relaxed);
            }
            Event::Saved(file) => {
                run.progress.bytes.fetch_add(file.size, Ordering::Relaxed);
                files.push(file);
            }
            Event::Done(_) | Event::Ended | Event::Made(_) | Event::Missing(_) => {}
        }
    }
    Ok(files)
}

/// Returns when no BE that lives stores anything for a job any more, be it of an earlier attempt or try: others may write
/// once it has ended. A BE that is dead stores nothing, or ends with its connection. A request over a network that hangs
/// may take very long, so no statement may wait for this.
pub(super) async fn quiet(cx: &Context, job: &Job) {
    // Also of BEs that have lost their regions meanwhile.
    let one = async |owner: BackendId| {
        for failures in 0.. {
            match Session::open(cx, job, owner, SessionOf::default()).await {
                Err(err) if err.is_retryable() && cx.fleet.is_alive(owner) => {
                    tracing::warn!(job = %job.id, "work of it may still go on: {}", err.report());
                    cx.clock.sleep(cx.clock.back_off(failures)).await;
                }
                // One without raw keys has nothing to store them in.
                _ => return,
            }
        }
    };
    futures::future::join_all(cx.fleet.alive().into_iter().map(one)).await;
}

pub(super) fn patience() -> Duration {
    Duration::from_millis(clock::size("raw.patience-ms", PATIENCE_MS) as u64)
}
