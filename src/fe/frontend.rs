//! The FE put together: what statements work with, and which function runs which statement.
//!
//! Whoever reads files takes the image from [`Frontend::read`], not from the catalog: that is what keeps the files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlparser::ast::Query;

use super::{
    Executor, Outcome, StatementContext, admin, backup, ddl, load, raw_backup, rawkv, reading, repository, show,
};
use crate::catalog::{Catalog, Draft, Image};
use crate::clock::Clock;
use crate::config::FeConfig;
use crate::error::{Error, Result};
use crate::job::Jobs;
use crate::query::{Engine, ResultColumn};
use crate::rawkv::memory::Memory;
use crate::rpc::fleet::Fleet;
use crate::sql::{self, Parsed, Statement, TableName};
use crate::types::{BackendId, FileId, Name, Timestamp, WriteId};

/// The folder of rows that queries put aside, in the FE's directory. Cleared when it starts.
pub(super) const SPILL: &str = "spill";

/// The FE: everything that statements need, put together once.
pub struct Frontend {
    pub(super) catalog: Arc<Catalog>,
    pub(super) fleet: Fleet,
    pub(super) jobs: Jobs,
    pub(super) engine: Engine,
    pub(super) config: FeConfig,
    pub(super) clock: Clock,
    pub(super) started: Timestamp,
    pub(super) raw_memory: Memory,
    /// The MySQL and the HTTP port, once they listen.
    ports: OnceLock<[u16; 2]>,
    /// Directories of this process: no statement reads or writes files there.
    data_dirs: Vec<PathBuf>,
    /// Images that queries are reading: files that these name are no garbage.
    reading: Mutex<Vec<Weak<Image>>>,
    /// Files that BEs did not have when they were asked last.
    missing: Mutex<HashMap<BackendId, HashSet<FileId>>>,
    /// Writes that have failed, and that the catalog does not know to have ended.
    failed_writes: Mutex<Vec<WriteId>>,
}

/// A load or merge under way: what BEs make for it is no garbage. A commit ends it; if none has when it is dropped, a
/// later one will.
pub(super) struct OpenWrite {
    fe: Arc<Frontend>,
    pub(super) id: WriteId,
}

impl Drop for OpenWrite {
    fn drop(&mut self) {
        if self.fe.catalog.image().writes.contains_key(&self.id) {
            self.fe.failed_writes().push(self.id);
        }
    }
}

impl Frontend {
    /// Puts the FE together. `data_dirs` are the directories that FILES() and repositories must keep out of, the FE's first.
    pub fn new(
        catalog: Arc<Catalog>,
        fleet: Fleet,
        jobs: Jobs,
        config: FeConfig,
        clock: Clock,
        data_dirs: &[&Path],
    ) -> Result<Arc<Self>> {
        let spill = data_dirs.first().ok_or_else(|| Error::internal("an FE without a directory"))?.join(SPILL);
        // What an earlier process was spilling when it died.
        match std::fs::remove_dir_all(&spill) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("clear", &spill)(err)),
            _ => {}
        }
        let memory = usize::try_from(config.get().query_mem_limit).unwrap_or(usize::MAX);
        let canonical = |dir: &&Path| dir.canonicalize().map_err(Error::io("open directory", dir));
        Ok(Arc::new(Self {
            catalog,
            fleet,
            jobs,
            engine: Engine::new(memory, spill)?,
            config,
            started: clock.now(),
            clock,
            raw_memory: Memory::default(),
            ports: OnceLock::new(),
            data_dirs: data_dirs.iter().map(canonical).collect::<Result<_>>()?,
            reading: Mutex::default(),
            missing: Mutex::default(),
            failed_writes: Mutex::default(),
        }))
    }

    /// Says where the MySQL and the HTTP port listen, for SHOW FRONTENDS.
    pub fn listens_at(&self, mysql: u16, http: u16) {
        // Ports do not change while a process lives.
        let _ = self.ports.set([mysql, http]);
    }

    /// The FE's own directory.
    pub(super) fn directory(&self) -> Result<&Path> {
        self.data_dirs.first().map(PathBuf::as_path).ok_or_else(|| Error::internal("an FE without a directory"))
    }

    pub(super) fn ports(&self) -> [u16; 2] {
        self.ports.get().copied().unwrap_or_default()
    }

    /// The newest image, and a promise that no file it names is thrown away while the caller keeps it.
    pub(super) fn read(&self) -> Arc<Image> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let image = Arc::new(Image::clone(&self.catalog.image()));
        reading.retain(|image| image.strong_count() > 0);
        reading.push(Arc::downgrade(&image));
        image
    }

    /// All images that somebody reads, and the newest. Whoever begins to read later reads a newer one.
    pub(super) fn images(&self) -> Vec<Arc<Image>> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.iter().filter_map(Weak::upgrade).chain([self.catalog.image()]).collect()
    }

    /// Begins a write, durably.
    pub(super) async fn begin_write(self: &Arc<Self>) -> Result<OpenWrite> {
        let id = self.catalog.commit(|draft| draft.begin_write()).await?;
        Ok(OpenWrite { fe: self.clone(), id })
    }

    /// Ends the writes that have failed, so that their files become garbage; what cannot be recorded now is tried again by
    /// the next call.
    pub(super) async fn end_failed_writes(&self) -> Result<()> {
        let failed = std::mem::take(&mut *self.failed_writes());
        if failed.is_empty() {
            return Ok(());
        }
        let end = |draft: &mut Draft| {
            draft.use_reserve();
            failed.iter().for_each(|id| draft.end_write(*id));
            Ok(())
        };
        let ended = self.catalog.commit(end).await;
        if ended.is_err() {
            self.failed_writes().extend(failed);
        }
        ended
    }

    fn failed_writes(&self) -> std::sync::MutexGuard<'_, Vec<WriteId>> {
        self.failed_writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which files a BE does not have that the catalog names; those of them that were not known to be missing.
    pub(super) fn note_missing(&self, backend: BackendId, files: HashSet<FileId>) -> Vec<FileId> {
        let image = self.catalog.image();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = missing.insert(backend, files.clone()).unwrap_or_default();
        missing.retain(|backend, files| !files.is_empty() && image.backends.contains_key(backend));
        files.difference(&known).copied().collect()
    }

    /// The files that a BE did not have when it was asked last.
    pub(super) fn missing(&self, backend: BackendId) -> HashSet<FileId> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.get(&backend).cloned().unwrap_or_default()
    }

    /// Refuses paths in this process's own directories, and outside the allowed ones if any are named. The path must
    /// have no links in it.
    pub(super) fn check_path(&self, path: &Path, allowed: &[PathBuf], key: &str) -> Result<()> {
        if self.data_dirs.iter().any(|dir| path.starts_with(dir) || dir.starts_with(path)) {
            let path = path.display();
            return Err(Error::Refused(format!("'{path}' is in a data directory of holdfast, or holds one")));
        }
        let is_below = |dir: &PathBuf| {
            path.starts_with(dir) || dir.canonicalize().is_ok_and(|resolved| path.starts_with(resolved))
        };
        if allowed.is_empty() || allowed.iter().any(is_below) {
            return Ok(());
        }
        Err(Error::Refused(format!("'{}' is not below the directories that {key} in fe.conf allows", path.display())))
    }
}

/// Refuses files below the data directory of any holdfast process, such as a BE of its own on this machine: the
/// cluster's token is there. The path must have no links in it.
pub(super) fn check_no_data(path: &Path) -> Result<()> {
    let holds = |dir: &&Path| ["LOCK", "identity.json"].iter().any(|name| dir.join(name).is_file());
    match path.ancestors().skip(1).find(holds) {
        Some(dir) => {
            let (path, dir) = (path.display(), dir.display());
            Err(Error::Refused(format!(
                "'{path}' is in a data directory of holdfast: '{dir}' has LOCK or identity.json"
            )))
        }
        None => Ok(()),
    }
}

impl std::fmt::Debug for Frontend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frontend").finish_non_exhaustive()
    }
}

/// An FE as sessions see it. Statements run in tasks of their own: a client that goes away does not leave one half
/// done, and the work of reading ends with its rows.
pub struct Service(pub Arc<Frontend>);

impl Executor for Service {
    fn run<'a>(&'a self, context: &'a StatementContext, parsed: &'a Parsed) -> BoxFuture<'a, Result<Outcome>> {
        if matches!(parsed.statement, Statement::Query(_) | Statement::Show(_)) {
            return run(&self.0, context, parsed).boxed();
        }
        let (fe, context) = (self.0.clone(), context.clone());
        let parsed = sql::aside(parsed.text.len(), || parsed.clone());
        let work = tokio::spawn(async move { run(&fe, &context, &parsed).await });
        work.map(|ended| ended.map_err(|err| Error::internal(format_args!("a statement ended badly: {err}")))?).boxed()
    }

    fn describe<'a>(
        &'a self,
        context: &'a StatementContext,
        query: &'a Query,
        text: &'a str,
    ) -> BoxFuture<'a, Result<Vec<ResultColumn>>> {
        reading::columns(&self.0, context, query, text).boxed()
    }
}

async fn run(fe: &Arc<Frontend>, context: &StatementContext, parsed: &Parsed) -> Result<Outcome> {
    let changes_nothing = matches!(
        parsed.statement,
        Statement::Query(_)
            | Statement::Show(_)
            | Statement::DropBackends { .. }
            | Statement::SetFrontendConfig { .. }
            | Statement::SetBackendConfig { .. }
            | Statement::LockTables
            | Statement::UnlockTables
    );
    // Raw keys change without a commit.
    if !changes_nothing {
        fe.catalog.check_not_held()?;
    }
    match &parsed.statement {
        Statement::Query(query) => reading::query(fe, context, query, &parsed.text).await,
        Statement::Insert(insert) => load::insert(fe, context, insert, &parsed.text).await,
        Statement::Delete(delete) => rawkv::delete(fe, context, delete, &parsed.text).await,
        Statement::Show(statement) => show::show(fe, context, statement).await,

        Statement::CreateDatabase { name, if_not_exists } => ddl::create_database(fe, name, *if_not_exists).await,
        Statement::DropDatabase { name, if_exists, .. } => ddl::drop_database(fe, name, *if_exists).await,
        Statement::CreateTable(create) => ddl::create_table(fe, context, create).await,
        Statement::DropTables { tables, if_exists, .. } => ddl::drop_tables(fe, context, tables, *if_exists).await,
        Statement::Truncate { table, partitions } => ddl::truncate(fe, context, table, partitions).await,

        Statement::CreateRepository(create) => repository::create(fe, create).await,
        Statement::AlterRepository { name, properties } => repository::alter(fe, name, properties).await,
        Statement::DropRepository(name) => repository::drop(fe, name).await,
        Statement::Backup(statement) => backup::backup(fe, context, statement).await,
        Statement::Restore(statement) => backup::restore(fe, context, statement).await,
        Statement::BackupRaw(statement) => raw_backup::backup(fe, context, statement).await,
        Statement::RestoreRaw(statement) => raw_backup::restore(fe, context, statement).await,
        Statement::CancelBackup { database } => backup::cancel_backup(fe, context, database.as_ref()).await,
        Statement::CancelRestore { database } => backup::cancel_restore(fe, context, database.as_ref()).await,

        Statement::AddBackends(addresses) => admin::add_backends(fe, addresses).await,
        Statement::DropBackends { backends, force } => admin::drop_backends(fe, backends, *force).await,
        Statement::SetFrontendConfig { key, value } => admin::set_frontend_config(fe, key, value),
        Statement::SetBackendConfig { table, key, value, backend } => {
            let (database, _) = qualified(context, table)?;
            if !database.eq_ignore_ascii_case(reading::INFORMATION_SCHEMA) {
                return Err(Error::Unsupported(format!("UPDATE of {database}.{}", table.table)));
            }
            admin::set_backend_config(fe, key, value, *backend).await
        }
        Statement::LockTables | Statement::UnlockTables => Ok(Outcome::done()),
        Statement::Use(_)
        | Statement::Set(_)
        | Statement::Kill { .. }
        | Statement::CreateUser { .. }
        | Statement::AlterUser { .. }
        | Statement::AlterKeys(_)
        | Statement::DropUser { .. }
        | Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Savepoint
        | Statement::RollbackToSavepoint
        | Statement::Prepare { .. }
        | Statement::Execute { .. }
        | Statement::Deallocate { .. } => Err(Error::internal("a session's statement has left its session")),
    }
}

/// The database a statement is about: the one it names, or the session's.
pub(super) fn database_of<'a>(context: &'a StatementContext, named: Option<&'a Name>) -> Result<&'a Name> {
    named.or(context.database.as_ref()).ok_or(Error::NoDatabase)
}

/// Database and table of a name.
pub(super) fn qualified<'a>(context: &'a StatementContext, table: &'a TableName) -> Result<(&'a Name, &'a Name)> {
    Ok((database_of(context, table.database.as_ref())?, &table.table))
}

/// Database and table of a name that a statement changes.
pub(super) fn writable<'a>(context: &'a StatementContext, table: &'a TableName) -> Result<(&'a Name, &'a Name)> {
    let (database, table) = qualified(context, table)?;
    if database.eq_ignore_ascii_case(reading::INFORMATION_SCHEMA) {
        return Err(Error::AccessDenied(format!("database '{database}' is part of the server and holds views only")));
    }
    Ok((database, table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_other_processes_is_not_for_files() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for (holder, name) in [("fe", "LOCK"), ("be", "identity.json")] {
            let deep = dir.join(holder).join("files/1");
            std::fs::create_dir_all(&deep).unwrap();
            assert!(check_no_data(&deep.join("a.parquet")).is_ok());
            std::fs::write(dir.join(holder).join(name), "").unwrap();
            for path in [deep.join("a.parquet"), dir.join(holder).join(name)] {
                let err = check_no_data(&path).unwrap_err();
                assert!(matches!(&err, Error::Refused(text) if text.contains("a data directory of holdfast")), "{err}");
            }
            assert!(check_no_data(&dir.join("a.csv")).is_ok());
        }
    }
}
