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
                "Why is it important that answers are exact?",
                "What do I gain from exact answers?",
                "Of what use are equal bits?",
                "Why does Skein care about the bits?",
                "Why is Skein exact and not just fast?",
                "I do not see why answers must be exact.",
                "Other programs give other bits each time. Why not Skein?",
                "Why do two runs of a model give identical results?",
                "My friend asks why Skein must be exact.",
                "Reason for exact bits?",
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
                "Does it matter for the answer how the model is cut?",
                "Do [4|more] slices give other bits than [2|one]?",
                "Do the bits depend on where I cut?",
                "Does --slices change what the model says?",
                "Do answers get worse when a model is split?",
                "I split my model in a new way. Are the bits different now?",
                "Is a whole model more exact than a split one?",
                "My friend cut the same model differently. Do we get different answers?",
                "I am afraid that more slices make the answer wrong.",
                "Is the text different if I use fewer slices?",
                "Other cut, other answer?",
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
                "Do the bits depend on [the batch|the threads]?",
                "Is one thread more exact than many?",
                "Is my answer different when many people ask at once?",
                "Does a busy server give other answers?",
                "My request runs in a batch with others. Are its bits different?",
                "Can the requests of other people disturb my answer?",
                "I use 8 threads and my friend uses 2. Do our answers differ?",
                "Does it matter for the answer how many threads compute it?",
                "Does a large batch make answers worse?",
                "I am afraid that other users change what I get.",
                "Different bits in a batch?",
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
                "Is the answer different on [a new|an old] computer?",
                "Do the bits differ from one computer to the next?",
                "Does it matter for the bits which processor I have?",
                "My friend has another processor. Are the bits different there?",
                "Do fast and slow machines answer differently?",
                "Does an old computer give worse answers?",
                "Must I use the same machine to see the same bits?",
                "Is there a computer on which the bits differ?",
                "Two computers, one prompt. Do the answers differ?",
                "I moved to new hardware. Are my answers different now?",
                "Other hardware, other bits?",
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
                "What must stay the same to repeat an answer?",
                "I liked that answer. How do I get it again?",
                "I get another text each time. What must I keep the same?",
                "How do I make my answers repeatable?",
                "Which settings do I keep to see the same text again?",
                "How can my friend get the answer that I got?",
                "I need two equal answers. What do I do?",
                "How does one reproduce an answer?",
                "Is there a way to get an answer a second time?",
                "What does it take to reproduce a result?",
                "Way to repeat an answer?",
            ],
            [
                "What must I do to get one answer twice?",
                "How could I repeat my answer?",
            ]
        ),
        "Use the same seed, the same model, the same settings and the same prompt.",
        "use & same seed & same settings & same prompt",
    ),
    fact(
        asked!(
            [
                "[How|In which way] can an answer be checked?",
                "How do I know that an answer is right?",
                "How does one check an answer?",
                "[Tell|Show] me how to check an answer.",
                "What do I do to check an answer?",
                "How is an answer verified?",
                "Is there a way to verify an answer?",
                "I do not trust this answer. How can I test it?",
                "How can I be sure that an answer was computed correctly?",
                "What proves that an answer is right?",
                "How do I find out that an answer is wrong?",
                "Somebody sent me an answer. How do I test that it is right?",
                "My friend does not believe my answer. How do I prove it?",
                "I want to make sure that an answer is right.",
                "How do I check an answer on my own computer?",
                "Proof of an answer?",
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
                "On which machine is the next token picked?",
                "Who decides which word comes next?",
                "Does the last stage choose the next token?",
                "Is the next token chosen by a stage or by the entry?",
                "What happens with the scores of the last stage?",
                "Who gets the scores of the last stage?",
                "The last stage is done. Who picks the token now?",
                "Where in the network are new tokens picked?",
                "By whom is each new token chosen?",
                "I wonder who decides about the next token.",
                "Node that picks the token?",
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
