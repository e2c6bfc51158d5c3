//! Attention of a batch: one block for each row and head, or, for few rows with long contexts, one warp for each tile.
//! Both have the same bits.

use super::operations::{Heads, Paging};
use super::{Argument, CudaError, Device, Kernel, Launch, Memory};
use crate::kv::PAGE_POSITIONS;

/// Threads of a block: four warps.
const THREADS: u32 = 128;
/// Tiles of a block, one for each warp.
const TILES: usize = 4;
/// Rows whose tiles may go apart: more keep a card busy as they are.
const APART_ROWS: usize = 8;
/// Tiles from which on they go apart, unless told otherwise: below, three launches cost more than they save.
pub(super) const APART_TILES: usize = 8;

/// How a query looks at what was before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// How many positions it sees, its own included.
    pub(super) window: Option<usize>,
    /// What scores are multiplied by.
    pub(super) scale: f32,
}

/// Attention of all rows of a batch in one layer.
#[derive(Debug)]
pub(super) struct Attention<'a> {
    pub(super) queries: Memory,
    pub(super) out: Memory,
    pub(super) view: View,
    pub(super) heads: &'a Heads,
    pub(super) paging: &'a Paging,
    /// Index of the layer in the slice.
    pub(super) layer: usize,
    pub(super) rows: usize,
    /// The most tiles that a row sees.
    pub(super) tiles: usize,
}

/// Room for what tiles leave when they are computed apart.
#[derive(Debug)]
pub(super) struct Apart {
    weights: Memory,
    maxima: Memory,
    corrections: Memory,
    values: Memory,
    /// Tiles for which there is room: of all rows and heads together.
    room: usize,
    /// Tiles from which on they go apart.
    pub(super) from: usize,
}

impl Apart {
    /// For rows that see up to `tiles` tiles, but not more than `rows` rows.
    pub(super) fn allocate<D: Device>(
        device: &mut D,
        heads: &Heads,
        [rows, tiles]: [usize; 2],
    ) -> Result<Self, CudaError> {
        let room = rows.min(APART_ROWS) * heads.queries * tiles;
        Ok(Self {
            weights: device.allocate(room * PAGE_POSITIONS * 4)?,
            maxima: device.allocate(room * 4)?,
            corrections: device.allocate(room * 4)?,
            values: device.allocate(room * heads.dim * 4)?,
            room,
            from: APART_TILES,
        })
    }
}

impl Attention<'_> {
    /// Computes it.
    pub(super) fn run<D: Device>(&self, device: &mut D, apart: &Apart) -> Result<(), CudaError> {
        let heads = self.heads;
        let bytes = self.rows * heads.queries * heads.dim * 4;
        assert!(bytes <= self.queries.bytes, "queries are there");
        assert!(bytes <= self.out.bytes, "the result has room");
        assert!(
            heads.queries.is_multiple_of(heads.keys),
            "heads of keys are shared evenly"
        );
        assert!(
            self.view.window != Some(0),
            "a window holds at least its own position"
        );
        let needed = self.rows * heads.queries * self.tiles;
        if self.rows <= APART_ROWS && self.tiles >= apart.from && needed <= apart.room {
            self.tiles_apart(device, apart)
        } else {
            self.together(device)
        }
    }

    /// The window as the kernels take it: zero for none.
    fn window(&self) -> u32 {
        // A wider window than positions have numbers is none.
        let window = self
            .view
            .window
            .and_then(|window| u32::try_from(window).ok());
        window.unwrap_or(0)
    }

    fn paging(&self) -> [Argument; 7] {
        self.paging.arguments(self.heads, self.layer, self.rows)
    }

    fn together<D: Device>(&self, device: &mut D) -> Result<(), CudaError> {
        let mut arguments: Vec<Argument> = vec![
            self.queries.into(),
            self.paging.positions.into(),
            self.out.into(),
            (self.heads.queries as u32).into(),
            self.window().into(),
            self.view.scale.into(),
        ];
        arguments.extend(self.paging());
        let launch = Launch {
            kernel: Kernel::Attend,
            grid: [self.heads.queries as u32, self.rows as u32],
            threads: THREADS,
            arguments: &arguments,
        };
        // SAFETY: the arguments are in the order of the kernel's; `run` checked rows and room; positions and pages are
        // good by the promise of `Paging`.
        unsafe { device.launch(&launch) }
    }

    fn tiles_apart<D: Device>(&self, device: &mut D, apart: &Apart) -> Result<(), CudaError> {
        let (heads, tiles) = (self.heads.queries as u32, self.tiles as u32);
        let grid = [heads * self.tiles.div_ceil(TILES) as u32, self.rows as u32];
        let positions = self.paging.positions;
        let mut score: Vec<Argument> = vec![
            self.queries.into(),
            positions.into(),
            apart.weights.into(),
            apart.maxima.into(),
            tiles.into(),
            heads.into(),
            self.window().into(),
            self.view.scale.into(),
        ];
        score.extend(self.paging());
        let mut weigh: Vec<Argument> = vec![
            positions.into(),
            apart.weights.into(),
            apart.maxima.into(),
            apart.corrections.into(),
            apart.values.into(),
            tiles.into(),
            heads.into(),
            self.window().into(),
        ];
        weigh.extend(self.paging());
        let join = [
            positions.into(),
            apart.weights.into(),
            apart.corrections.into(),
            apart.values.into(),
            tiles.into(),
            self.out.into(),
            heads.into(),
            self.window().into(),
            (self.heads.dim as u32).into(),
        ];
        let launches = [
            (Kernel::ScoreTiles, grid, score.as_slice()),
            (Kernel::WeighTiles, grid, &weigh),
            (Kernel::JoinTiles, [heads, self.rows as u32], &join),
        ];
        for (kernel, grid, arguments) in launches {
            let launch = Launch {
                kernel,
                grid,
                threads: THREADS,
                arguments,
            };
            // SAFETY: as in `together`; `run` checked that what tiles leave has room, `tiles` being the most of a row.
            unsafe { device.launch(&launch) }?;
        }
        Ok(())
    }
}
