//! A stage without a model: its logits are a hash of all tokens that it reads through its pages, so
//! that any mistake with KV gives other tokens.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Weak;
use std::time::Duration;

use skein_base::Scores;
use skein_base::math::{exp64, ln64};
use skein_model::{ForwardError, Input, KvFull, Output};
use skein_runtime::Instant;
use skein_text::{Sampler, SamplingParams};

use crate::config::EngineConfig;
use crate::request::{ClientId, Request};
use crate::stage::{
    BatchEntry, Executor, Paging, Progress, Stage, StageError, StageLimits, Ticket, Wake,
};
use crate::store::{PageStore, Spill, StoreError, StoreRoom, StowedPage};

/// Ids are below this.
pub(crate) const VOCABULARY: u32 = 50;
/// A prompt with this id is refused by the stage, as one with a broken activation would be.
pub(crate) const POISON: u32 = VOCABULARY - 1;
/// A prompt with this id makes the stage panic.
pub(crate) const BOMB: u32 = VOCABULARY - 2;
/// Ids that prompts of tests take.
pub(crate) const PLAIN: u32 = VOCABULARY - 2;

const PAGE: usize = 4;
const PAGE_BYTES: usize = 4 * PAGE;

#[derive(Debug, Clone, Default)]
struct Page {
    owners: usize,
    tokens: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct FakeStage {
    pages: Vec<Page>,
    context: usize,
    /// Rows of every batch that ran.
    pub(crate) batches: Vec<usize>,
    pub(crate) most_used: usize,
    store: Option<PageStore>,
    pub(crate) most_stored: usize,
}

#[derive(Debug)]
pub(crate) struct FakeSequence {
    pages: Vec<usize>,
    len: usize,
}

impl FakeStage {
    pub(crate) fn new(pages: usize, context: usize) -> Self {
        let pages = vec![Page::default(); pages];
        Self {
            pages,
            context,
            batches: Vec::new(),
            most_used: 0,
            store: None,
            most_stored: 0,
        }
    }

    /// With a store of so many pages, of which `per_turn` move in a turn.
    pub(crate) fn with_store(self, pages: usize, per_turn: usize, spill: FakeSpill) -> Self {
        let store = PageStore::new(Box::new(spill), PAGE_BYTES, (pages * PAGE_BYTES) as u64);
        Self {
            store: Some(store.moving(per_turn)),
            ..self
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.pages.iter().filter(|page| page.owners > 0).count()
    }

    fn take(&mut self) -> usize {
        let free = self
            .pages
            .iter()
            .position(|page| page.owners == 0)
            .expect("counted before");
        self.pages[free] = Page {
            owners: 1,
            tokens: Vec::new(),
        };
        self.most_used = self.most_used.max(self.used());
        free
    }

    fn write(&mut self, sequence: &mut FakeSequence, id: u32) -> Result<(), StageError> {
        let (at, offset) = (sequence.len / PAGE, sequence.len % PAGE);
        let reserved = sequence.pages.len() * PAGE;
        let not_reserved = ForwardError::NotReserved {
            len: sequence.len + 1,
            reserved,
        };
        let page = *sequence.pages.get(at).ok_or(not_reserved)?;
        let page = &mut self.pages[page];
        assert_eq!(page.owners, 1, "wrote to a shared page");
        page.tokens.truncate(offset);
        page.tokens.push(id);
        sequence.len += 1;
        Ok(())
    }

    fn read(&self, sequence: &FakeSequence) -> Vec<u32> {
        let all = sequence.pages.iter().flat_map(|&page| {
            let tokens = &self.pages[page].tokens;
            tokens.iter().copied().take(PAGE)
        });
        all.take(sequence.len).collect()
    }
}

impl Paging for FakeStage {
    type Sequence = FakeSequence;

    fn limits(&self) -> StageLimits {
        StageLimits {
            vocabulary: VOCABULARY,
            context: self.context,
            page_positions: PAGE,
            total_pages: self.pages.len(),
            depth: 1,
        }
    }

    fn free_pages(&self) -> usize {
        self.pages.len() - self.used()
    }

    fn sequence(&mut self) -> FakeSequence {
        FakeSequence {
            pages: Vec::new(),
            len: 0,
        }
    }

    fn filled(&self, sequence: &FakeSequence) -> usize {
        sequence.len
    }

    fn fork(&mut self, of: &FakeSequence, len: usize) -> FakeSequence {
        assert!(len <= of.len, "fork beyond what is filled");
        let pages = of.pages[..len.div_ceil(PAGE)].to_vec();
        for &page in &pages {
            self.pages[page].owners += 1;
        }
        FakeSequence { pages, len }
    }

    fn pages_needed(&self, sequence: &FakeSequence, len: usize) -> usize {
        if len <= sequence.len {
            return 0;
        }
        let first = sequence.len / PAGE;
        let written = sequence.pages.get(first..).unwrap_or_default();
        let copies = written
            .iter()
            .filter(|&&page| self.pages[page].owners > 1)
            .count();
        len.div_ceil(PAGE).saturating_sub(sequence.pages.len()) + copies
    }

    fn reserve(&mut self, sequence: &mut FakeSequence, len: usize) -> Result<(), KvFull> {
        let (needed, free) = (self.pages_needed(sequence, len), self.free_pages());
        if needed > free {
            return Err(KvFull { needed, free });
        }
        if len <= sequence.len {
            return Ok(());
        }
        for at in sequence.len / PAGE..sequence.pages.len() {
            let old = sequence.pages[at];
            if self.pages[old].owners > 1 {
                let tokens = self.pages[old].tokens.clone();
                self.pages[old].owners -= 1;
                let own = self.take();
                self.pages[own].tokens = tokens;
                sequence.pages[at] = own;
            }
        }
        while sequence.pages.len() * PAGE < len {
            let page = self.take();
            sequence.pages.push(page);
        }
        Ok(())
    }

    fn release(&mut self, sequence: FakeSequence) {
        for page in sequence.pages {
            self.pages[page].owners -= 1;
        }
    }

    fn store_room(&self) -> StoreRoom {
        self.store.as_ref().map(PageStore::room).unwrap_or_default()
    }

    fn stow(&mut self, sequence: &mut FakeSequence) -> Result<StowedPage, StoreError> {
        let store = self.store.as_mut().ok_or(StoreError::Absent)?;
        let last = sequence.len.div_ceil(PAGE) - 1;
        let mut bytes = [u8::MAX; PAGE_BYTES];
        let tokens = &self.pages[sequence.pages[last]].tokens;
        for (place, id) in bytes.chunks_exact_mut(4).zip(tokens) {
            place.copy_from_slice(&id.to_le_bytes());
        }
        let page = store.put(&bytes)?;
        self.most_stored = self.most_stored.max(store.room().used);
        sequence.len = last * PAGE;
        for given in sequence.pages.split_off(last) {
            self.pages[given].owners -= 1;
        }
        Ok(page)
    }

    fn unstow(
        &mut self,
        sequence: &mut FakeSequence,
        page: &StowedPage,
        rows: usize,
    ) -> Result<(), StoreError> {
        assert!(sequence.len.is_multiple_of(PAGE) && (1..=PAGE).contains(&rows));
        let place = &mut self.pages[sequence.pages[sequence.len / PAGE]];
        assert_eq!(place.owners, 1, "read into a shared page");
        let mut bytes = [0; PAGE_BYTES];
        let store = self.store.as_mut().ok_or(StoreError::Absent)?;
        store.get(page, &mut bytes)?;
        let ids = bytes.chunks_exact(4).take(rows);
        place.tokens = ids
            .map(|id| u32::from_le_bytes(id.try_into().unwrap()))
            .collect();
        sequence.len += rows;
        Ok(())
    }

    fn discard(&mut self, page: StowedPage) {
        self.store.as_mut().unwrap().discard(page);
    }
}

/// Memory that fails and lies now and then.
#[derive(Debug)]
pub(crate) struct FakeSpill {
    bytes: Vec<u8>,
    random: Random,
    /// Of so many writes and reads, one fails and one gives other bytes; 0: none.
    one_in: u64,
}

impl FakeSpill {
    pub(crate) fn new(seed: u64, one_in: u64) -> Self {
        Self {
            bytes: Vec::new(),
            random: Random(seed),
            one_in,
        }
    }

    fn fault(&mut self) -> u64 {
        match self.one_in {
            0 => u64::MAX,
            one_in => self.random.below(one_in),
        }
    }
}

impl Spill for FakeSpill {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = offset as usize;
        let end = from + bytes.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[from..end].copy_from_slice(bytes);
        match self.fault() {
            0 => Err(io::ErrorKind::StorageFull.into()),
            1 => {
                self.bytes[from] ^= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = offset as usize;
        let read = self.bytes.get(from..from + out.len());
        out.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        match self.fault() {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            1 => {
                out[0] ^= 0x80;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Stage for FakeStage {
    fn page_bytes(&self) -> usize {
        1
    }

    fn run(
        &mut self,
        batch: &mut [BatchEntry<'_, FakeSequence>],
        input: Input<'_>,
    ) -> Result<Output, StageError> {
        let Input::Ids(ids) = input else {
            return Err(ForwardError::InputShape {
                found: 0,
                expected: 1,
            }
            .into());
        };
        assert!(!ids.contains(&BOMB), "expected by a test");
        if let Some(row) = ids.iter().position(|&id| id == POISON) {
            return Err(ForwardError::NotFinite { row }.into());
        }
        let (mut rest, mut scores) = (ids, Vec::new());
        for entry in batch {
            let (own, others) = rest.split_at(entry.rows);
            rest = others;
            for &id in own {
                self.write(entry.sequence, id)?;
            }
            if entry.scored {
                scores.push(scores_of(&self.read(entry.sequence), entry.asked));
            }
        }
        assert!(rest.is_empty(), "more ids than rows");
        self.batches.push(ids.len());
        Ok(Output::Scores(scores))
    }
}

/// A pipeline in front of a [`FakeStage`]: results come late, and now and then all is lost.
#[derive(Debug)]
pub(crate) struct FakePipeline {
    stage: FakeStage,
    depth: usize,
    /// Sequences of an earlier one are void.
    generation: u64,
    next: u64,
    flying: VecDeque<Progress>,
    /// Told next, before anything that flies.
    news: Option<Progress>,
    /// Most batches that were on their way at once.
    pub(crate) most_flying: usize,
}

#[derive(Debug)]
pub(crate) struct FlyingSequence {
    generation: u64,
    inner: FakeSequence,
}

impl FakePipeline {
    pub(crate) fn new(stage: FakeStage, depth: usize) -> Self {
        Self {
            stage,
            depth,
            generation: 0,
            next: 0,
            flying: VecDeque::new(),
            news: None,
            most_flying: 0,
        }
    }

    pub(crate) fn stage(&self) -> &FakeStage {
        &self.stage
    }

    /// One batch comes through.
    pub(crate) fn arrive(&mut self) {
        if self.news.is_none() {
            self.news = self.flying.pop_front();
        }
    }

    /// All that was held and what flies is gone; told at the next poll, before any other news.
    pub(crate) fn lose(&mut self, broken: bool) {
        self.generation += 1;
        self.stage = FakeStage::new(self.stage.pages.len(), self.stage.context);
        self.flying.clear();
        let reason = "expected by a test".to_owned();
        self.news = Some(match broken {
            false => Progress::Lost { reason },
            true => Progress::Broken { reason },
        });
    }
}

impl Paging for FakePipeline {
    type Sequence = FlyingSequence;

    fn limits(&self) -> StageLimits {
        StageLimits {
            depth: self.depth,
            ..self.stage.limits()
        }
    }

    fn free_pages(&self) -> usize {
        self.stage.free_pages()
    }

    fn sequence(&mut self) -> FlyingSequence {
        FlyingSequence {
            generation: self.generation,
            inner: self.stage.sequence(),
        }
    }

    fn filled(&self, sequence: &FlyingSequence) -> usize {
        self.stage.filled(&sequence.inner)
    }

    fn fork(&mut self, of: &FlyingSequence, len: usize) -> FlyingSequence {
        assert_eq!(of.generation, self.generation, "fork of a void sequence");
        FlyingSequence {
            generation: self.generation,
            inner: self.stage.fork(&of.inner, len),
        }
    }

    fn pages_needed(&self, sequence: &FlyingSequence, len: usize) -> usize {
        self.stage.pages_needed(&sequence.inner, len)
    }

    fn reserve(&mut self, sequence: &mut FlyingSequence, len: usize) -> Result<(), KvFull> {
        assert_eq!(sequence.generation, self.generation, "a void sequence");
        self.stage.reserve(&mut sequence.inner, len)
    }

    fn release(&mut self, sequence: FlyingSequence) {
        if sequence.generation == self.generation {
            self.stage.release(sequence.inner);
        }
    }
}

impl Executor for FakePipeline {
    fn is_open(&self) -> bool {
        self.news.is_none() && self.flying.len() < self.depth
    }

    fn begin(
        &mut self,
        _: Instant,
        batch: &mut [BatchEntry<'_, FlyingSequence>],
        ids: &[u32],
    ) -> Result<Ticket, StageError> {
        let mut inner: Vec<_> = batch
            .iter_mut()
            .map(|entry| {
                assert_eq!(entry.sequence.generation, self.generation, "void");
                BatchEntry {
                    sequence: &mut entry.sequence.inner,
                    rows: entry.rows,
                    scored: entry.scored,
                    asked: entry.asked,
                    trace: skein_base::TraceId::default(),
                }
            })
            .collect();
        let scores = self.stage.forward(&mut inner, ids)?;
        let ticket = Ticket(self.next);
        self.next += 1;
        self.flying.push_back(Progress::Done { ticket, scores });
        self.most_flying = self.most_flying.max(self.flying.len());
        Ok(ticket)
    }

    fn poll(&mut self, _: Instant) -> Option<Progress> {
        self.news.take()
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn tell(&mut self, _: Weak<dyn Wake>) {}
}

/// The logits after `history`.
fn scores_of(history: &[u32], asked: &[u32]) -> Scores {
    let state = history
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |state, &id| {
            (state ^ u64::from(id))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(17)
        });
    let logit = |id: u32| {
        let mut random = Random(state ^ (u64::from(id) << 40));
        (random.below(10_000) as f32) / 1000.0
    };
    // The last two ids are for prompts of tests only.
    let mut top: Vec<_> = (0..PLAIN).map(|id| (id, logit(id))).collect();
    top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let sum: f64 = top.iter().map(|&(_, logit)| exp64(f64::from(logit))).sum();
    let asked = asked.iter().map(|&id| (id, logit(id))).collect();
    Scores {
        top,
        log_sum_exp: ln64(sum) as f32,
        asked,
    }
}

/// What a request gets when nobody else is there, computed without scheduler or pages.
pub(crate) fn alone(request: &Request) -> Vec<(u32, u32)> {
    let mut sampler = Sampler::new(request.sampling.clone(), &request.prompt);
    let mut history = request.prompt.clone();
    let mut tokens = Vec::new();
    while tokens.len() < request.max_tokens {
        let sampled = sampler
            .sample(&scores_of(&history, &sampler.asked()))
            .unwrap();
        if !request.ignore_eos && request.stop_ids.contains(&sampled.id) {
            break;
        }
        history.push(sampled.id);
        tokens.push((sampled.id, sampled.logprob.to_bits()));
    }
    tokens
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn tokens(&mut self, count: usize) -> Vec<u32> {
        (0..count)
            .map(|_| self.below(u64::from(PLAIN)) as u32)
            .collect()
    }
}

pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        sessions_max: 16,
        decode_rows_max: 8,
        prefill_rows_max: 16,
        growth_pages: 1,
        waiting_max: 64,
        waiting_per_client_max: 64,
        retained_max: 16,
        events_max: 8,
        stall_max: Duration::from_secs(60),
    }
}

pub(crate) fn request(client: &str, prompt: &[u32], max_tokens: usize) -> Request {
    Request {
        client: ClientId::new(client),
        prompt: prompt.to_vec(),
        max_tokens,
        sampling: SamplingParams::greedy(),
        stop_ids: Vec::new(),
        ignore_eos: false,
        deadline: None,
        trace: skein_base::TraceId::default(),
    }
}

/// A request like those of real life: a shared beginning, a random rest, any sampling.
pub(crate) fn random_request(random: &mut Random, clients: u64) -> Request {
    let client = random.below(clients);
    // Three system prompts, the same for all clients, so that sharing across them would show.
    let mut prompt = Random(random.below(3)).tokens(10);
    prompt.truncate(random.below(11) as usize);
    let own = 1 + random.below(20) as usize;
    prompt.extend(random.tokens(own));
    let sampling = SamplingParams {
        temperature: [0.0, 0.7, 1.0][random.below(3) as usize],
        presence_penalty: [0.0, 1.5][random.below(2) as usize],
        logit_bias: BTreeMap::from([(random.below(u64::from(PLAIN)) as u32, 1.5)]),
        seed: random.next(),
        top_logprobs: random.below(3) as u32,
        ..SamplingParams::default()
    };
    Request {
        client: ClientId::new(format!("client {client}")),
        prompt,
        max_tokens: 1 + random.below(30) as usize,
        sampling,
        stop_ids: vec![random.below(u64::from(PLAIN)) as u32],
        ignore_eos: random.below(2) == 0,
        deadline: None,
        trace: skein_base::TraceId::default(),
    }
}
