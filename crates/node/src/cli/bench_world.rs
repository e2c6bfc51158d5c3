//! `skein bench world`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};
use skein_learning::Kind;
use skein_learning::evaluate::Report;

use super::args::ModelArgs;
use super::{CommandError, Context, generate};
use crate::bench::world::{examine, held_out};
use crate::embedded;
use crate::node::{self, NodeError};
use crate::stop::{INTERRUPTED, StopSignals};

/// Arguments of `bench world`.
#[derive(Debug, Clone, Args)]
pub struct WorldBenchArgs {
    /// Which model, and how to run it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Questions of each kind.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub questions: usize,
    /// Which kinds, such as story,sum; else all.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = kind)]
    pub kinds: Vec<Kind>,
    /// Which world: other seeds ask other questions.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print the wrong answers too.
    #[arg(long)]
    pub failures: bool,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name).join(", ");
        format!("the kinds are {names}")
    })
}

pub(super) fn bench(context: &Context, args: &WorldBenchArgs) -> Result<ExitCode, CommandError> {
    let settings = &context.loaded.settings;
    let path = settings.model.path.as_deref().unwrap_or(embedded::NAME);
    let model = generate::load(context, path)?;
    let kinds = match args.kinds.as_slice() {
        [] => Kind::ALL.to_vec(),
        some => some.to_vec(),
    };
    let questions = held_out(args.seed, &kinds, args.questions);
    let bar = context.console.step_bar(questions.len() as u64);
    let runtime = node::runtime()?;
    let report = runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let mut progress = |answered: usize| bar.set_position(answered as u64);
        let report = tokio::select! {
            report = examine(&model, &questions, &mut progress) => Some(report?),
            _ = signals.next() => None,
        };
        model.shutdown(std::time::Duration::ZERO).await;
        Ok::<_, CommandError>(report)
    })?;
    bar.finish_and_clear();
    let Some(report) = report else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    match args.json {
        true => context.console.json(&as_json(&report))?,
        false => context.console.line(&text(&report, args.failures))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report, failures: bool) -> String {
    let mut text = report.to_string();
    for failure in report.failures.iter().filter(|_| failures) {
        text.push_str(&format!("\n{failure}\n"));
    }
    text.trim_end().to_owned()
}

fn as_json(report: &Report) -> Value {
    let scores = report.scores.iter().map(|(kind, score)| {
        let distinct = report.distinct.get(kind).map_or(0, BTreeSet::len);
        let score = json!({ "asked": score.asked, "distinct": distinct, "right": score.right });
        (kind.name().to_owned(), score)
    });
    let failures = report.failures.iter().map(|failure| {
        json!({
            "kind": failure.kind.name(),
            "conversation": failure.conversation,
            "answer": failure.answer,
            "expected": failure.expected,
            "fault": failure.fault.to_string(),
        })
    });
    json!({
        "scores": scores.collect::<Map<_, _>>(),
        "stories": {
            "sentences": report.stories.sentences,
            "grammatical": report.stories.grammatical,
            "possible": report.stories.possible,
        },
        "failures": failures.collect::<Vec<_>>(),
    })
}
