//! What a request that added members was answered, kept for the same request sent again.
//!
//! | what              | attributes of the marker's `outcome`                         |
//! |-------------------|--------------------------------------------------------------|
//! | the members added | `places`: a list of `role joined_at user`, in the users' order |

use super::RoomStore;
use crate::{
    Backoff,
    domain::{Done, Error, UserId, message::Seq, room::Member},
    guards::{Claim, GuardStore},
    item::{Item, NewItem, Read, malformed},
};

impl RoomStore {
    /// What an earlier request with `claim` was answered.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key was used for another request.
    pub async fn joined_before(
        &self,
        guards: &GuardStore,
        claim: &Claim,
    ) -> Result<Option<Vec<Member>>, Error> {
        let claimed = guards.used(claim).await?;
        claimed.map(|claimed| places(&claimed.outcome)).transpose()
    }

    /// Remembers that the request with `claim` is answered with `members`: or with what the same request,
    /// sent twice at once, was answered first.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key was used for another request meanwhile.
    pub async fn remember_joined(
        &self,
        guards: &GuardStore,
        claim: &Claim,
        members: Vec<Member>,
        race: &mut Backoff,
    ) -> Result<Done<Vec<Member>>, Error> {
        let shown = members.iter().map(|member| {
            format!(
                "{} {} {}",
                member.role.as_str(),
                member.joined_at,
                member.user
            )
        });
        let outcome = NewItem::new().list("places", shown).build();
        match guards.mark(claim, outcome, race).await? {
            None => Ok(Done::now(members)),
            Some(first) => places(&first.outcome).map(Done::now),
        }
    }
}

fn places(outcome: &Item) -> Result<Vec<Member>, Error> {
    let wrong = || malformed("places");
    let place = |text: &str| {
        let (role, rest) = text.split_once(' ').ok_or_else(wrong)?;
        let (joined_at, user) = rest.split_once(' ').ok_or_else(wrong)?;
        Ok(Member {
            user: UserId::stored(user.to_owned()),
            role: role.parse().map_err(|_| wrong())?,
            joined_at: joined_at.parse().map_err(|_| wrong())?,
            acked_seq: Seq::ZERO,
            joined_seq: None,
        })
    };
    outcome.texts("places")?.into_iter().map(place).collect()
}
