//! Deliveries: what happened is told to one user, or to a tenant's endpoints, or ends as a dead letter.

mod row;
mod subject;
#[cfg(test)]
mod tests;

pub use self::{
    row::{
        About, Attempt, Begun, Delivery, Ended, Failure, LEASE_SECONDS, LONGEST_HELD_SECONDS,
        LONGEST_OPEN_SECONDS, Reason, Receipt, State, Step, Telling,
    },
    subject::{InvalidSubject, Job, Subject},
};
