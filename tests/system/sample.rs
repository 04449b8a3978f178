//! A database that has something of everything: each type, NULLs, partitions, buckets, several loads, an empty table.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::client::Client;
use super::harness::Scratch;

/// Makes the database: about 1,000 rows, 200 KB.
pub async fn create(client: &mut Client, database: &str) {
    client.run(format!("CREATE DATABASE `{database}`")).await;
    create_tables(client, database).await;
    for load in 0..3 {
        client.run(events(database, load)).await;
        client.run(values(database, load)).await;
    }
}

async fn create_tables(client: &mut Client, database: &str) {
    client
        .run(format!(
            "CREATE TABLE `{database}`.events (
                day DATE NOT NULL COMMENT 'when', id BIGINT NOT NULL, note VARCHAR(200), amount DECIMAL(12, 2))
            DUPLICATE KEY(day, id) COMMENT 'what happened'
            PARTITION BY RANGE(day) (
                PARTITION jan VALUES LESS THAN ('2026-02-01'),
                PARTITION feb VALUES LESS THAN ('2026-03-01'),
                PARTITION mar VALUES [('2026-03-01'), ('2026-04-01')),
                PARTITION later VALUES LESS THAN MAXVALUE)
            DISTRIBUTED BY HASH(id) BUCKETS 2;
            CREATE TABLE `{database}`.`values` (
                k INT NOT NULL, b BOOLEAN, t TINYINT, s SMALLINT, i INT DEFAULT '7', g BIGINT, d DOUBLE,
                m DECIMAL(38, 10), a DATE, z DATETIME, c CHAR(5), v VARCHAR(100) DEFAULT 'none', x STRING)
            DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 3;
            CREATE TABLE `{database}`.nothing (k INT, v VARCHAR(10))
            DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2"
        ))
        .await;
}

/// Makes a table of one file of 3 MB, too large to share an object: the same for the same number. Loads it from a file
/// that this writes.
pub async fn large(client: &mut Client, table: &str, number: u64, scratch: &Scratch) {
    let csv = scratch.sub(&format!("{table}.csv"));
    let mut random = StdRng::seed_from_u64(number);
    let row = |_| format!("{:032x}{:032x}\n", random.random::<u128>(), random.random::<u128>());
    std::fs::write(&csv, (0..50_000).map(row).collect::<String>()).unwrap();
    client.run(format!("CREATE TABLE {table} (k STRING) DISTRIBUTED BY HASH(k) BUCKETS 1")).await;
    let load = format!("SELECT * FROM FILES('path' = '{csv}', 'format' = 'csv', 'auto_detect_types' = 'false')");
    client.run(format!("INSERT INTO {table} {load}")).await;
}

/// A load into the partitioned table, the same for the same number.
pub fn events(database: &str, load: u64) -> String {
    let row = |n: u64| {
        let chance = scramble(load * 1000 + n);
        let month = ["2026-01", "2026-02", "2026-03", "2027-11"][(chance % 4) as usize];
        let day = 1 + chance / 4 % 28;
        let note =
            if n.is_multiple_of(10) { "NULL".into() } else { format!("'{:016x}{:016x} é'", chance, scramble(chance)) };
        let amount = chance % 1_000_000;
        format!("('{month}-{day:02}', {}, {note}, {}.{:02})", load * 1000 + n, amount / 100, amount % 100)
    };
    let rows: Vec<_> = (0..200).map(row).collect();
    format!("INSERT INTO `{database}`.events VALUES {}", rows.join(","))
}

/// A load into the table of all types.
pub fn values(database: &str, load: u64) -> String {
    let mut rows = vec![
        format!("({load}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"),
        format!(
            "({load}, true, -128, -32768, -2147483648, -9223372036854775808, '-1.5e300', \
             -9999999999999999999999999999.9999999999, '0001-01-01', '0001-01-01 00:00:00', '', '', '')"
        ),
        format!(
            "({load}, false, 127, 32767, 2147483647, 9223372036854775807, '1e-300', \
             9999999999999999999999999999.9999999999, '9999-12-31', '9999-12-31 23:59:59.999999', 'ab''\\\\', '🦀', '\\n\\t')"
        ),
    ];
    for n in 0..100 {
        let chance = scramble(load * 1000 + n + 500);
        rows.push(format!(
            "({n}, {}, {}, {}, {}, {}, '{}.25', {}.0000000001, '2026-{:02}-{:02}', '2026-01-01 12:{:02}:{:02}', 'c{}', '{chance:x}', '{}')",
            chance.is_multiple_of(2),
            chance % 100,
            chance % 30_000,
            chance % 1_000_000,
            chance / 4,
            chance % 1000,
            chance,
            1 + chance % 12,
            1 + chance % 28,
            chance % 60,
            chance / 60 % 60,
            chance % 1000,
            format!("{chance:x}").repeat(20),
        ));
    }
    format!("INSERT INTO `{database}`.`values` VALUES {}", rows.join(","))
}

/// A load of raw keys, the same for the same number; those of others overlap.
pub fn raw_keys(load: u64) -> String {
    let row = |n: u64| format!("('{:02x}', '{:016x}')", scramble(load * 1000 + n) % 500, scramble(load + n));
    let rows: Vec<_> = (0..300).map(row).collect();
    format!("INSERT INTO rawkv.default VALUES {}", rows.join(","))
}

/// A number by chance, the same for the same number.
fn scramble(n: u64) -> u64 {
    StdRng::seed_from_u64(n).random()
}
