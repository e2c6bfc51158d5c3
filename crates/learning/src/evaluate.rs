//! Asks a model held-out questions and counts right answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::answer::{Expected, Form};
use crate::checker::{Fault, Grammaticality, grammaticality, judge};
use crate::world::{Kind, Message, Sample, World};

/// A question with the conversation before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    sample: Sample,
    turn: usize,
}

impl Question {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.sample.turns[self.turn].kind
    }

    /// The conversation up to and with the question. Answers before it are the right ones.
    #[must_use]
    pub fn messages(&self) -> Vec<Message<'_>> {
        self.sample.before(self.turn)
    }

    /// What an answer must say.
    #[must_use]
    pub fn expected(&self) -> Option<&Expected> {
        self.sample.turns[self.turn].expected.as_ref()
    }

    /// The answer that the generator gives.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.sample.turns[self.turn].assistant
    }
}

/// The first `count` held-out questions of one kind in a world.
#[must_use]
pub fn questions(world: World, kind: Kind, count: usize) -> Vec<Question> {
    (0..)
        .flat_map(|index| {
            let sample = world.held_out_of(kind, index);
            let asked = |&turn: &usize| {
                let turn = &sample.turns[turn];
                turn.kind == kind && turn.expected.is_some()
            };
            let turns: Vec<usize> = (0..sample.turns.len()).filter(asked).collect();
            let question = move |turn| Question {
                sample: sample.clone(),
                turn,
            };
            turns.into_iter().map(question)
        })
        .take(count)
        .collect()
}

/// How many were asked and answered rightly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Score {
    /// Questions.
    pub asked: usize,
    /// Right answers.
    pub right: usize,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was asked about.
    pub kind: Kind,
    /// The conversation, one message a line.
    pub conversation: String,
    /// What was answered.
    pub answer: String,
    /// What it had to say.
    pub expected: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What came of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// By kind.
    pub scores: BTreeMap<Kind, Score>,
    /// The different questions of each kind, with what was said before them.
    pub distinct: BTreeMap<Kind, BTreeSet<String>>,
    /// All wrong answers, in the order of the questions.
    pub failures: Vec<Failure>,
    /// What the grammar says of all free stories together.
    pub stories: Grammaticality,
}

/// Asks all questions. `answer` gets a conversation and says what the model answers.
///
/// # Errors
/// The first error of `answer`.
pub fn evaluate<E>(
    questions: &[Question],
    mut answer: impl FnMut(&[Message<'_>]) -> Result<String, E>,
) -> Result<Report, E> {
    let mut report = Report::default();
    for question in questions {
        let answer = answer(&question.messages())?;
        report.add(question, answer);
    }
    Ok(report)
}

impl Report {
    /// Counts one answer.
    pub fn add(&mut self, question: &Question, answer: String) {
        let Some(expected) = question.expected() else {
            return;
        };
        if matches!(expected.form, Form::Story { .. }) {
            let found = grammaticality(&answer);
            self.stories.sentences += found.sentences;
            self.stories.grammatical += found.grammatical;
            self.stories.possible += found.possible;
        }
        let distinct = self.distinct.entry(question.kind()).or_default();
        distinct.insert(conversation(question).to_lowercase());
        let score = self.scores.entry(question.kind()).or_default();
        score.asked += 1;
        match judge(&answer, expected) {
            Ok(()) => score.right += 1,
            Err(fault) => self.failures.push(Failure {
                kind: question.kind(),
                conversation: conversation(question),
                answer,
                expected: expected.to_string(),
                fault,
            }),
        }
    }

    /// The share of right answers of a kind; `None` if nothing was asked.
    #[must_use]
    pub fn accuracy(&self, kind: Kind) -> Option<f64> {
        let score = self.scores.get(&kind)?;
        (score.asked > 0).then(|| score.right as f64 / score.asked as f64)
    }
}

fn conversation(question: &Question) -> String {
    let messages = question.messages();
    let lines = messages
        .iter()
        .map(|message| format!("{}: {}", message.role.name(), message.content));
    lines.collect::<Vec<_>>().join("\n")
}

/// The table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| kind | asked | of them different | right | accuracy |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        for (kind, Score { asked, right }) in &self.scores {
            let percent = 100.0 * *right as f64 / (*asked).max(1) as f64;
            let distinct = self.distinct.get(kind).map_or(0, BTreeSet::len);
            writeln!(
                f,
                "| {kind} | {asked} | {distinct} | {right} | {percent:.1} % |"
            )?;
        }
        let Grammaticality {
            sentences,
            grammatical,
            possible,
        } = self.stories;
        if sentences > 0 {
            writeln!(
                f,
                "\nSentences of free stories: {sentences}, grammatical {grammatical}, possible \
                 {possible}."
            )?;
        }
        Ok(())
    }
}

/// The conversation, the wrong answer, and what is wrong with it, a line each.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[{}] {}", self.kind, self.conversation)?;
        writeln!(f, "assistant: {}", self.answer)?;
        write!(f, "expected: {}; {}", self.expected, self.fault)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn all(count: usize) -> Vec<Question> {
        let of = |kind| questions(World::new(1), kind, count);
        Kind::ALL.into_iter().flat_map(of).collect()
    }

    #[test]
    fn who_says_the_right_thing_gets_everything() {
        let questions = all(30);
        let mut references = questions.iter().map(Question::reference);
        let report = evaluate(&questions, |_| {
            Ok::<_, Infallible>(references.next().expect("one a question").to_owned())
        });
        let report = report.expect("never fails");
        assert_eq!(report.failures, []);
        for kind in Kind::ALL {
            assert_eq!(report.accuracy(kind), Some(1.0), "{kind}");
            assert_eq!(report.scores[&kind].asked, 30);
        }
        assert_eq!(report.stories.possible, report.stories.sentences);
        assert!(report.stories.sentences > 90);
    }

    #[test]
    fn who_repeats_the_question_gets_nearly_nothing() {
        let report = evaluate(&all(50), |messages| {
            let last = messages.last().expect("there is a question");
            Ok::<_, Infallible>(last.content.to_owned())
        });
        let report = report.expect("never fails");
        for kind in [
            Kind::Sum,
            Kind::Difference,
            Kind::Tale,
            Kind::Outside,
            Kind::Echo,
        ] {
            assert_eq!(report.accuracy(kind), Some(0.0), "{kind}");
        }
        // A question may hold words of its answer.
        for kind in [
            Kind::Story,
            Kind::Count,
            Kind::Skein,
            Kind::Number,
            Kind::Nature,
        ] {
            assert!(
                report.accuracy(kind).expect("asked") < 0.2,
                "{kind}: {report}"
            );
        }
    }

    #[test]
    fn the_right_answer_to_another_question_is_wrong() {
        let questions = questions(World::new(2), Kind::Skein, 200);
        let mut shifted = questions.iter().cycle().skip(1).map(Question::reference);
        let report = evaluate(&questions, |_| {
            Ok::<_, Infallible>(shifted.next().expect("endless").to_owned())
        });
        let accuracy = report.expect("never fails").accuracy(Kind::Skein);
        assert!(accuracy.expect("asked") < 0.05, "{accuracy:?}");
    }

    #[test]
    fn an_error_of_the_model_ends_the_evaluation() {
        assert_eq!(evaluate(&all(1), |_| Err("broken")), Err("broken"));
    }

    #[test]
    fn tables_and_failures_are_told() {
        let mut questions = questions(World::new(3), Kind::Sum, 1);
        questions.push(questions[0].clone());
        let report = evaluate(&questions, |_| Ok::<_, Infallible>("1+1=3".to_owned()));
        let report = report.expect("never fails");
        let text = format!("{report}{}", report.failures[0]);
        assert!(text.contains("| sum | 2 | 1 | 0 | 0.0 % |"), "{text}");
        assert!(text.contains("the calculation 1+1=3 is wrong"), "{text}");
    }
}
