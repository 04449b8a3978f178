//! What all blocks have in common: numbers, checksums, compression.

use xxhash_rust::{xxh3::xxh3_64, xxh32::xxh32, xxh64::xxh64};

use super::MAX_BLOCK;

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

/// A block as it was before it was compressed, by the byte behind it.
pub(super) fn decompress(stored: Vec<u8>, kind: u8) -> Result<Vec<u8>, String> {
    let mut packed = stored.as_slice();
    let length = match kind {
        0 => return Ok(stored),
        1 => snap::raw::decompress_len(packed).ok(),
        _ => take_length(&mut packed),
    };
    // Looked at before memory is asked for.
    let Some(length) = length.filter(|length| *length <= MAX_BLOCK) else {
        return Err("it does not tell its length, or is too large".into());
    };
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
    use crate::rawkv::sst::writer::put_varint;

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
