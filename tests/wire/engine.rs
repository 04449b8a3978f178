//! A server whose statements are answered by a few lines here instead of a query engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::*;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt, stream};
use holdfast::catalog::Catalog;
use holdfast::clock::Clock;
use holdfast::error::{Error, Result};
use holdfast::fe::{Executor, Outcome, Sessions, StatementContext};
use holdfast::mysql::{MysqlServer, Options};
use holdfast::query::{Origin, ResultColumn, RowSet};
use holdfast::sql::{Parsed, Statement};
use holdfast::types::{ColumnType, Datum};
use sqlparser::ast;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running port. Its tasks end with the runtime of the test.
pub struct Server {
    pub address: SocketAddr,
    pub sessions: Arc<Sessions>,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<()>,
    _dir: TempDir,
}

pub async fn start() -> Server {
    start_with(100, Duration::from_secs(60)).await
}

pub async fn start_with(max_connections: usize, login_deadline: Duration) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let path = dir.path().to_owned();
    let catalog = tokio::task::spawn_blocking({
        let clock = clock.clone();
        move || Arc::new(Catalog::open(&path, &clock).unwrap())
    });
    let catalog = catalog.await.unwrap();
    let engine = Engine { catalog: catalog.clone(), clock: clock.clone() };
    let sessions = Sessions::new(catalog, clock, Arc::new(engine), 4096);
    let options = Options { address: "127.0.0.1:0".parse().unwrap(), tls: None, max_connections, login_deadline };
    let server = MysqlServer::bind(&options, sessions.clone()).await.unwrap();
    let address = server.address().unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(server.run(shutdown.clone()));
    Server { address, sessions, shutdown, running, _dir: dir }
}

struct Engine {
    catalog: Arc<Catalog>,
    clock: Clock,
}

impl Executor for Engine {
    fn run<'a>(&'a self, context: &'a StatementContext, parsed: &'a Parsed) -> BoxFuture<'a, Result<Outcome>> {
        let outcome = async move {
            match &parsed.statement {
                Statement::CreateDatabase { name, .. } => {
                    let now = self.clock.now();
                    self.catalog.commit(|draft| draft.create_database(name, now)).await?;
                    Ok(Outcome::done())
                }
                Statement::DropDatabase { name, .. } => {
                    self.catalog.commit(|draft| draft.drop_database(name)).await?;
                    Ok(Outcome::done())
                }
                Statement::Insert(_) => {
                    Ok(Outcome::Done { affected: 300, info: "Records: 300".into(), warnings: Vec::new() })
                }
                Statement::Query(query) => select(query, context).await.map(Outcome::rows),
                _ => Err(Error::Unsupported(parsed.text.clone())),
            }
        };
        outcome.boxed()
    }

    fn describe<'a>(
        &'a self,
        context: &'a StatementContext,
        query: &'a ast::Query,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Vec<ResultColumn>>> {
        select(query, context).map_ok(|rows| rows.columns).boxed()
    }
}

async fn select(query: &ast::Query, context: &StatementContext) -> Result<RowSet> {
    let ast::SetExpr::Select(select) = &*query.body else {
        return Err(Error::Unsupported(query.to_string()));
    };
    match select.from.first().map(|from| from.to_string().replace('`', "")).as_deref() {
        Some("every_type") => return Ok(every_type()),
        Some("many_rows") => return Ok(many_rows()),
        Some("endless") => {
            let rows = many_rows();
            let again = || stream::once(async { Ok(many_batch()) });
            return Ok(RowSet { columns: rows.columns, batches: stream::repeat_with(again).flatten().boxed() });
        }
        _ => {}
    }
    let (mut columns, mut arrays) = (Vec::new(), Vec::new());
    for item in &select.projection {
        let (expr, name) = match item {
            ast::SelectItem::UnnamedExpr(expr) => (expr, expr.to_string()),
            ast::SelectItem::ExprWithAlias { expr, alias } => (expr, alias.value.clone()),
            other => return Err(Error::Unsupported(other.to_string())),
        };
        let value = evaluate(expr, context).await?;
        let (ty, array): (ColumnType, ArrayRef) = match value {
            Datum::Int(value) => (ColumnType::BigInt, Arc::new(Int64Array::from(vec![value]))),
            Datum::Double(value) => (ColumnType::Double, Arc::new(Float64Array::from(vec![value]))),
            Datum::Null => (ColumnType::String, Arc::new(StringArray::from(vec![None::<&str>]))),
            other => (ColumnType::String, Arc::new(StringArray::from(vec![other.text(ColumnType::String)]))),
        };
        columns.push(ResultColumn { name, ty, nullable: true, origin: None });
        arrays.push(array);
    }
    let batch = batch(&columns, arrays);
    let after = select.projection.last().map(|item| item.to_string()).unwrap_or_default();
    let tail = match after.as_str() {
        "'then fail'" => stream::iter([Err(Error::Analysis("it failed after some rows".into()))]).boxed(),
        "'then panic'" => stream::once(async { panic!("after some rows") }).boxed(),
        "'then wait'" => stream::pending().boxed(),
        _ => stream::empty().boxed(),
    };
    Ok(RowSet { columns, batches: stream::iter([Ok(batch)]).chain(tail).boxed() })
}

async fn evaluate(expr: &ast::Expr, context: &StatementContext) -> Result<Datum> {
    let unsupported = || Error::Unsupported(expr.to_string());
    match expr {
        ast::Expr::Value(value) => Ok(match &value.value {
            ast::Value::Null => Datum::Null,
            ast::Value::Boolean(value) => Datum::Int((*value).into()),
            ast::Value::Number(text, _) => {
                let text = text.to_string();
                match text.parse() {
                    Ok(number) => Datum::Int(number),
                    // A DECIMAL keeps its digits.
                    Err(_) if !text.contains('e') => Datum::Text(text),
                    Err(_) => Datum::Double(text.parse().map_err(|_| unsupported())?),
                }
            }
            ast::Value::HexStringLiteral(digits) => Datum::Text(format!("x'{digits}'")),
            ast::Value::SingleQuotedString(text) | ast::Value::DoubleQuotedString(text) => Datum::Text(text.clone()),
            _ => return Err(unsupported()),
        }),
        ast::Expr::Identifier(name) => match name.value.strip_prefix("@@") {
            Some(name) => context.variables.get(name),
            None => match name.value.strip_prefix('@') {
                Some(name) => Ok(context.user_variables.get(name).cloned().unwrap_or(Datum::Null)),
                None => Err(unsupported()),
            },
        },
        ast::Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [scope, name] if scope.value.eq_ignore_ascii_case("@@session") => context.variables.get(&name.value),
            [scope, name] if scope.value.eq_ignore_ascii_case("@@global") => context.global_variables.get(&name.value),
            _ => Err(unsupported()),
        },
        ast::Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            Ok(match name.as_str() {
                "database" => context.database.as_ref().map_or(Datum::Null, |name| Datum::Text(name.to_string())),
                "user" | "current_user" => Datum::Text(context.user_at_host()),
                "connection_id" => Datum::Int(context.connection.into()),
                "version" => Datum::Text(holdfast::fe::SERVER_VERSION.into()),
                "current_version" => Datum::Text(env!("CARGO_PKG_VERSION").into()),
                "wait" => std::future::pending().await,
                "panic" => panic!("asked to"),
                // The text of so many letters.
                "letters" => {
                    let digits: String = function.args.to_string().chars().filter(char::is_ascii_digit).collect();
                    Datum::Text("x".repeat(digits.parse().map_err(|_| unsupported())?))
                }
                "concat" => {
                    let ast::FunctionArguments::List(list) = &function.args else {
                        return Err(unsupported());
                    };
                    let mut text = String::new();
                    for arg in &list.args {
                        let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) = arg else {
                            return Err(unsupported());
                        };
                        let part = Box::pin(evaluate(expr, context)).await?;
                        text.push_str(&part.text(ColumnType::String).unwrap_or_default());
                    }
                    Datum::Text(text)
                }
                _ => return Err(unsupported()),
            })
        }
        _ => Err(unsupported()),
    }
}

fn batch(columns: &[ResultColumn], arrays: Vec<ArrayRef>) -> RecordBatch {
    let fields = columns
        .iter()
        .enumerate()
        .map(|(i, column)| arrow::datatypes::Field::new(i.to_string(), column.ty.arrow(), true));
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>())), arrays).unwrap()
}

/// Three rows of every type: usual values, the ends of the ranges, NULLs.
fn every_type() -> RowSet {
    let decimal = |values: Vec<Option<i128>>| {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap()) as ArrayRef
    };
    let all: Vec<(&str, ColumnType, ArrayRef)> = vec![
        ("b", ColumnType::Boolean, Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("i8", ColumnType::TinyInt, Arc::new(Int8Array::from(vec![Some(-5), Some(i8::MIN), None]))),
        ("i16", ColumnType::SmallInt, Arc::new(Int16Array::from(vec![Some(300), Some(i16::MIN), None]))),
        ("i32", ColumnType::Int, Arc::new(Int32Array::from(vec![Some(70_000), Some(i32::MIN), None]))),
        ("i64", ColumnType::BigInt, Arc::new(Int64Array::from(vec![Some(1 << 40), Some(i64::MIN), None]))),
        ("f64", ColumnType::Double, Arc::new(Float64Array::from(vec![Some(0.1), Some(-1.5e300), None]))),
        (
            "dec",
            ColumnType::Decimal { precision: 38, scale: 2 },
            decimal(vec![Some(-5), Some(99_999_999_999_999_999_999_999_999_999_999_999_999), None]),
        ),
        ("d", ColumnType::Date, Arc::new(Date32Array::from(vec![Some(20_454), Some(-719_162), None]))),
        (
            "dt",
            ColumnType::DateTime,
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_767_225_600_000_000), Some(-1), None])),
        ),
        ("c", ColumnType::Char(3), Arc::new(StringArray::from(vec![Some("abc"), Some(""), None]))),
        ("v", ColumnType::Varchar(20), Arc::new(StringArray::from(vec![Some("it's"), Some("🦀"), None]))),
        ("s", ColumnType::String, Arc::new(StringArray::from(vec![Some("x"), Some("\0\n"), None]))),
    ];
    let origin = |name: &str| Origin { database: "d".into(), table: "t".into(), column: name.to_owned() };
    let column = |name: &str, ty: ColumnType| ResultColumn {
        name: name.to_uppercase(),
        ty,
        nullable: true,
        origin: Some(origin(name)),
    };
    let columns: Vec<_> = all.iter().map(|(name, ty, _)| column(name, *ty)).collect();
    let batch = batch(&columns, all.into_iter().map(|(_, _, array)| array).collect());
    RowSet::new(columns, vec![batch])
}

fn numbers() -> Vec<ResultColumn> {
    vec![ResultColumn { name: "n".into(), ty: ColumnType::BigInt, nullable: false, origin: None }]
}

fn many_batch() -> RecordBatch {
    batch(&numbers(), vec![Arc::new(Int64Array::from_iter_values(0..1000))])
}

/// A hundred thousand rows.
fn many_rows() -> RowSet {
    RowSet::new(numbers(), vec![many_batch(); 100])
}
