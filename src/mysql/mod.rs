//! The MySQL port.
//!
//! ```text
//!   client ── TCP, TLS ── packet ──┬── handshake        who is it
//!                                  └── wrap ── opensrv-mysql ── wrap
//!                                        └───── shim ── fe::Session ── fe::Executor
//!                                                 └── encode            rows to packets
//! ```
//!
//! [`server`] accepts connections and owns their tasks, [`handshake`] is the connection phase, [`wrap`] keeps the
//! faults of the crate from clients, [`error`] numbers the errors.

mod encode;
pub mod error;
pub mod handshake;
pub mod packet;
mod server;
mod shim;
pub mod wrap;

pub use self::server::{MysqlServer, Options};
