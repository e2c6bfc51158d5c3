//! The reference of all settings, as text, Markdown and JSON.

use std::fmt::Write as _;

use super::load::environment_name;
use super::{Field, Loaded, SECTIONS, Settings};

impl Field {
    /// The default as it would be written in a file; `None` if the setting is not set by default.
    pub fn default_value(&self) -> Option<toml::Value> {
        Settings::default().get(self.section, self.key)
    }

    /// The documentation as one paragraph.
    pub fn paragraph(&self) -> String {
        join(self.doc)
    }

    fn default_text(&self) -> String {
        self.default_value()
            .map_or_else(|| "not set".to_owned(), |value| value.to_string())
    }
}

fn join(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// Every setting whose `section.key` begins with `filter`, as text for a terminal.
pub fn text(filter: &str) -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let fields = section
            .fields
            .iter()
            .filter(|f| format!("{}.{}", f.section, f.key).starts_with(filter));
        let fields: Vec<&Field> = fields.collect();
        if fields.is_empty() {
            continue;
        }
        let _ = writeln!(out, "[{}]  {}\n", section.name, join(section.doc));
        for field in fields {
            let _ = writeln!(
                out,
                "  {} ({}, default: {})",
                field.key,
                field.type_name,
                field.default_text()
            );
            let _ = writeln!(out, "      environment: {}", environment_name(field));
            for line in field.doc {
                let _ = writeln!(out, "      {}", line.trim());
            }
            out.push('\n');
        }
    }
    out
}

/// The same as a page of documentation.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         Written by `skein config explain --markdown`; a test compares the two.\n\n\
         One TOML file serves every role. What it says is overridden by environment variables, and \
         these by flags. The file is the one given by `--config`, else by `SKEIN_CONFIG`, else \
         `skein/skein.toml` in `$XDG_CONFIG_HOME` or `~/.config`, if it is there. `skein config show` \
         prints what is in force and where each value came from; `skein config check FILE` reads a \
         file and says what is wrong with it.\n",
    );
    for section in SECTIONS {
        let _ = write!(out, "\n## [{}]\n\n{}\n", section.name, join(section.doc));
        for field in section.fields {
            let _ = write!(
                out,
                "\n### `{}`\n\n{}\n\n- type: {}\n- default: `{}`\n- environment: `{}`\n",
                field.key,
                field.paragraph(),
                field.type_name,
                field.default_text(),
                environment_name(field),
            );
        }
    }
    out
}

/// The same for programs.
pub fn json() -> serde_json::Value {
    let fields = SECTIONS
        .iter()
        .flat_map(|section| section.fields)
        .map(|field| {
            serde_json::json!({
                "section": field.section,
                "key": field.key,
                "type": field.type_name,
                "default": field.default_value(),
                "environment": environment_name(field),
                "doc": field.paragraph(),
            })
        });
    serde_json::Value::Array(fields.collect())
}

/// What is in force, as a file that could be read again, with the origin of each value.
pub fn show(loaded: &Loaded) -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let _ = writeln!(out, "[{}]", section.name);
        for field in section.fields {
            let origin = loaded.origin(field);
            let _ = match loaded.settings.get(field.section, field.key) {
                Some(value) => writeln!(out, "{} = {value} # {origin}", field.key),
                None => writeln!(out, "# {} is not set", field.key),
            };
        }
        out.push('\n');
    }
    out
}

impl Settings {
    /// A configuration file that says what differs from the defaults.
    pub fn to_file(&self) -> String {
        let mut out = String::new();
        for section in SECTIONS {
            let differs = |field: &&Field| {
                let value = self.get(field.section, field.key);
                value != field.default_value()
            };
            let fields: Vec<&Field> = section.fields.iter().filter(differs).collect();
            if fields.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n[{}]", section.name);
            for field in fields {
                if let Some(value) = self.get(field.section, field.key) {
                    let _ = writeln!(out, "{} = {value}", field.key);
                }
            }
        }
        out
    }
}

/// What is in force, for programs.
pub fn show_json(loaded: &Loaded) -> serde_json::Value {
    let mut sections = serde_json::Map::new();
    for section in SECTIONS {
        let fields = section.fields.iter().map(|field| {
            let value = loaded.settings.get(field.section, field.key);
            let origin = loaded.origin(field).to_string();
            (
                field.key.to_owned(),
                serde_json::json!({ "value": value, "origin": origin }),
            )
        });
        sections.insert(section.name.to_owned(), fields.collect());
    }
    serde_json::Value::Object(sections)
}
