//! Stand-ins for services that exist in the cloud only: the metadata service of an EC2 instance, AWS STS, and the tokens
//! of Google. What they give is worth something at the stores of the tests.

use std::process::Command;

use axum::body::Body;
use axum::http::{Method, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::harness::Scratch;
use super::proxy::{Proxy, Request};
use super::servers::minio::Minio;
use super::servers::{S3, Session, curl, elements, hmac_sha256, serves_s3};

fn answer(status: u16, body: impl ToString) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string())).unwrap()
}

/// The metadata service (IMDSv2) of an instance whose role has these credentials. A server finds it by the variable
/// `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
pub fn metadata(session: &Session) -> Proxy {
    const TOKEN: &str = "token-of-the-metadata-service";
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let credentials = json!({
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": session.s3.access_key,
        "SecretAccessKey": session.s3.secret_key,
        "Token": session.s3.session_token,
        "Expiration": session.expires,
    });
    Proxy::alone(&[], move |request| match (&request.method, request.path.strip_prefix(ROLES)) {
        (&Method::PUT, None) if request.path == "/latest/api/token" => {
            let lives = request.header("x-aws-ec2-metadata-token-ttl-seconds").parse::<u32>();
            if lives.is_ok() { answer(200, TOKEN) } else { answer(400, "") }
        }
        _ if request.header("x-aws-ec2-metadata-token") != TOKEN => answer(401, ""),
        (&Method::GET, Some("")) => answer(200, "role-of-the-instance"),
        (&Method::GET, Some("role-of-the-instance")) => answer(200, &credentials),
        _ => answer(404, ""),
    })
}

/// STS of a region: whoever signs with the secret of `caller`, and names the role and its external id, gets `session`.
/// A server finds it by `HTTPS_PROXY`, and trusts it by `SSL_CERT_FILE`.
pub fn sts(region: &str, caller: &Session, role: &str, external_id: Option<&str>, session: &Session) -> Proxy {
    let (caller, session) = (caller.s3.clone(), session.clone());
    let (role, external_id) = (role.to_owned(), external_id.map(str::to_owned));
    let host = format!("sts.{region}.amazonaws.com");
    let refuse = |code: &str| {
        let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>Refused</Message></Error>");
        answer(403, format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"))
    };
    Proxy::alone(&[&host], move |request| {
        let one = |name: &str| request.parameter(name);
        let token = session_token(request);
        if sigv4_signature(request, &caller.secret_key).as_deref() != Some(given_signature(request)) {
            return refuse("SignatureDoesNotMatch");
        }
        if token != caller.session_token.as_deref() {
            return refuse("InvalidClientTokenId");
        }
        if one("Action").as_deref() != Some("AssumeRole") || one("RoleArn").as_ref() != Some(&role) {
            return refuse("AccessDenied");
        }
        if one("ExternalId") != external_id {
            return refuse("AccessDenied");
        }
        let fields = [
            ("AccessKeyId", &session.s3.access_key),
            ("SecretAccessKey", &session.s3.secret_key),
            ("SessionToken", session.s3.session_token.as_ref().unwrap()),
            ("Expiration", &session.expires),
        ];
        let fields: String = fields.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
        let result = format!("<AssumeRoleResult><Credentials>{fields}</Credentials></AssumeRoleResult>");
        answer(200, format!("<AssumeRoleResponse>{result}</AssumeRoleResponse>"))
    })
}

fn session_token(request: &Request) -> Option<&str> {
    Some(request.header("x-amz-security-token")).filter(|token| !token.is_empty())
}

/// The signature that a request came with.
fn given_signature(request: &Request) -> &str {
    request.header("authorization").rsplit("Signature=").next().unwrap()
}

/// The signature that AWS's documentation asks for, version 4, of a request whose query is encoded as it should be;
/// `None` if it has no authorization of that kind.
pub fn sigv4_signature(request: &Request, secret: &str) -> Option<String> {
    let authorization = request.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ")?;
    let field = |name: &str| authorization.split(", ").find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let (_, scope) = field("Credential")?.split_once('/')?;
    let signed = field("SignedHeaders")?;

    let mut query: Vec<_> = request.query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let headers: String = signed.split(';').map(|name| format!("{name}:{}\n", request.header(name).trim())).collect();
    let payload = match request.header("x-amz-content-sha256") {
        "" => hex::encode(Sha256::digest(&request.body)),
        given => given.to_owned(),
    };
    let (method, path, query) = (&request.method, &request.path, query.join("&"));
    let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{signed}\n{payload}");
    let (date, digest) = (request.header("x-amz-date"), hex::encode(Sha256::digest(canonical)));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}");
    let start = format!("AWS4{secret}").into_bytes();
    let key = scope.split('/').fold(start, |key, part| hmac_sha256(&key, part.as_bytes()));
    Some(hex::encode(hmac_sha256(&key, text.as_bytes())))
}

/// The service that gives an access token for the claim of a service account of Google; it looks at the name in the
/// claim, not at its signature. A server finds it by `HTTPS_PROXY`, and trusts it by `SSL_CERT_FILE`.
pub fn google_tokens(email: &str, token: &str) -> Proxy {
    let email = email.to_owned();
    let given = json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer" });
    Proxy::alone(&["oauth2.googleapis.com"], move |request| {
        let form = std::str::from_utf8(&request.body).unwrap();
        let claims = form.split_once("&assertion=").and_then(|(_, jwt)| jwt.split('.').nth(1));
        let claims = claims.map(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap());
        let claims: Value = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
        if request.path == "/token" && claims["iss"] == email.as_str() {
            answer(200, &given)
        } else {
            answer(400, json!({ "error": "invalid_grant" }))
        }
    })
}

/// A fresh private key as Google writes it into the key file of a service account: PKCS #8, in PEM.
pub fn private_key() -> String {
    let output = Command::new("openssl").args(["genpkey", "-quiet", "-algorithm", "RSA"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn metadata_and_sts_give_credentials_that_count() {
    let Some(s3) = Minio::shared() else { return };
    let (of_instance, of_role) = (s3.assume_role(), s3.assume_role());
    let metadata = metadata(&of_instance);
    let get = |path: &str, header: &str| {
        curl("GET", &format!("{}/latest/{path}", metadata.endpoint()), ["-H", header], b"").text()
    };
    let lifetime = ["-H", "x-aws-ec2-metadata-token-ttl-seconds: 60"];
    let token = curl("PUT", &format!("{}/latest/api/token", metadata.endpoint()), lifetime, b"").text();
    let token = format!("x-aws-ec2-metadata-token: {token}");
    let role = get("meta-data/iam/security-credentials/", &token);
    let credentials = get(&format!("meta-data/iam/security-credentials/{role}"), &token);
    assert!(credentials.contains(&of_instance.s3.secret_key), "{credentials}");
    assert_eq!(get(&format!("meta-data/iam/security-credentials/{role}"), "x-none: 1"), "");

    let sts = sts("eu-west-1", &of_instance, "arn:aws:iam::1:role/backup", Some("42"), &of_role);
    let ca = Scratch::new();
    sts.write_ca(&ca.path().join("ca.pem"));
    let ask = |caller: &S3, external_id: &str| {
        let query =
            format!("Action=AssumeRole&ExternalId={external_id}&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fbackup");
        let url = format!("https://sts.eu-west-1.amazonaws.com/?{query}");
        let (user, proxy) = (format!("{}:{}", caller.access_key, caller.secret_key), sts.endpoint());
        let token = format!("x-amz-security-token: {}", caller.session_token.as_deref().unwrap_or_default());
        let args = ["--aws-sigv4", "aws:amz:eu-west-1:sts", "--user", &user, "-H", &token, "--noproxy", ""];
        curl("GET", &url, args.into_iter().chain(["--proxy", &proxy, "--cacert", &ca.sub("ca.pem")]), b"")
    };
    let answer = ask(&of_instance.s3, "42").text();
    let taken = elements(&answer, "SecretAccessKey").remove(0);
    serves_s3(&S3 { secret_key: taken, ..of_role.s3.clone() });
    assert!(ask(&of_instance.s3, "43").text().contains("<Code>AccessDenied<"));
    let stranger = S3 { secret_key: "wrong".to_owned(), ..of_instance.s3.clone() };
    assert!(ask(&stranger, "42").text().contains("<Code>SignatureDoesNotMatch<"));
}

#[test]
fn google_gives_tokens_to_the_account_it_knows() {
    assert!(private_key().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let google = google_tokens("a@b.iam.gserviceaccount.com", "a-token");
    let ca = Scratch::new();
    google.write_ca(&ca.path().join("ca.pem"));
    let ask = |email: &str| {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(json!({ "iss": email }).to_string());
        let form = format!("grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=e30.{claims}.c2ln");
        let (proxy, ca) = (google.endpoint(), ca.sub("ca.pem"));
        let args = ["--noproxy", "", "--proxy", &proxy, "--cacert", &ca];
        curl("POST", "https://oauth2.googleapis.com/token", args, form.as_bytes())
    };
    assert!(ask("a@b.iam.gserviceaccount.com").text().contains("a-token"));
    assert_eq!(ask("stranger@b.iam.gserviceaccount.com").status, 400);
}
