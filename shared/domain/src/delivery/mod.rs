//! Deliveries: what happened is told to one user, or to a tenant's endpoints, or ends as a dead letter.

mod owed;
mod row;
mod subject;
#[cfg(test)]
mod tests;

pub use self::{
    owed::{Left, Owed, Recipient},
    row::{
        About, Attempt, Begun, Delivery, Ended, Failure, Fault, HELD_SECONDS, LEASE_SECONDS,
        LONGEST_HELD_SECONDS, LONGEST_OPEN_SECONDS, LOOKED_AT_SECONDS, Reason, Receipt, State,
        Step, Telling,
    },
    subject::{InvalidSubject, Job, Subject},
};
