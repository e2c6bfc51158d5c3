//! Canonical tensors as Hugging Face names and lays them out.

use std::ops::Range;

use super::ExportError;
use crate::hf::names::{Origin, full_name, origin};
use crate::safetensors::encode_f32;
use crate::source::{CanonicalTensor, Dtype, ReadError, WeightSource};

/// How many bytes of `f32` are in memory at once, unless a single row is longer.
const PIECE_BYTES: u64 = 1 << 20;

/// Takes the next bytes of a tensor.
pub(super) type Append<'a> = dyn FnMut(&[u8]) -> Result<(), ExportError> + 'a;

/// A tensor of the export: one canonical one, or several side by side.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    transposed: bool,
    members: Vec<Box<dyn CanonicalTensor + 'a>>,
}

/// All tensors, in the order of the model.
pub(super) fn stored(
    weights: &dyn WeightSource,
    format: Option<Dtype>,
) -> Result<Vec<Stored<'_>>, ReadError> {
    let profile = weights.profile();
    let mut list: Vec<Stored<'_>> = Vec::new();
    for part in profile.parts() {
        for spec in profile.tensors(part) {
            let tensor = weights.tensor(part, spec.name)?;
            let dtype = match format {
                Some(format) if spec.shape.len() == 2 => format,
                _ => tensor.dtype(),
            };
            let place = origin(profile, part, spec.name);
            let name = full_name(profile, &place);
            // The shares of a joined tensor may lie apart: weights and biases take turns.
            match list.iter_mut().rev().find(|one| one.name == name) {
                Some(joined) => joined.join(tensor, dtype),
                None => list.push(Stored::new(name, &place, dtype, tensor)),
            }
        }
    }
    Ok(list)
}

impl<'a> Stored<'a> {
    fn new(
        name: String,
        origin: &Origin,
        dtype: Dtype,
        tensor: Box<dyn CanonicalTensor + 'a>,
    ) -> Self {
        let mut shape = tensor.shape().to_vec();
        let outputs = &mut shape[0];
        *outputs *= origin.share.of;
        let transposed = origin.transposed && shape.len() == 2;
        if transposed {
            shape.reverse();
        }
        Self {
            name,
            dtype,
            shape,
            transposed,
            members: vec![tensor],
        }
    }

    /// Adds the next share; the finer of two precisions holds both.
    fn join(&mut self, tensor: Box<dyn CanonicalTensor + 'a>, dtype: Dtype) {
        self.members.push(tensor);
        self.dtype = self.dtype.min(dtype);
    }

    /// Bytes of its values.
    pub(super) fn bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * self.dtype.bytes() as u64
    }

    /// Gives its bytes, piece by piece.
    pub(super) fn write(&self, append: &mut Append<'_>) -> Result<(), ExportError> {
        if self.transposed {
            return append(&self.turned()?);
        }
        for member in &self.members {
            let (rows, columns) = dimensions(member.as_ref());
            let step = (PIECE_BYTES / (4 * columns)).max(1);
            let mut first = 0;
            while first < rows {
                let range = first..(first + step).min(rows);
                first = range.end;
                append(&self.encoded(member.as_ref(), range)?)?;
            }
        }
        Ok(())
    }

    /// `[inputs, outputs]` of all members.
    fn turned(&self) -> Result<Vec<u8>, ReadError> {
        let size = self.dtype.bytes();
        let width = self.shape[1] as usize * size;
        let mut bytes = vec![0; self.bytes() as usize];
        let mut column = 0;
        for member in &self.members {
            let (rows, columns) = dimensions(member.as_ref());
            for row in 0..rows {
                let values = self.encoded(member.as_ref(), row..row + 1)?;
                debug_assert_eq!(values.len(), columns as usize * size);
                for (value, line) in values.chunks(size).zip(bytes.chunks_mut(width)) {
                    line[column..column + size].copy_from_slice(value);
                }
                column += size;
            }
        }
        Ok(bytes)
    }

    fn encoded(
        &self,
        tensor: &dyn CanonicalTensor,
        rows: Range<u64>,
    ) -> Result<Vec<u8>, ReadError> {
        let (_, columns) = dimensions(tensor);
        let count = ((rows.end - rows.start) * columns) as usize;
        Ok(match self.dtype {
            Dtype::F32 => {
                let mut piece = vec![0.0_f32; count];
                tensor.read_f32(rows, &mut piece)?;
                let mut bytes = Vec::with_capacity(4 * count);
                encode_f32(&piece, &mut bytes);
                bytes
            }
            Dtype::Bf16 => {
                let mut piece = vec![0_u16; count];
                tensor.read_bf16(rows, &mut piece)?;
                piece.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
        })
    }
}

/// Rows and columns; a vector is one row.
fn dimensions(tensor: &dyn CanonicalTensor) -> (u64, u64) {
    match *tensor.shape() {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => unreachable!("canonical tensors have one or two dimensions"),
    }
}
