//! Commands to the session, and its answers to the crate's writers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use opensrv_mysql::{
    AsyncMysqlShim, Column, ColumnFlags, ColumnType, ErrorKind, InitWriter, OkResponse, ParamParser, QueryResultWriter,
    StatementMetaWriter, StatusFlags,
};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

use super::encode;
use super::error::Fault;
use super::wrap::{AUTOCOMMIT, Command, Desk, Shown};
use crate::error::{Error, Result};
use crate::fe::{Outcome, Session, interrupted};
use crate::query::RowSet;
use crate::sql;

/// The crate has no number for most of our errors; the wrapper sends ours in place of this.
const STAND_IN: ErrorKind = ErrorKind::ER_UNKNOWN_ERROR;

/// One run of the command phase.
pub struct Shim<'a> {
    /// The client's session.
    pub session: &'a mut Session,
    /// What the wrappers know.
    pub desk: Arc<Desk>,
    /// Whether a query may hold several statements: the client said so.
    pub multi_statements: bool,
    /// The client's socket, to see that it is gone.
    pub socket: &'a TcpStream,
}

/// How often a socket is looked at again that has unread input and is not closed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Returns when the client has closed the connection. Nobody reads while a statement runs, so nobody else would see.
async fn gone(socket: &TcpStream) -> io::Error {
    loop {
        match socket.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return io::ErrorKind::ConnectionAborted.into(),
            Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => return error,
        }
    }
}

/// What `work` comes to, unless the client goes away first.
async fn while_there<T>(socket: &TcpStream, work: impl Future<Output = T>) -> io::Result<T> {
    tokio::select! {
        value = work => Ok(value),
        error = gone(socket) => Err(error),
    }
}

/// What the wrappers need to know of a session.
pub fn shown(session: &Session) -> Shown {
    let variables = session.variables();
    let seconds = |name| Duration::from_secs(variables.number(name));
    Shown {
        status: if variables.flag("autocommit") { AUTOCOMMIT } else { 0 },
        wait_timeout: seconds("wait_timeout"),
        write_timeout: seconds("net_write_timeout"),
    }
}

/// The crate's writer, and whether it keeps the end of a result that it has not written yet.
struct Results<'w, W> {
    writer: QueryResultWriter<'w, W>,
    open_end: bool,
}

impl Shim<'_> {
    /// Keeps an error for SHOW WARNINGS and has it sent as the next packet.
    fn announce(&mut self, fault: &Fault, behind_end: bool) {
        self.session.set_last_error(fault.number, &fault.message);
        self.desk.replace_next(behind_end, fault.packet());
    }

    async fn fail<W: AsyncWrite + Send + Unpin>(&mut self, results: Results<'_, W>, fault: &Fault) -> io::Result<()> {
        self.announce(fault, results.open_end);
        results.writer.error(STAND_IN, b"").await
    }

    async fn ok<W: AsyncWrite + Send + Unpin>(&mut self, results: Results<'_, W>) -> io::Result<()> {
        results.writer.completed(OkResponse::default()).await
    }

    async fn query<W: AsyncWrite + Send + Unpin>(&mut self, text: &str, mut results: Results<'_, W>) -> io::Result<()> {
        let killed = self.session.process().begin("(reading the statement)".into(), "");
        let statements = sql::aside(text.len(), || sql::parse_each(text));
        if killed.is_cancelled() {
            return self.fail(results, &Fault::from(&interrupted(""))).await;
        }
        if statements.len() > 1 && !self.multi_statements {
            let error = Error::Syntax {
                line: 0,
                column: 0,
                message: "several statements in one query need CLIENT_MULTI_STATEMENTS".into(),
            };
            return self.fail(results, &Fault::from(&error)).await;
        }
        if statements.is_empty() {
            if text.trim().is_empty() {
                return self.fail(results, &Fault::new(1065, "42000", "Query was empty")).await;
            }
            return self.ok(results).await;
        }
        let last = statements.len() - 1;
        for (i, parsed) in statements.into_iter().enumerate() {
            let outcome = match parsed {
                Ok(parsed) => {
                    let outcome = while_there(self.socket, self.session.execute(&parsed)).await?;
                    sql::aside(parsed.text.len(), || drop(parsed));
                    outcome
                }
                Err(error) => Err(error),
            };
            match self.answer(outcome, results, i < last).await? {
                Some(writer) => results = writer,
                None => return Ok(()),
            }
        }
        results.writer.no_more_results().await
    }

    async fn fields<W: AsyncWrite + Send + Unpin>(
        &mut self,
        table: &str,
        pattern: &str,
        results: Results<'_, W>,
    ) -> io::Result<()> {
        let columns = while_there(self.socket, self.session.fields(table, pattern)).await?;
        match columns.and_then(|columns| encode::stand_ins(columns.len()).map(|stand_ins| (columns, stand_ins))) {
            Ok((columns, _)) if columns.is_empty() => {
                self.desk.replace_next(false, self.eof());
                self.ok(results).await
            }
            Ok((columns, stand_ins)) => {
                self.desk.announce_fields(encode::field_definitions(&columns));
                results.writer.start(stand_ins).await?.finish().await
            }
            Err(error) => self.fail(results, &Fault::from(&error)).await,
        }
    }

    fn eof(&self) -> Vec<u8> {
        let status = shown(self.session).status.to_le_bytes();
        vec![0xfe, 0, 0, status[0], status[1]]
    }

    /// Writes what a statement came to. `None` after an error, which is the last answer to a command.
    async fn answer<'w, W: AsyncWrite + Send + Unpin>(
        &mut self,
        outcome: Result<Outcome>,
        results: Results<'w, W>,
        more: bool,
    ) -> io::Result<Option<Results<'w, W>>> {
        self.desk.set_session(shown(self.session));
        match outcome {
            Ok(Outcome::Done { affected, info, .. }) => {
                let status_flags = if more { StatusFlags::SERVER_MORE_RESULTS_EXISTS } else { StatusFlags::empty() };
                let ok = OkResponse { affected_rows: affected, info, status_flags, ..OkResponse::default() };
                // The crate writes the OK of the statement before, and keeps this one.
                let writer = results.writer.complete_one(ok).await?;
                self.desk.set_warnings(self.session.warnings());
                Ok(Some(Results { writer, open_end: true }))
            }
            Ok(Outcome::Rows { rows, .. }) => self.rows(rows, results).await,
            Err(error) => self.fail(results, &Fault::from(&error)).await.map(|()| None),
        }
    }

    async fn rows<'w, W: AsyncWrite + Send + Unpin>(
        &mut self,
        rows: RowSet,
        results: Results<'w, W>,
    ) -> io::Result<Option<Results<'w, W>>> {
        let RowSet { columns, mut batches } = rows;
        let stand_ins = match encode::stand_ins(columns.len()) {
            Ok(stand_ins) => stand_ins,
            Err(error) => return self.fail(results, &Fault::from(&error)).await.map(|()| None),
        };
        self.desk.announce_rows(results.open_end, encode::definitions(&columns));
        let mut writer = results.writer.start(stand_ins).await?;
        self.desk.set_warnings(self.session.warnings());
        loop {
            let batch = match while_there(self.socket, batches.next()).await? {
                None => break,
                Some(batch) => batch.and_then(|batch| encode::check(&batch, &columns).map(|()| batch)),
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    self.announce(&Fault::from(&error), false);
                    writer.finish_error(STAND_IN, &Vec::new()).await?;
                    return Ok(None);
                }
            };
            for row in 0..batch.num_rows() {
                writer.write_row(encode::cells(&batch, &columns, row)).await?;
                self.desk.end_row();
            }
        }
        let writer = writer.finish_one().await?;
        Ok(Some(Results { writer, open_end: true }))
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Shim<'_> {
    type Error = io::Error;

    /// The crate is told that every user has no plugin, which makes it believe the login that the wrapper plays to it.
    async fn auth_plugin_for_username(&self, _: &[u8]) -> &str {
        ""
    }

    async fn on_query<'a>(&'a mut self, _: &'a str, results: QueryResultWriter<'a, W>) -> io::Result<()> {
        let results = Results { writer: results, open_end: false };
        let answer = match self.desk.take_command() {
            Some(Command::Query(text)) => self.query(&text, results).await,
            Some(Command::FieldList(table, pattern)) => self.fields(&table, &pattern, results).await,
            Some(Command::Refuse(fault)) => self.fail(results, &fault).await,
            Some(Command::Statistics) => {
                self.desk.replace_next(false, self.session.statistics().into_bytes());
                self.ok(results).await
            }
            Some(Command::MultiStatements(allowed)) => {
                self.multi_statements = allowed;
                // MySQL answers this one with an EOF.
                self.desk.replace_next(false, self.eof());
                self.ok(results).await
            }
            Some(Command::Kill(connection)) => match self.session.kill(connection.into(), false) {
                Ok(()) => self.ok(results).await,
                Err(error) => self.fail(results, &Fault::from(&error)).await,
            },
            Some(Command::Reset) => self.ok(results).await,
            Some(Command::InitDb(_) | Command::Prepare(_) | Command::Execute(_)) | None => {
                self.fail(results, &Fault::unknown_command()).await
            }
        };
        self.session.rest();
        answer
    }

    async fn on_init<'a>(&'a mut self, _: &'a str, writer: InitWriter<'a, W>) -> io::Result<()> {
        let Some(Command::InitDb(name)) = self.desk.take_command() else {
            // The crate's own connection phase.
            return writer.ok().await;
        };
        match self.session.use_database(&name) {
            Ok(()) => writer.ok().await,
            Err(error) => {
                self.announce(&Fault::from(&error), false);
                writer.error(STAND_IN, b"".as_slice()).await
            }
        }
    }

    async fn on_prepare<'a>(&'a mut self, _: &'a str, writer: StatementMetaWriter<'a, W>) -> io::Result<()> {
        let prepared = match self.desk.take_command() {
            Some(Command::Prepare(text)) => self.session.prepare(&text),
            _ => Err(Error::internal("a prepare without its text")),
        };
        match prepared {
            Ok((id, params)) => {
                let columns = while_there(self.socket, self.session.describe_prepared(id)).await?;
                let stand_ins = encode::stand_ins(columns.len()).unwrap_or_default();
                let param = Column {
                    table: String::new(),
                    column: "?".into(),
                    coltype: ColumnType::MYSQL_TYPE_VAR_STRING,
                    colflags: ColumnFlags::empty(),
                };
                self.desk.announce_prepared(id, params, encode::definitions(&columns[..stand_ins.len()]));
                writer.reply(id, &vec![param; params], stand_ins).await
            }
            Err(error) => {
                self.announce(&Fault::from(&error), false);
                writer.error(STAND_IN, b"".as_slice()).await
            }
        }
    }

    async fn on_execute<'a>(
        &'a mut self,
        id: u32,
        _: ParamParser<'a>,
        results: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        let outcome = match self.desk.take_command() {
            Some(Command::Execute(params)) => {
                while_there(self.socket, self.session.execute_prepared(id, &params)).await?
            }
            _ => Err(Error::internal("an execute without its values")),
        };
        let results = Results { writer: results, open_end: false };
        let answer = match self.answer(outcome, results, false).await {
            Ok(Some(results)) => results.writer.no_more_results().await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.session.rest();
        answer
    }

    async fn on_close<'a>(&'a mut self, id: u32)
    where
        W: 'async_trait,
    {
        self.session.close(id);
    }
}
