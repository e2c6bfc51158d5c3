//! A model cut over stages that talk over real links: what one process says, bit for bit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skein_base::{ModelId, NodeId};
use skein_model::{KvPages, Pool, SliceModel};
use skein_node::stage::{LinksPost, feed, run_host};
use skein_p2p::{Identity, LinkConfig, Links, LinksConfig};
use skein_routing::{Inbox, ModelSpec, Pipeline, PipelineConfig, StageRecord, StaticDirectory};
use skein_runtime::channel::bounded;
use skein_runtime::{Clock, FsFolder, Secret32, SystemClock, Tasks, timeout};
use skein_serving::host::{Host, HostConfig, SliceIdentity};
use skein_serving::wire::{CircuitId, PROTOCOL};
use skein_serving::{
    ClientId, Engine, EngineConfig, EngineHandle, Event, FinishReason, ModelStage, Request,
};
use skein_text::SamplingParams;
use skein_weights::{HfCheckpoint, Slice, WeightSource as _};
use tokio::net::TcpListener;

const PAGES: u32 = 64;

fn checkpoint() -> HfCheckpoint {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/qwen2");
    let folder = Arc::new(FsFolder::open(&root).expect("a fixture"));
    HfCheckpoint::open(folder).expect("a checkpoint")
}

fn load(slice: Slice) -> SliceModel {
    SliceModel::load(&checkpoint(), slice, None, Arc::new(Pool::new(1))).expect("loads")
}

fn engine_config() -> EngineConfig {
    EngineConfig {
        sessions_max: 8,
        decode_rows_max: 8,
        prefill_rows_max: 16,
        growth_pages: 1,
        waiting_max: 64,
        waiting_per_client_max: 64,
        retained_max: 8,
        events_max: 64,
        stall_max: Duration::from_secs(60),
    }
}

fn pipeline_config() -> PipelineConfig {
    PipelineConfig {
        pages: PAGES,
        down_max: Duration::from_secs(60),
        ..PipelineConfig::default()
    }
}

fn links_config() -> LinksConfig {
    LinksConfig {
        link: LinkConfig::default(),
        protocol: PROTOCOL.to_owned(),
        accepted_max: 16,
        accepted_per_node_max: 4,
        admitted: None,
        queue_max: 64,
        keepalive: Duration::from_millis(500),
    }
}

/// What eight clients at once are told.
async fn answers(handle: &EngineHandle) -> Vec<Vec<(u32, u32)>> {
    let submit = |client: u32| {
        let request = Request {
            client: ClientId::new(format!("client {}", client % 3)),
            prompt: (0..20 + client).map(|i| i * 7 % 300).collect(),
            max_tokens: 20,
            sampling: SamplingParams {
                temperature: 0.7,
                seed: u64::from(client),
                ..SamplingParams::default()
            },
            stop_ids: Vec::new(),
            ignore_eos: true,
            deadline: None,
        };
        handle.submit(request).expect("taken")
    };
    let running: Vec<_> = (0..8).map(submit).collect();
    let mut all = Vec::new();
    for mut generation in running {
        let mut tokens = Vec::new();
        loop {
            let event = timeout(Duration::from_secs(120), generation.next()).await;
            match event.expect("in time").expect("an end") {
                Event::Started { .. } => {}
                Event::Token(token) => tokens.push((token.id, token.logprob.to_bits())),
                Event::Finished { reason, .. } => {
                    assert_eq!(reason, FinishReason::Length);
                    break;
                }
                Event::Failed { error } => panic!("{error}"),
            }
        }
        all.push(tokens);
    }
    all
}

/// A stage on its own links and thread.
struct Running {
    tasks: Tasks,
}

fn start_stage(
    (own, listener): (Identity, TcpListener),
    book: &BTreeMap<NodeId, std::net::SocketAddr>,
    layers: std::ops::Range<u32>,
) -> Running {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let (sender, events) = bounded(256);
    let ends = (tasks.clone(), sender);
    let links = Links::start(
        own,
        Some(listener),
        Box::new(book.clone()),
        links_config(),
        ends,
    );
    let of = checkpoint().profile().layers;
    let model = load(Slice::new(layers.clone(), of).expect("a slice"));
    let identity = SliceIdentity {
        model: ModelId([3; 32]),
        numerics: model.numerics_id(),
        layers,
    };
    let page = KvPages::page_bytes_of(model.profile(), model.slice());
    let stage = ModelStage::new(model, page * u64::from(PAGES));
    let host = Host::new(stage, identity, HostConfig::default());
    let runtime = tokio::runtime::Handle::current();
    let body = move |stopping| {
        let clock = SystemClock::new();
        run_host(host, &links, events, &clock, (&runtime, &stopping));
    };
    tasks.thread("stage", body).expect("a thread");
    Running { tasks }
}

/// Nodes that listen on loopback, and where.
async fn nodes(
    count: u8,
) -> (
    Vec<(Identity, TcpListener)>,
    BTreeMap<NodeId, std::net::SocketAddr>,
) {
    let mut ends = Vec::new();
    let mut book = BTreeMap::new();
    for number in 1..=count {
        let identity = Identity::from_seed(&[number; 32]).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        book.insert(identity.node(), listener.local_addr().expect("an address"));
        ends.push((identity, listener));
    }
    (ends, book)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_on_links_say_what_one_process_says() {
    let profile = checkpoint().profile().clone();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let whole = load(Slice::whole(profile.layers));
    let numerics = whole.numerics_id();
    let page = KvPages::page_bytes_of(whole.profile(), whole.slice());
    let stage = ModelStage::new(whole, page * u64::from(PAGES));
    let secret = || Secret32::from_bytes([1; 32]);
    let single = Engine::start(stage, engine_config(), Arc::clone(&clock), secret());
    let single = single.expect("starts");
    let expected = answers(&single.handle()).await;

    // Two replicas of two slices, and the entry.
    let (mut ends, book) = nodes(5).await;
    let middle = profile.layers / 2;
    let (own, listener) = ends.pop().expect("five");
    let mut records = Vec::new();
    let mut stages = Vec::new();
    for (index, end) in ends.into_iter().enumerate() {
        let layers = if index < 2 {
            0..middle
        } else {
            middle..profile.layers
        };
        let node = end.0.node();
        records.push(StageRecord {
            node,
            layers: layers.clone(),
        });
        stages.push((node, start_stage(end, &book, layers)));
    }
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let (sender, events) = bounded(256);
    let links = Links::start(
        own,
        Some(listener),
        Box::new(book),
        links_config(),
        (tasks.clone(), sender),
    );
    let inbox = Inbox::new();
    let feeding = feed(inbox.clone(), links.clone(), events, tasks.stopping());
    tasks.spawn("feed", feeding);
    let spec = ModelSpec {
        model: ModelId([3; 32]),
        numerics,
        layers: profile.layers,
        hidden: profile.hidden,
        vocabulary: profile.vocabulary,
        context: profile.context as usize,
    };
    let config = pipeline_config();
    let directory = Box::new(StaticDirectory(records));
    let post = LinksPost(links);
    let secrets = (CircuitId([5; 16]), secret());
    let pipeline = Pipeline::new(spec, config, directory, (post, inbox), secrets);
    let engine = Engine::start_with(pipeline, engine_config(), clock, secret());
    let engine = engine.expect("starts");
    assert_eq!(answers(&engine.handle()).await, expected);
    // Among equals the lowest key is chosen: that stage is in use, and ends.
    let handle = engine.handle();
    let (again, ()) = tokio::join!(answers(&handle), async {
        stages.sort_by_key(|(node, _)| *node);
        let victim = stages.remove(0).1;
        let _ = victim.tasks.shutdown(Duration::from_secs(10)).await;
    });
    assert_eq!(again, expected, "with a stage lost on the way");
    assert_eq!(answers(&handle).await, expected, "without that stage");
    engine.shutdown(Duration::from_secs(10)).await;
    let _ = tasks.shutdown(Duration::from_secs(10)).await;
    for (_, stage) in stages {
        let _ = stage.tasks.shutdown(Duration::from_secs(10)).await;
    }
}
