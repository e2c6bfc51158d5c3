//! Samples out of a file of JSON lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;
use skein_model::Pool;
use skein_model::train::Sample;
use skein_runtime::FileRange;
use skein_text::template::ChatTemplate;
use skein_text::tokenizer::EncodeError;
use skein_text::transcript::TranscriptError;
use skein_text::{Specials, Tokenizer, transcript};
use skein_weights::hashing::FileHashes;

use super::settings::DataFile;
use crate::node::chain;

/// Longest line, in bytes: the longest text that the tokenizer takes, escaped.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Most lines, and about most bytes, that are encoded together.
const BLOCK_LINES: usize = 1024;
const BLOCK_BYTES: u64 = 8 << 20;
/// Most tokens of all samples together: 10 GiB of memory.
const TOKENS_MAX: usize = 1 << 31;

/// Why a file gives no samples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplesError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line is no sample.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// There are more tokens than fit.
    #[error("{} has more than {TOKENS_MAX} tokens: train on a part of it", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what it was when training began.
    #[error("{} has changed since this training began, so it cannot go on", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// One line: `{"text": ...}`, `{"messages": [...]}`, or what became of either in this tokenizer,
/// `{"tokens": [...], "learned": [[from, to], ...]}`; other fields are somebody else's.
#[derive(Debug, Deserialize)]
struct Line {
    text: Option<String>,
    messages: Option<Vec<Value>>,
    tokens: Option<Vec<u32>>,
    /// Which tokens are learned; without it, all.
    learned: Option<Vec<[usize; 2]>>,
}

/// What turns lines into tokens.
#[derive(Debug)]
pub struct Encoder<'a> {
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The chat template, for conversations.
    pub template: Option<&'a ChatTemplate>,
    /// What a template that asks for the date is told, in seconds since 1970.
    pub now_unix: i64,
}

impl Encoder<'_> {
    /// A text is learned whole, with the token that ends it; of a conversation, what the assistant
    /// says.
    ///
    /// # Errors
    /// In words, for [`SamplesError::Line`].
    fn sample(&self, line: &[u8]) -> Result<Sample, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match (line.text, line.messages, line.tokens) {
            (Some(text), None, None) => self.text(&text).map_err(|error| chain(&error)),
            (None, None, Some(tokens)) => self.tokens(&tokens, line.learned.as_deref()),
            (None, Some(messages), None) => {
                let template = self.template.ok_or(
                    "the model has no chat template, so it cannot learn conversations: put a \
                     chat_template.jinja beside it, or give texts",
                )?;
                let marked = transcript(self.tokenizer, template, &messages, self.now_unix);
                let marked = marked.map_err(|error: TranscriptError| chain(&error))?;
                Ok(Sample::marked(marked))
            }
            _ => Err("it must have one of \"text\", \"messages\" and \"tokens\"".to_owned()),
        }
    }

    fn text(&self, text: &str) -> Result<Sample, EncodeError> {
        let mut ids = self.tokenizer.encode(text, Specials::AddAndParse)?;
        let end = self.tokenizer.eos().first().copied();
        // Some tokenizers add the end themselves.
        ids.extend(end.filter(|end| ids.last() != Some(end)));
        Ok(Sample::text(ids))
    }
}

impl Encoder<'_> {
    fn tokens(&self, tokens: &[u32], learned: Option<&[[usize; 2]]>) -> Result<Sample, String> {
        let known = self.tokenizer.vocabulary();
        if let Some(id) = tokens.iter().find(|&&id| id >= known) {
            return Err(format!("token {id} is none of the tokenizer's {known}"));
        }
        let mut marks = vec![learned.is_none(); tokens.len()];
        for &[from, to] in learned.unwrap_or_default() {
            let range = marks.get_mut(from..to).ok_or_else(|| {
                let count = tokens.len();
                format!("learned [{from}, {to}] is no range of the {count} tokens")
            })?;
            range.fill(true);
        }
        Ok(Sample::marked(tokens.iter().copied().zip(marks)))
    }
}

/// Lines that are encoded together, each on whichever thread is free.
#[derive(Debug, Default)]
struct Block {
    /// Each with its number.
    lines: Vec<(usize, Vec<u8>)>,
    bytes: u64,
}

impl Block {
    fn is_full(&self) -> bool {
        self.lines.len() >= BLOCK_LINES || self.bytes >= BLOCK_BYTES
    }

    /// The samples in order, or what is wrong with the first bad line.
    fn encode(&self, encoder: &Encoder<'_>, pool: &Pool) -> Result<Vec<Sample>, (usize, String)> {
        let slots: Vec<OnceLock<Result<Sample, String>>> =
            self.lines.iter().map(|_| OnceLock::new()).collect();
        pool.each(slots.len(), &|index| {
            slots[index].get_or_init(|| encoder.sample(&self.lines[index].1));
        });
        let encoded = slots
            .into_iter()
            .zip(&self.lines)
            .map(|(slot, (number, _))| {
                let sample = slot.into_inner().expect("the pool calls once for each");
                sample.map_err(|problem| (*number, problem))
            });
        encoded.collect()
    }
}

/// Reads all samples of a file; empty lines are passed over. `pool` encodes; `progress` is told how
/// many bytes were read.
pub fn read(
    path: &Path,
    encoder: &Encoder<'_>,
    pool: &Pool,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Sample>, SamplesError> {
    let io = |source| SamplesError::Io {
        path: path.to_owned(),
        source,
    };
    let wrong = |(line, problem)| SamplesError::Line {
        path: path.to_owned(),
        line,
        problem,
    };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let (mut samples, mut tokens, mut block, mut read) = (Vec::new(), 0, Block::default(), 0);
    for number in 1.. {
        let mut line = Vec::new();
        let mut bounded = file.by_ref().take(LINE_BYTES_MAX + 1);
        let length = bounded.read_until(b'\n', &mut line).map_err(io)? as u64;
        if length > LINE_BYTES_MAX {
            let problem = format!("it has more than {LINE_BYTES_MAX} bytes");
            return Err(wrong((number, problem)));
        }
        if !line.trim_ascii().is_empty() {
            block.lines.push((number, line));
            block.bytes += length;
        }
        if block.is_full() || length == 0 {
            let encoded = block.encode(encoder, pool).map_err(wrong)?;
            block = Block::default();
            tokens += encoded.iter().map(|one| one.ids().len()).sum::<usize>();
            if tokens > TOKENS_MAX {
                let path = path.to_owned();
                return Err(SamplesError::TooMany { path });
            }
            samples.extend(encoded);
        }
        read += length;
        progress(read);
        if length == 0 {
            break;
        }
    }
    Ok(samples)
}

/// Takes down which file it is; `progress` is told how many bytes were read.
pub fn identify(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<DataFile, SamplesError> {
    let mut done = 0;
    let mut hash = || {
        let file = FileRange::open(path)?;
        FileHashes::of(&file, &mut |read| {
            done += read;
            progress(done);
        })
    };
    let hashes = hash().map_err(|source| SamplesError::Io {
        path: path.to_owned(),
        source,
    })?;
    // Absolute, so that training can be gone on with from another folder.
    Ok(DataFile {
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        sha256: hashes.sha256.to_string(),
    })
}

/// As [`read`], of a file that must be what it was: it is read twice, and `progress` told of both.
pub fn read_same(
    file: &DataFile,
    encoder: &Encoder<'_>,
    pool: &Pool,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Sample>, SamplesError> {
    if identify(&file.path, progress)?.sha256 != file.sha256 {
        let path = file.path.clone();
        return Err(SamplesError::Changed { path });
    }
    read(&file.path, encoder, pool, progress)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use skein_weights::vocabulary::{Vocabulary, VocabularyKind};

    use super::*;

    const FILE: &[u8] = include_bytes!("../../../../fixtures/qwen2/tokenizer.json");

    fn tokenizer() -> Tokenizer {
        let mut vocabulary = Vocabulary {
            kind: VocabularyKind::TokenizerJson(FILE.to_vec()),
            chat_template: None,
            special_tokens: vec![],
            bos: None,
            eos: vec![],
        };
        let plain = Tokenizer::new(&vocabulary).unwrap();
        vocabulary.eos.extend(plain.token_to_id("<|im_end|>"));
        Tokenizer::new(&vocabulary).unwrap()
    }

    fn read_text(text: &str, template: Option<&ChatTemplate>) -> Result<Vec<Sample>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        fs::write(&path, text).unwrap();
        let encoder = Encoder {
            tokenizer: &tokenizer(),
            template,
            now_unix: 0,
        };
        read(&path, &encoder, &Pool::new(2), &mut |_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_and_conversations() {
        let template = ChatTemplate::builtin("chatml").unwrap();
        let lines = concat!(
            "{\"text\": \"The fox walks.\", \"id\": 7}\n\n",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"Who?\"},",
            " {\"role\": \"assistant\", \"content\": \"The fox.\"}]}"
        );
        let samples = read_text(lines, Some(&template)).unwrap();
        let tokenizer = tokenizer();
        let text = &samples[0];
        assert_eq!(text.targets(), text.ids().len() - 1);
        assert!(tokenizer.is_eos(text.ids()[text.ids().len() - 1]));
        let answer = tokenizer.encode("The fox.", Specials::Literal).unwrap();
        assert_eq!(samples[1].targets(), answer.len() + 1);
        assert_eq!(samples.len(), 2);
        let lines = concat!(
            "{\"tokens\": [5, 6, 7, 8], \"learned\": [[1, 2], [3, 4]]}\n",
            "{\"tokens\": [5, 6, 7, 8]}",
        );
        let samples = read_text(lines, None).unwrap();
        assert_eq!(samples[0].ids(), [5, 6, 7, 8]);
        assert_eq!((samples[0].targets(), samples[1].targets()), (2, 3));
    }

    #[test]
    fn wrong_lines_are_named() {
        let good = "{\"text\": \"a\"}\n";
        let message = "{\"messages\": [{\"role\": \"assistant\", \"content\": \"b\"}]}";
        for (line, expected) in [
            ("{", "line 2: EOF"),
            ("{\"texts\": \"a\"}", "line 2: it must have one of"),
            ("{\"tokens\": [99999999]}", "line 2: token 99999999 is none"),
            (
                "{\"tokens\": [1, 2], \"learned\": [[1, 3]]}",
                "line 2: learned [1, 3] is no range of the 2 tokens",
            ),
            (
                "{\"text\": \"a\", \"messages\": []}",
                "line 2: it must have one of",
            ),
            (message, "line 2: the model has no chat template"),
        ] {
            let error = read_text(&format!("{good}{line}\n"), None).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let template = ChatTemplate::builtin("chatml").unwrap();
        let error = read_text("{\"messages\": []}", Some(&template)).unwrap_err();
        assert!(error.contains("line 1: "), "{error}");
    }

    #[test]
    fn a_changed_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        fs::write(&path, "{\"text\": \"a\"}\n").unwrap();
        let (file, pool) = (identify(&path, &mut |_| ()).unwrap(), Pool::new(1));
        let encoder = Encoder {
            tokenizer: &tokenizer(),
            template: None,
            now_unix: 0,
        };
        assert_eq!(
            read_same(&file, &encoder, &pool, &mut |_| ())
                .unwrap()
                .len(),
            1
        );
        fs::write(&path, "{\"text\": \"b\"}\n").unwrap();
        let error = read_same(&file, &encoder, &pool, &mut |_| ()).unwrap_err();
        assert!(matches!(error, SamplesError::Changed { .. }), "{error}");
    }
}
