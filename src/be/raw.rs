//! Raw backup and restore, as a BE does them.
//!
//! A session is what the tasks of one attempt of a job share: a backup's cut, and the directory to which a restore brings
//! files. It lives as long as the FE keeps its task, so that what an FE leaves behind by dying goes away.
//!
//! **Late effects.** A thread that stores keys, and a request that stores a file, go on after their task was dropped. So
//! the thread asks before each batch whether it is still wanted ([`Leash`]), and whoever comes after them, another try of
//! the task or another session of the job, waits until they have ended: what a client writes after the restore is not
//! overwritten, and no file of a backup appears after those of a cancelled one were removed.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::task::report;
use super::{Shared, blocking};
use crate::clock::{Throttle, crash_point};
use crate::disk;
use crate::error::{Error, Result};
use crate::rawkv::backupmeta::BackupFile;
use crate::rawkv::layout::{LOCK, META, SstName, locked_by_another, not_mounted};
use crate::rawkv::sst::{SstOptions, SstReader, SstWriter};
use crate::rawkv::store::{Change, ENTRY_BYTES, RESERVE_BYTES, RawStore, Snapshot};
use crate::rawkv::value::ApiVersion;
use crate::rawkv::verify::{decode_value, verify_content, verify_restorable};
use crate::repository::Folder;
use crate::rpc::message::{Event, RawRange, RawStorage, TaskOwner};
use crate::types::{BackendId, ColumnFamily, Entity, KeyRange, Kind, RegionId};

/// Bytes of a file at which the next begins. It is in memory until it is stored.
const FILE_BYTES: u64 = 16 << 20;

/// Bytes of entries that are stored together.
const INGEST_BYTES: usize = 8 << 20;

/// An entry that is put into a file is in memory so often at most: in the store's block, read, in the file's block,
/// compressed, and in the file.
const COPIES: u64 = 5;

/// The store has entries so often that are being stored, the batch included.
const STORED_COPIES: u64 = 3;

/// What messages call the place of a backup.
const PLACE: &str = "raw backup";

/// The sessions of this BE.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<TaskOwner, Arc<Session>>>,
    /// Of sessions that have ended, but for work that may not know yet.
    ending: Mutex<Vec<(TaskOwner, Arc<Leash>)>>,
}

/// What the tasks of an attempt share.
#[derive(Debug)]
pub(super) struct Session {
    snapshot: Option<Snapshot>,
    throttle: Throttle,
    /// Whether the directory of a backup is the one that the FE has locked.
    locked: tokio::sync::OnceCell<()>,
    /// The directory of a restore's files, made for the first: a backup needs no room on the BE's disk.
    staging: Mutex<Option<tempfile::TempDir>>,
    ended: AtomicBool,
    /// Of the last try of each task that stores something.
    leashes: Mutex<HashMap<u64, Arc<Leash>>>,
}

/// Holds work back that is no longer wanted.
#[derive(Debug, Default)]
struct Leash {
    ended: AtomicBool,
    /// Held by the work while it goes on.
    working: Arc<tokio::sync::Mutex<()>>,
    /// Whether it stores keys, and not a file.
    keys: bool,
}

impl Leash {
    fn check(&self) -> Result<()> {
        match self.ended.load(Ordering::SeqCst) {
            true => Err(given_up()),
            false => Ok(()),
        }
    }
}

/// The error of work for a session that has ended; in another one it may be done.
fn given_up() -> Error {
    Error::Conflict(Entity::new(Kind::Job, "the task's"))
}

/// Ends a leash when the task is dropped.
struct Wanted(Arc<Leash>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

impl Sessions {
    /// The session of an attempt. Without one its tasks may come again, after another has begun.
    pub(super) fn of(&self, owner: TaskOwner) -> Result<Arc<Session>> {
        let gone = || match owner {
            TaskOwner::Job(job, _) => Error::Conflict(Entity::new(Kind::Job, job)),
            TaskOwner::Write(_) => Error::internal("raw work outside of a job"),
        };
        self.lock().get(&owner).cloned().ok_or_else(gone)
    }

    /// Ends the sessions of earlier attempts of a job, and waits until nothing is stored for it, and no keys for any that
    /// has ended. Files of others are nobody else's business, and may take long where a store hangs.
    async fn end_earlier(&self, owner: TaskOwner) {
        let same_job = |other: &TaskOwner| match (owner, other) {
            (TaskOwner::Job(job, _), TaskOwner::Job(other, _)) => job == *other,
            _ => false,
        };
        let earlier: Vec<TaskOwner> = self.lock().keys().filter(|other| same_job(other)).copied().collect();
        earlier.into_iter().for_each(|owner| self.end(owner));
        let ending = || self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let leashes = ending().clone();
        for (_, leash) in leashes.iter().filter(|(other, leash)| leash.keys || same_job(other)) {
            drop(leash.working.lock().await);
        }
        ending().retain(|(_, leash)| leash.working.try_lock().is_err());
    }

    fn end(&self, owner: TaskOwner) {
        if let Some(session) = self.lock().remove(&owner) {
            session.ended.store(true, Ordering::SeqCst);
            let leashes: Vec<_> = session.leashes().values().cloned().collect();
            leashes.iter().for_each(|leash| leash.ended.store(true, Ordering::SeqCst));
            let leashes = leashes.into_iter().map(|leash| (owner, leash));
            self.ending.lock().unwrap_or_else(PoisonError::into_inner).extend(leashes);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskOwner, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Makes the file for one of a restore's, below `parent`, and takes the room for it. Blocks.
    fn stage(&self, parent: &Path, number: u64, size: u64) -> Result<File> {
        let mut staging = self.staging();
        let directory = match &mut *staging {
            Some(directory) => directory,
            none => {
                std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
                none.insert(tempfile::tempdir_in(parent).map_err(Error::io("create a directory in", parent))?)
            }
        };
        let path = staged(directory, number);
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        disk::take("take room for", &path, &file, size, RESERVE_BYTES)?;
        Ok(file)
    }

    /// A file that was staged.
    async fn open(self: &Arc<Self>, number: u64) -> Result<Arc<File>> {
        let session = self.clone();
        let open = move || {
            let path = session.staging().as_ref().map(|directory| staged(directory, number));
            let path = path.ok_or_else(|| Error::internal("a file that was not fetched"))?;
            File::open(&path).map(Arc::new).map_err(Error::io("open", &path))
        };
        blocking(open).await
    }

    fn staging(&self) -> std::sync::MutexGuard<'_, Option<tempfile::TempDir>> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leashes(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Leash>>> {
        self.leashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an earlier try of the task has ended, and begins to store. The guard goes with the work, and the task
    /// drops the rest.
    async fn begin(&self, task: u64, keys: bool) -> Result<(Wanted, tokio::sync::OwnedMutexGuard<()>)> {
        let earlier = self.leashes().get(&task).cloned();
        if let Some(earlier) = earlier {
            earlier.ended.store(true, Ordering::SeqCst);
            drop(earlier.working.lock().await);
        }
        let leash = Arc::new(Leash { keys, ..Leash::default() });
        let guard = leash.working.clone().lock_owned().await;
        self.leashes().insert(task, leash.clone());
        // Whoever ends the session from here on ends this leash too.
        match self.ended.load(Ordering::SeqCst) {
            true => Err(given_up()),
            false => Ok((Wanted(leash), guard)),
        }
    }

    /// Stores keys on a thread of its own. `work` asks before each batch whether to go on.
    async fn store(
        &self,
        task: u64,
        work: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (wanted, guard) = self.begin(task, true).await?;
        let leash = wanted.0.clone();
        blocking(move || {
            let _working = guard;
            work(&|| leash.check()).map_err(worth_waiting)
        })
        .await
    }

    /// Stores a file to the end, whatever becomes of the task: a request that was sent cannot be taken back.
    async fn put(&self, task: u64, write: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
        let (_wanted, guard) = self.begin(task, false).await?;
        let written = tokio::spawn(async move {
            let _working = guard;
            write.await
        });
        written.await.map_err(|err| Error::internal(format_args!("storing a file: {err}")))?
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(directory) = self.staging().take() {
            // Whoever drops it last may be a thread of the runtime, and large files take their time to go.
            let _ = std::thread::Builder::new().spawn(move || drop(directory));
        }
    }
}

fn staged(directory: &tempfile::TempDir, number: u64) -> PathBuf {
    directory.path().join(format!("{number}.sst"))
}

/// A full disk, of which a restore must not end in its midst: somebody may make room, and then it goes on.
pub(super) fn worth_waiting(err: Error) -> Error {
    match err {
        Error::Io { operation, path, source } if disk::is_full(&source) => {
            Error::Io { operation, path, source: std::io::Error::other(source) }
        }
        other => other,
    }
}

/// Ends a session.
struct Open<'a>(&'a Sessions, TaskOwner);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

/// Waits until so many bytes may move: piece by piece, so that a long wait begins before the first of them.
async fn pace(throttle: &Throttle, bytes: u64) {
    const PIECE: u64 = 1 << 20;
    let mut left = bytes;
    while left > 0 {
        throttle.take(left.min(PIECE) as usize).await;
        left -= left.min(PIECE);
    }
}

/// Removes what sessions of an earlier process have left. Blocks.
pub(super) fn clean(staging: &Path) -> Result<()> {
    match std::fs::remove_dir_all(staging) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", staging)(err)),
        _ => Ok(()),
    }
}

/// What a session is for.
pub(super) struct About {
    pub(super) cut: bool,
    pub(super) of: Vec<RawRange>,
    pub(super) target: Option<Arc<RawStorage>>,
    pub(super) speed: u64,
}

/// Opens a session and keeps it until the task is ended.
pub(super) async fn session(
    be: &Arc<Shared>,
    owner: TaskOwner,
    about: About,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    let About { cut, of, target, speed } = about;
    be.raw_sessions.end_earlier(owner).await;
    // Writes whose caller has gone end too.
    drop(be.raw_writes.write().await);
    let store = be.raw()?;
    of.iter().try_for_each(|RawRange { cf, range }| store.check_held(*cf, range))?;
    if let Some(target) = target {
        be.refuse_own(folder(&target)?.local_path(), &target.location).await?;
    }
    let session = Arc::new(Session {
        snapshot: cut.then(|| store.snapshot()),
        throttle: Throttle::new(speed, be.clock.clone()),
        locked: tokio::sync::OnceCell::new(),
        staging: Mutex::default(),
        ended: AtomicBool::new(false),
        leashes: Mutex::default(),
    });
    be.raw_sessions.lock().insert(owner, session);
    let _open = Open(&be.raw_sessions, owner);
    crash_point("be.raw-session");
    report(events, Event::Done(0)).await?;
    std::future::pending().await
}

fn folder(storage: &RawStorage) -> Result<Folder> {
    Folder::open(PLACE, &storage.location, &storage.properties)
}

/// Sees that the directory of a backup is that in which the FE has put its lock.
async fn check_locked(folder: &Folder, storage: &RawStorage) -> Result<()> {
    match folder.read(LOCK).await? {
        Some(content) if content == storage.lock => Ok(()),
        Some(_) => Err(locked_by_another(&storage.location)),
        None if storage.seen && folder.local_path().is_some() => Err(not_mounted(LOCK, &storage.location)),
        None => Err(Error::Refused(format!(
            "there is no {LOCK} in {} as this backend sees it: every node must see the same directory",
            storage.location
        ))),
    }
}

/// What a backup writes.
pub(super) struct Part {
    pub(super) of: RawRange,
    pub(super) region: RegionId,
    pub(super) version: u64,
}

pub(super) async fn backup(
    be: &Arc<Shared>,
    session: Arc<Session>,
    task: u64,
    storage: Arc<RawStorage>,
    part: Part,
    options: SstOptions,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    let Some(snapshot) = session.snapshot.clone() else { return Err(Error::internal("a backup without a cut")) };
    let member = be.members.get().ok_or_else(|| Error::internal("a task before joining a cluster"))?;
    let folder = folder(&storage)?;
    session.locked.get_or_try_init(|| check_locked(&folder, &storage)).await?;
    // One file is stored while the next is made.
    let (made, mut files) = mpsc::channel(1);
    let (clock, memory, runtime) = (be.clock.clone(), be.raw_memory.clone(), tokio::runtime::Handle::current());
    let make = move || {
        let name = |start: &[u8]| {
            let Part { of, region, version } = &part;
            let millis = clock.now().0.unsigned_abs();
            let BackendId(store) = member.backend;
            let name = SstName { store, region: region.0, epoch_version: *version, start, millis, cf: of.cf };
            name.path(storage.layout)
        };
        let bytes = file_memory(snapshot.largest(part.of.cf));
        let take = || runtime.block_on(memory.take(bytes));
        write_files(&snapshot, &part.of, options, FILE_BYTES, name, take, |(file, content, mut taken)| {
            taken.keep(FILE_BYTES.max(file.size));
            made.blocking_send((file, content, taken)).map_err(|_| Error::Cancelled("the caller has gone".into()))
        })
    };
    let making = tokio::task::spawn_blocking(make);
    while let Some((file, content, taken)) = files.recv().await {
        pace(&session.throttle, file.size).await;
        pace(&be.upload_speed, file.size).await;
        let _worker = be.uploads.take().await;
        let (folder, name) = (folder.clone(), file.name.clone());
        let write = async move {
            crash_point("be.raw-backup");
            let _taken = taken;
            folder.write(&name, content).await
        };
        session.put(task, write).await?;
        report(events, Event::Moved(file.size)).await?;
        report(events, Event::Saved(file)).await?;
    }
    making.await.map_err(|err| Error::internal(format_args!("a blocking task: {err}")))??;
    report(events, Event::Done(0)).await
}

/// What a file takes in memory that is made of entries of at most so many bytes.
fn file_memory(largest: u64) -> u64 {
    FILE_BYTES + COPIES * largest
}

/// Writes the entries of a range to files whose ranges together are that range, but for its ends where it has no
/// entries. A file ends when it has `bytes`; `name` is asked for its name by its first possible key, and `take` for
/// leave to begin it. Nothing of the store is in memory while that is waited for.
fn write_files<M>(
    snapshot: &Snapshot,
    of: &RawRange,
    options: SstOptions,
    bytes: u64,
    name: impl Fn(&[u8]) -> String,
    take: impl Fn() -> Result<M>,
    mut done: impl FnMut((BackupFile, Vec<u8>, M)) -> Result<()>,
) -> Result<()> {
    let mut start = of.range.start().to_vec();
    loop {
        let taken = take()?;
        let rest = KeyRange::new(start.clone(), of.range.end().to_vec()).map_err(Error::internal)?;
        let mut writing: Option<(SstWriter<Vec<u8>>, String)> = None;
        let (mut last, mut next) = (Vec::new(), None);
        for entry in snapshot.scan(of.cf, &rest)? {
            let (key, value) = entry?;
            if writing.as_ref().is_some_and(|(writer, _)| writer.size() >= bytes) {
                next = Some(key);
                break;
            }
            if writing.is_none() {
                let name = name(&start);
                writing = Some((SstWriter::new(Vec::new(), name.clone(), options)?, name));
            }
            if let Some((writer, _)) = &mut writing {
                writer.put(&key, &value)?;
            }
            last = key;
        }
        let Some((writer, name)) = writing else { return Ok(()) };
        let (content, summary) = writer.finish()?;
        let end = next.as_ref().map_or_else(|| of.range.end().to_vec(), |next| separator(&last, next));
        let range = KeyRange::new(std::mem::replace(&mut start, end.clone()), end).map_err(Error::internal)?;
        let file = BackupFile { name, size: summary.size, sha256: summary.sha256, range, checksum: summary.checksum };
        done((file, content, taken))?;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// The shortest key that is greater than one and not greater than the next.
fn separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    let shared = last.iter().zip(next).take_while(|(a, b)| a == b).count();
    next[..next.len().min(shared + 1)].to_vec()
}

/// A file of a restore.
pub(super) struct Fetched {
    pub(super) number: u64,
    pub(super) file: Arc<BackupFile>,
    pub(super) api_version: ApiVersion,
}

pub(super) async fn fetch(
    be: &Arc<Shared>,
    session: Arc<Session>,
    storage: Arc<RawStorage>,
    fetched: Fetched,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    let folder = folder(&storage)?;
    pace(&session.throttle, fetched.file.size).await;
    pace(&be.download_speed, fetched.file.size).await;
    let _worker = be.downloads.take().await;
    crash_point("be.raw-fetch");
    let target = {
        let (session, parent, number, size) = (session.clone(), be.raw_staging(), fetched.number, fetched.file.size);
        blocking(move || session.stage(&parent, number, size)).await?
    };
    let BackupFile { name, size, sha256, .. } = BackupFile::clone(&fetched.file);
    let moved = |bytes| drop(events.try_send(Ok(Event::Moved(bytes))));
    if let Err(err) = folder.download(&name, target, size, sha256, &Throttle::default(), moved).await {
        let gone = storage.seen && folder.local_path().is_some() && folder.size(META).await?.is_none();
        return Err(if gone { not_mounted(META, &storage.location) } else { err });
    }
    let source = session.open(fetched.number).await?;
    let taken = be.raw_memory.take_for_reading(&source, &name, |_| 0).await?;
    blocking(move || {
        let _taken = taken;
        verify_content(&*source, &fetched.file)?;
        verify_restorable(&*source, &fetched.file, fetched.api_version).map(drop)
    })
    .await?;
    report(events, Event::Done(0)).await
}

/// Where the entries of a file go.
pub(super) struct Target {
    pub(super) cf: ColumnFamily,
    pub(super) ranges: Vec<KeyRange>,
    pub(super) now: u64,
}

pub(super) async fn ingest(
    be: &Arc<Shared>,
    session: Arc<Session>,
    task: u64,
    fetched: Fetched,
    target: Target,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    let store = be.raw()?;
    let _worker = be.downloads.take().await;
    let source = session.open(fetched.number).await?;
    // A batch ends with the entry that passes its bytes.
    let more = |largest| STORED_COPIES * (INGEST_BYTES as u64 + largest);
    let taken = be.raw_memory.take_for_reading(&source, &fetched.file.name, more).await?;
    let work = move |go_on: &dyn Fn() -> Result<()>| {
        let _taken = taken;
        store_entries(&store, &source, &fetched, &target, go_on)
    };
    session.store(task, work).await?;
    report(events, Event::Done(0)).await
}

fn store_entries(
    store: &RawStore,
    source: &File,
    fetched: &Fetched,
    target: &Target,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let reader = SstReader::open(source, &fetched.file.name)?;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    for range in &target.ranges {
        let mut entries = reader.entries(range)?;
        while let Some((key, stored)) = entries.next_entry()? {
            let value = decode_value(&fetched.file, fetched.api_version, key, stored)?;
            if value.is_expired(target.now) {
                continue;
            }
            bytes += key.len() + value.bytes.len() + ENTRY_BYTES;
            changes.push(Change { key: key.to_vec(), value: Some(value.bytes.to_vec()) });
            if bytes >= INGEST_BYTES {
                crash_point("be.raw-ingest");
                go_on()?;
                store.write(target.cf, std::mem::take(&mut changes))?;
                bytes = 0;
            }
        }
    }
    crash_point("be.raw-ingest");
    go_on()?;
    if changes.is_empty() { Ok(()) } else { store.write(target.cf, changes) }
}

pub(super) async fn clear(
    be: &Arc<Shared>,
    session: Arc<Session>,
    task: u64,
    cf: ColumnFamily,
    ranges: Vec<KeyRange>,
    events: &mpsc::Sender<Result<Event>>,
) -> Result<()> {
    let store = be.raw()?;
    let work = move |go_on: &dyn Fn() -> Result<()>| {
        let go_on = || {
            crash_point("be.raw-clear");
            go_on()
        };
        ranges.iter().try_for_each(|range| store.clear(cf, range, &go_on))
    };
    session.store(task, work).await?;
    report(events, Event::Done(0)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::rawkv::verify::verify_file;

    #[tokio::test]
    async fn files_keep_the_speed_of_the_session() {
        let clock = Clock::manual();
        let throttle = Throttle::new(4 << 20, clock.clone());
        for size in [0, 1, 16 << 20, 3 << 20, 45 << 20] {
            pace(&throttle, size).await;
        }
        // 64 MiB at 4 MiB a second; the last MiB has just begun to move.
        let seconds = clock.elapsed().as_secs_f64();
        assert!((15.7..15.8).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_bound_is_between_two_keys_and_short() {
        for (last, next, bound) in
            [("a", "b", "b"), ("abc", "abd9", "abd"), ("ab", "abc", "abc"), ("a", "abc", "ab"), ("", "xyz", "x")]
        {
            assert_eq!(separator(last.as_bytes(), next.as_bytes()), bound.as_bytes());
        }
    }

    /// All files of a range, and what is in them.
    fn made(store: &RawStore, of: &RawRange, bytes: u64) -> Vec<(BackupFile, Vec<u8>)> {
        let options = SstOptions { block_bytes: 1, ..SstOptions::default() };
        let name = |start: &[u8]| String::from_utf8(start.to_vec()).unwrap();
        let mut files = Vec::new();
        let done = |(file, content, ())| {
            files.push((file, content));
            Ok(())
        };
        write_files(&store.snapshot(), of, options, bytes, name, || Ok(()), done).unwrap();
        files
    }

    fn entries(file: &BackupFile, content: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        verify_file(&content, file, ApiVersion::V1).unwrap();
        let sst = SstReader::open(content, &file.name).unwrap();
        let all = KeyRange::default();
        let mut entries = sst.entries(&all).unwrap();
        let mut read = Vec::new();
        while let Some((key, value)) = entries.next_entry().unwrap() {
            read.push((key.to_vec(), value.to_vec()));
        }
        read
    }

    #[test]
    fn files_cover_the_range_without_gaps() {
        let directory = tempfile::tempdir().unwrap();
        let store = RawStore::of_all_keys(directory.path());
        let cf = ColumnFamily::Default;
        let entry = |n: u32| (format!("key-{n:05}").into_bytes(), vec![n as u8; 100]);
        let put = |(key, value)| Change { key, value: Some(value) };
        store.write(cf, (0..1000).map(entry).map(put).collect()).unwrap();
        let range = KeyRange::new(b"key-001".into(), b"l".into()).unwrap();
        let files = made(&store, &RawRange { cf, range: range.clone() }, 200);
        assert!(files.len() > 10, "{}", files.len());
        assert_eq!(files[0].0.range.start(), range.start());
        assert_eq!(files.last().unwrap().0.range.end(), range.end());
        for pair in files.windows(2) {
            assert_eq!(pair[0].0.range.end(), pair[1].0.range.start());
        }
        let read: Vec<_> = files.iter().flat_map(|(file, content)| entries(file, content)).collect();
        assert_eq!(read, (100..1000).map(entry).collect::<Vec<_>>());
        let none = made(&store, &RawRange { cf: ColumnFamily::Write, range }, 200);
        assert!(none.is_empty(), "a range without entries has no file");
    }

    #[test]
    fn a_file_of_large_values_takes_the_memory_of_all_their_copies() {
        let directory = tempfile::tempdir().unwrap();
        let store = RawStore::of_all_keys(directory.path());
        let cf = ColumnFamily::Default;
        let memory = || file_memory(store.snapshot().largest(cf));
        store.write(cf, vec![Change { key: b"small".into(), value: Some(vec![0; 100_000]) }]).unwrap();
        assert_eq!(memory(), FILE_BYTES);
        store.write(cf, vec![Change { key: b"large".into(), value: Some(vec![0; 3 << 20]) }]).unwrap();
        assert!(memory() >= FILE_BYTES + COPIES * (3 << 20), "{}", memory());
    }
}
