//! What a client's connection remembers between statements, and the statements that are about nothing else.
//!
//! Every statement commits by itself. BEGIN, COMMIT, ROLLBACK and `autocommit` are accepted because every driver sends
//! them, and change nothing: a ROLLBACK undoes nothing, as in StarRocks. Only READ ONLY is kept to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arrow::array::Array;
use arrow::array::AsArray;
use arrow::array::RecordBatch;
use arrow::datatypes::Date32Type;
use arrow::datatypes::Decimal128Type;
use arrow::datatypes::Float64Type;
use arrow::datatypes::Int8Type;
use arrow::datatypes::Int16Type;
use arrow::datatypes::Int32Type;
use arrow::datatypes::Int64Type;
use arrow::datatypes::TimestampMicrosecondType;
use async_trait::async_trait;
use futures::FutureExt;
use futures::StreamExt;
use futures::stream;
use imbl::OrdMap;
use sqlparser::ast::Query;
use sqlparser::ast::TableFactor;
use sqlparser::ast::Visit;
use sqlparser::ast::Visitor;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Accounts;
use super::Listing;
use super::Outcome;
use super::Process;
use super::ProcessEntry;
use super::ProcessList;
use super::ROOT;
use super::Variables;
use super::listing::like;
use super::variables::of_scope;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::error::Error;
use crate::error::Result;
use crate::query::ResultColumn;
use crate::query::RowSet;
use crate::sql;
use crate::sql::Assignment;
use crate::sql::Parsed;
use crate::sql::PrepareSource;
use crate::sql::Scope;
use crate::sql::SetValue;
use crate::sql::Show;
use crate::sql::Statement;
use crate::sql::UserName;
use crate::types::ColumnType;
use crate::types::Datum;
use crate::types::Entity;
use crate::types::Kind;
use crate::types::Name;
use crate::types::Timestamp;

/// The database that every server has without creating it.
const INFORMATION_SCHEMA: &str = "information_schema";

/// The one catalog there is, which StarRocks' clients put before a database's name.
const DEFAULT_CATALOG: &str = "default_catalog.";

/// The most prepared statements of one session, as in MySQL.
const MAX_PREPARED: usize = 16382;

/// How much of a statement SHOW PROCESSLIST shows without FULL.
const PROCESS_INFO: usize = 100;

/// Whoever runs the statements that a session does not answer by itself.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Runs one statement. The call is dropped at any await when the client is killed or gone: what must not be left
    /// half done goes to a task of its own. So is the stream of rows.
    async fn run(&self, context: &StatementContext, statement: &Parsed) -> Result<Outcome>;

    /// The columns that a query's result would have. Spans in it count from the beginning of `text`.
    async fn describe(&self, context: &StatementContext, query: &Query, text: &str) -> Result<Vec<ResultColumn>>;
}

/// What a statement may know of the session it is in.
#[derive(Debug, Clone)]
pub struct StatementContext {
    /// The connection: `CONNECTION_ID()`.
    pub connection: u32,
    /// Who asks.
    pub user: Name,
    /// From where.
    pub peer: SocketAddr,
    /// The current database: `DATABASE()`.
    pub database: Option<Name>,
    /// The session's variables: `@@x`, `@@session.x`.
    pub variables: Variables,
    /// Those that new sessions begin with: `@@global.x`.
    pub global_variables: Variables,
    /// `@x`, by names in lower case.
    pub user_variables: OrdMap<String, Datum>,
    /// Cancelled when a KILL ends the statement.
    pub cancel: CancellationToken,
}

impl StatementContext {
    /// Whether the user may do more than read.
    pub fn is_root(&self) -> bool {
        &*self.user == ROOT
    }

    /// What `USER()` and `CURRENT_USER()` show.
    pub fn user_at_host(&self) -> String {
        format!("{}@{}", self.user, self.peer.ip().to_canonical())
    }
}

/// What all sessions share.
pub struct Sessions {
    /// Who may log in.
    pub accounts: Accounts,
    /// The connections there are.
    pub processes: Arc<ProcessList>,
    catalog: Arc<Catalog>,
    executor: Arc<dyn Executor>,
    clock: Clock,
    started: Timestamp,
    /// What new sessions begin with. SET GLOBAL lasts until the server ends, as in MySQL.
    globals: ArcSwap<Variables>,
}

impl Sessions {
    /// The sessions of an FE, which takes so many connections.
    pub fn new(catalog: Arc<Catalog>, clock: Clock, executor: Arc<dyn Executor>, max_connections: u32) -> Arc<Self> {
        let offset = clock.now().utc().with_timezone(&chrono::Local).offset().to_string();
        let time_zone = if offset == "+00:00" { "UTC".to_owned() } else { offset };
        Arc::new(Self {
            accounts: Accounts::new(catalog.clone()),
            processes: ProcessList::new(clock.clone()),
            catalog,
            executor,
            started: clock.now(),
            clock,
            globals: ArcSwap::from_pointee(Variables::new(time_zone, max_connections)),
        })
    }

    /// A session of a user who has logged in on a connection that [`ProcessList::fresh_id`] numbered.
    pub fn open(self: &Arc<Self>, id: u32, user: Name, peer: SocketAddr) -> Session {
        Session {
            entry: self.processes.enter(id, user.clone(), peer),
            variables: (**self.globals.load()).clone(),
            user_variables: OrdMap::new(),
            user,
            database: None,
            prepared: HashMap::new(),
            prepared_by_name: HashMap::new(),
            last_statement_id: 0,
            transaction_read_only: None,
            diagnostics: Vec::new(),
            shared: self.clone(),
        }
    }

    /// Seconds since the start, and connections.
    pub fn uptime_and_connections(&self) -> (i64, usize) {
        ((self.clock.now().0 - self.started.0) / 1000, self.processes.all().len())
    }
}

/// The number of all warnings: MySQL's "not supported".
const WARNING: u16 = 1235;

/// A row of SHOW WARNINGS.
struct Diagnostic {
    level: &'static str,
    number: u16,
    message: String,
}

/// One client's connection.
pub struct Session {
    shared: Arc<Sessions>,
    entry: ProcessEntry,
    user: Name,
    database: Option<Name>,
    variables: Variables,
    user_variables: OrdMap<String, Datum>,
    prepared: HashMap<u32, Arc<Parsed>>,
    prepared_by_name: HashMap<String, Arc<Parsed>>,
    last_statement_id: u32,
    /// What START TRANSACTION has said, until the transaction ends.
    transaction_read_only: Option<bool>,
    /// What SHOW WARNINGS tells of the last statement.
    diagnostics: Vec<Diagnostic>,
}

impl Session {
    /// The connection in the process list.
    pub fn process(&self) -> &Arc<Process> {
        &self.entry.process
    }

    /// Who is logged in.
    pub fn user(&self) -> &Name {
        &self.user
    }

    /// The session's variables.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Forgets all but the user and the database: COM_RESET_CONNECTION.
    pub fn reset(&mut self) {
        self.variables = (**self.shared.globals.load()).clone();
        self.user_variables = OrdMap::new();
        self.prepared.clear();
        self.prepared_by_name.clear();
        self.transaction_read_only = None;
        self.diagnostics.clear();
    }

    /// Forgets everything and belongs to another user: COM_CHANGE_USER.
    pub fn change_user(&mut self, user: Name) {
        self.reset();
        self.user = user;
        self.database = None;
        self.entry.process.set_place(self.user.clone(), None);
    }

    /// Makes a database the current one.
    pub fn use_database(&mut self, name: &str) -> Result<()> {
        let name = name.strip_prefix(DEFAULT_CATALOG).unwrap_or(name);
        let name = if name.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
            Name::new(INFORMATION_SCHEMA).expect("it is a name")
        } else {
            self.shared.catalog.image().database(name)?.name.clone()
        };
        self.database = Some(name);
        self.entry.process.set_place(self.user.clone(), self.database.clone());
        Ok(())
    }

    /// Runs one statement. Rows must be read, or dropped, before [`Session::rest`].
    pub async fn execute(&mut self, parsed: &Parsed) -> Result<Outcome> {
        let runs = match &parsed.statement {
            Statement::Execute { name, .. } => self.prepared_by_name.get(name).map(|prepared| &prepared.statement),
            statement => Some(statement),
        };
        let left = match runs {
            Some(Statement::Backup(_)) => "; a job that has begun goes on: see SHOW BACKUP, and CANCEL BACKUP ends it",
            Some(Statement::BackupRaw(_)) => {
                "; a job that has begun goes on: see SHOW BACKUP, and CANCEL BACKUP FROM rawkv ends it"
            }
            Some(Statement::RestoreRaw(_)) => {
                "; a job that has begun goes on: see SHOW RESTORE, and CANCEL RESTORE FROM rawkv ends it"
            }
            Some(Statement::Restore(_)) => {
                "; a job that has begun goes on: see SHOW RESTORE, and CANCEL RESTORE ends it"
            }
            _ => "",
        };
        let limits = match runs {
            Some(Statement::Query(_)) => Limits::of_query(&self.variables),
            _ => Limits::default(),
        };
        let cancel = self.entry.process.begin(sql::aside(parsed.text.len(), || sql::mask_secrets(&parsed.text)), left);
        if !matches!(parsed.statement, Statement::Show(Show::Warnings | Show::Errors)) {
            self.diagnostics.clear();
        }
        let work = AssertUnwindSafe(self.dispatch(parsed, &cancel)).catch_unwind();
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(interrupted(left)),
            err = limits.reached() => return Err(err),
            outcome = work => outcome.unwrap_or_else(|panic| Err(bug(&*panic)))?,
        };
        if let Outcome::Done { warnings, .. } = &outcome {
            let warning = |message: &String| Diagnostic { level: "Warning", number: WARNING, message: message.clone() };
            self.diagnostics.extend(warnings.iter().map(warning));
        }
        Ok(match outcome {
            Outcome::Done { .. } => outcome,
            Outcome::Rows(rows) => Outcome::Rows(guarded(rows, cancel, limits)),
        })
    }

    /// Says that the statement and its rows have come to their end.
    pub fn rest(&self) {
        self.entry.process.rest();
    }

    /// Keeps the error that a client was told, for SHOW WARNINGS.
    pub fn set_last_error(&mut self, number: u16, message: &str) {
        // A statement that could not be parsed has not cleared those of the one before.
        self.diagnostics = vec![Diagnostic { level: "Error", number, message: message.to_owned() }];
    }

    /// Prepares a statement; returns its id and how many values it takes.
    pub fn prepare(&mut self, text: &str) -> Result<(u32, usize)> {
        let parsed = self.parse_prepared(text)?;
        let params = sql::placeholders(&parsed.statement);
        let mut id = self.last_statement_id;
        loop {
            id = id.wrapping_add(1).max(1);
            if !self.prepared.contains_key(&id) {
                break;
            }
        }
        self.last_statement_id = id;
        self.prepared.insert(id, Arc::new(parsed));
        Ok((id, params))
    }

    /// The columns that a prepared statement's result will have, as far as that is known: none if it has no result, and
    /// none if they cannot be known before its values are. A column that depends on such a value may get another type.
    pub async fn describe_prepared(&self, id: u32) -> Vec<ResultColumn> {
        let Some(prepared) = self.prepared.get(&id) else { return Vec::new() };
        let params = sql::placeholders(&prepared.statement);
        // LIMIT takes no NULL.
        for value in [Datum::Null, Datum::Int(0)] {
            if let Ok(bound) = bind(prepared, &vec![value; params])
                && let Ok(Ok(columns)) = AssertUnwindSafe(self.describe(&bound)).catch_unwind().await
            {
                return columns;
            }
        }
        Vec::new()
    }

    /// The columns of a table whose names are like a pattern: COM_FIELD_LIST.
    pub async fn fields(&self, table: &str, pattern: &str) -> Result<Vec<ResultColumn>> {
        let query = sql::parse(&format!("SELECT * FROM `{}`", table.replace('`', "``")))?;
        let query = query.first().ok_or_else(|| Error::internal("SELECT is no statement"))?;
        let columns = self.describe(query).await?;
        Ok(columns.into_iter().filter(|column| pattern.is_empty() || like(&column.name, pattern)).collect())
    }

    async fn describe(&self, parsed: &Parsed) -> Result<Vec<ResultColumn>> {
        self.check_allowed(&parsed.statement)?;
        let context = self.context(&CancellationToken::new());
        match &parsed.statement {
            Statement::Query(query) => self.shared.executor.describe(&context, query, &parsed.text).await,
            Statement::Show(show) => match self.show(show)? {
                Some(listing) => Ok(listing.into_rows().columns),
                None => match self.shared.executor.run(&context, parsed).await? {
                    Outcome::Rows(rows) => Ok(rows.columns),
                    Outcome::Done { .. } => Ok(Vec::new()),
                },
            },
            _ => Ok(Vec::new()),
        }
    }

    /// Runs a prepared statement; see [`Session::execute`].
    pub async fn execute_prepared(&mut self, id: u32, params: &[Datum]) -> Result<Outcome> {
        let prepared = self.prepared.get(&id).cloned().ok_or_else(|| unknown_prepared(id))?;
        let bound = bind(&prepared, params)?;
        self.execute(&bound).await
    }

    /// Drops a prepared statement.
    pub fn close(&mut self, id: u32) {
        self.prepared.remove(&id);
    }

    /// KILL, by statement or by command.
    pub fn kill(&self, connection: u64, query_only: bool) -> Result<()> {
        let process = self.shared.processes.get(connection)?;
        if process.state().user != self.user {
            self.need_root("OPERATE", "SYSTEM")?;
        }
        process.kill(query_only);
        Ok(())
    }

    /// The line that COM_STATISTICS answers.
    pub fn statistics(&self) -> String {
        let (uptime, connections) = self.shared.uptime_and_connections();
        format!("Uptime: {uptime}  Threads: {connections}")
    }

    fn context(&self, cancel: &CancellationToken) -> StatementContext {
        StatementContext {
            connection: self.entry.process.id,
            user: self.user.clone(),
            peer: self.entry.process.peer,
            database: self.database.clone(),
            variables: self.variables.clone(),
            global_variables: (**self.shared.globals.load()).clone(),
            user_variables: self.user_variables.clone(),
            cancel: cancel.clone(),
        }
    }

    async fn dispatch(&mut self, parsed: &Parsed, cancel: &CancellationToken) -> Result<Outcome> {
        self.check_allowed(&parsed.statement)?;
        let read_only = self.transaction_read_only.unwrap_or_else(|| self.variables.flag("transaction_read_only"));
        if read_only && changes_data(&parsed.statement) {
            return Err(Error::ReadOnly);
        }
        match &parsed.statement {
            Statement::Use(database) => self.use_database(database)?,
            Statement::Set(assignments) => {
                let warnings = self.set(assignments, cancel).await?;
                return Ok(Outcome::Done { affected: 0, info: String::new(), warnings });
            }
            Statement::Kill { connection, query_only } => self.kill(*connection, *query_only)?,
            Statement::CreateUser { user, if_not_exists, identified } => {
                self.shared.accounts.create(user, *if_not_exists, identified.as_ref()).await?;
            }
            Statement::AlterUser { user, if_exists, identified } => {
                self.shared.accounts.alter(user, *if_exists, identified).await?;
            }
            Statement::DropUser { user, if_exists } => {
                self.shared.accounts.drop(user, *if_exists).await?;
            }
            Statement::Begin { read_only } => self.transaction_read_only = *read_only,
            Statement::Commit | Statement::Rollback => self.transaction_read_only = None,
            Statement::LockTables | Statement::UnlockTables => {}
            Statement::Prepare { name, source } => {
                let text = match source {
                    PrepareSource::Text(text) => text.0.clone(),
                    PrepareSource::Variable(variable) => match self.user_variables.get(variable) {
                        Some(Datum::Text(text)) => text.clone(),
                        _ => return Err(Error::Analysis(format!("@{variable} holds no statement"))),
                    },
                };
                let prepared = Arc::new(self.parse_prepared(&text)?);
                self.prepared_by_name.insert(name.clone(), prepared);
            }
            Statement::Execute { name, using } => {
                let prepared = self.prepared_by_name.get(name).cloned().ok_or_else(|| unknown_prepared(name))?;
                let value = |name: &String| self.user_variables.get(name).cloned().unwrap_or(Datum::Null);
                let bound = bind(&prepared, &using.iter().map(value).collect::<Vec<_>>())?;
                // It is neither PREPARE nor EXECUTE, so this goes no deeper.
                return Box::pin(self.dispatch(&bound, cancel)).await;
            }
            Statement::Deallocate { name } => {
                self.prepared_by_name.remove(name).ok_or_else(|| unknown_prepared(name))?;
            }
            Statement::Show(show) => {
                if let Some(listing) = self.show(show)? {
                    return Ok(Outcome::Rows(listing.into_rows()));
                }
                return self.shared.executor.run(&self.context(cancel), parsed).await;
            }
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Delete(_)
            | Statement::CreateDatabase { .. }
            | Statement::DropDatabase { .. }
            | Statement::CreateTable(_)
            | Statement::DropTables { .. }
            | Statement::Truncate { .. }
            | Statement::CreateRepository(_)
            | Statement::AlterRepository { .. }
            | Statement::DropRepository(_)
            | Statement::Backup(_)
            | Statement::Restore(_)
            | Statement::BackupRaw(_)
            | Statement::RestoreRaw(_)
            | Statement::CancelBackup { .. }
            | Statement::CancelRestore { .. }
            | Statement::AddBackends(_)
            | Statement::DropBackends { .. }
            | Statement::SetFrontendConfig { .. }
            | Statement::SetBackendConfig { .. } => {
                if sql::placeholders(&parsed.statement) > 0 {
                    return Err(Error::Analysis("a ? needs PREPARE, which gives it a value".into()));
                }
                let outcome = self.shared.executor.run(&self.context(cancel), parsed).await?;
                self.forget_dropped_database();
                return Ok(outcome);
            }
        }
        Ok(Outcome::done())
    }

    /// Whoever drops the current database is in none.
    fn forget_dropped_database(&mut self) {
        let Some(database) = &self.database else {
            return;
        };
        if &**database != INFORMATION_SCHEMA && self.shared.catalog.image().database(database).is_err() {
            self.database = None;
            self.entry.process.set_place(self.user.clone(), None);
        }
    }

    /// Until there are privileges, everyone may read and only root may do more.
    fn check_allowed(&self, statement: &Statement) -> Result<()> {
        match statement {
            Statement::Query(query) => {
                // It reads files of the server.
                if uses_files(query) { self.need_root("FILE", "SYSTEM") } else { Ok(()) }
            }
            Statement::Show(Show::Users) => self.need_root("GRANT", "SYSTEM"),
            Statement::Show(Show::BackupRaw(_) | Show::VerifyBackupRaw { .. }) => self.need_root("REPOSITORY", "SYSTEM"),
            Statement::Show(Show::FrontendConfig(_)) => self.need_root("OPERATE", "SYSTEM"),
            Statement::Show(Show::Grants(Some(user))) if user.user != self.user => self.need_root("GRANT", "SYSTEM"),
            Statement::Show(_)
            | Statement::Use(_)
            | Statement::Begin { .. }
            | Statement::Commit
            | Statement::Rollback
            | Statement::LockTables
            | Statement::UnlockTables
            | Statement::Prepare { .. }
            | Statement::Execute { .. }
            | Statement::Deallocate { .. }
            // These look closer themselves.
            | Statement::Set(_)
            | Statement::Kill { .. } => Ok(()),
            Statement::Insert(insert) => self.need_root("INSERT", &format!("TABLE {}", insert.table)),
            Statement::Delete(delete) => self.need_root("DELETE", &format!("TABLE {}", delete.table)),
            Statement::CreateDatabase { .. } => self.need_root("CREATE DATABASE", "CATALOG default_catalog"),
            Statement::DropDatabase { name, .. } => self.need_root("DROP", &format!("DATABASE {name}")),
            Statement::CreateTable(create) => self.need_root("CREATE TABLE", &format!("TABLE {}", create.table)),
            Statement::DropTables { tables, .. } => {
                tables.iter().try_for_each(|table| self.need_root("DROP", &format!("TABLE {table}")))
            }
            Statement::Truncate { table, .. } => self.need_root("DELETE", &format!("TABLE {table}")),
            Statement::CreateRepository(_)
            | Statement::AlterRepository { .. }
            | Statement::DropRepository(_)
            | Statement::Backup(_)
            | Statement::Restore(_)
            | Statement::BackupRaw(_)
            | Statement::RestoreRaw(_)
            | Statement::CancelBackup { .. }
            | Statement::CancelRestore { .. } => self.need_root("REPOSITORY", "SYSTEM"),
            Statement::CreateUser { .. } | Statement::AlterUser { .. } | Statement::DropUser { .. } => {
                self.need_root("GRANT", "SYSTEM")
            }
            Statement::AddBackends(_) | Statement::DropBackends { .. } => self.need_root("NODE", "SYSTEM"),
            Statement::SetFrontendConfig { .. } | Statement::SetBackendConfig { .. } => {
                self.need_root("OPERATE", "SYSTEM")
            }
        }
    }

    fn need_root(&self, privilege: &str, object: &str) -> Result<()> {
        if &*self.user == ROOT {
            return Ok(());
        }
        Err(Error::AccessDenied(format!(
            "Access denied; you need (at least one of) the {privilege} privilege(s) on {object} for this operation. \
             Please ask the admin to grant permission(s) or try activating existing roles using <set [default] role>. \
             Current role(s): NONE. Inactivated role(s): NONE."
        )))
    }

    fn parse_prepared(&self, text: &str) -> Result<Parsed> {
        if self.prepared.len() + self.prepared_by_name.len() >= MAX_PREPARED {
            return Err(Error::Refused(format!("Can't create more than {MAX_PREPARED} prepared statements")));
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

    /// All of a SET happens or nothing, but for passwords, which come last.
    async fn set(&mut self, assignments: &[Assignment], cancel: &CancellationToken) -> Result<Vec<String>> {
        let mut warnings: Vec<Option<String>> = Vec::new();
        let mut globals = (**self.shared.globals.load()).clone();
        let mut variables = self.variables.clone();
        let mut user_variables = self.user_variables.clone();
        let mut passwords = Vec::new();
        for assignment in assignments {
            match assignment {
                Assignment::Variable { scope, name, value } => {
                    let value = self.evaluate(value, cancel).await?;
                    warnings.push(self.scoped(scope, &mut variables, &mut globals)?.set(name, value.as_ref())?);
                }
                Assignment::UserVariable { name, value } => {
                    let value = self.evaluate(value, cancel).await?;
                    user_variables.insert(name.clone(), value.unwrap_or(Datum::Null));
                }
                Assignment::Names { charset, collation } => {
                    warnings.push(variables.set_names(charset.as_deref(), collation.as_deref())?);
                }
                Assignment::CharacterSet(charset) => warnings.push(variables.set_names(charset.as_deref(), None)?),
                Assignment::TransactionIsolation { scope, level } => {
                    let scoped = self.scoped(scope, &mut variables, &mut globals)?;
                    let level = Datum::Text((*level).to_owned());
                    warnings.push(scoped.set("transaction_isolation", Some(&level))?);
                }
                Assignment::TransactionAccess { scope, read_only } => {
                    self.scoped(scope, &mut variables, &mut globals)?
                        .set("transaction_read_only", Some(&Datum::Int((*read_only).into())))?;
                }
                Assignment::Password { user, password } => passwords.push((user, password)),
            }
        }
        for (user, password) in passwords {
            let user = user.as_ref().map_or(&self.user, |user| &user.user);
            if *user != self.user {
                self.need_root("GRANT", "SYSTEM")?;
            }
            self.shared.accounts.set_password(user, &password.0).await?;
        }
        let touched = |assignment: &Assignment| match assignment {
            Assignment::Variable { scope, .. }
            | Assignment::TransactionIsolation { scope, .. }
            | Assignment::TransactionAccess { scope, .. } => *scope == Scope::Global,
            Assignment::UserVariable { .. }
            | Assignment::Names { .. }
            | Assignment::CharacterSet(_)
            | Assignment::Password { .. } => false,
        };
        if assignments.iter().any(touched) {
            self.shared.globals.store(Arc::new(globals));
        }
        self.variables = variables;
        self.user_variables = user_variables;
        Ok(warnings.into_iter().flatten().collect())
    }

    /// The variables that an assignment may change.
    fn scoped<'v>(
        &self,
        scope: &Scope,
        session: &'v mut Variables,
        globals: &'v mut Variables,
    ) -> Result<&'v mut Variables> {
        match scope {
            Scope::Session => Ok(session),
            Scope::Global => self.need_root("OPERATE", "SYSTEM").map(|()| globals),
        }
    }

    /// The right side of an assignment; `None` is DEFAULT.
    async fn evaluate(&self, value: &SetValue, cancel: &CancellationToken) -> Result<Option<Datum>> {
        match value {
            SetValue::Default => Ok(None),
            SetValue::Literal(value) => Ok(Some(value.clone())),
            SetValue::Expr(expr) => {
                let mut query = sql::parse(&format!("SELECT {expr}"))?;
                let query = query.pop().ok_or_else(|| Error::internal("SELECT is no statement"))?;
                self.check_allowed(&query.statement)?;
                match self.shared.executor.run(&self.context(cancel), &query).await? {
                    Outcome::Rows(rows) => single_value(rows).await.map(Some),
                    Outcome::Done { .. } => Err(Error::internal("SELECT has no rows")),
                }
            }
        }
    }

    /// The SHOWs that sessions answer.
    fn show(&self, show: &Show) -> Result<Option<Listing>> {
        Ok(Some(match show {
            Show::Variables { scope, filter } => {
                let globals = self.shared.globals.load();
                let mut listing = Listing::new(&["Variable_name", "Value"]);
                for (name, value) in of_scope(*scope, &self.variables, &globals).all() {
                    listing.row([name, &value]);
                }
                listing.filter(filter.as_ref())?
            }
            Show::Status { filter, .. } => {
                let (uptime, connections) = self.shared.uptime_and_connections();
                let processes = self.shared.processes.all();
                let running = processes.iter().filter(|process| process.state().statement.is_some()).count();
                let mut listing = Listing::new(&["Variable_name", "Value"]);
                listing.row(["Threads_connected", &connections.to_string()]);
                listing.row(["Threads_running", &running.to_string()]);
                listing.row(["Uptime", &uptime.to_string()]);
                listing.filter(filter.as_ref())?
            }
            Show::Processlist { full } => self.show_processes(*full),
            Show::Warnings | Show::Errors => {
                let mut listing = Listing::new(&["Level", "Code", "Message"]);
                for Diagnostic { level, number, message } in &self.diagnostics {
                    if *show == Show::Warnings || *level == "Error" {
                        listing.row([level, &number.to_string(), message]);
                    }
                }
                listing
            }
            Show::Engines => {
                let mut listing = Listing::new(&["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"]);
                listing.row(["OLAP", "DEFAULT", "Parquet tablets on backends", "NO", "NO", "NO"]);
                listing
            }
            Show::CharacterSet(filter) => {
                let mut listing = Listing::new(&["Charset", "Description", "Default collation", "Maxlen"]);
                listing.row(["utf8mb4", "UTF-8 Unicode", "utf8mb4_general_ci", "4"]);
                listing.filter(filter.as_ref())?
            }
            Show::Collation(filter) => {
                let mut listing = Listing::new(&["Collation", "Charset", "Id", "Default", "Compiled", "Sortlen"]);
                listing.row(["utf8mb4_general_ci", "utf8mb4", "45", "Yes", "Yes", "1"]);
                listing.row(["binary", "binary", "63", "Yes", "Yes", "1"]);
                listing.filter(filter.as_ref())?
            }
            Show::Grants(user) => self.show_grants(user.as_ref())?,
            Show::Plugins => {
                let mut listing = Listing::new(&["Name", "Status", "Type", "Library", "License"]);
                for name in ["mysql_native_password", "caching_sha2_password"] {
                    let texts = [name, "ACTIVE", "AUTHENTICATION"].map(|text| Some(text.to_owned()));
                    listing.push([&texts[..], &[None, Some("Apache-2.0".to_owned())]].concat());
                }
                listing
            }
            Show::Users => {
                let mut listing = Listing::new(&["User"]);
                for name in self.shared.accounts.names() {
                    listing.row([&format!("'{name}'@'%'")]);
                }
                listing
            }
            Show::Triggers => Listing::new(&[
                "Trigger",
                "Event",
                "Table",
                "Statement",
                "Timing",
                "Created",
                "sql_mode",
                "Definer",
                "character_set_client",
                "collation_connection",
                "Database Collation",
            ]),
            Show::Events => Listing::new(&[
                "Db",
                "Name",
                "Definer",
                "Time zone",
                "Type",
                "Execute at",
                "Interval value",
                "Interval field",
                "Starts",
                "Ends",
                "Status",
                "Originator",
                "character_set_client",
                "collation_connection",
                "Database Collation",
            ]),
            Show::ProcedureStatus | Show::FunctionStatus => Listing::new(&[
                "Db",
                "Name",
                "Type",
                "Definer",
                "Modified",
                "Created",
                "Security_type",
                "Comment",
                "character_set_client",
                "collation_connection",
                "Database Collation",
            ]),
            Show::Databases(_)
            | Show::Tables { .. }
            | Show::TableStatus { .. }
            | Show::Columns { .. }
            | Show::CreateTable(_)
            | Show::CreateDatabase(_)
            | Show::CreateRepository(_)
            | Show::Partitions { .. }
            | Show::Tablets { .. }
            | Show::Index(_)
            | Show::Backends
            | Show::Frontends
            | Show::FrontendConfig(_)
            | Show::Repositories(_)
            | Show::Backup { .. }
            | Show::Restore { .. }
            | Show::BackupRaw(_)
            | Show::VerifyBackupRaw { .. }
            | Show::Snapshot { .. } => return Ok(None),
        }))
    }

    /// Root sees all connections, others their own.
    fn show_processes(&self, full: bool) -> Listing {
        let now = self.shared.clock.now();
        let mut listing =
            Listing::new(&["Id", "User", "Host", "Db", "Command", "ConnectionStartTime", "Time", "State", "Info"]);
        for process in self.shared.processes.all() {
            let state = process.state();
            if state.user != self.user && &*self.user != ROOT {
                continue;
            }
            let command = if state.statement.is_some() { "Query" } else { "Sleep" };
            let info = state.statement.map(|text| {
                let chars = if full { usize::MAX } else { PROCESS_INFO };
                text.chars().take(chars).collect()
            });
            listing.push(vec![
                Some(process.id.to_string()),
                Some(state.user.to_string()),
                Some(process.peer.to_string()),
                state.database.map(String::from),
                Some(command.to_owned()),
                Some(process.connected.to_string()),
                Some(((now.0 - state.since.0).max(0) / 1000).to_string()),
                Some(String::new()),
                info,
            ]);
        }
        listing
    }

    fn show_grants(&self, user: Option<&UserName>) -> Result<Listing> {
        let name = user.map_or(&self.user, |user| &user.user);
        if self.shared.accounts.lookup(name).is_none() {
            return Err(Error::NotFound(Entity::new(Kind::User, name)));
        }
        let identity = format!("'{name}'@'%'");
        let grant = if &**name == ROOT {
            format!("GRANT ALL ON *.* TO {identity}")
        } else {
            format!("GRANT SELECT ON *.* TO {identity}")
        };
        let mut listing = Listing::new(&["UserIdentity", "Grants"]);
        listing.row([&identity, &grant]);
        Ok(listing)
    }
}

/// Whether a statement changes what tables hold, or which there are.
fn changes_data(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Insert(_)
            | Statement::Delete(_)
            | Statement::CreateDatabase { .. }
            | Statement::DropDatabase { .. }
            | Statement::CreateTable(_)
            | Statement::DropTables { .. }
            | Statement::Truncate { .. }
            | Statement::Restore(_)
            | Statement::BackupRaw(_)
            | Statement::RestoreRaw(_)
    )
}

/// Whether a query reads FILES(…) anywhere.
fn uses_files(query: &Query) -> bool {
    struct Files;
    impl Visitor for Files {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if sql::files_call(factor).is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    query.visit(&mut Files).is_break()
}

fn bind(prepared: &Parsed, params: &[Datum]) -> Result<Parsed> {
    Ok(Parsed { statement: sql::bind(&prepared.statement, params)?, text: prepared.text.clone() })
}

fn unknown_prepared(name: impl std::fmt::Display) -> Error {
    Error::NotFound(Entity::new(Kind::PreparedStatement, name))
}

fn interrupted(left: &str) -> Error {
    Error::Cancelled(format!("Query execution was interrupted{left}"))
}

/// A panic, logged here and told to the client.
fn bug(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no text");
    tracing::error!("bug: a statement panicked: {text}");
    Error::internal(format_args!("the statement met a bug, which is in the log: {text}"))
}

/// What bounds the answer to a statement.
#[derive(Clone, Copy)]
struct Limits {
    rows: u64,
    /// When it must have ended, and how many seconds that were.
    time: Option<(Instant, u64)>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: u64::MAX, time: None }
    }
}

impl Limits {
    fn of_query(variables: &Variables) -> Self {
        let seconds = variables.number("query_timeout");
        let time = Some((Instant::now() + Duration::from_secs(seconds), seconds));
        Self { rows: variables.number("sql_select_limit"), time }
    }

    /// Returns when the time is over.
    async fn reached(self) -> Error {
        match self.time {
            None => std::future::pending().await,
            Some((end, seconds)) => {
                tokio::time::sleep_until(end).await;
                Error::QueryTimeout(seconds)
            }
        }
    }
}

/// Rows that end in an error when a KILL, a panic or the time meets them, and after as many as the limit says.
fn guarded(rows: RowSet, cancel: CancellationToken, limits: Limits) -> RowSet {
    let batches = stream::unfold(Some((rows.batches, limits.rows)), move |left| {
        let cancel = cancel.clone();
        async move {
            let (mut batches, limit) = left.filter(|(_, limit)| *limit > 0)?;
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return Some((Err(interrupted("")), None)),
                err = limits.reached() => return Some((Err(err), None)),
                next = AssertUnwindSafe(batches.next()).catch_unwind() => next,
            };
            match next {
                Ok(None) => None,
                Ok(Some(Ok(batch))) => {
                    let wanted = usize::try_from(limit).unwrap_or(usize::MAX).min(batch.num_rows());
                    let batch = batch.slice(0, wanted);
                    Some((Ok(batch), Some((batches, limit - wanted as u64))))
                }
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Err(panic) => Some((Err(bug(&*panic)), None)),
            }
        }
    });
    RowSet { columns: rows.columns, batches: batches.boxed() }
}

/// The value of a query that has one.
async fn single_value(mut rows: RowSet) -> Result<Datum> {
    let one = || Error::Analysis("the right side of an assignment must be one value".into());
    let [column] = rows.columns.as_slice() else {
        return Err(one());
    };
    let ty = column.ty;
    let mut value = None;
    while let Some(batch) = rows.batches.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        if value.is_some() || batch.num_rows() > 1 {
            return Err(one());
        }
        value = Some(first_value(&batch, ty));
    }
    Ok(value.unwrap_or(Datum::Null))
}

fn first_value(batch: &RecordBatch, ty: ColumnType) -> Datum {
    let array = batch.column(0);
    if array.is_null(0) {
        return Datum::Null;
    }
    match ty {
        ColumnType::Boolean => Datum::Bool(array.as_boolean().value(0)),
        ColumnType::TinyInt => Datum::Int(array.as_primitive::<Int8Type>().value(0).into()),
        ColumnType::SmallInt => Datum::Int(array.as_primitive::<Int16Type>().value(0).into()),
        ColumnType::Int => Datum::Int(array.as_primitive::<Int32Type>().value(0).into()),
        ColumnType::BigInt => Datum::Int(array.as_primitive::<Int64Type>().value(0)),
        ColumnType::Double => Datum::Double(array.as_primitive::<Float64Type>().value(0)),
        ColumnType::Decimal { .. } => {
            // A user variable does not remember a scale.
            let text = Datum::Decimal(array.as_primitive::<Decimal128Type>().value(0)).text(ty);
            Datum::Text(text.unwrap_or_default())
        }
        ColumnType::Date => Datum::Date(array.as_primitive::<Date32Type>().value(0)),
        ColumnType::DateTime => Datum::DateTime(array.as_primitive::<TimestampMicrosecondType>().value(0)),
        ColumnType::Varbinary => Datum::Bytes(array.as_binary::<i32>().value(0).to_owned()),
        ColumnType::Char(_) | ColumnType::Varchar(_) | ColumnType::String => {
            Datum::Text(array.as_string::<i32>().value(0).to_owned())
        }
    }
}
