//! A gateway in this process, over a backend that says what it is told to.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request as HttpRequest, Response, StatusCode};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use serde_json::Value;
use skein_runtime::{Clock as _, ManualClock, Secret32};
use skein_serving::view::View;
use skein_serving::{Event, FinishReason, GenerationError, Request, SubmitError, Token, Usage};
use skein_text::{ChatTemplate, SamplingParams, Tokenizer};
use skein_weights::vocabulary::{Vocabulary, VocabularyKind};
use tower::ServiceExt as _;

use crate::backend::{Backend, Model};
use crate::config::GatewayConfig;
use crate::ids::Ids;
use crate::metrics::{GatewayMetrics, Metrics};
use crate::serve::router;
use crate::state::State;

pub(crate) const EOS: u32 = 258;
pub(super) const CONTEXT: usize = 200;
/// Unix time at the start of the tests' clock.
pub(super) const UNIX: u64 = 1_700_000_000;

/// What the backend does next.
#[derive(Debug, Clone)]
pub(super) enum Script {
    /// Says a text byte by byte, then stops; with a temperature, says the seed after it.
    Say(String),
    /// Says these tokens.
    Ids(Vec<u32>),
    /// Says a text and then nothing more, without an end.
    Hang(String),
    /// Says a text, then ends like this.
    End(String, Event),
    /// Ends without a last event.
    Vanish,
    Refuse(SubmitError),
    Panic,
}

/// A backend that follows a script.
pub(super) struct Scripted {
    pub(super) script: Mutex<Script>,
    pub(super) seen: Mutex<Vec<Request>>,
    pub(super) ready: Mutex<bool>,
    pub(super) view: Mutex<View>,
    /// Generations that were not dropped yet.
    pub(super) alive: Arc<AtomicUsize>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend for Scripted {
    fn submit(&self, request: Request) -> Result<BoxStream<'static, Event>, SubmitError> {
        self.seen.lock().unwrap().push(request.clone());
        let script = self.script.lock().unwrap().clone();
        let (events, hangs) = match script {
            Script::Refuse(error) => return Err(error),
            Script::Panic => panic!("as the script says"),
            Script::Say(mut text) => {
                if request.sampling.temperature > 0.0 {
                    text.push_str(&format!("#{}", request.sampling.seed));
                }
                (said(&request, text.bytes().map(u32::from).collect()), false)
            }
            Script::Ids(ids) => (said(&request, ids), false),
            Script::Hang(text) => (begun(&request, text.bytes().map(u32::from).collect()), true),
            Script::End(text, end) => {
                let mut events = begun(&request, text.bytes().map(u32::from).collect());
                events.push(end);
                (events, false)
            }
            Script::Vanish => (begun(&request, Vec::new()), false),
        };
        self.alive.fetch_add(1, Ordering::SeqCst);
        let guard = Alive(Arc::clone(&self.alive));
        let events = stream::iter(events);
        let events = match hangs {
            true => events.chain(stream::pending()).boxed(),
            false => events.boxed(),
        };
        let held = events.map(move |event| {
            let _ = &guard;
            event
        });
        Ok(held.boxed())
    }

    fn ready(&self) -> bool {
        *self.ready.lock().unwrap()
    }

    fn view(&self) -> View {
        self.view.lock().unwrap().clone()
    }
}

fn begun(request: &Request, ids: Vec<u32>) -> Vec<Event> {
    let started = Event::Started {
        prompt_tokens: request.prompt.len(),
        reused_tokens: request.prompt.len() / 2,
    };
    let top = request.sampling.top_logprobs;
    let token = |id: u32| {
        let others = (0..top)
            .map(|rank| ((id + rank) % 256, -0.5 - rank as f32))
            .collect();
        Event::Token(Token {
            id,
            logprob: -0.5,
            top: others,
        })
    };
    [started]
        .into_iter()
        .chain(ids.into_iter().map(token))
        .collect()
}

fn said(request: &Request, mut ids: Vec<u32>) -> Vec<Event> {
    let reason = match ids.len() >= request.max_tokens {
        true => FinishReason::Length,
        false => FinishReason::Stop(EOS),
    };
    ids.truncate(request.max_tokens);
    let usage = Usage {
        prompt: request.prompt.len(),
        completion: ids.len() + usize::from(reason != FinishReason::Length),
        reused: request.prompt.len() / 2,
    };
    let mut events = begun(request, ids);
    events.push(Event::Finished { reason, usage });
    events
}

pub(super) fn failed() -> Event {
    // Its words must not reach a client.
    let error = GenerationError::Stalled {
        session: 1,
        seconds: 4711,
    };
    Event::Failed { error }
}

/// One token per byte, three special ones, and "ab" as one.
pub(crate) fn tokenizer() -> Tokenizer {
    let mut vocabulary = serde_json::Map::new();
    let mut beyond = 256_u32;
    for byte in 0..=255_u8 {
        let plain = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let letter = if plain {
            char::from(byte)
        } else {
            beyond += 1;
            char::from_u32(beyond - 1).unwrap()
        };
        vocabulary.insert(letter.to_string(), byte.into());
    }
    let specials = [
        (256, "<|im_start|>"),
        (257, "<|im_end|>"),
        (EOS, "<|endoftext|>"),
    ];
    for (id, token) in specials.into_iter().chain([(259, "ab")]) {
        vocabulary.insert(token.to_owned(), id.into());
    }
    let special = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": true, "use_regex": true});
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": specials.map(|(id, token)| special(id, token)),
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary, "merges": []},
    });
    Tokenizer::new(&vocabulary_of(json.to_string().into_bytes())).unwrap()
}

/// A gateway and what is behind it.
pub(super) struct Rig {
    pub(super) state: Arc<State>,
    pub(super) backend: Arc<Scripted>,
    pub(super) clock: Arc<ManualClock>,
}

/// A response that has been read.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The `data:` of a stream's events; its framing is checked.
    pub(super) fn events(&self) -> Vec<String> {
        let body = self
            .text
            .strip_suffix("\n\n")
            .expect("a stream ends with a blank line");
        let event = |event: &str| {
            assert!(!event.contains('\n'), "{event}");
            event
                .strip_prefix("data: ")
                .expect("all lines are data")
                .to_owned()
        };
        body.split("\n\n").map(event).collect()
    }

    /// The JSON of all events before `[DONE]`, which must be there.
    pub(super) fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events
            .iter()
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is an error in OpenAI's shape, and yields its code and param.
    pub(super) fn error(&self) -> (u16, String, String) {
        assert_eq!(
            self.header("content-type"),
            "application/json",
            "{}",
            self.text
        );
        let json = self.json();
        let error = json["error"].as_object().expect("an error object");
        let keys: Vec<&str> = error.keys().map(String::as_str).collect();
        for key in ["message", "type", "param", "code"] {
            assert!(keys.contains(&key), "{keys:?}");
        }
        assert!(!error["message"].as_str().unwrap().is_empty());
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("code"), text("param"))
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(GatewayConfig::default())
    }

    pub(super) fn with(config: GatewayConfig) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(UNIX)));
        let backend = scripted();
        let listen = "127.0.0.1:8080".parse().unwrap();
        let (keys, _) = config.parts(listen).unwrap();
        let metrics = GatewayMetrics::new(Metrics::new());
        let state = State::new(
            config,
            listen,
            (keys, vec![model(Arc::clone(&backend))]),
            clock.clone(),
            (Ids::new(Secret32::from_bytes([1; 32])), metrics),
        );
        Self {
            state: Arc::new(state),
            backend,
            clock,
        }
    }

    pub(super) fn script(&self, script: Script) -> &Self {
        *self.backend.script.lock().unwrap() = script;
        self
    }

    pub(super) async fn send(&self, request: HttpRequest<Body>) -> Response<Body> {
        router(Arc::clone(&self.state))
            .oneshot(request)
            .await
            .unwrap()
    }

    pub(super) async fn read(&self, request: HttpRequest<Body>) -> Reply {
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        let request = HttpRequest::get(path).header("host", "localhost");
        self.read(request.body(Body::empty()).unwrap()).await
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Reply {
        self.read(posted(path, body)).await
    }

    /// A completion of "hi" with more fields.
    pub(super) async fn complete(&self, more: Value) -> Reply {
        let fields = merged(serde_json::json!({"model": "tiny", "prompt": "hi"}), more);
        self.post("/v1/completions", fields.to_string()).await
    }

    /// A chat with one message and more fields.
    pub(super) async fn chat(&self, more: Value) -> Reply {
        let messages = serde_json::json!([{"role": "user", "content": "hi"}]);
        let fields = serde_json::json!({"model": "tiny", "messages": messages});
        self.post("/v1/chat/completions", merged(fields, more).to_string())
            .await
    }

    pub(super) fn alive(&self) -> usize {
        self.backend.alive.load(Ordering::SeqCst)
    }

    pub(super) fn last_request(&self) -> Request {
        self.backend.seen.lock().unwrap().last().unwrap().clone()
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now().since_start()
    }
}

fn merged(mut fields: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        fields[name] = value.clone();
    }
    fields
}

pub(super) fn posted(path: &str, body: impl Into<Vec<u8>>) -> HttpRequest<Body> {
    HttpRequest::post(path)
        .header("host", "localhost:8080")
        .header("content-type", "application/json")
        .body(Body::from(body.into()))
        .unwrap()
}

pub(super) fn scripted() -> Arc<Scripted> {
    Arc::new(Scripted {
        script: Mutex::new(Script::Say("Hello, wörld!".to_owned())),
        seen: Mutex::default(),
        ready: Mutex::new(true),
        view: Mutex::default(),
        alive: Arc::default(),
    })
}

pub(super) fn model(backend: Arc<Scripted>) -> Model {
    Model {
        id: "tiny".to_owned(),
        aliases: vec!["org/tiny".to_owned()],
        created: 1_600_000_000,
        fingerprint: "fp_0123456789".to_owned(),
        context_length: CONTEXT,
        vocabulary: 260,
        tokenizer: tokenizer(),
        template: Some(Arc::new(template())),
        stop_ids: vec![EOS],
        sampling: SamplingParams::greedy(),
        backend,
    }
}

fn template() -> ChatTemplate {
    ChatTemplate::builtin("chatml").unwrap()
}

fn vocabulary_of(tokenizer_json: Vec<u8>) -> Vocabulary {
    Vocabulary {
        kind: VocabularyKind::TokenizerJson(tokenizer_json),
        chat_template: None,
        special_tokens: vec![("eos_token".to_owned(), "<|endoftext|>".to_owned())],
        bos: None,
        eos: vec![EOS],
    }
}
