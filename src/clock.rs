//! Time, sleep, back-off, fresh ids, speed limits and crashes: everything that a test wants to decide.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// A place where a test may have the process die, as `kill -9` or a power cut would end it. Without the feature
/// `failpoints` it is nothing; with it, `FAILPOINTS="<name>=return"` in the environment arms it, and
/// `"<name>=2*off->return"` lets two pass first.
pub fn crash_point(name: &str) {
    let _ = name;
    fail::fail_point!(name, |_| std::process::abort());
}

/// A speed limit shared by all who move bytes. Changes act at once, on those who wait too.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Bytes a second; 0 is without limit.
    limit: AtomicU64,
    account: Mutex<Option<Account>>,
}

/// What is owed: bytes that have moved before their time.
#[derive(Debug, Clone, Copy)]
struct Account {
    since: Instant,
    owed: f64,
}

impl Account {
    /// Takes bytes if nothing is owed; otherwise says how long until then.
    fn take(account: &mut Option<Self>, now: Instant, bytes: usize, limit: f64) -> Result<(), Duration> {
        let Self { since, owed } = account.unwrap_or(Self { since: now, owed: 0.0 });
        let owed = owed - now.duration_since(since).as_secs_f64() * limit;
        let (owed, outcome) = match owed <= 0.0 {
            true => (bytes as f64, Ok(())),
            false => (owed, Err(Duration::from_secs_f64(owed / limit))),
        };
        *account = Some(Self { since: now, owed });
        outcome
    }
}

impl Throttle {
    /// A limit in bytes a second; 0 is none.
    pub fn new(limit: u64) -> Self {
        Self { limit: AtomicU64::new(limit), account: Mutex::default() }
    }

    /// Changes the limit.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Waits until these bytes may move. Any number of bytes passes at once if nothing is owed; the next who comes
    /// waits for it. So a burst is one call's bytes, and the mean keeps the limit.
    pub async fn take(&self, bytes: usize) {
        // Long waits are cut into slices, so that a changed limit is seen.
        const SLICE: Duration = Duration::from_millis(100);
        loop {
            let limit = self.limit.load(Ordering::Relaxed) as f64;
            if limit == 0.0 {
                return;
            }
            let taken = {
                let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
                Account::take(&mut account, Instant::now(), bytes, limit)
            };
            let Err(wait) = taken else { return };
            tokio::time::sleep(wait.min(SLICE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_speed_keeps_the_limit() {
        let (start, mut account) = (Instant::now(), None);
        let mut now = start;
        for _ in 0..11 {
            while let Err(wait) = Account::take(&mut account, now, 1000, 1000.0) {
                now += wait.min(Duration::from_millis(100)) + Duration::from_micros(1);
            }
        }
        let seconds = (now - start).as_secs_f64();
        assert!((10.0..10.01).contains(&seconds), "{seconds}");
    }

    #[tokio::test]
    async fn a_changed_limit_frees_who_waits() {
        let throttle = Throttle::new(1);
        throttle.take(1_000_000_000).await;
        tokio::join!(throttle.take(1), async { throttle.set_limit(0) });
    }
}
