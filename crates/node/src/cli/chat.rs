//! `skein chat`: a conversation on the terminal.

use std::process::ExitCode;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::answerer::{Answerer, Question};
use super::args::ChatArgs;
use super::{CommandError, Context};
use crate::node::{self, NodeError};
use crate::prompt::{Message, Prompt};
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
    /// Forgets the oldest question and its answer; false if there is none but the last question.
    fn forget_oldest(&mut self) -> bool {
        let has_old = self.messages.len() > 2;
        if has_old {
            self.messages.drain(..2);
        }
        has_old
    }

    fn all(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        system.chain(self.messages.iter().cloned()).collect()
    }
}

pub(super) fn chat(context: &Context, args: &ChatArgs) -> Result<ExitCode, CommandError> {
    let answerer = Answerer::find(context, &args.model, &args.server, &args.sampling)?;
    answerer.check_chat()?;
    let console = context.console;
    console.note(&format!("talking with {}; {HELP}", answerer.name()));
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
                let asking = ask(context, args, &answerer, &mut talk);
                match runtime.block_on(asking) {
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
    runtime.block_on(answerer.shutdown());
    runtime.shutdown_timeout(context.loaded.settings.runtime.stop.0);
    Ok(ExitCode::SUCCESS)
}

/// Asks the last question, with as much of the conversation before it as the model has room for.
async fn ask(
    context: &Context,
    args: &ChatArgs,
    answerer: &Answerer,
    talk: &mut Conversation,
) -> Result<String, CommandError> {
    let mut forgotten = false;
    loop {
        match answer(context, args, answerer, talk).await {
            Err(error) if error.is_context_full() && talk.forget_oldest() => {
                if !std::mem::replace(&mut forgotten, true) {
                    let full = "(the model's context is full: it forgets how the chat began)";
                    context.console.note(full);
                }
            }
            answered => return answered,
        }
    }
}

/// Streams one answer and returns what was said of it, also if Ctrl-C cut it.
async fn answer(
    context: &Context,
    args: &ChatArgs,
    answerer: &Answerer,
    talk: &Conversation,
) -> Result<String, CommandError> {
    // Taken anew for each answer: a signal of before is not meant for this one.
    let mut signals = StopSignals::new().map_err(NodeError::System)?;
    let console = context.console;
    let messages = talk.all();
    let question = Question {
        prompt: Prompt::Chat(&messages),
        sampling: &args.sampling,
        token_ids: false,
    };
    let answer = answerer.say(question, &mut signals, console).await?;
    match answer.finish {
        "interrupted" => console.note("(stopped)"),
        "length" => console.note("(the answer has reached its longest length)"),
        "other" => console.note("(the server ended the answer)"),
        _ => {}
    }
    Ok(answer.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_exchange_is_forgotten_but_never_the_question() {
        let texts = ["a", "b", "c", "d", "e"];
        let mut talk = Conversation {
            system: Some("s".to_owned()),
            messages: texts.map(|text| Message::new("user", text)).into(),
        };
        assert!(talk.forget_oldest() && talk.forget_oldest());
        assert!(!talk.forget_oldest());
        let left: Vec<String> = talk.all().into_iter().map(|one| one.content).collect();
        assert_eq!(left, ["s", "e"]);
    }

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
