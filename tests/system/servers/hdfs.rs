//! HDFS of Hadoop 3: a NameNode and DataNodes, each a process of its own, with simple authentication and WebHDFS.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::{Answer, Process, curl, free_port, fresh, installed};
use crate::system::harness::Scratch;

/// The superuser, who owns the folders of the tests.
pub const USER: &str = "holdfast";

pub struct Hdfs {
    /// The NameNode's, as in `hdfs://127.0.0.1:8020`.
    pub endpoint: String,
    /// The NameNode's, as in `http://127.0.0.1:9870`.
    pub web: String,
    name_node: Process,
    pub data_nodes: Vec<DataNode>,
    _dir: Scratch,
}

pub struct DataNode(Process);

impl DataNode {
    /// `kill -9`.
    pub fn kill(&mut self) {
        self.0.kill();
    }
}

impl Hdfs {
    /// With a number of DataNodes, each of which holds a replica of every file; `None` if it is not installed.
    pub fn start(data_nodes: usize) -> Option<Self> {
        let jars = installed("Hadoop", "hadoop/jars")?;
        let dir = Scratch::new();
        let (rpc, http) = (free_port(), free_port());
        configure(
            dir.path(),
            &[
                ("dfs.blocksize", "16777216".to_owned()),
                ("dfs.client.use.datanode.hostname", "true".to_owned()),
                ("dfs.datanode.hostname", "127.0.0.1".to_owned()),
                ("dfs.heartbeat.interval", "1".to_owned()),
                // With the heartbeat above, a DataNode is dead after 12 seconds, not 10 minutes.
                ("dfs.namenode.heartbeat.recheck-interval", "1000".to_owned()),
                ("dfs.namenode.datanode.registration.ip-hostname-check", "false".to_owned()),
                ("dfs.namenode.http-address", format!("127.0.0.1:{http}")),
                ("dfs.namenode.name.dir", format!("file://{}", dir.sub("name"))),
                ("dfs.namenode.safemode.extension", "0".to_owned()),
                ("dfs.replication", data_nodes.to_string()),
                ("fs.defaultFS", format!("hdfs://127.0.0.1:{rpc}")),
                ("hadoop.tmp.dir", dir.sub("tmp")),
            ],
        );
        let mut format = java(&jars, dir.path(), "format", "namenode.NameNode").args(["-format", "-nonInteractive"]);
        let formatted = dir.path().join("name/current/VERSION");
        format.start(|| formatted.exists());
        let mut server = Self {
            endpoint: format!("hdfs://127.0.0.1:{rpc}"),
            web: format!("http://127.0.0.1:{http}"),
            name_node: java(&jars, dir.path(), "namenode", "namenode.NameNode"),
            data_nodes: Vec::new(),
            _dir: dir,
        };
        for at in 0..data_nodes {
            let address = |of| format!("dfs.datanode.{of}=127.0.0.1:{}", free_port());
            let data = format!("dfs.datanode.data.dir=file://{}", server._dir.sub(&format!("data{at}")));
            let options = [data, address("address"), address("http.address"), address("ipc.address")];
            let process = java(&jars, server._dir.path(), &format!("datanode{at}"), "datanode.DataNode");
            server.data_nodes.push(DataNode(process.args(options.iter().flat_map(|option| ["-D", option]))));
        }
        server.restart();
        Some(server)
    }

    /// The one that tests share. No test may stop it.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<Hdfs>> = LazyLock::new(|| Hdfs::start(1));
        SHARED.as_ref()
    }

    /// `kill -9` for the NameNode and all DataNodes.
    pub fn kill(&mut self) {
        self.name_node.kill();
        self.data_nodes.iter_mut().for_each(DataNode::kill);
    }

    /// Starts all at the same ports on the data they left, and waits until files can be read and written.
    pub fn restart(&mut self) {
        self.kill();
        for node in &mut self.data_nodes {
            node.0.start(|| true);
        }
        let bean = |name: &str| {
            let url = format!("{}/jmx?qry=Hadoop:service=NameNode,name={name}", self.web);
            curl::<&str>("GET", &url, [], b"").text()
        };
        let alive = format!("\"NumLiveDataNodes\" : {},", self.data_nodes.len());
        self.name_node.start(|| {
            bean("FSNamesystemState").contains(&alive) && bean("NameNodeInfo").contains("\"Safemode\" : \"\"")
        });
    }

    /// A WebHDFS request. Where the NameNode names a DataNode, curl follows.
    pub fn request(&self, method: &str, path: &str, query: &str, body: &[u8]) -> Answer {
        self.request_as(USER, method, path, query, body)
    }

    pub fn request_as(&self, user: &str, method: &str, path: &str, query: &str, body: &[u8]) -> Answer {
        let url = format!("{}/webhdfs/v1{path}?{query}&user.name={user}", self.web);
        curl(method, &url, ["--location"], body)
    }

    /// A fresh folder that only [`USER`] may write to, as `/name`.
    pub fn folder(&self) -> String {
        let folder = format!("/{}", fresh("folder"));
        self.request("PUT", &folder, "op=MKDIRS", b"").ok();
        folder
    }

    /// The names of the files and folders in a folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let list: serde_json::Value =
            serde_json::from_slice(&self.request("GET", folder, "op=LISTSTATUS", b"").ok()).unwrap();
        let files = list["FileStatuses"]["FileStatus"].as_array().unwrap().iter();
        files.map(|file| file["pathSuffix"].as_str().unwrap().to_owned()).collect()
    }
}

fn configure(dir: &Path, properties: &[(&str, String)]) {
    let property = |(name, value)| format!("<property><name>{name}</name><value>{value}</value></property>\n");
    let properties: String = properties.iter().map(|(name, value)| property((name, value))).collect();
    for file in ["core-site.xml", "hdfs-site.xml"] {
        std::fs::write(dir.join(file), format!("<configuration>\n{properties}</configuration>\n")).unwrap();
    }
}

/// A class of HDFS in a small JVM that starts quickly.
fn java(jars: &Path, dir: &Path, name: &str, class: &str) -> Process {
    let class_path: PathBuf = jars.join("*");
    Process::new(name, "java", dir)
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true"])
        .args(["-cp", &format!("{}:{}", dir.display(), class_path.display())])
        .args([format!("org.apache.hadoop.hdfs.server.{class}")])
        .env("HADOOP_USER_NAME", USER)
}

#[test]
fn hdfs_serves_files() {
    let Some(hdfs) = Hdfs::shared() else { return };
    TcpStream::connect(hdfs.endpoint.strip_prefix("hdfs://").unwrap()).unwrap();
    let folder = hdfs.folder();
    let file = format!("{folder}/file");
    hdfs.request("PUT", &file, "op=CREATE", b"bytes of a file").ok();
    assert_eq!(hdfs.request("PUT", &file, "op=CREATE&overwrite=false", b"other").status, 403);
    assert_eq!(hdfs.request("GET", &file, "op=OPEN&offset=6&length=2", b"").ok(), b"of");
    assert_eq!(hdfs.names(&folder), ["file"]);
    // Permissions count.
    let denied = hdfs.request_as("stranger", "DELETE", &file, "op=DELETE", b"");
    assert!(denied.status == 403 && denied.text().contains("AccessControlException"), "{denied:?}");
    hdfs.request("DELETE", &file, "op=DELETE", b"").ok();
    assert_eq!(hdfs.request("GET", &file, "op=OPEN", b"").status, 404);
}

#[test]
fn hdfs_keeps_its_data_over_kill() {
    let Some(mut hdfs) = Hdfs::start(2) else { return };
    let file = format!("{}/kept", hdfs.folder());
    hdfs.request("PUT", &file, "op=CREATE", b"kept").ok();
    hdfs.restart();
    assert_eq!(hdfs.request("GET", &file, "op=OPEN", b"").ok(), b"kept");
    assert_eq!(hdfs.data_nodes.len(), 2);
}
