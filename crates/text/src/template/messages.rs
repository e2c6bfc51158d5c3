//! Messages and tools as values for a template, with marks where clients must not be believed.

use minijinja::Value;
use serde_json::{Map, Value as Json};

use super::limits::{DEPTH_MAX, MESSAGES_MAX, OUTPUT_BYTES_MAX};
use super::{ChatRequest, ChatTemplate, TemplateError};
use crate::tokenizer::ControlTokens;

/// How texts of clients are marked.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    pub(super) control: &'a ControlTokens,
    pub(super) mark: char,
}

/// A noncharacter that occurs neither in the request nor in the template.
pub(super) fn mark(request: &ChatRequest<'_>, source: &str) -> Result<char, TemplateError> {
    let mut used = [false; 32];
    note(source, &mut used);
    let extra = request.extra.into_iter().flat_map(Map::values);
    for value in request.messages.iter().chain(request.tools).chain(extra) {
        note_all(value, &mut used, 0);
    }
    let free = used
        .iter()
        .position(|used| !used)
        .ok_or(TemplateError::NoMark)?;
    char::from_u32(0xfdd0 + free as u32).ok_or(TemplateError::NoMark)
}

fn note(text: &str, used: &mut [bool; 32]) {
    // In UTF-8 all of them begin with 0xef.
    if text.as_bytes().contains(&0xef) {
        for character in text.chars() {
            if let Some(flag) = used.get_mut((u32::from(character).wrapping_sub(0xfdd0)) as usize) {
                *flag = true;
            }
        }
    }
}

fn note_all(value: &Json, used: &mut [bool; 32], depth: usize) {
    match value {
        // Deeper ones are refused later.
        _ if depth > DEPTH_MAX => {}
        Json::String(text) => note(text, used),
        Json::Array(list) => list.iter().for_each(|item| note_all(item, used, depth + 1)),
        Json::Object(map) => map.iter().for_each(|(key, item)| {
            note(key, used);
            note_all(item, used, depth + 1);
        }),
        _ => {}
    }
}

/// The variables of a template.
pub(super) fn context(
    template: &ChatTemplate,
    request: &ChatRequest<'_>,
    guard: &Guard<'_>,
) -> Result<Value, TemplateError> {
    if request.messages.len() > MESSAGES_MAX {
        let max = MESSAGES_MAX as u64;
        return Err(TemplateError::Exhausted {
            what: "messages",
            max,
        });
    }
    let mut maker = Maker {
        guard,
        left: OUTPUT_BYTES_MAX,
    };
    let mut variables: Vec<(String, Value)> = Vec::new();
    for (name, value) in request.extra.into_iter().flatten() {
        if !is_identifier(name) {
            return Err(TemplateError::VariableName { name: name.clone() });
        }
        variables.push((name.clone(), maker.value(value, 0, true)?));
    }
    for (name, text) in &template.variables {
        variables.push((name.clone(), Value::from(text.as_str())));
    }
    let messages: Result<Vec<Value>, TemplateError> = request
        .messages
        .iter()
        .enumerate()
        .map(|(index, message)| maker.message(index, message, template.takes_parts))
        .collect();
    variables.push(("messages".to_owned(), Value::from(messages?)));
    let tools = request
        .tools
        .map(|tools| maker.value(tools, 0, true))
        .transpose()?;
    variables.push(("tools".to_owned(), tools.unwrap_or(Value::from(()))));
    if !variables.iter().any(|(name, _)| name == "documents") {
        variables.push(("documents".to_owned(), Value::from(())));
    }
    let add = Value::from(request.add_generation_prompt);
    variables.push(("add_generation_prompt".to_owned(), add));
    Ok(Value::from_pairs(variables))
}

fn is_identifier(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// Makes values, within the bytes that are left.
struct Maker<'a> {
    guard: &'a Guard<'a>,
    left: usize,
}

impl Maker<'_> {
    fn message(
        &mut self,
        index: usize,
        message: &Json,
        takes_parts: bool,
    ) -> Result<Value, TemplateError> {
        let problem = |problem: &str| TemplateError::Message {
            index,
            problem: problem.to_owned(),
        };
        let Json::Object(fields) = message else {
            return Err(problem("is not an object"));
        };
        if !fields.get("role").is_some_and(Json::is_string) {
            return Err(problem("has no role"));
        }
        let mut pairs = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            let value = match (key.as_str(), value) {
                ("content", Json::Array(parts)) => {
                    let texts = texts(index, parts)?;
                    match takes_parts {
                        true => self.value(value, 1, true)?,
                        false => self.text(&texts.join("\n"), true)?,
                    }
                }
                ("content", Json::String(_) | Json::Null) => self.value(value, 1, true)?,
                ("content", _) => {
                    return Err(problem("has content that is neither a string nor an array"));
                }
                ("tool_calls", calls) => self.value(&with_parsed_arguments(calls), 1, true)?,
                ("role", role) => self.value(role, 1, false)?,
                (_, other) => self.value(other, 1, true)?,
            };
            pairs.push((self.text(key, false)?, value));
        }
        Ok(Value::from_pairs(pairs))
    }

    /// `ends`: the text may be joined with others, so its ends are marked too where they may be
    /// part of a control token.
    fn value(&mut self, value: &Json, depth: usize, ends: bool) -> Result<Value, TemplateError> {
        if depth > DEPTH_MAX {
            let max = DEPTH_MAX as u64;
            return Err(TemplateError::Exhausted {
                what: "levels of nesting",
                max,
            });
        }
        Ok(match value {
            Json::Null => Value::from(()),
            Json::Bool(value) => Value::from(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), _, _) => Value::from(number),
                (_, Some(number), _) => Value::from(number),
                (_, _, number) => Value::from(number.unwrap_or(f64::NAN)),
            },
            Json::String(text) => self.text(text, ends)?,
            Json::Array(list) => {
                let items: Result<Vec<Value>, TemplateError> = list
                    .iter()
                    .map(|item| self.value(item, depth + 1, ends))
                    .collect();
                Value::from(items?)
            }
            Json::Object(map) => {
                let mut pairs = Vec::with_capacity(map.len());
                for (key, item) in map {
                    // Templates compare types with words.
                    let ends = ends && key != "type";
                    pairs.push((self.text(key, false)?, self.value(item, depth + 1, ends)?));
                }
                Value::from_pairs(pairs)
            }
        })
    }

    fn text(&mut self, text: &str, ends: bool) -> Result<Value, TemplateError> {
        let max = OUTPUT_BYTES_MAX as u64;
        let exhausted = TemplateError::Exhausted {
            what: "bytes of messages",
            max,
        };
        self.left = self.left.checked_sub(text.len()).ok_or(exhausted)?;
        let breaks = self.guard.control.breaks(text, ends);
        if breaks.is_empty() {
            return Ok(Value::from(text));
        }
        let mut marked = String::with_capacity(text.len() + 3 * breaks.len());
        let mut from = 0;
        for at in breaks {
            marked.push_str(&text[from..at]);
            marked.push(self.guard.mark);
            from = at;
        }
        marked.push_str(&text[from..]);
        Ok(Value::from(marked))
    }
}

/// The texts of content parts; other kinds are refused.
fn texts(index: usize, parts: &[Json]) -> Result<Vec<&str>, TemplateError> {
    let mut texts = Vec::with_capacity(parts.len());
    for (place, part) in parts.iter().enumerate() {
        let kind = part.get("type").and_then(Json::as_str).unwrap_or("nothing");
        match part.get("text").and_then(Json::as_str) {
            Some(text) if kind == "text" => texts.push(text),
            _ => {
                let problem =
                    format!("has content[{place}] of type {kind:?}, only text is supported");
                return Err(TemplateError::Message { index, problem });
            }
        }
    }
    Ok(texts)
}

/// OpenAI's API has the arguments of a call as JSON in a string; templates expect the object.
fn with_parsed_arguments(calls: &Json) -> Json {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        let Some(Json::Object(function)) = call.get_mut("function") else {
            continue;
        };
        let Some(Json::String(text)) = function.get("arguments") else {
            continue;
        };
        if let Ok(parsed @ Json::Object(_)) = serde_json::from_str(text) {
            function.insert("arguments".to_owned(), parsed);
        }
    }
    calls
}
