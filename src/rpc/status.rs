//! Errors as gRPC statuses.

use tonic::{Code, Status};

use crate::error::{Cause, Error, InRepository};

const RETRYABLE: &str = "holdfast-retryable";

/// The status that carries an error to the other side: its report, and whether trying again may help.
pub fn of_error(error: &Error) -> Status {
    let code = match error {
        Error::AccessDenied(_) => Code::Unauthenticated,
        Error::NotFound(_) => Code::NotFound,
        Error::Cancelled(_) => Code::Cancelled,
        Error::Corrupt { .. } => Code::DataLoss,
        Error::Unsupported(_) => Code::Unimplemented,
        Error::Config(_) => Code::InvalidArgument,
        Error::Repository { .. } => Code::Unavailable,
        _ => Code::Unknown,
    };
    // Metadata holds ASCII; messages may not. gRPC percent-encodes the message itself.
    let mut status = Status::new(code, error.report());
    let retryable = if error.is_retryable() { "1" } else { "0" };
    status.metadata_mut().insert(RETRYABLE, tonic::metadata::MetadataValue::from_static(retryable));
    status
}

/// The error of a status that a BE sent, or that stands for a BE that did not answer.
pub fn to_error(backend: &str, operation: &str, status: &Status) -> Error {
    let said = status.metadata().get(RETRYABLE).map(|value| value.as_bytes() == b"1");
    let retryable = said.unwrap_or(!matches!(
        status.code(),
        Code::InvalidArgument | Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied
    ));
    if said.is_some() && status.code() == Code::InvalidArgument {
        return Error::Config(status.message().to_owned());
    }
    let source: Cause = match said {
        Some(_) if status.code() == Code::Unavailable => InRepository(status.message().to_owned()).into(),
        Some(_) => status.message().into(),
        None => format!("{}: {}", status.code(), chain(status)).into(),
    };
    Error::Backend { backend: backend.to_owned(), operation: operation.to_owned(), source, retryable }
}

fn chain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let said = cause.to_string();
        // The layers of the transport repeat each other.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_error_comes_back_as_one() {
        let sent = of_error(&Error::Config("'x' is not a value of port".into()));
        let error = to_error("h:1", "configure", &sent);
        assert!(matches!(&error, Error::Config(text) if text == "'x' is not a value of port"), "{error:?}");
        let foreign = to_error("h:1", "configure", &Status::invalid_argument("grpc's own"));
        assert!(matches!(foreign, Error::Backend { retryable: false, .. }), "{foreign:?}");
    }

    #[test]
    fn what_the_layers_of_a_call_repeat_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("dns error")]
        struct Layer(#[source] std::io::Error);
        let lookup = std::io::Error::other("no such host");
        let mut status = Status::unavailable("dns error");
        status.set_source(std::sync::Arc::new(Layer(lookup)));
        let error = to_error("h:1", "heartbeat", &status);
        let unavailable = "The service is currently unavailable";
        assert_eq!(error.report(), format!("heartbeat on backend h:1: {unavailable}: dns error: no such host"));
    }
}
