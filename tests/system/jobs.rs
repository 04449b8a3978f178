//! Backup and restore jobs as statements see them: waiting, cancelling, what is locked and what is not.

use super::client::{Answer, Client};
use super::harness::{LATEST, Launch, Scratch, Server, WAIT, files};
use super::sample;

const ONE_JOB: &str = "Can only run one backup or restore job of a database at same time";

const RESTORING: &str = "A snapshot restore operation is in progress on the table";

/// A server with the sample in the database `shop` and a repository `r`.
async fn start(scratch: &Scratch, launch: &Launch) -> (Server, Client) {
    let server = launch.start();
    let mut client = server.connect().await;
    client.run(scratch.create_repository()).await;
    sample::create(&mut client, "shop").await;
    (server, client)
}

async fn set_speed(client: &mut Client, direction: &str, kbps: u32) {
    let name = format!("max_{direction}_speed_kbps");
    client.run(format!("UPDATE information_schema.be_configs SET value = '{kbps}' WHERE name = '{name}'")).await;
}

/// Downloads what passes at once, and is owed for a minute at one kilobyte a second: so long the next download waits.
async fn owe_downloads(client: &mut Client) {
    let row = |_| format!("('{:032x}')", rand::random::<u128>());
    let rows: Vec<_> = (0..4000).map(row).collect();
    client
        .run(format!(
            "CREATE DATABASE large; CREATE TABLE large.t (k STRING); INSERT INTO large.t VALUES {}",
            rows.join(",")
        ))
        .await;
    client.run("BACKUP SNAPSHOT large.large TO r PROPERTIES ('wait' = 'true')").await;
    client.run(format!("RESTORE SNAPSHOT owed.large FROM r {LATEST}")).await;
}

/// The client's statement, running while the test goes on.
fn aside(mut client: Client, sql: &str) -> tokio::task::JoinHandle<Result<Answer, super::client::Refusal>> {
    let sql = sql.to_owned();
    tokio::spawn(async move { client.try_run(sql).await })
}

#[tokio::test]
async fn a_backup_locks_its_database_and_nothing_else() {
    let scratch = Scratch::new();
    // What nothing names is garbage at once.
    let launch = Launch::standalone(scratch.path()).set("max_upload_speed_kbps", 1);
    let launch = launch.set("compaction_interval_ms", 20).set("trash_file_expire_time_sec", 0);
    let (server, mut client) = start(&scratch, &launch).await;
    client.run("CREATE DATABASE other; CREATE TABLE other.t (k INT); INSERT INTO other.t VALUES (1)").await;
    let before = client.contents("shop").await;
    let waiting = aside(server.connect().await, "BACKUP SNAPSHOT shop.slow TO r PROPERTIES ('wait' = 'true')");
    let job = client.wait_for_job("BACKUP", "shop", &["UPLOADING"]).await;
    assert_eq!(
        (job["SnapshotName"].as_str(), job["DbName"].as_str(), job["Status"].as_str()),
        ("slow", "shop", "[OK]")
    );
    // There is no snapshot yet, and nothing is wrong with that.
    let listed = client.run("SHOW SNAPSHOT ON r").await;
    assert_eq!((listed.column("Snapshot"), listed.column("Timestamp")), (vec!["slow"], vec!["NULL"]));
    assert_eq!(listed.column("Status"), [format!("RUNNING: BACKUP job {} is writing it", job["JobId"])]);

    client.refused("BACKUP SNAPSHOT shop.second TO r", 5064, ONE_JOB).await;
    client.refused(format!("RESTORE SNAPSHOT shop.slow FROM r {LATEST}"), 5064, ONE_JOB).await;
    client.refused("DROP DATABASE shop", 5064, "").await;
    client.refused("DROP REPOSITORY r", 5064, "Backup or restore job is running on this repository").await;
    // Loads and DDL go on, and are not in the snapshot; its files stay.
    client.run(sample::events("shop", 50)).await;
    client.run("DROP TABLE shop.`values` FORCE; CREATE TABLE shop.later (k INT); TRUNCATE TABLE shop.events").await;
    // Another database has its own job.
    let other = aside(server.connect().await, "BACKUP SNAPSHOT other.l TO r PROPERTIES ('wait' = 'true')");
    client.wait_for_job("BACKUP", "other", &["UPLOADING", "SAVE_META", "UPLOAD_INFO", "FINISHED"]).await;
    assert_eq!(client.run("SHOW BACKUP").await.rows.len(), 2);

    // The limit acts on the running job.
    set_speed(&mut client, "upload", 0).await;
    waiting.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
    assert_eq!(client.run("SHOW BACKUP FROM shop").await.column("State"), ["FINISHED"]);
    client.run(format!("RESTORE SNAPSHOT copy.slow FROM r {LATEST}")).await;
    assert_eq!(client.contents("copy").await, before);
}

#[tokio::test]
async fn a_kill_ends_the_waiting_and_not_the_job() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path()).set("max_upload_speed_kbps", 1);
    let (server, mut client) = start(&scratch, &launch).await;
    let text = |label| format!("BACKUP SNAPSHOT shop.{label} TO r PROPERTIES (\"wait\" = \"true\")");
    for (kill, statement) in [
        ("KILL QUERY", text("first")),
        ("KILL", text("second")),
        ("KILL QUERY", format!("PREPARE b FROM '{}'; EXECUTE b", text("third"))),
    ] {
        let mut other = server.connect().await;
        let id = other.run("SELECT CONNECTION_ID()").await.rows[0][0].clone().unwrap();
        let waiting = aside(other, &statement);
        client.wait_for_job("BACKUP", "shop", &["UPLOADING"]).await;
        client.run(format!("{kill} {id}")).await;
        let refusal = waiting.await.unwrap().unwrap_err();
        assert_eq!((refusal.number, refusal.state.as_str()), (1317, "70100"), "{refusal}");
        let left = "; a job that has begun goes on: see SHOW BACKUP, and CANCEL BACKUP ends it";
        assert!(refusal.text.ends_with(left), "{refusal}");
        assert_eq!(client.run("SHOW BACKUP FROM shop").await.column("State"), ["UPLOADING"]);
        client.run("CANCEL BACKUP FROM shop").await;
    }
}

/// Who is told of a KILL learns that what the statement has begun is not undone.
#[tokio::test]
async fn a_kill_does_not_undo_what_a_statement_has_begun() {
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).start();
    let mut client = server.connect().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut other = server.connect().await;
    let id = other.run("SELECT CONNECTION_ID()").await.rows[0][0].clone().unwrap();
    let create = format!(
        "CREATE REPOSITORY s WITH BROKER ON LOCATION 's3://bucket/x' PROPERTIES ('aws.s3.endpoint' = '{}', \
         'aws.s3.enable_ssl' = 'false', 'aws.s3.access_key' = 'a', 'aws.s3.secret_key' = 'b')",
        silent.local_addr().unwrap()
    );
    let waiting = aside(other, &create);
    let _request = silent.accept().await.unwrap();
    client.run(format!("KILL QUERY {id}")).await;
    let refusal = waiting.await.unwrap().unwrap_err();
    let left = "; what it has begun goes on: see whether that is done before you run it again";
    assert!(refusal.number == 1317 && refusal.text.ends_with(left), "{refusal}");
}

/// Whether the rows of an INSERT are there is what its client is told, although a KILL meets the commit.
#[tokio::test]
async fn a_kill_that_meets_a_commit_comes_too_late() {
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).stops_at("load.after-commit").start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT)").await;
    let mut waiting = Vec::new();
    for (n, kill) in ["KILL QUERY", "KILL"].into_iter().enumerate() {
        let mut other = server.connect().await;
        let id = other.run("SELECT CONNECTION_ID()").await.rows[0][0].clone().unwrap();
        waiting.push(aside(other, &format!("INSERT INTO d.t VALUES ({n})")));
        let there = |answer: &Answer| answer.rows[0][0].as_deref() == Some(&(n + 1).to_string());
        client.wait_until("SELECT COUNT(*) FROM d.t", there).await;
        client.run(format!("{kill} {id}")).await;
    }
    server.goes_on();
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
}

/// Whoever watches a job sees what it waits for, and what was done before a restart.
#[tokio::test]
async fn a_resumed_backup_counts_all_and_says_what_it_tries_again() {
    let scratch = Scratch::new();
    let held = scratch.path().join("held");
    // The first object arrives, the second does not.
    let launch =
        Launch::standalone(scratch.path()).set("upload_worker_count", 1).held_after(1, "repository.upload", &held);
    let mut server = launch.start();
    let mut client = server.connect().await;
    client.run(scratch.create_repository()).await;
    client.run("CREATE DATABASE large").await;
    sample::large(&mut client, "large.a", 1, &scratch).await;
    sample::large(&mut client, "large.b", 2, &scratch).await;
    client.run("BACKUP SNAPSHOT large.l TO r").await;
    let half = |answer: &Answer| answer.column("Progress")[0].contains(": 1/2]");
    client.wait_until("SHOW BACKUP FROM large", half).await;
    server.kill();
    std::fs::remove_file(&held).unwrap();
    let away = scratch.sub("away");
    std::fs::rename(scratch.sub("repository"), &away).unwrap();
    server = launch.start();
    client = server.connect().await;
    let told = |answer: &Answer| answer.column("TaskErrMsg")[0].contains("is the storage mounted?");
    let shown = client.wait_until("SHOW BACKUP FROM large", told).await;
    assert!(half(&shown), "{shown:?}");
    assert_eq!(shown.column("State"), ["UPLOADING"]);
    std::fs::rename(away, scratch.sub("repository")).unwrap();
    client.finished("BACKUP", "large").await;
    assert_eq!(client.run("SHOW BACKUP FROM large").await.column("TaskErrMsg"), [""]);
}

/// A task that has ended only partly: what it has done of it is remembered as what it was, whatever the order in which
/// the files are sent. (Once a small file was taken for a large one that had arrived, and its object was never written.)
#[tokio::test]
async fn a_backup_whose_task_ended_partly_is_whole() {
    let scratch = Scratch::new();
    let held = scratch.path().join("held");
    // The first object arrives, the second does not.
    let launch =
        Launch::standalone(scratch.path()).set("upload_worker_count", 1).held_after(1, "repository.upload", &held);
    let mut server = launch.start();
    let mut client = server.connect().await;
    client.run(scratch.create_repository()).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.a_small (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1").await;
    client.run("INSERT INTO d.a_small VALUES (1), (2)").await;
    sample::large(&mut client, "d.b_big", 1, &scratch).await;
    let expected = client.contents("d").await;
    client.run("BACKUP SNAPSHOT d.l TO r").await;
    client.wait_until("SHOW BACKUP FROM d", |answer| answer.column("Progress")[0].contains(": 1/2]")).await;
    server.kill();
    std::fs::remove_file(&held).unwrap();
    server = launch.start();
    client = server.connect().await;
    client.finished("BACKUP", "d").await;
    client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
    assert_eq!(client.contents("copy").await, expected);
}

#[tokio::test]
async fn a_restore_reserves_its_tables_until_it_ends() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path()).set("max_download_speed_kbps", 1);
    let (server, mut client) = start(&scratch, &launch).await;
    let new = client.contents("shop").await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    owe_downloads(&mut client).await;
    client.run(sample::events("shop", 50)).await;
    client.run("DROP TABLE shop.nothing FORCE; CREATE TABLE shop.free (k INT)").await;
    let old = client.contents("shop").await;
    let restore = format!("RESTORE SNAPSHOT shop.l FROM r {LATEST}");
    let waiting = aside(server.connect().await, &restore);
    client.wait_for_job("RESTORE", "shop", &["DOWNLOADING"]).await;

    client.refused(sample::events("shop", 51), 5064, RESTORING).await;
    client.refused("TRUNCATE TABLE shop.events", 5064, RESTORING).await;
    client.refused("DROP TABLE shop.`values` FORCE", 5064, RESTORING).await;
    client.refused("CREATE TABLE shop.nothing (k INT)", 5064, RESTORING).await;
    client.refused("DROP DATABASE shop FORCE", 5064, "").await;
    client.refused("BACKUP SNAPSHOT shop.m TO r", 5064, ONE_JOB).await;
    client.run("INSERT INTO shop.free VALUES (1); TRUNCATE TABLE shop.free").await;
    assert_eq!(client.contents("shop").await, old);

    client.run("CANCEL RESTORE FROM shop").await;
    let refusal = waiting.await.unwrap().unwrap_err();
    assert_eq!((refusal.number, refusal.state.as_str()), (1317, "70100"), "{refusal}");
    assert!(refusal.text.contains("user cancelled, current state: DOWNLOADING"), "{refusal}");
    let job = client.run("SHOW RESTORE FROM shop").await;
    assert_eq!(job.column("State"), ["CANCELLED"]);
    assert_eq!(job.column("Status"), ["[COMMON_ERROR, msg: user cancelled, current state: DOWNLOADING]"]);
    assert_eq!(client.contents("shop").await, old);
    client.refused("CANCEL RESTORE FROM shop", 5064, "can not be cancelled. state: CANCELLED").await;
    // Everything is free again.
    client.run("CREATE TABLE shop.nothing (k INT); DROP TABLE shop.nothing FORCE").await;

    set_speed(&mut client, "download", 0).await;
    client.run(&restore).await;
    let mut seen = client.contents("shop").await;
    assert!(seen.remove("free").is_some(), "a restore leaves other tables alone");
    assert_eq!(seen, new);
    client.refused("CANCEL RESTORE FROM shop", 5064, "can not be cancelled. state: FINISHED").await;
}

/// The record that a job has when it is about to write each of the others.
const BACKUP: [(&str, &str); 6] = [
    ("PENDING", "snapshoting"),
    ("SNAPSHOTING", "upload_snapshot"),
    ("UPLOAD_SNAPSHOT", "uploading"),
    ("UPLOADING", "save_meta"),
    ("SAVE_META", "upload_info"),
    ("UPLOAD_INFO", "finished"),
];

const RESTORE: [(&str, &str); 6] = [
    ("PENDING", "snapshoting"),
    ("SNAPSHOTING", "download"),
    ("DOWNLOAD", "downloading"),
    ("DOWNLOADING", "commit"),
    ("COMMIT", "committing"),
    ("COMMITTING", "finished"),
];

/// Cancels a job that has stopped, and lets it go on.
async fn cancel(server: &Server, client: &mut Client, kind: &str) {
    // The statement waits until the job has put its things away.
    let cancelling = aside(server.connect().await, &format!("CANCEL {kind} FROM shop"));
    client.wait_for_job(kind, "shop", &["CANCELLED"]).await;
    server.goes_on();
    cancelling.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_backup_can_be_cancelled_until_its_commit() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    drop(start(&scratch, &launch).await);
    for (state, next) in BACKUP {
        let server = launch.clone().stops_at(&format!("backup.{next}.before")).start();
        let mut client = server.connect().await;
        let backup = format!("BACKUP SNAPSHOT shop.{state} TO r PROPERTIES ('wait' = 'true')");
        let waiting = aside(server.connect().await, &backup);
        client.wait_for_job("BACKUP", "shop", &[state]).await;
        if state == "UPLOAD_INFO" {
            client.refused("CANCEL BACKUP FROM shop", 5064, "can not be cancelled. state: UPLOAD_INFO").await;
            server.goes_on();
            waiting.await.unwrap().unwrap();
            continue;
        }
        cancel(&server, &mut client, "BACKUP").await;
        let refusal = waiting.await.unwrap().unwrap_err();
        assert_eq!(refusal.number, 1317, "{state}: {refusal}");
        let job = client.run("SHOW BACKUP FROM shop").await;
        assert_eq!(job.column("State"), ["CANCELLED"]);
        assert_eq!(job.column("Status"), ["[COMMON_ERROR, msg: user cancelled]"]);
        let ended = format!("SELECT CANCELLED_IN FROM information_schema.backup_jobs WHERE LABEL = '{state}'");
        assert_eq!(client.value(&ended).await, state);
        assert!(server.stop().await.success());
        // The label is free, and the next backup is whole.
        let server = launch.start();
        let mut client = server.connect().await;
        client.run(&backup).await;
        client.run(format!("RESTORE SNAPSHOT copy.{state} FROM r {LATEST}")).await;
        assert_eq!(client.contents("copy").await, client.contents("shop").await);
        client.run("DROP DATABASE copy FORCE").await;
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_restore_can_be_cancelled_until_its_commit() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let (server, mut client) = start(&scratch, &launch).await;
    let new = client.contents("shop").await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    client.run(sample::events("shop", 50)).await;
    client.run("DROP TABLE shop.nothing FORCE").await;
    let old = client.contents("shop").await;
    assert!(server.stop().await.success());
    for (state, next) in RESTORE {
        let server = launch.clone().stops_at(&format!("restore.{next}.before")).start();
        let mut client = server.connect().await;
        let waiting = aside(server.connect().await, &format!("RESTORE SNAPSHOT shop.l FROM r {LATEST}"));
        client.wait_for_job("RESTORE", "shop", &[state]).await;
        if state == "COMMITTING" {
            assert_eq!(client.contents("shop").await, new);
            client.refused("CANCEL RESTORE FROM shop", 5064, "can not be cancelled. state: COMMITTING").await;
            server.goes_on();
            waiting.await.unwrap().unwrap();
            continue;
        }
        cancel(&server, &mut client, "RESTORE").await;
        let refusal = waiting.await.unwrap().unwrap_err();
        assert_eq!(refusal.number, 1317, "{state}: {refusal}");
        assert_eq!(client.contents("shop").await, old, "{state}");
        assert!(server.stop().await.success());
    }
}

/// Right before its commit all tables of a restore are the old ones, right after it all are the new ones.
#[tokio::test]
async fn a_restore_is_seen_as_a_whole() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let (server, mut client) = start(&scratch, &launch).await;
    let counts = "SELECT (SELECT COUNT(*) FROM shop.events), (SELECT COUNT(*) FROM shop.`values`)";
    let new = client.run(counts).await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    client.run(sample::events("shop", 50)).await;
    client.run(sample::values("shop", 50)).await;
    let old = client.run(counts).await;
    assert!(server.stop().await.success());
    for (place, state, expected) in
        [("restore.committing.before", "COMMIT", &old), ("restore.committing.after", "COMMITTING", &new)]
    {
        let server = launch.clone().stops_at(place).start();
        let mut client = server.connect().await;
        let waiting = aside(server.connect().await, &format!("RESTORE SNAPSHOT shop.l FROM r {LATEST}"));
        client.wait_for_job("RESTORE", "shop", &[state]).await;
        assert_eq!(client.run(counts).await, *expected, "{place}");
        server.goes_on();
        waiting.await.unwrap().unwrap();
        assert_eq!(client.run(counts).await, new, "{place}");
        client.run(sample::events("shop", 50)).await;
        client.run(sample::values("shop", 50)).await;
        assert_eq!(client.run(counts).await, old);
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_second_backup_uploads_no_content() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch, &Launch::standalone(scratch.path())).await;
    client.run("BACKUP SNAPSHOT shop.first TO r PROPERTIES ('wait' = 'true')").await;
    let objects = || files(scratch.path().join("repository/__holdfast_repository_r/__objects"));
    let first = objects();
    assert!(!first.is_empty());
    client.run("BACKUP SNAPSHOT shop.second TO r PROPERTIES ('wait' = 'true')").await;
    assert_eq!(objects(), first);
    // Only the new file of a changed table is uploaded.
    client.run("INSERT INTO shop.nothing VALUES (1, 'x')").await;
    client.run("BACKUP SNAPSHOT shop.third TO r PROPERTIES ('wait' = 'true')").await;
    assert_eq!(objects().len(), first.len() + 1);
    // A restored copy is known to be there as well, under whatever name.
    let expected = client.contents("shop").await;
    client.run(format!("RESTORE SNAPSHOT copy.third FROM r {LATEST}")).await;
    assert_eq!(client.contents("copy").await, expected);
    // Every snapshot is complete by itself.
    for label in ["first", "second"] {
        client.run(format!("DROP DATABASE copy FORCE; RESTORE SNAPSHOT copy.{label} FROM r {LATEST}")).await;
        assert_eq!(client.value("SELECT COUNT(*) FROM copy.nothing").await, "0");
        assert_eq!(client.contents("copy").await["events"], expected["events"]);
    }
    let moved = "SELECT LABEL, TOTAL_FILES > 0, IF(MOVED_FILES = TOTAL_FILES, 'all', MOVED_FILES), MOVED_BYTES > 0 FROM information_schema.backup_jobs ORDER BY JOB_ID";
    let moved = client.run(moved).await.rows;
    let row =
        |label: &str, files: &str, bytes: &str| [label, "1", files, bytes].map(|text| Some(text.to_owned())).to_vec();
    assert_eq!(moved, [row("first", "all", "1"), row("second", "0", "0"), row("third", "1", "1")]);
}

/// A backup or restore of some partitions does not make later backups forget what else the repository has.
#[tokio::test]
async fn a_backup_of_a_partition_forgets_nothing() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch, &Launch::standalone(scratch.path())).await;
    let partitions = "PARTITION p1 VALUES LESS THAN ('10'), PARTITION p2 VALUES LESS THAN ('20')";
    client
        .run(format!(
            "CREATE DATABASE parts; CREATE TABLE parts.t (k INT) DUPLICATE KEY(k) PARTITION BY RANGE(k) ({partitions}); \
             INSERT INTO parts.t VALUES (1), (11)"
        ))
        .await;
    let backup = async |client: &mut Client, label: &str, objects: &str| {
        client.run(format!("BACKUP SNAPSHOT parts.{label} TO r {objects} {WAIT}")).await;
        let moved = "SELECT MOVED_FILES FROM information_schema.backup_jobs WHERE LABEL = ";
        client.value(&format!("{moved}'{label}'")).await
    };
    assert_eq!(backup(&mut client, "whole", "").await, "2");
    client.run("INSERT INTO parts.t VALUES (2)").await;
    assert_eq!(backup(&mut client, "first", "ON (t PARTITION (p1))").await, "1");
    assert_eq!(backup(&mut client, "second", "").await, "0");
    client.run(format!("RESTORE SNAPSHOT parts.first FROM r ON (t PARTITION (p1)) {LATEST}")).await;
    assert_eq!(backup(&mut client, "third", "").await, "0");
}

/// What a snapshot names that somebody is about to delete is not relied on.
#[tokio::test]
async fn a_backup_reuses_nothing_of_a_snapshot_that_is_marked_for_deletion() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch, &Launch::standalone(scratch.path())).await;
    let backup = async |client: &mut Client, label: &str| {
        client.run(format!("BACKUP SNAPSHOT shop.{label} TO r PROPERTIES ('wait' = 'true')")).await;
        let moved = "SELECT MOVED_FILES FROM information_schema.backup_jobs WHERE LABEL = ";
        client.value(&format!("{moved}'{label}'")).await
    };
    let all = backup(&mut client, "first").await;
    let folder = scratch.path().join("repository/__holdfast_repository_r/__ss_first");
    let info = files(&folder)
        .into_iter()
        .find_map(|file| file.file_name()?.to_str()?.strip_prefix("__info_").map(str::to_owned));
    std::fs::write(folder.join(format!("__deleted_{}", info.unwrap())), "").unwrap();
    assert_eq!(backup(&mut client, "second").await, all);
    assert_eq!(backup(&mut client, "third").await, "0");
}

#[tokio::test]
async fn another_server_restores_from_a_read_only_repository() {
    let scratch = Scratch::new();
    let (server, mut client) = start(&scratch, &Launch::standalone(scratch.path())).await;
    let expected = client.contents("shop").await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    assert!(server.stop().await.success());
    let state = || {
        let state = |path: &std::path::PathBuf| {
            let metadata = path.metadata().unwrap();
            (path.clone(), metadata.len(), metadata.modified().unwrap())
        };
        let entries = walkdir::WalkDir::new(scratch.sub("repository")).sort_by_file_name();
        entries.into_iter().map(|entry| state(&entry.unwrap().into_path())).collect::<Vec<_>>()
    };
    let before = state();
    std::fs::create_dir(scratch.sub("second")).unwrap();
    let server = Server::standalone(&scratch.path().join("second"));
    let mut client = server.connect().await;
    client.run(scratch.create_repository().replace("CREATE", "CREATE READ ONLY")).await;
    client.run(format!("RESTORE SNAPSHOT l FROM r {LATEST}")).await;
    assert_eq!(client.contents("shop").await, expected);
    client.run(format!("RESTORE SNAPSHOT l FROM r DATABASE shop AS other {LATEST}")).await;
    assert_eq!(client.contents("other").await, expected);
    client.refused("BACKUP SNAPSHOT shop.m TO r", 5064, "Repository r is read only").await;
    assert_eq!(state(), before, "a READ ONLY repository is never written");
}

#[tokio::test]
async fn of_two_servers_one_gets_a_label() {
    let scratch = Scratch::new();
    let mut servers = Vec::new();
    for name in ["one", "two"] {
        let dir = scratch.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let server = Server::standalone(&dir);
        let mut client = server.connect().await;
        client.run(scratch.create_repository()).await;
        client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT)").await;
        client.run(format!("INSERT INTO d.t VALUES ({})", name.len())).await;
        servers.push((server, client));
    }
    let [(_one, mut one), (_two, mut two)] = <[_; 2]>::try_from(servers).ok().unwrap();
    for n in 0..8 {
        let backup = format!("BACKUP SNAPSHOT d.l{n} TO r PROPERTIES ('wait' = 'true')");
        let (a, b) = tokio::join!(one.try_run(&backup), two.try_run(&backup));
        assert!(a.is_err() || b.is_err(), "both wrote l{n}");
        for refusal in [&a, &b].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(
                refusal.number == 5064 && refusal.text.contains(&format!("Snapshot with name 'l{n}'")),
                "{refusal}"
            );
        }
        let folder = scratch.path().join(format!("repository/__holdfast_repository_r/__ss_l{n}"));
        let infos = files(folder).iter().filter(|path| path.to_str().unwrap().contains("__info_")).count();
        assert_eq!((infos, a.is_ok() || b.is_ok()), (1, true), "l{n}: {a:?} {b:?}");
        two.refused(&backup, 5064, "already exist").await;
    }
}

#[tokio::test]
async fn the_session_can_wait_by_default() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch, &Launch::standalone(scratch.path())).await;
    client.run("SET wait_for_jobs = ON").await;
    client.run("BACKUP SNAPSHOT shop.l TO r").await;
    assert_eq!(client.run("SHOW BACKUP FROM shop").await.column("State"), ["FINISHED"]);
    client.run("BACKUP SNAPSHOT shop.m TO r PROPERTIES ('wait' = 'false')").await;
    client.finished("BACKUP", "shop").await;
}

/// All tables of a snapshot are of one moment, whatever is loaded meanwhile.
#[tokio::test]
async fn a_snapshot_is_of_one_moment() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path()).set("compaction_interval_ms", 20).set("compaction_min_files", 3);
    let server = launch.start();
    let mut client = server.connect().await;
    client.run(scratch.create_repository()).await;
    client.run("CREATE DATABASE d").await;
    for table in ["first", "second"] {
        client.run(format!("CREATE TABLE d.{table} (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2")).await;
    }
    let mut loader = server.connect().await;
    let loads = tokio::spawn(async move {
        // Until the test drops it.
        for k in 0.. {
            loader.run(format!("INSERT INTO d.first VALUES ({k})")).await;
            loader.run(format!("INSERT INTO d.second VALUES ({k})")).await;
        }
    });
    let counts = "SELECT (SELECT COUNT(*) FROM d.first), (SELECT COUNT(*) FROM d.second)";
    for n in 0..8 {
        client.run(format!("BACKUP SNAPSHOT d.l{n} TO r PROPERTIES ('wait' = 'true')")).await;
        client.run(format!("RESTORE SNAPSHOT copy{n}.l{n} FROM r {LATEST}")).await;
        let restored = client.run(counts.replace("d.", &format!("copy{n}."))).await;
        let live = client.run(counts).await;
        for (what, answer) in [("restored", restored), ("queried", live)] {
            let count = |at: usize| answer.rows[0][at].as_ref().unwrap().parse::<u64>().unwrap();
            assert!(count(0) == count(1) || count(0) == count(1) + 1, "{what}: {} and {}", count(0), count(1));
        }
    }
    assert!(!loads.is_finished());
    loads.abort();
}

/// Columns and formats that scripts written for StarRocks read.
#[tokio::test]
async fn answers_have_the_form_of_starrocks() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch, &Launch::standalone(scratch.path())).await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true', 'timeout' = '3600')").await;
    let on = "ON (events PARTITION (jan, feb) AS e, `values`)";
    client.run(format!("RESTORE SNAPSHOT copy.l FROM r {on} {LATEST}")).await;
    let names = |answer: &Answer| answer.columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(" ");
    let is_time = |text: &str| text.len() == 19 && text.starts_with("20") && text.as_bytes()[10] == b' ';

    let backup = client.run("SHOW BACKUP FROM shop").await;
    assert_eq!(
        names(&backup),
        "JobId SnapshotName DbName State BackupObjs CreateTime SnapshotFinishedTime UploadFinishedTime FinishedTime \
         UnfinishedTasks Progress TaskErrMsg Status Timeout"
    );
    let job = backup.records().remove(0);
    job["JobId"].parse::<u64>().unwrap();
    assert_eq!(job["BackupObjs"], "[shop.events], [shop.nothing], [shop.values]");
    for time in ["CreateTime", "SnapshotFinishedTime", "UploadFinishedTime", "FinishedTime"] {
        assert!(is_time(job[time]), "{job:?}");
    }
    assert_eq!((job["Status"], job["Timeout"], job["UnfinishedTasks"]), ("[OK]", "3600", ""));

    let snapshots = client.run("SHOW SNAPSHOT ON r").await;
    assert_eq!(names(&snapshots), "Snapshot Timestamp Status ClusterId FinishTime TTL ExpireTime");
    let timestamp = snapshots.column("Timestamp")[0].to_owned();
    assert!(timestamp.len() == 23 && timestamp.matches('-').count() == 6, "{timestamp}");
    assert_eq!((snapshots.column("Snapshot"), snapshots.column("Status")), (vec!["l"], vec!["OK"]));
    let detail = format!("SHOW SNAPSHOT ON r WHERE SNAPSHOT = 'l' AND TIMESTAMP = '{timestamp}'");
    let detail = client.run(detail).await;
    assert!(names(&detail).starts_with("Snapshot Timestamp Database Details Status"), "{detail:?}");
    let details: serde_json::Value = serde_json::from_str(detail.column("Details")[0]).unwrap();
    assert_eq!((&details["name"], &details["database"]), (&"l".into(), &"shop".into()));
    let tables: Vec<_> = details["backup_objects"].as_object().unwrap().keys().collect();
    assert_eq!(tables, ["events", "nothing", "values"]);
    assert!(details["backup_objects"]["events"]["partitions"]["jan"].is_object(), "{details}");

    let restore = client.run("SHOW RESTORE FROM copy").await;
    assert_eq!(
        names(&restore),
        "JobId Label Timestamp DbName State AllowLoad ReplicationNum RestoreObjs CreateTime MetaPreparedTime \
         SnapshotFinishedTime DownloadFinishedTime FinishedTime UnfinishedTasks Progress TaskErrMsg Status Timeout"
    );
    let job = restore.records().remove(0);
    assert_eq!((job["Label"], job["Timestamp"], job["AllowLoad"]), ("l", timestamp.as_str(), "false"));
    assert_eq!((job["ReplicationNum"], job["Timeout"]), ("1", "86400"));
    assert!(
        job["RestoreObjs"].contains("PARTITIONS [feb, jan]") || job["RestoreObjs"].contains("PARTITIONS [jan, feb]"),
        "{job:?}"
    );
    for time in ["CreateTime", "MetaPreparedTime", "SnapshotFinishedTime", "DownloadFinishedTime", "FinishedTime"] {
        assert!(is_time(job[time]), "{job:?}");
    }
    let repositories = client.run("SHOW REPOSITORIES").await;
    assert_eq!(names(&repositories), "RepoId RepoName CreateTime IsReadOnly Location Broker ErrMsg");
    let row = repositories.records().remove(0);
    assert_eq!((row["RepoName"], row["IsReadOnly"], row["Broker"], row["ErrMsg"]), ("r", "false", "", "NULL"));
    assert_eq!(row["Location"], format!("file://{}", scratch.sub("repository")));
}

/// A job that waits for a slow disk is ended by its deadline, and frees its label.
#[tokio::test]
async fn a_backup_ends_at_its_deadline() {
    let scratch = Scratch::new();
    let ahead = scratch.path().join("ahead");
    std::fs::write(&ahead, "+0s").unwrap();
    let Some(launch) = Launch::standalone(scratch.path()).set("max_upload_speed_kbps", 1).clock(&ahead) else { return };
    let (_server, mut client) = start(&scratch, &launch).await;
    let backup = "BACKUP SNAPSHOT shop.l TO r PROPERTIES ('timeout' = '600'";
    client.run(format!("{backup})")).await;
    client.wait_for_job("BACKUP", "shop", &["UPLOADING"]).await;
    std::fs::write(&ahead, "+590s").unwrap();
    client
        .wait_until(
            "SELECT NOW() > CREATE_TIME + INTERVAL 580 SECOND AS late FROM information_schema.backup_jobs",
            |answer| answer.column("late") == ["1"],
        )
        .await;
    assert_eq!(client.run("SHOW BACKUP FROM shop").await.column("State"), ["UPLOADING"]);
    std::fs::write(&ahead, "+601s").unwrap();
    let job = client.wait_for_job("BACKUP", "shop", &["CANCELLED"]).await;
    assert!(job["Status"].starts_with("[TIMEOUT, msg: backup job with label: l  timeout. "), "{}", job["Status"]);
    set_speed(&mut client, "upload", 0).await;
    client.run(format!("{backup}, 'wait' = 'true')")).await;
}

/// The storage is gone when the snapshot is to be committed, and does not come back: nobody can tell whether the commit
/// was stored, so the job says that when its deadline is long past.
#[tokio::test]
async fn a_backup_whose_repository_is_lost_at_the_commit_ends_after_its_deadline() {
    let scratch = Scratch::new();
    let ahead = scratch.path().join("ahead");
    std::fs::write(&ahead, "+0s").unwrap();
    let launch = Launch::standalone(scratch.path()).stops_at("backup.upload_info.after");
    let Some(launch) = launch.clock(&ahead) else { return };
    let (server, mut client) = start(&scratch, &launch).await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('timeout' = '600')").await;
    client.wait_for_job("BACKUP", "shop", &["UPLOAD_INFO"]).await;
    std::fs::rename(scratch.sub("repository"), scratch.sub("gone")).unwrap();
    client.refused("CANCEL BACKUP FROM shop", 5064, "can not be cancelled. state: UPLOAD_INFO").await;
    server.goes_on();
    std::fs::write(&ahead, "+900s").unwrap();
    let job = client.wait_for_job("BACKUP", "shop", &["CANCELLED"]).await;
    assert!(
        job["Status"].contains("did not say until the deadline whether the snapshot is there"),
        "{}",
        job["Status"]
    );
    std::fs::rename(scratch.sub("gone"), scratch.sub("repository")).unwrap();
    assert!(!client.run("SHOW SNAPSHOT ON r").await.column("Status").contains(&"OK"));
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
}

/// Whoever is told that a database is there can use it at once, whoever of many has made it.
#[tokio::test]
async fn a_database_is_there_when_a_statement_says_so() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = server.connect().await;
        clients.spawn(async move {
            for n in 0..100 {
                client.run(format!("CREATE DATABASE IF NOT EXISTS d{n}; SHOW TABLES FROM d{n}")).await;
            }
        });
    }
    clients.join_all().await;
}
