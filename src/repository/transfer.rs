//! Rowset files to objects, and parts of objects to files: every byte is hashed on its way.
//!
//! Content with another hash than expected is an error, and what was written of it counts for nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use futures::StreamExt;
use sha2::Digest;

use crate::clock::Throttle;
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::types::{FileId, Sha256};

/// Bytes read, hashed and written at a time: few enough to stay in a processor's cache meanwhile.
pub(super) const CHUNK: usize = 1 << 18;

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
    file: File,
    path: PathBuf,
    hasher: sha2::Sha256,
}

impl Source {
    async fn open(path: PathBuf) -> Result<Self> {
        super::blocking(move || {
            let file = File::open(&path).map_err(Error::io("open rowset file", &path))?;
            Ok(Self { file, path, hasher: sha2::Sha256::new() })
        })
        .await
    }

    /// Begins at once to read and hash the next chunk; an empty one is the end.
    fn read(mut self) -> impl Future<Output = Result<(Self, Vec<u8>)>> {
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = (&self.file).take(CHUNK as u64).read_to_end(&mut chunk);
            read.map_err(Error::io("read rowset file", &self.path))?;
            self.hasher.update(&chunk);
            Ok((self, chunk))
        });
        async { read.await.map_err(|err| Error::internal(format_args!("a blocking task: {err}")))? }
    }
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
        let failed = |err| self.store_error("upload", object, err);
        let mut writer = self.uploads.writer(&self.full(object)).await.map_err(failed)?;
        let streams = self.disk.is_some();
        let mut whole: Vec<bytes::Bytes> = Vec::new();
        for file in files {
            // A chunk is read and hashed while the one before is written.
            let mut reading = Source::open(file.path.clone()).await?.read();
            let mut length = 0;
            let hasher = loop {
                let (source, chunk) = reading.await?;
                if chunk.is_empty() {
                    break source.hasher;
                }
                length += chunk.len() as u64;
                // A file that has grown must not fill the memory.
                if length > file.size {
                    break source.hasher;
                }
                reading = source.read();
                if streams {
                    throttle.take(chunk.len()).await;
                    let read = chunk.len() as u64;
                    writer.write(chunk).await.map_err(failed)?;
                    moved(read);
                } else {
                    whole.push(chunk.into());
                }
            };
            // Only a content that is right is completed, so that on stores with atomic puts a wrong one never shows.
            if let Err(err) = file.check(length, hasher) {
                let _ = writer.abort().await;
                return Err(err);
            }
        }
        if !streams {
            let content: opendal::Buffer = whole.into();
            let length = content.len();
            throttle.take(length).await;
            writer.write(content).await.map_err(failed)?;
            self.close(writer).await.map_err(failed)?;
            moved(length as u64);
            return Ok(());
        }
        drop(worker);
        self.close(writer).await.map_err(failed)?;
        self.sync_folders(folders).await
    }

    /// Copies parts of an object to new local files, synced, hashing what arrives: any other content, or none, is an
    /// error that names the object. Several parts, in order, are brought by one request. May run twice on fresh files. `moved` hears of bytes.
    pub async fn download(
        &self,
        object: &str,
        contents: Vec<Content>,
        throttle: &Throttle,
        moved: impl Fn(u64),
    ) -> Result<()> {
        let (Some(first), Some(last)) = (contents.first(), contents.last()) else { return Ok(()) };
        let begin = first.offset;
        let end = last.offset.checked_add(last.size).filter(|end| *end >= begin);
        let end = end.ok_or_else(|| self.corrupt(object, "the file list names bytes that no object can have"))?;
        let brought = self.bring(object, begin..end, contents, throttle, moved).await;
        match brought {
            Ok(contents) => {
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
        range: std::ops::Range<u64>,
        mut contents: Vec<Content>,
        throttle: &Throttle,
        moved: impl Fn(u64),
    ) -> Result<Vec<Content>> {
        let failed = |err| self.store_error("download", object, err);
        let mut position = range.start;
        // One request each; but OpenDAL would read the whole range of a file on a disk into memory.
        let path = self.full(object);
        let reader = match self.disk {
            Some(_) => self.operator.reader_with(&path).chunk(CHUNK).await,
            None => self.operator.reader(&path).await,
        };
        let mut stream = reader.map_err(failed)?.into_bytes_stream(range).await.map_err(failed)?;
        let mut at = 0;
        let mut hasher = sha2::Sha256::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|err| match err.downcast::<opendal::Error>() {
                Ok(err) => failed(err),
                Err(err) => self.error("download", object, err, true),
            })?;
            throttle.take(chunk.len()).await;
            let count = chunk.len() as u64;
            let write = move || {
                let end = position + chunk.len() as u64;
                while let Some(content) = contents.get_mut(at) {
                    let content_end = content.offset + content.size;
                    let (from, to) = (content.offset.max(position), content_end.min(end));
                    if from < to {
                        let part = &chunk[(from - position) as usize..(to - position) as usize];
                        hasher.update(part);
                        content.target.write_all(part).map_err(Error::io("write", "a downloaded file"))?;
                    }
                    if content_end > end {
                        break;
                    }
                    let found = Sha256(std::mem::take(&mut hasher).finalize().into());
                    if found != content.sha256 {
                        return Ok((contents, at, hasher, false));
                    }
                    at += 1;
                }
                Ok((contents, at, hasher, true))
            };
            let right;
            (contents, at, hasher, right) = super::blocking(write).await?;
            if !right {
                return Err(self.differs(object, &contents[at]));
            }
            position += count;
            moved(count);
        }
        if at < contents.len() {
            return Err(self.error("download", object, "the content ended early", true));
        }
        Ok(contents)
    }

    fn differs(&self, object: &str, content: &Content) -> Error {
        let Content { size, sha256, .. } = content;
        self.corrupt(object, format!("it is not the {size} bytes with SHA-256 {sha256} that were backed up"))
    }
}
