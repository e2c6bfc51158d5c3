//! Writing one part, or keeping what is there.

use super::{Counter, Loss, Sink, SinkFile, SplitError, write_error};
use crate::checkpoint::Checkpoint;
use crate::hashing::{FileHasher, FileHashes};
use crate::manifest::{PartEntry, TensorEntry, file_name};
use crate::part::Part;
use crate::safetensors::{Layout, layout};
use crate::source::{CanonicalTensor, Dtype, ReadError, dimensions, encoded_rows};
use crate::stored::StoredDtype;

/// How many bytes of `f32` are in memory at once, unless a single row is longer.
const PIECE_BYTES: u64 = 1 << 20;

/// A tensor on its way.
#[derive(Debug)]
pub(super) struct TensorPlan<'a> {
    pub(super) name: &'static str,
    pub(super) shape: Vec<u64>,
    pub(super) dtype: Dtype,
    pub(super) source: Box<dyn CanonicalTensor + 'a>,
}

impl TensorPlan<'_> {
    /// Rows and columns; a vector is one row.
    pub(super) fn dimensions(&self) -> (u64, u64) {
        dimensions(self.source.as_ref())
    }

    /// Whether some weights may change.
    pub(super) fn is_lossy(&self) -> bool {
        !self.source.dtype().is_exact_in(self.dtype)
    }
}

/// A part's file, before it is written.
#[derive(Debug)]
pub(super) struct PartPlan<'a> {
    pub(super) part: Part,
    pub(super) tensors: Vec<TensorPlan<'a>>,
    pub(super) layout: Layout,
}

pub(super) fn plan_all(
    source: &dyn Checkpoint,
    format: Option<Dtype>,
) -> Result<Vec<PartPlan<'_>>, SplitError> {
    let mut plans = Vec::new();
    for part in source.profile().parts() {
        let mut tensors = Vec::new();
        for spec in source.profile().tensors(part) {
            let source = source.tensor(part, spec.name)?;
            // What is not multiplied with is a small part of the bytes and used as f32: it is not
            // converted, here as in loading, so that both give the same bits.
            let dtype = match format {
                Some(format) if spec.is_product() => format,
                _ => source.dtype(),
            };
            tensors.push(TensorPlan {
                name: spec.name,
                shape: spec.shape,
                dtype,
                source,
            });
        }
        let listed: Vec<_> = tensors
            .iter()
            .map(|one| (one.name, one.dtype, &*one.shape))
            .collect();
        let layout = layout(&listed);
        plans.push(PartPlan {
            part,
            tensors,
            layout,
        });
    }
    Ok(plans)
}

/// A file that is hashed while it is written.
struct Output<'a, 'b> {
    file: Box<dyn SinkFile + 'a>,
    hasher: FileHasher,
    count: &'a mut Counter<'b>,
}

impl Output<'_, '_> {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.append(bytes)?;
        self.hasher.update(bytes);
        self.count.add(bytes.len() as u64);
        Ok(())
    }
}

/// Writes a part. What the conversion takes from its weights is counted if `is_lossy`: if that of any
/// part does.
pub(super) fn write(
    plan: &PartPlan<'_>,
    is_lossy: bool,
    sink: &dyn Sink,
    count: &mut Counter<'_>,
) -> Result<(PartEntry, Loss), SplitError> {
    let name = file_name(plan.part);
    let fail = |source| write_error(sink, &name, source);
    let file = sink.create(&name).map_err(fail)?;
    let mut output = Output {
        file,
        hasher: FileHasher::default(),
        count,
    };
    let mut loss = Loss::default();
    output.append(&plan.layout.header).map_err(fail)?;
    for &index in &plan.layout.order {
        let tensor = &plan.tensors[index];
        let (height, columns) = tensor.dimensions();
        let step = (PIECE_BYTES / (4 * columns)).max(1);
        for first in (0..height).step_by(step as usize) {
            let rows = first..(first + step).min(height);
            let bytes = encoded_rows(tensor.source.as_ref(), tensor.dtype, rows.clone())?;
            if is_lossy && tensor.shape.len() == 2 {
                count_loss(tensor, rows, &bytes, &mut loss)?;
            }
            output.append(&bytes).map_err(fail)?;
        }
    }
    let hashes = output.hasher.finish();
    output.file.finish().map_err(fail)?;
    Ok((entry(plan, hashes), loss))
}

fn count_loss(
    tensor: &TensorPlan<'_>,
    rows: std::ops::Range<u64>,
    bytes: &[u8],
    loss: &mut Loss,
) -> Result<(), ReadError> {
    let (_, columns) = tensor.dimensions();
    let values = ((rows.end - rows.start) * columns) as usize;
    let [mut before, mut after] = [vec![0.0; values], vec![0.0; values]];
    tensor.source.read_f32(rows, &mut before)?;
    let row_bytes = tensor.dtype.row_bytes(columns) as usize;
    let pairs = bytes.chunks_exact(row_bytes);
    for (bytes, row) in pairs.zip(after.chunks_exact_mut(columns as usize)) {
        StoredDtype::from(tensor.dtype).decode_f32(bytes, row);
    }
    loss.add(&before, &after);
    Ok(())
}

fn entry(plan: &PartPlan<'_>, hashes: FileHashes) -> PartEntry {
    let tensor = |one: &TensorPlan<'_>| TensorEntry {
        name: one.name.to_owned(),
        dtype: one.dtype,
        shape: one.shape.clone(),
    };
    PartEntry {
        part: plan.part,
        file: file_name(plan.part),
        bytes: hashes.bytes,
        sha256: hashes.sha256,
        blake3: hashes.blake3,
        chunks: hashes.chunks,
        tensors: plan.tensors.iter().map(tensor).collect(),
    }
}

/// Whether the file is still what its entry says.
pub(super) fn is_kept(
    sink: &dyn Sink,
    entry: &PartEntry,
    count: &mut Counter<'_>,
) -> Result<bool, SplitError> {
    let fail = |source| write_error(sink, &entry.file, source);
    let file = match sink.open(&entry.file) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(fail(error)),
    };
    if entry.file != file_name(entry.part) || file.len() != entry.bytes {
        return Ok(false);
    }
    let before = count.done;
    let hashes = FileHashes::of(&*file, &mut |bytes| count.add(bytes)).map_err(fail)?;
    let same = hashes.sha256 == entry.sha256
        && hashes.blake3 == entry.blake3
        && hashes.chunks == entry.chunks;
    if !same {
        count.done = before;
    }
    Ok(same)
}
