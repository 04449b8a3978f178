//! The seal of a rowset file: checksums over all of it, behind the Parquet metadata.
//!
//! ```text
//! PAR1, pages                 checked in blocks of 32 KiB as they are read
//! Parquet metadata            checked when the file is opened
//! CRC-32 of each block        4 bytes each, little-endian
//! CRC-32 of metadata and all block sums
//! length of the above from the metadata on, PAR1
//! ```
//!
//! The length covers metadata and seal, and Parquet readers ignore what follows the metadata: files signed in
//! Parquet's own way ("plaintext footer") carry their signature there too.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use sha2::Digest;

use super::store::corrupt;
use crate::error::{Error, Result};
use crate::types::Sha256;

const BLOCK: usize = 32 << 10;
const MAGIC: &[u8; 4] = b"PAR1";
/// Length and magic at the end.
const END: usize = 8;

/// Writes a file with its seal, hashing on the way.
pub(super) struct Sealer {
    file: File,
    hash: sha2::Sha256,
    size: u64,
    sums: Vec<u32>,
    block: crc32fast::Hasher,
    /// Bytes of the last block so far.
    filled: usize,
}

impl Sealer {
    pub(super) fn new(file: File) -> Self {
        let block = crc32fast::Hasher::new();
        Self { file, hash: sha2::Sha256::new(), size: 0, sums: Vec::new(), block, filled: 0 }
    }

    /// Writes what precedes the metadata, in order.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        self.write(bytes)?;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.block.update(now);
            self.filled += now.len();
            if self.filled == BLOCK {
                self.end_block();
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Takes the last bytes of a Parquet file, whatever precedes its metadata among them; writes them and the seal.
    /// Returns the length and hash of the whole.
    pub(super) fn finish(mut self, tail: &[u8]) -> std::io::Result<(u64, Sha256)> {
        let invalid = || std::io::Error::other("a Parquet file without metadata");
        let (rest, end) = tail.split_last_chunk::<END>().ok_or_else(invalid)?;
        let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]) as usize;
        let (data, metadata) = rest.split_at_checked(rest.len().wrapping_sub(length)).ok_or_else(invalid)?;
        self.add(data)?;
        if self.filled > 0 {
            self.end_block();
        }
        let mut footer = metadata.to_vec();
        footer.extend(self.sums.iter().flat_map(|sum| sum.to_le_bytes()));
        footer.extend(crc32fast::hash(&footer).to_le_bytes());
        footer.extend((footer.len() as u32).to_le_bytes());
        footer.extend(MAGIC);
        self.write(&footer)?;
        Ok((self.size, Sha256(self.hash.finalize().into())))
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn end_block(&mut self) {
        self.sums.push(std::mem::take(&mut self.block).finalize());
        self.filled = 0;
    }
}

/// A sealed file, opened. What it reads has its checksum right.
#[derive(Debug, Clone)]
pub(super) struct SealedFile {
    file: Arc<File>,
    sums: Arc<[u32]>,
    /// Where the metadata begins.
    end: u64,
}

impl SealedFile {
    /// Opens a file of this length and reads its metadata.
    pub(super) fn open(path: &Path, size: u64) -> Result<(Self, Arc<ParquetMetaData>)> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let found = file.metadata().map_err(Error::io("look at", path))?.len();
        if found != size {
            return Err(corrupt(path, format!("it has {found} bytes, not {size}")));
        }
        let broken = || corrupt(path, "its metadata fails its checksum");
        let mut end = [0; END];
        let footer_end = size.checked_sub(END as u64).ok_or_else(broken)?;
        file.read_exact_at(&mut end, footer_end).map_err(Error::io("read", path))?;
        let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
        let start = footer_end.checked_sub(length.into()).ok_or_else(broken)?;
        let mut footer = vec![0; length as usize];
        file.read_exact_at(&mut footer, start).map_err(Error::io("read", path))?;

        let (checked, sum) = footer.split_last_chunk::<4>().ok_or_else(broken)?;
        if end[4..] != *MAGIC || crc32fast::hash(checked) != u32::from_le_bytes(*sum) {
            return Err(broken());
        }
        let blocks = start.div_ceil(BLOCK as u64) as usize;
        let (metadata, sums) = checked.split_at_checked(checked.len().wrapping_sub(4 * blocks)).ok_or_else(broken)?;
        let (sums, _) = sums.as_chunks::<4>();
        let sums = sums.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
        let metadata =
            ParquetMetaDataReader::decode_metadata(metadata).map_err(|err| corrupt(path, err.to_string()))?;
        Ok((Self { file: Arc::new(file), sums, end: start }, Arc::new(metadata)))
    }

    /// Reads the block at this position and checks it.
    fn block(&self, at: u64) -> std::io::Result<Vec<u8>> {
        let number = at / BLOCK as u64;
        let start = number * BLOCK as u64;
        let mut block = vec![0; (self.end - start).min(BLOCK as u64) as usize];
        self.file.read_exact_at(&mut block, start)?;
        if self.sums.get(number as usize) != Some(&crc32fast::hash(&block)) {
            return Err(std::io::Error::other(format!("the bytes from {start} on fail their checksum")));
        }
        Ok(block)
    }
}

impl Length for SealedFile {
    fn len(&self) -> u64 {
        self.end
    }
}

impl ChunkReader for SealedFile {
    type T = SealedRead;

    fn get_read(&self, start: u64) -> Result<SealedRead, ParquetError> {
        Ok(SealedRead { file: self.clone(), at: start, block: Vec::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.end) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} reach beyond the data")));
        }
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads on from a position.
pub(super) struct SealedRead {
    file: SealedFile,
    at: u64,
    /// The block that `at` lies in, or nothing.
    block: Vec<u8>,
}

impl Read for SealedRead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at >= self.file.end || buffer.is_empty() {
            return Ok(0);
        }
        let offset = (self.at % BLOCK as u64) as usize;
        if self.block.is_empty() || offset == 0 {
            self.block = self.file.block(self.at)?;
        }
        let read = (&self.block[offset..]).read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}
