//! Long lists of rows in `INSERT … VALUES`.
//!
//! A tree takes some hundred times the memory of its text. So only the first rows of a long list are parsed with their
//! statement; the others stay text, and are parsed part by part when their turn comes.

use std::ops::Range;

use sqlparser::ast::Query;
use sqlparser::tokenizer::Location;

use super::{Statement, lex, parser};
use crate::error::{Error, Result};

/// A statement as long as that is looked at here.
const LONG: usize = 256 << 10;

/// How much text is parsed at a time, at least, but for the last.
const PART: usize = 64 << 10;

/// The words that a row of literals may have.
const WORDS: [&str; 6] = ["NULL", "TRUE", "FALSE", "DEFAULT", "X", "_BINARY"];

/// A text that is one `INSERT … VALUES` of nothing but literals, in parts.
pub(super) struct LongInsert {
    /// From the statement's first word to behind some of its rows: a statement as well.
    pub first: Range<usize>,
    /// The other rows, without the commas between these parts.
    pub more: Vec<Range<usize>>,
}

impl LongInsert {
    /// `None` if the text is short or anything else. What it finds may still have faults, in each of its parts.
    pub fn find(text: &str) -> Option<Self> {
        if text.len() < LONG {
            return None;
        }
        let mut scan = Scan { text: text.as_bytes(), at: 0 };
        scan.space();
        let begin = scan.at;
        if !scan.word().eq_ignore_ascii_case(b"INSERT") {
            return None;
        }
        scan.head()?;
        let mut parts = Vec::new();
        let mut from = begin;
        loop {
            scan.row()?;
            let end = scan.at;
            scan.space();
            let goes_on = scan.byte(b',');
            if !goes_on || end - from >= PART {
                parts.push(from..end);
                from = scan.at;
            }
            if !goes_on {
                break;
            }
        }
        while scan.byte(b';') {
            scan.space();
        }
        if scan.at < text.len() || parts.len() < 2 {
            return None;
        }
        Some(Self { first: parts.remove(0), more: parts })
    }
}

/// The rows of [`Insert::more`](super::Insert::more)'s part of a statement's text, as a query of their own.
///
/// Places in errors count from the beginning of that text.
pub fn rows(text: &str, part: Range<usize>) -> Result<Box<Query>> {
    let line = |text: &str| Location::new(1 + text.matches('\n').count() as u64, 1);
    let mut parsed = parser::parse(&format!("VALUES\n{}", &text[part.clone()])).map_err(|err| match err {
        Error::Syntax { line: at, column, message } if at > 1 => {
            let before = &text[..part.start];
            let mut base = line(before);
            base.column += before.chars().rev().take_while(|c| *c != '\n').count() as u64;
            let Location { line, column } = lex::absolute(Location::new(at - 1, column), base);
            Error::Syntax { line, column, message }
        }
        other => other,
    })?;
    match parsed.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(Error::internal("VALUES is no query")),
    }
}

/// Goes through a text whose tokens nobody needs.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn next(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.next().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn byte(&mut self, wanted: u8) -> bool {
        let found = self.next() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Moves behind a word or number, which may be empty.
    fn word(&mut self) -> &'a [u8] {
        let from = self.at;
        while self.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')) {
            self.at += 1;
        }
        &self.text[from..self.at]
    }

    /// Moves behind what the quote that is next begins. `None` if it does not end.
    fn quoted(&mut self) -> Option<()> {
        self.at += lex::quoted_len(&self.text[self.at..])?;
        Some(())
    }

    /// Moves behind the word VALUES. `None` if it is not soon there, or there is a comment.
    fn head(&mut self) -> Option<()> {
        while self.at < PART {
            match self.next()? {
                b'`' | b'\'' | b'"' => self.quoted()?,
                b'/' | b'#' | b'-' | b';' => return None,
                byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
                    if self.word().eq_ignore_ascii_case(b"VALUES") {
                        return Some(());
                    }
                }
                _ => self.at += 1,
            }
        }
        None
    }

    /// Moves behind a row. `None` if it has more than literals.
    fn row(&mut self) -> Option<()> {
        self.space();
        if !self.byte(b'(') {
            return None;
        }
        loop {
            match self.next()? {
                b'\'' | b'"' => self.quoted()?,
                b')' => {
                    self.at += 1;
                    return Some(());
                }
                // A comment.
                b'-' if self.text.get(self.at + 1) == Some(&b'-') => return None,
                b',' | b'+' | b'-' => self.at += 1,
                byte if byte.is_ascii_whitespace() => self.at += 1,
                byte if byte.is_ascii_digit() || byte == b'.' => drop(self.word()),
                byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                    let word = self.word();
                    if !WORDS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word)) {
                        return None;
                    }
                }
                _ => return None,
            }
        }
    }
}
