//! Repositories: created, changed and dropped by statements, and looked at from time to time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use super::frontend::Frontend;
use crate::catalog::Key;
use crate::error::{Error, Result};
use crate::job::reference;
use crate::repository::{Repository, layout, store};
use crate::rpc::message::{Task, TaskOwner, Work};
use crate::types::{Name, RepositoryId, StoreProperties, WriteId};
use crate::{catalog, sql};

/// Bytes of all properties together, well below what a record of the catalog takes.
const MOST_BYTES: usize = 5 << 10;

/// Repositories that are looked at together.
const AT_ONCE: usize = 64;

/// How long one of them may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at all repositories, again and again, until told to stop. One that is slow to answer keeps few others waiting.
pub async fn watch(fe: Arc<Frontend>, shutdown: CancellationToken) {
    let work = async {
        let permits = Semaphore::new(AT_ONCE);
        let (mut looks, mut looked_at) = (FuturesUnordered::new(), HashSet::new());
        loop {
            let image = fe.catalog.image();
            fe.jobs.health().retain(|id| image.repositories.values().any(|known| known.id == id));
            for known in image.repositories.values().filter(|known| looked_at.insert(known.id)) {
                looks.push(look_at(&fe, &permits, known.clone()));
            }
            let mut pause = pin!(fe.clock.pause(fe.config.watch(), |values| values.repository_ping_interval_ms));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(id) = looks.next() => looked_at.remove(&id),
                };
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

async fn look_at(fe: &Frontend, permits: &Semaphore, known: Arc<catalog::Repository>) -> RepositoryId {
    let _permit = permits.acquire().await;
    let check = async {
        let repository = Repository::open(&known.name, &known.location, &known.properties)?.hasty();
        repository.check(&known.uuid).await
    };
    let problem = match tokio::time::timeout(PATIENCE, check).await {
        Ok(Ok(_)) => None,
        Ok(Err(err)) => Some(err.report()),
        Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    // ALTER may have tried other properties meanwhile.
    if fe.catalog.image().repositories.get(&known.name).is_some_and(|now| Arc::ptr_eq(now, &known)) {
        fe.jobs.health().looked(known.id, fe.clock.now(), problem);
    }
    known.id
}

fn failed(message: impl std::fmt::Display) -> Error {
    Error::Refused(format!("Failed to create repository: {message}"))
}

pub(super) async fn create(fe: &Arc<Frontend>, create: &sql::CreateRepository) -> Result<Outcome> {
    let taken = || failed(format_args!("repository with same name already exist: {}", create.name));
    if fe.catalog.image().repositories.contains_key(&create.name) {
        return Err(taken());
    }
    if create.location.is_empty() {
        return Err(Error::Refused("You must specify a location on the repository".into()));
    }
    layout::check_root(&create.name).map_err(|err| Error::Analysis(err.to_string()))?;
    let location = create.location.trim_end_matches('/');
    let location = if location.ends_with(':') { create.location.as_str() } else { location };
    let properties = StoreProperties(create.properties.iter().cloned().collect());
    let (repository, properties, mut warnings) = open(&create.name, location, properties, false).await?;
    if let Some(path) = repository.local_path() {
        check_local(fe, &path).await?;
    }
    let info = repository.create(create.read_only, &fe.clock).await.map_err(|err| from_here(&err))?;
    let id = fe.catalog.commit(|draft| Ok(RepositoryId(draft.fresh_id()))).await?;
    let known = catalog::Repository {
        id,
        name: create.name.clone(),
        location: location.to_owned(),
        read_only: create.read_only,
        created: info.created,
        uuid: info.id,
        properties,
    };
    warnings.extend(ask_backends(fe, &known).await?);
    fe.catalog
        .commit(|draft| {
            if draft.image().repositories.contains_key(&known.name) {
                return Err(taken());
            }
            draft.put_repository(known)
        })
        .await?;
    Ok(Outcome::Done { affected: 0, info: String::new(), warnings })
}

/// New properties take the place of those that set the same; an empty value takes one away. They are tried out before
/// they are kept, and running jobs use them from their next request to a BE on.
pub(super) async fn alter(fe: &Arc<Frontend>, name: &Name, changes: &sql::Properties) -> Result<Outcome> {
    let known = fe.catalog.image().repository(name)?.clone();
    let merged = store::merge(&known.properties, changes.iter());
    let (repository, properties, mut warnings) =
        open(name, &known.location, merged, store::moves(changes.iter())).await?;
    let check = async {
        repository.check(&known.uuid).await?;
        if !known.read_only {
            repository.probe(&fe.clock).await?;
        }
        Ok(())
    };
    check.await.map_err(|err| from_here(&err))?;
    let changed = catalog::Repository { properties, ..(*known).clone() };
    warnings.extend(ask_backends(fe, &changed).await?);
    fe.catalog
        .commit(|draft| {
            let now = draft.image().repository(name)?;
            if now.id != known.id || now.properties != known.properties {
                return Err(Error::Conflict(crate::types::Entity::new(crate::types::Kind::Repository, name)));
            }
            draft.put_repository(changed)
        })
        .await?;
    fe.jobs.health().looked(known.id, fe.clock.now(), None);
    fe.jobs.health().works(known.id);
    Ok(Outcome::Done { affected: 0, info: String::new(), warnings })
}

/// Opens a repository with properties that nobody has tried yet: completes them by what the store says of itself.
/// `moved` says that it is another server than before.
async fn open(
    name: &Name,
    location: &str,
    properties: StoreProperties,
    moved: bool,
) -> Result<(Repository, StoreProperties, Vec<String>)> {
    let bytes: usize = properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MOST_BYTES {
        return Err(Error::Analysis(format!("the properties have {bytes} bytes, more than the {MOST_BYTES} allowed")));
    }
    let warnings = store::check(location, &properties)?;
    Repository::open(name, location, &properties)?;
    let properties = store::with_region(location, properties, moved).await?;
    Ok((Repository::open(name, location, &properties)?.hasty(), properties, warnings))
}

fn from_here(err: &Error) -> Error {
    failed(format_args!("on this frontend: {}", err.report()))
}

/// Every BE must see the same repository: a directory that is not shared, or a network without a way to the store, shows
/// here, not in a backup. Returns which could not be asked.
async fn ask_backends(fe: &Frontend, known: &catalog::Repository) -> Result<Vec<String>> {
    // Another statement about the same repository must not take this one's place.
    let write = fe.catalog.commit(|draft| Ok(WriteId(draft.fresh_id()))).await?;
    let ask = |backend| async move {
        if !fe.fleet.is_alive(backend) {
            let address = fe.fleet.address(backend);
            let warning = format!("backend {address} is not alive, so it was not asked whether it sees the repository");
            return Ok(Some(warning));
        }
        let work = Work::Probe { repository: reference(known), writable: !known.read_only };
        let task = Task { owner: TaskOwner::Write(write), number: backend.0, work };
        let events = fe.fleet.backend(backend)?.run("open the repository", &task).await?;
        events.try_for_each(|_| async { Ok(()) }).await.map(|()| None)
    };
    let image = fe.catalog.image();
    let asked = futures::future::try_join_all(image.backends.keys().copied().map(ask)).await;
    let warnings = asked.map_err(|err: Error| failed(err.report()))?;
    Ok(warnings.into_iter().flatten().collect())
}

/// Checks where a local repository or backup would lie, links resolved as far as the path exists.
pub(super) async fn check_local(fe: &Arc<Frontend>, path: &Path) -> Result<()> {
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

pub(super) async fn drop(fe: &Arc<Frontend>, name: &Name) -> Result<Outcome> {
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
    let keys = tokio::task::spawn_blocking(move || fe.catalog.keys(Key::known_snapshots(id))).await;
    keys.map_err(|err| Error::internal(format!("read records: {err}")))?
}
