//! `bf16` weights in twelve bits, without loss.
//!
//! Of a matrix's weights nearly all have one of very few exponents, so that four bits name it: a dictionary code
//! with exceptions (after Zukowski et al., "Super-Scalar RAM-CPU Cache Compression", 2006; that exponents of trained
//! models hold so little is from Zhang et al., "70% Size, 100% Accuracy: Lossless LLM Compression", 2025, who use
//! Huffman codes). A step of one row waits for memory, so a quarter less of it is a quarter less time, and the bits of
//! every result stay those of `bf16`.
//!
//! A panel of sixteen outputs is
//!
//! - 64 bytes of tables: sixteen times bit 7 of the low byte of a weight, sixteen times the high byte without its
//!   sign, and 32 bytes of nothing. Both come from the sixteen most frequent exponents of the panel;
//! - for each eight inputs a unit of 192 bytes: 64 with sign (bit 7) and fraction of the first four inputs, 64 of
//!   the others, and 64 with what of the table to take: in the lower half for the first four, in the upper for the others.
//!   Input `q` of four and output `o` are at byte `16 * (o / 4) + 8 * (q / 2) + 2 * (o % 4) + q % 2` of the 64: where
//!   vector instructions that pair bytes inside of 16 put sixteen consecutive outputs of one input;
//! - weights with another exponent, apart, by input: whoever widens the panel puts them in afterwards.
//!
//! A panel with too many of these does not fit; its matrix then stays as it is.

use crate::lanes::compact::{HALF, STEPS, UNIT_BYTES, compose, place};
use crate::lanes::{LANES, Lanes};
use crate::memory::{Buffer, SharedMut};

/// Bytes of the tables of a panel.
const TABLES_BYTES: usize = 64;
/// One weight in this many may be an exception.
const EXCEPTION_SHARE: usize = 64;

/// A weight with an exponent that its panel's table lacks.
#[derive(Debug, Clone, Copy)]
struct Exception {
    input: u32,
    lane: u16,
    bits: u16,
}

/// A matrix of `bf16` weights in twelve bits each.
#[derive(Debug)]
pub(crate) struct CompactMatrix {
    inputs: usize,
    data: Buffer<u8>,
    /// By panel, in the order of inputs.
    exceptions: Vec<Vec<Exception>>,
}

impl CompactMatrix {
    /// Room for `outputs * inputs` weights; fill it through [`Self::packer`].
    pub(crate) fn zeroed(outputs: usize, inputs: usize) -> Self {
        let panels = outputs.div_ceil(LANES);
        Self {
            inputs,
            data: Buffer::zeroed(panels * panel_bytes(inputs)),
            exceptions: vec![Vec::new(); panels],
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        let apart = self
            .exceptions
            .iter()
            .map(|panel| size_of_val(panel) + size_of_val(&panel[..]));
        (self.data.as_slice().len() + apart.sum::<usize>()) as u64
    }

    /// A view through which threads fill disjoint panels.
    pub(crate) fn packer(&mut self) -> CompactPacker {
        CompactPacker {
            inputs: self.inputs,
            data: SharedMut::new(self.data.as_mut_slice()),
            exceptions: SharedMut::new(&mut self.exceptions),
        }
    }

    /// The weights of output `output`, widened.
    pub(crate) fn unpack_row(&self, output: usize, to: &mut [f32]) {
        let (panel, lane) = (output / LANES, output % LANES);
        let bytes = self.panel(panel);
        for (input, to) in to.iter_mut().enumerate() {
            *to = widen(stored(bytes, input, lane));
        }
        for exception in &self.exceptions[panel] {
            if usize::from(exception.lane) == lane {
                to[exception.input as usize] = widen(exception.bits);
            }
        }
    }

    /// Widens inputs `first..first + count` of a panel to `[count][16]`, and up to seven more behind them.
    /// `first` is a multiple of [`STEPS`].
    ///
    /// # Safety
    /// As for [`Lanes`]; the panel and the inputs exist, `to` has room for the next multiple of [`STEPS`].
    #[inline(always)]
    pub(crate) unsafe fn widen<L: Lanes>(
        &self,
        panel: usize,
        [first, count]: [usize; 2],
        to: *mut f32,
    ) {
        let tables = self.panel(panel).as_ptr();
        let units = count.div_ceil(STEPS);
        // SAFETY: a panel has a unit for each eight inputs, begun ones too; the rest is the caller's.
        unsafe {
            let from = tables.add(TABLES_BYTES + first / STEPS * UNIT_BYTES);
            L::widen_compact(tables, from, units, to);
        }
        let exceptions = &self.exceptions[panel];
        if exceptions.is_empty() {
            return;
        }
        let from = exceptions.partition_point(|exception| (exception.input as usize) < first);
        for exception in &exceptions[from..] {
            let step = exception.input as usize - first;
            if step >= count {
                break;
            }
            // SAFETY: `step` is below `count`, a lane below sixteen.
            unsafe { *to.add(step * LANES + usize::from(exception.lane)) = widen(exception.bits) };
        }
    }

    fn panel(&self, panel: usize) -> &[u8] {
        let bytes = panel_bytes(self.inputs);
        &self.data.as_slice()[panel * bytes..][..bytes]
    }
}

/// See [`CompactMatrix::packer`].
pub(crate) struct CompactPacker {
    inputs: usize,
    data: SharedMut<u8>,
    exceptions: SharedMut<Vec<Exception>>,
}

impl CompactPacker {
    /// Packs row-major rows, the first being output `output`, a multiple of 16. `false`: they do not
    /// fit, and the matrix is to be thrown away.
    ///
    /// # Safety
    /// The matrix is still borrowed, has those outputs, and no other thread touches their panels.
    #[must_use]
    pub(crate) unsafe fn pack(&self, output: usize, rows: &[u16]) -> bool {
        let bytes = panel_bytes(self.inputs);
        for (index, rows) in rows.chunks(LANES * self.inputs).enumerate() {
            let panel = output / LANES + index;
            // SAFETY: the caller says that the panel exists and is this thread's alone.
            let (to, exceptions) = unsafe {
                (
                    self.data.range(panel * bytes, bytes),
                    self.exceptions.range(panel, 1),
                )
            };
            exceptions[0] = pack_panel(rows, self.inputs, to);
            if exceptions[0].len() > rows.len() / EXCEPTION_SHARE {
                return false;
            }
        }
        true
    }
}

/// Packs up to sixteen rows; what does not fit into the code comes back.
fn pack_panel(rows: &[u16], inputs: usize, to: &mut [u8]) -> Vec<Exception> {
    let exponents = most_frequent(rows);
    for (place, &exponent) in exponents.iter().enumerate() {
        to[place] = exponent << 7;
        to[16 + place] = exponent >> 1;
    }
    let mut codes = [None; 256];
    for (code, &exponent) in exponents.iter().enumerate() {
        codes[usize::from(exponent)] = Some(code as u8);
    }
    let mut exceptions = Vec::new();
    let (units, _) = to[TABLES_BYTES..].as_chunks_mut();
    for (lane, row) in rows.chunks_exact(inputs).enumerate() {
        pack_row(lane, row, &codes, units, &mut exceptions);
    }
    exceptions.sort_unstable_by_key(|exception| exception.input);
    exceptions.shrink_to_fit();
    exceptions
}

/// Puts one output's weights to their places among sixteen.
fn pack_row(
    lane: usize,
    row: &[u16],
    codes: &[Option<u8>; 256],
    units: &mut [[u8; UNIT_BYTES]],
    exceptions: &mut Vec<Exception>,
) {
    for (unit, (weights, to)) in row.chunks(STEPS).zip(units).enumerate() {
        for (step, &bits) in weights.iter().enumerate() {
            let code = codes[usize::from(exponent(bits))].unwrap_or_else(|| {
                exceptions.push(Exception {
                    input: (unit * STEPS + step) as u32,
                    lane: lane as u16,
                    bits,
                });
                0
            });
            let (upper, place) = place(step, lane);
            let half = usize::from(upper);
            to[half * HALF + place] = (bits >> 8) as u8 & 0x80 | bits as u8 & 0x7f;
            to[2 * HALF + place] |= code << (4 * half);
        }
    }
}

/// The sixteen most frequent exponents, the lower ones first among equals.
fn most_frequent(weights: &[u16]) -> [u8; 16] {
    let mut counts = [0_u32; 256];
    for &bits in weights {
        counts[usize::from(exponent(bits))] += 1;
    }
    let mut order: [u8; 256] = std::array::from_fn(|exponent| exponent as u8);
    order.sort_by_key(|&exponent| std::cmp::Reverse(counts[usize::from(exponent)]));
    std::array::from_fn(|place| order[place])
}

fn exponent(bits: u16) -> u8 {
    (bits >> 7) as u8
}

fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

const fn panel_bytes(inputs: usize) -> usize {
    TABLES_BYTES + inputs.div_ceil(STEPS) * UNIT_BYTES
}

/// A weight as the code has it.
fn stored(panel: &[u8], input: usize, lane: usize) -> u16 {
    let unit = &panel[TABLES_BYTES + input / STEPS * UNIT_BYTES..];
    let (upper, place) = place(input % STEPS, lane);
    let half = usize::from(upper);
    let code = usize::from(unit[2 * HALF + place] >> (4 * half) & 15);
    compose(unit[half * HALF + place], panel[code], panel[16 + code])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{InstructionSet, dispatch};

    dispatch! {
        /// # Safety
        /// As for [`CompactMatrix::widen`].
        unsafe fn widen_panel = widen_body(matrix: &CompactMatrix, panel: usize, part: [usize; 2], to: &mut [f32])
    }

    #[inline(always)]
    unsafe fn widen_body<L: Lanes>(
        matrix: &CompactMatrix,
        panel: usize,
        part: [usize; 2],
        to: &mut [f32],
    ) {
        // SAFETY: the caller's.
        unsafe { matrix.widen::<L>(panel, part, to.as_mut_ptr()) }
    }

    fn packed(outputs: usize, inputs: usize, rows: &[u16]) -> Option<CompactMatrix> {
        let mut matrix = CompactMatrix::zeroed(outputs, inputs);
        // SAFETY: this thread alone packs.
        let fits = unsafe { matrix.packer().pack(0, rows) };
        fits.then_some(matrix)
    }

    /// Every fraction and sign with sixteen exponents, the last one among them.
    #[test]
    fn every_weight_of_the_table_comes_back() {
        let exponents: Vec<u16> = (0..15).map(|n| n * 17).chain([255]).collect();
        let inputs = 256;
        let rows: Vec<u16> = (0..LANES * inputs)
            .map(|n| {
                let rest = (n % 256) as u16;
                exponents[n / 256] << 7 | rest & 0x7f | (rest >> 7) << 15
            })
            .collect();
        let matrix = packed(LANES, inputs, &rows).expect("sixteen exponents");
        assert!(matrix.exceptions[0].is_empty());
        same_everywhere(&matrix, LANES, inputs, &rows);
    }

    #[test]
    fn exceptions_come_back() {
        for (outputs, inputs) in [(1, 1), (37, 24), (16, 13), (40, 200), (16, 8)] {
            let mut rows: Vec<u16> = (0..outputs * inputs)
                .map(|n| ((n * 7 % 60) as u16) << 5 | 0x3000)
                .collect();
            for (at, bits) in rows.iter_mut().enumerate().skip(5).step_by(150) {
                *bits = (at as u16).wrapping_mul(40503);
            }
            let matrix = packed(outputs, inputs, &rows).expect("few exceptions");
            same_everywhere(&matrix, outputs, inputs, &rows);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let rows: Vec<u16> = (0..16 * 64).map(|n: u32| (n * 64) as u16).collect();
        assert!(packed(16, 64, &rows).is_none());
    }

    /// Row by row, and panel by panel on every instruction set.
    fn same_everywhere(matrix: &CompactMatrix, outputs: usize, inputs: usize, rows: &[u16]) {
        let mut row = vec![0.0; inputs];
        for (output, expected) in rows.chunks(inputs).enumerate() {
            matrix.unpack_row(output, &mut row);
            let bits: Vec<u16> = row.iter().map(|v| (v.to_bits() >> 16) as u16).collect();
            assert_eq!(bits, expected, "output {output}");
        }
        let firsts = (0..inputs).step_by(STEPS);
        for set in InstructionSet::available() {
            for (panel, first) in (0..outputs.div_ceil(LANES))
                .flat_map(|panel| firsts.clone().map(move |first| (panel, first)))
            {
                let count = (inputs - first).min(20);
                let mut to = vec![f32::NAN; count.next_multiple_of(STEPS) * LANES];
                // SAFETY: the set was detected; the part exists; there is room for whole units.
                unsafe { widen_panel(set, matrix, panel, [first, count], &mut to) };
                for (at, value) in to[..count * LANES].iter().enumerate() {
                    let (input, output) = (first + at / LANES, panel * LANES + at % LANES);
                    if output < outputs {
                        let expected = widen(rows[output * inputs + input]);
                        assert_eq!(
                            value.to_bits(),
                            expected.to_bits(),
                            "{set:?} {input} {output}"
                        );
                    }
                }
            }
        }
    }
}
