//! Chats with agents, in the `rooms` table.
//!
//! | what      | partition key                                                            | sort key   | other attributes                                                                   |
//! |-----------|--------------------------------------------------------------------------|------------|------------------------------------------------------------------------------------|
//! | head      | `tenant#chat_…`                                                          | `HEAD`     | `agent`, `agent_type`, `user?`, `has_metadata?`, `created_at`, `answered_by?`       |
//! | attached  | `tenant#chat_…`                                                          | `METADATA` | `metadata` (JSON): every send would pay for its size if the head carried it         |
//! | in a list | `tenant#chats`, `tenant#chats#type#<type>`, `tenant#chats#user#<user>`     | `chat_…`   | `agent`, `agent_type`, `user?`, `created_at`                                       |
//!
//! **Invariants:** a chat is in its lists, and what is attached is there, if and only if it has a head: they are written and deleted in one transaction.
//! Whatever is written to a chat's log is written on the condition that its head is there, so nothing is, once the head
//! is deleted; whoever reads a log reads the head first, strongly. A question has at most one answer: both are written
//! in the transaction that finds it unanswered.

mod sends;

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure::AllOld,
        TransactWriteItem,
    },
};

pub use self::sends::{Answer, Asked, Earlier, Kept};
use super::{
    Backoff,
    aws::fault,
    events::EventStore,
    guards::{Claim, GuardStore},
    item::{Item, NewItem, Read, malformed, s},
    transaction::{self, Check, Outcome},
};
use crate::domain::{
    ChatId, Cursor, Done, Error, LogId, Page, TenantId, UserId,
    chat::{Chat, Filter, Listed},
    event::Event,
    message::Json,
    text::escape,
};

/// The sort key of a head.
const HEAD: &str = "HEAD";
/// The sort key of what is attached.
const METADATA: &str = "METADATA";
/// How many chats of a user a page of those of one kind looks at, at most: the next page goes on from there.
const MOST_LOOKED_AT: usize = 1_000;
/// How many of them one query gives.
const LOOKED_AT_ONCE: usize = 250;

/// The chats in the `rooms` table.
#[derive(Debug)]
pub struct ChatStore {
    client: Client,
    table: String,
    events: EventStore,
}

impl ChatStore {
    pub(super) const fn new(client: Client, table: String, events: EventStore) -> Self {
        Self {
            client,
            table,
            events,
        }
    }

    /// Makes `chat` with `metadata` attached, once per `claim`. One transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if `claim` was used for another request.
    pub async fn create(
        &self,
        tenant: TenantId,
        chat: Chat,
        metadata: Option<&Json>,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<Done<Chat>, Error> {
        let mut writes = vec![self.put_new(head_item(tenant, &chat))?];
        for list in lists(tenant, &chat) {
            writes.push(self.put_new(list_item(list, &chat))?);
        }
        if let Some(metadata) = metadata {
            writes.push(self.put_new(attached_item(tenant, chat.id, metadata))?);
        }
        if let Some(claim) = claim {
            writes.push(claim.write(made_item(&chat))?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(Done::now(chat)),
            Outcome::Refused(refused) => refused,
        };
        if let Some(Some(_)) = refused.first() {
            // An earlier try of ours landed and its answer was lost: nobody else has this id.
            return Ok(Done::now(chat));
        }
        let marker = refused.into_iter().flatten().next_back();
        let marker = marker.and_then(|refusal| refusal.item);
        let claim = claim.ok_or(Error::Busy)?;
        let made = claim.recognise(marker.as_ref())?.outcome;
        made_before(&made, chat.user, chat.has_metadata).map(Done::before)
    }

    /// The chat that an earlier request with `claim` made, if one did: of the same `user` and with as much attached, since
    /// it was the same request.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if `claim` was used for another request.
    pub async fn created_before(
        &self,
        guards: &GuardStore,
        claim: &Claim,
        user: Option<UserId>,
        has_metadata: bool,
    ) -> Result<Option<Chat>, Error> {
        let claimed = guards.used(claim).await?;
        let made = claimed.map(|claimed| made_before(&claimed.outcome, user, has_metadata));
        made.transpose()
    }

    /// A chat's head, strongly consistent.
    pub async fn get(&self, tenant: TenantId, id: ChatId) -> Result<Option<Chat>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(partition(log(tenant, id))))
            .key("sk", s(HEAD))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        found.item.map(|item| head(&item)).transpose()
    }

    /// A chat's head and what is attached to the chat, strongly consistent.
    pub async fn get_whole(
        &self,
        tenant: TenantId,
        id: ChatId,
    ) -> Result<Option<(Chat, Option<Json>)>, Error> {
        // Two rows at most.
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", s(partition(log(tenant, id))))
            .send()
            .await
            .map_err(fault(&self.table))?;
        let (mut chat, mut metadata) = (None, None);
        for item in found.items() {
            match item.text("sk")? {
                HEAD => chat = Some(head(item)?),
                METADATA => metadata = Some(Json::stored(item.text("metadata")?.to_owned())),
                _ => {}
            }
        }
        Ok(chat.map(|chat| (chat, metadata)))
    }

    /// At most `limit` of the chats that `filter` lets through, newest first, those after `after`. The page may be shorter
    /// although more follow: among a user's chats those of one kind are looked for, as long as that does not take long.
    pub async fn list(
        &self,
        tenant: TenantId,
        filter: &Filter,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<Listed>, Error> {
        let after: Option<ChatId> = after.map(Cursor::parse).transpose()?;
        let (pk, kind) = match (&filter.user, &filter.kind) {
            (Some(user), kind) => (of_user(tenant, user), kind.as_deref()),
            (None, Some(kind)) => (of_kind(tenant, kind), None),
            (None, None) => (of_all(tenant), None),
        };
        let mut start =
            after.map(|id| HashMap::from([("pk".to_owned(), s(&pk)), ("sk".to_owned(), s(id))]));
        let (mut listed, mut looked_at): (Vec<Listed>, usize) = (Vec::new(), 0);
        loop {
            let at_once = match kind {
                Some(_) => LOOKED_AT_ONCE,
                // One more, to know whether more follow.
                None => limit + 1 - listed.len(),
            };
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .scan_index_forward(false)
                .limit(i32::try_from(at_once).unwrap_or(i32::MAX))
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", s(&pk))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(fault(&self.table))?;
            for item in page.items() {
                looked_at += 1;
                let chat = listed_of(item)?;
                if kind.is_some_and(|kind| kind != chat.kind) {
                    continue;
                }
                if listed.len() == limit {
                    return Ok(Page::new(listed, true, |last| last.id.to_string()));
                }
                listed.push(chat);
            }
            start = page.last_evaluated_key;
            let Some(next) = &start else {
                return Ok(Page {
                    items: listed,
                    next: None,
                });
            };
            if looked_at >= MOST_LOOKED_AT {
                return Ok(Page {
                    next: Some(Cursor(next.text("sk")?.to_owned())),
                    items: listed,
                });
            }
        }
    }

    /// Deletes the head of `chat` and what is attached, takes it out of its lists, and has `event` tell so, on which its log is removed.
    /// `false` if somebody else was faster. One transaction.
    pub async fn delete(
        &self,
        tenant: TenantId,
        chat: &Chat,
        event: &Event,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let head = self
            .delete_of(partition(log(tenant, chat.id)), HEAD)
            .condition_expression("attribute_exists(pk)")
            .build()
            .map_err(Error::internal)?;
        let mut writes = vec![transaction::delete(head), self.events.write(tenant, event)?];
        for list in lists(tenant, chat) {
            let delete = self.delete_of(list, &chat.id.to_string()).build();
            writes.push(transaction::delete(delete.map_err(Error::internal)?));
        }
        if chat.has_metadata {
            let of = partition(log(tenant, chat.id));
            let delete = self.delete_of(of, METADATA).build();
            writes.push(transaction::delete(delete.map_err(Error::internal)?));
        }
        match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => Ok(true),
            // The event is there: an earlier try of ours landed and its answer was lost.
            Outcome::Refused(refused) => Ok(matches!(refused.get(1), Some(Some(_)))),
        }
    }

    /// That the chat of `log` is there, for a transaction that writes to its log.
    fn is_there(&self, log: LogId) -> Result<TransactWriteItem, Error> {
        ConditionCheck::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(HEAD))
            .condition_expression("attribute_exists(pk)")
            .build()
            .map(|check| Check::new(check).write())
            .map_err(Error::internal)
    }

    fn delete_of(&self, pk: String, sk: &str) -> aws_sdk_dynamodb::types::builders::DeleteBuilder {
        Delete::builder()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(pk))
            .key("sk", s(sk))
    }

    /// A put of something that must not be there yet.
    fn put_new(&self, item: Item) -> Result<TransactWriteItem, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map(transaction::put)
            .map_err(Error::internal)
    }
}

fn log(tenant: TenantId, chat: ChatId) -> LogId {
    LogId::new(tenant, chat)
}

/// A head lies under the name of its log, in another table.
fn partition(log: LogId) -> String {
    log.to_string()
}

fn of_all(tenant: TenantId) -> String {
    format!("{tenant}#chats")
}

fn of_kind(tenant: TenantId, kind: &str) -> String {
    format!("{tenant}#chats#type#{}", escape(kind))
}

fn of_user(tenant: TenantId, user: &UserId) -> String {
    format!("{tenant}#chats#user#{}", escape(user.as_str()))
}

/// The partitions of the lists that `chat` is in.
fn lists(tenant: TenantId, chat: &Chat) -> Vec<String> {
    let of_user = chat.user.as_ref().map(|user| of_user(tenant, user));
    let mut lists = vec![of_all(tenant), of_kind(tenant, &chat.kind)];
    lists.extend(of_user);
    lists
}

fn head_item(tenant: TenantId, chat: &Chat) -> Item {
    let mut item = NewItem::new();
    if chat.has_metadata {
        item = item.n("has_metadata", 1);
    }
    item.s("pk", partition(log(tenant, chat.id)))
        .s("sk", HEAD)
        .s("agent", chat.agent)
        .s("agent_type", &chat.kind)
        .s_opt("user", chat.user.as_ref())
        .s("created_at", chat.created_at)
        .build()
}

fn attached_item(tenant: TenantId, chat: ChatId, metadata: &Json) -> Item {
    NewItem::new()
        .s("pk", partition(log(tenant, chat)))
        .s("sk", METADATA)
        .s("metadata", metadata.as_str())
        .build()
}

/// What a marker remembers: who made it is not remembered longer than the chat is.
fn made_item(chat: &Chat) -> Item {
    NewItem::new()
        .s("id", chat.id)
        .s("agent", chat.agent)
        .s("agent_type", &chat.kind)
        .s("created_at", chat.created_at)
        .build()
}

/// The chat that a request with the same claim made. The same request attaches the same, for the same user.
fn made_before(made: &Item, user: Option<UserId>, has_metadata: bool) -> Result<Chat, Error> {
    Ok(Chat {
        id: made.parse("id")?,
        agent: made.parse("agent")?,
        kind: made.text("agent_type")?.to_owned(),
        user,
        has_metadata,
        created_at: made.parse("created_at")?,
    })
}

fn head(item: &Item) -> Result<Chat, Error> {
    let (_, id) = item.text("pk")?.split_once('#').ok_or(malformed("pk"))?;
    Ok(Chat {
        id: id.parse().map_err(|_| malformed("pk"))?,
        agent: item.parse("agent")?,
        kind: item.text("agent_type")?.to_owned(),
        user: user(item)?,
        has_metadata: item.contains_key("has_metadata"),
        created_at: item.parse("created_at")?,
    })
}

fn list_item(pk: String, chat: &Chat) -> Item {
    NewItem::new()
        .s("pk", pk)
        .s("sk", chat.id)
        .s("agent", chat.agent)
        .s("agent_type", &chat.kind)
        .s_opt("user", chat.user.as_ref())
        .s("created_at", chat.created_at)
        .build()
}

fn listed_of(item: &Item) -> Result<Listed, Error> {
    Ok(Listed {
        id: item.parse("sk")?,
        agent: item.parse("agent")?,
        kind: item.text("agent_type")?.to_owned(),
        user: user(item)?,
        created_at: item.parse("created_at")?,
    })
}

fn user(item: &Item) -> Result<Option<UserId>, Error> {
    let user = item.text_opt("user")?;
    Ok(user.map(|user| UserId::stored(user.to_owned())))
}
