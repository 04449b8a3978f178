//! What DataFusion's grouping sets lack: names of what they are of, and rows of which nothing is known that is known of
//! those before.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DataFusionError};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlanBuilder};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;

type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// Computes what is in grouping sets in a projection before: a rule that changes an expression within a set, ours or one
/// of DataFusion's, cannot give it its name back.
pub(super) fn of_columns(aggregate: Aggregate) -> Result<Aggregate> {
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let mut columns: Vec<Expr> = input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
    let mut column = |expr: Expr| {
        if matches!(expr, Expr::Column(_)) {
            return Ok(Transformed::no(expr));
        }
        let name = expr.schema_name().to_string();
        let computed = expr.alias(&name);
        if !columns.contains(&computed) {
            columns.push(computed);
        }
        Ok(Transformed::yes(Expr::Column(Column::from_name(name))))
    };
    let sets = group_expr.into_iter().map(|sets| Ok(sets.map_children(&mut column)?.data));
    let sets = sets.collect::<Result<_>>()?;
    let aggregates = aggr_expr.into_iter().map(|expr| {
        let found = expr.transform_down(|expr| match &expr {
            Expr::AggregateFunction(call) if call.func.name() == "grouping" => expr.map_children(&mut column),
            _ => Ok(Transformed::no(expr)),
        });
        Ok(found?.data)
    });
    let aggregates = aggregates.collect::<Result<_>>()?;
    let projected = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?.build()?;
    Aggregate::try_new(Arc::new(projected), sets, aggregates)
}

/// Keeps DataFusion from concluding that a column that is constant, sorted, or equal to another before there are grouping
/// sets is so after them, where it is NULL in some, and from leaving out an ORDER BY for it. All that is known of a
/// union is what is known of each of its parts.
#[derive(Debug)]
pub(super) struct ForgetTheRows;

impl PhysicalOptimizerRule for ForgetTheRows {
    fn name(&self) -> &str {
        "ForgetTheRows"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_up(|node| match node.downcast_ref::<AggregateExec>() {
            Some(aggregate) if aggregate.group_expr().has_grouping_set() => {
                let nothing = Arc::new(EmptyExec::new(node.schema()));
                UnionExec::try_new(vec![node, nothing]).map(Transformed::yes)
            }
            _ => Ok(Transformed::no(node)),
        });
        Ok(plan?.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
