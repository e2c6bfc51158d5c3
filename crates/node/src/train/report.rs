//! What is seen of a training: a bar, a log, saved states.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use serde_json::{Value, json};
use skein_model::train::{
    Evaluation, Feed, Flow, Observer, Step, TrainError, Trainer, write_state,
};
use skein_runtime::{AtomicFile, Clock, Instant};

use super::settings::{LOG_FILE, STATE_FILE};
use crate::console::Console;

/// Lines that tell of a training without a terminal, unless it is long.
const LINES: u64 = 50;
/// Most steps between two of them.
const LINE_STEPS_MAX: u64 = 100;
/// Longest line of a log that is read back, in bytes.
const LINE_BYTES_MAX: u64 = 4096;
/// Most lines of a log that are read back.
const LINES_MAX: usize = 1 << 24;

/// Why training ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A step failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// State or log could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Where a training is shown.
#[derive(Debug, Clone)]
pub struct Screen {
    console: Console,
    bar: ProgressBar,
    /// Steps between lines where there is no bar.
    every: u64,
}

impl Screen {
    /// A bar over `total` steps of which `taken` are behind, or lines where no terminal is.
    pub fn new(console: Console, taken: u64, total: u64) -> Self {
        let bar = console.step_bar(total);
        bar.set_position(taken);
        // Else the steps of before count as taken just now.
        bar.reset_eta();
        Self {
            console,
            bar,
            every: (total / LINES).clamp(1, LINE_STEPS_MAX),
        }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            self.console.note(line);
        } else {
            self.bar.println(line);
        }
    }

    /// A step, and how it went.
    fn step(&self, step: u64, line: &str) {
        self.bar.set_position(step);
        self.bar.set_message(line.to_owned());
        if self.bar.is_hidden() && step.is_multiple_of(self.every) {
            self.console.note(&format!("step {step}: {line}"));
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Shows a training and keeps its states.
#[derive(Debug)]
pub struct Report {
    folder: PathBuf,
    log: File,
    screen: Screen,
    clock: Arc<dyn Clock>,
    last: Instant,
    /// Set when somebody asked to stop.
    stop: Arc<AtomicBool>,
    /// The first error of the log; a step cannot fail because of it, the next save does.
    failed: Option<io::Error>,
    /// The loss of every step, those before this run included.
    pub losses: Vec<f64>,
    /// Every evaluation: after how many steps, and the loss.
    pub evaluations: Vec<(u64, f64)>,
    /// Tokens that went through the model in this run, and the seconds that took.
    pub worked: (usize, f64),
}

impl Report {
    /// Goes on with the log of `folder` behind step `taken`; what was logged later is dropped, and an
    /// evaluation at that step, since it is about to happen again.
    pub fn new(
        folder: &Path,
        taken: u64,
        screen: Screen,
        clock: Arc<dyn Clock>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, RunError> {
        let path = folder.join(LOG_FILE);
        let lines = read_log(&path, taken);
        let open = || {
            let lines = lines?;
            let mut file = AtomicFile::create(folder, LOG_FILE)?;
            for line in &lines {
                writeln!(file, "{line}")?;
            }
            file.commit()?;
            Ok((lines, File::options().append(true).open(&path)?))
        };
        let (lines, log) = open().map_err(|source| RunError::Write {
            path: path.clone(),
            source,
        })?;
        let number = |line: &Value, name: &str| line.get(name).and_then(Value::as_f64);
        let evaluation = |line: &Value| {
            let step = line.get("step").and_then(Value::as_u64)?;
            Some((step, number(line, "held_out_loss")?))
        };
        Ok(Self {
            folder: folder.to_owned(),
            log,
            last: clock.now(),
            screen,
            clock,
            stop,
            failed: None,
            losses: lines
                .iter()
                .filter_map(|line| number(line, "loss"))
                .collect(),
            evaluations: lines.iter().filter_map(evaluation).collect(),
            worked: (0, 0.0),
        })
    }

    /// Tokens a second over this run.
    pub fn tokens_per_second(&self) -> f64 {
        self.worked.0 as f64 / self.worked.1.max(f64::MIN_POSITIVE)
    }

    fn write_log(&mut self, line: &Value) {
        let written = writeln!(self.log, "{line}");
        self.failed = self.failed.take().or(written.err());
    }
}

/// The lines of a log up to a step; none if there is no log.
fn read_log(path: &Path, taken: u64) -> io::Result<Vec<Value>> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    while lines.len() < LINES_MAX {
        line.clear();
        let read = file
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        // A line that a crash cut is the last one.
        let Ok(value) = serde_json::from_slice::<Value>(&line) else {
            break;
        };
        let step = value.get("step").and_then(Value::as_u64);
        if read == 0 || step.is_none_or(|step| step > taken) {
            break;
        }
        if value.get("held_out_loss").is_none() || step != Some(taken) {
            lines.push(value);
        }
    }
    Ok(lines)
}

impl Observer for Report {
    type Error = RunError;

    fn stepped(&mut self, step: &Step) -> Flow {
        let now = self.clock.now();
        let seconds = now.since(self.last).as_secs_f64();
        self.last = now;
        self.worked.0 += step.tokens;
        self.worked.1 += seconds;
        let speed = step.tokens as f64 / seconds.max(f64::MIN_POSITIVE);
        self.losses.push(step.loss);
        self.write_log(&json!({
            "step": step.step,
            "loss": step.loss,
            "rate": step.rate,
            "norm": step.norm,
            "tokens": step.tokens,
            "targets": step.targets,
            "tokens_per_second": speed.round(),
        }));
        let line = format!(
            "loss {:.4}  rate {:.1e}  norm {:.2}  {speed:.0} tokens/s",
            step.loss, step.rate, step.norm
        );
        self.screen.step(step.step, &line);
        match self.stop.load(Ordering::Relaxed) {
            true => Flow::Stop,
            false => Flow::Continue,
        }
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        let (loss, targets) = (evaluation.loss, evaluation.targets);
        self.evaluations.push((step, loss));
        self.write_log(&json!({
            "step": step,
            "held_out_loss": loss,
            "held_out_targets": targets,
        }));
        self.screen.say(&format!(
            "step {step}: held-out loss {loss:.4}, perplexity {:.3}, over {targets} tokens",
            loss.exp()
        ));
        // An evaluation is no part of a step's time.
        self.last = self.clock.now();
    }

    fn save(&mut self, trainer: &Trainer, feed: &Feed) -> Result<(), RunError> {
        let failed = |file: &str| {
            let path = self.folder.join(file);
            |source| RunError::Write { path, source }
        };
        if let Some(error) = self.failed.take() {
            return Err(failed(LOG_FILE)(error));
        }
        let write = || {
            let mut file = AtomicFile::create(&self.folder, STATE_FILE)?;
            let mut append = |bytes: &[u8]| file.write_all(bytes);
            write_state(trainer, feed.position(), &BTreeMap::new(), &mut append)?;
            file.commit()
        };
        // The log first: a state must not be ahead of it.
        self.log.sync_data().map_err(failed(LOG_FILE))?;
        write().map_err(failed(STATE_FILE))?;
        self.last = self.clock.now();
        Ok(())
    }
}

/// Whether a state has been saved in `folder`.
pub fn has_state(folder: &Path) -> io::Result<bool> {
    match fs::metadata(folder.join(STATE_FILE)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skein_runtime::ManualClock;

    use super::*;

    fn report(folder: &Path, taken: u64, stop: &Arc<AtomicBool>) -> (Report, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let console = Console {
            quiet: true,
            terminal: false,
            color: false,
            screen: false,
        };
        let screen = Screen::new(console, taken, 10);
        let report = Report::new(folder, taken, screen, clock.clone(), stop.clone()).unwrap();
        (report, clock)
    }

    fn step(step: u64, loss: f64) -> Step {
        Step {
            step,
            loss,
            rate: 1e-3,
            norm: 0.5,
            tokens: 100,
            targets: 80,
        }
    }

    #[test]
    fn the_log_goes_on_behind_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut first, clock) = report(folder.path(), 0, &stop);
        let evaluation = Evaluation {
            loss: 2.5,
            targets: 7,
        };
        for number in 1..=4 {
            clock.advance(Duration::from_millis(500));
            let flow = first.stepped(&step(number, 5.0 - number as f64));
            assert_eq!(flow, Flow::Continue);
            first.evaluated(number, &evaluation);
        }
        assert_eq!(first.tokens_per_second(), 200.0);
        drop(first);
        // As a crash leaves it: the state is of step 2, a line is cut.
        let path = folder.path().join(LOG_FILE);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"step\": 5, \"lo");
        fs::write(&path, text).unwrap();
        let (mut second, _) = report(folder.path(), 2, &stop);
        assert_eq!(second.losses, [4.0, 3.0]);
        // Whoever goes on from step 2 begins with its evaluation.
        assert_eq!(second.evaluations, [(1, 2.5)]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(second.stepped(&step(3, 2.25)), Flow::Stop);
        let lines = fs::read_to_string(&path).unwrap();
        let steps: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].clone())
            .collect();
        assert_eq!(steps, [1, 1, 2, 3]);
        assert_eq!(second.losses, [4.0, 3.0, 2.25]);
    }
}
