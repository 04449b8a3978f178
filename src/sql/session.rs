//! Statements about the session and its users: SET, KILL, users, transactions, prepared statements by text.

use sqlparser::tokenizer::Token;

use super::parser::{P, to_name};
use super::{Assignment, Identified, PrepareSource, Scope, Secret, SetValue, Statement, UserName};
use crate::error::{Error, Result};
use crate::types::{Datum, Kind};

impl P<'_> {
    /// SET, KILL, users, transactions, prepared statements by text.
    pub fn session(&mut self) -> Result<Option<Statement>> {
        Ok(Some(if self.words("SET") {
            Statement::Set(self.set()?)
        } else if self.at(0, "KILL") && !self.at(1, "ANALYZE") {
            self.skip();
            let query_only = self.words("QUERY");
            if !query_only {
                self.words("CONNECTION");
            }
            let is_word = matches!(self.peek(0), Token::Word(word) if !word.value.starts_with('@'));
            if is_word && self.peek(1) == &Token::EOF {
                return self.unexpected("a connection id");
            }
            Statement::Kill { connection: self.value()?, query_only }
        } else if let Some(user) = self.user_statement()? {
            user
        } else if let Some(transaction) = self.transaction()? {
            transaction
        } else if let Some(prepared) = self.prepared()? {
            prepared
        } else {
            return Ok(None);
        }))
    }

    fn user_statement(&mut self) -> Result<Option<Statement>> {
        Ok(Some(if self.words("CREATE USER") {
            let if_not_exists = self.words("IF NOT EXISTS");
            let user = self.user()?;
            let identified = if self.at(0, "IDENTIFIED") { Some(self.identified()?) } else { None };
            self.refuse_user_clause("CREATE USER")?;
            Statement::CreateUser { user, if_not_exists, identified }
        } else if self.words("ALTER USER") {
            let if_exists = self.words("IF EXISTS");
            let user = self.optional_user()?;
            self.refuse_user_clause("ALTER USER")?;
            let identified = self.identified()?;
            self.refuse_user_clause("ALTER USER")?;
            Statement::AlterUser { user, if_exists, identified }
        } else if self.words("DROP USER") {
            let if_exists = self.words("IF EXISTS");
            Statement::DropUser { user: self.user()?, if_exists }
        } else {
            return Ok(None);
        }))
    }

    fn refuse_user_clause(&self, statement: &str) -> Result<()> {
        const CLAUSES: [&str; 9] = [
            "DEFAULT ROLE",
            "SET DEFAULT ROLE",
            "PROPERTIES",
            "SET PROPERTIES",
            "REQUIRE",
            "ACCOUNT",
            "PASSWORD",
            "COMMENT",
            "WITH",
        ];
        match CLAUSES.iter().find(|clause| self.peek_words(clause)) {
            Some(clause) => Err(Error::Unsupported(format!("{statement} … {clause}"))),
            None if self.peek(0) == &Token::Comma => Err(Error::Unsupported(format!("{statement} of several users"))),
            None => Ok(()),
        }
    }

    fn identified(&mut self) -> Result<Identified> {
        self.need("IDENTIFIED")?;
        self.expect_secret();
        let mut plugin = None;
        if self.words("WITH") {
            let name = match self.optional_string() {
                Some(name) => name,
                None => self.ident("an authentication plugin")?,
            };
            plugin = Some(name.to_ascii_lowercase());
        }
        if self.words("AS") || self.peek_words("BY PASSWORD") {
            return Err(Error::Unsupported("IDENTIFIED with a hashed password; write BY 'password'".into()));
        }
        self.need("BY")?;
        Ok(Identified { plugin, password: Secret(self.string()?) })
    }

    /// `user`, `'user'`, `'user'@'host'`, in any mixture of quotes. Without quotes the tokenizer takes the `@` for a
    /// part of a word.
    fn user(&mut self) -> Result<UserName> {
        let (mut user, mut host) = (self.optional_string(), None);
        if user.is_none() {
            let Token::Word(word) = self.peek(0) else {
                return self.unexpected("a user name");
            };
            let (value, quoted) = (word.value.clone(), word.quote_style.is_some());
            match value.split_once('@') {
                Some((name, rest)) if !quoted && !name.is_empty() => {
                    user = Some(name.to_owned());
                    host = Some(rest.to_owned());
                    self.skip();
                }
                _ => user = Some(self.ident("a user name")?),
            }
        }
        if host.is_none() {
            if self.token(&Token::AtSign) {
                host = Some(String::new());
            } else if let Token::Word(word) = self.peek(0)
                && let Some(name) = word.value.strip_prefix('@').filter(|_| word.quote_style.is_none())
            {
                host = Some(name.to_owned());
                self.skip();
            }
        }
        // What is quoted after the `@` is a token of its own.
        if host.as_deref() == Some("") {
            host = Some(match self.optional_string() {
                Some(host) => host,
                None => self.ident("a host")?,
            });
        }
        let user = to_name(Kind::User, user.unwrap_or_default())?;
        Ok(UserName { user, host: host.unwrap_or_else(|| "%".into()) })
    }

    /// A user, or `None` for `CURRENT_USER` and `USER()`.
    pub fn optional_user(&mut self) -> Result<Option<UserName>> {
        let called = self.at(0, "USER") && self.peek(1) == &Token::LParen;
        if self.words("CURRENT_USER") || called && self.words("USER") {
            if self.token(&Token::LParen) {
                self.need_token(&Token::RParen)?;
            }
            return Ok(None);
        }
        self.user().map(Some)
    }

    fn transaction(&mut self) -> Result<Option<Statement>> {
        Ok(Some(if self.words("BEGIN") {
            self.words("WORK");
            Statement::Begin { read_only: None }
        } else if self.words("START TRANSACTION") {
            let mut read_only = None;
            loop {
                if self.words("READ ONLY") {
                    read_only = Some(true);
                } else if self.words("READ WRITE") {
                    read_only = Some(false);
                } else if !self.words("WITH CONSISTENT SNAPSHOT") {
                    break;
                }
                if !self.token(&Token::Comma) {
                    break;
                }
            }
            Statement::Begin { read_only }
        } else if self.words("COMMIT") {
            self.after_commit()?;
            Statement::Commit
        } else if self.words("SAVEPOINT") || self.words("RELEASE SAVEPOINT") {
            self.ident("a savepoint")?;
            Statement::Savepoint
        } else if self.words("ROLLBACK") {
            self.after_commit()?;
            if self.words("TO") {
                self.words("SAVEPOINT");
                self.ident("a savepoint")?;
                Statement::RollbackToSavepoint
            } else {
                Statement::Rollback
            }
        } else if self.words("UNLOCK TABLES") || self.words("UNLOCK TABLE") {
            Statement::UnlockTables
        } else if self.words("LOCK TABLES") || self.words("LOCK TABLE") {
            self.list(|p| {
                p.table_name()?;
                if p.words("AS") || !["READ", "WRITE", "LOW_PRIORITY"].iter().any(|word| p.at(0, word)) {
                    p.ident("READ or WRITE")?;
                }
                if p.words("READ") {
                    p.words("LOCAL");
                    return Ok(());
                }
                p.words("LOW_PRIORITY");
                p.need("WRITE")
            })?;
            Statement::LockTables
        } else {
            return Ok(None);
        }))
    }

    /// `[WORK] [AND NO CHAIN] [NO RELEASE]`, which change nothing; their opposites are refused.
    fn after_commit(&mut self) -> Result<()> {
        self.words("WORK");
        self.words("AND NO CHAIN");
        self.words("NO RELEASE");
        match ["AND CHAIN", "RELEASE"].iter().find(|clause| self.peek_words(clause)) {
            Some(clause) => Err(Error::Unsupported(format!("COMMIT or ROLLBACK {clause}"))),
            None => Ok(()),
        }
    }

    fn prepared(&mut self) -> Result<Option<Statement>> {
        let name = |p: &mut Self| p.ident("a statement name").map(|name| name.to_lowercase());
        Ok(Some(if self.words("PREPARE") {
            let name = name(self)?;
            self.need("FROM")?;
            let source = match self.optional_string() {
                Some(text) => PrepareSource::Text(Secret(text)),
                None => PrepareSource::Variable(self.user_variable()?),
            };
            Statement::Prepare { name, source }
        } else if self.words("EXECUTE") {
            let name = name(self)?;
            let using = if self.words("USING") { self.list(Self::user_variable)? } else { Vec::new() };
            Statement::Execute { name, using }
        } else if self.words("DEALLOCATE PREPARE") || self.words("DROP PREPARE") {
            Statement::Deallocate { name: name(self)? }
        } else {
            return Ok(None);
        }))
    }

    fn user_variable(&mut self) -> Result<String> {
        match self.optional_user_variable()? {
            Some(name) => Ok(name),
            None => self.unexpected("a user variable"),
        }
    }

    /// `@name`, with or without quotes after the `@`, in lower case.
    fn optional_user_variable(&mut self) -> Result<Option<String>> {
        let Token::Word(word) = self.peek(0) else {
            return Ok(None);
        };
        let name = word.value.strip_prefix('@').filter(|name| word.quote_style.is_none() && !name.starts_with('@'));
        let name = name.map(str::to_lowercase);
        if name.is_some() {
            self.skip();
        }
        Ok(name)
    }

    fn set(&mut self) -> Result<Vec<Assignment>> {
        const REFUSED: [&str; 7] =
            ["ROLE", "DEFAULT ROLE", "PROPERTY", "DEFAULT STORAGE VOLUME", "RESOURCE GROUP", "PERSIST", "PERSIST_ONLY"];
        if let Some(refused) = REFUSED.iter().find(|phrase| self.peek_words(phrase) && !self.assigned(phrase)) {
            return Err(Error::Unsupported(format!("SET {refused}")));
        }
        if self.at(0, "CATALOG") && !self.assigned("CATALOG") {
            self.skip();
            let value = SetValue::Literal(Datum::Text(self.ident("a catalog")?));
            return Ok(vec![Assignment::Variable { scope: Scope::Session, name: "catalog".into(), value }]);
        }
        if self.at(0, "PASSWORD") {
            return Ok(vec![self.set_password()?]);
        }
        let scoped = usize::from(["GLOBAL", "SESSION", "LOCAL"].iter().any(|word| self.at(0, word)));
        if self.at(scoped, "TRANSACTION") {
            return self.set_transaction();
        }
        self.list(Self::assignment)
    }

    /// Whether an assignment sign follows these words.
    fn assigned(&self, phrase: &str) -> bool {
        matches!(self.peek(phrase.split(' ').count()), Token::Eq | Token::Assignment)
    }

    fn set_password(&mut self) -> Result<Assignment> {
        self.need("PASSWORD")?;
        self.expect_secret();
        let user = if self.words("FOR") { self.optional_user()? } else { None };
        self.need_token(&Token::Eq)?;
        let password = if self.words("PASSWORD") {
            self.need_token(&Token::LParen)?;
            let password = self.string()?;
            self.need_token(&Token::RParen)?;
            password
        } else {
            self.string()?
        };
        Ok(Assignment::Password { user, password: Secret(password) })
    }

    fn set_scope(&mut self) -> Scope {
        if self.words("GLOBAL") {
            return Scope::Global;
        }
        self.any_word(&["SESSION", "LOCAL"]);
        Scope::Session
    }

    fn set_transaction(&mut self) -> Result<Vec<Assignment>> {
        const LEVELS: [(&str, &str); 4] = [
            ("READ UNCOMMITTED", "READ-UNCOMMITTED"),
            ("READ COMMITTED", "READ-COMMITTED"),
            ("REPEATABLE READ", "REPEATABLE-READ"),
            ("SERIALIZABLE", "SERIALIZABLE"),
        ];
        let said = ["SESSION", "LOCAL", "GLOBAL"].iter().any(|scope| self.at(0, scope));
        let scope = self.set_scope();
        let of_access = said.then_some(scope);
        self.need("TRANSACTION")?;
        self.list(|p| {
            if p.words("ISOLATION LEVEL") {
                return match LEVELS.iter().find(|(phrase, _)| p.words(phrase)) {
                    Some((_, level)) => Ok(Assignment::TransactionIsolation { scope, level }),
                    None => p.unexpected("an isolation level"),
                };
            }
            if p.words("READ ONLY") {
                return Ok(Assignment::TransactionAccess { scope: of_access, read_only: true });
            }
            if p.words("READ WRITE") {
                return Ok(Assignment::TransactionAccess { scope: of_access, read_only: false });
            }
            p.unexpected("ISOLATION LEVEL, READ ONLY or READ WRITE")
        })
    }

    fn assignment(&mut self) -> Result<Assignment> {
        if self.at(0, "NAMES") && !self.assigned("NAMES") {
            self.skip();
            let charset = self.charset()?;
            let collation = if self.words("COLLATE") { self.charset()? } else { None };
            return Ok(Assignment::Names { charset, collation });
        }
        if self.words("CHARACTER SET") || self.at(0, "CHARSET") && !self.assigned("CHARSET") && self.words("CHARSET") {
            return Ok(Assignment::CharacterSet(self.charset()?));
        }
        if let Some(name) = self.optional_user_variable()? {
            return Ok(Assignment::UserVariable { name, value: self.assigned_value()? });
        }
        let (scope, name) = self.variable()?;
        Ok(Assignment::Variable { scope, name, value: self.assigned_value()? })
    }

    /// A character set or collation; `None` for DEFAULT.
    pub fn charset(&mut self) -> Result<Option<String>> {
        if self.words("DEFAULT") {
            return Ok(None);
        }
        if let Some(text) = self.optional_string() {
            return Ok(Some(text));
        }
        self.any_ident("a character set").map(Some)
    }

    /// `[GLOBAL|SESSION] name`, `@@[global.|session.]name`.
    fn variable(&mut self) -> Result<(Scope, String)> {
        let scope = self.set_scope();
        let Token::Word(word) = self.peek(0) else {
            return self.unexpected("a variable name");
        };
        let Some(first) = word.value.strip_prefix("@@").filter(|_| word.quote_style.is_none()).map(str::to_lowercase)
        else {
            return Ok((scope, self.ident("a variable name")?.to_lowercase()));
        };
        self.skip();
        if !self.token(&Token::Period) {
            return Ok((scope, first));
        }
        let scope = match first.as_str() {
            "global" => Scope::Global,
            "session" | "local" => Scope::Session,
            _ => return self.unexpected("@@global or @@session before the '.'"),
        };
        Ok((scope, self.ident("a variable name")?.to_lowercase()))
    }

    /// What is assigned to a variable, after the sign.
    pub fn assigned_value(&mut self) -> Result<SetValue> {
        if !self.token(&Token::Eq) && !self.token(&Token::Assignment) {
            return self.unexpected("'='");
        }
        self.value()
    }

    fn value(&mut self) -> Result<SetValue> {
        let minus = self.peek(0) == &Token::Minus;
        let after = self.peek(1 + usize::from(minus));
        if matches!(after, Token::Comma | Token::RParen | Token::EOF)
            && let Some(value) = plain_value(self.peek(usize::from(minus)), minus)
        {
            self.skip();
            if minus {
                self.skip();
            }
            return Ok(value);
        }
        self.expr().map(SetValue::Expr)
    }

    /// A word, reserved or not.
    fn any_ident(&mut self, what: &str) -> Result<String> {
        let Token::Word(word) = self.peek(0) else {
            return self.unexpected(what);
        };
        let value = word.value.clone();
        self.skip();
        Ok(value)
    }
}

/// The value of a token that stands alone, if it is a literal or a word.
fn plain_value(token: &Token, minus: bool) -> Option<SetValue> {
    Some(match token {
        Token::Number(digits, _) => {
            let text = format!("{}{digits}", if minus { "-" } else { "" });
            SetValue::Literal(match text.parse() {
                Ok(number) => Datum::Int(number),
                // A number with an exponent is a DOUBLE, one with a point a DECIMAL.
                Err(_) if text.contains(['e', 'E']) => Datum::Double(text.parse().ok()?),
                Err(_) => Datum::exact(&text)?,
            })
        }
        _ if minus => return None,
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => {
            SetValue::Literal(Datum::Text(text.clone()))
        }
        Token::Word(word) if word.quote_style.is_some() => SetValue::Literal(Datum::Text(word.value.clone())),
        Token::Word(word) if word.value.starts_with('@') => return None,
        Token::Word(word) => match word.value.to_ascii_uppercase().as_str() {
            "DEFAULT" => SetValue::Default,
            "NULL" => SetValue::Literal(Datum::Null),
            "TRUE" => SetValue::Literal(Datum::Bool(true)),
            "FALSE" => SetValue::Literal(Datum::Bool(false)),
            _ => SetValue::Literal(Datum::Text(word.value.clone())),
        },
        _ => return None,
    })
}
