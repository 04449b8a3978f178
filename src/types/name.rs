use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// The most characters a name may have, as in MySQL.
const MAX_NAME: usize = 64;

/// The most characters a label may have, as in StarRocks.
const MAX_LABEL: usize = 128;

/// The longest name of a file or folder that disks and HDFS take, in bytes.
const MAX_COMPONENT: usize = 255;

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

    /// Refuses a name that, percent-encoded behind this prefix, is too long for the name of a folder.
    pub fn check_folder(&self, prefix: &str) -> Result<(), Invalid> {
        check_folder("name", self, prefix)
    }
}

/// What the name of a snapshot's folder has before the label.
pub const LABEL_PREFIX: &str = "__ss_";

/// The user's name of a snapshot: one to 128 letters, digits, `_` and `-`, which percent-encoded name a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Checks a text and takes it as a label.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        if !text.is_empty() && text.chars().count() <= MAX_LABEL && text.chars().all(allowed) {
            check_folder("label", &text, LABEL_PREFIX)?;
            return Ok(Self(text));
        }
        Err(Invalid(format!("label '{}' is not one to 128 letters, digits, '_' and '-'", excerpt(&text))))
    }
}

fn check_folder(what: &str, text: &str, prefix: &str) -> Result<(), Invalid> {
    // Each byte that is none of these becomes three.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let bytes: usize = text.bytes().map(|byte| if plain(byte) { 1 } else { 3 }).sum();
    let most = MAX_COMPONENT - prefix.len();
    if bytes <= most {
        return Ok(());
    }
    Err(Invalid(format!(
        "{what} '{}' is too long for the name of a folder in a repository: ASCII letters, digits, '_' and '-' count 1, each \
         other character 3 for every byte of its UTF-8, and {bytes} are more than {most}",
        excerpt(text)
    )))
}

/// The beginning of a text, for messages about texts of any length.
pub fn excerpt(text: &str) -> String {
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
        assert!(Label::new("x".repeat(128)).is_ok());
        // A folder's name on disk has 255 bytes at most.
        for (letter, fits) in [("é", 41), ("本", 27)] {
            assert!(Label::new(letter.repeat(fits)).is_ok());
            let refusal = Label::new(letter.repeat(fits + 1)).unwrap_err().to_string();
            assert!(refusal.contains("more than 250"), "{refusal}");
        }
        for bad in ["", "a/b", "a:b", "a b", &"x".repeat(129)] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
    }
}
