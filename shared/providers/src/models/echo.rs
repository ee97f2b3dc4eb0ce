//! A model that is none: it repeats what it is told and says that it does, so that a deployment without any key can be
//! tried, and tests know every word.
//!
//! It answers `[echo] You said: …` with the last words of the person. Lines that begin with a slash are orders:
//!
//! | line                  | what it does                                                                  |
//! |-----------------------|-------------------------------------------------------------------------------|
//! | `/tool <name> <json>` | calls that tool, if it was given it, and then tells the result                |
//! | `/any <name> <json>`  | calls that tool, given or not, as a model does that was talked into it        |
//! | `/loop <name> <json>` | calls that tool again after each result                                       |
//! | `/history`            | tells each turn that it was told                                              |

use std::ops::ControlFlow;

use tokio::task::yield_now;

use super::{
    Ask, asked, estimate,
    passing::{Passing, Stopped},
};
use crate::domain::model::{Finish, ModelReply, Tokens, ToolCall, Turn};

/// What it is called.
pub(super) const MODEL: &str = "echo-1";
/// What each of its answers begins with.
const NAME: &str = "[echo] ";
/// How much `/history` tells of a turn, in bytes.
const TOLD: usize = 64;

/// Answers `ask`, word by word.
pub(super) async fn answer<H: FnMut(&str) -> ControlFlow<()>>(
    ask: &Ask<'_>,
    passing: &mut Passing<'_, H>,
) -> ModelReply {
    let calls = calls(ask);
    let mut finish = if calls.is_empty() {
        Finish::Stop
    } else {
        Finish::ToolCalls
    };
    let text = if calls.is_empty() {
        format!("{NAME}{}", text(ask))
    } else {
        String::new()
    };
    passing.shorten(ask.max_tokens.saturating_mul(4) as usize);
    for word in text.split_inclusive(' ') {
        if let ControlFlow::Break(stopped) = passing.pass(word) {
            finish = match stopped {
                Stopped::Gone => Finish::Cancelled,
                Stopped::Full => Finish::Length,
            };
            break;
        }
        // Others have a turn between two words, so that a stream is one.
        yield_now().await;
    }
    let called: usize = calls.iter().map(|call| call.arguments.len()).sum();
    let tokens = Tokens {
        input: asked(ask),
        output: estimate(passing.len() + called),
    };
    ModelReply {
        tokens,
        text: passing.take(),
        calls,
        dropped: 0,
        finish,
    }
}

/// What the person said last, and what came of the calls since.
fn last<'a>(ask: &Ask<'a>) -> (&'a str, Vec<&'a str>) {
    let mut results = Vec::new();
    for turn in ask.turns.iter().rev() {
        match turn {
            Turn::User(text) => {
                results.reverse();
                return (text, results);
            }
            Turn::Tool { result, .. } => results.push(result.as_str()),
            Turn::Assistant { .. } => {}
        }
    }
    ("", results)
}

/// The calls that the person's last words order.
fn calls(ask: &Ask<'_>) -> Vec<ToolCall> {
    let (said, results) = last(ask);
    let is_given = |name: &str| ask.tools.iter().any(|tool| tool.name == name);
    let ordered = said.lines().filter_map(|line| {
        let (order, rest) = line.split_once(' ')?;
        let (name, arguments) = rest.split_once(' ').unwrap_or((rest, "{}"));
        let is_due = match order {
            "/tool" => results.is_empty() && is_given(name),
            "/any" => results.is_empty(),
            "/loop" => true,
            _ => false,
        };
        is_due.then_some((name, arguments))
    });
    let made = results.len();
    let call = |(n, (name, arguments)): (usize, (&str, &str))| ToolCall {
        id: format!("echo_{}", made + n + 1),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        signatures: Vec::new(),
    };
    ordered.enumerate().map(call).collect()
}

fn text(ask: &Ask<'_>) -> String {
    let (said, results) = last(ask);
    if !results.is_empty() {
        return format!("The tool says: {}", results.join("; "));
    }
    if said.trim() == "/history" {
        return history(ask.turns);
    }
    if said.starts_with("/tool ") {
        return format!("No such tool was given: {said}");
    }
    format!("You said: {said}")
}

fn history(turns: &[Turn]) -> String {
    let told = turns.iter().map(|turn| {
        let (who, text) = match turn {
            Turn::User(text) => ("user", text),
            Turn::Assistant { text, .. } => ("assistant", text),
            Turn::Tool { result, .. } => ("tool", result),
        };
        let cut = &text[..text.floor_char_boundary(TOLD)];
        format!("\n{who}: {}", cut.replace('\n', " "))
    });
    let told: String = told.collect();
    format!("{} turns{told}", turns.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        message::Json,
        model::{Provider, ToolSpec},
    };

    fn tool(name: &'static str) -> ToolSpec {
        ToolSpec {
            name,
            description: "",
            parameters: Json::object("parameters", "{}", 2).unwrap(),
        }
    }

    async fn reply(turns: &[Turn], tools: &[ToolSpec], max_tokens: u32) -> (ModelReply, usize) {
        let ask = Ask {
            provider: Provider::Echo,
            model: MODEL,
            base_url: None,
            key: None,
            system: None,
            turns,
            tools,
            temperature: None,
            max_tokens,
            now: crate::domain::Timestamp::from_micros(0),
            seed: 1,
        };
        let mut pieces = 0;
        let mut heard = |_: &str| {
            pieces += 1;
            ControlFlow::Continue(())
        };
        let reply = answer(&ask, &mut Passing::new(&mut heard)).await;
        (reply, pieces)
    }

    fn user(text: &str) -> Turn {
        Turn::User(text.to_owned())
    }

    #[tokio::test]
    async fn it_names_itself_and_repeats_word_by_word() {
        let (reply, pieces) = reply(&[user("hello there")], &[], 100).await;
        assert_eq!(reply.text, "[echo] You said: hello there");
        assert_eq!((pieces, reply.finish), (5, Finish::Stop));
        let tokens = Tokens {
            input: 3,
            output: 7,
        };
        assert_eq!(reply.tokens, tokens);
    }

    #[tokio::test]
    async fn it_says_no_more_than_it_may() {
        let (reply, _) = reply(&[user("hello there")], &[], 4).await;
        assert_eq!(
            (reply.text.as_str(), reply.finish),
            ("[echo] You said:", Finish::Length)
        );
    }

    #[tokio::test]
    async fn it_calls_a_tool_that_it_was_given_and_tells_the_result() {
        let ordered = user("/tool clock {\"offset\":\"+01:00\"}");
        let (asked, _) = reply(std::slice::from_ref(&ordered), &[tool("clock")], 100).await;
        let call = ToolCall {
            id: "echo_1".to_owned(),
            name: "clock".to_owned(),
            arguments: "{\"offset\":\"+01:00\"}".to_owned(),
            signatures: Vec::new(),
        };
        assert_eq!((asked.text.as_str(), asked.finish), ("", Finish::ToolCalls));
        assert_eq!(asked.calls, std::slice::from_ref(&call));
        let turns = [
            ordered,
            Turn::Assistant {
                text: String::new(),
                calls: vec![call],
            },
            Turn::Tool {
                call: "echo_1".to_owned(),
                result: "noon".to_owned(),
            },
        ];
        let (told, _) = reply(&turns, &[tool("clock")], 100).await;
        assert_eq!(told.text, "[echo] The tool says: noon");
        assert!(told.calls.is_empty());
    }

    #[tokio::test]
    async fn it_calls_what_it_was_not_given_only_if_talked_into_it() {
        let (tool, _) = reply(&[user("/tool clock {}")], &[], 100).await;
        assert!(tool.calls.is_empty() && tool.text.starts_with(NAME));
        let (any, _) = reply(&[user("/any clock {}\n/any clock {}")], &[], 100).await;
        assert_eq!(any.calls.len(), 2);
    }

    #[tokio::test]
    async fn it_tells_what_it_was_told() {
        let said = Turn::Assistant {
            text: "hello\nyou".to_owned(),
            calls: Vec::new(),
        };
        let (reply, _) = reply(&[user("hi"), said, user("/history")], &[], 100).await;
        assert_eq!(
            reply.text,
            "[echo] 3 turns\nuser: hi\nassistant: hello you\nuser: /history"
        );
    }
}
