//! Other ways to ask the same, for training alone: a catalogue's wording in another frame, or typed
//! in haste. A model that has seen a fact asked in a few fixed sentences only takes any other for
//! another fact.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::dice::Dice;
use super::phrase::{capital, expansions, say};
use super::{nature, skein, talk};

/// Texts of fewer words stay as they are: there is nothing to leave out.
const WORDS_MIN: usize = 4;

/// What is typed in haste keeps at least as many words: fewer would say nothing.
const KEPT_MIN: usize = 2;

/// How often a text stays as it is, gets a frame, is typed in haste.
const SHARES: [u32; 3] = [55, 25, 20];

/// How often, in percent, haste leaves out a small word, and how often another one.
const LEFT_OUT_PERCENT: [u32; 2] = [55, 5];

/// Words that people leave out when they type in haste, and are understood.
const LEFT_OUT: [&str; 38] = [
    "a", "an", "the", "i", "you", "me", "my", "it", "its", "is", "are", "do", "does", "did", "can",
    "may", "will", "to", "of", "for", "in", "on", "at", "with", "and", "that", "there", "please",
    "tell", "want", "know", "have", "has", "be", "by", "this", "one", "when",
];

/// The text, which asks about `subject` if that is not empty, as it is, in a frame or in haste. What
/// would come out within one word of something held out stays as it was; that the text itself is
/// none of that is the catalogues' affair.
pub(super) fn reworded(dice: &mut Dice, text: String, subject: &str) -> String {
    if text.split(' ').count() < WORDS_MIN {
        return text;
    }
    let other = match dice.weighted(&SHARES) {
        0 => return text,
        1 => framed(dice, &text),
        _ => hasty(dice, &text, subject),
    };
    match held_out().is_near(&words(&other)) {
        true => text,
        false => other,
    }
}

/// A frame, by how the question begins and goes on; `{x}` is its rest.
struct Frame {
    starts: &'static [&'static str],
    /// How the rest must begin, or `None`.
    goes_on: Option<&'static [&'static str]>,
    template: &'static str,
}

const FRAMES: [Frame; 3] = [
    Frame {
        starts: &["How do I ", "How can I "],
        goes_on: None,
        template: "[How does one {x}?|I need to {x}.|What must I do to {x}?|Show me how to {x}.|I want to {x}. \
                   How?|My question is how to {x}.|Help me to {x}.|I do not know how to {x}.|How to {x}?]",
    },
    Frame {
        starts: &["Tell me "],
        goes_on: Some(&[
            "who ", "what ", "which ", "where ", "when ", "why ", "how ", "if ",
        ]),
        template: "[I want to know {x}.|Can you say {x}?|Please say {x}.|I do not know {x}.|Say {x}.|I wonder \
                   {x}.]",
    },
    Frame {
        starts: &["What is ", "What are "],
        goes_on: Some(&["a ", "an ", "the ", "my ", "`"]),
        template: "[Explain {x}.|{X}, what is that?|What about {x}?|I do not know {x}.|{X}?]",
    },
];

/// Words at the end of a question that go with its beginning: `What is it for?`.
const ENDS: [&str; 9] = [
    " for", " in", " on", " of", " at", " with", " by", " from", " like",
];

/// Frames of any question that fits no other.
const AROUND_QUESTION: &str = "[A question: {x}|One more question: {x}|Please, {x}|Well, {x}|So, {x}|Now, {x}|\
    And {x}|{X} I want to know.|{X} Please tell me.|Skein, {x}|Say, {x}|Hey, {x}|{X} Do you know?|I ask you: {x}]";

/// Frames of anything else that is said.
const AROUND: &str = "[Please: {x}|Well, {x}|So, {x}|Now, {x}|And {x}|Skein, {x}|Hey, {x}]";

/// Texts that begin so have a frame already.
const BEGUN: [&str; 6] = ["And ", "So", "Now", "Well", "Please", "Skein,"];

fn framed(dice: &mut Dice, text: &str) -> String {
    if let Some((template, rest)) = FRAMES.iter().find_map(|frame| frame.around(text)) {
        return say(dice, template, &[("x", rest), ("X", &capital(rest))]);
    }
    if BEGUN.iter().any(|begun| text.starts_with(begun)) {
        return text.to_owned();
    }
    let template = match text.ends_with('?') {
        true => AROUND_QUESTION,
        false => AROUND,
    };
    say(dice, template, &[("x", &inner(text)), ("X", text)])
}

impl Frame {
    /// The template and the rest of a text that fits.
    fn around<'a>(&self, text: &'a str) -> Option<(&'static str, &'a str)> {
        let rest = self
            .starts
            .iter()
            .find_map(|start| text.strip_prefix(start))?;
        let rest = rest.trim_end_matches(['.', '?']);
        let whole = !rest.contains(['.', '?']) && !ENDS.iter().any(|end| rest.ends_with(end));
        let goes_on = |starts: &[&str]| starts.iter().any(|start| rest.starts_with(start));
        (whole && self.goes_on.is_none_or(goes_on)).then_some((self.template, rest))
    }
}

/// As it stands within a sentence: `how`, but `I` and `Skein`.
fn inner(text: &str) -> String {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let own = ["I", "Skein"].contains(&first.trim_end_matches([',', '.', '\'']));
    match own || rest.is_empty() {
        true => text.to_owned(),
        false => format!("{} {rest}", first.to_lowercase()),
    }
}

/// In small letters, without most of the small words and now and then without another one, but
/// never without what it is about.
fn hasty(dice: &mut Dice, text: &str, subject: &str) -> String {
    let command = ["`", "--", "skein "].iter().any(|mark| text.contains(mark));
    let subject = words(subject);
    let [small, other] = LEFT_OUT_PERCENT;
    let mut kept = Vec::new();
    for word in text.split(' ') {
        let plain = word.trim_end_matches(['.', '?', '!', ',']).to_lowercase();
        let percent = match LEFT_OUT.contains(&plain.as_str()) {
            true => small,
            false if command || subject.contains(&plain) => 0,
            false => other,
        };
        if !dice.chance(percent) {
            kept.push(plain);
        }
    }
    if kept.len() < KEPT_MIN {
        return text.to_lowercase();
    }
    let mark = if dice.chance(50) { "?" } else { "" };
    format!("{}{mark}", kept.join(" "))
}

/// Words alone, in small letters: how wordings are compared.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// Wordings that are held out.
#[derive(Debug, Default)]
struct HeldOut {
    wordings: BTreeSet<String>,
    /// All of them without one of their words.
    shorter: BTreeSet<String>,
    /// All of them with another word for one of theirs.
    changed: BTreeSet<String>,
}

impl HeldOut {
    fn add(&mut self, words: &[String]) {
        self.wordings.insert(words.join(" "));
        self.shorter.extend(without_one(words));
        self.changed.extend(with_a_gap(words));
    }

    /// Whether it is one of them, or would be with one word more, less, or changed.
    fn is_near(&self, words: &[String]) -> bool {
        let text = words.join(" ");
        self.wordings.contains(&text)
            || self.shorter.contains(&text)
            || without_one(words).any(|text| self.wordings.contains(&text))
            || with_a_gap(words).any(|text| self.changed.contains(&text))
    }
}

fn without_one(words: &[String]) -> impl Iterator<Item = String> {
    (0..words.len()).map(|left_out| {
        let mut words = words.to_vec();
        words.remove(left_out);
        words.join(" ")
    })
}

fn with_a_gap(words: &[String]) -> impl Iterator<Item = String> {
    (0..words.len()).map(|gap| {
        let mut words = words.to_vec();
        "*".clone_into(&mut words[gap]);
        words.join(" ")
    })
}

/// All that is asked to judge a model.
fn held_out() -> &'static HeldOut {
    static ALL: OnceLock<HeldOut> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = HeldOut::default();
        let entries = skein::facts().chain(nature::facts()).chain(talk::entries());
        for entry in entries {
            for subject in expansions(entry.subject_held_out, &[]) {
                let slots = [("x", subject.as_str()), ("X", subject.as_str())];
                let wordings = entry.wordings.held_out.iter();
                let asked = wordings.flat_map(|wording| expansions(wording, &slots));
                asked.for_each(|text| all.add(&words(&text)));
            }
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(make: impl Fn(&mut Dice) -> String) -> BTreeSet<String> {
        (0..400)
            .map(|seed| make(&mut Dice::new(seed, &[3])))
            .collect()
    }

    #[test]
    fn frames_keep_what_is_asked() {
        let said = all(|dice| framed(dice, "How do I make replicas?"));
        assert!(said.contains("I want to make replicas. How?"), "{said:?}");
        assert!(said.iter().all(|text| text.contains("make replicas")));
        let said = all(|dice| framed(dice, "Which option makes replicas?"));
        assert!(
            said.contains("Please, which option makes replicas?"),
            "{said:?}"
        );
        assert!(said.contains("Which option makes replicas? Please tell me."));
        let said = all(|dice| framed(dice, "I want replicas."));
        assert!(said.contains("Well, I want replicas."), "{said:?}");
    }

    #[test]
    fn every_kind_of_question_has_its_frames() {
        let said = all(|dice| framed(dice, "Tell me who sees my text."));
        assert!(
            said.contains("I want to know who sees my text."),
            "{said:?}"
        );
        let said = all(|dice| framed(dice, "What is a slice?"));
        assert!(said.contains("A slice, what is that?"), "{said:?}");
        assert_eq!(inner("I want replicas."), "I want replicas.");
        assert_eq!(inner("Skein stopped, why?"), "Skein stopped, why?");
        assert_eq!(inner("`skein up` for what?"), "`skein up` for what?");
        assert_eq!(inner("Which node reads it?"), "which node reads it?");
    }

    #[test]
    fn haste_leaves_out_small_words() {
        let said = all(|dice| hasty(dice, "Who sees the text that I write?", ""));
        assert!(said.contains("who sees text write?"), "{said:?}");
        let whole = said
            .iter()
            .filter(|text| text.contains("sees") && text.contains("text"));
        assert!(2 * whole.count() > said.len(), "{said:?}");
        let said = all(|dice| hasty(dice, "When do I need `skein keys new`?", "skein keys new"));
        assert!(
            said.iter().all(|text| text.contains("`skein keys new`")),
            "{said:?}"
        );
        let said = all(|dice| hasty(dice, "What is it for?", ""));
        assert!(said.iter().all(|text| text.split(' ').count() >= KEPT_MIN));
    }

    #[test]
    fn what_it_is_about_stays() {
        let said = all(|dice| hasty(dice, "What is a slice for?", "a slice"));
        assert!(said.len() > 5 && said.iter().all(|text| text.contains("slice")));
        let said = all(|dice| hasty(dice, "What does skein model split do?", "skein model split"));
        assert!(said.iter().all(|text| text.contains("skein model split")));
    }

    #[test]
    fn what_has_no_frame_stays_as_it_is() {
        for text in ["And what is a slice?", "Please explain a slice."] {
            assert_eq!(all(|dice| framed(dice, text)), [text.to_owned()].into());
        }
        let said = all(|dice| framed(dice, "What is a slice good for?"));
        assert!(
            said.iter().all(|text| !text.starts_with("Explain")),
            "{said:?}"
        );
    }

    #[test]
    fn nearness_is_one_word() {
        let mut held = HeldOut::default();
        held.add(&words("Where do I find a slice?"));
        for near in [
            "where do I find a slice",
            "Where do I find one slice?",
            "Where do I find slice?",
            "So where do I find a slice?",
        ] {
            assert!(held.is_near(&words(near)), "{near}");
        }
        for far in [
            "Where is a slice?",
            "Now tell me where do I find a slice?",
            "",
        ] {
            assert!(!held.is_near(&words(far)), "{far}");
        }
    }

    #[test]
    fn what_comes_near_the_held_out_is_not_said() {
        let asked = "How do I change the configuration?";
        let kept = "What must I do to change the configuration?";
        assert!(held_out().wordings.contains(&words(kept).join(" ")));
        assert!(all(|dice| framed(dice, asked)).contains(kept));
        let said = all(|dice| reworded(dice, asked.to_owned(), ""));
        assert!(said.len() > 10, "{said:?}");
        let other = said.iter().filter(|text| *text != asked);
        let near: Vec<_> = other
            .filter(|text| held_out().is_near(&words(text)))
            .collect();
        assert!(near.is_empty(), "{near:?}");
    }

    #[test]
    fn no_wording_of_training_is_held_out() {
        let held_out = held_out();
        assert!(held_out.wordings.len() > 500);
        let entries = skein::facts().chain(nature::facts()).chain(talk::entries());
        for entry in entries {
            for subject in expansions(entry.subject, &[]) {
                let big = capital(&subject);
                let slots = [("x", subject.as_str()), ("X", big.as_str())];
                let wordings = entry.wordings.training.iter();
                for text in wordings.flat_map(|wording| expansions(wording, &slots)) {
                    assert!(
                        !held_out.wordings.contains(&words(&text).join(" ")),
                        "{text}"
                    );
                }
            }
        }
    }
}
