//! The connection phase.

use std::time::Duration;

use super::client::*;
use super::engine;

async fn with_users() -> engine::Server {
    let server = engine::start().await;
    let mut root = Client::root(server.address).await;
    for text in ["CREATE USER 'u' IDENTIFIED BY 'secret'", "CREATE USER 'empty'", "CREATE DATABASE d"] {
        assert!(matches!(root.one(text).await, Answer::Ok { .. }), "{text}");
    }
    server
}

/// Fault 1 and 6: the crate's greeting has too few capabilities, autocommit off and a constant salt.
#[tokio::test]
async fn the_greeting_says_what_the_server_can() {
    let server = engine::start().await;
    let (_, greeting) = Client::connect(server.address).await;
    let (_, second) = Client::connect(server.address).await;
    assert!(greeting.version.starts_with("8.0.33-holdfast-"));
    assert_eq!(greeting.plugin, NATIVE);
    assert_eq!(greeting.status, 2);
    for (name, flag) in [
        ("LONG_PASSWORD", 1),
        ("FOUND_ROWS", 2),
        ("LONG_FLAG", 4),
        ("CONNECT_WITH_DB", CONNECT_WITH_DB),
        ("PROTOCOL_41", PROTOCOL_41),
        ("SSL", SSL),
        ("TRANSACTIONS", 1 << 13),
        ("SECURE_CONNECTION", SECURE_CONNECTION),
        ("MULTI_STATEMENTS", MULTI_STATEMENTS),
        ("MULTI_RESULTS", MULTI_RESULTS),
        ("PS_MULTI_RESULTS", 1 << 18),
        ("PLUGIN_AUTH", PLUGIN_AUTH),
        ("CONNECT_ATTRS", 1 << 20),
        ("PLUGIN_AUTH_LENENC", 1 << 21),
    ] {
        assert_ne!(greeting.capabilities & flag, 0, "{name}");
    }
    for (name, flag) in [("LOCAL_FILES", 1 << 7), ("DEPRECATE_EOF", DEPRECATE_EOF), ("SESSION_TRACK", 1 << 23)] {
        assert_eq!(greeting.capabilities & flag, 0, "{name}");
    }
    assert_ne!(greeting.salt, second.salt);
    assert_ne!(greeting.connection, second.connection);
    assert!(greeting.salt.iter().all(|byte| *byte != 0));
}

/// Fault 6 and 7: each plugin, with a proof at once or after a switch, in clear and over TLS, right and wrong.
#[tokio::test]
async fn passwords_are_checked_by_either_plugin() {
    let server = with_users().await;
    for plugin in [NATIVE, CACHING, "dialog"] {
        for tls in [false, true] {
            for at_once in [false, true] {
                for (user, password, right) in [
                    ("u", "secret", true),
                    ("u", "Secret", false),
                    ("u", "", false),
                    ("empty", "", true),
                    ("empty", "x", false),
                    ("root", "", true),
                    ("root", "x", false),
                    ("nobody", "", false),
                    ("nobody", "x", false),
                ] {
                    let case = format!("{plugin} tls={tls} at_once={at_once} {user} '{password}'");
                    let (mut client, greeting) = Client::connect(server.address).await;
                    if tls {
                        client = client.start_tls(USUAL).await;
                    }
                    let sent = if at_once { proof(plugin, password, &greeting.salt) } else { Vec::new() };
                    let capabilities = if tls { USUAL | SSL } else { USUAL };
                    client.send(&response(capabilities, user, &sent, "", plugin)).await;
                    // A client that showed no password to an account without one is in.
                    let right = right || (user != "u" && user != "nobody" && sent.is_empty());
                    let expected_password =
                        if sent.is_empty() && user != "u" && user != "nobody" { "" } else { password };
                    match client.finish_login(expected_password, plugin).await {
                        Ok(()) => {
                            assert!(right, "{case}");
                            let row = client.row("SELECT user()").await;
                            assert_eq!(row, [Some(format!("{user}@127.0.0.1"))], "{case}");
                        }
                        Err(error) => {
                            assert!(!right, "{case}: {error:?}");
                            let using = if password.is_empty() { "NO" } else { "YES" };
                            let text = format!("Access denied for user '{user}' (using password: {using})");
                            assert_eq!((error.number, &*error.state, error.message), (1045, "28000", text), "{case}");
                            assert!(client.try_read().await.is_none(), "{case}: the connection is closed");
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_database_can_be_named_at_login() {
    let server = with_users().await;
    for (database, current) in [("d", "d"), ("default_catalog.d", "d"), ("INFORMATION_SCHEMA", "information_schema")] {
        let (mut client, _) = Client::connect(server.address).await;
        client.send(&response(USUAL, "root", b"", database, NATIVE)).await;
        client.finish_login("", NATIVE).await.unwrap();
        assert_eq!(client.row("SELECT database()").await, [Some(current.to_owned())]);
    }
    let (mut client, _) = Client::connect(server.address).await;
    client.send(&response(USUAL, "root", b"", "none", NATIVE)).await;
    let error = client.finish_login("", NATIVE).await.unwrap_err();
    assert_eq!((error.number, &*error.state, &*error.message), (5501, "3F000", "Unknown database 'none'"));
}

/// Fault 9: before login a client can send little, and is told when it was too much.
#[tokio::test]
async fn a_large_packet_before_login_is_refused() {
    let server = engine::start().await;
    let (mut client, _) = Client::connect(server.address).await;
    client.send(&vec![b'x'; 65 << 10]).await;
    assert_eq!(refused(&client.read().await).number, 1153);
    assert!(client.try_read().await.is_none());
}

/// Fault 9: a client that says nothing is sent away.
#[tokio::test]
async fn a_client_has_a_deadline_to_log_in() {
    let server = engine::start_with(100, Duration::from_millis(300)).await;
    let mut client = Client::root(server.address).await;
    let (mut silent, _) = Client::connect(server.address).await;
    assert!(silent.try_read().await.is_none());
    // Whoever is logged in may be silent for longer.
    assert_eq!(client.row("SELECT 1").await, [Some("1".to_owned())]);
}

#[tokio::test]
async fn broken_responses_are_refused() {
    let server = engine::start().await;
    let good = response(USUAL, "root", b"", "", NATIVE);
    for broken in [&good[..3], &good[..20], &good[..36], b"".as_slice(), &[0; 40]] {
        let (mut client, _) = Client::connect(server.address).await;
        client.send(broken).await;
        assert_eq!(refused(&client.read().await).number, 1043, "{broken:?}");
        assert!(client.try_read().await.is_none());
    }
    // What follows an SSL request in clear would be taken for what came encrypted.
    let (mut client, _) = Client::connect(server.address).await;
    let mut bytes = [32, 0, 0, 1].to_vec();
    bytes.extend_from_slice(&(USUAL | SSL).to_le_bytes());
    bytes.extend_from_slice(&[0; 28]);
    bytes.extend_from_slice(b"\x00\x00\x00\x02");
    client.send_bytes(&bytes).await;
    // A TLS alert, and the end.
    assert_eq!(client.read_to_end().await[0], 21);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = engine::start_with(1, Duration::from_secs(60)).await;
    let mut first = Client::root(server.address).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await.unwrap();
    assert_eq!(refused(&bytes[4..]).number, 1040);
    assert_eq!(first.row("SELECT 1").await, [Some("1".to_owned())]);
}
