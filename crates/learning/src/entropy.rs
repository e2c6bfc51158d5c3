//! What the generator's choices are worth, as the mark for a held-out loss.

use skein_base::math::ln64;
use skein_text::tokenizer::EncodeError;

use crate::chat::Writer;
use crate::world::{Course, Split, World};

/// Which tokens count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// What the assistant says, given what was said before.
    Answers,
    /// All but the first of each conversation.
    All,
}

/// The mean worth of the choices behind a token that counts, in nats: what a held-out loss is
/// compared with (see [`world`](crate::world) for what it is and is not). Over the first `samples`
/// conversations.
///
/// # Errors
/// The tokenizer failed.
pub fn entropy_per_token(
    writer: &Writer,
    world: World,
    split: Split,
    counted: Counted,
    samples: u64,
) -> Result<f64, EncodeError> {
    let (mut bits, mut tokens) = (0.0, 0_usize);
    for index in 0..samples {
        let sample = match split {
            Split::Training => world.training(Course::First, index),
            Split::HeldOut => world.held_out(index),
        };
        let document = writer.write(&sample)?;
        match counted {
            Counted::All => {
                bits += sample.bits.total();
                tokens += document.ids.len() - 1;
            }
            Counted::Answers => {
                bits += sample.bits.answer;
                tokens += document.answer.iter().filter(|&&answer| answer).count();
            }
        }
    }
    Ok(bits * ln64(2.0) / tokens.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::tests::loaded;

    #[test]
    fn answers_are_worth_less_than_what_is_asked() {
        let writer = Writer::new(loaded()).expect("has all tokens");
        let entropy = |counted| {
            let worth = entropy_per_token(&writer, World::new(3), Split::HeldOut, counted, 200);
            worth.expect("encodes")
        };
        let (answers, all) = (entropy(Counted::Answers), entropy(Counted::All));
        assert!(
            0.0 < answers && answers < all && all < 2.0,
            "{answers} {all}"
        );
    }
}
