//! What a model knows of the small world: held-out questions, answered by the engine that serves.
//!
//! Several questions are under way at once, as clients of a server would have them; by the contract
//! of the numerics that changes no answer.

use std::collections::VecDeque;

use skein_base::TraceId;
use skein_learning::World;
use skein_learning::evaluate::{Question, Report, questions};
use skein_learning::{Kind, world};
use skein_serving::{ClientId, Request};
use skein_text::SamplingParams;

use crate::generate::{Assembly, GenerateError, LocalAnswer, read};
use crate::node::LocalModel;
use crate::prompt::{Message, Prompt};

/// Longest answer, in tokens: a story of the world has about a hundred.
const ANSWER_MAX: usize = 160;

/// Questions that are under way at once.
const TOGETHER: usize = 16;

/// The first `count` held-out questions of each kind, in the world of `seed`.
pub fn held_out(seed: u64, kinds: &[Kind], count: usize) -> Vec<Question> {
    let world = World::new(seed);
    let of = |&kind: &Kind| questions(world, kind, count);
    kinds.iter().flat_map(of).collect()
}

/// Asks all questions and judges the answers; `progress` is told how many are answered. The most
/// probable token is taken each time, so the same model gives the same report.
///
/// # Errors
/// The first that an answer has.
pub async fn examine(
    model: &LocalModel,
    questions: &[Question],
    progress: &mut dyn FnMut(usize),
) -> Result<Report, GenerateError> {
    let mut report = Report::default();
    let mut under_way = VecDeque::new();
    let mut rest = questions.iter();
    let mut answered = 0;
    loop {
        while under_way.len() < TOGETHER {
            let Some(question) = rest.next() else { break };
            under_way.push_back((question, ask(model, question)?));
        }
        let Some((question, answer)) = under_way.pop_front() else {
            return Ok(report);
        };
        let answer = read(answer, std::future::pending(), |_| Ok(())).await?;
        report.add(question, answer.text);
        answered += 1;
        progress(answered);
    }
}

fn ask(model: &LocalModel, question: &Question) -> Result<LocalAnswer, GenerateError> {
    let messages = question.messages();
    let messages: Vec<Message> = messages.iter().map(message).collect();
    let prompt = Prompt::Chat(&messages).ids(model)?;
    let request = Request {
        client: ClientId::new("local"),
        prompt,
        max_tokens: ANSWER_MAX,
        sampling: SamplingParams {
            temperature: 0.0,
            ..SamplingParams::default()
        },
        stop_ids: model.stop_ids.clone(),
        ignore_eos: false,
        deadline: None,
        trace: TraceId::default(),
    };
    let generation = model.handle.submit(request)?;
    Ok(LocalAnswer::new(
        generation,
        Assembly::new(&model.tokenizer, &[])?,
    ))
}

fn message(message: &world::Message<'_>) -> Message {
    Message::new(message.role.name(), message.content)
}
