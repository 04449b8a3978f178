//! What a session remembers, who may do what, and KILL.

use std::time::Duration;

use super::client::*;
use super::engine;

async fn fails(client: &mut Client, text: &str) -> Refused {
    match client.one(text).await {
        Answer::Err(error) => error,
        other => panic!("{text}: {other:?}"),
    }
}

async fn done(client: &mut Client, text: &str) {
    let answer = client.one(text).await;
    assert!(matches!(answer, Answer::Ok { .. }), "{text}: {answer:?}");
}

async fn listing(client: &mut Client, text: &str) -> Vec<Vec<Option<String>>> {
    match client.one(text).await {
        Answer::Rows { rows, .. } => rows.iter().map(|row| texts(row)).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

#[tokio::test]
async fn variables_are_set_shown_and_selected() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for text in [
        "SET NAMES utf8mb4",
        "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_0900_ai_ci'",
        "SET @@session.autocommit = OFF",
        "SET character_set_results = NULL",
        "SET SQL_MODE = concat(@@sql_mode, ',STRICT_TRANS_TABLES')",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET sql_safe_updates = 1, max_join_size = 18446744073709551615",
        "SET @a = 1 + 0, @b = 'x'",
    ] {
        if text.contains('+') {
            assert_eq!(fails(&mut client, text).await.number, 1235);
        } else {
            done(&mut client, text).await;
        }
    }
    let row = client.row("SELECT @@autocommit, @@sql_mode, @@tx_isolation, @@collation_connection, @b").await;
    assert_eq!(
        row[..4],
        some(&["0", "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES", "READ-COMMITTED", "utf8mb4_0900_ai_ci"])
    );
    assert_eq!(row[4], None, "of a SET that fails nothing happens");

    let rows = listing(&mut client, "SHOW VARIABLES LIKE 'version_co%'").await;
    assert_eq!(rows[0], some(&["version_comment", concat!("Holdfast ", env!("CARGO_PKG_VERSION"))]));
    let rows =
        listing(&mut client, "SHOW SESSION VARIABLES WHERE Variable_name = 'autocommit' AND Value = 'OFF'").await;
    assert_eq!(rows, [some(&["autocommit", "OFF"])]);

    let error = fails(&mut client, "SET no_such = 1").await;
    assert_eq!((error.number, &*error.state, &*error.message), (1193, "HY000", "Unknown variable 'no_such'"));
    assert_eq!(fails(&mut client, "SET version = '9'").await.number, 1231);
    assert_eq!(fails(&mut client, "SET autocommit = 7").await.number, 1231);

    // SET GLOBAL is for those who come later.
    done(&mut client, "SET GLOBAL wait_for_jobs = 1").await;
    assert_eq!(client.row("SELECT @@wait_for_jobs, @@global.wait_for_jobs").await, some(&["0", "1"]));
    let mut later = Client::root(server.address).await;
    assert_eq!(later.row("SELECT @@wait_for_jobs").await, some(&["1"]));
}

#[tokio::test]
async fn statements_can_be_prepared_in_sql() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    done(&mut client, "PREPARE p FROM 'SELECT ?, ?'").await;
    done(&mut client, "SET @a = 7, @b = 'it''s'").await;
    assert_eq!(client.row("EXECUTE p USING @a, @b").await, some(&["7", "it's"]));
    assert_eq!(fails(&mut client, "EXECUTE p USING @a").await.number, 1210);
    done(&mut client, "DEALLOCATE PREPARE p").await;
    assert_eq!(fails(&mut client, "EXECUTE p USING @a, @b").await.number, 1243);
    done(&mut client, "SET @text = 'SELECT 5'").await;
    done(&mut client, "PREPARE q FROM @text").await;
    assert_eq!(client.row("EXECUTE q").await, some(&["5"]));
    assert_eq!(fails(&mut client, "PREPARE r FROM 'SELECT 1; SELECT 2'").await.number, 1064);
    assert_eq!(fails(&mut client, "PREPARE r FROM 'EXECUTE q'").await.number, 1235);
    assert_eq!(fails(&mut client, "SELECT ?").await.number, 1064);
}

#[tokio::test]
async fn users_other_than_root_may_only_read() {
    let server = engine::start().await;
    let mut root = Client::root(server.address).await;
    for text in ["CREATE DATABASE d", "CREATE USER 'u'@'%' IDENTIFIED BY 'one'", "CREATE USER other"] {
        done(&mut root, text).await;
    }
    done(&mut root, "CREATE USER IF NOT EXISTS 'u' IDENTIFIED BY 'ignored'").await;
    assert_eq!(fails(&mut root, "CREATE USER u").await.number, 1396);
    assert_eq!(fails(&mut root, "CREATE USER 'v'@'10.%'").await.number, 1235);
    assert_eq!(fails(&mut root, "CREATE USER v IDENTIFIED WITH ed25519 BY 'x'").await.number, 1235);

    let mut user = Client::login(server.address, "u", "one", NATIVE).await.unwrap();
    for text in [
        "USE d",
        "SET @x = 1",
        "BEGIN",
        "COMMIT",
        "SET PASSWORD = 'two'",
        "ALTER USER u IDENTIFIED BY 'three'",
        "ALTER USER CURRENT_USER() IDENTIFIED BY 'four'",
        "ALTER USER USER() IDENTIFIED BY 'two'",
    ] {
        done(&mut user, text).await;
    }
    assert_eq!(user.row("SELECT 1").await, some(&["1"]));
    assert_eq!(listing(&mut user, "SHOW GRANTS").await, [some(&["'u'@'%'", "GRANT SELECT ON *.* TO 'u'@'%'"])]);
    for text in [
        "CREATE DATABASE e",
        "DROP DATABASE d",
        "INSERT INTO t VALUES (1)",
        "TRUNCATE TABLE t",
        "DROP TABLE t",
        "CREATE USER v",
        "ALTER USER other IDENTIFIED BY 'x'",
        "DROP USER other",
        "SET PASSWORD FOR other = 'x'",
        "SET GLOBAL wait_for_jobs = 1",
        "SHOW GRANTS FOR other",
        "ADMIN SET FRONTEND CONFIG ('a' = 'b')",
        "ADMIN SHOW FRONTEND CONFIG",
        "ALTER SYSTEM ADD BACKEND 'h:1'",
        "DROP REPOSITORY r",
        "BACKUP SNAPSHOT d.s TO r",
        "CANCEL BACKUP",
        "SELECT * FROM FILES('path' = 'file:///etc/passwd', 'format' = 'csv')",
        "PREPARE p FROM 'DROP DATABASE d'",
    ] {
        if text.starts_with("PREPARE") {
            done(&mut user, text).await;
            assert_eq!(fails(&mut user, "EXECUTE p").await.number, 5203);
            continue;
        }
        let error = fails(&mut user, text).await;
        assert_eq!((error.number, &*error.state), (5203, "42000"), "{text}");
        assert!(error.message.starts_with("Access denied; you need (at least one of) the "), "{text}");
    }
    assert_eq!(fails(&mut user, "KILL 1").await.number, 5203);

    // The password that the user chose, and then the one that root chose.
    assert!(Client::login(server.address, "u", "one", NATIVE).await.is_err());
    assert!(Client::login(server.address, "u", "two", CACHING).await.is_ok());
    done(&mut root, "ALTER USER u IDENTIFIED WITH caching_sha2_password BY 'three'").await;
    assert!(Client::login(server.address, "u", "three", NATIVE).await.is_ok());
    done(&mut root, "DROP USER u").await;
    assert!(Client::login(server.address, "u", "three", NATIVE).await.is_err());
    assert_eq!(fails(&mut root, "DROP USER u").await.number, 1396);
    done(&mut root, "DROP USER IF EXISTS u").await;
    assert_eq!(fails(&mut root, "DROP USER root").await.number, 5064);
    done(&mut root, "SET PASSWORD FOR root = 'r'").await;
    assert!(Client::login(server.address, "root", "", NATIVE).await.is_err());
    assert!(Client::login(server.address, "root", "r", NATIVE).await.is_ok());
}

#[tokio::test]
async fn errors_are_shown_again() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    fails(&mut client, "USE none").await;
    for text in ["SHOW WARNINGS", "SHOW ERRORS"] {
        assert_eq!(listing(&mut client, text).await, [some(&["Error", "5501", "Unknown database 'none'"])]);
    }
    client.row("SELECT 1").await;
    assert_eq!(listing(&mut client, "SHOW WARNINGS").await, Vec::<Vec<Option<String>>>::new());
}

/// Waits until a connection runs something.
async fn busy(client: &mut Client, id: &str) -> Vec<Option<String>> {
    loop {
        let rows = listing(client, "SHOW FULL PROCESSLIST").await;
        let row = rows.into_iter().find(|row| row[0].as_deref() == Some(id)).unwrap();
        if row[4].as_deref() == Some("Query") {
            return row;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_statement_can_be_killed() {
    let server = engine::start().await;
    let mut killer = Client::root(server.address).await;
    for text in ["SELECT wait()", "SELECT 'then wait'", "SELECT 1; SELECT wait(); SELECT 3"] {
        let mut client = Client::root(server.address).await;
        let id = client.row("SELECT connection_id()").await[0].clone().unwrap();
        client.send_as(0, &[b"\x03", text.as_bytes()].concat()).await;
        busy(&mut killer, &id).await;
        done(&mut killer, &format!("KILL QUERY {id}")).await;
        let answers = client.answers().await;
        let Some(Answer::Err(error)) = answers.last() else { panic!("{text}: {answers:?}") };
        assert_eq!((error.number, &*error.state), (1317, "70100"), "{text}");
        assert_eq!(client.row("SELECT 1").await, some(&["1"]), "the connection lives");
    }
    // KILL QUERY of one that runs nothing does not hit its next statement.
    let mut client = Client::root(server.address).await;
    let id = client.row("SELECT connection_id()").await[0].clone().unwrap();
    done(&mut killer, &format!("KILL QUERY {id}")).await;
    assert_eq!(client.row("SELECT 1").await, some(&["1"]));
}

#[tokio::test]
async fn a_connection_can_be_killed() {
    let server = engine::start().await;
    let mut killer = Client::root(server.address).await;
    for text in ["", "SELECT wait()", "SELECT n FROM endless"] {
        for by_command in [false, true] {
            let mut client = Client::root(server.address).await;
            let id = client.row("SELECT connection_id()").await[0].clone().unwrap();
            if !text.is_empty() {
                client.send_as(0, &[b"\x03", text.as_bytes()].concat()).await;
                busy(&mut killer, &id).await;
            }
            if by_command {
                let number: u32 = id.parse().unwrap();
                let answers = killer.command(&[&[0x0c][..], &number.to_le_bytes()].concat()).await;
                assert!(matches!(answers[..], [Answer::Ok { .. }]));
            } else {
                done(&mut killer, &format!("KILL {id}")).await;
            }
            // It ends, whatever was under way, and between two packets.
            let mut last = Vec::new();
            client.sequence = 1;
            while let Some(packet) = client.try_read().await {
                last = packet;
            }
            assert_eq!(refused(&last).number, 1317, "{text}");
            while !listing(&mut killer, "SHOW PROCESSLIST").await.iter().all(|row| row[0].as_deref() != Some(&id)) {
                tokio::task::yield_now().await;
            }
        }
    }
    let error = fails(&mut killer, "KILL 4000000000").await;
    assert_eq!((error.number, &*error.state), (1094, "HY000"));
}

#[tokio::test]
async fn the_process_list_masks_secrets() {
    let server = engine::start().await;
    let mut root = Client::root(server.address).await;
    done(&mut root, "CREATE USER u").await;
    done(&mut root, "CREATE DATABASE d").await;
    let mut client = Client::root(server.address).await;
    let id = client.row("SELECT connection_id()").await[0].clone().unwrap();
    done(&mut client, "USE d").await;
    client.send_as(0, b"\x03SELECT * FROM FILES('path' = 's3://b', 'aws.s3.secret_key' = 'hush'), every_type").await;
    client.answers().await;
    client.send_as(0, b"\x03SET @x = wait(), PASSWORD = 'hush'").await;
    let row = busy(&mut root, &id).await;
    assert_eq!((row[1].as_deref(), row[3].as_deref()), (Some("root"), Some("d")));
    let info = row[8].clone().unwrap();
    assert!(info.contains("wait()") && !info.contains("hush"), "{info}");

    // Others see their own connections only.
    let mut user = Client::login(server.address, "u", "", NATIVE).await.unwrap();
    let rows = listing(&mut user, "SHOW PROCESSLIST").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][1].as_deref(), Some("u"));
}

#[tokio::test]
async fn a_shutdown_waits_for_statements_and_sends_the_idle_away() {
    let server = engine::start().await;
    let mut idle = Client::root(server.address).await;
    let mut killer = Client::root(server.address).await;
    let mut client = Client::root(server.address).await;
    let id = client.row("SELECT connection_id()").await[0].clone().unwrap();
    client.send_as(0, b"\x03SELECT wait()").await;
    busy(&mut killer, &id).await;
    let process = server.sessions.processes.get(id.parse().unwrap()).unwrap();
    server.shutdown.cancel();
    idle.sequence = 1;
    assert_eq!(refused(&idle.read().await).number, 1053);
    assert!(idle.try_read().await.is_none());
    assert!(!server.running.is_finished());
    process.kill(true);
    assert!(matches!(&client.answers().await[..], [Answer::Err(error)] if error.number == 1317));
    tokio::time::timeout(Duration::from_secs(5), server.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_long() {
    let server = engine::start().await;
    let mut killer = Client::root(server.address).await;
    let mut client = Client::root(server.address).await;
    let id = client.row("SELECT connection_id()").await[0].clone().unwrap();
    client.send_as(0, b"\x03SELECT wait()").await;
    busy(&mut killer, &id).await;
    server.shutdown.cancel();
    assert!(matches!(&client.answers().await[..], [Answer::Err(error)] if error.number == 1053));
    tokio::time::timeout(Duration::from_secs(10), server.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_client_is_sent_away() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    done(&mut client, "SET wait_timeout = 1").await;
    client.sequence = 1;
    assert_eq!(refused(&client.read().await).number, 4031);
    assert!(client.try_read().await.is_none());
}

/// A statement whose client is gone is not run to its end.
#[tokio::test]
async fn a_client_that_goes_away_ends_its_statement() {
    let server = engine::start().await;
    let mut other = Client::root(server.address).await;
    let mut client = Client::root(server.address).await;
    let id = client.row("SELECT connection_id()").await[0].clone().unwrap();
    client.send_as(0, b"\x03SELECT wait()").await;
    busy(&mut other, &id).await;
    drop(client);
    while listing(&mut other, "SHOW PROCESSLIST").await.len() > 1 {
        tokio::task::yield_now().await;
    }
}

/// A client that leaves its rows unread must not hold them, and its place, for ever.
#[tokio::test]
async fn a_client_that_stops_reading_is_sent_away() {
    let server = engine::start().await;
    let mut other = Client::root(server.address).await;
    let mut client = Client::root(server.address).await;
    done(&mut client, "SET net_write_timeout = 1").await;
    let id = client.row("SELECT connection_id()").await[0].clone().unwrap();
    client.send_as(0, b"\x03SELECT n FROM endless").await;
    busy(&mut other, &id).await;
    while listing(&mut other, "SHOW PROCESSLIST").await.len() > 1 {
        tokio::task::yield_now().await;
    }
    // What was sent is there, and then the end.
    let mut frames = 0;
    while client.try_read().await.is_some() {
        frames += 1;
    }
    assert!(frames > 1000, "{frames}");
}
