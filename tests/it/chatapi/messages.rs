//! The log of a room.

use serde_json::{Value, json};

use super::{assert_time, column, send, walk};
use crate::support::{Client, Tenant, tenant};

fn at(room: &str) -> String {
    format!("/rooms/{room}/messages")
}

/// A room of alice and bob with `n` messages by alice.
async fn log(tenant: &Tenant, n: usize) -> (String, Client) {
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    for number in 1..=n {
        send(&alice, &room, &number.to_string()).await;
    }
    (room, alice)
}

#[tokio::test]
async fn a_message_is_sent_as_the_seed_shows() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 2).await;
    let body = json!({
        "content": "Hello, world!",
        "meta": { "type": "text", "mentions": ["user2"] },
    });

    let sent = alice.post(&at(&room), &body).await;

    sent.assert(
        200,
        json!({
            "message_id": sent.body["message_id"],
            "seq": 3,
            "created_at": sent.body["created_at"],
        }),
    );
    assert!(sent.text("message_id").starts_with("msg_"));
    assert_time(&sent.body["created_at"]);
}

#[tokio::test]
async fn messages_are_listed_as_the_seed_shows() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let meta = json!({ "type": "text", "mentions": ["user2"] });
    let body = json!({ "content": "Hello, world!", "meta": meta });
    let one = tenant.user("alice").post(&at(&room), &body).await;
    let two = send(&tenant.user("bob"), &room, "Hi").await;

    let list = tenant.user("bob").get(&at(&room)).await;

    list.assert(
        200,
        json!([
            {
                "message_id": one.body["message_id"],
                "sender_id": "alice",
                "seq": 1,
                "content": "Hello, world!",
                "meta": meta,
                "created_at": one.body["created_at"],
            },
            {
                "message_id": two.body["message_id"],
                "sender_id": "bob",
                "seq": 2,
                "content": "Hi",
                "meta": {},
                "created_at": two.body["created_at"],
            },
        ]),
    );
    assert_eq!(list.next(), None);
}

#[tokio::test]
async fn an_empty_room_lists_nothing() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    alice.get(&at(&room)).await.assert(200, json!([]));
}

#[tokio::test]
async fn messages_are_read_from_both_sides() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 9).await;

    let seqs = async |query: &str| {
        let page = alice.get(&format!("{}?{query}", at(&room))).await;
        column(&page, "seq")
            .iter()
            .map(|seq| seq.as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(seqs("after_seq=6").await, [7, 8, 9]);
    assert_eq!(seqs("after_seq=0&limit=2").await, [1, 2]);
    assert_eq!(seqs("before_seq=4").await, [1, 2, 3]);
    assert_eq!(seqs("before_seq=9&limit=2").await, [7, 8]);
    assert_eq!(seqs("before_seq=1000000&limit=2").await, [8, 9]);
    assert_eq!(seqs("after_seq=3&before_seq=6").await, [4, 5]);
    assert_eq!(seqs("after_seq=3&before_seq=9&limit=2").await, [4, 5]);
    assert_eq!(seqs("limit=2&offset=3").await, [4, 5]);
    assert_eq!(seqs("after_seq=2&limit=2&offset=3").await, [6, 7]);
    assert_eq!(seqs("before_seq=9&limit=2&offset=3").await, [4, 5]);
    assert_eq!(seqs("before_seq=3&offset=1000").await, [0; 0]);
    assert_eq!(seqs("before_seq=0").await, [0; 0]);
    assert_eq!(seqs("before_seq=1").await, [0; 0]);
    assert_eq!(seqs("after_seq=5&before_seq=5").await, [0; 0]);
    assert_eq!(seqs("after_seq=9").await, [0; 0]);
    assert_eq!(seqs("after_seq=1000000000").await, [0; 0]);
    assert_eq!(seqs("after_seq=281474976710655").await, [0; 0]);
}

#[tokio::test]
async fn fifty_messages_are_a_page_and_a_hundred_the_largest() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 101).await;

    let page = alice.get(&at(&room)).await;
    assert_eq!(column(&page, "seq").len(), 50);
    assert_eq!(
        page.next().unwrap(),
        format!("{}?after_seq=50&limit=50", at(&room))
    );
    let page = alice.get(&format!("{}?limit=100", at(&room))).await;
    assert_eq!(column(&page, "seq").len(), 100);
}

#[tokio::test]
async fn a_log_is_walked_forward_by_its_links() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 10).await;

    let (seqs, pages) = walk(&alice, &format!("{}?limit=3&after_seq=1", at(&room)), "seq").await;

    assert_eq!(seqs, (2..=10).map(Value::from).collect::<Vec<_>>());
    // The last full page cannot know that nothing follows.
    assert_eq!(pages, 4);
}

#[tokio::test]
async fn a_log_is_walked_backward_by_its_links() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 7).await;
    let mut seen = Vec::new();
    let mut next = Some(format!("{}?limit=3&before_seq=8", at(&room)));
    while let Some(path) = next {
        let page = alice.get(&path).await;
        seen.splice(0..0, column(&page, "seq"));
        next = page.next();
    }
    assert_eq!(seen, (1..=7).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_range_with_both_ends_is_walked_to_its_end() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 9).await;
    let path = format!("{}?limit=2&after_seq=1&before_seq=7", at(&room));

    let (seqs, _) = walk(&alice, &path, "seq").await;

    assert_eq!(seqs, (2..=6).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_message_is_read_by_its_id() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 1).await;
    let sent = send(&alice, &room, "two").await;
    let id = sent.text("message_id");

    let message = tenant.user("bob").get(&format!("{}/{id}", at(&room))).await;

    message.assert(
        200,
        json!({
            "message_id": id,
            "sender_id": "alice",
            "seq": 2,
            "content": "two",
            "meta": {},
            "created_at": sent.body["created_at"],
        }),
    );
}

#[tokio::test]
async fn an_edit_keeps_seq_and_meta_and_says_when() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    let body = json!({ "content": "teh", "meta": { "a": 1 } });
    let sent = alice.post(&at(&room), &body).await;
    send(&alice, &room, "later").await;
    let path = format!("{}/{}", at(&room), sent.text("message_id"));

    let edited = alice.put(&path, &json!({ "content": "the" })).await;

    edited.assert(
        200,
        json!({
            "message_id": sent.body["message_id"],
            "sender_id": "alice",
            "seq": 1,
            "content": "the",
            "meta": { "a": 1 },
            "created_at": sent.body["created_at"],
            "edited_at": edited.body["edited_at"],
        }),
    );
    assert_time(&edited.body["edited_at"]);
    assert_eq!(alice.get(&path).await.body, edited.body);
    assert_eq!(alice.get(&at(&room)).await.body[0], edited.body);
}

#[tokio::test]
async fn an_edit_with_meta_replaces_it() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    let body = json!({ "content": "a", "meta": { "a": 1 } });
    let id = alice.post(&at(&room), &body).await.text("message_id");

    let body = json!({ "content": "b", "meta": { "b": 2 } });
    let edited = alice.put(&format!("{}/{id}", at(&room)), &body).await;

    assert_eq!(edited.body["meta"], json!({ "b": 2 }));
}

#[tokio::test]
async fn a_deleted_message_leaves_a_tombstone_with_its_seq() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    let body = json!({ "content": "secret", "meta": { "a": 1 } });
    let sent = alice.post(&at(&room), &body).await;
    send(&alice, &room, "later").await;
    let path = format!("{}/{}", at(&room), sent.text("message_id"));
    alice.put(&path, &json!({ "content": "secret too" })).await;

    let deleted = alice.delete(&path).await;

    assert_eq!((deleted.status, deleted.raw.as_str()), (204, ""));
    let tombstone = alice.get(&path).await;
    tombstone.assert(
        200,
        json!({
            "message_id": sent.body["message_id"],
            "sender_id": "alice",
            "seq": 1,
            "content": "",
            "meta": {},
            "created_at": sent.body["created_at"],
            "deleted_at": tombstone.body["deleted_at"],
        }),
    );
    assert_time(&tombstone.body["deleted_at"]);
    assert_eq!(column(&alice.get(&at(&room)).await, "seq"), [1, 2]);
    assert_eq!(send(&alice, &room, "next").await.body["seq"], 3);
}

#[tokio::test]
async fn deleting_twice_is_deleting_once() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    let id = send(&alice, &room, "a").await.text("message_id");
    let path = format!("{}/{id}", at(&room));
    alice.delete(&path).await;
    let tombstone = alice.get(&path).await;

    assert_eq!(alice.delete(&path).await.status, 204);

    assert_eq!(alice.get(&path).await.body, tombstone.body);
}

#[tokio::test]
async fn a_tombstone_is_not_edited() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    let id = send(&alice, &room, "a").await.text("message_id");
    let path = format!("{}/{id}", at(&room));
    alice.delete(&path).await;

    alice
        .put(&path, &json!({ "content": "b" }))
        .await
        .assert_error(404, "NOT_FOUND", None);

    assert_eq!(alice.get(&path).await.body["content"], "");
}

#[tokio::test]
async fn only_its_author_changes_a_message_not_even_the_admin() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let id = send(&tenant.user("bob"), &room, "mine")
        .await
        .text("message_id");
    let (alice, path) = (tenant.user("alice"), format!("{}/{id}", at(&room)));

    let edit = alice.put(&path, &json!({ "content": "yours" })).await;
    edit.assert_error(403, "AUTHORIZATION_ERROR", None);
    alice
        .delete(&path)
        .await
        .assert_error(403, "AUTHORIZATION_ERROR", None);

    assert_eq!(alice.get(&path).await.body["content"], "mine");
}

#[tokio::test]
async fn who_left_cannot_change_what_they_said() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let bob = tenant.user("bob");
    let id = send(&bob, &room, "mine").await.text("message_id");
    bob.delete(&format!("/rooms/{room}/members/bob")).await;

    let edit = bob
        .put(&format!("{}/{id}", at(&room)), &json!({ "content": "x" }))
        .await;
    edit.assert_error(403, "AUTHORIZATION_ERROR", None);
}

#[tokio::test]
async fn a_foreign_or_forged_message_id_finds_and_changes_nothing() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 3).await;
    let (elsewhere, _) = log(&tenant, 3).await;
    let before = alice.get(&at(&room)).await.body;
    let foreign = column(&alice.get(&at(&elsewhere)).await, "message_id")[1].clone();
    let own = before[1]["message_id"].as_str().unwrap();
    // The right seq, another random part; seqs that no message has; what is not an id.
    let forged = format!("{}{}", &own[..16], "8000800000000000000a");
    let ids = [
        foreign.as_str().unwrap(),
        &forged,
        "msg_00000000000080008000000000000000",
        "msg_ffffffffffffffffffffffffffffffff",
        &own.to_uppercase(),
        &own.replace("msg_", "room_"),
        "msg_",
        "msg_1",
        "%20",
        "%00",
        "%ff",
        "..",
    ];
    for id in ids {
        let path = format!("{}/{id}", at(&room));
        let (status, code, field) = if tenant.world.alters(&path) {
            (400, "VALIDATION_ERROR", Some("path"))
        } else {
            (404, "NOT_FOUND", None)
        };
        let read = alice.get(&path).await;
        read.assert_error(status, code, field);
        let edit = alice.put(&path, &json!({ "content": "x" })).await;
        edit.assert_error(status, code, field);
        let delete = alice.delete(&path).await;
        delete.assert_error(status, code, field);
    }
    assert_eq!(alice.get(&at(&room)).await.body, before);
}

#[tokio::test]
async fn content_is_kept_byte_for_byte() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    let contents = [
        "👩‍👩‍👧‍👦 𝄞 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
        "שלום עולם \u{202e}مرحبا\u{202c}",
        "e\u{301} é \u{fb01} \u{212b}",
        " \t leading and trailing \r\n ",
        "\u{1}\u{7f}\u{feff}\u{fffd}\u{10ffff}\u{2028}",
        r#"quotes " \ / and </script>"#,
        "\n",
    ];
    for content in contents {
        let id = send(&alice, &room, content).await.text("message_id");
        let read = alice.get(&format!("{}/{id}", at(&room))).await;
        assert_eq!(read.text("content"), content);
    }
    let listed = alice.get(&at(&room)).await;
    assert_eq!(column(&listed, "content"), contents);
}

#[tokio::test]
async fn meta_is_kept_byte_for_byte() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    let meta = r#"{ "z" : 1.10, "a":12345678901234567890123, "e": 1E5 ,"u":"\u00e9é\/", "z": [ ]
    , "": {"deep":null}, "-0": -0.0 }"#;
    let body = format!(r#"{{"content":"x", "meta": {meta} }}"#);
    let sent = alice.send(axum::http::Method::POST, &at(&room), body).await;
    let id = sent.text("message_id");

    let one = alice.get(&format!("{}/{id}", at(&room))).await;
    assert!(
        one.raw.contains(&format!(r#""meta":{meta},"#)),
        "{}",
        one.raw
    );
    let list = alice.get(&at(&room)).await;
    assert!(
        list.raw.contains(&format!(r#""meta":{meta},"#)),
        "{}",
        list.raw
    );
}

#[tokio::test]
async fn a_null_meta_is_none() {
    let tenant = tenant().await;
    let (room, alice) = log(&tenant, 0).await;
    let sent = alice
        .post(&at(&room), &json!({ "content": "x", "meta": null }))
        .await;
    assert_eq!(sent.status, 200);
    assert_eq!(alice.get(&at(&room)).await.body[0]["meta"], json!({}));
}
