//! Keys as users write them.

use std::str::FromStr;

use crate::error::{Error, Result};

/// How a user writes a key: BR's `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyFormat {
    /// Two hex digits a byte.
    #[default]
    Hex,
    /// The bytes of the text.
    Raw,
    /// Text with `\n`, `\x41`, `\101` and the like.
    Escaped,
}

impl KeyFormat {
    /// The bytes that a text stands for, by BR's rules and with BR's errors.
    pub fn decode(self, text: &str) -> Result<Vec<u8>> {
        match self {
            Self::Raw => Ok(text.as_bytes().to_vec()),
            Self::Hex => decode_hex(text).map_err(Error::Analysis),
            Self::Escaped => unescape(text.as_bytes()).map_err(Error::Analysis),
        }
    }
}

impl FromStr for KeyFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "hex" => Ok(Self::Hex),
            "raw" => Ok(Self::Raw),
            "escaped" => Ok(Self::Escaped),
            _ => Err(Error::Analysis("unknown format: [BR:Common:ErrInvalidArgument]invalid argument".into())),
        }
    }
}

fn decode_hex(text: &str) -> Result<Vec<u8>, String> {
    // A wrong character counts before an odd length, as in Go.
    if let Some(wrong) = text.bytes().find(|byte| !byte.is_ascii_hexdigit()) {
        let printable = matches!(wrong, b' '..=b'~' | 0xA1..=0xAC | 0xAE..);
        let shown = if printable { format!(" '{}'", char::from(wrong)) } else { String::new() };
        return Err(format!("encoding/hex: invalid byte: U+{wrong:04X}{shown}"));
    }
    hex::decode(text).map_err(|_| "encoding/hex: odd length hex string".into())
}

/// Follows BR where it takes odd texts, too: the same flags must name the same keys. So a group of digits that ends
/// early swallows the rest of its length (`\x4g1` is `\x04` and `1`), and `\x` without a digit is a backslash.
fn unescape(mut text: &[u8]) -> Result<Vec<u8>, String> {
    let mut key = Vec::with_capacity(text.len());
    while let Some(byte) = text.split_off_first() {
        if *byte != b'\\' {
            key.push(*byte);
            continue;
        }
        let letter = *text.first().ok_or("EOF")?;
        if let Some(byte) = short_escape(letter) {
            take(&mut text, 1);
            key.push(byte);
        } else if letter == b'x' {
            take(&mut text, 1);
            key.push(scan_number(take(&mut text, 2), 16).unwrap_or(b'\\'));
        } else {
            key.push(scan_number(take(&mut text, 3), 8)?);
        }
    }
    Ok(key)
}

/// The next bytes, fewer at the end.
fn take<'a>(text: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = text.split_at(length.min(text.len()));
    *text = rest;
    taken
}

fn short_escape(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 0x0B,
        b'f' => 0x0C,
        b'r' => b'\r',
        b'\\' | b'\'' | b'"' => letter,
        _ => return None,
    })
}

/// A byte as Go's `Sscanf` reads it: blanks, digits, and anything behind them.
fn scan_number(group: &[u8], radix: u32) -> Result<u8, String> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | 0x0B | 0x0C);
    let mut rest = group;
    while rest.first().is_some_and(blank) {
        rest = &rest[1..];
    }
    match rest.first() {
        None => return Err("unexpected EOF".into()),
        Some(b'\n') => return Err("unexpected newline".into()),
        Some(_) => {}
    }
    let digits: String = rest.iter().map(|byte| char::from(*byte)).take_while(|digit| digit.is_digit(radix)).collect();
    if digits.is_empty() {
        return Err("expected integer".into());
    }
    u8::from_str_radix(&digits, radix).map_err(|_| format!("unsigned integer overflow on token {digits}"))
}

/// A key for people: printable ASCII as it is, all else as `\xHH`. [`KeyFormat::Escaped`] reads it back.
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

    fn message(error: Error) -> String {
        match error {
            Error::Analysis(message) => message,
            other => panic!("{other}"),
        }
    }

    fn decode(format: KeyFormat, text: &str) -> Result<Vec<u8>, String> {
        format.decode(text).map_err(message)
    }

    #[test]
    fn hex_is_as_strict_as_in_go() {
        let hex = |text| decode(KeyFormat::Hex, text);
        assert_eq!(hex("3130303030303030").unwrap(), b"10000000");
        assert_eq!(hex("fFaB").unwrap(), [0xFF, 0xAB]);
        assert_eq!(hex("").unwrap(), b"");
        assert_eq!(hex("313").unwrap_err(), "encoding/hex: odd length hex string");
        assert_eq!(hex("3z").unwrap_err(), "encoding/hex: invalid byte: U+007A 'z'");
        assert_eq!(hex("0x31").unwrap_err(), "encoding/hex: invalid byte: U+0078 'x'");
        assert_eq!(hex("z").unwrap_err(), "encoding/hex: invalid byte: U+007A 'z'");
        assert_eq!(hex(" 31").unwrap_err(), "encoding/hex: invalid byte: U+0020 ' '");
        assert_eq!(hex("é1").unwrap_err(), "encoding/hex: invalid byte: U+00C3 'Ã'");
    }

    #[test]
    fn raw_is_the_text_and_other_formats_are_refused() {
        assert_eq!(decode(KeyFormat::Raw, "a\\x41é").unwrap(), "a\\x41é".as_bytes());
        let refused = message("HEX".parse::<KeyFormat>().unwrap_err());
        assert_eq!(refused, "unknown format: [BR:Common:ErrInvalidArgument]invalid argument");
    }

    /// Measured with Go on BR's rules.
    #[test]
    fn escaped_is_read_as_br_reads_it() {
        let vectors: &[(&str, &[u8])] = &[
            (r#"\a\b\f\n\r\t\v\\\'\""#, &[7, 8, 0xC, 0xA, 0xD, 9, 0xB, 0x5C, 0x27, 0x22]),
            (r"\x41", b"\x41"),
            (r"\x4", b"\x04"),
            (r"\x4g1", b"\x041"),
            (r"\xzz1", b"\\1"),
            (r"\x", b"\\"),
            (r"\x 4z", b"\x04z"),
            (r"\x+4z", b"\\z"),
            (r"\x-1z", b"\\z"),
            (r"\x0xz", b"\x00z"),
            (r"\1", b"\x01"),
            (r"\12", b"\x0a"),
            (r"\123", b"\x53"),
            (r"\1234", b"\x534"),
            (r"\18z", b"\x01"),
            (r"\189", b"\x01"),
            (r"\0", b"\x00"),
            (r"\000", b"\x00"),
            (r"\377", b"\xff"),
            (r"\ 12", b"\x0a"),
            ("é", b"\xc3\xa9"),
            ("", b""),
        ];
        for (text, bytes) in vectors {
            assert_eq!(decode(KeyFormat::Escaped, text).as_deref(), Ok(*bytes), "{text}");
        }
        for (text, error) in [
            ("a\\", "EOF"),
            (r"\400", "unsigned integer overflow on token 400"),
            (r"\777", "unsigned integer overflow on token 777"),
            (r"\8", "expected integer"),
            (r"\q", "expected integer"),
            (r"\e", "expected integer"),
            (r"\u0041", "expected integer"),
            ("\\\n12", "unexpected newline"),
        ] {
            assert_eq!(decode(KeyFormat::Escaped, text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn what_is_escaped_is_read_back() {
        let key: Vec<u8> = (0..=255).chain(*b"4x\\").collect();
        assert_eq!(decode(KeyFormat::Escaped, &escape(&key)).unwrap(), key);
        assert_eq!(escape(b"a\\\x00\xff"), r"a\\\x00\xff");
    }
}
