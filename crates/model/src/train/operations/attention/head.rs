//! One head of keys in one row, with the heads of queries that share it.

use std::ops::Range;

use super::super::norm::{moments, row_backward};
use super::super::real::Real;
use super::super::rows::Kernel;
use super::{Attend, Norms, TILE};
use crate::twin::Attention;

/// What a task works on. Columns of `qkv` are counted in heads: queries, then keys, then values.
pub(super) struct Head<'a, T> {
    pub(super) op: &'a Attend,
    pub(super) qkv: &'a [T],
    pub(super) norms: Norms<'a, T>,
    pub(super) row: usize,
    pub(super) kv: usize,
    /// What scores are multiplied by; queries carry it.
    pub(super) scale: T,
}

/// A run of positions of the row.
pub(super) type Tile = Range<usize>;

/// What is normalised and rotated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    /// The queries of this column.
    Query(usize),
    /// The keys.
    Key,
}

impl<'a, T: Real> Head<'a, T> {
    pub(super) fn new(
        op: &'a Attend,
        qkv: &'a [T],
        norms: Norms<'a, T>,
        [row, kv]: [usize; 2],
    ) -> Self {
        let scale = T::ONE / T::of(op.attention.head_dim as f64).sqrt();
        Self {
            op,
            qkv,
            norms,
            row,
            kv,
            scale,
        }
    }

    pub(super) fn attention(&self) -> &'a Attention {
        &self.op.attention
    }

    /// Positions of a row.
    pub(super) fn width(&self) -> usize {
        self.attention().rows.width()
    }

    /// The columns of the queries that share this head.
    pub(super) fn queries(&self) -> Range<usize> {
        let group = self.attention().heads / self.attention().kv_heads;
        self.kv * group..(self.kv + 1) * group
    }

    /// The column of queries or keys.
    fn column(&self, which: Which) -> usize {
        match which {
            Which::Query(column) => column,
            Which::Key => self.attention().heads + self.kv,
        }
    }

    /// The column of the values.
    pub(super) fn value(&self) -> usize {
        self.attention().heads + self.attention().kv_heads + self.kv
    }

    /// All tiles of the row.
    pub(super) fn tiles(&self) -> impl Iterator<Item = Tile> + use<T> {
        let width = self.width();
        (0..width)
            .step_by(TILE)
            .map(move |start| start..width.min(start + TILE))
    }

    /// Which tiles of keys some query of `tile` sees: what a query sees begins no earlier than
    /// what the one before it sees.
    pub(super) fn seen_by(&self, tile: &Tile) -> Range<usize> {
        let first = self.attention().first_seen(self.row, tile.start);
        first / TILE..(tile.end - 1) / TILE + 1
    }

    /// Where the values of a head at position `at` begin, in a buffer of `columns` heads a row.
    pub(super) fn place(&self, at: usize, column: usize, columns: usize) -> usize {
        ((self.row * self.width() + at) * columns + column) * self.attention().head_dim
    }

    /// Columns of queries, keys and values together.
    pub(super) fn columns(&self) -> usize {
        self.attention().heads + 2 * self.attention().kv_heads
    }

    /// Where a column of queries or keys is at position `at`.
    pub(super) fn place_of(&self, at: usize, which: Which) -> usize {
        self.place(at, self.column(which), self.columns())
    }

    /// The values of a column at position `at`.
    pub(super) fn raw(&self, at: usize, column: usize) -> &'a [T] {
        &self.qkv[self.place(at, column, self.columns())..][..self.attention().head_dim]
    }

    fn norm(&self, which: Which) -> Option<&'a [T]> {
        self.norms.map(|[q, k]| match which {
            Which::Query(_) => q,
            Which::Key => k,
        })
    }
}

/// Copies a column of a tile to `out`, `[tile, d]`: normalised, rotated, queries scaled.
pub(super) struct Prepare<'a, 'b, T> {
    pub(super) head: &'b Head<'a, T>,
    pub(super) which: Which,
    pub(super) tile: Tile,
    pub(super) out: &'b mut [T],
}

impl<T: Real> Kernel for Prepare<'_, '_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { head, which, .. } = self;
        let attention = head.attention();
        let rows = self.out.chunks_exact_mut(attention.head_dim);
        for (at, out) in self.tile.zip(rows) {
            let x = head.raw(at, head.column(self.which));
            match head.norm(which) {
                None => out.copy_from_slice(x),
                Some(weight) => {
                    let (_, scale) = moments(x, f64::from(attention.epsilon), false);
                    for (out, (x, weight)) in out.iter_mut().zip(x.iter().zip(weight)) {
                        *out = *x * scale * *weight;
                    }
                }
            }
            if let Some(rotary) = &attention.rotary {
                rotate(out, rotary.at(attention.rows.position(head.row, at)), false);
            }
            if let Which::Query(_) = which {
                out.iter_mut().for_each(|out| *out *= head.scale);
            }
        }
    }
}

/// The way back of [`Prepare`]: from the gradient of what it gave to that of the column, `dx`, in
/// place (`grad` holds the former and is spoilt); the norm's gradient is added to `sums`.
pub(super) struct Unprepare<'a, 'b, T> {
    pub(super) head: &'b Head<'a, T>,
    pub(super) which: Which,
    pub(super) at: usize,
    pub(super) grad: &'b mut [T],
    pub(super) dx: &'b mut [T],
    pub(super) sums: &'b mut [T],
}

impl<T: Real> Kernel for Unprepare<'_, '_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { head, at, grad, .. } = self;
        let attention = head.attention();
        if let Which::Query(_) = self.which {
            grad.iter_mut().for_each(|grad| *grad *= head.scale);
        }
        if let Some(rotary) = &attention.rotary {
            rotate(grad, rotary.at(attention.rows.position(head.row, at)), true);
        }
        let Some(weight) = head.norm(self.which) else {
            self.dx.copy_from_slice(grad);
            return;
        };
        let x = head.raw(at, head.column(self.which));
        let moments = moments(x, f64::from(attention.epsilon), false);
        for (sum, (x, grad)) in self.sums.iter_mut().zip(x.iter().zip(&*grad)) {
            *sum += *grad * (*x * moments.1);
        }
        let mut room = vec![T::ZERO; x.len()];
        row_backward(x, weight, grad, moments, false, [&mut room, self.dx]);
    }
}

/// Rotates the pairs `(x[i], x[i + d/2])`, or turns them back.
#[inline(always)]
fn rotate<T: Real>(x: &mut [T], angles: &[(f32, f32)], back: bool) {
    let (low, high) = x.split_at_mut(angles.len());
    for ((low, high), (cosine, sine)) in low.iter_mut().zip(high).zip(angles) {
        let (cosine, sine) = (T::of(f64::from(*cosine)), T::of(f64::from(*sine)));
        let sine = if back { -sine } else { sine };
        let (a, b) = (*low, *high);
        *low = a * cosine - b * sine;
        *high = b * cosine + a * sine;
    }
}
