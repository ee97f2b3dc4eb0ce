//! Deleting an agent: nobody is shown its versions any more, and they are removed soon after.

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::{domain::event::Gone, queue::Sweep};
use serde_json::json;

use super::{
    Team,
    agent_faults::{made, versions},
    deletion::{alone, batch, deletions, jobs, poison, sweeps, taken},
    team,
};
use crate::support::{
    faults::Fault::{Double, LoseAnswer, LoseRequest, Throttle},
    faults::{faulty, script},
    settings,
};

/// The sweep of the agent at `path`.
fn sweep_of(team: &Team, path: &str) -> String {
    let id = path.strip_prefix("/agent/").unwrap();
    let job = Sweep {
        tenant: team.id.parse().unwrap(),
        gone: Gone::Agent(id.parse().unwrap()),
    };
    job.to_text().unwrap()
}

/// Sweeps the agent at `path` once.
pub(super) async fn sweep(team: &Team, path: &str) {
    let world = &team.tenant.world;
    let response = sweep::handle(&world.app, &poison(world), jobs(&[sweep_of(team, path)])).await;
    assert!(response.batch_item_failures.is_empty());
}

async fn delete(team: &Team, path: &str) {
    let gone = team.sk.delete(path).await;
    assert_eq!((gone.status, gone.raw.as_str()), (204, ""));
}

/// Versions 2 to `last`, as if it had been changed so often.
async fn fill(team: &Team, path: &str, last: u32) {
    let id = path.strip_prefix("/agent/").unwrap();
    let text = AttributeValue::S;
    let dynamodb = &team.tenant.world.dynamodb;
    let table = settings().tables.tenants;
    for version in 2..=last {
        let put = dynamodb.put_item().table_name(&table);
        put.item("pk", text(format!("{}#agent#{id}", team.id)))
            .item("sk", text(format!("{version:010}")))
            .item("name", text("Ada".to_owned()))
            .item("description", text(String::new()))
            .send()
            .await
            .unwrap();
    }
    let update = dynamodb.update_item().table_name(&table);
    update
        .key("pk", text(format!("{}#agents", team.id)))
        .key("sk", text(id.to_owned()))
        .update_expression("SET version = :last")
        .expression_attribute_values(":last", AttributeValue::N(last.to_string()))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn nobody_is_shown_the_versions_of_a_deleted_agent() {
    let team = team().await;
    let path = made(&team).await;
    delete(&team, &path).await;
    for of in ["", "?version=1", "/versions"] {
        let gone = team.sk.get(&format!("{path}{of}")).await;
        gone.assert(
            404,
            json!({ "error": "Not Found", "message": "Agent not found" }),
        );
    }
}

#[tokio::test]
async fn a_deleted_agents_versions_are_removed_at_once_and_once_more_later() {
    let team = alone().await;
    let world = &team.tenant.world;
    delete(&team, &made(&team).await).await;
    let event = batch(&deletions(&team).await);
    assert_eq!(event.records.len(), 1);

    let response = fanout::handle(&world.app, &poison(world), event).await;

    assert!(response.batch_item_failures.is_empty());
    assert_eq!(sweeps(world).await, (1, 1));
}

#[tokio::test]
async fn more_versions_than_a_sweep_removes_take_several() {
    let team = alone().await;
    let world = &team.tenant.world;
    let path = made(&team).await;
    fill(&team, &path, 1_020).await;
    delete(&team, &path).await;
    assert_eq!(versions(&team, &path).await.len(), 1_020);

    let mut left = Vec::new();
    let mut job = vec![sweep_of(&team, &path)];
    while !job.is_empty() {
        let response = sweep::handle(&world.app, &poison(world), jobs(&job)).await;
        assert!(response.batch_item_failures.is_empty());
        left.push(versions(&team, &path).await.len());
        job = taken(world).await;
    }

    assert_eq!(left, [520, 20, 0]);
}

#[tokio::test]
async fn a_sweep_removes_nothing_of_an_agent_that_is_there() {
    let team = alone().await;
    let path = made(&team).await;

    sweep(&team, &path).await;

    assert_eq!(versions(&team, &path).await.len(), 1);
    assert_eq!(sweeps(&team.tenant.world).await, (0, 0));
}

#[tokio::test]
async fn whatever_becomes_of_a_sweep_the_versions_are_removed() {
    let team = alone().await;
    for fate in [LoseAnswer, LoseRequest, Double, Throttle] {
        let path = made(&team).await;
        delete(&team, &path).await;
        let plan = script("BatchWriteItem", vec![fate; 2]);
        let world = team.tenant.world.another(|client| faulty(client, plan));
        sweep(&team.at(&world), &path).await;
        assert_eq!(versions(&team, &path).await, []);
    }
}
