//! Who answers `run` and `chat`: a model of this process, or one of a server.

use std::io;

use clap::Args;

use super::args::{ModelArgs, SamplingArgs};
use super::{CommandError, Context, environment, generate};
use crate::console::Console;
use crate::embedded;
use crate::generate::{Answer, Assembly, GenerateError, LocalAnswer, read};
use crate::node::LocalModel;
use crate::prompt::Prompt;
use crate::remote::{
    Address, AnswerRequest, Client, Deadlines, KEY_VARIABLE, SamplingFields, words,
};
use crate::stop::StopSignals;

/// Which server answers instead of a model of this process.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Let this server answer, such as http://127.0.0.1:8080. Its key, if it asks for one, is taken
    /// from the environment variable SKEIN_API_KEY.
    #[arg(long, value_name = "URL", conflicts_with = "ModelArgs")]
    pub url: Option<Address>,
    /// Which of a server's models [default: the first that it lists]; without --url, of the server of
    /// this machine.
    #[arg(long, value_name = "MODEL", conflicts_with = "ModelArgs")]
    pub name: Option<String>,
}

/// Who answers.
#[derive(Debug)]
pub(super) enum Answerer {
    /// A model of this process.
    Local(Box<LocalModel>),
    /// A model of a server.
    Remote {
        client: Box<Client>,
        /// As the server calls it.
        model: String,
    },
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) prompt: Prompt<'a>,
    pub(super) sampling: &'a SamplingArgs,
    /// Whether the ids of the tokens are wanted.
    pub(super) token_ids: bool,
}

/// A client of the server at `url`, else of the one that this machine's configuration describes.
pub(super) fn client(context: &Context, url: Option<&Address>) -> Result<Client, CommandError> {
    let gateway = &context.loaded.settings.gateway;
    let own = || Address::of_listener(gateway.listen, gateway.tls_certificate.is_some());
    let address = url.cloned().unwrap_or_else(own);
    let key = environment(KEY_VARIABLE);
    if key.is_some() && address.is_exposed() {
        context.console.note(&format!(
            "the key goes to {address} without encryption: whoever is in between can read it"
        ));
    }
    Ok(Client::new(address, key.as_deref(), Deadlines::default())?)
}

impl Answerer {
    /// The server if one is named, else the model that the settings name, else the server of this
    /// machine, else the embedded model.
    pub(super) fn find(
        context: &Context,
        model: &ModelArgs,
        server: &ServerArgs,
        sampling: &SamplingArgs,
    ) -> Result<Self, CommandError> {
        sampling.check()?;
        if server.url.is_some() || server.name.is_some() {
            return Self::remote(context, server);
        }
        if let Some(path) = &context.loaded.settings.model.path {
            return Ok(Self::Local(Box::new(generate::load(context, path)?)));
        }
        // Who says how to run a model does not mean a server's.
        if !model.overrides().is_empty() {
            return Self::embedded(context);
        }
        match Self::remote(context, server) {
            Err(CommandError::Remote(error)) if error.is_absence() => Self::embedded(context),
            other => other,
        }
    }

    fn embedded(context: &Context) -> Result<Self, CommandError> {
        context.console.note(&format!(
            "no server here and no --model: {}, the small model inside Skein, answers",
            embedded::MODEL_NAME
        ));
        let model = generate::load(context, embedded::NAME)?;
        Ok(Self::Local(Box::new(model)))
    }

    fn remote(context: &Context, server: &ServerArgs) -> Result<Self, CommandError> {
        let client = Box::new(client(context, server.url.as_ref())?);
        let model = client.model(server.name.as_deref())?;
        Ok(Self::Remote { client, model })
    }

    /// Who it is, for people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Local(model) => model.name.clone(),
            Self::Remote { client, model } => {
                format!("{} at {}", words(model), client.address())
            }
        }
    }

    /// Refuses at once what no conversation can change.
    pub(super) fn check_chat(&self) -> Result<(), GenerateError> {
        match self {
            Self::Local(model) if model.template.is_none() => Err(GenerateError::NoTemplate {
                model: model.name.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Answers, or as much of it as there is when a signal comes.
    ///
    /// # Cancel safety
    /// Dropping it ends the work; what was shown stays shown.
    pub(super) async fn answer(
        &self,
        question: Question<'_>,
        signals: &mut StopSignals,
        show: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<Answer, CommandError> {
        let interrupted = async {
            signals.next().await;
        };
        match self {
            Self::Local(model) => {
                let answer = local_answer(model, &question)?;
                Ok(read(answer, interrupted, show).await?)
            }
            Self::Remote { client, model } => {
                let answer = client.answer(&AnswerRequest {
                    model,
                    prompt: question.prompt,
                    sampling: question.sampling.fields(&question.prompt),
                    token_ids: question.token_ids,
                });
                Ok(read(answer, interrupted, show).await?)
            }
        }
    }

    /// As [`Self::answer`], shown on standard output as it comes.
    ///
    /// # Cancel safety
    /// As there.
    pub(super) async fn say(
        &self,
        question: Question<'_>,
        signals: &mut StopSignals,
        console: Console,
    ) -> Result<Answer, CommandError> {
        let mut begun = false;
        let show = |text: &str| {
            begun = true;
            console.speech(text)
        };
        let answer = self.answer(question, signals, show).await;
        // What failed half-way leaves its words, and the error stands on a line of its own.
        if begun || answer.is_ok() {
            console.text("\n")?;
        }
        answer
    }

    /// Ends it.
    ///
    /// # Cancel safety
    /// Cancelled, a model of this process ends after the step in progress.
    pub(super) async fn shutdown(self) {
        if let Self::Local(model) = self {
            model.shutdown(std::time::Duration::ZERO).await;
        }
    }
}

fn local_answer(model: &LocalModel, question: &Question<'_>) -> Result<LocalAnswer, CommandError> {
    let prompt = question.prompt.ids(model)?;
    let request = question.sampling.request(model, prompt)?;
    let assembly =
        Assembly::new(&model.tokenizer, &question.sampling.stop).map_err(GenerateError::from)?;
    let generation = model.handle.submit(request).map_err(GenerateError::from)?;
    Ok(LocalAnswer::new(generation, assembly))
}

impl SamplingArgs {
    /// These as fields of a request.
    fn fields(&self, prompt: &Prompt<'_>) -> SamplingFields {
        let tokens = |tokens: usize| i64::try_from(tokens).unwrap_or(i64::MAX);
        let unsaid = match prompt {
            Prompt::Chat(_) => None,
            // A server would end a completion soon if nobody said how long it may be.
            Prompt::Raw(_) => Some(-1),
        };
        SamplingFields {
            max_tokens: self.max_tokens.map(tokens).or(unsaid),
            // Exact: every f32 is an f64.
            temperature: self.temperature.map(f64::from),
            top_p: self.top_p.map(f64::from),
            top_k: self.top_k,
            min_p: self.min_p.map(f64::from),
            repetition_penalty: self.repetition_penalty.map(f64::from),
            presence_penalty: self.presence_penalty.map(f64::from),
            frequency_penalty: self.frequency_penalty.map(f64::from),
            seed: self.seed.map(u64::cast_signed),
            stop: self.stop.clone(),
        }
    }
}
