//! fake-gcs-server: the JSON interface of Google Cloud Storage, in memory. It checks no credentials.

use std::sync::LazyLock;

use super::{Answer, Process, curl, free_port, fresh, installed};
use crate::system::harness::Scratch;

pub struct Gcs {
    pub endpoint: String,
    _process: Process,
    _dir: Scratch,
}

impl Gcs {
    /// The one that tests share; `None` if it is not installed.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<Gcs>> = LazyLock::new(Gcs::start);
        SHARED.as_ref()
    }

    fn start() -> Option<Self> {
        let program = installed("fake-gcs-server", "gcs/fake-gcs-server")?;
        let dir = Scratch::new();
        let host = format!("127.0.0.1:{}", free_port());
        let endpoint = format!("http://{host}");
        let (address, port) = host.split_once(':').unwrap();
        // Uploads in parts go to the address that it says it has.
        let mut process = Process::new("gcs", program, dir.path())
            .args([
                "-scheme",
                "http",
                "-host",
                address,
                "-port",
                port,
                "-public-host",
                &host,
                "-external-url",
                &endpoint,
            ])
            .args(["-backend", "memory", "-log-level", "warn"]);
        process.start(|| curl::<&str>("GET", &format!("{endpoint}/storage/v1/b"), [], b"").status == 200);
        Some(Self { endpoint, _process: process, _dir: dir })
    }

    pub fn request(&self, method: &str, path_and_query: &str, headers: &[&str], body: &[u8]) -> Answer {
        let headers = headers.iter().flat_map(|&header| ["-H", header]);
        curl(method, &format!("{}{path_and_query}", self.endpoint), headers, body)
    }

    /// A fresh bucket.
    pub fn bucket(&self) -> String {
        let bucket = fresh("bucket");
        let body = serde_json::json!({ "name": bucket }).to_string();
        let json = ["content-type: application/json"];
        self.request("POST", "/storage/v1/b?project=test", &json, body.as_bytes()).ok();
        bucket
    }

    /// The attributes of the objects in a bucket.
    pub fn objects(&self, bucket: &str) -> Vec<serde_json::Value> {
        let list = self.request("GET", &format!("/storage/v1/b/{bucket}/o"), &[], b"").ok();
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The names of the objects in a bucket.
    pub fn names(&self, bucket: &str) -> Vec<String> {
        let name = |object: serde_json::Value| object["name"].as_str().unwrap().to_owned();
        self.objects(bucket).into_iter().map(name).collect()
    }
}

#[test]
fn fake_gcs_server_serves_objects() {
    let Some(gcs) = Gcs::shared() else { return };
    let bucket = gcs.bucket();
    let put = format!("/upload/storage/v1/b/{bucket}/o?uploadType=media&name=folder%2Fobject&ifGenerationMatch=0");
    let object = format!("/storage/v1/b/{bucket}/o/folder%2Fobject");
    gcs.request("POST", &put, &[], b"bytes of an object").ok();
    assert_eq!(gcs.request("POST", &put, &[], b"other").status, 412);
    assert_eq!(gcs.request("GET", &format!("{object}?alt=media"), &["range: bytes=6-7"], b"").ok(), b"of");
    assert_eq!(gcs.names(&bucket), ["folder/object"]);
    gcs.request("DELETE", &object, &[], b"").ok();
    assert_eq!(gcs.request("GET", &object, &[], b"").status, 404);
}
