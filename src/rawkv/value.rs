//! Values as TiKV stores them, by its API version.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How stored values are encoded. API V2, where keys are encoded as well, is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiVersion {
    /// A stored value is the user's.
    #[default]
    V1,
    /// The user's value, and the second it expires in, big-endian; 0 never comes.
    V1Ttl,
}

impl ApiVersion {
    /// The user's part of a stored value. None if that is too short to be one.
    pub fn user_value(self, stored: &[u8]) -> Option<&[u8]> {
        match self {
            Self::V1 => Some(stored),
            Self::V1Ttl => stored.split_last_chunk::<8>().map(|(value, _)| value),
        }
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
        assert_eq!(ApiVersion::V1Ttl.user_value(b"AA\0\0\0\0\x62\0\x7c\x2b"), Some(b"AA".as_slice()));
        assert_eq!(ApiVersion::V1Ttl.user_value(&[0; 8]), Some([].as_slice()));
        assert_eq!(ApiVersion::V1Ttl.user_value(&[0; 7]), None);
        assert_eq!(ApiVersion::V1.user_value(&[0; 7]), Some([0; 7].as_slice()));
    }

    #[test]
    fn a_name_is_read_in_any_case() {
        assert_eq!("v1ttl".parse::<ApiVersion>().unwrap(), ApiVersion::V1Ttl);
        assert!(matches!("V2".parse::<ApiVersion>(), Err(Error::Unsupported(_))));
        assert!(matches!("V9".parse::<ApiVersion>(), Err(Error::Analysis(_))));
    }
}
