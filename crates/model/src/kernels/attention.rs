//! Attention over paged keys and values, with an online softmax in a fixed order.
//!
//! For one query at position `p` that sees positions `a..=p`:
//! tiles are the pages, at absolute positions; a tile that holds none of them is skipped. In a
//! tile, `score = (q . k) * scale`, the product in the order of [`super::linear`]; `m' = max(m,
//! scores)`; `c = exp(m - m')`; `e = exp(score - m')`, zero where the position is not seen; the sum
//! of weights is kept in sixteen lanes, `l = l * c + e[0..16] + e[16..32]`, added in a fixed tree at
//! the end; `t[d] = sum over seen positions, upwards, of e * v[d]`, fused, from zero; `o = o * c +
//! t`, fused. The result is `o * (1 / l)`. Nothing depends on other queries, on the batch or on how
//! the prompt was cut.
//!
//! Where keys and values are bytes, `k` and `v` are the integers; the product of `q . k` with the
//! key's scale comes before that with `scale`, and `e * v's scale` stands for `e` in `t`.

mod write;

use std::cell::RefCell;
use std::ops::Range;

use crate::kernels::linear::{Along, Machine, Weight, ask, by_height, tile, tile_height};
use crate::kv::{KvFormat, PAGE_POSITIONS, PageLayout};
use crate::lanes::{self, LANES, Lanes, dispatch};
use crate::memory::SharedMut;

pub(crate) use self::write::write_kv;

/// Query vectors that share each tile of keys and values while it is in the first-level cache.
const BLOCK_VECTORS: usize = 48;
/// Vectors of scores in a tile.
const HALVES: usize = PAGE_POSITIONS / LANES;

/// One session's rows in a batch.
#[derive(Debug, Default)]
pub(crate) struct Span {
    /// First row in the batch.
    pub(crate) row: usize,
    /// Number of rows.
    pub(crate) rows: usize,
    /// Position of the first row.
    pub(crate) position: usize,
    /// Memory of the session's pages, enough for all its positions.
    pub(crate) pages: Vec<*mut u8>,
}

// SAFETY: the pointers are to pages that outlive the batch; reads and writes through them follow
// the rules stated where they happen.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

/// What attention needs to know of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) layout: PageLayout,
    /// Index of the layer within the slice.
    pub(crate) layer: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// How many positions, its own included, a query sees.
    pub(crate) window: Option<usize>,
    /// `1 / sqrt(head_dim)`.
    pub(crate) scale: f32,
}

/// Keys and values as they lie in memory.
trait Stored: Weight {
    /// Whether positions have scales.
    const SCALED: bool;
}

impl Stored for f32 {
    const SCALED: bool = false;
}

impl Stored for i8 {
    const SCALED: bool = true;
}

/// Cuts a batch into pieces of work, the same for all layers: blocks of rows for each key head. `heads` are
/// those of queries and of keys.
pub(crate) fn cut([heads, kv_heads]: [usize; 2], spans: &[Span], items: &mut Vec<Item>) {
    let block_rows = (BLOCK_VECTORS / (heads / kv_heads)).max(1);
    items.clear();
    for (index, span) in spans.iter().enumerate() {
        for head in 0..kv_heads {
            for first in (0..span.rows).step_by(block_rows) {
                let rows = block_rows.min(span.rows - first);
                items.push(Item {
                    span: index,
                    head,
                    first,
                    rows,
                });
            }
        }
    }
}

/// Attends for all rows of a batch, cut into `items`: `q` and `out` are `[rows, heads * head_dim]`. Keys and
/// values of the rows themselves have been written.
pub(crate) fn attention(
    Machine { pool, set }: Machine<'_>,
    shape: Shape,
    (spans, items): (&[Span], &[Item]),
    q: &[f32],
    out: &mut [f32],
) {
    let shared = SharedMut::new(out);
    pool.each(items.len(), &|index| {
        let item = &items[index];
        let job = Job {
            shape,
            span: &spans[item.span],
            item,
            group: shape.heads / shape.layout.kv_heads,
            q,
            out: shared,
        };
        // SAFETY: `set` was detected; items write disjoint heads and rows of `out`; pages are only
        // read here, and their writes were finished by an earlier piece of work.
        unsafe { run_item(set, &job) };
    });
}

/// Rows `first..first + rows` of a span, for the query heads of one key head.
#[derive(Debug)]
pub(crate) struct Item {
    span: usize,
    head: usize,
    first: usize,
    rows: usize,
}

struct Job<'a> {
    shape: Shape,
    span: &'a Span,
    item: &'a Item,
    group: usize,
    q: &'a [f32],
    out: SharedMut<f32>,
}

/// Running state of the softmax of all query vectors of an item.
#[derive(Default)]
struct State {
    vectors: Vec<f32>,
    max: Vec<f32>,
    sums: Vec<f32>,
    out: Vec<f32>,
}

thread_local! {
    /// Keeps its memory from item to item.
    static STATE: RefCell<State> = RefCell::default();
}

impl Job<'_> {
    /// Absolute position of query vector `index`.
    fn position(&self, index: usize) -> usize {
        self.span.position + self.item.first + index / self.group
    }

    /// Which positions of tile `tile` query vector `index` sees, relative to the tile.
    fn seen(&self, index: usize, tile: usize) -> Range<usize> {
        let position = self.position(index);
        let start = self
            .shape
            .window
            .map_or(0, |w| (position + 1).saturating_sub(w));
        let base = tile * PAGE_POSITIONS;
        let from = start.saturating_sub(base).min(PAGE_POSITIONS);
        let to = (position + 1).saturating_sub(base).min(PAGE_POSITIONS);
        from..to.max(from)
    }

    /// Where query vector `index` lies in `q` and in `out`.
    fn offset(&self, index: usize) -> usize {
        let dim = self.shape.layout.head_dim;
        let row = self.span.row + self.item.first + index / self.group;
        let head = self.item.head * self.group + index % self.group;
        (row * self.shape.heads + head) * dim
    }

    /// Where keys and values of this item's head are in a tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> [*const u8; 2] {
        let layout = &self.shape.layout;
        let (layer, head) = (self.shape.layer, self.item.head);
        let page = self.span.pages[tile].cast_const();
        [layout.keys(layer, head), layout.values(layer, head)].map(|at| page.wrapping_add(at))
    }

    fn begin(&self, state: &mut State) {
        let count = self.item.rows * self.group;
        let dim = self.shape.layout.head_dim;
        state.vectors.clear();
        for index in 0..count {
            let vector = &self.q[self.offset(index)..][..dim];
            state.vectors.extend_from_slice(vector);
        }
        fill(&mut state.max, count, f32::NEG_INFINITY);
        fill(&mut state.sums, count * LANES, 0.0);
        fill(&mut state.out, count * self.shape.layout.padded_dim, 0.0);
    }
}

fn fill(values: &mut Vec<f32>, count: usize, value: f32) {
    values.clear();
    values.resize(count, value);
}

dispatch! {
    /// # Safety
    /// `set` is available; the job's pages hold all positions that its rows see, its part of
    /// `out` is this thread's alone.
    unsafe fn run_item = item_body(job: &Job<'_>)
}

#[inline(always)]
unsafe fn item_body<L: Lanes>(job: &Job<'_>) {
    // SAFETY: the caller's; pages hold what their layout says.
    unsafe {
        match job.shape.layout.format {
            KvFormat::F32 => stored_item::<L, f32>(job),
            KvFormat::Int8 => stored_item::<L, i8>(job),
        }
    }
}

/// # Safety
/// As for [`run_item`]; the pages hold `E`.
#[inline(always)]
unsafe fn stored_item<L: Lanes, E: Stored>(job: &Job<'_>) {
    // Taken out and put back: what runs in a closure would be compiled without the instruction set.
    let mut state = STATE.take();
    job.begin(&mut state);
    let count = state.max.len();
    let first_seen = {
        let start = job.position(0) + 1;
        job.shape.window.map_or(0, |w| start.saturating_sub(w))
    };
    let last_seen = job.position(count - 1);
    let (first, last) = (first_seen / PAGE_POSITIONS, last_seen / PAGE_POSITIONS);
    // Between two layers all weights pass through the caches: keys and values are read from memory,
    // in pieces too short for the processor to guess where they go on.
    let layout = &job.shape.layout;
    let sizes = [
        layout.keys(0, 1) - layout.keys(0, 0),
        layout.values(0, 1) - layout.values(0, 0),
    ];
    for (from, bytes) in job.place(first).into_iter().zip(sizes) {
        ask(from, bytes);
    }
    for tile in first..=last {
        let next = job.place(last.min(tile + 1));
        let mut index = 0;
        while index < count {
            let height = tile_height::<L>(count - index);
            // SAFETY: the caller's; the vectors `index..index + R` exist.
            index += unsafe {
                by_height!(height, R => attend::<L, E, R>(job, &mut state, (tile, next), index))
            };
        }
    }
    let (dim, padded) = (job.shape.layout.head_dim, job.shape.layout.padded_dim);
    for index in 0..count {
        // SAFETY: sixteen sums for each vector.
        let sum = unsafe { L::load(state.sums[index * LANES..][..LANES].as_ptr()).tree_sum() };
        let scale = 1.0 / sum;
        // SAFETY: this head of this row belongs to this item alone.
        let out = unsafe { job.out.range(job.offset(index), dim) };
        for (out, value) in out.iter_mut().zip(&state.out[index * padded..]) {
            *out = *value * scale;
        }
    }
    STATE.set(state);
}

/// One tile for `R` query vectors from `index` on; the one at `next` is asked for meanwhile. Returns `R`.
///
/// # Safety
/// As for [`stored_item`]; the vectors exist.
#[inline(always)]
unsafe fn attend<L: Lanes, E: Stored, const R: usize>(
    job: &Job<'_>,
    state: &mut State,
    (tile_index, next): (usize, [*const u8; 2]),
    index: usize,
) -> usize {
    let shape = &job.shape;
    let layout = &shape.layout;
    let page = job.span.pages[tile_index];
    let mut seen: [Range<usize>; R] = std::array::from_fn(|_| 0..0);
    for (r, seen) in seen.iter_mut().enumerate() {
        *seen = job.seen(index + r, tile_index);
    }
    if seen.iter().all(Range::is_empty) {
        return R;
    }
    let mut weights = [[0.0f32; PAGE_POSITIONS]; R];
    let mut corrections = [0.0f32; R];
    // SAFETY: the page holds keys and values of this layer and head at these offsets; vectors of
    // `head_dim` values lie one after another from `index` on.
    unsafe {
        let q = state.vectors.as_ptr().add(index * layout.head_dim);
        let (layer, head) = (shape.layer, job.item.head);
        let keys = page.add(layout.keys(layer, head)).cast_const().cast::<E>();
        let scales = page.add(layout.scales(layer, head)).cast::<f32>();
        for half in 0..HALVES {
            let mut scores = [[L::splat(0.0); R]];
            let start = half * layout.head_dim * LANES;
            let asking = Along(next[0].wrapping_add(start * size_of::<E>()));
            tile(
                (q, layout.head_dim),
                ([keys.add(start)], LANES),
                layout.head_dim,
                &mut scores,
                asking,
            );
            for (r, mut score) in scores[0].into_iter().enumerate() {
                if E::SCALED {
                    score = score.mul(L::load(scales.add(half * LANES)));
                }
                score
                    .mul(L::splat(shape.scale))
                    .store(weights[r].as_mut_ptr().add(half * LANES));
            }
        }
        for r in 0..R {
            if !seen[r].is_empty() {
                let sums = &mut state.sums[(index + r) * LANES..][..LANES];
                let max = &mut state.max[index + r];
                corrections[r] = soften::<L>(&mut weights[r], &seen[r], max, sums);
                if E::SCALED {
                    rescale::<L>(&mut weights[r], scales.add(PAGE_POSITIONS));
                }
            }
        }
        let values = page.add(layout.values(layer, head)).cast::<E>();
        let out = &mut state.out[index * layout.padded_dim..];
        let weighted = Weighted {
            weights: &weights,
            corrections: &corrections,
            seen: &seen,
        };
        add_values::<L, E, R>(layout, weighted, (values, next[1]), out);
    }
    R
}

/// Turns scores into exponentials, zero where not seen, and updates maximum and sums. Returns the
/// factor for what was accumulated before.
///
/// # Safety
/// As for [`Lanes`]; `sums` has sixteen values.
#[inline(always)]
unsafe fn soften<L: Lanes>(
    scores: &mut [f32; PAGE_POSITIONS],
    seen: &Range<usize>,
    max: &mut f32,
    sums: &mut [f32],
) -> f32 {
    scores[..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..].fill(f32::NEG_INFINITY);
    // SAFETY: the arrays hold whole lanes.
    unsafe {
        let low = L::load(scores.as_ptr());
        let high = L::load(scores.as_ptr().add(LANES));
        let found = low.max(high).largest();
        let new = if found > *max { found } else { *max };
        // The exponential of zero is one.
        let correction = if new == *max {
            1.0
        } else {
            // One lane of sixteen; the function of a single value would be compiled without the instruction set.
            let mut lanes = [0.0; LANES];
            lanes::exp(L::splat(*max - new)).store(lanes.as_mut_ptr());
            lanes[0]
        };
        *max = new;
        let shift = L::splat(new);
        let low = lanes::exp(low.sub(shift));
        let high = lanes::exp(high.sub(shift));
        low.store(scores.as_mut_ptr());
        high.store(scores.as_mut_ptr().add(LANES));
        let total = L::load(sums.as_ptr())
            .mul(L::splat(correction))
            .add(low)
            .add(high);
        total.store(sums.as_mut_ptr());
        correction
    }
}

/// Multiplies weights by the scales of their values. What is not seen may become anything: nobody reads it.
///
/// # Safety
/// As for [`Lanes`]; a page has as many `scales` as positions.
#[inline(always)]
unsafe fn rescale<L: Lanes>(weights: &mut [f32; PAGE_POSITIONS], scales: *const f32) {
    for half in (0..PAGE_POSITIONS).step_by(LANES) {
        // SAFETY: the array and the scales hold whole lanes.
        unsafe {
            let weights = weights.as_mut_ptr().add(half);
            let scaled = L::load(weights).mul(L::load(scales.add(half)));
            scaled.store(weights);
        }
    }
}

/// By how much values of a tile count for `R` vectors, and what was added before.
struct Weighted<'a, const R: usize> {
    weights: &'a [[f32; PAGE_POSITIONS]; R],
    corrections: &'a [f32; R],
    seen: &'a [Range<usize>; R],
}

/// Adds a tile of values for `R` vectors, and asks for the same ones at `next` meanwhile.
///
/// # Safety
/// As for [`attend`]; `values` has 32 rows of `padded_dim`, `out` `R` rows of it, and what is seen lies inside.
#[inline(always)]
unsafe fn add_values<L: Lanes, E: Stored, const R: usize>(
    layout: &PageLayout,
    weighted: Weighted<'_, R>,
    (values, next): (*const E, *const u8),
    out: &mut [f32],
) {
    let seen = weighted.seen;
    // As those of one row do, and all of a tile that was full before.
    if seen.iter().all(|s| *s == seen[0]) {
        // SAFETY: the caller's.
        return unsafe { add_together::<L, E, R>(layout, weighted, (values, next), out) };
    }
    for (r, seen) in seen.iter().enumerate() {
        let out = &mut out[r * layout.padded_dim..];
        let (weights, correction) = (&weighted.weights[r], &weighted.corrections[r]);
        if seen.is_empty() {
            continue;
        }
        let one = Weighted {
            weights: std::array::from_ref(weights),
            corrections: std::array::from_ref(correction),
            seen: std::array::from_ref(seen),
        };
        // SAFETY: the caller's.
        unsafe { add_together::<L, E, 1>(layout, one, (values, next), out) };
    }
}

/// As [`add_values`], for vectors that see the same.
///
/// # Safety
/// As for [`add_values`].
#[inline(always)]
unsafe fn add_together<L: Lanes, E: Stored, const R: usize>(
    layout: &PageLayout,
    weighted: Weighted<'_, R>,
    (values, next): (*const E, *const u8),
    out: &mut [f32],
) {
    let padded = layout.padded_dim;
    let seen = &weighted.seen[0];
    for d in (0..padded).step_by(LANES) {
        // SAFETY: the caller's; `d + 16 <= padded`.
        unsafe {
            let mut sums = [[L::splat(0.0); R]];
            let weights = weighted.weights.as_ptr().cast::<f32>().add(seen.start);
            let first = seen.start * padded + d;
            let asking = Along(next.wrapping_add(first * size_of::<E>()));
            tile(
                (weights, PAGE_POSITIONS),
                ([values.add(first)], padded),
                seen.len(),
                &mut sums,
                asking,
            );
            for (r, sum) in sums[0].into_iter().enumerate() {
                let out = out[r * padded + d..][..LANES].as_mut_ptr();
                let correction = L::splat(weighted.corrections[r]);
                L::load(out).fma(correction, sum).store(out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
