//! The memory that work on files of backups shares.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::sst::SstReader;
use crate::error::{Error, Result, blocking};

/// What an FE or a BE has in memory for all such work together: files that are made or on their way, blocks that are
/// read, and entries on their way into the store.
const ALL: u64 = 128 << 20;

const KIB: u64 = 1 << 10;

/// Counts bytes in use. Clones count together.
///
/// Whoever needs more than there is gets all of it, and works alone. Whoever has some must not wait for more: two who did
/// would wait for each other.
#[derive(Debug, Clone)]
pub struct Memory {
    free: Arc<Semaphore>,
    all: u64,
}

/// Some of a [`Memory`], until it is dropped.
#[derive(Debug)]
pub struct Taken(OwnedSemaphorePermit);

impl Default for Memory {
    fn default() -> Self {
        Self::of(ALL)
    }
}

impl Memory {
    /// So many bytes.
    pub fn of(bytes: u64) -> Self {
        Self { free: Arc::new(Semaphore::new((bytes / KIB) as usize)), all: bytes / KIB }
    }

    /// Waits until so many bytes are free, in the order of those who ask, and takes them.
    pub async fn take(&self, bytes: u64) -> Result<Taken> {
        let kib = bytes.div_ceil(KIB).min(self.all) as u32;
        let taken = self.free.clone().acquire_many_owned(kib).await;
        taken.map(Taken).map_err(|_| Error::internal("the memory for raw keys is closed"))
    }

    /// Takes what it takes to read an SST, and what `more` asks for beside, which hears how long the largest block is. `name`
    /// is for messages.
    pub async fn take_for_reading(&self, file: &Arc<File>, name: &str, more: impl Fn(u64) -> u64) -> Result<Taken> {
        let source = (file.clone(), name.to_owned());
        let index = blocking(move || SstReader::index_bytes(&*source.0, source.1)).await?;
        let held = self.take(index).await?;
        let source = (file.clone(), name.to_owned());
        let largest = blocking(move || {
            let _held = held;
            SstReader::open(&*source.0, source.1)?.largest_block()
        });
        let largest = largest.await?;
        // A block is read as it is stored, and is what it was then.
        self.take(index + 2 * largest + more(largest)).await
    }
}

impl Taken {
    /// Gives back all but so many bytes.
    pub fn keep(&mut self, bytes: u64) {
        let kept = usize::try_from(bytes.div_ceil(KIB)).unwrap_or(usize::MAX);
        drop(self.0.num_permits().checked_sub(kept).and_then(|rest| self.0.split(rest)));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::rawkv::sst::{Compression, SstOptions, SstWriter};

    #[tokio::test]
    async fn nobody_gets_what_others_have() {
        let memory = Memory::of(10 * KIB);
        let mut some = memory.take(7 * KIB).await.unwrap();
        assert!(memory.take(3 * KIB + 1).now_or_never().is_none());
        drop(memory.take(3 * KIB).now_or_never().unwrap());
        some.keep(KIB + 1);
        let rest = memory.take(8 * KIB).now_or_never().unwrap();
        some.keep(100 * KIB);
        assert!(memory.take(1).now_or_never().is_none());
        drop(rest);
        // More than there is: alone.
        assert!(memory.take(11 * KIB).now_or_never().is_none());
        drop(some);
        let all = memory.take(11 * KIB).now_or_never().unwrap();
        assert!(memory.take(1).now_or_never().is_none());
        drop(all);
    }

    /// However little of a large value is left in the file.
    #[tokio::test]
    async fn reading_takes_what_the_largest_block_needs() {
        for compression in [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let options = SstOptions { compression, ..SstOptions::default() };
            let mut writer = SstWriter::new(tempfile::tempfile().unwrap(), "f", options).unwrap();
            for (key, length) in [("a", 10), ("b", 300_000), ("c", 20_000)] {
                writer.put(key.as_bytes(), &vec![b'v'; length]).unwrap();
            }
            let (file, summary) = writer.finish().unwrap();
            assert_eq!(summary.size < 30_000, compression != Compression::None, "{compression:?}");
            let (memory, file) = (Memory::of(1 << 30), Arc::new(file));
            for (beside, least) in [(0, 600_000), (3, 1_500_000)] {
                let taken = memory.take_for_reading(&file, "f", |largest| beside * largest).await.unwrap();
                let bytes = taken.0.num_permits() as u64 * KIB;
                assert!((least..least + 20_000).contains(&bytes), "{compression:?}: {bytes}");
            }
            assert_eq!(memory.free.available_permits() as u64, memory.all, "the index has given back what it took");
        }
    }
}
