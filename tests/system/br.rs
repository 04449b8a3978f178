//! `holdfast br`.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::client::Client;
use super::harness::{HOLDFAST, Launch, PATIENCE, Scratch, Server, files};
use super::rawkv::contents;
use super::stores;
use super::stores::store::{Kind, Store};

fn br(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(HOLDFAST).arg("br").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A server, and what `--pd` says of it.
async fn server(scratch: &Scratch) -> (Server, String, Client) {
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    let pd = format!("127.0.0.1:{}", server.port("mysql"));
    (server, pd, client)
}

/// A `holdfast br` that runs.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(HOLDFAST);
        command.arg("br").args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    /// The next line of stderr.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Its exit status, and what is left of stderr.
    fn ended(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code().unwrap(), rest)
    }
}

/// A copy of a backup that an earlier Holdfast made.
fn golden_copy(to: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rawkv/golden");
    for entry in walkdir::WalkDir::new(&golden).min_depth(1) {
        let entry = entry.unwrap();
        let path = to.join(entry.path().strip_prefix(&golden).unwrap());
        match entry.file_type().is_dir() {
            true => std::fs::create_dir(path).unwrap(),
            false => drop(std::fs::copy(entry.path(), path).unwrap()),
        }
    }
}

#[test]
fn a_backup_is_looked_into_without_a_server() {
    let scratch = Scratch::new();
    golden_copy(scratch.path());
    let storage = format!("local://{}", scratch.path().display());

    let (code, out, err) = br(&["debug", "decode", "--pd", "127.0.0.1:2379", "-s", &storage]);
    assert_eq!((code, err.as_str()), (0, "warning: --pd has no effect here\n"));
    assert_eq!(out, format!("backupmeta decoded at {}\n", scratch.sub("backupmeta.json")));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(scratch.sub("backupmeta.json")).unwrap()).unwrap();
    assert_eq!((&json["is_raw_kv"], json["files"].as_array().unwrap().len()), (&true.into(), 3));

    for (name, value) in [
        ("IsRawKv", "true"),
        ("end-version", "0"),
        ("ApiVersion", "V1"),
        ("Ddls", "[]"),
        ("Nothing", "field 'Nothing' not found"),
    ] {
        let (code, out, _) = br(&["debug", "decode", "-s", &storage, "--field", name]);
        assert_eq!((code, out), (0, format!("{value}\n")), "{name}");
    }
    let (_, files, _) = br(&["debug", "decode", "-s", &storage, "--field=Files"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&files).unwrap(), json["files"]);

    let (code, out, err) = br(&["debug", "checksum", "-s", &storage]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("\nbackup data checksum succeed!\n"), "{out}");

    let name = json["files"][1]["name"].as_str().unwrap();
    let mut bytes = std::fs::read(scratch.path().join(name)).unwrap();
    bytes[100] ^= 1;
    std::fs::write(scratch.path().join(name), bytes).unwrap();
    let (code, out, err) = br(&["debug", "checksum", "-s", &storage]);
    assert_eq!((code, err), (1, format!("holdfast: {} is damaged\n", scratch.path().display())));
    assert!(out.contains(&format!("{name}: FAILED: corrupt backup file {name}: calculated sha256 is ")), "{out}");
    assert!(out.ends_with("backup data checksum failed: 1 of 3 files may be changed\n"), "{out}");

    std::fs::remove_file(scratch.sub("backupmeta")).unwrap();
    let (code, _, err) = br(&["debug", "decode", "-s", &storage]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("holdfast: read {}: No such file", scratch.sub("backupmeta"))), "{err}");

    let (code, _, err) = br(&["debug", "checksum"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("holdfast: empty store is not allowed: [BR:ExternalStorage:"), "{err}");
}

#[tokio::test]
async fn keys_are_backed_up_and_restored() {
    let scratch = Scratch::new();
    let (_server, pd, mut client) = server(&scratch).await;
    client.run("INSERT INTO rawkv.default VALUES ('0', 'out'), ('1', 'one'), ('10', ''), ('a''\\\\b', x'00ff')").await;
    client.run("INSERT INTO rawkv.write VALUES ('w', 'w')").await;
    let all = contents(&mut client).await;
    let raw = scratch.sub("raw");
    let (uri, bounds) = (format!("local://{raw}"), ["--start", "31", "--end", "3130303030303030", "--format", "hex"]);
    let example = ["backup", "raw", "--pd", &pd, "-s", &uri, "--ratelimit", "128", "--cf", "default", "-c=true"];
    let (code, out, err) = br(&[example.as_slice(), &bounds].concat());
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("Raw backup success summary: files=1 size="), "{out}");
    assert!(out.contains(" keys=2 bytes=6 ") && out.lines().count() == 1, "{out}");
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines[0], "warning: --send-credentials-to-tikv has no effect here");
    // No terminal: lines, and no bar.
    assert!(lines.len() > 1 && lines[1..].iter().all(|line| line.starts_with("BACKUP job ")), "{err}");
    assert!(!err.contains(['\r', '\u{1b}']), "{err:?}");

    // The next one is refused, and the first stays what it is.
    let (code, out, err) = br(&[example.as_slice(), &bounds].concat());
    assert_eq!((code, out.as_str()), (1, ""));
    let used =
        format!("holdfast: backup meta file exists in {uri}, there may be some backup files in the path already");
    assert!(err.contains(&used), "{err}");

    client.run("DELETE FROM rawkv.default WHERE k >= ''").await;
    client.run("INSERT INTO rawkv.default VALUES ('0', 'out'), ('1', 'other'), ('100', 'more')").await;
    let (code, out, err) = br(&["restore", "raw", "--pd", &format!("http://{pd}"), "-s", &uri]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("Raw restore success summary: files=1 ") && out.contains(" keys=2 bytes=6 "), "{out}");
    let keys = |answer: super::client::Answer| answer.column("k").join(" ");
    let merged = client.run("SELECT CAST(k AS VARCHAR) AS k FROM rawkv.default").await;
    assert_eq!(keys(merged), "0 1 10 100");
    let replace = ["restore", "raw", "-u", &pd, "-s", &uri, "--replace", "--online", "--checksum=false"];
    let (code, _, err) = br(&replace);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("warning: online has no effect") && err.contains("warning: checksum = false has no"), "{err}");
    let replaced = client.run("SELECT CAST(k AS VARCHAR) AS k FROM rawkv.default").await;
    assert_eq!(keys(replaced), "0 1 10");

    // Quotes and backslashes of keys, a directory of the client's own, the other family, and a part of a backup.
    client.run("INSERT INTO rawkv.default VALUES ('a''\\\\b', x'00ff')").await;
    assert_eq!(contents(&mut client).await, all);
    let odd = |command: &str, format: &str, start: &str, end: &str| {
        let mut br = Command::new(HOLDFAST);
        br.current_dir(scratch.path()).args(["br", command, "raw", "-u", &pd, "-s", "o'dd/x"]);
        let output = br.args(["--format", format, "--start", start, "--end", end]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let backed_up = odd("backup", "raw", "", "");
    assert!(backed_up.contains(" keys=4 "), "{backed_up}");
    assert!(scratch.path().join("o'dd/x/backupmeta").exists());
    client.run("DELETE FROM rawkv.default WHERE k >= ''").await;
    let restored = odd("restore", "escaped", r"a\'\\", r"a\x27\\\377");
    assert!(restored.starts_with("Raw restore success summary: files=1 ") && !restored.contains("keys="), "{restored}");
    let restored = contents(&mut client).await;
    assert_eq!(restored.into_iter().collect::<Vec<_>>(), [(hex::encode_upper(r"a'\b"), "00FF".to_owned())]);
    let (code, out, _) = br(&["backup", "raw", "-u", &pd, "-s", &scratch.sub("w"), "--cf", "write"]);
    assert!(code == 0 && out.contains(" keys=1 bytes=2 "), "{out}");
    let (code, out, _) = br(&["backup", "raw", "-u", &pd, "-s", &scratch.sub("none"), "--start", "ee"]);
    assert!(code == 0 && out.contains("files=0 size=0 ") && out.contains(" keys=0 "), "{out}");
}

#[tokio::test]
async fn what_is_wrong_is_said_and_shown_by_the_exit_status() {
    let scratch = Scratch::new();
    let raw = scratch.sub("raw");
    for (flags, expected) in [
        (["--stort", "31"], "unexpected argument '--stort'"),
        (["--format", "HEX"], "holdfast: unknown format: [BR:Common:ErrInvalidArgument]invalid argument\n"),
        (["--start", "3z"], "holdfast: encoding/hex: invalid byte: U+007A 'z'\n"),
        (["--cf", "lock"], "holdfast: invalid cf name: lock; take default or write\n"),
        (["--pd", "127.0.0.1:1"], "holdfast: cannot connect to 127.0.0.1:1: Connection refused"),
        (["--pd", "127.0.0.1:1,127.0.0.1:2"], ", nor to 127.0.0.1:2: Connection refused"),
    ] {
        for command in ["backup", "restore"] {
            let (found, out, err) = br(&[[command, "raw", "-s", &raw].as_slice(), &flags].concat());
            assert_eq!((found, out.as_str()), (1, ""), "{err}");
            assert!(err.contains(expected), "{err}");
        }
    }

    let server = Server::standalone(scratch.path());
    let pd = format!("127.0.0.1:{}", server.port("mysql"));
    let several = format!("127.0.0.1:1,{pd},127.0.0.1:2");
    let failure = |arguments: &[&str]| {
        let (code, out, err) = br(&[arguments, &["-u", &several, "-s", &raw]].concat());
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        err
    };
    assert_eq!(failure(&["backup", "raw"]), "holdfast: Unknown database 'rawkv'\n");
    let absent = failure(&["restore", "raw"]);
    assert!(absent.starts_with(&format!("holdfast: there is no backupmeta in local://{raw}: ")), "{absent}");

    let mut client = server.connect().await;
    client.run("CREATE DATABASE rawkv").await;
    client.run("CREATE USER reader IDENTIFIED BY 'hunter2'").await;
    for (user, password, expected) in [
        ("reader", "wrong", "holdfast: Access denied for user 'reader'"),
        ("reader", "hunter2", "holdfast: Access denied"),
        ("root", "", "BACKUP job "),
    ] {
        let mut command = Command::new(HOLDFAST);
        command.env("HOLDFAST_USER", user).env("HOLDFAST_PASSWORD", password);
        let output = command.args(["br", "backup", "raw", "-u", &pd, "-s", &raw]).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.starts_with(expected) && !err.contains("hunter2"), "{err}");
        assert_eq!(output.status.code().unwrap(), i32::from(user != "root"));
    }
    // A store that refuses, and what it was told.
    let secret = "s3://b/x?access-key=AK&secret-access-key=hunter2&endpoint=http://127.0.0.1:1";
    let (code, out, err) = br(&["restore", "raw", "-u", &pd, "-s", secret]);
    assert!(code == 1 && err.contains("backupmeta") && !format!("{out}{err}").contains("hunter2"), "{err}");
}

/// With `--ca` it speaks TLS, and only with a server whose certificate the file vouches for.
#[tokio::test]
async fn what_is_sent_is_encrypted_if_an_authority_is_named() {
    let scratch = Scratch::new();
    let pem = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(scratch.sub(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(scratch.sub(name), made.cert.pem()).unwrap();
        scratch.sub(name)
    };
    let [own, other] = ["own", "other"].map(pem);
    let launch = Launch::standalone(scratch.path()).set("ssl_cert", &own).set("ssl_key", format!("{own}.key"));
    let (server, mut client) = launch.open().await;
    client.run("CREATE DATABASE rawkv; INSERT INTO rawkv.default VALUES ('1', 'one')").await;
    let (pd, raw) = (format!("127.0.0.1:{}", server.port("mysql")), scratch.sub("raw"));
    let backup = |ca: &str| br(&["backup", "raw", "-u", &pd, "-s", &raw, "--ca", ca]);
    let (code, _, err) = backup(&other);
    assert!(code == 1 && err.contains("invalid peer certificate"), "{err}");
    let (code, _, err) = backup(&scratch.sub("none"));
    assert!(code == 1 && err.contains(&format!("--ca {}: No such file", scratch.sub("none"))), "{err}");
    let (code, out, err) = backup(&own);
    assert!(code == 0 && out.contains(" keys=1 ") && !err.contains("no effect"), "{err}");
}

/// The client's credentials, of AWS in its environment and of Google in a file that only it has, go to the servers, and
/// nobody sees them.
#[tokio::test]
async fn credentials_of_the_client_are_used_and_hidden() {
    let (scratch, own) = (Scratch::new(), Scratch::new());
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let server = Launch::standalone(scratch.path()).env("HOLDFAST_LOG", "debug").start();
    let mut client = server.connect().await;
    let pd = format!("127.0.0.1:{}", server.port("mysql"));
    client.run("CREATE DATABASE rawkv; INSERT INTO rawkv.default VALUES ('a', 'b')").await;
    let uri = store.storage_uri("raw");
    let (place, parameters) = uri.split_once('?').unwrap();
    let endpoint = parameters.split('&').find(|parameter| parameter.starts_with("endpoint=")).unwrap();
    let uri = format!("{place}?{endpoint}");
    let key = |name: &str| &store.properties.iter().find(|(key, _)| *key == name).unwrap().1;
    for command in ["backup", "restore"] {
        let mut br = Command::new(HOLDFAST);
        br.env("AWS_ACCESS_KEY_ID", key("aws.s3.access_key"));
        br.env("AWS_SECRET_ACCESS_KEY", key("aws.s3.secret_key"));
        let output = br.args(["br", command, "raw", "-u", &pd, "-s", &uri]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(" keys=1 "));
    }

    let file = own.sub("key.json");
    std::fs::write(&file, r#"{"client_email": "e@x", "private_key": "hunter2ofgoogle"}"#).unwrap();
    let gcs = ["-s", "gcs://b/x?endpoint=http://127.0.0.1:1", "--gcs.credentials-file", &file];
    let (code, out, err) = br(&[["backup", "raw", "-u", &pd].as_slice(), &gcs].concat());
    assert!(code == 1 && err.contains("gs://b/x"), "{err}");
    assert!(!format!("{out}{err}").contains("hunter2"), "{err}");
    let jobs = client.run("SELECT * FROM information_schema.backup_jobs").await;
    assert!(!format!("{jobs:?}").contains("hunter2"));
    assert!(server.stop().await.success());
    stores::assert_hidden(&[store.secrets.clone(), vec!["hunter2ofgoogle".into()]].concat(), &scratch);
}

/// Ctrl-C cancels what can be cancelled, and a second one ends the command. A job outlives a lost connection.
#[tokio::test]
async fn a_job_is_cancelled_or_left_to_itself() {
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path()).set("raw_region_split_size", 20_000);
    let launch = launch.set("compaction_interval_ms", 50).stays_at("be.raw-ingest", 2000);
    let mut server = launch.start();
    let mut client = server.connect().await;
    let pd = format!("127.0.0.1:{}", server.port("mysql"));
    client.run("CREATE DATABASE rawkv").await;
    let rows: Vec<_> = (0..2000).map(|n| format!("('{n}', SHA2('{n}', 512))")).collect();
    client.run(format!("INSERT INTO rawkv.default VALUES {}", rows.join(", "))).await;
    let regions = "SELECT COUNT(*) AS n FROM information_schema.raw_regions";
    client.wait_until(regions, |answer| answer.column("n")[0].parse::<u32>().unwrap() > 2).await;

    let raw = scratch.sub("raw");
    let backup = ["backup", "raw", "-u", &pd, "-s", &raw, "--ratelimit", "1"];
    let limit = |kbps: &str| {
        format!("UPDATE information_schema.be_configs SET value = '{kbps}' WHERE name = 'max_upload_speed_kbps'")
    };
    client.run(limit("1")).await;
    for signal in ["INT", "TERM"] {
        let mut running = Running::start(&backup);
        let line = running.line();
        assert!(line.starts_with("BACKUP job "), "{line}");
        running.signal(signal);
        let (code, rest) = running.ended();
        assert_eq!(code, 1, "{rest}");
        assert!(rest.contains("\ninterrupted: cancelling BACKUP job ") || rest.starts_with("interrupted: "), "{rest}");
        assert!(rest.contains("\nholdfast: interrupted: BACKUP job ") && rest.contains("user cancelled"), "{rest}");
        client.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;
        assert!(files(&raw).is_empty(), "{:?}", files(&raw));
    }

    // A server that does not answer.
    let mut running = Running::start(&backup);
    running.line();
    server.signal("STOP");
    let deadline = Instant::now() + PATIENCE;
    while running.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the command has not ended");
        running.signal("INT");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (code, rest) = running.ended();
    assert_eq!(code, 1);
    assert!(rest.contains("holdfast: interrupted twice; if the job has begun, it goes on: see SHOW BACKUP"), "{rest}");
    server.signal("CONT");
    // The command may have asked for it.
    let _ = client.try_run("CANCEL BACKUP FROM rawkv").await;
    client.wait_for_job("BACKUP", "rawkv", &["CANCELLED"]).await;

    let mut running = Running::start(&backup);
    running.line();
    server.kill();
    let (code, rest) = running.ended();
    assert_eq!(code, 1);
    assert!(rest.contains("holdfast: the connection to the server was lost ("), "{rest}");
    assert!(rest.contains(" goes on: see SHOW BACKUP FROM rawkv\n"), "{rest}");
    let server = launch.start();
    let pd = format!("127.0.0.1:{}", server.port("mysql"));
    let mut client = server.connect().await;
    client.finished("BACKUP", "rawkv").await;

    // Too late: keys are being stored.
    let mut running = Running::start(&["restore", "raw", "-u", &pd, "-s", &raw]);
    running.line();
    client.wait_for_job("RESTORE", "rawkv", &["COMMITTING"]).await;
    running.signal("INT");
    let (code, rest) = running.ended();
    assert_eq!(code, 0, "{rest}");
    assert!(rest.contains("can not be cancelled. state: COMMITTING\n"), "{rest}");
}

#[tokio::test]
async fn a_terminal_sees_a_bar() {
    let scratch = Scratch::new();
    let (_server, pd, mut client) = server(&scratch).await;
    client.run("INSERT INTO rawkv.default VALUES ('1', 'one')").await;
    let command = format!("'{HOLDFAST}' br backup raw -u {pd} -s {}", scratch.sub("raw"));
    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains(" [░") && shown.contains("] 0%") && !shown.contains("ING, "), "{shown}");
    assert!(shown.contains("Raw backup success summary: files=1 "), "{shown}");
}

/// The statements and commands of README's section on raw keys, as they stand there.
#[tokio::test]
async fn readme_is_right_about_raw_keys() {
    let scratch = Scratch::new();
    let server = Server::standalone(scratch.path());
    let mut client = server.connect().await;
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("\n## Raw keys\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let here = section
        .replace("/srv", scratch.path().to_str().unwrap())
        .replace("127.0.0.1:9030", &format!("127.0.0.1:{}", server.port("mysql")))
        .replace("'…/", concat!("'", env!("CARGO_MANIFEST_DIR"), "/sql/sample/"));
    let path = format!("{}:{}", Path::new(HOLDFAST).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let run = |command: &str| {
        let output = Command::new("sh").args(["-c", command]).env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8([output.stderr, output.stdout].concat()).unwrap()
    };
    let mut ran = 0;
    for block in here.split("```").skip(1).step_by(2) {
        let (language, body) = block.split_once('\n').unwrap();
        match language {
            "sql" => drop(client.run(body).await),
            "sh" => body.lines().for_each(|line| drop(run(line))),
            "console" => {
                for step in body.split("$ ").skip(1) {
                    let (command, shown) = step.split_once('\n').unwrap();
                    assert_eq!(normal(&run(command)), normal(shown), "{command}");
                }
            }
            other => panic!("a block of {other}"),
        }
        ran += 1;
    }
    assert_eq!(ran, 4);
}

/// Without what differs from run to run: time and speed, and which states of a job are seen.
fn normal(shown: &str) -> Vec<String> {
    let word = |word: &str| !word.starts_with("seconds=") && !word.starts_with("MB/s=");
    let line = |line: &str| line.split(' ').filter(|part| word(part)).collect::<Vec<_>>().join(" ");
    shown.lines().filter(|line| !line.contains(" job ")).map(line).collect()
}
