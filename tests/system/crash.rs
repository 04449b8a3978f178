//! Servers that die at every record they write, and come back: what was acknowledged is there, what was not is there
//! wholly or not at all, and jobs go on to their end.

use super::client::{Client, Contents};
use super::harness::{Launch, Scratch, Server, eventually, rowset_files};
use super::sample;

/// The records that a BACKUP writes after the one it is submitted with.
const BACKUP: [&str; 6] = ["snapshoting", "upload_snapshot", "uploading", "save_meta", "upload_info", "finished"];

/// The records that a RESTORE writes after the one it is submitted with.
const RESTORE: [&str; 6] = ["snapshoting", "download", "downloading", "commit", "committing", "finished"];

/// Before and after each record.
fn places(job: &str, records: [&str; 6]) -> Vec<String> {
    records.iter().flat_map(|state| ["before", "after"].map(|side| format!("{job}.{state}.{side}"))).collect()
}

/// Names of the locks in a repository.
fn locks(repository: &str) -> Vec<String> {
    let files = walkdir::WalkDir::new(repository).into_iter().map(|entry| entry.unwrap());
    let names = files.map(|file| file.file_name().to_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("__lock_")).collect()
}

/// A server with the sample in the database `shop` and a repository `r`.
async fn prepare(scratch: &Scratch, launch: &Launch) {
    let server = launch.start();
    let mut client = server.connect().await;
    sample::create(&mut client, "shop").await;
    client.run(repository(scratch)).await;
    assert!(server.stop().await.success());
}

/// Before a record, the server that resumes the job dies once more.
async fn dies_again(launch: &Launch, place: &str) {
    if place.ends_with(".before") {
        // It may die before it is ready.
        if let Ok(mut server) = launch.clone().dies_at(place).try_start() {
            server.died().await;
        }
    }
}

fn repository(scratch: &Scratch) -> String {
    format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", scratch.sub("repository"))
}

#[tokio::test]
async fn a_backup_goes_on_after_a_crash_at_any_record() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    prepare(&scratch, &launch).await;
    for (n, place) in places("backup", BACKUP).into_iter().enumerate() {
        eprintln!("{place}");
        let mut server = launch.clone().dies_at(&place).start();
        let mut client = server.connect().await;
        // Something to upload.
        client.run(sample::events("shop", 100 + n as u64)).await;
        let before = client.contents("shop").await;
        let backup = format!("BACKUP SNAPSHOT shop.l{n} TO r");
        // It may have been answered before the server died.
        let _ = client.try_run(&backup).await;
        server.died().await;
        dies_again(&launch, &place).await;

        let server = launch.start();
        let mut client = server.connect().await;
        let job = client.finished("BACKUP", "shop").await;
        assert_eq!(job["SnapshotName"], format!("l{n}"));
        assert_eq!(client.contents("shop").await, before);
        client.refused(&backup, 5064, "already exist").await;
        restored_equals(&mut client, &format!("l{n}"), &before).await;
        assert!(server.stop().await.success());
        // Where the server died after the end, nobody is left to take the lock back; it ends by its deadline.
        if place != "backup.finished.after" {
            assert_eq!(locks(&scratch.sub("repository")), [""; 0], "{place}");
        }
    }
}

async fn restored_equals(client: &mut Client, label: &str, expected: &Contents) {
    let properties = "PROPERTIES ('backup_timestamp' = 'latest', 'wait' = 'true')";
    client.run(format!("RESTORE SNAPSHOT copy.{label} FROM r {properties}")).await;
    assert_eq!(client.contents("copy").await, *expected);
    client.run("DROP DATABASE copy FORCE").await;
}

/// Existing tables are overwritten, and a missing one comes back, in one commit.
#[tokio::test]
async fn a_restore_goes_on_after_a_crash_at_any_record() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    prepare(&scratch, &launch).await;
    let server = launch.start();
    let mut client = server.connect().await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    let new = client.contents("shop").await;
    assert!(server.stop().await.success());

    for (n, place) in places("restore", RESTORE).into_iter().enumerate() {
        eprintln!("{place}");
        let mut server = launch.clone().dies_at(&place).start();
        let mut client = server.connect().await;
        client.run(sample::events("shop", 100 + n as u64)).await;
        client.run(sample::values("shop", 100 + n as u64)).await;
        client.run("DROP TABLE shop.nothing FORCE").await;
        let old = client.contents("shop").await;
        let restore = "RESTORE SNAPSHOT shop.l FROM r PROPERTIES ('backup_timestamp' = 'latest')";
        let _ = client.try_run(restore).await;
        server.died().await;
        dies_again(&launch, &place).await;

        let server = launch.start();
        let mut client = server.connect().await;
        // At each moment a table is the old one or the new one.
        let seen = client.contents("shop").await;
        for (table, content) in &seen {
            assert!(old.get(table) == Some(content) || new.get(table) == Some(content), "{place}: {table} is mixed");
        }
        if ["commit.before", "downloading", "snapshoting"].iter().all(|early| !place.contains(early)) {
            // Too late to see the old rows, or just in time: the commit was not yet written.
            let committed = place.contains("committing.after") || place.contains("finished");
            assert!(!committed || seen == new, "{place}: the commit is undone");
        }
        client.finished("RESTORE", "shop").await;
        assert_eq!(client.contents("shop").await, new, "{place}");
        // Nothing is locked or reserved any more.
        client.run("TRUNCATE TABLE shop.nothing").await;
        client.run(format!("BACKUP SNAPSHOT shop.after{n} TO r PROPERTIES ('wait' = 'true')")).await;
        assert!(server.stop().await.success());
    }
}

/// A database that does not exist comes with its tables, or not at all.
#[tokio::test]
async fn a_database_is_created_in_the_commit_of_its_restore() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    prepare(&scratch, &launch).await;
    let server = launch.start();
    let mut client = server.connect().await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    let expected = client.contents("shop").await;
    assert!(server.stop().await.success());
    let places = ["restore.snapshoting.before", "restore.committing.before", "restore.committing.after"];
    for (n, place) in places.into_iter().enumerate() {
        let mut server = launch.clone().dies_at(place).start();
        let mut client = server.connect().await;
        let restore = format!("RESTORE SNAPSHOT new{n}.l FROM r PROPERTIES ('backup_timestamp' = 'latest')");
        let _ = client.try_run(restore).await;
        server.died().await;
        dies_again(&launch, place).await;

        let server = launch.start();
        let mut client = server.connect().await;
        let found = client.run(format!("SHOW DATABASES LIKE 'new{n}'")).await;
        if !found.rows.is_empty() {
            assert_eq!(client.contents(&format!("new{n}")).await, expected, "{place}");
        }
        client.finished("RESTORE", &format!("new{n}")).await;
        assert_eq!(client.contents(&format!("new{n}")).await, expected, "{place}");
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_load_is_wholly_there_or_wholly_absent() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    prepare(&scratch, &launch).await;
    let mut load = 100;
    for place in ["be.write.before-install", "be.write.after-install", "load.before-commit", "load.after-commit"] {
        load += 1;
        let mut server = launch.clone().dies_at(place).start();
        let mut client = server.connect().await;
        let before = client.checksum("shop.events").await;
        assert!(client.try_run(sample::events("shop", load)).await.is_err(), "{place}: it was acknowledged");
        server.died().await;

        let server = launch.start();
        let mut client = server.connect().await;
        let after = client.checksum("shop.events").await;
        match place {
            "load.after-commit" => assert_eq!(after.rows(), before.rows() + 200, "{place}"),
            _ => assert_eq!(after, before, "{place}"),
        }
        // What was lost can be loaded again, and stays.
        client.run(sample::events("shop", load)).await;
        let loaded = client.checksum("shop.events").await;
        assert_eq!(loaded.rows(), after.rows() + 200);
        drop(server);
        let server = launch.start();
        let mut client = server.connect().await;
        assert_eq!(client.checksum("shop.events").await, loaded, "{place}: lost what was acknowledged");
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn compaction_that_dies_loses_nothing() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    prepare(&scratch, &launch).await;
    let eager = launch.clone().set("compaction_interval_ms", 10).set("compaction_min_files", 2);
    let mut server = eager.clone().dies_at("be.compact").start();
    server.died().await;

    let server = launch.start();
    let mut client = server.connect().await;
    let before = client.contents("shop").await;
    assert!(server.stop().await.success());

    let server = eager.start();
    let mut client = server.connect().await;
    // Each tablet ends with one file: 8 of events, 3 of values.
    eventually("compaction", || rowset_files(launch.data()).len() <= 11).await;
    assert_eq!(client.contents("shop").await, before);
    client.run(sample::events("shop", 50)).await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    let expected = client.contents("shop").await;
    restored_equals(&mut client, "l", &expected).await;
    assert!(server.stop().await.success());
}

/// A commit with very many rows is decided by one small record.
#[tokio::test]
async fn a_large_commit_is_decided_in_one_instant() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    for (place, there) in [("store.staged", false), ("store.decided", true), ("store.applied", true)] {
        let mut server = launch.clone().dies_at(place).start();
        let mut client = server.connect().await;
        client.run("CREATE DATABASE IF NOT EXISTS d").await;
        let create = "CREATE TABLE d.wide (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 1000";
        assert!(client.try_run(create).await.is_err());
        server.died().await;

        let server = launch.start();
        let mut client = server.connect().await;
        assert_eq!(client.run("SHOW TABLES FROM d").await.rows.len(), usize::from(there), "{place}");
        if there {
            assert_eq!(client.run("SHOW TABLETS FROM d.wide").await.rows.len(), 1000, "{place}");
            client.run("INSERT INTO d.wide VALUES (1), (2), (3)").await;
            assert_eq!(client.value("SELECT COUNT(*) FROM d.wide").await, "3");
            client.run("DROP TABLE d.wide FORCE").await;
        }
        assert!(server.stop().await.success());
    }
}

/// `kill -9` between any two statements: what was acknowledged is there.
#[tokio::test]
async fn what_was_acknowledged_survives() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let statements = [
        ("CREATE DATABASE d", "SHOW DATABASES LIKE 'd'", "d"),
        ("CREATE TABLE d.t (k INT, v VARCHAR(9)) DUPLICATE KEY(k)", "SELECT COUNT(*) FROM d.t", "0"),
        ("INSERT INTO d.t VALUES (1, 'a'), (2, 'b')", "SELECT SUM(k) FROM d.t", "3"),
        ("TRUNCATE TABLE d.t", "SELECT COUNT(*) FROM d.t", "0"),
        ("INSERT INTO d.t VALUES (3, 'c')", "SELECT v FROM d.t", "c"),
        ("CREATE USER u IDENTIFIED BY 'p'", "SELECT 1", "1"),
        ("DROP TABLE d.t FORCE", "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'd'", "0"),
    ];
    for (statement, question, answer) in statements {
        let mut server: Server = launch.start();
        server.connect().await.run(statement).await;
        server.kill();
        let server = launch.start();
        assert_eq!(server.connect().await.value(question).await, answer, "after {statement}");
    }
    let server = launch.start();
    assert!(Client::login(server.port("mysql"), "u", Some("p")).await.is_ok());
    assert!(Client::login(server.port("mysql"), "u", Some("q")).await.is_err());
}
