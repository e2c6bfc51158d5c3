//! Launches of single kernels, each with a check that the memory suffices: what a kernel may assume is asserted here.

use skein_weights::BlockFormat;
use skein_weights::blocks::BLOCK;

use super::{Argument, CudaError, Device, Kernel, Launch, Memory};
use crate::kernels::quantised::packed::{BlockMatrix, stride};
use crate::kv::PAGE_POSITIONS;
use crate::lanes::LANES;

/// Threads of a block where rows are cut into blocks of 32 values: eight of them.
const ROW_THREADS: u32 = 256;
/// Threads of a product: sixteen outputs at sixteen places.
const PRODUCT_THREADS: u32 = 256;
/// Rows that a product of several rows handles together.
const PRODUCT_ROWS: usize = 8;
/// Threads that norm, rotate and write a head.
const HEAD_THREADS: u32 = 64;
/// The widest head that the kernels have room for.
pub(super) const HEAD_MAX: usize = 256;
/// The largest second dimension of a grid.
const GRID_MAX: usize = 65_535;

/// Values as bytes in the machine's order, which is the card's.
pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

/// As [`floats`].
pub(super) fn wholes(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

/// New memory with bytes in it.
pub(super) fn uploaded<D: Device>(device: &mut D, bytes: &[u8]) -> Result<Memory, CudaError> {
    let memory = device.allocate(bytes.len())?;
    device.upload(memory, bytes)?;
    Ok(memory)
}

/// Whole rows of floats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) memory: Memory,
    pub(super) count: usize,
    pub(super) width: usize,
}

impl Rows {
    fn check(&self) {
        assert!(
            self.count * self.width * 4 <= self.memory.bytes,
            "rows are there"
        );
    }
}

/// Room for rows of activations as bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantised {
    values: Memory,
    scales: Memory,
    sums: Memory,
}

impl Quantised {
    /// For `rows` rows of `width` values.
    pub(super) fn allocate<D: Device>(
        device: &mut D,
        rows: usize,
        width: usize,
    ) -> Result<Self, CudaError> {
        let blocks = rows * width.div_ceil(BLOCK);
        Ok(Self {
            values: device.allocate(blocks * BLOCK)?,
            scales: device.allocate(blocks * 4)?,
            sums: device.allocate(blocks * 4)?,
        })
    }

    fn check(&self, rows: usize, width: usize) {
        let blocks = rows * width.div_ceil(BLOCK);
        assert!(blocks * BLOCK <= self.values.bytes, "bytes have room");
        assert!(
            blocks * 4 <= self.scales.bytes.min(self.sums.bytes),
            "so have scales"
        );
    }

    fn arguments(&self) -> [Argument; 3] {
        [self.values.into(), self.scales.into(), self.sums.into()]
    }
}

/// A matrix of blocks, as the CPU packs it, with its bias.
#[derive(Debug, Clone, Copy)]
pub(super) struct Projection {
    format: BlockFormat,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    data: Memory,
    bias: Option<Memory>,
}

impl Projection {
    pub(super) fn upload<D: Device>(
        device: &mut D,
        matrix: &BlockMatrix,
        [outputs, inputs]: [usize; 2],
        bias: Option<&[f32]>,
    ) -> Result<Self, CudaError> {
        let panels = outputs.div_ceil(LANES) * inputs.div_ceil(BLOCK) * stride(matrix.format());
        assert_eq!(matrix.data().len(), panels, "the matrix has this shape");
        assert!(
            bias.is_none_or(|bias| bias.len() == outputs),
            "biases match"
        );
        Ok(Self {
            format: matrix.format(),
            outputs,
            inputs,
            data: uploaded(device, matrix.data())?,
            bias: bias.map(|b| uploaded(device, &floats(b))).transpose()?,
        })
    }
}

/// What becomes of rows before they are quantised.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before {
    /// Nothing.
    Nothing,
    /// Rows of sixteen gates and sixteen ups in turn become `silu(gate) * up`.
    Gate,
    /// RMSNorm.
    Norm {
        /// As many as the width.
        weight: Memory,
        /// Added to the mean of the squares.
        epsilon: f32,
    },
}

/// Quantises rows; `width` is that of the result.
pub(super) fn quantise<D: Device>(
    device: &mut D,
    x: Rows,
    before: Before,
    width: usize,
    to: &Quantised,
) -> Result<(), CudaError> {
    x.check();
    to.check(x.count, width);
    let groups = width.div_ceil(ROW_THREADS as usize) as u32;
    let rows = x.count as u32;
    let [values, scales, sums] = to.arguments();
    let mut arguments = vec![x.memory.into()];
    let (kernel, grid, expected) = match before {
        Before::Nothing => (Kernel::QuantiseRows, [groups, rows], width),
        Before::Gate => (
            Kernel::GateRows,
            [groups, rows],
            2 * width.next_multiple_of(LANES),
        ),
        Before::Norm { weight, .. } => {
            assert!(width * 4 <= weight.bytes, "a weight for each value");
            arguments.push(weight.into());
            (Kernel::NormRows, [rows, 1], width)
        }
    };
    assert_eq!(x.width, expected, "rows have this width");
    assert!(x.count <= GRID_MAX, "rows fit a grid");
    arguments.push((width as u32).into());
    if let Before::Norm { epsilon, .. } = before {
        arguments.push(epsilon.into());
    }
    arguments.extend([values, scales, sums]);
    let launch = Launch {
        kernel,
        grid,
        threads: ROW_THREADS,
        arguments: &arguments,
    };
    // SAFETY: the arguments are in the order of the kernel's; rows, weights and room were checked.
    unsafe { device.launch(&launch) }
}

/// `out = x * w^T`, with the bias; added to `out` with `accumulate`.
pub(super) fn product<D: Device>(
    device: &mut D,
    (x, rows): (&Quantised, usize),
    w: &Projection,
    accumulate: bool,
    out: Memory,
) -> Result<(), CudaError> {
    x.check(rows, w.inputs);
    assert!(rows * w.outputs * 4 <= out.bytes, "the product has room");
    let panels = w.outputs.div_ceil(LANES);
    assert!(panels <= GRID_MAX, "panels fit a grid");
    let (kernel, tile) = match (w.format, rows) {
        (BlockFormat::Q8, 1) => (Kernel::ProductQ8One, 1),
        (BlockFormat::Q8, _) => (Kernel::ProductQ8Eight, PRODUCT_ROWS),
        (BlockFormat::Q4, 1) => (Kernel::ProductQ4One, 1),
        (BlockFormat::Q4, _) => (Kernel::ProductQ4Eight, PRODUCT_ROWS),
    };
    let [values, scales, sums] = x.arguments();
    let launch = Launch {
        kernel,
        grid: [rows.div_ceil(tile) as u32, panels as u32],
        threads: PRODUCT_THREADS,
        arguments: &[
            w.data.into(),
            values,
            scales,
            sums,
            w.bias.into(),
            out.into(),
            (w.outputs as u32).into(),
            (w.inputs.div_ceil(BLOCK) as u32).into(),
            (rows as u32).into(),
            u32::from(accumulate).into(),
        ],
    };
    // SAFETY: the arguments are in the order of the kernel's; the matrix and its bias were checked when they came, rows
    // and room above.
    unsafe { device.launch(&launch) }
}

/// Heads of queries, of keys, and their width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) dim: usize,
}

/// Where keys and values of a batch's sessions are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paging {
    /// All pages.
    pub(super) memory: Memory,
    /// Indices of the pages of all sessions; whoever uploads them checks that they exist.
    pub(super) list: Memory,
    /// For each row, where the pages of its session begin in the list.
    pub(super) first: Memory,
    /// For each row, its position, which its session has a page for.
    pub(super) positions: Memory,
    /// Floats of a page.
    pub(super) page: usize,
    /// Floats of a layer in a page.
    pub(super) layer: usize,
}

impl Paging {
    /// For layer `layer` of the slice.
    pub(super) fn arguments(&self, heads: &Heads, layer: usize, rows: usize) -> [Argument; 7] {
        let padded = heads.dim.next_multiple_of(LANES);
        let needed = heads.keys * PAGE_POSITIONS * (heads.dim + padded);
        assert_eq!(self.layer, needed, "pages are of this shape");
        assert!(
            (layer + 1) * self.layer <= self.page,
            "the layer is in the pages"
        );
        assert!(
            rows * 4 <= self.first.bytes.min(self.positions.bytes),
            "rows have places"
        );
        assert!(
            heads.dim <= HEAD_MAX && rows <= GRID_MAX,
            "heads fit the kernels"
        );
        [
            self.memory.into(),
            self.list.into(),
            self.first.into(),
            (self.page as u32).into(),
            ((layer * self.layer) as u32).into(),
            (heads.keys as u32).into(),
            (heads.dim as u32).into(),
        ]
    }
}

/// Norms of the heads of queries and keys, where there are such.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadNorms {
    pub(super) queries: Option<Memory>,
    pub(super) keys: Option<Memory>,
    pub(super) epsilon: f32,
}

/// Norms and rotates rows `[q | k | v]`; q goes to `queries`, k and v into the pages of layer `layer`. `angles` are
/// `dim / 2` pairs for each row.
pub(super) fn rotate_and_write<D: Device>(
    device: &mut D,
    [qkv, angles, queries]: [Memory; 3],
    norms: &HeadNorms,
    heads: &Heads,
    (paging, layer, rows): (&Paging, usize, usize),
) -> Result<(), CudaError> {
    let all = heads.queries + 2 * heads.keys;
    assert!(rows * all * heads.dim * 4 <= qkv.bytes, "rows are there");
    assert!(rows * heads.dim / 2 * 8 <= angles.bytes, "angles are there");
    assert!(
        rows * heads.queries * heads.dim * 4 <= queries.bytes,
        "queries have room"
    );
    for norm in [norms.queries, norms.keys].into_iter().flatten() {
        assert!(
            heads.dim * 4 <= norm.bytes,
            "a weight for each value of a head"
        );
    }
    let mut arguments: Vec<Argument> = vec![
        qkv.into(),
        norms.queries.into(),
        norms.keys.into(),
        norms.epsilon.into(),
        angles.into(),
        paging.positions.into(),
        queries.into(),
        (heads.queries as u32).into(),
    ];
    arguments.extend(paging.arguments(heads, layer, rows));
    let launch = Launch {
        kernel: Kernel::RotateAndWrite,
        grid: [all as u32, rows as u32],
        threads: HEAD_THREADS,
        arguments: &arguments,
    };
    // SAFETY: the arguments are in the order of the kernel's; rows and room were checked; positions and pages are good by
    // the promise of `Paging`.
    unsafe { device.launch(&launch) }
}

/// exp and silu of each value, for tests.
pub(super) fn elementary<D: Device>(
    device: &mut D,
    x: Memory,
    [exponentials, silus]: [Memory; 2],
    count: usize,
) -> Result<(), CudaError> {
    let least = x.bytes.min(exponentials.bytes).min(silus.bytes);
    assert!(count * 4 <= least, "values are there and have room");
    let launch = Launch {
        kernel: Kernel::Elementary,
        grid: [count.div_ceil(ROW_THREADS as usize) as u32, 1],
        threads: ROW_THREADS,
        arguments: &[
            x.into(),
            exponentials.into(),
            silus.into(),
            (count as u32).into(),
        ],
    };
    // SAFETY: the arguments are in the order of the kernel's; rows and room were checked.
    unsafe { device.launch(&launch) }
}

/// Blocks and threads that read memory: enough to keep every card busy.
const READERS: [u32; 2] = [4096, 256];

/// Reads memory once, as fast as the device can; returns how many bytes that were. `out` takes 4 MiB.
///
/// # Panics
/// If `out` is smaller.
pub fn read_memory<D: Device>(
    device: &mut D,
    memory: Memory,
    out: Memory,
) -> Result<usize, CudaError> {
    let [blocks, threads] = READERS;
    assert!(
        (blocks * threads * 4) as usize <= out.bytes,
        "threads have room"
    );
    // Counted in 32 bits, with the step of the last round.
    let count = (memory.bytes / 16).min(i32::MAX as usize);
    let launch = Launch {
        kernel: Kernel::ReadMemory,
        grid: [blocks, 1],
        threads,
        arguments: &[memory.into(), (count as u32).into(), out.into()],
    };
    // SAFETY: the arguments are in the order of the kernel's; it reads `count` times sixteen bytes, which are there.
    unsafe { device.launch(&launch) }.map(|()| count * 16)
}
