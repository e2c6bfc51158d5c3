//! The way of a request into the gateway: id, host, route, key, answer, log.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use skein_base::TraceId;
use tracing::Instrument as _;

use crate::error::{ApiError, quote};
use crate::state::{Client, State};
use crate::{cors, endpoints, ids};

/// Header with the id of a request, in and out.
const REQUEST_ID: &str = "x-request-id";
/// W3C's Trace Context: the client's own name for what it is doing.
const TRACE_PARENT: &str = "traceparent";

/// Everything that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Endpoint {
    Health,
    Ready,
    Metrics,
    Models,
    Model(String),
    Network,
    Chat,
    Completions,
}

/// Answers one request; never fails and never panics.
pub(crate) async fn handle(state: Arc<State>, mut request: Request<Body>) -> Response {
    let arrived = state.now();
    let trace = request.headers().get(TRACE_PARENT);
    let trace = trace.and_then(|parent| TraceId::of_traceparent(parent.to_str().ok()?));
    let trace = trace.unwrap_or_else(|| state.ids.trace());
    // For whoever submits it.
    request.extensions_mut().insert(trace);
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| ids::given(id.as_bytes()))
        .map_or_else(|| state.ids.id("req_"), str::to_owned);
    let method = request.method().clone();
    let path = quote(request.uri().path());
    let endpoint = Endpoint::of(request.uri().path());
    let label = endpoint.as_ref().map_or("unknown", Endpoint::label);
    let cors = cors::Grant::of(&state.config.cors_origins, request.headers());
    let span = tracing::info_span!("gateway.request", request_id = %id, %trace, %method, %path, client = tracing::field::Empty);

    let answer = answer(&state, endpoint, request).instrument(span.clone());
    let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => span.in_scope(|| refused(error)),
        Err(panic) => span.in_scope(|| panicked(&*panic)),
    };
    cors.apply(response.headers_mut());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let seconds = state.now().saturating_sub(arrived).as_secs_f64();
    let status = response.status().as_u16();
    span.in_scope(|| tracing::info!(status, seconds, "response"));
    state.metrics.responded(label, status, seconds);
    response
}

async fn answer(
    state: &Arc<State>,
    endpoint: Option<Endpoint>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    check_host(state, request.uri(), request.headers())?;
    if let Some(response) = cors::preflight(&state.config.cors_origins, &request) {
        return Ok(response);
    }
    let endpoint = endpoint.ok_or_else(|| unknown_route(request.method(), request.uri()))?;
    endpoint.check_method(request.method())?;
    if matches!(endpoint, Endpoint::Health | Endpoint::Ready) {
        return Ok(endpoints::health(state, endpoint == Endpoint::Ready));
    }
    if endpoint == Endpoint::Metrics && state.config.metrics_public {
        return Ok(endpoints::metrics(state));
    }
    let authorization = request.headers().get(header::AUTHORIZATION);
    let client = state
        .clients
        .identify(authorization.map(HeaderValue::as_bytes))?;
    tracing::Span::current().record("client", &*client.name);
    dispatch(state, endpoint, client, request).await
}

async fn dispatch(
    state: &Arc<State>,
    endpoint: Endpoint,
    client: Client,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    match endpoint {
        Endpoint::Health => Ok(endpoints::health(state, false)),
        Endpoint::Ready => Ok(endpoints::health(state, true)),
        Endpoint::Metrics => Ok(endpoints::metrics(state)),
        Endpoint::Models => Ok(endpoints::models(state)),
        Endpoint::Model(id) => endpoints::model(state, &id),
        Endpoint::Network => Ok(endpoints::network(state)),
        Endpoint::Chat => endpoints::chat(state, client, request).await,
        Endpoint::Completions => endpoints::completions(state, client, request).await,
    }
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            "/v1/models" => Some(Self::Models),
            "/v1/network" => Some(Self::Network),
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/completions" => Some(Self::Completions),
            // Model names may hold slashes, written as such or encoded.
            _ => path
                .strip_prefix("/v1/models/")
                .filter(|id| !id.is_empty())
                .map(|id| Self::Model(percent_decoded(id))),
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Health => "healthz",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
            Self::Models => "models",
            Self::Model(_) => "model",
            Self::Network => "network",
            Self::Chat => "chat_completions",
            Self::Completions => "completions",
        }
    }

    fn check_method(&self, method: &Method) -> Result<(), ApiError> {
        let posts = matches!(self, Self::Chat | Self::Completions);
        let fits = match *method {
            Method::POST => posts,
            Method::GET | Method::HEAD => !posts,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let allow = if posts { "POST" } else { "GET, HEAD" };
        let mut error = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid_request_error",
            format!(
                "Not allowed to {} here; allowed: {allow}.",
                quote(method.as_str())
            ),
        )
        .with_code("method_not_allowed");
        error.allow = Some(allow);
        Err(error)
    }
}

/// Refuses names that are not ours: see [`crate::host`].
fn check_host(state: &State, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut given = headers.get_all(header::HOST).iter();
    let (first, second) = (given.next(), given.next());
    if second.is_some() {
        return Err(ApiError::invalid(
            "The request has more than one 'Host' header.",
        ));
    }
    let header = first.map(|value| value.to_str().unwrap_or_default());
    // An absolute request target names the host as well, and then both must be ours.
    let target = uri.authority().map(axum::http::uri::Authority::as_str);
    let mut names = header.into_iter().chain(target).peekable();
    if names.peek().is_none() {
        return Err(ApiError::invalid("The request has no 'Host' header."));
    }
    for name in names {
        if !state.hosts.allows(name) {
            return Err(ApiError::forbidden(
                format!(
                    "This server does not answer to the host name '{}'. Its operator can add the name to the \
                     list of allowed hosts.",
                    quote(name)
                ),
                "host_not_allowed",
            ));
        }
    }
    Ok(())
}

fn unknown_route(method: &Method, uri: &Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        format!(
            "Invalid URL ({} {})",
            quote(method.as_str()),
            quote(uri.path())
        ),
    )
    .with_code("unknown_url")
}

/// `%2F` and the like undone; what is not UTF-8 then names no model anyway.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let pair = match tail {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match pair {
            Some((high, low)) => {
                bytes.push(
                    u8::try_from(high * 16 + low).expect("two hexadecimal digits make a byte"),
                );
                rest = &tail[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn refused(error: ApiError) -> Response {
    let (status, code) = (error.status.as_u16(), error.code);
    tracing::info!(status, code, message = %error.message, "refused");
    error.into_response()
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = said.unwrap_or("(no message)"), "a request panicked");
    ApiError::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_are_decoded() {
        let cases = [
            ("/v1/models/a", "a"),
            ("/v1/models/org/name", "org/name"),
            ("/v1/models/org%2Fname", "org/name"),
            ("/v1/models/%", "%"),
            ("/v1/models/%4", "%4"),
            ("/v1/models/%zz", "%zz"),
            ("/v1/models/%c3%a9", "é"),
        ];
        for (path, id) in cases {
            assert_eq!(Endpoint::of(path), Some(Endpoint::Model(id.to_owned())));
        }
        for path in [
            "/v1/models/",
            "/",
            "",
            "/v1",
            "/v1/chat",
            "/v1/chat/completions/",
        ] {
            assert_eq!(Endpoint::of(path), None);
        }
    }
}
