//! Where a product goes, and what happens to it on the way.

use std::ops::Range;

use skein_weights::blocks::BLOCK;

use crate::lanes::{LANES, Lanes};
use crate::memory::SharedMut;
use crate::pool::Ahead;

/// Panels of a part of a product, of which half, which an activation with a gate leaves, are a whole block. Where somebody comes
/// after, threads compute outputs by multiples of it, but for the last ones.
pub(crate) const PART_PANELS: usize = 2 * BLOCK / LANES;

/// What happens to a product before it is stored, and after.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// Added to every row: one value per output.
    pub(crate) bias: Option<&'a [f32]>,
    /// Whether the result is added to what `out` holds instead of replacing it.
    pub(crate) accumulate: bool,
    /// Called for each part of the product that has been stored, by the thread that did so: but for many rows of floats,
    /// while it is still in that thread's caches.
    pub(crate) then: Option<&'a Then<'a>>,
    /// What threads read after the product, to be fetched by those who are through.
    pub(crate) ahead: Option<Ahead>,
}

/// What comes after a part of a product.
pub(crate) type Then<'a> = dyn Fn(Finished<'_>) + Sync + 'a;

impl Epilogue<'_> {
    /// The product as it is.
    pub(crate) const STORE: Self = Self {
        bias: None,
        accumulate: false,
        then: None,
        ahead: None,
    };
    /// The product added to what is there.
    pub(crate) const ADD: Self = Self {
        accumulate: true,
        ..Self::STORE
    };
}

/// Some rows of some outputs of a product: from a multiple of [`PART_PANELS`] to one, or to the end. No other thread has
/// to do with it.
pub(crate) struct Finished<'a> {
    rows: Range<usize>,
    outputs: Range<usize>,
    /// Of the product.
    width: usize,
    out: SharedMut<f32>,
    borrowed: std::marker::PhantomData<&'a mut [f32]>,
}

impl Finished<'_> {
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    pub(crate) fn outputs(&self) -> Range<usize> {
        self.outputs.clone()
    }

    /// This part's outputs of one of its rows.
    ///
    /// # Panics
    /// If it is none of them.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row), "a row of this part");
        let start = row * self.width + self.outputs.start;
        // SAFETY: the row and the outputs exist and are this part's alone; `self` is borrowed meanwhile.
        unsafe { self.out.range(start, self.outputs.len()) }
    }
}

/// A product's place.
pub(crate) struct Target<'a> {
    outputs: usize,
    epilogue: Epilogue<'a>,
    out: SharedMut<f32>,
}

impl<'a> Target<'a> {
    /// `out` is `[rows, outputs]`, borrowed for as long as the target lives.
    ///
    /// # Panics
    /// If it is not, or if there is another number of biases.
    pub(crate) fn new(
        rows: usize,
        outputs: usize,
        epilogue: Epilogue<'a>,
        out: &'a mut [f32],
    ) -> Self {
        assert_eq!(out.len(), rows * outputs, "outputs match");
        assert!(
            epilogue.bias.is_none_or(|bias| bias.len() == outputs),
            "biases match"
        );
        Self {
            outputs,
            epilogue,
            out: SharedMut::new(out),
        }
    }

    /// Whether somebody comes after.
    pub(crate) fn is_followed(&self) -> bool {
        self.epilogue.then.is_some()
    }

    /// Hands some rows of some panels, all stored, to what comes after.
    ///
    /// # Safety
    /// They exist, and their outputs are this thread's alone.
    pub(crate) unsafe fn finish(&self, rows: Range<usize>, panels: Range<usize>) {
        if let Some(then) = self.epilogue.then {
            let outputs = panels.start * LANES..self.outputs.min(panels.end * LANES);
            debug_assert!(panels.start.is_multiple_of(PART_PANELS), "whole parts");
            then(Finished {
                rows,
                outputs,
                width: self.outputs,
                out: self.out,
                borrowed: std::marker::PhantomData,
            });
        }
    }

    /// Applies the epilogue to the sixteen outputs of a panel in one row and stores those that exist.
    ///
    /// # Safety
    /// As for [`Lanes`]; `row` and `panel` exist, and their outputs are this thread's alone.
    #[inline(always)]
    pub(crate) unsafe fn store<L: Lanes>(&self, total: L, row: usize, panel: usize) {
        let first = panel * LANES;
        let width = LANES.min(self.outputs - first);
        // SAFETY: the outputs of this panel are this thread's alone.
        let out = unsafe { self.out.range(row * self.outputs + first, width) };
        if width == LANES {
            let bias = self.epilogue.bias.map(|bias| &bias[first..first + LANES]);
            // SAFETY: sixteen values each.
            return unsafe { self.store_whole(total, bias, out) };
        }
        let mut values = [0.0f32; LANES];
        // SAFETY: room for sixteen.
        unsafe { total.store(values.as_mut_ptr()) };
        if let Some(bias) = self.epilogue.bias {
            for (value, bias) in values.iter_mut().zip(&bias[first..first + width]) {
                *value += *bias;
            }
        }
        for (out, value) in out.iter_mut().zip(values) {
            *out = if self.epilogue.accumulate {
                *out + value
            } else {
                value
            };
        }
    }

    /// The same additions for sixteen outputs at once.
    ///
    /// # Safety
    /// As for [`Lanes`]; `bias` and `out` have sixteen values.
    #[inline(always)]
    unsafe fn store_whole<L: Lanes>(&self, mut total: L, bias: Option<&[f32]>, out: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe {
            if let Some(bias) = bias {
                total = total.add(L::load(bias.as_ptr()));
            }
            if self.epilogue.accumulate {
                total = L::load(out.as_ptr()).add(total);
            }
            total.store(out.as_mut_ptr());
        }
    }
}
