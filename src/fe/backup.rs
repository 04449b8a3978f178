//! BACKUP SNAPSHOT, RESTORE SNAPSHOT and CANCEL: from statements to requests of jobs.
//!
//! Once a job is submitted it is the server's: a statement that waits for it may be killed, and the job goes on.

use super::frontend::{Frontend, database_of};
use super::reading::INFORMATION_SCHEMA;
use super::{Outcome, StatementContext, rawkv};
use crate::catalog::{JobKind, Selection};
use crate::error::{Error, Result};
use crate::job::{BackupRequest, RestoreRequest, Target};
use crate::sql::{self, BackupTimestamp, ObjectRef, RestoreDatabase};
use crate::types::{Datum, Entity, JobId, Kind, Name};

/// The session variable that makes BACKUP and RESTORE return when their job has ended.
const WAIT: &str = "wait_for_jobs";

pub(super) async fn backup(fe: &Frontend, context: &StatementContext, backup: &sql::Backup) -> Result<Outcome> {
    let database = database_of(context, backup.database.as_ref())?.clone();
    if database.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
        return Err(Error::AccessDenied(format!(
            "'{database}' is a system database: its views are the server's own, and cannot be backed up"
        )));
    }
    rawkv::refuse(&database, "BACKUP SNAPSHOT")?;
    let image = fe.catalog.image();
    if !image.repositories.contains_key(&backup.repository) {
        return Err(Error::NotFound(Entity::new(Kind::Repository, &backup.repository)));
    }
    let mut selections = selections(&backup.objects.tables);
    if backup.objects.all_tables && !selections.is_empty() {
        let named = |table: &Name| backup.objects.tables.iter().any(|object| object.table == *table);
        let rest = image.database(&database)?.tables.keys().filter(|table| !named(table)).cloned();
        selections.extend(rest.map(|table| Selection { table, partitions: Vec::new(), alias: None }));
    }
    let request = BackupRequest {
        database,
        label: backup.label.clone(),
        repository: backup.repository.clone(),
        selections,
        timeout_ms: timeout_ms(fe, backup.options.timeout_secs),
    };
    let job = fe.jobs.backup(request).await?;
    submitted(fe, context, job.id, backup.options.wait).await
}

pub(super) async fn restore(fe: &Frontend, context: &StatementContext, restore: &sql::Restore) -> Result<Outcome> {
    let target = match &restore.database {
        RestoreDatabase::Recorded => Target::Recorded,
        RestoreDatabase::Into(database) => Target::Into(database.clone()),
        RestoreDatabase::Renamed { source, target } => {
            Target::Renamed { source: source.clone(), target: target.clone() }
        }
    };
    if let Target::Into(database) | Target::Renamed { target: database, .. } = &target {
        rawkv::refuse(database, "RESTORE SNAPSHOT")?;
    }
    let timestamp = match &restore.options.backup_timestamp {
        BackupTimestamp::At(timestamp) => Some(timestamp.clone()),
        BackupTimestamp::Latest => None,
    };
    let request = RestoreRequest {
        target,
        label: restore.label.clone(),
        repository: restore.repository.clone(),
        all_tables: restore.objects.all_tables,
        selections: selections(&restore.objects.tables),
        timestamp,
        replication: restore.options.replication_num,
        allow_load: restore.options.allow_load,
        timeout_ms: timeout_ms(fe, restore.options.timeout_secs),
    };
    let job = fe.jobs.restore(request).await?;
    submitted(fe, context, job.id, restore.options.wait).await
}

fn selections(objects: &[ObjectRef]) -> Vec<Selection> {
    let selection = |object: &ObjectRef| Selection {
        table: object.table.clone(),
        partitions: object.partitions.clone(),
        alias: object.alias.clone(),
    };
    objects.iter().map(selection).collect()
}

pub(super) fn timeout_ms(fe: &Frontend, seconds: Option<u64>) -> i64 {
    let ms = seconds.map_or_else(|| fe.config.get().backup_job_default_timeout_ms, |s| s.saturating_mul(1000));
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Answers a statement whose job runs: at once, or when it has ended.
pub(super) async fn submitted(
    fe: &Frontend,
    context: &StatementContext,
    job: JobId,
    wait: Option<bool>,
) -> Result<Outcome> {
    let by_session = || context.variables.get(WAIT).is_ok_and(|value| value == Datum::Int(1));
    if wait.unwrap_or_else(by_session) {
        tokio::select! {
            ended = fe.jobs.wait(job) => drop(ended?),
            // The job goes on; only the waiting is over.
            err = context.killed() => return Err(err),
        }
    }
    Ok(Outcome::done())
}

pub(super) async fn cancel_backup(
    fe: &Frontend,
    context: &StatementContext,
    database: Option<&Name>,
) -> Result<Outcome> {
    cancel(fe, context, JobKind::Backup, database).await
}

pub(super) async fn cancel_restore(
    fe: &Frontend,
    context: &StatementContext,
    database: Option<&Name>,
) -> Result<Outcome> {
    cancel(fe, context, JobKind::Restore, database).await
}

async fn cancel(fe: &Frontend, context: &StatementContext, kind: JobKind, database: Option<&Name>) -> Result<Outcome> {
    let database = database_of(context, database)?;
    // The database of a RESTORE may not exist yet.
    let image = fe.catalog.image();
    if !image.locks.contains_key(database) && image.last_job(kind, database).is_none() {
        image.database(database)?;
    }
    fe.jobs.cancel(kind, database).await?;
    Ok(Outcome::done())
}
