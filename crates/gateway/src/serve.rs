//! From a listening socket to connections, and their orderly end.

use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum_server::Handle;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures::future::Either;
use skein_runtime::tasks::CancellationToken;
use skein_runtime::{Clock, Secret32};
use thiserror::Error;
use tower::Service;

use crate::backend::Model;
use crate::config::{ConfigError, GatewayConfig};
use crate::front;
use crate::ids::Ids;
use crate::metrics::{GatewayMetrics, Metrics};
use crate::state::{Place, State};

/// Largest head of a request, in bytes. Far more than a key, a path and a browser's own headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 100;
/// How often metrics are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// What a gateway is made of.
#[derive(Debug)]
pub struct Gateway {
    /// Settings.
    pub config: GatewayConfig,
    /// Models on offer; the first of two with the same name counts.
    pub models: Vec<Model>,
    /// Where metrics are collected.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh randomness for this run: ids and seeds are derived from it.
    pub secret: Secret32,
}

/// Why a gateway does not start, or stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The settings are unsafe or make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The socket cannot be used.
    #[error("the gateway's socket failed")]
    Socket(#[source] io::Error),
}

/// Serves until `stopping` is cancelled, then lets running answers end within
/// [`GatewayConfig::shutdown_timeout`] and cuts off the rest.
///
/// # Errors
/// [`ServeError`]: settings that do not fit the listener's address, or a socket that fails.
///
/// # Cancel safety
/// Dropping it cuts off all connections.
pub async fn serve(
    listener: TcpListener,
    gateway: Gateway,
    stopping: CancellationToken,
) -> Result<(), ServeError> {
    let listen = listener.local_addr().map_err(ServeError::Socket)?;
    listener.set_nonblocking(true).map_err(ServeError::Socket)?;
    let (keys, tls) = gateway.config.parts(listen)?;
    let metrics = GatewayMetrics::new(gateway.metrics);
    let state = Arc::new(State::new(
        gateway.config,
        listen,
        (keys, gateway.models),
        gateway.clock,
        (Ids::new(gateway.secret), metrics),
    ));
    let handle = Handle::new();
    // Connections run as tasks of the HTTP library; whatever ends this function ends them.
    let _cut = CutOff(handle.clone());
    let served = connections(listener, Arc::clone(&state), tls, handle.clone());
    let shutdown_timeout = state.config.shutdown_timeout;
    let stop = async {
        stopping.cancelled().await;
        tracing::info!(timeout = ?shutdown_timeout, "gateway stops");
        handle.graceful_shutdown(Some(shutdown_timeout));
        std::future::pending::<()>().await;
    };
    let upkeep = async {
        loop {
            skein_runtime::sleep(UPKEEP).await;
            state.metrics.upkeep();
        }
    };
    let meanwhile = std::pin::pin!(futures::future::join(stop, upkeep));
    let served = std::pin::pin!(served);
    match futures::future::select(served, meanwhile).await {
        Either::Left((result, _)) => result.map_err(ServeError::Socket),
        // Neither of the two ever ends.
        Either::Right(_) => Ok(()),
    }
}

/// Cuts off all connections when dropped.
struct CutOff(Handle<SocketAddr>);

impl Drop for CutOff {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// The gateway as a service, for one listener.
pub(crate) fn router(state: Arc<State>) -> Router {
    let handler = move |request: Request<Body>| front::handle(Arc::clone(&state), request);
    Router::new().fallback(handler)
}

async fn connections(
    listener: TcpListener,
    state: Arc<State>,
    tls: Option<rustls::ServerConfig>,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let places = Places {
        open: Arc::default(),
        max: state.config.connections_max,
        gauge: state.metrics.connections.clone(),
    };
    let header_timeout = state.config.header_timeout;
    let mut server = axum_server::from_tcp(listener)?.handle(handle);
    // Without a timer the library would wait for the rest of a head for ever.
    server
        .http_builder()
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let service = router(state).into_make_service();
    match tls {
        // Setting an acceptor forgets the version, so the version comes last.
        None => server.acceptor(places).http1_only().serve(service).await,
        Some(tls) => {
            let config = RustlsConfig::from_config(Arc::new(tls));
            let acceptor = RustlsAcceptor::new(config)
                .handshake_timeout(header_timeout)
                .acceptor(places);
            server.acceptor(acceptor).http1_only().serve(service).await
        }
    }
}

/// Accepts a bounded number of connections; more are closed at once.
#[derive(Debug, Clone)]
struct Places {
    open: Arc<AtomicUsize>,
    max: usize,
    gauge: metrics::Gauge,
}

impl<I, S> Accept<I, S> for Places
where
    NoDelayAcceptor: Accept<I, S, Stream = I, Service = S, Future = Ready<io::Result<(I, S)>>>,
{
    type Stream = I;
    type Service = Holding<S>;
    type Future = Ready<io::Result<(I, Holding<S>)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let Some(place) = Place::take(&self.open, self.max, self.gauge.clone()) else {
            tracing::warn!(max = self.max, "too many connections: one more was closed");
            return ready(Err(io::Error::other("too many connections")));
        };
        // Tokens are small and must not wait for each other.
        let accepted = NoDelayAcceptor::new().accept(stream, service).into_inner();
        ready(accepted.map(|(stream, inner)| {
            let place = Arc::new(place);
            (stream, Holding { inner, place })
        }))
    }
}

/// A service that holds a place for as long as its connection lives.
#[derive(Debug, Clone)]
struct Holding<S> {
    inner: S,
    #[expect(dead_code, reason = "held for its drop")]
    place: Arc<Place>,
}

impl<R, S: Service<R>> Service<R> for Holding<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(request)
    }
}
