//! What `br debug` does with a directory, without a server.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::backupmeta::{BackupFile, BackupMeta, decode_proto, proto};
use super::checksum::Checksum;
use super::layout::{META, META_JSON};
use super::storage::Storage;
use super::value::ApiVersion;
use super::verify::verify_file;
use crate::error::{Error, Result};

/// The directory that BR's `--storage` names.
pub fn local_directory(storage: &str) -> Result<PathBuf> {
    if !storage.is_empty() && !storage.contains("://") {
        return Ok(storage.into());
    }
    let storage = Storage::parse(storage).map_err(|err| match err {
        Error::Analysis(message) => Error::Config(message),
        other => other,
    })?;
    match storage.location.strip_prefix("file://") {
        Some(path) => Ok(path.into()),
        None => Err(Error::Unsupported(format!("br debug of {}: only local directories are read", storage.shown))),
    }
}

/// Writes `backupmeta.json` beside `backupmeta`, and returns what to print.
pub fn decode(directory: &Path) -> Result<String> {
    let bytes = read_meta(directory)?;
    let path = directory.join(META_JSON);
    fs::write(&path, to_json(&bytes, &directory.display().to_string())?).map_err(Error::io("write", &path))?;
    Ok(format!("backupmeta decoded at {}\n", path.display()))
}

/// What `backupmeta` says in one field, by Go's name of it. Files and ranges, for which BR has Go's own form, are JSON.
pub fn field(directory: &Path, name: &str) -> Result<String> {
    let meta = decode_proto(&read_meta(directory)?, &directory.display().to_string())?;
    let name = match name {
        "start-version" => "StartVersion",
        "end-version" => "EndVersion",
        other => other,
    };
    let (mode, api_version) = (meta.mode().as_str_name(), meta.api_version().as_str_name());
    let go = |name: &str| name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>();
    let found = fields(meta).into_iter().find(|(known, _)| go(known) == name);
    Ok(match found {
        Some(("mode", _)) => mode.to_owned(),
        Some(("api_version", _)) => api_version.to_owned(),
        Some((_, Value::String(text))) => text,
        Some((_, value)) => value.to_string(),
        // No error in BR.
        None => format!("field '{name}' not found"),
    })
}

/// A `backupmeta` of any kind in BR's JSON: hashes and keys in hex, other bytes in base64, and nothing that is empty.
pub fn to_json(bytes: &[u8], uri: &str) -> Result<String> {
    let mut fields = fields(decode_proto(bytes, uri)?);
    // Go's rule leaves an empty list of this type in.
    let ddls = fields.iter().position(|(name, _)| *name == "ddls").map(|at| fields.remove(at));
    let mut object = filled(fields);
    object.extend(ddls.filter(|(_, ddls)| *ddls != Value::Null).map(|(name, ddls)| (name.to_owned(), ddls)));
    Ok(Value::Object(object).to_string())
}

/// All that is read of it, by the names of the schema.
fn fields(meta: proto::BackupMeta) -> Vec<(&'static str, Value)> {
    vec![
        ("cluster_id", meta.cluster_id.into()),
        ("cluster_version", meta.cluster_version.into()),
        ("files", meta.files.iter().map(file_to_json).collect()),
        ("start_version", meta.start_version.into()),
        ("end_version", meta.end_version.into()),
        ("is_raw_kv", meta.is_raw_kv.into()),
        ("raw_ranges", meta.raw_ranges.iter().map(range_to_json).collect()),
        ("ddls", serde_json::from_slice(&meta.ddls).unwrap_or(Value::Null)),
        ("br_version", meta.br_version.into()),
        ("version", meta.version.into()),
        ("file_index", index_to_json(meta.file_index)),
        ("raw_range_index", index_to_json(meta.raw_range_index)),
        ("api_version", meta.api_version.into()),
        ("is_txn_kv", meta.is_txn_kv.into()),
        ("mode", meta.mode.into()),
        ("backup_size", meta.backup_size.into()),
    ]
}

fn file_to_json(file: &proto::File) -> Value {
    Value::Object(filled([
        ("name", file.name.clone().into()),
        ("sha256", hex::encode(&file.sha256).into()),
        ("start_key", hex::encode(&file.start_key).into()),
        ("end_key", hex::encode(&file.end_key).into()),
        ("start_version", file.start_version.into()),
        ("end_version", file.end_version.into()),
        ("crc64xor", file.crc64xor.into()),
        ("total_kvs", file.total_kvs.into()),
        ("total_bytes", file.total_bytes.into()),
        ("cf", file.cf.clone().into()),
        ("size", file.size.into()),
        ("cipher_iv", BASE64_STANDARD.encode(&file.cipher_iv).into()),
    ]))
}

fn range_to_json(range: &proto::RawRange) -> Value {
    Value::Object(filled([
        ("start_key", hex::encode(&range.start_key).into()),
        ("end_key", hex::encode(&range.end_key).into()),
        ("cf", range.cf.clone().into()),
    ]))
}

fn index_to_json(index: Option<proto::MetaFile>) -> Value {
    let files = |index: proto::MetaFile| index.meta_files.iter().map(file_to_json).collect::<Value>();
    index.map_or(Value::Null, |index| Value::Object(filled([("meta_files", files(index))])))
}

/// Go's `omitempty`.
fn filled<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Map<String, Value> {
    let empty = [json!(0), json!(""), json!(false), json!([]), Value::Null];
    let fields = fields.into_iter().filter(|(_, value)| !empty.contains(value));
    fields.map(|(name, value)| (name.into(), value)).collect()
}

/// What became of each file of a backup.
#[derive(Debug)]
pub struct ChecksumReport(pub Vec<(BackupFile, Result<Checksum>)>);

/// Reads all files of a backup and checks them. `api_version` overrides what the backup says of itself. Fails if there
/// is no backup that can be read; what is wrong with a file is in the report.
pub fn checksum(directory: &Path, api_version: Option<ApiVersion>) -> Result<ChecksumReport> {
    let meta = BackupMeta::decode(&read_meta(directory)?, &directory.display().to_string())?;
    let api_version = api_version.unwrap_or(meta.api_version);
    let verify = |file: &BackupFile| {
        let path = directory.join(&file.name);
        verify_file(&File::open(&path).map_err(Error::io("open", &path))?, file, api_version)
    };
    let verified = meta.files.into_iter().map(|file| {
        let result = verify(&file);
        (file, result)
    });
    Ok(ChecksumReport(verified.collect()))
}

impl ChecksumReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.0.iter().all(|(_, result)| result.is_ok())
    }
}

impl fmt::Display for ChecksumReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whole = Checksum::default();
        for (file, result) in &self.0 {
            match result {
                Ok(sum) => {
                    whole.merge(*sum);
                    writeln!(f, "{}: ok, {}", file.name, Sums(*sum))?;
                }
                Err(error) => writeln!(f, "{}: FAILED: {}", file.name, error.report())?,
            }
        }
        if self.is_ok() {
            writeln!(f, "{} files, {}", self.0.len(), Sums(whole))?;
            writeln!(f, "backup data checksum succeed!")
        } else {
            let failed = self.0.iter().filter(|(_, result)| result.is_err()).count();
            writeln!(f, "backup data checksum failed: {failed} of {} files may be changed", self.0.len())
        }
    }
}

struct Sums(Checksum);

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checksum { crc64xor, total_kvs, total_bytes } = self.0;
        write!(f, "total-kvs={total_kvs} total-bytes={total_bytes} crc64xor={crc64xor}")
    }
}

fn read_meta(directory: &Path) -> Result<Vec<u8>> {
    let path = directory.join(META);
    fs::read(&path).map_err(Error::io("read", &path))
}
