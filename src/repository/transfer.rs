//! Rowset files to objects, and parts of objects to files: every byte is hashed on its way.
//!
//! Content with another hash than expected is an error, and what was written of it counts for nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use sha2::Digest;

use crate::clock::{Throttle, crash_point};
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::types::{FileId, Sha256};

/// Bytes read, hashed and written at a time by one thread: few enough to stay in its processor's cache meanwhile, since
/// going through memory takes several times as long.
pub(super) const PIECE: usize = 1 << 17;

/// Bytes that move before others get the thread, the speed limit is asked and progress is told.
const STEP: u64 = 1 << 19;

/// A rowset file to upload, and what it must hold.
#[derive(Debug, Clone)]
pub struct LocalFile {
    /// Its id, for messages.
    pub id: FileId,
    /// Where it is.
    pub path: PathBuf,
    /// What it must hash to.
    pub sha256: Sha256,
    /// Length in bytes.
    pub size: u64,
}

impl LocalFile {
    fn check(&self, length: u64, hasher: sha2::Sha256) -> Result<()> {
        if length == self.size && Sha256(hasher.finalize().into()) == self.sha256 {
            return Ok(());
        }
        Err(Error::Corrupt {
            what: "rowset file",
            path: format!("{} at {}", self.id, self.path.display()),
            message: format!("it is not the {} bytes with SHA-256 {} that were written", self.size, self.sha256),
        })
    }
}

/// A part of an object to download, and the new local file it becomes.
#[derive(Debug)]
pub struct Content {
    /// Where in the object it begins.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// What it must hash to.
    pub sha256: Sha256,
    /// Where it goes.
    pub target: File,
}

/// A rowset file being read.
struct Source {
    reader: BufReader<File>,
    path: PathBuf,
    hasher: sha2::Sha256,
}

impl Source {
    fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(Error::io("open rowset file", &path))?;
        Ok(Self { reader: BufReader::with_capacity(PIECE, file), path, hasher: sha2::Sha256::new() })
    }
}

/// What an object is written to: a file on a disk, or memory for one PUT.
enum Sink {
    Disk(File),
    Memory(Vec<bytes::Bytes>),
}

impl Sink {
    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.write_all(piece),
            Self::Memory(whole) => {
                whole.push(bytes::Bytes::copy_from_slice(piece));
                Ok(())
            }
        }
    }
}

/// The contents that an object's bytes become, in order.
struct Targets {
    contents: Vec<Content>,
    /// The one that the next byte may belong to.
    at: usize,
    /// Of the next byte in the object.
    position: u64,
    hasher: sha2::Sha256,
    /// The object, for messages.
    object: String,
}

impl Targets {
    /// Takes the next bytes of the object; a content that is another one than was backed up is [`Error::Corrupt`].
    fn take(&mut self, piece: &[u8]) -> Result<()> {
        let (begin, end) = (self.position, self.position + piece.len() as u64);
        while let Some(content) = self.contents.get_mut(self.at) {
            let content_end = content.offset + content.size;
            let (from, to) = (content.offset.max(begin), content_end.min(end));
            if from < to {
                let part = &piece[(from - begin) as usize..(to - begin) as usize];
                self.hasher.update(part);
                content.target.write_all(part).map_err(Error::io("write", "a downloaded file"))?;
            }
            if content_end > end {
                break;
            }
            if Sha256(std::mem::take(&mut self.hasher).finalize().into()) != content.sha256 {
                let Content { size, sha256, .. } = content;
                return Err(Error::Corrupt {
                    what: "repository file",
                    path: self.object.clone(),
                    message: format!("it is not the {size} bytes with SHA-256 {sha256} that were backed up"),
                });
            }
            self.at += 1;
        }
        self.position = end;
        Ok(())
    }
}

/// The next piece of a file, of at most `most` bytes; an empty one is the end.
fn next(reader: &mut BufReader<File>, most: u64) -> io::Result<&[u8]> {
    while let Err(err) = reader.fill_buf() {
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    }
    let piece = reader.buffer();
    Ok(&piece[..most.min(piece.len() as u64) as usize])
}

impl Repository {
    /// Copies local rowset files, one after another, to an object, durably, hashing what is read: a file that is no
    /// longer what the catalog says is [`Error::Corrupt`], and the object counts for nothing. May run twice. `moved`
    /// hears of bytes.
    ///
    /// Object stores get the whole content in one PUT, so it is in memory; disks get one file piece by piece, and
    /// `worker` is given back before it is synced.
    pub async fn upload(
        &self,
        files: &[LocalFile],
        object: &str,
        throttle: &Throttle,
        moved: impl Fn(u64),
        worker: impl Send,
    ) -> Result<()> {
        let folders = self.folders_to_sync(object).await;
        let mut sink = match &self.disk {
            None => Sink::Memory(Vec::new()),
            Some(disk) => {
                let path = disk.join(self.full(object));
                let failed = self.disk_error("upload", object);
                let create = move || {
                    path.parent()
                        .map_or(Ok(()), std::fs::create_dir_all)
                        .and_then(|()| File::create(&path))
                        .map_err(failed)
                };
                Sink::Disk(self.on_disk("upload", object, create).await?)
            }
        };
        for file in files {
            let path = file.path.clone();
            let open = move || {
                crash_point("repository.upload");
                Source::open(path)
            };
            let mut source = super::blocking(open).await?;
            let mut length = 0;
            // A file that has grown must not fill the memory.
            while length <= file.size {
                if self.disk.is_some() {
                    throttle.take(STEP.min(file.size - length) as usize).await;
                }
                let failed = self.disk_error("upload", object);
                let step = move || {
                    let mut read = 0;
                    while read < STEP {
                        let piece = next(&mut source.reader, STEP - read)
                            .map_err(Error::io("read rowset file", &source.path))?;
                        if piece.is_empty() {
                            break;
                        }
                        source.hasher.update(piece);
                        sink.take(piece).map_err(&failed)?;
                        let taken = piece.len();
                        source.reader.consume(taken);
                        read += taken as u64;
                    }
                    Ok((source, sink, read))
                };
                let read;
                (source, sink, read) = self.on_disk("upload", object, step).await?;
                if read == 0 {
                    break;
                }
                length += read;
                if self.disk.is_some() {
                    moved(read);
                }
            }
            // Only a content that is right is completed, so that on stores with atomic puts a wrong one never shows.
            file.check(length, source.hasher)?;
        }
        match sink {
            Sink::Disk(file) => {
                drop(worker);
                let failed = self.disk_error("upload", object);
                self.on_disk("upload", object, move || file.sync_all().map_err(failed)).await?;
                self.sync_folders(folders).await
            }
            Sink::Memory(whole) => {
                let failed = |err| self.store_error("upload", object, err);
                let content: opendal::Buffer = whole.into();
                let length = content.len();
                throttle.take(length).await;
                let mut writer = self.uploads.writer(&self.full(object)).await.map_err(failed)?;
                writer.write(content).await.map_err(failed)?;
                writer.close().await.map_err(failed)?;
                moved(length as u64);
                Ok(())
            }
        }
    }

    /// Copies parts of an object to new local files, synced, hashing what arrives: any other content, or none, is an
    /// error that names the object. Several parts, in order, are brought by one request. May run twice on fresh files.
    /// `moved` hears of bytes; `worker` is given back before the files are synced.
    pub async fn download(
        &self,
        object: &str,
        contents: Vec<Content>,
        throttle: &Throttle,
        moved: impl Fn(u64),
        worker: impl Send,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (contents.first(), contents.last()) else { return Ok(()) };
        let begin = first.offset;
        let end = last.offset.checked_add(last.size).filter(|end| *end >= begin);
        let end = end.ok_or_else(|| self.corrupt(object, "the file list names bytes that no object can have"))?;
        let brought = self.bring(object, begin..end, contents, throttle, moved).await;
        match brought {
            Ok(contents) => {
                drop(worker);
                let sync = Error::io("sync", "a downloaded file");
                super::blocking(move || contents.iter().try_for_each(|content| content.target.sync_all()).map_err(sync))
                    .await
            }
            // Stores have many ways to say that an object is too short, and may call it an error that passes.
            Err(err @ Error::Repository { .. }) => match self.operator.stat(&self.full(object)).await {
                Ok(found) if found.content_length() < end => {
                    let found = found.content_length();
                    let message = format!("it has {found} bytes, but {} from {begin} on are needed", end - begin);
                    Err(self.corrupt(object, message))
                }
                _ => Err(err),
            },
            Err(err) => Err(err),
        }
    }

    /// Reads a range of an object and writes each of the contents in it to its file.
    async fn bring(
        &self,
        object: &str,
        range: Range<u64>,
        contents: Vec<Content>,
        throttle: &Throttle,
        moved: impl Fn(u64),
    ) -> Result<Vec<Content>> {
        let (position, hasher, shown) = (range.start, sha2::Sha256::new(), self.shown(object));
        let targets = Targets { contents, at: 0, position, hasher, object: shown };
        let targets = match &self.disk {
            Some(disk) => self.bring_from_disk(disk, object, range, targets, throttle, moved).await?,
            None => self.bring_from_store(object, range, targets, throttle, moved).await?,
        };
        if targets.at < targets.contents.len() {
            return Err(self.error("download", object, "the content ended early", true));
        }
        Ok(targets.contents)
    }

    async fn bring_from_store(
        &self,
        object: &str,
        range: Range<u64>,
        mut targets: Targets,
        throttle: &Throttle,
        moved: impl Fn(u64),
    ) -> Result<Targets> {
        let failed = |err| self.store_error("download", object, err);
        let reader = self.operator.reader(&self.full(object)).await.map_err(failed)?;
        let mut stream = reader.into_bytes_stream(range).await.map_err(failed)?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|err| match err.downcast::<opendal::Error>() {
                Ok(err) => failed(err),
                Err(err) => self.error("download", object, err, true),
            })?;
            throttle.take(chunk.len()).await;
            let count = chunk.len() as u64;
            targets = super::blocking(move || targets.take(&chunk).map(|()| targets)).await?;
            moved(count);
        }
        Ok(targets)
    }

    async fn bring_from_disk(
        &self,
        disk: &Path,
        object: &str,
        range: Range<u64>,
        mut targets: Targets,
        throttle: &Throttle,
        moved: impl Fn(u64),
    ) -> Result<Targets> {
        let path = disk.join(self.full(object));
        let failed = self.disk_error("download", object);
        let open = move || {
            let mut file = File::open(path).map_err(&failed)?;
            file.seek(SeekFrom::Start(range.start)).map_err(&failed)?;
            Ok(BufReader::with_capacity(PIECE, file))
        };
        let mut reader = self.on_disk("download", object, open).await?;
        while targets.position < range.end {
            let begin = targets.position;
            let end = range.end.min(begin + STEP);
            throttle.take((end - begin) as usize).await;
            let failed = self.disk_error("download", object);
            let step = move || {
                while targets.position < end {
                    let piece = next(&mut reader, end - targets.position).map_err(&failed)?;
                    let taken = piece.len();
                    if taken == 0 {
                        break;
                    }
                    targets.take(piece)?;
                    reader.consume(taken);
                }
                Ok((reader, targets))
            };
            (reader, targets) = self.on_disk("download", object, step).await?;
            if targets.position == begin {
                break;
            }
            moved(targets.position - begin);
        }
        Ok(targets)
    }
}
