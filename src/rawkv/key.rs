//! Keys for people, and ranges of them.

use std::fmt;

use crate::error::{Error, Result};

/// A key for people: printable ASCII as it is, all else as `\xHH`. BR's `--format escaped` reads it back.
pub fn escape(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// The keys from `start` on and before `end`; empty means unbounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    start: Vec<u8>,
    end: Vec<u8>,
}

impl KeyRange {
    /// A range of at least one possible key.
    pub fn new(start: Vec<u8>, end: Vec<u8>) -> Result<Self> {
        if end.is_empty() || start < end {
            return Ok(Self { start, end });
        }
        let message = "endKey must be greater than startKey: [BR:Backup:ErrBackupInvalidRange]backup range invalid";
        Err(Error::Analysis(message.into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(error: Error) -> String {
        match error {
            Error::Analysis(message) => message,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_key_is_shown_as_br_would_read_it() {
        assert_eq!(escape(b"a\\\x00\xff"), r"a\\\x00\xff");
    }

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
                message(KeyRange::new(start.into(), end.into()).unwrap_err()),
                "endKey must be greater than startKey: [BR:Backup:ErrBackupInvalidRange]backup range invalid"
            );
        }
    }
}
