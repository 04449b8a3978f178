//! Real clients: the MariaDB command line and PyMySQL; signals and exit codes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use super::harness::{HOLDFAST, Launch, Scratch, Server, skip};
use super::servers::installed;

pub const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python");

/// Runs a program with a text as its input; `None` if it is not installed.
async fn run(mut command: Command, input: &str) -> Option<Output> {
    let input = input.to_owned();
    let work = move || {
        let piped = || Stdio::piped();
        let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().ok()?;
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Some(child.wait_with_output().unwrap())
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Runs a script through `mariadb` as `mysql < script.sql` would.
async fn mariadb(server: &Server, args: &[&str], script: &str) -> Option<(bool, String, String)> {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-h127.0.0.1", "-uroot"]).arg(format!("-P{}", server.port("mysql"))).args(args);
    let Some(output) = run(command, script).await else {
        skip("the mariadb command line", "apt install mariadb-client");
        return None;
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Some((output.status.success(), text(output.stdout), text(output.stderr)))
}

#[tokio::test]
async fn a_script_of_many_statements_runs_through_mariadb() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let repository = scratch.sub("repository");
    let script = format!(
        "-- A migration.
        CREATE DATABASE m; USE m;
        CREATE TABLE t (k INT, v VARCHAR(20)) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2;
        INSERT INTO t VALUES (1, 'one'), (2, NULL), (3, 'a;b');
        CREATE REPOSITORY r WITH BROKER ON LOCATION \"file://{repository}\";
        BACKUP SNAPSHOT m.first TO r PROPERTIES (\"wait\" = \"true\");
        DROP DATABASE m FORCE;
        RESTORE SNAPSHOT m.first FROM r PROPERTIES (\"backup_timestamp\" = \"latest\", \"wait\" = \"true\");
        USE m;
        SELECT k, v FROM t ORDER BY k;
        SHOW BACKUP FROM m\\G"
    );
    let Some((well, out, err)) = mariadb(&server, &["--batch"], &script).await else { return };
    assert!(well, "{out}{err}");
    assert_eq!(err, "");
    assert!(out.contains("k\tv\n1\tone\n2\tNULL\n3\ta;b\n"), "{out}");
    assert!(out.contains("State: FINISHED"), "{out}");

    // The first error ends the script, with its line and a code that is not 0.
    let script =
        "USE m;\nINSERT INTO t VALUES (4, 'four');\nSELECT * FROM missing;\nINSERT INTO t VALUES (5, 'five');\n";
    let (well, _, err) = mariadb(&server, &["--batch"], script).await.unwrap();
    assert!(!well);
    assert!(err.contains("ERROR 5502 (42602) at line 3: Unknown table 'm.missing'"), "{err}");
    let (_, out, _) = mariadb(&server, &["--batch", "--skip-column-names"], "SELECT COUNT(*) FROM m.t").await.unwrap();
    assert_eq!(out, "4\n");
    // A cancelled job is an error too.
    let script = "RESTORE SNAPSHOT m.none FROM r PROPERTIES (\"backup_timestamp\" = \"latest\", \"wait\" = \"true\")";
    let (well, _, err) = mariadb(&server, &["--batch"], script).await.unwrap();
    assert!(!well && err.contains("ERROR 5064 (42000) at line 1: "), "{err}");
    // Interactive-like output, and what the client asks on its own.
    let (well, out, err) =
        mariadb(&server, &["--table", "m", "-e", "status; SELECT v FROM t LIMIT 0"], "").await.unwrap();
    assert!(well && out.contains("Current database:\tm"), "{out}{err}");
}

/// A dump loads into another database, and so does the head that MySQL's own mysqldump writes.
#[tokio::test]
async fn dumps_are_loaded_again() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let script = "CREATE DATABASE d; CREATE DATABASE again; USE d;
        CREATE TABLE t (k INT, v VARCHAR(20), m DECIMAL(10, 2)) DISTRIBUTED BY HASH(k) BUCKETS 1;
        INSERT INTO t VALUES (1, 'it''s \\\\', 1.10), (2, NULL, NULL);
        CREATE TABLE empty (k INT)";
    let Some((well, _, err)) = mariadb(&server, &["--batch"], script).await else { return };
    assert!(well, "{err}");
    let mut dump = Command::new("mariadb-dump");
    dump.args(["--no-defaults", "-h127.0.0.1", "-uroot"])
        .arg(format!("-P{}", server.port("mysql")))
        .args(["--single-transaction", "d"]);
    let Some(output) = run(dump, "").await else { return skip("mariadb-dump", "apt install mariadb-client") };
    assert_eq!((output.status.success(), String::from_utf8(output.stderr).unwrap()), (true, String::new()));
    let dump = String::from_utf8(output.stdout).unwrap();
    let (well, _, err) = mariadb(&server, &["again"], &dump).await.unwrap();
    assert!(well, "{err}\n{dump}");
    let script = include_str!("clients/mysqldump.sql");
    let (well, _, err) = mariadb(&server, &["again"], script).await.unwrap();
    assert!(well, "{err}");
    let query = "SELECT * FROM t ORDER BY k; SHOW TABLES; SELECT @@sql_notes, @@unique_checks";
    let (_, out, _) = mariadb(&server, &["--batch", "--skip-column-names", "again"], query).await.unwrap();
    assert_eq!(out, "1\tit's \\\\\t1.10\n2\tNULL\tNULL\n3\tlater\t0.00\nempty\nt\n1\t1\n");
}

/// A SET GLOBAL whose value takes a while does not undo another one.
#[tokio::test]
async fn global_variables_are_set_one_by_one() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let (mut slow, mut quick) = (server.connect().await, server.connect().await);
    let many = "SELECT COUNT(*) FROM information_schema.columns a, information_schema.columns b \
                WHERE LENGTH(CONCAT(a.COLUMN_NAME, b.COLUMN_NAME)) > 1";
    let set = tokio::spawn(async move {
        slow.run(format!("SET GLOBAL net_write_timeout = 70 + 0 * ({many})")).await;
    });
    let begun = |answer: &super::client::Answer| answer.column("Info").iter().any(|info| info.contains("= 70 + 0"));
    quick.wait_until("SHOW FULL PROCESSLIST", |answer| begun(answer) || set.is_finished()).await;
    quick.run("SET GLOBAL wait_timeout = 1234").await;
    set.await.unwrap();
    assert_eq!(quick.value("SELECT CONCAT(@@global.wait_timeout, ' ', @@global.net_write_timeout)").await, "1234 70");
}

/// Runs a program that ends by saying that all is fine.
async fn finds_all_fine(command: Command, input: &str) {
    let output = run(command, input).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said == "fine\n", "{said}");
}

#[tokio::test]
async fn python_drivers_work() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    if !Path::new(PYTHON).exists() {
        return skip("Python drivers in target/venv", ".ci/setup");
    }
    for script in [include_str!("clients/pymysql.py"), include_str!("clients/connector.py")] {
        let mut command = Command::new(PYTHON);
        command.arg("-").arg(server.port("mysql").to_string());
        finds_all_fine(command, script).await;
    }
}

/// Connector/J as it is now, and the one that many tools still bring.
#[tokio::test]
async fn jdbc_drivers_work() {
    for version in ["connector-j-9.7.0", "connector-java-5.1.49"] {
        let Some(driver) = installed("Connector/J", &format!("jdbc/jars/mysql-{version}.jar")) else { return };
        let scratch = Scratch::new();
        let server = Server::standalone(scratch.path());
        let program = scratch.sub("Jdbc.java");
        std::fs::write(&program, include_str!("clients/Jdbc.java")).unwrap();
        let mut command = Command::new("java");
        command.arg("-cp").arg(driver).arg(program).arg(server.port("mysql").to_string());
        finds_all_fine(command, "").await;
    }
}

/// mysql_async's prepared statements: the binary protocol.
#[tokio::test]
async fn prepared_statements_carry_every_type() {
    use mysql_async::prelude::Queryable;
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let opts = mysql_async::OptsBuilder::default().ip_or_hostname("127.0.0.1").prefer_socket(false);
    let mut conn = mysql_async::Conn::new(opts.tcp_port(server.port("mysql")).user(Some("root"))).await.unwrap();
    conn.query_drop("CREATE DATABASE d").await.unwrap();
    let create = "CREATE TABLE d.t (k INT, d DOUBLE, v STRING, z DATETIME) DUPLICATE KEY(k)";
    conn.query_drop(create).await.unwrap();
    let insert = conn.prep("INSERT INTO d.t VALUES (?, ?, ?, ?)").await.unwrap();
    let time = |n: i32| mysql_async::Value::Date(2026, 11, 21, 3, 4, n as u8, 0);
    for n in 0..20 {
        conn.exec_drop(&insert, (n, f64::from(n) / 4.0, format!("v{n} ?"), time(n))).await.unwrap();
    }
    conn.exec_drop(&insert, (20, None::<f64>, None::<String>, None::<i32>)).await.unwrap();
    let select = "SELECT k, d, v FROM d.t WHERE k >= ? AND (v = ? OR v IS NULL) ORDER BY k";
    let rows: Vec<(i32, Option<f64>, Option<String>)> = conn.exec(select, (3, "v7 ?")).await.unwrap();
    assert_eq!(rows, [(7, Some(1.75), Some("v7 ?".into())), (20, None, None)]);
    let count: Option<i64> = conn.exec_first("SELECT COUNT(*) FROM d.t WHERE z < ?", (time(10),)).await.unwrap();
    assert_eq!(count, Some(10));
}

/// What SHOW CREATE TABLE says makes the same table.
#[tokio::test]
async fn definitions_make_the_tables_they_describe() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    super::sample::create(&mut client, "shop").await;
    client
        .run(
            "USE shop; CREATE TABLE `o'dd \"name\"` (`a``b` INT NOT NULL DEFAULT '-1' COMMENT 'it''s \\\\ \"so\"', \
             `select` BOOLEAN DEFAULT 'true', z DATETIME DEFAULT '2026-01-01 00:00:01', d DOUBLE DEFAULT '1e300') \
             COMMENT 'ün\\nï' PARTITION BY RANGE(z) () DISTRIBUTED BY HASH(`a``b`) BUCKETS 1",
        )
        .await;
    let before = client.contents("shop").await;
    assert_eq!(before.len(), 4);
    client.run("CREATE DATABASE again; USE again").await;
    for (definition, _) in before.values() {
        client.run(definition).await;
    }
    let definitions = |contents: super::client::Contents| {
        contents.into_iter().map(|(table, (definition, _))| (table, definition)).collect::<Vec<_>>()
    };
    assert_eq!(definitions(client.contents("again").await), definitions(before));
}

#[tokio::test]
async fn signals_and_exit_codes() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    for signal in ["TERM", "INT"] {
        let mut server = launch.start();
        let client = server.connect().await;
        server.signal(signal);
        assert_eq!(server.ended().await.code(), Some(0), "SIG{signal} with a client connected");
        drop(client);
    }
    // A data directory in use is refused by name.
    let _server = launch.start();
    let log = launch.try_start().err().expect("two servers on one directory");
    assert!(log.contains(launch.data().to_str().unwrap()), "{log}");
    // A port in use too.
    let port = _server.port("mysql");
    let other = scratch.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let log = Launch::standalone(&other).flag("--mysql-port", port).try_start().err().expect("two servers on one port");
    assert!(log.contains(&port.to_string()), "{log}");

    let run = |args: &[&str]| {
        let output = Command::new(HOLDFAST).args(args).current_dir(scratch.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    };
    let (code, said) = run(&["--version"]);
    assert_eq!((code, said.trim()), (Some(0), concat!("holdfast ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&["--help"]).0, Some(0));
    assert_eq!(run(&["nonsense"]).0, Some(2));
    std::fs::write(scratch.sub("bad.conf"), "# a comment\nquery_prot = 1\n").unwrap();
    let (code, said) = run(&["--conf", &scratch.sub("bad.conf")]);
    assert_eq!(code, Some(2));
    assert!(said.contains("bad.conf:2: unknown key 'query_prot'; the nearest is 'query_port'"), "{said}");
    let (code, said) = run(&["--set", "query_port=x"]);
    assert!(code == Some(2) && said.contains("'query_port' cannot be 'x'"), "{said}");
    assert_eq!(run(&["--data-dir", "/proc/nowhere"]).0, Some(1));
}

/// A client that verifies the server's name, and all pairs that are none.
#[tokio::test]
async fn a_certificate_of_ones_own() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let pair = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = [scratch.sub(&format!("{name}.pem")), scratch.sub(&format!("{name}.key"))];
        std::fs::write(&files[0], made.cert.pem()).unwrap();
        std::fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
        files
    };
    let ([chain, key], [other_chain, other_key]) = (pair("server"), pair("other"));
    let missing = scratch.sub("missing.pem");
    for (chain, key, text) in [
        (&chain, &other_key, "do not belong together"),
        (&missing, &key, "missing.pem: I/O error: No such file"),
        (&chain, &missing, "missing.pem: I/O error: No such file"),
        (&key, &key, "ssl_cert, a certificate,"),
        (&chain, &chain, "ssl_key, a private key,"),
        (&chain, &String::new(), "set both, or none"),
        (&String::new(), &key, "set both, or none"),
    ] {
        let log = launch.clone().set("ssl_cert", chain).set("ssl_key", key).try_start().err().expect(text);
        assert!(log.contains(text), "{log}");
    }
    let server = launch.set("ssl_cert", &chain).set("ssl_key", &key).start();
    for (host, authority, verified) in
        [("localhost", &chain, true), ("127.0.0.1", &chain, false), ("localhost", &other_chain, false)]
    {
        let (host, authority) = (format!("-h{host}"), format!("--ssl-ca={authority}"));
        let args = ["--protocol=tcp", &host, &authority, "--ssl-verify-server-cert", "-N"];
        let Some((ok, said, told)) = mariadb(&server, &args, "SELECT 'verified'").await else { return };
        assert_eq!((ok, said.trim() == "verified"), (verified, verified), "{args:?}: {told}");
    }
}

/// The next server may begin as soon as it gets the lock.
#[tokio::test]
async fn a_data_directory_is_free_when_its_server_has_ended() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path());
    let mut server = launch.start();
    server.connect().await.run("CREATE DATABASE d; CREATE TABLE d.t (k INT); INSERT INTO d.t VALUES (1)").await;
    let lock = std::fs::File::open(launch.data().join("meta/LOCK")).unwrap();
    let open = Path::new("/proc").join(server.id().to_string()).join("fd");
    let data = launch.data().to_owned();
    server.signal("TERM");
    let left = tokio::task::spawn_blocking(move || {
        lock.lock().unwrap();
        let links = std::fs::read_dir(open).into_iter().flatten().flatten().map(|fd| std::fs::read_link(fd.path()));
        links.flatten().filter(|path| path.starts_with(&data)).collect::<Vec<_>>()
    });
    assert!(left.await.unwrap().is_empty(), "files that were still open");
    assert_eq!(server.ended().await.code(), Some(0));
}

/// Connector/J and ODBC ask prepared statements, not results, for the columns.
#[tokio::test]
async fn prepared_statements_tell_their_columns() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(server.port("mysql"));
    let options = options.prefer_socket(false).user(Some("root"));
    let mut conn = Conn::new(options).await.unwrap();
    conn.query_drop("CREATE DATABASE p").await.unwrap();
    conn.query_drop("USE p").await.unwrap();
    conn.query_drop("CREATE TABLE t (k INT, v VARCHAR(9), m DECIMAL(9, 2)); INSERT INTO t VALUES (7, 'x', 1.5)")
        .await
        .unwrap();
    for (text, params, expected) in [
        ("SELECT k, v AS word, m * 2 FROM t WHERE k = ? LIMIT 10", vec![7], vec!["k", "word", "m * 2"]),
        ("SELECT * FROM t ORDER BY k LIMIT ?", vec![1], vec!["k", "v", "m"]),
        ("SHOW TABLES", vec![], vec!["Tables_in_p"]),
        ("SHOW VARIABLES LIKE 'wait_for_jobs'", vec![], vec!["Variable_name", "Value"]),
        ("SHOW PARTITIONS FROM t LIMIT 1", vec![], vec!["PartitionId", "PartitionName"]),
        ("VALUES (1, 'a')", vec![], vec!["column1", "column2"]),
    ] {
        let statement = conn.prep(text).await.unwrap();
        let told: Vec<_> =
            statement.columns().iter().map(|column| (column.name_str().into_owned(), column.column_type())).collect();
        let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).take(expected.len()).collect();
        assert_eq!(names, expected, "{text}");
        let rows: Vec<mysql_async::Row> = conn.exec(&statement, mysql_async::Params::from(params)).await.unwrap();
        assert_eq!(rows.len(), 1, "{text}");
        let seen: Vec<_> =
            rows[0].columns_ref().iter().map(|column| (column.name_str().into_owned(), column.column_type())).collect();
        assert_eq!(seen, told, "{text}");
    }
    // What has no result, or none that is known yet, tells no columns, and still runs.
    for text in ["INSERT INTO t (k) VALUES (1)", "SELECT * FROM later"] {
        assert!(conn.prep(text).await.unwrap().columns().is_empty(), "{text}");
    }
    // To tell them nothing is run: these fail when they are.
    for (text, columns) in [("SHOW SNAPSHOT ON nowhere", 7), ("VERIFY BACKUP RAW FROM 'local:///nowhere'", 6)] {
        let statement = conn.prep(text).await.unwrap();
        assert_eq!(statement.columns().len(), columns, "{text}");
        assert!(conn.exec_drop(&statement, ()).await.is_err(), "{text}");
    }
    conn.exec_drop("INSERT INTO t (k) VALUES (?)", (8,)).await.unwrap();
    assert_eq!(conn.exec_first("SELECT COUNT(*) FROM t", ()).await.unwrap(), Some(2));
}
