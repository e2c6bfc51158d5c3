//! How nodes work together, and who they belong to.

use super::fact;
use crate::world::catalogue::{Entry, Wordings};

pub(super) const FACTS: [Entry; 13] = [
    fact(
        asked!(
            [
                "How does failover work?",
                "What happens when a node [fails|dies|is lost|stops]?",
                "What does Skein do when a node [fails|dies|is lost]?",
                "What if a node [fails|dies|stops]?",
                "[Tell me how|Explain how] failover works.",
                "A node has failed. What happens now?",
                "What happens when a stage [fails|dies|is lost]?",
                "How does an answer go on when a node fails?",
            ],
            [
                "What will happen if a node dies?",
                "Do you know how failover works?",
                "What does failover do when a stage stops?",
            ]
        ),
        "If the slice has a replica, the entry opens a circuit through it and replays the tokens.",
        "if & replica & circuit & replays",
    ),
    fact(
        asked!(
            [
                "Is [my|the|an] answer lost when a node [fails|dies]?",
                "Do I lose [my|the] answer when a node [fails|dies]?",
                "Does a lost node end the answer?",
                "Does the answer stop when a node [fails|dies]?",
            ],
            [
                "Will I lose the answer if a node fails?",
                "Does the answer end if a stage dies?",
            ]
        ),
        "No, if the slice has a replica: it takes over and the answer goes on.",
        "no & if & replica & takes over ! yes",
    ),
    fact(
        asked!(
            [
                "Who [may|can] join[| Skein| the network]?",
                "Who is Skein for?",
                "For whom is Skein made?",
                "[May|Can] I join[| the network]?",
                "Which people [may|can] join?",
                "Tell me who may join.",
                "Who may run a node?",
            ],
            [
                "Do you know who can join the network?",
                "Which people is Skein made for?",
                "Could I join with my machine?",
            ]
        ),
        "Skein is made for anybody with a machine; today the configuration says which nodes belong to a network.",
        "anybody & configuration & belong",
    ),
    fact(
        asked!(
            [
                "What makes the links safe?",
                "How are links encrypted?",
                "What protects the links?",
                "Can others read what nodes send?",
                "How do nodes talk [to each other|safely]?",
                "Tell me how links are encrypted.",
            ],
            [
                "Do you know what protects a link?",
                "How does a node talk to other nodes?",
            ]
        ),
        "All links between nodes are encrypted with TLS.",
        "links & encrypted & tls",
    ),
    fact(
        asked!(
            [
                "How does a node prove who it is?",
                "How do nodes know each other?",
                "What names a node?",
                "What is the name of a node?",
                "How is a node known to others?",
            ],
            [
                "How can a node prove its name?",
                "Do you know what names a node?",
            ]
        ),
        "Each node has a key of its own, and both ends of a link prove theirs.",
        "a key of its own & prove",
    ),
    fact(
        asked!(
            [
                "Who [sees|reads] [the text|my text|my prompt]?",
                "Which nodes [see|read] [the text|my text|my prompt]?",
                "What does a stage [see|read] of [the text|my text|my prompt]?",
                "Tell me who sees my text.",
            ],
            [
                "What does a stage see of what I write?",
                "Do you know who reads my prompt?",
            ]
        ),
        "The entry sees the text and the first stage its tokens; a stage in the middle gets neither.",
        "entry & first stage & middle & neither",
    ),
    fact(
        asked!(
            [
                "How many slices does `skein up` make?",
                "Into how many [slices|stages] is your model cut?",
                "How many stages does the embedded model run over?",
                "How many stages does your network have?",
                "How many slices does the embedded model have?",
            ],
            [
                "Tell me how many slices the embedded model is cut into.",
                "How many stages does `skein up` start?",
            ]
        ),
        "`skein up` cuts the embedded model into 3 slices, unless --slices says more.",
        "3 slices & unless",
    ),
    fact(
        asked!(
            [
                "Do I need the internet?",
                "Does `skein up` need the internet?",
                "Do you need the internet?",
                "Is the internet needed?",
                "Must I have the internet to start?",
            ],
            [
                "Is the internet needed for `skein up`?",
                "Must I have the internet to talk with you?",
            ]
        ),
        "No, the embedded model is inside Skein and needs no internet.",
        "no & inside skein & internet ! yes",
    ),
    fact(
        asked!(
            [
                "Do I need a GPU?",
                "Does Skein need a GPU?",
                "Is a GPU needed?",
                "Must I have a GPU?",
                "Does Skein run on a GPU[| today]?",
            ],
            [
                "Is a GPU needed to run Skein?",
                "Must my machine have a GPU?",
            ]
        ),
        "No, Skein computes on the processor today.",
        "no & processor ! yes",
    ),
    fact(
        asked!(
            [
                "Must I trust the other machines?",
                "Do I need to trust the other nodes?",
                "Must the machines trust each other?",
                "Must nodes trust each other?",
            ],
            [
                "Do I need to trust other machines?",
                "Must I trust the nodes of other people?",
            ]
        ),
        "Today yes: a node that gives wrong values is not caught yet.",
        "today yes & not caught",
    ),
    fact(
        asked!(
            [
                "How will nodes be paid?",
                "What will nodes be paid for?",
                "What does a node get paid for?",
                "What do I get for running a node?",
                "Will I be paid for my node?",
            ],
            [
                "Tell me what nodes will be paid for.",
                "What will I get when I run a node?",
            ]
        ),
        "Nodes will be paid for the work that they prove.",
        "will be paid & work & prove",
    ),
    fact(
        asked!(
            [
                "What will happen to a node that lies?",
                "What will happen when a node lies?",
                "What will be done when a node [lies|cheats]?",
                "What will happen to liars?",
                "Who will stop a node that lies?",
                "Will a node that lies be caught?",
            ],
            [
                "What will Skein do when a node lies?",
                "Tell me what will happen to a node that cheats.",
            ]
        ),
        "Today it is not caught. Later a verifier will compute the work of a node again, and a liar will lose its stake.",
        "today & not caught & verifier & stake",
    ),
    fact(
        asked!(
            [
                "How will models learn?",
                "How will a model [be trained|learn] on the network?",
                "How will training work?",
                "How will Skein train models?",
                "What will happen in a round?",
            ],
            [
                "Tell me how training will work.",
                "Explain how models will learn.",
            ]
        ),
        "In rounds: trainers will offer deltas, validators will check them, and good ones will be kept.",
        "rounds & deltas & check",
    ),
];
