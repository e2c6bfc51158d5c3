//! Requests to a server. All but [`Client::answer`] block.

use std::ffi::OsStr;
use std::fmt;
use std::io::Read as _;
use std::time::Duration;

use serde::Deserialize;
use skein_gateway::network::Network;
use skein_runtime::channel::{Sender, bounded};
use ureq::http::{HeaderValue, Response, StatusCode, header};
use ureq::{Agent, Body};

use super::answer::ErrorObject;
use super::error::words;
use super::sse::Decoder;
use super::{Address, AnswerRequest, AnswerStream, RemoteError};

/// Largest answer to a query, in bytes: some thousand stages.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Largest error that is read, in bytes.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Events read ahead of whoever shows them.
const EVENTS_MAX: usize = 64;
/// How much of a stream is read at once, in bytes.
const READ_BYTES: usize = 16 << 10;

/// How long a server may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// To be found, and to accept a connection: each.
    pub connect: Duration,
    /// For a whole query.
    pub query: Duration,
    /// Until an answer begins: a request may wait for its turn, and a long prompt takes minutes to
    /// read where the processor is slow.
    pub first_event: Duration,
    /// From one event of an answer to the next.
    pub between_events: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            query: Duration::from_secs(10),
            first_event: Duration::from_secs(600),
            between_events: Duration::from_secs(120),
        }
    }
}

/// A server, and the key that it is shown.
#[derive(Clone)]
pub struct Client {
    address: Address,
    authorization: Option<HeaderValue>,
    deadlines: Deadlines,
    /// For queries: keeps its connection between them.
    queries: Agent,
}

impl fmt::Debug for Client {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What `GET /v1/network` said.
#[derive(Debug, Clone)]
pub struct NetworkAnswer {
    /// As it came.
    pub text: String,
    /// As it was understood.
    pub network: Network,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ModelObject>,
}

#[derive(Deserialize)]
struct ModelObject {
    id: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorObject,
}

impl Client {
    /// A client of the server at `address`. Connects to nobody yet.
    ///
    /// # Errors
    /// If no header can carry the key.
    pub fn new(
        address: Address,
        key: Option<&OsStr>,
        deadlines: Deadlines,
    ) -> Result<Self, RemoteError> {
        let authorization = key.map(bearer).transpose()?;
        Ok(Self {
            address,
            authorization,
            deadlines,
            queries: query_agent(deadlines),
        })
    }

    /// Where the server is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The name of a model: the one that the server knows as `name`, else the first that it lists.
    ///
    /// # Errors
    /// [`RemoteError`]
    pub fn model(&self, name: Option<&str>) -> Result<String, RemoteError> {
        if let Some(name) = name {
            let text = self.query(&format!("/v1/models/{}", percent_encoded(name)))?;
            let model: ModelObject = self.parse(&text)?;
            return Ok(model.id);
        }
        let list: ModelList = self.parse(&self.query("/v1/models")?)?;
        let first = list.data.into_iter().next();
        first
            .map(|model| model.id)
            .ok_or_else(|| RemoteError::NoModels {
                address: self.address.clone(),
            })
    }

    /// How the models on offer are.
    ///
    /// # Errors
    /// [`RemoteError`]
    pub fn network(&self) -> Result<NetworkAnswer, RemoteError> {
        let text = self.query("/v1/network")?;
        let network = self.parse(&text)?;
        Ok(NetworkAnswer { text, network })
    }

    /// Asks for an answer. Must be called within a runtime, whose blocking threads read it.
    pub fn answer(&self, request: &AnswerRequest<'_>) -> AnswerStream {
        let agent = answer_agent(self.deadlines);
        let (events, receiver) = bounded(EVENTS_MAX);
        let reader = Reader {
            client: self.clone(),
            agent: agent.clone(),
            url: self.address.url(request.path()),
            body: request.body(),
            events,
        };
        // It ends when the stream that is returned is dropped.
        tokio::task::spawn_blocking(move || reader.run());
        AnswerStream::new(self.address.clone(), receiver, agent, self.deadlines)
    }

    /// Ends a query in progress; there are none after it.
    pub fn close(&self) {
        self.queries.clone().shutdown();
    }

    fn query(&self, path: &str) -> Result<String, RemoteError> {
        let waited = self.deadlines.query;
        let mut request = self.queries.get(self.address.url(path));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = request
            .call()
            .map_err(|error| RemoteError::of_call(&self.address, error, waited))?;
        let mut body = self.accepted(response)?;
        let limited = body.with_config().limit(BODY_BYTES_MAX);
        let bytes = limited
            .read_to_vec()
            .map_err(|error| RemoteError::of_body(&self.address, error, waited))?;
        String::from_utf8(bytes).map_err(|_| self.foreign("its answer is no UTF-8".to_owned()))
    }

    fn parse<'a, T: Deserialize<'a>>(&self, text: &'a str) -> Result<T, RemoteError> {
        let refuse =
            |error| self.foreign(format!("its answer is not what was asked for ({error})"));
        serde_json::from_str(text).map_err(refuse)
    }

    /// The body of a response, unless it says that there is none.
    fn accepted(&self, response: Response<Body>) -> Result<Body, RemoteError> {
        let status = response.status();
        let mut body = response.into_body();
        if status == StatusCode::OK {
            return Ok(body);
        }
        // Whatever is wrong with the error itself, the status is told.
        let bytes = body.with_config().limit(ERROR_BYTES_MAX).read_to_vec();
        let error = serde_json::from_slice::<ErrorBody>(&bytes.unwrap_or_default());
        let Ok(ErrorBody { error }) = error else {
            return Err(self.foreign(format!("it answers with status {status}")));
        };
        let (message, code) = (error.words(), error.code());
        Err(match status {
            StatusCode::UNAUTHORIZED => RemoteError::Unauthorized { message },
            _ => RemoteError::Refused {
                status: status.as_u16(),
                code,
                message,
            },
        })
    }

    fn foreign(&self, reason: String) -> RemoteError {
        RemoteError::Foreign {
            address: self.address.clone(),
            reason: words(&reason),
        }
    }
}

/// Reads one answer on a thread of its own.
struct Reader {
    client: Client,
    agent: Agent,
    url: String,
    body: String,
    events: Sender<Result<String, RemoteError>>,
}

impl Reader {
    fn run(self) {
        if let Err(error) = self.read() {
            // Whoever asked may have gone, which may be why it failed.
            let _ = self.events.blocking_send(Err(error));
        }
    }

    /// Hands on events until the server has said all or nobody listens.
    fn read(&self) -> Result<(), RemoteError> {
        let address = &self.client.address;
        let response = self.send()?;
        let body = self.client.accepted(response)?;
        if body.mime_type() != Some("text/event-stream") {
            let reason = "its answer is no stream of events".to_owned();
            return Err(self.client.foreign(reason));
        }
        let mut body = body.into_reader();
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = body
                .read(&mut buffer)
                .map_err(|error| RemoteError::Broken {
                    address: address.clone(),
                    source: error.into(),
                })?;
            let mut events = Vec::new();
            let decoded = decoder.push(&buffer[..read], &mut events);
            for event in events {
                if self.events.blocking_send(Ok(event)).is_err() {
                    return Ok(());
                }
            }
            decoded.map_err(|source| RemoteError::Stream {
                address: address.clone(),
                source,
            })?;
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn send(&self) -> Result<Response<Body>, RemoteError> {
        let mut request = self.agent.post(&self.url);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.client.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let waited = self.client.deadlines.first_event;
        request
            .send(&self.body)
            .map_err(|error| RemoteError::of_call(&self.client.address, error, waited))
    }
}

/// The header that shows a key.
fn bearer(key: &OsStr) -> Result<HeaderValue, RemoteError> {
    let key = key.to_str().ok_or(RemoteError::Key)?.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RemoteError::Key);
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| RemoteError::Key)?;
    value.set_sensitive(true);
    Ok(value)
}

fn query_agent(deadlines: Deadlines) -> Agent {
    agent(deadlines, |config| {
        config.timeout_global(Some(deadlines.query))
    })
}

/// Has no deadline for the whole, which may take hours: whoever waits for the events has one for
/// each.
fn answer_agent(deadlines: Deadlines) -> Agent {
    agent(deadlines, |config| {
        let longest = deadlines.first_event.max(deadlines.between_events);
        config
            .timeout_send_request(Some(deadlines.query))
            .timeout_send_body(Some(deadlines.first_event))
            .timeout_per_read(Some(longest))
    })
}

type Builder = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

fn agent(deadlines: Deadlines, more: impl FnOnce(Builder) -> Builder) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // The address is the server's own: no variable of the environment sends the key elsewhere,
        // and neither does a redirect.
        .proxy(None)
        .max_redirects(0)
        .user_agent(concat!("skein/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(deadlines.connect))
        .timeout_connect(Some(deadlines.connect));
    more(config).build().new_agent()
}

/// A name as part of a path; slashes stay, since names of models have them.
fn percent_encoded(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}
