//! Stored tables: which tablets, files, columns and rows a query needs of them.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, DataFusionError, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::tables::{PartitionView, ScanRequest, TableView, Tables, TabletView};
use crate::error::Error;
use crate::tablet::{Comparison, ScanFilter, ScanSpec};
use crate::types::{ColumnType, Datum, Schema, bucket_of};

type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// The most values that buckets are computed for, to prune by them.
const MAX_KEYS: usize = 1024;

/// Rows that a batch of counted rows claims to have.
const COUNTED: usize = 8192;

/// A table, for DataFusion.
pub(super) struct StoredTable {
    pub(super) view: Arc<TableView>,
    tables: Arc<dyn Tables>,
    schema: SchemaRef,
}

impl StoredTable {
    pub(super) fn new(view: Arc<TableView>, tables: Arc<dyn Tables>) -> Self {
        let schema = planned_schema(&view.schema);
        Self { view, tables, schema }
    }
}

/// A table's columns as plans know them: in lower case, because letter case does not count.
pub(super) fn planned_schema(schema: &Schema) -> SchemaRef {
    let field = |column: &crate::types::Column| {
        arrow::datatypes::Field::new(column.name.to_lowercase(), column.ty.arrow(), column.nullable)
    };
    Arc::new(arrow::datatypes::Schema::new(schema.columns.iter().map(field).collect::<Vec<_>>()))
}

impl fmt::Debug for StoredTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredTable").field("name", &self.view.name).finish_non_exhaustive()
    }
}

impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushed = |filter: &&Expr| match scan_filter(&self.view.schema, filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(pushed).collect())
    }

    // By hand: see `super`.
    fn scan<'a, 'b, 'c, 'd, 'all>(
        &'a self,
        state: &'b dyn Session,
        projection: Option<&'c Vec<usize>>,
        filters: &'d [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'all, Result<Arc<dyn ExecutionPlan>>>
    where
        Self: 'all,
        'a: 'all,
        'b: 'all,
        'c: 'all,
        'd: 'all,
    {
        ready(self.plan(state, projection, filters, limit)).boxed()
    }
}

impl StoredTable {
    fn plan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.view.schema.columns.len()).collect());
        let schema = Arc::new(self.schema.project(&projection)?);
        let limit = limit.filter(|_| filters.is_empty());
        let wanted: Vec<ScanFilter> =
            filters.iter().filter_map(|filter| scan_filter(&self.view.schema, filter)).collect();
        let tablets = tablets(&self.view, &wanted)?;
        let spec = ScanSpec { schema: self.view.schema.clone(), projection, filters: wanted, limit };

        let mut partitions: Vec<Arc<dyn PartitionStream>> = Vec::new();
        if spec.projection.is_empty() && filters.is_empty() {
            let rows = tablets.iter().flat_map(|tablet| tablet.files.iter()).map(|file| file.rows).sum();
            partitions.push(Arc::new(Counted { schema: schema.clone(), rows }));
        } else {
            let width = state.config().target_partitions().clamp(1, tablets.len().max(1));
            let mut shares: Vec<Vec<ScanRequest>> = vec![Vec::new(); width];
            for (at, tablet) in tablets.into_iter().enumerate() {
                shares[at % width].push(ScanRequest {
                    tablet: tablet.id,
                    replicas: tablet.replicas.clone(),
                    files: tablet.files.clone(),
                    spec: spec.clone(),
                });
            }
            partitions.extend(shares.into_iter().map(|requests| {
                let tables = self.tables.clone();
                Arc::new(Share { schema: schema.clone(), requests, tables }) as Arc<dyn PartitionStream>
            }));
        }
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, None, false, limit)?))
    }
}

/// Tablets that are read one after the other.
struct Share {
    schema: SchemaRef,
    requests: Vec<ScanRequest>,
    tables: Arc<dyn Tables>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl PartitionStream for Share {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (tables, schema) = (self.tables.clone(), self.schema.clone());
        let requests = futures::stream::iter(self.requests.clone());
        let batches = requests
            .then(move |request| tables.scan(request))
            .map_ok(|batches| batches.map_err(external))
            .map_err(external)
            .try_flatten();
        let named = schema.clone();
        // The fields' names and ids are the BE's; only the values count.
        let renamed = batches.and_then(move |batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(named.clone(), batch.columns().to_vec(), &options);
            futures::future::ready(batch.map_err(DataFusionError::from))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, renamed))
    }
}

/// Rows of which only the number matters: the catalog knows it.
#[derive(Debug)]
struct Counted {
    schema: SchemaRef,
    rows: u64,
}

impl PartitionStream for Counted {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let mut left = self.rows;
        let batches = std::iter::from_fn(move || {
            let rows = left.min(COUNTED as u64);
            left -= rows;
            let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
            let batch = RecordBatch::try_new_with_options(schema.clone(), Vec::new(), &options);
            (rows > 0).then(|| batch.map_err(DataFusionError::from))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter(batches)))
    }
}

fn external(err: Error) -> DataFusionError {
    DataFusionError::External(Box::new(err))
}

/// The tablets that can hold a row that satisfies all filters.
fn tablets<'a>(view: &'a TableView, filters: &[ScanFilter]) -> Result<Vec<&'a TabletView>> {
    let mut wanted = Vec::new();
    let keys = hash_keys(view, filters);
    for partition in view.partitions.iter().filter(|partition| may_hold(view, partition, filters)) {
        let buckets = buckets(view, partition, keys.as_deref())?;
        let chosen = partition.tablets.iter().enumerate().filter(|(at, tablet)| {
            buckets.as_ref().is_none_or(|buckets| buckets.contains(&(*at as u32))) && !tablet.files.is_empty()
        });
        wanted.extend(chosen.map(|(_, tablet)| tablet));
    }
    Ok(wanted)
}

fn may_hold(view: &TableView, partition: &PartitionView, filters: &[ScanFilter]) -> bool {
    let (Some(column), Some(range)) = (view.partition_column, &partition.range) else { return true };
    // Whether a greater value can be here, and whether a lesser one can, or the value itself.
    let above = |value: &Datum| {
        let order = range.upper.as_ref().and_then(|upper| value.compare(upper));
        order.is_none_or(|order| order.is_lt())
    };
    let below = |value: &Datum, or_equal: bool| {
        let order = range.lower.as_ref().and_then(|lower| value.compare(lower));
        order.is_none_or(|order| order.is_gt() || (or_equal && order.is_eq()))
    };
    filters.iter().filter(|filter| filter.column() == column).all(|filter| match filter {
        ScanFilter::Compare { value: Datum::Null, .. } => false,
        ScanFilter::Compare { op, value, .. } => match op {
            Comparison::Eq => range.contains(value),
            Comparison::NotEq => true,
            Comparison::Lt => below(value, false),
            Comparison::LtEq => below(value, true),
            Comparison::Gt | Comparison::GtEq => above(value),
        },
        ScanFilter::In { values, .. } => values.iter().any(|value| *value != Datum::Null && range.contains(value)),
        ScanFilter::IsNull { .. } => range.contains(&Datum::Null),
        ScanFilter::IsNotNull { .. } => true,
    })
}

/// All combinations of the hash columns' values that the filters allow, if they are few.
fn hash_keys(view: &TableView, filters: &[ScanFilter]) -> Option<Vec<Vec<Datum>>> {
    let mut keys = vec![Vec::new()];
    for column in &view.hash_columns {
        let values = filters.iter().filter(|filter| filter.column() == *column).find_map(|filter| match filter {
            ScanFilter::Compare { op: Comparison::Eq, value, .. } => Some(vec![value.clone()]),
            ScanFilter::In { values, .. } => Some(values.clone()),
            ScanFilter::IsNull { .. } => Some(vec![Datum::Null]),
            _ => None,
        })?;
        if keys.len() * values.len() > MAX_KEYS {
            return None;
        }
        keys = keys
            .iter()
            .flat_map(|key| values.iter().map(move |value| key.iter().chain([value]).cloned().collect()))
            .collect();
    }
    (!view.hash_columns.is_empty()).then_some(keys)
}

fn buckets(view: &TableView, partition: &PartitionView, keys: Option<&[Vec<Datum>]>) -> Result<Option<HashSet<u32>>> {
    let Some(keys) = keys else { return Ok(None) };
    let count = partition.tablets.len() as u32;
    let mut buckets = HashSet::new();
    for key in keys {
        let columns = view.hash_columns.iter().zip(key);
        let columns = columns.map(|(column, value)| value.array(view.schema.columns[*column].ty, 1));
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>().map_err(|err| external(Error::internal(err)))?;
        buckets.extend(bucket_of(&columns, 1, count).map_err(|err| external(Error::internal(err)))?);
    }
    Ok(Some(buckets))
}

/// The filter as a scan applies it, if it can. Every row it keeps is filtered again above.
fn scan_filter(schema: &Schema, filter: &Expr) -> Option<ScanFilter> {
    let column = |expr: &Expr| match expr {
        Expr::Column(Column { name, .. }) => schema.position(name),
        _ => None,
    };
    let value = |at: usize, expr: &Expr| match expr {
        // A scan compares by total order, in which -0.0 is less than 0.0.
        _ if schema.columns[at].ty == ColumnType::Double => None,
        Expr::Literal(value, _) => datum(value, schema.columns[at].ty),
        _ => None,
    };
    match filter {
        // The optimiser makes this of a short IN.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (column, mut values) = alternatives(scan_filter(schema, left)?)?;
            let (other, more) = alternatives(scan_filter(schema, right)?)?;
            values.extend(more);
            (column == other).then_some(ScanFilter::In { column, values })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let op = comparison(*op)?;
            if let Some(at) = column(left) {
                return Some(ScanFilter::Compare { column: at, op, value: value(at, right)? });
            }
            let at = column(right)?;
            Some(ScanFilter::Compare { column: at, op: turned(op), value: value(at, left)? })
        }
        Expr::InList(list) if !list.negated => {
            let at = column(&list.expr)?;
            let values = list.list.iter().map(|expr| value(at, expr)).collect::<Option<Vec<_>>>()?;
            Some(ScanFilter::In { column: at, values })
        }
        Expr::IsNull(expr) => column(expr).map(|column| ScanFilter::IsNull { column }),
        Expr::IsNotNull(expr) => column(expr).map(|column| ScanFilter::IsNotNull { column }),
        Expr::Column(_) => flag(schema, column(filter)?, true),
        Expr::Not(expr) => flag(schema, column(expr)?, false),
        _ => None,
    }
}

fn alternatives(filter: ScanFilter) -> Option<(usize, Vec<Datum>)> {
    match filter {
        ScanFilter::Compare { column, op: Comparison::Eq, value } => Some((column, vec![value])),
        ScanFilter::In { column, values } => Some((column, values)),
        _ => None,
    }
}

/// A BOOLEAN column as a condition.
fn flag(schema: &Schema, column: usize, value: bool) -> Option<ScanFilter> {
    let is_flag = schema.columns[column].ty == ColumnType::Boolean;
    is_flag.then_some(ScanFilter::Compare { column, op: Comparison::Eq, value: Datum::Bool(value) })
}

fn comparison(op: Operator) -> Option<Comparison> {
    Some(match op {
        Operator::Eq => Comparison::Eq,
        Operator::NotEq => Comparison::NotEq,
        Operator::Lt => Comparison::Lt,
        Operator::LtEq => Comparison::LtEq,
        Operator::Gt => Comparison::Gt,
        Operator::GtEq => Comparison::GtEq,
        _ => return None,
    })
}

/// The comparison with its sides exchanged.
fn turned(op: Comparison) -> Comparison {
    match op {
        Comparison::Eq | Comparison::NotEq => op,
        Comparison::Lt => Comparison::Gt,
        Comparison::LtEq => Comparison::GtEq,
        Comparison::Gt => Comparison::Lt,
        Comparison::GtEq => Comparison::LtEq,
    }
}

/// A literal as a value of the column's type, if it is exactly one.
fn datum(value: &ScalarValue, ty: ColumnType) -> Option<Datum> {
    if value.is_null() {
        return Some(Datum::Null);
    }
    let array = value.to_array().ok()?;
    let found = match array.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => arrow::compute::cast(&array, &DataType::Utf8).ok()?,
        found if *found == ty.arrow() => array,
        _ => return None,
    };
    let value = Datum::at(&found, 0)?;
    (*found.data_type() == ty.arrow()).then_some(value)
}
