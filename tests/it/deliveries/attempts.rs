//! Attempts: what is told, what comes of it, and what follows.

use parlance::domain::{RoomId, delivery::State};

use super::*;
use crate::support::{
    Tenant,
    faults::{Fault, always, calm, storm},
    tenant_of,
};

/// A tenant whose clock the test holds.
async fn tenant() -> Tenant {
    let world = world().await;
    tenant_of(&world.another(|client| faulty(client, calm()))).await
}

async fn forget(tenant: &Tenant, job: &Job) {
    let pk = format!("{}#{}", tenant.id, job.subject);
    let delete = tenant.world.dynamodb.delete_item().table_name("Events");
    let pk = aws_sdk_dynamodb::types::AttributeValue::S(pk);
    delete.key("pk", pk).send().await.unwrap();
}

/// Attempts `job` until it is dead: the seed's schedule, from noon on.
async fn kill(tenant: &Tenant, job: &Job) {
    let app = &tenant.world.app;
    for number in 0..5 {
        let receipt = if number == 0 {
            first(noon())
        } else {
            again(noon())
        };
        let verdict = try_once(app, job, receipt, at(30 * number)).await;
        let wanted = match number {
            4 => Verdict::Dead { fresh: true },
            _ => Verdict::Again { seconds: 30 },
        };
        assert_eq!(verdict, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_notification_to_nobody_there_is_tried_five_times_and_is_a_dead_letter() {
    let tenant = tenant().await;
    let job = notify(&tenant).await;
    kill(&tenant, &job).await;

    let row = row(&tenant, &job).await;
    assert_eq!(row.state, State::Dead { at: at(120) });
    assert_eq!((row.attempts, row.last_attempt_at), (5, Some(at(120))));
    assert_eq!(row.error.as_deref(), Some("user offline"));
    let letters = tenant
        .user("alice")
        .get(&format!("/admin/dead-letters?tenant_id={}", tenant.id))
        .await;
    letters.assert(
        200,
        json!({
            "failed_messages": [],
            "failed_notifications": [{
                "delivery_id": job.id().to_string(),
                "notification_id": job.subject.to_string(),
                "user_id": "bob",
                "topic": "order.shipped",
                "attempts": 5,
                "last_attempt_at": at(120).to_string(),
                "error": "user offline",
            }],
            "failed_events": [],
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn a_tenants_own_schedule_holds() {
    let tenant = tenant().await;
    let retries = json!({ "attempts": 3, "interval_seconds": 100, "backoff": "exponential" });
    retry(&tenant, retries).await;
    let (job, app) = (notify(&tenant).await, &tenant.world.app);

    assert_eq!(
        try_once(app, &job, first(noon()), noon()).await,
        Verdict::Again { seconds: 100 }
    );
    assert_eq!(
        try_once(app, &job, again(noon()), at(100)).await,
        Verdict::Again { seconds: 200 }
    );
    assert_eq!(
        try_once(app, &job, again(noon()), at(300)).await,
        Verdict::Dead { fresh: true }
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_comes_early_is_told_when_to_come_back() {
    let tenant = tenant().await;
    let (job, app) = (notify(&tenant).await, &tenant.world.app);
    try_once(app, &job, first(noon()), noon()).await;

    let early = try_once(app, &job, again(noon()), at(10)).await;

    assert_eq!(early, Verdict::Again { seconds: 21 });
    assert_eq!(row(&tenant, &job).await.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_done_at_the_first_attempt() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let path = format!("/rooms/{room}/messages");
    let body = json!({ "content": "Hello!" });
    let sent = tenant.user("alice").post(&path, &body).await;
    let room: RoomId = room.parse().unwrap();
    let job = Job {
        tenant: tenant.id.parse().unwrap(),
        subject: Subject::MessageCreated {
            log: room.into(),
            id: sent.text("message_id").parse().unwrap(),
        },
        user: Some(UserId::parse("user_id", "bob").unwrap()),
    };
    let app = &tenant.world.app;

    assert_eq!(
        try_once(app, &job, first(noon()), noon()).await,
        Verdict::Done
    );
    assert_eq!(
        try_once(app, &job, again(noon()), noon()).await,
        Verdict::Done
    );
    assert_eq!(row(&tenant, &job).await.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_told_even_if_its_source_was_forgotten() {
    let tenant = tenant().await;
    let (job, app) = (notify(&tenant).await, &tenant.world.app);
    kill(&tenant, &job).await;
    forget(&tenant, &job).await;

    let verdict = try_once(app, &job, moved(at(86_400)), at(86_401)).await;

    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    let row = row(&tenant, &job).await;
    assert_eq!(row.error.as_deref(), Some("user offline"));
    assert_eq!((row.attempts, row.round), (6, 1));
    assert!(
        row.content
            .unwrap()
            .contains(r#""payload":{"order_id":7.5}"#)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_before_it_was_tried_is_a_dead_letter_at_once() {
    let tenant = tenant().await;
    let (job, app) = (notify(&tenant).await, &tenant.world.app);
    forget(&tenant, &job).await;

    let verdict = try_once(app, &job, first(noon()), noon()).await;

    assert_eq!(verdict, Verdict::Dead { fresh: true });
    let error = row(&tenant, &job).await.error;
    assert_eq!(error.as_deref(), Some("its content is no longer kept"));
}

#[tokio::test(start_paused = true)]
async fn an_hours_wait_is_parked_and_queued_again_in_time() {
    // Of its own: the reconciler looks at all tenants.
    let world = crate::support::world_over(|client| faulty(client, calm())).await;
    let tenant = tenant_of(&world).await;
    retry(&tenant, json!({ "interval_seconds": 3_600 })).await;
    let (job, app) = (notify(&tenant).await, &world.app);
    let (sqs, url) = world.queue("DeliveryQueue");
    let queued = async || {
        let received = sqs.receive_message().queue_url(&url).send().await.unwrap();
        received.messages.unwrap_or_default().len()
    };

    assert_eq!(
        try_once(app, &job, first(noon()), noon()).await,
        Verdict::Parked
    );
    // A copy of the job is not needed meanwhile.
    assert_eq!(
        try_once(app, &job, again(noon()), at(60)).await,
        Verdict::Parked
    );
    let early = app.requeue(&moment(at(3_600))).await.unwrap();
    assert_eq!((early.sent, queued().await), (0, 0));
    let due = app.requeue(&moment(at(3_601))).await.unwrap();
    assert_eq!((due.sent, due.failed, queued().await), (1, 0, 1));
    let again = app.requeue(&moment(at(3_602))).await.unwrap();
    assert_eq!(again.sent, 0);

    let verdict = try_once(app, &job, first(at(3_601)), at(3_602)).await;
    assert_eq!(verdict, Verdict::Parked);
    assert_eq!(row(&tenant, &job).await.attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_was_parked_by_a_clock_that_was_ahead_is_queued_within_the_hour() {
    // By years, by days, and by hours.
    for seconds in [365 * 24 * 3_600, 2 * 24 * 3_600, 3 * 3_600] {
        parked_ahead(seconds).await;
    }
}

/// Parks a delivery by a clock that is so far ahead, and looks after it by one that is not.
async fn parked_ahead(seconds: i64) {
    // Of its own: the reconciler looks at all tenants.
    let world = crate::support::world_over(|client| faulty(client, calm())).await;
    let tenant = tenant_of(&world).await;
    retry(&tenant, json!({ "interval_seconds": 3_600 })).await;
    let (job, app) = (notify(&tenant).await, &world.app);
    let ahead = try_once(app, &job, first(at(seconds)), at(seconds)).await;
    assert_eq!(ahead, Verdict::Parked);

    let mut sent = 0;
    for minute in 0..64 {
        let requeued = app.requeue(&moment(at(60 * minute))).await.unwrap();
        sent += requeued.sent;
    }
    // Once and, since its job is not received here, again when that is overdue.
    assert!((1..=5).contains(&sent), "{sent} after {seconds}");
    let verdict = try_once(app, &job, first(at(3_840)), at(3_840)).await;
    assert_eq!(verdict, Verdict::Parked);
    assert_eq!(row(&tenant, &job).await.attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_row_cannot_be_written_comes_again_and_counts_for_nothing() {
    let tenant = tenant().await;
    let job = notify(&tenant).await;
    let broken = always("PutItem", Fault::Throttle);
    let world = tenant.world.another(|client| faulty(client, broken));

    let refused = world
        .app
        .attempt(&job, first(noon()), &moment(noon()))
        .await;

    assert!(refused.is_err());
    let app = &tenant.world.app;
    let verdict = try_once(app, &job, again(noon()), noon()).await;
    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    assert_eq!(row(&tenant, &job).await.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_with_too_little_time_left_to_tell_counts_for_nothing() {
    let tenant = tenant().await;
    let (job, app) = (notify(&tenant).await, &tenant.world.app);
    let hurried = Moment {
        deadline: Instant::now() + Duration::from_secs(20),
        ..moment(noon())
    };

    let late = app.attempt(&job, first(noon()), &hurried).await;

    assert!(late.is_err());
    let stores = Stores::new(&tenant.world.dynamodb, &settings().tables, false);
    let row = stores.deliveries.get(job.tenant, job.id()).await.unwrap();
    assert!(row.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_in_its_attempt_is_noticed_when_its_lease_is_over() {
    let tenant = tenant().await;
    let (job, app) = (notify(&tenant).await, &tenant.world.app);
    // Dies: all but its first write is lost.
    let dying = always("UpdateItem", Fault::LoseRequest);
    let world = tenant.world.another(|client| faulty(client, dying));
    let died = world
        .app
        .attempt(&job, first(noon()), &moment(noon()))
        .await;
    assert!(died.is_err());

    let held = try_once(app, &job, again(noon()), at(30)).await;
    assert_eq!(held, Verdict::Again { seconds: 31 });
    let free = try_once(app, &job, again(noon()), at(60)).await;
    assert_eq!(free, Verdict::Again { seconds: 30 });
    assert_eq!(row(&tenant, &job).await.attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn in_a_storm_each_attempt_of_many_workers_is_counted_once_and_ends() {
    const WORKERS: u64 = 3;
    const JOBS: usize = 6;
    let tenant = tenant().await;
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        jobs.push(notify(&tenant).await);
    }
    let workers: Vec<_> = (0..WORKERS)
        .map(|seed| {
            let plan = storm(7_000 + seed, 6);
            tenant.world.another(|client| faulty(client, plan))
        })
        .collect();
    let (mut fresh, mut seconds) = (0, 0);
    loop {
        let mut dead = 0;
        for job in &jobs {
            // All at once, each with its own copy of the job.
            let tries = workers.iter().map(|world| {
                let moment = moment(at(seconds));
                async move { world.app.attempt(job, again(noon()), &moment).await }
            });
            for verdict in futures_util::future::join_all(tries).await {
                match verdict {
                    Ok(Verdict::Dead { fresh: is_fresh }) => {
                        dead += 1;
                        fresh += usize::from(is_fresh);
                    }
                    Ok(Verdict::Again { .. }) | Err(_) => {}
                    Ok(other) => panic!("{other:?}"),
                }
            }
        }
        if dead == JOBS * workers.len() {
            break;
        }
        seconds += 10;
        assert!(seconds < 1_000, "{dead} are dead");
    }
    // Of one whose answer was lost nobody heard.
    assert!(fresh <= JOBS, "{fresh}");
    for job in &jobs {
        let row = row(&tenant, job).await;
        assert_eq!((row.attempts, row.round), (5, 5));
        assert!(matches!(row.state, State::Dead { .. }));
    }
}
