//! The program: reads the command line and the configuration, starts servers, and ends them cleanly.

mod cli;
mod demo;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use holdfast::config::{self, BeConfig, FeConfig};
use holdfast::error::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};

/// Plans of deeply nested queries are walked recursively, with large frames in builds that are not optimized.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let Err(error) = try_main(Cli::parse().chosen()) else { return ExitCode::SUCCESS };
    eprintln!("holdfast: {error:#}");
    match error.downcast_ref::<Error>() {
        Some(Error::Config(_)) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

fn try_main(command: Command) -> anyhow::Result<()> {
    let default = if matches!(command, Command::Demo { .. }) { "warn" } else { "info" };
    let directives = std::env::var("HOLDFAST_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&directives);
    let filter = filter.map_err(|error| Error::Config(format!("HOLDFAST_LOG '{directives}': {error}")))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build();
    // On a thread of the runtime, for the sake of its stack.
    let task = async { tokio::spawn(async { run(command, ended_by_signal()?).await }).await? };
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
    // WIRING: the one place where the rooms are put together.
    let _ = (fe, be, shutdown);
    Err(Error::Unsupported("this build holds no servers".into()).into())
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
