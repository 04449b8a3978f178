//! BEs added and dropped, and configuration changed at run time.
//!
//! A BE that has answered is of this cluster for good, recorded or not. A changed key lasts until the process ends.

use super::frontend::Frontend;
use super::{Outcome, rawkv};
use crate::catalog::Backend;
use crate::error::{Error, Result};
use crate::rpc::message::Configure;
use crate::sql::Address;
use crate::types::{BackendId, Entity, Kind};

/// Adds BEs, all or none. Each must answer, and join this cluster, before any is recorded.
pub(super) async fn add_backends(fe: &Frontend, addresses: &[Address]) -> Result<Outcome> {
    let bracketed = |host: &String| if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let added = fe
        .catalog
        .commit(|draft| {
            let one = |Address { host, port }: &Address| {
                let host = bracketed(host);
                check_new(draft.image(), &host, *port)?;
                // An id is used up even if the BE does not answer, so that it is never given to two.
                Ok(Backend { id: BackendId(draft.fresh_id()), host, port: *port })
            };
            addresses.iter().map(one).collect::<Result<Vec<_>>>()
        })
        .await?;
    let ask = async |mut backend: Backend| {
        let refused = |err: Error| Error::Refused(format!("no backend was added: {}", err.report()));
        // One that was dropped before, or whose adding was interrupted, has its id already, and keeps it.
        let alive = fe.fleet.ask(&backend, true).await.map_err(refused)?;
        if let Some(lacks) = fe.fleet.lacks(&backend, &alive) {
            return Err(refused(Error::Refused(lacks)));
        }
        backend.id = alive.backend;
        Ok::<_, Error>(backend)
    };
    let answered =
        futures::future::join_all(added.into_iter().map(ask)).await.into_iter().collect::<Result<Vec<_>>>()?;
    fe.catalog
        .commit(|draft| {
            for backend in &answered {
                check_new(draft.image(), &backend.host, backend.port)?;
                if let Some(known) = draft.image().backends.get(&backend.id) {
                    return Err(Error::AlreadyExists(Entity::new(Kind::Backend, known.address())));
                }
                draft.put_backend(backend.clone())?;
            }
            Ok(())
        })
        .await?;
    fe.fleet.beat_once().await;
    Ok(Outcome::done())
}

fn check_new(image: &crate::catalog::Image, host: &str, port: u16) -> Result<()> {
    match image.backends.values().find(|backend| backend.host == host && backend.port == port) {
        Some(known) => Err(Error::AlreadyExists(Entity::new(Kind::Backend, known.address()))),
        None => Ok(()),
    }
}

/// Forgets BEs. Refuses while tablets or raw keys have copies there, unless forced: regions of raw keys are other BEs' then,
/// and empty, and tablets have the copies that others have. A table that has no other stays as it is.
pub(super) async fn drop_backends(fe: &Frontend, addresses: &[Address], force: bool) -> Result<Outcome> {
    let find = |image: &crate::catalog::Image, address: &Address| {
        let found = image.backends.values().find(|backend| backend.address() == address.to_string());
        found.map(|backend| backend.id).ok_or_else(|| Error::NotFound(Entity::new(Kind::Backend, address)))
    };
    let image = fe.catalog.image();
    let lost = addresses.iter().map(|address| find(&image, address)).collect::<Result<Vec<_>>>()?;
    let _one = fe.jobs.raw_writes().giving.lock().await;
    let moved = if force { rawkv::move_regions(fe, &lost).await? } else { rawkv::Moved::default() };
    let thinned = fe
        .catalog
        .commit(|draft| {
            for address in addresses {
                let id = find(draft.image(), address)?;
                let uses = |table: &crate::catalog::Table| {
                    let tablets = table.partitions.values().flat_map(|partition| &partition.tablets);
                    tablets.filter(|tablet| tablet.replicas.contains(&id)).count()
                };
                let used: usize = draft.image().tables.values().map(|table| uses(table)).sum();
                let regions = draft.image().regions.values().filter(|region| region.owner == id).count();
                if regions > 0 && !force {
                    return Err(Error::Refused(format!(
                        "backend '{address}' has the only copy of {regions} regions of raw keys; add FORCE to lose \
                         those keys"
                    )));
                }
                if used > 0 && !force {
                    return Err(Error::Refused(format!(
                        "backend '{address}' has replicas of {used} tablets; drop or restore their tables elsewhere, \
                         or add FORCE to lose those replicas"
                    )));
                }
                draft.although_held();
                draft.drop_backend(id);
            }
            moved.record(draft, &lost)?;
            draft.drop_lost_replicas()
        })
        .await?;
    let mut warnings = moved.warnings();
    if thinned > 0 {
        warnings.push(format!(
            "{thinned} tablets have fewer copies than their tables should have; BACKUP and RESTORE of these tables make new ones"
        ));
    }
    Ok(Outcome::Done { affected: 0, info: String::new(), warnings })
}

pub(super) fn set_frontend_config(fe: &Frontend, key: &str, value: &str) -> Result<Outcome> {
    fe.config.set(key, value)?;
    Ok(Outcome::done())
}

/// Changes a key on one BE, or on all that live, with a warning for each that does not. The first that refuses is the
/// error.
pub(super) async fn set_backend_config(fe: &Frontend, key: &str, value: &str, backend: Option<u64>) -> Result<Outcome> {
    let (backends, dead): (Vec<_>, Vec<_>) = match backend {
        Some(id) => (vec![BackendId(id)], Vec::new()),
        None => fe.catalog.image().backends.keys().partition(|id| fe.fleet.is_alive(**id)),
    };
    if backends.is_empty() {
        return Err(Error::Refused(format!("no backend is alive to change '{key}'; see SHOW BACKENDS")));
    }
    let change = Configure { set: Some((key.to_owned(), value.to_owned())) };
    let mut changed = Vec::new();
    for id in &backends {
        let configured = async { fe.fleet.backend(*id)?.configure(&change).await };
        match configured.await {
            Ok(_) => changed.push(fe.fleet.address(*id)),
            Err(err) if changed.is_empty() => return Err(err),
            Err(err) => {
                return Err(Error::Refused(format!(
                    "'{key}' was changed on {}, and not on all others: {}; run the statement again",
                    changed.join(", "),
                    err.report()
                )));
            }
        }
    }
    let warning = |id: &BackendId| {
        format!(
            "backend '{}' is not alive, and '{key}' was not changed there; see SHOW BACKENDS",
            fe.fleet.address(*id)
        )
    };
    let warnings = dead.iter().map(warning).collect();
    Ok(Outcome::Done { affected: backends.len() as u64, info: String::new(), warnings })
}
