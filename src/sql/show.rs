//! SHOW, ADMIN SHOW and DESC.

use sqlparser::ast::{BinaryOperator, Expr};
use sqlparser::tokenizer::Token;

use super::parser::P;
use super::{Filter, Page, Scope, Show, query};
use crate::error::{Error, Result};
use crate::types::{Kind, Name};

/// StarRocks' text for every other WHERE of SHOW SNAPSHOT.
const SNAPSHOT_WHERE: &str =
    "Where clause should looks like: SNAPSHOT = 'your_snapshot_name' [AND TIMESTAMP = '2018-04-18-19-19-10']";

impl P<'_> {
    /// SHOW, ADMIN SHOW FRONTEND CONFIG, DESC.
    pub fn show(&mut self) -> Result<Option<Show>> {
        if self.words("SHOW") {
            let show = self.shown()?;
            if self.peek_words("ORDER BY") || self.at(0, "LIMIT") {
                return self.unexpected(
                    "the end of the statement: of all SHOWs only SHOW PARTITIONS and SHOW TABLET take ORDER BY and \
                     LIMIT, SHOW WARNINGS takes LIMIT, and information_schema has the rest",
                );
            }
            return Ok(Some(show));
        }
        if self.words("ADMIN SHOW FRONTEND CONFIG") {
            return Ok(Some(Show::FrontendConfig(self.filter()?)));
        }
        if self.any_word(&["DESC", "DESCRIBE"]) {
            return self.described().map(Some);
        }
        Ok(None)
    }

    fn described(&mut self) -> Result<Show> {
        if ["SELECT", "WITH", "INSERT", "FILES"].iter().any(|word| self.at(0, word)) {
            return Err(Error::Unsupported("DESC of a statement".into()));
        }
        let table = self.table_name()?;
        if self.words("ALL") {
            return Err(Error::Unsupported("DESC … ALL".into()));
        }
        let filter = match self.optional_string() {
            Some(pattern) => Some(Filter::Like(pattern)),
            None if self.at_end() => None,
            None => Some(Filter::Like(self.ident("a column name")?)),
        };
        Ok(Show::Columns { table, full: false, filter })
    }

    fn shown(&mut self) -> Result<Show> {
        let full = self.words("FULL");
        if self.any_word(&["COLUMNS", "FIELDS"]) {
            return Ok(Show::Columns { table: self.table_from()?, full, filter: self.filter()? });
        }
        if self.words("TABLES") {
            return Ok(Show::Tables { full, database: self.optional_from()?, filter: self.filter()? });
        }
        if self.words("PROCESSLIST") {
            return Ok(Show::Processlist { full });
        }
        if full {
            return self.unexpected("TABLES, COLUMNS or PROCESSLIST");
        }
        if let Some(show) = self.shown_job()? {
            return Ok(show);
        }
        if let Some(show) = self.shown_object()? {
            return Ok(show);
        }
        if let Some(show) = self.shown_server()? {
            return Ok(show);
        }
        if self.at_end() {
            return self.unexpected("what to show");
        }
        Err(Error::Unsupported(self.unknown_show()))
    }

    fn shown_job(&mut self) -> Result<Option<Show>> {
        Ok(Some(if self.words("REPOSITORIES") {
            Show::Repositories(self.filter()?)
        } else if self.words("BACKUP RAW") {
            Show::BackupRaw(self.storage_uri("FROM")?)
        } else if self.words("BACKUP") {
            Show::Backup { database: self.optional_from()?, filter: self.filter()? }
        } else if self.words("RESTORE") {
            Show::Restore { database: self.optional_from()?, filter: self.filter()? }
        } else if self.words("SNAPSHOT") {
            self.need("ON")?;
            let repository = self.name(Kind::Repository)?;
            self.shown_snapshot(repository)?
        } else {
            return Ok(None);
        }))
    }

    fn shown_snapshot(&mut self, repository: Name) -> Result<Show> {
        let (mut snapshots, mut timestamp) = (Vec::new(), None);
        if self.words("WHERE") {
            let condition = self.expr()?;
            self.end()?;
            let found = snapshot_filter(&condition, &mut snapshots, &mut timestamp);
            if found.is_none() || timestamp.is_some() && snapshots.len() != 1 {
                return Err(Error::Refused(SNAPSHOT_WHERE.into()));
            }
        }
        Ok(Show::Snapshot { repository, snapshots, timestamp })
    }

    fn shown_object(&mut self) -> Result<Option<Show>> {
        Ok(Some(if self.any_word(&["DATABASES", "SCHEMAS"]) {
            if self.any_word(&["FROM", "IN"]) {
                return Err(Error::Unsupported("SHOW DATABASES FROM a catalog".into()));
            }
            Show::Databases(self.filter()?)
        } else if self.words("TABLE STATUS") {
            Show::TableStatus { database: self.optional_from()?, filter: self.filter()? }
        } else if self.words("CREATE TABLE") {
            Show::CreateTable(self.table_name()?)
        } else if self.words("CREATE REPOSITORY") {
            Show::CreateRepository(self.name(Kind::Repository)?)
        } else if self.words("CREATE DATABASE") || self.words("CREATE SCHEMA") {
            self.words("IF NOT EXISTS");
            Show::CreateDatabase(self.database_name()?)
        } else if self.words("PARTITIONS") {
            Show::Partitions { table: self.table_from()?, filter: self.filter()?, page: self.page()? }
        } else if self.any_word(&["TABLETS", "TABLET"]) {
            if matches!(self.peek(0), Token::Number(..)) {
                return Err(Error::Unsupported("SHOW TABLET by id; write SHOW TABLET FROM table".into()));
            }
            let (table, partitions) = (self.table_from()?, self.partitions()?);
            Show::Tablets { table, partitions, filter: self.filter()?, page: self.page()? }
        } else if self.any_word(&["INDEX", "INDEXES", "KEYS", "KEY"]) {
            Show::Index { table: self.table_from()?, filter: self.filter()? }
        } else {
            return Ok(None);
        }))
    }

    fn shown_server(&mut self) -> Result<Option<Show>> {
        let scope = if self.words("GLOBAL") {
            Some(Scope::Global)
        } else if self.any_word(&["SESSION", "LOCAL"]) {
            Some(Scope::Session)
        } else {
            None
        };
        if self.words("VARIABLES") {
            return Ok(Some(Show::Variables { scope: scope.unwrap_or(Scope::Session), filter: self.filter()? }));
        }
        if self.words("STATUS") {
            return Ok(Some(Show::Status { scope: scope.unwrap_or(Scope::Session), filter: self.filter()? }));
        }
        if scope.is_some() {
            return self.unexpected("VARIABLES or STATUS");
        }
        Ok(Some(if self.words("BACKENDS") {
            Show::Backends
        } else if self.words("FRONTENDS") {
            Show::Frontends
        } else if self.at(0, "WARNINGS") || self.at(0, "ERRORS") {
            let errors_only = self.at(0, "ERRORS");
            self.skip();
            Show::Warnings { errors_only, page: Page { limit: self.limit()?, ..Page::default() } }
        } else if self.at(0, "COUNT") && self.peek(1) == &Token::LParen {
            self.skip();
            for token in [Token::LParen, Token::Mul, Token::RParen] {
                self.need_token(&token)?;
            }
            let errors_only = self.words("ERRORS");
            if !errors_only {
                self.need("WARNINGS")?;
            }
            Show::WarningCount { errors_only }
        } else if self.words("ENGINES") || self.words("STORAGE ENGINES") {
            Show::Engines
        } else if self.words("CHARACTER SET") || self.words("CHARSET") {
            Show::CharacterSet(self.filter()?)
        } else if self.words("COLLATION") {
            Show::Collation(self.filter()?)
        } else if self.words("GRANTS") {
            Show::Grants(if self.words("FOR") { self.optional_user()? } else { None })
        } else if self.words("CATALOGS") {
            Show::Catalogs(self.filter()?)
        } else if self.words("PLUGINS") {
            Show::Plugins
        } else if self.words("USERS") {
            Show::Users
        } else if self.words("TRIGGERS") {
            self.optional_from()?;
            self.filter()?;
            Show::Triggers
        } else if self.words("EVENTS") {
            self.optional_from()?;
            self.filter()?;
            Show::Events
        } else if self.words("PROCEDURE STATUS") {
            self.filter()?;
            Show::ProcedureStatus
        } else if self.words("FUNCTION STATUS") {
            self.filter()?;
            Show::FunctionStatus
        } else {
            return Ok(None);
        }))
    }

    /// `LIKE 'pattern'` or `WHERE expression`, if one is next.
    fn filter(&mut self) -> Result<Option<Filter>> {
        Ok(if self.words("LIKE") {
            Some(Filter::Like(self.string()?))
        } else if self.words("WHERE") {
            Some(Filter::Where(self.expr()?))
        } else {
            None
        })
    }

    /// `ORDER BY column [ASC|DESC], …` and `LIMIT [skip,] n [OFFSET skip]`, as far as they are next.
    fn page(&mut self) -> Result<Page> {
        let mut page = Page::default();
        if self.words("ORDER BY") {
            page.order_by = self.list(|p| {
                let column = p.ident("a column of the result")?;
                let descends = p.words("DESC");
                if !descends {
                    p.words("ASC");
                }
                Ok((column, descends))
            })?;
        }
        page.limit = self.limit()?;
        Ok(page)
    }

    /// `LIMIT [skip,] n [OFFSET skip]`, if it is next: how many rows are left out, and how many may follow.
    fn limit(&mut self) -> Result<Option<(usize, usize)>> {
        if !self.words("LIMIT") {
            return Ok(None);
        }
        let first = self.number("a number of rows")?;
        Ok(Some(if self.token(&Token::Comma) {
            (first, self.number("a number of rows")?)
        } else if self.words("OFFSET") {
            (self.number("a number of rows")?, first)
        } else {
            (0, first)
        }))
    }

    /// `SHOW` and the words that follow, for the error that names it.
    fn unknown_show(&self) -> String {
        let mut name = "SHOW".to_owned();
        for n in 0..2 {
            let Token::Word(word) = self.peek(n) else {
                break;
            };
            if word.quote_style.is_some() || ["FROM", "ON", "IN", "LIKE", "WHERE", "FOR"].iter().any(|w| self.at(n, w))
            {
                break;
            }
            name.push(' ');
            name.extend(word.value.to_uppercase().chars().take(64));
        }
        name
    }
}

/// Reads `SNAPSHOT = 's'`, `SNAPSHOT IN ('s', …)` and `TIMESTAMP = 't'`, joined by AND; `None` for anything else.
fn snapshot_filter(condition: &Expr, snapshots: &mut Vec<String>, timestamp: &mut Option<String>) -> Option<()> {
    match condition {
        Expr::Nested(inner) => snapshot_filter(inner, snapshots, timestamp),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            snapshot_filter(left, snapshots, timestamp)?;
            snapshot_filter(right, snapshots, timestamp)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let value = text(right)?;
            if is_column(left, "SNAPSHOT") && snapshots.is_empty() {
                snapshots.push(value);
                Some(())
            } else if is_column(left, "TIMESTAMP") && timestamp.is_none() {
                *timestamp = Some(value);
                Some(())
            } else {
                None
            }
        }
        Expr::InList { expr, list, negated: false } if is_column(expr, "SNAPSHOT") && snapshots.is_empty() => {
            *snapshots = list.iter().map(text).collect::<Option<_>>()?;
            Some(())
        }
        _ => None,
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.value.eq_ignore_ascii_case(name))
}

fn text(expr: &Expr) -> Option<String> {
    query::string(expr).filter(|text| !text.is_empty()).map(str::to_owned)
}
