use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{BackendId, Invalid, RegionId};

/// A column family that can be backed up and restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnFamily {
    /// Where raw data is.
    #[default]
    Default,
    /// The other one.
    Write,
}

impl fmt::Display for ColumnFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Write => "write",
        })
    }
}

impl FromStr for ColumnFamily {
    type Err = Invalid;

    /// An empty name is the default family, as in TiKV.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "" | "default" => Ok(Self::Default),
            "write" => Ok(Self::Write),
            _ => Err(Invalid(format!("invalid cf name: {text}; take default or write"))),
        }
    }
}

/// The keys from `start` on and before `end`; empty means unbounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct KeyRange {
    #[serde(with = "serde_bytes")]
    start: Vec<u8>,
    #[serde(with = "serde_bytes")]
    end: Vec<u8>,
}

impl KeyRange {
    /// A range of at least one possible key.
    pub fn new(start: Vec<u8>, end: Vec<u8>) -> Result<Self, Invalid> {
        if end.is_empty() || start < end {
            return Ok(Self { start, end });
        }
        let message = "endKey must be greater than startKey: [BR:Backup:ErrBackupInvalidRange]backup range invalid";
        Err(Invalid(message.into()))
    }

    /// The first key, or empty.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key behind the range, or empty.
    pub fn end(&self) -> &[u8] {
        &self.end
    }

    /// Whether a key is inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && !self.ends_before(key)
    }

    /// Whether a key, and so all that follow it, are behind the end.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        !self.end.is_empty() && key >= self.end.as_slice()
    }

    /// Whether the other range is inside this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && other.end_order() <= self.end_order()
    }

    /// What both cover.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let start = self.start.clone().max(other.start.clone());
        let end = self.end_order().min(other.end_order()).1.to_vec();
        Self::new(start, end).ok()
    }

    /// What covers both, and what is between them.
    pub fn joined(&self, other: &Self) -> Self {
        let start = self.start.clone().min(other.start.clone());
        let end = self.end_order().max(other.end_order()).1.to_vec();
        Self { start, end }
    }

    /// The same keys in ranges that ascend and do not overlap.
    pub fn union(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Self> = Vec::new();
        for next in ranges {
            match merged.last_mut() {
                Some(last) if !last.ends_before(&next.start) => *last = last.joined(&next),
                _ => merged.push(next),
            }
        }
        merged
    }

    /// Orders ends as the unbounded one is behind all others.
    fn end_order(&self) -> (bool, &[u8]) {
        (self.end.is_empty(), &self.end)
    }
}

impl fmt::Display for KeyRange {
    /// As BR writes ranges: in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", hex::encode_upper(&self.start), hex::encode_upper(&self.end))
    }
}

/// A part of a column family, on one BE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its identity. The left part of a split region keeps it.
    pub id: RegionId,
    /// The family.
    pub cf: ColumnFamily,
    /// Its keys.
    pub range: KeyRange,
    /// TiKV's epoch: every change of the range adds one.
    pub version: u64,
    /// The BE that has its data, the only copy.
    pub owner: BackendId,
}

impl Region {
    /// The keys of a family divided among BEs, by their first byte.
    pub fn divide(owners: &[BackendId]) -> Result<Vec<(BackendId, KeyRange)>, Invalid> {
        let count = owners.len().min(256);
        let bound = |n: usize| if n == 0 || n == count { Vec::new() } else { vec![(256 * n / count) as u8] };
        let part = |(n, owner): (usize, &BackendId)| Ok((*owner, KeyRange::new(bound(n), bound(n + 1))?));
        owners.iter().take(count).enumerate().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> KeyRange {
        KeyRange::new(start.into(), end.into()).unwrap()
    }

    #[test]
    fn an_empty_bound_is_no_bound_and_the_end_is_outside() {
        assert!(range("a", "c").contains(b"a") && range("a", "c").contains(b"b\xff"));
        assert!(!range("a", "c").contains(b"c") && !range("a", "c").contains(b""));
        assert!(range("", "").contains(b"") && range("", "").contains(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
        assert!(range("", "").covers(&range("a", "")) && range("a", "c").covers(&range("a", "c")));
        assert!(!range("a", "c").covers(&range("a", "")) && !range("a", "c").covers(&range("", "b")));
        assert_eq!(range("a", "").intersection(&range("", "c")), Some(range("a", "c")));
        assert_eq!(range("a", "b").intersection(&range("b", "c")), None);
        for (start, end) in [("b", "a"), ("a", "a")] {
            assert_eq!(
                KeyRange::new(start.into(), end.into()).unwrap_err().0,
                "endKey must be greater than startKey: [BR:Backup:ErrBackupInvalidRange]backup range invalid"
            );
        }
    }
}
