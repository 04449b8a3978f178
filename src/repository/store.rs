//! From a location and StarRocks' properties to an OpenDAL operator: one table of keys for all stores.
//!
//! [`KEYS`] is the whole of what is known about a key: the stores that take it and what it sets. Two spellings of one
//! setting may both be given if they agree. Keys that other systems need and Holdfast does not are answered with a
//! warning; unknown ones are an error that names the nearest.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, Once, PoisonError};
use std::time::Duration;

use http::StatusCode;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{ErrorKind, HttpBody, HttpTransport, HttpTransporter, Operator, services};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqsign_google::{ServiceAccount, ServiceAccountTokenCredentialProvider};

use self::Family::*;
use self::Setting::*;
use crate::error::{Error, Result};
use crate::repository::failure;
use crate::types::StoreProperties;

/// How long a small request may take before it counts as lost.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one PUT of a whole object may take. A connection that takes no bytes is given up long before.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(900);

/// Repetitions of a request that may pass, before the caller decides.
const RETRIES: usize = 4;

/// The same where somebody waits for the answer: about a second, pauses included.
const HASTY_RETRIES: usize = 2;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Stores that take the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    S3,
    Gcs,
    Oss,
    Cos,
    Azure,
    Hdfs,
}

/// What a key sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Setting {
    AccessKey,
    SecretKey,
    SessionToken,
    Endpoint,
    Region,
    /// true or false.
    Tls,
    /// true or false.
    PathStyle,
    /// true or false: credentials of the machine.
    InstanceProfile,
    /// true or false: credentials from wherever the cloud's own tools would take them.
    DefaultCredentials,
    Role,
    ExternalId,
    /// How the store keeps what is written.
    StorageClass,
    /// By which it encrypts it.
    Encryption,
    EncryptionKey,
    /// Who may read it.
    Acl,
    Account,
    Container,
    SasToken,
    Email,
    PrivateKey,
    User,
    /// simple, or refused.
    Authentication,
    /// It means nothing here, and no harm.
    Nothing,
    /// It would mean something that is not done; refused.
    Refused,
}

/// All keys, by StarRocks' documentation of its repositories and catalogs.
const KEYS: &[(&str, Family, Setting)] = &[
    ("aws.s3.access_key", S3, AccessKey),
    ("aws.s3.secret_key", S3, SecretKey),
    ("aws.s3.session_token", S3, SessionToken),
    ("aws.s3.endpoint", S3, Endpoint),
    ("aws.s3.region", S3, Region),
    ("aws.s3.enable_ssl", S3, Tls),
    ("aws.s3.enable_path_style_access", S3, PathStyle),
    ("aws.s3.use_instance_profile", S3, InstanceProfile),
    ("aws.s3.use_aws_sdk_default_behavior", S3, DefaultCredentials),
    ("aws.s3.iam_role_arn", S3, Role),
    ("aws.s3.external_id", S3, ExternalId),
    ("aws.s3.storage_class", S3, StorageClass),
    ("aws.s3.sse", S3, Encryption),
    ("aws.s3.sse_kms_key_id", S3, EncryptionKey),
    ("aws.s3.acl", S3, Acl),
    ("fs.s3a.access.key", S3, AccessKey),
    ("fs.s3a.secret.key", S3, SecretKey),
    ("fs.s3a.session.token", S3, SessionToken),
    ("fs.s3a.endpoint", S3, Endpoint),
    ("fs.s3a.endpoint.region", S3, Region),
    ("fs.s3a.connection.ssl.enabled", S3, Tls),
    ("fs.s3a.path.style.access", S3, PathStyle),
    ("fs.s3a.connection.maximum", S3, Nothing),
    ("fs.s3a.aws.credentials.provider", S3, Nothing),
    ("fs.s3a.impl.disable.cache", S3, Nothing),
    ("gcp.gcs.endpoint", Gcs, Endpoint),
    ("gcp.gcs.service_account_email", Gcs, Email),
    ("gcp.gcs.service_account_private_key_id", Gcs, Nothing),
    ("gcp.gcs.service_account_private_key", Gcs, PrivateKey),
    ("gcp.gcs.use_compute_engine_service_account", Gcs, InstanceProfile),
    ("gcp.gcs.impersonation_service_account", Gcs, Refused),
    ("gcp.gcs.storage_class", Gcs, StorageClass),
    ("gcp.gcs.predefined_acl", Gcs, Acl),
    ("fs.oss.accessKeyId", Oss, AccessKey),
    ("fs.oss.accessKeySecret", Oss, SecretKey),
    ("fs.oss.securityToken", Oss, SessionToken),
    ("fs.oss.endpoint", Oss, Endpoint),
    ("fs.oss.connection.secure.enabled", Oss, Tls),
    ("fs.oss.impl.disable.cache", Oss, Nothing),
    ("aliyun.oss.access_key", Oss, AccessKey),
    ("aliyun.oss.secret_key", Oss, SecretKey),
    ("aliyun.oss.endpoint", Oss, Endpoint),
    ("fs.cosn.userinfo.secretId", Cos, AccessKey),
    ("fs.cosn.userinfo.secretKey", Cos, SecretKey),
    ("fs.cosn.userinfo.sessionToken", Cos, SessionToken),
    ("fs.cosn.bucket.endpoint_suffix", Cos, Endpoint),
    ("fs.cos.connection.ssl.enabled", Cos, Tls),
    ("fs.cosn.impl.disable.cache", Cos, Nothing),
    ("azure.blob.storage_account", Azure, Account),
    ("azure.blob.container", Azure, Container),
    ("azure.blob.endpoint", Azure, Endpoint),
    ("azure.blob.shared_key", Azure, SecretKey),
    ("azure.blob.sas_token", Azure, SasToken),
    ("azure.adls2.storage_account", Azure, Account),
    ("azure.adls2.endpoint", Azure, Endpoint),
    ("azure.adls2.shared_key", Azure, SecretKey),
    ("azure.adls2.sas_token", Azure, SasToken),
    ("azure.adls2.oauth2_use_managed_identity", Azure, Refused),
    ("azure.adls2.oauth2_tenant_id", Azure, Refused),
    ("azure.adls2.oauth2_client_id", Azure, Refused),
    ("azure.adls2.oauth2_client_secret", Azure, Refused),
    ("azure.adls2.oauth2_client_endpoint", Azure, Refused),
    ("username", Hdfs, User),
    ("password", Hdfs, Nothing),
    ("hadoop.security.authentication", Hdfs, Authentication),
    ("fs.defaultFS", Hdfs, Nothing),
    ("fs.hdfs.impl.disable.cache", Hdfs, Nothing),
    ("kerberos_principal", Hdfs, Refused),
    ("kerberos_keytab", Hdfs, Refused),
    ("kerberos_keytab_content", Hdfs, Refused),
    ("dfs.nameservices", Hdfs, Refused),
];

/// Schemes of StarRocks that are refused, and what to do instead.
const REFUSED_SCHEMES: &[(&str, &str)] = &[
    ("obs", "write s3a:// with aws.s3.endpoint = \"obs.<region>.myhuaweicloud.com\""),
    ("ks3", "write s3a:// with aws.s3.endpoint = \"ks3-<region>.ksyuncs.com\""),
    ("tos", "write s3a:// with aws.s3.endpoint = \"tos-s3-<region>.volces.com\""),
    ("viewfs", "write hdfs:// and the name node that holds the directory"),
    ("adl", "Azure has ended it; write abfss://"),
];

/// Where a repository is, ready for requests.
#[derive(Debug, Clone)]
pub struct Place {
    /// For documents and reads.
    pub operator: Operator,
    /// For PUTs of whole objects.
    pub uploads: Operator,
    /// For those who want to know soon what is wrong.
    pub hasty: Operator,
    /// The location's folder in them, without slashes at its ends.
    pub folder: String,
    /// What stands before a path in messages: "/" or `s3://bucket/`.
    pub prefix: String,
    /// What to set if [`is_no_tls`](super::failure::is_no_tls).
    pub without_tls: Option<String>,
    /// Where the operator's `/` is on this machine's disks, if it is.
    pub disk: Option<PathBuf>,
}

/// A location cut into its parts.
struct Location<'a> {
    text: &'a str,
    scheme: &'a str,
    /// Bucket, or container and account, or name node.
    authority: &'a str,
    folder: &'a str,
}

impl<'a> Location<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let is_scheme =
            |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)).ok_or_else(|| {
            // There may be a password before an @.
            let shown = if text.contains('@') { "…" } else { text };
            Error::Analysis(format!("location '{shown}' has no scheme; write for example \"file:///backups\""))
        })?;
        if scheme == "file" {
            return Ok(Self { text, scheme, authority: "", folder: rest });
        }
        if rest.contains(['?', '#']) {
            return Err(Error::Analysis(format!(
                "location '{scheme}://…' has a query; give credentials as PROPERTIES"
            )));
        }
        let (authority, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let location = Self { text, scheme, authority, folder: folder.trim_matches('/') };
        location.family()?;
        let may_have_user = matches!(scheme, "abfs" | "abfss" | "wasb" | "wasbs");
        if authority.is_empty() || authority.contains('@') && (!may_have_user || authority.contains(':')) {
            return Err(Error::Analysis(format!(
                "location '{scheme}://…' names no bucket, or a user; give credentials as PROPERTIES"
            )));
        }
        if folder.split('/').any(|part| part == "..") {
            return Err(Error::Analysis(format!("location '{text}' has '..' in it")));
        }
        Ok(location)
    }

    /// The folder without what a path may have in it for nothing, as in `/a//b/./c`: a store would not list files by it.
    fn plain_folder(&self) -> String {
        self.folder.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
    }

    fn family(&self) -> Result<Option<Family>> {
        Ok(Some(match self.scheme {
            "file" => return Ok(None),
            "s3" | "s3a" | "s3n" => S3,
            "gs" => Gcs,
            "oss" => Oss,
            "cos" | "cosn" => Cos,
            "abfs" | "abfss" | "wasb" | "wasbs" => Azure,
            "hdfs" | "webhdfs" | "swebhdfs" => Hdfs,
            scheme => {
                let way = REFUSED_SCHEMES.iter().find(|(refused, _)| *refused == scheme);
                let way =
                    way.map_or("write s3://, gs://, oss://, cosn://, abfss://, hdfs:// or file://", |(_, way)| way);
                return Err(Error::Unsupported(format!("repositories on {scheme}://: {way}")));
            }
        }))
    }

    fn missing(&self, keys: &str) -> Error {
        Error::Analysis(format!("location '{}' needs the properties {keys}", self.text))
    }
}

/// Settings by meaning, each with the key that gave it.
struct Settings(BTreeMap<Setting, (&'static str, String)>);

impl Settings {
    /// Looks every property up. Returns warnings too.
    fn read(
        location: &Location<'_>,
        family: Option<Family>,
        properties: &StoreProperties,
    ) -> Result<(Self, Vec<String>)> {
        let mut settings = BTreeMap::new();
        let mut warnings = Vec::new();
        for (key, value) in properties.iter() {
            let value = value.trim();
            let Some((known, of, setting)) = known(key) else { return Err(unknown(key, family)) };
            if Some(*of) != family {
                return Err(Error::Analysis(format!(
                    "property '{key}' is not for {}://{}",
                    location.scheme,
                    nearest(key, family)
                )));
            }
            match setting {
                Refused => {
                    let instead = match family {
                        Some(Azure) => "give a shared key or a SAS token",
                        Some(Gcs) => "give the service account's own key",
                        _ => "simple authentication with one name node is supported",
                    };
                    return Err(Error::Unsupported(format!("property '{key}': {instead}")));
                }
                Nothing => warnings.push(format!("property '{key}' has no meaning here and is ignored")),
                _ if value.is_empty() => {}
                setting => {
                    let value = match (setting, value.to_ascii_lowercase()) {
                        (Tls | PathStyle | InstanceProfile | DefaultCredentials, lower) => {
                            if !matches!(lower.as_str(), "true" | "false") {
                                return Err(Error::Analysis(format!("property '{key}' must be true or false")));
                            }
                            lower
                        }
                        (Authentication, lower) if lower != "simple" => {
                            let text = format!("property '{key}' = '{value}'; simple authentication is supported");
                            return Err(Error::Unsupported(text));
                        }
                        _ => value.to_owned(),
                    };
                    if let Some((other, earlier)) = settings.insert(*setting, (*known, value.clone()))
                        && earlier != value
                    {
                        return Err(Error::Analysis(format!("properties '{other}' and '{key}' contradict each other")));
                    }
                }
            }
        }
        Ok((Self(settings), warnings))
    }

    fn get(&self, setting: Setting) -> Option<&str> {
        self.0.get(&setting).map(|(_, value)| value.as_str())
    }

    fn is(&self, setting: Setting) -> Option<bool> {
        self.get(setting).map(|value| value == "true")
    }

    fn key(&self, setting: Setting) -> &'static str {
        self.0.get(&setting).map_or("", |(key, _)| key)
    }

    /// Two settings that only make sense together.
    fn both(&self, one: Setting, other: Setting) -> Result<Option<(&str, &str)>> {
        match (self.get(one), self.get(other)) {
            (Some(one), Some(other)) => Ok(Some((one, other))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::Analysis(format!("property '{}' needs its other half", self.key(one)))),
            (None, Some(_)) => Err(Error::Analysis(format!("property '{}' needs its other half", self.key(other)))),
        }
    }

    /// The endpoint as a URL without a slash at its end.
    fn endpoint(&self) -> Result<Option<String>> {
        let Some(endpoint) = self.get(Endpoint) else { return Ok(None) };
        let endpoint = endpoint.trim_end_matches('/');
        let tls = self.is(Tls);
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => {
                if tls.is_some_and(|tls| tls != (scheme == "https")) {
                    let (endpoint, tls) = (self.key(Endpoint), self.key(Tls));
                    return Err(Error::Analysis(format!("properties '{endpoint}' and '{tls}' contradict each other")));
                }
                (scheme, rest)
            }
            Some(_) => {
                let key = self.key(Endpoint);
                return Err(Error::Analysis(format!("property '{key}' is not a host, an http:// or an https:// URL")));
            }
            None => (if tls == Some(false) { "http" } else { "https" }, endpoint),
        };
        if rest.is_empty() || rest.contains(['@', '?', '#', ' ']) {
            let key = self.key(Endpoint);
            return Err(Error::Analysis(format!("property '{key}' is not a host, an http:// or an https:// URL")));
        }
        Ok(Some(format!("{scheme}://{rest}")))
    }

    /// What to set to reach the endpoint without TLS, if it would be reached with it.
    fn without_tls(&self) -> Result<Option<String>> {
        let endpoint = self.endpoint()?;
        let Some(host) = endpoint.as_deref().and_then(|url| url.strip_prefix("https://")) else { return Ok(None) };
        let tls = self.is(Tls).map(|_| format!(" and '{}' = 'false'", self.key(Tls))).unwrap_or_default();
        Ok(Some(format!("if it speaks plain HTTP, set '{}' = 'http://{host}'{tls}", self.key(Endpoint))))
    }
}

fn known(key: &str) -> Option<&'static (&'static str, Family, Setting)> {
    KEYS.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(key))
}

fn unknown(key: &str, family: Option<Family>) -> Error {
    Error::Analysis(format!("unknown repository property '{key}'{}", nearest(key, family)))
}

fn nearest(key: &str, family: Option<Family>) -> String {
    if family.is_none() {
        return "; file:// takes none".into();
    }
    let likeness = |known: &str| strsim::jaro_winkler(&key.to_ascii_lowercase(), &known.to_ascii_lowercase());
    let names = KEYS.iter().filter(|(_, of, _)| Some(*of) == family).map(|(name, _, _)| *name);
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.map(|known| format!("; the nearest is '{known}'")).unwrap_or_default()
}

/// What a location with its properties would be warned of; errors are about their form. Asks nobody.
pub fn check(location: &str, properties: &StoreProperties) -> Result<Vec<String>> {
    let parsed = Location::parse(location)?;
    let (_, warnings) = Settings::read(&parsed, parsed.family()?, properties)?;
    Ok(warnings)
}

/// Properties changed by others: each takes the place of all that set the same, an empty one takes them away.
pub fn merge<'a>(old: &StoreProperties, changes: impl Iterator<Item = &'a (String, String)>) -> StoreProperties {
    let meaning = |key: &str| {
        known(key).map(|(_, family, setting)| (*family, *setting)).filter(|(_, setting)| *setting != Nothing)
    };
    let mut merged = old.clone();
    for (key, value) in changes {
        let means = meaning(key);
        merged.retain(|other, _| other != key && (means.is_none() || meaning(other) != means));
        if !value.trim().is_empty() {
            merged.insert(key.clone(), value.clone());
        }
    }
    merged
}

/// Places that are open: they keep connections, and credentials that were asked for.
static OPEN: LazyLock<Mutex<HashMap<(String, StoreProperties), Place>>> = LazyLock::new(Mutex::default);

/// Places kept open.
const MOST_OPEN: usize = 64;

/// Opens a location without asking anybody. Errors are about its form and that of its properties.
pub fn open(location: &str, properties: &StoreProperties) -> Result<Place> {
    let key = (location.to_owned(), properties.clone());
    let opened = OPEN.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    if let Some(place) = opened {
        return Ok(place);
    }
    let place = open_new(location, properties)?;
    if place.disk.is_none() {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MOST_OPEN {
            open.clear();
        }
        open.insert(key, place.clone());
    }
    Ok(place)
}

fn open_new(location: &str, properties: &StoreProperties) -> Result<Place> {
    let parsed = Location::parse(location)?;
    let family = parsed.family()?;
    let (settings, _) = Settings::read(&parsed, family, properties)?;
    let Some(family) = family else { return open_disk(&parsed) };
    install_transport();
    let operator = match family {
        S3 => s3(&parsed, &settings)?,
        Gcs => gcs(&parsed, &settings)?,
        Oss => oss(&parsed, &settings)?,
        Cos => cos(&parsed, &settings)?,
        Azure => azure(&parsed, &settings)?,
        Hdfs => hdfs(&parsed, &settings)?,
    };
    let layered = |timeout, retries| {
        let timeouts = TimeoutLayer::new().with_timeout(REQUEST_TIMEOUT).with_io_timeout(timeout);
        let retries = RetryLayer::new()
            .with_jitter()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_factor(3.0)
            .with_max_times(retries);
        operator.clone().layer(timeouts).layer(retries)
    };
    Ok(Place {
        operator: layered(REQUEST_TIMEOUT, RETRIES),
        uploads: layered(UPLOAD_TIMEOUT, RETRIES),
        hasty: layered(REQUEST_TIMEOUT, HASTY_RETRIES),
        folder: parsed.plain_folder(),
        prefix: format!("{}://{}/", parsed.scheme, parsed.authority),
        without_tls: settings.without_tls()?,
        disk: None,
    })
}

/// The operator's root is `/`, because OpenDAL would create a missing root, and a READ ONLY repository must never be
/// written. Nothing is retried: a failed sync must not be.
fn open_disk(location: &Location<'_>) -> Result<Place> {
    let path = std::path::Path::new(location.folder);
    let is_plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if !path.is_absolute() || !is_plain {
        return Err(Error::Analysis(format!(
            "location '{}' is not file:// and an absolute path without '..'",
            location.text
        )));
    }
    let operator = built(location, Operator::new(services::Fs::default().root("/")))?
        .layer(TimeoutLayer::new().with_timeout(REQUEST_TIMEOUT).with_io_timeout(REQUEST_TIMEOUT));
    Ok(Place {
        uploads: operator.clone(),
        hasty: operator.clone(),
        operator,
        folder: location.plain_folder(),
        prefix: "/".into(),
        without_tls: None,
        disk: Some("/".into()),
    })
}

fn built(location: &Location<'_>, operator: opendal::Result<Operator>) -> Result<Operator> {
    operator.map_err(|err| Error::Analysis(format!("location '{}': {}", location.text, err.message())))
}

fn s3(location: &Location<'_>, settings: &Settings) -> Result<Operator> {
    let bucket = location.authority;
    let endpoint = settings.endpoint()?;
    let endpoint = match (endpoint, settings.is(Tls)) {
        (None, Some(false)) => Some("http://s3.amazonaws.com".to_owned()),
        (endpoint, _) => endpoint,
    };
    let host =
        endpoint.as_deref().map_or("s3.amazonaws.com", |url| url.split_once("://").map_or(url, |(_, host)| host));
    let google = host.ends_with("storage.googleapis.com");
    let region = settings.get(Region).map(str::to_owned).or_else(|| region_of(host));
    // A cloud's own hosts want the bucket in the host's name; a server of one's own seldom has such names.
    let cloud = [
        ".amazonaws.com",
        ".amazonaws.com.cn",
        ".aliyuncs.com",
        ".ksyuncs.com",
        ".myhuaweicloud.com",
        ".myqcloud.com",
        ".volces.com",
    ];
    let path_style = settings
        .is(PathStyle)
        .unwrap_or_else(|| bucket.contains('.') || !cloud.iter().any(|suffix| host.ends_with(suffix)));
    let mut builder = services::S3::default().root("/").bucket(bucket).region(region.as_deref().unwrap_or(if google {
        "auto"
    } else {
        "us-east-1"
    }));
    if let Some(endpoint) = &endpoint {
        builder = builder.endpoint(endpoint);
    }
    if !path_style {
        builder = builder.enable_virtual_host_style();
    }
    // The store checks what arrives, which buckets with object lock insist on. All know MD5; AWS and servers of one's own
    // know what costs less.
    let foreign = google || cloud.iter().any(|suffix| host.ends_with(suffix) && !suffix.starts_with(".amazonaws."));
    builder = builder.checksum_algorithm(if foreign { "md5" } else { "crc32c" });
    type Set = fn(services::S3, &str) -> services::S3;
    let written: [(Setting, Set); 4] = [
        (StorageClass, services::S3::default_storage_class),
        (Encryption, services::S3::server_side_encryption),
        (EncryptionKey, services::S3::server_side_encryption_aws_kms_key_id),
        (Acl, services::S3::default_acl),
    ];
    for (setting, set) in written {
        if let Some(value) = settings.get(setting) {
            builder = set(builder, value);
        }
    }
    let keys = settings.both(AccessKey, SecretKey)?;
    let (machine, any) = (settings.is(InstanceProfile) == Some(true), settings.is(DefaultCredentials) == Some(true));
    match (keys, machine || any) {
        (Some(_), true) => {
            let other = settings.key(if machine { InstanceProfile } else { DefaultCredentials });
            return Err(Error::Analysis(format!("give either '{}' or '{other}'", settings.key(AccessKey))));
        }
        (Some((access, secret)), false) => {
            builder =
                builder.access_key_id(access).secret_access_key(secret).disable_config_load().disable_ec2_metadata();
            if let Some(token) = settings.get(SessionToken) {
                builder = builder.session_token(token);
            }
        }
        // Only what the statement names is used: not keys that happen to be in this process's environment.
        (None, true) if !any => builder = builder.disable_config_load(),
        (None, true) => {}
        (None, false) => {
            return Err(location.missing("aws.s3.access_key and aws.s3.secret_key, or aws.s3.use_instance_profile"));
        }
    }
    if settings.get(SessionToken).is_some() && keys.is_none() {
        let token = settings.key(SessionToken);
        return Err(Error::Analysis(format!("property '{token}' belongs to an access key and a secret key")));
    }
    if let Some(role) = settings.get(Role) {
        builder = builder.role_arn(role).role_session_name("holdfast");
        if let Some(id) = settings.get(ExternalId) {
            builder = builder.external_id(id);
        }
    } else if settings.get(ExternalId).is_some() {
        return Err(location.missing("aws.s3.iam_role_arn, because there is aws.s3.external_id"));
    }
    built(location, Operator::new(builder))
}

/// The region that a host's name says.
fn region_of(host: &str) -> Option<String> {
    let part = |prefix: &str, suffix: &str| host.strip_prefix(prefix)?.strip_suffix(suffix).map(str::to_owned);
    part("s3.", ".amazonaws.com")
        .or_else(|| part("s3.", ".amazonaws.com.cn"))
        .or_else(|| part("", "-internal.aliyuncs.com"))
        .or_else(|| part("", ".aliyuncs.com"))
        .or_else(|| part("cos.", ".myqcloud.com"))
        .filter(|region| !region.is_empty() && !region.contains('.'))
}

/// Whether changes of properties lead to another server, and do not say in which region it is.
pub fn moves<'a>(changes: impl Iterator<Item = &'a (String, String)>) -> bool {
    let set: Vec<Setting> = changes.filter_map(|(key, _)| known(key)).map(|(_, _, setting)| *setting).collect();
    set.contains(&Endpoint) && !set.contains(&Region)
}

/// Adds the region of a bucket, found by asking the store, which says it to anybody. One that is in the properties
/// counts, unless the server is another than they were made for (`moved`): then it counts only if nobody says more.
pub async fn with_region(location: &str, mut properties: StoreProperties, moved: bool) -> Result<StoreProperties> {
    let parsed = Location::parse(location)?;
    let family = parsed.family()?;
    let (settings, _) = Settings::read(&parsed, family, &properties)?;
    if family != Some(S3) || settings.get(Region).is_some() && !moved {
        return Ok(properties);
    }
    let endpoint = settings.endpoint()?;
    let host = endpoint.as_deref().and_then(|url| url.split_once("://")).map_or("", |(_, host)| host);
    let named = region_of(host).is_some();
    let found = if named { None } else { ask_region(endpoint, parsed.authority).await };
    if named || found.is_some() {
        properties.retain(|key, _| known(key).is_none_or(|(_, _, setting)| *setting != Region));
    }
    properties.extend(found.map(|region| ("aws.s3.region".to_owned(), region)));
    Ok(properties)
}

async fn ask_region(endpoint: Option<String>, bucket: &str) -> Option<String> {
    install_transport();
    let endpoint = endpoint.as_deref().unwrap_or("https://s3.amazonaws.com");
    let request = http::Request::head(format!("{endpoint}/{bucket}")).body(opendal::Buffer::new()).ok()?;
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, HttpTransporter::default().send(request)).await.ok()?.ok()?;
    answer.headers().get("x-amz-bucket-region")?.to_str().ok().map(str::to_owned)
}

fn gcs(location: &Location<'_>, settings: &Settings) -> Result<Operator> {
    let mut builder = services::Gcs::default().root("/").bucket(location.authority).disable_config_load();
    let endpoint = settings.endpoint()?;
    if let Some(endpoint) = &endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(class) = settings.get(StorageClass) {
        builder = builder.default_storage_class(class);
    }
    if let Some(acl) = settings.get(Acl) {
        builder = builder.predefined_acl(acl);
    }
    match (settings.both(Email, PrivateKey)?, settings.is(InstanceProfile) == Some(true)) {
        (Some(_), true) => {
            return Err(Error::Analysis(format!(
                "give either '{}' or '{}'",
                settings.key(Email),
                settings.key(InstanceProfile)
            )));
        }
        (Some((email, key)), false) => {
            let account = ServiceAccount {
                client_email: email.to_owned(),
                // As it stands in Google's JSON files, a line's end is two characters.
                private_key: key.replace("\\n", "\n"),
            };
            // OpenDAL's own provider would ask for a token for each request.
            let provider = ServiceAccountTokenCredentialProvider::new(account)
                .with_scope("https://www.googleapis.com/auth/devstorage.read_write");
            builder = builder.credential_provider(provider).disable_vm_metadata();
        }
        (None, true) => {}
        // An emulator takes requests that nobody has signed.
        (None, false) if endpoint.is_some() => builder = builder.skip_signature(),
        (None, false) => {
            return Err(location.missing(
                "gcp.gcs.service_account_email and gcp.gcs.service_account_private_key, or \
                 gcp.gcs.use_compute_engine_service_account",
            ));
        }
    }
    built(location, Operator::new(builder))
}

fn oss(location: &Location<'_>, settings: &Settings) -> Result<Operator> {
    let keys = settings.both(AccessKey, SecretKey)?;
    let (Some((access, secret)), Some(endpoint)) = (keys, settings.endpoint()?) else {
        return Err(location.missing("fs.oss.accessKeyId, fs.oss.accessKeySecret and fs.oss.endpoint"));
    };
    let mut builder = services::Oss::default()
        .root("/")
        .bucket(location.authority)
        .endpoint(&endpoint)
        .access_key_id(access)
        .access_key_secret(secret);
    if let Some(token) = settings.get(SessionToken) {
        builder = builder.security_token(token);
    }
    built(location, Operator::new(builder))
}

fn cos(location: &Location<'_>, settings: &Settings) -> Result<Operator> {
    let keys = settings.both(AccessKey, SecretKey)?;
    let (Some((access, secret)), Some(endpoint)) = (keys, settings.endpoint()?) else {
        return Err(location
            .missing("fs.cosn.userinfo.secretId, fs.cosn.userinfo.secretKey and fs.cosn.bucket.endpoint_suffix"));
    };
    let mut builder = services::Cos::default()
        .root("/")
        .bucket(location.authority)
        .endpoint(&endpoint)
        .secret_id(access)
        .secret_key(secret)
        .disable_config_load();
    if let Some(token) = settings.get(SessionToken) {
        builder = builder.security_token(token);
    }
    built(location, Operator::new(builder))
}

/// Accounts with and without a hierarchy of folders answer the Blob interface, so it serves `abfs` as well as `wasb`.
fn azure(location: &Location<'_>, settings: &Settings) -> Result<Operator> {
    let (container, host) = match location.authority.split_once('@') {
        Some((container, host)) => (Some(container), Some(host)),
        None => (None, Some(location.authority)),
    };
    let agreed = |setting: Setting, given: Option<&str>| match (settings.get(setting), given) {
        (Some(one), Some(other)) if one != other => Err(Error::Analysis(format!(
            "property '{}' and the location contradict each other: '{one}' and '{other}'",
            settings.key(setting)
        ))),
        (one, other) => Ok(one.or(other).map(str::to_owned)),
    };
    let account = agreed(Account, host.and_then(|host| host.split('.').next()))?;
    let container = agreed(Container, container)?;
    let (Some(account), Some(container)) = (account, container) else {
        return Err(Error::Analysis(format!(
            "location '{}' is not of the form abfss://container@account.dfs.core.windows.net/path",
            location.text
        )));
    };
    let endpoint = match settings.endpoint()? {
        Some(endpoint) => endpoint,
        None => format!("https://{}", host.unwrap_or_default().replacen(".dfs.", ".blob.", 1)),
    };
    let mut builder = services::Azblob::default().root("/").container(&container).endpoint(&endpoint);
    match (settings.get(SecretKey), settings.get(SasToken)) {
        (Some(key), None) => builder = builder.account_name(&account).account_key(key),
        (None, Some(token)) => builder = builder.account_name(&account).sas_token(token.trim_start_matches('?')),
        (Some(_), Some(_)) => {
            let (key, token) = (settings.key(SecretKey), settings.key(SasToken));
            return Err(Error::Analysis(format!("give either '{key}' or '{token}'")));
        }
        (None, None) => return Err(location.missing("azure.blob.shared_key or azure.blob.sas_token")),
    }
    built(location, Operator::new(builder))
}

fn hdfs(location: &Location<'_>, settings: &Settings) -> Result<Operator> {
    let address = location.authority;
    if location.scheme == "hdfs" {
        let port = if address.rsplit_once(':').is_some() { "" } else { ":8020" };
        return built(location, super::hdfs::open(&format!("{address}{port}"), settings.get(User)));
    }
    let http = if location.scheme == "swebhdfs" { "https" } else { "http" };
    let mut builder = services::Webhdfs::default().root("/").endpoint(&format!("{http}://{address}"));
    if let Some(user) = settings.get(User) {
        builder = builder.user_name(user);
    }
    built(location, Operator::new(builder))
}

/// What carries requests of all stores, so that they share connections. Certificates are checked against the system's
/// authorities, or those that `SSL_CERT_FILE` names.
struct Transport(ReqwestTransport);

impl HttpTransport for Transport {
    async fn fetch(&self, request: http::Request<opendal::Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let fetched = self.0.fetch(request).await;
        // A certificate does not change from one second to the next.
        let response = fetched.map_err(|err| if failure::is_of_tls(&err) { err.set_permanent() } else { err })?;
        match response.status() {
            // Not every service of OpenDAL knows that these pass.
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                Err(opendal::Error::new(ErrorKind::RateLimited, format!("the store answered {status}")).set_temporary())
            }
            _ => Ok(response),
        }
    }
}

fn install_transport() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Another part of the process may have chosen it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .build();
        match client {
            Ok(client) => HttpTransporter::install_default(Transport(ReqwestTransport::new(client))),
            // Without trusted authorities, for example; requests then say that there is no transport.
            Err(err) => tracing::error!("no HTTP client: {err}"),
        }
    });
}
