//! `bf16` weights in twelve bits, without loss.
//!
//! Of a matrix's weights nearly all have one of very few exponents, so that four bits name it: a dictionary code
//! with exceptions (after Zukowski et al., "Super-Scalar RAM-CPU Cache Compression", 2006; that exponents of trained
//! models hold so little is from Zhang et al., "70% Size, 100% Accuracy: Lossless LLM Compression", 2025, who use
//! Huffman codes). A step of one row waits for memory, so a quarter less of it is a quarter less time, and the bits of
//! every result stay those of `bf16`.
//!
//! Two panels of sixteen outputs lie together, so that a row walks both abreast in one stream of memory. Such a pair is
//!
//! - 64 bytes of tables, for each panel 32: sixteen times bit 7 of the low byte of a weight, sixteen times the high byte
//!   without its sign. Both come from the sixteen most frequent exponents of the panel;
//! - for each eight inputs a unit of 192 bytes of the first panel, then one of the second: 64 bytes with what of the table
//!   to take, in the lower half of each for the first four inputs, in the upper for the others; 64 with sign (bit 7) and
//!   fraction of the first four inputs, 64 with those of the others. Input `q` of four and output `o` are at byte
//!   `16 * (o / 4) + 8 * (q / 2) + 2 * (o % 4) + q % 2` of the 64: where vector instructions that pair bytes inside of
//!   16 put sixteen consecutive outputs of one input;
//! - weights with another exponent, apart, by input: whoever widens the panel puts them in afterwards.
//!
//! A panel with too many of these does not fit; its matrix then stays as it is.

use std::marker::PhantomData;

use super::Weight as _;
use crate::lanes::compact::{HALF, HALF_STEPS, STEPS, UNIT_BYTES, compose, place, values_place};
use crate::lanes::{LANES, Lanes};
use crate::memory::{Buffer, SharedMut};

/// Bytes of the tables of a panel.
const TABLES_BYTES: usize = 32;
/// From a unit to the next one of the same panel.
pub(super) const UNIT_STEP: usize = 2 * UNIT_BYTES;
/// One weight in this many may be an exception. Measured with one row on AVX-512 (`benches/product.rs`): with none, with one in
/// 1024 and in 512 about 92, 89 and 90 % of the memory's speed, with one in 256 85 %, with one in 128 74 %, where sixteen
/// bits would be about as fast.
const EXCEPTION_SHARE: usize = 256;
/// And so many more, where a panel is small.
const EXCEPTIONS_FREE: usize = 8;

/// A weight with an exponent that its panel's table lacks.
#[derive(Debug, Clone, Copy)]
struct Exception {
    input: u32,
    lane: u16,
    bits: u16,
}

/// Behind the last exception of a panel, so that nobody has to count them.
const END: Exception = Exception {
    input: u32::MAX,
    lane: u16::MAX,
    bits: 0,
};

/// A matrix of `bf16` weights in twelve bits each.
#[derive(Debug)]
pub(crate) struct CompactMatrix {
    inputs: usize,
    data: Buffer<u8>,
    /// By panel, in the order of inputs; [`END`] behind them.
    exceptions: Vec<Vec<Exception>>,
}

impl CompactMatrix {
    /// Room for `outputs * inputs` weights; fill it through [`Self::packer`].
    ///
    /// # Panics
    /// If there are more inputs than exceptions can tell apart.
    pub(crate) fn zeroed(outputs: usize, inputs: usize) -> Self {
        assert!(
            inputs < END.input as usize - STEPS,
            "inputs fit into 32 bits"
        );
        let panels = outputs.div_ceil(LANES);
        Self {
            inputs,
            data: Buffer::zeroed(panels.div_ceil(2) * pair_bytes(inputs)),
            exceptions: vec![vec![END]; panels],
        }
    }

    /// Where the panels begin, and from one to the next, the tables of a pair being half of each.
    pub(crate) fn panels(&self) -> (*const u8, usize) {
        (self.data.as_slice().as_ptr(), pair_bytes(self.inputs) / 2)
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
        for (input, to) in to.iter_mut().enumerate() {
            *to = self.stored(panel, input, lane).widen();
        }
        for exception in &self.exceptions[panel] {
            if usize::from(exception.lane) == lane {
                to[exception.input as usize] = exception.bits.widen();
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
        // SAFETY: a panel has a unit for each eight inputs, begun ones too; the rest is the caller's.
        unsafe {
            let mut stream = self.stream::<L>(panel);
            stream.unit = stream.unit.add(first / STEPS * UNIT_STEP);
            let before = |exception: &Exception| (exception.input as usize) < first;
            let passed = self.exceptions[panel].partition_point(before);
            stream.skip_exceptions(passed);
            let mut done = 0;
            while done < count {
                stream.widen_unit(first + done, to.add(done * LANES));
                stream.advance();
                done += STEPS;
            }
        }
    }

    /// The way through a panel from its first unit on.
    ///
    /// # Safety
    /// As for [`Lanes`].
    #[inline(always)]
    pub(super) unsafe fn stream<L: Lanes>(&self, panel: usize) -> Stream<'_, L> {
        let exceptions = self.exceptions[panel].as_slice();
        let data = self.data.as_slice();
        Stream {
            // SAFETY: a pair begins with the tables of its panels; the rest is the caller's.
            tables: unsafe { L::compact_tables(data[tables_place(self.inputs, panel)..].as_ptr()) },
            unit: data[unit_place(self.inputs, panel, 0)..].as_ptr(),
            next: exceptions[0].input as usize,
            exception: exceptions.as_ptr(),
            matrix: PhantomData,
        }
    }

    /// A weight as the code has it.
    fn stored(&self, panel: usize, input: usize, lane: usize) -> u16 {
        let data = self.data.as_slice();
        let tables = &data[tables_place(self.inputs, panel)..];
        let unit = &data[unit_place(self.inputs, panel, input / STEPS)..];
        let (upper, place) = place(input % STEPS, lane);
        let code = usize::from(unit[place] >> (4 * u32::from(upper)) & 15);
        compose(
            unit[values_place(upper) + place],
            tables[code],
            tables[16 + code],
        )
    }
}

/// A way through the units of a panel, and through its exceptions.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a, L: Lanes> {
    tables: L::Tables,
    /// The unit at hand.
    unit: *const u8,
    /// The next exception, which may be [`END`].
    exception: *const Exception,
    /// Its input.
    next: usize,
    matrix: PhantomData<&'a CompactMatrix>,
}

impl<L: Lanes> Stream<'_, L> {
    pub(super) fn unit(&self) -> *const u8 {
        self.unit
    }

    /// To the next unit; there need not be one.
    #[inline(always)]
    pub(super) fn advance(&mut self) {
        self.unit = self.unit.wrapping_add(UNIT_STEP);
    }

    /// Four inputs of the unit at hand, the later ones if `UPPER`: sixteen outputs of each. The first of them is input
    /// `k` of the matrix, and the exceptions before it have been passed.
    ///
    /// # Safety
    /// As for [`Lanes`]; there is a unit.
    #[inline(always)]
    pub(super) unsafe fn half<const UPPER: bool>(&mut self, k: usize) -> [L; HALF_STEPS] {
        // SAFETY: the caller's.
        unsafe {
            let weights = L::load_compact::<UPPER>(self.tables, self.unit);
            if self.next < k + HALF_STEPS {
                self.with_exceptions(weights, k)
            } else {
                weights
            }
        }
    }

    /// The weights of both halves, one after another.
    ///
    /// # Safety
    /// As for [`Self::half`]; `to` has room for a unit.
    #[inline(always)]
    pub(super) unsafe fn widen_unit(&mut self, k: usize, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            store(self.half::<false>(k), to);
            store(self.half::<true>(k + HALF_STEPS), to.add(HALF));
        }
    }

    /// # Safety
    /// As for [`Lanes`].
    #[inline(always)]
    unsafe fn with_exceptions(&mut self, weights: [L; HALF_STEPS], k: usize) -> [L; HALF_STEPS] {
        let mut wide = [0.0_f32; HALF];
        // SAFETY: the array has room for half a unit; a panel's exceptions end in `END`.
        unsafe {
            store(weights, wide.as_mut_ptr());
            let passed = put_exceptions(self.exception, k, &mut wide);
            self.skip_exceptions(passed);
            let from = wide.as_ptr();
            [
                L::load(from),
                L::load(from.add(LANES)),
                L::load(from.add(2 * LANES)),
                L::load(from.add(3 * LANES)),
            ]
        }
    }

    /// # Safety
    /// There are as many before [`END`].
    #[inline(always)]
    unsafe fn skip_exceptions(&mut self, count: usize) {
        // SAFETY: the caller's.
        unsafe {
            self.exception = self.exception.add(count);
            self.next = (*self.exception).input as usize;
        }
    }
}

/// Puts the exceptions among four inputs from `k` on where they belong; how many there were. Apart, so that the loop
/// around stays small enough to be unrolled.
///
/// # Safety
/// `exceptions` is in a panel's list, whose end is [`END`].
#[cold]
#[inline(never)]
unsafe fn put_exceptions(exceptions: *const Exception, k: usize, to: &mut [f32; HALF]) -> usize {
    let mut passed = 0;
    loop {
        // SAFETY: the caller's; nothing is beyond `END`.
        let Exception { input, lane, bits } = unsafe { *exceptions.add(passed) };
        if input as usize >= k + HALF_STEPS {
            return passed;
        }
        to[(input as usize - k) * LANES + usize::from(lane)] = bits.widen();
        passed += 1;
    }
}

/// # Safety
/// As for [`Lanes`]; `to` has room for half a unit.
#[inline(always)]
unsafe fn store<L: Lanes>(weights: [L; HALF_STEPS], to: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        weights[0].store(to);
        weights[1].store(to.add(LANES));
        weights[2].store(to.add(2 * LANES));
        weights[3].store(to.add(3 * LANES));
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
        let inputs = self.inputs;
        for (index, rows) in rows.chunks(LANES * inputs).enumerate() {
            let panel = output / LANES + index;
            let packed = PackedPanel::new(rows, inputs);
            // Without the end.
            let count = packed.exceptions.len() - 1;
            if count > rows.len() / EXCEPTION_SHARE + EXCEPTIONS_FREE {
                return false;
            }
            // SAFETY: the caller says that the panel exists and is this thread's alone; no two units overlap.
            unsafe {
                let to = self.data.range(tables_place(inputs, panel), TABLES_BYTES);
                to.copy_from_slice(&packed.tables);
                for (unit, bytes) in packed.units.iter().enumerate() {
                    let to = self.data.range(unit_place(inputs, panel, unit), UNIT_BYTES);
                    to.copy_from_slice(bytes);
                }
                self.exceptions.range(panel, 1)[0] = packed.exceptions;
            }
        }
        true
    }
}

/// A panel before it is put beside another.
struct PackedPanel {
    tables: [u8; TABLES_BYTES],
    units: Vec<[u8; UNIT_BYTES]>,
    exceptions: Vec<Exception>,
}

impl PackedPanel {
    /// Packs up to sixteen rows.
    fn new(rows: &[u16], inputs: usize) -> Self {
        let exponents = most_frequent(rows);
        let mut tables = [0; TABLES_BYTES];
        let mut codes = [None; 256];
        for (code, &exponent) in exponents.iter().enumerate() {
            tables[code] = exponent << 7;
            tables[16 + code] = exponent >> 1;
            codes[usize::from(exponent)] = Some(code as u8);
        }
        let mut units = vec![[0; UNIT_BYTES]; inputs.div_ceil(STEPS)];
        let mut exceptions = Vec::new();
        for (lane, row) in rows.chunks_exact(inputs).enumerate() {
            pack_row(lane, row, &codes, &mut units, &mut exceptions);
        }
        exceptions.push(END);
        exceptions.sort_unstable_by_key(|exception| exception.input);
        exceptions.shrink_to_fit();
        Self {
            tables,
            units,
            exceptions,
        }
    }
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
            to[values_place(upper) + place] = (bits >> 8) as u8 & 0x80 | bits as u8 & 0x7f;
            to[place] |= code << (4 * u32::from(upper));
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

const fn pair_bytes(inputs: usize) -> usize {
    2 * TABLES_BYTES + inputs.div_ceil(STEPS) * UNIT_STEP
}

/// Where a panel's tables begin.
const fn tables_place(inputs: usize, panel: usize) -> usize {
    panel / 2 * pair_bytes(inputs) + panel % 2 * TABLES_BYTES
}

/// Where a panel's unit begins.
const fn unit_place(inputs: usize, panel: usize, unit: usize) -> usize {
    let units = panel / 2 * pair_bytes(inputs) + 2 * TABLES_BYTES;
    units + unit * UNIT_STEP + panel % 2 * UNIT_BYTES
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
        assert_eq!(matrix.exceptions[0].len(), 1);
        same_everywhere(&matrix, LANES, inputs, &rows);
    }

    #[test]
    fn exceptions_come_back() {
        for (outputs, inputs) in [(1, 1), (37, 24), (16, 13), (40, 200), (16, 8)] {
            let mut rows: Vec<u16> = (0..outputs * inputs)
                .map(|n| ((n * 7 % 60) as u16) << 5 | 0x3000)
                .collect();
            for (at, bits) in rows.iter_mut().enumerate().skip(5).step_by(300) {
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

    #[test]
    fn a_panel_may_have_so_many_exceptions_and_no_more() {
        let inputs = 256;
        let most = LANES * inputs / EXCEPTION_SHARE + EXCEPTIONS_FREE;
        let with = |exceptions: usize| {
            // Sixteen exponents are in the table, all others occur once.
            let mut rows: Vec<u16> = (0..2 * LANES * inputs)
                .map(|n| ((n % 16) as u16 + 100) << 7)
                .collect();
            for (n, bits) in rows.iter_mut().rev().take(exceptions).enumerate() {
                *bits = (n as u16 + 1) << 7;
            }
            packed(2 * LANES, inputs, &rows)
        };
        assert_eq!(with(most).expect("fits").exceptions[1].len(), most + 1);
        assert!(with(most + 1).is_none(), "the last panel alone is too much");
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
                        let expected = rows[output * inputs + input].widen();
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
