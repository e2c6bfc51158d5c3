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

/// The text as it is, in a frame or in haste. What would come out as a held-out wording stays as it
/// was; that the text itself is none is the catalogues' affair.
pub(super) fn reworded(dice: &mut Dice, text: String) -> String {
    if text.split(' ').count() < WORDS_MIN {
        return text;
    }
    let other = match dice.weighted(&SHARES) {
        0 => return text,
        1 => framed(dice, &text),
        _ => hasty(dice, &text),
    };
    match held_out().contains(&normal(&other)) {
        true => text,
        false => other,
    }
}

/// Frames of a wish, by how the question begins; `{x}` is its rest.
const FRAMES: [(&[&str], &str); 3] = [
    (
        &["How do I ", "How can I "],
        "[How does one {x}?|I need to {x}.|What must I do to {x}?|Show me how to {x}.|I want to {x}. \
         How?|My question is how to {x}.|Help me to {x}.|I do not know how to {x}.|How to {x}?]",
    ),
    (
        &["Tell me "],
        "[I want to know {x}.|Can you say {x}?|Please say {x}.|I do not know {x}.|Say {x}.|I wonder \
         {x}.]",
    ),
    (
        &["What is ", "What are "],
        "[Explain {x}.|{X}, what is that?|What about {x}?|I do not know {x}.|{X}?]",
    ),
];

/// A frame for what fits no other.
const AROUND: &str = "[A question: {x}|One more question: {x}|Please, {x}|Well, {x}|So, {x}|Now, {x}|And {x}|{X} I want \
                      to know.|{X} Please tell me.|Skein, {x}|Say, {x}|Hey, {x}|{X} Do you know?|I ask \
                      you: {x}]";

fn framed(dice: &mut Dice, text: &str) -> String {
    for (starts, template) in FRAMES {
        let rest = starts.iter().find_map(|start| text.strip_prefix(start));
        if let Some(rest) = rest.map(|rest| rest.trim_end_matches(['.', '?']))
            && !rest.contains(['.', '?'])
        {
            return say(dice, template, &[("x", rest), ("X", &capital(rest))]);
        }
    }
    say(dice, AROUND, &[("x", &inner(text)), ("X", text)])
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

/// In small letters, without most of the small words and now and then without another one.
fn hasty(dice: &mut Dice, text: &str) -> String {
    let commands = text.contains('`') || text.contains("--");
    let [small, other] = LEFT_OUT_PERCENT;
    let words: Vec<&str> = text.split(' ').collect();
    let mut kept = Vec::new();
    for word in &words {
        let plain = word.trim_end_matches(['.', '?', '!', ',']).to_lowercase();
        let percent = match LEFT_OUT.contains(&plain.as_str()) {
            true => small,
            false if commands => 0,
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

/// Words alone: how wordings are compared.
fn normal(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join(" ")
}

/// All that is asked to judge a model, normalised.
fn held_out() -> &'static BTreeSet<String> {
    static ALL: OnceLock<BTreeSet<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = BTreeSet::new();
        let entries = skein::facts().chain(nature::facts()).chain(talk::entries());
        for entry in entries {
            for subject in expansions(entry.subject_held_out, &[]) {
                let slots = [("x", subject.as_str()), ("X", subject.as_str())];
                let wordings = entry.wordings.held_out.iter();
                let asked = wordings.flat_map(|wording| expansions(wording, &slots));
                all.extend(asked.map(|text| normal(&text)));
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
        let said = all(|dice| hasty(dice, "Who sees the text that I write?"));
        assert!(said.contains("who sees text write?"), "{said:?}");
        let whole = said
            .iter()
            .filter(|text| text.contains("sees") && text.contains("text"));
        assert!(2 * whole.count() > said.len(), "{said:?}");
        let said = all(|dice| hasty(dice, "When do I need `skein keys new`?"));
        assert!(
            said.iter().all(|text| text.contains("`skein keys new`")),
            "{said:?}"
        );
        let said = all(|dice| hasty(dice, "What is it for?"));
        assert!(said.iter().all(|text| text.split(' ').count() >= KEPT_MIN));
    }

    #[test]
    fn a_frame_that_makes_what_is_held_out_is_not_used() {
        let asked = "How do I change the configuration?";
        let kept = "What must I do to change the configuration?";
        assert!(held_out().contains(&normal(kept)));
        assert!(all(|dice| framed(dice, asked)).contains(kept));
        let said = all(|dice| reworded(dice, asked.to_owned()));
        assert!(said.len() > 10, "{said:?}");
        let leak = said.iter().find(|text| held_out().contains(&normal(text)));
        assert_eq!(leak, None);
    }

    #[test]
    fn no_wording_of_training_is_held_out() {
        assert!(held_out().len() > 500, "{}", held_out().len());
        let entries = skein::facts().chain(nature::facts()).chain(talk::entries());
        for entry in entries {
            for subject in expansions(entry.subject, &[]) {
                let big = capital(&subject);
                let slots = [("x", subject.as_str()), ("X", big.as_str())];
                let wordings = entry.wordings.training.iter();
                for text in wordings.flat_map(|wording| expansions(wording, &slots)) {
                    assert!(!held_out().contains(&normal(&text)), "{text}");
                }
            }
        }
    }
}
