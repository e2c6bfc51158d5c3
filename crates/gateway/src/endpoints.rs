//! What each endpoint does.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use skein_base::TraceId;

use crate::answering::{Answering, Origin, Part};
use crate::assembly::Assembly;
use crate::backend::Model;
use crate::error::ApiError;
use crate::network::Network;
use crate::openai::answer::{Head, ModelList, ModelObject};
use crate::openai::chat::ChatRequest;
use crate::openai::common::Common;
use crate::openai::completion::CompletionRequest;
use crate::openai::render::{Form, Kind, Whole};
use crate::state::{Client, Place, State};
use crate::{body, prompts};

/// `GET /healthz` and `GET /readyz`.
pub(crate) fn health(state: &State, ready: bool) -> Response {
    if ready && !state.models.ready() {
        return ApiError::unavailable("No requests are taken now.").into_response();
    }
    json_response("{\"status\":\"ok\"}".to_owned())
}

/// `GET /metrics`.
pub(crate) fn metrics(state: &State) -> Response {
    let mut response = state.metrics.render().into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// `GET /v1/models`.
pub(crate) fn models(state: &State) -> Response {
    let list = ModelList {
        object: "list",
        data: state
            .models
            .list()
            .iter()
            .map(|model| object(model))
            .collect(),
    };
    json_response(serde_json::to_string(&list).expect("strings and numbers always serialise"))
}

/// `GET /v1/network`.
pub(crate) fn network(state: &State) -> Response {
    let network = Network::of(state.models.list().iter().map(AsRef::as_ref));
    json_response(serde_json::to_string(&network).expect("strings and numbers always serialise"))
}

/// `GET /v1/models/{id}`.
pub(crate) fn model(state: &State, id: &str) -> Result<Response, ApiError> {
    let object = object(state.models.find(id)?);
    let text = serde_json::to_string(&object).expect("strings and numbers always serialise");
    Ok(json_response(text))
}

fn object(model: &Model) -> ModelObject<'_> {
    ModelObject {
        id: &model.id,
        object: "model",
        created: model.created,
        owned_by: "skein",
        context_length: model.context_length,
    }
}

/// A request on its way: who sent it, and the place that it takes.
struct Arrival {
    state: Arc<State>,
    client: Client,
    place: Place,
    arrived: std::time::Duration,
    trace: TraceId,
}

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(
    state: &Arc<State>,
    client: Client,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let (arrival, body) = receive(state, client, request).await?;
    let ChatRequest { messages, common } = ChatRequest::parse(&body)?;
    drop(body);
    let model = Arc::clone(state.models.find(&common.model)?);
    let prompt = prompts::of_chat(Arc::clone(&model), messages, state.clock.unix_time()).await?;
    respond(arrival, (model, Kind::Chat), common, vec![prompt]).await
}

/// `POST /v1/completions`.
pub(crate) async fn completions(
    state: &Arc<State>,
    client: Client,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let (arrival, body) = receive(state, client, request).await?;
    let CompletionRequest { prompts, common } = CompletionRequest::parse(&body)?;
    drop(body);
    let model = Arc::clone(state.models.find(&common.model)?);
    let prompts = prompts::of_completion(Arc::clone(&model), prompts).await?;
    respond(arrival, (model, Kind::Completion), common, prompts).await
}

/// Admits a request and reads its body.
async fn receive(
    state: &Arc<State>,
    client: Client,
    request: Request<Body>,
) -> Result<(Arrival, Bytes), ApiError> {
    let arrived = state.now();
    let trace = request.extensions().get().copied().unwrap_or_default();
    client.take_request(arrived)?;
    let place = state.admit()?;
    let config = &state.config;
    let body = body::read(request, config.body_bytes_max, config.body_timeout).await?;
    let arrival = Arrival {
        state: Arc::clone(state),
        client,
        place,
        arrived,
        trace,
    };
    Ok((arrival, body))
}

/// Starts all choices and sends what they say, as a stream or as a whole.
async fn respond(
    arrival: Arrival,
    (model, kind): (Arc<Model>, Kind),
    common: Common,
    prompts: Vec<Vec<u32>>,
) -> Result<Response, ApiError> {
    let form = form(&arrival.state, &model, kind, &common);
    let choices = prompts.len().saturating_mul(common.choices);
    let mut answering = start(arrival, &model, &common, prompts)?;
    if !common.stream {
        let mut wholes: Vec<Whole> = (0..choices).map(|_| Whole::default()).collect();
        while let Some(part) = answering.next().await? {
            wholes[part.choice].push(part.piece);
        }
        return Ok(json_response(form.whole(wholes, answering.usage())));
    }
    // Whatever fails before the first event is still told by a status.
    let first = answering.next().await?;
    let streaming = Streaming {
        opening: Some((form.opening(choices), first)),
        form,
        answering: Some(answering),
    };
    Ok(stream_response(streaming))
}

fn form(state: &State, model: &Model, kind: Kind, common: &Common) -> Form {
    let prefix = match kind {
        Kind::Chat => "chatcmpl-",
        Kind::Completion => "cmpl-",
    };
    Form {
        kind,
        head: Head {
            id: state.ids.id(prefix),
            object: Form::object(kind, common.stream),
            created: state.clock.unix_time().as_secs(),
            model: model.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
        },
        tokenizer: model.tokenizer.clone(),
        logprobs: common.logprobs,
        token_ids: common.token_ids,
        include_usage: common.include_usage,
    }
}

/// Submits every choice of every prompt; all or none.
fn start(
    arrival: Arrival,
    model: &Model,
    common: &Common,
    prompts: Vec<Vec<u32>>,
) -> Result<Answering, ApiError> {
    let prompt_tokens = prompts.iter().map(Vec::len).sum();
    let lengths = prompts::lengths(model, common, &prompts)?;
    arrival.client.take_tokens(prompt_tokens, arrival.arrived)?;
    let seed = common.seed.unwrap_or_else(|| arrival.state.ids.seed());
    let template = prompts::Submission {
        client: &arrival.client.name,
        model,
        common,
        deadline: arrival.state.config.answer_timeout,
        trace: arrival.trace,
    };
    let mut choices = Vec::with_capacity(prompts.len().saturating_mul(common.choices));
    for (prompt, max_tokens) in prompts.into_iter().zip(lengths) {
        for number in 0..common.choices {
            let seed = seed.wrapping_add(number as u64);
            let assembly = assembly(model, common)?;
            choices.push((assembly, template.submit(prompt.clone(), max_tokens, seed)?));
        }
    }
    let origin = Origin {
        state: arrival.state,
        client: arrival.client,
        place: arrival.place,
        arrived: arrival.arrived,
        prompt_tokens,
        choices_per_prompt: common.choices,
    };
    Ok(Answering::new(origin, choices))
}

fn assembly(model: &Model, common: &Common) -> Result<Assembly, ApiError> {
    let stop = skein_text::StopMatcher::new(&common.stop, common.stop.len())
        .map_err(|error| ApiError::field("stop", error.to_string()))?;
    let detokenizer = skein_text::Detokenizer::new(&model.tokenizer);
    let wants_tokens = common.logprobs.is_some() || common.token_ids;
    Ok(Assembly::new(detokenizer, stop, wants_tokens))
}

/// A streamed answer between two of its events.
struct Streaming {
    form: Form,
    /// What goes before the first chunk, and the part that was waited for.
    opening: Option<(Vec<String>, Option<Part>)>,
    /// `None` once the stream has said its last word.
    answering: Option<Answering>,
}

impl Streaming {
    /// The next bytes to send; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut events = Vec::new();
        if let Some((opening, first)) = self.opening.take() {
            events.extend(opening);
            match first {
                Some(part) => events.extend(self.form.chunks(part.choice, part.piece)),
                None => self.close(&mut events),
            }
        }
        while events.is_empty() {
            let part = match &mut self.answering {
                Some(answering) => answering.next().await,
                None => return None,
            };
            match part {
                Ok(Some(part)) => events.extend(self.form.chunks(part.choice, part.piece)),
                Ok(None) => self.close(&mut events),
                Err(error) => {
                    // The status has gone out already; an event is all that is left to say it with.
                    self.answering = None;
                    events.push(error.to_json());
                }
            }
        }
        let mut bytes = String::new();
        for event in events {
            bytes.push_str("data: ");
            bytes.push_str(&event);
            bytes.push_str("\n\n");
        }
        Some(Bytes::from(bytes))
    }

    fn close(&mut self, events: &mut Vec<String>) {
        if let Some(answering) = self.answering.take() {
            events.extend(self.form.closing(answering.usage()));
            events.push("[DONE]".to_owned());
        }
    }
}

fn stream_response(streaming: Streaming) -> Response {
    let events = stream::unfold(streaming, |mut streaming| async move {
        let bytes = streaming.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), streaming))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of the nginx family collect a response before they pass it on unless told otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn json_response(text: String) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
}
