//! Prepared statements.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::sql::{self, Parsed, Statement};
use crate::types::{Datum, Entity, Kind};

/// The most of one session, as in MySQL.
const MAX_PREPARED: usize = 16382;

/// Bytes of their texts.
const MAX_TEXT: usize = 64 << 20;

/// Those of a session: by number for the binary protocol, by name for PREPARE.
#[derive(Default)]
pub(super) struct PreparedStatements {
    by_id: HashMap<u32, Arc<Parsed>>,
    by_name: HashMap<String, Arc<Parsed>>,
    last_id: u32,
}

impl PreparedStatements {
    /// Keeps a statement; returns its id and how many values it takes.
    pub(super) fn number(&mut self, text: &str) -> Result<(u32, usize)> {
        let parsed = self.parse(text, None)?;
        let params = sql::placeholders(&parsed.statement);
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if !self.by_id.contains_key(&self.last_id) {
                break;
            }
        }
        self.by_id.insert(self.last_id, Arc::new(parsed));
        Ok((self.last_id, params))
    }

    /// Keeps a statement in the place of the one with its name, if there is one.
    pub(super) fn name(&mut self, name: &str, text: &str) -> Result<()> {
        let parsed = Arc::new(self.parse(text, self.by_name.get(name))?);
        self.by_name.insert(name.to_owned(), parsed);
        Ok(())
    }

    pub(super) fn numbered(&self, id: u32) -> Result<Arc<Parsed>> {
        self.by_id.get(&id).cloned().ok_or_else(|| unknown(id))
    }

    pub(super) fn named(&self, name: &str) -> Result<Arc<Parsed>> {
        self.by_name.get(name).cloned().ok_or_else(|| unknown(name))
    }

    /// Drops one by its number; one that is not there is no error.
    pub(super) fn close(&mut self, id: u32) {
        self.by_id.remove(&id);
    }

    /// Drops one by its name.
    pub(super) fn deallocate(&mut self, name: &str) -> Result<()> {
        self.by_name.remove(name).map(drop).ok_or_else(|| unknown(name))
    }

    /// A statement that there is room for, once the one that it replaces has gone.
    fn parse(&self, text: &str, replaced: Option<&Arc<Parsed>>) -> Result<Parsed> {
        if self.by_id.len() + self.by_name.len() >= MAX_PREPARED + usize::from(replaced.is_some()) {
            return Err(Error::Refused(format!("Can't create more than {MAX_PREPARED} prepared statements")));
        }
        let held: usize = self.by_id.values().chain(self.by_name.values()).map(|parsed| parsed.text.len()).sum();
        if held + text.len() > MAX_TEXT + replaced.map_or(0, |replaced| replaced.text.len()) {
            return Err(Error::Refused(format!(
                "the prepared statements of a session have at most {MAX_TEXT} bytes; DEALLOCATE some"
            )));
        }
        let mut statements = sql::aside(text.len(), || sql::parse(text))?;
        let (Some(parsed), true) = (statements.pop(), statements.is_empty()) else {
            return Err(Error::Analysis("PREPARE takes exactly one statement".into()));
        };
        match parsed.statement {
            Statement::Prepare { .. } | Statement::Execute { .. } | Statement::Deallocate { .. } => {
                Err(Error::Unsupported("PREPARE, EXECUTE and DEALLOCATE in a prepared statement".into()))
            }
            _ => Ok(parsed),
        }
    }
}

/// A statement with values in the place of its `?`.
pub(super) fn bind(prepared: &Parsed, params: &[Datum]) -> Result<Parsed> {
    Ok(Parsed {
        statement: sql::bind(&prepared.statement, params)?,
        text: prepared.text.clone(),
        hints: prepared.hints.clone(),
    })
}

fn unknown(name: impl std::fmt::Display) -> Error {
    Error::NotFound(Entity::new(Kind::PreparedStatement, name))
}
