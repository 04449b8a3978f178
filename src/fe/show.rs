use std::sync::Arc;

use super::frontend::Frontend;
use super::{Outcome, StatementContext};
use crate::error::{Error, Result};
use crate::sql::Show;

/// Answers a SHOW, ADMIN SHOW or DESC.
pub(super) async fn show(fe: &Arc<Frontend>, context: &StatementContext, show: &Show) -> Result<Outcome> {
    let _ = (fe, context, show);
    Err(Error::Unsupported("this SHOW".into()))
}
