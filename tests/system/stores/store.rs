//! A store with a place in it for the repository of one test, and a way to it that is not Holdfast's.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::system::harness::{Launch, Scratch, files};
use crate::system::servers::azurite::Azurite;
use crate::system::servers::ceph::Ceph;
use crate::system::servers::gcs::Gcs;
use crate::system::servers::hdfs::Hdfs;
use crate::system::servers::minio::Minio;
use crate::system::servers::{S3, hdfs};

/// Where repositories can be, and by which scheme and credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Disk,
    /// S3 with `aws.s3.*`.
    Minio,
    /// S3 with `fs.s3a.*`.
    Ceph,
    Gcs,
    /// Azure by the shared key.
    Abfss,
    /// Azure by a SAS.
    Wasb,
    Hdfs,
    WebHdfs,
}

/// The folder of all repositories in buckets, containers and file systems.
const FOLDER: &str = "backups/of tests";

#[derive(Clone)]
pub struct Store {
    pub kind: Kind,
    /// The repository's name.
    pub repository: String,
    /// Where it goes.
    pub location: String,
    pub properties: Vec<(&'static str, String)>,
    /// Other properties for the same place: changes to the first.
    pub renewed: Vec<(&'static str, String)>,
    /// What nobody may see.
    pub secrets: Vec<String>,
    behind: Behind,
}

/// A bucket, container or folder, by its server's own interface.
#[derive(Clone)]
enum Behind {
    Disk(PathBuf),
    S3(S3, String),
    Gcs(&'static Gcs, String),
    Azure(&'static Azurite, String),
    Hdfs(&'static Hdfs, String),
}

impl Store {
    /// A fresh place. `None` if its server is not installed.
    pub fn new(kind: Kind, scratch: &Scratch) -> Option<Self> {
        let owned = |properties: &[(&'static str, &str)]| {
            properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect::<Vec<_>>()
        };
        let store = match kind {
            Kind::Disk => {
                let folder = scratch.sub("repositories");
                std::fs::create_dir_all(&folder).unwrap();
                Self::at(kind, format!("file://{folder}"), Vec::new(), Behind::Disk(folder.into()))
            }
            Kind::Minio => {
                let s3 = Minio::shared()?;
                let mut store = Self::minio(s3, s3.bucket());
                let session = s3.assume_role().s3;
                let token = session.session_token.unwrap();
                store.renewed = owned(&[
                    ("aws.s3.access_key", &session.access_key),
                    ("aws.s3.secret_key", &session.secret_key),
                    ("aws.s3.session_token", &token),
                ]);
                store.secrets.extend([session.secret_key, token]);
                store
            }
            Kind::Ceph => {
                let s3 = Ceph::shared()?;
                let properties = owned(&[
                    ("fs.s3a.access.key", &s3.access_key),
                    ("fs.s3a.secret.key", &s3.secret_key),
                    ("fs.s3a.endpoint", s3.endpoint.strip_prefix("http://").unwrap()),
                    ("fs.s3a.connection.ssl.enabled", "false"),
                    ("fs.s3a.path.style.access", "true"),
                ]);
                let bucket = s3.bucket();
                let mut store =
                    Self::at(kind, format!("s3a://{bucket}/{FOLDER}"), properties, Behind::S3(s3.clone(), bucket));
                store.secrets.push(s3.secret_key.clone());
                store.renewed = owned(&[("aws.s3.secret_key", &s3.secret_key)]);
                store
            }
            Kind::Gcs => {
                let gcs = Gcs::shared()?;
                let bucket = gcs.bucket();
                let properties = owned(&[("gcp.gcs.endpoint", &gcs.endpoint)]);
                Self::at(kind, format!("gs://{bucket}/{FOLDER}"), properties, Behind::Gcs(gcs, bucket))
            }
            Kind::Abfss => {
                let azurite = Azurite::shared()?;
                let properties =
                    owned(&[("azure.adls2.endpoint", &azurite.endpoint), ("azure.adls2.shared_key", &azurite.key)]);
                let (container, account) = (azurite.container(), &azurite.account);
                let location = format!("abfss://{container}@{account}.dfs.core.windows.net/{FOLDER}");
                let mut store = Self::at(kind, location, properties, Behind::Azure(azurite, container));
                let sas = azurite.sas("rwdlac");
                store.secrets.extend([azurite.key.clone(), signature(&sas)]);
                store.renewed = owned(&[("azure.adls2.shared_key", ""), ("azure.adls2.sas_token", &sas)]);
                store
            }
            Kind::Wasb => {
                let azurite = Azurite::shared()?;
                let sas = azurite.sas("rwdl");
                let properties = owned(&[("azure.blob.endpoint", &azurite.endpoint), ("azure.blob.sas_token", &sas)]);
                let (container, account) = (azurite.container(), &azurite.account);
                let location = format!("wasb://{container}@{account}.blob.core.windows.net/{FOLDER}");
                let mut store = Self::at(kind, location, properties, Behind::Azure(azurite, container));
                let renewed = format!("?{}", azurite.sas("rwdlac"));
                store.secrets.extend([signature(&sas), signature(&renewed)]);
                store.renewed = owned(&[("azure.blob.sas_token", &renewed)]);
                store
            }
            Kind::Hdfs | Kind::WebHdfs => {
                let hdfs = Hdfs::shared()?;
                let folder = hdfs.folder();
                let server = match kind {
                    Kind::Hdfs => hdfs.endpoint.clone(),
                    _ => hdfs.web.replace("http://", "webhdfs://"),
                };
                let properties = owned(&[("username", hdfs::USER), ("password", "simple-password")]);
                let location = format!("{server}{folder}/{FOLDER}");
                let mut store = Self::at(kind, location, properties, Behind::Hdfs(hdfs, folder));
                store.secrets.push("simple-password".into());
                store.renewed = owned(&[("hadoop.security.authentication", "simple")]);
                store
            }
        };
        Some(store)
    }

    /// A bucket of MinIO.
    pub fn minio(s3: &S3, bucket: String) -> Self {
        let mut properties = Vec::new();
        let mut add = |key, value: &str| properties.push((key, value.to_owned()));
        add("aws.s3.access_key", &s3.access_key);
        add("aws.s3.secret_key", &s3.secret_key);
        add("aws.s3.endpoint", &s3.endpoint);
        s3.session_token.iter().for_each(|token| add("aws.s3.session_token", token));
        let location = format!("s3://{bucket}/{FOLDER}");
        let mut store = Self::at(Kind::Minio, location, properties, Behind::S3(s3.clone(), bucket));
        store.secrets.push(s3.secret_key.clone());
        store
    }

    fn at(kind: Kind, location: String, properties: Vec<(&'static str, String)>, behind: Behind) -> Self {
        Self {
            kind,
            repository: "r".to_owned(),
            location,
            properties,
            renewed: Vec::new(),
            secrets: Vec::new(),
            behind,
        }
    }

    /// The same by another name.
    pub fn named(&self, repository: &str) -> Self {
        Self { repository: repository.to_owned(), ..self.clone() }
    }

    /// The same, with one property changed.
    pub fn with(&self, key: &str, value: &str) -> Self {
        let mut changed = self.clone();
        let (_, old) = changed.properties.iter_mut().find(|(known, _)| *known == key).unwrap();
        value.clone_into(old);
        changed
    }

    /// Statements that must be refused, by the repository they would make, each with the error's number and text.
    pub fn wrongs(&self) -> Vec<(Self, u16, &'static str)> {
        let unknown = |key| {
            let mut changed = self.clone();
            changed.properties.push((key, "1".to_owned()));
            changed
        };
        let mut wrongs = Vec::new();
        match self.kind {
            Kind::Disk => {
                wrongs.push((unknown("nonsense"), 1064, "unknown repository property 'nonsense'; file:// takes none"));
                wrongs.push((self.elsewhere("/proc/nothing"), 5064, "on this frontend: "));
            }
            Kind::Minio => {
                wrongs.push((unknown("aws.s3.acces_key"), 1064, "the nearest is 'aws.s3.access_key'"));
                wrongs.push((self.with("aws.s3.secret_key", "wrong"), 5064, "credentials: SignatureDoesNotMatch"));
                wrongs.push((self.with("aws.s3.access_key", "AKIANOBODY"), 5064, "credentials: InvalidAccessKeyId"));
                wrongs.push((self.elsewhere("no-such-bucket"), 5064, "bucket: NoSuchBucket"));
                wrongs.push((self.with("aws.s3.endpoint", "127.0.0.1:1"), 5064, "connection: "));
                wrongs.push((self.with("aws.s3.endpoint", "s3.nowhere.invalid"), 5064, "name resolution: "));
                let plain = self.address().unwrap().to_string();
                let text = "if it speaks plain HTTP, set 'aws.s3.endpoint' = 'http://127.0.0.1:";
                wrongs.push((self.with("aws.s3.endpoint", &plain), 5064, text));
            }
            Kind::Ceph => {
                wrongs.push((unknown("fs.s3a.access.keys"), 1064, "the nearest is 'fs.s3a.access.key'"));
                wrongs.push((self.with("fs.s3a.secret.key", "wrong"), 5064, "credentials: SignatureDoesNotMatch"));
                wrongs.push((self.with("fs.s3a.access.key", "AKIANOBODY"), 5064, "credentials: InvalidAccessKeyId"));
                wrongs.push((self.elsewhere("no-such-bucket"), 5064, "bucket: NoSuchBucket"));
                wrongs.push((self.with("fs.s3a.connection.ssl.enabled", "true"), 5064, "TLS: "));
                let text = "' and 'fs.s3a.connection.ssl.enabled' = 'false'";
                wrongs.push((self.with("fs.s3a.connection.ssl.enabled", "true"), 5064, text));
            }
            Kind::Gcs => {
                wrongs.push((unknown("gcp.gcs.end_point"), 1064, "the nearest is 'gcp.gcs.endpoint'"));
                // Google itself says which bucket does not exist.
                wrongs.push((self.elsewhere("no-such-bucket"), 5064, "Not Found"));
                wrongs.push((self.with("gcp.gcs.endpoint", "http://127.0.0.1:1"), 5064, "connection: "));
            }
            Kind::Abfss => {
                let other = "b3RoZXI=";
                wrongs.push((unknown("azure.adls2.sharedkey"), 1064, "the nearest is 'azure.adls2.shared_key'"));
                wrongs.push((self.with("azure.adls2.shared_key", other), 5064, "credentials: Auth"));
                wrongs.push((self.elsewhere("no-such-container"), 5064, "bucket: ContainerNotFound"));
                wrongs.push((self.with("azure.adls2.endpoint", "http://127.0.0.1:1/a"), 5064, "connection: "));
            }
            Kind::Wasb => {
                let sas = self.properties[1].1.replace("sig=", "sig=00");
                wrongs.push((unknown("azure.blob.sas"), 1064, "the nearest is 'azure.blob.sas_token'"));
                wrongs.push((self.with("azure.blob.sas_token", &sas), 5064, "credentials: "));
                let Behind::Azure(azurite, _) = self.behind else { unreachable!() };
                let narrow = azurite.sas("rl");
                let text = "permission: AuthorizationPermissionMismatch";
                wrongs.push((self.with("azure.blob.sas_token", &narrow), 5064, text));
                wrongs.push((self.elsewhere("no-such-container"), 5064, "bucket: ContainerNotFound"));
            }
            Kind::Hdfs => {
                wrongs.push((unknown("user"), 1064, "the nearest is 'username'"));
                wrongs.push((self.with("username", "stranger"), 5064, "permission: "));
                wrongs.push((unknown("kerberos_principal"), 1235, "simple authentication"));
                wrongs.push((self.by(([127, 0, 0, 1], 1).into()), 5064, "connection: "));
            }
            Kind::WebHdfs => {
                wrongs.push((unknown("user"), 1064, "the nearest is 'username'"));
                wrongs.push((self.with("username", "stranger"), 5064, "permission: "));
                wrongs.push((self.by(([127, 0, 0, 1], 1).into()), 5064, "connection: "));
            }
        }
        wrongs
    }

    /// The same in another bucket, container or folder.
    pub fn elsewhere(&self, name: &str) -> Self {
        let mut changed = self.clone();
        changed.location = self.location.replace(self.place().trim_start_matches('/'), name);
        changed
    }

    /// The name of the bucket, container or folder.
    pub fn place(&self) -> &str {
        match &self.behind {
            Behind::Disk(path) => path.to_str().unwrap(),
            Behind::S3(_, place) | Behind::Gcs(_, place) | Behind::Azure(_, place) | Behind::Hdfs(_, place) => place,
        }
    }

    /// The address of the server, as it stands in location or properties. A disk has none.
    pub fn address(&self) -> Option<SocketAddr> {
        let texts = self.properties.iter().map(|(_, value)| value).chain([&self.location]);
        let (_, rest) = texts.filter_map(|text| text.split_once("127.0.0.1:")).next()?;
        let port = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        Some(([127, 0, 0, 1], port.parse().unwrap()).into())
    }

    /// The same by another address of its server.
    pub fn by(&self, address: SocketAddr) -> Self {
        let mut changed = self.clone();
        let (from, to) = (self.address().unwrap().to_string(), address.to_string());
        changed.location = self.location.replace(&from, &to);
        changed.properties.iter_mut().for_each(|(_, value)| *value = value.replace(&from, &to));
        changed
    }

    /// The statement that makes the repository; `kind` is empty or READ ONLY.
    pub fn create(&self, kind: &str) -> String {
        let (name, location) = (&self.repository, &self.location);
        let properties = properties(&self.properties);
        format!("CREATE {kind} REPOSITORY {name} WITH BROKER ON LOCATION '{location}' {properties}")
    }

    /// The statement that gives the repository some other properties.
    pub fn alter(&self, changes: &[(&'static str, String)]) -> String {
        format!("ALTER REPOSITORY {} SET {}", self.repository, properties(changes))
    }

    /// A server of its own.
    /// A folder of the place as `br` writes it: the URI of a storage, with its credentials.
    pub fn storage_uri(&self, folder: &str) -> String {
        let escaped =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let path = folder.split('/').map(escaped).collect::<Vec<_>>().join("/");
        let (place, parameters) = match &self.behind {
            Behind::Disk(directory) => (format!("local://{}", directory.display()), Vec::new()),
            Behind::S3(s3, bucket) => (
                format!("s3://{bucket}"),
                vec![
                    ("access-key", s3.access_key.clone()),
                    ("secret-access-key", s3.secret_key.clone()),
                    ("endpoint", s3.endpoint.clone()),
                ],
            ),
            Behind::Gcs(gcs, bucket) => (format!("gcs://{bucket}"), vec![("endpoint", gcs.endpoint.clone())]),
            Behind::Azure(azurite, container) => {
                let secret = match self.kind {
                    Kind::Wasb => ("sas-token", azurite.sas("rwdlac")),
                    _ => ("account-key", azurite.key.clone()),
                };
                let parameters =
                    vec![("account-name", azurite.account.clone()), ("endpoint", azurite.endpoint.clone()), secret];
                (format!("azure://{container}"), parameters)
            }
            Behind::Hdfs(hdfs, root) => (format!("{}{root}", hdfs.endpoint), vec![("username", hdfs::USER.to_owned())]),
        };
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        format!("{place}/{path}?{}", parameters.join("&"))
    }

    pub fn server(&self, scratch: &Scratch, name: &str) -> Launch {
        std::fs::create_dir_all(scratch.sub(name)).unwrap();
        Launch::standalone(&scratch.path().join(name))
    }

    /// The paths of all objects in the place, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = match &self.behind {
            Behind::Disk(path) => {
                let below = |file: PathBuf| file.strip_prefix(path).unwrap().to_str().unwrap().to_owned();
                files(path).into_iter().map(below).collect()
            }
            Behind::S3(s3, bucket) => s3.keys(bucket),
            Behind::Gcs(gcs, bucket) => gcs.names(bucket),
            Behind::Azure(azurite, container) => azurite.blobs(container),
            Behind::Hdfs(hdfs, folder) => hdfs_files(hdfs, folder, ""),
        };
        names.sort();
        names
    }

    /// What Google's storage says of all objects in the place.
    pub fn attributes(&self) -> Vec<serde_json::Value> {
        let Behind::Gcs(gcs, bucket) = &self.behind else { panic!("of {:?}", self.kind) };
        gcs.objects(bucket)
    }

    /// The paths with content of rowset files.
    pub fn objects(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| name.contains("/__objects/")).collect()
    }

    /// The paths of documents whose names begin so.
    pub fn documents(&self, start: &str) -> Vec<String> {
        self.names().into_iter().filter(|name| name.rsplit('/').next().unwrap().starts_with(start)).collect()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = encoded(name);
        match &self.behind {
            Behind::Disk(folder) => std::fs::read(folder.join(name)).unwrap(),
            Behind::S3(s3, bucket) => s3.request("GET", &format!("/{bucket}/{path}"), &[], b"").ok(),
            Behind::Gcs(gcs, bucket) => {
                let path = path.replace('/', "%2F");
                gcs.request("GET", &format!("/storage/v1/b/{bucket}/o/{path}?alt=media"), &[], b"").ok()
            }
            Behind::Azure(azurite, container) => {
                azurite.request("GET", &format!("/{container}/{path}"), "", &[], b"").ok()
            }
            Behind::Hdfs(hdfs, folder) => hdfs.request("GET", &format!("{folder}/{path}"), "op=OPEN", b"").ok(),
        }
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = encoded(name);
        match &self.behind {
            Behind::Disk(folder) => std::fs::write(folder.join(name), content).unwrap(),
            Behind::S3(s3, bucket) => drop(s3.request("PUT", &format!("/{bucket}/{path}"), &[], content).ok()),
            Behind::Gcs(gcs, bucket) => {
                let path = path.replace('/', "%2F");
                let query = format!("uploadType=media&name={path}");
                drop(gcs.request("POST", &format!("/upload/storage/v1/b/{bucket}/o?{query}"), &[], content).ok());
            }
            Behind::Azure(azurite, container) => {
                let kind = ["x-ms-blob-type: BlockBlob"];
                drop(azurite.request("PUT", &format!("/{container}/{path}"), "", &kind, content).ok());
            }
            Behind::Hdfs(hdfs, folder) => {
                drop(hdfs.request("PUT", &format!("{folder}/{path}"), "op=CREATE&overwrite=true", content).ok());
            }
        }
    }

    pub fn remove(&self, name: &str) {
        let path = encoded(name);
        match &self.behind {
            Behind::Disk(folder) => std::fs::remove_file(folder.join(name)).unwrap(),
            Behind::S3(s3, bucket) => drop(s3.request("DELETE", &format!("/{bucket}/{path}"), &[], b"").ok()),
            Behind::Gcs(gcs, bucket) => {
                let path = path.replace('/', "%2F");
                drop(gcs.request("DELETE", &format!("/storage/v1/b/{bucket}/o/{path}"), &[], b"").ok());
            }
            Behind::Azure(azurite, container) => {
                drop(azurite.request("DELETE", &format!("/{container}/{path}"), "", &[], b"").ok());
            }
            Behind::Hdfs(hdfs, folder) => {
                drop(hdfs.request("DELETE", &format!("{folder}/{path}"), "op=DELETE", b"").ok());
            }
        }
    }

    /// Removes the bucket, container or folder with all that is in it.
    pub fn vanish(&self) {
        match &self.behind {
            Behind::Disk(folder) => return std::fs::remove_dir_all(folder).unwrap(),
            Behind::Hdfs(hdfs, folder) => {
                return drop(hdfs.request("DELETE", folder, "op=DELETE&recursive=true", b"").ok());
            }
            _ => self.names().iter().for_each(|name| self.remove(name)),
        }
        let gone = match &self.behind {
            Behind::S3(s3, bucket) => s3.request("DELETE", &format!("/{bucket}"), &[], b""),
            Behind::Gcs(gcs, bucket) => gcs.request("DELETE", &format!("/storage/v1/b/{bucket}"), &[], b""),
            Behind::Azure(azurite, container) => {
                azurite.request("DELETE", &format!("/{container}"), "restype=container", &[], b"")
            }
            Behind::Disk(_) | Behind::Hdfs(..) => return,
        };
        gone.ok();
    }
}

fn properties(pairs: &[(&'static str, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("'{key}' = '{value}'")).collect();
    if pairs.is_empty() { String::new() } else { format!("PROPERTIES ({})", pairs.join(", ")) }
}

fn encoded(path: &str) -> String {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(path, &KEPT).to_string()
}

/// The same server with temporary credentials that a policy restricts.
pub fn restricted(s3: &S3, policy: &str) -> S3 {
    let policy = percent_encoding::utf8_percent_encode(policy, percent_encoding::NON_ALPHANUMERIC);
    let form = format!("Action=AssumeRole&Version=2011-06-15&DurationSeconds=900&Policy={policy}");
    let answer = String::from_utf8(s3.signed("sts", "POST", "/", &[], form.as_bytes()).ok()).unwrap();
    let one = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    let (access_key, secret_key) = (one("AccessKeyId"), one("SecretAccessKey"));
    S3 { access_key, secret_key, session_token: Some(one("SessionToken")), ..s3.clone() }
}

/// The secret part of a SAS.
fn signature(sas: &str) -> String {
    sas.rsplit_once("sig=").unwrap().1.to_owned()
}

fn hdfs_files(hdfs: &Hdfs, folder: &str, below: &str) -> Vec<String> {
    let answer = hdfs.request("GET", &encoded(&format!("{folder}/{below}")), "op=LISTSTATUS", b"").ok();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let mut found = Vec::new();
    for entry in answer["FileStatuses"]["FileStatus"].as_array().unwrap() {
        let name = format!("{below}{}", entry["pathSuffix"].as_str().unwrap());
        match entry["type"].as_str().unwrap() {
            "DIRECTORY" => found.extend(hdfs_files(hdfs, folder, &format!("{name}/"))),
            _ => found.push(name),
        }
    }
    found
}

/// An address of a server that can be shut without a word to the server.
pub struct Gate {
    pub address: SocketAddr,
    target: SocketAddr,
    open: Option<JoinHandle<()>>,
}

impl Gate {
    pub async fn to(target: SocketAddr) -> Self {
        // Not of the range from which the system takes ports by itself: it must be free again later.
        let port = std::iter::repeat_with(|| rand::random_range(10_000..30_000))
            .find(|port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let mut gate = Self { address: ([127, 0, 0, 1], port.unwrap()).into(), target, open: None };
        gate.open().await;
        gate
    }

    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let target = self.target;
        self.open = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut here, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    if let Ok(mut there) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    }
                });
            }
        }));
    }

    /// Ends all connections and takes no more.
    pub async fn shut(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            let _ = open.await;
        }
    }
}
