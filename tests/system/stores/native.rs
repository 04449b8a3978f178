//! Aliyun OSS and Tencent COS in their own protocols. Nobody publishes a server of either, so a stand-in keeps objects
//! in memory, under the hosts of the cloud, and takes only requests that are signed as the clouds' documentation says.

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::body::{Body, Bytes};
use axum::http::{Method, Response, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::Mac;
use sha1::{Digest, Sha1};

use crate::system::proxy::{Proxy, Request};

pub const ACCESS: &str = "LTAIaccess0000000000";

pub const SECRET: &str = "the secret of an account";

fn hmac_sha1(key: &[u8], message: &str) -> Vec<u8> {
    let mac = hmac::Hmac::<Sha1>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// Names and values of the query, decoded.
fn parameters(request: &Request) -> BTreeMap<String, String> {
    let pairs = request.query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

/// OSS, version 1: <https://www.alibabacloud.com/help/en/oss/developer-reference/include-signatures-in-the-authorization-header>.
fn oss_signature(request: &Request, bucket: &str) -> String {
    // Of the query only what names a part of the object or bucket is signed.
    const SUBRESOURCES: [&str; 8] =
        ["acl", "append", "continuation-token", "delete", "partNumber", "uploadId", "uploads", "versionId"];
    let mut own: Vec<_> =
        request.headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-oss-")).collect();
    own.sort_unstable();
    let own: String = own.into_iter().map(|name| format!("{name}:{}\n", request.header(name))).collect();
    let mut resource = format!("/{bucket}{}", decoded(&request.path));
    let signed = parameters(request).into_iter().filter(|(name, _)| SUBRESOURCES.contains(&name.as_str()));
    for (n, (name, value)) in signed.enumerate() {
        resource += if n == 0 { "?" } else { "&" };
        resource += &if value.is_empty() { name } else { format!("{name}={value}") };
    }
    let (md5, kind, date) = (request.header("content-md5"), request.header("content-type"), request.header("date"));
    let text = format!("{}\n{md5}\n{kind}\n{date}\n{own}{resource}", request.method);
    format!("OSS {ACCESS}:{}", BASE64_STANDARD.encode(hmac_sha1(SECRET.as_bytes(), &text)))
}

/// COS: <https://www.tencentcloud.com/document/product/436/7778>. The times and the names of what is signed are the
/// client's to choose.
fn cos_signature(request: &Request, _: &str) -> String {
    let given: BTreeMap<_, _> =
        request.header("authorization").split('&').filter_map(|pair| pair.split_once('=')).collect();
    let part = |name: &str| given.get(name).copied().unwrap_or_default();
    let encoded = |text: &str| {
        const KEPT: percent_encoding::AsciiSet =
            percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
        percent_encoding::utf8_percent_encode(text, &KEPT).to_string()
    };
    let time = part("q-sign-time");
    let parameters: Vec<_> =
        parameters(request).into_iter().map(|(name, value)| (encoded(&name).to_lowercase(), encoded(&value))).collect();
    let headers = part("q-header-list").split(';').filter(|name| !name.is_empty());
    let headers: Vec<_> = headers.map(|name| (name.to_owned(), encoded(request.header(name)))).collect();
    let joined = |pairs: &[(String, String)]| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    };
    let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let http = format!(
        "{}\n{}\n{}\n{}\n",
        request.method.as_str().to_lowercase(),
        decoded(&request.path),
        joined(&parameters),
        joined(&headers)
    );
    let text = format!("sha1\n{time}\n{}\n", hex::encode(Sha1::digest(http)));
    let key = hex::encode(hmac_sha1(SECRET.as_bytes(), time));
    let signature = hex::encode(hmac_sha1(key.as_bytes(), &text));
    format!(
        "q-sign-algorithm=sha1&q-ak={ACCESS}&q-sign-time={time}&q-key-time={time}&q-header-list={}&q-url-param-list={}\
         &q-signature={signature}",
        names(&headers),
        names(&parameters)
    )
}

/// OSS with one bucket. A server finds it by `HTTPS_PROXY`, and trusts it by `SSL_CERT_FILE`.
pub fn oss(bucket: &str, region: &str) -> Proxy {
    cloud(bucket, format!("{bucket}.oss-{region}.aliyuncs.com"), "x-oss-forbid-overwrite", oss_signature)
}

/// COS with one bucket, likewise.
pub fn cos(bucket: &str, region: &str) -> Proxy {
    cloud(bucket, format!("{bucket}.cos.{region}.myqcloud.com"), "x-cos-forbid-overwrite", cos_signature)
}

fn cloud(bucket: &str, host: String, once: &'static str, signature: fn(&Request, &str) -> String) -> Proxy {
    let (bucket, objects) = (bucket.to_owned(), Mutex::new(BTreeMap::<String, Bytes>::new()));
    Proxy::alone(&[&host.clone()], move |request| {
        let mut objects = objects.lock().unwrap();
        if request.host != host {
            return said(404, "NoSuchBucket", "The specified bucket does not exist.");
        }
        if request.header("authorization") != signature(request, &bucket) {
            return said(403, "SignatureDoesNotMatch", "The signature does not match.");
        }
        let key = decoded(request.path.trim_start_matches('/'));
        let Some(found) = objects.get(&key).cloned() else {
            return match request.method {
                Method::PUT => {
                    objects.insert(key, request.body.clone());
                    bytes(200, Bytes::new())
                }
                Method::GET if key.is_empty() => list(request, &objects),
                Method::DELETE => bytes(204, Bytes::new()),
                _ => said(404, "NoSuchKey", "The specified key does not exist."),
            };
        };
        match request.method {
            Method::PUT if request.header(once) == "true" => said(409, "FileAlreadyExists", "The object exists."),
            Method::PUT => {
                objects.insert(key, request.body.clone());
                bytes(200, Bytes::new())
            }
            Method::HEAD => bytes(200, found),
            Method::DELETE => {
                objects.remove(&key);
                bytes(204, Bytes::new())
            }
            _ => match request.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-')) {
                Some((from, to)) => {
                    let from = from.parse::<usize>().unwrap();
                    let to = to.parse::<usize>().map_or(found.len(), |last| found.len().min(last + 1));
                    let part = bytes(206, found.slice(from..to));
                    let (mut parts, body) = part.into_parts();
                    let range = format!("bytes {from}-{}/{}", to - 1, found.len());
                    parts.headers.insert("content-range", range.parse().unwrap());
                    Response::from_parts(parts, body)
                }
                None => bytes(200, found),
            },
        }
    })
}

fn bytes(status: u16, body: Bytes) -> Response<Body> {
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    let response = response.header("etag", "\"etag\"").header("last-modified", "Sat, 21 Nov 2026 13:00:00 GMT");
    response.header("content-length", body.len()).body(Body::from(body)).unwrap()
}

fn said(status: u16, code: &str, message: &str) -> Response<Body> {
    let xml = format!("<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>");
    bytes(status, xml.into())
}

/// All keys below a prefix, those behind a further slash as folders, on one page.
fn list(request: &Request, objects: &BTreeMap<String, Bytes>) -> Response<Body> {
    let prefix = request.parameter("prefix").unwrap_or_default();
    let slashes = request.parameter("delimiter").is_some();
    let mut folders = std::collections::BTreeSet::new();
    let mut entries = String::new();
    for (key, content) in objects {
        let Some(rest) = key.strip_prefix(&prefix) else { continue };
        match rest.split_once('/').filter(|_| slashes) {
            Some((folder, _)) => drop(folders.insert(format!("{prefix}{folder}/"))),
            None => {
                entries += &format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-11-21T13:00:00.000Z</LastModified><ETag>\"etag\"\
                     </ETag><Size>{}</Size></Contents>",
                    content.len()
                );
            }
        }
    }
    entries.extend(folders.iter().map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>")));
    let xml = format!(
        "<ListBucketResult><Name>b</Name><Prefix>{prefix}</Prefix><Marker></Marker><MaxKeys>1000</MaxKeys>\
         <IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    );
    bytes(200, xml.into())
}
