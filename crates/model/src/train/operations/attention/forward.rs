//! The forward pass of a task.

use super::super::real::{Real, largest, sum};
use super::super::rows::{Kernel, vectorised};
use super::TILE;
use super::head::{Head, Prepare, Tile, Which};
use crate::kernels::product::{Start, View};
use crate::memory::SharedMut;

impl<T: Real> Head<'_, T> {
    /// Writes the outputs of this task's heads of queries, and the logarithms of their sums, into
    /// `[n, heads * d]` and `[n, heads]`.
    ///
    /// # Safety
    /// Nobody else writes these heads in this row.
    pub(super) unsafe fn forward(&self, [out, log_sums]: &[SharedMut<T>; 2]) {
        let (heads, d) = (self.attention().heads, self.attention().head_dim);
        let keys: Vec<T::Packed> = self.tiles().map(|tile| self.packed_keys(&tile)).collect();
        let values: Vec<T::Packed> = self.tiles().map(|tile| self.packed_values(&tile)).collect();
        let mut work = Work::new(self.width(), d);
        for column in self.queries() {
            for tile in self.tiles() {
                self.attend(&mut work, column, &tile, [&keys, &values]);
                for (index, at) in tile.enumerate() {
                    let row = self.row * self.width() + at;
                    // SAFETY: the caller's promise.
                    let (out, log_sum) = unsafe {
                        let place = self.place(at, column, heads);
                        (out.range(place, d), log_sums.range(row * heads + column, 1))
                    };
                    out.copy_from_slice(&work.out[index * d..][..d]);
                    log_sum[0] = work.log_sums[index];
                }
            }
        }
    }

    /// The keys of a tile for `q k^T`.
    pub(super) fn packed_keys(&self, tile: &Tile) -> T::Packed {
        let d = self.attention().head_dim;
        let keys = self.prepared_keys(tile);
        T::pack_here(View::new(&keys, d).transposed())
    }

    /// The keys of a tile, `[tile, d]`.
    pub(super) fn prepared_keys(&self, tile: &Tile) -> Vec<T> {
        let mut keys = vec![T::ZERO; tile.len() * self.attention().head_dim];
        self.prepare(Which::Key, tile, &mut keys);
        keys
    }

    /// The values of a tile for `p v`.
    fn packed_values(&self, tile: &Tile) -> T::Packed {
        T::pack_here(self.values(tile))
    }

    /// The values of a tile, `[tile, d]`.
    pub(super) fn values(&self, tile: &Tile) -> View<'_, T> {
        let (d, columns) = (self.attention().head_dim, self.columns());
        let place = self.place(tile.start, self.value(), columns);
        View::strided(&self.qkv[place..], [tile.len(), d], columns * d)
    }

    /// Fills `out` with a column of a tile, prepared.
    pub(super) fn prepare(&self, which: Which, tile: &Tile, out: &mut [T]) {
        let kernel = Prepare {
            head: self,
            which,
            tile: tile.clone(),
            out,
        };
        vectorised(self.op.workers.set, kernel);
    }

    /// Outputs and logarithms of sums of one tile of one head of queries, into `work`.
    fn attend(
        &self,
        work: &mut Work<T>,
        column: usize,
        tile: &Tile,
        [keys, values]: [&[T::Packed]; 2],
    ) {
        let (d, workers) = (self.attention().head_dim, &self.op.workers);
        let size = tile.len();
        let q = &mut work.q[..size * d];
        self.prepare(Which::Query(column), tile, q);
        let seen = self.seen_by(tile);
        let mut scores = Vec::with_capacity(seen.len());
        for (index, room) in seen.clone().zip(work.scores.chunks_mut(TILE * TILE)) {
            let scored = &mut room[..size * self.tile(index).len()];
            T::product_here(workers, View::new(q, d), &keys[index], Start::Zero, scored);
            scores.push(scored);
        }
        let kernel = Softmax {
            head: self,
            tile,
            first: seen.start,
            scores: &mut scores,
            sums: &mut work.sums[..size],
            log_sums: &mut work.log_sums[..size],
        };
        vectorised(workers.set, kernel);
        let out = &mut work.out[..size * d];
        for (index, (scored, start)) in seen.zip(scores.iter().zip(starts())) {
            let powers = View::new(scored, self.tile(index).len());
            T::product_here(workers, powers, &values[index], start, out);
        }
        for (out, sum) in out.chunks_exact_mut(d).zip(&work.sums) {
            let scale = T::ONE / *sum;
            out.iter_mut().for_each(|out| *out *= scale);
        }
    }

    /// Tile `index` of the row.
    pub(super) fn tile(&self, index: usize) -> Tile {
        index * TILE..self.width().min((index + 1) * TILE)
    }

    /// Which keys of tile `index` the query at `at` sees, counted from the tile's start.
    pub(super) fn seen_in(&self, index: usize, at: usize) -> Tile {
        let tile = self.tile(index);
        let first = self.attention().first_seen(self.row, at).max(tile.start);
        let end = (at + 1).min(tile.end).max(first);
        first.min(tile.end) - tile.start..end.min(tile.end) - tile.start
    }
}

/// What sums over several products start from: the first from zero.
pub(super) fn starts<'a, T: 'a>() -> impl Iterator<Item = Start<'a, T>> {
    std::iter::once(Start::Zero).chain(std::iter::repeat_with(|| Start::Held))
}

/// Room of a task.
struct Work<T> {
    q: Vec<T>,
    /// `[tiles of keys][tile of queries, tile of keys]`.
    scores: Vec<T>,
    sums: Vec<T>,
    log_sums: Vec<T>,
    out: Vec<T>,
}

impl<T: Real> Work<T> {
    fn new(width: usize, d: usize) -> Self {
        let zeros = |count: usize| vec![T::ZERO; count];
        Self {
            q: zeros(TILE * d),
            scores: zeros(width.div_ceil(TILE) * TILE * TILE),
            sums: zeros(TILE),
            log_sums: zeros(TILE),
            out: zeros(TILE * d),
        }
    }
}

/// Turns the scores of a tile of queries, over the tiles of keys from `first` on, into powers
/// `exp(score - largest)`, zero where a query does not see; and gives their sums and, with the
/// largest score added, the logarithms of these.
struct Softmax<'a, 'b, 'c, T> {
    head: &'b Head<'a, T>,
    tile: &'b Tile,
    first: usize,
    scores: &'b mut [&'c mut [T]],
    sums: &'b mut [T],
    log_sums: &'b mut [T],
}

impl<T: Real> Kernel for Softmax<'_, '_, '_, T> {
    #[inline(always)]
    fn run(self) {
        let head = self.head;
        let sums = self.sums.iter_mut().zip(self.log_sums);
        for (query, (at, (sum_of, log_sum))) in self.tile.clone().zip(sums).enumerate() {
            let mut most = T::LOWEST;
            for (index, scores) in (self.first..).zip(&*self.scores) {
                let (seen, width) = (head.seen_in(index, at), head.tile(index).len());
                let here = largest(&scores[query * width..][seen]);
                most = if here > most { here } else { most };
            }
            let mut total = T::ZERO;
            for (index, scores) in (self.first..).zip(&mut *self.scores) {
                let (seen, width) = (head.seen_in(index, at), head.tile(index).len());
                let row = &mut scores[query * width..][..width];
                row[..seen.start].fill(T::ZERO);
                row[seen.end..].fill(T::ZERO);
                let seen = &mut row[seen];
                seen.iter_mut().for_each(|x| *x = (*x - most).exp());
                total += sum(seen);
            }
            *sum_of = total;
            *log_sum = most + total.ln();
        }
    }
}
