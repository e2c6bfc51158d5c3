//! Wordings with choices: `[Please tell|Tell] me where {person} is[.|, please.]`.
//!
//! `[a|b]` is one of its parts, evenly; brackets nest; `{slot}` is filled in.

use super::dice::Dice;

/// What fills the slots, by name.
pub(super) type Slots<'a> = &'a [(&'a str, &'a str)];

/// One of the wordings of `template`.
pub(super) fn wording(dice: &mut Dice, template: &str, slots: Slots<'_>) -> String {
    let mut out = String::new();
    expand(dice, template, slots, &mut out);
    out
}

/// One of the wordings of `template`, as a sentence: its first letter is a capital.
pub(super) fn say(dice: &mut Dice, template: &str, slots: Slots<'_>) -> String {
    capital(&wording(dice, template, slots))
}

/// As [`say`], of one of several templates.
pub(super) fn say_one(dice: &mut Dice, templates: &[&str], slots: Slots<'_>) -> String {
    let template = *dice.pick(templates);
    say(dice, template, slots)
}

/// The text with a capital at its start.
pub(super) fn capital(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => first.to_uppercase().chain(rest).collect(),
        None => String::new(),
    }
}

/// The noun with `a` or `an`.
pub(super) fn with_article(noun: &str) -> String {
    match noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {noun}"),
        false => format!("a {noun}"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [start @ .., last] => format!("{} and {last}", start.join(", ")),
    }
}

fn expand(dice: &mut Dice, template: &str, slots: Slots<'_>, out: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find(['[', '{']) {
        out.push_str(&rest[..at]);
        let (inner, after) = enclosed(&rest[at..]);
        match rest.as_bytes()[at] {
            b'[' => {
                let options = alternatives(inner);
                let chosen = *dice.pick(&options);
                expand(dice, chosen, slots, out);
            }
            _ => out.push_str(filled(inner, slots)),
        }
        rest = after;
    }
    out.push_str(rest);
}

/// All wordings of `template`.
pub(super) fn expansions(template: &str, slots: Slots<'_>) -> Vec<String> {
    let Some(at) = template.find(['[', '{']) else {
        return vec![template.to_owned()];
    };
    let (inner, after) = enclosed(&template[at..]);
    let chosen: Vec<String> = match template.as_bytes()[at] {
        b'[' => alternatives(inner)
            .into_iter()
            .flat_map(|option| expansions(option, slots))
            .collect(),
        _ => vec![filled(inner, slots).to_owned()],
    };
    let rest = expansions(after, slots);
    let start = &template[..at];
    chosen
        .iter()
        .flat_map(|middle| rest.iter().map(move |end| format!("{start}{middle}{end}")))
        .collect()
}

fn filled<'a>(name: &'a str, slots: Slots<'a>) -> &'a str {
    slots
        .iter()
        .find(|(slot, _)| *slot == name)
        .map_or("{}", |(_, value)| value)
}

/// What stands between the bracket at the start and its partner, and what follows.
fn enclosed(text: &str) -> (&str, &str) {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    (&text[1..], "")
}

fn alternatives(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let mut from = 0;
    let mut parts = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            b'|' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all(template: &str, slots: Slots<'_>) -> BTreeSet<String> {
        (0..200)
            .map(|seed| say(&mut Dice::new(seed, &[]), template, slots))
            .collect()
    }

    #[test]
    fn all_wordings_come_up() {
        let said = all("[go|run[ fast|]] to {place}[.|!]", &[("place", "the park")]);
        let expected = [
            "Go to the park.",
            "Go to the park!",
            "Run fast to the park.",
            "Run fast to the park!",
            "Run to the park.",
            "Run to the park!",
        ];
        assert_eq!(said, expected.map(str::to_owned).into());
    }

    #[test]
    fn expansions_are_all_wordings() {
        let slots = [("place", "the park")];
        let template = "[go|run[ fast|]] to {place}[.|!]";
        let expanded = expansions(template, &slots).into_iter();
        let expanded: BTreeSet<String> = expanded.map(|text| capital(&text)).collect();
        assert_eq!(expanded, all(template, &slots));
    }

    #[test]
    fn a_missing_slot_shows() {
        assert_eq!(all("a {b} c", &[]), ["A {} c".to_owned()].into());
    }

    #[test]
    fn lists_and_articles() {
        let list =
            |items: &[&str]| listed(&items.iter().map(|&s| s.to_owned()).collect::<Vec<_>>());
        assert_eq!(list(&[]), "");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a and b");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(with_article("apple"), "an apple");
        assert_eq!(with_article("ball"), "a ball");
    }
}
