//! What is wrong with repositories: seen by whoever looks at them from time to time, and met by jobs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::repository::layout;
use crate::types::{RepositoryId, Timestamp};

/// The last problem of each repository. In memory only: after a restart the next look tells.
#[derive(Debug, Default)]
pub struct Health(Mutex<HashMap<RepositoryId, Known>>);

/// When what was wrong.
type Problem = (Timestamp, String);

#[derive(Debug, Default)]
struct Known {
    seen: Option<Problem>,
    met: Option<Problem>,
}

impl Health {
    /// What is wrong with a repository, and when that showed.
    pub fn problem(&self, id: RepositoryId) -> Option<(Timestamp, String)> {
        let all = self.lock();
        let known = all.get(&id)?;
        known.seen.as_ref().or(known.met.as_ref()).cloned()
    }

    /// Somebody has looked at it. That it can be read does not undo what jobs have met: they write, and from BEs.
    pub fn looked(&self, id: RepositoryId, time: Timestamp, problem: Option<String>) {
        self.lock().entry(id).or_default().seen = problem.map(|problem| (time, problem));
    }

    /// A job has met an error, which counts if it is one of the repository. It begins with a look at it, as others do.
    pub fn met(&self, id: RepositoryId, time: Timestamp, err: &Error) {
        let is_look = matches!(err, Error::Repository { path, .. } if path.ends_with(&layout::repo_info()));
        let problem = Some((time, err.report()));
        match self.lock().entry(id).or_default() {
            known if is_look => known.seen = problem,
            known if err.is_in_repository() => known.met = problem,
            _ => {}
        }
    }

    /// What jobs do with it succeeds.
    pub fn works(&self, id: RepositoryId) {
        if let Some(known) = self.lock().get_mut(&id) {
            known.met = None;
        }
    }

    /// Forgets repositories that are no more.
    pub fn retain(&self, is_known: impl Fn(RepositoryId) -> bool) {
        self.lock().retain(|id, _| is_known(*id));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RepositoryId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
