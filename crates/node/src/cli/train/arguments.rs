//! The arguments of `skein train`.

use std::path::{Path, PathBuf};

use clap::Args;
use skein_weights::Part;

use super::TrainCommandError;
use crate::cli::CommandError;
use crate::config::{Format, Setting as _};
use crate::console::Console;
use crate::train::samples::identify;
use crate::train::settings::{DataFile, LoraSettings, Settings, Start, part};

/// Steps, unless told.
const STEPS: u64 = 1000;
/// Steps of the warm-up, unless told; a tenth of all if these are fewer.
const WARMUP: u64 = 50;
/// Steps between evaluations, unless told.
const EVALUATE_EVERY: u64 = 100;
/// Steps between saved states, unless told.
const SAVE_EVERY: u64 = 200;

/// A bound of a norm, or 0.
fn norm(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let bound = number.filter(|bound| bound.is_finite() && *bound >= 0.0);
    bound.ok_or_else(|| "it must be a number, 0 or more".to_owned())
}

/// Arguments of `train`.
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    /// Go on with the training of this folder, as it was begun; only --steps, --until, --recompute,
    /// --eval-every, --save-every and --threads can be told anew.
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "output", "data", "eval", "model", "shape", "tokenizer", "batch", "context", "accumulate",
        "lr", "warmup", "decay", "final_share", "weight_decay", "clip", "clip_tensor", "dropout",
        "lora", "lora_alpha", "lora_targets", "freeze", "seed", "format",
    ])]
    pub resume: Option<PathBuf>,
    /// The folder to write: the trained model, and training/ with settings, states and log.
    #[arg(long, short, value_name = "DIR", required_unless_present = "resume")]
    pub output: Option<PathBuf>,
    /// What to learn: a file with one {"text": ...} or {"messages": [...]} a line, or {"tokens":
    /// [...], "learned": [[FROM, TO], ...]}. Of a text everything is learned, of a conversation what
    /// the assistant says.
    #[arg(long, short, value_name = "FILE", required_unless_present = "resume")]
    pub data: Option<PathBuf>,
    /// The same, never learned: its loss is measured now and then.
    #[arg(long, value_name = "FILE")]
    pub eval: Option<PathBuf>,
    /// Start from this model: Hugging Face folder, split folder, .gguf file, or org/name@commit.
    #[arg(long, short, value_name = "MODEL", conflicts_with = "shape")]
    pub model: Option<String>,
    /// Start from random weights of the shape that this config.json describes.
    #[arg(long, value_name = "FILE")]
    pub shape: Option<PathBuf>,
    /// Where tokenizer.json and its like are, for --shape; else the folder of the shape.
    #[arg(long, value_name = "DIR", requires = "shape")]
    pub tokenizer: Option<PathBuf>,
    /// How many steps to take [default: 1000]. With --resume: to take fewer or more than was said,
    /// which is possible until the learning rate falls: with --decay, late.
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// End behind this step, with the model as it is then, the learning rate wherever it is; 0 for the
    /// last one.
    #[arg(long, value_name = "N")]
    pub until: Option<u64>,
    /// Rows of a batch.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch: usize,
    /// Tokens of a row; short samples share one.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub context: usize,
    /// Batches that make one step, where a larger one has no room in memory.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub accumulate: usize,
    /// Highest learning rate.
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    pub lr: f64,
    /// Steps over which the learning rate rises to it [default: a tenth of all, at most 50].
    #[arg(long, value_name = "N")]
    pub warmup: Option<u64>,
    /// Steps over which the learning rate falls at the end; 0 for all after the warm-up.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub decay: u64,
    /// Last learning rate over the highest.
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub final_share: f64,
    /// Decay of matrices.
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for any.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = norm, allow_negative_numbers = true)]
    pub clip: f64,
    /// Largest norm of the gradient of one tensor, applied first; 0 for any.
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = norm, allow_negative_numbers = true)]
    pub clip_tensor: f64,
    /// Share of values left out at random.
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub dropout: f64,
    /// Compute layers twice instead of remembering them: slower, in a fraction of the memory; the
    /// result is the same.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub recompute: Option<bool>,
    /// Train adapters of this rank instead of the weights; they are merged at the end.
    #[arg(long, value_name = "RANK")]
    pub lora: Option<usize>,
    /// Scale of the adapters times their rank; else twice the rank.
    #[arg(long, value_name = "X", requires = "lora")]
    pub lora_alpha: Option<f64>,
    /// Which projections get adapters, such as attn_q,attn_v; else all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "lora")]
    pub lora_targets: Vec<String>,
    /// Parts that stay as they are: embedding, head, or numbers of layers from 0, such as
    /// embedding,0,1.
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = part)]
    pub freeze: Vec<Part>,
    /// The same seed and data give the same model.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// What to write the trained matrices in: f32 or bf16.
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    pub format: String,
    /// Steps between measurements of --eval; 0 for one at the end [default: 100].
    #[arg(long, value_name = "N")]
    pub eval_every: Option<u64>,
    /// Steps between saved states; 0 for one at the end [default: 200].
    #[arg(long, value_name = "N")]
    pub save_every: Option<u64>,
    /// Threads that compute; 0 for one per core. It does not change the result.
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// Print one JSON object at the end.
    #[arg(long)]
    pub json: bool,
    /// Never fetch from the hub; use its local cache alone.
    #[arg(long)]
    pub offline: bool,
}

impl TrainArgs {
    /// What to do with these data, at this time.
    ///
    /// # Errors
    /// If the arguments contradict one another, or a file of data cannot be read.
    pub(super) fn settings(
        &self,
        data: &Path,
        console: Console,
        began_unix: i64,
    ) -> Result<Settings, CommandError> {
        let format = Format::from_text(&self.format)
            .map_err(|reason| CommandError::Usage(format!("--format: {reason}")))?;
        let lora = self.lora.map(|rank| LoraSettings {
            rank,
            alpha: self.lora_alpha.unwrap_or(2.0 * rank as f64),
            targets: self.lora_targets.iter().cloned().collect(),
        });
        let some = |bound: f64| (bound > 0.0).then_some(bound);
        let steps = self.steps.unwrap_or(STEPS);
        let settings = Settings {
            start: self.start()?,
            data: data_file(data, console)?,
            held_out: match &self.eval {
                Some(path) => Some(data_file(path, console)?),
                None => None,
            },
            steps,
            until: self.until.filter(|until| *until > 0),
            batch: self.batch,
            context: self.context,
            accumulate: self.accumulate,
            rate: self.lr,
            warmup: self.warmup.unwrap_or(WARMUP.min(steps / 10)),
            decay: self.decay,
            final_share: self.final_share,
            weight_decay: self.weight_decay,
            clip_norm: some(self.clip),
            clip_tensor: some(self.clip_tensor),
            dropout: self.dropout,
            recompute: self.recompute.unwrap_or(false),
            lora,
            frozen: self.freeze.iter().copied().collect(),
            seed: self.seed,
            format,
            evaluate_every: self.eval_every.unwrap_or(EVALUATE_EVERY),
            save_every: self.save_every.unwrap_or(SAVE_EVERY),
            began_unix,
            start_sha256: None,
        };
        check(&settings)?;
        Ok(settings)
    }

    /// The settings of a training that goes on, with what may be told anew.
    pub(super) fn changed(&self, settings: Settings) -> Result<Settings, CommandError> {
        let settings = Settings {
            steps: self.steps.unwrap_or(settings.steps),
            until: self.until.or(settings.until).filter(|until| *until > 0),
            recompute: self.recompute.unwrap_or(settings.recompute),
            evaluate_every: self.eval_every.unwrap_or(settings.evaluate_every),
            save_every: self.save_every.unwrap_or(settings.save_every),
            ..settings
        };
        check(&settings)?;
        Ok(settings)
    }

    fn start(&self) -> Result<Start, CommandError> {
        match (&self.model, &self.shape) {
            (Some(model), _) => {
                let path = Path::new(model);
                // A path is kept absolute, so that training can be gone on with from elsewhere.
                let place = match path.exists() {
                    true => std::path::absolute(path).ok(),
                    false => None,
                };
                let place = place.map(|place| place.display().to_string());
                Ok(Start::Model(place.unwrap_or_else(|| model.clone())))
            }
            (None, Some(config)) => {
                let beside = || config.parent().map(Path::to_owned).unwrap_or_default();
                let tokenizer = self.tokenizer.clone().unwrap_or_else(beside);
                let absolute =
                    |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
                Ok(Start::Shape {
                    config: absolute(config),
                    tokenizer: match tokenizer.as_os_str().is_empty() {
                        true => absolute(Path::new(".")),
                        false => absolute(&tokenizer),
                    },
                })
            }
            (None, None) => Err(CommandError::Usage(
                "--model or --shape is needed: what to start from".to_owned(),
            )),
        }
    }
}

fn check(settings: &Settings) -> Result<(), CommandError> {
    settings.step_tokens().map_err(CommandError::Usage)?;
    let checked = settings.config().check();
    checked.map_err(|error| CommandError::Usage(error.to_string()))
}

/// Takes down a file of data; it is hashed, which is shown.
fn data_file(path: &Path, console: Console) -> Result<DataFile, TrainCommandError> {
    let bar = console.byte_bar(std::fs::metadata(path).map_or(0, |file| file.len()));
    bar.set_message("hashing");
    let file = identify(path, &mut |read| bar.set_position(read));
    bar.finish_and_clear();
    Ok(file?)
}
