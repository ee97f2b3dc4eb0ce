//! What goes over the wire.

use std::collections::BTreeMap;

use parlance::domain::{
    Error, RoomId,
    message::{Content, Json, Sent, Seq},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A token for one connection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenOut {
    #[schema(example = "wst_9f2c…")]
    pub(crate) token: String,
    /// Seconds.
    #[schema(example = 60)]
    pub(crate) expires_in: i64,
}

/// What every frame has.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) request_id: Option<String>,
    /// What it is about; else that is beside `type`.
    #[serde(default)]
    pub(crate) data: Option<Box<RawValue>>,
}

/// `send_message`
#[derive(Debug, Deserialize)]
pub(crate) struct MessageIn {
    room_id: String,
    content: String,
    meta: Option<Box<RawValue>>,
}

impl MessageIn {
    pub(crate) fn parse(self) -> Result<(RoomId, Content, Option<Json>), Error> {
        let content = Content::parse(self.content)?;
        let meta = self
            .meta
            .map(|meta| Json::object("meta", meta.get(), Json::MAX_META))
            .transpose()?;
        Ok((room(&self.room_id)?, content, meta))
    }
}

/// `ack`
#[derive(Debug, Deserialize)]
pub(crate) struct AckIn {
    room_id: String,
    seq: i64,
}

impl AckIn {
    pub(crate) fn parse(self) -> Result<(RoomId, Seq), Error> {
        let seq = u64::try_from(self.seq)
            .map_err(|_| Error::invalid("seq", "Invalid seq. It is a whole number from 0"))?;
        Ok((room(&self.room_id)?, Seq::new(seq)))
    }
}

/// `typing.start`, `typing.stop`, `subscribe`
#[derive(Debug, Deserialize)]
pub(crate) struct RoomIn {
    room_id: String,
}

impl RoomIn {
    pub(crate) fn parse(self) -> Result<RoomId, Error> {
        room(&self.room_id)
    }
}

/// `hello`
#[derive(Debug, Deserialize)]
pub(crate) struct HelloIn {
    pub(crate) after_seq: BTreeMap<String, u64>,
}

fn room(id: &str) -> Result<RoomId, Error> {
    id.parse().map_err(|_| Error::NotFound("Room"))
}

/// What a client is told in answer to a frame.
#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(crate) enum Out {
    #[serde(rename = "message.sent")]
    Sent {
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
        message_id: String,
        seq: u64,
        created_at: String,
    },
    #[serde(rename = "ack.received")]
    Acked {
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
        room_id: String,
        seq: u64,
        user_id: String,
    },
    #[serde(rename = "subscribed")]
    Subscribed {
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
        room_id: String,
        /// Absent if the room is too large to be told.
        #[serde(skip_serializing_if = "Option::is_none")]
        online: Option<Vec<String>>,
    },
    #[serde(rename = "hello.received")]
    Greeted {
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
        rooms: usize,
        refused: Vec<String>,
    },
    #[serde(rename = "pong")]
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    },
    #[serde(rename = "error")]
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
        code: &'static str,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<String>,
        /// Seconds until one more frame will pass.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
}

impl Out {
    pub(crate) fn sent(request_id: Option<String>, sent: &Sent) -> Self {
        Self::Sent {
            request_id,
            message_id: sent.id.to_string(),
            seq: sent.seq.get(),
            created_at: sent.created_at.to_string(),
        }
    }
}
