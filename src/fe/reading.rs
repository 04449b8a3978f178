//! SELECT: the catalog as a query sees it, and the rows of tablets.
//!
//! A query keeps the image it was planned over until its last row: until then no file that it names is thrown away.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use sqlparser::ast::Query;

use super::frontend::{Frontend, check_no_data};
use super::variables::SERVER_VERSION;
use super::{Outcome, StatementContext, information_schema, rawkv};
use crate::catalog::{self, Image};
use crate::error::{Error, Result};
use crate::query::{
    PartitionView, QueryContext, RawView, ResultColumn, RowSet, ScanRequest, Table, TableView, Tables, TabletView,
    VariableScope,
};
use crate::rpc::fleet::Fleet;
use crate::rpc::message::ScanTicket;
use crate::types::{ColumnFamily, KeyRange};

/// The database of views on the catalog.
pub(super) const INFORMATION_SCHEMA: &str = "information_schema";

/// Answers a SELECT.
pub(super) async fn query(
    fe: &Arc<Frontend>,
    context: &StatementContext,
    query: &Query,
    text: &str,
) -> Result<Outcome> {
    rows(fe, context, query, text).await.map(Outcome::rows)
}

/// The rows of a query, over the catalog as it is now.
pub(super) async fn rows(fe: &Arc<Frontend>, context: &StatementContext, query: &Query, text: &str) -> Result<RowSet> {
    let tables = Arc::new(Reading { fe: fe.clone(), image: fe.read() });
    asked(fe, context, async |asked| fe.engine.query(tables, asked, query, text).await).await
}

/// The columns that the rows of a query would have.
pub(super) async fn columns(
    fe: &Arc<Frontend>,
    context: &StatementContext,
    query: &Query,
    text: &str,
) -> Result<Vec<ResultColumn>> {
    let tables = Arc::new(Reading { fe: fe.clone(), image: fe.read() });
    asked(fe, context, async |asked| fe.engine.describe(tables, asked, query, text).await).await
}

/// Does something with what a query may know of its session.
async fn asked<T>(
    fe: &Frontend,
    context: &StatementContext,
    work: impl AsyncFnOnce(&QueryContext<'_>) -> Result<T>,
) -> Result<T> {
    let variable = |scope, name: &str| match scope {
        VariableScope::Session => context.variables.get(name).ok(),
        VariableScope::Global => context.global_variables.get(name).ok(),
        VariableScope::User => context.user_variables.get(&name.to_lowercase()).cloned(),
    };
    let user = context.user_at_host();
    let zone = context.variables.get("time_zone")?.to_string();
    let asked = QueryContext {
        database: context.database.as_deref(),
        user: &user,
        connection: context.connection,
        version: SERVER_VERSION,
        product_version: env!("CARGO_PKG_VERSION"),
        now: fe.clock.now(),
        zone: &zone,
        variable: &variable,
    };
    work(&asked).await
}

/// What one query reads: one image, which it keeps until its last row.
struct Reading {
    fe: Arc<Frontend>,
    image: Arc<Image>,
}

impl Tables for Reading {
    fn table(&self, database: &str, table: &str) -> Result<Table> {
        if database.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
            let view = information_schema::view(&self.fe, &self.image, table);
            return view.map(|view| Table::Virtual(Arc::new(view))).ok_or_else(|| {
                let name = format!("{INFORMATION_SCHEMA}.{table}");
                Error::NotFound(crate::types::Entity::new(crate::types::Kind::Table, name))
            });
        }
        let found = self.image.table(database, table)?;
        if let Some(cf) = found.raw {
            let database = crate::types::Name::new(database).map_err(Error::internal)?;
            let view = RawView { database, name: found.name.clone(), schema: (*found.schema).clone(), cf };
            return Ok(Table::Raw(Arc::new(view)));
        }
        table_view(database, found).map(|view| Table::Stored(Arc::new(view)))
    }

    fn scan(&self, request: ScanRequest) -> BoxFuture<'static, Result<BoxStream<'static, Result<RecordBatch>>>> {
        let fleet = self.fe.fleet.clone();
        let image = self.image.clone();
        async move {
            let rows = scan(&fleet, request).await?;
            // The image, and with it the files, stay until the last row.
            let keep = move |row| {
                let _ = &image;
                row
            };
            Ok(rows.map(keep).boxed())
        }
        .boxed()
    }

    fn raw_scan(&self, cf: ColumnFamily, ranges: Vec<KeyRange>) -> BoxStream<'static, Result<RecordBatch>> {
        rawkv::scan(self.fe.clone(), cf, ranges)
    }

    fn may_read(&self, path: &Path) -> Result<()> {
        check_no_data(path)?;
        self.fe.check_path(path, &self.fe.config.get().files_allowed_paths, "files_allowed_paths")
    }
}

/// Reads a tablet from the first replica that answers. One that dies while it is asked may have been stopped, or cut off,
/// and say so only after long: it is not waited for if there is another.
async fn scan(fleet: &Fleet, request: ScanRequest) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let ticket = ScanTicket { spec: request.spec, files: request.files.to_vec() };
    let mut last = None;
    for (at, replica) in request.replicas.iter().enumerate() {
        let begin = async {
            let mut rows = fleet.backend(*replica)?.scan(&ticket).await?;
            // A BE that cannot read the files says so with the first batch; another may.
            let first = rows.next().await.transpose()?;
            Ok(futures::stream::iter(first.map(Ok)).chain(rows).boxed())
        };
        let others = request.replicas[at + 1..].iter().any(|other| fleet.is_alive(*other));
        let begun = tokio::select! {
            begun = begin => begun,
            err = fleet.lost(*replica), if others => Err(err),
        };
        match begun {
            Ok(rows) => return Ok(rows),
            Err(err) => last = Some(err),
        }
    }
    Err(last.unwrap_or_else(|| Error::internal(format_args!("tablet {} has no replica", request.tablet))))
}

/// A table of the catalog, as a query sees it.
fn table_view(database: &str, table: &catalog::Table) -> Result<TableView> {
    let position = |name: &crate::types::Name| {
        let position = table.schema.position(name);
        position.ok_or_else(|| Error::internal(format_args!("table {} has no column {name}", table.name)))
    };
    let partition = |partition: &std::sync::Arc<catalog::Partition>| PartitionView {
        name: partition.name.clone(),
        range: partition.range.clone(),
        tablets: partition
            .tablets
            .iter()
            .map(|tablet| TabletView {
                id: tablet.id,
                replicas: tablet.replicas.clone().into(),
                files: tablet.files.clone(),
            })
            .collect(),
    };
    Ok(TableView {
        database: crate::types::Name::new(database).map_err(Error::internal)?,
        name: table.name.clone(),
        schema: (*table.schema).clone(),
        hash_columns: table.distribution.columns.iter().map(position).collect::<Result<_>>()?,
        partition_column: table.partition_column.as_ref().map(position).transpose()?,
        partitions: table.ordered_partitions().into_iter().map(partition).collect(),
    })
}
