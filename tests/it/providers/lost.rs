//! Keys of model providers while `DynamoDB` loses answers and requests.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;

use super::keys::{kept, openai, path};
use crate::support::{
    Tenant,
    faults::{Fault, faulty, script},
    settings, tenant,
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

/// The sort keys of a tenant's keys without what is theirs alone, and their number.
async fn stored(tenant: &Tenant) -> (Vec<String>, Option<String>) {
    let pk = AttributeValue::S(format!("{}#provider_keys", tenant.id));
    let found = tenant
        .world
        .dynamodb
        .query()
        .table_name(settings().tables.tenants)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", pk)
        .send()
        .await
        .unwrap();
    let items = found.items();
    let kinds = items.iter().map(|item| {
        let sk = item["sk"].as_s().unwrap();
        sk.split(['#', '_']).next().unwrap().to_owned()
    });
    let number = items.iter().find_map(|item| item.get("keys"));
    (
        kinds.collect(),
        number.map(|number| number.as_n().unwrap().clone()),
    )
}

fn things(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_key_whose_answer_was_lost_is_kept_once() {
    for fates in fates() {
        let tenant = tenant().await;
        let made = kept(&unlucky(&tenant, &fates), openai("sk-one")).await;
        assert_eq!(made.status, 201, "{fates:?}: {}", made.raw);
        let expected = (things(&["count", "once", "pkey"]), Some("1".to_owned()));
        assert_eq!(stored(&tenant).await, expected, "{fates:?}");
    }
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_made_once() {
    for fates in fates() {
        let tenant = tenant().await;
        let made = kept(&tenant, openai("sk-one")).await;
        let one = format!("{}/{}", path(&tenant), made.text("key_id"));
        let change = json!({ "api_key": "sk-0123456789-two" });
        let changed = unlucky(&tenant, &fates).server().put(&one, &change).await;
        assert_eq!(changed.status, 200, "{fates:?}: {}", changed.raw);
        let expected = (things(&["count", "once", "pkey"]), Some("1".to_owned()));
        assert_eq!(stored(&tenant).await, expected, "{fates:?}");
        let listed = tenant.server().get(&path(&tenant)).await;
        listed.assert(200, json!([changed.body]));
    }
}

#[tokio::test]
async fn a_key_whose_answer_was_lost_is_deleted_once() {
    for fates in fates() {
        let tenant = tenant().await;
        let made = kept(&tenant, openai("sk-one")).await;
        let one = format!("{}/{}", path(&tenant), made.text("key_id"));
        let deleted = unlucky(&tenant, &fates).server().delete(&one).await;
        assert_eq!(deleted.status, 204, "{fates:?}: {}", deleted.raw);
        let expected = (things(&["count"]), Some("0".to_owned()));
        assert_eq!(stored(&tenant).await, expected, "{fates:?}");
    }
}

#[tokio::test]
async fn of_changes_made_at_once_each_is_made() {
    let tenant = tenant().await;
    let made = kept(&tenant, openai("sk-one")).await;
    let one = format!("{}/{}", path(&tenant), made.text("key_id"));
    let changing = (0..8).map(|n| {
        let (server, one) = (tenant.server(), one.clone());
        async move {
            let change = json!({ "api_key": format!("sk-0123456789-{n}") });
            server.put(&one, &change).await.status
        }
    });
    let changed = futures_util::future::join_all(changing).await;
    assert!(changed.iter().all(|status| *status == 200), "{changed:?}");
    let expected = (things(&["count", "once", "pkey"]), Some("1".to_owned()));
    assert_eq!(stored(&tenant).await, expected);
}
