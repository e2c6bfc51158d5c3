//! Calculations with numbers below a hundred, worked digit by digit, and their order.

use super::dice::Dice;
use super::phrase::say;
use super::sample::{Kind, Turn};
use super::split::{self, Split};
use crate::answer::{Expected, Form, Measure};

/// `a + b`, both below 100. `None` if this draw lies on the other side.
pub(super) fn sum(dice: &mut Dice, split: Split) -> Option<Turn> {
    let (a, b) = operands(dice);
    let user = asked_sum(dice, a, b);
    let turn = Turn {
        kind: Kind::Sum,
        user,
        assistant: worked_sum(a, b),
        expected: Some(Expected::number(a + b)),
    };
    (split::of_numbers(a, b) == split).then_some(turn)
}

/// `a - b`, not below zero. `None` if this draw lies on the other side.
pub(super) fn difference(dice: &mut Dice, split: Split) -> Option<Turn> {
    let (a, b) = operands(dice);
    let (a, b) = (a.max(b), a.min(b));
    let (x, y) = (a.to_string(), b.to_string());
    let template = "[[What is|How much is] {a}[ - |-| minus ]{b}?|{a}[ - |-]{b}|{a}[ - {b} =|-{b}=]|\
                    [Please take {b} from {a}.|Take {b} from {a}[.|, please.]|Can you take {b} from {a}?]|\
                    Subtract {b} from {a}.|[Tell me|Compute] {a} minus {b}.]";
    let user = say(dice, template, &[("a", &x), ("b", &y)]);
    let turn = Turn {
        kind: Kind::Difference,
        user,
        assistant: worked_difference(a, b),
        expected: Some(Expected::number(a - b)),
    };
    (split::of_numbers(a, b) == split).then_some(turn)
}

/// Order of numbers: larger, smaller, next, before, counting. `None` if this draw lies on the other
/// side.
pub(super) fn order(dice: &mut Dice, split: Split) -> Option<Turn> {
    let (a, b, turn) = match dice.weighted(&[45, 25, 30]) {
        0 => compare(dice)?,
        1 => neighbour(dice),
        _ => counting(dice),
    };
    (split::of_numbers(a, b) == split).then_some(turn)
}

/// The worked sum: ones, then tens with the carry, then the result, whose digits follow from both.
pub(super) fn worked_sum(a: u32, b: u32) -> String {
    if a < 10 && b < 10 {
        return format!("{a}+{b}={}.", a + b);
    }
    let ones = a % 10 + b % 10;
    let mut steps = format!("{}+{}={ones}", a % 10, b % 10);
    let carry = (ones >= 10).then_some(1);
    let tens: Vec<u32> = carry
        .into_iter()
        .chain([a / 10, b / 10].into_iter().filter(|&tens| tens > 0))
        .collect();
    if tens.len() > 1 {
        let terms: Vec<String> = tens.iter().map(u32::to_string).collect();
        let total: u32 = tens.iter().sum();
        steps.push_str(&format!(", {}={total}", terms.join("+")));
    }
    format!("{steps}, so {a}+{b}={}.", a + b)
}

/// The worked difference, the same way: ones with what they borrow, then tens.
pub(super) fn worked_difference(a: u32, b: u32) -> String {
    if a < 10 || (a < 20 && b < 10 && a % 10 < b) {
        return format!("{a}-{b}={}.", a - b);
    }
    let borrow = a % 10 < b % 10;
    let from = if borrow { 10 + a % 10 } else { a % 10 };
    let mut steps = format!("{from}-{}={}", b % 10, from - b % 10);
    let mut terms = vec![(a / 10).to_string()];
    terms.extend(borrow.then(|| "1".to_owned()));
    terms.extend((b >= 10).then(|| (b / 10).to_string()));
    if terms.len() > 1 {
        let tens = a / 10 - u32::from(borrow) - b / 10;
        steps.push_str(&format!(", {}={tens}", terms.join("-")));
    }
    format!("{steps}, so {a}-{b}={}.", a - b)
}

/// Two numbers: both of two digits in most cases, else one, else none.
fn operands(dice: &mut Dice) -> (u32, u32) {
    let small = |dice: &mut Dice| dice.below(10) as u32;
    let large = |dice: &mut Dice| 10 + dice.below(90) as u32;
    match dice.weighted(&[70, 10, 10, 10]) {
        0 => (large(dice), large(dice)),
        1 => (large(dice), small(dice)),
        2 => (small(dice), large(dice)),
        _ => (small(dice), small(dice)),
    }
}

fn asked_sum(dice: &mut Dice, a: u32, b: u32) -> String {
    let (a, b) = (a.to_string(), b.to_string());
    let template = "[[What is|How much is] {a}[ + |+| plus | and ]{b}?|{a}[ + |+]{b}|{a}[ + {b} \
                    =|+{b}=]|[Please add {a} and {b}.|Add {a} and {b}[.|, please.]|Can you add {a} and {b}?]|\
                    What is the sum of {a} and {b}?|[Tell me|Compute] {a} plus {b}.]";
    say(dice, template, &[("a", &a), ("b", &b)])
}

fn compare(dice: &mut Dice) -> Option<(u32, u32, Turn)> {
    let (a, b) = operands(dice);
    if a == b {
        return None;
    }
    let larger = dice.chance(50);
    let (low, high) = (a.min(b), a.max(b));
    let (words, best, other, by) = match larger {
        true => ("[bigger|larger]", high, low, Measure::Larger),
        false => ("smaller", low, high, Measure::Smaller),
    };
    let slots = [("a", a.to_string()), ("b", b.to_string())];
    let slots = slots.each_ref().map(|(name, text)| (*name, text.as_str()));
    let template = format!(
        "[[Which|What] [number |]is {words}, {{a}} or {{b}}?|Which of {{a}} and {{b}} is {words}?|\
         Tell me which number is {words}: {{a}} or {{b}}.]"
    );
    let user = say(dice, &template, &slots);
    let word = if larger { "bigger" } else { "smaller" };
    let turn = Turn {
        kind: Kind::Number,
        user,
        assistant: format!("{best} is {word}."),
        expected: Some(Expected::compared(
            &best.to_string(),
            &other.to_string(),
            by,
        )),
    };
    Some((a, b, turn))
}

fn neighbour(dice: &mut Dice) -> (u32, u32, Turn) {
    let number = 1 + dice.below(98) as u32;
    let after = dice.chance(60);
    let (word, other) = match after {
        true => ("after", number + 1),
        false => ("before", number - 1),
    };
    let template = "[[What|Which number] comes [just |]{w} {n}?|Tell me the number {w} {n}.|What is \
                    the number {w} {n}?]";
    let user = say(dice, template, &[("w", word), ("n", &number.to_string())]);
    let assistant = match after {
        true => format!("After {number} comes {other}."),
        false => format!("Before {number} comes {other}."),
    };
    let turn = Turn {
        kind: Kind::Number,
        user,
        assistant,
        expected: Some(Expected::new(Form::Next {
            number: other,
            of: number,
        })),
    };
    (number, 0, turn)
}

fn counting(dice: &mut Dice) -> (u32, u32, Turn) {
    let from = 1 + dice.below(89) as u32;
    let to = from + 2 + dice.below(8) as u32;
    let down = dice.chance(30);
    let numbers: Vec<u32> = match down {
        true => (from..=to).rev().collect(),
        false => (from..=to).collect(),
    };
    let (first, last) = if down { (to, from) } else { (from, to) };
    let template = match down {
        true => {
            "[Please count [down|backwards] from {a} to {b}.|Count [down|backwards] from {a} to \
             {b}[.|, please.]|Can you count [down|backwards] from {a} to {b}?]"
        }
        false => {
            "[Please count from {a} to {b}.|Count from {a} to {b}[.|, please.]|Can you count from \
             {a} to {b}?]"
        }
    };
    let slots = [("a", first.to_string()), ("b", last.to_string())];
    let slots = slots.each_ref().map(|(name, text)| (*name, text.as_str()));
    let user = say(dice, template, &slots);
    let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
    let turn = Turn {
        kind: Kind::Number,
        user,
        assistant: format!("{}.", words.join(", ")),
        expected: Some(Expected::new(Form::Numbers(numbers))),
    };
    (from, to, turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_worked_by_digits() {
        for (a, b, text) in [
            (3, 4, "3+4=7."),
            (47, 38, "7+8=15, 1+4+3=8, so 47+38=85."),
            (23, 45, "3+5=8, 2+4=6, so 23+45=68."),
            (47, 88, "7+8=15, 1+4+8=13, so 47+88=135."),
            (47, 8, "7+8=15, 1+4=5, so 47+8=55."),
            (8, 47, "8+7=15, 1+4=5, so 8+47=55."),
            (41, 8, "1+8=9, so 41+8=49."),
            (40, 50, "0+0=0, 4+5=9, so 40+50=90."),
        ] {
            assert_eq!(worked_sum(a, b), text);
        }
    }

    #[test]
    fn differences_are_worked_by_digits() {
        for (a, b, text) in [
            (9, 4, "9-4=5."),
            (17, 8, "17-8=9."),
            (18, 7, "8-7=1, so 18-7=11."),
            (47, 23, "7-3=4, 4-2=2, so 47-23=24."),
            (85, 38, "15-8=7, 8-1-3=4, so 85-38=47."),
            (47, 43, "7-3=4, 4-4=0, so 47-43=4."),
            (45, 8, "15-8=7, 4-1=3, so 45-8=37."),
        ] {
            assert_eq!(worked_difference(a, b), text);
        }
    }
}
