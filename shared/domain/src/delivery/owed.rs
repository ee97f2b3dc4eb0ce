//! To whom a delivery is owed: the one rule by which it may count as delivered.
//!
//! An endpoint is *left* if it wants the delivery now and has neither taken nor refused it. At each attempt:
//!
//! | endpoints that are left | then                                                                                    |
//! |-------------------------|-----------------------------------------------------------------------------------------|
//! | active ones             | they are told; paused ones wait                                                         |
//! | paused ones only        | the delivery is held until they go on                                                   |
//! | none                    | one that wants it has refused it: dead. Or else somebody took it: delivered. Or else it was once owed to an endpoint: the attempt fails (`no endpoint`). Or else nobody was ever to be told: it is complete |
//!
//! So an endpoint that was deleted, or wants other events now, is owed nothing any more, and a delivery that it alone was
//! owed is not delivered by that: it goes to those that are there at the next attempt, or is dead after the last.

use std::collections::{BTreeMap, BTreeSet};

use super::Delivery;

/// An endpoint that wants to be told of what a delivery tells, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Its id.
    pub endpoint: String,
    /// Whether it is told anything, or paused.
    pub is_active: bool,
}

/// Which endpoints a delivery is owed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owed {
    /// To those that are left, or it was refused by one that is there.
    To(Left),
    /// To none: whoever is there has taken it, or somebody who was there did.
    Taken,
    /// To none that is there now, and nobody took it.
    NoEndpoint,
    /// To none, and it never was.
    Nobody,
}

/// The endpoints that keep a delivery from being delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Those that are to be told.
    pub active: BTreeSet<String>,
    /// Those that are paused.
    pub paused: BTreeSet<String>,
    /// Those that have refused it, and why.
    pub refused: BTreeMap<String, String>,
}

impl Delivery {
    /// Which of the endpoints that want it now it is owed to.
    pub fn owed(&self, wanting: &[Recipient]) -> Owed {
        let mut left = Left::default();
        for Recipient {
            endpoint,
            is_active,
        } in wanting
        {
            if self.done.contains(endpoint) {
                continue;
            }
            if let Some(reason) = self.refused.get(endpoint) {
                left.refused.insert(endpoint.clone(), reason.clone());
            } else if *is_active {
                left.active.insert(endpoint.clone());
            } else {
                left.paused.insert(endpoint.clone());
            }
        }
        if left != Left::default() {
            Owed::To(left)
        } else if !self.done.is_empty() {
            Owed::Taken
        } else if self.is_owed {
            Owed::NoEndpoint
        } else {
            Owed::Nobody
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            State,
            tests::{names, reasons, row},
        },
        *,
    };

    /// Endpoints that want it now; those in brackets are paused.
    fn wanting(endpoints: &[&str]) -> Vec<Recipient> {
        let endpoints = endpoints.iter();
        endpoints
            .map(|endpoint| Recipient {
                endpoint: endpoint.trim_matches(['(', ')']).to_owned(),
                is_active: !endpoint.starts_with('('),
            })
            .collect()
    }

    /// One that `done` took and `refused` refused.
    fn delivery(done: &[&str], refused: &[&str], is_owed: bool) -> Delivery {
        let refused: Vec<_> = refused.iter().map(|id| (*id, "HTTP 410")).collect();
        Delivery {
            done: names(done),
            refused: reasons(&refused),
            is_owed,
            ..row(State::Queued, 1)
        }
    }

    fn to(active: &[&str], paused: &[&str], refused: &[&str]) -> Owed {
        let refused: Vec<_> = refused.iter().map(|id| (*id, "HTTP 410")).collect();
        Owed::To(Left {
            active: names(active),
            paused: names(paused),
            refused: reasons(&refused),
        })
    }

    #[test]
    fn a_delivery_is_owed_to_whoever_wants_it_now_and_has_neither_taken_nor_refused_it() {
        let none: &[&str] = &[];
        // Who took it, who refused it, who wants it now.
        let cases = [
            (none, none, ["a", "b"].as_slice(), to(&["a", "b"], &[], &[])),
            (&["a"], none, &["a", "b"], to(&["b"], &[], &[])),
            (none, &["a"], &["a", "b"], to(&["b"], &[], &["a"])),
            (none, none, &["a", "(p)"], to(&["a"], &["p"], &[])),
            (none, none, &["(p)"], to(&[], &["p"], &[])),
            (&["a"], none, &["a", "(p)"], to(&[], &["p"], &[])),
            (&["a"], &["b"], &["a", "b"], to(&[], &[], &["b"])),
            // One that took it and was paused since owes nothing.
            (&["p"], none, &["(p)"], Owed::Taken),
            // b was deleted, or wants other events now.
            (&["a"], none, &["a"], Owed::Taken),
            (&["a"], &["b"], &["a"], Owed::Taken),
            // And a too.
            (&["a"], none, none, Owed::Taken),
            // Whoever it was owed to is gone, and nobody took it.
            (none, none, none, Owed::NoEndpoint),
            (none, &["b"], none, Owed::NoEndpoint),
            // Another one took the place of a.
            (none, none, &["c"], to(&["c"], &[], &[])),
        ];
        for (done, refused, now, owed) in cases {
            let delivery = delivery(done, refused, true);
            assert_eq!(
                delivery.owed(&wanting(now)),
                owed,
                "{done:?} {refused:?} {now:?}"
            );
        }
    }

    #[test]
    fn a_delivery_that_no_endpoint_ever_wanted_is_owed_to_nobody() {
        assert_eq!(delivery(&[], &[], false).owed(&[]), Owed::Nobody);
    }
}
