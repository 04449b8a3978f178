//! The calls of `backend.proto`; [`task`] does what `Run` asks for.
//!
//! Nothing is done before the caller has proved to be of this BE's cluster, and nothing is thrown away or overwritten for
//! an FE whose catalog is behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Shared, blocking, task};
use crate::be::membership::Credentials;
use crate::clock::crash_point;
use crate::error::{Error, Result};
use crate::rpc::message::{
    Alive, Configuration, Configure, Discard, Event, Fetch, Heartbeat, Inventory, RawEntries, RawGive, RawRange,
    RawSplit, RawWrite, Setting, Task, Work, body, unpack,
};
use crate::rpc::proto::backend_server::Backend;
use crate::rpc::proto::{Body, Chunk};
use crate::rpc::status::of_error;
use crate::types::Timestamp;

/// Files named in one message of an inventory.
const INVENTORY_PART: usize = 10_000;

/// Bytes of a fetched file in one message.
const CHUNK: usize = 1 << 20;

/// Bytes of raw keys and values in one message, but for one entry that has more.
const RAW_PART: usize = 1 << 20;

/// Events on their way to an FE that reads slowly.
const EVENTS: usize = 256;

/// The service of `backend.proto`.
pub struct Service(pub Arc<Shared>);

type Answer<T> = std::result::Result<Response<T>, Status>;
type Answers<T> = BoxStream<'static, std::result::Result<T, Status>>;

fn answer<T: serde::Serialize>(result: Result<T>) -> Answer<Body> {
    result.and_then(|message| body(&message)).map(Response::new).map_err(|err| of_error(&err))
}

#[tonic::async_trait]
impl Backend for Service {
    type RunStream = Answers<Body>;
    type FetchStream = Answers<Chunk>;
    type InventoryStream = Answers<Body>;
    type RawScanStream = Answers<Body>;

    async fn heartbeat(&self, request: Request<Body>) -> Answer<Body> {
        let alive = async {
            let caller = Credentials::of(request.metadata())?;
            let beat: Heartbeat = unpack(&request.get_ref().content)?;
            let be = self.0.clone();
            blocking(move || {
                let member = be.members.heartbeat(&caller, &beat)?;
                be.heard(&beat);
                let disk = be.disk()?;
                Ok(Alive {
                    backend: member.backend,
                    epoch: member.epoch,
                    sequence: member.sequence,
                    version: env!("CARGO_PKG_VERSION").into(),
                    started: be.started,
                    http_port: be.http_port(),
                    cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
                    disk_total: disk.f_blocks * disk.f_frsize,
                    disk_free: disk.f_bavail * disk.f_frsize,
                })
            })
            .await
        };
        answer(alive.await)
    }

    async fn run(&self, request: Request<Body>) -> Answer<Self::RunStream> {
        let accept = || {
            let caller = self.0.check(request.metadata())?;
            let task: Task = unpack(&request.get_ref().content)?;
            if matches!(task.work, Work::RawClear { .. } | Work::RawIngest { .. }) {
                self.0.members.check_not_behind(&caller)?;
            }
            Ok(task)
        };
        let task = accept().map_err(|err| of_error(&err))?;
        let (events, received) = mpsc::channel::<Result<Event>>(EVENTS);
        task::start(self.0.clone(), task, events);
        let events = ReceiverStream::new(received);
        let to_body = |event: Result<Event>| event.and_then(|event| body(&event)).map_err(|err| of_error(&err));
        Ok(Response::new(events.map(to_body).boxed()))
    }

    async fn fetch(&self, request: Request<Body>) -> Answer<Self::FetchStream> {
        let open = async {
            self.0.check(request.metadata())?;
            let Fetch { id } = unpack(&request.get_ref().content)?;
            let path = self.0.store.path(id);
            tokio::fs::File::open(&path).await.map(|file| (file, path.clone())).map_err(Error::io("open", &path))
        };
        let (file, path) = open.await.map_err(|err| of_error(&err))?;
        let chunks = futures::stream::try_unfold(file, move |mut file| {
            let path = path.clone();
            async move {
                let mut content = Vec::with_capacity(CHUNK);
                let read = (&mut file).take(CHUNK as u64).read_to_end(&mut content).await;
                let read = read.map_err(|err| of_error(&Error::io("read", &path)(err)))?;
                Ok((read > 0).then(|| (Chunk { content: content.into() }, file)))
            }
        });
        Ok(Response::new(chunks.boxed()))
    }

    async fn inventory(&self, request: Request<Body>) -> Answer<Self::InventoryStream> {
        self.0.check(request.metadata()).map_err(|err| of_error(&err))?;
        let (parts, received) = mpsc::channel(2);
        let store = self.0.store.clone();
        tokio::task::spawn_blocking(move || {
            let mut files = store.list();
            loop {
                let part: Result<Vec<_>> = files.by_ref().take(INVENTORY_PART).collect();
                let last = !matches!(&part, Ok(part) if part.len() == INVENTORY_PART);
                let message = part.and_then(|files| body(&Inventory { files })).map_err(|err| of_error(&err));
                if parts.blocking_send(message).is_err() || last {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(received).boxed()))
    }

    async fn discard(&self, request: Request<Body>) -> Answer<Body> {
        let discard = async {
            let caller = self.0.check(request.metadata())?;
            self.0.members.check_not_behind(&caller)?;
            let Discard { files } = unpack(&request.get_ref().content)?;
            let be = self.0.clone();
            blocking(move || {
                // Days are counted by the slower of two clocks, so a file goes into the later day.
                let now = be.clock.now().max(Timestamp(be.fe_time.load(Ordering::Relaxed)));
                files.into_iter().try_for_each(|id| be.store.trash(id, now))
            })
            .await
        };
        answer(discard.await)
    }

    async fn configure(&self, request: Request<Body>) -> Answer<Body> {
        let configure = || {
            self.0.check(request.metadata())?;
            let Configure { set } = unpack(&request.get_ref().content)?;
            if let Some((key, value)) = set {
                self.0.config.set(&key, &value)?;
            }
            let setting = |setting: crate::config::Setting| Setting {
                name: setting.name.into(),
                value: setting.value,
                default: setting.default.into(),
                kind: setting.kind.into(),
                mutable: setting.mutable,
                comment: setting.comment.into(),
            };
            Ok(Configuration { settings: self.0.config.list().into_iter().map(setting).collect() })
        };
        answer(configure())
    }

    async fn raw_write(&self, request: Request<Body>) -> Answer<Body> {
        let write = async {
            let caller = self.0.check(request.metadata())?;
            self.0.members.check_not_behind(&caller)?;
            let RawWrite { cf, changes } = unpack(&request.get_ref().content)?;
            let store = self.0.raw()?;
            let writing = self.0.raw_writes.clone().read_owned().await;
            blocking(move || {
                let _writing = writing;
                crash_point("be.raw-write.before");
                store.write(cf, changes)?;
                crash_point("be.raw-write.after");
                Ok(())
            })
            .await
        };
        answer(write.await)
    }

    async fn raw_give(&self, request: Request<Body>) -> Answer<Body> {
        let give = async {
            let caller = self.0.check(request.metadata())?;
            self.0.members.check_not_behind(&caller)?;
            let RawGive { number, cf, ranges } = unpack(&request.get_ref().content)?;
            let store = self.0.raw_or_new().await?;
            blocking(move || store.give(number, cf, ranges)).await
        };
        answer(give.await)
    }

    async fn raw_scan(&self, request: Request<Body>) -> Answer<Self::RawScanStream> {
        let open = async {
            self.0.check(request.metadata())?;
            let range: RawRange = unpack(&request.get_ref().content)?;
            self.0.raw()?.scan(range.cf, &range.range)
        };
        let mut entries = open.await.map_err(|err| of_error(&err))?;
        let (parts, received) = mpsc::channel(2);
        // On a thread of its own: a reader that is slow must not keep writers from the shared ones.
        let read = move || {
            let mut next_part = || {
                let (mut part, mut bytes) = (RawEntries::default(), 0);
                while bytes < RAW_PART {
                    let Some(entry) = entries.next() else { break };
                    let (key, value) = entry?;
                    bytes += key.len() + value.len() + 16;
                    part.entries.push((key.into(), value.into()));
                }
                if part.entries.is_empty() { Ok(None) } else { body(&part).map(Some) }
            };
            while let Some(part) = next_part().map_err(|err| of_error(&err)).transpose() {
                let last = part.is_err();
                if parts.blocking_send(part).is_err() || last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("raw-scan".into()).spawn(read);
        thread.map_err(|err| of_error(&Error::io("start a thread to read", &self.0.dir)(err)))?;
        Ok(Response::new(ReceiverStream::new(received).boxed()))
    }

    async fn raw_split(&self, request: Request<Body>) -> Answer<Body> {
        let split = async {
            self.0.check(request.metadata())?;
            let RawSplit { of: RawRange { cf, range }, bytes } = unpack(&request.get_ref().content)?;
            let store = self.0.raw()?;
            let keys = blocking(move || {
                crash_point("be.raw-split");
                store.split_keys(cf, &range, bytes)
            });
            let keys = keys.await?;
            Ok(keys.into_iter().map(serde_bytes::ByteBuf::from).collect::<Vec<_>>())
        };
        answer(split.await)
    }
}
