//! The ordered key-value store under the catalog, and the only file that names sled.
//!
//! A commit is a [`Batch`] of puts and deletes that becomes durable as a whole. One thread commits for all who wait:
//! it takes every batch that is there, applies them in order, flushes, syncs, and only then answers. sled's own flush
//! does not reach the disk (it uses `sync_file_range`, <https://github.com/spacejam/sled/issues/1351>), so the store
//! syncs sled's files itself. The first error of the store ends the process: a sync that failed must not be retried,
//! since the kernel may have dropped the pages, and what memory knows may then be more than the disk does.
//!
//! A batch of many records is first written aside under a commit id, with one small record that decides it and says how
//! many they are; one sync makes it durable. Then it is applied, and taken away from there once that is synced too.
//! [`Store::open`] applies the decided ones of which everything is there, and drops the others: those were never
//! acknowledged, or they were applied and about to be taken away. So no crash leaves half of it.
//!
//! **Damage.** sled takes a damaged record of its log for the end that a crash has left, and drops all that follows: the
//! sequence of the last commit that was [`Acknowledged`] is kept beside it.
//!
//! ```text
//! <dir>/                  sled's files
//! key                     2 letters of its table, then big-endian numbers and texts (see catalog::record)
//! value                   format version (1 byte), CRC-32 of key and payload (4, little-endian), payload
//! ~s <commit> <n>         the nth record of a large batch: key length (4), key, then the value unless it is a delete
//! ~d <commit>             the large batch is decided: number of its records (8, big-endian)
//! ```

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::acknowledged::Acknowledged;
use crate::clock::crash_point;
use crate::disk;
use crate::error::{Cause, Error, Result};

/// sled writes a page of 128 KiB to a file of its own, which it never syncs. A page has up to 19 records: these never
/// make one so large.
pub const MAX_RECORD: usize = 6 * 1024;

/// The format of records. A reader knows this one and all before it.
const FORMAT: u8 = 1;

const HEADER: usize = 5;

/// sled gives its own lock back a moment after it was closed in the same process.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// A batch of more operations than this is written aside first.
const LARGE: usize = 512;

const STAGED: &[u8] = b"~s";
const DECIDED: &[u8] = b"~d";

/// Pages that sled keeps in memory. The catalog's own image answers reads, so this only serves writes.
const CACHE_BYTES: u64 = 16 << 20;

/// Free disk space below which nothing is written: a store that runs into a full disk ends the process.
const RESERVE_BYTES: u64 = 16 << 20;

/// The same for what makes room.
const LAST_BYTES: u64 = 2 << 20;

/// Puts and deletes that happen together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// Whether it may use the reserve.
    pub urgent: bool,
    /// Of the commit.
    pub sequence: u64,
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    key: Vec<u8>,
    /// The framed record; `None` deletes.
    value: Option<Vec<u8>>,
}

impl Batch {
    /// Adds a put. Refuses payloads over [`MAX_RECORD`]: what grows with the data must be rows of its own.
    pub fn put(&mut self, key: Vec<u8>, payload: &[u8]) -> Result<()> {
        if payload.len() > MAX_RECORD {
            return Err(Error::internal(format_args!(
                "catalog record {} has {} bytes, more than the {MAX_RECORD} allowed",
                key.escape_ascii(),
                payload.len()
            )));
        }
        let mut value = Vec::with_capacity(HEADER + payload.len());
        value.push(FORMAT);
        value.extend(checksum(&key, payload).to_le_bytes());
        value.extend(payload);
        self.operations.push(Operation { key, value: Some(value) });
        Ok(())
    }

    /// Adds a delete. Deleting what is not there is no error.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.operations.push(Operation { key, value: None });
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// What the committing thread calls when a batch is durable, in the order of commits.
pub type OnDurable = Box<dyn FnOnce() + Send>;

struct Commit {
    batch: Batch,
    on_durable: OnDurable,
    done: oneshot::Sender<()>,
}

/// The open store. Its files belong to one process; the caller sees to that.
pub struct Store {
    db: sled::Db,
    dir: PathBuf,
    commits: Option<mpsc::Sender<Commit>>,
    committer: Option<thread::JoinHandle<()>>,
}

impl Store {
    /// Opens or creates the store in a directory, and finishes what a crash interrupted. Blocks.
    pub fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io("create catalog directory", dir))?;
        let open = || -> std::result::Result<sled::Db, Cause> {
            let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
            let patience = Instant::now() + LOCK_PATIENCE;
            loop {
                // sled panics on some damaged files where others give an error.
                match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open())) {
                    Err(_) => return Err("its files are damaged".into()),
                    Ok(Err(sled::Error::Io(err))) if is_locked(&err) && Instant::now() < patience => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    Ok(opened) => return Ok(opened?),
                }
            }
        };
        let db = open().map_err(|err| Error::Corrupt {
            what: "catalog",
            path: dir.display().to_string(),
            message: err.to_string(),
        })?;
        let disk = Disk::open(db.clone(), dir)?;
        disk.recover()?;
        let (commits, waiting) = mpsc::channel();
        let committer = thread::Builder::new()
            .name("catalog-commit".into())
            .spawn(move || {
                // sled panics where others give an error; an FE that can read but never write is no use to anybody.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| commit_loop(&disk, &waiting))).is_err() {
                    tracing::error!("the catalog's commit thread has failed, so this process ends");
                    std::process::exit(1);
                }
            })
            .map_err(Error::io("start the commit thread for", dir))?;
        Ok(Self { db, dir: dir.to_owned(), commits: Some(commits), committer: Some(committer) })
    }

    /// Refuses a store whose last commit is an earlier one than was acknowledged. Blocks.
    pub fn check_acknowledged(&self, sequence: u64) -> Result<()> {
        Acknowledged::check(&self.dir, "catalog", sequence)
    }

    /// Refuses a batch that the disk may not hold. A statement can be answered so; a commit that fails cannot.
    pub fn check_space(&self, batch: &Batch) -> Result<()> {
        // A large batch is written twice, and sled keeps old pages for a while.
        let needed: usize =
            batch.operations.iter().map(|op| op.key.len() + op.value.as_ref().map_or(0, Vec::len)).sum();
        let reserve = if batch.urgent { LAST_BYTES } else { RESERVE_BYTES };
        disk::check_free("write catalog in", &self.dir, reserve + 4 * needed as u64)
    }

    /// Queues a batch behind those queued before it. The receiver answers when it is durable.
    pub fn submit(&self, batch: Batch, on_durable: OnDurable) -> oneshot::Receiver<()> {
        let (done, waiting) = oneshot::channel();
        if let Some(commits) = &self.commits {
            // The thread ends only with the process or with this sender.
            let _ = commits.send(Commit { batch, on_durable, done });
        }
        waiting
    }

    /// Reads one record. Blocks for a page of the disk at most.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.db.get(key).map_err(|err| unreadable(key, &err))?;
        value.map(|value| open_record(key, &value).map(<[u8]>::to_vec)).transpose()
    }

    /// The records whose keys begin with `prefix`, in key order. Blocks. It is no snapshot of live records: use it at
    /// open, and for rows that do not change meanwhile.
    pub fn scan(&self, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + use<> {
        let prefix = prefix.to_vec();
        self.db.scan_prefix(&prefix).map(move |entry| {
            let (key, value) = entry.map_err(|err| unreadable(&prefix, &err))?;
            let payload = open_record(&key, &value)?.to_vec();
            Ok((key.to_vec(), payload))
        })
    }
}

impl Drop for Store {
    /// Waits until what was submitted is durable.
    fn drop(&mut self) {
        self.commits.take();
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

/// The writing side, owned by the committing thread.
struct Disk {
    db: sled::Db,
    /// sled's data file, open for syncing.
    file: File,
    path: PathBuf,
    /// sled's files of large pages.
    blobs: PathBuf,
    acknowledged: Acknowledged,
}

/// What a large batch has staged.
struct Staged {
    id: u64,
    count: u64,
}

impl Disk {
    fn open(db: sled::Db, dir: &Path) -> Result<Self> {
        let path = dir.join("db");
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let disk = Self { db, file, path, blobs: dir.join("blobs"), acknowledged: Acknowledged::open(dir)? };
        disk.sync()?;
        // The file names of a new store must survive as well.
        let conf = dir.join("conf");
        File::open(&conf).and_then(|file| file.sync_all()).map_err(Error::io("sync", &conf))?;
        for folder in [Some(dir), dir.parent()].into_iter().flatten() {
            File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("sync", folder))?;
        }
        Ok(disk)
    }

    fn sync(&self) -> Result<()> {
        self.db.flush().map_err(|err| Error::Io {
            operation: "flush catalog",
            path: self.path.display().to_string(),
            source: std::io::Error::other(err),
        })?;
        self.sync_blobs().map_err(Error::io("sync catalog", &self.blobs))?;
        self.file.sync_data().map_err(Error::io("sync catalog", &self.path))
    }

    fn sync_blobs(&self) -> std::io::Result<()> {
        let mut blobs = std::fs::read_dir(&self.blobs)?.peekable();
        if blobs.peek().is_none() {
            return Ok(());
        }
        for blob in blobs {
            match File::open(blob?.path()).and_then(|blob| blob.sync_all()) {
                // sled has dropped it.
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced?,
            }
        }
        File::open(&self.blobs)?.sync_all()
    }

    fn apply(&self, operations: impl Iterator<Item = impl Borrow<Operation>>) -> Result<()> {
        let mut batch = sled::Batch::default();
        for operation in operations {
            let Operation { key, value } = operation.borrow();
            match value {
                Some(value) => batch.insert(&**key, &**value),
                None => batch.remove(&**key),
            }
        }
        self.db.apply_batch(batch).map_err(|err| Error::Io {
            operation: "write catalog",
            path: self.path.display().to_string(),
            source: std::io::Error::other(err),
        })
    }

    /// Applies operations that need not survive together.
    fn apply_parts(&self, operations: impl Iterator<Item = impl Borrow<Operation>>) -> Result<()> {
        let mut operations = operations.peekable();
        while operations.peek().is_some() {
            self.apply(operations.by_ref().take(LARGE))?;
        }
        Ok(())
    }

    /// Makes a large batch durable as a whole, and applies it. Before anything else is written, what it has staged must
    /// go, by [`Disk::drop_staged`].
    fn apply_large(&self, batch: &Batch) -> Result<Staged> {
        let id = self.db.generate_id().map_err(|err| Error::internal(format_args!("no commit id: {err}")))?;
        let staged = (0..).zip(&batch.operations);
        self.apply_parts(
            staged.map(|(n, operation)| Operation { key: staged_key(id, n), value: Some(stage(operation)) }),
        )?;
        crash_point("store.staged");
        let count = batch.operations.len() as u64;
        self.apply([Operation { key: decided_key(id), value: Some(count.to_be_bytes().to_vec()) }].iter())?;
        self.sync()?;
        crash_point("store.decided");
        self.apply_parts(batch.operations.iter())?;
        crash_point("store.applied");
        Ok(Staged { id, count })
    }

    fn drop_staged(&self, staged: Staged) -> Result<()> {
        self.sync()?;
        self.delete((0..staged.count).map(|n| staged_key(staged.id, n)).chain([decided_key(staged.id)]))
    }

    fn delete(&self, keys: impl Iterator<Item = Vec<u8>>) -> Result<()> {
        self.apply_parts(keys.map(|key| Operation { key, value: None }))
    }

    /// Applies the large batches that were decided and are whole, and drops the others. May be interrupted and run again.
    fn recover(&self) -> Result<()> {
        let keys = |prefix: &[u8]| -> Result<Vec<Vec<u8>>> {
            self.db
                .scan_prefix(prefix)
                .keys()
                .map(|key| key.map(|key| key.to_vec()).map_err(|err| unreadable(prefix, &err)))
                .collect()
        };
        for decided in keys(DECIDED)? {
            let prefix = [STAGED, &decided[DECIDED.len()..]].concat();
            let staged = keys(&prefix)?;
            let count = self.db.get(&decided).map_err(|err| unreadable(&decided, &err))?;
            if count.is_some_and(|count| *count == (staged.len() as u64).to_be_bytes()) {
                for part in staged.chunks(LARGE) {
                    let read = |key: &Vec<u8>| {
                        let value = self.db.get(key).map_err(|err| unreadable(key, &err))?;
                        value.and_then(|value| unstage(&value)).ok_or_else(|| damaged(key, "it is cut short"))
                    };
                    self.apply(part.iter().map(read).collect::<Result<Vec<_>>>()?.iter())?;
                }
                self.sync()?;
            }
            self.delete(staged.into_iter().chain([decided]))?;
        }
        self.delete(keys(STAGED)?.into_iter())?;
        self.sync()
    }
}

/// sled words the refusal itself, so its kind is lost.
fn is_locked(err: &std::io::Error) -> bool {
    err.kind() == std::io::ErrorKind::WouldBlock || err.to_string().contains("could not acquire lock")
}

fn commit_loop(disk: &Disk, waiting: &mpsc::Receiver<Commit>) {
    while let Ok(first) = waiting.recv() {
        let mut group = VecDeque::from([first]);
        group.extend(waiting.try_iter());
        while !group.is_empty() {
            let large = |commit: &Commit| commit.batch.operations.len() > LARGE;
            let count = group.iter().take_while(|commit| !large(commit)).count().max(1);
            let part: Vec<Commit> = group.drain(..count).collect();
            let staged = or_exit(match &part[..] {
                [one] if large(one) => disk.apply_large(&one.batch).map(Some),
                // Who only waits for those before.
                none if none.iter().all(|commit| commit.batch.is_empty()) => Ok(None),
                small => {
                    let operations = small.iter().flat_map(|commit| &commit.batch.operations);
                    disk.apply(operations).and_then(|()| disk.sync()).map(|()| None)
                }
            });
            if let Some(last) = part.iter().map(|commit| commit.batch.sequence).max().filter(|last| *last > 0) {
                or_exit(disk.acknowledged.note(last));
            }
            for commit in part {
                (commit.on_durable)();
                // Whoever no longer waits has lost nothing.
                let _ = commit.done.send(());
            }
            or_exit(staged.map_or(Ok(()), |staged| disk.drop_staged(staged)));
        }
    }
}

fn or_exit<T>(written: Result<T>) -> T {
    written.unwrap_or_else(|err| {
        tracing::error!("the catalog cannot be written, so this process ends: {}", err.report());
        std::process::exit(1)
    })
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

/// Checks a framed record and returns its payload.
fn open_record<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8]> {
    match value {
        [format, ..] if *format > FORMAT => Err(Error::Config(format!(
            "catalog record {} has format {format}, written by a newer holdfast than this one, which reads up to {FORMAT}",
            key.escape_ascii()
        ))),
        [_, c0, c1, c2, c3, payload @ ..] if u32::from_le_bytes([*c0, *c1, *c2, *c3]) == checksum(key, payload) => {
            Ok(payload)
        }
        _ => Err(damaged(key, "its checksum does not match")),
    }
}

fn damaged(key: &[u8], message: &str) -> Error {
    Error::Corrupt { what: "catalog record", path: key.escape_ascii().to_string(), message: message.into() }
}

fn unreadable(key: &[u8], err: &sled::Error) -> Error {
    damaged(key, &err.to_string())
}

fn staged_key(id: u64, n: u64) -> Vec<u8> {
    [STAGED, &id.to_be_bytes()[..], &n.to_be_bytes()[..]].concat()
}

fn decided_key(id: u64) -> Vec<u8> {
    [DECIDED, &id.to_be_bytes()[..]].concat()
}

fn stage(operation: &Operation) -> Vec<u8> {
    let mut staged = (operation.key.len() as u32).to_le_bytes().to_vec();
    staged.extend(&operation.key);
    staged.extend(operation.value.iter().flatten());
    staged
}

fn unstage(staged: &[u8]) -> Option<Operation> {
    let (length, rest) = staged.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some(Operation { key: key.to_vec(), value: (!value.is_empty()).then(|| value.to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_all(store: &Store, records: impl Iterator<Item = (String, String)>) {
        let mut batch = Batch::default();
        for (key, value) in records {
            batch.put(key.into_bytes(), value.as_bytes()).unwrap();
        }
        store.submit(batch, Box::new(|| ())).blocking_recv().unwrap();
    }

    fn all(store: &Store, prefix: &str) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        store.scan(prefix.as_bytes()).map(|entry| entry.map(|(k, v)| (text(k), text(v))).unwrap()).collect()
    }

    #[test]
    fn small_and_large_batches_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        put_all(&store, [("a1".into(), "x".into())].into_iter());
        put_all(&store, (0..2000).map(|n| (format!("b{n:05}"), format!("v{n}"))));
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(all(&store, "a"), [("a1".to_owned(), "x".to_owned())]);
        assert_eq!(all(&store, "b").len(), 2000);
        assert_eq!(all(&store, "b")[7], ("b00007".to_owned(), "v7".to_owned()));
        assert_eq!(store.db.scan_prefix("~").count(), 0);
    }

    #[test]
    fn a_large_batch_is_whole_or_absent_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let value = |text: &str| {
            let mut batch = Batch::default();
            batch.put(text.as_bytes().to_vec(), b"v").unwrap();
            batch.operations.remove(0)
        };
        // As a crash before the decision leaves it (7), one after it (8), one that lost a part of what was not synced yet,
        // or came while an applied batch was taken away (9).
        for (id, key) in [(7, "c1"), (8, "d1"), (9, "e1")] {
            store.db.insert(staged_key(id, 0), stage(&value(key))).unwrap();
        }
        store.db.insert(decided_key(8), &1_u64.to_be_bytes()).unwrap();
        store.db.insert(decided_key(9), &2_u64.to_be_bytes()).unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(all(&store, "c"), []);
        assert_eq!(all(&store, "d"), [("d1".to_owned(), "v".to_owned())]);
        assert_eq!(all(&store, "e"), []);
        assert_eq!(store.db.scan_prefix("~").count(), 0);
    }

    #[test]
    fn commits_that_were_acknowledged_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut batch = Batch { sequence: 7, ..Batch::default() };
        batch.put(b"a".to_vec(), b"v").unwrap();
        store.submit(batch, Box::new(|| ())).blocking_recv().unwrap();
        // An answer that only waited does not take it back.
        store.submit(Batch::default(), Box::new(|| ())).blocking_recv().unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        store.check_acknowledged(7).unwrap();
        let lost = store.check_acknowledged(6).unwrap_err().report();
        assert!(lost.contains("ends at commit 6") && lost.contains("commit 7 was acknowledged"), "{lost}");
        // As a power cut may leave it.
        std::fs::write(dir.path().join("acknowledged"), [0; 12]).unwrap();
        store.check_acknowledged(6).unwrap();
    }

    #[test]
    fn damaged_and_newer_records_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        put_all(&store, [("a1".into(), "hello".into())].into_iter());
        let mut raw = store.db.get("a1").unwrap().unwrap().to_vec();
        raw[6] ^= 1;
        store.db.insert("a1", raw).unwrap();
        let damaged = store.get(b"a1").unwrap_err().report();
        assert!(damaged.contains("a1") && damaged.contains("checksum"), "{damaged}");
        store.db.insert("a2", &[FORMAT + 1, 0, 0, 0, 0]).unwrap();
        let newer = store.scan(b"a2").next().unwrap().unwrap_err().report();
        assert!(newer.contains("newer holdfast"), "{newer}");
    }

    #[test]
    fn records_over_the_limit_are_refused() {
        assert!(Batch::default().put(b"k".to_vec(), &vec![0; MAX_RECORD + 1]).is_err());
    }
}
