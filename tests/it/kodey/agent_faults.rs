//! Agents while the store throttles, loses and doubles: each change is a version once, and none is lost.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Team, agent_removal::sweep, deletion::deletions, team};
use crate::support::{
    Response, World,
    faults::{Fault, Gate, Plan, faulty, script, storm},
    settings, world,
};

/// The team, served by a process whose calls go through `plan`.
async fn among(team: &Team, plan: Plan) -> Team {
    team.at(&world().await.another(|client| faulty(client, plan)))
}

/// The one fate of the next transaction.
fn fated(fault: Fault) -> Plan {
    script("TransactWriteItems", [fault])
}

const FATES: [Fault; 6] = [
    Fault::LoseRequest,
    Fault::LoseAnswer,
    Fault::Double,
    Fault::Late(1),
    Fault::Conflict,
    Fault::Throttle,
];

pub(super) async fn made(team: &Team) -> String {
    let made = team.sk.post("/agent", &json!({ "name": "Ada" })).await;
    assert_eq!(made.status, 200, "{}", made.raw);
    format!("/agent/{}", made.text("id"))
}

pub(super) async fn rows(world: &World, pk: String) -> Vec<crate::chatapi::Item> {
    let query = world.dynamodb.query().table_name(settings().tables.tenants);
    let query = query.key_condition_expression("pk = :pk");
    let query = query.expression_attribute_values(":pk", AttributeValue::S(pk));
    query
        .consistent_read(true)
        .send()
        .await
        .unwrap()
        .items
        .unwrap()
}

/// The numbers and descriptions of all versions of the agent at `path`.
pub(super) async fn versions(team: &Team, path: &str) -> Vec<(u32, String)> {
    let id = path.strip_prefix("/agent/").unwrap();
    let rows = rows(&team.tenant.world, format!("{}#agent#{id}", team.id)).await;
    let version = |row: &crate::chatapi::Item| {
        let text = |name| row[name].as_s().unwrap();
        (text("sk").parse().unwrap(), text("description").clone())
    };
    rows.iter().map(version).collect()
}

/// How many agents the team is counted to have.
async fn counted(team: &Team) -> u32 {
    let rows = rows(&team.tenant.world, format!("{}#agents", team.id)).await;
    let count = rows.iter().find_map(|row| row.get("agents"));
    count.map_or(0, |count| count.as_n().unwrap().parse().unwrap())
}

fn assert_ok(answer: &Response) {
    assert_eq!(answer.status, 200, "{}", answer.raw);
}

#[tokio::test]
async fn an_agent_is_made_once_whatever_becomes_of_the_first_try() {
    join_all(FATES.map(async |fate| {
        let team = team().await;
        made(&among(&team, fated(fate.clone())).await).await;
        let listed = team.sk.get("/agent").await;
        let count = listed.body["agents"].as_array().unwrap().len();
        assert_eq!((count, counted(&team).await), (7, 1), "{fate:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_change_is_one_version_whatever_becomes_of_the_first_try() {
    join_all(FATES.map(async |fate| {
        let team = team().await;
        for path in [made(&team).await, "/agent/chat".to_owned()] {
            let faulty = among(&team, fated(fate.clone())).await;
            let body = json!({ "description": "new" });
            assert_ok(&faulty.sk.put(&path, &body).await);
            let versions = versions(&team, &path).await;
            assert_eq!(versions.len(), 2, "{fate:?}: {versions:?}");
            assert_eq!(team.sk.get(&path).await.body["version"], 2);
        }
    }))
    .await;
}

#[tokio::test]
async fn a_rollback_is_one_version_whatever_becomes_of_the_first_try() {
    join_all(FATES.map(async |fate| {
        let team = team().await;
        let path = made(&team).await;
        assert_ok(&team.sk.put(&path, &json!({ "description": "new" })).await);
        let faulty = among(&team, fated(fate.clone())).await;
        let (path_back, body) = (format!("{path}/rollback"), json!({ "version": 1 }));
        let back = faulty.sk.put(&path_back, &body).await;
        assert_eq!(back.body["version"], 3, "{fate:?}");
        assert_eq!(versions(&team, &path).await.len(), 3, "{fate:?}");
    }))
    .await;
}

#[tokio::test]
async fn an_agent_is_deleted_once_whatever_becomes_of_the_first_try() {
    join_all(FATES.map(async |fate| {
        let team = team().await;
        made(&team).await;
        for path in [made(&team).await, "/agent/chat".to_owned()] {
            let faulty = among(&team, fated(fate.clone())).await;
            let gone = faulty.sk.delete(&path).await;
            assert_eq!(gone.status, 204, "{fate:?}: {}", gone.raw);
            assert_eq!(team.sk.get(&path).await.status, 404);
            assert_eq!(versions(&team, &path).await.len(), 1, "{fate:?}");
        }
        // What is built in keeps its versions.
        assert_eq!(deletions(&team).await.len(), 1, "{fate:?}");
        assert_eq!(counted(&team).await, 1, "{fate:?}");
    }))
    .await;
}

#[tokio::test]
async fn in_a_storm_versions_have_no_gap_and_hold_every_change_that_was_acknowledged() {
    let team = team().await;
    let path = made(&team).await;
    let teams = [
        among(&team, storm(1, 4)).await,
        among(&team, storm(2, 4)).await,
    ];
    let changes = (0..40_usize).map(|number| {
        let (sk, path) = (teams[number % 2].sk.clone(), path.clone());
        async move {
            let description = format!("change {number}");
            let changed = sk.put(&path, &json!({ "description": description })).await;
            (changed.status == 200).then_some(description)
        }
    });
    let acknowledged: BTreeSet<String> = join_all(changes).await.into_iter().flatten().collect();
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    let versions = versions(&team, &path).await;
    let numbers: Vec<u32> = versions.iter().map(|(number, _)| *number).collect();
    let count = u32::try_from(versions.len()).unwrap();
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
    let kept: BTreeSet<String> = versions.iter().map(|(_, text)| text.clone()).collect();
    assert!(acknowledged.is_subset(&kept));
    let agent = team.sk.get(&path).await;
    assert_eq!(agent.body["version"], count);
    assert_eq!(agent.body["description"], versions.last().unwrap().1);
}

#[tokio::test]
async fn of_an_agent_that_is_changed_and_deleted_at_once_nothing_is_left_standing() {
    for _ in 0..5 {
        let team = team().await;
        let path = made(&team).await;
        let other = team.at(&world().await.another(|client| client));
        let change = async |number: usize| {
            let body = json!({ "description": format!("{number}") });
            other.sk.put(&path, &body).await.status
        };
        let changing = join_all((0..8).map(&change));
        let (statuses, gone) = tokio::join!(changing, team.sk.delete(&path));
        assert_eq!(gone.status, 204, "{}", gone.raw);
        for status in statuses {
            assert!(status == 200 || status == 404, "{status}");
        }
        assert_eq!(team.sk.get(&path).await.status, 404);
        assert_eq!(counted(&team).await, 0);
        sweep(&team, &path).await;
        assert_eq!(versions(&team, &path).await, []);
    }
}

#[tokio::test]
async fn a_built_in_agent_that_is_deleted_among_its_changes_stays_deleted() {
    let team = team().await;
    let path = "/agent/chat";
    // It has a row from here on, and a deletion leaves the row's version as it is.
    assert_ok(&team.sk.put(path, &json!({ "description": "new" })).await);
    let gate = Gate::default();
    let held = among(&team, fated(Fault::Hold(gate.clone()))).await;

    let body = json!({ "description": "newer" });
    let deleting = async {
        gate.reached().await;
        let gone = team.sk.delete(path).await;
        gate.open();
        gone
    };
    let (changed, gone) = tokio::join!(held.sk.put(path, &body), deleting);

    assert_eq!(gone.status, 204, "{}", gone.raw);
    assert_eq!(changed.status, 404, "{}", changed.raw);
    assert_eq!(team.sk.get(path).await.status, 404);
    assert_eq!(versions(&team, path).await.len(), 2);
}

#[tokio::test]
async fn a_built_in_agent_that_is_rolled_back_while_it_is_deleted_is_there_with_the_next_version() {
    let team = team().await;
    let path = "/agent/chat";
    assert_ok(&team.sk.put(path, &json!({ "description": "new" })).await);
    let gate = Gate::default();
    let held = among(&team, fated(Fault::Hold(gate.clone()))).await;

    let (path_back, body) = (format!("{path}/rollback"), json!({ "version": 1 }));
    let deleting = async {
        gate.reached().await;
        let gone = team.sk.delete(path).await;
        gate.open();
        gone
    };
    let (back, gone) = tokio::join!(held.sk.put(&path_back, &body), deleting);

    assert_eq!((gone.status, &back.body["version"]), (204, &json!(3)));
    let agent = team.sk.get(path).await;
    assert_eq!((agent.status, &agent.body["version"]), (200, &json!(3)));
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_a_503_and_changes_nothing() {
    let team = team().await;
    let path = made(&team).await;
    let denied = script(
        "TransactWriteItems",
        vec![Fault::Refuse("AccessDeniedException"); 4],
    );
    let faulty = among(&team, denied).await;
    for answer in [
        faulty.sk.post("/agent", &json!({ "name": "Eve" })).await,
        faulty.sk.put(&path, &json!({ "name": "Eve" })).await,
        faulty.sk.delete(&path).await,
        faulty.sk.delete("/agent/chat").await,
    ] {
        assert_eq!(answer.status, 503, "{}", answer.raw);
        assert_eq!(answer.body["error"], Value::from("Service Unavailable"));
    }
    assert_eq!(team.sk.get(&path).await.body["version"], 1);
    assert_eq!(team.sk.get("/agent/chat").await.status, 200);
}
