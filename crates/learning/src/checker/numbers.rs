//! Numbers and calculations in a text, computed here.

use super::lexer::words;

/// Number words up to twenty.
const WORDS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// The numbers in a text, in order: its digits, or, where it has none, its number words.
pub(super) fn numbers(text: &str) -> Vec<u32> {
    let words = words(text);
    let digits: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if !digits.is_empty() {
        return digits;
    }
    let named = words
        .iter()
        .filter_map(|word| WORDS.iter().position(|name| name == word));
    named.map(|number| number as u32).collect()
}

/// The first calculation in a text that is wrong, such as `3+4=8`.
pub(super) fn wrong_calculation(text: &str) -> Option<String> {
    let words = words(text);
    let equals = words.iter().enumerate().filter(|(_, word)| *word == "=");
    for (at, _) in equals {
        let start = start_of_sum(&words[..at]);
        let left = value(&words[start..at]);
        let right = words.get(at + 1).and_then(|word| word.parse().ok());
        if left.is_none() || left != right {
            let end = words.len().min(at + 2);
            return Some(words[start..end].concat());
        }
    }
    None
}

/// Where the alternating numbers and signs begin that end before an equals sign.
fn start_of_sum(words: &[String]) -> usize {
    let mut start = words.len();
    let mut number = true;
    while start > 0 {
        let word = words[start - 1].as_str();
        let fits = match number {
            true => word.parse::<i64>().is_ok(),
            false => matches!(word, "+" | "-" | "*" | "/"),
        };
        if !fits {
            break;
        }
        start -= 1;
        number = !number;
    }
    start
}

/// The value of numbers with `+` and `-` between them.
fn value(words: &[String]) -> Option<i64> {
    let (first, rest) = words.split_first()?;
    let mut value: i64 = first.parse().ok()?;
    for pair in rest.chunks(2) {
        let [sign, number] = pair else { return None };
        let number: i64 = number.parse().ok()?;
        value = match sign.as_str() {
            "+" => value.checked_add(number)?,
            "-" => value.checked_sub(number)?,
            _ => return None,
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_digits_or_words() {
        assert_eq!(numbers("After 47 comes 48."), [47, 48]);
        assert_eq!(numbers("He has seven apples"), [7]);
        assert_eq!(numbers("He has seven, that is 7"), [7]);
        assert_eq!(numbers("99999999999"), [] as [u32; 0]);
    }

    #[test]
    fn calculations_are_checked() {
        for right in [
            "7+8=15, 1+4+3=8, so 47+38=85.",
            "8 - 1 - 3 = 4",
            "no sum at all",
        ] {
            assert_eq!(wrong_calculation(right), None, "{right}");
        }
        for (text, wrong) in [
            ("7+8=15, 1+4+3=9, so 47+38=85.", "1+4+3=9"),
            ("It is 3+4=8", "3+4=8"),
            ("so 3+4=", "3+4="),
            ("= 5", "=5"),
            ("2*3=6", "2*3=6"),
        ] {
            assert_eq!(wrong_calculation(text).as_deref(), Some(wrong));
        }
    }
}
