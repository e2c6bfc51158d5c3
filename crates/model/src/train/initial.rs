//! First values of a model that starts from nothing.

use candle_core::{Device, Tensor};
use skein_weights::Profile;

use crate::random::{Purpose, Random, derive};
use crate::twin::{Parameters, TwinError};

/// Standard deviation of embeddings and projections (Radford and others, GPT-2, 2019).
const DEVIATION: f64 = 0.02;

/// Normal values of standard deviation 0.02, projections that add to the residual stream divided by
/// `sqrt(2 * layers)`; norms are one, biases zero. The same seed gives the same bits everywhere.
pub fn initial(profile: &Profile, seed: u64) -> Result<Parameters, TwinError> {
    let mut parameters = Parameters::default();
    let depth = f64::from(2 * profile.layers).sqrt();
    for (part_index, part) in profile.parts().into_iter().enumerate() {
        for (index, spec) in profile.tensors(part).into_iter().enumerate() {
            let place = [part_index as u64, index as u64];
            let mut random = Random::new(derive(seed, Purpose::Weights, &place));
            let shape: Vec<usize> = spec.shape.iter().map(|&size| size as usize).collect();
            let count = shape.iter().product();
            let deviation = match spec.name {
                "attn_o.weight" | "mlp_down.weight" => DEVIATION / depth,
                _ => DEVIATION,
            };
            let values: Vec<f32> = match (shape.len(), spec.name.ends_with(".bias")) {
                (1, true) => vec![0.0; count],
                (1, false) => vec![1.0; count],
                _ => (0..count)
                    .map(|_| (random.normal() * deviation) as f32)
                    .collect(),
            };
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
            parameters.set(part, spec.name, tensor);
        }
    }
    Ok(parameters)
}
