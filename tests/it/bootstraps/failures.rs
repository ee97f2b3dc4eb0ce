//! A request that fails takes no other with it.
//!
//! The function is a probe: served as all are, with routes that fail.

use std::{collections::BTreeMap, time::Duration};

use parlance_lambda::{Definition, Route};
use serde_json::json;

use super::folder;
use crate::support::{World, world_over};

/// The failing function alone, whose invocations may take `timeout`.
async fn failing(timeout: Duration) -> Option<World> {
    let folder = folder()?;
    let world = world_over(|client| client).await;
    Some(world.deployed_at(&folder, &world.served(), |definitions| {
        let environment: BTreeMap<_, _> = definitions[0].environment.clone();
        let routes = ["/panic", "/exit", "/hang", "/well"].map(|path| Route::Path {
            method: "GET".to_owned(),
            path: path.to_owned(),
        });
        *definitions = vec![Definition {
            name: "FailingFunction".to_owned(),
            binary: "failing".to_owned(),
            memory: 256,
            timeout,
            environment,
            routes: routes.to_vec(),
        }];
    }))
}

/// How many processes the function has had.
fn starts(world: &World) -> usize {
    let deployed = world.deployed.as_ref().unwrap();
    deployed
        .lambda
        .function("FailingFunction")
        .unwrap()
        .starts()
}

const LONG: Duration = Duration::from_secs(29);

#[tokio::test]
async fn a_panic_is_a_fault_in_the_dialects_shape_and_the_process_lives_on() {
    let Some(world) = failing(LONG).await else {
        return;
    };
    let stranger = world.stranger();

    let failed = stranger.get("/panic").await;

    failed.assert(
        500,
        json!({
            "success": false,
            "error": { "code": "INTERNAL_ERROR", "message": "Internal error" },
        }),
    );
    let well = stranger.get("/well").await;
    assert_eq!((well.status, well.raw.as_str()), (200, "well"));
    assert_eq!(starts(&world), 1);
}

#[tokio::test]
async fn a_process_that_dies_in_a_request_is_replaced() {
    let Some(world) = failing(LONG).await else {
        return;
    };
    let stranger = world.stranger();

    let failed = stranger.get("/exit").await;

    failed.assert(500, json!({ "message": "Internal Server Error" }));
    assert_eq!(stranger.get("/well").await.status, 200);
    assert_eq!(starts(&world), 2);
}

#[tokio::test]
async fn a_process_that_takes_too_long_is_replaced() {
    let Some(world) = failing(Duration::from_secs(1)).await else {
        return;
    };
    let stranger = world.stranger();

    let failed = stranger.get("/hang").await;

    failed.assert(500, json!({ "message": "Internal Server Error" }));
    assert_eq!(stranger.get("/well").await.status, 200);
    assert_eq!(starts(&world), 2);
}
