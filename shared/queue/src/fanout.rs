//! The payloads of the fan-out queue: something happened, and its audience is to be found.
//!
//! Acks and the end of typing ([`Fanout::Acked`], [`Fanout::TypingEnds`]) are told in passing. They are written as a
//! `catch_up` of no rooms with a member `passing`: the version before, which does not know that member, takes such a job and
//! does nothing. Nobody misses it, and nothing is put aside while two versions run.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::domain::{
    Error, Log, TenantId, Timestamp, UserId,
    delivery::Subject,
    live::{ConnectionId, Typing},
    message::Seq,
};

/// Which part of an audience a job is about. A large audience is done page by page: each page's job sends
/// the next one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Audience {
    /// All of it, from its first page on.
    All,
    /// The users that a notification names, from this one on.
    Users(usize),
    /// The members of the room, from the one after this user on.
    Members(Option<UserId>),
    /// The subscribers of a notification's topic, from the one after this user on.
    Subscribers(Option<UserId>),
    /// These alone: those who could not be reached.
    Only {
        /// At most 100.
        users: Vec<UserId>,
        /// How often that was tried.
        tries: u32,
    },
}

impl Audience {
    /// How often it was tried to reach them.
    pub const fn tries(&self) -> u32 {
        match self {
            Self::All | Self::Users(_) | Self::Members(_) | Self::Subscribers(_) => 0,
            Self::Only { tries, .. } => *tries,
        }
    }
}

/// Something happened that somebody is to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fanout {
    /// To members of a room, to the targets of a notification, to webhooks.
    Tell {
        /// Whose.
        tenant: TenantId,
        /// What happened.
        subject: Subject,
        /// Who is told by this job.
        audience: Audience,
    },
    /// A connection said what it has of some logs: it is brought up to date.
    CatchUp {
        /// Whose.
        tenant: TenantId,
        /// Which connection.
        connection: ConnectionId,
        /// Which logs, at most 100.
        logs: Vec<Log>,
        /// How often that was tried since the connection last took something.
        tries: u32,
    },
    /// A user's first connection was made.
    PresenceCame {
        /// Whose.
        tenant: TenantId,
        /// Who.
        user: UserId,
    },
    /// A user's last connection ended; is it still so?
    PresenceGone {
        /// Whose.
        tenant: TenantId,
        /// Who.
        user: UserId,
        /// When it ended.
        at: Timestamp,
    },
    /// A member has received a log up to a seq, and had not before.
    Acked {
        /// The tenant.
        tenant: TenantId,
        /// The log.
        log: Log,
        /// The member.
        user: UserId,
        /// The last seq that the member has received.
        seq: Seq,
        /// The connection over which it was said, whose client knows.
        said_by: Option<ConnectionId>,
    },
    /// A user's typing ends, unless they have said again that they type.
    TypingEnds {
        /// The tenant.
        tenant: TenantId,
        /// The note that ends.
        typing: Typing,
    },
}

/// A job as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    v: u32,
    tenant: String,
    #[serde(flatten)]
    body: Body,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Body {
    Tell {
        subject: String,
        audience: To,
        #[serde(default)]
        tries: u32,
    },
    CatchUp {
        connection: String,
        rooms: Vec<String>,
        #[serde(default)]
        tries: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passing: Option<Passing>,
    },
    PresenceCame {
        user: String,
    },
    PresenceGone {
        user: String,
        at: String,
    },
}

/// A connection that nobody has.
const NO_CONNECTION: &str = "-";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Passing {
    Acked {
        room: String,
        user: String,
        seq: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        said_by: Option<String>,
    },
    TypingEnds {
        room: String,
        user: String,
        connection: String,
        /// In microseconds since 1970.
        at: i64,
    },
}

impl Passing {
    fn into_body(self) -> Body {
        Body::CatchUp {
            connection: NO_CONNECTION.to_owned(),
            rooms: Vec::new(),
            tries: 0,
            passing: Some(self),
        }
    }

    fn parse(self, tenant: TenantId) -> Result<Fanout, String> {
        Ok(match self {
            Self::Acked {
                room,
                user,
                seq,
                said_by,
            } => Fanout::Acked {
                tenant,
                log: read(&room)?,
                user: UserId::stored(user),
                seq: Seq::new(seq),
                said_by: said_by.as_deref().map(connection).transpose()?,
            },
            Self::TypingEnds {
                room,
                user,
                connection: id,
                at,
            } => Fanout::TypingEnds {
                tenant,
                typing: Typing {
                    user: UserId::stored(user),
                    connection: connection(&id)?,
                    log: read(&room)?,
                    at: Timestamp::from_micros(at),
                },
            },
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    All,
    Users(usize),
    Members(Option<String>),
    Subscribers(Option<String>),
    Only(Vec<String>),
}

impl Fanout {
    /// Whose job it is: the message group of the queue.
    pub const fn tenant(&self) -> TenantId {
        match self {
            Self::Tell { tenant, .. }
            | Self::CatchUp { tenant, .. }
            | Self::PresenceCame { tenant, .. }
            | Self::PresenceGone { tenant, .. }
            | Self::Acked { tenant, .. }
            | Self::TypingEnds { tenant, .. } => *tenant,
        }
    }

    /// The job as it is sent.
    pub fn to_text(&self) -> Result<String, Error> {
        let body = match self {
            Self::Tell {
                subject, audience, ..
            } => Body::Tell {
                subject: subject.to_string(),
                audience: match audience {
                    Audience::All => To::All,
                    Audience::Users(done) => To::Users(*done),
                    Audience::Members(after) => To::Members(after.as_ref().map(text)),
                    Audience::Subscribers(after) => To::Subscribers(after.as_ref().map(text)),
                    Audience::Only { users, .. } => To::Only(users.iter().map(text).collect()),
                },
                tries: audience.tries(),
            },
            Self::CatchUp {
                connection,
                logs,
                tries,
                ..
            } => Body::CatchUp {
                connection: text(connection),
                rooms: logs.iter().map(text).collect(),
                tries: *tries,
                passing: None,
            },
            Self::PresenceCame { user, .. } => Body::PresenceCame { user: text(user) },
            Self::PresenceGone { user, at, .. } => Body::PresenceGone {
                user: text(user),
                at: text(at),
            },
            Self::Acked {
                log,
                user,
                seq,
                said_by,
                ..
            } => Passing::Acked {
                room: text(log),
                user: text(user),
                seq: seq.get(),
                said_by: said_by.as_ref().map(text),
            }
            .into_body(),
            Self::TypingEnds { typing, .. } => Passing::TypingEnds {
                room: text(&typing.log),
                user: text(&typing.user),
                connection: text(&typing.connection),
                at: typing.at.micros(),
            }
            .into_body(),
        };
        let wire = Wire {
            v: VERSION,
            tenant: self.tenant().to_string(),
            body,
        };
        serde_json::to_string(&wire).map_err(Error::internal)
    }

    /// Reads a job back.
    ///
    /// # Errors
    ///
    /// The reason why it is no job of this version, which is for the poison queue.
    pub fn parse(job: &str) -> Result<Self, String> {
        super::known_version(job)?;
        let wire: Wire = serde_json::from_str(job).map_err(|error| error.to_string())?;
        let tenant = read(&wire.tenant)?;
        Ok(match wire.body {
            Body::Tell {
                subject,
                audience,
                tries,
            } => Self::Tell {
                tenant,
                subject: read(&subject)?,
                audience: match audience {
                    To::All => Audience::All,
                    To::Users(done) => Audience::Users(done),
                    To::Members(after) => Audience::Members(after.map(UserId::stored)),
                    To::Subscribers(after) => Audience::Subscribers(after.map(UserId::stored)),
                    To::Only(users) => Audience::Only {
                        users: users.into_iter().map(UserId::stored).collect(),
                        tries,
                    },
                },
            },
            Body::CatchUp {
                passing: Some(passing),
                ..
            } => passing.parse(tenant)?,
            Body::CatchUp {
                connection: id,
                rooms,
                tries,
                passing: None,
            } => Self::CatchUp {
                tenant,
                connection: connection(&id)?,
                logs: rooms
                    .iter()
                    .map(|log| read(log))
                    .collect::<Result<_, _>>()?,
                tries,
            },
            Body::PresenceCame { user } => Self::PresenceCame {
                tenant,
                user: UserId::stored(user),
            },
            Body::PresenceGone { user, at } => Self::PresenceGone {
                tenant,
                user: UserId::stored(user),
                at: read(&at)?,
            },
        })
    }
}

fn connection(id: &str) -> Result<ConnectionId, String> {
    ConnectionId::parse(id).ok_or_else(|| "not the id of a connection".to_owned())
}

fn text(value: &impl ToString) -> String {
    value.to_string()
}

pub(super) fn read<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        read(&format!("tenant_{:032x}", 7)).unwrap()
    }

    fn user(name: &str) -> UserId {
        UserId::stored(name.to_owned())
    }

    fn acked(said_by: Option<ConnectionId>) -> Fanout {
        Fanout::Acked {
            tenant: tenant(),
            log: read(&format!("room_{:032x}", 8)).unwrap(),
            user: user("a"),
            seq: Seq::new(7),
            said_by,
        }
    }

    fn typing_ends() -> Fanout {
        Fanout::TypingEnds {
            tenant: tenant(),
            typing: Typing {
                user: user("a"),
                connection: ConnectionId::parse("L0SM9cOFvHcCIhw=").unwrap(),
                log: read(&format!("room_{:032x}", 8)).unwrap(),
                at: Timestamp::from_micros(1_765_627_200_123_456),
            },
        }
    }

    /// The member that it does not know is passed over.
    #[test]
    fn the_version_before_takes_what_is_told_in_passing_for_the_catching_up_of_no_rooms() {
        for job in [acked(None), typing_ends()] {
            let mut sent: serde_json::Value =
                serde_json::from_str(&job.to_text().unwrap()).unwrap();
            sent.as_object_mut().unwrap().remove("passing");
            let nothing = Fanout::CatchUp {
                tenant: tenant(),
                connection: ConnectionId::parse(NO_CONNECTION).unwrap(),
                logs: Vec::new(),
                tries: 0,
            };
            assert_eq!(Fanout::parse(&sent.to_string()), Ok(nothing));
        }
    }

    #[test]
    fn a_job_is_read_back_as_it_was_sent() {
        let (tenant, log): (_, Log) = (tenant(), read(&format!("room_{:032x}", 8)).unwrap());
        let tell = |audience| Fanout::Tell {
            tenant,
            subject: read(&format!("notif_{:032x}", 9)).unwrap(),
            audience,
        };
        let jobs = [
            tell(Audience::All),
            tell(Audience::Users(100)),
            tell(Audience::Members(None)),
            tell(Audience::Members(Some(user("a#b")))),
            tell(Audience::Subscribers(Some(user("z")))),
            tell(Audience::Only {
                users: vec![user("a"), user("b")],
                tries: 3,
            }),
            Fanout::CatchUp {
                tenant,
                connection: ConnectionId::parse("L0SM9cOFvHcCIhw=").unwrap(),
                logs: vec![log],
                tries: 2,
            },
            Fanout::PresenceCame {
                tenant,
                user: user("a"),
            },
            Fanout::PresenceGone {
                tenant,
                user: user("a"),
                at: Timestamp::from_micros(1_765_627_200_123_456),
            },
            acked(None),
            acked(ConnectionId::parse("L0SM9cOFvHcCIhw=")),
            typing_ends(),
        ];
        for job in jobs {
            let text = job.to_text().unwrap();
            assert_eq!(Fanout::parse(&text).as_ref(), Ok(&job), "{text}");
        }
    }

    #[test]
    fn what_is_no_job_of_this_version_is_refused_with_the_reason() {
        let other = r#"{"v":1,"tenant":"room_1","kind":"presence_came","user":"a"}"#;
        for (text, reason) in [
            (r#"{"v":2,"all":"new"}"#, "version 2 is not known"),
            (other, "not an id of the form tenant_…"),
        ] {
            assert_eq!(Fanout::parse(text), Err(reason.to_owned()));
        }
        for text in ["", "{}", r#"{"v":1}"#, r#"{"v":1,"kind":"new"}"#] {
            assert!(Fanout::parse(text).is_err(), "{text}");
        }
    }
}
