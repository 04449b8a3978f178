//! Repositories on every store: the same tests for each.

mod aws;
mod faults;
mod native;
mod scripts;
pub mod store;

use std::process::Command;
use std::time::{Duration, Instant};

use self::store::{Gate, Kind, Store};
use super::client::{Answer, Client, Refusal};
use super::harness::{LATEST, Launch, Scratch, Server, WAIT, eventually};
use super::sample;

/// A module of tests for each store.
macro_rules! suite {
    ($($name:ident = $kind:ident)+) => {
        const KINDS: [Kind; [$(Kind::$kind),+].len()] = [$(Kind::$kind),+];

        $(mod $name {
            use super::Kind;

            #[tokio::test]
            async fn keeps_what_it_is_given() {
                super::keeps_what_it_is_given(Kind::$kind).await;
            }

            #[tokio::test]
            async fn damage_is_named() {
                super::damage_is_named(Kind::$kind).await;
            }

            #[tokio::test]
            async fn one_of_two_servers_gets_a_label() {
                super::one_of_two_servers_gets_a_label(Kind::$kind).await;
            }

            #[tokio::test]
            async fn jobs_end_or_go_on() {
                super::jobs_end_or_go_on(Kind::$kind).await;
            }
        })+
    };
}

suite! {
    disk = Disk
    minio = Minio
    ceph = Ceph
    gcs = Gcs
    abfss = Abfss
    wasb = Wasb
    hdfs = Hdfs
    webhdfs = WebHdfs
}

/// Beside the sample, a table of many small files and one with files that no other shares an object with.
async fn fill(client: &mut Client) {
    sample::create(client, "shop").await;
    let partitions: Vec<_> = (1..=30).map(|n| format!("PARTITION p{n} VALUES LESS THAN ('{}')", n * 10)).collect();
    let rows: Vec<_> = (0..300).map(|n| format!("({n}, 'row {n}')")).collect();
    client
        .run(format!(
            "CREATE TABLE shop.many (k INT NOT NULL, v VARCHAR(20)) DUPLICATE KEY(k) PARTITION BY RANGE(k) ({})
             DISTRIBUTED BY HASH(k) BUCKETS 2;
             INSERT INTO shop.many VALUES {}",
            partitions.join(","),
            rows.join(",")
        ))
        .await;
    large(client, "shop").await;
}

/// A table with two files of more than 1 MiB: two objects, the second of which waits for the first where there is a
/// limit of speed.
async fn large(client: &mut Client, database: &str) {
    let numbers: Vec<_> = (0..200).map(|n| format!("({n})")).collect();
    client
        .run(format!(
            "CREATE TABLE {database}.digits (n INT NOT NULL) DUPLICATE KEY(n);
             INSERT INTO {database}.digits VALUES {};
             CREATE TABLE {database}.large (k INT NOT NULL, v VARCHAR(200)) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2;
             INSERT INTO {database}.large SELECT a.n * 200 + b.n, sha2(CAST(a.n * 200 + b.n AS VARCHAR), 512)
             FROM {database}.digits a CROSS JOIN {database}.digits b",
            numbers.join(",")
        ))
        .await;
}

/// Nothing below a folder has one of these texts in it.
pub fn assert_hidden(secrets: &[String], scratch: &Scratch) {
    for secret in secrets {
        let found = Command::new("grep").args(["-rlaF", "-e", secret]).arg(scratch.path()).output().unwrap();
        assert_eq!(found.status.code(), Some(1), "'{secret}' is in {}", String::from_utf8_lossy(&found.stdout));
    }
}

async fn keeps_what_it_is_given(kind: Kind) {
    let scratch = Scratch::new();
    let Some(store) = Store::new(kind, &scratch) else { return };
    let server = store.server(&scratch, "one").start();
    let mut client = server.connect().await;
    client.run(store.create("")).await;
    assert_eq!(store.names().len(), 1, "a probe stays: {:?}", store.names());
    fill(&mut client).await;
    let expected = client.contents("shop").await;

    client.run(format!("BACKUP SNAPSHOT shop.first TO r {WAIT}")).await;
    let objects = store.objects();
    let sizes: Vec<_> = objects.iter().map(|name| store.read(name).len()).collect();
    // The small ones share an object for each task, of which there is one for each core.
    assert_eq!(sizes.iter().filter(|size| **size > 1 << 20).count(), 2, "{sizes:?}");
    assert!(sizes.len() <= 5, "{sizes:?}");
    client.run(format!("BACKUP SNAPSHOT shop.second TO r {WAIT}")).await;
    assert_eq!(store.objects(), objects);
    let moved = "SELECT MOVED_FILES FROM information_schema.backup_jobs WHERE LABEL = 'second'";
    assert_eq!(client.value(moved).await, "0");
    let snapshots = client.run("SHOW SNAPSHOT ON r").await;
    assert_eq!(snapshots.column("Status"), ["OK", "OK"]);
    assert_eq!(store.documents("__lock_"), [""; 0]);
    assert!(server.stop().await.success());

    let names = store.names();
    let server = store.server(&scratch, "two").start();
    let mut client = server.connect().await;
    client.run(store.create("READ ONLY")).await;
    client.run(format!("RESTORE SNAPSHOT first FROM r {LATEST}")).await;
    assert_eq!(client.contents("shop").await, expected);
    client.run(format!("RESTORE SNAPSHOT second FROM r DATABASE shop AS copy {LATEST}")).await;
    assert_eq!(client.contents("copy").await, expected);
    client.refused("BACKUP SNAPSHOT shop.third TO r", 5064, "Repository r is read only").await;
    assert_eq!(store.names(), names);
    assert_hidden(&store.secrets, &scratch);
}

async fn restore(client: &mut Client, label: &str, target: &str) -> Result<Answer, Refusal> {
    client.try_run(format!("RESTORE SNAPSHOT {target}.{label} FROM r {LATEST}")).await
}

async fn damage_is_named(kind: Kind) {
    let scratch = Scratch::new();
    let Some(store) = Store::new(kind, &scratch) else { return };
    let server = store.server(&scratch, "one").start();
    let mut client = server.connect().await;
    client.run(store.create("")).await;
    sample::create(&mut client, "shop").await;
    client.run(format!("BACKUP SNAPSHOT shop.l TO r {WAIT}")).await;
    let expected = client.contents("shop").await;

    let object = store.objects().remove(0);
    let whole = store.read(&object);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [Some(&flipped[..]), Some(&whole[..whole.len() - 1]), Some(b""), None] {
        match damaged {
            Some(content) => store.write(&object, content),
            None => store.remove(&object),
        }
        let refusal = restore(&mut client, "l", "copy").await.unwrap_err();
        for named in [object.rsplit('/').next().unwrap(), "partition ", " of table "] {
            assert!(refusal.text.contains(named), "{:?} bytes: {refusal}", damaged.map(<[u8]>::len));
        }
        assert_eq!(client.run("SHOW DATABASES LIKE 'copy'").await.rows.len(), 0);
    }
    store.write(&object, &whole);
    for start in ["__repo_info", "__info_", "__meta_", "__files_"] {
        let document = store.documents(start).remove(0);
        let whole = store.read(&document);
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        store.write(&document, &flipped);
        let refusal = restore(&mut client, "l", "copy").await.unwrap_err();
        assert!(refusal.text.contains(document.rsplit('/').next().unwrap()), "{refusal}");
        assert_eq!(client.run("SHOW DATABASES LIKE 'copy'").await.rows.len(), 0);
        store.write(&document, &whole);
    }
    restore(&mut client, "l", "copy").await.unwrap();
    assert_eq!(client.contents("copy").await, expected);
}

async fn one_of_two_servers_gets_a_label(kind: Kind) {
    let scratch = Scratch::new();
    let Some(store) = Store::new(kind, &scratch) else { return };
    let mut servers = Vec::new();
    for name in ["one", "two"] {
        let server = store.server(&scratch, name).start();
        let mut client = server.connect().await;
        client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT)").await;
        client.run(format!("INSERT INTO d.t VALUES ({})", name.len())).await;
        servers.push((server, client));
    }
    let [(one, mut first), (_two, mut second)] = <[_; 2]>::try_from(servers).ok().unwrap();
    // Both may create the repository at once: it is one.
    // OpenDAL's WebHDFS has no condition for a write: there the later may win.
    if kind == Kind::WebHdfs {
        first.run(store.create("")).await;
        second.run(store.create("")).await;
    } else {
        tokio::join!(first.run(store.create("")), second.run(store.create("")));
    }
    let identity = "SELECT UUID FROM information_schema.repositories";
    assert_eq!(first.value(identity).await, second.value(identity).await);

    // While one writes, the other is told who does; after it, that the label is taken.
    speed(&mut first, "upload", 1).await;
    large(&mut first, "d").await;
    first.run("BACKUP SNAPSHOT d.held TO r").await;
    first.wait_for_job("BACKUP", "d", &["UPLOADING"]).await;
    let backup = format!("BACKUP SNAPSHOT d.held TO r {WAIT}");
    second.refused(&backup, 5064, "Snapshot with name 'held' is being written to repository 'r' by job").await;
    speed(&mut first, "upload", 0).await;
    first.finished("BACKUP", "d").await;
    second.refused(&backup, 5064, "Snapshot with name 'held' already exist").await;

    for n in 0..4 {
        let backup = format!("BACKUP SNAPSHOT d.l{n} TO r {WAIT}");
        let mut other = one.connect().await;
        let (a, b) = tokio::join!(other.try_run(&backup), second.try_run(&backup));
        let outcomes = [a, b];
        for refusal in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            let named = refusal.text.contains(&format!("Snapshot with name 'l{n}'"));
            assert!(refusal.number == 5064 && named, "{refusal}");
        }
        let winners = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let infos = store.documents("__info_").iter().filter(|name| name.contains(&format!("__ss_l{n}/"))).count();
        assert!(winners <= 1 && infos == winners, "l{n}: {winners} winners, {infos} snapshots");
        // Where both gave way to each other, the label is free.
        if winners == 0 {
            first.run(&backup).await;
        }
        second.refused(&backup, 5064, "already exist").await;
    }
}

/// What SHOW REPOSITORIES says to be wrong with one.
fn problem(answer: &Answer, repository: &str) -> String {
    let records = answer.records();
    let record = records.iter().find(|record| record["RepoName"] == repository).unwrap();
    record["ErrMsg"].to_owned()
}

/// Statements that are refused, changes that are refused, a store that is away for a while, and one that is gone. All
/// stores at once: this waits more than it works.
#[tokio::test]
async fn what_is_wrong_is_said() {
    let scratch = Scratch::new();
    // What libraries log counts as well.
    let launch = Launch::standalone(scratch.path()).set("repository_ping_interval_ms", 50).env("HOLDFAST_LOG", "trace");
    let server = launch.start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    let stores: Vec<_> = KINDS.into_iter().filter_map(|kind| Store::new(kind, &scratch)).collect();
    futures::future::join_all(stores.iter().map(|store| trouble(store, &server, &scratch))).await;
    for store in stores {
        assert_hidden(&store.secrets, &scratch);
    }
    client.refused("ALTER REPOSITORY missing SET PROPERTIES ('username' = 'u')", 5064, "missing").await;
}

async fn trouble(store: &Store, server: &Server, scratch: &Scratch) {
    let kind = store.kind;
    let store = store.named(&format!("r_{kind:?}").to_lowercase());
    let database = format!("d_{}", store.repository);
    let mut client = server.connect().await;
    client.run(format!("CREATE DATABASE {database}; CREATE TABLE {database}.t (k INT)")).await;
    client.run(format!("INSERT INTO {database}.t VALUES (1)")).await;
    let is_hidden = |text: &str| {
        let seen = store.secrets.iter().find(|secret| text.contains(*secret));
        assert!(seen.is_none(), "{kind:?}: {seen:?} is in {text}");
    };
    let backup = |label: &str| format!("BACKUP SNAPSHOT {database}.{label} TO {} {WAIT}", store.repository);

    let wrongs = store.wrongs();
    let refused = wrongs.iter().map(|(wrong, number, text)| async move {
        let mut client = server.connect().await;
        let start = Instant::now();
        let refusal = client.try_run(wrong.create("")).await.unwrap_err();
        // Jobs have patience, persons have not: what a job repeats takes at least 7 seconds.
        assert!(start.elapsed() < Duration::from_secs(5), "{kind:?}: {:?} until {refusal}", start.elapsed());
        let as_expected = refusal.number == *number && refusal.text.contains(text);
        assert!(as_expected, "{kind:?}: expected {number} '{text}': {refusal}");
        // Short, without what a program says to programmers.
        assert!(!refusal.text.contains(" { ") && !refusal.text.contains("\tat "), "{kind:?}: {refusal}");
        is_hidden(&refusal.text);
    });
    futures::future::join_all(refused).await;
    client.refused(format!("SHOW CREATE REPOSITORY {}", store.repository), 5064, &store.repository).await;

    // The repository is made by an address that will be shut.
    let mut gate = match store.address() {
        Some(address) => Some(Gate::to(address).await),
        None => None,
    };
    let store = match &gate {
        Some(gate) => store.by(gate.address),
        None => store.clone(),
    };
    client.run(store.create("")).await;
    client.run(backup("first")).await;
    let definition = format!("SHOW CREATE REPOSITORY {}", store.repository);
    let before = client.run(&definition).await;
    for (wrong, _, text) in wrongs.iter().filter(|(wrong, _, _)| wrong.location == store.location) {
        let refusal = client.try_run(store.alter(&wrong.properties)).await.unwrap_err();
        assert!(refusal.text.contains(text), "{kind:?}: expected '{text}': {refusal}");
        is_hidden(&refusal.text);
    }
    assert_eq!(client.run(&definition).await, before);
    client.run(backup("second")).await;
    if !store.renewed.is_empty() {
        client.run(store.alter(&store.renewed)).await;
        let shown = client.run(&definition).await.rows[0][1].clone().unwrap();
        for (key, value) in &store.renewed {
            assert_eq!(shown.contains(key), !value.is_empty(), "{shown}");
        }
    }
    client.run(backup("third")).await;
    let everywhere = [
        definition.as_str(),
        "SHOW REPOSITORIES",
        "SHOW FULL PROCESSLIST",
        "SHOW WARNINGS",
        "SHOW BACKUP",
        "SELECT * FROM information_schema.repositories",
        "SELECT * FROM information_schema.backup_jobs",
    ];
    for statement in everywhere {
        is_hidden(&format!("{:?}", client.run(statement).await));
    }

    let shown = |answer: &Answer| problem(answer, &store.repository);
    client.wait_until("SHOW REPOSITORIES", |answer| shown(answer) == "NULL").await;
    match &mut gate {
        Some(gate) => gate.shut().await,
        None => std::fs::rename(scratch.sub("repositories"), scratch.sub("unmounted")).unwrap(),
    }
    let sign = if gate.is_some() { "connection: " } else { "is the storage mounted?" };
    client.wait_until("SHOW REPOSITORIES", |answer| shown(answer).contains(sign)).await;
    let start = Instant::now();
    let refusal = client.try_run(backup("shut")).await.unwrap_err();
    let is_told = refusal.text.contains(sign) && start.elapsed() < Duration::from_secs(6);
    assert!(is_told, "{kind:?}: {:?} until {refusal}", start.elapsed());
    match &mut gate {
        Some(gate) => gate.open().await,
        None => std::fs::rename(scratch.sub("unmounted"), scratch.sub("repositories")).unwrap(),
    }
    client.wait_until("SHOW REPOSITORIES", |answer| shown(answer) == "NULL").await;
    client.run(backup("fourth")).await;

    store.vanish();
    let sign = match kind {
        Kind::Minio | Kind::Ceph => "bucket: NoSuchBucket",
        Kind::Abfss | Kind::Wasb => "bucket: ContainerNotFound",
        Kind::Disk => "is the storage mounted?",
        // Google itself says which bucket does not exist.
        Kind::Gcs | Kind::Hdfs | Kind::WebHdfs => "it is not there; has the repository been deleted, or what held it?",
    };
    let answer = client.wait_until("SHOW REPOSITORIES", |answer| shown(answer).contains(sign)).await;
    is_hidden(&shown(&answer));
    let refusal = client.try_run(backup("fifth")).await.unwrap_err();
    assert!(refusal.text.contains(sign), "{kind:?}: {refusal}");
}

/// A job is cancelled in the middle and frees its label; then the server dies in the middle, comes back and ends it.
async fn jobs_end_or_go_on(kind: Kind) {
    let scratch = Scratch::new();
    let Some(store) = Store::new(kind, &scratch) else { return };
    let launch = store.server(&scratch, "one");
    let mut server = launch.clone().set("max_upload_speed_kbps", 1).start();
    let mut client = server.connect().await;
    client.run(store.create("")).await;
    client.run("CREATE DATABASE d").await;
    large(&mut client, "d").await;
    let expected = client.contents("d").await;

    for end in ["cancel", "kill"] {
        client.run("BACKUP SNAPSHOT d.l TO r").await;
        client.wait_for_job("BACKUP", "d", &["UPLOADING"]).await;
        eventually("an object is there", || !store.objects().is_empty()).await;
        if end == "cancel" {
            client.run("CANCEL BACKUP FROM d").await;
            client.wait_for_job("BACKUP", "d", &["CANCELLED"]).await;
            eventually("the lock is gone", || store.documents("__lock_").is_empty()).await;
        } else {
            client.wait_for_job("BACKUP", "d", &["UPLOADING"]).await;
            server.kill();
        }
    }
    let mut server = launch.start();
    let mut client = server.connect().await;
    client.finished("BACKUP", "d").await;
    assert_eq!(store.documents("__info_").len(), 1);

    speed(&mut client, "download", 1).await;
    for end in ["cancel", "kill"] {
        client.run("RESTORE SNAPSHOT copy.l FROM r PROPERTIES ('backup_timestamp' = 'latest')").await;
        client.wait_for_job("RESTORE", "copy", &["DOWNLOADING"]).await;
        client.wait_until("SHOW RESTORE FROM copy", |answer| !answer.column("Progress")[0].is_empty()).await;
        if end == "cancel" {
            client.run("CANCEL RESTORE FROM copy").await;
            client.wait_for_job("RESTORE", "copy", &["CANCELLED"]).await;
            assert_eq!(client.run("SHOW DATABASES LIKE 'copy'").await.rows.len(), 0);
        } else {
            client.wait_for_job("RESTORE", "copy", &["DOWNLOADING"]).await;
            server.kill();
        }
    }
    let server = launch.start();
    let mut client = server.connect().await;
    client.finished("RESTORE", "copy").await;
    assert_eq!(client.contents("copy").await, expected);
    assert!(server.stop().await.success());
}

async fn speed(client: &mut Client, direction: &str, kbps: u32) {
    let name = format!("max_{direction}_speed_kbps");
    client.run(format!("UPDATE information_schema.be_configs SET value = '{kbps}' WHERE name = '{name}'")).await;
}
