//! Pages of other origins: none may call, but those that are configured.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};

/// How long a browser may remember a permission, in seconds.
const MAX_AGE: &str = "600";

/// What the response tells a browser about the page that asked.
#[derive(Debug)]
pub(crate) struct Grant {
    origin: Option<HeaderValue>,
}

impl Grant {
    /// The permission of the request's origin, if it is one of `allowed`.
    pub(crate) fn of(allowed: &[String], headers: &HeaderMap) -> Self {
        let origin = headers.get(header::ORIGIN);
        let known = |origin: &&HeaderValue| {
            allowed
                .iter()
                .any(|one| one.as_bytes() == origin.as_bytes())
        };
        Self {
            origin: origin.filter(known).cloned(),
        }
    }

    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        let Some(origin) = self.origin else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("x-request-id, retry-after"),
        );
    }
}

/// The answer to a browser that asks before it calls, if the page may call.
pub(crate) fn preflight(allowed: &[String], request: &Request<Body>) -> Option<Response<Body>> {
    let headers = request.headers();
    let asks = request.method() == Method::OPTIONS
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    Grant::of(allowed, headers).origin.filter(|_| asks)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let granted = response.headers_mut();
    granted.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST"),
    );
    // The origin is trusted, so whatever headers its client library sends are fine.
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        granted.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    granted.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static(MAX_AGE),
    );
    Some(response)
}
