//! Who is in a room.

use serde_json::{Value, json};

use super::{assert_time, column, events, walk};
use crate::support::{Tenant, tenant};

fn at(room: &str) -> String {
    format!("/rooms/{room}/members")
}

async fn ids(tenant: &Tenant, room: &str) -> Vec<Value> {
    column(&tenant.user("alice").get(&at(room)).await, "user_id")
}

#[tokio::test]
async fn an_admin_adds_members_and_is_told_their_places() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let body = json!({ "user_ids": ["carol", "bob", "carol"] });

    let added = tenant.user("alice").post(&at(&room), &body).await;

    added.assert(
        201,
        json!([
            { "user_id": "bob", "role": "member", "joined_at": added.body[0]["joined_at"] },
            { "user_id": "carol", "role": "member", "joined_at": added.body[1]["joined_at"] },
        ]),
    );
    assert_time(&added.body[1]["joined_at"]);
    assert_ne!(added.body[0]["joined_at"], added.body[1]["joined_at"]);
    assert_eq!(ids(&tenant, &room).await, ["alice", "bob", "carol"]);
}

#[tokio::test]
async fn only_who_was_no_member_joins_in_the_event() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    alice
        .post(&at(&room), &json!({ "user_ids": ["bob", "carol"] }))
        .await;
    alice
        .post(&at(&room), &json!({ "user_ids": ["bob", "carol"] }))
        .await;

    let all = super::scan(&tenant.world, "Events").await;
    let joined: Vec<_> = all
        .iter()
        .filter(|event| super::text(event, "pk").starts_with(&tenant.id))
        .filter(|event| super::text(event, "kind") == "member.joined")
        .map(|event| event["users"].as_l().unwrap().clone())
        .collect();
    assert_eq!(joined, [[super::s("carol")]]);
}

#[tokio::test]
async fn a_new_admin_may_do_what_admins_may() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let body = json!({ "user_ids": ["bob"], "role": "admin" });
    let added = tenant.user("alice").post(&at(&room), &body).await;
    assert_eq!(added.body[0]["role"], "admin");

    let by_bob = tenant
        .user("bob")
        .post(&at(&room), &json!({ "user_ids": ["carol"] }))
        .await;
    assert_eq!(by_bob.status, 201);
}

#[tokio::test]
async fn a_role_for_who_is_a_member_already_is_applied() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    let before = alice.get(&at(&room)).await;
    for role in ["admin", "admin", "member"] {
        let body = json!({ "user_ids": ["bob", "carol"], "role": role });

        let added = alice.post(&at(&room), &body).await;

        let carol = alice.get(&at(&room)).await.body[2]["joined_at"].clone();
        added.assert(
            201,
            json!([
                { "user_id": "bob", "role": role, "joined_at": before.body[1]["joined_at"] },
                { "user_id": "carol", "role": role, "joined_at": carol },
            ]),
        );
    }
    let events = events(&tenant).await;
    // Bob becomes an admin, and then both become members again.
    assert_eq!((events["member.updated"], events["member.joined"]), (2, 1));
}

#[tokio::test]
async fn who_is_a_member_already_keeps_their_role_where_none_is_named() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let body = json!({ "user_ids": ["alice", "bob"] });

    let added = tenant.user("alice").post(&at(&room), &body).await;

    let roles = [&added.body[0]["role"], &added.body[1]["role"]];
    assert_eq!(roles, [&json!("admin"), &json!("member")]);
    assert!(!events(&tenant).await.contains_key("member.updated"));
}

#[tokio::test]
async fn a_role_that_would_leave_no_admin_is_refused_and_nobody_joins() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let body = json!({ "user_ids": ["alice", "carol"], "role": "member" });

    let refused = tenant.user("alice").post(&at(&room), &body).await;

    refused.assert(
        409,
        json!({
            "success": false,
            "error": { "code": "CONFLICT", "message": "A room keeps at least one admin" },
        }),
    );
    let listed = tenant.user("bob").get(&at(&room)).await;
    assert_eq!(column(&listed, "user_id"), ["alice", "bob"]);
    assert_eq!(column(&listed, "role"), ["admin", "member"]);
}

fn one(room: &str, user: &str) -> String {
    format!("{}/{user}", at(room))
}

#[tokio::test]
async fn an_admin_changes_a_members_role() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let (alice, bob) = (tenant.user("alice"), tenant.user("bob"));
    let joined_at = alice.get(&at(&room)).await.body[1]["joined_at"].clone();
    for (role, may_rename) in [("admin", 200), ("admin", 200), ("member", 403)] {
        let changed = alice
            .patch(&one(&room, "bob"), &json!({ "role": role }))
            .await;

        let place = json!({ "user_id": "bob", "role": role, "joined_at": joined_at });
        changed.assert(200, place);
        let renamed = bob
            .patch(&format!("/rooms/{room}"), &json!({ "name": "x" }))
            .await;
        assert_eq!(renamed.status, may_rename);
    }
    // A role that the member has already makes no event.
    assert_eq!(events(&tenant).await["member.updated"], 2);
}

#[tokio::test]
async fn the_event_of_a_changed_role_names_who_and_what() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let body = json!({ "role": "admin" });
    tenant.user("alice").patch(&one(&room, "bob"), &body).await;

    let all = super::scan(&tenant.world, "Events").await;
    let changed: Vec<_> = all
        .iter()
        .filter(|event| super::text(event, "pk").starts_with(&tenant.id))
        .filter(|event| super::text(event, "kind") == "member.updated")
        .map(|event| ["actor", "room", "role"].map(|name| super::text(event, name)))
        .collect();
    assert_eq!(changed, [["alice", &room, "admin"]]);
}

/// A gateway hands over decoded paths.
#[tokio::test]
async fn a_member_whose_id_has_a_slash_is_named_in_the_query() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "a/b?c#d%"]).await;
    let path = format!("{}?user_id=a%2Fb%3Fc%23d%25", at(&room));

    let changed = tenant
        .user("alice")
        .patch(&path, &json!({ "role": "admin" }))
        .await;

    let place = (&changed.body["user_id"], &changed.body["role"]);
    assert_eq!(place, (&json!("a/b?c#d%"), &json!("admin")));
    let body = json!({ "role": "admin" });
    let without = tenant.user("alice").patch(&at(&room), &body).await;
    without.assert_error(400, "VALIDATION_ERROR", Some("user_id"));
}

#[tokio::test]
async fn only_an_admin_changes_roles_even_their_own() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let refused = tenant
        .user("bob")
        .patch(&one(&room, "bob"), &json!({ "role": "admin" }))
        .await;
    refused.assert_error(403, "AUTHORIZATION_ERROR", None);
    let stranger = tenant.user("carol");
    let refused = stranger
        .patch(&one(&room, "bob"), &json!({ "role": "admin" }))
        .await;
    refused.assert_error(403, "AUTHORIZATION_ERROR", None);
}

#[tokio::test]
async fn the_last_admin_stays_one() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    let (member, admin) = (json!({ "role": "member" }), json!({ "role": "admin" }));

    let refused = alice.patch(&one(&room, "alice"), &member).await;
    refused.assert_error(409, "CONFLICT", None);
    alice.patch(&one(&room, "bob"), &admin).await;
    let changed = alice.patch(&one(&room, "alice"), &member).await;
    assert_eq!(
        (changed.status, &changed.body["role"]),
        (200, &json!("member"))
    );
}

#[tokio::test]
async fn a_role_is_a_known_one_of_a_member_and_nothing_else_is_taken() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    for (body, field) in [
        (json!({}), "role"),
        (json!({ "role": "owner" }), "role"),
        (json!({ "role": null }), "role"),
    ] {
        let refused = alice.patch(&one(&room, "bob"), &body).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some(field));
    }
    let misspelt = json!({ "role": "admin", "rolle": "member" });
    let refused = alice.patch(&one(&room, "bob"), &misspelt).await;
    assert_eq!(refused.status, 400, "{}", refused.raw);
    let nobody = alice
        .patch(&one(&room, "nobody"), &json!({ "role": "admin" }))
        .await;
    nobody.assert_error(404, "NOT_FOUND", None);
}

#[tokio::test]
async fn a_member_does_not_add_members() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;

    let answer = tenant
        .user("bob")
        .post(&at(&room), &json!({ "user_ids": ["carol"] }))
        .await;

    answer.assert_error(403, "AUTHORIZATION_ERROR", None);
    assert_eq!(ids(&tenant, &room).await, ["alice", "bob"]);
}

#[tokio::test]
async fn an_admin_removes_a_member_by_path() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;

    let removed = tenant
        .user("alice")
        .delete(&format!("{}/bob", at(&room)))
        .await;

    assert_eq!((removed.status, removed.raw.as_str()), (204, ""));
    let bob = tenant.user("bob").get(&format!("/rooms/{room}")).await;
    bob.assert_error(403, "AUTHORIZATION_ERROR", None);
    assert_eq!(events(&tenant).await["member.left"], 1);
}

#[tokio::test]
async fn an_admin_removes_a_member_by_query() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;

    let removed = tenant
        .user("alice")
        .delete(&format!("{}?user_id=bob", at(&room)))
        .await;

    assert_eq!((removed.status, removed.raw.as_str()), (204, ""));
    assert_eq!(ids(&tenant, &room).await, ["alice"]);
}

#[tokio::test]
async fn a_member_removes_themself_and_nobody_else() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob", "carol"]).await;
    let bob = tenant.user("bob");

    let other = bob.delete(&format!("{}/carol", at(&room))).await;
    other.assert_error(403, "AUTHORIZATION_ERROR", None);
    assert_eq!(bob.delete(&format!("{}/bob", at(&room))).await.status, 204);

    assert_eq!(ids(&tenant, &room).await, ["alice", "carol"]);
}

#[tokio::test]
async fn who_is_no_member_cannot_be_removed() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    let path = format!("{}/nobody", at(&room));

    alice.delete(&path).await.assert(
        404,
        json!({
            "success": false,
            "error": { "code": "NOT_FOUND", "message": "Member not found" },
        }),
    );
    alice
        .delete(&format!("{}?user_id=nobody", at(&room)))
        .await
        .assert_error(404, "NOT_FOUND", None);
}

#[tokio::test]
async fn the_last_admin_stays_while_others_do() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    let path = format!("{}/alice", at(&room));

    alice
        .delete(&path)
        .await
        .assert_error(409, "CONFLICT", None);
    alice.delete(&format!("{}/bob", at(&room))).await;
    assert_eq!(alice.delete(&path).await.status, 204);
    alice
        .get(&format!("/rooms/{room}"))
        .await
        .assert_error(403, "AUTHORIZATION_ERROR", None);
}

#[tokio::test]
async fn one_of_two_admins_may_leave() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    alice
        .post(
            &at(&room),
            &json!({ "user_ids": ["carol"], "role": "admin" }),
        )
        .await;

    assert_eq!(
        alice.delete(&format!("{}/alice", at(&room))).await.status,
        204
    );

    let last = tenant
        .user("carol")
        .delete(&format!("{}/carol", at(&room)))
        .await;
    last.assert_error(409, "CONFLICT", None);
}

#[tokio::test]
async fn the_members_of_a_dm_never_change() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    let body = json!({ "type": "dm", "members": ["alice", "bob"] });
    let room = alice.post("/rooms", &body).await.text("room_id");

    alice
        .post(&at(&room), &json!({ "user_ids": ["carol"] }))
        .await
        .assert_error(409, "CONFLICT", None);
    alice
        .delete(&format!("{}/bob", at(&room)))
        .await
        .assert_error(409, "CONFLICT", None);
    let bob = tenant
        .user("bob")
        .delete(&format!("{}/bob", at(&room)))
        .await;
    bob.assert_error(409, "CONFLICT", None);
    alice
        .patch(&format!("{}/bob", at(&room)), &json!({ "role": "admin" }))
        .await
        .assert_error(409, "CONFLICT", None);

    assert_eq!(ids(&tenant, &room).await, ["alice", "bob"]);
}

#[tokio::test]
async fn who_comes_back_starts_anew() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let (alice, bob) = (tenant.user("alice"), tenant.user("bob"));
    super::send(&alice, &room, "hi").await;
    bob.post("/acks", &json!({ "room_id": room, "seq": 1 }))
        .await;
    bob.delete(&format!("{}/bob", at(&room))).await;
    alice
        .post(&at(&room), &json!({ "user_ids": ["bob"] }))
        .await;

    assert_eq!(
        bob.get(&format!("/rooms/{room}")).await.body["unread_count"],
        1
    );
}

#[tokio::test]
async fn a_list_of_members_is_walked_by_its_links() {
    let tenant = tenant().await;
    let users: Vec<_> = (0..7).map(|number| format!("user{number}")).collect();
    let names: Vec<_> = users.iter().map(String::as_str).collect();
    let room = tenant.group(&names).await;
    let client = tenant.user("user3");

    let (walked, pages) = walk(&client, &format!("{}?limit=3", at(&room)), "user_id").await;

    assert_eq!(walked, users);
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn a_list_of_members_takes_limit_and_offset() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob", "carol"]).await;
    let alice = tenant.user("alice");

    let ids = async |query: &str| {
        column(
            &alice.get(&format!("{}{query}", at(&room))).await,
            "user_id",
        )
    };
    assert_eq!(ids("?limit=2").await, ["alice", "bob"]);
    assert_eq!(ids("?limit=2&offset=1").await, ["bob", "carol"]);
    assert_eq!(ids("?offset=1000").await, Vec::<Value>::new());
}
