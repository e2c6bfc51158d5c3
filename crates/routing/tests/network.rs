//! Whole networks from one seed: an entry, stages with real slices of real checkpoints, links that
//! deliver in any order among each other, and faults. Every message passes through its encoding.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skein_base::{ModelId, NodeId};
use skein_model::{Input, KvPages, Output, Pool, ScoreRows, Segment, SliceModel};
use skein_routing::{
    Inbox, Incoming, ModelSpec, Pipeline, PipelineConfig, Post, PostError, StageRecord,
    StaticDirectory,
};
use skein_runtime::{Clock as _, FsFolder, ManualClock, Secret32};
use skein_serving::host::{Host, HostConfig, LinkId, SliceIdentity, To};
use skein_serving::scheduler::{Scheduler, SessionId};
use skein_serving::wire::{CircuitId, Message, Outcome, decode, encode};
use skein_serving::{
    ClientId, EngineConfig, Event, Executor as _, FinishReason, ModelStage, Request,
};
use skein_text::{Sampler, SamplingParams};
use skein_weights::source::WeightSource as _;
use skein_weights::{HfCheckpoint, Slice};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn open(name: &str) -> HfCheckpoint {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let folder = Arc::new(FsFolder::open(&root.join(name)).unwrap());
    HfCheckpoint::open(folder).unwrap()
}

fn load(checkpoint: &HfCheckpoint, slice: Slice) -> SliceModel {
    SliceModel::load(checkpoint, slice, None, Arc::new(Pool::new(1))).unwrap()
}

fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

const ENTRY: NodeId = NodeId([0; 32]);
/// Pages of every stage; a request of these tests takes at most three.
const PAGES: u32 = 10;

/// What the entry hands over, until the net takes it.
#[derive(Debug, Clone, Default)]
struct Outbox(Arc<Mutex<Vec<(NodeId, Message)>>>);

impl Post for Outbox {
    fn send(&mut self, to: NodeId, message: Message) -> Result<(), PostError> {
        self.0.lock().unwrap().push((to, message));
        Ok(())
    }
}

struct Net {
    checkpoint: HfCheckpoint,
    records: Vec<StageRecord>,
    hosts: BTreeMap<NodeId, Host<ModelStage>>,
    /// Stopped, but not gone: they take nothing and say nothing.
    stopped: BTreeSet<NodeId>,
    links: BTreeMap<(NodeId, NodeId), VecDeque<Vec<u8>>>,
    outbox: Outbox,
    inbox: Inbox,
    clock: ManualClock,
    random: Random,
    /// How the answers of the last stages are falsified, now and then.
    liars: bool,
    trace: u64,
}

impl Net {
    /// `cut` slices with `replicas` each.
    fn new(name: &str, cut: u32, replicas: u8, seed: u64) -> Self {
        let checkpoint = open(name);
        let layers = checkpoint.profile().layers;
        let mut records = Vec::new();
        for slice in 0..cut {
            for replica in 0..replicas {
                let number = 1 + slice as u8 * replicas + replica;
                let node = node(number);
                let layers = layers * slice / cut..layers * (slice + 1) / cut;
                records.push(StageRecord { node, layers });
            }
        }
        let mut net = Self {
            checkpoint,
            records,
            hosts: BTreeMap::new(),
            stopped: BTreeSet::new(),
            links: BTreeMap::new(),
            outbox: Outbox::default(),
            inbox: Inbox::new(),
            clock: ManualClock::default(),
            random: Random(seed),
            liars: false,
            trace: 0,
        };
        for record in net.records.clone() {
            net.start(&record);
        }
        net
    }

    fn identity(&self, record: &StageRecord) -> SliceIdentity {
        SliceIdentity {
            model: ModelId([3; 32]),
            numerics: load(&self.checkpoint, self.slice(&(0..1))).numerics_id(),
            layers: record.layers.clone(),
        }
    }

    fn slice(&self, layers: &std::ops::Range<u32>) -> Slice {
        let count = self.checkpoint.profile().layers;
        Slice::new(layers.clone(), count).unwrap()
    }

    fn start(&mut self, record: &StageRecord) {
        let model = load(&self.checkpoint, self.slice(&record.layers));
        let page = KvPages::page_bytes_of(model.profile(), model.slice());
        let stage = ModelStage::new(model, page * u64::from(PAGES));
        let config = HostConfig {
            open_timeout: Duration::from_millis(200),
            idle_timeout: Duration::from_secs(30),
            ..HostConfig::default()
        };
        let host = Host::new(stage, self.identity(record), config);
        self.hosts.insert(record.node, host);
    }

    fn pipeline(&self) -> Pipeline<Outbox> {
        let profile = self.checkpoint.profile();
        let spec = ModelSpec {
            model: ModelId([3; 32]),
            numerics: load(&self.checkpoint, self.slice(&(0..1))).numerics_id(),
            layers: profile.layers,
            vocabulary: profile.vocabulary,
            context: profile.context as usize,
        };
        let config = PipelineConfig {
            pages: PAGES,
            open_timeout: Duration::from_millis(500),
            step_timeout: Duration::from_millis(1000),
            retry: Duration::from_millis(10),
            shun: Duration::from_millis(100),
            down_max: Duration::from_secs(20),
        };
        let directory = Box::new(StaticDirectory(self.records.clone()));
        let ends = (self.outbox.clone(), self.inbox.clone());
        Pipeline::new(spec, config, directory, ends, CircuitId([5; 16]))
    }

    fn put(&mut self, from: NodeId, to: NodeId, message: &Message) {
        let bytes = encode(message);
        for byte in &bytes {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if to == ENTRY || self.hosts.contains_key(&to) {
            self.links.entry((from, to)).or_default().push_back(bytes);
        } else {
            self.tell_gone(from, to);
        }
    }

    /// Tells `who` that the link to `gone` ended.
    fn tell_gone(&mut self, who: NodeId, gone: NodeId) {
        if who == ENTRY {
            self.inbox.put(Incoming::Closed { node: gone });
        } else if let Some(host) = self.hosts.get_mut(&who) {
            host.unreachable(gone);
            host.link_closed(LinkId(u64::from(gone.0[0])));
        }
    }

    /// One message arrives somewhere, or one host computes.
    fn step(&mut self) {
        let posted = std::mem::take(&mut *self.outbox.0.lock().unwrap());
        for (to, message) in posted {
            self.put(ENTRY, to, &message);
        }
        let full: Vec<_> = self
            .links
            .iter()
            .filter(|((_, to), link)| !link.is_empty() && !self.stopped.contains(to))
            .map(|(ends, _)| *ends)
            .collect();
        let busy: Vec<_> = self
            .hosts
            .iter()
            .filter(|(node, host)| host.has_work() && !self.stopped.contains(node))
            .map(|(node, _)| *node)
            .collect();
        let choices = full.len() + busy.len();
        if choices == 0 {
            return;
        }
        let choice = self.random.below(choices);
        let Some((from, to)) = full.get(choice).copied() else {
            let who = busy[choice - full.len()];
            self.hosts.get_mut(&who).unwrap().run();
            return self.sends(who);
        };
        let bytes = self
            .links
            .get_mut(&(from, to))
            .unwrap()
            .pop_front()
            .unwrap();
        let message = decode(&bytes).unwrap();
        if to == ENTRY {
            let message = self.falsify(message);
            assert!(self.inbox.put(Incoming::Message { from, message }));
        } else {
            let link = LinkId(u64::from(from.0[0]));
            let now = self.clock.now();
            self.hosts.get_mut(&to).unwrap().message(now, link, message);
            self.sends(to);
        }
    }

    fn sends(&mut self, who: NodeId) {
        let sends = self.hosts.get_mut(&who).unwrap().take_sends();
        for (to, message) in sends {
            let to = match to {
                To::Node(node) => node,
                To::Link(LinkId(link)) => node(link as u8),
            };
            self.put(who, to, &message);
        }
    }

    /// Sins that can be seen in the answer itself.
    fn falsify(&mut self, mut message: Message) -> Message {
        if !self.liars || self.random.below(40) > 0 {
            return message;
        }
        if let Message::Answer {
            number, outcome, ..
        } = &mut message
        {
            match (self.random.below(4), outcome) {
                (0, _) => *number += 1,
                (1, Outcome::Scores(scores)) => scores.truncate(0),
                (2, Outcome::Scores(scores)) if !scores.is_empty() => {
                    scores[0].log_sum_exp = f32::NAN;
                }
                (_, outcome) => *outcome = Outcome::Hidden(vec![0.0; 64]),
            }
        }
        message
    }

    fn tick(&mut self) {
        self.clock.advance(Duration::from_millis(1));
        let now = self.clock.now();
        let nodes: Vec<_> = self.hosts.keys().copied().collect();
        for node in nodes {
            if !self.stopped.contains(&node) {
                self.hosts.get_mut(&node).unwrap().tick(now);
                self.sends(node);
            }
        }
    }

    fn kill(&mut self, victim: NodeId) {
        self.hosts.remove(&victim);
        self.stopped.remove(&victim);
        self.links
            .retain(|(from, to), _| *from != victim && *to != victim);
        let others: Vec<_> = self.hosts.keys().copied().collect();
        self.tell_gone(ENTRY, victim);
        for other in others {
            self.tell_gone(other, victim);
            self.sends(other);
        }
    }

    /// Something goes wrong, or is mended.
    fn disturb(&mut self) {
        let record = self.records[self.random.below(self.records.len())].clone();
        let node = record.node;
        match self.random.below(4) {
            0 if self.hosts.contains_key(&node) => self.kill(node),
            1 if self.hosts.contains_key(&node) => {
                self.stopped.insert(node);
            }
            _ => {
                self.stopped.clear();
                for record in self.records.clone() {
                    if !self.hosts.contains_key(&record.node) {
                        self.start(&record);
                    }
                }
            }
        }
        for host in self.hosts.values() {
            let (granted, total) = host.granted();
            assert!(granted <= total, "over budget");
        }
    }
}

fn requests(random: &mut Random, vocabulary: u32, count: usize) -> Vec<Request> {
    let beginning: Vec<u32> = (0..35)
        .map(|_| random.below(vocabulary as usize) as u32)
        .collect();
    let one = |index: usize| {
        let mut prompt = beginning.clone();
        prompt.truncate(random.below(36));
        prompt.extend((0..1 + random.below(20)).map(|_| random.below(vocabulary as usize) as u32));
        Request {
            client: ClientId::new(format!("client {}", index % 3)),
            prompt,
            max_tokens: 1 + random.below(20),
            sampling: SamplingParams {
                temperature: [0.0, 0.8][random.below(2)],
                seed: random.next(),
                logit_bias: BTreeMap::from([(random.below(vocabulary as usize) as u32, 2.0)]),
                ..SamplingParams::default()
            },
            stop_ids: Vec::new(),
            ignore_eos: true,
            deadline: None,
        }
    };
    (0..count).map(one).collect()
}

type Tokens = Vec<(u32, u32)>;

/// What one process says, without scheduler, pages of others, or network.
fn alone(model: &SliceModel, request: &Request) -> Tokens {
    let mut kv = KvPages::new(model.profile(), model.slice(), 64 << 20);
    let mut sequence = kv.sequence();
    let mut sampler = Sampler::new(request.sampling.clone(), &request.prompt);
    let mut fed = request.prompt.clone();
    let mut tokens = Vec::new();
    while tokens.len() < request.max_tokens {
        let len = sequence.len() + fed.len();
        kv.reserve(&mut sequence, len).unwrap();
        let asked = sampler.asked();
        let mut segments = [Segment {
            sequence: &mut sequence,
            rows: fed.len(),
            scores: ScoreRows::Last,
            asked: &asked,
        }];
        let Output::Scores(scores) = model
            .forward(&mut kv, &mut segments, Input::Ids(&fed))
            .unwrap()
        else {
            panic!("a whole model has a head");
        };
        let sampled = sampler.sample(&scores[0]).unwrap();
        tokens.push((sampled.id, sampled.logprob.to_bits()));
        fed = vec![sampled.id];
    }
    tokens
}

struct Outcomes {
    tokens: BTreeMap<SessionId, Tokens>,
    failed: usize,
    circuits: u32,
    /// Prompt tokens that were on the stages already.
    reused: usize,
    trace: u64,
}

/// All requests through the network, with a disturbance about every `calm` milliseconds.
fn through(net: &mut Net, requests: &[Request], calm: usize) -> Outcomes {
    let mut pipeline = net.pipeline();
    let config = EngineConfig {
        sessions_max: 8,
        decode_rows_max: 8,
        prefill_rows_max: 24,
        growth_pages: 0,
        waiting_max: 64,
        waiting_per_client_max: 64,
        retained_max: 4,
        events_max: 8,
        stall_max: Duration::from_secs(600),
    };
    let mut scheduler = Scheduler::new(config, Secret32::from_bytes([9; 32]));
    let mut outcomes = Outcomes {
        tokens: BTreeMap::new(),
        failed: 0,
        circuits: 0,
        reused: 0,
        trace: 0,
    };
    for request in requests {
        scheduler
            .submit(net.clock.now(), request.clone(), &pipeline)
            .unwrap();
    }
    let mut time = 0;
    while !scheduler.is_empty() {
        time += 1;
        assert!(time < 200_000, "no end");
        net.tick();
        let now = net.clock.now();
        scheduler.drain(now, &mut pipeline);
        scheduler.expire(now, &mut pipeline);
        while pipeline.is_open() {
            let plan = scheduler.plan(now, &mut pipeline);
            if plan.is_empty() {
                break;
            }
            scheduler.begin(now, plan, &mut pipeline);
        }
        for (id, event) in scheduler.take_events() {
            match event {
                Event::Started { reused_tokens, .. } => outcomes.reused += reused_tokens,
                Event::Token(token) => {
                    let pair = (token.id, token.logprob.to_bits());
                    outcomes.tokens.entry(id).or_default().push(pair);
                }
                Event::Finished { reason, .. } => assert_eq!(reason, FinishReason::Length),
                Event::Failed { error } => {
                    assert!(error.to_string().contains("no working stage"), "{error}");
                    outcomes.failed += 1;
                }
            }
        }
        for _ in 0..6 {
            net.step();
        }
        if calm > 0 && net.random.below(calm) == 0 {
            net.disturb();
        }
    }
    outcomes.circuits = pipeline.generation();
    outcomes.trace = net.trace;
    outcomes
}

fn expected(net: &Net, requests: &[Request]) -> Vec<Tokens> {
    let whole = load(
        &net.checkpoint,
        Slice::whole(net.checkpoint.profile().layers),
    );
    requests
        .iter()
        .map(|request| alone(&whole, request))
        .collect()
}

/// Any cut, many sessions at once: what one process says, bit for bit.
#[test]
fn a_cut_model_says_what_the_whole_one_says() {
    for name in ["qwen2", "llama31-sharded", "mistral", "gpt2"] {
        for cut in 1..=4 {
            let mut net = Net::new(name, cut, 1, u64::from(cut));
            let vocabulary = net.checkpoint.profile().vocabulary;
            let requests = requests(&mut Random(11), vocabulary, 12);
            let expected = expected(&net, &requests);
            let outcomes = through(&mut net, &requests, 0);
            let found: Vec<_> = outcomes.tokens.into_values().collect();
            assert_eq!(found, expected, "{name} in {cut}");
            assert_eq!((outcomes.circuits, outcomes.failed), (0, 0));
            assert!(outcomes.reused > 0, "{name} in {cut}: prefixes are shared");
        }
    }
}

/// Two replicas of three slices, killed, stopped and started again at random; answers falsified now
/// and then: the same tokens, every request ends.
#[test]
fn faults_change_no_token() {
    let mut circuits = 0;
    for seed in 0..12 {
        let mut net = Net::new("qwen2", 3, 2, seed);
        net.liars = seed % 2 == 0;
        let vocabulary = net.checkpoint.profile().vocabulary;
        let requests = requests(&mut Random(seed), vocabulary, 10);
        let expected = expected(&net, &requests);
        let outcomes = through(&mut net, &requests, 300);
        assert_eq!(outcomes.failed, 0, "seed {seed}");
        let found: Vec<_> = outcomes.tokens.into_values().collect();
        assert_eq!(found, expected, "seed {seed}");
        circuits += outcomes.circuits;
    }
    assert!(
        circuits >= 12,
        "only {circuits} circuits were left: too calm to show anything"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = || {
        let mut net = Net::new("qwen2", 2, 2, 77);
        net.liars = true;
        let vocabulary = net.checkpoint.profile().vocabulary;
        let requests = requests(&mut Random(7), vocabulary, 6);
        through(&mut net, &requests, 200).trace
    };
    assert_eq!(run(), run());
}

/// No replica: whoever waits is told in bounded time.
#[test]
fn without_a_replica_the_client_is_told() {
    let mut net = Net::new("qwen2", 2, 1, 1);
    net.kill(node(2));
    let vocabulary = net.checkpoint.profile().vocabulary;
    let requests = requests(&mut Random(3), vocabulary, 3);
    let outcomes = through(&mut net, &requests, 0);
    assert_eq!((outcomes.failed, outcomes.tokens.len()), (3, 0));
    let waited = net.clock.now().since(skein_runtime::Instant::START);
    assert!(waited < Duration::from_secs(30), "{waited:?}");
}
