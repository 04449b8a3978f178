//! The inside of a block.
//!
//! ```text
//! entry …          shared, unshared and value length as varints; the unshared rest of the key; the value
//! restart point …  4 bytes: where an entry with its whole key is
//! count            4 bytes: how many restart points there are
//! ```

use std::ops::Range;

use super::BLOCK_TRAILER;
use super::codec::{Handle, put_varint, take_length, take_varint};

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

/// Goes through a block from its beginning. An error says what is wrong with the block.
pub(super) struct Cursor<B> {
    block: B,
    /// Where the restart points begin.
    entries_end: usize,
    at: usize,
    key: Vec<u8>,
}

impl<B: AsRef<[u8]>> Cursor<B> {
    pub(super) fn new(block: B) -> Result<Self, &'static str> {
        let entries_end = entries_end(block.as_ref()).ok_or("it has no restart points")?;
        Ok(Self { block, entries_end, at: 0, key: Vec::new() })
    }

    /// The key of the current entry.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// A part of the block.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.block.as_ref()[range]
    }

    /// Goes to the next entry, and returns where its value is.
    pub(super) fn advance(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        if self.at == self.entries_end {
            return Ok(None);
        }
        let (_, value) = self.advance_key(true).ok_or("an entry does not decode")?;
        self.at = value.end;
        Ok(Some(value))
    }

    /// Goes to the next entry of an index whose values are blocks that follow each other: an entry that shares a part
    /// of its key tells the difference in size only, and none tells the length of its value.
    pub(super) fn advance_delta(&mut self, last: Handle) -> Result<Option<Handle>, &'static str> {
        if self.at == self.entries_end {
            return Ok(None);
        }
        let next = |cursor: &mut Self| {
            let (shared, value) = cursor.advance_key(false)?;
            let mut input = &cursor.block.as_ref()[value.start..cursor.entries_end];
            let handle = if shared == 0 {
                Handle::take(&mut input)?
            } else {
                let zigzag = take_varint(&mut input)?;
                let change = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                let offset = last.offset.checked_add(last.size)?.checked_add(BLOCK_TRAILER as u64)?;
                Handle { offset, size: last.size.checked_add_signed(change)? }
            };
            cursor.at = cursor.entries_end - input.len();
            Some(handle)
        };
        next(self).map(Some).ok_or("an index entry does not decode")
    }

    /// Decodes lengths and key, and returns how much of the key is shared, and where the value is; its end is that of
    /// the entries if the entry does not say it.
    fn advance_key(&mut self, says_value_length: bool) -> Option<(usize, Range<usize>)> {
        let mut input = &self.block.as_ref()[self.at..self.entries_end];
        let shared = take_length(&mut input)?;
        let unshared = take_length(&mut input)?;
        let value_length = if says_value_length { Some(take_length(&mut input)?) } else { None };
        let rest = input.split_off(..unshared)?;
        if shared > self.key.len() {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        let start = self.entries_end - input.len();
        let end = value_length.map_or(Some(self.entries_end), |length| start.checked_add(length))?;
        (end <= self.entries_end).then_some((shared, start..end))
    }
}

/// Where the restart points of a block begin. A hash index may follow them: a byte for each bucket, and their number;
/// the highest bit of the count says so.
fn entries_end(block: &[u8]) -> Option<usize> {
    let (rest, count) = block.split_last_chunk()?;
    let count = u32::from_le_bytes(*count);
    let mut end = rest.len();
    if count >> 31 == 1 {
        let (rest, buckets) = rest.split_last_chunk()?;
        end = rest.len().checked_sub(u16::from_le_bytes(*buckets).into())?;
    }
    end.checked_sub(4 * (count & 0x7FFF_FFFF) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rawkv::sst::codec::decompress;

    proptest! {
        /// A block whose checksum is right may be nonsense all the same: then it is refused, and nothing panics.
        #[test]
        fn nonsense_is_refused(
            mut block in prop::collection::vec(prop_oneof![0..9u8, any::<u8>()], 0..60),
            restarts in 0..4u32,
            kind in 0..9u8,
            size in any::<u64>(),
        ) {
            let _ = decompress(block.clone(), kind);
            block.extend(restarts.to_le_bytes());
            for deltas in [false, true] {
                let Ok(mut cursor) = Cursor::new(block.as_slice()) else { continue };
                let last = Handle { offset: size / 2, size };
                let mut next = || match deltas {
                    true => cursor.advance_delta(last).map(|handle| handle.is_some()),
                    false => cursor.advance().map(|value| value.map(|value| cursor.bytes(value).len()).is_some()),
                };
                while let Ok(true) = next() {}
            }
        }
    }
}
