//! The commands of Skein: what they do, and which one does what one wants.

use crate::world::catalogue::{Entry, Keys, Wordings, about};

const DOES: Wordings = Wordings {
    training: &[
        "What does [{x}|`{x}`] do?",
        "[Tell me what [{x}|`{x}`] does.|[Can you tell me|Do you know] what [{x}|`{x}`] does?]",
        "What is [{x}|`{x}`] for?",
        "What is the command [{x}|`{x}`] for?",
        "When do I [use|need|type] [{x}|`{x}`]?",
        "What happens when I type [{x}|`{x}`]?",
        "[Please explain|Explain] [|the command ][{x}|`{x}`].",
        "Why would I [type|use] [{x}|`{x}`]?",
        "I want to know what [{x}|`{x}`] does.",
        "And what does [{x}|`{x}`] do?",
        "[{x}|`{x}`], what does it do?",
        "What is [{x}|`{x}`]?",
        "What do I get when I use [{x}|`{x}`]?",
        "Tell me about the command [{x}|`{x}`].",
        "What is the purpose of [{x}|`{x}`]?",
        "What [good|use] is [{x}|`{x}`]?",
        "How does [{x}|`{x}`] help me?",
        "What task is [{x}|`{x}`] meant for?",
        "What is the effect of [{x}|`{x}`]?",
        "What job does [{x}|`{x}`] have?",
        "I have never used [{x}|`{x}`]. What is it for?",
        "I found the command [{x}|`{x}`]. What does it do?",
        "My friend types [{x}|`{x}`]. What does that do?",
        "For what does one use [{x}|`{x}`]?",
        "Somebody told me to run `{x}`. What does it do?",
        "Purpose of `{x}`?",
    ],
    held_out: &[
        "What will [{x}|`{x}`] do?",
        "Describe the command [{x}|`{x}`].",
        "What do I get from [{x}|`{x}`]?",
        "Can you explain what [{x}|`{x}`] does?",
        "I would like to know what the command [{x}|`{x}`] does.",
        "Help me understand the command [{x}|`{x}`].",
    ],
};

const HOW: Wordings = Wordings {
    training: &[
        "How [do|can] I {x}?",
        "How do you {x}?",
        "Which command [do I need|do I use|do I type] to {x}?",
        "Which command lets me {x}?",
        "What do I type to {x}?",
        "What is the command to {x}?",
        "I want to {x}.",
        "[Tell|Show] me how to {x}.",
        "[Please help|Help] me to {x}.",
        "Can I {x}?",
        "Can you tell me how to {x}?",
        "And how do I {x}?",
        "Do you know how to {x}?",
        "What must I do to {x}?",
        "What do I enter to {x}?",
        "What command should one use to {x}?",
        "I am trying to {x}.",
        "I need to {x}. What is the right command?",
        "Give me the command to {x}.",
        "Name the command to {x}.",
        "[My aim|My plan] is to {x}.",
        "Let me {x}.",
        "What is the way to {x}?",
        "I have to {x}. How does that work?",
        "My friend wants to {x}.",
        "Which part of Skein lets one {x}?",
        "{X}, how?",
        "I cannot find out how to {x}.",
    ],
    held_out: &[
        "I would like to {x}. What do I type?",
        "[Please explain|Explain] how to {x}.",
        "What should I type when I want to {x}?",
        "Tell me which command I need to {x}.",
        "How could I {x}?",
        "Is there a command to {x}?",
    ],
};

const fn does(command: &'static str, answer: &'static str, keys: &'static str) -> Entry {
    about(command, &DOES, answer, Keys::Phrases(keys))
}

const fn how(
    goals: [&'static str; 2],
    command: &'static str,
    answer: &'static str,
    keys: &'static str,
) -> Entry {
    let [goal, held_out] = goals;
    let mut entry = about(goal, &HOW, answer, Keys::Command(command, keys));
    entry.subject_held_out = held_out;
    entry
}

pub(super) const COMMANDS: [Entry; 34] = [
    does(
        "skein up",
        "`skein up` starts a whole network on one machine and prints how to talk to it.",
        "starts & whole network & one machine",
    ),
    does(
        "skein chat",
        "`skein chat` lets you talk with a model in the terminal.",
        "talk with a model & terminal",
    ),
    does(
        "skein run",
        "`skein run` answers one prompt and exits.",
        "answers one prompt & exits",
    ),
    does(
        "skein serve",
        "`skein serve` serves a model through an API like that of OpenAI.",
        "serves a model & api",
    ),
    does(
        "skein status",
        "`skein status` shows how a running network is.",
        "shows & running network",
    ),
    does(
        "skein node",
        "`skein node` starts one node of a network.",
        "starts one node & network",
    ),
    does(
        "skein model split",
        "`skein model split` cuts a model into files by layer, with a manifest of hashes.",
        "cuts a model & by layer",
    ),
    does(
        "skein model verify",
        "`skein model verify` checks every byte of a split model.",
        "checks every byte & split model",
    ),
    does(
        "skein model inspect",
        "`skein model inspect` shows what a model is, what it needs, and whether it can be served.",
        "shows & what it needs & model",
    ),
    does(
        "skein model fetch",
        "`skein model fetch` fetches a model from the hub and prints its folder.",
        "fetches & hub",
    ),
    does(
        "skein keys new",
        "`skein keys new` makes an API key, prints it once and keeps only its hash.",
        "makes & key & prints it once",
    ),
    does(
        "skein model export",
        "`skein model export` writes a model as an ordinary folder that other programs read.",
        "writes & folder & other programs",
    ),
    does(
        "skein train",
        "`skein train` trains a model on texts or conversations.",
        "trains a model & texts & conversations",
    ),
    does(
        "skein bench",
        "`skein bench` measures speed, and how well a model answers.",
        "measures & speed & how well",
    ),
    does(
        "skein config",
        "`skein config` shows, explains and checks the configuration.",
        "shows & explains & checks",
    ),
    does(
        "skein completions",
        "`skein completions` prints a completion script for your shell.",
        "prints & script & shell",
    ),
    how(
        [
            "[[start|run] a [whole |]network on [one|my] machine|bring up a [whole |]network|set \
             up a network on my own computer|get all nodes of a network going at once|launch a \
             [complete |]network|try a whole network on one computer]",
            "start a network here on my machine",
        ],
        "skein up",
        "Type `skein up`. It starts a whole network on your machine.",
        "starts a whole network",
    ),
    how(
        [
            "[[talk with|chat with|talk to] a model[| in the terminal]|open a chat|begin a chat \
             in the terminal|speak with a model|exchange messages with a model|write to a model \
             and read its replies]",
            "have a chat with a model",
        ],
        "skein chat",
        "Type `skein chat`. Then you can talk with a model in the terminal.",
        "talk with a model & terminal",
    ),
    how(
        [
            "[get one answer|get an answer to one prompt|ask one question|send a single \
             prompt|ask something just once|put one question to a model|have one prompt \
             answered|get a reply without a chat|use a model once and be done]",
            "get the answer to one question",
        ],
        "skein run",
        "Type `skein run` and the prompt. It answers once and exits.",
        "and the prompt & answers once",
    ),
    how(
        [
            "[serve a model|start the server|offer an API|run a server|put a model behind an \
             API|let programs ask a model over HTTP|make a model reachable over HTTP|open an API \
             for my programs|start the gateway]",
            "serve my model with an API",
        ],
        "skein serve",
        "Type `skein serve`. It serves a model through an API.",
        "serves a model & api",
    ),
    how(
        [
            "[see how [the|my] network is|look at [the|my] network|check on [the|my] network|see \
             what [the|my] network is doing|find out whether [the|my] network runs|see which \
             nodes are running|get a report on [the|my] network|see how busy [the|my] network is]",
            "see if my network is well",
        ],
        "skein status",
        "Type `skein status`. It shows how a running network is.",
        "shows & running network",
    ),
    how(
        [
            "[[start|run] [one|a single] node[| of a network]|launch [one|a single] node|bring up \
             just one node|start a node by itself|run a single stage|start only one part of a \
             network]",
            "start a node of the network",
        ],
        "skein node",
        "Type `skein node`. It starts one node of a network.",
        "starts one node & network",
    ),
    how(
        [
            "[[split|cut] a model[| into files| into slices]|divide a model into parts|break a \
             model into pieces|break up a model|slice a model|make several files from one \
             model|store a model in slices]",
            "cut my model by layer",
        ],
        "skein model split",
        "Type `skein model split` with --slices and --output. It cuts a model into files by layer.",
        "slices & output & by layer",
    ),
    how(
        [
            "[[check|verify] [a split model|the files of a model]|make sure that a split model is \
             whole|see whether a split model is broken|find damage in a split model|compare a \
             split model with its hashes|find out if the files of a model are good]",
            "check every byte of a model",
        ],
        "skein model verify",
        "Type `skein model verify` and the folder. It checks every byte of a split model.",
        "folder & checks every byte",
    ),
    how(
        [
            "[look at a model|inspect a model|see what a model needs|see what a model is|learn \
             how much memory a model needs|see the details of a model|examine a model|find out \
             whether a model can be served|get facts about a model]",
            "know what my model needs",
        ],
        "skein model inspect",
        "Type `skein model inspect` and the model. It shows what a model is and what it needs.",
        "shows & what it needs",
    ),
    how(
        [
            "[[fetch|get] a model from the hub|download a model[| from the hub]|bring a model \
             here from the hub|pull a model from the hub|load a model from the internet|copy a \
             model from the hub]",
            "get my model from the hub",
        ],
        "skein model fetch",
        "Type `skein model fetch` and its name. It fetches a model from the hub.",
        "fetches & hub",
    ),
    how(
        [
            "[export a model|use a model in other programs|save a model as an ordinary \
             folder|turn a model into a plain folder|take a model out of Skein|give a model to \
             other tools|open a model of Skein in other software|hand a model over to another \
             program]",
            "write a model for other programs",
        ],
        "skein model export",
        "Type `skein model export` with --output. It writes a model as a folder that other programs read.",
        "output & folder & other programs",
    ),
    how(
        [
            "[[train|teach] a model|start a training|make a model learn|let a model learn from my \
             data|teach a model new things|improve a model by training]",
            "train my own model",
        ],
        "skein train",
        "Type `skein train` with --data and --output. It trains a model on texts or conversations.",
        "data & output & trains a model",
    ),
    how(
        [
            "[[make|get] [an API key|a new key]|create [an API key|a key]|issue an API key|give a \
             user a key of his own|have a key made|hand out a new key]",
            "make a new API key",
        ],
        "skein keys new",
        "Type `skein keys new` and a name. It makes an API key and prints it once.",
        "a name & key & prints it once",
    ),
    how(
        [
            "[measure speed|measure the speed|see how fast a model is|test the speed of a \
             model|time a model|find out how quick a model is|run a benchmark|count how many \
             tokens a second a model makes]",
            "measure how fast my model is",
        ],
        "skein bench",
        "Type `skein bench model` with --model. It measures the speed of a model.",
        "skein bench model & measures the speed",
    ),
    how(
        [
            "[see [the|my] configuration|see my settings|see what is set|show all settings|list \
             my settings|print the configuration|see which value each setting has|find out where \
             a value came from|see the values that are in use]",
            "look at the configuration",
        ],
        "skein config",
        "Type `skein config show`. It shows each value and where it came from.",
        "config show & value",
    ),
    how(
        [
            "[check [the|my] [configuration|settings]|find mistakes in my configuration|test my \
             configuration file|see if my settings are right|make sure that my settings are \
             good|find out what is wrong with my configuration]",
            "check what is in the configuration",
        ],
        "skein config",
        "Type `skein config check` and the file. It says what is wrong with it.",
        "config check & the file & wrong",
    ),
    how(
        [
            "[[understand|explain] [the settings|a setting]|learn what a setting means|see what \
             the settings mean|know what each setting is for|find out what a setting does|get an \
             explanation of a setting|read about every setting]",
            "understand the configuration",
        ],
        "skein config",
        "Type `skein config explain`. It explains every setting.",
        "config explain & every setting",
    ),
    how(
        [
            "[complete commands in my shell|get completions|use Tab to finish \
             commands|have my shell finish commands|set up completion[| for my shell]|get a \
             completion script|let the terminal complete what I type]",
            "get completions in my shell",
        ],
        "skein completions",
        "Type `skein completions bash`, or the name of another shell. It prints a script.",
        "bash & shell & script",
    ),
];
