//! What the world makes: conversations whose answers can be judged.

use std::fmt;

use super::dice::Bits;
use super::split::Split;
use crate::answer::Expected;

/// What a turn of a conversation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A question about a story.
    Story,
    /// A story that the assistant tells.
    Tale,
    /// How many things somebody has.
    Count,
    /// Addition below a hundred.
    Sum,
    /// Subtraction below a hundred.
    Difference,
    /// The order of numbers.
    Number,
    /// How things behave: what floats, melts, breaks, is larger.
    Nature,
    /// Skein itself.
    Skein,
    /// Greetings and small talk.
    Talk,
    /// What the world does not hold: a polite refusal.
    Outside,
    /// Words to be said again.
    Echo,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Story,
        Self::Tale,
        Self::Count,
        Self::Sum,
        Self::Difference,
        Self::Number,
        Self::Nature,
        Self::Skein,
        Self::Talk,
        Self::Outside,
        Self::Echo,
    ];

    /// Its name in tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Story => "story",
            Self::Tale => "tale",
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Difference => "difference",
            Self::Number => "number",
            Self::Nature => "nature",
            Self::Skein => "skein",
            Self::Talk => "talk",
            Self::Outside => "outside",
            Self::Echo => "echo",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One message and its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What it is about.
    pub kind: Kind,
    /// What the user says.
    pub user: String,
    /// What the assistant answers.
    pub assistant: String,
    /// What any good answer says; `None` where nothing is asked.
    pub expected: Option<Expected>,
}

impl Turn {
    /// A turn in which nothing is asked.
    pub(super) fn unjudged(kind: Kind, user: String, assistant: String) -> Self {
        Self {
            kind,
            user,
            assistant,
            expected: None,
        }
    }
}

/// A conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Whether it is to learn from or to be judged by.
    pub split: Split,
    /// What it is about: the kind of its first part.
    pub kind: Kind,
    /// The system message, if there is one.
    pub system: Option<String>,
    /// Messages and answers, in turns; at least one.
    pub turns: Vec<Turn>,
    /// What the choices that made it were worth; see [`Bits`].
    pub bits: Bits,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// Its name in chat templates.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: &'a str,
}

impl Sample {
    /// All messages, in order.
    #[must_use]
    pub fn messages(&self) -> Vec<Message<'_>> {
        self.before(self.turns.len())
    }

    /// The messages up to and with what the user says in turn `turn`, counted from 0: what a model
    /// answers to. All messages if there is no such turn.
    #[must_use]
    pub fn before(&self, turn: usize) -> Vec<Message<'_>> {
        let message = |role, content| Message { role, content };
        let system = self.system.as_deref();
        let mut messages: Vec<Message<'_>> = system
            .map(|text| message(Role::System, text))
            .into_iter()
            .collect();
        for past in self.turns.iter().take(turn) {
            messages.push(message(Role::User, past.user.as_str()));
            messages.push(message(Role::Assistant, past.assistant.as_str()));
        }
        if let Some(turn) = self.turns.get(turn) {
            messages.push(message(Role::User, turn.user.as_str()));
        }
        messages
    }
}
