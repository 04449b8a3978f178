//! Storage servers as processes of their own, installed by `.ci/setup`.
//!
//! What starts slowly is started once and shared by all tests of the process, each with a bucket or folder of its own.
//! No server outlives the test process, however that ends, and neither does its data.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hmac::Mac;

use super::harness::{PATIENCE, skip};

pub mod azurite;
pub mod ceph;
pub mod gcs;
pub mod hdfs;
pub mod minio;

/// A file that `.ci/setup` made. Says that the test is skipped if it is not there.
pub fn installed(server: &str, path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers").join(path);
    if !path.exists() {
        skip(server, ".ci/setup stores");
        return None;
    }
    Some(path)
}

/// A port that nobody listens on, outside the range from which the system takes ports by itself, so that it is still
/// free when a server starts again.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..30_000)).find(free).unwrap()
}

/// A name that no other test uses, for a bucket or a folder.
fn fresh(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// A program that runs in the directory of a server. It is killed when it is dropped.
struct Process {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dir: PathBuf,
    log: PathBuf,
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// Kills the program and removes its directory at the end of its own input, which the system closes when the test
    /// process ends. (`PR_SET_PDEATHSIG` would follow the thread that started the program.)
    watch: Child,
}

impl Process {
    fn new(name: &str, program: impl Into<PathBuf>, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), dir: dir.to_owned(), log, running: None }
    }

    fn args<T: ToString>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.to_string()));
        self
    }

    fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts the program, again if it was killed, and waits until it is ready.
    fn start(&mut self, ready: impl Fn() -> bool) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.env.iter().cloned())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let watch = Command::new("sh")
            .args(["-c", r#"trap "" INT TERM; read -r _; kill -9 "$1"; rm -rf "$2""#, "watch"])
            .arg(child.id().to_string())
            .arg(&self.dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.running = Some(Running { child, watch });
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            assert!(!self.has_ended() && Instant::now() < deadline, "{} did not start:\n{}", self, self.logged());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|running| running.child.try_wait().unwrap().is_some())
    }

    /// `kill -9`.
    fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            // First the watch: the number of a process that ended may be another's.
            for child in [&mut running.watch, &mut running.child] {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    /// The end of what the program logged.
    fn logged(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// 0 if there was none.
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of an answer that says yes.
    #[track_caller]
    pub fn ok(self) -> Vec<u8> {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        self.body
    }
}

/// A request by curl, which is nobody's own client.
pub fn curl<T: AsRef<str>>(method: &str, url: &str, args: impl IntoIterator<Item = T>, body: &[u8]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["-q", "-s", "--noproxy", "*", "--max-time", "60", "-w", "%{stderr}%{http_code}", "-X", method, url]);
    command.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    // As a file, whose length curl knows before it signs and sends.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(body).unwrap();
    match method {
        "PUT" => drop(command.arg("--upload-file").arg(file.path())),
        "POST" => drop(command.arg("--data-binary").arg(format!("@{}", file.path().display()))),
        _ => {}
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let status = String::from_utf8_lossy(&output.stderr).trim().parse().unwrap();
    // "100 Continue" is no answer yet.
    Answer { status: if status < 200 { 0 } else { status }, body: output.stdout }
}

/// How to reach an S3 server, and as whom.
#[derive(Clone, Debug)]
pub struct S3 {
    pub endpoint: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    pub session_token: Option<String>,
    /// PEM file of the authority that a `https` endpoint is checked against.
    pub ca: Option<PathBuf>,
}

impl S3 {
    /// A signed request to `/path?query`. The query must be in canonical form: sorted, and encoded.
    pub fn request(&self, method: &str, path_and_query: &str, headers: &[&str], body: &[u8]) -> Answer {
        let headers = [headers, &["x-amz-content-sha256: UNSIGNED-PAYLOAD"]].concat();
        self.signed("s3", method, path_and_query, &headers, body)
    }

    pub fn signed(&self, service: &str, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut args = vec!["--aws-sigv4".to_owned(), format!("aws:amz:{}:{service}", self.region)];
        args.extend(["--user".to_owned(), format!("{}:{}", self.access_key, self.secret_key)]);
        let token = self.session_token.iter().map(|token| format!("x-amz-security-token: {token}"));
        let headers = headers.iter().map(|&header| header.to_owned()).chain(token);
        args.extend(headers.flat_map(|header| ["-H".to_owned(), header]));
        if let Some(ca) = &self.ca {
            args.extend(["--cacert".to_owned(), ca.to_str().unwrap().to_owned()]);
        }
        curl(method, &format!("{}{path}", self.endpoint), args, body)
    }

    /// A fresh bucket.
    pub fn bucket(&self) -> String {
        let bucket = fresh("bucket");
        self.request("PUT", &format!("/{bucket}"), &[], b"").ok();
        bucket
    }

    /// A fresh bucket where object versions can be locked, as in write-once storage.
    pub fn locked_bucket(&self) -> String {
        let bucket = fresh("locked");
        self.request("PUT", &format!("/{bucket}"), &["x-amz-bucket-object-lock-enabled: true"], b"").ok();
        let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
            <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
        self.request("PUT", &format!("/{bucket}?object-lock="), &[], rule.as_bytes()).ok();
        bucket
    }

    /// The keys in a bucket, at most a thousand.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let list = self.request("GET", &format!("/{bucket}?list-type=2"), &[], b"").ok();
        elements(&String::from_utf8(list).unwrap(), "Key")
    }

    fn ask_sts(&self) -> Answer {
        self.signed("sts", "POST", "/", &[], b"Action=AssumeRole&Version=2011-06-15&DurationSeconds=900")
    }

    /// Temporary credentials for the same server, by its own STS.
    pub fn assume_role(&self) -> Session {
        let answer = self.ask_sts().ok();
        let answer = String::from_utf8(answer).unwrap();
        let one = |name| elements(&answer, name).remove(0);
        let session_token = Some(one("SessionToken"));
        let s3 =
            Self { access_key: one("AccessKeyId"), secret_key: one("SecretAccessKey"), session_token, ..self.clone() };
        Session { s3, expires: one("Expiration") }
    }
}

/// Temporary credentials.
#[derive(Clone, Debug)]
pub struct Session {
    pub s3: S3,
    /// As in `2026-11-21T13:09:59Z`.
    pub expires: String,
}

/// The texts of the elements of a name in an XML answer.
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap().to_owned()).collect()
}

/// Puts, conditional puts, reads of a range, lists and deletes work, and only with the right secret.
#[cfg(test)]
pub fn serves_s3(s3: &S3) {
    let bucket = s3.bucket();
    let object = format!("/{bucket}/folder/object");
    let once = ["if-none-match: *"];
    s3.request("PUT", &object, &once, b"bytes of an object").ok();
    assert_eq!(s3.request("PUT", &object, &once, b"other").status, 412);
    assert_eq!(s3.request("GET", &object, &["range: bytes=6-7"], b"").ok(), b"of");
    assert_eq!(s3.keys(&bucket), ["folder/object"]);
    s3.request("DELETE", &object, &[], b"").ok();
    assert_eq!(s3.request("GET", &object, &[], b"").status, 404);
    let stranger = S3 { secret_key: "wrong".to_owned(), ..s3.clone() };
    assert_eq!(stranger.request("GET", &object, &[], b"").status, 403);
}
