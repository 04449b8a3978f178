//! What all blocks have in common: numbers, checksums, compression.

use xxhash_rust::xxh3::xxh3_64;
use xxhash_rust::xxh32::xxh32;
use xxhash_rust::xxh64::xxh64;

use super::{Compression, MAX_BLOCK};

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front. None unless it is one in its shortest form.
pub(super) fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *input.split_off_first()?;
        let bits = u64::from(byte & 0x7F);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return (byte != 0 || shift == 0).then_some(number);
        }
    }
    None
}

/// The same, for a length.
pub(super) fn take_length(input: &mut &[u8]) -> Option<usize> {
    take_varint(input)?.try_into().ok()
}

/// Where a block is, without its trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Handle {
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Handle {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, self.size);
    }

    pub(super) fn take(input: &mut &[u8]) -> Option<Self> {
        Some(Self { offset: take_varint(input)?, size: take_varint(input)? })
    }
}

/// How the blocks of a file are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockChecksum {
    Crc32c,
    XxHash32,
    XxHash64,
    XxHash3,
}

impl BlockChecksum {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Crc32c, Self::XxHash32, Self::XxHash64, Self::XxHash3].into_iter().find(|kind| kind.byte() == byte)
    }

    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Crc32c => 1,
            Self::XxHash32 => 2,
            Self::XxHash64 => 3,
            Self::XxHash3 => 4,
        }
    }

    /// Of a block and the byte behind it.
    pub(super) fn of(self, block_and_kind: &[u8]) -> u32 {
        match self {
            Self::Crc32c => {
                // Masked, because data that holds its own CRC makes poor input to one.
                crc_fast::crc32_iscsi(block_and_kind).rotate_right(15).wrapping_add(0xA282_EAD8)
            }
            Self::XxHash32 => xxh32(block_and_kind, 0),
            Self::XxHash64 => xxh64(block_and_kind, 0) as u32,
            Self::XxHash3 => {
                let (kind, block) = block_and_kind.split_last().unwrap_or((&0, &[]));
                xxh3_64(block) as u32 ^ u32::from(*kind).wrapping_mul(0x6B90_83D9)
            }
        }
    }
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

/// Bytes from which [`length`] tells.
pub(super) const LENGTH_BYTES: usize = 10;

/// How long a compressed block was, which its first bytes tell. Takes those off that do not belong to the algorithm.
pub(super) fn length(stored: &mut &[u8], kind: u8) -> Result<usize, String> {
    let length = if kind == 1 { snap::raw::decompress_len(stored).ok() } else { take_length(stored) };
    let length = length.filter(|length| *length <= MAX_BLOCK);
    length.ok_or_else(|| "it does not tell its length, or is too large".into())
}

/// Undoes [`Compressor::compress`].
pub(super) fn decompress(stored: Vec<u8>, kind: u8) -> Result<Vec<u8>, String> {
    if kind == 0 {
        return Ok(stored);
    }
    let mut packed = stored.as_slice();
    // Looked at before memory is asked for.
    let length = length(&mut packed, kind)?;
    let block = match kind {
        1 => snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| error.to_string())?,
        // LZ4HC is read as LZ4 is.
        4 | 5 => lz4_flex::block::decompress(packed, length).map_err(|error| error.to_string())?,
        7 => zstd::bulk::decompress(packed, length).map_err(|error| error.to_string())?,
        other => return Err(format!("compression type {other} is not supported")),
    };
    if block.len() != length {
        return Err(format!("it has {} bytes and should have {length}", block.len()));
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_their_shortest_form_only() {
        for number in [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(take_varint(&mut bytes.as_slice()), Some(number));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_varint(&mut [0x80, 0x00].as_slice()), None);
        assert_eq!(take_varint(&mut [0xFF; 9].iter().copied().chain([2]).collect::<Vec<_>>().as_slice()), None);
    }
}
