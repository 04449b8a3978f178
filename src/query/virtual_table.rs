use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;

use super::stored::planned_schema;
use super::tables::{MadeBatches, VirtualTable};

/// A table whose rows are made on demand, for DataFusion.
#[derive(Debug)]
pub(super) struct MadeTable {
    pub(super) table: Arc<VirtualTable>,
    schema: SchemaRef,
}

impl MadeTable {
    pub(super) fn new(table: Arc<VirtualTable>) -> Self {
        let schema = planned_schema(&table.schema);
        Self { table, schema }
    }
}

#[async_trait]
impl TableProvider for MadeTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let rows = Arc::new(MadeRows { table: self.table.clone(), schema: self.schema.clone() });
        let exec = StreamingTableExec::try_new(self.schema.clone(), vec![rows], projection, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

#[derive(Debug)]
struct MadeRows {
    table: Arc<VirtualTable>,
    schema: SchemaRef,
}

impl PartitionStream for MadeRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, schema) = (self.table.clone(), self.schema.clone());
        let batches = stream::try_unfold(None, move |made: Option<MadeBatches>| {
            let (table, schema) = (table.clone(), schema.clone());
            let next = tokio::task::spawn_blocking(move || {
                let mut batches = made.unwrap_or_else(|| (table.rows)());
                let Some(batch) = batches.next().transpose().map_err(|err| DataFusionError::External(Box::new(err)))?
                else {
                    return Ok(None);
                };
                Ok(Some((RecordBatch::try_new(schema, batch.columns().to_vec())?, Some(batches))))
            });
            async move { next.await.map_err(|err| DataFusionError::Internal(err.to_string()))? }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
