use sqlparser::tokenizer::Token;

use super::parser::P;
use super::{Address, Statement};
use crate::error::{Error, Result};

impl P<'_> {
    /// ALTER SYSTEM, ADMIN SET, and the UPDATE of a BE's configuration.
    pub fn admin(&mut self) -> Result<Option<Statement>> {
        Ok(Some(if self.words("ALTER SYSTEM ADD BACKEND") {
            Statement::AddBackends(self.list(Self::address)?)
        } else if self.words("ALTER SYSTEM DROP BACKEND") {
            Statement::DropBackends { backends: self.list(Self::address)?, force: self.words("FORCE") }
        } else if self.words("ADMIN SET FRONTEND CONFIG") {
            self.need_token(&Token::LParen)?;
            let (key, value) = self.property()?;
            self.need_token(&Token::RParen)?;
            if self.words("WITH PERSISTENT") {
                return Err(Error::Unsupported(
                    "ADMIN SET FRONTEND CONFIG … WITH PERSISTENT; write the key to fe.conf".into(),
                ));
            }
            Statement::SetFrontendConfig { key, value }
        } else if self.words("UPDATE") {
            self.backend_config()?
        } else {
            return Ok(None);
        }))
    }

    fn address(&mut self) -> Result<Address> {
        let text = self.string()?;
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let port = port.parse().ok().filter(|port| *port > 0)?;
            (!host.is_empty() && !host.contains(['/', ' ', '@'])).then(|| Address { host: host.to_owned(), port })
        });
        parsed.ok_or_else(|| Error::Analysis(format!("backend '{text}' is not of the form \"host:port\"")))
    }

    /// What follows UPDATE, which must be `[information_schema.]be_configs SET value = … WHERE name = …`.
    fn backend_config(&mut self) -> Result<Statement> {
        let table = self.table_name()?;
        let is = |name: Option<&str>, known: &str| name.is_some_and(|name| name.eq_ignore_ascii_case(known));
        let database = table.database.as_deref();
        let known = (database.is_none() || is(database, "information_schema")) && is(Some(&table.table), "be_configs");
        if !known {
            return Err(Error::Unsupported(format!(
                "UPDATE {table}; only information_schema.be_configs can be updated"
            )));
        }
        self.need("SET")?;
        self.config_column("value")?;
        let value = self.config_value()?;
        self.need("WHERE")?;
        let (mut key, mut backend) = (None, None);
        loop {
            if key.is_none() && self.at(0, "name") {
                self.config_column("name")?;
                key = Some(self.config_value()?);
            } else if backend.is_none() && self.at(0, "be_id") {
                self.config_column("be_id")?;
                backend = Some(self.number("a backend id")?);
            } else {
                return self.unexpected("name = … or BE_ID = …");
            }
            if !self.words("AND") {
                break;
            }
        }
        match key {
            Some(key) => Ok(Statement::SetBackendConfig { table, key, value, backend }),
            None => self.unexpected("AND name = …"),
        }
    }

    fn config_column(&mut self, name: &str) -> Result<()> {
        match self.peek(0) {
            Token::Word(word) if word.value.eq_ignore_ascii_case(name) => self.skip(),
            _ => return self.unexpected(name),
        }
        self.need_token(&Token::Eq)
    }

    fn config_value(&mut self) -> Result<String> {
        let value = match self.peek(0) {
            Token::Number(digits, _) => digits.clone(),
            Token::Word(word) if ["TRUE", "FALSE"].iter().any(|w| w.eq_ignore_ascii_case(&word.value)) => {
                word.value.to_lowercase()
            }
            _ => return self.string(),
        };
        self.skip();
        Ok(value)
    }
}
