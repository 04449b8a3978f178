//! INSERT … VALUES with very many rows in one statement.

use std::fmt::Write;

use super::client::Client;
use super::harness::{Scratch, Server};

/// `INSERT INTO t VALUES (0, 'value 0', …), …` with so many rows, the given one in the place of the last.
fn insert(rows: usize, last: &str) -> String {
    let mut text = "INSERT INTO t (k, v, d, b) VALUES\n".to_owned();
    for n in 0..rows - 1 {
        let quoted = ["it''s (, ", "a \\'; b", "ü\\\\"][n % 3];
        writeln!(text, "({n}, '{quoted}{n}', -{n}.25e0, {}),", ["NULL", "TRUE", "DEFAULT"][n % 3]).unwrap();
    }
    text + last + ";\n"
}

async fn server() -> (Scratch, Server, Client) {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d").await;
    client.run("USE d").await;
    client.run("CREATE TABLE t (k BIGINT, v VARCHAR(40), d DOUBLE, b BOOLEAN DEFAULT '0')").await;
    (scratch, server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_of_rows_is_wholly_there_or_not_at_all() {
    let (_scratch, _server, mut client) = server().await;
    let rows = 20_000;
    let refused = |last: &str| insert(rows, last);
    client.refused(refused("(1, 'x', 1)"), 1136, "at row 20000").await;
    client.refused(refused("(1, 'x', 1, 'x')"), 1366, "'x' for column 'b'").await;
    client.refused(refused("(1, 'x', 1e999, NULL)"), 1264, "out of range: 1e999").await;
    // The first line has no row.
    client.refused(refused("(1, 'x' 1, NULL)"), 1064, "line 20001, column 9").await;
    client.refused(refused("(1, 'x', 1, NULL) ON DUPLICATE KEY UPDATE k = 1"), 1235, "ON DUPLICATE KEY UPDATE").await;
    client.refused(refused("(1, 'x', 1, NULL"), 1064, "").await;
    assert_eq!(client.value("SELECT COUNT(*) FROM t").await, "0");

    // Values that need the query engine, in a list of many that do not.
    assert_eq!(client.run(insert(rows, "(1 + 1, 42, '1.5', '1')")).await.affected, rows as u64);
    let seen = client.run("SELECT COUNT(*), SUM(k), COUNT(DISTINCT v), SUM(d), SUM(b), COUNT(b) FROM t").await;
    let n = rows as i64 - 1;
    let expected = [
        rows.to_string(),
        (n * (n - 1) / 2 + 2).to_string(),
        rows.to_string(),
        format!("{}", -(n * (n - 1) / 2) as f64 - n as f64 * 0.25 + 1.5),
        (n / 3 + 1).to_string(),
        (n - (n + 2) / 3 + 1).to_string(),
    ];
    let seen: Vec<_> = seen.rows[0].iter().flatten().map(String::as_str).collect();
    assert_eq!(seen, expected);
    let strings = client.run("SELECT v FROM t WHERE k IN (3, 4, 5) ORDER BY k").await;
    assert_eq!(strings.column("v"), ["it's (, 3", "a '; b4", "ü\\5"]);
}

/// The tree of such a statement, with its tokens, would take some hundred times the memory of its text.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_of_rows_takes_memory_for_its_text() {
    let (_scratch, server, mut client) = server().await;
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
    };
    client.run("CREATE TABLE n (k INT)").await;
    client.run(insert(100, "(1, '', 1, NULL)")).await;
    let before = peak();
    let mut text = "INSERT INTO n VALUES (0)".to_owned();
    text.push_str(&",(1)".repeat(2_000_000));
    assert_eq!(client.run(&text).await.affected, 2_000_001);
    let grown = peak() - before;
    assert!(grown < 40 * text.len(), "{} MB for a text of {} MB", grown >> 20, text.len() >> 20);
    assert_eq!(client.value("SELECT SUM(k) FROM n").await, "2000000");

    // What cannot be taken apart is refused before it takes memory.
    let text = format!("SELECT 1{}", ",1".repeat(1_000_000));
    client.refused(&text, 1064, "more than 1000000 words, numbers and signs").await;
    client.refused(format!("-- don't\n{text}"), 1064, "more than 1000000 words, numbers and signs").await;
    client.run("SELECT 1").await;
}
