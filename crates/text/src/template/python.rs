//! What templates expect of Python: how values print, `json.dumps`, `strftime`.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind};

use super::budget::{Budget, Exhausted};
use super::limits::DEPTH_MAX;

/// Text being written, paid for.
#[derive(Debug)]
pub(super) struct Text<'a> {
    text: String,
    budget: &'a Budget,
}

impl<'a> Text<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self {
            text: String::new(),
            budget,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn into_value(self) -> Value {
        Value::from(self.text)
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        // Short texts of endless lists cost more than their length.
        self.budget.charge(text.len() + 32)?;
        self.text.push_str(text);
        Ok(())
    }

    /// `str(value)`; nothing for what is not defined.
    pub(super) fn push_value(&mut self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.push(text),
            None => self.push_repr(value, 0),
        }
    }

    /// `repr(value)`.
    fn push_repr(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        check_depth(depth)?;
        match value.kind() {
            ValueKind::Undefined => Ok(()),
            ValueKind::None => self.push("None"),
            ValueKind::Bool => self.push(if value.is_true() { "True" } else { "False" }),
            ValueKind::Number => self.push(&number(value)),
            ValueKind::String => self.push(&quoted(value.as_str().unwrap_or_default())),
            ValueKind::Seq | ValueKind::Iterable => {
                let [open, close] = if value.is_tuple() {
                    ["(", ")"]
                } else {
                    ["[", "]"]
                };
                self.push(open)?;
                for (index, item) in value.try_iter()?.enumerate() {
                    self.push(if index == 0 { "" } else { ", " })?;
                    self.push_repr(&item, depth + 1)?;
                }
                self.push(close)
            }
            ValueKind::Map => {
                self.push("{")?;
                for (index, key) in value.try_iter()?.enumerate() {
                    self.push(if index == 0 { "" } else { ", " })?;
                    self.push_repr(&key, depth + 1)?;
                    self.push(": ")?;
                    self.push_repr(&value.get_item(&key)?, depth + 1)?;
                }
                self.push("}")
            }
            _ => self.push(&value.to_string()),
        }
    }

    /// `json.dumps(value)`.
    fn push_json(&mut self, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
        check_depth(depth)?;
        match value.kind() {
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&number(value)),
            ValueKind::String => self.push(&json_string(
                value.as_str().unwrap_or_default(),
                style.ensure_ascii,
            )),
            ValueKind::Seq | ValueKind::Iterable => {
                self.push("[")?;
                let mut empty = true;
                for item in value.try_iter()? {
                    self.push_item_start(style, depth, empty)?;
                    empty = false;
                    self.push_json(&item, style, depth + 1)?;
                }
                self.push_end(style, depth, empty, "]")
            }
            ValueKind::Map => self.push_json_map(value, style, depth),
            kind => Err(Error::new(
                ErrorKind::BadSerialization,
                format!("a value of type {kind} cannot be written as JSON"),
            )),
        }
    }

    fn push_json_map(&mut self, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if style.sort_keys {
            keys.sort();
        }
        self.push("{")?;
        let empty = keys.is_empty();
        for (index, key) in keys.iter().enumerate() {
            self.push_item_start(style, depth, index == 0)?;
            let name = match key.kind() {
                ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
                ValueKind::None => "null".to_owned(),
                _ => number(key),
            };
            self.push(&json_string(&name, style.ensure_ascii))?;
            self.push(&style.key_separator)?;
            self.push_json(&value.get_item(key)?, style, depth + 1)?;
        }
        self.push_end(style, depth, empty, "}")
    }

    fn push_item_start(&mut self, style: &Style, depth: usize, first: bool) -> Result<(), Error> {
        if !first {
            self.push(&style.item_separator)?;
        }
        self.push_line(style, depth + 1)
    }

    fn push_end(
        &mut self,
        style: &Style,
        depth: usize,
        empty: bool,
        close: &str,
    ) -> Result<(), Error> {
        if !empty {
            self.push_line(style, depth)?;
        }
        self.push(close)
    }

    fn push_line(&mut self, style: &Style, depth: usize) -> Result<(), Error> {
        let Some(indent) = &style.indent else {
            return Ok(());
        };
        self.push("\n")?;
        (0..depth).try_for_each(|_| self.push(indent))
    }
}

/// How `json.dumps` writes.
#[derive(Debug)]
struct Style {
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

/// The widest indentation, in characters.
const INDENT_MAX: usize = 64;

/// The `tojson` of `transformers`: `json.dumps` with `ensure_ascii=False`; the options are
/// `ensure_ascii`, `indent`, `separators` and `sort_keys`.
pub(super) fn tojson(value: &Value, options: &[Value], budget: &Budget) -> Result<Value, Error> {
    let style = style(options)?;
    let mut text = Text::new(budget);
    text.push_json(value, &style, 0)?;
    Ok(text.into_value())
}

/// [`tojson`] with a budget of its own, for filters that apply filters.
pub(super) fn tojson_unmetered(
    value: &Value,
    options: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    tojson(value, &options.into_values(), &Budget::new())
}

fn style(options: &[Value]) -> Result<Style, Error> {
    let (ensure_ascii, indent, kwargs): (Option<bool>, Option<Value>, Kwargs) = from_args(options)?;
    let ensure_ascii = match ensure_ascii {
        Some(given) => given,
        None => kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = match indent {
        Some(given) => Some(given),
        None => kwargs.get::<Option<Value>>("indent")?,
    };
    let indent = indent
        .filter(|indent| !indent.is_none())
        .map(|indent| indentation(&indent));
    let indent = indent.transpose()?;
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = kwargs
        .get::<Option<Value>>("separators")?
        .filter(|given| !given.is_none());
    kwargs.assert_all_used()?;
    let (item_separator, key_separator) = match separators {
        Some(pair) => (text_at(&pair, 0)?, text_at(&pair, 1)?),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    Ok(Style {
        indent,
        item_separator,
        key_separator,
        ensure_ascii,
        sort_keys,
    })
}

fn indentation(indent: &Value) -> Result<String, Error> {
    let text = match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(
            indent
                .as_usize()
                .unwrap_or(usize::from(indent.is_true()))
                .min(INDENT_MAX + 1),
        ),
    };
    match text.len() > INDENT_MAX {
        true => Err(Exhausted {
            what: "columns of indentation",
            max: INDENT_MAX as u64,
        }
        .into()),
        false => Ok(text),
    }
}

fn text_at(pair: &Value, index: usize) -> Result<String, Error> {
    let item = pair.get_item(&Value::from(index))?;
    item.as_str().map(str::to_owned).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            "separators are a pair of strings",
        )
    })
}

fn check_depth(depth: usize) -> Result<(), Error> {
    match depth > 2 * DEPTH_MAX {
        true => Err(Exhausted {
            what: "levels of nesting",
            max: 2 * DEPTH_MAX as u64,
        }
        .into()),
        false => Ok(()),
    }
}

/// `repr` of a number.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// `repr(float)`: the shortest digits that read back, with an exponent below -4 and from 16 on.
fn float(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `repr(str)`.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut result = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            '\t' => result.push_str("\\t"),
            '\\' => result.push_str("\\\\"),
            other if other == quote => result.extend(['\\', quote]),
            other if u32::from(other) < 0x20 || u32::from(other) == 0x7f => {
                result.push_str(&format!("\\x{:02x}", u32::from(other)));
            }
            other => result.push(other),
        }
    }
    result.push(quote);
    result
}

fn json_string(text: &str, ensure_ascii: bool) -> String {
    let mut result = String::from('"');
    for character in text.chars() {
        match character {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            '\t' => result.push_str("\\t"),
            '\u{8}' => result.push_str("\\b"),
            '\u{c}' => result.push_str("\\f"),
            other if u32::from(other) < 0x20 => {
                result.push_str(&format!("\\u{:04x}", u32::from(other)));
            }
            // Marks of control tokens stay what they are.
            other
                if ensure_ascii
                    && !other.is_ascii()
                    && !('\u{fdd0}'..='\u{fdef}').contains(&other) =>
            {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    result.push_str(&format!("\\u{unit:04x}"));
                }
            }
            other => result.push(other),
        }
    }
    result.push('"');
    result
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// `datetime.strftime` in UTC with the English names, for the fields that templates use.
pub(super) fn strftime(format: &str, now_unix: i64) -> Result<String, Error> {
    let moment = Moment::new(now_unix);
    let mut result = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            result.push(character);
            continue;
        }
        let field = characters.next().unwrap_or('%');
        let plain = field == '-';
        let field = if plain {
            characters.next().unwrap_or('%')
        } else {
            field
        };
        let text = moment.field(field).ok_or_else(|| {
            let detail = format!("strftime_now does not know %{field}");
            Error::new(ErrorKind::InvalidOperation, detail)
        })?;
        match plain {
            true => {
                let short = text.trim_start_matches('0');
                result.push_str(if short.is_empty() { "0" } else { short });
            }
            false => result.push_str(&text),
        }
    }
    Ok(result)
}

/// A moment by the Gregorian calendar.
struct Moment {
    year: i64,
    /// From 0.
    month: usize,
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From 0, Monday.
    weekday: usize,
    second_of_day: i64,
}

impl Moment {
    fn new(unix: i64) -> Self {
        let (days, second_of_day) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let day_of_year = days - days_from_civil(year, 1, 1) + 1;
        // 1970-01-01 was a Thursday.
        let weekday = (days + 3).rem_euclid(7) as usize;
        Self {
            year,
            month: (month - 1) as usize,
            day,
            day_of_year,
            weekday,
            second_of_day,
        }
    }

    fn field(&self, field: char) -> Option<String> {
        let (hour, minute) = (self.second_of_day / 3600, self.second_of_day / 60 % 60);
        let (month, weekday) = (MONTHS[self.month], DAYS[self.weekday]);
        let hour_12 = (hour + 11) % 12 + 1;
        Some(match field {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year.rem_euclid(100)),
            'm' => format!("{:02}", self.month + 1),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'j' => format!("{:03}", self.day_of_year),
            'B' => month.to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'A' => weekday.to_owned(),
            'a' => weekday[..3].to_owned(),
            'u' => (self.weekday + 1).to_string(),
            'H' => format!("{hour:02}"),
            'I' => format!("{hour_12:02}"),
            'M' => format!("{minute:02}"),
            'S' => format!("{:02}", self.second_of_day % 60),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month + 1, self.day),
            'T' => format!("{hour:02}:{minute:02}:{:02}", self.second_of_day % 60),
            'Z' => "UTC".to_owned(),
            'z' => "+0000".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

/// Year, month (from 1) and day of a day since 1970-01-01 (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}
