//! What a BE keeps on disk: rowset files, how they are written, read, merged, kept and thrown away.
//!
//! A rowset file is a Parquet file that any reader can open. Behind its metadata lies a seal (`seal.rs`): checksums of
//! all that precedes, so that a scan reads no byte that has changed. Everything here blocks, but for
//! [`Scan::into_stream`]; callers on a runtime use `spawn_blocking`.

mod compact;
mod filter;
mod rowset;
mod scan;
mod seal;
mod store;
#[cfg(test)]
mod tests;

pub use compact::compact;
pub use filter::{Comparison, ScanFilter};
pub use rowset::{Limits, RowsetOf, RowsetWriter};
pub use scan::{Scan, ScanSpec};
pub use store::{Staged, Store};
