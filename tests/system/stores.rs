//! Repositories on every store: the same tests for each.

mod store;

use std::process::Command;

use self::store::Gate;
use self::store::Kind;
use self::store::Store;
use super::client::Answer;
use super::client::Client;
use super::client::Refusal;
use super::harness::Launch;
use super::harness::Scratch;
use super::harness::Server;
use super::harness::eventually;
use super::sample;

const WAIT: &str = "PROPERTIES ('wait' = 'true')";

const LATEST: &str = "PROPERTIES ('backup_timestamp' = 'latest', 'wait' = 'true')";

/// A module of tests for each store.
macro_rules! suite {
    ($($name:ident = $kind:ident)+) => {
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
            async fn what_is_wrong_is_said() {
                super::what_is_wrong_is_said(Kind::$kind).await;
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
fn assert_hidden(secrets: &[String], scratch: &Scratch) {
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
    let (a, b) = (store.create(""), store.create(""));
    tokio::join!(first.run(a), second.run(b));
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

async fn what_is_wrong_is_said(kind: Kind) {
    let scratch = Scratch::new();
    let Some(store) = Store::new(kind, &scratch) else { return };
    let launch = store.server(&scratch, "one").set("repository_ping_interval_ms", 50).env("HOLDFAST_LOG", "trace");
    let server = launch.start();
    let mut client = server.connect().await;
    for (wrong, number, text) in store.wrongs() {
        let refusal = client.try_run(wrong.create("")).await.unwrap_err();
        eprintln!("{kind:?}: {refusal}");
        assert!(refusal.number == number && refusal.text.contains(text), "expected {number} '{text}': {refusal}");
        for secret in &store.secrets {
            assert!(!refusal.text.contains(secret), "{refusal}");
        }
    }
    assert_eq!(client.run("SHOW REPOSITORIES").await.rows.len(), 0);
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    client.run(store.create("")).await;
    client.run(format!("BACKUP SNAPSHOT d.first TO r {WAIT}")).await;
    store.vanish();
    let shown = client.wait_until("SHOW REPOSITORIES", |answer| answer.column("ErrMsg") != ["NULL"]).await;
    eprintln!("{kind:?}: {:?}", shown.column("ErrMsg"));
    eprintln!(
        "{kind:?}: {:?}",
        client.try_run(format!("BACKUP SNAPSHOT d.second TO r PROPERTIES ('wait' = 'true', 'timeout' = '600')")).await
    );
    assert_hidden(&store.secrets, &scratch);
}

async fn jobs_end_or_go_on(_: Kind) {}

async fn speed(client: &mut Client, direction: &str, kbps: u32) {
    let name = format!("max_{direction}_speed_kbps");
    client.run(format!("UPDATE information_schema.be_configs SET value = '{kbps}' WHERE name = '{name}'")).await;
}
