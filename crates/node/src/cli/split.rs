//! `skein model split`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use skein_base::ByteSize;
use skein_weights::Manifest;
use skein_weights::slices::SlicePlan;
use skein_weights::split::{SplitError, SplitOptions, split as split_into};

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
    let Some(manifest) = write(console, opened, &args.output, wish)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    show(context, args, &manifest)?;
    Ok(ExitCode::SUCCESS)
}

/// Splits into a folder while a bar shows how far it is. `None` if a signal came; the folder can be
/// completed then.
pub(super) fn write(
    console: Console,
    opened: Opened,
    output: &Path,
    wish: SplitWish,
) -> Result<Option<Manifest>, CommandError> {
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

fn show(context: &Context, args: &SplitArgs, manifest: &Manifest) -> Result<(), CommandError> {
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
    for slice in slices {
        text.push_str(&format!("  {slice}\n"));
    }
    context.console.text(&text)?;
    Ok(())
}
