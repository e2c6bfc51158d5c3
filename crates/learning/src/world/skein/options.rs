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
                "Which option makes more slices?",
                "How do I set the number of slices?",
                "3 slices are too few for me.",
                "Can I have 4 slices?",
                "I need 4 slices.",
                "What does --slices do?",
                "Can `skein up` make more than 3 slices?",
                "The model should be cut into 4 slices.",
                "How do I raise the number of slices?",
                "How do I use 4 slices with `skein up`?",
                "Is there an option for more slices?",
                "more slices with `skein up`"
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
                "How can I get more stages for each slice?",
                "How do I start `skein up` with replicas?",
                "How do I set the number of replicas?",
                "What does --replicas do?",
                "How do I run each slice twice?",
                "I want two stages for each slice.",
                "How do I add a [replica|second stage] to each slice?",
                "My network has no replicas. How do I add some?",
                "Can `skein up` start replicas?",
                "Can every slice run on two nodes?",
                "I need a replica in case a node fails.",
                "replicas with `skein up`"
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
                "Which option names the model?",
                "I have a model in a folder. How do I use it?",
                "How do I tell Skein where my model is?",
                "How do I [choose|pick] a model?",
                "What does --model do?",
                "Where do I write the folder of my model?",
                "I do not want the embedded model but mine.",
                "How do I replace the embedded model?",
                "How do I start Skein with a different model?",
                "Which option takes the folder of a model?",
                "I downloaded a model. How do I use it now?",
                "How do I load my model?"
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
                "Which option sets the port?",
                "Port 8080 is [taken|in use]. What can I do?",
                "How do I move the [API|server|gateway] to another [port|address]?",
                "How do I choose the port myself?",
                "What does --listen do?",
                "I need a different port.",
                "Can the server use a port other than 8080?",
                "Another program already uses the port.",
                "Can I choose the address of the API?",
                "How do I make the server listen elsewhere?",
                "a port other than 8080"
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
                "Which option names the server?",
                "How do I connect the chat to another server?",
                "What does --url do?",
                "My server runs on another machine. How do I chat with it?",
                "How do I use a remote server?",
                "Can `skein chat` talk to a server elsewhere?",
                "I have the address of a server. How do I use it?",
                "Which option takes the address of a server?",
                "My friend runs a server. How do I chat with it?",
                "The model runs elsewhere. How do I ask it?",
                "How does the chat find my server?",
                "chat with a remote server"
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
                "Where does `skein up` write?",
                "Where do nodes write their logs?",
                "What is the path of the log files?",
                "I want to read the logs.",
                "A node failed and I want to see its log.",
                "What does --state do?",
                "How do I keep the state in another folder?",
                "Where on my disk does Skein write?",
                "Something went wrong. Where is the log?",
                "In what folder does `skein up` put its files?",
                "Are there logs of the nodes?",
                "log files?"
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
                "How do I give the server my keys?",
                "How do I protect [the|my] server with keys?",
                "Only people with a key should use my server.",
                "What does --keys-file do?",
                "How do I make the gateway check keys?",
                "How do I turn on API keys?",
                "Where do I tell the server which keys to accept?",
                "I made a key. How does the server know it?",
                "I do not want others to use my server.",
                "How can I lock the API?",
                "The server should accept my keys only.",
                "keys for the server?"
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
                "Which command watches the network?",
                "What does --watch do?",
                "How do I see changes in my network as they happen?",
                "Can I see the network live?",
                "How do I repeat `skein status` every second?",
                "Can `skein status` look again by itself?",
                "I want to see the status again and again.",
                "I want to keep an eye on my network.",
                "Which option of `skein status` keeps looking?",
                "How can the status refresh every second?",
                "The status should update by itself.",
                "live status?"
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
                "Which option goes on with a training?",
                "How do I [resume|continue] [a|my] training?",
                "My training broke off. What now?",
                "What does --resume do?",
                "Can a stopped training go on?",
                "How do I continue where `skein train` stopped?",
                "The machine crashed while it trained a model.",
                "I stopped the training and want to continue.",
                "How can I take up an old training again?",
                "I do not want to train from the beginning again.",
                "The training was interrupted. How do I restart it?",
                "resume a training"
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
                "I want to see all options.",
                "How do I list the options of a command?",
                "What does --help do?",
                "Is there help for each command?",
                "Which options can I choose from?",
                "What can I write behind a command?",
                "I forgot the options of a command.",
                "How can I see the flags of a command?",
                "Does a command explain itself?",
                "How do I know which options I can use?",
                "Where are the options explained?",
                "help with commands?"
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
                "What do I start on each machine?",
                "How do I start a network across [many|two|several] machines?",
                "How do I connect [two|three|several] machines?",
                "I have three computers. How do I use them together?",
                "I have two machines. What do I start on them?",
                "How do I add another machine to my network?",
                "How can my computers form one network?",
                "Which command do I run on every machine?",
                "I want to put nodes on different machines.",
                "How do I build a network from several computers?",
                "`skein up` uses one machine. How do I use more?",
                "How do I start nodes on other machines?"
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
                "How many tokens can you read?",
                "What is the length of your context?",
                "How big is your context?",
                "How long may my [question|prompt|message] be?",
                "How many words can I send you?",
                "Is there a limit for the length of a text?",
                "My text is very long. Can you read it?",
                "How many tokens fit into your context?",
                "How much of a conversation do you remember?",
                "How far back do you remember?",
                "When is a text too long?",
                "context length?"
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
                "Must I name a model?",
                "What does Skein do without --model?",
                "Is --model needed?",
                "I left out --model. What happens?",
                "I have no model. Can I still use Skein?",
                "What is the default model?",
                "Which model do I get by default?",
                "I named no model. Who answers me?",
                "Can I leave --model out?",
                "What if I forget --model?",
                "Which model starts when I give none?",
                "default model?"
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
                "What do I press to end an answer?",
                "How do I interrupt an answer?",
                "The model talks too much. How do I stop it?",
                "The answer does not end. What do I press?",
                "Can I stop the model while it answers?",
                "Can I cut off a long answer?",
                "I want to interrupt the model but stay in the chat.",
                "What does Ctrl-C do in the chat?",
                "Does Ctrl-C end the chat?",
                "Can an answer be stopped in the middle?",
                "You write and write. How do I stop you?",
                "break off an answer"
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
                "Which file do I change?",
                "How do I edit [the|my] [configuration|settings]?",
                "I want to edit the configuration.",
                "How do I set a value in the configuration?",
                "How can I give a setting another value?",
                "A setting is wrong. How do I fix it?",
                "Where do I put the new value of a setting?",
                "How is a setting changed?",
                "Which file do I edit for a new setting?",
                "How do I turn a setting off?",
                "My settings must be different.",
                "new value for a setting?"
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
                "Can two machines run a model together?",
                "Can Skein [split|spread] one model over [several|many] computers?",
                "Can several computers work on the same model?",
                "Can each machine run a part of the model?",
                "I have two computers. Can they share one model?",
                "May a model lie on more than one machine?",
                "Can the layers of a model be on different machines?",
                "Can nodes on different machines serve one model?",
                "Is the work of a model shared by machines?",
                "Does Skein combine several machines for a model?",
                "Could three machines run one model as a team?",
                "one model, many computers?"
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
                "Can small machines run a large model?",
                "The model does not fit into my memory. Can I still run it?",
                "Can I run a model that is bigger than my memory?",
                "My machine has too little memory for the model. Does Skein help?",
                "Can several small computers hold a big model?",
                "Can a model be bigger than my machine?",
                "Does a machine load only a part of a model?",
                "Is less memory needed for one slice?",
                "Can a node load its slice without the whole model?",
                "I have little memory. Can I still help with a large model?",
                "Does Skein help when a model is too big?",
                "too little memory, does it work?"
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
                "May I stop `skein model split`?",
                "Can I interrupt `skein model split`?",
                "The split was interrupted. Can it go on?",
                "Can I continue a split later?",
                "My split broke off. Can I resume it?",
                "`skein model split` stopped. Can I just start it again?",
                "Does `skein model split` continue after a crash?",
                "Can a split be resumed?",
                "Is the work of a split kept when it stops?",
                "Can I break off the split and continue tomorrow?",
                "The machine crashed during the split. Can I go on?",
                "resume a split?"
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
                "Does `skein up` look after its nodes?",
                "Does `skein up` restart a node that [died|crashed]?",
                "Are dead nodes restarted?",
                "Does a crashed node restart by itself?",
                "A process of `skein up` died. Is it started anew?",
                "Can `skein up` bring a dead process back?",
                "Does Skein restart its processes?",
                "Does `skein up` watch over its processes?",
                "If a node crashes, does `skein up` restart it?",
                "Does a stage restart after a crash?",
                "Is there an automatic restart?",
                "automatic restart of a node?"
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
                "Does a seed fix the answer?",
                "Can I repeat an answer with its seed?",
                "If I keep the seed, does the answer stay the same?",
                "Do two runs with one seed agree?",
                "Are answers equal if the seed is equal?",
                "I set the seed. Is the answer now fixed?",
                "Does the seed decide the answer?",
                "My friend uses my seed. Do we get the same answer?",
                "Do I see the same text again when I repeat the seed?",
                "Can chance be fixed by a seed?",
                "Can I rely on the seed for the same words?",
                "equal seed, equal text?"
            ],
            [
                "Will the same seed give the same answer?",
                "Does one seed give one answer?"
            ]
        ),
        "Yes, with the same model, the same settings and the same prompt.",
        "yes & same model & same settings & same prompt ! no",
    ),
    fact(
        asked!(
            [
                "Can I train on conversations?",
                "Can Skein train a model?",
                "Does Skein train models today?",
                "Is it possible to train a model?",
                "May I train a model of my own?",
                "Is training possible [with Skein|today]?",
                "Can models be trained with Skein?",
                "Does training work already?",
                "Can Skein learn from my [texts|conversations]?",
                "Can a model learn from my own texts?",
                "I have many conversations. Can a model learn from them?",
                "Can I use my own texts as data for training?",
                "Does Skein support training?",
                "Can Skein train as well as serve?",
                "Does Skein offer training on texts?",
                "training on texts?"
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
