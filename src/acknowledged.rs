//! What a store has acknowledged, kept beside it.
//!
//! The stores take a damaged record of their logs for the end that a crash has left, and drop all that follows. So the
//! number of the last commit that was acknowledged is kept in a file of its own, and who opens a store that has lost it
//! is told. The file is not synced, because that would double what a commit costs: after a power cut it may be older than
//! the store, never newer.
//!
//! ```text
//! <store>/acknowledged    number of the last commit (8 bytes, big-endian), CRC-32 of that (4)
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const NAME: &str = "acknowledged";

/// The file of an open store.
#[derive(Debug)]
pub struct Acknowledged {
    file: File,
    path: PathBuf,
}

impl Acknowledged {
    /// Opens or creates the file in a store's directory. Blocks.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        Ok(Self { file: file.map_err(Error::io("open", &path))?, path })
    }

    /// Notes that a commit is durable, before anybody is told. Blocks.
    pub fn note(&self, number: u64) -> Result<()> {
        self.file.write_all_at(&record(number), 0).map_err(Error::io("write", &self.path))
    }

    /// Refuses a store, called `what`, whose last commit is an earlier one than was acknowledged. Blocks.
    pub fn check(dir: &Path, what: &'static str, last: u64) -> Result<()> {
        let path = dir.join(NAME);
        let acknowledged = match std::fs::read(&path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(Error::io("read", &path))?,
        };
        // A power cut may have torn it.
        let known = acknowledged.first_chunk().map(|known| u64::from_be_bytes(*known));
        match known.filter(|known| *known > last && acknowledged == record(*known)) {
            None => Ok(()),
            Some(known) => Err(Error::Corrupt {
                what,
                path: dir.display().to_string(),
                message: format!(
                    "it ends at commit {last}, and commit {known} was acknowledged: its file was damaged, or an older one \
                     was put in its place. Bring a copy of the directory back; or, to go on without what came after \
                     commit {last}, remove {}",
                    path.display()
                ),
            }),
        }
    }
}

fn record(number: u64) -> Vec<u8> {
    let number = number.to_be_bytes();
    [&number[..], &crc32fast::hash(&number).to_be_bytes()].concat()
}
