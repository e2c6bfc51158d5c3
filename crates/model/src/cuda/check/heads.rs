//! Heads alone: norms, rotation, pages, and every bit of attention, which behind it becomes bytes.

use skein_weights::profile::{NormKind, RopeScaling};

use super::{CheckError, download, same};
use crate::cuda::attention::{Apart, Attention, View};
use crate::cuda::operations::{
    HeadNorms, Heads, Paging, floats, rotate_and_write, uploaded, wholes,
};
use crate::cuda::{CudaError, Device, Memory};
use crate::kernels::attention::{Shape, Span, attention, cut, write_kv};
use crate::kernels::linear::Machine;
use crate::kernels::pointwise::{Norm, norm_row};
use crate::kv::{KvFormat, PAGE_POSITIONS, PageLayout};
use crate::lanes::{InstructionSet, LANES};
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::rope;
use crate::testing::Random;

const QUERIES: usize = 6;
const KEYS: usize = 2;
const ALL: usize = QUERIES + 2 * KEYS;
/// Rows of one session's batches: a prompt over page borders, single rows, few rows, up to 201 positions.
const BATCHES: [usize; 6] = [40, 1, 3, 70, 86, 1];
/// Where its pages are on the device, in order.
const PAGES: [u32; 7] = [3, 0, 6, 2, 5, 1, 4];
/// Which layer of the pages is used, of two.
const LAYER: usize = 1;

/// Windows, widths and norms, each batch with tiles together and apart.
pub(super) fn heads<D: Device>(device: &mut D) -> Result<usize, CheckError> {
    let mut compared = 0;
    for (dim, window, normed) in [
        (20, None, false),
        (32, Some(1), true),
        (64, None, true),
        (64, Some(45), false),
        (128, Some(64), true),
        (256, None, false),
    ] {
        let mut case = Case::new(device, dim, window, normed)?;
        for rows in BATCHES {
            compared += case.step(device, rows)?;
        }
    }
    Ok(compared)
}

/// One session, on the device and on the CPU.
struct Case {
    shape: Shape,
    norms: Option<[Norm; 2]>,
    frequencies: Vec<f32>,
    random: Random,
    position: usize,
    pages: Vec<Buffer<u8>>,
    heads: Heads,
    head_norms: HeadNorms,
    memory: Memory,
    apart: Apart,
}

impl Case {
    fn new<D: Device>(
        device: &mut D,
        head_dim: usize,
        window: Option<usize>,
        normed: bool,
    ) -> Result<Self, CudaError> {
        let mut random = Random::new(59);
        let layout = PageLayout {
            layers: 2,
            kv_heads: KEYS,
            head_dim,
            padded_dim: head_dim.next_multiple_of(LANES),
            format: KvFormat::F32,
        };
        let mut norm = || Norm {
            kind: NormKind::Rms,
            epsilon: 1e-6,
            weight: random.awkward(head_dim),
            bias: Vec::new(),
        };
        let norms = normed.then(|| [norm(), norm()]);
        let heads = Heads {
            queries: QUERIES,
            keys: KEYS,
            dim: head_dim,
        };
        let mut weight = |index: usize| {
            let norm = norms.as_ref().map(|norms| &norms[index].weight);
            norm.map(|weight| uploaded(device, &floats(weight)))
                .transpose()
        };
        let head_norms = HeadNorms {
            queries: weight(0)?,
            keys: weight(1)?,
            epsilon: 1e-6,
        };
        let size = layout.page_bytes();
        Ok(Self {
            shape: Shape {
                layout,
                layer: LAYER,
                heads: QUERIES,
                window,
                scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            },
            norms,
            frequencies: rope::frequencies(head_dim, 1e4, &RopeScaling::None),
            random,
            position: 0,
            pages: PAGES.iter().map(|_| Buffer::zeroed(size)).collect(),
            heads,
            head_norms,
            memory: device.allocate(PAGES.len() * size)?,
            apart: Apart::allocate(device, &heads, [3, PAGES.len()])?,
        })
    }

    /// The next rows, on both sides; compares queries and what attention makes of them.
    fn step<D: Device>(&mut self, device: &mut D, rows: usize) -> Result<usize, CheckError> {
        let dim = self.heads.dim;
        let qkv = self.random.awkward(rows * ALL * dim);
        let mut angles = vec![(0.0, 0.0); rows * dim / 2];
        for (row, angles) in angles.chunks_mut(dim / 2).enumerate() {
            rope::angles(&self.frequencies, self.position + row, angles);
        }
        let expected = self.on_cpu(rows, qkv.clone(), &angles);
        let mut compared = 0;
        for from in [usize::MAX, 1] {
            self.apart.from = from;
            let found = self.on_device(device, rows, &qkv, &angles)?;
            for ((found, expected), what) in
                found.iter().zip(&expected).zip(["queries", "attention"])
            {
                let what = format!(
                    "{what} of {rows} rows at {}, heads of {dim}, window {:?}, apart from {from}",
                    self.position, self.shape.window
                );
                compared += same(found, expected, &what)?;
            }
        }
        self.position += rows;
        Ok(compared)
    }

    fn on_device<D: Device>(
        &self,
        device: &mut D,
        rows: usize,
        qkv: &[f32],
        angles: &[(f32, f32)],
    ) -> Result<[Vec<f32>; 2], CudaError> {
        let pairs = angles.iter().flat_map(|(cosine, sine)| [*cosine, *sine]);
        let pairs: Vec<f32> = pairs.collect();
        let positions: Vec<u32> = (0..rows).map(|row| (self.position + row) as u32).collect();
        let paging = Paging {
            memory: self.memory,
            list: uploaded(device, &wholes(&PAGES))?,
            first: uploaded(device, &wholes(&vec![0; rows]))?,
            positions: uploaded(device, &wholes(&positions))?,
            page: self.shape.layout.page_bytes() / 4,
            layer: self.shape.layout.page_bytes() / 8,
        };
        let count = rows * QUERIES * self.heads.dim;
        let (queries, out) = (device.allocate(count * 4)?, device.allocate(count * 4)?);
        let vectors = [
            uploaded(device, &floats(qkv))?,
            uploaded(device, &floats(&pairs))?,
            queries,
        ];
        let place = (&paging, LAYER, rows);
        rotate_and_write(device, vectors, &self.head_norms, &self.heads, place)?;
        let attention = Attention {
            queries,
            out,
            view: View {
                window: self.shape.window,
                scale: self.shape.scale,
            },
            heads: &self.heads,
            paging: &paging,
            layer: LAYER,
            rows,
            tiles: (self.position + rows).div_ceil(PAGE_POSITIONS),
        };
        attention.run(device, &self.apart)?;
        Ok([
            download(device, queries, count)?,
            download(device, out, count)?,
        ])
    }

    fn on_cpu(&mut self, rows: usize, mut qkv: Vec<f32>, angles: &[(f32, f32)]) -> [Vec<f32>; 2] {
        let (dim, set) = (self.heads.dim, InstructionSet::detect());
        let pages = self.pages.iter_mut().map(Buffer::as_mut_slice);
        let span = Span {
            row: 0,
            rows,
            position: self.position,
            pages: pages.map(<[u8]>::as_mut_ptr).collect(),
        };
        let mut queries = Vec::new();
        let angles = angles.chunks(dim / 2);
        for (index, (row, angles)) in qkv.chunks_mut(ALL * dim).zip(angles).enumerate() {
            for (head, values) in row.chunks_mut(dim).take(QUERIES + KEYS).enumerate() {
                if let Some(norms) = &self.norms {
                    // SAFETY: the instruction set was detected; a head has the width of its norm.
                    unsafe { norm_row(set, &norms[usize::from(head >= QUERIES)], values) };
                }
                rope::rotate(values, angles);
            }
            let (q, kv) = row.split_at(QUERIES * dim);
            queries.extend_from_slice(q);
            let (k, v) = kv.split_at(KEYS * dim);
            for (head, (k, v)) in k.chunks(dim).zip(v.chunks(dim)).enumerate() {
                // SAFETY: the pages are this case's own, and one thread writes.
                unsafe { write_kv(&self.shape, &span, head, self.position + index, k, v) };
            }
        }
        let mut out = vec![0.0; queries.len()];
        let (mut items, spans) = (Vec::new(), [span]);
        cut([QUERIES, KEYS], &spans, &mut items);
        let pool = Pool::new(1);
        let machine = Machine { pool: &pool, set };
        attention(machine, self.shape, (&spans, &items), &queries, &mut out);
        [queries, out]
    }
}
