//! `skein chat`: a conversation on the terminal.

use std::process::ExitCode;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::args::ChatArgs;
use super::{CommandError, Context, generate};
use crate::generate::{Assembly, GenerateError, read};
use crate::node::{self, LocalModel, NodeError};
use crate::prompt::{Message, chat_prompt};
use crate::stop::StopSignals;

/// What a line of the user means.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Say(&'a str),
    Exit,
    Reset,
    System(&'a str),
    Help,
    Unknown(&'a str),
}

const HELP: &str = "/reset forgets the conversation, /system TEXT sets the system message (empty: \
     none), /exit or Ctrl-D leaves; Ctrl-C stops an answer";

fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match word {
        "" => Line::Nothing,
        "/exit" | "/quit" | "/bye" => Line::Exit,
        "/reset" | "/clear" => Line::Reset,
        "/system" => Line::System(rest.trim()),
        "/help" | "/?" => Line::Help,
        // A path may begin like this; a command has one word of letters.
        _ if word.starts_with('/') && word[1..].chars().all(char::is_alphabetic) => {
            Line::Unknown(word)
        }
        _ => Line::Say(line),
    }
}

/// The messages so far.
#[derive(Debug, Default)]
struct Conversation {
    system: Option<String>,
    messages: Vec<Message>,
}

impl Conversation {
    fn all(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        system.chain(self.messages.iter().cloned()).collect()
    }
}

pub(super) fn chat(context: &Context, args: &ChatArgs) -> Result<ExitCode, CommandError> {
    let model = generate::load(context, &args.sampling)?;
    if model.template.is_none() {
        return Err(GenerateError::NoTemplate { model: model.name }.into());
    }
    let console = context.console;
    console.note(&format!("talking with {}; {HELP}", model.name));
    let runtime = node::runtime()?;
    let mut editor = DefaultEditor::new()?;
    let mut talk = Conversation {
        system: args.system.clone(),
        messages: Vec::new(),
    };
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            // Ctrl-C at the prompt drops the line, as shells do.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        match parse(&line) {
            Line::Nothing => {}
            Line::Exit => break,
            Line::Help => console.note(HELP),
            Line::Unknown(word) => console.note(&format!("there is no {word}; {HELP}")),
            Line::Reset => talk.messages.clear(),
            Line::System(text) => talk.system = (!text.is_empty()).then(|| text.to_owned()),
            Line::Say(text) => {
                // Only the terminal's own history, in memory; nothing of a chat is written to disk.
                let _ = editor.add_history_entry(&line);
                talk.messages.push(Message::new("user", text));
                match runtime.block_on(answer(context, args, &model, &talk)) {
                    Ok(text) => talk.messages.push(Message::new("assistant", &text)),
                    Err(CommandError::Output(error)) => return Err(error.into()),
                    // A question too long, say, must not end the chat.
                    Err(error) => {
                        talk.messages.pop();
                        console.note(&format!("{:#}", node::chain(&error)));
                    }
                }
            }
        }
    }
    runtime.block_on(model.shutdown(std::time::Duration::ZERO));
    Ok(ExitCode::SUCCESS)
}

/// Streams one answer and returns what was said of it, also if Ctrl-C cut it.
async fn answer(
    context: &Context,
    args: &ChatArgs,
    model: &LocalModel,
    talk: &Conversation,
) -> Result<String, CommandError> {
    // Taken anew for each answer: a signal of before is not meant for this one.
    let mut signals = StopSignals::new().map_err(NodeError::System)?;
    let prompt = chat_prompt(model, &talk.all())?;
    let request = args.sampling.request(model, prompt)?;
    let assembly =
        Assembly::new(&model.tokenizer, &args.sampling.stop).map_err(GenerateError::from)?;
    let generation = model.handle.submit(request).map_err(GenerateError::from)?;
    let interrupted = async {
        signals.next().await;
    };
    let console = context.console;
    let answer = read(generation, assembly, interrupted, |text| console.text(text)).await?;
    console.text("\n")?;
    match answer.finish {
        "interrupted" => console.note("(stopped)"),
        "length" => console.note("(the answer has reached its longest length)"),
        _ => {}
    }
    Ok(answer.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let cases = [
            ("", Line::Nothing),
            ("  hello there ", Line::Say("hello there")),
            ("/exit", Line::Exit),
            ("/reset", Line::Reset),
            ("/system  Be brief. ", Line::System("Be brief.")),
            ("/system", Line::System("")),
            ("/rest", Line::Unknown("/rest")),
            ("/etc/passwd is a file", Line::Say("/etc/passwd is a file")),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), expected, "{line:?}");
        }
    }
}
