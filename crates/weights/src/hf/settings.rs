//! Tokenizer, chat template, special tokens and sampling defaults of a Hugging Face folder.

use serde_json::{Map, Value};
use skein_base::limits;

use crate::bytes::Folder;
use crate::checkpoint::{Sidecar, SidecarRole, VocabularyError};
use crate::files::{FileError, read_small};
use crate::sidecar;
use crate::vocabulary::{GenerationDefaults, Vocabulary, VocabularyKind};

/// The tokenizer.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
pub(super) const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATE_JSON: &str = "chat_template.json";
pub(super) const GENERATION: &str = "generation_config.json";
/// The model's own configuration.
pub(crate) const CONFIG: &str = "config.json";

/// Most special tokens of one role, and most ids that end an answer.
const LIST_MAX: usize = 4096;

impl From<FileError> for VocabularyError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::TooLarge { file, found, max } => Self::TooLarge { file, found, max },
            FileError::Io { file, source, .. } => Self::Io { file, source },
        }
    }
}

/// The JSON files beside the weights; an absent one is empty.
#[derive(Debug)]
pub(crate) struct Settings {
    config: Map<String, Value>,
    generation: Map<String, Value>,
    tokenizer: Map<String, Value>,
    special: Map<String, Value>,
    template: Option<String>,
}

impl Settings {
    pub(crate) fn read(folder: &dyn Folder) -> Result<Self, VocabularyError> {
        Ok(Self {
            config: object(folder, CONFIG)?,
            generation: object(folder, GENERATION)?,
            tokenizer: object(folder, TOKENIZER_CONFIG)?,
            special: object(folder, SPECIAL_TOKENS)?,
            template: template_file(folder)?,
        })
    }

    /// Sampling defaults of `generation_config.json`.
    pub(crate) fn generation_defaults(&self) -> Result<GenerationDefaults, VocabularyError> {
        let number = |name: &str| match self.generation.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(found) if found.is_finite() => Ok(Some(found as f32)),
                _ => Err(invalid(GENERATION, format!("{name} is no number"))),
            },
        };
        let sample = match self.generation.get("do_sample") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(_) => return Err(invalid(GENERATION, "do_sample is not true or false".into())),
        };
        let greedy = sample == Some(false);
        let top_k = match self.generation.get("top_k") {
            None | Some(Value::Null) => None,
            Some(value) => Some(
                id(value).ok_or_else(|| invalid(GENERATION, "top_k is no whole number".into()))?,
            ),
        };
        Ok(GenerationDefaults {
            temperature: if greedy {
                Some(0.0)
            } else {
                number("temperature")?
            },
            top_k,
            top_p: number("top_p")?,
            repetition_penalty: number("repetition_penalty")?,
        })
    }

    fn bos(&self) -> Result<Option<u32>, VocabularyError> {
        let found = [(&self.generation, GENERATION), (&self.config, CONFIG)]
            .into_iter()
            .find_map(|(map, file)| {
                Some((map.get("bos_token_id").filter(|v| !v.is_null())?, file))
            });
        let Some((value, file)) = found else {
            return Ok(None);
        };
        let wrong = || invalid(file, "bos_token_id is no token id".into());
        id(value).map(Some).ok_or_else(wrong)
    }

    /// As transformers does: `generation_config.json` decides where it speaks, else `config.json`.
    fn eos(&self) -> Result<Vec<u32>, VocabularyError> {
        for (map, file) in [(&self.generation, GENERATION), (&self.config, CONFIG)] {
            let Some(value) = map.get("eos_token_id").filter(|value| !value.is_null()) else {
                continue;
            };
            let wrong = || invalid(file, "eos_token_id is no token id or list of them".into());
            return match value {
                Value::Array(list) if list.len() <= LIST_MAX => {
                    list.iter().map(|one| id(one).ok_or_else(wrong)).collect()
                }
                one => Ok(vec![id(one).ok_or_else(wrong)?]),
            };
        }
        Ok(Vec::new())
    }

    /// Special tokens by role: `tokenizer_config.json` first, then `special_tokens_map.json`.
    fn special_tokens(&self) -> Vec<(String, String)> {
        let mut list: Vec<(String, String)> = Vec::new();
        for map in [&self.tokenizer, &self.special] {
            for (role, value) in map.iter().filter(|(role, _)| role.ends_with("_token")) {
                let known = list.iter().any(|(name, _)| name == role);
                if let Some(text) = token_text(value)
                    && !known
                    && list.len() < LIST_MAX
                {
                    list.push((role.clone(), text.to_owned()));
                }
            }
        }
        list.sort();
        list
    }

    /// The template file wins over `tokenizer_config.json`, as in transformers.
    fn chat_template(&self) -> Result<Option<String>, VocabularyError> {
        if self.template.is_some() {
            return Ok(self.template.clone());
        }
        let field = self.tokenizer.get("chat_template");
        template_value(field).map_err(|problem| invalid(TOKENIZER_CONFIG, problem))
    }
}

/// A template, or a list of named ones of which `default` counts.
fn template_value(value: Option<&Value>) -> Result<Option<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(list)) => {
            let named = |name: &str| {
                let this = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(name);
                list.iter().find(this)
            };
            let chosen = named("default").or(if list.len() == 1 { list.first() } else { None });
            let text = chosen
                .and_then(|one| one.get("template"))
                .and_then(Value::as_str);
            let wrong = "chat_template lists no template named default";
            text.map(|text| Some(text.to_owned()))
                .ok_or_else(|| wrong.to_owned())
        }
        Some(_) => Err("chat_template is neither a text nor a list".to_owned()),
    }
}

fn template_file(folder: &dyn Folder) -> Result<Option<String>, VocabularyError> {
    if let Some(bytes) = read_small(folder, TEMPLATE, limits::MODEL_JSON_BYTES_MAX)? {
        let text = String::from_utf8(bytes);
        return text
            .map(Some)
            .map_err(|_| invalid(TEMPLATE, "it is no UTF-8".into()));
    }
    let json = object(folder, TEMPLATE_JSON)?;
    template_value(json.get("chat_template")).map_err(|problem| invalid(TEMPLATE_JSON, problem))
}

/// A special token is a text, or an object with its text and how to match it.
fn token_text(value: &Value) -> Option<&str> {
    value
        .as_str()
        .or_else(|| value.get("content").and_then(Value::as_str))
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn object(folder: &dyn Folder, file: &str) -> Result<Map<String, Value>, VocabularyError> {
    match read_small(folder, file, limits::MODEL_JSON_BYTES_MAX)? {
        None => Ok(Map::new()),
        Some(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| invalid(file, error.to_string()))
        }
    }
}

fn invalid(file: &str, problem: String) -> VocabularyError {
    VocabularyError::Invalid {
        file: file.to_owned(),
        problem,
    }
}

/// Reads everything that turns words into tokens.
pub fn read_vocabulary(folder: &dyn Folder) -> Result<Vocabulary, VocabularyError> {
    let settings = Settings::read(folder)?;
    let tokenizer = read_small(folder, TOKENIZER, limits::TOKENIZER_BYTES_MAX)?;
    let missing = || VocabularyError::Missing {
        place: folder.describe(),
        hint: "tokenizer.json is needed; tokenizer.model or vocab.json alone are not read \
               (transformers: AutoTokenizer.from_pretrained(..).save_pretrained(..) writes it)",
    };
    Ok(Vocabulary {
        kind: VocabularyKind::TokenizerJson(tokenizer.ok_or_else(missing)?),
        chat_template: settings.chat_template()?,
        special_tokens: settings.special_tokens(),
        bos: settings.bos()?,
        eos: settings.eos()?,
    })
}

/// Whether a split may have written a file of this name beside the parts.
pub(crate) fn is_sidecar_file(name: &str) -> bool {
    let own = [sidecar::GGUF_TOKENIZER_FILE, sidecar::SETTINGS_FILE];
    let theirs = [
        TEMPLATE,
        TEMPLATE_JSON,
        CONFIG,
        GENERATION,
        SPECIAL_TOKENS,
        TOKENIZER,
        TOKENIZER_CONFIG,
    ];
    own.contains(&name) || theirs.contains(&name)
}

/// The last component of the folder's description, or what an older one says in its config.
pub(super) fn name(folder: &dyn Folder) -> String {
    let place = folder.describe();
    let last = place
        .trim_end_matches(['/', '\\'])
        .rsplit(['/', '\\'])
        .next();
    last.filter(|last| !last.is_empty())
        .unwrap_or("model")
        .to_owned()
}

/// The small files that go along, sorted by name; a checkpoint without tokenizer has none such.
pub fn sidecars(folder: &dyn Folder) -> Result<Vec<Sidecar>, VocabularyError> {
    let settings = SidecarRole::Settings;
    let mut list = Vec::new();
    for (name, role, max) in [
        (TEMPLATE, settings, limits::MODEL_JSON_BYTES_MAX),
        (TEMPLATE_JSON, settings, limits::MODEL_JSON_BYTES_MAX),
        (CONFIG, settings, limits::MODEL_JSON_BYTES_MAX),
        (GENERATION, settings, limits::MODEL_JSON_BYTES_MAX),
        (SPECIAL_TOKENS, settings, limits::MODEL_JSON_BYTES_MAX),
        (
            TOKENIZER,
            SidecarRole::Tokenizer,
            limits::TOKENIZER_BYTES_MAX,
        ),
        (TOKENIZER_CONFIG, settings, limits::MODEL_JSON_BYTES_MAX),
    ] {
        if let Some(bytes) = read_small(folder, name, max)? {
            list.push(Sidecar {
                name: name.to_owned(),
                role,
                bytes,
            });
        }
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}
