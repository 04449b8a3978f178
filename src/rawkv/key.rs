//! Keys for people.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_br_would_read_it() {
        assert_eq!(escape(b"a\\\x00\xff"), r"a\\\x00\xff");
    }
}
