//! Reading a JSON object field by field, so that every complaint names the field.
//!
//! `serde`'s derive stops at the first surprise with its own wording and drops unknown fields. Here
//! each field is taken out with its type and range; what is left at the end is either known to be
//! harmless or refused by name.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{ApiError, quote};

/// The fields of one JSON object that were not taken yet.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Where the object is, such as `messages[2].`; empty for the request itself.
    path: String,
}

impl Fields {
    /// Parses a whole request body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            ApiError::invalid(format!(
                "We could not parse the JSON body of your request: it is not UTF-8 (byte {}).",
                error.valid_up_to()
            ))
        })?;
        let value: Value = serde_json::from_str(text).map_err(|error| {
            ApiError::invalid(format!(
                "We could not parse the JSON body of your request: {}",
                quote(&error.to_string())
            ))
        })?;
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path: String::new(),
            }),
            other => Err(ApiError::invalid(format!(
                "The body of the request must be a JSON object, but it is {}.",
                type_name(&other)
            ))),
        }
    }

    /// The fields of `value`, which is found at `path`.
    pub(crate) fn of(value: Value, path: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path: format!("{path}."),
            }),
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    /// The name by which a client knows field `name`.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Takes a field whatever it is; `null` is the same as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// The error of a field that must be there.
    pub(crate) fn missing(&self, name: &str) -> ApiError {
        let name = self.name(name);
        ApiError::field(&name, format!("Missing required parameter: '{name}'."))
            .with_code("missing_required_parameter")
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.name(name), "a string", &other)),
        }
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.name(name), "a boolean", &other)),
        }
    }

    pub(crate) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let full = self.name(name);
        if !value.is_i64() && !value.is_u64() {
            return Err(wrong_type(&full, "an integer", &value));
        }
        // What does not fit in 64 bits with a sign is outside every range asked for.
        if let Some(number) = value.as_i64().filter(|number| range.contains(number)) {
            return Ok(Some(number));
        }
        Err(out_of_range(&full, &value, range.start(), range.end()))
    }

    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f32>,
    ) -> Result<Option<f32>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => number_of(&value, &self.name(name), range).map(Some),
        }
    }

    /// Takes an array; `None` if absent.
    pub(crate) fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(wrong_type(&self.name(name), "an array", &other)),
        }
    }

    /// Takes an object; `None` if absent.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => Self::of(value, &self.name(name)).map(Some),
        }
    }

    /// Ends the reading: all that is left must be listed in `harmless`.
    pub(crate) fn finish(self, harmless: &[&str]) -> Result<(), ApiError> {
        for (name, value) in &self.map {
            if !value.is_null() && !harmless.contains(&name.as_str()) {
                let name = quote(&format!("{}{name}", self.path));
                return Err(ApiError::field(
                    &name,
                    format!("Unrecognized request argument supplied: {name}"),
                )
                .with_code("unknown_parameter"));
            }
        }
        Ok(())
    }
}

/// A number of `range`, as the nearest `f32`.
pub(crate) fn number_of(
    value: &Value,
    name: &str,
    range: RangeInclusive<f32>,
) -> Result<f32, ApiError> {
    let Some(number) = value.as_f64() else {
        return Err(wrong_type(name, "a number", value));
    };
    if number < f64::from(*range.start()) || number > f64::from(*range.end()) {
        return Err(out_of_range(name, value, range.start(), range.end()));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded above; rounding is meant"
    )]
    let number = number as f32;
    Ok(number)
}

/// A field that holds another type than it must.
pub(crate) fn wrong_type(name: &str, expected: &str, found: &Value) -> ApiError {
    ApiError::field(
        name,
        format!(
            "Invalid type for '{}': expected {expected}, but got {} instead.",
            quote(name),
            type_name(found)
        ),
    )
    .with_code("invalid_type")
}

fn out_of_range(
    name: &str,
    found: &Value,
    low: &impl std::fmt::Display,
    high: &impl std::fmt::Display,
) -> ApiError {
    ApiError::field(
        name,
        format!(
            "Invalid value for '{name}': expected a value from {low} to {high}, but got {}.",
            quote(&found.to_string())
        ),
    )
    .with_code("invalid_value")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
