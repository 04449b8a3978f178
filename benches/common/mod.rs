//! What the measurements share: options, a server, its data, and times.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;
use tpchgen::generators::LineItemGenerator;
use tpchgen_arrow::LineItemArrow;

/// What every benchmark is told.
#[derive(clap::Args)]
pub struct Options {
    /// How often each step is timed.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Where all data go [default: below target/].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The server [default: the release binary].
    #[arg(long, default_value = env!("CARGO_BIN_EXE_holdfast"))]
    pub server: PathBuf,
    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// A fresh directory, which is removed at the end.
    pub fn scratch(&self) -> Result<TempDir> {
        let parent = self.dir.clone().unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
        Ok(tempfile::Builder::new().prefix("bench").tempdir_in(parent)?)
    }
}

/// A running server with a data directory of its own. Dropped, it is killed.
pub struct Server {
    process: Child,
    port: u16,
    data: PathBuf,
}

impl Server {
    pub fn start(binary: &Path, data: PathBuf) -> Result<Self> {
        let mut process = Command::new(binary)
            .args(["--mysql-port", "0", "--http-port", "0", "--data-dir"])
            .arg(&data)
            .env("HOLDFAST_LOG", std::env::var("HOLDFAST_LOG").unwrap_or_else(|_| "warn".into()))
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let mut ready = String::new();
        BufReader::new(process.stdout.take().context("no output")?).read_line(&mut ready)?;
        let port = ready.split_once("mysql 127.0.0.1:").map(|(_, rest)| rest);
        let port = port.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let port = port.and_then(|port| port.parse().ok()).with_context(|| format!("not ready: {ready}"))?;
        Ok(Self { process, port, data })
    }

    pub async fn connect(&self) -> Result<Conn> {
        let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(self.port).user(Some("root"));
        Ok(Conn::new(options.prefer_socket(false)).await?)
    }

    /// Forgets the peak of resident memory.
    pub fn reset_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.process.id());
        std::fs::write(&path, "5").with_context(|| path)
    }

    /// The peak of resident memory since then, in MB.
    pub fn peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kb: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kb / 1024)
    }

    pub fn rowset_files(&self) -> PathBuf {
        self.data.join("storage/files")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Seconds of a step in each round.
#[derive(Default)]
pub struct Times(pub Vec<f64>);

impl Times {
    pub async fn add(&mut self, work: impl Future<Output = Result<()>>) -> Result<()> {
        let start = Instant::now();
        work.await?;
        self.0.push(start.elapsed().as_secs_f64());
        Ok(())
    }

    /// The value that a share of all is not above.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() as f64 * share) as usize;
        sorted.get(at).or(sorted.last()).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn all(&self) -> String {
        self.0.iter().map(|seconds| format!("{seconds:.2}")).collect::<Vec<_>>().join(" ")
    }
}

/// Lineitem in a server, and what it came from.
pub struct Lineitem {
    pub rows: u64,
    /// Its rowset files.
    pub files: u64,
}

/// Makes TPC-H lineitem as Parquet files in `source`, loads it as `tpch.lineitem`, waits until its small files are
/// merged, and says how that went.
pub async fn load_lineitem(server: &Server, client: &mut Conn, scale: f64, source: &Path) -> Result<Lineitem> {
    let rows = make_lineitem(scale, source)?;
    client.query_drop("CREATE DATABASE tpch").await?;
    client.query_drop(LINEITEM).await?;
    let mut load = Times::default();
    server.reset_peak()?;
    let insert = format!(
        "INSERT INTO tpch.lineitem SELECT * FROM FILES('path' = '{}/*.parquet', 'format' = 'parquet')",
        source.display()
    );
    client.query_drop("SET query_timeout = 7200").await.ok();
    load.add(run(client, &insert)).await?;
    let load_peak = server.peak()?;
    // Merging begins some seconds later.
    let (written, _) = content(&server.rowset_files())?;
    ensure!(count(client, "tpch").await? == rows, "rows were lost in the load");
    server.reset_peak()?;
    let (files, bytes) = settled(&server.rowset_files()).await?;
    let merge_peak = server.peak()?;
    println!(
        "lineitem, scale {scale}: {rows} rows in {files} files of {:.1} MB together, merged from {written}",
        bytes as f64 / 1e6
    );
    println!("load: {:.1} s, peak {load_peak} MB; merging and SELECT after it: peak {merge_peak} MB", load.median());
    Ok(Lineitem { rows, files })
}

pub async fn run(client: &mut Conn, statement: &str) -> Result<()> {
    client.query_drop(statement).await.with_context(|| statement.chars().take(80).collect::<String>())
}

pub async fn count(client: &mut Conn, database: &str) -> Result<u64> {
    let rows = client.query_first(format!("SELECT COUNT(*) FROM {database}.lineitem")).await?;
    rows.context("no row")
}

/// Runs a line of shell with `$1`, `$2`; its output is dropped.
pub fn shell(line: &str, arguments: &[&Path]) -> Result<()> {
    let status =
        Command::new("sh").args(["-c", line, "sh"]).args(arguments).stdout(Stdio::null()).status().context("sh")?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

/// Makes steps alike: nothing is left to be written of the one before, and memory that the step may fill is there. The
/// first touch of a page costs a virtual machine many times what a copy into it does if the host must find one, and hosts
/// take back what has been free for a while.
pub fn settle() -> Result<()> {
    const MOST: usize = 8 << 30;
    const PAGE: usize = 4096;
    shell("sync", &[])?;
    let known = std::fs::read_to_string("/proc/meminfo")?;
    let free = known.lines().find_map(|line| line.strip_prefix("MemFree:")?.trim().strip_suffix(" kB")?.parse().ok());
    let free: usize = free.context("no MemFree in /proc/meminfo")?;
    let mut memory = vec![0u8; (free / 4 * 3 * 1024).min(MOST)];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(memory);
    Ok(())
}

/// Waits until merging and garbage collection leave a directory as it is for two of their rounds.
/// Returns the number of files and their bytes.
pub async fn settled(dir: &Path) -> Result<(u64, u64)> {
    let mut last = content(dir)?;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(25) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = content(dir)?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

pub fn content(dir: &Path) -> Result<(u64, u64)> {
    let mut content = (0, 0);
    for entry in walkdir::WalkDir::new(dir) {
        // Files may go while they are listed.
        let Some(metadata) = entry.ok().and_then(|entry| entry.metadata().ok()) else { continue };
        if metadata.is_file() {
            content = (content.0 + 1, content.1 + metadata.len());
        }
    }
    Ok(content)
}

const LINEITEM: &str = "CREATE TABLE tpch.lineitem (
    l_orderkey BIGINT NOT NULL,
    l_partkey BIGINT NOT NULL,
    l_suppkey BIGINT NOT NULL,
    l_linenumber INT NOT NULL,
    l_quantity DECIMAL(15, 2) NOT NULL,
    l_extendedprice DECIMAL(15, 2) NOT NULL,
    l_discount DECIMAL(15, 2) NOT NULL,
    l_tax DECIMAL(15, 2) NOT NULL,
    l_returnflag VARCHAR(1) NOT NULL,
    l_linestatus VARCHAR(1) NOT NULL,
    l_shipdate DATE NOT NULL,
    l_commitdate DATE NOT NULL,
    l_receiptdate DATE NOT NULL,
    l_shipinstruct VARCHAR(25) NOT NULL,
    l_shipmode VARCHAR(10) NOT NULL,
    l_comment VARCHAR(44) NOT NULL
) DUPLICATE KEY(l_orderkey) DISTRIBUTED BY HASH(l_orderkey) BUCKETS 8 PROPERTIES('replication_num' = '1')";

/// Writes lineitem as Parquet files, at least one for each unit of scale. Returns the number of rows.
fn make_lineitem(scale: f64, dir: &Path) -> Result<u64> {
    std::fs::create_dir_all(dir)?;
    let threads = std::thread::available_parallelism()?.get();
    let parts = (scale.ceil() as usize).next_multiple_of(threads) as i32;
    let make = |part: i32| {
        let batches = LineItemArrow::new(LineItemGenerator::new(scale, part, parts));
        write_parquet(&dir.join(format!("{part:04}.parquet")), batches.map(|batch| batch.expect("generated rows fit")))
    };
    let make = &make;
    std::thread::scope(|scope| {
        let strides: Vec<_> = (1..=threads as i32)
            .map(|first| scope.spawn(move || (first..=parts).step_by(threads).map(make).sum::<Result<u64>>()))
            .collect();
        strides.into_iter().map(|stride| stride.join().expect("no panic in it")).sum()
    })
}

pub fn write_parquet(path: &Path, batches: impl Iterator<Item = RecordBatch>) -> Result<u64> {
    let mut batches = batches.peekable();
    let schema = batches.peek().context("no rows")?.schema();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, schema, Some(properties))?;
    let mut rows = 0;
    for batch in batches {
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(rows)
}
