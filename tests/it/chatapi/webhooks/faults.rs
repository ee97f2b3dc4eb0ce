//! Endpoints while DynamoDB loses answers and requests.

use serde_json::json;

use super::{URL, create, path, stored};
use crate::support::{
    Tenant,
    faults::{Fault, faulty, script, storm},
    receiver::Receiver,
    tenant,
};

/// The same tenant, served by a process whose transactions meet `fates` in turn.
fn unlucky(tenant: &Tenant, fates: &[Fault]) -> Tenant {
    let plan = script("TransactWriteItems", fates.to_vec());
    tenant.at(&tenant.world.another(|client| faulty(client, plan)))
}

/// What may happen to a transaction that is sent again.
fn fates() -> [Vec<Fault>; 6] {
    [
        vec![Fault::LoseAnswer],
        vec![Fault::LoseRequest],
        vec![Fault::Double],
        vec![Fault::Late(1)],
        vec![Fault::Throttle, Fault::LoseAnswer],
        vec![Fault::Conflict, Fault::LoseAnswer, Fault::LoseAnswer],
    ]
}

#[tokio::test]
async fn an_endpoint_whose_answer_was_lost_is_made_once() {
    for fates in fates() {
        let tenant = tenant().await;
        let unlucky = unlucky(&tenant, &fates);
        let made = create(&unlucky, URL).await;
        let keyed = unlucky.server().with("idempotency-key", "once");
        let body = json!({ "url": URL });
        assert_eq!(keyed.post("/webhooks", &body).await.status, 201);
        keyed
            .post("/webhooks", &body)
            .await
            .assert_error(409, "CONFLICT", None);
        assert_eq!(stored(&tenant).await, (2, Some(2)), "{fates:?}");
        assert_eq!(tenant.server().get(&path(&made)).await.status, 200);
    }
}

#[tokio::test]
async fn the_tenth_endpoint_whose_answer_was_lost_is_made() {
    let tenant = tenant().await;
    for _ in 0..9 {
        create(&tenant, URL).await;
    }
    create(&unlucky(&tenant, &[Fault::LoseAnswer]), URL).await;
    assert_eq!(stored(&tenant).await, (10, Some(10)));
}

#[tokio::test]
async fn an_endpoint_whose_answer_was_lost_is_deleted_once() {
    for fates in fates() {
        let tenant = tenant().await;
        let (_, made) = (create(&tenant, URL).await, create(&tenant, URL).await);
        let deleted = unlucky(&tenant, &fates).server().delete(&path(&made)).await;
        assert_eq!(deleted.status, 204, "{fates:?}: {}", deleted.raw);
        assert_eq!(stored(&tenant).await, (1, Some(1)), "{fates:?}");
    }
}

#[tokio::test]
async fn a_rotation_whose_answer_was_lost_shows_the_secret_that_signs() {
    for fates in fates() {
        let (tenant, receiver) = (tenant().await, Receiver::new());
        let made = create(&tenant, &receiver.url).await;
        let rotate = format!("{}/secret/rotate", path(&made));
        let keyed = unlucky(&tenant, &fates)
            .server()
            .with("idempotency-key", "once");
        let rotated = keyed.post(&rotate, &json!({})).await;
        assert_eq!(rotated.status, 201, "{fates:?}: {}", rotated.raw);

        tenant
            .server()
            .post(&format!("{}/test", path(&made)), &json!({}))
            .await;

        let [got] = <[_; 1]>::try_from(receiver.take()).unwrap();
        let both = [rotated.text("secret"), made.text("secret")];
        let both = both.map(|secret| super::secrets::signature(&got, &secret));
        assert_eq!(
            got.headers["webhook-signature"],
            both.join(" "),
            "{fates:?}"
        );
    }
}

#[tokio::test]
async fn a_storm_of_faults_leaves_as_many_endpoints_as_are_counted() {
    let tenant = tenant().await;
    let mut clients = tokio::task::JoinSet::new();
    for seed in 0..4 {
        let plan = storm(seed, 3);
        let tenant = tenant.at(&tenant.world.another(|client| faulty(client, plan)));
        clients.spawn(async move {
            for _ in 0..4 {
                let made = tenant
                    .server()
                    .post("/webhooks", &json!({ "url": URL }))
                    .await;
                // A lease of the budget may be lost too.
                assert!([201, 409, 429, 503].contains(&made.status), "{}", made.raw);
                if made.status == 201 {
                    let deleted = tenant.server().delete(&path(&made)).await;
                    assert!([204, 429, 503].contains(&deleted.status), "{}", deleted.raw);
                }
            }
        });
    }
    clients.join_all().await;
    let (there, counted) = stored(&tenant).await;
    assert_eq!(Some(there), counted);
    assert!(there <= 10);
}
