//! Writes files in the form that TiKV gives them, for the tests of what reads them: format version 2 with CRC-32C.

use std::io::Write;

use sha2::Digest;

use super::codec::{BlockChecksum, Handle};
use super::{BLOCK_TRAILER, BYTEWISE, FOOTER, MAGIC, MAX_BLOCK, PREFIX, PUT, TRAILER, name};
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
#[derive(Debug, Clone, Copy)]
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
        footer.extend(encoded(metaindex));
        footer.extend(encoded(index));
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
    put_varint(&mut bytes, handle.offset);
    put_varint(&mut bytes, handle.size);
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

/// How data blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// Fast.
    Snappy,
    /// Fast.
    Lz4,
    /// Small.
    #[default]
    Zstd,
}

impl Compression {
    /// What stands behind a block.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Snappy => 1,
            Self::Lz4 => 4,
            Self::Zstd => 7,
        }
    }

    /// What stands in the properties.
    pub(super) fn property(self) -> &'static str {
        match self {
            Self::None => "NoCompression",
            Self::Snappy => "Snappy",
            Self::Lz4 => "LZ4",
            Self::Zstd => "ZSTD",
        }
    }
}

/// Compresses blocks.
pub(super) enum Compressor {
    None,
    Snappy(Box<snap::raw::Encoder>),
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    /// Level 0 is the algorithm's own; Snappy and LZ4 have no other.
    pub(super) fn new(compression: Compression, level: i32) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd(Box::new(zstd::bulk::Compressor::new(level)?)),
        })
    }

    /// A block as it is stored, with the byte that says how. What does not shrink by an eighth stays as it is, since it
    /// would cost readers more than it saves.
    pub(super) fn compress(&mut self, block: Vec<u8>) -> std::io::Result<(Vec<u8>, u8)> {
        // LZ4 and zstd blocks begin with the length they will have again; Snappy has its own way of saying it.
        let mut packed = Vec::new();
        let kind = match self {
            Self::None => Compression::None,
            Self::Snappy(encoder) => {
                packed = encoder.compress_vec(&block)?;
                Compression::Snappy
            }
            Self::Lz4 => {
                put_varint(&mut packed, block.len() as u64);
                packed.extend(lz4_flex::block::compress(&block));
                Compression::Lz4
            }
            Self::Zstd(compressor) => {
                put_varint(&mut packed, block.len() as u64);
                packed.extend(compressor.compress(&block)?);
                Compression::Zstd
            }
        };
        if kind == Compression::None || packed.len() >= block.len() - block.len() / 8 {
            return Ok((block, Compression::None.byte()));
        }
        Ok((packed, kind.byte()))
    }
}

/// Builds blocks, one after the other.
pub(super) struct BlockBuilder {
    buffer: Vec<u8>,
    restarts: Vec<u32>,
    /// Every so many entries stand with their whole key.
    interval: usize,
    /// Entries since the last such one.
    since: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn new(interval: usize) -> Self {
        Self { buffer: Vec::new(), restarts: vec![0], interval, since: 0, last_key: Vec::new() }
    }

    /// How long the block would be now.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() + 4 * (self.restarts.len() + 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Appends an entry. Keys must ascend.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        let mut shared = 0;
        if self.since == self.interval {
            self.restarts.push(self.buffer.len() as u32);
            self.since = 0;
        } else {
            shared = self.last_key.iter().zip(key).take_while(|(last, next)| last == next).count();
        }
        put_varint(&mut self.buffer, shared as u64);
        put_varint(&mut self.buffer, (key.len() - shared) as u64);
        put_varint(&mut self.buffer, value.len() as u64);
        self.buffer.extend_from_slice(&key[shared..]);
        self.buffer.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.since += 1;
    }

    /// The block so far; the next entry begins another.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut block = std::mem::take(&mut self.buffer);
        for restart in &self.restarts {
            block.extend(restart.to_le_bytes());
        }
        block.extend((self.restarts.len() as u32).to_le_bytes());
        self.restarts.truncate(1);
        self.since = 0;
        self.last_key.clear();
        block
    }
}

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
