//! Servers that die at every record they write, and come back: what was acknowledged is there, what was not is there
//! wholly or not at all, and jobs go on to their end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::{Client, Contents};
use super::cluster::Cluster;
use super::harness::{LATEST, Launch, Scratch, Server, WAIT, eventually, files, rowset_files};
use super::power::Disk;
use super::raw_backup::ssts;
use super::{rawkv, sample};

/// The records that a BACKUP writes.
const BACKUP: [&str; 7] =
    ["pending", "snapshoting", "upload_snapshot", "uploading", "save_meta", "upload_info", "finished"];

/// The records that a RESTORE writes.
const RESTORE: [&str; 7] = ["pending", "snapshoting", "download", "downloading", "commit", "committing", "finished"];

/// The records that a BACKUP RAW writes.
const RAW_BACKUP: [&str; 5] = ["pending", "snapshoting", "uploading", "upload_info", "finished"];

/// The records that a RESTORE RAW writes.
const RAW_RESTORE: [&str; 4] = ["pending", "downloading", "committing", "finished"];

const RESTORE_SHOP: &str = "RESTORE SNAPSHOT shop.l FROM r PROPERTIES ('backup_timestamp' = 'latest')";

/// Before and after each record.
fn places(job: &str, records: &[&str]) -> Vec<String> {
    records.iter().flat_map(|state| ["before", "after"].map(|side| format!("{job}.{state}.{side}"))).collect()
}

/// What a server that dies stands on.
pub enum Ground {
    /// A directory: what was written is there.
    Directory(Scratch),
    /// A disk whose power goes with the server: what was not synced is lost.
    Disk(Disk),
    /// An FE dies, with the power of its disk if it has one. Its BEs live on, with what they were doing.
    FrontEnd { scratch: Scratch, disk: Option<Disk>, _bes: Vec<Server> },
}

impl Ground {
    pub fn directory() -> Self {
        Self::Directory(Scratch::new())
    }

    pub async fn front_end(disk: Option<Disk>) -> Self {
        let scratch = Scratch::new();
        let launch = Self::front_end_launch(&scratch, disk.as_ref());
        let Cluster { fe, bes } = Cluster::of(&launch, scratch.path(), 2).await;
        assert!(fe.stop().await.success());
        Self::FrontEnd { scratch, disk, _bes: bes }
    }

    fn front_end_launch(scratch: &Scratch, disk: Option<&Disk>) -> Launch {
        // So that a file that one BE lacks is nowhere.
        Cluster::front_end(disk.map_or(scratch.path(), Disk::path)).set("default_replication_num", 1)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Directory(scratch) | Self::FrontEnd { scratch, .. } => scratch.path(),
            Self::Disk(disk) => disk.path(),
        }
    }

    /// These places, if it is the server that comes to them.
    fn of_backends(&self, places: &[&str]) -> Vec<String> {
        match self {
            Self::FrontEnd { .. } => Vec::new(),
            _ => places.iter().map(|place| (*place).to_owned()).collect(),
        }
    }

    fn repository(&self) -> PathBuf {
        self.path().join("repository")
    }

    pub fn launch(&self) -> Launch {
        match self {
            Self::FrontEnd { scratch, disk, .. } => Self::front_end_launch(scratch, disk.as_ref()),
            _ => Launch::standalone(self.path()),
        }
    }

    /// Waits until a server has died, and takes what dies with it.
    pub async fn buries(&self, mut server: Server) {
        server.died().await;
        self.loses();
    }

    /// What is lost with a server that is dead.
    fn loses(&self) {
        if let Self::Disk(disk) | Self::FrontEnd { disk: Some(disk), .. } = self {
            disk.cut();
        }
    }

    /// The sample in the database `shop` and a repository `r`.
    async fn prepare(&self) {
        let (server, mut client) = self.launch().open().await;
        sample::create(&mut client, "shop").await;
        let location = self.repository();
        client.run(format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", location.display())).await;
        assert!(server.stop().await.success());
    }

    /// With a backup `l` as well; what it has.
    async fn prepare_with_backup(&self) -> Contents {
        self.prepare().await;
        let (server, mut client) = self.launch().open().await;
        client.run(format!("BACKUP SNAPSHOT shop.l TO r {WAIT}")).await;
        let contents = client.contents("shop").await;
        assert!(server.stop().await.success());
        contents
    }

    /// Some raw keys; what they are.
    async fn prepare_raw(&self) -> BTreeMap<String, String> {
        let (server, mut client) = self.launch().open().await;
        client.run("CREATE DATABASE rawkv").await;
        client.run(sample::raw_keys(1)).await;
        let keys = rawkv::contents(&mut client).await;
        assert!(server.stop().await.success());
        keys
    }

    /// A directory for raw backups.
    fn raw(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// Before a record, the server that resumes the job dies once more.
    async fn dies_again(&self, place: &str) {
        if place.ends_with(".before") && !place.contains("pending") {
            // It may die before it is ready.
            if let Ok(server) = self.launch().dies_at(place).try_start() {
                self.buries(server).await;
            }
        }
    }

    /// Names of the locks of a label.
    fn locks(&self, label: &str) -> Vec<String> {
        let folder = self.repository().join(format!("__holdfast_repository_r/__ss_{label}"));
        let names = files(folder).into_iter().map(|file| file.file_name().unwrap().to_owned());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with("__lock_")).collect()
    }
}

async fn restored_equals(client: &mut Client, label: &str, expected: &Contents) {
    client.run(format!("RESTORE SNAPSHOT copy.{label} FROM r {LATEST}")).await;
    assert_eq!(client.contents("copy").await, *expected, "{label}");
    client.run("DROP DATABASE copy FORCE").await;
}

#[tokio::test]
async fn a_backup_goes_on_after_a_crash_at_any_record() {
    backups(&Ground::directory()).await;
}

pub async fn backups(ground: &Ground) {
    let launch = ground.launch();
    ground.prepare().await;
    let tasks = ground.of_backends(&["be.confirm", "repository.upload"]);
    for (n, place) in places("backup", &BACKUP).into_iter().chain(tasks).enumerate() {
        eprintln!("{place}");
        let (server, mut client) = launch.clone().dies_at(&place).open().await;
        // Something to upload.
        client.run(sample::events("shop", 100 + n as u64)).await;
        let before = client.contents("shop").await;
        let backup = format!("BACKUP SNAPSHOT shop.l{n} TO r");
        // It may have been answered before the server died.
        let _ = client.try_run(&backup).await;
        ground.buries(server).await;
        ground.dies_again(&place).await;

        let (server, mut client) = launch.open().await;
        if place == "backup.pending.before" {
            // There is no job, and nothing in the way of one.
            assert!(client.run("SHOW BACKUP FROM shop").await.rows.is_empty());
            client.run(&backup).await;
        }
        let job = client.finished("BACKUP", "shop").await;
        assert_eq!(job["SnapshotName"], format!("l{n}"));
        assert_eq!(client.contents("shop").await, before, "{place}");
        client.refused(&backup, 5064, "already exist").await;
        restored_equals(&mut client, &format!("l{n}"), &before).await;
        eventually("the label's lock is taken back", || ground.locks(&format!("l{n}")).is_empty()).await;
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_restore_goes_on_after_a_crash_at_any_record() {
    restores(&Ground::directory()).await;
}

/// Existing tables are overwritten, and a missing one comes back, in one commit.
pub async fn restores(ground: &Ground) {
    let launch = ground.launch();
    let new = ground.prepare_with_backup().await;

    let tasks = ground.of_backends(&["be.download", "be.check"]);
    for (n, place) in places("restore", &RESTORE).into_iter().chain(tasks).enumerate() {
        eprintln!("{place}");
        let (server, mut client) = launch.clone().dies_at(&place).open().await;
        client.run(sample::events("shop", 100 + n as u64)).await;
        client.run(sample::values("shop", 100 + n as u64)).await;
        client.run("DROP TABLE shop.nothing FORCE").await;
        let old = client.contents("shop").await;
        let _ = client.try_run(RESTORE_SHOP).await;
        ground.buries(server).await;
        ground.dies_again(&place).await;

        // All tables are the old ones until the commit, however far the job has come, and the new ones from then on.
        let committed = place == "restore.committing.after" || place.contains("finished");
        let (server, mut client) = launch.clone().stops_at("restore.committing.before").open().await;
        assert_eq!(client.contents("shop").await, *if committed { &new } else { &old }, "{place}");
        server.goes_on();
        if place == "restore.pending.before" {
            assert!(client.run("SHOW RESTORE FROM shop").await.rows.is_empty());
            client.run(RESTORE_SHOP).await;
        }
        client.finished("RESTORE", "shop").await;
        assert_eq!(client.contents("shop").await, new, "{place}");
        // Nothing is locked or reserved any more.
        client.run("TRUNCATE TABLE shop.nothing").await;
        client.run(format!("BACKUP SNAPSHOT shop.after{n} TO r {WAIT}")).await;
        assert!(server.stop().await.success());
    }
}

/// A database that does not exist comes with its tables, or not at all.
#[tokio::test]
async fn a_database_is_created_in_the_commit_of_its_restore() {
    let ground = Ground::directory();
    let launch = ground.launch();
    let expected = ground.prepare_with_backup().await;
    let places = ["restore.snapshoting.before", "restore.committing.before", "restore.committing.after"];
    for (n, place) in places.into_iter().enumerate() {
        let (server, mut client) = launch.clone().dies_at(place).open().await;
        let restore = format!("RESTORE SNAPSHOT new{n}.l FROM r PROPERTIES ('backup_timestamp' = 'latest')");
        let _ = client.try_run(restore).await;
        ground.buries(server).await;
        ground.dies_again(place).await;

        let (server, mut client) = launch.clone().stops_at("restore.committing.before").open().await;
        let found = client.run(format!("SHOW DATABASES LIKE 'new{n}'")).await;
        assert_eq!(found.rows.len(), usize::from(place == "restore.committing.after"), "{place}");
        server.goes_on();
        client.finished("RESTORE", &format!("new{n}")).await;
        assert_eq!(client.contents(&format!("new{n}")).await, expected, "{place}");
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_cancelled_job_ends_with_its_record() {
    cancellations(&Ground::directory()).await;
}

/// A CANCEL that died before its record was never said; after it the job has ended, and all is free.
pub async fn cancellations(ground: &Ground) {
    let launch = ground.launch();
    let new = ground.prepare_with_backup().await;
    for (n, (side, ended)) in [("before", "FINISHED"), ("after", "CANCELLED")].into_iter().enumerate() {
        let place = format!("backup.cancelled.{side}");
        let (server, mut client) = launch.clone().stops_and_dies_at("backup.save_meta.before", &place).open().await;
        client.run(sample::events("shop", 100 + n as u64)).await;
        let old = client.contents("shop").await;
        let backup = format!("BACKUP SNAPSHOT shop.{side} TO r");
        client.run(&backup).await;
        client.wait_for_job("BACKUP", "shop", &["UPLOADING"]).await;
        assert!(client.try_run("CANCEL BACKUP FROM shop").await.is_err(), "{place}: it was acknowledged");
        ground.buries(server).await;
        let (server, mut client) = launch.open().await;
        let job = client.wait_for_job("BACKUP", "shop", &["FINISHED", "CANCELLED"]).await;
        assert_eq!(job["State"], ended, "{place}: {job:?}");
        if ended == "CANCELLED" {
            // Other clusters do not know that its lock says no more.
            eventually("the label's lock is taken back", || ground.locks(side).is_empty()).await;
            client.run(&backup).await;
            client.finished("BACKUP", "shop").await;
        }
        restored_equals(&mut client, side, &old).await;
        assert!(server.stop().await.success());

        let place = format!("restore.cancelled.{side}");
        let (server, mut client) = launch.clone().stops_and_dies_at("restore.commit.before", &place).open().await;
        client.run(RESTORE_SHOP).await;
        client.wait_for_job("RESTORE", "shop", &["DOWNLOADING"]).await;
        assert!(client.try_run("CANCEL RESTORE FROM shop").await.is_err(), "{place}: it was acknowledged");
        ground.buries(server).await;
        let (server, mut client) = launch.open().await;
        let job = client.wait_for_job("RESTORE", "shop", &["FINISHED", "CANCELLED"]).await;
        assert_eq!(job["State"], ended, "{place}: {job:?}");
        assert_eq!(client.contents("shop").await, *if ended == "FINISHED" { &new } else { &old }, "{place}");
        client.run("TRUNCATE TABLE shop.nothing").await;
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_failed_job_ends_with_its_record() {
    failures(&Ground::directory()).await;
}

/// A job whose files are not there fails, on whichever side of that record the server dies, and leaves all as it was.
pub async fn failures(ground: &Ground) {
    // The files stay what they are.
    let launch = ground.launch().set("compaction_interval_ms", 3_600_000);
    ground.prepare().await;
    let (server, mut client) = launch.open().await;
    client.run(format!("BACKUP SNAPSHOT shop.l TO r {WAIT}")).await;
    let rowset = rowset_files(ground.path()).remove(0);
    let object = files(ground.repository().join("__holdfast_repository_r/__objects")).remove(0);
    let new = client.contents("shop").await;
    client.run(sample::events("shop", 100)).await;
    let old = client.contents("shop").await;
    assert!(server.stop().await.success());
    let aside = ground.path().join("aside");
    for side in ["before", "after"] {
        for (kind, statement, file) in [
            ("BACKUP", format!("BACKUP SNAPSHOT shop.{side} TO r"), &rowset),
            ("RESTORE", RESTORE_SHOP.to_owned(), &object),
        ] {
            let place = format!("{}.cancelled.{side}", kind.to_lowercase());
            let (server, mut client) = launch.clone().dies_at(&place).open().await;
            std::fs::rename(file, &aside).unwrap();
            // It must be away after a power cut as well.
            assert!(Command::new("sync").status().unwrap().success());
            let _ = client.try_run(&statement).await;
            ground.buries(server).await;
            ground.dies_again(&place).await;

            let (server, mut client) = launch.open().await;
            let job = client.wait_for_job(kind, "shop", &["FINISHED", "CANCELLED"]).await;
            assert_eq!(job["State"], "CANCELLED", "{place}: {job:?}");
            std::fs::rename(&aside, file).unwrap();
            assert_eq!(client.contents("shop").await, old, "{place}");
            if kind == "BACKUP" {
                client.run(&statement).await;
                client.finished("BACKUP", "shop").await;
                restored_equals(&mut client, side, &old).await;
            }
            assert!(server.stop().await.success());
        }
    }
    let (_server, mut client) = launch.open().await;
    restored_equals(&mut client, "l", &new).await;
}

#[tokio::test]
async fn a_raw_backup_begins_again_after_a_crash_at_any_record() {
    raw_backups(&Ground::directory()).await;
}

pub async fn raw_backups(ground: &Ground) {
    let launch = ground.launch();
    let keys = ground.prepare_raw().await;
    let tasks = ground.of_backends(&["be.raw-session", "be.raw-backup"]);
    for (n, place) in places("backup-raw", &RAW_BACKUP).into_iter().chain(tasks).enumerate() {
        eprintln!("{place}");
        let directory = ground.raw(&format!("raw{n}"));
        let backup = format!("BACKUP RAW TO 'local://{directory}' {WAIT}");
        // The statement opens a session, and so does who waits for earlier work to end; the third has the cut.
        let passing = if place == "be.raw-session" { "2*off->" } else { "" };
        let dying = launch.clone().env("FAILPOINTS", format!("{place}={passing}return"));
        let (server, mut client) = dying.open().await;
        assert!(client.try_run(&backup).await.is_err(), "{place}: it was acknowledged");
        ground.buries(server).await;
        ground.dies_again(&place).await;

        let (server, mut client) = launch.open().await;
        if place == "backup-raw.pending.before" {
            // There is no job, and nothing in the way of one.
            assert!(client.run("SHOW BACKUP FROM rawkv").await.rows.is_empty());
            client.run(&backup).await;
        }
        let job = client.finished("BACKUP", "rawkv").await;
        assert!(job["BackupObjs"].ends_with(&format!("TO local://{directory}]")), "{job:?}");
        let shown = client.run(format!("SHOW BACKUP RAW FROM 'local://{directory}'")).await;
        let mut named = shown.column("File");
        named.sort();
        assert_eq!(ssts(&directory), named, "{place}: files of the cut that was lost are gone");
        client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
        client.run(format!("RESTORE RAW FROM 'local://{directory}' {WAIT}")).await;
        assert_eq!(rawkv::contents(&mut client).await, keys, "{place}");
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_raw_restore_goes_on_after_a_crash_at_any_record() {
    raw_restores(&Ground::directory()).await;
}

/// Nothing is stored before all is there; from then on, all is.
pub async fn raw_restores(ground: &Ground) {
    let launch = ground.launch();
    let new = ground.prepare_raw().await;
    let uri = format!("local://{}", ground.raw("raw"));
    let restore = format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true', 'replace' = 'true')");
    let (server, mut client) = launch.open().await;
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    assert!(server.stop().await.success());
    let tasks = ground.of_backends(&["be.raw-session", "be.raw-fetch", "be.raw-clear", "be.raw-ingest"]);
    for place in places("restore-raw", &RAW_RESTORE).into_iter().chain(tasks) {
        eprintln!("{place}");
        let (server, mut client) = launch.clone().dies_at(&place).open().await;
        client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
        client.run(sample::raw_keys(2)).await;
        let old = rawkv::contents(&mut client).await;
        assert!(client.try_run(&restore).await.is_err(), "{place}: it was acknowledged");
        ground.buries(server).await;
        ground.dies_again(&place).await;

        let (server, mut client) = launch.clone().stops_at("restore-raw.committing.before").open().await;
        let storing = ["restore-raw.committing.after", "be.raw-clear", "be.raw-ingest"].contains(&&*place);
        if !storing && !place.contains("finished") {
            assert_eq!(rawkv::contents(&mut client).await, old, "{place}");
        }
        server.goes_on();
        if place == "restore-raw.pending.before" {
            assert!(client.run("SHOW RESTORE FROM rawkv").await.rows.is_empty());
            client.run(&restore).await;
        }
        client.finished("RESTORE", "rawkv").await;
        assert_eq!(rawkv::contents(&mut client).await, new, "{place}");
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_cancelled_raw_job_ends_with_its_record() {
    raw_cancellations(&Ground::directory()).await;
}

/// As [`cancellations`]: after the record the directory of a backup is free, and under a restore the keys are as they were.
pub async fn raw_cancellations(ground: &Ground) {
    let launch = ground.launch();
    let new = ground.prepare_raw().await;
    for (side, ended) in [("before", "FINISHED"), ("after", "CANCELLED")] {
        let place = format!("backup.cancelled.{side}");
        let (server, mut client) =
            launch.clone().stops_and_dies_at("backup-raw.upload_info.before", &place).open().await;
        let directory = ground.raw(side);
        let backup = format!("BACKUP RAW TO 'local://{directory}'");
        client.run(&backup).await;
        client.wait_for_job("BACKUP", "rawkv", &["UPLOADING"]).await;
        assert!(client.try_run("CANCEL BACKUP FROM rawkv").await.is_err(), "{place}: it was acknowledged");
        ground.buries(server).await;
        let (server, mut client) = launch.open().await;
        let job = client.wait_for_job("BACKUP", "rawkv", &["FINISHED", "CANCELLED"]).await;
        assert_eq!(job["State"], ended, "{place}: {job:?}");
        if ended == "CANCELLED" {
            eventually("the directory is given back", || files(&directory).is_empty()).await;
            client.run(&backup).await;
            client.finished("BACKUP", "rawkv").await;
        }
        assert!(server.stop().await.success());

        let place = format!("restore.cancelled.{side}");
        let (server, mut client) =
            launch.clone().stops_and_dies_at("restore-raw.committing.before", &place).open().await;
        client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
        client.run(sample::raw_keys(2)).await;
        let old = rawkv::contents(&mut client).await;
        let restore = format!("RESTORE RAW FROM 'local://{directory}' PROPERTIES ('replace' = 'true')");
        client.run(&restore).await;
        client.wait_for_job("RESTORE", "rawkv", &["DOWNLOADING"]).await;
        assert!(client.try_run("CANCEL RESTORE FROM rawkv").await.is_err(), "{place}: it was acknowledged");
        ground.buries(server).await;
        let (server, mut client) = launch.open().await;
        let job = client.wait_for_job("RESTORE", "rawkv", &["FINISHED", "CANCELLED"]).await;
        assert_eq!(job["State"], ended, "{place}: {job:?}");
        assert_eq!(rawkv::contents(&mut client).await, *if ended == "FINISHED" { &new } else { &old }, "{place}");
        client.run(&restore).await;
        client.finished("RESTORE", "rawkv").await;
        assert_eq!(rawkv::contents(&mut client).await, new, "{place}");
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_load_is_wholly_there_or_wholly_absent() {
    loads(&Ground::directory()).await;
}

pub async fn loads(ground: &Ground) {
    let launch = ground.launch();
    ground.prepare().await;
    let mut load = 100;
    let tasks = ground.of_backends(&["be.write.before-install", "be.write.after-install"]);
    for place in tasks.into_iter().chain(["load.before-commit", "load.after-commit"].map(str::to_owned)) {
        load += 1;
        let (server, mut client) = launch.clone().dies_at(&place).open().await;
        let before = client.checksum("shop.events").await;
        assert!(client.try_run(sample::events("shop", load)).await.is_err(), "{place}: it was acknowledged");
        ground.buries(server).await;

        let (mut server, mut client) = launch.open().await;
        let after = client.checksum("shop.events").await;
        match &*place {
            "load.after-commit" => assert_eq!(after.rows(), before.rows() + 200, "{place}"),
            _ => assert_eq!(after, before, "{place}"),
        }
        // What was lost can be loaded again, and stays.
        client.run(sample::events("shop", load)).await;
        let loaded = client.checksum("shop.events").await;
        assert_eq!(loaded.rows(), after.rows() + 200);
        server.kill();
        ground.loses();
        let (server, mut client) = launch.open().await;
        assert_eq!(client.checksum("shop.events").await, loaded, "{place}: lost what was acknowledged");
        assert!(server.stop().await.success());
    }
}

/// Histories in which the FE alone dies, or loses its power, while BEs go on with what it had them do.
macro_rules! front_ends {
    ($($name:ident = $history:ident)+) => {
        mod a_front_end_dies {
            use super::*;

            $(#[tokio::test]
            async fn $name() {
                $history(&Ground::front_end(None).await).await;
            })+
        }

        mod a_front_end_loses_power {
            use super::*;

            $(#[tokio::test]
            async fn $name() {
                let Some(disk) = Disk::new(256) else { return };
                $history(&Ground::front_end(Some(disk)).await).await;
            })+
        }
    };
}

front_ends! {
    a_backup_goes_on = backups
    a_restore_goes_on = restores
    a_cancelled_job_ends_with_its_record = cancellations
    a_failed_job_ends_with_its_record = failures
    a_load_is_wholly_there_or_wholly_absent = loads
    a_raw_backup_begins_again = raw_backups
    a_raw_restore_goes_on = raw_restores
    a_cancelled_raw_job_ends_with_its_record = raw_cancellations
}

#[tokio::test]
async fn compaction_that_dies_loses_nothing() {
    compactions(&Ground::directory()).await;
}

pub async fn compactions(ground: &Ground) {
    let launch = ground.launch();
    ground.prepare().await;
    let eager = launch.clone().set("compaction_interval_ms", 10).set("compaction_min_files", 2);
    ground.buries(eager.clone().dies_at("be.compact").start()).await;

    let (server, mut client) = launch.open().await;
    let before = client.contents("shop").await;
    assert!(server.stop().await.success());

    let (mut server, mut client) = eager.open().await;
    // Each tablet ends with one file: 8 of events, 3 of values.
    eventually("compaction", || rowset_files(launch.data()).len() <= 11).await;
    assert_eq!(client.contents("shop").await, before);
    server.kill();
    ground.loses();
    let (server, mut client) = eager.open().await;
    assert_eq!(client.contents("shop").await, before);
    client.run(sample::events("shop", 50)).await;
    client.run(format!("BACKUP SNAPSHOT shop.l TO r {WAIT}")).await;
    let expected = client.contents("shop").await;
    restored_equals(&mut client, "l", &expected).await;
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn a_large_commit_is_decided_in_one_instant() {
    large_commits(&Ground::directory()).await;
}

/// A commit with very many rows is decided by one small record.
pub async fn large_commits(ground: &Ground) {
    let launch = ground.launch();
    for (place, there) in [("store.staged", false), ("store.decided", true), ("store.applied", true)] {
        let (server, mut client) = launch.clone().dies_at(place).open().await;
        client.run("CREATE DATABASE IF NOT EXISTS d").await;
        let create = "CREATE TABLE d.wide (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 1000";
        assert!(client.try_run(create).await.is_err());
        ground.buries(server).await;

        let (server, mut client) = launch.open().await;
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
