//! Reading the body of a request, bounded in bytes and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use crate::error::ApiError;

/// How many times the limit is read and thrown away before the connection is given up: a client
/// that is cut off while it sends does not see why.
const DRAIN_FACTOR: usize = 4;

/// The body of a JSON request of at most `bytes_max` bytes that comes within `timeout`.
pub(crate) async fn read(
    request: Request<Body>,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Bytes, ApiError> {
    check_type(request.headers())?;
    let body = collect(request.into_body(), bytes_max);
    match skein_runtime::timeout(timeout, body).await {
        Some(result) => result,
        None => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            "The body of the request did not arrive in time.",
        )
        .with_code("request_timeout")),
    }
}

async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut total = 0_usize;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            tracing::debug!(%error, "a request's body broke off");
            ApiError::invalid("The body of the request broke off.")
        })?;
        total = total.saturating_add(chunk.len());
        if total <= bytes_max {
            bytes.extend_from_slice(&chunk);
        } else if total > bytes_max.saturating_mul(DRAIN_FACTOR) {
            break;
        } else {
            bytes.clear();
        }
    }
    if total > bytes_max {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            format!("The body of the request is larger than the {bytes_max} bytes that this server takes."),
        )
        .with_code("request_too_large"));
    }
    Ok(bytes.freeze())
}

/// Refuses what is not declared as plain JSON. It also keeps pages of other origins out, which may
/// send `text/plain` without asking.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let wrong = |message: &str| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(ApiError::new(status, "invalid_request_error", message)
            .with_code("unsupported_media_type"))
    };
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = declared
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return wrong("Send the request with the header 'Content-Type: application/json'.");
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            wrong("Compressed requests are not supported: leave out the header 'Content-Encoding'.")
        }
        _ => Ok(()),
    }
}
