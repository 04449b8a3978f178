//! The worker: keeps rowset files, reads and writes rows, and does the tasks of jobs.
//!
//! A BE decides nothing about what is visible. It accepts calls of its own cluster only ([`membership`]), runs a task
//! once at a time ([`task`]), and limits speed and workers over all tasks together; changed limits act at once.

mod membership;
mod raw;
mod rows;
mod service;
mod task;
mod workers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;

use self::membership::{Credentials, Members};
use self::task::Running;
use self::workers::Workers;
use crate::clock::{Clock, Throttle};
use crate::config::{BeConfig, BeValues};
use crate::disk;
use crate::error::{Error, Result, blocking};
use crate::rawkv::memory::Memory;
use crate::rawkv::store::{RESERVE_BYTES, RawStore, not_held};
use crate::rpc::MAX_MESSAGE;
use crate::rpc::client::{Backends, Caller};
use crate::rpc::message::Heartbeat;
use crate::rpc::proto::backend_server::BackendServer;
use crate::tablet::Store;
use crate::types::{BackendId, ClusterId, Timestamp};

/// Kilobytes, as the configuration counts speed.
const KB: u64 = 1024;

/// A caller that answers no ping for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The folder of the raw keys.
const RAW: &str = "raw";

/// The directory of what raw jobs bring, in the storage directory. Empty when the process starts.
const RAW_STAGING: &str = "raw-staging";

/// How often the trash folder is looked through.
const TRASH_INTERVAL: Duration = Duration::from_secs(5);

/// The trash folder is emptied when less than this part of the disk is free.
const LOW_DISK: u64 = 10;

/// A running BE.
pub struct Backend {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: TcpListener,
}

/// What all services of a BE share.
pub struct Shared {
    dir: PathBuf,
    store: Arc<Store>,
    raw: tokio::sync::OnceCell<Arc<RawStore>>,
    raw_sessions: raw::Sessions,
    raw_memory: Memory,
    /// Cloned by each load while it goes on.
    loads: Arc<()>,
    /// Held by each write of raw keys until it has ended, though its caller may have gone.
    raw_writes: Arc<tokio::sync::RwLock<()>>,
    members: Members,
    config: BeConfig,
    clock: Clock,
    started: Timestamp,
    running: Running,
    snapshots: Workers,
    uploads: Workers,
    downloads: Workers,
    upload_speed: Throttle,
    download_speed: Throttle,
    http_port: AtomicU16,
    /// The FE's time at its last heartbeat, in milliseconds.
    fe_time: AtomicI64,
}

impl Backend {
    /// Opens the storage directory and binds the port; serves nothing yet. The directory belongs to this process:
    /// the caller sees to that.
    pub async fn open(dir: &Path, config: BeConfig, clock: Clock) -> Result<Self> {
        let values = config.get();
        let at = SocketAddr::new(values.bind_address, values.be_port);
        let listener = TcpListener::bind(at).await.map_err(Error::io("listen on BE port", at.to_string()))?;
        let address = listener.local_addr().map_err(Error::io("listen on BE port", at.to_string()))?;
        let owned = dir.to_owned();
        let (store, members, raw) = blocking(move || {
            std::fs::create_dir_all(&owned).map_err(Error::io("create", &owned))?;
            let raw = owned.join(RAW);
            let opened = raw.exists().then(|| RawStore::open(&raw).map(Arc::new)).transpose();
            let raw = opened.inspect_err(|_| {
                tracing::error!(
                    "the raw keys in {} cannot be opened. If they are lost: move that directory away, start again, and \
                     ALTER SYSTEM DROP BACKEND … FORCE gives them up",
                    raw.display()
                );
            })?;
            raw::clean(&owned.join(RAW_STAGING))?;
            let store = Store::open(&owned)?;
            if raw.is_some() {
                store.keep_free(RESERVE_BYTES);
            }
            Ok((store, Members::open(&owned)?, raw))
        })
        .await?;
        let workers = |config: &BeConfig, count: fn(&BeValues) -> u32| {
            let config = config.clone();
            Workers::new(move || match count(&config.get()) {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                some => some as usize,
            })
        };
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            store: Arc::new(store),
            raw: tokio::sync::OnceCell::new_with(raw),
            raw_sessions: raw::Sessions::default(),
            raw_memory: Memory::default(),
            loads: Arc::default(),
            raw_writes: Arc::default(),
            members,
            started: clock.now(),
            running: Running::default(),
            snapshots: workers(&config, |values| values.make_snapshot_worker_count),
            uploads: workers(&config, |values| values.upload_worker_count),
            downloads: workers(&config, |values| values.download_worker_count),
            upload_speed: Throttle::new(0, clock.clone()),
            download_speed: Throttle::new(0, clock.clone()),
            clock,
            http_port: AtomicU16::new(0),
            fe_time: AtomicI64::new(i64::MIN),
            config,
        });
        shared.apply_limits();
        Ok(Self { shared, address, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cluster it belongs to and the id it has there, if it has joined one.
    pub fn membership(&self) -> Option<(ClusterId, BackendId)> {
        self.shared.members.get().map(|member| (member.cluster, member.backend))
    }

    /// Says on which port its HTTP service listens, for SHOW BACKENDS.
    pub fn set_http_port(&self, port: u16) {
        self.shared.http_port.store(port, Ordering::Relaxed);
    }

    /// Serves until told to stop; then ends running calls and returns.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<()> {
        let shared = self.shared.clone();
        let limits = async {
            let mut changes = shared.config.watch();
            while changes.changed().await.is_ok() {
                shared.apply_limits();
            }
        };
        let backend = BackendServer::new(service::Service(self.shared.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let flight = FlightServiceServer::new(rows::Rows(self.shared.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let served = tonic::transport::Server::builder()
            // So that the tasks of an FE that has vanished end.
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .add_service(backend)
            .add_service(flight)
            .serve_with_incoming(incoming);
        tokio::select! {
            // Tasks that run are ended with their streams; they may run again.
            () = shutdown.cancelled() => Ok(()),
            () = limits => Ok(()),
            () = self.shared.empty_trash() => Ok(()),
            served = served => served.map_err(|err| Error::internal(format_args!("the BE port failed: {err}"))),
        }
    }
}

impl Shared {
    fn apply_limits(&self) {
        let values = self.config.get();
        self.upload_speed.set_limit(values.max_upload_speed_kbps * KB);
        self.download_speed.set_limit(values.max_download_speed_kbps * KB);
        [&self.snapshots, &self.uploads, &self.downloads].into_iter().for_each(Workers::limit_changed);
    }

    /// Removes for good, from time to time, what has been in the trash folder long enough, or what is there when the
    /// disk gets full.
    async fn empty_trash(&self) {
        loop {
            let keep_ms = self.config.get().trash_file_expire_time_sec.saturating_mul(1000);
            // A clock that is days ahead must not empty the folder: the FE's has a say.
            let now = self.clock.now().min(Timestamp(self.fe_time.load(Ordering::Relaxed)));
            let before = Timestamp(now.0.saturating_sub(i64::try_from(keep_ms).unwrap_or(i64::MAX)));
            let (store, dir) = (self.store.clone(), self.dir.clone());
            let emptied = blocking(move || {
                store.empty_trash(before, || {
                    let disk = disk::of(&dir)?;
                    Ok(keep_ms == 0 || disk.f_bavail < disk.f_blocks / LOW_DISK)
                })
            });
            if let Err(err) = emptied.await {
                tracing::warn!("emptying the trash folder: {}", err.report());
            }
            self.clock.sleep(TRASH_INTERVAL).await;
        }
    }

    fn heard(&self, beat: &Heartbeat) {
        if let Some(now) = beat.now {
            self.fe_time.store(now.0, Ordering::Relaxed);
        }
    }

    /// The disk that holds the tablets.
    fn disk(&self) -> Result<rustix::fs::StatVfs> {
        disk::of(&self.dir)
    }

    /// Refuses a call from outside the cluster.
    fn check(&self, metadata: &MetadataMap) -> Result<Credentials> {
        let caller = Credentials::of(metadata)?;
        self.members.check(&caller)?;
        Ok(caller)
    }

    /// The raw keys of this BE, which are there once it was given some.
    fn raw(&self) -> Result<Arc<RawStore>> {
        let none = || not_held(&self.dir.join(RAW), "raw keys");
        self.raw.get().cloned().ok_or_else(none)
    }

    /// The same, for one that is given its first.
    async fn raw_or_new(&self) -> Result<Arc<RawStore>> {
        let path = self.dir.join(RAW);
        let raw = self.raw.get_or_try_init(|| blocking(move || RawStore::open(&path).map(Arc::new))).await.cloned()?;
        self.store.keep_free(RESERVE_BYTES);
        Ok(raw)
    }

    /// Refuses a location that is a directory inside of this BE's own, be it there or not.
    async fn refuse_own(&self, location: Option<PathBuf>, shown: &str) -> Result<()> {
        let (Some(path), own) = (location, self.dir.clone()) else { return Ok(()) };
        let inside = move || {
            let existing = path.ancestors().find_map(|path| path.canonicalize().ok());
            Ok(existing.zip(own.canonicalize().ok()).is_some_and(|(path, own)| path.starts_with(own)))
        };
        match blocking(inside).await? {
            true => Err(Error::Refused(format!("location '{shown}' is in the backend's own directory"))),
            false => Ok(()),
        }
    }

    fn raw_staging(&self) -> PathBuf {
        self.dir.join(RAW_STAGING)
    }

    fn http_port(&self) -> u16 {
        self.http_port.load(Ordering::Relaxed)
    }

    /// The other BEs of the cluster, for one task: connections do not outlast it. One that a call which was given up had
    /// begun, to a BE that was down, would be remembered as refused, and be the error of the next call, when the BE is
    /// long back.
    fn peers(self: &Arc<Self>) -> Result<Backends> {
        let member = self.members.get().ok_or_else(|| Error::internal("a task before joining a cluster"))?;
        let shared = Arc::downgrade(self);
        let at = move || {
            let member = shared.upgrade().and_then(|shared| shared.members.get());
            member.map_or_else(Default::default, |member| (member.epoch, member.sequence))
        };
        Ok(Backends::new(Caller { cluster: member.cluster, token: member.token, process: None, at: Arc::new(at) }))
    }
}
