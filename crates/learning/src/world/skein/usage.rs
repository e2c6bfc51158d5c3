//! What Skein runs on, reads and says, and how one handles it.

use super::fact;
use crate::world::catalogue::{Entry, Wordings};

pub(super) const FACTS: [Entry; 21] = [
    fact(
        asked!(
            [
                "In which language is Skein written?",
                "What language is Skein written in?",
                "What is Skein written in?",
                "What is the language of Skein?",
                "Which language do the makers of Skein use?",
                "Tell me the language that Skein is written in.",
            ],
            [
                "Do you know the language of Skein?",
                "Tell me what language Skein is written in.",
            ]
        ),
        "Skein is written in Rust.",
        "written in rust",
    ),
    fact(
        asked!(
            [
                "What is the license of Skein?",
                "Under which license is Skein?",
                "Which license does Skein have?",
                "Do you know the license of Skein?",
            ],
            [
                "Tell me the license of Skein.",
                "Which is the license of Skein?",
            ]
        ),
        "Skein is under Apache 2.0 or MIT at your option.",
        "apache & mit",
    ),
    fact(
        asked!(
            [
                "Is Skein free?",
                "May I use Skein for free?",
                "Can I use Skein for free?",
                "Do you know if Skein is free?",
                "Is it free to use Skein?",
            ],
            ["Tell me if Skein is free.", "Could I use Skein for free?",]
        ),
        "Yes, Skein costs nothing.",
        "yes & costs nothing ! no",
    ),
    fact(
        asked!(
            [
                "Which models does Skein [serve|run|know]?",
                "What models can Skein [serve|run]?",
                "Which models can I [use|run] with Skein?",
                "Tell me which models Skein serves.",
                "Do you know which models Skein serves?",
            ],
            [
                "What models does Skein know?",
                "Do you know which models Skein can run?",
            ]
        ),
        "Skein serves Llama, Qwen, Mistral and GPT-2.",
        "llama & qwen & mistral & gpt-2",
    ),
    fact(
        asked!(
            [
                "Which files can Skein read?",
                "What files does Skein read?",
                "Which file formats does Skein [know|read]?",
                "Do you know which files Skein reads?",
                "In which form must a model be?",
            ],
            [
                "What file formats can Skein read?",
                "Tell me which files Skein reads.",
            ]
        ),
        "Skein reads safetensors and GGUF files.",
        "safetensors & gguf",
    ),
    fact(
        asked!(
            [
                "Which API does Skein [have|speak|offer]?",
                "What API does the gateway [have|speak|offer]?",
                "What is the API of the gateway?",
                "Which API do I get?",
            ],
            [
                "Tell me which API Skein offers.",
                "What API does Skein have?",
            ]
        ),
        "The gateway offers the API of OpenAI.",
        "offers & the api of openai",
    ),
    fact(
        asked!(
            [
                "Can I use a client of OpenAI?",
                "Does Skein speak the API of OpenAI?",
                "Do OpenAI clients work?",
                "Can I use OpenAI clients with Skein?",
                "Do the clients of OpenAI work with Skein?",
            ],
            [
                "Will a client of OpenAI work?",
                "Could I use OpenAI clients with Skein?",
            ]
        ),
        "Yes, the gateway speaks the API of OpenAI, so its clients work.",
        "yes & openai & clients work ! no",
    ),
    fact(
        asked!(
            [
                "Which port [is the API|does Skein listen] on?",
                "On which port [is the API|does Skein listen]?",
                "What is the port[| of the API]?",
                "What is the address of the API?",
                "Where does [Skein|the server|the gateway] listen?",
                "Which port do I use?",
            ],
            [
                "Tell me the port of the API.",
                "Do you know which port Skein listens on?",
            ]
        ),
        "The API listens on port 8080 of your own machine, unless --listen says another.",
        "8080 & unless & listen",
    ),
    fact(
        asked!(
            [
                "How do I stop Skein?",
                "How do I stop the server?",
                "How can I end Skein?",
                "How do I stop the network?",
                "What do I press to stop?",
                "I want to stop Skein.",
            ],
            [
                "Tell me how to stop Skein.",
                "What must I press to end the server?",
            ]
        ),
        "Press Ctrl-C, and Skein stops in order.",
        "ctrl-c & stops in order",
    ),
    fact(
        asked!(
            [
                "How do I leave the chat?",
                "How can I end the chat?",
                "What do I type to leave the chat?",
                "I want to leave the chat.",
                "How do I exit the chat?",
            ],
            [
                "Tell me how to leave the chat.",
                "What must I type to exit the chat?",
            ]
        ),
        "Type /exit or press Ctrl-D.",
        "type & exit & ctrl-d",
    ),
    fact(
        asked!(
            [
                "How do I start the chat anew?",
                "How do I make the chat forget?",
                "How can the chat forget what I said?",
                "What do I type to forget the conversation?",
                "I want to begin a new conversation.",
            ],
            [
                "Tell me how to forget the conversation.",
                "How can I begin the chat anew?",
            ]
        ),
        "Type /reset in the chat. It forgets the conversation.",
        "reset & forgets the conversation",
    ),
    fact(
        asked!(
            [
                "How do I set the system message?",
                "How can I change the system message?",
                "What do I type to set the system message?",
                "Where do I write the system message?",
                "I want to set the system message.",
            ],
            [
                "Tell me how to set the system message.",
                "What must I type to change the system message?",
            ]
        ),
        "Type /system and the text in the chat.",
        "type & system & text",
    ),
    fact(
        asked!(
            [
                "Where can I read more[| about Skein]?",
                "Where are the docs?",
                "Is there a book about Skein?",
                "How do I learn more[| about Skein]?",
                "Where do I find the docs?",
            ],
            [
                "Tell me where I can read more.",
                "Where could I learn more about Skein?",
            ]
        ),
        "Read the README and the files in the folder docs.",
        "readme & folder docs",
    ),
    fact(
        asked!(
            [
                "How do I run the tests?",
                "How can I test Skein?",
                "Which script runs the tests?",
                "What do I type to run the tests?",
                "I want to run the tests.",
            ],
            [
                "Tell me how to run the tests.",
                "Is there a script for the tests?",
            ]
        ),
        "Type ./scripts/test. It runs all tests.",
        "scripts test",
    ),
    fact(
        asked!(
            [
                "Who made you?",
                "Who trained you?",
                "Where do you come from?",
                "How were you made?",
                "How were you trained?",
                "What were you trained on?",
            ],
            [
                "Tell me who made you.",
                "On what were you trained?",
                "Do you know where you come from?",
            ]
        ),
        "Skein trained me on text that it made itself.",
        "skein trained me & text",
    ),
    fact(
        asked!(
            [
                "On which [systems|machines] does Skein run?",
                "What system do I need?",
                "Which system does Skein need?",
                "Where does Skein run?",
            ],
            [
                "Tell me which systems Skein runs on.",
                "What machines does Skein run on?",
            ]
        ),
        "Skein runs on Linux, and other systems are not tested.",
        "runs on linux & not tested",
    ),
    fact(
        asked!(
            [
                "In which formats are weights computed?",
                "Which formats of weights does Skein compute?",
                "What does Skein compute weights in?",
                "What are the weights computed in?",
                "Which formats can the weights have?",
            ],
            [
                "Tell me the formats of the weights.",
                "What formats are the weights computed in?",
            ]
        ),
        "Weights are computed in f32 or bf16.",
        "f32 & bf16",
    ),
    fact(
        asked!(
            [
                "Where is the configuration?",
                "What is the name of the configuration file?",
                "Which file holds the configuration?",
                "Where do I write my settings?",
                "In which file are the settings?",
            ],
            [
                "Tell me where the configuration is.",
                "Which file holds my settings?",
            ]
        ),
        "The configuration is in ~/.config/skein/skein.toml, or in the file after --config.",
        "skein toml & file after config",
    ),
    fact(
        asked!(
            [
                "What does Skein keep of [my|the] API key?",
                "How are API keys kept?",
                "What does Skein keep of a key?",
                "Where is my API key kept?",
                "Tell me how my key is kept.",
            ],
            [
                "Tell me how keys are kept.",
                "What will Skein keep of my key?"
            ]
        ),
        "Skein keeps only the hash of an API key.",
        "only the hash & key",
    ),
    fact(
        asked!(
            [
                "Can you see [images|pictures]?",
                "Can Skein read images?",
                "Do you understand [images|pictures]?",
                "Can I send an image?",
                "May I show you a picture?",
            ],
            [
                "Could I show you an image?",
                "Does Skein understand images?",
            ]
        ),
        "No, today Skein reads and writes text alone.",
        "no & text alone ! yes",
    ),
    fact(
        asked!(
            [
                "Where are the metrics?",
                "How do I see the metrics?",
                "Does Skein have metrics?",
                "Which page shows the metrics?",
                "I want to see the metrics.",
            ],
            [
                "Tell me where the metrics are.",
                "On which page are the metrics?",
            ]
        ),
        "The gateway shows them on the page /metrics.",
        "shows them & page metrics",
    ),
];
