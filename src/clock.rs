//! Time, sleep, back-off and fresh ids: everything that a test wants to decide, behind one type.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::Rng;
use uuid::Uuid;

use crate::types::Timestamp;

/// Where time and chance come from. Cheap to clone; clones share a manual clock's hands.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Milliseconds by which this clock is ahead of the system's, set by tests.
    ahead: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// Moves this clock and all its clones forward.
    pub fn advance(&self, by: Duration) {
        self.ahead.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }

    /// The time now.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Timestamp {
        Timestamp(chrono::Utc::now().timestamp_millis()).plus_ms(self.ahead.load(Ordering::SeqCst))
    }

    /// Waits on the runtime's timer.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// How long to wait before the nth repetition (from 0): doubling from 200 ms up to 30 s, less up to half by
    /// chance, so that many who failed together do not return together.
    pub fn back_off(&self, repetition: u32) -> Duration {
        let full = Duration::from_millis(200).saturating_mul(1 << repetition.min(8)).min(Duration::from_secs(30));
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// A fresh random id.
    #[allow(clippy::disallowed_methods)]
    pub fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}
