use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// The most characters a name may have, as in MySQL.
const MAX_NAME: usize = 64;

/// The most characters a label may have, as in StarRocks.
const MAX_LABEL: usize = 128;

/// The name of a database, table, partition, column, repository or user.
///
/// One to 64 characters of any script. Control characters, `/`, `\`, `.` and spaces at an end are refused, because
/// they make paths and messages ambiguous. Two names are the same if their characters are; letter case counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks a text and takes it as a name.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let problem = if text.is_empty() {
            "is empty"
        } else if text.chars().count() > MAX_NAME {
            "is longer than 64 characters"
        } else if text.trim() != text {
            "begins or ends with a space"
        } else if text.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | '.')) {
            "has a control character, '/', '\\' or '.' in it"
        } else {
            return Ok(Self(text));
        };
        Err(Invalid(format!("name '{}' {problem}", excerpt(&text))))
    }
}

/// The user's name of a snapshot: one to 128 letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Checks a text and takes it as a label.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        if !text.is_empty() && text.chars().count() <= MAX_LABEL && text.chars().all(allowed) {
            return Ok(Self(text));
        }
        Err(Invalid(format!("label '{}' is not one to 128 letters, digits, '_' and '-'", excerpt(&text))))
    }
}

/// The beginning of a text, for messages about texts of any length.
fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_LABEL).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

macro_rules! text_type {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text_type! { Name Label }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_valid_by_construction() {
        assert!(Name::new("x".repeat(64)).is_ok());
        assert!(Name::new("🦀".repeat(64)).is_ok());
        for bad in ["", "a/b", "a.b", " a", "a\n", &"x".repeat(65)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!(Label::new("snap-2026_11").is_ok());
        for bad in ["", "a/b", "a:b", "a b", &"x".repeat(129)] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
    }
}
