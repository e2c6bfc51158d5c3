//! The backward pass of a task.
//!
//! With `p = softmax(q k^T)` and `o = p v`: `dv = p^T do`, `dp = do v^T`,
//! `ds = p (dp - sum(do o))`, `dq = ds k`, `dk = ds^T q`.

use super::super::real::{Real, dot};
use super::super::rows::{Kernel, vectorised};
use super::TILE;
use super::forward::starts;
use super::head::{Head, Tile, Unprepare, Which};
use crate::kernels::product::{Start, View};
use crate::memory::SharedMut;

/// What is known from the forward pass and from above.
pub(super) struct Known<'a, T> {
    /// `[n, heads]`.
    pub(super) log_sums: &'a [T],
    /// `[n, heads * d]`.
    pub(super) out: &'a [T],
    /// `[n, heads * d]`.
    pub(super) grad: &'a [T],
}

/// The keys and values of a tile, prepared for each product that takes them.
struct Tiled<T: Real> {
    keys: T::Packed,
    keys_turned: T::Packed,
    values_turned: T::Packed,
}

/// Room of a task.
struct Work<T> {
    q: Vec<T>,
    dout: Vec<T>,
    dq: Vec<T>,
    powers: Vec<T>,
    dscores: Vec<T>,
    /// `[width, d]`.
    dk: Vec<T>,
    dv: Vec<T>,
}

impl<T: Real> Work<T> {
    fn new(width: usize, d: usize) -> Self {
        let zeros = |count: usize| vec![T::ZERO; count];
        Self {
            q: zeros(TILE * d),
            dout: zeros(TILE * d),
            dq: zeros(TILE * d),
            powers: zeros(TILE * TILE),
            dscores: zeros(TILE * TILE),
            dk: zeros(width * d),
            dv: zeros(width * d),
        }
    }
}

impl<T: Real> Head<'_, T> {
    /// Writes the gradients of this task's queries, keys and values into `dqkv`, and adds those of
    /// the norms of q and k to `sums`, `[2 * d]`.
    ///
    /// # Safety
    /// Nobody else writes these heads in this row.
    pub(super) unsafe fn backward(
        &self,
        known: &Known<'_, T>,
        dqkv: &SharedMut<T>,
        sums: &mut [T],
    ) {
        let d = self.attention().head_dim;
        let (q_sums, k_sums) = sums.split_at_mut(d);
        let tiled: Vec<Tiled<T>> = self.tiles().map(|tile| self.tiled(&tile)).collect();
        let mut work = Work::new(self.width(), d);
        for column in self.queries() {
            for tile in self.tiles() {
                self.back_over(&mut work, known, column, &tile, &tiled);
                for (at, dq) in tile.zip(work.dq.chunks_exact_mut(d)) {
                    // SAFETY: the caller's promise.
                    unsafe { self.finish(Which::Query(column), at, dq, dqkv, q_sums) };
                }
            }
        }
        let width = self.width();
        let keys = work.dk.chunks_exact_mut(d).zip(work.dv.chunks_exact(d));
        for (at, (dk, dv)) in (0..width).zip(keys) {
            // SAFETY: the caller's promise.
            unsafe {
                self.finish(Which::Key, at, dk, dqkv, k_sums);
                let place = self.place(at, self.value(), self.columns());
                dqkv.range(place, d).copy_from_slice(dv);
            }
        }
    }

    fn tiled(&self, tile: &Tile) -> Tiled<T> {
        let keys = self.prepared_keys(tile);
        let keys = View::new(&keys, self.attention().head_dim);
        Tiled {
            keys: T::pack_here(keys),
            keys_turned: T::pack_here(keys.transposed()),
            values_turned: T::pack_here(self.values(tile).transposed()),
        }
    }

    /// One tile of one head of queries: adds to `work.dk` and `work.dv`, fills `work.dq`.
    fn back_over(
        &self,
        work: &mut Work<T>,
        known: &Known<'_, T>,
        column: usize,
        tile: &Tile,
        tiled: &[Tiled<T>],
    ) {
        let (heads, d) = (self.attention().heads, self.attention().head_dim);
        let (workers, size) = (&self.op.workers, tile.len());
        let (q, dout) = (&mut work.q[..size * d], &mut work.dout[..size * d]);
        self.prepare(Which::Query(column), tile, q);
        let mut along = [T::ZERO; TILE];
        let mut log_sums = [T::ZERO; TILE];
        for (index, at) in tile.clone().enumerate() {
            let place = self.place(at, column, heads);
            let grad = &known.grad[place..place + d];
            dout[index * d..][..d].copy_from_slice(grad);
            along[index] = dot(grad, &known.out[place..place + d]);
            log_sums[index] = known.log_sums[place / d];
        }
        let (q, dout) = (View::new(&*q, d), View::new(&*dout, d));
        let (q_packed, dout_packed) = (T::pack_here(q), T::pack_here(dout));
        let dq = &mut work.dq[..size * d];
        for (index, start) in self.seen_by(tile).zip(starts()) {
            let (keys, width) = (&tiled[index], self.tile(index).len());
            let powers = &mut work.powers[..size * width];
            let dscores = &mut work.dscores[..size * width];
            T::product_here(workers, q, &keys.keys_turned, Start::Zero, powers);
            T::product_here(workers, dout, &keys.values_turned, Start::Zero, dscores);
            let kernel = Scores {
                head: self,
                tile,
                index,
                log_sums: &log_sums,
                along: &along,
                powers,
                dscores,
            };
            vectorised(workers.set, kernel);
            let (powers, dscores) = (View::new(&*powers, width), View::new(&*dscores, width));
            let rows = index * TILE * d..(index * TILE + width) * d;
            let (dk, dv) = (&mut work.dk[rows.clone()], &mut work.dv[rows]);
            T::product_here(workers, powers.transposed(), &dout_packed, Start::Held, dv);
            T::product_here(workers, dscores.transposed(), &q_packed, Start::Held, dk);
            T::product_here(workers, dscores, &keys.keys, start, dq);
        }
    }

    /// Writes the gradient of a column at `at`, given that of what was prepared from it.
    ///
    /// # Safety
    /// As for [`Self::backward`].
    unsafe fn finish(
        &self,
        which: Which,
        at: usize,
        grad: &mut [T],
        dqkv: &SharedMut<T>,
        sums: &mut [T],
    ) {
        let place = self.place_of(at, which);
        let kernel = Unprepare {
            head: self,
            which,
            at,
            grad,
            // SAFETY: the caller's promise.
            dx: unsafe { dqkv.range(place, self.attention().head_dim) },
            sums,
        };
        vectorised(self.op.workers.set, kernel);
    }
}

/// Turns scores into probabilities, in place, and gradients of these (`dscores`) into gradients of
/// scores, over one tile of keys; both are zero where a query does not see.
struct Scores<'a, 'b, T> {
    head: &'b Head<'a, T>,
    tile: &'b Tile,
    index: usize,
    log_sums: &'b [T],
    /// `sum(do o)` of each query.
    along: &'b [T],
    powers: &'b mut [T],
    dscores: &'b mut [T],
}

impl<T: Real> Kernel for Scores<'_, '_, T> {
    #[inline(always)]
    fn run(self) {
        let width = self.head.tile(self.index).len();
        let rows = self.powers.chunks_exact_mut(width);
        let rows = rows.zip(self.dscores.chunks_exact_mut(width));
        let known = self.log_sums.iter().zip(self.along);
        for ((at, (powers, dscores)), (log_sum, along)) in self.tile.clone().zip(rows).zip(known) {
            let seen = self.head.seen_in(self.index, at);
            for row in [&mut *powers, &mut *dscores] {
                row[..seen.start].fill(T::ZERO);
                row[seen.end..].fill(T::ZERO);
            }
            let seen = powers[seen.clone()].iter_mut().zip(&mut dscores[seen]);
            for (power, dscore) in seen {
                *power = (*power - *log_sum).exp();
                *dscore = *power * (*dscore - *along);
            }
        }
    }
}
