//! The log: messages in DynamoDB.
//!
//! | table      | partition key   | sort key               | other attributes                                                                  |
//! |------------|-----------------|------------------------|-----------------------------------------------------------------------------------|
//! | `messages` | `tenant#room`   | `00000000000000000042` | `id`, `author`, `content`, `meta?` (JSON), `created_at`, `edited_at?`, `deleted_at?` |
//!
//! **Invariant:** the seqs of one log are exactly 1 to n. A message is written only after its
//! predecessor was seen, and only if its own key is free, so there is no gap and no duplicate, and a
//! reader that sees n can read everything before it. Nothing is ever removed: a deleted message leaves a
//! tombstone.

use aws_sdk_dynamodb::{
    Client,
    types::{Put, ReturnValue, ReturnValuesOnConditionCheckFailure::AllOld},
};
use tokio::time::Instant;

use super::{
    Backoff,
    aws::{Verdict, fault, refusal, settle},
    guards::{Claim, Claimed, GuardStore},
    item::{Item, NewItem, Read, malformed, s, take},
    transaction::{self, Outcome},
    turns::Turns,
};
use crate::domain::{
    Done, Error, MessageId, TenantId, Thread, Timestamp, UserId,
    delivery::Subject,
    message::{Content, Draft, Json, Message, Range, Sent, Seq, Stretch},
};

/// The most that the messages of one answer may weigh, in bytes: well under Lambda's 6 MB.
const HEAVIEST: usize = 4 * 1024 * 1024;

/// The `messages` table.
#[derive(Debug)]
pub struct MessageStore {
    client: Client,
    table: String,
    turns: Turns,
    single_writer: bool,
}

/// What became of one try to write a message under a seq.
enum Slot {
    /// The message has the seq: by this try, or by an earlier one whose answer was lost.
    Written,
    /// Another message has it.
    Taken,
    /// Throttled, or nobody knows: only the same seq may be tried again, or the message could be
    /// written twice.
    Unsure(Error),
}

/// What an author changes of a message.
#[derive(Debug)]
pub enum Change {
    /// Says something else.
    Edit {
        /// What it says now.
        content: Content,
        /// What is attached now; `None` leaves it.
        meta: Option<Json>,
    },
    /// Takes it back.
    Delete,
}

impl MessageStore {
    pub(super) fn new(client: Client, table: String, single_writer: bool) -> Self {
        Self {
            client,
            table,
            turns: Turns::default(),
            single_writer,
        }
    }

    /// Appends `draft` to its log under the next seq. `tail` is a seq known to exist.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if other writers kept taking the number until `deadline`,
    /// [`Error::Unavailable`] if the table could not be written until then.
    pub async fn append(&self, draft: &Draft, tail: Seq, deadline: Instant) -> Result<Sent, Error> {
        let log = self.turns.log(draft.thread);
        let _turn = log.turn(deadline).await?;
        let mut last = log.seen().unwrap_or(Seq::ZERO).max(tail);
        let mut race = Backoff::until(deadline, draft.seed);
        loop {
            let seq = last.next();
            log.begins();
            match self.put_if_free(draft, seq).await? {
                Slot::Written => {
                    log.saw(seq);
                    log.ended();
                    return Ok(draft.sent_at(seq));
                }
                Slot::Taken => {
                    race.pause().await?;
                    last = self.query_tail(draft.thread).await?;
                    log.saw(last);
                    log.ended();
                }
                Slot::Unsure(error) => race.pause().await.map_err(|_| error)?,
            }
        }
    }

    /// Appends `draft` as [`MessageStore::append`] does, and claims `claim` in the same transaction, so
    /// that the message is written by one of all requests with that key.
    pub async fn append_once(
        &self,
        draft: &Draft,
        tail: Seq,
        claim: &Claim,
        deadline: Instant,
    ) -> Result<Done<Sent>, Error> {
        let log = self.turns.log(draft.thread);
        let _turn = log.turn(deadline).await?;
        let mut last = log.seen().unwrap_or(Seq::ZERO).max(tail);
        let mut race = Backoff::until(deadline, draft.seed);
        loop {
            let sent = draft.sent_at(last.next());
            log.begins();
            let outcome = NewItem::new()
                .s("id", sent.id)
                .s("created_at", sent.created_at)
                .build();
            let writes = [
                transaction::put(self.put(draft, sent.seq)?),
                claim.write(outcome)?,
            ];
            let refused = match transaction::commit(&self.client, &writes, &mut race).await? {
                Outcome::Committed => {
                    log.saw(sent.seq);
                    log.ended();
                    return Ok(Done::now(sent));
                }
                Outcome::Refused(refused) => refused,
            };
            if let Some(Some(marker)) = refused.get(1) {
                let value = told(&claim.recognise(marker.item.as_ref())?)?;
                return Ok(Done {
                    // The marker may be our own, its answer lost: then this is not a repetition.
                    replayed: value.id != draft.id_at(value.seq),
                    value,
                });
            }
            race.pause().await?;
            last = self.query_tail(draft.thread).await?;
            log.saw(last);
            log.ended();
        }
    }

    /// What an earlier request with `claim` was told, if there was one.
    pub async fn sent_before(
        &self,
        guards: &GuardStore,
        claim: &Claim,
    ) -> Result<Option<Sent>, Error> {
        let claimed = guards.used(claim).await?;
        claimed.as_ref().map(told).transpose()
    }

    /// Writes `draft` under `seq` unless that is taken.
    ///
    /// The SDK repeats a put whose answer was lost. The repeat then finds the key taken by this very
    /// message, which is why the old item is asked for and its id compared.
    async fn put_if_free(&self, draft: &Draft, seq: Seq) -> Result<Slot, Error> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_item(draft, seq)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .send()
            .await;
        let Err(error) = put else {
            return Ok(Slot::Written);
        };
        match refusal(error, &self.table) {
            Ok(Some(taken)) if taken.get("id") == Some(&s(draft.id_at(seq))) => Ok(Slot::Written),
            Ok(_) => Ok(Slot::Taken),
            Err(Verdict::Again(error)) => Ok(Slot::Unsure(error)),
            Err(Verdict::Fault(error)) => Err(error),
        }
    }

    fn put(&self, draft: &Draft, seq: Seq) -> Result<Put, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item(draft, seq)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)
    }

    /// The last seq of a log.
    ///
    /// One strongly consistent read, unless this process is the only writer and knows how all of its
    /// writes ended.
    pub async fn tail(&self, thread: Thread) -> Result<Seq, Error> {
        let log = self.turns.log(thread);
        if self.single_writer
            && log.is_sure()
            && let Some(seen) = log.seen()
        {
            return Ok(seen);
        }
        self.look(thread).await
    }

    /// A seq of a log that is likely its last, to begin an append with: a wrong guess costs a try.
    pub async fn tail_hint(&self, thread: Thread) -> Result<Seq, Error> {
        match self.turns.log(thread).seen() {
            Some(seen) if self.single_writer => Ok(seen),
            Some(_) | None => self.look(thread).await,
        }
    }

    async fn look(&self, thread: Thread) -> Result<Seq, Error> {
        let log = self.turns.log(thread);
        let tail = self.query_tail(thread).await?;
        log.saw(tail);
        Ok(tail)
    }

    /// Whether `seq` exists in a log. A log never shrinks, so what was once seen need not be read again.
    pub async fn reaches(&self, thread: Thread, seq: Seq) -> Result<bool, Error> {
        let log = self.turns.log(thread);
        if log.seen().is_some_and(|seen| seen >= seq) {
            return Ok(true);
        }
        let tail = self.query_tail(thread).await?;
        log.saw(tail);
        Ok(tail >= seq)
    }

    async fn query_tail(&self, thread: Thread) -> Result<Seq, Error> {
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(1)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", s(partition(thread)))
            .projection_expression("sk")
            .send()
            .await
            .map_err(fault(&self.table))?;
        match page.items().first() {
            None => Ok(Seq::ZERO),
            Some(item) => Ok(Seq::new(item.parse("sk")?)),
        }
    }

    /// A seq of a log that was sent before `at`, and whose successor was not: the last that was sent before, unless the
    /// clocks of senders differ. A log of millions is asked about twenty times.
    pub async fn last_before(&self, thread: Thread, at: Timestamp) -> Result<Seq, Error> {
        /// The first page is likely enough: few messages come before somebody looks.
        const PAGE: i32 = 10;
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(PAGE)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", s(partition(thread)))
            .projection_expression("sk, created_at")
            .send()
            .await
            .map_err(fault(&self.table))?;
        let mut after = Seq::ZERO;
        for item in page.items() {
            after = Seq::new(item.parse("sk")?);
            if item.parse::<Timestamp>("created_at")? < at {
                return Ok(after);
            }
        }
        // What was sent before is before `after`: halve what lies between.
        let mut before = Seq::ZERO;
        while after.since(before) > 1 {
            let middle = Seq::new(before.get() + after.since(before) / 2);
            if self.is_before(thread, middle, at).await? {
                before = middle;
            } else {
                after = middle;
            }
        }
        Ok(before)
    }

    /// Whether the message `seq` of a log was sent before `at`.
    async fn is_before(&self, thread: Thread, seq: Seq, at: Timestamp) -> Result<bool, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(partition(thread)))
            .key("sk", s(sort(seq)))
            .consistent_read(true)
            .projection_expression("created_at")
            .send()
            .await
            .map_err(fault(&self.table))?;
        let item = found.item.ok_or_else(|| malformed("sk"))?;
        Ok(item.parse::<Timestamp>("created_at")? < at)
    }

    /// The message named `id`, if that log has it.
    pub async fn get(&self, thread: Thread, id: MessageId) -> Result<Option<Message>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(partition(thread)))
            .key("sk", s(sort(id.seq())))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        let Some(item) = found.item else {
            return Ok(None);
        };
        let message = from_item(item)?;
        // The seq in the id is the client's word; the item's id is ours.
        Ok((message.id == id).then_some(message))
    }

    /// The messages of a log within `range`, ascending: fewer than it asks for if they are heavy.
    pub async fn range(&self, thread: Thread, range: Range) -> Result<Stretch, Error> {
        let forward = range.after.is_some() || range.before.is_none();
        let first = range.after.unwrap_or(Seq::ZERO).next();
        let last = match range.before {
            Some(before) => Seq::new(before.get().saturating_sub(1)),
            None => Seq::MAX,
        };
        let mut stretch = Stretch {
            messages: Vec::new(),
            more: false,
        };
        if first > last || (range.after == Some(Seq::MAX)) {
            return Ok(stretch);
        }
        let mut weight = 0;
        let mut start = None;
        // A page of DynamoDB ends at 1 MB: 100 messages of 48 KB take several.
        'pages: loop {
            let left = range.limit - stretch.messages.len();
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .scan_index_forward(forward)
                .limit(i32::try_from(left).unwrap_or(i32::MAX))
                .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
                .expression_attribute_values(":pk", s(partition(thread)))
                .expression_attribute_values(":first", s(sort(first)))
                .expression_attribute_values(":last", s(sort(last)))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(fault(&self.table))?;
            for item in page.items.unwrap_or_default() {
                let message = from_item(item)?;
                let adjoins = stretch.messages.last().is_none_or(|known| {
                    let (low, high) = if forward {
                        (known.seq, message.seq)
                    } else {
                        (message.seq, known.seq)
                    };
                    low.next() == high
                });
                weight += message.weight();
                // A query is no snapshot: what does not adjoin is shown once what is between is there.
                if !adjoins || (weight > HEAVIEST && !stretch.messages.is_empty()) {
                    stretch.more = true;
                    break 'pages;
                }
                stretch.messages.push(message);
            }
            start = page.last_evaluated_key;
            stretch.more = start.is_some();
            if start.is_none() || stretch.messages.len() >= range.limit {
                break;
            }
        }
        if !forward {
            stretch.messages.reverse();
        }
        Ok(stretch)
    }

    /// Changes the message named `id`, conditioned on its id and on `author` having written it.
    ///
    /// Taking back what was taken back already succeeds; changing it does not.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown, forged or deleted message, [`Error::Forbidden`] for
    /// somebody else's.
    pub async fn change(
        &self,
        thread: Thread,
        id: MessageId,
        author: &UserId,
        change: &Change,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<Message, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(thread)))
            .key("sk", s(sort(id.seq())))
            .condition_expression(
                "id = :id AND author = :author AND attribute_not_exists(deleted_at)",
            )
            .expression_attribute_values(":id", s(id))
            .expression_attribute_values(":author", s(author))
            .expression_attribute_values(":now", s(now))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(AllOld);
        let update = match change {
            Change::Edit {
                content,
                meta: None,
            } => update
                .update_expression("SET content = :content, edited_at = :now")
                .expression_attribute_values(":content", s(content.as_str())),
            Change::Edit {
                content,
                meta: Some(meta),
            } => update
                .update_expression("SET content = :content, meta = :meta, edited_at = :now")
                .expression_attribute_values(":content", s(content.as_str()))
                .expression_attribute_values(":meta", s(meta.as_str())),
            Change::Delete => update
                .update_expression(
                    "SET content = :nothing, deleted_at = :now REMOVE meta, edited_at",
                )
                .expression_attribute_values(":nothing", s("")),
        };
        let standing = match settle(race, &self.table, || update.clone().send()).await? {
            Ok(done) => return from_item(done.attributes.unwrap_or_default()),
            Err(standing) => standing,
        };
        let Some(item) = standing else {
            return Err(Error::NotFound("Message"));
        };
        let message = from_item(item)?;
        if message.id != id {
            return Err(Error::NotFound("Message"));
        }
        if message.author != *author {
            return Err(Error::Forbidden("Only the author may change a message"));
        }
        match change {
            Change::Delete => Ok(message),
            Change::Edit { .. } => Err(Error::NotFound("Message")),
        }
    }
}

/// What a marker says was sent.
fn told(Claimed { outcome }: &Claimed) -> Result<Sent, Error> {
    let id: MessageId = outcome.parse("id")?;
    Ok(Sent {
        id,
        seq: id.seq(),
        created_at: outcome.parse("created_at")?,
    })
}

fn partition(thread: Thread) -> String {
    format!("{}#{}", thread.tenant, thread.room)
}

/// Zero-padded, so that text order is number order.
fn sort(seq: Seq) -> String {
    format!("{:020}", seq.get())
}

fn to_item(draft: &Draft, seq: Seq) -> Item {
    NewItem::new()
        .s("pk", partition(draft.thread))
        .s("sk", sort(seq))
        .s("id", draft.id_at(seq))
        .s("author", &draft.author)
        .s("content", draft.content.as_str())
        .s_opt("meta", draft.meta.as_ref().map(Json::as_str))
        .s("created_at", draft.created_at)
        .build()
}

fn from_item(mut item: Item) -> Result<Message, Error> {
    let mut promised = |name| take(&mut item, name)?.ok_or_else(|| malformed(name));
    let (author, content) = (promised("author")?, promised("content")?);
    Ok(Message {
        author: UserId::stored(author),
        content,
        meta: take(&mut item, "meta")?.map(Json::stored),
        id: item.parse("id")?,
        seq: Seq::new(item.parse("sk")?),
        created_at: item.parse("created_at")?,
        edited_at: item.time_opt("edited_at")?,
        deleted_at: item.time_opt("deleted_at")?,
    })
}

/// What a record of the table's stream tells: a message was written, changed or taken back. `text` gives the
/// string attributes of its new image.
///
/// # Errors
///
/// [`Error::Internal`] if it is not a message's.
pub fn told_of<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<(TenantId, Subject), Error> {
    let Thread { tenant, room } = thread_of(&text)?;
    let id = text("id").ok_or_else(|| malformed("id"))?;
    let id = id.parse().map_err(|_| malformed("id"))?;
    let subject = match (text("deleted_at"), text("edited_at")) {
        (Some(_), _) => Subject::MessageDeleted { room, id },
        (None, Some(at)) => Subject::MessageEdited {
            room,
            id,
            at: at.parse().map_err(|_| malformed("edited_at"))?,
        },
        (None, None) => Subject::MessageCreated { room, id },
    };
    Ok((tenant, subject))
}

/// What a record of the table's stream says of a message that was appended.
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    /// Its place.
    pub seq: Seq,
    /// When it was sent.
    pub created_at: Timestamp,
}

/// The log that an item is of.
fn thread_of<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<Thread, Error> {
    let (tenant, room) = text("pk")
        .and_then(|pk| pk.split_once('#'))
        .ok_or_else(|| malformed("pk"))?;
    Ok(Thread {
        tenant: tenant.parse().map_err(|_| malformed("pk"))?,
        room: room.parse().map_err(|_| malformed("pk"))?,
    })
}

/// Reads the new image of an inserted item, whose string attributes `text` gives.
///
/// # Errors
///
/// [`Error::Internal`] if it is not a message's.
pub fn appended<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<(Thread, Appended), Error> {
    let thread = thread_of(&text)?;
    let parse = |name| text(name).ok_or_else(|| malformed(name));
    Ok((
        thread,
        Appended {
            seq: Seq::new(parse("sk")?.parse().map_err(|_| malformed("sk"))?),
            created_at: parse("created_at")?
                .parse()
                .map_err(|_| malformed("created_at"))?,
        },
    ))
}
