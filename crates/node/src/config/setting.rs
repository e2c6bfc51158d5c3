//! Types that a setting can have: how they are written, read and named.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use skein_base::ByteSize;
use skein_model::KvFormat;
use skein_weights::Dtype;

/// A type of settings. Reading says in words what it expected.
pub trait Setting: Sized {
    /// What `config explain` calls the type.
    const TYPE: &'static str;

    /// Reads a value of the configuration file.
    fn from_toml(value: &toml::Value) -> Result<Self, String>;

    /// Reads the text of an environment variable or a flag.
    fn from_text(text: &str) -> Result<Self, String>;

    /// How the value is written in a file; `None` if it is not set.
    fn to_toml(&self) -> Option<toml::Value>;
}

/// The numeric format that weights are held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// As the checkpoint stores them.
    #[default]
    Auto,
    /// IEEE single precision.
    F32,
    /// The upper half of single precision.
    Bf16,
    /// Blocks of eight bits a value.
    Q8,
    /// Blocks of four bits a value.
    Q4,
}

impl Format {
    /// What to convert weights to; `None` to keep them.
    pub fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(Dtype::F32),
            Self::Bf16 => Some(Dtype::Bf16),
            Self::Q8 => Some(Dtype::Q8),
            Self::Q4 => Some(Dtype::Q4),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A length of time, written `500ms`, `30s`, `2m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            _ if !millis.is_multiple_of(1000) => write!(f, "{millis}ms"),
            _ if millis.is_multiple_of(3_600_000) && millis != 0 => {
                write!(f, "{}h", millis / 3_600_000)
            }
            _ if millis.is_multiple_of(60_000) && millis != 0 => write!(f, "{}m", millis / 60_000),
            _ => write!(f, "{}s", millis / 1000),
        }
    }
}

pub(super) fn found(value: &toml::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        None => text,
        Some((cut, _)) => format!("{}…", &text[..cut]),
    }
}

macro_rules! text_setting {
    ($type:ty, $name:literal, $expected:literal, $parse:expr, $show:expr) => {
        impl Setting for $type {
            const TYPE: &'static str = $name;

            fn from_toml(value: &toml::Value) -> Result<Self, String> {
                match value {
                    toml::Value::String(text) => Self::from_text(text),
                    other => Err(format!(
                        concat!("expected ", $expected, ", found {}"),
                        $crate::config::setting::found(other)
                    )),
                }
            }

            fn from_text(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Option<Self> = $parse;
                parse(text)
                    .ok_or_else(|| format!(concat!("expected ", $expected, ", found {:?}"), text))
            }

            fn to_toml(&self) -> Option<toml::Value> {
                let show: fn(&Self) -> String = $show;
                Some(toml::Value::String(show(self)))
            }
        }
    };
}

pub(super) use text_setting;

text_setting!(
    String,
    "text",
    "a text",
    |text| Some(text.to_owned()),
    Self::clone
);
text_setting!(
    PathBuf,
    "path",
    "a path",
    |text| (!text.is_empty()).then(|| Self::from(text)),
    |path| path.display().to_string()
);
text_setting!(
    SocketAddr,
    "address",
    "an address and a port such as \"127.0.0.1:8080\" (port 0 picks a free one)",
    |text| match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => text.parse().ok(),
    },
    ToString::to_string
);
text_setting!(
    Span,
    "duration",
    "a duration such as \"500ms\", \"30s\" or \"2m\"",
    parse_span,
    ToString::to_string
);
text_setting!(
    Format,
    "format",
    "\"auto\", \"f32\", \"bf16\", \"q8\" or \"q4\"",
    |text| match text {
        "auto" => Some(Format::Auto),
        "f32" => Some(Format::F32),
        "bf16" => Some(Format::Bf16),
        "q8" => Some(Format::Q8),
        "q4" => Some(Format::Q4),
        _ => None,
    },
    |format| format
        .dtype()
        .map_or_else(|| "auto".to_owned(), |dtype| dtype.to_string())
);
text_setting!(
    KvFormat,
    "kv format",
    "\"f32\" or \"int8\"",
    |text| KvFormat::ALL
        .into_iter()
        .find(|format| format.name() == text),
    |format| format.name().to_owned()
);
text_setting!(
    LogFormat,
    "log format",
    "\"auto\", \"human\" or \"json\"",
    |text| match text {
        "auto" => Some(LogFormat::Auto),
        "human" => Some(LogFormat::Human),
        "json" => Some(LogFormat::Json),
        _ => None,
    },
    |format| {
        match format {
            LogFormat::Auto => "auto",
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        }
        .to_owned()
    }
);

fn parse_span(text: &str) -> Option<Span> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .map(Span)
}

impl Setting for ByteSize {
    const TYPE: &'static str = "size";

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(text) => Self::from_text(text),
            toml::Value::Integer(bytes) => u64::try_from(*bytes)
                .map(Self)
                .map_err(|_| format!("a size cannot be negative, found {bytes}")),
            other => Err(format!(
                "expected a size such as \"512MiB\", found {}",
                found(other)
            )),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("{error}"))
    }

    fn to_toml(&self) -> Option<toml::Value> {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let even = units
            .iter()
            .find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        Some(match even {
            Some((name, unit)) => toml::Value::String(format!("{}{name}", self.0 / unit)),
            None => toml::Value::String(format!("{}B", self.0)),
        })
    }
}

macro_rules! whole_setting {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            const TYPE: &'static str = "whole number";

            fn from_toml(value: &toml::Value) -> Result<Self, String> {
                let number = match value {
                    toml::Value::Integer(number) => Self::try_from(*number).ok(),
                    _ => None,
                };
                number.ok_or_else(|| {
                    format!("expected a whole number from 0 to {}, found {}", Self::MAX, found(value))
                })
            }

            fn from_text(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| {
                    format!("expected a whole number from 0 to {}, found {text:?}", Self::MAX)
                })
            }

            fn to_toml(&self) -> Option<toml::Value> {
                i64::try_from(*self).ok().map(toml::Value::Integer)
            }
        }
    )*};
}
whole_setting!(u16, u32);

impl Setting for bool {
    const TYPE: &'static str = "true or false";

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| format!("expected true or false, found {}", found(value)))
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(format!("expected true or false, found {text:?}")),
        }
    }

    fn to_toml(&self) -> Option<toml::Value> {
        Some(toml::Value::Boolean(*self))
    }
}

/// Lists in files; separated by commas elsewhere.
macro_rules! list_setting {
    ($type:ty, $name:literal) => {
        impl Setting for Vec<$type> {
            const TYPE: &'static str = $name;

            fn from_toml(value: &toml::Value) -> Result<Self, String> {
                match value.as_array() {
                    Some(list) => list.iter().map(<$type as Setting>::from_toml).collect(),
                    None => Err(format!(
                        concat!("expected a ", $name, " such as [\"a\", \"b\"], found {}"),
                        $crate::config::setting::found(value)
                    )),
                }
            }

            fn from_text(text: &str) -> Result<Self, String> {
                let items = text.split(',').map(str::trim);
                let items = items.filter(|item| !item.is_empty());
                items.map(<$type as Setting>::from_text).collect()
            }

            fn to_toml(&self) -> Option<toml::Value> {
                let items = self.iter().filter_map(Setting::to_toml);
                Some(toml::Value::Array(items.collect()))
            }
        }
    };
}
pub(super) use list_setting;

list_setting!(String, "list of texts");

impl<T: Setting> Setting for Option<T> {
    const TYPE: &'static str = T::TYPE;

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        T::from_toml(value).map(Some)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::from_text(text).map(Some)
        }
    }

    fn to_toml(&self) -> Option<toml::Value> {
        self.as_ref().and_then(T::to_toml)
    }
}
