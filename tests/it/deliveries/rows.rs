//! One row: whoever writes it, however often, and whatever becomes of the answers.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::{
    domain::delivery::{Begun, Ended, Failure, State},
    store::{Stores, deliveries::Row},
};
use tokio::{join, task::JoinSet};

use super::*;
use crate::chatapi::item;
use crate::support::World;
use crate::support::faults::{
    Fault::{self, Double, Late, LoseAnswer, LoseRequest},
    calm, script, storm,
};

fn failure() -> Failure {
    Failure {
        failed: [("ep".to_owned(), "HTTP 500".to_owned())].into(),
        content: Some("{}".to_owned()),
        ..Failure::default()
    }
}

/// Begins the first attempt.
async fn begun(stores: &Stores, job: &Job, attempt: Attempt) -> Row {
    let begun = stores
        .deliveries
        .begin(
            None,
            job,
            telling(&about()),
            first(noon()),
            attempt,
            &mut race(),
        )
        .await;
    let (begun, row) = begun.unwrap();
    assert_eq!(begun, Begun::Go);
    row
}

/// A delivery whose attempts are used up, 30 seconds apart.
async fn dead(stores: &Stores, job: &Job) -> Row {
    for number in 0..5 {
        let attempt = attempt(at(number * 30));
        let (known, receipt) = if number == 0 {
            (None, first(noon()))
        } else {
            (Some(read(stores, job).await), again(noon()))
        };
        let (begun, row) = stores
            .deliveries
            .begin(known, job, telling(&about()), receipt, attempt, &mut race())
            .await
            .unwrap();
        assert_eq!(begun, Begun::Go);
        let (ended, _) = stores
            .deliveries
            .failed(row, &failure(), attempt, &mut race())
            .await
            .unwrap();
        assert_eq!(ended == Ended::Dead, number == 4);
    }
    read(stores, job).await
}

async fn read(stores: &Stores, job: &Job) -> Row {
    let row = stores.deliveries.get(job.tenant, job.id()).await;
    row.unwrap().expect("the row is there")
}

/// What can become of a write that is not refused.
fn fates() -> [Fault; 5] {
    [LoseRequest, LoseAnswer, Late(1), Late(2), Double]
}

#[tokio::test(start_paused = true)]
async fn a_row_is_read_back_as_it_was_written() {
    let (world, job) = (world().await, job());
    let stores = stores(&world, calm());
    let begun = begun(&stores, &job, attempt(noon())).await.delivery;
    assert_eq!(read(&stores, &job).await.delivery, begun);
    let dead = dead(&stores, &super::job()).await.delivery;
    assert_eq!(dead.state, State::Dead { at: at(120) });
    assert_eq!((dead.attempts, dead.content.as_deref()), (5, Some("{}")));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_answer_was_lost_has_begun_once() {
    let world = world().await;
    for fate in fates() {
        let (job, attempt) = (job(), attempt(noon()));
        let stores = stores(&world, script("PutItem", [fate.clone()]));
        let row = begun(&stores, &job, attempt).await.delivery;
        assert_eq!((row.attempts, row.token), (1, attempt.lease), "{fate:?}");
        assert_eq!(read(&stores, &job).await.delivery, row, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_whose_answer_was_lost_counts_once() {
    let world = world().await;
    for fate in fates() {
        let (job, attempt) = (job(), attempt(noon()));
        let stores = stores(&world, script("UpdateItem", [fate.clone()]));
        let row = begun(&stores, &job, attempt).await;
        let (ended, _) = stores
            .deliveries
            .failed(row, &failure(), attempt, &mut race())
            .await
            .unwrap();
        assert!(
            matches!(ended, Ended::Waiting { seconds: 30 | 31 }),
            "{fate:?}"
        );
        let row = read(&stores, &job).await.delivery;
        assert_eq!(row.attempts, 1, "{fate:?}");
        assert_eq!(row.state, State::Waiting { until: at(30) }, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redrive_whose_answer_was_lost_was_done() {
    let world = world().await;
    for fate in fates() {
        let job = job();
        let row = dead(&stores(&world, calm()), &job).await;
        let stores = stores(&world, script("UpdateItem", [fate.clone()]));
        let token = random();
        let redriven = stores
            .deliveries
            .redrive(row, token, at(500), &mut race())
            .await
            .unwrap();
        assert!(redriven, "{fate:?}");
        let row = read(&stores, &job).await.delivery;
        assert_eq!((row.state, row.round), (State::Queued, 0), "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_workers_with_the_same_job_one_attempts_it() {
    let world = world().await;
    for seed in 0..4 {
        let job = job();
        let mut workers = JoinSet::new();
        for worker in 0..8 {
            let stores = stores(&world, storm(100 * seed + worker, 4));
            let job = job.clone();
            workers.spawn(async move {
                let attempt = attempt(noon());
                let (about, mut race) = (about(), race());
                let begun = stores
                    .deliveries
                    .begin(
                        None,
                        &job,
                        telling(&about),
                        first(noon()),
                        attempt,
                        &mut race,
                    )
                    .await;
                begun.unwrap().0
            });
        }
        let begun = workers.join_all().await;
        let go = begun.iter().filter(|begun| **begun == Begun::Go).count();
        let later = Begun::NotYet { seconds: 61 };
        let wait = begun.iter().filter(|begun| **begun == later).count();
        assert_eq!((go, wait), (1, 7), "{begun:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ran_out_is_taken_over_and_who_held_it_changes_nothing_more() {
    let (world, job) = (world().await, job());
    let stores = stores(&world, calm());
    let slow = attempt(noon());
    let held = begun(&stores, &job, slow).await;

    let (next, known) = (attempt(at(60)), read(&stores, &job).await);
    let (taken_over, row) = stores
        .deliveries
        .begin(
            Some(known),
            &job,
            telling(&about()),
            again(noon()),
            next,
            &mut race(),
        )
        .await
        .unwrap();
    assert_eq!((taken_over, row.delivery.attempts), (Begun::Go, 2));
    let late = Attempt {
        now: at(61),
        ..slow
    };
    let (ended, _) = stores
        .deliveries
        .failed(held, &failure(), late, &mut race())
        .await
        .unwrap();

    assert_eq!(ended, Ended::Waiting { seconds: 60 });
    assert_eq!(read(&stores, &job).await.delivery, row.delivery);
}

#[tokio::test(start_paused = true)]
async fn who_delivers_after_the_lease_ran_out_has_delivered() {
    let (world, job) = (world().await, job());
    let stores = stores(&world, calm());
    let held = begun(&stores, &job, attempt(noon())).await;
    let (next, known) = (attempt(at(60)), read(&stores, &job).await);
    let (_, row) = stores
        .deliveries
        .begin(
            Some(known),
            &job,
            telling(&about()),
            again(noon()),
            next,
            &mut race(),
        )
        .await
        .unwrap();

    let took = BTreeSet::from(["a".to_owned()]);
    stores
        .deliveries
        .delivered(held, &took, at(61), &mut race())
        .await
        .unwrap();
    let (ended, _) = stores
        .deliveries
        .failed(row, &failure(), next, &mut race())
        .await
        .unwrap();

    assert_eq!(ended, Ended::Done);
    let row = read(&stores, &job).await.delivery;
    assert_eq!(
        (row.state, row.done),
        (State::Delivered { at: at(61) }, took)
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_redrives_at_once_one_finds_it_dead() {
    let (world, job) = (world().await, job());
    let stores = stores(&world, calm());
    let row = dead(&stores, &job).await;
    let redrive = async |row| {
        stores
            .deliveries
            .redrive(row, random(), at(500), &mut race())
            .await
            .unwrap()
    };
    let (one, other) = join!(redrive(row.clone()), redrive(row));
    assert!(one ^ other);
}

#[tokio::test(start_paused = true)]
async fn the_dead_are_listed_for_their_tenant_and_the_open_when_they_are_overdue() {
    let (world, job) = (world().await, job());
    let stores = stores(&world, calm());
    let letters = async || {
        let page = stores
            .deliveries
            .dead(job.tenant, &parlance::app::Filter::default(), 10, None)
            .await
            .unwrap();
        page.items.len()
    };
    let overdue = async |now| {
        let shard = job.id().shard(parlance::store::deliveries::OPEN_SHARDS);
        let (rows, _) = stores
            .deliveries
            .overdue(shard, now, 1_000, None)
            .await
            .unwrap();
        let ours = rows.into_iter().find(|row| row.delivery.id == job.id());
        ours.is_some()
    };

    begun(&stores, &job, attempt(noon())).await;
    assert_eq!((letters().await, overdue(at(1_319)).await), (0, false));
    assert!(overdue(at(1_321)).await);
    let row = read(&stores, &job).await;
    let now = at(1_321);
    stores
        .deliveries
        .requeued(row, now, &mut race())
        .await
        .unwrap();
    assert!(!overdue(now).await);
    let row = read(&stores, &job).await;
    let nobody = BTreeSet::new();
    let mut race = race();
    let delivered = stores.deliveries.delivered(row, &nobody, now, &mut race);
    delivered.await.unwrap();
    assert!(!overdue(at(1_000_000)).await);
}

/// Adds an attribute of a later version to the row of `job`.
async fn modernise(world: &World, job: &Job) {
    let update = world.dynamodb.update_item().table_name("Deliveries");
    let pk = format!("{}#{}", job.tenant, job.id());
    update
        .key("pk", AttributeValue::S(pk))
        .update_expression("SET v = :v, something_new = :new")
        .expression_attribute_values(":v", AttributeValue::N("2".to_owned()))
        .expression_attribute_values(":new", AttributeValue::S("kept".to_owned()))
        .send()
        .await
        .unwrap();
}

/// Whether the row of `job` still has it.
async fn is_modern(world: &World, job: &Job) -> bool {
    let pk = format!("{}#{}", job.tenant, job.id());
    let row = item(world, "Deliveries", pk).await.unwrap();
    row.get("v") == Some(&AttributeValue::N("2".to_owned()))
        && row.get("something_new") == Some(&AttributeValue::S("kept".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn what_a_later_version_added_to_a_row_survives_every_step_of_a_delivery() {
    let (world, job, about) = (world().await, job(), about());
    let stores = stores(&world, calm());
    let deliveries = &stores.deliveries;
    let begin = async |row, at| {
        let mut race = race();
        let begun = deliveries.begin(
            Some(row),
            &job,
            telling(&about),
            again(noon()),
            at,
            &mut race,
        );
        let (begun, row) = begun.await.unwrap();
        assert_eq!(begun, Begun::Go);
        row
    };
    let first = attempt(noon());
    let row = begun(&stores, &job, first).await;
    modernise(&world, &job).await;

    let (_, row) = deliveries
        .failed(row, &failure(), first, &mut race())
        .await
        .unwrap();
    let second = attempt(at(100));
    let row = begin(row, second).await;
    let paused = Failure {
        paused: ["ep_1".to_owned()].into(),
        ..Failure::default()
    };
    let (ended, row) = deliveries
        .failed(row, &paused, second, &mut race())
        .await
        .unwrap();
    assert_eq!(ended, Ended::Held { fresh: true });
    assert!(deliveries.wake(row, 1, at(200), &mut race()).await.unwrap());
    let third = attempt(at(300));
    let row = begin(read(&stores, &job).await, third).await;
    deliveries
        .unmade(row, &failure(), third, &mut race())
        .await
        .unwrap();
    let fourth = attempt(at(400));
    let row = begin(read(&stores, &job).await, fourth).await;
    let refused = Failure {
        refused: [("ep".to_owned(), "HTTP 410".to_owned())].into(),
        ..Failure::default()
    };
    let (ended, row) = deliveries
        .failed(row, &refused, fourth, &mut race())
        .await
        .unwrap();
    assert_eq!(ended, Ended::Dead);
    assert!(
        deliveries
            .redrive(row, 2, at(500), &mut race())
            .await
            .unwrap()
    );
    let late = at(100_000);
    deliveries
        .requeued(read(&stores, &job).await, late, &mut race())
        .await
        .unwrap();
    let row = begin(read(&stores, &job).await, attempt(late)).await;
    let took = ["ep".to_owned()].into();
    deliveries
        .delivered(row, &took, late, &mut race())
        .await
        .unwrap();

    let row = read(&stores, &job).await.delivery;
    assert_eq!(row.state, State::Delivered { at: late });
    assert!(is_modern(&world, &job).await);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_changed_is_as_one_that_was_written_whole() {
    let (world, job) = (world().await, job());
    let stores = stores(&world, calm());
    let dead = dead(&stores, &job).await.delivery;
    let before = read(&stores, &job).await;
    stores
        .deliveries
        .redrive(before, 1, at(500), &mut race())
        .await
        .unwrap();

    let pk = format!("{}#{}", job.tenant, job.id());
    let row = item(&world, "Deliveries", pk).await.unwrap();
    // Nothing of its death is left, and it is listed among the open ones.
    assert!(
        !row.contains_key("ended_at") && !row.contains_key("ttl") && !row.contains_key("until")
    );
    assert!(row["dead_shard"].as_s().unwrap().starts_with("open#"));
    let redriven = read(&stores, &job).await.delivery;
    assert_eq!(
        (redriven.attempts, redriven.content),
        (dead.attempts, dead.content)
    );
}
