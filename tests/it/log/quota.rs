//! The rate limit, shared by processes that do not know of each other.
//!
//! The bound. A bucket of `limit` tokens is one number `tat` that only grows, by 1/limit seconds for each
//! token that is leased, from the time of the first lease to at most one second after the time of the last.
//! So from a full bucket at most `limit × (1 + elapsed)` tokens are leased, and no token is spent twice: over
//! all time there is no slack at all. What was leased before a window and spent in it adds, per process, at most the
//! largest share less the one token spent at once: `limit/8 - 1`. It is dropped after a minute.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parlance::{
    app::auth::Session,
    domain::{Moment, Timestamp},
};
use serde_json::json;
use tokio::task::JoinSet;

use super::{process, quiet_tenant};
use crate::support::{Tenant, World, faults::Meter, faults::calm, faults::storm, tenant_of, world};

/// Requests per second of the tenants here.
const LIMIT: u32 = 50;

async fn limited(limit: u32) -> Tenant {
    let tenant = quiet_tenant().await;
    limit_to(&tenant, limit).await;
    tenant
}

async fn limit_to(tenant: &Tenant, limit: u32) {
    let operator = tenant.world.operator().anew();
    let path = format!("/admin/tenants/{}", tenant.id);
    let patched = operator.patch(&path, &json!({ "rate_limit": limit })).await;
    assert_eq!(patched.status, 200, "{}", patched.raw);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_that_hammer_one_tenant_grant_no_more_than_its_limit() {
    let tenant = limited(LIMIT).await;
    let begun = Instant::now();
    let mut hammering = JoinSet::new();
    for _ in 0..4 {
        let tenant = tenant.at(&process(calm()).await);
        for _ in 0..2 {
            let user = tenant.user("alice");
            hammering.spawn(async move {
                let mut granted = 0;
                for _ in 0..50 {
                    let response = user.get("/rooms").await;
                    match response.status {
                        200 => granted += 1,
                        429 => {
                            assert!(response.header("retry-after").is_some());
                            assert_eq!(response.header("x-ratelimit-remaining"), Some("0"));
                        }
                        _ => panic!("{}", response.raw),
                    }
                }
                granted
            });
        }
    }
    let granted: u32 = hammering.join_all().await.into_iter().sum();

    let most = f64::from(LIMIT) * (1.0 + begun.elapsed().as_secs_f64());
    assert!(
        f64::from(granted) <= most,
        "{granted} granted, at most {most}"
    );
    // Nor does it withhold what the tenant may have: a full bucket, less what is leased and unspent.
    assert!(granted >= LIMIT - 4 * (LIMIT / 8), "{granted} granted");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_never_grant_more_than_the_limit() {
    let tenant = limited(LIMIT).await;
    let begun = Instant::now();
    let mut hammering = JoinSet::new();
    for number in 0..4 {
        let user = tenant
            .at(&process(storm(1_400 + number, 3)).await)
            .user("alice");
        hammering.spawn(async move {
            let mut granted = 0;
            for _ in 0..60 {
                let response = user.get("/rooms").await;
                assert!(
                    [200, 429, 503].contains(&response.status),
                    "{}",
                    response.raw
                );
                granted += u32::from(response.status == 200);
            }
            granted
        });
    }
    let granted: u32 = hammering.join_all().await.into_iter().sum();

    let most = f64::from(LIMIT) * (1.0 + begun.elapsed().as_secs_f64());
    assert!(
        f64::from(granted) <= most,
        "{granted} granted, at most {most}"
    );
}

/// Asks for one request after the other at times the test chooses.
struct Caller {
    world: World,
    session: Session,
}

impl Caller {
    async fn new(tenant: &Tenant, world: World) -> Self {
        let key = tenant.key.as_bytes();
        let session = world.app.session(key, &moment(now())).await.unwrap();
        Self { world, session }
    }

    /// Whether a request `at` is granted.
    async fn ask(&self, at: Duration) -> bool {
        let (_, verdict) = self
            .world
            .app
            .charge(self.session.budget(), &moment(at))
            .await
            .unwrap();
        verdict.is_ok()
    }
}

fn moment(at: Duration) -> Moment {
    Moment::new(
        Timestamp::from_micros(i64::try_from(at.as_micros()).unwrap()),
        tokio::time::Instant::now(),
        Duration::from_secs(10),
        at.as_micros(),
    )
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[tokio::test]
async fn unspent_leases_add_at_most_one_share_for_each_process() {
    let tenant = limited(LIMIT).await;
    let mut callers = Vec::new();
    for _ in 0..4 {
        callers.push(Caller::new(&tenant, process(calm()).await).await);
    }
    let begun = now();
    for caller in &callers {
        assert!(caller.ask(begun).await);
    }
    // The bucket is full again, and each still has what it leased.
    let window = begun + Duration::from_secs(30);
    let mut granted = 0;
    for tick in 0..100 {
        for caller in &callers {
            granted += u32::from(caller.ask(window + Duration::from_millis(10 * tick)).await);
        }
    }

    let most = LIMIT + LIMIT * 99 / 100 + 4 * (LIMIT / 8 - 1);
    assert!(granted <= most, "{granted} granted, at most {most}");
    assert!(granted >= LIMIT, "{granted} granted");
}

#[tokio::test]
async fn a_lease_that_was_not_spent_for_a_minute_is_dropped() {
    let tenant = limited(LIMIT).await;
    let caller = Caller::new(&tenant, process(calm()).await).await;
    let begun = now();
    assert!(caller.ask(begun).await);

    let later = begun + Duration::from_secs(61);
    let mut granted = 0;
    while caller.ask(later).await {
        granted += 1;
    }

    assert_eq!(granted, LIMIT);
}

#[tokio::test]
async fn no_process_is_starved_by_three_that_came_first() {
    let tenant = limited(LIMIT).await;
    let begun = now();
    for _ in 0..3 {
        let caller = Caller::new(&tenant, process(calm()).await).await;
        assert!(caller.ask(begun).await);
    }
    let last = Caller::new(&tenant, process(calm()).await).await;
    let mut granted = 0;
    while last.ask(begun).await {
        granted += 1;
    }

    assert!(granted >= LIMIT - 3 * (LIMIT / 8), "{granted} granted");
}

/// How many of as many requests as anybody may make at once are granted `at`.
async fn burst(caller: &Caller, at: Duration) -> u32 {
    let mut granted = 0;
    while granted < 2 * LIMIT && caller.ask(at).await {
        granted += 1;
    }
    granted
}

/// Fails unless a bucket is granted `at`. The first write is charged at the time when it has ended: on a busy machine that
/// costs some of it.
async fn assert_full(caller: &Caller, at: Duration, what: &str) {
    let granted = burst(caller, at).await;
    assert!((LIMIT / 2..=LIMIT).contains(&granted), "{what}: {granted}");
}

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn a_clock_that_steps_back_locks_nobody_out() {
    for step in [
        Duration::from_secs(3),
        Duration::from_mins(10),
        DAY,
        DAY * 366,
    ] {
        let tenant = limited(LIMIT).await;
        let here = Caller::new(&tenant, process(calm()).await).await;
        let begun = now();
        assert_full(&here, begun, "before").await;

        let back = begun.checked_sub(step).unwrap();
        assert_full(&here, back, "after the step").await;
        // A process that is started after the step has nothing but what is stored.
        let other = Caller::new(&tenant, process(calm()).await).await;
        let later = back + Duration::from_secs(1);
        assert_full(&other, later, "after a restart").await;
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_while_locks_nobody_out() {
    let tenant = limited(LIMIT).await;
    let here = Caller::new(&tenant, process(calm()).await).await;
    let begun = now();
    assert_full(&here, begun + DAY * 3_650, "ahead").await;

    let restarted = Caller::new(&tenant, process(calm()).await).await;
    assert_full(&restarted, begun, "restarted").await;
    let later = begun + Duration::from_secs(2);
    assert_full(&here, later, "the same process").await;
}

#[tokio::test]
async fn a_process_whose_clock_is_a_little_behind_grants_no_second_bucket() {
    let tenant = limited(LIMIT).await;
    let ahead = Caller::new(&tenant, process(calm()).await).await;
    let behind = Caller::new(&tenant, process(calm()).await).await;
    let begun = now();
    assert_full(&ahead, begun, "ahead").await;
    let back = begun.checked_sub(Duration::from_millis(900)).unwrap();
    assert_eq!(burst(&behind, back).await, 0);
}

#[tokio::test]
async fn a_share_from_before_a_step_back_is_not_spent_after_it() {
    let tenant = limited(LIMIT).await;
    let caller = Caller::new(&tenant, process(calm()).await).await;
    let begun = now();
    assert!(caller.ask(begun).await);

    let back = begun.checked_sub(DAY).unwrap();
    assert_full(&caller, back, "after the step").await;
}

/// What the limit costs in writes for each of 1,000 requests, one every `gap`.
async fn writes_per_request(gap: Duration) -> f64 {
    let tenant = tenant_of(&world().await).await;
    limit_to(&tenant, 100).await;
    let meter = Meter::default();
    let world = world().await.another(|client| meter.meter(client));
    let caller = Caller::new(&tenant, world).await;
    meter.take();
    let begun = now();
    for number in 0..1_000 {
        assert!(caller.ask(begun + gap * number).await);
    }
    let cost = meter.take();
    assert!(cost.read_units < f64::EPSILON);
    cost.write_units / 1_000.0
}

#[tokio::test]
async fn the_limit_costs_less_than_a_tenth_of_a_write_for_a_request() {
    // From hardly any to 99 in a second, where the limit is 100.
    for gap in [500, 100, 20, 11] {
        let writes = writes_per_request(Duration::from_millis(gap)).await;
        assert!(writes <= 0.1, "{writes} writes at one request in {gap} ms");
    }
    let writes = writes_per_request(Duration::from_micros(10_102)).await;
    assert!(writes <= 0.1, "{writes} writes at 99 requests in a second");
}
