//! How often a caller may ask, and how they are told.

use std::time::Duration;

use axum::http::Method;
use parlance::{app::App, domain::rate::Charge, http::moment};
use serde_json::json;
use tokio::time::advance;

use crate::support::{
    Client, Response, Tenant, World,
    faults::{Fault, always, faulty},
    tenant, world,
};

/// Fails unless the answer says what is left.
#[track_caller]
fn assert_told(what: &str, answer: &Response, limit: u64) {
    let number = |name| -> u64 {
        let text = answer
            .header(name)
            .unwrap_or_else(|| panic!("{what}: no {name}"));
        text.parse().unwrap()
    };
    assert_eq!(number("x-ratelimit-limit"), limit, "{what}");
    assert!(number("x-ratelimit-remaining") <= limit, "{what}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let reset = number("x-ratelimit-reset");
    assert!(
        (now - 5..=now + 5).contains(&reset),
        "{what}: {reset} is not about {now}"
    );
}

async fn limit(tenant: &Tenant, rate: u32) {
    let path = format!("/admin/tenants/{}", tenant.id);
    let operator = tenant.world.operator().anew();
    assert_eq!(
        operator
            .patch(&path, &json!({ "rate_limit": rate }))
            .await
            .status,
        200
    );
}

/// The first answer that is a 429: the budget is refilled all the time, so it may take some.
async fn until_limited(client: &Client, path: &str) -> Response {
    for _ in 0..100_000 {
        let answer = client.get(path).await;
        if answer.status == 429 {
            return answer;
        }
    }
    panic!("never limited");
}

#[tokio::test]
async fn every_answer_tells_what_is_left() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let (alice, stranger) = (tenant.user("alice"), tenant.world.stranger());
    let operator = tenant.world.operator().anew();
    let large = "x".repeat(300 * 1024);
    let own = 1_000_000;
    for (what, answer, limit) in [
        ("200", alice.get("/rooms").await, own),
        (
            "201",
            alice.post("/subscriptions", &json!({ "topic": "t" })).await,
            own,
        ),
        ("400", alice.get("/rooms?limit=0").await, own),
        (
            "400 of the user",
            tenant.user("a b").get("/rooms").await,
            own,
        ),
        (
            "403",
            tenant.user("bob").get(&format!("/rooms/{room}")).await,
            own,
        ),
        ("404 of a room", alice.get("/rooms/room_1").await, own),
        (
            "409",
            alice.delete(&format!("/rooms/{room}/members/bob")).await,
            own,
        ),
        ("413", alice.send(Method::POST, "/rooms", large).await, own),
        ("401 without a key", stranger.get("/rooms").await, 100),
        (
            "401 of a key",
            stranger.clone().with("x-api-key", "x").get("/rooms").await,
            100,
        ),
        ("404 of a path", alice.get("/nope").await, 100),
        ("405", alice.delete("/rooms").await, 100),
        (
            "OPTIONS",
            stranger.send(Method::OPTIONS, "/rooms", "").await,
            100,
        ),
        (
            "HEAD",
            stranger.send(Method::HEAD, "/health", "").await,
            100,
        ),
        ("health", stranger.get("/health").await, 100),
        ("the description", stranger.get("/openapi.json").await, 100),
        ("the page", stranger.get("/docs").await, 100),
        (
            "the operator",
            operator.get("/admin/tenants?limit=1").await,
            100,
        ),
        (
            "a wrong master key",
            stranger
                .with("x-master-key", "x")
                .get("/admin/tenants")
                .await,
            100,
        ),
    ] {
        assert_told(what, &answer, limit);
    }
}

#[track_caller]
fn assert_in_the_seeds_words(limited: &Response) {
    limited.assert(
        429,
        json!({
            "success": false,
            "error": {
                "code": "RATE_LIMIT_EXCEEDED",
                "message": "Rate limit exceeded. Try again in 60 seconds",
            },
        }),
    );
    assert_eq!(limited.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_tenant_beyond_its_limit_is_told_in_the_seeds_words() {
    let tenant = tenant().await;
    limit(&tenant, 1).await;

    let limited = until_limited(&tenant.user("alice"), "/rooms").await;

    assert_in_the_seeds_words(&limited);
    assert_eq!(limited.header("x-ratelimit-remaining"), Some("0"));
    assert_told("429", &limited, 1);
}

#[tokio::test]
async fn no_more_pass_than_the_limit_and_what_time_refills() {
    let tenant = tenant().await;
    limit(&tenant, 100).await;
    let began = std::time::Instant::now();
    let mut passed = 0;
    for _ in 0..500 {
        passed += u32::from(tenant.user("alice").get("/rooms").await.status == 200);
    }
    let refilled = began.elapsed().as_secs_f64() * 100.0;
    assert!(passed >= 100, "{passed}");
    assert!(f64::from(passed) <= 100.0 + refilled + 1.0, "{passed}");
}

#[tokio::test]
async fn a_new_limit_holds_at_once_in_the_process_that_set_it() {
    let tenant = tenant().await;
    // One process for all functions, as on one machine.
    let tenant = tenant.at(&tenant.world.another(|client| client));
    let alice = tenant.user("alice");
    // Leases a share under the old limit.
    assert_told("before", &alice.get("/rooms").await, 1_000_000);

    limit(&tenant, 2).await;
    let answers = [
        alice.get("/rooms").await,
        alice.get("/rooms").await,
        alice.get("/rooms").await,
    ];
    for answer in &answers {
        assert_told("after", answer, 2);
    }
    // Three in a row hardly take the second in which three may pass; thirty never do.
    until_limited(&alice, "/rooms").await;

    limit(&tenant, 1_000).await;
    let answer = alice.get("/rooms").await;
    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert_told("raised", &answer, 1_000);
}

#[tokio::test]
async fn one_tenants_limit_is_not_anothers() {
    let (busy, calm) = (tenant().await, tenant().await);
    limit(&busy, 1).await;
    limit(&calm, 1_000).await;
    until_limited(&busy.user("alice"), "/rooms").await;

    let answer = calm.user("alice").get("/rooms").await;
    assert_eq!(answer.status, 200);
    assert_told("the other", &answer, 1_000);
}

#[tokio::test]
async fn all_processes_share_a_tenants_budget() {
    let tenant = tenant().await;
    limit(&tenant, 1).await;
    until_limited(&tenant.user("alice"), "/rooms").await;
    let mut passed = 0;
    for _ in 0..5 {
        let cold = tenant.at(&tenant.world.another(|client| client));
        passed += u32::from(cold.user("alice").get("/rooms").await.status == 200);
    }
    assert!(passed < 5, "five cold functions had a budget of their own");
}

#[tokio::test]
async fn a_stranger_is_limited_by_address_and_only_they() {
    let world = world().await;
    let stranger = world.stranger();

    let limited = until_limited(&stranger, "/nope").await;

    assert_in_the_seeds_words(&limited);
    assert_told("429", &limited, 100);
    assert_eq!(world.stranger().get("/health").await.status, 200);
}

#[tokio::test]
async fn who_guesses_keys_is_limited_by_address() {
    // A process of its own: how many guesses reach one function in a second is not the claim.
    let process = world().await.another(|client| client);
    let guesser = process
        .stranger()
        .with("x-user-id", "alice")
        .with("x-api-key", "sk_guess");
    // Guesses at once: each is a read of the store.
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let guesser = guesser.clone();
        requests.spawn(async move { guesser.get("/rooms").await.status });
    }
    let answers = requests.join_all().await;
    assert!(answers.iter().all(|status| [401, 429].contains(status)));
    assert!(answers.contains(&429));
}

#[tokio::test]
async fn a_tenant_is_served_though_its_address_is_limited() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    alice.get("/rooms").await;
    until_limited(&alice, "/nope").await;

    assert_eq!(alice.get("/rooms").await.status, 200);
}

/// A process that knows no key yet, and somebody at an address where bad keys are answered with a 429.
async fn crowded(tenant: &Tenant) -> (World, Client) {
    let cold = tenant.world.another(|client| client);
    let guesser = cold.stranger().with("x-user-id", "alice");
    until_limited(&guesser.clone().with("x-api-key", "sk_guess"), "/rooms").await;
    (cold, guesser)
}

#[tokio::test]
async fn a_valid_key_is_looked_up_whatever_strangers_send_from_its_address() {
    let tenant = tenant().await;
    let (_cold, guesser) = crowded(&tenant).await;

    let answer = guesser.with("x-api-key", &tenant.key).get("/rooms").await;

    answer.assert(200, json!([]));
    assert_told("the tenant's", &answer, 1_000_000);
}

#[tokio::test]
async fn health_is_answered_whatever_strangers_send_from_its_address() {
    let tenant = tenant().await;
    let (cold, guesser) = crowded(&tenant).await;

    let health = cold.stranger().beside(&guesser).get("/health").await;

    let uptime = &health.body["uptime"];
    health.assert(
        200,
        json!({ "status": "ok", "uptime": uptime, "db_writable": true }),
    );
    assert_told("health", &health, 100);
}

#[tokio::test]
async fn the_right_master_key_opens_whatever_strangers_send_from_its_address() {
    let tenant = tenant().await;
    let (cold, guesser) = crowded(&tenant).await;
    let wrong = guesser.clone().with("x-master-key", "mk_guess");
    until_limited(&wrong, "/admin/tenants").await;

    let operator = cold.operator().beside(&guesser);
    let answer = operator.get(&format!("/admin/tenants/{}", tenant.id)).await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert_told("the operator", &answer, 100);
}

#[tokio::test]
async fn who_guesses_master_keys_is_limited_by_address() {
    let guesser = world().await.stranger().with("x-master-key", "mk_guess");

    let limited = until_limited(&guesser, "/admin/tenants").await;

    assert_in_the_seeds_words(&limited);
    assert_told("429", &limited, 100);
}

#[tokio::test]
async fn health_has_a_budget_of_its_own() {
    let world = world().await;
    let prober = world.another(|client| client).stranger();

    let limited = until_limited(&prober, "/health").await;

    assert_in_the_seeds_words(&limited);
    assert_told("429", &limited, 100);
    assert_eq!(prober.get("/nope").await.status, 404);
}

#[tokio::test]
async fn pages_that_others_read_leave_health_its_budget() {
    let tenant = tenant().await;
    let cold = tenant.world.another(|client| client);
    let prober = cold.stranger();
    let moment = moment(Duration::from_secs(1)).unwrap();
    while cold
        .app
        .charge_address(Charge::Public, Some(prober.address()), &moment)
        .1
        .is_ok()
    {}

    assert_eq!(prober.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_key_that_could_not_be_looked_up_is_charged_to_nobody() {
    let tenant = tenant().await;
    let broken = tenant.world.another(|client| {
        faulty(
            client,
            always("GetItem", Fault::Refuse("AccessDeniedException")),
        )
    });
    let client = broken.stranger().with("x-api-key", &tenant.key);
    for _ in 0..3 {
        let answer = client.get("/rooms").await;
        assert_eq!(answer.status, 503, "{}", answer.raw);
        assert_eq!(answer.header("x-ratelimit-remaining"), Some("100"));
    }
}

#[tokio::test]
async fn a_budget_that_a_store_elsewhere_does_not_write_is_a_503() {
    let tenant = tenant().await;
    let broken = tenant.world.another(|client| {
        faulty(
            client,
            always("UpdateItem", Fault::Refuse("AccessDeniedException")),
        )
    });
    let answer = tenant.at(&broken).user("alice").get("/rooms").await;
    assert_eq!(answer.status, 503, "{}", answer.raw);
}

/// Uses up what strangers at the address of `client` may have looked up. No time passes meanwhile.
fn use_up_look_ups(app: &App, client: &Client) {
    let moment = moment(Duration::from_secs(1)).unwrap();
    while app
        .charge_address(Charge::LookUp, Some(client.address()), &moment)
        .1
        .is_ok()
    {}
}

#[tokio::test(start_paused = true)]
async fn what_strangers_have_looked_up_is_bounded() {
    let tenant = tenant().await;
    let cold = tenant.world.another(|client| client);
    let client = cold
        .stranger()
        .with("x-api-key", &tenant.key)
        .with("x-user-id", "alice");
    use_up_look_ups(&cold.app, &client);

    let limited = client.get("/rooms").await;

    assert_in_the_seeds_words(&limited);
    assert_told("429", &limited, 1_000);
    assert_eq!(limited.header("x-ratelimit-remaining"), Some("0"));
    // Elsewhere it is nobody's business.
    assert_eq!(client.clone().anew().get("/rooms").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_held_a_while_ago_is_looked_up_whatever_others_had_looked_up() {
    let tenant = tenant().await;
    let cold = tenant.world.another(|client| client);
    let client = cold
        .stranger()
        .with("x-api-key", &tenant.key)
        .with("x-user-id", "alice");
    assert_eq!(client.get("/rooms").await.status, 200);
    // Longer than a session is trusted.
    advance(Duration::from_mins(10)).await;
    use_up_look_ups(&cold.app, &client);

    assert_eq!(client.get("/rooms").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_found_is_given_back_its_look_up() {
    let tenant = tenant().await;
    let cold = tenant.world.another(|client| client);
    let client = cold.stranger().with("x-api-key", &tenant.key);
    let moment = moment(Duration::from_secs(1)).unwrap();
    let left = |charge| {
        let quota = cold
            .app
            .address_quota(charge, Some(client.address()), &moment);
        quota.remaining
    };
    assert_eq!(client.get("/rooms").await.status, 401, "no user");
    assert_eq!((left(Charge::LookUp), left(Charge::Invalid)), (1_000, 100));
}
