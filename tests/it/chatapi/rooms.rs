//! Rooms.

use serde_json::{Value, json};

use super::{
    Item, assert_time, column, events, let_heads_follow, partition, poison, record, send, walk,
};
use crate::support::{Tenant, tenant};

#[tokio::test]
async fn a_message_to_an_unknown_room_is_not_found() {
    let tenant = tenant().await;

    let response = tenant
        .user("alice")
        .post("/rooms/room_nope/messages", &json!({ "content": "hi" }))
        .await;

    response.assert(
        404,
        json!({
            "success": false,
            "error": { "code": "NOT_FOUND", "message": "Room not found" },
        }),
    );
}

#[tokio::test]
async fn a_group_is_created_as_the_seed_shows() {
    let tenant = tenant().await;
    let body = json!({ "type": "group", "members": ["alice", "bob"], "name": "Team Chat" });

    let made = tenant.user("alice").post("/rooms", &body).await;

    made.assert(
        201,
        json!({
            "room_id": made.body["room_id"],
            "type": "group",
            "unique_key": null,
            "name": "Team Chat",
            "last_seq": 0,
            "created_at": made.body["created_at"],
        }),
    );
    assert!(made.text("room_id").starts_with("room_"));
    assert_time(&made.body["created_at"]);
}

#[tokio::test]
async fn a_channel_needs_no_name() {
    let tenant = tenant().await;
    let body = json!({ "type": "channel", "members": ["alice"], "name": null });

    let made = tenant.user("alice").post("/rooms", &body).await;

    made.assert(
        201,
        json!({
            "room_id": made.body["room_id"],
            "type": "channel",
            "unique_key": null,
            "name": null,
            "last_seq": 0,
            "created_at": made.body["created_at"],
        }),
    );
}

#[tokio::test]
async fn a_dm_has_the_unique_key_of_its_pair() {
    let tenant = tenant().await;
    let body = json!({ "type": "dm", "members": ["user2", "user1"] });

    let made = tenant.user("user2").post("/rooms", &body).await;

    made.assert(
        201,
        json!({
            "room_id": made.body["room_id"],
            "type": "dm",
            "unique_key": "dm:user1:user2",
            "name": null,
            "last_seq": 0,
            "created_at": made.body["created_at"],
        }),
    );
}

#[tokio::test]
async fn a_pair_has_one_dm_and_the_second_try_names_it() {
    let tenant = tenant().await;
    let first = tenant
        .user("alice")
        .post(
            "/rooms",
            &json!({ "type": "dm", "members": ["alice", "bob"] }),
        )
        .await;
    let written = events(&tenant).await;

    let second = tenant
        .user("bob")
        .post(
            "/rooms",
            &json!({ "type": "dm", "members": ["bob", "alice"] }),
        )
        .await;

    second.assert(
        409,
        json!({
            "success": false,
            "error": {
                "code": "CONFLICT",
                "message": "A DM between these users already exists",
                "room_id": first.text("room_id"),
            },
        }),
    );
    assert_eq!(events(&tenant).await, written);
}

#[tokio::test]
async fn the_same_pair_in_another_tenant_has_a_dm_of_its_own() {
    let body = json!({ "type": "dm", "members": ["alice", "bob"] });
    let one = tenant().await.user("alice").post("/rooms", &body).await;
    let other = tenant().await.user("alice").post("/rooms", &body).await;

    assert_eq!((one.status, other.status), (201, 201));
    assert_ne!(one.text("room_id"), other.text("room_id"));
}

#[tokio::test]
async fn eight_requests_for_one_dm_at_once_make_one() {
    let tenant = tenant().await;
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..8 {
        let client = tenant.user(["alice", "bob"][number % 2]);
        let body = json!({ "type": "dm", "members": ["alice", "bob"] });
        requests.spawn(async move { client.post("/rooms", &body).await });
    }
    let answers = requests.join_all().await;

    let made: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .collect();
    assert_eq!(made.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.assert_error(409, "CONFLICT", None);
        assert_eq!(answer.body["error"]["room_id"], made[0].body["room_id"]);
    }
    assert_eq!(events(&tenant).await["room.created"], 1);
}

#[tokio::test]
async fn the_creator_is_the_admin_and_a_member_though_unnamed() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    let body = json!({ "type": "group", "members": ["bob"] });
    let room = alice.post("/rooms", &body).await.text("room_id");

    let members = alice.get(&format!("/rooms/{room}/members")).await;

    members.assert(
        200,
        json!([
            { "user_id": "alice", "role": "admin", "joined_at": members.body[0]["joined_at"] },
            { "user_id": "bob", "role": "member", "joined_at": members.body[0]["joined_at"] },
        ]),
    );
    assert_time(&members.body[0]["joined_at"]);
}

#[tokio::test]
async fn members_named_twice_count_once() {
    let tenant = tenant().await;
    let body = json!({ "type": "group", "members": ["bob", "alice", "bob", "alice"] });
    let room = tenant
        .user("alice")
        .post("/rooms", &body)
        .await
        .text("room_id");

    let members = tenant
        .user("bob")
        .get(&format!("/rooms/{room}/members"))
        .await;
    assert_eq!(column(&members, "user_id"), ["alice", "bob"]);
}

#[tokio::test]
async fn a_room_is_created_with_its_event() {
    let tenant = tenant().await;
    tenant.group(&["alice", "bob"]).await;

    let events = events(&tenant).await;
    assert_eq!(
        events.into_iter().collect::<Vec<_>>(),
        [("room.created".to_owned(), 1)]
    );
}

#[tokio::test]
async fn a_room_shows_its_newest_seq_and_what_the_caller_has_not_acked() {
    let tenant = tenant().await;
    let (alice, bob) = (tenant.user("alice"), tenant.user("bob"));
    let body = json!({ "type": "group", "members": ["alice", "bob"], "name": "Team Chat" });
    let made = alice.post("/rooms", &body).await;
    let room = made.text("room_id");
    for content in ["one", "two", "three"] {
        send(&alice, &room, content).await;
    }
    bob.post("/acks", &json!({ "room_id": room, "seq": 1 }))
        .await;

    let seen = bob.get(&format!("/rooms/{room}")).await;

    seen.assert(
        200,
        json!({
            "room_id": room,
            "type": "group",
            "name": "Team Chat",
            "last_seq": 3,
            "unread_count": 2,
            "created_at": made.body["created_at"],
        }),
    );
}

#[tokio::test]
async fn a_dm_shows_its_unique_key() {
    let tenant = tenant().await;
    let body = json!({ "type": "dm", "members": ["alice", "bob"] });
    let made = tenant.user("alice").post("/rooms", &body).await;
    let room = made.text("room_id");

    let seen = tenant.user("bob").get(&format!("/rooms/{room}")).await;

    seen.assert(
        200,
        json!({
            "room_id": room,
            "type": "dm",
            "unique_key": "dm:alice:bob",
            "name": null,
            "last_seq": 0,
            "unread_count": 0,
            "created_at": made.body["created_at"],
        }),
    );
}

#[tokio::test]
async fn a_stranger_is_refused_and_another_tenant_finds_nothing() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let path = format!("/rooms/{room}");

    tenant.user("mallory").get(&path).await.assert(
        403,
        json!({
            "success": false,
            "error": { "code": "AUTHORIZATION_ERROR", "message": "You are not a member of this room" },
        }),
    );
    let other = crate::support::tenant().await;
    other
        .user("alice")
        .get(&path)
        .await
        .assert_error(404, "NOT_FOUND", None);
}

#[tokio::test]
async fn an_admin_renames_a_room_and_takes_its_name_away() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let (alice, path) = (tenant.user("alice"), format!("/rooms/{room}"));

    let renamed = alice.patch(&path, &json!({ "name": "Käse 🧀" })).await;

    renamed.assert(
        200,
        json!({
            "room_id": room,
            "type": "group",
            "name": "Käse 🧀",
            "last_seq": 0,
            "unread_count": 0,
            "created_at": renamed.body["created_at"],
        }),
    );
    assert_eq!(tenant.user("bob").get(&path).await.body, renamed.body);
    alice.patch(&path, &json!({ "name": null })).await;
    assert_eq!(alice.get(&path).await.body["name"], Value::Null);
    assert_eq!(events(&tenant).await["room.updated"], 2);
}

#[tokio::test]
async fn a_member_does_not_rename_a_room() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let path = format!("/rooms/{room}");

    let answer = tenant
        .user("bob")
        .patch(&path, &json!({ "name": "Bob's" }))
        .await;

    answer.assert_error(403, "AUTHORIZATION_ERROR", None);
    assert_eq!(
        tenant.user("bob").get(&path).await.body["name"],
        Value::Null
    );
}

/// Three rooms of alice and bob, in the order they were made.
async fn three(tenant: &Tenant) -> [String; 3] {
    [
        tenant.group(&["alice", "bob"]).await,
        tenant.group(&["alice", "bob"]).await,
        tenant.group(&["alice", "bob"]).await,
    ]
}

#[tokio::test]
async fn the_room_with_the_newest_message_is_listed_first() {
    let tenant = tenant().await;
    let [one, two, three] = three(&tenant).await;
    let (alice, bob) = (tenant.user("alice"), tenant.user("bob"));
    send(&alice, &one, "first").await;
    let sent = send(&alice, &one, "second").await;
    bob.post("/acks", &json!({ "room_id": one, "seq": 1 }))
        .await;
    let_heads_follow(&tenant, &one).await;

    let list = bob.get("/rooms").await;

    let quiet = |room: &str, at: &Value| {
        json!({
            "room_id": room,
            "type": "group",
            "name": null,
            "last_seq": 0,
            "unread_count": 0,
            "created_at": at,
        })
    };
    list.assert(
        200,
        json!([
            {
                "room_id": one,
                "type": "group",
                "name": null,
                "last_seq": 2,
                "unread_count": 1,
                "last_message_at": sent.body["created_at"],
                "created_at": list.body[0]["created_at"],
            },
            quiet(&three, &list.body[1]["created_at"]),
            quiet(&two, &list.body[2]["created_at"]),
        ]),
    );
    assert_eq!(list.next(), None);
}

#[tokio::test]
async fn a_head_never_moves_back_and_an_edit_does_not_move_it() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = tenant.user("alice");
    send(&alice, &room, "one").await;
    let id = send(&alice, &room, "two").await.text("message_id");
    let_heads_follow(&tenant, &room).await;
    let before = alice.get("/rooms").await.body;

    let log = partition(&tenant.world, "Messages", format!("{}#{room}", tenant.id)).await;
    alice
        .put(
            &format!("/rooms/{room}/messages/{id}"),
            &json!({ "content": "2" }),
        )
        .await;
    let poison = poison().await.0;
    let show = async |kind: &str, item: &Item| {
        let event = serde_json::from_value(json!({ "Records": [record(kind, item)] })).unwrap();
        let answer = heads::handle(&tenant.world.app, &poison, event).await;
        answer.batch_item_failures.len()
    };
    assert_eq!(show("INSERT", &log[0]).await, 0);
    let mut edited = log[1].clone();
    edited.insert("sk".to_owned(), super::s(format!("{:020}", 9)));
    assert_eq!(show("MODIFY", &edited).await, 0);

    assert_eq!(alice.get("/rooms").await.body, before);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_put_aside_and_the_others_are_not() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = tenant.user("alice");
    send(&alice, &room, "one").await;
    send(&alice, &room, "two").await;
    let log = partition(&tenant.world, "Messages", format!("{}#{room}", tenant.id)).await;
    let mut broken = log[0].clone();
    broken.insert("created_at".to_owned(), super::s("yesterday"));
    let records = [record("INSERT", &broken), record("INSERT", &log[1])];
    let event = serde_json::from_value(json!({ "Records": records })).unwrap();
    let (poison, queues, url) = poison().await;

    let answer = heads::handle(&tenant.world.app, &poison, event).await;

    assert_eq!(answer.batch_item_failures.len(), 0);
    let aside = queues
        .receive_message()
        .queue_url(url)
        .send()
        .await
        .unwrap();
    let aside = aside.messages().iter().map(|one| one.body().unwrap());
    let aside: Vec<Value> = aside
        .map(|body| serde_json::from_str(body).unwrap())
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(
        aside[0]["record"]["dynamodb"]["NewImage"]["created_at"]["S"],
        "yesterday"
    );
    assert_eq!(column(&alice.get("/rooms").await, "last_seq"), [2]);
}

#[tokio::test]
async fn a_list_of_rooms_is_walked_by_its_links() {
    let tenant = tenant().await;
    let mut rooms = Vec::new();
    for _ in 0..7 {
        rooms.insert(0, tenant.group(&["alice"]).await);
    }

    let (walked, pages) = walk(&tenant.user("alice"), "/rooms?limit=3", "room_id").await;

    assert_eq!(walked, rooms);
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn a_list_of_rooms_takes_limit_and_offset() {
    let tenant = tenant().await;
    let [one, two, three] = three(&tenant).await;
    let alice = tenant.user("alice");

    let ids = async |query: &str| column(&alice.get(&format!("/rooms{query}")).await, "room_id");
    assert_eq!(ids("?limit=2").await, [three.as_str(), two.as_str()]);
    assert_eq!(ids("?limit=2&offset=1").await, [two.as_str(), one.as_str()]);
    assert_eq!(ids("?offset=2").await, [one.as_str()]);
    assert_eq!(ids("?offset=1000").await, Vec::<Value>::new());
}

#[tokio::test]
async fn only_the_rooms_someone_is_in_are_listed() {
    let tenant = tenant().await;
    let left = tenant.group(&["alice", "bob"]).await;
    let kept = tenant.group(&["alice", "bob"]).await;
    tenant.group(&["alice"]).await;
    let bob = tenant.user("bob");
    bob.delete(&format!("/rooms/{left}/members/bob")).await;

    assert_eq!(column(&bob.get("/rooms").await, "room_id"), [kept.as_str()]);
    bob_of_another_tenant_sees_nothing().await;
}

async fn bob_of_another_tenant_sees_nothing() {
    let other = tenant().await;
    other.user("bob").get("/rooms").await.assert(200, json!([]));
}
