//! What there is of an agent, and writing in its place.

use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
};

use super::AgentStore;
use crate::{
    domain::{
        AgentId, Error,
        agent::{Agent, Version},
    },
    item::{Item, VERSION, n},
    transaction,
};

/// What there is of an agent.
pub(super) enum Standing {
    /// Nothing was ever written.
    Nothing,
    /// It is there.
    Agent(Box<Agent>),
    /// It was deleted, and this was its last version.
    Deleted(Version),
    /// It is there, of a provider that a later version knows: for this one it is not.
    Later(Version),
}

/// What must still be there when something is written in its place. A deleted agent has the version that it had, so
/// that the version alone does not tell.
#[derive(Debug, Clone, Copy)]
pub(super) enum Basis {
    Nothing,
    Agent(Version),
    Deleted(Version),
}

impl Basis {
    /// That it is still there. `:based_on` is the version that it names, if it names one.
    const fn condition(self) -> &'static str {
        match self {
            Self::Nothing => "attribute_not_exists(pk)",
            Self::Agent(_) => "#version = :based_on AND attribute_not_exists(deleted_at)",
            Self::Deleted(_) => "#version = :based_on AND attribute_exists(deleted_at)",
        }
    }
}

impl Standing {
    pub(super) const fn basis(&self) -> Basis {
        match self {
            Self::Nothing => Basis::Nothing,
            Self::Agent(agent) => Basis::Agent(agent.version),
            Self::Later(version) => Basis::Agent(*version),
            Self::Deleted(version) => Basis::Deleted(*version),
        }
    }

    /// The agent `id`, unless there is none.
    pub(super) fn agent(self, id: AgentId) -> Option<Agent> {
        match (self, id) {
            (Self::Agent(agent), _) => Some(*agent),
            (Self::Nothing, AgentId::BuiltIn(built_in)) => Some(Agent::built_in(built_in)),
            (Self::Nothing, AgentId::Own(_)) | (Self::Deleted(_) | Self::Later(_), _) => None,
        }
    }
}

impl AgentStore {
    /// Changes these attributes of an agent's row, as long as there is what the change is based on.
    pub(super) fn update(
        &self,
        key: Item,
        basis: Basis,
        sets: Vec<(&str, AttributeValue)>,
        removes: &[&str],
    ) -> Result<TransactWriteItem, Error> {
        let mut update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key))
            .condition_expression(basis.condition())
            .expression_attribute_values(":v", n(VERSION))
            .return_values_on_condition_check_failure(AllOld);
        if let Basis::Agent(version) | Basis::Deleted(version) = basis {
            update = update
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":based_on", n(version.0));
        }
        let mut set = vec!["v = if_not_exists(v, :v)".to_owned()];
        for (name, value) in sets {
            set.push(format!("#{name} = :{name}"));
            update = update
                .expression_attribute_names(format!("#{name}"), name)
                .expression_attribute_values(format!(":{name}"), value);
        }
        let mut remove = Vec::new();
        for name in removes {
            remove.push(format!("#{name}"));
            update = update.expression_attribute_names(format!("#{name}"), *name);
        }
        let clause = |word, parts: &[String]| match parts {
            [] => String::new(),
            parts => format!("{word} {} ", parts.join(", ")),
        };
        update
            .update_expression(clause("SET", &set) + &clause("REMOVE", &remove))
            .build()
            .map(transaction::update)
            .map_err(Error::internal)
    }

    /// Writes what must not be there yet.
    pub(super) fn put_new(&self, item: Item) -> Result<TransactWriteItem, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(Basis::Nothing.condition())
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map(transaction::put)
            .map_err(Error::internal)
    }
}
