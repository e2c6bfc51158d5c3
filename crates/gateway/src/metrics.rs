//! What the gateway counts, in Prometheus' text format.
//!
//! Each gateway has its own recorder: nothing is installed for the whole process, so that several
//! nodes fit in one. Other parts of the node register their metrics inside [`Metrics::scope`] and
//! keep the handles.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// Upper bounds of the time buckets, in seconds: from a fast refusal to a long answer.
const SECONDS: [f64; 14] = [
    0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
];

/// Upper bounds of the buckets of everything else, which is counted in ones.
const COUNTS: [f64; 13] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
];

/// The metrics of one node: a recorder and its text.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty set of metrics.
    #[must_use]
    pub fn new() -> Self {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(seconds, &SECONDS)
            .and_then(|builder| builder.set_buckets(&COUNTS))
            .expect("neither list of buckets is empty")
            .build_recorder();
        let handle = recorder.handle();
        Self {
            recorder: Arc::new(recorder),
            handle,
        }
    }

    /// Runs `register`; whatever it registers or counts through the `metrics` crate, on this
    /// thread, lands here.
    pub fn scope<T>(&self, register: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&*self.recorder, register)
    }

    /// Makes this the recorder of the whole process as well: for threads that count without a
    /// [`Self::scope`]. A process with one node may do so, at its start.
    ///
    /// # Errors
    /// If there is such a recorder already; nothing changes then.
    pub fn install(&self) -> Result<(), AlreadyInstalled> {
        metrics::set_global_recorder(Arc::clone(&self.recorder)).map_err(|_| AlreadyInstalled)
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds samples into buckets, so that they do not pile up between two scrapes. To be called
    /// every few seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// The process has a recorder of metrics already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process has a recorder of metrics already")]
pub struct AlreadyInstalled;

/// The gateway's own metrics.
pub(crate) struct GatewayMetrics {
    metrics: Metrics,
    /// Requests being read or answered.
    pub(crate) in_flight: Gauge,
    /// Connections that are open.
    pub(crate) connections: Gauge,
    /// Prompt tokens of admitted requests.
    pub(crate) prompt_tokens: Counter,
    /// Those of them whose state was reused.
    pub(crate) cached_tokens: Counter,
    /// Tokens generated.
    pub(crate) completion_tokens: Counter,
    /// Answers whose client went away before the end.
    pub(crate) abandoned: Counter,
    /// From a request's arrival to its first token.
    pub(crate) first_token_seconds: Histogram,
}

impl fmt::Debug for GatewayMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayMetrics(..)")
    }
}

impl GatewayMetrics {
    pub(crate) fn new(metrics: Metrics) -> Self {
        metrics.scope(|| {
            describe();
            Self {
                metrics: metrics.clone(),
                in_flight: metrics::gauge!("skein_gateway_requests_in_flight"),
                connections: metrics::gauge!("skein_gateway_connections"),
                prompt_tokens: metrics::counter!("skein_gateway_prompt_tokens_total"),
                cached_tokens: metrics::counter!("skein_gateway_cached_tokens_total"),
                completion_tokens: metrics::counter!("skein_gateway_completion_tokens_total"),
                abandoned: metrics::counter!("skein_gateway_answers_abandoned_total"),
                first_token_seconds: metrics::histogram!("skein_gateway_first_token_seconds"),
            }
        })
    }

    /// Counts a response whose head was sent. `endpoint` is one of a fixed set, never a client's
    /// text: each value makes a time series.
    pub(crate) fn responded(&self, endpoint: &'static str, status: u16, seconds: f64) {
        self.metrics.scope(|| {
            let status = status.to_string();
            metrics::counter!("skein_gateway_responses_total", "endpoint" => endpoint, "status" => status)
                .increment(1);
            metrics::histogram!("skein_gateway_response_seconds", "endpoint" => endpoint).record(seconds);
        });
    }

    pub(crate) fn render(&self) -> String {
        self.metrics.render()
    }

    pub(crate) fn upkeep(&self) {
        self.metrics.upkeep();
    }
}

fn describe() {
    metrics::describe_counter!(
        "skein_gateway_responses_total",
        "Responses by endpoint and status."
    );
    metrics::describe_histogram!(
        "skein_gateway_response_seconds",
        "From a request's arrival to the head of its response."
    );
    metrics::describe_gauge!(
        "skein_gateway_requests_in_flight",
        "Requests being read or answered."
    );
    metrics::describe_gauge!("skein_gateway_connections", "Connections that are open.");
    metrics::describe_counter!(
        "skein_gateway_prompt_tokens_total",
        "Prompt tokens of admitted requests."
    );
    metrics::describe_counter!(
        "skein_gateway_cached_tokens_total",
        "Prompt tokens whose state was reused."
    );
    metrics::describe_counter!("skein_gateway_completion_tokens_total", "Tokens generated.");
    metrics::describe_counter!(
        "skein_gateway_answers_abandoned_total",
        "Answers whose client went away before the end."
    );
    metrics::describe_histogram!(
        "skein_gateway_first_token_seconds",
        "From a request's arrival to its first token."
    );
}
