//! How fast a server backs up and restores, against what the same machine does with the same files in the same run.
//!
//! ```text
//! cargo bench --features jemalloc --bench backup -- --scale 10 --tablets 100000
//! ```
//!
//! It starts the release binary as a process, drives it through the MySQL port, and prints tables. All limits are off.
//!
//! - **TPC-H lineitem** at a scale (60 million rows at scale 10), made by `tpchgen` and loaded through `FILES()`. Each
//!   round copies its rowset files (`cp -r && sync`), hashes them (`openssl dgst -sha256`), backs them up into a fresh
//!   repository, backs the unchanged data up again, and restores it into another database. Ratios are to the slower of
//!   copy and hash. The peak of resident memory is that of the whole process, FE and BE, in that step alone.
//! - **Latency** of small statements while nothing runs and while a backup does.
//! - **Planning**: the time of a BACKUP statement of a table of many tablets with a file each. The statement returns
//!   when its job is in SNAPSHOTING.
//!
//! Times depend on what else the machine does; compare ratios, and the spread between rounds. `--dir` names another file
//! system for all, such as one in memory, which shows what is left without a disk.

mod common;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use clap::Parser;
use common::{Lineitem, Options, Server, Times, count, load_lineitem, run, settle, settled, shell, write_parquet};
use holdfast::types::bucket_of;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// Buckets of a partition of the table with many tablets.
const BUCKETS: i32 = 100;

/// Samples of a statement's latency on an idle server.
const IDLE_SAMPLES: usize = 2000;

#[derive(Parser)]
struct Arguments {
    /// TPC-H scale factor; 0 leaves lineitem out.
    #[arg(long, default_value_t = 10.0)]
    scale: f64,
    /// Tablets of the table whose backup is planned, in hundreds; 0 leaves it out.
    #[arg(long, default_value_t = 100_000)]
    tablets: i32,
    /// Also waits until the backup of all those tablets has ended, and repeats it.
    #[arg(long)]
    whole: bool,
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = arguments.options.scratch()?;
    if arguments.scale > 0.0 {
        lineitem(&arguments, dir.path()).await.context("lineitem")?;
    }
    if arguments.tablets > 0 {
        tablets(&arguments, dir.path()).await.context("many tablets")?;
    }
    Ok(())
}

async fn lineitem(arguments: &Arguments, dir: &Path) -> Result<()> {
    let source = dir.join("lineitem");
    let server = Server::start(&arguments.options.server, dir.join("data"))?;
    let mut client = server.connect().await?;
    let Lineitem { rows, files } = load_lineitem(&server, &mut client, arguments.scale, &source).await?;
    std::fs::remove_dir_all(&source)?;

    // What the load has left in memory is not of the steps that follow.
    drop(server);
    let server = Server::start(&arguments.options.server, dir.join("data"))?;
    let mut client = server.connect().await?;
    let [mut copy, mut hash, mut backup, mut again, mut restore] = [(); 5].map(|()| Times::default());
    let [mut backup_peak, mut again_peak, mut restore_peak] = [0; 3];
    let copied = dir.join("copy");
    for round in 0..arguments.options.rounds {
        let repository = dir.join(format!("repository{round}"));
        let create = format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", repository.display());
        client.query_drop(create).await?;
        settle()?;
        hash.add(async {
            shell("find \"$1\" -type f -print0 | xargs -0 openssl dgst -sha256", &[&server.rowset_files()])
        })
        .await?;
        settle()?;
        copy.add(async { shell("cp -r \"$1\" \"$2\" && sync", &[&server.rowset_files(), &copied]) }).await?;
        std::fs::remove_dir_all(&copied)?;
        settle()?;

        server.reset_peak()?;
        backup.add(run(&mut client, "BACKUP SNAPSHOT tpch.first TO r PROPERTIES('wait' = 'true')")).await?;
        backup_peak = backup_peak.max(server.peak()?);
        settle()?;

        server.reset_peak()?;
        again.add(run(&mut client, "BACKUP SNAPSHOT tpch.second TO r PROPERTIES('wait' = 'true')")).await?;
        again_peak = again_peak.max(server.peak()?);
        settle()?;

        server.reset_peak()?;
        let statement = "RESTORE SNAPSHOT first FROM r DATABASE tpch AS restored \
                         PROPERTIES('backup_timestamp' = 'latest', 'wait' = 'true')";
        restore.add(run(&mut client, statement)).await?;
        restore_peak = restore_peak.max(server.peak()?);
        ensure!(count(&mut client, "restored").await? == rows, "rows were lost in the restore");

        client.query_drop("DROP DATABASE restored FORCE").await?;
        client.query_drop("DROP REPOSITORY r").await?;
        std::fs::remove_dir_all(&repository)?;
        settled(&server.rowset_files()).await?;
    }

    let slower = copy.median().max(hash.median());
    let again_allowed = 0.5 + 1e-5 * files as f64;
    println!("{:<24} {:>8} {:>8} {:>10} {:>9}  seconds of each round", "step", "seconds", "ratio", "target", "peak MB");
    let line = |name: &str, times: &Times, ratio: &str, target: &str, peak: &str| {
        println!("{name:<24} {:>8.2} {ratio:>8} {target:>10} {peak:>9}  {}", times.median(), times.all());
    };
    let ratio = |times: &Times| format!("{:.2}", times.median() / slower);
    line("cp -r && sync", &copy, &ratio(&copy), "", "");
    line("openssl dgst -sha256", &hash, &ratio(&hash), "", "");
    line("backup", &backup, &ratio(&backup), "<= 1.25", &backup_peak.to_string());
    line("restore", &restore, &ratio(&restore), "<= 1.25", &restore_peak.to_string());
    line("second backup", &again, "", &format!("<= {again_allowed:.2} s"), &again_peak.to_string());

    latency(&server, &mut client, dir).await
}

/// Latencies on an idle server and while backups run.
async fn latency(server: &Server, client: &mut Conn, dir: &Path) -> Result<()> {
    let statements = ["SELECT 1", "SHOW BACKUP FROM tpch"];
    println!("{:<24} {:>10} {:>8} {:>8} {:>8} {:>8}", "latency", "while", "p50 ms", "p99 ms", "max ms", "samples");
    let report = |statement: &str, phase: &str, times: &Times| {
        let ms = [0.5, 0.99, 1.0].map(|share| format!("{:>8.2}", times.quantile(share) * 1e3)).join(" ");
        println!("{statement:<24} {phase:>10} {ms} {:>8}", times.0.len());
    };
    let mut known = Vec::new();
    for statement in statements {
        match client.query_drop(statement).await {
            Ok(()) => known.push(statement),
            Err(err) => println!("{statement:<24} {err}"),
        }
    }
    for statement in &known {
        let mut times = Times::default();
        for _ in 0..IDLE_SAMPLES {
            times.add(run(client, statement)).await?;
        }
        report(statement, "idle", &times);
    }
    for (round, statement) in known.iter().enumerate() {
        let repository = dir.join(format!("latency{round}"));
        let create = format!("CREATE REPOSITORY l WITH BROKER ON LOCATION 'file://{}'", repository.display());
        client.query_drop(create).await?;
        let mut other = server.connect().await?;
        let backup = tokio::spawn(async move {
            run(&mut other, "BACKUP SNAPSHOT tpch.latency TO l PROPERTIES('wait' = 'true')").await
        });
        let mut times = Times::default();
        while !backup.is_finished() {
            times.add(run(client, statement)).await?;
        }
        backup.await??;
        report(statement, "backup", &times);
        client.query_drop("DROP REPOSITORY l").await?;
        std::fs::remove_dir_all(&repository)?;
    }
    Ok(())
}

/// Plans a backup of a table with a file in each of many tablets.
async fn tablets(arguments: &Arguments, dir: &Path) -> Result<()> {
    let partitions = arguments.tablets / BUCKETS;
    let source = dir.join("tablets.parquet");
    make_tablets(partitions, &source)?;
    let server = Server::start(&arguments.options.server, dir.join("tablets"))?;
    let mut client = server.connect().await?;
    client.query_drop("SET query_timeout = 7200").await.ok();
    client.query_drop("CREATE DATABASE many").await?;
    let ranges: Vec<String> =
        (0..partitions).map(|p| format!("PARTITION p{p} VALUES LESS THAN ('{}')", p + 1)).collect();
    let create = format!(
        "CREATE TABLE many.t (p INT NOT NULL, k INT NOT NULL) DUPLICATE KEY(p) PARTITION BY RANGE(p) ({}) \
         DISTRIBUTED BY HASH(k) BUCKETS {BUCKETS} PROPERTIES('replication_num' = '1')",
        ranges.join(", ")
    );
    let [mut created, mut load, mut plan, mut whole, mut again] = [(); 5].map(|()| Times::default());
    created.add(run(&mut client, &create)).await?;
    server.reset_peak()?;
    let insert =
        format!("INSERT INTO many.t SELECT * FROM FILES('path' = '{}', 'format' = 'parquet')", source.display());
    load.add(run(&mut client, &insert)).await?;
    let load_peak = server.peak()?;
    let (files, _) = settled(&server.rowset_files()).await?;
    ensure!(files == partitions as u64 * BUCKETS as u64, "{files} files");
    println!(
        "{files} tablets: created in {:.1} s, loaded in {:.1} s, peak {load_peak} MB",
        created.median(),
        load.median()
    );

    let repository = dir.join("many");
    let create = format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", repository.display());
    client.query_drop(create).await?;
    for _ in 0..arguments.options.rounds {
        settle()?;
        server.reset_peak()?;
        plan.add(run(&mut client, "BACKUP SNAPSHOT many.planned TO r")).await?;
        run(&mut client, "CANCEL BACKUP FROM many").await?;
    }
    println!("planned in {:.2} s (target < 1 s at 100000), peak {} MB: {}", plan.median(), server.peak()?, plan.all());
    if arguments.whole {
        for (label, times) in [("first", &mut whole), ("second", &mut again)] {
            server.reset_peak()?;
            let backup = format!("BACKUP SNAPSHOT many.{label} TO r PROPERTIES('wait' = 'true')");
            times.add(run(&mut client, &backup)).await?;
            println!("{label} backup in {:.2} s, peak {} MB", times.median(), server.peak()?);
        }
    }
    Ok(())
}

/// Writes a row for each bucket of each partition.
fn make_tablets(partitions: i32, path: &Path) -> Result<u64> {
    // The smallest number of each bucket.
    let numbers: ArrayRef = Arc::new((0..BUCKETS * 100).collect::<Int32Array>());
    let buckets =
        bucket_of(std::slice::from_ref(&numbers), numbers.len(), BUCKETS as u32).map_err(anyhow::Error::msg)?;
    let of_bucket = |bucket: u32| buckets.iter().position(|found| *found == bucket).map(|number| number as i32);
    let keys: Vec<i32> = (0..BUCKETS as u32).map(of_bucket).collect::<Option<_>>().context("an empty bucket")?;
    write_parquet(
        path,
        (0..partitions).map(|partition| {
            let p: ArrayRef = Arc::new(Int32Array::from(vec![partition; keys.len()]));
            let k: ArrayRef = Arc::new(Int32Array::from(keys.clone()));
            RecordBatch::try_from_iter([("p", p), ("k", k)]).expect("columns of one length")
        }),
    )
}
