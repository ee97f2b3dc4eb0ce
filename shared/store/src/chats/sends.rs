//! A question and its answer: the two transactions of a send.

use aws_sdk_dynamodb::types::Update;

use super::{ChatStore, HEAD, partition};
use crate::{
    domain::{
        Error, MessageId,
        agent::Version,
        message::{Draft, Sent, Tail},
        model_usage::Use,
    },
    guards::{Claim, GuardStore, Lease, Pending},
    item::{Read, n, s},
    messages::{MessageStore, Together, outcome},
    model_usage::ModelUsageStore,
    transaction::{self, Refusal},
};
use tokio::time::Instant;

/// What became of a question.
#[derive(Debug)]
pub enum Asked {
    /// It is stored, by this request, which holds its lease.
    Now(Sent),
    /// An earlier request with the same key stored it.
    Before(Earlier),
    /// The chat is gone, and nothing is stored.
    Gone,
}

/// A question that an earlier request stored.
#[derive(Debug, Clone, Copy)]
pub struct Earlier {
    /// Which message it is.
    pub question: MessageId,
    /// Who answers it, or did.
    pub lease: Lease,
}

/// An answer to be stored.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The answer.
    pub draft: &'a Draft,
    /// What it answers.
    pub question: MessageId,
    /// Which version of the chat's agent gave it.
    pub version: Version,
    /// What was used for it.
    pub used: &'a Use,
}

/// What became of an answer.
#[derive(Debug)]
pub enum Kept {
    /// It is stored.
    Now(Sent),
    /// The question has this answer already.
    Before(MessageId),
    /// The chat is gone, and nothing is stored.
    Gone,
}

impl ChatStore {
    /// Appends the question `draft` to its chat's log, once per claim: whoever does takes the lease. One transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the claim was used for another request; else as [`MessageStore::append`].
    pub async fn ask(
        &self,
        messages: &MessageStore,
        draft: &Draft,
        tail: Tail,
        once: Option<(&Claim, &Lease)>,
        deadline: Instant,
    ) -> Result<Asked, Error> {
        let others = |sent: &Sent| {
            let mut writes = vec![self.is_there(draft.log)?];
            if let Some((claim, lease)) = once {
                writes.push(claim.begin(outcome(sent), lease)?);
            }
            Ok(writes)
        };
        let refused = match messages.append_with(draft, tail, others, deadline).await? {
            Together::Appended(sent) => return Ok(Asked::Now(sent)),
            Together::Refused(refused) => refused,
        };
        let mut refused = refused.into_iter();
        if refused.next().flatten().is_some() {
            return Ok(Asked::Gone);
        }
        let marker = refused.next().flatten().and_then(|refusal| refusal.item);
        let (claim, _) = once.ok_or(Error::Busy)?;
        earlier(&claim.pending(marker.as_ref())?).map(Asked::Before)
    }

    /// The question that an earlier request with `claim` stored, if one did.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the claim was used for another request.
    pub async fn asked_before(
        &self,
        guards: &GuardStore,
        claim: &Claim,
    ) -> Result<Option<Earlier>, Error> {
        let pending = guards.pending(claim).await?;
        pending.as_ref().map(earlier).transpose()
    }

    /// Appends `answer`, if its question has none, and counts what was used for it. One transaction.
    ///
    /// # Errors
    ///
    /// As [`MessageStore::append`].
    pub async fn answer(
        &self,
        messages: &MessageStore,
        usage: &ModelUsageStore,
        answer: &Answer<'_>,
        tail: Tail,
        deadline: Instant,
    ) -> Result<Kept, Error> {
        let Answer {
            draft,
            question,
            version,
            used,
        } = *answer;
        let others = |sent: &Sent| {
            let head = Update::builder()
                .table_name(&self.table)
                .key("pk", s(partition(draft.log)))
                .key("sk", s(HEAD))
                .update_expression("SET answered_by = :version")
                .condition_expression("attribute_exists(pk)")
                .expression_attribute_values(":version", n(version.0))
                .build()
                .map(transaction::update)
                .map_err(Error::internal)?;
            let mut writes = vec![head, messages.answered(draft.log, question, sent.id)?];
            writes.extend(usage.writes(used)?);
            Ok(writes)
        };
        let refused = match messages.append_with(draft, tail, others, deadline).await? {
            Together::Appended(sent) => return Ok(Kept::Now(sent)),
            Together::Refused(refused) => refused,
        };
        let mut refused = refused.into_iter();
        if refused.next().flatten().is_some() {
            return Ok(Kept::Gone);
        }
        match refused.next().flatten() {
            Some(Refusal { item: Some(item) }) => item.parse("answer").map(Kept::Before),
            // The log goes after its chat.
            Some(Refusal { item: None }) | None => Ok(Kept::Gone),
        }
    }
}

fn earlier(pending: &Pending) -> Result<Earlier, Error> {
    Ok(Earlier {
        question: pending.outcome.parse("id")?,
        lease: pending.lease,
    })
}
