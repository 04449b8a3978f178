//! The BEs of the catalog: who lives, and how to reach them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::config::FeConfig;
use crate::error::{Error, Result};
use crate::rpc::client::{Backend, Backends, Caller};
use crate::rpc::message::{Alive, Heartbeat};
use crate::types::{BackendId, Entity, Kind, Timestamp};

/// What the FE knows of a BE beyond the catalog. In memory only: after a restart the heartbeats tell again.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Its last answer.
    pub alive: Option<Alive>,
    /// When that came.
    pub last_heartbeat: Option<Timestamp>,
    /// Why it did not answer since; empty if it did.
    pub error: String,
}

/// The BEs, with their heartbeats. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    catalog: Arc<Catalog>,
    backends: Backends,
    config: FeConfig,
    clock: Clock,
    health: Arc<Mutex<HashMap<BackendId, Health>>>,
    started: Timestamp,
}

impl Fleet {
    /// The BEs of a catalog. None counts as alive before its first heartbeat.
    pub fn new(catalog: Arc<Catalog>, config: FeConfig, clock: Clock) -> Self {
        let identity = catalog.image().identity.clone();
        let known = catalog.clone();
        let sequence = Arc::new(move || known.image().sequence);
        let caller = Caller { cluster: identity.cluster, token: identity.token.clone(), sequence };
        let backends = Backends::new(caller);
        let started = clock.now();
        Self { catalog, backends, config, clock, health: Arc::default(), started }
    }

    /// Makes the BE of this process known under the address it has this time, and waits until it has joined.
    pub async fn adopt(&self, known: Option<BackendId>, address: std::net::SocketAddr) -> Result<()> {
        let id = self
            .catalog
            .commit(|draft| {
                let id = known.unwrap_or_else(|| BackendId(draft.fresh_id()));
                let backend = catalog::Backend { id, host: address.ip().to_string(), port: address.port() };
                draft.put_backend(backend)?;
                Ok(id)
            })
            .await?;
        self.beat_once().await;
        self.backend(id).map(drop)
    }

    /// Sends heartbeats until told to stop. A BE that is slow to answer keeps no other waiting.
    pub async fn beat(&self, shutdown: CancellationToken) {
        let beats = async {
            let asking: Arc<Mutex<HashSet<BackendId>>> = Arc::default();
            loop {
                let image = self.catalog.image();
                self.lock().retain(|id, _| image.backends.contains_key(id));
                for backend in image.backends.values().cloned() {
                    if !asking.lock().unwrap_or_else(PoisonError::into_inner).insert(backend.id) {
                        continue;
                    }
                    let (fleet, asking) = (self.clone(), asking.clone());
                    tokio::spawn(async move {
                        fleet.beat_one(&backend).await;
                        asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&backend.id);
                    });
                }
                self.clock.sleep(Duration::from_millis(self.config.get().heartbeat_interval_ms)).await;
            }
        };
        tokio::select! {
            () = beats => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Asks every BE once, and waits for all answers.
    pub async fn beat_once(&self) {
        let image = self.catalog.image();
        futures::stream::iter(image.backends.values())
            .for_each_concurrent(None, |backend| self.beat_one(backend))
            .await;
    }

    async fn beat_one(&self, backend: &catalog::Backend) {
        let answer = self.ask(backend).await;
        self.hear(backend.id, answer);
    }

    /// Asks one BE, which need not be in the catalog yet.
    pub async fn ask(&self, backend: &catalog::Backend) -> Result<Alive> {
        self.backends.at(&backend.address())?.heartbeat(&Heartbeat { backend: backend.id }).await
    }

    fn hear(&self, id: BackendId, answer: Result<Alive>) {
        let answer = answer.and_then(|alive| match alive.backend == id {
            true => Ok(alive),
            false => Err(Error::Refused(format!("at its address backend {} answers", alive.backend))),
        });
        let mut all = self.lock();
        let health = all.entry(id).or_default();
        match answer {
            Ok(alive) => {
                *health = Health { alive: Some(alive), last_heartbeat: Some(self.clock.now()), error: String::new() };
            }
            Err(err) => {
                if health.error.is_empty() {
                    tracing::warn!(backend = %id, "{}", err.report());
                }
                health.error = err.report();
            }
        }
    }

    /// What is known of a BE.
    pub fn health(&self, id: BackendId) -> Health {
        self.lock().get(&id).cloned().unwrap_or_default()
    }

    /// Whether a BE answers, or has until a moment ago.
    pub fn is_alive(&self, id: BackendId) -> bool {
        let timeout = self.config.get().heartbeat_timeout_second as i64 * 1000;
        self.health(id).last_heartbeat.is_some_and(|last| last.plus_ms(timeout) >= self.clock.now())
    }

    /// Whether nobody should wait for a BE any more: it was dropped, or has been dead for long.
    pub fn is_lost(&self, id: BackendId) -> bool {
        let tolerated = self.config.get().tablet_sched_be_down_tolerate_time_s as i64 * 1000;
        let seen = self.health(id).last_heartbeat.unwrap_or(self.started);
        !self.catalog.image().backends.contains_key(&id) || seen.plus_ms(tolerated) < self.clock.now()
    }

    /// Asks a BE how it is now.
    pub async fn look(&self, id: BackendId) -> Result<Alive> {
        let known = self.catalog.image().backends.get(&id).cloned();
        let known = known.ok_or_else(|| Error::NotFound(Entity::new(Kind::Backend, id)))?;
        let alive = self.ask(&known).await?;
        self.hear(id, Ok(alive.clone()));
        Ok(alive)
    }

    /// The BEs that are alive, by id.
    pub fn alive(&self) -> Vec<BackendId> {
        self.catalog.image().backends.keys().copied().filter(|id| self.is_alive(*id)).collect()
    }

    /// A BE to call; refuses one that is gone, with the reason.
    pub fn backend(&self, id: BackendId) -> Result<Backend> {
        let image = self.catalog.image();
        let known = image.backends.get(&id).ok_or_else(|| Error::NotFound(Entity::new(Kind::Backend, id)))?;
        if self.is_alive(id) {
            return self.backends.at(&known.address());
        }
        let error = self.health(id).error;
        let reason = if error.is_empty() { "it has not answered a heartbeat yet".into() } else { error };
        Err(Error::Backend {
            backend: known.address(),
            operation: "reach".into(),
            source: reason.into(),
            retryable: true,
        })
    }

    /// The address of a BE, for messages and for other BEs.
    pub fn address(&self, id: BackendId) -> String {
        self.catalog.image().backends.get(&id).map_or_else(|| id.to_string(), |backend| backend.address())
    }

    /// Chooses the BEs of new tablets: each gets `copies` different living ones, in turn, so that tablets spread
    /// evenly. Refuses if fewer live.
    pub fn place(&self, copies: u32, tablets: usize) -> Result<Vec<Vec<BackendId>>> {
        let alive = self.alive();
        let count = copies as usize;
        if count == 0 || count > alive.len() {
            return Err(Error::Refused(format!(
                "Table replication num should be less than or equal to the number of available BE nodes. \
                 replication_num {copies}, available BE nodes {}",
                alive.len()
            )));
        }
        let at = |n: usize| alive[n % alive.len()];
        Ok((0..tablets).map(|tablet| (0..count).map(|copy| at(tablet + copy)).collect()).collect())
    }

    /// How many copies a table gets whose statement does not say: the configured number, or as many as BEs live.
    pub fn default_copies(&self) -> u32 {
        u32::from(self.config.get().default_replication_num).min(self.alive().len() as u32).max(1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BackendId, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
