use super::*;

fn entry(name: &str, key: &str) -> KeyEntry {
    KeyEntry {
        name: name.to_owned(),
        hash: KeyHash::of(key),
        limits: KeyLimits::default(),
    }
}

#[test]
fn a_hash_is_the_sha256_that_other_tools_print() {
    // printf 'abc' | sha256sum
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(KeyHash::of("abc").to_string(), text);
    assert_eq!(text.parse(), Ok(KeyHash::of("abc")));
    assert_eq!(text.to_uppercase().parse(), Ok(KeyHash::of("abc")));
}

#[test]
fn malformed_hashes_are_refused() {
    for bad in ["", "ab", &"g".repeat(64), &"a".repeat(65), &"é".repeat(32)] {
        assert!(bad.parse::<KeyHash>().is_err(), "{bad}");
    }
}

#[test]
fn keys_are_found_by_their_whole_text_only() {
    let alice = format_key(&[1; 32]);
    let bob = format_key(&[2; 32]);
    let ring = KeyRing::new(vec![entry("alice", &alice), entry("bob", &bob)]).unwrap();
    assert_eq!(ring.find(&alice), Some(0));
    assert_eq!(ring.find(&bob), Some(1));
    for wrong in [
        "",
        &alice[..alice.len() - 1],
        &format!("{alice} "),
        &"x".repeat(10_000),
    ] {
        assert_eq!(ring.find(wrong), None);
    }
    assert_eq!(KeyRing::default().find(&alice), None);
}

#[test]
fn rings_that_could_mix_clients_are_refused() {
    let cases = [
        (
            vec![entry("a", "1"), entry("a", "2")],
            KeyError::DuplicateName("a".into()),
        ),
        (
            vec![entry("a", "1"), entry("b", "1")],
            KeyError::DuplicateKey("a".into(), "b".into()),
        ),
        (vec![entry("", "1")], KeyError::BadName(String::new())),
        (vec![entry("a b", "1")], KeyError::BadName("a b".into())),
        (vec![entry("anonymous", "1")], KeyError::ReservedName),
    ];
    for (entries, expected) in cases {
        assert_eq!(KeyRing::new(entries).unwrap_err(), expected);
    }
    let mut zero = entry("z", "1");
    zero.limits.tokens_per_minute = Some(0);
    assert_eq!(
        KeyRing::new(vec![zero]).unwrap_err(),
        KeyError::ZeroLimit("z".into())
    );
}
