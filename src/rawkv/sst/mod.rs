//! RocksDB's sorted string tables, in the form TiKV gives them in raw backups.
//!
//! ```text
//! data block …     entries in key order
//! properties       about the file, by name
//! metaindex        where the properties are
//! index            the last key of each data block, and where the block is
//! footer           53 bytes: kind of checksum, where metaindex and index are, format version, magic number
//! ```
//!
//! A block holds entries that leave out what they share with the key before ([`block`]). In the file each is followed
//! by a byte that names its compression, and a checksum of both ([`codec`]). A stored key is [`PREFIX`], the user's
//! key, and eight bytes of RocksDB's: 0 for the sequence number and 1 for "put".
//!
//! [`SstWriter`] writes format version 2 with CRC-32C, which every TiKV and RocksDB reads; [`SstReader`] reads versions
//! 2 to 5. Neither knows filters: they help point reads only. Both block, so they belong on a thread of their own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

mod block;
mod blocks;
mod codec;
mod reader;
mod writer;

pub use reader::{Entries, SstReader};
pub use writer::{SstOptions, SstSummary, SstWriter};

/// TiKV keeps user data behind this byte.
const PREFIX: u8 = b'z';
/// Behind each user key: sequence number and kind.
const TRAILER: usize = 8;
/// A put with sequence number 0.
const PUT: u64 = 1;

const MAGIC: u64 = 0x88e2_41b7_85f4_cff7;
const FOOTER: usize = 53;
/// Bytes behind a block: its compression and checksum.
const BLOCK_TRAILER: usize = 5;
/// Nothing larger is read or written, so that a damaged length cannot exhaust the memory. An entry is in one block, and
/// so is the index of a file.
const MAX_BLOCK: usize = 256 << 20;

/// Names in the metaindex and the properties.
mod name {
    pub(super) const PROPERTIES: &str = "rocksdb.properties";
    pub(super) const COMPRESSION_DICTIONARY: &str = "rocksdb.compression_dict";
    pub(super) const RANGE_DELETIONS: &str = "rocksdb.range_del";

    pub(super) const COMPARATOR: &str = "rocksdb.comparator";
    pub(super) const ENTRIES: &str = "rocksdb.num.entries";
    pub(super) const INDEX_TYPE: &str = "rocksdb.block.based.table.index.type";
    pub(super) const INDEX_KEY_IS_USER_KEY: &str = "rocksdb.index.key.is.user.key";
    pub(super) const INDEX_VALUE_IS_DELTA: &str = "rocksdb.index.value.is.delta.encoded";
}

/// The only order of keys that TiKV uses.
const BYTEWISE: &str = "leveldb.BytewiseComparator";

/// How data blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl FromStr for Compression {
    type Err = Error;

    /// The names that BR takes.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "lz4" => Ok(Self::Lz4),
            "snappy" => Ok(Self::Snappy),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Error::Analysis(format!(
                "invalid compression type '{text}': [BR:Common:ErrInvalidArgument]invalid argument"
            ))),
        }
    }
}

/// Bytes that can be read at any place: a file, or memory.
pub trait ReadAt {
    /// How many there are.
    fn size(&self) -> io::Result<u64>;
    /// Fills the buffer from an offset on.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = io::ErrorKind::UnexpectedEof;
        let (_, rest) = usize::try_from(offset).ok().and_then(|offset| self.split_at_checked(offset)).ok_or(end)?;
        buffer.copy_from_slice(rest.get(..buffer.len()).ok_or(end)?);
        Ok(())
    }
}
