//! The Jinja environment of chat templates, as `transformers` sets it up.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

use minijinja::machinery::{CompiledTemplate, TemplateConfig, eval, make_string_output};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::TemplateError;
use super::budget::{self, Budget, Exhausted};
use super::limits::{LITERAL_BYTES_MAX, OUTPUT_BYTES_MAX, RECURSION_MAX, STEPS_MAX};
use super::python;

/// Filters of the library that templates may use; others would allow sizes to be chosen freely, or
/// make no sense for plain text.
const FILTERS: [&str; 40] = [
    "safe",
    "escape",
    "e",
    "lower",
    "upper",
    "title",
    "capitalize",
    "replace",
    "length",
    "count",
    "dictsort",
    "items",
    "reverse",
    "trim",
    "join",
    "split",
    "lines",
    "default",
    "d",
    "round",
    "abs",
    "int",
    "float",
    "attr",
    "first",
    "last",
    "min",
    "max",
    "sort",
    "list",
    "bool",
    "sum",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "map",
    "groupby",
    "unique",
    "indent",
];

/// The library's other filters.
const UNUSED_FILTERS: [&str; 7] = [
    "batch",
    "slice",
    "chain",
    "zip",
    "pprint",
    "urlencode",
    "format",
];

/// What a template said by `raise_exception`.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// Whether the template compiles.
pub(super) fn check(source: &str) -> Result<(), TemplateError> {
    compile(source)
        .map(|_| ())
        .map_err(|error| TemplateError::Syntax {
            line: error.line().unwrap_or(0),
            reason: describe(&error),
        })
}

/// Renders `source`.
pub(super) fn run(source: &str, context: Value, now_unix: i64) -> Result<String, TemplateError> {
    let budget = Budget::new();
    let mut template = compile(source).map_err(|error| explain(&error))?;
    budget::meter(&mut template);
    let longest = budget::longest_literal(&template).max(1) as u64;
    let environment = environment(
        &budget,
        now_unix,
        STEPS_MAX.min(LITERAL_BYTES_MAX / longest),
    );
    let mut text = String::new();
    let mut output = make_string_output(&mut text);
    eval(
        &environment,
        &template.instructions,
        context,
        &template.blocks,
        &mut output,
        AutoEscape::None,
    )
    .map_err(|error| explain(&error))?;
    drop(output);
    if text.len() > OUTPUT_BYTES_MAX {
        let max = OUTPUT_BYTES_MAX as u64;
        return Err(TemplateError::Exhausted {
            what: "bytes of output",
            max,
        });
    }
    Ok(text)
}

fn compile(source: &str) -> Result<CompiledTemplate<'_>, Error> {
    let syntax_config = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    let default_auto_escape = Arc::new(|_: &str| AutoEscape::None);
    let config = TemplateConfig {
        syntax_config,
        default_auto_escape,
    };
    CompiledTemplate::new("chat_template", source, &config)
}

fn environment(budget: &Budget, now_unix: i64, steps: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(steps));
    environment.set_recursion_limit(RECURSION_MAX);
    let paid = budget.clone();
    environment.set_formatter(move |output, _, value| {
        let mut text = python::Text::new(&paid);
        text.push_value(value)?;
        output.write_str(text.as_str()).map_err(Error::from)
    });
    let paid = budget.clone();
    environment.set_unknown_method_callback(move |state, value, method, arguments| {
        method_call(state, value, method, arguments, &paid)
    });
    UNUSED_FILTERS
        .iter()
        .for_each(|name| environment.remove_filter(name));
    environment.remove_global("debug");
    budget::add_operators(&mut environment, budget);
    add_filters(&mut environment, budget);
    add_functions(&mut environment, now_unix);
    environment
}

fn add_functions(environment: &mut Environment<'static>, now_unix: i64) {
    // In Python None cannot be iterated over.
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && (value.as_str().is_some() || value.try_iter().is_ok())
    });
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Refusal(message)))
        },
    );
    environment.add_function("strftime_now", move |format: &str| {
        python::strftime(format, now_unix)
    });
}

fn add_filters(environment: &mut Environment<'static>, budget: &Budget) {
    for name in FILTERS {
        let paid = budget.clone();
        environment.add_filter(name, move |arguments: Rest<ValueOrKwargs>| {
            filter(name, &arguments.into_values(), &paid)
        });
    }
    let paid = budget.clone();
    environment.add_filter(
        "tojson",
        move |value: &Value, options: Rest<ValueOrKwargs>| {
            python::tojson(value, &options.into_values(), &paid)
        },
    );
    let paid = budget.clone();
    environment.add_filter("string", move |value: &Value| {
        let mut text = python::Text::new(&paid);
        text.push_value(value)?;
        Ok::<_, Error>(text.into_value())
    });
}

/// A filter of the library, paid for.
fn filter(name: &'static str, arguments: &[Value], budget: &Budget) -> Result<Value, Error> {
    budget.charge_all(arguments)?;
    charge_growth(name, arguments, budget)?;
    let result = budget::library()
        .empty_state()
        .apply_filter(name, arguments)?;
    budget.charge(budget::size(&result))?;
    Ok(result)
}

/// A method of Python on strings, lists and maps, paid for.
fn method_call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
    budget: &Budget,
) -> Result<Value, Error> {
    budget.charge(budget::size(value))?;
    budget.charge_all(arguments)?;
    let all: Vec<Value> = std::iter::once(value).chain(arguments).cloned().collect();
    match method {
        // The string is the separator, the argument the list.
        "join" => charge_growth(
            "join",
            &all.iter().rev().cloned().collect::<Vec<_>>(),
            budget,
        )?,
        _ => charge_growth(method, &all, budget)?,
    }
    let result = unknown_method_callback(state, value, method, arguments)?;
    budget.charge(budget::size(&result))?;
    Ok(result)
}

/// Pays, before it is made, for what is much larger than the arguments.
fn charge_growth(name: &str, arguments: &[Value], budget: &Budget) -> Result<(), Error> {
    let at = |index: usize| arguments.get(index).map_or(0, budget::size);
    match name {
        "replace" => {
            let matches = at(0) / at(1).max(1) + 1;
            budget.charge(matches.saturating_mul(at(2)))
        }
        "join" => {
            let Some(list) = arguments.first() else {
                return Ok(());
            };
            let separators = list.len().unwrap_or(0).saturating_mul(at(1));
            budget.charge(separators)?;
            list.try_iter()?
                .try_for_each(|item| budget.charge(budget::size(&item)))
        }
        "indent" => {
            let width = arguments
                .iter()
                .skip(1)
                .filter_map(Value::as_usize)
                .max()
                .unwrap_or(4);
            let lines = arguments
                .first()
                .and_then(Value::as_str)
                .map_or(1, |text| text.lines().count());
            budget.charge(width.saturating_mul(lines.saturating_add(1)))
        }
        "format" => {
            let pattern = arguments
                .first()
                .and_then(Value::as_str)
                .unwrap_or_default();
            let digits = pattern
                .split(|c: char| !c.is_ascii_digit())
                .map(str::len)
                .max();
            let wide = digits.unwrap_or(0) > 3 || pattern.contains('*');
            let fields = pattern.matches(['%', '{']).count();
            let values: usize = arguments.iter().map(budget::size).sum();
            budget.charge(fields.saturating_mul(values.saturating_add(1000)))?;
            match wide {
                true => Err(Exhausted {
                    what: "columns in a format",
                    max: 999,
                }
                .into()),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// `{% generation %}` marks the answers of the assistant for training: it is dropped, keeping what
/// it says about white space.
pub(super) fn without_generation_marks(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let inner = tag.trim_start_matches("{%").trim_end_matches("%}");
        match inner.trim_matches(['-', '+', ' ', '\t', '\n', '\r']) {
            "generation" => result.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endif")),
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

fn explain(error: &Error) -> TemplateError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(Refusal(message)) = inner.downcast_ref() {
            return TemplateError::Refused {
                message: message.clone(),
            };
        }
        if let Some(&Exhausted { what, max }) = inner.downcast_ref() {
            return TemplateError::Exhausted { what, max };
        }
        if let Some(inner) = inner.downcast_ref::<Error>()
            && inner.kind() == ErrorKind::OutOfFuel
            && inner.source().is_none()
        {
            return TemplateError::Exhausted {
                what: "steps",
                max: STEPS_MAX,
            };
        }
        source = inner.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::Exhausted {
            what: "steps",
            max: STEPS_MAX,
        };
    }
    TemplateError::Failed {
        line: error.line().unwrap_or(0),
        reason: describe(error),
    }
}

fn describe(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
