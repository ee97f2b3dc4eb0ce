//! What models were used for.

use parlance::domain::{
    Error, Timestamp,
    model_usage::{Day, UsageLine},
};
use parlance::http::Params;
use serde::Serialize;
use utoipa::ToSchema;

/// How many days before today are shown where nobody says.
const DAYS: i64 = 29;

/// What was used on one day by one agent of one model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelUsageOut {
    /// UTC.
    #[schema(example = "2025-12-13", format = "date")]
    date: String,
    #[schema(example = "chat")]
    agent_id: String,
    /// `openai`, `anthropic`, `google` or `echo`.
    #[schema(example = "openai")]
    provider: &'static str,
    #[schema(example = "gpt-4o-mini")]
    model: String,
    /// How often it was asked for an answer.
    #[schema(example = 120)]
    invocations: u64,
    /// How often it gave none.
    #[schema(example = 2)]
    errors: u64,
    /// As the provider says, or about, if it does not; with those of what gave no answer.
    #[schema(example = 48_000)]
    input_tokens: u64,
    #[schema(example = 9_600)]
    output_tokens: u64,
    /// Of those that gave an answer, with all tools that were called.
    #[schema(example = 1_400)]
    avg_latency_ms: u64,
}

impl From<&UsageLine> for ModelUsageOut {
    fn from(line: &UsageLine) -> Self {
        Self {
            date: line.day.to_string(),
            agent_id: line.agent.to_string(),
            provider: line.provider.name(),
            model: line.model.clone(),
            invocations: line.answers.saturating_add(line.errors),
            errors: line.errors,
            input_tokens: line.tokens.input,
            output_tokens: line.tokens.output,
            avg_latency_ms: line.average_latency_ms(),
        }
    }
}

/// Parameters `from` and `to`: without them, the last 30 days up to `now`.
pub(crate) fn days(params: &Params, now: Timestamp) -> Result<(Day, Day), Error> {
    let day = |field: &'static str| {
        let given = params.get(field)?;
        given.map(|text| Day::parse(field, text)).transpose()
    };
    let to = day("to")?.unwrap_or_else(|| Day::of(now));
    let from = day("from")?.unwrap_or_else(|| to.before(DAYS));
    if from > to {
        return Err(Error::invalid(
            "from",
            "Invalid from. It must not be after to",
        ));
    }
    Ok((from, to))
}
