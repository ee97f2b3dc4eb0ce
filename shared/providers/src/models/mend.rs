//! The events of an answer as `genai` can read them: what servers say otherwise, who speak almost as `OpenAI` does, is put
//! into its words before.
//!
//! - Pieces of calls: some have an empty id or name, none at all, a place that is not theirs, or no place, and some have
//!   arguments that are an object. Here each gets the number of its call, which its id begins with: see [`place_of`].
//! - An answer that said why it ended has ended, with `[DONE]` or without.
//! - A character in two halves, each an escape in an event of its own, is put together. Half a character is none in JSON.
//!
//! And it is seen here what `genai` does not tell: that an answer is withheld.

use std::collections::HashMap;

use hyper::body::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use crate::domain::model::Provider;

/// What says that an answer of `OpenAI` is whole.
const DONE: &str = "[DONE]";
/// What stands for a character that is none.
const NO_CHARACTER: &[u8] = b"\\ufffd";
/// How long an escape such as `\ud83d` is, in bytes.
const ESCAPE: usize = 6;

/// How many calls are told apart: far more than any that are heard.
const MOST_CALLS: usize = 1_024;

/// The number and the id of a call, of what [`Mend`] made its id.
pub(super) fn place_of(id: &str) -> Option<(usize, &str)> {
    let (place, id) = id.split_once(' ')?;
    let place = place.parse().ok().filter(|place| *place <= MOST_CALLS)?;
    Some((place, id))
}

/// Mends the events of one answer, in their order.
#[derive(Debug)]
pub(super) struct Mend {
    provider: Provider,
    calls: Places,
    /// The half of a character that the last event ended with.
    half: Option<[u8; ESCAPE]>,
    /// Whether the answer said why it ended.
    has_finished: bool,
    /// Whether it said that nothing follows.
    is_done: bool,
    is_withheld: bool,
}

/// What is looked at of an event of `OpenAI`.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
}

#[derive(Deserialize)]
struct Choice {
    /// Whatever it is: only a text says something, and calls are mended beside anything else.
    finish_reason: Option<Value>,
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    tool_calls: Option<IgnoredAny>,
    /// Likewise.
    refusal: Option<Value>,
}

impl Mend {
    pub(super) fn new(provider: Provider) -> Self {
        Self {
            provider,
            calls: Places::default(),
            half: None,
            has_finished: false,
            is_done: false,
            is_withheld: false,
        }
    }

    /// Whether the answer said that it is withheld, or a part of it.
    pub(super) const fn is_withheld(&self) -> bool {
        self.is_withheld
    }

    /// Whether the answer said why it ended: what comes of its connection does not matter any more.
    pub(super) const fn has_finished(&self) -> bool {
        self.has_finished
    }

    /// `events`, which are whole, mended.
    pub(super) fn mend(&mut self, events: Bytes) -> Bytes {
        let mut mended: Option<Vec<u8>> = None;
        let mut at = 0;
        for line in events.split_inclusive(|byte| *byte == b'\n') {
            if let Some(data) = line.strip_prefix(b"data:") {
                let data = data.trim_ascii();
                if let Some(instead) = self.data(data) {
                    let mended = mended.get_or_insert_with(|| events[..at].to_vec());
                    mended.extend_from_slice(b"data: ");
                    mended.extend_from_slice(&instead);
                    let end = line.trim_ascii_end().len();
                    mended.extend_from_slice(&line[end..]);
                    at += line.len();
                    continue;
                }
            }
            if let Some(mended) = &mut mended {
                mended.extend_from_slice(line);
            }
            at += line.len();
        }
        mended.map_or(events, Bytes::from)
    }

    /// What is to follow the last event, if that is anything.
    pub(super) fn end(&mut self) -> Option<String> {
        let is_due = self.has_finished && !self.is_done;
        self.is_done = true;
        is_due.then(|| format!("\n\ndata: {DONE}\n\n"))
    }

    /// What is said instead of `data`, if anything.
    fn data(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let joined = self.joined(data);
        let now = joined.as_deref().unwrap_or(data);
        let called = match self.provider {
            Provider::OpenAi => self.of_openai(now),
            Provider::Google => {
                self.is_withheld |= is_blocked(now);
                None
            }
            Provider::Anthropic | Provider::Echo => None,
        };
        called.or(joined)
    }

    fn of_openai(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        if data == DONE.as_bytes() {
            self.is_done = true;
            return None;
        }
        // What cannot be read is not ours to judge.
        let chunk: Chunk = serde_json::from_slice(data).ok()?;
        let choice = chunk.choices?.into_iter().next()?;
        let is_said = |said: Option<Value>| {
            let text = said.as_ref().and_then(Value::as_str);
            text.is_some_and(|text| !text.is_empty())
        };
        self.has_finished |= is_said(choice.finish_reason);
        let delta = choice.delta?;
        self.is_withheld |= is_said(delta.refusal);
        delta.tool_calls?;
        let mut chunk: Value = serde_json::from_slice(data).ok()?;
        let calls = chunk.pointer_mut("/choices/0/delta/tool_calls")?;
        for piece in calls.as_array_mut()? {
            self.calls.place(piece);
        }
        serde_json::to_vec(&chunk).ok()
    }

    /// `data` with whole characters alone, if it has others.
    fn joined(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let begins_half = |at: &[u8]| at[0] == b'\\' && at[1] == b'u' && at[2] | 0x20 == b'd';
        if !data.windows(3).any(begins_half) {
            return None;
        }
        let (mut joined, mut rest) = (Vec::with_capacity(data.len() + ESCAPE), data);
        while let Some(first) = rest.first() {
            let taken = match (first, unit(rest)) {
                (b'\\', Some(0xd800..=0xdbff)) => {
                    let (high, after) = rest.split_at(ESCAPE);
                    if let Some(0xdc00..=0xdfff) = unit(after) {
                        joined.extend_from_slice(&rest[..2 * ESCAPE]);
                        2 * ESCAPE
                    } else {
                        // The end of its text: the rest may be the beginning of the next one.
                        if after.first() == Some(&b'"') {
                            self.half = high.try_into().ok();
                        } else {
                            joined.extend_from_slice(NO_CHARACTER);
                        }
                        ESCAPE
                    }
                }
                (b'\\', Some(0xdc00..=0xdfff)) => {
                    match self.half.take() {
                        Some(half) => {
                            joined.extend_from_slice(&half);
                            joined.extend_from_slice(&rest[..ESCAPE]);
                        }
                        None => joined.extend_from_slice(NO_CHARACTER),
                    }
                    ESCAPE
                }
                (b'\\', _) => {
                    let taken = rest.len().min(2);
                    joined.extend_from_slice(&rest[..taken]);
                    taken
                }
                (byte, _) => {
                    joined.push(*byte);
                    1
                }
            };
            rest = &rest[taken..];
        }
        Some(joined)
    }
}

/// The code unit of the escape that `text` begins with, if it begins with one.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether Google says in `data` that it does not answer what it was asked.
fn is_blocked(data: &[u8]) -> bool {
    const REASON: &[u8] = b"blockReason";
    data.windows(REASON.len()).any(|at| at == REASON)
        && serde_json::from_slice(data)
            .is_ok_and(|event: Value| event["promptFeedback"]["blockReason"].is_string())
}

/// Whether `data`, which is said without an end, can be read.
pub(super) fn is_readable(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n');
    lines.all(|line| {
        line.strip_prefix(b"data:").is_none_or(|data| {
            let data = data.trim_ascii();
            data == DONE.as_bytes() || serde_json::from_slice::<IgnoredAny>(data).is_ok()
        })
    })
}

/// A call that has begun.
#[derive(Debug, Default)]
struct Begun {
    /// Its place in the provider's list.
    index: Option<u64>,
    has_name: bool,
    arguments: Brackets,
}

/// How far a text is that is to be a JSON object, without the text: it comes in any number of pieces.
#[derive(Debug, Default)]
struct Brackets {
    has_begun: bool,
    /// How many are open.
    open: usize,
    is_text: bool,
    is_escaped: bool,
}

impl Brackets {
    fn add(&mut self, piece: &str) {
        for byte in piece.bytes() {
            match (self.is_text, byte) {
                (true, _) if self.is_escaped => self.is_escaped = false,
                (true, b'\\') => self.is_escaped = true,
                (_, b'"') => self.is_text = !self.is_text,
                (false, b'{' | b'[') => {
                    self.has_begun = true;
                    self.open += 1;
                }
                (false, b'}' | b']') => self.open = self.open.saturating_sub(1),
                (_, _) => {}
            }
        }
    }

    const fn is_whole(&self) -> bool {
        self.has_begun && self.open == 0 && !self.is_text
    }
}

/// The calls of an answer so far, by all that pieces may know them by.
#[derive(Debug, Default)]
struct Places {
    begun: Vec<Begun>,
    by_id: HashMap<String, usize>,
    by_index: HashMap<u64, usize>,
}

impl Places {
    /// Puts the number of its call before the id of `piece`, and its arguments into a text.
    fn place(&mut self, piece: &mut Value) {
        let Some(piece) = piece.as_object_mut() else {
            return;
        };
        let said = |value: Option<&Value>| {
            let text = value.and_then(Value::as_str).unwrap_or_default();
            text.to_owned()
        };
        let id = said(piece.get("id"));
        let index = piece.get("index").and_then(Value::as_u64);
        let function = piece.entry("function").or_insert(Value::Null);
        if !function.is_object() {
            *function = Value::Object(Map::new());
        }
        let is_named = !said(function.get("name")).is_empty();
        if let Some(arguments) = function.get_mut("arguments")
            && arguments.is_object()
        {
            *arguments = Value::String(arguments.to_string());
        }
        let arguments = said(function.get("arguments"));
        let place = self.of(&id, index, is_named);
        if let Some(begun) = self.begun.get_mut(place) {
            begun.has_name |= is_named;
            begun.arguments.add(&arguments);
        }
        piece.insert("id".to_owned(), format!("{place} {id}").into());
        piece.insert("index".to_owned(), place.into());
    }

    /// The number of the call of a piece with these: a known one's, or the next.
    fn of(&mut self, id: &str, index: Option<u64>, is_named: bool) -> usize {
        let by_index = index.and_then(|index| self.by_index.get(&index).copied());
        let known = if let Some(place) = self.by_id.get(id) {
            // Who calls every call the same tells them apart by their places.
            let is_another = is_named && by_index.is_none() && index != self.begun[*place].index;
            (!is_another).then_some(*place)
        } else if !id.is_empty() && is_named {
            // Who puts every call at the same place tells them apart by their ids.
            None
        } else if index.is_none() && !is_named {
            self.begun.len().checked_sub(1)
        } else {
            // Who has neither ids nor places tells whole calls apart by their names.
            by_index.filter(|place| {
                let begun = &self.begun[*place];
                !(is_named && begun.has_name && begun.arguments.is_whole())
            })
        };
        known.unwrap_or_else(|| {
            let place = self.begun.len();
            if place >= MOST_CALLS {
                return place;
            }
            self.begun.push(Begun {
                index,
                ..Begun::default()
            });
            if !id.is_empty() {
                self.by_id.insert(id.to_owned(), place);
            }
            if let Some(index) = index {
                self.by_index.insert(index, place);
            }
            place
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The numbers, ids and arguments that pieces of calls get.
    fn placed(pieces: &[Value]) -> Vec<String> {
        let mut mend = Mend::new(Provider::OpenAi);
        let placed = pieces.iter().map(|piece| {
            let event = json!({ "choices": [{ "delta": { "tool_calls": [piece] } }] });
            let mended = mend.mend(format!("data: {event}\n\n").into());
            let event = mended.strip_prefix(b"data: ").unwrap();
            let event: Value = serde_json::from_slice(event).unwrap();
            let piece = &event["choices"][0]["delta"]["tool_calls"][0];
            assert!(piece["index"].is_u64());
            let arguments = piece["function"]["arguments"].as_str().unwrap_or_default();
            format!("{}|{arguments}", piece["id"].as_str().unwrap())
        });
        placed.collect()
    }

    fn piece(index: Option<u64>, id: Option<&str>, name: Option<&str>) -> Value {
        let mut piece = json!({ "function": { "arguments": "x" } });
        if let Some(index) = index {
            piece["index"] = index.into();
        }
        if let Some(id) = id {
            piece["id"] = id.into();
        }
        if let Some(name) = name {
            piece["function"]["name"] = name.into();
        }
        piece
    }

    #[test]
    fn pieces_find_their_call_whatever_they_know_it_by() {
        // As OpenAI says it.
        let usual = [
            piece(Some(0), Some("a"), Some("one")),
            piece(Some(1), Some("b"), Some("two")),
            piece(Some(0), None, None),
            piece(Some(1), None, None),
        ];
        assert_eq!(placed(&usual), ["0 a|x", "1 b|x", "0 |x", "1 |x"]);
        // Empty ids and names; ids that are others each time; a list that begins with one.
        let empty = [
            piece(Some(1), Some("a"), Some("one")),
            piece(Some(1), Some(""), Some("")),
            piece(Some(1), Some("other"), None),
            piece(Some(1), Some("a"), Some("one")),
        ];
        assert_eq!(placed(&empty), ["0 a|x", "0 |x", "0 other|x", "0 a|x"]);
        // No places, or the same for all.
        for index in [None, Some(0)] {
            let none = [
                piece(index, Some("a"), Some("one")),
                piece(index, None, None),
                piece(index, Some("b"), Some("two")),
                piece(index, None, None),
            ];
            assert_eq!(placed(&none), ["0 a|x", "0 |x", "1 b|x", "1 |x"]);
        }
        // No ids, or the same for all.
        for id in [None, Some("a")] {
            let none = [
                piece(Some(0), id, Some("one")),
                piece(Some(1), id, Some("two")),
            ];
            let id = id.unwrap_or_default();
            assert_eq!(placed(&none), [format!("0 {id}|x"), format!("1 {id}|x")]);
        }
        // One that never began.
        assert_eq!(placed(&[piece(None, None, None)]), ["0 |x"]);
    }

    #[test]
    fn whole_calls_at_one_place_without_ids_are_told_apart_by_their_names() {
        let call = |id: Option<&str>, name: &str, arguments: &str| {
            let function = json!({ "name": name, "arguments": arguments });
            json!({ "index": 0, "id": id, "function": function })
        };
        for id in [None, Some("")] {
            let whole = [
                call(id, "one", r#"{"x":"}\""}"#),
                call(id, "two", "{}"),
                call(id, "two", "{}"),
            ];
            let apart = [r#"0 |{"x":"}\""}"#, "1 |{}", "2 |{}"];
            assert_eq!(placed(&whole), apart);
            // Who says the name each time, and once after the arguments.
            let pieces = [
                call(id, "one", ""),
                call(id, "one", r#"{"x":"}\"#),
                call(id, "one", r#"" }"#),
                call(id, "", "\n"),
            ];
            let one = ["0 |", r#"0 |{"x":"}\"#, r#"0 |" }"#, "0 |\n"];
            assert_eq!(placed(&pieces), one);
            // One whose name comes last.
            let nameless = [call(id, "", "{}"), call(id, "one", "")];
            assert_eq!(placed(&nameless), ["0 |{}", "0 |"]);
        }
    }

    #[test]
    fn an_odd_field_beside_a_call_does_not_leave_it_unmended() {
        for (finish, refusal) in [(json!(1), json!(null)), (json!({}), json!(["no"]))] {
            let delta = json!({ "tool_calls": [{ "id": "a" }], "refusal": refusal });
            let choice = json!({ "finish_reason": finish, "delta": delta });
            let event = format!("data: {}\n\n", json!({ "choices": [choice] }));
            let mut mend = Mend::new(Provider::OpenAi);
            let mended = String::from_utf8(mend.mend(event.into()).to_vec()).unwrap();
            assert!(mended.contains(r#""id":"0 a""#), "{mended}");
            assert!(!mend.has_finished() && !mend.is_withheld());
        }
    }

    #[test]
    fn a_number_that_no_call_gets_is_none() {
        assert_eq!(place_of("0 a b"), Some((0, "a b")));
        assert_eq!(place_of(&format!("{MOST_CALLS} ")), Some((MOST_CALLS, "")));
        for id in ["1025 x", "18446744073709551615 x", "-1 x", "x"] {
            assert_eq!(place_of(id), None, "{id}");
        }
    }

    #[test]
    fn what_has_no_end_can_be_read_or_not() {
        for whole in ["data: {\"a\":1}\r\n", "data: [DONE]", ": ping\n", "da"] {
            assert!(is_readable(whole.as_bytes()), "{whole}");
        }
        for torn in ["data: {\"a\":", "data: [DON", "event: x\ndata:"] {
            assert!(!is_readable(torn.as_bytes()), "{torn}");
        }
    }

    #[test]
    fn calls_beyond_all_bounds_are_one() {
        let mut places = Places::default();
        for n in 0..3 * MOST_CALLS {
            let place = places.of(&format!("id {n}"), None, true);
            assert_eq!(place, n.min(MOST_CALLS));
        }
        assert_eq!(places.by_id.len(), MOST_CALLS);
    }

    #[test]
    fn arguments_that_are_an_object_become_a_text() {
        let object = json!({ "id": "a", "function": { "name": "one", "arguments": { "x": 1 } } });
        assert_eq!(placed(&[object]), ["0 a|{\"x\":1}"]);
        assert_eq!(placed(&[json!({ "index": 0, "id": "a" })]), ["0 a|"]);
    }

    /// What becomes of `events`, one after the other.
    fn mended(provider: Provider, events: &[&str]) -> Vec<String> {
        let mut mend = Mend::new(provider);
        let mended = events.iter().map(|event| {
            let event = Bytes::copy_from_slice(event.as_bytes());
            String::from_utf8(mend.mend(event).to_vec()).unwrap()
        });
        mended.collect()
    }

    #[test]
    fn what_is_as_it_should_be_stays_as_it_is() {
        let events = [
            "event: x\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n: ping\r\n\r\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\ud83d\\ude00 \\\\ud83d\"}}]}\n\n",
            "data: <html>\n\ndata: [DONE]\n\n",
        ];
        for provider in Provider::ALL {
            assert_eq!(mended(provider, &events), events);
        }
    }

    #[test]
    fn halves_of_a_character_are_put_together_or_are_none() {
        let said = |text: &str| format!("event: a\r\ndata: {{\"text\":\"{text}\"}}\r\n\r\n");
        let joined = |pieces: [&str; 2], whole: [&str; 2]| {
            let [one, two] = pieces.map(said);
            for provider in Provider::ALL {
                assert_eq!(mended(provider, &[&one, &two]), whole.map(said));
            }
        };
        joined(["a\\ud83d", "\\uDE00b"], ["a", "\\ud83d\\uDE00b"]);
        joined(["a\\ud83d ", "\\ude00b"], ["a\\ufffd ", "\\ufffdb"]);
        joined(["a\\ud83d", "b"], ["a", "b"]);
        joined(["\\\\\\ud83d\\n", "x"], ["\\\\\\ufffd\\n", "x"]);
    }

    #[test]
    fn an_answer_that_said_why_it_ended_is_whole() {
        let end = |events: &str| {
            let mut mend = Mend::new(Provider::OpenAi);
            mend.mend(Bytes::copy_from_slice(events.as_bytes()));
            mend.end()
        };
        let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        let open = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":null}]}\n\n";
        assert_eq!(end(stop).unwrap(), "\n\ndata: [DONE]\n\n");
        assert_eq!(end(&format!("{stop}data: [DONE]\n\n")), None);
        assert_eq!(end(open), None);
    }

    #[test]
    fn what_is_withheld_is_seen() {
        let withheld = |provider, event: &str| {
            let mut mend = Mend::new(provider);
            mend.mend(format!("data: {event}\n\n").into());
            mend.is_withheld()
        };
        let refusal = r#"{"choices":[{"delta":{"content":null,"refusal":"I will not"}}]}"#;
        let none = r#"{"choices":[{"delta":{"content":"\"refusal\":\"a\"","refusal":null}}]}"#;
        assert!(withheld(Provider::OpenAi, refusal));
        assert!(!withheld(Provider::OpenAi, none));
        let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#;
        let quoted = r#"{"candidates":[{"content":{"parts":[{"text":"blockReason"}]}}]}"#;
        assert!(withheld(Provider::Google, blocked));
        assert!(!withheld(Provider::Google, quoted));
    }
}
