use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{Attempt, ColumnFamily, JobId, Label, Name, RepositoryId, Sha256, Timestamp, WriteId};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobKind {
    /// Copies tables into a repository.
    Backup,
    /// Copies a snapshot into tables.
    Restore,
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "BACKUP",
            Self::Restore => "RESTORE",
        })
    }
}

/// How far a job is. StarRocks' states and spelling; what each does is told in the module `job`.
///
/// ```text
/// BACKUP       PENDING → SNAPSHOTING → UPLOAD_SNAPSHOT → UPLOADING → SAVE_META → UPLOAD_INFO → FINISHED
/// RESTORE      PENDING → SNAPSHOTING → DOWNLOAD → DOWNLOADING → COMMIT → COMMITTING → FINISHED
/// BACKUP RAW   PENDING → SNAPSHOTING ⇄ UPLOADING → UPLOAD_INFO → FINISHED
/// RESTORE RAW  PENDING → DOWNLOADING → COMMITTING → FINISHED
/// all          any unfinished state → CANCELLED, but for a RESTORE's COMMITTING
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobState {
    /// Submitted.
    Pending,
    /// The files are chosen and kept.
    Snapshoting,
    /// Backup: the BEs have all files.
    UploadSnapshot,
    /// Backup: it is decided who uploads what.
    Uploading,
    /// Backup: all content is in the repository.
    SaveMeta,
    /// Backup: definitions and file list are in the repository; from here on it cannot be cancelled.
    UploadInfo,
    /// Restore: the BEs are ready for the files.
    Download,
    /// Restore: it is decided who downloads what.
    Downloading,
    /// Restore: all content is on the BEs.
    Commit,
    /// Restore: the new tables are what queries see.
    Committing,
    /// Ended well.
    Finished,
    /// Ended otherwise.
    Cancelled,
}

impl JobState {
    /// Whether the job has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "PENDING",
            Self::Snapshoting => "SNAPSHOTING",
            Self::UploadSnapshot => "UPLOAD_SNAPSHOT",
            Self::Uploading => "UPLOADING",
            Self::SaveMeta => "SAVE_META",
            Self::UploadInfo => "UPLOAD_INFO",
            Self::Download => "DOWNLOAD",
            Self::Downloading => "DOWNLOADING",
            Self::Commit => "COMMIT",
            Self::Committing => "COMMITTING",
            Self::Finished => "FINISHED",
            Self::Cancelled => "CANCELLED",
        })
    }
}

/// Why a job was cancelled, by StarRocks' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCode {
    /// A named thing is absent.
    NotFound,
    /// The deadline passed.
    Timeout,
    /// Anything else.
    CommonError,
}

/// Why a job was cancelled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// By StarRocks' names.
    pub code: FailureCode,
    /// One line.
    pub message: String,
    /// How far the job was; unknown of jobs of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.code {
            FailureCode::NotFound => "NOT_FOUND",
            FailureCode::Timeout => "TIMEOUT",
            FailureCode::CommonError => "COMMON_ERROR",
        };
        write!(f, "[{code}, msg: {}]", self.message)
    }
}

/// How much of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Rowset files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// Counts one more file.
    pub fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// A job: the durable execution of one BACKUP or RESTORE statement. It stays in the catalog for ever, as history; the
/// rows it works with ([`Key::job_row`](super::Key::job_row)) go when it ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// Counts its runs, from 1.
    pub attempt: Attempt,
    /// The database it reads, or restores into. The job holds it until it ends.
    pub database: Name,
    /// The snapshot's label.
    pub label: Label,
    /// The repository's id in this catalog.
    pub repository: RepositoryId,
    /// The repository's name.
    pub repository_name: Name,
    /// Text of the backup timestamp: of the snapshot to write or to read. Empty until a RESTORE of the latest knows it.
    pub timestamp: String,
    /// RESTORE: the database's name in the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_database: Option<Name>,
    /// RESTORE: copies of each tablet asked for; `None` is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<u32>,
    /// RESTORE: every table of the snapshot, beside those the statement names.
    #[serde(default)]
    pub all_tables: bool,
    /// RESTORE: as the statement said; shown, without effect, as in StarRocks.
    #[serde(default)]
    pub allow_load: bool,
    /// BACKUP: `__meta` and the file list, once they are in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestHashes>,
    /// BACKUP RAW and RESTORE RAW: what they are about. They have no repository; its id is 0 and its name `rawkv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawJob>,
    /// RESTORE: what its downloads are written under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<WriteId>,
    /// When the statement came.
    pub created: Timestamp,
    /// When its files were chosen (BACKUP: pinned; RESTORE: the plan stood).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_prepared: Option<Timestamp>,
    /// When the BEs had confirmed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_finished: Option<Timestamp>,
    /// When all content was where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_finished: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// Milliseconds from `created` to the deadline.
    pub timeout_ms: i64,
    /// All files it covers.
    #[serde(default)]
    pub total: Amount,
    /// Those among them that had to be moved (BACKUP: not in the repository yet).
    #[serde(default)]
    pub moved: Amount,
    /// Why it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Job {
    /// A job as its statement submits it, in its first attempt, with nothing decided yet.
    pub fn new(
        id: JobId,
        kind: JobKind,
        database: Name,
        label: Label,
        repository: (RepositoryId, Name),
        created: Timestamp,
        timeout_ms: i64,
    ) -> Self {
        Self {
            id,
            kind,
            state: JobState::Pending,
            attempt: Attempt(1),
            database,
            label,
            repository: repository.0,
            repository_name: repository.1,
            timestamp: String::new(),
            source_database: None,
            replication: None,
            all_tables: false,
            allow_load: false,
            manifest: None,
            raw: None,
            write: None,
            created,
            meta_prepared: None,
            snapshot_finished: None,
            transfer_finished: None,
            finished: None,
            timeout_ms,
            total: Amount::default(),
            moved: Amount::default(),
            failure: None,
        }
    }

    /// Whether the diagram has an arrow from the job's state to another.
    pub fn leads_to(&self, next: JobState) -> bool {
        use JobState::*;
        let path: &[JobState] = match self.what() {
            What::Backup => &[Pending, Snapshoting, UploadSnapshot, Uploading, SaveMeta, UploadInfo, Finished],
            // What is lost after it was downloaded is downloaded again.
            What::Restore => {
                &[Pending, Snapshoting, Download, Downloading, Commit, Downloading, Commit, Committing, Finished]
            }
            // What is lost while it is uploaded is only in another cut.
            What::RawBackup(_) => &[Pending, Snapshoting, Uploading, Snapshoting, Uploading, UploadInfo, Finished],
            What::RawRestore(_) => &[Pending, Downloading, Committing, Finished],
        };
        let can_fail = match self.what() {
            // What queries see cannot be taken back.
            What::Restore => self.state != Committing,
            _ => true,
        };
        path.windows(2).any(|step| step == [self.state, next])
            || (next == Cancelled && can_fail && !self.state.is_terminal())
    }

    /// What it does, and what about.
    pub fn what(&self) -> What<'_> {
        match (self.kind, &self.raw) {
            (JobKind::Backup, None) => What::Backup,
            (JobKind::Restore, None) => What::Restore,
            (JobKind::Backup, Some(raw)) => What::RawBackup(raw),
            (JobKind::Restore, Some(raw)) => What::RawRestore(raw),
        }
    }

    /// When it is given up.
    pub fn deadline(&self) -> Timestamp {
        self.created.plus_ms(self.timeout_ms)
    }
}

/// What a job does, as far as jobs differ in how they work.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// BACKUP.
    Backup,
    /// RESTORE.
    Restore,
    /// BACKUP RAW.
    RawBackup(&'a RawJob),
    /// RESTORE RAW.
    RawRestore(&'a RawJob),
}

impl What<'_> {
    /// What names of crash points begin with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::RawBackup(_) => "backup-raw",
            Self::RawRestore(_) => "restore-raw",
        }
    }
}

/// What a job on raw keys is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawJob {
    /// The family.
    pub cf: ColumnFamily,
    /// The storage's URI for people, without secrets.
    pub storage: String,
    /// The range for people; a long one is cut.
    pub range: String,
    /// The hash of `backupmeta`: that a BACKUP writes, once that is decided, or that a RESTORE has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Sha256>,
}

/// Where a backup's definitions and file list are, by hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestHashes {
    /// Of `__meta`.
    pub meta: crate::types::Sha256,
    /// Its length in bytes.
    pub meta_size: u64,
    /// Number of file list segments; their hashes are rows of the job.
    pub segments: u32,
}

/// One object of a BACKUP or RESTORE statement. Kept as history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The table's name in the database, or in the snapshot.
    pub table: Name,
    /// The partitions chosen; empty is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Name>,
    /// RESTORE: the name it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<Name>,
}
