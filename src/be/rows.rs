//! Rows by Arrow Flight: out of a tablet's files, and into new ones.
//!
//! A load of any length has a bounded part of its rows in memory, and installs no file before its last row has come.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{Shared, blocking};
use crate::clock::crash_point;
use crate::error::{Error, Result};
use crate::rpc::message::{ScanTicket, WriteCommand, Written, pack, unpack};
use crate::rpc::status::of_error;
use crate::tablet::{Limits, RowsetOf, RowsetWriter, Scan, Store};
use crate::types::TabletId;

/// Bytes of rows that one load may hold in memory before they are sorted and written.
const LOAD_BUFFER: usize = 64 << 20;

/// Bytes that all loads together may hold so.
const ALL_BUFFERS: usize = 256 << 20;

/// Arrow Flight: rows out of tablets and into them.
pub struct Rows(pub Arc<Shared>);

type Answer<T> = std::result::Result<Response<T>, Status>;
type Answers<T> = BoxStream<'static, std::result::Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Rows {
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let scan = || {
            self.0.check(request.metadata())?;
            let ScanTicket { spec, files } = unpack(&request.get_ref().ticket)?;
            Scan::new(self.0.store.clone(), files, spec)
        };
        let scan = scan().map_err(|err| of_error(&err))?;
        let schema = scan.schema();
        let batches = scan.into_stream().map_err(|err| of_error(&err).into());
        let data = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
        Ok(Response::new(data.map_err(Status::from).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        self.0.check(request.metadata()).map_err(|err| of_error(&err))?;
        let written = write(&self.0, request.into_inner()).await.map_err(|err| of_error(&err))?;
        let result = PutResult { app_metadata: pack(&written).map_err(|err| of_error(&err))? };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        Err(unused())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(unused())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(unused())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(unused())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(unused())
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(unused())
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        Err(unused())
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(unused())
    }
}

fn unused() -> Status {
    Status::unimplemented("a holdfast BE answers DoGet and DoPut only")
}

/// Writes the rows of one load. Nothing is installed before the last row has come.
async fn write(be: &Arc<Shared>, data: Streaming<FlightData>) -> Result<Written> {
    let mut decoder = FlightDataDecoder::new(data.map_err(Into::into));
    let failed = |err: arrow_flight::error::FlightError| Error::Cancelled(format!("the load broke off: {err}"));
    let first = decoder.try_next().await.map_err(failed)?;
    let descriptor = first.and_then(|first| first.inner.flight_descriptor);
    let descriptor = descriptor.ok_or_else(|| Error::internal("a load without a command"))?;
    let WriteCommand { table, schema, write } = unpack(&descriptor.cmd)?;
    let of = RowsetOf { table, tablet: TabletId(0), write, schema: Arc::new(schema) };
    let mut load = Load { store: be.store.clone(), all: be.loads.clone(), of, writers: HashMap::new(), held: 0 };
    while let Some(data) = decoder.try_next().await.map_err(failed)? {
        if let DecodedPayload::RecordBatch(batch) = data.payload {
            let tablet = data.inner.app_metadata.as_ref().try_into().map(u64::from_le_bytes);
            let tablet = tablet.map_err(|_| Error::internal("rows without their tablet"))?;
            load = blocking(move || load.add(TabletId(tablet), batch)).await?;
        }
    }
    crash_point("be.write.before-install");
    let written = blocking(move || load.finish()).await?;
    crash_point("be.write.after-install");
    Ok(written)
}

/// A load in progress: a writer for each tablet it has seen.
struct Load {
    store: Arc<Store>,
    /// Counts the loads under way.
    all: Arc<()>,
    /// Of any tablet.
    of: RowsetOf,
    writers: HashMap<TabletId, RowsetWriter>,
    /// Bytes that the writers buffer.
    held: usize,
}

impl Load {
    fn add(mut self, tablet: TabletId, batch: RecordBatch) -> Result<Self> {
        let writer = self.writers.entry(tablet).or_insert_with(|| {
            let of = RowsetOf { tablet, ..self.of.clone() };
            RowsetWriter::new(self.store.clone(), of, 0, Limits::default())
        });
        self.held -= writer.buffered_bytes();
        writer.write(batch)?;
        self.held += writer.buffered_bytes();
        let most = LOAD_BUFFER.min(ALL_BUFFERS / (Arc::strong_count(&self.all) - 1).max(1));
        if self.held > most {
            self.flush_largest(most / 4 * 3)?;
        }
        Ok(self)
    }

    /// Writes a good part of what is held, of the largest first, until it is `most`. There may be very many that are small,
    /// and looking through them takes time.
    fn flush_largest(&mut self, most: usize) -> Result<()> {
        let mut writers: Vec<&mut RowsetWriter> = self.writers.values_mut().collect();
        writers.sort_unstable_by_key(|writer| std::cmp::Reverse(writer.buffered_bytes()));
        for writer in writers {
            if self.held <= most {
                break;
            }
            self.held -= writer.buffered_bytes();
            writer.flush()?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Written> {
        let mut written = Written::default();
        let mut staged = Vec::new();
        for writer in self.writers.into_values() {
            for (file, stage) in writer.finish()? {
                staged.push((stage, file.id));
                written.files.push(file);
            }
        }
        self.store.install(staged)?;
        Ok(written)
    }
}
