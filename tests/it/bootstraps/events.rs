//! Events at functions that expect others.

use serde_json::json;

use super::deployment;
use crate::support::tenant_of;

/// What a queue would send.
fn of_a_queue() -> String {
    json!({
        "Records": [{
            "messageId": "19dd0b57-b21e-4ac1-bd88-01bbb068cb78",
            "receiptHandle": "handle",
            "body": "{}",
            "attributes": { "ApproximateReceiveCount": "1" },
            "messageAttributes": {},
            "md5OfBody": "99914b932bd37a50b983c5e7c90ae93b",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:Jobs",
            "awsRegion": "eu-west-1",
        }],
    })
    .to_string()
}

#[tokio::test]
async fn an_event_that_is_not_for_a_function_is_refused_and_the_process_lives_on() {
    let Some(world) = deployment().await else {
        return;
    };
    let deployed = world.deployed.clone().unwrap();
    for function in deployed.lambda.functions() {
        let name = &function.definition().name;
        // What the clock sends is not read, and anything is a call of it.
        if name == "ReconcileFunction" {
            continue;
        }
        let consumes_a_queue =
            ["DeliverFunction", "LiveFunction", "SweepFunction"].contains(&name.as_str());
        let of_another = (!consumes_a_queue).then(of_a_queue);
        let foreign = ["{}".to_owned(), "\"text\"".to_owned()];
        for event in foreign.into_iter().chain(of_another) {
            let refused = function.invoke(event.clone()).await;
            assert!(refused.is_err(), "{name} took {event}: {refused:?}");
        }
        assert_eq!((function.starts(), function.idle()), (1, 1), "{name}");
    }

    // The processes that refused are the ones that answer.
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    let path = format!("/rooms/{room}");
    assert_eq!(tenant.user("alice").get(&path).await.status, 200);
    let rooms = deployed.lambda.function("RoomsFunction").unwrap();
    assert_eq!(rooms.starts(), 1);
}

#[tokio::test]
async fn a_refusal_says_what_the_function_expects() {
    let Some(world) = deployment().await else {
        return;
    };
    let deployed = world.deployed.unwrap();
    let rooms = deployed.lambda.function("RoomsFunction").unwrap();

    let refused = rooms.invoke(of_a_queue()).await.unwrap_err();

    assert!(refused.message.contains("API Gateway"), "{refused}");
}
