//! Raw keys on servers that die, and on many BEs.

use std::collections::BTreeMap;

use super::client::Client;
use super::crash::Ground;
use super::harness::{Launch, Scratch, Server};
use super::raw_backup::{cluster, in_regions, small_regions};

/// All keys and values of the default family, in hex.
pub async fn contents(client: &mut Client) -> BTreeMap<String, String> {
    let answer = client.run("SELECT HEX(k) AS k, HEX(v) AS v FROM rawkv.default").await;
    let keys: Vec<_> = answer.column("k").into_iter().map(str::to_owned).collect();
    assert!(keys.is_sorted(), "keys come in order");
    keys.into_iter().zip(answer.column("v").into_iter().map(str::to_owned)).collect()
}

/// What is acknowledged is there after a kill at any moment; what was under way is there or not.
#[tokio::test]
async fn acknowledged_raw_keys_survive_a_kill() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let mut server = launch.start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    let mut expected = BTreeMap::new();
    for round in 0..3 {
        for n in 0..20 {
            let (key, value) = (format!("{round}-{n}"), format!("{n}").repeat(100));
            client.run(format!("INSERT INTO rawkv.default VALUES ('{key}', '{value}')")).await;
            expected.insert(hex::encode_upper(key), hex::encode_upper(value));
        }
        let gone = hex::encode_upper(format!("{round}-0"));
        client.run(format!("DELETE FROM rawkv.default WHERE k = x'{gone}'")).await;
        expected.remove(&gone);
        server.kill();
        server = launch.start();
        client = server.connect().await;
        assert_eq!(contents(&mut client).await, expected);
    }
}

#[tokio::test]
async fn a_write_of_raw_keys_is_there_from_its_sync_on() {
    writes(&Ground::directory()).await;
}

/// A server that dies before it stores keys, or before it has said so.
pub async fn writes(ground: &Ground) {
    let launch = ground.launch();
    let (server, mut client) = launch.open().await;
    client.run("CREATE DATABASE rawkv").await;
    let mut expected = BTreeMap::new();
    for n in 0..20 {
        client.run(format!("INSERT INTO rawkv.default VALUES ('{n:02}', '{n}')")).await;
        expected.insert(hex::encode_upper(format!("{n:02}")), hex::encode_upper(format!("{n}")));
    }
    assert!(server.stop().await.success());
    for (place, is_there) in [("be.raw-write.before", false), ("be.raw-write.after", true)] {
        let (server, mut client) = launch.clone().dies_at(place).open().await;
        let statement = format!("INSERT INTO rawkv.default VALUES ('{place}', ''), ('00', 'new')");
        assert!(client.try_run(statement).await.unwrap_err().is_lost());
        ground.buries(server).await;
        let (server, mut client) = launch.open().await;
        if is_there {
            expected.insert(hex::encode_upper(place), String::new());
            expected.insert(hex::encode_upper("00"), hex::encode_upper("new"));
        }
        assert_eq!(contents(&mut client).await, expected, "{place}");
        assert!(server.stop().await.success());
    }
}

/// What a statement reads of a family, it has read before it changes it, however many regions there are.
#[tokio::test]
async fn a_statement_does_not_read_what_it_writes() {
    let scratch = Scratch::new();
    let server = small_regions(&scratch).start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    let rows: Vec<_> = (0..20_000).map(|n| format!("('k{n:05}', '{}')", "v".repeat(40))).collect();
    client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(","))).await;
    in_regions(&mut client, 20).await;
    client.run("USE rawkv").await;
    client.run("INSERT INTO `default` SELECT CONCAT('k', k), v FROM rawkv.default").await;
    let lengths = "SELECT LENGTH(k) AS n, COUNT(*) AS c FROM rawkv.default GROUP BY LENGTH(k) ORDER BY n";
    let counted = client.run(lengths).await;
    assert_eq!((counted.column("n"), counted.column("c")), (vec!["6", "7"], vec!["20000", "20000"]));
    // Each key has another, which is going to be deleted too.
    let all = "(SELECT HEX(k) FROM rawkv.default)";
    let others = format!("CONCAT('6B', HEX(k)) IN {all} OR SUBSTRING(HEX(k), 3) IN {all}");
    client.run(format!("DELETE FROM rawkv.default WHERE {others}")).await;
    assert_eq!(client.value("SELECT COUNT(*) FROM rawkv.default").await, "0");
}

#[tokio::test]
async fn keys_have_a_length() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    let text = "Data too long for column 'k': 65535 bytes, more than 65534";
    client.refused("INSERT INTO rawkv.default VALUES (REPEAT('k', 65535), 'v')", 1406, text).await;
    assert_eq!(client.value("SELECT COUNT(*) FROM rawkv.default").await, "0");
}

/// Three BEs share the keys; regions that grow are split; nothing is lost by it, and a scan goes through them in order.
#[tokio::test]
async fn regions_are_spread_and_split() {
    let scratch = Scratch::new();
    let (mut cluster, mut client) = cluster(&scratch).await;
    let mut expected = BTreeMap::new();
    for first in (0..=255u8).step_by(16) {
        let row = |n: u32| {
            let key = hex::encode_upper([&[first], n.to_be_bytes().as_slice()].concat());
            (key, hex::encode_upper(vec![first; 100]))
        };
        let rows: Vec<_> = (0..100).map(row).collect();
        let values: Vec<_> = rows.iter().map(|(key, value)| format!("(x'{key}', x'{value}')")).collect();
        client.run(format!("INSERT INTO rawkv.default VALUES {}", values.join(", "))).await;
        expected.extend(rows);
    }
    assert_eq!(contents(&mut client).await, expected);

    let regions = "SELECT START_KEY, END_KEY, BACKEND_ID, EPOCH_VERSION FROM information_schema.raw_regions";
    let split = client.wait_until(regions, |answer| answer.rows.len() >= 9).await;
    let (starts, ends) = (split.column("START_KEY"), split.column("END_KEY"));
    assert_eq!((starts[0], ends[ends.len() - 1]), ("", ""));
    assert_eq!(starts[1..], ends[..ends.len() - 1], "they cover all keys");
    let owners: std::collections::BTreeSet<_> = split.column("BACKEND_ID").into_iter().collect();
    assert_eq!(owners.len(), 3);
    assert!(split.column("EPOCH_VERSION").into_iter().any(|version| version != "1"));

    assert_eq!(contents(&mut client).await, expected);
    let deleted = client.run("DELETE FROM rawkv.default WHERE k >= x'20' AND k < x'F0'").await;
    assert_eq!(deleted.affected, 1300);
    expected.retain(|key, _| key.as_str() < "20" || key.as_str() >= "F0");
    assert_eq!(contents(&mut client).await, expected);

    let address = format!("127.0.0.1:{}", cluster.bes[0].port("be"));
    let only = "has the only copy of";
    client.refused(format!("ALTER SYSTEM DROP BACKEND '{address}'"), 5064, only).await;
    cluster.bes[0].kill();
    let lost = client.try_run("SELECT COUNT(*) FROM rawkv.default").await.unwrap_err();
    assert!(lost.text.contains(&address), "{lost}");
}

/// A BE whose disk was replaced has none of its keys: that is an error, and not an empty answer.
#[tokio::test]
async fn a_backend_that_lost_its_disk_says_so() {
    let scratch = Scratch::new();
    let (mut cluster, mut client) = cluster(&scratch).await;
    let rows: Vec<_> = (0..=255u8).map(|first| format!("(x'{first:02X}', 'v')")).collect();
    client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "))).await;
    let port = cluster.bes[0].port("be");
    let address = format!("127.0.0.1:{port}");
    cluster.bes[0].kill();
    let launch = cluster.bes[0].launch.clone().flag("--be-port", port);
    std::fs::remove_dir_all(launch.data()).unwrap();
    let _empty = launch.start();
    // It answers, whatever the FE makes of it.
    client
        .wait_until("SHOW BACKENDS", |answer| {
            let rows = answer.records();
            let row = rows.iter().find(|row| row["BePort"] == port.to_string()).unwrap();
            row["Alive"] == "true" || !row["ErrMsg"].contains("connect") && !row["ErrMsg"].contains("unavailable")
        })
        .await;
    let raw = scratch.sub("b");
    let insert = format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "));
    let backup = format!("BACKUP RAW TO 'local://{raw}' PROPERTIES ('wait' = 'true', 'timeout' = '5')");
    for statement in ["SELECT COUNT(*) FROM rawkv.default".to_owned(), insert, backup] {
        let refusal = client.try_run(&statement).await.unwrap_err();
        assert!(refusal.text.contains(&address), "{statement}: {refusal}");
    }
    assert!(!std::path::Path::new(&raw).join("backupmeta").exists());
    // Keys of the others are there.
    assert_eq!(client.value("SELECT COUNT(*) FROM rawkv.default WHERE k >= x'F0'").await, "16");
}

/// What a BE had is given up on demand: other BEs have its regions, empty, and a backup brings the keys back.
#[tokio::test]
async fn the_keys_of_a_lost_backend_can_be_restored() {
    let scratch = Scratch::new();
    let (mut cluster, mut client) = cluster(&scratch).await;
    let rows: Vec<_> = (0..=255u8).map(|first| format!("(x'{first:02X}', 'v')")).collect();
    client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "))).await;
    let before = contents(&mut client).await;
    let uri = format!("local://{}", scratch.sub("b"));
    client.run(format!("BACKUP RAW TO '{uri}' PROPERTIES ('wait' = 'true')")).await;
    let give_up = |port: u16| format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{port}' FORCE");

    let mut lost = cluster.bes.remove(0);
    lost.kill();
    client.run(give_up(lost.port("be"))).await;
    let warnings = client.run("SHOW WARNINGS").await;
    assert!(warnings.column("Message")[0].contains("of rawkv.default are lost; RESTORE RAW"), "{warnings:?}");
    let left = contents(&mut client).await;
    assert!(left.len() < before.len() && left.iter().all(|(key, value)| before[key] == *value));
    client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "))).await;
    assert_eq!(contents(&mut client).await, before);

    // A restore that is in the midst of it goes on with the new owner.
    client.run("DELETE FROM rawkv.default WHERE k >= x''").await;
    let stuck = cluster.bes.remove(0);
    let (port, held) = (stuck.port("be"), scratch.path().join("held"));
    let launch = stuck.launch.clone().flag("--be-port", port).held_at("be.raw-ingest", &held);
    assert!(stuck.stop().await.success());
    let mut stuck = launch.start();
    client.wait_until("SHOW BACKENDS", |answer| answer.column("Alive") == ["true", "true"]).await;
    client.run(format!("RESTORE RAW FROM '{uri}'")).await;
    client.wait_for_job("RESTORE", "rawkv", &["COMMITTING"]).await;
    stuck.kill();
    client.run(give_up(port)).await;
    client.finished("RESTORE", "rawkv").await;
    assert_eq!(contents(&mut client).await, before);

    // Nor is the last BE a dead end.
    let last = cluster.bes[0].port("be");
    client.run(give_up(last)).await;
    assert!(contents(&mut client).await.is_empty());
    client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{last}'")).await;
    client.run(format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true')")).await;
    assert_eq!(contents(&mut client).await, before);
}

/// A server that has lost its raw keys, and nothing else, says how to go on without them, and that is how it goes.
#[tokio::test]
async fn the_only_backend_can_give_its_keys_up() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let uri = format!("local://{}", scratch.sub("b"));
    let server = launch.start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv; INSERT INTO rawkv.default VALUES ('a', '1'), ('b', '2')").await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    client.run(format!("BACKUP RAW TO '{uri}' PROPERTIES ('wait' = 'true')")).await;
    let before = contents(&mut client).await;
    assert!(server.stop().await.success());

    // As where fjall does not open.
    let raw = launch.data().join("storage/raw");
    let kept = scratch.path().join("kept");
    std::fs::rename(&raw, &kept).unwrap();
    std::fs::write(&raw, "no directory").unwrap();
    let log = launch.try_start().err().expect("it does not start without its keys");
    assert!(log.contains("move that directory away") && log.contains("DROP BACKEND … FORCE"), "{log}");
    std::fs::remove_file(&raw).unwrap();

    let server = launch.start();
    let mut client = server.connect().await;
    let refusal = client.try_run("SELECT * FROM rawkv.default").await.unwrap_err();
    assert!(refusal.text.contains("DROP BACKEND … FORCE") && refusal.text.contains("ADD BACKEND"), "{refusal}");
    let port = client.run("SHOW BACKENDS").await.column("BePort")[0].to_owned();
    client.run(format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{port}' FORCE")).await;
    let warnings = client.run("SHOW WARNINGS").await;
    assert!(warnings.column("Message")[0].contains("of rawkv.default are lost; RESTORE RAW"), "{warnings:?}");
    client.run(format!("ALTER SYSTEM ADD BACKEND '127.0.0.1:{port}'")).await;
    client.run(format!("RESTORE RAW FROM '{uri}' PROPERTIES ('wait' = 'true')")).await;
    assert_eq!(contents(&mut client).await, before);
    assert_eq!(client.value("SELECT k FROM d.t").await, "1");
}

/// A write whose BE was given up after it had stored it, and before it said so, is not acknowledged: the key is lost.
#[tokio::test]
async fn what_is_given_up_is_not_acknowledged() {
    let scratch = Scratch::new();
    let (mut cluster, mut client) = cluster(&scratch).await;
    client.run("INSERT INTO rawkv.default VALUES (x'00', 'old')").await;
    let held = scratch.path().join("held");
    let port = cluster.bes[0].port("be");
    let launch = cluster.bes[0].launch.clone().flag("--be-port", port).held_at("be.raw-write.after", &held);
    cluster.bes.remove(0).stop().await;
    cluster.bes.push(launch.start());
    client.wait_until("SHOW BACKENDS", |answer| answer.column("Alive") == ["true", "true", "true"]).await;
    let mut writer = cluster.fe.connect().await;
    let write = async { writer.try_run("INSERT INTO rawkv.default VALUES (x'01', 'new')").await };
    let give_up = async {
        client.wait_until("SELECT k FROM rawkv.default WHERE k = x'01'", |answer| answer.rows.len() == 1).await;
        client.run(format!("ALTER SYSTEM DROP BACKEND '127.0.0.1:{port}' FORCE")).await;
        std::fs::remove_file(&held).unwrap();
    };
    let (written, ()) = tokio::join!(write, give_up);
    let refusal = written.unwrap_err();
    assert!(refusal.text.contains("run the statement again"), "{refusal}");
    assert!(contents(&mut client).await.is_empty());
    writer.run("INSERT INTO rawkv.default VALUES (x'01', 'new')").await;
    assert_eq!(contents(&mut client).await.len(), 1);
}

/// Whatever a URI is mistaken for, its secrets are not in the error.
#[tokio::test]
async fn no_error_shows_the_secrets_of_a_uri() {
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    let uri = "s3://b/x?access-key=AK&secret-access-key=hunter2";
    for statement in [
        "BACKUP RAW TO 's3://AK:hunter2@b/../x'".to_owned(),
        "BACKUP RAW TO 'local://u:hunter2@h/x'".to_owned(),
        "RESTORE RAW FROM 's3:/AK:hunter2@b/x'".to_owned(),
        format!("BACKUP RAW TO `{uri}`"),
        format!("BACKUP RAW TO N'{uri}'"),
        format!("BACKUP RAW '{uri}'"),
        format!("BACKUP RAW CF '{uri}' TO '/x'"),
        format!("BACKUP RAW FORMAT '{uri}' TO '/x'"),
        format!("BACKUP RAW TO '/x' PROPERTIES ('concurrency' = '{uri}')"),
        format!("BACKUP RAW TO '/x' PROPERTIES ('checksum' = '{uri}')"),
        format!("BACKUP RAW TO '/x' PROPERTIES ('compression' = '{uri}')"),
        format!("BACKUP RAW TO '/x' PROPERTIES ('{uri}' = '1')"),
        format!("RESTORE RAW FROM '/x' PROPERTIES ('api_version' = '{uri}')"),
        format!("VERIFY BACKUP RAW FROM '/x' PROPERTIES ('api_version' = '{uri}')"),
    ] {
        let refusal = client.try_run(&statement).await.unwrap_err();
        assert!(!refusal.text.to_lowercase().contains("hunter2"), "{statement}: {refusal}");
    }
    assert!(server.stop().await.success());
    super::stores::assert_hidden(&["hunter2".to_owned()], &scratch);
}
