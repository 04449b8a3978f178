//! The program: reads the command line and the configuration, starts servers, and ends them cleanly.

mod br;
mod cli;
mod demo;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::error::ErrorKind;
use holdfast::be;
use holdfast::catalog::Catalog;
use holdfast::clock::Clock;
use holdfast::config::{self, BeConfig, FeConfig};
use holdfast::error::Error;
use holdfast::fe::{self, Frontend, Sessions};
use holdfast::http::HttpServer;
use holdfast::job::Jobs;
use holdfast::mysql::{self, MysqlServer};
use holdfast::rawkv::debug;
use holdfast::rpc::fleet::Fleet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{BrBackupCommand, BrCommand, BrDebugCommand, BrRestoreCommand, Command, command_of};

/// glibc's allocator keeps several times the memory that a load or a merge has in use. `.cargo/config.toml` configures
/// this one.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long a client may take to log in.
const LOGIN_DEADLINE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    // br knows one status for all that can be wrong.
    let is_br = line.get(1).is_some_and(|word| word == "br");
    let wrong_line = ExitCode::from(if is_br { 1 } else { 2 });
    let command = match command_of(line) {
        Ok(command) => command,
        // To br, a command without its second word is a question.
        Err((error, text)) if is_br && error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err((error, text)) => {
            // In colours, where nothing is masked.
            if error.render().to_string() == text {
                let _ = error.print();
            } else {
                eprint!("{text}");
            }
            return if error.use_stderr() { wrong_line } else { ExitCode::SUCCESS };
        }
    };
    let Err(error) = try_main(command) else { return ExitCode::SUCCESS };
    eprintln!("holdfast: {error:#}");
    match error.downcast_ref::<Error>() {
        Some(Error::Config(_)) => wrong_line,
        _ => ExitCode::FAILURE,
    }
}

fn try_main(command: Command) -> anyhow::Result<()> {
    let is_client = matches!(command, Command::Demo { .. } | Command::Br { .. });
    let default = if is_client { "warn" } else { "info" };
    let directives = std::env::var("HOLDFAST_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&directives);
    let filter = filter.map_err(|error| Error::Config(format!("HOLDFAST_LOG '{directives}': {error}")))?;
    #[cfg(feature = "failpoints")]
    let _armed = fail::FailScenario::setup();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Else what cannot be logged, because the disk of the log is full, is a panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();

    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(holdfast::sql::STACK_SIZE).build();
    // On a thread of the runtime, for the sake of its stack.
    let task = async {
        #[cfg(feature = "failpoints")]
        go_on_by_signal()?;
        tokio::spawn(async { run(command, ended_by_signal()?).await }).await?
    };
    runtime.context("start the runtime")?.block_on(task)
}

/// A token that SIGTERM and SIGINT cancel.
fn ended_by_signal() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        cancelled.cancel();
    });
    Ok(token)
}

/// SIGUSR1 lets everything go on that stays at a place named by `FAILPOINTS`.
#[cfg(feature = "failpoints")]
fn go_on_by_signal() -> anyhow::Result<()> {
    let mut go_on = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while go_on.recv().await.is_some() {
            fail::list().into_iter().for_each(|(place, _)| fail::remove(place));
        }
    });
    Ok(())
}

/// Does what the command says, until it is done or `shutdown` is cancelled.
async fn run(command: Command, shutdown: CancellationToken) -> anyhow::Result<()> {
    match command {
        Command::Standalone(options) => {
            let (fe, be) = config::load_standalone(options.conf(), &options.standalone_flags())?;
            serve("standalone", start(Some(fe), Some(be), shutdown).await?).await
        }
        Command::Fe(options) => {
            let fe = FeConfig::load(options.conf(), &options.fe_flags())?;
            serve("fe", start(Some(fe), None, shutdown).await?).await
        }
        Command::Be(options) => {
            let be = BeConfig::load(options.conf(), &options.be_flags())?;
            serve("be", start(None, Some(be), shutdown).await?).await
        }
        Command::Demo { keep } => run_demo(keep, shutdown).await,
        Command::Br { command } => match command {
            BrCommand::Backup { command: BrBackupCommand::Raw(options) } => br::backup(options, shutdown).await,
            BrCommand::Restore { command: BrRestoreCommand::Raw(options) } => br::restore(options, shutdown).await,
            BrCommand::Debug { command } => tokio::task::spawn_blocking(move || debug_backup(command)).await?,
        },
    }
}

/// A server that takes connections.
struct Server {
    /// Which port it is and where it listens: "mysql", "http", "be" or "be http".
    listening: Vec<(&'static str, SocketAddr)>,
    /// Ends after shutdown, with the first error if there was one.
    ended: JoinHandle<anyhow::Result<()>>,
}

/// Starts an FE, a BE, or both. What is returned is ready.
async fn start(fe: Option<FeConfig>, be: Option<BeConfig>, shutdown: CancellationToken) -> anyhow::Result<Server> {
    let clock = Clock::system();
    let mut listening = Vec::new();
    let mut servers = JoinSet::new();
    // The BE ends after the FE, which still needs it for what it is doing.
    let be_shutdown = CancellationToken::new();
    let mut data_dirs = Vec::new();
    let mut local = None;
    if let Some(config) = be {
        let values = config.get();
        lock(&values.storage_root_path)?;
        data_dirs.push(values.storage_root_path.clone());
        let backend = be::Backend::open(&values.storage_root_path, config.clone(), clock.clone()).await?;
        if fe.is_none() {
            let http = HttpServer::bind(SocketAddr::new(values.bind_address, values.be_http_port)).await?;
            backend.set_http_port(http.address()?.port());
            listening.extend([("be", backend.address()), ("be http", http.address()?)]);
            servers.spawn(http.run(be_shutdown.clone()));
        }
        local = Some((backend.address(), backend.membership()));
        servers.spawn(backend.serve(be_shutdown.clone()));
    }
    let Some(config) = fe else {
        let ended = tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(ended) = servers.join_next() => ended??,
            }
            be_shutdown.cancel();
            end(servers).await
        });
        return Ok(Server { listening, ended });
    };
    let values = config.get();
    lock(&values.meta_dir)?;
    data_dirs.insert(0, values.meta_dir.clone());
    let (dir, time) = (values.meta_dir.clone(), clock.clone());
    let catalog = Arc::new(tokio::task::spawn_blocking(move || Catalog::open(&dir, &time)).await??);
    let fleet = Fleet::new(catalog.clone(), config.clone(), clock.clone());
    let jobs = Jobs::new(catalog.clone(), fleet.clone(), clock.clone(), shutdown.clone());
    // As `--data-dir` lays them out: then the whole of it is the data directory.
    if let [meta, storage] = &data_dirs[..]
        && let Some(parent) = meta.parent().filter(|dir| dir.join("meta") == *meta && dir.join("storage") == *storage)
    {
        data_dirs.push(parent.to_owned());
    }
    let dirs: Vec<&Path> = data_dirs.iter().map(PathBuf::as_path).collect();
    let frontend = Frontend::new(catalog.clone(), fleet.clone(), jobs.clone(), config.clone(), clock.clone(), &dirs)?;
    let service = Arc::new(fe::Service(frontend.clone()));
    let sessions = Sessions::new(catalog.clone(), clock, service, values.qe_max_connection);
    let tls = match (values.ssl_cert.clone(), values.ssl_key.clone()) {
        (Some(chain), Some(key)) => Some((chain, key)),
        (None, None) => None,
        _ => return Err(Error::Config("ssl_cert and ssl_key belong together: set both, or none".into()).into()),
    };
    let options = mysql::Options {
        address: SocketAddr::new(values.bind_address, values.query_port),
        tls,
        max_connections: values.qe_max_connection as usize,
        login_deadline: LOGIN_DEADLINE,
    };
    let mysql = MysqlServer::bind(&options, sessions).await?;
    let http = HttpServer::bind(SocketAddr::new(values.bind_address, values.http_port)).await?;
    listening.extend([("mysql", mysql.address()?), ("http", http.address()?)]);
    frontend.listens_at(mysql.address()?.port(), http.address()?.port());
    match local {
        Some((address, membership)) => {
            let known = membership.filter(|(cluster, _)| *cluster == catalog.image().identity.cluster);
            fleet.adopt(known.map(|(_, id)| id), address).await?;
        }
        None => fleet.beat_once().await,
    }
    jobs.resume().await?;
    let background = [
        tokio::spawn({
            let (fleet, shutdown) = (fleet.clone(), be_shutdown.clone());
            async move { fleet.beat(shutdown).await }
        }),
        tokio::spawn(fe::maintain(frontend.clone(), shutdown.clone())),
        tokio::spawn(fe::watch_repositories(frontend, shutdown.clone())),
    ];
    servers.spawn(http.run(be_shutdown.clone()));
    let ended = tokio::spawn(async move {
        tokio::select! {
            () = mysql.run(shutdown.clone()) => {}
            Some(ended) = servers.join_next() => ended??,
        }
        jobs.stopped().await;
        be_shutdown.cancel();
        for task in background {
            task.await?;
        }
        end(servers).await
    });
    Ok(Server { listening, ended })
}

/// Waits for servers that were told to stop.
async fn end(mut servers: JoinSet<holdfast::error::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Takes a data directory for this process alone, until it ends. Creates it if absent.
fn lock(dir: &Path) -> anyhow::Result<()> {
    // What is in it is for this user only: hashes of passwords, the cluster's token, the rows.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::io("create data directory", dir))?;
    let path = dir.join("LOCK");
    let file = File::create(&path).map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {
            // Nothing of this process, not even a thread that outlives the server, may write when another begins.
            std::mem::forget(file);
            Ok(())
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            let message = format!("data directory {} is in use by another holdfast process", dir.display());
            Err(Error::Config(message).into())
        }
        Err(std::fs::TryLockError::Error(err)) => Err(Error::io("lock", &path)(err).into()),
    }
}

/// Says on stdout, in one line, where a server listens, and waits for its end.
async fn serve(role: &str, server: Server) -> anyhow::Result<()> {
    let listening: Vec<_> = server.listening.iter().map(|(port, address)| format!("{port} {address}")).collect();
    // Whoever started the server may not read what it says.
    let _ = writeln!(std::io::stdout(), "holdfast {role} is ready: {}", listening.join(", "));
    server.ended.await?
}

/// Runs the quickstart on a standalone server in a fresh directory, which is removed afterwards unless it is `keep`.
async fn run_demo(keep: Option<PathBuf>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let fresh = tempfile::Builder::new().prefix("holdfast-demo-").tempdir().context("make a directory")?;
    let dir = keep.unwrap_or_else(|| fresh.path().to_owned());
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let dir = dir.canonicalize().with_context(|| format!("open {}", dir.display()))?;
    let used = dir.read_dir().with_context(|| format!("list {}", dir.display()))?.next().is_some();
    anyhow::ensure!(!used, "{} is not empty; name a new directory", dir.display());

    let data = cli::under(&dir.join("data"));
    let ports = ["query_port", "http_port"].map(|port| (port.to_owned(), "0".to_owned()));
    let flags: Vec<_> = data.into_iter().chain(ports).collect();
    let (fe, be) = config::load_standalone(None, &flags)?;
    let server = start(Some(fe), Some(be), shutdown.clone()).await?;
    let mysql = server.listening.iter().find(|(port, _)| *port == "mysql").context("the FE has no MySQL port")?.1;
    let mut out = std::io::stdout();
    let outcome = tokio::select! {
        outcome = demo::run(mysql.port(), &dir, &mut out) => outcome,
        () = shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    shutdown.cancel();
    outcome.and(server.ended.await?)
}

/// Does what `br debug` does. Blocks.
fn debug_backup(command: BrDebugCommand) -> anyhow::Result<()> {
    let (BrDebugCommand::Decode { options, .. } | BrDebugCommand::Checksum { options, .. }) = &command;
    options.warnings().for_each(|warning| eprintln!("{warning}"));
    let directory = debug::local_directory(&options.storage)?;
    let mut out = std::io::stdout();
    match command {
        BrDebugCommand::Decode { field, .. } if field.is_empty() => write!(out, "{}", debug::decode(&directory)?)?,
        BrDebugCommand::Decode { field, .. } => writeln!(out, "{}", debug::field(&directory, &field)?)?,
        BrDebugCommand::Checksum { api_version, .. } => {
            let report = debug::checksum(&directory, api_version)?;
            write!(out, "{report}")?;
            anyhow::ensure!(report.is_ok(), "{} is damaged", directory.display());
        }
    }
    Ok(())
}
