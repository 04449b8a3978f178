//! The scripts that a person edits and runs, one for each store.

use axum::http::Method;

use super::store::Store;
use super::{Kind, assert_hidden, native};
use crate::system::cloud;
use crate::system::harness::{Launch, Scratch, Server};
use crate::system::proxy::Proxy;

/// Runs a script with its placeholders filled in, and with properties that only this machine needs.
async fn run(name: &str, launch: &Launch, values: &[(&str, &str)], added: &[(&str, &str)]) -> Server {
    let path = format!("{}/sql/{name}.sql", env!("CARGO_MANIFEST_DIR"));
    let mut script = std::fs::read_to_string(path).unwrap();
    for (placeholder, value) in values {
        assert!(script.contains(placeholder), "{name}.sql has no {placeholder}");
        script = script.replace(placeholder, value);
    }
    let added: String = added.iter().map(|(key, value)| format!("\"{key}\" = \"{value}\",")).collect();
    script = script.replacen("PROPERTIES (", &format!("PROPERTIES ({added}"), 1);
    let server = launch.start();
    let mut client = server.connect().await;
    let statements: String =
        script.lines().filter(|line| !line.starts_with("--")).map(|line| format!("{line}\n")).collect();
    assert!(!statements.contains('<'), "{name}.sql has a placeholder that nobody fills in: {statements}");
    let last = client.run(statements).await;
    assert_eq!(last.rows, [[Some("3".to_owned()), Some("6".to_owned())]]);
    server
}

/// The statement by which README makes a repository, with a test's location and values in the place of its own.
pub fn shown(name: &str, location: &str, values: &[(&str, &str)], added: &[(&str, &str)]) -> String {
    let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let at = readme.find(&format!("REPOSITORY {name} WITH BROKER")).expect("README shows it");
    let start = readme[..at].rfind("CREATE ").unwrap();
    let mut statement = readme[start..].split(';').next().unwrap().to_owned();
    let mut put = |before: &str, value: &str| {
        let start = statement.find(before).unwrap_or_else(|| panic!("no {before} in {statement}")) + before.len();
        let end = start + statement[start..].find('"').unwrap();
        statement.replace_range(start..end, value);
    };
    put("LOCATION \"", location);
    values.iter().for_each(|(key, value)| put(&format!("\"{key}\" = \""), value));
    let added: String = added.iter().map(|(key, value)| format!("\"{key}\" = \"{value}\",")).collect();
    let statement = statement.replacen("PROPERTIES (", &format!("PROPERTIES ({added}"), 1);
    assert!(!statement.contains('…'), "{statement}");
    statement
}

/// What README shows for stores that need nothing but an address.
#[tokio::test]
async fn readme_shows_repositories_that_can_be_made() {
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).start();
    let mut client = server.connect().await;
    let disk = Store::new(Kind::Disk, &scratch).unwrap();
    client.run(shown("disk", &disk.location, &[], &[])).await;
    // One that another cluster has made.
    client.run(disk.named("other").create("")).await;
    client.run("DROP REPOSITORY other").await;
    client.run(shown("other", &disk.location, &[], &[])).await;
    if let Some(store) = Store::new(Kind::Minio, &scratch) {
        let [access, secret, endpoint] = [0, 1, 2].map(|n| (store.properties[n].0, store.properties[n].1.as_str()));
        let region = ("aws.s3.region", "us-east-1");
        client.run(shown("s3", &store.location, &[access, secret, region], &[endpoint])).await;
        client.run(shown("minio", &store.location, &[access, secret, endpoint], &[])).await;
    }
    if let Some(store) = Store::new(Kind::Abfss, &scratch) {
        let [endpoint, key] = [0, 1].map(|n| (store.properties[n].0, store.properties[n].1.as_str()));
        client.run(shown("azure", &store.location, &[key], &[endpoint])).await;
    }
    if let Some(store) = Store::new(Kind::Hdfs, &scratch) {
        client.run(shown("hdfs", &store.location, &[("username", property(&store, "username"))], &[])).await;
    }
}

/// A folder that no other test uses.
fn folder(store: &Store) -> (String, &str) {
    let (_, rest) = store.location.split_once("://").unwrap();
    let (place, folder) = rest.split_once('/').unwrap();
    (place.to_owned(), folder)
}

fn property<'a>(store: &'a Store, key: &str) -> &'a str {
    &store.properties.iter().find(|(known, _)| *known == key).unwrap().1
}

#[tokio::test]
async fn s3() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Minio, &scratch) else { return };
    let (bucket, folder) = folder(&store);
    let values = [
        ("<bucket>", bucket.as_str()),
        ("<folder>", folder),
        ("<access key>", property(&store, "aws.s3.access_key")),
        ("<secret key>", property(&store, "aws.s3.secret_key")),
        ("<endpoint>", property(&store, "aws.s3.endpoint")),
        ("<region>", "us-east-1"),
    ];
    run("s3", &Launch::standalone(scratch.path()), &values, &[]).await;
    assert_hidden(&store.secrets, &scratch);
}

#[tokio::test]
async fn gcs() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Gcs, &scratch) else { return };
    let (bucket, folder) = folder(&store);
    let account = "backup@project.iam.gserviceaccount.com";
    let google = cloud::google_tokens(account, "token");
    let key = cloud::private_key();
    let values = [
        ("<bucket>", bucket.as_str()),
        ("<folder>", folder),
        ("<service account>", account),
        ("<private key id>", "0123456789abcdef"),
        ("<private key>", &key.replace('\n', "\\n")),
    ];
    let launch = behind(&google, &scratch);
    let endpoint = ("gcp.gcs.endpoint", property(&store, "gcp.gcs.endpoint"));
    let server = run("gcs", &launch, &values, &[endpoint]).await;
    // FE and BE share what they have opened, and a token for as long as it lives.
    assert_eq!(google.requests().len(), 1);
    let given = [
        ("gcp.gcs.service_account_email", account),
        ("gcp.gcs.service_account_private_key_id", "0123456789abcdef"),
        ("gcp.gcs.service_account_private_key", &key),
    ];
    server.connect().await.run(shown("gcs", &store.location, &given, &[endpoint])).await;
    let secret = key.lines().nth(5).unwrap().to_owned();
    assert_hidden(&[secret], &scratch);
}

#[tokio::test]
async fn azure() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Abfss, &scratch) else { return };
    let (place, folder) = folder(&store);
    let (container, host) = place.split_once('@').unwrap();
    let values = [
        ("<container>", container),
        ("<account>", host.split('.').next().unwrap()),
        ("<folder>", folder),
        ("<shared key>", property(&store, "azure.adls2.shared_key")),
    ];
    let endpoint = ("azure.adls2.endpoint", property(&store, "azure.adls2.endpoint"));
    run("azure", &Launch::standalone(scratch.path()), &values, &[endpoint]).await;
    assert_hidden(&store.secrets, &scratch);
}

#[tokio::test]
async fn hdfs() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Hdfs, &scratch) else { return };
    let (name_node, folder) = folder(&store);
    let values = [("<name node>", name_node.as_str()), ("<folder>", folder), ("<user>", property(&store, "username"))];
    run("hdfs", &Launch::standalone(scratch.path()), &values, &[]).await;
}

#[tokio::test]
async fn oss() {
    let scratch = Scratch::new();
    let proxy = native::oss("holdfast-test", "cn-hangzhou");
    let values = [
        ("<bucket>", "holdfast-test"),
        ("<folder>", "backups/of tests"),
        ("<region>", "cn-hangzhou"),
        ("<access key>", native::ACCESS),
        ("<secret key>", native::SECRET),
    ];
    let server = run("oss", &behind(&proxy, &scratch), &values, &[]).await;
    let given = [("fs.oss.accessKeyId", native::ACCESS), ("fs.oss.accessKeySecret", native::SECRET)];
    server.connect().await.run(shown("oss", "oss://holdfast-test/backups/of tests", &given, &[])).await;
    assert_asked(&proxy, "holdfast-test.oss-cn-hangzhou.aliyuncs.com");
    assert_hidden(&[native::SECRET.to_owned()], &scratch);
}

#[tokio::test]
async fn cos() {
    let scratch = Scratch::new();
    let proxy = native::cos("holdfast-1250000000", "ap-guangzhou");
    let values = [
        ("<bucket>", "holdfast-1250000000"),
        ("<folder>", "backups/of tests"),
        ("<region>", "ap-guangzhou"),
        ("<secret id>", native::ACCESS),
        ("<secret key>", native::SECRET),
    ];
    let server = run("cos", &behind(&proxy, &scratch), &values, &[]).await;
    let given = [
        ("fs.cosn.userinfo.secretId", native::ACCESS),
        ("fs.cosn.userinfo.secretKey", native::SECRET),
        ("fs.cosn.bucket.endpoint_suffix", "cos.ap-guangzhou.myqcloud.com"),
    ];
    server.connect().await.run(shown("cos", "cosn://holdfast-1250000000/backups/of tests", &given, &[])).await;
    assert_asked(&proxy, "holdfast-1250000000.cos.ap-guangzhou.myqcloud.com");
    assert_hidden(&[native::SECRET.to_owned()], &scratch);
}

#[tokio::test]
async fn an_account_that_google_does_not_know_is_named() {
    let scratch = Scratch::new();
    let Some(store) = Store::new(Kind::Gcs, &scratch) else { return };
    let google = cloud::google_tokens("known@project.iam.gserviceaccount.com", "token");
    let server = behind(&google, &scratch).start();
    let (endpoint, key) = (property(&store, "gcp.gcs.endpoint"), cloud::private_key());
    for key in [key.as_str(), "no key"] {
        let properties = format!(
            "'gcp.gcs.endpoint' = '{endpoint}', 'gcp.gcs.service_account_private_key' = '{key}',
             'gcp.gcs.service_account_email' = 'stranger@project.iam.gserviceaccount.com'"
        );
        let location = &store.location;
        let create = format!("CREATE REPOSITORY r WITH BROKER ON LOCATION '{location}' PROPERTIES ({properties})");
        let refusal = server.connect().await.refused(create, 5064, "credentials: ").await;
        assert!(key.lines().all(|line| !refusal.text.contains(line)), "{refusal}");
    }
}

#[tokio::test]
async fn a_wrong_secret_of_oss_or_cos_is_named() {
    let cases = [
        (
            native::oss("b", "r"),
            "oss://b/f",
            "fs.oss.accessKeyId",
            "fs.oss.accessKeySecret",
            "fs.oss.endpoint",
            "oss-r.aliyuncs.com",
        ),
        (
            native::cos("b", "r"),
            "cos://b/f",
            "fs.cosn.userinfo.secretId",
            "fs.cosn.userinfo.secretKey",
            "fs.cosn.bucket.endpoint_suffix",
            "cos.r.myqcloud.com",
        ),
    ];
    for (proxy, location, id, secret, key, endpoint) in cases {
        let scratch = Scratch::new();
        let server = behind(&proxy, &scratch).start();
        let properties = format!("'{id}' = '{}', '{secret}' = 'another', '{key}' = '{endpoint}'", native::ACCESS);
        let create = format!("CREATE REPOSITORY r WITH BROKER ON LOCATION '{location}' PROPERTIES ({properties})");
        server.connect().await.refused(create, 5064, "credentials: SignatureDoesNotMatch").await;
        assert_eq!(proxy.requests().len(), 1);
    }
}

/// A server that reaches the cloud by a stand-in.
fn behind(proxy: &Proxy, scratch: &Scratch) -> Launch {
    proxy.write_ca(&scratch.path().join("ca.pem"));
    let launch = Launch::standalone(scratch.path()).env("SSL_CERT_FILE", scratch.sub("ca.pem"));
    launch.env("HTTPS_PROXY", proxy.endpoint()).env("NO_PROXY", "").env("no_proxy", "")
}

/// Each kind of request came, to the host of the bucket and with its path, and was taken.
fn assert_asked(proxy: &Proxy, host: &str) {
    let requests = proxy.requests();
    let of = |method: Method| requests.iter().filter(move |request| request.method == method);
    let root = "/backups/of%20tests/__holdfast_repository_";
    for method in [Method::PUT, Method::GET, Method::HEAD, Method::DELETE] {
        assert!(of(method.clone()).any(|request| request.path.starts_with(root)), "{method}");
    }
    let is_list = |request: &crate::system::proxy::Request| request.path == "/" && request.query.contains("prefix=");
    assert!(of(Method::GET).any(is_list));
    for request in requests {
        assert_eq!(request.host, host);
        assert!(!request.header("authorization").contains(native::SECRET), "{request:?}");
    }
}
