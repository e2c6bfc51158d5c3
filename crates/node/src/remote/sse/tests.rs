use proptest::prelude::*;

use super::*;

/// The events of a stream that comes in pieces of `cut` bytes, and what is wrong with it.
fn decode_cut(bytes: &[u8], cut: usize) -> (Vec<String>, Result<(), SseError>) {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    let mut pieces = bytes.chunks(cut);
    let read = pieces.try_for_each(|piece| decoder.push(piece, &mut events));
    (events, read)
}

fn decode(bytes: &[u8]) -> Result<Vec<String>, SseError> {
    let (events, read) = decode_cut(bytes, usize::MAX);
    read.map(|()| events)
}

#[test]
fn streams_of_the_standard() {
    // The first four are the examples of the HTML standard.
    let cases: &[(&str, &[&str])] = &[
        ("data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
            &["first event", "second event"],
        ),
        ("data\n\ndata\ndata\n\ndata:", &["", "\n"]),
        ("data:test\n\ndata: test\n\n", &["test", "test"]),
        ("data: a\r\n\r\ndata: b\r\rdata: c\n\n", &["a", "b", "c"]),
        ("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["a"]),
        (":\n\n\n\n: ping\n\n", &[]),
        ("datax: a\ndata : b\nevent: data\nretry: 5\n\n", &[]),
        ("data: {\"a\":\"b: c\"}\n\n", &["{\"a\":\"b: c\"}"]),
        ("data: never ended\n", &[]),
        ("", &[]),
    ];
    for (stream, expected) in cases {
        let events = decode(stream.as_bytes()).expect("well formed");
        assert_eq!(events, *expected, "{stream:?}");
    }
}

#[test]
fn lines_and_events_are_bounded() {
    let fits = format!("data:{}\n\n", "x".repeat(LINE_BYTES_MAX - 5));
    assert_eq!(decode(fits.as_bytes()).map(|events| events.len()), Ok(1));
    let long = vec![b'x'; LINE_BYTES_MAX + 1];
    assert_eq!(decode(&long), Err(SseError::LineTooLong));
    // Also if it comes bit by bit.
    assert_eq!(decode_cut(&long, 1000).1, Err(SseError::LineTooLong));
    let many = "data: 0123456789\n".repeat(1 << 17);
    assert_eq!(decode(many.as_bytes()), Err(SseError::EventTooLong));
    let empty = "data\n".repeat(EVENT_BYTES_MAX + 2);
    assert_eq!(decode(empty.as_bytes()), Err(SseError::EventTooLong));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    assert_eq!(decode(b"data: \xff\n\n"), Err(SseError::NotUtf8));
    assert_eq!(decode(b": \xc3\n"), Err(SseError::NotUtf8));
    // What came before is kept.
    let kept = (vec!["a".to_owned()], Err(SseError::NotUtf8));
    assert_eq!(decode_cut(b"data: a\n\ndata: \xff\n\n", 99), kept);
    // A character may be cut by the network, not by a line's end.
    let whole = (vec!["\u{f6}".to_owned()], Ok(()));
    assert_eq!(decode_cut("data: \u{f6}\n\n".as_bytes(), 1), whole);
}

proptest! {
    /// What is written as a stream is read from it, with any line ends, comments, and cuts.
    #[test]
    fn events_survive_any_cut(
        events in prop::collection::vec("[^\r]{0,40}", 0..6),
        ending in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        cut in 1_usize..20,
    ) {
        let mut stream = String::new();
        for event in &events {
            stream += &format!(": comment{ending}");
            for line in event.split('\n') {
                stream += &format!("data: {line}{ending}");
            }
            stream += ending;
        }
        prop_assert_eq!(decode_cut(stream.as_bytes(), cut), (events, Ok(())));
    }

    /// Arbitrary bytes never panic, and how they are cut changes nothing.
    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut(
        bytes in prop::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd'), any::<u8>()], 0..200),
        cut in 1_usize..50,
    ) {
        prop_assert_eq!(decode_cut(&bytes, cut), decode_cut(&bytes, usize::MAX));
    }
}
