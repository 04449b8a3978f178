//! Bad input: an error that names the thing, a connection that lives, and nothing changed or lost.

use std::process::Command;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::client::Client;
use super::harness::{LATEST, Launch, Scratch, Server, WAIT, skip};
use super::sample;

async fn start(scratch: &Scratch) -> (Server, Client) {
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    client.run(scratch.create_repository()).await;
    sample::create(&mut client, "shop").await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true'); USE shop").await;
    (server, client)
}

/// Cut before their last words, these do nothing.
const CUT: &[&str] = &[
    "SELECT day, COUNT(*) AS n FROM events WHERE note LIKE '%e%' AND id IN (1, 2) GROUP BY day ORDER BY n DESC LIMIT 'x'",
    "INSERT INTO events (day, id) SELECT a, k FROM `values` WHERE nowhere = 1",
    "CREATE TABLE broken (k INT NOT NULL DEFAULT '1' COMMENT 'c') DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2 WITH",
    "BACKUP SNAPSHOT shop.cut TO missing ON (TABLE events PARTITION (jan), TABLE `values`) PROPERTIES ('timeout' = '600')",
    "RESTORE SNAPSHOT shop.cut FROM missing ON (events AS e) PROPERTIES ('backup_timestamp' = 'latest')",
    "SHOW SNAPSHOT ON missing WHERE SNAPSHOT = 'a' AND TIMESTAMP = '2026-11-21-03-11-43-123'",
    "SET wait_for_jobs = maybe",
    "🦀 SELECT 'é' /* 🦀",
];

#[tokio::test]
async fn statements_cut_anywhere_are_answered() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch).await;
    let before = client.contents("shop").await;
    for statement in CUT {
        for (at, _) in statement.char_indices() {
            if let Err(refusal) = client.try_run(&statement[..at]).await {
                assert!(!refusal.is_lost(), "{}: {refusal}", &statement[..at]);
                assert!(refusal.number != 1105, "{}: {refusal}", &statement[..at]);
                assert!(!refusal.text.is_empty());
            }
        }
        let refusal = client.try_run(statement).await.expect_err(statement);
        assert!(!refusal.is_lost() && refusal.number != 1105, "{statement}: {refusal}");
    }
    client.run("DROP TABLE IF EXISTS broken FORCE").await;
    assert_eq!(client.contents("shop").await, before);
}

/// Values that do not fit anywhere, in the place of every value.
#[tokio::test]
async fn values_that_do_not_fit_change_nothing() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch).await;
    let before = client.contents("shop").await;
    for (columns, values, named) in [
        ("k, t", "1, 128", "t"),
        ("k, t", "1, -129", "t"),
        ("k, s", "1, 40000", "s"),
        ("k, i", "1, 3000000000", "i"),
        ("k, g", "1, 9223372036854775808", "g"),
        ("k, i", "1, 'one'", "i"),
        ("k, d", "1, 'x'", "d"),
        ("k, m", "1, 99999999999999999999999999999.5", "m"),
        ("k, a", "1, '2026-02-30'", "a"),
        ("k, a", "1, 'today'", "a"),
        ("k, z", "1, '2026-01-01 25:00:00'", "z"),
        ("k, c", "1, 'sixsix'", "c"),
        ("k, c", "1, 'ééé'", "c"),
        ("k, v", &format!("1, '{}'", "x".repeat(101)), "v"),
        ("k, b", "1, 'perhaps'", "b"),
        ("k", "NULL", "k"),
        ("t", "1", "k"),
    ] {
        // A good row beside the bad one is not loaded either.
        let good =
            columns.split(',').map(|column| if column == "k" { "1" } else { "NULL" }).collect::<Vec<_>>().join(",");
        let sql = format!("INSERT INTO `values` ({columns}) VALUES ({good}), ({values})");
        match client.try_run(&sql).await {
            Ok(_) => panic!("{sql} was taken"),
            Err(refusal) => {
                assert!(!refusal.is_lost() && refusal.number != 1105, "{sql}: {refusal}");
                assert!(refusal.text.contains(&format!("'{named}'")), "{sql}: {refusal}");
            }
        }
    }
    client.refused("INSERT INTO events VALUES (NULL, 1, 'x', 1)", 1048, "day").await;
    assert_eq!(client.contents("shop").await, before);
}

#[tokio::test]
async fn names_may_be_long_and_of_any_script() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch).await;
    let long = "n".repeat(64);
    for name in [long.as_str(), "🦀", "数据库", "with space", "select", "ÄÖ-ü", "1", "a%b_c'd\"e"] {
        client.run(format!("CREATE DATABASE `{name}`; USE `{name}`")).await;
        client.run(format!("CREATE TABLE `{name}` (`{name}` INT) DUPLICATE KEY(`{name}`)")).await;
        client.run(format!("INSERT INTO `{name}` VALUES (1), (2)")).await;
        let location = scratch.sub("repository");
        client.run(format!("CREATE REPOSITORY `{name}` WITH BROKER ON LOCATION 'file://{location}'")).await;
        client.run(format!("BACKUP SNAPSHOT `{name}`.l TO `{name}` PROPERTIES ('wait' = 'true')")).await;
        let before = client.contents(name).await;
        client.run(format!("DROP DATABASE `{name}` FORCE")).await;
        let properties = "PROPERTIES ('backup_timestamp' = 'latest', 'wait' = 'true')";
        client.run(format!("RESTORE SNAPSHOT l FROM `{name}` {properties}")).await;
        assert_eq!(client.contents(name).await, before, "{name}");
        assert_eq!(client.value(&format!("SELECT SUM(`{name}`) FROM `{name}`.`{name}`")).await, "3");
        client.run(format!("DROP REPOSITORY `{name}`")).await;
    }
    for name in ["n".repeat(65), String::new(), "a/b".into(), "a.b".into(), "a\\\\b".into(), "a\nb".into()] {
        let refusal = client.try_run(format!("CREATE DATABASE `{name}`")).await.expect_err(&name);
        assert_eq!(refusal.number, 1102, "{name}: {refusal}");
    }
    for label in ["a/b", "a:b", "a b", ""] {
        client.refused(format!("BACKUP SNAPSHOT shop.`{label}` TO r"), 5082, "Incorrect label name").await;
    }
}

#[tokio::test]
async fn empty_databases_and_tables_and_zero_rows() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch).await;
    client.run("CREATE DATABASE empty; USE empty").await;
    client.refused("BACKUP SNAPSHOT empty.l TO r", 5064, "Database: empty is empty").await;
    client.run("CREATE TABLE t (k INT); INSERT INTO t SELECT 1 WHERE 1 = 0; TRUNCATE TABLE t").await;
    assert_eq!(client.run("SELECT * FROM t").await.rows.len(), 0);
    client.run("BACKUP SNAPSHOT empty.e TO r PROPERTIES ('wait' = 'true'); DROP DATABASE empty FORCE").await;
    client.run("RESTORE SNAPSHOT e FROM r PROPERTIES ('backup_timestamp' = 'latest', 'wait' = 'true')").await;
    assert_eq!(client.value("SELECT COUNT(*) FROM empty.t").await, "0");
    // An empty query is an error as in MySQL, a comment is none: drivers send one to see whether the server is there.
    client.refused("", 1065, "empty").await;
    client.refused(" \n", 1065, "empty").await;
    client.run("/* ping */").await;
    client.run("-- nothing").await;
}

#[tokio::test]
async fn locations_that_cannot_be() {
    let scratch = Scratch::new();
    let (server, mut client) = start(&scratch).await;
    let create = |location: &str| format!("CREATE REPOSITORY bad WITH BROKER ON LOCATION '{location}'");
    std::fs::write(scratch.sub("file"), "").unwrap();
    for (location, number, named) in [
        ("backups", 1064, "backups"),
        ("/backups", 1064, "/backups"),
        ("file://relative", 1064, "relative"),
        ("file:///a/../b", 1064, "/a/../b"),
        ("s3://bucket/x", 1064, "aws.s3.access_key"),
        ("s3://user:secret@bucket/x", 1064, "PROPERTIES"),
        ("ftp://host/x", 1235, "ftp"),
        ("file:///proc/nowhere", 5064, "/proc/nowhere"),
        (&format!("file://{}/below", scratch.sub("file")), 5064, "file/below"),
        (&format!("file://{}/meta", server.launch.data().display()), 5064, "meta"),
        (&format!("file://{}/storage/x", server.launch.data().display()), 5064, "storage"),
    ] {
        client.refused(create(location), number, named).await;
    }
    let read_only = create(&format!("file://{}", scratch.sub("nothing"))).replace("CREATE", "CREATE READ ONLY");
    client.refused(read_only, 5064, "READ ONLY").await;
    assert!(!scratch.path().join("nothing").exists());
    assert_eq!(client.run("SHOW REPOSITORIES").await.column("RepoName"), ["r"]);
    let again = format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", scratch.sub("other"));
    let exists = "Failed to create repository: repository with same name already exist: r";
    client.refused(again, 5064, exists).await;
    // A disk that is not mounted is no empty repository.
    std::fs::rename(scratch.sub("repository"), scratch.sub("gone")).unwrap();
    client.refused("BACKUP SNAPSHOT shop.m TO r", 5064, "__repo_info").await;
    client
        .refused("RESTORE SNAPSHOT copy.l FROM r PROPERTIES ('backup_timestamp' = 'latest')", 5064, "__repo_info")
        .await;
    assert!(!scratch.path().join("repository").exists());
    std::fs::rename(scratch.sub("gone"), scratch.sub("repository")).unwrap();
    client.run("BACKUP SNAPSHOT shop.m TO r PROPERTIES ('wait' = 'true')").await;
}

/// What is too much for a table is refused by name, and what just is not is a table like any other.
#[tokio::test]
async fn definitions_have_limits() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch).await;
    let list = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let columns = |count| format!("CREATE TABLE wide ({})", list(count, &|n| format!("c{n} INT")));
    client.refused(columns(4097), 1117, "Too many columns: 4097; at most 4096").await;
    let partitions = |count| {
        let partitions = list(count, &|n| format!("PARTITION p{n} VALUES LESS THAN ('{}')", n + 1));
        format!("CREATE TABLE parts (k INT) DUPLICATE KEY(k) PARTITION BY RANGE(k) ({partitions})")
    };
    client.refused(partitions(4097), 1499, "Too many partitions: 4097; at most 4096").await;
    let name = |n: usize| format!("`{}{n:02}`", "🦀".repeat(62));
    let keys = |count| {
        let (columns, names) = (list(count, &|n| format!("{} INT", name(n))), list(count, &name));
        format!("CREATE TABLE `keys` ({columns}) DUPLICATE KEY(`{}00`) DISTRIBUTED BY HASH({names})", "🦀".repeat(62))
    };
    client.refused(keys(24), 1064, "the columns by which it is distributed have 6000 bytes; at most 4096").await;
    client.run(format!("{}; {}; {}", columns(4096), partitions(4096), keys(16))).await;
    client.run("INSERT INTO parts VALUES (4095), (NULL); INSERT INTO `keys` SELECT 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16").await;
    assert_eq!(client.run("SELECT * FROM wide").await.columns.len(), 4096);
    client.run(format!("BACKUP SNAPSHOT shop.limits TO r {WAIT}; RESTORE SNAPSHOT copy.limits FROM r {LATEST}")).await;
    assert_eq!(client.run("DESC copy.wide").await.rows.len(), 4096);
    assert_eq!(client.value("SELECT COUNT(*) FROM copy.parts").await, "2");
    assert_eq!(client.run("SELECT * FROM copy.`keys`").await.rows, client.run("SELECT * FROM `keys`").await.rows);
}

/// A small file system below a directory, for as long as this lives.
pub struct SmallDisk(String);

impl SmallDisk {
    pub fn mount(path: String, kilobytes: usize) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={kilobytes}k,nr_inodes=0");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none", &path]).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path)),
            _ => {
                skip("the right to mount a file system", "run as root");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[tokio::test]
async fn a_repository_on_a_full_disk() {
    let scratch = Scratch::new();
    let Some(_disk) = SmallDisk::mount(scratch.sub("small"), 1024) else { return };
    let (_server, mut client) = start(&scratch).await;
    let before = client.contents("shop").await;
    client.run(format!("CREATE REPOSITORY small WITH BROKER ON LOCATION 'file://{}'", scratch.sub("small"))).await;
    std::fs::write(scratch.sub("small/ballast"), vec![0; 980_000]).unwrap();
    let backup = format!("BACKUP SNAPSHOT shop.l TO small {WAIT}");
    client.refused(&backup, 1317, "No space left").await;
    assert_eq!(client.run("SHOW BACKUP FROM shop").await.column("State"), ["CANCELLED"]);
    assert!(!client.run("SHOW SNAPSHOT ON small").await.column("Status").contains(&"OK"));
    assert_eq!(client.contents("shop").await, before);
    // With room, the same statement works.
    std::fs::remove_file(scratch.sub("small/ballast")).unwrap();
    client.run(&backup).await;
    client.run(format!("RESTORE SNAPSHOT copy.l FROM small {LATEST}")).await;
    assert_eq!(client.contents("copy").await, before);
}

#[tokio::test]
async fn a_data_directory_on_a_full_disk() {
    let scratch = Scratch::new();
    let Some(_disk) = SmallDisk::mount(scratch.sub("data"), 24 * 1024) else { return };
    let launch = Launch::standalone(scratch.path());
    let server = launch.start();
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d; CREATE TABLE d.t (k INT, v STRING) DUPLICATE KEY(k)").await;
    let mut loaded = 0;
    let refusal = loop {
        // 1 MB that does not compress much.
        let rows: Vec<_> = (0..1000).map(|n| format!("({n}, '{}')", noise(loaded * 10_000 + n))).collect();
        match client.try_run(format!("INSERT INTO d.t VALUES {}", rows.join(","))).await {
            Ok(_) => loaded += 1,
            Err(refusal) => break refusal,
        }
        assert!(loaded < 200, "the disk is never full");
    };
    eprintln!("after {loaded} loads: {refusal}");
    // The server may have ended, because its catalog could not be written; never may it lose or halve a load.
    drop(server);
    remount(&scratch.sub("data"), 64 * 1024);
    let server = launch.start();
    let mut client = server.connect().await;
    let rows: u64 = client.value("SELECT COUNT(*) FROM d.t").await.parse().unwrap();
    assert_eq!(rows % 1000, 0);
    assert!(rows == loaded * 1000 || rows == (loaded + 1) * 1000, "{rows} rows after {loaded} loads");
    client.run("INSERT INTO d.t VALUES (1, 'there is room again')").await;
    drop(server);
}

fn remount(path: &str, kilobytes: usize) {
    let size = format!("remount,size={kilobytes}k");
    assert!(Command::new("mount").args(["-o", &size, path]).status().unwrap().success());
}

fn noise(seed: u64) -> String {
    use sha2::Digest;
    (0..8).map(|n| hex::encode(sha2::Sha512::digest([seed.to_le_bytes(), u64::to_le_bytes(n)].concat()))).collect()
}

/// Pieces of statements, put together by chance.
const PIECES: &[&str] = &[
    "SELECT",
    "*",
    "COUNT(*)",
    "SUM(",
    ")",
    "(",
    ",",
    "FROM",
    "events",
    "`values`",
    "nothing",
    "missing",
    "WHERE",
    "day",
    "id",
    "k",
    "note",
    "=",
    "<",
    ">=",
    "<>",
    "LIKE",
    "IN",
    "BETWEEN",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "IS",
    "'x'",
    "''",
    "1",
    "-1",
    "0.5",
    "1e400",
    "99999999999999999999",
    "'2026-01-15'",
    "DATE '2026-02-30'",
    "GROUP BY",
    "ORDER BY",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "UNION",
    "ALL",
    "DISTINCT",
    "JOIN",
    "LEFT JOIN",
    "CROSS JOIN",
    "ON",
    "USING",
    "AS",
    "a",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST(",
    "AS INT)",
    "AS DECIMAL(50, 2))",
    "EXISTS",
    "WITH",
    "INTERVAL 1 DAY",
    "+",
    "-",
    "/",
    "%",
    "DIV",
    "||",
    "!",
    "@a",
    "@@autocommit",
    "?",
    ";",
    "--",
    "/*",
    "*/",
    "\\",
    "'",
    "\"",
    "`",
    "🦀",
    "\0",
    "FILES('path'='/nowhere', 'format'='csv')",
    "DATE_FORMAT(",
    "CONCAT(",
    "ROW_NUMBER() OVER (",
    "PARTITION BY",
    "SHOW",
    "TABLES",
    "PARTITIONS",
    "BACKUP",
    "SNAPSHOT",
    "RESTORE",
    "TO",
    "l",
    "r",
    "PROPERTIES",
    "('wait' = 'true')",
    "DESC",
    "SET",
    "information_schema.tables",
    "information_schema.columns",
    "VALUES",
    "SUBSTRING(",
    "GREATEST(",
    "GROUP_CONCAT(",
    "JSON",
    "ARRAY[",
    "]",
    "{",
    "}",
    ":",
    ".",
    "$1",
];

#[tokio::test]
async fn statements_put_together_by_chance_are_answered() {
    let scratch = Scratch::new();
    let (_server, mut client) = start(&scratch).await;
    let before = client.contents("shop").await;
    let mut chance = StdRng::seed_from_u64(42);
    let mut answered = 0;
    for n in 0..3000 {
        let mut sql =
            ["", "SELECT ", "SELECT * FROM events WHERE ", "SELECT COUNT(*) FROM `values` GROUP BY "][n % 4].to_owned();
        for _ in 0..=chance.random_range(0..8) {
            sql.push_str(PIECES[chance.random_range(0..PIECES.len())]);
            sql.push(' ');
        }
        match client.try_run(&sql).await {
            Ok(_) => answered += 1,
            Err(refusal) => assert!(!refusal.is_lost() && refusal.number != 1105, "{sql}: {refusal}"),
        }
    }
    assert!(answered > 20, "only {answered} made sense");
    assert_eq!(client.contents("shop").await, before);
}
