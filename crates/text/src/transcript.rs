//! A finished conversation as tokens, with those marked that the model was to say: what it is
//! trained on.

use serde_json::Value;

use crate::template::{ChatRequest, ChatTemplate, TemplateError};
use crate::tokenizer::{EncodeError, Tokenizer};

/// Why a conversation cannot be marked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranscriptError {
    /// No message is the model's.
    #[error("the conversation has no message of the assistant")]
    NoAnswer,
    /// The template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The text cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// What comes before an answer is written otherwise once the answer is there.
    #[error(
        "the chat template writes what stands before answer {answer} otherwise once it is \
         answered, so the answer's tokens cannot be told: end the conversation with that answer"
    )]
    Unstable {
        /// Which answer, counted from 1.
        answer: usize,
    },
    /// A token reaches over the border of an answer.
    #[error(
        "a token reaches over the beginning or end of answer {answer}, so the answer's tokens \
         cannot be told: let the chat template put a control token there"
    )]
    Border {
        /// Which answer, counted from 1.
        answer: usize,
    },
}

/// The tokens of a conversation, each with whether it is the model's: of every message of the
/// assistant, what follows the beginning that the template writes for an answer, up to and with
/// the token that ends it.
pub fn transcript(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Value],
    now_unix: i64,
) -> Result<Vec<(u32, bool)>, TranscriptError> {
    let write = |count: usize, add_generation_prompt: bool| {
        let request = ChatRequest {
            messages: &messages[..count],
            tools: None,
            add_generation_prompt,
            extra: None,
            now_unix,
        };
        let rendered = template.render(&request, tokenizer.control_tokens())?;
        let ids = tokenizer.encode_chat(&rendered)?;
        Ok::<_, TranscriptError>((rendered.text, ids))
    };
    let is_answer =
        |message: &Value| message.get("role").and_then(Value::as_str) == Some("assistant");
    let answers = (0..messages.len()).filter(|&index| is_answer(&messages[index]));
    let (whole, ids) = write(messages.len(), false)?;
    let mut said = vec![false; ids.len()];
    let mut found = 0;
    for index in answers {
        found += 1;
        let ((question, before), (answered, after)) =
            (write(index, true)?, write(index + 1, false)?);
        if !(answered.starts_with(&question) && whole.starts_with(&answered)) {
            return Err(TranscriptError::Unstable { answer: found });
        }
        if !(after.starts_with(&before) && ids.starts_with(&after)) {
            return Err(TranscriptError::Border { answer: found });
        }
        let answer = &ids[before.len()..after.len()];
        // What the template writes behind the end is not said by anybody.
        let end = answer.iter().position(|&id| tokenizer.is_eos(id));
        let length = end.map_or(answer.len(), |end| end + 1);
        said[before.len()..before.len() + length].fill(true);
    }
    if found == 0 {
        return Err(TranscriptError::NoAnswer);
    }
    Ok(ids.into_iter().zip(said).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use skein_weights::vocabulary::{Vocabulary, VocabularyKind};

    use super::*;

    const FILE: &[u8] = include_bytes!("../../../fixtures/qwen2/tokenizer.json");

    fn tokenizer() -> Tokenizer {
        let mut vocabulary = Vocabulary {
            kind: VocabularyKind::TokenizerJson(FILE.to_vec()),
            chat_template: None,
            special_tokens: vec![],
            bos: None,
            eos: vec![],
        };
        let end = Tokenizer::new(&vocabulary)
            .unwrap()
            .token_to_id("<|im_end|>");
        vocabulary.eos = vec![end.unwrap()];
        Tokenizer::new(&vocabulary).unwrap()
    }

    fn chat(turns: &[(&str, &str)]) -> Vec<Value> {
        let message = |(role, content): &(&str, &str)| json!({"role": role, "content": content});
        turns.iter().map(message).collect()
    }

    /// What is marked, as text, control tokens spelled out.
    fn said(tokenizer: &Tokenizer, marked: &[(u32, bool)]) -> String {
        let marked = marked.iter().filter(|(_, said)| *said);
        let bytes = marked.flat_map(|(id, _)| tokenizer.token_bytes(*id).unwrap());
        String::from_utf8(bytes.collect()).unwrap()
    }

    #[test]
    fn marks_every_answer_with_its_end() {
        let tokenizer = tokenizer();
        let template = ChatTemplate::builtin("chatml").unwrap();
        let messages = chat(&[
            ("system", "Be short."),
            ("user", "Who walks?"),
            ("assistant", "The fox."),
            ("user", "And <|im_end|> who sleeps?"),
            ("assistant", "Nobody <|im_end|> does."),
        ]);
        let marked = transcript(&tokenizer, &template, &messages, 0).unwrap();
        let expected = "The fox.<|im_end|>Nobody <|im_end|> does.<|im_end|>";
        assert_eq!(said(&tokenizer, &marked), expected);
        // A message that spells the end does not end it: only real ends are control tokens.
        let ends = marked.iter().filter(|(id, _)| tokenizer.is_eos(*id));
        assert_eq!(ends.count(), 5);
        let ids: Vec<u32> = marked.iter().map(|(id, _)| *id).collect();
        let whole = ChatRequest {
            messages: &messages,
            tools: None,
            add_generation_prompt: false,
            extra: None,
            now_unix: 0,
        };
        let rendered = template.render(&whole, tokenizer.control_tokens()).unwrap();
        assert_eq!(ids, tokenizer.encode_chat(&rendered).unwrap());
    }

    #[test]
    fn a_template_that_rewrites_history_is_refused() {
        let tokenizer = tokenizer();
        let source = "{% for m in messages %}{% if loop.last or m.role == 'user' %}[{{ m.content }}]\
                      {% endif %}{% endfor %}{% if add_generation_prompt %}>{% endif %}";
        let template = ChatTemplate::new(source, &[]).unwrap();
        let messages = chat(&[
            ("user", "a"),
            ("assistant", "b"),
            ("user", "c"),
            ("assistant", "d"),
        ]);
        let error = transcript(&tokenizer, &template, &messages, 0).unwrap_err();
        assert!(
            matches!(error, TranscriptError::Unstable { answer: 1 }),
            "{error}"
        );
        // The text stays, but its tokens do not: " f" and "o" become one.
        let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
        let template = ChatTemplate::new(plain, &[]).unwrap();
        let joined = chat(&[("user", "The f"), ("assistant", "ox")]);
        let error = transcript(&tokenizer, &template, &joined, 0).unwrap_err();
        assert!(
            matches!(error, TranscriptError::Border { answer: 1 }),
            "{error}"
        );
        let question = chat(&[("user", "a")]);
        let error = transcript(&tokenizer, &template, &question, 0).unwrap_err();
        assert!(matches!(error, TranscriptError::NoAnswer));
    }
}
