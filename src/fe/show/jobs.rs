//! SHOW BACKUP and SHOW RESTORE: what the catalog records of a job, and how far it is, which only memory knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::Listing;
use super::super::frontend::Frontend;
use super::is_information_schema;
use crate::catalog::{Image, Job, JobKind, RawJob, Selection};
use crate::error::{Error, Result};
use crate::job::Progress;
use crate::types::Name;

pub(super) const BACKUP: [&str; 14] = [
    "JobId",
    "SnapshotName",
    "DbName",
    "State",
    "BackupObjs",
    "CreateTime",
    "SnapshotFinishedTime",
    "UploadFinishedTime",
    "FinishedTime",
    "UnfinishedTasks",
    "Progress",
    "TaskErrMsg",
    "Status",
    "Timeout",
];

pub(super) const RESTORE: [&str; 18] = [
    "JobId",
    "Label",
    "Timestamp",
    "DbName",
    "State",
    "AllowLoad",
    "ReplicationNum",
    "RestoreObjs",
    "CreateTime",
    "MetaPreparedTime",
    "SnapshotFinishedTime",
    "DownloadFinishedTime",
    "FinishedTime",
    "UnfinishedTasks",
    "Progress",
    "TaskErrMsg",
    "Status",
    "Timeout",
];

/// SHOW BACKUP and SHOW RESTORE: of each database, or of one, the last job of the kind.
///
/// A database may be named that a RESTORE will create, or that is gone since its last job.
pub(super) async fn list(
    fe: &Arc<Frontend>,
    image: Arc<Image>,
    kind: JobKind,
    database: Option<&Name>,
) -> Result<Listing> {
    // Ids grow, so a later job takes the place of an earlier one.
    let of_kind = image.jobs.values().filter(|job| job.kind == kind);
    let mut last: BTreeMap<&Name, &Arc<Job>> = of_kind.map(|job| (&job.database, job)).collect();
    if let Some(database) = database {
        last.retain(|name, _| *name == database);
        if !is_information_schema(database) && !image.jobs.values().any(|job| job.database == *database) {
            image.database(database)?;
        }
    }
    let jobs: Vec<Arc<Job>> = last.into_values().cloned().collect();
    let catalog = fe.catalog.clone();
    let read = tokio::task::spawn_blocking(move || {
        let selections = |job: Arc<Job>| {
            let rows = crate::job::selections(&catalog, job.id);
            rows.map(|rows| (job, rows))
        };
        jobs.into_iter().map(selections).collect::<Result<Vec<_>>>()
    });
    let jobs = read.await.map_err(Error::internal)??;
    let mut listing = match kind {
        JobKind::Backup => Listing::new(&BACKUP),
        JobKind::Restore => Listing::new(&RESTORE),
    };
    for (job, selections) in jobs {
        let progress = if job.state.is_terminal() { None } else { fe.jobs.progress(job.id) };
        listing.push(row(fe, &job, &selections, progress.as_deref()));
    }
    Ok(listing)
}

fn row(fe: &Frontend, job: &Job, selections: &[Selection], progress: Option<&Progress>) -> Vec<Option<String>> {
    let text = |text: &dyn ToString| Some(text.to_string());
    let time = |time: Option<crate::types::Timestamp>| time.map(|time| time.to_string());
    let failure = job.failure.as_ref().map_or_else(|| "[OK]".to_owned(), ToString::to_string);
    let mut row = vec![text(&job.id), text(&job.label)];
    match job.kind {
        JobKind::Backup => row.extend([text(&job.database), text(&job.state), Some(backup_objects(job, selections))]),
        JobKind::Restore => row.extend([
            text(&job.timestamp),
            text(&job.database),
            text(&job.state),
            text(&job.allow_load),
            text(&job.replication.unwrap_or_else(|| fe.fleet.default_copies())),
            Some(job.raw.as_ref().map_or_else(|| restore_objects(selections), |raw| raw_object(raw, "FROM"))),
        ]),
    }
    row.push(text(&job.created));
    if job.kind == JobKind::Restore {
        row.push(time(job.meta_prepared));
    }
    row.extend([time(job.snapshot_finished), time(job.transfer_finished), time(job.finished)]);
    row.extend([
        Some(progress.map(unfinished_tasks).unwrap_or_default()),
        Some(progress.map(|progress| progress_text(job, progress)).unwrap_or_default()),
        Some(progress.map(|progress| task_errors(job, progress)).unwrap_or_default()),
        Some(failure),
        text(&(job.timeout_ms / 1000)),
    ]);
    row
}

/// `[db.t1], [db.t2 PARTITIONS (p1, p2)]`.
fn backup_objects(job: &Job, selections: &[Selection]) -> String {
    if let Some(raw) = &job.raw {
        return raw_object(raw, "TO");
    }
    let object = |selection: &Selection| match selection.partitions.as_slice() {
        [] => format!("[{}.{}]", job.database, selection.table),
        partitions => format!("[{}.{} PARTITIONS ({})]", job.database, selection.table, join(partitions)),
    };
    selections.iter().map(object).collect::<Vec<_>>().join(", ")
}

/// `t1 PARTITIONS [p1, p2], t2 AS t3`.
fn restore_objects(selections: &[Selection]) -> String {
    let object = |selection: &Selection| {
        let mut text = selection.table.to_string();
        if !selection.partitions.is_empty() {
            text.push_str(&format!(" PARTITIONS [{}]", join(&selection.partitions)));
        }
        if let Some(alias) = &selection.alias {
            text.push_str(&format!(" AS {alias}"));
        }
        text
    };
    selections.iter().map(object).collect::<Vec<_>>().join(", ")
}

/// `[default [31, 3130) TO s3://bucket/backup]`.
fn raw_object(raw: &RawJob, word: &str) -> String {
    format!("[{} {} {word} {}]", raw.cf, raw.range, raw.storage)
}

fn join(names: &[Name]) -> String {
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")
}

/// `task=backend, …`.
fn unfinished_tasks(progress: &Progress) -> String {
    let task = |(task, backend, _)| format!("{task}={backend}");
    progress.tasks().into_iter().map(task).collect::<Vec<_>>().join(", ")
}

/// `[<job>: 4/18], [bytes: 1048576/4194304]`: files and bytes of the current step, done and all. StarRocks has the same
/// form for each task; tasks here are small and come and go.
fn progress_text(job: &Job, progress: &Progress) -> String {
    let load = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let (files, bytes) = (load(&progress.files), load(&progress.bytes));
    if files == 0 {
        return String::new();
    }
    // Failed tries move bytes too.
    let moved = load(&progress.bytes_moved).min(bytes);
    format!("[{}: {}/{files}], [bytes: {moved}/{bytes}]", job.id, load(&progress.files_done))
}

/// `[task: message], …`; what the job itself tries again is under its own id.
fn task_errors(job: &Job, progress: &Progress) -> String {
    let mut failed: Vec<_> = progress.tasks().into_iter().map(|(task, _, message)| (task, message)).collect();
    failed.retain(|(_, message)| !message.is_empty());
    let trouble = progress.trouble();
    if !trouble.is_empty() && failed.iter().all(|(_, message)| *message != trouble) {
        failed.insert(0, (job.id.0, trouble));
    }
    failed.iter().map(|(task, message)| format!("[{task}: {message}]")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_documented_form() {
        let name = |text: &str| Name::new(text).unwrap();
        let whole = Selection { table: name("a"), partitions: Vec::new(), alias: Some(name("b")) };
        let parts = Selection { table: name("t"), partitions: vec![name("p1"), name("p2")], alias: None };
        assert_eq!(restore_objects(&[whole, parts]), "a AS b, t PARTITIONS [p1, p2]");
    }

    #[test]
    fn progress_counts_files_and_bytes_of_the_step() {
        let progress = Progress::default();
        assert_eq!(unfinished_tasks(&progress), "");
        progress.files.store(18, Ordering::Relaxed);
        progress.files_done.store(4, Ordering::Relaxed);
        progress.bytes.store(100, Ordering::Relaxed);
        progress.bytes_moved.store(130, Ordering::Relaxed);
        assert_eq!(
            progress_text(&super::super::tests::job(7, JobKind::Backup), &progress),
            "[7: 4/18], [bytes: 100/100]"
        );
    }
}
