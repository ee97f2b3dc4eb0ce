//! Rooms that several processes make, finish or change at the same time.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use tokio::{join, task::JoinSet};

use super::{
    insist,
    membership::{counts, table},
    process, quiet_tenant, say,
};
use crate::support::{
    Tenant,
    faults::{
        Fault::{Hold, LoseAnswer, Pass},
        Gate, script, storm,
    },
};

/// How large rooms are written: one transaction, then more.
const LARGE: usize = 120;

#[tokio::test(start_paused = true)]
async fn a_dm_made_by_both_sides_in_four_processes_is_one_room() {
    for seed in 0..4 {
        let tenant = quiet_tenant().await;
        let mut making = JoinSet::new();
        for number in 0..4 {
            let tenant = tenant.at(&process(storm(1_100 + 4 * seed + number, 4)).await);
            for (one, other) in [("alice", "bob"), ("bob", "alice")] {
                let client = tenant.user(one);
                making.spawn(async move {
                    let body = json!({ "type": "dm", "members": [one, other] });
                    let made = insist(|| client.post("/rooms", &body)).await;
                    match made.status {
                        201 => made.text("room_id"),
                        409 => made.body["error"]["room_id"].as_str().unwrap().to_owned(),
                        _ => panic!("{}", made.raw),
                    }
                });
            }
        }
        let rooms: HashSet<_> = making.join_all().await.into_iter().collect();

        assert_eq!(rooms.len(), 1);
        let room = rooms.into_iter().next().unwrap();
        for user in ["alice", "bob"] {
            let listed = tenant.user(user).get("/rooms").await;
            assert_eq!(listed.body.as_array().unwrap().len(), 1, "{}", listed.raw);
            assert_eq!(listed.body[0]["room_id"], room.as_str());
        }
        let (counted, there) = counts(&tenant, &room).await;
        assert_eq!((counted, there.members), (there, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_answers_were_lost_is_made_once() {
    for lost in 1..=4 {
        for body in [
            json!({ "type": "dm", "members": ["alice", "bob"] }),
            json!({ "type": "group", "members": ["alice", "bob"] }),
        ] {
            let tenant = quiet_tenant().await;
            let shaky = process(script("TransactWriteItems", vec![LoseAnswer; lost])).await;

            let made = tenant.at(&shaky).user("alice").post("/rooms", &body).await;

            assert_eq!(made.status, 201, "{}", made.raw);
            let listed = tenant.user("bob").get("/rooms").await;
            assert_eq!(listed.body.as_array().unwrap().len(), 1, "{}", listed.raw);
            assert_eq!(listed.body[0]["room_id"], made.body["room_id"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_who_comes_back_as_an_admin_while_they_are_removed_is_counted_as_one() {
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["root", "guest"]).await;
    let members = format!("/rooms/{room}/members");
    let guest = format!("{members}/guest");
    let gate = Gate::default();
    let slow = process(script("TransactWriteItems", [Hold(gate.clone())])).await;
    let slow = tenant.at(&slow).user("root");

    let (removed, ()) = join!(slow.delete(&guest), async {
        gate.reached().await;
        let admin = tenant.user("root");
        assert_eq!(admin.delete(&guest).await.status, 204);
        let back = json!({ "user_ids": ["guest"], "role": "admin" });
        assert_eq!(admin.post(&members, &back).await.status, 201);
        gate.open();
    });

    assert_eq!(removed.status, 204, "{}", removed.raw);
    let (counted, there) = counts(&tenant, &room).await;
    assert_eq!((counted, there.admins), (there, 1));
}

/// The one room of `user`, which is not listed while it is being made.
async fn made_by(tenant: &Tenant, user: &str) -> String {
    let key = AttributeValue::S(format!("{}#{user}", tenant.id));
    let index = tenant.world.dynamodb.query().index_name("by_user");
    let page = index
        .table_name(table("ROOMS_TABLE"))
        .key_condition_expression("user_key = :user")
        .expression_attribute_values(":user", key)
        .send()
        .await
        .unwrap();
    let (_, room) = page.items()[0]["pk"]
        .as_s()
        .unwrap()
        .split_once('#')
        .unwrap();
    room.to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_large_room_that_two_processes_finish_keeps_nobody_who_left_meanwhile() {
    let tenant = quiet_tenant().await;
    let users: Vec<_> = (0..LARGE)
        .map(|number| format!("user{number:03}"))
        .collect();
    let gate = Gate::default();
    // The first transaction makes the room, the second its first members.
    let slow = process(script("TransactWriteItems", [Pass, Hold(gate.clone())])).await;
    let slow = tenant.at(&slow).user("root");
    let body = json!({ "type": "channel", "members": users });

    let (made, ()) = join!(slow.post("/rooms", &body), async {
        gate.reached().await;
        let admin = tenant.user("root");
        let unfinished = made_by(&tenant, "root").await;
        // Whoever meets the room finishes it; then the first of them leaves.
        let members = admin
            .get(&format!("/rooms/{unfinished}/members?limit=100"))
            .await;
        assert_eq!(
            members.body.as_array().unwrap().len(),
            100,
            "{}",
            members.raw
        );
        let left = admin
            .delete(&format!("/rooms/{unfinished}/members/user000"))
            .await;
        assert_eq!(left.status, 204, "{}", left.raw);
        gate.open();
    });

    assert_eq!(made.status, 201, "{}", made.raw);
    let room = made.text("room_id");
    let (counted, there) = counts(&tenant, &room).await;
    assert_eq!((counted, there.members), (there, LARGE));
    let stranger = say(&tenant.user("user000"), &room, "still here?").await;
    stranger.assert_error(403, "AUTHORIZATION_ERROR", None);
}

#[tokio::test(start_paused = true)]
async fn a_large_room_made_in_a_storm_has_all_of_its_members() {
    for seed in 0..3 {
        let tenant = quiet_tenant().await;
        let users: Vec<_> = (0..LARGE)
            .map(|number| format!("user{number:03}"))
            .collect();
        let stormy = tenant.at(&process(storm(1_200 + seed, 3)).await);
        let admin = stormy.user("root").with("idempotency-key", "large");
        let body = json!({ "type": "channel", "members": users });

        let made = insist(|| admin.post("/rooms", &body)).await;

        assert_eq!(made.status, 201, "{}", made.raw);
        let (counted, there) = counts(&tenant, &made.text("room_id")).await;
        assert_eq!((counted, there.members), (there, LARGE + 1));
        let listed = tenant.user("user007").get("/rooms").await;
        assert_eq!(listed.body.as_array().unwrap().len(), 1, "{}", listed.raw);
    }
}
