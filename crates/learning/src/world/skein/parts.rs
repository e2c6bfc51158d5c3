//! The words of Skein: what its parts are called and what they are.

use crate::world::catalogue::{Entry, Keys, Wordings, about};

const WHAT: Wordings = Wordings {
    training: &[
        "What is {x}?",
        "What's {x}?",
        "And what is {x}?",
        "Tell me what {x} is.",
        "[Please explain|Explain] {x}.",
        "[Can|Could] you explain {x}?",
        "[Do you know|Can you tell me|Could you say] what {x} is?",
        "[Please tell|Tell] me [something |]about {x}.",
        "I want to know what {x} is.",
        "What does Skein mean by {x}?",
        "What is {x} in Skein?",
        "{X}, what is that?",
        "Describe {x}[|, please].",
        "I do not understand {x}.",
        "What is meant by {x}?",
        "[In Skein, what|What exactly] is {x}?",
        "What does {x} mean?",
        "{X}?",
        "Define {x}[|, please].",
        "In simple words, what is {x}?",
        "I have never heard of {x}. What is it?",
        "The docs talk of {x}. What is that?",
        "Give me a short explanation of {x}.",
        "How would you define {x}?",
        "I am new here. What is {x}?",
        "I keep reading about {x}, but what is it?",
    ],
    held_out: &[
        "Help me understand {x}.",
        "What should I know about {x}?",
        "I would like to know what {x} is.",
        "Please describe what {x} is.",
        "Can you describe {x} to me?",
        "What do you know about {x}?",
        "Explain to me what {x} is.",
    ],
};

const fn what(subject: &'static str, answer: &'static str, keys: &'static str) -> Entry {
    about(subject, &WHAT, answer, Keys::Phrases(keys))
}

pub(super) const PARTS: [Entry; 38] = [
    what(
        "Skein",
        "Skein is a program that runs large language models on many machines together.",
        "program & language models & many machines",
    ),
    what(
        "a slice",
        "A slice is a run of layers of a model, loaded from those layers alone.",
        "run of layers & loaded",
    ),
    what(
        "a stage",
        "A stage is a node that computes one slice of a model.",
        "node & computes one slice",
    ),
    what(
        "a node",
        "A node is one running process of Skein.",
        "one running process",
    ),
    what(
        "a circuit",
        "A circuit is the row of nodes that together cover all slices of a model.",
        "row of nodes & cover all slices",
    ),
    what(
        "[the|an] entry",
        "The entry is the node where a request comes in and where the next token is chosen.",
        "request & next token",
    ),
    what(
        "[the|a] gateway",
        "The gateway is the part that speaks HTTP and offers an API like that of OpenAI.",
        "speaks http & api & openai",
    ),
    what(
        "a replica",
        "A replica is another node with the same slice.",
        "another node & same slice",
    ),
    what(
        "an epoch",
        "An epoch will be a time in which models, nodes and rules stay as they are.",
        "time & models & stay",
    ),
    what(
        "the ledger",
        "The ledger will be the common book of accounts, votes and payments.",
        "book & accounts & votes",
    ),
    what(
        "a delta",
        "A delta will be a change of the weights of a model that a trainer offers.",
        "change & weights & trainer",
    ),
    what(
        "a round",
        "A round will be one cycle of training.",
        "one cycle of training",
    ),
    what(
        "[a|the] manifest",
        "The manifest is the list of the parts of a split model, with their files and hashes.",
        "list & parts & hashes",
    ),
    what(
        "[the|a] numerics id",
        "The numerics id is a hash of all that fixes the bits of an answer beside the model.",
        "hash & bits & beside the model",
    ),
    what(
        "[the|a] model id",
        "The model id is a hash over the profile, the tokenizer and the weights of each layer.",
        "hash & profile & weights",
    ),
    what(
        "a checkpoint",
        "A checkpoint is a model as somebody published it: config, tokenizer and weights.",
        "model & published & weights",
    ),
    what(
        "a profile",
        "A profile is all that the code must know about the architecture of a model.",
        "code & architecture",
    ),
    what(
        "a token",
        "A token is a small piece of text that a model reads or writes.",
        "small piece of text",
    ),
    what(
        "[the KV memory|KV]",
        "KV means the keys and values of past tokens that a model keeps.",
        "keys and values & past tokens",
    ),
    what(
        "a page",
        "A page is a fixed number of positions of keys and values.",
        "fixed number & positions",
    ),
    what(
        "prefill",
        "Prefill means to compute the prompt, in chunks.",
        "compute the prompt & chunks",
    ),
    what(
        "[decode|decoding]",
        "Decode means to make new tokens, one at a time.",
        "new tokens & one at a time",
    ),
    what(
        "a session",
        "A session is one generation, from its admission to its end.",
        "one generation & admission",
    ),
    what(
        "failover",
        "Failover means that a replica takes over when a node fails, and the answer goes on.",
        "replica takes over & node fails",
    ),
    what(
        "a layer",
        "A layer is one step of a model, and a model has many of them in a row.",
        "one step of a model",
    ),
    what(
        "[the|a] tokenizer",
        "The tokenizer turns text into tokens and tokens into text.",
        "turns & into tokens & into text",
    ),
    what(
        "the scheduler",
        "The scheduler decides which sessions run in the next pass.",
        "decides & sessions & next pass",
    ),
    what(
        "the sampler",
        "The sampler picks the next token from the scores.",
        "picks & next token & scores",
    ),
    what(
        "a link",
        "A link is one encrypted connection between two nodes.",
        "encrypted connection & two nodes",
    ),
    what(
        "the embedded model",
        "The embedded model is the small model that comes with Skein, and that is me.",
        "small model & comes with skein",
    ),
    what(
        "an operator",
        "An operator is somebody who runs nodes.",
        "somebody & runs nodes",
    ),
    what(
        "a prompt",
        "A prompt is the text that a model continues.",
        "text that a model continues",
    ),
    what(
        "a batch",
        "A batch is work of several sessions that goes through the model in one pass.",
        "several sessions & one pass",
    ),
    what(
        "a verifier",
        "A verifier will compute some work of others again to check it.",
        "compute & again & check",
    ),
    what(
        "a trainer",
        "A trainer will learn from data and offer a delta in each round.",
        "learn from data & delta",
    ),
    what(
        "a chat template",
        "A chat template turns the messages of a chat into the text that the model continues.",
        "turns & messages of a chat",
    ),
    what(
        "a seed",
        "A seed is the number that fixes all choices that are left to chance.",
        "number & left to chance",
    ),
    what(
        "the temperature",
        "The temperature says how bold the choice of tokens is, and 0 always takes the best one.",
        "how bold & 0",
    ),
];
