//! BACKUP RAW and RESTORE RAW on real servers: many regions on many BEs, crashes, damage, other stores.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::Method;
use holdfast::rawkv::backupmeta::BackupMeta;
use holdfast::rawkv::sst::{SstOptions, SstWriter};

use super::bad_input::SmallDisk;
use super::client::{Answer, Client};
use super::clients::PYTHON;
use super::cluster::Cluster;
use super::harness::{HOLDFAST, Launch, Scratch, Server, WAIT, eventually, files, held, named, skip};
use super::membership::leave_free;
use super::proxy::{Fault, Proxy, Request};
use super::rawkv::contents;
use super::stores::store::{Kind, Store};

const MIB: u64 = 1 << 20;

/// Keys and values in hex, as [`contents`] returns them.
type Data = BTreeMap<String, String>;

/// An FE and three BEs; regions are small.
pub async fn cluster(scratch: &Scratch) -> (Cluster, Client) {
    let fe = Launch::fe(scratch.path()).set("raw_region_split_size", 20_000).set("compaction_interval_ms", 50);
    let cluster = Cluster::of(&fe.set("heartbeat_interval_ms", 50), scratch.path(), 3).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    (cluster, client)
}

/// One of several servers, in a directory of its own.
fn standalone(scratch: &Scratch, name: &str) -> Server {
    std::fs::create_dir(scratch.sub(name)).unwrap();
    Server::standalone(Path::new(&scratch.sub(name)))
}

/// Numbers without a pattern, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Short keys of few different bytes, so that many are near each other; 0x00 and 0xFF among them.
    fn key(&mut self) -> Vec<u8> {
        let length = self.below(6);
        (0..length).map(|_| [0, 1, b'a', b'b', 0x80, 0xFE, 0xFF][self.below(7) as usize]).collect()
    }

    fn data(&mut self, count: usize) -> Data {
        let mut entry = || {
            let length = self.below(200);
            (
                hex::encode_upper(self.key()),
                hex::encode_upper((0..length).map(|_| self.below(256) as u8).collect::<Vec<_>>()),
            )
        };
        (0..count).map(|_| entry()).collect()
    }
}

async fn insert(client: &mut Client, data: &Data) {
    let rows: Vec<_> = data.iter().map(|(key, value)| format!("(x'{key}', x'{value}')")).collect();
    for rows in rows.chunks(500) {
        client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "))).await;
    }
}

fn within(data: &Data, start: &str, end: &str) -> Data {
    let inside = |key: &str| key >= start && (end.is_empty() || key < end);
    data.iter().filter(|(key, _)| inside(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub fn ssts(directory: &str) -> Vec<String> {
    let names = files(directory).into_iter().map(|path| path.strip_prefix(directory).unwrap().display().to_string());
    names.filter(|name| name.ends_with(".sst")).collect()
}

/// Whatever the data and the range: what is restored elsewhere is what was there, and nothing else.
#[tokio::test]
async fn any_range_comes_back_elsewhere() {
    let scratch = Scratch::new();
    let (_cluster, mut client) = cluster(&scratch).await;
    let elsewhere = standalone(&scratch, "elsewhere");
    let mut other = elsewhere.connect().await;
    let seed = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) ^ scratch.path().as_os_str().len() as u64);
    eprintln!("HOLDFAST_SEED={seed}");
    let mut numbers = Numbers(seed);
    let mut data = numbers.data(3000);
    // Keys that only begin a range, and one behind the last that br asks for.
    for odd in ["", "00", "FF", "FFFFFFFFFFFFFFFFFFFFFF", "7A", "7B"] {
        data.insert(odd.into(), String::new());
    }
    insert(&mut client, &data).await;
    assert_eq!(contents(&mut client).await, data);
    in_regions(&mut client, 6).await;
    for round in 0..8 {
        let (start, end) = match round {
            0 => (String::new(), String::new()),
            _ => {
                let mut bounds = [hex::encode_upper(numbers.key()), hex::encode_upper(numbers.key())];
                bounds.sort();
                let [start, end] = bounds;
                if start == end { (start, String::new()) } else { (start, end) }
            }
        };
        let uri = format!("local://{}", scratch.sub(&format!("b{round}")));
        let compression = ["zstd", "lz4", "snappy"][round % 3];
        let properties = format!("PROPERTIES ('wait' = 'true', 'compression' = '{compression}')");
        client.run(format!("BACKUP RAW START '{start}' END '{end}' TO '{uri}' {properties}")).await;
        let expected = within(&data, &start, &end);

        let verified = other.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await;
        assert!(verified.column("Result").into_iter().all(|result| result == "OK"), "{verified:?}");
        let count: u64 = verified.column("TotalKVs").into_iter().map(|count| count.parse::<u64>().unwrap()).sum();
        assert_eq!(count, expected.len() as u64, "[{start}, {end})");

        // What is outside of the range stays, what is inside goes.
        other.run("CREATE DATABASE IF NOT EXISTS rawkv").await;
        let before = numbers.data(200);
        insert(&mut other, &before).await;
        let before = contents(&mut other).await;
        let restore = format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true', 'replace' = 'true')");
        other.run(&restore).await;
        let mut whole = before.clone();
        whole.retain(|key, _| !within(&before, &start, &end).contains_key(key));
        whole.extend(expected.clone());
        assert_eq!(contents(&mut other).await, whole, "[{start}, {end})");

        // Without it, a restore changes and adds, and a part of the backup can be asked for.
        if let (Some(first), true) = (expected.keys().nth(expected.len() / 2), expected.len() > 2) {
            other.run("DELETE FROM rawkv.default WHERE k >= x''").await;
            insert(&mut other, &before).await;
            other.run(format!("RESTORE RAW START '{first}' FROM '{uri}' {WAIT}")).await;
            let mut merged = before.clone();
            merged.extend(within(&expected, first, &end));
            assert_eq!(contents(&mut other).await, merged, "[{first}, {end})");
        }
    }
}

/// A backup is of one moment: of keys that are written one after another, to regions on several BEs, it has the first
/// ones without a gap, and all that were acknowledged before it began.
#[tokio::test]
async fn a_backup_is_one_cut() {
    let scratch = Scratch::new();
    let (cluster, mut client) = cluster(&scratch).await;
    let mut writer = cluster.fe.connect().await;
    let key = |n: u32| hex::encode_upper([&[(n % 3 * 90) as u8], n.to_be_bytes().as_slice()].concat());
    for n in 0..20 {
        writer.run(format!("INSERT INTO rawkv.default VALUES (x'{}', '')", key(n))).await;
    }
    let written = std::sync::atomic::AtomicU32::new(20);
    let stop = tokio::sync::Notify::new();
    let write = async {
        for n in 20.. {
            tokio::select! {
                biased;
                () = stop.notified() => return,
                _ = writer.run(format!("INSERT INTO rawkv.default VALUES (x'{}', '')", key(n))) => {}
            }
            written.store(n + 1, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let back_up = async {
        for round in 0..10 {
            let least = written.load(std::sync::atomic::Ordering::SeqCst);
            let uri = format!("local://{}", scratch.sub(&format!("b{round}")));
            client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
            let shown = client.run(format!("SHOW BACKUP RAW FROM '{uri}'")).await;
            let count: u32 = shown.column("TotalKVs").into_iter().map(|count| count.parse::<u32>().unwrap()).sum();
            assert!(count >= least, "round {round}: {count} of {least}");
        }
        stop.notify_one();
    };
    tokio::join!(write, back_up);
    let elsewhere = standalone(&scratch, "elsewhere");
    let mut other = elsewhere.connect().await;
    for round in 0..10 {
        let uri = format!("local://{}", scratch.sub(&format!("b{round}")));
        other.run(format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true', 'replace' = 'true')")).await;
        let restored = contents(&mut other).await;
        let expected: Data = (0..restored.len() as u32).map(|n| (key(n), String::new())).collect();
        assert_eq!(restored, expected, "round {round}");
    }
}

/// A BE dies in each of its tasks; when it is back, a backup begins again from a new cut, and a restore goes on.
#[tokio::test]
async fn a_backend_may_die() {
    let scratch = Scratch::new();
    let data = Numbers(9).data(300);
    let (fe, be, _) = pair(&scratch, &data).await;
    let mut client = fe.connect().await;
    // The statement opens a session, and so does who waits for earlier work to end; the third has the cut.
    let session = "be.raw-session=2*off->return";
    for (n, (kind, point)) in [
        ("BACKUP", session),
        ("BACKUP", "be.raw-backup=return"),
        ("RESTORE", "be.raw-session=return"),
        ("RESTORE", "be.raw-fetch=return"),
        ("RESTORE", "be.raw-clear=return"),
        ("RESTORE", "be.raw-ingest=return"),
    ]
    .into_iter()
    .enumerate()
    {
        eprintln!("{kind} {point}");
        let uri = format!("local://{}", scratch.sub(if kind == "BACKUP" { ["b0", "b1"][n] } else { "b" }));
        let mut dying = be.clone().env("FAILPOINTS", point).start();
        alive(&mut client).await;
        let statement = match kind {
            "BACKUP" => format!("BACKUP RAW TO '{uri}'"),
            _ => format!("RESTORE RAW FROM '{uri}' PROPERTIES ('replace' = 'true')"),
        };
        client.run(statement).await;
        dying.died().await;
        let back = be.start();
        client.finished(kind, "rawkv").await;
        if kind == "BACKUP" {
            client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
            client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
        }
        assert_eq!(contents(&mut client).await, data, "{kind} {point}");
        assert!(back.stop().await.success());
    }
}

/// One of three BEs dies while it writes files.
#[tokio::test]
async fn one_of_many_backends_may_die() {
    let scratch = Scratch::new();
    let (mut cluster, mut client) = cluster(&scratch).await;
    let data = Numbers(9).data(1000);
    insert(&mut client, &data).await;
    let port = cluster.bes[0].port("be");
    let launch = cluster.bes[0].launch.clone().flag("--be-port", port);
    cluster.bes.remove(0).kill();
    let mut dying = launch.clone().dies_at("be.raw-backup").start();
    client.wait_until("SHOW BACKENDS", |answer| answer.column("Alive").into_iter().all(|alive| alive == "true")).await;
    let directory = scratch.sub("b");
    client.run(format!("BACKUP RAW TO 'local://{directory}'")).await;
    dying.died().await;
    cluster.bes.push(launch.start());
    client.finished("BACKUP", "rawkv").await;
    client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
    client.run(format!("RESTORE RAW FROM 'local://{directory}' {WAIT}")).await;
    assert_eq!(contents(&mut client).await, data);
}

/// A server that comes back before the disk with the backup is mounted waits for it, however far its job was.
#[tokio::test]
async fn a_job_waits_for_its_disk() {
    let scratch = Scratch::new();
    let directory = scratch.sub("b");
    std::fs::create_dir(&directory).unwrap();
    let launch = Launch::standalone(scratch.path());
    let Some(unmounted) = launch.clone().hiding(Path::new(&directory)) else { return };
    let data = Numbers(13).data(100);
    let uri = format!("local://{directory}");
    let replace = "PROPERTIES ('wait' = 'true', 'replace' = 'true')";
    for (n, (kind, state, statement)) in [
        ("BACKUP", "UPLOAD_INFO", format!("BACKUP RAW TO '{uri}' {WAIT}")),
        ("RESTORE", "COMMITTING", format!("RESTORE RAW FROM '{uri}' {replace}")),
    ]
    .into_iter()
    .enumerate()
    {
        let place = format!("{kind}-raw.{state}.after").to_lowercase();
        let mut server = launch.clone().dies_at(&place).start();
        let mut client = server.connect().await;
        if n == 0 {
            client.run("CREATE DATABASE rawkv").await;
            insert(&mut client, &data).await;
        }
        assert!(client.try_run(&statement).await.unwrap_err().is_lost());
        server.died().await;
        let server = unmounted.start();
        let mut client = server.connect().await;
        let shown = client
            .wait_until(&format!("SHOW {kind} FROM rawkv"), |answer| {
                answer.column("TaskErrMsg")[0].contains("is the storage mounted?") || answer.column("State") != [state]
            })
            .await;
        assert_eq!(shown.column("State"), [state], "{shown:?}");
        assert!(server.stop().await.success());
        let server = launch.start();
        let mut client = server.connect().await;
        client.finished(kind, "rawkv").await;
        assert_eq!(contents(&mut client).await, data, "{kind}");
        assert!(server.stop().await.success());
    }
}

/// Before a file is written: a BE sees another directory than the FE, or would write into its own.
#[tokio::test]
async fn a_directory_is_the_same_for_all() {
    let scratch = Scratch::new();
    let (fe, be, _) = pair(&scratch, &[("61".into(), "01".into())].into()).await;
    let mut client = fe.connect().await;
    let directory = scratch.sub("shared");
    std::fs::create_dir(&directory).unwrap();
    let inside = be.data().join("storage/backups");
    if let Some(apart) = be.clone().hiding(Path::new(&directory)) {
        let apart = apart.start();
        alive(&mut client).await;
        let backup = format!("BACKUP RAW TO 'local://{directory}' {WAIT}");
        let refusal = client.try_run(backup).await.unwrap_err();
        let named = format!("on backend 127.0.0.1:{}", apart.port("be"));
        assert!(refusal.text.contains("every node must see the same directory"), "{refusal}");
        assert!(refusal.text.contains(&named), "{refusal}");
        assert!(files(&directory).is_empty());
    }
    let _be = be.start();
    alive(&mut client).await;
    let backup = format!("BACKUP RAW TO 'local://{}' {WAIT}", inside.display());
    client.refused(backup, 5064, "the backend's own directory").await;
    assert!(!inside.exists());
}

/// To prepare a statement that reads a backup reads nothing.
#[tokio::test]
async fn a_prepared_verify_knows_its_columns() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    let columns = client.prepare("VERIFY BACKUP RAW FROM 'local:///nowhere'").await;
    assert_eq!(columns, ["File", "Size", "TotalKVs", "TotalBytes", "Crc64Xor", "Result"]);
    assert_eq!(client.prepare("SHOW BACKUP RAW FROM 'local:///nowhere'").await[0], "File");
}

/// A BE that sees a directory of that name without a file of the backup ends a restore before any key changes, also on
/// the BEs that have all of theirs.
#[tokio::test]
async fn a_backend_that_lacks_a_file_is_named() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::start(&scratch, 2).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    let data: Data = (0..=255u8).map(|n| (hex::encode_upper([n]), "01".into())).collect();
    insert(&mut client, &data).await;
    let directory = scratch.sub("b");
    let uri = format!("local://{directory}");
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    // Each BE has keys of its own, and the files of a backup lie in a folder for each.
    let mut folders: Vec<_> = ssts(&directory).iter().map(|name| name.split('/').next().unwrap().to_owned()).collect();
    folders.dedup();
    assert_eq!(folders.len(), 2, "{folders:?}");
    let changed: Data = data.keys().step_by(2).map(|key| (key.clone(), "02".into())).collect();
    insert(&mut client, &changed).await;
    let before = contents(&mut client).await;

    let backends = client.run("SHOW BACKENDS").await;
    let port = |folder: &str| {
        let records = backends.records();
        records.iter().find(|row| row["BackendId"] == folder).unwrap()["BePort"].to_owned()
    };
    for folder in folders {
        let n = cluster.bes.iter().position(|be| be.port("be").to_string() == port(&folder)).unwrap();
        let seen = cluster.bes[n].launch.clone();
        let Some(without) = seen.clone().hiding(&Path::new(&directory).join(&folder)) else { return };
        cluster.kill(n).await;
        cluster.bes[n] = without.start();
        cluster.all_alive(&mut client).await;
        for properties in [WAIT, "PROPERTIES ('wait' = 'true', 'replace' = 'true')"] {
            let refusal = client.try_run(format!("RESTORE RAW FROM '{uri}' {properties}")).await.unwrap_err();
            let address = format!("127.0.0.1:{}", port(&folder));
            assert!(refusal.text.contains(&address), "{refusal}");
            assert!(refusal.text.contains(&format!("/{folder}/")) && refusal.text.contains(".sst"), "{refusal}");
            assert_eq!(contents(&mut client).await, before, "{properties}");
        }
        cluster.kill(n).await;
        cluster.bes[n] = seen.start();
        cluster.all_alive(&mut client).await;
    }
    client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
    assert_eq!(contents(&mut client).await, data);
}

/// To verify a backup fills no disk of a catalog: files of a directory are read where they lie, and others are brought
/// where there is room.
#[tokio::test]
async fn a_verify_leaves_room_for_the_catalog() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Gcs, &scratch) else { return };
    let Some(_disk) = SmallDisk::mount(scratch.sub("fe"), 256 << 10) else { return };
    let cluster = Cluster::start(&scratch, 1).await;
    let mut client = cluster.fe.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    insert(&mut client, &Numbers(29).data(100)).await;
    let verify = |uri: &str| format!("VERIFY BACKUP RAW FROM '{uri}'");
    let (local, remote) = (format!("local://{}", scratch.sub("b")), store.storage_uri("raw"));
    for uri in [&local, &remote] {
        client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
        assert_eq!(client.run(verify(uri)).await.column("Result"), ["OK"], "{uri}");
    }
    for free in [10 << 20, 0] {
        leave_free(&scratch.sub("fe"), free);
        let refusal = client.try_run(verify(&remote)).await.unwrap_err();
        assert!(refusal.text.contains("no storage space") && refusal.text.contains(&scratch.sub("fe")), "{refusal}");
        assert_eq!(client.run(verify(&local)).await.column("Result"), ["OK"], "{free}");
    }
    drop(cluster);
}

/// A directory may have others' files beside it and below it: they stay. One with SSTs of others in it is refused.
#[tokio::test]
async fn files_of_others_stay() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', 'b')").await;
    let others = ["b/monday/1_2_2_x_default.sst", "b/rocks/000012.sst", "b/7/notes.txt"];
    for other in others {
        let path = Path::new(scratch.path()).join(other);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "others'").unwrap();
    }
    let uri = format!("local://{}", scratch.sub("b"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    for (used, name) in [("top", "000001.sst"), ("inside", "9/8_1_default.sst")] {
        let path = scratch.path().join(used).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "others'").unwrap();
        let directory = scratch.sub(used);
        let backup = format!("BACKUP RAW TO 'local://{directory}' {WAIT}");
        client.refused(backup, 5064, &format!("{name} exists in local://{directory}")).await;
        assert_eq!(files(&directory), [path]);
    }
    for other in others {
        assert_eq!(std::fs::read_to_string(scratch.sub(other)).unwrap(), "others'");
    }
    client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
}

/// An FE and one BE, which has these keys and a backup of them.
async fn pair(scratch: &Scratch, data: &Data) -> (Server, Launch, String) {
    let fe = Launch::fe(scratch.path()).set("heartbeat_interval_ms", 50);
    let server = fe.start();
    let be = Launch::be(scratch.path(), "be").start();
    let mut client = server.connect().await;
    let port = be.port("be");
    client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{port}'")).await;
    client.run("CREATE DATABASE rawkv").await;
    insert(&mut client, data).await;
    let uri = format!("local://{}", scratch.sub("b"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    let launch = be.launch.clone().flag("--be-port", port);
    assert!(be.stop().await.success());
    (server, launch, uri)
}

async fn alive(client: &mut Client) {
    client.wait_until("SHOW BACKENDS", |answer| answer.column("Alive") == ["true"]).await;
}

/// A thread of a BE that is slow to store keys for an FE that has died keeps the restore that the FE goes on with from
/// ending, and so does not overwrite what is written after it.
#[tokio::test]
async fn late_effects_of_a_restore_change_nothing() {
    let scratch = Scratch::new();
    let data: Data = [("61".into(), "01".into())].into();
    let (mut fe, be, uri) = pair(&scratch, &data).await;
    let launch = fe.launch.clone();
    let held = scratch.path().join("held");
    let be = be.held_at("be.raw-ingest", &held).start();
    let mut client = fe.connect().await;
    alive(&mut client).await;
    client.run(format!("RESTORE RAW FROM '{uri}'")).await;
    client.wait_for_job("RESTORE", "rawkv", &["COMMITTING"]).await;
    fe.kill();
    fe = launch.start();
    let mut client = fe.connect().await;
    alive(&mut client).await;
    for _ in 0..20 {
        client.wait_for_job("RESTORE", "rawkv", &["COMMITTING"]).await;
    }
    std::fs::remove_file(held).unwrap();
    client.finished("RESTORE", "rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', x'02')").await;
    // Nor afterwards, at the latest when the BE has ended all it does.
    let launch = be.launch.clone().env("FAILPOINTS", "").flag("--be-port", be.port("be"));
    assert!(be.stop().await.success());
    let _be = launch.start();
    alive(&mut client).await;
    assert_eq!(contents(&mut client).await["61"], "02");
}

/// CANCEL removes a file of a backup, too, that is still on its way: the directory can be used again.
#[tokio::test]
async fn no_file_comes_after_a_cancelled_backup() {
    let scratch = Scratch::new();
    let data: Data = [("61".into(), "01".into())].into();
    let (fe, be, _) = pair(&scratch, &data).await;
    let held = scratch.path().join("held");
    let _be = be.held_at("be.raw-backup", &held).start();
    let mut client = fe.connect().await;
    alive(&mut client).await;
    let directory = scratch.sub("cancelled");
    client.run(format!("BACKUP RAW TO 'local://{directory}'")).await;
    client.wait_for_job("BACKUP", "rawkv", &["UPLOADING"]).await;
    let mut other = fe.connect().await;
    let cancel = async {
        client.run("CANCEL BACKUP FROM rawkv").await;
        assert!(!held.exists(), "CANCEL has not waited for the file");
    };
    let release = async {
        other.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
        std::fs::remove_file(&held).unwrap();
    };
    tokio::join!(cancel, release);
    assert!(files(&directory).is_empty(), "{:?}", files(&directory));
    client.run(format!("BACKUP RAW TO 'local://{directory}' {WAIT}")).await;
    assert_eq!(ssts(&directory).len(), 1);
}

/// However long that file takes: nothing is removed before it has come. But no statement waits so long.
#[tokio::test]
async fn a_cancelled_backup_outlasts_what_it_has_sent() {
    let scratch = Scratch::new();
    let file = scratch.path().join("held");
    let launch = Launch::standalone(scratch.path()).held_at("be.raw-backup", &file);
    let failpoints = format!("raw.patience-ms=return(500);be.raw-backup=1*return({})->off", file.display());
    let (server, mut client) = launch.env("FAILPOINTS", failpoints).open().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', 'b')").await;
    let directory = scratch.sub("cancelled");
    let backup = format!("BACKUP RAW TO 'local://{directory}' {WAIT}");
    let mut other = server.connect().await;
    let cancel = async {
        held(&file).await;
        other.run("CANCEL BACKUP FROM rawkv").await;
    };
    let (cancelled, ()) = tokio::join!(client.try_run(&backup), cancel);
    assert!(cancelled.unwrap_err().text.contains("user cancelled"));
    let log = || std::fs::read_to_string(server.launch.data().with_extension("log")).unwrap();
    eventually("it looks often", || log().matches("work of it may still go on").count() >= 6).await;
    assert_eq!(files(&directory), [Path::new(&directory).join("backup.lock")]);
    std::fs::remove_file(&file).unwrap();
    eventually("its files go", || files(&directory).is_empty()).await;
    client.run(&backup).await;
    assert_eq!(ssts(&directory).len(), 1);
}

/// A backup that an FE goes on with, whose BE is still sending a file to a store that hangs, keeps no writes away.
#[tokio::test]
async fn writes_do_not_wait_for_what_an_earlier_attempt_has_sent() {
    let scratch = Scratch::new();
    let data: Data = [("61".into(), "01".into())].into();
    let (mut fe, be, _) = pair(&scratch, &data).await;
    let launch = fe.launch.clone();
    let file = scratch.path().join("held");
    let _be = be.held_at("be.raw-backup", &file).start();
    let mut client = fe.connect().await;
    alive(&mut client).await;
    client.run(format!("BACKUP RAW TO 'local://{}'", scratch.sub("slow"))).await;
    held(&file).await;
    fe.kill();
    fe = launch.env("FAILPOINTS", "raw.patience-ms=return(60000)").start();
    let mut client = fe.connect().await;
    alive(&mut client).await;
    client.wait_for_job("BACKUP", "rawkv", &["SNAPSHOTING"]).await;
    for n in 0..20 {
        client.run(format!("INSERT INTO rawkv.default VALUES ('{n}', 'x')")).await;
    }
    // A write that waits does so until that is said.
    let shown = client.run("SHOW BACKUP FROM rawkv").await;
    assert!(!shown.column("TaskErrMsg")[0].contains("keep raw work"), "{shown:?}");
    assert_eq!(shown.column("State"), ["SNAPSHOTING"]);
    std::fs::remove_file(&file).unwrap();
    client.finished("BACKUP", "rawkv").await;
}

/// A store that goes away while files are written there, and is back after the deadline: its directory can be used again.
#[tokio::test]
async fn a_directory_is_given_back_when_its_store_is_back() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let proxy = Proxy::to(&format!("http://{}", store.address().unwrap()));
    let (server, mut client) = Launch::standalone(scratch.path()).open().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', 'b')").await;
    let uri = through(&proxy, &store, "raw");
    proxy.fail(|request| request.path.ends_with(".sst"), Fault::LostAnswer, usize::MAX);
    client.run(format!("BACKUP RAW TO '{uri}' PROPERTIES ('timeout' = '20')")).await;
    let is_there = || store.names().iter().any(|name| name.ends_with(".sst"));
    eventually("a file is there", is_there).await;
    proxy.fail(|_| true, Fault::Status(503), usize::MAX);
    let job = client.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
    assert!(job["Status"].contains("TIMEOUT"), "{job:?}");
    let log = || std::fs::read_to_string(server.launch.data().with_extension("log")).unwrap();
    eventually("it is tried in vain", || log().contains("it has left behind")).await;
    proxy.heal();
    eventually("its files go", || !store.names().iter().any(|name| name.contains("raw/"))).await;
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
}

/// A BACKUP RAW whose store goes away right after it has claimed its directory is refused, and its claim does not stay.
#[tokio::test]
async fn a_claim_of_a_refused_backup_goes() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let proxy = Proxy::to(&format!("http://{}", store.address().unwrap()));
    let (_server, mut client) = Launch::standalone(scratch.path()).open().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', 'b')").await;
    let uri = through(&proxy, &store, "raw");
    let claimed = AtomicBool::new(false);
    let is_later = move |request: &Request| match request.method == Method::PUT && request.path.ends_with("backup.lock")
    {
        true => claimed.swap(true, Ordering::SeqCst),
        false => claimed.load(Ordering::SeqCst),
    };
    proxy.fail(is_later, Fault::Status(503), usize::MAX);
    let refusal = client.try_run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await.unwrap_err();
    assert!(refusal.text.contains("503"), "{refusal}");
    assert!(store.names().iter().any(|name| name.ends_with("backup.lock")));
    assert_eq!(client.run("SHOW BACKUP FROM rawkv").await.column("State"), ["CANCELLED"]);
    proxy.heal();
    eventually("the lock goes", || !store.names().iter().any(|name| name.contains("raw/"))).await;
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
}

/// Files of a BE that is given up in the midst of a backup do not stay: neither beside those of the backup that goes on
/// without it, nor where it was cancelled.
#[tokio::test]
async fn files_of_a_backend_that_is_given_up_go() {
    let scratch = Scratch::new();
    let (mut cluster, mut client) = cluster(&scratch).await;
    insert(&mut client, &(0..=255u8).map(|first| (format!("{first:02X}"), "01".to_owned())).collect()).await;
    for cancelled in [true, false] {
        let file = scratch.path().join("held");
        let last = cluster.bes.pop().unwrap();
        let launch = last.launch.clone().flag("--be-port", last.port("be")).held_at("be.raw-backup", &file);
        assert!(last.stop().await.success());
        cluster.bes.push(launch.start());
        cluster.all_alive(&mut client).await;
        let directory = scratch.sub("b");
        client.run(format!("BACKUP RAW TO 'local://{directory}'")).await;
        held(&file).await;
        eventually("the files of the others", || ssts(&directory).len() >= cluster.bes.len() - 1).await;
        let mut lost = cluster.bes.remove(0);
        lost.kill();
        client.run(format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{}' FORCE", lost.port("be"))).await;
        if cancelled {
            let mut other = cluster.fe.connect().await;
            let release = async {
                other.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
                std::fs::remove_file(&file).unwrap();
            };
            tokio::join!(client.run("CANCEL BACKUP FROM rawkv"), release);
            eventually("its files go", || files(&directory).is_empty()).await;
        } else {
            std::fs::remove_file(&file).unwrap();
            client.finished("BACKUP", "rawkv").await;
            let shown = client.run(format!("SHOW BACKUP RAW FROM 'local://{directory}'")).await;
            let mut named = shown.column("File");
            named.sort();
            assert_eq!(ssts(&directory), named);
        }
    }
}

/// What is stored by halves is stored in the end, whenever the BE comes back.
#[tokio::test]
async fn no_deadline_ends_a_restore_that_stores() {
    let scratch = Scratch::new();
    let data = Numbers(31).data(200);
    let (fe, be, uri) = pair(&scratch, &data).await;
    let mut client = fe.connect().await;
    let mut slow = be.clone().stays_at("be.raw-ingest", 60_000).start();
    alive(&mut client).await;
    client.run(format!("RESTORE RAW FROM '{uri}' PROPERTIES ('replace' = 'true', 'timeout' = '2')")).await;
    client.wait_for_job("RESTORE", "rawkv", &["COMMITTING"]).await;
    slow.kill();
    client.wait_until("SHOW BACKENDS", |answer| answer.column("Alive") == ["false"]).await;
    // Past the deadline, which is two seconds after the statement.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let job = client.run("SHOW RESTORE FROM rawkv").await;
        assert_eq!(job.column("State"), ["COMMITTING"], "{job:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let _be = be.start();
    client.finished("RESTORE", "rawkv").await;
    assert_eq!(contents(&mut client).await, data);
}

/// But where its storage is gone for good, CANCEL does.
#[tokio::test]
async fn a_restore_that_has_lost_its_storage_can_be_cancelled_after_its_deadline() {
    let scratch = Scratch::new();
    let ahead = scratch.path().join("ahead");
    std::fs::write(&ahead, "+0s").unwrap();
    let Some(launch) = Launch::standalone(scratch.path()).clock(&ahead) else { return };
    let data = Numbers(37).data(100);
    let uri = format!("local://{}", scratch.sub("b"));
    let mut server = launch.clone().dies_at("restore-raw.committing.after").start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    insert(&mut client, &data).await;
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    let restore = format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true', 'timeout' = '3600')");
    assert!(client.try_run(&restore).await.unwrap_err().is_lost());
    server.died().await;
    std::fs::rename(scratch.sub("b"), scratch.sub("gone")).unwrap();

    let server = launch.start();
    let mut client = server.connect().await;
    let stuck = |answer: &Answer| answer.column("TaskErrMsg")[0].contains("is the storage mounted?");
    client.wait_until("SHOW RESTORE FROM rawkv", stuck).await;
    let cancel = "CANCEL RESTORE FROM rawkv";
    client.refused(cancel, 5064, "can not be cancelled. state: COMMITTING").await;
    client.refused("INSERT INTO rawkv.default VALUES ('a', 'b')", 5064, "is being restored by job").await;
    std::fs::write(&ahead, "+7200s").unwrap();
    client.run(cancel).await;
    let job = client.wait_for_job("RESTORE", "rawkv", &["CANCELLED"]).await;
    assert!(job["Status"].contains("a part of the keys may have been stored; RESTORE RAW again"), "{job:?}");
    client.run("INSERT INTO rawkv.default VALUES ('a', 'b'); DELETE FROM rawkv.default WHERE k >= x''").await;
    std::fs::rename(scratch.sub("gone"), scratch.sub("b")).unwrap();
    client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
    assert_eq!(contents(&mut client).await, data);
    assert!(server.stop().await.success());
}

/// Keys that were stored on a BE that was dropped then, though it lives, are stored again on the one that has got its
/// regions, before the restore ends.
#[tokio::test]
async fn a_restore_follows_regions_that_move() {
    let scratch = Scratch::new();
    let (mut cluster, mut client) = cluster(&scratch).await;
    let data: Data = (0..=255u8).map(|first| (format!("{first:02X}"), "01".to_owned())).collect();
    insert(&mut client, &data).await;
    let uri = format!("local://{}", scratch.sub("b"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
    let stopping = cluster.fe.launch.clone().stops_at("restore-raw.finished.before");
    cluster.fe.kill();
    cluster.fe = stopping.start();
    let mut client = cluster.fe.connect().await;
    let alive = |answer: &Answer| answer.column("Alive") == ["true", "true", "true"];
    client.wait_until("SHOW BACKENDS", alive).await;
    client.run(format!("RESTORE RAW FROM '{uri}'")).await;
    let all = |answer: &Answer| answer.rows[0][0].as_deref() == Some("256");
    client.wait_until("SELECT COUNT(*) FROM rawkv.default", all).await;
    let dropped = cluster.bes[0].port("be");
    client.run(format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{dropped}' FORCE")).await;
    cluster.fe.goes_on();
    client.finished("RESTORE", "rawkv").await;
    assert_eq!(contents(&mut client).await, data);
}

/// An FE that was started on a copy of its catalog, made while a restore was storing keys, does not store them again over
/// newer ones: neither before a BE has shown that it is an old copy, nor after.
#[tokio::test]
async fn a_restore_of_an_old_catalog_changes_nothing() {
    let scratch = Scratch::new();
    let data: Data = [("61".into(), "01".into())].into();
    let (mut fe, be, uri) = pair(&scratch, &data).await;
    let launch = fe.launch.clone();
    let mut server = be.start();
    let mut client = fe.connect().await;
    alive(&mut client).await;
    assert!({
        fe.kill();
        fe = launch.clone().dies_at("restore-raw.committing.after").start();
        client = fe.connect().await;
        alive(&mut client).await;
        let restore = format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true', 'replace' = 'true')");
        client.try_run(restore).await.unwrap_err().is_lost()
    });
    fe.died().await;
    let (meta, old, newest) = (scratch.sub("fe/meta"), scratch.sub("old"), scratch.sub("newest"));
    let copy = |from: &str, to: &str| {
        let _ = std::fs::remove_dir_all(to);
        assert!(Command::new("cp").args(["-a", from, to]).status().unwrap().success());
    };
    copy(&meta, &old);
    fe = launch.start();
    let mut client = fe.connect().await;
    client.finished("RESTORE", "rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', x'02'), ('b', x'02')").await;
    let newer = contents(&mut client).await;
    let identity = scratch.path().join("be/storage/identity.json");
    let seen = || {
        let kept = std::fs::read_to_string(&identity).unwrap();
        serde_json::from_str::<serde_json::Value>(kept.lines().next().unwrap()).unwrap()["sequence"].as_u64().unwrap()
    };
    let before = seen();
    client.run("CREATE DATABASE d").await;
    eventually("the BE has seen that", || seen() > before).await;
    fe.kill();
    server.kill();
    copy(&meta, &newest);

    copy(&old, &meta);
    fe = launch.start();
    let mut client = fe.connect().await;
    let waits = |answer: &Answer| answer.column("TaskErrMsg")[0].contains("no backend has answered");
    client.wait_until("SHOW RESTORE FROM rawkv", waits).await;
    server = be.start();
    let held = |answer: &Answer| answer.column("TaskErrMsg")[0].contains("the catalog has lost commits");
    let shown = client.wait_until("SHOW RESTORE FROM rawkv", held).await;
    assert_eq!(shown.column("State"), ["COMMITTING"]);
    assert_eq!(contents(&mut client).await, newer);
    fe.kill();
    copy(&newest, &meta);
    fe = launch.start();
    let mut client = fe.connect().await;
    alive(&mut client).await;
    client.run("INSERT INTO rawkv.default VALUES ('c', x'03')").await;
    assert_eq!(contents(&mut client).await.len(), 3);

    // If the loss is accepted, the restore goes on without another start.
    fe.kill();
    copy(&old, &meta);
    fe = launch.start();
    let mut client = fe.connect().await;
    client.wait_until("SHOW RESTORE FROM rawkv", held).await;
    client.run("ADMIN SET FRONTEND CONFIG ('accept_lost_commits' = 'true')").await;
    client.finished("RESTORE", "rawkv").await;
    assert_eq!(contents(&mut client).await, data);
    drop((fe, server));
}

/// Keys that are long and alike compress to nothing, but an index has them all.
#[tokio::test]
async fn long_keys_are_backed_up() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    let prefix = "ab".repeat(50_000);
    for first in 0..9 {
        let keys: Vec<_> = (0..50).map(|n| format!("(x'{prefix}{:06X}', 'v')", first * 50 + n)).collect();
        client.run(format!("INSERT INTO rawkv.default VALUES {}", keys.join(", "))).await;
    }
    let uri = format!("local://{}", scratch.sub("b"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    assert!(ssts(&scratch.sub("b")).len() > 1);
    client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
    client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
    assert_eq!(client.value("SELECT COUNT(*) FROM rawkv.default").await, "450");
}

/// CANCEL frees the directory of a backup, and leaves the keys as they were under a restore.
#[tokio::test]
async fn jobs_can_be_cancelled() {
    let scratch = Scratch::new();
    let (_server, mut client) = small_regions(&scratch).open().await;
    client.run("CREATE DATABASE rawkv").await;
    let value = "x".repeat(1000);
    for first in 0..4u8 {
        let rows: Vec<_> =
            (0..1500u32).map(|n| (hex::encode_upper([&[first], n.to_be_bytes().as_slice()].concat()), n)).collect();
        let rows: Vec<_> = rows.into_iter().map(|(key, n)| format!("(x'{key}', SHA2('{n}{value}', 512))")).collect();
        client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "))).await;
    }
    in_regions(&mut client, 2).await;
    let before = contents(&mut client).await;
    let directory = scratch.sub("b");
    let backup = format!("BACKUP RAW TO 'local://{directory}'");
    // The speed of a BE holds for raw jobs as well.
    client.run("UPDATE information_schema.be_configs SET value = '1' WHERE name = 'max_upload_speed_kbps'").await;
    client.run(&backup).await;
    eventually("the first file", || !ssts(&directory).is_empty()).await;
    client.refused(&backup, 5064, "").await;
    client.refused(format!("RESTORE RAW FROM 'local://{directory}'"), 5064, "there is no backupmeta in").await;
    client.run("CANCEL BACKUP FROM rawkv").await;
    let job = client.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
    assert!(job["Status"].contains("user cancelled"), "{job:?}");
    assert!(files(&directory).is_empty(), "{:?}", files(&directory));
    client.run("UPDATE information_schema.be_configs SET value = '0' WHERE name = 'max_upload_speed_kbps'").await;
    client.run(format!("{backup} {WAIT}")).await;

    client.run("UPDATE information_schema.be_configs SET value = '1' WHERE name = 'max_download_speed_kbps'").await;
    client.run(format!("RESTORE RAW FROM 'local://{directory}' PROPERTIES ('replace' = 'true')")).await;
    client.wait_for_job("RESTORE", "rawkv", &["DOWNLOADING"]).await;
    client
        .refused("INSERT INTO rawkv.default VALUES ('a', 'b')", 5064, "table rawkv.default is being restored by job")
        .await;
    client.run("INSERT INTO rawkv.write VALUES ('a', 'b')").await;
    client.run("CANCEL RESTORE FROM rawkv").await;
    client.wait_for_job("RESTORE", "rawkv", &["CANCELLED"]).await;
    assert_eq!(contents(&mut client).await, before);
    client.run("INSERT INTO rawkv.default VALUES ('a', 'b')").await;
    let history = client.run("SELECT STATE, REPOSITORY_NAME FROM information_schema.backup_jobs").await;
    assert_eq!(history.column("STATE"), ["CANCELLED", "FINISHED"]);
    assert_eq!(history.column("REPOSITORY_NAME"), vec![format!("local://{directory}"); 2]);
}

/// What happens to a file.
type Harm = fn(&Path);

/// One byte flipped, a file cut short, a file gone: it is named, and nothing is stored.
#[tokio::test]
async fn damage_is_named() {
    let scratch = Scratch::new();
    let (_server, mut client) = small_regions(&scratch).open().await;
    client.run("CREATE DATABASE rawkv").await;
    let data = Numbers(11).data(1500);
    insert(&mut client, &data).await;
    in_regions(&mut client, 2).await;
    let directory = scratch.sub("b");
    let uri = format!("local://{directory}");
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
    let old = Numbers(12).data(100);
    insert(&mut client, &old).await;
    let restore = format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true', 'replace' = 'true')");

    let names = ssts(&directory);
    assert!(names.len() > 1, "{names:?}");
    let harms: [(&str, Harm); 3] = [
        ("flipped", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("cut", |path| std::fs::File::options().write(true).open(path).unwrap().set_len(100).unwrap()),
        ("gone", |path| std::fs::remove_file(path).unwrap()),
    ];
    for name in [&names[0], names.last().unwrap()] {
        for (what, harm) in harms {
            let path = Path::new(&directory).join(name);
            let whole = std::fs::read(&path).unwrap();
            harm(&path);
            let refusal = client.try_run(&restore).await.unwrap_err();
            assert!(refusal.text.contains(name.as_str()), "{what}: {refusal}");
            assert_eq!(contents(&mut client).await, old, "{what}: nothing is stored");
            let verified = client.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await;
            for row in verified.records() {
                assert_eq!(row["Result"] == "OK", row["File"] != name.as_str(), "{what}: {row:?}");
            }
            // Which a script sees without looking at the rows.
            assert_eq!(client.value("SHOW COUNT(*) WARNINGS").await, "1");
            let warning = format!("1 of {} files of {uri} are not what was backed up", names.len());
            assert!(format!("{:?}", client.run("SHOW WARNINGS").await).contains(&warning));
            std::fs::write(&path, whole).unwrap();
        }
    }
    let meta = scratch.sub("b/backupmeta");
    let whole = std::fs::read(&meta).unwrap();
    for at in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&meta, &whole[..at]).unwrap();
        let refusal = client.try_run(&restore).await.unwrap_err();
        assert!(refusal.text.contains("backupmeta"), "cut at {at}: {refusal}");
        assert_eq!(contents(&mut client).await, old, "cut at {at}: nothing is stored");
    }
    let show = format!("SHOW BACKUP RAW FROM '{uri}'");
    std::fs::write(&meta, &whole).unwrap();
    let shown = client.run(&show).await;
    for at in (0..whole.len()).step_by(11) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&meta, &flipped).unwrap();
        match client.try_run(&show).await {
            Ok(other) => assert_eq!(other, shown, "flipped at {at}"),
            Err(_) => {
                let refusal = client.try_run(&restore).await.unwrap_err();
                assert!(refusal.text.contains("backup"), "flipped at {at}: {refusal}");
                client.try_run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await.unwrap_err();
                assert_eq!(contents(&mut client).await, old, "flipped at {at}: nothing is stored");
            }
        }
    }
    std::fs::write(&meta, whole).unwrap();
    client.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await;
    assert_eq!(client.value("SHOW COUNT(*) WARNINGS").await, "0");
    client.run(&restore).await;
    assert_eq!(contents(&mut client).await, data);
}

/// Two servers back up into one directory at once: one wins, and its backup is whole.
#[tokio::test]
async fn one_of_two_servers_gets_a_directory() {
    let scratch = Scratch::new();
    let mut servers = Vec::new();
    for name in ["one", "two"] {
        let server = standalone(&scratch, name);
        let mut client = server.connect().await;
        client.run("CREATE DATABASE rawkv").await;
        client.run(format!("INSERT INTO rawkv.default VALUES ('who', '{name}')")).await;
        servers.push((server, client));
    }
    for round in 0..5 {
        let uri = format!("local://{}", scratch.sub(&format!("b{round}")));
        let backup = format!("BACKUP RAW TO '{uri}' {WAIT}");
        let outcomes = futures::future::join_all(servers.iter_mut().map(|(_, client)| client.try_run(&backup))).await;
        let winner = outcomes.iter().position(Result::is_ok).expect("one wins");
        let loser = outcomes[1 - winner].as_ref().unwrap_err();
        assert!(loser.number == 5064 && loser.text.contains(&uri), "{loser}");
        let (_, client) = &mut servers[1 - winner];
        client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
        let who = client.value("SELECT CAST(v AS VARCHAR) FROM rawkv.default").await;
        assert_eq!(who, ["one", "two"][winner]);
        client.run(format!("INSERT INTO rawkv.default VALUES ('who', '{}')", ["one", "two"][1 - winner])).await;
    }
}

/// So it is for a copy of a server, which gives its jobs the same numbers.
#[tokio::test]
async fn a_server_and_its_copy_are_two() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let (server, mut client) = launch.open().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("INSERT INTO rawkv.default VALUES ('a', 'b')").await;
    assert!(server.stop().await.success());
    let copy = scratch.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    output("cp", &["-a", &scratch.sub("data"), copy.to_str().unwrap()], None);
    let file = scratch.path().join("held");
    let (_server, mut client) = launch.held_at("backup-raw.snapshoting.before", &file).open().await;
    let (_other, mut other) = Launch::standalone(&copy).open().await;
    let uri = format!("local://{}", scratch.sub("b"));
    let backup = format!("BACKUP RAW TO '{uri}' {WAIT}");
    let refused = async {
        held(&file).await;
        other.refused(&backup, 5064, "backup.lock exists in").await;
        std::fs::remove_file(&file).unwrap();
    };
    tokio::join!(client.run(&backup), refused);
    assert_eq!(other.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await.column("Result"), ["OK"]);
}

/// TiKV can be told to take longer keys. A backup of such is refused before a key is deleted or stored.
#[tokio::test]
async fn what_cannot_be_stored_changes_nothing() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv; INSERT INTO rawkv.default VALUES ('a', '1'), ('b', '2')").await;
    let expected = contents(&mut client).await;
    let uri = format!("local://{}", scratch.sub("b"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    let path = scratch.sub("b/backupmeta");
    let mut meta = BackupMeta::decode(&std::fs::read(&path).unwrap(), &uri).unwrap();
    let file = &mut meta.files[0];
    let mut sst = SstWriter::new(Vec::new(), &file.name, SstOptions::default()).unwrap();
    sst.put(b"aa", b"stored first").unwrap();
    sst.put(&[b'b'; 70_000], b"3").unwrap();
    let (content, summary) = sst.finish().unwrap();
    (file.size, file.sha256, file.checksum) = (summary.size, summary.sha256, summary.checksum);
    std::fs::write(scratch.sub("b").to_owned() + "/" + &file.name, content).unwrap();
    std::fs::write(&path, meta.encode()).unwrap();
    let verified = client.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await;
    assert!(verified.column("Result")[0].contains("70000 bytes"), "{verified:?}");
    for properties in ["'wait' = 'true'", "'wait' = 'true', 'replace' = 'true'"] {
        client.refused(format!("RESTORE RAW FROM '{uri}' PROPERTIES ({properties})"), 1317, "70000 bytes").await;
        assert_eq!(contents(&mut client).await, expected);
    }
}

/// Values that say when they expire are stored without it, if that has not come.
#[tokio::test]
async fn expiry_is_honoured() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    // As an old br writes it: values of API V1TTL, in a backup that says V1.
    let rows = [("past", "0000000062007C2B"), ("never", "0000000000000000"), ("future", "00000001FFFFFFFF")];
    for (key, seconds) in rows {
        client.run(format!("INSERT INTO rawkv.default VALUES ('{key}', x'{}{seconds}')", hex::encode_upper(key))).await;
    }
    let uri = format!("local://{}", scratch.sub("b"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    // TiKV of that time took no CRC.
    let meta = scratch.sub("b/backupmeta");
    let mut old = BackupMeta::decode(&std::fs::read(&meta).unwrap(), &uri).unwrap();
    old.files.iter_mut().for_each(|file| file.checksum.crc64xor = 0);
    std::fs::write(&meta, old.encode()).unwrap();
    let properties = "PROPERTIES ('wait' = 'true', 'replace' = 'true', 'api_version' = 'V1TTL')";
    client.run(format!("RESTORE RAW FROM '{uri}' {properties}")).await;
    let warnings = client.run("SHOW WARNINGS").await;
    assert!(warnings.rows[0].iter().flatten().any(|text| text.contains("stored for ever")), "{warnings:?}");
    let hex = hex::encode_upper::<&str>;
    let expected = ["future", "never"].map(|key| (hex(key), hex(key)));
    assert_eq!(contents(&mut client).await, expected.into());
    let verify = format!("VERIFY BACKUP RAW FROM '{uri}' PROPERTIES ('api_version' = 'V1TTL')");
    assert_eq!(client.run(verify).await.column("Result"), ["OK"]);
}

/// The backup that a real br made.
#[tokio::test]
async fn a_backup_of_br_is_restored() {
    let Some(directory) = named("HOLDFAST_BR_FIXTURE", "a backup of br's") else { return };
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    let uri = format!("local://{}", directory.display());
    let verified = client.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await;
    let sums: Vec<u64> = verified.column("Crc64Xor").into_iter().map(|sum| sum.parse().unwrap()).collect();
    assert_eq!(sums, [14_689_893_359_140_782_766, 16_880_284_908_704_488_181]);
    client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
    assert_eq!(client.value("SELECT COUNT(*) FROM rawkv.default").await, "1000");
    // Backed up again, it sums up to the same.
    let again = format!("local://{}", scratch.sub("again"));
    client.run(format!("BACKUP RAW TO '{again}' {WAIT}")).await;
    let again = client.run(format!("SHOW BACKUP RAW FROM '{again}'")).await;
    let sum = again.column("Crc64Xor").into_iter().map(|sum| sum.parse::<u64>().unwrap()).fold(0, |a, b| a ^ b);
    assert_eq!(sum, sums[0] ^ sums[1]);
}

/// Runs a program to its end, and returns what it said.
fn output(program: &str, arguments: &[&str], input: Option<&Path>) -> String {
    let stdin = input.map_or(Stdio::null(), |path| std::fs::File::open(path).unwrap().into());
    let output = Command::new(program).args(arguments).stdin(stdin).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

/// `protoc` reads `backupmeta` with TiDB's own schema and finds in it what SHOW BACKUP RAW shows; RocksDB's tools verify
/// the files, and RocksDB takes all of them in and has the keys.
#[tokio::test]
async fn tools_of_others_read_a_backup() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/kvproto");
    if !schema.exists() || Command::new("ldb").arg("--version").stdin(Stdio::null()).output().is_err() {
        return skip("TiDB's protobuf schema and RocksDB's tools", ".ci/setup stores");
    }
    let scratch = Scratch::new();
    let (_cluster, mut client) = cluster(&scratch).await;
    let data = Numbers(17).data(1000);
    insert(&mut client, &data).await;
    let directory = scratch.sub("b");
    let uri = format!("local://{directory}");
    client.run(format!("BACKUP RAW END 'FF80' TO '{uri}' {WAIT}")).await;
    let expected = within(&data, "", "FF80");

    let [protos, includes] = ["proto", "include"].map(|name| format!("-I{}", schema.join(name).display()));
    let arguments = ["-m", "grpc_tools.protoc", &protos, &includes, "--decode=backup.BackupMeta", "brpb.proto"];
    let decoded = output(PYTHON, &arguments, Some(Path::new(&scratch.sub("b/backupmeta"))));
    let field = |name: &str| -> Vec<String> {
        let lines = decoded.lines().filter_map(|line| line.trim().strip_prefix(&format!("{name}: ")));
        lines.map(|value| value.trim_matches('"').to_owned()).collect()
    };
    let shown = client.run(format!("SHOW BACKUP RAW FROM '{uri}'")).await;
    assert_eq!(field("name"), shown.column("File"), "{decoded}");
    for (ours, theirs) in
        [("Crc64Xor", "crc64xor"), ("TotalKVs", "total_kvs"), ("TotalBytes", "total_bytes"), ("Size", "size")]
    {
        assert_eq!(field(theirs), shown.column(ours), "{decoded}");
    }
    assert_eq!(field("is_raw_kv"), ["true"]);
    assert_eq!(field("cluster_version"), [r#"\"8.5.0\"\n"#]);
    assert_eq!(field("ddls"), ["[]"]);
    assert_eq!(field("end_key").last().unwrap(), r"\377\200");
    assert!(!decoded.lines().any(|line| line.trim().starts_with(|first: char| first.is_ascii_digit())), "{decoded}");
    let sizes: u64 = shown.column("Size").into_iter().map(|size| size.parse::<u64>().unwrap()).sum();
    let whole: u64 = field("backup_size")[0].parse().unwrap();
    assert!((sizes + 1..sizes + std::fs::metadata(scratch.sub("b/backupmeta")).unwrap().len()).contains(&whole));

    let db = format!("--db={}", scratch.sub("db"));
    for name in ssts(&directory) {
        let file = Path::new(&directory).join(name).display().to_string();
        let said = output("sst_dump", &[&format!("--file={file}"), "--command=verify"], None);
        assert!(said.contains("The file is ok"), "{said}");
        output("ldb", &[&db, "--create_if_missing", "ingest_extern_sst", &file], None);
    }
    let scanned = output("ldb", &[&db, "scan", "--hex"], None);
    let scanned: Vec<_> = scanned.lines().collect();
    let lines: Vec<_> = expected.iter().map(|(key, value)| format!("0x7A{key} : 0x{value}")).collect();
    assert_eq!(scanned, lines);
}

/// br itself decodes `backupmeta`, finds in it what SHOW BACKUP RAW shows and `holdfast br` decodes, and
/// writes it again byte for byte.
#[tokio::test]
async fn br_reads_a_backup() {
    let Some(br) = named("HOLDFAST_BR", "TiDB's br") else { return };
    let scratch = Scratch::new();
    let (_cluster, mut client) = cluster(&scratch).await;
    insert(&mut client, &Numbers(19).data(1000)).await;
    let directory = scratch.sub("b");
    let uri = format!("local://{directory}");
    client.run(format!("BACKUP RAW START '01' END 'FF80' FORMAT hex TO '{uri}' {WAIT}")).await;
    let shown = client.run(format!("SHOW BACKUP RAW FROM '{uri}'")).await;

    let log = scratch.sub("br.log");
    let br = |command: &str| output(br.to_str().unwrap(), &["debug", command, "-s", &uri, "--log-file", &log], None);
    br("decode");
    // Older ones write it beside `backupmeta`.
    let decoded = files(&directory).into_iter().find(|file| file.ends_with("backupmeta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(decoded).unwrap()).unwrap();
    for (ours, theirs) in [
        ("File", "name"),
        ("StartKey", "start_key"),
        ("EndKey", "end_key"),
        ("CF", "cf"),
        ("Crc64Xor", "crc64xor"),
        ("TotalKVs", "total_kvs"),
        ("TotalBytes", "total_bytes"),
        ("Size", "size"),
    ] {
        let files = meta["files"].as_array().unwrap().iter();
        let of_br: Vec<_> = files.map(|file| file[theirs].to_string().trim_matches('"').to_owned()).collect();
        // br writes keys in small letters.
        let of_br = of_br.join(" ").to_uppercase();
        assert_eq!(of_br, shown.column(ours).join(" ").to_uppercase(), "{theirs}");
    }
    assert!(shown.rows.len() > 1, "{shown:?}");
    assert_eq!(meta["is_raw_kv"], true);
    let range = serde_json::json!([{ "start_key": "01", "end_key": "ff80", "cf": "default" }]);
    assert_eq!(meta["raw_ranges"], range);
    // API V1 is the default, which is left out.
    assert_eq!(meta.get("api_version"), None);
    output(HOLDFAST, &["br", "debug", "decode", "-s", &uri], None);
    let ours = std::fs::read(scratch.sub("b/backupmeta.json")).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&ours).unwrap(), meta);

    // Encoded by br, it is what it was.
    br("encode");
    let [written, encoded] = ["b/backupmeta", "b/backupmeta_from_json"].map(|name| std::fs::read(scratch.sub(name)));
    assert!(written.unwrap() == encoded.unwrap());
}

/// Each store that BR knows: files lie there as BR and TiKV lay them, nobody sees a secret, and they come back.
#[tokio::test]
async fn every_store_of_br_keeps_backups() {
    for (kind, flat) in [
        (Kind::Minio, false),
        (Kind::Ceph, false),
        (Kind::Gcs, true),
        (Kind::Abfss, true),
        (Kind::Wasb, true),
        (Kind::Hdfs, true),
    ] {
        let scratch = Scratch::new();
        let Some(store) = Store::new(kind, &scratch) else { continue };
        let server = store.server(&scratch, "server").env("HOLDFAST_LOG", "debug").start();
        let mut client = server.connect().await;
        client.run("CREATE DATABASE rawkv").await;
        let data = Numbers(21).data(300);
        insert(&mut client, &data).await;
        let uri = store.storage_uri("raw/b 1");
        let backup = format!("BACKUP RAW TO '{uri}' {WAIT}");
        client.run(&backup).await;
        let used = client.try_run(&backup).await.unwrap_err();
        assert!(used.text.contains("backup meta file exists in"), "{kind:?}: {used}");
        let shown = client.run(format!("SHOW BACKUP RAW FROM '{uri}'")).await;
        for name in shown.column("File") {
            assert_eq!(name.contains('/'), !flat, "{kind:?}: {name}");
        }
        client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
        client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
        assert_eq!(contents(&mut client).await, data, "{kind:?}");
        let verified = client.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await;
        assert_eq!(verified.column("Result"), vec!["OK"; verified.rows.len()], "{kind:?}");
        let jobs = client.run("SELECT * FROM information_schema.backup_jobs").await;
        let processes = client.run("SHOW BACKUP FROM rawkv").await;
        for secret in &store.secrets {
            assert!(!format!("{jobs:?}{processes:?}").contains(secret.as_str()), "{kind:?}");
        }
        assert!(server.stop().await.success());
        super::stores::assert_hidden(&store.secrets, &scratch);
    }
}

/// The URI of a folder in a store that is reached by a proxy.
fn through(proxy: &Proxy, store: &Store, folder: &str) -> String {
    let port = |address: &str| format!("%3A{}", address.rsplit(':').next().unwrap());
    let of_store = port(&store.address().unwrap().to_string());
    store.storage_uri(folder).replace(&of_store, &port(&proxy.endpoint()))
}

/// What a URI says of how a store keeps what is written goes with all that is written, and the store takes it.
#[tokio::test]
async fn a_store_is_told_how_to_keep_what_is_written() {
    for (kind, parameters, headers, query) in [
        (
            Kind::Minio,
            "storage-class=REDUCED_REDUNDANCY&acl=private&sse=AES256",
            &[
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ("x-amz-acl", "private"),
                ("x-amz-server-side-encryption", "AES256"),
            ][..],
            None,
        ),
        (
            Kind::Minio,
            "sse=aws:kms&sse-kms-key-id=key-of-tests",
            &[
                ("x-amz-server-side-encryption", "aws:kms"),
                ("x-amz-server-side-encryption-aws-kms-key-id", "key-of-tests"),
            ],
            None,
        ),
        (Kind::Gcs, "storage-class=NEARLINE&predefined-acl=private", &[], Some(("predefinedAcl", "private"))),
    ] {
        let scratch = Scratch::new();
        let Some(store) = Store::new(kind, &scratch) else { continue };
        let proxy = Proxy::to(&format!("http://{}", store.address().unwrap()));
        let server = store.server(&scratch, "server").start();
        let mut client = server.connect().await;
        client.run("CREATE DATABASE rawkv").await;
        let data = Numbers(23).data(100);
        insert(&mut client, &data).await;
        let uri = format!("{}&{parameters}", through(&proxy, &store, "raw"));
        client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
        // The second request of an upload to Google has nothing but the content.
        let writes = |request: &Request| {
            [Method::PUT, Method::POST].contains(&request.method) && request.parameter("upload_id").is_none()
        };
        let written: Vec<_> = proxy.requests().into_iter().filter(writes).collect();
        // The lock, a file and backupmeta.
        assert!(written.len() >= 3, "{written:?}");
        for request in &written {
            for (name, value) in headers {
                assert_eq!(request.header(name), *value, "{name} of {}", request.path);
            }
            if let Some((name, value)) = query {
                assert_eq!(request.parameter(name).as_deref(), Some(value), "{}?{}", request.path, request.query);
            }
        }
        if kind == Kind::Gcs {
            let list = store.attributes();
            let classes: Vec<_> = list.iter().map(|object| object["storageClass"].as_str().unwrap()).collect();
            assert_eq!(classes, vec!["NEARLINE"; list.len()]);
        }
        client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
        client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
        assert_eq!(contents(&mut client).await, data, "{parameters}");
    }
}

/// Waits until the keys are in so many regions.
pub async fn in_regions(client: &mut Client, least: usize) {
    let regions = "SELECT REGION_ID FROM information_schema.raw_regions";
    client.wait_until(regions, |answer| answer.rows.len() >= least).await;
}

/// One server with small regions.
pub fn small_regions(scratch: &Scratch) -> Launch {
    Launch::standalone(scratch.path()).set("raw_region_split_size", 20_000).set("compaction_interval_ms", 50)
}

/// Files that are made or on their way are in memory: eight of them at one time, however many regions and workers there
/// are. Nor does a backup that found its files stored write them again when the store cannot say so for a while.
#[tokio::test]
async fn files_on_their_way_have_a_budget_of_memory() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let proxy = Proxy::to(&format!("http://{}", store.address().unwrap()));
    let (server, mut client) = small_regions(&scratch).set("upload_worker_count", 40).open().await;
    client.run("CREATE DATABASE rawkv").await;
    let data = Numbers(25).data(9000);
    insert(&mut client, &data).await;
    in_regions(&mut client, 12).await;
    let is_file = |request: &Request| request.path.ends_with(".sst");
    let (late, always) = (Fault::Late(Duration::from_secs(1)), usize::MAX);
    proxy.fail(move |request| request.method == Method::PUT && is_file(request), late, always);
    proxy.fail(move |request| request.method == Method::HEAD && is_file(request), Fault::Status(503), always);
    let uri = through(&proxy, &store, "raw");
    client.run(format!("BACKUP RAW TO '{uri}' PROPERTIES ('concurrency' = '40')")).await;
    let log = || std::fs::read_to_string(server.launch.data().with_extension("log")).unwrap();
    eventually("the files are looked for again", || log().contains("trying again: ")).await;
    assert_eq!(proxy.most_running(), 8);
    assert_eq!(client.run("SHOW BACKUP FROM rawkv").await.column("State"), ["UPLOADING"]);
    proxy.heal();
    client.finished("BACKUP", "rawkv").await;
    let mut stored: Vec<_> = proxy.requests().into_iter().filter(|request| request.method == Method::PUT).collect();
    stored.retain(is_file);
    let shown = client.run(format!("SHOW BACKUP RAW FROM '{uri}'")).await;
    assert!(shown.rows.len() >= 12 && stored.len() == shown.rows.len(), "{} of {shown:?}", stored.len());
    client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
    client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
    assert_eq!(contents(&mut client).await, data);
}

/// A BE works on as many files of a job at a time as the statement says, and on four if it says nothing.
#[tokio::test]
async fn files_at_a_time_are_those_that_were_asked_for() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let launch = small_regions(&scratch).set("upload_worker_count", 40).set("download_worker_count", 40);
    let (_server, mut client) = launch.open().await;
    client.run("CREATE DATABASE rawkv").await;
    let data = Numbers(47).data(9000);
    insert(&mut client, &data).await;
    in_regions(&mut client, 12).await;
    for (folder, properties, at_once) in [("two", "'concurrency' = '2'", 2), ("four", "'wait' = 'false'", 4)] {
        let is_file = |request: &Request, method: Method| request.method == method && request.path.ends_with(".sst");
        let slow = |method: Method| {
            let proxy = Proxy::to(&format!("http://{}", store.address().unwrap()));
            let matches = move |request: &Request| is_file(request, method.clone());
            proxy.fail(matches, Fault::Late(Duration::from_millis(500)), usize::MAX);
            proxy
        };
        let proxy = slow(Method::PUT);
        // The backup ends before it looks at all of them together.
        proxy.fail(move |request| is_file(request, Method::HEAD), Fault::Status(403), usize::MAX);
        let refused = through(&proxy, &store, &format!("refused-{folder}"));
        client.run(format!("BACKUP RAW TO '{refused}' PROPERTIES ({properties})")).await;
        client.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
        assert_eq!(proxy.most_running(), at_once, "BACKUP with {properties}");

        let uri = store.storage_uri(folder);
        client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
        let proxy = slow(Method::GET);
        client.run(format!("RESTORE RAW FROM '{}' PROPERTIES ({properties})", through(&proxy, &store, folder))).await;
        client.finished("RESTORE", "rawkv").await;
        assert_eq!(proxy.most_running(), at_once, "RESTORE with {properties}");
    }
}

/// Values that compress to nothing less take the time that `ratelimit`, in MiB a second, gives them. The last MiB moves at
/// once when its turn comes.
#[tokio::test]
async fn a_rate_limit_is_kept() {
    let scratch = Scratch::new();
    let (_server, mut client) = Launch::standalone(scratch.path()).open().await;
    client.run("CREATE DATABASE rawkv").await;
    let mut numbers = Numbers(49);
    for n in 0..3 {
        let value: Vec<u8> = (0..1 << 20).map(|_| numbers.below(256) as u8).collect();
        client.run(format!("INSERT INTO rawkv.default VALUES ('{n}', x'{}')", hex::encode(value))).await;
    }
    let uri = format!("local://{}", scratch.sub("b"));
    for statement in [format!("BACKUP RAW TO '{uri}'"), format!("RESTORE RAW FROM '{uri}'")] {
        let began = Instant::now();
        client.run(format!("{statement} PROPERTIES ('ratelimit' = '1', 'wait' = 'true')")).await;
        let took = began.elapsed();
        let shown = client.run(format!("SHOW BACKUP RAW FROM '{uri}'")).await;
        let size: u64 = shown.column("Size").into_iter().map(|size| size.parse::<u64>().unwrap()).sum();
        assert!(took.as_secs_f64() >= (size - MIB) as f64 / MIB as f64, "{statement}: {size} bytes in {took:?}");
    }
}

/// At a byte a second nobody sees a second file of a BE move; but each has moved its first one, whatever the others do.
#[tokio::test]
async fn each_backend_has_the_rate_limit_for_itself() {
    let scratch = Scratch::new();
    let (cluster, mut client) = cluster(&scratch).await;
    let keys = (0..1600u32).map(|n| hex::encode_upper([&[(n % 256) as u8], n.to_be_bytes().as_slice()].concat()));
    insert(&mut client, &keys.map(|key| (key, "AB".repeat(100))).collect()).await;
    let files_of_each = |answer: &Answer| {
        let owners = answer.column("BACKEND_ID");
        let mut count = BTreeMap::new();
        owners.into_iter().for_each(|owner| *count.entry(owner.to_owned()).or_insert(0) += 1);
        count.len() == 3 && count.values().all(|count| *count >= 2)
    };
    client.wait_until("SELECT BACKEND_ID FROM information_schema.raw_regions", files_of_each).await;
    let uri = |name: &str| format!("local://{}", scratch.sub(name));
    let limit = "PROPERTIES ('ratelimit_bytes' = '1')";
    client.run(format!("BACKUP RAW TO '{}' {limit}", uri("slow"))).await;
    let stored = || ssts(&scratch.sub("slow"));
    eventually("a file of each BE", || stored().len() >= 3).await;
    let backends: BTreeSet<_> = stored().iter().map(|name| name.split('/').next().unwrap().to_owned()).collect();
    assert_eq!((stored().len(), backends.len()), (3, 3), "{:?}", stored());
    client.run("CANCEL BACKUP FROM rawkv").await;

    client.run(format!("BACKUP RAW TO '{}' {WAIT}", uri("b"))).await;
    client.run(format!("RESTORE RAW FROM '{}' {limit}", uri("b"))).await;
    let fetched = || cluster.bes.iter().map(|be| ssts(be.launch.data().to_str().unwrap()).len()).collect::<Vec<_>>();
    eventually("a file on each BE", || !fetched().contains(&0)).await;
    assert_eq!(fetched(), [1, 1, 1]);
    client.run("CANCEL RESTORE FROM rawkv").await;
}

/// From the moment on at which it is sent, nobody may read `backupmeta`.
fn hide_meta(proxy: &Proxy) {
    let sent = AtomicBool::new(false);
    let reads = move |request: &Request| {
        let (of_meta, writes) = (request.path.ends_with("/backupmeta"), request.method == Method::PUT);
        sent.fetch_or(of_meta && writes, Ordering::SeqCst);
        of_meta && !writes && sent.load(Ordering::SeqCst)
    };
    proxy.fail(reads, Fault::Status(403), usize::MAX);
}

/// Waits until a backup that may not read `backupmeta` says so, or has ended.
async fn refused(client: &mut Client) -> Answer {
    let ended = |answer: &Answer| ["CANCELLED", "FINISHED"].contains(&answer.column("State")[0]);
    let told = |answer: &Answer| answer.column("TaskErrMsg")[0].contains("backupmeta");
    client.wait_until("SHOW BACKUP FROM rawkv", |answer| ended(answer) || told(answer)).await
}

/// A store that has taken `backupmeta`, and refuses to say so, is asked again: there may be a backup. Before, an error that
/// lasts ends the job.
#[tokio::test]
async fn a_backup_that_may_be_there_is_not_given_up() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let proxy = Proxy::to(&format!("http://{}", store.address().unwrap()));
    let held = scratch.path().join("held");
    let launch = Launch::standalone(scratch.path()).held_at("backup-raw.upload_info.after", &held);
    let (_server, mut client) = launch.open().await;
    client.run("CREATE DATABASE rawkv").await;
    let data = Numbers(41).data(100);
    insert(&mut client, &data).await;
    client.run(format!("BACKUP RAW TO '{}'", through(&proxy, &store, "forbidden"))).await;
    client.wait_for_job("BACKUP", "rawkv", &["UPLOAD_INFO"]).await;
    proxy.fail(|_| true, Fault::Status(403), usize::MAX);
    std::fs::remove_file(held).unwrap();
    let job = client.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
    assert!(job["Status"].contains("permission"), "{job:?}");
    proxy.heal();

    hide_meta(&proxy);
    let uri = through(&proxy, &store, "raw");
    client.run(format!("BACKUP RAW TO '{uri}'")).await;
    assert_eq!(refused(&mut client).await.column("State"), ["UPLOAD_INFO"]);
    proxy.heal();
    client.finished("BACKUP", "rawkv").await;
    client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
    client.run(format!("RESTORE RAW FROM '{uri}' {WAIT}")).await;
    assert_eq!(contents(&mut client).await, data);
}

/// It is given up after its deadline, with the truth: nobody knows. Its files stay.
#[tokio::test]
async fn a_backup_that_may_be_there_stays_there() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let ahead = scratch.path().join("ahead");
    std::fs::write(&ahead, "+0s").unwrap();
    let Some(launch) = Launch::standalone(scratch.path()).clock(&ahead) else { return };
    let proxy = Proxy::to(&format!("http://{}", store.address().unwrap()));
    hide_meta(&proxy);
    let (_server, mut client) = launch.open().await;
    client.run("CREATE DATABASE rawkv").await;
    insert(&mut client, &Numbers(43).data(100)).await;
    let uri = through(&proxy, &store, "raw");
    client.run(format!("BACKUP RAW TO '{uri}' PROPERTIES ('timeout' = '600')")).await;
    assert_eq!(refused(&mut client).await.column("State"), ["UPLOAD_INFO"]);
    std::fs::write(&ahead, "+900s").unwrap();
    let job = client.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
    assert!(job["Status"].contains("did not say until the deadline whether the backup is there"), "{job:?}");
    std::fs::write(&ahead, "+0s").unwrap();
    proxy.heal();
    let verified = client.run(format!("VERIFY BACKUP RAW FROM '{uri}'")).await;
    assert_eq!(verified.column("Result"), ["OK"]);
}

/// On a store that knows no conditions, two backups may both take a directory for theirs. The one that ends later finds
/// the other's `backupmeta` there, leaves it as it is, and says so.
#[tokio::test]
async fn the_first_backup_in_a_directory_stays() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Hdfs, &scratch) else { return };
    let held = scratch.path().join("held");
    let (_server, mut client) =
        store.server(&scratch, "server").held_after(1, "backup-raw.upload_info.after", &held).open().await;
    client.run("CREATE DATABASE rawkv").await;
    insert(&mut client, &Numbers(51).data(100)).await;
    client.run(format!("BACKUP RAW TO '{}' {WAIT}", store.storage_uri("first"))).await;
    client.run(format!("BACKUP RAW TO '{}'", store.storage_uri("second"))).await;
    client.wait_for_job("BACKUP", "rawkv", &["UPLOAD_INFO"]).await;
    let meta = store.names().into_iter().find(|name| name.ends_with("first/backupmeta")).unwrap();
    let (first, place) = (store.read(&meta), meta.replace("first/", "second/"));
    store.write(&place, &first);
    let before = store.names();
    std::fs::remove_file(held).unwrap();
    let job = client.wait_for_job("BACKUP", "rawkv", &["CANCELLED", "FINISHED"]).await;
    assert!(job["Status"].contains("another backup is written there"), "{job:?}");
    assert!(store.read(&place) == first);
    assert_eq!(store.names(), before);
}

/// The bytes of a restore over several BEs are those that each of them brings: they come to their end, and not beyond.
#[tokio::test]
async fn the_progress_of_a_restore_ends_at_its_end() {
    let scratch = Scratch::new();
    let elsewhere = standalone(&scratch, "elsewhere");
    let mut other = elsewhere.connect().await;
    other.run("CREATE DATABASE rawkv").await;
    let data: Data = (0..=255u8).map(|first| (format!("{first:02X}"), "01".to_owned())).collect();
    insert(&mut other, &data).await;
    let uri = format!("local://{}", scratch.sub("b"));
    other.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    // A file with keys of all BEs.
    let size: u64 = other.run(format!("SHOW BACKUP RAW FROM '{uri}'")).await.column("Size")[0].parse().unwrap();

    let fe = Launch::fe(scratch.path()).set("heartbeat_interval_ms", 50).stops_at("restore-raw.finished.before");
    let cluster = Cluster::of(&fe, scratch.path(), 3).await;
    let mut client = cluster.fe.connect().await;
    client.run(format!("RESTORE RAW FROM '{uri}'")).await;
    let ended = |answer: &Answer| {
        let progress = answer.column("Progress")[0].to_owned();
        let numbers = progress.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok());
        // The job's number stands first.
        let [_, done, all, moved, bytes] = numbers.collect::<Vec<_>>()[..] else { return false };
        assert!(done <= all && moved <= bytes, "{progress}");
        let is_whole = done == all && all > 0;
        assert!(!is_whole || (all, moved, bytes) == (6, 3 * size, 3 * size), "{progress}");
        is_whole
    };
    client.wait_until("SHOW RESTORE FROM rawkv", ended).await;
    cluster.fe.goes_on();
    client.finished("RESTORE", "rawkv").await;
    assert_eq!(contents(&mut client).await, data);
}

/// A file that was stored and is not there at the end is named, and there is no backup without it.
#[tokio::test]
async fn a_file_that_vanishes_ends_its_backup() {
    let scratch = Scratch::new();
    let held = scratch.path().join("held");
    let (_server, mut client) = small_regions(&scratch).held_at("be.raw-backup", &held).open().await;
    client.run("CREATE DATABASE rawkv").await;
    insert(&mut client, &Numbers(27).data(1500)).await;
    in_regions(&mut client, 3).await;
    let directory = scratch.sub("b");
    let backup = format!("BACKUP RAW TO 'local://{directory}'");
    client.run(&backup).await;
    eventually("a file", || !ssts(&directory).is_empty()).await;
    let gone = ssts(&directory).remove(0);
    std::fs::remove_file(Path::new(&directory).join(&gone)).unwrap();
    std::fs::remove_file(held).unwrap();
    let job = client.wait_for_job("BACKUP", "rawkv", &["CANCELLED", "FINISHED"]).await;
    assert!(job["Status"].contains(&format!("{gone} is not there")), "{job:?}");
    eventually("its files go", || files(&directory).is_empty()).await;
    client.run(format!("{backup} {WAIT}")).await;
}

/// A restore that fails in the midst of storing ends once nothing is stored for it any more: what is written from then
/// on stays.
#[tokio::test]
async fn a_restore_that_fails_ends_after_all_it_stores() {
    let scratch = Scratch::new();
    let launch = small_regions(&scratch);
    let (server, mut client) = launch.open().await;
    client.run("CREATE DATABASE rawkv").await;
    let data = Numbers(29).data(9000);
    insert(&mut client, &data).await;
    in_regions(&mut client, 6).await;
    let uri = format!("local://{}", scratch.sub("b"));
    client.run(format!("BACKUP RAW TO '{uri}' {WAIT}")).await;
    assert!(server.stop().await.success());

    let [fetched, storing] = ["fetched", "storing"].map(|name| scratch.path().join(name));
    let launch = launch.held_at("be.raw-ingest", &storing);
    let launch = launch.held_at("restore-raw.committing.before", &fetched).env(
        "FAILPOINTS",
        format!(
            "restore-raw.committing.before=1*return({})->off;be.raw-ingest=1*return({})->off",
            fetched.display(),
            storing.display()
        ),
    );
    let (server, mut client) = launch.open().await;
    client.run(format!("RESTORE RAW FROM '{uri}'")).await;
    // All is fetched, and found to be right.
    held(&fetched).await;
    let staged = files(launch.data()).into_iter().filter(|file| file.extension().is_some_and(|end| end == "sst"));
    let staged = staged.filter(|file| file.components().any(|part| part.as_os_str() == "raw-staging"));
    // The last, so that another is being stored before it fails.
    let number = |file: &PathBuf| file.file_stem().unwrap().to_str().unwrap().parse::<u32>().unwrap();
    let damaged = staged.max_by_key(number).unwrap();
    let mut content = std::fs::read(&damaged).unwrap();
    content[20] ^= 1;
    std::fs::write(&damaged, content).unwrap();
    std::fs::remove_file(fetched).unwrap();
    client.wait_until("SHOW RESTORE FROM rawkv", |answer| answer.column("State") == ["COMMITTING"]).await;
    let insert = "INSERT INTO rawkv.default VALUES ('a', 'mine')";
    for _ in 0..20 {
        client.refused(insert, 5064, "is being restored by job").await;
    }
    std::fs::remove_file(storing).unwrap();
    let job = client.wait_for_job("RESTORE", "rawkv", &["CANCELLED", "FINISHED"]).await;
    assert_eq!(job["State"], "CANCELLED", "{job:?}");
    client.run(insert).await;
    assert!(server.stop().await.success());
    let (_server, mut client) = launch.env("FAILPOINTS", "").open().await;
    assert_eq!(contents(&mut client).await["61"], hex::encode_upper("mine"));
}
