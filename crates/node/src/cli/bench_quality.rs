//! `skein bench quality`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use skein_base::ByteSize;
use skein_learning::World;
use skein_learning::chat::Writer;
use skein_model::{KvFormat, Pool};
use skein_text::Tokenizer;
use skein_weights::{Dtype, Slice};

use super::bench::{cache_folder, shape_folder, usage};
use super::{CommandError, Context};
use crate::bench::checkpoint::Random;
use crate::bench::quality::{Held, Quality, QualityError, Reader, Text, compare};
use crate::budget;
use crate::config::{Format, Setting as _};
use crate::embedded;
use crate::hub::Fetching;
use crate::memory;
use crate::node::{self, NodeError};
use crate::open::{self, Opened};

/// Arguments of `bench quality`.
#[derive(Debug, Clone, Args)]
pub struct QualityBenchArgs {
    /// Which model: folder, .gguf file, org/name@commit, or "embedded", which is also what is taken if nothing is
    /// said.
    #[arg(long, short, value_name = "MODEL", conflicts_with = "shape")]
    pub model: Option<String>,
    /// Random weights of this shape instead, as in `bench model`.
    #[arg(long, value_name = "SHAPE")]
    pub shape: Option<String>,
    /// What to hold weights in, one after another: f32, bf16, q8, q4.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "bf16,q8,q4"
    )]
    pub formats: Vec<String>,
    /// What to hold keys and values in, with each of them: f32, int8.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "f32,int8"
    )]
    pub kv_formats: Vec<String>,
    /// Texts to read: held-out conversations of the small world, or random tokens if the model does not know it.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub texts: usize,
    /// Tokens of a text, at most.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub tokens: usize,
    /// Which texts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Threads that compute; 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: u32,
    /// Where to keep random weights; else skein/bench in the user's cache.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn bench(context: &Context, args: &QualityBenchArgs) -> Result<ExitCode, CommandError> {
    let formats = formats(args)?;
    if args.texts == 0 || args.tokens < 2 {
        return Err(usage("--texts and --tokens", "must be at least 1 and 2"));
    }
    let opened = opened(context, args)?;
    let (kind, texts) = texts(&opened, args)?;
    let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
    check(&opened, &formats, longest)?;
    let pool = Arc::new(Pool::new(node::threads(args.threads)));
    let source = opened.checkpoint.as_ref();
    let load = |held| {
        let loaded = Reader::load(source, held, (&pool, longest));
        loaded.map_err(QualityError::from)
    };
    let mut reference = load(Held {
        weights: Dtype::F32,
        kv: KvFormat::F32,
    })?;
    let bar = context
        .console
        .step_bar((formats.len() * texts.len()) as u64);
    let mut rows = Vec::new();
    for held in formats {
        let mut other = load(held)?;
        let before = bar.position();
        let mut told = |read: usize| bar.set_position(before + read as u64);
        let quality = compare((&mut reference, &mut other), &texts, &mut told)?;
        rows.push((held, other.weight_bytes(), quality));
    }
    bar.finish_and_clear();
    match args.json {
        true => context.console.json(&report(kind, &rows))?,
        false => context.console.text(&table(kind, &rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses what the model's context or the memory has no room for: two models are held at a time.
fn check(opened: &Opened, formats: &[Held], longest: usize) -> Result<(), CommandError> {
    let checkpoint = opened.checkpoint.as_ref();
    let profile = checkpoint.profile();
    let context = profile.context as usize;
    if longest > context {
        let found = longest;
        return Err(QualityError::Context { found, context }.into());
    }
    let whole = Slice::whole(profile.layers);
    let bytes = |held: &Held| {
        let needs = budget::needs(checkpoint, &whole, Some(held.weights), held.kv);
        let kv = needs.position.saturating_mul(longest as u64);
        needs.weights.saturating_add(kv)
    };
    let exact = formats.first().map_or(0, bytes);
    let most = formats.iter().map(bytes).max().unwrap_or(0);
    let needed = exact.saturating_add(most);
    match memory::available() {
        Some(available) if available.0 < needed => {
            let needed = ByteSize(needed);
            Err(QualityError::Memory { needed, available }.into())
        }
        _ => Ok(()),
    }
}

/// All pairs, after the exact one.
fn formats(args: &QualityBenchArgs) -> Result<Vec<Held>, CommandError> {
    let mut all = vec![Held {
        weights: Dtype::F32,
        kv: KvFormat::F32,
    }];
    for weights in &args.formats {
        let format = Format::from_text(weights).map_err(|reason| usage("--formats", &reason))?;
        let weights = format
            .dtype()
            .ok_or_else(|| usage("--formats", "must be formats to convert to"))?;
        for kv in &args.kv_formats {
            let kv = KvFormat::from_text(kv).map_err(|reason| usage("--kv-formats", &reason))?;
            let held = Held { weights, kv };
            if !all.contains(&held) {
                all.push(held);
            }
        }
    }
    Ok(all)
}

fn opened(context: &Context, args: &QualityBenchArgs) -> Result<Opened, CommandError> {
    if let Some(shape) = &args.shape {
        let cache = cache_folder(args.cache.as_deref())?;
        let folder = shape_folder(context, shape, Dtype::Bf16, &cache)?;
        return Ok(open::open(&folder, Fetching::never(), context.console)?);
    }
    let model = args.model.as_deref().unwrap_or(embedded::NAME);
    let fetching = Fetching::new(&context.loaded.settings.model, false);
    Ok(open::open(model, fetching, context.console)?)
}

/// What kind of texts, and the texts.
fn texts(
    opened: &Opened,
    args: &QualityBenchArgs,
) -> Result<(&'static str, Vec<Text>), CommandError> {
    let writer = match opened.checkpoint.vocabulary() {
        Ok(vocabulary) => {
            let tokenizer = Tokenizer::new(&vocabulary).map_err(NodeError::from)?;
            // Another tokenizer than the world's lacks its control tokens.
            Writer::new(tokenizer).ok()
        }
        // Random weights come without words.
        Err(_) if args.shape.is_some() => None,
        Err(error) => return Err(NodeError::from(error).into()),
    };
    let Some(writer) = writer else {
        let mut random = Random(args.seed);
        let vocabulary = opened.checkpoint.profile().vocabulary;
        let text = |_| Text {
            ids: random.ids(args.tokens, vocabulary),
            counted: vec![false; args.tokens],
        };
        return Ok(("random tokens", (0..args.texts).map(text).collect()));
    };
    let world = World::new(args.seed);
    let text = |index| {
        let document = writer.write(&world.held_out(index));
        let mut document = document.map_err(|error| usage("--model", &error.to_string()))?;
        document.ids.truncate(args.tokens);
        document.answer.truncate(args.tokens);
        Ok(Text {
            ids: document.ids,
            counted: document.answer,
        })
    };
    let texts: Result<Vec<Text>, CommandError> = (0..args.texts as u64).map(text).collect();
    Ok(("held-out conversations", texts?))
}

fn report(kind: &str, rows: &[(Held, u64, Quality)]) -> Value {
    let row = |(held, bytes, quality): &(Held, u64, Quality)| {
        json!({
            "format": held.weights.to_string(),
            "kv_format": held.kv.name(),
            "weight_bytes": bytes,
            "positions": quality.positions,
            "loss": quality.loss.is_finite().then_some(quality.loss),
            "divergence": quality.divergence,
            "same_choice": quality.same_choice,
            "error": quality.error,
            "error_p99": quality.error_p99,
            "error_max": quality.error_max,
        })
    };
    json!({ "texts": kind, "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

fn table(kind: &str, rows: &[(Held, u64, Quality)]) -> String {
    let positions = rows.first().map_or(0, |(.., quality)| quality.positions);
    let mut out = format!(
        "{kind}, {positions} positions, against weights, keys and values in f32; errors of scores over their spread\n\n\
         {:<8}{:<6}{:>10}{:>10}{:>13}{:>9}{:>10}{:>10}{:>10}\n",
        "weights", "kv", "size", "loss", "divergence", "same", "error", "p99", "max"
    );
    for (held, bytes, quality) in rows {
        let loss = match quality.loss.is_finite() {
            true => format!("{:.4}", quality.loss),
            false => "-".to_owned(),
        };
        out.push_str(&format!(
            "{:<8}{:<6}{:>10}{loss:>10}{:>13.6}{:>8.2}%{:>9.3}%{:>9.3}%{:>9.3}%\n",
            held.weights.to_string(),
            held.kv.name(),
            ByteSize(*bytes).to_string(),
            quality.divergence,
            100.0 * quality.same_choice,
            100.0 * quality.error,
            100.0 * quality.error_p99,
            100.0 * quality.error_max,
        ));
    }
    out
}
