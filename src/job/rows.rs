//! Rows of an unfinished job. They go when the job has ended and what it kept elsewhere is put away.
//!
//! ```text
//! jr <job> l 0      backup: the label's lock may be in the repository
//! jr <job> p <n>    backup: pinned files, some a row; what they name is no garbage
//! jr <job> t <n>    backup: the definitions as of the pin; restore: the plan. JSON, cut into pieces
//! jr <job> r <n>    backup: files whose content the repository has, some a row
//! jr <job> d <n>    the nth file, or copy of a file, has arrived where it goes
//! jr <job> h <n>    backup: the nth segment of the file list is in the repository
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::catalog::store::MAX_RECORD;
use crate::catalog::{Catalog, Draft, Key, Selection};
use crate::error::{self, Error, Result};
use crate::types::{Attempt, BackendId, FileId, JobId, Name, RowsetFile, Sha256};

pub(super) const LOCK: char = 'l';
pub(super) const PINS: char = 'p';
pub(super) const DOCUMENT: char = 't';
pub(super) const REUSED: char = 'r';
pub(super) const DONE: char = 'd';
pub(super) const SEGMENTS: char = 'h';

/// Bytes of a document in one row, well below the store's limit.
const PIECE: usize = MAX_RECORD / 2;

/// Bytes of a list in one row, which has a length before it.
const ROW: usize = MAX_RECORD - 16;

/// A file that a backup keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pin {
    /// Position of the table among the definitions.
    pub table: u32,
    /// Position of the partition in the table.
    pub partition: u32,
    /// Bucket.
    pub bucket: u32,
    /// The BEs that have it.
    pub replicas: Vec<BackendId>,
    /// The file, as of the pin.
    pub file: RowsetFile,
}

/// A pinned file whose content is in the repository already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reused {
    /// Which pin.
    pub pin: u64,
    /// The object; `None` if it is that of the entry before.
    pub object: Option<Arc<str>>,
    /// Where in it.
    pub offset: u64,
}

/// Writes a list as rows that hold as many entries as fit. An entry's fields go by position, because a list of very many
/// files is written while a client waits: a later release may only append fields, with a default.
pub(super) fn put_list<T: Serialize>(
    draft: &mut Draft,
    job: JobId,
    letter: char,
    list: impl IntoIterator<Item = T>,
) -> Result<()> {
    let mut row = Vec::with_capacity(MAX_RECORD);
    let mut n = 0;
    let mut put = |row: &[u8]| {
        n += 1;
        draft.put_row(Key::job_row(job, letter, n - 1), &serde_bytes::Bytes::new(row))
    };
    for entry in list {
        let full = row.len();
        rmp_serde::encode::write(&mut row, &entry)
            .map_err(|err| Error::internal(format_args!("encode an entry of a row: {err}")))?;
        if row.len() > ROW && full > 0 {
            put(&row[..full])?;
            row.drain(..full);
        }
    }
    if row.is_empty() { Ok(()) } else { put(&row) }
}

/// Reads such a list, row by row, so that it need not be held whole. Blocks.
pub(super) fn list_rows<T: DeserializeOwned>(
    catalog: &Catalog,
    job: JobId,
    letter: char,
) -> impl Iterator<Item = Result<Vec<T>>> + use<T> {
    let damaged = move |err: rmp_serde::decode::Error| Error::Corrupt {
        what: "catalog record",
        path: format!("list '{letter}' of job {job}"),
        message: err.to_string(),
    };
    catalog.rows::<serde_bytes::ByteBuf>(Key::job_rows(job, letter)).map(move |row| {
        let row = row?;
        let (mut rest, mut entries) = (&row[..], Vec::new());
        while !rest.is_empty() {
            entries.push(rmp_serde::from_read(&mut rest).map_err(damaged)?);
        }
        Ok(entries)
    })
}

/// Writes a document of any size.
pub(super) fn put_document(draft: &mut Draft, job: JobId, document: &impl Serialize) -> Result<()> {
    put_bytes(draft, job, &json(document)?)
}

fn json(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|err| Error::internal(format_args!("encode job document: {err}")))
}

/// Writes a document that is bytes.
pub(super) fn put_bytes(draft: &mut Draft, job: JobId, text: &[u8]) -> Result<()> {
    text.chunks(PIECE).enumerate().try_for_each(|(n, piece)| {
        draft.put_row(Key::job_row(job, DOCUMENT, n as u64), &serde_bytes::Bytes::new(piece))
    })
}

/// Writes a document in the place of another.
pub(super) fn replace_document<T: Serialize>(draft: &mut Draft, job: JobId, old: &T, new: &T) -> Result<()> {
    let (old, new) = (json(old)?, json(new)?);
    for left in new.len().div_ceil(PIECE)..old.len().div_ceil(PIECE) {
        draft.delete_row(Key::job_row(job, DOCUMENT, left as u64).bytes());
    }
    put_bytes(draft, job, &new)
}

/// Forgets that files have arrived.
pub(super) fn delete_done(draft: &mut Draft, job: JobId, numbers: &[u64]) {
    numbers.iter().for_each(|n| draft.delete_row(Key::job_row(job, DONE, *n).bytes()));
}

/// Reads the job's document, if that is bytes. Blocks.
pub(super) fn bytes(catalog: &Catalog, job: JobId) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for piece in catalog.rows::<serde_bytes::ByteBuf>(Key::job_rows(job, DOCUMENT)) {
        text.extend(piece?.into_vec());
    }
    Ok(text)
}

/// Reads the job's document. Blocks.
pub(super) fn document<T: DeserializeOwned>(catalog: &Catalog, job: JobId) -> Result<T> {
    serde_json::from_slice(&bytes(catalog, job)?).map_err(|err| Error::Corrupt {
        what: "catalog record",
        path: format!("document of job {job}"),
        message: err.to_string(),
    })
}

/// A file that has arrived, and by which task: a backup's object is named by it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Done {
    /// The file's number in the job.
    pub number: u64,
    /// The attempt.
    pub attempt: Attempt,
    /// The task.
    pub task: u64,
    /// If the file shares its object with others: the object's hash, and where in it the file begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<(Sha256, u64)>,
}

/// Records that files have arrived.
pub(super) async fn put_done(catalog: &Catalog, job: JobId, done: &[Done]) -> Result<()> {
    catalog
        .commit(|draft| done.iter().try_for_each(|done| draft.put_row(Key::job_row(job, DONE, done.number), done)))
        .await
}

/// The files that have arrived, in the order of their numbers. Blocks as it is read.
pub(super) fn done(catalog: &Catalog, job: JobId) -> impl Iterator<Item = Result<Done>> + use<> {
    catalog.rows(Key::job_rows(job, DONE))
}

/// Numbers of the files that have arrived. Blocks.
pub(super) fn arrived(catalog: &Catalog, job: JobId) -> Result<HashSet<u64>> {
    done(catalog, job).map(|done| done.map(|done| done.number)).collect()
}

/// Partitions in one record of a statement's object.
const NAMES: usize = 16;

/// Records what a statement names, as history. Partitions of one table may take several records.
pub(super) fn put_selections(draft: &mut Draft, job: JobId, first: usize, selections: &[Selection]) -> Result<()> {
    let mut n = first as u64;
    for selection in selections {
        let parts: Vec<&[Name]> = match selection.partitions.is_empty() {
            true => vec![&[]],
            false => selection.partitions.chunks(NAMES).collect(),
        };
        for partitions in parts {
            draft
                .put_row(Key::selection(job, n), &Selection { partitions: partitions.to_vec(), ..selection.clone() })?;
            n += 1;
        }
    }
    Ok(())
}

/// What a job's statement names. Blocks.
pub fn selections(catalog: &Catalog, job: JobId) -> Result<Vec<Selection>> {
    let mut all: Vec<Selection> = Vec::new();
    for row in catalog.rows::<Selection>(Key::selections(job)) {
        let row = row?;
        match all.last_mut().filter(|last| last.table == row.table && last.alias == row.alias) {
            Some(last) if !row.partitions.is_empty() => last.partitions.extend(row.partitions),
            _ => all.push(row),
        }
    }
    Ok(all)
}

/// Reads of the catalog that block, on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    catalog: &Arc<Catalog>,
    read: impl FnOnce(&Catalog) -> Result<T> + Send + 'static,
) -> Result<T> {
    let catalog = catalog.clone();
    error::blocking(move || read(&catalog)).await
}

/// The files that unfinished backups of this catalog keep, whatever its image says. Blocks. Read the image first: what
/// it no longer names was pinned before it went, so the pin is seen here.
pub fn pinned(catalog: &Catalog) -> Result<HashSet<FileId>> {
    let mut files = HashSet::new();
    let unfinished: Vec<JobId> =
        catalog.image().jobs.values().filter(|job| !job.state.is_terminal()).map(|job| job.id).collect();
    for job in unfinished {
        for pins in list_rows::<Pin>(catalog, job, PINS) {
            files.extend(pins?.into_iter().map(|pin| pin.file.id));
        }
    }
    Ok(files)
}
