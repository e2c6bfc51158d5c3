//! Canonical tensors as Hugging Face names and lays them out.

use super::ExportError;
use crate::hf::names::{Origin, full_name, origin};
use crate::source::{CanonicalTensor, Dtype, ReadError, WeightSource, dimensions, encoded_rows};

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
            let dtype = match (format, tensor.dtype()) {
                (Some(format), _) if spec.shape.len() == 2 => format,
                // Exactly: nothing is lost unless somebody asks for it.
                (_, Dtype::Q8 | Dtype::Q4) => Dtype::F32,
                (_, own) => own,
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
        self.shape.iter().product::<u64>() * self.dtype.row_bytes(1)
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
                append(&encoded_rows(member.as_ref(), self.dtype, range)?)?;
            }
        }
        Ok(())
    }

    /// `[inputs, outputs]` of all members.
    fn turned(&self) -> Result<Vec<u8>, ReadError> {
        let size = self.dtype.row_bytes(1) as usize;
        let width = self.shape[1] as usize * size;
        let mut bytes = vec![0; self.bytes() as usize];
        let mut column = 0;
        for member in &self.members {
            let (rows, columns) = dimensions(member.as_ref());
            for row in 0..rows {
                let values = encoded_rows(member.as_ref(), self.dtype, row..row + 1)?;
                debug_assert_eq!(values.len(), columns as usize * size);
                for (value, line) in values.chunks(size).zip(bytes.chunks_mut(width)) {
                    line[column..column + size].copy_from_slice(value);
                }
                column += size;
            }
        }
        Ok(bytes)
    }
}
