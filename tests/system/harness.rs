//! Servers as processes of their own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::{Answer, Client};

pub const WAIT: &str = "PROPERTIES ('wait' = 'true')";

/// Of a RESTORE.
pub const LATEST: &str = "PROPERTIES ('backup_timestamp' = 'latest', 'wait' = 'true')";

/// How long anything may take that should happen soon, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");

/// A fresh directory, removed at the end unless the test failed.
pub struct Scratch(Option<TempDir>);

impl Scratch {
    pub fn new() -> Self {
        Self(Some(tempfile::Builder::new().prefix("holdfast-test-").tempdir().unwrap()))
    }

    pub fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }

    /// The statement that makes a repository `r` in it.
    pub fn create_repository(&self) -> String {
        format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 'file://{}'", self.sub("repository"))
    }

    /// A path in it, as a text that can stand in a statement.
    pub fn sub(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.0.take().unwrap().keep();
            eprintln!("files and logs of the failed test: {}", kept.display());
        }
    }
}

/// A port for a server that is to come back to it: below those from which the system takes one for whoever asks for
/// none, and apart from those of other processes of tests, so that nobody else has it meanwhile.
fn lasting_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 24) as u16 * 500;
    loop {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// How to start a server. The same one may be started again and again, on the data it left.
#[derive(Clone)]
pub struct Launch {
    role: &'static str,
    data: PathBuf,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    hidden: Option<PathBuf>,
}

impl Launch {
    /// An FE and a BE in one process, with data in `dir/data`.
    pub fn standalone(dir: &Path) -> Self {
        Self::role("standalone", &dir.join("data")).flag("--mysql-port", 0)
    }

    pub fn fe(dir: &Path) -> Self {
        Self::role("fe", &dir.join("fe")).flag("--mysql-port", 0)
    }

    pub fn be(dir: &Path, name: &str) -> Self {
        Self::role("be", &dir.join(name)).flag("--be-port", lasting_port())
    }

    fn role(role: &'static str, data: &Path) -> Self {
        let launch = Self { role, data: data.to_owned(), flags: Vec::new(), env: Vec::new(), hidden: None };
        launch.flag("--http-port", 0)
    }

    /// A later flag of the same name wins.
    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        if let Some(at) = self.flags.iter().position(|flag| flag == name) {
            self.flags.drain(at..at + 2);
        }
        self.flags.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// A key of the configuration.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.flags.extend(["--set".to_owned(), format!("{key}={}", value.to_string())]);
        self
    }

    /// The server aborts when it comes to this place, as `kill -9` would end it.
    pub fn dies_at(self, place: &str) -> Self {
        self.env("FAILPOINTS", format!("{place}=return"))
    }

    /// The server stays at this place for a while.
    pub fn stays_at(self, place: &str, millis: u64) -> Self {
        self.env("FAILPOINTS", format!("{place}=sleep({millis})"))
    }

    /// The first to come to this place stays there until the file is removed, which this creates.
    pub fn held_at(self, place: &str, file: &Path) -> Self {
        self.held_after(0, place, file)
    }

    /// Some pass this place; the next stays there until the file is removed, which this creates.
    pub fn held_after(self, passing: usize, place: &str, file: &Path) -> Self {
        File::create(file).unwrap();
        self.paused(&format!("{place}={passing}*off->1*return({})->off", file.display()))
    }

    /// The server stops at this place until [`Server::goes_on`].
    pub fn stops_at(self, place: &str) -> Self {
        self.paused(&format!("{place}=pause"))
    }

    /// The server stops at one place, and dies at another.
    pub fn stops_and_dies_at(self, stops: &str, dies: &str) -> Self {
        self.paused(&format!("{stops}=pause;{dies}=return"))
    }

    /// What is paused keeps a thread of the server; the others must do.
    fn paused(self, failpoints: &str) -> Self {
        self.env("FAILPOINTS", failpoints).env("TOKIO_WORKER_THREADS", 4)
    }

    /// A variable of the server's environment. A later one of the same name wins.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// The server's time of day is as far ahead as the file says, as in `+600s`; it looks each time.
    pub fn clock(self, ahead: &Path) -> Option<Self> {
        let libraries = walkdir::WalkDir::new("/usr/lib").max_depth(3).into_iter().filter_map(Result::ok);
        let library =
            libraries.map(walkdir::DirEntry::into_path).find(|path| path.ends_with("faketime/libfaketime.so.1"));
        let Some(library) = library else {
            skip("libfaketime", ".ci/setup");
            return None;
        };
        Some(
            self.env("LD_PRELOAD", library.display())
                .env("FAKETIME_TIMESTAMP_FILE", ahead.display())
                .env("FAKETIME_NO_CACHE", 1)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", 1),
        )
    }

    /// The server sees an empty folder in the place of this one, as where a disk is not mounted.
    pub fn hiding(mut self, folder: &Path) -> Option<Self> {
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            skip("root, and namespaces of mounts", "apt-get install util-linux, and run as root");
            return None;
        }
        self.hidden = Some(folder.to_owned());
        Some(self)
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// Starts the server and waits until it is ready; an error if it ends before.
    pub fn try_start(&self) -> Result<Server, String> {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(HOLDFAST);
        if let Some(folder) = &self.hidden {
            command = Command::new("unshare");
            command
                .args(["--mount", "sh", "-c", "mount -t tmpfs none \"$0\" && exec \"$@\""])
                .arg(folder)
                .arg(HOLDFAST);
        }
        let mut child = command
            .arg(self.role)
            .arg("--data-dir")
            .arg(&self.data)
            .args(&self.flags)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (said, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let mut server = Server { child, ready: String::new(), launch: self.clone() };
        match first_line.recv_timeout(PATIENCE) {
            Ok(line) => {
                assert!(line.starts_with(&format!("holdfast {} is ready: ", self.role)), "{line}");
                server.ready = line;
                Ok(server)
            }
            Err(_) => {
                server.kill();
                Err(self.logged())
            }
        }
    }

    pub fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|log| panic!("the {} did not start:\n{log}", self.role))
    }

    /// Starts the server, connects as root, and waits until all its BEs are there.
    pub async fn open(&self) -> (Server, Client) {
        let server = self.start();
        let mut client = server.connect().await;
        let least = usize::from(self.role == "standalone");
        let alive =
            |answer: &Answer| answer.rows.len() >= least && answer.column("Alive").iter().all(|alive| *alive == "true");
        client.wait_until("SHOW BACKENDS", alive).await;
        (server, client)
    }

    /// The end of what the server logged.
    pub fn logged(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A server that runs. It is killed when it is dropped.
pub struct Server {
    child: Child,
    ready: String,
    pub launch: Launch,
}

impl Server {
    /// A standalone server with data in `dir/data`.
    pub fn standalone(dir: &Path) -> Self {
        Launch::standalone(dir).start()
    }

    /// One of the ports that the server said it listens on: "mysql", "http", "be", "be http".
    pub fn port(&self, name: &str) -> u16 {
        let (_, listening) = self.ready.split_once(" is ready: ").unwrap();
        let port = listening.split(", ").find_map(|one| one.strip_prefix(name)?.strip_prefix(' '));
        let port = port.unwrap_or_else(|| panic!("no {name} port in: {}", self.ready));
        port.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// A connection as root.
    pub async fn connect(&self) -> Client {
        Client::connect(self.port("mysql")).await
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the server has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server has not ended:\n{}", self.launch.logged());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the server has died at the place named by [`Launch::dies_at`].
    pub async fn died(&mut self) {
        use std::os::unix::process::ExitStatusExt;
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(6), "{status}:\n{}", self.launch.logged());
    }

    /// Lets everything go on that was stopped by [`Launch::stops_at`].
    pub fn goes_on(&self) {
        self.signal("USR1");
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the server has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and the end it leads to.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All files below a directory.
pub fn files(dir: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// The rowset files in use below a data directory.
pub fn rowset_files(data: &Path) -> Vec<PathBuf> {
    let all = files(data).into_iter().filter(|path| path.extension().is_some_and(|end| end == "parquet"));
    all.filter(|path| !path.components().any(|part| part.as_os_str() == "trash")).collect()
}

/// Waits until the server has come to the place of [`Launch::held_at`].
pub async fn held(file: &Path) {
    eventually("a place where the server stays", || file.metadata().unwrap().len() > 0).await;
}

/// Waits until something is so.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a variable of the environment names; `None`, after saying so, if nothing does. `none` says that it is not to be
/// had, as `.ci/run` does.
pub fn named(variable: &str, what: &str) -> Option<PathBuf> {
    match std::env::var_os(variable) {
        Some(none) if none == "none" => None,
        Some(path) => Some(std::fs::canonicalize(path).unwrap()),
        None => {
            skip(what, &format!("{variable}=<its path>"));
            None
        }
    }
}

/// Says that a test could not run here. Where all is installed, in CI, that is a failure.
pub fn skip(needs: &str, install: &str) {
    let message = format!("skipped: needs {needs}, install with: {install}");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("{message}");
}
