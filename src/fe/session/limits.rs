//! What ends a statement before its time.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use sqlparser::ast::{Query, SetExpr};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::fe::Variables;
use crate::query::RowSet;

/// The error of a statement that a KILL has ended; `left` is what goes on.
pub fn interrupted(left: &str) -> Error {
    Error::Cancelled(format!("Query execution was interrupted{left}"))
}

/// A panic, logged here and told to the client.
pub(super) fn bug(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no text");
    tracing::error!("bug: a statement panicked: {text}");
    Error::internal(format_args!("the statement met a bug, which is in the log: {text}"))
}

/// What bounds the answer to a statement.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    rows: u64,
    /// When it must have ended, and how many seconds that were.
    time: Option<(Instant, u64)>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: u64::MAX, time: None }
    }
}

impl Limits {
    /// Those that a session's variables set. A LIMIT of the query's own comes before `sql_select_limit`.
    pub(super) fn of_query(variables: &Variables, query: &Query) -> Self {
        let seconds = variables.number("query_timeout");
        let time = Some((Instant::now() + Duration::from_secs(seconds), seconds));
        let rows = if has_limit(query) { u64::MAX } else { variables.number("sql_select_limit") };
        Self { rows, time }
    }

    /// Returns when the time is over.
    pub(super) async fn reached(self) -> Error {
        match self.time {
            None => std::future::pending().await,
            Some((end, seconds)) => {
                tokio::time::sleep_until(end).await;
                Error::QueryTimeout(seconds)
            }
        }
    }
}

fn has_limit(query: &Query) -> bool {
    query.limit_clause.is_some() || matches!(&*query.body, SetExpr::Query(inner) if has_limit(inner))
}

/// Rows that end in an error when a KILL, a panic or the time meets them, and after as many as the limit says.
pub(super) fn guarded(rows: RowSet, cancel: CancellationToken, limits: Limits) -> RowSet {
    let batches = stream::unfold(Some((rows.batches, limits.rows)), move |left| {
        let cancel = cancel.clone();
        async move {
            let (mut batches, limit) = left.filter(|(_, limit)| *limit > 0)?;
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return Some((Err(interrupted("")), None)),
                err = limits.reached() => return Some((Err(err), None)),
                next = AssertUnwindSafe(batches.next()).catch_unwind() => next,
            };
            match next {
                Ok(None) => None,
                Ok(Some(Ok(batch))) => {
                    let wanted = usize::try_from(limit).unwrap_or(usize::MAX).min(batch.num_rows());
                    let batch = batch.slice(0, wanted);
                    Some((Ok(batch), Some((batches, limit - wanted as u64))))
                }
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Err(panic) => Some((Err(bug(&*panic)), None)),
            }
        }
    });
    RowSet { columns: rows.columns, batches: batches.boxed() }
}
