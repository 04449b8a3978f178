//! Every path of a repository, version 1, below the location that CREATE REPOSITORY names.
//!
//! ```text
//! <location>/__holdfast_repository_<name>/
//!     __repo_info                           RepoInfo: who this repository is
//!     __ss_<label>/
//!         __lock_<cluster>_<job>            Lock: who writes here
//!         __meta_<timestamp>.<sha256>       Meta: definitions of the tables
//!         __files_<timestamp>_<n>.<sha256>  a segment of the file list, in Parquet
//!         __info_<timestamp>                Info: the commit, written last; names the others by hash
//!         __deleted_<timestamp>             a mark: the snapshot is about to be deleted
//!     __objects/<2 hex>/<sha256>-<job>      content of rowset files, shared by all snapshots
//! ```
//!
//! The hash in an object's name is that of its content; an object that several small files share, one after another
//! without gaps, is named by the hash of their hashes, in order. The file list says where each content is.
//!
//! `<job>` in an object's name is the first 12 hex digits of the cluster id, and the numbers of the job, its attempt and
//! the task, each after a `.`: so no two writers ever use one name, and a task that was given up on and goes on all the
//! same cannot touch what took its place. The two hex digits are the hash's first. Names and labels are percent-encoded but for
//! ASCII letters, digits, `_` and `-`; timestamps are `yyyy-MM-dd-HH-mm-ss-SSS`.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::types::{Attempt, ClusterId, JobId, Label, Name, Sha256};

/// What stays as it is in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

const LABEL: &str = crate::types::LABEL_PREFIX;
const ROOT: &str = "__holdfast_repository_";
const INFO: &str = "__info_";
const LOCK: &str = "__lock_";

/// The repository's own folder, without slashes at its ends.
pub fn root(name: &Name) -> String {
    format!("{ROOT}{}", encode(name))
}

/// Refuses a name whose folder disks would not take.
pub fn check_root(name: &Name) -> Result<(), crate::types::Invalid> {
    name.check_folder(ROOT)
}

/// The repository's description of itself.
pub fn repo_info() -> String {
    "__repo_info".into()
}

/// What the names of probes begin with.
pub const PROBE: &str = "__probe_";

/// Where CREATE REPOSITORY tries out what the store can do.
pub fn probe(token: &str) -> String {
    format!("{PROBE}{token}")
}

/// The folder of a label, with a slash at its end as OpenDAL wants folders.
pub fn label_folder(label: &Label) -> String {
    format!("{LABEL}{}/", encode(label))
}

/// The label of a folder's name, if it is one.
pub fn label_of(folder: &str) -> Option<Label> {
    let encoded = folder.trim_end_matches('/').strip_prefix(LABEL)?;
    Label::new(percent_decode_str(encoded).decode_utf8().ok()?).ok()
}

/// A writer's lock.
pub fn lock(label: &Label, cluster: ClusterId, job: JobId) -> String {
    format!("{}{LOCK}{cluster}_{job}", label_folder(label))
}

/// Whether a file of a label's folder is a lock.
pub fn is_lock(file: &str) -> bool {
    file.starts_with(LOCK)
}

/// Definitions of a snapshot.
pub fn meta(label: &Label, timestamp: &str, sha256: &Sha256) -> String {
    format!("{}__meta_{timestamp}.{sha256}", label_folder(label))
}

/// A segment of a snapshot's file list.
pub fn files(label: &Label, timestamp: &str, segment: u32, sha256: &Sha256) -> String {
    format!("{}__files_{timestamp}_{segment}.{sha256}", label_folder(label))
}

/// A snapshot's commit.
pub fn info(label: &Label, timestamp: &str) -> String {
    format!("{}{INFO}{timestamp}", label_folder(label))
}

/// The mark of a snapshot that is about to be deleted: nothing new may rely on the objects it names.
pub fn deletion(label: &Label, timestamp: &str) -> String {
    format!("{}__deleted_{timestamp}", label_folder(label))
}

/// The timestamp of a file of a label's folder, if it is a commit.
pub fn timestamp_of(file: &str) -> Option<&str> {
    file.strip_prefix(INFO)
}

/// A content.
pub fn object(sha256: &Sha256, cluster: ClusterId, job: JobId, attempt: Attempt, task: u64) -> String {
    let mut path = String::with_capacity(100);
    let (hex, cluster) = (sha256.to_string(), cluster.to_string());
    // Writing to a string cannot fail.
    let _ = write!(path, "__objects/{}/{hex}-{}.{job}.{attempt}.{task}", &hex[..2], &cluster[..12]);
    path
}

fn encode(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, ENCODED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_documented_form() {
        let label = Label::new("nächtlich_1").unwrap();
        assert_eq!(label_folder(&label), "__ss_n%C3%A4chtlich_1/");
        assert_eq!(label_of("__ss_n%C3%A4chtlich_1/"), Some(label.clone()));
        assert_eq!(label_of("__objects/"), None);
        let cluster: ClusterId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let hash = Sha256([0xab; 32]);
        let path = object(&hash, cluster, JobId(7), Attempt(2), 3);
        assert_eq!(path, format!("__objects/ab/{hash}-0123456789ab.7.2.3"));
        assert!(check_root(&Name::new("x".repeat(64)).unwrap()).is_ok());
        assert!(check_root(&Name::new("🦀".repeat(20)).unwrap()).is_err());
        let longest = Name::new("🦀".repeat(19)).unwrap();
        assert!(check_root(&longest).is_ok() && root(&longest).len() <= 255);
        assert_eq!(root(&Name::new("🦀 1").unwrap()), "__holdfast_repository_%F0%9F%A6%80%201");
        assert_eq!(timestamp_of("__info_2026-11-21-02-30-00-123"), Some("2026-11-21-02-30-00-123"));
    }
}
