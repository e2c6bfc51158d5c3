//! Typed access to the fields of a JSON object.

use serde_json::{Map, Value};

use super::{ConfigError, cut};

/// A JSON object, with errors that name the field.
#[derive(Debug)]
pub(super) struct Fields {
    map: Map<String, Value>,
    /// What stands before a field's name in messages.
    prefix: &'static str,
}

impl Fields {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let map = serde_json::from_slice(bytes).map_err(|error| ConfigError::Json {
            problem: error.to_string(),
        })?;
        Ok(Self { map, prefix: "" })
    }

    /// The object in `field`, if there is one.
    pub(super) fn object(&self, field: &'static str) -> Result<Option<Self>, ConfigError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                map: map.clone(),
                prefix: field,
            })),
            Some(_) => Err(self.wrong(field, "an object or null")),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.map.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether the field is there, null or not.
    pub(super) fn has(&self, field: &str) -> bool {
        self.map.contains_key(field)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The field, unless absent or null.
    fn value(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// A whole number of at least one.
    pub(super) fn count(&self, field: &str) -> Result<Option<u32>, ConfigError> {
        match self.index(field)? {
            Some(0) => Err(self.wrong(field, "a whole number of at least 1")),
            other => Ok(other),
        }
    }

    /// A whole number.
    pub(super) fn index(&self, field: &str) -> Result<Option<u32>, ConfigError> {
        let whole = |value: &Value| {
            value
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| self.wrong(field, "a whole number"))
        };
        self.value(field).map(whole).transpose()
    }

    pub(super) fn number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        let real = |value: &Value| value.as_f64().ok_or_else(|| self.wrong(field, "a number"));
        self.value(field).map(real).transpose()
    }

    pub(super) fn flag(&self, field: &str) -> Result<Option<bool>, ConfigError> {
        let flag = |value: &Value| {
            value
                .as_bool()
                .ok_or_else(|| self.wrong(field, "true or false"))
        };
        self.value(field).map(flag).transpose()
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&str>, ConfigError> {
        let text = |value: &'_ Value| value.is_string();
        match self.value(field) {
            Some(value) if !text(value) => Err(self.wrong(field, "a text")),
            found => Ok(found.and_then(Value::as_str)),
        }
    }

    pub(super) fn texts(&self, field: &str) -> Result<Option<Vec<&str>>, ConfigError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        let wrong = || self.wrong(field, "a list of texts");
        let list = value.as_array().ok_or_else(wrong)?;
        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
        texts.map(Some).ok_or_else(wrong)
    }

    /// Refuses every text but the served ones.
    pub(super) fn expect_text(
        &self,
        field: &str,
        default: &str,
        served: &[&str],
    ) -> Result<(), ConfigError> {
        let found = self.text(field)?.unwrap_or(default);
        if served.contains(&found) {
            return Ok(());
        }
        Err(self.unsupported(field, "Skein has no such function"))
    }

    /// Refuses the other value of a flag.
    pub(super) fn expect_flag(
        &self,
        field: &str,
        default: bool,
        served: bool,
    ) -> Result<(), ConfigError> {
        match self.flag(field)?.unwrap_or(default) == served {
            true => Ok(()),
            false => Err(self.unsupported(field, "it changes attention in a way not served")),
        }
    }

    pub(super) fn unsupported(&self, field: &str, reason: &'static str) -> ConfigError {
        ConfigError::Unsupported {
            field: self.path(field),
            found: self.shown(field),
            reason,
        }
    }

    pub(super) fn wrong(&self, field: &str, expected: &'static str) -> ConfigError {
        ConfigError::WrongType {
            field: self.path(field),
            found: self.shown(field),
            expected,
        }
    }

    fn path(&self, field: &str) -> String {
        match self.prefix {
            "" => cut(field),
            prefix => format!("{prefix}.{}", cut(field)),
        }
    }

    fn shown(&self, field: &str) -> String {
        match self.map.get(field) {
            None => "absent".to_owned(),
            Some(Value::Array(list)) => format!("a list of {}", list.len()),
            Some(Value::Object(map)) => format!("an object of {} fields", map.len()),
            Some(value) => cut(&value.to_string()),
        }
    }
}
