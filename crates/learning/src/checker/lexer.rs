//! Text as the checker reads it: sentences of lower-case words, numbers and signs.

/// A sentence: words and numbers, and the signs of calculations as words of their own.
pub(super) type Words = Vec<String>;

/// The sentences of a text, by `.`, `!` and `?`; an end without a mark is a sentence too.
pub(super) fn sentences(text: &str) -> Vec<Words> {
    text.split(['.', '!', '?'])
        .map(words)
        .filter(|words| !words.is_empty())
        .collect()
}

/// The parts of a text between any marks, and `but` and `because`, as plain words.
pub(super) fn clauses(text: &str) -> Vec<Words> {
    let mut clauses = Vec::new();
    for part in text.split(['.', '!', '?', ',', ';', ':']) {
        let words = plain(part);
        let parts = words.split(|word| word == "but" || word == "because");
        clauses.extend(parts.map(<[String]>::to_vec));
    }
    clauses
}

/// Contractions written out, and `no one` as one word.
fn written_out(text: &str) -> String {
    const FORMS: [(&str, &str); 5] = [
        ("\u{2019}", "'"),
        ("can't", "cannot"),
        ("won't", "will not"),
        ("n't", " not"),
        ("no one", "nobody"),
    ];
    let text = text.to_lowercase();
    FORMS
        .into_iter()
        .fold(text, |text, (form, full)| text.replace(form, full))
}

/// The words, numbers and signs of a text; all else separates.
pub(super) fn words(text: &str) -> Words {
    let text = written_out(text);
    let mut words: Words = Vec::new();
    // What the last word is made of; a change of kind ends it.
    let mut open = Kind::Other;
    for character in text.chars() {
        let kind = Kind::of(character);
        match (kind, words.last_mut()) {
            (Kind::Other, _) => {}
            (Kind::Letter | Kind::Digit, Some(word)) if kind == open => word.push(character),
            _ => words.push(character.to_string()),
        }
        open = kind;
    }
    words
}

/// The words and numbers alone.
pub(super) fn plain(text: &str) -> Words {
    let mut words = words(text);
    words.retain(|word| !is_sign(word));
    words
}

/// Whether the words of `phrase` occur in `text`, next to each other.
pub(super) fn says(text: &[String], phrase: &str) -> bool {
    let phrase = plain(phrase);
    !phrase.is_empty() && text.windows(phrase.len()).any(|part| part == phrase)
}

pub(super) fn is_sign(word: &str) -> bool {
    matches!(word, "+" | "-" | "*" | "/" | "=")
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Letter,
    Digit,
    Sign,
    Other,
}

impl Kind {
    fn of(character: char) -> Self {
        match character {
            '+' | '-' | '*' | '/' | '=' => Self::Sign,
            _ if character.is_ascii_digit() => Self::Digit,
            _ if character.is_alphabetic() => Self::Letter,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_signs() {
        assert_eq!(words("What is 47+38?"), ["what", "is", "47", "+", "38"]);
        assert_eq!(words("GPT-2, Ctrl-C"), ["gpt", "-", "2", "ctrl", "-", "c"]);
        assert_eq!(plain("bf16 or f32"), ["bf", "16", "or", "f", "32"]);
        assert_eq!(sentences("Tom ran. Where is he").len(), 2);
        assert_eq!(
            words("It didn\u{2019}t; I can't"),
            ["it", "did", "not", "i", "cannot"]
        );
        assert_eq!(words("No one, no, one"), ["nobody", "no", "one"]);
        assert_eq!(
            clauses("No, Tom is not here but there."),
            [&["no"][..], &["tom", "is", "not", "here"], &["there"], &[]]
        );
    }

    #[test]
    fn phrases_are_whole_words() {
        let text = plain("The ball is in the box, not in the boxcar.");
        assert!(says(&text, "in the box"));
        assert!(!says(&text, "car"));
        assert!(!says(&text, ""));
        assert!(says(&plain("press Ctrl-C now"), "ctrl-c"));
    }
}
