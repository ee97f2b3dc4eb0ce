//! Deliveries that wait for a paused endpoint, and go on when it does.

use std::collections::BTreeSet;

use parlance::{
    app::Keep,
    domain::delivery::{HELD_SECONDS, LOOKED_AT_SECONDS, State},
};
use tokio::join;

use super::{
    webhooks::{created, endpoint, message},
    *,
};
use crate::support::{
    faults::{Fault, Gate, script, storm},
    receiver::Receiver,
    tenant_of, world_over,
};

/// A tenant of a service of its own, since the reconciler looks at all tenants, with one endpoint.
struct Stage {
    tenant: Tenant,
    receiver: Receiver,
    endpoint: String,
}

impl Stage {
    async fn new() -> Self {
        let tenant = tenant_of(&world_over(|client| client).await).await;
        let receiver = Receiver::new();
        let endpoint = endpoint(&tenant, &receiver).await;
        Self {
            tenant,
            receiver,
            endpoint,
        }
    }

    async fn set(&self, status: &str) {
        let path = format!("/webhooks/{}", self.endpoint);
        let body = json!({ "status": status });
        let patched = self.tenant.server().patch(&path, &body).await;
        assert_eq!(patched.status, 200, "{}", patched.raw);
    }

    async fn job(&self) -> Job {
        let (room, message) = message(&self.tenant).await;
        created(&self.tenant, &room, &message)
    }

    fn app(&self) -> &App {
        &self.tenant.world.app
    }

    /// How many jobs a run of the reconciler sends so many seconds after noon.
    async fn reconcile(&self, seconds: i64) -> usize {
        let done = self.app().requeue(&moment(at(seconds))).await.unwrap();
        assert_eq!((done.failed, done.more), (0, false));
        done.sent
    }

    async fn row(&self, job: &Job) -> Delivery {
        row(&self.tenant, job).await
    }
}

#[tokio::test]
async fn a_delivery_to_a_paused_endpoint_uses_up_no_attempts_and_goes_out_on_resuming() {
    let stage = Stage::new().await;
    stage.set("paused").await;
    let (job, app) = (stage.job().await, stage.app());

    assert_eq!(
        try_once(app, &job, first(noon()), noon()).await,
        Verdict::Held
    );
    // A copy of the job is not needed meanwhile.
    assert_eq!(
        try_once(app, &job, again(noon()), at(60)).await,
        Verdict::Parked
    );
    let held = stage.row(&job).await;
    assert_eq!((held.attempts, held.last_attempt_at), (0, None));
    assert_eq!(held.error.as_deref(), Some("endpoint paused"));
    assert_eq!(held.error_endpoint.as_ref(), Some(&stage.endpoint));
    assert_eq!(stage.reconcile(120).await, 0);
    stage.set("active").await;
    assert_eq!(stage.reconcile(180).await, 1);
    // Once.
    assert_eq!(stage.reconcile(240).await, 0);
    let verdict = try_once(app, &job, first(at(180)), at(181)).await;

    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!(stage.receiver.take().len(), 1);
    assert_eq!(stage.row(&job).await.attempts, 1);
}

#[tokio::test]
async fn a_retry_that_finds_its_endpoint_paused_is_held_and_has_all_its_attempts_afterwards() {
    let stage = Stage::new().await;
    let (job, app) = (stage.job().await, stage.app());
    stage.receiver.answer(500);
    for number in 0..4 {
        try_once(app, &job, again(noon()), at(30 * number)).await;
    }
    stage.set("paused").await;
    assert_eq!(
        try_once(app, &job, again(noon()), at(120)).await,
        Verdict::Held
    );
    stage.set("active").await;
    assert_eq!(stage.reconcile(180).await, 1);

    let mut verdicts = Vec::new();
    for number in 0..5 {
        verdicts.push(try_once(app, &job, again(noon()), at(180 + 30 * number)).await);
    }

    assert!(
        verdicts[..4]
            .iter()
            .all(|it| *it == Verdict::Again { seconds: 30 }),
        "{verdicts:?}"
    );
    assert_eq!(verdicts[4], Verdict::Dead { fresh: true });
    assert_eq!(stage.row(&job).await.attempts, 9);
}

#[tokio::test]
async fn endpoints_that_are_not_paused_are_told_at_once_and_only_once() {
    let stage = Stage::new().await;
    let other = Receiver::new();
    endpoint(&stage.tenant, &other).await;
    stage.set("paused").await;
    let (job, app) = (stage.job().await, stage.app());

    assert_eq!(
        try_once(app, &job, first(noon()), noon()).await,
        Verdict::Held
    );
    assert_eq!((stage.receiver.asked(), other.asked()), (0, 1));
    stage.set("active").await;
    assert_eq!(stage.reconcile(60).await, 1);
    let verdict = try_once(app, &job, again(noon()), at(61)).await;

    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!((stage.receiver.asked(), other.asked()), (1, 1));
}

#[tokio::test]
async fn a_delivery_that_is_held_while_its_endpoint_resumes_goes_out() {
    let stage = Stage::new().await;
    stage.set("paused").await;
    let job = stage.job().await;
    // The attempt is counted, the delivery is marked, and its row is on the way when the endpoint goes on.
    let gate = Gate::default();
    let plan = script("UpdateItem", [Fault::Hold(gate.clone())]);
    let slow = stage.tenant.world.another(|client| faulty(client, plan));
    let attempt = async { try_once(&slow.app, &job, first(noon()), noon()).await };
    let resume = async {
        gate.reached().await;
        stage.set("active").await;
        let woken = stage.reconcile(1).await;
        gate.open();
        woken
    };

    let (verdict, woken) = join!(attempt, resume);

    assert_eq!((verdict, woken), (Verdict::Again { seconds: 1 }, 0));
    let verdict = try_once(&slow.app, &job, again(noon()), at(2)).await;
    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!(stage.receiver.take().len(), 1);
}

#[tokio::test]
async fn a_delivery_that_is_woken_before_its_holder_looks_again_goes_out_once() {
    let stage = Stage::new().await;
    stage.set("paused").await;
    let job = stage.job().await;
    // The endpoints are read, the row is held, and the endpoints are about to be read again.
    let gate = Gate::default();
    let plan = script("Query", [Fault::Pass, Fault::Hold(gate.clone())]);
    let slow = stage.tenant.world.another(|client| faulty(client, plan));
    let attempt = async { try_once(&slow.app, &job, first(noon()), noon()).await };
    let resume = async {
        gate.reached().await;
        stage.set("active").await;
        let woken = stage.reconcile(1).await;
        gate.open();
        woken
    };

    let (verdict, woken) = join!(attempt, resume);

    assert_eq!((verdict, woken), (Verdict::Again { seconds: 1 }, 1));
    let app = stage.app();
    let (one, other) = join!(
        try_once(app, &job, again(noon()), at(2)),
        try_once(app, &job, first(at(1)), at(2))
    );
    assert!(
        [one, other].contains(&Verdict::Delivered),
        "{one:?} {other:?}"
    );
    assert_eq!(stage.receiver.take().len(), 1);
}

#[tokio::test]
async fn whatever_is_paused_and_resumed_meanwhile_nothing_waits_for_the_daily_look() {
    const JOBS: usize = 8;
    let stage = Stage::new().await;
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        jobs.push(stage.job().await);
    }
    let workers: Vec<_> = (0..3)
        .map(|seed| {
            let plan = storm(9_000 + seed, 8);
            stage.tenant.world.another(|client| faulty(client, plan))
        })
        .collect();
    stage.receiver.answer(500);
    retry(
        &stage.tenant,
        json!({ "attempts": 10, "interval_seconds": 1 }),
    )
    .await;
    for round in 0..6 {
        let status = ["paused", "active"][round % 2];
        let now = at(70 * i64::try_from(round).unwrap());
        let tries = jobs.iter().enumerate().map(|(index, job)| {
            let (worker, moment) = (&workers[(index + round) % workers.len()], moment(now));
            async move {
                // A fault of ours has the job come again, as a copy of it does.
                drop(worker.app.attempt(job, again(noon()), &moment).await);
            }
        });
        let reconciled = moment(now);
        let (_, (), requeued) = join!(
            futures_util::future::join_all(tries),
            stage.set(status),
            stage.app().requeue(&reconciled)
        );
        requeued.unwrap();
    }
    stage.receiver.answer(200);

    let mut seconds = 600;
    loop {
        stage.app().requeue(&moment(at(seconds))).await.unwrap();
        let mut left = BTreeSet::new();
        for job in &jobs {
            drop(
                stage
                    .app()
                    .attempt(job, again(noon()), &moment(at(seconds)))
                    .await,
            );
            match stage.row(job).await.state {
                State::Delivered { .. } => {}
                open => {
                    left.insert(open.name());
                }
            }
        }
        if left.is_empty() {
            break;
        }
        seconds += 70;
        assert!(seconds < LOOKED_AT_SECONDS / 2, "{left:?}");
    }
    let taken = stage
        .receiver
        .take()
        .into_iter()
        .filter(|got| got.status == 200);
    let ids: BTreeSet<_> = taken.map(|got| got.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), JOBS);
}

#[tokio::test]
async fn a_delivery_that_was_held_for_two_weeks_is_a_dead_letter_with_its_reason() {
    let stage = Stage::new().await;
    stage.set("paused").await;
    let (job, app) = (stage.job().await, stage.app());
    try_once(app, &job, first(noon()), noon()).await;
    for day in 1..14 {
        let seconds = day * (LOOKED_AT_SECONDS + 2);
        assert_eq!(stage.reconcile(seconds).await, 1);
        let verdict = try_once(app, &job, first(at(seconds)), at(seconds)).await;
        assert_eq!(verdict, Verdict::Held);
    }

    let end = HELD_SECONDS + 14;
    assert_eq!(stage.reconcile(end).await, 1);
    let verdict = try_once(app, &job, first(at(end)), at(end)).await;

    assert_eq!(verdict, Verdict::Dead { fresh: true });
    let row = stage.row(&job).await;
    assert_eq!(row.error.as_deref(), Some("endpoint paused"));
    assert_eq!(row.error_endpoint, Some(stage.endpoint));
    assert!(stage.receiver.take().is_empty());
}

#[tokio::test]
async fn what_is_held_for_an_endpoint_that_is_deleted_goes_to_those_that_are_left() {
    let stage = Stage::new().await;
    stage.set("paused").await;
    let (job, app) = (stage.job().await, stage.app());
    assert_eq!(
        try_once(app, &job, first(noon()), noon()).await,
        Verdict::Held
    );
    let other = Receiver::new();
    endpoint(&stage.tenant, &other).await;
    let path = format!("/webhooks/{}", stage.endpoint);
    assert_eq!(stage.tenant.server().delete(&path).await.status, 204);

    assert_eq!(stage.reconcile(60).await, 1);
    let verdict = try_once(app, &job, again(noon()), at(61)).await;

    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!(other.take().len(), 1);
}

#[tokio::test]
async fn what_is_held_is_counted_and_does_not_age_the_oldest_delivery() {
    let stage = Stage::new().await;
    stage.set("paused").await;
    let job = stage.job().await;
    for seconds in [0, LOOKED_AT_SECONDS] {
        try_once(stage.app(), &job, again(noon()), at(seconds)).await;
    }
    stage.app().keep_counts(Keep::Now).await.unwrap();

    let metrics = stage.tenant.server().get("/metrics").await.body;

    let names = [
        "deliveries_held",
        "delivery_attempts",
        "delivery_failures",
        "oldest_delivery_age_seconds",
    ];
    assert_eq!(
        names.map(|name| metrics[name].clone()),
        [json!(1), json!(0), json!(0), Value::Null]
    );
}
