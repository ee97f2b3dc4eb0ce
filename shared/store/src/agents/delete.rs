//! Deleting an agent, and removing what is left of it.

use aws_sdk_dynamodb::types::{
    Delete, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
};

use super::{
    AgentStore, COUNT,
    items::{agents, key, mark, version, versions},
    standing::{Basis, Standing},
};
use crate::{
    Backoff,
    domain::{
        AgentId, Error, EventId, Moment, OwnAgentId, TenantId,
        agent::Agent,
        event::{Event, EventKind},
    },
    item::{n, s},
    removal,
    transaction::{self, Outcome},
};

impl AgentStore {
    /// Deletes an agent. Of one that the tenant has made the versions are left: an event says so. Whether it was there.
    pub async fn delete(
        &self,
        tenant: TenantId,
        id: AgentId,
        moment: &Moment,
    ) -> Result<bool, Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        loop {
            let standing = self.standing(tenant, id).await?;
            let basis = standing.basis();
            // A repetition after a lost answer cannot tell its own effect from an agent that never was.
            let Some(old) = standing.agent(id) else {
                return Ok(false);
            };
            let writes = match id {
                AgentId::BuiltIn(_) => {
                    let sets = vec![
                        ("version", n(old.version.0)),
                        ("change", s(mark(moment))),
                        ("deleted_at", s(moment.now)),
                    ];
                    let mut writes =
                        vec![self.update(key(agents(tenant), id), basis, sets, &[])?];
                    if let Basis::Nothing = basis {
                        writes.push(self.put_new(version(tenant, &old))?);
                    }
                    writes
                }
                AgentId::Own(agent) => {
                    let deleted = Event {
                        id: EventId::at(moment),
                        at: moment.now,
                        actor: None,
                        room: None,
                        kind: EventKind::AgentDeleted(agent),
                    };
                    let mut writes = self.removal(tenant, &old)?;
                    writes.push(self.events.write(tenant, &deleted)?);
                    writes
                }
            };
            let refused = match transaction::commit(&self.client, &writes, &mut race).await? {
                Outcome::Committed => return Ok(true),
                Outcome::Refused(refused) => refused,
            };
            let current = refused.first().and_then(Option::as_ref);
            match current.map(|standing| standing.item.as_ref()) {
                // Somebody has deleted it since, perhaps we.
                Some(None) => return Ok(true),
                Some(Some(item)) if item.contains_key("deleted_at") => {
                    return Ok(true);
                }
                // Somebody has changed it since.
                Some(Some(_)) | None => race.pause().await?,
            }
        }
    }

    /// Removes the first versions of an agent that [`AgentStore::delete`] has left, at most `limit` of them; of one that is
    /// there nothing. Whether more are left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] or [`Error::Unavailable`] at the deadline of `race`: some of them may be gone.
    pub async fn remove_versions(
        &self,
        tenant: TenantId,
        id: OwnAgentId,
        limit: usize,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let id = AgentId::Own(id);
        match self.standing(tenant, id).await? {
            Standing::Nothing => {}
            Standing::Agent(_) | Standing::Deleted(_) | Standing::Later(_) => return Ok(false),
        }
        removal::remove_first(&self.client, &self.table, versions(tenant, id), limit, race).await
    }

    /// Removes an agent that a tenant has made, as long as it stands as it was.
    fn removal(&self, tenant: TenantId, old: &Agent) -> Result<Vec<TransactWriteItem>, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(agents(tenant), old.id)))
            .condition_expression("#version = :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", n(old.version.0))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        let count = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(agents(tenant), COUNT)))
            .update_expression("SET agents = agents - :one")
            .expression_attribute_values(":one", n(1))
            .build()
            .map_err(Error::internal)?;
        Ok(vec![
            transaction::delete(delete),
            transaction::update(count),
        ])
    }
}
