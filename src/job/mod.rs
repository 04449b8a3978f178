//! Backup and restore jobs.
//!
//! A job is the durable execution of one `BACKUP` or `RESTORE` statement: a [`Job`] record in the catalog, and rows of
//! its own while it runs ([`rows`]). Each transition is one commit; an FE that stops at any instruction resumes from
//! what it wrote, as a new attempt.
//!
//! ```text
//! BACKUP   PENDING → SNAPSHOTING → UPLOAD_SNAPSHOT → UPLOADING → SAVE_META → UPLOAD_INFO → FINISHED
//! RESTORE  PENDING → SNAPSHOTING → DOWNLOAD → DOWNLOADING → COMMIT → COMMITTING → FINISHED
//!             └───────────┴────────────┴──────────┴───────────┴──────────┴──────→ CANCELLED
//! ```
//!
//! States alternate between deciding and doing. A deciding state leaves its decision in the next record; a doing state
//! may run again after a crash and meets its own earlier work there. Three things hold at every moment:
//!
//! * A database has at most one unfinished job. The lock is a record made in the transaction that submits the job.
//! * Work of an earlier attempt changes nothing: a transition is written only if the stored job still has the state
//!   and attempt it starts from, and files count only once the catalog or a committed snapshot names them.
//! * A snapshot exists once its `__info` does, and restored tables once the commit of `COMMIT` is written; neither
//!   before. What a job leaves behind when it fails is garbage, not damage.
//!
//! CANCEL writes `CANCELLED` itself, at once, wherever the job is; it is refused from `UPLOAD_INFO` on, where the
//! commit may already have been seen, and from `COMMITTING` on, where it has been (but see `Jobs::give_up`). [`backup`]
//! and [`restore`] say what the states do, [`tasks`] carries work to the BEs. BACKUP RAW and RESTORE RAW have fewer
//! states: see [`raw`].

mod backup;
mod health;
mod raw;
mod raw_session;
mod restore;
mod rows;
mod tasks;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::backup::BackupRequest;
pub use self::health::Health;
pub use self::raw::{RawOptions, RawRequest, RawWrites, read_backup};
pub use self::restore::{RestoreRequest, Target};
pub use self::rows::{pinned, selections};
pub use self::tasks::Progress;
use crate::catalog::{self, Catalog, Draft, Failure, FailureCode, Job, JobKind, JobState, Key, What};
use crate::clock::{Clock, crash_point};
use crate::error::{Error, Result};
use crate::repository::{LOCK_GRACE_MS, Repository};
use crate::rpc::fleet::Fleet;
use crate::rpc::message::RepositoryRef;
use crate::types::{Attempt, JobId, Name};

/// How long statements wait for a job that has ended to put its things away.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// Bytes of a message in the history.
const LONGEST_MESSAGE: usize = 2000;

/// How long CANCEL waits for a job that stores raw keys to end.
const GIVE_UP: Duration = Duration::from_secs(90);

/// Milliseconds after its end for which a BACKUP RAW tries to give its directory back: unlike a label's lock, the
/// directory's has no end of its own.
const RAW_CLEAN_UP_MS: i64 = 24 * 3_600_000;

/// How often a job that waits for BEs looks again.
const LOOK: Duration = Duration::from_millis(100);

/// What jobs work with.
pub(crate) struct Context {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) fleet: Fleet,
    pub(crate) clock: Clock,
    pub(crate) raw_writes: Arc<RawWrites>,
    pub(crate) health: Health,
}

/// Submits, resumes, cancels and watches jobs. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    cx: Arc<Context>,
    runs: Arc<Mutex<HashMap<JobId, Run>>>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

/// A job being run by this process.
#[derive(Clone, Default)]
struct Run {
    progress: Arc<Progress>,
    /// Whether the storage was asked to store its commit, or may have been by an earlier process.
    committing: Arc<AtomicBool>,
    /// Ends what the job waits for.
    cancel: CancellationToken,
    ended: CancellationToken,
}

impl Jobs {
    /// Nothing runs before [`Jobs::resume`].
    pub fn new(catalog: Arc<Catalog>, fleet: Fleet, clock: Clock, shutdown: CancellationToken) -> Self {
        let cx = Arc::new(Context { catalog, fleet, clock, raw_writes: Arc::default(), health: Health::default() });
        Self { cx, runs: Arc::default(), tracker: TaskTracker::new(), shutdown }
    }

    /// Takes up every unfinished job of the catalog, each as a new attempt, as soon as a BE has shown that the catalog is
    /// no old copy. Does not wait for that.
    pub async fn resume(&self) -> Result<()> {
        let image = self.cx.catalog.image();
        for job in image.jobs.values().filter(|job| !job.state.is_terminal()) {
            let committing = Arc::new((job.state == JobState::UploadInfo).into());
            let (cx, run) = (self.cx.clone(), Run { committing, ..Run::default() });
            let (job, waiting) = (Job::clone(job), run.clone());
            self.start(job.id, run, async move { cx.begin_again(job, &waiting).await });
        }
        // What an earlier process could not put away any more.
        let ended = |catalog: &Catalog| {
            let read = |id: JobId| Ok((id, catalog.job(id)?));
            let jobs = catalog.jobs_with_rows()?.into_iter().map(read).collect::<Result<Vec<_>>>()?;
            Ok(jobs.into_iter().filter(|(_, job)| job.as_ref().is_none_or(|job| job.state.is_terminal())).collect())
        };
        let ended: Vec<(JobId, Option<Job>)> = rows::blocking(&self.cx.catalog, ended).await?;
        for (id, job) in ended {
            let cx = self.cx.clone();
            self.tidy(id, async move {
                match job {
                    Some(job) => cx.put_away(&job, cx.clean_up(&job).await).await,
                    None => cx.delete_rows(id).await,
                }
            });
        }
        Ok(())
    }

    /// Waits until what runs has stopped, after shutdown.
    pub async fn stopped(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Submits a BACKUP. On return its lock, its label and its files are kept durably, and it runs. An error that the
    /// statement can be blamed for leaves nothing behind.
    pub async fn backup(&self, request: BackupRequest) -> Result<Arc<Job>> {
        crash_point("backup.pending.before");
        let job = backup::submit(&self.cx, request).await?;
        crash_point("backup.pending.after");
        let prepared = backup::prepare(&self.cx, &job).await;
        self.begin(job, prepared).await
    }

    /// Submits a RESTORE. On return its lock is kept and its tables are reserved durably, and it runs. An error that
    /// the statement can be blamed for leaves nothing behind.
    pub async fn restore(&self, request: RestoreRequest) -> Result<Arc<Job>> {
        crash_point("restore.pending.before");
        let job = restore::submit(&self.cx, request).await?;
        crash_point("restore.pending.after");
        let prepared = restore::prepare(&self.cx, &job).await;
        self.begin(job, prepared).await
    }

    /// Submits a BACKUP RAW or RESTORE RAW. On return the lock on raw keys is kept, a backup has its directory and a
    /// restore knows its files, durably, and it runs. An error that the statement can be blamed for leaves nothing behind.
    pub async fn raw(&self, request: RawRequest) -> Result<Arc<Job>> {
        let name = format!("{}-raw.pending", request.kind).to_lowercase();
        crash_point(&format!("{name}.before"));
        let job = raw::submit(&self.cx, request).await?;
        crash_point(&format!("{name}.after"));
        let prepared = raw::prepare(&self.cx, &job).await;
        self.begin(job, prepared).await
    }

    /// What writers of raw keys must agree on with jobs.
    pub fn raw_writes(&self) -> &RawWrites {
        &self.cx.raw_writes
    }

    async fn begin(&self, job: Job, prepared: Result<Job>) -> Result<Arc<Job>> {
        match prepared {
            Ok(job) => {
                let begun = Arc::new(job.clone());
                self.start(job.id, Run::default(), async { job });
                Ok(begun)
            }
            Err(err) => {
                self.cx.health.met(job.repository, self.cx.clock.now(), &err);
                if let Err(stuck) = self.cx.clean_up(&job).await {
                    tracing::warn!(job = %job.id, "a lock may stay: {}", stuck.report());
                    // That of raw keys has no deadline, and nobody else may take it away.
                    if matches!(job.what(), What::RawBackup(_))
                        && let Ok(failed) = self.cx.fail(&job, &err).await
                    {
                        let cx = self.cx.clone();
                        self.tidy(job.id, async move { cx.put_away(&failed, Err(stuck)).await });
                        return Err(err);
                    }
                }
                if let Err(stuck) = self.cx.withdraw(&job).await {
                    tracing::warn!(job = %job.id, "it goes on, because it cannot be taken back: {}", stuck.report());
                    self.start(job.id, Run::default(), async { job });
                }
                Err(err)
            }
        }
    }

    /// Puts away what an ended job has left, while others work.
    fn tidy(&self, id: JobId, work: impl Future<Output = Result<()>> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            if let Some(Err(err)) = shutdown.run_until_cancelled(work).await {
                tracing::warn!(job = %id, "its rows stay: {}", err.report());
            }
        });
    }

    fn start(&self, id: JobId, run: Run, job: impl Future<Output = Job> + Send + 'static) {
        let jobs = self.clone();
        self.lock().insert(id, run.clone());
        self.tracker.spawn(async move {
            let end = || {
                jobs.lock().remove(&id);
                run.ended.cancel();
            };
            let work = async {
                let job = jobs.cx.run(job.await, &run).await?;
                let mut cleaning = std::pin::pin!(jobs.cx.clean_up(&job));
                let cleaned = tokio::time::timeout(CLEAN_UP, &mut cleaning).await;
                end();
                let cleaned = match cleaned {
                    Ok(cleaned) => cleaned,
                    Err(_) => cleaning.await,
                };
                jobs.cx.put_away(&job, cleaned).await
            };
            // A shutdown stops between two instructions, as a crash would; the next start resumes.
            match jobs.shutdown.run_until_cancelled(AssertUnwindSafe(work).catch_unwind()).await {
                Some(Ok(Err(err))) => {
                    tracing::error!(job = %id, "the next start goes on with it: {}", err.report());
                }
                Some(Err(_)) => tracing::error!(job = %id, "bug: it panicked; the next start goes on with it"),
                Some(Ok(Ok(()))) | None => {}
            }
            end();
        });
    }

    /// Cancels the unfinished job of a kind that a database has, and waits until that is durable.
    pub async fn cancel(&self, kind: JobKind, database: &Name) -> Result<()> {
        let none = || match kind {
            JobKind::Backup => Error::Refused("No backup job is currently running".into()),
            // StarRocks leaves out "job" here.
            JobKind::Restore => Error::Refused("No restore is currently running".into()),
        };
        let now = self.cx.clock.now();
        let refused = |job: &Job| {
            Error::Refused(format!(
                "Failed to cancel job: Job with label {} can not be cancelled. state: {}",
                job.label, job.state
            ))
        };
        if let Some(job) = self.cx.catalog.image().last_job(kind, database)
            && matches!(job.what(), What::RawRestore(_))
            && (job.state == JobState::Committing && now >= job.deadline())
        {
            return self.give_up(job.id).await.map_err(|job| refused(&job));
        }
        let name = format!("{kind}.cancelled").to_lowercase();
        crash_point(&format!("{name}.before"));
        let id = self
            .cx
            .catalog
            .commit(|draft| {
                let job = draft.image().last_job(kind, database).ok_or_else(none)?;
                let decided = matches!(job.state, JobState::UploadInfo | JobState::Committing);
                if job.state.is_terminal() || decided {
                    return Err(refused(job));
                }
                let message = match kind {
                    JobKind::Backup => "user cancelled".to_owned(),
                    JobKind::Restore => format!("user cancelled, current state: {}", job.state),
                };
                let mut job = Job::clone(job);
                let from = std::mem::replace(&mut job.state, JobState::Cancelled);
                job.finished = Some(now);
                job.failure = Some(Failure { code: FailureCode::CommonError, message, state: Some(from) });
                let id = job.id;
                draft.put_job(job)?;
                Ok(id)
            })
            .await?;
        crash_point(&format!("{name}.after"));
        let run = self.lock().get(&id).cloned();
        if let Some(run) = run {
            run.cancel.cancel();
            // The label's lock is being given back; a store that does not answer must not keep the statement.
            let _ = tokio::time::timeout(CLEAN_UP, run.ended.cancelled()).await;
        }
        Ok(())
    }

    /// Has a RESTORE RAW end that has stored a part of the keys and does not get on, as when its storage is gone for good.
    /// It ends by itself, when nothing is stored for it any more. The error is the job if it has not ended so.
    async fn give_up(&self, id: JobId) -> Result<(), Job> {
        let run = self.lock().get(&id).cloned();
        if let Some(run) = run {
            run.cancel.cancel();
            let _ = tokio::time::timeout(GIVE_UP, run.ended.cancelled()).await;
        }
        let job = self.cx.catalog.image().jobs.get(&id).map(|job| Job::clone(job));
        // Later ones may have pushed it out of the image.
        job.filter(|job| job.state != JobState::Cancelled).map_or(Ok(()), Err)
    }

    /// Waits until a job has ended. An error tells why it was cancelled.
    pub async fn wait(&self, id: JobId) -> Result<Arc<Job>> {
        let run = self.lock().get(&id).cloned();
        if let Some(run) = run {
            run.ended.cancelled().await;
        }
        let job = self.cx.catalog.image().jobs.get(&id).cloned();
        let job = match job {
            Some(job) => job,
            // A later job of the database may have ended meanwhile.
            None => {
                let row = rows::blocking(&self.cx.catalog, move |catalog| catalog.job(id)).await?;
                Arc::new(row.ok_or_else(|| Error::internal(format_args!("job {id} is not in the history")))?)
            }
        };
        match (&job.failure, job.state.is_terminal()) {
            (Some(failure), _) => Err(Error::Cancelled(format!("{} job {id} was cancelled: {failure}", job.kind))),
            (None, true) => Ok(job),
            (None, false) => {
                Err(Error::Cancelled(format!("the server is stopping; {} job {id} goes on when it starts", job.kind)))
            }
        }
    }

    /// What is known of the repositories' problems.
    pub fn health(&self) -> &Health {
        &self.cx.health
    }

    /// How far a job is that this process runs.
    pub fn progress(&self, id: JobId) -> Option<Arc<Progress>> {
        self.lock().get(&id).map(|run| run.progress.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// Runs a job to its end. An error means that the catalog could not be used; the job is as it was.
    async fn run(&self, mut job: Job, run: &Run) -> Result<Job> {
        let mut failures = 0;
        while !job.state.is_terminal() {
            // A CANCEL, or a step that got through although it was given up on, may have changed it.
            match self.stored(&job).await {
                // Only jobs that have ended leave the image.
                Ok(None) => break,
                Ok(Some(stored)) if stored.state != job.state => {
                    (job, failures) = (stored, 0);
                    continue;
                }
                Ok(Some(_)) => {}
                Err(err) => {
                    self.pause(&job, run, &err, &mut failures).await;
                    continue;
                }
            }
            self.released(&job, run).await;
            let used = self.repository_record(&job);
            // A step may make transitions on its way.
            let current = Mutex::new(job.clone());
            let step = async {
                match job.what() {
                    What::Backup => backup::step(self, &job, run).await,
                    What::Restore => restore::step(self, &job, run).await,
                    What::RawBackup(_) | What::RawRestore(_) => raw::step(self, &job, run, &current).await,
                }
            };
            let step = AssertUnwindSafe(step).catch_unwind().map(|ended| {
                ended.unwrap_or_else(|_| {
                    tracing::error!(job = %job.id, "bug: a job panicked in {}", job.state);
                    Err(Error::internal("the job met a bug, which is in the log"))
                })
            });
            // What ends or holds it goes before the first instruction of its step.
            let outcome = tokio::select! {
                biased;
                // On an old copy of the catalog it would overwrite what is newer.
                () = self.catalog.held() => None,
                () = run.cancel.cancelled() => Some(Err(Error::Cancelled("user cancelled".into()))),
                () = self.deadline(&current) => {
                    let trouble = run.progress.trouble();
                    let why = if trouble.is_empty() { trouble } else { format!(": {trouble}") };
                    Some(Err(Error::Cancelled(format!("it was in {}{why}", job.state))))
                }
                outcome = step => Some(outcome),
            };
            job = current.into_inner().unwrap_or_else(PoisonError::into_inner);
            // What is refused because changes are held is no fault of the job's.
            let Some(outcome) = outcome.filter(|outcome| outcome.is_ok() || self.catalog.check_not_held().is_ok())
            else {
                continue;
            };
            let retry = |err: &Error| match job.state {
                // What is stored by halves must be stored; where nothing else is left to do, that is done in the end.
                JobState::Committing => matches!(job.what(), What::Restore) || err.is_retryable(),
                // Here the snapshot may exist without our knowing: only certainty that it does not ends the job, or a
                // repository that does not come back until nobody writes under the label's lock any more.
                JobState::UploadInfo => !is_certain(err) && self.clock.now() < job.deadline().plus_ms(LOCK_GRACE_MS),
                // ALTER REPOSITORY may have brought the credentials that were missing.
                _ => (err.is_retryable() || self.repository_record(&job) != used) && self.clock.now() < job.deadline(),
            };
            match &outcome {
                Ok(_) => self.health.works(job.repository),
                Err(err) => self.health.met(job.repository, self.clock.now(), err),
            }
            match outcome {
                Ok(next) if next.state < job.state => {
                    let again = Error::Cancelled(format!("{} begins again", next.state));
                    self.pause(&next, run, &again, &mut failures).await;
                    job = next;
                }
                Ok(next) => {
                    (job, failures) = (next, 0);
                    run.progress.set_trouble(String::new());
                }
                Err(err) if retry(&err) => self.pause(&job, run, &err, &mut failures).await,
                Err(err) => match self.at_rest(&job).await {
                    Ok(Some(stored)) if stored.state == job.state => match self.fail(&job, &err).await {
                        Ok(failed) => job = failed,
                        // The catalog cannot be written now, or the job has just changed: look again.
                        Err(err) => self.pause(&job, run, &err, &mut failures).await,
                    },
                    _ => {}
                },
            }
        }
        tracing::info!(job = %job.id, kind = %job.kind, state = %job.state, "ended");
        Ok(job)
    }

    /// The job as it is stored, once nothing that it has begun can change what it leaves to others.
    async fn at_rest(&self, job: &Job) -> Result<Option<Job>> {
        if matches!(job.what(), What::RawRestore(_)) && job.state == JobState::Committing {
            raw_session::quiet(self, job).await;
        }
        self.stored(job).await
    }

    /// Puts away what a job that has ended keeps outside of the catalog. May run twice.
    async fn clean_up(&self, job: &Job) -> Result<()> {
        match job.what() {
            What::Backup => backup::clean_up(self, job).await,
            What::RawBackup(_) => raw::clean_up(self, job).await,
            What::Restore | What::RawRestore(_) => Ok(()),
        }
    }

    /// Cleans up until that has succeeded, unless it is no use, and then deletes the job's rows: while an ended job has
    /// some, there is something to put away. `cleaned` is what came of the first try.
    async fn put_away(&self, job: &Job, mut cleaned: Result<()>) -> Result<()> {
        let until = match job.what() {
            What::RawBackup(_) => job.finished.unwrap_or(job.deadline()).plus_ms(RAW_CLEAN_UP_MS),
            _ => job.deadline().plus_ms(LOCK_GRACE_MS),
        };
        let mut failures = 0;
        while let Err(err) = cleaned {
            tracing::warn!(job = %job.id, "what it has left behind is not put away yet: {}", err.report());
            if !err.is_retryable() || self.clock.now() > until {
                break;
            }
            self.clock.sleep(self.clock.back_off(failures)).await;
            failures += 1;
            cleaned = self.clean_up(job).await;
        }
        self.delete_rows(job.id).await
    }

    /// Waits a while before the next try, longer after each failure.
    async fn pause(&self, job: &Job, run: &Run, err: &Error, failures: &mut u32) {
        tracing::warn!(job = %job.id, state = %job.state, "trying again: {}", err.report());
        run.progress.set_trouble(err.report());
        let cancelled = run.cancel.is_cancelled();
        tokio::select! {
            () = self.clock.sleep(self.clock.back_off(*failures)) => {}
            () = run.cancel.cancelled(), if !cancelled => {}
        }
        *failures += 1;
    }

    /// Waits for a job's deadline. In the states whose outcome must be found out there is none.
    async fn deadline(&self, current: &Mutex<Job>) {
        loop {
            let (state, deadline) = {
                let job = current.lock().unwrap_or_else(PoisonError::into_inner);
                (job.state, job.deadline())
            };
            if matches!(state, JobState::UploadInfo | JobState::Committing) {
                return std::future::pending().await;
            }
            let rest = deadline.0 - self.clock.now().0;
            if rest <= 0 {
                return;
            }
            // In slices, since the clock may be set.
            self.clock.sleep(Duration::from_millis(rest.min(1000) as u64)).await;
        }
    }

    /// Draws a new attempt of a job that an earlier process has left, durably, before any task of it is sent.
    async fn begin_again(&self, left: Job, run: &Run) -> Job {
        if !self.fleet.is_known() {
            run.progress.set_trouble("no backend has answered since the FE was started".into());
        }
        let may_end = !matches!(left.state, JobState::UploadInfo | JobState::Committing);
        let is_over = || run.cancel.is_cancelled() || may_end && self.clock.now() >= left.deadline();
        while !self.fleet.is_known() && !is_over() {
            self.clock.sleep(LOOK).await;
        }
        let mut failures = 0;
        loop {
            self.released(&left, run).await;
            let begun = self.catalog.commit(|draft| {
                draft.use_reserve();
                // It may have been cancelled meanwhile.
                let known = draft.image().jobs.get(&left.id).map(|job| Job::clone(job));
                let mut job = known.unwrap_or_else(|| left.clone());
                if draft.image().jobs.contains_key(&job.id) && !job.state.is_terminal() {
                    job.attempt = Attempt(job.attempt.0 + 1);
                    draft.put_job(job.clone())?;
                }
                Ok(job)
            });
            match begun.await {
                Ok(job) => {
                    tracing::info!(job = %job.id, kind = %job.kind, state = %job.state, "resuming");
                    return job;
                }
                Err(err) => self.pause(&left, run, &err, &mut failures).await,
            }
        }
    }

    /// Waits while changes are held.
    async fn released(&self, job: &Job, run: &Run) {
        let Err(reason) = self.catalog.check_not_held() else { return };
        tracing::warn!(job = %job.id, state = %job.state, "waiting: {}", reason.report());
        run.progress.set_trouble(reason.report());
        self.catalog.released().await;
        run.progress.set_trouble(String::new());
    }

    /// Takes a job to its next state: one commit, written only if the stored job is still the one `from`. `more` adds
    /// what belongs to the transition.
    async fn advance(&self, from: &Job, next: Job, more: impl FnOnce(&mut Draft) -> Result<()>) -> Result<Job> {
        self.advance_with(from, next, |draft, _| more(draft)).await
    }

    /// [`Context::advance`] where what belongs to the transition changes the job as well.
    async fn advance_with(
        &self,
        from: &Job,
        mut next: Job,
        more: impl FnOnce(&mut Draft, &mut Job) -> Result<()>,
    ) -> Result<Job> {
        if !from.leads_to(next.state) {
            return Err(Error::internal(format_args!("{} job from {} to {}", from.kind, from.state, next.state)));
        }
        let name = format!("{}.{}", next.what().name(), next.state).to_lowercase();
        // A plan or a swap of very many files takes the processor for a while, and a test may stop here.
        let commit = || {
            crash_point(&format!("{name}.before"));
            self.catalog.commit_blocking(|draft| {
                unchanged(draft, from)?;
                more(draft, &mut next)?;
                draft.put_job(next.clone())?;
                Ok(next)
            })
        };
        let next = tokio::task::block_in_place(commit)?;
        tokio::task::block_in_place(|| crash_point(&format!("{name}.after")));
        tracing::info!(job = %next.id, kind = %next.kind, "{} → {}", from.state, next.state);
        Ok(next)
    }

    /// Cancels a job for an error.
    async fn fail(&self, job: &Job, err: &Error) -> Result<Job> {
        let failure = failure(job, err, self.clock.now() >= job.deadline());
        tracing::warn!(job = %job.id, kind = %job.kind, state = %job.state, "cancelled: {}", failure.message);
        let mut next = job.clone();
        next.state = JobState::Cancelled;
        next.finished = Some(self.clock.now());
        next.failure = Some(failure);
        self.advance(job, next, |_| Ok(())).await
    }

    /// Takes back a job whose statement is answered with an error, unless it has ended and so is history.
    async fn withdraw(&self, job: &Job) -> Result<()> {
        let selections = Key::selections(job.id);
        let id = job.id;
        let keys = rows::blocking(&self.catalog, move |catalog| catalog.keys(selections)).await?;
        self.catalog
            .commit(|draft| {
                let withdrawn = draft.image().jobs.get(&job.id).is_some_and(|job| !job.state.is_terminal());
                if withdrawn {
                    draft.withdraw_job(job);
                    keys.into_iter().for_each(|key| draft.delete_row(key));
                }
                Ok(())
            })
            .await?;
        rows::blocking(&self.catalog, move |catalog| catalog.delete_job_rows(id)).await
    }

    /// The job as all that was submitted before has left it; that is durable on return. `None` if it has ended and
    /// another of its kind has too.
    async fn stored(&self, job: &Job) -> Result<Option<Job>> {
        self.catalog.commit(|draft| Ok(draft.image().jobs.get(&job.id).map(|job| Job::clone(job)))).await
    }

    async fn delete_rows(&self, id: JobId) -> Result<()> {
        rows::blocking(&self.catalog, move |catalog| catalog.delete_job_rows(id)).await
    }

    /// What the catalog knows of a job's repository now.
    fn repository_record(&self, job: &Job) -> Option<Arc<catalog::Repository>> {
        self.catalog.image().repositories.get(&job.repository_name).filter(|known| known.id == job.repository).cloned()
    }

    /// A job's repository, as BEs are told of it now.
    fn reference(&self, job: &Job) -> Result<RepositoryRef> {
        let known = self.repository_record(job);
        known.map(|known| reference(&known)).ok_or_else(|| gone(job))
    }

    /// A job's repository, once it is seen to be the one.
    async fn repository(&self, job: &Job) -> Result<Repository> {
        let known = self.repository_record(job).ok_or_else(|| gone(job))?;
        let opened = Repository::open(&known.name, &known.location, &known.properties)?;
        // Until it has begun, its statement waits.
        let opened = if job.state == JobState::Pending { opened.hasty() } else { opened };
        // Nothing may be written into a directory on which the storage is not mounted.
        opened.check(&known.uuid).await?;
        Ok(opened)
    }
}

/// Refuses if the stored job is another than the one that work began with.
fn unchanged(draft: &Draft, job: &Job) -> Result<()> {
    let now = draft.image().jobs.get(&job.id);
    match now.is_some_and(|now| now.state == job.state && now.attempt == job.attempt) {
        true => Ok(()),
        false => Err(Error::Cancelled(format!("job {} was changed meanwhile", job.id))),
    }
}

fn gone(job: &Job) -> Error {
    Error::Refused(format!("failed to get repository: {}", job.repository))
}

/// Whether an error in UPLOAD_INFO proves that the commit is not there and will not be.
fn is_certain(err: &Error) -> bool {
    matches!(err, Error::Cancelled(_))
}

/// What the history says of a job that an error has ended.
fn failure(job: &Job, err: &Error, timed_out: bool) -> Failure {
    let report = err.report();
    let unknown = job.state == JobState::UploadInfo && !is_certain(err);
    let (code, mut message) = match job.what() {
        What::RawBackup(raw) if unknown => (
            FailureCode::Timeout,
            format!(
                "the storage did not say until the deadline whether the backup is there; SHOW BACKUP RAW FROM '{}' tells \
                 when it answers again. {report}",
                raw.storage
            ),
        ),
        _ if unknown => (
            FailureCode::Timeout,
            format!(
                "the repository did not say until the deadline whether the snapshot is there; SHOW SNAPSHOT ON {} tells \
                 when it answers again. {report}",
                job.repository_name
            ),
        ),
        What::RawRestore(_) if job.state == JobState::Committing => {
            (FailureCode::CommonError, format!("a part of the keys may have been stored; RESTORE RAW again. {report}"))
        }
        // It is certain that there is none, whenever that showed.
        What::RawBackup(_) if job.state == JobState::UploadInfo => (FailureCode::CommonError, report),
        // StarRocks' text; what went wrong last is worth more than its empty message.
        _ if timed_out => {
            let kind = job.kind.to_string().to_lowercase();
            (FailureCode::Timeout, format!("{kind} job with label: {}  timeout. {report}", job.label))
        }
        _ if matches!(err, Error::NotFound(_)) => (FailureCode::NotFound, report),
        _ => (FailureCode::CommonError, report),
    };
    // Messages of any length must not keep a job from ending.
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push('…');
    }
    Failure { code, message, state: Some(job.state) }
}

/// A repository as BEs are told of it.
pub fn reference(repository: &catalog::Repository) -> RepositoryRef {
    RepositoryRef {
        name: repository.name.clone(),
        location: repository.location.clone(),
        properties: repository.properties.clone(),
        id: repository.uuid.clone(),
    }
}
