use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use futures::StreamExt;
use sha2::Digest;

use crate::clock::Throttle;
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::types::{FileId, Sha256};

/// Bytes read, hashed and written at a time.
const CHUNK: usize = 1 << 20;

/// A rowset file being read.
struct Source {
    file: File,
    hasher: sha2::Sha256,
}

impl Source {
    /// Begins at once to read and hash the next chunk; an empty one is the end.
    fn read(mut self, path: &Path) -> impl Future<Output = Result<(Self, Vec<u8>)>> + use<> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = (&self.file).take(CHUNK as u64).read_to_end(&mut chunk);
            read.map_err(Error::io("read rowset file", path))?;
            self.hasher.update(&chunk);
            Ok((self, chunk))
        });
        async { read.await.map_err(|err| Error::internal(format_args!("a blocking task: {err}")))? }
    }
}

impl Repository {
    /// Copies a local rowset file to an object, durably, hashing what is read: a file that is no longer what the
    /// catalog says is [`Error::Corrupt`], and its object counts for nothing. May run twice. `moved` hears of bytes.
    pub async fn upload(
        &self,
        file: (FileId, &Path),
        expected: (Sha256, u64),
        object: &str,
        throttle: &Throttle,
        moved: impl Fn(u64),
    ) -> Result<()> {
        let (id, path) = file;
        let (sha256, size) = expected;
        let folders = self.folders_to_sync(object).await;
        let opened = path.to_owned();
        let file = super::blocking(move || File::open(&opened).map_err(Error::io("open rowset file", &opened))).await?;
        let mut writer =
            self.operator.writer(&self.full(object)).await.map_err(|err| self.store_error("upload", object, err))?;
        // A chunk is read and hashed while the one before is written.
        let mut reading = Source { file, hasher: sha2::Sha256::new() }.read(path);
        let mut length = 0;
        let hasher = loop {
            let (source, chunk) = reading.await?;
            if chunk.is_empty() {
                break source.hasher;
            }
            reading = source.read(path);
            let read = chunk.len();
            throttle.take(read).await;
            length += read as u64;
            writer.write(chunk).await.map_err(|err| self.store_error("upload", object, err))?;
            moved(read as u64);
        };
        // Only a content that is right is completed, so that on stores with atomic puts a wrong one never shows.
        if length != size || Sha256(hasher.finalize().into()) != sha256 {
            let _ = writer.abort().await;
            let message = format!("it is not the {size} bytes with SHA-256 {sha256} that were written");
            return Err(Error::Corrupt { what: "rowset file", path: format!("{id} at {}", path.display()), message });
        }
        super::close(writer).await.map_err(|err| self.store_error("upload", object, err))?;
        self.sync_folders(folders).await
    }

    /// Copies a content, at an offset of an object, to a new local file, synced, hashing what arrives: any other content, or none,
    /// is an error that names the object. May run twice on a fresh file. `moved` hears of bytes.
    pub async fn download(
        &self,
        content: (&str, u64),
        expected: (Sha256, u64),
        target: File,
        throttle: &Throttle,
        moved: impl Fn(u64),
    ) -> Result<()> {
        let (object, offset) = content;
        let (sha256, size) = expected;
        let failed = |err| self.store_error("download", object, err);
        // A store may call an object that is too short an error that passes.
        let (end, found) = (offset.checked_add(size), self.length(object).await?);
        let Some(end) = end.filter(|end| *end <= found) else {
            return Err(self.corrupt(object, format!("it has {found} bytes, but {size} from {offset} on are needed")));
        };
        let range = offset..end;
        let reader = self.operator.reader_with(&self.full(object)).chunk(CHUNK).await.map_err(failed)?;
        let mut stream = reader.into_bytes_stream(range).await.map_err(failed)?;
        let mut state = (target, sha2::Sha256::new());
        let mut length = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|err| {
                let retryable =
                    err.get_ref().and_then(|err| err.downcast_ref::<opendal::Error>()).is_some_and(super::may_pass);
                self.error("download", object, err, retryable)
            })?;
            throttle.take(chunk.len()).await;
            length += chunk.len() as u64;
            let count = chunk.len() as u64;
            state = super::blocking(move || {
                let (mut target, mut hasher) = state;
                hasher.update(&chunk);
                target.write_all(&chunk).map_err(Error::io("write", "a downloaded file"))?;
                Ok((target, hasher))
            })
            .await?;
            moved(count);
        }
        let (target, hasher) = state;
        if length != size || Sha256(hasher.finalize().into()) != sha256 {
            let message = format!("it is not the {size} bytes with SHA-256 {sha256} that were backed up");
            return Err(self.corrupt(object, message));
        }
        super::blocking(move || target.sync_all().map_err(Error::io("sync", "a downloaded file"))).await
    }
}
