//! What nobody asks for: small files are merged, large regions of raw keys are split, and files that nothing names are
//! thrown away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::frontend::Frontend;
use super::load::copy_files;
use super::rawkv;
use crate::catalog::{Image, Partition, Table, Tablet};
use crate::error::{Error, Result};
use crate::job::pinned;
use crate::rpc::message::{Discard, Event, Task, TaskOwner, Work};
use crate::types::{BackendId, FileId, RowsetFile, TabletId, WriteId};

/// Files of at least this size are not merged again, so that a backup need not upload their rows again.
const SMALL_BYTES: u64 = 32 << 20;

/// Files merged at a time.
const MERGE_FILES: usize = 12;

/// Bytes merged at a time.
const MERGE_BYTES: u64 = 256 << 20;

/// How long one tablet's merge, or one BE's garbage, may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The longest that a tablet waits after a merge that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Files named in one order to discard.
const DISCARD_PART: usize = 1000;

/// Merges small files and throws garbage away, until told to stop.
pub async fn run(fe: Arc<Frontend>, shutdown: CancellationToken) {
    let pause = || fe.clock.pause(fe.config.watch(), |values| values.compaction_interval_ms);
    let merging = async {
        let mut waits = Waits::default();
        loop {
            pause().await;
            merge_all(&fe, &mut waits, Duration::from_millis(fe.config.get().compaction_interval_ms)).await;
        }
    };
    let splitting = async {
        loop {
            pause().await;
            rawkv::split_grown(&fe).await;
        }
    };
    // Each by itself: a merge that hangs must not keep garbage on the disk.
    let collecting = async {
        let mut state = State::default();
        loop {
            pause().await;
            if let Err(err) = fe.end_failed_writes().await {
                tracing::warn!("the files of failed loads and merges stay: {}", err.report());
            }
            // One BE that fails, or does not answer, keeps no other from being cleaned.
            for backend in fe.fleet.alive() {
                let cleaned = tokio::time::timeout(PATIENCE, collect(&fe, backend, &mut state)).await;
                if let Err(err) = cleaned.unwrap_or_else(|_| Err(Error::Cancelled("it took too long".into()))) {
                    tracing::warn!(%backend, "collecting garbage: {}", err.report());
                }
            }
        }
    };
    tokio::select! {
        () = merging => {}
        () = splitting => {}
        () = collecting => {}
        () = shutdown.cancelled() => {}
    }
}

/// What a round remembers of the one before.
#[derive(Default)]
struct State {
    /// The catalog sequence at which each BE was cleaned: until it grows there is no new garbage.
    cleaned: HashMap<BackendId, u64>,
}

/// When tablets are tried again whose merge has failed, as that of a damaged file always does: each time after twice
/// as long.
#[derive(Default)]
struct Waits(HashMap<TabletId, (u32, Duration)>);

impl Waits {
    fn is_over(&self, tablet: TabletId, now: Duration) -> bool {
        self.0.get(&tablet).is_none_or(|(_, until)| *until <= now)
    }

    fn failed(&mut self, tablet: TabletId, now: Duration, interval: Duration) {
        let (failures, until) = self.0.entry(tablet).or_default();
        *until = now + interval.saturating_mul(1 << (*failures).min(20)).min(LONGEST_WAIT);
        *failures += 1;
    }
}

async fn merge_all(fe: &Arc<Frontend>, waits: &mut Waits, interval: Duration) {
    let mut seen = HashSet::new();
    let least = (fe.config.get().compaction_min_files as usize).min(MERGE_FILES);
    let image = fe.catalog.image();
    for table in image.tables.values() {
        let Some(database) = image.database_of(table) else { continue };
        if image.reservations.contains_key(&(database.name.clone(), table.name.clone())) {
            continue;
        }
        for partition in table.partitions.values() {
            for tablet in &partition.tablets {
                let small = small_files(tablet);
                let alive = tablet.replicas.iter().all(|replica| fe.fleet.is_alive(*replica));
                seen.insert(tablet.id);
                if small.len() >= least && alive && waits.is_over(tablet.id, fe.clock.elapsed()) {
                    match merge(fe, table, partition, tablet, &small).await {
                        Ok(()) => drop(waits.0.remove(&tablet.id)),
                        // Another commit came first; the next round sees what it left.
                        Err(Error::Conflict(_) | Error::NotFound(_)) => {}
                        Err(err) => {
                            tracing::warn!(tablet = %tablet.id, "merging small files: {}", err.report());
                            waits.failed(tablet.id, fe.clock.elapsed(), interval);
                        }
                    }
                }
            }
        }
    }
    waits.0.retain(|tablet, _| seen.contains(tablet));
}

fn small_files(tablet: &Tablet) -> Vec<RowsetFile> {
    let mut bytes = 0;
    // Each file of a merge takes memory of its own.
    let small = tablet.files.iter().filter(|file| file.size < SMALL_BYTES);
    small
        .take_while(|file| {
            bytes += file.size;
            bytes <= MERGE_BYTES
        })
        .take(MERGE_FILES)
        .cloned()
        .collect()
}

async fn merge(
    fe: &Arc<Frontend>,
    table: &Table,
    partition: &Partition,
    tablet: &Tablet,
    small: &[RowsetFile],
) -> Result<()> {
    let write = fe.begin_write().await?;
    // A BE that goes on after that makes garbage.
    let merged = tokio::time::timeout(PATIENCE, merge_files(fe, table, tablet, small, write.id)).await;
    let mut files = merged.unwrap_or_else(|_| Err(Error::Cancelled("it took too long".into())))?;
    let version = small.iter().map(|file| file.version).max().unwrap_or_default();
    files.iter_mut().for_each(|file| file.version = version);
    fe.catalog
        .commit(|draft| {
            draft.end_write(write.id);
            draft.replace_files(table.id, partition.id, tablet.id, small, files)
        })
        .await
}

async fn merge_files(
    fe: &Arc<Frontend>,
    table: &Table,
    tablet: &Tablet,
    small: &[RowsetFile],
    write: WriteId,
) -> Result<Vec<RowsetFile>> {
    let primary = tablet.replicas[0];
    let schema = (*table.schema).clone();
    let work = Work::Compact { table: table.id, tablet: tablet.id, schema, write, files: small.to_vec() };
    let task = Task { owner: TaskOwner::Write(write), number: 0, work };
    let mut events = fe.fleet.backend(primary)?.run("merge files", &task).await?;
    let mut made = None;
    while let Some(event) = events.try_next().await? {
        if let Event::Made(files) = event {
            made = Some(files);
        }
    }
    let made = made.ok_or_else(|| Error::internal("a merge ended without its files"))?;
    let others = tablet.replicas.iter().filter(|replica| **replica != primary);
    copy_files(fe, write, others.map(|other| ((primary, *other), made.clone())).collect()).await?;
    Ok(made)
}

/// Has a BE throw away the files that nothing names, and notes the ones it lacks.
async fn collect(fe: &Arc<Frontend>, backend: BackendId, state: &mut State) -> Result<()> {
    let before = fe.catalog.image();
    if state.cleaned.get(&backend) == Some(&before.sequence) {
        return Ok(());
    }
    fe.catalog.check_not_held()?;
    // First what is there, then what is named: a file that is made or named in between is safe either way.
    let mut there = HashSet::new();
    let mut parts = fe.fleet.backend(backend)?.inventory().await?;
    while let Some(part) = parts.try_next().await? {
        there.extend(part.files.into_iter().map(|(id, _)| id));
    }
    let missing = files_of(&before, backend).map(|file| file.id).filter(|id| !there.contains(id)).collect();
    for file in fe.note_missing(backend, missing) {
        tracing::error!(%backend, %file, "a rowset file is missing: restore its table from a snapshot");
    }
    // Writes are recorded before they begin.
    let last = fe.catalog.image().last_id();
    if let Some(file) = there.iter().find(|file| file.write.0 > last) {
        return Err(Error::Refused(format!(
            "it has file {file} of a write that the catalog does not know: was an old copy of meta_dir put in its \
             place? Nothing is thrown away"
        )));
    }
    // A write that is unfinished now was so when its files were listed, or began later.
    let writes = fe.catalog.image().writes.clone();
    there.retain(|id| !writes.contains_key(&id.write));
    let images = fe.images();
    for image in &images {
        files_of(image, backend).for_each(|file| {
            there.remove(&file.id);
        });
    }
    let owner = fe.clone();
    let kept = tokio::task::spawn_blocking(move || pinned(&owner.catalog)).await;
    let kept = kept.map_err(|err| Error::internal(format!("read pins: {err}")))??;
    there.retain(|id| !kept.contains(id));
    let garbage: Vec<FileId> = there.into_iter().collect();
    for part in garbage.chunks(DISCARD_PART) {
        fe.catalog.check_not_held()?;
        fe.fleet.backend(backend)?.discard(&Discard { files: part.to_vec() }).await?;
    }
    if !garbage.is_empty() {
        tracing::info!(%backend, files = garbage.len(), "moved to the trash folder");
    }
    // What a query still reads becomes garbage without another commit.
    if images.len() == 1 {
        state.cleaned.insert(backend, before.sequence);
    }
    Ok(())
}

fn files_of(image: &Image, backend: BackendId) -> impl Iterator<Item = &RowsetFile> {
    let partitions = image.tables.values().flat_map(|table| table.partitions.values());
    let tablets = partitions.flat_map(|partition| &partition.tablets);
    let of_backend = move |tablet: &&Arc<Tablet>| tablet.replicas.contains(&backend);
    tablets.filter(of_backend).flat_map(|tablet| tablet.files.iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tablet_whose_merge_fails_is_tried_ever_more_rarely() {
        let (tablet, second) = (TabletId(1), Duration::from_secs(1));
        let (mut waits, mut tries) = (Waits::default(), Vec::new());
        for now in (0..100_000).map(Duration::from_secs) {
            if waits.is_over(tablet, now) {
                tries.push(now.as_secs());
                waits.failed(tablet, now, second);
            }
        }
        assert_eq!(tries[..6], [0, 1, 3, 7, 15, 31]);
        let longest = tries.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!(longest, Some(3600));
        assert!(waits.is_over(TabletId(2), Duration::ZERO));
    }
}
