use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;

use super::frontend::{Frontend, database_of};
use super::reading::INFORMATION_SCHEMA;
use super::{Outcome, StatementContext};
use crate::catalog::{self, JobKind, Selection};
use crate::error::{Error, Result};
use crate::job::{BackupRequest, RestoreRequest, Target, known_snapshots_key, reference};
use crate::repository::Repository;
use crate::rpc::message::{Task, TaskOwner, Work};
use crate::sql::{self, BackupTimestamp, ObjectRef, RestoreDatabase};
use crate::types::{Datum, Entity, JobId, Kind, Name, RepositoryId, WriteId};

/// The session variable that makes BACKUP and RESTORE return when their job has ended.
const WAIT: &str = "wait_for_jobs";

pub(super) async fn create_repository(fe: &Arc<Frontend>, create: &sql::CreateRepository) -> Result<Outcome> {
    let failed = |message: String| Error::Refused(format!("Failed to create repository: {message}"));
    let taken = || failed(format!("repository with same name already exist: {}", create.name));
    if fe.catalog.image().repositories.contains_key(&create.name) {
        return Err(taken());
    }
    if create.location.is_empty() {
        return Err(Error::Refused("You must specify a location on the repository".into()));
    }
    let location = create.location.trim_end_matches('/');
    let location = if location.ends_with(':') { create.location.as_str() } else { location };
    if let Some((key, _)) = create.properties.iter().next() {
        return Err(Error::Analysis(format!("Unknown repository properties: [{key}]; file:// takes none")));
    }
    let repository = Repository::open(&create.name, location)?;
    if let Some(path) = repository.local_path() {
        check_local(fe, &path).await?;
    }
    let info = repository.create(create.read_only, &fe.clock).await.map_err(|err| failed(err.report()))?;
    let id = fe.catalog.commit(|draft| Ok(RepositoryId(draft.fresh_id()))).await?;
    let known = catalog::Repository {
        id,
        name: create.name.clone(),
        location: location.to_owned(),
        read_only: create.read_only,
        created: info.created,
        uuid: info.id,
    };
    // Every BE must see the same repository: a directory that is not shared shows here, not in a backup.
    for backend in fe.fleet.alive() {
        let work = Work::Probe { repository: reference(&known), writable: !known.read_only };
        let task = Task { owner: TaskOwner::Write(WriteId(id.0)), number: backend.0, work };
        let probe = async {
            let events = fe.fleet.backend(backend)?.run("open the repository", &task).await?;
            events.try_for_each(|_| async { Ok(()) }).await
        };
        probe.await.map_err(|err: Error| failed(err.report()))?;
    }
    fe.catalog
        .commit(|draft| {
            if draft.image().repositories.contains_key(&known.name) {
                return Err(taken());
            }
            draft.put_repository(known)
        })
        .await?;
    Ok(Outcome::done())
}

/// Checks where a local repository would lie, links resolved as far as the path exists.
async fn check_local(fe: &Arc<Frontend>, path: &Path) -> Result<()> {
    let (fe, path) = (fe.clone(), path.to_owned());
    let check = move || {
        let mut existing: &Path = &path;
        let mut rest = PathBuf::new();
        let resolved = loop {
            if let Ok(resolved) = existing.canonicalize() {
                break resolved.join(&rest);
            }
            let Some(parent) = existing.parent() else { break path.clone() };
            let name = existing.file_name().unwrap_or_default();
            rest = if rest.as_os_str().is_empty() { PathBuf::from(name) } else { Path::new(name).join(&rest) };
            existing = parent;
        };
        fe.check_path(&resolved, &fe.config.get().repository_allowed_paths, "repository_allowed_paths")
    };
    tokio::task::spawn_blocking(check).await.map_err(|err| Error::internal(format_args!("check a path: {err}")))?
}

pub(super) async fn drop_repository(fe: &Arc<Frontend>, name: &Name) -> Result<Outcome> {
    let known = known_snapshots(fe, name).await?;
    fe.catalog
        .commit(|draft| {
            let image = draft.image();
            let found =
                image.repositories.get(name).ok_or_else(|| Error::Refused("Repository does not exist".into()))?;
            if image.jobs.values().any(|job| job.repository == found.id && !job.state.is_terminal()) {
                let text = "Backup or restore job is running on this repository. Can not drop it";
                return Err(Error::Refused(text.into()));
            }
            known.into_iter().for_each(|key| draft.delete_row(key));
            draft.drop_repository(name)
        })
        .await?;
    Ok(Outcome::done())
}

/// The records of what is known to be in a repository.
async fn known_snapshots(fe: &Arc<Frontend>, name: &Name) -> Result<Vec<Vec<u8>>> {
    let Some(id) = fe.catalog.image().repositories.get(name).map(|repository| repository.id) else {
        return Ok(Vec::new());
    };
    let fe = fe.clone();
    let keys = tokio::task::spawn_blocking(move || fe.catalog.keys(known_snapshots_key(id))).await;
    keys.map_err(|err| Error::internal(format!("read records: {err}")))?
}

pub(super) async fn backup(fe: &Frontend, context: &StatementContext, backup: &sql::Backup) -> Result<Outcome> {
    let database = database_of(context, backup.database.as_ref())?.clone();
    if database.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
        return Err(Error::AccessDenied(format!(
            "'{database}' is a system database: its views are the server's own, and cannot be backed up"
        )));
    }
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

fn timeout_ms(fe: &Frontend, seconds: Option<u64>) -> i64 {
    let ms = seconds.map_or_else(|| fe.config.get().backup_job_default_timeout_ms, |s| s.saturating_mul(1000));
    i64::try_from(ms).unwrap_or(i64::MAX)
}

async fn submitted(fe: &Frontend, context: &StatementContext, job: JobId, wait: Option<bool>) -> Result<Outcome> {
    let by_session = || context.variables.get(WAIT).is_ok_and(|value| value == Datum::Int(1));
    if wait.unwrap_or_else(by_session) {
        tokio::select! {
            ended = fe.jobs.wait(job) => drop(ended?),
            // The job goes on; only the waiting is over.
            () = context.cancel.cancelled() => return Err(Error::Cancelled("Query execution was interrupted".into())),
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
