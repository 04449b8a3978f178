use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tonic::metadata::MetadataMap;

use crate::error::{Error, Result};
use crate::rpc::message::Membership;
use crate::rpc::{CLUSTER, SEQUENCE, TOKEN};
use crate::types::{BackendId, ClusterId};

/// Which cluster this BE belongs to, kept in `identity.json` beside its files.
pub struct Members {
    path: PathBuf,
    member: Mutex<Option<Membership>>,
    /// Held while the file is written; never taken by those who only read.
    writing: Mutex<()>,
}

/// What a call says of its caller.
pub struct Credentials {
    cluster: ClusterId,
    token: String,
    sequence: u64,
}

impl Members {
    /// Reads what an earlier process kept. Blocks.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("identity.json");
        let member = match std::fs::read(&path) {
            Ok(text) => Some(serde_json::from_slice(&text).map_err(|err| Error::Corrupt {
                what: "BE identity",
                path: path.display().to_string(),
                message: err.to_string(),
            })?),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => None,
            Err(err) => return Err(Error::io("read", &path)(err)),
        };
        Ok(Self { path, member: Mutex::new(member), writing: Mutex::default() })
    }

    /// The cluster, once joined.
    pub fn get(&self) -> Option<Membership> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses a caller that is not of this BE's cluster.
    pub fn check(&self, caller: &Credentials) -> Result<()> {
        match self.get() {
            None => {
                Err(Error::AccessDenied("this BE belongs to no cluster yet; ALTER SYSTEM ADD BACKEND adds it".into()))
            }
            Some(member) if member.cluster != caller.cluster || member.token != caller.token => {
                Err(Error::AccessDenied(format!("this BE belongs to another cluster, {}", member.cluster)))
            }
            Some(_) => Ok(()),
        }
    }

    /// Refuses a caller that knows an older catalog than the heartbeats have shown: it may not know what it asks to
    /// delete. (Other calls overtake each other, so they show nothing.)
    pub fn check_not_behind(&self, caller: &Credentials) -> Result<()> {
        let seen = self.get().map_or(0, |member| member.sequence);
        if caller.sequence < seen {
            return Err(Error::AccessDenied(format!(
                "the catalog is at sequence {}, but this BE has seen {seen}: was the FE restored from an old copy? \
                 Nothing is deleted",
                caller.sequence
            )));
        }
        Ok(())
    }

    /// Takes a heartbeat: joins its cluster if this BE has none, keeps the highest sequence durably, and returns the id
    /// that this BE has there, which the caller may not know. Blocks.
    pub fn heartbeat(&self, caller: &Credentials, backend: BackendId) -> Result<BackendId> {
        // One at a time: of two clusters the first has it.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.get();
        if known.is_some() {
            self.check(caller)?;
        }
        let joined = known.is_none();
        let mut member = known.unwrap_or_else(|| Membership {
            cluster: caller.cluster,
            token: caller.token.clone(),
            backend,
            sequence: 0,
        });
        let backend = member.backend;
        if caller.sequence > member.sequence || joined {
            member.sequence = member.sequence.max(caller.sequence);
            self.keep(member)?;
        }
        if joined {
            tracing::info!(cluster = %caller.cluster, backend = %backend, "joined");
        }
        Ok(backend)
    }

    /// Writes the file, then lets others see it.
    fn keep(&self, member: Membership) -> Result<()> {
        let text =
            serde_json::to_vec(&member).map_err(|err| Error::internal(format_args!("encode identity: {err}")))?;
        let new = self.path.with_extension("new");
        let write = || {
            // It holds the cluster's token.
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        write().map_err(Error::io("write", &self.path))?;
        *self.member.lock().unwrap_or_else(PoisonError::into_inner) = Some(member);
        Ok(())
    }
}

impl Credentials {
    /// Reads the metadata that every call must carry.
    pub fn of(metadata: &MetadataMap) -> Result<Self> {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let parse = || {
            let cluster = text(CLUSTER)?.parse().ok()?;
            Some(Self { cluster, token: text(TOKEN)?.to_owned(), sequence: text(SEQUENCE)?.parse().ok()? })
        };
        parse().ok_or_else(|| Error::AccessDenied("a call without cluster id and token".into()))
    }
}
