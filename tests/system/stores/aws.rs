//! The ways to an S3 server: whose credentials, which host, which authority.

use super::super::client::{Answer, Client};
use super::super::harness::{Launch, Scratch};
use super::super::proxy::Proxy;
use super::super::servers::minio::{DOMAIN, Minio};
use super::super::{cloud, sample};
use super::scripts;

const ROLE: &str = "arn:aws:iam::123456789012:role/backup";

fn create(bucket: &str, endpoint: &str, more: &[(&str, &str)]) -> String {
    let endpoint = ("aws.s3.endpoint", endpoint);
    let pairs: Vec<_> = more.iter().chain([&endpoint]).map(|(key, value)| format!("'{key}' = '{value}'")).collect();
    format!("CREATE REPOSITORY r WITH BROKER ON LOCATION 's3://{bucket}/x' PROPERTIES ({})", pairs.join(", "))
}

/// What is backed up comes back.
async fn round_trip(client: &mut Client) {
    sample::create(client, "shop").await;
    let before = client.contents("shop").await;
    client.run("BACKUP SNAPSHOT shop.l TO r PROPERTIES ('wait' = 'true')").await;
    client.run("RESTORE SNAPSHOT copy.l FROM r PROPERTIES ('wait' = 'true', 'backup_timestamp' = 'latest')").await;
    assert_eq!(client.contents("copy").await, before);
}

#[tokio::test]
async fn the_machine_and_its_roles_have_credentials() {
    let Some(s3) = Minio::shared() else { return };
    let (of_instance, of_role) = (s3.assume_role(), s3.assume_role());
    let metadata = cloud::metadata(&of_instance);
    let sts = cloud::sts("us-east-1", &of_instance, ROLE, Some("42"), &of_role);
    let instance = [("aws.s3.use_instance_profile", "true"), ("aws.s3.region", "us-east-1")];
    let role = |id| [&instance[..], &[("aws.s3.iam_role_arn", ROLE), ("aws.s3.external_id", id)]].concat();
    for (properties, asks_sts) in [(instance.to_vec(), false), (role("42"), true)] {
        let scratch = Scratch::new();
        sts.write_ca(&scratch.path().join("ca.pem"));
        let launch = Launch::standalone(scratch.path())
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint())
            .env("SSL_CERT_FILE", scratch.sub("ca.pem"))
            .env("HTTPS_PROXY", sts.endpoint())
            .env("NO_PROXY", "");
        let server = launch.start();
        let mut client = server.connect().await;
        client.refused(create(&s3.bucket(), &s3.endpoint, &role("43")), 5064, "credentials: ").await;
        let before = sts.requests().len();
        assert!(before > 0, "STS has refused it");
        let (bucket, endpoint) = (s3.bucket(), ("aws.s3.endpoint", s3.endpoint.as_str()));
        let location = format!("s3://{bucket}/backups");
        if asks_sts {
            let given = [("aws.s3.iam_role_arn", ROLE), ("aws.s3.region", "us-east-1")];
            let added = [endpoint, ("aws.s3.external_id", "42")];
            client.run(scripts::shown("role", &location, &given, &added)).await;
        }
        client.run(create(&bucket, &s3.endpoint, &properties)).await;
        round_trip(&mut client).await;
        assert_eq!(sts.requests().len() > before, asks_sts);
        for secret in [&of_instance.s3.secret_key, &of_role.s3.secret_key] {
            assert!(!launch.logged().contains(secret));
        }
    }
    assert!(!metadata.requests().is_empty());
}

#[tokio::test]
async fn an_own_authority_is_trusted_if_it_is_named() {
    let Some(minio) = Minio::start_tls() else { return };
    let s3 = &minio.s3;
    let keys = [("aws.s3.access_key", s3.access_key.as_str()), ("aws.s3.secret_key", s3.secret_key.as_str())];
    let scratch = Scratch::new();
    let stranger = Launch::standalone(scratch.path()).start();
    stranger.connect().await.refused(create(&s3.bucket(), &s3.endpoint, &keys), 5064, "TLS: ").await;
    let scratch = Scratch::new();
    let ca = s3.ca.as_ref().unwrap().display();
    let server = Launch::standalone(scratch.path()).env("SSL_CERT_FILE", ca).start();
    let mut client = server.connect().await;
    client.run(create(&s3.bucket(), &s3.endpoint, &keys)).await;
    round_trip(&mut client).await;
}

/// Who moves to another server need not know its region: what was found of the first one does not stay.
#[tokio::test]
async fn a_region_is_found_again_where_the_server_is_another() {
    let Some(minio) = Minio::start_in("eu-north-9") else { return };
    let keys = [("aws.s3.access_key", minio.s3.access_key.as_str()), ("aws.s3.secret_key", &minio.s3.secret_key)];
    let bucket = minio.s3.bucket();
    let scratch = Scratch::new();
    let server = Launch::standalone(scratch.path()).start();
    let mut client = server.connect().await;
    client.run(create(&bucket, &minio.s3.endpoint, &keys)).await;
    let region = |answer: Answer| {
        let definition = answer.rows[0][1].clone().unwrap();
        definition.split_once("\"aws.s3.region\" = \"").unwrap().1.split_once('"').unwrap().0.to_owned()
    };
    assert_eq!(region(client.run("SHOW CREATE REPOSITORY r").await), "eu-north-9");
    let minio = minio.moved("eu-south-9");
    let endpoint = &minio.s3.endpoint;
    client.run(format!("ALTER REPOSITORY r SET PROPERTIES ('aws.s3.endpoint' = '{endpoint}')")).await;
    assert_eq!(region(client.run("SHOW CREATE REPOSITORY r").await), "eu-south-9");
    round_trip(&mut client).await;
    // What is given counts, whatever the server says.
    let given = format!("'aws.s3.endpoint' = '{endpoint}', 'aws.s3.region' = 'eu-west-9'");
    client.refused(format!("ALTER REPOSITORY r SET PROPERTIES ({given})"), 5064, "eu-south-9").await;
}

#[tokio::test]
async fn a_bucket_may_be_in_the_name_of_the_host() {
    let Some(s3) = Minio::shared() else { return };
    let proxy = Proxy::to(&s3.endpoint);
    let scratch = Scratch::new();
    let launch = Launch::standalone(scratch.path()).env("HTTP_PROXY", proxy.endpoint()).env("NO_PROXY", "");
    let server = launch.start();
    let mut client = server.connect().await;
    let bucket = s3.bucket();
    let properties = [
        ("aws.s3.access_key", s3.access_key.as_str()),
        ("aws.s3.secret_key", s3.secret_key.as_str()),
        ("aws.s3.enable_path_style_access", "false"),
        ("aws.s3.enable_ssl", "false"),
    ];
    client.run(create(&bucket, DOMAIN, &properties)).await;
    round_trip(&mut client).await;
    let host = format!("{bucket}.{DOMAIN}");
    let objects = proxy.requests().into_iter().filter(|request| request.path.contains("__objects/"));
    let hosts: Vec<String> = objects.map(|request| request.host).collect();
    assert!(!hosts.is_empty() && hosts.iter().all(|found| *found == host), "{hosts:?}");
}
