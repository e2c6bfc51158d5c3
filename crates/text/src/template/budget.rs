//! What one rendering may still spend.
//!
//! Jinja's own step counter does not see how large the values are that a step makes: forty
//! doublings of a string are forty steps and a terabyte. So the operators that read or build large
//! values are replaced, in the compiled template, by functions that pay for them first.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use minijinja::machinery::{CompiledTemplate, Instruction, Instructions};
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Expression};

use super::limits::{ITEMS_MAX, WORK_BYTES_MAX};
use super::python;

/// Bytes of work left.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicU64>);

/// The source of an error that means: too much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exhausted {
    pub(super) what: &'static str,
    pub(super) max: u64,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} {}", self.max, self.what)
    }
}

impl std::error::Error for Exhausted {}

impl From<Exhausted> for Error {
    fn from(exhausted: Exhausted) -> Self {
        Error::new(ErrorKind::OutOfFuel, "the template does too much").with_source(exhausted)
    }
}

impl Budget {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(WORK_BYTES_MAX)))
    }

    /// Pays for `bytes` of work.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), Error> {
        let paid = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes as u64)
            });
        let exhausted = Exhausted {
            what: "bytes of work",
            max: WORK_BYTES_MAX,
        };
        paid.map(|_| ()).map_err(|_| exhausted.into())
    }

    pub(super) fn charge_all(&self, values: &[Value]) -> Result<(), Error> {
        values.iter().try_for_each(|value| self.charge(size(value)))
    }
}

/// Bytes of a string, items of anything else.
pub(super) fn size(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => value.len().unwrap_or(0),
    }
}

const CONCAT: &str = "a ~ b";
const ADD: &str = "a + b";
const MULTIPLY: &str = "a * b";
const SLICE: &str = "a[b:c:d]";
const CONTAINS: &str = "a in b";
const EQUAL: &str = "a == b";
const UNEQUAL: &str = "a != b";

/// Replaces operators by calls. The names of the functions are no identifiers, so that no template
/// can define them.
pub(super) fn meter(template: &mut CompiledTemplate<'_>) {
    meter_all(&mut template.instructions);
    template.blocks.values_mut().for_each(meter_all);
}

fn meter_all(instructions: &mut Instructions<'_>) {
    for index in 0.. {
        let Some(instruction) = instructions.get_mut(index) else {
            break;
        };
        let (name, arguments) = match instruction {
            Instruction::StringConcat => (CONCAT, 2),
            Instruction::Add => (ADD, 2),
            Instruction::Mul => (MULTIPLY, 2),
            Instruction::Slice => (SLICE, 4),
            Instruction::In => (CONTAINS, 2),
            Instruction::Eq => (EQUAL, 2),
            Instruction::Ne => (UNEQUAL, 2),
            _ => continue,
        };
        *instruction = Instruction::CallFunction(name, Some(arguments));
    }
}

/// The longest literal text of a template, in bytes.
pub(super) fn longest_literal(template: &CompiledTemplate<'_>) -> usize {
    let all = std::iter::once(&template.instructions).chain(template.blocks.values());
    all.flat_map(|list| (0..).map_while(|index| list.get(index)))
        .map(|instruction| match instruction {
            Instruction::EmitRaw(text) => text.len(),
            _ => 0,
        })
        .max()
        .unwrap_or(0)
}

/// Adds the functions that [`meter`] calls.
pub(super) fn add_operators(environment: &mut Environment<'_>, budget: &Budget) {
    for name in [CONCAT, ADD, MULTIPLY, SLICE, CONTAINS, EQUAL, UNEQUAL] {
        let budget = budget.clone();
        let operate = move |arguments: Rest<Value>| operate(name, &arguments, &budget);
        environment.add_function(name, operate);
    }
}

fn operate(name: &'static str, arguments: &[Value], budget: &Budget) -> Result<Value, Error> {
    budget.charge_all(arguments)?;
    let result = match (name, arguments) {
        (CONCAT, [left, right]) => {
            let mut text = python::Text::new(budget);
            text.push_value(left)?;
            text.push_value(right)?;
            return Ok(text.into_value());
        }
        (ADD, [left, right]) if is_list(left) && is_list(right) => {
            check_items(size(left).saturating_add(size(right)))?;
            original(name, arguments)?
        }
        (MULTIPLY, [left, right]) => {
            check_repetition(left, right, budget)?;
            original(name, arguments)?
        }
        _ => original(name, arguments)?,
    };
    budget.charge(size(&result))?;
    Ok(result)
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn check_items(items: usize) -> Result<(), Error> {
    match items > ITEMS_MAX {
        true => Err(Exhausted {
            what: "items in a list",
            max: ITEMS_MAX as u64,
        }
        .into()),
        false => Ok(()),
    }
}

fn check_repetition(left: &Value, right: &Value, budget: &Budget) -> Result<(), Error> {
    for (value, times) in [(left, right), (right, left)] {
        let Some(times) = times.as_usize() else {
            continue;
        };
        let product = size(value).saturating_mul(times);
        match value.kind() {
            ValueKind::String => budget.charge(product)?,
            ValueKind::Seq | ValueKind::Iterable => check_items(product)?,
            _ => {}
        }
    }
    Ok(())
}

/// The operator as the library has it.
fn original(name: &'static str, arguments: &[Value]) -> Result<Value, Error> {
    type Operator = (&'static str, Expression<'static, 'static>);
    static OPERATORS: OnceLock<Result<Vec<Operator>, Error>> = OnceLock::new();
    let operators = OPERATORS.get_or_init(|| {
        [ADD, MULTIPLY, SLICE, CONTAINS, EQUAL, UNEQUAL]
            .into_iter()
            .map(|name| Ok((name, library().compile_expression(name)?)))
            .collect()
    });
    let found = operators
        .as_ref()
        .ok()
        .and_then(|list| list.iter().find(|(n, _)| *n == name));
    let Some((_, expression)) = found else {
        return Err(Error::new(ErrorKind::UnknownFunction, name));
    };
    expression.eval(Value::from_pairs(
        ["a", "b", "c", "d"].into_iter().zip(arguments.to_vec()),
    ))
}

/// The library's own operators and filters.
pub(super) fn library() -> &'static Environment<'static> {
    static LIBRARY: OnceLock<Environment<'static>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut environment = Environment::new();
        environment.add_filter("tojson", python::tojson_unmetered);
        environment
    })
}
