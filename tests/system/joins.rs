//! Queries whose joins would go on for hours: they end when nobody wants them, and leave room for others.

use std::time::{Duration, Instant};

use super::client::Client;
use super::harness::{PATIENCE, Scratch, Server};

/// Joins of tables of many rows: pairs that no condition holds for, pairs without a condition, and one key for all.
const JOINS: [&str; 6] = [
    "SELECT COUNT(*) FROM n a JOIN n b ON a.k * b.k < 0",
    "SELECT COUNT(*) FROM n a LEFT JOIN n b ON a.k * b.k < 0",
    "SELECT COUNT(*) FROM n a, n b, n c, n d",
    "SELECT SUM(a.k + b.k + c.k) FROM n a, n b, n c",
    "SELECT COUNT(*) FROM n a JOIN n b ON a.g = b.g JOIN n c ON b.g = c.g",
    "SELECT COUNT(*) FROM n a WHERE EXISTS (SELECT 1 FROM n b WHERE a.g = b.g)",
];

async fn with_numbers(server: &Server) -> Client {
    let mut client = server.connect().await;
    client.run("CREATE DATABASE d; USE d; CREATE TABLE i (i INT); CREATE TABLE n (k INT, g INT)").await;
    client.run("INSERT INTO i VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)").await;
    client
        .run(
            "INSERT INTO n SELECT a.i + 10 * b.i + 100 * c.i + 1000 * d.i + 10000 * e.i, 7 \
             FROM i a, i b, i c, i d, i e",
        )
        .await;
    client
}

/// The processor time that a process has had, in ticks.
fn cpu_time(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let time = |at| fields.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap();
    time(11) + time(12)
}

/// Waits until a process does nothing beyond its heartbeats.
async fn is_quiet(process: u32, after: &str) {
    let deadline = Instant::now() + PATIENCE;
    let mut before = cpu_time(process);
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = cpu_time(process);
        if now <= before + 2 {
            return;
        }
        assert!(Instant::now() < deadline, "still busy: {after}");
        before = now;
    }
}

/// Begins a query on a connection of its own, and waits until it is at work. Returns the connection's number.
async fn begin(server: &Server, client: &mut Client, query: &'static str) -> (String, tokio::task::JoinHandle<u16>) {
    let mut other = server.connect().await;
    other.run("USE d").await;
    let id = other.value("SELECT CONNECTION_ID()").await;
    let before = cpu_time(server.id());
    let running = tokio::spawn(async move { other.try_run(query).await.unwrap_err().number });
    let processes = "SHOW PROCESSLIST";
    client.wait_until(processes, |all| all.rows.iter().flatten().flatten().any(|text| *text == query)).await;
    super::harness::eventually("the query is at work", || cpu_time(server.id()) > before + 50).await;
    (id, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_join_gives_its_processor_back() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = with_numbers(&server).await;
    for query in JOINS {
        let (id, running) = begin(&server, &mut client, query).await;
        client.run(format!("KILL QUERY {id}")).await;
        assert_eq!(running.await.unwrap(), 1317, "{query}");
        is_quiet(server.id(), query).await;
    }
    client.run("SET query_timeout = 1").await;
    client.refused(JOINS[0], 3024, "timeout of 1 seconds").await;
    is_quiet(server.id(), "a query that ran out of time").await;
    // A client that goes away, and says nothing.
    let (_, running) = begin(&server, &mut client, JOINS[0]).await;
    running.abort();
    is_quiet(server.id(), "a query whose client has gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_leave_room_for_small_queries() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = with_numbers(&server).await;
    let mut all = Vec::new();
    for at in 0..=std::thread::available_parallelism().unwrap().get() {
        let query = JOINS[at % JOINS.len()];
        all.push(begin(&server, &mut client, query).await);
    }
    client.run("SET query_timeout = 30").await;
    for _ in 0..3 {
        assert_eq!(client.value("SELECT COUNT(i) FROM i").await, "10");
    }
    for (id, running) in all {
        client.run(format!("KILL QUERY {id}")).await;
        assert_eq!(running.await.unwrap(), 1317);
    }
}
