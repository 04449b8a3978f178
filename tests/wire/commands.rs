//! Commands that the crate below would answer wrongly, or not survive.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::client::*;
use super::engine;

fn error(answers: Vec<Answer>) -> (u16, String) {
    match answers.as_slice() {
        [Answer::Err(error)] => (error.number, error.state.clone()),
        other => panic!("{other:?}"),
    }
}

async fn still_lives(client: &mut Client) {
    assert_eq!(client.row("SELECT 1").await, [Some("1".to_owned())]);
}

/// Fault 4: the crate answers OK to commands that it does not know.
#[tokio::test]
async fn unknown_commands_are_refused() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    // Create, drop, refresh, shutdown, process info, connect, debug, time, binlog, table dump, slave, none such.
    for code in
        [0x00, 0x05, 0x06, 0x07, 0x08, 0x0a, 0x0b, 0x0d, 0x0f, 0x10, 0x12, 0x13, 0x14, 0x15, 0x1d, 0x1e, 0x20, 0xff]
    {
        let answer = client.command(&[code, b'd']).await;
        assert_eq!(error(answer), (1047, "08S01".into()), "{code:#x}");
    }
    assert_eq!(error(client.command(&[]).await).0, 1047);
    still_lives(&mut client).await;
}

/// Fault 4: commands that the crate does not know and clients use.
#[tokio::test]
async fn commands_without_sql_are_done() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    client.send_as(0, &[0x0e]).await;
    assert_eq!(client.read().await, [0, 0, 0, 2, 0, 0, 0]);

    client.send_as(0, &[0x09]).await;
    let text = String::from_utf8(client.read().await).unwrap();
    assert!(text.starts_with("Uptime: ") && text.ends_with("Threads: 1"), "{text}");

    // COM_FIELD_LIST: definitions, each with a default, and an EOF.
    client.send_as(0, b"\x04every_type\0").await;
    let mut fields = Vec::new();
    while fields.last().is_none_or(|packet: &Vec<u8>| packet[0] == 3) {
        fields.push(client.read().await);
    }
    assert_eq!(fields.pop().unwrap(), [0xfe, 0, 0, 2, 0]);
    let Answer::Rows { columns, .. } = client.one("SELECT * FROM every_type").await else { panic!() };
    let with_default = |column: &Vec<u8>| [&column[..], b"\xfb"].concat();
    assert_eq!(fields, columns.iter().map(with_default).collect::<Vec<_>>());
    // Those that are like a pattern, which may be none.
    client.send_as(0, b"\x04every_type\0no_such%").await;
    assert_eq!(client.read().await, [0xfe, 0, 0, 2, 0]);
    assert_eq!(error(client.command(b"\x04\xff\0").await).0, 1300);

    // COM_SET_OPTION: several statements in one query, or not.
    client.send_as(0, &[0x1b, 1, 0]).await;
    assert_eq!(client.read().await, [0xfe, 0, 0, 2, 0]);
    assert_eq!(error(client.query("SELECT 1; SELECT 2").await).0, 1064);
    client.send_as(0, &[0x1b, 0, 0]).await;
    client.read().await;
    assert_eq!(client.query("SELECT 1; SELECT 2").await.len(), 2);
    assert_eq!(error(client.command(&[0x1b, 7, 0]).await).0, 1047);
    assert_eq!(error(client.command(&[0x1b]).await).0, 1047);

    // COM_INIT_DB.
    client.query("CREATE DATABASE d").await;
    assert!(matches!(client.command(b"\x02d").await[..], [Answer::Ok { .. }]));
    assert_eq!(client.row("SELECT database()").await, [Some("d".to_owned())]);
    assert_eq!(error(client.command(b"\x02none").await), (5501, "3F000".into()));
    client.query("DROP DATABASE d").await;
    assert_eq!(client.row("SELECT database()").await, [None]);

    // COM_QUIT.
    client.send_as(0, &[0x01]).await;
    assert!(client.try_read().await.is_none());
}

/// Fault 10 and 11: text that is not UTF-8 ended the connection.
#[tokio::test]
async fn text_that_is_not_utf8_is_refused() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for code in [0x02, 0x03, 0x16] {
        assert_eq!(error(client.command(&[code, b'`', 0xe9, b'`']).await), (1300, "HY000".into()), "{code:#x}");
    }
    assert_eq!(error(client.command(b"\x03SELECT '\xe9").await).0, 1300);
    assert_eq!(error(client.command(b"\x02'\xe9'").await).0, 1300);
    // Within quotes drivers write bytes.
    for (query, value) in [
        (&b"\x03SELECT '\xe9''\\'\\0\\\\'"[..], "x'e9272700 5c'".replace(' ', "")),
        (&b"\x03SELECT /* ' */ _binary \"\xff'\" -- '"[..], "x'ff27'".into()),
        (&b"\x03SELECT _binary'\xff'"[..], "x'ff'".into()),
        (&b"\x03SELECT _binary'text'"[..], "text".into()),
        ("\x03SELECT _utf8mb4'é'".as_bytes(), "é".into()),
    ] {
        let answers = client.command(query).await;
        assert!(
            matches!(&answers[..], [Answer::Rows { rows, .. }] if texts(&rows[0]) == [Some(value.clone())]),
            "{value}"
        );
    }
    still_lives(&mut client).await;
}

/// Fault 13: the crate answers these two itself, whatever stands behind.
#[tokio::test]
async fn use_and_max_allowed_packet_are_ordinary_statements() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    client.query("CREATE DATABASE d").await;
    for text in ["use d -- hi", "USE `d`", "/* c */ uSe d"] {
        client.command(b"\x02information_schema").await;
        assert!(matches!(client.one(text).await, Answer::Ok { .. }), "{text}");
        assert_eq!(client.row("SELECT database()").await, [Some("d".to_owned())], "{text}");
    }
    assert_eq!(error(client.query("USE none").await).0, 5501);
    assert_eq!(client.row("SELECT @@max_allowed_packet").await, [Some("67108864".to_owned())]);
    assert_eq!(client.row("SELECT @@max_allowed_packet, 1").await.len(), 2);
    assert_eq!(error(client.query("SELECT @@no_such").await), (1193, "HY000".into()));
}

/// Fault 10: sequence number 255 made the crate panic.
#[tokio::test]
async fn any_sequence_number_may_begin_a_command() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for sequence in [255, 254, 1] {
        client.send_as(sequence, b"\x03SELECT 1").await;
        assert!(matches!(client.answers().await[..], [Answer::Rows { .. }]), "{sequence}");
    }
    still_lives(&mut client).await;
}

/// Fault 9: a command larger than 64 MiB is read to its end, kept nowhere and refused.
#[tokio::test]
async fn a_large_command_is_refused_and_the_connection_lives() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let mut packet = vec![b' '; (64 << 20) + 1];
    packet[0] = 3;
    assert_eq!(error(client.command(&packet).await), (1153, "08S01".into()));
    still_lives(&mut client).await;
}

/// A command of exactly a frame, which an empty frame ends, and one of several frames.
#[tokio::test]
async fn commands_of_many_megabytes_are_joined() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for len in [0xff_fffe_usize, 0xff_ffff, 0x100_0000, 2 * 0xff_ffff, 20_000_000] {
        let mut packet = b"\x03SELECT 1 /*".to_vec();
        packet.resize(len - 2, b'x');
        packet.extend_from_slice(b"*/");
        assert!(matches!(client.command(&packet).await[..], [Answer::Rows { .. }]), "{len}");
    }
}

/// Commands that arrive together are answered one after another.
#[tokio::test]
async fn pipelined_commands_are_answered_in_order() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    client.send_bytes(b"\x09\0\0\0\x03SELECT 1\x01\0\0\0\x0e\x09\0\0\0\x03SELECT 2").await;
    client.sequence = 1;
    let value = |answers: &[Answer]| match answers {
        [Answer::Rows { rows, .. }] => texts(&rows[0]),
        other => panic!("{other:?}"),
    };
    assert_eq!(value(&client.answers().await), [Some("1".to_owned())]);
    client.sequence = 1;
    assert!(matches!(client.answers().await[..], [Answer::Ok { .. }]));
    client.sequence = 1;
    assert_eq!(value(&client.answers().await), [Some("2".to_owned())]);
}

/// Fault 10 and 11: what made the crate panic or hang up in COM_STMT_EXECUTE.
#[tokio::test]
async fn malformed_executions_are_refused() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let (id, params) = client.prepare("SELECT ?, ?").await.unwrap();
    assert_eq!(params, 2);
    let id = id.to_le_bytes();
    let execute = |body: &[u8]| [&[0x17][..], &id, &[0, 1, 0, 0, 0], body].concat();
    let good = execute(&[0, 1, 8, 0, 253, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
    // Cut anywhere.
    for len in 1..good.len() {
        let (number, state) = error(client.command(&good[..len]).await);
        assert_eq!((number, &*state), (1835, "HY000"), "{len}");
    }
    // Types that do not exist, before and after good ones, and values that no SQL can say.
    assert_eq!(error(client.command(&execute(&[0, 1, 0x50, 0, 253, 0, 1, 1, b'a'])).await).0, 1210);
    let nan = [&[0, 1, 5, 0, 6, 0][..], &f64::NAN.to_le_bytes()].concat();
    assert_eq!(error(client.command(&execute(&nan)).await).0, 1064);
    assert_eq!(error(client.command(&execute(&[0, 1, 246, 0, 6, 0, 1, b'x'])).await).0, 1366);
    // Statements that were never prepared.
    assert_eq!(error(client.command(&[0x17, 99, 0, 0, 0, 0, 1, 0, 0, 0]).await), (1243, "HY000".into()));
    assert_eq!(error(client.command(&[0x1a, 99, 0, 0, 0]).await).0, 1243);
    assert_eq!(error(client.command(&[0x1c, 99, 0, 0, 0, 1, 0, 0, 0]).await).0, 1243);
    // COM_STMT_CLOSE has no answer.
    client.send_as(0, &[0x19, 99, 0, 0, 0]).await;
    // A re-execution without types needs an execution with types before it.
    assert!(matches!(client.command(&good).await[..], [Answer::Rows { .. }]));
    assert!(matches!(
        client.command(&execute(&[0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, b'x'])).await[..],
        [Answer::Rows { .. }]
    ));
    client.send_as(0, &[&[0x19][..], &id].concat()).await;
    assert_eq!(error(client.command(&good).await).0, 1243);
    still_lives(&mut client).await;
}

/// COM_STMT_SEND_LONG_DATA gathers a value; the crate gathered without a limit.
#[tokio::test]
async fn long_data_is_gathered_up_to_a_limit() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let (id, _) = client.prepare("SELECT ?").await.unwrap();
    let id = id.to_le_bytes();
    let long = |param: u8, data: &[u8]| [&[0x18][..], &id, &[param, 0], data].concat();
    let execute = [&[0x17][..], &id, &[0, 1, 0, 0, 0, 0, 1, 252, 0]].concat();

    client.send_as(0, &long(0, b"one ")).await;
    client.send_as(0, &long(0, b"two")).await;
    match &client.command(&execute).await[..] {
        [Answer::Rows { rows, .. }] => assert_eq!(rows[0], b"\0\0\x07one two"),
        other => panic!("{other:?}"),
    }
    // It is used once; COM_STMT_RESET forgets it too.
    client.send_as(0, &long(0, b"three")).await;
    assert!(matches!(client.command(&[&[0x1a][..], &id].concat()).await[..], [Answer::Ok { .. }]));
    assert_eq!(error(client.command(&execute).await).0, 1835);

    client.send_as(0, &long(1, b"x")).await;
    assert_eq!(error(client.command(&execute).await).0, 1210);
    let much = vec![b'x'; 40 << 20];
    client.send_as(0, &long(0, &much)).await;
    client.send_as(0, &long(0, &much)).await;
    assert_eq!(error(client.command(&execute).await).0, 1153);
    client.send_as(0, &[0x18, 99, 0, 0, 0, 0, 0, b'x']).await;
    // All statements of a session together.
    let (other, _) = client.prepare("SELECT ?").await.unwrap();
    let other = other.to_le_bytes();
    client.send_as(0, &long(0, &much)).await;
    client.send_as(0, &[&[0x18][..], &other, &[0, 0], &much].concat()).await;
    let refused = client.command(&[&[0x17][..], &other, &[0, 1, 0, 0, 0, 0, 1, 252, 0]].concat()).await;
    assert_eq!(error(refused).0, 1153);
    still_lives(&mut client).await;
}

/// Fault 4: the crate answered OK to COM_CHANGE_USER without looking at it.
#[tokio::test]
async fn change_user_authenticates_and_begins_anew() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for text in ["CREATE USER 'u' IDENTIFIED BY 'secret'", "CREATE DATABASE d", "SET @x = 1", "SET autocommit = 0"] {
        client.query(text).await;
    }
    let (id, _) = client.prepare("SELECT 1").await.unwrap();
    let change = |user: &str, database: &str, plugin: &str| {
        let parts = [b"\x11", user.as_bytes(), b"\0\0", database.as_bytes(), b"\0\x2d\0", plugin.as_bytes(), b"\0"];
        parts.concat()
    };
    for plugin in [NATIVE, CACHING] {
        client.send_as(0, &change("u", "d", plugin)).await;
        client.finish_login("secret", plugin).await.unwrap();
        let row = client.row("SELECT user(), database(), @x, @@autocommit").await;
        let texts = ["u@127.0.0.1", "d"].map(|text| Some(text.to_owned()));
        assert_eq!(row, [&texts[..], &[None, Some("1".into())]].concat());
        let execute = [&[0x17][..], &id.to_le_bytes(), &[0, 1, 0, 0, 0]].concat();
        assert_eq!(error(client.command(&execute).await).0, 1243);
        assert_eq!(error(client.query("DROP DATABASE d").await).0, 5203);
    }
    client.send_as(0, &change("root", "", NATIVE)).await;
    client.finish_login("", NATIVE).await.unwrap();
    assert_eq!(client.row("SELECT user(), database()").await, [Some("root@127.0.0.1".into()), None]);

    client.send_as(0, &change("u", "", NATIVE)).await;
    assert_eq!(client.finish_login("wrong", NATIVE).await.unwrap_err().number, 1045);
    assert!(client.try_read().await.is_none(), "nobody is logged in any more");
    // root has no password: one that is given is a wrong one, whatever it was scrambled with.
    let mut client = Client::root(server.address).await;
    let stale = [b"\x11root\0\x14", &[7; 20][..], b"\0\x2d\0", NATIVE.as_bytes(), b"\0"].concat();
    client.send_as(0, &stale).await;
    assert_eq!(client.finish_login("wrong", NATIVE).await.unwrap_err().number, 1045);
    let mut client = Client::root(server.address).await;
    client.send_as(0, b"\x11u").await;
    assert_eq!(refused(&client.read().await).number, 1835);
}

/// Fault 4: pools rely on COM_RESET_CONNECTION.
#[tokio::test]
async fn reset_connection_forgets_the_session() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for text in ["CREATE DATABASE d", "USE d", "SET @x = 1, wait_for_jobs = 1", "PREPARE p FROM 'SELECT 1'"] {
        assert!(matches!(client.one(text).await, Answer::Ok { .. }), "{text}");
    }
    let (id, _) = client.prepare("SELECT 1").await.unwrap();
    let connection = client.row("SELECT connection_id()").await;
    assert!(matches!(client.command(&[0x1f]).await[..], [Answer::Ok { .. }]));
    let row = client.row("SELECT database(), @x, @@wait_for_jobs").await;
    assert_eq!(row, [Some("d".into()), None, Some("0".into())]);
    assert_eq!(client.row("SELECT connection_id()").await, connection);
    assert_eq!(error(client.query("EXECUTE p").await).0, 1243);
    let execute = [&[0x17][..], &id.to_le_bytes(), &[0, 1, 0, 0, 0]].concat();
    assert_eq!(error(client.command(&execute).await).0, 1243);
}

/// Bytes that no client sends are answered or end the connection; the server lives.
#[tokio::test]
async fn garbage_does_not_hurt_others() {
    let server = engine::start().await;
    let mut other = Client::root(server.address).await;
    let mut chance = StdRng::seed_from_u64(1);
    for _ in 0..200 {
        let mut client = Client::root(server.address).await;
        let bytes: [u8; 64] = chance.random();
        // Once as a packet, once in place of one.
        if chance.random() {
            client.send_as(0, &bytes).await;
        } else {
            client.send_bytes(&bytes).await;
        }
    }
    still_lives(&mut other).await;
}
