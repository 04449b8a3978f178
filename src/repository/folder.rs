use std::fs::File;
use std::path::PathBuf;

use crate::clock::Throttle;
use crate::error::{Error, Result};
use crate::repository::{Content, Repository, failure, store};
use crate::types::{Name, Sha256, StoreProperties};

/// A folder of a store, for files of another format than the repository's. Paths are below it.
#[derive(Debug, Clone)]
pub struct Folder(Repository);

impl Folder {
    /// Bytes of a file that can be read into memory as a whole.
    pub const MAX_READ: u64 = 256 << 20;

    /// Opens a folder without asking the store anything. `what` is for messages: "raw backup". Errors are about the
    /// location's form and the properties'.
    pub fn open(what: &str, location: &str, properties: &StoreProperties) -> Result<Self> {
        let place = store::open(location, properties)?;
        let root = if place.folder.is_empty() { String::new() } else { format!("{}/", place.folder) };
        let name = Name::new(what).map_err(Error::internal)?;
        Ok(Self(Repository {
            operator: place.operator,
            uploads: place.uploads,
            hasty: place.hasty,
            root,
            name,
            place: what.into(),
            prefix: place.prefix,
            without_tls: place.without_tls,
            disk: place.disk,
        }))
    }

    /// The same for those who want to know soon: requests are repeated for about a second only.
    pub fn hasty(self) -> Self {
        Self(self.0.hasty())
    }

    /// The directory on this machine, if it is one.
    pub fn local_path(&self) -> Option<PathBuf> {
        self.0.local_path()
    }

    /// Reads a whole file; `None` if there is none.
    pub async fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.0.find(path, Self::MAX_READ).await
    }

    /// Length in bytes; `None` if there is no such file.
    pub async fn size(&self, path: &str) -> Result<Option<u64>> {
        match self.0.operator.stat(&self.0.full(path)).await {
            Ok(found) => Ok(Some(found.content_length())),
            Err(err) if failure::is_absent(&err) => Ok(None),
            Err(err) => Err(self.0.store_error("look at", path, err)),
        }
    }

    /// Writes a file, durably, in one PUT. May run twice.
    pub async fn write(&self, path: &str, content: Vec<u8>) -> Result<()> {
        self.0.put(path, content).await
    }

    /// The same, where on a disk, too, nobody sees a part of it.
    pub async fn write_whole(&self, path: &str, content: Vec<u8>) -> Result<()> {
        self.0.put_whole(path, content).await
    }

    /// Writes a file, durably, unless it exists; says whether it wrote. A store that knows no such condition writes.
    pub async fn write_new(&self, path: &str, content: Vec<u8>) -> Result<bool> {
        if self.0.operator.info().capability().write_with_if_not_exists {
            match self.0.put_new(path, content.clone()).await {
                Err(err) if !err.is_retryable() => {}
                answered => return answered,
            }
        }
        if self.size(path).await?.is_some() {
            return Ok(false);
        }
        self.0.put(path, content).await.map(|()| true)
    }

    /// Removes a file; one that is not there is no error. On a disk its directory goes with the last file in it.
    pub async fn remove(&self, path: &str) -> Result<()> {
        self.0.remove(path).await?;
        if let (Some(root), Some((directory, _))) = (self.local_path(), path.rsplit_once('/')) {
            // Others may have put something there.
            let _ = tokio::fs::remove_dir(root.join(directory)).await;
        }
        Ok(())
    }

    /// Paths of all files in the folder and in those directly in it that are wanted, by their names; none if it is not
    /// there.
    pub async fn list(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for name in self.0.list("").await? {
            match name.strip_suffix('/') {
                Some(folder) if wanted(folder) => {
                    paths.extend(self.0.list(&name).await?.into_iter().map(|file| format!("{name}{file}")));
                }
                Some(_) => {}
                None => paths.push(name),
            }
        }
        paths.retain(|path| !path.ends_with('/'));
        Ok(paths)
    }

    /// Copies a file to a new local one, synced: any other content, or none, is an error that names the file. `moved`
    /// hears of bytes.
    pub async fn download(
        &self,
        path: &str,
        target: File,
        size: u64,
        sha256: Sha256,
        throttle: &Throttle,
        moved: impl Fn(u64),
    ) -> Result<()> {
        self.0.download(path, vec![Content { offset: 0, size, sha256, target }], throttle, moved, ()).await
    }
}
