use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError, Whitespace, Word};

use super::dialect::StarRocksDialect;
use crate::error::{Error, Result};

/// How deep a tree operators without parentheses may build, as in `a OR b OR c`. Trees are copied and dropped
/// recursively, so without a limit a long statement would overflow the stack.
const MAX_CHAIN: usize = 500;

/// How many tokens a text may have. With its tree each takes some hundred bytes.
const MAX_TOKENS: usize = 1_000_000;

/// The stack, in bytes, that a thread which handles statements must have: twice what copying the deepest tree that
/// [`parse`](super::parse) returns takes in a debug build.
pub const STACK_SIZE: usize = 8 << 20;

/// One statement of a text: its tokens, with positions from its own beginning, and where that is.
pub(super) struct Piece {
    /// Without white space and comments; the last is EOF, at the place where the text ends.
    pub tokens: Vec<TokenWithSpan>,
    /// Its source, from its first token to its last.
    pub text: String,
    /// Where it begins in the whole text.
    pub base: Location,
    /// What stands in its `/*+ … */`.
    pub hints: Vec<String>,
}

/// Cuts a text at its `;`. Empty statements are left out. The first fault is the last item.
pub(super) fn pieces(text: &str) -> Vec<Result<Piece>> {
    let mut all = Vec::new();
    let fault = tokens(text, &mut all).err();
    let hint = |token: &TokenWithSpan| match &token.token {
        Token::Whitespace(Whitespace::MultiLineComment(comment)) => {
            Some((token.span.start, comment.strip_prefix('+')?.to_owned()))
        }
        _ => None,
    };
    let hints: Vec<(Location, String)> = all.iter().filter_map(hint).collect();
    all.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let all = joined(all);
    let mut offsets = Offsets::new(text);
    let mut pieces = Vec::new();
    let mut statements: Vec<_> = all.split(|token| token.token == Token::SemiColon).collect();
    if fault.is_some() {
        // The fault is in this one.
        statements.pop();
    }
    for tokens in statements {
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
            continue;
        };
        if let Err(error) = check_chain(tokens) {
            pieces.push(Err(error));
            return pieces;
        }
        let base = first.span.start;
        let from = offsets.seek(base);
        let to = offsets.seek(last.span.end);
        let end = relative(last.span.end, base);
        let inside = |(place, _): &&(Location, String)| (base..last.span.end).contains(place);
        let hints = hints.iter().filter(inside).map(|(_, hint)| hint.clone()).collect();
        let mut tokens: Vec<_> = tokens
            .iter()
            .map(|token| {
                let span = Span::new(relative(token.span.start, base), relative(token.span.end, base));
                TokenWithSpan::new(token.token.clone(), span)
            })
            .collect();
        tokens.push(TokenWithSpan::new(Token::EOF, Span::new(end, end)));
        pieces.push(Ok(Piece { tokens, text: text[from..to].to_owned(), base, hints }));
    }
    pieces.extend(fault.map(|error| {
        let Location { line, column } = error.location;
        Err(Error::Syntax { line, column, message: error.message })
    }));
    pieces
}

/// The same tokens, but `@` and the quoted name behind it as one word, and without the `_binary` or `_utf8mb4` before a
/// literal: texts and bytes are what they are.
fn joined(all: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    const INTRODUCERS: [&str; 4] = ["_binary", "_utf8mb4", "_utf8mb3", "_utf8"];
    let introduces = |token: &Token| match token {
        Token::Word(word) => word.quote_style.is_none() && is_one_of(&word.value, &INTRODUCERS),
        _ => false,
    };
    let mut joined: Vec<TokenWithSpan> = Vec::with_capacity(all.len());
    for mut token in all {
        if let Some(last) = joined.last() {
            if last.token == Token::AtSign
                && last.span.end == token.span.start
                && let Some(name) = quoted(&token.token)
            {
                let word = Word { value: format!("@{name}"), quote_style: None, keyword: Keyword::NoKeyword };
                token = TokenWithSpan::new(Token::Word(word), Span::new(last.span.start, token.span.end));
                joined.pop();
            } else if is_literal(&token.token) && introduces(&last.token) {
                joined.pop();
            }
        }
        joined.push(token);
    }
    joined
}

fn quoted(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) if word.quote_style.is_some() => Some(&word.value),
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => Some(text),
        _ => None,
    }
}

fn is_literal(token: &Token) -> bool {
    matches!(token, Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::HexStringLiteral(_))
}

/// The text of statements that is not all UTF-8, because drivers write bytes between quotes as they are: each such
/// literal becomes `x'…'`. `None` if anything else is not UTF-8.
pub fn text_with_bytes(bytes: &[u8]) -> Option<String> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let len = match first {
            b'\'' | b'"' => {
                let (content, len) = literal_at(rest)?;
                if std::str::from_utf8(&rest[..len]).is_err() {
                    text.extend_from_slice(format!(" x'{}'", hex::encode(content)).as_bytes());
                    rest = &rest[len..];
                    continue;
                }
                len
            }
            b'`' => quoted_len(rest).unwrap_or(rest.len()),
            _ => comment_len(rest).unwrap_or(1),
        };
        text.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
    }
    String::from_utf8(text).ok()
}

/// How long what begins a text is, which is a quote, up to the next; `None` if there is none. Two quotes that stand for one
/// end it, and begin another.
pub(super) fn quoted_len(text: &[u8]) -> Option<usize> {
    let quote = *text.first()?;
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\\' if quote != b'`' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// How long the comment is that begins a text; `None` if none does. What `/*!` begins is none.
fn comment_len(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"#") || text.starts_with(b"--") {
        return Some(until(text, b"\n"));
    }
    let is_comment = text.starts_with(b"/*") && !text.starts_with(b"/*!");
    is_comment.then(|| 2 + until(&text[2..], b"*/"))
}

/// How long a text is up to an end, which is counted; all of it if there is none.
fn until(text: &[u8], end: &[u8]) -> usize {
    text.windows(end.len()).position(|part| part == end).map_or(text.len(), |at| at + end.len())
}

/// What the literal at the beginning of a text means, and how long it is; `None` if it does not end.
fn literal_at(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut content = Vec::new();
    let mut at = 1;
    loop {
        let (byte, next) = (*text.get(at)?, text.get(at + 1).copied());
        at += 2;
        match (byte, next) {
            (b'\\', next) => match next? {
                b'0' => content.push(0),
                b'b' => content.push(8),
                b'n' => content.push(b'\n'),
                b'r' => content.push(b'\r'),
                b't' => content.push(b'\t'),
                b'Z' => content.push(0x1a),
                // Only LIKE knows these.
                wildcard @ (b'%' | b'_') => content.extend_from_slice(&[b'\\', wildcard]),
                other => content.push(other),
            },
            (quote, Some(next)) if quote == text[0] && next == quote => content.push(quote),
            (quote, _) if quote == text[0] => return Some((content, at - 1)),
            (other, _) => {
                content.push(other);
                at -= 1;
            }
        }
    }
}

/// All tokens with their places in the text; those before the fault, if there is one.
pub(super) fn tokens(text: &str, all: &mut Vec<TokenWithSpan>) -> Result<(), TokenizerError> {
    check_tokens(text)?;
    let dialect = StarRocksDialect::new(0);
    let read = Tokenizer::new(&dialect, text).tokenize_with_location_into_buf(all);
    let opened = open_versioned(text, all);
    if opened == text {
        return read;
    }
    all.clear();
    Tokenizer::new(&dialect, &opened).tokenize_with_location_into_buf(all)
}

/// Refuses a text that would take too much memory. Spaces are tokens as well.
fn check_tokens(text: &str) -> Result<(), TokenizerError> {
    if text.len() <= MAX_TOKENS {
        return Ok(());
    }
    let (mut rest, mut tokens, mut in_word) = (text.as_bytes(), 0, false);
    while let Some(first) = rest.first() {
        let is_word = first.is_ascii_alphanumeric() || *first == b'_' || !first.is_ascii();
        tokens += usize::from(!(is_word && in_word));
        in_word = is_word;
        let len = match first {
            b'\'' | b'"' | b'`' => quoted_len(rest).unwrap_or(rest.len()),
            _ => comment_len(rest).unwrap_or(1),
        };
        rest = &rest[len..];
    }
    if tokens <= MAX_TOKENS {
        return Ok(());
    }
    let message = format!("the text has more than {MAX_TOKENS} words, numbers and signs; divide it, or use FILES()");
    Err(TokenizerError { message, location: Location::new(1, 1) })
}

/// As `/*!80033 … */` has it: the version that clients are told.
const MYSQL_VERSION: u64 = 80_033;

/// The text with the marks of `/*!40101 … */` blanked, so that what stands between them is executed, as in MySQL.
fn open_versioned(text: &str, all: &[TokenWithSpan]) -> String {
    let mut opened = String::with_capacity(text.len());
    let mut offsets = Offsets::new(text);
    let mut done = 0;
    for token in all {
        let Token::Whitespace(Whitespace::MultiLineComment(comment)) = &token.token else {
            continue;
        };
        let Some(inner) = comment.strip_prefix('!') else {
            continue;
        };
        let digits = inner.bytes().take_while(u8::is_ascii_digit).count();
        // What needs a later MySQL than this server says it is, or a MariaDB, stays a comment.
        if inner[..digits].parse().is_ok_and(|version: u64| version > MYSQL_VERSION) {
            continue;
        }
        let inner = &inner[digits..];
        let from = offsets.seek(token.span.start);
        let to = offsets.seek(token.span.end);
        opened.push_str(&text[done..from]);
        opened.extend(std::iter::repeat_n(' ', 2 + comment.len() - inner.len()));
        opened.push_str(inner);
        opened.push_str("  ");
        done = to;
    }
    opened.push_str(&text[done..]);
    opened
}

/// How many levels a part of a statement can add to its tree, at most.
#[derive(Default)]
struct Chain {
    /// AND, OR, UNION and the like: each is above all that stands before it.
    connectors: usize,
    /// Other operators since the last connector.
    others: usize,
    /// The most of these between two connectors.
    most_others: usize,
    /// The deepest parentheses in it.
    inner: usize,
    /// The deepest of the parts before the last comma.
    before: usize,
}

impl Chain {
    fn connect(&mut self) {
        self.connectors += 1;
        self.others = 0;
    }

    fn operate(&mut self) {
        self.others += 1;
        self.most_others = self.most_others.max(self.others);
    }

    fn depth(&self) -> usize {
        self.before.max(self.connectors + self.most_others + self.inner)
    }
}

fn check_chain(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut outer = Vec::new();
    let mut chain = Chain::default();
    for token in tokens {
        match &token.token {
            Token::Comma => chain = Chain { before: chain.depth(), ..Chain::default() },
            Token::LParen => outer.push(std::mem::take(&mut chain)),
            Token::RParen => {
                let inner = chain.depth();
                chain = outer.pop().unwrap_or_default();
                chain.inner = chain.inner.max(inner);
            }
            Token::Period | Token::Number(..) | Token::Placeholder(_) => {}
            literal if is_literal(literal) => {}
            Token::Word(word) if is_one_of(&word.value, &CONNECTORS) => chain.connect(),
            Token::Word(word) if !is_one_of(&word.value, &OPERATORS) => {}
            _ => chain.operate(),
        }
        if chain.depth() > MAX_CHAIN {
            let Location { line, column } = token.span.start;
            let message =
                format!("more than {MAX_CHAIN} operators in one expression; IN (…) takes any number of values");
            return Err(Error::Syntax { line, column, message });
        }
    }
    Ok(())
}

const CONNECTORS: [&str; 6] = ["AND", "OR", "XOR", "UNION", "EXCEPT", "INTERSECT"];

const OPERATORS: [&str; 10] = ["NOT", "IS", "IN", "BETWEEN", "LIKE", "RLIKE", "REGEXP", "DIV", "MOD", "COLLATE"];

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn relative(place: Location, base: Location) -> Location {
    if place.line == base.line {
        Location::new(1, place.column - base.column + 1)
    } else {
        Location::new(place.line - base.line + 1, place.column)
    }
}

/// The place in the whole text of a place in a piece of it.
pub(super) fn absolute(place: Location, base: Location) -> Location {
    if place.line == 1 {
        Location::new(base.line, base.column + place.column - 1)
    } else {
        Location::new(base.line + place.line - 1, place.column)
    }
}

/// Turns the tokenizer's places into byte offsets, walking forward only.
pub(super) struct Offsets<'a> {
    text: &'a str,
    at: usize,
    place: Location,
}

impl<'a> Offsets<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, place: Location::new(1, 1) }
    }

    /// The offset of a place that is not before the last one asked for; the text's end if it is past that.
    pub fn seek(&mut self, place: Location) -> usize {
        for c in self.text[self.at..].chars() {
            if self.place >= place {
                break;
            }
            self.at += c.len_utf8();
            if c == '\n' {
                self.place = Location::new(self.place.line + 1, 1);
            } else {
                self.place.column += 1;
            }
        }
        self.at
    }
}
