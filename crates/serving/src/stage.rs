//! What the engine needs of a model: pages of KV and a forward pass.

use std::sync::Weak;

use skein_base::{NumericsId, Scores, TraceId};
use skein_model::kv::PAGE_POSITIONS;
use skein_model::{
    ForwardError, Input, KvFormat, KvFull, KvPages, Output, ScoreRows, Segment, Sequence,
    SliceModel,
};
use skein_runtime::Instant;

use crate::store::{PageStore, Spill, StoreError, StoreRoom, StowedPage};
use crate::view::ExecutorView;

/// What a stage can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageLimits {
    /// Token ids are below this.
    pub vocabulary: u32,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Positions in one page of KV.
    pub page_positions: usize,
    /// Pages in the KV budget.
    pub total_pages: usize,
    /// Stages one after another, each of which may have a batch of its own at a time.
    pub depth: usize,
}

impl StageLimits {
    /// Most positions that one session can ever fill: the context or the whole KV budget.
    pub fn session_positions(&self) -> usize {
        self.context
            .min(self.total_pages.saturating_mul(self.page_positions))
    }
}

/// One session's share of a batch.
#[derive(Debug)]
pub struct BatchEntry<'a, Q> {
    /// The session's KV, in which room was reserved.
    pub sequence: &'a mut Q,
    /// New positions.
    pub rows: usize,
    /// Whether the last of them shall be scored.
    pub scored: bool,
    /// Ids to score beside the best ones.
    pub asked: &'a [u32],
    /// The request that it is for.
    pub trace: TraceId,
}

/// Pages of KV, with the contracts of [`KvPages`]. Computes nothing and is cheap, but for what moves pages to a store
/// and back.
///
/// A store is an offer: without one, what gives way in memory is computed again. An executor whose batches travel has
/// none, since rows on their way fill pages that must not move.
pub trait Paging: Send {
    /// The KV of one session. Not `Clone`: it is forked and released through the stage.
    type Sequence: Send + std::fmt::Debug;

    /// What the stage can take. Does not change.
    fn limits(&self) -> StageLimits;
    /// Pages free.
    fn free_pages(&self) -> usize;
    /// A sequence with nothing in it.
    fn sequence(&mut self) -> Self::Sequence;
    /// Positions filled.
    fn filled(&self, sequence: &Self::Sequence) -> usize;
    /// Shares the first `len` positions, copy on write.
    fn fork(&mut self, of: &Self::Sequence, len: usize) -> Self::Sequence;
    /// How many free pages [`Self::reserve`] would take.
    fn pages_needed(&self, sequence: &Self::Sequence, len: usize) -> usize;
    /// Makes room for `len` positions in all, or takes nothing.
    fn reserve(&mut self, sequence: &mut Self::Sequence, len: usize) -> Result<(), KvFull>;
    /// Gives all pages back.
    fn release(&mut self, sequence: Self::Sequence);

    /// How much the store beside the pages takes.
    fn store_room(&self) -> StoreRoom {
        StoreRoom::default()
    }

    /// Puts the last page of a sequence into the store and gives it back: what is filled ends before it. On an
    /// error the sequence is as it was.
    fn stow(&mut self, _sequence: &mut Self::Sequence) -> Result<StowedPage, StoreError> {
        Err(StoreError::Absent)
    }

    /// Reads `rows` positions of a page from the store, behind whole pages that are filled, with room
    /// for them reserved. On an error nothing more is filled.
    fn unstow(
        &mut self,
        _sequence: &mut Self::Sequence,
        _page: &StowedPage,
        _rows: usize,
    ) -> Result<(), StoreError> {
        Err(StoreError::Absent)
    }

    /// Gives a page of the store back.
    fn discard(&mut self, _page: StowedPage) {}
}

/// A slice with its KV, that computes while its caller waits.
pub trait Stage: Paging {
    /// Bytes of a page of KV.
    fn page_bytes(&self) -> usize;

    /// Runs a batch: `input` are the new rows of all entries, one entry after another. Returns
    /// residual rows in the same order, or from a slice with a head the scores of the entries that
    /// asked for them, in order. On an error no sequence has grown.
    fn run(
        &mut self,
        batch: &mut [BatchEntry<'_, Self::Sequence>],
        input: Input<'_>,
    ) -> Result<Output, StageError>;

    /// [`Self::run`] for a whole model: from token ids to scores.
    fn forward(
        &mut self,
        batch: &mut [BatchEntry<'_, Self::Sequence>],
        ids: &[u32],
    ) -> Result<Vec<Scores>, StageError> {
        match self.run(batch, Input::Ids(ids))? {
            Output::Scores(scores) => Ok(scores),
            Output::Hidden(_) => Err(StageError::NoHead),
        }
    }
}

/// Names a batch between [`Executor::begin`] and its [`Progress::Done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What became of batches.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A batch is done.
    Done {
        /// Which.
        ticket: Ticket,
        /// The scores of the entries that asked for them, in order.
        scores: Vec<Scores>,
    },
    /// A part of the pipeline was replaced: every sequence is void, batches in flight included.
    /// What they held can be computed again, with the same bits.
    Lost {
        /// What went wrong, for the log.
        reason: String,
    },
    /// Nothing can be computed, and it was waited long enough: who waits shall be told.
    Broken {
        /// What went wrong, for whoever waits.
        reason: String,
    },
}

/// Whoever polls an [`Executor`], as those see it who bring it something.
pub trait Wake: Send + Sync {
    /// There may be something to poll. What follows from it is done here and now, on the calling thread, unless
    /// the own thread of whoever polls is at work: then it goes on there.
    fn wake(&self);
}

/// Who runs batches: the model of this process ([`Local`]), or a way through several. Several
/// batches may be on their way at once.
pub trait Executor: Paging {
    /// Whether [`Self::begin`] computes before it returns. If so, what there is to tell is told before.
    const COMPUTES: bool = false;

    /// Whether a batch may be begun now.
    fn is_open(&self) -> bool;

    /// Begins a batch: as [`Stage::forward`], but the scores come later. The rows count as filled
    /// at once. On an error nothing has changed.
    fn begin(
        &mut self,
        now: Instant,
        batch: &mut [BatchEntry<'_, Self::Sequence>],
        ids: &[u32],
    ) -> Result<Ticket, StageError>;

    /// What has happened, one by one, until there is nothing more to tell.
    fn poll(&mut self, now: Instant) -> Option<Progress>;

    /// When [`Self::poll`] has something to do by time alone.
    fn next_timeout(&self) -> Option<Instant>;

    /// Whom to tell when there is progress; called once, before anything else.
    fn tell(&mut self, whom: Weak<dyn Wake>);

    /// What it tells of itself.
    fn view(&self) -> ExecutorView {
        ExecutorView::default()
    }
}

/// Runs batches on a stage of this process, one at a time.
#[derive(Debug)]
pub struct Local<S> {
    stage: S,
    next: u64,
    done: Option<Progress>,
}

impl<S: Stage> Local<S> {
    /// Around a stage.
    pub fn new(stage: S) -> Self {
        Self {
            stage,
            next: 0,
            done: None,
        }
    }

    /// The stage.
    pub fn stage(&self) -> &S {
        &self.stage
    }
}

impl<S: Stage> Paging for Local<S> {
    type Sequence = S::Sequence;

    fn limits(&self) -> StageLimits {
        self.stage.limits()
    }

    fn free_pages(&self) -> usize {
        self.stage.free_pages()
    }

    fn sequence(&mut self) -> S::Sequence {
        self.stage.sequence()
    }

    fn filled(&self, sequence: &S::Sequence) -> usize {
        self.stage.filled(sequence)
    }

    fn fork(&mut self, of: &S::Sequence, len: usize) -> S::Sequence {
        self.stage.fork(of, len)
    }

    fn pages_needed(&self, sequence: &S::Sequence, len: usize) -> usize {
        self.stage.pages_needed(sequence, len)
    }

    fn reserve(&mut self, sequence: &mut S::Sequence, len: usize) -> Result<(), KvFull> {
        self.stage.reserve(sequence, len)
    }

    fn release(&mut self, sequence: S::Sequence) {
        self.stage.release(sequence);
    }

    fn store_room(&self) -> StoreRoom {
        self.stage.store_room()
    }

    fn stow(&mut self, sequence: &mut S::Sequence) -> Result<StowedPage, StoreError> {
        self.stage.stow(sequence)
    }

    fn unstow(
        &mut self,
        sequence: &mut S::Sequence,
        page: &StowedPage,
        rows: usize,
    ) -> Result<(), StoreError> {
        self.stage.unstow(sequence, page, rows)
    }

    fn discard(&mut self, page: StowedPage) {
        self.stage.discard(page);
    }
}

impl<S: Stage> Executor for Local<S> {
    const COMPUTES: bool = true;

    fn is_open(&self) -> bool {
        self.done.is_none()
    }

    fn begin(
        &mut self,
        _: Instant,
        batch: &mut [BatchEntry<'_, S::Sequence>],
        ids: &[u32],
    ) -> Result<Ticket, StageError> {
        let scores = self.stage.forward(batch, ids)?;
        let ticket = Ticket(self.next);
        self.next += 1;
        self.done = Some(Progress::Done { ticket, scores });
        Ok(ticket)
    }

    fn poll(&mut self, _: Instant) -> Option<Progress> {
        self.done.take()
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn tell(&mut self, _: Weak<dyn Wake>) {}
}

/// Why a batch could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The model refused it.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The slice has no head: it gives residual rows, which only a pipeline can use.
    #[error("the slice ends before the model's head, so it cannot say the next token")]
    NoHead,
    /// The pipeline is broken.
    #[error("{reason}")]
    Broken {
        /// What went wrong.
        reason: String,
    },
    /// Another number of scores came back than was asked for.
    #[error("{found} rows were scored, {expected} were asked for")]
    ScoreCount {
        /// Scores that came.
        found: usize,
        /// Scores asked for.
        expected: usize,
    },
}

/// A slice, or a whole model, in this process.
#[derive(Debug)]
pub struct ModelStage {
    model: SliceModel,
    kv: KvPages,
    store: Option<PageStore>,
}

impl ModelStage {
    /// A stage of `model`, with `kv_budget` bytes for KV.
    pub fn new(model: SliceModel, kv_format: KvFormat, kv_budget: u64) -> Self {
        let kv = KvPages::new(model.profile(), model.slice(), kv_format, kv_budget);
        let store = None;
        Self { model, kv, store }
    }

    /// With a place for `budget` bytes of pages that give way in memory.
    pub fn with_store(self, spill: Box<dyn Spill>, budget: u64) -> Self {
        let store = Some(PageStore::new(spill, self.page_bytes(), budget));
        Self { store, ..self }
    }

    /// The model.
    pub fn model(&self) -> &SliceModel {
        &self.model
    }

    /// What fixes the bits of its answers, beside the model.
    pub fn numerics_id(&self) -> NumericsId {
        self.model.numerics_id(self.kv.format())
    }
}

impl Paging for ModelStage {
    type Sequence = Sequence;

    fn limits(&self) -> StageLimits {
        let profile = self.model.profile();
        StageLimits {
            vocabulary: profile.vocabulary,
            context: profile.context as usize,
            page_positions: PAGE_POSITIONS,
            total_pages: self.kv.total_pages(),
            depth: 1,
        }
    }

    fn free_pages(&self) -> usize {
        self.kv.free_pages()
    }

    fn sequence(&mut self) -> Sequence {
        self.kv.sequence()
    }

    fn filled(&self, sequence: &Sequence) -> usize {
        sequence.len()
    }

    fn fork(&mut self, of: &Sequence, len: usize) -> Sequence {
        self.kv.fork(of, len)
    }

    fn pages_needed(&self, sequence: &Sequence, len: usize) -> usize {
        self.kv.pages_needed(sequence, len)
    }

    fn reserve(&mut self, sequence: &mut Sequence, len: usize) -> Result<(), KvFull> {
        self.kv.reserve(sequence, len)
    }

    fn release(&mut self, sequence: Sequence) {
        self.kv.release(sequence);
    }

    fn store_room(&self) -> StoreRoom {
        self.store.as_ref().map(PageStore::room).unwrap_or_default()
    }

    fn stow(&mut self, sequence: &mut Sequence) -> Result<StowedPage, StoreError> {
        let store = self.store.as_mut().ok_or(StoreError::Absent)?;
        let last = sequence.len().div_ceil(PAGE_POSITIONS).checked_sub(1);
        let last = last.ok_or(StoreError::Absent)?;
        let bytes = self.kv.page(sequence, last).ok_or(StoreError::Absent)?;
        let page = store.put(bytes)?;
        self.kv.truncate(sequence, last * PAGE_POSITIONS);
        Ok(page)
    }

    fn unstow(
        &mut self,
        sequence: &mut Sequence,
        page: &StowedPage,
        rows: usize,
    ) -> Result<(), StoreError> {
        let store = self.store.as_mut().ok_or(StoreError::Absent)?;
        let read = |memory: &mut [u8]| store.get(page, memory);
        self.kv.fill_page(sequence, rows, read)
    }

    fn discard(&mut self, page: StowedPage) {
        if let Some(store) = &mut self.store {
            store.discard(page);
        }
    }
}

impl Stage for ModelStage {
    fn page_bytes(&self) -> usize {
        usize::try_from(self.kv.page_bytes()).unwrap_or(usize::MAX)
    }

    fn run(
        &mut self,
        batch: &mut [BatchEntry<'_, Sequence>],
        input: Input<'_>,
    ) -> Result<Output, StageError> {
        let mut segments: Vec<_> = batch
            .iter_mut()
            .map(|entry| Segment {
                sequence: &mut *entry.sequence,
                rows: entry.rows,
                scores: if entry.scored {
                    ScoreRows::Last
                } else {
                    ScoreRows::None
                },
                asked: entry.asked,
            })
            .collect();
        Ok(self.model.forward(&mut self.kv, &mut segments, input)?)
    }
}
