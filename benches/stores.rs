//! How fast a server backs up to and restores from object stores, beside other programs with the same store, in the
//! same run.
//!
//! ```text
//! .ci/setup stores && apt install rclone
//! cargo bench --features jemalloc --bench stores -- --scale 10 --chdb venv/bin/python
//! ```
//!
//! It starts the release binary, MinIO and Azurite as processes, and prints a table for each store. All limits are off.
//!
//! - **BACKUP and RESTORE** of TPC-H lineitem, with everything that they do: hashes, catalog, commit, sync.
//! - **rclone copy** of the same rowset files there and back; the files it brought are synced, as RESTORE's are, which is
//!   also counted by itself.
//! - **ClickHouse** (chdb, `pip install chdb==4.4.0`): `BACKUP TABLE … TO S3` of a table of the same rows, in its own
//!   files. What it restores is not synced.
//!
//! A round that is not timed comes first. It warms everything up, and MinIO's own counter tells its requests.
//!
//! Times depend on what else the machine does; compare them with each other, and the spread between rounds.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Parser;
use common::{Lineitem, Options, Server, Times, content, count, load_lineitem, run, settle, shell};
use hmac::Mac;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// The user of MinIO, the account of Azurite, the bucket and the container.
const NAME: &str = "holdfastbench";
const SECRET: &str = "secret-of-a-benchmark";

/// MinIO's counters are as old as this at most.
const COUNTED: Duration = Duration::from_secs(11);

/// Runs statements, one on each line, and says of each what went wrong.
const CHDB: &str = "
import sys
from chdb.session import Session
session = Session(sys.argv[1])
print(flush=True)
for line in sys.stdin:
    try:
        session.query(line)
        print(flush=True)
    except Exception as error:
        print(repr(error), flush=True)
";

#[derive(Parser)]
struct Arguments {
    /// TPC-H scale factor.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// A Python that has chdb.
    #[arg(long, default_value = "target/venv/bin/python")]
    chdb: PathBuf,
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = arguments.options.scratch()?;
    let dir = dir.path();
    let source = dir.join("lineitem");
    let server = Server::start(&arguments.options.server, dir.join("data"))?;
    let mut client = server.connect().await?;
    let lineitem = load_lineitem(&server, &mut client, arguments.scale, &source).await?;
    // A restore adds files of its own.
    let files = dir.join("files");
    shell("cp -rl \"$1\" \"$2\"", &[&server.rowset_files(), &files])?;
    // What the load has left in memory is not of the steps that follow.
    drop(server);
    let server = Server::start(&arguments.options.server, dir.join("data"))?;
    let client = server.connect().await?;
    let mut bench = Bench { rounds: arguments.options.rounds, dir, files, lineitem, server, client };

    match Store::minio(dir)? {
        None => println!("S3 is skipped: needs MinIO, see .ci/setup stores"),
        Some(store) => {
            let chdb = Chdb::start(&arguments.chdb, dir, &source)?;
            if chdb.is_none() {
                println!("ClickHouse is skipped: needs chdb, see --chdb");
            }
            bench.measure(&store, chdb).await.context("S3")?;
        }
    }
    std::fs::remove_dir_all(&source)?;
    match Store::azurite(dir)? {
        None => println!("Azure Blob is skipped: needs Azurite, see .ci/setup stores"),
        Some(store) => bench.measure(&store, None).await.context("Azure Blob")?,
    }
    Ok(())
}

struct Bench<'a> {
    rounds: usize,
    dir: &'a Path,
    /// The rowset files that are backed up.
    files: PathBuf,
    lineitem: Lineitem,
    server: Server,
    client: Conn,
}

/// Of one thing that is measured: its times, and the requests of one run.
#[derive(Default)]
struct Step {
    times: Times,
    requests: Option<u64>,
}

impl Step {
    /// Times it, or counts its requests.
    async fn add(&mut self, store: &Store, timed: bool, work: impl Future<Output = Result<()>>) -> Result<()> {
        settle()?;
        if timed {
            return self.times.add(work).await;
        }
        let before = store.requests().await?;
        work.await?;
        self.requests = store.requests().await?.zip(before).map(|(after, before)| after - before);
        Ok(())
    }
}

impl Bench<'_> {
    async fn measure(&mut self, store: &Store, mut chdb: Option<Chdb>) -> Result<()> {
        let Self { dir, files, lineitem: Lineitem { rows, files: number }, server, client, .. } = self;
        let [mut backup, mut restore, mut there, mut back, mut sync, mut chdb_backup, mut chdb_restore] =
            [(); 7].map(|()| Step::default());
        let mut peaks = [0; 2];
        let copied = dir.join("copied");
        store.rclone(&["mkdir", &format!("store:{NAME}")])?;
        for round in 0..=self.rounds {
            let timed = round > 0;
            let create = format!(
                "CREATE REPOSITORY r WITH BROKER ON LOCATION '{}/holdfast{round}' PROPERTIES({})",
                store.location, store.properties
            );
            client.query_drop(create).await?;
            server.reset_peak()?;
            let statement = "BACKUP SNAPSHOT tpch.first TO r PROPERTIES('wait' = 'true')";
            backup.add(store, timed, run(client, statement)).await?;
            peaks[0] = peaks[0].max(server.peak()?);
            let remote = format!("store:{NAME}/rclone{round}");
            there.add(store, timed, async { store.rclone(&["copy", &files.to_string_lossy(), &remote]) }).await?;
            let target = format!("S3('{}/{NAME}/chdb{round}', '{NAME}', '{SECRET}')", store.endpoint);
            if let Some(chdb) = &mut chdb {
                let statement = format!("BACKUP TABLE default.lineitem TO {target}");
                chdb_backup.add(store, timed, async { chdb.run(&statement) }).await?;
            }

            server.reset_peak()?;
            let statement = "RESTORE SNAPSHOT first FROM r DATABASE tpch AS restored \
                             PROPERTIES('backup_timestamp' = 'latest', 'wait' = 'true')";
            restore.add(store, timed, run(client, statement)).await?;
            peaks[1] = peaks[1].max(server.peak()?);
            back.add(store, timed, async { store.rclone(&["copy", &remote, &copied.to_string_lossy()]) }).await?;
            if timed {
                sync.times.add(async { shell("find \"$1\" -type f -exec sync {} +", &[&copied]) }).await?;
            }
            if let Some(chdb) = &mut chdb {
                let statement = format!("RESTORE TABLE default.lineitem AS default.restored FROM {target}");
                chdb_restore.add(store, timed, async { chdb.run(&statement) }).await?;
                chdb.run("DROP TABLE default.restored SYNC")?;
            }

            ensure!(count(client, "restored").await? == *rows, "rows were lost in the restore");
            ensure!(content(&copied)? == content(files)?, "rclone has lost files");
            std::fs::remove_dir_all(&copied)?;
            client.query_drop("DROP DATABASE restored FORCE").await?;
            client.query_drop("DROP REPOSITORY r").await?;
            store.rclone(&["delete", &format!("store:{NAME}")])?;
        }
        let mut synced = Step { times: Times::default(), ..back };
        synced.times.0.extend(back.times.0.iter().zip(&sync.times.0).map(|(copy, sync)| copy + sync));

        let megabytes = content(files)?.1 as f64 / 1e6;
        println!("{}: {number} files of {megabytes:.1} MB together", store.name);
        println!(
            "{:<24} {:>8} {:>8} {:>9} {:>9}  seconds of each round",
            "step", "seconds", "MB/s", "requests", "peak MB"
        );
        let line = |name: &str, step: &Step, peak: &str| {
            if step.times.0.is_empty() {
                return;
            }
            let (seconds, requests) = (step.times.median(), step.requests.map(|n| n.to_string()).unwrap_or_default());
            let speed = megabytes / seconds;
            println!("{name:<24} {seconds:>8.2} {speed:>8.0} {requests:>9} {peak:>9}  {}", step.times.all());
        };
        line("BACKUP", &backup, &peaks[0].to_string());
        line("rclone copy", &there, "");
        line("ClickHouse BACKUP", &chdb_backup, "");
        line("RESTORE", &restore, &peaks[1].to_string());
        line("rclone copy", &back, "");
        line("rclone copy, and sync", &synced, "");
        line("ClickHouse RESTORE", &chdb_restore, "");
        Ok(())
    }
}

/// A storage server with a data directory of its own. Dropped, it is killed.
struct Store {
    name: &'static str,
    process: Child,
    endpoint: String,
    location: String,
    properties: String,
    /// rclone's configuration of the remote `store`.
    remote: Vec<(&'static str, String)>,
    /// Where its requests are counted.
    counter: Option<String>,
}

impl Store {
    /// `None` if it is not installed.
    fn minio(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = installed("minio/minio") else { return Ok(None) };
        let address = free_address()?;
        let endpoint = format!("http://{address}");
        let mut command = Command::new(program);
        command
            .args(["server", "--quiet", "--address", &address])
            .arg(dir.join("minio"))
            .env("MINIO_ROOT_USER", NAME)
            .env("MINIO_ROOT_PASSWORD", SECRET)
            .env("MINIO_PROMETHEUS_AUTH_TYPE", "public")
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off");
        let store = Self {
            name: "S3 (MinIO)",
            process: start(&mut command)?,
            location: format!("s3://{NAME}"),
            properties: format!(
                "'aws.s3.access_key' = '{NAME}', 'aws.s3.secret_key' = '{SECRET}', 'aws.s3.endpoint' = '{endpoint}', \
                 'aws.s3.region' = 'us-east-1'"
            ),
            remote: vec![
                ("TYPE", "s3".into()),
                ("PROVIDER", "Minio".into()),
                ("ACCESS_KEY_ID", NAME.into()),
                ("SECRET_ACCESS_KEY", SECRET.into()),
                ("ENDPOINT", endpoint.clone()),
            ],
            counter: Some(format!("{endpoint}/minio/v2/metrics/cluster")),
            endpoint,
        };
        store.ready(&format!("{}/minio/health/cluster", store.endpoint))?;
        Ok(Some(store))
    }

    /// `None` if it is not installed.
    fn azurite(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = installed("azurite/node_modules/azurite/dist/src/blob/main.js") else { return Ok(None) };
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("no port")?;
        let endpoint = format!("http://{address}/{NAME}");
        let mut command = Command::new("node");
        command
            .arg(program)
            .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"])
            .args(["--blobHost", host, "--blobPort", port, "--location"])
            .arg(dir.join("azurite"))
            .env("AZURITE_ACCOUNTS", format!("{NAME}:{}", BASE64_STANDARD.encode(SECRET)));
        // rclone takes other endpoints than Azure's only so.
        let (version, rights, expiry) = ("2020-08-04", "rwdlac", "2099-01-01T00:00:00Z");
        let text = format!("{NAME}\n{rights}\nb\nsco\n\n{expiry}\n\n\n{version}\n");
        let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes())?.chain_update(text);
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        let signature = percent_encoding::utf8_percent_encode(&signature, percent_encoding::NON_ALPHANUMERIC);
        let sas = format!("sv={version}&ss=b&srt=sco&sp={rights}&se={expiry}&sig={signature}");
        let store = Self {
            name: "Azure Blob (Azurite)",
            process: start(&mut command)?,
            location: format!("wasb://{NAME}@{NAME}.blob.core.windows.net"),
            properties: format!("'azure.blob.endpoint' = '{endpoint}', 'azure.blob.sas_token' = '{sas}'"),
            remote: vec![("TYPE", "azureblob".into()), ("SAS_URL", format!("{endpoint}?{sas}"))],
            counter: None,
            endpoint,
        };
        store.ready(&store.endpoint)?;
        Ok(Some(store))
    }

    /// Waits until it answers.
    fn ready(&self, url: &str) -> Result<()> {
        let options = ["-s", "--noproxy", "*", "-o", "/dev/null", "--retry", "60", "--retry-delay", "1"];
        let status = Command::new("curl").args(options).args(["--retry-all-errors", url]).status().context("curl")?;
        ensure!(status.success(), "{} does not answer: {status}", self.name);
        Ok(())
    }

    fn rclone(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("rclone");
        for (key, value) in &self.remote {
            command.env(format!("RCLONE_CONFIG_STORE_{key}"), value);
        }
        // rclone 1.60 fails where the first is there, whatever it names.
        command.env_remove("AWS_CA_BUNDLE").env("RCLONE_CONFIG", "/dev/null").env("NO_PROXY", "127.0.0.1");
        let status = command.arg("-q").args(arguments).status().context("rclone: apt install rclone")?;
        ensure!(status.success(), "rclone {}: {status}", arguments.join(" "));
        Ok(())
    }

    /// How many it has answered, where it counts them.
    async fn requests(&self) -> Result<Option<u64>> {
        let Some(url) = &self.counter else { return Ok(None) };
        tokio::time::sleep(COUNTED).await;
        let output = Command::new("curl").args(["-s", "--noproxy", "*", url]).output().context("curl")?;
        let metrics = String::from_utf8(output.stdout)?;
        let values = metrics.lines().filter(|line| line.starts_with("minio_s3_requests_total{"));
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(Some(values.sum::<f64>() as u64))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A file that `.ci/setup stores` made.
fn installed(path: &str) -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers").join(path)).filter(|path| path.exists())
}

fn start(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().with_context(|| format!("{command:?}"))
}

/// A free port of this machine; nobody keeps it.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// ClickHouse in a Python process, with lineitem. Dropped, it is killed.
struct Chdb {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Chdb {
    /// `None` if it is not installed.
    fn start(python: &Path, dir: &Path, source: &Path) -> Result<Option<Self>> {
        let found = Command::new(python).args(["-c", "import chdb"]).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let mut command = Command::new(python);
        command.args(["-c", CHDB]).arg(dir.join("chdb")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take().context("no input")?;
        let output = BufReader::new(process.stdout.take().context("no output")?);
        let mut chdb = Self { process, input, output };
        chdb.answer("start of chdb")?;
        chdb.run(&format!(
            "CREATE TABLE default.lineitem ENGINE = MergeTree ORDER BY l_orderkey AS \
             SELECT * FROM file('{}/*.parquet') SETTINGS schema_inference_make_columns_nullable = 0",
            source.display()
        ))?;
        chdb.run("OPTIMIZE TABLE default.lineitem FINAL")?;
        Ok(Some(chdb))
    }

    fn run(&mut self, statement: &str) -> Result<()> {
        writeln!(self.input, "{statement}")?;
        self.answer(statement)
    }

    fn answer(&mut self, statement: &str) -> Result<()> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "chdb has ended: {statement}");
        ensure!(line == "\n", "{line}: {statement}");
        Ok(())
    }
}

impl Drop for Chdb {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
