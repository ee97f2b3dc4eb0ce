//! Messages: what a log holds.

use std::str::FromStr;

use super::{Error, LogId, MessageId, Timestamp, UserId, text};

/// A message's place in its log: 1, 2, 3, … without a gap. 0 is "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);
    /// The first message's.
    pub const FIRST: Self = Self(1);
    /// The last seq a message id can hold: 48 bits.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// The `n`th place, at most [`Seq::MAX`].
    pub const fn new(n: u64) -> Self {
        if n > Self::MAX.0 { Self::MAX } else { Self(n) }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.0 + 1)
    }

    /// How many places this one is after `other`; 0 if it is not.
    pub const fn since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

/// Whose part a message of a chat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person's.
    User,
    /// The agent's.
    Assistant,
}

impl Role {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// The text is no role of a chat.
#[derive(Debug, Clone, Copy)]
pub struct InvalidRole;

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        match text {
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            _ => Err(InvalidRole),
        }
    }
}

/// What a message says: 1 byte to 32 KB of UTF-8 if a person said it, kept byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content(String);

impl Content {
    /// The longest content, in bytes of UTF-8.
    pub const MAX: usize = 32 * 1024;

    /// Reads field `content`.
    pub fn parse(content: String) -> Result<Self, Error> {
        text::check("content", &content, Self::MAX)?;
        if content.is_empty() {
            return Err(Error::invalid(
                "content",
                "Invalid content. It must not be empty",
            ));
        }
        Ok(Self(content))
    }

    /// What an agent said: whoever asks its model sees to it that it is not longer than an item may be.
    pub const fn answered(content: String) -> Self {
        Self(content)
    }

    /// The content as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A JSON value that we carry and do not read, kept as the bytes it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// The most bytes of a message's `meta`.
    pub const MAX_META: usize = 16 * 1024;

    /// Reads an object of at most `max` bytes from `field`.
    ///
    /// The text must be JSON that every client can read back: no lone surrogates, no number beyond those of a double
    /// (`1e999`), and nested no deeper than `serde_json` itself reads (127 levels).
    pub fn object(field: &'static str, text: &str, max: usize) -> Result<Self, Error> {
        let text = text.trim();
        if text.len() > max {
            return Err(Error::invalid(
                field,
                format!("Invalid {field}. At most {max} bytes of JSON"),
            ));
        }
        // Parsed only to be judged: a value would lose the order of keys and digits of numbers.
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
            .map(|_| Self(text.to_owned()))
            .map_err(|_| {
                Error::invalid(
                    field,
                    format!(
                        "Invalid {field}. It must be a JSON object that every client can read: nested at most 127 levels, its \
                         numbers no larger than a double, its text without lone surrogates"
                    ),
                )
            })
    }

    /// Trusts what our own store gives back.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The JSON text, given away.
    pub fn into_string(self) -> String {
        self.0
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A message that has no seq yet.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The log it is for.
    pub log: LogId,
    /// Who says it.
    pub author: UserId,
    /// Whose part it is; only in a chat.
    pub role: Option<Role>,
    /// What it answers; only in a chat.
    pub in_reply_to: Option<MessageId>,
    /// What it says.
    pub content: Content,
    /// What is attached: by the client, or to an agent's answer how it came about.
    pub meta: Option<Json>,
    /// The time of its request. It is stored with the time of the message before it if that is later.
    pub created_at: Timestamp,
    /// The random part of its id, by which a repeated write recognises itself.
    pub seed: u128,
}

impl Draft {
    /// The id this draft has at `seq`.
    pub fn id_at(&self, seq: Seq) -> MessageId {
        MessageId::new(seq, self.seed)
    }

    /// Its place and time as the message after `tail`.
    ///
    /// Clocks of writers differ, and one clock may step back: the time never goes below that of the message before.
    pub fn sent_after(&self, tail: Tail) -> Sent {
        let seq = tail.seq.next();
        Sent {
            id: self.id_at(seq),
            seq,
            created_at: tail
                .created_at
                .map_or(self.created_at, |before| before.max(self.created_at)),
        }
    }

    /// The message it is once it is stored as `sent`.
    pub fn stored_as(&self, sent: &Sent) -> Message {
        Message {
            id: sent.id,
            seq: sent.seq,
            author: self.author.clone(),
            role: self.role,
            in_reply_to: self.in_reply_to,
            answer: None,
            content: self.content.as_str().to_owned(),
            meta: self.meta.clone(),
            created_at: sent.created_at,
            edited_at: None,
            deleted_at: None,
        }
    }
}

/// A message that exists in a log, as far as a writer who appends after it must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Its place; [`Seq::ZERO`] if the log is empty.
    pub seq: Seq,
    /// When it was sent; `None` if the log is empty.
    pub created_at: Option<Timestamp>,
}

impl Tail {
    /// The tail of a log without messages.
    pub const EMPTY: Self = Self {
        seq: Seq::ZERO,
        created_at: None,
    };

    /// The one of the two that is further on.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        if other.seq > self.seq { other } else { self }
    }
}

impl From<&Sent> for Tail {
    fn from(sent: &Sent) -> Self {
        Self {
            seq: sent.seq,
            created_at: Some(sent.created_at),
        }
    }
}

impl From<&Message> for Tail {
    fn from(message: &Message) -> Self {
        Self {
            seq: message.seq,
            created_at: Some(message.created_at),
        }
    }
}

/// A message of a log.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its place.
    pub seq: Seq,
    /// Who said it.
    pub author: UserId,
    /// Whose part it is; only in a chat.
    pub role: Option<Role>,
    /// What it answers; only in a chat.
    pub in_reply_to: Option<MessageId>,
    /// What answers it; only in a chat.
    pub answer: Option<MessageId>,
    /// What it says; empty once deleted.
    pub content: String,
    /// What is attached; none once deleted.
    pub meta: Option<Json>,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it was last changed by its author.
    pub edited_at: Option<Timestamp>,
    /// When its author took it back. The place stays taken: the log has no holes.
    pub deleted_at: Option<Timestamp>,
}

/// What the sender of a message is told.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// Its place.
    pub seq: Seq,
    /// When it was sent.
    pub created_at: Timestamp,
}

impl Message {
    /// At most how many bytes this message takes in an answer.
    ///
    /// Lambda hands an answer over as a JSON string within JSON, so what JSON escapes is escaped twice: a
    /// quote takes 4 bytes, a control character 7.
    pub fn weight(&self) -> usize {
        /// Ids, times and names of fields.
        const FRAME: usize = 512;
        let escaped = |text: &str| -> usize {
            let bytes = text.bytes().map(|byte| match byte {
                b'"' | b'\\' => 4,
                0..0x20 => 7,
                _ => 1,
            });
            bytes.sum()
        };
        let meta = self.meta.as_ref().map_or("", Json::as_str);
        FRAME + escaped(&self.content) + escaped(meta) + self.author.as_str().len()
    }
}

/// Some messages of a log, ascending and without a gap.
#[derive(Debug)]
pub struct Stretch {
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether more may follow in the direction that was asked for.
    pub more: bool,
}

/// Which messages of a log are wanted. The answer is in ascending order in either case.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Only later ones.
    pub after: Option<Seq>,
    /// Only earlier ones.
    pub before: Option<Seq>,
    /// How many at most, counted from `after`, or backwards from `before` where only that is given.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_is_kept_byte_for_byte() {
        let text = r#"{ "z":1.10, "a":12345678901234567890123 }"#;
        assert_eq!(Json::object("meta", text, 100).unwrap().as_str(), text);
    }

    #[test]
    fn meta_must_be_an_object_that_clients_can_read() {
        for bad in [
            "[]",
            "1",
            "null",
            r#"{"a":"\ud800"}"#,
            r#"{"a":1e999}"#,
            r#"{"a":}"#,
        ] {
            assert!(Json::object("meta", bad, 100).is_err(), "{bad}");
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        assert!(Json::object("meta", &deep, 1_000).is_err());
    }

    #[test]
    fn a_seq_never_passes_what_an_id_can_hold() {
        assert_eq!(Seq::new(u64::MAX), Seq::MAX);
        assert_eq!(Seq::MAX.next(), Seq::MAX);
    }
}
