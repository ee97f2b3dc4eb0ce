//! User ids are the tenant's own words: any visible ASCII, whatever it means to a path, a query or a key.

use serde_json::json;

use super::{column, send};
use crate::support::tenant;

/// Ids that mean something to a path, a query, a key or a header.
const AWKWARD: [&str; 14] = [
    "a#b",
    "a/b",
    "a:b",
    "a%b",
    "a,b",
    "a?b",
    "a%2Fb",
    "#",
    "/",
    "..",
    "a&b=c",
    "MEMBER#x",
    "a+b",
    r#"{"a":"\"}"#,
];

fn encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02X}").unwrap();
        all
    })
}

#[tokio::test]
async fn awkward_user_ids_work_in_headers_bodies_queries_and_paths() {
    let tenant = tenant().await;
    let longest = "~".repeat(128);
    for user in AWKWARD.into_iter().chain([longest.as_str()]) {
        let client = tenant.user(user);
        let room = tenant.group(&["alice", user]).await;
        let sent = send(&client, &room, "hi").await;
        let path = format!("/rooms/{room}/messages/{}", sent.text("message_id"));
        assert_eq!(
            tenant.user("alice").get(&path).await.text("sender_id"),
            user
        );
        let acked = client
            .post("/acks", &json!({ "room_id": room, "seq": 1 }))
            .await;
        assert_eq!(acked.status, 200, "{user}");
        assert_eq!(
            column(&client.get("/rooms").await, "room_id"),
            [room.as_str()],
            "{user}"
        );

        let members = format!("/rooms/{room}/members");
        let mut both = [user, "alice"];
        both.sort_unstable_by_key(|user| {
            user.replace('%', "%25")
                .replace('#', "%23")
                .replace(':', "%3A")
        });
        assert_eq!(column(&client.get(&members).await, "user_id"), both);
        let alice = tenant.user("alice");
        let gone = alice
            .delete(&format!("{members}?user_id={}", encoded(user)))
            .await;
        assert_eq!(gone.status, 204, "{user}: {}", gone.raw);
        client
            .get(&members)
            .await
            .assert_error(403, "AUTHORIZATION_ERROR", None);

        let added = alice.post(&members, &json!({ "user_ids": [user] })).await;
        assert_eq!(added.body[0]["user_id"], user);
        let path = format!("{members}/{}", encoded(user));
        let gone = alice.delete(&path).await;
        if tenant.world.alters(&path) {
            gone.assert_error(400, "VALIDATION_ERROR", Some("path"));
        } else if tenant.world.deployed.is_some() && user.contains('/') {
            gone.assert_error(404, "NOT_FOUND", None);
        } else {
            assert_eq!(gone.status, 204, "{user}: {}", gone.raw);
        }
    }
}

#[tokio::test]
async fn a_list_of_awkward_members_is_walked_without_a_gap() {
    let tenant = tenant().await;
    let mut users = AWKWARD.to_vec();
    users.push("alice");
    let room = tenant.group(&users).await;
    let path = format!("/rooms/{room}/members?limit=1");

    let (walked, _) = super::walk(&tenant.user("alice"), &path, "user_id").await;

    let mut walked: Vec<_> = walked.iter().map(|id| id.as_str().unwrap()).collect();
    walked.sort_unstable();
    users.sort_unstable();
    assert_eq!(walked, users);
}

#[tokio::test]
async fn pairs_whose_ids_run_into_each_other_have_two_dms() {
    let tenant = tenant().await;
    let dm = async |a: &str, b: &str| {
        let made = tenant
            .user(a)
            .post("/rooms", &json!({ "type": "dm", "members": [a, b] }))
            .await;
        assert_eq!(made.status, 201, "{a} {b}: {}", made.raw);
        made.text("unique_key")
    };
    let keys = [
        dm("p:q", "r").await,
        dm("p", "q:r").await,
        dm("p%3Aq", "r").await,
        dm("p#q", "r").await,
        dm("p%23q", "r").await,
    ];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
}

#[tokio::test]
async fn a_user_does_not_reach_anothers_subscriptions_through_an_awkward_id() {
    let tenant = tenant().await;
    tenant
        .user("a")
        .post("/subscriptions", &json!({ "topic": "b#c" }))
        .await;
    for other in ["a#", "a#b", "a%23", "A"] {
        let list = tenant.user(other).get("/subscriptions").await;
        list.assert(200, json!({ "subscriptions": [] }));
    }
}

#[tokio::test]
async fn a_bad_user_header_is_refused() {
    let tenant = tenant().await;
    for bad in ["", " ", "a b", "a\tb", "é", "😀", &"x".repeat(129)] {
        let answer = tenant.user(bad).get("/rooms").await;
        answer.assert_error(400, "VALIDATION_ERROR", Some("X-User-Id"));
    }
}
