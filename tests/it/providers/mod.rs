//! Language models, asked through providers of every kind and in every mood.

mod faults;
mod keys;
mod kms;
mod logs;
mod lost;
mod models;

use std::{ops::ControlFlow, time::Duration};

use parlance::{
    domain::{
        Timestamp,
        model::{ModelFailure, ModelReply, Provider as Kind, ToolSpec, Turn, Unanswered},
        webhook::Targets,
    },
    http::moment,
    providers::models::{Ask, DefaultModel, ModelKey, Models},
};
use tokio::time::Instant;

use crate::support::provider::{Provider, Speech};

/// A question to a provider on this machine.
struct Question {
    speech: Speech,
    model: &'static str,
    key: ModelKey,
    system: Option<&'static str>,
    turns: Vec<Turn>,
    tools: Vec<ToolSpec>,
    temperature: Option<f64>,
    patience: Duration,
}

fn kind(speech: Speech) -> Kind {
    speech.name().parse().unwrap()
}

fn key(text: &str) -> ModelKey {
    ModelKey::parse(text.to_owned()).unwrap()
}

fn user(text: &str) -> Turn {
    Turn::User(text.to_owned())
}

fn now() -> Timestamp {
    moment(Duration::ZERO).unwrap().now
}

/// Models of any provider, as where tests run.
fn models() -> Models {
    Models::new(Targets::Any, DefaultModel::default())
}

impl Question {
    fn new(speech: Speech) -> Self {
        Self {
            speech,
            model: "some-model",
            key: key("sk-right"),
            system: None,
            turns: vec![user("How are you?")],
            tools: Vec::new(),
            temperature: None,
            patience: Duration::from_secs(20),
        }
    }

    /// Asks `provider`: what was answered, and what was heard of it.
    async fn ask(&self, provider: &Provider) -> (Result<ModelReply, ModelFailure>, Vec<String>) {
        self.ask_until(provider, |_| ControlFlow::Continue(()))
            .await
    }

    /// The same, with somebody who may leave.
    async fn ask_until(
        &self,
        provider: &Provider,
        listens: impl FnMut(&str) -> ControlFlow<()>,
    ) -> (Result<ModelReply, ModelFailure>, Vec<String>) {
        let (reply, pieces) = self.asked(provider, listens).await;
        (reply.map_err(|unanswered| unanswered.why), pieces)
    }

    /// The same, with what was used in vain.
    async fn asked(
        &self,
        provider: &Provider,
        mut listens: impl FnMut(&str) -> ControlFlow<()>,
    ) -> (Result<ModelReply, Unanswered>, Vec<String>) {
        let base = provider.base(self.speech);
        let ask = Ask {
            provider: kind(self.speech),
            model: self.model,
            base_url: Some(&base),
            key: Some(&self.key),
            system: self.system,
            turns: &self.turns,
            tools: &self.tools,
            temperature: self.temperature,
            max_tokens: 100,
            now: now(),
            seed: uuid::Uuid::new_v4().as_u128(),
        };
        let mut pieces = Vec::new();
        let deadline = Instant::now() + self.patience;
        let mut heard = |piece: &str| {
            let listens = listens(piece);
            if listens.is_continue() {
                pieces.push(piece.to_owned());
            }
            listens
        };
        let reply = models().ask(&ask, deadline, &mut heard).await;
        (reply, pieces)
    }
}

/// What `OpenAI` at `base` answers to a greeting.
async fn ask_at(models: &Models, base: &str) -> Result<ModelReply, ModelFailure> {
    let key = key("sk-right");
    let ask = Ask {
        provider: Kind::OpenAi,
        model: "some-model",
        base_url: Some(base),
        key: Some(&key),
        system: None,
        turns: &[user("hi")],
        tools: &[],
        temperature: None,
        max_tokens: 10,
        now: now(),
        seed: uuid::Uuid::new_v4().as_u128(),
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut heard = |_: &str| ControlFlow::Continue(());
    let reply = models.ask(&ask, deadline, &mut heard).await;
    reply.map_err(|unanswered| unanswered.why)
}
