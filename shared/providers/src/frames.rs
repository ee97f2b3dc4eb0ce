//! What is said over a connection: ChatAPI's frames, flat JSON with a `type`.

use serde::Serialize;
use serde_json::value::RawValue;

use super::sockets::LARGEST_FRAME;
use crate::domain::{
    Error, Log, UserId,
    live::Presence,
    message::{Json, Message, Seq},
};

/// A message of a room, as it is now.
#[derive(Serialize)]
struct MessageFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    room_id: String,
    message_id: String,
    seq: u64,
    sender_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<String>,
    /// Present once its author has taken it back.
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
    /// Present if content and meta are left out, since the frame would be too large: they are read by REST.
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// `message`: one that was sent.
pub fn message(log: Log, message: &Message) -> Result<String, Error> {
    of_message("message", log, message)
}

/// `message.edited`: one that says something else now.
pub fn message_edited(log: Log, message: &Message) -> Result<String, Error> {
    of_message("message.edited", log, message)
}

/// `message.deleted`: one that was taken back.
pub fn message_deleted(log: Log, message: &Message) -> Result<String, Error> {
    of_message("message.deleted", log, message)
}

/// Never larger than a connection takes.
///
/// Fails only if the store holds what is not JSON.
fn of_message(kind: &'static str, log: Log, message: &Message) -> Result<String, Error> {
    let meta = message.meta.as_ref().map_or("{}", Json::as_str);
    let meta: &RawValue = serde_json::from_str(meta).map_err(Error::internal)?;
    let mut frame = MessageFrame {
        kind,
        room_id: log.to_string(),
        message_id: message.id.to_string(),
        seq: message.seq.get(),
        sender_id: message.author.as_str(),
        content: Some(&message.content),
        meta: Some(meta),
        created_at: message.created_at.to_string(),
        edited_at: message.edited_at.map(|at| at.to_string()),
        deleted_at: message.deleted_at.map(|at| at.to_string()),
        deleted: message.deleted_at.is_some(),
        truncated: false,
    };
    let text = json(&frame)?;
    if text.len() <= LARGEST_FRAME {
        return Ok(text);
    }
    frame.content = None;
    frame.meta = None;
    frame.truncated = true;
    json(&frame)
}

/// `messages.skipped`: what was said in a room up to `after` is not sent, since the user was not in it then.
pub fn skipped(log: Log, after: Seq) -> Result<String, Error> {
    json(&serde_json::json!({
        "type": "messages.skipped",
        "room_id": log.to_string(),
        "after_seq": after.get(),
    }))
}

/// `ack.received`: how far `user` has received a room.
pub fn ack_received(log: Log, seq: Seq, user: &UserId) -> Result<String, Error> {
    json(&serde_json::json!({
        "type": "ack.received",
        "room_id": log.to_string(),
        "seq": seq.get(),
        "user_id": user.as_str(),
    }))
}

/// Whether somebody writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typing {
    /// They do.
    Start,
    /// They do no longer.
    Stop,
}

/// `typing`: whether `user` is writing in a room.
pub fn typing(log: Log, user: &UserId, typing: Typing) -> Result<String, Error> {
    json(&serde_json::json!({
        "type": "typing",
        "room_id": log.to_string(),
        "user_id": user.as_str(),
        "action": match typing {
            Typing::Start => "start",
            Typing::Stop => "stop",
        },
    }))
}

/// `presence.update`: whether `user` is there.
pub fn presence_update(user: &UserId, presence: Presence) -> Result<String, Error> {
    json(&serde_json::json!({
        "type": "presence.update",
        "user_id": user.as_str(),
        "status": presence.as_str(),
    }))
}

fn json(frame: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(frame).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MessageId, Timestamp};

    fn said(content: String) -> Message {
        let seq = Seq::new(7);
        Message {
            id: MessageId::new(seq, 1),
            seq,
            author: UserId::stored("alice".to_owned()),
            role: None,
            in_reply_to: None,
            answer: None,
            content,
            meta: Some(Json::stored(r#"{"z":1.10}"#.to_owned())),
            created_at: Timestamp::from_micros(0),
            edited_at: None,
            deleted_at: None,
        }
    }

    fn room() -> Log {
        format!("room_{:032x}", 5).parse().unwrap()
    }

    #[test]
    fn a_message_is_shown_whole_with_its_meta_byte_for_byte() {
        let text = message(room(), &said("hi".to_owned())).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"type":"message","room_id":"room_00000000000000000000000000000005","#,
                r#""message_id":"msg_00000000000780008000000000000001","seq":7,"sender_id":"alice","#,
                r#""content":"hi","meta":{"z":1.10},"created_at":"1970-01-01T00:00:00.000000Z"}"#
            )
        );
    }

    #[test]
    fn a_message_that_would_be_too_large_is_sent_without_content_and_meta() {
        // A control character is written as six.
        let text = message(room(), &said("\u{1}".repeat(32 * 1024))).unwrap();
        assert!(text.len() < 1_024);
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["truncated"], true);
        assert_eq!(frame["seq"], 7);
        assert!(frame["content"].is_null() && frame["meta"].is_null());
    }
}
