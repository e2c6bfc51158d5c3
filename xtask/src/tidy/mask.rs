//! Blanks out what is not code, so that a word in a comment or a string is not taken for a token.

/// The text with comments, strings and character literals replaced by spaces. Lines keep their
/// numbers and columns (counted in bytes).
///
/// A small lexer, not a parser: it knows nested block comments, raw strings and lifetimes, which
/// is all that can hide or fake a token.
pub(super) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = not_code(bytes, at).unwrap_or(at);
        if end > at {
            out.extend(
                bytes[at..end]
                    .iter()
                    .map(|b| if *b == b'\n' { b'\n' } else { b' ' }),
            );
            at = end;
        } else {
            out.push(if bytes[at].is_ascii() {
                bytes[at]
            } else {
                b' '
            });
            at += 1;
        }
    }
    String::from_utf8(out).expect("every byte written is ASCII")
}

/// The same text without what is compiled for tests alone: the item after each `#[cfg(test)]`.
pub(super) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find(MARK) {
        let start = from + found;
        let end = item_end(out.as_bytes(), start + MARK.len());
        let blank: String = out[start..end]
            .chars()
            .map(|c| if c == '\n' { c } else { ' ' })
            .collect();
        out.replace_range(start..end, &blank);
        from = end;
    }
    out
}

/// Where the comment, string or character literal that begins at `at` ends, if one does.
fn not_code(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    match rest {
        [b'/', b'/', ..] => Some(at + find(rest, b"\n").unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(at + block_comment(rest)),
        [b'"', ..] => Some(at + quoted(rest)),
        [b'r', b'"' | b'#', ..] if !continues_word(bytes, at) => {
            raw_string(rest).map(|length| at + length)
        }
        [b'\'', ..] => character(rest).map(|length| at + length),
        _ => None,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    let body = rest.get(1 + hashes..)?.strip_prefix(b"\"")?;
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    Some(find(body, &close).map_or(rest.len(), |end| 2 + hashes + end + close.len()))
}

/// The length of a character literal; `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return find(rest.get(3..)?, b"'").map(|end| 3 + end + 1);
    }
    // One character of up to four bytes, then the quote.
    let end = find(rest.get(1..rest.len().min(7))?, b"'")?;
    let one = std::str::from_utf8(&rest[1..=end]).ok()?.chars().count() == 1;
    one.then_some(end + 2)
}

fn continues_word(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).map(|i| bytes[i]);
    // `br"…"` is a raw string as well.
    before.is_some_and(|b| (b.is_ascii_alphanumeric() || b == b'_') && b != b'b')
}

fn item_end(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b';' if depth == 0 => return at + 1,
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    bytes.len()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
