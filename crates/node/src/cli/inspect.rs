//! `skein model inspect`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;
use skein_base::ByteSize;
use skein_weights::inspect::{Contents, Inspection, Memory, inspect as look, refused};
use skein_weights::slices::SlicePlan;
use skein_weights::split::SplitError;

use super::args::InspectArgs;
use super::split::SplitCommandError;
use super::{CommandError, Context};
use crate::hub::Fetching;
use crate::memory;
use crate::open::{self, OpenError};

pub(super) fn inspect(context: &Context, args: &InspectArgs) -> Result<ExitCode, CommandError> {
    let fetching = Fetching::new(&context.loaded.settings.model, args.offline);
    let inspection = match open::open(&args.path, fetching, context.console) {
        Ok(opened) => {
            let plan = SlicePlan::Even(args.slices);
            let mut found = look(opened.checkpoint.as_ref(), Some(&plan))
                .map_err(|error| SplitCommandError::from(SplitError::from(error)))?;
            found.name = opened.name;
            found
        }
        // A model is there, and that it cannot be served is what was asked.
        Err(OpenError::Refused { path, source }) => refused(&path.display().to_string(), &source),
        Err(error) => return Err(error.into()),
    };
    if args.json {
        let mut value = serde_json::to_value(&inspection).unwrap_or_else(
            |error| json!({ "servable": false, "refusal": format!("it cannot be shown: {error}") }),
        );
        value["memory_available"] = json!(memory::available().map(|size| size.0));
        context.console.json(&value)?;
    } else {
        context.console.text(&text(&inspection))?;
    }
    Ok(if inspection.servable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(inspection: &Inspection) -> String {
    let mut out = format!("{}\n", inspection.name);
    match &inspection.refusal {
        Some(reason) => drop(writeln!(out, "cannot be served: {reason}")),
        None => out.push_str("can be served\n"),
    }
    if let Some(contents) = &inspection.contents {
        describe(contents, &mut out);
    }
    out
}

fn describe(contents: &Contents, out: &mut String) {
    let profile = &contents.profile;
    let millions = contents.parameters as f64 / 1e6;
    let _ = writeln!(
        out,
        "\narchitecture   {:?}, {} layers, hidden {}, {} heads ({} of keys and values, {} wide)",
        profile.family,
        profile.layers,
        profile.hidden,
        profile.heads,
        profile.kv_heads,
        profile.head_dim
    );
    let _ = writeln!(
        out,
        "vocabulary     {}, {}",
        profile.vocabulary,
        if profile.tied {
            "head tied to the embedding"
        } else {
            "head of its own"
        }
    );
    let _ = writeln!(out, "context        {}", profile.context);
    let _ = writeln!(out, "parameters     {millions:.1} million");
    for (dtype, used) in &contents.dtypes {
        let _ = writeln!(
            out,
            "stored as      {dtype}: {} tensors, {}",
            used.tensors,
            ByteSize(used.bytes)
        );
    }
    let memory = contents.memory;
    let _ = writeln!(
        out,
        "memory         {} stored, {} as f32, {} as bf16, {} as q8, {} as q4",
        ByteSize(memory.stored),
        ByteSize(memory.f32),
        ByteSize(memory.bf16),
        ByteSize(memory.q8),
        ByteSize(memory.q4)
    );
    let context_bytes = contents
        .kv_bytes_per_token
        .saturating_mul(u64::from(profile.context));
    let _ = writeln!(
        out,
        "               and {} for each token of a conversation, {} in int8 ({} in f32 for a full context)",
        ByteSize(contents.kv_bytes_per_token),
        ByteSize(contents.kv_bytes_per_token_int8),
        ByteSize(context_bytes)
    );
    if let Some(available) = memory::available() {
        let _ = writeln!(out, "available      {available}");
    }
    describe_pieces(contents, out);
}

/// A line for each part and for each slice.
fn describe_pieces(contents: &Contents, out: &mut String) {
    header("part", out);
    for part in &contents.parts {
        line(&part.part, part.parameters, part.memory, out);
    }
    header("slice", out);
    for slice in &contents.slices {
        let layers = format!("{}-{}", slice.start, slice.end.saturating_sub(1));
        line(&layers, slice.parameters, slice.memory, out);
    }
}

fn header(what: &str, out: &mut String) {
    let _ = write!(out, "\n{what:<12}{:>14}", "parameters");
    for format in ["stored", "f32", "bf16", "q8", "q4"] {
        let _ = write!(out, "{format:>12}");
    }
    out.push('\n');
}

fn line(what: &str, parameters: u64, memory: Memory, out: &mut String) {
    let _ = write!(out, "{what:<12}{parameters:>14}");
    for bytes in [memory.stored, memory.f32, memory.bf16, memory.q8, memory.q4] {
        let _ = write!(out, "{:>12}", ByteSize(bytes).to_string());
    }
    out.push('\n');
}
