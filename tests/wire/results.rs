//! What results look like.

use super::client::*;
use super::engine;

/// Fault 1: the status flags of the crate's own OK and EOF packets.
#[tokio::test]
async fn status_flags_say_whether_autocommit_is_on() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for (text, on) in [("SET autocommit = 0", 0), ("SELECT 1", 0), ("SET autocommit = 1", 2), ("SELECT 1", 2)] {
        let (Answer::Ok { status, .. } | Answer::Rows { status, .. }) = client.one(text).await else {
            panic!("{text}");
        };
        assert_eq!(status, on, "{text}");
    }
    client.one("SET autocommit = 0").await;
    client.send_as(0, &[0x0e]).await;
    assert_eq!(client.read().await, [0, 0, 0, 0, 0, 0, 0]);
}

/// Fault 2: every result but the last says that more follow, be it rows or none.
#[tokio::test]
async fn several_statements_have_several_results() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let answers = client.query("SELECT 1; SET @x = 1; SELECT ';'; SET @x = 2").await;
    let flags: Vec<u16> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Ok { status, .. } | Answer::Rows { status, .. } => *status,
            Answer::Err(error) => panic!("{error:?}"),
        })
        .collect();
    assert_eq!(flags, [10, 10, 10, 2]);
    assert_eq!(client.row("SELECT @x").await, [Some("2".to_owned())]);

    // The first error is the last answer; what stands before it has happened.
    let answers = client.query("SET @x = 3; SELECT 1; USE none; SET @x = 4").await;
    assert!(
        matches!(&answers[..], [Answer::Ok { .. }, Answer::Rows { .. }, Answer::Err(error)] if error.number == 5501)
    );
    assert_eq!(client.row("SELECT @x").await, [Some("3".to_owned())]);

    // A text runs up to the statement that does not parse.
    for (n, fault) in ["SELEKT", "SELECT 'open", "SELECT (1", "SELECT 1 +"].into_iter().enumerate() {
        let answers = client.query(&format!("SET @x = {n}; /*!40101 SET @y = {n} */; {fault}; SET @x = 9")).await;
        let [Answer::Ok { .. }, Answer::Ok { .. }, Answer::Err(error)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((error.number, &*error.state), (1064, "42000"), "{fault}");
        let n = Some(n.to_string());
        assert_eq!(client.row("SELECT @x, @y").await, [n.clone(), n], "{fault}");
    }

    assert!(matches!(client.one("# a comment").await, Answer::Ok { .. }));
    assert!(matches!(client.one("").await, Answer::Err(error) if error.number == 1065));
}

#[tokio::test]
async fn several_statements_need_a_client_that_expects_them() {
    let server = engine::start().await;
    let (mut client, _) = Client::connect(server.address).await;
    client.send(&response(USUAL & !MULTI_STATEMENTS, "root", b"", "", NATIVE)).await;
    client.finish_login("", NATIVE).await.unwrap();
    assert!(matches!(client.one("SELECT 1; SELECT 2").await, Answer::Err(error) if error.number == 1064));
    assert!(matches!(client.one("SELECT 1;").await, Answer::Rows { .. }));
}

/// The crate leaves out the length before an OK's text.
#[tokio::test]
async fn an_ok_carries_its_text() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let answer = client.one("INSERT INTO t VALUES (1)").await;
    assert_eq!(answer, Answer::Ok { affected: 300, status: 2, warnings: 0, info: b"Records: 300".to_vec() });
}

#[derive(Debug, PartialEq)]
struct Column {
    names: [String; 5],
    charset: u16,
    length: u32,
    ty: u8,
    flags: u16,
    decimals: u8,
}

fn column(packet: &[u8]) -> Column {
    let mut rest = packet;
    assert_eq!(lenenc_bytes(&mut rest), b"def");
    let names = std::array::from_fn(|_| String::from_utf8(lenenc_bytes(&mut rest)).unwrap());
    assert_eq!((rest.len(), rest[0]), (13, 12));
    Column {
        names,
        charset: u16::from_le_bytes([rest[1], rest[2]]),
        length: u32::from_le_bytes(rest[3..7].try_into().unwrap()),
        ty: rest[7],
        flags: u16::from_le_bytes([rest[8], rest[9]]),
        decimals: rest[10],
    }
}

/// Fault 3: the crate tells every column to be text of 1024 bytes from nowhere.
#[tokio::test]
async fn columns_say_where_they_come_from_and_what_they_are() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let Answer::Rows { columns, .. } = client.one("SELECT * FROM every_type").await else { panic!() };
    let columns: Vec<Column> = columns.iter().map(|packet| column(packet)).collect();
    assert_eq!(columns[0].names, ["d", "t", "t", "B", "b"]);
    let looks: Vec<_> = columns.iter().map(|c| (&*c.names[4], c.ty, c.charset, c.length, c.decimals)).collect();
    assert_eq!(
        looks,
        [
            ("b", 1, 63, 1, 0),
            ("i8", 1, 63, 4, 0),
            ("i16", 2, 63, 6, 0),
            ("i32", 3, 63, 11, 0),
            ("i64", 8, 63, 20, 0),
            ("f64", 5, 63, 22, 31),
            ("dec", 246, 63, 40, 2),
            ("d", 10, 63, 10, 0),
            ("dt", 12, 63, 26, 6),
            ("c", 254, 45, 12, 0),
            ("v", 253, 45, 80, 0),
            ("s", 253, 45, 262_132, 0),
        ]
    );
    assert!(columns.iter().all(|c| c.flags == if matches!(c.ty, 10 | 12) { 128 } else { 0 }));
    let Answer::Rows { columns, .. } = client.one("SELECT n FROM many_rows").await else { panic!() };
    assert_eq!(column(&columns[0]).flags, 1);

    // A name may be as long as a literal of megabytes.
    let long = "é".repeat(1000);
    let Answer::Rows { columns, .. } = client.one(&format!("SELECT '{long}'")).await else { panic!() };
    assert_eq!(column(&columns[0]).names[3].chars().count(), 256);
}

#[tokio::test]
async fn every_type_has_its_text() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let Answer::Rows { rows, .. } = client.one("SELECT * FROM every_type").await else { panic!() };
    let some = |texts: [&str; 12]| texts.map(|text| Some(text.to_owned())).to_vec();
    assert_eq!(
        texts(&rows[0]),
        some([
            "1",
            "-5",
            "300",
            "70000",
            "1099511627776",
            "0.1",
            "-0.05",
            "2026-01-01",
            "2026-01-01 00:00:00",
            "abc",
            "it's",
            "x"
        ])
    );
    assert_eq!(
        texts(&rows[1]),
        some([
            "0",
            "-128",
            "-32768",
            "-2147483648",
            "-9223372036854775808",
            "-1.5e300",
            "999999999999999999999999999999999999.99",
            "0001-01-01",
            "1969-12-31 23:59:59.999999",
            "",
            "🦀",
            "\0\n",
        ])
    );
    assert_eq!(texts(&rows[2]), vec![None; 12]);
}

/// Fault 12: the crate's binary encoding panics on types that differ by a bit.
#[tokio::test]
async fn every_type_has_its_binary_form() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let (id, params, described) = client.prepare_columns("SELECT * FROM every_type").await.unwrap();
    assert_eq!(params, 0);
    let answers = client.command(&[&[0x17][..], &id.to_le_bytes(), &[0, 1, 0, 0, 0]].concat()).await;
    let [Answer::Rows { rows, columns, .. }] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(columns.len(), 12);
    assert_eq!(described, *columns, "a PREPARE tells the same columns as its execution");
    let first = [
        &[0, 0, 0, 1][..],
        &(-5_i8).to_le_bytes(),
        &300_i16.to_le_bytes(),
        &70_000_i32.to_le_bytes(),
        &(1_i64 << 40).to_le_bytes(),
        &0.1_f64.to_le_bytes(),
        b"\x05-0.05",
        &[4, 0xea, 0x07, 1, 1],
        &[7, 0xea, 0x07, 1, 1, 0, 0, 0],
        b"\x03abc\x04it's\x01x",
    ];
    assert_eq!(rows[0], first.concat());
    let second = [
        &[0, 0, 0, 0][..],
        &i8::MIN.to_le_bytes(),
        &i16::MIN.to_le_bytes(),
        &i32::MIN.to_le_bytes(),
        &i64::MIN.to_le_bytes(),
        &(-1.5e300_f64).to_le_bytes(),
        b"\x27999999999999999999999999999999999999.99",
        &[4, 1, 0, 1, 1],
        &[11, 0xb1, 0x07, 12, 31, 23, 59, 59, 0x3f, 0x42, 0x0f, 0],
        "\0\x04🦀\x02\0\n".as_bytes(),
    ];
    assert_eq!(rows[1], second.concat());
    // The first two bits of the map are unused.
    assert_eq!(rows[2], [0, 0xfc, 0x3f]);
}

/// Every type of value that a client can bind, and NULL by either way.
#[tokio::test]
async fn values_of_every_type_can_be_bound() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let cases: Vec<(u8, u8, Vec<u8>, Option<&str>)> = vec![
        (1, 0, vec![0xff], Some("-1")),
        (1, 128, vec![0xff], Some("255")),
        (2, 0, vec![0xff, 0xff], Some("-1")),
        (13, 128, vec![0xea, 0x07], Some("2026")),
        (3, 0, vec![0xff; 4], Some("-1")),
        (9, 128, vec![0xff; 4], Some("4294967295")),
        (8, 0, i64::MIN.to_le_bytes().to_vec(), Some("-9223372036854775808")),
        (4, 0, 0.1_f32.to_le_bytes().to_vec(), Some("0.1")),
        (5, 0, 0.1_f64.to_le_bytes().to_vec(), Some("0.1")),
        (6, 0, vec![], None),
        (10, 0, vec![4, 0xea, 0x07, 2, 3], Some("2026-02-03")),
        (10, 0, vec![0], Some("0000-00-00")),
        (12, 0, vec![0], Some("0000-00-00 00:00:00")),
        (12, 0, vec![4, 0xea, 0x07, 2, 3], Some("2026-02-03 00:00:00")),
        (7, 0, vec![7, 0xea, 0x07, 2, 3, 4, 5, 6], Some("2026-02-03 04:05:06")),
        (12, 0, vec![11, 0xea, 0x07, 2, 3, 4, 5, 6, 7, 0, 0, 0], Some("2026-02-03 04:05:06.000007")),
        (11, 0, vec![0], Some("00:00:00")),
        (11, 0, vec![8, 1, 40, 0, 0, 0, 1, 2, 3], Some("-961:02:03")),
        (11, 0, vec![12, 0, 0, 0, 0, 0, 1, 2, 3, 5, 0, 0, 0], Some("01:02:03.000005")),
        (0, 0, b"\x041.50".to_vec(), Some("1.50")),
        (246, 0, b"\x041.50".to_vec(), Some("1.50")),
        (246, 0, b"\x06-1.5E2".to_vec(), Some("-150")),
        (8, 128, vec![0xff; 8], Some("18446744073709551615")),
        (15, 0, b"\x02hi".to_vec(), Some("hi")),
        (245, 0, b"\x02{}".to_vec(), Some("{}")),
        (252, 0, b"\x07it's \\?".to_vec(), Some("it's \\?")),
        (253, 0, b"\x00".to_vec(), Some("")),
        (254, 0, "\x04🦀".into(), Some("🦀")),
        // What is no text is bytes.
        (252, 0, b"\x02\xff\x00".to_vec(), Some("x'ff00'")),
    ];
    let (id, _) = client.prepare("SELECT ?").await.unwrap();
    for (ty, unsigned, bytes, expected) in cases {
        let head = [&[0x17][..], &id.to_le_bytes(), &[0, 1, 0, 0, 0], &[0, 1, ty, unsigned]].concat();
        let answers = client.command(&[head, bytes].concat()).await;
        let [Answer::Rows { rows, columns, .. }] = &answers[..] else { panic!("type {ty}: {answers:?}") };
        let row = &rows[0];
        let shown = match column(&columns[0]).ty {
            _ if row[1] != 0 => None,
            8 => Some(i64::from_le_bytes(row[2..].try_into().unwrap()).to_string()),
            5 => Some(f64::from_le_bytes(row[2..].try_into().unwrap()).to_string()),
            _ => Some(String::from_utf8(lenenc_bytes(&mut &row[2..])).unwrap()),
        };
        assert_eq!(shown.as_deref(), expected, "type {ty}");
    }
    let null = [&[0x17][..], &id.to_le_bytes(), &[0, 1, 0, 0, 0], &[1, 1, 8, 0]].concat();
    let answers = client.command(&null).await;
    assert!(matches!(&answers[..], [Answer::Rows { rows, .. }] if rows[0] == [0, 4]), "{answers:?}");
}

/// Fault 5: a row of exactly so many frames lacked the empty frame that ends it, and clients waited for ever.
#[tokio::test]
async fn rows_of_whole_frames_end() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for len in [0xff_ffff_usize - 1, 0xff_ffff, 0xff_ffff + 1, 2 * 0xff_ffff, 2 * 0xff_ffff + 1] {
        // Four bytes say how long the text is.
        let Answer::Rows { rows, .. } = client.one(&format!("SELECT letters({})", len - 4)).await else { panic!() };
        let prefix = if len - 4 > 0xff_ffff { 9 } else { 4 };
        assert_eq!(rows[0].len(), len - 4 + prefix, "{len}");
    }
    // With the longer prefix.
    let Answer::Rows { rows, .. } = client.one(&format!("SELECT letters({})", 2 * 0xff_ffff - 9)).await else {
        panic!()
    };
    assert_eq!(rows[0].len(), 2 * 0xff_ffff);
    let answers = client.query(&format!("SELECT letters({}); SELECT 2", 0xff_ffff - 4)).await;
    assert!(matches!(&answers[..], [Answer::Rows { .. }, Answer::Rows { rows, .. }] if rows[0] == b"\x012"));
}

/// Fault 11: an error or a panic in the middle of rows is an error to the client, which goes on.
#[tokio::test]
async fn errors_among_rows_do_not_end_the_connection() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for (text, number) in [
        ("SELECT 'then fail'", 1064),
        ("SELECT 'then panic'", 1105),
        ("SELECT panic()", 1105),
        ("SELECT 1; SELECT 'then fail'", 1064),
        ("SELECT no_such()", 1235),
    ] {
        let answers = client.query(text).await;
        assert!(matches!(answers.last(), Some(Answer::Err(error)) if error.number == number), "{text}: {answers:?}");
    }
    assert_eq!(client.row("SELECT 1").await, [Some("1".to_owned())]);
    // Likewise in the binary protocol.
    let (id, _) = client.prepare("SELECT 'then fail'").await.unwrap();
    let answers = client.command(&[&[0x17][..], &id.to_le_bytes(), &[0, 1, 0, 0, 0]].concat()).await;
    assert!(matches!(&answers[..], [Answer::Err(error)] if error.number == 1064));
    let error = client.prepare("SELEKT").await.unwrap_err();
    assert_eq!((error.number, &*error.state), (1064, "42000"));
    assert_eq!(client.row("SELECT 1").await, [Some("1".to_owned())]);
}

/// What a session prepares stays in memory: together it is no more than one statement may be.
#[tokio::test]
async fn prepared_statements_have_a_bound_together() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let text = format!("SELECT '{}'", "x".repeat(40 << 20));
    let (id, _) = client.prepare(&text).await.unwrap();
    let error = client.prepare(&text).await.unwrap_err();
    assert_eq!((error.number, &*error.state), (5064, "42000"));
    client.prepare("SELECT 1").await.unwrap();
    client.send_as(0, &[&[0x19][..], &id.to_le_bytes()].concat()).await;
    client.prepare(&text).await.unwrap();
}

#[tokio::test]
async fn sql_select_limit_ends_a_result() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    for limit in [0_usize, 1, 1500] {
        client.query(&format!("SET sql_select_limit = {limit}")).await;
        let Answer::Rows { rows, .. } = client.one("SELECT n FROM many_rows").await else { panic!() };
        assert_eq!(rows.len(), limit);
    }
    client.query("SET sql_select_limit = DEFAULT").await;
    let Answer::Rows { rows, .. } = client.one("SELECT n FROM many_rows").await else { panic!() };
    assert_eq!(rows.len(), 100_000);
}

#[tokio::test]
async fn an_ok_counts_the_warnings_of_its_own_statement() {
    let server = engine::start().await;
    let mut client = Client::root(server.address).await;
    let text = "SET @x = 1; SET sql_mode = 'TRADITIONAL', max_join_size = 7; SET @x = 2; SELECT 1; \
                SET sql_mode = 'TRADITIONAL'; SET @x = 3";
    let warnings = |answer: &Answer| match answer {
        Answer::Ok { warnings, .. } => Some(*warnings),
        _ => None,
    };
    let seen: Vec<_> = client.query(text).await.iter().map(warnings).collect();
    assert_eq!(seen, [Some(0), Some(2), Some(0), None, Some(1), Some(0)]);
    // The end of rows tells them too: a hint that has no effect.
    let text = "SELECT /*+ SET_VAR(no_such = 1) */ 1; SELECT @@warning_count; SHOW COUNT(*) WARNINGS; SHOW WARNINGS";
    let answers = client.query(text).await;
    let rows = |answer: &Answer| match answer {
        Answer::Rows { rows, .. } => texts(&rows[0]),
        other => panic!("{other:?}"),
    };
    assert_eq!(rows(&answers[1]), [Some("1".to_owned())]);
    assert_eq!(rows(&answers[2]), [Some("0".to_owned())]);
    assert_eq!(warnings(&client.one("SET sql_mode = 'TRADITIONAL'").await), Some(1));
    let Answer::Rows { rows, .. } = client.one("SHOW WARNINGS").await else { panic!() };
    assert_eq!(rows.len(), 1);
    assert_eq!(warnings(&client.one("USE information_schema").await), Some(0));
}
