//! How fast raw keys are backed up and restored in BR's format, against what the same machine does with the same bytes
//! in the same run.
//!
//! ```text
//! cargo bench --features jemalloc --bench rawkv -- --gib 1
//! ```
//!
//! It starts the release binary as a process and drives it through the MySQL port. For values of 100 bytes and of 10 KiB
//! it loads as many as wanted through `FILES()`, waits until the regions are split, and in each round compresses and
//! hashes the same keys and values on one core (`zstd -3 | openssl dgst -sha256`), backs them up to a directory, and
//! restores them into a fresh server. Ratios are speeds relative to the former. The peak of resident memory is that of the
//! whole process, FE and BE, in that step alone.

mod common;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use clap::Parser;
use common::{Options, Server, Times, run, settle, shell, write_parquet};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::{Rng, SeedableRng};

/// Bytes of keys and values in a batch.
const BATCH: usize = 16 << 20;

#[derive(Parser)]
struct Arguments {
    /// GiB of keys and values of each size.
    #[arg(long, default_value_t = 1.0)]
    gib: f64,
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for size in [100, 10 << 10] {
        let dir = arguments.options.scratch()?;
        values(&arguments, dir.path(), size).await.with_context(|| format!("values of {size} bytes"))?;
    }
    Ok(())
}

async fn values(arguments: &Arguments, dir: &Path, size: usize) -> Result<()> {
    let (plain, source) = (dir.join("plain"), dir.join("source"));
    let (rows, bytes) = make(arguments.gib, size, &plain, &source)?;
    let mb = bytes as f64 / 1e6;
    let server = Server::start(&arguments.options.server, dir.join("data"))?;
    let mut client = server.connect().await?;
    client.query_drop("CREATE DATABASE rawkv").await?;
    let mut load = Times::default();
    let insert = format!(
        "INSERT INTO rawkv.default SELECT k, v FROM FILES('path' = '{}/*.parquet', 'format' = 'parquet')",
        source.display()
    );
    load.add(run(&mut client, &insert)).await?;
    let load_peak = server.peak()?;
    std::fs::remove_dir_all(&source)?;
    ensure!(count(&mut client).await? == rows, "keys were lost in the load");
    let regions = split(&mut client).await?;
    println!("{rows} values of {size} bytes, {mb:.0} MB with keys, in {regions} regions");
    println!("load: {:.0} MB/s, peak {load_peak} MB", mb / load.median());

    let [mut base, mut backup, mut restore] = [(); 3].map(|()| Times::default());
    let [mut backup_peak, mut restore_peak] = [0; 2];
    for round in 0..arguments.options.rounds {
        let backup_dir = dir.join(format!("backup{round}"));
        settle()?;
        base.add(async { shell("taskset -c 0 zstd -q -3 -c \"$1\" | taskset -c 0 openssl dgst -sha256", &[&plain]) })
            .await?;
        settle()?;
        server.reset_peak()?;
        let uri = format!("local://{}", backup_dir.display());
        backup.add(run(&mut client, &format!("BACKUP RAW TO '{uri}' PROPERTIES('wait' = 'true')"))).await?;
        backup_peak = backup_peak.max(server.peak()?);

        let fresh = dir.join("fresh");
        let target = Server::start(&arguments.options.server, fresh.clone())?;
        let mut other = target.connect().await?;
        settle()?;
        target.reset_peak()?;
        restore.add(run(&mut other, &format!("RESTORE RAW FROM '{uri}' PROPERTIES('wait' = 'true')"))).await?;
        restore_peak = restore_peak.max(target.peak()?);
        ensure!(count(&mut other).await? == rows, "keys were lost in the restore");
        drop(target);
        std::fs::remove_dir_all(&fresh)?;
        if round + 1 < arguments.options.rounds {
            std::fs::remove_dir_all(&backup_dir)?;
        }
    }
    let (_, stored) = common::content(&dir.join(format!("backup{}", arguments.options.rounds - 1)))?;
    println!("the backup has {:.0} MB", stored as f64 / 1e6);
    let target = if size > 1000 { ">= 0.50" } else { "" };
    println!("{:<24} {:>8} {:>8} {:>10} {:>9}  seconds of each round", "step", "MB/s", "ratio", "target", "peak MB");
    let line = |name: &str, times: &Times, target: &str, peak: &str| {
        let ratio = base.median() / times.median();
        println!("{name:<24} {:>8.0} {ratio:>8.2} {target:>10} {peak:>9}  {}", mb / times.median(), times.all());
    };
    line("zstd -3 | openssl sha256", &base, "", "");
    line("backup raw", &backup, target, &backup_peak.to_string());
    line("restore raw", &restore, target, &restore_peak.to_string());
    println!();
    Ok(())
}

async fn count(client: &mut Conn) -> Result<u64> {
    client.query_first("SELECT COUNT(*) FROM rawkv.default").await?.context("no row")
}

/// Waits until regions are no longer split, and returns how many there are.
async fn split(client: &mut Conn) -> Result<u64> {
    let mut last = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(12)).await;
        let now: u64 =
            client.query_first("SELECT COUNT(*) FROM information_schema.raw_regions").await?.context("no row")?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

/// Makes keys and values of 64 different bytes, as one file and as Parquet. Returns how many, and their bytes.
fn make(gib: f64, size: usize, plain: &Path, source: &Path) -> Result<(u64, u64)> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::fs::create_dir_all(source)?;
    let mut plain = std::io::BufWriter::new(std::fs::File::create(plain)?);
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let rows = (gib * (1u64 << 30) as f64) as u64 / (size as u64 + 16);
    let mut written = 0;
    let mut part = 0;
    let at_once = (BATCH / (size + 16)) as u64;
    while written < rows {
        let numbers: Vec<u64> = (written..rows.min(written + at_once)).collect();
        let keys: Vec<_> = numbers.iter().map(|n| format!("key-{n:012}")).collect();
        let values: Vec<Vec<u8>> =
            numbers.iter().map(|_| (0..size).map(|_| LETTERS[random.random_range(0..64)]).collect()).collect();
        for (key, value) in keys.iter().zip(&values) {
            plain.write_all(key.as_bytes())?;
            plain.write_all(value)?;
        }
        written += numbers.len() as u64;
        let columns: [(&str, ArrayRef); 2] = [
            ("k", Arc::new(BinaryArray::from_iter_values(&keys))),
            ("v", Arc::new(BinaryArray::from_iter_values(&values))),
        ];
        write_parquet(&source.join(format!("{part:05}.parquet")), [RecordBatch::try_from_iter(columns)?].into_iter())?;
        part += 1;
    }
    plain.flush()?;
    Ok((rows, rows * (size as u64 + 16)))
}
