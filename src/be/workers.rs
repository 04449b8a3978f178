use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// So many at a time, where the number may change: more begin at once, fewer are reached as work ends.
pub struct Workers {
    limit: Box<dyn Fn() -> usize + Send + Sync>,
    busy: Mutex<usize>,
    changed: Notify,
}

/// One of the workers; dropping it frees the place.
pub struct Worker<'a>(&'a Workers);

impl Workers {
    /// `limit` is asked whenever somebody wants to begin.
    pub fn new(limit: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self { limit: Box::new(limit), busy: Mutex::new(0), changed: Notify::new() }
    }

    /// Waits for a place.
    pub async fn take(&self) -> Worker<'_> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Being listed before looking, nobody can free a place unseen.
            changed.as_mut().enable();
            {
                let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
                if *busy < (self.limit)().max(1) {
                    *busy += 1;
                    return Worker(self);
                }
            }
            changed.await;
        }
    }

    /// Says that the limit has changed.
    pub fn limit_changed(&self) {
        self.changed.notify_waiters();
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.changed.notify_waiters();
    }
}
