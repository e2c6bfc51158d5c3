//! Plain facts of the world.

use crate::world::catalogue::{Entry, Keys, Wordings, about};

const COLOUR: Wordings = Wordings {
    training: &[
        "What colour is {x}?",
        "Which colour does {x} have?",
        "Tell me the colour of {x}.",
        "What is the colour of {x}?",
        "Do you know the colour of {x}?",
        "{X}, what colour is it?",
        "Name the colour of {x}.",
        "Colour of {x}?",
        "I forgot the colour of {x}.",
        "I do not know the colour of {x}.",
        "Do you know what colour {x} is?",
        "If I look at {x}, what colour do I see?",
        "I want to paint {x}. Which colour do I need?",
        "What colour would you give {x}?",
        "A child asks: what colour is {x}?",
        "In what colour do we see {x}?",
    ],
    held_out: &[
        "Which colour is {x}?",
        "Can you tell me the colour of {x}?",
        "What colour does {x} have?",
    ],
};

const FEEL: Wordings = Wordings {
    training: &[
        "Is {x} hot or cold?",
        "Is {x} cold or hot?",
        "Tell me if {x} is hot or cold.",
        "How does {x} feel, hot or cold?",
        "Do you know if {x} is hot or cold?",
        "{X}, is it hot or cold?",
        "Is {x} [hot|cold]?",
        "Does {x} feel [hot or cold|cold or hot]?",
        "Would you call {x} hot or cold?",
        "I want to know if {x} is cold or hot.",
        "Say if {x} is hot or cold.",
        "Is {x} something hot or something cold?",
        "Do we say that {x} is hot or cold?",
        "How hot or cold is {x}?",
        "When I think of {x}, is it hot or cold?",
        "I wonder if {x} is cold or hot.",
    ],
    held_out: &[
        "Can you tell me if {x} is hot or cold?",
        "Is it hot or cold, {x}?",
        "What is {x}, hot or cold?",
    ],
};

const PLAIN: Wordings = Wordings {
    training: &[
        "{x}?",
        "Do you know this: {x}?",
        "Tell me: {x}?",
        "Please say: {x}?",
        "[And|So|Now,] {x}?",
        "[Say|Please|Hello|Excuse me], {x}?",
        "{X}, do you know?",
        "{X}? Tell me, please.",
        "My question is: {x}?",
        "Here is a question: {x}?",
        "[Please answer|Answer me]: {x}?",
        "[A child|My friend] asks: {x}?",
        "[Let me|May I] ask: {x}?",
        "Something else: {x}?",
    ],
    held_out: &["Can you tell me this: {x}?", "I want to know: {x}?"],
};

const fn colour(subject: &'static str, answer: &'static str, keys: &'static str) -> Entry {
    about(subject, &COLOUR, answer, Keys::Phrases(keys))
}

const fn hot(subject: &'static str, answer: &'static str) -> Entry {
    about(subject, &FEEL, answer, Keys::Phrases("hot ! cold"))
}

const fn cold(subject: &'static str, answer: &'static str) -> Entry {
    about(subject, &FEEL, answer, Keys::Phrases("cold ! hot"))
}

const fn plain(subject: &'static str, answer: &'static str, keys: &'static str) -> Entry {
    about(subject, &PLAIN, answer, Keys::Phrases(keys))
}

pub(super) const FACTS: [Entry; 32] = [
    colour("the sky", "The sky is blue.", "blue ! green|white"),
    colour("grass", "Grass is green.", "green ! blue|brown"),
    colour("snow", "Snow is white.", "white ! black"),
    colour("milk", "Milk is white.", "white ! black"),
    colour("coal", "Coal is black.", "black ! white"),
    colour("the night", "The night is black.", "black ! white"),
    colour("the sun", "The sun is yellow.", "yellow ! blue"),
    colour("earth", "Earth is brown.", "brown ! white"),
    hot("fire", "Fire is hot."),
    hot("the sun", "The sun is hot."),
    hot("a stove", "A stove is hot."),
    hot("summer", "Summer is hot."),
    cold("ice", "Ice is cold."),
    cold("snow", "Snow is cold."),
    cold("winter", "Winter is cold."),
    cold("frost", "Frost is cold."),
    plain(
        "what [falls from|comes from] the clouds",
        "Rain falls from the clouds.",
        "rain|snow",
    ),
    plain(
        "what makes the ground wet",
        "Rain makes the ground wet.",
        "rain",
    ),
    plain(
        "why is the ground wet",
        "The ground is wet because it rained.",
        "rain|rained",
    ),
    plain("when does it get dark", "It gets dark at night.", "night"),
    plain("when does the sun shine", "The sun shines by day.", "day"),
    plain("what can a bird do", "A bird can fly.", "fly"),
    plain("what can a fish do", "A fish can swim.", "swim"),
    plain("what does a cow give", "A cow gives milk.", "milk"),
    plain("what does a hen lay", "A hen lays eggs.", "eggs|egg"),
    plain(
        "what grows on a tree",
        "Leaves and apples grow on a tree.",
        "leaves|apples",
    ),
    plain(
        "what happens to water when it is very cold",
        "Water turns to ice when it is very cold.",
        "ice",
    ),
    plain(
        "what happens to ice in the sun",
        "Ice melts in the sun.",
        "melts|water",
    ),
    plain(
        "what [do I need|must I take] when it rains",
        "When it rains, take an umbrella.",
        "umbrella",
    ),
    plain(
        "what do I need in the dark",
        "In the dark you need a lamp.",
        "lamp|light",
    ),
    plain(
        "what opens a locked door",
        "A key opens a locked door.",
        "key",
    ),
    plain(
        "what flies in a strong wind",
        "A kite flies in a strong wind.",
        "kite",
    ),
];
