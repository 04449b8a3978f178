//! Stores, most of them S3, behind a network and a server in trouble: what passes is survived, what is wrong is named,
//! and nobody is pressed.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::Method;

use super::store::{Store, restricted};
use super::{Kind, LATEST, WAIT, assert_hidden, large, problem, speed};
use crate::system::client::{Answer, Client};
use crate::system::harness::{Launch, Scratch, Server, eventually};
use crate::system::proxy::{Fault, Proxy, Request};
use crate::system::sample;
use crate::system::servers::S3;
use crate::system::servers::hdfs::Hdfs;
use crate::system::servers::minio::Minio;

/// A server with a repository `r` in a bucket behind a proxy.
struct Fixture {
    scratch: Scratch,
    server: Server,
    client: Client,
    proxy: Proxy,
    store: Store,
}

impl Fixture {
    async fn behind_proxy() -> Option<Self> {
        let minio = Minio::shared()?;
        let proxy = Proxy::to(&minio.endpoint);
        let store = Store::minio(minio, minio.bucket());
        let store = store.by(proxy.endpoint().strip_prefix("http://").unwrap().parse().unwrap());
        let scratch = Scratch::new();
        let server = Server::standalone(scratch.path());
        let client = server.connect().await;
        Some(Self { scratch, server, client, proxy, store })
    }

    /// The PUTs of objects so far.
    fn puts(&self) -> Vec<Request> {
        self.proxy.requests().into_iter().filter(is_put).collect()
    }
}

fn is_object(request: &Request) -> bool {
    request.path.contains("/__objects/")
}

fn is_put(request: &Request) -> bool {
    request.method == Method::PUT && is_object(request)
}

fn is_get(request: &Request) -> bool {
    request.method == Method::GET && is_object(request)
}

fn length(request: &Request) -> u64 {
    request.header("content-length").parse().unwrap()
}

/// Whatever is asked for the first time fails.
async fn what_passes_is_survived(kind: Kind) {
    let scratch = Scratch::new();
    let Some(store) = Store::new(kind, &scratch) else { return };
    let proxy = Proxy::to(&format!("http://{}", store.address().unwrap()));
    let store = store.by(proxy.endpoint().strip_prefix("http://").unwrap().parse().unwrap());
    let server = store.server(&scratch, "one").start();
    let client = &mut server.connect().await;
    sample::create(client, "shop").await;
    let expected = client.contents("shop").await;
    let faults = [
        Fault::Status(408),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Reset,
        Fault::LostAnswer,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let seen = Mutex::new(HashSet::new());
        let first = move |request: &Request| {
            // Looks for a region and looks at the repository's health are not repeated in the same way.
            let is_of_job = request.method != Method::HEAD && !request.path.ends_with("/__repo_info");
            let asked = (request.method.clone(), request.path.clone(), request.query.clone());
            is_of_job && seen.lock().unwrap().insert(asked)
        };
        proxy.fail(first, fault, usize::MAX);
        client.run(store.named(&format!("r{n}")).create("")).await;
        client.run(format!("BACKUP SNAPSHOT shop.l TO r{n} {WAIT}")).await;
        client.run(format!("RESTORE SNAPSHOT copy.l FROM r{n} {LATEST}")).await;
        assert_eq!(client.contents("copy").await, expected, "{fault:?}");
        client.run("DROP DATABASE copy FORCE").await;
        let met = proxy.requests().iter().filter(|request| request.fault == Some(fault)).count();
        assert!(met >= 8, "{fault:?}: {met}");
        proxy.heal();
    }
}

#[tokio::test]
async fn what_passes_is_survived_on_s3() {
    what_passes_is_survived(Kind::Minio).await;
}

#[tokio::test]
async fn what_passes_is_survived_on_gcs() {
    what_passes_is_survived(Kind::Gcs).await;
}

#[tokio::test]
async fn what_passes_is_survived_on_azure() {
    what_passes_is_survived(Kind::Abfss).await;
}

#[tokio::test]
async fn what_passes_is_survived_on_webhdfs() {
    what_passes_is_survived(Kind::WebHdfs).await;
}

/// Credentials that end while a job runs are replaced, and it does not end.
#[tokio::test]
async fn new_credentials_act_on_a_running_job() {
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let Fixture { client, proxy, store, .. } = &mut fixture;
    let Some(session) = Minio::shared().map(S3::assume_role) else { return };
    client.run(store.create("")).await;
    client.run("CREATE DATABASE d").await;
    large(client, "d").await;
    speed(client, "upload", 1).await;
    client.run("BACKUP SNAPSHOT d.l TO r").await;
    client.wait_for_job("BACKUP", "d", &["UPLOADING"]).await;
    eventually("an object is there", || !store.objects().is_empty()).await;
    let S3 { access_key, secret_key, session_token, .. } = session.s3;
    let renewed = [
        ("aws.s3.access_key", access_key.clone()),
        ("aws.s3.secret_key", secret_key),
        ("aws.s3.session_token", session_token.unwrap()),
    ];
    client.run(store.alter(&renewed)).await;
    let has_key = |key: &str| {
        let key = format!("Credential={key}/");
        move |request: &Request| is_put(request) && request.header("authorization").contains(&key)
    };
    let (_, old) = &store.properties[0];
    proxy.fail(has_key(old), Fault::Status(403), usize::MAX);
    speed(client, "upload", 0).await;
    client.finished("BACKUP", "d").await;
    assert!(proxy.requests().iter().any(|request| request.fault.is_some()), "the first credentials were tried");
    assert!(proxy.requests().iter().any(has_key(&access_key)));
}

/// Four objects and one that small files share, each of which takes a second.
#[tokio::test]
async fn worker_counts_hold() {
    const TAKES: Duration = Duration::from_secs(1);
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let Fixture { client, proxy, store, .. } = &mut fixture;
    client.run("CREATE DATABASE d").await;
    large(client, "d").await;
    let other =
        "CREATE TABLE d.other (k INT NOT NULL, v VARCHAR(200)) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2";
    client.run(other).await;
    client.run("INSERT INTO d.other SELECT -k, v FROM d.large").await;
    proxy.fail(|request| is_put(request) || is_get(request), Fault::Late(TAKES), usize::MAX);
    let mut took = Vec::new();
    for workers in [1, 8] {
        for name in ["upload_worker_count", "download_worker_count"] {
            let set = format!("UPDATE information_schema.be_configs SET value = '{workers}' WHERE name = '{name}'");
            client.run(set).await;
        }
        let repository = format!("r{workers}");
        client.run(store.named(&repository).create("")).await;
        let (backup, restore) = ("BACKUP SNAPSHOT d.l TO", "RESTORE SNAPSHOT copy.l FROM");
        for statement in [format!("{backup} {repository} {WAIT}"), format!("{restore} {repository} {LATEST}")] {
            let start = Instant::now();
            client.run(statement).await;
            took.push(start.elapsed());
        }
        client.run("DROP DATABASE copy FORCE").await;
    }
    let [one_up, one_down, many_up, many_down] = took[..] else { unreachable!() };
    assert!(one_up >= TAKES * 4 && one_down >= TAKES * 4, "{took:?}");
    assert!(many_up < one_up && many_down < one_down, "{took:?}");
}

/// A server whose clock is wrong is told so, not that its key is.
#[tokio::test]
async fn a_wrong_clock_is_named() {
    let Some(minio) = Minio::shared() else { return };
    let scratch = Scratch::new();
    let ahead = scratch.path().join("ahead");
    std::fs::write(&ahead, "+1200s").unwrap();
    let Some(launch) = Launch::standalone(scratch.path()).clock(&ahead) else { return };
    let server = launch.start();
    let create = Store::minio(minio, minio.bucket()).create("");
    server.connect().await.refused(create, 5064, "clock: RequestTimeTooSkewed").await;
}

/// Answers that end too early, or never come. Two take the minute after which a request counts as lost.
#[tokio::test]
async fn broken_answers_are_survived() {
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let Fixture { client, proxy, store, .. } = &mut fixture;
    client.run(store.create("")).await;
    client.run("CREATE DATABASE d").await;
    large(client, "d").await;
    let start = Instant::now();
    let is_lock = |request: &Request| request.method == Method::PUT && request.path.contains("__lock_");
    proxy.fail(is_lock, Fault::Stall, 1);
    client.run(format!("BACKUP SNAPSHOT d.l TO r {WAIT}")).await;
    // A whole object may take a quarter of an hour, a lock may not.
    assert!(start.elapsed() < Duration::from_secs(300), "{:?}", start.elapsed());
    proxy.fail(is_get, Fault::EndAfter(5), 2);
    proxy.fail(is_get, Fault::StallAfter(100), 1);
    proxy.fail(is_get, Fault::Stall, 1);
    client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
    assert_eq!(client.contents("copy").await, client.contents("d").await);
    assert_eq!(proxy.requests().iter().filter(|request| request.fault.is_some()).count(), 5);
}

/// Nobody answers whether the commit is stored, the deadline is near, and then it is stored after all: a job that had
/// given up would have left a snapshot that it says does not exist, and its label to another.
#[tokio::test]
async fn a_commit_that_lands_late_is_found() {
    let Some(minio) = Minio::shared() else { return };
    let proxy = Proxy::to(&minio.endpoint);
    let store = Store::minio(minio, minio.bucket());
    let store = store.by(proxy.endpoint().strip_prefix("http://").unwrap().parse().unwrap());
    let scratch = Scratch::new();
    let ahead = scratch.path().join("ahead");
    std::fs::write(&ahead, "+0s").unwrap();
    let Some(launch) = Launch::standalone(scratch.path()).clock(&ahead) else { return };
    let server = launch.start();
    let mut client = server.connect().await;
    client.run(store.create("")).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    // Longer than the request is repeated.
    let late = Fault::Orphan(Duration::from_secs(20));
    proxy.fail(|request| request.method == Method::PUT && request.path.contains("__info_"), late, usize::MAX);
    client.run("BACKUP SNAPSHOT d.l TO r PROPERTIES ('timeout' = '600')").await;
    eventually("it commits", || proxy.requests().iter().any(|request| request.fault.is_some())).await;
    std::fs::write(&ahead, "+590s").unwrap();
    client.finished("BACKUP", "d").await;
    assert_eq!(client.run("SHOW SNAPSHOT ON r").await.column("Status"), ["OK"]);
}

#[tokio::test]
async fn wrong_bytes_are_named() {
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let Fixture { client, proxy, store, .. } = &mut fixture;
    client.run(store.create("")).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    client.run(format!("BACKUP SNAPSHOT d.l TO r {WAIT}")).await;
    proxy.fail(is_get, Fault::WrongByte(7), usize::MAX);
    let refusal = client.refused(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}"), 1317, "SHA-256").await;
    let object = store.objects().remove(0);
    for named in [object.rsplit('/').next().unwrap(), "partition t of table t"] {
        assert!(refusal.text.contains(named), "{refusal}");
    }
    assert_eq!(client.run("SHOW DATABASES LIKE 'copy'").await.rows.len(), 0);
    proxy.heal();
    client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
}

#[tokio::test]
async fn what_is_forbidden_is_asked_once() {
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let Fixture { client, proxy, store, .. } = &mut fixture;
    // But for the region, which is asked of anybody.
    let asked = || proxy.requests().iter().filter(|request| !request.header("authorization").is_empty()).count();
    client.refused(store.with("aws.s3.secret_key", "wrong").create(""), 5064, "credentials: ").await;
    assert_eq!(asked(), 1);
    client.refused(store.elsewhere("no-such-bucket").create(""), 5064, "bucket: ").await;
    assert_eq!(asked(), 2);
    client.run(store.create("")).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    // An answer that says no without a word why is as final.
    for (n, status) in [403, 400, 501].into_iter().enumerate() {
        proxy.fail(is_put, Fault::Status(status), usize::MAX);
        let refusal = client.refused(format!("BACKUP SNAPSHOT d.l TO r {WAIT}"), 1317, "__objects/").await;
        assert!(status == 403 || refusal.text.contains(&format!("the store answered {status} ")), "{refusal}");
        assert_eq!(proxy.requests().into_iter().filter(is_put).count(), n + 1);
        proxy.heal();
    }
}

/// HDFS gives no status: its own words tell what lasts.
#[tokio::test]
async fn a_full_quota_of_hdfs_ends_a_job() {
    let scratch = Scratch::new();
    let (Some(hdfs), Some(store)) = (Hdfs::shared(), Store::new(Kind::Hdfs, &scratch)) else { return };
    let server = store.server(&scratch, "one").start();
    let mut client = server.connect().await;
    client.run(store.create("")).await;
    client.run("CREATE DATABASE d").await;
    large(&mut client, "d").await;
    speed(&mut client, "upload", 1).await;
    client.run("BACKUP SNAPSHOT d.l TO r").await;
    client.wait_for_job("BACKUP", "d", &["UPLOADING"]).await;
    eventually("an object is there", || !store.objects().is_empty()).await;
    hdfs.request("PUT", store.place(), "op=SETQUOTA&storagespacequota=1", b"").ok();
    speed(&mut client, "upload", 0).await;
    let job = client.wait_for_job("BACKUP", "d", &["FINISHED", "CANCELLED"]).await;
    assert!(job["State"] == "CANCELLED" && job["Status"].contains("QuotaExceeded"), "{job:?}");
}

/// A store that is down for a while is asked by few, again and again, and gets its backup in the end.
#[tokio::test]
async fn a_busy_store_is_not_pressed() {
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let Fixture { client, proxy, store, .. } = &mut fixture;
    client.run(store.create("")).await;
    sample::create(client, "d").await;
    let before = proxy.requests().len();
    proxy.fail(is_object, Fault::Status(503), usize::MAX);
    client.run("BACKUP SNAPSHOT d.l TO r").await;
    let seen = "SHOW BACKUP FROM d";
    let job = client.wait_until(seen, |answer| answer.column("TaskErrMsg")[0].contains("503")).await;
    assert_eq!(job.column("State"), ["UPLOADING"]);
    let asked = proxy.requests().len() - before;
    assert!(asked < 40 && proxy.most_running() <= 8, "{asked} requests, {} at a time", proxy.most_running());
    // What the job meets is what is wrong with the repository, though it can be read.
    let repositories = "SHOW REPOSITORIES";
    let met = problem(&client.run(repositories).await, "r");
    assert!(met.contains("503"), "{met}");
    proxy.heal();
    client.finished("BACKUP", "d").await;
    assert_eq!(problem(&client.run(repositories).await, "r"), "NULL");
    client.run(sample::events("d", 50)).await;
    proxy.fail(is_put, Fault::Status(403), usize::MAX);
    client.refused(format!("BACKUP SNAPSHOT d.again TO r {WAIT}"), 1317, "403").await;
    let met = problem(&client.run(repositories).await, "r");
    assert!(met.contains("403"), "{met}");
}

/// A repository that does not answer keeps nobody from seeing what is wrong with another.
#[tokio::test]
async fn a_silent_store_hides_no_other() {
    let Some(minio) = Minio::shared() else { return };
    let proxy = Proxy::to(&minio.endpoint);
    let store = Store::minio(minio, minio.bucket());
    let silent = store.by(proxy.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).named("silent");
    let scratch = Scratch::new();
    let disk = Store::new(Kind::Disk, &scratch).unwrap().named("disk");
    let server = Launch::standalone(scratch.path()).set("repository_ping_interval_ms", 50).start();
    let mut client = server.connect().await;
    client.run(silent.create("")).await;
    client.run(disk.create("")).await;
    proxy.fail(|_| true, Fault::Stall, usize::MAX);
    eventually("it is being looked at", || proxy.requests().iter().any(|request| request.fault.is_some())).await;
    disk.vanish();
    let is_seen = |answer: &Answer| problem(answer, "disk").contains("is the storage mounted?");
    let seen = client.wait_until("SHOW REPOSITORIES", is_seen).await;
    assert_eq!(problem(&seen, "silent"), "NULL");
}

/// 2,000 files of a kilobyte, in a few requests.
#[tokio::test]
async fn small_files_share_requests() {
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let client = &mut fixture.client;
    client.run(fixture.store.create("")).await;
    client.run("CREATE DATABASE d").await;
    let table = "CREATE TABLE d.t (k INT NOT NULL) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 1000";
    client.run(table).await;
    for load in 0..2 {
        let rows: Vec<_> = (0..12_000).map(|n| format!("({})", load * 12_000 + n)).collect();
        client.run(format!("INSERT INTO d.t VALUES {}", rows.join(","))).await;
    }
    let before = fixture.proxy.requests().len();
    client.run(format!("BACKUP SNAPSHOT d.l TO r {WAIT}")).await;
    let files = "SELECT TOTAL_FILES FROM information_schema.backup_jobs";
    assert!(client.value(files).await.parse::<u64>().unwrap() > 1990);
    let (all, puts) = (fixture.proxy.requests().len() - before, fixture.puts().len());
    assert!(puts < 20 && all < 60, "{puts} PUTs of objects, {all} requests");
    let before = fixture.proxy.requests().len();
    fixture.client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
    let all = fixture.proxy.requests().len() - before;
    assert!(all < 60, "{all} requests of a restore");
    assert_eq!(fixture.client.checksum("copy.t").await, fixture.client.checksum("d.t").await);
    let before = fixture.proxy.requests().len();
    fixture.client.run(format!("BACKUP SNAPSHOT d.again TO r {WAIT}")).await;
    let all = fixture.proxy.requests().len() - before;
    assert!(all < 40, "{all} requests of a backup without news");
}

/// What may move at once is one object; the others wait for their time.
#[tokio::test]
async fn speed_limits_hold() {
    const KBPS: u32 = 1024;
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let client = &mut fixture.client;
    client.run(fixture.store.create("")).await;
    client.run("CREATE DATABASE d").await;
    large(client, "d").await;
    speed(client, "upload", KBPS).await;
    speed(client, "download", KBPS).await;
    let start = Instant::now();
    client.run(format!("BACKUP SNAPSHOT d.l TO r {WAIT}")).await;
    let upload = start.elapsed();
    let sizes: Vec<u64> = fixture.puts().iter().map(length).collect();
    let waiting = sizes.iter().sum::<u64>() - sizes.iter().max().unwrap();
    let least = Duration::from_secs_f64(waiting as f64 / f64::from(KBPS * 1024));
    assert!(least > Duration::from_secs(1) && upload >= least, "{sizes:?} in {upload:?}, less than {least:?}");
    let start = Instant::now();
    fixture.client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
    let download = start.elapsed();
    assert!(download >= least, "{sizes:?} in {download:?}, less than {least:?}");
}

/// A statement that waits for a store is in the list of processes, its secrets are not.
#[tokio::test]
async fn a_waiting_statement_shows_no_secret() {
    let Some(mut fixture) = Fixture::behind_proxy().await else { return };
    let Fixture { client, proxy, store, server, scratch } = &mut fixture;
    proxy.fail(|_| true, Fault::Stall, usize::MAX);
    let (mut other, create) = (server.connect().await, store.create(""));
    let waiting = tokio::spawn(async move { other.try_run(create).await });
    let is_there = |text: &str| text.contains("CREATE") && text.contains("REPOSITORY r WITH BROKER");
    let shown = client.wait_until("SHOW FULL PROCESSLIST", |answer| is_there(&format!("{answer:?}"))).await;
    assert!(!format!("{shown:?}").contains(&store.secrets[0]), "{shown:?}");
    assert!(!waiting.is_finished());
    waiting.abort();
    assert_hidden(&store.secrets, scratch);
}

/// Where a version that was written stays, and where nobody may delete at all.
#[tokio::test]
async fn a_bucket_may_be_write_once() {
    let Some(minio) = Minio::shared() else { return };
    let policy = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::*"]},
        {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": ["arn:aws:s3:::*"]}]}"#;
    for store in [Store::minio(minio, minio.locked_bucket()), Store::minio(&restricted(minio, policy), minio.bucket())]
    {
        let scratch = Scratch::new();
        let server = store.server(&scratch, "one").start();
        let mut client = server.connect().await;
        client.run(store.create("")).await;
        sample::create(&mut client, "shop").await;
        client.run(format!("BACKUP SNAPSHOT shop.first TO r {WAIT}")).await;
        client.run(sample::events("shop", 50)).await;
        client.run(format!("BACKUP SNAPSHOT shop.second TO r {WAIT}")).await;
        client.refused("BACKUP SNAPSHOT shop.first TO r", 5064, "already exist").await;
        client.run(format!("RESTORE SNAPSHOT copy.second FROM r {LATEST}")).await;
        assert_eq!(client.contents("copy").await, client.contents("shop").await);
        assert_eq!(client.run("SHOW SNAPSHOT ON r").await.column("Status"), ["OK", "OK"]);
        // A job that is cancelled leaves a lock that counts for nothing.
        speed(&mut client, "upload", 1).await;
        large(&mut client, "copy").await;
        client.run("BACKUP SNAPSHOT copy.third TO r").await;
        client.wait_for_job("BACKUP", "copy", &["UPLOADING"]).await;
        client.run("CANCEL BACKUP FROM copy").await;
        client.wait_for_job("BACKUP", "copy", &["CANCELLED"]).await;
        speed(&mut client, "upload", 0).await;
        client.run(format!("BACKUP SNAPSHOT copy.third TO r {WAIT}")).await;
    }
}
