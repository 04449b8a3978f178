//! What a store's errors mean: the step that failed, whether trying again may help, and words for people.

use http::StatusCode;
use opendal::ErrorKind;

/// Where a request failed, by the signs that stores and the network leave in their errors.
const STEPS: &[(&str, &[&str])] = &[
    ("name resolution", &["dns error", "failed to lookup address", "name or service not known"]),
    ("TLS", &["certificate", "tls handshake", "invalid peer", "received corrupt message"]),
    ("connection", &["connection refused", "tcp connect error", "network is unreachable", "no route to host"]),
    ("clock", &["requesttimetooskewed", "requesttimeskewed", "requestexpired", "request has expired"]),
    // The metadata service or STS, which may be asked again.
    ("loading credentials", &["failed to load"]),
    (
        "credentials",
        &[
            "invalidaccesskeyid",
            "signaturedoesnotmatch",
            "authenticationfailed",
            "failed to authenticate",
            "private key",
            "authorizationheadermalformed",
            "invalidtoken",
            "expiredtoken",
            "invalid_grant",
            "notsignedup",
            "unauthorized",
        ],
    ),
    (
        "bucket",
        &["nosuchbucket", "containernotfound", "bucket does not exist", "invalidbucketname", "accountisdisabled"],
    ),
    (
        "permission",
        &["accessdenied", "authorizationpermissionmismatch", "permissiondenied", "accesscontrolexception", "forbidden"],
    ),
    ("store is busy", &["slowdown", "ratelimited", "too many requests"]),
];

/// What is shown of a store's own words.
const LONGEST: usize = 500;

/// Steps whose failures last, where no answer says more.
const LASTING: [&str; 5] = ["TLS", "clock", "credentials", "bucket", "permission"];

/// Codes of S3 and WebHDFS that ask to be tried again, under a status that otherwise means no.
const PASSING: [&str; 6] = [
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
    "SafeModeException",
    "StandbyException",
    "RetriableException",
];

/// What an error says, without the rest of OpenDAL's words.
struct Said {
    /// The store's own code, if it gave one.
    code: Option<String>,
    /// Its own words, or those of the network.
    text: String,
    /// The step that left its signs.
    step: Option<&'static str>,
    /// That of HTTP, if there was an answer.
    status: Option<StatusCode>,
}

impl Said {
    fn of(err: &opendal::Error) -> Self {
        let mut detail = err.message().to_owned();
        let mut source = std::error::Error::source(err);
        while let Some(cause) = source {
            let text = cause.to_string();
            if !detail.ends_with(&text) {
                detail = format!("{detail}: {text}");
            }
            source = cause.source();
        }
        // `S3Error { code: "NoSuchBucket", message: "…", … }`, and the like of other stores.
        let field = |name: &str| {
            let (_, rest) = detail.split_once(&format!("{name}: \""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned()).filter(|value| !value.is_empty())
        };
        let code = field("code").or_else(|| field("exception"));
        let status = status(err);
        let text = match field("message") {
            Some(message) => message,
            None if code.is_some() => String::new(),
            None if detail.is_empty() => match status {
                Some(status) => format!("the store answered {status}"),
                None => err.kind().to_string(),
            },
            None => detail.clone(),
        };
        // Where there is a code, words with a path in them say no more: names are signs of nothing.
        let words = if code.is_some() && text.contains('/') { "" } else { &text };
        let signs = format!("{} {} {words}", err.kind(), code.as_deref().unwrap_or_default()).to_lowercase();
        let step = STEPS.iter().find(|(_, known)| known.iter().any(|sign| signs.contains(sign))).map(|(step, _)| *step);
        Self { code, text, step, status }
    }
}

/// The HTTP status of the answer that an error is about. OpenDAL keeps it in its words only.
fn status(err: &opendal::Error) -> Option<StatusCode> {
    let words = err.to_string();
    let (_, status) = words.split_once("response: Parts { status: ")?;
    status.get(..3)?.parse().ok()
}

/// Whether an object is not there, in a bucket that is.
pub fn is_absent(err: &opendal::Error) -> bool {
    err.kind() == ErrorKind::NotFound && Said::of(err).step != Some("bucket")
}

/// Whether no connection came about because of TLS.
pub fn is_of_tls(err: &opendal::Error) -> bool {
    Said::of(err).step == Some("TLS")
}

/// Whether a server was asked for TLS and answered with something else.
pub fn is_no_tls(err: &opendal::Error) -> bool {
    Said::of(err).text.to_lowercase().contains("corrupt message")
}

/// Whether a request may succeed later. OpenDAL's repetitions give back every error they have seen, passing or not, as
/// one that lasts; then the store's answer tells, or, where there was none, what is known to last.
pub fn may_pass(err: &opendal::Error) -> bool {
    let passes = || {
        let Said { code, step, status, .. } = Said::of(err);
        match status {
            Some(status) => {
                matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502..=504 | 520)
                    || code.is_some_and(|code| PASSING.contains(&code.as_str()))
            }
            None => {
                matches!(err.kind(), ErrorKind::Unexpected | ErrorKind::RateLimited)
                    && !step.is_some_and(|step| LASTING.contains(&step))
            }
        }
    };
    err.is_temporary() || err.is_persistent() && passes()
}

/// What went wrong, for people: the step that failed, and the store's own code and words.
pub fn explain(err: &opendal::Error) -> String {
    let Said { code, text, step, .. } = Said::of(err);
    // HDFS adds where in its program that was.
    let text = text.split(['\n', '\t']).next().unwrap_or_default().split("\\n").next().unwrap_or_default();
    let text = &text[..text.floor_char_boundary(LONGEST)];
    let parts = [step, code.as_deref(), Some(text)];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}
