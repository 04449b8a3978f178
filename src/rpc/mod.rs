//! The contract between an FE and its BEs: `backend.proto`, its messages, and Arrow Flight for rows.
//!
//! `DoGet` with a [`ScanTicket`](message::ScanTicket) reads rows of a tablet, `DoPut` with a
//! [`WriteCommand`](message::WriteCommand) loads them. Errors cross the wire as gRPC statuses that say whether trying
//! again may help ([`status`], [`client`]).

pub mod client;
pub mod fleet;
pub mod message;
pub mod status;

/// What `backend.proto` compiles to.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("holdfast.v1");
}

/// Metadata of every call: the cluster.
pub const CLUSTER: &str = "holdfast-cluster";
/// Metadata of every call: its secret.
pub const TOKEN: &str = "holdfast-token";
/// Metadata of every call: the epoch of the catalog that the caller knows.
pub const EPOCH: &str = "holdfast-epoch";
/// Metadata of every call: the catalog sequence the caller knows.
pub const SEQUENCE: &str = "holdfast-sequence";

/// Metadata of an FE's calls: the epoch that its process begins or has begun, which is its alone.
pub const PROCESS: &str = "holdfast-process";
/// Metadata of every call but heartbeats: the id of the BE that it is meant for. Addresses change hands.
pub const BACKEND: &str = "holdfast-backend";

/// The largest message. A batch of rows is about 2 MiB; one very wide row may be more.
pub const MAX_MESSAGE: usize = 256 << 20;
