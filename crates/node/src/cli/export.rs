//! `skein model export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use skein_base::ByteSize;
use skein_weights::checkpoint::VocabularyError;
use skein_weights::export::{Export, ExportError, Exported, SHARD_BYTES};
use skein_weights::split::Progress;

use super::target::{TargetError, target};
use super::{CommandError, Context};
use crate::carried::{Carried, carried};
use crate::config::{Format, Setting as _};
use crate::hub::Fetching;
use crate::node::{self, NodeError};
use crate::open;
use crate::stop::{INTERRUPTED, StopSignals};

/// Arguments of `model export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Folder, .gguf file, or org/name@commit.
    #[arg(value_name = "MODEL")]
    pub path: String,
    /// The folder to write; made if absent, else it must be empty.
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// What to write matrices in: auto (as the checkpoint does, quantised ones exactly, as f32), f32 or
    /// bf16.
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub format: String,
    /// Print what was written for programs.
    #[arg(long)]
    pub json: bool,
    /// Never fetch from the hub; use its local cache alone.
    #[arg(long)]
    pub offline: bool,
}

/// Why a model could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportCommandError {
    /// The folder cannot be written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Tokenizer or settings could not be read.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// Exporting failed.
    #[error(transparent)]
    Export(#[from] ExportError),
}

pub(super) fn export(context: &Context, args: &ExportArgs) -> Result<ExitCode, CommandError> {
    let console = context.console;
    let format = Format::from_text(&args.format)
        .map_err(|reason| CommandError::Usage(format!("--format: {reason}")))?;
    let fetching = Fetching::new(&context.loaded.settings.model, args.offline);
    let opened = open::open(&args.path, fetching, console)?;
    let carried = carried(opened.checkpoint.as_ref()).map_err(ExportCommandError::from)?;
    let Carried {
        files: sidecars,
        lost,
    } = carried;
    let (lock, sink) = target(&args.output).map_err(ExportCommandError::from)?;
    let bar = console.byte_bar(0);
    let runtime = node::runtime()?;
    let ended = runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let progress = bar.clone();
        let work = tokio::task::spawn_blocking(move || {
            let export = Export {
                weights: opened.checkpoint.as_ref(),
                sidecars: &sidecars,
                format: format.dtype(),
                shard_bytes: SHARD_BYTES,
                replace: false,
            };
            export.write(&sink, &mut |now: Progress| {
                progress.set_length(now.total);
                progress.set_position(now.done);
            })
        });
        tokio::select! {
            done = work => {
                let done = done.map_err(|error| NodeError::Failed(error.to_string()))?;
                Ok::<_, CommandError>(Some(done.map_err(ExportCommandError::from)?))
            }
            _ = signals.next() => Ok(None),
        }
    });
    bar.finish_and_clear();
    let Some(exported) = ended? else {
        // Files appear whole or not at all, so the work may simply be left where it is.
        runtime.shutdown_background();
        let folder = args.output.display();
        console.note(&format!(
            "stopped; {folder} is incomplete: empty it before trying again"
        ));
        return Ok(ExitCode::from(INTERRUPTED));
    };
    drop(lock);
    if let Some(error) = lost {
        console.note(&format!("without tokenizer: {}", node::chain(&error)));
    }
    show(context, args, &exported)?;
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, args: &ExportArgs, exported: &Exported) -> Result<(), CommandError> {
    if args.json {
        context.console.json(&json!({
            "folder": args.output,
            "files": exported.files,
            "bytes": exported.bytes,
            "tokenizer": exported.has_tokenizer,
        }))?;
        return Ok(());
    }
    let text = format!(
        "{} files, {} of weights in {}",
        exported.files.len(),
        ByteSize(exported.bytes),
        args.output.display()
    );
    Ok(context.console.line(&text)?)
}
