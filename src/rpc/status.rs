//! Errors as gRPC statuses.

use tonic::{Code, Status};

use crate::error::Error;

const RETRYABLE: &str = "holdfast-retryable";

/// The status that carries an error to the other side: its report, and whether trying again may help.
pub fn of_error(error: &Error) -> Status {
    let code = match error {
        Error::AccessDenied(_) => Code::Unauthenticated,
        Error::NotFound(_) => Code::NotFound,
        Error::Cancelled(_) => Code::Cancelled,
        Error::Corrupt { .. } => Code::DataLoss,
        Error::Unsupported(_) => Code::Unimplemented,
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
    let message = match said {
        Some(_) => status.message().to_owned(),
        None => format!("{}: {}", status.code(), chain(status)),
    };
    Error::Backend { backend: backend.to_owned(), operation: operation.to_owned(), source: message.into(), retryable }
}

fn chain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
