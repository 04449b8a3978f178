//! The checksum that BR takes of a set of entries, whatever the order and the files they come in.

use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Serialize};

/// Counts and CRC-64 of user keys and user values: without TiKV's prefix, expiry and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checksum {
    /// The CRC-64/XZ of key and value of each entry, all by exclusive or. Regular keys and values, such as numbers in
    /// a row, may well come to 0.
    pub crc64xor: u64,
    /// Entries.
    pub total_kvs: u64,
    /// Bytes of keys and values.
    pub total_bytes: u64,
}

impl Checksum {
    /// Counts one entry.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        let mut digest = Digest::new(CrcAlgorithm::Crc64Xz);
        digest.update(key);
        digest.update(value);
        self.crc64xor ^= digest.finalize();
        self.total_kvs += 1;
        self.total_bytes += (key.len() + value.len()) as u64;
    }

    /// Counts the entries of another set. An entry that both hold would cancel itself out of the CRC, so the sets must
    /// be apart.
    pub fn merge(&mut self, other: Self) {
        self.crc64xor ^= other.crc64xor;
        self.total_kvs += other.total_kvs;
        self.total_bytes += other.total_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_with_crc_64_xz_of_key_and_value() {
        let mut whole = Checksum::default();
        whole.add(b"1234", b"56789");
        assert_eq!(whole, Checksum { crc64xor: 0x995D_C9BB_DF19_39FA, total_kvs: 1, total_bytes: 9 });
    }

    #[test]
    fn ranges_add_up_in_any_order() {
        let entries = [("a", "1"), ("b", ""), ("c", "333"), ("", "")];
        let sum = |entries: &[(&str, &str)]| {
            let mut sum = Checksum::default();
            entries.iter().for_each(|(key, value)| sum.add(key.as_bytes(), value.as_bytes()));
            sum
        };
        let (mut left, right) = (sum(&entries[2..]), sum(&entries[..2]));
        left.merge(right);
        assert_eq!(left, sum(&entries));
    }
}
