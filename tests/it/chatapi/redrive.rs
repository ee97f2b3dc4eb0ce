//! Dead letters that are tried again or given up.

use axum::http::Method;
use serde_json::{Value, json};

use super::{
    dead_letters::{ROOM, delivery, operator, plant, plant_message, plant_notification},
    item, text,
};
use crate::support::{
    Response, Tenant,
    faults::{calm, faulty},
    tenant, tenant_of, world_over,
};

const REDRIVE: &str = "/admin/dead-letters/redrive";
const LETTERS: &str = "/admin/dead-letters";

/// Has those of the tenant's dead letters tried again that `which` chooses.
async fn redrive(tenant: &Tenant, mut which: Value) -> Response {
    which["tenant_id"] = json!(tenant.id);
    operator(tenant).post(REDRIVE, &which).await
}

async fn discard(tenant: &Tenant, mut which: Value) -> Response {
    which["tenant_id"] = json!(tenant.id);
    which["reason"] = json!("old");
    let body = which.to_string();
    operator(tenant).send(Method::DELETE, LETTERS, body).await
}

/// A tenant of a service whose clock stands still while the store works: 1,000 letters are done in time on any machine.
async fn unhurried() -> Tenant {
    let world = world_over(|client| faulty(client, calm())).await;
    tenant_of(&world).await
}

/// What state each of the first `count` letters is in.
async fn states(tenant: &Tenant, count: u32) -> Vec<String> {
    let mut states = Vec::new();
    for number in 0..count {
        let pk = format!("{}#{}", tenant.id, delivery(number));
        let row = item(&tenant.world, "Deliveries", pk).await.unwrap();
        states.push(text(&row, "state").to_owned());
    }
    states
}

/// Four letters: to a room, to another room, and about two topics.
async fn letters() -> Tenant {
    let tenant = tenant().await;
    plant_message(&tenant, 0, "bob").await;
    let other = ROOM.replace('7', "8");
    let what = format!("{other}/msg_{:032x}:created", 5);
    let subject = [
        ("what", what.as_str()),
        ("event", "message.created"),
        ("user", "bob"),
        ("room", other.as_str()),
    ];
    plant(&tenant, 1, "dead", &subject).await;
    plant_notification(&tenant, 2).await;
    let what = format!("notif_{:032x}", 5);
    let subject = [
        ("what", what.as_str()),
        ("event", "notification"),
        ("user", "bob"),
        ("topic", "news"),
    ];
    plant(&tenant, 3, "dead", &subject).await;
    tenant
}

#[tokio::test]
async fn all_letters_of_a_tenant_are_redriven_once() {
    let (tenant, other) = (letters().await, letters().await);

    let all = redrive(&tenant, json!({ "all": true })).await;
    all.assert(202, json!({ "redriven": 4, "more": false }));
    assert_eq!(states(&tenant, 4).await, ["queued"; 4]);
    assert_eq!(states(&other, 4).await, ["dead"; 4]);
    let listed = operator(&tenant)
        .get(&format!("{LETTERS}?tenant_id={}", tenant.id))
        .await;
    listed.assert(
        200,
        json!({ "failed_messages": [], "failed_notifications": [], "failed_events": [] }),
    );

    let again = redrive(&tenant, json!({ "all": true })).await;
    again.assert(202, json!({ "redriven": 0, "more": false }));
}

#[tokio::test]
async fn letters_are_chosen_by_id_topic_room_and_age() {
    // The nth died n seconds after noon.
    let noon = "2025-12-13T12:00:00Z";
    let cases = [
        (json!({ "delivery_id": delivery(1) }), vec![1]),
        (json!({ "topic": "news" }), vec![3]),
        (json!({ "room_id": ROOM }), vec![0]),
        (json!({ "older_than": "2025-12-13T12:00:01Z" }), vec![0]),
        (
            json!({ "newer_than": "2025-12-13T12:00:01.000000Z" }),
            vec![2, 3],
        ),
        (
            json!({ "newer_than": noon, "older_than": "2025-12-13T14:00:03+02:00" }),
            vec![1, 2],
        ),
        (
            json!({ "newer_than": noon, "topic": "order.shipped" }),
            vec![2],
        ),
        (json!({ "topic": "news", "room_id": ROOM }), vec![]),
        (json!({ "newer_than": "2026-01-01T00:00:00Z" }), vec![]),
        (
            json!({ "newer_than": "2026-01-01T00:00:00Z", "older_than": noon }),
            vec![],
        ),
    ];
    for (which, chosen) in cases {
        for (given_up, state) in [(false, "queued"), (true, "discarded")] {
            let tenant = letters().await;
            let count = chosen.len();
            if given_up {
                let answer = discard(&tenant, which.clone()).await;
                answer.assert(200, json!({ "discarded": count, "more": false }));
            } else {
                let answer = redrive(&tenant, which.clone()).await;
                answer.assert(202, json!({ "redriven": count, "more": false }));
            }
            let wanted: Vec<_> = (0..4)
                .map(|number| {
                    if chosen.contains(&number) {
                        state
                    } else {
                        "dead"
                    }
                })
                .collect();
            assert_eq!(states(&tenant, 4).await, wanted, "{which}");
        }
    }
}

#[tokio::test]
async fn a_letter_that_is_not_there_is_not_found() {
    let (tenant, other) = (letters().await, tenant().await);
    let which = json!({ "delivery_id": delivery(9) });
    for answer in [
        redrive(&tenant, which.clone()).await,
        discard(&tenant, which).await,
        // Another tenant's.
        redrive(&other, json!({ "delivery_id": delivery(1) })).await,
    ] {
        answer.assert(
            404,
            json!({
                "success": false,
                "error": { "code": "NOT_FOUND", "message": "Delivery not found" },
            }),
        );
    }
}

#[tokio::test]
async fn what_is_not_dead_stays_as_it_is() {
    let tenant = tenant().await;
    let what = format!("notif_{:032x}", 5);
    let subject = [("what", what.as_str()), ("event", "notification")];
    for (number, state) in (0..).zip(["queued", "delivered"]) {
        plant(&tenant, number, state, &subject).await;
        let which = json!({ "delivery_id": delivery(number) });
        let answer = redrive(&tenant, which.clone()).await;
        answer.assert(202, json!({ "redriven": 0, "more": false }));
        let answer = discard(&tenant, which).await;
        answer.assert(200, json!({ "discarded": 0, "more": false }));
    }
    assert_eq!(states(&tenant, 2).await, ["queued", "delivered"]);
}

#[tokio::test]
async fn a_tenant_redrives_and_gives_up_its_own_and_no_others() {
    let (own, other) = (letters().await, letters().await);
    let alice = own.user("alice");
    let redriven = json!({ "tenant_id": own.id, "delivery_id": delivery(0) });
    let redriven = alice.post(REDRIVE, &redriven).await;
    redriven.assert(202, json!({ "redriven": 1, "more": false }));
    let rest = json!({ "tenant_id": own.id, "reason": "old", "all": true });
    let rest = alice.send(Method::DELETE, LETTERS, rest.to_string()).await;
    rest.assert(200, json!({ "discarded": 3, "more": false }));

    let foreign = json!({ "tenant_id": other.id, "all": true });
    let mut with_reason = foreign.clone();
    with_reason["reason"] = json!("mine");
    for answer in [
        alice.post(REDRIVE, &foreign).await,
        alice
            .send(Method::DELETE, LETTERS, with_reason.to_string())
            .await,
    ] {
        answer.assert_error(403, "AUTHORIZATION_ERROR", None);
    }
    assert_eq!(states(&other, 4).await, ["dead"; 4]);
}

#[tokio::test]
async fn who_gave_a_letter_up_when_and_why_is_kept() {
    let tenant = letters().await;
    discard(&tenant, json!({ "delivery_id": delivery(0) })).await;
    let pk = format!("{}#{}", tenant.id, delivery(0));
    let row = item(&tenant.world, "Deliveries", pk).await.unwrap();
    assert_eq!(
        (text(&row, "by"), text(&row, "reason")),
        ("operator", "old")
    );
    assert!(text(&row, "ended_at") > "2026");
    assert!(!row.contains_key("dead_shard"));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_letters_are_done_in_one_request_and_more_in_the_next() {
    let tenant = unhurried().await;
    for number in 0..1_010 {
        plant_message(&tenant, number, "bob").await;
    }
    let first = redrive(&tenant, json!({ "all": true })).await;
    let next = first.text("next_cursor");
    first.assert(
        202,
        json!({ "redriven": 1_000, "more": true, "next_cursor": next }),
    );
    let rest = redrive(&tenant, json!({ "all": true })).await;
    rest.assert(202, json!({ "redriven": 10, "more": false }));
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_cursor_goes_on_where_the_one_before_it_ended() {
    let tenant = unhurried().await;
    for number in 0..1_010 {
        plant_message(&tenant, number, "bob").await;
    }
    let first = redrive(&tenant, json!({ "room_id": ROOM })).await;
    // Dead again, and passed already.
    for number in 0..100 {
        plant_message(&tenant, number, "bob").await;
    }
    let from = json!({ "room_id": ROOM, "cursor": first.text("next_cursor") });
    let rest = redrive(&tenant, from).await;
    rest.assert(202, json!({ "redriven": 10, "more": false }));
}

#[tokio::test]
async fn a_cursor_that_no_answer_had_is_refused() {
    let tenant = tenant().await;
    // Not base64, no place, a place that there is not.
    for cursor in ["?", "AAAA", "OSM"] {
        let refused = redrive(&tenant, json!({ "all": true, "cursor": cursor })).await;
        assert_eq!(refused.status, 400, "{}", refused.raw);
        assert_eq!(refused.body["error"]["code"], "VALIDATION_ERROR");
        assert!(refused.raw.contains("cursor"), "{}", refused.raw);
    }
}

#[tokio::test]
async fn letters_may_be_asked_for_up_to_the_end_of_the_year_9999() {
    let tenant = letters().await;
    for end in [
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.9999999999Z",
    ] {
        let newer = redrive(&tenant, json!({ "newer_than": end })).await;
        newer.assert(202, json!({ "redriven": 0, "more": false }));
        let path = format!("{LETTERS}?tenant_id={}&newer_than={end}", tenant.id);
        let listed = operator(&tenant).get(&path).await;
        assert_eq!(listed.status, 200, "{}", listed.raw);
        let older = json!({ "older_than": end, "dry_run": true });
        let older = redrive(&tenant, older).await;
        older.assert(200, json!({ "redriven": 4, "more": false }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_good_only_for_the_request_that_gave_it() {
    let tenant = unhurried().await;
    let other = tenant_of(&tenant.world).await;
    for number in 0..1_010 {
        plant_message(&tenant, number, "bob").await;
    }
    let first = redrive(&tenant, json!({ "room_id": ROOM })).await;
    let cursor = first.text("next_cursor");
    let same = json!({ "room_id": ROOM, "cursor": cursor });
    for refused in [
        redrive(&tenant, json!({ "all": true, "cursor": cursor })).await,
        redrive(&tenant, json!({ "topic": "news", "cursor": cursor })).await,
        redrive(&tenant, with(&same, "older_than", "2026-01-01T00:00:00Z")).await,
        redrive(&tenant, with(&same, "newer_than", "2025-01-01T00:00:00Z")).await,
        redrive(&tenant, with(&same, "dry_run", true)).await,
        discard(&tenant, same.clone()).await,
        redrive(&other, same.clone()).await,
    ] {
        refused.assert_error(400, "VALIDATION_ERROR", Some("cursor"));
    }
    let rest = redrive(&tenant, same).await;
    rest.assert(202, json!({ "redriven": 10, "more": false }));
}

/// `object` with one member more.
fn with(object: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut object = object.clone();
    object[name] = value.into();
    object
}

/// Sends what does not say clearly which letters are meant.
async fn refused(which: Value, field: &str) {
    let tenant = letters().await;
    for answer in [
        redrive(&tenant, which.clone()).await,
        discard(&tenant, which.clone()).await,
    ] {
        answer.assert_error(400, "VALIDATION_ERROR", Some(field));
    }
    assert_eq!(states(&tenant, 4).await, ["dead"; 4], "{which}");
}

#[tokio::test]
async fn all_letters_are_meant_only_if_the_request_says_so() {
    refused(json!({}), "all").await;
    refused(json!({ "all": false }), "all").await;
    refused(json!({ "dry_run": true }), "all").await;
    let cursor = "MCM";
    refused(json!({ "cursor": cursor }), "all").await;
}

#[tokio::test]
async fn a_filter_that_is_misspelt_or_null_chooses_no_letter() {
    refused(json!({ "toppic": "news" }), "toppic").await;
    refused(json!({ "deliveryId": delivery(1) }), "deliveryId").await;
    for name in [
        "delivery_id",
        "topic",
        "room_id",
        "older_than",
        "newer_than",
        "all",
        "dry_run",
        "cursor",
    ] {
        refused(json!({ name: null }), name).await;
    }
}

#[tokio::test]
async fn a_choice_that_contradicts_itself_chooses_no_letter() {
    refused(json!({ "all": true, "topic": "news" }), "all").await;
    let one = json!({ "delivery_id": delivery(1), "all": true });
    refused(one, "delivery_id").await;
    let one = json!({ "delivery_id": delivery(1), "topic": "news" });
    refused(one, "delivery_id").await;
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let tenant = letters().await;
    for (which, count) in [
        (json!({ "all": true }), 4),
        (json!({ "topic": "news" }), 1),
        (json!({ "delivery_id": delivery(2) }), 1),
        (json!({ "topic": "nothing" }), 0),
    ] {
        let mut which = which;
        which["dry_run"] = json!(true);
        let counted = redrive(&tenant, which.clone()).await;
        counted.assert(200, json!({ "redriven": count, "more": false }));
        let counted = discard(&tenant, which).await;
        counted.assert(200, json!({ "discarded": count, "more": false }));
    }
    assert_eq!(states(&tenant, 4).await, ["dead"; 4]);
}

#[tokio::test]
async fn a_tenant_that_is_not_there_has_no_letters_to_list_redrive_or_discard() {
    let tenant = letters().await;
    let operator = operator(&tenant);
    let nobody = format!("tenant_{:032x}", 1);
    let which = json!({ "tenant_id": nobody, "all": true });
    let mut with_reason = which.clone();
    with_reason["reason"] = json!("old");
    for answer in [
        operator.get(&format!("{LETTERS}?tenant_id={nobody}")).await,
        operator.post(REDRIVE, &which).await,
        operator
            .send(Method::DELETE, LETTERS, with_reason.to_string())
            .await,
    ] {
        answer.assert(
            404,
            json!({
                "success": false,
                "error": { "code": "NOT_FOUND", "message": "Tenant not found" },
            }),
        );
    }
}

#[tokio::test]
async fn letters_are_listed_by_the_filters_that_choose_them() {
    let tenant = letters().await;
    for (query, chosen) in [
        (String::new(), vec![0, 1, 2, 3]),
        (format!("&delivery_id={}", delivery(1)), vec![1]),
        (format!("&delivery_id={}", delivery(9)), vec![]),
        ("&topic=news".to_owned(), vec![3]),
        (format!("&room_id={ROOM}"), vec![0]),
        ("&older_than=2025-12-13T12:00:01Z".to_owned(), vec![0]),
        ("&newer_than=2025-12-13T12:00:01Z".to_owned(), vec![2, 3]),
        (
            "&newer_than=2025-12-13T12:00:00Z&older_than=2025-12-13T12:00:03Z".to_owned(),
            vec![1, 2],
        ),
    ] {
        let path = format!("{LETTERS}?tenant_id={}{query}", tenant.id);
        let listed = operator(&tenant).get(&path).await;
        assert_eq!(listed.status, 200, "{}", listed.raw);
        let mut ids: Vec<_> = ["failed_messages", "failed_notifications", "failed_events"]
            .into_iter()
            .flat_map(|list| listed.body[list].as_array().unwrap().iter())
            .map(|letter| text_of(letter, "delivery_id"))
            .collect();
        ids.sort();
        let mut wanted: Vec<_> = chosen.into_iter().map(delivery).collect();
        wanted.sort();
        assert_eq!(ids, wanted, "{query}");
    }
    for (query, field) in [
        ("&topic=", "topic"),
        ("&room_id=room_1", "room_id"),
        ("&older_than=noon", "older_than"),
        ("&delivery_id=1", "delivery_id"),
    ] {
        let path = format!("{LETTERS}?tenant_id={}{query}", tenant.id);
        let answer = operator(&tenant).get(&path).await;
        answer.assert_error(400, "VALIDATION_ERROR", Some(field));
    }
}

fn text_of(letter: &Value, name: &str) -> String {
    letter[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_filtered_list_is_walked_to_its_end_by_its_links() {
    let tenant = tenant().await;
    // More than one page looks at, and few that are meant.
    for number in 0..60 {
        plant_message(&tenant, number, "bob").await;
    }
    for number in [60, 61, 62] {
        plant_notification(&tenant, number).await;
    }
    let path = format!(
        "{LETTERS}?tenant_id={}&topic=order.shipped&limit=1",
        tenant.id
    );
    let (mut found, mut next) = (Vec::new(), Some(path));
    while let Some(path) = next {
        let page = operator(&tenant).get(&path).await;
        let letters = page.body["failed_notifications"].as_array().unwrap();
        found.extend(letters.iter().map(|letter| text_of(letter, "delivery_id")));
        assert_eq!(page.body["failed_messages"], json!([]));
        next = page.next();
    }
    assert_eq!(found, [62, 61, 60].map(delivery));
}
