//! Raw keys on servers that die, and on many BEs.

use std::collections::BTreeMap;

use super::client::Client;
use super::harness::{Launch, Scratch};
use super::raw_backup::Cluster;

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
    server.stop().await;

    for (place, is_there) in [("be.raw-write.before", false), ("be.raw-write.after", true)] {
        let mut server = launch.clone().dies_at(place).start();
        let mut client = server.connect().await;
        let insert = format!("INSERT INTO rawkv.default VALUES ('{place}', '')");
        assert!(client.try_run(insert).await.unwrap_err().is_lost());
        server.died().await;
        let server = launch.start();
        let mut client = server.connect().await;
        if is_there {
            expected.insert(hex::encode_upper(place), String::new());
        }
        assert_eq!(contents(&mut client).await, expected, "{place}");
        server.stop().await;
    }
}

/// Three BEs share the keys; regions that grow are split; nothing is lost by it, and a scan goes through them in order.
#[tokio::test]
async fn regions_are_spread_and_split() {
    let scratch = Scratch::new();
    let (mut cluster, mut client) = Cluster::start(&scratch).await;
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

    let address = format!("127.0.0.1:{}", cluster.backends[0].port("be"));
    let only = "has the only copy of";
    client.refused(format!("ALTER SYSTEM DROP BACKEND '{address}' FORCE"), 5064, only).await;
    cluster.backends[0].kill();
    let lost = client.try_run("SELECT COUNT(*) FROM rawkv.default").await.unwrap_err();
    assert!(lost.text.contains(&address), "{lost}");
}
