//! How an answer came about, as its message's meta tells it.

use serde::Serialize;

use super::rounds::Called;
use crate::domain::{
    Error,
    message::Json,
    model::{Finish, Tokens},
    model_usage::Use,
};

/// How much is shown of the arguments and of the result of a call, in bytes: as much as fits for all of them.
const SHOWN: [usize; 5] = [4_096, 1_024, 256, 64, 0];
/// How much is shown of a tool's name, which is the model's word, in bytes: at least and at most.
const NAME: (usize, usize) = (16, 64);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    provider: &'static str,
    model: &'a str,
    agent: String,
    agent_version: u32,
    usage: Usage,
    latency_ms: u64,
    finish: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Call<'a>>,
    /// How many calls were too many at once.
    #[serde(skip_serializing_if = "is_zero")]
    tools_passed_over: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
}

#[derive(Serialize)]
struct Call<'a> {
    name: &'a str,
    arguments: &'a str,
    result: &'a str,
    /// Whether more was said than is shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The meta of an answer of `used` with `version` of its agent: at most [`Json::MAX_META`] bytes.
pub(super) fn meta(
    used: &Use,
    version: u32,
    finish: Finish,
    called: &[Called],
    passed_over: usize,
) -> Result<Json, Error> {
    let Tokens { input, output } = used.tokens;
    let mut meta = Meta {
        provider: used.provider.name(),
        model: &used.model,
        agent: used.agent.to_string(),
        agent_version: version,
        usage: Usage {
            input_tokens: input,
            output_tokens: output,
        },
        latency_ms: u64::try_from(used.took.as_millis()).unwrap_or(u64::MAX),
        finish: finish.name(),
        tools: Vec::new(),
        tools_passed_over: passed_over,
    };
    for shown in SHOWN {
        meta.tools = called.iter().map(|called| show(called, shown)).collect();
        let text = serde_json::to_string(&meta).map_err(Error::internal)?;
        if text.len() <= Json::MAX_META {
            return Ok(Json::stored(text));
        }
    }
    Err(Error::internal("a meta without its tools is too long"))
}

fn show(called: &Called, shown: usize) -> Call<'_> {
    let beginning = |text: &'_ str, max| text.floor_char_boundary(max);
    let (arguments, result) = (&called.arguments, &called.result);
    Call {
        name: &called.name[..beginning(&called.name, shown.clamp(NAME.0, NAME.1))],
        arguments: &arguments[..beginning(arguments, shown)],
        result: &result[..beginning(result, shown)],
        cut: arguments.len() > shown || result.len() > shown,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Timestamp, model::Provider};

    fn told(called: &[Called], model: &str) -> Value {
        let used = Use {
            tenant: format!("tenant_{:032x}", 7).parse().unwrap(),
            agent: "chat".parse().unwrap(),
            provider: Provider::Echo,
            model: model.to_owned(),
            at: Timestamp::from_micros(0),
            tokens: Tokens {
                input: 7,
                output: 3,
            },
            took: Duration::from_millis(12),
            seed: 0,
        };
        let meta = meta(&used, 2, Finish::Stop, called, 0).unwrap();
        assert!(meta.as_str().len() <= Json::MAX_META);
        serde_json::from_str(meta.as_str()).unwrap()
    }

    fn called(text: &str) -> Called {
        Called {
            name: text.to_owned(),
            arguments: text.to_owned(),
            result: text.to_owned(),
        }
    }

    #[test]
    fn an_answer_tells_how_it_came_about() {
        let call = Called {
            name: "calculator".to_owned(),
            arguments: r#"{"expression":"2+2"}"#.to_owned(),
            result: "4".to_owned(),
        };
        let tools =
            json!([{"name": "calculator", "arguments": "{\"expression\":\"2+2\"}", "result": "4"}]);
        let whole = json!({
            "provider": "echo", "model": "echo-1", "agent": "chat", "agentVersion": 2,
            "usage": {"inputTokens": 7, "outputTokens": 3},
            "latencyMs": 12, "finish": "stop", "tools": tools,
        });
        assert_eq!(told(&[call], "echo-1"), whole);
    }

    #[test]
    fn it_tells_of_as_many_and_as_large_calls_as_there_can_be() {
        // A control character is six bytes of JSON.
        for text in ["\u{1}", "ä", "\"", "x"] {
            let calls = vec![called(&text.repeat(8 * 1024 / text.len())); 40];
            let told = told(&calls, &"x".repeat(128));
            let tools = told["tools"].as_array().unwrap();
            assert_eq!(tools.len(), 40);
            assert!(tools.iter().all(|tool| tool["cut"] == true));
        }
    }
}
