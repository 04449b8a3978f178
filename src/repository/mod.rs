//! A place to keep snapshots, over an OpenDAL operator.
//!
//! [`layout`] draws the tree, [`manifest`] holds its documents. A snapshot exists once its `__info` does: everything it
//! names is stored before. Nothing is renamed or copied, and nothing but locks and probes is deleted to write one. (On a
//! disk, `__repo_info` gets its name when it is whole.)
//!
//! **Two writers of one label.** A writer puts its lock under a name of its own, then lists the label's folder, and goes
//! on if it finds neither another live lock nor a committed snapshot. Every store in use lists what was put before, so of
//! two writers at least one sees the other: at most one goes on. Where both do, the younger yields at once, and the older
//! looks again for a while: mostly one wins. This needs no conditional put; where the store has one, it guards the
//! repository's creation.
//!
//! **Local disks.** `file://` and NFS are synced: the content before a put returns, then every folder that is new or
//! changed.
//!
//! **Object stores.** [`store`] knows their properties. An object is one PUT of its whole content, which the store
//! shows wholly or not at all; on HDFS a file shows while it is written, and counts no sooner. Requests that may pass
//! are repeated a few times with growing pauses; then the job decides.

mod failure;
mod folder;
mod hdfs;
pub mod layout;
pub mod manifest;
pub mod store;
mod transfer;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use opendal::{ErrorKind, Operator};
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::error::{Error, Result, blocking};
pub use crate::repository::folder::Folder;
use crate::repository::manifest::{FORMAT, FileRow, Info, Lock, Meta, Part, RepoInfo};
use crate::repository::store::{Place, REQUEST_TIMEOUT};
use crate::repository::transfer::PIECE;
pub use crate::repository::transfer::{Content, LocalFile};
use crate::types::{ClusterId, JobId, Label, Name, Sha256, StoreProperties, Timestamp};

/// How long after its deadline another cluster's lock is still respected.
pub const LOCK_GRACE_MS: i64 = 2 * REQUEST_TIMEOUT.as_millis() as i64;

/// How long, and how often, a repository's creation waits for another server that creates it.
const CREATE_WAIT: Duration = Duration::from_millis(200);
const CREATE_WAITS: u32 = 50;

/// How often a writer looks again whether younger ones have given way to it.
const YIELD_WAITS: u32 = 4;

/// How often a label is looked at whose locks go while they are read.
const LOOKS: u32 = 8;

/// Bytes up to which a request counts as small.
const SMALL: usize = 1 << 20;

/// The largest definitions or file list segment that is read into memory.
const MAX_PART: u64 = 256 << 20;

/// The largest document of those whose length nobody knows before.
const MAX_DOCUMENT: u64 = 16 << 20;

/// A repository: a name and a location, opened without any request.
#[derive(Debug, Clone)]
pub struct Repository {
    operator: Operator,
    /// The same with more patience, for whole objects.
    uploads: Operator,
    /// The same with little patience.
    hasty: Operator,
    /// Path of the repository's root in the operator, with a slash at its end.
    root: String,
    name: Name,
    /// What it is, for messages.
    place: String,
    /// What stands before a path in messages.
    prefix: String,
    /// What to set where the server turns out to speak no TLS.
    without_tls: Option<String>,
    /// Where the operator's `/` is on this machine's disks, for syncing; `None` if it is not on them.
    disk: Option<PathBuf>,
}

/// What a label's folder holds.
#[derive(Debug, Clone, Default)]
pub struct LabelContent {
    /// Timestamps of the commits in it, oldest first.
    pub timestamps: Vec<String>,
    /// Names of the locks in it.
    locks: Vec<String>,
}

impl LabelContent {
    /// The newest timestamp; texts of one form sort by time.
    pub fn latest(&self) -> Option<&str> {
        self.timestamps.last().map(String::as_str)
    }
}

impl Repository {
    /// Opens a repository without asking the store anything. Errors are about the location's form and the properties'.
    pub fn open(name: &Name, location: &str, properties: &StoreProperties) -> Result<Self> {
        let Place { operator, uploads, hasty, folder, prefix, without_tls, disk } = store::open(location, properties)?;
        let separator = if folder.is_empty() { "" } else { "/" };
        let root = format!("{folder}{separator}{}/", layout::root(name));
        let place = format!("repository {name}");
        Ok(Self { operator, uploads, hasty, root, name: name.clone(), place, prefix, without_tls, disk })
    }

    /// The same for those who want to know soon: requests are repeated for about a second only.
    pub fn hasty(self) -> Self {
        Self { operator: self.hasty.clone(), uploads: self.hasty.clone(), ..self }
    }

    /// The directory on this machine that holds the repository's root, if one does.
    pub fn local_path(&self) -> Option<PathBuf> {
        self.disk.as_ref().map(|disk| disk.join(&self.root))
    }

    /// Reads who the repository is; `None` if none is there.
    pub async fn info(&self) -> Result<Option<RepoInfo>> {
        let path = layout::repo_info();
        // An empty one is of a creation that was cut short.
        let content = self.find(&path, MAX_DOCUMENT).await?.filter(|content| !content.is_empty());
        content.map(|content| manifest::unseal(&self.full(&path), &content)).transpose()
    }

    /// Checks that the repository is there and is the one of this identity: a disk that is not mounted must not pass.
    pub async fn check(&self, id: &str) -> Result<RepoInfo> {
        match self.info().await? {
            Some(info) if !info.features.is_empty() => Err(Error::Unsupported(format!(
                "repository '{}' needs a newer holdfast, one that knows {}",
                self.name,
                info.features.join(", ")
            ))),
            Some(info) if info.id == id => Ok(info),
            Some(info) => Err(self.error(
                "check",
                &layout::repo_info(),
                format!("it is another repository, {}, not {id}", info.id),
                false,
            )),
            // It may be mounted in a moment: a server that starts early must not give its jobs up.
            None if self.disk.is_some() => {
                Err(self.error("check", &layout::repo_info(), "it is not there; is the storage mounted?", true))
            }
            None => {
                let message = "it is not there; has the repository been deleted, or what held it?";
                Err(self.error("check", &layout::repo_info(), message, false))
            }
        }
    }

    /// Finds or creates the repository and returns who it is. A read-only one is only read, and must exist. May run
    /// twice.
    pub async fn create(&self, read_only: bool, clock: &Clock) -> Result<RepoInfo> {
        if let Some(info) = self.info().await? {
            if info.name != self.name {
                return Err(self.error(
                    "open",
                    &layout::repo_info(),
                    format!("it belongs to repository '{}'", info.name),
                    false,
                ));
            }
            if !read_only {
                self.probe(clock).await?;
            }
            return Ok(info);
        }
        if read_only {
            let message = "nothing is there, and a READ ONLY repository is never written; check name and location";
            return Err(self.error("open", &layout::repo_info(), message, false));
        }
        let conditional_put = self.probe(clock).await?;
        self.clear_abandoned(clock).await?;
        let info = RepoInfo {
            format: FORMAT,
            least_reader: FORMAT,
            features: Vec::new(),
            id: clock.uuid().simple().to_string(),
            name: self.name.clone(),
            created: clock.now(),
            conditional_put,
        };
        let path = layout::repo_info();
        let content = manifest::seal(&info)?;
        // Another server may be creating it: whose id is there counts.
        for wait in 0..=CREATE_WAITS {
            if conditional_put {
                self.put_new(&path, content.clone()).await?;
            } else {
                self.put(&path, content.clone()).await?;
            }
            if let Some(info) = self.info().await? {
                return Ok(info);
            }
            // It shows while it is written. A live writer must not lose its file to a second.
            if wait < CREATE_WAITS {
                clock.sleep(CREATE_WAIT).await;
            }
        }
        let message = "another server is writing it, or has died over it; try again in a minute";
        Err(self.error("create", &path, message, true))
    }

    /// Removes a `__repo_info` that is empty for so long that its writer must have died. By the store's own clock.
    async fn clear_abandoned(&self, clock: &Clock) -> Result<()> {
        let path = layout::repo_info();
        let Ok(found) = self.operator.stat(&self.full(&path)).await else { return Ok(()) };
        if found.content_length() > 0 {
            return Ok(());
        }
        let now = layout::probe(&clock.uuid().simple().to_string());
        self.put(&now, b"now".to_vec()).await?;
        let made = self.operator.stat(&self.full(&now)).await.map_err(|err| self.store_error("read", &now, err))?;
        self.remove(&now).await?;
        let (Some(then), Some(now)) = (found.last_modified(), made.last_modified()) else { return Ok(()) };
        if now.into_inner().duration_since(then.into_inner()).as_millis() > REQUEST_TIMEOUT.as_millis() as i128 {
            self.remove(&path).await?;
        }
        Ok(())
    }

    /// Makes a round trip: write, read back, list, delete. Returns whether a second conditional put is refused.
    pub async fn probe(&self, clock: &Clock) -> Result<bool> {
        let token = clock.uuid().simple().to_string();
        let path = layout::probe(&token);
        self.put(&path, token.clone().into_bytes()).await?;
        let probed = self.probed(&path, token).await;
        match self.remove(&path).await {
            Err(err) if probed.is_ok() && err.is_retryable() => return Err(err),
            // A store that keeps what is written is as good; a probe stays in it.
            Err(err) => tracing::warn!("a probe stays: {}", err.report()),
            Ok(()) => {}
        }
        probed
    }

    /// What a probe that was written tells.
    async fn probed(&self, path: &str, token: String) -> Result<bool> {
        let read = self.find(path, MAX_DOCUMENT).await?;
        if read.as_deref() != Some(token.as_bytes()) {
            return Err(self.error("read back", path, "it holds other bytes than were written", false));
        }
        let conditional = if self.operator.info().capability().write_with_if_not_exists {
            match self.put_new(path, token.into_bytes()).await {
                Ok(written) => !written,
                // It knows no conditions: a put without one has just succeeded.
                Err(err) if !err.is_retryable() => false,
                Err(err) => return Err(err),
            }
        } else {
            false
        };
        if self.list("").await?.iter().any(|listed| listed == path) {
            Ok(conditional)
        } else {
            Err(self.error("list", path, "it was written but is not listed", false))
        }
    }

    /// Claims a label for a writer: writes its lock, durably, then looks whether it is alone. `has_ended` tells of jobs
    /// of the own cluster. May run twice. On an error the lock is taken back as far as the store allows; its deadline
    /// ends it in any case.
    pub async fn claim(
        &self,
        label: &Label,
        lock: &Lock,
        clock: &Clock,
        has_ended: impl Fn(JobId) -> bool,
    ) -> Result<()> {
        let own = layout::lock(label, lock.cluster, lock.job);
        self.put(&own, manifest::seal(lock)?).await?;
        let claimed = self.outlast(label, lock, clock, has_ended).await;
        if claimed.is_err()
            && let Err(err) = self.release(label, lock.cluster, lock.job).await
        {
            tracing::warn!("a lock stays until its deadline: {}", err.report());
        }
        claimed
    }

    /// Returns when a writer is alone. It gives way to older ones; younger ones get some time to give way to it.
    async fn outlast(
        &self,
        label: &Label,
        lock: &Lock,
        clock: &Clock,
        has_ended: impl Fn(JobId) -> bool,
    ) -> Result<()> {
        let mut waits = 0;
        while let Some(other) = self.oldest_other(label, lock, &has_ended).await? {
            if other.age() < lock.age() || waits == YIELD_WAITS {
                return Err(Error::Refused(format!(
                    "Snapshot with name '{label}' is being written to repository '{}' by job {} of cluster {} until {}",
                    self.name, other.job, other.cluster, other.deadline
                )));
            }
            clock.sleep(clock.back_off(waits)).await;
            waits += 1;
        }
        Ok(())
    }

    /// The oldest other writer of a label; refuses if it is taken.
    async fn oldest_other(
        &self,
        label: &Label,
        lock: &Lock,
        has_ended: impl Fn(JobId) -> bool,
    ) -> Result<Option<Lock>> {
        let over = |other: &Lock| {
            (other.cluster, other.job) == (lock.cluster, lock.job)
                || (other.cluster == lock.cluster && has_ended(other.job))
        };
        let mut looks = 0;
        loop {
            let content = self.label_content(label).await?;
            for timestamp in &content.timestamps {
                let path = layout::info(label, timestamp);
                // A commit that does not prove itself is none; one that a newer release wrote is one.
                let taken = match self.find_document::<Info>(&path).await {
                    Ok(info) => info.is_some_and(|info| info.is_in_time()),
                    Err(Error::Corrupt { .. }) => false,
                    Err(Error::Unsupported(_)) => true,
                    Err(err) => return Err(err),
                };
                if taken {
                    return Err(Error::Refused(format!("Snapshot with name '{label}' already exist in repository")));
                }
            }
            let (live, vanished) = self.live_locks(label, &content, lock.time, over).await?;
            looks += 1;
            // Whoever has given a lock back since may have committed before. Or the list is an old one.
            if !vanished || looks == LOOKS {
                return Ok(live.into_iter().min_by_key(Lock::age));
            }
        }
    }

    /// A lock on a label that holds at this time; `is_over` knows of some that they do not.
    pub async fn live_lock(
        &self,
        label: &Label,
        content: &LabelContent,
        now: Timestamp,
        is_over: impl Fn(&Lock) -> bool,
    ) -> Result<Option<Lock>> {
        Ok(self.live_locks(label, content, now, is_over).await?.0.into_iter().next())
    }

    /// The locks that hold, and whether some were there and are no longer.
    async fn live_locks(
        &self,
        label: &Label,
        content: &LabelContent,
        now: Timestamp,
        is_over: impl Fn(&Lock) -> bool,
    ) -> Result<(Vec<Lock>, bool)> {
        let (mut live, mut vanished) = (Vec::new(), false);
        for name in &content.locks {
            let path = format!("{}{name}", layout::label_folder(label));
            match self.find_document::<Lock>(&path).await {
                // Clocks differ, and a last request may be on its way.
                Ok(Some(lock)) if lock.deadline.plus_ms(LOCK_GRACE_MS) >= now && !is_over(&lock) => live.push(lock),
                Ok(Some(_)) => {}
                Ok(None) => vanished = true,
                // It was never whole, so its writer was never told that it holds.
                Err(Error::Corrupt { .. }) => {}
                Err(err) => return Err(err),
            }
        }
        Ok((live, vanished))
    }

    /// Removes a writer's lock. May run twice. What cannot be removed ends by its deadline.
    pub async fn release(&self, label: &Label, cluster: ClusterId, job: JobId) -> Result<()> {
        self.remove(&layout::lock(label, cluster, job)).await
    }

    /// Writes a snapshot's definitions, durably, and returns their name. May run twice.
    pub async fn write_meta(&self, label: &Label, timestamp: &str, meta: &Meta) -> Result<Part> {
        let content = serde_json::to_vec(meta).map_err(|err| Error::internal(format_args!("encode __meta: {err}")))?;
        self.write_part(content, |sha256| layout::meta(label, timestamp, sha256)).await
    }

    /// Writes a segment of a snapshot's file list, durably, and returns its name. May run twice.
    pub async fn write_segment(
        &self,
        label: &Label,
        timestamp: &str,
        segment: u32,
        rows: Vec<FileRow>,
    ) -> Result<Part> {
        let content = blocking(move || manifest::encode_segment(&rows)).await?;
        self.write_part(content, |sha256| layout::files(label, timestamp, segment, sha256)).await
    }

    async fn write_part(&self, content: Vec<u8>, path: impl FnOnce(&Sha256) -> String) -> Result<Part> {
        let part = Part { sha256: manifest::sha256(&content), size: content.len() as u64 };
        self.put(&path(&part.sha256), content).await?;
        Ok(part)
    }

    /// Commits a snapshot: writes its info, durably, and reads it back. May run twice. After an error it is unknown
    /// whether the snapshot exists; [`Repository::read_info`] tells.
    pub async fn commit(&self, info: &Info) -> Result<()> {
        let path = layout::info(&info.label, &info.timestamp);
        // Of two uploads that make a folder together one may leave its entry to the other, which then dies.
        if let Some(disk) = &self.disk {
            let folders =
                ["", "__objects/", &layout::label_folder(&info.label)].map(|folder| disk.join(self.full(folder)));
            self.sync_folders(folders.into_iter().filter(|folder| folder.exists()).collect()).await?;
        }
        // Repetitions included: what lands later than the lock is respected would be a second snapshot of the label.
        match tokio::time::timeout(REQUEST_TIMEOUT, self.put_whole(&path, manifest::seal(info)?)).await {
            Ok(put) => put?,
            Err(_) => return Err(self.error("commit", &path, "no answer in time", true)),
        }
        let written: Option<Info> = self.find_document(&path).await?;
        if written.as_ref() != Some(info) {
            return Err(self.error("commit", &path, "it does not read back as it was written", true));
        }
        Ok(())
    }

    /// Makes a commit durable that was found. On a disk, what is read may never have been synced, and a sync that failed
    /// once may succeed the next time without the bytes: so it is written again.
    pub async fn commit_seen(&self, info: &Info) -> Result<()> {
        if self.disk.is_some() { self.commit(info).await } else { Ok(()) }
    }

    /// Reads a snapshot's commit; `None` if there is none of this label and timestamp.
    pub async fn read_info(&self, label: &Label, timestamp: &str) -> Result<Option<Info>> {
        let path = layout::info(label, timestamp);
        let info: Option<Info> = self.find_document(&path).await?;
        if info.as_ref().is_some_and(|info| info.label != *label || info.timestamp != timestamp) {
            return Err(self.corrupt(&path, "it is of another label or timestamp than its name says"));
        }
        Ok(info.filter(Info::is_in_time))
    }

    /// Whether a snapshot is marked for deletion. Its objects are kept for those whose lock was there before the mark: who
    /// wants to reuse them puts its lock first, and asks then.
    pub async fn is_marked(&self, label: &Label, timestamp: &str) -> Result<bool> {
        self.holds(&layout::deletion(label, timestamp), 0).await
    }

    /// Reads a snapshot's definitions and checks them against its commit.
    pub async fn read_meta(&self, info: &Info) -> Result<Meta> {
        let path = layout::meta(&info.label, &info.timestamp, &info.meta.sha256);
        let content = self.read_part(&path, &info.meta).await?;
        manifest::check_format(&path, &content)?;
        let meta: Meta = serde_json::from_slice(&content).map_err(|err| self.corrupt(&path, err))?;
        if meta.bucket_hash != manifest::BUCKET_HASH {
            return Err(Error::Unsupported(format!("{path} distributes rows by '{}'", meta.bucket_hash)));
        }
        meta.check().map_err(|problem| self.corrupt(&path, problem))?;
        Ok(meta)
    }

    /// Reads one segment of a snapshot's file list and checks it against its commit.
    pub async fn read_segment(&self, info: &Info, segment: usize) -> Result<Vec<FileRow>> {
        let missing = || Error::internal(format_args!("the file list has no segment {segment}"));
        let part = info.files.get(segment).ok_or_else(missing)?;
        let path = layout::files(&info.label, &info.timestamp, segment as u32, &part.sha256);
        let content = self.read_part(&path, part).await?;
        blocking(move || manifest::decode_segment(&path, content)).await
    }

    async fn read_part(&self, path: &str, part: &Part) -> Result<Vec<u8>> {
        if part.size > MAX_PART {
            return Err(self.corrupt(path, format!("it should have {} bytes, too many to read", part.size)));
        }
        let content = self.find(path, part.size).await?;
        let content = content.ok_or_else(|| self.error("read", path, "it is not there", false))?;
        if content.len() as u64 != part.size || manifest::sha256(&content) != part.sha256 {
            let message = format!("it is not the {} bytes with the SHA-256 in its name", part.size);
            return Err(self.corrupt(path, message));
        }
        Ok(content)
    }

    /// All labels, in no order.
    pub async fn labels(&self) -> Result<Vec<Label>> {
        Ok(self.list("").await?.iter().filter_map(|entry| layout::label_of(entry)).collect())
    }

    /// What a label's folder holds; nothing if it is not there.
    pub async fn label_content(&self, label: &Label) -> Result<LabelContent> {
        let mut content = LabelContent::default();
        for file in self.list(&layout::label_folder(label)).await? {
            if layout::is_lock(&file) {
                content.locks.push(file);
            } else if let Some(timestamp) = layout::timestamp_of(&file) {
                content.timestamps.push(timestamp.to_owned());
            }
        }
        content.timestamps.sort();
        Ok(content)
    }

    async fn find_document<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let content = self.find(path, MAX_DOCUMENT).await?;
        content.map(|content| manifest::unseal(&self.full(path), &content)).transpose()
    }

    /// Reads an object that has at most `limit` bytes, whoever wrote it; `None` if it is not there.
    async fn find(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let read = async {
            let full = self.full(path);
            let mut content = Vec::new();
            let mut parts = match self.disk {
                Some(_) => self.operator.reader_with(&full).chunk(PIECE).await?,
                None => self.operator.reader(&full).await?,
            }
            .into_stream(..)
            .await?;
            while let Some(part) = parts.try_next().await?
                && content.len() as u64 <= limit
            {
                part.for_each(|bytes| content.extend_from_slice(&bytes));
            }
            Ok(content)
        };
        match read.await {
            Ok(content) if content.len() as u64 > limit => {
                Err(self.corrupt(path, format!("it has more than {limit} bytes")))
            }
            Ok(content) => Ok(Some(content)),
            Err(err) if failure::is_absent(&err) => Ok(None),
            Err(err) => Err(self.store_error("read", path, err)),
        }
    }

    /// Whether an object is there and reaches to `end`.
    pub async fn holds(&self, object: &str, end: u64) -> Result<bool> {
        match self.operator.stat(&self.full(object)).await {
            Ok(found) => Ok(found.content_length() >= end),
            Err(err) if failure::is_absent(&err) => Ok(false),
            Err(err) => Err(self.store_error("look at", object, err)),
        }
    }

    /// Writes an object, durably.
    async fn put(&self, path: &str, content: Vec<u8>) -> Result<()> {
        let folders = self.folders_to_sync(path).await;
        let write = async {
            let operator = if content.len() > SMALL { &self.uploads } else { &self.operator };
            let mut writer = operator.writer(&self.full(path)).await?;
            writer.write(content).await?;
            self.close(writer).await
        };
        write.await.map_err(|err| self.store_error("write", path, err))?;
        self.sync_folders(folders).await
    }

    /// The same, where on a disk, too, nobody sees a part of it: neither now nor, in the place of what was there before,
    /// after a power cut.
    async fn put_whole(&self, path: &str, content: Vec<u8>) -> Result<()> {
        match &self.disk {
            Some(disk) => self.put_file(disk, path, content, true).await.map(drop),
            None => self.put(path, content).await,
        }
    }

    /// Writes an object, durably, unless it exists; says whether it wrote.
    async fn put_new(&self, path: &str, content: Vec<u8>) -> Result<bool> {
        if let Some(disk) = &self.disk {
            return self.put_file(disk, path, content, false).await;
        }
        let folders = self.folders_to_sync(path).await;
        match self.operator.write_with(&self.full(path), content).if_not_exists(true).await {
            Ok(_) => self.sync_folders(folders).await.map(|()| true),
            Err(err) if matches!(err.kind(), ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists) => Ok(false),
            Err(err) => Err(self.store_error("write", path, err)),
        }
    }

    /// Does on a disk what [`create_file`] does, durably.
    async fn put_file(&self, disk: &Path, path: &str, content: Vec<u8>, replace: bool) -> Result<bool> {
        let folders = self.folders_to_sync(path).await;
        let target = disk.join(self.full(path));
        let failed = self.disk_error("write", path);
        let create = move || create_file(&target, &content, replace).map_err(failed);
        let created = self.on_disk("write", path, create).await?;
        self.sync_folders(folders).await.map(|()| created)
    }

    /// Completes an object; on return it is stored.
    async fn close(&self, mut writer: opendal::Writer) -> opendal::Result<()> {
        match self.disk {
            Some(_) => close_file(writer).await,
            None => writer.close().await.map(drop),
        }
    }

    async fn remove(&self, path: &str) -> Result<()> {
        self.operator.delete(&self.full(path)).await.map_err(|err| self.store_error("delete", path, err))
    }

    /// Names of what is directly in a folder; folders have a slash at their end.
    async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let full = self.full(folder);
        let listed = async { self.operator.lister(&full).await?.try_collect::<Vec<_>>().await }.await;
        match listed {
            Ok(entries) => Ok(entries
                .iter()
                .filter_map(|entry| entry.path().strip_prefix(&full))
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()),
            Err(err) if failure::is_absent(&err) => Ok(Vec::new()),
            Err(err) => Err(self.store_error("list", folder, err)),
        }
    }

    /// A path as messages show it.
    fn shown(&self, path: &str) -> String {
        format!("{}{}{path}", self.prefix, self.root)
    }

    fn full(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// The folders on this machine's disks that change when an object is written: its own, and those that do not exist
    /// yet with the one that will hold them.
    async fn folders_to_sync(&self, path: &str) -> Vec<PathBuf> {
        let Some(disk) = &self.disk else { return Vec::new() };
        let mut folders = Vec::new();
        for folder in disk.join(self.full(path)).ancestors().skip(1) {
            folders.push(folder.to_owned());
            if tokio::fs::try_exists(folder).await.unwrap_or(true) {
                break;
            }
        }
        folders
    }

    async fn sync_folders(&self, folders: Vec<PathBuf>) -> Result<()> {
        if folders.is_empty() {
            return Ok(());
        }
        blocking(move || {
            folders.iter().try_for_each(|folder| {
                std::fs::File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("sync folder", folder))
            })
        })
        .await
    }

    fn error(&self, operation: &str, path: &str, source: impl Into<crate::error::Cause>, retryable: bool) -> Error {
        Error::Repository {
            place: self.place.clone(),
            operation: operation.into(),
            path: self.shown(path),
            source: source.into(),
            retryable,
        }
    }

    /// What an error of a disk is called.
    fn disk_error(&self, operation: &'static str, path: &str) -> impl Fn(std::io::Error) -> Error + Send + 'static {
        let (place, path) = (self.place.clone(), self.shown(path));
        move |err| Error::Repository {
            place: place.clone(),
            operation: operation.into(),
            path: path.clone(),
            retryable: !crate::error::is_lasting(err.kind()),
            source: err.into(),
        }
    }

    /// Does what blocks, where disks that hang are waited for no longer than other stores.
    async fn on_disk<T: Send + 'static>(
        &self,
        operation: &str,
        path: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let late = |_| self.error(operation, path, "it took too long", true);
        tokio::time::timeout(REQUEST_TIMEOUT, blocking(work)).await.map_err(late)?
    }

    fn store_error(&self, operation: &str, path: &str, err: opendal::Error) -> Error {
        let retryable = may_pass(&err);
        let message = match std::error::Error::source(&err) {
            _ if self.disk.is_none() => {
                let advice = self.without_tls.as_ref().filter(|_| failure::is_no_tls(&err));
                failure::explain(&err) + &advice.map(|advice| format!("; {advice}")).unwrap_or_default()
            }
            Some(source) => format!("{}: {source}", err.kind()),
            None => format!("{}: {}", err.kind(), err.message()),
        };
        self.error(operation, path, message, retryable)
    }

    fn corrupt(&self, path: &str, message: impl ToString) -> Error {
        Error::Corrupt { what: "repository file", path: self.shown(path), message: message.to_string() }
    }
}

/// Whether an operation may succeed later. OpenDAL takes every error of a disk that it has no name for as passing; a
/// full one is not.
fn may_pass(err: &opendal::Error) -> bool {
    let io = std::error::Error::source(err).and_then(|source| source.downcast_ref::<std::io::Error>());
    failure::may_pass(err) && !io.is_some_and(|io| crate::error::is_lasting(io.kind()))
}

/// Completes an object on a disk. OpenDAL syncs the file on the calling thread, so this is a thread that may block. It is
/// not tried again: a sync that failed once may succeed the next time without the bytes.
async fn close_file(mut writer: opendal::Writer) -> opendal::Result<()> {
    let runtime = tokio::runtime::Handle::current();
    let closing = tokio::task::spawn_blocking(move || runtime.block_on(writer.close()).map(drop));
    match tokio::time::timeout(REQUEST_TIMEOUT, closing).await {
        Ok(Ok(closed)) => closed,
        Ok(Err(err)) => Err(opendal::Error::new(ErrorKind::Unexpected, format!("completing it ended badly: {err}"))),
        Err(_) => Err(opendal::Error::new(ErrorKind::Unexpected, "completing it took too long").set_temporary()),
    }
}

/// Creates a file on a disk, in the place of another or unless there is one; says whether it did. It shows with its whole
/// content, or not at all, and is synced, but its folder is not.
fn create_file(path: &Path, content: &[u8], replace: bool) -> std::io::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let mut options = tempfile::Builder::new();
    // For all whom the umask lets, as other files of the repository.
    options.prefix(layout::PROBE).permissions(std::fs::Permissions::from_mode(0o666));
    let mut file = options.tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    if replace {
        return file.persist(path).map(|_| true).map_err(|err| err.error);
    }
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(err) if err.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(err.error),
    }
}

#[cfg(test)]
mod tests;
