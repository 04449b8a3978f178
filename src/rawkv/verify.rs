//! Whether a file is what its backup says.

use sha2::Digest;

use super::backupmeta::BackupFile;
use super::checksum::Checksum;
use super::key::escape;
use super::sst::{ReadAt, SstReader};
use super::store::{MAX_KEY, MAX_VALUE};
use super::value::{ApiVersion, Value};
use crate::error::{Error, Result};
use crate::types::Sha256;

/// Bytes of a key that a message shows.
const MOST_SHOWN: usize = 32;

/// What is hashed at a time.
const CHUNK: u64 = 1 << 20;

/// Reads a file twice and checks all that is known of it: length, SHA-256, block checksums, order and range of the keys,
/// their number, and CRC-64 where the backup has one. Returns what its entries sum up to.
pub fn verify_file(source: &impl ReadAt, file: &BackupFile, api_version: ApiVersion) -> Result<Checksum> {
    verify_content(source, file)?;
    verify_entries(source, file, api_version, |_, _| Ok(()))
}

/// [`verify_file`] of one whose length and SHA-256 are known to be right, and that each entry can be stored:
/// [`Error::Unsupported`] if not.
pub fn verify_restorable(source: &impl ReadAt, file: &BackupFile, api_version: ApiVersion) -> Result<Checksum> {
    verify_entries(source, file, api_version, |key, value| check_storable(file, key, value))
}

fn verify_entries(
    source: &impl ReadAt,
    file: &BackupFile,
    api_version: ApiVersion,
    check: impl Fn(&[u8], &[u8]) -> Result<()>,
) -> Result<Checksum> {
    let mut sum = Checksum::default();
    SstReader::open(source, &file.name)?.verify(|key, stored| {
        if !file.range.contains(key) {
            return Err(corrupt(file, format!("key '{}' is outside of its range {}", escape(key), file.range)));
        }
        let value = decode_value(file, api_version, key, stored)?.bytes;
        check(key, value)?;
        sum.add(key, value);
        Ok(())
    })?;
    let Checksum { crc64xor, total_kvs, total_bytes: _ } = file.checksum;
    if sum.total_kvs != total_kvs {
        return Err(corrupt(file, format!("it has {} entries and should have {total_kvs}", sum.total_kvs)));
    }
    if crc64xor != 0 && sum.crc64xor != crc64xor {
        return Err(corrupt(file, format!("its CRC-64 is {} and should be {crc64xor}", sum.crc64xor)));
    }
    Ok(sum)
}

/// Checks length and SHA-256.
pub fn verify_content(source: &impl ReadAt, file: &BackupFile) -> Result<()> {
    let size = source.size().map_err(Error::io("read", &file.name))?;
    if size != file.size {
        return Err(corrupt(file, format!("it has {size} bytes and should have {}", file.size)));
    }
    let mut hash = sha2::Sha256::new();
    let mut chunk = vec![0; CHUNK.min(size) as usize];
    for offset in (0..size).step_by(CHUNK as usize) {
        let chunk = &mut chunk[..CHUNK.min(size - offset) as usize];
        source.read_exact_at(chunk, offset).map_err(Error::io("read", &file.name))?;
        hash.update(chunk);
    }
    let sha256 = Sha256(hash.finalize().into());
    if sha256 != file.sha256 {
        return Err(corrupt(file, format!("calculated sha256 is {sha256}, origin sha256 is {}", file.sha256)));
    }
    Ok(())
}

/// A stored value of a file in its parts.
pub fn decode_value<'a>(file: &BackupFile, api: ApiVersion, key: &[u8], stored: &'a [u8]) -> Result<Value<'a>> {
    api.decode(stored)
        .ok_or_else(|| corrupt(file, format!("the value of key '{}' is too short for {api}", escape(key))))
}

fn check_storable(file: &BackupFile, key: &[u8], value: &[u8]) -> Result<()> {
    if key.len() <= MAX_KEY && value.len() <= MAX_VALUE {
        return Ok(());
    }
    let shown = escape(&key[..key.len().min(MOST_SHOWN)]);
    Err(Error::Unsupported(format!(
        "file {}: the key that begins with '{shown}' has {} bytes, and its value {}; at most {MAX_KEY} and {MAX_VALUE} \
         can be stored",
        file.name,
        key.len(),
        value.len()
    )))
}

fn corrupt(file: &BackupFile, message: String) -> Error {
    Error::Corrupt { what: "backup file", path: file.name.clone(), message }
}
