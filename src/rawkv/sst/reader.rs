use std::collections::BTreeMap;
use std::ops::Range;

use super::block::Cursor;
use super::blocks::Blocks;
use super::codec::{Handle, take_varint};
use super::{BYTEWISE, PREFIX, PUT, ReadAt, TRAILER, name};
use crate::error::{Error, Result};
use crate::rawkv::key::escape;
use crate::types::KeyRange;

/// Reads a file. Every block is checked against its checksum before it is used; holds the index and one data block.
pub struct SstReader<S> {
    blocks: Blocks<S>,
    /// What the metaindex names.
    meta: Vec<Handle>,
    properties: Properties,
    index: Vec<u8>,
}

/// What a reader must know of a file.
struct Properties {
    entries: u64,
    /// Keys of the index are without RocksDB's trailer.
    index_has_user_keys: bool,
    /// See [`Cursor::advance_delta`].
    index_has_deltas: bool,
}

impl<S: ReadAt> SstReader<S> {
    /// What [`Self::open`] has in memory of a file at most, and its reader afterwards, beside a block.
    pub fn index_bytes(source: S, name: impl Into<String>) -> Result<u64> {
        let (blocks, _, index) = Blocks::open(source, name.into())?;
        Ok(index.size + blocks.length(index)?)
    }

    /// How long the largest block of entries is. A block is in memory as it is stored, too, while it is read.
    pub fn largest_block(&self) -> Result<u64> {
        let all = KeyRange::default();
        let mut entries = self.entries(&all)?;
        let mut largest = 0;
        while let Some(handle) = entries.next_handle().map_err(|message| self.blocks.corrupt(message))? {
            largest = largest.max(self.blocks.length(handle)?);
        }
        Ok(largest)
    }

    /// Reads all but the entries. `name` is for messages.
    pub fn open(source: S, name: impl Into<String>) -> Result<Self> {
        let (blocks, metaindex, index) = Blocks::open(source, name.into())?;
        let mut meta = BTreeMap::new();
        for (name, value) in blocks.read_pairs(metaindex)? {
            let handle =
                Handle::take(&mut value.as_slice()).ok_or_else(|| blocks.corrupt("its metaindex is damaged"))?;
            meta.insert(name, handle);
        }
        let properties = Properties::read(&blocks, &meta)?;
        let index = blocks.read(index)?;
        Ok(Self { blocks, meta: meta.into_values().collect(), properties, index })
    }

    /// The entries in a range, in key order: user keys, and values as they are stored.
    pub fn entries<'a>(&'a self, range: &'a KeyRange) -> Result<Entries<'a, S>> {
        let index = Cursor::new(self.index.as_slice()).map_err(|message| self.blocks.corrupt(message))?;
        Ok(Entries {
            sst: self,
            range,
            index,
            last: Handle::default(),
            block: None,
            previous: Vec::new(),
            ended: false,
        })
    }

    /// Reads and checks the whole file: every block, the order of the keys, and their number. Gives `each` all entries
    /// on the way; they are not to be used before this has returned.
    pub fn verify(&self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for handle in &self.meta {
            self.blocks.read_stored(*handle)?;
        }
        let all = KeyRange::default();
        let mut entries = self.entries(&all)?;
        let mut count = 0;
        while let Some((key, value)) = entries.next_entry()? {
            each(key, value)?;
            count += 1;
        }
        let expected = self.properties.entries;
        if count != expected {
            return Err(self.blocks.corrupt(format!("it has {count} entries and should have {expected}")));
        }
        Ok(())
    }
}

impl Properties {
    /// Refuses what the reader would read wrong.
    fn read<S: ReadAt>(blocks: &Blocks<S>, meta: &BTreeMap<String, Handle>) -> Result<Self> {
        let unsupported = |what: &str| Err(Error::Unsupported(format!("SST {} has {what}", blocks.name)));
        if meta.contains_key(name::COMPRESSION_DICTIONARY) {
            return unsupported("a compression dictionary");
        }
        if meta.contains_key(name::RANGE_DELETIONS) {
            return unsupported("deletions of ranges");
        }
        let handle = meta.get(name::PROPERTIES).ok_or_else(|| blocks.corrupt("it has no properties"))?;
        let properties: BTreeMap<String, Vec<u8>> = blocks.read_pairs(*handle)?.into_iter().collect();
        let number = |name| properties.get(name).and_then(|value| take_varint(&mut value.as_slice()));

        if properties.get(name::COMPARATOR).is_none_or(|comparator| comparator != BYTEWISE.as_bytes()) {
            return unsupported("keys that are not in the order of their bytes");
        }
        match properties.get(name::INDEX_TYPE).map(Vec::as_slice) {
            // Binary search; and hash search, whose index has more beside the same.
            None | Some([0 | 1, 0, 0, 0]) => {}
            Some(_) => return unsupported("an index of several levels, or with first keys"),
        }
        Ok(Self {
            entries: number(name::ENTRIES).ok_or_else(|| blocks.corrupt("it does not tell how many entries it has"))?,
            index_has_user_keys: number(name::INDEX_KEY_IS_USER_KEY).is_some_and(|flag| flag != 0),
            index_has_deltas: number(name::INDEX_VALUE_IS_DELTA).is_some_and(|flag| flag != 0),
        })
    }
}

/// Goes through the entries of a range.
pub struct Entries<'a, S> {
    sst: &'a SstReader<S>,
    range: &'a KeyRange,
    index: Cursor<&'a [u8]>,
    /// The block that the index named last.
    last: Handle,
    block: Option<Cursor<Vec<u8>>>,
    /// The stored key of the entry before, without its trailer; empty before the first.
    previous: Vec<u8>,
    ended: bool,
}

impl<S: ReadAt> Entries<'_, S> {
    /// The next user key and stored value. After the end or an error there is nothing more.
    pub fn next_entry(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let found = if self.ended { Ok(None) } else { self.advance() };
        self.ended = !matches!(found, Ok(Some(_)));
        Ok(match (&self.block, found?) {
            (Some(block), Some(value)) => Some((&self.previous[1..], block.bytes(value))),
            _ => None,
        })
    }

    /// Goes to the next entry of the range; its key is then in `previous`, its value in the block.
    fn advance(&mut self) -> Result<Option<Range<usize>>> {
        let corrupt = |message| self.sst.blocks.corrupt(message);
        loop {
            let Some(block) = &mut self.block else {
                self.block = self.next_block()?;
                if self.block.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let Some(value) = block.advance().map_err(corrupt)? else {
                self.block = None;
                continue;
            };
            let key = stored_key(block.key()).map_err(|message| self.sst.blocks.corrupt(message))?;
            let user_key = &key[1..];
            if key <= self.previous.as_slice() {
                return Err(self.sst.blocks.corrupt(format!("key '{}' is out of order", escape(user_key))));
            }
            self.previous.clear();
            self.previous.extend_from_slice(key);
            if self.range.ends_before(user_key) {
                return Ok(None);
            }
            if self.range.contains(user_key) {
                return Ok(Some(value));
            }
        }
    }

    /// The next block that may hold keys of the range.
    fn next_block(&mut self) -> Result<Option<Cursor<Vec<u8>>>> {
        let SstReader { blocks, properties, .. } = self.sst;
        let start = self.range.start();
        while let Some(handle) = self.next_handle().map_err(|message| blocks.corrupt(message))? {
            // No key of the block is greater than its key in the index.
            let mut bound = self.index.key();
            if !properties.index_has_user_keys {
                bound = &bound[..bound.len().saturating_sub(TRAILER)];
            }
            if start.is_empty() || bound >= [&[PREFIX], start].concat().as_slice() {
                return Cursor::new(blocks.read(handle)?).map(Some).map_err(|message| blocks.corrupt(message));
            }
        }
        Ok(None)
    }

    fn next_handle(&mut self) -> Result<Option<Handle>, &'static str> {
        let handle = if self.sst.properties.index_has_deltas {
            self.index.advance_delta(self.last)?
        } else if let Some(value) = self.index.advance()? {
            Some(Handle::take(&mut self.index.bytes(value)).ok_or("an index entry does not decode")?)
        } else {
            None
        };
        self.last = handle.unwrap_or_default();
        Ok(handle)
    }
}

/// A key without RocksDB's trailer, checked to be TiKV's, of a put.
fn stored_key(key: &[u8]) -> Result<&[u8], String> {
    let (key, trailer) = key.split_last_chunk().ok_or("a key is too short")?;
    if key.first() != Some(&PREFIX) {
        return Err(format!("key '{}' lacks TiKV's prefix", escape(key)));
    }
    // The other seven bytes are the sequence number: any, because there is one entry of a key.
    let kind = u64::from_le_bytes(*trailer) & 0xFF;
    if kind != PUT {
        return Err(format!("key '{}' was not put, but is an entry of type {kind}", escape(&key[1..])));
    }
    Ok(key)
}
