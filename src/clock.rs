//! Time, sleep, back-off, fresh ids, speed limits and crashes: everything that a test wants to decide.

#[cfg(feature = "failpoints")]
use std::io::Write;
#[cfg(feature = "failpoints")]
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::watch;
use uuid::Uuid;

use crate::types::Timestamp;

/// Where time and chance come from. Cheap to clone; clones share a manual clock's hands.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Nanoseconds that a manual clock has been moved.
    manual: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock for tests, that nothing moves but [`Clock::sleep`]: whoever sleeps wakes at once, so much later.
    pub fn manual() -> Self {
        Self { manual: Some(Arc::default()) }
    }

    /// The time now.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Timestamp {
        match &self.manual {
            None => Timestamp(chrono::Utc::now().timestamp_millis()),
            Some(_) => Timestamp(self.elapsed().as_millis() as i64),
        }
    }

    /// Time since some moment, the same for the whole process, whatever becomes of the system's time.
    pub fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match &self.manual {
            None => START.elapsed(),
            Some(moved) => Duration::from_nanos(moved.load(Ordering::SeqCst)),
        }
    }

    /// Waits on the runtime's timer.
    pub async fn sleep(&self, duration: Duration) {
        match &self.manual {
            None => tokio::time::sleep(duration).await,
            Some(moved) => {
                moved.fetch_add(duration.as_nanos() as u64, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    }

    /// Sleeps so many milliseconds, as `values` say it: if they change meanwhile, until so long since the beginning.
    pub async fn pause<V>(&self, mut values: watch::Receiver<Arc<V>>, millis: impl Fn(&V) -> u64) {
        let begun = tokio::time::Instant::now();
        loop {
            let whole = Duration::from_millis(millis(&values.borrow_and_update()));
            tokio::select! {
                () = self.sleep(whole.saturating_sub(begun.elapsed())) => return,
                Ok(()) = values.changed() => {}
            }
        }
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
/// `"<name>=2*off->return"` lets two pass first. With `"<name>=return(<path>)"` it says in that file that it is there, and
/// stays as long as the file exists.
pub fn crash_point(name: &str) {
    let _ = name;
    fail::fail_point!(name, |path| match path {
        None => std::process::abort(),
        Some(path) => {
            // Never makes the file: who removes it lets all go on.
            let _ = std::fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(b"held"));
            while Path::new(&path).exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
}

/// A size that a test may have smaller, so that little data shows what much would: with the feature `failpoints`, by
/// `FAILPOINTS="<name>=return(<size>)"`.
pub fn size(name: &str, usual: usize) -> usize {
    let _ = name;
    fail::fail_point!(name, |size| size.and_then(|size| size.parse().ok()).unwrap_or(usual));
    usual
}

/// A speed limit shared by all who move bytes. Changes act at once, on those who wait too.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Bytes a second; 0 is without limit.
    limit: AtomicU64,
    account: Mutex<Account>,
    clock: Clock,
}

/// What is owed: bytes that have moved before their time.
#[derive(Debug, Default)]
struct Account {
    /// As of this moment of the clock.
    since: Duration,
    owed: f64,
}

impl Account {
    /// Takes bytes if nothing is owed; otherwise says how long until then.
    fn take(&mut self, now: Duration, bytes: usize, limit: f64) -> Result<(), Duration> {
        let owed = self.owed - now.saturating_sub(self.since).as_secs_f64() * limit;
        let (owed, outcome) = match owed <= 0.0 {
            true => (bytes as f64, Ok(())),
            // Never nothing, however little is owed.
            false => (owed, Err(Duration::from_secs_f64(owed / limit) + Duration::from_nanos(1))),
        };
        *self = Self { since: now, owed };
        outcome
    }
}

impl Throttle {
    /// A limit in bytes a second; 0 is none.
    pub fn new(limit: u64, clock: Clock) -> Self {
        Self { limit: AtomicU64::new(limit), account: Mutex::default(), clock }
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
        const LEAST: Duration = Duration::from_micros(1);
        loop {
            let limit = self.limit.load(Ordering::Relaxed) as f64;
            if limit == 0.0 {
                return;
            }
            let taken = {
                let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
                account.take(self.clock.elapsed(), bytes, limit)
            };
            let Err(wait) = taken else { return };
            // What is owed may be less than the clock can count.
            self.clock.sleep(wait.clamp(LEAST, SLICE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_mean_speed_keeps_the_limit() {
        let clock = Clock::manual();
        let throttle = Throttle::new(1000, clock.clone());
        for _ in 0..11 {
            throttle.take(1000).await;
        }
        assert_eq!(clock.elapsed().as_secs_f64().round(), 10.0);
    }

    #[tokio::test]
    async fn a_shorter_pause_acts_at_once() {
        let (values, watched) = watch::channel(Arc::new(3_600_000));
        let clock = Clock::system();
        tokio::join!(clock.pause(watched, |millis| *millis), async { values.send_replace(Arc::new(1)) });
    }

    #[tokio::test]
    async fn a_changed_limit_frees_who_waits() {
        let throttle = Throttle::new(1, Clock::system());
        throttle.take(1_000_000_000).await;
        tokio::join!(throttle.take(1), async { throttle.set_limit(0) });
    }
}
