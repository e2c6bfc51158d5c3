//! A checkpoint's chat template: messages to the text that the model continues.
//!
//! Templates are Jinja as `transformers` runs it: `trim_blocks`, `lstrip_blocks`, loop controls,
//! Python's methods on strings and maps, `raise_exception`, `strftime_now`, `tojson` without HTML
//! escapes, `{% generation %}` marks (which say nothing here). Differences in how values print
//! (`True`, `None`, lists) follow Python.
//!
//! **Hostile templates** come with checkpoints. Source, output, steps, nesting and the bytes made by
//! operators, filters and methods are bounded ([`limits`]), so a template can neither run for ever
//! nor fill the memory.
//!
//! **Hostile messages**: a client may write `<|im_end|>` into a message. [`ChatTemplate::render`]
//! remembers where texts of clients must not become control tokens ([`Rendered::breaks`]), and
//! [`Tokenizer::encode_chat`](crate::Tokenizer::encode_chat) respects it. For that a noncharacter
//! (U+FDD0 to U+FDEF) that occurs nowhere else is put inside such spellings while the template
//! runs. Only tokens that the tokenizer calls special are guarded; mere additions to the vocabulary,
//! like Qwen's `<think>`, are part of what clients legitimately send back.

use serde_json::Value as Json;
use skein_weights::vocabulary::Vocabulary;

use crate::tokenizer::ControlTokens;

mod budget;
mod environment;
pub mod limits;
mod messages;
mod python;
#[cfg(test)]
mod tests;

/// Why a chat could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The checkpoint has none.
    #[error(
        "the model has no chat template: use completions, or name a built-in template (chatml)"
    )]
    Missing,
    /// There is no such built-in template.
    #[error("there is no built-in chat template {name}, only: chatml")]
    UnknownBuiltin {
        /// The name asked for.
        name: String,
    },
    /// The template is too long.
    #[error("the chat template has {found} bytes, at most {max} are read")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The template is not valid.
    #[error("the chat template is not valid (line {line}): {reason}")]
    Syntax {
        /// Line in the template, from 1; 0 if unknown.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The template refuses these messages, in its own words.
    #[error("the chat template refuses these messages: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// The template failed on these messages.
    #[error("the chat template failed (line {line}): {reason}")]
    Failed {
        /// Line in the template, from 1; 0 if unknown.
        line: usize,
        /// What went wrong.
        reason: String,
    },
    /// The template does too much.
    #[error("the chat template exceeds the limit of {max} {what}")]
    Exhausted {
        /// What there was too much of.
        what: &'static str,
        /// The most allowed.
        max: u64,
    },
    /// A message is not what a template can take.
    #[error("messages[{index}] {problem}")]
    Message {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// An additional variable cannot have this name.
    #[error("{name} cannot be the name of a template variable")]
    VariableName {
        /// The name.
        name: String,
    },
    /// The input uses up all characters that could mark its control tokens.
    #[error("the messages contain all of U+FDD0 to U+FDEF, which no text may: remove one of them")]
    NoMark,
}

/// What a template is given.
#[derive(Debug, Clone, Copy)]
pub struct ChatRequest<'a> {
    /// Objects with `role` and `content` (a string, null, or an array of text parts), as in
    /// OpenAI's API; other fields are passed on.
    pub messages: &'a [Json],
    /// The tools that the model may call, as in OpenAI's API.
    pub tools: Option<&'a Json>,
    /// Whether to end with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Further variables for the template, such as `enable_thinking`.
    pub extra: Option<&'a serde_json::Map<String, Json>>,
    /// What `strftime_now` tells, in seconds since 1970 UTC.
    pub now_unix: i64,
}

/// A rendered chat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// What the model continues; it brings its own special tokens.
    pub text: String,
    /// Ascending byte offsets into `text` that no control token may extend across: there, a client
    /// wrote what would be one.
    pub breaks: Vec<usize>,
}

/// A chat template, checked and ready.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    /// `bos_token` and its like.
    variables: Vec<(String, String)>,
    /// Whether the template reads content that is an array of parts.
    takes_parts: bool,
}

/// The format of many models without a template of their own: `<|im_start|>role`, the content,
/// `<|im_end|>`.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

impl ChatTemplate {
    /// The template of a checkpoint; [`TemplateError::Missing`] if it has none: none is made up.
    pub fn of(vocabulary: &Vocabulary) -> Result<Self, TemplateError> {
        let source = vocabulary
            .chat_template
            .as_deref()
            .ok_or(TemplateError::Missing)?;
        Self::new(source, &vocabulary.special_tokens)
    }

    /// A built-in template by name, for who asks for one. There is `chatml`; it fits only models
    /// that were trained on that format.
    pub fn builtin(name: &str) -> Result<Self, TemplateError> {
        match name {
            "chatml" => Self::new(CHATML, &[]),
            _ => Err(TemplateError::UnknownBuiltin {
                name: name.to_owned(),
            }),
        }
    }

    /// A template from its source, with the special tokens by role (`bos_token`, `eos_token`).
    pub fn new(source: &str, special_tokens: &[(String, String)]) -> Result<Self, TemplateError> {
        if source.len() > limits::SOURCE_BYTES_MAX {
            let (found, max) = (source.len(), limits::SOURCE_BYTES_MAX);
            return Err(TemplateError::TooLarge { found, max });
        }
        let source = environment::without_generation_marks(source);
        environment::check(&source)?;
        let variables = special_tokens.to_vec();
        let mut template = Self {
            source,
            variables,
            takes_parts: false,
        };
        template.takes_parts = template.probe();
        Ok(template)
    }

    /// Renders a chat. `control` is what must not come from a client:
    /// [`Tokenizer::control_tokens`](crate::Tokenizer::control_tokens).
    pub fn render(
        &self,
        request: &ChatRequest<'_>,
        control: &ControlTokens,
    ) -> Result<Rendered, TemplateError> {
        let mark = messages::mark(request, &self.source)?;
        let context = messages::context(self, request, &messages::Guard { control, mark })?;
        let text = environment::run(&self.source, context, request.now_unix)
            .map_err(|error| without_mark(error, mark))?;
        Ok(unmarked(&text, mark))
    }

    /// Whether parts come out as text when content is an array of them.
    fn probe(&self) -> bool {
        const WORD: &str = "skeinprobe";
        let part = serde_json::json!({"type": "text", "text": WORD});
        let messages = [serde_json::json!({"role": "user", "content": [part]})];
        let as_they_are = Self {
            takes_parts: true,
            ..self.clone()
        };
        let request = ChatRequest {
            messages: &messages,
            tools: None,
            add_generation_prompt: true,
            extra: None,
            now_unix: 0,
        };
        let rendered = as_they_are.render(&request, &ControlTokens::default());
        // A template that does not know parts prints the array itself, or fails.
        rendered.is_ok_and(|rendered| {
            rendered.text.contains(WORD)
                && !["'text'", "\"text\""]
                    .iter()
                    .any(|key| rendered.text.contains(key))
        })
    }
}

/// Takes the marks out and notes where they were.
fn unmarked(marked: &str, mark: char) -> Rendered {
    let mut rendered = Rendered::default();
    let mut pieces = marked.split(mark);
    rendered.text.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        rendered.breaks.push(rendered.text.len());
        rendered.text.push_str(piece);
    }
    rendered.breaks.dedup();
    rendered
}

fn without_mark(error: TemplateError, mark: char) -> TemplateError {
    match error {
        TemplateError::Refused { message } => TemplateError::Refused {
            message: message.replace(mark, ""),
        },
        TemplateError::Failed { line, reason } => TemplateError::Failed {
            line,
            reason: reason.replace(mark, ""),
        },
        other => other,
    }
}
