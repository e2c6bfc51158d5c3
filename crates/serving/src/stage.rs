//! What the engine needs of a model: pages of KV and a forward pass.

use skein_base::Scores;
use skein_model::kv::PAGE_POSITIONS;
use skein_model::{
    ForwardError, Input, KvFull, KvPages, Output, ScoreRows, Segment, Sequence, SliceModel,
};

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
}

/// A model with its KV, from token ids to scores.
///
/// The paging methods have the contracts of [`KvPages`]. They compute nothing and are cheap; only
/// [`Self::forward`] takes time.
pub trait Stage: Send {
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

    /// Runs a batch: `ids` are the new tokens of all entries, one entry after another. Returns the
    /// scores of the entries that asked for them, in order. On an error nothing has changed.
    fn forward(
        &mut self,
        batch: &mut [BatchEntry<'_, Self::Sequence>],
        ids: &[u32],
    ) -> Result<Vec<Scores>, StageError>;
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
    /// Another number of scores came back than was asked for.
    #[error("{found} rows were scored, {expected} were asked for")]
    ScoreCount {
        /// Scores that came.
        found: usize,
        /// Scores asked for.
        expected: usize,
    },
}

/// A whole model in this process.
#[derive(Debug)]
pub struct ModelStage {
    model: SliceModel,
    kv: KvPages,
}

impl ModelStage {
    /// A stage of `model`, which has embedding and head, with `kv_budget` bytes for KV.
    pub fn new(model: SliceModel, kv_budget: u64) -> Self {
        let kv = KvPages::new(model.profile(), model.slice(), kv_budget);
        Self { model, kv }
    }

    /// The model.
    pub fn model(&self) -> &SliceModel {
        &self.model
    }
}

impl Stage for ModelStage {
    type Sequence = Sequence;

    fn limits(&self) -> StageLimits {
        let profile = self.model.profile();
        StageLimits {
            vocabulary: profile.vocabulary,
            context: profile.context as usize,
            page_positions: PAGE_POSITIONS,
            total_pages: self.kv.total_pages(),
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

    fn forward(
        &mut self,
        batch: &mut [BatchEntry<'_, Sequence>],
        ids: &[u32],
    ) -> Result<Vec<Scores>, StageError> {
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
        match self
            .model
            .forward(&mut self.kv, &mut segments, Input::Ids(ids))?
        {
            Output::Scores(scores) => Ok(scores),
            Output::Hidden(_) => Err(StageError::NoHead),
        }
    }
}
