//! Azurite: Azure Blob Storage, with the account's shared key or a SAS.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Answer, Process, curl, free_port, fresh, hmac_sha256, installed};
use crate::system::harness::Scratch;

/// It writes its index every few seconds, so that it must not be killed and started again.
pub struct Azurite {
    /// The endpoint with the account, as it stands before the name of a container.
    pub endpoint: String,
    pub account: String,
    /// In base64.
    pub key: String,
    _process: Process,
    _dir: Scratch,
}

impl Azurite {
    /// The one that tests share.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<Azurite>> = LazyLock::new(Azurite::start);
        SHARED.as_ref()
    }

    /// `None` if it is not installed.
    fn start() -> Option<Self> {
        let main = installed("Azurite", "azurite/node_modules/azurite/dist/src/blob/main.js")?;
        let dir = Scratch::new();
        let port = free_port();
        let account = "holdfasttest".to_owned();
        let key = BASE64_STANDARD.encode(b"the key of an account that only tests use");
        let endpoint = format!("http://127.0.0.1:{port}/{account}");
        let mut process = Process::new("azurite", "node", dir.path())
            .args([main.to_str().unwrap(), "--silent", "--disableTelemetry", "--skipApiVersionCheck"])
            .args(["--location", dir.path().to_str().unwrap(), "--blobHost", "127.0.0.1"])
            .args(["--blobPort", &port.to_string()])
            .env("AZURITE_ACCOUNTS", format!("{account}:{key}"));
        process.start(|| curl::<&str>("GET", &endpoint, [], b"").status != 0);
        Some(Self { endpoint, account, key, _process: process, _dir: dir })
    }

    /// A shared access signature for the account, as a query: `permissions` such as `rwdlac`.
    pub fn sas(&self, permissions: &str) -> String {
        let (version, expiry) = ("2020-08-04", "2099-01-01T00:00:00Z");
        let text = format!("{}\n{permissions}\nb\nsco\n\n{expiry}\n\n\n{version}\n", self.account);
        let key = BASE64_STANDARD.decode(&self.key).unwrap();
        let signature = BASE64_STANDARD.encode(hmac_sha256(&key, text.as_bytes()));
        let signature = percent_encoding::utf8_percent_encode(&signature, percent_encoding::NON_ALPHANUMERIC);
        format!("sv={version}&ss=b&srt=sco&sp={permissions}&se={expiry}&sig={signature}")
    }

    /// A request to a path below the account, by a SAS that allows everything.
    pub fn request(&self, method: &str, path: &str, query: &str, headers: &[&str], body: &[u8]) -> Answer {
        let url = format!("{}{path}?{query}&{}", self.endpoint, self.sas("rwdlac"));
        let headers = headers.iter().flat_map(|&header| ["-H", header]);
        curl(method, &url, headers.chain(["-H", "x-ms-version: 2020-10-02"]), body)
    }

    /// A fresh container.
    pub fn container(&self) -> String {
        let container = fresh("container");
        self.request("PUT", &format!("/{container}"), "restype=container", &[], b"").ok();
        container
    }

    /// The names of the blobs in a container.
    pub fn blobs(&self, container: &str) -> Vec<String> {
        let list = self.request("GET", &format!("/{container}"), "restype=container&comp=list", &[], b"").ok();
        super::elements(&String::from_utf8(list).unwrap(), "Name")
    }
}

#[test]
fn azurite_serves_blobs() {
    let Some(azurite) = Azurite::shared() else { return };
    let container = azurite.container();
    let blob = format!("/{container}/folder/blob");
    let headers = ["x-ms-blob-type: BlockBlob", "if-none-match: *"];
    azurite.request("PUT", &blob, "", &headers, b"bytes of a blob").ok();
    assert_eq!(azurite.request("PUT", &blob, "", &headers, b"other").status, 409);
    assert_eq!(azurite.request("GET", &blob, "", &["range: bytes=6-7"], b"").ok(), b"of");
    assert_eq!(azurite.blobs(&container), ["folder/blob"]);
    azurite.request("DELETE", &blob, "", &[], b"").ok();
    assert_eq!(azurite.request("GET", &blob, "", &[], b"").status, 404);
    // Nobody reads without a signature.
    assert!(curl::<&str>("GET", &format!("{}{blob}", azurite.endpoint), [], b"").status >= 400);
}
