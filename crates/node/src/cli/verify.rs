//! `skein model verify`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use skein_base::ByteSize;
use skein_model::{
    ForwardError, Input, KvFormat, KvFull, KvPages, LoadError, Output, Pool, ScoreRows, Segment,
    SliceModel,
};
use skein_runtime::FsFolder;
use skein_weights::manifest::MANIFEST_FILE;
use skein_weights::split::SplitCheckpoint;
use skein_weights::verify::{Problem, Report, verify as verify_files};
use skein_weights::{Slice, WeightSource as _};

use super::args::VerifyArgs;
use super::{CommandError, Context};
use crate::budget;
use crate::memory;
use crate::node::{chain, threads};

/// Tokens of the forward pass; enough for attention to have something to attend to.
const TOKENS: u32 = 8;

/// Why a folder could not be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyCommandError {
    /// It cannot be opened.
    #[error("cannot open {}: give a folder written by `skein model split`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "{} was not written by `skein model split`: it has no {MANIFEST_FILE} and so no hashes to \
         compare with; split the model first, or look at it with `skein model inspect`",
        path.display()
    )]
    NotSplit {
        /// The folder.
        path: PathBuf,
    },
}

/// Why a slice did not run.
#[derive(Debug, thiserror::Error)]
enum SliceFailure {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Forward(#[from] ForwardError),
    #[error(transparent)]
    Kv(#[from] KvFull),
    #[error("its output holds values that are not finite")]
    NotFinite,
    #[error(
        "{0} of weights are needed, {1} of memory are available; --no-forward leaves this check out"
    )]
    Memory(ByteSize, ByteSize),
}

pub(super) fn verify(context: &Context, args: &VerifyArgs) -> Result<ExitCode, CommandError> {
    let console = context.console;
    let open = |source| VerifyCommandError::Folder {
        path: args.folder.clone(),
        source,
    };
    let folder = Arc::new(FsFolder::open(&args.folder).map_err(open)?);
    let bar = console.byte_bar(0);
    let report = verify_files(folder.as_ref(), &mut |now| {
        bar.set_length(now.total);
        bar.set_position(now.done);
    });
    bar.finish_and_clear();
    let begun = |problem: &Problem| matches!(problem, Problem::Unfinished);
    if !args.folder.join(MANIFEST_FILE).exists() && !report.problems.iter().any(begun) {
        let path = args.folder.clone();
        return Err(VerifyCommandError::NotSplit { path }.into());
    }
    let mut slices = Vec::new();
    // Bytes that are not what they should be are not computed with.
    if report.is_good() && !args.no_forward {
        match SplitCheckpoint::open(folder) {
            Ok(checkpoint) => {
                let list = report.manifest.as_ref().map(|manifest| manifest.slices());
                slices = forward(&checkpoint, &list.unwrap_or_default(), context);
            }
            Err(error) => slices.push((Slice::whole(1), Some(chain(&error)))),
        }
    }
    let good = report.is_good() && slices.iter().all(|(_, failure)| failure.is_none());
    show(context, args, &report, &slices)?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs each slice, loaded alone, on what the one before gave; stops at the first that fails.
fn forward(
    checkpoint: &SplitCheckpoint,
    slices: &[Slice],
    context: &Context,
) -> Vec<(Slice, Option<String>)> {
    let count = TOKENS.min(checkpoint.profile().context);
    let ids: Vec<u32> = (0..count)
        .map(|id| id % checkpoint.profile().vocabulary)
        .collect();
    let mut hidden: Option<Vec<f32>> = None;
    let mut results = Vec::new();
    for slice in slices {
        let result = run(checkpoint, slice, (&ids, hidden.as_deref()), context);
        let failure = result.as_ref().err().map(|error| chain(error));
        let failed = failure.is_some();
        results.push((slice.clone(), failure));
        if failed {
            break;
        }
        hidden = result.ok().flatten();
    }
    results
}

fn run(
    checkpoint: &SplitCheckpoint,
    slice: &Slice,
    (ids, hidden): (&[u32], Option<&[f32]>),
    context: &Context,
) -> Result<Option<Vec<f32>>, SliceFailure> {
    let needs = budget::needs(checkpoint, slice, None, KvFormat::F32);
    if let Some(available) = memory::available().filter(|available| available.0 < needs.weights) {
        return Err(SliceFailure::Memory(ByteSize(needs.weights), available));
    }
    let pool = Arc::new(Pool::new(threads(context.loaded.settings.engine.threads)));
    let model = SliceModel::load(checkpoint, slice.clone(), None, pool)?;
    // Room for whole pages, of which a short sequence needs one.
    let mut kv = KvPages::new(model.profile(), slice, KvFormat::F32, needs.position * 4096);
    let mut sequence = kv.sequence();
    kv.reserve(&mut sequence, ids.len())?;
    let input = hidden.map_or(Input::Ids(ids), Input::Hidden);
    let mut segments = [Segment {
        sequence: &mut sequence,
        rows: ids.len(),
        scores: ScoreRows::Last,
        asked: &[],
    }];
    let output = model.forward(&mut kv, &mut segments, input)?;
    kv.release(sequence);
    match output {
        Output::Hidden(values) if values.iter().all(|value| value.is_finite()) => Ok(Some(values)),
        Output::Scores(scores) if scores.iter().all(|one| one.log_sum_exp.is_finite()) => Ok(None),
        _ => Err(SliceFailure::NotFinite),
    }
}

fn show(
    context: &Context,
    args: &VerifyArgs,
    report: &Report,
    slices: &[(Slice, Option<String>)],
) -> Result<(), CommandError> {
    let problems: Vec<String> = report
        .problems
        .iter()
        .map(|problem| chain(problem))
        .collect();
    let model = report
        .manifest
        .as_ref()
        .map(|manifest| manifest.model.to_string());
    let good = problems.is_empty() && slices.iter().all(|(_, failure)| failure.is_none());
    if args.json {
        let slices = slices.iter().map(|(slice, failure)| {
            json!({ "start": slice.layers.start, "end": slice.layers.end, "error": failure })
        });
        context.console.json(&json!({
            "ok": good,
            "model": model,
            "files": report.files,
            "bytes": report.bytes,
            "problems": problems,
            "slices": Value::Array(slices.collect()),
        }))?;
        return Ok(());
    }
    let mut text = String::new();
    for problem in &problems {
        text.push_str(&format!("wrong: {problem}\n"));
    }
    for (slice, failure) in slices {
        match failure {
            None => text.push_str(&format!("{slice}: runs\n")),
            Some(failure) => text.push_str(&format!("wrong: {slice}: {failure}\n")),
        }
    }
    let (files, bytes) = (report.files, ByteSize(report.bytes));
    let verdict = if good { "is good" } else { "is damaged" };
    let folder = args.folder.display();
    text.push_str(&format!(
        "{folder} {verdict}: {files} files, {bytes} checked\n"
    ));
    if let Some(model) = model.filter(|_| good) {
        text.push_str(&format!("model id {model}\n"));
    }
    context.console.text(&text)?;
    Ok(())
}
