//! Quantised weights, packed for the kernels.
//!
//! Sixteen outputs make a panel, as for floats. A panel is a run of blocks, each of 32 inputs: sixteen scales
//! (`f16`), then the values:
//!
//! - `Q8`: `[8][16][4]` bytes; byte `j` of output `o` in group `g` is input `4 g + j`, plus 128.
//! - `Q4`: `[4][16][4]` bytes; byte `j` of output `o` in group `g` holds input `8 g + j` in its lower half and
//!   input `8 g + 4 + j` in its upper half, both plus 8.
//!
//! So 64 consecutive bytes are what a vector instruction takes, and a thread reads one stream. Values are kept
//! without sign since the products of bytes want one operand so; what that adds to a sum is the same for all
//! outputs, and known from the activations alone.

use skein_weights::BlockFormat;
use skein_weights::blocks::BLOCK;

use crate::lanes::LANES;
use crate::memory::{Buffer, SharedMut};

/// Bytes of a block's scales.
pub(crate) const SCALES_BYTES: usize = 2 * LANES;

/// Bytes of a block of sixteen outputs.
pub(crate) const fn stride(format: BlockFormat) -> usize {
    SCALES_BYTES + values_bytes(format) * LANES
}

/// Bytes of the values of one output in a block.
const fn values_bytes(format: BlockFormat) -> usize {
    format.block_bytes() - 2
}

/// A matrix in blocks.
#[derive(Debug)]
pub(crate) struct BlockMatrix {
    format: BlockFormat,
    outputs: usize,
    inputs: usize,
    data: Buffer<u8>,
}

impl BlockMatrix {
    /// Room for `outputs * inputs` weights; fill it through [`Self::packer`].
    pub(crate) fn zeroed(outputs: usize, inputs: usize, format: BlockFormat) -> Self {
        let panels = outputs.div_ceil(LANES);
        Self {
            format,
            outputs,
            inputs,
            data: Buffer::zeroed(panels * inputs.div_ceil(BLOCK) * stride(format)),
        }
    }

    pub(crate) fn format(&self) -> BlockFormat {
        self.format
    }

    /// Blocks of a row.
    pub(crate) fn blocks(&self) -> usize {
        self.inputs.div_ceil(BLOCK)
    }

    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    pub(crate) fn panel_bytes(&self) -> usize {
        self.blocks() * stride(self.format)
    }

    /// All panels, one after another.
    #[cfg(feature = "cuda")]
    pub(crate) fn data(&self) -> &[u8] {
        self.data.as_slice()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.data.as_slice().len() as u64
    }

    /// Where a panel begins.
    pub(crate) fn panel(&self, panel: usize) -> *const u8 {
        self.data.as_slice()[panel * self.panel_bytes()..].as_ptr()
    }

    /// A view through which threads fill disjoint panels.
    pub(crate) fn packer(&mut self) -> BlockPacker {
        BlockPacker {
            format: self.format,
            blocks: self.blocks(),
            data: SharedMut::new(self.data.as_mut_slice()),
        }
    }

    /// The values of output `output`, exactly.
    pub(crate) fn unpack_row(&self, output: usize, to: &mut [f32]) {
        let (panel, lane) = (output / LANES, output % LANES);
        let panel = &self.data.as_slice()[panel * self.panel_bytes()..][..self.panel_bytes()];
        let mut stored = [0; BlockFormat::Q8.block_bytes()];
        let stored = &mut stored[..self.format.block_bytes()];
        for (block, to) in panel
            .chunks_exact(stride(self.format))
            .zip(to.chunks_mut(BLOCK))
        {
            for (place, stored) in stored.iter_mut().enumerate() {
                let (at, flip) = packed_place(self.format, lane, place);
                *stored = block[at] ^ flip;
            }
            if self.format == BlockFormat::Q4 {
                swap_halves::<true>(&mut stored[2..]);
            }
            self.format.decode_row(stored, to);
        }
    }
}

/// See [`BlockMatrix::packer`].
pub(crate) struct BlockPacker {
    format: BlockFormat,
    blocks: usize,
    data: SharedMut<u8>,
}

impl BlockPacker {
    /// Interleaves rows of blocks as they are stored, the first being output `output`, a multiple of 16.
    ///
    /// # Safety
    /// The matrix is still borrowed, has those outputs, and no other thread touches their panels.
    pub(crate) unsafe fn pack(&self, output: usize, rows: &[u8]) {
        let panel_bytes = self.blocks * stride(self.format);
        let row_bytes = self.blocks * self.format.block_bytes();
        for (panel, rows) in rows.chunks(LANES * row_bytes).enumerate() {
            let start = (output / LANES + panel) * panel_bytes;
            // SAFETY: the caller says that these panels exist and are this thread's alone.
            let to = unsafe { self.data.range(start, panel_bytes) };
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                let blocks = row.chunks_exact(self.format.block_bytes());
                for (block, to) in blocks.zip(to.chunks_exact_mut(stride(self.format))) {
                    pack_block(self.format, lane, block, to);
                }
            }
        }
    }
}

/// Puts one output's block to its places among sixteen.
fn pack_block(format: BlockFormat, lane: usize, block: &[u8], to: &mut [u8]) {
    let mut values = [0; BlockFormat::Q8.block_bytes()];
    let values = &mut values[..block.len()];
    values.copy_from_slice(block);
    if format == BlockFormat::Q4 {
        swap_halves::<false>(&mut values[2..]);
    }
    for (place, value) in values.iter().enumerate() {
        let (at, flip) = packed_place(format, lane, place);
        to[at] = value ^ flip;
    }
}

/// Where byte `place` of an output's block lies among sixteen, and which bits are turned over there.
fn packed_place(format: BlockFormat, lane: usize, place: usize) -> (usize, u8) {
    match place.checked_sub(2) {
        None => (2 * lane + place, 0),
        Some(value) => {
            let (group, byte) = (value / 4, value % 4);
            let at = SCALES_BYTES + (group * LANES + lane) * 4 + byte;
            // A signed byte plus 128 is the byte with its highest bit turned over.
            (at, if format == BlockFormat::Q8 { 0x80 } else { 0 })
        }
    }
}

/// Between the stored order of halves (value `i` below value `i + 16`) and the packed one (value `8 g + j`
/// below value `8 g + 4 + j`).
fn swap_halves<const BACK: bool>(bytes: &mut [u8]) {
    let half = |bytes: &[u8], value: usize, packed: bool| {
        let (byte, high) = half_place(value, packed);
        bytes[byte] >> (4 * u8::from(high)) & 15
    };
    let mut out = [0; BLOCK / 2];
    for value in 0..BLOCK {
        let (byte, high) = half_place(value, !BACK);
        out[byte] |= half(bytes, value, BACK) << (4 * u8::from(high));
    }
    bytes.copy_from_slice(&out);
}

/// The byte of a value among sixteen, and whether it is the upper half.
fn half_place(value: usize, packed: bool) -> (usize, bool) {
    if packed {
        (value / 8 * 4 + value % 4, value % 8 >= 4)
    } else {
        (value % 16, value >= 16)
    }
}
