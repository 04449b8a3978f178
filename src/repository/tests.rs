use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::clock::Throttle;
use crate::repository::manifest::{BUCKET_HASH, Part};
use crate::types::{Attempt, FileId, TabletId, Timestamp, WriteId};

fn repository(dir: &Path) -> Repository {
    Repository::open(&Name::new("r").unwrap(), &format!("file://{}", dir.display()), &StoreProperties::default())
        .unwrap()
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
    // A process died while it created the repository.
    let empty = repository.local_path().unwrap().join(layout::repo_info());
    std::fs::write(&empty, "").unwrap();
    // Long ago.
    std::fs::File::open(&empty).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(repository.check(&created.id).await.unwrap_err().report().contains("is not there"));
    let created = repository.create(false, &clock).await.unwrap();
    assert_eq!(repository.create(true, &clock).await.unwrap().id, created.id);
    assert_eq!(repository.check(&created.id).await.unwrap().id, created.id);
    assert!(repository.check("another").await.is_err());
    let left: Vec<_> = std::fs::read_dir(repository.local_path().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "the probes are gone");
}

/// Of servers that create it at once, one took the other's file, which was empty while it was written, for what a dead
/// one had left, and removed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_who_create_it_at_once_find_one() {
    for _ in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let creations = (0..4).map(|_| {
            let repository = repository(dir.path());
            tokio::spawn(async move { repository.create(false, &Clock::system()).await.unwrap().id })
        });
        let ids = futures::future::try_join_all(creations).await.unwrap();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}

#[test]
fn locations_that_cannot_be_are_named() {
    let open = |location| {
        Repository::open(&Name::new("r").unwrap(), location, &StoreProperties::default()).unwrap_err().report()
    };
    for (location, expected) in
        [("/x", "no scheme"), ("gopher://x", "gopher://"), ("file://x", "absolute"), ("file:///a/../b", "..")]
    {
        assert!(open(location).contains(expected), "{location}: {}", open(location));
    }
}

#[test]
fn properties_are_read_or_refused_by_name() {
    let check = |location: &str, properties: &[(&str, &str)]| {
        let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let opened = Repository::open(&Name::new("r").unwrap(), location, &StoreProperties(properties));
        opened.map(|repository| repository.shown("")).map_err(|err| err.report())
    };
    let s3 = [("aws.s3.access_key", "a"), ("aws.s3.secret_key", "hunter2")];
    let s3_and = |more: &[(&'static str, &'static str)]| [&s3, more].concat();
    assert_eq!(check("s3://b/x/", &s3).unwrap(), "s3://b/x/__holdfast_repository_r/");
    assert_eq!(check("s3a://b", &s3_and(&[("fs.s3a.access.key", "a")])).unwrap(), "s3a://b/__holdfast_repository_r/");
    let oss =
        [("fs.oss.accessKeyId", "a"), ("fs.oss.accessKeySecret", "b"), ("fs.oss.endpoint", "oss-cn-x.aliyuncs.com")];
    check("oss://b/x", &oss).unwrap();
    let cos = [
        ("fs.cosn.userinfo.secretId", "a"),
        ("fs.cosn.userinfo.secretKey", "b"),
        ("fs.cosn.bucket.endpoint_suffix", "cos.ap-x.myqcloud.com"),
    ];
    check("cosn://b/x", &cos).unwrap();
    check("abfss://c@a.dfs.core.windows.net/x", &[("azure.adls2.shared_key", "aGk=")]).unwrap();
    check("wasb://c@a.blob.core.windows.net/x", &[("azure.blob.sas_token", "?sv=1")]).unwrap();
    check("webhdfs://n:9870/x", &[("username", "u"), ("password", "")]).unwrap();
    for (location, properties, expected) in [
        ("s3://b", &s3[..1], "'aws.s3.access_key' needs its other half"),
        ("s3://b", &[][..], "needs the properties aws.s3.access_key"),
        ("s3://b", &[("aws.s3.acces_key", "a")][..], "the nearest is 'aws.s3.access_key'"),
        ("s3://b", &oss, "'fs.oss.accessKeyId' is not for s3://"),
        ("s3://b", &s3_and(&[("fs.s3a.access.key", "b")]), "contradict"),
        ("s3://b", &s3_and(&[("aws.s3.use_instance_profile", "true")]), "give either"),
        ("s3://b", &s3_and(&[("aws.s3.use_instance_profile", "yes")]), "must be true or false"),
        ("s3://b", &s3_and(&[("aws.s3.endpoint", "http://h"), ("aws.s3.enable_ssl", "true")]), "contradict"),
        ("s3://b", &s3_and(&[("aws.s3.endpoint", "ftp://h")]), "'aws.s3.endpoint' is not a host"),
        ("s3://a:hunter2@b", &s3, "give credentials as PROPERTIES"),
        ("s3://b?sig=hunter2", &s3, "give credentials as PROPERTIES"),
        ("gs://b", &[], "gcp.gcs.service_account_email"),
        ("oss://b", &oss[..2], "fs.oss.endpoint"),
        ("abfss://c@a.dfs.core.windows.net", &[("azure.blob.storage_account", "other")], "'other' and 'a'"),
        ("abfss://account/x", &[("azure.blob.shared_key", "aGk=")], "abfss://container@account"),
        ("hdfs://n/x", &[("hadoop.security.authentication", "kerberos")], "simple authentication"),
        ("hdfs://n/x", &[("dfs.nameservices", "ns")], "one name node"),
        ("file:///x", &s3, "file:// takes none"),
        ("obs://b", &[], "s3a://"),
        ("viewfs://b", &[], "hdfs://"),
    ] {
        let report = check(location, properties).unwrap_err();
        assert!(report.contains(expected), "{location}: {report}");
        assert!(!report.contains("hunter2"), "{report}");
    }
    let ignored = StoreProperties([("password".to_owned(), "hunter2".to_owned())].into());
    let warnings = store::check("hdfs://n/x", &ignored).unwrap();
    assert_eq!(warnings, ["property 'password' has no meaning here and is ignored"]);
}

#[test]
fn a_new_property_takes_the_place_of_those_that_mean_the_same() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let old = StoreProperties([pair("fs.s3a.access.key", "old"), pair("aws.s3.region", "r")].into());
    let changes = [pair("aws.s3.access_key", "new"), pair("aws.s3.region", "")];
    assert_eq!(store::merge(&old, changes.iter()).0, [pair("aws.s3.access_key", "new")].into());
}

#[tokio::test]
async fn a_label_has_one_writer_and_is_free_again_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, label) = (repository(dir.path()), Label::new("s").unwrap());
    let (first, second) = (lock(1, 7, 1000), lock(2, 7, 1001));
    repository.claim(&label, &first, &Clock::manual(), |_| false).await.unwrap();
    repository.claim(&label, &first, &Clock::manual(), |_| false).await.unwrap();
    let refused = repository.claim(&label, &second, &Clock::manual(), |_| true).await.unwrap_err().report();
    assert!(refused.contains("'s' is being written"), "{refused}");
    // Its own cluster knows the job as ended; or the deadline has passed; or it was released.
    repository.claim(&label, &lock(1, 8, 1001), &Clock::manual(), |job| job == JobId(7)).await.unwrap();
    repository.release(&label, cluster(1), JobId(8)).await.unwrap();
    repository.claim(&label, &lock(2, 9, 1_000_000), &Clock::manual(), |_| false).await.unwrap();
    repository.release(&label, cluster(2), JobId(9)).await.unwrap();
    repository.release(&label, cluster(1), JobId(7)).await.unwrap();
    repository.claim(&label, &second, &Clock::manual(), |_| false).await.unwrap();
}

#[tokio::test]
async fn of_two_writers_that_come_together_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, clock) = (repository(dir.path()), Clock::system());
    for n in 0..8 {
        let label = Label::new(format!("s{n}")).unwrap();
        let (first, second) = (lock(1, 7, 1000), lock(2, 7, 1000));
        let (one, two) = tokio::join!(
            repository.claim(&label, &first, &clock, |_| false),
            repository.claim(&label, &second, &clock, |_| false)
        );
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    }
}

/// Two snapshots of one label once were possible: a writer committed and went while another looked at its lock.
#[tokio::test]
async fn a_writer_that_goes_while_another_looks_may_have_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, label) = (repository(dir.path()), Label::new("s").unwrap());
    let folder = repository.local_path().unwrap();
    let committed = info(&label, "2026-11-21-00-00-00-000");
    for job in [8, 9] {
        repository.claim(&label, &lock(1, job, 1000), &Clock::manual(), |_| true).await.unwrap();
    }
    let has_ended = |seen: JobId| {
        let other = JobId(17 - seen.0);
        let content = manifest::seal(&committed).unwrap();
        std::fs::write(folder.join(layout::info(&label, &committed.timestamp)), content).unwrap();
        let _ = std::fs::remove_file(folder.join(layout::lock(&label, cluster(1), other)));
        true
    };
    let refused = repository.claim(&label, &lock(1, 10, 1001), &Clock::manual(), has_ended).await.unwrap_err();
    assert_eq!(refused.report(), "Snapshot with name 's' already exist in repository");
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
    let refused = repository.claim(&label, &lock(1, 8, 1), &Clock::manual(), |_| true).await.unwrap_err().report();
    assert_eq!(refused, "Snapshot with name 's' already exist in repository");
    let path = repository.local_path().unwrap().join(layout::info(&label, timestamp));
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(repository.read_info(&label, timestamp).await.is_err());
    repository.claim(&label, &lock(1, 8, 1), &Clock::manual(), |_| true).await.unwrap();
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
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let id = FileId { write: WriteId(1), tablet: TabletId(2), number: 0 };
        LocalFile { id, path, sha256: manifest::sha256(content), size: content.len() as u64 }
    };
    let files = [file("small", b"first"), file("large", &content), file("last", b"last")];
    let object = layout::object(&sha256, cluster(1), JobId(7), Attempt(1), 0);
    let (throttle, moved) = (Throttle::default(), AtomicU64::new(0));
    let count = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    repository.upload(&files, &object, &throttle, count, ()).await.unwrap();
    repository.upload(&files, &object, &throttle, |_| (), ()).await.unwrap();
    assert_eq!(moved.load(Ordering::Relaxed), 5 + size + 4);
    let wrong = LocalFile { sha256: Sha256([1; 32]), ..files[1].clone() };
    let wrong = repository.upload(&[wrong], "__objects/x", &throttle, |_| (), ()).await;
    assert!(wrong.unwrap_err().report().contains("rowset file 1-2-0"));
    // One of the files, or two with one between them.
    let target = |name: &str| dir.path().join(format!("target-{name}"));
    let download = async |wanted: &[usize]| {
        let begins = |n: usize| files[..n].iter().map(|file| file.size).sum::<u64>();
        let content = |n: &usize| Content {
            offset: begins(*n),
            size: files[*n].size,
            sha256: files[*n].sha256,
            target: std::fs::File::create(target(&n.to_string())).unwrap(),
        };
        repository.download(&object, wanted.iter().map(content).collect(), &throttle, |_| (), ()).await
    };
    download(&[1]).await.unwrap();
    assert_eq!(std::fs::read(target("1")).unwrap(), content);
    download(&[0, 2]).await.unwrap();
    assert_eq!(std::fs::read(target("0")).unwrap(), b"first");
    assert_eq!(std::fs::read(target("2")).unwrap(), b"last");
    let stored = repository.local_path().unwrap().join(&object);
    for damage in ["flipped", "short", "gone"] {
        match damage {
            "flipped" => {
                let mut flipped = std::fs::read(&stored).unwrap();
                flipped[2_000_000] ^= 1;
                std::fs::write(&stored, flipped).unwrap();
            }
            "short" => std::fs::write(&stored, &content[..100]).unwrap(),
            _ => std::fs::remove_file(&stored).unwrap(),
        }
        for wanted in [&[1][..], &[0, 1, 2]] {
            let report = download(wanted).await.unwrap_err().report();
            assert!(report.contains(&object), "{damage}: {report}");
        }
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

/// OpenDAL's repetitions call every error one that lasts.
#[test]
fn what_a_store_answers_tells_whether_it_may_pass() {
    let answered = |kind, status: u16, message: &str| {
        let (parts, ()) = http::Response::builder().status(status).body(()).unwrap().into_parts();
        opendal::Error::new(kind, message).with_context("response", format!("{parts:?}")).set_persistent()
    };
    let xml = |code: &str| format!("S3Error {{ code: \"{code}\", message: \"…\", resource: \"/503\" }}");
    let json = |exception: &str| format!("WebHdfsError {{ exception: \"{exception}\", message: \"…\" }}");
    for (kind, status, message, passes) in [
        (ErrorKind::Unexpected, 400, String::new(), false),
        (ErrorKind::Unexpected, 400, xml("RequestTimeout"), true),
        (ErrorKind::Unexpected, 400, xml("MadeUp"), false),
        (ErrorKind::Unexpected, 501, xml("NotImplemented"), false),
        (ErrorKind::Unexpected, 503, String::new(), true),
        (ErrorKind::RateLimited, 503, xml("SlowDown"), true),
        (ErrorKind::Conflict, 409, xml("OperationAborted"), true),
        (ErrorKind::NotFound, 404, xml("NoSuchKey"), false),
        (ErrorKind::PermissionDenied, 403, json("AccessControlException"), false),
        (ErrorKind::PermissionDenied, 403, json("SafeModeException"), true),
    ] {
        assert_eq!(failure::may_pass(&answered(kind, status, &message)), passes, "{status} {message}");
    }
    assert!(failure::may_pass(&opendal::Error::new(ErrorKind::Unexpected, "connection reset").set_persistent()));
}

/// Whoever can write to a repository does not decide how much memory its readers take.
#[tokio::test]
async fn a_document_of_any_length_takes_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, clock) = (repository(dir.path()), Clock::system());
    let created = repository.create(false, &clock).await.unwrap();
    let path = repository.local_path().unwrap().join(layout::repo_info());
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    let refused = repository.check(&created.id).await.unwrap_err();
    assert!(matches!(&refused, Error::Corrupt { message, .. } if message.contains("more than")), "{refused:?}");
}
