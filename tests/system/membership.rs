//! Who belongs to a cluster: a BE that lost its files, an FE whose catalog is an old copy, and disks that get full.

use std::path::Path;
use std::process::Command;

use super::bad_input::SmallDisk;
use super::client::Answer;
use super::cluster::Cluster;
use super::harness::{LATEST, Launch, Scratch, WAIT, eventually, files, held, rowset_files};
use super::sample;

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn trashed(data: &Path) -> usize {
    files(data).iter().filter(|path| path.components().any(|part| part.as_os_str() == "trash")).count()
}

/// Files that had arrived were lost before the commit: the job brings them again, instead of a table with holes.
#[tokio::test]
async fn a_restore_brings_again_what_was_lost_before_its_commit() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let mut server = launch.clone().dies_at("restore.commit.after").start();
    let mut client = server.connect().await;
    sample::create(&mut client, "shop").await;
    let expected = client.contents("shop").await;
    client.run(format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", scratch.sub("repository"))).await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    let before = rowset_files(launch.data());
    client.run("RESTORE SNAPSHOT copy.l FROM r PROPERTIES ('backup_timestamp' = 'latest')").await;
    server.died().await;
    let arrived: Vec<_> = rowset_files(launch.data()).into_iter().filter(|file| !before.contains(file)).collect();
    std::fs::remove_file(&arrived[0]).unwrap();
    std::fs::write(&arrived[1], "short").unwrap();
    let server = launch.start();
    let mut client = server.connect().await;
    client.finished("RESTORE", "copy").await;
    assert_eq!(client.contents("copy").await, expected);
}

/// A BE whose directory is empty does not come back as the one that had tablets.
#[tokio::test]
async fn an_emptied_backend_is_refused_by_name() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let mut client = cluster.fe.connect().await;
    client
        .run(
            "CREATE DATABASE d; CREATE TABLE d.t (k INT) DISTRIBUTED BY HASH(k) BUCKETS 4 \
                PROPERTIES ('replication_num' = '1')",
        )
        .await;
    client.run("INSERT INTO d.t VALUES (1), (2), (3), (4), (5), (6), (7), (8)").await;
    let port = cluster.bes[1].port("be");
    let (data, kept) = (cluster.bes[1].launch.data().to_owned(), scratch.path().join("kept"));
    let of = |answer: &Answer, column: &str| {
        let rows = answer.records();
        rows.iter().find(|row| row["BePort"] == port.to_string()).map_or_else(String::new, |row| row[column].to_owned())
    };
    let launch = cluster.bes[1].launch.clone().flag("--be-port", port);

    cluster.bes[1].kill();
    std::fs::rename(&data, &kept).unwrap();
    cluster.bes[1] = launch.start();
    let refused =
        |answer: &Answer| of(answer, "ErrMsg").contains("Bring its files back") && of(answer, "Alive") == "false";
    client.wait_until("SHOW BACKENDS", refused).await;
    assert!(client.try_run("SELECT SUM(k) FROM d.t").await.is_err());

    // With its files it is itself again.
    cluster.bes[1].kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    cluster.bes[1] = launch.start();
    client.wait_until("SHOW BACKENDS", |answer| of(answer, "Alive") == "true").await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "36");

    // Without them it can be another.
    let id = of(&client.run("SHOW BACKENDS").await, "BackendId");
    cluster.bes[1].kill();
    std::fs::remove_dir_all(&data).unwrap();
    cluster.bes[1] = launch.start();
    client.wait_until("SHOW BACKENDS", refused).await;
    client.run(format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{port}' FORCE")).await;
    client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{port}'")).await;
    let shown = client.wait_until("SHOW BACKENDS", |answer| of(answer, "Alive") == "true").await;
    assert_ne!(of(&shown, "BackendId"), id);
    // Once emptied, the table is of BEs that are there.
    client.run("TRUNCATE TABLE d.t").await;
    client.run("INSERT INTO d.t VALUES (1), (2), (3), (4), (5), (6), (7), (8)").await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "36");
}

/// A BE that comes back with an older copy of its directory, which lacks keys that it has acknowledged.
#[tokio::test]
async fn a_backend_with_an_old_directory_is_refused() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 1).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE rawkv; INSERT INTO rawkv.default VALUES ('a', '1')").await;
    let port = cluster.bes[0].port("be");
    let launch = cluster.bes[0].launch.clone().flag("--be-port", port);
    let (data, old, newest) = (launch.data().to_owned(), scratch.path().join("old"), scratch.path().join("newest"));
    let shows = |answer: &Answer, text: &str| answer.column("ErrMsg")[0].contains(text);
    let gone = |answer: &Answer| answer.column("Alive") == ["false"];
    let count = "SELECT COUNT(*) FROM rawkv.default";

    cluster.bes[0].kill();
    copy(&data, &old);
    client.wait_until("SHOW BACKENDS", gone).await;
    cluster.bes[0] = launch.start();
    cluster.all_alive(&mut client).await;
    client.run("INSERT INTO rawkv.default VALUES ('b', '2'); CREATE DATABASE d").await;
    let identity = files(&data).into_iter().find(|path| path.ends_with("identity.json")).unwrap();
    let before = std::fs::read(files(&old).into_iter().find(|path| path.ends_with("identity.json")).unwrap()).unwrap();
    eventually("the BE has seen that", || std::fs::read(&identity).unwrap() != before).await;
    cluster.bes[0].kill();
    client.wait_until("SHOW BACKENDS", gone).await;
    copy(&data, &newest);

    copy(&old, &data);
    cluster.bes[0] = launch.start();
    let refused = |answer: &Answer| shows(answer, "was put back from an older copy");
    client.wait_until("SHOW BACKENDS", refused).await;
    for statement in [count, "INSERT INTO rawkv.default VALUES ('c', '3')"] {
        let refusal = client.try_run(statement).await.unwrap_err();
        assert!(refusal.text.contains("was put back from an older copy"), "{refusal}");
    }
    cluster.bes[0].kill();
    copy(&newest, &data);
    cluster.bes[0] = launch.start();
    cluster.all_alive(&mut client).await;
    assert_eq!(client.value(count).await, "2");

    cluster.bes[0].kill();
    copy(&old, &data);
    cluster.bes[0] = launch.start();
    client.wait_until("SHOW BACKENDS", refused).await;
    client.run("ADMIN SET FRONTEND CONFIG ('accept_lost_commits' = 'true')").await;
    cluster.all_alive(&mut client).await;
    assert_eq!(client.value(count).await, "1");
}

/// Copies on a BE that was dropped are not waited for: the table is loaded, merged, backed up and restored with those
/// that are left. One that is only away is worth waiting for.
#[tokio::test]
async fn a_table_lives_on_with_the_copies_that_are_left() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let mut client = cluster.fe.connect().await;
    client.run("ADMIN SET FRONTEND CONFIG ('compaction_interval_ms' = '50')").await;
    client.run("ADMIN SET FRONTEND CONFIG ('compaction_min_files' = '3')").await;
    let create = "CREATE DATABASE d; CREATE TABLE d.t (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1";
    client.run(format!("{create} PROPERTIES ('replication_num' = '2'); INSERT INTO d.t VALUES (1)")).await;
    client.run(scratch.create_repository()).await;
    client.run(format!("BACKUP SNAPSHOT d.l TO r {WAIT}")).await;
    let restore = format!("RESTORE SNAPSHOT d.l FROM r {LATEST}");
    cluster.kill(1).await;
    let lost = cluster.bes.remove(1).port("be");
    client.refused(&restore, 5064, "replication_num 2, available BE nodes 1").await;
    client.run(format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{lost}' FORCE")).await;
    let warnings = client.run("SHOW WARNINGS").await;
    assert!(warnings.column("Message")[0].contains("1 tablets have fewer copies"), "{warnings:?}");
    client.run("INSERT INTO d.t VALUES (2); INSERT INTO d.t VALUES (3)").await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "6");
    eventually("the files are merged", || rowset_files(cluster.bes[0].launch.data()).len() == 1).await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "6");
    assert_eq!(client.run("SHOW TABLETS FROM d.t").await.rows.len(), 1);
    client.run(&restore).await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "1");
    assert_eq!(client.run("SHOW PARTITIONS FROM d.t").await.column("ReplicationNum"), ["2"]);
}

/// Partitions that a RESTORE adds to a table get as many copies as the table's others.
#[tokio::test]
async fn a_restored_partition_has_the_copies_of_its_table() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch, 2).await;
    let mut client = cluster.fe.connect().await;
    let create = |partitions: &str| {
        format!(
            "CREATE TABLE d.t (k INT) PARTITION BY RANGE(k) (PARTITION p1 VALUES LESS THAN ('10'){partitions}) \
             DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES ('replication_num' = '1')"
        )
    };
    client.run("CREATE DATABASE d").await;
    client.run(create(", PARTITION p2 VALUES LESS THAN ('20')")).await;
    client.run("INSERT INTO d.t VALUES (1), (11)").await;
    client.run(scratch.create_repository()).await;
    client.run(format!("BACKUP SNAPSHOT d.l TO r {WAIT}; DROP TABLE d.t FORCE")).await;
    client.run(create("")).await;
    for _ in 0..2 {
        client.run(format!("RESTORE SNAPSHOT d.l FROM r {LATEST}")).await;
        assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "12");
        assert_eq!(client.run("SHOW PARTITIONS FROM d.t").await.column("ReplicationNum"), ["1", "1"]);
    }
}

/// A load whose BE is dropped before its commit fails: nobody could read its rows.
#[tokio::test]
async fn a_load_to_a_dropped_backend_fails() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let stopping = cluster.fe.launch.clone().stops_at("load.before-commit");
    cluster.fe.kill();
    cluster.fe = stopping.start();
    let mut client = cluster.fe.connect().await;
    cluster.all_alive(&mut client).await;
    let create = "CREATE DATABASE d; CREATE TABLE d.t (k INT) DISTRIBUTED BY HASH(k) BUCKETS 4";
    client.run(format!("{create} PROPERTIES ('replication_num' = '1')")).await;
    let mut loader = cluster.fe.connect().await;
    let load = async { loader.try_run("INSERT INTO d.t VALUES (1), (2), (3), (4), (5), (6), (7), (8)").await };
    let drop = async {
        let loaded = || cluster.bes.iter().map(|be| rowset_files(be.launch.data()).len()).sum::<usize>() == 4;
        eventually("the rows are on the BEs", loaded).await;
        let dropped = cluster.bes[0].port("be");
        client.run(format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{dropped}' FORCE")).await;
        cluster.fe.goes_on();
    };
    let (loaded, ()) = tokio::join!(load, drop);
    let refusal = loaded.unwrap_err();
    assert!(refusal.text.contains("run the statement again"), "{refusal}");
}

/// DROP TABLE frees the space of a BE whose disk has none left.
#[tokio::test]
async fn a_full_disk_is_emptied_by_drop_table() {
    let scratch = Scratch::new();
    let Some(_disk) = SmallDisk::mount(scratch.sub("be"), 64 << 10) else { return };
    let fe = Launch::fe(scratch.path()).set("heartbeat_interval_ms", 50).set("heartbeat_timeout_second", 1);
    let mut fe = fe.set("compaction_interval_ms", 50).start();
    let be = Launch::be(scratch.path(), "be").start();
    let mut client = fe.connect().await;
    client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{}'", be.port("be"))).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    // Of the next epoch, too, the BE can only be told.
    leave_free(&scratch.sub("be"), 0);
    let launch = fe.launch.clone();
    fe.kill();
    fe = launch.start();
    let mut client = fe.connect().await;
    client.run("DROP TABLE d.t FORCE").await;
    eventually("the file is gone", || rowset_files(be.launch.data()).is_empty()).await;
    assert_eq!(client.run("SHOW BACKENDS").await.column("Alive"), ["true"]);
}

/// The files of a load that meets a full disk in its commit are thrown away, though its end cannot be recorded at once; and
/// the client hears what has failed first.
#[tokio::test]
async fn a_load_that_fills_the_disk_leaves_nothing() {
    let scratch = Scratch::new();
    let Some(_disk) = SmallDisk::mount(scratch.sub("data"), 64 << 10) else { return };
    let hold = scratch.path().join("hold");
    let launch = Launch::standalone(scratch.path()).set("compaction_interval_ms", 50);
    let server = launch.held_at("load.before-commit", &hold).start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT)").await;
    let mut loader = server.connect().await;
    let load = async { loader.try_run("INSERT INTO d.t VALUES (1)").await };
    let fill = async {
        held(&hold).await;
        leave_free(&scratch.sub("data"), 0);
        std::fs::remove_file(&hold).unwrap();
    };
    let (loaded, ()) = tokio::join!(load, fill);
    let refusal = loaded.unwrap_err();
    assert!(refusal.text.contains("write catalog in"), "{refusal}");
    let data = scratch.path().join("data");
    assert_eq!(rowset_files(&data).len(), 1);
    // Too little for a load, and enough to note that one has ended.
    leave_free(&scratch.sub("data"), 8 << 20);
    eventually("the file is gone", || rowset_files(&data).is_empty()).await;
    std::fs::remove_file(data.join("ballast")).unwrap();
    client.run("INSERT INTO d.t VALUES (2)").await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "2");
}

/// An FE that was started on an old copy of its catalog changes nothing and throws nothing away, however often it is
/// started, until the newest copy is back or its loss is accepted.
#[tokio::test]
async fn a_front_end_with_an_old_catalog_changes_nothing() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 1).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    let storage = cluster.bes[0].launch.data().to_owned();
    let identity = files(&storage).into_iter().find(|path| path.ends_with("identity.json")).unwrap();
    let (meta, old, newest) =
        (scratch.path().join("fe/meta"), scratch.path().join("old"), scratch.path().join("newest"));
    let launch = cluster.fe.launch.clone().set("compaction_interval_ms", 50);
    cluster.fe.kill();
    copy(&meta, &old);
    let epoch = || {
        let kept = std::fs::read_to_string(&identity).unwrap();
        let kept: serde_json::Value = serde_json::from_str(kept.lines().next().unwrap()).unwrap();
        kept["epoch"].clone()
    };
    let seen = epoch();

    cluster.fe = launch.start();
    let mut client = cluster.fe.connect().await;
    client.run("INSERT INTO d.t VALUES (2)").await;
    eventually("the BE has seen that", || epoch() != seen).await;
    cluster.fe.kill();
    copy(&meta, &newest);
    let there = rowset_files(&storage);

    copy(&old, &meta);
    for _ in 0..2 {
        cluster.fe = launch.start();
        let mut client = cluster.fe.connect().await;
        client.wait_until("SHOW BACKENDS", |answer| answer.column("ErrMsg")[0].contains("lost commits")).await;
        let refusal = client.refused("INSERT INTO d.t VALUES (3)", 5064, "the catalog has lost commits").await;
        assert!(refusal.text.contains("accept_lost_commits"), "{refusal}");
        client.refused("CREATE DATABASE e", 5064, "the catalog has lost commits").await;
        assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "1");
        eventually("garbage was looked for", || cluster.fe.launch.logged().contains("collecting garbage")).await;
        cluster.fe.kill();
    }
    assert_eq!((rowset_files(&storage), trashed(&storage)), (there, 0));

    copy(&newest, &meta);
    cluster.fe = launch.start();
    let mut client = cluster.fe.connect().await;
    cluster.all_alive(&mut client).await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "3");
    client.run("INSERT INTO d.t VALUES (3)").await;
    cluster.fe.kill();

    copy(&old, &meta);
    cluster.fe = launch.start();
    let mut client = cluster.fe.connect().await;
    client.run("ADMIN SET FRONTEND CONFIG ('accept_lost_commits' = 'true')").await;
    client.wait_until("SHOW BACKENDS", |answer| answer.column("ErrMsg") == [""]).await;
    client.run("INSERT INTO d.t VALUES (10)").await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "11");
    eventually("what only the lost commits knew is in the trash", || trashed(&storage) > 0).await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "11");
}

/// Leaves so many bytes of a small file system free.
pub fn leave_free(path: &str, bytes: u64) {
    let ballast = format!("{path}/ballast");
    let _ = std::fs::remove_file(&ballast);
    let output = Command::new("df").args(["--output=avail", "-B1", path]).output().unwrap();
    let free: u64 = String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap();
    std::fs::write(ballast, vec![0; (free - bytes) as usize]).unwrap();
}

/// Room can be made when there is hardly any left, and the server starts.
#[tokio::test]
async fn what_makes_room_needs_little() {
    let scratch = Scratch::new();
    let Some(_disk) = SmallDisk::mount(scratch.sub("data"), 128 << 10) else { return };
    let launch = Launch::standalone(scratch.path()).set("compaction_interval_ms", 50);
    let mut server = launch.start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d").await;
    for table in ["kept", "dropped", "emptied"] {
        client.run(format!("CREATE TABLE d.{table} (k INT); INSERT INTO d.{table} VALUES (1)")).await;
    }
    leave_free(&scratch.sub("data"), 10 << 20);
    let refusal = client.try_run("INSERT INTO d.kept VALUES (2)").await.unwrap_err();
    assert!(refusal.text.contains("no storage space"), "{refusal}");
    client.run("DROP TABLE d.dropped FORCE; TRUNCATE TABLE d.emptied").await;
    // Of three files one is left, and nothing in the trash, which is kept for days where there is room.
    eventually("the trash is emptied", || rowset_files(launch.data()).len() == 1 && trashed(launch.data()) == 0).await;
    for free in [10 << 20, 1 << 20] {
        server.kill();
        leave_free(&scratch.sub("data"), free);
        server = launch.start();
        assert_eq!(server.connect().await.value("SELECT SUM(k) FROM d.kept").await, "1");
    }
    drop(server);
}

#[tokio::test]
async fn a_trash_folder_that_keeps_nothing_is_emptied_at_once() {
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).set("compaction_interval_ms", 50).start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1); DROP TABLE d.t FORCE").await;
    eventually("the file is thrown away", || trashed(server.launch.data()) == 1).await;
    client.run("UPDATE information_schema.be_configs SET value = '0' WHERE name = 'trash_file_expire_time_sec'").await;
    eventually("the trash is emptied", || trashed(server.launch.data()) == 0).await;
}

/// Merges that hang keep no garbage.
#[tokio::test]
async fn garbage_is_collected_while_a_merge_hangs() {
    let scratch = Scratch::new();
    let fe = Launch::fe(scratch.path()).set("compaction_interval_ms", 50).set("compaction_min_files", 2).start();
    let be = Launch::be(scratch.path(), "be").stays_at("be.compact", 600_000).start();
    let mut client = fe.connect().await;
    client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{}'", be.port("be"))).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1").await;
    client.run("INSERT INTO d.t VALUES (1); INSERT INTO d.t VALUES (2)").await;
    for _ in 0..3 {
        client.run("CREATE TABLE d.u (k INT); INSERT INTO d.u VALUES (1); DROP TABLE d.u FORCE").await;
    }
    eventually("garbage is in the trash", || trashed(be.launch.data()) == 3).await;
    assert_eq!(client.value("SELECT COUNT(*) FROM d.t").await, "2");
}

/// Nor does a BE that hangs where it looks at raw keys keep small files from being merged.
#[tokio::test]
async fn files_are_merged_while_a_split_hangs() {
    let scratch = Scratch::new();
    let held_file = scratch.path().join("held");
    let launch = Launch::standalone(scratch.path()).set("compaction_interval_ms", 50).set("compaction_min_files", 2);
    let (server, mut client) = launch.held_at("be.raw-split", &held_file).open().await;
    client.run("CREATE DATABASE rawkv; INSERT INTO rawkv.default VALUES ('a', '1')").await;
    held(&held_file).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1").await;
    client.run("INSERT INTO d.t VALUES (1); INSERT INTO d.t VALUES (2)").await;
    eventually("the files are merged", || rowset_files(server.launch.data()).len() == 1).await;
    std::fs::remove_file(held_file).unwrap();
}

/// A RESTORE that names no database looks into the repository before it is a job.
#[tokio::test]
async fn a_repository_that_a_restore_could_not_open_shows_why() {
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).start();
    let mut client = server.connect().await;
    client.run(format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", scratch.sub("repository"))).await;
    std::fs::rename(scratch.sub("repository"), scratch.sub("gone")).unwrap();
    client.refused(format!("RESTORE SNAPSHOT l FROM r {LATEST}"), 5064, "__repo_info").await;
    let shown = client.run("SHOW REPOSITORIES").await;
    assert!(shown.column("ErrMsg")[0].contains("__repo_info"), "{shown:?}");
}

#[tokio::test]
async fn names_that_no_folder_can_have_are_refused() {
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).start();
    let mut client = server.connect().await;
    let create = |name: &str| {
        format!("CREATE REPOSITORY `{name}` WITH BROKER ON LOCATION 'file://{}'", scratch.sub("repository"))
    };
    let refusal = client.try_run(create(&"🦀".repeat(64))).await.unwrap_err();
    assert!(refusal.text.contains("more than 233"), "{refusal}");
    let (longest, label) = ("🦀".repeat(19), "本".repeat(27));
    client.run(create(&longest)).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    let refusal = client.try_run(format!("BACKUP SNAPSHOT d.`{label}本` TO `{longest}`")).await.unwrap_err();
    assert!(refusal.text.contains("more than 250"), "{refusal}");
    client.run(format!("BACKUP SNAPSHOT d.`{label}` TO `{longest}` PROPERTIES ('wait' = 'true')")).await;
    client.run(format!("RESTORE SNAPSHOT e.`{label}` FROM `{longest}` {LATEST}")).await;
    assert_eq!(client.value("SELECT k FROM e.t").await, "1");
}

/// A jump of the FE's time of day kills no BE.
#[tokio::test]
async fn a_clock_that_jumps_kills_no_backend() {
    let scratch = Scratch::new();
    let ahead = scratch.path().join("ahead");
    std::fs::write(&ahead, "+0s").unwrap();
    let Some(launch) = Launch::fe(scratch.path()).clock(&ahead) else { return };
    // No heartbeat comes in between.
    let fe = launch.set("heartbeat_interval_ms", 60_000).set("heartbeat_timeout_second", 600).start();
    let be = Launch::be(scratch.path(), "be").start();
    let mut client = fe.connect().await;
    client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{}'", be.port("be"))).await;
    let before: i64 = client.value("SELECT UNIX_TIMESTAMP()").await.parse().unwrap();
    std::fs::write(&ahead, "+7200s").unwrap();
    client
        .wait_until("SELECT UNIX_TIMESTAMP()", |now| {
            now.rows[0][0].as_ref().unwrap().parse::<i64>().unwrap() >= before + 7200
        })
        .await;
    assert_eq!(client.run("SHOW BACKENDS").await.column("Alive"), ["true"]);
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
}

/// Two BEs come back at each other's address before the FE has missed them: nothing is written to the wrong one, and
/// nothing that it has is thrown away.
#[tokio::test]
async fn backends_that_have_changed_places_are_told_apart() {
    let scratch = Scratch::new();
    // The FE looks rarely who is there.
    let blind = Launch::fe(scratch.path()).set("heartbeat_interval_ms", 60_000).set("heartbeat_timeout_second", 600);
    let mut fe = blind.set("compaction_interval_ms", 50).start();
    let launches = ["be0", "be1"].map(|name| Launch::be(scratch.path(), name));
    let bes = launches.each_ref().map(Launch::start);
    let ports = bes.each_ref().map(|be| be.port("be"));
    let mut client = fe.connect().await;
    for port in ports {
        client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{port}'")).await;
    }
    let create = "CREATE DATABASE d; CREATE TABLE d.t (k INT) DISTRIBUTED BY HASH(k) BUCKETS 4";
    client.run(format!("{create} PROPERTIES ('replication_num' = '1')")).await;
    let insert = "INSERT INTO d.t VALUES (1), (2), (3), (4), (5), (6), (7), (8)";
    client.run(insert).await;
    let there = || launches.each_ref().map(|launch| rowset_files(launch.data()));
    let before = there();
    drop(bes);
    let start = |ports: [u16; 2]| [0, 1].map(|n| launches[n].clone().flag("--be-port", ports[n]).start());

    let bes = start([ports[1], ports[0]]);
    for statement in [insert, "SELECT SUM(k) FROM d.t"] {
        let refusal = client.try_run(statement).await.unwrap_err();
        assert!(refusal.text.contains("this is backend"), "{statement}: {refusal}");
    }
    eventually("garbage was looked for", || fe.launch.logged().contains("collecting garbage")).await;
    assert_eq!(there(), before);
    assert_eq!(launches.each_ref().map(|launch| trashed(launch.data())), [0, 0]);

    let seeing = fe.launch.clone().set("heartbeat_interval_ms", 50);
    fe.kill();
    let fe = seeing.start();
    let mut client = fe.connect().await;
    let other = |answer: &Answer| answer.column("ErrMsg").iter().all(|text| text.contains("at its address backend"));
    let shown = client.wait_until("SHOW BACKENDS", other).await;
    assert_eq!(shown.column("Alive"), ["false", "false"]);
    drop(bes);
    let _bes = start(ports);
    client.wait_until("SHOW BACKENDS", |answer| answer.column("Alive") == ["true", "true"]).await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "36");
}
