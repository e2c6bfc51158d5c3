//! The scheduler over real models: every checkpoint among the fixtures, with its real pages of KV.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skein_model::{Input, KvFormat, KvPages, Output, Pool, ScoreRows, Segment, SliceModel};
use skein_runtime::{Clock as _, FsFolder, Instant, ManualClock, Secret32, SystemClock};
use skein_serving::scheduler::{Scheduler, SessionId, Stats};
use skein_serving::{
    ClientId, Engine, EngineConfig, Event, FinishReason, Local, ModelStage, Paging as _, Request,
    Spill,
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

    fn tokens(&mut self, count: usize, vocabulary: u32) -> Vec<u32> {
        (0..count)
            .map(|_| self.below(vocabulary as usize) as u32)
            .collect()
    }
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let entries = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.join("config.json").exists())
        .collect();
    found.sort();
    assert!(found.len() >= 5, "the fixtures are missing");
    found
}

fn load(path: &Path) -> SliceModel {
    let folder = Arc::new(FsFolder::open(path).unwrap());
    let checkpoint = HfCheckpoint::open(folder).unwrap();
    let slice = Slice::whole(checkpoint.profile().layers);
    SliceModel::load(&checkpoint, slice, None, Arc::new(Pool::new(1))).unwrap()
}

fn config() -> EngineConfig {
    EngineConfig {
        sessions_max: 12,
        decode_rows_max: 8,
        prefill_rows_max: 48,
        growth_pages: 0,
        waiting_max: 64,
        waiting_per_client_max: 64,
        retained_max: 12,
        events_max: 8,
        stall_max: Duration::from_secs(600),
    }
}

type Tokens = Vec<(u32, u32, Vec<(u32, u32)>)>;

fn token(id: u32, logprob: f32, top: &[(u32, f32)]) -> (u32, u32, Vec<(u32, u32)>) {
    (
        id,
        logprob.to_bits(),
        top.iter()
            .map(|&(id, logprob)| (id, logprob.to_bits()))
            .collect(),
    )
}

/// A request alone: the whole prompt in one batch, then token by token; no scheduler, no sharing.
fn alone(model: &SliceModel, format: KvFormat, request: &Request) -> Tokens {
    let mut kv = KvPages::new(model.profile(), model.slice(), format, 64 << 20);
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
        tokens.push(token(sampled.id, sampled.logprob, &sampled.top));
        fed = vec![sampled.id];
    }
    tokens
}

/// Two long beginnings that all clients use, so that forks end inside pages and sharing across
/// clients would show; then something of its own.
fn random_request(random: &mut Random, vocabulary: u32) -> Request {
    let mut prompt = Random(random.next() % 2).tokens(45, vocabulary);
    prompt.truncate(random.below(46));
    let own = 1 + random.below(30);
    prompt.extend(random.tokens(own, vocabulary));
    let sampling = SamplingParams {
        temperature: [0.0, 0.8][random.below(2)],
        frequency_penalty: [0.0, 0.5][random.below(2)],
        logit_bias: BTreeMap::from([(random.below(vocabulary as usize) as u32, 2.0)]),
        seed: random.next(),
        top_logprobs: 3,
        ..SamplingParams::default()
    };
    Request {
        client: ClientId::new(format!("client {}", random.below(4))),
        prompt,
        max_tokens: 1 + random.below(24),
        sampling,
        stop_ids: vec![],
        ignore_eos: true,
        deadline: None,
        trace: skein_base::TraceId::default(),
    }
}

struct Outcome {
    tokens: BTreeMap<SessionId, Tokens>,
    finished: usize,
    stats: Stats,
}

/// All requests, coming a few at a time, through `stage`.
fn through(stage: &mut Local<ModelStage>, requests: &[Request], random: &mut Random) -> Outcome {
    let mut scheduler = Scheduler::new(config(), Secret32::from_bytes([9; 32]));
    let clock = ManualClock::default();
    let mut outcome = Outcome {
        tokens: BTreeMap::new(),
        finished: 0,
        stats: Stats::default(),
    };
    let mut coming = requests.iter();
    loop {
        for request in coming.by_ref().take(random.below(3)) {
            scheduler
                .submit(Instant::START, request.clone(), stage)
                .unwrap();
        }
        clock.advance(Duration::from_millis(1));
        let plan = scheduler.plan(clock.now(), stage);
        if !plan.is_empty() {
            scheduler.begin(clock.now(), plan, stage);
            scheduler.drain(clock.now(), stage);
        }
        for (id, event) in scheduler.take_events() {
            match event {
                Event::Started { .. } => {}
                Event::Token(new) => {
                    let all = outcome.tokens.entry(id).or_default();
                    all.push(token(new.id, new.logprob, &new.top));
                }
                Event::Finished { reason, .. } => {
                    assert_eq!(reason, FinishReason::Length);
                    outcome.finished += 1;
                }
                Event::Failed { error } => panic!("{error}"),
            }
        }
        let stats = scheduler.take_stats();
        outcome.stats.preemptions += stats.preemptions;
        outcome.stats.evictions += stats.evictions;
        outcome.stats.reused_tokens += stats.reused_tokens;
        outcome.stats.restored += stats.restored;
        outcome.stats.store_failures += stats.store_failures;
        if coming.len() == 0 && scheduler.is_empty() {
            break;
        }
    }
    scheduler.stop_all(stage);
    outcome
}

/// Memory as a place beside memory.
#[derive(Debug, Default)]
struct MemorySpill(Vec<u8>);

impl Spill for MemorySpill {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let end = from + bytes.len();
        self.0.resize(self.0.len().max(end), 0);
        self.0[from..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0[from..from + out.len()]);
        Ok(())
    }
}

/// With a store, whole sequences come back from it with the bits that they had.
fn sixty_four_through_eight(path: &Path, kv: KvFormat, stored: bool) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let model = load(path);
    let mut random = Random(64);
    let vocabulary = model.profile().vocabulary;
    let requests: Vec<_> = (0..64)
        .map(|_| random_request(&mut random, vocabulary))
        .collect();
    let expected: Vec<_> = requests
        .iter()
        .map(|request| alone(&model, kv, request))
        .collect();
    // A session fills up to 98 positions: four pages. Half of that is what most of them need.
    let budget = 16 * KvPages::page_bytes_of(model.profile(), model.slice(), kv);
    let mut stage = ModelStage::new(model, kv, budget);
    if stored {
        stage = stage.with_store(Box::new(MemorySpill::default()), 4 * budget);
    }
    let mut stage = Local::new(stage);
    assert_eq!(stage.limits().total_pages, 16);
    let outcome = through(&mut stage, &requests, &mut random);
    for ((id, found), expected) in outcome.tokens.iter().zip(&expected) {
        assert!(
            found == expected,
            "{name}, session {id}: other bits than alone"
        );
    }
    assert_eq!((outcome.tokens.len(), outcome.finished), (64, 64), "{name}");
    assert_eq!(stage.free_pages(), 16, "{name} leaked pages");
    assert_eq!(stage.store_room().used, 0, "{name} leaked stowed pages");
    let Stats {
        preemptions,
        evictions,
        reused_tokens,
        restored,
        store_failures,
        ..
    } = outcome.stats;
    assert_eq!(store_failures, 0, "{name}");
    assert!(stored == (restored > 0), "{name}: {restored} read back");
    assert!(
        preemptions > 0 && evictions > 0 && reused_tokens > 0,
        "{name}: {:?}",
        outcome.stats
    );
}

#[test]
fn sixty_four_sessions_through_memory_for_eight_give_the_bits_they_give_alone() {
    for path in fixtures() {
        for kv in KvFormat::ALL {
            for stored in [false, true] {
                sixty_four_through_eight(&path, kv, stored);
            }
        }
    }
}

/// Through the engine's thread, several at a time: the ids that transformers stored.
#[test]
fn the_engine_says_what_transformers_says() {
    for path in fixtures() {
        let reference = std::fs::read(path.join("reference.json")).unwrap();
        let reference: serde_json::Value = serde_json::from_slice(&reference).unwrap();
        let ids = |value: &serde_json::Value| -> Vec<u32> {
            serde_json::from_value(value.clone()).unwrap()
        };
        let stage = ModelStage::new(load(&path), KvFormat::F32, 64 << 20);
        let clock = Arc::new(SystemClock::new());
        let secret = Secret32::from_bytes([9; 32]);
        let engine = Engine::start(stage, config(), clock, secret).unwrap();
        let cases = reference["cases"].as_array().unwrap();
        let submit = |case: &serde_json::Value| {
            let request = Request {
                client: ClientId::new("test"),
                prompt: ids(&case["prompt"]),
                max_tokens: ids(&case["greedy"]).len(),
                sampling: SamplingParams::greedy(),
                stop_ids: vec![],
                ignore_eos: true,
                deadline: None,
                trace: skein_base::TraceId::default(),
            };
            engine.handle().submit(request).unwrap()
        };
        // All are submitted before the first is read.
        let generations: Vec<_> = cases.iter().map(submit).collect();
        for (case, mut generation) in cases.iter().zip(generations) {
            let mut found = Vec::new();
            while let Some(event) = generation.next_blocking() {
                match event {
                    Event::Token(token) => found.push(token.id),
                    Event::Failed { error } => panic!("{error}"),
                    _ => {}
                }
            }
            assert_eq!(
                found,
                ids(&case["greedy"]),
                "{} {}",
                path.display(),
                case["name"]
            );
        }
    }
}
