//! Damaged files: a restore says which one, and installs nothing; a backup and a query never pass wrong bytes on.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::Digest;

use super::client::{Answer, Client, Refusal};
use super::harness::{LATEST, Launch, Scratch, Server, WAIT, eventually, files, rowset_files};
use super::sample;
use super::stores::assert_hidden;
use super::stores::store::{Kind, Store};

/// What can happen to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// One bit of the byte at this part of the file, in hundredths.
    Flip(usize),
    Remove,
    /// The last byte is gone.
    Cut,
    Empty,
}

const DAMAGES: [Damage; 6] =
    [Damage::Flip(1), Damage::Flip(50), Damage::Flip(99), Damage::Remove, Damage::Cut, Damage::Empty];

impl Damage {
    fn strike(self, path: &Path) {
        let mut content = fs::read(path).unwrap();
        match self {
            Damage::Flip(part) => {
                let at = content.len() * part / 100;
                content[at] ^= 1;
            }
            Damage::Remove => return fs::remove_file(path).unwrap(),
            Damage::Cut => content.truncate(content.len() - 1),
            Damage::Empty => content.clear(),
        }
        fs::write(path, content).unwrap();
    }
}

/// The first file whose name begins so.
fn named(dir: &str, start: &str) -> PathBuf {
    let begins = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(start);
    files(dir).into_iter().find(begins).unwrap_or_else(|| panic!("no {start} in {dir}"))
}

async fn restore(client: &mut Client, target: &str) -> Result<(), Refusal> {
    client.try_run(format!("RESTORE SNAPSHOT {target}.l FROM r {LATEST}")).await.map(drop)
}

#[tokio::test]
async fn a_restore_names_what_is_damaged_and_installs_nothing() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path()).set("compaction_interval_ms", 3_600_000);
    let (_server, mut client) = launch.env("FAILPOINTS", "backup.segment-rows=return(1)").open().await;
    let location = scratch.sub("repository");
    client.run(scratch.create_repository()).await;
    sample::create(&mut client, "shop").await;
    // A file too large to share an object, and so many files that the list of them has several segments.
    sample::large(&mut client, "shop.large", 1, &scratch).await;
    for load in 3..9 {
        client.run(sample::events("shop", load)).await;
    }
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    client.run(sample::events("shop", 50)).await;
    client.run("DROP TABLE shop.nothing FORCE").await;
    let old = client.contents("shop").await;

    let mut objects = files(Path::new(&location).join("__holdfast_repository_r/__objects"));
    objects.sort_by_key(|object| fs::metadata(object).unwrap().len());
    let (shared, single) = (objects.remove(0), objects.pop().unwrap());
    let hash = |path: &Path| hex::encode(sha2::Sha256::digest(fs::read(path).unwrap()));
    let begins = |path: &Path, start: &str| path.file_name().unwrap().to_str().unwrap().starts_with(start);
    assert!(begins(&single, &hash(&single)) && !begins(&shared, &hash(&shared)));
    let mut kinds: Vec<PathBuf> =
        ["__repo_info", "__info_", "__meta_"].iter().map(|start| named(&location, start)).collect();
    let segments: Vec<PathBuf> = files(&location).into_iter().filter(|path| begins(path, "__files_")).collect();
    assert!(segments.len() > 1, "{segments:?}");
    kinds.extend([&segments[0], &segments[segments.len() - 1], &shared, &single].map(Clone::clone));
    for path in kinds {
        let whole = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for damage in DAMAGES {
            damage.strike(&path);
            for target in ["shop", "copy"] {
                let Err(refusal) = restore(&mut client, target).await else {
                    panic!("{damage:?} of {name}: the restore into {target} passed");
                };
                let is_latest = name.starts_with("__info_") && matches!(damage, Damage::Remove);
                assert!(is_latest || refusal.text.contains(name), "{damage:?} of {name}: {refusal}");
                if path == shared || path == single {
                    let place = refusal.text.contains("partition ") && refusal.text.contains(" of table ");
                    assert!(place, "{damage:?} of {name}: {refusal}");
                }
            }
            assert_eq!(client.contents("shop").await, old, "{damage:?} of {name}");
            assert_eq!(client.run("SHOW DATABASES LIKE 'copy'").await.rows.len(), 0, "{damage:?} of {name}");
            // Nothing stays reserved.
            client.run("CREATE TABLE shop.nothing (k INT); DROP TABLE shop.nothing FORCE").await;
            fs::write(&path, &whole).unwrap();
        }
    }
    // With the files as they were, it works.
    restore(&mut client, "shop").await.unwrap();
    restore(&mut client, "copy").await.unwrap();
    assert_eq!(client.contents("shop").await, client.contents("copy").await);
}

/// A table of one file.
async fn one_file(scratch: &Scratch, launch: &Launch) -> (Server, Client, PathBuf) {
    let server = launch.start();
    let mut client = server.connect().await;
    client.run(scratch.create_repository()).await;
    client.run("CREATE DATABASE d").await;
    client.run("CREATE TABLE d.t (k INT, v VARCHAR(100), x DOUBLE) DISTRIBUTED BY HASH(k) BUCKETS 1").await;
    let rows: Vec<_> = (0..300).map(|n| format!("({n}, 'value {}', {n}.5)", n * 7919 % 1000)).collect();
    client.run(format!("INSERT INTO d.t VALUES {}", rows.join(","))).await;
    let file = rowset_files(launch.data());
    assert_eq!(file.len(), 1);
    (server, client, file[0].clone())
}

#[tokio::test]
async fn a_backup_of_a_damaged_tablet_fails_and_names_the_file() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let (_server, mut client, file) = one_file(&scratch, &launch).await;
    let whole = fs::read(&file).unwrap();
    let id = file.file_stem().unwrap().to_str().unwrap();
    for (n, damage) in DAMAGES.into_iter().enumerate() {
        damage.strike(&file);
        let backup = format!("BACKUP SNAPSHOT d.l{n} TO r PROPERTIES ('wait' = 'true')");
        let refusal = client.refused(&backup, 1317, id).await;
        assert_eq!(client.run("SHOW BACKUP FROM d").await.column("State"), ["CANCELLED"], "{refusal}");
        assert!(!client.run("SHOW SNAPSHOT ON r").await.column("Status").contains(&"OK"));
        fs::write(&file, &whole).unwrap();
        // The label is free again.
        if n == 0 {
            client.run("BACKUP SNAPSHOT d.l0 TO r PROPERTIES ('wait' = 'true')").await;
            client.run("DROP REPOSITORY r").await;
            fs::remove_dir_all(scratch.sub("repository")).unwrap();
            client.run(scratch.create_repository()).await;
        }
    }
}

#[tokio::test]
async fn a_query_never_returns_what_damage_made_of_rows() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let (_server, mut client, file) = one_file(&scratch, &launch).await;
    let question = "SELECT * FROM d.t ORDER BY k";
    let right = client.run(question).await;
    let whole = fs::read(&file).unwrap();
    let mut wrong = Vec::new();
    for at in (0..whole.len()).step_by((whole.len() / 150).max(1)) {
        let mut content = whole.clone();
        content[at] ^= 1 << (at % 8);
        fs::write(&file, content).unwrap();
        match client.try_run(question).await {
            Ok(answer) if answer == right => {}
            Ok(_) => wrong.push(at),
            Err(refusal) => assert!(!refusal.is_lost(), "byte {at}: {refusal}"),
        }
    }
    assert_eq!(wrong, [0; 0], "of {} bytes, those at which a flipped bit gave other rows", whole.len());
    for damage in [Damage::Remove, Damage::Cut, Damage::Empty] {
        damage.strike(&file);
        client.refused(question, 1105, file.file_stem().unwrap().to_str().unwrap()).await;
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(client.run(question).await, right);
}

/// A file that is named but missing is reported when the BE comes back, and does not keep the server from starting.
#[tokio::test]
async fn a_server_starts_without_one_of_its_files() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let (server, mut client, file) = one_file(&scratch, &launch).await;
    client.run("CREATE TABLE d.whole (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1").await;
    client.run("INSERT INTO d.whole VALUES (1)").await;
    client.run(format!("BACKUP SNAPSHOT d.l TO r {WAIT}")).await;
    assert!(server.stop().await.success());
    fs::remove_file(&file).unwrap();
    let launch = launch.set("compaction_interval_ms", 100);
    let server = launch.start();
    let mut client = server.connect().await;
    assert_eq!(client.value("SELECT k FROM d.whole").await, "1");
    let id = file.file_stem().unwrap().to_str().unwrap();
    client.refused("SELECT * FROM d.t", 1105, id).await;
    // Whoever looks is told.
    let told = |text: &'static str| move |answer: &Answer| answer.column("ErrMsg")[0] == text;
    let missing = "rowset files are missing: 1; SHOW TABLETS tells whose, to be restored from a snapshot";
    client.wait_until("SHOW BACKENDS", told(missing)).await;
    assert_eq!(client.run("SHOW TABLETS FROM d.t").await.column("MissingFiles"), ["1"]);
    assert_eq!(client.run("SHOW TABLETS FROM d.whole").await.column("MissingFiles"), ["0"]);
    let log = || fs::read_to_string(launch.data().with_extension("log")).unwrap();
    let told_of = |line: &str| line.contains("a rowset file is missing") && line.contains(id);
    eventually("the log tells which", || log().lines().any(told_of)).await;
    client.run(format!("RESTORE SNAPSHOT d.l FROM r {LATEST}")).await;
    assert_eq!(client.value("SELECT COUNT(*) FROM d.t").await, "300");
    client.wait_until("SHOW BACKENDS", told("")).await;
}

/// A lock that does not prove itself holds nobody up, and what is written under it is whole.
#[tokio::test]
async fn a_damaged_lock_spoils_no_backup() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let server = launch.start();
    let mut client = server.connect().await;
    client.run(scratch.create_repository()).await;
    sample::create(&mut client, "shop").await;
    let expected = client.contents("shop").await;
    assert!(server.stop().await.success());
    for (n, damage) in DAMAGES.into_iter().enumerate() {
        let mut server = launch.clone().dies_at("backup.uploading.after").start();
        let mut client = server.connect().await;
        let _ = client.try_run(format!("BACKUP SNAPSHOT shop.l{n} TO r")).await;
        server.died().await;
        damage.strike(&named(&scratch.sub("repository"), "__lock_"));
        let server = launch.start();
        let mut client = server.connect().await;
        client.finished("BACKUP", "shop").await;
        client.run(format!("RESTORE SNAPSHOT copy.l{n} FROM r {LATEST}")).await;
        assert_eq!(client.contents("copy").await, expected, "{damage:?}");
        client.run("DROP DATABASE copy FORCE").await;
        // The next label is not held up by what is left of it.
        client.run(format!("BACKUP SNAPSHOT shop.after{n} TO r {WAIT}")).await;
        assert!(server.stop().await.success());
    }
}

/// Refuses to start while a file is damaged, names it, and starts with the file as it was.
async fn is_named_at_start(launch: &Launch, file: &Path, damages: &[Damage]) {
    let name = file.file_name().unwrap().to_str().unwrap();
    let whole = fs::read(file).unwrap();
    for damage in damages {
        damage.strike(file);
        let Err(log) = launch.try_start() else { panic!("{damage:?} of {name}: it started") };
        let said = log.lines().last().unwrap_or_default();
        assert!(said.contains(name), "{damage:?} of {name}: {log}");
        fs::write(file, &whole).unwrap();
    }
    assert!(launch.start().stop().await.success());
}

/// Without their key the credentials of repositories cannot be read, and are not shown.
#[tokio::test]
async fn a_damaged_key_of_secrets_is_named() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let launch = Launch::standalone(scratch.path());
    let server = launch.start();
    server.connect().await.run(store.create("")).await;
    assert!(server.stop().await.success());
    is_named_at_start(&launch, &launch.data().join("meta/secret.key"), &DAMAGES).await;
    assert_hidden(&store.secrets, &scratch);
}

/// A BE that is not sure whose it is serves nobody.
#[tokio::test]
async fn a_damaged_membership_is_named() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    assert!(launch.start().stop().await.success());
    let damages = DAMAGES.into_iter().filter(|damage| !matches!(damage, Damage::Remove)).collect::<Vec<_>>();
    is_named_at_start(&launch, &launch.data().join("storage/identity.json"), &damages).await;
}

/// A catalog to be damaged.
struct Catalog {
    launch: Launch,
    meta: PathBuf,
    whole: String,
}

impl Catalog {
    /// One with 40 tables.
    async fn make(scratch: &Scratch) -> Self {
        let launch = Launch::standalone(scratch.path());
        let (server, mut client) = launch.open().await;
        client.run("CREATE DATABASE d").await;
        for n in 0..40 {
            client.run(format!("CREATE TABLE d.t{n} (k INT)")).await;
        }
        assert!(server.stop().await.success());
        let catalog = Self { meta: launch.data().join("meta"), whole: scratch.sub("whole"), launch };
        catalog.copy(&catalog.meta, Path::new(&catalog.whole));
        catalog
    }

    fn copy(&self, from: &Path, to: &Path) {
        let _ = fs::remove_dir_all(to);
        assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
    }

    /// Starts the server, which must refuse, and name the catalog, or have all tables: what is wrong otherwise. The
    /// damage is undone.
    async fn look(&self) -> Option<String> {
        let found = match self.launch.try_start() {
            Err(log) => {
                let said = log.lines().last().unwrap_or_default();
                (!said.contains("catalog") && !said.contains(self.meta.to_str().unwrap())).then_some(log)
            }
            Ok(server) => {
                let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'd'";
                let tables = server.connect().await.value(tables).await;
                (tables != "40").then(|| format!("{tables} tables are left"))
            }
        };
        self.copy(Path::new(&self.whole), &self.meta);
        found
    }
}

/// No file of the catalog can go, in whole or in part, and take databases along unnoticed.
#[tokio::test]
async fn a_catalog_without_one_of_its_files_never_loses_databases() {
    let scratch = Scratch::new();
    let catalog = Catalog::make(&scratch).await;
    let mut wrong = Vec::new();
    let full = files(&catalog.meta).into_iter().filter(|file| fs::metadata(file).unwrap().len() > 0);
    for file in full {
        for damage in DAMAGES {
            damage.strike(&file);
            wrong.extend(catalog.look().await.map(|what| format!("{damage:?} of {}: {what}", file.display())));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// A flipped bit in the catalog is refused by name or does no harm; it never takes databases away.
#[tokio::test]
async fn a_damaged_catalog_never_loses_databases() {
    let scratch = Scratch::new();
    let catalog = Catalog::make(&scratch).await;
    let file = catalog.meta.join("db");
    let db = fs::read(&file).unwrap();
    let written = db.iter().rposition(|byte| *byte != 0).unwrap();
    let mut wrong = Vec::new();
    for part in 0..32 {
        let at = written * part / 32 + 7;
        let mut damaged = db.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, damaged).unwrap();
        wrong.extend(catalog.look().await.map(|what| format!("byte {at}: {what}")));
    }
    assert_eq!(wrong, [""; 0], "of {written} bytes, those at which a flipped bit took tables away");
}

/// A file of the raw keys that is damaged is noticed: the server does not start, or says so when the keys are read.
#[tokio::test]
async fn damage_to_raw_keys_takes_none_away() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let (server, mut client) = launch.open().await;
    client.run("CREATE DATABASE rawkv").await;
    let raw = launch.data().join("storage/raw");
    let keyspaces = raw.join("keyspaces");
    // Enough for a table of them, and for a file of those that are kept apart.
    let length = |file: &PathBuf| fs::metadata(file).map_or(0, |about| about.len());
    let largest = |kind: &str| {
        let of_kind = |file: &PathBuf| file.components().any(|part| part.as_os_str() == kind);
        files(&keyspaces).into_iter().filter(of_kind).max_by_key(length)
    };
    let mut keys = 0;
    while ["tables", "blobs"].into_iter().any(|kind| largest(kind).is_none_or(|file| length(&file) < 1000)) {
        let value = |n: i32| format!("{n:04}").repeat(if n % 2 == 0 { 250_000 } else { 300_000 });
        let rows: Vec<_> = (keys..keys + 8).map(|n| format!("('{n:04}', '{}')", value(n))).collect();
        client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "))).await;
        keys += 8;
        assert!(keys < 400, "no table is made");
    }
    let noise: String = (0..100_000).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    client.run(format!("INSERT INTO rawkv.default VALUES ('z', '{noise}')")).await;
    let question = "SELECT k, LENGTH(v), MD5(v) FROM rawkv.default";
    let right = client.run(question).await;
    assert!(server.stop().await.success());

    let [table, values] = ["tables", "blobs"].map(|kind| largest(kind).unwrap());
    let keyspace = table.parent().unwrap().parent().unwrap();
    let version = files(keyspace).into_iter().find(|file| file.file_name().unwrap().to_str().unwrap().starts_with('v'));
    let journal = files(&raw).into_iter().rfind(|file| file.extension().is_some_and(|end| end == "jnl"));
    let (journal, whole) = (journal.unwrap(), scratch.sub("whole"));
    // Of the family without keys.
    let empty = files(&keyspaces).into_iter().rfind(|file| file.ends_with("current")).unwrap();
    let copy = |from: &str, to: &str| {
        let _ = fs::remove_dir_all(to);
        let copied = std::process::Command::new("cp").args(["-r", "--sparse=always", from, to]).status().unwrap();
        assert!(copied.success());
    };
    copy(raw.to_str().unwrap(), &whole);
    for path in [&raw.join("version"), &journal, &keyspace.join("current"), &empty, &version.unwrap(), &table, &values]
    {
        for damage in [Damage::Flip(50), Damage::Remove, Damage::Cut, Damage::Empty] {
            match damage {
                _ if *path != journal => damage.strike(path),
                Damage::Remove => damage.strike(path),
                _ => {
                    // Much of it is room for what is to come.
                    let mut content = fs::read(path).unwrap();
                    let end = content.iter().rposition(|byte| *byte != 0).unwrap();
                    match damage {
                        Damage::Flip(_) => content[end - noise.len() / 2] ^= 1,
                        Damage::Cut => content.truncate(end - noise.len() / 2),
                        _ => content.clear(),
                    }
                    fs::write(path, content).unwrap();
                }
            }
            let what = format!("{damage:?} of {}", path.display());
            match launch.try_start() {
                Err(log) => {
                    let said = log.lines().last().unwrap_or_default();
                    assert!(said.contains(raw.to_str().unwrap()), "{what}: {log}");
                }
                Ok(server) => match server.connect().await.try_run(question).await {
                    Ok(answer) => assert_eq!(answer, right, "{what}"),
                    Err(refusal) => assert!(refusal.text.contains("raw"), "{what}: {refusal}"),
                },
            }
            copy(&whole, raw.to_str().unwrap());
        }
    }
    let (_server, mut client) = launch.open().await;
    assert_eq!(client.run(question).await, right);
}
