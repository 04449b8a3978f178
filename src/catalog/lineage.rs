//! The line of a catalog: one epoch after another, each begun by the first commit of a process that has opened it.
//!
//! A catalog and an old copy of it draw different epochs from where they part. Whoever has seen a sequence of an epoch
//! can tell whether a catalog follows it, however far that has counted meanwhile: BEs do, so that no FE with an old copy
//! of its catalog has them throw away what it does not know.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::catalog::image::Image;
use crate::error::{Error, Result};
use crate::types::EpochId;

/// `ep <n>`: the nth epoch of the line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Which.
    pub id: EpochId,
    /// The last sequence before it.
    pub after: u64,
}

/// What this process adds to the line, and whether it may.
#[derive(Debug)]
pub(super) struct Line {
    /// Recorded with its first commit: an opening that changes nothing is none.
    pub epoch: EpochId,
    held: watch::Sender<Option<String>>,
}

impl Line {
    pub fn new(epoch: EpochId) -> Self {
        Self { epoch, held: watch::Sender::new(None) }
    }

    /// Refuses if changes are held.
    pub fn check(&self) -> Result<()> {
        match &*self.held.borrow() {
            Some(reason) => Err(Error::Refused(reason.clone())),
            None => Ok(()),
        }
    }

    pub fn hold(&self, reason: Option<String>) {
        self.held.send_replace(reason);
    }

    /// Returns once changes are held, or are no longer.
    pub async fn wait(&self, held: bool) {
        // The sender is here, so it does not close.
        let _ = self.held.subscribe().wait_for(|reason| reason.is_some() == held).await;
    }
}

impl Image {
    /// The epoch of the last commit.
    pub fn epoch(&self) -> EpochId {
        self.epochs.last().map_or_else(EpochId::default, |epoch| epoch.id)
    }

    /// Whether an epoch and sequence of this line come before others. False where one is not on it.
    pub fn is_before(&self, one: (EpochId, u64), other: (EpochId, u64)) -> bool {
        let position = |epoch: EpochId| match epoch == EpochId::default() {
            true => Some(0),
            false => self.epochs.iter().position(|known| known.id == epoch).map(|at| at + 1),
        };
        let place = |(epoch, sequence)| position(epoch).map(|at| (at, sequence));
        place(one).zip(place(other)).is_some_and(|(one, other)| one < other)
    }

    /// The last sequence that an epoch has on this line; `None` if it is not on it.
    pub fn end_of(&self, epoch: EpochId) -> Option<u64> {
        let next = match self.epochs.iter().position(|known| known.id == epoch) {
            Some(at) => at + 1,
            None if epoch == EpochId::default() => 0,
            None => return None,
        };
        Some(self.epochs.get(next).map_or(self.sequence, |next| next.after))
    }
}
