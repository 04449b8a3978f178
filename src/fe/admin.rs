//! BEs added and dropped, and configuration changed at run time.
//!
//! A BE that has answered is of this cluster for good, recorded or not. A changed key lasts until the process ends.

use super::Outcome;
use super::frontend::Frontend;
use crate::catalog::Backend;
use crate::error::{Error, Result};
use crate::rpc::message::Configure;
use crate::sql::Address;
use crate::types::{BackendId, Entity, Kind};

/// Adds BEs. Each must answer, and join this cluster, before any is recorded.
pub(super) async fn add_backends(fe: &Frontend, addresses: &[Address]) -> Result<Outcome> {
    for Address { host, port } in addresses {
        let id = fe
            .catalog
            .commit(|draft| {
                check_new(draft.image(), host, *port)?;
                // An id is used up even if the BE does not answer, so that it is never given to two.
                Ok(BackendId(draft.fresh_id()))
            })
            .await?;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut backend = Backend { id, host, port: *port };
        // One that was dropped before, or whose adding was interrupted, has its id already, and keeps it.
        let alive = fe.fleet.ask(&backend, true).await?;
        if let Some(lacks) = fe.fleet.lacks(&backend, &alive) {
            return Err(Error::Refused(lacks));
        }
        backend.id = alive.backend;
        fe.catalog
            .commit(|draft| {
                check_new(draft.image(), &backend.host, backend.port)?;
                if let Some(known) = draft.image().backends.get(&backend.id) {
                    return Err(Error::AlreadyExists(Entity::new(Kind::Backend, known.address())));
                }
                draft.put_backend(backend)
            })
            .await?;
    }
    fe.fleet.beat_once().await;
    Ok(Outcome::done())
}

fn check_new(image: &crate::catalog::Image, host: &str, port: u16) -> Result<()> {
    match image.backends.values().find(|backend| backend.host == host && backend.port == port) {
        Some(known) => Err(Error::AlreadyExists(Entity::new(Kind::Backend, known.address()))),
        None => Ok(()),
    }
}

/// Forgets BEs. Refuses while tablets have their only copies there, unless forced.
pub(super) async fn drop_backends(fe: &Frontend, addresses: &[Address], force: bool) -> Result<Outcome> {
    fe.catalog
        .commit(|draft| {
            for address in addresses {
                let found = draft.image().backends.values().find(|backend| backend.address() == address.to_string());
                let id = found.map(|backend| backend.id);
                let id = id.ok_or_else(|| Error::NotFound(Entity::new(Kind::Backend, address)))?;
                let uses = |table: &crate::catalog::Table| {
                    let tablets = table.partitions.values().flat_map(|partition| &partition.tablets);
                    tablets.filter(|tablet| tablet.replicas.contains(&id)).count()
                };
                let used: usize = draft.image().tables.values().map(|table| uses(table)).sum();
                let regions = draft.image().regions.values().filter(|region| region.owner == id).count();
                if regions > 0 {
                    return Err(Error::Refused(format!(
                        "backend '{address}' has the only copy of {regions} regions of raw keys, and cannot be dropped"
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
            Ok(())
        })
        .await?;
    Ok(Outcome::done())
}

pub(super) fn set_frontend_config(fe: &Frontend, key: &str, value: &str) -> Result<Outcome> {
    fe.config.set(key, value)?;
    Ok(Outcome::done())
}

/// Changes a key on one BE, or on all that live. The first that refuses is the error.
pub(super) async fn set_backend_config(fe: &Frontend, key: &str, value: &str, backend: Option<u64>) -> Result<Outcome> {
    let backends = match backend {
        Some(id) => vec![BackendId(id)],
        None => fe.fleet.alive(),
    };
    let change = Configure { set: Some((key.to_owned(), value.to_owned())) };
    for id in &backends {
        fe.fleet.backend(*id)?.configure(&change).await?;
    }
    Ok(Outcome::Done { affected: backends.len() as u64, info: String::new(), warnings: Vec::new() })
}
