//! `backupmeta`: what a backup holds.
//!
//! Nothing in BR's format protects it. Holdfast's has the SHA-256 of itself, as it is without that, in a line of
//! `br_version`, which is text for people.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use prost::Message;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::checksum::Checksum;
use super::layout::{META, key_hash};
use super::value::ApiVersion;
use crate::error::{Error, Result};
use crate::types::{ColumnFamily, Invalid, KeyRange, Sha256};

/// What `backup.proto` compiles to.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/backup.rs"));
}

/// As PD would say it, with quotes and newline. BR restores a backup of the same or a lower major version.
pub const CLUSTER_VERSION: &str = "\"8.5.0\"\n";

/// What stands in `br_version` before the hash of the rest.
const SELF_SHA256: &str = "\nSHA-256 of the rest: ";

/// A raw backup of one column family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupMeta {
    /// The cluster that was backed up.
    pub cluster_id: u64,
    /// Its version, as PD says it.
    pub cluster_version: String,
    /// Who made the backup.
    pub br_version: String,
    /// How values are encoded. Older BR says V1 of backups that are V1TTL.
    pub api_version: ApiVersion,
    /// The family.
    pub cf: ColumnFamily,
    /// The range that was asked for.
    pub range: KeyRange,
    /// The files, in the order of their ranges, which do not overlap.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its path below the backup.
    pub name: String,
    /// Its length.
    pub size: u64,
    /// Its hash.
    pub sha256: Sha256,
    /// The range that was read.
    pub range: KeyRange,
    /// Of its entries. TiKV before 6.1 took no CRC and says 0; some versions counted the encoding into the bytes.
    pub checksum: Checksum,
}

impl BackupMeta {
    /// Reads and checks what [`Self::encode`] or BR has written. What BR has and Holdfast does not read is refused by
    /// its name. `uri` is for messages.
    pub fn decode(bytes: &[u8], uri: &str) -> Result<Self> {
        let mut meta = decode_proto(bytes, uri)?;
        refuse_other_kinds(&meta)?;
        let whole = check_self(&mut meta);
        let sizes = meta.files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
        let possible = sizes..=sizes.saturating_add(bytes.len() as u64);
        // Old BR gives none.
        let sized = meta.backup_size == 0 || possible.contains(&meta.backup_size);
        let checked = check(meta).and_then(|checked| match sized {
            true => whole.map(|()| checked),
            false => Err("its backup_size is not that of its files".into()),
        });
        checked.map_err(|message| corrupt(uri, message))
    }

    /// As BR writes it, for `br` and [`Self::decode`].
    pub fn encode(&self) -> Vec<u8> {
        let raw_range = proto::RawRange {
            start_key: self.range.start().to_vec(),
            end_key: self.range.end().to_vec(),
            cf: self.cf.to_string(),
        };
        let mut meta = proto::BackupMeta {
            cluster_id: self.cluster_id,
            cluster_version: self.cluster_version.clone(),
            files: self.files.iter().map(|file| file.encode(self.cf)).collect(),
            is_raw_kv: true,
            raw_ranges: vec![raw_range],
            ddls: b"[]".to_vec(),
            br_version: self.br_version.clone(),
            ..Default::default()
        };
        meta.set_api_version(match self.api_version {
            ApiVersion::V1 => proto::ApiVersion::V1,
            ApiVersion::V1Ttl => proto::ApiVersion::V1ttl,
        });
        let with = |sha256: Sha256| format!("{}{SELF_SHA256}{sha256}", self.br_version);
        meta.br_version = with(Sha256([0; 32]));
        meta.backup_size = self.files.iter().map(|file| file.size).sum::<u64>() + meta.encoded_len() as u64;
        meta.br_version.clone_from(&self.br_version);
        meta.br_version = with(sha256(&meta));
        meta.encode_to_vec()
    }

    /// The range that a restore is of: a bound that is left out (empty) is the backup's own. It must be inside the
    /// backup.
    pub fn restore_range(&self, cf: ColumnFamily, start: &[u8], end: &[u8]) -> Result<KeyRange> {
        let own = |bound: &[u8], own: &[u8]| if bound.is_empty() { own.to_vec() } else { bound.to_vec() };
        let mismatch = |reason: &str| {
            Error::Analysis(format!("{reason}: [BR:Restore:ErrRestoreRangeMismatch]restore range mismatch"))
        };
        let range = KeyRange::new(own(start, self.range.start()), own(end, self.range.end()));
        let range = range.map_err(|Invalid(message)| match start.is_empty() || end.is_empty() {
            // One of the bounds is the backup's.
            true => mismatch("no backup data in the range"),
            false => Error::Analysis(message),
        })?;
        let reason = if cf != self.cf || range.intersection(&self.range).is_none() {
            "no backup data in the range".into()
        } else if !self.range.covers(&range) {
            let backed_up = &self.range;
            format!(
                "the given range to restore {range} is not fully covered by the range that was backed up {backed_up}"
            )
        } else {
            return Ok(range);
        };
        Err(mismatch(&reason))
    }

    /// The files that may hold keys of a range.
    pub fn files_in(&self, range: &KeyRange) -> impl Iterator<Item = &BackupFile> {
        self.files.iter().filter(|file| file.range.intersection(range).is_some())
    }

    /// Of all files.
    pub fn checksum(&self) -> Checksum {
        let mut sum = Checksum::default();
        self.files.iter().for_each(|file| sum.merge(file.checksum));
        sum
    }
}

impl BackupFile {
    fn encode(&self, cf: ColumnFamily) -> proto::File {
        proto::File {
            name: self.name.clone(),
            sha256: self.sha256.0.to_vec(),
            start_key: self.range.start().to_vec(),
            end_key: self.range.end().to_vec(),
            crc64xor: self.checksum.crc64xor,
            total_kvs: self.checksum.total_kvs,
            total_bytes: self.checksum.total_bytes,
            cf: cf.to_string(),
            size: self.size,
            // TiKV asks for 16 bytes even where nothing is encrypted.
            cipher_iv: self.sha256.0[..16].to_vec(),
            ..Default::default()
        }
    }
}

/// What is in the bytes, be it a raw backup or not.
pub(super) fn decode_proto(bytes: &[u8], uri: &str) -> Result<proto::BackupMeta> {
    // BR's begin with the cluster's id, or its version. An encrypted one begins with 16 random bytes.
    const BEGINNINGS: [u8; 2] = [0x08, 0x12];
    if bytes.is_empty() {
        return Err(corrupt(uri, "it is empty".into()));
    }
    proto::BackupMeta::decode(bytes).map_err(|error| match bytes.first() {
        Some(first) if !BEGINNINGS.contains(first) => Error::Unsupported(format!(
            "{META} in {uri} is encrypted, or damaged; encrypted backups are not read: take one with --crypter.method \
             plaintext"
        )),
        _ => corrupt(uri, error.to_string()),
    })
}

fn corrupt(uri: &str, message: String) -> Error {
    Error::Corrupt { what: META, path: format!("in {uri}"), message }
}

fn sha256(meta: &proto::BackupMeta) -> Sha256 {
    Sha256(sha2::Sha256::digest(meta.encode_to_vec()).into())
}

/// Takes the hash that it has of itself out of `br_version`, if it has one, and checks it.
fn check_self(meta: &mut proto::BackupMeta) -> Result<(), String> {
    let Some((rest, hash)) = meta.br_version.rsplit_once(SELF_SHA256) else { return Ok(()) };
    let (rest, hash) = (rest.to_owned(), hash.to_owned());
    meta.br_version = rest;
    match sha256(meta).to_string() == hash {
        true => Ok(()),
        false => Err("it is not what was written: its SHA-256 is another".into()),
    }
}

fn refuse_other_kinds(meta: &proto::BackupMeta) -> Result<()> {
    if !meta.is_raw_kv {
        let message = "cannot do raw restore from transactional data: [BR:Restore:ErrRestoreModeMismatch]restore mode \
                       mismatch";
        return Err(Error::Unsupported(message.into()));
    }
    let unsupported = |what: &str| Err(Error::Unsupported(what.into()));
    if meta.version != 0 || meta.file_index.is_some() || meta.raw_range_index.is_some() {
        return unsupported("the backup has metadata V2 (files listed outside of backupmeta); only V1 is read");
    }
    if !matches!(meta.api_version.try_into(), Ok(proto::ApiVersion::V1 | proto::ApiVersion::V1ttl)) {
        return unsupported("the backup is of API V2 or later, whose keys are encoded; only V1 and V1TTL are read");
    }
    if meta.mode() == proto::Mode::File {
        return unsupported("the backup holds files of the store (mode FILE); only mode SCAN is read");
    }
    if meta.raw_ranges.len() > 1 {
        return unsupported("the backup has more than one range");
    }
    Ok(())
}

fn check(meta: proto::BackupMeta) -> Result<BackupMeta, String> {
    let api_version = match meta.api_version() {
        proto::ApiVersion::V1ttl => ApiVersion::V1Ttl,
        _ => ApiVersion::V1,
    };
    let [raw_range] = meta.raw_ranges.try_into().map_err(|_| "it names no range")?;
    let proto::RawRange { start_key, end_key, cf } = raw_range;
    let cf: ColumnFamily = cf.parse().map_err(|Invalid(message)| message)?;
    let range = KeyRange::new(start_key, end_key).map_err(|_| "its range is empty")?;

    let mut names = BTreeSet::new();
    let mut files = Vec::with_capacity(meta.files.len());
    for file in meta.files {
        let file = check_file(file, cf, &range)?;
        if !names.insert(file.name.clone()) {
            return Err(format!("it names file {} twice", file.name));
        }
        files.push(file);
    }
    files.sort_by(|a, b| a.range.start().cmp(b.range.start()));
    for pair in files.windows(2) {
        if pair[0].range.intersection(&pair[1].range).is_some() {
            return Err(format!("files {} and {} overlap", pair[0].name, pair[1].name));
        }
    }
    let proto::BackupMeta { cluster_id, cluster_version, br_version, .. } = meta;
    Ok(BackupMeta { cluster_id, cluster_version, br_version, api_version, cf, range, files })
}

fn check_file(file: proto::File, cf: ColumnFamily, whole: &KeyRange) -> Result<BackupFile, String> {
    let name = file.name;
    // The name becomes a path: it must not lead out of the backup.
    if name.is_empty() || !Path::new(&name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!("'{name}' is no name of a file"));
    }
    let own_cf = file.cf.parse::<ColumnFamily>().map_err(|error| format!("file {name}: {error}"))?;
    if own_cf != cf {
        return Err(format!("file {name} is of column family {own_cf}, and its range of {cf}"));
    }
    let sha256 = file.sha256.try_into().map(Sha256).map_err(|_| format!("file {name} has no SHA-256"))?;
    let range =
        KeyRange::new(file.start_key, file.end_key).map_err(|_| format!("the range of file {name} is empty"))?;
    if !whole.covers(&range) {
        return Err(format!("file {name} covers {range}, which is not all in {whole}"));
    }
    let base = name.rsplit('/').next().unwrap_or_default();
    let is_hash = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if base.split('_').find(is_hash).is_some_and(|hash| hash != key_hash(range.start()).to_string()) {
        return Err(format!("file {name} is named after another first key than that of its range {range}"));
    }
    let checksum = Checksum { crc64xor: file.crc64xor, total_kvs: file.total_kvs, total_bytes: file.total_bytes };
    Ok(BackupFile { name, size: file.size, sha256, range, checksum })
}
