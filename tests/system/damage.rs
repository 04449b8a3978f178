//! Damaged files: a restore says which one, and installs nothing; a backup and a query never pass wrong bytes on.

use std::fs;
use std::path::{Path, PathBuf};

use super::client::{Client, Refusal};
use super::harness::{Launch, Scratch, Server, files, rowset_files};
use super::sample;

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
    let properties = "PROPERTIES ('backup_timestamp' = 'latest', 'wait' = 'true')";
    client.try_run(format!("RESTORE SNAPSHOT {target}.l FROM r {properties}")).await.map(drop)
}

#[tokio::test]
async fn a_restore_names_what_is_damaged_and_installs_nothing() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    let location = scratch.sub("repository");
    client.run(format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{location}'")).await;
    sample::create(&mut client, "shop").await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    client.run(sample::events("shop", 50)).await;
    client.run("DROP TABLE shop.nothing FORCE").await;
    let old = client.contents("shop").await;

    let object = files(Path::new(&location).join("__holdfast_repository_r/__objects")).remove(0);
    let mut kinds: Vec<PathBuf> =
        ["__repo_info", "__info_", "__meta_", "__files_"].iter().map(|start| named(&location, start)).collect();
    kinds.push(object.clone());
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
                if path == object {
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
    let location = scratch.sub("repository");
    client.run(format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{location}'")).await;
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
            let location = scratch.sub("repository");
            client.run(format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{location}'")).await;
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
    client.run("CREATE TABLE d.whole (k INT); INSERT INTO d.whole VALUES (1)").await;
    assert!(server.stop().await.success());
    fs::remove_file(&file).unwrap();
    let launch = launch.set("compaction_interval_ms", 100);
    let server = launch.start();
    let mut client = server.connect().await;
    assert_eq!(client.value("SELECT k FROM d.whole").await, "1");
    let id = file.file_stem().unwrap().to_str().unwrap();
    client.refused("SELECT * FROM d.t", 1105, id).await;
    let log = || fs::read_to_string(launch.data().with_extension("log")).unwrap();
    super::harness::eventually("the missing file is reported", || log().contains(id)).await;
}
