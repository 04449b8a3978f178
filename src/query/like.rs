//! Patterns of LIKE over bytes, of which `_` is any one, as in MySQL.

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    /// This byte.
    Byte(u8),
    /// `_`: any one byte.
    One,
    /// `%`: any number of bytes.
    Any,
}

/// Takes the first part off a pattern. A backslash makes what follows mean itself, if anything does.
pub(super) fn next(pattern: &[u8]) -> Option<(Part, &[u8])> {
    Some(match pattern {
        [] => return None,
        [b'%', rest @ ..] => (Part::Any, rest),
        [b'_', rest @ ..] => (Part::One, rest),
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (Part::Byte(*byte), rest),
    })
}

/// Whether bytes match a pattern.
pub(super) fn matches(mut bytes: &[u8], mut pattern: &[u8]) -> bool {
    // What `%` was tried with last, and what follows it in the pattern.
    let mut again = None;
    loop {
        let left = match next(pattern) {
            Some((Part::Any, rest)) => {
                again = Some((bytes, rest));
                pattern = rest;
                continue;
            }
            Some((Part::One, rest)) if !bytes.is_empty() => Some(rest),
            Some((Part::Byte(byte), rest)) if bytes.first() == Some(&byte) => Some(rest),
            None if bytes.is_empty() => return true,
            _ => None,
        };
        (bytes, pattern) = match (left, again) {
            (Some(rest), _) => (&bytes[1..], rest),
            (None, Some(([_, longer @ ..], rest))) => {
                again = Some((longer, rest));
                (longer, rest)
            }
            (None, _) => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_match_patterns() {
        for (bytes, pattern, expected) in [
            ("", "", true),
            ("", "%", true),
            ("", "_", false),
            ("a", "", false),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "%b%", true),
            ("abc", "a_c", true),
            ("abc", "a_", false),
            ("abc", "___", true),
            ("abab", "%ab", true),
            ("aab", "%a_", true),
            ("aaab", "a%ab%", true),
            ("aaac", "a%ab%", false),
            ("mississippi", "m%iss%ip%i", true),
            ("mississippi", "m%iss%iss%iss%", false),
            ("test_1", r"test\_%", true),
            ("testa1", r"test\_%", false),
            ("%", r"\%", true),
            ("x", r"\%", false),
            (r"\%", r"\%", false),
            (r"\", r"\\", true),
            (r"\", r"\", true),
            ("a", r"\a", true),
        ] {
            assert_eq!(matches(bytes.as_bytes(), pattern.as_bytes()), expected, "{bytes} LIKE {pattern}");
        }
        // Of two bytes that are one letter, `_` is one.
        assert!(!matches("é".as_bytes(), b"_") && matches("é".as_bytes(), b"__") && matches(b"\xff\0", b"\xff_"));
    }
}
