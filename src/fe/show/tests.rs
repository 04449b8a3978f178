use crate::catalog::{Amount, Job, JobKind, JobState};
use crate::types::{Attempt, JobId, Label, Name, RepositoryId, Timestamp};

/// A job that has just been submitted.
pub(super) fn job(id: u64, kind: JobKind) -> Job {
    Job {
        id: JobId(id),
        kind,
        state: JobState::Pending,
        attempt: Attempt(1),
        database: Name::new("d").unwrap(),
        label: Label::new("l").unwrap(),
        repository: RepositoryId(1),
        repository_name: Name::new("r").unwrap(),
        timestamp: "2026-11-21-02-30-00-123".into(),
        source_database: None,
        replication: None,
        allow_load: false,
        all_tables: false,
        manifest: None,
        write: None,
        created: Timestamp(0),
        meta_prepared: None,
        snapshot_finished: None,
        transfer_finished: None,
        finished: None,
        timeout_ms: 86_400_000,
        total: Amount::default(),
        moved: Amount::default(),
        failure: None,
    }
}
