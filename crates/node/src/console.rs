//! Standard output and error: what people and scripts see.

use std::io::{self, IsTerminal as _, Write as _};

/// How to talk to whoever started the process.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// Say nothing but results and errors.
    pub quiet: bool,
    /// Whether standard error is a terminal: progress bars and colours have a reader.
    pub terminal: bool,
    /// Whether colours may be used.
    pub color: bool,
    /// Whether standard output is a terminal.
    pub screen: bool,
}

impl Console {
    /// For this process; `no_color` is whether `NO_COLOR` is set.
    pub fn new(quiet: bool, no_color: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self {
            quiet,
            terminal,
            color: terminal && !no_color,
            screen: io::stdout().is_terminal(),
        }
    }

    /// A result on standard output, as it is.
    pub fn text(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// What a model says on standard output: as it is for programs, but on a terminal without the
    /// control characters by which a text could repaint what others wrote.
    pub fn speech(&self, text: &str) -> io::Result<()> {
        if self.screen {
            self.text(&harmless(text))
        } else {
            self.text(text)
        }
    }

    /// A line of a result on standard output.
    pub fn line(&self, text: &str) -> io::Result<()> {
        self.text(&format!("{text}\n"))
    }

    /// A result for programs on standard output.
    pub fn json(&self, value: &serde_json::Value) -> io::Result<()> {
        self.line(&format!("{value:#}"))
    }

    /// A remark on standard error; dropped if quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// A progress bar over bytes, hidden unless somebody watches.
    pub fn byte_bar(&self, total: u64) -> indicatif::ProgressBar {
        self.bar(
            total,
            "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        )
    }

    /// A progress bar over steps, hidden unless somebody watches.
    pub fn step_bar(&self, total: u64) -> indicatif::ProgressBar {
        self.bar(total, "{pos}/{len} {wide_bar} {msg} {eta}")
    }

    fn bar(&self, total: u64, template: &str) -> indicatif::ProgressBar {
        if self.quiet || !self.terminal {
            return indicatif::ProgressBar::hidden();
        }
        let bar = indicatif::ProgressBar::new(total);
        if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }
}

/// The text without control characters but those that end lines and columns.
fn harmless(text: &str) -> String {
    let shown = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_does_not_steer_the_terminal() {
        assert_eq!(
            harmless("a\tb\r\nc\u{1b}[2J\u{7}\u{9b}1m\u{f6}"),
            "a\tb\nc[2J1m\u{f6}"
        );
    }
}
