//! What one writes behind commands, where files are, and what can be done and what cannot.

use super::fact;
use crate::world::catalogue::{Entry, Wordings};

pub(super) const FACTS: [Entry; 21] = [
    fact(
        asked!(
            [
                "How do I [make|get] more slices?",
                "How do I cut the model into more slices?",
                "I want more slices.",
                "How can I get 4 slices?",
                "Which option makes more slices?"
            ],
            [
                "Tell me how to get more slices.",
                "What do I type to get more slices?"
            ]
        ),
        "Type `skein up --slices 4` for 4 slices.",
        "skein up & slices 4",
    ),
    fact(
        asked!(
            [
                "How do I [make|get] replicas?",
                "How do I get a replica of each slice?",
                "I want replicas.",
                "Which option makes replicas?",
                "How can I get more stages for each slice?"
            ],
            [
                "Tell me how to get replicas.",
                "What do I type to get replicas?"
            ]
        ),
        "Type `skein up --replicas 2` for 2 stages of each slice.",
        "skein up & replicas 2",
    ),
    fact(
        asked!(
            [
                "How do I use my own model?",
                "How can I use another model?",
                "How do I give Skein a model of my own?",
                "I want to use my own model.",
                "Which option names the model?"
            ],
            [
                "Tell me how to use my own model.",
                "What do I type to use another model?"
            ]
        ),
        "Write --model and the folder of the model behind the command.",
        "write & model & folder & behind",
    ),
    fact(
        asked!(
            [
                "How do I use another port?",
                "How can I change the port?",
                "How do I listen on another [port|address]?",
                "I want another port.",
                "Which option sets the port?"
            ],
            [
                "Tell me how to use another port.",
                "What do I type to change the port?"
            ]
        ),
        "Write --listen and the address with its port.",
        "listen & address & its port",
    ),
    fact(
        asked!(
            [
                "How do I talk to another server?",
                "How can I use the model of another server?",
                "How do I chat with a server elsewhere?",
                "I want to ask another server.",
                "Which option names the server?"
            ],
            [
                "Tell me how to talk to another server.",
                "What do I type to use another server?"
            ]
        ),
        "Write --url and the address of the server.",
        "url & address of the server",
    ),
    fact(
        asked!(
            [
                "Where [are the logs|are logs kept]?",
                "Where does Skein keep its state?",
                "Where is the state of my network?",
                "In which folder are the logs?",
                "Where does `skein up` write?"
            ],
            [
                "Tell me where the logs are.",
                "Which folder has the state of my network?"
            ]
        ),
        "State and logs are in ~/.local/state/skein, unless --state says another folder.",
        "local state skein & unless",
    ),
    fact(
        asked!(
            [
                "How does the server learn which keys are good?",
                "How do I make the server ask for a key?",
                "Which option names the file of keys?",
                "I want the server to ask for keys.",
                "How do I give the server my keys?"
            ],
            [
                "Tell me how to make the server ask for a key.",
                "What do I type to give the server my keys?"
            ]
        ),
        "Write --keys-file and the file that holds their hashes.",
        "keys file & holds & hashes",
    ),
    fact(
        asked!(
            [
                "How do I watch my network?",
                "How can I keep looking at my network?",
                "Can I watch the network as it runs?",
                "I want to watch my network.",
                "Which command watches the network?"
            ],
            [
                "Tell me how to watch the network.",
                "What do I type to watch my network?"
            ]
        ),
        "Type `skein status --watch`. It looks again every second.",
        "status watch & again every second",
    ),
    fact(
        asked!(
            [
                "How do I go on with a training?",
                "How can I go on with a training that I stopped?",
                "How do I begin again where the training stopped?",
                "I want to go on with my training.",
                "Which option goes on with a training?"
            ],
            [
                "Tell me how to go on with a training.",
                "What do I type to go on with my training?"
            ]
        ),
        "Type `skein train --resume` and its folder.",
        "train resume & folder",
    ),
    fact(
        asked!(
            [
                "Where do I find help[| for a command]?",
                "How do I see what a command can do?",
                "How do I get help for a command?",
                "Which options does a command have?",
                "I want to see all options."
            ],
            [
                "Tell me which options a command has.",
                "Where can I find help for a command?"
            ]
        ),
        "Write --help behind the command.",
        "help behind the command",
    ),
    fact(
        asked!(
            [
                "How do I run a network on several machines?",
                "How can I use more machines?",
                "How do I use two machines for one model?",
                "I want a network on several machines.",
                "What do I start on each machine?"
            ],
            [
                "Tell me how to use several machines.",
                "What do I type on each machine?"
            ]
        ),
        "Type `skein node --config` and a file on each machine.",
        "skein node config & file & each machine",
    ),
    fact(
        asked!(
            [
                "How long may a text be?",
                "How long can a conversation be?",
                "How much text can you read?",
                "How large is your context?",
                "How many tokens can you read?"
            ],
            [
                "Tell me how long a text may be.",
                "How much text may I write?"
            ]
        ),
        "My context has 512 tokens, for questions and answers together.",
        "512 tokens & together",
    ),
    fact(
        asked!(
            [
                "What happens without --model?",
                "Which model answers if I name none?",
                "Which model is used without --model?",
                "What if I give no model?",
                "Must I name a model?"
            ],
            [
                "Tell me which model is used if I name none.",
                "Which model answers without --model?"
            ]
        ),
        "Without --model the embedded model answers.",
        "without model & embedded model answers",
    ),
    fact(
        asked!(
            [
                "How do I stop an answer in the chat?",
                "How can I stop the answer and keep the chat?",
                "The answer is too long. How do I stop it?",
                "I want to stop the answer.",
                "What do I press to end an answer?"
            ],
            [
                "Tell me how to stop an answer.",
                "What must I press to stop the answer?"
            ]
        ),
        "Press Ctrl-C. In the chat it stops only the answer.",
        "ctrl-c & only the answer",
    ),
    fact(
        asked!(
            [
                "How do I change [the|my] [configuration|settings]?",
                "How can I change a setting?",
                "I want to change a setting.",
                "Where do I write a new setting?",
                "Which file do I change?"
            ],
            [
                "Tell me how to change a setting.",
                "What must I do to change the configuration?"
            ]
        ),
        "Write it into skein.toml; `skein config check` reads it for mistakes.",
        "into skein toml & mistakes",
    ),
    fact(
        asked!(
            [
                "Can one model run on several machines?",
                "Does Skein run one model on many machines?",
                "Is it possible to cut a model over machines?",
                "Can many machines share a model?",
                "Can two machines run a model together?"
            ],
            [
                "Will one model run on two machines?",
                "Is it possible to run a model on several machines?"
            ]
        ),
        "Yes, each machine runs a node with some layers of it.",
        "yes & node & some layers ! no",
    ),
    fact(
        asked!(
            [
                "Can Skein run a model that is too large for one machine?",
                "Can I run a model that one machine cannot hold?",
                "Does a slice need less memory than the model?",
                "May a model be too large for my machine?",
                "Can small machines run a large model?"
            ],
            [
                "Will small machines run a large model?",
                "Is it possible to run a model that is too large for one machine?"
            ]
        ),
        "Yes, each node loads only the layers of its slice.",
        "yes & loads only & layers ! no",
    ),
    fact(
        asked!(
            [
                "Can I stop the split of a model and go on?",
                "Can `skein model split` go on after a stop?",
                "Does a split go on where it stopped?",
                "Is it possible to stop a split?",
                "May I stop `skein model split`?"
            ],
            [
                "Will a split go on where it stopped?",
                "Can I stop a split?"
            ]
        ),
        "Yes, the same command goes on where it stopped.",
        "yes & same command & where it stopped ! no",
    ),
    fact(
        asked!(
            [
                "Does `skein up` start a lost process again?",
                "Is a node started again when it ends?",
                "Does a process that ends come back?",
                "Will a lost node come back?",
                "Does `skein up` look after its nodes?"
            ],
            [
                "Is a process started again when it ends?",
                "Will a node that ends come back?"
            ]
        ),
        "Yes, `skein up` starts a process again when it ends.",
        "yes & starts & again when it ends ! no",
    ),
    fact(
        asked!(
            [
                "Does the same seed give the same answer?",
                "Is the answer the same with the same seed?",
                "Do I get the same answer with the same seed?",
                "Can a seed repeat an answer?",
                "Does a seed fix the answer?"
            ],
            [
                "Will the same seed give the same answer?",
                "Does one seed give one answer?"
            ]
        ),
        "Yes, with the same model and the same prompt.",
        "yes & same model & same prompt ! no",
    ),
    fact(
        asked!(
            [
                "Can I train on conversations?",
                "Can Skein train a model?",
                "Does Skein train models today?",
                "Is it possible to train a model?",
                "May I train a model of my own?"
            ],
            [
                "Will Skein train a model of my own?",
                "Is it possible to train on conversations?"
            ]
        ),
        "Yes, `skein train` learns from texts or conversations.",
        "yes & train & learns from ! no",
    ),
];
