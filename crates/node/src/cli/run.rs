//! `skein run`.

use std::io::{self, Read as _};
use std::process::ExitCode;

use serde_json::json;

use super::answerer::{Answerer, Question};
use super::args::RunArgs;
use super::{CommandError, Context};
use crate::console::Console;
use crate::generate::Answer;
use crate::node::{self, NodeError};
use crate::prompt::{Message, Prompt};
use crate::stop::{INTERRUPTED, StopSignals};

/// Longest prompt that is read from standard input, in bytes.
const PROMPT_BYTES_MAX: u64 = 16 << 20;

pub(super) fn run(context: &Context, args: &RunArgs) -> Result<ExitCode, CommandError> {
    let text = prompt_text(args)?;
    let answerer = Answerer::find(context, &args.model, &args.server, &args.sampling)?;
    let system = args.system.iter().map(|text| Message::new("system", text));
    let messages: Vec<_> = system.chain([Message::new("user", &text)]).collect();
    let question = Question {
        prompt: match args.raw {
            true => Prompt::Raw(&text),
            false => Prompt::Chat(&messages),
        },
        sampling: &args.sampling,
        token_ids: args.json,
    };
    let runtime = node::runtime()?;
    let done = runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let answer = if args.json {
            let answer = answerer.answer(question, &mut signals, |_| Ok(())).await?;
            show(context.console, &answer)?;
            answer
        } else {
            let console = context.console;
            answerer.say(question, &mut signals, console).await?
        };
        answerer.shutdown().await;
        Ok(if answer.finish == "interrupted" {
            ExitCode::from(INTERRUPTED)
        } else {
            ExitCode::SUCCESS
        })
    });
    runtime.shutdown_timeout(context.loaded.settings.runtime.stop.0);
    done
}

fn prompt_text(args: &RunArgs) -> Result<String, CommandError> {
    if args.prompt != "-" {
        return Ok(args.prompt.clone());
    }
    let mut text = String::new();
    let read = io::stdin()
        .lock()
        .take(PROMPT_BYTES_MAX + 1)
        .read_to_string(&mut text);
    let what = "cannot read the prompt from standard input".to_owned();
    match read {
        Ok(bytes) if bytes as u64 > PROMPT_BYTES_MAX => Err(CommandError::Usage(format!(
            "the prompt has more than {PROMPT_BYTES_MAX} bytes"
        ))),
        Ok(_) => Ok(text),
        Err(source) => Err(CommandError::Io { what, source }),
    }
}

fn show(console: Console, answer: &Answer) -> Result<(), CommandError> {
    let usage = answer.usage.map(|usage| {
        json!({
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "reused_tokens": usage.reused,
        })
    });
    console.json(&json!({
        "text": answer.text,
        "tokens": answer.tokens,
        "finish_reason": answer.finish,
        "usage": usage,
    }))?;
    Ok(())
}
