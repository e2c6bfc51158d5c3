//! One batch through a slice.

use std::sync::PoisonError;

use skein_base::Scores;
use skein_weights::blocks::BLOCK;
use skein_weights::profile::{Mlp, Positions};

use super::{ForwardError, Head, Input, Layer, Output, ScoreRows, Segment, SliceModel, load};
use crate::kernels::attention::{self, Item, Shape, Span};
use crate::kernels::linear::{Epilogue, Finished, Machine, Matrix, Operand, Rows, linear};
use crate::kernels::quantised::activations::{Activations, Filling};
use crate::kernels::{pointwise, score};
use crate::kv::{KvPages, PageLayout};
use crate::lanes::LANES;
use crate::memory::{Scratch, SharedMut};
use crate::pool::Ahead;
use crate::rope;

/// Rows of logits held at a time: a whole vocabulary each.
const LOGIT_ROWS: usize = 16;

/// What keeps its memory between calls, so that a step of decoding allocates nothing but its answer.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    batch: Batch,
    values: Values,
}

/// Where a row of a batch belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Index of its segment.
    segment: usize,
    /// Its position in the session.
    pub(super) position: usize,
}

/// A batch as the layers see it.
#[derive(Debug, Default)]
struct Batch {
    /// Of the segments; those behind the last are left over from a larger batch.
    spans: Vec<Span>,
    /// Of the rows.
    places: Vec<Place>,
    items: Vec<Item>,
    /// Rows whose scores are wanted, with the index of their segment.
    wanted: Vec<(usize, usize)>,
    segments: usize,
}

impl Batch {
    /// Describes `segments`; `heads` are those of queries and of keys.
    fn fill(&mut self, kv: &mut KvPages, segments: &[Segment<'_>], heads: [usize; 2]) {
        self.segments = segments.len();
        if self.spans.len() < segments.len() {
            self.spans.resize_with(segments.len(), Span::default);
        }
        self.places.clear();
        self.wanted.clear();
        for (index, (segment, span)) in segments.iter().zip(&mut self.spans).enumerate() {
            let first = self.places.len();
            span.row = first;
            span.rows = segment.rows;
            span.position = segment.sequence.len();
            kv.page_pointers(segment.sequence, &mut span.pages);
            let place = |position| Place {
                segment: index,
                position,
            };
            let positions = span.position..span.position + span.rows;
            self.places.extend(positions.map(place));
            let end = self.places.len();
            let from = match segment.scores {
                ScoreRows::None => end,
                ScoreRows::Last => end.saturating_sub(1).max(first),
                ScoreRows::All => first,
            };
            self.wanted.extend((from..end).map(|row| (row, index)));
        }
        attention::cut(heads, &self.spans[..segments.len()], &mut self.items);
    }

    fn spans(&self) -> &[Span] {
        &self.spans[..self.segments]
    }
}

#[derive(Debug, Default)]
struct Values {
    hidden: Scratch<f32>,
    normed: Scratch<f32>,
    qkv: Scratch<f32>,
    queries: Scratch<f32>,
    attended: Scratch<f32>,
    wide: Scratch<f32>,
    activated: Scratch<f32>,
    logits: Scratch<f32>,
    /// `head_dim / 2` cosines and sines for every row.
    angles: Vec<(f32, f32)>,
    quantised: Activations,
    /// What is filled while products of `quantised` are computed.
    filled: Activations,
    /// Residual rows whose scores are wanted.
    picked: Scratch<f32>,
    scores: score::Scratch,
}

/// Where an activation function's results go.
struct Activated<'a> {
    values: SharedMut<f32>,
    /// Of a row.
    width: usize,
    filling: Option<&'a Filling<'a>>,
}

impl SliceModel {
    /// Runs one batch: appends the new positions to every sequence's KV and returns residual rows
    /// `[rows, hidden]` or scores. The bits of a row depend on its own session alone: not on the
    /// batch, its order, the chunking of the prompt or the number of threads.
    pub fn forward(
        &self,
        kv: &mut KvPages,
        segments: &mut [Segment<'_>],
        input: Input<'_>,
    ) -> Result<Output, ForwardError> {
        let rows = segments.iter().map(|s| s.rows).sum();
        self.check(kv, segments, input, rows)?;
        let mut guard = self
            .workspace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Workspace { batch, values } = &mut *guard;
        let heads = [self.profile.heads, self.profile.kv_heads].map(|heads| heads as usize);
        batch.fill(kv, segments, heads);
        self.enter(values, batch, input);
        self.angles(values, batch);
        for (index, layer) in self.layers.iter().enumerate() {
            self.attend(values, layer, self.shape(kv, index, layer), batch);
            let next = self.layers.get(index + 1).map(|layer| &layer.qkv.weight);
            let head = self.head.as_ref().filter(|_| !batch.wanted.is_empty());
            let next = next.or(head.map(|head| &head.weight));
            self.feed_forward(values, layer, next);
        }
        let output = match &self.head {
            Some(head) => Output::Scores(self.scores(values, head, (batch, segments))?),
            None => Output::Hidden(values.hidden.to_vec()),
        };
        if self.slice.layers.len() as u32 != self.slice.of {
            // Somebody else computes before there is more to do here.
            self.pool.rest();
        }
        if let Output::Hidden(values) = &output {
            let width = self.profile.hidden as usize;
            if let Some(row) = first_not_finite(values, width) {
                return Err(ForwardError::Overflow { row });
            }
        }
        for segment in segments {
            kv.advance(segment.sequence, segment.rows);
        }
        Ok(output)
    }

    fn machine(&self) -> Machine<'_> {
        Machine {
            pool: &self.pool,
            set: self.set,
        }
    }

    /// What threads read in a product with some weights; `whole`: somebody comes after it.
    fn ahead(&self, weights: &Matrix, whole: bool) -> Option<Ahead> {
        Some(weights.ahead(self.pool.threads(), whole))
    }

    fn check(
        &self,
        kv: &KvPages,
        segments: &[Segment<'_>],
        input: Input<'_>,
        rows: usize,
    ) -> Result<(), ForwardError> {
        if kv.layout() != PageLayout::new(&self.profile, &self.slice, kv.format()) {
            return Err(ForwardError::OtherPages);
        }
        let vocabulary = self.profile.vocabulary;
        let out_of_range = |id: &&u32| **id >= vocabulary;
        for segment in segments {
            let len = segment.sequence.len() + segment.rows;
            if len > self.profile.context as usize {
                let context = self.profile.context;
                return Err(ForwardError::ContextExceeded {
                    position: len - 1,
                    context,
                });
            }
            if !kv.is_reserved(segment.sequence, len) {
                let reserved = segment.sequence.reserved();
                return Err(ForwardError::NotReserved { len, reserved });
            }
            if let Some(id) = segment.asked.iter().find(out_of_range) {
                return Err(ForwardError::TokenOutOfRange {
                    id: *id,
                    vocabulary,
                });
            }
        }
        let width = self.profile.hidden as usize;
        let (found, expected) = match input {
            Input::Ids(ids) if self.embedding.is_some() => (ids.len(), rows),
            Input::Hidden(values) if self.embedding.is_none() => (values.len(), rows * width),
            Input::Ids(ids) => (ids.len(), rows * width),
            Input::Hidden(values) => (values.len(), rows),
        };
        let right_kind = matches!(input, Input::Ids(_)) == self.embedding.is_some();
        if found != expected || !right_kind {
            return Err(ForwardError::InputShape { found, expected });
        }
        match input {
            Input::Ids(ids) => match ids.iter().find(out_of_range) {
                Some(id) => Err(ForwardError::TokenOutOfRange {
                    id: *id,
                    vocabulary,
                }),
                None => Ok(()),
            },
            Input::Hidden(values) => match first_not_finite(values, width) {
                Some(row) => Err(ForwardError::NotFinite { row }),
                None => Ok(()),
            },
        }
    }

    /// Fills the residual rows.
    fn enter(&self, work: &mut Values, batch: &Batch, input: Input<'_>) {
        let width = self.profile.hidden as usize;
        let hidden = work.hidden.resize(batch.places.len() * width);
        match input {
            Input::Hidden(values) => hidden.copy_from_slice(values),
            Input::Ids(ids) => load::embed(self, ids, &batch.places, hidden),
        }
    }

    /// Fills the rotary angles of every row, once for all layers.
    fn angles(&self, work: &mut Values, batch: &Batch) {
        let half = self.frequencies.len();
        let places = &batch.places;
        work.angles.resize(places.len() * half, Default::default());
        let shared = SharedMut::new(&mut work.angles);
        if half == 0 {
            return;
        }
        self.pool.split(places.len(), &|range| {
            for row in range {
                // SAFETY: each row belongs to one thread.
                let out = unsafe { shared.range(row * half, half) };
                rope::angles(&self.frequencies, places[row].position, out);
            }
        });
    }

    fn shape(&self, kv: &KvPages, index: usize, layer: &Layer) -> Shape {
        let layout = kv.layout();
        Shape {
            layout,
            layer: index,
            heads: self.profile.heads as usize,
            window: layer.window,
            scale: (1.0 / f64::from(self.profile.head_dim).sqrt()) as f32,
        }
    }

    fn attend(&self, work: &mut Values, layer: &Layer, shape: Shape, batch: &Batch) {
        let width = self.profile.hidden as usize;
        let rows = work.hidden.len() / width;
        let normed = work.normed.resize(rows * width);
        pointwise::norm(&self.pool, self.set, &layer.attn_norm, &work.hidden, normed);
        let outputs = layer.qkv.weight.outputs();
        let qkv = work.qkv.resize(rows * outputs);
        let store = Epilogue {
            bias: layer.qkv.bias.as_deref(),
            ahead: self.ahead(&layer.attn_o.weight, false),
            ..Epilogue::STORE
        };
        linear(
            self.machine(),
            Operand::Values(Rows::new(normed, width), &mut work.quantised),
            &layer.qkv.weight,
            store,
            qkv,
        );
        let query_width = self.profile.query_width() as usize;
        work.queries.resize(rows * query_width);
        self.rotate_and_write(work, layer, &shape, batch);
        let attended = work.attended.resize(rows * query_width);
        let cut = (batch.spans(), batch.items.as_slice());
        attention::attention(self.machine(), shape, cut, &work.queries, attended);
        let add = Epilogue {
            bias: layer.attn_o.bias.as_deref(),
            ahead: self.ahead(&layer.up.weight, true),
            ..Epilogue::ADD
        };
        let x = Rows::new(attended, query_width);
        linear(
            self.machine(),
            Operand::Values(x, &mut work.quantised),
            &layer.attn_o.weight,
            add,
            &mut work.hidden,
        );
    }

    /// Norms and rotates q and k of every row, and writes k and v into the pages.
    fn rotate_and_write(&self, work: &mut Values, layer: &Layer, shape: &Shape, batch: &Batch) {
        let outputs = layer.qkv.weight.outputs();
        let query_width = self.profile.query_width() as usize;
        let half = self.frequencies.len();
        let qkv = SharedMut::new(&mut work.qkv);
        let queries = SharedMut::new(&mut work.queries);
        let angles = &work.angles;
        self.pool.split(batch.places.len(), &|range| {
            for row in range {
                let Place { segment, position } = batch.places[row];
                let span = &batch.spans[segment];
                let angles = &angles[row * half..][..half];
                // SAFETY: each row, and so its position in the pages, belongs to one thread;
                // `check` found every page to be the sequence's own.
                unsafe {
                    let row_qkv = qkv.range(row * outputs, outputs);
                    self.rotate_row(layer, angles, row_qkv);
                    let (q, kv) = row_qkv.split_at(query_width);
                    queries
                        .range(row * query_width, query_width)
                        .copy_from_slice(q);
                    let (k, v) = kv.split_at(kv.len() / 2);
                    let dim = shape.layout.head_dim;
                    for (head, (k, v)) in k.chunks(dim).zip(v.chunks(dim)).enumerate() {
                        attention::write_kv(shape, span, head, position, k, v);
                    }
                }
            }
        });
    }

    /// Norms and rotates the q and k heads of one row `[q | k | v]`.
    fn rotate_row(&self, layer: &Layer, angles: &[(f32, f32)], row: &mut [f32]) {
        let dim = self.profile.head_dim as usize;
        let heads = self.profile.heads as usize;
        let turned = heads + self.profile.kv_heads as usize;
        let rope = matches!(self.profile.positions, Positions::Rope { .. });
        for (index, head) in row.chunks_mut(dim).take(turned).enumerate() {
            let norm = if index < heads {
                &layer.q_norm
            } else {
                &layer.k_norm
            };
            if let Some(norm) = norm {
                // SAFETY: `self.set` was detected; a head has the width of its norm.
                unsafe { pointwise::norm_row(self.set, norm, head) };
            }
            if rope {
                rope::rotate(head, angles);
            }
        }
    }

    /// `next` are the weights that are read after those of the layer.
    fn feed_forward(&self, work: &mut Values, layer: &Layer, next: Option<&Matrix>) {
        let width = self.profile.hidden as usize;
        let rows = work.hidden.len() / width;
        let normed = work.normed.resize(rows * width);
        pointwise::norm(&self.pool, self.set, &layer.mlp_norm, &work.hidden, normed);
        let (up, down) = (&layer.up.weight, &layer.down.weight);
        let inner = down.inputs();
        let expected = match self.profile.mlp {
            Mlp::GatedSilu => 2 * inner.next_multiple_of(LANES),
            Mlp::GeluTanh => inner,
        };
        assert_eq!(up.outputs(), expected, "what goes up comes down");
        let activated = work.activated.resize(rows * inner);
        let shape = [rows, inner];
        let filling = match down.format() {
            Some(format) => Some(work.filled.begin(self.set, format, shape)),
            None => None,
        };
        let to = Activated {
            values: SharedMut::new(activated),
            width: inner,
            filling: filling.as_ref(),
        };
        // SAFETY: memory for these rows is borrowed until the product is done; its parts are disjoint.
        let activate = |part: Finished<'_>| unsafe { self.activate(part, &to) };
        let store = Epilogue {
            bias: layer.up.bias.as_deref(),
            ahead: self.ahead(down, false),
            then: Some(&activate),
            ..Epilogue::STORE
        };
        let x = Operand::Values(Rows::new(normed, width), &mut work.quantised);
        let wide = work.wide.resize(rows * up.outputs());
        linear(self.machine(), x, up, store, wide);
        let add = Epilogue {
            bias: layer.down.bias.as_deref(),
            ahead: next.and_then(|next| self.ahead(next, false)),
            ..Epilogue::ADD
        };
        let x = match filling {
            Some(_) => Operand::Quantised(&work.filled),
            None => Operand::Values(Rows::new(activated, inner), &mut work.quantised),
        };
        linear(self.machine(), x, down, add, &mut work.hidden);
    }

    /// The activation function of a part of a product, quantised where the next weights want that.
    ///
    /// # Safety
    /// `to` is borrowed and has room for all rows of the product, and no other thread uses the place of this part.
    unsafe fn activate(&self, mut part: Finished<'_>, to: &Activated<'_>) {
        let inputs = match self.profile.mlp {
            Mlp::GatedSilu => 2,
            Mlp::GeluTanh => 1,
        };
        let first = part.outputs().start / inputs;
        let last = to.width.min(part.outputs().end / inputs);
        for row in part.rows() {
            let x = part.row(row);
            // SAFETY: the caller's; `self.set` was detected.
            unsafe {
                let out = to.values.range(row * to.width + first, last - first);
                match self.profile.mlp {
                    Mlp::GatedSilu => pointwise::gated_silu(self.set, x, out),
                    Mlp::GeluTanh => pointwise::gelu_tanh(self.set, x, out),
                }
            }
        }
        if let Some(filling) = to.filling {
            for tile in filling.tiles_of(part.rows()) {
                let blocks = first / BLOCK..last.div_ceil(BLOCK);
                // SAFETY: the caller's: parts are of whole blocks, and rows of a product those of whole tiles.
                unsafe { filling.fill(to.values.pointer(), tile, blocks) };
            }
        }
    }

    fn scores(
        &self,
        work: &mut Values,
        head: &Head,
        (batch, segments): (&Batch, &[Segment<'_>]),
    ) -> Result<Vec<Scores>, ForwardError> {
        let width = self.profile.hidden as usize;
        let vocabulary = head.weight.outputs();
        let first = self.layers.first();
        let store = Epilogue {
            ahead: first.and_then(|layer| self.ahead(&layer.qkv.weight, false)),
            ..Epilogue::STORE
        };
        let mut list = Vec::with_capacity(batch.wanted.len());
        for block in batch.wanted.chunks(LOGIT_ROWS) {
            let picked = work.picked.resize(block.len() * width);
            for ((row, _), to) in block.iter().zip(picked.chunks_exact_mut(width)) {
                to.copy_from_slice(&work.hidden[row * width..][..width]);
            }
            let normed = work.normed.resize(work.picked.len());
            pointwise::norm(&self.pool, self.set, &head.norm, &work.picked, normed);
            let logits = work.logits.resize(block.len() * vocabulary);
            linear(
                self.machine(),
                Operand::Values(Rows::new(normed, width), &mut work.quantised),
                &head.weight,
                store,
                logits,
            );
            for ((row, segment), logits) in block.iter().zip(logits.chunks(vocabulary)) {
                let asked = segments[*segment].asked;
                let scores = score::scores(self.machine(), &mut work.scores, logits, asked);
                if !scores.log_sum_exp.is_finite() {
                    return Err(ForwardError::Overflow { row: *row });
                }
                list.push(scores);
            }
        }
        Ok(list)
    }
}

fn first_not_finite(values: &[f32], width: usize) -> Option<usize> {
    values
        .iter()
        .position(|v| !v.is_finite())
        .map(|index| index / width)
}
