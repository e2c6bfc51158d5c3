//! What an answer must say, in a form that can be checked without knowing how it is worded.

use std::collections::BTreeSet;
use std::fmt;

/// What a named word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A name of a person.
    Person,
    /// A place or a container: where something can be.
    Place,
    /// A thing that people carry.
    Thing,
    /// A colour.
    Colour,
    /// Why somebody did something.
    Cause,
}

/// What two are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The larger one is asked for.
    Larger,
    /// The smaller one.
    Smaller,
    /// The heavier one.
    Heavier,
    /// The lighter one.
    Lighter,
}

impl Measure {
    /// The words that say it.
    #[must_use]
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Larger => &["bigger", "larger", "greater"],
            Self::Smaller => &["smaller", "less"],
            Self::Heavier => &["heavier"],
            Self::Lighter => &["lighter"],
        }
    }
}

/// What an answer must say. All words are lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// What it must say.
    pub form: Form,
    /// The people, places, things and colours of the small world that it may name; `None` where it
    /// may name any.
    pub names: Option<BTreeSet<String>>,
}

/// What an answer must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// All of these words, and no other of their class; no negation.
    Named {
        /// Of which class.
        class: Class,
        /// What must be named.
        all: BTreeSet<String>,
    },
    /// Of each pair both words in one clause (clauses end with marks), and no clause with the first word
    /// of one and the second of another; no negation.
    Each(BTreeSet<(String, String)>),
    /// `yes` or `no`, and not the other.
    Yes {
        /// Which.
        yes: bool,
        /// What is so: not to be denied.
        truth: BTreeSet<String>,
        /// What was asked and is not so: only to be denied.
        denied: BTreeSet<String>,
    },
    /// That one person gave something to the other, in that order; or the giver alone.
    Giver {
        /// Who gave it.
        from: String,
        /// Who got it.
        to: String,
    },
    /// This number at the end; each calculation on the way to it must be right.
    Number(u32),
    /// These numbers, in this order, and no others.
    Numbers(Vec<u32>),
    /// The number next to another; the other may be named too.
    Next {
        /// The answer.
        number: u32,
        /// What it is next to.
        of: u32,
    },
    /// The first of two; the second may follow after `than`.
    Compared {
        /// The answer, a noun or a number.
        best: String,
        /// What it is compared with.
        other: String,
        /// By what.
        by: Measure,
    },
    /// Of each group at least one phrase, and none of the others.
    Phrases {
        /// The groups.
        groups: Vec<Vec<String>>,
        /// What must not be said.
        none: Vec<String>,
    },
    /// These words and no others.
    Words(String),
    /// A refusal: one of these phrases, and nothing but sentences that decline.
    Refusal(Vec<String>),
    /// A story of grammatical, possible sentences, in which these people act and these things are
    /// found or taken.
    Story {
        /// People and things.
        about: BTreeSet<String>,
    },
}

impl Expected {
    /// Such an answer, whatever it names beside it.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, names: None }
    }

    /// One word of a class.
    #[must_use]
    pub fn one(class: Class, word: &str) -> Self {
        Self::named(class, &[word])
    }

    /// Some words of a class. Of the small world only they may be named.
    #[must_use]
    pub fn named(class: Class, all: &[&str]) -> Self {
        let all = set(all);
        let names = Some(all.clone());
        Self {
            form: Form::Named { class, all },
            names,
        }
    }

    /// What belongs to each of several. Of the small world only they may be named.
    #[must_use]
    pub fn each<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: BTreeSet<(String, String)> = pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let words = pairs.iter().flat_map(|(key, value)| [key, value]);
        let names = Some(words.cloned().collect());
        let form = Form::Each(pairs);
        Self { form, names }
    }

    /// Yes or no: what is so, and what was asked and is not.
    #[must_use]
    pub fn yes(yes: bool, truth: &[&str], denied: &[&str]) -> Self {
        let (truth, denied) = (set(truth), set(denied));
        let names = Some(truth.union(&denied).cloned().collect());
        Self {
            form: Form::Yes { yes, truth, denied },
            names,
        }
    }

    /// A gift.
    #[must_use]
    pub fn giver(from: &str, to: &str) -> Self {
        let form = Form::Giver {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        Self::new(form).naming(&[from, to])
    }

    /// A number. Nothing of the small world may be named.
    #[must_use]
    pub fn number(number: u32) -> Self {
        Self::new(Form::Number(number)).naming(&[])
    }

    /// The first of two.
    #[must_use]
    pub fn compared(best: &str, other: &str, by: Measure) -> Self {
        Self::new(Form::Compared {
            best: best.to_owned(),
            other: other.to_owned(),
            by,
        })
    }

    /// Phrases by a short notation: groups between `&`, the phrases of a group between `|`, and what
    /// must not be said after `!`: `rain|rains & umbrella ! sun`.
    #[must_use]
    pub fn phrases(notation: &str) -> Self {
        let (groups, none) = notation.split_once('!').unwrap_or((notation, ""));
        Self::new(Form::Phrases {
            groups: groups.split('&').map(alternatives).collect(),
            none: alternatives(none),
        })
    }

    /// A refusal that says one of the phrases between `|`.
    #[must_use]
    pub fn refusal(notation: &str) -> Self {
        Self::new(Form::Refusal(alternatives(notation)))
    }

    /// The same, and of the small world it may name these words as well, but no others.
    #[must_use]
    pub fn naming(mut self, words: &[&str]) -> Self {
        self.names.get_or_insert_default().extend(set(words));
        self
    }
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn alternatives(text: &str) -> Vec<String> {
    text.split('|')
        .map(|phrase| phrase.trim().to_owned())
        .filter(|phrase| !phrase.is_empty())
        .collect()
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |words: &BTreeSet<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            words.join(" and ")
        };
        match &self.form {
            Form::Named { all, .. } => f.write_str(&joined(all)),
            Form::Each(pairs) => {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(key, value)| format!("{key}: {value}"))
                    .collect();
                f.write_str(&pairs.join(", "))
            }
            Form::Yes { yes, .. } => f.write_str(if *yes { "yes" } else { "no" }),
            Form::Giver { from, .. } => f.write_str(from),
            Form::Number(number) | Form::Next { number, .. } => write!(f, "{number}"),
            Form::Numbers(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                f.write_str(&numbers.join(", "))
            }
            Form::Compared { best, .. } => f.write_str(best),
            Form::Phrases { groups, .. } => {
                let groups: Vec<String> = groups.iter().map(|group| group.join("|")).collect();
                f.write_str(&groups.join(" & "))
            }
            Form::Words(words) => f.write_str(words),
            Form::Refusal(phrases) => write!(f, "a refusal: {}", phrases.join("|")),
            Form::Story { about } => write!(f, "a story about {}", joined(about)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation_of_phrases() {
        let Form::Phrases { groups, none } = Expected::phrases("a b|c & d ! e | f").form else {
            unreachable!("phrases make phrases")
        };
        assert_eq!(groups, [vec!["a b", "c"], vec!["d"]]);
        assert_eq!(none, ["e", "f"]);
        let plain = Expected::phrases("only");
        assert_eq!(plain.to_string(), "only");
    }

    #[test]
    fn what_may_be_named_adds_up() {
        let place = Expected::one(Class::Place, "park").naming(&["tom"]);
        assert_eq!(place.names, Some(set(&["park", "tom"])));
        assert_eq!(Expected::number(3).names, Some(set(&[])));
        assert_eq!(Expected::phrases("any").names, None);
    }
}
