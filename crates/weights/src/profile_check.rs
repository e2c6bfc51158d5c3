//! Bounds and relations that every profile must meet, whoever wrote it.

use skein_base::limits;

use crate::profile::{Biases, Family, Mlp, NormKind, Positions, Profile, RopeScaling};

/// Why a profile makes no sense, or more than Skein allows.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A dimension is zero or over its bound.
    #[error("{field} is {found}; it must be between 1 and {max}")]
    OutOfRange {
        /// The field of the profile.
        field: &'static str,
        /// Its value.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// Query heads cannot be shared evenly.
    #[error("{heads} query heads cannot be divided among {kv_heads} key heads")]
    UnevenHeads {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
    },
    /// Rotary embedding pairs the halves of a head.
    #[error("the head size {head_dim} is odd, which rotary embedding cannot pair")]
    OddHead {
        /// The head size.
        head_dim: u32,
    },
    /// A real number is no positive finite number of the range that makes sense.
    #[error("{field} is {found}; it must be a positive finite number")]
    NotPositive {
        /// The field of the profile.
        field: &'static str,
        /// Its value.
        found: f64,
    },
    /// The list of windows has another length than the list of layers.
    #[error("{found} windows are listed for {layers} layers")]
    WindowCount {
        /// How many there are.
        found: usize,
        /// How many layers there are.
        layers: u32,
    },
    /// The list of rotary divisors has another length than there are frequencies.
    #[error("{found} rotary divisors are listed for heads of size {head_dim}; half is needed")]
    DivisorCount {
        /// How many there are.
        found: usize,
        /// The head size.
        head_dim: u32,
    },
    /// A field contradicts the family.
    #[error("{field} contradicts the family {family:?}")]
    Family {
        /// The field of the profile.
        field: &'static str,
        /// The family.
        family: Family,
    },
}

impl Profile {
    /// Checks every bound and relation; all arithmetic on a checked profile's dimensions fits.
    pub fn check(&self) -> Result<(), ProfileError> {
        self.check_dimensions()?;
        self.check_positions()?;
        self.check_windows()?;
        self.check_family()
    }

    fn check_dimensions(&self) -> Result<(), ProfileError> {
        let width = limits::WIDTH_MAX;
        for (field, found, max) in [
            ("vocabulary", self.vocabulary, limits::VOCABULARY_MAX),
            ("hidden", self.hidden, width),
            ("intermediate", self.intermediate, width),
            ("layers", self.layers, limits::LAYERS_MAX),
            ("heads", self.heads, width),
            ("kv_heads", self.kv_heads, width),
            ("head_dim", self.head_dim, width),
            ("context", self.context, limits::CONTEXT_MAX),
        ] {
            in_range(field, u64::from(found), u64::from(max))?;
        }
        let query = u64::from(self.heads) * u64::from(self.head_dim);
        in_range("heads * head_dim", query, u64::from(width))?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ProfileError::UnevenHeads {
                heads: self.heads,
                kv_heads: self.kv_heads,
            });
        }
        positive("norm_epsilon", f64::from(self.norm_epsilon))
    }

    fn check_positions(&self) -> Result<(), ProfileError> {
        match &self.positions {
            &Positions::Learned { count } => {
                in_range(
                    "positions",
                    u64::from(count),
                    u64::from(limits::CONTEXT_MAX),
                )?;
                in_range("context", u64::from(self.context), u64::from(count))
            }
            Positions::Rope { theta, scaling } => {
                if !self.head_dim.is_multiple_of(2) {
                    return Err(ProfileError::OddHead {
                        head_dim: self.head_dim,
                    });
                }
                positive("rope theta", *theta)?;
                check_scaling(scaling, self.head_dim)
            }
        }
    }

    fn check_windows(&self) -> Result<(), ProfileError> {
        let found = self.windows.len();
        if found != 0 && found != self.layers as usize {
            return Err(ProfileError::WindowCount {
                found,
                layers: self.layers,
            });
        }
        let max = u64::from(limits::CONTEXT_MAX);
        self.windows
            .iter()
            .flatten()
            .try_for_each(|&one| in_range("window", u64::from(one), max))
    }

    fn check_family(&self) -> Result<(), ProfileError> {
        let refuse = |field| {
            Err(ProfileError::Family {
                field,
                family: self.family,
            })
        };
        let gpt2 = self.family == Family::Gpt2;
        if (self.norm == NormKind::Layer) != gpt2 {
            return refuse("norm");
        }
        if matches!(self.positions, Positions::Learned { .. }) != gpt2 {
            return refuse("positions");
        }
        if (self.mlp == Mlp::GeluTanh) != gpt2 {
            return refuse("mlp");
        }
        if self.qk_norm != (self.family == Family::Qwen3) {
            return refuse("qk_norm");
        }
        let Biases {
            qkv,
            attention_output,
            mlp,
        } = self.biases;
        let fits = match self.family {
            Family::Gpt2 => qkv && attention_output && mlp,
            Family::Qwen2 => qkv && !attention_output && !mlp,
            Family::Qwen3 => qkv == attention_output && !mlp,
            Family::Mistral => !qkv && !attention_output && !mlp,
            Family::Llama => qkv == attention_output,
        };
        if fits { Ok(()) } else { refuse("biases") }
    }
}

fn check_scaling(scaling: &RopeScaling, head_dim: u32) -> Result<(), ProfileError> {
    match *scaling {
        RopeScaling::None => Ok(()),
        RopeScaling::Divisors { ref divisors } => {
            let found = divisors.len();
            if found != head_dim as usize / 2 {
                return Err(ProfileError::DivisorCount { found, head_dim });
            }
            divisors
                .iter()
                .try_for_each(|&one| positive("rope divisor", f64::from(one)))
        }
        RopeScaling::Linear { factor } => positive("rope factor", factor),
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor: low,
            high_frequency_factor: high,
            original_context,
        } => {
            positive("rope factor", factor)?;
            positive("rope low frequency factor", low)?;
            // The ramp divides by their difference.
            positive("rope high minus low frequency factor", high - low)?;
            let max = u64::from(limits::CONTEXT_MAX);
            in_range("rope original context", u64::from(original_context), max)
        }
    }
}

fn in_range(field: &'static str, found: u64, max: u64) -> Result<(), ProfileError> {
    if found == 0 || found > max {
        return Err(ProfileError::OutOfRange { field, found, max });
    }
    Ok(())
}

fn positive(field: &'static str, found: f64) -> Result<(), ProfileError> {
    // Far outside of this nobody has a model, and sums of squares would not stay finite.
    if (1e-30..=1e30).contains(&found) {
        return Ok(());
    }
    Err(ProfileError::NotPositive { field, found })
}
