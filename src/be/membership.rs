use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tonic::metadata::MetadataMap;

use crate::disk;
use crate::error::{Error, Result};
use crate::rpc::message::{Heartbeat, Membership};
use crate::rpc::{BACKEND, CLUSTER, EPOCH, PROCESS, SEQUENCE, TOKEN};
use crate::types::{BackendId, ClusterId, EpochId};

/// Reads a membership: JSON in one line, and its CRC-32 in hex in the next. Files of before that have the first only.
fn unseal(text: &[u8]) -> Result<Membership, String> {
    let (json, sum) = match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    if sum.is_some_and(|sum| sum != format!("{:08x}\n", crc32fast::hash(json)).as_bytes()) {
        return Err("its checksum does not match".into());
    }
    serde_json::from_slice(json).map_err(|err| err.to_string())
}

/// Which cluster this BE belongs to, kept in `identity.json` beside its files.
pub struct Members {
    path: PathBuf,
    member: Mutex<Option<Membership>>,
    /// The FE process whose heartbeats have shown last that its catalog follows what this BE has seen.
    following: Mutex<Option<EpochId>>,
    /// Held while the file is written; never taken by those who only read.
    writing: Mutex<()>,
}

/// What a call says of its caller.
pub struct Credentials {
    cluster: ClusterId,
    token: String,
    epoch: EpochId,
    sequence: u64,
    process: Option<EpochId>,
    /// The BE that is meant, where the call says so.
    wanted: Option<BackendId>,
}

impl Members {
    /// Reads what an earlier process kept. Blocks.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("identity.json");
        let member = match std::fs::read(&path) {
            Ok(text) => Some(unseal(&text).map_err(|message| Error::Corrupt {
                what: "BE identity",
                path: path.display().to_string(),
                message,
            })?),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => None,
            Err(err) => return Err(Error::io("read", &path)(err)),
        };
        Ok(Self { path, member: Mutex::new(member), following: Mutex::default(), writing: Mutex::default() })
    }

    /// The cluster, once joined.
    pub fn get(&self) -> Option<Membership> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses a caller that is not of this BE's cluster, or means another BE of it.
    pub fn check(&self, caller: &Credentials) -> Result<()> {
        match self.get() {
            None => Err(self.no_member()),
            Some(member) if member.cluster != caller.cluster || member.token != caller.token => {
                Err(Error::AccessDenied(format!("this BE belongs to another cluster, {}", member.cluster)))
            }
            Some(member) if caller.wanted.is_some_and(|wanted| wanted != member.backend) => Err(Error::Io {
                operation: "look for another BE in",
                path: self.path.display().to_string(),
                source: std::io::Error::other(format!("this is backend {}", member.backend)),
            }),
            Some(_) => Ok(()),
        }
    }

    /// Not for good: its files may be on a disk that is about to be mounted.
    fn no_member(&self) -> Error {
        Error::Io {
            operation: "look for the cluster in",
            path: self.path.display().to_string(),
            source: std::io::Error::other(
                "it is not there: either this BE was never added, or its directory was emptied or is not mounted. Bring \
                 its files back; or ALTER SYSTEM DROP BACKEND … FORCE, if it was added, and ADD BACKEND",
            ),
        }
    }

    /// Refuses a caller whose catalog is not known to follow what the heartbeats have shown: it may not know what it
    /// asks to delete or to overwrite. Of a process that is known to, calls that overtake each other are taken.
    pub fn check_not_behind(&self, caller: &Credentials) -> Result<()> {
        if caller.process.is_some() && caller.process == *self.following() {
            return Ok(());
        }
        match self.get() {
            Some(seen) if caller.epoch != seen.epoch || caller.sequence < seen.sequence => Err(Error::Io {
                operation: "compare the catalog with",
                path: self.path.display().to_string(),
                source: std::io::Error::other(format!(
                    "the catalog, at sequence {} of epoch {}, is not known to follow sequence {} of epoch {}, which this \
                     BE has seen. Nothing is changed",
                    caller.sequence, caller.epoch, seen.sequence, seen.epoch
                )),
            }),
            _ => Ok(()),
        }
    }

    fn following(&self) -> std::sync::MutexGuard<'_, Option<EpochId>> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a heartbeat. Joins the cluster if this BE has none and shall; keeps durably what the catalog has come to,
    /// if that follows what was seen before. Returns what is kept. Blocks.
    pub fn heartbeat(&self, caller: &Credentials, beat: &Heartbeat) -> Result<Membership> {
        // One at a time: of two clusters the first has it.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.get();
        match &known {
            Some(_) => self.check(caller)?,
            None if beat.join => {}
            None => return Err(self.no_member()),
        }
        let mut member = known.clone().unwrap_or_else(|| Membership {
            cluster: caller.cluster,
            token: caller.token.clone(),
            backend: beat.backend,
            epoch: caller.epoch,
            sequence: caller.sequence,
        });
        let has_lost = beat.heard.is_some_and(|(epoch, sequence)| match epoch == member.epoch {
            true => member.sequence < sequence,
            // It may have come to the caller's since.
            false => known.is_some() && member.epoch != caller.epoch,
        });
        let past = beat.past.is_some_and(|(epoch, end)| epoch == member.epoch && end >= member.sequence);
        let grows = caller.epoch == member.epoch && caller.sequence >= member.sequence;
        let follows = beat.accept || !has_lost && (past || grows);
        if follows {
            (member.epoch, member.sequence) = (caller.epoch, caller.sequence);
        }
        if known.as_ref() != Some(&member) {
            match (self.keep(member.clone()), &known) {
                // What makes room must be heard. After a restart it is asked again.
                (Err(err), Some(known)) if matches!(&err, Error::Io { source, .. } if disk::is_full(source)) => {
                    tracing::warn!("not kept: {}", err.report());
                    member.clone_from(known);
                }
                (kept, _) => kept?,
            }
        }
        if follows {
            *self.following() = caller.process;
        }
        match known {
            None => tracing::info!(cluster = %caller.cluster, backend = %member.backend, "joined"),
            Some(known) if beat.accept => tracing::warn!(
                "from sequence {} back to {} of the catalog, because accept_lost_commits says so",
                known.sequence,
                member.sequence
            ),
            Some(_) => {}
        }
        Ok(member)
    }

    /// Writes the file, then lets others see it.
    fn keep(&self, member: Membership) -> Result<()> {
        let mut text =
            serde_json::to_vec(&member).map_err(|err| Error::internal(format_args!("encode identity: {err}")))?;
        text.extend(format!("\n{:08x}\n", crc32fast::hash(&text)).into_bytes());
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
            Some(Self {
                cluster: text(CLUSTER)?.parse().ok()?,
                token: text(TOKEN)?.to_owned(),
                epoch: text(EPOCH)?.parse().ok()?,
                sequence: text(SEQUENCE)?.parse().ok()?,
                process: match metadata.get(PROCESS) {
                    Some(process) => Some(process.to_str().ok()?.parse().ok()?),
                    None => None,
                },
                wanted: match metadata.get(BACKEND) {
                    Some(wanted) => Some(BackendId(wanted.to_str().ok()?.parse().ok()?)),
                    None => None,
                },
            })
        };
        parse().ok_or_else(|| Error::AccessDenied("a call without cluster id and token".into()))
    }
}
