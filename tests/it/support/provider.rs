//! A provider of models on this machine, which speaks as `OpenAI`, Anthropic and Google do, and misbehaves when it is told to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    future::pending,
    io,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::deployed::serve_on;

/// 10 MB, about.
pub const LONG: usize = 10 * 1024 * 1024;

/// The time between two words of [`Act::Chatter`].
const WORD: Duration = Duration::from_millis(20);

/// A provider.
#[derive(Clone)]
pub struct Provider {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: VecDeque<Act>,
    always: Option<Act>,
    rejected: BTreeSet<String>,
    to_keys: BTreeMap<String, Act>,
    to_words: BTreeMap<String, Act>,
    asked: Vec<Asked>,
    left: usize,
}

/// In whose words it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    OpenAi,
    Anthropic,
    Google,
}

impl Speech {
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Google];

    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Google => "google",
        }
    }

    fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::OpenAi),
            "/v1/messages" => Some(Self::Anthropic),
            path if path.ends_with(":streamGenerateContent") => Some(Self::Google),
            _ => None,
        }
    }
}

/// How it answers one question.
#[derive(Debug, Clone)]
pub enum Act {
    /// Says these words, a piece each, and what was used: 11 tokens read and 7 written.
    Say(Vec<String>),
    /// The same without what was used.
    SayOnly(Vec<String>),
    /// Says that it was cut off after these words.
    Cut(Vec<String>),
    /// Calls these tools: name and arguments.
    Call(Vec<(String, String)>),
    /// Says these words and then nothing, for as long as somebody listens.
    Pause(Vec<String>),
    /// Says these words and hangs up.
    Drop(Vec<String>),
    /// Thinks this, as `OpenAI`'s kind does, and hangs up before its first word.
    Think(&'static str),
    /// Says these words and then that something went wrong.
    Fail(Vec<String>),
    /// Answers with this status and these headers, and says why in words that are nobody's business.
    Status(u16, Vec<(&'static str, String)>),
    /// Refuses with this status, in these words.
    Refuse(u16, String),
    /// Says one word after the other, for as long as somebody listens.
    Chatter,
    /// Says these words byte by byte.
    Crumbs(Vec<String>),
    /// Never answers.
    Hang,
    /// Ends without a word.
    Nothing,
    /// Streams what is no JSON.
    Garbage,
    /// Answers with a page.
    Page,
    /// Answers with compressed words.
    Packed,
    /// One event of [`LONG`] bytes.
    LongEvent,
    /// [`LONG`] bytes of words in pieces of 1 KB.
    LongWords,
    /// A 500 with a body of [`LONG`] bytes.
    LongFailure,
    /// A call in a place of its list that nothing has room for.
    FarCall,
    /// Exactly these events, and what becomes of the connection then is a failure.
    Events(Vec<String>),
    /// Exactly these events, and the end.
    Ended(Vec<String>),
}

/// A question as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

impl Asked {
    /// The key it came with.
    pub fn key(&self) -> String {
        let text = |name: &str| self.headers.get(name).cloned();
        let bearer = text("authorization").map(|value| value.replacen("Bearer ", "", 1));
        let key = bearer.or_else(|| text("x-api-key"));
        key.or_else(|| text("x-goog-api-key")).unwrap_or_default()
    }
}

/// The words of `text`, a piece each.
pub fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(ToOwned::to_owned).collect()
}

impl Provider {
    /// One that repeats what it was asked last.
    pub fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mine = Arc::clone(&state);
        let answer = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let mine = Arc::clone(&mine);
            async move { answer(&mine, &uri, &headers, &body).await }
        };
        // Questions are as long as conversations.
        let router = Router::new()
            .fallback(answer)
            .layer(axum::extract::DefaultBodyLimit::disable());
        Self {
            url: serve_on(listener, router),
            state,
        }
    }

    /// Where it speaks as `speech`.
    pub fn base(&self, speech: Speech) -> String {
        match speech {
            Speech::OpenAi | Speech::Anthropic => format!("{}/v1", self.url),
            Speech::Google => format!("{}/v1beta/", self.url),
        }
    }

    /// Answers the next question that nothing is planned for with `act`.
    pub fn next(&self, act: Act) {
        self.state.lock().unwrap().next.push_back(act);
    }

    /// Answers all other questions with `act`.
    pub fn always(&self, act: Act) {
        self.state.lock().unwrap().always = Some(act);
    }

    /// Does not know `key` from now on.
    pub fn reject(&self, key: &str) {
        let mut state = self.state.lock().unwrap();
        state.rejected.insert(key.to_owned());
    }

    /// Answers whoever comes with `key` with `act` from now on.
    pub fn to_key(&self, key: &str, act: Act) {
        let mut state = self.state.lock().unwrap();
        state.to_keys.insert(key.to_owned(), act);
    }

    /// Answers whoever says `words` with `act` from now on.
    pub fn to_words(&self, words: &str, act: Act) {
        let mut state = self.state.lock().unwrap();
        state.to_words.insert(words.to_owned(), act);
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// How many left while it paused or before it answered.
    pub fn left(&self) -> usize {
        self.state.lock().unwrap().left
    }
}

async fn answer(
    state: &Arc<Mutex<State>>,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let Some(speech) = Speech::of(uri.path()) else {
        return refusal(404, &[]);
    };
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let asked = Asked {
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: serde_json::from_slice(body).unwrap(),
    };
    let (act, is_rejected, special) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        let is_rejected = state.rejected.contains(&asked.key());
        let body = asked.body.to_string();
        let mut to_words = state.to_words.iter();
        let special = to_words.find_map(|(words, act)| body.contains(words).then_some(act));
        let special = special.or_else(|| state.to_keys.get(&asked.key())).cloned();
        let planned = (!is_rejected && special.is_none())
            .then(|| state.next.pop_front())
            .flatten();
        (
            planned.or_else(|| state.always.clone()),
            is_rejected,
            special,
        )
    };
    if let Some(act) = special {
        return perform(act, speech, state).await;
    }
    if is_rejected {
        return match speech {
            Speech::OpenAi | Speech::Anthropic => refusal(401, &[]),
            Speech::Google => {
                let reason = json!({ "reason": "API_KEY_INVALID" });
                let error = json!({ "error": { "code": 400, "details": [reason] } });
                (StatusCode::BAD_REQUEST, error.to_string()).into_response()
            }
        };
    }
    if let Some(wrong) = wrong(speech, &asked) {
        return (StatusCode::BAD_REQUEST, wrong).into_response();
    }
    let act = act.unwrap_or_else(|| Act::Say(words(&format!("You asked: {}", last(&asked.body)))));
    perform(act, speech, state).await
}

async fn perform(act: Act, speech: Speech, state: &Arc<Mutex<State>>) -> Response {
    let here = Here(Arc::clone(state));
    match act {
        Act::Say(words) => events(speech.whole(&words, "stop", true)),
        Act::SayOnly(words) => events(speech.whole(&words, "stop", false)),
        Act::Cut(words) => events(speech.whole(&words, "length", true)),
        Act::Call(calls) => events(speech.calls(&calls)),
        Act::Pause(words) => {
            let said = stream::iter(speech.words(&words).into_iter().map(Ok::<_, io::Error>));
            let silence = stream::once(async move {
                let _here = here;
                pending().await
            });
            streamed(Body::from_stream(said.chain(silence)))
        }
        Act::Drop(words) => hung_up(speech.words(&words)),
        Act::Think(thought) => {
            let delta = json!({ "reasoning_content": thought });
            let mut said = speech.beginning();
            said.push(data(
                &json!({ "choices": [{ "index": 0, "delta": delta }] }),
            ));
            hung_up(said)
        }
        Act::Fail(words) => {
            let mut said = speech.words(&words);
            said.push(speech.failure());
            events(said)
        }
        Act::Status(status, headers) => refusal(status, &headers),
        Act::Refuse(status, words) => {
            (StatusCode::from_u16(status).unwrap(), words).into_response()
        }
        Act::Chatter => {
            let word = speech.words(&words("word ")).pop().unwrap();
            let beginning = stream::iter(speech.beginning());
            let mut slowly = tokio::time::interval(WORD);
            let said = stream::poll_fn(move |context| {
                slowly.poll_tick(context).map(|_| Some(word.clone()))
            });
            let said = beginning.chain(said).map(Ok::<_, Infallible>);
            streamed(Body::from_stream(said))
        }
        Act::Crumbs(words) => {
            let said = speech.whole(&words, "stop", true).concat().into_bytes();
            let crumbs = said.into_iter().map(|byte| Ok::<_, Infallible>(vec![byte]));
            streamed(Body::from_stream(stream::iter(crumbs)))
        }
        Act::Hang => {
            let _here = here;
            pending().await
        }
        Act::Nothing => events(speech.whole(&[], "stop", true)),
        Act::Garbage => {
            let event = "event: content_block_delta\ndata: <html>no</html>\n\n";
            events(vec![event.to_owned()])
        }
        Act::Page => (
            [("content-type", "text/html")],
            "<p>Welcome to nginx</p>".to_owned(),
        )
            .into_response(),
        Act::Packed => {
            let mut response = events(speech.whole(&words("a"), "stop", true));
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert("content-encoding", gzip);
            response
        }
        Act::LongEvent => events(speech.words(&["x".repeat(LONG)])),
        Act::LongWords => {
            let piece = "y".repeat(1_024);
            events(speech.whole(&vec![piece; LONG / 1_024], "stop", true))
        }
        Act::LongFailure => (StatusCode::INTERNAL_SERVER_ERROR, "z".repeat(LONG)).into_response(),
        Act::Events(said) => {
            let said = stream::iter(said.into_iter().map(Ok::<_, io::Error>));
            let end = stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::other("hangs up"))
            });
            streamed(Body::from_stream(said.chain(end)))
        }
        Act::Ended(said) => events(said),
        Act::FarCall => {
            let function = json!({ "name": "clock", "arguments": "{}" });
            let call = json!({ "index": u32::MAX - 1, "id": "a", "function": function });
            let delta = json!({ "tool_calls": [call] });
            let chunk = json!({ "choices": [{ "index": 0, "delta": delta }] });
            events(vec![data(&chunk), "data: [DONE]\n\n".to_owned()])
        }
    }
}

/// Says this and hangs up.
fn hung_up(said: Vec<String>) -> Response {
    let said = stream::iter(said.into_iter().map(Ok::<_, io::Error>));
    // What was said is on its way before that.
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::other("hangs up"))
    });
    streamed(Body::from_stream(said.chain(end)))
}

/// Notes that somebody left, when it is dropped.
struct Here(Arc<Mutex<State>>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.lock().unwrap().left += 1;
    }
}

fn events(events: Vec<String>) -> Response {
    let events = events.into_iter().map(Ok::<_, Infallible>);
    streamed(Body::from_stream(stream::iter(events)))
}

fn streamed(body: Body) -> Response {
    ([("content-type", "text/event-stream; charset=utf-8")], body).into_response()
}

/// A refusal that quotes what it was asked with, as providers do.
fn refusal(status: u16, headers: &[(&'static str, String)]) -> Response {
    let mut response = format!("SAID-BY-PROVIDER {status}").into_response();
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        response.headers_mut().insert(*name, value);
    }
    response
}

/// An event of it.
pub fn data(event: &Value) -> String {
    format!("data: {event}\n\n")
}

fn named(event: &Value) -> String {
    let name = event["type"].as_str().unwrap();
    format!("event: {name}\ndata: {event}\n\n")
}

impl Speech {
    /// What such a provider says between the beginning and the end.
    fn words(self, words: &[String]) -> Vec<String> {
        let mut events = self.beginning();
        for word in words {
            events.push(match self {
                Self::OpenAi => data(&json!({
                    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [{ "index": 0, "delta": { "content": word }, "finish_reason": null }],
                    "usage": null,
                })),
                Self::Anthropic => named(&json!({
                    "type": "content_block_delta", "index": 0,
                    "delta": { "type": "text_delta", "text": word },
                })),
                Self::Google => crlf(&json!({
                    "candidates": [{
                        "content": { "parts": [{ "text": word }], "role": "model" }, "index": 0,
                    }],
                    "modelVersion": "m",
                })),
            });
        }
        events
    }

    fn beginning(self) -> Vec<String> {
        match self {
            Self::OpenAi => vec![data(&json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{
                    "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null,
                }],
                "usage": null,
            }))],
            Self::Anthropic => vec![
                named(&json!({
                    "type": "message_start",
                    "message": {
                        "id": "msg_1", "type": "message", "role": "assistant", "content": [],
                        "model": "m", "stop_reason": null, "usage": { "output_tokens": 1 },
                    },
                })),
                named(&json!({
                    "type": "content_block_start", "index": 0,
                    "content_block": { "type": "text", "text": "" },
                })),
                named(&json!({ "type": "ping" })),
            ],
            Self::Google => Vec::new(),
        }
    }

    /// A whole answer of `words`.
    fn whole(self, words: &[String], finish: &str, says_usage: bool) -> Vec<String> {
        let mut events = self.words(words);
        events.extend(self.end(finish, says_usage));
        events
    }

    fn end(self, finish: &str, says_usage: bool) -> Vec<String> {
        match self {
            Self::OpenAi => {
                let mut events = vec![data(&json!({
                    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [{ "index": 0, "delta": {}, "finish_reason": finish }],
                    "usage": null,
                }))];
                if says_usage {
                    events.push(data(&json!({
                        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                        "model": "m", "choices": [],
                        "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 },
                    })));
                }
                events.push("data: [DONE]\n\n".to_owned());
                events
            }
            Self::Anthropic => {
                let reason = match finish {
                    "length" => "max_tokens",
                    "tool_calls" => "tool_use",
                    _ => "end_turn",
                };
                let mut delta = json!({
                    "type": "message_delta",
                    "delta": { "stop_reason": reason, "stop_sequence": null },
                });
                if says_usage {
                    delta["usage"] = json!({ "input_tokens": 11, "output_tokens": 7 });
                }
                vec![
                    named(&json!({ "type": "content_block_stop", "index": 0 })),
                    named(&delta),
                    named(&json!({ "type": "message_stop" })),
                ]
            }
            Self::Google => {
                let reason = match finish {
                    "length" => "MAX_TOKENS",
                    _ => "STOP",
                };
                let mut last = json!({
                    "candidates": [{
                        "content": { "parts": [{ "text": "" }], "role": "model" },
                        "finishReason": reason, "index": 0,
                    }],
                    "modelVersion": "m",
                });
                if says_usage {
                    last["usageMetadata"] = json!({
                        "promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18,
                    });
                }
                vec![crlf(&last)]
            }
        }
    }

    /// An answer that calls.
    fn calls(self, calls: &[(String, String)]) -> Vec<String> {
        let mut events = self.beginning();
        for (n, (name, arguments)) in calls.iter().enumerate() {
            let id = format!("call_id_{n}");
            let (begin, end) = arguments.split_at(arguments.len() / 2);
            match self {
                Self::OpenAi => {
                    let first = json!({
                        "index": n, "id": id, "type": "function",
                        "function": { "name": name, "arguments": "" },
                    });
                    let piece = |text| json!({ "index": n, "function": { "arguments": text } });
                    for call in [first, piece(begin), piece(end)] {
                        let delta = json!({ "tool_calls": [call] });
                        let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
                        events.push(data(&json!({ "choices": [choice] })));
                    }
                }
                Self::Anthropic => {
                    events.push(named(&json!({ "type": "content_block_stop", "index": n })));
                    events.push(named(&json!({
                        "type": "content_block_start", "index": n + 1,
                        "content_block": { "type": "tool_use", "id": id, "name": name, "input": {} },
                    })));
                    for text in [begin, end] {
                        events.push(named(&json!({
                            "type": "content_block_delta", "index": n + 1,
                            "delta": { "type": "input_json_delta", "partial_json": text },
                        })));
                    }
                }
                Self::Google => {
                    let arguments: Value = serde_json::from_str(arguments).unwrap();
                    let call = json!({ "functionCall": { "name": name, "args": arguments } });
                    events.push(crlf(&json!({
                        "candidates": [{ "content": { "parts": [call], "role": "model" } }],
                    })));
                }
            }
        }
        events.extend(self.end("tool_calls", true));
        events
    }

    /// What it says when something goes wrong in the middle.
    fn failure(self) -> String {
        let words = "SAID-BY-PROVIDER overloaded";
        match self {
            Self::OpenAi => data(&json!({ "error": { "message": words, "type": "server_error" } })),
            Self::Anthropic => named(&json!({
                "type": "error", "error": { "type": "overloaded_error", "message": words },
            })),
            Self::Google => crlf(&json!({ "error": { "code": 503, "message": words } })),
        }
    }
}

fn crlf(event: &Value) -> String {
    format!("data: {event}\r\n\r\n")
}

/// What such a provider would refuse `asked` for.
fn wrong(speech: Speech, asked: &Asked) -> Option<String> {
    let body = &asked.body;
    let turns = match speech {
        Speech::OpenAi | Speech::Anthropic => &body["messages"],
        Speech::Google => &body["contents"],
    };
    let turns = turns.as_array()?;
    let first = turns.iter().find(|turn| turn["role"] != "system");
    let begins_well = first.is_some_and(|turn| turn["role"] == "user");
    let is_well = match speech {
        Speech::OpenAi => body["stream"] == true,
        Speech::Anthropic => {
            body["stream"] == true
                && body["max_tokens"].is_u64()
                && asked.headers.contains_key("anthropic-version")
        }
        Speech::Google => true,
    };
    (!begins_well || !is_well).then(|| format!("SAID-BY-PROVIDER bad request {body}"))
}

/// The last words of a person in `body`.
fn last(body: &Value) -> String {
    let turns = body.get("messages").or_else(|| body.get("contents"));
    let turns = turns.and_then(Value::as_array).unwrap();
    let from_person = |turn: &&Value| turn["role"] == "user";
    let turn = turns.iter().rev().find(from_person).unwrap();
    let text = turn["content"]
        .as_str()
        .or_else(|| turn["parts"][0]["text"].as_str());
    text.unwrap_or_default().to_owned()
}
