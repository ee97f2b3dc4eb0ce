//! A question in the words of `genai`, and its answers in ours.

use genai::{
    ModelIden, ServiceTarget,
    adapter::AdapterKind,
    chat::{
        ChatMessage, ChatOptions, ChatRequest, MessageContent, ReasoningEffort, StopReason, Tool,
        ToolCall as TheirCall, ToolResponse, Usage,
    },
    resolver::{AuthData, Endpoint},
};
use serde_json::{Map, Value};
use url::Url;

use super::{Ask, mend::place_of};
use crate::domain::{
    model::{Finish, Provider, Tokens, ToolCall, Turn},
    provider_key::ModelKey,
};

/// How many calls of an answer are heard: more are dropped.
const MOST_CALLS: usize = 64;
/// How long the arguments of a call may be, in bytes. More is no honest answer.
const LONGEST_ARGUMENTS: usize = 64 * 1024;

/// Where a provider usually is, with the slash at its end.
const fn usual(provider: Provider) -> Option<(&'static str, AdapterKind)> {
    match provider {
        Provider::OpenAi => Some(("https://api.openai.com/v1/", AdapterKind::OpenAI)),
        Provider::Anthropic => Some(("https://api.anthropic.com/v1/", AdapterKind::Anthropic)),
        Provider::Google => Some((
            "https://generativelanguage.googleapis.com/v1beta/",
            AdapterKind::Gemini,
        )),
        Provider::Echo => None,
    }
}

/// Where `ask` goes: its provider, or what it says instead.
pub(super) fn place(ask: &Ask<'_>) -> Option<Url> {
    let (usual, _) = usual(ask.provider)?;
    let mut url = Url::parse(ask.base_url.unwrap_or(usual)).ok()?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

/// The target of `ask`, as it is reached through a relay: without TLS, which the relay adds.
pub(super) fn target(ask: &Ask<'_>, mut place: Url) -> Option<ServiceTarget> {
    let (_, adapter) = usual(ask.provider)?;
    place.set_scheme("http").ok()?;
    Some(ServiceTarget {
        endpoint: Endpoint::from_owned(String::from(place)),
        auth: AuthData::from_single(ask.key.map_or("", ModelKey::expose)),
        model: ModelIden::new(adapter, ask.model),
    })
}

pub(super) fn options(ask: &Ask<'_>) -> ChatOptions {
    let mut options = ChatOptions::default()
        .with_max_tokens(ask.max_tokens)
        .with_capture_usage(true);
    let warmest = match ask.provider {
        // It refuses more.
        Provider::Anthropic => 1.0,
        Provider::OpenAi | Provider::Google | Provider::Echo => 2.0,
    };
    options.temperature = ask.temperature.map(|warmth| warmth.min(warmest));
    if ask.provider == Provider::OpenAi {
        // A name like `qwen-max` is a name, and no wish to think hard: with a budget, which OpenAI has no word for,
        // nothing is read out of it and nothing said.
        options.reasoning_effort = Some(ReasoningEffort::Budget(0));
    }
    options
}

/// The conversation of `ask`. Providers want it to begin with a person.
pub(super) fn request(ask: &Ask<'_>) -> ChatRequest {
    let mut messages: Vec<ChatMessage> = Vec::new();
    let mut results = Vec::new();
    let from_person = |turn: &&Turn| !matches!(turn, Turn::User(_));
    for turn in ask.turns.iter().skip_while(from_person) {
        if let Turn::Tool { call, result } = turn {
            let response = ToolResponse::new(call.clone(), result.clone());
            results.push(match name_of(ask.turns, call) {
                Some(name) => response.with_fn_name(name),
                None => response,
            });
            continue;
        }
        told(&mut messages, &mut results);
        messages.push(match turn {
            Turn::User(text) => ChatMessage::user(text.clone()),
            Turn::Assistant { text, calls } => {
                let mut content = MessageContent::default();
                if !text.is_empty() {
                    content.push(text.clone());
                }
                for call in calls {
                    content.push(theirs(call));
                }
                ChatMessage::assistant(content)
            }
            Turn::Tool { .. } => continue,
        });
    }
    told(&mut messages, &mut results);
    let mut request = ChatRequest::new(messages);
    request.system = ask.system.map(ToOwned::to_owned);
    let tools = ask.tools.iter().map(|tool| {
        let schema = serde_json::from_str(tool.parameters.as_str());
        Tool::new(tool.name)
            .with_description(tool.description)
            .with_schema(schema.unwrap_or_else(|_| Value::Object(Map::new())))
    });
    request.tools = (!ask.tools.is_empty()).then(|| tools.collect());
    request
}

/// The results of calls that were made together are told together.
fn told(messages: &mut Vec<ChatMessage>, results: &mut Vec<ToolResponse>) {
    if !results.is_empty() {
        let results = MessageContent::from_tool_responses(std::mem::take(results));
        messages.push(ChatMessage::tool(results));
    }
}

fn name_of<'a>(turns: &'a [Turn], id: &str) -> Option<&'a str> {
    turns.iter().rev().find_map(|turn| match turn {
        Turn::Assistant { calls, .. } => calls
            .iter()
            .find(|call| call.id == id)
            .map(|call| call.name.as_str()),
        Turn::User(_) | Turn::Tool { .. } => None,
    })
}

fn theirs(call: &ToolCall) -> TheirCall {
    let arguments = serde_json::from_str::<Map<_, _>>(&call.arguments).unwrap_or_default();
    TheirCall {
        call_id: call.id.clone(),
        fn_name: call.name.clone(),
        fn_arguments: Value::Object(arguments),
        thought_signatures: (!call.signatures.is_empty()).then(|| call.signatures.clone()),
    }
}

/// The calls of an answer, as they come in pieces.
///
/// `genai` would put them together too, but makes room for whatever place in the list a provider names.
#[derive(Debug)]
pub(super) struct Calls {
    provider: Provider,
    made: Vec<ToolCall>,
    dropped: usize,
    /// The id of the last one that was dropped.
    last_dropped: String,
}

/// More than an honest answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Calls {
    pub(super) const fn new(provider: Provider) -> Self {
        Self {
            provider,
            made: Vec::new(),
            dropped: 0,
            last_dropped: String::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Takes the next piece.
    pub(super) fn add(&mut self, piece: TheirCall) -> Result<(), TooMuch> {
        let arguments = match piece.fn_arguments {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let name = piece.fn_name;
        let place = match self.provider {
            // The relay gave each piece the number of its call.
            Provider::OpenAi => place_of(&piece.call_id),
            Provider::Anthropic | Provider::Google | Provider::Echo => None,
        };
        let (place, mut id) = match place {
            Some((place, id)) => (Some(place), id.to_owned()),
            None => (None, piece.call_id),
        };
        let known = match self.provider {
            Provider::OpenAi => place.or_else(|| self.made.iter().position(|call| call.id == id)),
            // Each piece has the id, and all arguments so far.
            Provider::Anthropic => {
                let known = self.made.iter().position(|call| call.id == id);
                if let Some(call) = known.and_then(|known| self.made.get_mut(known)) {
                    call.arguments.clear();
                }
                known
            }
            // Each is whole; its id is made up, and made up anew in each event.
            Provider::Google | Provider::Echo => None,
        };
        let known = known.unwrap_or(self.made.len());
        if known >= MOST_CALLS {
            self.drop(known, id);
            return Ok(());
        }
        if known == self.made.len() {
            if id.is_empty() {
                id = format!("call_{known}");
            }
            let is_taken = self.made.iter().any(|call| call.id == id);
            let id = if is_taken {
                format!("{id}#{known}")
            } else {
                id
            };
            self.made.push(ToolCall {
                id,
                name: String::new(),
                arguments: String::new(),
                signatures: piece.thought_signatures.unwrap_or_default(),
            });
        }
        let call = self.made.get_mut(known).ok_or(TooMuch)?;
        if call.name.is_empty() {
            call.name = name;
        }
        call.arguments.push_str(&arguments);
        if call.arguments.len() > LONGEST_ARGUMENTS {
            return Err(TooMuch);
        }
        Ok(())
    }

    /// Drops the call with this number and id, or a piece of it.
    fn drop(&mut self, number: usize, id: String) {
        match self.provider {
            Provider::OpenAi => {
                let dropped = number.saturating_add(1).saturating_sub(MOST_CALLS);
                self.dropped = self.dropped.max(dropped);
            }
            // One comes after the other.
            Provider::Anthropic => {
                self.dropped += usize::from(self.last_dropped != id);
                self.last_dropped = id;
            }
            Provider::Google | Provider::Echo => self.dropped += 1,
        }
    }

    /// How many were too many.
    pub(super) const fn dropped(&self) -> usize {
        self.dropped
    }

    /// All of them.
    pub(super) fn take(&mut self) -> Vec<ToolCall> {
        let mut made = std::mem::take(&mut self.made);
        for call in &mut made {
            if call.arguments.is_empty() {
                call.arguments.push_str("{}");
            }
        }
        made
    }
}

/// Why an answer ended that holds calls or none.
pub(super) fn finish(reason: Option<&StopReason>, has_calls: bool) -> Finish {
    match reason {
        Some(StopReason::MaxTokens(_)) => Finish::Length,
        Some(StopReason::ContentFilter(_)) => Finish::Filtered,
        // Google says that it is done where others say that they want calls.
        _ if has_calls => Finish::ToolCalls,
        Some(
            StopReason::Completed(_)
            | StopReason::ToolCall(_)
            | StopReason::StopSequence(_)
            | StopReason::Other(_),
        )
        | None => Finish::Stop,
    }
}

/// Whether the provider says what was used.
pub(super) fn is_said(usage: Option<&Usage>) -> bool {
    usage.is_some_and(|usage| usage.prompt_tokens.is_some() || usage.completion_tokens.is_some())
}

/// What the provider says was used, and what we think was where it says nothing.
pub(super) fn tokens(usage: Option<&Usage>, thought: Tokens) -> Tokens {
    let said = |count: Option<i32>| count.and_then(|count| u64::try_from(count).ok());
    Tokens {
        input: usage
            .and_then(|usage| said(usage.prompt_tokens))
            .unwrap_or(thought.input),
        output: usage
            .and_then(|usage| said(usage.completion_tokens))
            .unwrap_or(thought.output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: &str, name: &str, arguments: &str) -> TheirCall {
        TheirCall {
            call_id: id.to_owned(),
            fn_name: name.to_owned(),
            fn_arguments: Value::String(arguments.to_owned()),
            thought_signatures: None,
        }
    }

    /// What comes of pieces of calls: ids, names and arguments.
    fn put_together(
        provider: Provider,
        pieces: &[(&str, &str, &str)],
    ) -> Result<Vec<String>, TooMuch> {
        let mut calls = Calls::new(provider);
        for (id, name, arguments) in pieces {
            calls.add(piece(id, name, arguments))?;
        }
        let calls = calls.take().into_iter();
        Ok(calls
            .map(|call| format!("{} {} {}", call.id, call.name, call.arguments))
            .collect())
    }

    #[test]
    fn pieces_of_openai_find_their_call_by_its_number() {
        let pieces = [
            ("0 a", "one", ""),
            ("1 a", "two", ""),
            ("2 ", "", ""),
            ("1 ", "", "{\"x\""),
            ("0 b", "one", "{}"),
            ("1 a", "", ":1}"),
        ];
        let whole = ["a one {}", "a#1 two {\"x\":1}", "call_2  {}"].map(str::to_owned);
        assert_eq!(put_together(Provider::OpenAi, &pieces), Ok(whole.to_vec()));
    }

    #[test]
    fn a_piece_of_a_call_that_never_began_is_refused() {
        let pieces = [("0 a", "one", "{}"), ("7 a", "", "{}")];
        assert_eq!(put_together(Provider::OpenAi, &pieces), Err(TooMuch));
    }

    #[test]
    fn pieces_of_anthropic_hold_all_so_far() {
        let pieces = [("a", "one", ""), ("a", "one", "{"), ("a", "one", "{}")];
        let one = vec!["a one {}".to_owned()];
        assert_eq!(put_together(Provider::Anthropic, &pieces), Ok(one));
    }

    #[test]
    fn calls_of_google_are_told_apart_though_their_ids_are_alike() {
        let pieces = [("a", "one", "{}"), ("a", "one", "{}")];
        let two = ["a one {}", "a#1 one {}"].map(str::to_owned);
        assert_eq!(put_together(Provider::Google, &pieces), Ok(two.to_vec()));
    }

    #[test]
    fn arguments_longer_than_any_are_refused() {
        let long = "x".repeat(LONGEST_ARGUMENTS + 1);
        let mut calls = Calls::new(Provider::Google);
        assert_eq!(calls.add(piece("a", "one", &long)), Err(TooMuch));
    }

    #[test]
    fn calls_beyond_sixty_four_are_dropped_and_counted() {
        for provider in [Provider::OpenAi, Provider::Anthropic, Provider::Google] {
            let mut calls = Calls::new(provider);
            let id = |n: usize| match provider {
                Provider::OpenAi => format!("{n} x"),
                Provider::Anthropic | Provider::Google | Provider::Echo => n.to_string(),
            };
            for n in 0..MOST_CALLS + 6 {
                assert_eq!(calls.add(piece(&id(n), "one", "{")), Ok(()));
                if provider != Provider::Google {
                    assert_eq!(calls.add(piece(&id(n), "", "{}")), Ok(()));
                }
            }
            assert_eq!(calls.dropped(), 6, "{provider}");
            assert_eq!(calls.take().len(), MOST_CALLS, "{provider}");
        }
    }

    #[test]
    fn no_provider_says_how_many_are_dropped() {
        let mut calls = Calls::new(Provider::OpenAi);
        let id = format!("{} x", usize::MAX);
        assert_eq!(calls.add(piece(&id, "one", "{}")), Ok(()));
        assert_eq!((calls.dropped(), calls.take().len()), (0, 1));
    }

    #[test]
    fn a_count_that_is_none_is_estimated() {
        let thought = Tokens {
            input: 5,
            output: 6,
        };
        let said = Usage {
            prompt_tokens: Some(-1),
            completion_tokens: Some(7),
            ..Usage::default()
        };
        let known = Tokens {
            input: 5,
            output: 7,
        };
        assert_eq!(tokens(Some(&said), thought), known);
        assert_eq!(tokens(None, thought), thought);
    }
}
