use super::block::Cursor;
use super::codec::{BlockChecksum, Handle, LENGTH_BYTES, decompress, length};
use super::{BLOCK_TRAILER, FOOTER, MAGIC, MAX_BLOCK, ReadAt};
use crate::error::{Error, Result};

/// What RocksDB 6.29, TiKV's up to 8.5, reads as well.
const FORMAT_VERSIONS: std::ops::RangeInclusive<u64> = 2..=5;

/// The blocks of a file, each of which is checked when it is read.
pub(super) struct Blocks<S> {
    source: S,
    /// Names the file in messages.
    pub(super) name: String,
    /// Where the footer begins.
    end: u64,
    checksum: BlockChecksum,
}

impl<S: ReadAt> Blocks<S> {
    /// Reads the footer, and returns where metaindex and index are.
    pub(super) fn open(source: S, name: String) -> Result<(Self, Handle, Handle)> {
        let length = source.size().map_err(Error::io("read", &name))?;
        let Some(end) = length.checked_sub(FOOTER as u64) else {
            return Err(corrupt(&name, "it is too short for an SST"));
        };
        let mut footer = [0; FOOTER];
        source.read_exact_at(&mut footer, end).map_err(Error::io("read", &name))?;
        let (kind, mut handles) = (footer[0], &footer[1..FOOTER - 12]);
        let (version, magic) = (little_endian(&footer[FOOTER - 12..FOOTER - 8]), little_endian(&footer[FOOTER - 8..]));

        if magic != MAGIC {
            return Err(corrupt(&name, "it does not end as an SST does: it is damaged or encrypted"));
        }
        if !FORMAT_VERSIONS.contains(&version) {
            return Err(Error::Unsupported(format!("SST {name} has format version {version}; 2 to 5 are read")));
        }
        let Some(checksum) = BlockChecksum::from_byte(kind) else {
            return Err(Error::Unsupported(format!("SST {name} has block checksums of type {kind}")));
        };
        match (Handle::take(&mut handles), Handle::take(&mut handles)) {
            (Some(metaindex), Some(index)) if handles.iter().all(|byte| *byte == 0) => {
                Ok((Self { source, name, end, checksum }, metaindex, index))
            }
            _ => Err(corrupt(&name, "its footer is damaged")),
        }
    }

    /// A block as it was before it was compressed.
    pub(super) fn read(&self, handle: Handle) -> Result<Vec<u8>> {
        let (stored, kind) = self.read_stored(handle)?;
        decompress(stored, kind).map_err(|message| self.corrupt_at(handle, &message))
    }

    /// How long the block will be that [`Self::read`] returns, without reading all of it.
    pub(super) fn length(&self, handle: Handle) -> Result<u64> {
        self.check(handle)?;
        let mut kind = [0];
        let mut start = vec![0; LENGTH_BYTES.min(handle.size as usize)];
        let read = self.source.read_exact_at(&mut kind, handle.offset + handle.size);
        let read = read.and_then(|()| self.source.read_exact_at(&mut start, handle.offset));
        read.map_err(Error::io("read", &self.name))?;
        match kind {
            [0] => Ok(handle.size),
            [kind] => {
                let length = length(&mut start.as_slice(), kind);
                length.map(|length| length as u64).map_err(|message| self.corrupt_at(handle, &message))
            }
        }
    }

    /// Refuses a block that cannot be in the file, or must not be in memory.
    fn check(&self, handle: Handle) -> Result<()> {
        let Handle { offset, size } = handle;
        let end = offset.checked_add(size).and_then(|end| end.checked_add(BLOCK_TRAILER as u64));
        match size > MAX_BLOCK as u64 || end.is_none_or(|end| end > self.end) {
            true => Err(self.corrupt_at(handle, &format!("it cannot have {size} bytes"))),
            false => Ok(()),
        }
    }

    /// A block as it is stored, and how it is compressed.
    pub(super) fn read_stored(&self, handle: Handle) -> Result<(Vec<u8>, u8)> {
        self.check(handle)?;
        let Handle { offset, size } = handle;
        let mut stored = vec![0; size as usize + BLOCK_TRAILER];
        self.source.read_exact_at(&mut stored, offset).map_err(Error::io("read", &self.name))?;
        let checksum = stored.split_off(size as usize + 1);
        if checksum != self.checksum.of(&stored).to_le_bytes() {
            return Err(self.corrupt_at(handle, "it fails its checksum"));
        }
        let kind = stored.pop().unwrap_or(0);
        Ok((stored, kind))
    }

    /// The entries of a small block.
    pub(super) fn read_pairs(&self, handle: Handle) -> Result<Vec<(String, Vec<u8>)>> {
        let damaged = |message: &str| self.corrupt_at(handle, message);
        let mut cursor = Cursor::new(self.read(handle)?).map_err(damaged)?;
        let mut pairs = Vec::new();
        while let Some(value) = cursor.advance().map_err(damaged)? {
            let name = String::from_utf8_lossy(cursor.key()).into_owned();
            pairs.push((name, cursor.bytes(value).to_vec()));
        }
        Ok(pairs)
    }

    pub(super) fn corrupt(&self, message: impl Into<String>) -> Error {
        corrupt(&self.name, message)
    }

    fn corrupt_at(&self, handle: Handle, message: &str) -> Error {
        self.corrupt(format!("block at {}: {message}", handle.offset))
    }
}

fn corrupt(name: &str, message: impl Into<String>) -> Error {
    Error::Corrupt { what: "SST", path: name.into(), message: message.into() }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
