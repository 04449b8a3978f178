//! What travels between FE and BE: MessagePack with the names of fields, so that fields can be added.
//!
//! What holds credentials does not show them in `Debug`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::error::{Error, Result};
use crate::rawkv::backupmeta::BackupFile;
use crate::rawkv::layout::Layout;
use crate::rawkv::sst::SstOptions;
use crate::rawkv::store::Change;
use crate::rawkv::value::ApiVersion;
use crate::rpc::proto;
use crate::tablet::ScanSpec;
use crate::types::{
    Attempt, BackendId, ClusterId, ColumnFamily, EpochId, FileId, JobId, KeyRange, Name, RegionId, RowsetFile, Schema,
    Sha256, StoreProperties, TableId, TabletId, Timestamp, WriteId,
};

/// `Heartbeat`, from an FE.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The id that the catalog has given this BE.
    pub backend: BackendId,
    /// Whether a BE that belongs to no cluster shall join this one. It is asked once, when it is added: one that has
    /// lost what it had must not come back as if it had nothing to lose.
    #[serde(default)]
    pub join: bool,
    /// The FE's time.
    #[serde(default)]
    pub now: Option<Timestamp>,
    /// An earlier epoch of the FE's catalog, and the last sequence it had.
    #[serde(default)]
    pub past: Option<(EpochId, u64)>,
    /// The epoch and sequence that this BE has said it has seen. If it has not, its directory was put back from an older
    /// copy, and it answers what it has.
    #[serde(default)]
    pub heard: Option<(EpochId, u64)>,
    /// Whether to follow this catalog, although it lacks commits that the BE has seen.
    #[serde(default)]
    pub accept: bool,
}

/// Answer to [`Heartbeat`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alive {
    /// The id that this BE has in the cluster, which may be another than the one it was asked by.
    pub backend: BackendId,
    /// The catalog's epoch that the BE has seen last.
    #[serde(default)]
    pub epoch: EpochId,
    /// The highest sequence that it has seen of that.
    #[serde(default)]
    pub sequence: u64,
    /// The program's version.
    pub version: String,
    /// When the process started.
    pub started: Timestamp,
    /// Port of its HTTP service.
    pub http_port: u16,
    /// Processor cores.
    pub cores: u32,
    /// Bytes of the disk that holds the tablets.
    pub disk_total: u64,
    /// Bytes of it that are free.
    pub disk_free: u64,
}

/// `Run`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// What it belongs to: a job, or a write of the FE.
    pub owner: TaskOwner,
    /// Its number there.
    pub number: u64,
    /// What to do.
    pub work: Work,
}

/// What a task belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOwner {
    /// An attempt of a job.
    Job(JobId, Attempt),
    /// A load or a compaction.
    Write(WriteId),
}

/// What a task does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Confirm that files are there, by length. The first that is not is the error.
    Confirm {
        /// File and length.
        files: Vec<(FileId, u64)>,
    },
    /// Look whether files are there, by length. Reports [`Event::Missing`] for each that is not.
    Check {
        /// File and length.
        files: Vec<(FileId, u64)>,
    },
    /// Check that the repository is the one expected, as seen from here, by a round trip if it may be written.
    Probe {
        /// Which.
        repository: RepositoryRef,
        /// Whether to write.
        writable: bool,
    },
    /// Copy files to objects of a repository.
    Upload {
        /// Where to.
        repository: RepositoryRef,
        /// The objects; their files count through all of them in [`Event::Done`].
        objects: Vec<UploadObject>,
    },
    /// Copy contents of a repository to new files.
    Download {
        /// Where from.
        repository: RepositoryRef,
        /// The contents, each with its file.
        files: Vec<DownloadFile>,
    },
    /// Copy files of another BE.
    Clone {
        /// Its address.
        source: String,
        /// The files.
        files: Vec<RowsetFile>,
    },
    /// Merge files of a tablet into new ones.
    Compact {
        /// The table.
        table: TableId,
        /// The tablet.
        tablet: TabletId,
        /// The table's schema now.
        schema: Schema,
        /// What the new files are written under.
        write: WriteId,
        /// What to merge.
        files: Vec<RowsetFile>,
    },
    /// Begin a session of raw work for the attempt; it ends with this task. Reports [`Event::Done`] when it has begun.
    RawSession {
        /// Keep the raw keys as they are now, for a backup.
        cut: bool,
        /// What the session is about, all of which the BE must hold.
        of: Vec<RawRange>,
        /// Where a backup goes.
        target: Option<Arc<RawStorage>>,
        /// Bytes a second that the session's tasks may move together; 0 is without limit.
        speed: u64,
    },
    /// Write the entries of a range, as the session has them, to files of a backup. Reports [`Event::Saved`] for each.
    RawBackup {
        /// Where to.
        storage: Arc<RawStorage>,
        /// What.
        of: RawRange,
        /// The region it is of.
        region: RegionId,
        /// The version of the region's epoch.
        version: u64,
        /// How files are written.
        options: SstOptions,
    },
    /// Bring a file of a backup into the session, and verify all of it.
    RawFetch {
        /// Where from.
        storage: Arc<RawStorage>,
        /// Its number in the job.
        number: u64,
        /// The file.
        file: Arc<BackupFile>,
        /// How its values are encoded.
        api_version: ApiVersion,
        /// The restore has begun to store keys: a full disk must not end it.
        #[serde(default)]
        storing: bool,
    },
    /// Store the entries of a file that the session has. Durable when done.
    RawIngest {
        /// Its number in the job.
        number: u64,
        /// The file.
        file: Arc<BackupFile>,
        /// How its values are encoded.
        api_version: ApiVersion,
        /// What has expired by this Unix second is left out.
        now: u64,
        /// Where entries go.
        cf: ColumnFamily,
        /// The keys that are wanted.
        ranges: Vec<KeyRange>,
    },
    /// Delete keys. Durable when done.
    RawClear {
        /// The family.
        cf: ColumnFamily,
        /// The keys.
        ranges: Vec<KeyRange>,
    },
}

/// Where a raw backup is.
#[derive(Clone, Serialize, Deserialize)]
pub struct RawStorage {
    /// Its location.
    pub location: String,
    /// What its store wants.
    pub properties: StoreProperties,
    /// How files are named there.
    pub layout: Layout,
    /// What `backup.lock` holds while the backup is made.
    #[serde(with = "serde_bytes")]
    pub lock: Vec<u8>,
    /// It was seen there before: if a disk has nothing of it now, that is not mounted, and may be again.
    pub seen: bool,
}

impl fmt::Debug for RawStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawStorage").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// A repository, as a BE opens it.
#[derive(Clone, Serialize, Deserialize)]
pub struct RepositoryRef {
    /// Its name.
    pub name: Name,
    /// Its location.
    pub location: String,
    /// What its store wants.
    #[serde(default)]
    pub properties: StoreProperties,
    /// Its own identity, which must be found there.
    pub id: String,
}

impl fmt::Debug for RepositoryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryRef").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An object to make of files, one after another without gaps. Several files are small, so that all fit in memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UploadObject {
    /// The object, below the repository's root.
    pub object: String,
    /// The files.
    pub files: Vec<UploadFile>,
}

/// A file to upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UploadFile {
    /// The file.
    pub id: FileId,
    /// What it must hash to.
    pub sha256: Sha256,
    /// Length in bytes.
    pub size: u64,
}

/// A content to download.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DownloadFile {
    /// The file it becomes.
    pub id: FileId,
    /// What it must hash to.
    pub sha256: Sha256,
    /// Length in bytes.
    pub size: u64,
    /// The object, below the repository's root.
    pub object: String,
    /// Where in the object it begins.
    pub offset: u64,
}

/// What a running task reports.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// So many more bytes have moved.
    Moved(u64),
    /// The nth file of the task is done, durably.
    Done(u64),
    /// The nth file of the task is not there.
    Missing(u64),
    /// All is done. A stream of events that ends without it broke off.
    Ended,
    /// The files that a compaction has made, durably; their versions are for the catalog to set.
    Made(Vec<RowsetFile>),
    /// A file that a raw backup has made, stored where it goes.
    Saved(BackupFile),
}

/// `Fetch`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fetch {
    /// The file.
    pub id: FileId,
}

/// `Inventory` answers with parts of this list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// File and length.
    pub files: Vec<(FileId, u64)>,
}

/// `Discard`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Discard {
    /// Files that nothing names.
    pub files: Vec<FileId>,
}

/// `Configure`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Configure {
    /// A key and its new value; without it nothing changes.
    pub set: Option<(String, String)>,
}

/// Answer to [`Configure`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Configuration {
    /// All keys, with their values now.
    pub settings: Vec<Setting>,
}

/// A key of a BE's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// The key.
    pub name: String,
    /// Its value now.
    pub value: String,
    /// Its value if nothing sets it.
    pub default: String,
    /// Its type.
    pub kind: String,
    /// Whether it may change while the process runs.
    pub mutable: bool,
    /// What it means.
    pub comment: String,
}

/// `RawWrite`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RawWrite {
    /// The family.
    pub cf: ColumnFamily,
    /// What happens to its keys.
    pub changes: Vec<Change>,
}

/// `RawGive`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RawGive {
    /// Greater than that of all that came before.
    pub number: u64,
    /// The family.
    pub cf: ColumnFamily,
    /// Its keys.
    pub ranges: Vec<KeyRange>,
}

/// `RawScan`, which answers with parts of [`RawEntries`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RawRange {
    /// The family.
    pub cf: ColumnFamily,
    /// Its keys.
    pub range: KeyRange,
}

/// Keys and values, in order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RawEntries {
    /// Key and value.
    pub entries: Vec<(ByteBuf, ByteBuf)>,
}

/// `RawSplit`; the answer is a list of keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RawSplit {
    /// What to split.
    pub of: RawRange,
    /// How large the parts shall be.
    pub bytes: u64,
}

/// Flight ticket of a scan: files of one tablet, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanTicket {
    /// What to return.
    pub spec: ScanSpec,
    /// The files.
    pub files: Vec<RowsetFile>,
}

/// Flight descriptor of a load: rows follow, each batch with the number of its tablet (8 bytes, little-endian) as
/// `app_metadata`. The answer is one `PutResult` with [`Written`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteCommand {
    /// The table.
    pub table: TableId,
    /// Its schema.
    pub schema: Schema,
    /// What the files are written under.
    pub write: WriteId,
}

/// Answer to a load: the files it made, durably; versions are for the catalog to set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Written {
    /// The files, each of the tablet in its id.
    pub files: Vec<RowsetFile>,
}

/// What a BE keeps of the cluster it belongs to, in `identity.json`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its secret.
    pub token: String,
    /// The id it has given this BE.
    pub backend: BackendId,
    /// The catalog's epoch that was seen last.
    #[serde(default)]
    pub epoch: EpochId,
    /// The highest sequence of it that was seen. Nothing is deleted for an FE whose catalog does not follow it.
    pub sequence: u64,
}

/// A message as a [`proto::Body`].
pub fn body(message: &impl Serialize) -> Result<proto::Body> {
    pack(message).map(|content| proto::Body { content })
}

/// A message in MessagePack.
pub fn pack(message: &impl Serialize) -> Result<Bytes> {
    rmp_serde::to_vec_named(message)
        .map(Bytes::from)
        .map_err(|err| Error::internal(format_args!("encode message: {err}")))
}

/// The message of some MessagePack.
pub fn unpack<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    rmp_serde::from_slice(content).map_err(|err| Error::internal(format_args!("decode message: {err}")))
}
