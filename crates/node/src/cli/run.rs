//! `skein run`.

use std::io::{self, Read as _};
use std::process::ExitCode;

use serde_json::json;
use skein_text::Specials;

use super::args::RunArgs;
use super::{CommandError, Context, generate};
use crate::console::Console;
use crate::generate::{Answer, Assembly, GenerateError, read};
use crate::node::{self, LocalModel, NodeError};
use crate::prompt::{Message, chat_prompt};
use crate::stop::{INTERRUPTED, StopSignals};

/// Longest prompt that is read from standard input, in bytes.
const PROMPT_BYTES_MAX: u64 = 16 << 20;

pub(super) fn run(context: &Context, args: &RunArgs) -> Result<ExitCode, CommandError> {
    let text = prompt_text(args)?;
    let model = generate::load(context, &args.sampling)?;
    let prompt = match args.raw {
        true => model
            .tokenizer
            .encode(&text, Specials::AddAndParse)
            .map_err(GenerateError::from)?,
        false => {
            let system = args.system.iter().map(|text| Message::new("system", text));
            let messages: Vec<_> = system.chain([Message::new("user", &text)]).collect();
            chat_prompt(&model, &messages)?
        }
    };
    let runtime = node::runtime()?;
    let done = runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let answer = answer(context.console, &model, prompt, args, &mut signals).await?;
        let interrupted = answer.finish == "interrupted";
        show_end(context.console, &answer, args.json)?;
        model.shutdown(std::time::Duration::ZERO).await;
        Ok(if interrupted {
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

async fn answer(
    console: Console,
    model: &LocalModel,
    prompt: Vec<u32>,
    args: &RunArgs,
    signals: &mut StopSignals,
) -> Result<Answer, CommandError> {
    let request = args.sampling.request(model, prompt)?;
    let assembly =
        Assembly::new(&model.tokenizer, &args.sampling.stop).map_err(GenerateError::from)?;
    let generation = model.handle.submit(request).map_err(GenerateError::from)?;
    let interrupted = async {
        signals.next().await;
    };
    let show = |text: &str| {
        if args.json {
            Ok(())
        } else {
            console.text(text)
        }
    };
    Ok(read(generation, assembly, interrupted, show).await?)
}

fn show_end(console: Console, answer: &Answer, json: bool) -> Result<(), CommandError> {
    if !json {
        return Ok(console.text("\n")?);
    }
    console.json(&json!({
        "text": answer.text,
        "tokens": answer.tokens,
        "finish_reason": answer.finish,
        "usage": {
            "prompt_tokens": answer.usage.prompt,
            "completion_tokens": answer.usage.completion,
            "reused_tokens": answer.usage.reused,
        },
    }))?;
    Ok(())
}
