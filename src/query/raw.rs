//! Raw keys: which ranges a query needs of a column family. Rows come in key order.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, LogicalPlan, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, TryStreamExt};

use super::like::{self, Part};
use super::stored::planned_schema;
use super::tables::{RawView, Tables};
use crate::types::KeyRange;

type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// A column family, for DataFusion.
pub(super) struct RawTable {
    pub(super) view: Arc<RawView>,
    tables: Arc<dyn Tables>,
    schema: SchemaRef,
}

impl RawTable {
    pub(super) fn new(view: Arc<RawView>, tables: Arc<dyn Tables>) -> Self {
        let schema = planned_schema(&view.schema);
        Self { view, tables, schema }
    }
}

impl fmt::Debug for RawTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawTable").field("name", &self.view.name).finish_non_exhaustive()
    }
}

impl TableProvider for RawTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushed = |filter: &&Expr| {
            let more = filter.exists(|part| Ok(liked(part).is_some_and(|(_, all)| !all)))?;
            Ok(match ranges_of(filter) {
                Some(_) if more => TableProviderFilterPushDown::Inexact,
                Some(_) => TableProviderFilterPushDown::Exact,
                None => TableProviderFilterPushDown::Unsupported,
            })
        };
        filters.iter().map(pushed).collect()
    }

    // By hand: see `super`.
    fn scan<'a, 'b, 'c, 'd, 'all>(
        &'a self,
        _: &'b dyn Session,
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
        ready(self.plan(projection, filters, limit)).boxed()
    }
}

impl RawTable {
    fn plan(
        &self,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = vec![KeyRange::default()];
        let ranges = filters.iter().filter_map(ranges_of).fold(all, |all, some| intersection(&all, &some));
        let rows =
            RawRows { view: self.view.clone(), schema: self.schema.clone(), ranges, tables: self.tables.clone() };
        let key = projection.map_or(Some(0), |kept| kept.iter().position(|column| *column == 0));
        let order = key.and_then(|at| {
            let column = Arc::new(expressions::Column::new(self.schema.field(0).name(), at));
            LexOrdering::new([PhysicalSortExpr::new_default(column)])
        });
        let exec =
            StreamingTableExec::try_new(self.schema.clone(), vec![Arc::new(rows)], projection, order, false, limit)?;
        Ok(Arc::new(exec))
    }
}

struct RawRows {
    view: Arc<RawView>,
    schema: SchemaRef,
    ranges: Vec<KeyRange>,
    tables: Arc<dyn Tables>,
}

impl fmt::Debug for RawRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRows").field("ranges", &self.ranges).finish_non_exhaustive()
    }
}

impl PartitionStream for RawRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let rows = self.tables.raw_scan(self.view.cf, self.ranges.clone());
        let named = rows.map_err(|err| DataFusionError::External(Box::new(err))).and_then(move |batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options);
            futures::future::ready(batch.map_err(DataFusionError::from))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), named))
    }
}

/// Whether a plan reads raw keys.
pub(super) fn is_read_by(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found |= source_as_provider(&scan.source)?.downcast_ref::<RawTable>().is_some();
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The keys that may satisfy a filter, in ranges that ascend, if it is of the key alone. They do if [`liked`] finds no
/// part of it that asks for more.
fn ranges_of(filter: &Expr) -> Option<Vec<KeyRange>> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some(KeyRange::union([ranges_of(left)?, ranges_of(right)?].concat()))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            Some(intersection(&ranges_of(left)?, &ranges_of(right)?))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if is_key(left) {
                return compared(*op, literal(right)?);
            }
            is_key(right).then(|| compared(op.swap()?, literal(left)?))?
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_key(expr) => {
            let low = compared(Operator::GtEq, literal(low)?)?;
            Some(intersection(&low, &compared(Operator::LtEq, literal(high)?)?))
        }
        Expr::InList(list) if !list.negated && is_key(&list.expr) => {
            let points = list.list.iter().map(|value| compared(Operator::Eq, literal(value)?));
            Some(KeyRange::union(points.collect::<Option<Vec<_>>>()?.concat()))
        }
        other => liked(other).map(|(range, _)| range.into_iter().collect()),
    }
}

/// The keys that begin as those which a LIKE asks for, and whether it asks for all of them.
fn liked(filter: &Expr) -> Option<(Option<KeyRange>, bool)> {
    let Expr::ScalarFunction(call) = filter else { return None };
    let [expr, pattern] = &call.args[..] else { return None };
    if call.name() != "__like" || !is_key(expr) {
        return None;
    }
    let pattern = literal(pattern)?;
    let (mut prefix, mut left) = (Vec::new(), pattern.as_slice());
    while let Some((Part::Byte(byte), rest)) = like::next(left) {
        prefix.push(byte);
        left = rest;
    }
    let end = if left.is_empty() { [prefix.as_slice(), &[0]].concat() } else { next_behind(&prefix) };
    Some((range(prefix, end), left.iter().all(|part| *part == b'%')))
}

fn is_key(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(Column { name, .. }) if name == "k")
}

fn literal(expr: &Expr) -> Option<Vec<u8>> {
    match expr {
        Expr::Literal(
            ScalarValue::Binary(value)
            | ScalarValue::LargeBinary(value)
            | ScalarValue::BinaryView(value)
            | ScalarValue::FixedSizeBinary(_, value),
            _,
        ) => value.clone(),
        Expr::Literal(value, _) => value.try_as_str().flatten().map(|text| text.as_bytes().to_vec()),
        Expr::Cast(cast) if cast.field.data_type().is_string() || cast.field.data_type().is_binary() => {
            literal(&cast.expr)
        }
        _ => None,
    }
}

fn compared(op: Operator, key: Vec<u8>) -> Option<Vec<KeyRange>> {
    let after = [key.as_slice(), &[0]].concat();
    let before = || if key.is_empty() { None } else { range(Vec::new(), key.clone()) };
    Some(match op {
        Operator::Eq => range(key, after).into_iter().collect(),
        Operator::NotEq => before().into_iter().chain(range(after, Vec::new())).collect(),
        Operator::Lt => before().into_iter().collect(),
        Operator::LtEq => range(Vec::new(), after).into_iter().collect(),
        Operator::Gt => range(after, Vec::new()).into_iter().collect(),
        Operator::GtEq => range(key, Vec::new()).into_iter().collect(),
        _ => return None,
    })
}

fn range(start: Vec<u8>, end: Vec<u8>) -> Option<KeyRange> {
    KeyRange::new(start, end).ok()
}

/// The first key behind all that begin with a prefix; empty if there is none.
fn next_behind(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xFF).map_or(0, |last| last + 1);
    let mut key = prefix[..kept].to_vec();
    if let Some(last) = key.last_mut() {
        *last += 1;
    }
    key
}

fn intersection(these: &[KeyRange], those: &[KeyRange]) -> Vec<KeyRange> {
    KeyRange::union(these.iter().flat_map(|this| those.iter().filter_map(|that| this.intersection(that))).collect())
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::super::functions;
    use super::*;

    fn shown(filter: Expr) -> Option<String> {
        let ranges = ranges_of(&filter)?;
        Some(ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    fn like(expr: Expr, pattern: &str) -> Expr {
        functions::call("__like", vec![expr, lit(pattern)]).unwrap()
    }

    fn key(text: &str) -> Expr {
        lit(ScalarValue::Binary(Some(text.into())))
    }

    #[test]
    fn filters_of_the_key_become_ranges() {
        let k = || col("k");
        for (filter, ranges) in [
            (k().eq(key("a")), "[61, 6100)"),
            (k().eq(lit("a")), "[61, 6100)"),
            (key("a").lt(k()), "[6100, )"),
            (k().lt_eq(key("a")), "[, 6100)"),
            (k().lt(key("")), ""),
            (k().gt_eq(key("")), "[, )"),
            (k().not_eq(key("")), "[00, )"),
            (k().not_eq(key("a")), "[, 61) [6100, )"),
            (k().between(lit("a"), lit("b")), "[61, 6200)"),
            (k().gt_eq(key("a")).and(k().lt(key("c"))), "[61, 63)"),
            (k().gt_eq(key("c")).and(k().lt(key("a"))), ""),
            (k().in_list(vec![key("b"), key("a"), key("b")], false), "[61, 6100) [62, 6200)"),
            (k().lt(key("b")).or(k().gt(key("a"))), "[, )"),
        ] {
            assert_eq!(shown(filter.clone()).as_deref(), Some(ranges), "{filter}");
        }
        for filter in [
            like(col("v"), "a%"),
            !like(k(), "a%"),
            col("v").eq(key("a")),
            k().eq(col("v")),
            k().lt(key("b")).or(col("v").eq(key("a"))),
            k().in_list(vec![key("a")], true),
        ] {
            assert_eq!(shown(filter.clone()), None, "{filter}");
        }
        for (pattern, ranges, all) in [
            ("ab%", "[6162, 6163)", true),
            ("ab%%", "[6162, 6163)", true),
            ("%", "[, )", true),
            ("ab", "[6162, 616200)", true),
            ("", "[, 00)", true),
            (r"a\_%", "[615F, 6160)", true),
            (r"a\%\\%", "[61255C, 61255D)", true),
            (r"a\", "[615C, 615C00)", true),
            ("a_%", "[61, 62)", false),
            ("a%b", "[61, 62)", false),
            ("%a", "[, )", false),
        ] {
            let filter = like(k(), pattern);
            assert_eq!(shown(filter.clone()).as_deref(), Some(ranges), "{pattern}");
            assert_eq!(liked(&filter).unwrap().1, all, "{pattern}");
        }
        assert_eq!(next_behind(&[1, 0xFF, 0xFF]), [2]);
        assert!(next_behind(&[0xFF, 0xFF]).is_empty());
    }
}
