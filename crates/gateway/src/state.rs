//! What all requests of a gateway share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skein_runtime::Clock;

use crate::backend::Model;
use crate::config::GatewayConfig;
use crate::error::ApiError;
use crate::host::Hosts;
use crate::ids::Ids;
use crate::keys::{KeyLimits, KeyRing};
use crate::limit::{Allowance, Refusal};
use crate::metrics::GatewayMetrics;

/// How long clients are told to wait when too many requests are in flight.
const OVERLOAD_RETRY: Duration = Duration::from_secs(1);

/// What all requests share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: GatewayConfig,
    pub(crate) hosts: Hosts,
    pub(crate) clients: Clients,
    pub(crate) models: Models,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Ids,
    pub(crate) metrics: GatewayMetrics,
    in_flight: Arc<AtomicUsize>,
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) name: Arc<str>,
    allowance: Arc<Mutex<Allowance>>,
}

/// All clients that there can be.
#[derive(Debug)]
pub(crate) struct Clients {
    keys: KeyRing,
    /// One per key, in the keys' order.
    known: Vec<Client>,
    anonymous: Client,
}

/// The models on offer.
#[derive(Debug)]
pub(crate) struct Models {
    list: Vec<Arc<Model>>,
    by_name: BTreeMap<String, usize>,
}

/// One of a bounded number of places, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<AtomicUsize>,
    gauge: metrics::Gauge,
}

impl State {
    pub(crate) fn new(
        config: GatewayConfig,
        listen: SocketAddr,
        (keys, models): (KeyRing, Vec<Model>),
        clock: Arc<dyn Clock>,
        (ids, metrics): (Ids, GatewayMetrics),
    ) -> Self {
        Self {
            hosts: Hosts::new(listen, &config.hosts),
            clients: Clients::new(keys, clock.now().since_start()),
            models: Models::new(models),
            config,
            clock,
            ids,
            metrics,
            in_flight: Arc::default(),
        }
    }

    /// A place for one more request.
    pub(crate) fn admit(&self) -> Result<Place, ApiError> {
        let gauge = self.metrics.in_flight.clone();
        Place::take(&self.in_flight, self.config.requests_max, gauge)
            .ok_or_else(|| ApiError::overloaded(OVERLOAD_RETRY))
    }

    /// Time since the clock's start.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now().since_start()
    }
}

impl Place {
    /// Takes a place if fewer than `max` are taken.
    pub(crate) fn take(
        taken: &Arc<AtomicUsize>,
        max: usize,
        gauge: metrics::Gauge,
    ) -> Option<Self> {
        let more = |now: usize| (now < max).then_some(now + 1);
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        gauge.increment(1.0);
        Some(Self {
            taken: Arc::clone(taken),
            gauge,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
        self.gauge.decrement(1.0);
    }
}

impl Clients {
    fn new(keys: KeyRing, now: Duration) -> Self {
        let client = |name: &str, limits| Client {
            name: name.into(),
            allowance: Arc::new(Mutex::new(Allowance::new(limits, now))),
        };
        let entries = keys.entries().iter();
        Self {
            known: entries
                .map(|entry| client(&entry.name, entry.limits))
                .collect(),
            anonymous: client(crate::ANONYMOUS, KeyLimits::default()),
            keys,
        }
    }

    /// The client whose credential is `authorization`, the header of that name.
    pub(crate) fn identify(&self, authorization: Option<&[u8]>) -> Result<Client, ApiError> {
        if self.keys.is_empty() {
            return Ok(self.anonymous.clone());
        }
        let given = authorization.ok_or_else(|| ApiError::unauthorized(false))?;
        let key = std::str::from_utf8(given).ok().and_then(bearer);
        let index = key.and_then(|key| self.keys.find(key));
        index
            .map(|index| self.known[index].clone())
            .ok_or_else(|| ApiError::unauthorized(true))
    }
}

/// The key of `Bearer KEY`.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

impl Client {
    /// Counts a request against the client's limits.
    pub(crate) fn take_request(&self, now: Duration) -> Result<(), ApiError> {
        self.with(|allowance| allowance.take_request(now))
            .map_err(refused)
    }

    /// Counts a prompt against the client's limits.
    pub(crate) fn take_tokens(&self, tokens: usize, now: Duration) -> Result<(), ApiError> {
        self.with(|allowance| allowance.take_tokens(tokens, now))
            .map_err(refused)
    }

    /// Counts generated tokens.
    pub(crate) fn charge_tokens(&self, tokens: usize, now: Duration) {
        self.with(|allowance| allowance.charge_tokens(tokens, now));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Allowance) -> T) -> T {
        act(&mut self
            .allowance
            .lock()
            .expect("no holder of this lock panics"))
    }
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Requests { limit, retry_after } => {
            ApiError::rate_limited("requests", limit, retry_after)
        }
        Refusal::Tokens { limit, retry_after } => {
            ApiError::rate_limited("tokens", limit, retry_after)
        }
    }
}

impl Models {
    fn new(models: Vec<Model>) -> Self {
        let mut by_name = BTreeMap::new();
        for (index, model) in models.iter().enumerate() {
            for name in model.aliases.iter().chain([&model.id]) {
                by_name.entry(name.clone()).or_insert(index);
            }
        }
        Self {
            list: models.into_iter().map(Arc::new).collect(),
            by_name,
        }
    }

    pub(crate) fn list(&self) -> &[Arc<Model>] {
        &self.list
    }

    /// The model of that id or alias.
    pub(crate) fn find(&self, name: &str) -> Result<&Arc<Model>, ApiError> {
        let index = self.by_name.get(name);
        index
            .map(|index| &self.list[*index])
            .ok_or_else(|| ApiError::model_not_found(name))
    }

    /// Whether every model answers.
    pub(crate) fn ready(&self) -> bool {
        self.list.iter().all(|model| model.backend.ready())
    }
}
