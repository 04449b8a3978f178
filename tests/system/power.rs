//! Power cuts: a file system in a file loses everything that was not synced, and the servers on it come back.
//!
//! The server dies, and the file under the mounted file system is copied: what is still in the kernel's cache of the
//! file system is not in the copy, as it would not be on a disk. The copy takes its place, is mounted (the journal is
//! replayed), and the server starts on it. Most of the histories are those of `crash.rs`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::Client;
use super::cluster::{self, Cluster};
use super::crash::{self, Ground};
use super::harness::{LATEST, Launch, Scratch, WAIT, skip};
use super::{rawkv, sample};

/// A disk whose power can be cut.
pub struct Disk {
    scratch: Scratch,
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// `None`, after saying so, where file systems cannot be mounted.
    pub fn new(megabytes: u32) -> Option<Self> {
        let scratch = Scratch::new();
        let (image, mount) = (scratch.path().join("image"), scratch.path().join("mount"));
        std::fs::create_dir(&mount).unwrap();
        let disk = Self { scratch, image, mount };
        let size = format!("{megabytes}M");
        let made = run("truncate", &["-s", &size, disk.image()]) && run("mkfs.ext4", &["-q", disk.image()]);
        if made && disk.mounted() {
            return Some(disk);
        }
        skip("mkfs.ext4, root and loop devices", "apt-get install e2fsprogs mount, and run as root");
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    fn image(&self) -> &str {
        self.image.to_str().unwrap()
    }

    /// Without the habits by which ext4 syncs what a program forgot to.
    fn mounted(&self) -> bool {
        run("mount", &["-o", "loop,commit=300,noauto_da_alloc", self.image(), self.mount.to_str().unwrap()])
    }

    /// Cuts the power and brings it back. The server must be dead.
    pub fn cut(&self) {
        let copy = self.scratch.path().join("copy");
        assert!(run("cp", &["--sparse=always", self.image(), copy.to_str().unwrap()]));
        assert!(run("umount", &[self.mount.to_str().unwrap()]));
        std::fs::rename(copy, &self.image).unwrap();
        assert!(self.mounted());
    }

    /// Fills it, but for so many bytes. Room is made by removing the directory.
    fn fill(&self, left: u64) -> PathBuf {
        let ballast = self.mount.join("ballast");
        std::fs::create_dir(&ballast).unwrap();
        let file = ballast.join("file");
        assert!(!run("dd", &["if=/dev/zero", &format!("of={}", file.display()), "bs=4k"]), "the disk is not full");
        assert!(run("sync", &[]));
        // Each takes a block.
        let all = (0..).take_while(|n| std::fs::create_dir(ballast.join(n.to_string())).is_ok()).count();
        assert!(all < 10_000, "the disk is not full");
        let file = File::options().write(true).open(&file).unwrap();
        file.set_len(file.metadata().unwrap().len() - left).unwrap();
        assert!(run("sync", &[]));
        ballast
    }

    fn launch(&self) -> Launch {
        Launch::standalone(&self.mount)
    }

    fn repository(&self) -> String {
        format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}/repository'", self.mount.display())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.mount.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut() {
    let Some(disk) = Disk::new(256) else { return };
    let launch = disk.launch();
    let mut expected = None;
    let statements = [
        "CREATE DATABASE shop".to_owned(),
        disk.repository(),
        "CREATE TABLE shop.t (k INT, v VARCHAR(20)) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 3".to_owned(),
        "INSERT INTO shop.t VALUES (1, 'a'), (2, 'b'), (3, NULL)".to_owned(),
        "INSERT INTO shop.t SELECT k + 10, v FROM shop.t".to_owned(),
        format!("BACKUP SNAPSHOT shop.l TO r {WAIT}"),
        "DROP DATABASE shop FORCE".to_owned(),
        format!("RESTORE SNAPSHOT shop.l FROM r {LATEST}"),
        "TRUNCATE TABLE shop.t".to_owned(),
        format!("RESTORE SNAPSHOT shop.l FROM r {LATEST}"),
    ];
    for statement in statements {
        let mut server = launch.start();
        let mut client = server.connect().await;
        if let Some((tables, content)) = &expected {
            assert_eq!(*tables, tables_of(&mut client).await, "before {statement}");
            assert_eq!(*content, contents(&mut client).await, "before {statement}");
        }
        client.run(&statement).await;
        expected = Some((tables_of(&mut client).await, contents(&mut client).await));
        server.kill();
        disk.cut();
    }
    let server = launch.start();
    let mut client = server.connect().await;
    assert_eq!(client.value("SELECT COUNT(*) FROM shop.t").await, "6");
    assert_eq!(expected.unwrap().1, contents(&mut client).await);
    assert_eq!(client.run("SHOW SNAPSHOT ON r").await.column("Status"), ["OK"]);
}

async fn tables_of(client: &mut Client) -> Vec<String> {
    let tables = client.run("SELECT table_schema, table_name FROM information_schema.tables").await;
    let mut names: Vec<String> = tables.rows.iter().map(|row| format!("{row:?}")).collect();
    names.sort();
    names
}

async fn contents(client: &mut Client) -> Option<super::client::Contents> {
    let databases = client.run("SHOW DATABASES LIKE 'shop'").await;
    match databases.rows.is_empty() {
        true => None,
        false => Some(client.contents("shop").await),
    }
}

#[tokio::test]
async fn raw_keys_and_their_backups_survive_a_power_cut() {
    let Some(disk) = Disk::new(256) else { return };
    let launch = disk.launch();
    let uri = format!("local://{}/raw", disk.mount.display());
    let statements = [
        "CREATE DATABASE rawkv".to_owned(),
        "INSERT INTO rawkv.default VALUES ('a', '1'), ('b', '2'), ('c', REPEAT('3', 1000))".to_owned(),
        format!("BACKUP RAW TO '{uri}' {WAIT}"),
        "DELETE FROM rawkv.default WHERE k >= 'b'".to_owned(),
        format!("RESTORE RAW FROM '{uri}' {WAIT}"),
        "INSERT INTO rawkv.default VALUES ('a', 'new'), ('d', '4')".to_owned(),
        format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true', 'replace' = 'true')"),
    ];
    let mut expected = None;
    for statement in &statements {
        let mut server = launch.start();
        let mut client = server.connect().await;
        if let Some(expected) = &expected {
            assert_eq!(rawkv::contents(&mut client).await, *expected, "before {statement}");
        }
        client.run(statement).await;
        expected = Some(rawkv::contents(&mut client).await);
        server.kill();
        disk.cut();
    }
    let server = launch.start();
    let mut client = server.connect().await;
    assert_eq!(rawkv::contents(&mut client).await, expected.unwrap());
    assert_eq!(client.value("SELECT COUNT(*) FROM rawkv.default").await, "3");
    let verified = client.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await;
    assert_eq!(verified.column("Result"), ["OK"]);
}

/// Neither a backup nor a restore on a full disk loses anything, and what could not be done can be done again.
#[tokio::test]
async fn raw_keys_on_a_full_disk() {
    let Some(disk) = Disk::new(512) else { return };
    let (scratch, launch) = (Scratch::new(), disk.launch());
    let server = launch.start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', '1'), ('b', REPEAT('x', 1000000))").await;
    let before = rawkv::contents(&mut client).await;
    let elsewhere = format!("local://{}", scratch.sub("elsewhere"));
    client.run(format!("BACKUP RAW TO '{elsewhere}' {WAIT}")).await;
    let ballast = disk.mount.join("ballast");
    assert!(!run("dd", &["if=/dev/zero", &format!("of={}", ballast.display()), "bs=64k"]), "the disk is not full");
    let here = format!("local://{}/raw", disk.mount.display());
    for statement in [format!("BACKUP RAW TO '{here}' {WAIT}"), format!("RESTORE RAW FROM '{elsewhere}' {WAIT}")] {
        let refusal = client.try_run(&statement).await.expect_err(&statement);
        let text = format!("{refusal:?}");
        assert!(text.contains("storage space") || text.contains("No space left"), "{statement}: {text}");
    }
    let insert = "INSERT INTO rawkv.default VALUES ('c', REPEAT('x', 1000000))";
    for _ in 0..3 {
        let text = client.try_run(insert).await.unwrap_err().text;
        assert!(text.contains("storage space") || text.contains("No space left"), "{text}");
    }
    assert_eq!(rawkv::contents(&mut client).await, before);
    std::fs::remove_file(ballast).unwrap();
    client.run(insert).await;
    client.run("DELETE FROM rawkv.default WHERE k = 'c'").await;
    client.run(format!("BACKUP RAW TO '{here}' {WAIT}")).await;
    client.run(format!("RESTORE RAW FROM '{here}' {WAIT}")).await;
    assert_eq!(rawkv::contents(&mut client).await, before);
    assert!(server.stop().await.success());
}

/// A raw store whose disk has failed acknowledges nothing any more, and its process ends. On a disk that works it has what
/// was acknowledged, and goes on.
#[tokio::test]
async fn a_raw_store_whose_disk_fails_ends_its_process() {
    let Some(disk) = Disk::new(256) else { return };
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 0).await;
    cluster.add(Launch::be(disk.path(), "be").start()).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', '1')").await;
    let before = rawkv::contents(&mut client).await;
    // As when the disk itself reports an error: from now on the file system refuses all writes.
    assert!(run("mount", &["-o", "remount,abort", disk.mount.to_str().unwrap()]));
    let insert = "INSERT INTO rawkv.default VALUES ('b', '2')";
    let refusal = client.try_run(insert).await.unwrap_err();
    assert!(refusal.text.contains("write"), "{refusal}");
    while !cluster.bes[0].has_ended() {
        assert!(client.try_run(insert).await.is_err());
    }
    assert_eq!(cluster.bes[0].ended().await.code(), Some(1));
    disk.cut();
    cluster.restart(0, None).await;
    assert_eq!(rawkv::contents(&mut client).await, before);
    client.run(insert).await;
    assert_eq!(rawkv::contents(&mut client).await.len(), 2);
}

/// A backup whose disk fills up while files are written ends with the reason, and leaves nothing there.
#[tokio::test]
async fn a_disk_fills_up_under_a_raw_backup() {
    let Some(disk) = Disk::new(64) else { return };
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    for n in 0..40 {
        let rows: Vec<_> =
            (0..200).map(|row| format!("('{n}-{row}', CONCAT(SHA2('{n}-{row}', 512), MD5('{row}{n}')))")).collect();
        client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "))).await;
    }
    let ballast = disk.mount.join("ballast");
    assert!(!run("dd", &["if=/dev/zero", &format!("of={}", ballast.display()), "bs=64k"]), "the disk is not full");
    assert!(run("truncate", &["-s", "-131072", ballast.to_str().unwrap()]) && run("sync", &[]));
    let directory = disk.mount.join("raw");
    let backup = format!("BACKUP RAW TO 'local://{}' {WAIT}", directory.display());
    let refusal = client.try_run(&backup).await.unwrap_err();
    assert!(refusal.text.contains("storage space") || refusal.text.contains("No space left"), "{refusal}");
    let job = client.run("SHOW BACKUP FROM rawkv").await;
    assert!(job.column("State") == ["CANCELLED"] && job.column("SnapshotFinishedTime") != ["NULL"], "{job:?}");
    assert!(super::harness::files(&directory).is_empty());
    std::fs::remove_file(ballast).unwrap();
    client.run(&backup).await;
}

/// Nor does one whose disk is full when all that is missing is `backupmeta`.
#[tokio::test]
async fn a_disk_is_full_at_the_end_of_a_raw_backup() {
    let Some(disk) = Disk::new(64) else { return };
    let scratch = Scratch::new();
    let held = scratch.path().join("held");
    let server = Launch::standalone(scratch.path()).held_at("backup-raw.upload_info.after", &held).start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', 'b')").await;
    let directory = disk.mount.join("raw");
    let backup = format!("BACKUP RAW TO 'local://{}'", directory.display());
    client.run(&backup).await;
    client.wait_for_job("BACKUP", "rawkv", &["UPLOAD_INFO"]).await;
    let ballast = disk.mount.join("ballast");
    assert!(!run("dd", &["if=/dev/zero", &format!("of={}", ballast.display()), "bs=64k"]), "the disk is not full");
    assert!(!run("dd", &["if=/dev/zero", &format!("of={}.2", ballast.display()), "bs=1k"]), "the disk is not full");
    std::fs::remove_file(held).unwrap();
    let job = client.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
    assert!(job["Status"].contains("storage space") || job["Status"].contains("No space left"), "{job:?}");
    super::harness::eventually("its files go", || super::harness::files(&directory).is_empty()).await;
    std::fs::remove_file(ballast).unwrap();
    client.run(format!("{backup} {WAIT}")).await;
}

/// A restore that has begun to store keys waits for room on a full disk, because it has deleted others for them.
#[tokio::test]
async fn a_raw_restore_waits_for_room_on_its_disk() {
    let Some(disk) = Disk::new(256) else { return };
    let scratch = Scratch::new();
    let held = scratch.path().join("held");
    let server = disk.launch().held_at("be.raw-ingest", &held).start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run(sample::raw_keys(1)).await;
    let expected = rawkv::contents(&mut client).await;
    let uri = format!("local://{}", scratch.sub("raw"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    client.run(format!("RESTORE RAW FROM '{uri}' PROPERTIES ('replace' = 'true')")).await;
    client.wait_for_job("RESTORE", "rawkv", &["COMMITTING"]).await;
    let empty = |answer: &super::client::Answer| answer.rows[0][0].as_deref() == Some("0");
    client.wait_until("SELECT COUNT(*) FROM rawkv.default", empty).await;
    let ballast = disk.mount.join("ballast");
    assert!(!run("dd", &["if=/dev/zero", &format!("of={}", ballast.display()), "bs=64k"]), "the disk is not full");
    std::fs::remove_file(held).unwrap();
    let told = |answer: &super::client::Answer| answer.column("TaskErrMsg")[0].contains("no storage space");
    client.wait_until("SHOW RESTORE FROM rawkv", told).await;
    assert_eq!(client.run("SHOW RESTORE FROM rawkv").await.column("State"), ["COMMITTING"]);
    std::fs::remove_file(ballast).unwrap();
    client.finished("RESTORE", "rawkv").await;
    assert_eq!(rawkv::contents(&mut client).await, expected);
    assert!(server.stop().await.success());
}

/// So does one that has to fetch its files again, because its BE was started anew.
#[tokio::test]
async fn a_raw_restore_waits_for_room_to_fetch_again() {
    let Some(disk) = Disk::new(256) else { return };
    let scratch = Scratch::new();
    let [storing, fetching] = ["storing", "fetching"].map(|name| scratch.path().join(name));
    let mut cluster = Cluster::start(&scratch, 0).await;
    let launch = Launch::be(disk.path(), "be");
    cluster.add(launch.clone().held_at("be.raw-ingest", &storing).start()).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run(sample::raw_keys(1)).await;
    let expected = rawkv::contents(&mut client).await;
    let uri = format!("local://{}", scratch.sub("raw"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    client.run(format!("RESTORE RAW FROM '{uri}' PROPERTIES ('replace' = 'true')")).await;
    let empty = |answer: &super::client::Answer| answer.rows[0][0].as_deref() == Some("0");
    client.wait_until("SELECT COUNT(*) FROM rawkv.default", empty).await;
    super::harness::held(&storing).await;
    cluster.kill(0).await;
    cluster.bes[0] = launch.held_at("be.raw-fetch", &fetching).start();
    super::harness::held(&fetching).await;
    let ballast = disk.fill(0);
    std::fs::remove_file(fetching).unwrap();
    let ended = |answer: &super::client::Answer| answer.column("State") != ["COMMITTING"];
    let told = |answer: &super::client::Answer| {
        let message = answer.column("TaskErrMsg")[0].to_owned();
        message.contains("storage space") || message.contains("No space left")
    };
    let shown = client.wait_until("SHOW RESTORE FROM rawkv", |answer| told(answer) || ended(answer)).await;
    assert!(!ended(&shown), "{shown:?}");
    std::fs::remove_dir_all(ballast).unwrap();
    client.finished("RESTORE", "rawkv").await;
    assert_eq!(rawkv::contents(&mut client).await, expected);
}

/// A BE whose disk is full backs its keys up elsewhere. Restores and loads, of raw keys and of tables, do not bring it files
/// for which it has room, but that would take what its store of raw keys must find: that would be its end.
#[tokio::test]
async fn what_comes_leaves_the_raw_store_its_room() {
    let Some(disk) = Disk::new(256) else { return };
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 0).await;
    cluster.add(Launch::be(disk.path(), "be").start()).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run(sample::raw_keys(1)).await;
    let expected = rawkv::contents(&mut client).await;
    client.run(format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", scratch.sub("repository"))).await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    client.run(format!("BACKUP SNAPSHOT d.l TO r {WAIT}")).await;
    let ballast = disk.fill(0);
    let uri = format!("local://{}", scratch.sub("raw"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    std::fs::remove_dir_all(ballast).unwrap();
    let ballast = disk.fill(48 << 20);
    let restore = format!("RESTORE RAW FROM '{uri}' PROPERTIES ('replace' = 'true')");
    client.run(&restore).await;
    let job = client.wait_for_job("RESTORE", "rawkv", &["CANCELLED", "FINISHED"]).await;
    assert!(job["Status"].contains("no storage space"), "{job:?}");
    assert_eq!(rawkv::contents(&mut client).await, expected);
    client.refused("INSERT INTO d.t VALUES (2)", 1105, "no storage space").await;
    client.run("RESTORE SNAPSHOT copy.l FROM r PROPERTIES ('backup_timestamp' = 'latest')").await;
    let job = client.wait_for_job("RESTORE", "copy", &["CANCELLED", "FINISHED"]).await;
    assert!(job["Status"].contains("no storage space"), "{job:?}");
    assert!(!cluster.bes[0].has_ended());
    std::fs::remove_dir_all(ballast).unwrap();
    client.run("INSERT INTO d.t VALUES (2)").await;
    client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
    assert_eq!(client.value("SELECT k FROM copy.t").await, "1");
    client.run(&restore).await;
    client.finished("RESTORE", "rawkv").await;
    assert_eq!(rawkv::contents(&mut client).await, expected);
}

/// Histories of `crash.rs`, in which the power goes with the server.
macro_rules! power_cuts {
    ($($name:ident = $history:ident)+) => {
        $(#[tokio::test]
        async fn $name() {
            let Some(disk) = Disk::new(256) else { return };
            crash::$history(&Ground::Disk(disk)).await;
        })+
    };
}

power_cuts! {
    a_backup_goes_on_after_a_power_cut_at_any_record = backups
    a_restore_goes_on_after_a_power_cut_at_any_record = restores
    a_cancelled_job_ends_with_its_record = cancellations
    a_failed_job_ends_with_its_record = failures
    a_load_is_wholly_there_or_wholly_absent = loads
    compaction_loses_nothing = compactions
    a_large_commit_is_decided_in_one_instant = large_commits
    a_raw_backup_begins_again_after_a_power_cut_at_any_record = raw_backups
    a_raw_restore_goes_on_after_a_power_cut_at_any_record = raw_restores
    a_cancelled_raw_job_ends_with_its_record = raw_cancellations
}

#[tokio::test]
async fn a_write_of_raw_keys_and_a_power_cut() {
    let Some(disk) = Disk::new(256) else { return };
    rawkv::writes(&Ground::Disk(disk)).await;
}

/// The power of one BE goes in a load, also while it copies what the other has encoded.
#[tokio::test]
async fn a_load_is_on_all_backends_or_on_none_after_a_power_cut() {
    let Some(disk) = Disk::new(256) else { return };
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 1).await;
    cluster.add(Launch::be(disk.path(), "be1").start()).await;
    cluster::loads(&mut cluster, &scratch, || disk.cut()).await;
}

/// A table of many tablets makes large pages in the catalog's files: each acknowledged load and backup stays.
#[tokio::test]
async fn large_pages_of_the_catalog_survive_a_power_cut() {
    let Some(disk) = Disk::new(512) else { return };
    let launch = disk.launch().set("max_bucket_number_per_partition", 4000);
    let mut server = launch.start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d").await;
    client.run(disk.repository()).await;
    client.run("CREATE TABLE d.wide (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 4000").await;
    for round in 1..=3 {
        for n in 0..4 {
            let load = round * 10 + n;
            let rows: Vec<_> = (0..50).map(|k| format!("({})", load * 1000 + k)).collect();
            client.run(format!("INSERT INTO d.wide VALUES {}", rows.join(","))).await;
            client.run(format!("BACKUP SNAPSHOT d.l{load} TO r {WAIT}")).await;
        }
        server.kill();
        disk.cut();
        server = launch.start();
        client = server.connect().await;
        assert_eq!(client.value("SELECT COUNT(*) FROM d.wide").await, (round * 200).to_string());
        let ended = "SELECT COUNT(*) FROM information_schema.backup_jobs WHERE STATE = 'FINISHED'";
        assert_eq!(client.value(ended).await, (round * 4).to_string());
    }
}

/// A repository and a data directory on a full disk: an error that says so, and nothing is lost.
#[tokio::test]
async fn a_full_disk_is_an_error_and_nothing_is_lost() {
    let Some(disk) = Disk::new(64) else { return };
    let (scratch, launch) = (Scratch::new(), disk.launch());
    let server = launch.start();
    let mut client = server.connect().await;
    sample::create(&mut client, "shop").await;
    let before = client.contents("shop").await;
    client.run(disk.repository()).await;
    client.run(format!("CREATE REPOSITORY other WITH BROKER ON LOCATION 'file://{}'", scratch.sub("other"))).await;
    let ballast = disk.mount.join("ballast");
    assert!(!run("dd", &["if=/dev/zero", &format!("of={}", ballast.display()), "bs=64k"]), "the disk is not full");
    for statement in [
        format!("BACKUP SNAPSHOT shop.l TO r {WAIT}"),
        format!("BACKUP SNAPSHOT shop.l TO other {WAIT}"),
        sample::events("shop", 77),
        "CREATE DATABASE d".to_owned(),
    ] {
        let refusal = client.try_run(&statement).await.expect_err(&statement);
        assert!(
            format!("{refusal:?}").to_lowercase().contains("storage space")
                || format!("{refusal:?}").contains("No space left"),
            "{statement}: {refusal:?}"
        );
    }
    assert_eq!(client.contents("shop").await, before);
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(client.contents("shop").await, before);
    client.run(format!("BACKUP SNAPSHOT shop.l TO r {WAIT}")).await;
    client.run(format!("RESTORE SNAPSHOT copy.l FROM r {LATEST}")).await;
    assert_eq!(client.contents("copy").await, before);
    assert!(server.stop().await.success());
}
