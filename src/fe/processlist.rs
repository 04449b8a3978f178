use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::types::{Entity, Kind, Name, Timestamp};

/// The connections of this FE and what they run.
#[derive(Debug)]
pub struct ProcessList {
    clock: Clock,
    last_id: AtomicU32,
    processes: Mutex<BTreeMap<u32, Arc<Process>>>,
}

/// One connection. It leaves the list when its [`ProcessEntry`] is dropped.
#[derive(Debug)]
pub struct Process {
    /// Its number: `CONNECTION_ID()`.
    pub id: u32,
    /// Where the client is.
    pub peer: SocketAddr,
    /// Since when.
    pub connected: Timestamp,
    /// Cancelled by KILL CONNECTION.
    pub killed: CancellationToken,
    clock: Clock,
    state: Mutex<ProcessState>,
    /// Told when a statement that settles itself has come to its end.
    settled: Notify,
}

/// What a connection is at.
#[derive(Debug, Clone)]
pub struct ProcessState {
    /// Who it is logged in as.
    pub user: Name,
    /// The current database.
    pub database: Option<Name>,
    /// What it runs, its secrets masked; `None` between statements.
    pub statement: Option<String>,
    /// What to add when a KILL ends the statement: what goes on without it.
    pub left: &'static str,
    /// Since when it does what it does.
    pub since: Timestamp,
    /// Whether the statement itself says what became of it when a KILL meets it.
    settles: bool,
    /// Cancelled by KILL QUERY.
    cancel: CancellationToken,
}

/// A connection's place in the list.
#[derive(Debug)]
pub struct ProcessEntry {
    list: Arc<ProcessList>,
    /// The connection.
    pub process: Arc<Process>,
}

impl ProcessList {
    /// An empty list.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, last_id: AtomicU32::new(0), processes: Mutex::default() })
    }

    /// A number for a connection that has not logged in yet. None is given twice in four thousand million.
    pub fn fresh_id(&self) -> u32 {
        // Zero is no connection, for clients.
        self.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1)
    }

    /// Lists a connection that has logged in.
    pub fn enter(self: &Arc<Self>, id: u32, user: Name, peer: SocketAddr) -> ProcessEntry {
        let killed = CancellationToken::new();
        let state = ProcessState {
            user,
            database: None,
            statement: None,
            left: "",
            since: self.clock.now(),
            settles: false,
            cancel: killed.child_token(),
        };
        let process = Arc::new(Process {
            id,
            peer,
            connected: state.since,
            killed,
            clock: self.clock.clone(),
            state: Mutex::new(state),
            settled: Notify::new(),
        });
        self.lock().insert(id, process.clone());
        ProcessEntry { list: self.clone(), process }
    }

    /// The connection of a number.
    pub fn get(&self, id: u64) -> Result<Arc<Process>> {
        let process = u32::try_from(id).ok().and_then(|id| self.lock().get(&id).cloned());
        process.ok_or_else(|| Error::NotFound(Entity::new(Kind::Connection, id)))
    }

    /// All connections by number.
    pub fn all(&self) -> Vec<Arc<Process>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Process>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// What it is at now.
    pub fn state(&self) -> ProcessState {
        self.lock().clone()
    }

    /// Says that a statement begins, and returns what cancels it. The text must have its secrets masked; `left` says
    /// what a KILL does not end.
    pub fn begin(&self, text: String, left: &'static str) -> CancellationToken {
        let mut state = self.lock();
        state.statement = Some(text);
        state.left = left;
        state.since = self.clock.now();
        state.cancel = self.killed.child_token();
        self.settle(&mut state, false);
        state.cancel.clone()
    }

    /// Says that the statement itself answers a KILL, which may meet its commit.
    pub fn settles(&self) {
        self.settle(&mut self.lock(), true);
    }

    fn settle(&self, state: &mut ProcessState, settles: bool) {
        state.settles = settles;
        self.settled.notify_waiters();
    }

    /// Returns when the connection was killed, and no statement is left to answer that.
    pub async fn ended(&self) {
        self.killed.cancelled().await;
        loop {
            let settled = self.settled.notified();
            if !self.lock().settles {
                return;
            }
            settled.await;
        }
    }

    /// Says that the statement has ended.
    pub fn rest(&self) {
        let mut state = self.lock();
        state.statement = None;
        state.left = "";
        state.since = self.clock.now();
        self.settle(&mut state, false);
    }

    /// Says who and where the session is now.
    pub fn set_place(&self, user: Name, database: Option<Name>) {
        let mut state = self.lock();
        state.user = user;
        state.database = database;
    }

    /// KILL: ends what it runs and, unless `query_only`, the connection.
    pub fn kill(&self, query_only: bool) {
        if query_only {
            self.lock().cancel.cancel();
        } else {
            self.killed.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProcessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ProcessEntry {
    fn drop(&mut self) {
        self.list.lock().remove(&self.process.id);
    }
}
