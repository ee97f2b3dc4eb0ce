//! What a client says and hears.

use serde_json::{Value, json};

use super::client::{Tenant, service};

fn tenant() -> Tenant {
    service().tenant()
}

#[tokio::test]
async fn a_ping_is_answered() {
    let tenant = tenant();
    let mut alice = tenant.open("alice").await;
    alice.say(&json!({ "type": "ping" })).await;
    assert_eq!(alice.hear("pong").await, json!({ "type": "pong" }));
    let named = json!({ "type": "ping", "request_id": "r1" });
    let answer = json!({ "type": "pong", "request_id": "r1" });
    assert_eq!(alice.ask(named, "pong").await, answer);
}

#[tokio::test]
async fn a_message_is_confirmed_to_its_sender_and_heard_by_the_others() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    let mut alice = tenant.open("alice").await;
    let mut bob = tenant.open("bob").await;
    let frame = json!({
        "type": "send_message",
        "request_id": "r1",
        "data": { "room_id": room, "content": "hi", "meta": { "z": 1 } },
    });
    // Their own message comes to the sender's connections too, before or after.
    alice.say(&frame).await;
    let mut both = [
        alice.one_of_the_others().await,
        alice.one_of_the_others().await,
    ];
    both.sort_by_key(|frame| frame["type"].to_string());
    let [message, sent] = both;

    let path = format!("/rooms/{room}/messages");
    let stored = tenant.ask("bob", "GET", &path, &Value::Null).assert(200);
    let mut expected = stored[0].clone();
    expected["type"] = json!("message");
    expected["room_id"] = json!(room);
    assert_eq!(message, expected);
    assert_eq!(bob.hear("message").await, expected);
    let confirmed = json!({
        "type": "message.sent",
        "request_id": "r1",
        "message_id": expected["message_id"],
        "seq": 1,
        "created_at": expected["created_at"],
    });
    assert_eq!(sent, confirmed);
}

#[tokio::test]
async fn what_a_frame_is_about_may_be_beside_its_type() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    let mut bob = tenant.open("bob").await;
    let mut alice = tenant.open("carol").await;
    let frame = json!({ "type": "send_message", "room_id": room, "content": "hi" });
    let error = alice.ask(frame.clone(), "error").await;
    assert_eq!(error["code"], "AUTHORIZATION_ERROR");
    let mut alice = tenant.open("alice").await;
    alice.say(&frame).await;
    assert_eq!(bob.hear("message").await["content"], "hi");
}

#[tokio::test]
async fn a_request_said_twice_is_one_message() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    let frame = json!({
        "type": "send_message",
        "request_id": "again",
        "data": { "room_id": room, "content": "hi" },
    });
    let mut answers = Vec::new();
    for _ in 0..2 {
        // A client that lost its connection, and the answer with it.
        let mut alice = tenant.open("alice").await;
        alice.say(&frame).await;
        loop {
            let heard = alice.one_of_the_others().await;
            if heard["type"] == "message.sent" {
                answers.push(heard);
                break;
            }
        }
    }
    assert_eq!(answers[0], answers[1]);
    let path = format!("/rooms/{room}/messages");
    let stored = tenant.ask("bob", "GET", &path, &Value::Null).assert(200);
    assert_eq!(stored.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_the_requests_id() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    let mut alice = tenant.open("alice").await;
    let wrong = [
        (
            json!({ "type": "nope", "request_id": "r" }),
            json!({
                "type": "error", "request_id": "r", "code": "VALIDATION_ERROR", "field": "type",
                "message": "Invalid type. Must be one of: send_message, ack, typing.start, typing.stop, subscribe, hello, ping",
            }),
        ),
        (
            json!({ "type": "send_message", "request_id": "r", "data": { "room_id": room } }),
            json!({
                "type": "error", "request_id": "r", "code": "VALIDATION_ERROR", "field": "content",
                "message": "Missing content",
            }),
        ),
        (
            json!({ "type": "ack", "request_id": "r", "data": { "room_id": room, "seq": 9 } }),
            json!({
                "type": "error", "request_id": "r", "code": "VALIDATION_ERROR", "field": "seq",
                "message": "Invalid seq. It is beyond the last message of the room",
            }),
        ),
        (
            json!({ "type": "subscribe", "request_id": "r", "data": { "room_id": "room_nope" } }),
            json!({
                "type": "error", "request_id": "r", "code": "NOT_FOUND", "message": "Room not found",
            }),
        ),
        (
            json!({ "type": "ping", "request_id": "" }),
            json!({
                "type": "error", "code": "VALIDATION_ERROR", "field": "request_id",
                "message": "Invalid request_id. It is 1 to 255 visible ASCII characters",
            }),
        ),
        (
            json!(["ping"]),
            json!({
                "type": "error", "code": "VALIDATION_ERROR", "field": "body",
                "message": "Invalid request body. It must be a JSON object",
            }),
        ),
    ];
    for (frame, expected) in wrong {
        assert_eq!(alice.ask(frame, "error").await, expected);
    }
}

#[tokio::test]
async fn an_ack_is_confirmed_and_told_to_the_others() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    tenant.say("alice", &room, "hi");
    let mut alice = tenant.open("alice").await;
    let mut bob = tenant.open("bob").await;
    let frame = json!({ "type": "ack", "data": { "room_id": room, "seq": 1 } });

    let expected = json!({
        "type": "ack.received", "room_id": room, "seq": 1, "user_id": "bob",
    });
    assert_eq!(bob.ask(frame, "ack.received").await, expected);
    assert_eq!(alice.hear("ack.received").await, expected);
}

fn acked(room: &str, seq: u64) -> Value {
    json!({ "type": "ack.received", "room_id": room, "seq": seq, "user_id": "bob" })
}

#[tokio::test]
async fn an_ack_by_rest_is_told_to_the_others_and_to_the_users_own_devices() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    tenant.say("alice", &room, "hi");
    let mut alice = tenant.open("alice").await;
    let mut devices = [tenant.open("bob").await, tenant.open("bob").await];

    let body = json!({ "room_id": room, "seq": 1 });
    tenant.ask("bob", "POST", "/acks", &body).assert(200);

    assert_eq!(alice.hear("ack.received").await, acked(&room, 1));
    for device in &mut devices {
        assert_eq!(device.hear("ack.received").await, acked(&room, 1));
    }
}

#[tokio::test]
async fn an_ack_by_frame_is_told_to_the_users_other_devices_and_answered_to_its_own_alone() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    tenant.say("alice", &room, "hi");
    let mut one = tenant.open("bob").await;
    let mut other = tenant.open("bob").await;
    let frame = json!({ "type": "ack", "request_id": "r", "data": { "room_id": room, "seq": 1 } });

    let mut answer = acked(&room, 1);
    answer["request_id"] = json!("r");
    assert_eq!(one.ask(frame, "ack.received").await, answer);
    assert_eq!(other.hear("ack.received").await, acked(&room, 1));
    // Nothing before what comes after it.
    tenant.say("alice", &room, "ho");
    assert_eq!(one.hear("message").await["seq"], 2);
}

#[tokio::test]
async fn an_ack_that_moves_nothing_is_told_to_nobody() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    for _ in 0..3 {
        tenant.say("alice", &room, "hi");
    }
    let mut alice = tenant.open("alice").await;
    let mut bob = tenant.open("bob").await;
    let rest = |seq| json!({ "room_id": room, "seq": seq });
    let frame = |seq| json!({ "type": "ack", "data": rest(seq) });
    tenant.ask("bob", "POST", "/acks", &rest(2)).assert(200);
    for seq in [2, 1] {
        tenant.ask("bob", "POST", "/acks", &rest(seq)).assert(200);
    }
    assert_eq!(bob.hear("ack.received").await, acked(&room, 2));
    for seq in [2, 1] {
        assert_eq!(bob.ask(frame(seq), "ack.received").await, acked(&room, seq));
    }
    tenant.ask("bob", "POST", "/acks", &rest(3)).assert(200);

    assert_eq!(bob.hear("ack.received").await, acked(&room, 3));
    for seq in [2, 3] {
        assert_eq!(alice.hear("ack.received").await, acked(&room, seq));
    }
}

#[tokio::test]
async fn an_ack_in_a_large_room_is_told_to_the_users_own_devices_alone() {
    let tenant = tenant();
    let users: Vec<_> = (0..100).map(|number| format!("user{number}")).collect();
    let mut names = vec!["alice", "bob"];
    names.extend(users.iter().map(String::as_str));
    let (large, small) = (tenant.group(&names), tenant.group(&["alice", "bob"]));
    tenant.say("alice", &large, "hi");
    tenant.say("alice", &small, "hi");
    let mut alice = tenant.open("alice").await;
    let mut bob = tenant.open("bob").await;
    for room in [&large, &small] {
        let body = json!({ "room_id": room, "seq": 1 });
        tenant.ask("bob", "POST", "/acks", &body).assert(200);
        assert_eq!(bob.hear("ack.received").await, acked(room, 1));
    }
    assert_eq!(alice.hear("ack.received").await, acked(&small, 1));
}

/// The client says nothing more.
#[tokio::test]
async fn typing_ends_by_itself() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    let mut alice = tenant.open("alice").await;
    let mut bob = tenant.open("bob").await;
    let frame = json!({ "type": "typing.start", "data": { "room_id": room } });
    alice.say(&frame).await;
    for action in ["start", "stop"] {
        let expected = json!({
            "type": "typing", "room_id": room, "user_id": "alice", "action": action,
        });
        assert_eq!(bob.hear("typing").await, expected);
    }
}

#[tokio::test]
async fn typing_is_told_to_the_others_of_the_room_alone() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    let mut alice = tenant.open("alice").await;
    let mut bob = tenant.open("bob").await;
    let mut carol = tenant.open("carol").await;
    for action in ["start", "stop"] {
        let kind = format!("typing.{action}");
        alice
            .say(&json!({ "type": kind, "data": { "room_id": room } }))
            .await;
        let expected = json!({
            "type": "typing", "room_id": room, "user_id": "alice", "action": action,
        });
        assert_eq!(bob.hear("typing").await, expected);
    }
    alice.hear_nothing().await;
    carol.hear_nothing().await;
}

#[tokio::test]
async fn a_stranger_to_a_room_may_do_nothing_in_it() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    let mut carol = tenant.open("carol").await;
    for kind in ["typing.start", "subscribe"] {
        let frame = json!({ "type": kind, "data": { "room_id": room } });
        let error = carol.ask(frame, "error").await;
        let expected = json!({
            "type": "error", "code": "AUTHORIZATION_ERROR",
            "message": "You are not a member of this room",
        });
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn who_subscribes_is_told_who_of_the_room_is_online() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob", "carol"]);
    let _alice = tenant.open("alice").await;
    let mut bob = tenant.open("bob").await;
    let frame = json!({ "type": "subscribe", "data": { "room_id": room } });
    let expected = json!({
        "type": "subscribed", "room_id": room, "online": ["alice", "bob"],
    });
    assert_eq!(bob.ask(frame, "subscribed").await, expected);
}

#[tokio::test]
async fn a_hello_brings_what_was_missed_in_order_before_anything_new() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    for number in 1..=120 {
        tenant.say("alice", &room, &number.to_string());
    }
    let mut bob = tenant.try_open("bob").await.unwrap();
    let strange = tenant.group(&["alice", "carol"]);
    let hello = json!({
        "type": "hello",
        "request_id": "h",
        "data": { "after_seq": { &room: 3, &strange: 0 } },
    });
    bob.say(&hello).await;
    // While it is being brought up to date.
    tenant.say("alice", &room, "121");

    let mut greeted = None;
    let mut seqs = Vec::new();
    while seqs.last() != Some(&121) {
        let frame = bob.one_of_the_others().await;
        match frame["type"].as_str().unwrap() {
            "message" => seqs.push(frame["seq"].as_u64().unwrap()),
            "hello.received" => greeted = Some(frame),
            other => panic!("{other}"),
        }
    }
    assert_eq!(seqs, (4..=121).collect::<Vec<_>>());
    let expected = json!({
        "type": "hello.received", "request_id": "h", "rooms": 1, "refused": [strange],
    });
    assert_eq!(greeted, Some(expected));
}

#[tokio::test]
async fn a_hello_that_claims_more_than_there_is_misses_nothing() {
    let tenant = tenant();
    let room = tenant.group(&["alice", "bob"]);
    let mut bob = tenant.try_open("bob").await.unwrap();
    let hello = json!({ "type": "hello", "data": { "after_seq": { &room: 1_000 } } });
    bob.ask(hello, "hello.received").await;
    tenant.say("alice", &room, "hi");
    assert_eq!(bob.hear("message").await["seq"], 1);
}

#[tokio::test]
async fn a_hello_of_too_many_rooms_is_refused() {
    let tenant = tenant();
    let mut bob = tenant.open("bob").await;
    let rooms = (0..501).map(|number| (format!("room_{number:032x}"), json!(0)));
    let rooms: serde_json::Map<_, _> = rooms.collect();
    let hello = json!({ "type": "hello", "data": { "after_seq": rooms } });
    let error = bob.ask(hello, "error").await;
    let expected = json!({
        "type": "error", "code": "VALIDATION_ERROR", "field": "after_seq",
        "message": "Invalid after_seq. It names at most 500 rooms",
    });
    assert_eq!(error, expected);
}

#[tokio::test]
async fn who_comes_and_who_stays_away_is_told_to_those_of_their_rooms() {
    let tenant = tenant();
    tenant.group(&["alice", "bob"]);
    let mut alice = tenant.open("alice").await;
    let bob = tenant.open("bob").await;
    let update = |status| json!({ "type": "presence.update", "user_id": "bob", "status": status });
    assert_eq!(alice.hear("presence.update").await, update("online"));
    // A page that is loaded anew is nobody leaving.
    bob.leave().await;
    let bob = tenant.open("bob").await;
    bob.leave().await;
    assert_eq!(alice.hear("presence.update").await, update("offline"));
}

#[tokio::test]
async fn each_frame_is_charged_to_the_tenant() {
    let tenant = tenant();
    let path = format!("/admin/tenants/{}", tenant.id);
    tenant
        .service
        .admin("PATCH", &path, &json!({ "rate_limit": 1 }));
    let fresh = service();
    // What this process remembers of the tenant was forgotten with the change.
    let headers = [("x-api-key", tenant.key.as_str()), ("x-user-id", "alice")];
    let mut alice = fresh.open("", &headers).await.unwrap();
    for _ in 0..3 {
        alice.say(&json!({ "type": "ping" })).await;
    }
    let frame = alice.hear("error").await;
    let expected = json!({
        "type": "error", "code": "RATE_LIMIT_EXCEEDED", "retry_after": 1,
        "message": "Rate limit exceeded. Try again in 60 seconds",
    });
    assert_eq!(frame, expected);
}
