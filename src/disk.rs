//! How much room disks have left.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, StatVfs};

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

/// Takes the room for the bytes of a new file, if so many stay free on its disk for others. Blocks.
pub fn take(operation: &'static str, path: &Path, file: &File, bytes: u64, reserve: u64) -> Result<()> {
    static ONE: Mutex<()> = Mutex::new(());
    // No two count on the same room.
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    check_free(operation, path, bytes.saturating_add(reserve))?;
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes).map_err(std::io::Error::from) {
        Err(err) if is_full(&err) => Err(Error::io(operation, path)(err)),
        // Not every file system can.
        _ => Ok(()),
    }
}
