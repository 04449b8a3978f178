//! One FE and several BEs, each a process; BEs that die in the midst of their tasks and come back.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::client::{Answer, Client};
use super::harness::{HOLDFAST, LATEST, Launch, Scratch, Server, eventually, rowset_files, skip};
use super::sample;

pub struct Cluster {
    pub fe: Server,
    pub bes: Vec<Server>,
}

impl Cluster {
    /// An FE that notices soon that a BE is gone.
    pub fn front_end(dir: &Path) -> Launch {
        Launch::fe(dir).set("heartbeat_interval_ms", 50).set("heartbeat_timeout_second", 2)
    }

    /// One FE, and BEs that it knows and that are alive.
    pub async fn start(scratch: &Scratch, bes: usize) -> Self {
        Self::of(&Self::front_end(scratch.path()), scratch.path(), bes).await
    }

    pub async fn of(fe: &Launch, dir: &Path, bes: usize) -> Self {
        let fe = fe.start();
        let mut cluster = Self { fe, bes: Vec::new() };
        for n in 0..bes {
            cluster.add(Launch::be(dir, &format!("be{n}")).start()).await;
        }
        cluster
    }

    /// Makes another BE known.
    pub async fn add(&mut self, be: Server) {
        let mut client = self.fe.connect().await;
        client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{}'", be.port("be"))).await;
        self.bes.push(be);
        self.all_alive(&mut client).await;
    }

    pub async fn all_alive(&self, client: &mut Client) {
        let alive = |answer: &Answer| answer.column("Alive").iter().filter(|alive| **alive == "true").count();
        client.wait_until("SHOW BACKENDS", |answer| alive(answer) == self.bes.len()).await;
    }

    /// Stops a BE, and waits until the FE has noticed.
    pub async fn kill(&mut self, n: usize) {
        self.bes[n].kill();
        let port = self.bes[n].port("be").to_string();
        let gone =
            |answer: &Answer| answer.records().iter().any(|row| row["BePort"] == port && row["Alive"] == "false");
        self.fe.connect().await.wait_until("SHOW BACKENDS", gone).await;
    }

    /// Stops a BE and starts it again, to die at this place if one is given.
    pub async fn restart(&mut self, n: usize, place: Option<&str>) {
        // Else the FE might take the BE that is gone for the one that comes.
        self.kill(n).await;
        let mut client = self.fe.connect().await;
        let be = &mut self.bes[n];
        // The FE knows it by its port.
        let launch = be.launch.clone().flag("--be-port", be.port("be"));
        *be = match place {
            Some(place) => launch.dies_at(place),
            None => launch.dies_at("nowhere"),
        }
        .start();
        self.all_alive(&mut client).await;
    }
}

#[tokio::test]
async fn tablets_are_spread_and_copied() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch, 2).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE d").await;
    for copies in [1, 2] {
        client
            .run(format!(
                "CREATE TABLE d.t{copies} (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 4 \
                 PROPERTIES ('replication_num' = '{copies}')"
            ))
            .await;
        let rows: Vec<_> = (0..100).map(|k| format!("({k})")).collect();
        client.run(format!("INSERT INTO d.t{copies} VALUES {}", rows.join(","))).await;
        let tablets = client.run(format!("SHOW TABLETS FROM d.t{copies}")).await;
        assert_eq!(tablets.rows.len(), 4 * copies);
        let mut backends = tablets.column("BackendId");
        backends.sort();
        backends.dedup();
        assert_eq!(backends.len(), 2, "{tablets:?}");
    }
    // Four tablets with one copy, and four with two.
    let files: usize = cluster.bes.iter().map(|be| rowset_files(be.launch.data()).len()).sum();
    assert_eq!(files, 12);
    // So are those of partitions with one tablet each.
    client
        .run(
            "CREATE TABLE d.p (k INT) DUPLICATE KEY(k) PARTITION BY RANGE(k) (PARTITION p1 VALUES LESS THAN ('1'), \
             PARTITION p2 VALUES LESS THAN ('2'), PARTITION p3 VALUES LESS THAN ('3'), PARTITION p4 VALUES LESS THAN \
             ('4')) DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES ('replication_num' = '1')",
        )
        .await;
    let tablets = client.run("SHOW TABLETS FROM d.p").await;
    let on = |id| tablets.column("BackendId").iter().filter(|backend| **backend == id).count();
    let first = tablets.column("BackendId")[0].to_owned();
    assert_eq!((tablets.rows.len(), on(&*first)), (4, 2), "{tablets:?}");
    let create = "CREATE TABLE d.three (k INT) PROPERTIES ('replication_num' = '3')";
    client.refused(create, 5064, "replication").await;

    // With one BE gone, the copies serve; what has no other copy says what it misses.
    let mut cluster = cluster;
    cluster.bes[1].kill();
    assert_eq!(client.value("SELECT SUM(k) FROM d.t2").await, "4950");
    let lost = client.try_run("SELECT SUM(k) FROM d.t1").await.unwrap_err();
    assert!(lost.text.contains(&cluster.bes[1].port("be").to_string()), "{lost}");
    // A load is written to all copies or fails.
    assert!(client.try_run("INSERT INTO d.t2 VALUES (1), (2), (3), (4), (5), (6), (7)").await.is_err());
    assert_eq!(client.value("SELECT SUM(k) FROM d.t2").await, "4950");
    cluster.restart(1, None).await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t1").await, "4950");
    client.run("INSERT INTO d.t2 VALUES (50)").await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t2").await, "5000");
}

/// A BE that is stopped keeps its connections, and says nothing on them.
#[tokio::test]
async fn a_stopped_backend_holds_no_select_that_another_can_answer() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch, 2).await;
    let mut client = cluster.fe.connect().await;
    client
        .run(
            "CREATE DATABASE d; CREATE TABLE d.t (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 4 \
             PROPERTIES ('replication_num' = '2'); INSERT INTO d.t VALUES (1), (2), (3), (4), (5), (6), (7), (8)",
        )
        .await;
    client.run("SET query_timeout = 10").await;
    cluster.bes[0].signal("STOP");
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, "36");
    cluster.bes[0].signal("CONT");
}

/// The sample with one copy of each tablet, so that a lost BE is waited for, or with two, so that it is not.
async fn with_sample(cluster: &Cluster, scratch: &Scratch, copies: usize) -> Client {
    let mut client = cluster.fe.connect().await;
    client.run(format!("ADMIN SET FRONTEND CONFIG ('default_replication_num' = '{copies}')")).await;
    sample::create(&mut client, "shop").await;
    client.run(scratch.create_repository()).await;
    client
}

#[tokio::test]
async fn jobs_survive_a_backend_that_dies_in_a_task() {
    for copies in [1, 2] {
        let scratch = Scratch::new();
        let mut cluster = Cluster::start(&scratch, 2).await;
        let mut client = with_sample(&cluster, &scratch, copies).await;
        for (load, place) in [(50, "be.confirm"), (51, "repository.upload")] {
            // Something to upload.
            client.run(sample::events("shop", load)).await;
            let expected = client.contents("shop").await;
            cluster.restart(1, Some(place)).await;
            let label = place.replace('.', "_");
            client.run(format!("BACKUP SNAPSHOT shop.{label} TO r")).await;
            cluster.bes[1].died().await;
            if copies == 2 {
                // The other copy is enough.
                client.finished("BACKUP", "shop").await;
            }
            cluster.restart(1, None).await;
            client.finished("BACKUP", "shop").await;
            client.run(format!("RESTORE SNAPSHOT copy.{label} FROM r {LATEST}")).await;
            assert_eq!(client.contents("copy").await, expected, "{place}, {copies} copies");
            client.run("DROP DATABASE copy FORCE").await;
        }
        let expected = client.contents("shop").await;
        for place in ["be.download", "be.check"] {
            cluster.restart(1, Some(place)).await;
            client
                .run("RESTORE SNAPSHOT copy.repository_upload FROM r PROPERTIES ('backup_timestamp' = 'latest')")
                .await;
            cluster.bes[1].died().await;
            assert_eq!(client.run("SHOW DATABASES LIKE 'copy'").await.rows.len(), 0);
            cluster.restart(1, None).await;
            client.finished("RESTORE", "copy").await;
            assert_eq!(client.contents("copy").await, expected, "{place}, {copies} copies");
            client.run("DROP DATABASE copy FORCE").await;
        }
    }
}

/// A statement that looks at a repository through a BE that dies makes nothing, and can be run again.
#[tokio::test]
async fn a_backend_that_dies_in_a_look_at_a_repository_is_named() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let mut client = cluster.fe.connect().await;
    cluster.restart(1, Some("be.probe")).await;
    let address = format!("127.0.0.1:{}", cluster.bes[1].port("be"));
    let refusal = client.try_run(scratch.create_repository()).await.unwrap_err();
    assert!(refusal.text.contains(&address), "{refusal}");
    cluster.bes[1].died().await;
    assert!(client.run("SHOW REPOSITORIES").await.rows.is_empty());
    cluster.restart(1, None).await;
    client.run(scratch.create_repository()).await;
}

/// A merge whose BE dies changes nothing, and is made when the BE is there again.
#[tokio::test]
async fn a_backend_that_dies_in_a_merge_loses_nothing() {
    let scratch = Scratch::new();
    let fe = Cluster::front_end(scratch.path()).set("compaction_interval_ms", 50).set("compaction_min_files", 3);
    let mut cluster = Cluster::of(&fe, scratch.path(), 2).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT) DISTRIBUTED BY HASH(k) BUCKETS 4").await;
    client.run("INSERT INTO d.t VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12)").await;
    cluster.restart(1, Some("be.compact")).await;
    for _ in 0..2 {
        client.run("INSERT INTO d.t SELECT k FROM d.t").await;
    }
    cluster.bes[1].died().await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, (78 * 4).to_string());
    cluster.restart(1, None).await;
    // Each copy of a tablet ends with one file.
    eventually("merged", || rowset_files(scratch.path()).len() == 8).await;
    assert_eq!(client.value("SELECT SUM(k) FROM d.t").await, (78 * 4).to_string());
}

/// In the midst of a file, not between two.
#[tokio::test]
async fn a_transfer_goes_on_after_its_backend_was_killed() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let mut client = with_sample(&cluster, &scratch, 1).await;
    let expected = client.contents("shop").await;
    for (kind, direction, statement) in [
        ("BACKUP", "upload", "BACKUP SNAPSHOT shop.l TO r"),
        ("RESTORE", "download", "RESTORE SNAPSHOT copy.l FROM r PROPERTIES ('backup_timestamp' = 'latest')"),
    ] {
        let set = |kbps| {
            let key = format!("max_{direction}_speed_kbps");
            format!("UPDATE information_schema.be_configs SET value = '{kbps}' WHERE name = '{key}'")
        };
        let (database, state) = if kind == "BACKUP" { ("shop", "UPLOADING") } else { ("copy", "DOWNLOADING") };
        client.run(set(1)).await;
        client.run(statement).await;
        client.wait_for_job(kind, database, &[state]).await;
        cluster.bes[0].kill();
        assert_eq!(client.run(format!("SHOW {kind} FROM {database}")).await.column("State"), [state]);
        cluster.restart(0, None).await;
        client.run(set(0)).await;
        client.finished(kind, database).await;
    }
    assert_eq!(client.contents("copy").await, expected);
}

/// A job that no BE goes on with, since the FE was started again, ends at its deadline.
#[tokio::test]
async fn a_job_without_backends_ends_at_its_deadline() {
    let scratch = Scratch::new();
    let ahead = scratch.path().join("ahead");
    std::fs::write(&ahead, "+0s").unwrap();
    let Some(fe) = Launch::fe(scratch.path()).set("heartbeat_interval_ms", 50).clock(&ahead) else { return };
    let mut cluster = Cluster::of(&fe, scratch.path(), 1).await;
    let mut client = with_sample(&cluster, &scratch, 1).await;
    cluster.bes[0].kill();
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('timeout' = '600')").await;
    cluster.fe.kill();
    cluster.fe = fe.start();
    let mut client = cluster.fe.connect().await;
    let waits = |answer: &Answer| answer.column("TaskErrMsg")[0].contains("no backend has answered");
    client.wait_until("SHOW BACKUP FROM shop", waits).await;
    std::fs::write(&ahead, "+601s").unwrap();
    let job = client.wait_for_job("BACKUP", "shop", &["CANCELLED"]).await;
    assert!(job["Status"].starts_with("[TIMEOUT, msg: backup job with label: l  timeout. "), "{}", job["Status"]);
}

/// What one BE has lost for good, another has, which is only away for a while.
#[tokio::test]
async fn a_backup_waits_for_the_backend_that_has_its_files() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let mut client = with_sample(&cluster, &scratch, 2).await;
    let expected = client.contents("shop").await;
    for file in rowset_files(cluster.bes[0].launch.data()) {
        std::fs::remove_file(file).unwrap();
    }
    cluster.kill(1).await;
    client.run("BACKUP SNAPSHOT shop.l TO r").await;
    let told = |answer: &Answer| answer.column("TaskErrMsg")[0].contains("it is missing");
    client.wait_until("SHOW BACKUP FROM shop", told).await;
    cluster.restart(1, None).await;
    client.finished("BACKUP", "shop").await;
    client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
    assert_eq!(client.contents("copy").await, expected);
}

/// Tablets that were to go to a BE that never comes back go to another, those too that had arrived there.
#[tokio::test]
async fn a_restore_goes_on_without_a_backend_that_is_lost() {
    for dropped in [false, true] {
        let scratch = Scratch::new();
        let mut cluster = Cluster::start(&scratch, 3).await;
        let mut client = with_sample(&cluster, &scratch, 2).await;
        let expected = client.contents("shop").await;
        client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
        let tolerated = if dropped { 900 } else { 1 };
        client.run(format!("ADMIN SET FRONTEND CONFIG ('tablet_sched_be_down_tolerate_time_s' = '{tolerated}')")).await;
        let speed = |kbps| {
            let name = "max_download_speed_kbps";
            format!("UPDATE information_schema.be_configs SET value = '{kbps}' WHERE name = '{name}'")
        };
        client.run(speed(1)).await;
        client.run("RESTORE SNAPSHOT copy.l FROM r PROPERTIES ('backup_timestamp' = 'latest')").await;
        client.wait_for_job("RESTORE", "copy", &["DOWNLOADING"]).await;
        cluster.bes[0].kill();
        let port = cluster.bes[0].port("be");
        let gone = |answer: &Answer| {
            answer.records().iter().any(|row| row["BePort"] == port.to_string() && row["Alive"] == "false")
        };
        client.wait_until("SHOW BACKENDS", gone).await;
        if dropped {
            client.run(format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{port}' FORCE")).await;
        }
        client.run(speed(0)).await;
        client.finished("RESTORE", "copy").await;
        assert_eq!(client.contents("copy").await, expected);
    }
}

/// What a BE has still to upload when it is dropped, another uploads that has it too; if none has, the job ends and says so.
#[tokio::test]
async fn a_backup_goes_on_without_a_backend_that_is_dropped() {
    for copies in [2, 1] {
        let scratch = Scratch::new();
        let fe = Cluster::front_end(scratch.path()).env("FAILPOINTS", "job.task-files=return(1)");
        let mut cluster = Cluster::of(&fe, scratch.path(), 3).await;
        let mut client = with_sample(&cluster, &scratch, copies).await;
        let expected = client.contents("shop").await;
        let speed = |kbps| {
            let name = "max_upload_speed_kbps";
            format!("UPDATE information_schema.be_configs SET value = '{kbps}' WHERE name = '{name}'")
        };
        client.run(speed(1)).await;
        client.run("BACKUP SNAPSHOT shop.l TO r").await;
        client.wait_for_job("BACKUP", "shop", &["UPLOADING"]).await;
        let dropped = cluster.bes.remove(0);
        let drop = format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{}' FORCE", dropped.port("be"));
        client.run(drop).await;
        client.run(speed(0)).await;
        if copies == 1 {
            client.wait_for_job("BACKUP", "shop", &["CANCELLED"]).await;
            let status = client.run("SHOW BACKUP FROM shop").await.column("Status")[0].to_owned();
            assert!(status.contains("it was dropped, and no other backend has its files"), "{status}");
            continue;
        }
        client.finished("BACKUP", "shop").await;
        client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
        assert_eq!(client.contents("copy").await, expected);
    }
}

#[tokio::test]
async fn a_load_is_on_all_backends_or_on_none() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    loads(&mut cluster, &scratch, || ()).await;
}

/// The second of two BEs dies in loads. `loses` takes what is lost with it.
pub async fn loads(cluster: &mut Cluster, scratch: &Scratch, loses: impl Fn()) {
    let mut client = with_sample(cluster, scratch, 2).await;
    let mut load = 50;
    for place in ["be.write.before-install", "be.write.after-install", "be.clone"] {
        let before = client.checksum("shop.events").await;
        cluster.restart(1, Some(place)).await;
        let mut rows = before.rows();
        // The FE decides who encodes and who copies; sooner or later it is this BE.
        while !cluster.bes[1].has_ended() {
            load += 1;
            assert!(load < 90, "{place}: no load came there");
            match client.try_run(sample::events("shop", load)).await {
                Ok(_) => rows += 200,
                Err(_) => drop(cluster.bes[1].ended().await),
            }
        }
        let after = client.checksum("shop.events").await;
        assert_eq!(after.rows(), rows, "{place}: a load is there by halves, or is lost, or has failed and is there");
        cluster.bes[1].died().await;
        loses();
        cluster.restart(1, None).await;
        assert_eq!(client.checksum("shop.events").await, after, "{place}");
        client.run(sample::events("shop", load)).await;
        assert_eq!(client.checksum("shop.events").await.rows(), after.rows() + 200);
    }
}

#[tokio::test]
async fn the_front_end_comes_back_to_its_backends() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let mut client = with_sample(&cluster, &scratch, 1).await;
    let expected = client.contents("shop").await;
    client.run("UPDATE information_schema.be_configs SET value = '1' WHERE name = 'max_upload_speed_kbps'").await;
    client.run("BACKUP SNAPSHOT shop.l TO r").await;
    client.wait_for_job("BACKUP", "shop", &["UPLOADING"]).await;
    cluster.fe.kill();
    cluster.fe = cluster.fe.launch.start();
    let mut client = cluster.fe.connect().await;
    cluster.all_alive(&mut client).await;
    client.run("UPDATE information_schema.be_configs SET value = '0' WHERE name = 'max_upload_speed_kbps'").await;
    client.finished("BACKUP", "shop").await;
    assert_eq!(client.contents("shop").await, expected);
    client.run(format!("RESTORE SNAPSHOT copy.l FROM r {}", LATEST.replace(')', ", 'replication_num' = '1')"))).await;
    assert_eq!(client.contents("copy").await, expected);
}

/// Strangers change nothing: a BE serves the cluster it joined first.
#[tokio::test]
async fn a_backend_belongs_to_one_cluster() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch, 1).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    let other = scratch.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let stranger = Launch::fe(&other).start();
    let mut strange = stranger.connect().await;
    let add = format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{}'", cluster.bes[0].port("be"));
    let refusal = strange.try_run(add).await;
    let shown = strange.run("SHOW BACKENDS").await;
    assert!(refusal.is_err() || shown.column("Alive") == ["false"], "{shown:?}");
    assert!(strange.try_run("CREATE DATABASE d; CREATE TABLE d.t (k INT)").await.is_err());
    assert_eq!(client.value("SELECT k FROM d.t").await, "1");
}

/// Of a list of BEs all are added, or none.
#[tokio::test]
async fn backends_are_added_all_or_none() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 1).await;
    let mut client = cluster.fe.connect().await;
    let other = Launch::be(scratch.path(), "other").start();
    let port = other.port("be");
    let add = format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{port}', '127.0.0.1:1'");
    let refusal = client.refused(add, 5064, "no backend was added").await;
    assert!(refusal.text.contains("127.0.0.1:1"), "{refusal}");
    assert_eq!(client.run("SHOW BACKENDS").await.rows.len(), 1);
    cluster.add(other).await;
}

/// A change for all BEs says which of them it did not reach.
#[tokio::test]
async fn a_change_for_all_backends_names_the_dead() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let mut client = cluster.fe.connect().await;
    let set = "UPDATE information_schema.be_configs SET value = '7' WHERE name = 'upload_worker_count'";
    client.run(set).await;
    assert!(client.run("SHOW WARNINGS").await.rows.is_empty());
    for dead in 0..2 {
        let port = cluster.bes[dead].port("be").to_string();
        cluster.bes[dead].kill();
        let gone =
            |answer: &Answer| answer.records().iter().any(|row| row["BePort"] == port && row["Alive"] == "false");
        client.wait_until("SHOW BACKENDS", gone).await;
        if dead == 0 {
            client.run(set).await;
            let warnings = client.run("SHOW WARNINGS").await;
            assert_eq!(warnings.rows.len(), 1, "{warnings:?}");
            assert!(warnings.column("Message")[0].contains(&format!("127.0.0.1:{port}' is not alive")), "{warnings:?}");
        }
    }
    client.refused(set, 5064, "no backend is alive").await;
}

/// A directory that is not shared by all is no repository, and who lacks it is named.
#[tokio::test]
async fn a_backend_without_the_repositorys_disk_is_named() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("repository");
    std::fs::create_dir(&folder).unwrap();
    let Some(other) = Launch::be(scratch.path(), "other").hiding(&folder) else { return };
    let mut cluster = Cluster::start(&scratch, 1).await;
    let mut client = cluster.fe.connect().await;
    let other = other.start();
    let address = format!("127.0.0.1:{}", other.port("be"));
    cluster.add(other).await;
    let refusal = client.refused(scratch.create_repository(), 5064, "is the storage mounted?").await;
    assert!(refusal.text.contains(&format!("on backend {address}")), "{refusal}");
    assert!(client.run("SHOW REPOSITORIES").await.rows.is_empty());
}

#[tokio::test]
async fn a_repository_in_a_backends_own_directory_is_refused() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch, 1).await;
    let mut client = cluster.fe.connect().await;
    let inside = cluster.bes[0].launch.data().join("storage/backups");
    let create = format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", inside.display());
    client.refused(create, 5064, "the backend's own directory").await;
    assert!(client.run("SHOW REPOSITORIES").await.rows.is_empty());
}

/// The script that people start a cluster with: one FE and three BEs, which come back with their data.
#[tokio::test]
async fn the_script_starts_a_cluster() {
    if Command::new("mariadb").arg("--version").output().is_err() {
        return skip("the mariadb command line", "apt install mariadb-client");
    }
    let scratch = Scratch::new();
    for start in ["first", "second"] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster.sh");
        let mut command = Command::new(script);
        command.args([scratch.sub("cluster").as_str(), HOLDFAST]).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines: Vec<_> =
            BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).take(5).collect();
        assert_eq!(lines.last().map(String::as_str), Some("ready"), "{lines:?}");
        let port = lines[0].split_once("mysql 127.0.0.1:").unwrap().1.split(',').next().unwrap();
        let mut client = Client::connect(port.parse().unwrap()).await;
        if start == "first" {
            client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1), (2)").await;
            client
                .run(format!("{}; BACKUP SNAPSHOT d.l TO r PROPERTIES ('wait' = 'true')", scratch.create_repository()))
                .await;
        }
        let definition = client.run("SHOW CREATE TABLE d.t").await.rows[0][1].clone().unwrap();
        assert!(definition.contains("\"replication_num\" = \"3\""), "{definition}");
        client.run(format!("RESTORE SNAPSHOT {start}.l FROM r {LATEST}")).await;
        assert_eq!(client.value(&format!("SELECT SUM(k) FROM {start}.t")).await, "3");
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert!(status.success(), "{status}");
    }
}
