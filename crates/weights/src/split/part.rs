//! Writing one part, or keeping what is there.

use super::{Counter, Sink, SinkFile, SplitError, write_error};
use crate::checkpoint::Checkpoint;
use crate::hashing::{FileHasher, FileHashes};
use crate::manifest::{PartEntry, TensorEntry, file_name};
use crate::part::Part;
use crate::safetensors::{Layout, layout};
use crate::source::{CanonicalTensor, Dtype};

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
    pub(super) fn rows(&self) -> u64 {
        if self.shape.len() == 1 {
            1
        } else {
            self.shape[0]
        }
    }

    pub(super) fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
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
            // Vectors (norms, biases) are a thousandth of the bytes and used as f32: only matrices
            // are converted, here as in loading, so that both give the same bits.
            let dtype = match format {
                Some(format) if spec.shape.len() == 2 => format,
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

pub(super) fn write(
    source: &dyn Checkpoint,
    plan: &PartPlan<'_>,
    sink: &dyn Sink,
    count: &mut Counter<'_>,
) -> Result<PartEntry, SplitError> {
    debug_assert!(source.profile().tensors(plan.part).len() == plan.tensors.len());
    let name = file_name(plan.part);
    let fail = |source| write_error(sink, &name, source);
    let file = sink.create(&name).map_err(fail)?;
    let mut output = Output {
        file,
        hasher: FileHasher::default(),
        count,
    };
    output.append(&plan.layout.header).map_err(fail)?;
    for &index in &plan.layout.order {
        let tensor = &plan.tensors[index];
        let step = (PIECE_BYTES / (4 * tensor.columns())).max(1);
        let mut first = 0;
        while first < tensor.rows() {
            let rows = first..(first + step).min(tensor.rows());
            first = rows.end;
            let bytes = read_piece(tensor, rows)?;
            output.append(&bytes).map_err(fail)?;
        }
    }
    let hashes = output.hasher.finish();
    output.file.finish().map_err(fail)?;
    Ok(entry(plan, hashes))
}

fn read_piece(tensor: &TensorPlan<'_>, rows: std::ops::Range<u64>) -> Result<Vec<u8>, SplitError> {
    let values = ((rows.end - rows.start) * tensor.columns()) as usize;
    Ok(match tensor.dtype {
        Dtype::F32 => {
            let mut piece = vec![0.0_f32; values];
            tensor.source.read_f32(rows, &mut piece)?;
            piece.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        Dtype::Bf16 => {
            let mut piece = vec![0_u16; values];
            tensor.source.read_bf16(rows, &mut piece)?;
            piece.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
    })
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

/// The entry, if the file is still what it says.
pub(super) fn keep(
    sink: &dyn Sink,
    entry: &PartEntry,
    count: &mut Counter<'_>,
) -> Result<Option<PartEntry>, SplitError> {
    let fail = |source| write_error(sink, &entry.file, source);
    let file = match sink.open(&entry.file) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    if entry.file != file_name(entry.part) || file.len() != entry.bytes {
        return Ok(None);
    }
    let before = count.done;
    let hashes = FileHashes::of(&*file, &mut |bytes| count.add(bytes)).map_err(fail)?;
    let same = hashes.sha256 == entry.sha256
        && hashes.blake3 == entry.blake3
        && hashes.chunks == entry.chunks;
    if !same {
        count.done = before;
    }
    Ok(same.then(|| entry.clone()))
}
