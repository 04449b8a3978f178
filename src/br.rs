//! `holdfast br backup raw` and `holdfast br restore raw`: a client of an FE that submits a job and watches it.
//!
//! The flags become one BACKUP RAW or RESTORE RAW, which is sent without waiting. The job is the server's: it goes on
//! when this client or its connection is gone.

use std::io::{IsTerminal, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures::StreamExt;
use holdfast::catalog::JobKind;
use holdfast::error::Error;
use holdfast::rawkv::key::KeyFormat;
use holdfast::rawkv::sst::Compression;
use holdfast::rawkv::storage::Storage;
use holdfast::types::{ColumnFamily, Invalid, KeyRange};
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, SslOpts, Value};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cli::{BackupRaw, PdAddress, RawOptions, RestoreRaw, no_effect};

/// How often the job is looked at.
const EACH_LOOK: Duration = Duration::from_millis(100);

/// How long two lines of progress are apart at least, and at most.
const EACH_LINE: Duration = Duration::from_secs(1);
const MOST_SILENCE: Duration = Duration::from_secs(5);

const MIB: u64 = 1 << 20;

/// Tasks that a BE takes of a job at a time; br's own default for restores is more.
const MOST_CONCURRENCY: u32 = 64;

/// Those of zstd.
const COMPRESSION_LEVELS: std::ops::RangeInclusive<i32> = -7..=22;

/// Backs up a range of raw keys. `interrupted` is the first signal that asks for the end.
pub async fn backup(options: BackupRaw, interrupted: CancellationToken) -> Result<()> {
    run(Request::backup(&options)?, options.raw, interrupted).await
}

/// Restores a range of raw keys. `interrupted` is the first signal that asks for the end.
pub async fn restore(options: RestoreRaw, interrupted: CancellationToken) -> Result<()> {
    run(Request::restore(&options)?, options.raw, interrupted).await
}

/// What a command line asks of a server.
struct Request {
    kind: JobKind,
    /// The storage, with its secrets.
    uri: String,
    /// The bounds that were given.
    range: KeyRange,
    statement: String,
    /// About flags that were given for nothing.
    warnings: Vec<String>,
}

impl Request {
    fn backup(options: &BackupRaw) -> Result<Self> {
        options.compression.parse::<Compression>().map_err(wrong)?;
        if !COMPRESSION_LEVELS.contains(&options.compression_level) {
            let (least, most) = COMPRESSION_LEVELS.into_inner();
            let text = format!("--compression-level {} is not from {least} to {most}", options.compression_level);
            return Err(Error::Config(text).into());
        }
        let mut properties = vec![("compression", options.compression.clone())];
        // The others have one level.
        let (levels, asked) = (options.compression == "zstd", options.compression_level != 0);
        if levels && asked {
            properties.push(("compression_level", options.compression_level.to_string()));
        }
        let mut request = Self::new(JobKind::Backup, &options.raw, properties)?;
        request.warnings.extend((!levels && asked).then(|| no_effect("compression-level")));
        Ok(request)
    }

    fn restore(options: &RestoreRaw) -> Result<Self> {
        let mut properties = vec![("replace", options.replace.to_string())];
        properties.extend(options.online.map(|online| ("online", online.to_string())));
        properties.extend(options.api_version.map(|version| ("api_version", version.to_string())));
        Self::new(JobKind::Restore, &options.raw, properties)
    }

    /// Checks what can be checked without a server: such an error is one of the command line.
    fn new(kind: JobKind, options: &RawOptions, mut properties: Vec<(&str, String)>) -> Result<Self> {
        let of_text = |Invalid(message)| Error::Config(message);
        if options.ca.is_none() && options.pd.iter().any(|pd| pd.tls) {
            return Err(Error::Config("https:// in --pd asks for TLS; give --ca too".into()).into());
        }
        let sends = options.send_credentials.unwrap_or(true);
        let uri = with_credentials(storage_uri(options)?, sends, |name| std::env::var(name).ok())?;
        let cf: ColumnFamily = options.cf.parse().map_err(of_text)?;
        let format: KeyFormat = options.format.parse().map_err(wrong)?;
        let [start, end] = [&options.start, &options.end].map(|key| format.decode(key).map_err(wrong));
        let range = KeyRange::new(start?, end?).map_err(of_text)?;

        match speed(options.ratelimit, options.ratelimit_unit)? {
            0 => {}
            bytes if bytes % MIB == 0 => properties.push(("ratelimit", (bytes / MIB).to_string())),
            bytes => properties.push(("ratelimit_bytes", bytes.to_string())),
        }
        if options.concurrency != 0 {
            properties.push(("concurrency", options.concurrency.min(MOST_CONCURRENCY).to_string()));
        }
        properties.extend(options.checksum.map(|checksum| ("checksum", checksum.to_string())));
        properties.extend(options.timeout.map(|seconds| ("timeout", seconds.to_string())));
        // Whatever the server has for `wait_for_jobs`.
        properties.push(("wait", "false".into()));

        let mut statement = format!("{kind} RAW CF {}", quoted(&cf.to_string()));
        for (word, key) in [("START", &options.start), ("END", &options.end)] {
            if !key.is_empty() {
                statement.push_str(&format!(" {word} {}", quoted(key)));
            }
        }
        let word = match kind {
            JobKind::Backup => "TO",
            JobKind::Restore => "FROM",
        };
        let properties: Vec<_> = properties.iter().map(|(key, value)| format!("'{key}'={}", quoted(value))).collect();
        let (format, properties) = (&options.format, properties.join(", "));
        statement.push_str(&format!(" FORMAT {format} {word} {} PROPERTIES({properties})", quoted(&uri)));
        Ok(Self { kind, uri, range, statement, warnings: warnings(options) })
    }
}

/// An error of the command line, in the words that the server has for it.
fn wrong(error: Error) -> Error {
    match error {
        Error::Analysis(message) => Error::Config(message),
        other => Error::Config(other.report()),
    }
}

/// A text as a literal, for a session in which a backslash escapes.
fn quoted(text: &str) -> String {
    Value::from(text).as_sql(false)
}

/// Bytes a second.
fn speed(number: u64, unit: u64) -> Result<u64, Error> {
    let too_many = || Error::Config(format!("--ratelimit {number} times --ratelimit-unit {unit} is too many bytes"));
    number.checked_mul(unit).ok_or_else(too_many)
}

/// The storage for the servers: a directory absolute, and parameters from flags where the URI does not give them.
fn storage_uri(options: &RawOptions) -> Result<String> {
    let storage = &options.br.storage;
    let Some((scheme, _)) = storage.split_once("://") else {
        return if storage.is_empty() { Ok(String::new()) } else { absolute(storage) };
    };
    let Some(prefix) = flag_prefix(scheme) else { return Ok(storage.clone()) };
    let (place, query) = storage.split_once('?').unwrap_or((storage, ""));
    let pair = |(flag, value): &(&str, String)| Some(parameter(flag.strip_prefix(prefix)?, value));
    // The last of two parameters of a name counts.
    let of_uri = (!query.is_empty()).then(|| query.to_owned());
    let pairs: Vec<_> = options.parameters.0.iter().filter_map(pair).chain(of_uri).collect();
    Ok(if pairs.is_empty() { place.to_owned() } else { format!("{place}?{}", pairs.join("&")) })
}

/// A storage with the credentials that the servers get from this command, or without any: then each takes its own.
/// `variable` is one of the environment.
fn with_credentials(uri: String, sends: bool, variable: impl Fn(&str) -> Option<String>) -> Result<String> {
    let storage = Storage::parse(&uri).map_err(wrong)?;
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    let mut given = Vec::new();
    match uri.split_once("://").and_then(|(scheme, _)| flag_prefix(scheme)) {
        Some("s3.") if !sends => given.extend(["access-key", "secret-access-key", "session-token"].map(none)),
        Some("s3.") if storage.has_default_credentials() => {
            if let [Some(key), Some(secret)] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(variable) {
                given.extend([("access-key", key), ("secret-access-key", secret)]);
                given.extend(variable("AWS_SESSION_TOKEN").map(|token| ("session-token", token)));
            }
        }
        Some("gcs.") if !sends => given.extend(["credentials-file", "credentials-blob"].map(none)),
        Some("gcs.") => {
            if let Some(path) = storage.credentials_file.clone() {
                let content = service_account(&path, storage)?;
                given.extend([none("credentials-file"), ("credentials-blob", content)]);
            }
        }
        _ => {}
    }
    if given.is_empty() {
        return Ok(uri);
    }
    let given: Vec<_> = given.iter().map(|(name, value)| parameter(name, value)).collect();
    let separator = if uri.contains('?') { '&' } else { '?' };
    Ok(format!("{uri}{separator}{}", given.join("&")))
}

/// What takes a parameter away: the last of two of a name counts, and an empty one is none.
fn none(name: &'static str) -> (&'static str, String) {
    (name, String::new())
}

fn parameter(name: &str, value: &str) -> String {
    format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
}

/// What is in the file of a service account, which may be used for a storage.
fn service_account(path: &str, mut storage: Storage) -> Result<String> {
    let content = Storage::read_credentials(path.as_ref()).map_err(wrong)?;
    storage.add_credentials(&content).map_err(|error| Error::Config(format!("{path}: {}", wrong(error))))?;
    String::from_utf8(content).map_err(|_| Error::Config(format!("credentials file {path} is not UTF-8")).into())
}

/// How the flags begin that are for a kind of storage.
fn flag_prefix(scheme: &str) -> Option<&'static str> {
    match scheme {
        "s3" => Some("s3."),
        "gs" | "gcs" => Some("gcs."),
        "azure" | "azblob" => Some("azblob."),
        _ => None,
    }
}

/// A directory as the servers can find it; `..` goes as Go cleans it, by the text.
fn absolute(directory: &str) -> Result<String> {
    let absolute = std::path::absolute(directory).with_context(|| format!("find {directory}"))?;
    let mut clean = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    clean.into_os_string().into_string().map_err(|path| anyhow!("{} is not UTF-8", path.display()))
}

/// Warnings about flags that were given for nothing.
fn warnings(options: &RawOptions) -> Vec<String> {
    let prefix = options.br.storage.split_once("://").and_then(|(scheme, _)| flag_prefix(scheme));
    let is_of_another = |flag: &str| !prefix.is_some_and(|prefix| flag.starts_with(prefix));
    let of_others = options.parameters.0.iter().map(|(flag, _)| *flag).filter(|flag| is_of_another(flag));
    // Nobody else has credentials of their own.
    let of_cloud = options.send_credentials.filter(|_| !matches!(prefix, Some("s3." | "gcs.")));
    let of_others = of_others.chain(of_cloud.map(|_| "send-credentials-to-tikv"));
    let many = (options.concurrency > MOST_CONCURRENCY)
        .then(|| format!("warning: --concurrency {} is taken as {MOST_CONCURRENCY}", options.concurrency));
    options.br.warnings().chain(of_others.map(no_effect)).chain(many).collect()
}

async fn run(request: Request, options: RawOptions, interrupted: CancellationToken) -> Result<()> {
    let kind = request.kind;
    let servers = Servers { addresses: options.pd, tls: options.ca.as_deref().map(tls).transpose()? };
    request.warnings.iter().for_each(|warning| say(warning));
    tokio::select! {
        outcome = perform(&request, &servers, interrupted.clone()) => outcome,
        again = second_signal(&interrupted) => {
            again?;
            bail!("interrupted twice; if the job has begun, it goes on: see SHOW {kind} FROM rawkv")
        }
    }
}

/// Returns when a signal comes after the first one.
async fn second_signal(first: &CancellationToken) -> Result<()> {
    // timeout(1) sends its signal twice: to the process and to its group.
    const TWINS: Duration = Duration::from_millis(500);
    first.cancelled().await;
    sleep(TWINS).await;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Where the FE may be, and how to speak TLS with it, if so.
struct Servers {
    addresses: Vec<PdAddress>,
    tls: Option<SslOpts>,
}

/// Trusts the authorities of a file, and no others.
fn tls(authorities: &Path) -> Result<SslOpts> {
    let read = std::fs::read(authorities).with_context(|| format!("read --ca {}", authorities.display()))?;
    Ok(SslOpts::default().with_root_certs(vec![read.into()]).with_disable_built_in_roots(true))
}

/// Submits the job, watches it to its end, and sums it up.
async fn perform(request: &Request, servers: &Servers, interrupted: CancellationToken) -> Result<()> {
    let kind = request.kind;
    let mut client = tokio::select! {
        client = connect(servers) => client?,
        () = interrupted.cancelled() => bail!("interrupted before the job has begun"),
    };
    let start = Instant::now();
    client.query_drop(&request.statement).await.map_err(|error| match error {
        mysql_async::Error::Server(_) => failure(error),
        _ => anyhow!("{}; a job may have begun: see SHOW {kind} FROM rawkv", failure(error)),
    })?;
    // Named by the server, since SHOW may show another one's by now.
    let told = client.info().strip_prefix("Job: ").and_then(|id| id.parse().ok());
    let job: u64 = told.context("the server has not said which job it has begun; it is of another version")?;
    if client.get_warnings() > 0 {
        let rows: Vec<Row> = client.query("SHOW WARNINGS").await.unwrap_or_default();
        rows.iter().for_each(|row| say(&format!("warning: {}", text(row, "Message"))));
    }

    let left = |error| anyhow!("{}; {kind} job {job} goes on: see SHOW {kind} FROM rawkv", failure(error));
    let mut progress = Progress::new();
    let mut asked = false;
    loop {
        let status = look(&mut client, kind, job).await.map_err(left)?;
        let status = status.with_context(|| format!("the server does not know {kind} job {job}"))?;
        match status.state.as_str() {
            "FINISHED" => break,
            "CANCELLED" => {
                let by = if asked { "interrupted: " } else { "" };
                bail!("{by}{kind} job {job} was cancelled: {}", status.failure)
            }
            _ => progress.show(&format!("{kind} job {job}"), &status),
        }
        // CANCEL names no job: right after a look it is hardly another one's.
        if interrupted.is_cancelled() && !asked {
            asked = true;
            progress.note(&format!("interrupted: cancelling {kind} job {job}"));
            match client.query_drop(format!("CANCEL {kind} FROM rawkv")).await {
                Ok(()) => {}
                // It has gone too far, or ends just now.
                Err(mysql_async::Error::Server(error)) => progress.note(&error.message),
                Err(error) => return Err(left(error)),
            }
        }
        tokio::select! {
            () = sleep(EACH_LOOK) => {}
            () = interrupted.cancelled(), if !asked => {}
        }
    }
    drop(progress);
    let seconds = start.elapsed().as_secs_f64();
    // The job has finished, whatever becomes of its summary.
    match Summary::read(&mut client, request).await {
        Ok(summary) => {
            let what = if kind == JobKind::Backup { "backup" } else { "restore" };
            let _ = writeln!(std::io::stdout(), "Raw {what} success summary: {}", summary.text(seconds));
        }
        Err(error) => say(&format!("{kind} job {job} has finished; its files cannot be summed up: {error}")),
    }
    let _ = client.disconnect().await;
    Ok(())
}

/// A line for people. Whoever started this may not read it.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Connects to the first of the servers that answers.
async fn connect(servers: &Servers) -> Result<Conn> {
    // How long the next one waits, and how soon it is found out that a machine has gone away.
    const PATIENCE: Duration = Duration::from_secs(10);
    const KEEPALIVE: Duration = Duration::from_secs(30);
    let user = std::env::var("HOLDFAST_USER").unwrap_or_else(|_| "root".into());
    let mut failures = Vec::new();
    for (n, PdAddress { host, port, .. }) in servers.addresses.iter().enumerate() {
        let options = OptsBuilder::default().ip_or_hostname(host.as_str()).tcp_port(*port).prefer_socket(false);
        let options = options.user(Some(&user)).pass(std::env::var("HOLDFAST_PASSWORD").ok());
        let connecting = Conn::new(options.tcp_keepalive(Some(KEEPALIVE)).ssl_opts(servers.tls.clone()));
        let connected = match n + 1 == servers.addresses.len() {
            true => connecting.await,
            false => match timeout(PATIENCE, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            },
        };
        match connected {
            Ok(client) => return Ok(client),
            Err(error @ mysql_async::Error::Server(_)) => return Err(failure(error)),
            Err(error) => failures.push(format!("{host}:{port}: {}", anyhow::Error::from(error).root_cause())),
        }
    }
    bail!("cannot connect to {}; --pd names the MySQL port of a running FE", failures.join(", nor to "))
}

/// What the server said, or why it says nothing.
fn failure(error: mysql_async::Error) -> anyhow::Error {
    match error {
        mysql_async::Error::Server(error) => {
            // The server tells whoever wrote the statement, which nobody has.
            let message = error.message.strip_prefix("Getting analyzing error. Detail message: ");
            anyhow!("{}", message.unwrap_or(&error.message))
        }
        other => anyhow!("the connection to the server was lost ({})", anyhow::Error::from(other).root_cause()),
    }
}

/// How far a job is.
#[derive(Debug, Default)]
struct Status {
    state: String,
    /// Files or tasks of the current step, done and all.
    done: u64,
    all: u64,
    moved: u64,
    /// What went wrong, and is tried again.
    troubles: String,
    /// Why it was cancelled.
    failure: String,
}

/// A job's status, if it is known.
async fn look(client: &mut Conn, kind: JobKind, job: u64) -> mysql_async::Result<Option<Status>> {
    let shown: Vec<Row> = client.query(format!("SHOW {kind} FROM rawkv")).await?;
    if let Some(row) = shown.iter().find(|row| text(row, "JobId") == job.to_string()) {
        let [state, troubles, failure] = ["State", "TaskErrMsg", "Status"].map(|column| text(row, column));
        let [done, all, moved] = counts(&text(row, "Progress"));
        return Ok(Some(Status { state, done, all, moved, troubles, failure }));
    }
    // A later job has its place.
    let history = format!("information_schema.{kind}_jobs").to_lowercase();
    let row: Option<Row> = client.query_first(format!("SELECT * FROM {history} WHERE job_id = {job}")).await?;
    Ok(row.map(|row| Status { state: text(&row, "STATE"), failure: text(&row, "ERROR"), ..Status::default() }))
}

fn text(row: &Row, column: &str) -> String {
    row.get_opt(column).and_then(Result::ok).flatten().unwrap_or_default()
}

/// Done, all and bytes of `[<job>: 4/18], [bytes: 1048576/4194304]`.
fn counts(progress: &str) -> [u64; 3] {
    let numbers = progress.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    match numbers.collect::<Vec<u64>>()[..] {
        [_, done, all, moved, _] => [done, all, moved],
        _ => [0; 3],
    }
}

/// Shows on stderr how far a job is: a bar on a terminal, lines elsewhere.
enum Progress {
    Bar(ProgressBar),
    /// What the last line said but for the bytes, and when it was written.
    Lines(Option<(String, Instant)>),
}

impl Progress {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(None);
        }
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {elapsed} {wide_msg}");
        Self::Bar(ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn show(&mut self, job: &str, status: &Status) {
        let Status { state, done, all, moved, troubles, .. } = status;
        let moved = BinaryBytes(*moved);
        match self {
            Self::Bar(bar) => {
                bar.set_prefix(format!("{job}: {state}"));
                bar.set_message(format!("{moved} moved {troubles}"));
                bar.set_length((*all).max(1));
                bar.set_position(*done);
            }
            Self::Lines(last) => {
                let percent =
                    (done * 100).checked_div(*all).map_or_else(String::new, |percent| format!(", {percent}%"));
                let now = format!("{state}{percent}{troubles}");
                let due = |(before, at): &(String, Instant)| {
                    at.elapsed() >= if *before == now { MOST_SILENCE } else { EACH_LINE }
                };
                if last.as_ref().is_none_or(due) {
                    say(format!("{job}: {state}{percent}, {moved} moved {troubles}").trim_end());
                    *last = Some((now, Instant::now()));
                }
            }
        }
    }

    /// A line of its own.
    fn note(&self, line: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| say(line)),
            Self::Lines(_) => say(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Of the files of the backup that have to do with the range.
#[derive(Debug, Default)]
struct Summary {
    files: u64,
    size: u64,
    keys: u64,
    bytes: u64,
    crc64xor: u64,
    /// Whether some files also hold keys that were not asked for: what they sum up to is not what was restored.
    beyond: bool,
}

impl Summary {
    async fn read(client: &mut Conn, request: &Request) -> Result<Self> {
        let mut summary = Self::default();
        let mut rows = client.query_iter(format!("SHOW BACKUP RAW FROM {}", quoted(&request.uri))).await?;
        let mut rows = rows.stream::<Row>().await?.context("the server shows no files")?;
        while let Some(row) = rows.next().await {
            summary.add(&row?, &request.range)?;
        }
        Ok(summary)
    }

    fn add(&mut self, row: &Row, asked: &KeyRange) -> Result<()> {
        let number = |column| text(row, column).parse::<u64>().with_context(|| format!("{column} is no number"));
        let key = |column| hex::decode(text(row, column)).with_context(|| format!("{column} is not in hex"));
        let range = KeyRange::new(key("StartKey")?, key("EndKey")?).map_err(|Invalid(message)| anyhow!(message))?;
        if asked.intersection(&range).is_some() {
            self.files += 1;
            self.size += number("Size")?;
            self.keys += number("TotalKVs")?;
            self.bytes += number("TotalBytes")?;
            self.crc64xor ^= number("Crc64Xor")?;
            self.beyond |= !asked.covers(&range);
        }
        Ok(())
    }

    /// `key=value` for each.
    fn text(&self, seconds: f64) -> String {
        let Self { files, size, keys, bytes, crc64xor, beyond } = self;
        let text = format!("files={files} size={size} seconds={seconds:.2}");
        if *beyond {
            return text;
        }
        // As much as a clock that stands still allows.
        let speed = *bytes as f64 / 1e6 / seconds.max(1e-3);
        format!("{text} keys={keys} bytes={bytes} MB/s={speed:.2} crc64xor={crc64xor}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use holdfast::sql;

    use super::*;
    use crate::cli::{BrBackupCommand, BrCommand, BrRestoreCommand, Cli, Command};

    /// What `br …` asks for, and its warnings; or the error of the command line.
    fn asked(arguments: &[&str]) -> Result<(Request, Vec<String>), String> {
        let line = ["holdfast", "br"].iter().chain(arguments);
        let Command::Br { command } = Cli::try_parse_from(line).map_err(|error| error.to_string())?.chosen() else {
            panic!("{arguments:?}")
        };
        let request = match command {
            BrCommand::Backup { command: BrBackupCommand::Raw(options) } => Request::backup(&options),
            BrCommand::Restore { command: BrRestoreCommand::Raw(options) } => Request::restore(&options),
            BrCommand::Debug { .. } => panic!("{arguments:?}"),
        };
        let request = request.map_err(|error| {
            assert!(matches!(error.downcast_ref(), Some(Error::Config(_))), "{error}");
            error.to_string()
        })?;
        let warnings = request.warnings.clone();
        Ok((request, warnings))
    }

    fn statement(arguments: &[&str]) -> String {
        asked(arguments).unwrap().0.statement
    }

    fn error(arguments: &[&str]) -> String {
        asked(arguments).map(|(request, _)| request.statement).unwrap_err()
    }

    #[test]
    fn flags_become_a_statement() {
        let line = "backup raw --pd http://fe:9030 -s local:///b --start 31 --ratelimit 128 --end 3130303030303030 \
                    --format hex --cf default";
        assert_eq!(
            statement(&line.split_whitespace().collect::<Vec<_>>()),
            "BACKUP RAW CF 'default' START '31' END '3130303030303030' FORMAT hex TO 'local:///b' \
             PROPERTIES('compression'='zstd', 'ratelimit'='128', 'wait'='false')"
        );
        let line = "backup raw -s /b --cf write --compression lz4 --compression-level -1 --concurrency 8 \
                    --checksum=false --timeout 60 --ratelimit 2048 --ratelimit-unit 1024";
        let (request, warnings) = asked(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(
            request.statement,
            "BACKUP RAW CF 'write' FORMAT hex TO '/b' PROPERTIES('compression'='lz4', 'ratelimit'='2', \
             'concurrency'='8', 'checksum'='false', 'timeout'='60', 'wait'='false')"
        );
        assert_eq!(warnings, ["warning: --compression-level has no effect here"]);
        let line = ["backup", "raw", "-s", "/b", "--compression-level", "-1"];
        assert!(statement(&line).contains("PROPERTIES('compression'='zstd', 'compression_level'='-1', "));
        let line = "restore raw -s /b --concurrency 128 --ratelimit 3 --ratelimit-unit 1000 --crypter.method PlainText";
        let (request, warnings) = asked(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(
            request.statement,
            "RESTORE RAW CF 'default' FORMAT hex FROM '/b' PROPERTIES('replace'='false', 'ratelimit_bytes'='3000', \
             'concurrency'='64', 'wait'='false')"
        );
        assert_eq!(warnings, ["warning: --concurrency 128 is taken as 64"]);
        for (flag, said) in [("--replace=false", "'replace'='false'"), ("--replace=true", "'replace'='true'")] {
            let secured = ["restore", "raw", "-s", "/b", "--pd", "https://fe:9030", "--ca", "ca.pem", flag];
            assert!(statement(&secured).contains(said));
        }
        let line = "restore raw -s /b --replace --online --api-version v1ttl --checksum --cf write --cf default";
        assert_eq!(
            statement(&line.split_whitespace().collect::<Vec<_>>()),
            "RESTORE RAW CF 'default' FORMAT hex FROM '/b' PROPERTIES('replace'='true', 'online'='true', \
             'api_version'='V1TTL', 'checksum'='true', 'wait'='false')"
        );
    }

    /// A quote or a backslash of a key or a URI means itself in the statement.
    #[test]
    fn any_text_comes_through() {
        let (start, end) = (r#"-a'b"c\x41\'\"\\"#, "\u{10ffff}\n; DROP DATABASE rawkv -- %_\t");
        let uri = r#"/o'clock "x\y"#;
        for (format, start, end) in [("escaped", start, r"\377"), ("raw", start, end)] {
            let text = statement(&["backup", "raw", "-s", uri, "--format", format, "--start", start, "--end", end]);
            let parsed = sql::parse(&text).unwrap();
            let [sql::Parsed { statement: sql::Statement::BackupRaw(job), .. }] = &parsed[..] else { panic!("{text}") };
            assert_eq!((job.start.as_str(), job.end.as_str(), job.uri.0.as_str()), (start, end, uri));
        }
    }

    #[test]
    fn a_relative_directory_is_of_the_client() {
        let here = std::env::current_dir().unwrap();
        let (here, above) = (here.to_str().unwrap(), here.parent().unwrap().to_str().unwrap());
        for (storage, expected) in [
            ("b/./c", format!("{here}/b/c")),
            (".", here.to_owned()),
            ("../b", format!("{above}/b")),
            ("/a/../b", "/b".into()),
            ("b?x", format!("{here}/b?x")),
        ] {
            let uri = asked(&["restore", "raw", "--storage", storage]).unwrap().0.uri;
            assert_eq!(uri, expected);
        }
    }

    #[test]
    fn flags_of_a_storage_give_the_parameters_that_its_uri_does_not_have() {
        let line = ["backup", "raw", "-s", "s3://b/x?region=r&access-key=a&secret-access-key=s"];
        let flags = ["--s3.endpoint=http://h:1/?&", "--s3.region", "other", "--gcs.endpoint", "e"];
        let (request, warnings) = asked(&[line.as_slice(), &flags].concat()).unwrap();
        assert_eq!(warnings, ["warning: --gcs.endpoint has no effect here"]);
        let properties = Storage::parse(&request.uri).unwrap().properties;
        assert_eq!(properties.get("aws.s3.endpoint").unwrap(), "http://h:1/?&");
        assert_eq!(properties.get("aws.s3.region").unwrap(), "r");

        let azure = ["backup", "raw", "-s", "azure://c/x", "--azblob.account-name", "n", "--azblob.account-key", "k=="];
        let (request, warnings) = asked(&azure).unwrap();
        assert!(warnings.is_empty());
        let storage = Storage::parse(&request.uri).unwrap();
        assert_eq!(storage.properties.get("azure.blob.shared_key").unwrap(), "k==");
        let sse = asked(&["backup", "raw", "-s", "s3://b", "--s3.sse", "AES256"]).unwrap().0.uri;
        assert_eq!(Storage::parse(&sse).unwrap().properties.get("aws.s3.sse").unwrap(), "AES256");
        let tier = ["backup", "raw", "-s", "azure://c/x", "--azblob.access-tier", "Cool"];
        assert!(error(&tier).contains("parameter 'access-tier'"));
        let (_, warnings) =
            asked(&["backup", "raw", "-s", "/b", "--s3.region", "r", "-c=false", "--gcttl", "5"]).unwrap();
        let flags = ["gcttl", "s3.region", "send-credentials-to-tikv"];
        assert_eq!(warnings, flags.map(|flag| format!("warning: --{flag} has no effect here")));
    }

    /// As br does it: what the client has goes to the servers, unless it is told otherwise.
    #[test]
    fn credentials_of_the_client_go_to_the_servers() {
        let environment = |name: &str| {
            let variables =
                [("AWS_ACCESS_KEY_ID", "AK+/"), ("AWS_SECRET_ACCESS_KEY", "hunter2&="), ("AWS_SESSION_TOKEN", "token")];
            variables.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let with = |uri: &str, sends: bool| with_credentials(uri.into(), sends, environment).unwrap();
        let properties = |uri: &str, sends: bool| Storage::parse(&with(uri, sends)).unwrap().properties;
        let of_client = properties("s3://b/x?region=r", true);
        for (key, value) in [
            ("aws.s3.access_key", "AK+/"),
            ("aws.s3.secret_key", "hunter2&="),
            ("aws.s3.session_token", "token"),
            ("aws.s3.region", "r"),
        ] {
            assert_eq!(of_client.get(key).unwrap(), value);
        }
        let named = "s3://b?Access_Key=own&secret-access-key=s";
        assert_eq!(with(named, true), named);
        for uri in ["s3://b/x?region=r", named] {
            assert!(Storage::parse(&with(uri, false)).unwrap().has_default_credentials(), "{uri}");
        }
        for uri in ["/b", "hdfs://h:1/b", "azure://c?account-name=a&account-key=aGk%3D", "gs://b?endpoint=http://h"] {
            assert_eq!(with(uri, true), uri);
        }
        assert_eq!(with_credentials("s3://b".into(), true, |_| Some(String::new())).unwrap(), "s3://b");

        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let account = r#"{"client_email": "e@x", "private_key": "hunter2\n&", "type": "service_account"}"#;
        std::fs::write(file("key.json"), account).unwrap();
        let flags = ["restore", "raw", "-s", "gcs://b/x", "--gcs.credentials-file", &file("key.json")];
        let (request, warnings) = asked(&flags).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let storage = Storage::parse(&request.uri).unwrap();
        assert_eq!(storage.properties.get("gcp.gcs.service_account_private_key").unwrap(), "hunter2\n&");
        assert_eq!(storage.credentials_file, None);
        assert!(!sql::mask_secrets(&request.statement).contains("hunter2"));
        let (request, _) = asked(&[flags.as_slice(), &["-c=false"]].concat()).unwrap();
        let storage = Storage::parse(&request.uri).unwrap();
        assert_eq!(storage.properties.get("gcp.gcs.use_compute_engine_service_account").unwrap(), "true");

        std::fs::write(file("long"), [b' '; 100_000]).unwrap();
        std::fs::write(file("other"), r#"{"secret": "hunter2"}"#).unwrap();
        for (name, expected) in
            [("none", "No such file"), ("", "it is no file"), ("long", "too long"), ("other", "no client_email")]
        {
            let error = error(&["backup", "raw", "-s", "gcs://b", "--gcs.credentials-file", &file(name)]);
            assert!(error.contains(&file(name)) && error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_wrong_command_line_asks_no_server() {
        for (flags, expected) in [
            (["--format", "HEX"], "unknown format: [BR:Common:ErrInvalidArgument]invalid argument"),
            (["--start", "3"], "encoding/hex: odd length hex string"),
            (["--end", "3z"], "encoding/hex: invalid byte: U+007A 'z'"),
            (["--cf", "lock"], "invalid cf name: lock; take default or write"),
            (
                ["--compression", "gzip"],
                "invalid compression type 'gzip': [BR:Common:ErrInvalidArgument]invalid argument",
            ),
            (["--ratelimit", "99999999999999"], "--ratelimit 99999999999999 times --ratelimit-unit 1048576 is too"),
            (["--compression-level", "23"], "--compression-level 23 is not from -7 to 22"),
            (["--storage", "noop://x"], "storage noop not support yet: [BR:ExternalStorage:ErrStorageInvalidConfig]"),
            (["--storage", ""], "empty store is not allowed: [BR:ExternalStorage:ErrStorageInvalidConfig]"),
        ] {
            let line = ["backup", "raw", "-s", "/b", "--ratelimit", "1"];
            let error = error(&[line.as_slice(), &flags].concat());
            assert!(error.starts_with(expected), "{error}");
        }
        let bounds = error(&["restore", "raw", "-s", "/b", "--start", "32", "--end", "31"]);
        assert!(bounds.contains("[BR:Backup:ErrBackupInvalidRange]"), "{bounds}");
        for (flags, expected) in [
            (["--pd", "fe"], "expected HOST:PORT"),
            (["--pd", "a:1,b"], "expected HOST:PORT"),
            (["--pd", "https://a:1"], "asks for TLS; give --ca too"),
            (["--crypter.method", "aes128-ctr"], "[possible values: plaintext]"),
            (["--api-version", "V2"], "backups of API V2 are not read"),
            (["--compression", "zstd"], "unexpected argument"),
        ] {
            let error = error(&[["restore", "raw"].as_slice(), &flags].concat());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn progress_is_read_from_show() {
        assert_eq!(counts("[10042: 4/18], [bytes: 1048576/4194304]"), [4, 18, 1_048_576]);
        assert_eq!(counts(""), [0; 3]);
    }

    #[test]
    fn sums_that_are_not_those_of_the_range_are_left_out() {
        let summary = Summary { files: 2, size: 5, keys: 3, bytes: 2_000_000, crc64xor: 7, beyond: false };
        let all = "files=2 size=5 seconds=0.50 keys=3 bytes=2000000 MB/s=4.00 crc64xor=7";
        assert_eq!(summary.text(0.5), all);
        assert_eq!(Summary { beyond: true, ..summary }.text(0.5), "files=2 size=5 seconds=0.50");
    }
}
