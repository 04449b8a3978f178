//! How much room disks have left.

use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::StatVfs;

use crate::error::{Error, Result};

/// What the system says of the disk of a directory. Blocks.
pub fn of(dir: &Path) -> Result<StatVfs> {
    rustix::fs::statvfs(dir).map_err(|err| Error::io("look at the disk of", dir)(err.into()))
}

/// Whether an operation has failed for want of room.
pub fn is_full(err: &std::io::Error) -> bool {
    matches!(err.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Refuses an operation on a directory whose disk has fewer bytes free than it wants to find. Blocks.
pub fn check_free(operation: &'static str, dir: &Path, wanted: u64) -> Result<()> {
    let disk = of(dir)?;
    let free = disk.f_bavail * disk.f_frsize;
    if free >= wanted {
        return Ok(());
    }
    let message = format!("no storage space: {free} bytes are free on its disk, and {wanted} must be");
    Err(Error::io(operation, dir)(std::io::Error::new(ErrorKind::StorageFull, message)))
}
