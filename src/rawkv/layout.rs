//! Every name in a backup, as BR and TiKV give them.
//!
//! ```text
//! backup.lock        written first: who finds it keeps away
//! 1/9_4_<hash>_<millis>_default.sst    a folder a store, on disks and S3
//! 1_9_4_<hash>_<millis>_default.sst    no folders elsewhere
//! backupmeta         written last: makes it a backup
//! backupmeta.json    written by `br debug decode`
//! ```
//!
//! The numbers are the store, the region and the version of its epoch; the hash is of the first key of the range.

use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::error::{Error, Result};
use crate::types::{ColumnFamily, Sha256};

/// The root of a backup.
pub const META: &str = "backupmeta";
/// The same for people.
pub const META_JSON: &str = "backupmeta.json";
/// Guards a directory.
pub const LOCK: &str = "backup.lock";
/// What the lock says to those who open it.
pub const LOCK_CONTENT: &str = "DO NOT DELETE\nThis file keeps other backups out of this directory.\n";

/// Whether the files of a store have a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// One for each store.
    Folders,
    /// The store is a part of the name.
    Flat,
}

impl Layout {
    /// What TiKV uses on a storage, by the scheme of its URI.
    pub fn of_scheme(scheme: &str) -> Self {
        match scheme {
            "" | "local" | "file" | "s3" => Self::Folders,
            _ => Self::Flat,
        }
    }

    /// What stands between the store and the rest.
    fn separator(self) -> char {
        match self {
            Self::Folders => '/',
            Self::Flat => '_',
        }
    }
}

/// What the name of a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SstName<'a> {
    /// Who wrote it.
    pub store: u64,
    /// What it is of.
    pub region: u64,
    /// The version, not the configuration version, of the region's epoch.
    pub epoch_version: u64,
    /// The first user key of the range; empty if it has no start.
    pub start: &'a [u8],
    /// When the name was made, in Unix milliseconds.
    pub millis: u64,
    /// The family.
    pub cf: ColumnFamily,
}

impl SstName<'_> {
    /// The path below the backup. TiKV leaves hash and time out where there is no first key; here no two tries may write
    /// one name, of which the earlier could end later.
    pub fn path(&self, layout: Layout) -> String {
        let Self { store, region, epoch_version, start, millis, cf } = self;
        let separator = layout.separator();
        format!("{store}{separator}{region}_{epoch_version}_{}_{millis}_{cf}.sst", key_hash(start))
    }

    /// The store in a path, if that is of the form which files of a family get.
    pub fn store_of(layout: Layout, cf: ColumnFamily, path: &str) -> Option<u64> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
        let (store, name) = path.strip_suffix(&format!("_{cf}.sst"))?.split_once(layout.separator())?;
        let [region, version, hash, millis] = name.split('_').collect::<Vec<_>>()[..] else { return None };
        let is_own = [region, version, millis].into_iter().all(|text| number(text).is_some());
        (is_own && hash.parse::<Sha256>().is_ok()).then(|| number(store))?
    }
}

/// What stands in a file's name for its first key.
pub fn key_hash(key: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(key).into())
}

/// Refuses a directory that a backup was made in, or begun, from the names of what is in it.
pub fn check_unused<'a>(uri: &str, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let (mut locked, mut used) = (false, None);
    for name in names {
        if name == META {
            return Err(Error::Refused(format!(
                "backup meta file exists in {uri}, there may be some backup files in the path already, please specify \
                 a correct backup directory!"
            )));
        }
        locked |= name == LOCK;
        used = used.or_else(|| name.ends_with(".sst").then_some(name));
    }
    match (locked, used) {
        (true, Some(_)) => Err(Error::Refused(format!(
            "backup lock file and sst file exist in {uri}, there are some backup files in the path already, please \
             specify a correct backup directory!"
        ))),
        (true, None) => Err(locked_by_another(uri)),
        (false, Some(name)) => Err(Error::Refused(format!(
            "{name} exists in {uri}, which is no empty place; please specify a correct backup directory!"
        ))),
        (false, None) => Ok(()),
    }
}

/// The error of a directory in which a backup is made.
pub fn locked_by_another(uri: &str) -> Error {
    Error::Refused(format!(
        "{LOCK} exists in {uri}: another backup is written there, or was cut short; name another directory, or remove \
         what is in it"
    ))
}

/// The error of a directory that had something and has not: where it lies may not be mounted.
pub fn not_mounted(name: &str, uri: &str) -> Error {
    Error::Repository {
        place: "raw backup".into(),
        operation: "find".into(),
        path: format!("{name} in {uri}"),
        source: "it was there and is not; is the storage mounted?".into(),
        retryable: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a backup that TiKV 5.3 made, which had no folders yet, and those of later versions.
    #[test]
    fn names_are_those_of_tikv() {
        let mut name = SstName {
            store: 1,
            region: 2,
            epoch_version: 2,
            start: b"test_-009965169116504",
            millis: 1_633_919_546_277,
            cf: ColumnFamily::Default,
        };
        let base = "2_2_7154800cc311f03afd1532e961b9a878dfbb119b104cf4daad5d0c7c0eacb502_1633919546277_default.sst";
        assert_eq!(name.path(Layout::Flat), format!("1_{base}"));
        assert_eq!(name.path(Layout::Folders), format!("1/{base}"));
        (name.start, name.cf) = (b"", ColumnFamily::Write);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(name.path(Layout::Folders), format!("1/2_2_{empty}_1633919546277_write.sst"));
        for (layout, other) in [(Layout::Folders, Layout::Flat), (Layout::Flat, Layout::Folders)] {
            let path = name.path(layout);
            assert_eq!(SstName::store_of(layout, ColumnFamily::Write, &path), Some(1));
            assert_eq!(SstName::store_of(other, ColumnFamily::Write, &path), None);
            assert_eq!(SstName::store_of(layout, ColumnFamily::Default, &path), None);
            for wrong in [&path[1..], &path.replace(empty, "x"), &path.replace("163", "x"), "000012.sst", "write.sst"] {
                assert_eq!(SstName::store_of(layout, ColumnFamily::Write, wrong), None, "{wrong}");
            }
        }
        for (scheme, layout) in [
            ("local", Layout::Folders),
            ("file", Layout::Folders),
            ("", Layout::Folders),
            ("s3", Layout::Folders),
            ("gcs", Layout::Flat),
            ("gs", Layout::Flat),
            ("azure", Layout::Flat),
            ("azblob", Layout::Flat),
            ("hdfs", Layout::Flat),
        ] {
            assert_eq!(Layout::of_scheme(scheme), layout, "{scheme}");
        }
    }

    #[test]
    fn a_used_directory_is_refused() {
        let check =
            |names: &[&str]| check_unused("local:///b", names.iter().copied()).map_err(|error| error.to_string());
        check(&[]).unwrap();
        check(&["backupmeta.json", "notes.txt"]).unwrap();
        assert!(check(&[LOCK]).unwrap_err().starts_with("backup.lock exists in local:///b: another backup"));
        assert!(check(&["1/2_2_default.sst"]).unwrap_err().starts_with("1/2_2_default.sst exists in local:///b"));
        assert!(check(&[META]).unwrap_err().starts_with("backup meta file exists in local:///b, "));
        assert!(check(&["1/2_2_default.sst", LOCK]).unwrap_err().starts_with("backup lock file and sst file exist in"));
    }
}
