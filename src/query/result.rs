//! From DataFusion's results and errors to this service's.

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError, not_impl_err};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;

use super::files::FilesTable;
use super::raw::RawTable;
use super::rewrite::{Header, MARK};
use super::rows::{Origin, ResultColumn};
use super::stored::StoredTable;
use super::types::{cast, column_type};
use super::virtual_table::MadeTable;
use crate::error::{Error, Misfit, Result};
use crate::types::{ColumnType, Entity, Kind};

/// The columns of a plan's result, and the types that its arrays are cast to.
pub(super) fn columns(
    plan: &LogicalPlan,
    headers: &[Header],
) -> Result<(Vec<ResultColumn>, SchemaRef), DataFusionError> {
    let fields = plan.schema().fields();
    let first = headers.iter().position(|header| *header == Header::Wildcard).unwrap_or(headers.len());
    let after = headers.iter().rev().position(|header| *header == Header::Wildcard).unwrap_or(0);
    let mut columns = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let base = base_column(plan, at);
        // Counted from the left up to the first wildcard, and from the right down to the last.
        let header = match fields.len() - at {
            _ if at < first => headers.get(at),
            left if left <= after => headers.get(headers.len() - left),
            _ => None,
        };
        let name = match (header, &base) {
            (Some(Header::Text(text)), _) => text.clone(),
            (_, Some(base)) => base.name.clone(),
            _ => field.name().split(MARK).next().unwrap_or_default().to_owned(),
        };
        let found = column_type(field.data_type());
        let found = found.or_else(|_| {
            let ty = worded(&field.data_type().to_string());
            not_impl_err!("column '{name}' of type {ty}")
        })?;
        let declared = base.as_ref().map(|base| base.ty).filter(|ty| ty.arrow() == found.arrow());
        let origin = base.and_then(|base| base.origin);
        columns.push(ResultColumn { name, ty: declared.unwrap_or(found), nullable: field.is_nullable(), origin });
    }
    let fields = columns.iter().map(|column| Field::new(&column.name, column.ty.arrow(), column.nullable));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    Ok((columns, Arc::new(schema)))
}

/// A column of a table that a result column shows unchanged.
struct Base {
    name: String,
    ty: ColumnType,
    origin: Option<Origin>,
}

/// Follows an output column of a plan down to the table it comes from.
fn base_column(plan: &LogicalPlan, at: usize) -> Option<Base> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let at = scan.projection.as_ref().map_or(Some(at), |kept| kept.get(at).copied())?;
            let provider = source_as_provider(&scan.source).ok()?;
            let (database, table, schema) = if let Some(table) = provider.downcast_ref::<StoredTable>() {
                (table.view.database.to_string(), table.view.name.to_string(), &table.view.schema)
            } else if let Some(table) = provider.downcast_ref::<RawTable>() {
                (table.view.database.to_string(), table.view.name.to_string(), &table.view.schema)
            } else if let Some(made) = provider.downcast_ref::<MadeTable>() {
                (made.table.database.clone(), made.table.name.clone(), &made.table.schema)
            } else {
                let files = provider.downcast_ref::<FilesTable>()?;
                let (name, ty) = files.column(at)?;
                return Some(Base { name: name.to_owned(), ty, origin: None });
            };
            let column = &schema.columns[at];
            let name = column.name.to_string();
            let origin = Some(Origin { database, table, column: name.clone() });
            Some(Base { name, ty: column.ty, origin })
        }
        LogicalPlan::Projection(projection) => {
            let mut expr = projection.expr.get(at)?;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::Column(column) = expr else { return None };
            let at = projection.input.schema().maybe_index_of_column(column)?;
            base_column(&projection.input, at)
        }
        LogicalPlan::SubqueryAlias(alias) => base_column(&alias.input, at),
        LogicalPlan::Filter(filter) => base_column(&filter.input, at),
        LogicalPlan::Sort(sort) => base_column(&sort.input, at),
        LogicalPlan::Limit(limit) => base_column(&limit.input, at),
        LogicalPlan::Distinct(Distinct::All(input)) => base_column(input, at),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            let kept = join.schema.fields().len() == left + join.right.schema().fields().len();
            match at.checked_sub(left) {
                Some(at) if kept => base_column(&join.right, at),
                None => base_column(&join.left, at),
                Some(_) => None,
            }
        }
        LogicalPlan::Aggregate(aggregate) => {
            let Expr::Column(column) = aggregate.group_expr.get(at)? else { return None };
            base_column(&aggregate.input, aggregate.input.schema().maybe_index_of_column(column)?)
        }
        _ => None,
    }
}

/// The batches of a result with each array as its column's type.
pub(super) fn convert(
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
    memory: usize,
) -> BoxStream<'static, Result<RecordBatch>> {
    let converted = move |batch: Result<RecordBatch, DataFusionError>| {
        let batch = batch.map_err(|err| translate(err, memory))?;
        let arrays = batch.columns().iter().zip(schema.fields());
        let arrays = arrays.map(|(array, field)| match column_type(field.data_type()) {
            Ok(ty) => cast(array, ty).map(|array| (array, field)),
            Err(err) => Err(err),
        });
        let arrays = arrays.collect::<Result<Vec<_>, _>>().map_err(|err| translate(err, memory))?;
        // MySQL's clients can read neither infinity nor NaN.
        let endless = arrays.iter().find(|(array, _)| {
            let numbers = array.as_primitive_opt::<Float64Type>();
            numbers.is_some_and(|numbers| numbers.iter().flatten().any(|number| !number.is_finite()))
        });
        if let Some((_, field)) = endless {
            return Err(Misfit::Overflow.error(format!("DOUBLE value is out of range in '{}'", field.name())));
        }
        let arrays = arrays.into_iter().map(|(array, _)| array).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(Error::internal)
    };
    // After an error nothing follows.
    let mut failed = false;
    let batches = stream.map(converted).take_while(move |batch| {
        let go_on = !failed;
        failed = batch.is_err();
        futures::future::ready(go_on)
    });
    batches.boxed()
}

/// The error that a client shall see.
pub(super) fn translate(err: DataFusionError, memory: usize) -> Error {
    match err {
        DataFusionError::External(cause) => match cause.downcast::<Error>() {
            Ok(own) => *own,
            Err(cause) => match cause.downcast::<DataFusionError>() {
                Ok(inner) => translate(*inner, memory),
                Err(other) => Error::internal(other),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => translate(*inner, memory),
        DataFusionError::ArrowError(inner, _) => match *inner {
            ArrowError::ExternalError(cause) => translate(DataFusionError::External(cause), memory),
            ArrowError::MemoryError(message) => Error::Refused(message),
            other => computed(&other.to_string()),
        },
        DataFusionError::Shared(shared) => match Arc::try_unwrap(shared) {
            Ok(inner) => translate(inner, memory),
            Err(shared) => translate_shared(&shared, memory),
        },
        DataFusionError::Collection(mut all) if !all.is_empty() => translate(all.swap_remove(0), memory),
        DataFusionError::SchemaError(inner, _) => match *inner {
            SchemaError::FieldNotFound { field, .. } => {
                Error::NotFound(Entity::new(Kind::Column, shown(&field.flat_name())))
            }
            SchemaError::AmbiguousReference { field } => {
                Error::Analysis(format!("Column '{}' is ambiguous", shown(&field.name)))
            }
            SchemaError::DuplicateQualifiedField { qualifier, .. } => {
                Misfit::SameTable.error(format!("Not unique table/alias: '{}'", shown(qualifier.table())))
            }
            SchemaError::DuplicateUnqualifiedField { name } => {
                Error::AlreadyExists(Entity::new(Kind::Column, shown(&name)))
            }
        },
        other => told(&other, memory),
    }
}

/// What is said of errors that consist of words.
fn told(err: &DataFusionError, memory: usize) -> Error {
    match err {
        DataFusionError::Plan(message) => misplanned(message),
        DataFusionError::SQL(inner, _) => Error::Analysis(inner.to_string()),
        DataFusionError::NotImplemented(message) => {
            match message.strip_prefix("Physical plan does not support logical expression ") {
                Some(kind) if kind.starts_with("WindowFunction(") => Error::Analysis(
                    "a window function can only be in the select list and in ORDER BY; \
                     filter by it around a derived table"
                        .into(),
                ),
                Some(kind) => Error::Unsupported(kind.split('(').next().unwrap_or_default().into()),
                None => Error::Unsupported(worded(message)),
            }
        }
        DataFusionError::Execution(message) if message.starts_with("Scalar subquery returned more than one row") => {
            Misfit::Rows.error("Subquery returns more than 1 row")
        }
        DataFusionError::Execution(message) => computed(message),
        DataFusionError::ResourcesExhausted(message) => exhausted(message, memory),
        other => Error::internal(worded(&other.strip_backtrace())),
    }
}

/// A statement that cannot be planned.
fn misplanned(message: &str) -> Error {
    let between = |before: &str, after: &str| {
        let (_, rest) = message.split_once(before)?;
        rest.split_once(after).map(|(found, _)| found)
    };
    if let Some((column, types)) = values_of_types(message) {
        let text = "which have none in common; CAST them";
        return Error::Analysis(format!("column {column} of VALUES has values of types {}, {text}", worded(&types)));
    }
    if message.starts_with("Projections require unique expression names")
        && let Some(expr) = between("expression \"", "\" at position")
    {
        let name = expr.rsplit_once(" AS ").or_else(|| expr.rsplit_once('.')).map_or(expr, |(_, name)| name);
        return Error::AlreadyExists(Entity::new(Kind::Column, shown(name)));
    }
    if let Some(table) = message.strip_prefix("Invalid qualifier ") {
        return Error::NotFound(Entity::new(Kind::Table, shown(&worded(table))));
    }
    if message.starts_with("Too many columns! The subquery should only return one column") {
        return Misfit::Operand.error("Operand should contain 1 column(s)");
    }
    if message.starts_with("Column in ")
        && let Some(column) = between("column \"", "\" must")
    {
        return Error::Analysis(format!(
            "'{}' must be an aggregate expression or appear in GROUP BY clause",
            worded(column)
        ));
    }
    if message.starts_with("Aggregate function calls cannot be nested") {
        return Error::Analysis("Aggregate function calls cannot be nested".into());
    }
    let text = worded(message);
    Error::Analysis(match text.split_once(". No function matches the given name and argument types '") {
        Some((own, _)) if own.starts_with("Incorrect parameter count") => own.into(),
        Some((_, signature)) => {
            format!("No matching function with signature: {}", signature.split('\'').next().unwrap_or_default())
        }
        None => text,
    })
}

fn exhausted(message: &str, memory: usize) -> Error {
    Error::Refused(format!(
        "queries may use {} MiB of memory together, and this one needs more: {}",
        memory >> 20,
        worded(message).split(" with top memory consumers").next().unwrap_or_default()
    ))
}

fn translate_shared(err: &DataFusionError, memory: usize) -> Error {
    match err {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => translate_shared(inner, memory),
        DataFusionError::Shared(inner) => translate_shared(inner, memory),
        DataFusionError::External(cause) => match cause.downcast_ref::<Error>() {
            Some(Error::Backend { backend, operation, source, retryable }) => Error::Backend {
                backend: backend.clone(),
                operation: operation.clone(),
                source: source.to_string().into(),
                retryable: *retryable,
            },
            Some(Error::Misfit { kind, message }) => kind.error(message.clone()),
            Some(own) => Error::Refused(own.report()),
            None => match cause.downcast_ref::<DataFusionError>() {
                Some(inner) => translate_shared(inner, memory),
                None => Error::Refused(worded(&cause.to_string())),
            },
        },
        DataFusionError::Plan(_) | DataFusionError::Execution(_) | DataFusionError::ResourcesExhausted(_) => {
            told(err, memory)
        }
        DataFusionError::ArrowError(inner, _) => computed(&inner.to_string()),
        other => Error::Refused(worded(&other.strip_backtrace())),
    }
}

/// What is said of a value that could not be computed.
fn computed(message: &str) -> Error {
    const OVERFLOWS: [(&str, &str); 6] = [
        // Operators on BIGINTs are our own.
        ("Overflow happened on: ", "DECIMAL"),
        (" to store in a Decimal", "DECIMAL"),
        ("Cannot cast to Decimal", "DECIMAL"),
        (" overflow on abs(", "BIGINT"),
        ("Overflow while rounding ", "BIGINT"),
        (" to type Int64", "BIGINT"),
    ];
    match OVERFLOWS.iter().find(|(part, _)| message.contains(part)) {
        Some((_, ty)) => overflow(ty),
        None => Error::Refused(worded(message)),
    }
}

/// The error for a value of an expression that its type does not hold.
pub(super) fn overflow(ty: &str) -> Error {
    Misfit::Overflow.error(format!("{ty} value is out of range"))
}

/// The column, from 1, and the types, of DataFusion's error for values that it finds no type for.
fn values_of_types(message: &str) -> Option<(usize, String)> {
    let (_, place) = message.strip_prefix("Inconsistent data type across values list at ")?.split_once(" column ")?;
    let (column, types) = place.split_once(". Was ")?;
    Some((column.parse::<usize>().ok()? + 1, types.replace(" but found ", " and ")))
}

/// A text of DataFusion's as a client should read it: its first line, without the layers that it came through, and
/// with types and literals as SQL has them.
pub(super) fn worded(message: &str) -> String {
    const LAYERS: [&str; 10] = [
        "Error during planning: ",
        "Execution error: ",
        "Internal error: ",
        "Schema error: ",
        "Arrow error: ",
        "External error: ",
        "Cast error: ",
        "Compute error: ",
        "Invalid argument error: ",
        "This feature is not implemented: ",
    ];
    let mut left = message.lines().next().unwrap_or_default();
    for layer in LAYERS {
        left = left.rsplit_once(layer).map_or(left, |(_, cause)| cause);
    }
    let mut text = String::new();
    while let Some(first) = left.chars().next() {
        let end = left.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(left.len()).max(first.len_utf8());
        let (word, rest) = left.split_at(end);
        left = rest;
        let Some(ty) = sql_type(word) else {
            text.push_str(word);
            continue;
        };
        let inner = left.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        match inner {
            // A type with a unit.
            Some((_, behind)) if matches!(ty, "DATETIME" | "INTERVAL") => {
                text.push_str(ty);
                left = behind;
            }
            Some((literal, behind)) if ty != "DECIMAL" => {
                text.push_str(&literal.replace('"', "'"));
                left = behind;
            }
            _ => text.push_str(ty),
        }
    }
    text.replace(MARK, "#")
}

/// What SQL calls one of Arrow's types.
fn sql_type(arrow: &str) -> Option<&'static str> {
    Some(match arrow {
        "Boolean" => "BOOLEAN",
        "Int8" => "TINYINT",
        "Int16" => "SMALLINT",
        "Int32" => "INT",
        "Int64" => "BIGINT",
        "Float32" => "FLOAT",
        "Float64" => "DOUBLE",
        "Decimal128" => "DECIMAL",
        "Utf8" | "LargeUtf8" | "Utf8View" => "VARCHAR",
        "Binary" | "LargeBinary" | "BinaryView" => "VARBINARY",
        "Date32" => "DATE",
        "Timestamp" => "DATETIME",
        "Interval" => "INTERVAL",
        _ => return None,
    })
}

fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}
