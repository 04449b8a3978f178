//! Values as TiKV stores them, by its API version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How stored values are encoded. API V2, where keys are encoded as well, is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiVersion {
    /// A stored value is the user's.
    #[default]
    V1,
    /// The user's value, and the second it expires in, big-endian; 0 never comes.
    V1Ttl,
}

/// A stored value in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// What the user stored.
    pub bytes: &'a [u8],
    /// The Unix second from which on it is gone.
    pub expires: Option<u64>,
}

impl ApiVersion {
    /// Takes a stored value apart. None if it is too short to be one.
    pub fn decode(self, stored: &[u8]) -> Option<Value<'_>> {
        match self {
            Self::V1 => Some(Value { bytes: stored, expires: None }),
            Self::V1Ttl => {
                let (bytes, seconds) = stored.split_last_chunk()?;
                let seconds = u64::from_be_bytes(*seconds);
                Some(Value { bytes, expires: (seconds != 0).then_some(seconds) })
            }
        }
    }
}

impl Value<'_> {
    /// Whether the value is gone at a Unix second.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "V1",
            Self::V1Ttl => "V1TTL",
        })
    }
}

impl FromStr for ApiVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_uppercase().as_str() {
            "V1" => Ok(Self::V1),
            "V1TTL" => Ok(Self::V1Ttl),
            "V2" => Err(Error::Unsupported("backups of API V2 are not read".into())),
            _ => Err(Error::Analysis(format!("'{text}' is no API version; take V1 or V1TTL"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v1ttl_value_ends_with_its_last_second() {
        let value = |seconds: u64| [b"AA".as_slice(), &seconds.to_be_bytes()].concat();
        // The tail of the values in a backup that TiKV made.
        let stored = value(0x6200_7C2B);
        let decoded = ApiVersion::V1Ttl.decode(&stored).unwrap();
        assert_eq!(decoded, Value { bytes: b"AA", expires: Some(1_644_198_955) });
        assert!(!decoded.is_expired(1_644_198_954) && decoded.is_expired(1_644_198_955));

        assert!(!ApiVersion::V1Ttl.decode(&value(0)).unwrap().is_expired(u64::MAX));
        assert_eq!(ApiVersion::V1Ttl.decode(&[0; 8]).unwrap(), Value { bytes: b"", expires: None });
        assert_eq!(ApiVersion::V1Ttl.decode(&[0; 7]), None);
        assert_eq!(ApiVersion::V1.decode(&[0; 7]).unwrap(), Value { bytes: &[0; 7], expires: None });
    }

    #[test]
    fn a_name_is_read_in_any_case() {
        assert_eq!("v1ttl".parse::<ApiVersion>().unwrap(), ApiVersion::V1Ttl);
        assert!(matches!("V2".parse::<ApiVersion>(), Err(Error::Unsupported(_))));
        assert!(matches!("V9".parse::<ApiVersion>(), Err(Error::Analysis(_))));
    }
}
