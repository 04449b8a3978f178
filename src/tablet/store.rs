use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::Digest;

use crate::disk;
use crate::error::{Error, Result};
use crate::types::{FileId, RowsetFile, Sha256, Timestamp};

const EXTENSION: &str = ".parquet";

/// The rowset files of a BE, in one directory:
///
/// ```text
/// files/<2 hex of the CRC-32 of the id>/<id>.parquet    installed: whole, synced, never changed
/// staging/<n>                                           unfinished; removed when the store is opened
/// trash/<yyyy-MM-dd>/<id>.parquet                       thrown away on that day
/// ```
///
/// Any thread may call any method at any time. All of them block.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    staged: AtomicU64,
    reserve: AtomicU64,
}

/// A file that is being made. Dropped before [`Store::install`] takes it, it is removed.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
}

impl Store {
    /// Opens or creates a store, and removes what was left unfinished in it. One process may have it open.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let store = Self { dir: dir.into(), staged: AtomicU64::new(0), reserve: AtomicU64::new(0) };
        let staging = store.dir.join("staging");
        match fs::remove_dir_all(&staging) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(Error::io("clear", &staging)(err)),
            _ => {}
        }
        for sub in ["staging", "trash", "files"] {
            create_dir(&store.dir.join(sub))?;
        }
        for bucket in 0..=u8::MAX {
            let path = store.bucket(bucket);
            fs::create_dir(&path).or_else(present).map_err(Error::io("create", &path))?;
        }
        sync_dir(&store.dir.join("files"))?;
        sync_dir(&store.dir)?;
        Ok(store)
    }

    /// Where a file is, or would be.
    pub fn path(&self, id: FileId) -> PathBuf {
        let name = id.to_string();
        let bucket = crc32fast::hash(name.as_bytes()) as u8;
        self.bucket(bucket).join(name + EXTENSION)
    }

    /// The length of an installed file; `None` if there is none.
    pub fn has(&self, id: FileId) -> Result<Option<u64>> {
        let path = self.path(id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            Err(err) => Err(Error::io("look at", &path)(err)),
        }
    }

    /// Files that are begun or grow from now on leave so many bytes free on the disk, for others who would not survive
    /// its being full.
    pub fn keep_free(&self, bytes: u64) {
        self.reserve.store(bytes, Ordering::Relaxed);
    }

    /// Begins a file of so many bytes, and takes the room for them: an error if that is not there beside what is to be kept
    /// free. Where the size is not known yet, see [`Self::check_room`].
    pub fn stage(&self, size: Option<u64>) -> Result<(File, Staged)> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join("staging").join(number.to_string());
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let staged = Staged { path };
        match (self.reserve.load(Ordering::Relaxed), size) {
            (0, _) | (_, None) => {}
            (reserve, Some(size)) => disk::take("take room for", &staged.path, &file, size, reserve)?,
        }
        Ok((file, staged))
    }

    /// Refuses so many more bytes of a file where they would take what is to be kept free.
    pub fn check_room(&self, staged: &Staged, bytes: usize) -> Result<()> {
        match self.reserve.load(Ordering::Relaxed) {
            0 => Ok(()),
            reserve => disk::check_free("write", &staged.path, reserve + bytes as u64),
        }
    }

    /// Makes staged files the files of those ids; all are durable on return. A file that has the id already is
    /// replaced, so that a repeated write or download does no harm. After an error some may be installed.
    pub fn install(&self, files: Vec<(Staged, FileId)>) -> Result<()> {
        for (staged, _) in &files {
            let file = File::open(&staged.path).map_err(Error::io("open", &staged.path))?;
            file.sync_all().map_err(Error::io("sync", &staged.path))?;
        }
        let mut changed = BTreeSet::new();
        for (staged, id) in files {
            let path = self.path(id);
            fs::rename(&staged.path, &path).map_err(Error::io("install", &path))?;
            changed.extend(path.parent().map(Path::to_owned));
        }
        changed.iter().try_for_each(|dir| sync_dir(dir))
    }

    /// All installed files and their lengths, in no order. What is installed or thrown away meanwhile may be missed.
    pub fn list(&self) -> impl Iterator<Item = Result<(FileId, u64)>> + Send + use<> {
        let buckets: Vec<PathBuf> = (0..=u8::MAX).map(|bucket| self.bucket(bucket)).collect();
        buckets.into_iter().flat_map(|bucket| match fs::read_dir(&bucket) {
            Ok(entries) => entries.filter_map(|entry| installed(entry).transpose()).collect(),
            Err(err) => vec![Err(Error::io("list", &bucket)(err))],
        })
    }

    /// Moves a file to the trash of the day, or removes it for good where the disk has no room for a folder. Repeatable: an
    /// absent file is no error. Not synced: after a power cut the file may be back, and is thrown away again.
    pub fn trash(&self, id: FileId, now: Timestamp) -> Result<()> {
        let day = self.dir.join("trash").join(day(now));
        let path = self.path(id);
        loop {
            let thrown = match fs::create_dir(&day).or_else(present) {
                Err(err) if err.kind() != ErrorKind::StorageFull => return Err(Error::io("create", &day)(err)),
                created => created.and_then(|()| fs::rename(&path, day.join(format!("{id}{EXTENSION}")))),
            };
            match thrown {
                Err(err) if err.kind() == ErrorKind::StorageFull => {
                    return fs::remove_file(&path).map_err(Error::io("remove", &path));
                }
                // The day's folder may just have been emptied.
                Err(err) if err.kind() == ErrorKind::NotFound && path.exists() => {}
                Err(err) if err.kind() != ErrorKind::NotFound => return Err(Error::io("throw away", &path)(err)),
                _ => return Ok(()),
            }
        }
    }

    /// Removes for good what was thrown away on days before that of `before`; and days after that, from the oldest, as
    /// long as `more` says so.
    pub fn empty_trash(&self, before: Timestamp, more: impl Fn() -> Result<bool>) -> Result<()> {
        let trash = self.dir.join("trash");
        let days = fs::read_dir(&trash).and_then(|days| days.map(|day| Ok(day?.path())).collect());
        let mut days: Vec<PathBuf> = days.map_err(Error::io("list", &trash))?;
        days.sort();
        for path in days {
            let old = path.file_name().is_some_and(|name| *name.to_string_lossy() < *day(before));
            if !old && !more()? {
                break;
            }
            match fs::remove_dir_all(&path) {
                // Something has just been thrown there.
                Err(err) if err.kind() == ErrorKind::DirectoryNotEmpty => {}
                removed => removed.map_err(Error::io("remove", &path))?,
            }
        }
        Ok(())
    }

    /// Reads a whole file and compares its length and hash; [`Error::Corrupt`] names it if they differ.
    pub fn verify(&self, expected: &RowsetFile) -> Result<()> {
        let path = self.path(expected.id);
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let mut hasher = sha2::Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = file.read(&mut buffer).map_err(Error::io("read", &path))?;
            if read == 0 {
                break;
            }
            size += read as u64;
            hasher.update(&buffer[..read]);
        }
        if size != expected.size {
            return Err(corrupt(&path, format!("it has {size} bytes, not {}", expected.size)));
        }
        let hash = Sha256(hasher.finalize().into());
        if hash != expected.sha256 {
            return Err(corrupt(&path, format!("its SHA-256 is {hash}, not {}", expected.sha256)));
        }
        Ok(())
    }

    fn bucket(&self, bucket: u8) -> PathBuf {
        self.dir.join("files").join(format!("{bucket:02x}"))
    }
}

impl Staged {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once installed it is not there any more; what cannot be removed now, the next opening removes.
        let _ = fs::remove_file(&self.path);
    }
}

/// For a rowset file that is not what it should be.
pub(super) fn corrupt(path: &Path, message: impl Into<String>) -> Error {
    Error::Corrupt { what: "rowset file", path: path.display().to_string(), message: message.into() }
}

fn installed(entry: std::io::Result<fs::DirEntry>) -> Result<Option<(FileId, u64)>> {
    let entry = entry.map_err(Error::io("list", "rowset files"))?;
    let name = entry.file_name();
    let Some(id) = name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.parse().ok()) else {
        tracing::warn!(path = %entry.path().display(), "not a rowset file");
        return Ok(None);
    };
    match entry.metadata() {
        Ok(metadata) => Ok(Some((id, metadata.len()))),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Error::io("look at", entry.path())(err)),
    }
}

fn day(time: Timestamp) -> String {
    time.utc().format("%Y-%m-%d").to_string()
}

/// Creates a directory and those above it that are missing, each durable.
fn create_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            let parent = path.parent().ok_or_else(|| Error::io("create", path)(err))?;
            create_dir(parent)?;
            fs::create_dir(path).or_else(present).map_err(Error::io("create", path))?;
        }
        other => other.or_else(present).map_err(Error::io("create", path))?,
    }
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

fn present(err: std::io::Error) -> std::io::Result<()> {
    if err.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(err) }
}

fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}
