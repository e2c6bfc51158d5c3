use proptest::prelude::*;

use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&s| s.to_owned()).collect()
}

/// What is shown in total and what stopped it, with the text cut in `pieces`.
fn run(stops: &[String], pieces: &[&str]) -> (String, Option<usize>) {
    let mut matcher = StopMatcher::new(stops, 8).expect("valid");
    let mut shown = String::new();
    for piece in pieces {
        let step = matcher.push(piece);
        shown.push_str(&step.text);
        if step.stopped.is_some() {
            assert_eq!(matcher.push("more").text, "");
            assert_eq!(matcher.finish(), "");
            return (shown, step.stopped);
        }
    }
    shown.push_str(&matcher.finish());
    (shown, None)
}

/// The rule of the module by trying everything.
fn naive(stops: &[String], text: &str) -> (String, Option<usize>) {
    for end in 1..=text.len() {
        let ends = |s: &String| text.as_bytes()[..end].ends_with(s.as_bytes());
        let found = stops.iter().enumerate().filter(|(_, s)| ends(s));
        if let Some((index, stop)) =
            found.max_by(|a, b| a.1.len().cmp(&b.1.len()).then(b.0.cmp(&a.0)))
        {
            return (text[..end - stop.len()].to_owned(), Some(index));
        }
    }
    (text.to_owned(), None)
}

#[test]
fn examples() {
    let check = |stops: &[&str], pieces: &[&str], shown: &str, stopped: Option<usize>| {
        assert_eq!(
            run(&strings(stops), pieces),
            (shown.to_owned(), stopped),
            "{stops:?} {pieces:?}"
        );
    };
    check(&[], &["anything"], "anything", None);
    check(&["END"], &["abc E", "N", "D def"], "abc ", Some(0));
    check(&["END"], &["abc E", "N"], "abc EN", None);
    check(&["aab"], &["aa", "ab"], "a", Some(0));
    check(&["b", "abc"], &["xabc"], "xa", Some(0));
    check(&["bc", "abc"], &["xabc"], "x", Some(1));
    check(&["。\n"], &["你好", "。", "\n再"], "你好", Some(0));
    check(&["\n\n"], &["a\n", "b\n", "\nc"], "a\nb", Some(0));
}

#[test]
fn text_is_held_no_longer_than_needed() {
    let mut matcher = StopMatcher::new(&strings(&["END", "EN!"]), 4).expect("valid");
    assert_eq!(matcher.push("a E").text, "a ");
    assert_eq!(matcher.push("N").text, "");
    assert_eq!(matcher.push("d E").text, "ENd ");
    assert_eq!(matcher.finish(), "E");
}

#[test]
fn bad_stop_strings_are_named() {
    let new = |stops: &[String]| StopMatcher::new(stops, 4).expect_err("bad");
    assert_eq!(new(&strings(&["a", ""])), StopError::Empty { index: 1 });
    assert_eq!(
        new(&strings(&["a"; 5])),
        StopError::TooMany { found: 5, max: 4 }
    );
    let long = new(&["x".repeat(STOP_BYTES_MAX + 1)]);
    assert_eq!(
        long,
        StopError::TooLong {
            index: 0,
            found: STOP_BYTES_MAX + 1,
            max: STOP_BYTES_MAX
        }
    );
}

proptest! {
    #[test]
    fn equals_naive_search_however_it_is_cut(
        stops in prop::collection::vec("[abé]{1,5}", 0..5),
        pieces in prop::collection::vec("[abé]{0,6}", 0..12),
    ) {
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        prop_assert_eq!(run(&stops, &pieces), naive(&stops, &pieces.concat()));
    }
}
