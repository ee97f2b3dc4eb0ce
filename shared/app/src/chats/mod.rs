//! Chats with agents: their making, listing and deleting. What is said in them is in [`send`].

pub mod send;

use super::App;
use crate::{
    domain::{
        AgentId, ChatId, Cursor, Done, Error, EventId, KeyHolder, LogId, Moment, Once, Page, Sees,
        TenantId, UserId,
        api_key::Kind,
        chat::{Chat, Filter, Listed, NO_CHAT},
        event::{Event, EventKind},
        message::{Json, Range, Stretch},
    },
    store::{Backoff, guards::Claim},
};

/// A chat that does not exist yet.
#[derive(Debug)]
pub struct NewChat {
    /// Who is to answer.
    pub agent: AgentId,
    /// Whose it is to be.
    pub user: Option<UserId>,
    /// What is attached.
    pub metadata: Option<Json>,
}

/// How many messages of a log one sweep removes: a larger log takes several.
const SWEPT_AT_ONCE: usize = 500;

impl App {
    /// Makes a chat.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such agent, [`Error::Forbidden`] if the key may not speak for that user,
    /// [`Error::Conflict`] if the `Idempotency-Key` was used for another request, [`Error::Invalid`] if others could
    /// guess it.
    pub async fn create_chat(
        &self,
        holder: &KeyHolder,
        new: NewChat,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Done<Chat>, Error> {
        let tenant = holder.tenant();
        let user = holder.sees().makes_for(new.user)?;
        let making = Doing::Making(user.as_ref());
        let claim = once.map(|once| self.claim_of(holder, making, once, moment));
        let claim = claim.transpose()?;
        let chats = &self.stores().chats;
        let has_metadata = new.metadata.is_some();
        let agent = match self.agent(tenant, new.agent).await {
            Ok(agent) => agent,
            // What was made before stays so.
            Err(error) => {
                let Some(claim) = claim else {
                    return Err(error);
                };
                let guards = &self.stores().guards;
                let before = chats.created_before(guards, &claim, user, has_metadata);
                return before.await?.map(Done::before).ok_or(error);
            }
        };
        let chat = Chat {
            id: ChatId::at(moment),
            agent: agent.id,
            kind: agent.profile.kind.clone(),
            user,
            has_metadata,
            created_at: moment.now,
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let attached = new.metadata.as_ref();
        let made = chats.create(tenant, chat, attached, claim.as_ref(), &mut race);
        made.await
    }

    /// A chat that the caller may see. `user` is whose the caller says that it is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none, or none for this caller.
    async fn chat(
        &self,
        holder: &KeyHolder,
        id: ChatId,
        user: Option<&UserId>,
    ) -> Result<Chat, Error> {
        let chat = self.stores().chats.get(holder.tenant(), id).await?;
        visible(holder.sees(), chat, user)
    }

    /// A chat and the messages of it within `range`, ascending. One round trip, a few where they are heavy.
    ///
    /// # Errors
    ///
    /// As [`App::chat`].
    pub async fn chat_log(
        &self,
        holder: &KeyHolder,
        id: ChatId,
        user: Option<&UserId>,
        range: Range,
    ) -> Result<(Chat, Stretch), Error> {
        let messages = self.said(holder, id, range);
        tokio::try_join!(self.chat(holder, id, user), messages)
    }

    /// As [`App::chat_log`], with what the team attached to the chat.
    ///
    /// # Errors
    ///
    /// As [`App::chat`].
    pub async fn whole_chat_log(
        &self,
        holder: &KeyHolder,
        id: ChatId,
        user: Option<&UserId>,
        range: Range,
    ) -> Result<(Chat, Option<Json>, Stretch), Error> {
        let chats = &self.stores().chats;
        let messages = self.said(holder, id, range);
        let (found, messages) = tokio::try_join!(chats.get_whole(holder.tenant(), id), messages)?;
        let (chat, attached) = found.unzip();
        let chat = visible(holder.sees(), chat, user)?;
        Ok((chat, attached.flatten(), messages))
    }

    async fn said(&self, holder: &KeyHolder, id: ChatId, range: Range) -> Result<Stretch, Error> {
        let messages = &self.stores().messages;
        messages.range(log(holder.tenant(), id), range).await
    }

    /// Chats that the caller may list, newest first. One round trip, few more where a user has many chats of other
    /// kinds.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] and [`Error::Invalid`] as [`Sees::lists`].
    pub async fn chats(
        &self,
        holder: &KeyHolder,
        filter: Filter,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<Listed>, Error> {
        let filter = Filter {
            user: holder.sees().lists(filter.user)?,
            kind: filter.kind,
        };
        let chats = &self.stores().chats;
        chats.list(holder.tenant(), &filter, limit, after).await
    }

    /// Deletes a chat. Nothing of it can be read or written any more; its log is removed soon after.
    ///
    /// # Errors
    ///
    /// As [`App::chat`].
    pub async fn delete_chat(
        &self,
        holder: &KeyHolder,
        id: ChatId,
        user: Option<&UserId>,
        moment: &Moment,
    ) -> Result<(), Error> {
        let chat = self.chat(holder, id, user).await?;
        let event = Event {
            id: EventId::at(moment),
            at: moment.now,
            actor: None,
            room: None,
            kind: EventKind::ChatDeleted(id),
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let chats = &self.stores().chats;
        let deleted = chats.delete(holder.tenant(), &chat, &event, &mut race);
        if deleted.await? { Ok(()) } else { Err(NO_CHAT) }
    }

    /// Removes messages of a deleted chat's log. Harmless at any time: of a chat that is there nothing is removed.
    /// Whether there may be more.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and the like: it is to be done again.
    pub(super) async fn sweep_log(
        &self,
        tenant: TenantId,
        chat: ChatId,
        moment: &Moment,
    ) -> Result<bool, Error> {
        let stores = self.stores();
        if stores.chats.get(tenant, chat).await?.is_some() {
            return Ok(false);
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let log = log(tenant, chat);
        let messages = &stores.messages;
        messages.remove_first(log, SWEPT_AT_ONCE, &mut race).await
    }

    /// A claim of `once` by the caller. All of a team's secret keys are the team; who was made for one user is that user.
    /// What many visitors share is told apart by what they do, whatever it may list: one of them is never shown what
    /// another one made.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if nothing but the `Idempotency-Key` tells them apart, and it can be guessed.
    fn claim_of(
        &self,
        holder: &KeyHolder,
        doing: Doing<'_>,
        once: &Once,
        moment: &Moment,
    ) -> Result<Claim, Error> {
        let (tenant, key) = (holder.tenant(), holder.key());
        let guards = &self.stores().guards;
        // A key's id begins as none of the others does, and no part of these has a space.
        let caller = match (holder.kind(), holder.sees(), doing) {
            (Kind::Secret, _, Doing::Making(_)) => {
                return Ok(guards.tenant_claim(tenant, doing.name(), once, moment.now));
            }
            (Kind::Secret, _, Doing::Saying(chat)) => chat.to_string(),
            (Kind::Publishable, Sees::Only(user), Doing::Making(_)) => format!("user {user}"),
            (Kind::Publishable, Sees::Only(user), Doing::Saying(chat)) => {
                format!("user {user} {chat}")
            }
            (Kind::Publishable, Sees::Team | Sees::Named, Doing::Making(Some(user))) => {
                format!("{key} {user}")
            }
            (Kind::Publishable, Sees::Team | Sees::Named, Doing::Making(None)) => {
                if once.key().len() < UNGUESSABLE {
                    return Err(Error::invalid("Idempotency-Key", GUESSABLE));
                }
                key.to_string()
            }
            (Kind::Publishable, Sees::Team | Sees::Named, Doing::Saying(chat)) => {
                format!("{key} {chat}")
            }
        };
        let caller = UserId::stored(caller);
        Ok(guards.claim(tenant, doing.name(), &caller, once, moment.now))
    }
}

/// What is done once for each `Idempotency-Key`.
#[derive(Debug, Clone, Copy)]
enum Doing<'a> {
    /// A chat is made, of this user.
    Making(Option<&'a UserId>),
    /// Something is said in this chat.
    Saying(ChatId),
}

impl Doing<'_> {
    const fn name(self) -> &'static str {
        match self {
            Self::Making(_) => "create_chat",
            Self::Saying(_) => "say_in_chat",
        }
    }
}

/// How long an `Idempotency-Key` is that no other visitor guesses, in characters: a random number of 64 bits in hex.
const UNGUESSABLE: usize = 16;
const GUESSABLE: &str = "Invalid Idempotency-Key. With a key that visitors share, and without userId, it is at least 16 \
     characters that nobody can guess";

fn log(tenant: TenantId, chat: ChatId) -> LogId {
    LogId::new(tenant, chat)
}

/// `chat`, if it is there for who sees `sees` and says that it is of `user`.
fn visible(sees: &Sees, chat: Option<Chat>, user: Option<&UserId>) -> Result<Chat, Error> {
    chat.filter(|chat| sees.sees(chat.user.as_ref(), user))
        .ok_or(NO_CHAT)
}
