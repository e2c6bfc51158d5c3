//! What one process says: the measure of every network.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use skein_model::{Input, KvFormat, KvPages, Output, Pool, ScoreRows, Segment, SliceModel};
use skein_runtime::FsFolder;
use skein_serving::{ClientId, Request};
use skein_text::{Sampler, SamplingParams};
use skein_weights::source::WeightSource as _;
use skein_weights::{HfCheckpoint, Slice};

use crate::net::Net;
use crate::random::Random;

/// Ids with the bits of their log probabilities.
pub type Tokens = Vec<(u32, u32)>;

pub(crate) fn checkpoint(name: &str) -> HfCheckpoint {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let folder = FsFolder::open(&root.join(name)).expect("a fixture of the repository");
    HfCheckpoint::open(Arc::new(folder)).expect("a fixture is a checkpoint")
}

/// A slice of a fixture, on one thread.
pub fn load(checkpoint: &HfCheckpoint, slice: Slice) -> SliceModel {
    SliceModel::load(checkpoint, slice, None, Arc::new(Pool::new(1))).expect("a fixture loads")
}

/// Prompts of which many share a beginning, with every kind of sampling.
pub fn requests(random: &mut Random, vocabulary: u32, count: usize) -> Vec<Request> {
    let mut token = {
        let mut random = random.clone();
        move || random.below(vocabulary as usize) as u32
    };
    let beginning: Vec<u32> = (0..35).map(|_| token()).collect();
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
                seed: random.draw(),
                logit_bias: BTreeMap::from([(random.below(vocabulary as usize) as u32, 2.0)]),
                ..SamplingParams::default()
            },
            stop_ids: Vec::new(),
            ignore_eos: true,
            deadline: None,
            trace: skein_base::TraceId::default(),
        }
    };
    (0..count).map(one).collect()
}

/// What one process says, without scheduler, pages of others, or network.
pub fn alone(model: &SliceModel, request: &Request) -> Tokens {
    let mut kv = KvPages::new(model.profile(), model.slice(), KvFormat::F32, 64 << 20);
    let mut sequence = kv.sequence();
    let mut sampler = Sampler::new(request.sampling.clone(), &request.prompt);
    let mut fed = request.prompt.clone();
    let mut tokens = Vec::new();
    while tokens.len() < request.max_tokens {
        let len = sequence.len() + fed.len();
        kv.reserve(&mut sequence, len).expect("room enough");
        let asked = sampler.asked();
        let mut segments = [Segment {
            sequence: &mut sequence,
            rows: fed.len(),
            scores: ScoreRows::Last,
            asked: &asked,
        }];
        let output = model.forward(&mut kv, &mut segments, Input::Ids(&fed));
        let Ok(Output::Scores(scores)) = output else {
            panic!("a whole model gives scores");
        };
        let sampled = sampler.sample(&scores[0]).expect("finite scores");
        tokens.push((sampled.id, sampled.logprob.to_bits()));
        fed = vec![sampled.id];
    }
    tokens
}

/// What one process says to each request.
pub fn expected(net: &Net, requests: &[Request]) -> Vec<Tokens> {
    let checkpoint = net.checkpoint();
    let whole = load(checkpoint, Slice::whole(checkpoint.profile().layers));
    let alone = |request| alone(&whole, request);
    requests.iter().map(alone).collect()
}
