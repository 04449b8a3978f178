//! From a text to statements: the cursor that all readers of statements share, with the small things that many of them
//! read, and the statements that are refused by name.
//!
//! A long text takes a while: it is parsed, and dropped, through [`aside`], which does not hold up other clients.

use std::collections::HashSet;
use std::hash::Hash;

use sqlparser::ast::{Expr, Query, SetExpr};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::dialect::StarRocksDialect;
use super::lex::Piece;
use super::rows::LongInsert;
use super::{Parsed, Properties, SetValue, Statement, TableName, lex, mask_uri, query};
use crate::error::{Error, Result};
use crate::types::{Entity, Invalid, Kind, Name, excerpt};

/// How deep parentheses and subqueries may nest.
const MAX_DEPTH: usize = 50;

/// The one catalog there is; StarRocks' clients qualify with it.
const CATALOG: &str = "default_catalog";

/// Words that are never a name without back quotes. StarRocks has more of them; these are the ones whose use as a name
/// is more likely a mistake.
const RESERVED: [&str; 54] = [
    "ALL",
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CREATE",
    "CROSS",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DROP",
    "ELSE",
    "EXCEPT",
    "EXISTS",
    "FOR",
    "FORCE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IF",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "KEY",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "PARTITION",
    "PRIMARY",
    "RIGHT",
    "SELECT",
    "SET",
    "SHOW",
    "TABLE",
    "TO",
    "UNION",
    "UPDATE",
    "VALUES",
    "WHEN",
    "WHERE",
];

/// Statements of StarRocks and MySQL that are recognised only to be refused by name.
const REFUSED: &[&str] = &[
    "ADMIN CANCEL REPAIR",
    "ADMIN CHECK TABLET",
    "ADMIN EXECUTE",
    "ADMIN REPAIR",
    "ADMIN SET REPLICA STATUS",
    "ADMIN SHOW REPLICA",
    "ALTER CATALOG",
    "ALTER DATABASE",
    "ALTER LOAD",
    "ALTER MATERIALIZED VIEW",
    "ALTER RESOURCE",
    "ALTER ROLE",
    "ALTER ROUTINE LOAD",
    "ALTER STORAGE VOLUME",
    "ALTER SYSTEM",
    "ALTER VIEW",
    "ANALYZE",
    "CALL",
    "CANCEL ALTER TABLE",
    "CANCEL DECOMMISSION",
    "CANCEL EXPORT",
    "CANCEL LOAD",
    "CANCEL REFRESH",
    "CHECK TABLE",
    "CHECKSUM TABLE",
    "CLEAN",
    "CREATE CATALOG",
    "CREATE EXTERNAL CATALOG",
    "CREATE EXTERNAL RESOURCE",
    "CREATE EXTERNAL TABLE",
    "CREATE FILE",
    "CREATE FUNCTION",
    "CREATE GLOBAL FUNCTION",
    "CREATE INDEX",
    "CREATE MATERIALIZED VIEW",
    "CREATE OR REPLACE",
    "CREATE PIPE",
    "CREATE PROCEDURE",
    "CREATE RESOURCE",
    "CREATE ROLE",
    "CREATE ROUTINE LOAD",
    "CREATE STORAGE VOLUME",
    "CREATE TEMPORARY TABLE",
    "CREATE TRIGGER",
    "CREATE UNIQUE INDEX",
    "CREATE VIEW",
    "DO",
    "DROP ANALYZE",
    "DROP CATALOG",
    "DROP FILE",
    "DROP FUNCTION",
    "DROP INDEX",
    "DROP MATERIALIZED VIEW",
    "DROP PIPE",
    "DROP PROCEDURE",
    "DROP RESOURCE",
    "DROP ROLE",
    "DROP SNAPSHOT",
    "DROP STATS",
    "DROP STORAGE VOLUME",
    "DROP TASK",
    "DROP TEMPORARY TABLE",
    "DROP TRIGGER",
    "DROP VIEW",
    "EXPLAIN",
    "EXPORT",
    "FLUSH",
    "GRANT",
    "HANDLER",
    "HELP",
    "INSTALL PLUGIN",
    "KILL ANALYZE",
    "LOAD",
    "MERGE",
    "OPTIMIZE",
    "PAUSE ROUTINE LOAD",
    "RECOVER",
    "REFRESH",
    "RENAME",
    "REPAIR TABLE",
    "REPLACE",
    "RESUME ROUTINE LOAD",
    "REVOKE",
    "STOP ROUTINE LOAD",
    "SUBMIT",
    "SUSPEND",
    "SYNC",
    "TABLE",
    "UNINSTALL",
    "XA",
];

/// Reads a text of any number of statements, divided by `;`, all of which must be well formed.
pub fn parse(text: &str) -> Result<Vec<Parsed>> {
    parse_each(text).into_iter().collect()
}

/// Reads a text of any number of statements, divided by `;`, up to the first fault, which is the last item.
///
/// Places in errors count from the text's beginning. A text without statements gives none.
pub fn parse_each(text: &str) -> Vec<Result<Parsed>> {
    if let Some(insert) = LongInsert::find(text)
        && let Some(statement) = parse_long(text, insert)
    {
        return vec![statement];
    }
    let mut statements = Vec::new();
    for piece in lex::pieces(text) {
        statements.push(piece.and_then(parse_piece));
        if statements.last().is_some_and(Result::is_err) {
            break;
        }
    }
    statements
}

/// Does what takes long for a long text, of this many bytes, without holding up what else runs on this thread.
pub fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    const LONG: usize = 64 << 10;
    let can_move = || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > LONG && can_move() { tokio::task::block_in_place(work) } else { work() }
}

/// `None` if it turns out to be another statement.
fn parse_long(text: &str, LongInsert { first, more }: LongInsert) -> Option<Result<Parsed>> {
    let begin = first.start;
    let end = more.last()?.end;
    let mut parsed = match parse_each(&text[..first.end]).pop()? {
        Ok(parsed) => parsed,
        fault => return Some(fault),
    };
    let Statement::Insert(insert) = &mut parsed.statement else { return None };
    if !matches!(&*insert.source.body, SetExpr::Values(_)) {
        return None;
    }
    insert.more = more.into_iter().map(|part| part.start - begin..part.end - begin).collect();
    parsed.text = text[begin..end].to_owned();
    Some(Ok(parsed))
}

/// Leaves out MySQL's older way to write FOR SHARE, whose first word the parser would take for an alias.
fn drop_share_lock(tokens: &mut Vec<TokenWithSpan>) {
    const LOCK: [&str; 4] = ["LOCK", "IN", "SHARE", "MODE"];
    let is = |(token, wanted): (&TokenWithSpan, &str)| match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    // The last token is EOF.
    let end = tokens.len().saturating_sub(1);
    if end > LOCK.len() && tokens[end - LOCK.len()..end].iter().zip(LOCK).all(is) {
        tokens.drain(end - LOCK.len()..end);
    }
}

fn parse_piece(mut piece: Piece) -> Result<Parsed> {
    drop_share_lock(&mut piece.tokens);
    let dialect = StarRocksDialect::new(piece.tokens.len());
    let parser = Parser::new(&dialect).with_recursion_limit(MAX_DEPTH);
    let mut p = P {
        inner: parser.with_tokens_with_locations(piece.tokens),
        base: piece.base,
        dialect: &dialect,
        secret: false,
    };
    let statement = p.statement()?;
    p.end()?;
    let mut hints = Vec::new();
    // Others may be no text that can be read here.
    for hint in piece.hints.iter().filter(|hint| hint.to_ascii_uppercase().contains("SET_VAR")) {
        hints.extend(set_var(hint)?);
    }
    Ok(Parsed { statement, text: piece.text, hints })
}

/// The assignments of each `SET_VAR(name = value, …)` in a hint. Other hints are comments.
fn set_var(hint: &str) -> Result<Vec<(String, SetValue)>> {
    let mut found = Vec::new();
    for piece in lex::pieces(hint) {
        let piece = piece?;
        let dialect = StarRocksDialect::new(piece.tokens.len());
        let parser = Parser::new(&dialect).with_tokens_with_locations(piece.tokens);
        let mut p = P { inner: parser, base: piece.base, dialect: &dialect, secret: false };
        while !p.at_end() {
            if p.words("SET_VAR") {
                found.extend(p.parens(|p| Ok((p.ident("a variable name")?.to_lowercase(), p.assigned_value()?)))?);
            } else {
                p.skip();
            }
        }
    }
    Ok(found)
}

/// A cursor over one statement. Words are compared by their text, because many of StarRocks' are no keywords to
/// sqlparser; a word in back quotes is never one of the grammar.
pub(super) struct P<'a> {
    inner: Parser<'a>,
    base: Location,
    dialect: &'a StarRocksDialect,
    /// Whether a secret may be what is next, or has been.
    secret: bool,
}

impl P<'_> {
    fn statement(&mut self) -> Result<Statement> {
        for phrase in ["SELECT", "WITH", "VALUES"] {
            if self.peek_words(phrase) {
                return Ok(Statement::Query(self.query()?));
            }
        }
        if self.peek(0) == &Token::LParen {
            return Ok(Statement::Query(self.query()?));
        }
        for reader in [Self::ddl, Self::dml, Self::jobs, Self::session, Self::admin] {
            if let Some(statement) = reader(self)? {
                return Ok(statement);
            }
        }
        if let Some(show) = self.show()? {
            return Ok(Statement::Show(show));
        }
        if let Some(phrase) = REFUSED.iter().find(|phrase| self.peek_words(phrase)) {
            return Err(Error::Unsupported((*phrase).to_owned()));
        }
        for verb in ["ADMIN", "ALTER", "CANCEL", "CREATE", "DEALLOCATE", "DROP", "LOCK", "START", "UNLOCK"] {
            if self.words(verb) {
                return self.unexpected(&format!("an object of {verb}"));
            }
        }
        self.unexpected("a statement")
    }

    /// INSERT, DELETE and USE.
    fn dml(&mut self) -> Result<Option<Statement>> {
        Ok(Some(if self.words("INSERT") {
            self.insert()?
        } else if self.words("DELETE FROM") {
            self.delete()?
        } else if self.words("USE") {
            Statement::Use(self.database_name()?)
        } else {
            return Ok(None);
        }))
    }

    /// The nth token from here.
    pub fn peek(&self, n: usize) -> &Token {
        &self.inner.peek_nth_token_ref(n).token
    }

    /// Whether the nth token from here is this word.
    pub fn at(&self, n: usize, word: &str) -> bool {
        matches!(self.peek(n), Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
    }

    /// Whether these words are next.
    pub fn peek_words(&self, phrase: &str) -> bool {
        phrase.split(' ').enumerate().all(|(n, word)| self.at(n, word))
    }

    /// Takes these words if they are next, all or none.
    pub fn words(&mut self, phrase: &str) -> bool {
        let found = self.peek_words(phrase);
        if found {
            for _ in phrase.split(' ') {
                self.inner.next_token();
            }
        }
        found
    }

    /// Takes one of these words, and says whether there was one.
    pub fn any_word(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.words(word))
    }

    /// Takes these words, which must be next.
    pub fn need(&mut self, phrase: &str) -> Result<()> {
        phrase.split(' ').try_for_each(|word| if self.words(word) { Ok(()) } else { self.unexpected(word) })
    }

    /// Takes this token if it is next.
    pub fn token(&mut self, token: &Token) -> bool {
        self.inner.consume_token(token)
    }

    /// Takes this token, which must be next.
    pub fn need_token(&mut self, token: &Token) -> Result<()> {
        if self.token(token) { Ok(()) } else { self.unexpected(&format!("'{token}'")) }
    }

    /// The syntax error for what is next.
    pub fn unexpected<T>(&self, expected: &str) -> Result<T> {
        if self.secret {
            return self.syntax(format!("expected {expected}"));
        }
        let found = match self.peek(0) {
            Token::EOF => "the end of the statement".to_owned(),
            // A string may be a password at the wrong place.
            Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => "a string".to_owned(),
            Token::HexStringLiteral(_) => "bytes".to_owned(),
            token => match token.to_string() {
                // So may one that is written in another way, or a URI in the quotes of a name.
                text if text.contains('\'') || text.contains("://") => "a string".to_owned(),
                text => format!("'{text}'"),
            },
        };
        self.syntax(format!("expected {expected}, found {found}"))
    }

    fn syntax<T>(&self, message: String) -> Result<T> {
        let Location { line, column } = lex::absolute(self.inner.peek_token_ref().span.start, self.base);
        Err(Error::Syntax { line, column, message })
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { self.unexpected("the end of the statement") }
    }

    /// Whether nothing follows.
    pub fn at_end(&self) -> bool {
        self.peek(0) == &Token::EOF
    }

    /// Moves past one token.
    pub fn skip(&mut self) {
        self.inner.next_token();
    }

    /// A string in either kind of quotes.
    pub fn string(&mut self) -> Result<String> {
        match self.optional_string() {
            Some(text) => Ok(text),
            None => self.unexpected("a string"),
        }
    }

    /// Says that a secret may follow: what stands at the wrong place is not shown any more.
    pub fn expect_secret(&mut self) {
        self.secret = true;
    }

    /// A string, if one is next.
    pub fn optional_string(&mut self) -> Option<String> {
        let (Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) = self.peek(0) else {
            return None;
        };
        let text = text.clone();
        self.skip();
        Some(text)
    }

    /// A whole number.
    pub fn number<N: std::str::FromStr>(&mut self, what: &str) -> Result<N> {
        let Token::Number(text, _) = self.peek(0) else {
            return self.unexpected(what);
        };
        match text.parse() {
            Ok(number) => {
                self.skip();
                Ok(number)
            }
            Err(_) => self.unexpected(what),
        }
    }

    /// An identifier: a word that is not reserved, or anything in back quotes.
    pub fn ident(&mut self, what: &str) -> Result<String> {
        let Token::Word(word) = self.peek(0) else {
            return self.unexpected(what);
        };
        if word.quote_style.is_none() && RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&word.value)) {
            return self.unexpected(what);
        }
        self.qualified_ident(what)
    }

    /// The same behind a period, where no word is reserved, as in MySQL.
    fn qualified_ident(&mut self, what: &str) -> Result<String> {
        let Token::Word(word) = self.peek(0) else {
            return self.unexpected(what);
        };
        if word.quote_style.is_none() && word.value.contains('@') {
            return self.unexpected(what);
        }
        let value = word.value.clone();
        self.skip();
        Ok(value)
    }

    /// The name of a thing.
    pub fn name(&mut self, kind: Kind) -> Result<Name> {
        let text = self.ident(&format!("a {} name", kind.word()))?;
        to_name(kind, text)
    }

    /// The name of a database, which the catalog's may precede.
    pub fn database_name(&mut self) -> Result<Name> {
        let first = self.ident("a database name")?;
        if !self.token(&Token::Period) {
            return to_name(Kind::Database, first);
        }
        check_catalog(&first)?;
        self.name(Kind::Database)
    }

    /// The name of a table, which a database's and a catalog's may precede.
    pub fn table_name(&mut self) -> Result<TableName> {
        let mut parts = vec![self.ident("a table name")?];
        while parts.len() < 3 && self.token(&Token::Period) {
            parts.push(self.qualified_ident("a table name")?);
        }
        if parts.len() == 3 {
            check_catalog(&parts.remove(0))?;
        }
        let table = to_name(Kind::Table, parts.pop().unwrap_or_default())?;
        let database = parts.pop().map(|text| to_name(Kind::Database, text)).transpose()?;
        Ok(TableName { database, table })
    }

    /// One or more, divided by commas.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// One or more in parentheses, divided by commas.
    pub fn parens<T>(&mut self, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.need_token(&Token::LParen)?;
        let items = self.list(item)?;
        self.need_token(&Token::RParen)?;
        Ok(items)
    }

    /// `PARTITION[S] p` or `PARTITION[S] (p, …)`, if it is next; none of them twice.
    pub fn partitions(&mut self) -> Result<Vec<Name>> {
        if !self.any_word(&["PARTITION", "PARTITIONS"]) {
            return Ok(Vec::new());
        }
        let partition = |p: &mut Self| match p.optional_string() {
            Some(text) => to_name(Kind::Partition, text),
            None => p.name(Kind::Partition),
        };
        let names = if self.peek(0) == &Token::LParen { self.parens(partition)? } else { vec![partition(self)?] };
        match first_repeated(&names) {
            Some(name) => Err(Error::Analysis(format!("partition '{name}' is given twice"))),
            None => Ok(names),
        }
    }

    /// `PROPERTIES (…)`, if it is next.
    pub fn properties(&mut self) -> Result<Properties> {
        let mut properties = Vec::new();
        if self.words("PROPERTIES") {
            self.need_token(&Token::LParen)?;
            if !self.token(&Token::RParen) {
                properties = self.list(Self::property)?;
                self.need_token(&Token::RParen)?;
            }
        }
        let keys: Vec<_> = properties.iter().map(|(key, _)| key.to_lowercase()).collect();
        match first_repeated(&keys) {
            // Somebody may have taken a URI for a property.
            Some(key) => Err(Error::Analysis(format!("property '{}' is given twice", mask_uri(key)))),
            None => Ok(Properties(properties)),
        }
    }

    /// `"key" = "value"`.
    pub fn property(&mut self) -> Result<(String, String)> {
        self.expect_secret();
        let key = self.string()?;
        self.need_token(&Token::Eq)?;
        Ok((key, self.string()?))
    }

    /// A query, to its end.
    pub fn query(&mut self) -> Result<Box<Query>> {
        let parsed = self.inner.parse_query();
        let query = self.lift(parsed)?;
        query::check(&query)?;
        Ok(query)
    }

    /// An expression.
    pub fn expr(&mut self) -> Result<Box<Expr>> {
        let parsed = self.inner.parse_expr();
        let expr = self.lift(parsed)?;
        match query::placeholders_in(&expr) {
            0 => Ok(Box::new(expr)),
            _ => Err(Error::Unsupported("placeholders outside of SELECT and INSERT".into())),
        }
    }

    /// A condition, which may have placeholders.
    pub fn condition(&mut self) -> Result<Expr> {
        let parsed = self.inner.parse_expr();
        self.lift(parsed)
    }

    /// Takes over what sqlparser says, with the place in the whole text and without the text of strings.
    fn lift<T>(&self, result: Result<T, ParserError>) -> Result<T> {
        let message = match result {
            Ok(value) => return Ok(value),
            Err(_) if self.dialect.is_exhausted() => {
                return self.syntax("a fault inside nested functions; its place is not known".into());
            }
            Err(ParserError::RecursionLimitExceeded) => {
                return self.syntax(format!("nested deeper than {MAX_DEPTH} levels"));
            }
            Err(ParserError::ParserError(message) | ParserError::TokenizerError(message)) => message,
        };
        let (text, place) = match message.rsplit_once(" at Line: ") {
            Some((text, place)) => (text, place.split_once(", Column: ")),
            None => (message.as_str(), None),
        };
        let number = |text: &str| text.trim().parse::<u64>().ok().filter(|number| *number > 0);
        let place = place
            .and_then(|(line, column)| Some(Location::new(number(line)?, number(column)?)))
            .unwrap_or(self.inner.peek_token_ref().span.start);
        let text = match text.split_once(", found: ") {
            Some((expected, "EOF")) => format!("{expected}, found the end of the statement"),
            Some((expected, found)) if found.starts_with(['\'', '"']) => format!("{expected}, found a string"),
            Some((expected, found)) => format!("{expected}, found '{found}'"),
            None => text.to_owned(),
        };
        let Location { line, column } = lex::absolute(place, self.base);
        Err(Error::Syntax { line, column, message: text.replacen("Expected: ", "expected ", 1) })
    }
}

fn check_catalog(name: &str) -> Result<()> {
    if name == CATALOG { Ok(()) } else { Err(Error::Unsupported(format!("catalog '{name}'; there is only {CATALOG}"))) }
}

/// A name, or the error that says of what kind it cannot be.
pub(super) fn to_name(kind: Kind, text: String) -> Result<Name> {
    Name::new(text.clone()).map_err(|invalid| wrong_name(kind, &text, invalid))
}

/// The error for a text that cannot be a name.
pub(super) fn wrong_name(kind: Kind, text: &str, Invalid(problem): Invalid) -> Error {
    // The text is in the error already.
    let reason = problem.split_once(&format!("'{}' ", excerpt(text))).map_or(problem.as_str(), |(_, reason)| reason);
    let reason = if text.is_empty() { String::new() } else { format!("it {reason}") };
    Error::WrongName { entity: Entity::new(kind, text.chars().take(128).collect::<String>()), reason }
}

/// The first item that was there before.
pub(super) fn first_repeated<T: Eq + Hash>(items: &[T]) -> Option<&T> {
    let mut seen = HashSet::with_capacity(items.len());
    items.iter().find(|item| !seen.insert(*item))
}
