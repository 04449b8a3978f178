//! What a client's connection remembers between statements, and the statements that are about nothing else.
//!
//! Every statement commits by itself. BEGIN, COMMIT, ROLLBACK, SAVEPOINT and `autocommit` are accepted because drivers
//! send them, and change nothing: a ROLLBACK undoes nothing, as in StarRocks, and warns of that as MySQL does for engines
//! without transactions. Only READ ONLY is kept to.

mod limits;
mod prepared;
mod privileges;
mod show;

use std::mem;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use imbl::OrdMap;
use sqlparser::ast::Query;
use tokio_util::sync::CancellationToken;

pub use self::limits::interrupted;
use self::limits::{Limits, bug, guarded};
use self::prepared::{PreparedStatements, bind};
use super::frontend::writable;
use super::listing::like;
use super::rawkv::is_rawkv;
use super::reading::INFORMATION_SCHEMA;
use super::show::head;
use super::{Accounts, Outcome, Process, ProcessEntry, ProcessList, Variables};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::query::{ResultColumn, RowSet};
use crate::sql::{self, Assignment, Parsed, PrepareSource, Scope, SetValue, Show, Statement, TableName, UserName};
use crate::types::{Datum, Entity, Kind, Name, Timestamp};

/// The one catalog there is, which StarRocks' clients put before a database's name.
const DEFAULT_CATALOG: &str = "default_catalog.";

/// Whoever runs the statements that a session does not answer by itself.
///
/// Its futures have one lifetime: as `async_trait` writes them, the compiler proves for each anew that they are `Send`,
/// which takes as long as all else that it does with this crate (<https://github.com/rust-lang/rust/issues/157595>).
pub trait Executor: Send + Sync {
    /// Runs one statement. The call is dropped at any await when the client is killed or gone: what must not be left
    /// half done goes to a task of its own. So is the stream of rows.
    fn run<'a>(&'a self, context: &'a StatementContext, statement: &'a Parsed) -> BoxFuture<'a, Result<Outcome>>;

    /// The columns that a query's result would have. Spans in it count from the beginning of `text`.
    fn describe<'a>(
        &'a self,
        context: &'a StatementContext,
        query: &'a Query,
        text: &'a str,
    ) -> BoxFuture<'a, Result<Vec<ResultColumn>>>;
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
    /// Returns when a KILL ends the statement.
    pub(super) async fn killed(&self) -> Error {
        self.cancel.cancelled().await;
        interrupted("")
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
            prepared: PreparedStatements::default(),
            transaction: Transaction::default(),
            diagnostics: Vec::new(),
            warned: 0,
            shared: self.clone(),
        }
    }

    /// Seconds since the start, and connections.
    pub fn uptime_and_connections(&self) -> (i64, usize) {
        ((self.clock.now().0 - self.started.0) / 1000, self.processes.all().len())
    }
}

/// A row of SHOW WARNINGS.
struct Diagnostic {
    level: &'static str,
    number: u16,
    message: String,
}

impl Diagnostic {
    /// All warnings have the number of MySQL's "not supported".
    fn warning(message: String) -> Self {
        Self { level: "Warning", number: 1235, message }
    }

    /// A ROLLBACK that has left rows as they are.
    fn not_rolled_back() -> Self {
        let message = "Some non-transactional changed tables couldn't be rolled back".to_owned();
        Self { level: "Warning", number: 1196, message }
    }
}

/// What is remembered of a transaction until it ends.
#[derive(Debug, Default)]
struct Transaction {
    /// What START TRANSACTION or SET TRANSACTION has said.
    read_only: Option<bool>,
    /// Whether BEGIN or START TRANSACTION has begun it; without autocommit, every statement is in one.
    begun: bool,
    /// Whether rows have been written since, which a ROLLBACK would leave.
    wrote: bool,
}

/// One client's connection.
pub struct Session {
    shared: Arc<Sessions>,
    entry: ProcessEntry,
    user: Name,
    database: Option<Name>,
    variables: Variables,
    user_variables: OrdMap<String, Datum>,
    prepared: PreparedStatements,
    transaction: Transaction,
    /// What SHOW WARNINGS tells of the last statement.
    diagnostics: Vec<Diagnostic>,
    /// How many of them are the running statement's own.
    warned: usize,
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
        self.prepared = PreparedStatements::default();
        self.transaction = Transaction::default();
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
        let prepared = match &parsed.statement {
            Statement::Execute { name, .. } => self.prepared.named(name).ok(),
            _ => None,
        };
        let runs = prepared.as_ref().map_or(&parsed.statement, |prepared| &prepared.statement);
        const CHANGED_KEYS: &str = "; keys that it has changed stay as they are now";
        let of_raw = |table: &TableName| {
            table.database.as_ref().or(self.database.as_ref()).is_some_and(|database| is_rawkv(database))
        };
        let left = match runs {
            Statement::Backup(_) => "; a job that has begun goes on: see SHOW BACKUP, and CANCEL BACKUP ends it",
            Statement::BackupRaw(_) => {
                "; a job that has begun goes on: see SHOW BACKUP, and CANCEL BACKUP FROM rawkv ends it"
            }
            Statement::RestoreRaw(_) => {
                "; a job that has begun goes on: see SHOW RESTORE, and CANCEL RESTORE FROM rawkv ends it"
            }
            Statement::Restore(_) => "; a job that has begun goes on: see SHOW RESTORE, and CANCEL RESTORE ends it",
            Statement::Insert(insert) if of_raw(&insert.table) => CHANGED_KEYS,
            Statement::Delete(_) => CHANGED_KEYS,
            Statement::Query(_) | Statement::Show(_) | Statement::Set(_) | Statement::Insert(_) => "",
            _ => "; what it has begun goes on: see whether that is done before you run it again",
        };
        let cancel = self.entry.process.begin(sql::aside(parsed.text.len(), || shown(&parsed.text)), left);
        let tells = matches!(parsed.statement, Statement::Show(Show::Warnings { .. } | Show::WarningCount { .. }));
        self.warned = 0;
        if !tells {
            self.diagnostics.clear();
        }
        // Whether its rows are there, when a KILL meets its commit, only an INSERT knows.
        let settles = matches!(runs, Statement::Insert(_));
        if settles {
            self.entry.process.settles();
        }
        let hints = prepared.as_ref().map_or(&parsed.hints, |prepared| &prepared.hints);
        let unhinted = self.take_hints(hints, runs);
        let limits = match runs {
            Statement::Query(query) => Limits::of_query(&self.variables, query),
            _ => Limits::default(),
        };
        let work = AssertUnwindSafe(self.dispatch(parsed, &cancel)).catch_unwind();
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled(), if !settles => Err(interrupted(left)),
            err = limits.reached() => Err(err),
            outcome = work => outcome.unwrap_or_else(|panic| Err(bug(&*panic))),
        };
        if let Some(variables) = unhinted {
            self.variables = variables;
        }
        let outcome = outcome?;
        let (Outcome::Done { warnings, .. } | Outcome::Rows { warnings, .. }) = &outcome;
        self.diagnostics.extend(warnings.iter().cloned().map(Diagnostic::warning));
        if !tells {
            self.count_diagnostics();
            self.warned = self.diagnostics.len();
        }
        Ok(match outcome {
            Outcome::Done { .. } => outcome,
            Outcome::Rows { rows, warnings } => Outcome::Rows { rows: guarded(rows, cancel, limits), warnings },
        })
    }

    /// Sets the variables that a statement has hints for, as long as it runs; returns those to go back to.
    fn take_hints(&mut self, hints: &[(String, SetValue)], runs: &Statement) -> Option<Variables> {
        let takes = matches!(runs, Statement::Query(_) | Statement::Insert(_) | Statement::Delete(_));
        if hints.is_empty() || !takes {
            return None;
        }
        let before = self.variables.clone();
        for (name, value) in hints {
            let warning = match value {
                SetValue::Default => self.variables.set(name, None),
                SetValue::Literal(value) => self.variables.set(name, Some(value)),
                SetValue::Expr(_) => Err(Error::Unsupported(format!("an expression for {name} in SET_VAR"))),
            };
            let warning = warning.unwrap_or_else(|error| Some(error.report()));
            self.diagnostics.extend(warning.map(Diagnostic::warning));
        }
        Some(before)
    }

    /// How many warnings the statement that has just run has.
    pub fn warnings(&self) -> usize {
        self.warned
    }

    fn count_diagnostics(&mut self) {
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.level == "Error").count();
        self.variables.set_counts(self.diagnostics.len(), errors);
    }

    /// Says that the statement and its rows have come to their end.
    pub fn rest(&self) {
        self.entry.process.rest();
    }

    /// Keeps the error that a client was told, for SHOW WARNINGS.
    pub fn set_last_error(&mut self, number: u16, message: &str) {
        // A statement that could not be parsed has not cleared those of the one before.
        self.diagnostics = vec![Diagnostic { level: "Error", number, message: message.to_owned() }];
        self.count_diagnostics();
    }

    /// Prepares a statement; returns its id and how many values it takes.
    pub fn prepare(&mut self, text: &str) -> Result<(u32, usize)> {
        self.prepared.number(text)
    }

    /// The columns that a prepared statement's result will have, as far as that is known: none if it has no result, and
    /// none if they cannot be known before its values are. A column that depends on such a value may get another type.
    pub async fn describe_prepared(&self, id: u32) -> Vec<ResultColumn> {
        let Ok(prepared) = self.prepared.numbered(id) else { return Vec::new() };
        let params = sql::placeholders(&prepared.statement);
        // LIMIT takes no NULL.
        for value in [Datum::Null, Datum::Int(0)] {
            if let Ok(bound) = bind(&prepared, &vec![value; params])
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
        privileges::check(&self.user, &parsed.statement)?;
        let context = self.context(&CancellationToken::new());
        match &parsed.statement {
            Statement::Query(query) => self.shared.executor.describe(&context, query, &parsed.text).await,
            Statement::Show(show) => {
                let listing = self.show(show)?.map_or_else(|| head(&context, show), Ok)?;
                Ok(listing.into_rows().columns)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Runs a prepared statement; see [`Session::execute`].
    pub async fn execute_prepared(&mut self, id: u32, params: &[Datum]) -> Result<Outcome> {
        let prepared = self.prepared.numbered(id)?;
        let bound = bind(&prepared, params)?;
        self.execute(&bound).await
    }

    /// Drops a prepared statement.
    pub fn close(&mut self, id: u32) {
        self.prepared.close(id);
    }

    /// KILL, by statement or by command.
    pub fn kill(&self, connection: u64, query_only: bool) -> Result<()> {
        let process = self.shared.processes.get(connection)?;
        if process.state().user != self.user {
            privileges::need_root(&self.user, "OPERATE", "SYSTEM")?;
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
        privileges::check(&self.user, &parsed.statement)?;
        let read_only = self.transaction.read_only.unwrap_or_else(|| self.variables.flag("transaction_read_only"));
        if read_only && privileges::changes_data(&parsed.statement) {
            return Err(Error::ReadOnly);
        }
        match &parsed.statement {
            Statement::Use(database) => self.use_database(database)?,
            Statement::Set(assignments) => {
                let warnings = self.set(assignments, cancel).await?;
                return Ok(Outcome::Done { affected: 0, info: String::new(), warnings });
            }
            Statement::Kill { connection, query_only } => {
                let number = self.evaluate(connection, cancel, &self.variables, &self.user_variables).await?;
                let number = number.map_or_else(String::new, |number| number.to_string());
                let unknown = |_| Error::NotFound(Entity::new(Kind::Connection, &number));
                self.kill(number.parse().map_err(unknown)?, *query_only)?;
            }
            Statement::CreateUser { user, if_not_exists, identified } => {
                self.shared.accounts.create(user, *if_not_exists, identified.as_ref()).await?;
            }
            Statement::AlterUser { user, if_exists, identified } => {
                let own = || UserName { user: self.user.clone(), host: "%".to_owned() };
                let user = user.clone().unwrap_or_else(own);
                self.shared.accounts.alter(&user, *if_exists, identified).await?;
            }
            Statement::AlterKeys(table) => self.alter_keys(table)?,
            Statement::DropUser { user, if_exists } => {
                self.shared.accounts.drop(user, *if_exists).await?;
            }
            Statement::Begin { read_only } => {
                self.transaction = Transaction { read_only: *read_only, begun: true, wrote: false };
            }
            Statement::Commit => self.transaction = Transaction::default(),
            Statement::Rollback => {
                if mem::take(&mut self.transaction).wrote {
                    self.diagnostics.push(Diagnostic::not_rolled_back());
                }
            }
            Statement::RollbackToSavepoint => {
                if self.transaction.wrote {
                    self.diagnostics.push(Diagnostic::not_rolled_back());
                }
            }
            Statement::UnlockTables | Statement::Savepoint => {}
            Statement::LockTables => self.diagnostics.push(Diagnostic::warning(
                "LOCK TABLES locks nothing: others go on writing, and each statement sees one state of all tables"
                    .into(),
            )),
            Statement::Prepare { name, source } => {
                let text = match source {
                    PrepareSource::Text(text) => text.0.clone(),
                    PrepareSource::Variable(variable) => match self.user_variables.get(variable) {
                        Some(Datum::Text(text)) => text.clone(),
                        _ => return Err(Error::Analysis(format!("@{variable} holds no statement"))),
                    },
                };
                self.prepared.name(name, &text)?;
            }
            Statement::Execute { name, using } => {
                let prepared = self.prepared.named(name)?;
                let value = |name: &String| self.user_variables.get(name).cloned().unwrap_or(Datum::Null);
                let bound = bind(&prepared, &using.iter().map(value).collect::<Vec<_>>())?;
                // It is neither PREPARE nor EXECUTE, so this goes no deeper.
                return Box::pin(self.dispatch(&bound, cancel)).await;
            }
            Statement::Deallocate { name } => self.prepared.deallocate(name)?,
            Statement::Show(show) => {
                if let Some(listing) = self.show(show)? {
                    return Ok(Outcome::rows(listing.into_rows()));
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
                let outcome = self.shared.executor.run(&self.context(cancel), parsed).await;
                match &parsed.statement {
                    Statement::Insert(_) | Statement::Delete(_) => {
                        // Of some errors nobody knows whether it has: an answer that did not arrive is no "no".
                        let may = outcome.as_ref().map_or_else(Error::is_retryable, |_| true);
                        let lasts = self.transaction.begun || !self.variables.flag("autocommit");
                        self.transaction.wrote |= may && lasts;
                    }
                    Statement::Query(_) => {}
                    // Whatever changes more than rows commits.
                    _ => (self.transaction.begun, self.transaction.wrote) = (false, false),
                }
                self.forget_dropped_database();
                return outcome;
            }
        }
        Ok(Outcome::done())
    }

    /// Tells, as MySQL does of engines without the option, that nothing was done.
    fn alter_keys(&mut self, table: &TableName) -> Result<()> {
        let context = self.context(&CancellationToken::new());
        let (database, name) = writable(&context, table)?;
        let name = self.shared.catalog.image().table(database, name)?.name.clone();
        if self.variables.flag("sql_notes") {
            let message = format!("Table storage engine for '{name}' doesn't have this option");
            self.diagnostics.push(Diagnostic { level: "Note", number: 1031, message });
        }
        Ok(())
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

    /// All of a SET happens or nothing, but for passwords, which come last.
    async fn set(&mut self, assignments: &[Assignment], cancel: &CancellationToken) -> Result<Vec<String>> {
        let mut warnings: Vec<Option<String>> = Vec::new();
        let mut globals = (**self.shared.globals.load()).clone();
        let mut variables = self.variables.clone();
        let mut user_variables = self.user_variables.clone();
        let mut passwords = Vec::new();
        let mut next_read_only = self.transaction.read_only;
        for assignment in assignments {
            match assignment {
                Assignment::Variable { scope, name, value } => {
                    let value = self.evaluate(value, cancel, &variables, &user_variables).await?;
                    warnings.push(self.scoped(scope, &mut variables, &mut globals)?.set(name, value.as_ref())?);
                }
                Assignment::UserVariable { name, value } => {
                    let value = self.evaluate(value, cancel, &variables, &user_variables).await?;
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
                Assignment::TransactionAccess { scope: None, read_only } => next_read_only = Some(*read_only),
                Assignment::TransactionAccess { scope: Some(scope), read_only } => {
                    self.scoped(scope, &mut variables, &mut globals)?
                        .set("transaction_read_only", Some(&Datum::Int((*read_only).into())))?;
                }
                Assignment::Password { user, password } => passwords.push((user, password)),
            }
        }
        for (user, password) in passwords {
            let user = user.as_ref().map_or(&self.user, |user| &user.user);
            if *user != self.user {
                privileges::need_root(&self.user, "GRANT", "SYSTEM")?;
            }
            self.shared.accounts.set_password(user, &password.0).await?;
        }
        let touched = |assignment: &Assignment| match assignment {
            Assignment::Variable { scope: Scope::Global, name, .. } => Some(name.clone()),
            Assignment::TransactionIsolation { scope: Scope::Global, .. } => Some("transaction_isolation".to_owned()),
            Assignment::TransactionAccess { scope: Some(Scope::Global), .. } => {
                Some("transaction_read_only".to_owned())
            }
            Assignment::Variable { .. }
            | Assignment::TransactionIsolation { .. }
            | Assignment::TransactionAccess { .. }
            | Assignment::UserVariable { .. }
            | Assignment::Names { .. }
            | Assignment::CharacterSet(_)
            | Assignment::Password { .. } => None,
        };
        let touched: Vec<String> = assignments.iter().filter_map(touched).collect();
        if !touched.is_empty() {
            // Others may have set others meanwhile.
            self.shared.globals.rcu(|now| {
                let mut next = (**now).clone();
                touched.iter().for_each(|name| next.take_over(name, &globals));
                next
            });
        }
        if variables.flag("autocommit") && !self.variables.flag("autocommit") {
            self.transaction.wrote = false;
        }
        self.variables = variables;
        self.user_variables = user_variables;
        self.transaction.read_only = next_read_only;
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
            Scope::Global => privileges::need_root(&self.user, "OPERATE", "SYSTEM").map(|()| globals),
        }
    }

    /// The right side of an assignment; `None` is DEFAULT.
    /// It sees what the assignments before it have made of the variables.
    async fn evaluate(
        &self,
        value: &SetValue,
        cancel: &CancellationToken,
        variables: &Variables,
        user_variables: &OrdMap<String, Datum>,
    ) -> Result<Option<Datum>> {
        match value {
            SetValue::Default => Ok(None),
            SetValue::Literal(value) => Ok(Some(value.clone())),
            SetValue::Expr(expr) => {
                let query = sql::select_of(expr)?;
                privileges::check(&self.user, &query.statement)?;
                let (variables, user_variables) = (variables.clone(), user_variables.clone());
                let context = StatementContext { variables, user_variables, ..self.context(cancel) };
                match self.shared.executor.run(&context, &query).await? {
                    Outcome::Rows { rows, .. } => single_value(rows).await.map(Some),
                    Outcome::Done { .. } => Err(Error::internal("SELECT has no rows")),
                }
            }
        }
    }
}

/// A statement as others may see it, its secrets masked. Of a long one only the beginning, as in MySQL's
/// performance_schema.
fn shown(text: &str) -> String {
    const MOST: usize = 64 << 10;
    match text.len() {
        ..=MOST => sql::mask_secrets(text),
        _ => sql::mask_secrets(&text[..text.floor_char_boundary(MOST)]) + " …",
    }
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
        value = match Datum::at(batch.column(0), 0) {
            // A variable has no type to remember the scale.
            Some(decimal @ Datum::Decimal(_)) => decimal.text(ty).map(Datum::Exact),
            value => value,
        };
    }
    Ok(value.unwrap_or(Datum::Null))
}
