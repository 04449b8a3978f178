//! What DataFusion's joins lack. They end with their query and leave room for others: a join may work for minutes, and
//! through billions of pairs of rows, before it has a row to show, and asks nobody meanwhile. And they keep in memory
//! the side that is the smaller one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, JoinType, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::projection::ProjectionExec;
use tokio_util::sync::CancellationToken;

type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// Has a cross join keep one table in memory rather than the product of several, which would not fit.
#[derive(Debug)]
pub(super) struct KeepTheSmaller;

impl PhysicalOptimizerRule for KeepTheSmaller {
    fn name(&self) -> &str {
        "KeepTheSmaller"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_up(|node| match node.downcast_ref::<CrossJoinExec>() {
            Some(join) if factors(join.left()) > factors(join.right()) => join.swap_inputs().map(Transformed::yes),
            _ => Ok(Transformed::no(node)),
        });
        Ok(plan?.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Of how many tables a plan's rows are the product.
fn factors(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let product = plan.is::<CrossJoinExec>() || plan.is::<ProjectionExec>() || plan.is::<FilterExec>();
    if product { plan.children().into_iter().map(factors).sum() } else { 1 }
}

/// After so many batches of pairs, a join gives the runtime's other tasks another thread.
const BATCHES: usize = 64;

/// A plan whose joins look, after each batch that they find or compare, whether other tasks wait for their thread and
/// whether anybody waits for their rows.
pub(super) fn interruptible(
    plan: Arc<dyn ExecutionPlan>,
    unwanted: &CancellationToken,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        let join: Arc<dyn ExecutionPlan> = if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            let filter = watched(join.filter(), *join.join_type(), unwanted);
            Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?)
        } else if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            let filter = watched(join.filter(), *join.join_type(), unwanted);
            HashJoinExecBuilder::from(join).with_filter(filter).build_exec()?
        } else if node.is::<CrossJoinExec>() {
            node
        } else {
            return Ok(Transformed::no(node));
        };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(join)) as Arc<dyn ExecutionPlan>))
    });
    Ok(plan?.data)
}

/// The filter of a join, which is evaluated for each batch of pairs. A join without one shows its pairs, unless it only
/// looks whether there are any.
fn watched(filter: Option<&JoinFilter>, kind: JoinType, unwanted: &CancellationToken) -> Option<JoinFilter> {
    use JoinType::*;
    let all = || JoinFilter::new(lit(true), Vec::new(), Arc::new(Schema::empty()));
    let looks = matches!(kind, LeftSemi | RightSemi | LeftAnti | RightAnti | LeftMark | RightMark);
    let filter = filter.cloned().or_else(|| looks.then(all))?;
    let inner = filter.expression().clone();
    let watched = Watched { inner, unwanted: unwanted.clone(), batches: AtomicUsize::default() };
    Some(JoinFilter::new(Arc::new(watched), filter.column_indices().to_vec(), filter.schema().clone()))
}

/// An expression that is evaluated as long as somebody wants its query's rows.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    unwanted: CancellationToken,
    batches: AtomicUsize,
}

impl PhysicalExpr for Watched {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.unwanted.is_cancelled() {
            return exec_err!("nobody wants the rows");
        }
        if self.batches.fetch_add(1, Ordering::Relaxed) % BATCHES != BATCHES - 1 {
            return self.inner.evaluate(batch);
        }
        tokio::task::block_in_place(|| self.inner.evaluate(batch))
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.swap_remove(0);
        Ok(Arc::new(Self { inner, unwanted: self.unwanted.clone(), batches: AtomicUsize::default() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}
