//! What goes over the wire.

use std::ops::ControlFlow;

use axum::http::{HeaderMap, header};
use mime::{Mime, MimeIter};
use parlance::{
    app::chats::NewChat,
    domain::{
        AgentId, ChatId, Cursor, Error, KeyHolder, Page, TenantId, UserId,
        agent::NO_AGENT,
        api_key::Kind,
        chat::{Chat, Listed},
        message::{Content, Json, Message, Range, Role, Seq, Stretch},
    },
    http::{Params, reply},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A chat to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatIn {
    #[schema(example = "chat")]
    agent_id: String,
    /// Whose it is: 1 to 128 visible ASCII characters, the team's own choice.
    #[schema(example = "user1")]
    user_id: Option<String>,
    /// An object of at most 16 KB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
}

impl ChatIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<NewChat, Error> {
        let user = self.user_id.as_deref();
        let metadata = self.metadata.as_deref().map(RawValue::get);
        Ok(NewChat {
            user: user.map(|user| UserId::parse("userId", user)).transpose()?,
            metadata: metadata
                .map(|json| Json::object("metadata", json, Chat::MAX_METADATA))
                .transpose()?,
            agent: self.agent_id.parse::<AgentId>().map_err(|_| NO_AGENT)?,
        })
    }
}

/// A chat that was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatMade {
    #[schema(example = "chat_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    id: String,
    #[schema(example = "chat")]
    agent_id: String,
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    team_id: String,
    #[schema(example = "2025-12-13T12:10:00.000000Z", format = "date-time")]
    created_at: String,
}

impl ChatMade {
    pub(crate) fn new(chat: &Chat, team: TenantId) -> Self {
        Self {
            id: chat.id.to_string(),
            agent_id: chat.agent.to_string(),
            team_id: team.to_string(),
            created_at: chat.created_at.to_string(),
        }
    }
}

/// Chats, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chats {
    chats: Vec<ChatOut>,
    /// Present while more follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A chat of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatOut {
    #[schema(example = "chat_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    id: String,
    #[schema(example = "chat")]
    agent_id: String,
    /// Left out if it is nobody's in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "user1")]
    user_id: Option<String>,
    #[schema(example = "2025-12-13T12:10:00.000000Z", format = "date-time")]
    created_at: String,
}

impl Chats {
    pub(crate) fn new(page: &Page<Listed>) -> Self {
        Self {
            chats: page.items.iter().map(ChatOut::from).collect(),
            next_cursor: page.next.as_ref().map(reply::shown),
        }
    }
}

impl From<&Listed> for ChatOut {
    fn from(chat: &Listed) -> Self {
        Self {
            id: chat.id.to_string(),
            agent_id: chat.agent.to_string(),
            user_id: chat.user.as_ref().map(ToString::to_string),
            created_at: chat.created_at.to_string(),
        }
    }
}

/// A chat and what was said in it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatLog {
    #[schema(example = "chat_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    id: String,
    #[schema(example = "chat")]
    agent_id: String,
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    team_id: String,
    /// With `include=meta`: whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "user1")]
    user_id: Option<String>,
    /// With `include=meta`: what was attached when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
    #[serde(flatten)]
    log: Messages,
    #[schema(example = "2025-12-13T12:10:00.000000Z", format = "date-time")]
    created_at: String,
}

impl ChatLog {
    /// Fails only if the store holds what is not JSON.
    pub(crate) fn new(
        chat: &Chat,
        metadata: Option<Json>,
        team: TenantId,
        log: Stretch,
        next: Option<&Cursor>,
        shown: Shown,
    ) -> Result<Self, Error> {
        let made = ChatMade::new(chat, team);
        let user = match shown {
            Shown::Content => None,
            Shown::Meta => chat.user.as_ref(),
        };
        let metadata = metadata.map(|json| RawValue::from_string(json.into_string()));
        Ok(Self {
            id: made.id,
            agent_id: made.agent_id,
            team_id: made.team_id,
            user_id: user.map(ToString::to_string),
            metadata: metadata.transpose().map_err(Error::internal)?,
            log: Messages::new(log, next, shown)?,
            created_at: made.created_at,
        })
    }
}

/// In which order messages are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As they were said.
    Ascending,
    /// The newest first.
    Descending,
}

impl Order {
    /// Reads parameter `order`.
    pub(crate) fn read(params: &Params) -> Result<Self, Error> {
        match params.get("order")? {
            None | Some("asc") => Ok(Self::Ascending),
            Some("desc") => Ok(Self::Descending),
            Some(_) => Err(Error::invalid(
                "order",
                "Invalid order. Must be one of: asc, desc",
            )),
        }
    }

    /// The messages that follow the place `at` in this order, or the first of all.
    pub(crate) fn range(self, at: Option<u64>, limit: usize) -> Range {
        let at = at.map(Seq::new);
        match self {
            Self::Ascending => Range {
                after: Some(at.unwrap_or(Seq::ZERO)),
                before: None,
                limit,
            },
            Self::Descending => Range {
                after: None,
                before: Some(at.unwrap_or(Seq::MAX)),
                limit,
            },
        }
    }

    /// `log`, which is ascending, in this order.
    pub(crate) fn of(self, mut log: Stretch) -> Stretch {
        match self {
            Self::Ascending => {}
            Self::Descending => {
                log.messages.reverse();
                // Whoever has the first message has all.
                log.more &= log.messages.last().is_none_or(|last| last.seq > Seq::FIRST);
            }
        }
        log
    }
}

/// Messages, in the order that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Messages {
    messages: Vec<MessageOut>,
    /// Present while more follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl Messages {
    /// Fails only if the store holds what is not JSON.
    pub(crate) fn new(log: Stretch, next: Option<&Cursor>, shown: Shown) -> Result<Self, Error> {
        let messages = log.messages.into_iter();
        let messages = messages.map(|message| MessageOut::new(message, shown));
        Ok(Self {
            messages: messages.collect::<Result<_, _>>()?,
            next_cursor: next.map(reply::shown),
        })
    }
}

const NO_META: Error = Error::Forbidden("include=meta requires a secret key");

/// What is shown of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// What they say.
    Content,
    /// Also how they came about.
    Meta,
}

impl Shown {
    /// Reads parameter `include`. What a server attached to a chat, and what its tools were told, is not for browsers.
    pub(crate) fn read(params: &Params, holder: &KeyHolder) -> Result<Self, Error> {
        match params.get("include")? {
            None => Ok(Self::Content),
            Some("meta") => match holder.kind() {
                Kind::Secret => Ok(Self::Meta),
                Kind::Publishable => Err(NO_META),
            },
            Some(_) => Err(Error::invalid(
                "include",
                "Invalid include. Must be one of: meta",
            )),
        }
    }
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatMessageOut)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageOut {
    #[schema(example = "msg_00000000000218d1f9c3e5a7b9d1f3c5")]
    id: String,
    #[schema(example = "[echo] You said: Hello!")]
    content: String,
    /// `user` or `assistant`.
    #[schema(example = "assistant")]
    role: &'static str,
    #[schema(example = "2025-12-13T12:10:00.000000Z", format = "date-time")]
    created_at: String,
    /// With `include=meta`: the message that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_reply_to: Option<String>,
    /// With `include=meta`: the version of the agent that said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_version: Option<u32>,
    /// With `include=meta`: how an answer came about: its model, what it used, the tools it called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    meta: Option<Box<RawValue>>,
}

/// What is read of how an answer came about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    agent_version: Option<u32>,
}

impl MessageOut {
    fn new(message: Message, shown: Shown) -> Result<Self, Error> {
        let plain = Self {
            id: message.id.to_string(),
            content: message.content,
            // Every message of a chat has one.
            role: message.role.unwrap_or(Role::User).as_str(),
            created_at: message.created_at.to_string(),
            in_reply_to: None,
            agent_version: None,
            meta: None,
        };
        let meta = match (shown, message.meta) {
            (Shown::Content, _) => return Ok(plain),
            (Shown::Meta, None) => None,
            (Shown::Meta, Some(meta)) => {
                Some(RawValue::from_string(meta.into_string()).map_err(Error::internal)?)
            }
        };
        let read = meta.as_deref().map(|meta| serde_json::from_str(meta.get()));
        let read: Meta = read
            .transpose()
            .map_err(Error::internal)?
            .unwrap_or_default();
        Ok(Self {
            in_reply_to: message.in_reply_to.map(|id| id.to_string()),
            agent_version: read.agent_version,
            meta,
            ..plain
        })
    }
}

/// Something to say.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SayIn {
    /// 1 byte to 32 KB of UTF-8, without U+0000 and not all space.
    #[schema(example = "Hello!", max_length = 32768)]
    content: String,
    /// `user`, as without it: nobody speaks for the agent.
    #[schema(example = "user")]
    role: Option<String>,
}

impl SayIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<Content, Error> {
        match self.role.as_deref() {
            // Several providers refuse what is blank, and what they refuse is asked of them again with the next question.
            None | Some("user") if !self.content.is_empty() && self.content.trim().is_empty() => {
                Err(Error::invalid(
                    "content",
                    "Invalid content. It must not be blank",
                ))
            }
            None | Some("user") => Content::parse(self.content),
            Some(_) => Err(Error::invalid("role", "Invalid role. Must be: user")),
        }
    }
}

/// An agent's answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    #[schema(example = "msg_00000000000218d1f9c3e5a7b9d1f3c5")]
    id: String,
    #[schema(example = "chat_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    chat_id: String,
    #[schema(example = "[echo] You said: Hello!")]
    content: String,
    /// Always `assistant`.
    #[schema(example = "assistant")]
    role: &'static str,
    #[schema(example = "2025-12-13T12:10:00.000000Z", format = "date-time")]
    created_at: String,
}

impl Answer {
    pub(crate) fn new(chat: ChatId, answer: Message) -> Self {
        Self {
            id: answer.id.to_string(),
            chat_id: chat.to_string(),
            content: answer.content,
            role: Role::Assistant.as_str(),
            created_at: answer.created_at.to_string(),
        }
    }
}

/// A piece of an answer, as an event shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Delta<'a> {
    pub(crate) content: &'a str,
}

/// Whether the client wants to be shown the answer while it comes: it names that type, and does not rule it out.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| {
        // The parser takes no space before a semicolon, where one may be.
        let value = value.replace([' ', '\t'], "");
        // What is no media type is passed over.
        MimeIter::new(&value)
            .flatten()
            .any(|kind| is_wanted_stream(&kind))
    })
}

fn is_wanted_stream(kind: &Mime) -> bool {
    let weight = kind.get_param("q");
    let is_nothing = weight.is_some_and(|weight| {
        let mut digits = weight.as_str().bytes();
        digits.all(|digit| matches!(digit, b'0' | b'.'))
    });
    kind.essence_str() == mime::TEXT_EVENT_STREAM && !is_nothing
}

/// Nobody is shown an answer before it is whole.
pub(crate) fn heard_all(_: &str) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
