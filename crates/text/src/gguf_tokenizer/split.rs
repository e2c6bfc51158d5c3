//! How text is cut into words before byte-level BPE.

use super::GgufTokenizerError;

/// The rules of llama.cpp (`llama-vocab.cpp`) for the families that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// What llama.cpp does if a file names no rule.
    Default,
    /// GPT-2.
    Gpt2,
    /// SmolLM: GPT-2 with each digit apart.
    SmolLm,
    /// Llama 3.
    Llama3,
    /// Qwen2, Qwen2.5 and Qwen3.
    Qwen2,
}

/// Names in GGUF files (`tokenizer.ggml.pre`).
const NAMES: [(&str, Rule); 9] = [
    ("default", Rule::Default),
    ("gpt-2", Rule::Gpt2),
    ("phi-2", Rule::Gpt2),
    ("smollm", Rule::SmolLm),
    ("llama3", Rule::Llama3),
    ("llama-v3", Rule::Llama3),
    ("llama-bpe", Rule::Llama3),
    ("qwen2", Rule::Qwen2),
    ("deepseek-r1-qwen", Rule::Qwen2),
];

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Rule {
    /// The rule of that name.
    pub(super) fn of(pre: Option<&str>) -> Result<Self, GgufTokenizerError> {
        let pre = pre.filter(|pre| !pre.is_empty()).unwrap_or("default");
        let known = NAMES.iter().find(|(name, _)| *name == pre);
        known
            .map(|(_, rule)| *rule)
            .ok_or_else(|| GgufTokenizerError::PreTokenizer {
                pre: pre.to_owned(),
                served: NAMES.map(|(name, _)| name).join(", "),
            })
    }

    /// Expressions, each applied to the pieces that the one before left: matches and what is
    /// between them are pieces.
    pub(super) fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
            Self::Gpt2 => &[GPT2],
            Self::SmolLm => &[r"\p{N}", GPT2],
            Self::Llama3 => &[LLAMA3],
            Self::Qwen2 => &[QWEN2],
        }
    }

    /// Whether a word that is a token is taken as it is, whatever merges would make of it.
    pub(super) fn whole_words_first(self) -> bool {
        self == Self::Llama3
    }

    /// Whether a text begins with `bos` if the file does not say.
    pub(super) fn adds_bos(self) -> bool {
        self == Self::Llama3
    }
}
