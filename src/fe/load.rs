//! Loads: rows of a query into a table.
//!
//! A load records a write, sends each row to a BE that has its tablet, copies the files that come of it to the other
//! replicas, and then makes all of them visible in one commit. Whatever fails before that leaves garbage, not rows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, SchemaRef};
use arrow::util::display::array_value_to_string;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Parens, Query, SetExpr, TableFactor, UnaryOperator, Value,
    Values, VisitorMut,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::frontend::{Frontend, writable};
use super::{Outcome, StatementContext, rawkv, reading};
use crate::catalog::{Partition, Table};
use crate::clock::crash_point;
use crate::error::{Error, Misfit, Result};
use crate::query::{ResultColumn, RowSet};
use crate::rpc::message::{Task, TaskOwner, Work, WriteCommand};
use crate::sql::{self, Insert, files_call, walk_mut};
use crate::types::{
    BackendId, Column, ColumnType, Datum, Entity, Kind, Name, PartitionId, RowsetFile, TabletId, WriteId, bucket_of,
};

/// Batches on their way to one BE.
const IN_FLIGHT: usize = 4;

/// Rows, or bytes, from which on a batch is not gathered with the next one.
const GATHERED_ROWS: usize = 4096;
const GATHERED_BYTES: usize = 1 << 20;

/// Answers an INSERT. On return the rows are durable on all replicas and visible.
pub(super) async fn insert(
    fe: &Arc<Frontend>,
    context: &StatementContext,
    insert: &Insert,
    text: &str,
) -> Result<Outcome> {
    let (database, name) = writable(context, &insert.table)?;
    if insert.label.is_some() {
        // A label that is not remembered would promise that a repeated load is refused.
        return Err(Error::Unsupported(
            "INSERT … WITH LABEL: labels of loads are not kept, so a repeated load would not be refused; leave out WITH \
             LABEL, and see SELECT COUNT(*) before you load again"
                .into(),
        ));
    }
    let image = fe.catalog.image();
    image.check_not_restoring(database, name)?;
    let table = image.table(database, name)?.clone();
    let targets = targets(&table, &insert.columns)?;
    let mut rows = tokio::select! {
        rows = given(fe, context, &table, &targets, &insert.source, text, 0) => rows?,
        err = context.killed() => return Err(err),
    };
    if let (SetExpr::Values(first), false) = (&*insert.source.body, insert.more.is_empty()) {
        let more = More {
            fe: fe.clone(),
            context: context.clone(),
            table: table.clone(),
            targets: targets.clone(),
            text: text.to_owned(),
            parts: insert.more.clone().into_iter(),
            before: first.rows.len(),
        };
        rows.batches = rows.batches.chain(more.batches()).boxed();
    }
    let seconds = fe.config.get().insert_load_default_timeout_second;
    let (most, late) = (Duration::from_secs(seconds), || {
        Error::Cancelled(format!("the INSERT took longer than insert_load_default_timeout_second, {seconds}"))
    });
    if let Some(cf) = table.raw {
        let reads = sql::aside(text.len(), || rawkv::reads(context, &insert.source, cf)) > 0;
        let work = rawkv::insert(fe, context, cf, &table, &targets, rows, reads);
        return tokio::time::timeout(most, work).await.unwrap_or_else(|_| Err(late()));
    }
    let open = fe.begin_write().await?;
    let write = open.id;
    let work = tokio::time::timeout(most, load(fe, &table, &targets, rows, write));
    let loaded = tokio::select! {
        loaded = work => loaded.unwrap_or_else(|_| Err(late())),
        err = context.killed() => Err(err),
    };
    let affected = commit(fe, (database, name), &table, write, loaded?).await?;
    let info = format!("{{'label':'insert_{write}', 'status':'VISIBLE', 'txnId':'{write}'}}");
    Ok(Outcome::Done { affected, info, warnings: Vec::new() })
}

/// The rows of a query that a load is given. `before` counts the rows of its VALUES that have gone before these.
async fn given(
    fe: &Arc<Frontend>,
    context: &StatementContext,
    table: &Table,
    targets: &[usize],
    source: &Query,
    text: &str,
    before: usize,
) -> Result<RowSet> {
    let runs = match &*source.body {
        SetExpr::Values(values) => {
            if let Some(row) = values.rows.iter().position(|row| row.len() != targets.len()) {
                let row = before + row + 1;
                return Err(Misfit::Count.error(format!("Column count doesn't match value count at row {row}")));
            }
            sql::aside(text.len(), || runs(source, table, targets))?
        }
        _ => vec![Run::Asked(Box::new(source.clone()))],
    };
    let mut given: Option<RowSet> = None;
    for run in runs {
        let rows = match run {
            Run::Read(rows) => rows,
            Run::Asked(query) => {
                let query = sql::aside(text.len(), || as_load(*query, table, targets));
                reading::rows(fe, context, &query, text).await?
            }
        };
        if rows.columns.len() != targets.len() {
            return Err(Misfit::Count.error(format!(
                "Column count doesn't match value count: table {} gets {} columns, the query has {}",
                table.name,
                targets.len(),
                rows.columns.len()
            )));
        }
        let batches = gathered(rows.batches).boxed();
        given = Some(match given {
            Some(before) => RowSet { batches: before.batches.chain(batches).boxed(), ..before },
            None => RowSet { batches, ..rows },
        });
    }
    given.ok_or_else(|| Error::internal("VALUES without rows"))
}

/// The rows of a long VALUES that were not parsed with their statement.
struct More {
    fe: Arc<Frontend>,
    context: StatementContext,
    table: Arc<Table>,
    targets: Vec<usize>,
    text: String,
    parts: std::vec::IntoIter<Range<usize>>,
    before: usize,
}

impl More {
    fn batches(self) -> impl Stream<Item = Result<RecordBatch>> + Send {
        let parts = stream::try_unfold(self, async |mut more| {
            let Some(part) = more.parts.next() else { return Ok(None) };
            let text = &more.text[part.clone()];
            let source = sql::aside(text.len(), || sql::rows(&more.text, part))?;
            let rows = given(&more.fe, &more.context, &more.table, &more.targets, &source, text, more.before).await?;
            if let SetExpr::Values(values) = &*source.body {
                more.before += values.rows.len();
            }
            sql::aside(text.len(), || drop(source));
            Ok(Some((rows.batches, more)))
        });
        parts.try_flatten()
    }
}

/// Positions in the table of the columns that the query gives, in its order.
fn targets(table: &Table, named: &[Name]) -> Result<Vec<usize>> {
    if named.is_empty() {
        return Ok((0..table.schema.columns.len()).collect());
    }
    let position = |name: &Name| {
        let qualified = || Error::NotFound(Entity::new(Kind::Column, format_args!("{}.{name}", table.name)));
        table.schema.position(name).ok_or_else(qualified)
    };
    let positions: Vec<usize> = named.iter().map(position).collect::<Result<_>>()?;
    for (n, position) in positions.iter().enumerate() {
        if positions[..n].contains(position) {
            return Err(Misfit::Repeated.error(format!("Column '{}' specified twice", named[n])));
        }
    }
    for (position, column) in table.schema.columns.iter().enumerate() {
        if !positions.contains(&position) && !column.nullable && column.default.is_none() {
            return Err(Misfit::NoDefault.error(format!("Field '{}' doesn't have a default value", column.name)));
        }
    }
    Ok(positions)
}

/// Rows of VALUES that follow each other.
enum Run {
    /// Literals, each read as its column's type, as MySQL does.
    Read(RowSet),
    /// Others: the query engine says what it makes of them. It finds one type for each column of all these rows first.
    Asked(Box<Query>),
}

/// The rows of a VALUES list.
fn runs(query: &Query, table: &Table, targets: &[usize]) -> Result<Vec<Run>> {
    /// With more than that the engine gets all rows, since each question to it takes a while.
    const MOST: usize = 16;
    let plain = matches!(query, Query { with: None, order_by: None, limit_clause: None, fetch: None, .. });
    let SetExpr::Values(Values { explicit_row, value_keyword, rows }) = &*query.body else { return Ok(Vec::new()) };
    let asked = |rows: &[Parens<Vec<Expr>>]| Query {
        with: None,
        body: Box::new(SetExpr::Values(Values {
            explicit_row: *explicit_row,
            value_keyword: *value_keyword,
            rows: rows.to_vec(),
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    };
    let columns: Vec<&Column> = targets.iter().map(|target| &table.schema.columns[*target]).collect();
    let read = |row: &Parens<Vec<Expr>>| -> Option<Vec<Datum>> {
        row.iter().zip(&columns).map(|(expr, column)| literal(expr, column)).collect()
    };
    let read: Vec<Option<Vec<Datum>>> = rows.iter().map(read).collect();
    let division: Vec<&[Option<Vec<Datum>>]> = read.chunk_by(|a, b| a.is_some() == b.is_some()).collect();
    if !plain || division.len() > MOST {
        return Ok(vec![Run::Asked(Box::new(query.clone()))]);
    }
    let mut begin = 0;
    let run = |part: &[Option<Vec<Datum>>]| {
        let rows = &rows[begin..begin + part.len()];
        begin += part.len();
        if part.iter().any(Option::is_none) {
            return Ok(Run::Asked(Box::new(asked(rows))));
        }
        let array = |(at, column): (usize, &&Column)| {
            let values: Vec<Datum> = part.iter().flatten().map(|row| row[at].clone()).collect();
            Datum::to_array(&values, column.ty).map_err(Error::internal)
        };
        let arrays: Vec<ArrayRef> = columns.iter().enumerate().map(array).collect::<Result<_>>()?;
        let named = |column: &&Column| ResultColumn {
            name: column.name.to_string(),
            ty: column.ty,
            nullable: true,
            origin: None,
        };
        let batch = RecordBatch::try_from_iter(columns.iter().map(|column| &*column.name).zip(arrays));
        let columns = columns.iter().map(named).collect();
        Ok(Run::Read(RowSet::new(columns, vec![batch.map_err(Error::internal)?])))
    };
    division.into_iter().map(run).collect()
}

/// A literal as a value of a column.
fn literal(expr: &Expr, column: &Column) -> Option<Datum> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Null => Some(Datum::Null),
            Value::Boolean(value) => Datum::parse(if *value { "1" } else { "0" }, column.ty).ok(),
            Value::HexStringLiteral(text) if column.ty == ColumnType::Varbinary => {
                hex::decode(text).ok().map(Datum::Bytes)
            }
            Value::Number(digits, _) => number(digits, column),
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Datum::parse(text, column.ty).ok(),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match &**expr {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => number(&format!("-{digits}"), column),
                _ => None,
            },
            _ => None,
        },
        Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default") => {
            Some(column.default.clone().unwrap_or(Datum::Null))
        }
        _ => None,
    }
}

/// A number as a value of a column. A DOUBLE becomes the text that a client would see, however it is written.
fn number(digits: &str, column: &Column) -> Option<Datum> {
    let is_text = matches!(column.ty.arrow(), DataType::Utf8 | DataType::Binary);
    let double = digits.parse::<f64>().ok().filter(|_| is_text && digits.contains(['e', 'E']));
    match double {
        None => Datum::parse(digits, column.ty).ok(),
        Some(double) if double.is_finite() => {
            Datum::parse(&Datum::Double(double).text(ColumnType::Double)?, column.ty).ok()
        }
        Some(_) => None,
    }
}

/// The query as a load means it: each bare `DEFAULT` of its VALUES replaced by the column's, and CSV files read as texts,
/// which are converted once, to the columns' types. (A guessed type would change what does not come back from it.)
fn as_load(mut query: Query, table: &Table, targets: &[usize]) -> Query {
    let _ = walk_mut(&mut query, &mut CsvAsText);
    if let SetExpr::Values(values) = &mut *query.body {
        for row in &mut values.rows {
            for (expr, target) in row.iter_mut().zip(targets) {
                let is_default = matches!(expr, Expr::Identifier(ident)
                    if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"));
                if is_default {
                    let column = &table.schema.columns[*target];
                    let default = column.default.as_ref().and_then(|default| default.text(column.ty));
                    let value = default.map_or(Value::Null, Value::SingleQuotedString);
                    *expr = Expr::Value(value.into());
                }
            }
        }
    }
    query
}

/// The same rows in batches of a fair size: a join may make a batch of each row.
fn gathered(batches: BoxStream<'static, Result<RecordBatch>>) -> impl Stream<Item = Result<RecordBatch>> {
    stream::try_unfold(batches.fuse(), async |mut batches| {
        let (mut parts, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while rows < GATHERED_ROWS && bytes < GATHERED_BYTES {
            let Some(batch) = batches.try_next().await? else { break };
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            parts.push(batch);
        }
        let Some(first) = parts.first() else { return Ok(None) };
        let whole = concat_batches(first.schema_ref(), &parts).map_err(Error::internal)?;
        Ok(Some((whole, batches)))
    })
}

struct CsvAsText;

impl VisitorMut for CsvAsText {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        const GUESS: &str = "auto_detect_types";
        let Some(Ok(properties)) = files_call(factor) else { return ControlFlow::Continue(()) };
        let is_csv = properties.get("format").is_some_and(|format| format.eq_ignore_ascii_case("csv"));
        if let TableFactor::Table { args: Some(args), .. } = factor
            && is_csv
            && !properties.contains_key(GUESS)
        {
            let text = |text: &str| Box::new(Expr::Value(Value::SingleQuotedString(text.into()).into()));
            let equation = Expr::BinaryOp { left: text(GUESS), op: BinaryOperator::Eq, right: text("false") };
            args.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(equation)));
        }
        ControlFlow::Continue(())
    }
}

/// What a load has made.
struct Loaded {
    rows: u64,
    files: BTreeMap<TabletId, Vec<RowsetFile>>,
}

/// Sends the rows to the BEs and waits until all replicas have the files.
async fn load(
    fe: &Arc<Frontend>,
    table: &Arc<Table>,
    targets: &[usize],
    mut rows: RowSet,
    write: WriteId,
) -> Result<Loaded> {
    let shape = Shape::new(table, targets);
    let replicas: HashMap<TabletId, Vec<BackendId>> = table
        .partitions
        .values()
        .flat_map(|partition| partition.tablets.iter().map(|tablet| (tablet.id, tablet.replicas.clone())))
        .collect();
    let mut streams: HashMap<BackendId, mpsc::Sender<(TabletId, RecordBatch)>> = HashMap::new();
    let mut writes = tokio::task::JoinSet::new();
    let mut count = 0;
    let command = WriteCommand { table: table.id, schema: (*table.schema).clone(), write };
    let mut sent = Ok(());
    'rows: while let Some(batch) = rows.batches.try_next().await? {
        count += batch.num_rows() as u64;
        let shape = shape.clone();
        let parts = tokio::task::spawn_blocking(move || shape.split(&batch)).await;
        for (tablet, part) in parts.map_err(|err| Error::internal(format_args!("split rows: {err}")))?? {
            // All replicas must take the load, so it matters little which is first.
            let primary = replicas[&tablet][0];
            let stream = match streams.entry(primary) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let (stream, received) = mpsc::channel(IN_FLIGHT);
                    let (backend, command) = (fe.fleet.backend(primary)?, command.clone());
                    writes.spawn(async move {
                        let written = backend.write(&command, ReceiverStream::new(received)).await;
                        written.map(|written| (primary, written.files))
                    });
                    entry.insert(stream)
                }
            };
            if stream.send((tablet, part)).await.is_err() {
                // That BE has ended the load; its answer says why.
                sent = Err(Error::internal("a BE has ended the load without an error"));
                break 'rows;
            }
        }
    }
    drop(streams);
    let mut files: BTreeMap<TabletId, Vec<RowsetFile>> = BTreeMap::new();
    let mut copies: HashMap<(BackendId, BackendId), Vec<RowsetFile>> = HashMap::new();
    while let Some(written) = writes.join_next().await {
        let (primary, made) = written.map_err(|err| Error::internal(format_args!("a load: {err}")))??;
        for file in made {
            for other in replicas[&file.id.tablet].iter().filter(|other| **other != primary) {
                copies.entry((primary, *other)).or_default().push(file.clone());
            }
            // Mostly a tablet gets one file.
            files.entry(file.id.tablet).or_insert_with(|| Vec::with_capacity(1)).push(file);
        }
    }
    sent?;
    copy_files(fe, write, copies).await?;
    Ok(Loaded { rows: count, files })
}

/// Has BEs copy files from others. On return all are durable there.
pub(super) async fn copy_files(
    fe: &Frontend,
    write: WriteId,
    copies: HashMap<(BackendId, BackendId), Vec<RowsetFile>>,
) -> Result<()> {
    let one = async |number: usize, source: BackendId, target: BackendId, files: Vec<RowsetFile>| {
        let work = Work::Clone { source: fe.fleet.address(source), files };
        let task = Task { owner: TaskOwner::Write(write), number: number as u64, work };
        let events = fe.fleet.backend(target)?.run("copy files", &task).await?;
        events.try_for_each(|_| async { Ok(()) }).await
    };
    let copies = copies.into_iter().enumerate().map(|(n, ((source, target), files))| one(n, source, target, files));
    stream::iter(copies).buffer_unordered(8).try_collect().await
}

/// New files, by tablet.
type FilesOfTablets = Vec<(TabletId, Vec<RowsetFile>)>;

/// Makes the files visible, if the table is still the one they were written for.
async fn commit(
    fe: &Frontend,
    (database, name): (&Name, &Name),
    table: &Table,
    write: WriteId,
    mut loaded: Loaded,
) -> Result<u64> {
    let now = fe.clock.now();
    let mut parts: Vec<(PartitionId, FilesOfTablets)> = Vec::new();
    for partition in table.partitions.values() {
        let of_tablet =
            |tablet: &Arc<crate::catalog::Tablet>| loaded.files.remove(&tablet.id).map(|files| (tablet.id, files));
        let files: Vec<_> = partition.tablets.iter().filter_map(of_tablet).collect();
        if !files.is_empty() {
            parts.push((partition.id, files));
        }
    }
    let loaded_tablets: HashSet<TabletId> = parts.iter().flat_map(|(_, files)| files).map(|(id, _)| *id).collect();
    crash_point("load.before-commit");
    fe.catalog
        .commit(|draft| {
            draft.image().check_not_restoring(database, name)?;
            let known = draft.image().tables.get(&table.id);
            if known.is_none_or(|known| known.schema.version != table.schema.version) {
                let name = format!("{database}.{name}");
                return Err(Error::Conflict(Entity::new(Kind::Table, name)));
            }
            // Who was dropped has taken its files along.
            let backends = &draft.image().backends;
            let tablets = known.iter().flat_map(|known| known.partitions.values()).flat_map(|part| &part.tablets);
            let mut places =
                tablets.filter(|tablet| loaded_tablets.contains(&tablet.id)).flat_map(|tablet| &tablet.replicas);
            if places.any(|replica| !backends.contains_key(replica)) {
                return Err(Error::Conflict(Entity::new(Kind::Table, format_args!("{database}.{name}"))));
            }
            for (partition, files) in parts {
                draft.add_files(table.id, partition, files, now)?;
            }
            draft.end_write(write);
            Ok(())
        })
        .await?;
    // A test may stop here.
    tokio::task::block_in_place(|| crash_point("load.after-commit"));
    Ok(loaded.rows)
}

/// How a query's rows become rows of a table, and of which tablet.
#[derive(Clone)]
struct Shape {
    table: Arc<Table>,
    schema: SchemaRef,
    /// For each column of the table its position in the query.
    sources: Vec<Option<usize>>,
    partitions: Vec<Arc<Partition>>,
}

impl Shape {
    fn new(table: &Arc<Table>, targets: &[usize]) -> Self {
        let columns = 0..table.schema.columns.len();
        Self {
            schema: table.schema.arrow(),
            sources: columns.map(|column| targets.iter().position(|target| *target == column)).collect(),
            partitions: table.ordered_partitions().into_iter().cloned().collect(),
            table: table.clone(),
        }
    }

    /// The rows of a batch by tablet. Uses the processor for a while.
    fn split(&self, batch: &RecordBatch) -> Result<Vec<(TabletId, RecordBatch)>> {
        let rows = batch.num_rows();
        let column = |(column, source): (&Column, &Option<usize>)| {
            let array = match source {
                Some(source) => convert(batch.column(*source), column)?,
                None => {
                    let default = column.default.clone().unwrap_or(Datum::Null);
                    default.array(column.ty, rows).map_err(Error::internal)?
                }
            };
            match !column.nullable && array.null_count() > 0 {
                true => Err(Misfit::Null.error(format!("Column '{}' cannot be null", column.name))),
                false => Ok(array),
            }
        };
        let columns: Vec<ArrayRef> =
            self.table.schema.columns.iter().zip(&self.sources).map(column).collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(Error::internal)?;
        let partitions = self.partitions_of(&batch)?;
        let hashed = |name: &Name| {
            let position = self.table.schema.position(name);
            position.map(|at| batch.column(at).clone()).ok_or_else(|| Error::internal("a lost distribution column"))
        };
        let hashed: Vec<ArrayRef> = self.table.distribution.columns.iter().map(hashed).collect::<Result<_>>()?;
        // Partitions may differ in their number of buckets.
        let mut buckets: HashMap<u32, Vec<u32>> = HashMap::new();
        for partition in &self.partitions {
            let count = partition.tablets.len() as u32;
            if let std::collections::hash_map::Entry::Vacant(entry) = buckets.entry(count) {
                entry.insert(bucket_of(&hashed, rows, count).map_err(Error::internal)?);
            }
        }
        let mut of_tablet: BTreeMap<TabletId, Vec<u32>> = BTreeMap::new();
        for (row, partition) in partitions.into_iter().enumerate() {
            let tablets = &self.partitions[partition].tablets;
            let bucket = buckets[&(tablets.len() as u32)][row];
            of_tablet.entry(tablets[bucket as usize].id).or_default().push(row as u32);
        }
        let part = |(tablet, rows): (TabletId, Vec<u32>)| {
            let part = take_record_batch(&batch, &UInt32Array::from(rows)).map_err(Error::internal)?;
            Ok((tablet, part))
        };
        of_tablet.into_iter().map(part).collect()
    }

    /// For each row the position of its partition.
    fn partitions_of(&self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let Some(name) = &self.table.partition_column else { return Ok(vec![0; batch.num_rows()]) };
        let position = self.table.schema.position(name).ok_or_else(|| Error::internal("a lost partition column"))?;
        let (column, ty) = (batch.column(position), self.table.schema.columns[position].ty);
        let mut last = 0;
        let place = |row: usize| {
            let value = Datum::at(column, row).ok_or_else(|| Error::internal("a partition column of another type"))?;
            let holds = |at: usize| {
                self.partitions
                    .get(at)
                    .and_then(|partition| partition.range.as_ref())
                    .is_some_and(|range| range.contains(&value))
            };
            // Neighbours are mostly of one partition.
            if !holds(last) {
                last = (0..self.partitions.len()).find(|at| holds(*at)).ok_or_else(|| {
                    let value = value.text(ty).unwrap_or_else(|| "NULL".into());
                    Misfit::NoPartition.error(format!(
                        "The row is out of partition ranges: no partition of table {} holds {name} = {value}. Please \
                         add a new partition",
                        self.table.name
                    ))
                })?;
            }
            Ok(last)
        };
        (0..batch.num_rows()).map(place).collect()
    }
}

/// An array as a column holds it; a value that does not fit is an error that shows it.
pub(super) fn convert(array: &ArrayRef, column: &Column) -> Result<ArrayRef> {
    let (from, target) = (array.data_type(), column.ty.arrow());
    let cast = |array: &ArrayRef, to: &DataType| cast(array, to).map_err(Error::internal);
    // What has no value of the type becomes NULL here.
    let converted = if *from == target {
        array.clone()
    } else if target == DataType::Binary {
        let array = if from.is_binary() { array.clone() } else { texts(array, ColumnType::String)? };
        cast(&array, &target)?
    } else if from.is_binary() && target == DataType::Utf8 {
        // NULL where it is no text.
        cast(array, &target)?
    } else if *from == DataType::Utf8 || (target.is_temporal() && !from.is_temporal()) {
        // Our own reading of texts is the one of bounds and defaults. A number may be a date's digits.
        let texts = cast(array, &DataType::Utf8)?;
        let read = |text: Option<&str>| text.and_then(|text| Datum::parse(text, column.ty).ok()).unwrap_or(Datum::Null);
        let values: Vec<Datum> = texts.as_string::<i32>().iter().map(read).collect();
        Datum::to_array(&values, column.ty).map_err(Error::internal)?
    } else if from.is_temporal() && !target.is_temporal() && target != DataType::Utf8 {
        new_null_array(&target, array.len())
    } else if target == DataType::Utf8 {
        texts(array, column.ty)?
    } else if from.is_decimal() && target == DataType::Boolean {
        cast(&cast(array, &DataType::Float64)?, &target)?
    } else {
        cast(array, &target)?
    };
    let fits = |row: usize| match column.ty {
        ColumnType::Double => converted.as_primitive::<Float64Type>().value(row).is_finite(),
        ColumnType::Date | ColumnType::DateTime => Datum::at(&converted, row).is_some_and(|value| value.is_in_range()),
        ColumnType::Decimal { precision, .. } => {
            converted.as_primitive::<Decimal128Type>().value(row).unsigned_abs() < 10_u128.pow(precision.into())
        }
        ColumnType::Char(most) | ColumnType::Varchar(most) => {
            converted.as_string::<i32>().value(row).len() <= most as usize
        }
        _ => true,
    };
    let misfit = (0..array.len()).find(|row| array.is_valid(*row) && (converted.is_null(*row) || !fits(*row)));
    match misfit {
        None => Ok(converted),
        Some(row) if from.is_binary() && converted.is_null(row) => {
            let shown = array_value_to_string(array, row).map_err(Error::internal)?;
            Err(Misfit::WrongValue.error(format!(
                "Incorrect string value: x'{}' for column '{}'",
                shown.chars().take(64).collect::<String>(),
                column.name
            )))
        }
        Some(row) => Err(unfit(column, &array_value_to_string(array, row).map_err(Error::internal)?)),
    }
}

/// The texts of values that a client would see, as a column of this type of texts holds them.
fn texts(array: &ArrayRef, ty: ColumnType) -> Result<ArrayRef> {
    if *array.data_type() == DataType::Utf8 {
        return Ok(array.clone());
    }
    let of = match array.data_type() {
        DataType::Decimal128(precision, scale) => ColumnType::Decimal { precision: *precision, scale: *scale },
        _ => ty,
    };
    let text = |row| match Datum::at(array, row) {
        Some(value) => value.text(of).map_or(Datum::Null, Datum::Text),
        None => Datum::Null,
    };
    let texts: Vec<Datum> = (0..array.len()).map(text).collect();
    Datum::to_array(&texts, ty).map_err(Error::internal)
}

/// The error for a value that a column does not take.
fn unfit(column: &Column, value: &str) -> Error {
    let (name, ty) = (&column.name, column.ty);
    let shown: String = value.chars().take(64).collect();
    match (ty, value.trim().parse::<f64>()) {
        (ColumnType::Char(_) | ColumnType::Varchar(_) | ColumnType::String, _) => Misfit::TooLong.error(format!(
            "Data too long for column '{name}': '{shown}' has {} bytes, more than {ty} holds",
            value.len()
        )),
        (ColumnType::Date | ColumnType::DateTime, _) => {
            Misfit::WrongTime.error(format!("Incorrect {ty} value: '{shown}' for column '{name}'"))
        }
        (ColumnType::Double | ColumnType::Decimal { .. }, Ok(_)) => out_of_range(column, &shown),
        (_, Ok(number)) if number.fract() == 0.0 => out_of_range(column, &shown),
        _ => Misfit::WrongValue.error(format!("Incorrect {ty} value: '{shown}' for column '{name}'")),
    }
}

fn out_of_range(column: &Column, shown: &str) -> Error {
    Misfit::OutOfRange.error(format!("Out of range value for column '{}' of type {}: {shown}", column.name, column.ty))
}
