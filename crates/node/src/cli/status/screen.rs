//! A picture that is redrawn in its place.

use std::io::{self, Write as _};

use console::{Term, truncate_str};

/// The other screen of the terminal, without a cursor; what was there before stays as it was.
const OPEN: &str = "\u{1b}[?1049h\u{1b}[?25l";
/// Back again.
const CLOSE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// Around a picture: terminals that know it show all of it at once. Others ignore it.
const HOLD: &str = "\u{1b}[?2026h";
const SHOW: &str = "\u{1b}[?2026l";
/// To the first column of the first line.
const HOME: &str = "\u{1b}[H";
/// Clears what an earlier picture left in the line, and below.
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";

/// The terminal while it shows pictures. Dropping it restores what was there before.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Term,
}

impl Screen {
    /// Takes the terminal of standard output.
    pub(super) fn open() -> io::Result<Self> {
        write(OPEN)?;
        Ok(Self {
            terminal: Term::stdout(),
        })
    }

    /// Shows `text` instead of what it showed before.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
        let (rows, columns) = self.terminal.size();
        write(&picture(text, usize::from(rows), usize::from(columns)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to see it if the terminal is gone.
        let _ = write(CLOSE);
    }
}

/// All at once, so that no half of a picture is ever shown.
fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What draws `text` over an earlier picture. Lines are cut to `columns`; of too many lines for
/// `rows`, the last one that is shown counts those that are not.
fn picture(text: &str, rows: usize, columns: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let fits = lines.len() <= rows;
    let shown = if fits {
        lines.len()
    } else {
        rows.saturating_sub(1)
    };
    let mut picture = format!("{HOLD}{HOME}");
    for (index, line) in lines[..shown].iter().enumerate() {
        if index > 0 {
            picture.push_str("\r\n");
        }
        picture.push_str(&truncate_str(line, columns, "…"));
        picture.push_str(REST_OF_LINE);
    }
    if !fits {
        let more = format!("… {} more lines", lines.len() - shown);
        let separator = if shown > 0 { "\r\n" } else { "" };
        picture.push_str(separator);
        picture.push_str(&truncate_str(&more, columns, "…"));
        picture.push_str(REST_OF_LINE);
    }
    picture.push_str(REST_OF_SCREEN);
    picture.push_str(SHOW);
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least of a terminal: shows what a picture makes of a screen that was full of dots.
    fn shown(text: &str, rows: usize, columns: usize) -> Vec<String> {
        let mut screen = vec![vec!['.'; columns]; rows];
        let (mut row, mut column) = (0, 0);
        let drawn = picture(text, rows, columns);
        let mut rest = drawn.as_str();
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => column = 0,
                '\n' => row += 1,
                '\u{1b}' => {
                    let end = rest
                        .find(|c: char| c.is_ascii_alphabetic())
                        .expect("an end");
                    match &rest[..=end] {
                        "[H" => (row, column) = (0, 0),
                        "[K" => screen[row][column..].fill(' '),
                        "[J" => {
                            screen[row][column..].fill(' ');
                            screen[row + 1..].fill(vec![' '; columns]);
                        }
                        "[?2026h" | "[?2026l" => {}
                        other => panic!("unknown sequence {other}"),
                    }
                    rest = &rest[end + 1..];
                }
                c => {
                    screen[row][column] = c;
                    column += 1;
                }
            }
        }
        let lines = screen.into_iter().map(String::from_iter);
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn a_picture_covers_what_was_there() {
        assert_eq!(shown("ab\n\nlonger\n", 4, 8), ["ab", "", "longer", ""]);
        assert_eq!(shown("", 2, 3), ["", ""]);
        assert_eq!(shown("12345678", 2, 8), ["12345678", ""]);
    }

    #[test]
    fn a_picture_is_cut_to_the_screen() {
        assert_eq!(shown("123456789", 2, 8), ["1234567…", ""]);
        assert_eq!(shown("a\nb\nc\n", 3, 16), ["a", "b", "c"]);
        assert_eq!(shown("a\nb\nc\nd\n", 3, 16), ["a", "b", "… 2 more lines"]);
        assert_eq!(shown("a\nb\n", 1, 16), ["… 2 more lines"]);
    }
}
