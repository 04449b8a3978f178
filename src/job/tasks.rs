//! Work on many files, spread over BEs, until all of it is done.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use futures::StreamExt;

use crate::catalog::{Amount, Job, JobKind};
use crate::clock;
use crate::error::{Error, Result};
use crate::job::Context;
use crate::rpc::message::{Event, Task, TaskOwner, Work};
use crate::types::BackendId;

/// Files of one task, so that progress is seen and other jobs get their turn; small ones more, so that few objects hold
/// them.
const TASK_FILES: usize = 64;

/// Small files of one task.
const TASK_SMALL_FILES: usize = 1024;

/// Bytes up to which a task's files are small.
const TASK_SMALL_BYTES: u64 = 16 << 20;

/// Tasks that one BE gets of a job at a time: while one ends, the next has begun.
const TASKS_AT_ONCE: usize = 2;

/// A file to work on.
pub(super) struct Item {
    /// Its number in the job, by which it is recorded as done.
    pub number: u64,
    /// The BEs that can do it.
    pub candidates: Arc<[BackendId]>,
    /// Its bytes.
    pub bytes: u64,
}

/// How far the current step of a job is; shown, never stored.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files of the step.
    pub files: AtomicU64,
    /// Those that are done.
    pub files_done: AtomicU64,
    /// Bytes of the step.
    pub bytes: AtomicU64,
    /// Those that have moved, the ones of failed tries included.
    pub bytes_moved: AtomicU64,
    /// Tasks under way: number and BE.
    tasks: std::sync::Mutex<HashMap<u64, (BackendId, String)>>,
    next_task: AtomicU64,
    /// Why the job tries something again; empty once it gets on.
    trouble: std::sync::Mutex<String>,
}

impl Progress {
    /// Tasks under way, each with its BE and the message of its last failure.
    pub fn tasks(&self) -> Vec<(u64, BackendId, String)> {
        let mut tasks: Vec<_> = self.lock().iter().map(|(n, (backend, err))| (*n, *backend, err.clone())).collect();
        tasks.sort();
        tasks
    }

    /// Why the job tries something again; empty if it gets on.
    pub fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_trouble(&self, message: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }

    /// Says how much there is to do, and how much of it is done.
    pub(super) fn start(&self, all: Amount, done: Amount) {
        self.files.store(all.files, Ordering::Relaxed);
        self.bytes.store(all.bytes, Ordering::Relaxed);
        self.files_done.store(done.files, Ordering::Relaxed);
        self.bytes_moved.store(done.bytes, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, backend: BackendId) -> u64 {
        let number = self.next_task.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, (backend, String::new()));
        number
    }

    pub(super) fn fail(&self, task: u64, message: String) {
        if let Some((_, error)) = self.lock().get_mut(&task) {
            *error = message;
        }
    }

    /// Forgets a task that is done: the job gets on.
    pub(super) fn end(&self, task: u64) {
        self.lock().remove(&task);
        self.set_trouble(String::new());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (BackendId, String)>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` on all items: each on a BE that can, the load spread evenly. A BE that fails an item loses it to
/// another one; when all have failed it, they are tried again with back-off until the deadline, unless the error says
/// that trying again is no use. `work` hears the task's number, unique in the job's attempt, and puts the items into the
/// order in which the task will count them; `done` is called for items that have been done, with their task, and is awaited
/// before they count.
pub(super) async fn spread<F: Future<Output = Result<()>>>(
    cx: &Context,
    job: &Job,
    progress: &Arc<Progress>,
    operation: &str,
    items: Vec<Item>,
    work: impl Fn(u64, &mut [u64]) -> Result<Work>,
    done: impl Fn(Vec<u64>, u64) -> F,
) -> Result<()> {
    let mut pending: HashMap<u64, Item> = items.into_iter().map(|item| (item.number, item)).collect();
    let mut failed: HashMap<u64, HashSet<BackendId>> = HashMap::new();
    let mut rounds = 0;
    while !pending.is_empty() {
        // Files of a RESTORE can go elsewhere.
        let mut wanted = pending.values().flat_map(|item| &*item.candidates);
        if let (JobKind::Restore, Some(lost)) = (job.kind, wanted.find(|backend| cx.fleet.is_lost(**backend))) {
            return Err(lost_backend(cx, *lost));
        }
        // What only BEs have that were dropped, nobody can send.
        let dropped = |item: &&Item| item.candidates.iter().all(|backend| cx.fleet.is_dropped(*backend));
        if let Some(item) = pending.values().find(dropped) {
            let backends: Vec<String> = item.candidates.iter().map(ToString::to_string).collect();
            return Err(Error::Backend {
                backend: backends.join(", "),
                operation: operation.to_owned(),
                source: "it was dropped, and no other backend has its files".into(),
                retryable: false,
            });
        }
        let finished = std::sync::Mutex::new(Vec::new());
        let tasks = assign(cx, &pending, &failed);
        let unreachable = tasks.is_empty();
        let one = |(backend, mut numbers): (BackendId, Vec<u64>)| {
            let (finished, work, done) = (&finished, &work, &done);
            async move {
                let number = progress.begin(backend);
                let owner = TaskOwner::Job(job.id, job.attempt);
                let outcome = async {
                    let task = Task { owner, number, work: work(number, &mut numbers)? };
                    let confirms = matches!(task.work, Work::Confirm { .. });
                    let events = cx.fleet.backend(backend)?.run(operation, &task).await?;
                    // Those that have come meanwhile are recorded together.
                    let mut events = events.ready_chunks(TASK_SMALL_FILES);
                    while let Some(come) = events.next().await {
                        let mut arrived = Vec::new();
                        let mut broken = Ok(());
                        for event in come {
                            match event {
                                Ok(Event::Moved(bytes)) => {
                                    progress.bytes_moved.fetch_add(bytes, Ordering::Relaxed);
                                }
                                // A task that confirms files says at its end how many.
                                Ok(Event::Done(n)) if confirms => arrived.extend(numbers.iter().take(n as usize)),
                                Ok(Event::Done(n)) => arrived.extend(numbers.get(n as usize)),
                                Ok(Event::Ended | Event::Made(_) | Event::Saved(_) | Event::Missing(_)) => {
                                    return Err(Error::internal("a job's task has made files"));
                                }
                                Err(err) => broken = Err(err),
                            }
                        }
                        if !arrived.is_empty() {
                            done(arrived.clone(), number).await?;
                            progress.files_done.fetch_add(arrived.len() as u64, Ordering::Relaxed);
                            finished.lock().unwrap_or_else(PoisonError::into_inner).extend(arrived);
                        }
                        broken?;
                    }
                    Ok(())
                };
                let outcome = outcome.await;
                match &outcome {
                    Ok(()) => progress.end(number),
                    Err(err) => progress.fail(number, err.report()),
                }
                (number, backend, numbers, outcome)
            }
        };
        let backends: HashSet<BackendId> = tasks.iter().map(|(backend, _)| *backend).collect();
        let outcomes: Vec<_> = futures::stream::iter(tasks.into_iter().map(one))
            .buffer_unordered(backends.len().max(1) * TASKS_AT_ONCE)
            .collect()
            .await;
        for number in finished.into_inner().unwrap_or_default() {
            pending.remove(&number);
        }
        let mut errors = Vec::new();
        for (task, backend, numbers, outcome) in outcomes {
            // What is left of a task counts against its BE, whether it said why or just ended.
            for number in numbers.iter().filter(|number| pending.contains_key(number)) {
                failed.entry(*number).or_default().insert(backend);
            }
            if let Err(err) = outcome {
                if !is_about_backend(&err) {
                    return Err(err);
                }
                tracing::warn!(job = %job.id, "{}", err.report());
                cx.health.met(job.repository, cx.clock.now(), &err);
                errors.push((task, numbers, err));
            }
        }
        // Where no BE is left, the last error decides whether to begin again.
        let exhausted = |item: &Item| {
            let tried = failed.get(&item.number);
            item.candidates
                .iter()
                .all(|backend| tried.is_some_and(|tried| tried.contains(backend)) || !cx.fleet.is_alive(*backend))
        };
        if !pending.is_empty() && (unreachable || pending.values().any(exhausted)) {
            // An error that lasts ends the work only where no other replica can do it, not even one that comes back.
            let hopeless = |item: &Item| {
                let tried = failed.get(&item.number);
                item.candidates
                    .iter()
                    .all(|backend| tried.is_some_and(|tried| tried.contains(backend)) || cx.fleet.is_lost(*backend))
            };
            let stuck = |numbers: &[u64]| numbers.iter().filter_map(|n| pending.get(n)).any(hopeless);
            let last = errors.iter().position(|(_, numbers, err)| !err.is_retryable() && stuck(numbers));
            if let Some(at) = last {
                return Err(errors.swap_remove(at).2);
            }
            if cx.clock.now() >= job.deadline() {
                return Err(errors.pop().map_or_else(|| timed_out(cx, &pending), |(_, _, err)| err));
            }
            // Who waits for a BE shall see for which.
            let waiting = pending.values().flat_map(|item| &*item.candidates).find(|one| !cx.fleet.is_alive(**one));
            if let (true, Some(backend)) = (unreachable, waiting)
                && let Err(err) = cx.fleet.backend(*backend)
            {
                let task = progress.begin(*backend);
                progress.fail(task, err.report());
                errors.push((task, Vec::new(), err));
            }
            if let Some((_, _, err)) = errors.last() {
                progress.set_trouble(err.report());
            }
            let rest = job.deadline().0 - cx.clock.now().0;
            let pause = cx.clock.back_off(rounds).min(std::time::Duration::from_millis(rest.max(1) as u64));
            cx.clock.sleep(pause).await;
            rounds += 1;
            failed.clear();
        }
        for (task, _, _) in errors {
            progress.lock().remove(&task);
        }
    }
    Ok(())
}

/// The error for a BE that nobody waits for any more.
pub(super) fn lost_backend(cx: &Context, backend: BackendId) -> Error {
    Error::Backend {
        backend: cx.fleet.address(backend),
        operation: "restore tablets".into(),
        source: "it was dropped, or has been dead for long, and no other BE can take them".into(),
        retryable: true,
    }
}

/// Whether the BE gave the error; others, as of the catalog or of a cancelled job, end the work.
fn is_about_backend(err: &Error) -> bool {
    matches!(err, Error::Backend { .. })
}

fn timed_out(cx: &Context, pending: &HashMap<u64, Item>) -> Error {
    let waiting = pending.values().flat_map(|item| &*item.candidates).next();
    let name = waiting.map_or_else(|| "none".into(), |backend| cx.fleet.address(*backend));
    Error::Cancelled(format!("the deadline passed while waiting for backend {name}"))
}

/// Gives each pending item to the BE among its candidates that lives, has not failed it, and has least to do.
fn assign(
    cx: &Context,
    pending: &HashMap<u64, Item>,
    failed: &HashMap<u64, HashSet<BackendId>>,
) -> Vec<(BackendId, Vec<u64>)> {
    let mut load: HashMap<BackendId, (u64, Vec<&Item>)> = HashMap::new();
    let alive: HashSet<BackendId> = cx.fleet.alive().into_iter().collect();
    let mut items: Vec<&Item> = pending.values().collect();
    items.sort_by_key(|item| item.number);
    for item in items {
        let tried = failed.get(&item.number);
        let can = |backend: &&BackendId| alive.contains(backend) && !tried.is_some_and(|tried| tried.contains(backend));
        let least = item.candidates.iter().filter(can).min_by_key(|backend| load.get(backend).map_or(0, |load| load.0));
        if let Some(backend) = least {
            let (bytes, items) = load.entry(*backend).or_default();
            *bytes += item.bytes;
            items.push(item);
        }
    }
    let mut queues: Vec<(BackendId, std::vec::IntoIter<Vec<u64>>)> =
        load.into_iter().map(|(backend, (_, items))| (backend, cut(&items).into_iter())).collect();
    queues.sort_by_key(|(backend, _)| *backend);
    // In turn, so that all BEs work from the beginning.
    let mut tasks = Vec::new();
    loop {
        let before = tasks.len();
        for (backend, queue) in &mut queues {
            tasks.extend(queue.next().map(|numbers| (*backend, numbers)));
        }
        if tasks.len() == before {
            return tasks;
        }
    }
}

/// Cuts one BE's items into tasks.
fn cut(items: &[&Item]) -> Vec<Vec<u64>> {
    let mut tasks: Vec<Vec<u64>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let full = |task: &Vec<u64>| {
            let most = if bytes + item.bytes <= TASK_SMALL_BYTES { TASK_SMALL_FILES } else { TASK_FILES };
            task.len() >= clock::size("job.task-files", most)
        };
        match tasks.last_mut().filter(|task| !full(task)) {
            Some(task) => task.push(item.number),
            None => {
                tasks.push(vec![item.number]);
                bytes = 0;
            }
        }
        bytes += item.bytes;
    }
    tasks
}
