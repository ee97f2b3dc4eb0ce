//! What a head counts, and how many members there are.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::AttributeValue;
use parlance_local::template::Stack;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Dice, insist, process, quiet_tenant};
use crate::support::{Tenant, faults::storm};

/// The most members of a room.
const LIMIT: usize = 10_000;

pub(super) fn table(variable: &str) -> String {
    Stack::compiled_in().unwrap().environment[variable].clone()
}

/// Members and admins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) members: usize,
    pub(super) admins: usize,
}

/// What the head of a room counts, and what its member items do.
pub(super) async fn counts(tenant: &Tenant, room: &str) -> (Counts, Counts) {
    let page = tenant
        .world
        .dynamodb
        .query()
        .table_name(table("ROOMS_TABLE"))
        .consistent_read(true)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", AttributeValue::S(format!("{}#{room}", tenant.id)))
        .send()
        .await
        .unwrap();
    let (head, members) = page.items().split_first().unwrap();
    assert_eq!(head["sk"].as_s().unwrap(), "HEAD");
    assert!(!head.contains_key("creating"));
    let number = |name: &str| head[name].as_n().unwrap().parse().unwrap();
    let counted = Counts {
        members: number("members"),
        admins: number("admins"),
    };
    let there = Counts {
        members: members.len(),
        admins: members
            .iter()
            .filter(|member| member["role"].as_s().unwrap() == "admin")
            .count(),
    };
    (counted, there)
}

/// One try of somebody to change who is in the room.
async fn meddle(tenant: &Tenant, room: &str, dice: &mut Dice) {
    let user = format!("user{}", dice.roll(5));
    let admin = tenant.user("root");
    let members = format!("/rooms/{room}/members");
    let one = format!("{members}/{user}");
    let response = match dice.roll(6) {
        0 => {
            let other = format!("user{}", dice.roll(5));
            let body = json!({ "user_ids": [user, other], "role": "member" });
            insist(|| admin.post(&members, &body)).await
        }
        1 => {
            let body = json!({ "user_ids": [user], "role": "admin" });
            insist(|| admin.post(&members, &body)).await
        }
        2 => insist(|| admin.delete(&one)).await,
        3 => {
            let body = json!({ "role": "admin" });
            insist(|| admin.patch(&one, &body)).await
        }
        4 => {
            let body = json!({ "role": "member" });
            insist(|| admin.patch(&one, &body)).await
        }
        _ => {
            let client = tenant.user(&user);
            insist(|| client.delete(&one)).await
        }
    };
    // Done, or not in the room: never a fault, and nobody is the last admin, for root stays.
    let expected = [200, 201, 204, 403, 404];
    assert!(expected.contains(&response.status), "{}", response.raw);
}

#[tokio::test(start_paused = true)]
async fn a_head_counts_its_members_after_joins_leaves_and_roles_of_four_processes_in_a_storm() {
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["root"]).await;
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let tenant = tenant.at(&process(storm(800 + number, 6)).await);
        for task in 0..4 {
            let (tenant, room) = (tenant.clone(), room.clone());
            tasks.spawn(async move {
                let mut dice = Dice(100 * number + task);
                for _ in 0..15 {
                    meddle(&tenant, &room, &mut dice).await;
                }
            });
        }
    }
    tasks.join_all().await;

    let (counted, there) = counts(&tenant, &room).await;
    assert_eq!(counted, there);
}

#[tokio::test(start_paused = true)]
async fn joins_of_four_processes_never_pass_the_limit_of_a_room() {
    const ROOM_LEFT: usize = 20;
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["root"]).await;
    // As if thousands had joined: only the head needs to know.
    tenant
        .world
        .dynamodb
        .update_item()
        .table_name(table("ROOMS_TABLE"))
        .key("pk", AttributeValue::S(format!("{}#{room}", tenant.id)))
        .key("sk", AttributeValue::S("HEAD".to_owned()))
        .update_expression("SET members = :most")
        .expression_attribute_values(":most", AttributeValue::N((LIMIT - ROOM_LEFT).to_string()))
        .send()
        .await
        .unwrap();

    let mut joining = JoinSet::new();
    for number in 0..4 {
        let tenant = tenant.at(&process(storm(900 + number, 6)).await);
        for task in 0..8 {
            let (admin, room) = (tenant.user("root"), room.clone());
            joining.spawn(async move {
                let user = format!("user{number}-{task}");
                let body = json!({ "user_ids": [user] });
                let members = format!("/rooms/{room}/members");
                insist(|| admin.post(&members, &body)).await
            });
        }
    }
    let statuses = joining.join_all().await;

    let joined = statuses.iter().filter(|told| told.status == 201).count();
    assert_eq!(joined, ROOM_LEFT);
    for refused in statuses.iter().filter(|told| told.status != 201) {
        refused.assert_error(400, "VALIDATION_ERROR", Some("user_ids"));
    }
    let (counted, there) = counts(&tenant, &room).await;
    assert_eq!(counted.members, LIMIT);
    assert_eq!(there.members, ROOM_LEFT + 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_two_admins_who_leave_at_once_leave_one_behind() {
    for seed in 0..6 {
        let tenant = quiet_tenant().await;
        let room = tenant.group(&["root", "guest"]).await;
        let promote = json!({ "user_ids": ["other"], "role": "admin" });
        let members = format!("/rooms/{room}/members");
        assert_eq!(
            tenant.user("root").post(&members, &promote).await.status,
            201
        );

        let mut leaving = JoinSet::new();
        for (number, user) in (0..).zip(["root", "other"]) {
            let process = process(storm(1_000 + 2 * seed + number, 4)).await;
            let (client, one) = (tenant.at(&process).user(user), format!("{members}/{user}"));
            leaving.spawn(async move { insist(|| client.delete(&one)).await.status });
        }
        let statuses: HashSet<_> = leaving.join_all().await.into_iter().collect();

        // After a 503 the one who left is a stranger.
        assert!(
            statuses == HashSet::from([204, 409]) || statuses == HashSet::from([403, 409]),
            "{statuses:?}"
        );
        let (counted, there) = counts(&tenant, &room).await;
        assert_eq!((counted, there.admins), (there, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn two_admins_who_take_each_others_role_at_once_leave_one_admin() {
    for seed in 0..6 {
        let tenant = quiet_tenant().await;
        let room = tenant.group(&["root", "guest"]).await;
        let members = format!("/rooms/{room}/members");
        let promote = json!({ "role": "admin" });
        let one = format!("{members}/guest");
        let promoted = tenant.user("root").patch(&one, &promote).await;
        assert_eq!(promoted.status, 200, "{}", promoted.raw);

        let mut changing = JoinSet::new();
        for (number, user, other) in [(0, "root", "guest"), (1, "guest", "root")] {
            let process = process(storm(1_200 + 2 * seed + number, 4)).await;
            let (client, one) = (tenant.at(&process).user(user), format!("{members}/{other}"));
            let demote = json!({ "role": "member" });
            changing.spawn(async move { insist(|| client.patch(&one, &demote)).await.status });
        }
        let mut statuses = changing.join_all().await;
        statuses.sort_unstable();

        // The other was refused: as no admin any more, or as the last one.
        assert!(
            statuses == [200, 403] || statuses == [200, 409],
            "{statuses:?}"
        );
        let (counted, there) = counts(&tenant, &room).await;
        assert_eq!((counted, there.admins), (there, 1));
    }
}
