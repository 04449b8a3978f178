//! MinIO: S3 with object lock, virtual hosts, TLS and temporary credentials.

use std::path::Path;
use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::{Process, S3, free_port, installed};
use crate::system::harness::Scratch;

/// Buckets are also hosts below this name, which no resolver knows: a [`Proxy`](crate::system::proxy::Proxy) does.
pub const DOMAIN: &str = "s3.holdfast.test";

/// The key of its own key management.
pub const KMS_KEY: &str = "key-of-tests";

pub struct Minio {
    process: Process,
    pub s3: S3,
    _dir: Scratch,
}

impl Minio {
    /// `None` if it is not installed.
    pub fn start() -> Option<Self> {
        Self::launch(Scratch::new(), false, "us-east-1")
    }

    /// In a region, which it tells to anybody.
    pub fn start_in(region: &str) -> Option<Self> {
        Self::launch(Scratch::new(), false, region)
    }

    /// With the same data at another port, in another region.
    pub fn moved(mut self, region: &str) -> Self {
        self.kill();
        Self::launch(self._dir, false, region).unwrap()
    }

    /// With TLS, by a certificate for 127.0.0.1 that is its own authority.
    pub fn start_tls() -> Option<Self> {
        Self::launch(Scratch::new(), true, "us-east-1")
    }

    /// The one that tests share. No test may stop it.
    pub fn shared() -> Option<&'static S3> {
        static SHARED: LazyLock<Option<Minio>> = LazyLock::new(Minio::start);
        SHARED.as_ref().map(|minio| &minio.s3)
    }

    fn launch(dir: Scratch, tls: bool, region: &str) -> Option<Self> {
        let program = installed("MinIO", "minio/minio")?;
        let port = free_port();
        let certificates = dir.path().join("certificates");
        let ca = tls.then(|| certify(&certificates));
        let s3 = S3 {
            endpoint: format!("{}://127.0.0.1:{port}", if tls { "https" } else { "http" }),
            region: region.to_owned(),
            access_key: "AKIAMINIO0000000000".to_owned(),
            secret_key: "minio-secret-key".to_owned(),
            session_token: None,
            ca,
        };
        let process = Process::new("minio", program, dir.path())
            .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}"), "--certs-dir"])
            .args([certificates.to_str().unwrap(), &dir.sub("data")])
            .env("MINIO_ROOT_USER", &s3.access_key)
            .env("MINIO_ROOT_PASSWORD", &s3.secret_key)
            .env("MINIO_DOMAIN", DOMAIN)
            .env("MINIO_REGION", region)
            // So that it can encrypt, where a request wants it to.
            .env("MINIO_KMS_SECRET_KEY", format!("{KMS_KEY}:{}", BASE64_STANDARD.encode([7; 32])))
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off");
        let mut server = Self { process, s3, _dir: dir };
        server.restart();
        Some(server)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it at the same port on the data it left.
    pub fn restart(&mut self) {
        self.process.kill();
        // Its health says that it is ready before it knows its buckets and users.
        let s3 = self.s3.clone();
        self.process.start(|| s3.request("GET", "/", &[], b"").status == 200 && s3.ask_sts().status == 200);
    }
}

/// Writes a key and a certificate, and returns the file of the certificate.
fn certify(dir: &Path) -> std::path::PathBuf {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let made = made.unwrap();
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("private.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("public.crt"), made.cert.pem()).unwrap();
    dir.join("public.crt")
}

#[test]
fn minio_serves_s3() {
    let Some(s3) = Minio::shared() else { return };
    super::serves_s3(s3);
    // Temporary credentials count, and only with their token.
    let session = s3.assume_role().s3;
    super::serves_s3(&session);
    let stripped = S3 { session_token: None, ..session };
    assert_eq!(stripped.request("GET", "/any?list-type=2", &[], b"").status, 403);
}

#[test]
fn a_locked_bucket_keeps_what_was_written() {
    let Some(s3) = Minio::shared() else { return };
    let bucket = s3.locked_bucket();
    let object = format!("/{bucket}/object");
    s3.request("PUT", &object, &[], b"first").ok();
    let versions = String::from_utf8(s3.request("GET", &format!("/{bucket}?versions="), &[], b"").ok()).unwrap();
    let version = super::elements(&versions, "VersionId").remove(0);
    let refused = s3.request("DELETE", &format!("{object}?versionId={version}"), &[], b"");
    assert!(refused.text().contains("WORM"), "{refused:?}");
}

#[test]
fn minio_keeps_its_data_over_kill_and_serves_tls() {
    let Some(mut minio) = Minio::start_tls() else { return };
    super::serves_s3(&minio.s3);
    let bucket = minio.s3.bucket();
    minio.s3.request("PUT", &format!("/{bucket}/kept"), &[], b"kept").ok();
    minio.kill();
    assert_eq!(minio.s3.request("GET", &format!("/{bucket}/kept"), &[], b"").status, 0);
    minio.restart();
    assert_eq!(minio.s3.request("GET", &format!("/{bucket}/kept"), &[], b"").ok(), b"kept");
}
