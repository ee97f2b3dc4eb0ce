//! Whether the service can write.

use serde_json::json;

use crate::support::{
    faults::{Fault, always, faulty},
    world, world_over,
};

#[tokio::test]
async fn health_is_public_and_as_the_seed_shows() {
    let health = world().await.stranger().get("/health").await;

    health.assert(
        200,
        json!({ "status": "ok", "uptime": health.body["uptime"], "db_writable": true }),
    );
    assert!(health.text("uptime").ends_with('s'));
}

#[tokio::test(start_paused = true)]
async fn health_says_so_when_the_store_does_not_take_writes() {
    let healthy = world_over(|client| client).await;
    let plan = always("UpdateItem", Fault::Throttle);
    let world = healthy.another(|client| faulty(client, plan));

    let health = world.stranger().get("/health").await;

    health.assert(
        503,
        json!({ "status": "degraded", "uptime": health.body["uptime"], "db_writable": false }),
    );
}

#[tokio::test]
async fn ten_questions_cost_one_write() {
    let meter = crate::support::faults::Meter::default();
    let world = world_over(|client| meter.meter(client)).await;
    for _ in 0..10 {
        world.stranger().get("/health").await;
    }
    assert_eq!(meter.take().operations, ["UpdateItem"]);
}
