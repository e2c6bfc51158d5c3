//! Compute kernels: each written once over [`crate::lanes::Lanes`], its order of operations fixed.
//!
//! `docs/numerics.md` of the repository states the order in full.

pub(crate) mod attention;
pub(crate) mod linear;
pub(crate) mod pointwise;
#[cfg(feature = "train")]
pub(crate) mod product;
pub(crate) mod quantised;
pub(crate) mod score;
