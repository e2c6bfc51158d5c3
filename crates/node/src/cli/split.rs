//! `skein model split`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use skein_base::ByteSize;
use skein_weights::Checkpoint;
use skein_weights::slices::SlicePlan;
use skein_weights::split::{Outcome, SplitError, SplitOptions, split as split_into};

use super::args::{CutArgs, SplitArgs};
use super::target::{TargetError, target};
use super::{CommandError, Context};
use crate::config::{Format, Setting as _};
use crate::console::Console;
use crate::hub::Fetching;
use crate::node::{self, NodeError};
use crate::open::{self, Opened};
use crate::stop::{INTERRUPTED, StopSignals};

/// Why a model could not be split.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitCommandError {
    /// The folder cannot be written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Splitting failed.
    #[error(transparent)]
    Split(#[from] SplitError),
}

/// What to make of a model.
pub(super) struct SplitWish {
    pub(super) format: Format,
    pub(super) slices: SlicePlan,
}

pub(super) fn split(context: &Context, args: &SplitArgs) -> Result<ExitCode, CommandError> {
    let console = context.console;
    let format = Format::from_text(&args.format)
        .map_err(|reason| CommandError::Usage(format!("--format: {reason}")))?;
    let slices = plan(&args.cut)?;
    let fetching = Fetching::new(&context.loaded.settings.model, args.offline);
    let opened = open::open(&args.path, fetching, console)?;
    let wish = SplitWish { format, slices };
    let rounded = rounded(opened.checkpoint.as_ref());
    let Some(outcome) = write(console, opened, &args.output, wish)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    show(context, args, &outcome, &rounded)?;
    Ok(ExitCode::SUCCESS)
}

/// The types of a checkpoint that are served rounded.
fn rounded(checkpoint: &dyn Checkpoint) -> BTreeSet<String> {
    let profile = checkpoint.profile();
    let tensors = profile.parts().into_iter().flat_map(|part| {
        let specs = profile.tensors(part);
        specs.into_iter().map(move |spec| (part, spec.name))
    });
    tensors
        .filter_map(|(part, name)| checkpoint.stored_dtype(part, name))
        .filter(|stored| !stored.is_exact())
        .map(|stored| stored.to_string())
        .collect()
}

/// Splits into a folder while a bar shows how far it is. `None` if a signal came; the folder can be
/// completed then.
pub(super) fn write(
    console: Console,
    opened: Opened,
    output: &Path,
    wish: SplitWish,
) -> Result<Option<Outcome>, CommandError> {
    let (lock, sink) = target(output).map_err(SplitCommandError::from)?;
    let options = SplitOptions {
        name: Some(opened.name.clone()),
        format: wish.format.dtype(),
        slices: wish.slices,
    };
    let bar = console.byte_bar(0);
    let runtime = node::runtime()?;
    let ended = runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let progress = bar.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut tell = |now: skein_weights::split::Progress| {
                progress.set_length(now.total);
                progress.set_position(now.done);
            };
            split_into(opened.checkpoint.as_ref(), &options, &sink, &mut tell)
        });
        tokio::select! {
            done = work => {
                let done = done.map_err(|error| NodeError::Failed(error.to_string()))?;
                Ok::<_, CommandError>(Some(done.map_err(SplitCommandError::from)?))
            }
            _ = signals.next() => Ok(None),
        }
    });
    bar.finish_and_clear();
    let ended = ended?;
    if ended.is_none() {
        // Files appear whole or not at all, so the work may simply be left where it is.
        runtime.shutdown_background();
        console.note(&format!(
            "stopped; {} is incomplete: run the same command again to go on where it stopped",
            output.display()
        ));
    }
    drop(lock);
    Ok(ended)
}

fn plan(cut: &CutArgs) -> Result<SlicePlan, CommandError> {
    if let Some(boundaries) = &cut.boundaries {
        return Ok(SlicePlan::Boundaries(boundaries.clone()));
    }
    if let Some(memory) = &cut.memory {
        let sizes = memory.iter().map(|text| text.parse::<ByteSize>());
        let sizes: Result<Vec<ByteSize>, _> = sizes.collect();
        let sizes = sizes.map_err(|error| CommandError::Usage(format!("--memory: {error}")))?;
        return Ok(SlicePlan::Budgets(sizes));
    }
    Ok(SlicePlan::Even(cut.slices.unwrap_or(1)))
}

fn show(
    context: &Context,
    args: &SplitArgs,
    outcome: &Outcome,
    rounded: &BTreeSet<String>,
) -> Result<(), CommandError> {
    let (manifest, loss) = (&outcome.manifest, outcome.loss.relative());
    let bytes: u64 = manifest.parts.iter().map(|part| part.bytes).sum();
    let slices: Vec<_> = manifest.slices();
    if args.json {
        let slices = slices
            .iter()
            .map(|s| json!({ "start": s.layers.start, "end": s.layers.end }));
        context.console.json(&json!({
            "model": manifest.model.to_string(),
            "name": manifest.name,
            "folder": args.output,
            "files": manifest.parts.len() + manifest.files.len(),
            "bytes": bytes,
            "relative_error": loss,
            "rounded_to_bf16": rounded,
            "slices": slices.collect::<Vec<_>>(),
        }))?;
        return Ok(());
    }
    let mut text = format!(
        "{}: {} in {}\n",
        manifest.name,
        ByteSize(bytes),
        args.output.display()
    );
    text.push_str(&format!("model id {}\n", manifest.model));
    if !rounded.is_empty() {
        let types: Vec<_> = rounded.iter().map(String::as_str).collect();
        text.push_str(&format!(
            "blocks of {} were rounded to bf16, in which they are served\n",
            types.join(", ")
        ));
    }
    text.push_str(&match loss {
        0.0 => "every weight kept exactly\n".to_owned(),
        loss => format!(
            "converted with an error of {:.3} % of the weights (root mean square)\n",
            100.0 * loss
        ),
    });
    for slice in slices {
        text.push_str(&format!("  {slice}\n"));
    }
    context.console.text(&text)?;
    Ok(())
}
