//! Making an agent.

use aws_sdk_dynamodb::types::{ReturnValuesOnConditionCheckFailure::AllOld, Update};

use super::{
    AgentStore, COUNT,
    items::{agents, key, stored, version},
};
use crate::{
    Backoff,
    domain::{
        Done, Error, Moment, TenantId,
        agent::{Agent, MAX_AGENTS},
    },
    guards::Claim,
    item::{NewItem, Read, n},
    transaction::{self, Outcome},
};

const TOO_MANY: Error = Error::Conflict("A team has at most 500 agents of its own");

impl AgentStore {
    /// Makes `agent`, once per `claim`: a repetition is told of the first.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the tenant has [`MAX_AGENTS`], or if `claim` was used for another request.
    pub async fn create(
        &self,
        tenant: TenantId,
        agent: Agent,
        claim: Option<&Claim>,
        moment: &Moment,
    ) -> Result<Done<Agent>, Error> {
        let current = self.put_new(stored(tenant, &agent, moment))?;
        let count = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(agents(tenant), COUNT)))
            .update_expression("SET agents = if_not_exists(agents, :none) + :one, v = :one")
            .condition_expression("attribute_not_exists(agents) OR agents < :most")
            .expression_attribute_values(":none", n(0))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":most", n(MAX_AGENTS))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        let mut writes = vec![
            current,
            self.put_new(version(tenant, &agent))?,
            transaction::update(count),
        ];
        if let Some(claim) = claim {
            let outcome = NewItem::new().s("id", agent.id);
            writes.push(claim.write(outcome.s_opt("at", agent.created_at).build())?);
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let refused = match transaction::commit(&self.client, &writes, &mut race).await? {
            Outcome::Committed => return Ok(Done::now(agent)),
            Outcome::Refused(refused) => refused,
        };
        if let Some(Some(_)) = refused.first() {
            // An earlier try of ours landed and its answer was lost: nobody else has this id.
            return Ok(Done::now(agent));
        }
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(3)) {
            let told = claim.recognise(marker.item.as_ref())?.outcome;
            // The request was the same, and so was what it made.
            return Ok(Done::before(Agent {
                id: told.parse("id")?,
                created_at: told.time_opt("at")?,
                ..agent
            }));
        }
        Err(TOO_MANY)
    }
}
