//! The raw keys and values of a BE, in fjall: one of its keyspaces for each column family.
//!
//! What [`RawStore::write`] has returned from is on disk, and nothing can be read before it is. One thread commits: it
//! takes all writes that wait, makes one batch of them, and syncs once. A scan sees the store as it was when it began.
//!
//! It holds the keys that it was given, and refuses all others: an empty store in the place of one that is lost has no
//! answer to give.
//!
//! fjall takes a damaged batch of its journal for one that a crash has cut off, and drops it and all that follow. So each
//! batch has its number in it, and that of the last one which was [`Acknowledged`] is kept beside the store.
//!
//! Stored keys begin with TiKV's prefix, because fjall takes no empty key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable};
use serde::{Deserialize, Serialize};

use super::key::escape;
use crate::acknowledged::Acknowledged;
use crate::disk;
use crate::error::{Error, Result};
use crate::types::{ColumnFamily, Entity, KeyRange, Kind};

/// The longest key: fjall's limit, less the prefix.
pub const MAX_KEY: usize = 65_534;
/// The longest value: what a message between FE and BE, and a block of a backup's file, surely hold.
pub const MAX_VALUE: usize = 64 << 20;

const PREFIX: u8 = b'z';

/// The keyspace of what was given: family and ranges, in JSON, by the number of the gift.
const GIVEN: &str = "given";

/// The key, before all that are stored, of the number of the last batch that changed a family. It is in the family
/// because a keyspace that nobody fills would keep fjall from removing journals.
const LAST: &str = "last";

/// Beside it, how long the entries of the family may be; 0 if none was ever large. It does not become less: to know
/// better, all keys would have to be read.
const LARGEST: &str = "largest";

/// Bytes of an entry from which on it is large. fjall keeps its value in a file for values, because who reads, merges or
/// flushes tables has several blocks of theirs in memory, and a block has at least one value.
const LARGE: usize = 1 << 20;

/// What an entry takes in memory beside its key and value.
pub const ENTRY_BYTES: usize = 64;

/// Writes that are committed together have at most so many bytes, but for one that has more by itself.
const GROUP_BYTES: usize = 16 << 20;

/// One of more than twice that waits, and all behind it, until fjall has no more than this in memory: it would take
/// several times as much.
const BUFFER_BYTES: u64 = 128 << 20;

/// Or so long: if fjall cannot write what it has, it says so.
const BUFFER_PATIENCE: Duration = Duration::from_secs(10);

/// Keys that are deleted together.
const CLEAR_KEYS: usize = 100_000;

/// What a disk must have free for a write, and what others must leave there: fjall makes tables of what it has taken at
/// any time, and merges them.
pub const RESERVE_BYTES: u64 = 64 << 20;

/// Writes that wait for the committing thread.
const WAITING: usize = 1024;

/// What happens to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// Its new value; `None` deletes it.
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
}

/// The open store. Its methods block.
pub struct RawStore {
    database: Database,
    families: [Keyspace; 2],
    given: Keyspace,
    /// Locked while something is given.
    giving: Mutex<()>,
    held: RwLock<Arc<Held>>,
    /// See [`LARGEST`]; of each family.
    largest: Arc<[AtomicU64; 2]>,
    path: PathBuf,
    committer: Committer,
}

/// What the store holds.
#[derive(Debug, Clone, Default)]
struct Held {
    /// Of each family, in order; they do not overlap.
    ranges: [Vec<KeyRange>; 2],
    /// The number of the last gift.
    last: u64,
}

impl Held {
    fn add(&mut self, number: u64, cf: ColumnFamily, ranges: Vec<KeyRange>) {
        let known = std::mem::take(&mut self.ranges[cf as usize]);
        self.ranges[cf as usize] = KeyRange::union([known, ranges].concat());
        self.last = self.last.max(number);
    }

    /// The range that has the key, if one does.
    fn around(&self, cf: ColumnFamily, key: &[u8]) -> Option<&KeyRange> {
        let ranges = &self.ranges[cf as usize];
        let behind = ranges.partition_point(|range| range.start() <= key);
        ranges[..behind].last().filter(|range| range.contains(key))
    }

    fn check(&self, cf: ColumnFamily, range: &KeyRange, path: &Path) -> Result<()> {
        match self.around(cf, range.start()).is_some_and(|held| held.covers(range)) {
            true => Ok(()),
            false => Err(not_held(path, format_args!("keys {range} of column family {cf}"))),
        }
    }
}

/// The error of a BE that is asked for what it should have and has not.
pub fn not_held(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::Refused(format!(
        "{} does not hold {what}, which were given to this BE: was its directory emptied, or is a disk not mounted? Put \
         it back and start the BE again; if it is lost, ALTER SYSTEM DROP BACKEND … FORCE gives its keys up, ADD BACKEND \
         takes the BE in again, and RESTORE RAW brings the keys back",
        path.display()
    ))
}

/// The thread that commits. It ends before the store is closed, which another may open then.
struct Committer {
    writes: Option<mpsc::SyncSender<Write>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.writes = None;
        // A panic is in the log.
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

struct Write {
    cf: ColumnFamily,
    changes: Vec<Change>,
    done: mpsc::SyncSender<Result<(), (std::io::ErrorKind, String)>>,
}

impl RawStore {
    /// Opens or creates the store in a directory that no other process uses.
    pub fn open(path: &Path) -> Result<Self> {
        check_files(path)?;
        let database = Database::builder(path).open().map_err(failed("open", path))?;
        let family = |cf: ColumnFamily| {
            let apart = KvSeparationOptions::default().separation_threshold(LARGE as u32);
            let options = || KeyspaceCreateOptions::default().with_kv_separation(Some(apart));
            database.keyspace(&cf.to_string(), options).map_err(failed("open", path))
        };
        // Of a store that is older than gifts nobody knows what it was given.
        let known = [ColumnFamily::Default, ColumnFamily::Write].map(|cf| database.keyspace_exists(&cf.to_string()));
        let older = known[0] && !database.keyspace_exists(GIVEN);
        let given = database.keyspace(GIVEN, KeyspaceCreateOptions::default).map_err(failed("open", path))?;
        let held = if older { adopt(&database, &given, path)? } else { read_given(&given, path)? };
        for cf in [ColumnFamily::Default, ColumnFamily::Write] {
            if !older && !known[cf as usize] && !held.ranges[cf as usize].is_empty() {
                return Err(damaged(path, format!("column family {cf} is missing")));
            }
        }
        let families = [family(ColumnFamily::Default)?, family(ColumnFamily::Write)?];
        let (mut last, largest) = (0, Arc::<[AtomicU64; 2]>::default());
        for (family, largest) in families.iter().zip(&*largest) {
            let number = |key| {
                let number = family.get(key).map_err(failed("read", path))?;
                Ok::<_, Error>(number.and_then(|number| number.as_ref().try_into().ok()).map(u64::from_be_bytes))
            };
            let known = number(LAST)?;
            last = last.max(known.unwrap_or(0));
            // In an older store there may be anything.
            let unknown = known.map_or(0, |_| (MAX_KEY + MAX_VALUE) as u64);
            largest.store(number(LARGEST)?.unwrap_or(unknown), Ordering::SeqCst);
        }
        Acknowledged::check(path, "raw store", last)?;
        let (writes, waiting) = mpsc::sync_channel(WAITING);
        let (acknowledged, to) = (Acknowledged::open(path)?, families.clone());
        let to = Journal { database: database.clone(), families: to, last, largest: largest.clone(), acknowledged };
        let thread = std::thread::Builder::new()
            .name("raw-commit".into())
            .spawn(move || commit(to, &waiting))
            .map_err(Error::io("start the thread that commits to", path))?;
        let committer = Committer { writes: Some(writes), thread: Some(thread) };
        let (giving, held) = (Mutex::default(), RwLock::new(Arc::new(held)));
        Ok(Self { database, families, given, giving, held, largest, path: path.to_owned(), committer })
    }

    /// From now on the store holds these keys, durably, and has none of them. May run twice. A gift that was overtaken by
    /// a later one is refused: it must not take away what was written since. So is one with the number of another.
    pub fn give(&self, number: u64, cf: ColumnFamily, ranges: Vec<KeyRange>) -> Result<()> {
        let _one = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        let key = number.to_be_bytes();
        if let Some(known) = self.given.get(key).map_err(failed("read", &self.path))? {
            let same =
                serde_json::from_slice(&known).is_ok_and(|known: (ColumnFamily, Vec<KeyRange>)| known == (cf, ranges));
            return if same { Ok(()) } else { Err(Error::Conflict(Entity::new(Kind::Region, number))) };
        }
        let mut held = Held::clone(&self.held());
        if number <= held.last {
            return Err(Error::Conflict(Entity::new(Kind::Region, number)));
        }
        for range in &ranges {
            self.clear_any(cf, range, &|| Ok(()))?;
        }
        self.check_space(0, RESERVE_BYTES)?;
        record_given(&self.database, &self.given, &[(number, cf, &ranges)]).map_err(failed("write", &self.path))?;
        held.add(number, cf, ranges);
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
        Ok(())
    }

    /// Refuses keys that were not given to this store.
    pub fn check_held(&self, cf: ColumnFamily, range: &KeyRange) -> Result<()> {
        self.held().check(cf, range, &self.path)
    }

    fn held(&self) -> Arc<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes changes, all or none, the later of two of one key being the one that counts. On return they are durable;
    /// after an error they may be, or not.
    pub fn write(&self, cf: ColumnFamily, changes: Vec<Change>) -> Result<()> {
        for Change { key, value } in &changes {
            let value = value.as_ref().map_or(0, Vec::len);
            if key.len() > MAX_KEY || value > MAX_VALUE {
                return Err(Error::Analysis(format!(
                    "the key has {} bytes and the value {value}; at most {MAX_KEY} and {MAX_VALUE} can be stored",
                    key.len()
                )));
            }
        }
        let held = self.held();
        if let Some(Change { key, .. }) = changes.iter().find(|change| held.around(cf, &change.key).is_none()) {
            return Err(not_held(&self.path, format_args!("key '{}' of column family {cf}", escape(key))));
        }
        self.commit(cf, changes)
    }

    fn commit(&self, cf: ColumnFamily, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            // fjall would not write it, and so not its number.
            return Ok(());
        }
        let length = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        // What deletes makes room, in the end.
        let deletes = changes.iter().all(|change| change.value.is_none());
        self.check_space(changes.iter().map(length).sum(), RESERVE_BYTES / if deletes { 2 } else { 1 })?;
        let ended = || Error::Cancelled("the raw store is closed".into());
        let (done, outcome) = mpsc::sync_channel(1);
        let writes = self.committer.writes.as_ref().ok_or_else(ended)?;
        writes.send(Write { cf, changes, done }).map_err(|_| ended())?;
        let outcome = outcome.recv().map_err(|_| ended())?;
        outcome.map_err(|(kind, message)| Error::io("write", &self.path)(std::io::Error::new(kind, message)))
    }

    /// Refuses what the disk may not hold: a write that fails in fjall's midst is the end of the process.
    fn check_space(&self, bytes: usize, reserve: u64) -> Result<()> {
        // The journal has it, and then a table.
        disk::check_free("write", &self.path, reserve + 2 * bytes as u64)
    }

    /// The entries of a range in key order, as they are now. Ends with the first error.
    pub fn scan(
        &self,
        cf: ColumnFamily,
        range: &KeyRange,
    ) -> Result<impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + use<>> {
        self.snapshot().scan(cf, range)
    }

    /// Everything as it is now. While it lives, the space of what is overwritten or deleted is not given back.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            snapshot: self.database.snapshot(),
            families: self.families.clone(),
            held: self.held(),
            // After the snapshot: no entry of it is longer.
            largest: [0, 1].map(|family| self.largest[family].load(Ordering::SeqCst)),
            path: self.path.clone(),
        }
    }

    /// Deletes the keys of a range that are there now. On return they are gone durably. `go_on` is asked before each batch.
    pub fn clear(&self, cf: ColumnFamily, range: &KeyRange, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
        self.check_held(cf, range)?;
        self.clear_any(cf, range, go_on)
    }

    fn clear_any(&self, cf: ColumnFamily, range: &KeyRange, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for entry in self.snapshot().entries(cf, range) {
            let (key, _) = entry?;
            bytes += key.len();
            changes.push(Change { key, value: None });
            if bytes >= GROUP_BYTES || changes.len() >= CLEAR_KEYS {
                go_on()?;
                self.commit(cf, std::mem::take(&mut changes))?;
                bytes = 0;
            }
        }
        go_on()?;
        if changes.is_empty() { Ok(()) } else { self.commit(cf, changes) }
    }

    /// Keys that divide a range into parts of about so many bytes each; none if it has no more.
    pub fn split_keys(&self, cf: ColumnFamily, range: &KeyRange, bytes: u64) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        let mut size = 0;
        for entry in self.scan(cf, range)? {
            let (key, value) = entry?;
            let length = (key.len() + value.len()) as u64;
            if size > 0 && size + length > bytes {
                keys.push(key);
                size = 0;
            }
            size += length;
        }
        Ok(keys)
    }
}

/// The store as it was at one moment.
#[derive(Clone)]
pub struct Snapshot {
    snapshot: fjall::Snapshot,
    families: [Keyspace; 2],
    held: Arc<Held>,
    largest: [u64; 2],
    path: PathBuf,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// How long entries of a family may be; 0 if none is large.
    pub fn largest(&self, cf: ColumnFamily) -> u64 {
        self.largest[cf as usize]
    }

    /// The entries of a range in key order. Ends with the first error. The store must have held the range.
    pub fn scan(
        &self,
        cf: ColumnFamily,
        range: &KeyRange,
    ) -> Result<impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + use<>> {
        self.held.check(cf, range, &self.path)?;
        Ok(self.entries(cf, range))
    }

    fn entries(&self, cf: ColumnFamily, range: &KeyRange) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + use<> {
        let stored = |key: &[u8]| [&[PREFIX], key].concat();
        let end = if range.end().is_empty() { vec![PREFIX + 1] } else { stored(range.end()) };
        let entries = self.snapshot.range(&self.families[cf as usize], stored(range.start())..end);
        let path = self.path.clone();
        let mut ended = false;
        entries.map_while(move |entry| {
            let entry = (!ended).then(|| entry.into_inner())?;
            ended = entry.is_err();
            Some(entry.map(|(key, value)| (key[1..].to_vec(), value.to_vec())).map_err(failed("read", &path)))
        })
    }
}

impl std::fmt::Debug for RawStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawStore").field("path", &self.path).finish_non_exhaustive()
    }
}

type Gift<'a> = (u64, ColumnFamily, &'a [KeyRange]);

/// Records gifts, all or none.
fn record_given(database: &Database, given: &Keyspace, gifts: &[Gift<'_>]) -> fjall::Result<()> {
    let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
    for (number, cf, ranges) in gifts {
        let record = serde_json::to_vec(&(cf, ranges)).map_err(std::io::Error::from)?;
        batch.insert(given, number.to_be_bytes(), record);
    }
    batch.commit()
}

fn read_given(given: &Keyspace, path: &Path) -> Result<Held> {
    let mut held = Held::default();
    for entry in given.iter() {
        let (key, record) = entry.into_inner().map_err(failed("read", path))?;
        let unreadable = || damaged(path, "a record of what was given to it cannot be read");
        let number = key.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| unreadable())?;
        let (cf, ranges) = serde_json::from_slice(&record).map_err(|_| unreadable())?;
        held.add(number, cf, ranges);
    }
    Ok(held)
}

/// Refuses a store that lacks a file which fjall would make anew, forgetting what the old one had: it takes a keyspace
/// without `current` for one that has only begun to be made, and removes its tables.
fn check_files(path: &Path) -> Result<()> {
    let files = |directory: &Path| match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(err),
    };
    let files = |directory: &Path| files(directory).map_err(Error::io("list", directory));
    let all = files(path)?;
    // It is written last when a store is made.
    if !all.iter().any(|file| file.ends_with("version")) {
        return Ok(());
    }
    if !all.iter().any(|file| file.extension().is_some_and(|end| end == "jnl")) {
        return Err(damaged(path, "its journal, a .jnl file, is missing"));
    }
    for keyspace in files(&path.join("keyspaces"))? {
        let current = keyspace.join("current");
        if !current.exists() && !files(&keyspace.join("tables"))?.is_empty() {
            return Err(damaged(path, format!("{} is missing", current.display())));
        }
    }
    Ok(())
}

fn damaged(path: &Path, message: impl Into<String>) -> Error {
    Error::Corrupt { what: "raw store", path: path.display().to_string(), message: message.into() }
}

fn adopt(database: &Database, given: &Keyspace, path: &Path) -> Result<Held> {
    let all = [KeyRange::default()];
    let gifts: [Gift<'_>; 2] = [(0, ColumnFamily::Default, &all), (1, ColumnFamily::Write, &all)];
    record_given(database, given, &gifts).map_err(failed("write", path))?;
    let mut held = Held::default();
    gifts.into_iter().for_each(|(number, cf, ranges)| held.add(number, cf, ranges.to_vec()));
    Ok(held)
}

/// What the committing thread writes to.
struct Journal {
    database: Database,
    families: [Keyspace; 2],
    /// The number of the last batch.
    last: u64,
    /// Of what is there, and will be.
    largest: Arc<[AtomicU64; 2]>,
    acknowledged: Acknowledged,
}

/// Commits until the store is dropped. After a failed sync fjall refuses all further writes until it is opened again,
/// and so nothing is acknowledged that stands behind what may be lost; the process ends, for whoever starts it again.
fn commit(mut to: Journal, waiting: &mpsc::Receiver<Write>) {
    while let Ok(first) = waiting.recv() {
        let mut group = BTreeMap::new();
        let (mut bytes, mut done) = (0, Vec::new());
        for write in std::iter::once(first).chain(waiting.try_iter()) {
            for Change { key, value } in write.changes {
                let length = key.len() + value.as_ref().map_or(0, Vec::len);
                if length >= LARGE {
                    // It does not change often.
                    let length = length.next_power_of_two() as u64;
                    to.largest[write.cf as usize].fetch_max(length, Ordering::SeqCst);
                }
                bytes += length + ENTRY_BYTES;
                group.insert((write.cf, key), value);
            }
            done.push(write.done);
            if bytes >= GROUP_BYTES {
                break;
            }
        }
        let began = Instant::now();
        while bytes > 2 * GROUP_BYTES
            && to.database.write_buffer_size() > BUFFER_BYTES
            && began.elapsed() < BUFFER_PATIENCE
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        // fjall would not know which of two changes of one key in a batch is the later.
        let mut batch = to.database.batch().durability(Some(PersistMode::SyncAll));
        to.last += 1;
        let mut numbered = [false; 2];
        for ((cf, key), value) in group {
            let (family, key) = (&to.families[cf as usize], [&[PREFIX], key.as_slice()].concat());
            if !std::mem::replace(&mut numbered[cf as usize], true) {
                batch.insert(family, LAST, to.last.to_be_bytes());
                batch.insert(family, LARGEST, to.largest[cf as usize].load(Ordering::SeqCst).to_be_bytes());
            }
            match value {
                Some(value) => batch.insert(family, key, value),
                None => batch.remove(family, key),
            }
        }
        let outcome = batch.commit();
        if matches!(outcome, Err(fjall::Error::Poisoned)) {
            tracing::error!("a write of raw keys has failed before, so this process ends");
            std::process::exit(1);
        }
        let outcome = outcome.map_err(|error| match error {
            fjall::Error::Io(error) => (error.kind(), error.to_string()),
            other => (std::io::ErrorKind::Other, other.to_string()),
        });
        let outcome = outcome
            .and_then(|()| to.acknowledged.note(to.last).map_err(|error| (std::io::ErrorKind::Other, error.report())));
        // Whoever has stopped waiting does not know, which is right.
        done.into_iter().for_each(|done| _ = done.send(outcome.clone()));
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(fjall::Error) -> Error {
    let path = path.to_owned();
    move |error| match error {
        fjall::Error::Io(error) => Error::io(operation, &path)(error),
        other => damaged(&path, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    const CF: ColumnFamily = ColumnFamily::Default;

    impl RawStore {
        /// One that was given all keys.
        pub fn of_all_keys(path: &Path) -> Self {
            let store = Self::open(path).unwrap();
            store.give(1, CF, vec![KeyRange::default()]).unwrap();
            store.give(2, ColumnFamily::Write, vec![KeyRange::default()]).unwrap();
            store
        }
    }

    fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Change {
        Change { key: key.into(), value: Some(value.into()) }
    }

    fn delete(key: impl Into<Vec<u8>>) -> Change {
        Change { key: key.into(), value: None }
    }

    fn range(start: &[u8], end: &[u8]) -> KeyRange {
        KeyRange::new(start.to_vec(), end.to_vec()).unwrap()
    }

    fn all(store: &RawStore, cf: ColumnFamily) -> BTreeMap<Vec<u8>, Vec<u8>> {
        store.scan(cf, &KeyRange::default()).unwrap().map(Result::unwrap).collect()
    }

    /// Values that fjall keeps in files of their own, some of them overwritten and deleted since, are there when the store
    /// is opened again, and so is how large they were.
    #[test]
    fn large_values_are_kept_and_known() {
        let directory = tempfile::tempdir().unwrap();
        let value = |n: u8| vec![n; 2 * LARGE + usize::from(n)];
        let mut expected = BTreeMap::new();
        {
            let store = RawStore::of_all_keys(directory.path());
            let small = store.snapshot();
            // More than fjall keeps in memory.
            for n in 0..40u8 {
                expected.insert(vec![n % 35], value(n));
                store.write(CF, vec![put([n % 35], value(n))]).unwrap();
            }
            store.clear(CF, &range(b"\x05", b"\x09"), &|| Ok(())).unwrap();
            expected.retain(|key, _| !(5..9).contains(&key[0]));
            assert_eq!((small.largest(CF), small.scan(CF, &KeyRange::default()).unwrap().count()), (0, 0));
            assert!(store.snapshot().largest(CF) > 2 * LARGE as u64);
        }
        let store = RawStore::open(directory.path()).unwrap();
        assert!(all(&store, CF) == expected);
        let largest = |cf| store.snapshot().largest(cf);
        assert!((2 * LARGE as u64..MAX_VALUE as u64).contains(&largest(CF)), "{}", largest(CF));
        assert_eq!(largest(ColumnFamily::Write), 0);
        let blobs = walkdir::WalkDir::new(directory.path()).into_iter().map(Result::unwrap);
        let blobs = blobs.filter(|entry| entry.path().parent().is_some_and(|parent| parent.ends_with("blobs")));
        assert!(blobs.count() > 0, "fjall has written them");
        // An older store does not tell.
        store.families[0].remove(LARGEST).unwrap();
        drop(store);
        assert!(RawStore::open(directory.path()).unwrap().snapshot().largest(CF) > MAX_VALUE as u64);
    }

    #[test]
    fn families_are_apart_and_the_later_change_counts() {
        let directory = tempfile::tempdir().unwrap();
        let store = RawStore::of_all_keys(directory.path());
        let odd: [&[u8]; 5] = [b"", b"\0", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"z", b"{"];
        store.write(CF, odd.iter().map(|key| put(*key, *key)).collect()).unwrap();
        store.write(ColumnFamily::Write, vec![put("a", "1"), put("a", "2"), put("b", ""), delete("b")]).unwrap();
        assert_eq!(all(&store, CF), odd.iter().map(|key| (key.to_vec(), key.to_vec())).collect());
        assert_eq!(all(&store, ColumnFamily::Write), [(b"a".to_vec(), b"2".to_vec())].into());

        assert!(matches!(store.write(CF, vec![put(vec![0; MAX_KEY + 1], "")]), Err(Error::Analysis(_))));
        store.write(CF, vec![put(vec![b'k'; MAX_KEY], "long")]).unwrap();
        let read: Vec<_> = store.scan(CF, &range(b"k", b"l")).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [(vec![b'k'; MAX_KEY], b"long".to_vec())]);
    }

    #[test]
    fn a_scan_sees_what_was_there_when_it_began() {
        let directory = tempfile::tempdir().unwrap();
        let store = RawStore::of_all_keys(directory.path());
        let keys = || (0..5000).map(|n| format!("{n:04}"));
        store.write(CF, keys().map(|key| put(key, "old")).collect()).unwrap();
        let mut scan = store.scan(CF, &range(b"1000", b"3000")).unwrap();
        assert_eq!(scan.next().unwrap().unwrap(), (b"1000".to_vec(), b"old".to_vec()));
        store.write(CF, keys().skip(2000).map(delete).collect()).unwrap();
        store.write(CF, vec![put("1500", "new"), put("15005", "new")]).unwrap();
        let rest: Vec<_> = scan.map(Result::unwrap).collect();
        assert!(rest.len() == 1999 && rest.iter().all(|(_, value)| value == b"old"));
        assert_eq!(all(&store, CF).len(), 2001);
    }

    /// A store has nothing to say of what it was not given, be it read or written.
    #[test]
    fn what_was_not_given_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = RawStore::open(directory.path()).unwrap();
        let refused = |result: Result<()>| {
            let text = result.unwrap_err().report();
            assert!(text.contains("does not hold") && text.contains(directory.path().to_str().unwrap()), "{text}");
        };
        refused(store.write(CF, vec![put("a", "1")]));
        refused(store.scan(CF, &KeyRange::default()).map(drop));
        store.give(5, CF, vec![range(b"b", b"d"), range(b"x", b"")]).unwrap();
        store.write(CF, vec![put("b", "1"), put("c", "2"), put("y", "3")]).unwrap();
        refused(store.write(CF, vec![put("b", "1"), put("d", "1")]));
        refused(store.write(ColumnFamily::Write, vec![put("b", "1")]));
        refused(store.scan(CF, &range(b"a", b"c")).map(drop));
        refused(store.clear(CF, &range(b"c", b"y"), &|| Ok(())));
        refused(store.split_keys(CF, &range(b"a", b"c"), 1).map(drop));
        refused(store.snapshot().scan(CF, &KeyRange::default()).map(drop));

        // The same gift again changes nothing; one that comes late is refused; a new one is empty.
        store.give(5, CF, vec![range(b"b", b"d"), range(b"x", b"")]).unwrap();
        assert!(matches!(store.give(4, CF, vec![range(b"b", b"d")]), Err(Error::Conflict(_))));
        assert!(matches!(store.give(5, CF, vec![range(b"a", b"d")]), Err(Error::Conflict(_))));
        let count = |store: &RawStore| store.scan(CF, &range(b"b", b"d")).unwrap().count();
        assert_eq!(count(&store), 2);
        store.give(6, CF, vec![range(b"c", b"d")]).unwrap();
        assert_eq!(count(&store), 1);
        drop(store);
        let store = RawStore::open(directory.path()).unwrap();
        assert_eq!(count(&store), 1);
        assert_eq!(store.scan(CF, &range(b"x", b"")).unwrap().count(), 1);
        refused(store.write(CF, vec![put("d", "1")]));
    }

    #[test]
    fn a_range_is_divided_by_size() {
        let directory = tempfile::tempdir().unwrap();
        let store = RawStore::of_all_keys(directory.path());
        store.write(CF, (0..10).map(|n| put(format!("{n}"), vec![0; 9])).collect()).unwrap();
        let split = |range: KeyRange, bytes| store.split_keys(CF, &range, bytes).unwrap();
        assert_eq!(split(KeyRange::default(), 30), [b"3", b"6", b"9"]);
        assert_eq!(split(range(b"1", b"4"), 10), [b"2", b"3"]);
        assert!(split(KeyRange::default(), 100).is_empty() && split(range(b"a", b"b"), 1).is_empty());
    }

    #[test]
    fn writers_at_once_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = RawStore::of_all_keys(directory.path());
        std::thread::scope(|scope| {
            for writer in 0..16 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..50 {
                        let key = format!("{writer}-{n}");
                        store.write(CF, vec![put(key.clone(), "")]).unwrap();
                        assert_eq!(
                            store.scan(CF, &range(key.as_bytes(), b"")).unwrap().next().unwrap().unwrap().0,
                            key.as_bytes()
                        );
                    }
                });
            }
        });
        drop(store);
        assert_eq!(all(&RawStore::of_all_keys(directory.path()), CF).len(), 800);
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0), Just(b'z'), Just(0xFF)], 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20) })]

        /// The store is an ordered map, and is one when opened again.
        #[test]
        fn it_is_an_ordered_map(
            writes in prop::collection::vec(prop::collection::vec((key(), prop::option::of(key())), 1..8), 1..12),
            (a, b) in (key(), key()),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut model = BTreeMap::new();
            {
                let store = RawStore::of_all_keys(directory.path());
                for write in writes {
                    store.write(CF, write.iter().cloned().map(|(key, value)| Change { key, value }).collect()).unwrap();
                    for (key, value) in write {
                        match value {
                            Some(value) => model.insert(key, value),
                            None => model.remove(&key),
                        };
                    }
                    prop_assert_eq!(&all(&store, CF), &model);
                }
            }
            let store = RawStore::of_all_keys(directory.path());
            prop_assert_eq!(&all(&store, CF), &model);
            if let Ok(range) = KeyRange::new(a, b) {
                let inside: Vec<_> = model.into_iter().filter(|(key, _)| range.contains(key)).collect();
                prop_assert_eq!(store.scan(CF, &range).unwrap().map(Result::unwrap).collect::<Vec<_>>(), inside);
            }
        }
    }

    const KILLED: &str = "HOLDFAST_TEST_RAW_STORE";

    /// The process that [`what_was_acknowledged_survives_a_kill`] kills: four writers, each of which says every number
    /// that is acknowledged.
    #[test]
    fn writer_to_be_killed() {
        let Some(directory) = std::env::var_os(KILLED) else { return };
        let store = RawStore::of_all_keys(Path::new(&directory));
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0.. {
                        let changes = [0, 1].map(|half| put(format!("{writer}-{n}-{half}"), vec![writer; 300]));
                        store.write(CF, changes.into()).unwrap();
                        println!("acknowledged {writer}-{n}");
                    }
                });
            }
        });
    }

    #[test]
    fn what_was_acknowledged_survives_a_kill() {
        let directory = tempfile::tempdir().unwrap();
        let mut acknowledged = Vec::new();
        for _ in 0..3 {
            let mut writer = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "rawkv::store::tests::writer_to_be_killed", "--nocapture"])
                .env(KILLED, directory.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
            let mut said = 0;
            while said < 400 {
                let line = lines.next().unwrap().unwrap();
                if let Some((_, name)) = line.split_once("acknowledged ") {
                    acknowledged.push(name.to_owned());
                    said += 1;
                }
            }
            writer.kill().unwrap();
            acknowledged.extend(
                lines
                    .map_while(Result::ok)
                    .filter_map(|line| line.split_once("acknowledged ").map(|(_, name)| name.to_owned())),
            );
            writer.wait().unwrap();
            // The last line may be cut short.
            acknowledged.pop();

            let kept = all(&RawStore::of_all_keys(directory.path()), CF);
            for name in &acknowledged {
                for half in ["-0", "-1"] {
                    assert!(kept.contains_key(format!("{name}{half}").as_bytes()), "{name} is lost");
                }
            }
            // Each write is there as a whole or not at all.
            for key in kept.keys() {
                let mut other = key.clone();
                *other.last_mut().unwrap() ^= 1;
                assert!(kept.contains_key(&other), "half of {} is lost", escape(key));
            }
        }
    }
}
