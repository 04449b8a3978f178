//! The URI of a storage, as BR takes it, and what it is as a location with StarRocks' properties.
//!
//! ```text
//! local:///DIR, file:///DIR, /DIR
//! s3://BUCKET/PREFIX?access-key=…&secret-access-key=…&endpoint=…&region=…
//! gcs://BUCKET/PREFIX?credentials-file=…          gs:// is the same; credentials-blob is what is in such a file
//! azure://CONTAINER/PREFIX?account-name=…&account-key=…    azblob:// is the same
//! hdfs://HOST:PORT/PREFIX?username=…
//! ```
//!
//! As in BR, `+` means itself, parameters are known in any case and with `_` for `-`, and unknown ones are ignored. Those
//! that would change how files are stored, and are not done here, are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::layout::Layout;
use crate::error::{Error, Result};
use crate::types::StoreProperties;

/// Where a backup is.
#[derive(Clone, PartialEq, Eq)]
pub struct Storage {
    /// `file:///DIR`, `s3://BUCKET/PREFIX` and so on, without secrets.
    pub location: String,
    /// Credentials and options.
    pub properties: StoreProperties,
    /// How TiKV names files there.
    pub layout: Layout,
    /// The file of a Google service account, whose key belongs to the properties.
    pub credentials_file: Option<String>,
    /// The URI for people: without its parameters.
    pub shown: String,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Parameters by their names, in lower case.
struct Parameters {
    scheme: String,
    values: BTreeMap<String, String>,
}

impl Parameters {
    fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name).filter(|value| !value.is_empty())
    }

    /// As Go reads it; what is no boolean is ignored.
    fn flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name)?.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }

    /// Names a parameter that asks for what is not done.
    fn refuse(&self, names: &[&str]) -> Result<()> {
        match names.iter().find(|name| self.values.get(**name).is_some_and(|value| !value.is_empty())) {
            Some(name) => Err(Error::Unsupported(format!("parameter '{name}' of a storage on {}://", self.scheme))),
            None => Ok(()),
        }
    }

    /// The endpoint, which must be a URL.
    fn endpoint(&mut self) -> Result<Option<String>> {
        let Some(endpoint) = self.take("endpoint") else { return Ok(None) };
        let Some((scheme, host)) = endpoint.split_once("://") else {
            return invalid("scheme not found in endpoint");
        };
        if !matches!(scheme, "http" | "https") {
            return invalid(&format!("scheme {scheme} of the endpoint is neither http nor https"));
        }
        if host.trim_matches('/').is_empty() {
            return invalid("host not found in endpoint");
        }
        Ok(Some(endpoint))
    }
}

fn invalid<T>(message: &str) -> Result<T> {
    let code = "[BR:ExternalStorage:ErrStorageInvalidConfig]invalid external storage config";
    Err(Error::Analysis(format!("{message}: {code}")))
}

/// Whether what stands before an `@` is a user and perhaps a password, and not a host and the beginning of a path.
fn is_user(text: &str) -> bool {
    let (authority, rest) = text.split_once('/').unwrap_or((text, ""));
    let port = |after: &str| !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit());
    match authority.split_once(':') {
        // A password may have a slash in it.
        Some((_, after)) => !port(after) || rest.is_empty() && !text.contains('/'),
        None => !text.contains('/'),
    }
}

fn unescaped(text: &str) -> Result<String> {
    match percent_encoding::percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => invalid("the storage's URI is not UTF-8"),
    }
}

impl Storage {
    /// Takes a URI apart. Asks nobody.
    pub fn parse(uri: &str) -> Result<Self> {
        if uri.is_empty() {
            return invalid("empty store is not allowed");
        }
        let Some((scheme, rest)) = uri.split_once("://") else { return Self::local("local", uri.to_owned()) };
        let scheme = scheme.to_ascii_lowercase();
        let scheme = scheme.as_str();
        if !matches!(scheme, "local" | "file" | "s3" | "gs" | "gcs" | "azure" | "azblob" | "hdfs") {
            return invalid(&format!("storage {scheme} not support yet"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut values = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.insert(unescaped(name)?.to_lowercase().replace('_', "-"), unescaped(value)?);
        }
        let mut parameters = Parameters { scheme: scheme.to_owned(), values };
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let path = unescaped(path)?;
        if let Some((_, host)) = place.rsplit_once('@').filter(|(user, _)| is_user(user)) {
            return invalid(&format!(
                "{scheme}://***@{host} has a user in it; credentials are parameters, as in ?access-key=…"
            ));
        }
        let shown = format!("{scheme}://{authority}/{path}");
        let folder = path.trim_matches('/');
        if folder.split('/').any(|part| part == "..") {
            return invalid(&format!("'{shown}' has '..' in it"));
        }
        let of_bucket = |named: &str, properties, credentials_file| Self {
            location: format!("{named}://{authority}/{folder}"),
            properties: StoreProperties(properties),
            layout: Layout::of_scheme(scheme),
            credentials_file,
            shown: shown.clone(),
        };
        if !matches!(scheme, "local" | "file") && authority.is_empty() {
            return invalid(&format!("please specify the bucket for {scheme} in {shown}"));
        }
        Ok(match scheme {
            "local" | "file" if authority.is_empty() => return Self::local(scheme, format!("/{path}")),
            "local" | "file" => {
                return invalid(&format!("'{shown}' names a host; write {scheme}:///DIR, or the directory alone"));
            }
            "s3" => of_bucket("s3", s3(&mut parameters)?, None),
            "gs" | "gcs" => {
                let blob = parameters.take("credentials-blob");
                let (properties, file) = gcs(&mut parameters, blob.is_some())?;
                let mut storage = of_bucket("gs", properties, file);
                blob.map_or(Ok(()), |blob| storage.add_credentials(blob.as_bytes()))?;
                storage
            }
            "azure" | "azblob" => {
                let (account, properties) = azure(&mut parameters)?;
                Self {
                    location: format!("abfss://{authority}@{account}.dfs.core.windows.net/{folder}"),
                    ..of_bucket("abfss", properties, None)
                }
            }
            _ => {
                let user = parameters.take("username").map(|user| ("username".to_owned(), user));
                of_bucket("hdfs", user.into_iter().collect(), None)
            }
        })
    }

    fn local(scheme: &str, path: String) -> Result<Self> {
        if !path.starts_with('/') {
            // It may be a URI with a typo in it, and secrets.
            let path = path.split('?').next().unwrap_or_default();
            let path = path.rsplit_once('@').map_or_else(|| path.to_owned(), |(_, host)| format!("***@{host}"));
            return invalid(&format!("'{path}' is not an absolute path; a server has no directory of its clients"));
        }
        if path.split('/').any(|part| part == "..") {
            return invalid(&format!("'{path}' has '..' in it"));
        }
        Ok(Self {
            location: format!("file://{path}"),
            properties: StoreProperties::default(),
            layout: Layout::of_scheme(scheme),
            credentials_file: None,
            shown: format!("{scheme}://{path}"),
        })
    }

    /// Whether the URI names no credentials, so that each server takes those of its environment.
    pub fn has_default_credentials(&self) -> bool {
        self.properties.contains_key(DEFAULT_CREDENTIALS)
    }

    /// Reads a file of a service account, which may be anything. Blocks.
    pub fn read_credentials(path: &Path) -> Result<Vec<u8>> {
        const MOST: u64 = 64 << 10;
        let refused = |what: String| Error::Refused(format!("credentials file {}: {what}", path.display()));
        let metadata = std::fs::metadata(path).map_err(|err| refused(err.to_string()))?;
        if !metadata.is_file() || metadata.len() > MOST {
            return Err(refused("it is no file, or too long for one".into()));
        }
        std::fs::read(path).map_err(|err| refused(err.to_string()))
    }

    /// Adds what the file of a service account says.
    pub fn add_credentials(&mut self, content: &[u8]) -> Result<()> {
        let fields: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(content) {
            Ok(fields) => fields,
            Err(_) => return invalid("the credentials are not JSON"),
        };
        for (field, key) in
            [("client_email", "gcp.gcs.service_account_email"), ("private_key", "gcp.gcs.service_account_private_key")]
        {
            let Some(value) = fields.get(field).and_then(|value| value.as_str()) else {
                return invalid(&format!(
                    "the credentials have no {field}; they must be what is in the file of a service account"
                ));
            };
            self.properties.insert(key.into(), value.into());
        }
        Ok(())
    }
}

type Properties = BTreeMap<String, String>;

const DEFAULT_CREDENTIALS: &str = "aws.s3.use_aws_sdk_default_behavior";

fn s3(parameters: &mut Parameters) -> Result<Properties> {
    parameters.refuse(&["profile"])?;
    let mut properties = Properties::new();
    let mut set = |key: &str, value: Option<String>| value.map(|value| properties.insert(key.into(), value));
    let (access, secret) = (parameters.take("access-key"), parameters.take("secret-access-key"));
    match (&access, &secret) {
        (None, Some(_)) => return invalid("access_key not found"),
        (Some(_), None) => return invalid("secret_access_key not found"),
        (None, None) => drop(set(DEFAULT_CREDENTIALS, Some("true".into()))),
        (Some(_), Some(_)) => {}
    }
    set("aws.s3.access_key", access);
    set("aws.s3.secret_key", secret);
    set("aws.s3.session_token", parameters.take("session-token"));
    set("aws.s3.endpoint", parameters.endpoint()?);
    set("aws.s3.region", parameters.take("region"));
    set("aws.s3.iam_role_arn", parameters.take("role-arn"));
    set("aws.s3.external_id", parameters.take("external-id"));
    set("aws.s3.storage_class", parameters.take("storage-class"));
    set("aws.s3.sse", parameters.take("sse"));
    set("aws.s3.sse_kms_key_id", parameters.take("sse-kms-key-id"));
    set("aws.s3.acl", parameters.take("acl"));
    let provider = parameters.take("provider").unwrap_or_default();
    let virtual_host = matches!(provider.as_str(), "alibaba" | "netease")
        || parameters.flag("use-accelerate-endpoint") == Some(true)
        || parameters.flag("force-path-style") == Some(false);
    set("aws.s3.enable_path_style_access", Some((!virtual_host).to_string()));
    Ok(properties)
}

/// The properties, and the file of credentials; `known` if those are there already.
fn gcs(parameters: &mut Parameters, known: bool) -> Result<(Properties, Option<String>)> {
    let mut properties = Properties::new();
    for (key, parameter) in [("gcp.gcs.storage_class", "storage-class"), ("gcp.gcs.predefined_acl", "predefined-acl")] {
        properties.extend(parameters.take(parameter).map(|value| (key.to_owned(), value)));
    }
    let endpoint = parameters.endpoint()?;
    let file = parameters.take("credentials-file");
    if file.is_none() && endpoint.is_none() && !known {
        properties.insert("gcp.gcs.use_compute_engine_service_account".into(), "true".into());
    }
    properties.extend(endpoint.map(|endpoint| ("gcp.gcs.endpoint".into(), endpoint)));
    Ok((properties, file))
}

/// The account, and the properties.
fn azure(parameters: &mut Parameters) -> Result<(String, Properties)> {
    parameters.refuse(&["access-tier", "encryption-scope", "encryption-key"])?;
    let Some(account) = parameters.take("account-name") else { return invalid("account-name not found") };
    let (key, token) = (parameters.take("account-key"), parameters.take("sas-token"));
    if key.is_none() && token.is_none() {
        return invalid("neither account-key nor sas-token found");
    }
    let values = [
        ("azure.blob.shared_key", key),
        ("azure.blob.sas_token", token),
        ("azure.blob.endpoint", parameters.endpoint()?),
    ];
    let given = values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Ok((account, given.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(uri: &str) -> String {
        Storage::parse(uri).unwrap_err().report()
    }

    fn properties(uri: &str) -> Vec<(String, String)> {
        Storage::parse(uri).unwrap().properties.0.into_iter().collect()
    }

    #[test]
    fn a_storage_is_a_location_with_properties() {
        for (uri, location, layout) in [
            ("local:///a/b", "file:///a/b", Layout::Folders),
            ("file:///a%20b?access-key=x", "file:///a b", Layout::Folders),
            ("local:///a+b", "file:///a+b", Layout::Folders),
            ("/a%20b", "file:///a%20b", Layout::Folders),
            ("s3://b/a+b/c/", "s3://b/a+b/c", Layout::Folders),
            ("s3://b", "s3://b/", Layout::Folders),
            ("gcs://b/x", "gs://b/x", Layout::Flat),
            ("azblob://c/x?account-name=a&account-key=aGk%3D", "abfss://c@a.dfs.core.windows.net/x", Layout::Flat),
            ("hdfs://n:9000/x", "hdfs://n:9000/x", Layout::Flat),
            ("hdfs://n:9000/a@b", "hdfs://n:9000/a@b", Layout::Flat),
            ("local:///a:b@c", "file:///a:b@c", Layout::Folders),
        ] {
            let storage = Storage::parse(uri).unwrap();
            assert_eq!((storage.location.as_str(), storage.layout), (location, layout), "{uri}");
            assert!(!storage.shown.contains('?') && !format!("{storage:?}").contains("key"), "{storage:?}");
        }
    }

    #[test]
    fn parameters_are_those_of_br() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let s3 = "s3://b/x?Access_Key=AK+1&secret-access-key=S%2FK&endpoint=http://h:9000&unknown=1&region=r";
        let path_style = "aws.s3.enable_path_style_access";
        let expected = [
            pair("aws.s3.access_key", "AK+1"),
            pair(path_style, "true"),
            pair("aws.s3.endpoint", "http://h:9000"),
            pair("aws.s3.region", "r"),
            pair("aws.s3.secret_key", "S/K"),
        ];
        assert_eq!(properties(s3), expected);
        for more in ["provider=alibaba", "force-path-style=false", "use_accelerate_endpoint=T"] {
            assert!(properties(&format!("{s3}&{more}")).contains(&pair(path_style, "false")), "{more}");
        }
        assert!(properties(&format!("{s3}&force-path-style=no")).contains(&pair(path_style, "true")));
        assert!(properties("s3://b").contains(&pair("aws.s3.use_aws_sdk_default_behavior", "true")));
        assert_eq!(properties("gs://b?endpoint=http://h"), [pair("gcp.gcs.endpoint", "http://h")]);

        let kept = "s3://b?sse=aws:kms&sse-kms-key-id=k&storage-class=STANDARD_IA&acl=private";
        for (key, value) in [
            ("aws.s3.sse", "aws:kms"),
            ("aws.s3.sse_kms_key_id", "k"),
            ("aws.s3.storage_class", "STANDARD_IA"),
            ("aws.s3.acl", "private"),
        ] {
            assert!(properties(kept).contains(&pair(key, value)), "{key}");
        }
        let gcs = properties("gs://b?endpoint=http://h&storage-class=NEARLINE&predefined-acl=private");
        assert!(gcs.contains(&pair("gcp.gcs.storage_class", "NEARLINE")), "{gcs:?}");
        assert!(gcs.contains(&pair("gcp.gcs.predefined_acl", "private")), "{gcs:?}");

        let mut account = Storage::parse("gcs://b?credentials-file=/k.json").unwrap();
        assert_eq!(account.credentials_file.as_deref(), Some("/k.json"));
        account.add_credentials(br#"{"client_email": "e", "private_key": "k", "type": "service_account"}"#).unwrap();
        assert_eq!(account.properties.get("gcp.gcs.service_account_private_key").unwrap(), "k");
        assert!(account.add_credentials(b"{}").unwrap_err().report().contains("no client_email"));
        let blob = r#"gcs://b?credentials-blob={"client_email":"e","private_key":"hunter2"}"#;
        assert!(properties(blob).contains(&pair("gcp.gcs.service_account_private_key", "hunter2")));
        assert!(!error(&blob.replace('{', "")).contains("hunter2"));
    }

    #[test]
    fn what_is_wrong_is_said_as_in_br() {
        for (uri, expected) in [
            ("", "empty store is not allowed"),
            ("noop://x", "storage noop not support yet"),
            ("s3:///x", "please specify the bucket for s3 in s3:///x"),
            ("s3://b?secret-access-key=hunter2", "access_key not found"),
            ("s3://b?access-key=a", "secret_access_key not found"),
            ("s3://b?endpoint=h", "scheme not found in endpoint"),
            ("s3://b?endpoint=http://", "host not found in endpoint"),
            ("azure://c", "account-name not found"),
            ("local://a/b", "names a host; write local:///DIR"),
            ("a/b", "is not an absolute path"),
            ("s3://b/../c", "has '..' in it"),
            ("local:///%ff", "is not UTF-8"),
            ("noop://", "storage noop not support yet"),
            ("s3:/b/x?secret-access-key=hunter2", "'s3:/b/x' is not an absolute path"),
            ("s3:/AK:hunter2@b/x", "'***@b/x' is not an absolute path"),
            ("s3://AK:hunter2@b/../x", "s3://***@b/../x has a user in it"),
            ("s3://AK:hunter2/hunter2@b/x", "s3://***@b/x has a user in it"),
            ("local://u:hunter2@h/x", "local://***@h/x has a user in it"),
            ("hdfs://hunter2@h:9000/x", "hdfs://***@h:9000/x has a user in it"),
        ] {
            let error = error(uri);
            assert!(
                error.contains(expected) && error.contains("BR:ExternalStorage:ErrStorageInvalidConfig"),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(error("s3://b?profile=p").contains("parameter 'profile'"));
        assert!(error("azure://c?access-tier=Cool").contains("parameter 'access-tier'"));
    }
}
