//! The BEs of the catalog: who lives, and how to reach them.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::config::FeConfig;
use crate::error::{Error, Result};
use crate::rpc::client::{Backend, Backends, Caller};
use crate::rpc::message::{Alive, Heartbeat};
use crate::types::{BackendId, Timestamp};

/// How often whoever waits for a BE looks whether it is still alive.
const LOOK: Duration = Duration::from_millis(100);

/// What the FE knows of a BE beyond the catalog. In memory only: after a restart the heartbeats tell again.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Its last answer.
    pub alive: Option<Alive>,
    /// When that came.
    pub last_heartbeat: Option<Timestamp>,
    /// The same, by a clock that nobody sets.
    heard: Option<Duration>,
    /// What answers now at its address is not to be used as this BE.
    refused: bool,
    /// Why it did not answer since, or what is wrong with what it answered; empty if nothing.
    pub error: String,
    /// What it has seen and the catalog lacks; empty if nothing.
    ahead: String,
}

/// The BEs, with their heartbeats. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    catalog: Arc<Catalog>,
    backends: Backends,
    config: FeConfig,
    clock: Clock,
    health: Arc<Mutex<HashMap<BackendId, Health>>>,
    started: Duration,
    /// The BE of this process, with the address it has this time.
    local: Arc<OnceLock<catalog::Backend>>,
}

impl Fleet {
    /// The BEs of a catalog. None counts as alive before its first heartbeat.
    pub fn new(catalog: Arc<Catalog>, config: FeConfig, clock: Clock) -> Self {
        let identity = catalog.image().identity.clone();
        let known = catalog.clone();
        let at = move || {
            let image = known.image();
            (image.epoch(), image.sequence)
        };
        let (cluster, token) = (identity.cluster, identity.token.clone());
        let caller = Caller { cluster, token, process: Some(catalog.own_epoch()), at: Arc::new(at) };
        let backends = Backends::new(caller);
        let started = clock.elapsed();
        Self { catalog, backends, config, clock, health: Arc::default(), started, local: Arc::default() }
    }

    /// Makes the BE of this process known under the address it has this time. `known` is the id it has here, if it has
    /// one.
    pub async fn adopt(&self, known: Option<BackendId>, address: std::net::SocketAddr) -> Result<()> {
        let id = match known {
            Some(id) => id,
            None => {
                let others = self.catalog.image().backends.len();
                if others > 0 {
                    tracing::error!(
                        "the storage directory belongs to no cluster, and the catalog knows {others} backends: was it \
                         emptied, or is its disk not mounted? What was there is missing until it is brought back, or \
                         restored from a snapshot"
                    );
                }
                BackendId(self.catalog.commit(|draft| Ok(draft.fresh_id())).await?)
            }
        };
        let backend = catalog::Backend { id, host: address.ip().to_string(), port: address.port() };
        let answer = self.ask(&backend, known.is_none()).await?;
        // The address is this process's: where it cannot be recorded, nobody else needs it.
        let recorded = self.catalog.commit(|draft| {
            draft.although_held();
            draft.put_backend(backend.clone())
        });
        if let Err(err) = recorded.await {
            if !self.catalog.image().backends.contains_key(&id) {
                return Err(err);
            }
            tracing::warn!(backend = %id, "its address is not recorded: {}", err.report());
        }
        let _ = self.local.set(backend);
        self.hear(id, Ok(answer));
        self.beat_once().await;
        self.backend(id).map(drop)
    }

    /// A BE of the catalog, with the address it has now.
    fn find(&self, id: BackendId) -> Result<catalog::Backend> {
        let image = self.catalog.image();
        let dropped = || Error::Backend {
            backend: id.to_string(),
            operation: "reach".into(),
            source: "it was dropped".into(),
            retryable: true,
        };
        let known = image.backends.get(&id).ok_or_else(dropped)?;
        let local = self.local.get().filter(|local| local.id == id);
        Ok(local.unwrap_or(known).clone())
    }

    /// Sends heartbeats until told to stop. A BE that is slow to answer keeps no other waiting.
    pub async fn beat(&self, shutdown: CancellationToken) {
        let beats = async {
            let asking: Arc<Mutex<HashSet<BackendId>>> = Arc::default();
            loop {
                let image = self.catalog.image();
                self.lock().retain(|id, _| image.backends.contains_key(id));
                self.hold_changes();
                for backend in image.backends.keys().filter_map(|id| self.find(*id).ok()) {
                    if !asking.lock().unwrap_or_else(PoisonError::into_inner).insert(backend.id) {
                        continue;
                    }
                    let (fleet, asking) = (self.clone(), asking.clone());
                    tokio::spawn(async move {
                        // However that ends, it is asked again.
                        let _ = AssertUnwindSafe(fleet.beat_one(&backend)).catch_unwind().await;
                        asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&backend.id);
                    });
                }
                self.clock.pause(self.config.watch(), |values| values.heartbeat_interval_ms).await;
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
        futures::stream::iter(image.backends.keys().filter_map(|id| self.find(*id).ok()))
            .for_each_concurrent(None, async |backend| self.beat_one(&backend).await)
            .await;
        self.hold_changes();
    }

    async fn beat_one(&self, backend: &catalog::Backend) {
        let answer = self.ask(backend, false).await;
        self.hear(backend.id, answer);
    }

    /// Asks one BE, which need not be in the catalog yet; `join` has it join the cluster if it has none.
    pub async fn ask(&self, backend: &catalog::Backend, join: bool) -> Result<Alive> {
        let be = self.backends.at(&backend.address(), None)?;
        let heard = self.health(backend.id).alive.map(|alive| (alive.epoch, alive.sequence));
        let (now, past, accept) = (Some(self.clock.now()), None, false);
        let beat = Heartbeat { backend: backend.id, join, now, past, heard, accept };
        let alive = be.heartbeat(&beat).await?;
        let image = self.catalog.image();
        let has_lost = heard
            .is_some_and(|heard| alive.backend == backend.id && image.is_before((alive.epoch, alive.sequence), heard));
        let accepts = self.config.get().accept_lost_commits;
        if has_lost && !accepts {
            return Err(Error::Refused(format!(
                "the directory of backend {} was put back from an older copy: what it has seen ends at sequence {} of epoch \
                 {}, and it had seen more. Rows and raw keys may be missing there. Bring the newest copy back; or ALTER \
                 SYSTEM DROP BACKEND … FORCE; or, to go on without what is missing, ADMIN SET FRONTEND CONFIG \
                 (\"accept_lost_commits\" = \"true\")",
                backend.address(),
                alive.sequence,
                alive.epoch
            )));
        }
        match image.end_of(alive.epoch).filter(|_| !has_lost) {
            Some(end) if end >= alive.sequence && alive.epoch == image.epoch() => Ok(alive),
            // It has not heard yet that this epoch follows the one it knows.
            Some(end) if end >= alive.sequence => {
                be.heartbeat(&Heartbeat { past: Some((alive.epoch, end)), ..beat }).await
            }
            _ if accepts => {
                // The lost commits may have given ids to files and objects.
                let skip = |draft: &mut catalog::Draft| {
                    draft.although_held();
                    draft.skip_ids();
                    Ok(())
                };
                self.catalog.commit(skip).await?;
                be.heartbeat(&Heartbeat { accept: true, ..beat }).await
            }
            _ => Ok(alive),
        }
    }

    /// What is wrong if a BE has seen commits that the catalog lacks: files that it has may be those commits'.
    pub fn lacks(&self, backend: &catalog::Backend, alive: &Alive) -> Option<String> {
        let image = self.catalog.image();
        let follows = image.end_of(alive.epoch).is_some_and(|end| end >= alive.sequence);
        (!follows).then(|| {
            format!(
                "the catalog has lost commits: backend {} has seen its sequence {} of epoch {}, and this catalog, at \
                 {}, does not follow that: an old copy was put in its place, or its files were damaged. Nothing is \
                 changed. Bring the newest copy of meta_dir back; or, to go on without what was committed since, ADMIN \
                 SET FRONTEND CONFIG (\"accept_lost_commits\" = \"true\")",
                backend.address(),
                alive.sequence,
                alive.epoch,
                image.sequence
            )
        })
    }

    fn hear(&self, id: BackendId, answer: Result<Alive>) {
        let answer = answer.and_then(|alive| match alive.backend == id {
            true => Ok(alive),
            false => Err(Error::Refused(format!("at its address backend {} answers", alive.backend))),
        });
        let ahead = match (&answer, self.find(id)) {
            (Ok(alive), Ok(backend)) => self.lacks(&backend, alive).unwrap_or_default(),
            _ => String::new(),
        };
        let mut all = self.lock();
        let health = all.entry(id).or_default();
        match answer {
            Ok(alive) => {
                if health.ahead.is_empty() && !ahead.is_empty() {
                    tracing::error!(backend = %id, "{ahead}");
                }
                *health = Health {
                    alive: Some(alive),
                    last_heartbeat: Some(self.clock.now()),
                    heard: Some(self.clock.elapsed()),
                    refused: false,
                    error: ahead.clone(),
                    ahead,
                };
            }
            Err(err) => {
                if health.error.is_empty() {
                    tracing::warn!(backend = %id, "{}", err.report());
                }
                health.error = err.report();
                health.refused |= matches!(err, Error::Refused(_));
            }
        }
        // Before anybody takes the BE for alive.
        self.hold_for(&all);
    }

    /// Lets the catalog change only while no BE has seen what it lacks.
    fn hold_changes(&self) {
        self.hold_for(&self.lock());
    }

    fn hold_for(&self, all: &HashMap<BackendId, Health>) {
        let ahead = all.values().map(|health| &health.ahead).find(|ahead| !ahead.is_empty());
        self.catalog.hold(ahead.cloned());
    }

    /// What is known of a BE.
    pub fn health(&self, id: BackendId) -> Health {
        self.lock().get(&id).cloned().unwrap_or_default()
    }

    /// Whether a BE has answered since this process began, and so could tell that the catalog is an old copy; or there is
    /// none to ask.
    pub fn is_known(&self) -> bool {
        let image = self.catalog.image();
        image.backends.is_empty() || image.backends.keys().any(|id| self.health(*id).heard.is_some())
    }

    /// Whether a BE answers, or has until a moment ago.
    pub fn is_alive(&self, id: BackendId) -> bool {
        let timeout = Duration::from_secs(self.config.get().heartbeat_timeout_second);
        let health = self.health(id);
        !health.refused && health.heard.is_some_and(|heard| heard + timeout >= self.clock.elapsed())
    }

    /// Waits until a BE does not count as alive; the reason.
    pub async fn lost(&self, id: BackendId) -> Error {
        loop {
            match self.backend(id) {
                Ok(_) => self.clock.sleep(LOOK).await,
                Err(reason) => return reason,
            }
        }
    }

    /// Whether a BE was dropped.
    pub fn is_dropped(&self, id: BackendId) -> bool {
        !self.catalog.image().backends.contains_key(&id)
    }

    /// Whether nobody should wait for a BE any more: it was dropped, or has been dead for long.
    pub fn is_lost(&self, id: BackendId) -> bool {
        let tolerated = Duration::from_secs(self.config.get().tablet_sched_be_down_tolerate_time_s);
        let heard = self.health(id).heard.unwrap_or(self.started);
        self.is_dropped(id) || heard + tolerated < self.clock.elapsed()
    }

    /// Asks a BE how it is now.
    pub async fn look(&self, id: BackendId) -> Result<Alive> {
        let alive = self.ask(&self.find(id)?, false).await?;
        self.hear(id, Ok(alive.clone()));
        self.backend(id).map(|_| alive)
    }

    /// The BEs that are alive, by id.
    pub fn alive(&self) -> Vec<BackendId> {
        self.catalog.image().backends.keys().copied().filter(|id| self.is_alive(*id)).collect()
    }

    /// A BE to call; refuses one that is gone, with the reason.
    pub fn backend(&self, id: BackendId) -> Result<Backend> {
        let known = self.find(id)?;
        if self.is_alive(id) {
            return self.backends.at(&known.address(), Some(id));
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
        self.find(id).map_or_else(|_| id.to_string(), |backend| backend.address())
    }

    /// What chooses the BEs of a statement's new tablets, among those that live.
    pub fn placement(&self, image: &catalog::Image) -> Placement {
        let mut tablets: HashMap<BackendId, usize> = HashMap::new();
        let partitions = image.tables.values().flat_map(|table| table.partitions.values());
        let mut firsts: HashMap<BackendId, (usize, usize)> = HashMap::new();
        for tablet in partitions.flat_map(|partition| &partition.tablets) {
            tablet.replicas.iter().for_each(|backend| *tablets.entry(*backend).or_default() += 1);
            tablet.replicas.first().into_iter().for_each(|backend| firsts.entry(*backend).or_default().1 += 1);
        }
        let count = |id| (id, tablets.get(&id).copied().unwrap_or_default());
        Placement::new(self.alive().into_iter().map(count), firsts)
    }

    /// How many copies a table gets whose statement does not say: the configured number, or as many as BEs live.
    pub fn default_copies(&self) -> u32 {
        u32::from(self.config.get().default_replication_num).min(self.alive().len() as u32).max(1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BackendId, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chooses BEs for new tablets: those that have got fewest of the statement's, so that each table is spread, and among
/// these those that have fewest in all.
#[derive(Debug)]
pub struct Placement {
    /// Tablets of the statement, tablets in all before, id.
    backends: Vec<(usize, usize, BackendId)>,
    /// How many tablets each is the first of: of the statement, in all before.
    firsts: HashMap<BackendId, (usize, usize)>,
}

impl Placement {
    /// BEs with the tablets they have.
    fn new(backends: impl Iterator<Item = (BackendId, usize)>, firsts: HashMap<BackendId, (usize, usize)>) -> Self {
        Self { backends: backends.map(|(id, tablets)| (0, tablets, id)).collect(), firsts }
    }

    /// Places tablets, each on `copies` different BEs. The first of them does what one does for all, and is who is first
    /// of fewest, of the statement's and then of all. Refuses if fewer live.
    pub fn place(&mut self, copies: u32, tablets: usize) -> Result<Vec<Vec<BackendId>>> {
        let (alive, count) = (self.backends.len(), copies as usize);
        if count == 0 || count > alive {
            return Err(Error::Refused(format!(
                "Table replication num should be less than or equal to the number of available BE nodes. \
                 replication_num {copies}, available BE nodes {alive}"
            )));
        }
        let one = |_| {
            self.backends.sort_unstable();
            let mut chosen: Vec<BackendId> = self.backends[..count].iter().map(|(_, _, id)| *id).collect();
            self.backends[..count].iter_mut().for_each(|(given, _, _)| *given += 1);
            chosen.sort_unstable_by_key(|id| (self.firsts.get(id).copied().unwrap_or_default(), *id));
            self.firsts.entry(chosen[0]).or_default().0 += 1;
            chosen
        };
        Ok((0..tablets).map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(tablets: &[usize]) -> Placement {
        Placement::new((1..).map(BackendId).zip(tablets.iter().copied()), HashMap::new())
    }

    /// How many of these each BE got.
    fn counts(places: &[Vec<BackendId>], backends: u64) -> Vec<usize> {
        let of = |id| places.iter().flatten().filter(|backend| **backend == BackendId(id)).count();
        (1..=backends).map(of).collect()
    }

    #[test]
    fn tablets_of_all_partitions_of_a_statement_are_spread() {
        let mut placement = placement(&[0, 0]);
        let places: Vec<_> = (0..10).flat_map(|_| placement.place(1, 1).unwrap()).collect();
        assert_eq!(counts(&places, 2), [5, 5]);
    }

    #[test]
    fn who_has_fewest_is_first_but_does_not_get_all() {
        assert_eq!(placement(&[7, 3, 5]).place(1, 1).unwrap(), [[BackendId(2)]]);
        assert_eq!(counts(&placement(&[7, 3, 5]).place(1, 6).unwrap(), 3), [2, 2, 2]);
        assert_eq!(counts(&placement(&[7, 3, 5]).place(2, 2).unwrap(), 3), [1, 2, 1]);
    }

    #[test]
    fn copies_are_on_different_backends() {
        let places = placement(&[0, 0, 9]).place(3, 3).unwrap();
        for place in &places {
            assert_eq!(counts(std::slice::from_ref(place), 3), [1, 1, 1]);
        }
        // Each is first once.
        assert_eq!(counts(&places.iter().map(|place| vec![place[0]]).collect::<Vec<_>>(), 3), [1, 1, 1]);
        // Also where each partition has one tablet, and over statements.
        let mut two = placement(&[0, 0]);
        let firsts: Vec<_> = (0..4).map(|_| two.place(2, 1).unwrap()[0][0]).collect();
        assert_eq!(firsts, [1, 2, 1, 2].map(BackendId));
        two.firsts = [(BackendId(1), (0, 30)), (BackendId(2), (0, 1))].into();
        let firsts: Vec<_> = two.place(2, 4).unwrap().iter().map(|place| place[0]).collect();
        assert_eq!(firsts, [2, 1, 2, 1].map(BackendId));
        assert!(placement(&[0]).place(2, 1).is_err());
    }
}
