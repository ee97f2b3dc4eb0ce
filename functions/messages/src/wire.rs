//! What goes over the wire.

use parlance::domain::{
    Error,
    message::{Content, Json, Message, Sent},
};
use parlance::http::not_null;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A message to send.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MessageIn {
    /// 1 byte to 32 KB of UTF-8, without U+0000.
    #[schema(example = "Hello, world!", max_length = 32768)]
    content: String,
    /// An object of at most 16 KB, kept byte for byte.
    #[schema(value_type = Option<Object>, example = json!({"type": "text", "mentions": ["user2"]}))]
    meta: Option<Box<RawValue>>,
}

impl MessageIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<(Content, Option<Json>), Error> {
        let content = Content::parse(self.content)?;
        let meta = self
            .meta
            .map(|meta| Json::object("meta", meta.get(), Json::MAX_META))
            .transpose()?;
        Ok((content, meta))
    }
}

/// What a message is to say instead.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditIn {
    /// 1 byte to 32 KB of UTF-8, without U+0000.
    #[schema(example = "Hello, world!", max_length = 32768)]
    content: String,
    /// An object of at most 16 KB, kept byte for byte. Left out: what was attached stays.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = Option<Object>, example = json!({"type": "text", "mentions": ["user2"]}))]
    meta: Option<Box<RawValue>>,
}

impl EditIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<(Content, Option<Json>), Error> {
        let Self { content, meta } = self;
        MessageIn { content, meta }.parse()
    }
}

/// Where a message was stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageSent {
    #[schema(example = "msg_00000000002b8d1f9c3e5a7b9d1f3c5e")]
    message_id: String,
    #[schema(example = 43)]
    seq: u64,
    #[schema(example = "2025-12-13T12:10:00.000000Z", format = "date-time")]
    created_at: String,
}

impl From<&Sent> for MessageSent {
    fn from(sent: &Sent) -> Self {
        Self {
            message_id: sent.id.to_string(),
            seq: sent.seq.get(),
            created_at: sent.created_at.to_string(),
        }
    }
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageOut {
    #[schema(example = "msg_00000000002b8d1f9c3e5a7b9d1f3c5e")]
    message_id: String,
    #[schema(example = "user1")]
    sender_id: String,
    #[schema(example = 41)]
    seq: u64,
    /// Empty once deleted.
    #[schema(example = "Hello, world!")]
    content: String,
    /// As it was sent; empty if nothing was attached, or once deleted.
    #[schema(value_type = Object, example = json!({"type": "text", "mentions": ["user2"]}))]
    meta: Box<RawValue>,
    #[schema(example = "2025-12-13T12:10:00.000000Z", format = "date-time")]
    created_at: String,
    /// Present once its author has changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    edited_at: Option<String>,
    /// Present once its author has taken it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    deleted_at: Option<String>,
}

impl TryFrom<Message> for MessageOut {
    type Error = Error;

    /// Fails only if the store holds what is not JSON.
    fn try_from(message: Message) -> Result<Self, Error> {
        let meta = message
            .meta
            .map_or_else(|| "{}".to_owned(), Json::into_string);
        Ok(Self {
            message_id: message.id.to_string(),
            sender_id: message.author.to_string(),
            seq: message.seq.get(),
            content: message.content,
            meta: RawValue::from_string(meta).map_err(Error::internal)?,
            created_at: message.created_at.to_string(),
            edited_at: message.edited_at.map(|at| at.to_string()),
            deleted_at: message.deleted_at.map(|at| at.to_string()),
        })
    }
}
