//! From canonical tensors to packed weights.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use skein_weights::profile::{Mlp, NormKind, Positions};
use skein_weights::source::{CanonicalTensor, ReadError};
use skein_weights::{BlockFormat, Dtype, Part, Profile, Slice, WeightSource};

use super::forward::{Place, Workspace};
use super::table::Table;
use super::{Embedding, Head, Layer, LoadError, Projection, SliceModel};
use crate::kernels::linear::{Matrix, Packer, Weight as _};
use crate::kernels::pointwise::Norm;
use crate::lanes::{InstructionSet, LANES};
use crate::memory::SharedMut;
use crate::pool::Pool;
use crate::rope;

/// Outputs that a thread reads and packs at a time; a multiple of the lanes.
const BLOCK_OUTPUTS: usize = 4 * LANES;

pub(super) fn load(
    source: &dyn WeightSource,
    slice: Slice,
    format: Option<Dtype>,
    pool: Arc<Pool>,
) -> Result<SliceModel, LoadError> {
    let profile = source.profile().clone();
    let loader = Loader {
        source,
        profile: &profile,
        format,
        pool: &pool,
    };
    let layers = slice
        .layers
        .clone()
        .map(|index| loader.layer(index))
        .collect::<Result<_, _>>()?;
    let head = if slice.has_head() {
        Some(loader.head()?)
    } else {
        None
    };
    let has_packed_table = profile.tied && slice.has_head();
    let embedding = if slice.has_embedding() {
        Some(loader.embedding(!has_packed_table)?)
    } else {
        None
    };
    let frequencies = match &profile.positions {
        Positions::Rope { theta, scaling } => {
            rope::frequencies(profile.head_dim as usize, *theta, scaling)
        }
        Positions::Learned { .. } => Vec::new(),
    };
    Ok(SliceModel {
        slice,
        format,
        set: InstructionSet::detect(),
        embedding,
        layers,
        head,
        frequencies,
        workspace: Mutex::new(Workspace::default()),
        pool,
        profile,
    })
}

struct Loader<'a> {
    source: &'a dyn WeightSource,
    profile: &'a Profile,
    format: Option<Dtype>,
    pool: &'a Pool,
}

/// A tensor with the names that errors need.
pub(super) struct Named<'a> {
    part: Part,
    name: &'static str,
    pub(super) tensor: Box<dyn CanonicalTensor + 'a>,
}

impl Named<'_> {
    pub(super) fn rows(&self) -> usize {
        self.tensor.shape()[0] as usize
    }

    pub(super) fn width(&self) -> usize {
        self.tensor.shape()[1] as usize
    }

    pub(super) fn not_finite(&self) -> LoadError {
        LoadError::NotFinite {
            part: self.part,
            name: self.name.to_owned(),
        }
    }
}

impl<'a> Loader<'a> {
    fn tensor(&self, part: Part, name: &'static str) -> Result<Named<'a>, LoadError> {
        Ok(Named {
            part,
            name,
            tensor: self.source.tensor(part, name)?,
        })
    }

    /// Reads a tensor whole, as `f32`.
    fn values(&self, part: Part, name: &'static str) -> Result<Vec<f32>, LoadError> {
        let named = self.tensor(part, name)?;
        let shape = named.tensor.shape();
        let rows = if shape.len() == 1 { 1 } else { shape[0] };
        let mut values = vec![0.0; shape.iter().product::<u64>() as usize];
        named.tensor.read_f32(0..rows, &mut values)?;
        if values.iter().all(|v| v.is_finite()) {
            Ok(values)
        } else {
            Err(named.not_finite())
        }
    }

    fn norm(
        &self,
        part: Part,
        [weight, bias]: [&'static str; 2],
        kind: NormKind,
    ) -> Result<Norm, LoadError> {
        let weight = self.values(part, weight)?;
        let bias = match kind {
            NormKind::Rms => Vec::new(),
            NormKind::Layer => self.values(part, bias)?,
        };
        Ok(Norm {
            kind,
            epsilon: self.profile.norm_epsilon,
            weight,
            bias,
        })
    }

    fn head_norm(&self, part: Part, name: &'static str) -> Result<Option<Norm>, LoadError> {
        if !self.profile.qk_norm {
            return Ok(None);
        }
        self.norm(part, [name, ""], NormKind::Rms).map(Some)
    }

    fn layer(&self, index: u32) -> Result<Layer, LoadError> {
        let part = Part::Layer(index);
        let kind = self.profile.norm;
        let biases = self.profile.biases;
        let up = ["mlp_up.weight", "mlp_up.bias"];
        let (up, up_order): (&[_], _) = match self.profile.mlp {
            Mlp::GatedSilu => (&[["mlp_gate.weight", "mlp_gate.bias"], up], Order::InTurn),
            Mlp::GeluTanh => (&[up], Order::Stacked),
        };
        let qkv = [
            ["attn_q.weight", "attn_q.bias"],
            ["attn_k.weight", "attn_k.bias"],
            ["attn_v.weight", "attn_v.bias"],
        ];
        let attn_o = [["attn_o.weight", "attn_o.bias"]];
        let down = [["mlp_down.weight", "mlp_down.bias"]];
        Ok(Layer {
            attn_norm: self.norm(part, ["attn_norm.weight", "attn_norm.bias"], kind)?,
            qkv: self.projection(part, &qkv, (Order::Stacked, biases.qkv))?,
            q_norm: self.head_norm(part, "q_norm.weight")?,
            k_norm: self.head_norm(part, "k_norm.weight")?,
            attn_o: self.projection(part, &attn_o, (Order::Stacked, biases.attention_output))?,
            mlp_norm: self.norm(part, ["mlp_norm.weight", "mlp_norm.bias"], kind)?,
            up: self.projection(part, up, (up_order, biases.mlp))?,
            down: self.projection(part, &down, (Order::Stacked, biases.mlp))?,
            window: self.profile.window(index).map(|w| w as usize),
        })
    }

    fn head(&self) -> Result<Head, LoadError> {
        let norm = self.norm(Part::Head, ["norm.weight", "norm.bias"], self.profile.norm)?;
        let weight = if self.profile.tied {
            self.tensor(Part::Embedding, "tokens.weight")?
        } else {
            self.tensor(Part::Head, "head.weight")?
        };
        Ok(Head {
            norm,
            weight: self.matrix(&[weight], Order::Stacked)?,
        })
    }

    fn embedding(&self, table: bool) -> Result<Embedding, LoadError> {
        let positions = match self.profile.positions {
            Positions::Learned { .. } => self.values(Part::Embedding, "positions.weight")?,
            Positions::Rope { .. } => Vec::new(),
        };
        let table = if table {
            let named = self.tensor(Part::Embedding, "tokens.weight")?;
            let dtype = self.format.unwrap_or(named.tensor.dtype());
            Some(Table::read(&named, dtype)?)
        } else {
            None
        };
        Ok(Embedding { table, positions })
    }

    /// Matrices with equal inputs as one.
    fn projection(
        &self,
        part: Part,
        names: &[[&'static str; 2]],
        (order, has_bias): (Order, bool),
    ) -> Result<Projection, LoadError> {
        let sources: Vec<_> = names
            .iter()
            .map(|[weight, _]| self.tensor(part, weight))
            .collect::<Result<_, _>>()?;
        let weight = self.matrix(&sources, order)?;
        if !has_bias {
            return Ok(Projection { weight, bias: None });
        }
        let biases = names.iter().map(|[_, name]| self.values(part, name));
        let biases = biases.collect::<Result<Vec<_>, _>>()?;
        let mut bias = vec![0.0; weight.outputs()];
        for run in order.runs(&rows_of(&sources), [0, weight.outputs()]) {
            bias[run.at..][..run.rows.len()].copy_from_slice(&biases[run.source][run.rows]);
        }
        Ok(Projection {
            weight,
            bias: Some(bias),
        })
    }

    fn matrix(&self, sources: &[Named<'_>], order: Order) -> Result<Matrix, LoadError> {
        let inputs = sources[0].width();
        let outputs = order.outputs(&rows_of(sources));
        let stored = sources.iter().map(|source| source.tensor.dtype());
        let dtype = self.format.unwrap_or_else(|| Dtype::common(stored));
        if dtype == Dtype::Bf16 {
            let compact = Matrix::compact(outputs, inputs);
            if let Some(matrix) = self.filled(compact, (sources, order), dtype)? {
                return Ok(matrix);
            }
        }
        let plain = Matrix::zeroed(outputs, inputs, dtype);
        let matrix = self.filled(plain, (sources, order), dtype)?;
        Ok(matrix.expect("plain weights fit"))
    }

    /// The matrix with its weights read; `None` if it is to be compact and they do not fit.
    fn filled(
        &self,
        mut matrix: Matrix,
        sources: (&[Named<'_>], Order),
        dtype: Dtype,
    ) -> Result<Option<Matrix>, LoadError> {
        let (outputs, inputs) = (matrix.outputs(), matrix.inputs());
        let packer = matrix.packer();
        let failure = Mutex::new(None);
        let fit = AtomicBool::new(true);
        self.pool.each(outputs.div_ceil(BLOCK_OUTPUTS), &|block| {
            let first = block * BLOCK_OUTPUTS;
            let last = outputs.min(first + BLOCK_OUTPUTS);
            if !fit.load(Ordering::Relaxed) {
                return;
            }
            // SAFETY: the matrix is of `dtype` and borrowed by `packer`; each block is one thread's.
            match unsafe { pack(sources, [first, last], inputs, dtype, &packer) } {
                Ok(fits) => {
                    fit.fetch_and(fits, Ordering::Relaxed);
                }
                Err(error) => {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(fit.into_inner().then_some(matrix)),
        }
    }
}

/// How several matrices make one.
#[derive(Clone, Copy)]
enum Order {
    /// The outputs of one after those of another.
    Stacked,
    /// Sixteen outputs of each in turn, so that the thread that computes one of them has the others as well. The last
    /// sixteen of each are filled up with zeros.
    InTurn,
}

fn rows_of(sources: &[Named<'_>]) -> Vec<usize> {
    sources.iter().map(Named::rows).collect()
}

/// Rows of one of several sources, and where they go.
struct Run {
    source: usize,
    rows: Range<usize>,
    at: usize,
}

impl Order {
    /// `rows` are those of the sources.
    fn outputs(self, rows: &[usize]) -> usize {
        match self {
            Self::Stacked => rows.iter().sum(),
            Self::InTurn => {
                assert!(rows.iter().all(|r| *r == rows[0]), "one shape for all");
                rows.len() * rows[0].next_multiple_of(LANES)
            }
        }
    }

    /// What makes the outputs `first..last`, which begin at a multiple of the lanes; places count from `first`.
    fn runs(self, rows: &[usize], [first, last]: [usize; 2]) -> Vec<Run> {
        match self {
            Self::Stacked => {
                let mut base = 0;
                let run = |(source, count): (usize, &usize)| {
                    let (start, end) = (first.max(base), last.min(base + count));
                    let rows = start.saturating_sub(base)..end.saturating_sub(base);
                    base += count;
                    let at = start.saturating_sub(first);
                    (!rows.is_empty()).then_some(Run { source, rows, at })
                };
                rows.iter().enumerate().filter_map(run).collect()
            }
            Self::InTurn => {
                let run = |panel: usize| {
                    let (source, start) = (panel % rows.len(), panel / rows.len() * LANES);
                    let rows = start..rows[source].min(start + LANES);
                    let at = panel * LANES - first;
                    Run { source, rows, at }
                };
                (first / LANES..last.div_ceil(LANES)).map(run).collect()
            }
        }
    }
}

/// Reads rows `range` of the matrix that `sources` make and packs them. `false`: they do not fit, as
/// [`Packer::pack_bf16`] says.
///
/// # Safety
/// As for [`Packer::pack_f32`]; the matrix is of `dtype` and has `inputs`.
unsafe fn pack(
    sources: (&[Named<'_>], Order),
    range: [usize; 2],
    inputs: usize,
    dtype: Dtype,
    packer: &Packer,
) -> Result<bool, LoadError> {
    let first = range[0];
    let fits = match (dtype, dtype.blocks()) {
        (_, Some(format)) => {
            let finite = |bytes: &[u8]| scales_are_finite(format, bytes);
            let width = format.row_bytes(inputs);
            let rows = read_block(sources, range, width, finite, |t, r, o| {
                t.read_blocks(format, r, o)
            })?;
            // SAFETY: the caller's.
            unsafe { packer.pack_blocks(first, &rows) };
            true
        }
        (Dtype::Bf16, None) => {
            let finite = |row: &[u16]| row.iter().all(|bits| bits.widen().is_finite());
            let rows = read_block(sources, range, inputs, finite, |t, r, o| t.read_bf16(r, o))?;
            // SAFETY: the caller's.
            unsafe { packer.pack_bf16(first, &rows) }
        }
        (_, None) => {
            let finite = |row: &[f32]| row.iter().all(|value| value.is_finite());
            let rows = read_block(sources, range, inputs, finite, |t, r, o| t.read_f32(r, o))?;
            // SAFETY: the caller's.
            unsafe { packer.pack_f32(first, &rows) };
            true
        }
    };
    Ok(fits)
}

/// Whether no block's scale is an infinity or NaN: exponent bits all set, as `f16`.
pub(super) fn scales_are_finite(format: BlockFormat, bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks_exact(format.block_bytes());
    blocks.all(|block| block[1] & 0x7c != 0x7c)
}

/// Rows `first..last` of what `sources` make, `width` elements each, in one buffer.
fn read_block<T: Copy + Default>(
    (sources, order): (&[Named<'_>], Order),
    [first, last]: [usize; 2],
    width: usize,
    are_finite: impl Fn(&[T]) -> bool,
    read: impl Fn(&dyn CanonicalTensor, Range<u64>, &mut [T]) -> Result<(), ReadError>,
) -> Result<Vec<T>, LoadError> {
    let mut rows = vec![T::default(); (last - first) * width];
    for run in order.runs(&rows_of(sources), [first, last]) {
        let source = &sources[run.source];
        let out = &mut rows[run.at * width..][..run.rows.len() * width];
        let range = run.rows.start as u64..run.rows.end as u64;
        read(&*source.tensor, range, out)?;
        if !are_finite(out) {
            return Err(source.not_finite());
        }
    }
    Ok(rows)
}

/// Learned positions and the token table into `out`, one row for each of `ids`, at the place of the same index.
pub(super) fn embed(model: &SliceModel, ids: &[u32], places: &[Place], out: &mut [f32]) {
    let width = model.profile.hidden as usize;
    let embedding = model
        .embedding
        .as_ref()
        .expect("the caller checked the slice");
    let shared = SharedMut::new(out);
    model.pool.split(ids.len(), &|range| {
        for index in range {
            let (id, position) = (ids[index], places[index].position);
            // SAFETY: each row belongs to one thread.
            let row = unsafe { shared.range(index * width, width) };
            match (&embedding.table, &model.head) {
                (Some(table), _) => table.row(id as usize, row),
                (None, Some(head)) => head.weight.unpack_row(id as usize, row),
                (None, None) => unreachable!("a slice has a table or a tied head"),
            }
            if !embedding.positions.is_empty() {
                let learned = &embedding.positions[position * width..][..width];
                row.iter_mut().zip(learned).for_each(|(x, p)| *x += *p);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row of each source once: one after another, or sixteen in turn with nothing behind the last.
    #[test]
    fn runs_put_every_row_in_its_place() {
        let rows = [40, 40];
        let place = |order: Order, ranges: &[[usize; 2]]| {
            let mut places = vec![None; order.outputs(&rows)];
            for [first, last] in ranges {
                for run in order.runs(&rows, [*first, *last]) {
                    for (row, at) in run.rows.zip(first + run.at..*last) {
                        assert_eq!(places[at].replace((run.source, row)), None);
                    }
                }
            }
            places
        };
        let stacked = place(Order::Stacked, &[[0, 16], [16, 64], [64, 80]]);
        let expected = (0..80).map(|at| Some((at / 40, at % 40)));
        assert!(stacked.into_iter().eq(expected));
        let in_turn = place(Order::InTurn, &[[0, 64], [64, 96]]);
        let expected = (0..96).map(|at| {
            let row = at / 32 * 16 + at % 16;
            (row < 40).then_some((at / 16 % 2, row))
        });
        assert!(in_turn.into_iter().eq(expected));
    }
}
