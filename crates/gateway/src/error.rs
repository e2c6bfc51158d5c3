//! Errors as OpenAI's clients expect them: `{"error": {message, type, param, code}}` and a status.
//!
//! Every refusal of the gateway is an [`ApiError`]; nothing of a framework's own wording reaches a
//! client. What a client sent is quoted only in part, so that an error is never larger than small.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Most characters of a client's own words that an error repeats.
const QUOTE_CHARS_MAX: usize = 120;

/// A refusal in OpenAI's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// OpenAI's `type`, such as `invalid_request_error`.
    pub(crate) kind: &'static str,
    /// OpenAI's machine-readable `code`, if there is one.
    pub(crate) code: Option<&'static str>,
    /// The field of the request that is at fault, if one is.
    pub(crate) param: Option<String>,
    /// What went wrong and what to do.
    pub(crate) message: String,
    /// When to try again (header `Retry-After`), for errors that pass.
    pub(crate) retry_after: Option<Duration>,
    /// Methods that the path does take (header `Allow`), for a 405.
    pub(crate) allow: Option<&'static str>,
}

/// The body of an error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl ApiError {
    /// An error of status `status` without `param` or `code`.
    #[must_use]
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// A request that can never succeed as it is: 400.
    #[must_use]
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field with a wrong type or value: 400 with `param`.
    #[must_use]
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        let mut error = Self::invalid(message);
        error.param = Some(param.into());
        error
    }

    /// A field that is understood but not offered here: 400, code `unsupported_parameter`.
    #[must_use]
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field(param, message).with_code("unsupported_parameter")
    }

    /// The same error with a `code`.
    #[must_use]
    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// No such model: 404.
    #[must_use]
    pub(crate) fn model_not_found(model: &str) -> Self {
        let mut error = Self::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            format!(
                "The model '{}' does not exist here; GET /v1/models lists those that do.",
                quote(model)
            ),
        );
        error.param = Some("model".to_owned());
        error.with_code("model_not_found")
    }

    /// Prompt and answer do not fit in the model's context: 400 with the numbers.
    #[must_use]
    pub(crate) fn context_length(limit: usize, prompt: usize, answer: usize, param: &str) -> Self {
        Self::field(
            param,
            format!(
                "This model's maximum context length is {limit} tokens. However, you requested {} tokens \
                 ({prompt} in the prompt, {answer} in the completion). Please reduce the length of either one.",
                prompt.saturating_add(answer)
            ),
        )
        .with_code("context_length_exceeded")
    }

    /// No key, or one that is not known: 401.
    #[must_use]
    pub(crate) fn unauthorized(given: bool) -> Self {
        let message = if given {
            "Incorrect API key provided. Ask the operator of this server for a key."
        } else {
            "You didn't provide an API key. Send it in the header 'Authorization: Bearer YOUR_KEY'."
        };
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message)
            .with_code("invalid_api_key")
    }

    /// Not allowed, whoever asks: 403.
    #[must_use]
    pub(crate) fn forbidden(message: impl Into<String>, code: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", message).with_code(code)
    }

    /// A client's own limit is used up: 429 with `Retry-After`.
    #[must_use]
    pub(crate) fn rate_limited(what: &str, limit: u32, retry_after: Duration) -> Self {
        let mut error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            if what == "requests" {
                "requests"
            } else {
                "tokens"
            },
            format!(
                "Rate limit reached: {limit} {what} per minute for this API key. Please try again in {} s.",
                seconds(retry_after)
            ),
        );
        error.retry_after = Some(retry_after);
        error.with_code("rate_limit_exceeded")
    }

    /// The server as a whole has no room: 503 with `Retry-After`.
    #[must_use]
    pub(crate) fn overloaded(retry_after: Duration) -> Self {
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "server_error",
            format!(
                "The server is overloaded. Please try again in {} s.",
                seconds(retry_after)
            ),
        );
        error.retry_after = Some(retry_after);
        error.with_code("overloaded")
    }

    /// The server is stopping or not started: 503.
    #[must_use]
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        error.retry_after = Some(Duration::from_secs(1));
        error.with_code("unavailable")
    }

    /// A fault of ours: 500. What failed is logged, not told.
    #[must_use]
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "The server had an error while processing your request. Its log names the cause under the \
             x-request-id of this response.",
        )
        .with_code("internal_error")
    }

    /// The body as JSON text.
    #[must_use]
    pub(crate) fn to_json(&self) -> String {
        let body = ErrorBody {
            error: ErrorObject {
                message: &self.message,
                r#type: self.kind,
                param: self.param.as_deref(),
                code: self.code,
            },
        };
        serde_json::to_string(&body).expect("strings always serialise")
    }
}

/// The start of a client's text, fit for a message: bounded, without control characters.
#[must_use]
pub(crate) fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .take(QUOTE_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}

/// Whole seconds, rounded up, at least one: what `Retry-After` can say.
fn seconds(wait: Duration) -> u64 {
    let whole = wait
        .as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0));
    whole.max(1)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
