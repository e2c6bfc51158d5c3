//! Encode text some of whose control tokens are not to be trusted.
//!
//! The slow path: the steps of the library one by one (added tokens, normaliser, pre-tokenizer,
//! model), with our own choice of the added tokens.

use std::ops::Range;

use tokenizers::tokenizer::Split;
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Token,
};

use super::control::broken;
use super::{EncodeError, Tokenizer, contained};

/// Which control tokens count.
#[derive(Debug)]
pub(super) enum Trust<'a> {
    /// None.
    Nothing,
    /// All but those across one of these byte offsets, which ascend.
    Except(&'a [usize]),
}

/// The ids of `text`.
pub(super) fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    trust: &Trust<'_>,
) -> Result<Vec<u32>, EncodeError> {
    let pieces = cut(tokenizer, text, trust);
    let controls = pieces
        .iter()
        .filter(|(_, id)| id.is_some_and(|id| tokenizer.is_special(id)));
    let trusted = controls.count();
    let run = || ids(tokenizer, text, &pieces).map_err(|error| error.to_string());
    let ids = contained(run).map_err(|reason| EncodeError::Failed { reason })?;
    let mut specials = ids.iter().copied().filter(|&id| tokenizer.is_special(id));
    // The model itself may know a control token as a word.
    match specials.clone().count() > trusted {
        true => {
            let id = specials.find(|&id| !pieces.iter().any(|&(_, piece)| piece == Some(id)));
            let token = id.and_then(|id| tokenizer.library().id_to_token(id));
            Err(EncodeError::Control {
                token: token.unwrap_or_else(|| "a control token".into()),
            })
        }
        false => Ok(ids),
    }
}

type Piece = (Range<usize>, Option<u32>);

/// Text cut at the added tokens that count: leftmost first, the longest of several.
fn cut(tokenizer: &Tokenizer, text: &str, trust: &Trust<'_>) -> Vec<Piece> {
    let bytes = text.as_bytes();
    let counts = |start: usize, length: usize| match trust {
        Trust::Nothing => false,
        Trust::Except(breaks) => !broken(start, length, text, breaks),
    };
    let (mut pieces, mut plain, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let control = tokenizer.control_tokens();
        let usable = control
            .at(bytes, at)
            .filter(|m| !m.special || counts(at, m.length));
        let Some(found) = usable.last() else {
            at += 1;
            continue;
        };
        if plain < at {
            pieces.push((plain..at, None));
        }
        pieces.push((at..at + found.length, Some(found.id)));
        at += found.length;
        plain = at;
    }
    if plain < bytes.len() {
        pieces.push((plain..bytes.len(), None));
    }
    pieces
}

fn ids(tokenizer: &Tokenizer, text: &str, pieces: &[Piece]) -> tokenizers::Result<Vec<u32>> {
    let library = tokenizer.library();
    let mut cuts = PreTokenizedString::from(text);
    cuts.split(|_, whole| {
        Ok(pieces
            .iter()
            .filter_map(|piece| split(&whole, piece))
            .collect::<Vec<_>>())
    })?;
    if let Some(normalizer) = library.get_normalizer() {
        cuts.normalize(|piece| normalizer.normalize(piece))?;
    }
    if let Some(pre_tokenizer) = library.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut cuts)?;
    }
    cuts.tokenize(|piece| library.get_model().tokenize(piece.get()))?;
    Ok(cuts
        .into_encoding(None, 0, OffsetType::None)?
        .get_ids()
        .to_vec())
}

fn split(whole: &NormalizedString, (range, id): &Piece) -> Option<Split> {
    let slice = whole.slice(tokenizers::tokenizer::normalizer::Range::Original(
        range.clone(),
    ))?;
    let token = id.map(|id| vec![Token::new(id, slice.get().to_owned(), (0, slice.len()))]);
    Some((slice, token).into())
}
