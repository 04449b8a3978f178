use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::lex;
use super::lex::Offsets;

/// What is shown in a secret's place.
const MASK: &str = "***";

/// Parts of property keys whose values are secrets. Rather one key too many is masked than one too few.
const SECRET_WORDS: [&str; 8] = ["secret", "key", "password", "passwd", "pwd", "token", "credential", "sas"];

/// Whether the value of a property of this name is a secret, by the words in its name.
pub fn is_secret_key(key: &str) -> bool {
    let lower = key.to_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
}

/// A text with the password and the query of the URI in it masked; other texts as they are.
///
/// A user without a password stays, because `abfss://container@account…` has the container in that place.
pub fn mask_uri(text: &str) -> String {
    let uri = text.split_once("://").filter(|(scheme, _)| !scheme.eq_ignore_ascii_case("file"));
    let Some((scheme, rest)) = uri else {
        // In a path these characters mean themselves; but BR's `file://` takes parameters, and so may a URI with a typo
        // in it.
        return match text.split_once('?') {
            Some((place, query)) if query.contains('=') && is_secret_key(query) => format!("{place}?{MASK}"),
            _ => text.to_owned(),
        };
    };
    let (place, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], &rest[at..=at]),
        None => (rest, ""),
    };
    let masked = match place.rsplit_once('@') {
        Some((user, host)) if has_password(user) => format!("{scheme}://{MASK}@{host}"),
        _ => format!("{scheme}://{place}"),
    };
    if query.is_empty() { masked } else { format!("{masked}{query}{MASK}") }
}

/// Whether what stands before an `@` holds a password, and not a host with a port and a path.
fn has_password(user: &str) -> bool {
    let after = user.split_once(':').map(|(_, after)| after.split('/').next().unwrap_or_default());
    after.is_some_and(|after| after.is_empty() || !after.bytes().all(|b| b.is_ascii_digit()) || !user.contains('/'))
}

/// A statement's text for process lists and logs: passwords, the values of secret properties, and what is secret in
/// URIs give way to `'***'`.
///
/// It goes by tokens, so that text that is no statement is masked too; text that cannot be cut into tokens is cut off
/// at its first word that may announce a secret.
pub fn mask_secrets(text: &str) -> String {
    let mut all = Vec::new();
    if lex::tokens(text, &mut all).is_err() {
        return cut_off(text);
    }
    all.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut masked = String::with_capacity(text.len());
    let mut offsets = Offsets::new(text);
    let mut done = 0;
    let mut state = Announced::default();
    for (n, token) in all.iter().enumerate() {
        let Some(shown) = state.shown(&all[..n], &token.token) else {
            continue;
        };
        let from = offsets.seek(token.span.start);
        let to = offsets.seek(token.span.end);
        masked.push_str(&text[done..from]);
        masked.push_str(&shown);
        done = to;
    }
    masked.push_str(&text[done..]);
    masked
}

/// Which words that announce a secret have been passed in this statement.
#[derive(Default)]
struct Announced {
    /// IDENTIFIED: the next string is a password, unless it names a plugin.
    identified: bool,
    /// PASSWORD: the next string after `=` or `(` is one.
    password: bool,
    /// PREPARE: the next string is a statement.
    prepare: bool,
}

impl Announced {
    /// What to show in a token's place; `None` if it can stay. `before` are the tokens before it.
    fn shown(&mut self, before: &[TokenWithSpan], token: &Token) -> Option<String> {
        let back = |n: usize| before.len().checked_sub(n).map(|at| &before[at].token);
        let text = match token {
            Token::SemiColon => {
                *self = Self::default();
                return None;
            }
            Token::Word(word) if word.quote_style.is_none() => {
                match word.value.to_ascii_uppercase().as_str() {
                    "IDENTIFIED" => self.identified = true,
                    "PASSWORD" => self.password = true,
                    "PREPARE" => self.prepare = true,
                    _ => {}
                }
                return None;
            }
            // A URI in the wrong quotes.
            Token::Word(word) => {
                let uri = mask_uri(&word.value);
                return (uri != word.value).then(|| format!("`{}`", uri.replace('`', "``")));
            }
            Token::SingleQuotedString(text)
            | Token::DoubleQuotedString(text)
            | Token::NationalStringLiteral(text)
            | Token::HexStringLiteral(text) => text,
            _ => return None,
        };
        let mask = Some(format!("'{MASK}'"));
        if self.identified {
            let plugin = matches!(back(1), Some(Token::Word(word)) if word.value.eq_ignore_ascii_case("WITH"));
            self.identified = plugin;
            return if plugin { None } else { mask };
        }
        let word_before = matches!(back(1), Some(Token::Word(word)) if word.value.eq_ignore_ascii_case("PASSWORD"));
        if self.password && (word_before || matches!(back(1), Some(Token::Eq | Token::Assignment | Token::LParen))) {
            self.password = false;
            return mask;
        }
        let key = match (back(2), back(1)) {
            (Some(Token::SingleQuotedString(key) | Token::DoubleQuotedString(key)), Some(Token::Eq)) => Some(key),
            (Some(Token::Word(word)), Some(Token::Eq | Token::Assignment)) if !is_column_key(&word.value) => {
                Some(&word.value)
            }
            _ => None,
        };
        if key.is_some_and(|key| is_secret_key(key)) {
            return mask;
        }
        if std::mem::take(&mut self.prepare) && mask_secrets(text) != *text {
            return mask;
        }
        let uri = mask_uri(text);
        (uri != *text).then(|| format!("'{}'", uri.replace('\'', "''")))
    }
}

/// Whether a word is only by `key` or `sas` like a secret's: a column `orderkey` in a condition is none.
fn is_column_key(word: &str) -> bool {
    let lower = word.to_lowercase();
    !["secret", "passw", "pwd", "token", "credential"].iter().any(|secret| lower.contains(secret))
}

fn cut_off(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let places = SECRET_WORDS.iter().chain(&["identified", "://"]).filter_map(|word| lower.find(word));
    match places.min() {
        Some(at) => format!("{}'{MASK}'", &text[..at]),
        None => text.to_owned(),
    }
}
