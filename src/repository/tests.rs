use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::clock::Throttle;
use crate::repository::manifest::{BUCKET_HASH, Part};
use crate::types::{Attempt, FileId, TabletId, Timestamp, WriteId};

fn repository(dir: &Path) -> Repository {
    Repository::open(&Name::new("r").unwrap(), &format!("file://{}", dir.display())).unwrap()
}

fn cluster(n: u128) -> ClusterId {
    ClusterId(uuid::Uuid::from_u128(n << 64))
}

fn lock(n: u128, job: u64, time: i64) -> Lock {
    Lock {
        cluster: cluster(n),
        job: JobId(job),
        attempt: Attempt(1),
        time: Timestamp(time),
        deadline: Timestamp(time + 100),
    }
}

fn info(label: &Label, timestamp: &str) -> Info {
    Info {
        format: FORMAT,
        least_reader: FORMAT,
        label: label.clone(),
        timestamp: timestamp.into(),
        backup_time: Timestamp(0),
        finish_time: Timestamp(5),
        deadline: Timestamp(100),
        cluster_id: cluster(1),
        job: JobId(7),
        database: Name::new("d").unwrap(),
        meta: Part { sha256: Sha256([0; 32]), size: 0 },
        files: Vec::new(),
        file_count: 0,
        file_bytes: 0,
        ttl: None,
        expire_time: None,
    }
}

#[tokio::test]
async fn creating_twice_finds_the_first_and_read_only_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, clock) = (repository(dir.path()), Clock::system());
    assert!(repository.create(true, &clock).await.unwrap_err().report().contains("READ ONLY"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let created = repository.create(false, &clock).await.unwrap();
    assert!(created.conditional_put);
    assert_eq!(repository.create(true, &clock).await.unwrap().id, created.id);
    assert_eq!(repository.check(&created.id).await.unwrap().id, created.id);
    assert!(repository.check("another").await.is_err());
    let left: Vec<_> = std::fs::read_dir(repository.local_path().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "the probes are gone");
}

#[test]
fn locations_that_cannot_be_are_named() {
    let open = |location| Repository::open(&Name::new("r").unwrap(), location).unwrap_err().report();
    for (location, expected) in
        [("/x", "no scheme"), ("gopher://x", "gopher://"), ("file://x", "absolute"), ("file:///a/../b", "..")]
    {
        assert!(open(location).contains(expected), "{location}: {}", open(location));
    }
}

#[tokio::test]
async fn a_label_has_one_writer_and_is_free_again_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, label) = (repository(dir.path()), Label::new("s").unwrap());
    let (first, second) = (lock(1, 7, 1000), lock(2, 7, 1001));
    repository.claim(&label, &first, |_| false).await.unwrap();
    repository.claim(&label, &first, |_| false).await.unwrap();
    let refused = repository.claim(&label, &second, |_| true).await.unwrap_err().report();
    assert!(refused.contains("'s' is being written"), "{refused}");
    // Its own cluster knows the job as ended; or the deadline has passed; or it was released.
    repository.claim(&label, &lock(1, 8, 1001), |job| job == JobId(7)).await.unwrap();
    repository.release(&label, cluster(1), JobId(8)).await;
    repository.claim(&label, &lock(2, 9, 1_000_000), |_| false).await.unwrap();
    repository.release(&label, cluster(2), JobId(9)).await;
    repository.release(&label, cluster(1), JobId(7)).await;
    repository.claim(&label, &second, |_| false).await.unwrap();
}

#[tokio::test]
async fn a_committed_label_is_taken_and_a_torn_commit_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, label) = (repository(dir.path()), Label::new("s").unwrap());
    let timestamp = "2026-11-21-00-00-00-000";
    let committed = info(&label, timestamp);
    repository.commit(&committed).await.unwrap();
    repository.commit(&committed).await.unwrap();
    assert_eq!(repository.read_info(&label, timestamp).await.unwrap(), Some(committed));
    let refused = repository.claim(&label, &lock(1, 8, 1), |_| true).await.unwrap_err().report();
    assert_eq!(refused, "Snapshot with name 's' already exist in repository");
    let path = repository.local_path().unwrap().join(layout::info(&label, timestamp));
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(repository.read_info(&label, timestamp).await.is_err());
    repository.claim(&label, &lock(1, 8, 1), |_| true).await.unwrap();
    assert_eq!(repository.labels().await.unwrap(), std::slice::from_ref(&label));
    // A commit that came after its lock's deadline is no snapshot.
    let late = Info { finish_time: Timestamp(101), timestamp: "2026-11-22-00-00-00-000".into(), ..info(&label, "") };
    repository.commit(&late).await.unwrap();
    assert_eq!(repository.read_info(&label, &late.timestamp).await.unwrap(), None);
}

#[tokio::test]
async fn content_comes_back_or_its_object_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let repository = repository(dir.path());
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (sha256, size) = (manifest::sha256(&content), content.len() as u64);
    let file = dir.path().join("file");
    std::fs::write(&file, &content).unwrap();
    let id = FileId { write: WriteId(1), tablet: TabletId(2), number: 0 };
    let object = layout::object(&sha256, cluster(1), JobId(7), Attempt(1), 0);
    let (throttle, moved) = (Throttle::new(0), AtomicU64::new(0));
    let count = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    repository.upload((id, &file), (sha256, size), &object, &throttle, count).await.unwrap();
    repository.upload((id, &file), (sha256, size), &object, &throttle, |_| ()).await.unwrap();
    assert_eq!(moved.load(Ordering::Relaxed), size);
    let wrong = repository.upload((id, &file), (Sha256([1; 32]), size), "__objects/x", &throttle, |_| ()).await;
    assert!(wrong.unwrap_err().report().contains("rowset file 1-2-0"));
    let target = dir.path().join("target");
    let download = async || {
        let file = std::fs::File::create(&target).unwrap();
        repository.download((&object, 0), (sha256, size), file, &throttle, |_| ()).await
    };
    download().await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), content);
    let stored = repository.local_path().unwrap().join(&object);
    for damage in ["flipped", "short", "gone"] {
        match damage {
            "flipped" => {
                let mut flipped = content.clone();
                flipped[2_000_000] ^= 1;
                std::fs::write(&stored, flipped).unwrap();
            }
            "short" => std::fs::write(&stored, &content[..100]).unwrap(),
            _ => std::fs::remove_file(&stored).unwrap(),
        }
        let report = download().await.unwrap_err().report();
        assert!(report.contains(&object), "{damage}: {report}");
    }
}

#[tokio::test]
async fn the_manifest_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, label) = (repository(dir.path()), Label::new("s").unwrap());
    let meta = Meta { format: FORMAT, least_reader: FORMAT, bucket_hash: BUCKET_HASH.into(), tables: Vec::new() };
    let part = repository.write_meta(&label, "t", &meta).await.unwrap();
    let segment = repository.write_segment(&label, "t", 0, Vec::new()).await.unwrap();
    let info = Info { timestamp: "t".into(), meta: part, files: vec![segment], ..info(&label, "t") };
    assert_eq!(repository.read_meta(&info).await.unwrap(), meta);
    assert_eq!(repository.read_segment(&info, 0).await.unwrap(), Vec::new());
    let folder = repository.local_path().unwrap().join(layout::label_folder(&label));
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut content = std::fs::read(&path).unwrap();
        content[10] ^= 1;
        std::fs::write(&path, content).unwrap();
    }
    assert!(repository.read_meta(&info).await.unwrap_err().report().contains("__meta_t"));
    assert!(repository.read_segment(&info, 0).await.unwrap_err().report().contains("__files_t_0"));
}
