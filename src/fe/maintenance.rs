use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::frontend::Frontend;

/// Merges small files and throws garbage away, until told to stop.
pub async fn run(fe: Arc<Frontend>, shutdown: CancellationToken) {
    let _ = fe;
    shutdown.cancelled().await;
}
