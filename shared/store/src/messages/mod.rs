//! The log: messages in DynamoDB.
//!
//! | table      | partition key                | sort key               | other attributes                                                                  |
//! |------------|------------------------------|------------------------|-----------------------------------------------------------------------------------|
//! | `messages` | `tenant#room`, `tenant#chat` | `00000000000000000042` | `id`, `author`, `content`, `meta?` (JSON), `created_at`, `edited_at?`, `deleted_at?`, `role?`, `in_reply_to?`, `answer?` |
//!
//! **Invariant:** the seqs of one log are exactly 1 to n. A message is written only after its
//! predecessor was seen, and only if its own key is free, so there is no gap and no duplicate, and a
//! reader that sees n can read everything before it. Nothing is ever removed: a deleted message leaves a
//! tombstone. `created_at` never decreases from one seq to the next: the writer knows the message before with its time, and
//! takes that if its own clock is behind. Only the log of a chat that was deleted goes, as a whole, when nobody can reach or write it any more.

mod removal;

use aws_sdk_dynamodb::{
    Client,
    types::{
        Put, ReturnValue, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
    },
};
use tokio::time::Instant;

use super::{
    Backoff,
    aws::{Verdict, fault, refusal, settle},
    guards::{Claim, Claimed, GuardStore},
    item::{Item, NewItem, Read, malformed, s, take},
    transaction::{self, Outcome, Refusal},
    turns::Turns,
};
use crate::domain::{
    Done, Error, Log, LogId, MessageId, TenantId, Timestamp, UserId,
    delivery::Subject,
    message::{Content, Draft, Json, Message, Range, Role, Sent, Seq, Stretch, Tail},
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

/// How many pages of DynamoDB, each of at most 1 MB, are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    /// The first.
    One,
    /// As many as it takes.
    All,
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

/// What became of an append that other writes went with.
pub(super) enum Together {
    /// All was written: by this try, or by an earlier one whose answer was lost.
    Appended(Sent),
    /// Nothing was written. For each of the others, in their order, whether it was refused.
    Refused(Vec<Option<Refusal>>),
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

    /// Appends `draft` to its log under the next seq. `tail` is a message known to exist.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if other writers kept taking the number until `deadline`,
    /// [`Error::Unavailable`] if the table could not be written until then.
    pub async fn append(
        &self,
        draft: &Draft,
        tail: Tail,
        deadline: Instant,
    ) -> Result<Sent, Error> {
        let log = self.turns.log(draft.log);
        let _turn = log.turn(deadline).await?;
        let mut last = log.seen().map_or(tail, |seen| seen.later(tail));
        let mut race = Backoff::until(deadline, draft.seed);
        loop {
            let sent = draft.sent_after(last);
            log.begins();
            match self.put_if_free(draft, &sent).await? {
                Slot::Written => {
                    log.saw(Tail::from(&sent));
                    log.ended();
                    return Ok(sent);
                }
                Slot::Taken => {
                    race.pause().await?;
                    last = self.query_tail(draft.log).await?;
                    log.saw(last);
                    log.ended();
                }
                Slot::Unsure(error) => race.pause().await.map_err(|_| error)?,
            }
        }
    }

    /// Appends `draft` as [`MessageStore::append`] does, in one transaction with the writes that `others` makes of
    /// where it is stored: all of it is written, or nothing.
    pub(super) async fn append_with(
        &self,
        draft: &Draft,
        tail: Tail,
        others: impl Fn(&Sent) -> Result<Vec<TransactWriteItem>, Error>,
        deadline: Instant,
    ) -> Result<Together, Error> {
        let log = self.turns.log(draft.log);
        let _turn = log.turn(deadline).await?;
        let mut last = log.seen().map_or(tail, |seen| seen.later(tail));
        let mut race = Backoff::until(deadline, draft.seed);
        loop {
            let sent = draft.sent_after(last);
            let mut writes = vec![transaction::put(self.put(draft, &sent)?)];
            writes.extend(others(&sent)?);
            log.begins();
            let mut refused = match transaction::commit(&self.client, &writes, &mut race).await? {
                Outcome::Committed => {
                    log.saw(Tail::from(&sent));
                    log.ended();
                    return Ok(Together::Appended(sent));
                }
                Outcome::Refused(refused) => refused,
            };
            let others = refused.split_off(1);
            let standing = refused.pop().flatten().and_then(|taken| taken.item);
            if standing.is_some_and(|item| item.get("id") == Some(&s(sent.id))) {
                // An earlier try of ours landed and its answer was lost: what the others met is its effect.
                log.saw(Tail::from(&sent));
                log.ended();
                return Ok(Together::Appended(sent));
            }
            if others.iter().any(Option::is_some) {
                return Ok(Together::Refused(others));
            }
            race.pause().await?;
            last = self.query_tail(draft.log).await?;
            log.saw(last);
            log.ended();
        }
    }

    /// Appends `draft` as [`MessageStore::append`] does, and claims `claim` in the same transaction, so
    /// that the message is written by one of all requests with that key.
    pub async fn append_once(
        &self,
        draft: &Draft,
        tail: Tail,
        claim: &Claim,
        deadline: Instant,
    ) -> Result<Done<Sent>, Error> {
        let marker = |sent: &Sent| Ok(vec![claim.write(outcome(sent))?]);
        match self.append_with(draft, tail, marker, deadline).await? {
            Together::Appended(sent) => Ok(Done::now(sent)),
            Together::Refused(refused) => {
                let marker = refused.into_iter().flatten().next();
                let marker = marker.and_then(|refusal| refusal.item);
                told(&claim.recognise(marker.as_ref())?).map(Done::before)
            }
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

    /// Writes `draft` as `sent` unless its seq is taken.
    ///
    /// The SDK repeats a put whose answer was lost. The repeat then finds the key taken by this very
    /// message, which is why the old item is asked for and its id compared. Its time is the same too: it follows from the
    /// message before, which never changes.
    async fn put_if_free(&self, draft: &Draft, sent: &Sent) -> Result<Slot, Error> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_item(draft, sent)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .send()
            .await;
        let Err(error) = put else {
            return Ok(Slot::Written);
        };
        match refusal(error, &self.table) {
            Ok(Some(taken)) if taken.get("id") == Some(&s(sent.id)) => Ok(Slot::Written),
            Ok(_) => Ok(Slot::Taken),
            Err(Verdict::Again(error)) => Ok(Slot::Unsure(error)),
            Err(Verdict::Fault(error)) => Err(error),
        }
    }

    fn put(&self, draft: &Draft, sent: &Sent) -> Result<Put, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item(draft, sent)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)
    }

    /// Notes on the message `question` that it is answered by `answer`, if it is not answered yet: for the transaction that
    /// appends the answer.
    pub(super) fn answered(
        &self,
        log: LogId,
        question: MessageId,
        answer: MessageId,
    ) -> Result<TransactWriteItem, Error> {
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(sort(question.seq())))
            .update_expression("SET answer = :answer")
            .condition_expression("id = :question AND attribute_not_exists(answer)")
            .expression_attribute_values(":question", s(question))
            .expression_attribute_values(":answer", s(answer))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map(transaction::update)
            .map_err(Error::internal)
    }

    /// The last seq of a log.
    ///
    /// One strongly consistent read, unless this process is the only writer and knows how all of its
    /// writes ended.
    pub async fn tail(&self, log: LogId) -> Result<Seq, Error> {
        let known = self.turns.log(log);
        if self.single_writer
            && known.is_sure()
            && let Some(seen) = known.seen()
        {
            return Ok(seen.seq);
        }
        Ok(self.look(log).await?.seq)
    }

    /// A message of a log that is likely its last, to begin an append with: a wrong guess costs a try.
    pub async fn tail_hint(&self, log: LogId) -> Result<Tail, Error> {
        match self.turns.log(log).seen() {
            Some(seen) if self.single_writer => Ok(seen),
            Some(_) | None => self.look(log).await,
        }
    }

    async fn look(&self, log: LogId) -> Result<Tail, Error> {
        let known = self.turns.log(log);
        let tail = self.query_tail(log).await?;
        known.saw(tail);
        Ok(tail)
    }

    /// Whether `seq` exists in a log. A log never shrinks, so what was once seen need not be read again.
    pub async fn reaches(&self, log: LogId, seq: Seq) -> Result<bool, Error> {
        let known = self.turns.log(log);
        if known.seen().is_some_and(|seen| seen.seq >= seq) {
            return Ok(true);
        }
        let tail = self.query_tail(log).await?;
        known.saw(tail);
        Ok(tail.seq >= seq)
    }

    async fn query_tail(&self, log: LogId) -> Result<Tail, Error> {
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(1)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", s(partition(log)))
            .projection_expression("sk, created_at")
            .send()
            .await
            .map_err(fault(&self.table))?;
        match page.items().first() {
            None => Ok(Tail::EMPTY),
            Some(item) => Ok(Tail {
                seq: Seq::new(item.parse("sk")?),
                created_at: Some(item.parse("created_at")?),
            }),
        }
    }

    /// The last seq of a log that was sent before `at`: times never decrease in a log. One of millions is asked about twenty
    /// times.
    pub async fn last_before(&self, log: LogId, at: Timestamp) -> Result<Seq, Error> {
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
            .expression_attribute_values(":pk", s(partition(log)))
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
            if self.is_before(log, middle, at).await? {
                before = middle;
            } else {
                after = middle;
            }
        }
        Ok(before)
    }

    /// Whether the message `seq` of a log was sent before `at`.
    async fn is_before(&self, log: LogId, seq: Seq, at: Timestamp) -> Result<bool, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
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
    pub async fn get(&self, log: LogId, id: MessageId) -> Result<Option<Message>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
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
    pub async fn range(&self, log: LogId, range: Range) -> Result<Stretch, Error> {
        self.stretch(log, range, true, Pages::All).await
    }

    /// The last messages of a log before `before`, ascending: at most `limit`, and as many as one page of DynamoDB holds,
    /// 1 MB. One round trip.
    pub async fn last(&self, log: LogId, before: Seq, limit: usize) -> Result<Vec<Message>, Error> {
        let range = Range {
            after: None,
            before: Some(before),
            limit,
        };
        let last = self.stretch(log, range, true, Pages::One).await?;
        Ok(last.messages)
    }

    /// The same at half the price, as it was a moment ago: what was written since may be missing.
    pub async fn range_about(&self, log: LogId, range: Range) -> Result<Stretch, Error> {
        self.stretch(log, range, false, Pages::All).await
    }

    async fn stretch(
        &self,
        log: LogId,
        range: Range,
        is_consistent: bool,
        pages: Pages,
    ) -> Result<Stretch, Error> {
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
                .consistent_read(is_consistent)
                .scan_index_forward(forward)
                .limit(i32::try_from(left).unwrap_or(i32::MAX))
                .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
                .expression_attribute_values(":pk", s(partition(log)))
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
            let is_all = start.is_none() || stretch.messages.len() >= range.limit;
            if is_all || pages == Pages::One {
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
    /// Taking back what was taken back already succeeds; changing it does not. A change is later than the message and than
    /// the change before it, whatever the clock says: of two changes, clients keep the one with the later time.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown, forged or deleted message, [`Error::Forbidden`] for
    /// somebody else's.
    pub async fn change(
        &self,
        log: LogId,
        id: MessageId,
        author: &UserId,
        change: &Change,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<Message, Error> {
        let mut at = now;
        loop {
            let standing = match self.try_change(log, id, author, change, at, race).await? {
                Ok(changed) => return Ok(changed),
                Err(standing) => standing,
            };
            let Some(message) = standing.map(from_item).transpose()? else {
                return Err(Error::NotFound("Message"));
            };
            if message.id != id {
                return Err(Error::NotFound("Message"));
            }
            if message.author != *author {
                return Err(Error::Forbidden("Only the author may change a message"));
            }
            if message.deleted_at.is_some() {
                return match change {
                    Change::Delete => Ok(message),
                    Change::Edit { .. } => Err(Error::NotFound("Message")),
                };
            }
            let last = message.edited_at.unwrap_or(message.created_at);
            at = last.max(message.created_at).plus_micros(1);
            race.pause().await?;
        }
    }

    /// One try of [`MessageStore::change`] at the time `at`: what it has become, or the message as it stands.
    async fn try_change(
        &self,
        log: LogId,
        id: MessageId,
        author: &UserId,
        change: &Change,
        at: Timestamp,
        race: &mut Backoff,
    ) -> Result<Result<Message, Option<Item>>, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(sort(id.seq())))
            .condition_expression(
                "id = :id AND author = :author AND attribute_not_exists(deleted_at) AND created_at <= :now AND \
                 (attribute_not_exists(edited_at) OR edited_at <= :now)",
            )
            .expression_attribute_values(":id", s(id))
            .expression_attribute_values(":author", s(author))
            .expression_attribute_values(":now", s(at))
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
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(done) => from_item(done.attributes.unwrap_or_default()).map(Ok),
            Err(standing) => Ok(Err(standing)),
        }
    }
}

/// What a marker keeps of what was sent.
pub(super) fn outcome(sent: &Sent) -> Item {
    NewItem::new()
        .s("id", sent.id)
        .s("created_at", sent.created_at)
        .build()
}

/// What a marker says was sent.
pub(super) fn told(Claimed { outcome }: &Claimed) -> Result<Sent, Error> {
    let id: MessageId = outcome.parse("id")?;
    Ok(Sent {
        id,
        seq: id.seq(),
        created_at: outcome.parse("created_at")?,
    })
}

fn partition(log: LogId) -> String {
    log.to_string()
}

/// Zero-padded, so that text order is number order.
fn sort(seq: Seq) -> String {
    format!("{:020}", seq.get())
}

fn to_item(draft: &Draft, sent: &Sent) -> Item {
    NewItem::new()
        .s("pk", partition(draft.log))
        .s("sk", sort(sent.seq))
        .s("id", sent.id)
        .s("author", &draft.author)
        .s_opt("role", draft.role.map(Role::as_str))
        .s_opt("in_reply_to", draft.in_reply_to)
        .s("content", draft.content.as_str())
        .s_opt("meta", draft.meta.as_ref().map(Json::as_str))
        .s("created_at", sent.created_at)
        .build()
}

fn from_item(mut item: Item) -> Result<Message, Error> {
    let mut promised = |name| take(&mut item, name)?.ok_or_else(|| malformed(name));
    let (author, content) = (promised("author")?, promised("content")?);
    Ok(Message {
        author: UserId::stored(author),
        role: item.parse_opt("role")?,
        in_reply_to: item.parse_opt("in_reply_to")?,
        answer: item.parse_opt("answer")?,
        content,
        meta: take(&mut item, "meta")?.map(Json::stored),
        id: item.parse("id")?,
        seq: Seq::new(item.parse("sk")?),
        created_at: item.parse("created_at")?,
        edited_at: item.time_opt("edited_at")?,
        deleted_at: item.time_opt("deleted_at")?,
    })
}

/// What a record of the table's stream tells: a message of a room was written, changed or taken back. `text` gives
/// the string attributes of its new image. `None` for a message of a chat, which is told to nobody.
///
/// # Errors
///
/// [`Error::Internal`] if it is not a message's.
pub fn told_of<'a>(
    text: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<(TenantId, Subject)>, Error> {
    let LogId { tenant, log } = log_of(&text)?;
    match log {
        Log::Room(_) => {}
        Log::Chat(_) => return Ok(None),
    }
    let id = text("id").ok_or_else(|| malformed("id"))?;
    let id = id.parse().map_err(|_| malformed("id"))?;
    let subject = match (text("deleted_at"), text("edited_at")) {
        (Some(_), _) => Subject::MessageDeleted { log, id },
        (None, Some(at)) => Subject::MessageEdited {
            log,
            id,
            at: at.parse().map_err(|_| malformed("edited_at"))?,
        },
        (None, None) => Subject::MessageCreated { log, id },
    };
    Ok(Some((tenant, subject)))
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
fn log_of<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<LogId, Error> {
    let (tenant, log) = text("pk")
        .and_then(|pk| pk.split_once('#'))
        .ok_or_else(|| malformed("pk"))?;
    Ok(LogId {
        tenant: tenant.parse().map_err(|_| malformed("pk"))?,
        log: log.parse().map_err(|_| malformed("pk"))?,
    })
}

/// Reads the new image of an inserted item, whose string attributes `text` gives. `None` for a message of a chat:
/// its head follows no log.
///
/// # Errors
///
/// [`Error::Internal`] if it is not a message's.
pub fn appended<'a>(
    text: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<(LogId, Appended)>, Error> {
    let log = log_of(&text)?;
    match log.log {
        Log::Room(_) => {}
        Log::Chat(_) => return Ok(None),
    }
    let parse = |name| text(name).ok_or_else(|| malformed(name));
    let appended = Appended {
        seq: Seq::new(parse("sk")?.parse().map_err(|_| malformed("sk"))?),
        created_at: parse("created_at")?
            .parse()
            .map_err(|_| malformed("created_at"))?,
    };
    Ok(Some((log, appended)))
}
