//! `skein config`: what is in force, what there is, and whether a file is right.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{CommandError, Context};
use crate::config::{Loaded, SECTIONS, explain as reference, nearest};
use crate::console::Console;
use crate::logs;

/// Work with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print what is in force and where each value came from.
    Show {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Explain every setting: type, default, environment variable, meaning.
    Explain(ExplainArgs),
    /// Read a file and say what is wrong with it.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// Arguments of `config explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Only this section or setting, such as gateway or gateway.listen.
    pub name: Option<String>,
    /// For programs.
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// As a page of documentation.
    #[arg(long)]
    pub markdown: bool,
}

pub(super) fn show(context: &Context, json: bool) -> Result<ExitCode, CommandError> {
    match json {
        true => context
            .console
            .json(&reference::show_json(&context.loaded))?,
        false => context.console.text(&reference::show(&context.loaded))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn explain(args: &ExplainArgs, console: Console) -> Result<ExitCode, CommandError> {
    if args.markdown {
        console.text(&reference::markdown())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.json {
        console.json(&reference::json())?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = args.name.as_deref().unwrap_or_default();
    let text = reference::text(name);
    if text.is_empty() {
        let fields = SECTIONS.iter().flat_map(|section| section.fields);
        let mut known: Vec<String> = fields.map(|f| format!("{}.{}", f.section, f.key)).collect();
        known.extend(SECTIONS.iter().map(|section| section.name.to_owned()));
        let near = nearest(name, known.iter().map(String::as_str));
        let hint = near.map_or_else(
            || "run `skein config explain` for all of them".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        return Err(CommandError::Usage(format!(
            "there is no setting {name}; {hint}"
        )));
    }
    console.text(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(file: &Path, console: Console) -> Result<ExitCode, CommandError> {
    let mut loaded = Loaded::defaults();
    loaded.apply_file(file)?;
    logs::filter(&loaded.settings.log.level)?;
    crate::node::check_settings(&loaded.settings)?;
    console.line(&format!("{} is valid", file.display()))?;
    Ok(ExitCode::SUCCESS)
}
