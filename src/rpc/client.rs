//! Calls to BEs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor, Ticket};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::{Error, Result};
use crate::rpc::message::{
    Alive, Configuration, Configure, Discard, Event, Fetch, Heartbeat, Inventory, RawEntries, RawGive, RawRange,
    RawSplit, RawWrite, ScanTicket, Task, WriteCommand, Written, body, pack, unpack,
};
use crate::rpc::proto::backend_client::BackendClient;
use crate::rpc::{BACKEND, CLUSTER, EPOCH, MAX_MESSAGE, PROCESS, SEQUENCE, TOKEN, status};
use crate::types::{BackendId, ClusterId, EpochId, TabletId};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that answers no ping for so long is gone, and its streams fail.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a short call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a BE may read a region to divide it.
const SPLIT_TIMEOUT: Duration = Duration::from_secs(600);

/// Who calls, for the metadata of every call.
#[derive(Clone)]
pub struct Caller {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its secret.
    pub token: String,
    /// The process, if it is an FE: [`Catalog::own_epoch`](crate::catalog::Catalog::own_epoch).
    pub process: Option<EpochId>,
    /// The catalog's epoch and sequence known now.
    pub at: Arc<dyn Fn() -> (EpochId, u64) + Send + Sync>,
}

/// Says in every call who calls, and whom.
#[derive(Clone)]
struct Address {
    caller: Caller,
    wanted: Option<BackendId>,
}

impl Interceptor for Address {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Caller { cluster, token, process, at } = &self.caller;
        let (epoch, sequence) = at();
        let values = [
            (CLUSTER, cluster.to_string()),
            (TOKEN, token.clone()),
            (EPOCH, epoch.to_string()),
            (SEQUENCE, sequence.to_string()),
        ];
        let process = process.map(|process| (PROCESS, process.to_string()));
        let wanted = self.wanted.map(|wanted| (BACKEND, wanted.to_string()));
        for (key, value) in values.into_iter().chain(process).chain(wanted) {
            let value = value.parse().map_err(|_| Status::internal("an identity that is not ASCII"))?;
            request.metadata_mut().insert(key, value);
        }
        Ok(request)
    }
}

type Service = InterceptedService<Channel, Address>;

/// Connections to BEs, by address. Cheap to clone; connects when first needed, and again when lost.
#[derive(Clone)]
pub struct Backends {
    caller: Caller,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Backends {
    /// No connections yet.
    pub fn new(caller: Caller) -> Self {
        Self { caller, channels: Arc::default() }
    }

    /// The BE at an address, which refuses calls if it is not the one that is wanted. Makes no call.
    pub fn at(&self, address: &str, wanted: Option<BackendId>) -> Result<Backend> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|err| Error::Analysis(format!("'{address}' is not host:port: {err}")))?
                    .connect_timeout(CONNECT_TIMEOUT)
                    .http2_keep_alive_interval(KEEP_ALIVE)
                    .keep_alive_timeout(KEEP_ALIVE)
                    .initial_stream_window_size(4 << 20)
                    .initial_connection_window_size(16 << 20)
                    .tcp_nodelay(true);
                channels.entry(address.to_owned()).or_insert(endpoint.connect_lazy()).clone()
            }
        };
        let called = Address { caller: self.caller.clone(), wanted };
        Ok(Backend { address: address.to_owned(), service: InterceptedService::new(channel, called) })
    }
}

/// One BE. Errors are [`Error::Backend`] with its address.
#[derive(Clone)]
pub struct Backend {
    address: String,
    service: Service,
}

impl Backend {
    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn client(&self) -> BackendClient<Service> {
        BackendClient::new(self.service.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn flight(&self) -> FlightServiceClient<Service> {
        FlightServiceClient::new(self.service.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn failed(&self, operation: &str) -> impl Fn(Status) -> Error + Send + Sync + 'static {
        let (address, operation) = (self.address.clone(), operation.to_owned());
        move |err| status::to_error(&address, &operation, &err)
    }

    /// Says that the FE lives and asks the same.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Alive> {
        let call = |mut client: BackendClient<Service>, request| async move { client.heartbeat(request).await };
        self.within(CALL_TIMEOUT, "heartbeat", heartbeat, call).await
    }

    /// Lists the BE's configuration, after changing a key if asked.
    pub async fn configure(&self, configure: &Configure) -> Result<Configuration> {
        let call = |mut client: BackendClient<Service>, request| async move { client.configure(request).await };
        self.within(CALL_TIMEOUT, "configure", configure, call).await
    }

    /// Moves files to the trash folder. May run twice.
    pub async fn discard(&self, discard: &Discard) -> Result<()> {
        let call = |mut client: BackendClient<Service>, request| async move { client.discard(request).await };
        self.within(CALL_TIMEOUT, "discard files", discard, call).await
    }

    async fn within<T: DeserializeOwned, F>(
        &self,
        patience: Duration,
        operation: &str,
        message: &impl Serialize,
        call: impl FnOnce(BackendClient<Service>, Request<crate::rpc::proto::Body>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<tonic::Response<crate::rpc::proto::Body>, Status>>,
    {
        let mut request = Request::new(body(message)?);
        request.set_timeout(patience);
        let answer = tokio::time::timeout(patience, call(self.client(), request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        unpack(&answer.map_err(self.failed(operation))?.into_inner().content)
    }

    /// Changes raw keys. On return the changes are durable; after an error they may be, or not.
    pub async fn raw_write(&self, write: &RawWrite) -> Result<()> {
        let answer = self.client().raw_write(body(write)?).await.map_err(self.failed("write raw keys"))?;
        unpack(&answer.into_inner().content)
    }

    /// Makes the BE hold raw keys. May run twice.
    pub async fn raw_give(&self, give: &RawGive) -> Result<()> {
        let answer = self.client().raw_give(body(give)?).await.map_err(self.failed("give raw keys"))?;
        unpack(&answer.into_inner().content)
    }

    /// Raw keys and values, in order, in parts.
    pub async fn raw_scan(&self, range: &RawRange) -> Result<BoxStream<'static, Result<RawEntries>>> {
        let failed = self.failed("read raw keys");
        let parts = self.client().raw_scan(body(range)?).await.map_err(&failed)?.into_inner();
        let part = move |message: Result<crate::rpc::proto::Body, Status>| unpack(&message.map_err(&failed)?.content);
        Ok(parts.map(part).boxed())
    }

    /// Keys that divide a range of raw keys.
    pub async fn raw_split(&self, split: &RawSplit) -> Result<Vec<Vec<u8>>> {
        let call = |mut client: BackendClient<Service>, request| async move { client.raw_split(request).await };
        let keys: Vec<serde_bytes::ByteBuf> = self.within(SPLIT_TIMEOUT, "split raw keys", split, call).await?;
        Ok(keys.into_iter().map(serde_bytes::ByteBuf::into_vec).collect())
    }

    /// Does a task. The events end after the last file is done; dropping them ends the task.
    pub async fn run(&self, operation: &str, task: &Task) -> Result<BoxStream<'static, Result<Event>>> {
        let failed = self.failed(operation);
        let events = self.client().run(body(task)?).await.map_err(&failed)?.into_inner();
        let event = move |message: Option<Result<crate::rpc::proto::Body, Status>>| match message {
            Some(message) => unpack(&message.map_err(&failed)?.content),
            // A BE that ends in the midst may still close the stream in good order.
            None => Err(failed(Status::aborted("the task broke off"))),
        };
        let events = futures::stream::unfold(Some((events, event)), async |state| {
            let (mut events, event) = state?;
            match event(events.next().await) {
                Ok(Event::Ended) => None,
                Ok(one) => Some((Ok(one), Some((events, event)))),
                Err(err) => Some((Err(err), None)),
            }
        });
        Ok(events.boxed())
    }

    /// The BE's rowset files, in parts.
    pub async fn inventory(&self) -> Result<BoxStream<'static, Result<Inventory>>> {
        let failed = self.failed("list files");
        let parts = self.client().inventory(body(&())?).await.map_err(&failed)?.into_inner();
        let part = move |message: Result<crate::rpc::proto::Body, Status>| unpack(&message.map_err(&failed)?.content);
        Ok(parts.map(part).boxed())
    }

    /// The bytes of a rowset file.
    pub async fn fetch(&self, fetch: &Fetch) -> Result<BoxStream<'static, Result<bytes::Bytes>>> {
        let failed = self.failed("fetch a file");
        let chunks = self.client().fetch(body(fetch)?).await.map_err(&failed)?.into_inner();
        Ok(chunks.map(move |chunk| Ok(chunk.map_err(&failed)?.content)).boxed())
    }

    /// Rows of a tablet.
    pub async fn scan(&self, ticket: &ScanTicket) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let failed = self.failed("scan a tablet");
        let ticket = Ticket { ticket: pack(ticket)? };
        let data = self.flight().do_get(ticket).await.map_err(&failed)?.into_inner();
        let batches = FlightRecordBatchStream::new_from_flight_data(data.map_err(Into::into));
        Ok(batches.map_err(move |err| failed(err.into())).boxed())
    }

    /// Loads rows. On return the files it made are durable on this BE.
    pub async fn write(
        &self,
        command: &WriteCommand,
        rows: impl Stream<Item = (TabletId, RecordBatch)> + Send + 'static,
    ) -> Result<Written> {
        let failed = self.failed("write rows");
        let descriptor = FlightDescriptor::new_cmd(pack(command)?);
        let schema = command.schema.arrow();
        // Each tablet's rows are encoded by themselves, so that their messages can bear its number.
        let begin = FlightDataEncoderBuilder::new()
            .with_schema(schema.clone())
            .with_flight_descriptor(Some(descriptor))
            .build(futures::stream::empty());
        let rest = rows.flat_map(move |(tablet, batch)| {
            let number = bytes::Bytes::copy_from_slice(&tablet.0.to_le_bytes());
            let mut first = true;
            FlightDataEncoderBuilder::new()
                .with_schema(schema.clone())
                .build(futures::stream::iter([Ok(batch)]))
                .filter_map(move |data| {
                    // The first message repeats the schema.
                    let skip = std::mem::take(&mut first);
                    let number = number.clone();
                    let data = data.map(|data| data.with_app_metadata(number));
                    futures::future::ready((!skip).then_some(data))
                })
        });
        // What cannot be encoded must not look like the end of the rows.
        let broken = Arc::new(Mutex::new(None));
        let seen = broken.clone();
        let data = begin.chain(rest).scan((), move |(), data: arrow_flight::error::Result<FlightData>| {
            let data = data.map_err(|err| {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(err.to_string());
            });
            futures::future::ready(data.ok())
        });
        let mut results = self.flight().do_put(data).await.map_err(&failed)?.into_inner();
        let result = results.try_next().await.map_err(&failed)?;
        if let Some(err) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Error::internal(format_args!("encode rows: {err}")));
        }
        unpack(&result.ok_or_else(|| Error::internal("a load without an answer"))?.app_metadata)
    }
}
