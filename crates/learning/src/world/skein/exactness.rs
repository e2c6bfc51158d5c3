//! Why answers are exact, and what does not change them.

use super::fact;
use crate::world::catalogue::{Entry, Wordings};

pub(super) const FACTS: [Entry; 7] = [
    fact(
        asked!(
            [
                "Why [are the answers of Skein|is an answer of Skein] always the same?",
                "Why does Skein give the same [answers|bits]?",
                "Why must the bits be the same?",
                "[Tell me why|Explain why] the same tokens give the same bits.",
                "What are the same bits good for?",
                "Why is Skein [so |]exact?",
                "Why does Skein serve models exactly?",
            ],
            [
                "Tell me why answers are always the same.",
                "Do you know why the bits are the same?",
                "What is it good for that Skein is exact?",
            ]
        ),
        "The same tokens give the same bits, so an answer can be checked by computing it again.",
        "same bits & checked & computing it again",
    ),
    fact(
        asked!(
            [
                "Does [a cut|cutting a model|another cut] change the answer?",
                "Is the answer another one when the model is cut[| in another way]?",
                "Does the cut of a model change its answers?",
                "When I cut a model, does the answer change?",
                "Do more slices change the answer?",
            ],
            [
                "Will the answer change when I cut the model in another way?",
                "Do the answers change with the slices?",
            ]
        ),
        "No, however a model is cut, the same tokens give the same bits.",
        "no & however & cut ! yes",
    ),
    fact(
        asked!(
            [
                "Do threads change the answer?",
                "Does a batch change the answer?",
                "Does the number of threads change the [answer|bits]?",
                "Is the answer another one with more threads?",
                "Do other sessions change my answer?",
            ],
            [
                "Will the answer change with more threads?",
                "Can a batch change the bits of my answer?",
            ]
        ),
        "No, neither threads nor batches change the bits of an answer.",
        "no & neither threads nor batches ! yes",
    ),
    fact(
        asked!(
            [
                "Does another machine give another answer?",
                "Does the [machine|processor] change the answer?",
                "Do two machines give two answers?",
                "Is the answer another one on another machine?",
                "Do the bits depend on the machine?",
            ],
            [
                "Will another processor change the answer?",
                "Can two machines give other bits?",
            ]
        ),
        "No, every machine gives the same bits.",
        "no & every machine & same bits ! yes",
    ),
    fact(
        asked!(
            [
                "How do I get the same answer [twice|again]?",
                "How can I repeat an answer?",
                "What do I need for the same answer [twice|again]?",
                "I want the same answer again.",
                "[Tell me how|Explain how] to get the same answer [twice|again].",
            ],
            [
                "What must I do to get one answer twice?",
                "How could I repeat my answer?",
            ]
        ),
        "Use the same seed, the same model and the same prompt.",
        "use & same seed & same prompt",
    ),
    fact(
        asked!(
            [
                "[How|In which way] can an answer be checked?",
                "How do I know that an answer is right?",
                "How does one check an answer?",
                "[Tell|Show] me how to check an answer.",
                "What do I do to check an answer?",
            ],
            [
                "How could I check an answer?",
                "What can one do to know that an answer is right?",
            ]
        ),
        "Compute it again: the same model and tokens give the same bits on every machine.",
        "compute it again & on every machine",
    ),
    fact(
        asked!(
            [
                "Who chooses the next token?",
                "Where is the next token chosen?",
                "Which node [picks|chooses] the token?",
                "Which part chooses the next token?",
                "Tell me who picks the next token.",
            ],
            [
                "Where does the choice of the next token happen?",
                "Do you know which node chooses the next token?",
            ]
        ),
        "The entry chooses the next token from the scores of the last stage.",
        "entry & next token & last stage",
    ),
];
