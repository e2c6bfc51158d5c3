//! What chat and plain completions ask for in the same words.

use serde_json::Value;

use super::SamplingFields;
use crate::error::{ApiError, quote};
use crate::json::{Fields, number_of, wrong_type};

/// Most stop strings of a request; OpenAI's own bound.
const STOPS_MAX: usize = 4;
/// Longest stop string, in bytes. Text is held back for as long as it could become one.
const STOP_BYTES_MAX: usize = 1024;
/// Most choices of one request; OpenAI's own bound.
pub(crate) const CHOICES_MAX: usize = 128;
/// Most tokens with a bias; each is asked of the last stage beside the best ones.
const BIASES_MAX: usize = 512;
/// Longest answer that may be asked for; the model's context is the real bound.
const ANSWER_TOKENS_MAX: i64 = 1 << 32;
/// Instead of a length: as long as the context allows. Other servers read it the same way.
const ANSWER_UNBOUNDED: i64 = -1;

/// Fields that change nothing in the answer, so that leaving them aside is what they ask for.
pub(super) const HARMLESS: &[&str] = &[
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
];

/// Sampling, length and form of the answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Common {
    /// The model's name as the client wrote it.
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) choices: usize,
    pub(crate) max_tokens: AnswerLength,
    /// The field that holds the prompt.
    pub(crate) prompt_param: &'static str,
    /// The field in which the client gave `max_tokens`.
    pub(crate) max_tokens_param: &'static str,
    pub(crate) stop: Vec<String>,
    pub(crate) seed: Option<u64>,
    /// How many alternatives to list for each token, if log-probabilities are wanted at all.
    pub(crate) logprobs: Option<usize>,
    /// Extension: whether the answer's token ids are wanted.
    pub(crate) token_ids: bool,
    pub(crate) ignore_eos: bool,
    pub(crate) sampling: SamplingFields,
}

/// How long an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerLength {
    /// The request does not say.
    Unsaid,
    /// As long as the context allows.
    Unbounded,
    /// At most this many tokens.
    AtMost(usize),
}

/// Takes all common fields but `logprobs`, whose type differs between endpoints, and
/// `prompt_param`, the endpoint's own.
pub(super) fn take(fields: &mut Fields, prompt_param: &'static str) -> Result<Common, ApiError> {
    let model = fields
        .string("model")?
        .ok_or_else(|| fields.missing("model"))?;
    refuse(fields)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let include_usage = stream_options(fields, stream)?;
    let (max_tokens, max_tokens_param) = max_tokens(fields)?;
    Ok(Common {
        model,
        stream,
        include_usage,
        choices: to_usize(fields.integer("n", 1..=CHOICES_MAX as i64)?).unwrap_or(1),
        max_tokens,
        prompt_param,
        max_tokens_param,
        stop: stop(fields)?,
        // Any 64 bits make a seed; negative ones are as good as others.
        seed: fields
            .integer("seed", i64::MIN..=i64::MAX)?
            .map(i64::cast_unsigned),
        logprobs: None,
        token_ids: fields.boolean("return_token_ids")?.unwrap_or(false),
        ignore_eos: fields.boolean("ignore_eos")?.unwrap_or(false),
        sampling: sampling(fields)?,
    })
}

/// An integer that was bounded from below by zero.
pub(super) fn to_usize(value: Option<i64>) -> Option<usize> {
    value.and_then(|value| usize::try_from(value).ok())
}

/// Fields that would change the answer in a way that is not offered.
fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    const TOOLS: &[&str] = &["tools", "functions", "function_call", "tool_choice"];
    for name in TOOLS {
        let neutral = |value: &Value| {
            value == "none" || value == "auto" || value.as_array().is_some_and(Vec::is_empty)
        };
        if fields.take(name).is_some_and(|value| !neutral(&value)) {
            return Err(ApiError::unsupported(
                *name,
                format!(
                    "'{name}' is not supported by this server: its models are offered without tool calls."
                ),
            ));
        }
    }
    const OTHERS: &[(&str, &str)] = &[
        ("audio", "it answers in text only"),
        ("web_search_options", "it does not search the web"),
        ("reasoning_effort", "its models have no such setting"),
        ("suffix", "its models complete at the end only"),
        ("verbosity", "its models have no such setting"),
    ];
    for (name, why) in OTHERS {
        if fields.take(name).is_some() {
            return Err(ApiError::unsupported(
                *name,
                format!("'{name}' is not supported by this server: {why}."),
            ));
        }
    }
    response_format(fields)?;
    modalities(fields)
}

fn response_format(fields: &mut Fields) -> Result<(), ApiError> {
    let Some(mut format) = fields.object("response_format")? else {
        return Ok(());
    };
    let kind = format
        .string("type")?
        .ok_or_else(|| format.missing("type"))?;
    if kind == "text" {
        return format.finish(&[]);
    }
    Err(ApiError::unsupported(
        "response_format.type",
        format!(
            "'response_format' of type '{}' is not supported by this server: only 'text' is.",
            quote(&kind)
        ),
    ))
}

fn modalities(fields: &mut Fields) -> Result<(), ApiError> {
    match fields.array("modalities")? {
        Some(items) if items.iter().any(|item| item != "text") => Err(ApiError::unsupported(
            "modalities",
            "'modalities' other than [\"text\"] are not supported by this server.",
        )),
        _ => Ok(()),
    }
}

fn stream_options(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(mut options) = fields.object("stream_options")? else {
        return Ok(false);
    };
    if !stream {
        return Err(ApiError::field(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        ));
    }
    let include_usage = options.boolean("include_usage")?.unwrap_or(false);
    options.finish(&["include_obfuscation"])?;
    Ok(include_usage)
}

fn max_tokens(fields: &mut Fields) -> Result<(AnswerLength, &'static str), ApiError> {
    let new = answer_length(fields, "max_completion_tokens")?;
    let old = answer_length(fields, "max_tokens")?;
    match (new, old) {
        (AnswerLength::Unsaid, old) => Ok((old, "max_tokens")),
        (new, old) if old == AnswerLength::Unsaid || new == old => {
            Ok((new, "max_completion_tokens"))
        }
        _ => Err(ApiError::field(
            "max_tokens",
            "Setting 'max_tokens' and 'max_completion_tokens' to different values is not supported.",
        )),
    }
}

fn answer_length(fields: &mut Fields, name: &str) -> Result<AnswerLength, ApiError> {
    let length = match fields.integer(name, ANSWER_UNBOUNDED..=ANSWER_TOKENS_MAX)? {
        None => AnswerLength::Unsaid,
        Some(ANSWER_UNBOUNDED) => AnswerLength::Unbounded,
        Some(0) => {
            let message = format!("Invalid value for '{name}': an answer has at least one token.");
            return Err(ApiError::field(name, message).with_code("invalid_value"));
        }
        length => AnswerLength::AtMost(to_usize(length).unwrap_or(usize::MAX)),
    };
    Ok(length)
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let items = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(text @ Value::String(_)) => vec![text],
        Some(other) => {
            return Err(wrong_type(
                "stop",
                "a string or an array of strings",
                &other,
            ));
        }
    };
    if items.len() > STOPS_MAX {
        return Err(ApiError::field(
            "stop",
            format!(
                "Invalid 'stop': at most {STOPS_MAX} strings are allowed, but got {}.",
                items.len()
            ),
        )
        .with_code("array_above_max_length"));
    }
    let mut stops = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let name = format!("stop[{index}]");
        match item {
            Value::String(text) if text.is_empty() || text.len() > STOP_BYTES_MAX => {
                return Err(ApiError::field(
                    &name,
                    format!("Invalid '{name}': a stop string has 1 to {STOP_BYTES_MAX} bytes."),
                ));
            }
            Value::String(text) => stops.push(text),
            other => return Err(wrong_type(&name, "a string", &other)),
        }
    }
    Ok(stops)
}

fn sampling(fields: &mut Fields) -> Result<SamplingFields, ApiError> {
    // -1 and 0 both switch top-k off: the two conventions in use.
    let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?;
    Ok(SamplingFields {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: top_k.map(|k| u32::try_from(k).unwrap_or(0)),
        min_p: fields.number("min_p", 0.0..=1.0)?,
        repetition_penalty: fields.number("repetition_penalty", 0.01..=10.0)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
        logit_bias: logit_bias(fields)?,
    })
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let map = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong_type("logit_bias", "an object", &other)),
    };
    if map.len() > BIASES_MAX {
        return Err(ApiError::field(
            "logit_bias",
            format!(
                "Invalid 'logit_bias': at most {BIASES_MAX} tokens are allowed, but got {}.",
                map.len()
            ),
        ));
    }
    let mut biases = std::collections::BTreeMap::new();
    for (key, value) in &map {
        let id: u32 = key.parse().map_err(|_| {
            ApiError::field(
                "logit_bias",
                format!(
                    "Invalid key in 'logit_bias': '{}' is not a token id.",
                    quote(key)
                ),
            )
        })?;
        let bias = number_of(value, "logit_bias", -100.0..=100.0)?;
        if biases.insert(id, bias).is_some() {
            return Err(ApiError::field(
                "logit_bias",
                format!("Invalid 'logit_bias': token {id} occurs twice."),
            ));
        }
    }
    Ok(biases.into_iter().collect())
}
