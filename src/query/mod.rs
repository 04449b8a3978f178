//! SELECT: DataFusion over tablets, with MySQL's meaning of names, operators and functions.
//!
//! A query is rewritten (`rewrite.rs`), planned (`planner.rs`), optimised and run by DataFusion, which reads stored
//! tables through [`Tables`] (`stored.rs`) and local files (`files.rs`); the result's columns get MySQL's types and
//! headers (`result.rs`).
//!
//! Tables that look at filters write the future of `scan` out: of one that `async_trait` makes, holding them, the compiler
//! proves anew that all of sqlparser's tree is `Send`, for seconds (<https://github.com/rust-lang/rust/issues/157595>).

mod files;
mod functions;
mod joins;
mod like;
mod planner;
mod raw;
mod result;
mod rewrite;
mod rows;
mod sets;
mod stored;
mod tables;
#[cfg(test)]
mod tests;
mod times;
mod tree;
mod types;
mod using;
mod virtual_table;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{NullOrdering, ParserOptions, SqlToRel};
use futures::StreamExt;
use futures::stream::BoxStream;
use sqlparser::ast::{Query, Statement};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use rows::{Origin, ResultColumn, RowSet};
pub use tables::{PartitionView, RawView, ScanRequest, Table, TableView, Tables, TabletView, VirtualTable};

use crate::error::{Error, Result};
use crate::sql;
use crate::types::{Datum, Entity, Kind, Timestamp};
use files::FilesTable;
use joins::{KeepTheSmaller, interruptible};
use planner::{Functions, Names, common_types};
use raw::RawTable;
use result::translate;
use rewrite::{MARK, Rewritten, rewrite};
use sets::ForgetTheRows;
use stored::StoredTable;
use virtual_table::MadeTable;

/// The only catalog there is, as StarRocks calls it.
const CATALOG: &str = "default_catalog";

/// The stack for planning, which walks expressions recursively, hundreds of levels deep, in builds that are not
/// optimised with large frames. Only what is used of it costs memory.
const STACK: usize = 64 << 20;

/// What a query may ask of its session.
pub struct QueryContext<'a> {
    /// The database that unqualified names are in.
    pub database: Option<&'a str>,
    /// `'user'@'host'`, as `USER()` shows it.
    pub user: &'a str,
    /// The connection's number.
    pub connection: u32,
    /// MySQL's version that this server claims to be.
    pub version: &'a str,
    /// This server's own version.
    pub product_version: &'a str,
    /// When the statement began: the same instant wherever it asks.
    pub now: Timestamp,
    /// Where the session's clock hangs, as `time_zone` has it.
    pub zone: &'a str,
    /// The value of a variable, by its name as it is written; `None` if there is none.
    pub variable: &'a (dyn Fn(VariableScope, &str) -> Option<Datum> + Sync),
}

/// Where a variable is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableScope {
    /// `@@global.x`.
    Global,
    /// `@@x` and `@@session.x`.
    Session,
    /// `@x`.
    User,
}

/// Runs queries. One for a server; any number of queries run at a time and share its memory.
pub struct Engine {
    planner: Arc<Planner>,
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

/// What planning needs, and no query changes.
struct Planner {
    state: SessionState,
    /// The same for queries of raw keys, which stay in order where nobody divides them among threads.
    ordered: SessionState,
    functions: Functions,
    memory: usize,
    threads: Threads,
}

/// The threads that queries run on. A join may keep one busy for seconds without a pause, and must not keep whoever
/// waits for clients, BEs and time from running.
struct Threads(Option<Runtime>);

impl Threads {
    fn new() -> Result<Self> {
        // More than processors, because some work has no pause in it, such as sorting what is to be spilled.
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(4 * processors)
            .thread_name("query")
            .thread_stack_size(sql::STACK_SIZE)
            .build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(Error::io("start", "the threads for queries"))
    }

    fn handle(&self) -> Result<&Handle> {
        self.0.as_ref().map(Runtime::handle).ok_or_else(|| Error::internal("no threads for queries"))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Dropping it would wait for its threads, which is not allowed everywhere.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    /// An engine whose queries together hold at most `memory` bytes, beyond small ones that are not counted. What
    /// does not fit is written below `spill`, and removed; only a crash leaves it there.
    pub fn new(memory: usize, spill: PathBuf) -> Result<Self> {
        let pool = TrackConsumersPool::new(FairSpillPool::new(memory), NonZeroUsize::MIN);
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_temp_file_path(spill);
        let runtime = runtime.build_arc().map_err(|err| translate(err, memory))?;
        let config = SessionConfig::new().with_batch_size(8192).with_information_schema(false);
        let mut rules = PhysicalOptimizer::new().rules;
        rules.insert(0, Arc::new(KeepTheSmaller));
        rules.insert(0, Arc::new(ForgetTheRows));
        let state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
        let state = state.with_physical_optimizer_rules(rules).build();
        let functions = Functions::new(&state);
        let config = state.config().clone().with_target_partitions(1);
        let ordered = SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build();
        let threads = Threads::new()?;
        Ok(Self { planner: Arc::new(Planner { state, ordered, functions, memory, threads }) })
    }

    /// Plans a query and begins to run it. Spans in it count from the beginning of `text`, from which headers come.
    /// Nothing is read before the rows are.
    pub async fn query(
        &self,
        tables: Arc<dyn Tables>,
        context: &QueryContext<'_>,
        query: &Query,
        text: &str,
    ) -> Result<RowSet> {
        self.plan(tables, context, query, text, |planner, planned| planner.run(planned)).await
    }

    /// The columns that a query's result would have.
    pub async fn describe(
        &self,
        tables: Arc<dyn Tables>,
        context: &QueryContext<'_>,
        query: &Query,
        text: &str,
    ) -> Result<Vec<ResultColumn>> {
        self.plan(tables, context, query, text, |_, planned| Ok(planned.columns)).await
    }

    /// Plans a query and does something with the plan, where it may block.
    async fn plan<T: Send + 'static>(
        &self,
        tables: Arc<dyn Tables>,
        context: &QueryContext<'_>,
        query: &Query,
        text: &str,
        and_then: impl FnOnce(&Planner, Planned) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let names = &self.planner.functions.names;
        let rewritten = sql::aside(text.len(), || stacker::grow(STACK, || rewrite(query, text, context, names)))?;
        let planner = self.planner.clone();
        let database = context.database.map(str::to_owned);
        let planned = tokio::task::spawn_blocking(move || {
            stacker::grow(STACK, || {
                let planned = planner.plan(tables, database.as_deref(), rewritten)?;
                and_then(&planner, planned)
            })
        });
        planned.await.map_err(Error::internal)?
    }
}

/// A query that is planned, and its result's columns, which are cast to these types.
struct Planned {
    plan: LogicalPlan,
    columns: Vec<ResultColumn>,
    types: SchemaRef,
}

impl Planner {
    /// Whatever DataFusion cannot plan, the statement is at fault.
    fn failed(&self, err: DataFusionError) -> Error {
        match translate(err, self.memory) {
            Error::Internal(message) => Error::Analysis(message),
            other => other,
        }
    }

    /// Blocks where it opens files, and for as long as planning takes.
    fn plan(&self, tables: Arc<dyn Tables>, database: Option<&str>, rewritten: Rewritten) -> Result<Planned> {
        let spelled = rewritten.spelled;
        let failed = |err| match self.failed(err) {
            Error::NotFound(Entity { kind: Kind::Column, name }) => {
                let (table, column) = name.split_at(name.rfind('.').map_or(0, |dot| dot + 1));
                let column = spelled.get(column).map_or(column, String::as_str);
                Error::NotFound(Entity::new(Kind::Column, format_args!("{table}{column}")))
            }
            other => other,
        };
        let files = rewritten.files.into_iter().map(|call| call.open(&*tables).map(Arc::new));
        let files = files.collect::<Result<Vec<_>>>()?;
        let table = |name: &TableReference| source(&tables, &files, database, name);
        let plan = {
            let options = self.state.config_options();
            let names = Names { functions: &self.functions, options, table: &table };
            let planner = SqlToRel::new_with_options(&names, parser_options());
            let planned = |query| planner.sql_statement_to_plan(Statement::Query(Box::new(query)));
            let columns = |query| {
                let plan = planned(query).ok()?;
                Some(plan.schema().fields().iter().map(|field| field.name().clone()).collect())
            };
            let mut query = rewritten.query;
            using::expand(&mut query, &columns);
            planned(query).and_then(common_types).map_err(failed)?
        };
        let (columns, types) = result::columns(&plan, &rewritten.headers).map_err(failed)?;
        if columns.is_empty() {
            // The protocol has no such result.
            let text = match files.iter().find_map(|files| files.without_columns()) {
                Some(path) => format!("no row in '{}' of FILES tells which columns there are", path.display()),
                None => "the query has no columns; name some".into(),
            };
            return Err(Error::Analysis(text));
        }
        Ok(Planned { plan, columns, types })
    }

    /// Blocks as planning does.
    fn run(&self, planned: Planned) -> Result<RowSet> {
        let Planned { plan, columns, types } = planned;
        let failed = |err| self.failed(err);
        let state = if raw::is_read_by(&plan).map_err(failed)? { &self.ordered } else { &self.state };
        let threads = self.threads.handle()?;
        let _entered = threads.enter();
        let physical = threads.block_on(state.create_physical_plan(&plan)).map_err(failed)?;
        let unwanted = CancellationToken::new();
        let physical = interruptible(physical, &unwanted).map_err(failed)?;
        let stream = datafusion::physical_plan::execute_stream(physical, state.task_ctx()).map_err(failed)?;
        let batches = result::convert(stream, types, self.memory);
        Ok(RowSet { columns, batches: elsewhere(threads.clone(), batches, unwanted) })
    }
}

/// Batches that are made on other threads, from the moment they are first asked for, until nobody wants them.
fn elsewhere(threads: Handle, mut batches: Batches, unwanted: CancellationToken) -> Batches {
    let unwanted = unwanted.drop_guard();
    let begin = async move {
        let (send, receive) = mpsc::channel(1);
        let making = threads.spawn(async move {
            while let Some(batch) = batches.next().await
                && send.send(batch).await.is_ok()
            {}
        });
        let making = Some((receive, AbortOnDropHandle::new(making), unwanted));
        futures::stream::unfold(making, async |making| {
            let (mut receive, making, unwanted) = making?;
            if let Some(batch) = receive.recv().await {
                return Some((batch, Some((receive, making, unwanted))));
            }
            // Only a task that has come to its end has made all.
            match making.await.map_err(JoinError::try_into_panic) {
                Ok(()) => None,
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                Err(Err(_)) => Some((Err(Error::Cancelled("the server is stopping".into())), None)),
            }
        })
    };
    futures::stream::once(begin).flatten().boxed()
}

fn parser_options() -> ParserOptions {
    ParserOptions::new()
        .with_parse_float_as_decimal(true)
        .with_enable_ident_normalization(false)
        .with_map_string_types_to_utf8view(false)
        .with_default_null_ordering(NullOrdering::NullsMin)
}

/// Finds what a name in FROM stands for.
fn source(
    tables: &Arc<dyn Tables>,
    files: &[Arc<FilesTable>],
    selected: Option<&str>,
    name: &TableReference,
) -> Result<Arc<dyn TableSource>> {
    let mut parts = name.table().split(MARK);
    let table = parts.next().unwrap_or_default();
    let marks: Vec<&str> = parts.collect();
    if let ("", ["files", number]) = (table, &marks[..]) {
        let file = number.parse().ok().and_then(|number: usize| files.get(number));
        return Ok(provider_as_source(file.ok_or_else(|| Error::internal("a call of FILES got lost"))?.clone()));
    }
    if name.catalog().is_some_and(|catalog| catalog != CATALOG) {
        let database = format!("{}.{}", name.catalog().unwrap_or_default(), name.schema().unwrap_or_default());
        return Err(Error::NotFound(Entity::new(Kind::Database, database)));
    }
    let database = name.schema().or(selected).ok_or(Error::NoDatabase)?;
    match tables.table(database, table)? {
        Table::Raw(view) => Ok(provider_as_source(Arc::new(RawTable::new(view, tables.clone())))),
        Table::Virtual(made) => Ok(provider_as_source(Arc::new(MadeTable::new(made)))),
        Table::Stored(view) => {
            let view = if marks.is_empty() { view } else { Arc::new(restricted(&view, &marks)?) };
            Ok(provider_as_source(Arc::new(StoredTable::new(view, tables.clone()))))
        }
    }
}

/// `t PARTITION (p1, p2)`.
fn restricted(view: &TableView, names: &[&str]) -> Result<TableView> {
    let found = names.iter().map(|name| {
        let found = view.partitions.iter().find(|partition| &*partition.name == *name);
        found.cloned().ok_or_else(|| Error::NotFound(Entity::new(Kind::Partition, name)))
    });
    let mut partitions = found.collect::<Result<Vec<_>>>()?;
    partitions.sort_by(|a, b| a.name.cmp(&b.name));
    partitions.dedup_by(|a, b| a.name == b.name);
    Ok(TableView { partitions, ..view.clone() })
}
