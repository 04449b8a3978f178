use std::io::Write;

use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::block::BlockBuilder;
use super::codec::{BlockChecksum, Compressor, Handle, put_varint};
use super::{BLOCK_TRAILER, BYTEWISE, Compression, FOOTER, MAGIC, MAX_BLOCK, PREFIX, PUT, TRAILER, name};
use crate::error::{Error, Result};
use crate::rawkv::checksum::Checksum;
use crate::rawkv::key::escape;
use crate::types::Sha256;

/// What TiKV's own files have.
const FORMAT_VERSION: u32 = 2;

/// Far below what the reader takes, whatever else is in the block.
const MAX_ENTRY: usize = MAX_BLOCK / 2;
const MAX_INDEX: usize = MAX_BLOCK / 2;

/// How a file is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SstOptions {
    /// Of data blocks.
    pub compression: Compression,
    /// 0 is the algorithm's own; Snappy and LZ4 have no other.
    pub level: i32,
    /// A data block ends when it is this long.
    pub block_bytes: usize,
    /// Every so many entries stand with their whole key; at least 1.
    pub restart_interval: usize,
}

impl Default for SstOptions {
    fn default() -> Self {
        Self { compression: Compression::Zstd, level: 0, block_bytes: 32 << 10, restart_interval: 16 }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SstSummary {
    /// Bytes of the file.
    pub size: u64,
    /// Of the file.
    pub sha256: Sha256,
    /// Of the entries.
    pub checksum: Checksum,
    /// The first user key.
    pub first_key: Vec<u8>,
    /// The last user key.
    pub last_key: Vec<u8>,
}

/// Writes one file, from its first byte to its last. Holds one data block and the index.
pub struct SstWriter<W> {
    out: Hashed<W>,
    name: String,
    options: SstOptions,
    compressor: Compressor,
    data: BlockBuilder,
    index: BlockBuilder,
    /// The stored form of the last key.
    last: Vec<u8>,
    first_key: Option<Vec<u8>>,
    checksum: Checksum,
    stored_key_bytes: u64,
    value_bytes: u64,
    data_blocks: u64,
}

impl<W: Write> SstWriter<W> {
    /// Begins a file. `name` is for messages.
    pub fn new(out: W, name: impl Into<String>, options: SstOptions) -> Result<Self> {
        let name = name.into();
        let compressor = Compressor::new(options.compression, options.level).map_err(Error::io("compress", &name))?;
        Ok(Self {
            out: Hashed { out, hash: sha2::Sha256::new(), size: 0 },
            name,
            options,
            compressor,
            data: BlockBuilder::new(options.restart_interval.max(1)),
            index: BlockBuilder::new(1),
            last: Vec::new(),
            first_key: None,
            checksum: Checksum::default(),
            stored_key_bytes: 0,
            value_bytes: 0,
            data_blocks: 0,
        })
    }

    /// Appends an entry. The key must be greater than the one before.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if key.len().saturating_add(value.len()) > MAX_ENTRY {
            let message = format!("an entry of {} exceeds {MAX_ENTRY} bytes in key and value", self.name);
            return Err(Error::Unsupported(message));
        }
        if self.first_key.is_none() {
            self.first_key = Some(key.to_vec());
        } else if user_key(&self.last) >= key {
            return Err(Error::internal(format_args!("key '{}' is out of order in {}", escape(key), self.name)));
        }
        self.last.clear();
        self.last.push(PREFIX);
        self.last.extend_from_slice(key);
        self.last.extend(PUT.to_le_bytes());
        self.data.add(&self.last, value);
        self.checksum.add(key, value);
        self.stored_key_bytes += self.last.len() as u64;
        self.value_bytes += value.len() as u64;
        if self.data.len() >= self.options.block_bytes {
            self.end_block()?;
        }
        Ok(())
    }

    /// Bytes of the file so far, with all that is still in memory.
    pub fn size(&self) -> u64 {
        self.out.size + (self.data.len() + self.index.len()) as u64
    }

    /// Writes what follows the entries, and returns what the file went to, flushed but not synced. A file must have an
    /// entry: RocksDB takes no empty one.
    pub fn finish(mut self) -> Result<(W, SstSummary)> {
        let Some(first_key) = self.first_key.take() else {
            return Err(Error::internal(format_args!("{} would be empty", self.name)));
        };
        if !self.data.is_empty() {
            self.end_block()?;
        }
        let data_size = self.out.size;
        let index = self.index.finish();

        let properties = self.properties(data_size, index.len() as u64);
        let properties = self.write_block(properties, Compression::None.byte())?;
        let mut metaindex = BlockBuilder::new(1);
        metaindex.add(name::PROPERTIES.as_bytes(), &encoded(properties));
        let metaindex = self.write_block(metaindex.finish(), Compression::None.byte())?;
        let index = self.write_block(index, Compression::None.byte())?;

        let mut footer = vec![BlockChecksum::Crc32c.byte()];
        metaindex.put(&mut footer);
        index.put(&mut footer);
        footer.resize(FOOTER - 12, 0);
        footer.extend(FORMAT_VERSION.to_le_bytes());
        footer.extend(MAGIC.to_le_bytes());
        self.out.write(&footer).and_then(|()| self.out.out.flush()).map_err(Error::io("write", &self.name))?;

        let summary = SstSummary {
            size: self.out.size,
            sha256: Sha256(self.out.hash.finalize().into()),
            checksum: self.checksum,
            first_key,
            last_key: user_key(&self.last).to_vec(),
        };
        Ok((self.out.out, summary))
    }

    fn end_block(&mut self) -> Result<()> {
        let block = self.data.finish();
        let (stored, kind) = self.compressor.compress(block).map_err(Error::io("compress", &self.name))?;
        let handle = self.write_block(stored, kind)?;
        // Any key from the block's last to before the next block's first would do.
        self.index.add(&self.last, &encoded(handle));
        if self.index.len() > MAX_INDEX {
            return Err(Error::Unsupported(format!("the index of {} exceeds {MAX_INDEX} bytes", self.name)));
        }
        self.data_blocks += 1;
        Ok(())
    }

    /// Writes a block in its stored form, and its trailer.
    fn write_block(&mut self, mut stored: Vec<u8>, kind: u8) -> Result<Handle> {
        let handle = Handle { offset: self.out.size, size: stored.len() as u64 };
        stored.push(kind);
        let checksum = BlockChecksum::Crc32c.of(&stored);
        stored.extend(checksum.to_le_bytes());
        self.out.write(&stored).map_err(Error::io("write", &self.name))?;
        Ok(handle)
    }

    /// What RocksDB must know to ingest the file, and what its tools show.
    fn properties(&self, data_size: u64, index_size: u64) -> Vec<u8> {
        let number = |number: u64| {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            bytes
        };
        let mut properties = [
            (name::COMPARATOR, BYTEWISE.into()),
            (name::ENTRIES, number(self.checksum.total_kvs)),
            (name::INDEX_KEY_IS_USER_KEY, number(0)),
            (name::INDEX_TYPE, 0u32.to_le_bytes().to_vec()),
            (name::INDEX_VALUE_IS_DELTA, number(0)),
            ("rocksdb.block.based.table.prefix.filtering", b"0".to_vec()),
            ("rocksdb.block.based.table.whole.key.filtering", b"1".to_vec()),
            ("rocksdb.column.family.id", number(i32::MAX as u64)),
            ("rocksdb.compression", self.options.compression.property().into()),
            ("rocksdb.data.size", number(data_size)),
            ("rocksdb.deleted.keys", number(0)),
            ("rocksdb.external_sst_file.global_seqno", 0u64.to_le_bytes().to_vec()),
            ("rocksdb.external_sst_file.version", 2u32.to_le_bytes().to_vec()),
            ("rocksdb.filter.size", number(0)),
            ("rocksdb.fixed.key.length", number(0)),
            ("rocksdb.format.version", number(0)),
            ("rocksdb.index.size", number(index_size + BLOCK_TRAILER as u64)),
            ("rocksdb.merge.operands", number(0)),
            ("rocksdb.num.data.blocks", number(self.data_blocks)),
            ("rocksdb.num.range-deletions", number(0)),
            ("rocksdb.raw.key.size", number(self.stored_key_bytes)),
            ("rocksdb.raw.value.size", number(self.value_bytes)),
        ];
        properties.sort();
        let mut block = BlockBuilder::new(1);
        properties.iter().for_each(|(name, value)| block.add(name.as_bytes(), value));
        block.finish()
    }
}

/// The user's part of a stored key.
fn user_key(stored: &[u8]) -> &[u8] {
    &stored[1..stored.len() - TRAILER]
}

fn encoded(handle: Handle) -> Vec<u8> {
    let mut bytes = Vec::new();
    handle.put(&mut bytes);
    bytes
}

/// Hashes and counts what it writes.
struct Hashed<W> {
    out: W,
    hash: sha2::Sha256,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }
}
